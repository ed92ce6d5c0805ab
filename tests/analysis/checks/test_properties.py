"""The `check` clauses: what is proved, refuted or said not to be verified; and against all walks of small graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.analysis.checks.properties import check_properties
from jamjet_dsl.compiler import analyse_text
from jamjet_dsl.diagnostics.model import Diagnostic

TOOLS = """
tool t(n: int) -> list<int> { effect reads  timeout 5s }
tool pay(n: int) { effect irreversible  key run.id  timeout 5s }
"""
AGENT = """
agent a version 1 {{
  input n: int, xs: list<int>, few: list<int> 1..2
  {head}
  on error any -> stop
  on denied -> stop
  on in_doubt -> stop
  {states}
  final done {{}}
  failed stop {{}}
}}
"""


def found(check: str, states: str, head: str = "policy { allow t, pay }", before: str = "") -> list[Diagnostic]:
    result = analyse_text(TOOLS + before + AGENT.format(head=f"{head}\n  check {check}", states=states))
    problems = [d for d in result.diagnostics if d.code[:4] in ("JAM0", "JAM1", "JAM4") and d.severity == "error"]
    assert not problems, problems
    agent = result.analysis.agents[-1]
    return list(check_properties(agent, result.analysis))


def one(check: str, states: str, head: str = "policy { allow t, pay }", before: str = "") -> Diagnostic:
    (problem,) = found(check, states, head, before)
    return problem


def way(diagnostic: Diagnostic) -> list[str]:
    return [f"{s.state} {s.edge}".strip() for s in diagnostic.path]


# ---- every path to S passes A

DIAMOND = """start state s { when n > 5 -> left  otherwise -> right }
  state left { wait 1h  -> join }
  state right { wait 1h  -> join }
  state join { wait 1h  -> done }"""


def test_a_state_on_every_path_is_passed():
    assert found("every path to done passes join", DIAMOND) == []
    assert found("every path to done passes s, join", DIAMOND) == []
    assert found("every path to done passes done", DIAMOND) == []


def test_a_state_that_a_path_leaves_out_is_refuted_with_the_path():
    problem = one("every path to done passes join, left", DIAMOND)
    assert (problem.code, problem.message) == ("JAM905", "a path reaches `done` without passing `left`")
    assert way(problem) == ["s otherwise", "right then", "join then", "done"]


def test_a_property_of_a_state_that_no_path_reaches_says_nothing():
    problem = one("every path to lost passes s", DIAMOND + "\n  state lost { wait 1h  -> done }")
    assert (problem.code, problem.message) == (
        "JAM907",
        "not verified: no path reaches `lost`, so this says nothing",
    )


PARALLEL = """start parallel both {
    branch one {
      state b1 { wait 1h  -> b2 }
      state b2 { wait 1h  -> b3 }
      final b3 {}
    }
    branch two { wait 2h }
    join any
    on join -> done
  }"""


def test_states_inside_a_branch_are_followed_only_from_inside():
    assert found("every path to b2 passes b1", PARALLEL) == []
    assert found("every path to b2 passes both", PARALLEL) == []
    problem = one("every path to done passes b1", PARALLEL)
    assert problem.message == "not verified: `b1` is inside `both`, which runs beside other states"


# ---- never T unless A answers o

ASK = """
  state review {
    ask role "x" to pay(n) "Pay?"  timeout 1h  as answer
    on approve -> go
    on decline -> stop
    on timeout -> stop
  }
  state go { call approved pay  -> done }"""


def test_a_call_behind_the_answer_is_proved():
    assert found("never pay unless review answers approve", "start state s { wait 1h  -> review }" + ASK) == []


def test_a_call_without_the_answer_is_refuted_with_the_path():
    states = "start state s { wait 1h  -> review }" + ASK.replace("on decline -> stop", "on decline -> go")
    problem = one("never pay unless review answers approve", states)
    assert problem.message == "`pay` can be called without `approve` of `review`"
    assert way(problem) == ["s then", "review on decline", "go"]
    wrong = one("never pay unless review answers decline", "start state s { wait 1h  -> review }" + ASK)
    assert way(wrong) == ["s then", "review on approve", "go"]


def test_a_policy_that_denies_every_other_call_proves_it():
    states = """start state decide {
    think "Choose." tools t, pay  model large  max prompt 2k  max tokens 1k  timeout 1m  as move
    when has(move.call) && n > 3 -> act
    when has(move.call) -> review
    otherwise -> done
  }
  state act { call proposed move  -> decide limit 2 else stop }""" + ASK.replace("to pay(n)", "to proposed move")
    check = "never pay unless review answers approve"
    assert found(check, states, "policy { allow t, pay  require approval review before pay }") == []
    assert one(check, states).code == "JAM905"


def test_a_tool_that_is_never_called_says_nothing():
    states = "start state s { wait 1h  -> review }" + ASK.replace("call approved pay", "wait 1h")
    assert one("never pay unless review answers approve", states).code == "JAM907"


# ---- no path calls T n times


@pytest.mark.parametrize(
    ("check", "states"),
    [
        ("no path calls t twice", "start state s { call t(1)  -> done }"),
        ("no path calls t twice", "start state s { wait 1h  -> s limit 3 else b }  state b { call t(1)  -> done }"),
        (
            "no path calls t twice",
            """start state s { when n > 1 -> b  otherwise -> c }
  state b { call t(1)  -> done }
  state c { call t(2)  -> done }""",
        ),
        ("no path calls t 4 times", "start state s { call t(1)  -> s limit 2 else done }"),
        ("no path calls t 3 times", "start state s { call t(1)  -> b }  state b { call t(2)  -> done }"),
        (
            "no path calls t 3 times",
            "start parallel p { branch x { call t(1) }  branch y { call t(2) }  join all  on join -> done }",
        ),
        ("no path calls t 3 times", "start state s { each x in few { call t(x) } as r  -> done }"),
    ],
)
def test_a_number_of_calls_that_no_path_reaches_is_proved(check, states):
    assert found(check, states) == []


@pytest.mark.parametrize(
    ("check", "states", "path"),
    [
        (
            "no path calls t twice",
            "start state s { call t(1)  -> b }  state b { call t(2)  -> done }",
            ["s then", "b"],
        ),
        ("no path calls t twice", "start state s { call t(1)  -> s limit 2 else done }", ["s then", "s"]),
        ("no path calls t 3 times", "start state s { call t(1)  -> s limit 2 else done }", ["s then", "s then", "s"]),
        (
            "no path calls t twice",
            "start parallel p { branch x { call t(1) }  branch y { call t(2) }  join all  on join -> done }",
            ["p"],
        ),
        ("no path calls t 9 times", "start state s { each x in xs { call t(x) } as r  -> done }", ["s"]),
        ("no path calls t twice", "start state s { each x in few { call t(x) } as r  -> done }", ["s"]),
        ("no path calls t 1 times", "start state s { wait 1h  -> b }  state b { call t(1)  -> done }", ["s then", "b"]),
    ],
)
def test_a_path_that_calls_too_often_is_shown(check, states, path):
    problem = one(check, states)
    assert problem.code == "JAM905"
    assert way(problem) == path


def test_limits_that_add_up_in_a_way_that_is_not_followed_are_not_verified():
    states = """start state s { call t(1)  -> b }
  state b { when n > 1 -> s limit 1 else done  when n > 0 -> c limit 1 else done  otherwise -> done }
  state c { wait 1h  -> b limit 1 else done }"""
    problem = one("no path calls t 3 times", states)
    assert problem.code == "JAM907"
    assert found("no path calls t 9 times", states) == []


def test_limits_of_the_policy_and_the_step_budget_bound_the_calls():
    loop = "start state s { call t(1)  -> s }"
    assert one("no path calls t 4 times", loop).code == "JAM905"
    assert found("no path calls t 4 times", loop, "policy { allow t  limit t 3 calls }") == []
    assert one("no path calls t 4 times", loop, "policy { allow t  limit t 3 calls per args.n }").code == "JAM905"
    assert found("no path calls t 4 times", loop, "policy { allow t }  budget { steps 3  exceeded -> stop }") == []


def test_calls_of_an_agent_that_is_run_count():
    child = """
agent child version 1 {
  policy { allow t }
  on error any -> no
  start state s { call t(1)  -> yes }
  final yes {}
  failed no {}
}
"""
    once = "start state r { run child()  -> done }"
    assert found("no path calls t twice", once, before=child) == []
    twice = "start state r { run child()  -> q }  state q { run child()  -> done }"
    problem = one("no path calls t twice", twice, before=child)
    assert problem.message == "not verified: `child`, which runs here, calls `t` too"


def test_a_call_in_finally_counts_once():
    states = "start state s { call t(1)  -> done }  finally { call t(2) }"
    assert found("no path calls t 3 times", states) == []
    assert one("no path calls t twice", states).code == "JAM905"


# ---- cycles, finals, steps, values


def test_every_cycle_is_bounded_by_limits_or_by_the_step_budget():
    loop = "start state s { wait 1h  -> b }  state b { wait 1h  -> s }  state c { wait 1h  -> done }"
    problem = one("every cycle is bounded", loop)
    assert way(problem) == ["s then", "b then", "s"]
    assert found("every cycle is bounded", loop.replace("-> s }", "-> s limit 3 else done }")) == []
    assert found("every cycle is bounded", loop, "budget { steps 9  exceeded -> stop }") == []


def test_a_final_is_reachable_from_every_state_that_can_be_entered():
    assert found("from any state a final is reachable", DIAMOND) == []
    stuck = "start state s { when n > 1 -> done  otherwise -> b }  state b { wait 1h  -> c }  state c { wait 1h  -> b }"
    problem = one("from any state a final is reachable", stuck)
    assert problem.message == "no final can be reached from `b`"
    assert way(problem) == ["s otherwise", "b"]
    inside = "start state s { each x in few { state i { wait 1h  -> j }  state j { wait 1h  -> i } }  -> done }"
    assert one("from any state a final is reachable", inside).message == "no final can be reached from `i`"


def test_the_step_budget_decides_how_long_a_run_is():
    assert found("every run ends within 9 steps", DIAMOND, "budget { steps 9  exceeded -> stop }") == []
    assert one("every run ends within 8 steps", DIAMOND, "budget { steps 9  exceeded -> stop }").code == "JAM907"
    assert one("every run ends within 8 steps", DIAMOND).code == "JAM907"


@pytest.mark.parametrize("check", ["always n > 0", "spent.cost <= $2.00", '"cheap": n < 100'])
def test_what_depends_on_values_is_said_not_to_be_verified(check):
    problem = one(check, DIAMOND)
    assert (problem.code, problem.severity) == ("JAM907", "warning")


# ---- against all walks of small graphs

SIZE = 5


class Way(NamedTuple):
    """An edge `when n == … -> target limit n else other`; limit 0 stands for none."""

    target: int
    limit: int
    other: int


class Graph(NamedTuple):
    """`calls[i]`: state i calls the tool. The last edge of a state is `otherwise`."""

    calls: tuple[bool, ...]
    edges: tuple[tuple[Way, ...], ...]


WAYS = st.builds(Way, st.integers(0, SIZE), st.integers(0, 2), st.integers(0, SIZE))
GRAPHS = st.builds(
    Graph,
    st.tuples(*[st.booleans()] * SIZE),
    st.tuples(*[st.lists(WAYS, min_size=1, max_size=2).map(tuple)] * SIZE),
)


def name(index: int) -> str:
    return f"s{index}" if index < SIZE else "end"


def program(graph: Graph) -> str:
    """State `s0` is the start, index SIZE the final `end`."""
    lines = []
    for i in range(SIZE):
        edges = []
        for k, way_ in enumerate(graph.edges[i]):
            trigger = "otherwise" if k == len(graph.edges[i]) - 1 else f"when n == {k}"
            limit = f" limit {way_.limit} else {name(way_.other)}" if way_.limit else ""
            edges.append(f"{trigger} -> {name(way_.target)}{limit}")
        action = "call t(1)" if graph.calls[i] else "wait 1h"
        start = "start " if i == 0 else ""
        lines.append(f"{start}state {name(i)} {{ {action}  {'  '.join(edges)} }}")
    return "\n  ".join([*lines, "final end {}"])


def findings(graph: Graph, check: str) -> list[Diagnostic]:
    text = f"""tool t(n: int) {{ effect reads  timeout 5s }}
agent a version 1 {{
  input n: int
  policy {{ allow t }}
  check {check}
  {program(graph)}
}}
"""
    result = analyse_text(text)
    return list(check_properties(result.analysis.agents[0], result.analysis))


def walks(graph: Graph, longest: int) -> Iterator[tuple[list[int], list[str]]]:
    """Every walk of at most `longest` states that a run could take, limits counted, as states and edges."""
    todo: list[tuple[list[int], list[str], dict[tuple[int, int], int]]] = [([0], [], {})]
    while todo:
        states, taken, used = todo.pop()
        yield states, taken
        at = states[-1]
        if at == SIZE or len(states) == longest:
            continue
        for k, way_ in enumerate(graph.edges[at]):
            count = used.get((at, k), 0)
            if way_.limit and count >= way_.limit:
                todo.append(([*states, way_.other], [*taken, f"{at}.{k}!"], used))
            else:
                todo.append(([*states, way_.target], [*taken, f"{at}.{k}"], {**used, (at, k): count + 1}))


@settings(max_examples=120, deadline=None)
@given(GRAPHS, st.integers(2, 3))
def test_counts_of_calls_are_those_of_all_walks(graph, times):
    most = max(sum(graph.calls[s] for s in states if s < SIZE) for states, _ in walks(graph, 9))
    problems = findings(graph, f"no path calls t {times} times")
    if not problems:
        assert most < times
    elif problems[0].code == "JAM905":
        named = {name(i): i for i in range(SIZE + 1)}
        path = [named[step.state] for step in problems[0].path]
        assert sum(graph.calls[s] for s in path if s < SIZE) >= times
        assert any(states == path for states, _ in walks(graph, len(path)))
    else:
        assert problems[0].code == "JAM907"


@settings(max_examples=120, deadline=None)
@given(GRAPHS, st.integers(1, SIZE - 1))
def test_passing_is_that_of_all_simple_paths(graph, through):
    def reaches(avoid: int | None) -> bool:
        seen, todo = {0}, [0]
        while todo:
            at = todo.pop()
            if at == SIZE:
                return True
            for way_ in graph.edges[at]:
                for target in (way_.target, *([way_.other] if way_.limit else [])):
                    if target not in seen and target != avoid:
                        seen.add(target)
                        todo.append(target)
        return False

    problems = findings(graph, f"every path to end passes {name(through)}")
    if not reaches(None):
        assert [p.code for p in problems] == ["JAM907"]
    elif reaches(through):
        (problem,) = problems
        states = [step.state for step in problem.path]
        assert problem.code == "JAM905"
        assert states[0] == "s0"
        assert states[-1] == "end"
        assert name(through) not in states
    else:
        assert problems == []
