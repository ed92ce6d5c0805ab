"""Stopping a run, and stopping it again: nothing is done twice, and what is at its end ends as it was about to."""

from __future__ import annotations

import pytest

from tests.kernel.driver import Driver, Fails
from tests.kernel.source import begun, cancel, only

TOOLS = """
tool look(q: string) -> string { effect reads  timeout 5s }
tool pay(q: string) -> string { effect writes  timeout 5s }
"""


def agent(body: str, head: str = "", name: str = "a") -> str:
    return f"""agent {name} version 1 {{
      output r: string
      budget {{ steps 40  exceeded -> bad }}
      policy {{ allow look, pay }}
      {head}
      start {body}
      final done {{ r = "done" }}  failed bad {{ r = "bad" }}
    }}
    """


WORK = 'state s { call look("1")  -> done }'
BACK = WORK + '  state back { call pay("back")  -> bad }'


def test_a_handler_at_work_is_not_begun_anew_by_a_second_cancellation() -> None:
    run = cancel(begun(TOOLS + agent(BACK, "on cancel -> back")))
    assert run.flights == ["pay(back)"]
    cancel(run)
    run.land("pay(back)", "R")
    assert (run.state.status, run.path) == ("cancelled", ["s", "back", "bad"])
    assert len(run.calls("pay")) == 1


def test_a_handler_that_parked_the_run_is_begun_anew_and_its_doubt_is_kept() -> None:
    run = cancel(begun(TOOLS + agent(BACK, "on cancel -> back"))).land("pay(back)", Fails("Timeout"))
    assert run.state.status == "parked"
    cancel(run)
    assert run.path == ["s", "back", "back"]
    assert set(run.state.intents) == {"#2.1", "#3.1"}
    assert run.land("pay(back)", "R").events("finished")[0]["status"] == "cancelled"


def test_a_handler_that_is_cut_short_leaves_its_write_unresolved() -> None:
    run = cancel(begun(TOOLS + agent(BACK, "on cancel -> back")))
    cancel(run, now=True)
    assert run.state.status == "cancelled"
    assert only(run, "finished")["unresolved"] == ["#2.1"]


def at_its_end(head: str = "") -> Driver:
    text = TOOLS + agent(WORK, head + '  finally { call pay("end") }')
    run = begun(text).land("look(1)", "v")
    assert run.flights == ["pay(end)"]
    return run


@pytest.mark.parametrize("head", ["", "on cancel -> bad"])
def test_a_run_that_is_at_its_end_ends_as_it_was_about_to(head: str) -> None:
    run = cancel(at_its_end(head))
    assert (run.state.cancelling, run.state.diverted, run.flights) == (None, None, ["pay(end)"])
    run.land("pay(end)", "R")
    assert (run.state.status, run.state.final_state, run.state.output) == ("completed", "done", {"r": "done"})


def test_what_closes_is_cut_short_only_by_a_cancellation_at_once() -> None:
    run = cancel(at_its_end(), now=True)
    assert (run.state.status, run.state.final_state) == ("completed", "done")
    assert run.cancelled == run.state.unresolved == ["done@2/finally#1.1"]
    assert len(run.calls("pay")) == 1


def test_a_cancelled_run_closes_once() -> None:
    text = TOOLS + agent(WORK, 'finally { call pay("end") }')
    run = cancel(begun(text))
    assert run.flights == ["pay(end)"]
    cancel(run)
    assert run.flights == ["pay(end)"]
    run.land("pay(end)", "R")
    assert run.state.status == "cancelled"
    assert len(run.calls("pay")) == 1


def test_a_run_that_is_cancelled_in_doubt_names_what_is_unresolved() -> None:
    run = cancel(begun(TOOLS + agent('state s { call pay("1")  -> done }')).land("pay(1)", Fails("Timeout")))
    assert run.state.status == "cancelled"
    assert only(run, "finished")["unresolved"] == ["#1.1"]
