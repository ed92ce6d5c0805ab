"""A run whose policy is in shadow: kept in its journal, and with it across processes, forks and replays."""

from __future__ import annotations

from pathlib import Path

from jamjet_dsl import Engine, compile_text
from jamjet_dsl.engine.blocking import run_sync
from jamjet_dsl.engine.fork import fork
from jamjet_dsl.engine.replay import replay
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.store.sqlite import SqliteStore
from tests.engine.test_replay import changed, drafts_of

PROGRAM = """
tool ship(id: string) -> string { effect writes  key run.id + id  timeout 5s }
agent shop version 1 {
  input id: string
  policy { allow ship  forbid ship when args.id == "1"  limit ship 1 call }
  on error any -> stopped
  on denied -> stopped
  on in_doubt -> stopped
  start state first { call ship(id)  -> ask_it }
  state ask_it {
    ask role "boss" "More?" options yes, no timeout 1h
    on yes -> second  on no -> done  on timeout -> done
  }
  state second { call ship(id + "b")  -> done }
  final done {}
  failed stopped {}
}
"""


def engine(store: MemoryStore | SqliteStore | Path, sent: list[str]) -> Engine:
    def ship(id: str) -> str:
        sent.append(id)
        return "sent"

    return Engine(store, tools=[ship])


async def test_another_process_goes_on_in_the_mode_that_the_run_began_in(tmp_path: Path) -> None:
    sent: list[str] = []
    async with engine(tmp_path / "jam.db", sent) as jam:
        run = await jam.start(compile_text(PROGRAM), {"id": "1"}, id="r", policy="shadow")
        assert (await run.wait()).policy == "shadow"
    async with engine(tmp_path / "jam.db", sent) as jam:
        await jam.answer("r", "yes", by="ann")
        run = await jam.resume("r")
        view = await run.wait()
        intents = [event.body["decision"] for event in jam.history("r") if event.kind == "intent"]
    assert (view.status, view.state, view.policy) == ("completed", "done", "shadow")
    assert sent == ["1", "1b"]
    assert [(one["result"], one["enforced"]) for one in intents] == [("denied", False), ("denied", False)]
    assert "all 1 calls" in intents[1]["reason"]


async def test_without_it_the_policy_is_enforced() -> None:
    sent: list[str] = []
    async with engine(MemoryStore(), sent) as jam:
        view = await (await jam.start(compile_text(PROGRAM), {"id": "1"})).wait()
    assert (view.state, view.policy, sent) == ("stopped", "enforce", [])


async def test_a_replay_proves_a_shadow_run_and_that_the_mode_is_part_of_what_is_proved() -> None:
    store = MemoryStore()
    async with engine(store, []) as jam:
        await (await jam.start(compile_text(PROGRAM), {"id": "1"}, id="r", policy="shadow")).wait()
    assert replay(store, "r").proven
    drafts = drafts_of(store, "r")
    first = {name: value for name, value in drafts[0].body.items() if name != "policy"}
    found = replay(changed(store, "r", [drafts[0]._replace(body=first), *drafts[1:]]), "r")
    assert found.disagreement is not None
    assert found.disagreement.expected is not None
    assert (found.disagreement.seq, found.disagreement.expected.kind) == (2, "denied")


async def test_a_fork_is_in_the_mode_of_the_run_that_it_came_from() -> None:
    store, sent = MemoryStore(), list[str]()
    async with engine(store, sent) as jam:
        await (await jam.start(compile_text(PROGRAM), {"id": "1"}, id="r", policy="shadow")).wait()
        fork(store, "r", jam.show("r").last_seq, owner="", now_ms=jam.clock.now_ms(), id="f", live=True)
        run = await jam.resume("f")
        await run.wait()
        await jam.answer("f", "yes", by="ann")
        view = await run.wait()
    assert (view.state, view.policy, sent) == ("done", "shadow", ["1", "1b"])
    assert replay(store, "f").proven


def test_scripts_may_ask_for_it_too() -> None:
    sent: list[str] = []

    def ship(id: str) -> str:
        sent.append(id)
        return "sent"

    program = PROGRAM.replace('args.id == "1"', 'args.id == "1" || true')
    view = run_sync(compile_text(program), {"id": "2"}, policy="shadow", store=MemoryStore(), tools=[ship])
    assert (view.status, view.policy, sent) == ("waiting", "shadow", ["2"])
