"""JamJet from PyPI: `@durable` around the step, its cache in SQLite; many runs on a pool of threads."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.durable.job import THREADS, job, pragmas


def main() -> None:
    """Do the job and print its result."""
    work = job()
    os.environ["JAMJET_DURABLE_DIR"] = work.folder
    from jamjet.durable import durable, durable_run

    @durable
    def step(s: dict[str, Any]) -> dict[str, Any]:
        return work.body(s)

    def one(run: int) -> int:
        state = work.state(run)
        with durable_run(state["run"]):
            for _ in range(work.steps):
                state = step(state)
        return int(state["n"])

    with ThreadPoolExecutor(THREADS) as pool, work.clock.running():
        counts = list(pool.map(one, range(work.runs))) if work.concurrent else [one(0)]
    cache = sqlite3.connect(work.file("cache.db"))
    promise = pragmas(cache.execute)
    cache.close()
    work.done(counts, promise=promise)


if __name__ == "__main__":
    main()
