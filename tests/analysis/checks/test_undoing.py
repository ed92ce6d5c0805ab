"""JAM704 and JAM705: what `undo all` cannot take back. JAM614: roles that nobody has."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.compiler import check_file, check_text
from jamjet_dsl.diagnostics.model import Diagnostic

PROGRAM = """
tool book(n: int) -> string {{ effect writes  key run.id  timeout 5s  raises Full  undo cancel(result) }}
tool cancel(id: string) {{ effect writes  key id  timeout 5s }}
tool mark(n: int) {{ effect writes  key run.id + string(n)  timeout 5s }}
tool pay(n: int) {{ effect irreversible  key run.id + string(n)  timeout 5s }}
tool look(n: int) -> string {{ effect reads  timeout 5s }}
agent a version 1 {{
  input n: int, xs: list<int> 0..5
  policy {{ allow book, cancel, mark, look  allow pay without approval because "a few cents" }}
  on error any -> {rescue}
  on denied -> stop
  on in_doubt -> {rescue}
  {states}
  state back {{ undo all  -> stop }}
  final done {{}}
  failed stop {{}}
}}
agent kid version 1 {{
  input n: int
  policy {{ allow mark }}
  on error any -> stop
  on denied -> stop
  on in_doubt -> stop
  start state go {{ call mark(n)  -> done }}
  final done {{}}
  failed stop {{}}
}}
"""


def found(states: str, rescue: str = "stop") -> list[Diagnostic]:
    diagnostics = check_text(PROGRAM.format(states=states, rescue=rescue))
    assert not [d for d in diagnostics if d.severity == "error"], diagnostics
    return [d for d in diagnostics if d.code in ("JAM704", "JAM705")]


def way(diagnostic: Diagnostic) -> list[str]:
    return [f"{s.state} {s.edge}".strip() for s in diagnostic.path]


# ---- JAM704


@pytest.mark.parametrize(
    ("action", "tool"),
    [
        ("call mark(n)", "mark"),
        ("call pay(n)", "pay"),
        ("run kid(n)", "mark"),
        ("each x in xs { call mark(x) }", "mark"),
        ("call book(n)", ""),
        ("call look(n)", ""),
        ('call cancel("b")', ""),
    ],
)
def test_a_write_that_nothing_takes_back_before_a_rollback(action, tool):
    states = f"start state one {{ {action}  -> two }}  state two {{ call look(n)  -> back }}"
    problems = found(states)
    assert [d.message for d in problems] == ([f"`undo all` leaves what `{tool}` has done"] if tool else [])
    for problem in problems:
        assert way(problem)[-2:] == ["two then", "back"]
    elsewhere = "start state zero { wait 1h  when n > 3 -> back  otherwise -> one }"
    assert found(elsewhere + states.replace("start ", "").replace("-> back", "-> done")) == []


def test_a_call_that_failed_or_is_in_doubt_is_no_such_path():
    assert found("start state one { call mark(n)  on error any -> back  on in_doubt -> back  -> done }") == []


def test_a_handler_of_the_agent_leads_back_from_later_states():
    (problem,) = found("start state one { call mark(n)  -> two }  state two { call look(n)  -> done }", "back")
    assert way(problem) == ["one then", "two on error any (handler)", "back"]


def test_each_tool_is_told_once_and_a_guard_that_never_holds_leads_nowhere():
    twice = (
        "start state one { call mark(n)  -> two }  state two { call mark(n + 1)  when %s -> back  otherwise -> done }"
    )
    assert len(found(twice % "n > 3")) == 1
    assert found(twice % "n > 3 && n < 2") == []


def test_a_branch_beside_the_rollback_counts():
    states = """start parallel both {
      branch u { call mark(n) }
      branch v { undo all }
      join all
      on join -> done
    }
    state unused { wait 1h  -> back }"""
    (problem,) = found(states)
    assert way(problem) == ["both branch u", "both/u/do beside it", "both branch v", "both/v/do"]


PLACES = ("s", "one", "two", "back")
TARGETS = st.sampled_from((*PLACES, "done"))


@settings(max_examples=100)
@given(st.tuples(*[st.tuples(TARGETS, TARGETS)] * 3))
def test_a_walk_from_a_write_to_a_rollback_is_found_iff_there_is_one(targets):
    edges = dict(zip(PLACES, targets, strict=False))
    states = "\n".join(
        f"{'start ' if place == 's' else ''}state {place} {{ {'call mark(n)' if place == 'one' else 'wait 1h'}  "
        f"when n > 0 -> {x}  otherwise -> {y} }}"
        for place, (x, y) in edges.items()
    )

    def reached(begin: set[str]) -> set[str]:
        seen, todo = set(begin), list(begin)
        while todo:
            following = set(edges.get(todo.pop(), ())) - seen
            seen |= following
            todo += following
        return seen

    text = PROGRAM.format(states=states, rescue="stop")
    problems = [d for d in check_text(text) if d.code == "JAM704"]
    assert len(problems) == ("one" in reached({"s"}) and "back" in reached(set(edges["one"])))


# ---- JAM705


@pytest.mark.parametrize(("effect", "told"), [("irreversible", True), ("writes", False), ("reads", False)])
def test_an_undo_that_cannot_be_taken_back(effect, told):
    text = PROGRAM.format(states="start state one { call book(n)  -> back }", rescue="stop")
    text = text.replace("tool cancel(id: string) { effect writes", f"tool cancel(id: string) {{ effect {effect}")
    problems = [d for d in check_text(text) if d.code == "JAM705"]
    assert [(d.span.line, d.span.text) for d in problems] == ([(2, "cancel")] if told else [])


def test_what_an_undo_cannot_read_is_a_wrong_name():
    text = PROGRAM.format(states="start state one { call book(n)  -> back }", rescue="stop")
    assert next(d.code for d in check_text(text.replace("cancel(result)", "cancel(other)"))) == "JAM101"


# ---- JAM614

ASKING = """
tool pay(n: int) { effect irreversible  key run.id  timeout 5s }
agent a version 1 {
  policy { allow pay  require approval by 2 of "chief" before pay }
  on error any -> stop
  on denied -> stop
  on in_doubt -> stop
  start state review {
    ask role "officer" to pay(5) "Go?"  timeout 1h  on approve -> go  on decline -> stop  on timeout -> stop
  }
  state go { call approved pay  -> done }
  final done {}
  failed stop {}
}
"""


@pytest.mark.parametrize(
    ("settings_", "messages"),
    [
        ('[roles]\nofficer = ["ann"]\nchief = ["bob", "cy"]', []),
        ('[roles]\noffice = ["ann"]\nchief = ["bob", "cy"]', ["there is no role `officer`"]),
        ('[roles]\nofficer = []\nchief = ["bob", "cy"]', ["nobody has the role `officer`"]),
        ('[roles]\nofficer = ["ann"]\nchief = ["bob"]', ["only one person has the role `chief`, and 2 must approve"]),
        ("[roles]", ["there is no role `chief`", "there is no role `officer`"]),
        ("", []),
        ("roles = 3", []),
        ("[roles", []),
        ('[roles]\nofficer = "ann"', ["there is no role `chief`", "there is no role `officer`"]),
    ],
)
def test_roles_are_those_of_the_deployment(settings_, messages):
    told = check_text(ASKING, files={"jam.toml": settings_})
    assert [d.message for d in told if d.code == "JAM614"] == messages


def test_a_role_that_was_mistyped_is_guessed():
    told = check_text(ASKING.replace('"officer"', '"oficer"'), files={"jam.toml": '[roles]\nofficer = ["ann"]'})
    assert [d.help for d in told if d.code == "JAM614"][1] == "did you mean `officer`?"


def test_the_file_is_the_one_beside_the_program(tmp_path: Path):
    (tmp_path / "inner").mkdir()
    for folder in (tmp_path, tmp_path / "inner"):
        (folder / "main.jam").write_text(ASKING)
    (tmp_path / "jam.toml").write_text('[roles]\nclerk = ["ann"]')
    assert "JAM614" in [d.code for d in check_file(tmp_path / "main.jam").diagnostics]
    assert "JAM614" not in [d.code for d in check_file(tmp_path / "inner" / "main.jam").diagnostics]
    assert "JAM614" not in [d.code for d in check_text(ASKING)]
