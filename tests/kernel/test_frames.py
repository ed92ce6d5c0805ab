"""Branches, items, child agents, `undo all` and `finally`: what begins, what is waited for, what comes of it.

The directed tests choose the order in which outcomes arrive; the last ones try every order, with a crash after any
event. The driver checks after each event that a snapshot gives the state back and that it is decided on alike.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from jamjet_dsl.compiler import compile_text
from jamjet_dsl.definition import Definition
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import decide, next_wake
from jamjet_dsl.kernel.model import Await
from tests.kernel.driver import NOTHING, Driver, Fails, Result
from tests.kernel.explore import Explorer
from tests.kernel.source import cancel, retry, settle

TOOLS = """language 1
tool look(q: string) -> string { effect reads  raises Gone }
tool web(q: string) -> string untrusted { effect reads }
tool dear(q: string) -> string { effect reads  cost $0.40 }
tool pay(q: string) -> string { effect writes  undo refund(result, run.id)  raises Full }
tool keyed(q: string) -> string { effect writes  key run.id + "/" + q  undo refund(result, run.id)  raises Full }
tool again(q: string) -> string { effect writes  key run.id + "/" + q  retry any 2 times  undo refund(result, run.id) }
tool asked(q: string) -> string { effect writes  confirm was(q, run.id)  undo refund(result, run.id)  raises Full }
tool was(q: string, r: string) -> string? { effect reads }
tool refund(q: string, r: string) { effect writes  key q  raises Lost }
tool certain(q: string) -> string { effect writes  key q  confirm was(q, run.id)  cost $0.40
  retry Timeout 2 times backoff 1m }
tool spend(q: string) -> string { effect writes  cost $0.40  undo costly_refund(result) }
tool costly_refund(q: string) { effect writes  key q  cost $0.30  retry any 2 times backoff 1s }
tool note(text: string) { effect writes  raises Lost }
"""
ALLOW = "policy { allow look, web, dear, pay, keyed, again, asked, certain, was, refund, spend, costly_refund, note }"


@cache
def compiled(body: str, agent: str) -> Definition:
    return compile_text(TOOLS + body.replace("ALLOW", ALLOW), agent=agent).definition


def begun(body: str, agent: str = "a") -> Driver:
    """A run of the agent whose first effects are in flight."""
    return Driver(compiled(body, agent)).start({}).begin()


def answer(run: Driver, state: str, option: str, form: dict[str, Any] | None = None) -> Driver:
    question = next(q.id for q in run.state.questions.values() if q.state == state)
    run.append(*inputs.answered(run.program, run.state, question, option, form, "ann", None))
    return run.begin()


def joined(run: Driver) -> dict[str, Any]:
    (body,) = run.events("joined")
    return body


def ends(run: Driver) -> dict[str, str]:
    """How each frame has ended, by its path."""
    return {body["frame"]: body["how"] for body in run.events("closed")}


def agent(states: str, head: str = "", budget: str = "steps 40", outputs: str = "", finals: str = "") -> str:
    return f"""agent a version 1 {{
      output {outputs or "r: list<string>"}
      budget {{ {budget}  exceeded -> over }}
      ALLOW
      {head}
      start {states}
      {finals or "final done { r = [] }  failed over { r = [] }"}
    }}"""


# ---- joins

RACE = agent(
    """parallel p {
      branch one as x { call look("1") as v1  yields v1 }
      branch two as y { call pay("2") as v2  yields v2 }
      branch three { think "3" max prompt 10 max tokens 10 as v3: string }
      branch four { wait 1h }
      branch five { ask role "r" "?" options yes }
      branch six { call look("6") as v6 retry Gone 1 times backoff 1m  on error Gone skip }
      join any within 2h
      on join -> back
    }
    state back { undo all  -> done }""",
    "on error any -> over",
)


def test_a_write_in_flight_is_waited_for_when_the_join_is_settled_and_can_be_undone() -> None:
    run = begun(RACE).land("look(1)", "won")
    assert run.flights == ["pay(2)"]
    assert "joined" not in run.kinds
    run.land("pay(2)", "R")
    assert joined(run)["results"] == {"x": {"value": "won"}}
    assert ends(run)["p@1/two"] == "cancelled"
    assert run.flights == ["refund(R, run-1)"]


def test_what_is_not_needed_any_more_is_stopped_at_once() -> None:
    run = begun(RACE)
    run.land("look(6)", Fails("Gone"))
    assert any(name.endswith("/retry") for name in run.state.timers)
    run.land("look(1)", "won")
    assert [name for name in run.state.timers if name.startswith("p@1/")] == []
    assert run.state.questions == {}
    assert {path for path, how in ends(run).items() if how == "cancelled"} == {
        f"p@1/{n}" for n in ("three", "four", "five", "six")
    }
    assert run.cancelled == ["p@1/three#1.1"]


def test_what_was_reached_before_a_cancellation_is_bound_on_the_way_to_its_handler() -> None:
    body = RACE.replace("on error any -> over", "on cancel -> back")
    run = cancel(begun(body).land("look(1)", "won"))
    run.land("pay(2)", "R")
    assert joined(run)["results"] == {"x": {"value": "won"}}
    assert run.state.vars["x"] == "won"
    assert run.path == ["p", "back"]


def test_the_time_of_a_further_attempt_is_decided_before_another_branch_finds_the_budget_used_up() -> None:
    body = """parallel p {
      branch one { call certain("1") as v1 }
      branch two { call spend("2") as v2 }
      join all
      on join -> done
    }"""
    run = begun(agent(body, budget="steps 9  cost $0.50"))
    assert run.flights == ["certain(1)"]
    run.land("certain(1)", Fails("Timeout"))
    assert [kind for kind in run.kinds if kind in ("retry", "exceeded")] == ["retry", "exceeded"]
    assert run.flights == ["was(1, run-1)"]


def test_a_question_whether_a_call_happened_stays_in_flight_while_the_run_is_parked() -> None:
    body = """parallel p {
      branch one { call look("1") as v1 }
      branch two as y { call certain("2") as v2  yields v2 }
      branch three { call pay("3") as v3 }
      join any
      on join -> done
    }"""
    run = begun(agent(body)).land("look(1)", "won").land("certain(2)", Fails("Timeout"))
    assert run.flights == ["pay(3)", "was(2, run-1)"]
    run.land("pay(3)", Fails("Timeout"))
    assert run.state.parked is not None
    assert run.flights == ["was(2, run-1)"]
    run.land("was(2, run-1)", "S")
    settle(run, True, "R")
    assert run.state.status == "completed"
    assert len(run.calls("certain")) == 1


def test_a_late_outcome_of_a_stopped_branch_changes_nothing() -> None:
    run = begun(RACE)
    thought = run.flight("three")
    run.land("look(1)", "won")
    kind, _ = inputs.succeeded(run.program, run.state, thought, "late")
    assert kind == "late"


def test_a_write_that_fails_after_the_join_is_settled_is_not_tried_again() -> None:
    body = RACE.replace('call pay("2")', 'call again("2")')
    run = begun(body).land("look(1)", "won").land("again(2)", Fails("Timeout"))
    assert len(run.calls("again")) == 1
    assert run.state.parked is not None
    settle(run, False)
    assert run.state.status == "completed"
    assert len(run.calls("again")) == 1


def test_a_tool_that_cannot_tell_is_not_asked_twice_when_the_branch_is_not_needed_any_more() -> None:
    body = RACE.replace('call pay("2")', 'call sure("2")').replace("ALLOW", "policy { allow look, sure, was, refund }")
    tool = "tool sure(q: string) -> string { effect writes  key run.id + q  confirm was(q, run.id) }\n"
    run = begun(tool + body).take_over()
    run.land("look(1)", "won").land("was(2, run-1)", Fails("Crashed"))
    assert len(run.calls("was")) == 1
    assert run.state.parked is not None


THREE = agent(
    """parallel p {
      branch zed as b or "none" { call look("z") as v1  yields v1 }
      branch mid as m { call look("m") as v2  yields v2 }
      branch abc as a { call look("a") as v3  on error Gone skip  yields v3 }
      join 2 of 3 within 1h
      on join -> done
    }""",
    "on error any -> over",
    outputs="b: string, got: bool",
    finals='final done { b = b  got = has(m) }  failed over { b = "!"  got = false }',
)


def test_k_of_n_binds_what_is_done_and_defaults() -> None:
    run = begun(THREE).land("look(a)", "A").land("look(m)", "M")
    assert run.state.output == {"b": "none", "got": True}
    assert sorted(run.events("moved")[0]["binds"]) == ["a", "b", "m"]


def test_a_branch_that_is_not_done_has_no_value() -> None:
    run = begun(THREE).land("look(a)", "A").land("look(z)", "Z")
    assert run.state.output == {"b": "Z", "got": False}


def test_a_join_out_of_reach_fails_at_once_and_tells_why_in_the_order_of_the_program() -> None:
    run = begun(THREE).land("look(m)", Fails("Gone")).land("look(a)", Fails("Gone"))
    assert joined(run)["error"] == "JoinFailed"
    assert joined(run)["message"] == "0 of 2 branches done; `mid` failed: Gone: ; `abc` skipped"
    run = begun(THREE).land("look(m)", Fails("Gone")).land("look(z)", Fails("Gone"))
    assert joined(run)["message"] == "0 of 2 branches done; `zed` failed: Gone: ; `mid` failed: Gone: "


def test_the_time_of_a_join_that_is_over_while_nobody_looks_is_over_once() -> None:
    run = begun(THREE)
    run.now_ms += 10 * 3_600_000
    run.take_over()
    assert "fired" not in run.kinds
    run.at(run.now_ms)
    assert [e["id"] for e in run.events("fired")] == ["#1.1/within"]
    assert "when the time was over" in joined(run)["message"]
    assert next_wake(run.state) is None


def test_a_failed_final_fails_the_branch() -> None:
    run = begun(
        agent(
            """parallel p {
              branch one { start state s { call look("1") -> bad }  failed bad {} }
              branch two { start state t { call look("2") -> good }  final good {} }
              join all  // jam: ignore JAM702 because that it fails is what is tested
              on join -> done
            }""",
            "on error any -> over",
        )
    )
    run.land("look(2)", "").land("look(1)", "")
    assert ends(run) == {"p@1/two": "done", "p@1/one": "failed"}
    assert "ChildFailed: it ended in `bad`" in joined(run)["message"]


# ---- items

ITEMS = agent(
    """state s {
      each q in ["0", "1", "2", "3"], 2 at once { call keyed(q) as v  on error Full skip  yields v } as got
      -> done
    }""",
    "on error any -> over",
    finals="final done { r = got }  failed over { r = [] }",
)


def test_items_begin_in_order_and_values_stand_in_order() -> None:
    run = begun(ITEMS)
    assert run.flights == ["keyed(0)", "keyed(1)"]
    run.land("keyed(1)", "B")
    assert run.flights == ["keyed(0)", "keyed(2)"]
    run.land("keyed(2)", Fails("Full")).land("keyed(3)", "D").land("keyed(0)", "A")
    assert run.state.output == {"r": ["A", "B", "D"]}


def test_after_a_crash_only_what_was_open_goes_on() -> None:
    run = begun(ITEMS).land("keyed(1)", "B").take_over()
    assert run.flights == ["keyed(0)", "keyed(2)"]
    assert {c.id for c in run.flying.values()} == {"s@1/0#1.2", "s@1/2#1.2"}
    run.land("keyed(0)", "A").take_over().land("keyed(2)", "C").land("keyed(3)", "D")
    assert run.state.output == {"r": ["A", "B", "C", "D"]}
    assert len(run.calls("keyed")) == 4 + 2 + 2  # the two in flight at the first crash, and the two at the second


def test_the_error_of_an_item_is_that_of_the_list_and_no_further_one_begins() -> None:
    run = begun(ITEMS.replace("on error Full skip", "")).land("keyed(0)", Fails("Full"))
    assert run.flights == ["keyed(1)"]
    run.land("keyed(1)", "B")
    assert joined(run)["error"] == "Full"
    assert len(run.calls("keyed")) == 2


def test_a_limit_counts_in_its_own_frame() -> None:
    run = begun(
        agent(
            """state s {
              each q in ["0", "1"], 2 at once {
                start state t { call look(q) as v  -> u }
                state u { when v == "no" -> t limit 2 else out  otherwise yields v }
                state out { yields "gave up" }
              } as got
              -> done
            }""",
            "on error any -> over",
            finals="final done { r = got }  failed over { r = [] }",
        )
    )
    for _ in range(3):
        run.land("look(0)", "no")
    run.land("look(1)", "no").land("look(1)", "yes")
    assert run.state.output == {"r": ["gave up", "yes"]}


# ---- the budget of several


def thinks(most: str, first: str = "1k") -> str:
    return agent(
        f"""parallel p {{
          branch one as x {{ think "1" max prompt {first} max tokens {first} as k: string  yields k }}
          branch two as y {{ think "2" max prompt 1k max tokens 1k as l: string  yields l }}
          join all
          on join -> done
        }}""",
        "on error any -> over",
        f"steps 20  tokens {most}",
    )


def test_what_does_not_fit_beside_another_waits_and_then_goes() -> None:
    run = begun(thinks("3k"))
    assert run.flights == ["one"]
    assert [(c.what, c.name) for c in decide(run.program, run.state) if isinstance(c, Await)] == [("budget", "tokens")]
    run.land("one", Result("a", {"tokens_in": 500, "tokens_out": 500}))
    assert run.flights == ["two"]
    run.land("two", Result("b", {"tokens_in": 500, "tokens_out": 500}))
    assert run.state.status == "completed"
    assert run.state.spent.tokens == 2000


def test_what_fits_no_more_once_the_other_is_settled_exceeds() -> None:
    run = begun(thinks("3k")).land("one", Result("a", {"tokens_in": 900, "tokens_out": 900}))
    assert run.events("exceeded")[0]["what"] == "tokens"
    assert run.state.final_state == "over"


def test_what_can_never_fit_exceeds_at_once_and_stops_the_others() -> None:
    run = begun(thinks("3k", "2k"))
    assert run.state.final_state == "over"
    assert set(ends(run).values()) == {"cancelled"}


def test_a_write_in_flight_is_waited_for_when_the_budget_is_exceeded_in_a_branch() -> None:
    run = begun(
        agent(
            """parallel p {
              branch one { call pay("1") }
              branch two { start state t { call look("2") -> u }  state u { call look("3") } }
              join all
              on join -> done
            }
            state over { undo all -> done }""",
            "on error any -> over",
            "steps 3",
            finals="final done { r = [] }",
        )
    )
    run.land("look(2)", "")
    assert run.events("exceeded")[0]["frame"] == "p@1/two"
    assert run.flights == ["pay(1)"]
    run.land("pay(1)", "R")
    assert run.flights == ["refund(R, run-1)"]


def test_a_probe_does_not_wait_for_what_its_own_call_holds() -> None:
    body = agent(
        'state s { call dear_pay("1")  on in_doubt -> done  -> done }', "on error any -> over", "cost $1.00  steps 9"
    )
    body = body.replace("ALLOW", "policy { allow dear_pay, dear_was }")
    tools = """tool dear_pay(q: string) { effect writes  cost $0.90  confirm dear_was(q) }
    tool dear_was(q: string) -> bool { effect reads  cost $0.20 }
    """
    run = begun(tools + body).take_over()
    assert run.state.status == "completed"
    assert run.path == ["s", "done"]


def test_active_time_that_is_used_up_at_the_end_does_not_wake_the_run_for_ever() -> None:
    run = begun(
        agent(
            'state s { call look("1") -> done }',
            'on error any -> over finally { call note("n") }',
            "steps 9  active 1m",
        )
    )
    run.now_ms += 50_000
    run.land("look(1)", "")
    wake = next_wake(run.state)
    assert wake is not None
    run.at(wake)
    assert run.flights == ["note(n)"]
    assert next_wake(run.state) is None


# ---- people, events, provenance

TWO_ASKS = agent(
    """state s {
      each q in ["0", "1"], 2 at once {
        start state ok { ask role "r" to pay(q) "Pay?" options approve approves, no  on approve -> out  on no -> out }
        state out { call approved pay as v  on denied yields "denied"  yields v }
      } as got
      -> done
    }""",
    "on error any -> over",
    finals="final done { r = got }  failed over { r = [] }",
)


def test_an_approval_is_that_of_its_own_item() -> None:
    run = begun(TWO_ASKS)
    first, second = run.state.questions
    for question, option in ((first, "approve"), (second, "no")):
        run.append(*inputs.answered(run.program, run.state, question, option, None, "ann", None))
    run.begin()
    assert run.flights == ["pay(0)"]
    run.land("pay(0)", "A")
    assert run.state.output == {"r": ["A", "denied"]}


def test_two_approvals_that_come_before_either_is_used_do_not_change_places() -> None:
    run = begun(TWO_ASKS)
    for question in list(run.state.questions):
        run.append(*inputs.answered(run.program, run.state, question, "approve", None, "ann", None))
    run.begin()
    run.land("pay(1)", "B").land("pay(0)", "A")
    assert run.state.output == {"r": ["A", "B"]}


def test_an_event_goes_to_one_branch() -> None:
    run = begun(
        agent(
            """parallel p {
              branch one as x { wait for event go(e1)  yields e1.n }
              branch two as y { wait for event go(e2)  yields e2.n }
              join all
              on join -> done
            }""",
            "event go(n: string)  on error any -> over",
            finals="final done { r = [x, y] }  failed over { r = [] }",
        )
    )
    for name in ("first", "second"):
        run.append(*inputs.received(run.program, run.state, "go", {"n": name}, name))
        run.begin()
    assert run.state.output == {"r": ["first", "second"]}


def test_where_values_came_from_goes_through_items_and_joins() -> None:
    run = begun(
        agent(
            """parallel p {
              branch one as x { call web("1") as v1  yields v1 }
              branch two as y { call look("2") as v2  yields v2 }
              join all
              on join -> s
            }
            state s { each q in [x, y] { yields q } as got  -> done }""",
            "on error any -> over",
            finals="final done { r = got }  failed over { r = [] }",
        )
    )
    run.land("web(1)", "W").land("look(2)", "L")
    assert run.state.output == {"r": ["W", "L"]}
    assert run.state.provenance["x"] == {"untrusted"}
    assert "untrusted" in run.state.provenance["got"]
    assert "untrusted" not in run.state.provenance.get("y", ())


# ---- cancellation

TRIP = (
    agent(
        """state s { call pay("0") as q -> p }
    parallel p {
      branch one { start state t { call pay("1") -> u }  state u { call look("1") } }
      branch two { call pay("2") }
      branch three { run kid("3") }
      branch four { wait 5h }
      join all
      on join -> done
    }
    state back { undo all -> over }""",
        "on error any -> back  on cancel -> back",
    )
    + """
agent kid version 1 {
  input  q: string
  output r: string
  budget { steps 5  exceeded -> broken }
  ALLOW
  on error any -> broken
  finally { call note("kid " + q) }
  start state s { call pay(q) as r  -> t }
  state t { call look(q)  -> done }
  final  done { r = r }
  failed broken { r = "" }
}"""
)


def test_a_cancelled_run_is_undone_in_reverse_order_of_completion_across_frames() -> None:
    run = begun(TRIP).land("pay(0)", "A").land("pay(2)", "B").land("pay(3)", "C").land("pay(1)", "D")
    cancel(run)
    assert run.flights == ["note(kid 3)"]  # a cancelled child closes too
    run.land("note(kid 3)", NOTHING)
    order = []
    while run.flying:
        order.append(run.flights[0])
        run.land(run.flights[0], NOTHING)
    assert order == ["refund(D, run-1)", "refund(C, run-1/p@2/three/do@1/kid)", "refund(B, run-1)", "refund(A, run-1)"]
    assert run.state.status == "cancelled"
    assert run.state.undo == []


def test_an_undoing_call_that_a_cancellation_waits_for_is_not_made_twice() -> None:
    body = agent(
        """state s { call pay("1") as q  -> back }
        state back { undo all  -> done }
        state stop { undo all  -> done }""",
        "on error any -> over  on cancel -> stop",
    )
    run = begun(body).land("pay(1)", "R")
    cancel(run)
    assert run.flights == ["refund(R, run-1)"]
    run.land("refund(R, run-1)", NOTHING)
    assert run.state.status == "cancelled"
    assert len(run.calls("refund")) == 1


FINALLY = 'finally { call note("one")  call note("two") }'
SIMPLE = agent('state s { call pay("1") as q  -> done }', f"on error any -> over  {FINALLY}")


def test_cancel_now_names_the_write_in_flight_and_closes_and_another_cuts_that_short() -> None:
    run = cancel(begun(SIMPLE), now=True)
    assert run.flights == ["note(one)"]
    run.land("note(one)", NOTHING).land("note(two)", NOTHING)
    assert run.events("finished")[0] == {"status": "cancelled", "state": "s", "output": {}, "unresolved": ["#1.1"]}
    run = cancel(cancel(begun(SIMPLE), now=True), now=True)
    assert run.state.status == "cancelled"
    assert run.events("finished")[0]["unresolved"] == ["#1.1", "s@1/finally#1.1"]


def test_a_cancellation_while_finally_is_at_work_changes_nothing() -> None:
    run = cancel(begun(SIMPLE).land("pay(1)", "R"))
    assert run.flights == ["note(one)"]
    run.land("note(one)", Fails("Lost")).land("note(two)", Fails("Timeout"))
    assert run.state.status == "completed"


def test_a_crash_in_finally_after_a_cancellation_repeats_nothing() -> None:
    body = agent(
        'state s { think "x" max prompt 10 max tokens 10 as q: string  -> done }', f"on error any -> over  {FINALLY}"
    )
    run = cancel(begun(body)).land("note(one)", NOTHING)
    run.take_over()
    assert run.state.status == "cancelled"  # the second call is in doubt, and nothing comes after it
    assert len(run.calls("note")) == 2
    assert run.kinds.count("opened") == 1


def test_nobody_answers_a_question_of_a_run_that_is_closing() -> None:
    body = agent('state s { ask role "r" "?" options yes  on yes -> done }', f"on error any -> over  {FINALLY}")
    run = begun(body)
    (question,) = run.state.questions
    cancel(run)
    with pytest.raises(JamError, match="not open"):
        inputs.answered(run.program, run.state, question, "yes", None, "ann", None)


def test_settling_a_doubt_of_a_run_that_is_closing_does_not_lead_it_back() -> None:
    run = begun(SIMPLE).land("pay(1)", Fails("Timeout"))
    assert run.state.parked is not None
    cancel(run)
    settle(run, True, "R")
    assert run.flights == ["note(one)"]
    run.land("note(one)", NOTHING).land("note(two)", NOTHING)
    assert run.state.status == "cancelled"


def test_what_finally_cannot_afford_is_left_out() -> None:
    body = agent(
        'state s { call spend("1") as q  -> done }',
        'on error any -> over  finally { call spend("2") call note("n") }',
        "steps 9  cost $0.50",
    )
    run = begun(body).land("spend(1)", "R")
    assert run.flights == ["note(n)"]
    assert "exceeded" not in run.kinds


def test_finally_is_no_step() -> None:
    run = begun(SIMPLE).land("pay(1)", "R").land("note(one)", NOTHING).land("note(two)", NOTHING)
    assert run.state.spent.steps == 1


# ---- doubts

DOUBTS = agent(
    """parallel p {
      branch one { call TOOL("1") as v1  DOUBT }
      branch two as y { start state t { call pay("2") as v2  -> u }  state u { call look("3")  yields v2 } }
      join all
      on join -> back
    }
    state back { undo all  -> done }""",
    "on error any -> back",
)


def doubts(tool: str, doubt: str = "") -> str:
    return DOUBTS.replace("TOOL", tool).replace("DOUBT", doubt)


def test_a_doubt_in_a_branch_parks_what_is_in_flight_comes_to_its_end_and_nothing_begins() -> None:
    run = begun(doubts("pay")).land("pay(1)", Fails("Timeout"))
    assert run.state.parked is not None
    assert run.flights == ["pay(2)"]
    run.land("pay(2)", "R2")
    assert run.flights == []
    assert run.state.status == "parked"
    settle(run, True, "R1")
    assert run.flights == ["look(3)"]


def test_a_settled_doubt_that_did_not_happen_is_made_again() -> None:
    run = begun(doubts("pay")).land("pay(1)", Fails("Timeout"))
    settle(run, False)
    assert run.flights == ["pay(1)", "pay(2)"]


@pytest.mark.parametrize(("happened", "undone"), [(True, ["refund(R1, run-1)"]), (False, [])])
def test_undo_all_has_a_doubt_that_was_left_behind_settled_and_never_makes_that_call(
    happened: bool, undone: list[str]
) -> None:
    run = begun(doubts("pay", "on in_doubt skip")).land("pay(1)", Fails("Timeout")).land("pay(2)", Fails("Full"))
    assert run.state.parked is not None
    settle(run, happened, "R1" if happened else None)
    assert run.flights == undone
    assert len(run.calls("pay")) == 2


@pytest.mark.parametrize(("told", "undone"), [("R1", ["refund(R1, run-1)"]), (NOTHING, [])])
def test_undo_all_asks_a_tool_that_can_confirm(told: Any, undone: list[str]) -> None:
    run = (
        begun(doubts("asked", "on in_doubt skip"))
        .land("asked(1)", Fails("Timeout"))
        .land("was(1, run-1)", Fails("Crashed"))
    )
    run.land("pay(2)", Fails("Full")).land("was(1, run-1)", told)
    assert run.flights == undone
    assert len(run.calls("asked")) == 1


def test_undo_all_does_not_try_a_doubt_again_even_under_a_key() -> None:
    run = begun(doubts("again", "on in_doubt skip"))
    for _ in range(3):
        run.land("again(1)", Fails("Timeout"))
    run.land("pay(2)", Fails("Full"))
    assert run.state.parked is not None
    assert len(run.calls("again")) == 3


# ---- undo

UNDO = agent(
    """state s { each q in ["1", "2", "3"] { call pay(q) as v  yields v } as got  -> back }
    state back { undo all  -> done }""",
    "on error any -> over",
    finals="final done { r = undo.failed }  failed over { r = [] }",
)


def paid(body: str = UNDO) -> Driver:
    return begun(body).land("pay(1)", "A").land("pay(2)", "B").land("pay(3)", "C")


def test_what_cannot_be_undone_is_told_and_stops_nothing() -> None:
    run = (
        paid()
        .land("refund(C, run-1)", Fails("Lost", "gone"))
        .land("refund(B, run-1)", NOTHING)
        .land("refund(A, run-1)", NOTHING)
    )
    assert run.state.output == {"r": ["refund: Lost: gone"]}
    assert run.state.undo == []


def test_an_undo_that_the_policy_refuses_is_told() -> None:
    body = UNDO.replace("ALLOW", 'policy { allow pay  allow refund when args.q != "B" }')
    run = paid(body).land("refund(C, run-1)", NOTHING).land("refund(A, run-1)", NOTHING)
    (told,) = (run.state.output or {})["r"]
    assert told.startswith("refund: Denied: ")


def test_an_undo_that_does_not_fit_the_budget_is_told_and_the_run_goes_on() -> None:
    body = agent(
        'state s { call spend("1") as q  -> back }  state back { undo all  -> done }',
        "on error any -> over",
        "steps 9  cost $0.50",
        finals="final done { r = undo.failed }  failed over { r = [] }",
    )
    run = begun(body).land("spend(1)", "R")
    assert run.state.output == {"r": ["costly_refund: Exceeded: it does not fit the budget (cost)"]}
    assert "exceeded" not in run.kinds
    assert "retry" not in run.kinds, "what was spent does not come back"


def test_an_undo_goes_on_after_a_crash_where_it_was() -> None:
    run = paid().land("refund(C, run-1)", NOTHING).take_over()
    assert run.flights == ["refund(B, run-1)"]
    run.land("refund(B, run-1)", NOTHING).take_over().land("refund(A, run-1)", NOTHING)
    assert run.state.status == "completed"
    assert [c.args["q"] for c in run.calls("refund")] == ["C", "B", "B", "A", "A"]


# ---- children

KID = """
agent kid version 1 {
  input  q: string
  output r: string
  budget { steps 4  cost $1.00  exceeded -> broken }
  ALLOW
  on error any -> broken
  start state s { call asked(q) as r  on in_doubt -> broken  -> t }
  state t { call dear(q)  -> done }
  final  done { r = r + run.id }
  failed broken { r = "" }
}"""


def family(clause: str = "", budget: str = "steps 20  cost $3.00", edges: str = "") -> str:
    states = f"""state s {{ run kid("1") as k {clause}  {edges}  -> back }}
    state back {{ undo all  -> done }}"""
    return agent(states, "on error any -> over", budget) + KID


def test_a_doubt_of_a_child_that_is_gone_is_asked_about_and_undone_as_that_child() -> None:
    run = begun(family(edges="on error ChildFailed -> back"))
    kid = "run-1/s@1/kid"
    run.land("asked(1)", Fails("Timeout")).land(f"was(1, {kid})", Fails("Crashed"))
    assert ends(run)["s@1/kid"] == "failed"
    run.land(f"was(1, {kid})", "R")
    assert run.flights == [f"refund(R, {kid})"]


@pytest.mark.parametrize(
    ("clause", "budget", "limits"),
    [
        ("", "steps 20  cost $3.00", {"steps": 4, "cost": "1.00 USD"}),
        (
            "budget { cost $0.50  time 5m }",
            "steps 20  cost $3.00",
            {"steps": 4, "cost": "0.50 USD", "time_ms": 300_000},
        ),
        ("", "steps 3  cost $0.70  reserve { cost $0.10 }", {"steps": 2, "cost": "0.60 USD"}),
        (
            "",
            "steps 9  active 1h  time 2h",
            {"steps": 4, "cost": "1.00 USD", "active_ms": 3_600_000, "time_ms": 7_200_000},
        ),
    ],
)
def test_the_limits_of_a_child_are_the_least_of_all(clause: str, budget: str, limits: dict[str, Any]) -> None:
    assert begun(family(clause, budget)).events("opened")[0]["limits"] == limits


def test_a_child_whose_time_is_up_fails_and_its_parent_goes_on() -> None:
    run = begun(family("budget { time 5m }", edges="on error ChildFailed -> back")).land("asked(1)", "R")
    wake = next_wake(run.state)
    assert wake == 1_000_000 + 300_000
    run.at(wake)
    assert run.state.exceeded is None
    assert run.events("exceeded")[0]["home"] == "s@1/kid"
    assert run.flights == ["refund(R, run-1/s@1/kid)"]


def test_a_run_that_takes_too_long_is_stopped_and_tried_again_under_new_ids() -> None:
    run = begun(family("timeout 1m  retry Timeout 1 times"))
    run.at(run.now_ms + 60_000)
    assert run.flights == ["asked(1)"]  # a write is waited for
    run.land("asked(1)", "R")
    assert joined(run)["error"] == "Timeout"
    assert list(run.flying) == ["s@1.2/kid#1.1"]
    run.land("asked(1)", "R2").land("dear(1)", "")
    assert run.flights == ["refund(R2, run-1/s@1.2/kid)"]
    run.land("refund(R2, run-1/s@1.2/kid)", NOTHING)
    assert run.flights == ["refund(R, run-1/s@1/kid)"]


def test_a_parked_child_is_tried_again_where_it_was() -> None:
    body = family().replace("on error any -> broken\n", "").replace("on in_doubt -> broken", "")
    run = begun(body).land("asked(1)", "R").land("dear(1)", Fails("Timeout"))
    assert run.state.parked is not None
    assert run.state.parked["frame"] == "s@1/kid"
    retry(run)
    assert list(run.flying) == ["s@1/kid#2.2"]
    run.land("dear(1)", "")
    assert run.flights == ["refund(R, run-1/s@1/kid)"]


def test_undo_in_a_child_takes_back_its_own_calls_only() -> None:
    body = agent('state s { call pay("0") as q  -> t }  state t { run kid("1")  -> done }', "on error any -> over")
    body += """
    agent kid version 1 {
      input  q: string
      output r: list<string>
      budget { steps 6  exceeded -> done }
      ALLOW
      on error any -> done
      start state s { call pay(q)  -> back }
      state back { undo all  -> done }
      final done { r = undo.failed }
    }"""
    run = begun(body).land("pay(0)", "A").land("pay(1)", "B")
    assert run.flights == ["refund(B, run-1/t@2/kid)"]
    run.land(run.flights[0], NOTHING)
    assert run.state.status == "completed"
    assert [entry["cmd"] for entry in run.state.undo] == ["#1.1"]


# ---- every order, and a crash after any event

SMALL = {
    "race": agent(
        """parallel p {
          branch one as x { call pay("1") as v1  yields v1 }
          branch two as y { call asked("2") as v2  yields v2 }
          branch three { call look("3") as v3 }
          join any
          on join -> back
        }
        state back { undo all  -> done }""",
        "on error any -> over",
    ),
    "items": agent(
        """state s { each i in ["1", "2", "3"], 2 at once { call spend(i) as v  yields v } as got  -> done }
        state over { undo all  -> failed_ }""",
        "on error any -> over",
        "steps 30  cost $1.00",
        finals="final done { r = got }  failed failed_ { r = [] }",
    ),
    "stopped": agent(
        """state s { each i in ["1", "2"], 2 at once { call keyed(i) as v  yields v } as got  -> t }
        state t { call pay("p")  -> done }
        state back { undo all  -> over }""",
        'on error any -> back  on cancel -> back  finally { call note("end") }',
    ),
    "children": agent(
        """parallel p {
          branch one as x { run kid("1") as k  yields k.r }
          branch two as y { call pay("2") as l  on in_doubt skip  yields l }
          join all within 1h
          on join -> done
        }
        state back { undo all  -> done }""",
        "on error any -> back  on cancel -> back",
    )
    + KID.replace("start state", "finally { call note(q) }\n  start state"),
    "models": agent(
        """parallel p {
          branch one as x { think "1" max prompt 1k max tokens 1k as k: string  yields k }
          branch two as y { think "2" max prompt 1k max tokens 1k as l: string  yields l }
          branch three { think "3" max prompt 1k max tokens 1k as m: string }
          join 2 of 3
          on join -> done
        }""",
        'on error any -> over  on cancel -> over  finally { call note("n") }',
        "steps 20  tokens 5k",
    ),
}


@pytest.mark.parametrize("cancels", [0, 1])
@pytest.mark.parametrize("name", SMALL)
def test_whatever_the_order_and_wherever_it_dies_the_run_keeps_its_promises(name: str, cancels: int) -> None:
    found = Explorer(compiled(SMALL[name], "a"), cancels=cancels, limit=120).explore()
    assert found.ends or found.nodes == 120
    assert found.nodes > 20


# ---- what was not begun before its process was stopped


def test_what_was_not_sent_is_made_again_and_costs_nothing() -> None:
    body = agent('state s { call certain("1") as v  on in_doubt -> over  on error any -> over  -> done }')
    run = begun(body)
    run.append("unsent", {"cmd": "#1.1"})
    assert (run.state.spent.cost, run.state.intents) == ("0.00 USD", {})
    run.begin()
    assert (run.flights, [*run.state.intents]) == (["certain(1)"], ["#1.2"])
    run.append("unsent", {"cmd": "#1.1"})
    assert [*run.state.intents] == ["#1.2"], "that one is not in flight"
    run.land("certain(1)", Fails("RateLimited"))
    assert "in_doubt" not in run.kinds
    assert run.state.status == "failed"


def test_where_an_attempt_before_it_may_have_happened_the_call_stays_one_that_may() -> None:
    run = begun(agent('state s { call again("1") as v  on in_doubt -> over  on error any -> done  -> done }'))
    run.land("again(1)", Fails("Timeout"))
    run.append("unsent", {"cmd": "#1.2"})
    assert run.state.intents["#1.3"].unsettled == "indefinite"
    run.begin()
    run.land("again(1)", Fails("RateLimited")).land("again(1)", Fails("RateLimited"))
    assert "in_doubt" in run.kinds
    assert run.state.status == "failed"


def test_a_read_that_was_not_sent_is_nothing_that_may_have_happened() -> None:
    run = begun(agent('state s { call dear("1") as v retry any 1 times  on error any -> over  -> done }'))
    run.land("dear(1)", Fails("Timeout"))
    run.append("unsent", {"cmd": "#1.2"})
    assert run.state.intents == {}
    assert run.begin().flights == ["dear(1)"]


def test_a_parameter_of_a_tool_hides_what_else_has_its_name() -> None:
    """`run` is a parameter here, in the key and in what takes the call back; a `jam check` takes it so too."""
    text = """
tool hold(run: string, now: int) -> string { effect writes  key run + string(now)  undo free(run) }
tool free(run: string) { effect writes  key run }
agent a version 1 {
  output r: string
  budget { steps 9  exceeded -> over }
  policy { allow hold, free }
  on error any -> over
  on in_doubt -> over
  start state s { call hold("x", 7) as r  -> back }
  state back { undo all  -> done }
  final done { r = r }
  failed over { r = "" }
}"""
    run = Driver(compile_text(text).definition).start({}).begin()
    (held,) = run.events("intent")
    assert held["key"] == "x7"
    run.land(run.flights[0], "held")
    assert run.events("intent")[-1]["args"] == {"run": "x"}


# ---- what a sample of mutants showed to be looked at by nothing


def test_a_question_that_is_given_up_for_an_event_leaves_the_other_ones_open() -> None:
    states = """parallel s {
      branch one { ask role "boss" "one?" options yes, no as a  on event go(e) yields 1  otherwise yields 2 }
      branch two { ask role "boss" "two?" options yes, no as b  otherwise yields 4 }
      join all
      on join -> done
      on error any -> over }"""
    run = begun(agent(states, "event go(n: int)"))
    (two,) = [q.id for q in run.state.questions.values() if q.body["text"] == "two?"]
    run.append(*inputs.received(run.program, run.state, "go", {"n": 1}, "e1"))
    run.begin()
    assert [*run.state.questions] == [two]
    assert run.kinds.count("asked") == 2, "and it was not asked again"


def test_what_a_model_is_given_must_have_a_value() -> None:
    body = agent(
        'state s { think "say" given it = [1][n]  max prompt 9  max tokens 9  as t: int  on error InvalidInput -> done'
        "  on error any -> over  -> over }",
        "var n: int = 5",
    )
    run = begun(body)
    assert run.state.status == "completed"
