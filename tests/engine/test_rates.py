"""`limit n calls per …` on a tool delays calls, over all runs of a database."""

from __future__ import annotations

import asyncio

from jamjet_dsl import Engine, SimClock, compile_text
from jamjet_dsl.store.memory import MemoryStore

LIMITED = """
tool ping(n: int) -> int { effect reads  limit 2 calls per minute }
agent pinger {
  input n: int
  output n: int
  budget { steps 9  exceeded -> over }
  policy { allow ping }
  start state one { call ping(n) as m  on error any -> over  -> done }
  final done { n = m }
  failed over { n = 0 }
}
"""


async def test_calls_above_the_rate_wait_for_their_turn() -> None:
    clock, calls = SimClock(), []
    start = clock.now_ms()

    async def ping(n: int) -> int:
        calls.append(clock.now_ms() - start)
        return n

    async with Engine(MemoryStore(), tools=[ping], clock=clock) as jam:
        program = compile_text(LIMITED)
        runs = [await jam.start(program, {"n": n}) for n in range(5)]
        await clock.advance(10)
        assert calls == [0, 0]
        await clock.advance(200_000)
        views = await asyncio.gather(*(run.wait() for run in runs))
    assert calls == [0, 0, 60_000, 60_000, 120_000]
    assert all(view.status == "completed" for view in views)
