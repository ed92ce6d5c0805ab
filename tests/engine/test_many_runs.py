"""Thousands of runs in one process: commits that are shared, turns that are fair, limits that queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from jamjet_dsl import Engine, SimClock, compile_text
from jamjet_dsl.engine import commits, keeper
from jamjet_dsl.ports import Batch, Item, Lease, Written
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.store.sqlite import SqliteStore
from tests.engine.test_engine_runs import INPUT, kinds, pay

COUNTER = """
tool inc(n: int) -> int { effect reads }
agent counter {
  input goal: int
  output n: int
  var n: int = 0
  budget { steps 1000  exceeded -> over }
  policy { allow inc }
  on error any -> over
  start state count { call inc(n) as n  when n < goal -> count  otherwise -> done }
  final done { n = n }
  failed over { n = 0 }
}
"""

EVENT = """
agent patient {
  output n: int
  event go(x: int)
  budget { steps 9  exceeded -> over }
  start state waiting { wait for event go(e)  -> done }
  final  done { n = e.x }
  failed over { n = 0 }
}
"""


async def inc(n: int) -> int:
    return n + 1


async def until(true: Callable[[], bool]) -> None:
    """Let the engine work until something is so; a test that never gets there fails after 10 seconds."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


class Grouped(MemoryStore):
    """Notes how many appends came in one call, and in which order runs made progress."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[int] = []
        self.order: list[tuple[str, int]] = []

    def append(self, lease: Lease, expected_seq: int, batch: Batch) -> None:
        super().append(lease, expected_seq, batch)
        kinds = enumerate((draft.kind for draft in batch.drafts), expected_seq + 1)
        self.order += [(lease.run_id, seq) for seq, kind in kinds if kind == "moved"]

    def append_many(self, items: Sequence[Item]) -> list[Written]:
        self.groups.append(len(items))
        return super().append_many(items)


# ---- commits


async def test_runs_that_are_ready_together_are_written_together() -> None:
    store = Grouped()
    async with Engine(store, tools=[inc]) as jam:
        counter = compile_text(COUNTER)
        runs = await asyncio.gather(*(jam.start(counter, {"goal": 10}) for _ in range(20)))
        views = await asyncio.gather(*(run.wait() for run in runs))
    assert [view.output for view in views] == [{"n": 10}] * 20
    assert store.groups[0] == 20, "starts share a transaction too"
    assert sum(store.groups) <= 220
    assert len(store.groups) <= 13, "200 steps of 20 runs are about ten rounds"


async def test_one_run_alone_is_written_at_once() -> None:
    store = Grouped()
    async with Engine(store, tools=[inc]) as jam:
        assert (await (await jam.start(compile_text(COUNTER), {"goal": 10})).wait()).output == {"n": 10}
    assert store.groups == []


async def test_no_run_gets_ahead_of_the_others() -> None:
    store = Grouped()
    async with Engine(store, tools=[inc]) as jam:
        counter = compile_text(COUNTER)
        runs = await asyncio.gather(*(jam.start(counter, {"goal": 30}) for _ in range(10)))
        await asyncio.gather(*(run.wait() for run in runs))
    steps = dict.fromkeys((run.id for run in runs), 0)
    for run_id, _ in store.order:
        steps[run_id] += 1
        assert max(steps.values()) - min(steps.values()) <= 1
    assert set(steps.values()) == {30}


async def test_a_stale_lease_fails_alone(tmp_path: Any) -> None:
    store, clock, gate = SqliteStore(tmp_path / "t.db"), SimClock(), asyncio.Event()

    async def slow(to: str, amount: Any) -> str:
        await gate.wait()
        return "ok"

    async with Engine(store, tools={"pay": slow}, clock=clock) as jam:
        runs = [await jam.start(pay(more="key to + run.id"), INPUT, id=f"r{n}") for n in range(5)]
        await asyncio.sleep(0.01)
        # As if the process had been stopped: somebody else has taken one of them, and nobody has told us.
        clock._now_ms += keeper.ELSEWHERE_MS + 60_000
        store.claim("r2", "other", 600_000, clock.now_ms())
        gate.set()
        for run in runs:
            if run.id != "r2":
                assert (await run.wait()).status == "completed"
        assert kinds(jam, runs[2]) == ["started", "intent"], "nothing was written for the run that is not ours"


async def test_a_slow_disk_does_not_stop_the_loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(commits, "SLOW_S", -1.0)
    monkeypatch.setattr(commits, "SHARE_S", 0.0)
    stuck, free, threads = threading.Event(), threading.Event(), set[str]()

    class Stuck(SqliteStore):
        def append(self, lease: Lease, expected_seq: int, batch: Batch) -> None:
            threads.add(threading.current_thread().name)
            if not free.is_set():
                stuck.set()
                assert free.wait(30)
            super().append(lease, expected_seq, batch)

    async with Engine(Stuck(tmp_path / "t.db"), tools=[inc]) as jam:
        run = await jam.start(compile_text(COUNTER), {"goal": 5})
        await until(stuck.is_set)
        # The disk holds the writer, and we are here all the same.
        free.set()
        assert (await run.wait()).output == {"n": 5}
    assert threads == {"jam-writer_0"}


async def test_simulated_time_knows_no_slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "SLOW_S", -1.0)
    async with Engine(MemoryStore(), tools=[inc], clock=SimClock()) as jam:
        assert (await (await jam.start(compile_text(COUNTER), {"goal": 3})).wait()).output == {"n": 3}
        assert jam._commits._writer is None


# ---- limits


@pytest.mark.parametrize("blocking", [False, True])
async def test_only_so_many_calls_are_in_flight_and_the_others_wait_their_turn(blocking: bool) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def enter(by: int) -> None:
        nonlocal now, most
        with lock:
            now += by
            most = max(most, now)

    def block(n: int) -> int:
        enter(1)
        threading.Event().wait(0.002)
        enter(-1)
        return n + 1

    async def suspend(n: int) -> int:
        enter(1)
        await asyncio.sleep(0.002)
        enter(-1)
        return n + 1

    tools = {"inc": block if blocking else suspend}
    async with Engine(MemoryStore(), tools=tools, max_effects=3, max_threads=3) as jam:
        runs = [await jam.start(compile_text(COUNTER), {"goal": 2}) for _ in range(10)]
        views = await asyncio.gather(*(run.wait() for run in runs))
    assert all(view.output == {"n": 2} for view in views)
    assert most == 3


async def test_a_call_that_found_no_place_in_time_was_certainly_not_made() -> None:
    clock, gate, made = SimClock(), threading.Event(), []

    def slow(to: str, amount: Any) -> str:
        made.append(to)
        gate.wait(10)
        return "late"

    program = pay(more="timeout 1m", edges="on error Timeout -> rejected  on in_doubt -> unsure")
    async with Engine(MemoryStore(), tools={"pay": slow}, clock=clock, max_threads=1) as jam:
        runs = [await jam.start(program, INPUT, id=f"t{n}") for n in range(2)]
        await until(lambda: bool(made))
        await clock.advance(61_000)
        assert [(await run.wait()).state for run in runs] == ["unsure", "rejected"]
        gate.set()


async def test_runs_beyond_the_limit_lie_in_the_database_until_there_is_room() -> None:
    store, gate = MemoryStore(), asyncio.Event()

    async def slow(n: int) -> int:
        await gate.wait()
        return n + 1

    async with Engine(store, tools={"inc": slow}, max_runs=2) as jam:
        runs = [await jam.start(compile_text(COUNTER), {"goal": 1}, id=f"r{n}") for n in range(6)]
        assert sorted(jam._keeper.drivers) == ["r0", "r1"]
        assert [store.summary(run.id).owner == "" for run in runs] == [False] * 2 + [True] * 4
        assert kinds(jam, runs[5]) == ["started"], "it is safe, and nothing of it was begun"
        gate.set()
        assert [(await run.wait()).output for run in runs] == [{"n": 1}] * 6


async def test_a_slow_tool_stalls_nobody_else() -> None:
    gate = asyncio.Event()

    async def sometimes(n: int) -> int:
        if n == 100:
            await gate.wait()
        return n + 1

    slow = compile_text(COUNTER.replace("var n: int = 0", "var n: int = 100"))
    async with Engine(MemoryStore(), tools={"inc": sometimes}) as jam:
        held = await jam.start(slow, {"goal": 101})
        runs = [await jam.start(compile_text(COUNTER), {"goal": 20}) for _ in range(5)]
        assert [(await run.wait()).output for run in runs] == [{"n": 20}] * 5
        assert held.status == "running"
        gate.set()
        assert (await held.wait()).output == {"n": 101}


# ---- runs at rest


async def test_runs_at_rest_have_no_task_and_waking_one_wakes_no_other() -> None:
    store, patient = Grouped(), compile_text(EVENT)
    async with Engine(store) as jam:
        for n in range(300):
            await (await jam.start(patient, {}, id=f"r{n}")).wait()
        await until(lambda: not jam._keeper.drivers)
        assert len(asyncio.all_tasks()) < 5
        store.groups.clear()
        await jam.send("r7", "go", {"x": 3})
        assert (await jam.run("r7").wait()).output == {"n": 3}
        assert [s.run_id for s in jam.runs(["completed"])] == ["r7"]
        assert store.groups == []


async def test_a_worker_keeps_nothing_of_runs_at_rest() -> None:
    store, patient = MemoryStore(), compile_text(EVENT)
    async with Engine(store) as jam:
        for n in range(20):
            await jam.start(patient, {}, id=f"r{n}", drive=False)
    async with Engine(store) as jam:
        worker = asyncio.create_task(jam.work(poll_ms=5))
        await until(lambda: all(summary.status == "waiting" for summary in jam.runs()))
        await until(lambda: not jam._keeper._resting and not jam._keeper.drivers)
        await jam.send("r3", "go", {"x": 1})
        assert (await asyncio.wait_for(jam.run("r3").wait_ended(), 5)).output == {"n": 1}
        worker.cancel()
