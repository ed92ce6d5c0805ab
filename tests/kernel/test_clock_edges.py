"""The clock of a run and its status: time never goes back, and what has ended waits for nothing."""

from __future__ import annotations

from jamjet_dsl.kernel.machine import next_wake
from tests.kernel.driver import Fails
from tests.kernel.source import begun, send

TOOLS = """
tool look(q: string) -> string { effect reads  timeout 5s }
tool pay(q: string) -> string { effect writes  timeout 5s }
"""


def agent(body: str, head: str = "on error any -> bad", budget: str = "steps 40", result: str = '"done"') -> str:
    return f"""{TOOLS}
    agent a version 1 {{
      var n: int = 0
      event go()
      output r: string
      budget {{ {budget}  exceeded -> bad }}
      policy {{ allow look, pay }}
      {head}
      start {body}
      final done {{ r = {result} }}  failed bad {{ r = "bad" }}
    }}"""


def test_a_clock_that_goes_back_does_not_take_the_run_back() -> None:
    run = begun(agent('state s { call look("1")  -> t }  state t { wait 1h  -> done }'))
    began = run.now_ms
    run.now_ms -= 60_000
    run.land("look(1)", "v")
    assert (run.state.now_ms, run.state.spent.active_ms) == (began, 0)
    assert next_wake(run.state) == began + 3_600_000
    run.now_ms = began + 1000
    run.append("resumed", {})
    assert run.state.now_ms == began + 1000


def test_a_timer_that_was_due_before_something_else_came_takes_no_time_away() -> None:
    run = begun(agent("state s { wait 10m  -> done }"))
    began = run.now_ms
    run.now_ms = began + 900_000
    send(run, "go")
    run.at(began + 1_200_000)
    assert (run.state.status, run.state.spent.active_ms) == ("completed", 900_000)


def test_a_run_that_has_ended_wakes_nobody() -> None:
    run = begun(agent('state s { call look("1")  -> done }', budget="steps 9  time 2h  active 1h"))
    assert sorted(run.state.timers) == ["budget/active", "budget/time"]
    run.land("look(1)", "v")
    assert (run.state.status, run.state.timers, next_wake(run.state)) == ("completed", {}, None)


def test_a_run_that_waited_in_all_its_branches_runs_again_as_soon_as_one_does() -> None:
    body = """parallel p { branch one { wait 9h }
      branch two { start state w { wait for event go  -> x }  state x { call look("1")  -> y }  state y { yields 1 } }
      join all  on join -> done  on error JoinFailed -> bad }"""
    run = begun(agent(body))
    seen = [run.state.status]
    seen.append(send(run, "go").state.status)
    seen.append(run.land("look(1)", "v").state.status)
    assert seen == ["waiting", "running", "waiting"]
    assert run.at(next_wake(run.state) or 0).state.status == "completed"


def test_a_final_that_fails_again_parks_the_run_and_does_not_turn_in_a_circle() -> None:
    run = begun(agent("state s { -> done }  state t { -> done }", "on error any -> t", result="string(1 / n)"))
    assert run.path == ["s", "done", "t", "done"]
    assert run.state.parked is not None
    assert run.state.parked["commands"] == ["cancel"]
    assert "division by zero" in run.state.parked["reason"]


def test_a_read_that_fails_after_a_guard_did_is_no_fault_of_the_state() -> None:
    """Only a state that does nothing itself is counted as the one that failed."""
    run = begun(agent('state s { call look("1")  when 1 / n > 0 -> done  otherwise -> done }'))
    run.land("look(1)", "v")
    assert (run.state.final_state, run.path) == ("bad", ["s", "bad"])
    assert run.state.frames[""].counters == {}
    again = begun(agent('state s { call look("1")  -> done }')).land("look(1)", Fails("Unavailable"))
    assert again.state.frames[""].counters == {}
