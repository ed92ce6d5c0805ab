"""Guard analysis: verdicts and witnesses in words, and against plain enumeration of all values."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.analysis.checks.atoms import Space
from jamjet_dsl.analysis.checks.cover import first_match
from jamjet_dsl.analysis.checks.guards import check_guards
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowRegion, FlowState, Symbol, Type
from jamjet_dsl.compiler import analyse_text, check_text
from jamjet_dsl.source import SourceFile, Span
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import walk
from jamjet_dsl.syntax.parser import parse, parse_expression

STRING, BOOL, INT = Type("string"), Type("bool"), Type("int")
TYPES: dict[str, Type] = {
    "score": Type("int", low=300, high=850),
    "n": INT,
    "ratio": Type("decimal"),
    "p": Type("float"),
    "amount": Type("money", currency="USD"),
    "age": Type("duration"),
    "status": STRING,
    "outcome": Type("enum", name="Outcome"),
    "ok": BOOL,
    "flags": Type("list", (STRING,)),
    "few": Type("list", (INT,), low=1, high=3),
    "m": Type("map", (STRING, INT)),
    "note": Type("optional", (INT,)),
    "raw": Type("any"),
    "u": Type("uint"),
}
MEMBERS = ("approved", "declined", "review")


def analysis_of(program: ast.Program) -> Analysis:
    """Types and symbols for the names in `TYPES`, as type checking would leave them."""
    analysis = Analysis()
    span = Span(program.source, 0, 0)
    decl = ast.EnumDecl(span, ast.Name(span, "Outcome"), tuple(ast.Name(span, m) for m in MEMBERS), None)
    analysis.enums["Outcome"] = decl
    for item in program.items:
        for node in walk(item):
            annotate(node, analysis)
    return analysis


def annotate(node: Any, analysis: Analysis) -> None:
    match node:
        case ast.Ident(name=name) if name in MEMBERS:
            analysis.symbols[node] = Symbol("member", name, None)
        case ast.Ident(name=name):
            analysis.types[node] = TYPES.get(name, INT)
        case ast.FnCall(function=ast.Name(text="size")) | ast.MethodCall(method=ast.Name(text="size")):
            analysis.types[node] = INT
        case ast.FnCall(function=ast.Name(text="int")):
            analysis.types[node] = INT
        case ast.Binary(op="+" | "-" | "*" | "/" | "%"):
            analysis.types[node] = INT
        case ast.Lit(kind=kind):
            analysis.types[node] = Type(kind)
        case ast.Expr():
            analysis.types[node] = BOOL


def findings(guards: str) -> list[tuple[str, str]]:
    """What is found about a state with these edges, as (code, message)."""
    source = SourceFile("g.jam", f"agent a version 1 {{\n start state s {{\n {guards}\n }}\n final t {{ }}\n}}\n")
    parsed = parse(source)
    assert not parsed.diagnostics, parsed.diagnostics
    agent = next(i for i in parsed.program.items if isinstance(i, ast.AgentDecl))
    decl = next(m for m in agent.members if isinstance(m, ast.StateDecl))
    region = FlowRegion("agent", "a", None)
    state = FlowState("s", "s", decl, region, None, decl.clauses)
    region.states["s"] = region.start = state
    info = AgentInfo(agent, parsed.program, "a", flow=region)
    analysis = analysis_of(parsed.program)
    analysis.agents.append(info)
    return [(d.code, d.message) for d in check_guards(info, analysis)]


def one(guards: str) -> tuple[str, str]:
    (found,) = findings(guards)
    return found


# ---- verdicts and witnesses


@pytest.mark.parametrize(
    "guards",
    [
        "when score >= 580 -> t  when score < 580 -> t",
        "when score > 579 -> t  when score <= 579 -> t",
        "when score >= 300 -> t",
        "when n < 5 -> t  when n == 5 -> t  when n > 5 -> t",
        "when n < 5 -> t  when n > 4 -> t",
        "when ok -> t  when !ok -> t",
        "when ok == true -> t  when ok != true -> t",
        "when outcome == approved -> t  when outcome != approved -> t",
        "when outcome == approved -> t  when outcome == declined -> t  when outcome == review -> t",
        "when outcome in [approved, declined] -> t  when outcome == review -> t",
        "when amount <= $10 -> t  when amount > $10.00 -> t",
        "when age < 2h -> t  when age >= 120m -> t",
        "when ratio < 0.1 -> t  when ratio >= 0.10 -> t",
        "when has(note) && note > 3 -> t  when has(note) && note <= 3 -> t  when !has(note) -> t",
        "when note == null -> t  when note != null -> t",
        'when status == "a" -> t  when status != "a" -> t',
        'when flags.exists(f, f == "x") -> t  when !flags.exists(f,f=="x") -> t',
        "when n < score -> t  when score <= n -> t",
        "when n < score -> t  when n == score -> t  when n > score -> t",
        "when size(flags) == 0 -> t  when flags.size() >= 1 -> t",
        "when size(few) < 4 -> t",
        "when ok && score > 500 -> t  when !ok && score > 500 -> t  when score <= 500 -> t",
        "when ok ? score > 500 : score > 600 -> t  when ok ? score <= 500 : score <= 600 -> t",
        "when (ok || score > 5) && n > 0 -> t  otherwise -> t",
        "when n > 3 -> t  -> t",
        "when has(raw) && raw -> t  otherwise -> t",
        'when has(raw) && raw == "a" && raw != "b" -> t  otherwise -> t',
        "when n <= 9223372036854775807 -> t",
        "when u >= 0u -> t",
    ],
)
def test_guards_that_cover_every_case_are_accepted(guards):
    assert findings(guards) == []


@pytest.mark.parametrize(
    ("guards", "message"),
    [
        ("when score >= 720 -> t  when score < 580 -> t", "`s` has no edge for score between 580 and 719"),
        ("when score > 580 -> t  when score < 580 -> t", "`s` has no edge for score = 580"),
        ("when n > 5 -> t  when n < 0 -> t", "`s` has no edge for n between 0 and 5"),
        ("when n < 7 -> t", "`s` has no edge for n = 7"),
        ("when amount <= $10_000 -> t", "`s` has no edge for amount = $10_000.01"),
        ("when amount <= $10 -> t  when amount >= $10.01 -> t", "`s` has no edge for amount = $10.001"),
        ("when age < 2h -> t  when age > 2h -> t", "`s` has no edge for age = 2h"),
        ("when outcome == approved -> t  when outcome == review -> t", "`s` has no edge for outcome = declined"),
        ('when status in ["a", "b"] -> t', '`s` has no edge for status other than "a", "b"'),
        ("when ok -> t", "`s` has no edge for ok = false"),
        ("when has(note) -> t", "`s` has no edge for note not set"),
        ("when n < 9223372036854775807 -> t", "`s` has no edge for n = 9223372036854775807"),
        ("when u > 0u -> t", "`s` has no edge for u = 0"),
        ("when p < 0.5 -> t  when p >= 0.5 -> t", "`s` has no edge for p = NaN"),
        ("when n < score -> t  when n > score -> t", "`s` has no edge for n == score"),
        (
            "when score >= 720 && amount <= $10_000 -> t  when score < 720 -> t",
            "`s` has no edge for score between 720 and 850, amount = $10_000.01",
        ),
        (
            'when flags.exists(f, f == "x") -> t',
            '`s` has no edge for `flags.exists(f, f == "x")` being false',
        ),
    ],
)
def test_a_gap_is_refused_with_a_case_that_has_no_edge(guards, message):
    assert one(guards) == ("JAM505", message)


@pytest.mark.parametrize(
    ("guards", "code", "message"),
    [
        ("when score > 900 -> t  otherwise -> t", "JAM502", "`score > 900` is never true"),
        ("when n > 5 && n < 6 -> t  otherwise -> t", "JAM502", "`n > 5 && n < 6` is never true"),
        ("when u < 0u -> t  otherwise -> t", "JAM502", "`u < 0u` is never true"),
        ("when ok && !ok -> t  otherwise -> t", "JAM502", "`ok && !ok` is never true"),
        (
            "when score <= 850 -> t  otherwise -> t",
            "JAM503",
            "`score <= 850` is always true, so no later edge is ever taken",
        ),
        (
            "when score < 600 -> t  when score < 500 -> t  otherwise -> t",
            "JAM504",
            "`score < 500` is never reached: an earlier guard always wins",
        ),
        (
            "when n < 5 -> t  when n > 5 -> t  when n >= 0 && n <= 9 && n != 5 -> t  otherwise -> t",
            "JAM504",
            "`n >= 0 && n <= 9 && n != 5` is never reached: the guards before it cover all of its cases",
        ),
        (
            "when ok -> t  when !ok -> t  otherwise -> t",
            "JAM504",
            "`otherwise` is never reached: the guards before it cover all of its cases",
        ),
        (
            "when flags.exists(f, true) -> t  when ok && flags.exists(f, true) -> t  otherwise -> t",
            "JAM504",
            "`ok && flags.exists(f, true)` is never reached: an earlier guard always wins",
        ),
    ],
)
def test_an_edge_that_is_never_taken_is_reported(guards, code, message):
    assert one(guards) == (code, message)


def test_too_many_guards_are_unknown_and_not_guessed():
    # Whether an odd number of truths holds: only a single point decides it, and 2 ** 16 points are too many.
    parity = "flags.exists(f, n == 0)"
    for i in range(1, 12):
        parity = f"({parity}) != flags.exists(f, n == {i})"
    code, message = one(f"when {parity} -> t  when !({parity}) -> t")
    assert (code, message) == ("JAM505", "the guards of `s` are too many to prove that they cover every case")


def test_a_state_without_when_is_left_to_the_graph_checks():
    assert findings("-> t") == []


def codes(text: str) -> list[str]:
    return [d.code for d in check_text(text) if d.code.startswith("JAM50")]


def test_an_ask_has_an_edge_for_each_option_and_needs_no_other():
    text = """agent a version 1 {
  input n: int
  start state s {
    ask role "r" "ok?"  options yes, no  timeout 1h
    when n > 3 -> t
    on yes -> t
    on no -> t
    on timeout -> t
  }
  final t {}
}
"""
    assert codes(text) == []


def test_an_item_may_end_where_no_guard_holds_and_a_state_inside_it_may_not():
    text = """agent a version 1 {
  input xs: list<int> 0..9
  output ys: list<int>
  start state s { each x in xs { %s } as ys  -> t }
  final t { ys = ys }
}
"""
    assert codes(text % "when x > 3 skip  yields x") == []
    assert codes(text % "state i { when x > 3 -> j }  state j { yields x }") == ["JAM505"]
    assert codes(text % "state i { when x > 3 skip  yields x }") == []


# ---- against enumeration

NUMBERS = range(-2, 6)
VALUES: dict[str, list[Any]] = {
    "score": list(range(300, 309)),
    "n": list(NUMBERS),
    "ok": [True, False],
    "status": ["a", "b", "c", "zzz"],
    "outcome": list(MEMBERS),
    "note": [None, 0, 1, 2],
}


def _tests() -> st.SearchStrategy[tuple[Any, ...]]:
    ops = st.sampled_from(["<", "<=", "==", "!=", ">", ">="])
    eq = st.sampled_from(["==", "!="])
    return st.one_of(
        st.tuples(st.just("cmp"), st.just("n"), ops, st.integers(-1, 4)),
        st.tuples(st.just("cmp"), st.just("score"), ops, st.integers(299, 306)),
        st.tuples(st.just("cmp"), st.just("status"), eq, st.sampled_from(["a", "b", "c"])),
        st.tuples(st.just("cmp"), st.just("outcome"), eq, st.sampled_from(MEMBERS)),
        st.tuples(st.just("cmp"), st.just("note"), eq, st.sampled_from([0, 1, 2])),
        st.tuples(st.just("pair"), st.just("n"), ops, st.just("note2")),
        st.tuples(st.just("flag")),
        st.tuples(st.just("has")),
        st.tuples(st.just("in"), st.lists(st.integers(-1, 4), min_size=1, max_size=3)),
    )


FORMULAS = st.recursive(
    _tests(),
    lambda inner: st.one_of(
        st.tuples(st.just("!"), inner),
        st.tuples(st.just("&&"), inner, inner),
        st.tuples(st.just("||"), inner, inner),
        st.tuples(st.just("?"), inner, inner, inner),
    ),
    max_leaves=6,
)


def text(f: tuple[Any, ...]) -> str:
    match f:
        case ("cmp", "status", op, value):
            return f'status {op} "{value}"'
        case ("cmp", name, op, value):
            return f"{name} {op} {value}"
        case ("pair", a, op, b):
            return f"{a} {op} {b}"
        case ("flag",):
            return "ok"
        case ("has",):
            return "has(note)"
        case ("in", values):
            return f"n in {values}"
        case ("!", x):
            return f"!({text(x)})"
        case ("?", a, b, c):
            return f"(({text(a)}) ? ({text(b)}) : ({text(c)}))"
        case (op, a, b):
            return f"(({text(a)}) {op} ({text(b)}))"
    raise AssertionError(f)


def compare(op: str, a: Any, b: Any) -> bool:
    match op:
        case "==":
            return bool(a == b)
        case "!=":
            return bool(a != b)
        case "<":
            return bool(a < b)
        case "<=":
            return bool(a <= b)
        case ">":
            return bool(a > b)
    return bool(a >= b)


def holds(f: tuple[Any, ...], env: dict[str, Any]) -> bool:
    match f:
        case ("cmp" | "pair", name, op, value):
            return compare(op, env[name], env[value] if f[0] == "pair" else value)
        case ("flag",):
            return bool(env["ok"])
        case ("has",):
            return env["note"] is not None
        case ("in", values):
            return env["n"] in values
        case ("!", x):
            return not holds(x, env)
        case ("?", a, b, c):
            return holds(b, env) if holds(a, env) else holds(c, env)
        case ("&&", a, b):
            return holds(a, env) and holds(b, env)
        case (_, a, b):
            return holds(a, env) or holds(b, env)
    raise AssertionError(f)


def environments(formulas: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Every combination of the values of the names that the formulas use."""
    used: dict[str, list[Any]] = {}

    def visit(f: Any) -> None:
        match f:
            case ("cmp", name, *_):
                used[name] = VALUES[name]
            case ("pair", *_):
                used["n"], used["note2"] = VALUES["n"], list(range(-2, 6))
            case ("flag",):
                used["ok"] = VALUES["ok"]
            case ("has",):
                used["note"] = VALUES["note"]
            case ("in", _):
                used["n"] = VALUES["n"]
            case (_, *parts):
                for part in parts:
                    visit(part)

    for formula in formulas:
        visit(formula)
    return [dict(zip(used, values, strict=True)) for values in itertools.product(*used.values())]


def cover_of(formulas: list[tuple[Any, ...]]):
    analysis = Analysis()
    span = Span(SourceFile("x", ""), 0, 0)
    analysis.enums["Outcome"] = ast.EnumDecl(
        span, ast.Name(span, "Outcome"), tuple(ast.Name(span, m) for m in MEMBERS), None
    )
    space = Space(analysis)
    made = []
    for formula in formulas:
        expr, problems = parse_expression(SourceFile("x", text(formula)))
        assert not problems
        for node in walk(expr):
            annotate(node, analysis)
        made.append(space.formula(expr))
    space.seal()
    return first_match(made, space), space


def without_pairs(f: Any) -> bool:
    return f[0] != "pair" and all(without_pairs(p) for p in f[1:] if isinstance(p, tuple))


@settings(max_examples=300, deadline=None)
@given(st.lists(FORMULAS.filter(without_pairs), min_size=1, max_size=4))
def test_verdicts_are_those_of_enumeration(formulas):
    cover, _ = cover_of(formulas)
    assert cover.complete
    reached = set()
    gap = False
    for env in environments(formulas):
        first = next((i for i, f in enumerate(formulas) if holds(f, env)), None)
        if first is None:
            gap = True
        else:
            reached.add(first)
    assert cover.reached == reached
    assert (cover.gap is not None) == gap


@settings(max_examples=150, deadline=None)
@given(st.lists(FORMULAS, min_size=1, max_size=3))
def test_what_is_called_impossible_is_impossible_even_between_two_variables(formulas):
    cover, _ = cover_of(formulas)
    for env in environments(formulas):
        first = next((i for i, f in enumerate(formulas) if holds(f, env)), None)
        if first is None:
            assert cover.gap is not None
        else:
            assert first in cover.reached


@settings(max_examples=200, deadline=None)
@given(st.lists(FORMULAS.filter(without_pairs), min_size=1, max_size=3))
def test_the_case_that_is_named_really_has_no_edge(formulas):
    cover, space = cover_of(formulas)
    if cover.gap is None:
        return
    by_text = {dim.text: (dim, mask) for dim, mask in cover.gap.items()}
    met = 0
    for env in environments(formulas):
        if all(inside(env[name], *by_text[name]) for name in by_text):
            met += 1
            assert not any(holds(f, env) for f in formulas), env
    assert met
    assert all(dim in space.dims for dim in cover.gap)


def inside(value: Any, dim: Any, mask: int) -> bool:
    """Whether a value lies in the cells of `mask`."""
    for at, cell in enumerate(dim.cells):
        if not mask >> at & 1:
            continue
        match cell.kind:
            case "absent":
                hit = value is None
            case "point":
                hit = value is not None and value == cell.low
            case "gap":
                hit = value is not None and not isinstance(value, str)
                hit = hit and (cell.low is None or value > cell.low) and (cell.high is None or value < cell.high)
            case "value":
                hit = value == {"true": True, "false": False}.get(cell.value, cell.value)
            case _:
                hit = isinstance(value, str) and value not in dim.names
        if hit:
            return True
    return False


# ---- the words of a witness

OPERATORS = ["<", "<=", "==", "!=", ">", ">="]
NUMERIC = st.tuples(
    st.sampled_from(["n", "score", "ratio", "amount"]),
    st.lists(st.tuples(st.sampled_from(OPERATORS), st.integers(-3, 9)), min_size=1, max_size=4),
)


@settings(max_examples=200, deadline=None)
@given(NUMERIC)
def test_the_value_that_is_written_has_no_edge(case):
    variable, tests = case
    written = {"n": "{}", "score": "{}", "ratio": "{}", "amount": "${}"}[variable]
    values = [value + 300 if variable == "score" else abs(value) for _, value in tests]
    edges = "  ".join(
        f"when {variable} {op} {written.format(value)} -> t" for (op, _), value in zip(tests, values, strict=True)
    )
    gaps = [message for code, message in findings(edges) if code == "JAM505"]
    if not gaps:
        return
    (message,) = gaps
    shown = message.removeprefix(f"`s` has no edge for {variable} ").replace("$", "").replace("_", "")
    if shown.endswith("any value"):
        shown = "= 300" if variable == "score" else "= 0"
    ends = shown.removeprefix("= ").removeprefix("between ").split(" and ")
    for end in map(Decimal, ends):
        assert not any(compare(op, end, Decimal(value)) for (op, _), value in zip(tests, values, strict=True)), message
        assert variable != "score" or 300 <= end <= 850


def test_reasoning_about_guards_is_bounded_for_a_whole_program() -> None:
    guards = "when a&&b||c&&d||e&&f||g&&h||i&&j||k&&l->s0 " + "".join(
        f"when {x}&&{y}&&{z}->s0 " for x, y, z in ("abm", "cdn", "efo", "ghp")
    )
    states = "".join(f"{'' if n else 'start '}state s{n} {{ {guards} -> s{n + 1} }}\n" for n in range(300))
    inputs = ", ".join(f"{name}: bool" for name in "abcdefghijklmnop")
    result = analyse_text(f"agent slow version 1 {{ input {inputs}\n{states} final s300 {{}} }}")
    proved = [d for d in result.diagnostics if d.code == "JAM504"]
    assert proved[0].message.startswith("`a&&b&&m` is never reached")
    assert 4 <= len(proved) < 400
    assert result.analysis.guard_work is not None
    assert result.analysis.guard_work > -20_000  # a question takes a test to find that nothing is left


def test_three_hundred_ordinary_states_are_all_reasoned_about() -> None:
    guards = "when a > 5 && b -> s0  when a > 7 && b -> s0"
    states = "".join(f"{'' if n else 'start '}state s{n} {{ {guards} -> s{n + 1} }}\n" for n in range(300))
    found = check_text(f"agent quick version 1 {{ input a: int, b: bool\n{states} final s300 {{}} }}")
    assert sum(d.code == "JAM504" for d in found) == 300
