"""What the operators do to values: arithmetic, equality and order, as CEL has them.

Integers are checked against 64 bits. Numbers of different classes compare by value; beside a float an integer
counts as the float nearest to it, as in CEL. Equality between other classes is false, order between them is an
error. NaN equals nothing, itself included.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from jamjet_dsl.kernel.scalars import (
    EXACT,
    INT_MAX,
    INT_MIN,
    QUOTIENT,
    UINT_MAX,
    Duration,
    EvalError,
    Money,
    Timestamp,
    TypeValue,
    UInt,
    Value,
    duration,
    exactly,
    timestamp,
)

MAX_ITEMS = 1_000_000
"""The longest list, text (in characters) or byte string an operator or function may make."""
MAX_COMPARED = 1_000_000
"""How many items one comparison of lists or maps may look at."""

NUMBERS = frozenset({int, float, UInt, Decimal})
_ORDERED = frozenset({int, float, UInt, Decimal, str, bytes, bool, Money, Duration, Timestamp})

_NAMES: dict[type, str] = {
    bool: "bool",
    int: "int",
    UInt: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    Decimal: "decimal",
    Money: "money",
    Duration: "google.protobuf.Duration",
    Timestamp: "google.protobuf.Timestamp",
    list: "list",
    tuple: "list",
    dict: "map",
    TypeValue: "type",
    type(None): "null_type",
}
_TO_PERSON = {"google.protobuf.Duration": "duration", "google.protobuf.Timestamp": "timestamp", "null_type": "null"}

TYPE_NAMES = frozenset(_NAMES.values())
"""The names under which types are values in the dynamic mode."""


def type_name(value: Value) -> str:
    """CEL's name of a value's type."""
    return _NAMES.get(type(value), "dyn")


def named(value: Value) -> str:
    """The name of a value's type in a message."""
    name = type_name(value)
    return _TO_PERSON.get(name, name)


def no_overload(what: str, *values: Value) -> EvalError:
    """The error of an operator or function that does not take these values."""
    return EvalError("no_overload", f"{what} does not take {' and '.join(map(named, values))}")


# ---- arithmetic


def int_result(value: int) -> int:
    """The value, if it has 64 bits. Raises EvalError overflow."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise EvalError("overflow", "the result does not fit into 64 bits")


def uint_result(value: int) -> UInt:
    """The value as a uint, if it is one. Raises EvalError overflow."""
    if 0 <= value <= UINT_MAX:
        return UInt(value)
    raise EvalError("overflow", "the result does not fit into an unsigned integer of 64 bits")


def _length(size: int) -> None:
    if size > MAX_ITEMS:
        raise EvalError("limit", f"the result is longer than {MAX_ITEMS:,}")


def _concat(a: Any, b: Any) -> Any:
    _length(len(a) + len(b))
    return a + b


def _int_divide(a: int, b: int) -> int:
    if b == 0:
        raise EvalError("divide_by_zero", "division by zero")
    quotient = abs(a) // abs(b)
    return int_result(quotient if (a < 0) == (b < 0) else -quotient)


def _int_modulo(a: int, b: int) -> int:
    if b == 0:
        raise EvalError("divide_by_zero", "remainder of a division by zero")
    if a == INT_MIN and b == -1:
        raise EvalError("overflow", "the result does not fit into 64 bits")
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


def _uint_divide(a: UInt, b: UInt) -> UInt:
    if b == 0:
        raise EvalError("divide_by_zero", "division by zero")
    return UInt(int(a) // int(b))


def _uint_modulo(a: UInt, b: UInt) -> UInt:
    if b == 0:
        raise EvalError("divide_by_zero", "remainder of a division by zero")
    return UInt(int(a) % int(b))


def _float_divide(a: float, b: float) -> float:
    if b:
        return a / b
    if a == 0 or a != a:
        return float("nan")
    negative = str(a)[0] == "-"
    return float("-inf") if negative != (str(b)[0] == "-") else float("inf")


def quotient(a: Decimal, b: Decimal) -> Decimal:
    """A quotient of 34 significant digits. Raises EvalError divide_by_zero."""
    if not b:
        raise EvalError("divide_by_zero", "division by zero")
    return exactly(QUOTIENT.divide, a, b)


def _money_ratio(a: Money, b: Money) -> Decimal:
    return quotient(a.amount, a._same(b))


_Table = dict[tuple[type, type], Callable[[Any, Any], Value]]
_D, _I = Decimal, int


def _decimals(operation: Callable[[Decimal, Decimal], Decimal]) -> _Table:
    """A decimal operator, with an int on either side widened."""

    def both(a: Decimal, b: Decimal) -> Decimal:
        return exactly(operation, a, b)

    def left(a: int, b: Decimal) -> Decimal:
        return exactly(operation, Decimal(a), b)

    def right(a: Decimal, b: int) -> Decimal:
        return exactly(operation, a, Decimal(b))

    return {(_D, _D): both, (_I, _D): left, (_D, _I): right}


_ADD: _Table = {
    (int, int): lambda a, b: int_result(a + b),
    (UInt, UInt): lambda a, b: uint_result(int(a) + int(b)),
    (float, float): operator.add,
    (str, str): _concat,
    (bytes, bytes): _concat,
    (list, list): _concat,
    (Money, Money): operator.add,
    (Duration, Duration): lambda a, b: duration(a.ns + b.ns),
    (Timestamp, Duration): lambda a, b: timestamp(a.ns + b.ns),
    (Duration, Timestamp): lambda a, b: timestamp(a.ns + b.ns),
    **_decimals(EXACT.add),
}
_SUBTRACT: _Table = {
    (int, int): lambda a, b: int_result(a - b),
    (UInt, UInt): lambda a, b: uint_result(int(a) - int(b)),
    (float, float): operator.sub,
    (Money, Money): operator.sub,
    (Duration, Duration): lambda a, b: duration(a.ns - b.ns),
    (Timestamp, Timestamp): lambda a, b: duration(a.ns - b.ns),
    (Timestamp, Duration): lambda a, b: timestamp(a.ns - b.ns),
    **_decimals(EXACT.subtract),
}
_MULTIPLY: _Table = {
    (int, int): lambda a, b: int_result(a * b),
    (UInt, UInt): lambda a, b: uint_result(int(a) * int(b)),
    (float, float): operator.mul,
    (Money, Decimal): lambda a, b: a.times(b),
    (Decimal, Money): lambda a, b: b.times(a),
    (Money, int): lambda a, b: a.times(Decimal(b)),
    (int, Money): lambda a, b: b.times(Decimal(a)),
    **_decimals(EXACT.multiply),
}
_DIVIDE: _Table = {
    (int, int): _int_divide,
    (UInt, UInt): _uint_divide,
    (float, float): _float_divide,
    (Money, Money): _money_ratio,
    **_decimals(quotient),
}
_MODULO: _Table = {(int, int): _int_modulo, (UInt, UInt): _uint_modulo}

ARITHMETIC: dict[str, _Table] = {"+": _ADD, "-": _SUBTRACT, "*": _MULTIPLY, "/": _DIVIDE, "%": _MODULO}


def arithmetic(op: str, a: Value, b: Value) -> Value:
    """`a op b` for + - * / %. Raises EvalError no_overload, overflow, divide_by_zero, currency or limit."""
    operation = ARITHMETIC[op].get((type(a), type(b)))
    if operation is None:
        raise no_overload(f"`{op}`", a, b)
    return operation(a, b)


def negated(a: Any) -> Value:
    """`-a`."""
    kind = type(a)
    if kind is int:
        return int_result(-a)
    if kind is float or kind is Money:
        return -a
    if kind is Decimal:
        return a.copy_negate()
    if kind is Duration:
        return Duration(-a.ns)
    raise no_overload("`-`", a)


# ---- equality and order


def equals(a: Value, b: Value) -> bool:
    """Whether two values are equal, whatever they are."""
    kind = type(a)
    if kind is type(b):
        if kind is list or kind is dict:
            return _deep_equal(a, b, [MAX_COMPARED])
        return a == b
    if kind in NUMBERS and type(b) in NUMBERS:
        x, y = _numbers(a, b)
        return bool(x == y)
    return False


def equals_within(a: Value, b: Value, steps: int) -> tuple[bool, int]:
    """As `equals` for two lists or two maps, and how many of the steps are left. Raises EvalError limit."""
    if type(a) is not type(b):
        return False, steps
    left = [steps]
    return _deep_equal(a, b, left), left[0]


def _numbers(a: Any, b: Any) -> tuple[Any, Any]:
    """Two numbers of different classes in the form in which they are compared."""
    if type(a) is float and type(b) is not Decimal:
        return a, float(b)
    if type(b) is float and type(a) is not Decimal:
        return float(a), b
    return a, b


def _deep_equal(a: Any, b: Any, left: list[int]) -> bool:
    """Equality of two lists or two maps. Python's own would hold a NaN in a list equal to itself, and 1 to true."""
    if len(a) != len(b):
        return False
    left[0] -= len(a) + 1
    if left[0] < 0:
        raise EvalError("limit", f"the comparison looks at more than {MAX_COMPARED:,} items")
    if type(a) is dict:
        return all(key in b and _equal_within(x, b[key], left) for key, x in a.items())
    return all(_equal_within(x, y, left) for x, y in zip(a, b, strict=True))


def _equal_within(a: Value, b: Value, left: list[int]) -> bool:
    kind = type(a)
    if kind is type(b) and (kind is list or kind is dict):
        return _deep_equal(a, b, left)
    return equals(a, b)


ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def ordered(op: str, a: Value, b: Value) -> bool:
    """`a op b` for < <= > >=. Raises EvalError no_overload or currency."""
    kind, other = type(a), type(b)
    if kind is other and kind in _ORDERED:
        return ORDERS[op](a, b)
    if kind in NUMBERS and other in NUMBERS:
        try:
            return ORDERS[op](*_numbers(a, b))
        except InvalidOperation:
            return False  # a decimal beside NaN
    raise no_overload(f"`{op}`", a, b)


def contains_value(item: Value, items: Value) -> bool:
    """`item in items`, for a list or the keys of a map."""
    kind = type(items)
    if kind is list:
        if type(item) is str:
            return item in items  # type: ignore[operator]
        return any(equals(item, x) for x in items)  # type: ignore[attr-defined]
    if kind is dict:
        if item is True or item is False:
            return any(getattr(key, "value", None) is item for key in items)  # type: ignore[attr-defined]
        if isinstance(item, (list, dict)):
            return False
        return item in items  # type: ignore[operator]
    raise no_overload("`in`", item, items)
