"""A process is killed at every place that matters, and another one resumes what it left."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from jamjet_dsl import Engine, run_sync
from jamjet_dsl.store.sqlite import SqliteStore
from tests.crash.worker import Ledger

ROOT = Path(__file__).parents[2]


def work(folder: Path, point: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.crash.worker", str(folder / "t.db"), str(folder / "ledger"), point]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout.strip()


def ledger(folder: Path) -> Counter[str]:
    path = folder / "ledger"
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def settle(folder: Path, happened: bool) -> None:
    bank = Ledger(folder / "ledger", "-")
    tools = {"look": bank.look, "pay": bank.pay, "note": bank.note}

    async def whole() -> None:
        async with Engine(folder / "t.db", tools=tools) as jam:
            await jam.settle("t", happened, "noted" if happened else None, by="ops", note="looked")
            await jam.run("t").wait()

    asyncio.run(whole())


@pytest.mark.parametrize(
    "point",
    [
        "look:before",
        "look:after",
        "pay:before",
        "pay:after",
        "note:before",
        "note:after",
        *(f"append:{n}:{side}" for n in (1, 2, 3) for side in ("before", "after")),
    ],
)
def test_a_killed_run_resumes_without_repeating_what_was_done(tmp_path: Path, point: str) -> None:
    (tmp_path / "ledger").touch()
    code, _ = work(tmp_path, point)
    assert code == -signal.SIGKILL, "the worker was to die"
    store = SqliteStore(tmp_path / "t.db")
    store.verify("t")
    before = [(e.seq, e.kind, e.hash) for e in store.history("t")]
    code, said = work(tmp_path, "-")
    assert code == 0

    # The un-keyed write was in flight: nobody can know, so a person decides.
    in_doubt = point in ("note:before", "note:after", "append:2:after", "append:3:before")
    assert said == ("parked noting" if in_doubt else "completed" if point == "append:3:after" else "completed done")
    lines = ledger(tmp_path)
    if in_doubt:
        assert lines["called note"] == (0 if point == "append:2:after" else 1)
        happened = bool(lines["did note -"])
        settle(tmp_path, happened)
        lines = ledger(tmp_path)

    # A key is executed once, an un-keyed call is made at most once without a person's word.
    assert lines["did pay t/pay"] == 1
    assert lines["did note -"] == 1
    assert lines["noted r-7"] == (2 if point == "note:before" else 1)
    # What was completed is never called again.
    if point.startswith("note"):
        assert (lines["called look"], lines["called pay"]) == (1, 1)
    summary = store.summary("t")
    assert summary.status == "completed"
    store.verify("t")
    assert [(e.seq, e.kind, e.hash) for e in store.history("t")][: len(before)] == before


def test_a_run_that_was_never_interrupted_calls_everything_once(tmp_path: Path) -> None:
    (tmp_path / "ledger").touch()
    assert work(tmp_path, "-") == (0, "completed done")
    lines = ledger(tmp_path)
    assert (lines["called look"], lines["called pay"], lines["called note"]) == (1, 1, 1)


def test_a_lease_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    (tmp_path / "ledger").touch()
    work(tmp_path, "pay:after")
    store = SqliteStore(tmp_path / "t.db")
    assert store.summary("t").owner
    assert work(tmp_path, "-")[1] == "completed done"
    kinds = [event.kind for event in store.history("t")]
    assert kinds.count("resumed") == 1
    assert ledger(tmp_path)["called pay"] == 2


def test_a_run_goes_on_with_the_definition_it_started_with(tmp_path: Path) -> None:
    program = tmp_path / "p.jam"
    program.write_text("""
agent greeter {
  output word: string
  budget { steps 9  exceeded -> stopped }
  start state ask_it { ask role "clerk" "Go?" options yes  timeout 1h  as a  on yes -> done  on timeout -> stopped }
  final done { word = "old" }
  failed stopped { word = "" }
}""")
    assert run_sync(program, {}, id="t", store=tmp_path / "t.db").status == "waiting"
    program.write_text(program.read_text().replace('"old"', '"new"'))

    async def answer() -> dict[str, object] | None:
        async with Engine(tmp_path / "t.db") as jam:
            await jam.answer("t", "yes", by="x")
            return (await jam.run("t").wait()).output

    assert asyncio.run(answer()) == {"word": "old"}
    program.unlink()
    assert SqliteStore(tmp_path / "t.db").summary("t").status == "completed"
