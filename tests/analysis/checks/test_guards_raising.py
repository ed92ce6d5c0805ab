"""Expressions that may fail at run time, and what a program asks first so that they do not."""

from __future__ import annotations

import pytest

from jamjet_dsl import compiler
from jamjet_dsl.analysis.checks.guards import check_guards
from jamjet_dsl.analysis.checks.raising import pattern_problem
from jamjet_dsl.compiler import analyse_text

PROGRAM = """
const fees: map<string, int> = {{ "economy": 1, "business": 3 }}
const tiers: list<string> = ["a", "b", "c"]
enum Tier {{ gold silver }}
const bonus: map<string, int> = {{ "gold": 1, "silver": 2 }}
agent a version 1 {{
  input n: int, k: int, small: int 1..9, xs: list<int>, some: list<int> 2..5, m: map<string, int>, s: string, t: string
  input d: decimal, price: money, zero: int 0..0, o: int?
  var out: int = 0
  start state first {{
    {edges}
  }}
  state second {{ wait 1h  -> done }}
  final done {{}}
}}
"""


def messages(edges: str) -> list[str]:
    result = analyse_text(PROGRAM.format(edges=edges))
    assert not [d for d in result.diagnostics if d.code in ("JAM001", "JAM101", "JAM401", "JAM501")], result.diagnostics
    (agent,) = result.analysis.agents
    return [d.message for d in check_guards(agent, result.analysis) if d.code in ("JAM507", "JAM509")]


def guard(condition: str) -> list[str]:
    return messages(f"when {condition} -> second\n    otherwise -> done")


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("n / k > 1", "`n / k` may divide by zero"),
        ("n % k == 0", "`n % k` may divide by zero"),
        ("n / zero > 1", "`n / zero` may divide by zero"),
        ("n / (k - 1) > 1", "`n / (k - 1)` may divide by zero"),
        ("k > -1 && n / k > 1", "`n / k` may divide by zero"),
        ("k != 0 || n / k > 1", "`n / k` may divide by zero"),
        ("xs[0] == 1", "`xs[0]` may be past the end of the list"),
        ("size(xs) > 0 && xs[1] == 1", "`xs[1]` may be past the end of the list"),
        ("some[2] == 1", "`some[2]` may be past the end of the list"),
        ("tiers[3] == s", "`tiers[3]` may be past the end of the list"),
        ("xs[k] == 1", "`xs[k]` may be past the end of the list"),
        ("k < size(xs) && xs[k] == 1", "`xs[k]` may be past the end of the list"),
        ("m[s] == 1", "`m` may have no s"),
        ('m["a"] == 1', '`m` may have no "a"'),
        ("m.a == 1", '`m` may have no "a"'),
        ("s in m && m[t] == 1", "`m` may have no t"),
        ('fees["first"] == 1', '`fees` may have no "first"'),
        ("fees[s] == 1", "`fees` may have no s"),
        ("int(s) > 1", "`int(s)` fails for a text that is no int"),
        ("timestamp(s) < now", "`timestamp(s)` fails for a text that is no timestamp"),
        ("max(xs) > 1", "`max(xs)` fails for an empty list"),
        ("max([0].filter(x, x > n) + xs) > 1", "`max([0].filter(x, x > n) + xs)` fails for an empty list"),
        ("max((n > 1 ? [1] : xs) + xs) > 1", "`max((n > 1 ? [1] : xs) + xs)` fails for an empty list"),
        ("([1, 2] + xs)[2] > 1", "`([1, 2] + xs)[2]` may be past the end of the list"),
        ("n / int(d) > 1", "`n / int(d)` may divide by zero"),
        ("d != 0.0 && n / int(d) > 1", "`n / int(d)` may divide by zero"),
        ('s.substring(0, 3) == "abc"', "`s.substring(0, 3)` may be past the end of the text"),
        ('s.charAt(5) == "x"', "`s.charAt(5)` may be past the end of the text"),
        ("s.matches(t)", "`t` may be no regular expression"),
        ("xs.exists(x, n / x > 1)", "`n / x` may divide by zero"),
        ("m.exists(key, m[s] > 1)", "`m` may have no s"),
        ("range(size(xs)).all(i, xs[i + 1] > 0)", "`xs[i + 1]` may be past the end of the list"),
    ],
)
def test_an_operation_that_may_fail_is_reported(condition, message):
    assert guard(condition) == [message]


@pytest.mark.parametrize(
    "condition",
    [
        "n / 2 > 1",
        "n / small > 1",
        "k != 0 && n / k > 1",
        "n / k > 1 && k != 0",
        "k == 0 || n / k > 1",
        "k > 0 ? n / k > 1 : false",
        "k == 0 ? false : n / k > 1",
        "!(k == 0) && (n > 3 || n % k == 1)",
        "size(xs) > 0 && xs[0] == 1",
        "xs.size() >= 2 && xs[1] == 1",
        "some[1] == 1",
        "tiers[2] == s",
        "k >= 0 && k < size(xs) && xs[k] == 1",
        "s in m && m[s] == 1",
        '"a" in m && m["a"] == 1',
        "has(m.a) && m.a == 1",
        'has(m.a) && m["a"] == 1',
        'fees["economy"] == 1',
        "s in fees && fees[s] == 1",
        's == "economy" && fees[s] == 1',
        's.matches("^[0-9]{1,9}$") && int(s) > 1',
        'int("5") > n',
        "size(xs) != 0 && max(xs) > 1",
        "max(some) > 1",
        "max(n, k) > 1",
        'size(s) >= 3 && s.substring(0, 3) == "abc"',
        "xs.filter(x, x != 0).size() > 2 && n > 1",
        "xs.exists(x, x != 0 && n / x > 1)",
        "m.exists(key, m[key] > 1)",
        "range(size(xs)).all(i, xs[i] > 0)",
        "xs.map(x, x > 0, n / x).size() > 1",
        "d / 2.5 > n",
        "k != 0 && d / decimal(k) > 1.0",
        "size(xs) > 0 && d / decimal(size(xs)) > 1.0",
        "max([0] + xs) > 1",
        "max((n > 1 ? [1] : [2, 3]) + xs) > 1",
        "([1, 2] + xs)[1] > 1",
    ],
)
def test_what_was_asked_first_is_accepted(condition):
    assert guard(condition) == []


def test_earlier_guards_that_were_false_count():
    assert messages("when k == 0 -> done\n    when n / k > 1 -> second\n    otherwise -> done") == []
    assert messages("when size(xs) == 0 -> done\n    otherwise -> second { set out = xs[0] }") == []
    found = messages("when k == 0 -> second { set out = n / k }\n    otherwise -> done")
    assert found == ["`n / k` may divide by zero"]


def test_the_guard_of_an_edge_holds_in_its_block_until_its_variable_is_assigned():
    assert messages("when out != 0 -> second { set out = n / out }\n    otherwise -> done") == []
    found = messages("when out != 0 -> second { set out = 0  set out = n / out }\n    otherwise -> done")
    assert found == ["`n / out` may divide by zero"]


def test_a_function_is_looked_at_on_its_own():
    text = """
fn ratio(a: int, b: int) -> int = a / b
fn safe(a: int, b: int) -> int = b == 0 ? 0 : a / b
agent a version 1 {
  input n: int
  start state s { when ratio(n, 2) > safe(n, 2) -> x  otherwise -> y }
  final x {}
  final y {}
}
"""
    result = analyse_text(text)
    found = list(check_guards(result.analysis.agents[0], result.analysis))
    assert [d.message for d in found] == ["`a / b` may divide by zero"]


def test_arguments_sets_and_outputs_are_looked_at_too():
    text = """
tool t(n: int) { effect reads  timeout 5s }
agent a version 1 {
  input n: int, k: int
  output x: int
  var v: int = 0
  policy { allow t }
  on error any -> f
  start state s { call t(n / k)  set v = n % k  -> g }
  final g { x = 5 / k + v }
  failed f { x = 0 }
}
"""
    result = analyse_text(text)
    found = list(check_guards(result.analysis.agents[0], result.analysis))
    assert [d.message for d in found] == [f"`{e}` may divide by zero" for e in ("n / k", "n % k", "5 / k")]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "not a regular expression: missing ): ("),
        ("(?=a)", "not a regular expression: invalid perl operator: (?="),
        ("((a{100}){100}){100}", "not a regular expression: invalid repetition size: {100}"),
        (r"\pL{1000}", "the regular expression takes too much memory"),
        ("a" * 1001, "the regular expression has more than 1000 characters"),
        ("^[a-z]+$", ""),
    ],
)
def test_patterns_are_compiled_with_the_limits_of_a_run(pattern, message):
    found = pattern_problem(pattern)
    assert found == message


def test_a_bad_pattern_is_reported_where_it_stands():
    assert guard('s.matches("(")') == ["not a regular expression: missing ): ("]


def test_braces_around_a_name_in_a_text_of_an_expression_are_no_placeholder():
    text = """
tool note(text: string) {{ effect reads }}
agent a version 1 {{
  input name: string
  policy {{ allow note }}
  on error any -> y
  start state s {{ call note({text})  -> t }}
  state t {{ ask role "clerk" "Is {{name}} in?"  timeout 1h  on done -> y  on timeout -> y }}
  final y {{}}
}}
"""

    def said(written):
        return [d.message for d in compiler.check_text(text.format(text=written)) if d.code == "JAM415"]

    assert said('"for {name}, {nobody}"') == ["`{name}` is not filled in here"]
    assert said('"for {nobody}, {}, { name }"') == []
    assert said('"for " + name') == []
