"""`limit … per principal`: what all runs of one person use together, in one process and in several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, SimClock
from jamjet_dsl.compiler import compile_text
from jamjet_dsl.engine.audit.recheck import recheck
from jamjet_dsl.engine.replay import replay
from jamjet_dsl.ports import Store
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.store.sqlite import SqliteStore

DAY_MS = 86_400_000
DESK = """language 1
tool refund(order: string, amount: money) -> string { effect writes  key order  raises Lost  retry any 2 times }
tool look(x: int) -> int { effect reads }
agent desk version 1 {
  input  order: string, amount: money
  output done: bool, left: string?
  budget { steps 9  exceeded -> over }
  policy {
    allow any
    limit refund total args.amount <= $100.00 per principal per day
    limit refund 3 calls per principal, look 2 calls per principal per hour
  }
  start state pay { call refund(order, amount) as id  on denied -> over  on error any -> over  -> seen }
  state seen { call look(1) as n  on denied -> over  -> paid }
  final paid { done = true  left = id }
  final over { done = false }
}
agent both version 1 {
  input  order: string, amount: money
  output done: bool
  budget { steps 9  exceeded -> over }
  policy { allow any  limit refund 1 call per principal, look 9 calls  forbid refund when args.order == "never" }
  start parallel at_once {
    branch first { call look(1) as n }
    branch second { call refund(order, amount) as id }
    join all
    on join -> good
    on error any -> over
  }
  final good { done = true }
  final over { done = false }
}
agent twice version 1 {
  input  order: string, amount: money
  output done: bool
  budget { steps 9  exceeded -> over }
  policy { allow any  limit refund 1 call per principal }
  start state one { run desk(order + "/1", amount) as a  on error any -> over  -> two }
  state two { run desk(order + "/2", amount) as b  on error any -> over  -> good }
  final good { done = b.done }
  final over { done = false }
}
"""


class Lost(Exception):
    """The refund certainly was not made."""


class Office:
    """An engine whose refunds are counted, and its clock."""

    def __init__(self, store: Store) -> None:
        self.store, self.clock = store, SimClock()
        self.made: list[tuple[str, str]] = []
        self.fails = 0
        self.jam = Engine(store, tools={"refund": self.refund, "look": lambda x: x}, clock=self.clock)

    async def refund(self, order: str, amount: Any) -> str:
        self.made.append((order, str(amount)))
        if self.fails:
            self.fails -= 1
            raise Lost
        return order

    async def run(self, order: str, amount: str, who: str | None = "ann", agent: str = "desk", **more: Any) -> str:
        """Start a run and see where it ends: the final state."""
        program = compile_text(DESK, agent=agent)
        run = await self.jam.start(program, {"order": order, "amount": amount}, id=order, principal=who, **more)
        await run.wait()
        return self.store.summary(order).state

    def denied(self, order: str) -> dict[str, Any]:
        (event,) = [e for e in self.store.history(order) if e.kind == "denied"]
        return event.body["decision"]


@pytest.fixture(params=["memory", "sqlite"])
async def office(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Office]:
    store: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "t.db")
    made = Office(store)
    yield made
    await made.jam.close()
    store.close()


async def test_runs_of_one_principal_share_a_total(office: Office) -> None:
    assert await office.run("o1", "60.00 USD") == "paid"
    assert await office.run("o2", "60.00 USD") == "over"
    assert await office.run("o3", "60.00 USD", who="bo") == "paid"
    assert await office.run("o4", "40.00 USD") == "paid"
    assert office.made == [("o1", "60.00 USD"), ("o3", "60.00 USD"), ("o4", "40.00 USD")]
    decision = office.denied("o2")
    assert decision["rules"] == [1]
    assert decision["reason"] == (
        "60.00 USD is more than what is left of 100.00 USD, of which all runs of the principal have used 60.00"
    )


async def test_a_window_passes_and_a_limit_without_one_does_not(office: Office) -> None:
    assert await office.run("o1", "100.00 USD") == "paid"
    assert await office.run("o2", "1.00 USD") == "over"
    await office.clock.advance(DAY_MS)
    assert await office.run("o3", "100.00 USD") == "paid"
    await office.clock.advance(DAY_MS)
    assert await office.run("o4", "1.00 USD") == "paid"
    await office.clock.advance(365 * DAY_MS)
    assert await office.run("o5", "1.00 USD") == "over"
    assert office.denied("o5")["reason"] == "all 3 calls of `refund` are used up by all runs of the principal"


async def test_a_free_read_can_be_limited_so_too(office: Office) -> None:
    assert [await office.run(f"o{n}", "1.00 USD") for n in range(3)] == ["paid", "paid", "over"]
    assert office.denied("o2")["reason"].startswith("all 2 calls of `look` are used up by all runs")


async def test_who_gives_no_name_shares_with_all_who_give_none(office: Office) -> None:
    assert await office.run("o1", "100.00 USD", who=None) == "paid"
    assert await office.run("o2", "1.00 USD", who=None) == "over"
    assert await office.run("o3", "1.00 USD") == "paid"


async def test_a_call_counts_once_however_many_attempts_it_takes(office: Office) -> None:
    office.fails = 2
    assert await office.run("o1", "50.00 USD") == "paid"
    assert len(office.made) == 3
    assert await office.run("o2", "50.00 USD") == "paid"


async def test_a_call_that_failed_counts_and_one_that_was_denied_does_not(office: Office) -> None:
    office.fails = 3
    assert await office.run("o1", "60.00 USD") == "over"
    assert await office.run("o2", "60.00 USD") == "over"
    assert await office.run("o3", "40.00 USD") == "paid"


async def test_the_policy_of_an_agent_around_counts_what_is_called_inside(office: Office) -> None:
    assert await office.run("o1", "10.00 USD", agent="twice") == "good"
    assert [order for order, _ in office.made] == ["o1/1"]
    assert await office.run("o2", "10.00 USD", agent="twice") == "good"
    assert [order for order, _ in office.made] == ["o1/1"]
    decision = next(e for e in office.store.history("o2") if e.kind == "denied").body["decision"]
    assert "`twice`: all 1 calls of `refund` are used up by all runs of the principal" in decision["reason"]


@pytest.mark.parametrize(
    ("order", "before"), [("o2", ["intent", "counted", "denied"]), ("never", ["denied"])], ids=["no room", "forbidden"]
)
async def test_a_denial_for_want_of_room_comes_where_the_call_would_have_begun(
    office: Office, order: str, before: list[str]
) -> None:
    """Its sibling has begun by then; one that anything else forbids is denied before anything begins (spec 60, 5.7)."""
    assert await office.run("o1", "1.00 USD", agent="both") == "good"
    assert await office.run(order, "1.00 USD", agent="both") == "over"
    kinds = [event.kind for event in office.store.history(order)]
    found = [kind for kind in kinds[: kinds.index("denied") + 1] if kind in ("intent", "counted", "denied")]
    assert found == before


async def test_in_shadow_the_call_is_made_and_counts(office: Office) -> None:
    assert await office.run("o1", "100.00 USD") == "paid"
    assert await office.run("o2", "30.00 USD", policy="shadow") == "paid"
    (intent,) = [e.body for e in office.store.history("o2") if e.kind == "intent" and e.body["tool"] == "refund"]
    assert intent["decision"]["enforced"] is False
    assert intent["decision"]["result"] == "denied"
    await office.clock.advance(DAY_MS - 1)
    assert await office.run("o3", "80.00 USD") == "over"


async def test_what_others_had_used_is_in_the_journal_and_decides_again_alike(office: Office) -> None:
    for order, amount in (("o1", "60.00 USD"), ("o2", "60.00 USD"), ("o3", "30.00 USD")):
        await office.run(order, amount)
    for order in ("o1", "o2", "o3"):
        assert replay(office.store, order).proven
        assert recheck(office.store, order).replay.proven
    (first, *_) = [e.body for e in office.store.history("o3") if e.kind == "counted"]
    assert first == {"cmd": "#1.1", "used": [["", 1, 1, "60.00"], ["", 2, 1, "0"]]}


async def test_of_many_at_once_only_as_many_as_there_is_room_for(office: Office) -> None:
    ends = await asyncio.gather(*(office.run(f"o{n}", "40.00 USD") for n in range(8)))
    assert len(office.made) == 2
    assert sorted(ends) == ["over"] * 6 + ["paid"] * 2


async def test_two_engines_on_one_database_share_the_limit(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path / "t.db") for _ in range(2)]
    offices = [Office(store) for store in stores]
    ends = await asyncio.gather(*(offices[n % 2].run(f"o{n}", "40.00 USD") for n in range(8)))
    assert sum(len(office.made) for office in offices) == 2
    assert sorted(ends) == ["over"] * 6 + ["paid"] * 2
    assert stores[0].check() == []
    for office in offices:
        await office.jam.close()
        office.store.close()


async def test_a_row_that_is_missing_is_noticed(tmp_path: Path) -> None:
    office = Office(SqliteStore(tmp_path / "t.db"))
    await office.run("o1", "1.00 USD")
    assert isinstance(office.store, SqliteStore)
    office.store._db.execute("DELETE FROM shared WHERE cmd = '#1.1'")
    assert office.store.check() == ["the call #1.1 of o1 is not counted under its limits any more"]
    await office.jam.close()
    office.store.close()
