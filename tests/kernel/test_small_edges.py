"""Small promises of the kernel that a campaign of mutants found nobody to check."""

from __future__ import annotations

import pytest

from jamjet_dsl import definition as d
from jamjet_dsl.compiler import compile_text
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.scalars import BoolKey, TypeValue, offset_seconds, parse_timestamp
from jamjet_dsl.kernel.values import EvalError, from_public
from tests.kernel.driver import Driver

FRAME = """language 1
tool look(x: int) -> int { effect reads }
tool seldom(x: int) -> int { effect reads  limit 3 calls per minute }
tool page(x: int) -> string untrusted { effect reads }
model m { via openai "x" }
agent a version 1 {
  output n: int
  var    none: int?
  var    one: int = 1
  budget { steps 30  tokens 9k  exceeded -> over }
  policy { allow any }
  on error any -> over
  STATES
  final done { n = one }
  failed over { n = 0 }
}
AGENTS
"""


def program(states: str, agents: str = "") -> str:
    return FRAME.replace("STATES", states).replace("AGENTS", agents)


def begun(states: str, agents: str = "") -> Driver:
    return Driver(compile_text(program(states, agents), agent="a").definition).start({}).begin()


ONE = "start state s { call look(1) as x  -> done }"


def test_a_run_says_who_it_was_forked_from_and_only_then() -> None:
    ready = Program.of(compile_text(program(ONE)).definition)
    assert inputs.started(ready, {}, None, "b", "parent")[1]["parent"] == "parent"
    assert "parent" not in inputs.started(ready, {}, None, "b")[1]


def test_a_variable_without_a_first_value_does_not_hide_those_after_it() -> None:
    ready = Program.of(compile_text(program(ONE)).definition)
    assert inputs.started(ready, {}, None, "b")[1]["set"] == {"one": 1}


def test_an_error_that_comes_when_nobody_waits_any_more_is_late() -> None:
    run = begun(ONE)
    call = run.flight("look(1)")
    run.land("look(1)", 7)
    kind, body = inputs.failed(run.program, run.state, call, "Timeout", "too late")
    assert kind == "late"
    assert body["error"] == "Timeout"


@pytest.mark.parametrize(
    ("tool", "rule", "left"),
    [("look", "", 0), ("seldom", "", 1), ("look", "forbid page when attempted(look) > 2", 1)],
    ids=["a free read", "one whose rate is limited", "one that is counted"],
)
def test_what_leaves_an_intent(tool: str, rule: str, left: int) -> None:
    text = program(ONE.replace("look", tool)).replace("allow any", f"allow any  {rule}")
    run = Driver(compile_text(text).definition).start({}).begin()
    assert run.kinds.count("intent") == left


def test_only_what_is_untrusted_is_told_to_be() -> None:
    fan = "start state s { each q in [1] { call TOOL(q) as v  yields v } as got  -> done }"
    plain = begun(fan.replace("TOOL", "look")).land("look(1)", 5)
    assert "from" not in plain.events("joined")[0]
    told = begun(fan.replace("TOOL", "page")).land("page(1)", "text")
    assert told.events("joined")[0]["from"] == ["untrusted"]


def test_what_a_trusted_model_says_in_a_conversation_is_trusted() -> None:
    chat = 'start state s { think "Hi." in talk model m max prompt 1k max tokens 9 as t: string  -> done }'
    text = program(chat).replace("var    one", "var talk: conversation\n  var    one")
    run = Driver(compile_text(text).definition).start({}).begin().land("s", "hello")
    assert run.state.status == "completed"
    assert "talk" not in run.state.provenance


def test_the_time_of_a_child_is_up_while_its_own_branches_are_at_work() -> None:
    kid = """agent kid version 1 {
      output n: int
      budget { steps 9  time 1m  exceeded -> late }
      policy { allow any }
      start parallel p { branch b { wait 1h }  join all  on join -> done  on error any -> done }
      final done { n = 1 }
      final late { n = 2 }
    }"""
    run = begun("start state s { run kid() as k  set one = k.n  -> done }", kid)
    run.at(run.now_ms + 60_000)
    assert [body["what"] for body in run.events("exceeded")] == ["time"]
    assert run.state.output == {"n": 2}


@pytest.mark.parametrize(
    "text", ["2024-01-01T24:00:00Z", "2024-01-01T00:60:00Z", "2024-01-01T00:00:60Z", "2024-01-01T00:00:00.1234567890Z"]
)
def test_a_time_that_no_day_has_is_none(text: str) -> None:
    with pytest.raises(EvalError):
        parse_timestamp(text)


def test_offsets_go_both_ways() -> None:
    assert [offset_seconds(zone) for zone in ("Z", "z", "+02:30", "-08:00")] == [0, 0, 9_000, -28_800]
    for zone in ("+24:00", "-01:60"):
        with pytest.raises(EvalError):
            offset_seconds(zone)


def test_types_and_truth_values_are_equal_to_their_like_only() -> None:
    assert TypeValue("int") == TypeValue("int")
    assert TypeValue("int") != TypeValue("string")
    assert TypeValue("int") != "int"
    assert repr(TypeValue("int")) == "TypeValue(int)"
    assert BoolKey(True) == BoolKey(True)
    assert BoolKey(True) != BoolKey(False)
    assert BoolKey(True) != True  # noqa: E712


@pytest.mark.parametrize(("text", "fits"), [("YWI=", True), ("YW I=", False), ("YW$I=", False), ("YWI", False)])
def test_bytes_are_read_from_base64_and_nothing_like_it(text: str, fits: bool) -> None:
    problems: list[str] = []
    ready = compile_text(program(ONE)).definition
    read = from_public(text, d.Scalar(kind="bytes"), ready, "data", problems)
    assert (problems == []) is fits
    assert not fits or read == b"ab"
