"""What comes from outside: values that are none, events beside each other, what comes after the end."""

from __future__ import annotations

from typing import Any

import pytest

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.model import Await
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.scalars import Duration, Money, Timestamp
from tests.kernel.driver import Fails, Result
from tests.kernel.source import begun, cancel, compiled, only, send, went

TOOLS = """
tool look(q: string) -> string { effect reads  timeout 5s }
tool pay(q: string) -> string { effect writes  undo refund(result)  timeout 5s }
tool refund(q: string) { effect writes  key q  timeout 5s  raises Lost }
model free { via scripted "x" }
"""


def agent(body: str, head: str = "", name: str = "a", result: str = '"done"') -> str:
    return f"""agent {name} version 1 {{
      {head}
      output r: string
      budget {{ steps 40  tokens 100k  exceeded -> bad }}
      policy {{ allow look, pay, refund }}
      on error any -> bad
      start {body}
      final done {{ r = {result} }}  failed bad {{ r = "bad" }}
    }}
    """


# ---- values


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        (nested(90), True),
        (nested(150), False),
        ("\ud800", False),
        ("Grüße 😀", True),
        (2**63 - 1, True),
        (2**63, False),
    ],
)
def test_a_value_of_any_type_is_taken_if_a_journal_can_hold_it(value: Any, fits: bool) -> None:
    program = Program.of(compiled(TOOLS + agent("state s { -> done }", "input x: any")))
    if fits:
        assert inputs.started(program, {"x": value}, {}, "")[0] == "started"
        return
    with pytest.raises(JamError) as refused:
        inputs.started(program, {"x": value}, {}, "")
    assert refused.value.code == "JAMR301"


@pytest.mark.parametrize(
    ("value", "fits"),
    [("5.00 USD", True), ({"amount": "5.00", "currency": "USD"}, True), (5, False), (True, False), ("five", False)],
)
def test_money_without_a_currency_of_its_own_has_to_name_one(value: Any, fits: bool) -> None:
    program = Program.of(compiled(TOOLS + agent("state s { -> done }", "input x: money")))
    if fits:
        assert inputs.started(program, {"x": value}, {}, "")[0] == "started"
        return
    with pytest.raises(JamError) as refused:
        inputs.started(program, {"x": value}, {}, "")
    assert refused.value.code == "JAMR301"


# ---- events


def test_the_event_that_is_taken_is_the_one_whose_edge_there_is() -> None:
    head = 'event go(n: string)  event stop(n: string)  var got: string = ""'
    body = """state s { call look("1")  on event go(e) -> t { set got = e.n }  -> done }
    state t { call look("2")  on event stop(e) -> done { set got = got + e.n }  -> done }"""
    run = begun(TOOLS + agent(body, head, result="got"))
    send(run, "stop", {"n": "S"}, "e1")
    send(run, "go", {"n": "G"}, "e2")
    run.land("look(1)", "")
    assert [(body["name"], body["id"]) for body in run.events("consumed")] == [("go", "e2")]
    run.land("look(2)", "")
    assert run.state.output == {"r": "GS"}


def test_a_wait_names_the_event_that_it_waits_for_and_a_rest_names_none() -> None:
    run = begun(TOOLS + agent("state s { wait for event go  -> t }  state t { wait 1h  -> done }", "event go()"))
    (waiting,) = [c for c in run.commands() if isinstance(c, Await)]
    assert (waiting.what, waiting.name) == ("event", "go")
    send(run, "go")
    (resting,) = [c for c in run.commands() if isinstance(c, Await)]
    assert resting.what == "timer"


def test_nothing_is_taken_after_the_end() -> None:
    run = went(TOOLS + agent("state s { -> done }", "event go()"))
    for attempt in (
        lambda: inputs.received(run.program, run.state, "go", {}, "e1"),
        lambda: inputs.retry(run.program, run.state, "op", ""),
        lambda: inputs.cancelling(run.program, run.state, "op", "", True),
    ):
        with pytest.raises(JamError) as refused:
            attempt()
        assert refused.value.code == "JAMR204"


def test_an_event_of_a_child_is_taken_while_the_child_is_at_work() -> None:
    text = TOOLS + agent("state s { run kid()  -> done }")
    text += agent("state s { wait for event go  -> done }", "event go()", "kid")
    assert send(begun(text), "go").state.status == "completed"
    other = begun(
        TOOLS + agent('state s { call look("1")  -> t }  state t { run kid()  -> done }') + text.split("\n    }", 1)[1]
    )
    with pytest.raises(JamError) as refused:
        inputs.received(other.program, other.state, "go", {}, "e1")
    assert refused.value.code == "JAMR405"


# ---- what an effect used


@pytest.mark.parametrize(
    ("outcome", "tokens"),
    [
        (Fails("Unavailable", sent=False), 0),
        (Fails("Timeout"), 2000),
        (Result("x", {"tokens_in": 3, "tokens_out": 4}), 7),
        (Result("x", {}), 0),
    ],
)
def test_an_attempt_that_was_not_sent_used_nothing_and_one_that_nobody_knows_of_used_all(
    outcome: Any, tokens: int
) -> None:
    body = 'state s { think "hi" model free max prompt 1k max tokens 1k timeout 5s as k: string  -> done }'
    assert begun(TOOLS + agent(body)).land("s", outcome).state.spent.tokens == tokens


# ---- failed undos


def test_an_agent_is_told_of_its_own_failed_undos_only() -> None:
    back = 'state s { call pay("1")  -> back }  state back { undo all  -> done }'
    text = TOOLS + agent("state s { run kid() as k  -> done }", result="k.r + string(size(undo.failed))")
    text += agent(back, name="kid", result="string(size(undo.failed))")
    run = begun(text).land("pay(1)", "R").land("refund(R)", Fails("Lost"))
    assert run.state.output == {"r": "10"}


# ---- cancelling twice


def test_a_second_cancellation_changes_nothing_unless_it_is_at_once() -> None:
    text = TOOLS + agent('state s { call pay("1")  -> done }', 'on cancel -> bad  finally { call look("end") }')
    run = begun(text)
    cancel(cancel(run))
    assert run.flights == ["pay(1)"]
    run.land("pay(1)", "R")
    assert run.flights == ["look(end)"]
    cancel(run)
    assert run.flights == ["look(end)"]
    run.land("look(end)", "")
    assert (run.state.status, run.state.final_state) == ("cancelled", "bad")
    assert only(run, "finished")["status"] == "cancelled"


# ---- results as a journal has them


@pytest.mark.parametrize(
    ("type", "value", "journal"),
    [
        ("int", 2**53 - 1, 2**53 - 1),
        ("int", 2**53, {"$int": "9007199254740992"}),
        ("int", -(2**53), {"$int": "-9007199254740992"}),
        ("string", "é", "é"),
        ("money", Money("1.50 USD"), {"$money": "1.50 USD"}),
        ("duration", Duration.of_ms(90_000), {"$duration": "90s"}),
        ("timestamp", Timestamp.of_ms(0), {"$timestamp": "1970-01-01T00:00:00Z"}),
        ("list<int>", [1, 2**53], [1, {"$int": "9007199254740992"}]),
        ("N", {"n": 2**53}, {"n": {"$int": "9007199254740992"}}),
        ("float", 1.5, 1.5),
        ("int?", None, None),
    ],
)
def test_what_a_tool_gives_is_journaled_so_that_it_reads_back_the_same(type: str, value: Any, journal: Any) -> None:
    text = f"""record N {{ n: int }}
      tool give(q: string) -> {type} {{ effect reads  timeout 5s }}
      agent a version 1 {{ output r: string  budget {{ steps 9  exceeded -> bad }}  policy {{ allow give }}
        on error any -> bad  start state s {{ call give("1") as x  -> done }}
        final done {{ r = "done" }}  failed bad {{ r = "bad" }} }}"""
    run = begun(text).land("give(1)", Result(value))
    assert run.state.final_state == "done"
    assert only(run, "succeeded")["result"] == journal
    assert run.state.vars["x"] == value
