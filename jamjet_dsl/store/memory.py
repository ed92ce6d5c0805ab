"""A store in memory: for tests and simulated time. It keeps the promises of `ports.Store` except the disk."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeAlias

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import ENDED, Event
from jamjet_dsl.ports import (
    Batch,
    Erasable,
    Erased,
    Item,
    KeyConflict,
    Lease,
    LimitConflict,
    Message,
    New,
    Observer,
    Outdated,
    Pruned,
    QuestionRow,
    RunSummary,
    SharedUse,
    Snapshot,
    Standing,
    Written,
)
from jamjet_dsl.store.chain import GENESIS, PRUNED_ID, check_run_id, decode, encode, next_slot, seal, sealed_events
from jamjet_dsl.store.limits import added


@dataclass(slots=True)
class _Run:
    summary: RunSummary
    events: list[Event] = field(default_factory=list)
    size: int = 0
    owner: str = ""
    token: int = 1
    inbox: list[Message] = field(default_factory=list)
    dedupe: dict[str, dict[str, Any]] = field(default_factory=dict)
    snapshot: Snapshot | None = None
    erasable: list[Erasable] = field(default_factory=list)


_Counter: TypeAlias = dict[tuple[str, str], tuple[int, Decimal]]
"""The calls that count under a shared limit, in order: by run and action, when, and what they add to a total."""


def _used(counter: _Counter, since_ms: int) -> tuple[int, Decimal]:
    found = [amount for at_ms, amount in counter.values() if at_ms > since_ms]
    return len(found), added(found)


class MemoryStore:
    """See `ports.Store`. Bodies are copied through JSON, so nobody shares what is stored."""

    durability = "none"

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._definitions: dict[str, bytes] = {}
        self._sides: dict[str, tuple[str, bytes]] = {}
        self._runs: dict[str, _Run] = {}
        self._owners: dict[str, int] = {}
        self._keys: dict[tuple[str, str], bytes] = {}
        self._shared: dict[tuple[str, str, str], _Counter] = {}
        self._questions: dict[str, QuestionRow] = {}
        self._slots: dict[str, list[tuple[int, str]]] = {}
        self._gone: set[tuple[str, str]] = set()
        self._messages = 0
        self.observer: Observer | None = None
        self._log: list[str] = []
        self._changes = 0

    def put_definition(self, digest: str, canonical: bytes, side: bytes, now_ms: int) -> str:
        if hashlib.sha256(canonical).hexdigest() != digest:
            raise ValueError("the digest is not that of the canonical bytes")
        source = hashlib.sha256(digest.encode() + b"\n" + side).hexdigest()
        self._definitions[digest] = canonical
        self._sides[source] = digest, side
        return source

    def definition(self, digest: str) -> bytes:
        if digest not in self._definitions:
            raise JamError("JAMR107", f"the definition {digest[:12]} is missing or damaged")
        return self._definitions[digest]

    def side(self, digest: str) -> bytes:
        if digest not in self._sides:
            raise JamError("JAMR107", f"the sources {digest[:12]} are missing or damaged")
        return self._sides[digest][1]

    # ---- the journal

    def create(self, run_id: str, batch: Batch, owner: str, lease_ms: int, now_ms: int) -> Lease:
        check_run_id(run_id)
        first, stands = batch.drafts[0], batch.standing
        with self._lock:
            if run_id in self._runs:
                raise JamError("JAMR203", f"the run {run_id} exists")
            if ("run", run_id) in self._gone:
                raise JamError("JAMR203", f"{run_id} was the id of a run that was pruned", PRUNED_ID)
            definition = self._definition_of(first.body["source"])
            place = (run_id, first.body["agent"], definition, first.body["source"], stands.status, stands.state)
            summary = RunSummary(*place, (), first.at_ms, first.at_ms, 0, None, {}, "", first.body.get("parent"))
            run = _Run(summary, owner="" if batch.release else owner)
            self._commit(run, batch)
            self._runs[run_id] = run
            if run.owner:
                self._heartbeat(owner, now_ms + lease_ms)
        return Lease(run_id, owner, 1, now_ms + lease_ms)

    def append(self, lease: Lease, expected_seq: int, batch: Batch) -> None:
        with self._lock:
            run = self._run(lease.run_id)
            if run.token != lease.token or len(run.events) != expected_seq:
                raise JamError("JAMR206", f"the run {lease.run_id} is driven by another process now")
            self._commit(run, batch)
            if batch.release:
                run.owner = ""

    def append_many(self, items: Sequence[Item]) -> list[Written]:
        results: list[Written] = []
        with self._lock:
            for item in items:
                try:
                    if isinstance(item, New):
                        results.append(self.create(*item))
                    else:
                        self.append(*item)
                        results.append(None)
                except (JamError, Outdated) as error:
                    results.append(error)
        return results

    def _commit(self, run: _Run, batch: Batch) -> None:
        """Everything that can be refused is refused before anything is changed."""
        run_id, prev_hash = run.summary.run_id, run.events[-1].hash if run.events else GENESIS
        sealed = seal(run_id, len(run.events), prev_hash, batch.drafts)
        events = sealed_events(run_id, prev_hash, sealed)
        self._check(run, batch, events)
        counted = self._counted(run_id, batch.uses)
        self._changes += 1
        self._keys.update({(use.tool, use.key): use.args_digest for use in batch.keys})
        self._shared.update(counted)
        run.inbox = [m for m in run.inbox if m.id not in batch.consumed]
        self._log += [run_id] * len(events)
        run.events += events
        run.size += sum(len(text.encode()) for _, _, _, text, _ in sealed)
        if events:
            self._stand(run, batch)
            self._note_questions(run_id, events, batch.standing)
        if batch.snapshot is not None:
            run.snapshot = batch.snapshot
        run.erasable += batch.erasable
        if events and self.observer is not None:
            self.observer(run_id, events[0].seq, events[-1].seq, events[-1].hash)

    def _check(self, run: _Run, batch: Batch, events: list[Event]) -> None:
        if batch.repin is not None:
            self._definition_of(batch.repin[1])
        bound = dict(self._keys)
        for use in batch.keys:
            if bound.setdefault((use.tool, use.key), use.args_digest) != use.args_digest:
                raise KeyConflict(use)
        if len(set(batch.consumed)) != len(batch.consumed) or set(batch.consumed) - {m.id for m in run.inbox}:
            raise JamError("JAMR206", "a message was taken by another process")
        new = [event.body["question"] for event in events if event.kind == "asked"]
        for name in new:
            if name in self._questions or ("question", name) in self._gone or new.count(name) > 1:
                raise JamError("JAMR208", f"the id {name} was given to a question before")

    def _stand(self, run: _Run, batch: Batch) -> None:
        stands, last = batch.standing, run.events[-1]
        source = run.summary.source if batch.repin is None else batch.repin[1]
        run.summary = replace(
            run.summary,
            status=stands.status,
            state=stands.state,
            waiting_for=tuple(stands.waiting_for),
            wake_at_ms=stands.wake_at_ms,
            spent=dict(stands.spent or {}),
            last_seq=last.seq,
            updated_ms=last.at_ms,
            definition=self._definition_of(source),
            source=source,
        )

    def _definition_of(self, source: str) -> str:
        if source not in self._sides:
            raise JamError("JAMR107", f"the sources {source[:12]} are missing or damaged")
        return self._sides[source][0]

    def _note_questions(self, run_id: str, events: list[Event], standing: Standing) -> None:
        rows = self._questions

        def close(name: str, status: str, event: Event, **more: Any) -> None:
            if name in rows and rows[name].run_id == run_id and rows[name].status == "open":
                rows[name] = replace(rows[name], status=status, closed_ms=event.at_ms, **more)

        for event in events:
            body = event.body
            match event.kind:
                case "asked":
                    place = (body.get("state", standing.state), body.get("role", ""), "open", event.at_ms)
                    rows[body["question"]] = QuestionRow(
                        body["question"], run_id, *place, body.get("expires_at_ms"), body
                    )
                case "answered" if body["question"] not in standing.questions:  # else it takes more than one answer
                    close(body["question"], "answered", event, option=body["option"], by=body.get("by"))
                case "expired":
                    close(body["question"], "expired", event)
        for row in list(rows.values()):
            if row.run_id == run_id and row.status == "open" and row.id not in standing.questions:
                close(row.id, "closed", events[-1])

    def erasable(self, run_id: str) -> list[Erasable]:
        return list(self._run(run_id).erasable)

    def erase(self, run_id: str, wanted: Callable[[str], bool], now_ms: int) -> Erased:
        with self._lock:
            run = self._run(run_id)
            if run.summary.status not in ENDED:
                raise JamError("JAMR414", f"the run {run_id} is {run.summary.status}: it may need its values to go on")
            paths = [row.path for row in run.erasable if wanted(row.path)]
            run.erasable = [row for row in run.erasable if not wanted(row.path)]
            self._changes += 1
        return Erased(run_id, tuple(sorted(set(paths))), len(paths), False)

    def key_digest(self, tool: str, key: str) -> bytes | None:
        return self._keys.get((tool, key))

    def shared_use(self, who: str, counter: str, group: str, since_ms: int) -> tuple[int, Decimal]:
        with self._lock:
            return _used(self._shared.get((who, counter, group), {}), since_ms)

    def _counted(self, run_id: str, uses: Sequence[SharedUse]) -> dict[tuple[str, str, str], _Counter]:
        """The counters of these uses with them. Raises LimitConflict."""
        found = {use[:3]: dict(self._shared.get(use[:3], {})) for use in uses}
        for cmd, of_call in groupby(uses, attrgetter("cmd")):
            asked = list(of_call)
            for use in asked:
                if not use.fits(*_used(found[use[:3]], use.since_ms)):
                    raise LimitConflict(use)
            for use in asked:
                counter = found[use[:3]]
                latest = next(reversed(counter.values()))[0] if counter else use.at_ms
                counter.setdefault((run_id, cmd), (max(use.at_ms, latest), use.amount))
        return found

    def history(self, run_id: str, after: int = 0) -> Iterator[Event]:
        yield from self._run(run_id).events[after:]

    def last_seq(self, run_id: str) -> int:
        return len(self._run(run_id).events)

    def snapshot(self, run_id: str) -> Snapshot | None:
        return self._run(run_id).snapshot

    # ---- leases

    def _heartbeat(self, owner: str, expires_ms: int) -> None:
        self._owners[owner] = max(expires_ms, self._owners.get(owner, 0))

    def _lost(self, owner: str, now_ms: int, dead: Callable[[str], bool] | None) -> bool:
        return self._owners.get(owner, 0) <= now_ms or bool(dead and dead(owner))

    def _take(self, run: _Run, owner: str, lease_ms: int, now_ms: int) -> Lease:
        self._heartbeat(owner, now_ms + lease_ms)
        run.owner, run.token = owner, run.token + 1
        return Lease(run.summary.run_id, owner, run.token, now_ms + lease_ms)

    def claim(
        self, run_id: str, owner: str, lease_ms: int, now_ms: int, dead: Callable[[str], bool] | None = None
    ) -> Lease:
        with self._lock:
            run = self._run(run_id)
            if run.owner and run.owner != owner and not self._lost(run.owner, now_ms, dead):
                raise JamError("JAMR205", f"the run {run_id} is being driven by {run.owner}")
            return self._take(run, owner, lease_ms, now_ms)

    def claim_due(
        self,
        owner: str,
        lease_ms: int,
        now_ms: int,
        limit: int,
        dead: Callable[[str], bool] | None = None,
        skip: Collection[str] = (),
    ) -> list[Lease]:
        with self._lock:
            lost = {name for name in self._owners if name != owner and self._lost(name, now_ms, dead)}
            for run in self._runs.values():
                if run.owner in lost:
                    run.owner, run.token = "", run.token + 1
            for name in lost:
                del self._owners[name]
            found = []
            for number, run_id in enumerate(self._runs):
                run = self._runs[run_id]
                since = self._due_since(run, now_ms)
                if since is not None and not run.owner and run.summary.source not in skip:
                    found.append((since, number, run))
            found.sort(key=lambda row: row[:2])
            return [self._take(run, owner, lease_ms, now_ms) for _, _, run in found[:limit]]

    def _due_since(self, run: _Run, now_ms: int) -> int | None:
        row = run.summary
        if row.status in ENDED:
            return None
        times = [row.updated_ms] if row.status == "running" or run.inbox else []
        if row.status != "running" and row.wake_at_ms is not None and row.wake_at_ms <= now_ms:
            times.append(row.wake_at_ms)
        return min(times, default=None)

    def renew(self, lease: Lease, lease_ms: int, now_ms: int) -> Lease:
        kept = self.renew_many([lease], lease_ms, now_ms)
        if not kept:
            raise JamError("JAMR206", f"the run {lease.run_id} was taken over")
        return kept[0]

    def renew_many(self, leases: Sequence[Lease], lease_ms: int, now_ms: int) -> list[Lease]:
        with self._lock:
            kept = []
            for lease in leases:
                run = self._runs.get(lease.run_id)
                if run is not None and (run.token, run.owner) == (lease.token, lease.owner):
                    self._heartbeat(lease.owner, now_ms + lease_ms)
                    kept.append(replace(lease, expires_at_ms=now_ms + lease_ms))
            return kept

    def release(self, lease: Lease) -> None:
        with self._lock:
            run = self._runs.get(lease.run_id)
            if run is not None and run.token == lease.token:
                run.owner = ""

    def take_slot(self, tool: str, rates: Sequence[tuple[int, int]], now_ms: int, holder: str) -> int:
        with self._lock:
            since = now_ms - max(per_ms for _, per_ms in rates)
            slots = [(at, who) for at, who in self._slots.get(tool, []) if at > since]
            own = next((at for at, who in slots if who == holder and at > now_ms), None)
            if own is not None:
                return own
            at_ms = next_slot([at for at, _ in slots], rates, now_ms)
            self._slots[tool] = [*slots, (at_ms, holder)]
            return at_ms

    def slot(self, tool: str, now_ms: int, holder: str) -> int | None:
        with self._lock:
            times = [at for at, who in self._slots.get(tool, []) if who == holder and at > now_ms]
        return min(times, default=None)

    # ---- from outside

    def enqueue(
        self,
        run_id: str,
        kind: str,
        body: dict[str, Any],
        dedupe: str | None,
        now_ms: int,
        erasable: Sequence[Erasable] = (),
    ) -> int | None:
        copy = decode(encode(body), run_id)
        with self._lock:
            run = self._run(run_id)
            if run.summary.status in ENDED:
                raise JamError("JAMR204", f"the run {run_id} is {run.summary.status}")
            if dedupe is not None:
                if dedupe in run.dedupe:
                    return None
                run.dedupe[dedupe] = copy
            self._changes += 1
            self._messages += 1
            run.inbox.append(Message(self._messages, now_ms, kind, copy))
            run.erasable += erasable
            return self._messages

    def deduped(self, run_id: str, dedupe: str) -> dict[str, Any] | None:
        return self._run(run_id).dedupe.get(dedupe)

    def pending(self, run_id: str) -> list[Message]:
        return list(self._run(run_id).inbox)

    def mail(self) -> set[str]:
        return {run_id for run_id, run in self._runs.items() if run.inbox}

    # ---- lists

    def summary(self, run_id: str) -> RunSummary:
        run = self._run(run_id)
        return replace(run.summary, owner=run.owner)

    def summaries(self, status: Iterable[str] | None = None) -> list[RunSummary]:
        wanted = None if status is None else set(status)
        return [self.summary(i) for i, r in self._runs.items() if wanted is None or r.summary.status in wanted]

    def due(self, now_ms: int) -> list[str]:
        return [run_id for run_id, run in self._runs.items() if self._due_since(run, now_ms) is not None]

    def next_wake(self) -> int | None:
        wakes = [run.summary.wake_at_ms for run in self._runs.values() if not run.owner]
        return min((at_ms for at_ms in wakes if at_ms is not None), default=None)

    def find(self, prefix: str) -> str:
        return self._find(prefix, self._runs, "run", "JAMR201")

    def find_question(self, prefix: str) -> QuestionRow:
        return self._questions[self._find(prefix, self._questions, "question", "JAMR401")]

    def _find(self, prefix: str, names: Iterable[str], what: str, code: str) -> str:
        found = sorted(n for n in names if n.startswith(prefix)) if prefix else []
        if prefix in found:
            return prefix
        if not found:
            gone = (what, prefix) in self._gone
            raise JamError(code, f"the {what} {prefix!r} was pruned" if gone else f"there is no {what} {prefix!r}")
        if len(found) > 1:
            raise JamError("JAMR202", f"several {what}s start with {prefix!r}", details=tuple(found[:4]))
        return found[0]

    def questions(self, run_id: str | None = None, status: str | None = "open") -> list[QuestionRow]:
        if run_id is not None:
            self._run(run_id)
        rows = [
            row
            for row in self._questions.values()
            if (run_id is None or row.run_id == run_id) and (status is None or row.status == status)
        ]
        return sorted(rows, key=lambda row: (row.asked_ms, row.id))

    def activity(self, after: int | None) -> tuple[set[str], int]:
        moved = set() if after is None else set(self._log[after:])
        return {run_id for run_id in moved if run_id in self._runs}, len(self._log)

    def changes(self) -> int:
        return self._changes

    # ---- upkeep

    def prune(
        self,
        *,
        now_ms: int,
        before_ms: int | None = None,
        keep: int = 0,
        statuses: Collection[str] = ENDED,
        dry_run: bool = False,
    ) -> list[Pruned]:
        if not set(statuses) <= ENDED:
            raise ValueError(f"only runs that have ended can be pruned, not {sorted(set(statuses) - ENDED)}")
        with self._lock:
            ended = [
                (run.summary.updated_ms, number, run)
                for number, run in enumerate(self._runs.values())
                if run.summary.status in statuses and not run.owner
            ]
            ended.sort(key=lambda row: row[:2])
            found = [
                Pruned(row.run_id, row.agent, row.status, row.updated_ms, row.last_seq, run.size)
                for row, run in [(run.summary, run) for _, _, run in ended[: max(len(ended) - max(keep, 0), 0)]]
                if before_ms is None or row.updated_ms < before_ms
            ]
            for row in [] if dry_run else found:
                self._forget(row.run_id)
            return found

    def _forget(self, run_id: str) -> None:
        self._changes += 1
        for name in [name for name, row in self._questions.items() if row.run_id == run_id]:
            del self._questions[name]
            self._gone.add(("question", name))
        del self._runs[run_id]
        self._gone.add(("run", run_id))

    def close(self) -> None:
        """Nothing to do: what was stored goes with the object."""

    def _run(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            raise JamError("JAMR201", f"there is no run {run_id}")
        return run
