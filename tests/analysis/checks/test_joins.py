"""JAM701, JAM702, JAM703 and JAM607: what a join counts, whether it can be reached, what it cancels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jamjet_dsl.compiler import check_text
from jamjet_dsl.diagnostics.model import Diagnostic

PROGRAM = """
tool look(n: int) -> int {{ effect reads  timeout 5s }}
tool pay(n: int) {{ effect irreversible  key run.id + string(n)  timeout 5s }}
const many: int = 2
const long: duration = 2h
agent a version 1 {{
  input n: int, xs: list<int> 0..5
  policy {{ allow look  allow pay without approval because "a few cents" }}
  event said(t: string)
  on error any -> stop
  on denied -> stop
  on in_doubt -> stop
  start parallel both {{
    {branches}
    {join}
    on join -> done
  }}
  final done {{}}
  failed stop {{}}
}}
agent kid version 1 {{
  input n: int
  output m: int
  policy {{ allow pay without approval because "a few cents" }}
  on error any -> stop
  on denied -> stop
  on in_doubt -> stop
  start state rest {{ wait 3h  -> pay_it }}
  state pay_it {{ call pay(n)  -> done }}
  final done {{ m = n }}
  failed stop {{ m = 0 }}
}}
"""
LOOK = "branch {} {{ call look(n) }}"


def found(branches: str, join: str) -> list[Diagnostic]:
    diagnostics = check_text(PROGRAM.format(branches=branches, join=join))
    assert not [d for d in diagnostics if d.severity == "error" and d.code[:4] != "JAM7"], diagnostics
    return [d for d in diagnostics if d.code in ("JAM607", "JAM701", "JAM702", "JAM703")]


def codes(branches: str, join: str) -> list[str]:
    return [d.code for d in found(branches, join)]


# ---- JAM701


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_a_join_counts_the_branches_there_are(there, k, n):
    branches = "\n".join(LOOK.format(f"b{i}") for i in range(there))
    assert codes(branches, f"join {k} of {n}") == (["JAM701"] if k > there or n != there else [])


def test_a_count_may_be_a_constant():
    assert codes(LOOK.format("one") + LOOK.format("two"), "join many of 2") == []
    (problem,) = found(LOOK.format("one"), "join many of 1")
    assert problem.message == "`join many of 1` wants more branches than `both` has"


# ---- JAM702

NEVER = [
    "start state x { call look(n)  -> lost }  failed lost {}",
    "start state x { call look(n)  -> y }  state y { call look(n)  -> x limit 2 else y2 }  "
    "state y2 { call look(n)  -> lost }  failed lost {}",
    "call look(n) as r  when r > 3 skip  otherwise skip",
    "start state x { call look(n) as r  when r > 3 && r < 2 -> well  otherwise -> lost }"
    "  final well {}  failed lost {}",
    'ask role "o" "?" options yes, no timeout 1h  on yes skip  on no skip  on timeout skip',
]
MAYBE = [
    "call look(n)",
    "call look(n)  on error any skip",
    "call look(n) as r  when r > 3 skip",
    "call look(n) as r  when r > 3 yields r  otherwise skip",
    "start state x { call look(n)  on error any -> lost  -> well }  final well {}  failed lost {}",
    'ask role "o" "?" options yes, no timeout 1h  on timeout skip',
    "each x in xs { call look(x) }",
]


@pytest.mark.parametrize("body", NEVER)
def test_a_branch_that_cannot_be_done_puts_the_join_out_of_reach(body):
    branches = LOOK.format("one") + f"branch two {{ {body} }}"
    (problem,) = found(branches, "join all")
    assert problem.code == "JAM702"
    assert problem.message == "the join of `both` is never reached: it wants 2, and only 1 branch can be done"
    assert codes(branches, "join 1 of 2") == []


@pytest.mark.parametrize("body", MAYBE)
def test_a_branch_that_may_be_done_counts(body):
    assert codes(LOOK.format("one") + f"branch two {{ {body} }}", "join all") == []


@given(st.lists(st.booleans(), min_size=1, max_size=4), st.integers(1, 4))
def test_as_many_must_be_able_as_are_wanted(able, k):
    never = "call look(n) as r{0}  when r{0} > 3 skip  otherwise skip"
    branches = "\n".join(f"branch b{i} {{ {MAYBE[0] if one else never.format(i)} }}" for i, one in enumerate(able))
    k = min(k, len(able))
    assert codes(branches, f"join {k} of {len(able)}") == (["JAM702"] if sum(able) < k else [])


# ---- JAM703


@pytest.mark.parametrize(
    ("body", "takes"),
    [
        ("wait 2h", 2),
        ("wait long", 2),
        ("start state x { wait 2h  -> y }  state y { wait 1h }", 3),
        ("start state x { when n > 3 -> y  otherwise -> z }  state y { wait 2h }  state z { wait 3h }", 2),
        ("start state x { when n > 3 -> y  otherwise -> z }  state y { wait 2h }  state z { call look(n) }", 0),
        ("start state x { when n > 3 && n < 2 -> y  otherwise -> z }  state y { wait 1h }  state z { wait 3h }", 3),
        ("start state x { wait 2h  on event said(t) -> y  -> y }  state y { call look(n) }", 0),
        ("wait until timestamp('2030-01-01T00:00:00Z')", 0),
        ("run kid(n)", 3),
        ("each x in xs { wait 2h }", 0),
        ("start parallel in { branch u { wait 1h } branch v { wait 2h } join all  on join -> e }  final e {}", 2),
        ("start parallel in { branch u { wait 1h } branch v { wait 2h } join any  on join -> e }  final e {}", 1),
        ("start state x { wait 2h  on error any -> y  -> z }  state y { call look(n) }  state z { wait 1h }", 0),
    ],
)
def test_the_shortest_wait_of_a_branch_against_the_time_of_its_join(body, takes):
    branches = LOOK.format("one") + f"branch two {{ {body} }}"
    for hours in (1, 2, 3, 4):
        problems = [d for d in found(branches, f"join any within {hours}h") if d.code == "JAM703"]
        assert len(problems) == (takes > hours), hours
        assert all(d.path[0].edge == "branch two" and f"{takes}h" in d.why for d in problems)
    assert "JAM703" not in codes(branches, "join any")


# ---- JAM607

PAY = "branch two { call pay(n) }"


@pytest.mark.parametrize(
    ("join", "cancels"),
    [
        ("join all", False),
        ("", False),
        ("join any", True),
        ("join 1 of 2", True),
        ("join 2 of 2", False),
        ("join all within 1h", True),
        ("join 2 of 2 within 1h", True),
    ],
)
def test_an_irreversible_call_in_a_branch_that_may_be_cancelled(join, cancels):
    problems = found(LOOK.format("one") + PAY, join)
    assert [d.code for d in problems] == (["JAM607"] if cancels else [])
    for problem in problems:
        assert [f"{s.state} {s.edge}".strip() for s in problem.path] == ["both branch two", "both/two/do"]


@pytest.mark.parametrize(
    "body",
    [
        "run kid(n)",
        "each x in xs { call pay(x) }",
        "start parallel in { branch u { call pay(n) } branch v { call look(n) } join all  on join -> e }  final e {}",
        'start state q { ask role "o" to pay(n) "?" timeout 1h  on approve -> p  on decline skip  on timeout skip }'
        "  state p { call approved pay }",
    ],
)
def test_a_call_further_inside_is_cancelled_with_its_branch(body):
    branches = LOOK.format("one") + f"branch two {{ {body} }}"
    assert codes(branches, "join any") == ["JAM607"]
    assert codes(branches, "join all") == []


def test_reads_and_writes_may_be_cancelled_and_a_branch_alone_never_is():
    assert codes(LOOK.format("one") + LOOK.format("two"), "join any") == []
    assert codes(PAY, "join any") == []
