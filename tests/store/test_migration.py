"""A database of an older version opens, keeps everything, and goes on. `version1.sql` is the dump of one that the
code of commit 922875d wrote: a run that ended, one that waits for an answer, and one whose driver died with mail."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Batch, Draft, KeyConflict, KeyUse, Standing
from jamjet_dsl.store import schema
from jamjet_dsl.store.sqlite import SqliteStore

DUMP = Path(__file__).with_name("version1.sql")
RUNS = ("ends", "waits", "answered")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "jam.db"
    raw = sqlite3.connect(path, isolation_level=None)
    raw.executescript(DUMP.read_text())
    raw.close()
    return path


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    raw = sqlite3.connect(path)
    found = raw.execute(sql).fetchall()
    raw.close()
    return found


def test_every_journal_is_what_it_was_to_the_last_hash(old: Path) -> None:
    before = rows(
        old, "SELECT r.run_id, e.seq, e.at_ms, e.kind, lower(hex(e.hash)) FROM events e JOIN runs r USING (run)"
    )
    store = SqliteStore(old)
    after = [(e.run_id, e.seq, e.at_ms, e.kind, e.hash) for run_id in RUNS for e in store.history(run_id)]
    assert sorted(after) == sorted(before)
    assert store.check() == []
    assert rows(old, "PRAGMA user_version") == [(schema.VERSION,)]


def test_what_stood_beside_the_journals_is_there(old: Path) -> None:
    held = rows(old, "SELECT tool, key, args_digest FROM keys")
    opened = rows(old, "SELECT id, status, option, by, closed_ms FROM questions ORDER BY id")
    digests = rows(old, "SELECT run_id, definition, source FROM runs ORDER BY run_id")
    store = SqliteStore(old)
    assert [(s.run_id, s.status) for s in store.summaries()] == [
        ("ends", "completed"),
        ("waits", "waiting"),
        ("answered", "waiting"),
    ]
    assert [(s.run_id, s.definition, s.source) for s in sorted(store.summaries(), key=lambda s: s.run_id)] == digests
    assert [
        (q.id, q.status, q.option, q.by, q.closed_ms) for q in sorted(store.questions(status=None), key=by_id)
    ] == opened
    assert [store.key_digest(tool, key) for tool, key, _ in held] == [digest for _, _, digest in held]
    assert [m.kind for m in store.pending("answered")] == ["answer"]
    assert store.deduped("answered", "event:k1") == store.pending("answered")[0].body
    assert store.mail() == {"answered"}
    assert store.summary("answered").owner == "old:1/42/7/cafe"
    for run_id in RUNS:
        (value,) = store.erasable(run_id)
        assert (value.path, value.value) == ("secret_word", b'"swordfish"')


def by_id(row: Any) -> str:
    return str(row.id)


def test_leases_of_the_old_version_still_fence(old: Path) -> None:
    token = rows(old, "SELECT token FROM leases JOIN runs USING (run) WHERE run_id = 'answered'")[0][0]
    store = SqliteStore(old)
    with pytest.raises(JamError) as caught:
        store.claim("answered", "me", 10_000, 1795390681001)
    assert caught.value.code == "JAMR205"
    lease = store.claim("answered", "me", 10_000, 1795390681001, dead=lambda owner: owner.startswith("old:"))
    assert lease.token == token + 1
    seq = store.last_seq("answered")
    store.append(lease, seq, Batch([Draft(1795390690000, "resumed", {"owner": "me"})], Standing("waiting", "review")))
    store.verify("answered")
    other = KeyUse("pay", "ends", hashlib.sha256(b"other").digest())
    with pytest.raises(KeyConflict):
        store.append(lease, seq + 1, Batch([], Standing("waiting", "review"), keys=[other]))


async def test_runs_of_the_old_version_end_under_the_new_one(old: Path) -> None:
    async def pay(to: str, amount: Any) -> str:
        return f"{to} got {amount}"

    async with Engine(old, tools={"pay": pay}) as jam:
        await jam.resume_all()
        assert (await jam.run("answered").wait()).output == {"receipt": "ann got 9.50 USD"}
        await jam.answer("waits", "refuse", by="olga")
        assert (await jam.run("waits").wait()).status == "failed"
    store = SqliteStore(old)
    assert store.check() == []


def test_an_old_database_is_brought_forward_for_those_who_only_look(old: Path) -> None:
    store = SqliteStore(old, read_only=True)
    assert store.summary("ends").status == "completed"
    with pytest.raises(JamError) as caught:
        store.claim("waits", "me", 1, 1)
    assert caught.value.code == "JAMR102"


def test_ids_of_messages_go_on_where_they_were(old: Path) -> None:
    last = rows(old, "SELECT seq FROM sqlite_sequence WHERE name = 'inbox'")[0][0]
    store = SqliteStore(old)
    assert store.enqueue("waits", "event", {}, None, 1795390690000) == last + 1


def test_a_migration_that_fails_half_way_leaves_the_old_database(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jamjet_dsl.store import steps

    def fail(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    before = rows(old, "SELECT name, sql FROM sqlite_master ORDER BY name")
    monkeypatch.setattr(steps, "_questions", fail)
    with pytest.raises(JamError):
        SqliteStore(old)
    assert rows(old, "PRAGMA user_version") == [(1,)]
    assert rows(old, "SELECT name, sql FROM sqlite_master ORDER BY name") == before
    monkeypatch.undo()
    assert SqliteStore(old).check() == []


def test_version_2_becomes_3_by_a_table_more(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("two.db", "fresh.db")]
    for path in paths:
        SqliteStore(path).close()
    raw = sqlite3.connect(paths[0], isolation_level=None)
    raw.executescript("DROP TABLE shared; PRAGMA user_version = 2")
    raw.close()
    SqliteStore(paths[0]).close()
    made, fresh = (rows(path, "SELECT name FROM sqlite_master WHERE tbl_name = 'shared' ORDER BY 1") for path in paths)
    assert made == fresh
    assert rows(paths[0], "PRAGMA table_info(shared)") == rows(paths[1], "PRAGMA table_info(shared)")
    assert rows(paths[0], "PRAGMA user_version") == [(schema.VERSION,)]
