"""Runs from start to end on the engine, with both stores where the store matters."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, Money, Scripted, SimClock, ToolContext, ToolError, compile_text, run_sync
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.handle import Run
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.store.sqlite import SqliteStore
from tests.engine.programs import adder

PAY = """
tool pay(to: string, amount: money) -> string {{ effect {effect} {more} raises Rejected }}
agent payer {{
  input to: string, amount: money
  output receipt: string?
  budget {{ steps 20  cost $5  exceeded -> stopped }}
  policy {{ allow pay without approval because "a test" }}
  start state paying {{
    call pay(to, amount) as receipt {options}
    {edges}
    -> paid
  }}
  final paid {{ receipt = receipt }}
  failed rejected {{ }}
  failed stopped {{ }}
  failed unsure {{ }}
}}
"""


def pay(
    effect: str = "irreversible", more: str = "", options: str = "", edges: str = "on error any -> rejected"
) -> Any:
    return compile_text(PAY.format(effect=effect, more=more, options=options, edges=edges))


INPUT = {"to": "ann", "amount": "9.50 USD"}

ASK = """
tool pay(to: string, amount: money) -> string { effect irreversible }
agent payer {
  input to: string, amount: money
  output receipt: string?, note: string?, by: string?
  budget { steps 20  exceeded -> stopped }
  policy { allow pay  require approval review before pay }
  start state review {
    ask role "officer" to pay(to, amount) "Pay {amount} to {to}?"
      options approve approves, decline  answer { note: string? }  timeout 48h  as answer
    on approve -> paying
    on decline -> declined
    on timeout -> stopped
  }
  state paying { call approved pay as receipt  on error any -> stopped  on in_doubt -> stopped  -> paid }
  final paid { receipt = receipt  note = answer.note  by = answer.by }
  failed declined { }
  failed stopped { }
}
"""


def kinds(jam: Engine, run: Run) -> list[str]:
    return [event.kind for event in jam.history(run.id)]


async def pay_ann(to: str, amount: Money) -> str:
    assert amount == Money(amount.amount, "USD")
    return f"{to} got {amount}"


async def test_a_run_ends_with_its_outputs() -> None:
    async with Engine(MemoryStore(), tools={"pay": pay_ann}) as jam:
        run = await jam.start(pay(), INPUT, id="t-1")
        view = await run.wait()
        assert (view.run_id, view.status, view.state) == ("t-1", "completed", "paid")
        assert view.output == run.result == {"receipt": "ann got 9.50 USD"}
        assert kinds(jam, run) == ["started", "intent", "succeeded", "moved", "finished"]
        assert jam.store.summary("t-1").owner == ""


async def test_start_returns_after_the_intent_is_committed_and_before_the_call_ends(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slow(to: str, amount: Money) -> str:
        await gate.wait()
        return "ok"

    async with Engine(tmp_path / "t.db", tools={"pay": slow}) as jam:
        run = await jam.start(pay(), INPUT)
        assert kinds(jam, run) == ["started", "intent"]
        assert run.status == "running"
        assert run.result is None
        gate.set()
        assert (await run.wait()).output == {"receipt": "ok"}


async def test_a_blocking_tool_runs_on_a_thread_and_gets_a_context() -> None:
    seen: list[Any] = []

    def blocking(to: str, amount: Money, ctx: ToolContext) -> str:
        seen.append((threading.current_thread() is threading.main_thread(), ctx))
        return "ok"

    async with Engine(MemoryStore(), tools={"pay": blocking}) as jam:
        run = await jam.start(pay(more="key to  timeout 60s"), INPUT)
        assert (await run.wait()).status == "completed"
    ((on_main, context),) = seen
    assert not on_main
    assert (context.run_id, context.state, context.tool) == (run.id, "paying", "pay")
    assert (context.key, context.promised, context.attempt) == ("ann", True, 1)
    assert context.deadline_ms is not None


async def test_without_a_declared_key_the_context_promises_nothing_but_can_be_traced() -> None:
    seen: list[ToolContext] = []

    async def traced(to: str, amount: Money, ctx: ToolContext) -> str:
        seen.append(ctx)
        return "ok"

    async with Engine(MemoryStore(), tools={"pay": traced}) as jam:
        run = await jam.start(pay(), INPUT)
        await run.wait()
    assert not seen[0].promised
    assert seen[0].key.startswith(run.id)


async def test_many_runs_share_one_loop(tmp_path: Path) -> None:
    together = 0
    most = 0

    async def slow(a: int, b: int) -> int:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.05)
        together -= 1
        return a + b

    async with Engine(tmp_path / "t.db", tools={"add": slow}) as jam:
        runs = await asyncio.gather(*(jam.start(adder(), {"a": n, "b": 1}) for n in range(50)))
        views = await asyncio.gather(*(run.wait() for run in runs))
    assert [view.output for view in views] == [{"total": n + 1} for n in range(50)]
    assert most > 20


async def test_the_input_is_refused_with_all_its_problems_and_nothing_is_stored() -> None:
    async with Engine(MemoryStore(), tools={"pay": pay_ann}) as jam:
        with pytest.raises(JamError) as caught:
            await jam.start(pay(), {"to": 7, "amuont": 1})
        assert caught.value.code == "JAMR301"
        assert len(caught.value.details) == 3
        assert jam.runs() == []


async def test_a_run_id_that_exists_is_refused_or_attached() -> None:
    async with Engine(MemoryStore(), tools={"pay": pay_ann}) as jam:
        await (await jam.start(pay(), INPUT, id="t")).wait()
        with pytest.raises(JamError) as caught:
            await jam.start(pay(), INPUT, id="t")
        assert caught.value.code == "JAMR203"
        run = await jam.start(pay(), INPUT, id="t", if_exists="attach")
        assert (await run.wait()).output == {"receipt": "ann got 9.50 USD"}


async def test_to_attach_is_refused_where_something_else_was_to_be_started() -> None:
    other = compile_text("agent other { input to: string\n start state s { -> done }\n final done {} }")
    async with Engine(MemoryStore(), tools={"pay": pay_ann}) as jam:
        await (await jam.start(pay(), INPUT, id="t")).wait()
        for program, input, said in (
            (pay(), {**INPUT, "to": "bob", "amount": "1.00 USD"}, "with another input: `to`, `amount`"),
            (other, {"to": "ann"}, f"of the agent `{pay().definition.main}`"),
        ):
            with pytest.raises(JamError) as caught:
                await jam.start(program, input, id="t", if_exists="attach")
            assert (caught.value.code, said in caught.value.message) == ("JAMR203", True)


async def test_everything_that_is_missing_is_named_before_anything_starts(tmp_path: Path) -> None:
    program = compile_text("""
tool one(x: int) -> int { effect reads }
tool two(x: int) -> int { effect reads  via http GET "https://example.org/{x}" }
model large { via openai "gpt" }
agent a {
  output y: int
  budget { steps 9  exceeded -> over }
  policy { allow one, two }
  start state first { call one(1) as x  on error any -> over  -> second }
  state second { call two(x) as z  on error any -> over  -> third }
  state third { think "?" model large  as y: int  on error any -> over  -> done }
  final done { y = y + z }
  failed over { y = 0 }
}""")
    async with Engine(tmp_path / "t.db") as jam:
        with pytest.raises(JamError) as caught:
            await jam.start(program, {})
        assert caught.value.code == "JAMR303"
        assert [d.split(":")[0] for d in caught.value.details] == ["tool one", "tool two", "model large"]
        assert jam.runs() == []


async def test_a_declared_error_is_matched_by_the_name_of_its_class() -> None:
    class Rejected(Exception):
        pass

    async def refuse(to: str, amount: Money) -> str:
        raise Rejected("no such account")

    async with Engine(MemoryStore(), tools={"pay": refuse}) as jam:
        run = await jam.start(pay(), INPUT)
        assert (await run.wait()).state == "rejected"
        (event,) = [e for e in jam.history(run.id) if e.kind == "failed"]
        assert (event.body["error"], event.body["message"], event.body["definite"]) == (
            "Rejected",
            "no such account",
            True,
        )


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (TimeoutError("t"), "Timeout"),
        (ConnectionResetError("r"), "Disconnected"),
        (ValueError("v"), "Crashed"),
        (SystemExit(3), "Crashed"),
        (ToolError("Sideways", "?"), "Crashed"),
    ],
)
async def test_an_unclear_error_of_an_irreversible_call_parks_the_run_in_doubt(error: BaseException, name: str) -> None:
    def break_(to: str, amount: Money) -> str:
        raise error

    async with Engine(MemoryStore(), tools={"pay": break_}) as jam:
        run = await jam.start(pay(), INPUT)
        view = await run.wait()
        assert view.status == "parked"
        assert view.waiting_for[0]["kind"] == "operator"
        (event,) = [e for e in jam.history(run.id) if e.kind == "failed"]
        assert (event.body["error"], event.body["definite"]) == (name, False)


async def test_a_parked_run_is_settled_by_a_person() -> None:
    async def lost(to: str, amount: Money) -> str:
        raise ConnectionResetError("gone")

    async with Engine(MemoryStore(), tools={"pay": lost}) as jam:
        happened = await jam.start(pay(), INPUT)
        did_not = await jam.start(pay(edges="on error any -> rejected  on in_doubt -> unsure"), INPUT)
        assert (await happened.wait()).status == "parked"
        assert (await did_not.wait()).state == "unsure"
        with pytest.raises(JamError) as caught:
            await jam.settle(happened.id, True, 7, by="ops", note="seen")
        assert caught.value.code == "JAMR302"
        await jam.settle(happened.id, True, "r-9", by="ops", note="seen in the ledger")
        view = await happened.wait()
        assert (view.status, view.output) == ("completed", {"receipt": "r-9"})
        with pytest.raises(JamError) as caught:
            await jam.settle(happened.id, True, "r-9", by="ops")
        assert caught.value.code == "JAMR204"


async def test_a_definite_error_is_retried_with_durable_waits() -> None:
    tries: list[int] = []

    async def flaky(to: str, amount: Money) -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ToolError("RateLimited", "slow down", retry_after_ms=2_000)
        return "ok"

    clock = SimClock()
    async with Engine(MemoryStore(), tools={"pay": flaky}, clock=clock) as jam:
        program = pay(options="retry RateLimited 3 times backoff 1s x 2 max 30s")
        run = await jam.start(program, INPUT)
        await clock.advance(0)
        assert len(tries) == 1
        await clock.advance(1_900)
        assert len(tries) == 1
        await clock.advance(200)
        assert len(tries) == 2
        await clock.advance(10_000)
        assert (await run.wait()).status == "completed"
        assert kinds(jam, run).count("retry") == 2
    assert len(tries) == 3


async def test_a_key_used_with_other_arguments_is_refused_before_the_call() -> None:
    calls: list[str] = []

    async def count(to: str, amount: Money) -> str:
        calls.append(str(amount))
        return "ok"

    async with Engine(MemoryStore(), tools={"pay": count}) as jam:
        program = pay(more="key to")
        assert (await (await jam.start(program, INPUT)).wait()).status == "completed"
        assert (await (await jam.start(program, INPUT)).wait()).status == "completed"
        other = await jam.start(program, {"to": "ann", "amount": "10.00 USD"})
        assert (await other.wait()).state == "rejected"
        (event,) = [e for e in jam.history(other.id) if e.kind == "failed"]
        assert event.body["error"] == "InvalidInput"
    assert calls == ["9.50 USD", "9.50 USD"]


async def test_a_timeout_of_an_async_tool_cancels_it() -> None:
    cancelled = asyncio.Event()

    async def hang(to: str, amount: Money) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return "never"

    async with Engine(MemoryStore(), tools={"pay": hang}) as jam:
        run = await jam.start(pay(effect="reads", options="timeout 50ms"), INPUT)
        assert (await run.wait()).state == "rejected"
        await asyncio.wait_for(cancelled.wait(), 1)


async def test_a_blocking_tool_that_timed_out_gives_a_late_result() -> None:
    begun, gate, clock = threading.Event(), threading.Event(), SimClock()

    def hang(to: str, amount: Money) -> str:
        begun.set()
        gate.wait(10)
        return "r-late"

    async with Engine(MemoryStore(), tools={"pay": hang}, clock=clock) as jam:
        run = await jam.start(pay(options="timeout 50ms"), INPUT)
        # A call whose time is over before its thread is there is never made, and has no late result.
        assert await asyncio.to_thread(begun.wait, 10)
        await clock.advance(50)
        assert (await run.wait()).status == "parked"
        gate.set()
        async for event in run.events():
            if event.kind == "late":
                assert event.body["result"] == "r-late"
                break
        await jam.settle(run.id, True, "r-late", by="ops", note="late result")
        assert (await run.wait()).output == {"receipt": "r-late"}


@pytest.mark.parametrize("value", [17, None, {"x": 1}, "\ud800", ["x"] * 2, b"\xff"])
async def test_a_result_of_the_wrong_type_is_invalid_output(value: Any) -> None:
    async with Engine(MemoryStore(), tools={"pay": lambda to, amount: value}) as jam:
        run = await jam.start(pay(effect="reads"), INPUT)
        assert (await run.wait()).state == "rejected"
        (event,) = [e for e in jam.history(run.id) if e.kind == "failed"]
        assert event.body["error"] == "InvalidOutput"


async def test_a_result_of_a_hundred_megabytes_is_invalid_output(tmp_path: Path) -> None:
    async with Engine(tmp_path / "t.db", tools={"pay": lambda to, amount: "x" * 100_000_000}) as jam:
        run = await jam.start(pay(effect="reads"), INPUT)
        assert (await run.wait()).state == "rejected"
    assert (tmp_path / "t.db").stat().st_size < 1_000_000


async def test_a_result_that_the_journal_cannot_hold_is_invalid_output(tmp_path: Path) -> None:
    # Just under the limit of values, but its escapes make the stored event too large.
    async with Engine(tmp_path / "t.db", tools={"pay": lambda to, amount: "\x01" * 15_000_000}) as jam:
        run = await jam.start(pay(effect="reads"), INPUT)
        assert (await run.wait()).state == "rejected"
        (event,) = [e for e in jam.history(run.id) if e.kind == "failed"]
        assert event.body["error"] == "InvalidOutput"


async def test_an_approved_call_is_made_once_exactly_as_it_was_shown() -> None:
    calls: list[tuple[str, str]] = []

    async def book(to: str, amount: Money) -> str:
        calls.append((to, str(amount)))
        return "r-1"

    async with Engine(MemoryStore(), tools={"pay": book}) as jam:
        run = await jam.start(compile_text(ASK), INPUT, id="t")
        view = await run.wait()
        assert (view.status, view.state) == ("waiting", "review")
        assert view.waiting_for[0]["kind"] == "question"
        (question,) = jam.inbox()
        assert question.body["text"] == "Pay 9.50 USD to ann?"
        assert calls == []
        await jam.answer(question.id, "approve", by="olga", note="fine")
        view = await run.wait()
        assert view.output == {"receipt": "r-1", "note": "fine", "by": "olga"}
    assert calls == [("ann", "9.50 USD")]


async def test_a_wrong_answer_is_refused_and_the_question_stays_open() -> None:
    async with Engine(MemoryStore(), tools={"pay": pay_ann}) as jam:
        run = await jam.start(compile_text(ASK), INPUT, id="t")
        await run.wait()
        for code, call in {
            "JAMR403": lambda: jam.answer("t", "perhaps", by="x"),
            "JAMR404": lambda: jam.answer("t", "decline", by="x", form={"nope": 1}),
            "JAMR409": lambda: jam.answer("t", "decline", by={"id": "x", "roles": ["clerk"]}),
            "JAMR401": lambda: jam.answer("zzz", "decline", by="x"),
        }.items():
            with pytest.raises(JamError) as caught:
                await call()
            assert caught.value.code == code
        await jam.answer("t", "decline", by={"id": "x", "roles": ["officer"]})
        assert (await run.wait()).state == "declined"


async def test_of_two_answers_at_once_one_wins_and_the_other_is_told_who() -> None:
    async with Engine(MemoryStore(), tools={"pay": pay_ann}) as jam:
        run = await jam.start(compile_text(ASK), INPUT, id="t")
        await run.wait()
        first, second = await asyncio.gather(
            jam.answer("t", "decline", by="ann"), jam.answer("t", "approve", by="bob"), return_exceptions=True
        )
        assert not isinstance(first, BaseException)
        assert isinstance(second, JamError)
        assert second.code == "JAMR402"
        assert "ann" in second.message
        assert (await run.wait()).state == "declined"
        with pytest.raises(JamError) as caught:
            await jam.answer("t", "approve", by="bob")
        assert caught.value.code == "JAMR402"


async def test_a_question_expires_in_simulated_time() -> None:
    clock = SimClock()
    async with Engine(MemoryStore(), tools={"pay": pay_ann}, clock=clock) as jam:
        run = await jam.start(compile_text(ASK), INPUT)
        await run.wait()
        await clock.advance(47 * 3_600_000)
        assert run.status == "waiting"
        await clock.advance(2 * 3_600_000)
        view = await run.wait()
        assert (view.status, view.state) == ("failed", "stopped")
        assert [q.status for q in jam.store.questions(status=None)] == ["expired"]


EVENTS = """
agent listener {
  output said: list<string>
  var said: list<string> = []
  event word(text: string)
  emits echo(text: string)
  budget { steps 50  exceeded -> over }
  start state listen {
    wait for event word(w) timeout 1h
    on timeout -> finished
    -> tell { set said = said + [w.text] }
  }
  state tell { emit echo("heard {said}")  -> listen limit 3 else finished }
  final finished { said = said }
  failed over { said = said }
}
"""


async def test_events_are_taken_in_order_and_a_repeated_one_once() -> None:
    clock = SimClock()
    async with Engine(MemoryStore(), clock=clock) as jam:
        run = await jam.start(compile_text(EVENTS), {}, id="t")
        assert (await run.wait()).waiting_for[0] == {
            "kind": "event",
            "name": "word",
            "at_ms": clock.now_ms() + 3_600_000,
        }
        for code, call in {
            "JAMR405": lambda: jam.send("t", "wort", {"text": "x"}),
            "JAMR406": lambda: jam.send("t", "word", {"txt": "x"}),
        }.items():
            with pytest.raises(JamError) as caught:
                await call()
            assert caught.value.code == code
        await jam.send("t", "word", {"text": "one"}, dedupe="k1")
        await jam.send("t", "word", {"text": "one"}, dedupe="k1")
        await jam.send("t", "word", {"text": "two"})
        await clock.advance(3_700_000)
        assert (await run.wait()).output == {"said": ["one", "two"]}
        assert [e.body["args"] for e in jam.history("t") if e.kind == "emitted"]


async def test_a_run_is_cancelled_and_then_takes_nothing_more() -> None:
    async with Engine(MemoryStore(), tools={"pay": pay_ann}) as jam:
        run = await jam.start(compile_text(ASK), INPUT, id="t")
        await run.wait()
        await jam.cancel("t", by="ops", note="duplicate")
        assert (await run.wait()).status == "cancelled"
        for call in (lambda: jam.cancel("t"), lambda: jam.resume("t"), lambda: jam.retry("t")):
            with pytest.raises(JamError) as caught:
                await call()
            assert caught.value.code == "JAMR204"


async def test_a_parked_run_tries_again_when_told() -> None:
    broken = True

    async def sometimes(to: str, amount: Money) -> str:
        if broken:
            raise ToolError("Rejected", "closed")
        return "ok"

    async with Engine(MemoryStore(), tools={"pay": sometimes}) as jam:
        run = await jam.start(pay(edges=""), INPUT, id="t")
        view = await run.wait()
        assert view.status == "parked"
        broken = False
        await jam.retry("t", by="ops", note="open again")
        assert (await run.wait()).status == "completed"
        assert "unparked" in kinds(jam, run)


async def test_events_of_a_run_can_be_followed_from_a_cursor() -> None:
    async with Engine(MemoryStore(), tools={"pay": pay_ann}) as jam:
        run = await jam.start(compile_text(ASK), INPUT, id="t")

        async def follow(after: int) -> list[str]:
            return [event.kind async for event in run.events(after)]

        follower, late = asyncio.create_task(follow(0)), asyncio.create_task(follow(2))
        await run.wait()
        await jam.answer("t", "decline", by="x")
        seen = await asyncio.wait_for(follower, 5)
        assert seen == kinds(jam, run)
        assert await asyncio.wait_for(late, 5) == seen[2:]
        assert seen[-1] == "finished"


async def test_a_model_answers_from_a_script() -> None:
    program = compile_text("""
record Risk { level: string  score: int 0..100 }
agent judge {
  input name: string
  output risk: Risk
  budget { steps 9  tokens 10k  exceeded -> over }
  start state judge_it {
    think "Judge {name}." given name  model large  max prompt 1k  max tokens 100  as risk: Risk
      retry InvalidOutput 1 times
    on error any -> over
    -> done
  }
  final done { risk = risk }
  failed over { risk = { level: "?", score: 0 } }
}""")
    script = Scripted(
        {
            "judge_it": [
                {"level": "low", "score": 700},
                {"value": {"level": "low", "score": 7}, "tokens_in": 100, "tokens_out": 20},
            ]
        }
    )
    async with Engine(MemoryStore(), models={"large": script}) as jam:
        view = await (await jam.start(program, {"name": "ann"})).wait()
    assert view.output == {"risk": {"level": "low", "score": 7}}
    assert view.spent["tokens"] == 120


async def test_long_journals_are_snapshotted_and_load_alike(tmp_path: Path) -> None:
    program = compile_text("""
tool step(n: int) -> int { effect reads }
agent counter {
  output n: int
  var n: int = 0
  budget { steps 400  exceeded -> over }
  policy { allow step }
  start state work {
    call step(n) as n
    on error any -> over
    when n >= 150 -> pause
    otherwise -> work
  }
  state pause { wait 1h  -> done }
  final done { n = n }
  failed over { n = n }
}""")
    clock = SimClock()
    async with Engine(tmp_path / "t.db", tools={"step": lambda n: n + 1}, clock=clock) as jam:
        run = await jam.start(program, {}, id="t")
        assert (await run.wait()).status == "waiting"
        while jam.store.summary("t").owner:
            await asyncio.sleep(0.01)
        snapshot = jam.store.snapshot("t")
        assert snapshot is not None
        assert kinds(jam, run).count("snapshot") >= 2
        viewed = jam.show("t")
        jam.store._db.execute("DELETE FROM snapshots")  # type: ignore[attr-defined]
        assert jam.show("t") == viewed
        await clock.advance(3_700_000)
        assert (await run.wait()).output == {"n": 150}


async def test_a_run_that_is_woken_often_and_briefly_is_snapshotted(tmp_path: Path) -> None:
    """Each wake brings a few events. Counted from the last time it was loaded there would never be enough of them, and
    every wake would read the whole journal."""
    program = compile_text("""
agent counter {
  output n: int
  var n: int = 0
  event tick()
  budget { steps 400  exceeded -> over }
  start state waiting { wait for event tick(e)  -> counted }
  state counted { set n = n + 1  when n >= 100 -> done  otherwise -> waiting }
  final done { n = n }
  failed over { n = n }
}""")
    async with Engine(tmp_path / "t.db", clock=SimClock()) as jam:
        await (await jam.start(program, {}, id="t")).wait()
        for _ in range(20):
            await jam.send("t", "tick", {})
        snapshot = jam.store.snapshot("t")
        assert snapshot is not None
        assert len(list(jam.store.history("t", after=snapshot.seq))) <= 30


async def test_a_damaged_snapshot_is_not_trusted(tmp_path: Path) -> None:
    store = MemoryStore()
    async with Engine(store, tools={"pay": pay_ann}) as jam:
        await (await jam.start(compile_text(ASK), INPUT, id="t")).wait()
    run = store._runs["t"]
    from jamjet_dsl.ports import Snapshot

    run.snapshot = Snapshot(1, b'{"format":1}')
    async with Engine(store, tools={"pay": pay_ann}) as jam:
        assert jam.show("t").status == "waiting"


def test_a_script_needs_no_async(tmp_path: Path) -> None:
    view = run_sync(pay(), INPUT, store=tmp_path / "t.db", tools={"pay": pay_ann})
    assert view.output == {"receipt": "ann got 9.50 USD"}


async def test_a_program_is_started_from_its_file_with_its_tools(tmp_path: Path) -> None:
    (tmp_path / "p.jam").write_text(
        PAY.format(effect="writes", more='via python "bank:pay"', options="", edges="on error any -> rejected")
    )
    (tmp_path / "bank.py").write_text("def pay(to, amount):\n    return f'{to}:{amount}'\n")
    async with Engine(tmp_path / "t.db") as jam:
        run = await jam.start(tmp_path / "p.jam", INPUT)
        assert (await run.wait()).output == {"receipt": "ann:9.50 USD"}
        assert jam.program(run.id).sources["p.jam"].startswith("\ntool pay")


async def test_closing_waits_for_a_write_in_flight_and_keeps_its_outcome(tmp_path: Path) -> None:
    started = asyncio.Event()

    async def slow(to: str, amount: Money) -> str:
        started.set()
        await asyncio.sleep(0.2)
        return "r-1"

    jam = Engine(tmp_path / "t.db", tools={"pay": slow})
    run = await jam.start(pay(), INPUT, id="t")
    await started.wait()
    await jam.close()
    async with Engine(tmp_path / "t.db", tools={"pay": slow}) as again:
        assert kinds(again, run) == ["started", "intent", "succeeded"]
        assert again.store.summary("t").owner == ""
        assert (await (await again.resume("t")).wait()).output == {"receipt": "r-1"}


async def test_closing_does_not_wait_for_a_read() -> None:
    async def slow(to: str, amount: Money) -> str:
        await asyncio.sleep(30)
        return "never"

    jam = Engine(MemoryStore(), tools={"pay": slow})
    await jam.start(pay(effect="reads"), INPUT)
    await asyncio.sleep(0.01)
    before = time.monotonic()
    await jam.close()
    assert time.monotonic() - before < 1
    with pytest.raises(JamError) as caught:
        await jam.start(pay(), INPUT)
    assert caught.value.code == "JAMR006"


async def test_several_engines_live_in_one_process() -> None:
    async with (
        Engine(MemoryStore(), tools={"pay": pay_ann}) as one,
        Engine(MemoryStore(), tools={"pay": pay_ann}) as two,
    ):
        a, b = await one.start(pay(), INPUT, id="t"), await two.start(pay(), INPUT, id="t")
        assert (await a.wait()).status == (await b.wait()).status == "completed"


async def test_a_hook_turns_callers_into_principals_with_roles() -> None:
    class User:
        def __init__(self, name: str, *roles: str) -> None:
            self.name, self.roles = name, roles

    def verify(user: User) -> dict[str, Any]:
        return {"id": user.name, "roles": list(user.roles)}

    async with Engine(MemoryStore(), tools={"pay": pay_ann}, verify=verify) as jam:
        run = await jam.start(compile_text(ASK), INPUT, id="t", principal=User("ann", "customer"))
        await run.wait()
        first = next(iter(jam.history("t")))
        assert first.body["principal"] == {"id": "ann", "roles": ["customer"]}
        with pytest.raises(JamError) as caught:
            await jam.answer("t", "approve", by=User("ann", "customer"))
        assert caught.value.code == "JAMR409"
        await jam.answer("t", "approve", by=User("olga", "officer"))
        assert (await run.wait()).output["by"] == "olga"  # type: ignore[index]
    async with Engine(MemoryStore(), tools={"pay": pay_ann}) as jam:
        with pytest.raises(JamError) as caught:
            await jam.start(compile_text(ASK), INPUT, principal=User("ann"))
        assert caught.value.code == "JAMR006"


async def test_runs_that_ended_are_not_kept_in_memory() -> None:
    async with Engine(MemoryStore(), tools={"pay": pay_ann}) as jam:
        for _ in range(3):
            await (await jam.start(pay(), INPUT)).wait()
        await asyncio.sleep(0)
        assert jam._keeper.drivers == {}
        assert not jam._watching


async def test_who_waits_for_a_run_is_told_when_the_engine_closes() -> None:
    jam = Engine(MemoryStore(), tools={"pay": pay_ann})
    run = await jam.start(compile_text(ASK), INPUT)
    waiter = asyncio.create_task(run.wait_ended())
    await asyncio.sleep(0.01)
    await jam.close()
    with pytest.raises(JamError) as caught:
        await asyncio.wait_for(waiter, 1)
    assert caught.value.code == "JAMR006"


async def test_a_disk_that_fails_stops_the_run_and_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.db")

    calls: list[str] = []

    def big(to: str, amount: Money) -> str:
        calls.append(to)
        if len(calls) > 1:
            return "ok"
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        return "x" * 500_000

    async with Engine(store, tools={"pay": big}) as jam:
        run = await jam.start(pay(effect="reads"), INPUT, id="t")
        with pytest.raises(JamError) as caught:
            await run.wait()
        assert caught.value.code == "JAMR106"
        store._db.execute("PRAGMA max_page_count = 100000")
        assert kinds(jam, run) == ["started"]
        assert (await (await jam.resume("t")).wait()).status == "completed"


async def test_a_locked_database_is_waited_for_with_an_outcome_in_hand(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.db", busy_ms=100)

    def lock(to: str, amount: Money) -> str:
        other = sqlite3.connect(tmp_path / "t.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.25, lambda: (other.execute("ROLLBACK"), other.close())).start()
        return "ok"

    async with Engine(store, tools={"pay": lock}) as jam:
        run = await jam.start(pay(), INPUT)
        assert (await run.wait()).output == {"receipt": "ok"}
