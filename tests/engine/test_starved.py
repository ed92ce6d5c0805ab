"""A process that was not given the processor for longer than its lease, and comes back: it takes its runs up again by
itself, whoever had them meanwhile, and whoever waits for one of them hears of its end.

It is simulated by a clock that has moved on before anything of the engine ran; `tests/workers/test_stopped.py` stops
real processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from jamjet_dsl import Engine, SimClock
from jamjet_dsl.engine import engine as engine_module
from jamjet_dsl.store.memory import MemoryStore
from tests.engine.test_engine_runs import INPUT, kinds, pay
from tests.engine.test_many_runs import until
from tests.engine.test_stopping import ends
from tests.engine.test_taking_over import Gate

LEASE_MS = 15_000
AWAY_MS = 40_000


def nobody(store: MemoryStore, now: int) -> None:
    """The lease was over, and nobody looked."""


def freed(store: MemoryStore, now: int) -> None:
    """A worker took it over and gave it up again, as one without the tools does."""
    (lease,) = store.claim_due("other", LEASE_MS, now, 10)
    store.release(lease)


def held(store: MemoryStore, now: int) -> None:
    """A worker took it over and was lost itself: its lease has to run out."""
    assert len(store.claim_due("other", LEASE_MS, now, 10)) == 1


MEANWHILE = pytest.mark.parametrize("meanwhile", [nobody, freed, held])


@pytest.fixture(autouse=True)
def nobody_is_known_to_be_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "is_dead", lambda owner: False)


async def starve(store: MemoryStore, clock: SimClock, meanwhile: Callable[[MemoryStore, int], None]) -> None:
    """Nothing of the engine runs for longer than its lease; then it does again."""
    clock._now_ms += AWAY_MS
    meanwhile(store, clock.now_ms())
    await clock.advance(1_000)


@MEANWHILE
@pytest.mark.parametrize("worker", [False, True], ids=["engine", "worker"])
async def test_who_comes_back_takes_its_runs_up_again(
    meanwhile: Callable[[MemoryStore, int], None], worker: bool
) -> None:
    store, clock, gate = MemoryStore(), SimClock(), Gate()
    async with Engine(store, clock=clock, tools={"pay": gate.pay}, lease_ms=LEASE_MS) as jam:
        working = asyncio.create_task(jam.work(poll_ms=1)) if worker else None
        run = await jam.start(pay(effect="writes", more="key to + run.id"), INPUT, id="t")
        waiting = asyncio.create_task(run.wait())
        await until(lambda: len(gate.calls) == 1)
        await starve(store, clock, meanwhile)
        if meanwhile is held:
            assert (store.summary("t").owner, jam._keeper.drivers) == ("other", {})
            await clock.advance(LEASE_MS)
        times = 1 if meanwhile is nobody else 2
        await until(lambda: len(gate.calls) == times)
        assert not waiting.done(), "it is in flight again: nobody waits in vain, and nobody is told that it ended"
        assert gate.stopped == times - 1
        gate.open.set()
        assert (await asyncio.wait_for(waiting, 5)).status == "completed"
        assert kinds(jam, run).count("resumed") == times - 1
        assert kinds(jam, run).count("succeeded") == 1
        assert working is None or await ends(working)


async def test_a_worker_that_finds_its_own_run_free_before_its_heart_beats_drives_it_once() -> None:
    store, clock, gate = MemoryStore(), SimClock(), Gate()
    async with Engine(store, clock=clock, tools={"pay": gate.pay}, lease_ms=LEASE_MS) as jam:
        working = asyncio.create_task(jam.work(poll_ms=1))
        run = await jam.start(pay(effect="writes", more="key to + run.id"), INPUT, id="t")
        await until(lambda: len(gate.calls) == 1)
        # No alarm rings, since the clock stands still from here on: only the search of the worker goes on.
        clock._now_ms += AWAY_MS
        freed(store, clock.now_ms())
        await until(lambda: len(gate.calls) == 2)
        assert gate.stopped == 1, "who lost the run has stopped what it did"
        await clock.advance(3 * LEASE_MS)
        assert store.claim_due("other", LEASE_MS, clock.now_ms(), 10) == [], "the heart beats for who drives it now"
        gate.open.set()
        assert (await asyncio.wait_for(run.wait(), 5)).status == "completed"
        assert kinds(jam, run).count("succeeded") == 1
        assert await ends(working)
