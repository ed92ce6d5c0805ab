"""What goes into branches, items and child agents, what comes out of them, and what they leave behind."""

from __future__ import annotations

from typing import Any

import pytest

from jamjet_dsl.kernel.machine import next_wake
from tests.kernel.driver import NOTHING, Driver, Fails
from tests.kernel.source import begun, cancel, ends, only, settle, went

TOOLS = """
tool look(q: string) -> string { effect reads  timeout 5s }
tool many(q: string) -> list<string> { effect reads  timeout 5s }
tool web(q: string) -> string untrusted { effect reads  timeout 5s }
tool mail(q: string) { effect reads  timeout 5s }
tool pay(q: string) -> string { effect writes  key run.id + "/" + q  undo refund(result)  timeout 5s  raises Full }
tool refund(q: string) { effect writes  confirm was_refunded(q)  timeout 5s  raises Lost }
tool was_refunded(q: string) -> bool { effect reads  timeout 5s }
"""
HEAD = "policy { allow look, many, web, mail, pay, refund, was_refunded }  on error any -> bad"
ENDS = 'final done { r = RESULT }  failed bad { r = "bad" }'


def agent(body: str, result: str = '"done"', name: str = "a", head: str = "", inputs: str = "") -> str:
    clauses = f"{inputs} output r: string budget {{ steps 40  exceeded -> bad }} {head or HEAD}"
    return f"agent {name} version 1 {{ {clauses} start {body} {ENDS.replace('RESULT', result)} }}\n"


def minutes(number: float) -> int:
    return 1_000_000 + round(number * 60_000)


# ---- what a child is given


GUARDED = "policy { allow look, web, mail  forbid mail when untrusted(args.q) }  on error any -> bad  on denied -> bad"


@pytest.mark.parametrize(("tool", "told"), [("web", "bad"), ("look", "done")])
def test_a_child_knows_where_its_inputs_came_from(tool: str, told: str) -> None:
    """What an untrusted tool gave cannot be made trusted by handing it to another agent."""
    text = (
        TOOLS
        + agent(f'state s {{ call {tool}("1") as v  -> t }}  state t {{ run kid(v) as k  -> done }}', "k.r")
        + agent("state s { call mail(q)  -> done }", name="kid", head=GUARDED, inputs="input q: string")
    )
    run = went(text, {"web": "v", "look": "v", "mail": NOTHING})
    assert run.state.output == {"r": told}
    assert len(run.calls("mail")) == (1 if told == "done" else 0)


@pytest.mark.parametrize(("tool", "mailed"), [("web", 0), ("look", 1)])
def test_what_a_child_gives_back_comes_from_where_it_got_it(tool: str, mailed: int) -> None:
    text = (
        TOOLS
        + agent("state s { run kid() as k  -> t }  state t { call mail(k.r)  -> done }", head=GUARDED)
        + agent(f'state s {{ call {tool}("1") as v  -> done }}', "v", "kid")
    )
    run = went(text, {"web": "v", "look": "v", "mail": NOTHING})
    assert len(run.calls("mail")) == mailed


@pytest.mark.parametrize(
    ("first", "second", "mailed"), [("look", "look", 1), ("web", "look", 0), ("look", "web", 0), ("web", "web", 0)]
)
def test_a_list_is_untrusted_if_any_item_of_it_is(first: str, second: str, mailed: int) -> None:
    text = TOOLS + agent(
        f"""state s {{
          each q in ["1", "2"] {{
            start state x {{ when q == "1" -> one  otherwise -> two }}
            state one {{ call {first}(q) as v  -> out }}
            state two {{ call {second}(q) as v  -> out }}
            state out {{ yields v }}
          }} as got
          -> t
        }}
        state t {{ call mail(got[0])  -> done }}""",
        head=GUARDED,
    )
    run = went(text, {"web": "v", "look": "v", "mail": NOTHING})
    assert len(run.calls("mail")) == mailed


ATTESTED = "policy { allow mail  forbid mail when !attested(args.q) }  on error any -> bad  on denied -> bad"


@pytest.mark.parametrize(("second", "mailed"), [('ask role "r" "?" answer { t: string } as z', 1), ("", 0)])
def test_a_list_is_attested_only_if_a_person_said_all_of_it(second: str, mailed: int) -> None:
    branch = f"state two {{ {second}  -> out }}  state out {{ yields z.t }}" if second else 'state two { yields "x" }'
    text = TOOLS + agent(
        f"""state s {{
          each q in ["1", "2"] {{
            start state x {{ when q == "1" -> one  otherwise -> two }}
            state one {{ ask role "r" "?" answer {{ t: string }} as y  -> first }}
            state first {{ yields y.t }}
            {branch}
          }} as got
          -> t
        }}
        state t {{ call mail(got[0])  -> done }}""",
        head=ATTESTED,
    )
    run = answered_by_a_person(text)
    assert len(run.calls("mail")) == mailed


def answered_by_a_person(text: str) -> Driver:
    run = went(text, {"mail": NOTHING})
    while run.state.questions:
        run.answer("done", {"t": "said"})
    return run


def test_the_first_values_of_a_child_may_use_its_inputs() -> None:
    text = (
        TOOLS
        + agent('state s { run kid("x") as k  -> done }', "k.r")
        + agent(
            "state s { -> done }",
            "first + last",
            "kid",
            inputs='input q: string  var first: string = q + "1"  var none: string?  var last: string = q + "3"',
        )
    )
    assert went(text).state.output == {"r": "x1x3"}


@pytest.mark.parametrize(
    ("states", "more"),
    [
        ("state s { run kid(1 / n) as k  on error InvalidInput -> told  -> done }", ""),
        ("state s { run kid(w) as k  on error InvalidInput -> told  -> done }", ""),
        ("state s { run kid(1) as k  on error any -> told  -> done }", "var z: int = 1 / (q - 1)"),
        ("state s { each q in [1 / n] { yields q } as got  on error any -> told  -> done }", ""),
    ],
)
def test_what_cannot_be_opened_is_an_error_of_the_state_and_opens_nothing(states: str, more: str) -> None:
    text = (
        TOOLS
        + agent(states + " state told { -> bad }", inputs="input w: int  var n: int = 0")
        + agent("state s { -> done }", name="kid", inputs=f"input q: int 1..3  {more}")
    )
    run = went(text, w=4)
    assert run.path == ["s", "told", "bad"]
    assert "begun" not in run.kinds


# ---- what comes of lists


def test_a_flat_list_is_the_items_of_the_lists_in_order() -> None:
    text = TOOLS + agent(
        'state s { each q in ["1", "2", "3"] collect flat { call many(q) as v  yields v } as got  -> done }',
        "string(size(got)) + got[0] + got[1]",
    )
    assert went(text, {"many": [["a"], [], ["b"]]}).state.output == {"r": "2ab"}


# ---- time


def test_the_timers_of_a_child_end_with_it_and_those_beside_it_go_on() -> None:
    text = (
        TOOLS
        + agent(
            """parallel p {
              branch one { run kid() }
              branch two { wait 1h }
              branch three { wait 2h }
              join 2 of 3
              on join -> done
            }"""
        )
        + agent('state s { call look("k")  -> done }', name="kid").replace("steps 40", "steps 40  time 5m")
    )
    run = begun(text)
    assert next_wake(run.state) == minutes(5)
    run.land("look(k)", "")
    assert next_wake(run.state) == minutes(60)
    run.at(minutes(60))
    assert run.state.status == "completed"
    assert run.state.timers == {}


def test_a_join_that_was_late_once_is_not_late_the_next_time() -> None:
    text = TOOLS + agent(
        """parallel p {
          branch one as x { call look("1") as v  yields v }
          join all within 1m
          on join -> done
          on error JoinFailed -> p limit 1 else bad
        }"""
    )
    run = begun(text).at(minutes(1))
    assert run.path == ["p", "p"]
    run.land("look(1)", "v")
    assert run.state.status == "completed"


# ---- taking back

BACK = """
state s { call pay("1") as x  -> t }
state t { call pay("2") as y  -> back }
state back { undo all  -> done }
"""


def test_taking_back_goes_through_every_call_once() -> None:
    run = begun(TOOLS + agent(BACK)).land("pay(1)", "A").land("pay(2)", "B")
    assert run.flights == ["refund(B)"]
    run.land("refund(B)", NOTHING)
    assert run.flights == ["refund(A)"]
    run.land("refund(A)", NOTHING)
    assert run.state.status == "completed"
    assert run.state.undo == []
    assert [body["kind"] for body in run.events("begun")] == ["undo", "undo"]


def test_what_is_opened_to_take_back_is_named_in_the_journal() -> None:
    run = begun(TOOLS + agent(BACK)).land("pay(1)", "A").land("pay(2)", "B")
    opened = only(run, "opened")
    assert opened["undo"] is True
    assert [(body["undo"], body["key"]) for body in run.events("begun")] == [("#2.1", "0")]


@pytest.mark.parametrize(("was", "told"), [(True, "-"), (False, "refund: Timeout: ")])
def test_a_refund_nobody_knows_about_is_asked_about_and_not_made_twice(was: bool, told: str) -> None:
    run = begun(TOOLS + agent(BACK, 'size(undo.failed) == 0 ? "-" : undo.failed[0]'))
    run.land("pay(1)", "A").land("pay(2)", "B").land("refund(B)", Fails("Timeout"))
    assert run.flights == ["was_refunded(B)"]
    run.land("was_refunded(B)", was)
    assert run.flights == ["refund(A)"]
    run.land("refund(A)", NOTHING)
    assert run.state.output == {"r": told}


def in_doubt_of_a_refund() -> Driver:
    """A child was taking back what it did, nobody knows of one refund, and the agent around it takes back the rest."""
    text = (
        TOOLS
        + agent(
            """state s { run kid()  -> done }
            state back { undo all  -> done }""",
            head=HEAD + "  on cancel -> back",
        )
        + agent(BACK, name="kid")
    )
    run = begun(text).land("pay(1)", "A").land("pay(2)", "B")
    run.land("refund(B)", Fails("Timeout"))
    run.land("was_refunded(B)", Fails("Unavailable"))
    return run


@pytest.mark.parametrize("happened", [True, False])
def test_a_refund_in_doubt_waits_for_a_person_and_is_taken_off_the_list_if_it_happened(happened: bool) -> None:
    run = in_doubt_of_a_refund()
    assert run.state.parked is not None
    settle(run, happened)
    assert run.flights == (["refund(A)"] if happened else ["refund(B)"])


def test_a_child_that_was_stopped_in_doubt_of_a_refund_leaves_it_to_the_agent_around_it() -> None:
    run = cancel(in_doubt_of_a_refund())
    told: list[Any] = [(e["kind"], e.get("doubt"), e.get("undo")) for e in run.events("begun")]
    assert told[-1][0] == "doubt"
    run.land("was_refunded(B)", True)
    assert run.flights == ["refund(A)"]
    run.land("refund(A)", NOTHING)
    assert run.state.status == "cancelled"
    assert run.state.undo == []
    assert run.state.undo_failed == []
    assert [c.args["q"] for c in run.calls("refund")] == ["B", "A"]


def test_a_refund_that_did_not_happen_is_still_to_be_made_by_the_agent_around() -> None:
    run = cancel(in_doubt_of_a_refund())
    run.land("was_refunded(B)", False)
    assert run.flights == ["refund(B)"]
    run.land("refund(B)", NOTHING)
    assert run.flights == ["refund(A)"]


def test_a_refund_that_fails_is_told_with_its_tool_and_error() -> None:
    run = begun(TOOLS + agent(BACK, "undo.failed[0]")).land("pay(1)", "A").land("pay(2)", "B")
    run.land("refund(B)", Fails("Lost", "it is gone")).land("refund(A)", NOTHING)
    assert run.state.output == {"r": "refund: Lost: it is gone"}


# ---- stopping


def test_a_child_that_closes_is_not_led_back_by_what_comes_late() -> None:
    text = (
        TOOLS
        + agent("state s { run kid()  -> done }", head=HEAD + "  on cancel -> bad")
        + agent(
            'parallel p { branch one { call look("1") }  branch two { call look("2") }  join all  on join -> done }'
            ' finally { call mail("closing") }',
            name="kid",
        )
    )
    run = begun(text)
    late = run.flight("look(1)")
    cancel(run)
    assert run.flights == ["mail(closing)"]
    run.append(*run.outcome(late, "too late"))
    assert run.kinds[-1] == "late"
    assert run.begin().flights == ["mail(closing)"]
    run.land("mail(closing)", NOTHING)
    assert run.state.status == "cancelled"


def test_how_frames_end_is_told() -> None:
    text = TOOLS + agent(
        """parallel p {
          branch one { call look("1") }
          branch two { call look("2")  on error any skip }
          branch three { call look("3") }
          join any
          on join -> done
        }"""
    )
    run = begun(text).land("look(2)", Fails("Unavailable")).land("look(1)", "v")
    assert ends(run) == {"p@1/one": "done", "p@1/two": "skipped", "p@1/three": "cancelled"}


def test_a_child_begins_without_cost_in_the_currency_of_the_run() -> None:
    text = TOOLS + agent("state s { run kid()  -> done }") + agent('state s { call look("k")  -> done }', name="kid")
    account = begun(text).state.frames["s@1/kid"].account
    assert account is not None
    assert account.cost.split(" ")[0] == "0"
    assert (account.steps, account.tokens, account.active_ms) == (1, 0, 0)
