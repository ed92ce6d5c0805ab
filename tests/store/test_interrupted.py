"""Calls that are interrupted between any two statements: by an exception, by an error of the disk, by SIGKILL. Either
all of a call was written or nothing, and the store goes on."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Batch, Draft, Erasable, KeyUse, Lease, New, Snapshot, Standing
from jamjet_dsl.store.sqlite import SqliteStore
from tests.contract.test_store_contract import RUNNING, append, asked, begin, first, moved

MOST = 200
"""More statements than any call makes."""


class Interrupted(BaseException):
    """Not even an `Exception`: what Ctrl-C is."""


class Fragile:
    """A connection that fails before its statement number `at`, counted from the `BEGIN` of a transaction."""

    def __init__(self, db: sqlite3.Connection, at: int, how: Callable[[], None]) -> None:
        self._db, self._left, self._how, self._counting = db, at, how, False

    def _count(self, sql: str) -> None:
        self._counting = self._counting or sql.startswith("BEGIN")
        if not self._counting or sql == "ROLLBACK":
            return
        self._left -= 1
        if self._left == 0:
            self._how()

    def execute(self, sql: str, *values: Any) -> Any:
        self._count(sql)
        return self._db.execute(sql, *values)

    def executemany(self, sql: str, *values: Any) -> Any:
        self._count(sql)
        return self._db.executemany(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def full_batch(question: str) -> Batch:
    """Something for every table."""
    return Batch(
        [moved(1), asked(question, 1002), moved(3)],
        Standing("waiting", "x", ({"kind": "question"},), 7_000, {"steps": 1}, (question,)),
        keys=[KeyUse("pay", question, b"a" * 32)],
        erasable=[Erasable(hashlib.sha256(b"s" + question.encode()).digest(), "p", b"s", question.encode())],
        snapshot=Snapshot(1, b"state"),
        release=True,
    )


def prepare(path: Path) -> dict[str, Lease]:
    store = SqliteStore(path, "normal")
    leases = {name: begin(store, name) for name in ("one", "two", "done")}
    number = store.enqueue("one", "event", {"n": 1}, "k", 5)
    assert number is not None
    end = Draft(1_001, "finished", {"status": "completed"})
    append(store, leases["done"], 1, [asked("q0"), end], Standing("completed", "x"), release=True)
    store.close()
    return leases


def _append(store: SqliteStore, leases: dict[str, Lease]) -> None:
    store.append(leases["one"], 1, full_batch("q1")._replace(consumed=[m.id for m in store.pending("one")]))


def _append_many(store: SqliteStore, leases: dict[str, Lease]) -> None:
    stale = (leases["done"], 99, Batch([moved(1)], RUNNING))
    late = (leases["two"], 4, Batch([asked("q2")], RUNNING))
    new = New("new", Batch([first(store), moved(1)], RUNNING), "me", 10, 1_000)
    store.append_many([(leases["one"], 1, full_batch("q1")), stale, (leases["two"], 1, full_batch("q2")), late, new])


CALLS: dict[str, Callable[[SqliteStore, dict[str, Lease]], Any]] = {
    "append": _append,
    "append_many": _append_many,
    "create": lambda store, _: begin(store, "new"),
    "enqueue": lambda store, _: store.enqueue("one", "event", {"n": 2}, "k2", 6),
    "claim": lambda store, _: store.claim("one", "you", 10, 50_000),
    "claim_due": lambda store, _: store.claim_due("you", 10, 50_000, 5),
    "renew": lambda store, leases: store.renew_many(list(leases.values()), 10, 50_000),
    "release": lambda store, leases: store.release(leases["one"]),
    "prune": lambda store, _: store.prune(now_ms=60_000),
    "take_slot": lambda store, _: store.take_slot("t", [(1, 10)], 1, "a"),
}
TABLES = ("runs", "owners", "events", "questions", "inbox", "dedupe", "keys", "slots", "snapshots", "erasable", "gone")


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    raw = sqlite3.connect(path)
    found = {table: raw.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES}
    raw.close()
    return found


def fails() -> None:
    raise Interrupted


def disk_fails() -> None:
    raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize("how", [fails, disk_fails])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_interrupted_has_written_nothing(tmp_path: Path, name: str, how: Callable[[], None]) -> None:
    path = tmp_path / "t.db"
    leases = prepare(path)
    before = contents(path)
    store = SqliteStore(path, "normal")
    whole = store._access.db
    for at in range(1, MOST):
        store._access.db = Fragile(whole, at, how)  # type: ignore[assignment]
        try:
            CALLS[name](store, leases)
        except (Interrupted, JamError):
            assert not whole.in_transaction
            assert contents(path) == before, f"after statement {at - 1}"
            continue
        break
    else:
        pytest.fail("it never came to its end")
    assert at > 3
    assert contents(path) != before
    store._access.db = whole
    assert store.check() == []


def killed(path: Path, leases: dict[str, Lease], name: str, at: int) -> bool:
    """Carry out a call in another process that dies before its statement number `at`. False if it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            store = SqliteStore(path, "normal")
            store._access.db = Fragile(store._access.db, at, lambda: os.kill(os.getpid(), signal.SIGKILL))  # type: ignore[assignment]
            CALLS[name](store, leases)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize("name", ["append", "append_many", "prune"])
def test_a_process_that_is_killed_within_a_call_has_written_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.db"
    leases = prepare(path)
    before = contents(path)
    at = 1
    while killed(path, leases, name, at):
        assert contents(path) == before, f"after statement {at - 1}"
        at += 1
    assert at > 5
    assert contents(path) != before
    assert SqliteStore(path, "normal").check() == []


class Counted:
    """A connection that counts what it is asked for."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self.statements = db, list[str]()

    def execute(self, sql: str, *values: Any) -> Any:
        self.statements.append(sql)
        return self._db.execute(sql, *values)

    def executemany(self, sql: str, *values: Any) -> Any:
        self.statements.append(sql)
        return self._db.executemany(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def test_a_group_is_written_with_few_statements_however_large(tmp_path: Path) -> None:
    """Unless one of them is refused after the writing has begun."""
    store = SqliteStore(tmp_path / "t.db", "normal")
    leases = [begin(store, f"r{n}") for n in range(255)]
    store.append_many([(lease, 1, Batch([moved(1)], RUNNING)) for lease in leases])
    counted = store._access.db = Counted(store._access.db)  # type: ignore[assignment]
    waiting = Standing("waiting", "x")
    batches = [Batch([moved(2)], waiting if n % 2 else RUNNING) for n in range(255)]
    written = store.append_many([(lease, 2, batch) for lease, batch in zip(leases, batches, strict=True)])
    assert written == [None] * 255
    # Begin, the version, the rows that only go on, those that change their standing, 128 + 64 + 32 + 16 + 8 + 7
    # events, commit.
    assert len(counted.statements) == 4 + 6 + 1
    counted.statements.clear()
    store.claim("r7", "you", 10, 50_000)
    results = store.append_many([(lease, 3, Batch([moved(3)], RUNNING)) for lease in leases])
    assert [n for n, result in enumerate(results) if result is not None] == [7]
    assert counted.statements.count("SAVEPOINT item") == 255
    assert store.check() == []


@pytest.mark.parametrize("count", [*range(1, 20), 31, 127, 128, 129, 255, 300])
def test_an_append_may_have_any_number_of_events(tmp_path: Path, count: int) -> None:
    store = SqliteStore(tmp_path / "t.db", "normal")
    lease = begin(store)
    append(store, lease, 1, [moved(n) for n in range(count)], RUNNING)
    assert [e.body["n"] for e in list(store.history("r"))[1:]] == list(range(count))
    store.verify("r")
    assert store.check() == []


def test_what_is_remembered_of_a_run_is_checked_against_the_file(tmp_path: Path) -> None:
    """A row that changed behind the back of the process is read anew, or refused; never written over."""
    store = SqliteStore(tmp_path / "t.db")
    lease = begin(store)
    append(store, lease, 1, [moved(1)], RUNNING)
    other = SqliteStore(tmp_path / "t.db")
    append(other, lease, 2, [moved(2)], Standing("waiting", "x"))
    with pytest.raises(JamError):
        append(store, lease, 2, [moved(3)], RUNNING)
    append(store, lease, 3, [moved(3)], Standing("waiting", "y"))
    store.verify("r")
    assert store.summary("r").state == "y"
    for run in range(5_000):
        store._heads[f"other{run}"] = store._heads["r"]
    append(store, lease, 4, [moved(4)], RUNNING)
    assert len(store._heads) <= 4_096
    assert store.check() == []
