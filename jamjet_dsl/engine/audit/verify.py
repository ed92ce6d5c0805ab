"""`jam audit verify`: whether the runs of a database are as they were written, and as they were signed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.audit.chain import Chain, Finding, follow
from jamjet_dsl.engine.audit.heads import Seen, Signed
from jamjet_dsl.kernel.model import ENDED

if TYPE_CHECKING:
    from jamjet_dsl.store.sqlite import SqliteStore


@dataclass(slots=True)
class Verdict:
    """What was found of one run. `signed_to` is the last event that a signed head covers, 0 without any, None where no
    heads were looked at; `at_ms` when that was signed. `unsigned` counts the events after it. `unwitnessed` are those
    up to it (first and last of each row of them) that nobody who signs has written: they were signed as they lay in
    the database later. `since` is the first of those that the signer of the newest head wrote itself, 0 if that is not
    said: of a bundle, which has no other head, that is all that is known."""

    run_id: str
    events: int = 0
    head: str = ""
    definition: str = ""
    signed_to: int | None = None
    at_ms: int | None = None
    since: int = 0
    unwitnessed: list[tuple[int, int]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def unsigned(self) -> int:
        """Events that no signed head covers."""
        return 0 if self.signed_to is None else max(self.events - self.signed_to, 0)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """All of it, for `--format json`."""
        return {**asdict(self), "unsigned": self.unsigned, "sound": self.sound}


def verify(store: SqliteStore, run_id: str, signed: Signed | None) -> Verdict:
    """Check one run: its chain over every field of every event, its definition and sources, its snapshot, what stands
    beside its journal, and the heads that were signed of it. Raises JamError JAMR201."""
    rows = store.raw(run_id)
    chain = follow(run_id, rows.events, rows.head, rows.last_seq)
    if chain.finding is None:
        _compare_with_row(chain, rows.last_seq, rows.head, rows.number, rows.first)
    verdict = Verdict(run_id, len(chain.hashes), chain.head)
    if chain.finding is not None:
        verdict.findings.append(chain.finding)
    else:
        verdict.findings += _beside(store, chain)
    if chain.pins:
        verdict.definition = str(chain.pins[-1][1].get("definition", ""))
    if signed is not None:
        compare_with_heads(verdict, chain, signed.runs.get(run_id, {}))
        verdict.findings += [finding for finding in signed.findings if finding.run_id == run_id]
    return verdict


def verify_all(store: SqliteStore, signed: Signed | None) -> Iterator[Verdict]:
    """Check every run, and that no run is missing that was signed and not pruned under a signature. One that is pruned
    while it is looked at is left out."""
    names = store.names()
    for run_id in names:
        try:
            yield verify(store, run_id, signed)
        except JamError as error:
            if error.code != "JAMR201":
                raise
    if signed is None:
        return
    for run_id in sorted(signed.runs.keys() - signed.pruned - set(names)):
        yield _missing(run_id, signed.runs[run_id], store.is_gone(run_id))


def _missing(run_id: str, seen: Mapping[int, Seen], gone: bool) -> Verdict:
    last = max(seen)
    why = "it is not in the database" + (", which says that it was pruned: nobody signed that" if gone else "")
    message = f"{run_id} was signed at event {last} (line {seen[last].line}), and {why}"
    finding = Finding("JAMR108", run_id, 1, last, "run", message, seen[last].line)
    return Verdict(run_id, signed_to=last, at_ms=seen[last].at_ms, findings=[finding])


def compare_with_heads(verdict: Verdict, chain: Chain, seen: Mapping[int, Seen]) -> None:
    """Every head that was signed must be that of the event as it is now. The newest one says nothing of an earlier one
    that differs: a history that was rewritten and signed again is told by that."""
    verdict.signed_to, verdict.at_ms, verdict.unwitnessed = 0, None, []
    for seq in sorted(seen):
        known = seen[seq]
        if seq > len(chain.hashes):
            if chain.finding is None:
                at = len(chain.hashes) + 1
                why = f"events {at} to {seq} of {chain.run_id} were signed (line {known.line}) and are gone"
                verdict.findings.append(Finding("JAMR108", chain.run_id, at, seq, "seq", why, known.line))
            return
        if chain.hashes[seq - 1] != known.hash:
            first = verdict.signed_to + 1
            where = f"event {seq}" if first == seq else f"one of the events {first} to {seq}"
            why = f"{where} of {chain.run_id} is not the one that was signed (line {known.line})"
            verdict.findings.append(Finding("JAMR108", chain.run_id, first, seq, "hash", why, known.line))
            return
        if known.since != verdict.signed_to + 1:
            _unwitnessed(verdict, seq, known.since)
        verdict.signed_to, verdict.at_ms, verdict.since = seq, known.at_ms, known.since


def _unwitnessed(verdict: Verdict, seq: int, since: int) -> None:
    """Note what lies between the head before and the events that this one's signer has written itself."""
    first, last = (verdict.signed_to or 0) + 1, since - 1 if since else seq
    if first > last:
        return
    if verdict.unwitnessed and verdict.unwitnessed[-1][1] == first - 1:
        first = verdict.unwitnessed.pop()[0]
    verdict.unwitnessed.append((first, last))


def _compare_with_row(chain: Chain, last_seq: Any, head: Any, number: int, first: Any) -> None:
    """What the run's row says of its journal."""
    events = len(chain.hashes)
    if type(last_seq) is not int:
        chain.wrong(events, "last_seq", "the run's row does not say how many there are")
    elif events < last_seq:
        chain.wrong(
            events + 1, "seq", f"the journal ends at event {events} of {last_seq}: events are missing", last_seq
        )
    elif events > last_seq:
        chain.wrong(last_seq + 1, "seq", "events were added after the last one", events)
    elif number != events:
        chain.wrong(min(first, 1), "seq", f"there are {number} events in place of {events}")
    elif events and head != bytes.fromhex(chain.head):
        chain.wrong(events, "head", "the run's row has another hash for its last event")
    elif not events:
        chain.wrong(1, "seq", "the journal is empty")


def _beside(store: SqliteStore, chain: Chain) -> Iterator[Finding]:
    """What stands beside a sound journal: programs, the snapshot, redacted values, and the rows that are caches."""
    run_id = chain.run_id
    for seq, pin in chain.pins:
        for name, read in (("definition", store.definition), ("source", store.side)):
            yield from _read(run_id, seq, name, partial(read, str(pin.get(name))))
    snapshot = store.snapshot(run_id)
    if snapshot is not None and (snapshot.seq < len(chain.hashes) or store.last_seq(run_id) == len(chain.hashes)):
        own = chain.snapshots.get(snapshot.seq + 1)
        digest = hashlib.sha256(snapshot.state).hexdigest()
        if own is None or own.get("state_digest") != digest or own.get("of") != snapshot.seq:
            after = snapshot.seq + 1
            why = f"the snapshot of {run_id} after event {snapshot.seq} is not the one that event {after} names"
            yield Finding("JAMR107", run_id, after, after, "snapshot", why)
    yield from _read(run_id, len(chain.hashes), "erasable", partial(store.erasable, run_id))
    yield from _read(run_id, len(chain.hashes), "summary", partial(store.summary, run_id))
    for problem in store.check(run_id):
        yield Finding("JAMR107", run_id, len(chain.hashes), len(chain.hashes), "caches", problem)
    yield from _row_of(store, chain)


def _read(run_id: str, seq: int, name: str, read: Callable[[], object]) -> Iterator[Finding]:
    try:
        read()
    except JamError as error:
        yield Finding(error.code, run_id, seq, seq, name, f"{run_id}: {error.message}")


def _row_of(store: SqliteStore, chain: Chain) -> Iterator[Finding]:
    """The row that lists show, compared with the journal: its checksum finds accidents, not people."""
    try:
        summary = store.summary(chain.run_id)
    except JamError:
        return
    if summary.last_seq != len(chain.hashes):
        return  # it went on meanwhile
    first, pin = chain.pins[0][1], chain.pins[-1][1]
    row = {"agent": summary.agent, "parent": summary.parent, "definition": summary.definition, "source": summary.source}
    journal = {"agent": first.get("agent"), "parent": first.get("parent")}
    journal |= {name: pin.get(name) for name in ("definition", "source")}
    if summary.status in ENDED or chain.status:
        row["status"], journal["status"] = summary.status, chain.status or "not at its end"
    for name, value in row.items():
        if value != journal[name]:
            why = f"the list of runs says that the {name} of {chain.run_id} is {value}, its journal {journal[name]}"
            yield Finding("JAMR107", chain.run_id, 1, len(chain.hashes), name, why)
