"""The job on this engine in several processes on one database, as `jam worker` runs them: each drives its share of the
runs. The clock runs from the moment at which all are ready until the last has ended."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from itertools import pairwise
from typing import Any

from bench.durable.job import MARK, Job, job, peak_mib, percentile, stored_bytes
from bench.durable.ours import EFFECTS, tool
from jamjet_dsl import Engine, compile_text
from jamjet_dsl.engine.collector import calm


async def share(job: Job, mine: range, ready: Any) -> tuple[list[int], float, float]:
    """Drive these runs: how far each counted, when the first began and when the last ended."""
    program = compile_text(EFFECTS[job.options.effect])
    calm()
    async with Engine(job.file("jam.db"), tools={"work": tool(job)}) as jam:
        await asyncio.to_thread(ready.wait)

        async def one(run: int) -> int:
            handle = await jam.start(program, {"first": job.state(run), "goal": job.steps}, id=f"r-{run:06d}")
            view = await handle.wait()
            return int((view.output or {}).get("n", -1))

        begun = time.perf_counter()
        counts = await asyncio.gather(*(one(run) for run in mine))
        return counts, begun, time.perf_counter()


def process(job: Job, mine: range, ready: Any, said: Any) -> None:
    """One process."""
    counts, begun, ended = asyncio.run(share(job, mine, ready))
    entries = [(b - a) / 1e3 for times in job.clock.entries.values() for a, b in pairwise(times)]
    said.put((counts, begun, ended, entries, peak_mib()))


def main() -> None:
    """Do the job and print its result. The clock of all processes of a machine is one."""
    work = job(effect=["reads", "writes"], tool=["async", "sync"], processes=["2", "4"])
    processes = int(work.options.processes)
    # A file that is new is made by one, so that nobody measures who was first.
    asyncio.run(made(work))
    spawn = multiprocessing.get_context("spawn")
    ready, said = spawn.Barrier(processes), spawn.Queue()
    shares = [range(n, work.runs, processes) for n in range(processes)]
    workers = [spawn.Process(target=process, args=(work, mine, ready, said)) for mine in shares]
    for worker in workers:
        worker.start()
    found = [said.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    counts = [count for one in found for count in one[0]]
    if set(counts) != {work.steps} or len(counts) != work.runs:
        raise SystemExit(f"the job was not done: {len(counts)} runs ended with {set(counts)}")
    seconds = max(one[2] for one in found) - min(one[1] for one in found)
    latencies = sorted(latency for one in found for latency in one[3])
    result = {
        "steps": work.runs * work.steps,
        "rate": work.runs * work.steps / seconds,
        "p50_us": percentile(latencies, 0.5),
        "p99_us": percentile(latencies, 0.99),
        "bytes_step": stored_bytes(work.folder) / (work.runs * work.steps),
        "peak_mib": sum(one[4] for one in found),
        "state_bytes": len(json.dumps(work.state(0), separators=(",", ":"))),
    }
    print(MARK + json.dumps(result), flush=True)


async def made(job: Job) -> None:
    """Make the database."""
    async with Engine(job.file("jam.db"), tools={"work": tool(job)}) as jam:
        await (await jam.start(compile_text(EFFECTS["reads"]), {"first": job.state(0), "goal": 1}, id="first")).wait()


if __name__ == "__main__":
    main()
