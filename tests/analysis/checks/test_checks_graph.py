"""The checks of the graph, case by case: what is found, where, with which path, and what is left alone."""

from __future__ import annotations

import pytest

from jamjet_dsl.compiler import check_text
from jamjet_dsl.diagnostics.model import Diagnostic

TOOLS = """
tool ping() -> bool { effect reads  raises Down }
tool pay(to: string) { effect writes  raises Refused }
"""


def found(body: str, *codes: str, tools: str = TOOLS) -> list[Diagnostic]:
    """The findings of these codes about an agent with this body."""
    all_found = [d for d in check_text(f"{tools}\nagent a version 1 {{\n{body}\n}}\n", "a.jam") if d.code != "JAM107"]
    assert not [d for d in all_found if d.code[:4] in ("JAM0", "JAM1")], [d.message for d in all_found]
    return [d for d in all_found if not codes or d.code in codes]


def told(body: str, *codes: str) -> list[tuple[str, str]]:
    """The same as (code, text under the carets)."""
    return [(d.code, d.span.text) for d in found(body, *codes)]


def path(finding: Diagnostic) -> str:
    return " ".join(f"{step.state} --{step.edge}-->" if step.edge else step.state for step in finding.path)


# ---- start and reach


def test_an_agent_without_states_has_no_start():
    assert told("", "JAM201") == [("JAM201", "a")]


def test_each_further_start_is_reported_at_its_name():
    body = "start state one { -> done } start state two { -> done } start state three { -> done } final done {}"
    assert told(body, "JAM201") == [("JAM201", "two"), ("JAM201", "three")]


def test_states_behind_an_unreachable_one_are_named_with_it():
    body = "start state one { -> done } state two { -> three } state three { -> done } final done {}"
    (finding,) = found(body, "JAM202")
    assert (finding.span.text, [label.span.text for label in finding.labels]) == ("two", ["three"])


def test_an_unreachable_cycle_is_one_finding():
    body = "start state one { -> done } state two { wait 1h -> three } state three { wait 1h -> two } final done {}"
    assert told(body, "JAM202") == [("JAM202", "two")]


def test_two_unreachable_places_are_two_findings():
    body = "start state one { -> done } state two { -> done } state three { -> done } final done {}"
    assert told(body, "JAM202") == [("JAM202", "two"), ("JAM202", "three")]


@pytest.mark.parametrize(
    ("way", "body"),
    [
        ("a handler", "on error any -> late start state one { call ping() -> done }"),
        ("exceeded", "budget { steps 3 exceeded -> late } start state one { call ping() -> done }"),
        ("a limit's else", "start state one { call ping() when true -> one limit 2 else late otherwise -> done }"),
        ("a cancel handler", "on cancel -> late start state one { wait 1h -> done }"),
    ],
)
def test_a_state_is_reached_by(way, body):
    assert not found(f"policy {{ allow ping }} {body} final done {{}} final late {{}}", "JAM202"), way


def test_a_handler_that_nothing_triggers_reaches_nothing():
    body = "on error Down -> late start state one { wait 1h -> done } final done {} final late {}"
    assert told(body, "JAM202", "JAM210") == [("JAM210", "Down"), ("JAM202", "late")]


def test_a_misspelt_target_makes_nothing_unreachable():
    text = "agent a version 1 { start state one { -> twoo } state two { -> done } final done {} }"
    assert [d.code for d in check_text(text, "a.jam")] == ["JAM101"]


# ---- no way on, no way out


@pytest.mark.parametrize(
    "edges",
    ["", "on error any -> done", "on event go -> done", "on denied -> done", "on error Down -> done on denied -> done"],
)
def test_a_state_whose_action_went_well_needs_an_edge(edges):
    body = f"policy {{ allow ping }} event go() start state one {{ call ping() {edges} }} final done {{}}"
    assert ("JAM203", "one") in told(body, "JAM203")


@pytest.mark.parametrize("edges", ["-> done", "when true -> done", "otherwise -> done"])
def test_any_edge_for_success_is_a_way_on(edges):
    body = f"policy {{ allow ping }} start state one {{ call ping() {edges} }} final done {{}}"
    assert not found(body, "JAM203")


def test_an_answer_without_an_edge_is_told_once():
    body = 'start state one { ask role "boss" "Well?" options yes, no timeout 1h on timeout -> done } final done {}'
    assert {code for code, _ in told(body)} == {"JAM212"}


def test_states_that_only_lead_into_a_trap_are_not_reported():
    body = "start state one { -> two } state two { -> three } state three { wait 1h } final done {}"
    assert told(body, "JAM203", "JAM204") == [("JAM203", "three")]


def test_a_body_may_end_without_an_edge():
    body = """policy { allow ping } input hosts: list<string> 0..3
      start state one { each h in hosts { call ping() } -> done } final done {}"""
    assert not found(body, "JAM203", "JAM204")


def test_states_that_cannot_reach_a_final_are_one_finding_with_their_cycle():
    body = """budget { steps 9 exceeded -> done } on cancel -> done
      start state one { wait 1h -> two } state two { wait 1h -> three } state three { wait 1h -> two } final done {}"""
    (finding,) = found(body, "JAM204")
    assert (finding.span.text, path(finding)) == ("two", "two --then--> three --then--> two")


def test_an_agent_without_finals_is_told_once():
    assert told("start state one { wait 1h -> two } state two { wait 1h -> one }", "JAM204") == [("JAM204", "one")]


# ---- edges


def test_doubles_are_found_among_handlers_too():
    body = """policy { allow ping } on error any -> done on error any -> done
      start state one { call ping() -> done } final done {}"""
    (finding,) = found(body, "JAM208")
    assert finding.span.start > finding.labels[0].span.start


@pytest.mark.parametrize("trigger", ["error Down", "denied", "event go"])
def test_a_second_edge_for_the_same_thing_is_reported(trigger):
    body = f"""policy {{ allow ping }} event go()
      start state one {{ call ping() on {trigger} -> done on {trigger} -> one limit 2 else done -> done }}
      final done {{}}"""
    assert [code for code, _ in told(body, "JAM208")] == ["JAM208"]


def test_an_error_that_two_edges_name_is_reported_once_at_the_second():
    body = """policy { allow ping }
      start state one { call ping() on error Down, Timeout -> done on error Crashed, Timeout -> done -> done }
      final done {}"""
    assert len(found(body, "JAM208")) == 1


@pytest.mark.parametrize(("edges", "late"), [("any Down", ["on error Down"]), ("Down any", []), ("any any", [])])
def test_a_handler_behind_the_one_for_all_errors_is_never_reached(edges, late):
    handlers = " ".join(f"on error {error} -> done" for error in edges.split())
    body = f"policy {{ allow ping }} start state one {{ call ping() {handlers} -> done }} final done {{}}"
    assert [f"on {d.span.text.removeprefix('on ')}" for d in found(body, "JAM209")] == late
    body = f"policy {{ allow ping }} {handlers} start state one {{ call ping() -> done }} final done {{}}"
    assert len(found(body, "JAM209")) == len(late)


def test_several_guards_and_one_otherwise_are_one_exit_each():
    body = (
        "input x: bool start state one { when x -> done when !x -> late otherwise -> done } final done {} final late {}"
    )
    assert not found(body, "JAM208", "JAM214")


@pytest.mark.parametrize("error", ["Timeout", "Disconnected", "Crashed", "InvalidOutput"])
def test_an_indefinite_error_of_a_write_never_arrives(error):
    body = f"""policy {{ allow pay }}
      start state one {{ call pay("x") on error {error} -> done on error any -> done -> done }} final done {{}}"""
    (finding,) = found(body, "JAM210")
    assert finding.span.text == error
    assert "on in_doubt" in finding.help


@pytest.mark.parametrize("error", ["Timeout", "RateLimited", "Crashed", "InvalidOutput", "Down"])
def test_errors_of_a_read_may_arrive(error):
    body = f"""policy {{ allow ping }}
      start state one {{ call ping() on error {error} -> done on error any -> done -> done }} final done {{}}"""
    assert not found(body, "JAM210")


def test_an_error_of_another_tool_cannot_be_retried_for():
    body = """policy { allow ping } on error any -> done
      start state one { call ping() retry Refused 2 times -> done } final done {}"""
    assert told(body, "JAM210") == [("JAM210", "Refused")]


def test_a_retry_after_an_indefinite_error_is_no_handler_for_it():
    body = """policy { allow pay } on error any -> done
      start state one { call pay("x") retry Timeout 2 times on in_doubt -> done -> done } final done {}"""
    assert not found(body, "JAM210")


def test_a_declared_error_is_handled_by_the_state_or_by_the_agent():
    state = "start state one { call ping() %s -> done } final done {}"
    assert told("policy { allow ping } " + state % "", "JAM211") == [("JAM211", "call ping()")]
    assert not found("policy { allow ping } " + state % "on error Down -> done", "JAM211")
    assert not found("policy { allow ping } on error Down -> done " + state % "", "JAM211")
    assert not found("policy { allow ping } on error any -> done " + state % "", "JAM211")


def test_a_declared_error_ends_an_item_and_needs_no_handler_there():
    body = """policy { allow ping } input hosts: list<string> 0..3 on error any -> done
      start state one { each h in hosts { call ping() } -> done } final done {}"""
    assert not found(body, "JAM211")


def test_an_event_is_taken_by_a_wait_or_an_edge():
    body = "event go() start state one { wait for event go timeout 1h on timeout -> done -> done } final done {}"
    assert not found(body, "JAM213")
    assert not found("event go() start state one { wait 1h on event go -> done -> done } final done {}", "JAM213")
    assert told("event go() start state one { wait 1h -> done } final done {}", "JAM213") == [("JAM213", "go")]


# ---- cycles


def test_a_way_back_by_a_handler_is_a_cycle():
    body = """policy { allow ping } on error any -> late
      start state one { call ping() -> done } state late { wait 1h -> one } final done {}"""
    (finding,) = found(body, "JAM304")
    assert path(finding) == "one --on error any (handler)--> late --then--> one"


def test_an_error_in_the_state_that_handles_errors_parks():
    body = "policy { allow ping } on error any -> one start state one { call ping() -> done } final done {}"
    assert not found(body, "JAM304")


@pytest.mark.parametrize(
    ("state", "reaches"),
    [
        ("wait 1h when 10 / k > 2 -> done otherwise -> done", True),
        ("wait 1h set n = k + 1 -> done", True),
        ('ask role "boss" "Well?" timeout 1h -> done', True),
        ('ask role "boss" "Well?" timeout 1h on timeout -> done -> done', False),
        ("wait for event go timeout 1h -> done", True),
        ("wait 1h when k > 2 && names.exists(x, x == name) -> done otherwise -> done", False),
    ],
)
def test_errors_that_are_no_action_s_reach_the_handler_too(state, reaches):
    body = f"""input k: int, names: list<string>, name: string var n: int event go() on error any -> late
      start state one {{ {state} }} final done {{}} final late {{}}"""
    assert bool(found(body, "JAM202")) != reaches


def test_a_limit_anywhere_on_a_cycle_bounds_it():
    body = """start state one { wait 1h -> two } state two { wait 1h -> three }
      state three { wait 1h when true -> one limit 2 else done otherwise -> done } final done {}"""
    assert not found(body, "JAM304", "JAM305", "JAM215")


def test_the_alternative_of_a_limit_is_not_limited():
    body = """start state one { wait 1h -> two limit 2 else two }
      state two { wait 1h when true -> one otherwise -> done } final done {}"""
    (finding,) = found(body, "JAM304")
    assert path(finding) == "one --then, limit used up--> two --when true--> one"


def test_two_cycles_are_bounded_one_by_one():
    body = """start state one { wait 1h when true -> one otherwise -> two }
      state two { wait 1h when true -> two limit 3 else done otherwise -> done } final done {}"""
    assert told(body, "JAM304") == [("JAM304", "one")]


def test_exceeding_the_budget_closes_no_cycle():
    body = """budget { steps 9 exceeded -> one }
      start state one { wait 1h -> two } state two { wait 1h -> done } final done {}"""
    assert not found(body, "JAM304", "JAM305")


def test_a_cycle_inside_a_branch_is_found():
    body = """start parallel both {
        branch left { state in1 { wait 1h -> in2 } state in2 { wait 1h -> in1 } }
        branch right { wait 1h }
        join any on join -> done } final done {}"""
    assert told(body, "JAM304") == [("JAM304", "in1")]


def test_a_cycle_without_action_is_told_as_that_alone():
    body = "input x: bool start state one { when x -> two otherwise -> done } state two { -> one } final done {}"
    assert told(body) == [("JAM215", "one")]


def test_a_limited_cycle_that_sets_something_does_something():
    body = """var n: int = 0
      start state one { set n = n + 1 when n < 3 -> one limit 5 else done otherwise -> done } final done {}"""
    assert not found(body, "JAM215")
    body = "input x: bool start state one { when x -> one limit 5 else done otherwise -> done } final done {}"
    assert told(body, "JAM215") == [("JAM215", "one")]


# ---- tests that cannot pass


@pytest.mark.parametrize(
    ("states", "where"),
    [("one, two, done", None), ("two, done", "two"), ("one, done", "done"), ("one, two", None), ("one", None)],
)
def test_an_expected_path_follows_the_graph(states, where):
    text = f"""
      agent a version 1 {{ start state one {{ wait 1h -> two }} state two {{ wait 1h -> done }} final done {{}} }}
      test "t" for a {{ expect path {states} }}"""
    assert [d.span.text for d in check_text(text, "a.jam") if d.code == "JAM903"] == ([where] if where else [])


def test_a_final_whose_output_fails_is_left_for_the_handler_of_errors() -> None:
    text = """
      agent a version 1 { input x: int output n: int on error any -> over on denied -> late
        start state one { wait 1h -> done } final done { n = 10 / x } final over { n = 0 } final late { n = 1 } }
      test "t" for a { input x = 0 expect path one, done, over }
      test "u" for a { input x = 0 expect path one, done, late }"""
    assert [d.span.text for d in check_text(text, "a.jam") if d.code == "JAM903"] == ["late"]
