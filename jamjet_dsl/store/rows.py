"""Writing what an append brings: the run's row, its events, and what hangs on them. Inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple
from zlib import crc32

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Batch, Erasable, KeyConflict, KeyUse, Lease, Outdated, Standing
from jamjet_dsl.store import limits
from jamjet_dsl.store.chain import GENESIS, PRUNED_ID, Sealed, check_run_id, dumps, seal
from jamjet_dsl.store.checks import damaged, row_sum

REBUILD = "`jam doctor --rebuild RUN` writes it anew from the journal; or restore the database from a backup"

HOT = (
    "UPDATE runs SET last_seq = ?, head = ?, state = ?, spent = ?, updated_ms = ?, sum = ?"
    " WHERE run = ? AND token = ? AND last_seq = ? AND head = ?"
)
"""For a step in the middle of a run's work: no index is touched."""
FULL = (
    "UPDATE runs SET last_seq = ?, head = ?, state = ?, spent = ?, updated_ms = ?, sum = ?,"
    " status = ?, waiting_for = ?, wake_at_ms = ?, program = ?, mail = mail - ?,"
    " owner = CASE WHEN ? THEN NULL ELSE owner END"
    " WHERE run = ? AND token = ? AND last_seq = ? AND head = ?"
)
_CREATE = "INSERT INTO runs VALUES (?, ?, 1, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = 6
_SIZES = (128, 64, 32, 16, 8, 7, 6, 5, 4, 3, 2, 1)
_EVENTS = {
    size: "INSERT INTO events (run, seq, at_ms, kind, body, hash) VALUES "
    + ", ".join(["(?, ?, ?, ?, CAST(? AS BLOB), nullif(?, ''))"] * size)
    for size in _SIZES
}
"""By how many events. A statement for many costs less than as many statements; the largest has fewer than the 999
parameters that every SQLite takes. Parameters are text, numbers and bytearrays: for any other, bytes and None among
them, Python's module looks for an adapter each time, and that costs as much as hashing an event."""
_RUN = (
    "SELECT run, run_id, token, last_seq, head, program, agent, parent, status, state, waiting_for, spent, wake_at_ms,"
    " created_ms, updated_ms, sum FROM runs WHERE run_id = ?"
)
_NONE: frozenset[str] = frozenset()


class Stands(NamedTuple):
    """The columns of a run that a `Standing` becomes."""

    status: str
    state: str
    waiting_for: str
    spent: str
    wake_at_ms: int | None

    @classmethod
    def of(cls, standing: Standing) -> Stands:
        """Their texts."""
        waiting_for = dumps(standing.waiting_for) if standing.waiting_for else "[]"
        return cls(standing.status, standing.state, waiting_for, dumps(standing.spent or {}), standing.wake_at_ms)


class Place(NamedTuple):
    """What of a run's row does not change from step to step. `sum` is the checksum of it."""

    run: int
    run_id: str
    agent: str
    parent: str | None
    created_ms: int
    program: int
    sum: int

    @classmethod
    def of(cls, run: int, run_id: str, agent: str, parent: str | None, created_ms: int, program: int) -> Place:
        """The columns with their checksum."""
        total = row_sum(run, run_id, agent, parent, created_ms, program)
        return cls(run, run_id, agent, parent, created_ms, program, total)


class Head(NamedTuple):
    """A run's row as the last append of this process left it: the next one needs not read it, only compare.

    `questions` are the ids of those that are open.
    """

    place: Place
    token: int
    last_seq: int
    hash: str
    stands: Stands
    updated_ms: int
    questions: frozenset[str]

    @property
    def sum(self) -> int:
        """The checksum of the row. Owner, token and mail are not in it: `checkup` compares them with other tables."""
        status, state, waiting_for, spent, wake_at_ms = self.stands
        text = (
            f"{self.last_seq!r}\n{self.hash}\n{self.updated_ms!r}\n{wake_at_ms!r}\n"
            f"{status!r}\n{state!r}\n{waiting_for!r}\n{spent!r}"
        )
        return crc32(text.encode("utf-8", "surrogatepass"), self.place.sum)


NUMBER = "SELECT r.run, (SELECT x.run_id FROM runs x WHERE x.run = r.run) FROM runs r WHERE r.run_id = ?"
"""A run's number by the index of ids, and the id in the row of that number: a damaged index may lead to another run."""


def number_in(found: tuple[Any, ...] | None, run_id: str) -> int:
    """The number in what `NUMBER` gave. Raises JamError JAMR201, JAMR107."""
    if found is None:
        raise JamError("JAMR201", f"there is no run {run_id}")
    if found[1] != run_id:
        damaged(f"the list of runs, at {run_id},")
    return int(found[0])


def read_head(db: sqlite3.Connection, run_id: str) -> Head:
    """A run's row, checked. Raises JamError JAMR201, JAMR107."""
    row = db.execute(_RUN, (run_id,)).fetchone()
    if row is None:
        raise JamError("JAMR201", f"there is no run {run_id}")
    head = head_of(row)
    if head is None:
        damaged(f"the row of the run {run_id}", REBUILD)
    found = db.execute("SELECT id FROM questions WHERE run = ? AND status = 'open'", (head.place.run,))
    return head._replace(questions=frozenset(row[0] for row in found))


def head_of(row: tuple[Any, ...]) -> Head | None:
    """The columns of `_RUN` as a head; None where they do not fit their sum."""
    run, run_id, token, last_seq, own, program, agent, parent, *stands, created_ms, updated_ms, total = row
    if type(own) is not bytes:
        return None
    place = Place.of(run, run_id, agent, parent, created_ms, program)
    head = Head(place, token, last_seq, own.hex(), Stands(*stands), updated_ms, _NONE)
    return head if head.sum == total else None


class Seen:
    """What the makers of several runs in one transaction need to look up once only. Good until something of that
    transaction is taken back."""

    def __init__(self) -> None:
        self.last_run: int | None = None
        self.programs: dict[str, int] = {}
        self.owners: dict[tuple[str, int], int] = {}


_TAKEN = "SELECT 1 FROM runs WHERE run_id = ?1 UNION ALL SELECT 2 FROM gone WHERE id = ?1 AND what = 'run'"
_LAST_RUN = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'runs'"


def create(db: sqlite3.Connection, run_id: str, batch: Batch, owner: int | None, seen: Seen) -> Head:
    """Make a run with its first events.

    Raises JamError JAMR203 (an id that is or was taken), 207, 107, 003, 302 with nothing written, and Spoiled.
    """
    check_run_id(run_id)
    taken = db.execute(_TAKEN, (run_id,)).fetchone()
    if taken is not None and taken[0] == 1:
        raise JamError("JAMR203", f"the run {run_id} exists")
    if taken is not None:
        raise JamError("JAMR203", f"{run_id} was the id of a run that was pruned", PRUNED_ID)
    first, sealed = batch.drafts[0], seal(run_id, 0, GENESIS, batch.drafts)
    # The number is taken before the row is written, since it is part of the row's sum.
    last_run = int(db.execute(_LAST_RUN).fetchone()[0]) if seen.last_run is None else seen.last_run
    agent, parent, source = first.body["agent"], first.body.get("parent"), first.body["source"]
    program = seen.programs.get(source)
    if program is None:
        program = seen.programs[source] = program_of(db, source)
    place = Place.of(last_run + 1, run_id, agent, parent, first.at_ms, program)
    head, events = _after(place, 1, sealed, batch.standing)
    fixed = (place.run, run_id, owner, head.last_seq, bytes.fromhex(head.hash), program, agent, parent)
    db.execute(_CREATE, (*fixed, *head.stands, first.at_ms, head.updated_ms, head.sum))
    seen.last_run = place.run
    write_rest(db, None, head, events, batch)
    return head


def program_of(db: sqlite3.Connection, source: str) -> int:
    """The number of a stored program. Raises JamError JAMR107 where there is none."""
    row = db.execute("SELECT program, digest, definition, sum FROM programs WHERE digest = ?", (source,)).fetchone()
    if row is None or row_sum(*row[:3]) != row[3]:
        raise JamError("JAMR107", f"the sources {source[:12]} are missing or damaged")
    return int(row[0])


class Spoiled(Exception):
    """An append was refused after it had begun to write: whoever holds the transaction takes it back. `__cause__` says
    why."""


def append(db: sqlite3.Connection, known: Head | None, lease: Lease, expected_seq: int, batch: Batch) -> Head:
    """One run's append. `known` is its row as this process wrote it last, if it did: then one guarded update says
    whether it still is so. Returns the row as it is now.

    Raises JamError (JAMR201, 206, 107, 003, 302) with nothing written, and Spoiled.
    """
    if known is not None and known.token == lease.token and known.last_seq == expected_seq:
        after = _append_to(db, known, batch)
        if after is not None:
            return after
    head = read_head(db, lease.run_id)
    if (head.token, head.last_seq) != (lease.token, expected_seq):
        raise JamError("JAMR206", f"the run {lease.run_id} is driven by another process now")
    after = _append_to(db, head, batch)
    if after is None:
        damaged(f"the row of the run {lease.run_id}")
    return after


def _append_to(db: sqlite3.Connection, head: Head, batch: Batch) -> Head | None:
    """Write what follows `head`; None, and nothing was written, if the run is not there any more."""
    place = head.place
    if batch.repin is not None and batch.drafts:
        place = Place.of(*place[:5], program_of(db, batch.repin[1]))
    after, events = follow(head, place, batch)
    statement, values = update(head, after, batch)
    if db.execute(statement, values).rowcount != 1:
        return None
    write_rest(db, head, after, events, batch)
    return after


def follow(head: Head, place: Place, batch: Batch) -> tuple[Head, list[Any]]:
    """The row that a batch makes of `head`, and its events as `insert_events` takes them. Raises JamError JAMR003,
    JAMR302."""
    if not batch.drafts:
        return head, []
    sealed = seal(place.run_id, head.last_seq, head.hash, batch.drafts)
    return _after(place, head.token, sealed, batch.standing)


def _after(place: Place, token: int, sealed: list[Sealed], standing: Standing) -> tuple[Head, list[Any]]:
    """The row after these events, and they as `insert_events` takes them: only the last one's hash is stored."""
    run = place.run
    events: list[Any] = []
    for seq, at_ms, kind, body, _ in sealed:
        events += (run, seq, at_ms, kind, body, "")
    last_seq, updated_ms, _, _, own = sealed[-1]
    events[-1] = bytearray.fromhex(own)
    questions = frozenset(standing.questions) if standing.questions else _NONE
    return Head(place, token, last_seq, own, Stands.of(standing), updated_ms, questions), events


def update(head: Head, after: Head, batch: Batch) -> tuple[str, tuple[Any, ...]]:
    """The guarded update of the run's row from `head` to `after`: it changes one row, or none if the row is another."""
    place, token, last_seq, own, old, _, _ = head
    new = after.stands
    hot = (after.last_seq, bytearray.fromhex(after.hash), new.state, new.spent, after.updated_ms, after.sum)
    guard = (place.run, token, last_seq, bytearray.fromhex(own))
    if (
        batch.consumed
        or batch.release
        or after.place is not place
        or (new.status, new.waiting_for, new.wake_at_ms) != (old.status, old.waiting_for, old.wake_at_ms)
    ):
        more = (new.status, new.waiting_for, new.wake_at_ms, after.place.program, len(batch.consumed), batch.release)
        return FULL, hot + more + guard
    return HOT, hot + guard


def insert_events(db: sqlite3.Connection, values: list[Any]) -> None:
    """Write events: for each of them run, seq, at_ms, kind, text of the body, and the hash or ""."""
    start, left = 0, len(values) // _COLUMNS
    while left:
        size = next(size for size in _SIZES if size <= left)
        end = start + size * _COLUMNS
        db.execute(_EVENTS[size], values[start:end])
        start, left = end, left - size


def has_rest(head: Head, after: Head, batch: Batch) -> bool:
    """Whether an append brings more than its events and the run's row."""
    return bool(
        batch.keys
        or batch.uses
        or batch.erasable
        or batch.consumed
        or batch.snapshot is not None
        or _concerns_questions(head, after, batch)
    )


def _concerns_questions(head: Head | None, after: Head, batch: Batch) -> bool:
    """Whether questions may have been opened or closed."""
    if not batch.drafts:
        return False
    open_before = head is not None and head.questions
    return bool(open_before or after.questions or "asked" in [draft.kind for draft in batch.drafts])


def write_rest(db: sqlite3.Connection, head: Head | None, after: Head, events: list[Any], batch: Batch) -> None:
    """What follows the run's row: events, and what else the batch brings. `head` is the row before, None for a new run.
    Raises Spoiled."""
    try:
        insert_events(db, events)
        _write_batch(db, head, after, batch)
    except (JamError, Outdated, sqlite3.IntegrityError) as error:
        raise Spoiled from error


def _write_batch(db: sqlite3.Connection, head: Head | None, after: Head, batch: Batch) -> None:
    run, drafts = after.place.run, batch.drafts
    for use in batch.keys:
        bind_key(db, use, run)
    if batch.uses:
        limits.count(db, run, batch.uses)
    keep_apart(db, run, batch.erasable, after.updated_ms)
    for message in batch.consumed:
        if db.execute("DELETE FROM inbox WHERE id = ? AND run = ?", (message, run)).rowcount != 1:
            raise JamError("JAMR206", "a message was taken by another process")
    if _concerns_questions(head, after, batch):
        first = after.last_seq - len(drafts) + 1
        write_questions(db, run, [(seq, *draft) for seq, draft in enumerate(drafts, first)], batch.standing)
    if batch.snapshot is not None:
        place = (run, batch.snapshot.seq, batch.snapshot.state)
        db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", place)


def keep_apart(db: sqlite3.Connection, run: int, values: Iterable[Erasable], now_ms: int) -> None:
    """Write the values that a run's journal, or a message to it, commits to."""
    for row in values:
        place = (row.commitment, run, row.path, row.salt, row.value, row.nonce, row.key_id, now_ms)
        db.execute("INSERT INTO erasable VALUES (?, ?, ?, ?, ?, ?, ?, ?)", place)


def bind_key(db: sqlite3.Connection, use: KeyUse, run: int) -> None:
    """Bind a declared key to its arguments. Raises KeyConflict if it is bound to others."""
    total = row_sum(use.tool, use.key, run, use.args_digest)
    added = db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", (*use, run, total)).rowcount
    if added != 1 and key_digest(db.execute(KEY, (use.tool, use.key)).fetchone()) != use.args_digest:
        raise KeyConflict(use)


KEY = "SELECT tool, key, run, args_digest, sum FROM keys WHERE tool = ? AND key = ?"


def key_digest(row: tuple[Any, ...] | None) -> bytes | None:
    """The digest in a row of `KEY`. Raises JamError JAMR107."""
    if row is None:
        return None
    if row_sum(*row[:4]) != row[4]:
        damaged(f"the key {row[1]!r}", REBUILD)
    return bytes(row[3])


# ---- questions

QUESTION = """SELECT q.id, r.run_id, q.seq, q.state, q.role, q.status, q.asked_ms, q.expires_ms, q.option, q.by,
  q.closed_ms, e.body, q.sum, q.run FROM questions q JOIN runs r USING (run)
  LEFT JOIN events e ON e.run = q.run AND e.seq = q.seq"""


def question_sum(row: Iterable[Any], run: int, body: bytes) -> int:
    """The checksum of a question: id, seq, state, role, status, asked_ms, expires_ms, option, by, closed_ms, and the
    body of its event, which people read before they decide."""
    return row_sum(run, *row, body)


def write_questions(
    db: sqlite3.Connection, run: int, events: Iterable[tuple[int, int, str, dict[str, Any]]], standing: Standing
) -> None:
    """Open and close questions as the events (seq, at_ms, kind, body) say; whatever `standing` does not name is
    closed."""
    at_ms = 0
    for seq, at_ms, kind, body in events:
        match kind:
            case "asked":
                _ask(db, run, seq, at_ms, body, standing)
            case "answered" if body["question"] not in standing.questions:  # else it takes more than one answer
                _close(db, run, body["question"], "answered", at_ms, body["option"], body.get("by"))
            case "expired":
                _close(db, run, body["question"], "expired", at_ms)
    for (name,) in db.execute("SELECT id FROM questions WHERE run = ? AND status = 'open'", (run,)).fetchall():
        if name not in standing.questions:
            _close(db, run, name, "closed", at_ms)


def _ask(db: sqlite3.Connection, run: int, seq: int, at_ms: int, body: dict[str, Any], standing: Standing) -> None:
    name = body["question"]
    taken = db.execute("SELECT 1 FROM gone WHERE id = ? AND what = 'question'", (name,)).fetchone()
    place = (body.get("state", standing.state), body.get("role", ""), "open", at_ms, body.get("expires_at_ms"))
    row = (name, run, seq, *place, None, None, None, 0)
    sql = "INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    if taken or db.execute(sql, row).rowcount != 1:
        raise JamError("JAMR208", f"the id {name} was given to a question before")
    _sum_question(db, name)


def _close(
    db: sqlite3.Connection, run: int, name: str, status: str, at_ms: int, option: str | None = None, by: Any = None
) -> None:
    sql = (
        "UPDATE questions SET status = ?, closed_ms = ?, option = ?, by = ?"
        " WHERE id = ? AND run = ? AND status = 'open'"
    )
    if db.execute(sql, (status, at_ms, option, by, name, run)).rowcount:
        _sum_question(db, name)


def _sum_question(db: sqlite3.Connection, name: str) -> None:
    row = db.execute(f"{QUESTION} WHERE q.id = ?", (name,)).fetchone()
    own, _, *rest = row[:11]
    total = question_sum((own, *rest), row[13], row[11])
    db.execute("UPDATE questions SET sum = ? WHERE id = ?", (total, name))
