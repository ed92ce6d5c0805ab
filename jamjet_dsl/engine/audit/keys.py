"""Ed25519 keys: the private one signs, and comes from outside; the public one is for everybody.

Keys are PEM, as `openssl genpkey -algorithm ed25519` writes them. A key is known by its id: the first 16 hex digits of
SHA-256 over its public key as DER, which is what `openssl pkey -pubin -outform DER | sha256sum` prints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY, KEY_FILE = "JAM_AUDIT_KEY", "JAM_AUDIT_KEY_FILE"
"""The private key as PEM text, or the file that has it."""
MAKE = "`jam audit keygen -o FILE` makes one"


@dataclass(frozen=True, slots=True)
class Public:
    """A public key: its id, its PEM text, and the key itself."""

    id: str
    pem: str
    _key: Ed25519PublicKey

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's, over exactly this message."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key. It is never printed, and nothing of it is ever written."""

    public: Public
    _key: Ed25519PrivateKey

    def sign(self, message: bytes) -> bytes:
        """The signature of a message, 64 bytes."""
        signature: bytes = self._key.sign(message)
        return signature

    def __repr__(self) -> str:
        return f"Signer({self.public.id})"


def signer(pem: bytes, where: str) -> Signer:
    """The private key in a PEM text; `where` it came from is what an error names. Raises JamError JAMR110."""
    keys, serialization = _library()
    try:
        found = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        # What the library says may quote the text, which is a secret.
        raise JamError("JAMR110", f"{where} holds no private key that can be read ({type(error).__name__})") from None
    except _unsupported() as error:
        raise JamError("JAMR110", f"{where} holds a key of a kind that is not known") from error
    if not isinstance(found, keys.Ed25519PrivateKey):
        raise JamError("JAMR110", f"{where} holds a key that is not Ed25519")
    return Signer(_public(found.public_key()), found)


def public(pem: bytes, where: str) -> Public:
    """The public key in a PEM text. A private one is refused: it has no business where things are checked.

    Raises JamError JAMR110.
    """
    keys, serialization = _library()
    if b"PRIVATE KEY" in pem:
        raise JamError("JAMR110", f"{where} holds a private key", "name the public key: whoever checks needs no more")
    try:
        found = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, _unsupported()) as error:
        raise JamError("JAMR110", f"{where} holds no public key that can be read", MAKE) from error
    if not isinstance(found, keys.Ed25519PublicKey):
        raise JamError("JAMR110", f"{where} holds a key that is not Ed25519", MAKE)
    return _public(found)


def signer_in(environ: Mapping[str, str]) -> Signer | None:
    """The private key that the environment gives or names; None where it says nothing. Raises JamError JAMR110."""
    text, path = environ.get(KEY), environ.get(KEY_FILE)
    if text and path:
        raise JamError("JAMR110", f"{KEY} and {KEY_FILE} are both set", "set one of them")
    if text:
        return signer(text.encode("utf-8", "surrogateescape"), KEY)
    return signer(read(path), f"{KEY_FILE} ({path})") if path else None


def public_in(paths: Iterable[str]) -> list[Public]:
    """The public keys in these files. Raises JamError JAMR110."""
    return [public(read(path), path) for path in paths]


def read(path: str) -> bytes:
    """The bytes of a key's file. Raises JamError JAMR110."""
    try:
        with open(path, "rb") as file:
            return file.read(65_536)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise JamError("JAMR110", f"the key {path} cannot be read: {reason}", MAKE) from None


def new_pair() -> tuple[bytes, Public]:
    """A new private key as PEM, and its public key."""
    keys, serialization = _library()
    made = keys.Ed25519PrivateKey.generate()
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, _public(made.public_key())


def _public(key: Ed25519PublicKey) -> Public:
    _, serialization = _library()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    der = key.public_bytes(serialization.Encoding.DER, form)
    pem = key.public_bytes(serialization.Encoding.PEM, form).decode()
    return Public(hashlib.sha256(der).hexdigest()[:16], pem, key)


def _unsupported() -> type[Exception]:
    from cryptography.exceptions import UnsupportedAlgorithm

    unknown: type[Exception] = UnsupportedAlgorithm
    return unknown


def _library() -> tuple[Any, Any]:
    """The Ed25519 keys and the serialization of `cryptography`, imported when a key is first needed."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        help = "pip install cryptography"
        raise JamError("JAMR110", "signing needs the package `cryptography`, which is not installed", help) from None
    return ed25519, serialization
