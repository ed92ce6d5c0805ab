"""`limit … per principal` where runs are more than one line: children, forks, other versions, secrets, processes."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, SimClock
from jamjet_dsl.compiler import compile_text
from jamjet_dsl.engine.fork import fork
from jamjet_dsl.engine.journal import used_of
from jamjet_dsl.engine.migrate import migrate
from jamjet_dsl.engine.replay import replay
from jamjet_dsl.engine.testing import run_tests
from jamjet_dsl.kernel.docket import counter_of
from jamjet_dsl.kernel.model import Share
from jamjet_dsl.ports import LimitConflict, Store
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.store.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
LIMIT = "limit refund 2 calls per principal, refund total args.amount <= $100.00 per principal per day"
DESK = """language 1
tool refund(order: string, amount: money) -> string { effect writes  key order  raises Lost }
agent desk version 1 {
  input  order: string, amount: money
  output done: bool
  budget { steps 9  exceeded -> over }
  policy { allow any  LIMIT }
  start state pay { call refund(order, amount) as id  on denied -> over  on error any -> over  -> rest }
  state rest { wait 1h  -> again }
  state again { call refund(order + "/again", amount) as more  on denied -> over  on error any -> over  -> paid }
  final paid { done = true }
  final over { done = false }
}
agent child version 1 {
  input  order: string, amount: money
  output done: bool
  budget { steps 9  exceeded -> over }
  policy { allow any  LIMIT }
  start state pay { call refund(order, amount) as id  on denied -> over  on error any -> over  -> paid }
  final paid { done = true }
  final over { done = false }
}
agent one_by_one version 1 {
  input  amount: money
  output good: int
  budget { steps 99  exceeded -> over }
  policy { allow any }
  start state all {
    each n in ["1", "2", "3"], 1 at once { run child(n, amount) as a  on error ChildFailed skip  yields a.done } as done
    on error any -> over  -> paid }
  final paid { good = size(done.filter(d, d)) }
  final over { good = 0 }
}
agent at_once version 1 {
  input  amount: money
  output good: int
  budget { steps 99  exceeded -> over }
  policy { allow any }
  start state all {
    each n in ["1", "2", "3"], 3 at once { run child(n, amount) as a  on error ChildFailed skip  yields a.done } as done
    on error any -> over  -> paid }
  final paid { good = size(done.filter(d, d)) }
  final over { good = 0 }
}
test "children share it in a test too" for at_once {
  input amount = $1.00
  mock refund returns "r"
  expect state == paid
  expect good == 2
}
""".replace("LIMIT", LIMIT)


class Office:
    """An engine whose refunds are counted, with a clock."""

    def __init__(self, store: Store) -> None:
        self.store, self.clock = store, SimClock()
        self.made: list[str] = []
        self.jam = Engine(store, tools={"refund": self.refund}, clock=self.clock)

    async def refund(self, order: str, amount: Any) -> str:
        self.made.append(order)
        return order

    async def start(self, id: str, input: dict[str, Any], agent: str = "desk", text: str = DESK) -> None:
        """Start a run of ann, and see it to where it ends or rests."""
        run = await self.jam.start(compile_text(text, agent=agent), input, id=id, principal="ann")
        await run.wait()

    async def desk(self, order: str, amount: str = "10.00 USD", text: str = DESK) -> str:
        """A run of `desk`: the state that it rests or ends in."""
        await self.start(order, {"order": order, "amount": amount}, text=text)
        return self.store.summary(order).state

    def used(self, agent: str = "desk") -> list[tuple[int, Decimal]]:
        """What the database says that ann has used: of the calls, and of the total."""
        rules = compile_text(DESK, agent=agent).definition.agent.rules or ()
        names = [counter_of(agent, rule.limit) for rule in rules if rule.limit is not None]
        return [used_of(None, self.store)("ann", Share("", 0, name, "[]", "0", -1, None, None)) for name in names]

    async def close(self) -> None:
        await self.jam.close()
        self.store.close()


@pytest.mark.parametrize("agent", ["one_by_one", "at_once"])
async def test_a_child_that_is_run_again_goes_on_where_it_was(agent: str) -> None:
    """The limit holds for all calls of the agent, not for each time that it is run."""
    office = Office(MemoryStore())
    await office.start("o", {"amount": "10.00 USD"}, agent=agent)
    assert office.jam.show("o").output == {"good": 2}
    assert sorted(office.made) == ["1", "2"]
    await office.start("p", {"amount": "10.00 USD"}, agent=agent)
    assert office.jam.show("p").output == {"good": 0}
    assert office.used("child") == [(2, Decimal(0)), (2, Decimal("20.00"))]
    assert replay(office.store, "o").proven
    assert replay(office.store, "p").proven
    await office.close()


def test_children_share_it_in_a_test_of_the_program_too() -> None:
    assert [result.passed for result in run_tests(compile_text(DESK, agent="at_once"))] == [True]


async def test_a_run_and_its_own_earlier_calls(tmp_path: Path) -> None:
    office = Office(SqliteStore(tmp_path / "t.db"))
    assert await office.desk("o1", "60.00 USD") == "rest"
    await office.clock.advance(3_600_000)
    assert (await office.jam.run("o1").wait()).state == "over"
    assert office.made == ["o1"]
    assert office.used() == [(1, Decimal(0)), (1, Decimal("60.00"))]
    await office.close()


@pytest.mark.parametrize(("live", "state"), [(True, "over"), (False, "paid")])
async def test_a_live_fork_counts_what_was_used_and_one_whose_calls_are_off_is_told_of_nothing(
    live: bool, state: str
) -> None:
    """The original has one call left and makes it after the fork: the fork has none."""
    office = Office(MemoryStore())
    assert await office.desk("o1") == "rest"
    at = office.store.summary("o1").last_seq
    await office.clock.advance(3_600_000)
    assert (await office.jam.run("o1").wait()).state == "paid"
    before = office.used()
    office.made.clear()
    fork(office.store, "o1", at, owner="test", now_ms=office.clock.now_ms(), id="f", live=live, allow_repeat=True)
    await office.jam.resume("f")
    await office.clock.advance(3_600_000)
    assert (await office.jam.run("f").wait()).state == state
    assert office.made == []
    assert office.used() == before == [(2, Decimal(0)), (2, Decimal("20.00"))]
    assert replay(office.store, "f").proven
    await office.close()


async def test_a_live_fork_may_use_what_is_left() -> None:
    """What the original had used before the fork is counted once, as the original's."""
    office = Office(MemoryStore())
    assert await office.desk("o1") == "rest"
    at = office.store.summary("o1").last_seq
    fork(office.store, "o1", at, owner="test", now_ms=office.clock.now_ms(), id="f", live=True)
    await office.jam.cancel("o1", now=True)
    await office.jam.resume("f")
    await office.clock.advance(3_600_000)
    assert (await office.jam.run("f").wait()).state == "paid"
    assert office.used() == [(2, Decimal(0)), (2, Decimal("20.00"))]
    await office.close()


@pytest.mark.parametrize(
    ("bound", "state"), [("$70.00 per principal per day", "over"), ("$120.00 per principal", "paid")]
)
async def test_another_bound_or_window_forgets_nothing_of_a_run_that_is_moved_there(bound: str, state: str) -> None:
    office = Office(MemoryStore())
    assert await office.desk("o1", "60.00 USD") == "rest"
    newer = DESK.replace("$100.00 per principal per day", bound)
    await office.jam.close()
    verdict = migrate(office.store, "o1", compile_text(newer, agent="desk"), now_ms=office.clock.now_ms(), owner="m")
    assert (verdict.reasons, verdict.already) == ((), False)
    office.jam = Engine(office.store, tools={"refund": office.refund}, clock=office.clock)
    await office.clock.advance(3_600_000)
    await office.jam.resume("o1")
    assert (await office.jam.run("o1").wait()).state == state
    await office.close()


async def test_many_that_have_room_are_not_decided_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only who has no room any more is refused: the work grows with the runs, not with their square."""
    refused: list[LimitConflict] = []
    known = LimitConflict.__init__

    def counted(self: LimitConflict, use: Any) -> None:
        known(self, use)
        refused.append(self)

    monkeypatch.setattr(LimitConflict, "__init__", counted)
    office = Office(SqliteStore(tmp_path / "t.db"))
    text = DESK.replace("2 calls", "40 calls").replace("$100.00", "$9000.00")
    ends = await asyncio.gather(*(office.desk(f"o{n}", text=text) for n in range(40)))
    assert ends == ["rest"] * 40
    assert refused == []
    await office.close()


ASKED = """language 1
tool wire(order: string) -> string { effect irreversible  key order }
agent desk version 1 {
  input  order: string
  output done: bool
  budget { steps 9  exceeded -> over }
  policy { allow any  require approval ask_it before wire  limit wire 1 call per principal }
  start state ask_it {
    ask role "x" to wire(order) "Sure?" options yes approves, no timeout 1d
    on yes -> pay  on no -> over  on denied -> over  on timeout -> over
  }
  state pay { call approved wire as id  on denied -> over  on in_doubt -> over  on error any -> over  -> paid }
  final paid { done = true }
  final over { done = false }
}
"""


async def test_an_approval_is_no_place_and_what_has_none_left_is_not_asked() -> None:
    """A process that only posts leaves the question to one that looks at the database."""
    store, made = MemoryStore(), list[str]()

    async def wire(order: str) -> str:
        made.append(order)
        return order

    async with Engine(store, tools={"wire": wire}, clock=SimClock()) as jam:
        program = compile_text(ASKED)
        for name in ("a", "b"):
            await jam.start(program, {"order": name}, id=name, principal="ann", drive=False)
            assert store.summary(name).status == "running"
            await (await jam.resume(name)).wait()
        for question in sorted(store.questions(), key=lambda row: row.run_id):
            await jam.answer(question.run_id, "yes", by={"id": "bob", "roles": ["x"]})
            await jam.run(question.run_id).wait()
        third = await jam.start(program, {"order": "c"}, id="c", principal="ann")
        assert (await third.wait()).state == "over"
    assert [store.summary(name).state for name in ("a", "b", "c")] == ["paid", "over", "over"]
    assert made == ["a"]
    assert "asked" not in [event.kind for event in store.history("c")]
    assert all(replay(store, name).proven for name in ("a", "b", "c"))


SECRET = """language 1
tool refund(order: string, pin: secret string) -> string { effect writes  key order }
agent desk version 1 {
  input  order: string, pin: secret string
  output done: bool
  budget { steps 9  exceeded -> over }
  policy { allow any  limit refund 1 call per args.pin per principal  limit refund 2 calls per principal }
  start state pay { call refund(order, pin) as id  on denied -> over  on error any -> over  on in_doubt -> over
    -> paid }
  final paid { done = true }
  final over { done = false }
}
"""


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAM_KEY_FILE", raising=False)
    monkeypatch.setenv("JAM_KEY", "11" * 32)


async def test_a_secret_groups_and_stands_nowhere_and_cannot_hide_who_it_is(key: None, tmp_path: Path) -> None:
    """A run whose secret is a part of the principal's name is counted under that name all the same."""
    store = SqliteStore(tmp_path / "t.db")

    async def refund(order: str, pin: str) -> str:
        return order

    async with Engine(store, tools={"refund": refund}, clock=SimClock()) as jam:
        ends = []
        for number, pin in enumerate(("k1!", "k1!", "canary", "canary-bird")):
            run = await jam.start(
                compile_text(SECRET), {"order": f"o{number}", "pin": pin}, id=f"o{number}", principal="canary-bird"
            )
            ends.append((await run.wait()).state)
    assert ends == ["paid", "over", "paid", "over"]
    rows = [row for _, row in zip(range(9), store._db.execute("SELECT * FROM shared"), strict=False)]
    assert len(rows) == 4
    assert not any(word in str(value) for row in rows for value in row for word in ("k1!", "canary"))
    assert len({row[0] for row in rows}) == 1
    store.close()


async def test_the_names_under_which_it_is_counted_do_not_change(tmp_path: Path) -> None:
    """They stand in databases: a release that gives other names forgets what was used."""
    store = SqliteStore(tmp_path / "t.db")
    office = Office(store)
    await office.desk("o1")
    who, group = "28f65178628c7bc854d701ea4a0985f7", "100ba24fa5d681f39696fea42c30e74d"
    counters = ["12502e34b7a4eff5c1a47713b3adc8fc", "93fb81d8d5c2c48643a896affac1f2f7"]
    found = store._db.execute("SELECT who, counter, grp FROM shared ORDER BY counter").fetchall()
    assert found == [(who, counter, group) for counter in counters]
    await office.close()


def test_of_two_processes_that_want_the_last_place_one_gets_it(tmp_path: Path) -> None:
    """Real processes, each with an engine of its own, begin at once."""
    path = tmp_path / "t.db"
    SqliteStore(path).close()
    script = [sys.executable, "-m", "tests.engine.refunds", str(path)]
    running = [subprocess.Popen([*script, f"p{n}"], cwd=ROOT, stdin=-1, stdout=-1, text=True) for n in range(3)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=60)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sum(line.count("paid") for line in told) == 2
    assert sum(line.count("over") for line in told) == 13
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT max(calls), count(*) FROM shared").fetchone() == (2, 2)
    raw.close()
    store = SqliteStore(path)
    assert store.check() == []
    assert all(replay(store, row.run_id).proven for row in store.summaries())
    store.close()
