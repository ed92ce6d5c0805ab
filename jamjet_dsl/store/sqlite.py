"""The run database on SQLite. Every write is one `BEGIN IMMEDIATE` transaction.

The hot path is `append`: a guarded update of the run's row (fencing token, last seq and head in one statement), the
events, what was consumed, and the caches, in one commit. `append_many` does so for many runs in one commit (`groups`).
`rows` writes one run, `leases` says who may, `prune` forgets, `checkup` looks at everything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import ENDED, Event
from jamjet_dsl.ports import (
    Batch,
    Erasable,
    Erased,
    Item,
    Lease,
    Message,
    New,
    Observer,
    Pruned,
    QuestionRow,
    RunSummary,
    Snapshot,
    Standing,
    Written,
)
from jamjet_dsl.store import checkup, erasing, groups, leases, limits, pruning, rows
from jamjet_dsl.store.access import Access
from jamjet_dsl.store.chain import decode, encode, next_slot
from jamjet_dsl.store.checks import damaged, row_sum
from jamjet_dsl.store.connection import Durability
from jamjet_dsl.store.reading import Rows, events_of, rows_of

MOST_HEADS = 4_096
"""How many runs' rows are remembered: those that were written last."""

_SUMMARY = """SELECT r.run, r.run_id, r.token, r.last_seq, r.head, r.program, r.agent, r.parent, r.status, r.state,
  r.waiting_for, r.spent, r.wake_at_ms, r.created_ms, r.updated_ms, r.sum, p.definition, p.digest, p.sum, o.name
  FROM runs r LEFT JOIN programs p USING (program) LEFT JOIN owners o USING (owner)"""


class SqliteStore:
    """See `ports.Store`. Safe to use from several threads; several processes may open one file."""

    def __init__(
        self, path: str | Path, durability: Durability = "full", busy_ms: int = 5_000, read_only: bool = False
    ) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self._access = Access(self.path, durability, busy_ms, read_only)
        self._db = self._access.db
        self._rows, self._row, self._write = self._access.rows, self._access.row, self._access.writing
        self._heads: dict[str, rows.Head] = {}
        self.observer: Observer | None = None

    @property
    def durability(self) -> Durability:
        """What SQLite says that a commit is worth, read back from it."""
        row = self._row("PRAGMA synchronous")
        return "full" if row is not None and row[0] >= 2 else "normal"

    # ---- definitions

    def put_definition(self, digest: str, canonical: bytes, side: bytes, now_ms: int) -> str:
        if hashlib.sha256(canonical).hexdigest() != digest:
            raise ValueError("the digest is not that of the canonical bytes")
        source = source_digest(digest, side)
        if self._row("SELECT 1 FROM programs WHERE digest = ?", source):
            return source
        with self._write() as db:
            db.execute("INSERT OR IGNORE INTO definitions VALUES (?, ?, ?)", (digest, canonical, now_ms))
            (number,) = db.execute("SELECT coalesce(max(program), 0) + 1 FROM programs").fetchone()
            db.execute(
                "INSERT INTO programs VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
                (number, source, digest, side, now_ms, row_sum(number, source, digest)),
            )
        return source

    def definition(self, digest: str) -> bytes:
        row = self._row("SELECT canonical FROM definitions WHERE digest = ?", digest)
        if row is None or type(row[0]) is not bytes or hashlib.sha256(row[0]).hexdigest() != digest:
            raise JamError("JAMR107", f"the definition {digest[:12]} is missing or damaged")
        return row[0]

    def side(self, digest: str) -> bytes:
        row = self._row("SELECT definition, side FROM programs WHERE digest = ?", digest)
        if row is None or type(row[1]) is not bytes or source_digest(str(row[0]), row[1]) != digest:
            raise JamError("JAMR107", f"the sources {digest[:12]} are missing or damaged")
        return row[1]

    # ---- the journal

    def create(self, run_id: str, batch: Batch, owner: str, lease_ms: int, now_ms: int) -> Lease:
        try:
            lease, head = self._access.write(groups.create, New(run_id, batch, owner, lease_ms, now_ms))
        except rows.Spoiled as spoiled:
            raise groups.why(spoiled) from None
        self._remember({run_id: head}, {run_id: 1})
        return lease

    def append(self, lease: Lease, expected_seq: int, batch: Batch) -> None:
        # What is remembered of the run is only a guess that the update checks: it need not be forgotten on errors.
        known = self._heads.get(lease.run_id)
        try:
            head = self._access.write(rows.append, known, lease, expected_seq, batch)
        except rows.Spoiled as spoiled:
            raise groups.why(spoiled) from None
        self._remember({lease.run_id: head}, {lease.run_id: expected_seq + 1})

    def append_many(self, items: Sequence[Item]) -> list[Written]:
        group = groups.Group(items, self._heads)
        try:
            self._access.write(group.write)
        except rows.Spoiled:
            # Seldom: one of them was refused after others had begun to write, so now each can be taken back by itself.
            group = groups.Group(items, {})
            self._access.write(group.write_apart)
        self._remember(group.heads, group.firsts() if self.observer is not None else {})
        return group.results

    def _remember(self, heads: dict[str, rows.Head], firsts: dict[str, int]) -> None:
        """What was committed, and with which event it began; of those that were remembered longest as many are
        forgotten as are too many."""
        observer = self.observer
        for run_id, head in heads.items():
            if observer is not None:
                observer(run_id, firsts[run_id], head.last_seq, head.hash)
            self._heads.pop(run_id, None)
            if head.stands.status not in ENDED:
                self._heads[run_id] = head
        while len(self._heads) > MOST_HEADS:
            self._heads.pop(next(iter(self._heads)), None)

    def key_digest(self, tool: str, key: str) -> bytes | None:
        return rows.key_digest(self._row(rows.KEY, tool, key))

    def shared_use(self, who: str, counter: str, group: str, since_ms: int) -> tuple[int, Decimal]:
        return limits.used(self._rows(limits.USED, who, counter, group, since_ms), since_ms)

    def erasable(self, run_id: str) -> list[Erasable]:
        sql = "SELECT commitment, path, salt, ciphertext, nonce, key_id FROM erasable WHERE run = ?"
        found = [Erasable(*row) for row in self._rows(sql, self._run(run_id))]
        for row in found:
            # What is encrypted is checked by whoever has the key.
            if row.key_id is None and hashlib.sha256(row.salt + row.value).digest() != row.commitment:
                damaged(f"a redacted value of {run_id}")
        return found

    def erase(self, run_id: str, wanted: Callable[[str], bool], now_ms: int) -> Erased:
        run = self._run(run_id)
        with self._write() as db:
            paths = erasing.forget(db, run, run_id, wanted)
        clean = erasing.scrub(self._access)
        return Erased(run_id, tuple(sorted(set(paths))), len(paths), not clean)

    def history(self, run_id: str, after: int = 0) -> Iterator[Event]:
        return events_of(self._access, run_id, after)

    def raw(self, run_id: str) -> Rows:
        """A run's journal as it lies in the database, unchecked. Raises JamError JAMR201."""
        return rows_of(self._access, run_id)

    def is_gone(self, run_id: str) -> bool:
        """Whether the database says that a run of this id was pruned."""
        return self._row("SELECT 1 FROM gone WHERE id = ? AND what = 'run'", run_id) is not None

    def verify(self, run_id: str) -> None:
        """Check a run's hash chain from its first byte to its head, and that nothing stands after it.

        Raises JamError JAMR107.
        """
        last = 0
        for event in self.history(run_id):
            last = event.seq
        if last > self.last_seq(run_id):
            raise JamError("JAMR107", f"the journal of {run_id} goes on after its last event: events were added")

    def check(self, run_id: str | None = None) -> list[str]:
        """Everything that is wrong with the database, one sentence each: pages and indices, every journal, every sum,
        and what one table says of another. Reads all of it; with `run_id` only what there is of that run."""
        return list(checkup.problems(self._access) if run_id is None else checkup.of_run(self._access, run_id))

    def names(self) -> list[str]:
        """The ids of all runs, the oldest first, whatever state their rows are in."""
        return _names(self._rows("SELECT run_id FROM runs ORDER BY run"))

    def last_seq(self, run_id: str) -> int:
        row = self._row("SELECT last_seq FROM runs WHERE run_id = ?", run_id)
        if row is None:
            raise JamError("JAMR201", f"there is no run {run_id}")
        if type(row[0]) is not int:
            damaged(f"the row of the run {run_id}", rows.REBUILD)
        return row[0]

    def snapshot(self, run_id: str) -> Snapshot | None:
        row = self._row("SELECT seq, state FROM snapshots WHERE run = ?", self._run(run_id))
        # A snapshot is only a short cut: what is none is not there.
        return Snapshot(*row) if row and type(row[0]) is int and type(row[1]) is bytes else None

    # ---- leases

    def claim(
        self, run_id: str, owner: str, lease_ms: int, now_ms: int, dead: Callable[[str], bool] | None = None
    ) -> Lease:
        with self._write() as db:
            return leases.claim(db, run_id, owner, lease_ms, now_ms, dead)

    def claim_due(
        self,
        owner: str,
        lease_ms: int,
        now_ms: int,
        limit: int,
        dead: Callable[[str], bool] | None = None,
        skip: Collection[str] = (),
    ) -> list[Lease]:
        names = json.dumps(sorted(skip))
        with self._access.reading() as db:
            idle = not leases.lost_owners(db, owner, now_ms, dead) and not leases.due(db, now_ms, 1, names)
        if idle:
            return []
        with self._write() as db:
            return leases.claim_due(db, owner, lease_ms, now_ms, limit, dead, names)

    def renew(self, lease: Lease, lease_ms: int, now_ms: int) -> Lease:
        kept = self.renew_many([lease], lease_ms, now_ms)
        if not kept:
            raise JamError("JAMR206", f"the run {lease.run_id} was taken over")
        return kept[0]

    def renew_many(self, held: Sequence[Lease], lease_ms: int, now_ms: int) -> list[Lease]:
        with self._write() as db:
            return leases.renew(db, held, lease_ms, now_ms)

    def release(self, lease: Lease) -> None:
        with self._write() as db:
            leases.release(db, lease)

    def take_slot(self, tool: str, rates: Sequence[tuple[int, int]], now_ms: int, holder: str) -> int:
        with self._write() as db:
            longest = max(per_ms for _, per_ms in rates)
            db.execute("DELETE FROM slots WHERE tool = ? AND at_ms <= ?", (tool, now_ms - longest))
            slots = db.execute("SELECT at_ms, holder FROM slots WHERE tool = ? ORDER BY at_ms", (tool,)).fetchall()
            if any(type(at_ms) is not int for at_ms, _ in slots):
                damaged(f"a time of {tool}")
            own = next((at_ms for at_ms, who in slots if who == holder and at_ms > now_ms), None)
            if own is not None:
                return int(own)
            at_ms = next_slot([at_ms for at_ms, _ in slots], rates, now_ms)
            db.execute("INSERT INTO slots VALUES (?, ?, ?)", (tool, at_ms, holder))
        return at_ms

    def slot(self, tool: str, now_ms: int, holder: str) -> int | None:
        sql = "SELECT min(at_ms) FROM slots WHERE tool = ? AND holder = ? AND at_ms > ?"
        (found,) = self._access.row(sql, tool, holder, now_ms) or (None,)
        return None if found is None else int(found)

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
        data = encode(body)
        with self._write() as db:
            run = rows.number_in(db.execute(rows.NUMBER, (run_id,)).fetchone(), run_id)
            (status,) = db.execute("SELECT status FROM runs WHERE run = ?", (run,)).fetchone()
            if status in ENDED:
                raise JamError("JAMR204", f"the run {run_id} is {status}")
            if dedupe is not None:
                sql = "INSERT INTO dedupe VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
                total = row_sum(run, dedupe, now_ms, data)
                if db.execute(sql, (run, dedupe, now_ms, data, total)).rowcount != 1:
                    return None
            total = row_sum(run, now_ms, kind, data)
            cursor = db.execute("INSERT INTO inbox VALUES (NULL, ?, ?, ?, ?, ?)", (run, now_ms, kind, data, total))
            db.execute("UPDATE runs SET mail = mail + 1 WHERE run = ?", (run,))
            rows.keep_apart(db, run, erasable, now_ms)
            return int(cursor.lastrowid or 0)

    def deduped(self, run_id: str, dedupe: str) -> dict[str, Any] | None:
        sql = "SELECT run, key, at_ms, body, sum FROM dedupe WHERE run = ? AND key = ?"
        row = self._row(sql, self._run(run_id), dedupe)
        if row is None:
            return None
        if row_sum(*row[:4]) != row[4]:
            damaged(f"a message of {run_id}")
        return decode(row[3], run_id)

    def pending(self, run_id: str) -> list[Message]:
        found = self._rows(
            "SELECT r.run, r.mail, i.id, i.at_ms, i.kind, i.body, i.sum FROM runs r LEFT JOIN inbox i USING (run)"
            " WHERE r.run = ? ORDER BY i.id",
            self._run(run_id),
        )
        if not found:
            raise JamError("JAMR201", f"there is no run {run_id}")
        messages = [row for row in found if row[2] is not None]
        if len(messages) != found[0][1] or any(row_sum(row[0], *row[3:6]) != row[6] for row in messages):
            damaged(f"the inbox of {run_id}")
        return [Message(number, at_ms, kind, decode(body, run_id)) for _, _, number, at_ms, kind, body, _ in messages]

    def mail(self) -> set[str]:
        return set(_names(self._rows("SELECT run_id FROM runs WHERE mail > 0")))

    # ---- lists

    def summary(self, run_id: str) -> RunSummary:
        row = self._row(f"{_SUMMARY} WHERE r.run_id = ?", run_id)
        if row is None:
            raise JamError("JAMR201", f"there is no run {run_id}")
        return _summary(row)

    def summaries(self, status: Iterable[str] | None = None) -> list[RunSummary]:
        if status is None:
            return [_summary(row) for row in self._rows(f"{_SUMMARY} ORDER BY r.run")]
        wanted = tuple(status)
        marks = ", ".join("?" * len(wanted))
        going = "" if ENDED & set(wanted) else " AND r.status IN ('running', 'waiting', 'parked')"
        return [
            _summary(row)
            for row in self._rows(f"{_SUMMARY} WHERE r.status IN ({marks}){going} ORDER BY r.run", *wanted)
        ]

    def due(self, now_ms: int) -> list[str]:
        return _names(self._rows(leases.DUE, now_ms))

    def next_wake(self) -> int | None:
        row = self._row(leases.NEXT_WAKE)
        if row is not None and type(row[0]) is not int:
            damaged("the time of a run")
        return None if row is None else row[0]

    def find(self, prefix: str) -> str:
        return self._find("runs", "run_id", "run", "JAMR201", prefix)

    def find_question(self, prefix: str) -> QuestionRow:
        found = self._find("questions", "id", "question", "JAMR401", prefix)
        row = self._row(f"{rows.QUESTION} WHERE q.id = ?", found)
        if row is None:
            damaged(f"the question {found}")
        return _question(row)

    def _find(self, table: str, column: str, what: str, code: str, prefix: str) -> str:
        # All that begin with it stand together in the index, from itself to itself and the last of all characters.
        sql = (
            f"SELECT {column} FROM {table} WHERE {column} >= ?1 AND {column} <= ?1 || ?2"
            f" AND substr({column}, 1, length(?1)) = ?1 ORDER BY {column} LIMIT 4"
        )
        found = [row[0] for row in self._rows(sql, prefix, "\U0010ffff" * 4)] if _findable(prefix) else []
        if prefix in found:
            return prefix
        if not found:
            gone = (
                self._row("SELECT 1 FROM gone WHERE id = ? AND what = ?", prefix, what) if _findable(prefix) else None
            )
            raise JamError(code, f"the {what} {prefix!r} was pruned" if gone else f"there is no {what} {prefix!r}")
        if len(found) > 1:
            raise JamError("JAMR202", f"several {what}s start with {prefix!r}", details=tuple(found))
        return str(found[0])

    def questions(self, run_id: str | None = None, status: str | None = "open") -> list[QuestionRow]:
        where: list[str] = []
        values: list[Any] = []
        if run_id is not None:
            where.append("q.run = ?")
            values.append(self._run(run_id))
        if status is not None:
            where.append("q.status = 'open'" if status == "open" else "q.status = ?")
            values += [] if status == "open" else [status]
        clause = f" WHERE {' AND '.join(where)}" if where else ""
        return [_question(row) for row in self._rows(f"{rows.QUESTION}{clause} ORDER BY q.asked_ms, q.id", *values)]

    def activity(self, after: int | None) -> tuple[set[str], int]:
        row = self._row("SELECT coalesce(max(position), 0) FROM events")
        newest = int(row[0]) if row is not None else 0
        if after is None or newest <= after:
            return set(), newest
        moved = self._rows("SELECT DISTINCT r.run_id FROM events e JOIN runs r USING (run) WHERE e.position > ?", after)
        return set(_names(moved)), newest

    def changes(self) -> int:
        return self._access.version()

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
        if dry_run:
            with self._access.reading() as db:
                return pruning.candidates(db, before_ms, keep, statuses)
        with self._write() as db:
            found = pruning.candidates(db, before_ms, keep, statuses)
            pruning.forget(db, [row.run_id for row in found], now_ms)
        for row in found:
            self._heads.pop(row.run_id, None)
        return found

    def rebuild(self, run_id: str, standing: Standing) -> None:
        """Write a run's caches anew from its journal; `standing` is the fold of it."""
        run = self._run(run_id)
        events = list(self.history(run_id))
        with self._write() as db:
            checkup.rewrite(db, run, events, standing)
        self._heads.pop(run_id, None)

    def close(self) -> None:
        self._access.close()

    def _run(self, run_id: str) -> int:
        return rows.number_in(self._row(rows.NUMBER, run_id), run_id)


def source_digest(definition: str, side: bytes) -> str:
    """The digest of what stands beside a definition: it covers both."""
    return hashlib.sha256(definition.encode("utf-8", "surrogatepass") + b"\n" + side).hexdigest()


def _names(found: list[tuple[Any, ...]]) -> list[str]:
    """A column of ids."""
    if any(type(row[0]) is not str for row in found):
        damaged("the id of a run")
    return [row[0] for row in found]


def _findable(prefix: str) -> bool:
    """Whether an id may begin like this: not empty, and text that a database can be asked for."""
    return bool(prefix) and not any(0xD800 <= ord(c) <= 0xDFFF or c == "\0" for c in prefix)


def _summary(row: tuple[Any, ...]) -> RunSummary:
    head = rows.head_of(row[:16])
    if head is None or row_sum(row[5], row[17], row[16]) != row[18]:
        damaged(f"the row of the run {row[1]}", rows.REBUILD)
    stands = head.stands
    return RunSummary(
        head.place.run_id,
        head.place.agent,
        row[16],
        row[17],
        stands.status,
        stands.state,
        tuple(json.loads(stands.waiting_for)),
        head.place.created_ms,
        head.updated_ms,
        head.last_seq,
        stands.wake_at_ms,
        json.loads(stands.spent),
        row[19] or "",
        head.place.parent,
    )


def _question(row: tuple[Any, ...]) -> QuestionRow:
    number, run_id, _, state, role, status, asked, expires, option, by, closed, body, total, run = row
    if type(body) is not bytes or rows.question_sum((number, *row[2:11]), run, body) != total:
        damaged(f"the question {number}", rows.REBUILD)
    return QuestionRow(number, run_id, state, role, status, asked, expires, decode(body, run_id), option, by, closed)
