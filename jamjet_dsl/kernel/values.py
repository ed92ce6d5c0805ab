"""Run-time values and how they are stored and exchanged as JSON. The one import for all of it.

*Journal form*: self-describing and lossless, for events, snapshots and digests. What JSON cannot say is an
object with one key that starts with `$`: `{"$int": "9007199254740993"}`, `{"$uint": "1"}`,
`{"$float": "NaN"}`, `{"$decimal": "1.50"}`, `{"$money": "1.50 USD"}`, `{"$duration": "90s"}`,
`{"$timestamp": "2024-05-10T15:52:59Z"}`, `{"$bytes": "<base64>"}`, `{"$type": "int"}`, and
`{"$map": [[key, value], ...]}` for a map whose keys are not all strings, or where one starts with `$`.

*Public form*: plain JSON for users, tools and models, read against a declared type; see `convert`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from jamjet_dsl.definition import MAX_SAFE_INT
from jamjet_dsl.kernel.convert import from_public, loads_public, to_public
from jamjet_dsl.kernel.scalars import (
    EXACT,
    QUOTIENT,
    Duration,
    EvalError,
    Money,
    Timestamp,
    TypeValue,
    UInt,
    Value,
    map_keys,
    of_key,
    parse_decimal,
    parse_duration,
    parse_money,
    parse_timestamp,
    to_key,
)

__all__ = [
    "EXACT",
    "MAX_SAFE_INT",
    "QUOTIENT",
    "Duration",
    "EvalError",
    "Money",
    "Timestamp",
    "TypeValue",
    "UInt",
    "Value",
    "dumps_form",
    "dumps_journal",
    "from_journal",
    "from_public",
    "loads_public",
    "map_keys",
    "of_key",
    "parse_decimal",
    "parse_duration",
    "parse_money",
    "parse_timestamp",
    "to_journal",
    "to_key",
    "to_public",
]

_PLAIN = frozenset({str, bool, type(None)})


def _needs_tag(value: Any) -> bool:
    """Whether anything in the value is more than JSON can say. False for nearly all that is ever journaled."""
    kind = type(value)
    if kind in _PLAIN:
        return False
    if kind is int:
        return not -MAX_SAFE_INT <= value <= MAX_SAFE_INT
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or key[:1] == "$":
                return True
            if type(item) not in _PLAIN and _needs_tag(item):
                return True
        return False
    if kind is list or kind is tuple:
        return any(type(item) not in _PLAIN and _needs_tag(item) for item in value)
    return kind is not float or not math.isfinite(value)


def to_journal(value: Value) -> Any:
    """The journal form of a value, as a tree that `json` can write. It shares every part that needs no tag
    with the value, so neither may be changed afterwards. Raises TypeError for what is no run-time value."""
    if type(value) in _PLAIN or value is _plain[0]:
        return value
    if _needs_tag(value):
        return _tagged(value)
    _plain[0] = value
    return value


_plain: list[Any] = [None]
"""The last value that was found to be its own journal form. A result is looked at three times in a row, as it is
journaled, bound and folded; nobody changes it meanwhile."""


def _tagged(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    tag = _TAG.get(kind)
    if tag is None:
        raise TypeError(f"{kind.__name__} is not a run-time value")
    return tag(value)


def _tag_int(value: int) -> Any:
    return value if -MAX_SAFE_INT <= value <= MAX_SAFE_INT else {"$int": str(value)}


def _tag_float(value: float) -> Any:
    if math.isfinite(value):
        return value
    return {"$float": "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"}


def _tag_map(value: dict[object, Value]) -> Any:
    if all(type(key) is str and key[:1] != "$" for key in value):
        return {key: _tagged(item) for key, item in value.items()}
    return {"$map": [[_tagged(key), _tagged(value[to_key(key)])] for key in map_keys(value)]}


def _tag_list(value: Sequence[Value]) -> Any:
    return [_tagged(item) for item in value]


_TAG: dict[type, Callable[[Any], Any]] = {
    int: _tag_int,
    float: _tag_float,
    dict: _tag_map,
    list: _tag_list,
    tuple: _tag_list,
    UInt: lambda value: {"$uint": str(int(value))},
    Decimal: lambda value: {"$decimal": str(value)},
    Money: lambda value: {"$money": str(value)},
    Duration: lambda value: {"$duration": str(value)},
    Timestamp: lambda value: {"$timestamp": str(value)},
    bytes: lambda value: {"$bytes": base64.b64encode(value).decode("ascii")},
    TypeValue: lambda value: {"$type": value.name},
}

_UNTAG: dict[str, Callable[[Any], Value]] = {
    "$int": int,
    "$uint": UInt,
    "$float": float,
    "$decimal": Decimal,
    "$money": parse_money,
    "$duration": parse_duration,
    "$timestamp": parse_timestamp,
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$type": TypeValue,
    "$map": lambda pairs: {to_key(from_journal(k)): from_journal(v) for k, v in pairs},
}


def from_journal(tree: Any) -> Value:
    """The value of a journal form. It shares every part that holds no tag with the form, so neither may be changed
    afterwards. Raises ValueError for an object with an unknown tag or a malformed one."""
    if type(tree) not in _CONTAINERS or tree is _plain[0]:
        return tree
    if _holds_tag(tree):
        return _untagged(tree)
    _plain[0] = tree
    return tree


_CONTAINERS = frozenset({dict, list})


def _holds_tag(tree: Any) -> bool:
    """Whether anything in a dict or list of the journal form is tagged."""
    if type(tree) is dict:
        if len(tree) == 1 and next(iter(tree))[:1] == "$":
            return True
        tree = tree.values()
    for item in tree:  # noqa: SIM110 - a generator would cost more than the loop
        if type(item) in _CONTAINERS and _holds_tag(item):
            return True
    return False


def _untagged(tree: Any) -> Value:
    kind = type(tree)
    if kind is dict:
        if len(tree) == 1:
            ((key, inner),) = tree.items()
            if key[:1] == "$":
                untag = _UNTAG.get(key)
                if untag is None:
                    raise ValueError(f"unknown tag `{key}` in a journaled value")
                try:
                    return untag(inner)
                except (EvalError, ArithmeticError, TypeError) as problem:
                    raise ValueError(f"malformed `{key}` in a journaled value: {problem}") from None
        return {k: _untagged(v) for k, v in tree.items()}
    if kind is list:
        return [_untagged(item) for item in tree]
    return tree


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def dumps_journal(value: Value) -> bytes:
    """The journal form as canonical bytes: UTF-8, keys sorted, no spaces. Equal values give equal bytes, except
    that decimals keep the digits they were written with."""
    return dumps_form(_tagged(value) if _needs_tag(value) else value)


def dumps_form(tree: Any) -> bytes:
    """Canonical bytes of what is in journal form already."""
    return _encode(tree).encode()
