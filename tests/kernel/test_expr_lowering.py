"""From a checked program to the JSON form of its expressions, and what they then evaluate to."""

from __future__ import annotations

from typing import Any

import pytest

from jamjet_dsl.analysis.lower_expr import lower_expr, lower_text
from jamjet_dsl.compiler import analyse_text
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.evaluate.expression import eval_text
from jamjet_dsl.kernel.expr import compile_expr
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import walk

PROGRAM = """
record Item {{ name: string  price: decimal  note: string? }}
enum Outcome {{ yes  no }}
const rate: decimal = 2
const most = $100
fn total(items: list<Item>, factor: decimal) -> decimal = sum(items.map(i, i.price)) * factor
tool pay(amount: money) -> string {{ effect reads }}
agent a version 1 {{
  input n: int, items: list<Item>, paid: list<money>
  output result: {type}
  budget {{ steps 5  exceeded -> g }}
  policy {{ allow pay when {condition} }}
  var x: {type}
  var most_of: string = "all"
  start state s {{
    call pay($1) as r
    set x = {value}
    -> q
  }}
  state q {{
    ask role "lead" "Pay {{n}} of {{{{{{most_of}}}} now?" options go, stop as review
    on go -> f
    on stop -> f
  }}
  final f {{ result = x }}
  failed g {{ }}
}}
"""


ABOUT_EXPRESSIONS = ("JAM001", "JAM101", "JAM108", "JAM401", "JAM402", "JAM403", "JAM404", "JAM501")


def analysed(value: str, type: str, condition: str) -> Any:
    result = analyse_text(PROGRAM.format(value=value, type=type, condition=condition))
    errors = [
        d
        for d in result.diagnostics
        if d.severity == "error" and d.code in ("JAM001", "JAM101", "JAM401", "JAM402", "JAM403", "JAM404", "JAM501")
    ]
    assert not errors, [(d.code, d.message, d.span.text) for d in errors]
    return result.analysis


def lowered(value: str, type: str = "bool", condition: str = "true") -> Any:
    analysis = analysed(value, type, condition)
    for node in walk(analysis.files[0].program.items[-1]):
        if isinstance(node, ast.SetClause):
            return lower_expr(node.value, analysis, currency="EUR")
    raise AssertionError("no `set`")


def allowed(condition: str) -> Any:
    analysis = analysed("true", "bool", condition)
    for node in walk(analysis.files[0].program.items[-1]):
        if isinstance(node, ast.AllowRule):
            assert node.when is not None
            return lower_expr(node.when, analysis)
    raise AssertionError("no `allow`")


ITEM = ["select", ["local", "i"], "price"]


@pytest.mark.parametrize(
    ("value", "type", "expected"),
    [
        ("n", "int", ["var", "n"]),
        ("n", "decimal", ["widen", "decimal", ["var", "n"]]),
        ("5", "decimal", ["decimal", "5"]),
        ("0.10", "decimal", ["decimal", "0.10"]),
        ("- 0.1234567890123456789012345", "decimal", ["decimal", "-0.1234567890123456789012345"]),
        ("5", "float", ["float", 5.0]),
        ("-0.0", "float", ["neg", ["float", 0.0]]),
        ("9223372036854775807", "int", ["int", "9223372036854775807"]),
        ("20k", "int", ["int", 20000]),
        ("$1.5", "money", ["money", "1.50 USD"]),
        ("-$1.5", "money", ["money", "-1.50 USD"]),
        ("1h", "duration", ["duration", 3600000]),
        ("b'a'", "bytes", ["bytes", "YQ=="]),
        ("most", "money", ["money", "100.00 USD"]),
        ("n * rate", "decimal", ["*", ["widen", "decimal", ["var", "n"]], ["decimal", "2"]]),
        ("$2 * 0.075", "money", ["*", ["money", "2.00 USD"], ["decimal", "0.075"]]),
        ("yes", "Outcome", ["enum", "Outcome", "yes"]),
        ("Outcome.no", "Outcome", ["enum", "Outcome", "no"]),
        ('"no"', "Outcome", ["enum", "Outcome", "no"]),
        (
            "n > 1 ? yes : no",
            "Outcome",
            ["?:", [">", ["var", "n"], ["int", 1]], ["enum", "Outcome", "yes"], ["enum", "Outcome", "no"]],
        ),
        (
            '{ name: "x", price: 2 }',
            "Item",
            ["record", "Item", {"name": ["string", "x"], "price": ["decimal", "2"], "note": ["null"]}],
        ),
        ('{ "k": 2 }', "map<string, int>", ["map", [["string", "k"], ["int", 2]]]),
        ("total(items, 3)", "decimal", ["fn", "total", ["var", "items"], ["decimal", "3"]]),
        ("sum(paid)", "money", ["call", "sum", ["var", "paid"], ["money", "0.00 EUR"]]),
        (
            "sum(items.map(i, i.price))",
            "decimal",
            ["call", "sum", ["map_", ["var", "items"], "i", ITEM], ["decimal", "0"]],
        ),
        ("sum([n])", "int", ["call", "sum", ["list", ["var", "n"]]]),
        (
            "items.exists(i, has(i.note) && i.price > 5)",
            "bool",
            [
                "exists",
                ["var", "items"],
                "i",
                ["&&", ["has", ["select", ["local", "i"], "note"]], [">", ITEM, ["decimal", "5"]]],
            ],
        ),
        ('r.startsWith("a")', "bool", ["call", "startsWith", ["var", "r"], ["string", "a"]]),
        ("items[0].name", "string", ["select", ["index", ["var", "items"], ["int", 0]], "name"]),
    ],
)
def test_the_json_form(value: str, type: str, expected: Any) -> None:
    found = lowered(value, type)
    assert found == expected
    compile_expr(found, {"total": _total()})


def _total() -> Any:
    from jamjet_dsl.definition import FieldDef, Fn, ListType, RecordType, Scalar

    decimal = Scalar(kind="decimal")
    items = FieldDef(name="items", type=ListType(item=RecordType(name="Item")))
    return Fn(params=(items, FieldDef(name="factor", type=decimal)), result=decimal, body=["local", "factor"])


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("args.amount <= most", ["<=", ["select", ["var", "args"], "amount"], ["money", "100.00 USD"]]),
        (
            "attempted(pay, amount = args.amount) < 3",
            ["<", ["history", "attempted", "pay", {"amount": ["select", ["var", "args"], "amount"]}], ["int", 3]],
        ),
        ("attested(x)", ["attested", ["var", "x"]]),
        ("!untrusted(args.amount)", ["!", ["untrusted", ["select", ["var", "args"], "amount"]]]),
        (
            "args.amount <= budget.remaining.cost",
            [
                "<=",
                ["select", ["var", "args"], "amount"],
                ["select", ["select", ["var", "budget"], "remaining"], "cost"],
            ],
        ),
    ],
)
def test_conditions_of_a_policy(condition: str, expected: Any) -> None:
    assert allowed(condition) == expected


def test_a_question_shows_its_placeholders_and_keeps_its_braces() -> None:
    analysis = analysed("true", "bool", "true")
    texts = [n for n in walk(analysis.files[0].program.items[-1]) if isinstance(n, ast.Text)]
    found = lower_text(texts[0], analysis)
    assert found[:3] == ["text", "Pay ", ["show", ["var", "n"]]]
    assert compile_expr(found)({"n": 3, "most_of": "all"}).startswith("Pay 3 of {")


def test_consts_that_double_each_other_are_refused_instead_of_filling_the_memory() -> None:
    consts = ["const c0 = [1, 2]"] + [f"const c{n} = c{n - 1} + c{n - 1}" for n in range(1, 60)]
    analysis = analyse_text("\n".join(consts)).analysis
    last = analysis.files[0].program.items[-1]
    assert isinstance(last, ast.ConstDecl)
    with pytest.raises(JamError) as caught:
        lower_expr(last.value, analysis)
    assert caught.value.code == "JAMR501"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b", ["qualified", ["a", "b"], ""]),
        ("has(a.b)", ["present", ["qualified", ["a", "b"], ""]]),
        (
            "xs.map(x, x.y + y)",
            ["map_", ["qualified", ["xs"], ""], "x", ["+", ["select", ["local", "x"], "y"], ["qualified", ["y"], ""]]],
        ),
        ("xs.map(x, true, x)", ["map_if", ["qualified", ["xs"], ""], "x", ["bool", True], ["local", "x"]]),
    ],
)
def test_without_an_analysis_names_are_looked_up_later(text: str, expected: Any) -> None:
    from jamjet_dsl.source import SourceFile
    from jamjet_dsl.syntax.parser import parse_expression

    expr, _ = parse_expression(SourceFile("x", text))
    assert lower_expr(expr, None) == expected


def test_a_macro_over_something_that_is_no_name_is_a_coded_error() -> None:
    with pytest.raises(JamError, match="new name") as caught:
        eval_text("[1].map(1, 2)")
    assert caught.value.code == "JAMR004"
