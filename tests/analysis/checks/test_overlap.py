"""JAM611: rules that contradict or subsume each other, and JAM615: limits that no path keeps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.compiler import check_text
from jamjet_dsl.diagnostics.model import Diagnostic

PROGRAM = """
tool pay(to: string, n: int) {{ effect irreversible  key run.id + to  timeout 5s }}
tool book(n: int) -> string {{ effect writes  key run.id  timeout 5s }}
tool look(to: string) -> string {{ effect reads  timeout 5s }}
tool see(to: string) -> string {{ effect reads  timeout 5s }}
agent a version 1 {{
  input to: string, n: int
  policy {{
    {rules}
  }}
  on error any -> stop
  on denied -> stop
  on in_doubt -> stop
  {states}
  final done {{}}
  failed stop {{}}
}}
"""
STATES = """
  start state review {
    ask role "o" to pay(to, n) "?"  timeout 1h  on approve -> go  on decline -> stop  on timeout -> stop
  }
  state go { call approved pay  -> one }
  state one { call look(to)  -> two }
  state two { call see(to)  -> three }
  state three { call book(n)  -> done }
"""
ALL = "allow look, see, book"


def found(rules: str, states: str = STATES) -> list[Diagnostic]:
    diagnostics = check_text(PROGRAM.format(rules=rules, states=states))
    wrong = [d for d in diagnostics if d.code in ("JAM611", "JAM615")]
    assert not [d for d in diagnostics if d.severity == "error" and d.code[:4] in ("JAM0", "JAM1", "JAM4", "JAM5")], (
        diagnostics
    )
    return wrong


def messages(rules: str) -> list[str]:
    return [d.message for d in found(rules) if d.code == "JAM611"]


# ---- one rule adds nothing


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("allow pay  allow pay", "`pay` is allowed already"),
        ("allow pay  allow any irreversible", "`pay` is allowed already"),
        ("allow any irreversible  allow pay", "`pay` is allowed already"),
        ("allow pay, book  allow pay when args.n < 5", "the condition on `pay` restricts nothing"),
        ("allow pay when args.n < 5  allow pay when args.n < 3", "`pay` is allowed already"),
        (
            'allow pay without approval because "x"  allow pay when args.n < 3',
            "the condition on `pay` restricts nothing",
        ),
        (
            "allow pay  forbid pay when args.n > 5  forbid pay when args.n > 7",
            "`forbid pay when args.n > 7` adds nothing",
        ),
        (
            "allow pay  forbid pay when args.n > 5  forbid any when args.n > 5",
            "`forbid pay when args.n > 5` adds nothing",
        ),
        ("allow pay  forbid pay when n > 5  forbid pay when 5 < n", "`forbid pay when 5 < n` adds nothing"),
        (
            "allow pay  require approval review before pay  require approval review before any",
            "`require approval review",
        ),
        (
            'allow pay  require approval by 2 of "x" before pay  require approval by 1 of "x" before pay',
            '`require approval by 1 of "x" before pay` adds nothing',
        ),
        (
            "allow pay  require look(to = args.to) before pay  require look(to = args.to) before pay when args.n > 3",
            "`require look(to = args.to) before pay when args.n > 3` adds nothing",
        ),
        (
            "allow pay  require any of look, see before pay  require any of look before pay",
            "`require any of look, see before pay` adds nothing",
        ),
        ("allow pay  never pay after book  never pay after any writes", "`never pay after book` adds nothing"),
        ("allow pay  limit pay 3 calls, pay 2 calls", "`pay 3 calls` adds nothing"),
        ("allow pay  limit any 2 calls, pay 2 calls per args.to", "`pay 2 calls per args.to` adds nothing"),
        ("allow pay  limit pay 2 calls, pay 2 calls per day", "`pay 2 calls per day` adds nothing"),
    ],
)
def test_a_rule_that_adds_nothing_is_named_once(rules, message):
    told = messages(f"{'allow look, see' if 'allow pay, book' in rules else ALL}  {rules}")
    assert len(told) == 1, told
    assert told[0].startswith(message)


@pytest.mark.parametrize(
    "rules",
    [
        "allow pay when args.n < 5  allow pay when args.n > 3",
        'allow pay  allow pay when args.n < 5 without approval because "small"',
        "allow pay  forbid pay when args.n > 5  forbid pay when args.n < 3",
        "allow pay  forbid pay when args.n > 5  forbid book when args.n > 5",
        "allow pay  forbid pay when args.n > 5  forbid pay when n > 5",
        "allow pay when args.n < 5  require approval review before pay when args.n < 5  forbid pay when args.n < 2",
        'allow pay  require approval by 2 of "x" before pay  require approval by 1 of "y" before pay',
        'allow pay  require approval by 2 of "x" before pay  require approval by 1 of "x" not principal before pay',
        "allow pay  require look(to = args.to) before pay  require look(to = to) before pay",
        "allow pay  require any of look, see before pay  require any of look before pay when args.n > 3",
        "allow pay  require any of look as who before pay when who.result == args.to  require any of look before pay",
        "allow pay  never pay after look  never look after pay",
        "allow pay  limit pay 3 calls, pay 2 calls per args.to",
        "allow pay  limit pay 3 calls per day, pay 5 calls",
        "allow pay  limit pay 3 calls per principal, pay 5 calls",
        "allow pay  limit pay 3 calls, pay 5 calls per principal",
        "allow pay  limit pay 3 calls, any 5 calls",
    ],
)
def test_rules_that_both_decide_something_are_left_alone(rules):
    assert messages(f"{ALL}  {rules}") == []


# ---- rules against each other


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("allow pay when args.n < 5  forbid pay when args.n < 10", "what `allow pay when args.n < 5` lets through"),
        (
            "allow pay when args.n < 5  forbid any irreversible when args.n < 3  forbid pay when args.n >= 3",
            "what `allow pay when args.n < 5` lets through",
        ),
        (
            'allow pay without approval because "x"  require approval review before pay',
            "an approval is waived here, and another rule requires one",
        ),
        (
            'allow pay when args.n < 5 without approval because "x"'
            "  require approval review before pay when args.n < 9",
            "an approval is waived here, and another rule requires one",
        ),
        ("allow pay  require look(to = args.to) before pay  never pay after look", "`pay` must come after `look`"),
        ("allow pay  require look(to = args.to) before pay  never any after any reads", "`pay` must come after `look`"),
    ],
)
def test_rules_that_contradict_each_other(rules, message):
    told = messages(f"{ALL}  {rules}")
    assert len(told) == 1, told
    assert told[0].startswith(message)


@pytest.mark.parametrize(
    "rules",
    [
        "allow pay when args.n < 5  forbid pay when args.n < 4",
        'allow pay when args.n < 5 without approval because "x"  require approval review before pay when args.n > 9',
        'allow pay when args.n < 5 without approval because "x"  allow pay'
        "  require approval review before pay when n > 2",
        "allow pay  require look(to = args.to) before pay  never pay after look when args.n > 3",
        "allow pay  require look(to = args.to) before pay  never pay after see",
    ],
)
def test_rules_that_leave_something_are_no_contradiction(rules):
    assert messages(f"{ALL}  {rules}") == []


BOUNDS = st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.integers(0, 4))


@settings(max_examples=150)
@given(BOUNDS, BOUNDS)
def test_a_forbid_adds_nothing_iff_every_value_it_denies_is_denied(one, other):
    def denied(bound):
        return {v for v in range(-2, 8) if eval(f"{v} {bound[0]} {bound[1]}")}

    def text(bound):
        return f"forbid pay when args.n {bound[0]} {bound[1]}"

    told = messages(f"{ALL}  allow pay  {text(one)}  {text(other)}")
    expected = []
    if denied(other) <= denied(one):
        expected = [f"`{text(other)}` adds nothing to another rule"]
    elif denied(one) <= denied(other):
        expected = [f"`{text(one)}` adds nothing to another rule"]
    assert told == expected


# ---- JAM615

LOOKS = """
  start state one {{ call look(to)  {first} }}
  state two {{ {second}  -> three }}
  state three {{ call see(to)  -> done }}
"""


@pytest.mark.parametrize(
    ("limit", "first", "second", "least"),
    [
        ("look 1 call", "-> two", "call look(to)", 2),
        ("look 2 calls", "-> two", "call look(to)", 0),
        ("any 2 calls", "-> two", "call look(to)", 3),
        ("look 0 calls", "-> two", "wait 1h", 1),
        ("look 1 call per day", "-> two", "call look(to)", 0),
        ("look 1 call", "when n > 3 -> three  otherwise -> two", "call look(to)", 0),
        ("look 1 call", "when n > 3 && n < 2 -> three  otherwise -> two", "call look(to)", 2),
        ("look 1 call", "on denied -> two  -> two", "call look(to)", 0),
        ("look 1 call", "-> two", "call look(to)  on denied -> three", 0),
        ("look 1 call", "-> two", "call look(to)  on denied -> stop", 2),
        ("look 1 call", "on error any -> two  -> two", "call look(to)", 0),
        ("look 1 call", "-> two", "each x in [to, to] { call look(x) }", 0),
    ],
)
def test_a_limit_below_the_fewest_calls_of_a_path(limit, first, second, least):
    problems = [
        d for d in found(f"{ALL}  limit {limit}", LOOKS.format(first=first, second=second)) if d.code == "JAM615"
    ]
    assert len(problems) == (least > 0)
    for problem in problems:
        assert f"makes {least}," in problem.why
        assert problem.path[0].state == "one"
        assert problem.path[-1].state == "done"
