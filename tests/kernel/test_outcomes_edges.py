"""Outcomes that come late, twice or after a person spoke; what is counted, and what stays open, once they came."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.budget import amount
from jamjet_dsl.kernel.machine import next_wake
from jamjet_dsl.kernel.monitors import calls
from tests.kernel.driver import NOTHING, Driver, Fails, Result
from tests.kernel.source import answer, begun, cancel, ends, only, settle, went

TOOLS = """
tool look(q: string) -> string { effect reads  timeout 5s  raises Gone }
tool web(q: string) -> string untrusted { effect reads  timeout 5s }
tool score(q: string) -> int { effect reads  cost $0.10  timeout 5s }
tool mail(q: string) { effect reads  timeout 5s }
tool dear(q: string) -> string { effect reads  cost $0.40  timeout 5s }
tool pay(q: string) -> string { effect writes  cost $0.40  undo refund(result)  timeout 5s  raises Full }
tool sure(q: string) -> string { effect writes  cost $0.40  confirm was(q)  undo refund(result)  timeout 5s }
tool buy(q: string) -> string untrusted { effect writes  confirm was(q)  timeout 5s }
tool was(q: string) -> string? { effect reads  timeout 5s }
tool refund(q: string) { effect writes  key q  timeout 5s }
"""
ALLOW = "allow look, web, score, mail, dear, pay, sure, buy, was, refund"


def agent(body: str, rules: str = "", head: str = "on error any -> bad", budget: str = "steps 40  cost $9") -> str:
    return f"""{TOOLS}
    agent a version 1 {{
      output r: string
      budget {{ {budget}  exceeded -> bad }}
      policy {{ {ALLOW} {rules} }}
      {head}
      start {body}
      final done {{ r = "done" }}  failed bad {{ r = "bad" }}
    }}"""


def once_more(run: Driver, command: Any, value: object) -> str:
    """The outcome of a command arrives, whether it is wanted or not; the kind of event it becomes."""
    run.append(*inputs.succeeded(run.program, run.state, command, value, None))
    return run.kinds[-1]


# ---- late and twice


def test_an_outcome_that_comes_again_changes_nothing() -> None:
    run = begun(
        agent('state s { call look("1") retry Unavailable 1 times  -> t }  state t { call look("2")  -> done }')
    )
    first = run.flight("look(1)")
    run.land("look(1)", Fails("Unavailable"))
    assert list(run.flying) == ["#1.2"]
    assert once_more(run, first, "the answer of the first attempt") == "late"
    assert list(run.begin().flying) == ["#1.2"]


def test_an_outcome_after_the_run_was_stopped_changes_nothing() -> None:
    run = begun(agent('state s { call look("1")  -> done }'))
    flight = run.flight("look(1)")
    cancel(run, now=True)
    assert run.state.status == "cancelled"
    before = run.state.output
    assert once_more(run, flight, "too late") == "late"
    assert (run.state.status, run.state.output) == ("cancelled", before)


def test_a_probe_that_answers_after_a_person_did_changes_nothing() -> None:
    run = begun(agent('state s { call sure("1")  on in_doubt -> bad  -> done }')).land("sure(1)", Fails("Timeout"))
    probe = run.flight("was(1)")
    run.land("was(1)", "R")
    assert run.state.status == "completed"
    assert once_more(run, probe, None) == "late"
    assert [entry["args"] for entry in run.state.undo] == [{"q": "R"}]


def test_an_outcome_journaled_for_what_is_not_open_any_more_is_ignored() -> None:
    """Two outcomes may have been made before either was journaled: the second one finds nothing to end."""
    run = begun(agent('state s { call look("1")  on error any -> bad  -> t }  state t { call look("2")  -> done }'))
    flight = run.flight("look(1)")
    good, wrong = run.outcome(flight, "v"), run.outcome(flight, Fails("Unavailable"))
    run.append(*good)
    run.append(*wrong)
    assert run.begin().flights == ["look(2)"]


def test_a_probe_journaled_twice_counts_once() -> None:
    run = begun(agent('state s { call sure("1")  on in_doubt -> bad  -> t }  state t { call look("2")  -> done }'))
    run.land("sure(1)", Fails("Timeout"))
    told = run.outcome(run.flight("was(1)"), "R")
    run.append(*told)
    run.append(*told)
    assert run.begin().flights == ["look(2)"]
    assert len(run.state.undo) == 1


# ---- what stays open beside it


def test_an_answer_closes_its_own_question_only() -> None:
    run = begun(
        agent(
            """parallel p {
              branch one { ask role "r" "1?" options yes timeout 2h  on timeout skip }
              branch two { ask role "r" "2?" options yes timeout 3h  on timeout skip }
              branch three { call look("x") }
              join all
              on join -> done
            }"""
        )
    )
    first, second = (q.id for q in run.state.questions.values())
    answer(run, "yes")
    assert list(run.state.questions) == [second]
    with pytest.raises(JamError) as refused:
        inputs.answered(run.program, run.state, first, "yes", None, "bob", None)
    assert refused.value.code == "JAMR402"


def test_a_branch_that_ends_leaves_the_timers_of_the_others() -> None:
    run = begun(
        agent(
            """parallel p {
              branch one { call look("x") }
              branch two { wait 2h }
              join all
              on join -> done
            }"""
        )
    ).land("look(x)", "v")
    assert next_wake(run.state) == 1_000_000 + 2 * 3_600_000
    assert run.at(1_000_000 + 2 * 3_600_000).state.status == "completed"


def test_a_join_that_failed_and_parked_the_run_wakes_nobody_any_more() -> None:
    run = begun(
        agent(
            """parallel p {
              branch one { call look("x") }
              join all within 1h
              on join -> done
            }""",
            head="",
        )
    ).land("look(x)", Fails("Unavailable"))
    assert run.state.status == "parked"
    assert next_wake(run.state) is None


# ---- counted


def test_every_call_is_counted_also_one_that_no_rule_asks_about() -> None:
    """A new version of the program may ask what was called before it was there."""
    run = begun(agent('state s { call look("1") retry Unavailable 1 times  -> t }  state t { call pay("2")  -> done }'))
    assert calls(run.state.monitors, "look") == 0  # a free read is told of when it ends
    run.land("look(1)", Fails("Unavailable")).land("look(1)", "v")
    assert calls(run.state.monitors, "look") == 1  # a further attempt is the same call
    assert calls(run.state.monitors, "look", "succeeded") == 1
    assert calls(run.state.monitors, "pay") == 1
    run.land("pay(2)", Fails("Full"))
    assert (calls(run.state.monitors, "pay", "succeeded"), calls(run.state.monitors, "pay", "failed")) == (0, 1)


def test_a_read_that_failed_is_counted_once_and_as_failed() -> None:
    run = begun(agent('state s { call look("1")  -> done }')).land("look(1)", Fails("Gone"))
    counted = [calls(run.state.monitors, "look", kind) for kind in ("attempted", "succeeded", "failed")]
    assert counted == [1, 0, 1]


# ---- facts


def test_a_fact_may_cost_and_what_it_costs_is_settled() -> None:
    rules = "fact risk = score(q = args.q) for pay  forbid pay when risk > 5"
    body = 'state s { call pay("1")  on denied -> bad  -> done }'
    run = begun(agent(body, rules))
    assert run.flights == ["score(1)"]
    assert sum(Decimal(i.reserve.cost.split()[0]) for i in run.state.intents.values() if i.reserve.cost) == Decimal(
        "0.10"
    )
    run.land("score(1)", 3)
    assert run.flights == ["pay(1)"]
    assert amount(run.state.spent.cost) == Decimal("0.10")
    assert list(run.state.intents) == ["#1.1"]


# ---- doubt

DOUBT = 'state s { call pay("1")  on in_doubt -> t  -> done }  state t { call look("2")  -> back }'
DOUBT += " state back { undo all  -> done }"


def test_a_doubt_books_what_was_reserved_and_holds_nothing_any_more() -> None:
    run = begun(agent(DOUBT)).land("pay(1)", Fails("Timeout"))
    assert amount(run.state.spent.cost) == Decimal("0.40")
    assert run.state.intents["#1.1"].reserve.cost is None


@pytest.mark.parametrize(("happened", "undone"), [(True, ["refund(R)"]), (False, [])])
def test_a_doubt_that_is_settled_after_the_run_went_on_is_taken_back_if_it_happened(
    happened: bool, undone: list[str]
) -> None:
    run = begun(agent(DOUBT)).land("pay(1)", Fails("Timeout"))
    assert run.flights == ["look(2)"]
    settle(run, happened, "R" if happened else None)
    assert run.flights == ["look(2)"]
    assert calls(run.state.monitors, "pay", "succeeded") == (1 if happened else 0)
    run.land("look(2)", "v")
    assert run.flights == undone


def test_a_doubt_is_settled_once() -> None:
    run = begun(agent(DOUBT)).land("pay(1)", Fails("Timeout"))
    told = inputs.settle(run.program, run.state, True, "R", "op", "", None)
    run.append(*told)
    run.append(*told)
    assert len(run.state.undo) == 1
    with pytest.raises(JamError) as refused:
        inputs.settle(run.program, run.state, True, "R", "op", "", "#1.1")
    assert refused.value.code == "JAMR407"


def test_two_doubts_are_settled_one_after_the_other() -> None:
    run = begun(
        agent(
            """parallel p {
              branch one { call pay("1") }
              branch two { call pay("2") }
              join all
              on join -> done
            }"""
        )
    )
    run.land("pay(1)", Fails("Timeout")).land("pay(2)", Fails("Timeout"))
    for branch in ("one", "two"):
        assert run.state.parked is not None
        assert run.state.parked["frame"] == f"p@1/{branch}"
        settle(run, True, "R")
    assert run.state.status == "completed"
    assert ends(run) == {"p@1/one": "done", "p@1/two": "done"}


@pytest.mark.parametrize("how", ["settled", "confirmed"])
@pytest.mark.parametrize(("tool", "mailed"), [("buy", False), ("sure", True)])
def test_what_an_untrusted_tool_gave_is_untrusted_however_it_became_known(how: str, tool: str, mailed: bool) -> None:
    body = f'state s {{ call {tool}("1") as v  -> t }}  state t {{ call mail(v)  on denied -> bad  -> done }}'
    run = begun(agent(body, "forbid mail when untrusted(args.q)")).land(f"{tool}(1)", Fails("Timeout"))
    if how == "confirmed":
        run.land("was(1)", "R")
    else:
        run.land("was(1)", Fails("Unavailable"))
        settle(run, True, "R")
    assert run.flights == (["mail(R)"] if mailed else [])


def test_a_definite_error_of_a_write_leaves_nothing_open() -> None:
    run = begun(agent('state s { call pay("1")  on error Full -> t  -> done }  state t { call look("2")  -> done }'))
    run.land("pay(1)", Fails("Full"))
    assert run.state.intents == {}
    assert run.flights == ["look(2)"]


def test_an_error_of_a_costly_read_leaves_nothing_open() -> None:
    run = begun(agent('state s { call dear("1")  on error any -> t  -> done }  state t { call look("2")  -> done }'))
    run.land("dear(1)", Fails("Timeout"))
    assert run.state.intents == {}
    assert amount(run.state.spent.cost) == Decimal("0.40")  # it may have been charged for
    assert run.flights == ["look(2)"]


def test_what_a_probe_costs_is_booked_and_a_free_one_holds_nothing() -> None:
    run = begun(agent('state s { call sure("1")  on in_doubt -> bad  -> done }')).land("sure(1)", Fails("Timeout"))
    assert only(run, "failed")["definite"] is False
    assert list(run.state.intents) == ["#1.1"]
    run.land("was(1)", NOTHING)
    assert went(agent("state s { -> done }")).state.status == "completed"
    assert run.state.final_state == "bad"  # it did not happen: the Timeout is an ordinary error now
    assert run.state.undo == []


@pytest.mark.parametrize(("cost", "overrun"), [("0.50", ["0.50 USD"]), ("0", [])])
def test_a_read_that_was_to_be_free_and_says_what_it_cost_is_booked(cost: str, overrun: list[str]) -> None:
    run = begun(agent('state s { call look("1")  -> done }')).land("look(1)", Result("v", {"cost": cost}))
    assert run.state.spent.cost == f"{float(cost):.2f} USD"
    assert [body["by"] for body in run.events("overrun")] == overrun
    assert run.state.status == "completed"
