"""`jam worker` as a process: what it says, how it stops, what it leaves."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, compile_file
from jamjet_dsl.store.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
PROGRAM = """
tool pay(to: string) -> string { via python "bank:pay"  effect writes  timeout 10m }
agent payer {
  input to: string
  output receipt: string
  budget { steps 9  exceeded -> over }
  policy { allow pay }
  on error any -> over
  start state paying { call pay(to) as receipt  on in_doubt -> unsure  -> paid }
  final paid { receipt = receipt }
  failed unsure { receipt = "" }
  failed over { receipt = "" }
}
"""
BANK = """
import time
from pathlib import Path

def pay(to):
    here = Path(__file__).parent
    (here / f"began-{to}").touch()
    while not (here / "go").exists():
        time.sleep(0.005)
    return "paid " + to
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "pay.jam").write_text(PROGRAM)
    (tmp_path / "bank.py").write_text(BANK)
    return tmp_path


@pytest.fixture
def worker(place: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `jam worker`; whatever is left of them is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "jamjet_dsl.cli", "worker", "--db", str(place / "jam.db"), *options]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=place, env=env, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


async def start(place: Path, *names: str) -> None:
    async with Engine(place / "jam.db", folder=place) as jam:
        for name in names:
            await jam.start(compile_file(place / "pay.jam"), {"to": name}, id=name, drive=False)


def kinds(place: Path, run_id: str) -> list[str]:
    with closing(SqliteStore(place / "jam.db")) as store:
        return [event.kind for event in store.history(run_id)]


def owners(place: Path) -> set[Any]:
    with closing(sqlite3.connect(place / "jam.db")) as db:
        return {row[0] for row in db.execute("SELECT owner FROM run_summary")}


async def test_the_first_line_says_what_it_works_on_and_how_durable_it_is(
    place: Path, worker: Callable[..., subprocess.Popen[str]]
) -> None:
    process = worker("--format", "json", "--concurrency", "7", "--durability", "normal")
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    assert said["durability"] == "normal"
    assert (said["concurrency"], said["lease_ms"], said["poll_ms"], said["pid"]) == (7, 15_000, 500, process.pid)
    process.terminate()
    assert process.wait(30) == 0


async def test_a_worker_that_is_asked_to_stop_finishes_the_write_and_begins_nothing(
    place: Path, worker: Callable[..., subprocess.Popen[str]]
) -> None:
    await start(place, "ann", "bob")
    process = worker("--poll", "20", "--concurrency", "1")
    wait_for(lambda: (place / "began-ann").exists())
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    (place / "go").touch()
    assert process.wait(30) == 0
    assert kinds(place, "ann")[-1] == "succeeded", "what it did is known; what follows is for whoever resumes"
    assert kinds(place, "bob") == ["started"]
    assert not (place / "began-bob").exists()
    assert owners(place) == {None}


async def test_what_is_not_finished_within_the_grace_is_left_to_recovery(
    place: Path, worker: Callable[..., subprocess.Popen[str]]
) -> None:
    await start(place, "ann")
    process = worker("--poll", "20", "--grace", "50")
    wait_for(lambda: (place / "began-ann").exists())
    process.terminate()
    assert process.wait(30) == 0
    assert kinds(place, "ann")[-1] == "intent"
    assert owners(place) == {None}
    (place / "go").touch()
    other = worker("--poll", "20")
    wait_for(lambda: kinds(place, "ann")[-1] == "finished")
    assert "in_doubt" in kinds(place, "ann"), "it has no key: nobody makes it again"
    other.terminate()
    assert other.wait(30) == 0


async def test_a_second_signal_ends_it_at_once_and_everything_stays_resumable(
    place: Path, worker: Callable[..., subprocess.Popen[str]]
) -> None:
    await start(place, "ann")
    process = worker("--poll", "20")
    wait_for(lambda: (place / "began-ann").exists())
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
    other = worker("--poll", "20")
    wait_for(lambda: kinds(place, "ann")[-1] == "finished")
    other.terminate()
    assert other.wait(30) == 0


async def test_the_runs_of_a_killed_worker_are_taken_over_at_the_next_look(
    place: Path, worker: Callable[..., subprocess.Popen[str]]
) -> None:
    await start(place, "ann")
    process = worker("--poll", "20", "--lease", "600000")
    wait_for(lambda: (place / "began-ann").exists())
    process.kill()
    process.wait()
    # A process of this machine that is gone is known to be: nobody waits for its lease.
    other = worker("--poll", "20")
    wait_for(lambda: kinds(place, "ann")[-1] == "finished")
    other.terminate()
    assert other.wait(30) == 0


async def test_a_worker_without_the_tools_says_so_once_and_goes_on(
    place: Path, worker: Callable[..., subprocess.Popen[str]]
) -> None:
    await start(place, "ann", "bob")
    (place / "bank.py").rename(place / "elsewhere.py")
    process = worker("--poll", "20")
    assert process.stderr is not None
    assert "working on" in process.stderr.readline()
    assert process.stderr.readline().startswith("ann: JAMR304")
    time.sleep(0.2)
    process.terminate()
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "bob" not in rest


def test_detached_runs_are_begun_by_the_worker_once(place: Path, worker: Callable[..., subprocess.Popen[str]]) -> None:
    command = [sys.executable, "-m", "jamjet_dsl.cli", "run", "pay.jam", "--detach", "--id", "ann", "--input"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*command, '{"to": "ann"}'], cwd=place, env=env, check=True, capture_output=True)
    assert kinds(place, "ann") == ["started"]
    (place / "go").touch()
    process = worker("--poll", "20")
    wait_for(lambda: kinds(place, "ann")[-1] == "finished")
    assert kinds(place, "ann").count("intent") == 1
    process.terminate()
    assert process.wait(30) == 0
