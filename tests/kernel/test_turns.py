"""Limits `per turn`: what a model's answer begins, in a run, in a child and in a fence; and what a fence is told beside
its calls: where values came from."""

from __future__ import annotations

from typing import Any

import pytest

from jamjet_dsl.compiler import ProgramRefused, compile_text
from jamjet_dsl.definition import Definition
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.policy import Fence
from tests.kernel.driver import Driver

PROGRAM = """
tool note(x: int) -> int {{ effect writes  timeout 5s }}
tool look(x: int) -> int {{ effect reads  timeout 5s }}
model m {{}}
agent outer version 1 {{
  input  x: int
  var    reason: string = ""
  policy {{ allow note, look  {rules} }}
  on error any -> stopped
  on denied    -> stopped
  on in_doubt  -> stopped
  {states}
  final  done {{}}
  failed stopped {{}}
}}
agent inner version 1 {{
  policy {{ allow note }}
  on error any -> stopped
  on denied    -> stopped
  on in_doubt  -> stopped
  start state a {{ call note(1)  -> b }}
  state b {{ think "Go on?" model m  max tokens 9 as go: bool  when go -> c  otherwise -> stopped }}
  state c {{ call note(2)  -> done }}
  final  done {{}}
  failed stopped {{}}
}}
"""
ONE = "start state s { call look(x)  -> done }"


def compiled(rules: str, states: str = ONE) -> Definition:
    return compile_text(PROGRAM.format(rules=rules, states=states), "p.jam", "outer").definition


def test_a_fence_counts_from_one_turn_to_the_next() -> None:
    fence = Fence(compiled("limit any 1 call per turn"))
    fence.record("look", {"x": 1})
    denied = fence.decide("note", {"x": 1})
    assert (denied.verdict, denied.reason) == ("denied", "all 1 calls of `note` are used up")
    fence.turn()
    assert fence.decide("note", {"x": 1}).verdict == "allowed"
    fence.record("note", {"x": 1})
    assert fence.decide("look", {"x": 1}).verdict == "denied"
    fence.turn()
    fence.turn()
    assert fence.decide("look", {"x": 1}).verdict == "allowed"


def test_a_turn_has_groups_and_totals_of_its_own() -> None:
    fence = Fence(compiled("limit note 1 call per args.x per turn, look total args.x <= 5 per turn"))
    fence.record("note", {"x": 1})
    assert fence.decide("note", {"x": 1}).verdict == "denied"
    assert fence.decide("note", {"x": 2}).verdict == "allowed"
    fence.record("look", {"x": 4})
    assert fence.decide("look", {"x": 2}).verdict == "denied"
    fence.turn()
    assert fence.decide("look", {"x": 5}).verdict == "allowed"
    assert fence.decide("note", {"x": 1}).verdict == "allowed"


def test_other_limits_go_on_through_turns() -> None:
    fence = Fence(compiled("limit look 2 calls, note 1 call per turn"))
    fence.record("look", {"x": 1})
    fence.turn()
    fence.record("look", {"x": 1})
    fence.turn()
    assert fence.decide("look", {"x": 1}).verdict == "denied"


CHILD = "start state s { run inner() as got  -> t }  state t { call note(3)  -> done }"


@pytest.mark.parametrize(
    ("rules", "calls", "end"),
    [("limit note 1 call per turn", 2, "stopped"), ("limit note 2 calls per turn", 3, "done")],
)
def test_what_a_child_is_answered_begins_a_turn_of_the_agent_around_it_too(rules: str, calls: int, end: str) -> None:
    driver = Driver(compiled(rules, CHILD), {"note": 1, "b": True}).start({"x": 1})
    driver.run()
    assert [c.tool for c in driver.performed if hasattr(c, "tool")].count("note") == calls
    assert driver.state.frames[""].state == end


def test_a_program_without_such_a_limit_counts_no_turns() -> None:
    driver = Driver(compiled("limit note 9 calls", CHILD), {"note": 1, "b": True}).start({"x": 1})
    driver.run()
    assert "turn" not in driver.state.monitors


@pytest.mark.parametrize("rule", ["limit note 1 call per turn per day", "limit note 1 call per turn per turn"])
def test_a_limit_is_per_turn_or_in_a_window(rule: str) -> None:
    with pytest.raises(ProgramRefused) as refused:
        compiled(rule)
    assert [d.code for d in refused.value.diagnostics if d.severity == "error"] == ["JAM007"]


# ---- where values came from


@pytest.mark.parametrize(
    ("rules", "given", "verdict"),
    [
        ("forbid note when !attested(args.x)", {}, "denied"),
        ("forbid note when !attested(args.x)", {"attested": ["x"]}, "allowed"),
        ("forbid note when untrusted(args.x)", {}, "allowed"),
        ("forbid note when untrusted(args.x)", {"untrusted": ["x"]}, "denied"),
        ("forbid note when untrusted(args.x) || !attested(args.x)", {"attested": ["x"], "untrusted": ["x"]}, "denied"),
    ],
)
def test_a_fence_is_told_where_arguments_came_from(rules: str, given: dict[str, Any], verdict: str) -> None:
    fence = Fence(compiled(rules))
    assert fence.decide("note", {"x": 1}, **given).verdict == verdict
    assert fence.decide("note", {"x": 1}).verdict == Fence(compiled(rules)).decide("note", {"x": 1}).verdict


def test_a_fence_is_told_variables_and_where_they_came_from() -> None:
    fence = Fence(compiled("forbid note when !attested(reason) || reason != 'broken'"))
    assert fence.decide("note", {"x": 1}).verdict == "denied"
    fence.know("reason", "broken")
    assert fence.decide("note", {"x": 1}).verdict == "denied"
    fence.know("reason", "broken", attested=True)
    assert fence.decide("note", {"x": 1}).verdict == "allowed"
    fence.know("reason", "late", attested=True)
    assert fence.decide("note", {"x": 1}).verdict == "denied"


def test_a_fence_knows_only_what_the_agent_declares() -> None:
    fence = Fence(compiled(""))
    with pytest.raises(JamError) as unknown:
        fence.know("raeson", "broken")
    assert unknown.value.code == "JAMR006"
    with pytest.raises(JamError) as misfit:
        fence.know("reason", 7)
    assert misfit.value.code == "JAMR301"


def test_a_fact_of_another_type_denies_and_says_why() -> None:
    fence = Fence(compiled("fact seen = look(x = args.x) for note  forbid note when seen > 3"))
    assert fence.decide("note", {"x": 1}, facts={"seen": 2}).verdict == "allowed"
    assert fence.decide("note", {"x": 1}, facts={}).verdict == "denied"
    denied = fence.decide("note", {"x": 1}, facts={"seen": "2"})
    assert denied.verdict == "denied"
    assert denied.reason.endswith('; the fact seen: expected a whole number of 64 bits, found "2"')
