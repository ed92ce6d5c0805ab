"""`jam doctor` finds damage, and mends what can be had from the journals: never a journal, and never behind the back of
whoever drives a run."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl.engine.owner import this_owner
from jamjet_dsl.store.sqlite import SqliteStore
from tests.cli.conftest import Jam

INPUT = '{"to": "Ada", "amount": "5.00 USD"}'
LATER = 4_000_000_000_000


@pytest.fixture
def two(jam: Jam, pay: Path) -> Path:
    """A database with a run that waits for an answer and one that has paid."""
    for run_id in ("waits", "ends"):
        assert jam("run", "pay.jam", "--input", INPUT, "--id", run_id).code == 4
    assert jam("answer", "ends", "approve", "--by", "olga").code == 0
    return pay.with_name("jam.db")


def change(db: Path, sql: str, *values: Any) -> None:
    raw = sqlite3.connect(db, isolation_level=None)
    assert raw.execute(sql, values).rowcount
    raw.close()


def journal(db: Path) -> list[tuple[Any, ...]]:
    raw = sqlite3.connect(db)
    rows = raw.execute("SELECT * FROM events ORDER BY run, seq").fetchall()
    raw.close()
    return rows


def test_a_sound_database_is_sound(jam: Jam, two: Path) -> None:
    said = jam("doctor")
    assert (said.code, said.out, said.err) == (0, "", "jam.db is sound\n")
    assert jam("doctor", "--format", "json").json == {"db": "jam.db", "sound": True, "problems": []}
    assert jam("doctor", "--db", "none.db").code == 2


def test_what_stands_beside_a_journal_is_written_anew(jam: Jam, two: Path) -> None:
    before = (jam("show", "waits").out, jam("runs", "--format", "json").out, jam("inbox").out)
    change(two, "UPDATE runs SET state = 'paid', status = 'completed' WHERE run_id = 'waits'")
    change(two, "UPDATE questions SET role = 'anybody' WHERE run = (SELECT run FROM runs WHERE run_id = 'waits')")
    change(two, "DELETE FROM keys")
    shown = jam("show", "waits")
    assert (shown.code, "`jam doctor --rebuild RUN` writes it anew" in shown.err) == (2, True)
    found = jam("doctor")
    assert found.code == 1
    assert "the row of the run waits was changed or damaged" in found.out
    assert "is not bound any more" in found.out
    assert "`jam doctor --rebuild ID` writes all but a journal anew" in found.err
    said = jam("doctor", "--rebuild", "waits")
    assert said.code == 0, said
    assert "waits  written anew from" in said.out
    assert "waiting in review" in said.out
    assert "mended: the row of the run waits was changed or damaged" in said.out
    told = jam("doctor", "--rebuild", "--all", "--format", "json").lines
    assert [(t["run_id"], t["rebuilt"], t["status"], t["left"]) for t in told] == [
        ("waits", True, "waiting", []),
        ("ends", True, "completed", []),
    ]
    assert not told[0]["mended"], "it was mended before"
    assert "is not bound any more" in told[1]["mended"][0]
    assert (jam("show", "waits").out, jam("runs", "--format", "json").out, jam("inbox").out) == before
    assert jam("doctor").code == 0
    assert jam("answer", "waits", "approve", "--by", "olga").code == 0


def test_a_question_that_nobody_would_be_asked_is_asked_again(jam: Jam, two: Path) -> None:
    change(two, "DELETE FROM questions WHERE status = 'open'")
    assert "nothing waits for anybody" in jam("inbox").err
    assert "mended: its questions did not fit the journal" in jam("doctor", "--rebuild", "waits").out
    assert "Pay 5.00 USD to Ada?" in jam("inbox").out


def test_a_damaged_journal_is_refused_and_left_as_it_is(jam: Jam, two: Path) -> None:
    change(two, "UPDATE events SET body = CAST('{}' AS BLOB) WHERE seq = 2 AND run = 1")
    before = journal(two)
    said = jam("doctor", "--rebuild", "--all")
    assert said.code == 1
    assert "JAMR107" in said.err
    assert "ends  written anew" in said.out, "the other run is mended all the same"
    assert journal(two) == before
    assert "the journal of waits was changed or damaged at event 2" in jam("doctor").out


def test_a_run_that_somebody_drives_is_refused(jam: Jam, two: Path) -> None:
    store = SqliteStore(two)
    store.claim("waits", this_owner(), 60_000, LATER)
    store.close()
    said = jam("doctor", "--rebuild", "waits", "--format", "json")
    assert (said.code, said.json["rebuilt"], said.json["code"]) == (1, False, "JAMR205")


def test_a_message_that_got_lost_is_not_hidden(jam: Jam, two: Path) -> None:
    store = SqliteStore(two)
    store.enqueue("waits", "cancel", {"by": "olga", "note": "", "now": False}, None, 1)
    store.close()
    change(two, "DELETE FROM inbox")
    said = jam("doctor", "--rebuild", "waits")
    assert said.code == 1
    assert "rebuilding would hide what is missing" in said.err
    said = jam("doctor", "--rebuild", "waits", "--accept-loss")
    assert said.code == 0, said
    assert "mended: the inbox of waits has 0 messages instead of 1" in said.out
    assert jam("doctor").code == 0


@pytest.mark.parametrize(
    "args", [("--rebuild",), ("waits",), ("--all",), ("--accept-loss",), ("--rebuild", "--all", "x")]
)
def test_what_is_to_be_rebuilt_has_to_be_said(jam: Jam, two: Path, args: tuple[str, ...]) -> None:
    said = jam("doctor", *args)
    assert (said.code, "say --rebuild ID" in said.err) == (2, True)
