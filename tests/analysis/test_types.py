"""What fits where, and how types read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jamjet_dsl.analysis.model import Type
from jamjet_dsl.analysis.narrow import Narrowing
from jamjet_dsl.analysis.types import (
    ANY,
    BOOL,
    CONVERSATION,
    DECIMAL,
    ERROR,
    FLOAT,
    INT,
    MONEY,
    MOVE,
    NULL,
    STRING,
    base,
    comparable,
    fits,
    join,
    list_of,
    optional,
    secret,
    show,
)
from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax.parser import parse_expression

RECORD, ENUM = Type("record", name="A"), Type("enum", name="E")
SIMPLE = [BOOL, INT, FLOAT, DECIMAL, STRING, MONEY, RECORD, ENUM, CONVERSATION, MOVE]
TYPES = st.recursive(
    st.sampled_from(SIMPLE),
    lambda inner: st.one_of(
        inner.map(optional),
        inner.map(list_of),
        inner.map(secret),
        inner.map(lambda t: Type("map", (STRING, t))),
    ),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("value", "expected", "ok"),
    [
        (INT, DECIMAL, True),
        (INT, FLOAT, True),
        (DECIMAL, INT, False),
        (FLOAT, DECIMAL, False),
        (list_of(INT), list_of(DECIMAL), False),
        (INT, optional(INT), True),
        (INT, optional(DECIMAL), True),
        (optional(INT), INT, False),
        (NULL, optional(INT), True),
        (NULL, INT, False),
        (INT._replace(low=1, high=5), INT._replace(low=7, high=9), True),
        (secret(STRING), STRING, True),
        (STRING, secret(STRING), True),
        (ANY, STRING, False),
        (STRING, ANY, True),
        (ERROR, STRING, True),
        (STRING, ERROR, True),
        (Type("money", currency="EUR"), MONEY, True),
        (Type("money", currency="EUR"), Type("money", currency="USD"), False),
        (RECORD, Type("record", name="B"), False),
        (STRING, ENUM, False),
    ],
)
def test_what_fits_where(value: Type, expected: Type, ok: bool) -> None:
    assert fits(value, expected) is ok


@given(TYPES)
def test_every_type_fits_itself_its_optional_and_any(t: Type) -> None:
    assert fits(t, t)
    assert fits(t, optional(t))
    assert fits(t, ANY)
    assert comparable(t, t)


@given(TYPES, TYPES)
def test_both_types_fit_their_join_and_the_join_is_symmetric(a: Type, b: Type) -> None:
    joined = join(a, b)
    if joined is not None:
        assert fits(a, joined)
        assert fits(b, joined)
    other = join(b, a)
    assert (joined is None) == (other is None)


@given(TYPES, TYPES, TYPES)
def test_fitting_is_transitive_but_for_secrets(a: Type, b: Type, c: Type) -> None:
    if fits(a, b) and fits(b, c):
        assert fits(a, c)


@given(TYPES)
def test_an_optional_of_an_optional_is_one(t: Type) -> None:
    assert optional(optional(t)) == optional(t)
    assert base(secret(optional(t))) == base(t)


@pytest.mark.parametrize(
    ("t", "text"),
    [
        (optional(list_of(INT._replace(low=0, high=9))), "list<int 0..9>?"),
        (Type("map", (STRING, secret(MONEY))), "map<string, secret money>"),
        (Type("object", fields=(("a", INT), ("b", optional(STRING)))), "{ a: int  b: string? }"),
        (Type("record", name="Part@tools"), "Part"),
        (Type("money", currency="EUR"), "money in EUR"),
    ],
)
def test_types_read_as_programs_write_them(t: Type, text: str) -> None:
    assert show(t) == text


def test_a_deep_type_is_shortened() -> None:
    t = INT
    for _ in range(100):
        t = list_of(t)
    assert len(show(t)) < 60


@pytest.mark.parametrize(
    ("text", "true", "false"),
    [
        ("has(a.b)", {"a.b"}, set()),
        ("!has(a.b)", set(), {"a.b"}),
        ("has(a) && has(b.c)", {"a", "b.c"}, set()),
        ("has(a) || has(b)", set(), set()),
        ("!has(a) || !has(b)", set(), {"a", "b"}),
        ("(has(a) && has(b)) || (has(a) && has(c))", {"a"}, set()),
        ("a != null", {"a"}, set()),
        ("null == a.b", set(), {"a.b"}),
        ('a == "x"', {"a"}, set()),
        ('a != "x"', set(), {"a"}),
        ("a == b", set(), set()),
        ("has(a[0])", set(), set()),
    ],
)
def test_what_a_condition_says_about_optional_values(text: str, true: set[str], false: set[str]) -> None:
    expr, problems = parse_expression(SourceFile("<expression>", text))
    assert problems == []
    facts = Narrowing().facts(expr)
    assert (set(facts.true), set(facts.false)) == (true, false)
