"""Runs that another engine left: who takes them up, when, and what stands in the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jamjet_dsl import Engine, JamError, SimClock, compile_text
from jamjet_dsl.store.memory import MemoryStore
from tests.engine.test_engine_runs import ASK, EVENTS, INPUT, kinds, pay, pay_ann

NAP = """
agent sleeper {
  output woke: bool
  budget { steps 9  exceeded -> over }
  start state nap { wait 2h  -> done }
  final done { woke = true }
  failed over { woke = false }
}
"""


async def left_by(store: MemoryStore, clock: SimClock, program: Any, run_id: str, **engine: Any) -> None:
    """Start a run and close the engine as soon as the run waits."""
    async with Engine(store, clock=clock, **engine) as jam:
        await (await jam.start(program, INPUT if "pay" in str(engine) else {}, id=run_id)).wait()


async def test_a_worker_takes_up_what_is_due_and_leaves_the_rest() -> None:
    store, clock = MemoryStore(), SimClock()
    await left_by(store, clock, compile_text(NAP), "nap")
    await left_by(store, clock, compile_text(ASK), "ask", tools={"pay": pay_ann})
    await clock.advance(3 * 3_600_000)
    async with Engine(store, clock=clock, tools={"pay": pay_ann}) as jam:
        runs, problems = await jam.resume_all()
        assert ([run.id for run in runs], problems) == (["nap"], {})
        assert (await runs[0].wait()).output == {"woke": True}
        resumed = [event.body for event in jam.history("nap") if event.kind == "resumed"]
        assert [body["since_ms"] for body in resumed] == [clock.now_ms()], "nobody is known to have watched it before"
        assert jam.store.summary("ask").status == "waiting"
        assert await jam.resume_all() == ([], {})


async def test_a_worker_goes_on_looking() -> None:
    store, clock = MemoryStore(), SimClock()
    await left_by(store, clock, compile_text(NAP), "nap")
    async with Engine(store, clock=clock) as jam:
        worker = asyncio.create_task(jam.work(poll_ms=5))
        await asyncio.sleep(0.02)
        assert jam.run("nap").status == "waiting"
        await clock.advance(3 * 3_600_000)
        await asyncio.wait_for(jam.run("nap").wait_ended(), 5)
        worker.cancel()


async def test_an_engine_wakes_its_own_waiting_runs() -> None:
    clock = SimClock()
    async with Engine(MemoryStore(), clock=clock) as jam:
        run = await jam.start(compile_text(NAP), {}, id="nap")
        assert (await run.wait()).status == "waiting"
        await clock.advance(0)
        assert jam.store.summary("nap").owner == "", "nobody holds the lease of a run that sleeps"
        await clock.advance(3 * 3_600_000)
        assert (await run.wait()).output == {"woke": True}


async def test_a_run_whose_tools_are_missing_is_named_and_others_go_on() -> None:
    store, clock = MemoryStore(), SimClock()
    await left_by(store, clock, compile_text(NAP), "nap")
    await left_by(store, clock, compile_text(ASK), "ask", tools={"pay": pay_ann})
    await clock.advance(50 * 3_600_000)
    async with Engine(store, clock=clock) as jam:
        runs, problems = await jam.resume_all()
        assert [run.id for run in runs] == ["nap"]
        assert problems["ask"].code == "JAMR303"


async def test_an_answer_without_tools_waits_for_an_engine_that_has_them() -> None:
    store, clock = MemoryStore(), SimClock()
    await left_by(store, clock, compile_text(ASK), "t", tools={"pay": pay_ann})
    async with Engine(store, clock=clock) as jam:
        summary = await jam.answer("t", "approve", by="olga")
        assert summary.status == "waiting"
        assert len(store.pending("t")) == 1
    async with Engine(store, clock=clock, tools={"pay": pay_ann}) as jam:
        (run,), _ = await jam.resume_all()
        view = await run.wait()
        assert view.output == {"receipt": "ann got 9.50 USD", "note": None, "by": "olga"}


async def test_a_message_that_the_journal_cannot_hold_is_refused_and_does_no_harm() -> None:
    store, clock = MemoryStore(), SimClock()
    async with Engine(store, clock=clock) as jam:
        run = await jam.start(compile_text(EVENTS), {}, id="t")
        await run.wait()
        with pytest.raises(JamError) as caught:
            await jam.send("t", "word", {"text": "\x01" * 12_000_000})
        assert caught.value.code == "JAMR003"
        await jam.send("t", "word", {"text": "small"})
        await clock.advance(2 * 3_600_000)
        assert (await run.wait()).output == {"said": ["small"]}


async def test_a_run_taken_over_while_its_engine_was_away_goes_on_there() -> None:
    store = MemoryStore()
    gate = asyncio.Event()

    async def slow(to: str, amount: Any) -> str:
        await gate.wait()
        return "from the first"

    async with Engine(store, tools={"pay": slow}) as first:
        run = await first.start(pay(more="key to"), INPUT, id="t")
        await asyncio.sleep(0.01)
        # The lease is lost, as after a pause longer than it lasts; the second engine recovers the call by its key.
        store._owners.clear()
        async with Engine(store, tools={"pay": pay_ann}) as second:
            view = await (await second.resume("t")).wait()
            assert view.output == {"receipt": "ann got 9.50 USD"}
            gate.set()
            view = await asyncio.wait_for(run.wait_ended(), 5)
            assert view.output == {"receipt": "ann got 9.50 USD"}
            assert kinds(second, run).count("finished") == 1
            assert kinds(second, run).count("succeeded") == 1


async def test_messages_for_an_unknown_run_or_question_say_so() -> None:
    async with Engine(MemoryStore()) as jam:
        for code, call in {
            "JAMR201": lambda: jam.send("nope", "x"),
            "JAMR401": lambda: jam.answer("nope", "x"),
        }.items():
            with pytest.raises(JamError) as caught:
                await call()
            assert caught.value.code == code
        with pytest.raises(JamError) as caught:
            jam.show("nope")
        assert caught.value.code == "JAMR201"


async def test_a_parked_run_says_what_continues_it() -> None:
    async def lost(to: str, amount: Any) -> str:
        raise ConnectionResetError

    async with Engine(MemoryStore(), tools={"pay": lost}) as jam:
        run = await jam.start(pay(), INPUT, id="t")
        (wait,) = (await run.wait()).waiting_for
        assert wait["kind"] == "operator"
        assert wait["commands"] == ["settle --happened", "settle --did-not-happen", "cancel"]
        with pytest.raises(JamError) as caught:
            await jam.retry("t", by="ops")
        assert caught.value.code == "JAMR407"
