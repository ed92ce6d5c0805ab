"""Kill a real `jam run` and `jam answer` of the loan example at N of its writes, and resume what is left.

    python -m tests.crash.sweep [N]

Every write and every flush to the run database or to the bank's ledger is a place to die: strace delivers SIGKILL
as the process enters the system call. N places (default 60) are spread evenly over all of them. After each, the run is
resumed as an operator would, and has to have: a journal that fits its hashes and begins with what was there at
the kill, the very transitions of a run that nobody killed, every command completed once, and one payment.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from jamjet_dsl import Engine, JamError
from jamjet_dsl.kernel.model import ENDED, Event
from jamjet_dsl.store.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "loan_underwriting"
CALLS = "pwrite64,fdatasync,fsync,ftruncate,unlink"
FILES = ("jam.db", "jam.db-wal", "jam.db-shm", "jam.db-journal", "ledger.db", "ledger.db-journal")
RUN = "r"
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
WAITS = 4
"""The exit code of `jam run` for a run that waits for somebody."""


class Point(NamedTuple):
    """Die in this command, as it enters its Nth system call of this name on one of these files."""

    command: str
    call: str
    files: tuple[str, ...]
    number: int

    def __str__(self) -> str:
        return f"{self.command}, {self.call} {self.number} on {self.files[0]}"


class Office:
    """A folder with the example and its two databases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path in EXAMPLE.iterdir():
            if path.suffix in (".jam", ".py", ".json"):
                shutil.copy(path, folder)
        self.store = folder / "jam.db"
        os.environ["BANK_LEDGER"] = str(folder / "ledger.db")

    def clear(self) -> None:
        """As it was before anything ran."""
        for name in FILES:
            (self.folder / name).unlink(missing_ok=True)

    def jam(self, command: str, *strace: str) -> int:
        """Run one of the two commands, under strace if options for it are given."""
        program, data = self.folder / "loan_underwriting.jam", f"@{self.folder / 'application.json'}"
        rest = {"run": ("run", str(program), "--input", data, "--id", RUN), "answer": ("answer", RUN, "approve")}
        tracer = ("strace", "-f", "-qq", *strace) if strace else ()
        jam = (sys.executable, "-m", "jamjet_dsl.cli", "--db", str(self.store), *rest[command])
        done = subprocess.run([*tracer, *jam], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode not in (0, WAITS, *KILLED):
            raise RuntimeError(f"jam {command} failed:\n{done.stdout}{done.stderr}")
        return done.returncode

    def payments(self) -> int:
        """How many payments the bank has made."""
        with closing(sqlite3.connect(self.folder / "ledger.db")) as db:
            return int(db.execute("SELECT count(*) FROM payments").fetchone()[0])

    def events(self) -> list[Event]:
        """The run's journal, verified; empty if there is no run yet."""
        try:
            store = SqliteStore(self.store)
        except JamError as error:
            raise AssertionError(f"the database cannot be opened: {error}") from error
        try:
            store.verify(RUN)
            return list(store.history(RUN))
        except JamError as error:
            if error.code != "JAMR201":
                raise
            return []
        finally:
            store.close()

    async def go_on(self) -> None:
        """What an operator does after a crash: start what is not there, resume, answer what is asked."""
        async with Engine(self.store) as jam:
            app = json.loads((self.folder / "application.json").read_text())
            run = await jam.start(self.folder / "loan_underwriting.jam", app, id=RUN, if_exists="attach")
            view = await asyncio.wait_for(run.wait(), 60)
            if view.status == "waiting":
                await jam.answer(RUN, "approve", by="olivia")
                view = await asyncio.wait_for(run.wait(), 60)
            if view.status not in ENDED:
                raise AssertionError(f"the run is {view.status}")


def tracer() -> str | None:
    """Why system calls cannot be traced here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt-get install strace)"
    tried = subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()}"


def places(office: Office) -> Iterator[Point]:
    """Every place to die: counted on a run that nobody kills."""
    log = office.folder / "trace.txt"
    for command in ("run", "answer"):
        office.jam(command, "-y", "-e", f"trace={CALLS}", "-o", str(log))
        for files in (("jam.db", "jam.db-wal"), ("ledger.db", "ledger.db-journal")):
            wanted = {str(office.folder / name) for name in files}
            # strace counts the calls of each thread on its own.
            counts: Counter[tuple[str, str]] = Counter()
            for line in log.read_text().splitlines():
                found = re.match(r"(\d+) +(\w+)\((?:\d+<([^>]*)>|\"([^\"]*)\")", line)
                if found and (found[3] or found[4]) in wanted:
                    counts[found[1], found[2]] += 1
            most: dict[str, int] = {}
            for (_, call), count in counts.items():
                most[call] = max(most.get(call, 0), count)
            for call, count in sorted(most.items()):
                yield from (Point(command, call, files, number) for number in range(1, count + 1))


def way(events: list[Event]) -> list[tuple[object, object, object]]:
    """The transitions of a run."""
    return [(e.body["state"], e.body["edge"], e.body["to"]) for e in events if e.kind == "moved"]


def strike(office: Office, point: Point, expected: list[tuple[object, object, object]]) -> str | None:
    """Die there, go on, and say what is wrong; None if nothing is."""
    office.clear()
    if point.command == "answer":
        office.jam("run")
    paths = [part for name in point.files for part in ("-P", str(office.folder / name))]
    inject = f"inject={point.call}:signal=KILL:when={point.number}"
    code = office.jam(point.command, *paths, "-e", f"trace={point.call}", "-e", inject, "-o", os.devnull)
    if code not in KILLED:
        return "the process did not die"
    try:
        before = office.events() if office.store.exists() else []
        asyncio.run(office.go_on())
        after = office.events()
    except (JamError, AssertionError, TimeoutError, sqlite3.Error) as error:
        return f"{type(error).__name__}: {error}"
    if [event.hash for event in after[: len(before)]] != [event.hash for event in before]:
        return "what was committed before the kill is not there any more"
    if way(after) != expected:
        return f"other transitions: {way(after)}"
    done = Counter(event.body["cmd"] for event in after if event.kind == "succeeded")
    if any(count > 1 for count in done.values()):
        return f"completed more than once: {done}"
    paid = office.payments()
    return None if paid == 1 else f"{paid} payments"


def sweep(number: int, folder: Path) -> tuple[int, list[str]]:
    """Die at `number` places. Returns how often all was well, and what was wrong."""
    office = Office(folder)
    every = list(places(office))
    expected = way(office.events())
    if not expected or office.payments() != 1:
        raise RuntimeError("the run that nobody killed did not pay once")
    count = min(number, len(every))
    chosen = [every[index * len(every) // count] for index in range(count)]
    passed, failures = 0, []
    for point in chosen:
        problem = strike(office, point, expected)
        if problem is None:
            passed += 1
        else:
            failures.append(f"{point}: {problem}")
    return passed, failures


def main(arguments: list[str]) -> int:
    """The command. Ends with 1 if anything was wrong, with 2 if it cannot be done here."""
    number = int(arguments[0]) if arguments and arguments[0].isdigit() else 60
    missing = tracer()
    if missing is not None:
        sys.stderr.write(f"sweep: {missing}\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        passed, failures = sweep(number, Path(folder).resolve())
    for failure in failures:
        sys.stdout.write(f"failed: {failure}\n")
    sys.stdout.write(f"{passed} passed, {len(failures)} failed\n")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
