"""Several effects of one run in flight at once: branches and items, and what becomes of some while others go on."""

from __future__ import annotations

import asyncio
import threading

from jamjet_dsl import Engine, SimClock, compile_text
from jamjet_dsl.store.memory import MemoryStore
from tests.engine.test_engine_runs import kinds
from tests.engine.test_many_runs import until

ITEMS = """
tool look(n: int) -> int { effect EFFECT }
agent many {
  input  ns: list<int>
  output sums: list<int>
  var got: list<int> = []
  budget { steps 100  exceeded -> over }
  policy { allow look }
  on error any -> over
  on in_doubt -> over
  start state all { each n in ns, 3 at once { call look(n) as m  yields m } as got  -> done }
  final done { sums = got }
  failed over { sums = [] }
}
"""

RACE = """
tool look(n: int) -> int { effect reads }
tool put(n: int) -> int { effect writes }
agent race {
  output won: int
  budget { steps 100  exceeded -> over }
  policy { allow look  allow put }
  on error any -> over
  on in_doubt -> over
  start parallel gather {
    branch quick as a or 0 { call look(1) as x  yields x }
    branch hangs as b or 0 { call look(2) as y  yields y }
    branch writes as c or 0 { call put(3) as z  yields z }
    join any
    on join -> done
  }
  final done { won = a * 100 + b * 10 + c }
  failed over { won = 0 }
}
"""


async def test_items_are_in_flight_together_as_many_as_the_program_says() -> None:
    now, most = 0, 0

    async def look(n: int) -> int:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        await asyncio.sleep(0.001 * (5 - n % 5))
        now -= 1
        return 10 * n

    async with Engine(MemoryStore(), tools={"look": look}) as jam:
        run = await jam.start(compile_text(ITEMS.replace("EFFECT", "reads")), {"ns": list(range(9))})
        assert (await run.wait()).output == {"sums": [10 * n for n in range(9)]}
    assert most == 3


async def test_of_branches_that_are_not_wanted_any_more_reads_are_stopped_and_a_write_is_waited_for() -> None:
    stopped, put_began, put_ends = [], asyncio.Event(), asyncio.Event()

    async def look(n: int) -> int:
        if n == 1:
            await put_began.wait()
            return 1
        try:
            return await asyncio.sleep(3600, n)
        except asyncio.CancelledError:
            stopped.append(n)
            raise

    async def put(n: int) -> int:
        put_began.set()
        await put_ends.wait()
        return n

    store = MemoryStore()
    async with Engine(store, tools={"look": look, "put": put}) as jam:
        run = await jam.start(compile_text(RACE), {})
        await until(lambda: stopped == [2])
        assert run.status == "running"
        driver = jam._keeper.drivers[run.id]
        assert not driver.at_rest, "the write is in flight"
        put_ends.set()
        view = await run.wait()
    assert (view.status, view.output is not None) == ("completed", True)
    assert view.output is not None
    assert view.output["won"] // 10 == 10, "the first that was done, and not the one that was stopped"
    assert kinds(jam, run).count("succeeded") == 2


async def test_closing_waits_for_the_writes_of_all_items_and_the_rest_is_for_whoever_resumes() -> None:
    store, began, go, made = MemoryStore(), [], threading.Event(), []

    def look(n: int) -> int:
        began.append(n)
        go.wait(10)
        made.append(n)
        return n

    program = compile_text(ITEMS.replace("effect EFFECT", 'effect writes  key run.id + "/" + string(n)'))
    jam = Engine(store, tools={"look": look})
    run = await jam.start(program, {"ns": [1, 2, 3, 4, 5]})
    await until(lambda: len(began) == 3)
    closing = asyncio.create_task(jam.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    go.set()
    await closing
    assert sorted(made) == [1, 2, 3]
    assert kinds(Engine(store), run).count("succeeded") == 3
    async with Engine(store, tools={"look": look}) as later:
        assert (await (await later.resume(run.id)).wait()).output == {"sums": [1, 2, 3, 4, 5]}
    assert sorted(made) == [1, 2, 3, 4, 5], "what was done is not done again"


async def test_one_item_that_times_out_leaves_the_others_in_flight() -> None:
    clock, gates = SimClock(), {n: asyncio.Event() for n in range(3)}

    async def look(n: int) -> int:
        await gates[n].wait()
        return n

    text = ITEMS.replace("effect EFFECT", "effect reads")
    text = text.replace("call look(n) as m  yields m", "call look(n) as m timeout 1m  on error Timeout skip  yields m")
    async with Engine(MemoryStore(), tools={"look": look}, clock=clock) as jam:
        run = await jam.start(compile_text(text), {"ns": [0, 1, 2]})
        await clock.advance(30_000)
        gates[0].set()
        await clock.advance(0)
        await clock.advance(31_000)
        assert (await run.wait()).output == {"sums": [0]}


PARKING = """
tool look(n: int) -> int { effect reads }
tool put(n: int) -> int { effect writes }
agent parking {
  input  zero: int
  output n: int
  budget { steps 100  exceeded -> over }
  policy { allow look  allow put }
  on in_doubt -> over
  start parallel gather {
    branch a1 as a { state s { on error any yields 1 / zero  yields 1 / zero } }
    branch b1 as b { call look(2) }
    join all
    on join -> done
    on error any -> over
  }
  final done { n = a + b }
  failed over { n = 0 }
}
"""


async def test_nothing_begins_in_a_branch_while_another_has_parked_the_run() -> None:
    called: list[int] = []

    async def look(n: int) -> int:
        called.append(n)
        return n

    async with Engine(MemoryStore(), tools={"look": look, "put": look}) as jam:
        run = await jam.start(compile_text(PARKING), {"zero": 0})
        view = await run.wait()
        assert view.status == "parked"
        await asyncio.sleep(0)
        assert called == []
        assert [(f["path"], f["phase"]) for f in view.frames] == [("gather@1/a1", "leave"), ("gather@1/b1", "enter")]


ONE_KEY = """
tool put(n: int) -> int { effect writes  key run.id }
agent one_key {
  output n: int
  budget { steps 100  exceeded -> over }
  policy { allow put }
  on in_doubt -> over
  start parallel gather {
    branch a1 as a or 0 { call put(1) }
    branch b1 as b or 0 { call put(2)  on error InvalidInput skip }
    join 1 of 2
    on join -> done
    on error any -> over
  }
  final done { n = a * 10 + b }
  failed over { n = 0 }
}
"""


async def test_two_branches_that_begin_at_once_cannot_use_one_key_for_two_calls() -> None:
    called: list[int] = []

    async def put(n: int) -> int:
        called.append(n)
        return n

    async with Engine(MemoryStore(), tools={"put": put}) as jam:
        run = await jam.start(compile_text(ONE_KEY), {})
        assert (await run.wait()).output == {"n": 10}
        assert called == [1]
        (refused,) = [e.body for e in jam.history(run.id) if e.kind == "failed"]
        assert refused["error"] == "InvalidInput"
