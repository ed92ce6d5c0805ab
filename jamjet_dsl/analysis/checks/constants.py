"""Values that are known when the program is read: literals, `const`s, members of enums, exact sums and products."""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow

from jamjet_dsl.analysis.checks.intervals import Constant
from jamjet_dsl.analysis.model import Analysis
from jamjet_dsl.syntax import ast

CONST_DEPTH = 20
"""How many `const`s may stand for each other before the value counts as unknown."""

_FOLD = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow])


def constant(expr: ast.Expr, analysis: Analysis, depth: int = 0) -> Constant | None:
    """The value of an expression that is known when the program is read, else None."""
    match expr:
        case ast.Lit(kind=kind, value=value):
            return _literal(kind, value)
        case ast.Ident():
            symbol = analysis.symbols.get(expr)
            if symbol is None or depth > CONST_DEPTH:
                return None
            if symbol.kind == "member":
                return Constant("string", symbol.name)
            if symbol.kind == "const" and isinstance(symbol.node, ast.ConstDecl):
                return constant(symbol.node.value, analysis, depth + 1)
            return None
        case ast.Select(operand=ast.Ident() as operand, field=field):
            symbol = analysis.symbols.get(operand)
            return Constant("string", field.text) if symbol is not None and symbol.kind == "enum" else None
        case ast.Unary(op="-", operand=operand):
            inner = constant(operand, analysis, depth + 1)
            if inner is None or not isinstance(inner.value, Decimal | float):
                return None
            return inner._replace(value=-inner.value)
        case ast.Binary(op="+" | "-" | "*" as op, left=left, right=right) if depth <= CONST_DEPTH:
            return _folded(op, constant(left, analysis, depth + 1), constant(right, analysis, depth + 1))
        case ast.FnCall(function=ast.Name(text="decimal"), args=(ast.Arg(value=ast.Lit(kind="string", value=text)),)):
            try:
                found = Decimal(str(text))
            except ArithmeticError:
                return None
            return Constant("number", found) if found.is_finite() else None
        case _:
            return None


def _literal(kind: str, value: object) -> Constant | None:
    match kind, value:
        case "int" | "uint" | "quantity", int():
            return Constant("number", Decimal(value))
        case "float", float() | int():
            return Constant("float", float(value))
        case "money", (str(amount), str(currency)):
            return Constant("money", Decimal(amount.replace("_", "")), currency)
        case "duration", int():
            return Constant("duration", Decimal(value))
        case "string", str():
            return Constant("string", value)
        case "bool", bool():
            return Constant("bool", value)
        case "null", None:
            return Constant("null")
        case _:
            return None


def _folded(op: str, a: Constant | None, b: Constant | None) -> Constant | None:
    """Sums and products of exact constants; floats round, and are left to run time."""
    if a is None or b is None or not isinstance(a.value, Decimal) or not isinstance(b.value, Decimal):
        return None
    if op == "*":
        if a.kind != "number" and b.kind != "number":
            return None
        kind, currency = (b.kind, b.currency) if a.kind == "number" else (a.kind, a.currency)
    else:
        if (a.kind, a.currency) != (b.kind, b.currency):
            return None
        kind, currency = a.kind, a.currency
    try:
        value = {"+": _FOLD.add, "-": _FOLD.subtract, "*": _FOLD.multiply}[op](a.value, b.value)
    except ArithmeticError:
        return None
    return Constant(kind, value, currency)
