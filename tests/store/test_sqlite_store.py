"""What only a database on a disk can get wrong."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Draft, KeyUse, Lease, Snapshot, Standing, Store
from jamjet_dsl.store import schema
from jamjet_dsl.store.access import BUSY_AFTER
from jamjet_dsl.store.chain import args_digest
from jamjet_dsl.store.connection import CHECKPOINT_PAGES
from jamjet_dsl.store.sqlite import SqliteStore
from tests.contract.test_store_contract import DIGEST, RUNNING, append, asked, begin, code_of, moved


def fill(path: Path) -> Lease:
    store = SqliteStore(path)
    lease = begin(store)
    append(store, lease, 1, [moved(n) for n in range(1, 6)], RUNNING)
    store.close()
    return lease


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    lease = fill(tmp_path / "t.db")
    store = SqliteStore(tmp_path / "t.db")
    store.enqueue("r", "event", {"n": 1}, "k", 1)
    store.close()
    store = SqliteStore(tmp_path / "t.db")
    assert [e.seq for e in store.history("r")] == [1, 2, 3, 4, 5, 6]
    store.verify("r")
    append(store, lease, 6, [moved(6)], RUNNING)
    assert [m.body for m in store.pending("r")] == [{"n": 1}]


def test_a_long_history_is_read_page_by_page(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.db")
    lease = begin(store)
    append(store, lease, 1, [moved(n) for n in range(1, 1203)], RUNNING)
    assert [e.seq for e in store.history("r")] == list(range(1, 1204))
    assert [e.seq for e in store.history("r", after=1001)] == list(range(1002, 1204))


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    fill(tmp_path / "t.db")
    raw = sqlite3.connect(tmp_path / "t.db")
    assert raw.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
    assert raw.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
def test_durability_is_chosen_and_visible(tmp_path: Path, durability: str, level: int) -> None:
    store = SqliteStore(tmp_path / "t.db", durability=durability)  # type: ignore[arg-type]
    assert store.durability == durability
    assert store._db.execute("PRAGMA synchronous").fetchone() == (level,)


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "t.db")
    raw = sqlite3.connect(tmp_path / "t.db")
    raw.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    raw.close()
    assert code_of(lambda: SqliteStore(tmp_path / "t.db")) == "JAMR104"


def test_a_database_that_is_brought_forward_while_it_is_open_is_let_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.db")
    lease = begin(store)
    raw = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    raw.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    assert code_of(lambda: append(store, lease, 1, [moved(1)], RUNNING)) == "JAMR104"
    assert code_of(lambda: store.next_wake()) == "JAMR104"
    assert raw.execute("SELECT count(*) FROM events").fetchone() == (1,)
    raw.execute(f"PRAGMA user_version = {schema.VERSION}")
    append(store, lease, 1, [moved(1)], RUNNING)
    raw.close()


def test_text_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_text("hello, I am a text of more than a few bytes " * 40)
    assert code_of(lambda: SqliteStore(tmp_path / "t.db")) == "JAMR105"


def test_a_database_of_something_else_is_not_touched(tmp_path: Path) -> None:
    raw = sqlite3.connect(tmp_path / "t.db")
    raw.execute("CREATE TABLE users (id)")
    raw.close()
    before = (tmp_path / "t.db").read_bytes()
    assert code_of(lambda: SqliteStore(tmp_path / "t.db")) == "JAMR105"
    assert (tmp_path / "t.db").read_bytes() == before


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "t.db").touch()
    begin(SqliteStore(tmp_path / "t.db"))


def test_folders_that_are_wrong_are_named(tmp_path: Path) -> None:
    assert code_of(lambda: SqliteStore(tmp_path)) == "JAMR101"
    assert code_of(lambda: SqliteStore(tmp_path / "no" / "t.db")) == "JAMR101"
    assert code_of(lambda: SqliteStore(tmp_path / "t.db", read_only=True)) == "JAMR101"


def test_a_locked_database_is_reported_after_the_wait(tmp_path: Path) -> None:
    lease = fill(tmp_path / "t.db")
    other = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store = SqliteStore(tmp_path / "t.db", busy_ms=30)
    assert code_of(lambda: append(store, lease, 6, [moved(6)], RUNNING)) == "JAMR103"
    other.execute("ROLLBACK")
    append(store, lease, 6, [moved(6)], RUNNING)


def test_a_reader_sees_commits_while_another_writes(tmp_path: Path) -> None:
    lease = fill(tmp_path / "t.db")
    writer, reader = SqliteStore(tmp_path / "t.db"), SqliteStore(tmp_path / "t.db", read_only=True)
    before = reader.changes()
    assert reader.changes() == before
    append(writer, lease, 6, [moved(6)], RUNNING)
    assert reader.changes() != before
    assert reader.last_seq("r") == 7


def test_a_read_only_database_can_be_read_and_says_why_it_cannot_be_written(tmp_path: Path) -> None:
    lease = fill(tmp_path / "t.db")
    store = SqliteStore(tmp_path / "t.db", read_only=True)
    assert store.last_seq("r") == 6
    assert code_of(lambda: append(store, lease, 6, [moved(6)], RUNNING)) == "JAMR102"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_without_write_permission_is_read_only(tmp_path: Path) -> None:
    lease = fill(tmp_path / "t.db")
    (tmp_path / "t.db").chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        assert SqliteStore(tmp_path / "t.db", read_only=True).last_seq("r") == 6
        assert code_of(lambda: append(SqliteStore(tmp_path / "t.db"), lease, 6, [moved(6)], RUNNING)) == "JAMR102"
    finally:
        tmp_path.chmod(0o755)


def test_a_full_disk_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    lease = fill(tmp_path / "t.db")
    store = SqliteStore(tmp_path / "t.db")
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    big = Draft(1006, "moved", {"x": "y" * 100_000})
    assert code_of(lambda: append(store, lease, 6, [big], RUNNING)) == "JAMR106"
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.verify("r")
    append(store, lease, 6, [big], RUNNING)
    assert store.last_seq("r") == 7


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), '3', '4') AS BLOB) WHERE seq = 4",
        "UPDATE events SET at_ms = at_ms + 1 WHERE seq = 3",
        "DELETE FROM events WHERE seq = 6",
        "DELETE FROM events WHERE seq = 2",
        "UPDATE events SET kind = 'denied' WHERE seq = 2",
        "UPDATE events SET hash = 7 WHERE seq = 6",
    ],
)
def test_a_change_behind_the_back_of_the_store_is_found(tmp_path: Path, change: str) -> None:
    fill(tmp_path / "t.db")
    raw = sqlite3.connect(tmp_path / "t.db")
    assert raw.execute(change).rowcount == 1
    raw.commit()
    assert code_of(lambda: SqliteStore(tmp_path / "t.db").verify("r")) == "JAMR107"


def test_caches_are_rebuilt_from_the_journal(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.db")
    lease = begin(store)
    args = {"amount": "9.00 USD"}
    intent = Draft(1001, "intent", {"cmd": "#1.1", "tool": "pay", "key": "k", "args": args})
    waiting = Standing("waiting", "review", ({"kind": "question"},), 77, {"steps": 2}, ("q1",))
    append(
        store,
        lease,
        1,
        [intent, asked("q1", 1002)],
        waiting,
        keys=[KeyUse("pay", "k", args_digest(args))],
        snapshot=Snapshot(3, b"state"),
    )
    before = (store.summary("r"), store.questions(status=None), store.key_digest("pay", "k"))
    for table in ("questions", "keys", "snapshots"):
        store._db.execute(f"DELETE FROM {table}")
    store._db.execute("UPDATE runs SET status = 'x', state = 'x', spent = '{}', wake_at_ms = NULL, updated_ms = 0")
    store.rebuild("r", waiting)
    assert (store.summary("r"), store.questions(status=None), store.key_digest("pay", "k")) == before


def test_an_older_database_is_brought_forward_once(tmp_path: Path) -> None:
    fill(tmp_path / "t.db")
    raw, now = sqlite3.connect(tmp_path / "t.db", isolation_level=None), schema.VERSION

    def add_label(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE runs ADD COLUMN label TEXT")

    def fail(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE runs ADD COLUMN other TEXT")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        schema.migrate(raw, now + 2, {now + 1: add_label, now + 2: fail})
    assert raw.execute("PRAGMA user_version").fetchone() == (now + 1,)
    columns = [row[1] for row in raw.execute("PRAGMA table_info(runs)")]
    assert "label" in columns
    assert "other" not in columns
    schema.migrate(raw, now + 1, {now + 1: add_label})
    assert raw.execute("SELECT count(*) FROM events").fetchone() == (6,)


def _claim_and_write(path: str, name: str, results: multiprocessing.Queue[tuple[str, int]]) -> None:
    store = SqliteStore(path)
    written = 0
    for n in range(40):
        try:
            lease = store.claim("r", name, 0, n)
            append(store, lease, store.last_seq("r"), [Draft(5000, "moved", {"by": name})], RUNNING)
            written += 1
        except JamError as error:
            assert error.code in ("JAMR205", "JAMR206"), error  # noqa: PT017
    store.close()
    results.put((name, written))


def test_two_processes_never_write_the_same_place(tmp_path: Path) -> None:
    fill(tmp_path / "t.db")
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[tuple[str, int]] = context.Queue()
    workers = [context.Process(target=_claim_and_write, args=(str(tmp_path / "t.db"), n, results)) for n in "ab"]
    for worker in workers:
        worker.start()
    written = dict(results.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join()
    store = SqliteStore(tmp_path / "t.db")
    store.verify("r")
    assert store.last_seq("r") == 6 + sum(written.values())


def test_two_processes_may_create_the_database_at_once(tmp_path: Path) -> None:
    code = "import sys; from jamjet_dsl.store.sqlite import SqliteStore; SqliteStore(sys.argv[1]).close()"
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "t.db")]) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]


def test_the_views_can_be_read_with_any_sqlite_client(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.db")
    lease = begin(store)
    done = Draft(1002, "intent", {"cmd": "#1.1", "tool": "look", "args": {}})
    outcome = Draft(1002, "succeeded", {"cmd": "#1.1"})
    open_ = Draft(1003, "intent", {"cmd": "#2.1", "tool": "pay", "args": {}, "key": "k"})
    append(store, lease, 1, [done, outcome, open_, asked("q1", 1004)], Standing("waiting", "x", questions=("q1",)))
    store.close()
    raw = sqlite3.connect(tmp_path / "t.db")
    assert raw.execute("SELECT run_id, cmd, tool, key FROM open_intents").fetchall() == [("r", "#2.1", "pay", "k")]
    assert raw.execute("SELECT id, run_id, role FROM open_questions").fetchall() == [("q1", "r", "officer")]
    assert raw.execute("SELECT status, owner FROM run_summary").fetchall() == [("waiting", "me")]
    assert raw.execute("SELECT count(*), min(at) FROM journal").fetchone() == (5, "1970-01-01T00:00:01.000Z")


def test_spending_waiting_and_parked_runs_have_views(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.db")
    spent = {"steps": 3, "tokens": 70, "cost": "0.40 USD", "active_ms": 12}
    waits = ({"kind": "event", "name": "paid", "at_ms": None}, {"kind": "timer", "name": "#1.1/wait", "at_ms": 9_000})
    begin(store, "waits", Standing("waiting", "paying", waits, 9_000, spent))
    parked = ({"kind": "operator", "reason": "in_doubt", "cmd": "#2.1", "state": "paying"},)
    begin(store, "parked", Standing("parked", "paying", parked, None, {"steps": 1, "cost": "0"}))
    store.enqueue("waits", "event", {}, None, 1)
    store.close()
    raw = sqlite3.connect(tmp_path / "t.db")
    assert raw.execute("SELECT run_id, what, name, wakes FROM waiting_runs").fetchall() == [
        ("waits", "event", "paid", "1970-01-01T00:00:09.000Z"),
        ("waits", "timer", "#1.1/wait", "1970-01-01T00:00:09.000Z"),
    ]
    assert raw.execute("SELECT run_id, state, reason, cmd FROM parked_runs").fetchall() == [
        ("parked", "paying", "in_doubt", "#2.1")
    ]
    assert raw.execute("SELECT steps, tokens, cost, amount, currency, active_ms FROM spending").fetchall()[0] == (
        3, 70, "0.40 USD", 0.4, "USD", 12,
    )  # fmt: skip
    assert raw.execute("SELECT run_id, messages, definition FROM run_summary").fetchall()[0] == ("waits", 1, DIGEST)


def test_reading_does_not_wait_for_a_commit(tmp_path: Path) -> None:
    """While one thread holds a transaction another one reads what was committed before it."""
    store = SqliteStore(tmp_path / "t.db")
    begin(store)
    inside, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with store._access.writing() as db:
            db.execute("UPDATE runs SET mail = 7")
            inside.set()
            go_on.wait(20)
            db.execute("UPDATE runs SET mail = 0")

    thread = threading.Thread(target=write)
    thread.start()
    assert inside.wait(20)
    assert (store.last_seq("r"), store.mail(), store.pending("r")) == (1, set(), [])
    before = store.changes()
    go_on.set()
    thread.join()
    assert store.changes() != before


def test_a_log_of_full_length_is_read_to_its_last_commit(tmp_path: Path) -> None:
    """The zeros that are written ahead of the log are nothing to whoever recovers it."""
    store = SqliteStore(tmp_path / "t.db")
    lease = begin(store)
    for seq in range(1, BUSY_AFTER + 20):
        append(store, lease, seq, [moved(seq)], RUNNING)
    assert (tmp_path / "t.db-wal").stat().st_size == 32 + CHECKPOINT_PAGES * (24 + 4096)
    for end in ("", "-wal"):
        (tmp_path / f"copy.db{end}").write_bytes((tmp_path / f"t.db{end}").read_bytes())
    copy = SqliteStore(tmp_path / "copy.db")
    assert [e.hash for e in copy.history("r")] == [e.hash for e in store.history("r")]
    assert copy.last_seq("r") == BUSY_AFTER + 20
    assert copy.check() == []


def test_everything_is_looked_at(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.db")
    lease = begin(store)
    intent = Draft(1001, "intent", {"cmd": "#1.1", "tool": "pay", "key": "k", "args": {"n": 1}})
    bound = [KeyUse("pay", "k", args_digest({"n": 1}))]
    asking = Standing("waiting", "x", questions=("q1",))
    append(store, lease, 1, [intent, asked("q1", 1002)], asking, keys=bound)
    store.enqueue("r", "event", {"n": 1}, "d", 5)
    assert store.check() == []
    for change, found in {
        "UPDATE events SET at_ms = at_ms + 1 WHERE seq = 2": "changed or damaged at event",
        "UPDATE runs SET status = 'running'": "the row of the run r",
        "UPDATE runs SET mail = 2": "the inbox of r has 1 messages instead of 2",
        "DELETE FROM inbox": "the inbox of r has 0 messages",
        "UPDATE inbox SET at_ms = 6": "a message of r",
        "UPDATE dedupe SET body = '{}'": "a message of r",
        "UPDATE questions SET role = 'x'": "the question q1 of r",
        "DELETE FROM keys": "the key 'k' of r is not bound any more",
        "UPDATE keys SET run = 9": "the key 'k'",
        "UPDATE runs SET owner = 99": "driven by nobody who is known",
        "INSERT INTO snapshots VALUES (99, 1, 'x')": "1 rows of snapshots belong to no run",
    }.items():
        with store._access.writing() as db:
            db.execute("PRAGMA defer_foreign_keys = ON")
            db.execute("SAVEPOINT change")
            db.execute(change)
            said = store.check()
            db.execute("ROLLBACK TO change")
        assert any(found in line for line in said), (change, said)
    assert store.check() == []


def test_opening_a_database_that_exists_imports_no_sqlite_utils(tmp_path: Path) -> None:
    code = (
        "import sys; from jamjet_dsl.store.sqlite import SqliteStore; SqliteStore(sys.argv[1]).close();"
        "assert not {'sqlite_utils', 'pydantic'} & set(sys.modules)"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "t.db")], check=True)


def as_store(store: SqliteStore) -> Store:
    """The protocol fits, which mypy checks here."""
    return store
