"""The naive evaluator of the reference interpreter: straight over the syntax tree, nothing shared with the engine.

Values are Python's int, bool, str, None, list and dict, and `Quantity` for money, durations and instants.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from jamjet_dsl.syntax import ast

Names = dict[str, Any]
COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub, "*": operator.mul, **COMPARE}


class NoValue(Exception):
    """The expression has no value (§2.6)."""


class Unreadable(NoValue):
    """The expression asks for a fact that could not be read."""


UNREADABLE = object()
"""Stands for a fact that could not be read."""


class Quantity(NamedTuple):
    """An exact amount of something: of a currency, of milliseconds (`ms`), or an instant (`at`)."""

    amount: Decimal
    unit: str


def evaluate(expr: Any, names: Names) -> Any:
    """The value of an expression. `names` holds what it may read; under `$calls` the history of calls, as a function.

    Raises NoValue."""
    match expr:
        case ast.Lit(kind="money", value=value):
            return Quantity(Decimal(value[0]), value[1])
        case ast.Lit(kind="duration"):
            return Quantity(Decimal(str(expr.value)), "ms")
        case ast.Lit():
            return expr.value
        case ast.Ident():
            value = item(names, expr.name)
            if value is UNREADABLE:
                raise Unreadable
            return value
        case ast.Select():
            return item(evaluate(expr.operand, names), expr.field.text)
        case ast.Index():
            return item(evaluate(expr.operand, names), evaluate(expr.index, names))
        case ast.Unary():
            value = evaluate(expr.operand, names)
            return not value if expr.op == "!" else fits(-value)
        case ast.Binary(op="&&" | "||"):
            return logic(expr.op == "||", (evaluate, expr.left, names), (evaluate, expr.right, names))
        case ast.Binary():
            return binary(expr.op, evaluate(expr.left, names), evaluate(expr.right, names))
        case ast.Cond():
            return evaluate(expr.then if evaluate(expr.test, names) else expr.other, names)
        case ast.ListLit():
            return [evaluate(one, names) for one in expr.items]
        case ast.MethodCall():
            return method(expr.method.text, evaluate(expr.operand, names), *expr.args, names)
        case ast.FnCall():
            return function(expr.function.text, expr.args, names)
    raise AssertionError(f"the reference does not know {expr}")


def item(whole: Any, key: Any) -> Any:
    """An item of a list, or what a record has under a name."""
    if not (0 <= key < len(whole) if isinstance(whole, list) else isinstance(whole, dict) and key in whole):
        raise NoValue
    return whole[key]


def path(expr: Any) -> tuple[str, ...]:
    """The names of a path such as `args.id`."""
    return (*path(expr.operand), expr.field.text) if isinstance(expr, ast.Select) else (expr.name,)


def logic(decides: bool, *sides: tuple[Any, ...]) -> bool:
    """`||` and `exists` (decided by true), `&&` and `all` (by false): one side that decides is enough."""
    missing = False
    for call, *args in sides:
        try:
            if call(*args) is decides:
                return decides
        except NoValue:
            missing = True
    if missing:
        raise NoValue
    return not decides


def fits(value: Any) -> Any:
    """An integer that fits into 64 bits, or anything else."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise NoValue
    return value


def binary(op: str, a: Any, b: Any) -> Any:
    """`a op b`; division of integers is towards zero."""
    if op in ("==", "!="):
        return (a == b) == (op == "==")
    if op == "in":
        return a in b
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        if a.unit != b.unit and (a.unit, b.unit, op in "+-") != ("at", "ms", True):
            raise NoValue
        value = OPERATORS[op](a.amount, b.amount)
        return value if op in COMPARE else Quantity(value, a.unit)
    if isinstance(a, Quantity) or isinstance(b, Quantity):
        return Quantity(a.amount * b, a.unit) if isinstance(a, Quantity) else binary(op, b, a)
    if op in OPERATORS:
        return fits(OPERATORS[op](a, b))
    if b == 0:
        raise NoValue
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return fits(quotient if op == "/" else a - b * quotient)


def method(name: str, items: Any, variable: ast.Ident, body: ast.Expr, names: Names) -> Any:
    """`items.name(variable, body)`."""
    each: Iterable[Names] = [{**names, variable.name: one} for one in items]
    if name in ("all", "exists"):
        return logic(name == "exists", *((evaluate, body, inside) for inside in each))
    found = [evaluate(body, inside) for inside in each]
    return found if name == "map" else [one for one, keep in zip(items, found, strict=True) if keep]


def function(name: str, args: tuple[ast.Arg, ...], names: Names) -> Any:
    """A built-in function."""
    if name == "has":
        try:
            return evaluate(args[0].value, names) is not None
        except Unreadable:
            raise
        except NoValue:
            return False
    if name in ("calls", "attempted", "succeeded", "failed"):
        given = {arg.name.text: evaluate(arg.value, names) for arg in args if arg.name is not None}
        return names["$calls"]("attempted" if name == "calls" else name, args[0].value.name, given)
    if name in ("attested", "untrusted"):
        return bool(names["$from"](name, path(args[0].value)))
    values = [evaluate(arg.value, names) for arg in args]
    many = values[0] if isinstance(values[0], list) else values
    if name in ("min", "max") and not many:
        raise NoValue
    known = {"size": len, "string": str, "sum": lambda one: fits(sum(one)), "range": lambda *of: list(range(*of))}
    return known[name](*values) if name in known else {"min": min, "max": max}[name](many)
