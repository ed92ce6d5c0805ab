"""The table of built-in functions and methods (the receiver is the first argument)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from functools import reduce
from typing import Any

from jamjet_dsl.kernel.convert import to_public
from jamjet_dsl.kernel.expr import strings
from jamjet_dsl.kernel.expr.conversions import CONVERSIONS, float_text, to_decimal
from jamjet_dsl.kernel.expr.operators import (
    MAX_ITEMS,
    NUMBERS,
    arithmetic,
    equals,
    int_result,
    negated,
    no_overload,
    ordered,
)
from jamjet_dsl.kernel.expr.times import TIMES
from jamjet_dsl.kernel.scalars import Duration, EvalError, Money, UInt, Value

MAX_PLACES = 20
"""How many decimals `round` and its kin keep at most."""
MAX_PATTERN = 1000
"""The longest regular expression."""

_ROUND = Context(prec=100, Emin=-199, Emax=199)


def size(value: Any) -> int:
    """Characters of a text, bytes, items of a list, keys of a map."""
    if type(value) in (str, bytes, list, dict):
        return len(value)
    raise no_overload("`size`", value)


def regex(pattern: str) -> Any:
    """A compiled RE2 pattern, which matches in linear time. Raises EvalError bad_argument."""
    import re2

    if len(pattern) > MAX_PATTERN:
        raise EvalError("bad_argument", f"a regular expression has more than {MAX_PATTERN} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error as problem:
        reason = problem.args[0] if problem.args else ""
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise EvalError("bad_argument", f"`{pattern:.40}` is not a regular expression: {text}") from None


def matches(text: str, pattern: str) -> bool:
    """Whether the RE2 pattern is found anywhere in the text."""
    strings.text_of("matches", text, pattern)
    return regex(pattern).search(text) is not None


# ---- lists


def _list(name: str, value: Any) -> list[Any]:
    if type(value) is not list:
        raise no_overload(f"`{name}`", value)
    return value


def total(items: Any, zero: Any = 0) -> Value:
    """The sum of a list; of an empty one `zero`, which the compiler adds where the items are no ints."""
    if not _list("sum", items):
        return zero
    return reduce(lambda a, b: arithmetic("+", a, b), items[1:], items[0])


def _extreme(name: str, op: str) -> Callable[..., Value]:
    def choose(first: Any, *others: Any) -> Value:
        items = [first, *others] if others else _list(name, first)
        if not items:
            raise EvalError("bad_argument", f"an empty list has no `{name}`")
        best = items[0]
        for item in items[1:]:
            if ordered(op, item, best):
                best = item
        return best

    return choose


def distinct(items: Any) -> list[Any]:
    """Every item once, where it first stood."""
    seen: set[object] = set()
    lists: list[Any] = []
    kept = []
    for item in _list("distinct", items):
        kind = type(item)
        if kind is list or kind is dict:
            if not any(equals(item, other) for other in lists):
                lists.append(item)
                kept.append(item)
            continue
        key = ("number", item) if kind in NUMBERS else (kind, item)
        if key not in seen:
            seen.add(key)
            kept.append(item)
    return kept


def flatten(lists: Any) -> list[Any]:
    """The items of the lists in a list, one after the other."""
    made: list[Any] = []
    for items in _list("flatten", lists):
        if type(items) is not list:
            raise no_overload("`flatten`", items)
        made += items
        if len(made) > MAX_ITEMS:
            raise EvalError("limit", f"the result is longer than {MAX_ITEMS:,}")
    return made


def span(first: Any, end: Any = None) -> list[int]:
    """`range(n)`: 0 up to n-1; `range(a, b)`: a up to b-1."""
    low, high = (0, first) if end is None else (first, end)
    if type(low) is not int or type(high) is not int:
        raise no_overload("`range`", first)
    if high - low > MAX_ITEMS:
        raise EvalError("limit", f"the result is longer than {MAX_ITEMS:,}")
    return list(range(low, high))


# ---- money and decimals


def _places(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_PLACES:
        raise EvalError("bad_argument", f"the number of decimals has to be from 0 to {MAX_PLACES}")
    return value


def _rounding(name: str, rounding: str) -> Callable[[Any, Any], Money | Decimal]:
    def rounded(value: Any, places: Any) -> Money | Decimal:
        step = Decimal(1).scaleb(-_places(places), _ROUND)
        if type(value) is Money:
            return Money(value.amount.quantize(step, rounding, _ROUND), value.currency)
        if type(value) in (Decimal, int):
            return to_decimal(value).quantize(step, rounding, _ROUND)
        raise no_overload(f"`{name}`", value)

    return rounded


def divide(value: Any, divisor: Any, places: Any) -> Money | Decimal:
    """The quotient rounded once, ties to even, to so many decimals."""
    if type(value) is Money:
        return Money(divide(value.amount, divisor, places), value.currency)  # type: ignore[arg-type]
    if type(value) not in (Decimal, int) or type(divisor) not in (Decimal, int):
        raise no_overload("`divide`", value, divisor)
    if not divisor:
        raise EvalError("divide_by_zero", "division by zero")
    digits = _places(places)
    top, under = to_decimal(value).as_integer_ratio()
    over, bottom = to_decimal(divisor).as_integer_ratio()
    numerator, denominator = top * bottom * 10**digits, under * over
    if denominator < 0:
        numerator, denominator = -numerator, -denominator
    quotient, rest = divmod(numerator, denominator)
    if rest * 2 > denominator or (rest * 2 == denominator and quotient % 2):
        quotient += 1
    return Decimal(quotient).scaleb(-digits, _ROUND)


def absolute(value: Any) -> Value:
    """The value without its sign."""
    kind = type(value)
    if kind is Money:
        return Money(value.amount.copy_abs(), value.currency)
    if kind is Decimal:
        return value.copy_abs()
    if kind is Duration:
        return Duration(abs(value.ns))
    if kind is int or kind is float:
        return int_result(abs(value)) if kind is int else abs(value)
    if kind is UInt:
        return value
    return negated(value)


def user(text: Any) -> dict[str, Any]:
    """A message of the user, for a conversation."""
    strings.text_of("user", text)
    return {"role": "user", "text": text}


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "size": size,
    "contains": strings.contains,
    "startsWith": strings.starts_with,
    "endsWith": strings.ends_with,
    "matches": matches,
    "charAt": strings.char_at,
    "indexOf": strings.index_of,
    "lastIndexOf": strings.last_index_of,
    "join": strings.join,
    "lowerAscii": strings.lower_ascii,
    "upperAscii": strings.upper_ascii,
    "replace": strings.replace,
    "reverse": strings.reverse,
    "split": strings.split,
    "substring": strings.substring,
    "trim": strings.trim,
    **CONVERSIONS,
    **TIMES,
    "amount": lambda money: money.amount,
    "currency": lambda money: money.currency,
    "round": _rounding("round", ROUND_HALF_EVEN),
    "floor": _rounding("floor", ROUND_FLOOR),
    "ceil": _rounding("ceil", ROUND_CEILING),
    "divide": divide,
    "abs": absolute,
    "sum": total,
    "min": _extreme("min", "<"),
    "max": _extreme("max", ">"),
    "distinct": distinct,
    "flatten": flatten,
    "range": span,
    "user": user,
}
"""Every built-in. Wrong arguments raise EvalError no_overload, or TypeError where Python finds them itself."""


def _lengths(values: Sequence[Any]) -> int:
    return sum(len(v) for v in values if type(v) is list)


def _all_pairs(values: Sequence[Any]) -> int:
    """`distinct` compares lists and maps with each other."""
    items = values[0] if values and type(values[0]) is list else []
    nested = sum(1 for item in items if type(item) in (list, dict))
    return len(items) + nested * nested


def _numbers(values: Sequence[Any]) -> int:
    bounds = [v for v in values if type(v) is int]
    return min(max(0, bounds[-1] - (bounds[0] if len(bounds) > 1 else 0)), MAX_ITEMS) if bounds else 0


COSTS: dict[str, Callable[[Sequence[Any]], int]] = {
    **dict.fromkeys(("sum", "min", "max", "flatten", "join"), _lengths),
    "distinct": _all_pairs,
    "range": _numbers,
}
"""What a function takes from the evaluation's meter, where that is more than a moment."""


def show(value: Value) -> str:
    """The value in a text that people or models read: text as it is, everything composed as JSON."""
    if type(value) is str:
        return value
    if value is None:
        return "null"
    if type(value) is float:
        return float_text(value)
    public = to_public(value)
    if isinstance(public, str):
        return public
    import json

    return json.dumps(public, ensure_ascii=False, sort_keys=True)
