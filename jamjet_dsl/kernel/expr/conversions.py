"""Conversions between types, as CEL has them, with `decimal` and `money` beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from jamjet_dsl.kernel.expr.operators import int_result, no_overload, type_name, uint_result
from jamjet_dsl.kernel.scalars import EXACT as _EXACT
from jamjet_dsl.kernel.scalars import (
    NS,
    Duration,
    EvalError,
    Money,
    Timestamp,
    TypeValue,
    UInt,
    Value,
    exactly,
    parse_decimal,
    parse_duration,
    parse_money,
    parse_timestamp,
    timestamp,
)

_INT = re.compile(r"[+-]?\d{1,30}", re.ASCII)
_UINT = re.compile(r"\d{1,30}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)


def _bad(text: str, what: str) -> EvalError:
    return EvalError("bad_argument", f"`{text:.40}` is not {what}")


def _whole(value: float) -> int:
    """A float towards zero. The ends of the 64-bit range do not count: a float that is there was rounded."""
    if not math.isfinite(value) or not -(2.0**63) < value < 2.0**64:
        raise EvalError("overflow", "the number does not fit into 64 bits")
    return int(value)


def to_int(value: Any) -> int:
    """`int(x)`: towards zero for numbers with a fraction, seconds since the epoch for a timestamp."""
    match value:
        case bool():
            raise no_overload("`int`", value)
        case int() | Decimal():
            return int_result(int(value))
        case float():
            if value >= 2.0**63:
                raise EvalError("overflow", "the number does not fit into 64 bits")
            return int_result(_whole(value))
        case str():
            if not _INT.fullmatch(value):
                raise _bad(value, "a whole number")
            return int_result(int(value))
        case Timestamp():
            return value.ns // NS
    raise no_overload("`int`", value)


def to_uint(value: Any) -> UInt:
    """`uint(x)`."""
    match value:
        case bool():
            raise no_overload("`uint`", value)
        case int() | Decimal():
            return uint_result(int(value))
        case float():
            if value < 0:
                raise EvalError("overflow", "the number is negative")
            return uint_result(_whole(value))
        case str():
            if not _UINT.fullmatch(value):
                raise _bad(value, "a whole number from 0 on")
            return uint_result(int(value))
    raise no_overload("`uint`", value)


def to_float(value: Any) -> float:
    """`float(x)`, in CEL `double(x)`: the nearest binary float."""
    match value:
        case bool():
            raise no_overload("`float`", value)
        case int() | float() | Decimal():
            return float(value)
        case str():
            if not _FLOAT.fullmatch(value) and not _NOT_FINITE.fullmatch(value):
                raise _bad(value, "a number")
            return float(value)
    raise no_overload("`float`", value)


def float_text(value: float) -> str:
    """The shortest text that reads back as the same float, without a needless `.0`."""
    if math.isfinite(value):
        return repr(value).removesuffix(".0")
    return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"


def to_string(value: Any) -> str:
    """`string(x)`."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return float_text(value)
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise EvalError("bad_argument", "the bytes are not UTF-8 text") from None
        case Decimal():
            return format(value, "f")
        case Money() | Duration() | Timestamp():
            return str(value)
    raise no_overload("`string`", value)


def to_bytes(value: Any) -> bytes:
    """`bytes(x)`: UTF-8 of a text."""
    if type(value) is str:
        return value.encode()
    if type(value) is bytes:
        return value
    raise no_overload("`bytes`", value)


_TRUTH = dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True)
_TRUTH |= dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False)


def to_bool(value: Any) -> bool:
    """`bool(x)`."""
    if type(value) is bool:
        return value
    if type(value) is not str:
        raise no_overload("`bool`", value)
    if value not in _TRUTH:
        raise _bad(value, "true or false")
    return _TRUTH[value]


def to_decimal(value: Any) -> Decimal:
    """`decimal(x)`: exact; a float becomes the shortest decimal that reads back as it."""
    match value:
        case Decimal():
            return value
        case bool():
            raise no_overload("`decimal`", value)
        case int():
            return Decimal(int(value))
        case float():
            if not math.isfinite(value):
                raise EvalError("bad_argument", "only a finite number has a decimal")
            return exactly(_EXACT.create_decimal, repr(value))
        case str():
            return parse_decimal(value)
    raise no_overload("`decimal`", value)


def to_money(value: Any, currency: Any = None) -> Money:
    """`money("1.50 USD")` or `money(1.50, "USD")`."""
    if currency is None and type(value) is str:
        return parse_money(value)
    if type(currency) is not str or type(value) not in (Decimal, int, float):
        raise no_overload("`money`", value, currency)
    if not _CURRENCY.fullmatch(currency):
        raise _bad(currency, "a currency like `USD`")
    return Money(to_decimal(value), currency)


def to_timestamp(value: Any) -> Timestamp:
    """`timestamp(x)`: RFC 3339 text, or seconds since the epoch."""
    if type(value) is str:
        return parse_timestamp(value)
    if type(value) is int:
        return timestamp(value * NS)
    if type(value) is Timestamp:
        return value
    raise no_overload("`timestamp`", value)


def to_duration(value: Any) -> Duration:
    """`duration(x)`: text such as `1h30m`."""
    if type(value) is str:
        return parse_duration(value)
    if type(value) is Duration:
        return value
    raise no_overload("`duration`", value)


def type_of(value: Value) -> TypeValue:
    """`type(x)`."""
    return TypeValue(type_name(value))


CONVERSIONS: dict[str, Callable[..., Any]] = {
    "int": to_int,
    "uint": to_uint,
    "float": to_float,
    "double": to_float,
    "string": to_string,
    "bytes": to_bytes,
    "bool": to_bool,
    "decimal": to_decimal,
    "money": to_money,
    "timestamp": to_timestamp,
    "duration": to_duration,
    "type": type_of,
    "dyn": lambda value: value,
}
