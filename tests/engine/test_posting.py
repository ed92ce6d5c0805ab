"""What is told to a run without driving it is journaled, and no tool is called. What is refused drives nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jamjet_dsl import Engine, compile_text
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.clock import SimClock
from jamjet_dsl.engine.replay import replay
from jamjet_dsl.store.memory import MemoryStore

PROGRAM = compile_text("""
tool book(id: string) -> string { effect writes  key id  undo release(result) }
tool release(id: string) { effect writes  key id }
tool look(id: string) -> string { effect reads }
tool pay(id: string) -> string { effect irreversible  key id }
agent payer version 1 {
  output receipt: string?
  var seen: string = ""
  event go(text: string)
  budget { steps 20  time 1d  exceeded -> undoing }
  policy { allow book, release, look, pay  require approval review before pay }
  on error any -> undoing
  on denied -> undoing
  on in_doubt -> undoing
  start state listen { wait for event go(m)  -> reading { set seen = m.text } }
  state reading { call look(run.id) as found  -> booking }
  state booking { call book(run.id) as booked  -> review }
  state review {
    ask role "boss" to pay(run.id) "Pay?" options yes approves, no timeout 10m as a
    on yes -> paying  on no -> undoing  on timeout -> undoing }
  state paying { call approved pay as receipt  -> done }
  state undoing { undo all  -> over }
  final done { receipt = receipt }
  final over { receipt = null }
}
""")


class Desk:
    """One database on one clock, and the tools that were called by anybody."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = SimClock()
        self.calls: list[str] = []

    def engine(self, drive: bool = True, tools: bool = True) -> Engine:
        """A process: the same tools, or none of them."""

        def tool(name: str) -> Any:
            async def call(id: str) -> str | None:
                self.calls.append(name)
                return None if name == "release" else name

            return call

        known = {name: tool(name) for name in ("book", "release", "look", "pay")} if tools else {}
        return Engine(self.store, tools=known, clock=self.clock, drive=drive)

    async def asked(self) -> None:
        """The run `t` has booked, and asks."""
        async with self.engine() as jam:
            run = await jam.start(PROGRAM, {}, id="t")
            await jam.send("t", "go", {"text": "x"})
            assert (await run.wait()).state == "review"
        assert self.calls == ["look", "book"]

    async def finish(self) -> Any:
        """Somebody who drives runs comes by."""
        async with self.engine() as jam:
            assert [run.id for run in (await jam.resume_all())[0]] == ["t"]
            return await jam.run("t").wait()


async def test_who_posts_an_answer_calls_nothing_and_needs_no_tools() -> None:
    desk = Desk()
    await desk.asked()
    async with desk.engine(drive=False, tools=False) as jam:
        summary = await jam.answer("t", "yes", by="olga")
        assert (summary.status, summary.state) == ("running", "paying")
        assert jam.inbox() == []
    assert desk.calls == ["look", "book"]
    assert [e.kind for e in desk.store.history("t")][-1] == "moved"
    assert desk.store.summary("t").owner == ""
    assert desk.store.due(desk.clock.now_ms()) == ["t"]
    assert (await desk.finish()).output == {"receipt": "pay"}
    assert desk.calls == ["look", "book", "pay"]
    assert replay(desk.store, "t").proven


async def test_who_posts_an_event_leaves_even_a_free_read_to_others() -> None:
    desk = Desk()
    async with desk.engine(drive=False) as jam:
        await jam.start(PROGRAM, {}, id="t")
        assert desk.store.summary("t").status == "waiting"
        summary = await jam.send("t", "go", {"text": "x"})
        assert (summary.status, summary.state) == ("running", "reading")
        with pytest.raises(JamError, match="JAMR006"):
            await jam.resume("t")
        with pytest.raises(JamError, match="JAMR006"):
            await jam.work()
    assert desk.calls == []
    assert (await desk.finish()).state == "review"


async def test_a_worker_finds_what_was_posted() -> None:
    desk = Desk()
    await desk.asked()
    async with desk.engine(drive=False) as poster, desk.engine() as worker:
        working = asyncio.ensure_future(worker.work())
        await poster.answer("t", "yes", by="olga")
        await desk.clock.advance(10)
        view = await poster.run("t").wait()
        working.cancel()
    assert (view.status, desk.calls) == ("completed", ["look", "book", "pay"])


async def test_to_attach_without_driving_drives_nothing() -> None:
    desk = Desk()
    async with desk.engine(drive=False) as jam:
        await jam.start(PROGRAM, {}, id="t")
        await jam.send("t", "go", {"text": "x"})
    async with desk.engine() as jam:
        await jam.start(PROGRAM, {}, id="t", if_exists="attach", drive=False)
    assert desk.calls == []


async def test_a_refused_answer_takes_the_time_out_and_begins_nothing() -> None:
    desk = Desk()
    await desk.asked()
    await desk.clock.advance(11 * 60_000)
    async with desk.engine() as jam:
        with pytest.raises(JamError, match="JAMR402"):
            await jam.answer("t", "yes", by="late")
        await desk.clock.advance(60_000)
        assert jam.nobody_drives("t")
    assert desk.calls == ["look", "book"]
    summary = desk.store.summary("t")
    assert (summary.status, summary.state, summary.owner) == ("running", "undoing", "")
    assert "intent" not in [e.kind for e in desk.store.history("t")][-5:]
    assert (await desk.finish()).state == "over"
    assert desk.calls == ["look", "book", "release"]
    assert replay(desk.store, "t").proven


async def test_who_waits_for_the_run_after_a_refusal_has_it_driven() -> None:
    desk = Desk()
    await desk.asked()
    await desk.clock.advance(11 * 60_000)
    async with desk.engine() as jam:
        with pytest.raises(JamError, match="JAMR402"):
            await jam.answer("t", "yes", by="late")
        assert (await jam.run("t").wait()).state == "over"
    assert desk.calls == ["look", "book", "release"]
