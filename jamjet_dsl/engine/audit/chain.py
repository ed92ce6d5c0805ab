"""Whether a journal is the one that was written: every field of every event against the hash chain."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.store.chain import GENESIS, decode, event_hash
from jamjet_dsl.store.reading import Row

_KIND = re.compile(r"[a-z_]{1,32}\Z")
CONTENT = "at_ms, kind or body"
"""What a hash covers of an event beside its number: when it does not fit, one of these is another."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written. `seq` is the first event that is wrong, `last` the last of those that it
    may be: only the last event of an append has its hash stored, so the events of one append are told together.

    `run_id` is empty where it is about a file and not a run; `line` is then that of the file."""

    code: str
    run_id: str
    seq: int
    last: int
    field: str
    message: str
    line: int = 0

    def as_json(self) -> dict[str, Any]:
        """All of it, for `--format json`."""
        return asdict(self)


@dataclass(slots=True)
class Chain:
    """A journal as far as it is sound: the hash of each event, and what of the events is looked at later."""

    run_id: str
    hashes: list[str] = field(default_factory=list)
    at_ms: int = 0
    pins: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """The events that name a program: the first one, and migrations."""
    snapshots: dict[int, dict[str, Any]] = field(default_factory=dict)
    """The bodies of snapshots, by their seq."""
    status: str = ""
    """How the run ended, if it did."""
    finding: Finding | None = None

    @property
    def head(self) -> str:
        """The hash of the last sound event."""
        return self.hashes[-1] if self.hashes else GENESIS

    def wrong(self, seq: int, field: str, why: str, last: int | None = None) -> None:
        """Note what is wrong, and stop."""
        last = seq if last is None else last
        where = f"event {seq}" if last == seq else f"events {seq} to {last}"
        self.finding = Finding("JAMR107", self.run_id, seq, last, field, f"{where} of {self.run_id}: {why}")


def follow(run_id: str, events: Iterable[Row], head: Any = None, end: Any = None) -> Chain:
    """Follow the chain until its end, or to the first thing that is wrong. `head` (32 bytes) is what the journal's last
    hash should be and `end` its last number, where something else says so."""
    chain, rows = Chain(run_id), iter(events)
    first = 1  # of the events that the next stored hash is about
    for row in rows:
        if not _sound(chain, row, first):
            del chain.hashes[first - 1 :]
            return chain
        seq, before = len(chain.hashes) + 1, chain.head
        own = event_hash(run_id, seq, row.at_ms, row.kind, row.body, before)
        if row.hash is not None and row.hash != bytes.fromhex(own):
            _blame(chain, row, own, first, rows, head)
            del chain.hashes[first - 1 :]
            return chain
        _note(chain, seq, row)
        if chain.finding is not None:
            del chain.hashes[first - 1 :]
            return chain
        chain.hashes.append(own)
        chain.at_ms = row.at_ms
        if row.hash is not None:
            first = seq + 1
    if first <= len(chain.hashes):
        # Every append ends with a hash: without the last one the events before it are under nothing but the run's row.
        _unanchored(chain, first, head, end)
    return chain


def _sound(chain: Chain, row: Row, first: int) -> bool:
    """Whether the fields of the next event are of the form that was written. Of those from `first` on no hash has told
    yet that they are what they were."""
    seq = len(chain.hashes) + 1
    if type(row.seq) is not int or row.seq != seq:
        chain.wrong(seq, "seq", f"it is missing, and what stands in its place has the number {row.seq!r}")
    elif type(row.at_ms) is not int:
        chain.wrong(seq, "at_ms", "its time is none")
    elif row.at_ms < chain.at_ms:
        chain.wrong(first, "at_ms", "time goes back", seq)
    elif type(row.kind) is not str or not _KIND.match(row.kind):
        chain.wrong(seq, "kind", "its kind is none")
    elif type(row.body) is not bytes:
        chain.wrong(seq, "body", "its body is none")
    elif row.hash is not None and (type(row.hash) is not bytes or len(row.hash) != 32):
        chain.wrong(seq, "hash", "its hash is none")
    return chain.finding is None


def _note(chain: Chain, seq: int, row: Row) -> None:
    """Keep what is needed of the event; a body that is no record is wrong."""
    try:
        row.body.decode()
        body: Any = decode(row.body, chain.run_id)
    except (JamError, ValueError):
        body = None
    if not isinstance(body, dict):
        chain.wrong(seq, "body", "its body is no JSON object")
    elif seq == 1:
        chain.pins.append((seq, body))
    elif row.kind == "migrated":
        to = body.get("to")
        chain.pins.append((seq, to if isinstance(to, dict) else {}))
    elif row.kind == "snapshot":
        chain.snapshots[seq] = body
    elif row.kind == "finished":
        chain.status = str(body.get("status"))


def _blame(chain: Chain, row: Row, own: str, first: int, rows: Iterator[Row], head: Any) -> None:
    """An event does not fit its hash. What follows was chained to the right one of the two."""
    seq, stored = len(chain.hashes) + 1, row.hash.hex()
    fits = _fits(chain.run_id, seq, (own, stored), rows, head)
    if fits == own:
        chain.wrong(seq, "hash", "its hash was changed: what it holds, and all that follows, fit each other")
    elif fits == stored:
        chain.wrong(first, CONTENT, "what it holds was changed: what follows fits the hash that was stored", seq)
    else:
        chain.wrong(first, f"{CONTENT}, or hash", "what it holds and its hash do not fit each other", seq)


def _fits(run_id: str, seq: int, candidates: tuple[str, str], rows: Iterator[Row], head: Any) -> str | None:
    """Which of two hashes of event `seq` the events after it were chained to; None where neither fits."""
    ends = dict(zip(candidates, candidates, strict=True))
    for row in rows:
        seq += 1
        if not (row.seq == seq and type(row.at_ms) is int and type(row.kind) is str and type(row.body) is bytes):
            return None
        ends = {one: event_hash(run_id, seq, row.at_ms, row.kind, row.body, end) for one, end in ends.items()}
        if row.hash is not None:
            return next((one for one, end in ends.items() if bytes.fromhex(end) == row.hash), None)
    return next((one for one, end in ends.items() if bytes.fromhex(end) == head), None)


def _unanchored(chain: Chain, first: int, head: Any, end: Any) -> None:
    """The last events have no hash after them."""
    last = len(chain.hashes)
    if type(end) is int and end > last:
        chain.wrong(first, "seq", f"the journal ends at event {last} of {end}, before the hash that covers them", end)
    elif head == bytes.fromhex(chain.hashes[-1]):
        chain.wrong(last, "hash", "the last event has no hash")
    else:
        chain.wrong(first, f"{CONTENT}, or hash", "no hash is stored that they fit", last)
    del chain.hashes[first - 1 :]
