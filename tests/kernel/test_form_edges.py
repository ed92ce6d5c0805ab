"""Forms of values at their edges: what is not finite, keys that are no text, zeros; what an approval is bound to."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from jamjet_dsl.kernel.binding import policy_digest
from jamjet_dsl.kernel.foreign import INVALID, SCALARS
from jamjet_dsl.kernel.monitors import group_key
from jamjet_dsl.kernel.scalars import FALSE_KEY, TRUE_KEY, Duration, map_keys, of_key, parse_duration, to_key
from jamjet_dsl.kernel.scope import names_only
from jamjet_dsl.kernel.values import EvalError, UInt, from_journal, to_journal
from tests.kernel.source import begun


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ([1.5, math.inf], [1.5, {"$float": "inf"}]),
        ([0.0, -math.inf], [0.0, {"$float": "-inf"}]),
        ({"a": math.nan, "b": 2}, {"a": {"$float": "NaN"}, "b": 2}),
        ([2**53 - 1, 2**53], [2**53 - 1, {"$int": str(2**53)}]),
        ({"a": {"$x": 1}}, {"a": {"$map": [["$x", 1]]}}),
        ({"a": 1, "b": UInt(2)}, {"a": 1, "b": {"$uint": "2"}}),
    ],
)
def test_only_what_json_cannot_say_is_tagged(value: Any, form: Any) -> None:
    assert to_journal(value) == form
    assert repr(from_journal(form)) == repr(value)


def test_keys_that_are_true_or_false_are_no_numbers_and_come_in_order() -> None:
    assert to_key(True) is TRUE_KEY
    assert to_key(False) is FALSE_KEY
    assert [to_key(n) for n in (0, 1)] == [0, 1]
    assert len({to_key(False): "a", to_key(0): "b", to_key(True): "c", to_key(1): "d"}) == 4
    mixed: dict[object, Any] = {to_key(True): 1, "x": 2, to_key(False): 3, 7: 4, Decimal("1.5"): 5}
    assert map_keys(mixed) == ["x", Decimal("1.5"), 7, False, True]
    assert of_key(TRUE_KEY) is True
    with pytest.raises(EvalError):
        to_key([1])


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("-0", 0),
        ("+0", 0),
        ("0s", 0),
        ("1.5s", 1_500_000_000),
        ("-1.5s", -1_500_000_000),
        ("+2m", 120_000_000_000),
        ("1h30m", 5_400_000_000_000),
        (".5s", 500_000_000),
        ("0.0000000009s", 0),
    ],
)
def test_a_duration_is_read_to_the_nanosecond(text: str, ns: int) -> None:
    assert parse_duration(text) == Duration(ns)


@pytest.mark.parametrize("text", ["", "-", "1", "00", "1s2", "s", "1d", "1 s", "1s " * 40, "0" * 99 + "1s0"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(EvalError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("1.50"), Decimal("1.5")),
        (Decimal("0.00"), Decimal("0")),
        (Decimal("-0.0"), Decimal("0")),
        ([Decimal("1.50")], [Decimal("1.5")]),
        ({"a": Decimal("1.50")}, {"a": Decimal("1.5")}),
        ({"a": [{"b": Decimal("10")}]}, {"a": [{"b": Decimal("1E+1")}]}),
        ("x" * 200, "x" * 200),
    ],
)
def test_what_is_equal_is_counted_as_one(one: Any, other: Any) -> None:
    assert group_key([one, "k"]) == group_key([other, "k"])


@pytest.mark.parametrize(("one", "other"), [(1, "1"), (1, True), (Decimal("1.5"), "1.5"), ([1], 1), (None, "null")])
def test_what_is_not_equal_is_counted_apart(one: Any, other: Any) -> None:
    assert group_key([one]) != group_key([other])


def test_what_a_macro_binds_comes_from_nowhere_that_is_known() -> None:
    scope = names_only({"x": 1, "i": 2}).nested({}, {"x": frozenset({"untrusted"}), "i": frozenset({"attested"})})
    inner = scope.copy()
    inner["y"] = 3
    again = inner.copy()
    for found in (inner, again):
        assert found["$untrusted"](("x",)) is True
        assert found["$attested"](("i",)) is True
        assert found["$untrusted"](("y",)) is None
    assert again["y"] == 3


# ---- what an approval is bound to

TOOLS = """
tool ship(id: string) -> string { effect writes  timeout 5s }
tool mail(id: string) -> string { effect writes  timeout 5s }
tool rated(q: string, n: int) -> int { effect reads  timeout 5s }
fn high(n: int) -> bool = n > LEVEL
fn other(n: int) -> bool = n > OTHER
"""
RULES = """allow ship, mail  fact f = rated(q = args.id, n = 1) within 1h  forbid ship when f > 5 && high(f)
  forbid mail when other(3)  limit ship 5 calls"""


def digest(rules: str = RULES, level: int = 5, other: int = 5, tool: str = "ship") -> str:
    text = f"""{TOOLS.replace("LEVEL", str(level)).replace("OTHER", str(other))}
    agent a version 1 {{ output r: string  budget {{ steps 9  exceeded -> bad }}  policy {{ {rules} }}
      on error any -> bad  on denied -> bad
      start state w {{ wait 1h  -> s }}
      state s {{ call ship("1")  on in_doubt -> bad  -> t }}  state t {{ call mail("1")  on in_doubt -> bad  -> done }}
      final done {{ r = "done" }}  failed bad {{ r = "bad" }} }}"""
    run = begun(text)
    return policy_digest(run.program, run.state, run.state.frames[""], tool)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("n = 1", "n = 2"),
        ("within 1h", "within 2h"),
        ("f > 5 &&", "f > 6 &&"),
        ("limit ship 5 calls", "limit ship 6 calls"),
        ("limit ship 5 calls", ""),
        ("forbid ship", "forbid ship, mail"),
    ],
)
def test_an_approval_is_bound_to_every_rule_fact_and_limit_of_its_tool(was: str, now: str) -> None:
    assert was in RULES
    assert digest(RULES.replace(was, now)) != digest()


def test_an_approval_is_bound_to_the_functions_that_its_rules_call() -> None:
    assert digest(level=6) != digest()
    rules = RULES.replace(" && high(f)", "")
    assert digest(rules, level=6) == digest(rules)
    assert digest(rules, other=6) == digest(rules)


def test_an_approval_is_bound_to_nothing_that_is_said_of_other_tools() -> None:
    assert digest(RULES.replace("forbid mail when other(3)", "forbid mail when other(4)")) == digest()
    lines = RULES.replace("allow ship, mail", "").strip()
    assert digest(f"{lines}  allow ship, mail") == digest()  # the order of rules means nothing
    assert digest(tool="mail") != digest()


@pytest.mark.parametrize(
    ("value", "read"), [(0, UInt(0)), (2**64 - 1, UInt(2**64 - 1)), (2**64, INVALID), (-1, INVALID), (True, INVALID)]
)
def test_true_and_false_are_no_numbers(value: Any, read: Any) -> None:
    assert SCALARS["uint"](value) == read
    assert SCALARS["int"](True) is INVALID
