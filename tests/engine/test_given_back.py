"""A process that is stopped says which calls it had not begun: nobody has to be asked about what never happened."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, compile_text
from jamjet_dsl.engine.audit.recheck import recheck
from jamjet_dsl.engine.replay import replay
from jamjet_dsl.store.sqlite import SqliteStore
from tests.engine.test_many_runs import until

LIMITED = """
tool post(text: string) -> string { effect writes  limit 1 call per hour }
tool price(text: string) -> int { effect reads  cost $1.00  limit 1 call per hour }
agent writer version 1 {
  input text: string
  output said: string?
  budget { steps 9  cost $2.00  exceeded -> over }
  policy { allow any }
  start state s { call post(text) as r  on in_doubt -> doubt  on error any -> over  -> done }
  final done { said = r }
  failed doubt { said = "in doubt" }
  failed over {}
}
agent reader version 1 {
  input text: string
  output said: string?
  budget { steps 9  cost $2.00  exceeded -> over }
  policy { allow any }
  start state s { call price(text) as r  on error any -> over  -> done }
  final done { said = "read" }
  failed over {}
}
"""


class Desk:
    """Tools that count their calls."""

    def __init__(self) -> None:
        self.made: list[str] = []

    async def post(self, text: str) -> str:
        self.made.append(text)
        return text

    async def price(self, text: str) -> int:
        self.made.append(text)
        return 1

    def tools(self) -> dict[str, Any]:
        return {"post": self.post, "price": self.price}


def kinds(path: Path, run_id: str) -> list[str]:
    store = SqliteStore(path, read_only=True)
    try:
        assert replay(store, run_id).proven
        assert recheck(store, run_id).replay.proven
        return [event.kind for event in store.history(run_id)]
    finally:
        store.close()


@pytest.mark.parametrize("agent", ["writer", "reader"])
async def test_a_call_that_waited_for_its_slot_is_given_back_and_made_later(tmp_path: Path, agent: str) -> None:
    """Without a key, and with a price: it is in no doubt, and costs nothing however often the process is stopped."""
    desk, path, program = Desk(), tmp_path / "t.db", compile_text(LIMITED, agent=agent)
    async with Engine(path, tools=desk.tools()) as jam:
        await (await jam.start(program, {"text": "first"}, id="first")).wait()
        await jam.start(program, {"text": "second"}, id="second")
        await until(lambda: "intent" in [event.kind for event in jam.history("second")])
        (waits,) = jam.show("second").waiting_for
        assert (waits["kind"], waits["name"]) == ("slot", "post" if agent == "writer" else "price")
        assert waits["at_ms"] > jam.clock.now_ms()
    for _ in range(3):
        async with Engine(path, tools=desk.tools()) as jam:
            await jam.resume("second")
            await asyncio.sleep(0)
    assert desk.made == ["first"]
    found = kinds(path, "second")
    assert found.count("unsent") == found.count("intent") == 4
    assert not {"in_doubt", "recovered", "parked"} & {*found}
    async with Engine(path, tools=desk.tools()) as jam:
        view = jam.show("second")
    assert view.spent["cost"] == "0.00 USD"
    raw = SqliteStore(path)
    raw._db.execute("DELETE FROM slots")
    raw.close()
    async with Engine(path, tools=desk.tools()) as jam:
        await jam.resume("second")
        assert (await jam.run("second").wait()).status == "completed"
    assert desk.made == ["first", "second"]


async def test_a_call_that_waited_for_a_thread_is_given_back(tmp_path: Path) -> None:
    text = LIMITED.replace("limit 1 call per hour", "")
    program, gate, made = compile_text(text, agent="writer"), threading.Event(), list[str]()

    def post(text: str) -> str:
        made.append(text)
        gate.wait(20)
        return text

    path = tmp_path / "t.db"
    jam = Engine(path, tools={"post": post}, max_threads=1)
    for name in ("a", "b", "c"):
        await jam.start(program, {"text": name}, id=name)
    await until(lambda: bool(made) and all("intent" in [e.kind for e in jam.history(n)] for n in "abc"))
    closing = asyncio.create_task(jam.close(grace_ms=20_000))
    await until(lambda: all("unsent" in [e.kind for e in jam.store.history(n)] for n in "bc"))
    gate.set()
    await closing
    assert made == ["a"]
    assert "unsent" not in kinds(path, "a")
    async with Engine(path, tools={"post": post}) as jam:
        for name in ("b", "c"):
            await jam.resume(name)
            assert (await jam.run(name).wait()).status == "completed"
    assert sorted(made) == ["a", "b", "c"]
