"""The table of overloads, and that the evaluator keeps what it promises."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from jamjet_dsl.analysis.model import Type
from jamjet_dsl.analysis.signatures import (
    FUNCTION_NAMES,
    MESSAGE,
    call_forms,
    call_overload,
    call_type,
    join_types,
    operator_overload,
    operator_type,
    signatures_of,
    unary_type,
)
from jamjet_dsl.kernel.expr import FUNCTIONS, EvalError, type_name
from jamjet_dsl.kernel.expr.operators import ARITHMETIC, ORDERS, arithmetic, ordered
from jamjet_dsl.kernel.values import Duration, Money, Timestamp, UInt

INT, DECIMAL, FLOAT, STRING, BOOL, ANY = map(Type, ("int", "decimal", "float", "string", "bool", "any"))
USD, EUR, MONEY = Type("money", currency="USD"), Type("money", currency="EUR"), Type("money")


def list_of(item: Type) -> Type:
    return Type("list", (item,))


SAMPLES: dict[str, Any] = {
    "int": 6,
    "uint": UInt(3),
    "float": 1.5,
    "decimal": Decimal("2.5"),
    "money": Money(Decimal("2.5"), "USD"),
    "string": "a",
    "bytes": b"a",
    "bool": True,
    "duration": Duration.of_ms(1000),
    "timestamp": Timestamp.of_ms(1000),
}
_KINDS = {"double": "float", "google.protobuf.Duration": "duration", "google.protobuf.Timestamp": "timestamp"}


@pytest.mark.parametrize(
    ("op", "left", "right", "result"),
    [
        ("+", INT, INT, INT),
        ("+", INT, DECIMAL, DECIMAL),
        ("*", INT, FLOAT, FLOAT),
        ("+", USD, USD, USD),
        ("+", USD, MONEY, USD),
        ("+", USD, EUR, None),
        ("<", USD, EUR, None),
        ("==", USD, EUR, None),
        ("*", USD, INT, USD),
        ("*", DECIMAL, EUR, EUR),
        ("*", USD, USD, None),
        ("*", USD, FLOAT, None),
        ("/", USD, USD, DECIMAL),
        ("/", USD, INT, None),
        ("%", INT, INT, INT),
        ("%", FLOAT, FLOAT, None),
        ("==", INT, STRING, None),
        ("==", Type("optional", (INT,)), Type("null"), BOOL),
        ("in", STRING, list_of(STRING), BOOL),
        ("in", INT, list_of(STRING), None),
        ("in", STRING, Type("map", (STRING, INT)), BOOL),
        ("+", list_of(INT), list_of(ANY), list_of(INT)),
        ("+", list_of(INT), list_of(STRING), None),
        ("+", Type("conversation"), list_of(MESSAGE), Type("conversation")),
        ("+", ANY, INT, INT),
        ("<", ANY, INT, BOOL),
        ("+", ANY, ANY, ANY),
        ("+", Type("secret", (STRING,)), STRING, Type("secret", (STRING,))),
        ("==", Type("secret", (STRING,)), STRING, BOOL),
        ("-", Type("timestamp"), Type("timestamp"), Type("duration")),
        ("+", Type("timestamp"), Type("timestamp"), None),
        ("&&", BOOL, INT, None),
    ],
)
def test_the_type_of_an_operator(op: str, left: Type, right: Type, result: Type | None) -> None:
    assert operator_type(op, left, right) == result


def test_an_overload_says_which_operand_is_widened() -> None:
    chosen = operator_overload("*", USD, INT)
    assert chosen is not None
    assert chosen.params == (USD, DECIMAL)
    unchanged = operator_overload("+", INT, INT)
    assert unchanged is not None
    assert unchanged.params == (INT, INT)


@pytest.mark.parametrize(
    ("name", "args", "method", "result"),
    [
        ("size", (STRING,), True, INT),
        ("size", (list_of(USD),), False, INT),
        ("contains", (STRING, STRING), True, BOOL),
        ("contains", (STRING, STRING), False, None),
        ("sum", (list_of(USD),), False, USD),
        ("sum", (list_of(STRING),), False, None),
        ("min", (INT, DECIMAL, INT), False, DECIMAL),
        ("max", (list_of(Type("timestamp")),), False, Type("timestamp")),
        ("flatten", (list_of(list_of(USD)),), False, list_of(USD)),
        ("round", (USD, INT), False, USD),
        ("round", (FLOAT, INT), False, None),
        ("divide", (EUR, INT, INT), False, EUR),
        ("money", (INT, STRING), False, MONEY),
        ("decimal", (INT,), False, DECIMAL),
        ("int", (BOOL,), False, None),
        ("type", (INT,), False, ANY),
        ("getHours", (Type("timestamp"), STRING), True, INT),
        ("getFullYear", (Type("duration"),), True, None),
        ("user", (STRING,), False, MESSAGE),
        ("nothing", (), False, None),
        ("trim", (Type("secret", (STRING,)),), True, Type("secret", (STRING,))),
        ("trim", (Type("optional", (STRING,)),), True, None),
    ],
)
def test_the_type_of_a_call(name: str, args: tuple[Type, ...], method: bool, result: Type | None) -> None:
    assert call_type(name, args, method) == result


def test_the_table_and_the_evaluator_have_the_same_functions() -> None:
    assert set(FUNCTIONS) == FUNCTION_NAMES
    assert all(call_forms(name) for name in FUNCTION_NAMES)
    assert call_forms("nothing") == ""


@pytest.mark.parametrize("left", SAMPLES)
@pytest.mark.parametrize("right", SAMPLES)
def test_what_the_table_allows_the_operators_do_and_what_it_refuses_they_refuse(left: str, right: str) -> None:
    a, b = SAMPLES[left], SAMPLES[right]
    for op in ARITHMETIC:
        chosen = operator_overload(op, Type(left), Type(right))
        if chosen is None:
            with pytest.raises(EvalError):
                arithmetic(op, a, b)
            continue
        # The compiler widens what the overload widens.
        x = float(a) if chosen.params[0].kind == "float" else a
        y = float(b) if chosen.params[1].kind == "float" else b
        name = type_name(arithmetic(op, x, y))
        assert _KINDS.get(name, name) == chosen.result.kind
    for op in ORDERS:
        if operator_type(op, Type(left), Type(right)) is not None:
            assert isinstance(ordered(op, a, b), bool)


def test_every_overload_without_lists_can_be_evaluated() -> None:
    texts = {"timestamp": "2024-05-10T00:00:00Z", "duration": "90s", "bool": "true", "money": "1.50 USD"}
    zoned = {"getHours", "getMinutes", "getSeconds", "getMilliseconds"}
    for name in sorted(FUNCTION_NAMES):
        for signature in signatures_of(name):
            kinds = [k.strip().removesuffix("...") for k in signature[len(name) + 1 : signature.index(")")].split(",")]
            if not all(k in SAMPLES for k in kinds):
                continue
            args = [SAMPLES[k] for k in kinds]
            if args and kinds[0] == "string" and len(kinds) == 1:
                args[0] = texts.get(name, "7")
            if kinds[-1] == "string" and (name.startswith("get") or name in zoned):
                args[-1] = "Europe/Berlin"
            if name == "money" and kinds[-1] == "string" and len(kinds) == 2:
                args[-1] = "EUR"
            if name in ("charAt", "substring", "indexOf", "lastIndexOf", "split", "replace"):
                args = [0 if k == "int" else a for k, a in zip(kinds, args, strict=True)]
            found = type_name(FUNCTIONS[name](*args))
            promised = call_overload(name, tuple(map(Type, kinds)), "f" not in call_forms(name))
            assert promised is not None
            assert promised.result.kind in ("any", "object", _KINDS.get(found, found)), signature


def test_minus_and_not() -> None:
    assert unary_type("-", USD) == USD
    assert unary_type("-", STRING) is None
    assert unary_type("!", INT) is None
    assert unary_type("-", Type("int", low=0, high=5)) == INT


def test_types_join() -> None:
    assert join_types(INT, DECIMAL) == DECIMAL
    assert join_types(list_of(ANY), list_of(INT)) == list_of(INT)
    assert join_types(INT, Type("null")) == Type("optional", (INT,))
    assert join_types(USD, EUR) is None
    assert join_types(Type("enum", name="A"), Type("enum", name="B")) is None
