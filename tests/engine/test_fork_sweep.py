"""Forks of random programs from every event of their past: whatever was open there, a fork ends without an error.

The originals are the runs of the reference's programs in the reference's world, whole with branches, items, child
agents, rollbacks, time, people and operators. A fork has none of these around it: it may wait for somebody.
"""

from __future__ import annotations

import asyncio

import pytest

from jamjet_dsl import Engine, compile_text
from jamjet_dsl.engine.advance import standing
from jamjet_dsl.engine.clock import SimClock
from jamjet_dsl.engine.fork import fork
from jamjet_dsl.engine.loading import pin
from jamjet_dsl.engine.replay import replay
from jamjet_dsl.kernel.model import ENDED
from jamjet_dsl.ports import Batch, KeyUse
from jamjet_dsl.store.memory import MemoryStore
from tests.reference.engine import Played, play
from tests.reference.programs import ALL, program, world

RUN = "run-1"
"""What the reference calls its runs."""
HOUR_MS = 3_600_000
PEOPLE = {"fired", "answered", "received", "cancelling", "unparked", "settled", "expired"}
"""What comes from outside, and does not come again in a fork, or not at the same time."""


def original(store: MemoryStore, seed: int) -> Played:
    """The run of a program, as its journal."""
    compiled = compile_text(program(seed, ALL))
    played = play(compiled.definition, world(seed))
    place = pin(store, compiled, None, 0)
    first = played.journal[0]
    drafts = [first._replace(body={**first.body, "source": place.source}), *played.journal[1:]]
    assert played.step is not None
    keys = [KeyUse(tool, key, digest) for (tool, key), digest in played.keys.items()]
    lease = store.create(RUN, Batch(drafts, standing(played.step), keys=keys), "test", 1, 0)
    store.release(lease)
    return played


async def forked(store: MemoryStore, at: int) -> tuple[str, str]:
    """A fork from an event, driven until only somebody outside can move it: status and state."""
    clock = SimClock(10 * HOUR_MS)
    name = f"f{at}"
    async with Engine(store, clock=clock) as jam:
        fork(store, RUN, at, owner="test", now_ms=clock.now_ms(), id=name)
        await jam.resume(name)
        for _ in range(30):
            await clock.advance(HOUR_MS)
            jam.driver(name)  # raises what stands in the way of driving on
            if store.summary(name).status in (*ENDED, "parked"):
                break
        view = jam.show(name)
    found = replay(store, name)
    assert found.proven, (at, found.disagreement)
    return view.status, view.state


@pytest.mark.parametrize("seed", range(12))
async def test_a_fork_from_any_event_ends_without_an_error(seed: int) -> None:
    store = MemoryStore()
    played = original(store, seed)
    there = replay(store, RUN)
    assert there.proven, there.disagreement
    ended = played.state.status in ENDED
    alone = ended and not PEOPLE & {draft.kind for draft in played.journal}
    for at in range(1, len(played.journal) + (0 if ended else 1)):
        status, state = await forked(store, at)
        assert status in (*ENDED, "parked", "waiting"), (at, status)
        if alone:
            assert (status, state) == (played.state.status, played.state.final_state), at


NESTED = """
tool look(s: string) -> string { effect reads  timeout 5s  raises Gone }
agent outer version 1 {
  input names: list<string> 0..9
  output found: int
  var found: int = 0
  policy { allow look }
  on error any -> bad
  start state all {
    each name in names, 2 at once { run one(name) as o } as results
    set found = size(results)
    -> good
  }
  final good { found = found }
  failed bad { found = 0 }
}
agent one version 1 {
  input name: string
  output said: string
  policy { allow look }
  on error any -> bad
  start parallel three {
    branch fast as a { call look(name + " fast") }
    branch gone as b { call look(name + " gone") }
    branch slow as c { call look(name + " slow") }
    join 2 of 3
    on join -> good
  }
  final good { said = name }
  failed bad { said = "" }
}
"""


async def test_a_call_that_the_original_stopped_waiting_for_is_nothing_to_park_for() -> None:
    """Two of three is enough: the third never came to an end, so nothing is recorded of it."""
    store = MemoryStore()
    never = asyncio.Event()

    async def look(s: str) -> str:
        if s.endswith("gone"):
            await never.wait()
        return s

    async with Engine(store, tools={"look": look}) as jam:
        run = await jam.start(compile_text(NESTED, agent="outer"), {"names": ["x", "y", "z"]}, id=RUN)
        there = await run.wait()
    assert there.output == {"found": 3}
    for at in range(1, store.last_seq(RUN)):
        assert await forked(store, at) == ("completed", "good"), at
