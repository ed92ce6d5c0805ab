"""The job on this engine, with its policy, guards, budget and hash chain; `synchronous=FULL`, as it comes.

A step is a call of a tool that reads, or of one that writes and has a key (its intent is committed before it starts).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bench.durable.job import Job, job
from jamjet_dsl import Engine, compile_text
from jamjet_dsl.engine.collector import calm

PROGRAM = """
record Config { retry: int  ok: bool  w: float }
record State  { n: int  run: string  tags: list<string>  cfg: Config  pad: string }
tool work(s: State) -> State { EFFECT }
agent linear {
  input first: State, goal: int
  output n: int
  var s: State = first
  budget { steps 10000000  exceeded -> over }
  policy { allow work }
  on error any -> over
  start state step { call work(s) as s  ON  when s.n < goal -> step  otherwise -> done }
  final done { n = s.n }
  failed over { n = s.n }
}
"""
EFFECTS = {
    "reads": PROGRAM.replace("EFFECT", "effect reads").replace("ON", ""),
    "writes": PROGRAM.replace("EFFECT", 'effect writes  key s.run + "/" + string(s.n)').replace(
        "ON", "on in_doubt -> over"
    ),
}

State = dict[str, Any]


def tool(job: Job) -> Callable[[State], Any]:
    """The step's body as a tool: a coroutine, or a function that the engine runs on a thread."""

    async def work(s: State) -> State:
        return job.body(s)

    def work_on_a_thread(s: State) -> State:
        return job.body(s)

    return work if job.options.tool == "async" else work_on_a_thread


async def drive(job: Job) -> list[int]:
    """All runs at once; how far each counted."""
    program = compile_text(EFFECTS[job.options.effect])
    calm()  # as `jam run` and `jam worker` do
    async with Engine(job.file("jam.db"), tools={"work": tool(job)}) as jam:

        async def one(run: int) -> int:
            handle = await jam.start(program, {"first": job.state(run), "goal": job.steps}, id=f"r-{run:06d}")
            view = await handle.wait()
            return int((view.output or {}).get("n", -1))

        waits: list[Awaitable[int]] = [one(run) for run in range(job.runs)]
        with job.clock.running():
            return await asyncio.gather(*waits)


def main() -> None:
    """Do the job and print its result."""
    work = job(effect=["reads", "writes"], tool=["async", "sync"])
    work.done(asyncio.run(drive(work)))


if __name__ == "__main__":
    main()
