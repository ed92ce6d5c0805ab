"""How agents, branches and items end: stopped while they are late, with nothing to give, in a final that fails."""

from __future__ import annotations

import pytest

from tests.kernel.driver import NOTHING, Fails
from tests.kernel.source import begun, ends, only, retry, send

TOOLS = """
tool look(q: string) -> string { effect reads  timeout 5s }
tool mail(q: string) { effect reads  timeout 5s }
tool ship(id: string) -> string { effect writes  timeout 5s }
tool keyed(id: string) -> string { effect writes  key id  timeout 5s  confirm was(id) }
tool sure(id: string) -> string { effect writes  timeout 5s  confirm was(id) }
tool was(id: string) -> string? { effect reads  timeout 5s }
"""
ANY = "policy { allow look, mail, ship, keyed, sure, was }"
FINALS = 'final done { r = "done" }  failed bad { r = "bad" }  failed over { r = "over" }'


def agent(
    body: str,
    budget: str = "steps 40  exceeded -> over",
    head: str = "on error any -> bad",
    name: str = "a",
    finals: str = FINALS,
) -> str:
    return f"""agent {name} version 1 {{
      output r: string
      {head}
      budget {{ {budget} }}
      {ANY}
      start {body}
      {finals}
    }}
    """


# ---- stopped while its time is over

INNER = """parallel q { branch x { call ship("1") }  branch y { wait 9h }
  join all  on join -> done  on error JoinFailed -> bad }"""


def stopped(first: str) -> str:
    return f"""parallel p {{ branch one {{ run kid()  on error any skip }}  branch two {{ wait {first} }}
      join any  on join -> done  on error JoinFailed -> bad }}"""


@pytest.mark.parametrize(("first", "exceeded"), [("20s", 0), ("40s", 1)])
def test_a_child_that_is_stopped_ends_whether_its_time_is_over_before_or_after(first: str, exceeded: int) -> None:
    """It neither exceeds its budget while it is being stopped, nor goes where that would lead it."""
    kid = agent(INNER, "steps 9  time 30s  exceeded -> over", name="kid")
    run = begun(TOOLS + agent(stopped(first)) + kid)
    assert run.flights == ["ship(1)"]
    for seconds in (20, 30, 40):
        run.at(1_000_000 + seconds * 1000)
    assert run.flights == ["ship(1)"]  # it is waited for
    assert len(run.events("exceeded")) == exceeded
    run.land("ship(1)", "A")
    assert run.state.final_state == "done"
    assert ends(run)["p@1/one/do@1/kid"] == "cancelled"


def test_a_child_without_a_way_out_fails_when_its_budget_is_used_up() -> None:
    kid = agent("state s { wait 1h  -> done }", name="kid").replace("budget { steps 40  exceeded -> over }", "")
    body = "state x { run kid() budget { time 30s }  on error ChildFailed -> over  -> done }"
    run = begun(TOOLS + agent(body) + kid)
    run.at(run.now_ms + 30_000)
    assert run.state.final_state == "over"
    assert only(run, "closed") == {
        "frame": "x@1/kid",
        "how": "failed",
        "error": "ChildFailed",
        "message": "the budget is exceeded (time)",
    }


def test_what_closes_has_the_steps_that_it_takes() -> None:
    head = 'on error any -> bad  finally { call look("1")  call look("2") }'
    run = begun(TOOLS + agent('state s { call look("0")  -> done }', "steps 1  exceeded -> over", head))
    for name in ("look(0)", "look(1)", "look(2)"):
        run.land(name, "")
    assert (run.state.final_state, run.events("exceeded")) == ("done", [])


# ---- warnings


def test_a_warning_is_told_once_for_an_agent_however_many_branches_it_has() -> None:
    kid = agent(INNER, "steps 40  warn at 5%  exceeded -> over", name="kid")
    body = 'state s { call look("1")  -> t }  state t { call look("2")  -> x }  state x { run kid()  -> done }'
    run = begun(TOOLS + agent(body) + kid).land("look(1)", "").land("look(2)", "")
    assert run.flights == ["ship(1)"]
    assert [(told["what"], told.get("home")) for told in run.events("spent")] == [("steps", "x@3/kid")]


# ---- items and finals


def test_items_that_give_nothing_are_done_all_the_same() -> None:
    each = 'each q in ["1", "2"], 2 at once { call mail(q)  on error any skip }'
    run = begun(TOOLS + agent(f"state s {{ {each}  on error any -> bad  -> done }}"))
    run.land("mail(1)", NOTHING)
    run.land("mail(2)", Fails("Unavailable"))
    assert run.state.final_state == "done"
    assert ends(run) == {"s@1/0": "done", "s@1/1": "skipped"}


def test_a_final_that_fails_is_not_led_to_itself() -> None:
    finals = 'final done { r = string(10 / none) }  failed bad { r = string(10 / none) }  failed over { r = "" }'
    run = begun(TOOLS + agent("state s { -> done }", finals=finals, head="var none: int = 0  on error any -> bad"))
    assert run.path == ["s", "done", "bad"]
    assert run.state.status == "parked"
    assert [body["where"] for body in run.events("faulted")] == ["the final `done`", "the final `bad`"]


def test_a_guard_without_a_value_is_tried_again_in_the_same_attempt() -> None:
    head = "var none: int = 0"
    run = begun(TOOLS + agent("state s { when 10 / none > 1 -> done  otherwise -> bad }", head=head))
    assert run.state.status == "parked"
    assert run.state.parked is not None
    retry(run)
    assert (run.kinds.count("faulted"), run.kinds.count("parked")) == (2, 2)
    assert run.state.frames[""].attempt == 1


# ---- doubts


@pytest.mark.parametrize(("tool", "again"), [("keyed", ["keyed(1)"]), ("sure", [])])
def test_what_a_probe_cannot_tell_after_a_crash_is_made_again_only_under_a_key(tool: str, again: list[str]) -> None:
    run = begun(TOOLS + agent(f'state s {{ call {tool}("1")  -> done }}')).take_over()
    assert run.flights == ["was(1)"]
    run.land("was(1)", Fails("Unavailable"))
    assert run.flights == again
    assert (run.state.status == "parked") is not bool(again)


def test_of_a_doubt_nothing_more_is_asked_while_the_run_is_parked_for_another_one() -> None:
    body = """parallel p { branch one { call ship("1") }  branch two { call sure("2") }
      join all  on join -> done  on error JoinFailed -> bad }"""
    run = begun(TOOLS + agent(body)).take_over()
    run.land("was(2)", Fails("Unavailable"))
    assert (run.state.status, run.flights) == ("parked", [])
    assert [intent.unsettled for intent in run.state.intents.values()] != []


def test_a_doubt_whose_handling_fails_is_for_a_person_to_settle() -> None:
    body = 'state s { call ship("1")  on in_doubt -> bad { set none = 10 / none }  -> done }'
    run = begun(TOOLS + agent(body, head="var none: int = 0")).land("ship(1)", Fails("Timeout"))
    assert run.state.parked is not None
    assert run.state.parked["commands"] == ["settle --happened", "settle --did-not-happen", "cancel"]
    assert run.state.parked["cmd"] == "#1.1"


def test_an_error_that_nobody_handles_names_the_call_that_failed() -> None:
    run = begun(TOOLS + agent('state s { call look("1")  -> done }', head="")).land("look(1)", Fails("Unavailable"))
    assert run.state.parked is not None
    assert run.state.parked["cmd"] == "#1.1"
    assert run.state.parked["commands"] == ["retry", "cancel"]


# ---- events that end what a state waits for

PING = "event ping(n: int)  event pong(n: int)  var seen: int = 0  on error any -> bad"
TAKES = "on event ping(e) -> done { set seen = e.n }"


@pytest.mark.parametrize(
    ("action", "before"),
    [
        ("wait 1h", False),
        ("wait 1h", True),
        ("wait for event pong timeout 1h", False),
        ("wait for event pong timeout 1h", True),
        ('ask role "boss" "?" options yes, no timeout 9h', False),
        ('ask role "boss" "?" options yes, no timeout 9h', True),
        ('call look("1")', False),
        ('call look("1")', True),
    ],
)
def test_an_event_that_an_edge_takes_ends_what_is_waited_for(action: str, before: bool) -> None:
    """Whether it comes while the state waits, or lay in the queue before; an effect is waited for first."""
    more = {"a": "on yes -> bad  on no -> bad  on timeout -> bad", "w": "on timeout -> bad  -> bad"}
    ways = more.get(action[0], "-> bad") if "timeout" in action else "-> bad"
    body = f'state f {{ call mail("0")  -> s }}  state s {{ {action}  {TAKES}  {ways} }}'
    run = begun(TOOLS + agent(body, head=PING))
    if before:
        send(run, "ping", {"n": 7})
        run.land("mail(0)", NOTHING)
    else:
        run.land("mail(0)", NOTHING)
        send(run, "ping", {"n": 7})
    if action.startswith("call"):
        assert run.state.final_state is None
        run.land("look(1)", "")
    assert (run.state.final_state, run.state.vars["seen"]) == ("done", 7)
    assert (run.state.timers, run.state.questions, run.state.queue) == ({}, {}, [])


def test_an_event_that_no_edge_takes_stays_in_the_queue() -> None:
    run = begun(
        TOOLS + agent(f"state s {{ wait 1h  {TAKES}  -> t }}  state t {{ wait for event pong  -> bad }}", head=PING)
    )
    send(run, "pong", {"n": 1})
    assert [event["name"] for event in run.state.queue] == ["pong"]
    assert run.state.status == "waiting"
    send(run, "ping", {"n": 2}, id="e2")
    assert (run.state.final_state, run.state.vars["seen"]) == ("done", 2)
