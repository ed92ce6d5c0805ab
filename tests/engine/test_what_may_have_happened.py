"""A call that may have happened is never an ordinary error, whatever a later attempt says; and other ways in which a
second try must not do something twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jamjet_dsl import Engine, SimClock, ToolError, compile_text
from jamjet_dsl.engine.handle import Run
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import apply, decide, fold
from jamjet_dsl.kernel.model import Call, Event, Record
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.recovery import recover
from jamjet_dsl.store.memory import MemoryStore

PAY = """
tool look(k: string) -> string? {{ effect reads  timeout 5s }}
tool pay(to: string) -> string {{ effect irreversible  key run.id  {confirm}  timeout 5s  raises Rejected }}
agent payer {{
  output receipt: string?
  budget {{ steps 9  exceeded -> stopped }}
  policy {{ allow look  allow pay without approval because "a test" }}
  start state paying {{
    call pay("ann") as receipt  retry Timeout 1 times
    on error any -> declined
    on in_doubt  -> unsure
    -> paid
  }}
  final  paid {{ receipt = receipt }}
  failed declined {{ }}
  failed unsure {{ }}
  failed stopped {{ }}
}}
"""


def pay(confirm: str = "") -> Any:
    return compile_text(PAY.format(confirm=confirm))


async def end(program: Any, *errors: ToolError, looked: str | None = None) -> tuple[str, int]:
    """The final state when the attempts fail like this, one after another, and how many there were."""
    left = list(errors)
    attempts = 0

    async def paying(to: str) -> str:
        nonlocal attempts
        attempts += 1
        if left:
            raise left.pop(0)
        return "r1"

    async def look(k: str) -> str | None:
        return looked

    async with Engine(MemoryStore(), tools={"pay": paying, "look": look}) as jam:
        view = await (await jam.start(program, {})).wait()
        return view.state, attempts


TIMEOUT = ToolError("Timeout", "no answer")


@pytest.mark.parametrize("later", ["RateLimited", "Unavailable", "InvalidInput"])
async def test_a_later_attempt_that_was_not_let_in_says_nothing_of_the_one_before(later: str) -> None:
    assert await end(pay(), TIMEOUT, ToolError(later, "busy")) == ("unsure", 2)


async def test_a_later_attempt_that_never_left_says_nothing_of_the_one_before() -> None:
    never_left = ToolError("Crashed", "no route", definite=True)
    assert await end(pay(), never_left) == ("declined", 1)
    assert await end(pay(), TIMEOUT, never_left) == ("unsure", 2)


async def test_the_tools_own_answer_under_the_same_key_settles_it() -> None:
    assert await end(pay(), TIMEOUT, ToolError("Rejected", "no")) == ("declined", 2)


async def test_what_confirm_knows_settles_it() -> None:
    confirmed = pay("confirm look(run.id)")
    busy = ToolError("RateLimited", "busy")
    assert await end(confirmed, TIMEOUT, busy, looked="r0") == ("paid", 2)
    assert await end(confirmed, TIMEOUT, busy, looked=None) == ("declined", 2)


class Folded:
    """A run that died while it paid, taken over: the kernel alone, event by event."""

    def __init__(self, program: Program, journal: list[Event]) -> None:
        self.program, self.state = program, fold(program, "r", journal)

    def happen(self, kind: str, body: dict[str, Any], after_ms: int = 0) -> None:
        event = Event("r", self.state.seq + 1, self.state.now_ms + after_ms, kind, body)
        self.state = apply(self.program, self.state, event)

    def taken_over(self, after_ms: int = 1000) -> None:
        for record in recover(self.program, self.state):
            self.happen(record.kind, record.body, after_ms)
            after_ms = 0

    def record(self) -> Record:
        (record,) = decide(self.program, self.state)
        assert isinstance(record, Record)
        return record

    def call(self) -> Call:
        (call,) = decide(self.program, self.state)
        assert isinstance(call, Call)
        return call


async def died_while_paying(compiled: Any) -> Folded:
    gate = asyncio.Event()

    async def hangs(to: str) -> str:
        await gate.wait()
        return "r1"

    async def look(k: str) -> str | None:
        return None

    async with Engine(MemoryStore(), tools={"pay": hangs, "look": look}, clock=SimClock()) as jam:
        run = await jam.start(compiled, {}, id="r")
        journal = list(jam.history(run.id))
        gate.set()
        await run.wait()
    return Folded(Program.of(compiled.definition), journal)


async def test_after_a_recovery_by_key_an_attempt_that_was_not_let_in_leaves_it_open() -> None:
    run = await died_while_paying(pay())
    run.taken_over()
    call = run.call()
    assert call.intent is not None
    run.happen("intent", call.intent)
    run.happen(*inputs.failed(run.program, run.state, call, "RateLimited", "busy"))
    assert run.record().kind == "in_doubt"


async def test_a_recovered_payment_that_does_not_fit_the_budget_again_is_in_doubt_and_not_exceeded() -> None:
    text = PAY.format(confirm="cost $0.60").replace("steps 9 ", "steps 9  cost $1.00 ")
    run = await died_while_paying(compile_text(text))
    run.taken_over()
    assert run.state.spent.cost == "0.60 USD"
    assert run.record().kind == "in_doubt"


async def test_a_recovered_payment_whose_time_is_up_is_in_doubt_and_not_exceeded() -> None:
    run = await died_while_paying(compile_text(PAY.format(confirm="").replace("steps 9 ", "steps 9  time 10m ")))
    run.taken_over(after_ms=11 * 60_000)
    assert run.record().kind == "exceeded"
    run.happen("exceeded", run.record().body)
    assert run.record().kind == "in_doubt"
    run.happen("in_doubt", run.record().body)
    assert (run.record().kind, run.record().body["to"]) == ("moved", "unsure")


CLEAN = """
tool put(n: string) -> int { effect writes  key n  timeout 1h }
agent worker {
  output n: int
  budget { steps 9  exceeded -> stopped }
  policy { allow put }
  on error any -> stopped
  on in_doubt  -> stopped
  on cancel    -> clean
  start state work { call put("work")  -> more }
  state more  { call put("more")   -> done }
  state clean { call put("clean")  -> done }
  final  done { n = 1 }
  failed stopped { n = 0 }
}
"""


async def test_a_second_cancellation_does_not_begin_the_clean_up_again() -> None:
    gates = {"work": asyncio.Event(), "clean": asyncio.Event()}
    calls: list[str] = []

    async def put(n: str) -> int:
        calls.append(n)
        await gates[n].wait()
        return 1

    async with Engine(MemoryStore(), tools={"put": put}) as jam:
        run: Run = await jam.start(compile_text(CLEAN), {})
        await jam.cancel(run.id, by="ann")
        gates["work"].set()
        while calls != ["work", "clean"]:
            await asyncio.sleep(0.005)
        await jam.cancel(run.id, by="ann")
        gates["clean"].set()
        view = await run.wait()
        assert (view.status, view.state, calls) == ("cancelled", "done", ["work", "clean"])


NAP = """
agent sleeper {
  output n: int
  budget { steps 9  active 1h  exceeded -> stopped }
  start state sleeping { wait 10m  -> done }
  final  done { n = 1 }
  failed stopped { n = 0 }
}
"""


async def test_a_day_in_which_nobody_ran_it_is_not_active_time() -> None:
    store, clock, nap = MemoryStore(), SimClock(), compile_text(NAP)
    async with Engine(store, clock=clock) as jam:
        await (await jam.start(nap, {}, id="r")).wait()
    await clock.advance(86_400_000)
    async with Engine(store, clock=clock) as jam:
        view = await (await jam.resume("r")).wait()
    assert (view.status, view.state, view.spent["active_ms"]) == ("completed", "done", 0)


WAIT = """
agent patient {
  output n: int
  event go(x: int)
  budget { steps 9  exceeded -> stopped }
  start state waiting { wait for event go(e) timeout 10m  -> done }
  final  done { n = e.x }
  failed stopped { n = 0 }
}
"""


async def test_a_wait_that_timed_out_waits_anew_when_it_is_retried() -> None:
    clock = SimClock()
    async with Engine(MemoryStore(), clock=clock) as jam:
        run = await jam.start(compile_text(WAIT), {})
        await clock.advance(11 * 60_000)
        assert (await run.wait()).status == "parked"
        await jam.retry(run.id, by="ann")
        assert (await run.wait()).status == "waiting"
        await jam.send(run.id, "go", {"x": 3})
        assert (await run.wait()).output == {"n": 3}


SEVERAL = """
tool put(n: int) -> int { effect writes }
agent several {
  output n: int
  budget { steps 100  exceeded -> over }
  policy { allow put }
  on error any -> over
  start state one { call put(1) as a  -> two }
  state two { call put(2) as b  -> done }
  final done { n = a + b }
  failed over { n = 0 }
}
"""


async def test_what_is_told_of_one_call_is_never_taken_for_another_that_is_in_doubt_by_then() -> None:
    async def put(n: int) -> int:
        raise ConnectionResetError("who knows")

    store = MemoryStore()
    async with Engine(store, tools={"put": put}) as jam:
        run = await jam.start(compile_text(SEVERAL), {})
        assert (await run.wait()).status == "parked"
        sent: list[dict[str, Any]] = []
        enqueue = store.enqueue

        def keep(run_id: str, kind: str, body: dict[str, Any], *rest: Any) -> int | None:
            sent.append(body)
            return enqueue(run_id, kind, body, *rest)

        store.enqueue = keep  # type: ignore[method-assign]
        await jam.settle(run.id, True, 1, by="ann")
        assert sent[0]["cmd"] == "#1.1"
        assert (await run.wait()).status == "parked"
        # The same word once more, from a sender who did not hear that it was taken: the call in doubt is another now.
        enqueue(run.id, "settle", sent[0], None, store.summary(run.id).updated_ms)
        await jam.settle(run.id, False, by="ann", cmd="#2.1")
        told = [e.body["cmd"] for e in jam.history(run.id) if e.kind == "settled"]
        assert told == ["#1.1", "#2.1"]
