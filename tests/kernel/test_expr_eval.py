"""Evaluation of expressions: operators, errors, bounds, and what a run adds to CEL."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.definition import FieldDef, Fn, Scalar
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.evaluate.expression import eval_text
from jamjet_dsl.kernel.expr import FUNCTIONS, MAX_STEPS, EvalError, compile_expr, compile_guard, show
from jamjet_dsl.kernel.values import Duration, Money, Timestamp, TypeValue, UInt, dumps_journal, to_key, to_public

GUARD: list[Any] = [
    "&&",
    [">=", ["select", ["var", "report"], "score"], ["int", 720]],
    ["!", ["exists", ["select", ["var", "report"], "flags"], "f", ["==", ["local", "f"], ["string", "fraud"]]]],
]
INT = Scalar(kind="int")


def fn(body: list[Any], *params: str) -> Fn:
    return Fn(params=tuple(FieldDef(name=p, type=INT) for p in params), result=INT, body=body)


def value(text: str, **data: Any) -> Any:
    return eval_text(text, data)


def failure(text: str, **data: Any) -> str:
    with pytest.raises(JamError) as caught:
        eval_text(text, data)
    return f"{caught.value.code} {caught.value.message}"


@pytest.mark.parametrize(
    ("score", "flags", "expected"),
    [(720, [], True), (719, [], False), (800, ["late"], True), (800, ["late", "fraud"], False)],
)
def test_the_guard_of_the_readme(score: int, flags: list[str], expected: bool) -> None:
    assert compile_guard(GUARD)({"report": {"score": score, "flags": flags}}) is expected


def test_evaluation_leaves_the_environment_as_it_was() -> None:
    env = {"report": {"score": 800, "flags": ["a"]}}
    compile_guard(GUARD)(env)
    assert env == {"report": {"score": 800, "flags": ["a"]}}


def test_a_guard_that_is_no_truth_value_is_an_error_and_never_true() -> None:
    guard = compile_guard(["var", "x"])
    assert guard({"x": True}) is True
    for wrong in (1, "true", None, [True]):
        with pytest.raises(EvalError) as caught:
            guard({"x": wrong})
        assert caught.value.reason == "no_overload"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x.score", "JAMR503 there is no `score` in it"),
        ("nothing + 1", "JAMR503 `nothing` is not known"),
        ("[1][1]", "JAMR503 there is no item 1 in a list of 1"),
        ("{'a': 1}['b']", "JAMR503 there is no key `b` in the map"),
        ("1 / 0", "JAMR503 division by zero"),
        ("1 % 0", "JAMR503 remainder of a division by zero"),
        ("9223372036854775807 + 1", "JAMR503 the result does not fit into 64 bits"),
        ("1 + 'a'", "JAMR503 `+` does not take int and string"),
        ("$1 + 1.00 EUR", "JAMR503 1.00 USD and 1.00 EUR are of different currencies"),
        ("$1 < 1.00 EUR", "JAMR503 1.00 USD and 1.00 EUR are of different currencies"),
        ("nothing(1)", "JAMR503 there is no function `nothing`"),
        ("min([])", "JAMR503 an empty list has no `min`"),
        ("'a'.matches('(')", "JAMR503 `(` is not a regular expression: missing ): ("),
        ("range(2000000)", "JAMR502 the evaluation needs more steps than the limit"),
        ("1 +", "JAMR004 the text is not an expression"),
    ],
)
def test_an_expression_without_a_value_says_why(text: str, reason: str) -> None:
    if reason.startswith("JAMR502"):
        assert failure(text).startswith("JAMR502")
    else:
        assert failure(text, x={"a": 1}) == reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1/0 == 1 || true", True),
        ("true || 1/0 == 1", True),
        ("1/0 == 1 && false", False),
        ("false && 1/0 == 1", False),
        ("1/0 == 1 || 1/0 == 2 || true", True),
        ("[1, 0].exists(x, 1 / x == 1)", True),
        ("[0, 1].exists(x, 1 / x == 1)", True),
        ("[0, 1].all(x, 1 / x > 1)", False),
    ],
)
def test_the_side_that_decides_wins_over_an_error(text: str, expected: bool) -> None:
    assert value(text) is expected


@pytest.mark.parametrize("text", ["1/0 == 1 || false", "1/0 == 1 && true", "[0, 2].exists(x, 1 / x == 1)", "1 || 1"])
def test_an_error_that_nothing_decides_stays_one(text: str) -> None:
    assert failure(text).startswith("JAMR503")


def test_a_long_chain_of_and_is_not_a_deep_expression() -> None:
    chain: list[Any] = ["bool", True]
    for _ in range(3000):
        chain = ["&&", chain, ["bool", True]]
    assert compile_guard(chain)({}) is True


# ---- money, decimals, time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$0.10 + $0.20 == $0.30", True),
        ("$10.00 * decimal('0.075') == $0.75", True),
        ("$1.00 / $3.00", Decimal("0.3333333333333333333333333333333333")),
        ("divide($10.00, 3, 2)", Money(Decimal("3.33"), "USD")),
        ("divide($10.00, -3, 2)", Money(Decimal("-3.33"), "USD")),
        ("divide($0.05, 2, 2)", Money(Decimal("0.02"), "USD")),
        ("divide($0.15, 2, 2)", Money(Decimal("0.08"), "USD")),
        ("round($2.345, 2)", Money(Decimal("2.34"), "USD")),
        ("round($2.355, 2)", Money(Decimal("2.36"), "USD")),
        ("floor($2.349, 2)", Money(Decimal("2.34"), "USD")),
        ("ceil($2.341, 2)", Money(Decimal("2.35"), "USD")),
        ("-$2.50 < $0.00", True),
        ("abs(-$2.50)", Money(Decimal("2.5"), "USD")),
        ("sum([$1.10, $2.20])", Money(Decimal("3.3"), "USD")),
        ("max($1, $3, $2)", Money(Decimal(3), "USD")),
        ("amount($1.50)", Decimal("1.5")),
        ("currency(1.50 EUR)", "EUR"),
        ("money(decimal('1.5'), 'EUR')", Money(Decimal("1.5"), "EUR")),
        ("string($1234567.5)", "1234567.50 USD"),
        ("decimal(0.1) + decimal('0.2') == decimal('0.3')", True),
        ("decimal('1') / 3 * 3 == decimal('1')", False),
        ("1h + 30m == duration('90m')", True),
        ("timestamp('2024-05-10T15:52:59+02:00') == timestamp('2024-05-10T13:52:59Z')", True),
        ("timestamp('2024-05-10T00:00:00Z') - timestamp('2024-05-09T00:00:00Z') == 1d", True),
        ("string(90s)", "90s"),
    ],
)
def test_money_decimals_and_time_are_exact(text: str, expected: Any) -> None:
    found = value(text)
    assert type(found) is type(expected)
    assert found == expected


def test_a_product_that_is_not_exact_any_more_is_refused() -> None:
    many = "decimal('1.1')" + " * decimal('1.000000000000000000001')" * 4
    assert failure(many) == "JAMR503 a decimal needs more digits than are kept"


def test_a_timestamp_without_a_zone_says_so() -> None:
    assert "has no zone" in failure("timestamp('2024-05-10T15:52:59')")


# ---- the dynamic mode


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type(1u)", TypeValue("uint")),
        ("type(1) == int", True),
        ("1u + 2u", UInt(3)),
        ("dyn(1) == 1.0", True),
        ("1 == true", False),
        ("{true: 'a', 1: 'b'}[1]", "b"),
        ("{true: 'a', 1: 'b'}[true]", "a"),
        ("1 in {true: 2}", False),
        ("[1] == [true]", False),
        ("[0.0 / 0.0] == [0.0 / 0.0]", False),
        ("has({'a': null}.a)", True),
        ("{'b': 1, 'a': 2}.map(k, k)", ["a", "b"]),
        ("{ account: 'a1' }", {"account": "a1"}),
        ("[[1, 2], [3]].flatten()", [1, 2, 3]),
        ("distinct([1, 1u, 1.0, true, 2])", [1, True, 2]),
        ("[1, 2, 3].map(x, x > 1, x * 2)", [4, 6]),
        ("'a,b'.split(',').join('-')", "a-b"),
        ("range(1, 4)", [1, 2, 3]),
    ],
)
def test_dynamic_values(text: str, expected: Any) -> None:
    assert value(text) == expected


def test_a_qualified_name_prefers_the_longest_variable() -> None:
    assert eval_text("a.b.c", {"a.b.c": 1, "a.b": {"c": 2}, "a": {"b": {"c": 3}}}) == 1
    assert eval_text("a.b.c", {"a.b": {"c": 2}, "a": {"b": {"c": 3}}}) == 2
    assert eval_text("a.b.c", {"a": {"b": {"c": 3}}}) == 3


def test_data_from_json_has_the_numbers_of_cel() -> None:
    assert eval_text("x == 1.1 && type(x) == double", {"x": Decimal("1.1")}) is True
    with pytest.raises(JamError) as caught:
        eval_text("x", {"x": 2**70, "y": [object()]})
    assert caught.value.code == "JAMR301"
    assert len(caught.value.details) == 2


# ---- programs


@pytest.mark.parametrize("env", [{}, {"m": None}, {"m": {}}, {"m": {"call": None}}])
def test_has_is_false_for_what_is_unset_null_or_missing(env: dict[str, Any]) -> None:
    assert compile_guard(["has", ["select", ["select", ["var", "m"], "call"], "tool"]])(env) is False


def test_has_does_not_hide_other_errors() -> None:
    with pytest.raises(EvalError, match="division"):
        compile_guard(["has", ["index", ["var", "xs"], ["/", ["int", 1], ["int", 0]]]])({"xs": [1]})


def test_an_int_is_widened_where_the_compiler_says_so() -> None:
    assert compile_expr(["widen", "decimal", ["var", "n"]])({"n": 3}) == Decimal(3)
    assert type(compile_expr(["widen", "float", ["var", "n"]])({"n": 3})) is float
    assert compile_expr(["widen", "decimal", ["var", "n"]])({"n": None}) is None


def test_a_text_shows_values_as_people_read_them() -> None:
    text = ["text", "Lend ", ["show", ["var", "m"]], " {", ["show", ["var", "xs"]], "}"]
    env = {"m": Money(Decimal("9000"), "USD"), "xs": [1, Duration.of_ms(1500)]}
    assert compile_expr(text)(env) == 'Lend 9000.00 USD {[1, "1.5s"]}'
    assert show(None) == "null"
    assert show(2.0) == "2"


def test_a_declared_function_reads_its_parameters_only() -> None:
    fns = {
        "twice": fn(["*", ["local", "x"], ["int", 2]], "x"),
        "sum2": fn(["+", ["fn", "twice", ["local", "x"]], ["local", "y"]], "x", "y"),
    }
    expr = ["fn", "sum2", ["fn", "twice", ["var", "x"]], ["map_", ["list", ["int", 1]], "x", ["local", "x"]]]
    expr[3] = ["index", expr[3], ["int", 0]]
    assert compile_expr(expr, fns)({"x": 5}) == 21


def test_nested_macros_may_use_one_name() -> None:
    inner = ["map_", ["list", ["local", "x"], ["int", 9]], "x", ["+", ["local", "x"], ["int", 1]]]
    expr = ["map_", ["list", ["int", 1], ["int", 2]], "x", ["list", inner, ["local", "x"]]]
    assert compile_expr(expr)({}) == [[[2, 10], 1], [[3, 10], 2]]


def test_history_and_provenance_come_from_the_run() -> None:
    seen: list[Any] = []

    def ask(*what: Any) -> Any:
        seen.append(what)
        return 2

    env = {"x": 7, "$calls": ask, "$history": ask, "now": Timestamp.of_ms(5)}
    assert compile_expr(["calls", "pay"])(env) == 2
    assert compile_expr(["history", "failed", "pay", {"amount": ["var", "x"]}])(env) == 2
    assert seen == [("pay",), ("failed", "pay", {"amount": 7})]
    assert compile_expr(["var", "now"])(env) == Timestamp(5_000_000)
    with pytest.raises(EvalError, match="no run"):
        compile_expr(["calls", "pay"])({})


def test_a_composed_value_is_attested_if_all_of_it_is_and_untrusted_if_any_of_it_is() -> None:
    args = ["+", ["select", ["var", "a"], "note"], ["index", ["var", "b"], ["int", 0]]]
    known = {("a", "note"): True, ("b", 0): False}
    env = {"$attested": known.get, "$untrusted": known.get}
    assert compile_guard(["attested", args])(env) is False
    assert compile_guard(["untrusted", args])(env) is True
    assert compile_guard(["attested", args[1]])(env) is True
    assert compile_guard(["attested", ["string", "constant"]])(env) is False
    with pytest.raises(EvalError, match="not known"):
        compile_guard(["attested", ["var", "c"]])(env)


# ---- bounds


def test_an_expression_that_is_too_large_or_too_deep_is_refused_when_compiled() -> None:
    deep: list[Any] = ["int", 1]
    for _ in range(300):
        deep = ["neg", deep]
    for expr in (deep, ["list", *(["int", n] for n in range(20_000))]):
        with pytest.raises(JamError) as caught:
            compile_expr(expr)
        assert caught.value.code == "JAMR501"


def test_functions_that_call_each_other_add_to_the_depth() -> None:
    fns = {"f0": fn(["neg", ["local", "x"]], "x")}
    for n in range(1, 150):
        fns[f"f{n}"] = fn(["fn", f"f{n - 1}", ["local", "x"]], "x")
    assert compile_expr(["fn", "f90", ["int", 1]], fns)({}) == -1
    with pytest.raises(JamError):
        compile_expr(_nest(["fn", "f149", ["int", 1]]), fns)


def _nest(expr: list[Any]) -> list[Any]:
    for _ in range(100):
        expr = ["neg", expr]
    return expr


def test_a_function_that_calls_itself_is_refused() -> None:
    with pytest.raises(JamError):
        compile_expr(["fn", "f", ["int", 1]], {"f": fn(["fn", "f", ["local", "x"]], "x")})


def test_doubling_functions_run_out_of_steps_instead_of_time() -> None:
    fns = {"f0": fn(["+", ["local", "x"], ["local", "x"]], "x")}
    for n in range(1, 60):
        below = ["fn", f"f{n - 1}", ["local", "x"]]
        fns[f"f{n}"] = fn(["%", ["+", below, below], ["int", 7]], "x")
    with pytest.raises(EvalError) as caught:
        compile_expr(["fn", "f59", ["int", 1]], fns)({})
    assert caught.value.reason == "limit"


def test_nested_macros_share_one_meter() -> None:
    xs = ["var", "xs"]
    square = ["all", xs, "a", ["all", xs, "b", ["bool", True]]]
    size = int(MAX_STEPS**0.5) + 1
    assert compile_guard(square)({"xs": [0] * (size // 2)}) is True
    with pytest.raises(EvalError) as caught:
        compile_guard(square)({"xs": [0] * size})
    assert caught.value.reason == "limit"


def test_a_macro_cannot_fill_the_memory_with_long_texts() -> None:
    with pytest.raises(EvalError) as caught:
        compile_expr(["map_", ["var", "xs"], "x", ["+", ["var", "s"], ["string", "!"]]])(
            {"xs": [0] * 1000, "s": "x" * 900_000}
        )
    assert caught.value.reason == "limit"


@pytest.mark.parametrize(
    "body",
    [
        ["call", "contains", ["var", "s"], ["string", "b"]],
        ["call", "matches", ["var", "s"], ["string", "b"]],
        ["!=", ["var", "ys"], ["list", ["int", 1]]],
        ["==", ["var", "ys"], ["var", "zs"]],
        ["in", ["int", 0], ["var", "ys"]],
    ],
)
def test_work_inside_of_a_macro_is_counted(body: list[Any]) -> None:
    env = {"xs": [0] * 1000, "s": "a" * 1_000_000, "ys": [1] * 100_000, "zs": [1] * 100_000}
    if body[0] == "!=":
        assert compile_expr(["map_", ["var", "xs"], "x", body])(env) == [True] * 1000  # lengths differ: no work
        return
    with pytest.raises(EvalError) as caught:
        compile_expr(["map_", ["var", "xs"], "x", body])(env)
    assert caught.value.reason == "limit"


def test_a_text_that_grows_too_long_is_refused() -> None:
    with pytest.raises(EvalError) as caught:
        compile_expr(["+", ["var", "s"], ["var", "s"]])({"s": "x" * 600_000})
    assert caught.value.reason == "limit"


@pytest.mark.parametrize(
    "broken", [["nope", 1], [], "x", ["!", "x"], ["+", ["int", 1], 2], ["local", "x"], ["+", ["int", 1]]]
)
def test_what_is_no_expression_is_refused(broken: Any) -> None:
    with pytest.raises(ValueError, match=r"expression|operator"):
        compile_expr(broken)


def test_a_bad_pattern_in_a_program_is_an_evaluation_error() -> None:
    with pytest.raises(EvalError, match="regular expression"):
        compile_guard(["call", "matches", ["var", "s"], ["string", "("]])({"s": "x"})


def test_a_pattern_matches_in_linear_time() -> None:
    assert compile_guard(["call", "matches", ["var", "s"], ["string", "(a*)*b"]])({"s": "a" * 100_000}) is False


@pytest.mark.parametrize(
    ("before", "inner", "after"),
    [
        ("[", "1", "]"),
        ("(-", "1", ")"),
        ("size([", "1", "])"),
        ("{1: ", "1", "}"),
        ("[1].map(x, ", "1", ")"),
        ("(true ? ", "1", " : 2)"),
        ("(1 + ", "1", ")"),
        ("", "1", " + 1"),
        ("", "x", ".a"),
        ("", "[[1]]", "[0]"),
    ],
)
@pytest.mark.parametrize("levels", [60, 95, 150, 198, 250, 5000])
def test_nesting_ends_in_a_value_or_a_coded_error(before: str, inner: str, after: str, levels: int) -> None:
    try:
        eval_text(before * levels + inner + after * levels, {"x": {"a": 1}})
    except JamError as problem:
        found = problem.code
    else:
        found = "a value"
    assert found in (("a value", "JAMR503") if levels < 100 else ("a value", "JAMR503", "JAMR501", "JAMR004"))


TOKENS = """1 2u 1.5 "a" b'x' $1.50 90s true null x xs.map .exists( .all( , : ? ( ) [ ] { } + - * / % < == != in && || !
 size( has( min( matches( timestamp( "2024-05-10T00:00:00Z" decimal( -1 9223372036854775807 .a .b [0] ["k"] e"""
WORDS = TOKENS.split()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join) | st.text(max_size=30))
def test_any_text_gives_a_value_or_a_coded_error(text: str) -> None:
    try:
        to_public(eval_text(text, {"x": {"a": [1], "k": "v"}, "xs": [1, "a", None, 2.5]}))
    except JamError as problem:
        assert problem.code in ("JAMR004", "JAMR501", "JAMR502", "JAMR503")  # noqa: PT017  # a value is as good


LEAVES = st.sampled_from(
    [
        ["null"], ["bool", True], ["int", 0], ["int", 3], ["int", "9223372036854775807"], ["uint", 3], ["float", 2.5],
        ["string", "ab"], ["string", "("], ["bytes", "YQ=="], ["decimal", "1.50"], ["money", "1.50 USD"],
        ["money", "2.00 EUR"], ["duration", 90000], ["var", "unset"], ["var", "t"], ["var", "m"], ["var", "nan"],
        ["list"], ["map"], ["type", "int"],
    ]
)  # fmt: skip


def _compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    binary = ["==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%", "&&", "||"]
    return st.one_of(
        st.tuples(st.sampled_from(binary), inner, inner).map(list),
        st.tuples(st.sampled_from(["!", "neg", "has"]), inner).map(list),
        st.tuples(st.just("?:"), inner, inner, inner).map(list),
        st.tuples(st.just("index"), inner, inner).map(list),
        st.tuples(st.just("select"), inner, st.sampled_from(["a", "b"])).map(list),
        st.lists(inner, max_size=3).map(lambda xs: ["list", *xs]),
        st.lists(st.tuples(inner, inner).map(list), max_size=2).map(lambda ps: ["map", *ps]),
        st.tuples(st.sampled_from(["all", "exists", "exists_one", "filter", "map_"]), inner, st.just("v"), inner).map(
            list
        ),
        st.tuples(st.sampled_from(sorted(FUNCTIONS)), st.lists(inner, max_size=3)).map(lambda c: ["call", c[0], *c[1]]),
        st.tuples(st.just("widen"), st.sampled_from(["decimal", "float"]), inner).map(list),
        inner.map(lambda e: ["text", "x", ["show", e]]),
    )


@settings(max_examples=600, deadline=None)
@given(st.recursive(LEAVES, _compound, max_leaves=8))
def test_any_operators_on_any_values_give_a_value_or_an_evaluation_error(expr: Any) -> None:
    env = {"t": Timestamp.of_ms(0), "m": {"a": [1, None], to_key(True): 2}, "nan": float("nan")}
    try:
        value = compile_expr(expr)(env)
    except EvalError as problem:
        assert problem.message  # noqa: PT017  # a value is as good
        return
    to_public(value)
    dumps_journal(value)
