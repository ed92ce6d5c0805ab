"""One very long run of this engine: built through the store in large batches, folded, and resumed.

The kernel decides every event of it, as it would have in a million steps; only the commits are large.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

from bench.durable.job import MARK, peak_mib
from jamjet_dsl import Engine, compile_text
from jamjet_dsl.engine.advance import Transition, advance, standing, used_by_nobody
from jamjet_dsl.engine.chance import SystemChance
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import fold
from jamjet_dsl.kernel.model import Call
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.ports import Batch, Draft, Lease
from jamjet_dsl.store.sqlite import SqliteStore

PROGRAM = """
tool inc(n: int) -> int { effect reads }
agent long {
  input first: int
  output n: int
  event more()
  var n: int = 0
  var goal: int = first
  budget { steps 100000000  exceeded -> over }
  policy { allow inc }
  on error any -> over
  start state step { call inc(n) as n  when n < goal -> step  otherwise -> rest }
  state rest {
    set goal = goal + 150
    wait for event more timeout 365d
    on timeout -> done
    -> step
  }
  final done { n = n }
  failed over { n = n }
}
"""
RUN = "long"
BATCH = 20_000
"""Events of a commit while the run is built."""
LEASE_MS = 3_600_000


async def inc(n: int) -> int:
    """The tool of the run."""
    return n + 1


async def start(path: str, first: int) -> None:
    """The run's first step, by the engine: it stores the program. The second never comes while this engine is open."""
    waiting = asyncio.Event()

    async def hold(n: int) -> int:
        await waiting.wait()
        return n + 1

    async with Engine(path, tools={"inc": hold}) as jam:
        await jam.start(compile_text(PROGRAM), {"first": first}, id=RUN)


def build(path: str, events: int) -> dict[str, Any]:
    """Write a run of about so many events."""
    asyncio.run(start(path, events // 2))
    begun = time.perf_counter()
    store, program = SqliteStore(path), Program.of(compile_text(PROGRAM).definition)
    state = fold(program, RUN, store.history(RUN))
    now = state.now_ms
    lease = store.claim(RUN, "bench", LEASE_MS, now)
    chance = SystemChance()
    written, drafts = state.seq, list[Draft]()
    step = advance(program, state, [], now, chance, store.key_digest, used_by_nobody)
    while step.effects:
        drafts += step.drafts
        if len(drafts) >= BATCH:
            written = flush(store, lease, written, drafts, step)
        (call,) = step.effects.values()
        assert isinstance(call, Call)
        outcome = inputs.succeeded(program, step.state, call, call.args["n"] + 1, None, 0)
        step = advance(program, step.state, [outcome], now, chance, store.key_digest, used_by_nobody)
    drafts += step.drafts
    written = flush(store, lease, written, drafts, step)
    store.release(lease)
    store.close()
    return {"seconds": time.perf_counter() - begun, "events": written}


def flush(store: SqliteStore, lease: Lease, after: int, drafts: list[Draft], step: Transition) -> int:
    """Append what has gathered, and forget it. The number of the last event."""
    store.append(lease, after, Batch(list(drafts), standing(step)))
    after += len(drafts)
    drafts.clear()
    return after


def fold_all(path: str) -> dict[str, Any]:
    """Read, verify and fold every event."""
    program = Program.of(compile_text(PROGRAM).definition)
    begun = time.perf_counter()
    store = SqliteStore(path)
    state = fold(program, RUN, store.history(RUN))
    took = time.perf_counter() - begun
    if state.seq != store.last_seq(RUN):
        raise SystemExit(f"the fold ends at {state.seq} of {store.last_seq(RUN)}")
    store.close()
    return {"seconds": took, "n": state.vars["n"]}


async def more(path: str) -> dict[str, Any]:
    """Wake the run: it goes on for a while, takes its snapshots, and waits again."""
    begun = time.perf_counter()
    async with Engine(path, tools={"inc": inc}) as jam:
        await jam.send(RUN, "more")
        handle = await jam.resume(RUN)
        while (await handle.wait()).status != "waiting":
            pass
    return {"seconds": time.perf_counter() - begun}


async def resume(path: str) -> dict[str, Any]:
    """Open the database and take the run up from its snapshot."""
    begun = time.perf_counter()
    async with Engine(path, tools={"inc": inc}) as jam:
        handle = await jam.resume(RUN)
        took = time.perf_counter() - begun
        if (await handle.wait()).status != "waiting":
            raise SystemExit("the run does not wait")
    return {"seconds": took}


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder")
    parser.add_argument("--do", choices=["build", "fold", "more", "resume"], required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--events", type=int, required=True)
    asked = parser.parse_args()
    path = str(Path(asked.database))
    match asked.do:
        case "build":
            found = build(path, asked.events)
        case "fold":
            found = fold_all(path)
        case "more":
            found = asyncio.run(more(path))
        case _:
            found = asyncio.run(resume(path))
    print(MARK + json.dumps({**found, "peak_mib": peak_mib()}), flush=True)


if __name__ == "__main__":
    main()
