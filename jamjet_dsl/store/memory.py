"""A store in memory: for tests and simulated time. It keeps the promises of `ports.Store` except the disk."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import ENDED, Event
from jamjet_dsl.ports import Batch, Erasable, KeyConflict, Lease, Message, QuestionRow, RunSummary, Snapshot, Standing
from jamjet_dsl.store.chain import GENESIS, check_run_id, decode, encode, next_slot, seal


@dataclass(slots=True)
class _Run:
    summary: RunSummary
    events: list[Event] = field(default_factory=list)
    owner: str = ""
    token: int = 1
    expires_ms: int = 0
    inbox: list[Message] = field(default_factory=list)
    dedupe: dict[str, dict[str, Any]] = field(default_factory=dict)
    snapshot: Snapshot | None = None
    erasable: list[Erasable] = field(default_factory=list)


class MemoryStore:
    """See `ports.Store`. Bodies are copied through JSON, so nobody shares what is stored."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._definitions: dict[str, bytes] = {}
        self._sides: dict[str, bytes] = {}
        self._runs: dict[str, _Run] = {}
        self._keys: dict[tuple[str, str], bytes] = {}
        self._questions: dict[str, QuestionRow] = {}
        self._slots: dict[str, list[int]] = {}
        self._messages = 0
        self._log: list[str] = []

    def put_definition(self, digest: str, canonical: bytes, side: bytes, now_ms: int) -> str:
        if hashlib.sha256(canonical).hexdigest() != digest:
            raise ValueError("the digest is not that of the canonical bytes")
        source = hashlib.sha256(digest.encode() + b"\n" + side).hexdigest()
        self._definitions[digest] = canonical
        self._sides[source] = side
        return source

    def definition(self, digest: str) -> bytes:
        if digest not in self._definitions:
            raise JamError("JAMR107", f"the definition {digest[:12]} is missing or damaged")
        return self._definitions[digest]

    def side(self, digest: str) -> bytes:
        if digest not in self._sides:
            raise JamError("JAMR107", f"the sources {digest[:12]} are missing")
        return self._sides[digest]

    def create(
        self, run_id: str, batch: Batch, owner: str, lease_ms: int, now_ms: int
    ) -> tuple[Lease, tuple[Event, ...]]:
        check_run_id(run_id)
        first = batch.drafts[0]
        with self._lock:
            if run_id in self._runs:
                raise JamError("JAMR203", f"the run {run_id} exists")
            if first.body["definition"] not in self._definitions or first.body["source"] not in self._sides:
                raise JamError("JAMR101", "the definition was not stored")
            summary = RunSummary(
                run_id,
                first.body["agent"],
                first.body["definition"],
                first.body["source"],
                batch.standing.status,
                batch.standing.state,
                (),
                first.at_ms,
                first.at_ms,
                0,
                None,
                {},
            )
            run = _Run(summary, owner=owner, expires_ms=now_ms + lease_ms)
            events = self._commit(run, batch)
            self._runs[run_id] = run
        return Lease(run_id, owner, 1, run.expires_ms), events

    def append(self, lease: Lease, expected_seq: int, batch: Batch) -> tuple[Event, ...]:
        with self._lock:
            run = self._run(lease.run_id)
            if run.token != lease.token or len(run.events) != expected_seq:
                raise JamError("JAMR206", f"the run {lease.run_id} is driven by another process now")
            events = self._commit(run, batch)
            if batch.release:
                run.owner, run.expires_ms = "", 0
            return events

    def _commit(self, run: _Run, batch: Batch) -> tuple[Event, ...]:
        """Everything that can be refused is refused before anything is changed."""
        run_id = run.summary.run_id
        prev = run.events[-1].hash if run.events else GENESIS
        sealed = seal(run_id, len(run.events), prev, batch.drafts)
        for use in batch.keys:
            if self._keys.get((use.tool, use.key), use.args_digest) != use.args_digest:
                raise KeyConflict(use)
        if set(batch.consumed) - {m.id for m in run.inbox}:
            raise JamError("JAMR206", "a message was taken by another process")
        self._keys.update({(use.tool, use.key): use.args_digest for use in batch.keys})
        run.inbox = [m for m in run.inbox if m.id not in batch.consumed]
        self._log += [run_id] * len(sealed)
        run.events += [replace(event, body=decode(data, run_id)) for event, data in sealed]
        if sealed:
            last = run.events[-1]
            run.summary = replace(
                run.summary,
                status=batch.standing.status,
                state=batch.standing.state,
                waiting_for=batch.standing.waiting_for,
                wake_at_ms=batch.standing.wake_at_ms,
                spent=dict(batch.standing.spent or {}),
                last_seq=last.seq,
                updated_ms=last.at_ms,
            )
            self._note_questions(run_id, [event for event, _ in sealed], batch.standing)
        if batch.snapshot is not None:
            run.snapshot = batch.snapshot
        run.erasable += batch.erasable
        return tuple(event for event, _ in sealed)

    def _note_questions(self, run_id: str, events: list[Event], standing: Standing) -> None:
        rows = self._questions
        for event in events:
            body = event.body
            match event.kind:
                case "asked":
                    rows[body["question"]] = QuestionRow(
                        body["question"],
                        run_id,
                        body.get("state", standing.state),
                        body.get("role", ""),
                        "open",
                        event.at_ms,
                        body.get("expires_at_ms"),
                        body,
                    )
                case "answered" if body["question"] not in standing.questions:  # else it takes more than one answer
                    rows[body["question"]] = replace(
                        rows[body["question"]],
                        status="answered",
                        option=body["option"],
                        by=body.get("by"),
                        closed_ms=event.at_ms,
                    )
                case "expired":
                    rows[body["question"]] = replace(rows[body["question"]], status="expired", closed_ms=event.at_ms)
        for row in list(rows.values()):
            if row.run_id == run_id and row.status == "open" and row.id not in standing.questions:
                rows[row.id] = replace(row, status="closed", closed_ms=events[-1].at_ms)

    def erasable(self, run_id: str) -> list[Erasable]:
        return list(self._run(run_id).erasable)

    def key_digest(self, tool: str, key: str) -> bytes | None:
        return self._keys.get((tool, key))

    def history(self, run_id: str, after: int = 0) -> Iterator[Event]:
        yield from self._run(run_id).events[after:]

    def last_seq(self, run_id: str) -> int:
        return len(self._run(run_id).events)

    def snapshot(self, run_id: str) -> Snapshot | None:
        return self._run(run_id).snapshot

    def claim(
        self, run_id: str, owner: str, lease_ms: int, now_ms: int, dead: Callable[[str], bool] | None = None
    ) -> Lease:
        with self._lock:
            run = self._run(run_id)
            if run.owner and run.owner != owner and run.expires_ms > now_ms and not (dead and dead(run.owner)):
                raise JamError("JAMR205", f"the run {run_id} is being driven by {run.owner}")
            run.owner, run.token, run.expires_ms = owner, run.token + 1, now_ms + lease_ms
            return Lease(run_id, owner, run.token, run.expires_ms)

    def renew(self, lease: Lease, lease_ms: int, now_ms: int) -> Lease:
        with self._lock:
            run = self._run(lease.run_id)
            if run.token != lease.token:
                raise JamError("JAMR206", f"the run {lease.run_id} was taken over")
            run.expires_ms = now_ms + lease_ms
            return replace(lease, expires_at_ms=run.expires_ms)

    def release(self, lease: Lease) -> None:
        with self._lock:
            run = self._run(lease.run_id)
            if run.token == lease.token:
                run.owner, run.expires_ms = "", 0

    def take_slot(self, tool: str, rates: Sequence[tuple[int, int]], now_ms: int) -> int:
        with self._lock:
            taken = self._slots.setdefault(tool, [])
            at_ms = next_slot(taken, rates, now_ms)
            taken.append(at_ms)
            return at_ms

    def enqueue(self, run_id: str, kind: str, body: dict[str, Any], dedupe: str | None, now_ms: int) -> int | None:
        copy = decode(encode(body), run_id)
        with self._lock:
            run = self._run(run_id)
            if run.summary.status in ENDED:
                raise JamError("JAMR204", f"the run {run_id} is {run.summary.status}")
            if dedupe is not None:
                if dedupe in run.dedupe:
                    return None
                run.dedupe[dedupe] = copy
            self._messages += 1
            run.inbox.append(Message(self._messages, now_ms, kind, copy))
            return self._messages

    def deduped(self, run_id: str, dedupe: str) -> dict[str, Any] | None:
        return self._run(run_id).dedupe.get(dedupe)

    def pending(self, run_id: str) -> list[Message]:
        return list(self._run(run_id).inbox)

    def mail(self) -> set[str]:
        return {run_id for run_id, run in self._runs.items() if run.inbox}

    def summary(self, run_id: str) -> RunSummary:
        run = self._run(run_id)
        return replace(run.summary, owner=run.owner)

    def summaries(self, status: Iterable[str] | None = None) -> list[RunSummary]:
        wanted = None if status is None else set(status)
        return [self.summary(i) for i, r in self._runs.items() if wanted is None or r.summary.status in wanted]

    def due(self, now_ms: int) -> list[str]:
        def has_work(run: _Run) -> bool:
            wake = run.summary.wake_at_ms
            return run.summary.status == "running" or bool(run.inbox) or (wake is not None and wake <= now_ms)

        return [i for i, r in self._runs.items() if r.summary.status not in ENDED and has_work(r)]

    def find(self, prefix: str) -> str:
        return _find(prefix, self._runs, "run", "JAMR201")

    def find_question(self, prefix: str) -> QuestionRow:
        return self._questions[_find(prefix, self._questions, "question", "JAMR401")]

    def questions(self, run_id: str | None = None, status: str | None = "open") -> list[QuestionRow]:
        rows = [
            row
            for row in self._questions.values()
            if (run_id is None or row.run_id == run_id) and (status is None or row.status == status)
        ]
        return sorted(rows, key=lambda row: (row.asked_ms, row.id))

    def activity(self, after: int | None) -> tuple[set[str], int]:
        return set() if after is None else set(self._log[after:]), len(self._log)

    def changes(self) -> int:
        return self._messages + len(self._log)

    def close(self) -> None:
        """Nothing to do: what was stored goes with the object."""

    def _run(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            raise JamError("JAMR201", f"there is no run {run_id}")
        return run


def _find(prefix: str, names: Iterable[str], what: str, code: str) -> str:
    found = sorted(n for n in names if n.startswith(prefix))
    if prefix in found:
        return prefix
    if not found or not prefix:
        raise JamError(code, f"there is no {what} {prefix!r}")
    if len(found) > 1:
        raise JamError("JAMR202", f"several {what}s start with {prefix!r}", details=tuple(found[:4]))
    return found[0]
