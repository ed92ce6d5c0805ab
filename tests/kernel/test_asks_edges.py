"""Questions about calls: what they count and concern, which approvals a call uses up, and what a model is told."""

from __future__ import annotations

import pytest

from jamjet_dsl.kernel import inputs, monitors
from jamjet_dsl.kernel.machine import decide
from jamjet_dsl.kernel.model import Call, Count
from jamjet_dsl.kernel.recovery import recover
from tests.kernel.driver import Driver, Fails
from tests.kernel.source import answer, begun, compiled, only, send, settle

TOOLS = """
tool look(q: string, n: int?) -> string { effect reads  timeout 5s  retry Unavailable 1 times }
tool web(q: string) -> string untrusted { effect reads  timeout 5s }
tool rated(q: string) -> int { effect reads  timeout 5s }
tool ship(id: string) -> string { effect writes  timeout 5s }
tool keyed(id: string) -> string { effect writes  key id  timeout 5s  retry RateLimited 1 times }
tool sure(id: string) -> string { effect writes  timeout 5s  confirm was(id) }
tool was(id: string) -> string? { effect reads  timeout 5s }
model free { via scripted "x" }
"""
ANY = "allow look, web, ship, keyed, sure, was"


def agent(body: str, rules: str = ANY, head: str = "", name: str = "a", budget: str = "steps 40  tokens 90k") -> str:
    return f"""agent {name} version 1 {{
      {head}
      output r: string
      budget {{ {budget}  exceeded -> over }}
      policy {{ {rules} }}
      on error any -> bad
      start {body}
      final done {{ r = "done" }}  failed bad {{ r = "bad" }}  failed over {{ r = "over" }}
    }}
    """


def ask(state: str, to: str, name: str = "", call: str = 'ship("1")') -> str:
    bound = f" as {name}" if name else ""
    return f"""state {state} {{ ask role "boss" to {call} "{state}?" options approve, no timeout 9h {bound}
      on approve -> {to}  on no -> bad  on denied -> over  on timeout -> bad }}"""


# ---- approvals


def test_an_approval_that_the_call_is_made_from_is_counted_once() -> None:
    """Also where another one was given later."""
    rules = f"{ANY}  require approval q before ship  require approval q2 before ship"
    go = "state go { call approved one  on denied -> bad  on in_doubt -> bad  -> done }"
    run = begun(TOOLS + agent(ask("q", "q2", "one") + ask("q2", "go") + go, rules))
    answer(answer(run, "approve"), "approve")
    assert only(run, "intent")["grants"] == ["q1", "q2"]


def test_a_call_that_is_made_in_spite_of_the_policy_uses_up_one_approval() -> None:
    """The one that it was made from: the others may still be what the next call needs."""
    rules = f'{ANY}  forbid ship when args.id == "1"'
    go = "state go { call approved ship  on denied -> bad  on in_doubt -> bad  -> done }"
    text = TOOLS + agent(ask("q", "q2") + ask("q2", "go") + go, rules)
    run = Driver(compiled(text)).start({}, policy="shadow").begin()
    answer(answer(run, "approve"), "approve")
    assert run.flights == ["ship(1)"]
    assert only(run, "intent")["grants"] == ["q2"]
    assert [grant.used_by for grant in run.state.grants.values()] == [None, "#3.1"]


def test_what_the_policy_around_refuses_is_not_asked_about() -> None:
    kid = agent(ask("q", "go") + "state go { call approved ship  on in_doubt -> bad  -> done }", name="kid")
    body = "state x { run kid()  on error any -> done  -> bad }"
    refused = begun(TOOLS + agent(body, f'{ANY}  forbid ship when args.id == "1"') + kid)
    assert (refused.state.questions, refused.events("asked")) == ({}, [])
    assert only(refused, "denied")["decision"]["reason"].startswith("`a`: `ship` is forbidden")
    assert refused.state.final_state == "done"
    asked = begun(TOOLS + agent(body, f'{ANY}  forbid ship when args.id == "2"') + kid)
    assert [question.state for question in asked.state.questions.values()] == ["q"]


@pytest.mark.parametrize(("used", "asked"), [(0, 1), (1, 0)])
def test_what_all_runs_have_used_up_is_not_asked_about(used: int, asked: int) -> None:
    text = TOOLS + agent(ask("q", "done"), f"{ANY}  limit ship 1 call per principal")
    run = Driver(compiled(text)).start({}, {"id": "ann", "roles": []})
    run.used = {1: (used, "0")}
    run.begin()
    assert len(run.events("asked")) == asked
    assert asked or run.state.final_state == "over"


def test_what_others_have_used_is_asked_again_if_something_happens_before_the_call() -> None:
    head = "event ping(n: int)"
    body = 'state s { call ship("1")  on event ping -> done  on in_doubt -> bad  on denied -> over  -> done }'
    text = TOOLS + agent(body, f"{ANY}  limit ship 1 call per principal", head)
    run = Driver(compiled(text)).start({}, {"id": "ann", "roles": []})
    (count,) = decide(run.program, run.state)
    assert isinstance(count, Count)
    run.append("counted", {"cmd": count.id, "used": [[s.home, s.rule, 0, "0"] for s in count.shares]})
    assert isinstance(decide(run.program, run.state)[0], Call)
    send(run, "ping", {"n": 1})
    assert run.kinds.count("counted") == 2


def test_facts_are_kept_under_keys_that_stay_what_they_are() -> None:
    """Journals hold them: a later version finds what an earlier one read."""
    rules = f"{ANY}  fact f = rated(q = args.id)  forbid ship when f > 5"
    call = 'state s { call ship("1")  on in_doubt -> bad  on denied -> bad  -> done }'
    run = begun(TOOLS + agent(call, rules))
    run.land("rated(1)", 1)
    assert only(run, "fact")["key"] == 'f\x1f[{"q":"1"}]'
    run = begun(TOOLS + agent("state x { run kid()  -> done }") + agent(call, rules, name="kid"))
    run.land("rated(1)", 1)
    assert only(run, "fact")["key"] == 'x@1/kid\x1ff\x1f[{"q":"1"}]'


# ---- what a model proposed

MOVES = """state t { think "hi" in talk model free tools look, ship max prompt 1k max tokens 1k timeout 5s as m
  when has(m.call) -> go  otherwise -> bad }
state go { call proposed m  on denied -> bad  on in_doubt -> bad  -> done }"""
TALK = "var talk: conversation"


def test_a_read_that_a_model_proposed_is_tried_again_as_its_tool_says() -> None:
    run = begun(TOOLS + agent(MOVES, head=TALK)).land("t", {"call": {"tool": "look", "args": {"q": "1", "n": 2}}})
    run.land("look(1, 2)", Fails("Unavailable"))
    assert run.flights == ["look(1, 2)"]
    run.land("look(1, 2)", Fails("Unavailable"))
    assert run.state.final_state == "bad"


def test_a_parameter_that_may_be_left_out_is_null() -> None:
    run = begun(TOOLS + agent(MOVES, head=TALK)).land("t", {"call": {"tool": "look", "args": {"q": "1"}}})
    assert run.flight("look(1, None)").args == {"q": "1", "n": None}  # type: ignore[union-attr]


@pytest.mark.parametrize(("said", "more"), [([], 0), (["x" * 1000], 1000)])
def test_what_was_said_before_counts_where_a_prompt_has_no_limit(said: list[str], more: int) -> None:
    """A model is sent the whole conversation: its bytes bound its tokens."""
    first = 'state f { think "a" in talk model free max prompt 5k max tokens 2k timeout 5s as w: string  -> t }'
    body = first + 'state t { think "hi" in talk model free max tokens 1k timeout 5s as v: string  -> done }'
    plain = begun(TOOLS + agent(body, head=TALK)).land("f", "")
    told = begun(TOOLS + agent(body, head=TALK)).land("f", "".join(said))
    held = [run.events("intent")[1]["reserve"]["tokens"] for run in (plain, told)]
    assert held[1] - held[0] == more
    assert held[0] > 1000


@pytest.mark.parametrize(("tool", "untrusted"), [("web", True), ("look", False)])
def test_what_a_model_says_after_untrusted_text_in_its_conversation_is_untrusted(tool: str, untrusted: bool) -> None:
    body = f"""state t {{ think "hi" in talk model free tools {tool} max prompt 1k max tokens 1k timeout 5s as m
        when has(m.call) -> go  otherwise -> bad }}
      state go {{ call proposed m  on denied -> bad  -> u }}
      state u {{ think "so?" in talk model free max prompt 1k max tokens 1k timeout 5s as w: string  -> done }}"""
    run = begun(TOOLS + agent(body, head=TALK)).land("t", {"call": {"tool": tool, "args": {"q": "1"}}})
    run.land(run.flights[0], "found")
    run.land("u", "well")
    first, second = (body for body in run.events("intent") if body.get("does") == "think")
    assert "untrusted" not in first
    assert second.get("untrusted", False) is untrusted
    assert run.events("succeeded")[-1].get("untrusted", False) is untrusted
    assert run.state.provenance.get("w", frozenset()) == (frozenset({"untrusted"}) if untrusted else frozenset())


# ---- what may have happened


def test_a_call_of_which_a_probe_tells_that_it_happened_counts_as_one_that_succeeded() -> None:
    run = begun(TOOLS + agent('state s { call sure("1")  on in_doubt -> bad  -> done }'))
    run.land("sure(1)", Fails("Timeout"))
    run.land("was(1)", "A")
    assert run.state.final_state == "done"
    assert monitors.calls(run.state.monitors, "sure", "succeeded") == 1
    assert monitors.calls(run.state.monitors, "sure", "failed") == 0


def test_a_call_of_which_a_person_tells_that_it_happened_counts_as_one_that_succeeded() -> None:
    run = begun(TOOLS + agent('state s { call ship("1")  -> done }')).land("ship(1)", Fails("Timeout"))
    assert run.state.status == "parked"
    settle(run, True, "A")
    assert run.state.final_state == "done"
    assert monitors.calls(run.state.monitors, "ship", "succeeded") == 1


def test_a_further_attempt_that_was_never_begun_leaves_nothing_open_after_an_error_that_was_certain() -> None:
    run = begun(TOOLS + agent('state s { call keyed("1")  on in_doubt -> bad  -> done }'))
    run.land("keyed(1)", Fails("RateLimited"))
    assert list(run.state.intents) == ["#1.2"]
    run.append("unsent", {"cmd": "#1.2"})
    assert run.state.intents == {}


def test_a_run_that_is_parked_for_one_doubt_stays_parked_while_another_one_is_settled() -> None:
    body = """parallel p { branch one { call ship("1") }  branch two { call ship("2") }
      join all  on join -> done  on error JoinFailed -> bad }"""
    run = begun(TOOLS + agent(body)).take_over()
    assert run.state.parked is not None
    assert run.state.parked["frame"] == "p@1/one"
    settle(run, True, "B", cmd="p@1/two#1.1")
    assert (run.state.status, run.kinds.count("parked")) == ("parked", 1)
    settle(run, True, "A", cmd="p@1/one#1.1")
    assert run.state.final_state == "done"


def test_a_doubt_may_be_settled_before_the_run_is_parked_for_it() -> None:
    run = begun(TOOLS + agent('state s { call ship("1")  -> done }'))
    for record in recover(run.program, run.state):
        run.append(record.kind, record.body)
    run.append(*inputs.settle(run.program, run.state, True, "A", "op", ""))
    assert run.begin().state.final_state == "done"
    assert "parked" not in run.kinds


@pytest.mark.parametrize(("later", "flights"), [(1, ["ship(1)"]), (2, [])])
def test_an_approval_in_a_child_is_bound_to_the_facts_of_the_policy_around_it(later: int, flights: list[str]) -> None:
    go = "state go { call approved ship  on denied -> over  on in_doubt -> bad  -> done }"
    rules = f"{ANY}  fact f = rated(q = args.id)  forbid ship when f > 5"
    text = TOOLS + agent("state x { run kid()  -> done }", rules) + agent(ask("q", "go") + go, name="kid")
    run = begun(text).land("rated(1)", 1)
    answer(run, "approve").land("rated(1)", later)
    assert run.flights == flights
    if not flights:
        assert "the facts were others" in only(run, "denied")["decision"]["reason"]
