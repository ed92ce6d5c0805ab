"""What an approval is bound to, through the engine: its run, and the rules and facts it was given under."""

from __future__ import annotations

from typing import Any

import pytest

from jamjet_dsl import Engine, compile_text
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.fork import fork
from jamjet_dsl.engine.migrate import migrate
from jamjet_dsl.engine.replay import replay
from jamjet_dsl.store.memory import MemoryStore
from tests.engine.test_migrate import Clock
from tests.engine.test_replay import changed, drafts_of

PROGRAM = """
tool send(to: string) -> string { effect writes  key run.id  timeout 5s }
tool other(to: string) -> string { effect writes  key run.id  timeout 5s }
agent sender version 1 {
  policy { allow send when args.to != ""  require approval review before send }
  on error any -> stopped
  on denied    -> stopped
  on in_doubt  -> stopped
  start state review {
    ask role "boss" to send("bob") "Send?" options approve approves, no  timeout 1h
    on approve -> pause
    on no      -> stopped
    on timeout -> stopped
  }
  state pause { wait 10s  -> sending }
  state sending { call approved send  -> sent }
  final  sent {}
  failed stopped {}
}
"""
BUSY = PROGRAM.replace("allow send when", "allow other  allow send when")
STRICTER = PROGRAM.replace('args.to != ""', 'args.to != "eve"')
SENT: list[str] = []


def engine(store: MemoryStore, clock: Clock | None = None) -> Engine:
    def send(to: str) -> str:
        SENT.append(to)
        return "sent"

    SENT.clear()
    return Engine(store, tools={"send": send, "other": send}, clock=clock)


async def waiting(store: MemoryStore, answered: bool = False, clock: Clock | None = None) -> None:
    async with engine(store, clock) as jam:
        run = await jam.start(compile_text(PROGRAM), {}, id="r", drive=False)
        if answered:
            await jam.answer("r", "approve", by="ann")
        assert run.id == "r"


async def test_a_live_fork_does_not_use_the_approval_of_the_run_it_comes_from() -> None:
    store = MemoryStore()
    await waiting(store, answered=True)
    at = store.last_seq("r")
    given: dict[str, Any] = {"owner": "", "now_ms": 2_000_000_000_000, "live": True}
    with pytest.raises(JamError) as caught:
        fork(store, "r", at, id="f", **given)
    assert (caught.value.code, caught.value.details) == ("JAMR410", ("send, which ann approved once",))
    before = next(event.seq for event in store.history("r") if event.kind == "asked")
    fork(store, "r", before, id="g", **given)
    async with engine(store) as jam:
        view = await (await jam.resume("g")).wait()
        assert [wait["kind"] for wait in view.waiting_for] == ["question"], "it asks anew"
    assert SENT == []


async def test_a_question_whose_rules_are_others_in_the_new_program_keeps_its_run_where_it_is() -> None:
    store = MemoryStore()
    await waiting(store)
    given: dict[str, Any] = {"owner": "", "now_ms": 2_000_000_000_000}
    (reason,) = migrate(store, "r", compile_text(STRICTER), **given).reasons
    assert reason.code == "JAM804"
    assert reason.message == "the question of `review` is pending, and the rules for its call changed"
    assert migrate(store, "r", compile_text(BUSY), **given).moved


async def test_an_approval_that_was_given_under_other_rules_is_not_used_after_a_migration() -> None:
    store, clock = MemoryStore(), Clock()
    await waiting(store, answered=True, clock=clock)
    assert migrate(store, "r", compile_text(STRICTER), owner="", now_ms=clock.now).moved
    clock.now += 11_000
    async with engine(store, clock) as jam:
        view = await (await jam.resume("r")).wait()
    assert (view.status, view.state, SENT) == ("failed", "stopped", [])
    (denied,) = [event.body for event in store.history("r") if event.kind == "denied"]
    assert denied["decision"]["reason"] == "the approval of `review` was given when other rules held for `send`"
    assert replay(store, "r").proven


async def test_an_approval_that_was_given_too_long_before_is_not_used_by_a_process_that_comes_later() -> None:
    store, clock = MemoryStore(), Clock()
    await waiting(store, answered=True, clock=clock)
    clock.now += 3_601_000
    async with engine(store, clock) as jam:
        view = await (await jam.resume("r")).wait()
    assert (view.status, view.state, SENT) == ("failed", "stopped", [])
    (denied,) = [event.body for event in store.history("r") if event.kind == "denied"]
    assert denied["decision"]["reason"] == "the approval of `review` was given more than 1h before"
    assert replay(store, "r").proven


async def test_a_journal_whose_questions_do_not_say_their_rules_is_proved_as_it_stands() -> None:
    store = MemoryStore()
    await waiting(store)
    drafts = drafts_of(store, "r")
    (asked,) = [draft for draft in drafts if draft.kind == "asked"]
    assert len(asked.body["call"].pop("policy")) == 64
    found = replay(changed(store, "r", drafts), "r")
    assert found.proven
    assert found.open == [f"event {len(drafts)} (asked) does not say by which rules its call may be approved"]
    asked.body["call"]["policy"] = "0" * 64
    assert not replay(changed(store, "r", drafts), "r").proven


async def test_a_journal_whose_answers_do_not_say_whether_roles_were_checked_is_proved_as_it_stands() -> None:
    store = MemoryStore()
    await waiting(store, answered=True)
    drafts = drafts_of(store, "r")
    (answered,) = [draft for draft in drafts if draft.kind == "answered"]
    assert answered.body.pop("checked") is False
    assert replay(changed(store, "r", drafts), "r").proven
    answered.body["checked"] = "yes"
    assert not replay(changed(store, "r", drafts), "r").proven
