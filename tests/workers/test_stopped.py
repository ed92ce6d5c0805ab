"""Real processes that are stopped (SIGSTOP) for longer than their lease and go on: `jam worker`, and an `Engine` from
Python that waits for its run. What others do meanwhile is simulated; see `tests/engine/test_starved.py` for all of it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jamjet_dsl import JamError
from jamjet_dsl.ports import Lease
from jamjet_dsl.store.sqlite import SqliteStore
from tests.workers.test_worker import PROGRAM, ROOT, kinds, start, wait_for

LEASE_MS = 400
BANK = """
import time
from pathlib import Path

def pay(to):
    here = Path(__file__).parent
    (here / f"call-{len(list(here.glob('call-*')))}").touch()
    while not (here / "go").exists():
        time.sleep(0.005)
    return "paid " + to
"""
SCRIPT = f"""
import asyncio
from pathlib import Path
from jamjet_dsl import Engine, compile_file

async def main():
    here = Path(__file__).parent
    async with Engine(here / "jam.db", folder=here, lease_ms={LEASE_MS}) as jam:
        run = await jam.start(compile_file(here / "pay.jam"), {{"to": "ann"}}, id="ann")
        print((await run.wait()).output["receipt"], flush=True)

asyncio.run(main())
"""
WORKER = ["-m", "jamjet_dsl.cli", "worker", "--db", "jam.db", "--poll", "20", "--lease", str(LEASE_MS)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "pay.jam").write_text(PROGRAM.replace("effect writes", "effect reads"))
    (tmp_path / "bank.py").write_text(BANK)
    (tmp_path / "waits.py").write_text(SCRIPT)
    return tmp_path


@pytest.fixture
def launch(place: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python; whatever is left of it is killed."""
    started: list[subprocess.Popen[str]] = []

    def go(*arguments: str) -> subprocess.Popen[str]:
        env, pipe = {**os.environ, "PYTHONPATH": str(ROOT)}, subprocess.PIPE
        started.append(
            subprocess.Popen([sys.executable, *arguments], cwd=place, env=env, stdout=pipe, stderr=pipe, text=True)
        )
        return started[-1]

    yield go
    for process in started:
        process.kill()
        process.communicate()


def calls(place: Path) -> int:
    return len(list(place.glob("call-*")))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def stop(process: subprocess.Popen[str], store: SqliteStore) -> None:
    """Stop a process where it does not hold the write lock: nobody could take anything over from one that does."""
    for _ in range(100):
        process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        try:
            store.renew_many([], LEASE_MS, now_ms())
            return
        except JamError as error:
            if error.code != "JAMR103":
                raise
        process.send_signal(signal.SIGCONT)
    raise AssertionError("it held the write lock whenever it was stopped")


def lease_is_over(place: Path) -> bool:
    with closing(sqlite3.connect(place / "jam.db")) as db:
        (expires_ms,) = db.execute("SELECT max(expires_ms) FROM owners").fetchone()
    return bool(expires_ms <= now_ms())


def taken_over(store: SqliteStore) -> list[Lease]:
    return store.claim_due("other", 1, now_ms(), 10)


@pytest.mark.parametrize("meanwhile", ["nobody looked", "somebody took it over"])
@pytest.mark.parametrize("who", ["worker", "engine"])
async def test_who_was_stopped_past_its_lease_takes_its_runs_up_again(
    who: str, meanwhile: str, place: Path, launch: Callable[..., subprocess.Popen[str]]
) -> None:
    if who == "worker":
        await start(place, "ann")
    process = launch(*(WORKER if who == "worker" else ["waits.py"]))
    wait_for(lambda: calls(place) == 1)
    with closing(SqliteStore(place / "jam.db", busy_ms=100)) as store:
        stop(process, store)
        wait_for(lambda: lease_is_over(place))
        if meanwhile == "somebody took it over":
            # And was lost: its lease, which is short, has to run out.
            assert [lease.run_id for lease in taken_over(store)] == ["ann"]
        process.send_signal(signal.SIGCONT)
        if meanwhile == "somebody took it over":
            wait_for(lambda: calls(place) == 2)
        (place / "go").touch()
        wait_for(lambda: store.summary("ann").status == "completed")
    assert calls(place) == (1 if meanwhile == "nobody looked" else 2), "what was not lost is not done again"
    assert kinds(place, "ann").count("succeeded") == 1
    if who == "worker":
        process.terminate()
    assert process.wait(30) == 0
    if who == "engine":
        assert process.stdout is not None
        assert process.stdout.read() == "paid ann\n", "whoever waited for the run heard of its end"
