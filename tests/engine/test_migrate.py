"""Runs at rest move to another version of their program where that fits, and stay as they are where it does not."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, compile_text
from jamjet_dsl.definition import Compiled
from jamjet_dsl.engine.loading import rebuild
from jamjet_dsl.engine.migrate import Verdict, migrate, runs_to_migrate
from jamjet_dsl.engine.replay import replay
from jamjet_dsl.ports import Store
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.store.sqlite import SqliteStore
from tests.engine.test_replay import changed, drafts_of

PROGRAM = """
tool book(n: int) -> string { effect writes  key run.id + "/book"  undo give_back(result)  cost $1 }
tool give_back(id: string) -> string { effect writes  key id }
tool check_it(n: int) -> int { effect reads }
agent trip version 1 {
  input n: int
  output text: string?
  var count: int = 0
  var most: int = 10
  event word(text: string)
  budget { steps 20  cost $9  time 30d  exceeded -> over }
  policy { allow book, give_back  allow check_it  limit book 3 calls }
  on error any -> over
  start state booking { call book(n) as booked
    set count = count + 1
    on in_doubt -> over  -> deciding }
  state deciding {
    ask role "boss" "Go on with {n}?" options yes, no timeout 5d as a
    on yes -> pause  on no -> over  on timeout -> over }
  state pause { wait 2d  -> listening }
  state listening { wait for event word(w) timeout 9d  on timeout -> over  -> last { set count = count + 1 } }
  state last { -> done }
  final done { text = booked + " " + string(count) }
  failed over { }
}
"""
V2 = PROGRAM.replace("version 1", "version 2")


def version(*changes: tuple[str, str], text: str = V2) -> Compiled:
    """The next version of the program, with these changes."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return compile_text(text)


async def book(n: int) -> str:
    return f"b{n}"


async def give_back(id: str) -> str:
    return f"back {id}"


async def check_it(n: int) -> int:
    return n


class Clock:
    """Time stands still but for what a test lets pass."""

    def __init__(self) -> None:
        self._now = 1_700_000_000_000
        self._sleeping: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def now(self) -> int:
        return self._now

    @now.setter
    def now(self, at_ms: int) -> None:
        self._now = at_ms
        for until, future in self._sleeping:
            if until <= at_ms and not future.done():
                future.set_result(None)
        self._sleeping = [(until, future) for until, future in self._sleeping if until > at_ms]

    def now_ms(self) -> int:
        return self._now

    async def sleep_until(self, at_ms: int) -> None:
        if at_ms > self._now:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleeping.append((at_ms, future))
            await future


def engine(store: Store, clock: Clock) -> Engine:
    return Engine(store, tools={"book": book, "give_back": give_back, "check_it": check_it}, clock=clock)


class Trip:
    """One run and its database; `at` brings it to a state where it rests."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = Clock()

    async def at(self, state: str, program: Compiled | None = None) -> None:
        async with engine(self.store, self.clock) as jam:
            run = await jam.start(program or compile_text(PROGRAM), {"n": 7}, id="t")
            await run.wait()
            if state in ("pause", "listening"):
                await jam.answer("t", "yes", by="ann")
            if state == "listening":
                self.clock.now += 2 * 86_400_000
                await jam.resume("t")
                await run.wait()
        assert self.store.summary("t").state == state

    def move(self, to: Compiled, **more: Any) -> Verdict:
        return migrate(self.store, "t", to, owner="test", now_ms=self.clock.now, **more)

    def codes(self, to: Compiled) -> list[str]:
        """Why the run cannot be moved; a refusal changes nothing, and a dry run says the same."""
        before = self.store.summary("t")
        dry = self.move(to, dry_run=True)
        verdict = self.move(to)
        assert verdict.reasons == dry.reasons
        assert not verdict.moved
        after = self.store.summary("t")
        assert (after.last_seq, after.source, after.owner) == (before.last_seq, before.source, "")
        return [reason.code for reason in verdict.reasons]

    async def finish(self) -> Any:
        async with engine(self.store, self.clock) as jam:
            for _ in range(6):
                summary = self.store.summary("t")
                if summary.status not in ("waiting", "running"):
                    break
                run = await jam.resume("t")
                view = await run.wait()
                kinds = {item["kind"] for item in view.waiting_for}
                if "question" in kinds:
                    await jam.answer("t", "yes", by="ann")
                elif "event" in kinds:
                    await jam.send("t", "word", {"text": "hello"}, by="ann")
                elif view.wake_at_ms is not None:
                    self.clock.now = max(self.clock.now, view.wake_at_ms)
            return jam.show("t")


@pytest.fixture(params=["memory", "sqlite"])
def trip(request: pytest.FixtureRequest, tmp_path: Path) -> Trip:
    return Trip(MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "jam.db"))


STATES = ["deciding", "pause", "listening"]


@pytest.mark.parametrize("state", STATES)
async def test_a_run_goes_on_in_the_new_program(trip: Trip, state: str) -> None:
    await trip.at(state)
    new = version(('text = booked + " "', 'text = "new " + booked + " "'))
    dry = trip.move(new, dry_run=True)
    assert (dry.compatible, dry.moved) == (True, False)
    assert trip.store.summary("t").definition == compile_text(PROGRAM).definition.digest
    verdict = trip.move(new, by="olga", note="v2")
    assert (verdict.compatible, verdict.moved) == (True, True)
    summary = trip.store.summary("t")
    assert (summary.definition, summary.status, summary.state) == (new.definition.digest, "waiting", state)
    event = next(e for e in trip.store.history("t") if e.kind == "migrated")
    assert (event.body["by"], event.body["note"]) == ("olga", "v2")
    assert event.body["to"]["definition"] == new.definition.digest
    view = await trip.finish()
    assert (view.status, view.output) == ("completed", {"text": "new b7 2"})
    found = replay(trip.store, "t")
    assert found.proven, found.disagreement
    assert found.open == []
    assert trip.move(new).reasons[0].code == "JAMR204"


@pytest.mark.parametrize("state", STATES)
async def test_states_that_were_renamed_are_mapped(trip: Trip, state: str) -> None:
    await trip.at(state)
    text = V2.replace("deciding", "asking").replace("listening", "hearing").replace("pause", "resting")
    assert trip.codes(version(text=text)) == ["JAM802"]
    mapped = "  migrate from 1 { deciding -> asking  listening -> hearing  pause -> resting }\n  input n"
    verdict = trip.move(version(("  input n", mapped), text=text))
    assert verdict.moved, verdict
    named = {"deciding": "asking", "listening": "hearing", "pause": "resting"}
    assert dict(verdict.mapped) == {name: new for name, new in named.items() if name == state}
    view = await trip.finish()
    assert (view.status, view.output) == ("completed", {"text": "b7 2"})
    assert replay(trip.store, "t").proven


async def test_a_state_must_be_there_and_do_the_same(trip: Trip) -> None:
    await trip.at("pause")
    assert trip.codes(version(("pause", "nap"))) == ["JAM802"]
    assert trip.codes(version(("state pause { wait 2d", "state pause { call check_it(n) as ok"))) == ["JAM802"]
    wrong = "  migrate from 1 { pause -> last }\n  input n"
    assert trip.codes(version(("  input n", wrong), ("pause", "nap"), text=V2.replace("  input n", "  input n"))) == [
        "JAM802"
    ]


async def test_what_came_and_nobody_has_taken_must_fit(trip: Trip) -> None:
    await trip.at("deciding")
    async with engine(trip.store, trip.clock) as jam:
        await jam.send("t", "word", {"text": "12"}, by="ann")
        await jam.resume("t")
    assert "received" in [event.kind for event in trip.store.history("t")]
    assert trip.codes(
        version(("word(text: string)", "word(text: int)"), ("for event word(w)", "for event word(w)"))
    ) == ["JAM803"]
    renamed = version(("event word(text", "event other(text"), ("for event word(w)", "for event other(w)"))
    assert trip.codes(renamed) == ["JAM803"]
    assert trip.move(version(("word(text: string)", "word(text: string)"))).moved


async def test_variables_must_fit(trip: Trip) -> None:
    await trip.at("pause")
    assert trip.codes(version(("var count: int", "var count: int 5..10"), ("int 5..10 = 0", "int 5..10 = 5"))) == [
        "JAM803"
    ]
    assert trip.codes(version(("input n: int", "input n: int, m: int"))) == ["JAM803"]
    needs = version(
        ("  -> deciding }", "  -> looking }\n  state looking { call check_it(n) as seen  -> deciding }"),
        ("text = booked", "text = string(seen) + booked"),
    )
    assert trip.codes(needs) == ["JAM803"]
    # New variables with a first value, variables that are gone, optional inputs: all of these fit.
    new = version(
        ("var most: int = 10", "var least: int = 3"),
        ("input n: int", "input n: int, m: int?"),
        ("string(count)", "string(count + least)"),
    )
    assert trip.move(new).moved
    assert trip.store.summary("t").status == "waiting"
    view = await trip.finish()
    assert view.output == {"text": "b7 5"}
    assert replay(trip.store, "t").proven


async def test_a_pending_question_must_still_be_the_same(trip: Trip) -> None:
    await trip.at("deciding")
    more = version(("options yes, no", "options yes, no, later"), ("on no -> over", "on no -> over  on later -> pause"))
    assert trip.codes(more) == ["JAM804"]
    assert trip.codes(version(('role "boss"', 'role "chief"'))) == ["JAM804"]
    form = version(("options yes, no timeout", "options yes, no answer { why: string? } timeout"))
    assert trip.codes(form) == ["JAM804"]
    # What it says may change: the person has read what was asked then.
    assert trip.move(version(("Go on with {n}?", "Really go on with {n}?"))).moved
    assert (await trip.finish()).status == "completed"


ASKING = """
tool book(n: int) -> string { effect irreversible  key run.id + "/book" }
tool check_it(n: int) -> int { effect reads }
agent trip version 1 {
  input n: int
  budget { steps 20  time 30d  exceeded -> over }
  policy {
    fact known = check_it(n = args.n) within 10m
    allow book when args.n == known
    require approval deciding before book
    limit book 1 call per principal
  }
  on error any -> over
  on denied -> over
  start state deciding {
    ask role "boss" to book(n) "Book {n}?" options approve, no remind every 1h timeout 5d as a
    on approve -> booking  on no -> over  on timeout -> over }
  state booking { call approved book  on in_doubt -> over  -> done }
  final done { }
  failed over { }
}
"""


async def test_a_pending_question_for_a_call_that_all_runs_count_and_that_a_fact_was_read_for(trip: Trip) -> None:
    two = ASKING.replace("version 1", "version 2")
    await trip.at("deciding", compile_text(ASKING))
    trip.clock.now += 3_700_000
    async with engine(trip.store, trip.clock) as jam:
        await (await jam.resume("t")).wait()
    assert trip.codes(version(("limit book 1 call", "limit book 2 calls"), text=two)) == ["JAM804"], "other rules"
    assert trip.codes(version(("to book(n)", "to book(n + 0)"), ("args.n == known", "args.n > known"), text=two))
    assert trip.move(version(("Book {n}?", "Really {n}?"), text=two)).moved
    assert replay(trip.store, "t").proven


async def test_timers_hold(trip: Trip) -> None:
    await trip.at("pause")
    trip.clock.now += 86_400_000
    assert trip.codes(version(("wait 2d", "wait 1d"))) == ["JAM805"]
    began = trip.store.summary("t").wake_at_ms
    assert began is not None
    assert trip.move(version(("wait 2d", "wait 3d"))).moved
    assert trip.store.summary("t").wake_at_ms == began + 86_400_000
    assert (await trip.finish()).status == "completed"
    assert replay(trip.store, "t").proven


async def test_a_question_expires_by_the_new_program(trip: Trip) -> None:
    await trip.at("deciding")
    trip.clock.now += 86_400_000
    assert trip.codes(version(("timeout 5d", "timeout 20h"))) == ["JAM805"]
    assert trip.move(version(("timeout 5d", "timeout 2d"))).moved
    trip.clock.now += 86_400_000
    async with engine(trip.store, trip.clock) as jam:
        view = await (await jam.resume("t")).wait()
    assert view.state == "over"
    assert any(e.kind == "expired" for e in trip.store.history("t"))
    assert replay(trip.store, "t").proven


async def test_budgets_hold_what_was_spent(trip: Trip) -> None:
    await trip.at("pause")
    assert trip.codes(version(("steps 20", "steps 2"))) == ["JAM807"]
    assert trip.codes(version(("cost $9", "cost $0.50"))) == ["JAM807"]
    trip.clock.now += 86_400_000
    assert trip.codes(version(("time 30d", "time 1d"))) == ["JAM807"]
    assert trip.move(version(("time 30d", "time 2d"), ("steps 20", "steps 5"))).moved
    assert replay(trip.store, "t").proven


async def test_what_can_be_taken_back_still_can(trip: Trip) -> None:
    await trip.at("pause")
    assert trip.codes(version((" undo give_back(result)", ""))) == ["JAM808"]


async def test_history_that_the_policy_asks_about_was_kept(trip: Trip) -> None:
    await trip.at("pause")
    assert trip.codes(version(("limit book 3 calls", "limit book 2 calls"))) == ["JAMR412"]
    # The same limit, elsewhere in the policy, goes on counting.
    new = version(
        ("policy { allow book, give_back  allow check_it  limit", "policy { limit"),
        ("3 calls }", "3 calls  allow book, give_back  allow check_it }"),
    )
    assert trip.move(new).moved
    assert (await trip.finish()).status == "completed"
    assert replay(trip.store, "t").proven


async def test_a_run_that_works_or_is_driven_is_left_alone(trip: Trip) -> None:
    await trip.at("pause")
    lease = trip.store.claim("t", "another", 60_000, trip.clock.now)
    assert [r.code for r in trip.move(version()).reasons] == ["JAMR205"]
    trip.store.release(lease)
    other = compile_text(V2.replace("agent trip", "agent tour"))
    assert trip.codes(other) == ["JAMR412"]
    assert runs_to_migrate(trip.store, other) == []
    assert runs_to_migrate(trip.store, version()) == ["t"]
    assert trip.move(version()).moved
    assert runs_to_migrate(trip.store, version()) == []


async def test_the_caches_of_a_moved_run_can_be_rebuilt(tmp_path: Path) -> None:
    """Without its snapshot the whole journal is folded, each part with the program it was written by."""
    store = SqliteStore(tmp_path / "jam.db")
    trip = Trip(store)
    await trip.at("pause")
    text = V2.replace("deciding", "asking").replace("pause", "resting")
    mapped = "  migrate from 1 { deciding -> asking  pause -> resting }\n  input n"
    assert trip.move(version(("  input n", mapped), text=text)).moved
    before = store.summary("t")
    with sqlite3.connect(tmp_path / "jam.db") as raw:
        raw.execute("DELETE FROM snapshots")
    rebuild(store, "t")
    after = store.summary("t")
    assert (after.status, after.state, after.definition, after.source) == (
        before.status,
        "resting",
        before.definition,
        before.source,
    )
    view = await trip.finish()
    assert view.output == {"text": "b7 2"}
    assert replay(store, "t").proven


async def test_a_migration_that_was_made_up_is_noticed(trip: Trip) -> None:
    await trip.at("pause")
    assert trip.move(version(("var most: int = 10", "var least: int = 3"))).moved
    await trip.finish()
    drafts = drafts_of(trip.store, "t")
    index, draft = next((i, d) for i, d in enumerate(drafts) if d.kind == "migrated")
    body = draft.body
    for fields in ({"set": {"least": 4}}, {"drop": []}, {"from": body["to"]}, {"states": {"a": "b"}}):
        other = [*drafts[:index], draft._replace(body={**body, **fields}), *drafts[index + 1 :]]
        assert not replay(changed(trip.store, "t", other), "t").proven, fields
    assert not replay(changed(trip.store, "t", drafts[:index] + drafts[index + 1 :]), "t").proven


async def test_a_run_stays_on_its_program_though_the_file_changes(tmp_path: Path) -> None:
    """The definition lives in the database: another worker, with another text in the same file, finishes the run."""
    path = tmp_path / "trip.jam"
    path.write_text(PROGRAM)
    store = SqliteStore(tmp_path / "jam.db")
    clock = Clock()
    async with engine(store, clock) as jam:
        await (await jam.start(path, {"n": 7}, id="t")).wait()
    path.write_text(V2.replace("booked +", '"changed " + booked +').replace("wait 2d", "wait 9d"))
    trip = Trip(SqliteStore(tmp_path / "jam.db"))
    trip.clock = clock
    view = await trip.finish()
    assert (view.status, view.output) == ("completed", {"text": "b7 2"})
    path.unlink()
    assert replay(trip.store, "t").proven


INSIDE = """
agent office version 1 {
  input n: int
  output text: string?
  budget { steps 40  time 30d  exceeded -> over }
  on error any -> over
  start parallel both {
    branch left as l or "none" {
      state asking {
        ask role "boss" "Left {n}?" options yes, no timeout 5d as a
        on yes -> end on no -> end on timeout skip
      }
      state end { yields "asked" }
    }
    branch right as r or "none" { state nap { wait 2d  -> fin } state fin { yields "slept" } }
    join all within 9d
    on join -> done
    on error JoinFailed -> over
  }
  final done { text = l + " " + r }
  failed over { }
}
"""


async def test_frames_inside_are_moved_too(trip: Trip) -> None:
    await trip.at("both", compile_text(INSIDE))
    two = INSIDE.replace("version 1", "version 2")
    assert trip.codes(version(("state nap", "state rest"), text=two)) == ["JAM802"]
    assert trip.codes(version(("branch right", "branch east"), text=two)) == ["JAM802", "JAM802"]
    assert trip.codes(
        version(
            ("options yes, no", "options yes, no, so"), ("on no -> end on", "on no -> end on so -> end on"), text=two
        )
    ) == ["JAM804"]
    trip.clock.now += 86_400_000
    assert trip.codes(version(("wait 2d", "wait 1d"), text=two)) == ["JAM805"]
    assert trip.codes(version(("within 9d", "within 1d"), text=two)) == ["JAM805"]
    names = "  migrate from 1 { both -> pair  nap -> rest }\n  input n"
    renamed = two.replace("parallel both", "parallel pair").replace("state nap", "state rest")
    assert trip.move(version(("  input n", names), ("within 9d", "within 8d"), text=renamed)).moved
    assert trip.store.summary("t").state == "pair"
    view = await trip.finish()
    assert (view.status, view.output) == ("completed", {"text": "asked slept"})
    found = replay(trip.store, "t")
    assert found.proven, found.disagreement
