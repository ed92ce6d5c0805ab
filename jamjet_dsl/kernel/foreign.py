"""Values from outside, one at a time: how each scalar type reads what JSON or Python holds for it, and what the
objects that Python tools return stand for. They are recognised by shape, so that nothing has to be imported.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from jamjet_dsl.kernel.scalars import (
    INT_MAX,
    INT_MIN,
    UINT_MAX,
    Duration,
    EvalError,
    Timestamp,
    UInt,
    Value,
    parse_decimal,
    parse_duration,
    parse_timestamp,
)

INVALID = object()
"""What reading returns in place of a value that has a problem."""


def _int(data: object) -> object:
    if isinstance(data, (float, Decimal)) and is_number(data) and math.isfinite(data) and data == int(data):
        data = int(data)
    if isinstance(data, int) and not isinstance(data, bool) and INT_MIN <= data <= INT_MAX:
        return int(data)
    return INVALID


def _uint(data: object) -> object:
    if isinstance(data, int) and not isinstance(data, bool) and 0 <= data <= UINT_MAX:
        return UInt(data)
    return INVALID


def _float(data: object) -> object:
    if isinstance(data, (int, float, Decimal)) and not isinstance(data, bool) and is_number(data):
        try:
            return float(data)
        except OverflowError:
            return INVALID
    return INVALID


def is_number(data: float | Decimal) -> bool:
    """Whether it is a number. NaN is none, though it is a float inside expressions: it is neither above nor below
    anything, so no rule and no range could bound what comes in or goes to a tool."""
    return not data.is_nan() if isinstance(data, Decimal) else data == data


def _decimal(data: object) -> object:
    if isinstance(data, (int, float, str, Decimal)) and not isinstance(data, bool):
        try:
            return parse_decimal(str(data))
        except EvalError:
            return INVALID
    return INVALID


def _bytes(data: object) -> object:
    if isinstance(data, str):
        try:
            return base64.b64decode(data, validate=True)
        except (ValueError, binascii.Error):
            return INVALID
    return data if isinstance(data, bytes) else INVALID


def _parsed(parse: Callable[[str], Value], kind: type) -> Callable[[object], object]:
    def read(data: object) -> object:
        if isinstance(data, str):
            try:
                return parse(data)
            except EvalError:
                return INVALID
        return data if isinstance(data, kind) else INVALID

    return read


SCALARS: dict[str, Callable[[object], object]] = {
    "bool": lambda data: data if isinstance(data, bool) else INVALID,
    "int": _int,
    "uint": _uint,
    "float": _float,
    "string": lambda data: str(data) if isinstance(data, str) else INVALID,
    "bytes": _bytes,
    "decimal": _decimal,
    "duration": _parsed(lambda text: parse_duration(text, days=True), Duration),
    "timestamp": _parsed(parse_timestamp, Timestamp),
    "null": lambda data: data if data is None else INVALID,
}

WORDS = {
    "bool": "true or false",
    "int": "a whole number of 64 bits",
    "uint": "a whole number from 0 on",
    "float": "a number",
    "string": "text",
    "bytes": "base64 text",
    "decimal": 'a decimal like "1.50"',
    "duration": 'a duration like "90s"',
    "timestamp": 'a timestamp like "2024-05-10T15:52:59Z"',
    "null": "null",
    "any": "a value",
}


def zone_hint(text: str) -> str:
    """What to add to a message about text that would be a timestamp if it had a zone."""
    try:
        parse_timestamp(text + "Z")
    except EvalError:
        return ""
    return " with its zone"


def number_of(value: object) -> Any:
    """A bound of a declared range, or a value beside it, as a number."""
    return Decimal(value) if isinstance(value, str) else value


# ---- Python objects


def python_value(data: object) -> object:
    """Turns what Python tools return into what JSON would hold; leaves everything else as it is."""
    kind = type(data)
    if data is None or kind in (str, int, bool, dict, list, float, Decimal):
        return data
    if kind.__module__.startswith("jamjet_dsl."):
        return data
    dump = getattr(data, "model_dump", None)
    if callable(dump) and not isinstance(data, type):
        return dump()
    fields = getattr(kind, "__dataclass_fields__", None)
    if fields is not None:
        return {name: getattr(data, name) for name in fields}
    if isinstance(data, (tuple, set, frozenset)):
        names = getattr(data, "_fields", None)
        if names is not None:
            return dict(zip(names, data, strict=True))
        return list(data) if isinstance(data, tuple) else sorted(data, key=repr)
    if hasattr(kind, "__members__") and hasattr(data, "value"):
        return python_value(data.value)
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    if hasattr(data, "total_seconds") and hasattr(data, "microseconds"):
        return Duration(((data.days * 86_400 + data.seconds) * 1_000_000 + data.microseconds) * 1000)  # type: ignore[attr-defined]
    if hasattr(data, "isoformat") and hasattr(data, "tzinfo"):
        return data.isoformat()
    if kind.__module__ == "uuid":
        return str(data)
    if isinstance(data, Mapping):
        return dict(data)
    return data
