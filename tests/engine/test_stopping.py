"""Stopping what waits: whoever is cancelled ends, whatever happens in the same moment; no failure ends the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jamjet_dsl import Engine, JamError, Run, SimClock, compile_text
from jamjet_dsl.engine import engine as engine_module
from jamjet_dsl.engine.loading import load_since
from jamjet_dsl.store.memory import MemoryStore
from tests.engine.test_engine_runs import INPUT, pay
from tests.engine.test_many_runs import EVENT, until
from tests.engine.test_taking_over import NAP, Gate

MOMENTS = range(6)
"""Turns of the loop between a nudge and a cancellation: more than a nudge takes to be heard."""


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def ends(task: asyncio.Task[None]) -> bool:
    """Cancel it and see whether it was the end of it. It may not wait for anything any more."""
    task.cancel()
    await turns(20)
    return task.cancelled()


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_worker_that_is_stopped_as_a_message_comes_stops(moment: int) -> None:
    async with Engine(MemoryStore(), clock=SimClock()) as jam:
        await jam.start(compile_text(EVENT), {}, id="t")
        working = asyncio.create_task(jam.work(poll_ms=600_000))
        await turns(20)
        # As the engine does when it sees that another process has written to a run.
        jam._noticed("t", mail=True)
        await turns(moment)
        assert await ends(working)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_closing_can_be_cut_short_as_the_engine_is_nudged(moment: int) -> None:
    gate = Gate()
    jam = Engine(MemoryStore(), clock=SimClock(), tools={"pay": gate.pay})
    for name in ("a", "b"):
        await jam.start(pay(effect="writes", more="key to + run.id"), INPUT, id=name)
    await until(lambda: len(gate.calls) == 2)
    closing = asyncio.create_task(jam.close(grace_ms=600_000))
    await turns(20)
    # As the last but one of its drivers does when it leaves.
    assert jam._nudge is not None
    jam._nudge.set()
    await turns(moment)
    assert await ends(closing)
    assert jam._keeper.drivers == {}, "cut short, and still everything was given up"


async def test_a_worker_looks_again_as_soon_as_it_is_nudged_and_after_its_time_otherwise() -> None:
    looks = 0

    class Counting(MemoryStore):
        def claim_due(self, *args: Any, **more: Any) -> Any:
            nonlocal looks
            looks += 1
            return super().claim_due(*args, **more)

    async with Engine(Counting(), clock=SimClock()) as jam:
        working = asyncio.create_task(jam.work(poll_ms=600_000))
        await turns(50)
        assert looks == 1
        jam._noticed("t", mail=True)
        await turns(50)
        assert looks == 2
        assert await ends(working)
        working = asyncio.create_task(jam.work(poll_ms=1))
        await until(lambda: looks >= 5)
        assert await ends(working)


async def test_who_cannot_be_told_of_a_failure_stops_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """`jam worker` tells on its standard error, which may be a pipe that nobody reads any more."""
    store, clock = MemoryStore(), SimClock()
    async with Engine(store, clock=clock) as jam:
        for name in ("bad", "good"):
            await jam.start(compile_text(NAP), {}, id=name, drive=False)
    await clock.advance(3_600_000)
    reported = list[str]()

    def damaged(store: Any, program: Any, run_id: str, veil: Any) -> Any:
        if run_id == "bad":
            raise JamError("JAMR107", "damaged")
        return load_since(store, program, run_id, veil)

    def tell(run_id: str, error: JamError) -> None:
        raise BrokenPipeError(f"{run_id}: {error.code}")

    monkeypatch.setattr(engine_module, "load_since", damaged)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(str(context["exception"])))
    async with Engine(store, clock=clock) as jam:
        working = asyncio.create_task(jam.work(1, tell))
        assert (await asyncio.wait_for(jam.run("good").wait_ended(), 5)).output == {"woke": True}
        assert reported == ["bad: JAMR107"]
        assert await ends(working)


async def test_a_mistake_in_taking_one_run_up_does_not_end_the_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    store, clock, gate = MemoryStore(), SimClock(), Gate()
    async with Engine(store, clock=clock, tools={"pay": gate.pay}, lease_ms=3_000) as jam:
        bad = await jam.start(compile_text(NAP.replace("1h", "6s")), {}, id="bad")
        good = await jam.start(pay(), INPUT, id="good")
        await until(lambda: bool(gate.calls))

        def mistaken(store: Any, program: Any, run_id: str, veil: Any) -> Any:
            if run_id == "bad":
                raise RecursionError("a mistake")
            return load_since(store, program, run_id, veil)

        monkeypatch.setattr(engine_module, "load_since", mistaken)
        await clock.advance(6_000)
        with pytest.raises(JamError) as caught:
            await asyncio.wait_for(bad.wait(), 5)
        assert caught.value.code == "JAMR901"
        await clock.advance(30_000)
        taken = store.claim_due("other", 3_000, clock.now_ms(), 10)
        assert [lease.run_id for lease in taken] == ["bad"], "the other one is still held: its heart beats"
        gate.open.set()
        assert (await asyncio.wait_for(good.wait(), 5)).status == "completed"


@pytest.mark.parametrize("begins", [True, False], ids=["start", "resume"])
async def test_a_store_that_cannot_be_watched_yet_leaves_no_run_that_nobody_drives(begins: bool) -> None:
    class Locked(MemoryStore):
        locked = False

        def changes(self) -> int:
            if self.locked:
                raise JamError("JAMR103", "another process holds the lock")
            return super().changes()

    store, gate = Locked(), Gate()
    gate.open.set()
    if not begins:
        async with Engine(store, tools={"pay": gate.pay}) as jam:
            await jam.start(pay(), INPUT, id="t", drive=False)
    async with Engine(store, tools={"pay": gate.pay}) as jam:

        async def go() -> Run:
            return await (jam.start(pay(), INPUT, id="t") if begins else jam.resume("t"))

        store.locked = True
        with pytest.raises(JamError) as caught:
            await go()
        assert (caught.value.code, store.due(jam.clock.now_ms())) == ("JAMR103", [] if begins else ["t"])
        store.locked = False
        assert (await asyncio.wait_for((await go()).wait(), 5)).status == "completed"
