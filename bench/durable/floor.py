"""The floor: SQLite alone in WAL mode with `synchronous=FULL`, one row of journal and one of state for each step.

`each` commits every step by itself. `group` commits up to a hundred steps at once: of one run without waiting for them,
of many runs by a writer thread that takes whatever waits, so that each run's next step comes after its commit.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
from typing import Any

from bench.durable.job import Job, job, pragmas

GROUP = 100


class Table:
    """The two tables and what a step writes into them."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.db = sqlite3.connect(job.file("floor.db"), isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode = WAL").fetchall()
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("CREATE TABLE run (id TEXT PRIMARY KEY, step INT NOT NULL, state TEXT NOT NULL)")
        self.db.execute(
            "CREATE TABLE journal (run TEXT, step INT, state TEXT NOT NULL, PRIMARY KEY (run, step)) WITHOUT ROWID"
        )

    def start(self, run: int) -> dict[str, Any]:
        """A run's first row."""
        state = self.job.state(run)
        self.db.execute("INSERT INTO run VALUES (?, 0, ?)", (state["run"], json.dumps(state)))
        return state

    def write(self, state: dict[str, Any]) -> None:
        """One step's rows."""
        text = json.dumps(state, separators=(",", ":"))
        self.db.execute("INSERT INTO journal VALUES (?, ?, ?)", (state["run"], state["n"], text))
        self.db.execute("UPDATE run SET step = ?, state = ? WHERE id = ?", (state["n"], text, state["run"]))


def one_run(table: Table, group: int) -> list[int]:
    """One run, a commit every `group` steps."""
    state = table.start(0)
    table.db.execute("BEGIN IMMEDIATE")
    for n in range(1, table.job.steps + 1):
        state = table.job.body(state)
        table.write(state)
        if n % group == 0:
            table.db.execute("COMMIT")
            table.db.execute("BEGIN IMMEDIATE")
    table.db.execute("COMMIT")
    return [state["n"]]


async def many_runs(table: Table) -> list[int]:
    """Many runs that take turns, each step a commit of its own."""

    async def one(run: int) -> int:
        state = table.start(run)
        for _ in range(table.job.steps):
            state = table.job.body(state)
            table.db.execute("BEGIN IMMEDIATE")
            table.write(state)
            table.db.execute("COMMIT")
            await asyncio.sleep(0)
        return int(state["n"])

    return await asyncio.gather(*(one(run) for run in range(table.job.runs)))


async def many_runs_grouped(table: Table) -> list[int]:
    """Many runs and a writer thread that commits whatever waits."""
    waiting: queue.SimpleQueue[tuple[dict[str, Any], asyncio.Future[None]] | None] = queue.SimpleQueue()
    loop = asyncio.get_running_loop()

    def wake(futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            future.set_result(None)

    def writer() -> None:
        while (item := waiting.get()) is not None:
            table.db.execute("BEGIN IMMEDIATE")
            written = []
            while item is not None:
                table.write(item[0])
                written.append(item[1])
                if len(written) == GROUP or waiting.empty():
                    break
                item = waiting.get()
            table.db.execute("COMMIT")
            loop.call_soon_threadsafe(wake, written)

    async def one(run: int) -> int:
        state = table.job.state(run)
        for _ in range(table.job.steps):
            state = table.job.body(state)
            committed: asyncio.Future[None] = loop.create_future()
            waiting.put((state, committed))
            await committed
        return int(state["n"])

    table.db.execute("BEGIN")
    for run in range(table.job.runs):
        table.start(run)
    table.db.execute("COMMIT")
    thread = threading.Thread(target=writer)
    thread.start()
    try:
        return await asyncio.gather(*(one(run) for run in range(table.job.runs)))
    finally:
        waiting.put(None)
        thread.join()


def main() -> None:
    """Do the job and print its result."""
    work = job(commit=["each", "group"])
    table, grouped = Table(work), work.options.commit == "group"
    with work.clock.running():
        if not work.concurrent:
            counts = one_run(table, GROUP if grouped else 1)
        else:
            counts = asyncio.run((many_runs_grouped if grouped else many_runs)(table))
    promise = pragmas(table.db.execute)
    table.db.close()
    work.done(counts, promise=promise)


if __name__ == "__main__":
    main()
