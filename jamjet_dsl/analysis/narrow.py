"""What a condition says about optional values: which of them are there when it holds, or when it does not."""

from __future__ import annotations

from typing import NamedTuple

from jamjet_dsl.syntax import ast

Keys = frozenset[str]
_NONE: Keys = frozenset()


class Facts(NamedTuple):
    """Paths (`move.call`) that have a value if the condition is true, and if it is false."""

    true: Keys = _NONE
    false: Keys = _NONE


_NOTHING = Facts()


def key_of(node: ast.Expr) -> str | None:
    """The path that an expression reads, or None if it is not a plain path."""
    parts: list[str] = []
    while isinstance(node, ast.Select):
        parts.append(node.field.text)
        node = node.operand
    if not isinstance(node, ast.Ident):
        return None
    parts.append(node.name)
    return ".".join(reversed(parts))


class Narrowing:
    """Facts of conditions, each computed once: a chain of a thousand `&&` costs a thousand steps."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[ast.Expr, Facts] = {}

    def facts(self, node: ast.Expr) -> Facts:
        """The facts of a condition. Operands of `&&` and `||` are best asked for first, from the left."""
        found = self._known.get(node)
        if found is None:
            found = self._known[node] = self._facts(node)
        return found

    def _facts(self, node: ast.Expr) -> Facts:
        match node:
            case ast.FnCall(function=ast.Name(text="has"), args=(ast.Arg(value=value),)):
                key = key_of(value)
                return Facts(frozenset((key,))) if key else _NOTHING
            case ast.Binary(op="&&", left=left, right=right):
                a, b = self.facts(left), self.facts(right)
                return Facts(a.true | b.true, a.false & b.false)
            case ast.Binary(op="||", left=left, right=right):
                a, b = self.facts(left), self.facts(right)
                return Facts(a.true & b.true, a.false | b.false)
            case ast.Unary(op="!", operand=operand):
                inner = self.facts(operand)
                return Facts(inner.false, inner.true)
            case ast.Binary(op="==" | "!=" as op, left=left, right=right):
                return _compared(op, left, right)
            case _:
                return _NOTHING


def _compared(op: str, left: ast.Expr, right: ast.Expr) -> Facts:
    """`x != null` and `x == literal` say that x is there."""
    if isinstance(left, ast.Lit):
        left, right = right, left
    if not isinstance(right, ast.Lit):
        return _NOTHING
    key = key_of(left)
    if key is None:
        return _NOTHING
    here = frozenset((key,))
    if (right.kind == "null") == (op == "!="):
        return Facts(true=here)
    return Facts(false=here)
