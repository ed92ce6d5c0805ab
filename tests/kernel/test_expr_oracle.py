"""Our evaluator against Google's on random well-typed expressions: the same value, or an error from both."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.evaluate.expression import eval_text
from jamjet_dsl.kernel.scalars import UInt, of_key

cel = pytest.importorskip("cel_expr_python.cel")
strings = pytest.importorskip("cel_expr_python.ext.ext_strings")

VARIABLES = {"i": 7, "s": "abc", "b": True, "d": 2.5, "xs": [3, 1, 2], "words": ["a", "bc", ""], "m": {"k": 4, "z": 0}}
ENV = cel.NewEnv(
    variables={
        "i": cel.Type.INT,
        "s": cel.Type.STRING,
        "b": cel.Type.BOOL,
        "d": cel.Type.DOUBLE,
        "xs": cel.Type.List(cel.Type.INT),
        "words": cel.Type.List(cel.Type.STRING),
        "m": cel.Type.Map(cel.Type.STRING, cel.Type.INT),
    },
    extensions=[strings.ExtStrings()],
)
FAILED = object()


def oracle(text: str) -> Any:
    """Google's result. It returns errors as values that are true, so their type has to be looked at."""
    value = ENV.compile(text).eval(data=VARIABLES)
    return FAILED if value.type() == cel.Type.ERROR else value.plain_value()


def ours(text: str) -> Any:
    try:
        return eval_text(text, VARIABLES)
    except JamError as problem:
        return FAILED if problem.code == "JAMR503" else problem


def same(mine: Any, theirs: Any) -> bool:
    if mine is FAILED or theirs is FAILED:
        return mine is theirs
    if isinstance(mine, UInt):
        return bool(type(theirs) is int and mine == theirs)
    if isinstance(mine, list):
        return isinstance(theirs, list) and len(mine) == len(theirs) and all(map(same, mine, theirs))
    if isinstance(mine, dict):
        by_key = {of_key(k): v for k, v in mine.items()}
        return (
            isinstance(theirs, dict)
            and by_key.keys() == theirs.keys()
            and all(same(by_key[k], theirs[k]) for k in theirs)
        )
    if isinstance(mine, float) and isinstance(theirs, float) and math.isnan(mine):
        return math.isnan(theirs)
    return type(mine) is type(theirs) and bool(mine == theirs)


# ---- expressions of each type, as text

INTS = st.one_of(
    st.integers(-5, 5), st.sampled_from([2**63 - 1, -(2**63), 2**62, 2**53 + 1]), st.integers(-(2**63), 2**63 - 1)
).map(lambda n: f"({n})")
STRINGS = st.text("ab🐱\"'\\\n", max_size=4).map(lambda s: _quote(s))
DOUBLES = st.sampled_from(["0.0", "-0.0", "1.5", "1e300", "(0.0/0.0)", "(1.0/0.0)"]) | st.floats(-9, 9).map(
    lambda x: f"({x!r})"
)


SEPARATORS = st.sampled_from(['"a"', '"b"', '"ab"'])
"""Not the empty one: for an empty text Google's C++ then gives one piece, its Go and ours none."""


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _op(left: st.SearchStrategy[str], ops: str, right: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(left, st.sampled_from(ops.split()), right).map(lambda t: f"({t[0]} {t[1]} {t[2]})")


def _form(pattern: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda t: pattern.format(*t))


def grow(depth: int, local: bool = False) -> dict[str, st.SearchStrategy[str]]:
    """Strategies for each type, `depth` levels deep; with `local` the int `x` of a macro is in scope."""
    if depth == 0:
        ints = INTS | st.sampled_from(["i", "x"] if local else ["i"])
        return {
            "int": ints,
            "uint": st.sampled_from(["0u", "1u", "3u", "18446744073709551615u"]),
            "string": STRINGS | st.just("s"),
            "bool": st.sampled_from(["true", "false", "b"]),
            "double": DOUBLES | st.just("d"),
            "ints": st.just("xs") | st.lists(ints, max_size=3).map(lambda xs: f"[{', '.join(xs)}]"),
            "words": st.just("words") | st.lists(STRINGS, min_size=1, max_size=3).map(lambda xs: f"[{', '.join(xs)}]"),
            "map": st.just("m") | ints.map(lambda n: f'{{"k": {n}, "": 1}}'),
        }
    t = grow(depth - 1, local)
    inner = grow(depth - 1, True)
    compare = "== != < <= > >="
    quantifier = st.tuples(t["ints"], st.sampled_from(["all", "exists", "exists_one"]), inner["bool"])
    conditional = {k: _form("({} ? {} : {})", t["bool"], t[k], t[k]) for k in t}
    return {
        "int": st.one_of(
            t["int"],
            _op(t["int"], "+ - * / %", t["int"]),
            _form("(-{})", t["int"]),
            _form("size({})", t["string"]),
            _form("size({})", t["ints"]),
            _form("{}[{}]", t["ints"], t["int"]),
            _form("{}.k", t["map"]),
            _form("{}[{}]", t["map"], t["string"]),
            _form("int({})", t["double"]),
            _form("int({})", t["uint"]),
            _form("{}.indexOf({})", t["string"], t["string"]),
            conditional["int"],
        ),
        "uint": st.one_of(t["uint"], _op(t["uint"], "+ - * / %", t["uint"]), _form("uint({})", t["int"])),
        "string": st.one_of(
            t["string"],
            _op(t["string"], "+", t["string"]),
            _form("string({})", t["int"]),
            _form("string({})", t["bool"]),
            _form("{}[{}]", t["words"], t["int"]),
            _form("{}.substring({})", t["string"], t["int"]),  # with an end, Google's C++ refuses the end of the text
            _form("{}.charAt({})", t["string"], t["int"]),
            _form("{}.replace({}, {})", t["string"], t["string"], t["string"]),
            _form("{}.join({})", t["words"], t["string"]),
            _form("{}.upperAscii()", t["string"]),
            conditional["string"],
        ),
        "bool": st.one_of(
            t["bool"],
            *(_op(t[k], compare, t[k]) for k in ("int", "uint", "string", "double", "bool")),
            *(_op(t[k], "== !=", t[k]) for k in ("ints", "words", "map")),
            _op(t["bool"], "&& ||", t["bool"]),
            _op(t["bool"], "&& ||", t["bool"]),
            _form("(!{})", t["bool"]),
            _op(t["int"], "in", t["ints"]),
            _op(t["string"], "in", t["map"]),
            _form("{}.contains({})", t["string"], t["string"]),
            _form("{}.startsWith({})", t["string"], t["string"]),
            _form("has({}.k)", t["map"]),
            quantifier.map(lambda q: f"{q[0]}.{q[1]}(x, {q[2]})"),
            _form("(dyn({}) == dyn({}))", t["int"], t["double"]),
            _form("(dyn({}) < dyn({}))", t["uint"], t["int"]),
            conditional["bool"],
        ),
        "double": st.one_of(
            t["double"], _op(t["double"], "+ - * /", t["double"]), _form("double({})", t["int"]), conditional["double"]
        ),
        "ints": st.one_of(
            t["ints"],
            _op(t["ints"], "+", t["ints"]),
            _form("{}.map(x, {})", t["ints"], inner["int"]),
            _form("{}.filter(x, {})", t["ints"], inner["bool"]),
            conditional["ints"],
        ),
        "words": st.one_of(
            t["words"], _op(t["words"], "+", t["words"]), _form("{}.split({})", t["string"], SEPARATORS)
        ),
        "map": st.one_of(t["map"], _form('{{"k": {}}}', t["int"]), conditional["map"]),
    }


LEVELS = grow(2)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(*LEVELS.values()))
def test_same_value_or_both_an_error(text: str) -> None:
    theirs = oracle(text)
    mine = ours(text)
    assert same(mine, theirs), f"{text}\nours   {mine!r}\ntheirs {theirs!r}"
