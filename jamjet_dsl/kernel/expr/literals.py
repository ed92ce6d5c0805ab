"""The values of literal nodes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from jamjet_dsl.kernel.scalars import Duration, TypeValue, UInt, Value, parse_money

if TYPE_CHECKING:
    from jamjet_dsl.definition import ExprJson


def literal(expr: ExprJson) -> Value:
    """The value of a literal node. Raises KeyError for any other node."""
    return LITERALS[expr[0]](expr)


LITERALS: dict[str, Callable[[ExprJson], Value]] = {
    "null": lambda e: None,
    "bool": lambda e: bool(e[1]),
    "int": lambda e: int(e[1]),
    "uint": lambda e: UInt(e[1]),
    "float": lambda e: float(e[1]),
    "string": lambda e: str(e[1]),
    "bytes": lambda e: base64.b64decode(e[1]),
    "decimal": lambda e: Decimal(e[1]),
    "money": lambda e: parse_money(e[1]),
    "duration": lambda e: Duration.of_ms(int(e[1])),
    "enum": lambda e: str(e[2]),
    "type": lambda e: TypeValue(e[1]),
}
"""Every operator that stands for a constant, and how to read it."""
