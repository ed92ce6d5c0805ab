"""Names, fields and items: how a value is found in the Env and in other values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jamjet_dsl.kernel.expr.operators import TYPE_NAMES, named, no_overload
from jamjet_dsl.kernel.scalars import EvalError, TypeValue, UInt, Value, to_key

_Evaluator = Callable[[dict[str, Any]], Any]

ABSENT = frozenset({"unset", "no_such_field", "no_such_key", "index", "unknown_name"})
"""Reasons that mean: it is not there."""


def unset(name: str) -> EvalError:
    """The error of a variable without a value."""
    return EvalError("unset", f"`{name}` has no value here")


def var(name: str) -> _Evaluator:
    """A variable."""

    def read(env: dict[str, Any]) -> Any:
        try:
            return env[name]
        except KeyError:
            raise unset(name) from None

    return read


def field(value: Any, name: str) -> Any:
    """`value.name`, for a record or a map with text keys."""
    if type(value) is dict:
        try:
            return value[name]
        except KeyError:
            raise EvalError("no_such_field", f"there is no `{name}` in it") from None
    if value is None:
        raise EvalError("no_such_field", f"`{name}` of null")
    raise EvalError("no_overload", f"{named(value)} has no fields, so no `{name}`")


def chain(entry: str, fields: tuple[str, ...]) -> _Evaluator:
    """`entry.a.b` of a variable or bound name, in one function."""

    def slowly(env: dict[str, Any]) -> Any:
        """The same step by step, for the error that says what was missing."""
        if entry not in env:
            raise unset(entry)
        value = env[entry]
        for name in fields:
            value = field(value, name)
        return value

    if len(fields) == 1:
        (only,) = fields

        def read_one(env: dict[str, Any]) -> Any:
            try:
                return env[entry][only]
            except (KeyError, TypeError):
                return slowly(env)

        return read_one

    def read(env: dict[str, Any]) -> Any:
        try:
            value = env[entry]
            for name in fields:
                value = value[name]
            return value
        except (KeyError, TypeError):
            return slowly(env)

    return read


def select(base: _Evaluator, fields: tuple[str, ...]) -> _Evaluator:
    """Fields of any other expression."""

    def read(env: dict[str, Any]) -> Any:
        value = base(env)
        for name in fields:
            value = field(value, name)
        return value

    return read


def present(base: _Evaluator, name: str) -> _Evaluator:
    """CEL's `has(base.name)`: whether the field is there; an error where the base is no record or map."""

    def read(env: dict[str, Any]) -> bool:
        value = base(env)
        if type(value) is not dict:
            raise no_overload("`has`", value)
        return name in value

    return read


def item(value: Any, at: Any) -> Value:
    """`value[at]`: an item of a list, counted from 0, or the value of a key of a map."""
    kind = type(value)
    if kind is list:
        if type(at) is float and at.is_integer():
            at = int(at)
        if type(at) is not int and type(at) is not UInt:
            raise no_overload("the index of a list", at)
        if 0 <= at < len(value):
            return value[at]
        raise EvalError("index", f"there is no item {int(at)} in a list of {len(value)}")
    if kind is dict:
        try:
            return value[to_key(at)]
        except KeyError:
            shown = f"`{at:.40}`" if type(at) is str else str(at)
            raise EvalError("no_such_key", f"there is no key {shown} in the map") from None
    raise no_overload("`[…]`", value)


def qualified(names: tuple[str, ...], container: str) -> _Evaluator:
    """A dotted name of the dynamic mode.

    CEL's order: the longest prefix that is a variable wins, inner containers before outer ones; what is left
    of the name are fields. A name that is no variable may be that of a type. A container that starts with a
    dot is none, and says that only the outermost name counts.
    """
    parts = container.split(".") if container and container != "." else []
    prefixes = [".".join(parts[:n]) + "." for n in range(len(parts), 0, -1)] + [""]
    candidates: list[tuple[str, tuple[str, ...]]] = []
    for length in range(len(names), 0, -1):
        candidates += ((prefix + ".".join(names[:length]), names[length:]) for prefix in prefixes)
    dotted = ".".join(names)

    def read(env: dict[str, Any]) -> Any:
        for name, fields in candidates:
            if name in env:
                value = env[name]
                for part in fields:
                    value = field(value, part)
                return value
        if dotted in TYPE_NAMES:
            return TypeValue(dotted)
        raise EvalError("unknown_name", f"`{dotted}` is not known")

    return read


def paths(expr: list[Any]) -> tuple[tuple[str | int, ...], ...]:
    """The paths into variables that an expression reads, for provenance: `(variable, field or index, …)`.

    A computed index ends a path: what holds for the list or map then has to hold for all of it.
    """
    found: list[tuple[str | int, ...]] = []
    todo = [expr]
    while todo:
        node = todo.pop()
        steps: list[str | int] = []
        base = node
        while base[0] in ("select", "index"):
            if base[0] == "select":
                steps.append(base[2])
            elif base[2][0] in ("int", "string"):
                steps.append(base[2][1])
            else:
                steps.clear()
                todo.append(base[2])
            base = base[1]
        if base[0] == "var":
            found.append((base[1], *reversed(steps)))
            continue
        for part in base[1:]:
            if isinstance(part, list):
                todo += [part] if part and isinstance(part[0], str) else part
            elif isinstance(part, dict):
                todo += part.values()
    return tuple(dict.fromkeys(found))
