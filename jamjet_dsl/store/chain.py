"""Sealing events: numbers, exact bytes and the hash chain, the same for every store.

The hash of an event is SHA-256 over `jam1`, run id, seq, at_ms, kind, the hash before it, and the exact body
bytes, each part on a line of its own (the body last, so that no content can pass for another part). The first
event's `prev_hash` is 64 zeros.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeAlias

from pydantic_core import from_json, to_json

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import Event
from jamjet_dsl.ports import Draft, KeyUse

GENESIS = "0" * 64
MAX_BODY_BYTES = 16 * 1024 * 1024
"""The largest event. Results are limited well below this before they get here."""

_KIND = re.compile(r"[a-z_]{1,32}\Z")
_RUN_ID = re.compile(r"(?!-)[^\s\x00-\x1f\x7f-\x9f/\\]{1,128}\Z")


_UNSTORABLE = (UnicodeEncodeError, ValueError, TypeError, RecursionError)
"""What encoding raises for a tree that is no JSON, or text that is no Unicode."""

Sealed: TypeAlias = tuple[int, int, str, str, str]
"""An event as it is stored: seq, at_ms, kind, the text of its body, and its hash in hex. A plain tuple, since every
event becomes one."""


def dumps(tree: Any) -> str:
    """Compact JSON text of a tree. Raises one of `_UNSTORABLE`.

    The quick serializer gives the same text as the standard library for what both take; it knows fewer levels, and
    takes numbers that are none.
    """
    try:
        text = to_json(tree).decode()
    except ValueError:
        text = ""
    if not text or "NaN" in text or "Infinity" in text:
        return json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text


def loads(data: str | bytes) -> Any:
    """The tree of a JSON text. Raises ValueError."""
    try:
        return from_json(data)
    except ValueError:
        return json.loads(data)


PRUNED_ID = "use another id: that of a run that was pruned is never used again"
"""What to do where a new run was to get such an id: there is nothing to attach to."""


def check_run_id(run_id: str) -> None:
    """Raises JamError JAMR207 for an id that a journal line, a file name or a terminal could not carry."""
    if not _RUN_ID.match(run_id) or any(0xD800 <= ord(c) <= 0xDFFF for c in run_id):
        raise JamError("JAMR207", f"{run_id!r} cannot be the id of a run")


def encode(body: dict[str, Any]) -> bytes:
    """The bytes of a body that are stored. Raises JamError JAMR003 (too large) or JAMR302 (not storable)."""
    try:
        data = dumps(body).encode()
    except _UNSTORABLE as error:
        raise _not_storable(error) from error
    _check_size(data)
    return data


def _not_storable(error: Exception) -> JamError:
    return JamError("JAMR302", f"a value cannot be stored: {error}")


def _check_size(data: bytes) -> None:
    if len(data) > MAX_BODY_BYTES:
        raise JamError("JAMR003", f"an event of {len(data):,} bytes is larger than the limit of {MAX_BODY_BYTES:,}")


def decode(data: bytes, run_id: str) -> dict[str, Any]:
    """The body that was stored. Raises JamError JAMR107 for bytes that are none."""
    try:
        body: dict[str, Any] = loads(data)
    except ValueError as error:
        raise JamError("JAMR107", f"the journal of {run_id} was changed or damaged") from error
    return body


def event_hash(run_id: str, seq: int, at_ms: int, kind: str, body: bytes, prev_hash: str) -> str:
    """The hash of one event, in hex."""
    return sha256(f"jam1\n{run_id}\n{seq}\n{at_ms}\n{kind}\n{prev_hash}\n".encode() + body).hexdigest()


@lru_cache(256)
def _check_kind(kind: str) -> None:
    if not _KIND.match(kind):
        raise ValueError(f"{kind!r} is no kind of event")


def seal(run_id: str, last_seq: int, prev_hash: str, drafts: Sequence[Draft]) -> list[Sealed]:
    """Number, encode and chain events that follow `last_seq`. Raises JamError JAMR003, JAMR302.

    The hash is that of `event_hash`. It is computed here once more because each event of each run comes by.
    """
    sealed = []
    for at_ms, kind, body in drafts:
        _check_kind(kind)
        last_seq += 1
        try:
            text = dumps(body)
            data = f"jam1\n{run_id}\n{last_seq}\n{at_ms}\n{kind}\n{prev_hash}\n{text}".encode()
        except _UNSTORABLE as error:
            raise _not_storable(error) from error
        if len(data) > MAX_BODY_BYTES:
            _check_size(text.encode())
        prev_hash = sha256(data).hexdigest()
        sealed.append((last_seq, at_ms, kind, text, prev_hash))
    return sealed


def sealed_events(run_id: str, prev_hash: str, sealed: Iterable[Sealed]) -> list[Event]:
    """Sealed events as they will be read; `prev_hash` is the hash before the first."""
    events = []
    for seq, at_ms, kind, text, own in sealed:
        events.append(Event(run_id, seq, at_ms, kind, loads(text), prev_hash, own))
        prev_hash = own
    return events


def broken_at(run_id: str, rows: Iterable[tuple[int, int, str, bytes, str, str]]) -> int | None:
    """The seq of the first row (seq, at_ms, kind, body, prev_hash, hash) that does not fit its chain, or None."""
    expected_seq, prev, last_ms = 1, GENESIS, 0
    for seq, at_ms, kind, body, prev_hash, own in rows:
        sound = seq == expected_seq and prev_hash == prev and at_ms >= last_ms
        if not sound or event_hash(run_id, seq, at_ms, kind, body, prev_hash) != own:
            return seq
        expected_seq, prev, last_ms = seq + 1, own, at_ms
    return None


def next_slot(taken: Sequence[int], rates: Sequence[tuple[int, int]], now_ms: int) -> int:
    """The first time from now on at which no rate (calls, per_ms) is exceeded. `taken` is in order."""
    at_ms = max([now_ms, *taken[-1:]]) if taken and taken[-1] > now_ms else now_ms
    for calls, per_ms in rates:
        if len(taken) >= calls:
            at_ms = max(at_ms, taken[-calls] + per_ms)
    return at_ms


def key_use(event: Event) -> KeyUse | None:
    """The key that an `intent` promises something about."""
    body = event.body
    if event.kind != "intent" or body.get("key") is None or body.get("tool") is None:
        return None
    return KeyUse(body["tool"], body["key"], args_digest(body.get("args")))


def args_digest(args: Any) -> bytes:
    """SHA-256 of arguments in the journal form, whatever order they were written in."""
    data = json.dumps(args, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return sha256(data.encode()).digest()
