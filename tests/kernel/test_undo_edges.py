"""Rollbacks: each call is taken back once, however many rollbacks are at work, and without anybody's approval."""

from __future__ import annotations

import pytest

from tests.kernel.driver import Fails
from tests.kernel.source import begun, ends

TOOLS = """
tool ship(id: string) -> string { effect writes  timeout 5s  undo back(id) }
tool back(id: string) -> string { effect writes  timeout 5s  raises Gone }
tool pay(id: string) -> string { effect irreversible  timeout 5s  undo repay(id) }
tool repay(id: string) -> string { effect irreversible  timeout 5s }
"""
TWO = """parallel p { branch one { undo all }  branch two { undo all }
  join all  on join -> done  on error JoinFailed -> bad }"""


def agent(body: str, rules: str = "allow ship, back", name: str = "a") -> str:
    return f"""agent {name} version 1 {{
      output r: string
      budget {{ steps 40  exceeded -> over }}
      policy {{ {rules} }}
      on error any -> bad
      start {body}
      final done {{ r = "done" }}  failed bad {{ r = "bad" }}  failed over {{ r = "over" }}
    }}
    """


def shipped(*ids: str, then: str) -> str:
    """States that ship these one after the other, and then go on."""
    states = [f"state s{n} {{ call ship({id!r})  on in_doubt -> bad  -> s{n + 1} }}" for n, id in enumerate(ids)]
    return "  ".join(states).replace("'", '"').replace(f"-> s{len(ids)} ", f"-> {then} ")


def test_two_rollbacks_at_a_time_take_each_call_back_once() -> None:
    run = begun(TOOLS + agent(shipped("1", "2", then="p") + TWO)).land("ship(1)", "A").land("ship(2)", "B")
    assert run.flights == ["back(2)"]  # the one that came later waits for it
    run.land("back(2)", "")
    assert run.flights == ["back(1)"]
    run.land("back(1)", "")
    assert (run.state.final_state, run.state.undo) == ("done", [])
    assert [call.args["id"] for call in run.calls("back")] == ["2", "1"]


def test_a_rollback_goes_on_where_another_one_failed() -> None:
    run = begun(TOOLS + agent(shipped("1", "2", then="p") + TWO)).land("ship(1)", "A").land("ship(2)", "B")
    run.land("back(2)", Fails("Gone"))
    run.land("back(1)", "")
    assert run.state.final_state == "done"
    assert [entry["text"] for entry in run.state.undo_failed] == ["back: Gone: "]
    assert len(run.calls("back")) == 2


def test_a_rollback_waits_for_that_of_a_child_and_takes_back_what_is_left() -> None:
    kid = agent(shipped("2", then="t") + "state t { undo all  -> done }", name="kid")
    body = (
        shipped("1", then="p")
        + """parallel p {
      branch one { run kid()  on error any skip }
      branch two { start state w { wait 1m  -> t }  state t { undo all  -> e }  state e { yields 1 } }
      join all  on join -> done  on error JoinFailed -> bad }"""
    )
    run = begun(TOOLS + agent(body) + kid).land("ship(1)", "A").land("ship(2)", "B")
    assert run.flights == ["back(2)"]
    run.at(run.now_ms + 60_000)
    assert run.flights == ["back(2)"]
    run.land("back(2)", "")
    assert run.flights == ["back(1)"]
    run.land("back(1)", "")
    assert run.state.final_state == "done"


def test_a_rollback_that_waits_is_stopped_with_the_branch_that_it_is_in() -> None:
    body = (
        shipped("1", then="p")
        + """parallel p { branch one { undo all }  branch two { undo all }
      join all within 1m  on join -> done  on error JoinFailed -> bad }"""
    )
    run = begun(TOOLS + agent(body)).land("ship(1)", "A")
    run.at(run.now_ms + 60_000)
    assert run.flights == ["back(1)"]  # a write in flight is waited for
    run.land("back(1)", "")
    assert (run.state.final_state, run.state.undo, len(run.calls("back"))) == ("bad", [], 1)
    assert {ends(run)[f"p@2/{name}"] for name in ("one", "two")} == {"cancelled"}


@pytest.mark.parametrize("rule", ["allow repay", 'allow repay when args.id == "1"'])
def test_what_takes_back_needs_no_approval_though_it_is_irreversible(rule: str) -> None:
    rules = f'allow pay without approval because "small sums"  {rule}'
    body = 'state s { call pay("1")  on in_doubt -> bad  on denied -> bad  -> t }  state t { undo all  -> done }'
    run = begun(TOOLS + agent(body, rules)).land("pay(1)", "A")
    assert run.flights == ["repay(1)"]
    run.land("repay(1)", "")
    assert run.state.final_state == "done"


@pytest.mark.parametrize(
    "rules", ['allow ship, back  forbid back when args.id == "1"', 'allow ship  allow back when args.id == ""']
)
def test_what_takes_back_is_refused_where_the_policy_does_not_allow_it(rules: str) -> None:
    run = begun(TOOLS + agent(shipped("1", then="t") + "state t { undo all  -> done }", rules)).land("ship(1)", "A")
    assert (run.flights, run.state.final_state, run.state.undo) == ([], "done", [])
    assert run.state.undo_failed[0]["why"].startswith("Denied: ")
