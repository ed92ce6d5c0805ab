"""Public JSON of a type as an expression of the language."""

from __future__ import annotations

import base64
import re
from decimal import Decimal
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.values import parse_duration

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_WORDS = frozenset(("true", "false", "null", "in"))
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f]")


def text(value: str) -> str:
    """A string literal. What the language refuses in a program, or no reader could see, is escaped."""
    escaped = "".join(_ESCAPES.get(c, c) for c in value)
    return '"' + _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", escaped) + '"'


def literal(definition: d.Definition, type_: d.Type | None, value: Any) -> str:
    """An expression for a value of a type."""
    if value is None:
        return "null"
    match type_:
        case d.OptionalType() | d.SecretType():
            return literal(definition, type_.item, value)
        case d.RecordType():
            fields = {f.name: f.type for f in definition.records[type_.name].fields}
            return _record(definition, fields, value)
        case d.ObjectType():
            return _record(definition, type_.fields, value)
        case d.ListType():
            return f"[{', '.join(literal(definition, type_.item, item) for item in value)}]"
        case d.MapType():
            parts = [f"{_key(type_.key, key)}: {literal(definition, type_.value, v)}" for key, v in value.items()]
            return _braced(parts)
        case d.MoneyType():
            return money(str(value))
        case d.Scalar(kind="duration"):
            return duration(str(value))
        case d.Scalar(kind="timestamp"):
            return f"timestamp({text(str(value))})"
        case d.Scalar(kind="bytes"):
            return _bytes(base64.b64decode(value))
        case d.Scalar(kind="decimal"):
            return _fraction(format(Decimal(str(value)), "f"))
        case d.Scalar(kind="float"):
            return _fraction(format(Decimal(repr(float(value))), "f"))
        case d.BuiltinType(kind="Move"):
            return move(definition, value)
    return _plain(value)


def move(definition: d.Definition, value: Any) -> str:
    """What a model says that may choose a tool."""
    call = value.get("call")
    if call is None:
        return f"{{ text: {text(value.get('text') or '')} }}"
    shape = {p.name: p.type for p in definition.tools[call["tool"]].params}
    args = _record(definition, shape, call["args"])
    return f"{{ call: {{ tool: {text(call['tool'])}, args: {args} }} }}"


def money(value: str) -> str:
    """`1.50 USD` as `$1.50`."""
    amount, _, currency = value.partition(" ")
    sign, amount = ("-", amount[1:]) if amount.startswith("-") else ("", amount)
    return f"{sign}${amount}" if currency in ("USD", "") else f"{sign}{amount} {currency}"


def duration(value: str) -> str:
    """A duration in the largest unit that is exact."""
    ms = parse_duration(value).ns // 1_000_000
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if ms and ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms" if ms else "0s"


def field_name(name: str) -> str:
    """The name of a field or an input; one that the grammar reads as something else in quotes of its own."""
    return f"`{name}`" if name in _WORDS or not _NAME.match(name) else name


def _record(definition: d.Definition, fields: Any, value: Any) -> str:
    """Without the optional fields that are not there."""
    parts = []
    for name, type_ in fields.items():
        if value.get(name) is not None or not isinstance(type_, d.OptionalType):
            parts.append(f"{field_name(name)}: {literal(definition, type_, value.get(name))}")
    return _braced(parts)


def _braced(parts: list[str]) -> str:
    return "{ " + ", ".join(parts) + " }" if parts else "{}"


def _key(type_: d.Type, key: str) -> str:
    return key if isinstance(type_, d.Scalar) and type_.kind in ("int", "uint", "bool") else text(key)


def _fraction(number: str) -> str:
    return number if "." in number else f"{number}.0"


def _bytes(value: bytes) -> str:
    return 'b"' + "".join(f"\\x{byte:02x}" for byte in value) + '"'


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return text(value)
        case list():
            return f"[{', '.join(map(_plain, value))}]"
        case dict():
            return _braced([f"{text(str(name))}: {_plain(item)}" for name, item in value.items()])
        case None:
            return "null"
    return str(value)
