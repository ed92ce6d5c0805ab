"""Leases: kept while a tool runs, lost when a process was away too long, taken over, given up."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, JamError, SimClock, compile_file, compile_text
from jamjet_dsl.engine import engine as engine_module
from jamjet_dsl.store.memory import MemoryStore
from tests.engine.test_engine_runs import ASK, INPUT, kinds, pay, pay_ann
from tests.engine.test_many_runs import EVENT, until

NAP = """
agent sleeper {
  output woke: bool
  budget { steps 9  exceeded -> over }
  start state nap { wait 1h  -> done }
  final done { woke = true }
  failed over { woke = false }
}
"""


class Gate:
    """A tool that stays in flight until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.calls: list[str] = []
        self.stopped = 0

    async def pay(self, to: str, amount: Any) -> str:
        self.calls.append(to)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        return "paid"


@pytest.fixture
def nobody_is_known_to_be_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "is_dead", lambda owner: False)


async def test_a_lease_is_kept_while_a_tool_runs() -> None:
    store, clock, gate = MemoryStore(), SimClock(), Gate()
    async with Engine(store, clock=clock, tools={"pay": gate.pay}, lease_ms=1_000) as jam:
        run = await jam.start(pay(), INPUT, id="t")
        for _ in range(30):
            await clock.advance(500)
            assert store.claim_due("other", 1_000, clock.now_ms(), 10) == []
            with pytest.raises(JamError) as caught:
                store.claim("t", "other", 1_000, clock.now_ms())
            assert caught.value.code == "JAMR205"
        gate.open.set()
        assert (await run.wait()).status == "completed"


async def test_one_heartbeat_keeps_all_runs_of_a_process() -> None:
    class Counting(MemoryStore):
        beats: list[int] = []  # noqa: RUF012

        def renew_many(self, leases: Any, lease_ms: int, now_ms: int) -> Any:
            self.beats.append(len(leases))
            return super().renew_many(leases, lease_ms, now_ms)

    store, clock, gate = Counting(), SimClock(), Gate()
    async with Engine(store, clock=clock, tools={"pay": gate.pay}, lease_ms=3_000) as jam:
        runs = [await jam.start(pay(), INPUT) for _ in range(50)]
        await clock.advance(9_000)
        assert 5 <= len(store.beats) <= 10
        assert set(store.beats) == {50}
        gate.open.set()
        assert {(await run.wait()).status for run in runs} == {"completed"}


async def test_who_comes_back_after_his_lease_stops_what_he_can_and_writes_nothing() -> None:
    store, clock, mine, theirs = MemoryStore(), SimClock(), Gate(), Gate()
    theirs.open.set()
    program = pay(effect="writes", more="key to + run.id")
    async with Engine(store, clock=clock, tools={"pay": mine.pay}, lease_ms=1_000) as first:
        run = await first.start(program, INPUT, id="t")
        await until(lambda: bool(mine.calls))
        # The first is stopped: its clock goes on, but nothing of it runs.
        clock._now_ms += 5_000
        async with Engine(store, clock=clock, tools={"pay": theirs.pay}, lease_ms=1_000) as second:
            assert (await (await second.resume("t")).wait()).status == "completed"
            before = kinds(second, run)
            await clock.advance(2_000)
            assert (mine.stopped, first._keeper.drivers) == (1, {})
            assert kinds(second, run) == before
        assert (await run.wait()).output == {"receipt": "paid"}, "it is no error for who waits for the run"


@pytest.mark.usefixtures("nobody_is_known_to_be_dead")
async def test_the_runs_of_a_worker_that_is_gone_are_taken_over_when_its_leases_are_over() -> None:
    store, clock, gate = MemoryStore(), SimClock(), Gate()
    lost = Engine(store, clock=clock, tools={"pay": gate.pay}, lease_ms=1_000)
    await lost.start(pay(effect="writes", more="key to + run.id"), INPUT, id="t")
    await until(lambda: bool(gate.calls))
    lost._keeper._alarms.close()  # as if it had been stopped: no heartbeat any more
    async with Engine(store, clock=clock, tools={"pay": pay_ann}, lease_ms=1_000) as jam:
        working = asyncio.create_task(jam.work(poll_ms=1))
        await clock.advance(900)
        await asyncio.sleep(0.02)
        assert "resumed" not in kinds(jam, jam.run("t"))
        await clock.advance(200)
        assert (await asyncio.wait_for(jam.run("t").wait_ended(), 5)).output == {"receipt": "ann got 9.50 USD"}
        working.cancel()
    gate.open.set()
    await lost.close(0)


async def test_a_timer_that_two_workers_wait_for_fires_once() -> None:
    store, clock, nap = MemoryStore(), SimClock(), compile_text(NAP)
    async with Engine(store, clock=clock) as one, Engine(store, clock=clock) as two:
        working = [asyncio.create_task(jam.work(poll_ms=1)) for jam in (one, two)]
        runs = [await one.start(nap, {}, id=f"r{n}") for n in range(10)]
        await until(lambda: all(store.summary(run.id).owner == "" for run in runs))
        await clock.advance(3_600_000)
        for run in runs:
            assert (await asyncio.wait_for(run.wait_ended(), 5)).output == {"woke": True}
            assert kinds(one, run).count("fired") == 1
        for task in working:
            task.cancel()


async def test_a_worker_leaves_programs_whose_tools_it_does_not_have_to_others_and_says_so_once() -> None:
    store, told = MemoryStore(), list[tuple[str, str]]()
    async with Engine(store, tools={"pay": pay_ann}) as jam:
        for n in range(3):
            await jam.start(pay(), INPUT, id=f"p{n}", drive=False)
        await jam.start(compile_text(NAP.replace("1h", "1ms")), {}, id="nap", drive=False)
    async with Engine(store) as poor, Engine(store, tools={"pay": pay_ann}) as rich:
        working = asyncio.create_task(poor.work(1, lambda run_id, error: told.append((run_id, error.code))))
        assert (await asyncio.wait_for(poor.run("nap").wait_ended(), 5)).output == {"woke": True}
        await asyncio.sleep(0.02)
        assert told == [("p0", "JAMR303")]
        assert {store.summary(f"p{n}").owner for n in range(3)} == {""}, "they are free for whoever has the tools"
        other = asyncio.create_task(rich.work(1))
        for n in range(3):
            assert (await asyncio.wait_for(rich.run(f"p{n}").wait_ended(), 5)).status == "completed"
        working.cancel()
        other.cancel()


async def test_a_run_whose_program_is_gone_is_finished_by_anybody(tmp_path: Path) -> None:
    source = tmp_path / "nap.jam"
    source.write_text(NAP.replace("1h", "1ms"))
    store = MemoryStore()
    async with Engine(store) as jam:
        await jam.start(compile_file(source), {}, id="nap", drive=False)
    source.unlink()
    async with Engine(store) as jam:
        assert (await (await jam.resume("nap")).wait_ended()).output == {"woke": True}


async def test_a_run_that_fails_at_its_worker_is_tried_once_a_lease_not_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, clock, told = MemoryStore(), SimClock(), list[str]()
    async with Engine(store, clock=clock) as jam:
        await jam.start(compile_text(NAP), {}, id="bad", drive=False)
    await clock.advance(3_600_000)
    async with Engine(store, clock=clock, lease_ms=1_000) as jam:

        def damaged(*_: Any) -> Any:
            raise JamError("JAMR107", "damaged")

        monkeypatch.setattr(engine_module, "load_since", damaged)
        working = asyncio.create_task(jam.work(1, lambda run_id, error: told.append(error.code)))
        await until(lambda: bool(told))
        await asyncio.sleep(0.02)
        assert told == ["JAMR107"]
        await clock.advance(1_001)
        await until(lambda: len(told) == 2)
        working.cancel()


# ---- starting for somebody else


async def test_a_run_that_is_not_driven_here_is_begun_by_whoever_takes_it_up() -> None:
    store, gate = MemoryStore(), Gate()
    gate.open.set()
    program = pay(more="cost $0.50 ")
    async with Engine(store, tools={"pay": gate.pay}) as jam:
        run = await jam.start(program, INPUT, id="t", drive=False)
        await asyncio.sleep(0.01)
        assert kinds(jam, run) == ["started"]
        assert gate.calls == []
    async with Engine(store, tools={"pay": gate.pay}) as jam:
        view = await (await jam.resume("t")).wait()
        assert (view.status, view.spent["cost"], gate.calls) == ("completed", "0.50 USD", ["ann"])
        assert kinds(jam, run).count("intent") == 1


# ---- waiting


async def test_who_waits_for_what_nobody_can_do_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jamjet_dsl.engine.handle.PATIENCE_MS", 50)
    monkeypatch.setattr(engine_module, "HANDOVER_MS", 50)
    store = MemoryStore()
    async with Engine(store, tools={"pay": pay_ann}) as jam:
        await (await jam.start(compile_text(ASK), INPUT, id="t")).wait()
    async with Engine(store) as jam:
        await jam.answer("t", "approve", by="olga")
        with pytest.raises(JamError) as caught:
            await asyncio.wait_for(jam.run("t").wait(), 5)
        assert caught.value.code == "JAMR303"


async def test_who_cannot_drive_a_run_waits_while_somebody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jamjet_dsl.engine.handle.PATIENCE_MS", 50)
    store, gate = MemoryStore(), Gate()
    async with Engine(store, tools={"pay": gate.pay}) as rich, Engine(store) as poor:
        await rich.start(pay(), INPUT, id="t")
        waiting = asyncio.create_task(poor.run("t").wait())
        await asyncio.sleep(0.2)
        assert not waiting.done()
        gate.open.set()
        assert (await asyncio.wait_for(waiting, 5)).status == "completed"


# ---- what was slept through


@pytest.mark.parametrize("watched", [False, True])
async def test_only_time_in_which_a_run_was_watched_is_active(watched: bool) -> None:
    store, clock = MemoryStore(), SimClock()
    program = compile_text(EVENT.replace("steps 9", "steps 9  active 1h"))
    async with Engine(store, clock=clock) as jam:
        await (await jam.start(program, {}, id="t")).wait()
    async with Engine(store, clock=clock) as watcher:
        working = asyncio.create_task(watcher.work(1)) if watched else None
        await asyncio.sleep(0.01)
        await clock.advance(1_800_000)
        if working is not None:
            working.cancel()
            await watcher.send("t", "go", {"x": 1})
        else:
            async with Engine(store, clock=clock) as jam:
                await jam.send("t", "go", {"x": 1})
        view = await watcher.run("t").wait()
        assert (view.status, view.spent["active_ms"]) == ("completed", 1_800_000 if watched else 0)


async def test_an_active_budget_is_not_used_up_by_days_in_which_nobody_was_there() -> None:
    store, clock = MemoryStore(), SimClock()
    program = compile_text(EVENT.replace("steps 9", "steps 9  active 1h"))
    async with Engine(store, clock=clock) as jam:
        await (await jam.start(program, {}, id="t")).wait()
    await clock.advance(48 * 3_600_000)
    async with Engine(store, clock=clock) as jam:
        working = asyncio.create_task(jam.work(1))
        await until(lambda: "resumed" in kinds(jam, jam.run("t")))
        assert store.summary("t").status == "waiting", "it was not exceeded in its absence"
        await clock.advance(3_600_001)
        await until(lambda: store.summary("t").status != "waiting")
        assert store.summary("t").state == "over"
        working.cancel()


# ---- what comes late


async def test_closing_waits_for_the_late_result_of_a_call_that_timed_out() -> None:
    clock, began, free = SimClock(), threading.Event(), threading.Event()

    def slow(to: str, amount: Any) -> str:
        began.set()
        free.wait(10)
        return "after all"

    store = MemoryStore()
    jam = Engine(store, tools={"pay": slow}, clock=clock)
    run = await jam.start(pay(more="timeout 1m"), INPUT, id="t")
    await until(began.is_set)
    await clock.advance(61_000)
    assert (await run.wait()).status == "parked"
    assert jam.late() == ["pay"]
    closing = asyncio.create_task(jam.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    free.set()
    await asyncio.wait_for(closing, 5)
    late = [event.body for event in store.history("t") if event.kind == "late"]
    assert [body["result"] for body in late] == ["after all"]


async def test_closing_waits_for_late_results_no_longer_than_its_grace() -> None:
    clock, began, free = SimClock(), threading.Event(), threading.Event()

    def hangs(to: str, amount: Any) -> str:
        began.set()
        free.wait(10)
        return "never heard of"

    jam = Engine(MemoryStore(), tools={"pay": hangs}, clock=clock)
    run = await jam.start(pay(more="timeout 1m"), INPUT, id="t")
    await until(began.is_set)
    await clock.advance(61_000)
    await run.wait()
    await asyncio.wait_for(jam.close(grace_ms=10), 5)
    free.set()
    assert jam._keeper.drivers == {}
