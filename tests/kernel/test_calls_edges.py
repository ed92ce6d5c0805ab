"""Calls: their keys, the approvals they use up, a further attempt that does not fit, and what a crash leaves."""

from __future__ import annotations

from typing import Any

import pytest

from jamjet_dsl.kernel.recovery import recover
from tests.kernel.driver import Driver, Fails
from tests.kernel.source import answer, begun, cancel, ends, only, settle

TOOLS = """
tool look(q: string) -> string { effect reads  timeout 5s }
tool ship(id: string) -> string { effect writes  timeout 5s }
tool bill(id: string, n: int) -> string { effect writes  key id + string(10 / n)  cost $0.40  timeout 5s  raises Full }
tool sure(id: string) -> string { effect writes  key id  cost $0.40  confirm was(id)  timeout 5s }
tool was(id: string) -> string? { effect reads  cost $0.30  timeout 5s }
"""
HEAD = "policy { allow look, ship, bill, sure, was }  on error any -> bad"


def agent(body: str, budget: str = "steps 40  cost $9", head: str = HEAD, name: str = "a") -> str:
    return f"""agent {name} version 1 {{
      output r: string
      budget {{ {budget}  exceeded -> over }}
      {head}
      start {body}
      final done {{ r = "done" }}  failed bad {{ r = "bad" }}  failed over {{ r = "over" }}
    }}
    """


# ---- keys


def test_a_key_without_a_value_is_an_error_and_nothing_is_sent() -> None:
    run = begun(TOOLS + agent('state s { call bill("1", 0)  on error InvalidInput -> bad  -> done }'))
    assert (run.state.final_state, run.performed, run.events("intent")) == ("bad", [], [])


def test_every_attempt_has_the_key_of_the_first() -> None:
    body = 'state s { call bill("1", 5) retry Unavailable 1 times  -> done }'
    run = begun(TOOLS + agent(body)).land("bill(1, 5)", Fails("Unavailable", sent=False))
    run.begin()
    assert [call.key for call in run.calls("bill")] == ["12", "12"]
    assert [call.id for call in run.calls("bill")] == ["#1.1", "#1.2"]
    assert len({call.trace_key for call in run.calls("bill")}) == 1


# ---- a further attempt that does not fit


@pytest.mark.parametrize(("limit", "flights"), [("$0.80", ["bill(1, 5)"]), ("$0.79", [])])
def test_a_further_attempt_of_a_call_that_may_have_happened_is_made_only_if_it_fits(
    limit: str, flights: list[str]
) -> None:
    body = 'state s { call bill("1", 5) retry Timeout 1 times  on in_doubt -> done  -> done }'
    run = begun(TOOLS + agent(body, f"steps 9  cost {limit}")).land("bill(1, 5)", Fails("Timeout"))
    assert run.flights == flights
    if not flights:
        assert run.kinds.count("in_doubt") == 1  # it is not left behind as if nothing had been sent
        assert len(run.calls("bill")) == 1


def test_what_cannot_be_tried_again_is_asked_about_where_the_tool_can_tell() -> None:
    body = 'state s { call sure("1") retry Timeout 1 times  on in_doubt -> bad  -> done }'
    run = begun(TOOLS + agent(body, "steps 9  cost $0.79")).land("sure(1)", Fails("Timeout"))
    assert run.flights == ["was(1)"]
    run.land("was(1)", "R")
    assert run.state.status == "completed"


@pytest.mark.parametrize(("limit", "flights"), [("$0.70", ["was(1)"]), ("$0.69", [])])
def test_a_probe_may_take_all_that_is_left(limit: str, flights: list[str]) -> None:
    """What the probe itself holds while it is in flight does not count against it."""
    body = 'state s { call sure("1")  on in_doubt -> bad  -> done }'
    run = begun(TOOLS + agent(body, f"steps 9  cost {limit}")).land("sure(1)", Fails("Timeout"))
    assert run.flights == flights
    assert run.state.intents.keys() == ({"#1.1", "#1.1/confirm"} if flights else {"#1.1"})


@pytest.mark.parametrize(("limit", "flights"), [("$0.10", ["rated(1)"]), ("$0.09", [])])
def test_a_read_for_a_decision_may_take_all_that_is_left(limit: str, flights: list[str]) -> None:
    rated = "tool rated(q: string) -> int { effect reads  cost $0.10  timeout 5s }"
    rules = "policy { allow ship  fact f = rated(q = args.id)  forbid ship when f > 5 }  on error any -> bad"
    text = TOOLS + rated + agent('state s { call ship("1")  -> done }', f"steps 9  cost {limit}", rules)
    run = begun(text)
    assert run.flights == flights
    if flights:
        run.land("rated(1)", 1)
        assert run.flights == ["ship(1)"]
    else:
        assert run.state.final_state == "over"


def test_a_probe_that_does_not_fit_leaves_the_call_in_doubt_or_exceeds_and_sends_nothing() -> None:
    body = 'state s { call sure("1")  on in_doubt -> bad  -> done }'
    run = begun(TOOLS + agent(body, "steps 9  cost $0.50")).land("sure(1)", Fails("Timeout"))
    assert run.flights == []
    assert run.calls("was") == []
    assert run.state.final_state != "done"


# ---- approvals

TWICE = """state q { ask role "boss" to ship("1") "?" options approve, no timeout 9h
  on approve -> q2  on no -> bad  on denied -> bad  on timeout -> bad }
state q2 { ask role "boss" to ship("1") "once more?" options approve, no timeout 9h
  on approve -> go  on no -> bad  on denied -> bad  on timeout -> bad }
state go { call approved ship  on denied -> bad  on in_doubt -> bad  -> more }
state more { call approved ship  on denied -> bad  on in_doubt -> bad  -> third }
state third { call approved ship  on denied -> done  on in_doubt -> bad  -> bad }"""
ASKING = 'policy { allow ship  require approval q before ship when args.id == "never" }  on error any -> bad'


def test_an_approval_that_is_not_needed_is_not_used_up() -> None:
    run = begun(TOOLS + agent(TWICE, head=ASKING))
    answer(run, "approve")
    answer(run, "approve")
    assert run.flights == ["ship(1)"]
    assert [len(body["grants"]) for body in run.events("intent")] == [1]
    run.land("ship(1)", "A")
    assert run.flights == ["ship(1)"]
    run.land("ship(1)", "B")
    assert run.state.final_state == "done"  # there is no third one
    assert len({body["grants"][0] for body in run.events("intent")}) == 2


PROPOSED = """state t { think "hi" model free tools ship, bill max prompt 1k max tokens 1k timeout 5s as m
  when has(m.call) -> q  otherwise -> bad }
state q { ask role "boss" to proposed m "?" options approve approves, no timeout 9h
  on approve -> go  on no -> bad  on denied -> bad  on timeout -> bad }
state go { call approved ship  on denied -> over  on in_doubt -> bad  -> done }"""


@pytest.mark.parametrize(
    ("tool", "args", "flights"), [("ship", {"id": "1"}, ["ship(1)"]), ("bill", {"id": "1", "n": 5}, [])]
)
def test_an_approval_of_one_tool_is_none_of_another(tool: str, args: dict[str, Any], flights: list[str]) -> None:
    """Whoever was asked about what a model proposed has approved that call and no other."""
    text = TOOLS + 'model free { via scripted "x" }' + agent(PROPOSED, "steps 40  tokens 100k  cost $9")
    run = answer(begun(text).land("t", {"call": {"tool": tool, "args": args}}), "approve")
    assert run.flights == flights
    assert flights or run.state.final_state == "over"
    assert [grant.used_by for grant in run.state.grants.values()] == (["#3.1"] if flights else [None])


SHIP = """state q { ask role "boss" to ship("1") "?" options approve, no timeout 9h
  on approve -> go  on no -> bad  on denied -> bad  on timeout -> bad }"""
BRANCH = """branch one { start state q { ask role "boss" to ship("1") "?" options approve, no timeout 9h
  on approve -> e  on no -> e  on denied -> e  on timeout -> e }  state e { yields 1 } }"""
GO = "state go { call approved ship  on denied -> over  on in_doubt -> bad  -> done }"


@pytest.mark.parametrize(
    ("body", "used"),
    [
        (f"{SHIP}  {GO}", "#2.1"),
        (
            f"""{SHIP}  parallel go {{ branch one {{ call approved ship  on denied skip }}  branch two {{ wait 1h }}
            join all  on join -> done  on error JoinFailed -> over }}""",
            "go@2/one#1.1",
        ),
        (f"parallel p {{ {BRANCH}  join all  on join -> go  on error JoinFailed -> bad }}  {GO}", "#2.1"),
        (
            f"""parallel p {{ {BRANCH}  branch two {{ start state w {{ wait 1s  -> go }}
              state go {{ call approved ship  on denied -> e2  -> e2 }}  state e2 {{ yields 1 }} }}
            join all  on join -> over  on error JoinFailed -> bad }}""",
            None,
        ),
        (f"{SHIP}  state go {{ run kid()  on error any -> over  -> done }}", None),
        (f"state x {{ run asker()  -> go }}  {SHIP}  {GO}", None),
    ],
)
def test_an_approval_is_used_where_it_was_given_and_around_and_below(body: str, used: str | None) -> None:
    """Not in the branch beside it, nor in another agent, though its states have the same names."""
    kid = agent(f"state x {{ -> go }}  {SHIP}  {GO}", name="kid")
    asker = agent(SHIP.replace("-> go", "-> done"), name="asker")
    run = answer(begun(TOOLS + agent(body) + kid + asker), "approve")
    if used is None:
        run.at(run.now_ms + 1000)
    assert [grant.used_by for grant in run.state.grants.values()] == [used]
    assert run.flights == ([] if used is None else ["ship(1)"])
    assert used is not None or run.state.final_state == "over"


def test_every_approval_that_the_policy_wants_is_used_up() -> None:
    wanted = (
        "policy { allow ship  require approval q before ship  require approval q2 before ship }  on error any -> bad"
    )
    run = begun(TOOLS + agent(TWICE, head=wanted))
    answer(run, "approve")
    answer(run, "approve")
    assert run.flights == ["ship(1)"]
    (body,) = run.events("intent")
    assert sorted(body["grants"]) == ["q1", "q2"]
    assert [grant.used_by for grant in run.state.grants.values()] == ["#3.1", "#3.1"]
    run.land("ship(1)", "A")
    assert run.state.final_state == "bad"  # there is none left for the next call


# ---- taking back

RETURNS = """
tool sell(n: int) -> string { effect writes  undo refund(100 / n)  timeout 5s }
tool refund(n: int) { effect writes  timeout 5s }
"""


@pytest.mark.parametrize(("n", "flights"), [(5, ["refund(20)"]), (0, [])])
def test_what_cannot_be_taken_back_is_told_and_is_no_crash(n: int, flights: list[str]) -> None:
    body = f"state s {{ call sell({n})  on in_doubt -> bad  -> b }}  state b {{ undo all  -> t }}"
    body += "  state t { when size(undo.failed) > 0 -> bad  otherwise -> done }"
    head = "policy { allow sell, refund }  on error any -> bad"
    run = begun(TOOLS + RETURNS + agent(body, head=head)).land(f"sell({n})", "R")
    assert run.flights == flights
    if not flights:
        assert [(entry["tool"], entry["why"]) for entry in run.state.undo_failed] == [
            ("refund", "InvalidInput: division by zero")
        ]
        assert run.state.final_state == "bad"


# ---- crashes


def test_what_another_process_takes_over_says_so_and_since_when() -> None:
    run = begun(TOOLS + agent('state s { call look("1")  -> done }'))
    (record,) = recover(run.program, run.state, owner="worker-2", since_ms=1_000_500)
    assert (record.kind, record.body) == ("resumed", {"owner": "worker-2", "since_ms": 1_000_500})
    (record,) = recover(run.program, run.state)
    assert (record.kind, record.body) == ("resumed", {})


def test_a_run_that_has_ended_is_not_taken_over() -> None:
    run = begun(TOOLS + agent("state s { -> done }"))
    assert recover(run.program, run.state) == []


def test_the_time_since_which_a_process_watched_the_run_is_active_again() -> None:
    run = begun(TOOLS + agent('state s { call look("1")  -> done }'))
    run.now_ms += 60_000
    for record in recover(run.program, run.state, since_ms=run.now_ms - 10_000):
        run.append(record.kind, record.body)
    assert run.state.spent.active_ms == 10_000


def test_a_crash_leaves_what_is_in_doubt_as_it_is() -> None:
    body = 'parallel p { branch one { call ship("1") }  branch two { call ship("2") }  join all  on join -> done }'
    run = begun(TOOLS + agent(body)).land("ship(1)", Fails("Timeout"))
    before = run.state.parked
    run.take_over()
    assert run.state.parked == before
    assert [body["cmd"] for body in run.events("in_doubt")] == ["p@1/one#1.1", "p@1/two#1.1"]
    settle(run, True, "R1", "p@1/one#1.1")
    assert run.flights == []
    settle(run, True, "R2", "p@1/two#1.1")
    assert ends(run) == {"p@1/one": "done", "p@1/two": "done"}


def test_a_write_of_a_child_that_was_stopped_and_crashed_is_not_sent_again() -> None:
    text = (
        TOOLS
        + agent("state s { run kid()  -> done }", head=HEAD + "  on cancel -> bad")
        + agent('state s { call ship("1")  -> done }', name="kid")
    )
    run: Driver = begun(text)
    assert only(run, "intent")["home"] == "s@1/kid"
    cancel(run).take_over()
    assert len(run.calls("ship")) == 1
    assert run.flights == []


@pytest.mark.parametrize(
    ("arg", "rules", "flights"),
    [
        ('"1"', "", ["look(1)"]),
        ("string(spent.steps)", "", ["look(4)"]),
        ("string(spent.steps) + string(now)", "", ["look(41970-01-01T00:16:40Z)"]),
        ('"1"', "forbid look when attempted(ship) > 1", []),
        ('"1"', 'forbid look when succeeded(ship, id = "1") > 0', []),
        ('"1"', 'forbid look when args.q == "2"', ["look(1)"]),
        ('"1"', "never look after bill", ["look(1)"]),
    ],
)
def test_a_read_in_flight_is_what_another_process_would_make_now(arg: str, rules: str, flights: list[str]) -> None:
    """A free read is not frozen: every process that takes the run over comes to the same call, or to none."""
    body = f"""parallel p {{
      branch one {{ call look({arg})  on error any skip }}
      branch two {{ start state x {{ call ship("1")  on in_doubt -> y  -> y }}
        state y {{ call ship("2")  on in_doubt -> z  -> z }}  state z {{ yields 1 }} }}
      join all  on join -> done  on error JoinFailed -> bad }}"""
    run = begun(TOOLS + agent(body, head=HEAD.replace("}", f" {rules} }}")))
    run.land("ship(1)", "R")
    assert [flight for flight in run.flights if flight.startswith("look")] == flights
    before = run.flights
    assert run.take_over().flights == [flight for flight in before if not flight.startswith("ship")]
