"""Many processes, one database, stopped past their leases and killed, over and over.

    python -m tests.workers.campaign [--workers 8] [--runs 10000] [--stalls 1000] [--kills N] [--lease MS] [--seed N]

Real `jam worker` processes drive runs of one program. SIGSTOP holds one of them until its leases are over, SIGCONT
lets it go on in the belief that they are still its own; SIGKILL ends one and another is started. Then: no append was
made under a stale token, every run was completed once, each keyed effect is once at the ledger, every write without
a key was made at most once, and every journal verifies. Exit code 1 if anything of that is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from jamjet_dsl import Engine, JamError, compile_file
from jamjet_dsl.store.sqlite import SqliteStore
from tests.workers.checks import begin_audit, problems

ROOT = Path(__file__).parents[2]
BACKLOG = 300
"""Runs that are kept unfinished while there are stalls to come: a worker without runs cannot lose one."""
PATIENCE_S = 300
"""Without any progress for so long the campaign has failed."""


@dataclass
class Plan:
    """What a campaign is to do."""

    workers: int = 8
    runs: int = 10_000
    stalls: int = 1_000
    kills: int = 100
    lease_ms: int = 1_000
    poll_ms: int = 100
    seed: int = 1
    folder: Path = field(default_factory=Path)


class Campaign:
    """See the module."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.database = plan.folder / "jam.db"
        self.random = random.Random(plan.seed)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.stopped: dict[subprocess.Popen[bytes], tuple[float, int]] = {}
        """The workers that are stopped: until when, and how many leases they held."""
        self.notes: list[Path] = []
        self.started = 0
        self.stalls = 0
        self.takeovers = 0
        self.kills = 0

    async def run(self) -> tuple[list[str], Counter[str]]:
        """Everything: set up, trouble, quiet, and what must hold. Gives the problems and the figures."""
        for file in (Path(__file__).parent / "program").glob("shop*"):
            shutil.copy(file, self.plan.folder)
        compiled = compile_file(self.plan.folder / "shop.jam")
        store = SqliteStore(self.database, busy_ms=50)
        async with Engine(store, folder=self.plan.folder) as jam:
            self.jam, self.compiled = jam, compiled
            await self._feed(min(BACKLOG, self.plan.runs))
            begin_audit(self.database)
            try:
                self.workers = [self._worker() for _ in range(self.plan.workers)]
                await self._trouble()
                await self._quiet()
            finally:
                self._end()
        codes = [worker.returncode for worker in self.workers]
        found, figures = problems(self.database, self.plan.folder / "ledger.jsonl", self.notes)
        if any(codes):
            found.append(f"workers that were asked to stop ended with {codes}")
        figures |= Counter({"stalls": self.stalls, "stalls that cost runs": self.takeovers, "kills": self.kills})
        return found, figures

    def _worker(self) -> subprocess.Popen[bytes]:
        note = self.plan.folder / f"appends-{len(self.notes)}.jsonl"
        self.notes.append(note)
        options = ["--lease", self.plan.lease_ms, "--poll", self.plan.poll_ms, "--concurrency", 50]
        command = [sys.executable, "-m", "tests.workers.worker", note, "--db", self.database, *options]
        said = (self.plan.folder / "workers.txt").open("ab")
        with said:
            return subprocess.Popen([str(part) for part in command], cwd=ROOT, stdout=said, stderr=said)

    async def _feed(self, count: int) -> None:
        """Start runs for the workers; where a worker was stopped with the lock in its hands, as many as could be."""
        for _ in range(count):
            name = str(self.started + 1)
            try:
                await self.jam.start(self.compiled, {"order": name}, id=f"r{name}", drive=False)
            except JamError as error:
                if error.code == "JAMR103":
                    return
                if error.code != "JAMR203":  # it was created after all
                    raise
            self.started += 1

    def _ask(self, sql: str, *values: object) -> int:
        with closing(sqlite3.connect(self.database, 30)) as db:
            return int(db.execute(sql, values).fetchone()[0])

    def _unfinished(self) -> int:
        return self._ask("SELECT count(*) FROM runs WHERE status IN ('running', 'waiting', 'parked')")

    def _held(self, worker: subprocess.Popen[bytes]) -> int:
        return self._ask("SELECT count(*) FROM run_summary WHERE owner LIKE ?", f"%/{worker.pid}/%")

    def _awake(self) -> int:
        """How many of all workers have said that they are at work: one that has not cannot be asked to stop."""
        return (self.plan.folder / "workers.txt").read_text(errors="replace").count("working on ")

    async def _trouble(self) -> None:
        """Stop up to half of the workers at a time, each past its lease; kill one now and then."""
        plan, looked = self.plan, 0.0
        every = max(plan.stalls // plan.kills, 1) if plan.kills else 0
        while self.stalls < plan.stalls:
            now = time.monotonic()
            if now > looked + 1:
                looked = now
                await self._feed(max(BACKLOG - self._unfinished(), 0))
            for worker, (until, held) in list(self.stopped.items()):
                if now >= until:
                    del self.stopped[worker]
                    self.takeovers += self._held(worker) < held
                    self.stalls += 1
                    worker.send_signal(signal.SIGCONT)
                    if every and self.stalls % every == 0:
                        self._kill(worker)
            free = [worker for worker in self.workers if worker not in self.stopped]
            if len(self.stopped) < max(plan.workers // 2, 1) and free:
                worker = self.random.choice(free)
                held = self._held(worker)
                if held:
                    worker.send_signal(signal.SIGSTOP)
                    past = plan.lease_ms * self.random.uniform(1.2, 2.0) / 1000
                    self.stopped[worker] = (time.monotonic() + past, held)
            await asyncio.sleep(0.02)

    def _kill(self, worker: subprocess.Popen[bytes]) -> None:
        worker.kill()
        worker.wait()
        self.kills += 1
        self.workers[self.workers.index(worker)] = self._worker()

    async def _quiet(self) -> None:
        """Let all of them work until nothing is left."""
        for worker in self.stopped:
            worker.send_signal(signal.SIGCONT)
        self.stopped.clear()
        moved, events = time.monotonic(), 0
        while self.started < self.plan.runs or self._unfinished() or self._awake() < len(self.notes):
            await self._feed(self.plan.runs - self.started)
            seen = self._ask("SELECT max(position) FROM events")
            if seen != events:
                moved, events = time.monotonic(), seen
            if time.monotonic() - moved > PATIENCE_S:
                raise RuntimeError(f"{self._unfinished()} runs make no progress; see {self.plan.folder}/workers.txt")
            await asyncio.sleep(0.1)

    def _end(self) -> None:
        for worker in self.workers:
            worker.send_signal(signal.SIGCONT)
            worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def main(arguments: list[str]) -> int:
    """Run a campaign and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("workers", 8), ("runs", 10_000), ("stalls", 1_000), ("kills", 100), ("lease", 1_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(
            given.workers, given.runs, given.stalls, given.kills, given.lease, seed=given.seed, folder=Path(folder)
        )
        found, figures = asyncio.run(Campaign(plan).run())
        kept = "" if not found else f"{os.getcwd()}/campaign-{given.seed}"
        if kept:
            shutil.copytree(folder, kept, dirs_exist_ok=True)
    said = [f"{count:>9,}  {name}" for name, count in figures.items()]
    said.append(f"{time.monotonic() - began:>9.1f}  seconds; {len(found)} problems")
    sys.stdout.write("\n".join([*said, *found[:50]]) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
