"""Values that are kept apart from the journal, encrypted: ChaCha20-Poly1305 under a key from the environment.

`JAM_KEY` holds keys of 32 bytes, as 64 hexadecimal digits or base64, with commas or white space between them;
`JAM_KEY_FILE` names a file that holds the same. The first key encrypts, every one of them decrypts: a key is rotated by
putting a new one in front. A key is named in the database by the beginning of a hash of it.

What is encrypted is salt and value: with the salt in the open whoever guesses a value could check the guess against the
commitment. The run, the commitment and the path, which says whether a value is secret, are authenticated with it, so a
row that is moved elsewhere does not decrypt. Rows of an earlier version are not bound to their paths.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Erasable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

VARIABLE, FILE_VARIABLE = "JAM_KEY", "JAM_KEY_FILE"
_KEY_BYTES, _SALT_BYTES, _NONCE_BYTES = 32, 16, 12
_HEX = re.compile("[0-9a-fA-F]{64}")
_MAKE_ONE = "`openssl rand -hex 32` makes one; keep it safe, without it the values are lost"
HOW = f"put a key of 32 bytes (64 hexadecimal digits or base64) into {VARIABLE}, or a file of keys' name into " + (
    f"{FILE_VARIABLE}; {_MAKE_ONE}"
)
"""What to do where a key is missing."""


class Key(NamedTuple):
    """A key, and the name that stands beside what it has encrypted."""

    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Key({self.id})"

    def pseudonym(self, data: bytes) -> bytes:
        """32 bytes that stand for `data` in every run, and that nobody without the key can guess back."""
        return hmac.digest(hashlib.sha256(b"jam pseudonym" + self.secret).digest(), data, "sha256")


class Vault:
    """The keys of this process; the first one encrypts."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self._keys = keys

    @classmethod
    def of_environment(cls) -> Vault | None:
        """The keys that the environment names; None where it names none. Raises JamError JAMR307 for what is no
        key, or a file that cannot be read."""
        text, name = os.environ.get(VARIABLE, ""), os.environ.get(FILE_VARIABLE, "")
        if text.strip() and name:
            raise JamError("JAMR307", f"both {VARIABLE} and {FILE_VARIABLE} are set", "set one of them")
        if name:
            try:
                text = Path(name).read_text("ascii")
            except (OSError, ValueError) as error:
                # Neither the file's text nor the error that quotes it may reach a terminal.
                raise JamError("JAMR307", f"{FILE_VARIABLE}: the file {name} cannot be read as keys", HOW) from error
        parts = text.replace(",", " ").split()
        where = FILE_VARIABLE if name else VARIABLE
        if name and not parts:
            raise JamError("JAMR307", f"{where}: the file {name} holds no key", HOW)
        return cls(tuple(_key(part, number, where) for number, part in enumerate(parts, 1))) if parts else None

    @property
    def oldest(self) -> Key:
        """The last key: it is there as long as anything that an older process wrote can be read."""
        return self._keys[-1]

    def seal(self, run_id: str, path: str, value: bytes) -> tuple[Erasable, bytes]:
        """Commit to a value: the encrypted row, and the commitment."""
        salt = secrets.token_bytes(_SALT_BYTES)
        commitment = hashlib.sha256(salt + value).digest()
        key, nonce = self._keys[0], secrets.token_bytes(_NONCE_BYTES)
        data = _cipher(key.secret).encrypt(nonce, salt + value, _bound(run_id, commitment, path))
        return Erasable(commitment, path, b"", data, nonce, key.id), commitment

    def open(self, run_id: str, row: Erasable) -> bytes:
        """The value of a row. Raises JamError: JAMR307 if no key fits, JAMR107 if it was changed or moved."""
        key = next((key for key in self._keys if key.id == row.key_id), None)
        if key is None:
            raise _no_key(run_id, row)
        data = _decrypted(key, row, _bound(run_id, row.commitment, row.path))
        if data is None:
            data = _decrypted(key, row, _bound(run_id, row.commitment))
        if data is None:
            raise _changed(run_id)
        salt, value = data[:_SALT_BYTES], data[_SALT_BYTES:]
        if hashlib.sha256(salt + value).digest() != row.commitment:
            raise _changed(run_id)
        return value


def keep_plain(path: str, value: bytes) -> tuple[Erasable, bytes]:
    """Commit to a value that is kept unencrypted: the row, and the commitment."""
    salt = secrets.token_bytes(_SALT_BYTES)
    commitment = hashlib.sha256(salt + value).digest()
    return Erasable(commitment, path, salt, value), commitment


def opened(vault: Vault | None, run_id: str, row: Erasable) -> bytes:
    """The value of a row, encrypted or not. Raises JamError: JAMR306 without any key, JAMR307, JAMR107."""
    if row.key_id is None:
        return row.value
    if vault is None:
        message = f"values of {run_id} are encrypted, and there is no key"
        raise JamError("JAMR306", message, f"they need the key {row.key_id}; {HOW}")
    return vault.open(run_id, row)


def _no_key(run_id: str, row: Erasable) -> JamError:
    help = f"add that key to {VARIABLE} or {FILE_VARIABLE}, behind the one in use; nothing was changed"
    return JamError("JAMR307", f"values of {run_id} are encrypted under the key {row.key_id}, which is not there", help)


def _changed(run_id: str) -> JamError:
    return JamError("JAMR107", f"an encrypted value of {run_id} was changed or damaged")


def _key(text: str, number: int, where: str) -> Key:
    """A key as it is written. The text is never quoted: it may be a key with a typing mistake."""
    try:
        secret = bytes.fromhex(text) if _HEX.fullmatch(text) else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != _KEY_BYTES:
        raise JamError("JAMR307", f"{where}: key {number} is not 32 bytes in hexadecimal or base64", HOW) from None
    return Key(hashlib.sha256(b"jam key id" + secret).hexdigest()[:12], secret)


def _bound(run_id: str, commitment: bytes, path: str = "") -> bytes:
    """What is authenticated with a value, beside the value. Without a path: as an earlier version did."""
    return run_id.encode("utf-8", "surrogatepass") + b"\0" + commitment + path.encode("utf-8", "surrogatepass")


def _decrypted(key: Key, row: Erasable, bound: bytes) -> bytes | None:
    """Salt and value of a row, if it was encrypted with this key and bound to this."""
    from cryptography.exceptions import InvalidTag

    try:
        return _cipher(key.secret).decrypt(row.nonce or b"", row.value, bound)
    except (InvalidTag, ValueError):
        return None


def _cipher(secret: bytes) -> ChaCha20Poly1305:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(secret)
