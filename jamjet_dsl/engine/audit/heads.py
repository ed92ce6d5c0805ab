"""Signed heads: where runs stood, in a file that only grows and that is kept apart from the database.

A line is a JSON object, in ASCII:

    {"jam":"heads1","at_ms":…,"heads":[["RUN",SEQ,"HASH",SINCE],…],"prev":"…","key_id":"…","sig":"…"}

Whoever signs wrote the events from SINCE to SEQ itself, and read those before them as they lay in the database. Lines
of an earlier version have no SINCE, and do not say who wrote what.

`prev` is SHA-256 of the line before it (64 zeros in the first one), so that nothing can be taken out; `sig`, always the
last member, is Ed25519 in base64 over the line without it: over `{…,"key_id":"…"}`. `pruned` names runs that were
deleted for good, `torn` (SHA-256) a line before it whose writing was cut short.

Any number of processes write to one file, under a lock, each line in one write and synced to the disk.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.audit.chain import Finding
from jamjet_dsl.engine.audit.keys import Public, Signer
from jamjet_dsl.store.chain import GENESIS

FORM = "heads1"
_BEGINS, _ENDS, _SIG = b'{"jam":"heads1",', b'"}', b',"sig":"'
_BLOCK = 65_536


class Head(NamedTuple):
    """A run stood here: its journal ended with event `seq`, whose hash this is. Whoever signs wrote it and the events
    from `since` on; 0 where that is not said."""

    run_id: str
    seq: int
    hash: str
    since: int = 0


class HeadLog:
    """Appends signed heads to a file. Safe to use from several threads and processes."""

    def __init__(self, path: str | Path, signer: Signer) -> None:
        """Raises JamError JAMR109 if the file cannot be written, or holds something else."""
        self.path = Path(path)
        self._signer = signer
        with self._opened():
            pass

    def append(self, heads: Iterable[Head], at_ms: int, pruned: Sequence[str] = ()) -> None:
        """Write one line, and return once it is on the disk. Raises JamError JAMR109; then it was not written, or it is
        a line that everybody can see was cut short."""
        with self._opened() as file:
            end, last, torn = _tail(file)
            body: dict[str, Any] = {"jam": FORM, "at_ms": at_ms, "heads": [list(head) for head in heads]}
            if pruned:
                body["pruned"] = list(pruned)
            if torn:
                body["torn"] = hashlib.sha256(torn).hexdigest()
            body["prev"] = GENESIS if last is None else hashlib.sha256(last).hexdigest()
            body["key_id"] = self._signer.public.id
            message = json.dumps(body, separators=(",", ":")).encode()
            signature = base64.b64encode(self._signer.sign(message))
            line = message[:-1] + _SIG + signature + _ENDS + b"\n"
            if end and os.pread(file, 1, end - 1) != b"\n":
                line = b"\n" + line
            try:
                if os.write(file, line) != len(line):
                    raise JamError("JAMR109", f"{self.path} could not be written: the disk is full")
                os.fsync(file)
            except OSError as error:
                raise _unusable(self.path, error) from None

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The file, locked against other writers."""
        new = not self.path.exists()
        try:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        except (OSError, ValueError) as error:
            raise _unusable(self.path, error) from None
        try:
            _lock(file)
            if not _is_ours(os.pread(file, len(_BEGINS), 0)):
                raise JamError(
                    "JAMR109",
                    f"{self.path} is no file of signed heads, and nothing was written to it",
                    "name a new file, or one that holds signed heads already",
                )
            if new:
                _sync_folder(self.path.parent)
            yield file
        finally:
            os.close(file)


def _is_ours(first: bytes) -> bool:
    """Whether a file that begins like this may be written to: it is empty, or its first line is one of ours, if only
    the beginning of one, or the zeros that a power cut leaves of it."""
    line = first.strip(b"\0").partition(b"\n")[0]
    return _BEGINS.startswith(line)


def _lock(file: int) -> None:
    """Closing the file gives the lock up. Where there are no such locks one process alone may write."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX)


def _sync_folder(folder: Path) -> None:
    """A new file is found after a power cut only if its folder is on the disk too."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _unusable(path: str | Path, error: Exception) -> JamError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return JamError("JAMR109", f"the signed heads {path} cannot be used: {reason}", "name a file that can be written")


def _tail(file: int) -> tuple[int, bytes | None, bytes]:
    """How long the file is, its last whole line (None without one), and what stands after that one: a line whose
    writing was cut short."""
    end = os.lseek(file, 0, os.SEEK_END)
    start, data = end, b""
    while start > 0:
        step = min(_BLOCK + len(data), start)
        start -= step
        data = os.pread(file, step, start) + data
        lines = data.split(b"\n")
        # The first one may begin before what was read; the last one may lack nothing but its line feed.
        for number in range(len(lines) - 1, -1 if start == 0 else 0, -1):
            if _is_whole(lines[number]):
                return end, lines[number], b"\n".join(lines[number + 1 :]).strip(b"\n")
    return end, None, data.strip(b"\n")


def _is_whole(line: bytes) -> bool:
    return line.startswith(_BEGINS) and line.endswith(_ENDS)


# ---- reading


class Seen(NamedTuple):
    """A head that a line of the file tells of."""

    hash: str
    at_ms: int
    line: int
    since: int


@dataclass(slots=True)
class Signed:
    """What a file of signed heads says. `findings` is what is wrong with the file itself."""

    path: str
    runs: dict[str, dict[int, Seen]] = field(default_factory=dict)
    pruned: set[str] = field(default_factory=set)
    lines: int = 0
    torn: int = 0
    """Lines whose writing was cut short, as the next one says: what they would have signed is not known."""
    last: str = GENESIS
    """SHA-256 of the last line. Whoever keeps it elsewhere can tell later whether the file lost its end."""
    findings: list[Finding] = field(default_factory=list)


def read_heads(path: str, keys: Sequence[Public]) -> Signed:
    """Read and check a whole file. Raises JamError JAMR109 for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            return check_lines(path, file, keys)
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from None


def check_lines(path: str, lines: Iterable[bytes], keys: Sequence[Public]) -> Signed:
    """Check lines of a file of signed heads, each with its line feed: form, chain, signature, and that no two of them
    tell different things of one event. Heads under a bad signature count for nothing."""
    found, known = Signed(path), {key.id: key for key in keys}
    torn: list[bytes] = []
    for number, line in enumerate(lines, 1):
        text = line.removesuffix(b"\n")
        body = _body(text) if line.endswith(b"\n") else None
        if body is None:
            torn.append(text)
            continue
        if torn and body.get("torn") != hashlib.sha256(b"\n".join(torn).strip(b"\n")).hexdigest():
            _wrong(found, number - 1, "form", "it was changed, or cut short")
        elif not torn and "torn" in body:
            _wrong(found, number, "torn", "a line before it that was cut short is missing")
        found.torn += bool(torn)
        torn.clear()
        if body["prev"] != found.last:
            _wrong(found, number, "prev", "lines before it were changed, taken out, put in or moved")
        found.last, found.lines = hashlib.sha256(text).hexdigest(), found.lines + 1
        key = known.get(body["key_id"])
        if key is None:
            _wrong(found, number, "key_id", f"it is signed with the key {body['key_id']}, which was not named")
        elif not key.signed(text.rpartition(_SIG)[0] + b"}", body["sig"]):
            _wrong(found, number, "sig", "its signature is none of that key's over this line")
        else:
            _take(found, number, body)
    if torn:
        _wrong(found, found.lines + 1, "form", "the last line was changed, or cut short")
    return found


def _body(line: bytes) -> dict[str, Any] | None:
    """A line with `sig` as bytes, if it is of the form that is written, to the byte; else None."""
    try:
        body = json.loads(line.decode("ascii"))
        if json.dumps(body, separators=(",", ":")).encode() != line or not _is_whole(line):
            return None
        signature = base64.b64decode(body["sig"], validate=True)
        if base64.b64encode(signature).decode() != body["sig"]:
            return None  # the last character has bits that say nothing
        body["sig"] = signature
        heads = [Head(*head) for head in body["heads"]]
        texts = [body["prev"], body["key_id"], *body.get("pruned", ()), *(text for h in heads for text in (h[0], h[2]))]
        numbers = [body["at_ms"], *(number for head in heads for number in (head.seq, head.since))]
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        return None
    right = all(type(text) is str for text in texts) and all(type(number) is int for number in numbers)
    return body if right else None


def _take(found: Signed, number: int, body: Mapping[str, Any]) -> None:
    found.pruned.update(body.get("pruned", ()))
    for head in [Head(*head) for head in body["heads"]]:
        run_id, seq = head.run_id, head.seq
        known = found.runs.setdefault(run_id, {}).setdefault(seq, Seen(head.hash, body["at_ms"], number, head.since))
        if known.hash != head.hash:
            why = f"{run_id} was forked: lines {known.line} and {number} signed different events as its event {seq}"
            found.findings.append(Finding("JAMR108", run_id, seq, seq, "hash", why, number))


def _wrong(found: Signed, line: int, what: str, why: str) -> None:
    message = f"line {line} of {found.path}: {why}"
    found.findings.append(Finding("JAMR109", "", 0, 0, what, message, line))
