"""JAM604: a granted call finds its grant on every path."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.compiler import check_text
from jamjet_dsl.diagnostics.model import Diagnostic

PROGRAM = """
tool note(n: int) -> string {{ effect writes  key run.id  timeout 5s  raises Rejected }}
tool look(n: int) -> string {{ effect reads  timeout 5s }}
agent a version 1 {{
  input n: int, xs: list<int> 0..5
  policy {{ allow note, look }}
  on error any -> stop
  on denied -> stop
  on in_doubt -> stop
  {states}
  final done {{}}
  failed stop {{}}
}}
"""
ASK = """
  start state review {
    ask role "officer" to note(n) "Go?"  timeout 1h  as answer
    on approve -> go
    on decline -> stop
    on timeout -> stop
  }
"""


def found(states: str) -> list[Diagnostic]:
    diagnostics = check_text(PROGRAM.format(states=states))
    assert not [d for d in diagnostics if d.severity == "error" and d.code != "JAM604"], diagnostics
    return [d for d in diagnostics if d.code == "JAM604"]


def way(diagnostic: Diagnostic) -> list[str]:
    return [f"{s.state} {s.edge}".strip() for s in diagnostic.path]


def test_a_grant_that_every_path_gives_is_enough():
    assert found(ASK + "state go { call approved note  -> done }") == []
    assert found(ASK + "state go { call approved answer  -> done }") == []


def test_the_path_that_was_not_granted_is_shown():
    (problem,) = found(
        ASK.replace("on decline -> stop", "on decline -> go") + "state go { call approved note  -> done }"
    )
    assert problem.message == "`note` can be reached without its grant"
    assert way(problem) == ["review on decline", "go"]
    assert problem.agent == "a"


@pytest.mark.parametrize("edge", ["-> again", "on error Rejected -> again  -> done", "on in_doubt -> again  -> done"])
def test_an_attempt_uses_the_grant_up_whatever_comes_of_it(edge):
    (problem,) = found(
        ASK + f"state go {{ call approved note  {edge} }}  state again {{ call approved note  -> done }}"
    )
    assert problem.message == "the grant of `note` may be used up"
    assert [label.text for label in problem.labels] == ["granted here", "used up here"]
    assert way(problem)[-1] == "again"


def test_a_denied_call_uses_up_nothing():
    states = "state go { call approved note  on denied -> again  -> done }  state again { call approved note  -> done }"
    assert found(ASK + states) == []


def test_who_is_asked_again_grants_again():
    assert found(ASK + "state go { call approved note  -> review limit 3 else done }") == []
    (problem,) = found(ASK + "state go { call approved note  -> go limit 3 else done }")
    assert way(problem) == ["review on approve", "go then", "go"]


def test_two_grants_are_two_calls():
    second = ASK.replace("start state review", "state second").replace("on approve -> go", "on approve -> one")
    first = ASK.replace("on approve -> go", "on approve -> second")
    calls = "state one { call approved note  -> two }  state two { call approved note  -> %s }"
    assert found(first + second + calls % "done") == []
    three = calls % "three" + "  state three { call approved note  -> done }"
    (problem,) = found(first + second + three)
    assert way(problem)[-1] == "three"


def test_an_answer_by_name_is_that_answer_and_no_other():
    second = ASK.replace("start state review", "state second").replace("answer", "other").replace("-> go", "-> go_on")
    first = ASK.replace("on decline -> stop", "on decline -> second")
    go = "state go { call approved answer  -> done }"
    assert found(first + second + go + "  state go_on { call approved other  -> done }") == []
    (problem,) = found(first + second + go + "  state go_on { call approved answer  -> done }")
    assert way(problem) == ["review on decline", "second on approve", "go_on"]


def test_items_share_what_was_granted_outside():
    (problem,) = found(ASK + "state go { each x in xs { call approved note } -> done }")
    assert problem.message == "the grant of `note` may be used up"
    assert "go each item" in way(problem)
    own = """start state go { each x in xs {
      start state review {
        ask role "o" to note(x) "?" timeout 1h  on approve -> call_it  on decline skip  on timeout skip
      }
      state call_it { call approved note }
    } -> done }"""
    assert found(own) == []


def test_branches_share_what_was_granted_outside_and_one_of_them_may_use_it():
    parallel = "parallel go {{ branch one {{ call approved note }} branch two {{ {} }} join all  on join -> done }}"
    assert found(ASK + parallel.format("call look(n)")) == []
    problems = found(ASK + parallel.format("call approved note"))
    assert [d.message for d in problems] == ["the grant of `note` may be used up"] * 2
    after = parallel.replace("-> done", "-> later").format("call look(n)")
    (problem,) = found(ASK + after + "  state later { call approved note  -> done }")
    assert way(problem)[-1] == "later"


BESIDE = """
  start parallel both {
    branch one {
      start state ask_one { ask role "o" to note(n) "?"  on approve -> well  on decline -> %s }
      final well {}
      failed bad {}
    }
    branch two { %s }
    %s
    on join -> go
  }
  state go { call approved note  -> done }
"""


def test_what_a_branch_was_granted_is_there_after_a_join_of_all():
    assert found(BESIDE % ("bad", "call look(n)", "join all")) == []
    assert found(BESIDE % ("bad", "call look(n)", "join 2 of 2")) == []
    (problem,) = found(BESIDE % ("well", "call look(n)", "join all"))
    assert way(problem) == [
        "both branch one",
        "both/one/ask_one on decline",
        "both/one/well ends",
        "both branch two",
        "both/two/do ends",
        "both on join",
        "go",
    ]


def test_it_is_not_there_where_the_other_branch_was_enough_nor_for_that_branch():
    assert len(found(BESIDE % ("bad", "call look(n)", "join any"))) == 1
    problems = found(BESIDE % ("bad", "call approved note", "join all"))
    assert [way(d)[-1] for d in problems] == ["both/two/do", "go"]


def test_a_path_over_a_guard_that_never_holds_is_none():
    states = ASK + "state go { call approved note  when n > 3 && n < 2 -> again  otherwise -> done }"
    again = "  state again { call approved note  -> done }"
    assert found(states + again) == []
    assert len(found(states.replace("n < 2", "n < 9") + again)) == 1


def test_what_is_said_of_the_approval_is_not_said_again_of_the_grant():
    text = PROGRAM.replace("allow note, look", "allow note, look  require approval review before note").format(
        states=ASK.replace("on decline -> stop", "on decline -> go") + "state go { call approved note  -> done }"
    )
    assert [d.code for d in check_text(text) if d.severity == "error"] == ["JAM602"]


def test_a_call_that_no_question_offers_is_a_wrong_name():
    text = PROGRAM.format(states="start state go { call approved note  -> done }")
    assert [d.code for d in check_text(text) if d.severity == "error"] == ["JAM401"]


# ---- against all walks of small graphs

PLACES = ("s", "review", "go", "again")
TARGETS = st.sampled_from((*PLACES[1:], "done"))


def grants_at(place: str, edge: int, left: int) -> int:
    if place == "review":
        return min(left + (edge == 0), 9)
    return max(left - 1, 0) if place in ("go", "again") else left


@settings(max_examples=150)
@given(st.tuples(*[st.tuples(TARGETS, TARGETS, TARGETS)] * len(PLACES)))
def test_a_walk_without_a_grant_is_found_iff_there_is_one(targets):
    edges = dict(zip(PLACES, targets, strict=True))
    states = []
    for place, (x, y, z) in edges.items():
        if place == "review":
            ask = 'ask role "o" to note(n) "Go?"  timeout 1h'
            states.append(f"state review {{ {ask}  on approve -> {x}  on decline -> {y}  on timeout -> {z} }}")
        else:
            action = "wait 1h" if place == "s" else "call approved note"
            ways = f"when n > 1 -> {x}  when n > 0 -> {y}  otherwise -> {z}"
            states.append(f"{'start ' if place == 's' else ''}state {place} {{ {action}  {ways} }}")
    lacking = set()
    todo = deque([("s", 0)])
    seen = {("s", 0)}
    while todo:
        place, left = todo.popleft()
        if place in ("go", "again") and left == 0:
            lacking.add(place)
            continue
        for edge, target in enumerate(edges.get(place, ())):
            following = (target, grants_at(place, edge, left))
            if following not in seen:
                seen.add(following)
                todo.append(following)
    diagnostics = check_text(PROGRAM.format(states="\n  ".join(states)))
    problems = [d for d in diagnostics if d.code == "JAM604"]
    # A call behind one that lacks its grant lacks it too, if there is no grant between them.
    assert {d.path[-1].state for d in problems} >= lacking
    for problem in problems:
        left = 0
        for step in problem.path[:-1]:
            kind = ("when n > 1", "when n > 0", "otherwise", "on approve", "on decline", "on timeout").index(step.edge)
            left = grants_at(step.state, kind % 3, left)
        assert left == 0
    assert bool(problems) == bool(lacking)
