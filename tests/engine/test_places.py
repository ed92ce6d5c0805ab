"""Threads are few: a slow tool leaves some to the others, a queue that moves on is waited in, and of a call that still
runs on its thread nobody says that it did not happen."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from jamjet_dsl import Engine, SimClock, compile_text
from jamjet_dsl.store.memory import MemoryStore
from tests.engine.test_many_runs import until

CALLS = """
tool slow(n: int) -> int { effect reads  timeout 5s }
tool quick(n: int) -> int { effect reads  timeout 5s }
agent many version 1 {
  output n: int
  budget { steps 40  exceeded -> over }
  policy { allow any }
  start state s { each i in range(12), 12 at once { call slow(i) as r  yields r } as rs  on error any -> over  -> done }
  final done { n = size(rs) }
  failed over { n = 0 }
}
agent one version 1 {
  output n: int
  budget { steps 9  exceeded -> over }
  policy { allow any }
  start state s { call TOOL(1) as r  on error any -> over  -> done }
  final done { n = r }
  failed over { n = 0 }
}
"""
POST = """
tool post(text: string) -> string { effect writes  confirm posted(text)  timeout 1s }
tool posted(text: string) -> string? { effect reads  CONFIRM }
agent writer version 1 {
  output said: string?
  budget { steps 9  exceeded -> over }
  policy { allow any }
  start state s { call post("x") as r retry any 3 times  on in_doubt -> doubt  on error any -> over  -> done }
  final done { said = r }
  failed doubt { said = "in doubt" }
  failed over { said = "failed" }
}
"""


def one(tool: str) -> Any:
    return compile_text(CALLS.replace("TOOL", tool), agent="one")


async def test_a_slow_tool_leaves_threads_to_the_others() -> None:
    gate, begun = threading.Event(), list[int]()

    def slow(n: int) -> int:
        begun.append(n)
        gate.wait(20)
        return n

    async with Engine(MemoryStore(), tools={"slow": slow, "quick": lambda n: n}, max_threads=8) as jam:
        busy = await jam.start(compile_text(CALLS.replace("TOOL", "quick"), agent="many"), {}, id="many")
        await until(lambda: len(begun) == 6)
        quick = await jam.start(one("quick"), {}, id="one")
        assert (await asyncio.wait_for(quick.wait(), 20)).status == "completed"
        assert not gate.is_set(), "and all that time six of the slow calls were under way, and six waited"
        assert len(begun) == 6
        gate.set()
        assert (await busy.wait()).output == {"n": 12}


async def test_a_queue_that_moves_on_is_waited_in_and_one_that_stands_still_is_not() -> None:
    clock, gates, begun = SimClock(), [threading.Event() for _ in range(3)], list[int]()

    def slow(n: int) -> int:
        begun.append(n)
        gates[len(begun) - 1].wait(20)
        return n

    program = one("slow")
    async with Engine(MemoryStore(), tools={"slow": slow}, clock=clock, max_threads=1) as jam:
        runs = [await jam.start(program, {}, id=name) for name in "abcd"]
        await until(lambda: len(begun) == 1)
        for done in (1, 2):
            await clock.advance(4_000)
            gates[done - 1].set()
            await until(lambda done=done: len(begun) == done + 1)  # type: ignore[misc]
        # The last two have stood in the queue for longer than a call may take, and it has moved.
        assert [jam.show(name).status for name in "ab"] == ["completed"] * 2
        assert [jam.show(name).status for name in "cd"] == ["running"] * 2
        for _ in range(4):
            await clock.advance(4_000)
        for run in runs[2:]:
            assert (await asyncio.wait_for(run.wait(), 20)).output == {"n": 0}
        failures = [next(e.body for e in jam.history(name) if e.kind == "failed") for name in "cd"]
        assert failures[0]["message"] == "no answer after 5000 ms"
        assert "was not begun: nothing before it came to its end" in failures[1]["message"]
        gates[2].set()
    assert len(begun) == 3


async def posting(confirm: str) -> tuple[Engine, SimClock, threading.Event, list[str], Any]:
    """A run whose call has timed out and still runs on its thread."""
    clock, gate, posts, asked = SimClock(), threading.Event(), list[str](), list[str]()

    def post(text: str) -> str:
        asked.append("begun")
        gate.wait(20)
        posts.append(text)
        return "posted"

    async def posted(text: str) -> str | None:
        asked.append("confirm")
        return "posted" if posts else None

    jam = Engine(MemoryStore(), tools={"post": post, "posted": posted}, clock=clock)
    run = await jam.start(compile_text(POST.replace("CONFIRM", confirm)), {}, id="w")
    await until(lambda: asked == ["begun"])
    await clock.advance(1_000)
    await until(lambda: any(event.kind == "failed" for event in jam.history("w")))
    return jam, clock, gate, asked, run


async def test_confirm_waits_for_the_call_that_still_runs() -> None:
    jam, clock, gate, asked, run = await posting("")
    await clock.advance(60_000)
    assert asked == ["begun"], "nobody could say that it did not happen"
    gate.set()
    assert (await asyncio.wait_for(run.wait(), 20)).output == {"said": "posted"}
    assert asked == ["begun", "confirm"]
    await jam.close()


async def test_a_confirm_whose_time_is_up_cannot_tell() -> None:
    jam, clock, gate, asked, run = await posting("timeout 9s")
    await clock.advance(9_000)
    assert (await asyncio.wait_for(run.wait(), 20)).output == {"said": "in doubt"}
    assert asked == ["begun"]
    gate.set()
    await jam.close()
