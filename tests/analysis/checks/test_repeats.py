"""JAM605, JAM606 and JAM618: irreversible calls that a run may make again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.compiler import check_text
from jamjet_dsl.diagnostics.model import Diagnostic

PROGRAM = """
tool pay(to: string, n: int) {{ effect irreversible  {clauses}  timeout 5s  raises Rejected }}
tool look(n: int) -> string {{ effect reads  timeout 5s }}
tool paid(run: string) -> string? {{ effect reads  timeout 5s }}
const us: string = "us"
agent a version 1 {{
  input to: string, n: int, xs: list<string> 0..5
  policy {{ allow look, paid  {policy} }}
  on error any -> stop
  on denied -> stop
  on in_doubt -> stop
  {states}
  final done {{}}
  failed stop {{}}
}}
"""
WAIVED = 'allow pay without approval because "small"'
KID = """
agent kid version 1 {{
  input to: string
  policy {{ allow pay without approval because "small" }}
  on error any -> stop
  on denied -> stop
  on in_doubt -> stop
  start state go {{ {action}  -> done }}
  final done {{}}
  failed stop {{}}
}}
"""
ONCE = "start state go { call pay(to, n)  -> done }"
LOOP = "start state go { call pay(to, n)  -> go limit 3 else done }"


def found(states: str, clauses: str = "", policy: str = WAIVED, more: str = "") -> list[Diagnostic]:
    diagnostics = check_text(PROGRAM.format(states=states, clauses=clauses, policy=policy) + more)
    assert not [d for d in diagnostics if d.severity == "error"], diagnostics
    return [d for d in diagnostics if d.code in ("JAM605", "JAM606", "JAM618")]


def codes(states: str, clauses: str = "", policy: str = WAIVED, more: str = "") -> list[str]:
    return [d.code for d in found(states, clauses, policy, more)]


def way(diagnostic: Diagnostic) -> list[str]:
    return [f"{s.state} {s.edge}".strip() for s in diagnostic.path]


# ---- JAM605


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ("any", True),
        ("Timeout", True),
        ("RateLimited, Crashed", True),
        ("RateLimited, Unavailable", False),
        ("Rejected", False),
    ],
)
def test_a_retry_of_an_error_that_leaves_it_open_needs_a_key_or_a_confirm(errors, told):
    retry = f"retry {errors} 2 times"
    expected = ["JAM605"] if told else []
    assert codes(ONCE, retry) == expected
    assert codes(ONCE.replace("n)", f"n) {retry}")) == expected
    for known in ("key run.id + to", "confirm paid(run.id)"):
        assert codes(ONCE, f"{known}  {retry}") == []


def test_a_retry_of_what_only_writes_is_no_matter_of_this_check():
    text = PROGRAM.format(states=ONCE, clauses="retry any 2 times", policy=WAIVED).replace("irreversible", "writes")
    assert "JAM605" not in [d.code for d in check_text(text)]


# ---- JAM606


@pytest.mark.parametrize(
    "states",
    [
        LOOP,
        "start state go { call pay(to, n)  on in_doubt -> go limit 2 else stop  -> done }",
        "start state go { each x in xs { call pay(x, n) } -> done }",
        "start state go { call pay(to, n)  -> two }  state two { call pay(us, n)  -> done }",
        "start parallel both { branch u { call pay(to, n) } branch v { call pay(us, n) } join all  on join -> done }",
    ],
)
def test_a_call_that_comes_again_is_reported_unless_something_tells_the_calls_apart(states):
    problems = found(states)
    assert problems
    assert {d.code for d in problems} == {"JAM606"}
    assert all(d.path for d in problems)
    assert "JAM606" in codes(states, "confirm paid(run.id)")
    assert "JAM606" not in codes(states, "key run.id + to + string(n)")
    assert codes(states, policy=WAIVED + "  limit pay 4 calls") == []
    counted = WAIVED + "  forbid pay when attempted(pay, to = args.to) > 1"
    assert codes(states, policy=counted) == []


@pytest.mark.parametrize(
    "states",
    [
        ONCE,
        "start state go { call pay(to, n)  on error Rejected -> go limit 2 else stop  -> done }",
        "start state go { call pay(to, n)  on denied -> go limit 2 else stop  -> done }",
        "start state go { when n > 3 -> one  otherwise -> two }  state one { call pay(to, n)  -> done }"
        "  state two { call pay(us, n)  -> done }",
        "start state go { call pay(to, n)  when n > 3 && n < 2 -> go limit 3 else done  otherwise -> done }",
        "start state go { each x in [to] { call pay(x, n) } -> done }",
        "start parallel both { branch u { start state p { call pay(to, n)  -> e }  final e {} }"
        " branch v { call look(n) } join all  on join -> done }",
    ],
)
def test_a_call_that_happens_once_is_not(states):
    assert codes(states) == []
    assert codes(states, "key run.id") == []


def test_an_approval_each_time_is_enough():
    states = """start state review {
      ask role "o" to pay(to, n) "?"  timeout 1h  on approve -> go  on decline -> stop  on timeout -> stop
    }
    state go { call approved pay  -> review limit 3 else done }"""
    assert codes(states, policy="allow pay") == []
    assert codes(states, "key run.id + to", "allow pay") == ["JAM618"]


def test_a_call_that_a_model_proposes_again_counts_if_it_needs_no_approval():
    states = """start state d {
      think "x" tools pay, look  model m max tokens 1k max prompt 4k timeout 5s as move
      when has(move.call) -> act
      otherwise -> done
    }
    state act { call proposed move  -> d limit 5 else done }"""
    assert codes(states) == ["JAM606"]
    assert codes(states, "key run.id + to") == []
    assert codes(states, "key run.id") == ["JAM618"]


@pytest.mark.parametrize(
    ("clauses", "retry", "told"),
    [
        ("", "retry ChildFailed 2 times", True),
        ("key run.id + to", "retry any 2 times", True),
        ("key to", "retry ChildFailed 2 times", False),
        ("", "retry InvalidInput 2 times", False),
        ("", "", False),
    ],
)
def test_a_child_that_is_run_again_after_it_failed_calls_again(clauses, retry, told):
    states = f"start state go {{ run kid(to) {retry}  -> done }}"
    kid = KID.format(action="call pay(to, 5)")
    assert codes(states, clauses, more=kid) == (["JAM606"] if told else [])


def test_a_child_on_a_cycle_calls_each_time_and_has_a_run_of_its_own():
    states = "start state go { run kid(to)  -> go limit 2 else done }"
    kid = KID.format(action="call pay(to, 5)")
    (problem,) = found(states, more=kid)
    assert (problem.code, way(problem)) == ("JAM606", ["go then", "go"])
    assert codes(states, "key run.id", more=kid) == []
    assert codes(states, more=KID.format(action="call look(3)").replace("allow pay", "allow look, pay")) == []


# ---- JAM618

SECOND = "start state go {{ call pay({}, n)  -> two }}  state two {{ call pay({}, n)  -> done }}"


@pytest.mark.parametrize(
    ("key", "first", "second", "same"),
    [
        ("run.id", "to", "us", True),
        ('"pay"', "to", "us", True),
        ("us + run.id", "to", "us", True),
        ("run.id + to", "to", "to", True),
        ("run.id + args.to", "us", "us", True),
        ("run.id + to", '"a"', '"a"', True),
        ("run.id + to", "to", "us", False),
        ("run.id + to", '"a"', '"b"', False),
    ],
)
def test_one_key_for_two_calls(key, first, second, same):
    problems = found(SECOND.format(first, second), f"key {key}")
    assert [d.code for d in problems] == (["JAM618"] if same else [])
    for problem in problems:
        assert way(problem) == ["go then", "two"]
        assert [label.text for label in problem.labels] == ["the key", "called before"]


def test_a_key_of_what_an_item_or_a_variable_gives_is_taken_to_differ():
    each = "start state go { each x in xs { call pay(%s, n) } -> done }"
    assert codes(each % "x", "key run.id + to") == []
    assert codes(each % "to", "key run.id + to") == ["JAM618"]


def test_what_the_policy_limits_to_one_call_happens_once():
    assert codes(LOOP, "key run.id", WAIVED + "  limit pay 1 call") == []
    assert codes(LOOP, "key run.id", WAIVED + "  limit pay 2 calls") == ["JAM618"]


# ---- against all walks of small graphs

PLACES = ("s", "one", "two")
TARGETS = st.sampled_from((*PLACES, "done"))


@settings(max_examples=100)
@given(st.tuples(*[st.tuples(TARGETS, TARGETS, TARGETS)] * len(PLACES)), st.booleans())
def test_a_walk_that_calls_twice_is_found_iff_there_is_one(targets, keyed):
    edges = dict(zip(PLACES, targets, strict=True))
    states = []
    for place, (x, y, z) in edges.items():
        action = "call look(n)" if place == "s" else "call pay(to, n)"
        ways = f"on error any -> {x}  when n > 0 -> {y}  otherwise -> {z}"
        states.append(f"{'start ' if place == 's' else ''}state {place} {{ {action}  {ways} }}")
    # An error leaves a call behind that did not happen, whatever comes then.
    reached = closure({"s"}, edges, range(3))
    again = {
        second
        for first in ("one", "two")
        if first in reached
        for second in closure(set(edges[first][1:]), edges, range(3)) & {"one", "two"}
    }
    # That cycles are bounded is not looked at here: JAM304 is the only error.
    text = PROGRAM.format(states="\n".join(states), clauses="key run.id" if keyed else "", policy=WAIVED)
    problems = [d for d in check_text(text) if d.code in ("JAM606", "JAM618")]
    assert {d.code for d in problems} <= {"JAM618" if keyed else "JAM606"}
    assert {d.path[-1].state for d in problems} == again


def closure(begin: set[str], edges: dict[str, tuple[str, str, str]], ways: range) -> set[str]:
    seen = set(begin)
    todo = list(begin)
    while todo:
        at = todo.pop()
        following = {edges[at][n] for n in ways} if at in edges else set()
        todo += following - seen
        seen |= following
    return seen
