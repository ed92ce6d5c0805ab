"""Runs of this engine that wait for an event: starting them, and a process that works for all of them.

A wake is `Engine.send` from a process that has loaded none of the runs: the message is stored, the run is claimed and
loaded from its journal, makes two transitions and waits again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from contextlib import suppress

from bench.durable.job import MARK, peak_mib, percentile
from jamjet_dsl import Engine, compile_text

PROGRAM = """
agent waits {
  input pad: string
  output n: int
  event go()
  var n: int = 0
  budget { steps 1000000  exceeded -> over }
  on error any -> over
  start state rest {
    wait for event go timeout 365d
    on timeout -> done
    -> count
  }
  state count { set n = n + 1  -> rest }
  final done { n = n }
  failed over { n = n }
}
"""
AT_ONCE = 200
POLLS = 20


async def fill(path: str, runs: int) -> dict[str, float]:
    """Start the runs; each waits by itself."""
    program = compile_text(PROGRAM)
    begun = time.perf_counter()
    async with Engine(path) as jam:

        async def one(run: int) -> None:
            handle = await jam.start(program, {"pad": "x" * 100}, id=f"r-{run:06d}")
            await handle.wait()

        for first in range(0, runs, AT_ONCE):
            await asyncio.gather(*(one(run) for run in range(first, min(first + AT_ONCE, runs))))
        resident = peak_mib("VmRSS")
        stood = len(jam.store.summaries(["waiting"]))
    if stood != runs:
        raise SystemExit(f"{stood} of {runs} runs wait")
    return {"seconds": time.perf_counter() - begun, "resident_mib": resident, "peak_mib": peak_mib()}


async def work(path: str, runs: int, wakes: int) -> dict[str, float]:
    """Look after the runs as a worker does, then wake some of them, one after the other."""
    async with Engine(path) as jam:
        empty = peak_mib("VmRSS")
        begun = time.perf_counter()
        for _ in range(POLLS):
            await jam.resume_all()
        poll_ms = (time.perf_counter() - begun) / POLLS * 1000
        worker = asyncio.ensure_future(jam.work())
        await asyncio.sleep(1)
        idle = peak_mib("VmRSS")
        took = []
        cpu = time.process_time()
        for number in range(wakes):
            # The same number of different runs whether there are few or many, spread over all of them.
            run = f"r-{(number % 10) * (runs // 10):06d}"
            at = time.perf_counter()
            await jam.send(run, "go")
            took.append((time.perf_counter() - at) * 1000)
        cpu = (time.process_time() - cpu) / wakes * 1000
        woken = peak_mib("VmRSS")
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker
    took.sort()
    return {
        "empty_mib": empty,
        "idle_mib": idle,
        "woken_mib": woken,
        "poll_ms": poll_ms,
        "wake_p50_ms": percentile(took, 0.5),
        "wake_p99_ms": percentile(took, 0.99),
        "cpu_ms": cpu,
    }


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder")
    parser.add_argument("--do", choices=["fill", "work"], required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--wakes", type=int, default=0)
    asked = parser.parse_args()
    doing = fill(asked.database, asked.runs) if asked.do == "fill" else work(asked.database, asked.runs, asked.wakes)
    print(MARK + json.dumps(asyncio.run(doing)), flush=True)


if __name__ == "__main__":
    main()
