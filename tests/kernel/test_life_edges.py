"""The life of a run as people see it: status, time, parking, cancelling, crashing, and what stands at its end."""

from __future__ import annotations

from typing import Any

import pytest

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import next_wake
from tests.kernel.driver import NOTHING, Driver, Fails
from tests.kernel.source import answer, begun, cancel, only, retry, send, went

TOOLS = """
tool look(q: string) -> string { effect reads  timeout 5s }
tool score(q: string) -> int { effect reads  cost $0.10  timeout 5s }
tool mail(q: string) { effect reads  timeout 5s }
tool pay(q: string) -> string { effect writes  timeout 5s  raises Full }
tool keyed(q: string) -> string { effect writes  key q  timeout 5s  raises Full }
"""
ALLOW = "allow look, score, mail, pay, keyed"
HOUR, MINUTE = 3_600_000, 60_000


def agent(
    body: str,
    head: str = "on error any -> bad",
    budget: str = "steps 40",
    *,
    rules: str = "",
    result: str = '"done"',
    name: str = "a",
    given: str = "",
) -> str:
    return f"""agent {name} version 1 {{
      {given} output r: string
      budget {{ {budget}  exceeded -> over }}
      policy {{ {ALLOW} {rules} }}
      {head}
      start {body}
      final done {{ r = {result} }}  failed bad {{ r = "bad" }}  failed over {{ r = "over" }}
    }}
    """


def at(ms: int) -> int:
    return 1_000_000 + ms


# ---- status


def test_the_status_says_whether_something_goes_on() -> None:
    run = begun(
        TOOLS
        + agent(
            """state s { call look("1")  -> q }
            state q { ask role "r" "?" options yes timeout 2h  on yes -> t  on timeout -> t }
            state t { call look("2")  -> w }
            state w { wait for event go  -> u }
            state u { call look("3")  -> x }
            state x { wait 1h  -> y }
            state y { call pay("4")  -> done }""",
            "event go()  on error any -> bad",
        )
    )
    seen = [run.state.status]
    seen.append(run.land("look(1)", "").state.status)
    seen.append(answer(run, "yes").state.status)
    seen.append(run.land("look(2)", "").state.status)
    seen.append(send(run, "go").state.status)
    seen.append(run.land("look(3)", "").state.status)
    seen.append(run.at(next_wake(run.state) or 0).state.status)
    assert seen == ["running", "waiting", "running", "waiting", "running", "waiting", "running"]
    run.land("pay(4)", Fails("Timeout"))
    assert run.state.status == "parked"


def test_a_run_in_branches_waits_only_if_every_branch_does() -> None:
    run = begun(
        TOOLS
        + agent(
            """parallel p {
              branch one { ask role "r" "1?" options yes timeout 9h  on timeout skip }
              branch two { call look("2") }
              branch three { wait for event go }
              join all
              on join -> done
            }""",
            "event go()  on error any -> bad",
        )
    )
    assert run.state.status == "running"
    assert run.land("look(2)", "").state.status == "waiting"
    assert send(run, "go").state.status == "waiting"
    assert answer(run, "yes").state.status == "completed"


# ---- time


def active(run: Driver) -> int:
    return run.state.spent.active_ms


def test_time_in_which_only_people_are_waited_for_is_not_active() -> None:
    run = begun(
        TOOLS
        + agent(
            """state s { wait 10m  -> q }
            state q { ask role "r" "?" options yes timeout 9h  on yes -> t  on timeout -> t }
            state t { call pay("1")  -> done }""",
        )
    )
    run.at(at(10 * MINUTE))
    assert active(run) == 10 * MINUTE
    run.now_ms = at(3 * HOUR)
    answer(run, "yes")
    assert active(run) == 10 * MINUTE
    run.now_ms += MINUTE
    run.land("pay(1)", Fails("Timeout"))
    assert (run.state.status, active(run)) == ("parked", 11 * MINUTE)
    run.now_ms += HOUR
    cancel(run, now=True)
    assert active(run) == 11 * MINUTE


def test_a_timer_that_is_noticed_late_makes_nobody_active_meanwhile() -> None:
    run = begun(TOOLS + agent('state s { wait 10m  -> t }  state t { call look("1")  -> done }'))
    run.at(at(5 * HOUR))
    assert active(run) == 10 * MINUTE
    assert run.state.now_ms == at(5 * HOUR)


def test_a_child_that_waits_for_a_person_is_not_active_while_the_one_beside_it_is() -> None:
    run = begun(
        TOOLS
        + agent(
            """parallel p {
              branch one { run asker() }
              branch two { run worker() }
              join all
              on join -> done
            }"""
        )
        + agent('state s { ask role "r" "?" options yes timeout 9h  on yes -> done  on timeout -> bad }', name="asker")
        + agent("state s { run inner()  -> done }", name="worker")
        + agent("state s { wait 1h  -> done }", name="inner")
    )
    run.at(at(HOUR))
    accounts = {f.agent: f.account.active_ms for f in run.state.frames.values() if f.account is not None}
    assert accounts["asker"] == 0
    assert active(run) == HOUR
    assert "worker" not in accounts  # it has ended: its hour is over


def test_the_active_time_of_a_child_ends_it_and_stops_while_a_person_is_asked() -> None:
    run = begun(
        TOOLS
        + agent("state s { run kid()  on error ChildFailed -> bad  -> done }")
        + agent(
            """state s { wait 5m  -> q }
            state q { ask role "r" "?" options yes timeout 9h  on yes -> t  on timeout -> bad }
            state t { wait 1h  -> done }""",
            budget="steps 9  active 10m",
            name="kid",
        )
    )
    run.at(at(5 * MINUTE))
    assert next_wake(run.state) == at(5 * MINUTE + 9 * HOUR)  # only the question's: its active time stands still
    run.now_ms = at(HOUR)
    answer(run, "yes")
    assert next_wake(run.state) == at(HOUR + 5 * MINUTE)
    run.at(at(HOUR + 5 * MINUTE))
    assert only(run, "exceeded")["what"] == "active"
    assert run.state.final_state == "bad"


@pytest.mark.parametrize("inside", [False, True])
def test_an_exceeded_budget_needs_no_wake_for_its_time_any_more(inside: bool) -> None:
    body = 'state s { call look("1")  -> t }  state t { call look("2")  -> done }'
    closing = 'on error any -> bad  finally { call mail("end") }'
    tight = agent(body, closing, "steps 1  time 2h", name="kid" if inside else "a")
    text = TOOLS + tight + (agent("state s { run kid()  on error ChildFailed -> bad  -> done }") if inside else "")
    run = begun(text)
    assert next_wake(run.state) == at(2 * HOUR)
    run.land("look(1)", "")
    assert run.flights == ["mail(end)"]
    assert next_wake(run.state) is None


def test_a_reminder_comes_again_and_again_until_the_answer() -> None:
    run = begun(
        TOOLS
        + agent(
            """state q { ask role "r" "?" options yes remind every 8h timeout 20h
              on yes -> done  on timeout -> bad }"""
        )
    )
    for hours in (8, 16, 20):
        assert next_wake(run.state) == at(hours * HOUR)
        run.at(at(hours * HOUR))
    assert run.state.final_state == "bad"


def test_the_question_whose_time_is_over_is_the_one_that_expires() -> None:
    run = begun(
        TOOLS
        + agent(
            """parallel p {
              branch one { ask role "r" "1?" options yes timeout 9h  on timeout skip }
              branch two { ask role "r" "2?" options yes timeout 2h  on timeout skip }
              join any
              on join -> done
            }"""
        )
    )
    run.at(at(2 * HOUR))
    assert [q.frame for q in run.state.questions.values()] == ["p@1/one"]
    assert answer(run, "yes").state.status == "completed"


# ---- events


def test_an_event_waits_in_its_queue_while_another_is_taken() -> None:
    run = begun(
        TOOLS
        + agent(
            """state s { call look("1")  -> a }
            state a { wait for event go(x)  -> b }
            state b { wait for event stop(y)  -> done }""",
            "event go(n: string)  event stop(n: string)  on error any -> bad",
            result="x.n + y.n",
        )
    )
    send(run, "stop", {"n": "S"}, "e1")
    send(run, "go", {"n": "G"}, "e2")
    run.land("look(1)", "")
    assert run.state.output == {"r": "GS"}
    assert [body["name"] for body in run.events("consumed")] == ["go", "stop"]
    assert run.state.queue == []


# ---- parking and trying again


def test_a_call_that_parked_the_run_is_made_again_under_a_new_id() -> None:
    run = begun(TOOLS + agent('state s { call look("1")  -> done }', "")).land("look(1)", Fails("Unavailable"))
    assert run.state.status == "parked"
    retry(run)
    assert list(run.flying) == ["#1.2"]
    assert run.land("look(1)", "v").state.status == "completed"


def test_a_guard_that_parked_the_run_is_evaluated_again_and_no_call_is_repeated() -> None:
    body = 'state s { call look("1") as v  when 1 / n > 0 -> done  otherwise -> done }'
    run = begun(TOOLS + agent(body, "", given="var n: int = 0")).land("look(1)", "v")
    assert run.state.status == "parked"
    retry(run)
    assert (run.state.status, run.flights, len(run.performed)) == ("parked", [], 1)
    assert run.kinds.count("faulted") == 2


def test_a_run_that_is_not_parked_cannot_be_tried_again() -> None:
    run = begun(TOOLS + agent('state s { call look("1")  -> done }'))
    with pytest.raises(JamError) as refused:
        inputs.retry(run.program, run.state, "op", "")
    assert refused.value.code == "JAMR408"


# ---- cancelling


def test_cancelling_at_once_names_the_writes_in_flight_and_nothing_else() -> None:
    run = begun(
        TOOLS
        + agent(
            """parallel p {
              branch one { call pay("1") }
              branch two { call score("2") }
              branch three { ask role "r" "?" options yes timeout 2h  on timeout skip }
              join all
              on join -> done
            }""",
            budget="steps 40  cost $1",
        )
    )
    cancel(run, now=True)
    assert run.state.status == "cancelled"
    assert only(run, "finished")["unresolved"] == ["p@1/one#1.1"]
    assert (run.state.questions, run.state.timers, run.state.parked) == ({}, {}, None)
    with pytest.raises(JamError) as refused:
        inputs.cancelling(run.program, run.state, "op", "", False)
    assert refused.value.code == "JAMR204"


def test_a_cancelled_run_without_a_write_in_flight_has_nothing_unresolved() -> None:
    run = begun(TOOLS + agent('state s { call score("1")  -> done }', budget="steps 9  cost $1"))
    cancel(run, now=True)
    assert "unresolved" not in only(run, "finished")


def test_a_parked_run_that_is_cancelled_is_not_parked_any_more() -> None:
    run = begun(TOOLS + agent('state s { call look("1")  -> done }', "")).land("look(1)", Fails("Unavailable"))
    cancel(run)
    assert (run.state.status, run.state.parked) == ("cancelled", None)


def test_stopping_cancels_what_is_in_flight_and_only_that() -> None:
    run = begun(
        TOOLS
        + agent(
            """parallel p {
              branch one { call score("1") }
              branch two { ask role "r" "?" options yes timeout 2h  on timeout skip }
              branch three { call look("3") }
              branch four { wait 1h }
              join any
              on join -> done
            }""",
            budget="steps 9  cost $1",
        )
    ).land("look(3)", "v")
    assert run.cancelled == ["p@1/one#1.1"]


def test_a_read_for_a_decision_is_stopped_with_its_call() -> None:
    rules = "fact risk = score(q = args.q) for pay  forbid pay when risk > 5"
    run = begun(
        TOOLS
        + agent(
            """parallel p {
              branch one { call pay("1") }
              branch two { call look("2") }
              join any
              on join -> done
            }""",
            budget="steps 9  cost $1",
            rules=rules,
        )
    )
    assert run.flights == ["look(2)", "score(1)"]
    fact = next(id for id in run.flying if "/fact/" in id)
    run.land("look(2)", "v")
    assert (run.state.status, run.cancelled) == ("completed", [fact])


def test_a_write_in_flight_is_waited_for_and_its_handler_takes_over_then() -> None:
    run = begun(
        TOOLS
        + agent('state s { call pay("1")  -> done }', "on cancel -> back").replace(
            "final done", 'state back { call mail("sorry")  -> bad }  final done'
        )
    )
    cancel(run)
    assert (run.flights, run.state.status) == (["pay(1)"], "running")
    run.land("pay(1)", "R")
    assert run.flights == ["mail(sorry)"]
    run.land("mail(sorry)", NOTHING)
    assert run.state.status == "cancelled"


# ---- crashes


def test_a_keyed_write_that_was_in_flight_is_made_again_and_only_its_own_answer_tells() -> None:
    run = begun(TOOLS + agent('state s { call keyed("1")  on in_doubt -> over  -> done }')).take_over()
    assert run.flights == ["keyed(1)"]
    assert only(run, "recovered")["how"] == "key"
    run.land("keyed(1)", Fails("Unavailable", sent=False))
    assert only(run, "failed")["definite"] is False  # this attempt was not sent: the one before the crash may have been
    assert run.state.final_state == "over"


def test_a_keyed_write_whose_tool_says_no_after_the_crash_did_not_happen() -> None:
    run = begun(TOOLS + agent('state s { call keyed("1")  on in_doubt -> over  -> done }')).take_over()
    run.land("keyed(1)", Fails("Full"))
    assert only(run, "failed")["definite"] is True
    assert run.state.final_state == "bad"


def test_a_crash_settles_a_costly_read_in_full_and_makes_it_again() -> None:
    run = begun(TOOLS + agent('state s { call score("1")  -> done }', budget="steps 9  cost $1")).take_over()
    assert only(run, "recovered")["how"] == "again"
    assert run.state.spent.cost == "0.10 USD"
    run.land("score(1)", 1)
    assert run.state.spent.cost == "0.20 USD"


# ---- the end


@pytest.mark.parametrize(
    ("head", "end"), [("on error any -> bad", "bad"), ("on error Timeout -> bad", None), ("", None)]
)
def test_an_output_without_a_value_is_an_error_of_the_agent(head: str, end: str | None) -> None:
    run = went(TOOLS + agent("state s { -> done }", head, result="string(1 / n)", given="var n: int = 0"))
    assert run.state.final_state == end
    assert run.state.status == ("failed" if end else "parked")


def test_a_child_whose_output_has_no_value_fails() -> None:
    run = went(
        TOOLS
        + agent("state s { run kid()  on error ChildFailed -> over  -> done }")
        + agent("state s { -> done }", "", result="string(1 / n)", given="var n: int = 0", name="kid")
    )
    assert run.state.final_state in ("over", None)


@pytest.mark.parametrize(("result", "mailed"), [("a.t", 1), ('"made up"', 0)])
def test_what_a_person_told_a_child_is_attested_outside_it(result: str, mailed: int) -> None:
    text = (
        TOOLS
        + agent(
            "state s { run kid() as k  -> t }  state t { call mail(k.r)  on denied -> bad  -> done }",
            rules="forbid mail when !attested(args.q)",
        )
        + agent(
            """state s { ask role "r" "?" answer { t: string } timeout 9h as a  on timeout -> bad  -> done }""",
            result=result,
            name="kid",
        )
    )
    run: Any = went(text, {"mail": NOTHING})
    run.answer("done", {"t": "said"})
    assert len(run.calls("mail")) == mailed


def test_moves_that_do_nothing_are_counted_until_something_is_done() -> None:
    """A thousand of them in a row park the run, so they must not add up over a long life."""
    body = """state s { -> t }  state t { -> u }  state u { call look("1")  -> v }
    state v { -> w }  state w { call look("2")  -> done }"""
    run = begun(TOOLS + agent(body))
    assert run.state.frames[""].idle == 2
    run.land("look(1)", "")
    assert run.state.frames[""].idle == 1
