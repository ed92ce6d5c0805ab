"""The run database on SQLite. One connection, every write one `BEGIN IMMEDIATE` transaction.

The hot path is `append`: a guarded update of the run's row (lease token and last seq, in one statement), the
events, what was consumed, and the caches, in one commit.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import ENDED, Event
from jamjet_dsl.ports import (
    Batch,
    Erasable,
    KeyConflict,
    Lease,
    Message,
    QuestionRow,
    RunSummary,
    Snapshot,
    Standing,
)
from jamjet_dsl.store.chain import GENESIS, Sealed, check_run_id, decode, encode, event_hash, key_use, next_slot, seal
from jamjet_dsl.store.connection import Durability, connect, refuse

_dumps = json.JSONEncoder().encode
_PAGE = 500
"""Events read at once: a long history never holds a read transaction open for long."""

_SUMMARY = """SELECT r.run_id, r.agent, r.definition, r.source, r.status, r.state, r.waiting_for, r.created_ms,
  r.updated_ms, r.last_seq, r.wake_at_ms, r.spent, coalesce(l.owner, '') FROM runs r LEFT JOIN leases l USING (run)"""
_QUESTION = """SELECT q.id, r.run_id, q.state, q.role, q.status, q.asked_ms, q.expires_ms, q.body, q.option, q.by,
  q.closed_ms FROM questions q JOIN runs r USING (run)"""
_QUESTION_EVENTS = frozenset({"asked", "answered", "expired", "moved", "finished", "parked", "exceeded"})


class SqliteStore:
    """See `ports.Store`. Safe to use from several threads; several processes may open one file."""

    def __init__(
        self, path: str | Path, durability: Durability = "full", busy_ms: int = 5_000, read_only: bool = False
    ) -> None:
        self.path = Path(path)
        self.durability: Durability = durability
        self.read_only = read_only
        self._lock = threading.RLock()
        self._db = connect(self.path, durability, busy_ms, read_only)
        self._file = self._identity()

    # ---- definitions

    def put_definition(self, digest: str, canonical: bytes, side: bytes, now_ms: int) -> str:
        if hashlib.sha256(canonical).hexdigest() != digest:
            raise ValueError("the digest is not that of the canonical bytes")
        source = _source_digest(digest, side)
        if self._row("SELECT 1 FROM programs WHERE digest = ?", source):
            return source
        with self._write() as db:
            db.execute("INSERT OR IGNORE INTO definitions VALUES (?, ?, ?)", (digest, canonical, now_ms))
            db.execute("INSERT OR IGNORE INTO programs VALUES (?, ?, ?, ?)", (source, digest, side, now_ms))
        return source

    def definition(self, digest: str) -> bytes:
        row = self._row("SELECT canonical FROM definitions WHERE digest = ?", digest)
        if row is None or hashlib.sha256(row[0]).hexdigest() != digest:
            raise JamError("JAMR107", f"the definition {digest[:12]} is missing or damaged")
        return bytes(row[0])

    def side(self, digest: str) -> bytes:
        row = self._row("SELECT definition, side FROM programs WHERE digest = ?", digest)
        if row is None or _source_digest(row[0], bytes(row[1])) != digest:
            raise JamError("JAMR107", f"the sources {digest[:12]} are missing or damaged")
        return bytes(row[1])

    # ---- the journal

    def create(
        self, run_id: str, batch: Batch, owner: str, lease_ms: int, now_ms: int
    ) -> tuple[Lease, tuple[Event, ...]]:
        check_run_id(run_id)
        first = batch.drafts[0].body
        sealed = seal(run_id, 0, GENESIS, batch.drafts)
        head = sealed[-1].event
        with self._write() as db:
            if self._row("SELECT 1 FROM runs WHERE run_id = ?", run_id):
                raise JamError("JAMR203", f"the run {run_id} exists")
            place = (first["agent"], first["definition"], first["source"], first.get("parent"))
            cursor = db.execute(
                "INSERT INTO runs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run_id,
                    head.seq,
                    bytes.fromhex(head.hash),
                    *place,
                    *_cached(batch.standing),
                    batch.drafts[0].at_ms,
                    head.at_ms,
                ),
            )
            run = int(cursor.lastrowid or 0)
            db.execute("INSERT INTO leases VALUES (?, ?, 1, ?)", (run, owner, now_ms + lease_ms))
            _write_batch(db, run, sealed, batch)
        return Lease(run_id, owner, 1, now_ms + lease_ms), tuple(s.event for s in sealed)

    def append(self, lease: Lease, expected_seq: int, batch: Batch) -> tuple[Event, ...]:
        with self._write() as db:
            return _append(db, lease, expected_seq, batch)

    def key_digest(self, tool: str, key: str) -> bytes | None:
        row = self._row("SELECT args_digest FROM keys WHERE tool = ? AND key = ?", tool, key)
        return bytes(row[0]) if row else None

    def erasable(self, run_id: str) -> list[Erasable]:
        rows = self._rows("SELECT commitment, path, salt, ciphertext FROM erasable WHERE run = ?", self._run(run_id))
        return [Erasable(*row) for row in rows]

    def history(self, run_id: str, after: int = 0) -> Iterator[Event]:
        run, last_seq, head = self._head(run_id)
        last_hash = GENESIS if after == 0 else ""
        while True:
            rows = self._rows(
                "SELECT seq, at_ms, kind, body, lower(hex(prev_hash)), lower(hex(hash)) FROM events"
                f" WHERE run = ? AND seq > ? ORDER BY seq LIMIT {_PAGE}",
                run,
                after,
            )
            for seq, at_ms, kind, body, prev_hash, own in rows:
                # What was written under a hash is read under it: a changed event is never acted on.
                follows = type(body) is bytes and seq == after + 1 and prev_hash == (last_hash or prev_hash)
                follows = follows and (seq != last_seq or own == head)
                if not follows or event_hash(run_id, seq, at_ms, kind, body, prev_hash) != own:
                    raise JamError("JAMR107", f"the journal of {run_id} was changed or damaged at event {seq}")
                yield Event(run_id, seq, at_ms, kind, decode(body, run_id), prev_hash, own)
                after, last_hash = seq, own
            if len(rows) < _PAGE:
                break
        if after < last_seq:
            raise JamError(
                "JAMR107", f"the journal of {run_id} ends at event {after} of {last_seq}: events are missing"
            )

    def verify(self, run_id: str) -> None:
        """Check a run's hash chain from its first byte to its head, and that nothing stands after it.

        Raises JamError JAMR107.
        """
        events = [0, *(event.seq for event in self.history(run_id))]
        if events[-1] > self.last_seq(run_id):
            raise JamError("JAMR107", f"the journal of {run_id} goes on after its last event: events were added")

    def last_seq(self, run_id: str) -> int:
        row = self._row("SELECT last_seq FROM runs WHERE run_id = ?", run_id)
        if row is None:
            raise JamError("JAMR201", f"there is no run {run_id}")
        return int(row[0])

    def snapshot(self, run_id: str) -> Snapshot | None:
        row = self._row("SELECT seq, state FROM snapshots WHERE run = ?", self._run(run_id))
        return Snapshot(row[0], bytes(row[1])) if row else None

    # ---- leases

    def claim(
        self, run_id: str, owner: str, lease_ms: int, now_ms: int, dead: Callable[[str], bool] | None = None
    ) -> Lease:
        with self._write() as db:
            row = db.execute(
                "SELECT l.run, l.owner, l.token, l.expires_ms FROM leases l JOIN runs r USING (run) WHERE r.run_id = ?",
                (run_id,),
            ).fetchone()
            if row is None:
                raise JamError("JAMR201", f"there is no run {run_id}")
            run, holder, token, expires_ms = row
            if holder and holder != owner and expires_ms > now_ms and not (dead and dead(holder)):
                raise JamError("JAMR205", f"the run {run_id} is being driven by {holder}")
            db.execute(
                "UPDATE leases SET owner = ?, token = ?, expires_ms = ? WHERE run = ?",
                (owner, token + 1, now_ms + lease_ms, run),
            )
        return Lease(run_id, owner, token + 1, now_ms + lease_ms)

    def renew(self, lease: Lease, lease_ms: int, now_ms: int) -> Lease:
        with self._write() as db:
            changed = db.execute(
                "UPDATE leases SET expires_ms = ? WHERE run = (SELECT run FROM runs WHERE run_id = ?) AND token = ?",
                (now_ms + lease_ms, lease.run_id, lease.token),
            ).rowcount
        if changed != 1:
            raise JamError("JAMR206", f"the run {lease.run_id} was taken over")
        return Lease(lease.run_id, lease.owner, lease.token, now_ms + lease_ms)

    def release(self, lease: Lease) -> None:
        with self._write() as db:
            db.execute(
                "UPDATE leases SET owner = NULL, expires_ms = 0 WHERE token = ? AND"
                " run = (SELECT run FROM runs WHERE run_id = ?)",
                (lease.token, lease.run_id),
            )

    def take_slot(self, tool: str, rates: Sequence[tuple[int, int]], now_ms: int) -> int:
        with self._write() as db:
            longest = max(per_ms for _, per_ms in rates)
            db.execute("DELETE FROM slots WHERE tool = ? AND at_ms <= ?", (tool, now_ms - longest))
            taken = [row[0] for row in db.execute("SELECT at_ms FROM slots WHERE tool = ? ORDER BY at_ms", (tool,))]
            at_ms = next_slot(taken, rates, now_ms)
            db.execute("INSERT INTO slots VALUES (?, ?)", (tool, at_ms))
        return at_ms

    # ---- from outside

    def enqueue(self, run_id: str, kind: str, body: dict[str, Any], dedupe: str | None, now_ms: int) -> int | None:
        data = encode(body)
        with self._write() as db:
            row = db.execute("SELECT run, status FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            if row is None:
                raise JamError("JAMR201", f"there is no run {run_id}")
            if row[1] in ENDED:
                raise JamError("JAMR204", f"the run {run_id} is {row[1]}")
            if dedupe is not None:
                sql = "INSERT OR IGNORE INTO dedupe VALUES (?, ?, ?, ?)"
                if db.execute(sql, (row[0], dedupe, now_ms, data)).rowcount != 1:
                    return None
            cursor = db.execute("INSERT INTO inbox VALUES (NULL, ?, ?, ?, ?)", (row[0], now_ms, kind, data))
            return int(cursor.lastrowid or 0)

    def deduped(self, run_id: str, dedupe: str) -> dict[str, Any] | None:
        row = self._row("SELECT body FROM dedupe WHERE run = ? AND key = ?", self._run(run_id), dedupe)
        return decode(row[0], run_id) if row else None

    def pending(self, run_id: str) -> list[Message]:
        rows = self._rows("SELECT id, at_ms, kind, body FROM inbox WHERE run = ? ORDER BY id", self._run(run_id))
        return [Message(number, at_ms, kind, decode(body, run_id)) for number, at_ms, kind, body in rows]

    def mail(self) -> set[str]:
        return {row[0] for row in self._rows("SELECT DISTINCT r.run_id FROM inbox i JOIN runs r USING (run)")}

    # ---- lists

    def summary(self, run_id: str) -> RunSummary:
        row = self._row(f"{_SUMMARY} WHERE r.run_id = ?", run_id)
        if row is None:
            raise JamError("JAMR201", f"there is no run {run_id}")
        return _summary(row)

    def summaries(self, status: Iterable[str] | None = None) -> list[RunSummary]:
        if status is None:
            rows = self._rows(f"{_SUMMARY} ORDER BY r.run")
        else:
            wanted = tuple(status)
            marks = ", ".join("?" * len(wanted))
            rows = self._rows(f"{_SUMMARY} WHERE r.status IN ({marks}) ORDER BY r.run", *wanted)
        return [_summary(row) for row in rows]

    def due(self, now_ms: int) -> list[str]:
        rows = self._rows(
            "SELECT run_id FROM runs r WHERE status IN ('running', 'waiting', 'parked') AND (status = 'running'"
            " OR wake_at_ms <= ? OR EXISTS (SELECT 1 FROM inbox i WHERE i.run = r.run)) ORDER BY run",
            now_ms,
        )
        return [row[0] for row in rows]

    def find(self, prefix: str) -> str:
        return self._find("SELECT run_id FROM runs WHERE run_id = ?", "run_id FROM runs", "run", "JAMR201", prefix)

    def find_question(self, prefix: str) -> QuestionRow:
        found = self._find("SELECT id FROM questions WHERE id = ?", "id FROM questions", "question", "JAMR401", prefix)
        row = self._row(f"{_QUESTION} WHERE q.id = ?", found)
        assert row is not None
        return _question(row)

    def _find(self, exact: str, source: str, what: str, code: str, prefix: str) -> str:
        row = self._row(exact, prefix)
        if row is not None:
            return str(row[0])
        column = source.split(" ", 1)[0]
        rows = self._rows(f"SELECT {source} WHERE substr({column}, 1, ?) = ? LIMIT 4", len(prefix), prefix)
        if not rows or not prefix:
            raise JamError(code, f"there is no {what} {prefix!r}")
        if len(rows) > 1:
            raise JamError("JAMR202", f"several {what}s start with {prefix!r}", details=tuple(r[0] for r in rows))
        return str(rows[0][0])

    def questions(self, run_id: str | None = None, status: str | None = "open") -> list[QuestionRow]:
        where, values = [], []
        if run_id is not None:
            where.append("r.run_id = ?")
            values.append(run_id)
        if status is not None:
            where.append("q.status = ?")
            values.append(status)
        clause = f" WHERE {' AND '.join(where)}" if where else ""
        return [_question(row) for row in self._rows(f"{_QUESTION}{clause} ORDER BY q.asked_ms, q.id", *values)]

    def activity(self, after: int | None) -> tuple[set[str], int]:
        row = self._row("SELECT coalesce(max(position), 0) FROM events")
        assert row is not None
        if after is None or row[0] <= after:
            return set(), int(row[0])
        moved = self._rows("SELECT DISTINCT r.run_id FROM events e JOIN runs r USING (run) WHERE e.position > ?", after)
        return {m[0] for m in moved}, int(row[0])

    def changes(self) -> int:
        row = self._row("PRAGMA data_version")
        assert row is not None
        # The version counts what other connections commit; several engines may share this one.
        return int(row[0]) + self._db.total_changes

    # ---- upkeep

    def rebuild(self, run_id: str, standing: Standing) -> None:
        """Write a run's caches anew from its journal; `standing` is the fold of it."""
        run = self._run(run_id)
        events = list(self.history(run_id))
        with self._write() as db:
            db.execute("DELETE FROM questions WHERE run = ?", (run,))
            db.execute("DELETE FROM snapshots WHERE run = ?", (run,))
            _write_questions(db, run, [Sealed(e, encode(e.body)) for e in events], standing)
            for event in events:
                use = key_use(event)
                if use is not None:
                    db.execute("INSERT OR IGNORE INTO keys VALUES (?, ?, ?, ?, ?)", (*use, run, event.seq))
            last = events[-1]
            db.execute(
                "UPDATE runs SET last_seq = ?, head = ?, status = ?, state = ?, waiting_for = ?, spent = ?,"
                " wake_at_ms = ?, created_ms = ?, updated_ms = ? WHERE run = ?",
                (last.seq, bytes.fromhex(last.hash), *_cached(standing), events[0].at_ms, last.at_ms, run),
            )

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # ---- plumbing

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction that takes the write lock at once: it never fails half way for want of it."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    self._check_place()
                    yield self._db
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                refuse(error, str(self.path))

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _check_place(self) -> None:
        """SQLite goes on writing to a file that was deleted or moved; all of that would be lost with the process."""
        if self._identity() != self._file:
            help = "put the file back where it was and resume; nothing that was committed is lost in it"
            raise JamError("JAMR101", f"{self.path} was deleted, moved or replaced while it was open", help)

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                refuse(error, str(self.path))

    def _row(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        rows = self._rows(sql, *values)
        return rows[0] if rows else None

    def _head(self, run_id: str) -> tuple[int, int, str]:
        """A run's number, and the seq and hash that its journal had reached at least."""
        row = self._row("SELECT run, last_seq, lower(hex(head)) FROM runs WHERE run_id = ?", run_id)
        if row is None:
            raise JamError("JAMR201", f"there is no run {run_id}")
        return int(row[0]), int(row[1]), str(row[2])

    def _run(self, run_id: str) -> int:
        row = self._row("SELECT run FROM runs WHERE run_id = ?", run_id)
        if row is None:
            raise JamError("JAMR201", f"there is no run {run_id}")
        return int(row[0])


def _source_digest(definition: str, side: bytes) -> str:
    return hashlib.sha256(definition.encode() + b"\n" + side).hexdigest()


def _append(db: sqlite3.Connection, lease: Lease, expected_seq: int, batch: Batch) -> tuple[Event, ...]:
    """One run's append inside a transaction: several may share one, each in a savepoint."""
    row = db.execute(
        "SELECT r.run, r.last_seq, r.head, l.token FROM runs r JOIN leases l USING (run) WHERE r.run_id = ?",
        (lease.run_id,),
    ).fetchone()
    if row is None:
        raise JamError("JAMR201", f"there is no run {lease.run_id}")
    run, last_seq, last_hash, token = row
    if token != lease.token or last_seq != expected_seq:
        raise JamError("JAMR206", f"the run {lease.run_id} is driven by another process now")
    sealed = seal(lease.run_id, last_seq, last_hash.hex(), batch.drafts)
    if sealed:
        head = sealed[-1].event
        db.execute(
            "UPDATE runs SET last_seq = ?, head = ?, status = ?, state = ?, waiting_for = ?, spent = ?,"
            " wake_at_ms = ?, updated_ms = ? WHERE run = ?",
            (head.seq, bytes.fromhex(head.hash), *_cached(batch.standing), head.at_ms, run),
        )
    _write_batch(db, run, sealed, batch)
    if batch.release:
        db.execute("UPDATE leases SET owner = NULL, expires_ms = 0 WHERE run = ?", (run,))
    return tuple(s.event for s in sealed)


def _write_batch(db: sqlite3.Connection, run: int, sealed: list[Sealed], batch: Batch) -> None:
    for use in batch.keys:
        known = db.execute("SELECT args_digest FROM keys WHERE tool = ? AND key = ?", (use.tool, use.key)).fetchone()
        if known is None:
            seq = sealed[-1].event.seq if sealed else 0
            db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?)", (use.tool, use.key, use.args_digest, run, seq))
        elif known[0] != use.args_digest:
            raise KeyConflict(use)
    db.executemany(
        "INSERT INTO events (run, seq, at_ms, kind, body, prev_hash, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(run, e.seq, e.at_ms, e.kind, data, bytes.fromhex(e.prev_hash), bytes.fromhex(e.hash)) for e, data in sealed],
    )
    for row in batch.erasable:
        db.execute(
            "INSERT INTO erasable VALUES (?, ?, ?, ?, ?, NULL, NULL, ?)",
            (row.commitment, run, row.path, row.salt, row.value, sealed[-1].event.at_ms),
        )
    for message in batch.consumed:
        if db.execute("DELETE FROM inbox WHERE id = ? AND run = ?", (message, run)).rowcount != 1:
            raise JamError("JAMR206", "a message was taken by another process")
    if any(e.kind in _QUESTION_EVENTS for e, _ in sealed):
        _write_questions(db, run, sealed, batch.standing)
    if batch.snapshot is not None:
        db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", (run, batch.snapshot.seq, batch.snapshot.state))


def _write_questions(db: sqlite3.Connection, run: int, sealed: list[Sealed], standing: Standing) -> None:
    for event, data in sealed:
        body = event.body
        match event.kind:
            case "asked":
                db.execute(
                    "INSERT OR REPLACE INTO questions VALUES (?, ?, ?, ?, 'open', ?, ?, ?, NULL, NULL, NULL)",
                    (
                        body["question"],
                        run,
                        body.get("state", standing.state),
                        body.get("role", ""),
                        event.at_ms,
                        body.get("expires_at_ms"),
                        data,
                    ),
                )
            case "answered" if body["question"] not in standing.questions:  # else it takes more than one answer
                db.execute(
                    "UPDATE questions SET status = 'answered', option = ?, by = ?, closed_ms = ? WHERE id = ?",
                    (body["option"], body.get("by"), event.at_ms, body["question"]),
                )
            case "expired":
                db.execute(
                    "UPDATE questions SET status = 'expired', closed_ms = ? WHERE id = ?",
                    (event.at_ms, body["question"]),
                )
    marks = ", ".join("?" * len(standing.questions))
    db.execute(
        "UPDATE questions SET status = 'closed', closed_ms = ? WHERE run = ? AND status = 'open'"
        f" AND id NOT IN ({marks})",
        (sealed[-1].event.at_ms, run, *standing.questions),
    )


def _cached(standing: Standing) -> tuple[str, str, str, str, int | None]:
    waiting_for = json.dumps(standing.waiting_for) if standing.waiting_for else "[]"
    return standing.status, standing.state, waiting_for, _dumps(standing.spent or {}), standing.wake_at_ms


def _summary(row: tuple[Any, ...]) -> RunSummary:
    run_id, agent, definition, source, status, state, waiting, created, updated, seq, wake, spent, owner = row
    return RunSummary(
        run_id,
        agent,
        definition,
        source,
        status,
        state,
        tuple(json.loads(waiting)),
        created,
        updated,
        seq,
        wake,
        json.loads(spent),
        owner,
    )


def _question(row: tuple[Any, ...]) -> QuestionRow:
    number, run_id, state, role, status, asked, expires, body, option, by, closed = row
    return QuestionRow(number, run_id, state, role, status, asked, expires, json.loads(body), option, by, closed)
