"""Apache Burr with its SQLite persister: `sync` on a pool of threads, a connection for each run, or `async` on one.

As it comes it writes a rollback journal with `synchronous=FULL`; with `--journal wal` its file is in WAL mode already.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from burr.core import ApplicationBuilder, State, action, default, expr
from burr.core.persistence import SQLitePersister

from bench.durable.job import THREADS, Job, job, pragmas

PATIENCE = {"timeout": 60, "check_same_thread": False}
"""Sixteen writers on a rollback journal would fail with the five seconds that sqlite3 waits by itself."""


def application(job: Job, run: int, asynchronous: bool) -> Any:
    """The builder of one run. The last step is an action of its own, since a run is halted by an action's name."""

    def step(state: State) -> State:
        return state.update(s=job.body(state["s"]), left=state["left"] - 1)

    async def step_async(state: State) -> State:
        return step(state)

    work = action(reads=["s", "left"], writes=["s", "left"])(step_async if asynchronous else step)
    first = job.state(run)
    return (
        ApplicationBuilder()
        .with_actions(work=work, last=work)
        .with_transitions(("work", "work", expr("left > 1")), ("work", "last", default))
        .with_identifiers(app_id=first["run"])
        .with_entrypoint("work")
        .with_state(s=first, left=job.steps)
    )


def on_threads(job: Job, path: str) -> tuple[list[int], list[Any]]:
    """Every run with a persister of its own."""
    main = SQLitePersister(path, connect_kwargs=PATIENCE)
    main.initialize()

    def one(run: int) -> int:
        persister = SQLitePersister(path, connect_kwargs=PATIENCE) if job.concurrent else main
        app = application(job, run, False).with_state_persister(persister).build()
        count = int(app.run(halt_after=["last"])[2]["s"]["n"])
        if persister is not main:
            persister.connection.close()
        return count

    with ThreadPoolExecutor(THREADS) as pool, job.clock.running():
        counts = list(pool.map(one, range(job.runs))) if job.concurrent else [one(0)]
    return counts, pragmas(main.connection.execute)


async def on_a_loop(job: Job, path: str) -> tuple[list[int], list[Any]]:
    """All runs on one event loop and one connection."""
    from burr.integrations.persisters.b_aiosqlite import AsyncSQLitePersister

    async with AsyncSQLitePersister.from_values(path) as persister:
        await persister.initialize()

        async def one(run: int) -> int:
            app = await application(job, run, True).with_state_persister(persister).abuild()
            return int((await app.arun(halt_after=["last"]))[2]["s"]["n"])

        with job.clock.running():
            counts = list(await asyncio.gather(*(one(run) for run in range(job.runs))))
        asked = [await persister.connection.execute(f"PRAGMA {name}") for name in ("journal_mode", "synchronous")]
        return counts, [(await cursor.fetchone())[0] for cursor in asked]


def main() -> None:
    """Do the job and print its result."""
    work = job(api=["sync", "async"], journal=["delete", "wal"])
    path = work.file("burr.db")
    first = sqlite3.connect(path)
    first.execute(f"PRAGMA journal_mode = {work.options.journal}").fetchall()
    first.close()
    counts, promise = asyncio.run(on_a_loop(work, path)) if work.options.api == "async" else on_threads(work, path)
    work.done(counts, promise=promise)


if __name__ == "__main__":
    main()
