"""Forks go on from a point in a run's past: with its calls off they say what it said, and never call anything."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, JamError, Scripted, compile_text
from jamjet_dsl.engine.fork import Fork, fork
from jamjet_dsl.engine.replay import replay
from jamjet_dsl.ports import Store
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.store.sqlite import SqliteStore
from tests.engine.test_replay import Changed, changed, drafts_of

PROGRAM = """
tool look(id: string, n: int) -> int { effect reads }
tool price(n: int) -> int { effect reads  cost $0.10  raises Gone }
tool pay(n: int) -> string { effect irreversible  key run.id + "/pay" }
tool note(text: string) -> string { effect writes  key run.id + text }
model small { via openai "x" }
agent buyer version 1 {
  input n: int
  output receipt: string?, said: string?
  var most: int = 10
  var words: string = ""
  budget { steps 60  tokens 90k  cost $5  time 2h  exceeded -> over }
  policy { allow look, price, note  allow pay without approval because "a test" }
  on error any -> over
  start state first { call look(run.id, n) as seen  -> cost }
  state cost { call price(seen) as amount  when amount > most -> ask_it  otherwise -> think_it
    on error Gone -> over }
  state think_it { think "Is {amount} fair?" model small max prompt 1k max tokens 100 as said: string
    set words = said  -> ask_it }
  state ask_it {
    ask role "boss" "Pay {amount}?" options yes, no timeout 30m as a
    on yes -> paying  on no -> over  on timeout -> over }
  state paying { call pay(amount) as receipt  on in_doubt -> over  -> noting }
  state noting { call note("paid " + string(amount)) as noted  on in_doubt -> over  -> done }
  final done { receipt = receipt  said = words }
  failed over { }
}
"""


class Shop:
    """The tools, and what they were called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def tools(self) -> dict[str, Any]:
        async def look(id: str, n: int) -> int:
            self.calls.append(("look", id, n))
            return n * 2

        async def price(n: int) -> int:
            self.calls.append(("price", n))
            return n + 1

        async def pay(n: int) -> str:
            self.calls.append(("pay", n))
            return f"paid {n}"

        async def note(text: str) -> str:
            self.calls.append(("note", text))
            return "noted"

        return {"look": look, "price": price, "pay": pay, "note": note}


def engine(store: Store, shop: Shop) -> Engine:
    return Engine(store, tools=shop.tools(), models={"*": Scripted(["very fair"])})


async def original(store: Store, shop: Shop, run_id: str = "origin") -> None:
    async with engine(store, shop) as jam:
        run = await jam.start(compile_text(PROGRAM), {"n": 3}, id=run_id)
        await run.wait()
        await jam.answer(run_id, "yes", by="olga")
        view = await run.wait()
        assert view.output == {"receipt": "paid 7", "said": "very fair"}


def seq_of(store: Store, kind: str, run_id: str = "origin", **fields: Any) -> int:
    return next(
        e.seq for e in store.history(run_id) if e.kind == kind and all(e.body.get(n) == v for n, v in fields.items())
    )


def forked(store: Store, at: int, **more: Any) -> Fork:
    return fork(store, "origin", at, owner="test", now_ms=1_900_000_000_000, id=more.pop("id", "fork"), **more)


async def finish(store: Store, shop: Shop, run_id: str = "fork", option: str = "yes") -> Any:
    async with engine(store, shop) as jam:
        run = await jam.resume(run_id)
        view = await run.wait()
        if view.waiting_for and view.waiting_for[0]["kind"] == "question":
            await jam.answer(run_id, option, by="otto")
            view = await run.wait()
        return view


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "jam.db")


async def test_a_fork_from_every_event_ends_as_the_original_did_and_calls_nothing(store: Store) -> None:
    await original(store, Shop())
    for at in range(1, store.last_seq("origin")):
        shop = Shop()
        made = forked(store, at, id=f"fork{at}")
        assert (made.at, made.live) == (at, False)
        view = await finish(store, shop, f"fork{at}")
        assert view.status == "completed", (at, view)
        assert view.output == {"receipt": "paid 7", "said": "very fair"}
        assert shop.calls == []
        found = replay(store, f"fork{at}")
        assert found.proven, found.disagreement
        assert found.open == []


async def test_a_fork_is_parked_at_the_first_call_that_was_not_made(store: Store) -> None:
    await original(store, Shop())
    shop = Shop()
    # With less money it asks nobody for an opinion, so the question comes first; then all is as it was.
    forked(store, seq_of(store, "succeeded", cmd="#2.1"), set={"most": 2})
    view = await finish(store, shop)
    assert (view.status, view.output) == ("completed", {"receipt": "paid 7", "said": ""})
    # Another answer leads elsewhere, where nothing is called. Another number is not what was called.
    made = forked(store, 1, id="other", set={"most": 2})
    assert made.recordings == 5
    async with engine(store, shop) as jam:
        await (await jam.resume("other")).wait()
    found = [e for e in drafts_of(store, "origin") if e.kind == "started"]
    assert found
    forked(store, seq_of(store, "moved", to="paying"), id="changed", set={"amount": 8})
    view = await finish(store, shop, "changed")
    assert view.status == "parked"
    assert "`pay` was not called with these arguments" in view.waiting_for[0]["reason"]
    async with engine(store, shop) as jam:
        await jam.retry("changed", by="olga")
        again = await jam.run("changed").wait()
        assert again.status == "parked"
        ended = await jam.cancel("changed", by="olga")
        assert ended.status == "cancelled"
    assert shop.calls == []
    assert replay(store, "changed").proven
    assert replay(store, "fork").proven


async def test_a_live_fork_calls_and_refuses_to_repeat_what_cannot_be_taken_back(store: Store) -> None:
    await original(store, Shop())
    asked = seq_of(store, "asked")
    with pytest.raises(JamError, match="would repeat") as refused:
        forked(store, asked, live=True)
    assert refused.value.code == "JAMR410"
    assert refused.value.details == ("pay(n: 7)",)
    # In flight counts as made.
    with pytest.raises(JamError, match="would repeat"):
        forked(store, seq_of(store, "intent", tool="pay"), live=True)
    with pytest.raises(JamError) as none:
        store.summary("fork")
    assert none.value.code == "JAMR201"
    shop = Shop()
    made = forked(store, asked, live=True, allow_repeat=True)
    assert made.repeats == ("pay(n: 7)",)
    view = await finish(store, shop)
    assert view.status == "completed"
    assert shop.calls == [("pay", 7), ("note", "paid 7")]
    # After the payment there is nothing left to repeat.
    shop = Shop()
    forked(store, seq_of(store, "moved", to="noting"), live=True, id="late")
    await finish(store, shop, "late")
    assert shop.calls == [("note", "paid 7")]
    for run_id in ("fork", "late"):
        assert replay(store, run_id).proven
        assert store.summary(run_id).status == "completed"


async def test_people_are_asked_anew_and_time_goes_on_from_now(store: Store) -> None:
    await original(store, Shop())
    asked = seq_of(store, "asked")
    old = store.questions("origin", status=None)[0]
    forked(store, asked)
    shop = Shop()
    async with engine(store, shop) as jam:
        await (await jam.resume("fork")).wait()
        (question,) = store.questions("fork")
        assert question.id != old.id
        assert store.questions("origin", status=None)[0] == old
        assert question.expires_ms is not None
        assert question.expires_ms - question.asked_ms == 30 * 60_000
        await jam.answer("fork", "no", by="otto")
        assert (await jam.run("fork").wait()).state == "over"
    # Two hours of time were two hours then, and years have passed: what was left is left.
    first = next(iter(store.history("fork")))
    assert first.kind == "forked"
    assert first.body["origin"]["run"] == "origin"
    assert replay(store, "fork").proven


async def test_a_fork_stands_on_its_own(tmp_path: Path) -> None:
    """After the original is gone the fork is resumed, replayed and forked again."""
    store = SqliteStore(tmp_path / "jam.db")
    await original(store, Shop())
    forked(store, seq_of(store, "asked"))
    assert replay(store, "fork").open == []
    (gone,) = store.prune(now_ms=1_900_000_000_000)
    assert gone.run_id == "origin"
    shop = Shop()
    view = await finish(store, shop)
    assert (view.status, shop.calls) == ("completed", [])
    found = replay(store, "fork")
    assert found.proven
    assert found.open == ["the run origin, which it came from, is not there any more"]
    again = fork(store, "fork", seq_of(store, "asked", "fork"), owner="test", now_ms=1_900_000_000_001, id="second")
    assert again.recordings == 2
    assert (await finish(store, shop, "second")).status == "completed"
    assert replay(store, "second").proven
    assert shop.calls == []


async def test_what_a_fork_says_it_came_from_is_checked(store: Store) -> None:
    await original(store, Shop())
    forked(store, seq_of(store, "asked"))
    await finish(store, Shop())
    drafts = drafts_of(store, "fork")

    def refuses(index: int, **fields: Any) -> None:
        draft = drafts[index]
        other: Changed = changed(
            store, "fork", [*drafts[:index], draft._replace(body={**draft.body, **fields}), *drafts[index + 1 :]]
        )
        origin = store.history
        inner = other.history
        other.history = lambda run_id, after=0: (  # type: ignore[method-assign]
            inner(run_id, after) if run_id == "fork" else origin(run_id, after)
        )
        assert not replay(other, "fork").proven, fields

    body = drafts[0].body
    refuses(0, origin={**body["origin"], "hash": "0" * 64})
    refuses(0, origin={**body["origin"], "seq": 2})
    refuses(0, origin={**body["origin"], "live": True})
    refuses(0, whole={**body["whole"], "vars": {**body["whole"]["vars"], "amount": 1}})
    refuses(0, set={"amount": 1})
    made_up = next(i for i, d in enumerate(drafts) if d.kind == "succeeded")
    refuses(made_up, result="paid 8")


async def test_inputs_can_be_changed_and_calls_mocked(store: Store) -> None:
    """With another input the first call is another one; what it and the model are to give is said by the fork."""
    await original(store, Shop())
    shop = Shop()
    mocks = {"look": 4, "think_it": "too much", "pay": "paid, they say"}
    made = forked(store, 1, input={"n": 5}, mocks=mocks)
    assert made.recordings == 5
    view = await finish(store, shop)
    assert view.input == {"n": 5}
    assert view.status == "parked", "4 was not priced there, and nobody mocked that"
    assert "`price` was not called with these arguments" in view.waiting_for[0]["reason"]
    forked(store, 1, input={"n": 5}, mocks={**mocks, "price": 5, "note": "noted"}, id="all")
    view = await finish(store, shop, "all")
    assert (view.status, view.output) == ("completed", {"receipt": "paid, they say", "said": "too much"})
    # A mock comes before what was recorded: this call was made there, and gave 6.
    forked(store, 1, mocks={"look": 7, "price": 7, "pay": "paid 8", "note": "noted"}, id="other")
    async with engine(store, shop) as jam:
        view = await (await jam.resume("other")).wait()
        assert view.vars["seen"] == 7
    assert shop.calls == []
    for run_id in ("fork", "all", "other"):
        found = replay(store, run_id)
        assert found.proven, found.disagreement
    # (The id of that run is a part of the word "call": only what is said of it is renamed.)
    again = fork(store, "all", 1, owner="test", now_ms=1_900_000_000_001, id="again")
    assert again.recordings == 5, "what was mocked there was said there"
    assert (await finish(store, shop, "again")).output == {"receipt": "paid, they say", "said": "too much"}


async def test_a_mocked_outcome_that_was_not_mocked_like_that_is_noticed(store: Store) -> None:
    await original(store, Shop())
    forked(store, 1, mocks={"look": 7})
    async with engine(store, Shop()) as jam:
        await (await jam.resume("fork")).wait()
    drafts = drafts_of(store, "fork")
    index = next(i for i, d in enumerate(drafts) if d.kind == "succeeded" and d.body["result"] == 7)
    draft = drafts[index]._replace(body={**drafts[index].body, "result": 6})
    other = changed(store, "fork", [*drafts[:index], draft, *drafts[index + 1 :]])
    origin, inner = store.history, other.history
    other.history = lambda run_id, after=0: (  # type: ignore[method-assign]
        inner(run_id, after) if run_id == "fork" else origin(run_id, after)
    )
    assert not replay(other, "fork").proven


async def test_forks_that_make_no_sense_are_refused(store: Store) -> None:
    await original(store, Shop())
    last = store.last_seq("origin")

    def code(at: int, **more: Any) -> str:
        with pytest.raises(JamError) as refused:
            forked(store, at, **more)
        return refused.value.code

    assert code(last) == "JAMR204"
    assert code(last + 1) == "JAMR411"
    assert code(0) == "JAMR411"
    assert code(2, set={"most": "many"}) == "JAMR301"
    assert code(2, set={"nothing": 1}) == "JAMR301"
    assert code(2, input={"n": "many"}) == "JAMR301"
    assert code(2, input={"most": 1}) == "JAMR301"
    assert code(2, mocks={"look": "many"}) == "JAMR301"
    assert code(2, mocks={"think_it": 7}) == "JAMR301"
    assert code(2, mocks={"nothing": 1}) == "JAMR301"
    assert code(2, mocks={"look": 1}, live=True) == "JAMR006"
    assert code(2, id="origin") == "JAMR203"
    with pytest.raises(JamError) as refused:
        fork(store, "nobody", 1, owner="test", now_ms=0)
    assert refused.value.code == "JAMR201"


async def test_an_interrupted_fork_goes_on_with_its_recordings(store: Store) -> None:
    await original(store, Shop())
    forked(store, 1)
    shop = Shop()
    for _ in range(12):
        # Each engine gets a few turns only.
        async with engine(store, shop) as jam:
            if jam.store.summary("fork").status in ("waiting", "completed"):
                break
            await jam.resume("fork")
            await asyncio.sleep(0)
    view = await finish(store, shop)
    assert (view.status, shop.calls) == ("completed", [])
    assert replay(store, "fork").proven


async def test_a_fork_whose_calls_are_off_needs_nothing_bound(store: Store) -> None:
    await original(store, Shop())
    forked(store, seq_of(store, "moved", to="paying"))
    async with Engine(store) as jam:
        view = await (await jam.resume("fork")).wait()
    assert (view.status, view.output) == ("completed", {"receipt": "paid 7", "said": "very fair"})
    forked(store, seq_of(store, "moved", to="noting"), id="live", live=True)
    async with Engine(store) as jam:
        with pytest.raises(JamError) as refused:
            await jam.resume("live")
    assert refused.value.code == "JAMR303"
