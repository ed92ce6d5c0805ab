"""A run of this engine whose list grows by one short text each step."""

from __future__ import annotations

import asyncio
from typing import Any

from bench.durable.job import Growth, growth
from jamjet_dsl import Engine, compile_text

PROGRAM = """
tool name(n: int) -> string { effect reads }
agent grow {
  input goal: int
  output n: int
  var items: list<string> = []
  budget { steps 10000000  exceeded -> over }
  policy { allow name }
  on error any -> over
  start state step {
    call name(size(items)) as item
    set items = items + [item]
    when size(items) < goal -> step
    otherwise               -> done
  }
  final done { n = size(items) }
  failed over { n = size(items) }
}
"""


async def drive(work: Growth) -> int:
    """How long the list was in the end."""

    async def name(n: int) -> str:
        return work.item(n)

    async with Engine(work.path, tools={"name": name}) as jam:
        handle = await jam.start(compile_text(PROGRAM), {"goal": work.steps})
        output: dict[str, Any] = (await handle.wait()).output or {}
        return int(output.get("n", -1))


if __name__ == "__main__":
    work = growth("jam.db")
    work.done(asyncio.run(drive(work)))
