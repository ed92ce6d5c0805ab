"""`jam erase`: the values are gone, bytes and all, and what is left proves itself and works."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import Jam

PROGRAM = """
record App { ssn: string  income: money  name: string }
tool fetch() -> string { effect reads  via python "tools:fetch" }
agent clerk {
  input app: App
  output n: int
  var hidden: string = ""
  budget { steps 20  exceeded -> over }
  policy { allow fetch  redact app.ssn  redact app.income  redact hidden }
  on error any -> over
  start state get { call fetch() as got  set hidden = got + app.name  -> ask_it }
  state ask_it { ask role "clerk" "Done, {app.ssn}?" options yes answer { why: string } timeout 48h as a
    on yes -> done  on timeout -> over }
  final done { n = size(hidden) }
  failed over { n = 0 }
}
"""
SSN, INCOME = "078-05-1120", "81234.00 USD"


@pytest.fixture
def ended(jam: Jam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a program that redacts, at its end; without a key."""
    begun(jam, tmp_path, monkeypatch, PROGRAM)
    return tmp_path


def begun(jam: Jam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    for name in ("JAM_KEY", "JAM_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "clerk.jam").write_text(program)
    (tmp_path / "tools.py").write_text("def fetch(): return 'from a register'\n")
    given = json.dumps({"app": {"ssn": SSN, "income": INCOME, "name": "ann"}})
    said = jam("run", "clerk.jam", "--id", "t", "--input", given)
    assert said.code == 4
    assert "not encrypted" in said.err
    said = jam("erase", "t")
    assert (said.code, "JAMR414" in said.err) == (2, True)
    assert jam("answer", "t", "yes", "--by", "x", "--data", json.dumps({"why": SSN})).code == 0


def traces(folder: Path, *texts: str) -> list[str]:
    """The files that hold one of these texts."""
    files = [path for path in folder.iterdir() if path.name.startswith("jam.db")]
    return [path.name for path in files for text in texts if text.encode() in path.read_bytes()]


def test_nothing_is_left_in_the_file_and_all_commands_go_on(jam: Jam, ended: Path) -> None:
    assert traces(ended, SSN)
    before = jam("history", "t", "--format", "json").out
    said = jam("erase", "t")
    assert said.code == 0, said
    assert "app.income, app.ssn, hidden" in said.out
    assert traces(ended, SSN, INCOME, "from a registerann") == []
    assert jam("history", "t", "--format", "json").out == before, "the journal stays, byte by byte"
    for command in (("history", "t"), ("show", "t")):
        told = jam(*command)
        assert told.code == 0
        assert "‹erased›" in told.out
        assert "‹redacted" not in told.out
    for command in (("replay", "t"), ("doctor",), ("runs",)):
        assert jam(*command).code == 0, command
    assert "was erased" in jam("replay", "t").out
    again = jam("erase", "t", "--format", "json")
    assert again.json == {"run_id": "t", "values": 0, "paths": [], "kept": [], "traces": False}


def test_a_fork_that_lacks_what_was_erased_is_refused_and_none_is_left(jam: Jam, ended: Path) -> None:
    assert jam("erase", "t").code == 0
    for more in ((), ("--live", "--allow-repeat"), ("--detach",)):
        said = jam("fork", "t", "--at", "3", "--id", "f", *more)
        assert (said.code, said.out) == (2, "")
        assert "JAMR413" in said.err, said
        assert "--input" in said.err
    assert [row["run_id"] for row in jam("runs", "--format", "json").lines] == ["t"]


@pytest.mark.parametrize("got", ["", "  redact got"])
def test_a_fork_of_an_erased_run_goes_on_with_the_values_that_it_is_given(
    jam: Jam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, got: str
) -> None:
    begun(jam, tmp_path, monkeypatch, PROGRAM.replace("redact hidden", f"redact hidden{got}"))
    assert jam("erase", "t").code == 0
    given = json.dumps({"app": {"ssn": "111-22-3333", "income": INCOME, "name": "bo"}})
    fork = ("fork", "t", "--at", "1", "--input", given, "--id")
    said = jam(*fork, "f")
    assert said.code == 4, said
    assert ("parked" in said.out) == bool(got), "an outcome is recorded unless it was erased"
    again = jam(*fork, "g", "--mock", 'fetch="anew"')
    assert (again.code, "waits for clerk: Done, ‹redacted›?" in again.out) == (4, True), again
    assert jam("replay", "g").code == jam("doctor").code == 0


def test_a_fork_keeps_values_under_their_own_names(jam: Jam, ended: Path) -> None:
    forked = jam("fork", "t", "--at", "3", "--id", "f")
    assert forked.code == 4, forked
    cancelled = jam("cancel", "f")
    assert cancelled.code == 3, cancelled
    said = jam("erase", "f", "--value", "app.ssn", "--format", "json")
    assert said.code == 0, said
    assert said.json["paths"] == ["app.ssn"]


def test_one_value_alone(jam: Jam, ended: Path) -> None:
    assert "it keeps: app.income, app.ssn, hidden" in jam("erase", "t", "--value", "app.name").err
    said = jam("erase", "t", "--value", "app.ssn", "--format", "json")
    assert (said.json["paths"], said.json["kept"]) == (["app.ssn"], ["app.income", "hidden"])
    assert traces(ended, SSN) == []
    assert traces(ended, INCOME)
    assert jam("show", "t", "--format", "json").json["input"]["app"]["ssn"] == "‹erased›"


def test_another_process_that_reads_is_named(jam: Jam, ended: Path) -> None:
    with sqlite3.connect(ended / "jam.db") as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM events").fetchone()
        said = jam("erase", "t")
        assert said.code == 1
        assert "traces may be left" in said.err
        assert jam("show", "t").out.count("‹erased›") >= 2
    other.close()
    assert jam("erase", "t").code == 0
    assert traces(ended, SSN, INCOME) == []


def test_values_leave_the_log_and_free_pages(jam: Jam, ended: Path) -> None:
    """Many values, so that pages were split and freed; and a reader that keeps the log beside the database."""
    given = [{"app": {"ssn": f"{SSN}-{n}-{'x' * 900}", "income": INCOME, "name": "ann"}} for n in range(12)]
    with sqlite3.connect(ended / "jam.db") as other:
        for number, value in enumerate(given):
            jam("run", "clerk.jam", "--id", f"m{number}", "--input", json.dumps(value))
            jam("cancel", f"m{number}")
        other.execute("SELECT 1").fetchone()
        assert traces(ended, f"{SSN}-7-")
        for number in range(12):
            assert jam("erase", f"m{number}").code == 0
        assert jam("erase", "t").code == 0
        assert traces(ended, SSN) == []
    other.close()
