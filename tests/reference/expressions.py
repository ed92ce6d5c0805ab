"""The naive evaluator of the reference interpreter: straight over the syntax tree, nothing shared with the engine.

Values are Python's int, bool, str, None, list and dict, and `Quantity` for money, durations and instants.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from jamjet_dsl.syntax import ast

Names = dict[str, Any]


class NoValue(Exception):
    """The expression has no value."""


class Quantity(NamedTuple):
    """An exact amount of something: of a currency, of milliseconds (`ms`), or an instant (`at`)."""

    amount: Decimal
    unit: str


def literal(lit: ast.Lit) -> Any:
    """The value of a literal."""
    if lit.kind == "money":
        assert isinstance(lit.value, tuple)
        return Quantity(Decimal(lit.value[0]), lit.value[1])
    return Quantity(Decimal(str(lit.value)), "ms") if lit.kind == "duration" else lit.value


def evaluate(expr: ast.Expr, names: Names) -> Any:
    """The value of an expression. `names` holds what it may read; under `$calls` the history of calls, as a function.

    Raises NoValue."""
    match expr:
        case ast.Lit():
            return literal(expr)
        case ast.Ident():
            return _of(names, expr.name)
        case ast.Select():
            return _of(evaluate(expr.operand, names), expr.field.text)
        case ast.Index():
            items, index = evaluate(expr.operand, names), evaluate(expr.index, names)
            if isinstance(items, list) and not 0 <= index < len(items):
                raise NoValue
            return items[index] if isinstance(items, list) else _of(items, index)
        case ast.Unary():
            value = evaluate(expr.operand, names)
            return not value if expr.op == "!" else _fits(-value)
        case ast.Binary(op="&&" | "||"):
            return _logic(expr.op == "||", [lambda: evaluate(expr.left, names), lambda: evaluate(expr.right, names)])
        case ast.Binary():
            return _binary(expr.op, evaluate(expr.left, names), evaluate(expr.right, names))
        case ast.Cond():
            return evaluate(expr.then if evaluate(expr.test, names) else expr.other, names)
        case ast.ListLit():
            return [evaluate(item, names) for item in expr.items]
        case ast.MapLit():
            return {evaluate(entry.key, names): evaluate(entry.value, names) for entry in expr.entries}
        case ast.MethodCall():
            return _method(expr, names)
        case ast.FnCall():
            return _function(expr, names)
    raise AssertionError(f"the reference does not know {expr}")


def _of(record: Any, name: Any) -> Any:
    if not isinstance(record, dict) or name not in record:
        raise NoValue
    return record[name]


def _logic(decides: bool, sides: list[Callable[[], Any]]) -> bool:
    """`||` and `exists` (decided by true), `&&` and `all` (by false): one side that decides is enough."""
    missing = False
    for side in sides:
        try:
            if side() is decides:
                return decides
        except NoValue:
            missing = True
    if missing:
        raise NoValue
    return not decides


def _fits(value: Any) -> Any:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise NoValue
    return value


def _binary(op: str, a: Any, b: Any) -> Any:
    if op == "==":
        return a == b
    if op == "!=":
        return a != b
    if op == "in":
        return a in b
    if isinstance(a, Quantity) or isinstance(b, Quantity):
        return _quantities(op, a, b)
    if op in ("/", "%"):
        if b == 0:
            raise NoValue
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        return _fits(quotient if op == "/" else a - b * quotient)
    return _fits(_OPERATORS[op](a, b))


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _quantities(op: str, a: Any, b: Any) -> Any:
    if op == "*":
        return Quantity(a.amount * b, a.unit) if isinstance(a, Quantity) else Quantity(a * b.amount, b.unit)
    if (a.unit, b.unit) == ("at", "ms") and op in "+-":
        return Quantity(_OPERATORS[op](a.amount, b.amount), "at")
    if a.unit != b.unit:
        raise NoValue
    value = _OPERATORS[op](a.amount, b.amount)
    return value if isinstance(value, bool) else Quantity(value, a.unit)


def _method(expr: ast.MethodCall, names: Names) -> Any:
    items, method = evaluate(expr.operand, names), expr.method.text
    if method == "size":
        return len(items)
    assert isinstance(expr.args[0], ast.Ident)
    variable, body = expr.args[0].name, expr.args[1]
    each = [lambda item=item: evaluate(body, {**names, variable: item}) for item in items]
    if method in ("all", "exists"):
        return _logic(method == "exists", each)
    found = [one() for one in each]
    return found if method == "map" else [item for item, keep in zip(items, found, strict=True) if keep]


def _function(expr: ast.FnCall, names: Names) -> Any:
    name = expr.function.text
    if name == "has":
        try:
            return evaluate(expr.args[0].value, names) is not None
        except NoValue:
            return False
    if name in ("calls", "attempted", "succeeded", "failed"):
        tool, *given = expr.args
        assert isinstance(tool.value, ast.Ident)
        args = {arg.name.text: evaluate(arg.value, names) for arg in given if arg.name is not None}
        return names["$calls"]("attempted" if name == "calls" else name, tool.value.name, args)
    values = [evaluate(arg.value, names) for arg in expr.args]
    first = values[0]
    many = first if isinstance(first, list) else values
    match name:
        case "size":
            return len(first)
        case "string":
            return str(first)
        case "range":
            return list(range(*values))
        case "sum":
            return _fits(sum(first))
        case "min" | "max" if not many:
            raise NoValue
        case "min":
            return min(many)
        case "max":
            return max(many)
    raise AssertionError(f"the reference does not know {name}()")
