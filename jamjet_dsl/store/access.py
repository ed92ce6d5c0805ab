"""A database file that is open: one connection writes, another reads while the first one is busy."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.store.connection import CHECKPOINT_PAGES, FAILURES, Durability, check_version, connect, refuse

P = ParamSpec("P")
T = TypeVar("T")

BUSY_AFTER = 20
"""A process that has committed so often is going to commit more."""


class Access:
    """Safe to use from several threads. Reads never wait for a commit that is on its way to the disk: they take the
    writing connection, whose pages are in memory, when nobody writes, and else a connection of their own."""

    def __init__(self, path: Path, durability: Durability, busy_ms: int, read_only: bool) -> None:
        self.path = path
        self._how: tuple[Durability, int, bool] = (durability, busy_ms, read_only)
        self._lock = threading.RLock()
        self.db = connect(path, *self._how)
        self._second_lock = threading.Lock()
        self._second: sqlite3.Connection | None = None
        self._closed = False
        self._name = str(path)
        self._commits = 0
        self._file = self._identity()

    def _make_room(self, db: sqlite3.Connection) -> None:
        """Let the log have its full length from the start: a sync of a file that grows costs the disk twice as much as
        one of a file that is overwritten, and the log is overwritten from its second round on.

        Only the holder of the write lock appends to the log, and SQLite ends reading it at the first frame that has
        no valid header: zeros after the last one are nothing to it.
        """
        page = int(db.execute("PRAGMA page_size").fetchone()[0])
        wanted = 32 + CHECKPOINT_PAGES * (24 + page)
        with suppress(OSError), open(f"{self.path}-wal", "r+b", buffering=0) as log:
            length = log.seek(0, os.SEEK_END)
            try:
                for start in range(length, wanted, 1 << 20):
                    log.write(bytes(min(wanted - start, 1 << 20)))
            except OSError:
                # On a disk that is nearly full others need the room more.
                log.truncate(length)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that takes the write lock at once: it never fails half way for want of it.

        Raises JamError JAMR1xx; nothing was written then.
        """
        with self._lock:
            try:
                self._begin()
                yield self.db
                self.db.execute("COMMIT")
            except BaseException as error:
                self._take_back(error)
                raise

    @contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """The writing connection outside of a transaction, without a reader of this process: for what SQLite does to
        the whole file. Raises JamError JAMR1xx."""
        with self._second_lock, self._lock:
            if self._second is not None:
                self._second.close()
                self._second = None
            try:
                yield self.db
            except FAILURES as error:
                refuse(error, str(self.path))

    def write(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **named: P.kwargs) -> T:
        """What `work` gives, done in a transaction as that of `writing`: a context manager costs a single append as
        much as sealing an event."""
        with self._lock:
            try:
                self._begin()
                done = work(self.db, *args, **named)
                self.db.execute("COMMIT")
            except BaseException as error:
                self._take_back(error)
                raise
        return done

    def _begin(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self._check_place()
        self._present(self.db)
        self._commits += 1
        if self._commits == BUSY_AFTER:
            self._make_room(self.db)

    def _present(self, db: sqlite3.Connection) -> sqlite3.Connection:
        """A newer process may have brought the database forward while this one had it open: then it is not ours to
        read or to write any more. Raises JamError JAMR104."""
        check_version(db, self.path)
        return db

    def _take_back(self, error: BaseException) -> None:
        """End a transaction that failed. Ctrl-C may come anywhere: nothing may stay open for the next call to trip
        over. Raises the coded error for what SQLite reported."""
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
        if isinstance(error, FAILURES):
            refuse(error, str(self.path))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for queries. Raises JamError JAMR1xx."""
        try:
            if self._lock.acquire(blocking=False):
                try:
                    yield self._present(self.db)
                finally:
                    self._lock.release()
            else:
                with self._second_lock:
                    yield self._present(self._reader())
        except FAILURES as error:
            refuse(error, str(self.path))

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query gives, all of one moment. Raises JamError JAMR1xx."""
        with self.reading() as db:
            return db.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        """The first row of what a query gives."""
        rows = self.rows(sql, *values)
        return rows[0] if rows else None

    def version(self) -> int:
        """A number that is another one after every commit, of whichever connection."""
        try:
            with self._second_lock:
                # SQLite counts the commits of others: the connection that is asked must be one that never writes.
                return int(self._reader().execute("PRAGMA data_version").fetchone()[0])
        except FAILURES as error:
            refuse(error, str(self.path))

    def close(self) -> None:
        """Close both connections; the last one of all processes moves the log into the database."""
        with self._second_lock:
            self._closed = True
            if self._second is not None:
                self._second.close()
        with self._lock:
            self.db.close()

    def _reader(self) -> sqlite3.Connection:
        if self._second is None:
            if self._closed:
                raise sqlite3.ProgrammingError("it is closed")
            self._second = connect(self.path, *self._how)
        return self._second

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._name)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _check_place(self) -> None:
        """SQLite goes on writing to a file that was deleted or moved; all of that would be lost with the process."""
        if self._identity() != self._file:
            help = "put the file back where it was and resume; nothing that was committed is lost in it"
            raise JamError("JAMR101", f"{self.path} was deleted, moved or replaced while it was open", help)
