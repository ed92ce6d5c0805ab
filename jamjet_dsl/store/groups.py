"""Appends of many runs in one transaction.

Nearly always every one of them follows the row that this process wrote last, and then they are written together: all
rows by one guarded statement, all events by one (`rows.insert_events`), and after that, in order, what a few of them
bring besides. Everything that Python has to do for that is done before the transaction begins.

If one is refused after the writing has begun, or a row is not what it was, nobody can say any more whose writing is to
be taken back: then the whole group is, and is written again with a savepoint for each.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Item, Lease, New, Outdated, Written
from jamjet_dsl.store import leases, rows


class Group:
    """What is to be written, and once it is written what became of each: `results`, and `heads`, the rows as they are
    then."""

    def __init__(self, items: Sequence[Item], known: Mapping[str, rows.Head]) -> None:
        """`known` are the rows that this process wrote last."""
        self.results: list[Written] = [None] * len(items)
        self.heads: dict[str, rows.Head] = {}
        self._items = items
        self._known = known
        self._updates: dict[str, list[tuple[Any, ...]]] = {rows.HOT: [], rows.FULL: []}
        self._events: list[Any] = []
        self._late: list[tuple[int, rows.Head | None]] = []
        """What is left when rows and events are written: the number of an item, and the row before it, or None for one
        that is yet to be written as a whole."""
        self._prepare()

    def _prepare(self) -> None:
        whole: set[str] = set()
        for number, item in enumerate(self._items):
            if isinstance(item, New):
                whole.add(item.run_id)
                self._late.append((number, None))
                continue
            lease, expected_seq, batch = item
            run_id = lease.run_id
            head = self._known.get(run_id)
            if (
                head is None
                or head.token != lease.token
                or head.last_seq != expected_seq
                or batch.repin is not None
                or run_id in self.heads
                or run_id in whole
            ):
                # What comes later for the same run has to wait for this one.
                whole.add(run_id)
                self._late.append((number, None))
                continue
            try:
                after, events = rows.follow(head, head.place, batch)
            except JamError as error:
                self.results[number] = error
                continue
            statement, values = rows.update(head, after, batch)
            self._updates[statement].append(values)
            self._events += events
            self.heads[run_id] = after
            if rows.has_rest(head, after, batch):
                self._late.append((number, head))

    def write(self, db: sqlite3.Connection) -> None:
        """Write all of them. Raises Spoiled, and then nothing of the transaction may stay."""
        seen = rows.Seen()
        for statement, values in self._updates.items():
            if values and db.executemany(statement, values).rowcount != len(values):
                raise rows.Spoiled
        try:
            rows.insert_events(db, self._events)
        except sqlite3.IntegrityError as error:
            raise rows.Spoiled from error
        for number, head in self._late:
            item = self._items[number]
            if head is None or isinstance(item, New):
                self._write_one(db, number, item, seen)
            else:
                rows.write_rest(db, head, self.heads[head.place.run_id], [], item[2])

    def write_apart(self, db: sqlite3.Connection) -> None:
        """Write them one by one."""
        for number, item in enumerate(self._items):
            db.execute("SAVEPOINT item")
            try:
                self._write_one(db, number, item, rows.Seen())
            except rows.Spoiled as spoiled:
                db.execute("ROLLBACK TO item")
                self.results[number] = why(spoiled)
            db.execute("RELEASE item")

    def firsts(self) -> dict[str, int]:
        """The first event that was written of each run."""
        found: dict[str, int] = {}
        for item, result in zip(self._items, self.results, strict=True):
            if isinstance(item, New):
                if isinstance(result, Lease):
                    found[item.run_id] = 1
            elif result is None:
                found.setdefault(item[0].run_id, item[1] + 1)
        return found

    def _write_one(self, db: sqlite3.Connection, number: int, item: Item, seen: rows.Seen) -> None:
        """Write one as a whole. Raises Spoiled."""
        try:
            if isinstance(item, New):
                self.results[number], self.heads[item.run_id] = create(db, item, seen)
            else:
                lease, expected_seq, batch = item
                known = self.heads.get(lease.run_id) or self._known.get(lease.run_id)
                self.heads[lease.run_id] = rows.append(db, known, lease, expected_seq, batch)
        except JamError as error:
            self.results[number] = error


def create(db: sqlite3.Connection, new: New, seen: rows.Seen | None = None) -> tuple[Lease, rows.Head]:
    """Make a run; its lease and its row. Raises what `rows.create` raises."""
    seen = rows.Seen() if seen is None else seen
    expires_ms = new.now_ms + new.lease_ms
    owner = None if new.batch.release else seen.owners.get((new.owner, expires_ms))
    if owner is None and not new.batch.release:
        owner = seen.owners[new.owner, expires_ms] = leases.heartbeat(db, new.owner, expires_ms, new.now_ms)
    head = rows.create(db, new.run_id, new.batch, owner, seen)
    return Lease(new.run_id, new.owner, 1, expires_ms), head


def why(spoiled: rows.Spoiled) -> JamError | Outdated:
    """Why an append was refused. A row that stands where none can is damage."""
    cause = spoiled.__cause__
    if isinstance(cause, JamError | Outdated):
        return cause
    return JamError("JAMR107", f"the database was changed or damaged: {cause}")
