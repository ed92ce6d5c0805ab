"""Expressions of the syntax tree to the JSON form of definitions.

In a program, `lower_expr(expr, analysis)` uses what resolving and typing found: what a name stands for, which
int is widened to a decimal, which map literal is a record. Without an analysis (`jam eval`, conformance) names
are looked up when the expression is evaluated, by CEL's rules; see `Dynamic`.
"""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from jamjet_dsl.analysis.model import Analysis, Symbol, Type
from jamjet_dsl.analysis.signatures import MACROS
from jamjet_dsl.money import money_text
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

if TYPE_CHECKING:
    from jamjet_dsl.definition import ExprJson

MAX_SAFE_INT = 2**53 - 1
MAX_NODES = 10_000
"""The most parts of one expression, as the evaluator has it."""

_HISTORY = ("attempted", "succeeded", "failed", "denied")
_TEXT_SYMBOLS = frozenset({"option", "state", "error", "tool", "agent", "model", "event", "emits"})
"""Kinds of names that stand for their own text: `review.option == approve`, `state == paid`."""


class Dynamic:
    """How to lower without an analysis. `container` qualifies names as CEL's container does. With `cel`, a bare
    key of a map literal is a variable, as in CEL; else it is a field name, as in the language."""

    def __init__(self, container: str = "", cel: bool = False) -> None:
        self.container = container
        self.cel = cel


def lower_expr(
    expr: ast.Expr, analysis: Analysis | None, dynamic: Dynamic | None = None, currency: str = "USD"
) -> ExprJson:
    """The JSON form of an expression that was checked without errors. `currency` is the one of the agent around
    it, for the sum of no money at all.

    Raises JamError JAMR501 for an expression that is too large, and ValueError for what only a program with errors
    can hold, so callers lower nothing that was refused.
    """
    if analysis is None:
        return _DynamicLowering(dynamic or Dynamic()).lower(expr, frozenset())
    return _TypedLowering(analysis, currency).lower(expr, frozenset())


def lower_text(text: ast.Text, analysis: Analysis) -> ExprJson:
    """A prompt or question: `["text", "Lend ", ["show", E], …]`."""
    parts: list[Any] = ["text"]
    for part in text.parts:
        parts.append(part if isinstance(part, str) else ["show", lower_path(part.path, analysis)])
    return parts


def lower_path(path: ast.Path, analysis: Analysis) -> ExprJson:
    """A path of names, the first of which was resolved."""
    lowered = _TypedLowering(analysis).name(path.names[0], path.names[0].text, frozenset())
    for field in path.names[1:]:
        lowered = ["select", lowered, field.text]
    return lowered


def int_literal(value: int) -> ExprJson:
    """An int node; integers that JSON readers would round are text."""
    return ["int", value if -MAX_SAFE_INT <= value <= MAX_SAFE_INT else str(value)]


def _literal(lit: ast.Lit) -> ExprJson:
    value: Any = lit.value
    match lit.kind:
        case "int" | "quantity" | "percent":
            return int_literal(value)
        case "uint":
            return ["uint", value if value <= MAX_SAFE_INT else str(value)]
        case "float" if value == 0 and str(value)[0] == "-":
            return ["neg", ["float", 0.0]]  # canonical JSON has no minus zero
        case "bytes":
            return ["bytes", base64.b64encode(value).decode("ascii")]
        case "money":
            amount, currency = value
            return ["money", money_text(Decimal(amount), currency)]
        case "null":
            return ["null"]
        case kind:
            return [kind, value]


def _digits(lit: ast.Lit) -> str:
    """The digits of a literal with a fraction as they are written: its float may have lost some."""
    return format(Decimal("".join(lit.span.text.split())), "f")


class _Lowering:
    """What both modes share: literals, operators, macros and calls. `bound` holds the names of macros around."""

    def lower(self, expr: ast.Expr, bound: frozenset[str]) -> ExprJson:
        match expr:
            case ast.Lit():
                return _literal(expr)
            case ast.Ident(name=name):
                return self.name(expr, name, bound)
            case ast.Select():
                return self.select(expr, bound)
            case ast.Index(operand=operand, index=index):
                return ["index", self.lower(operand, bound), self.lower(index, bound)]
            case ast.Unary(op=op, operand=operand):
                return ["!" if op == "!" else "neg", self.lower(operand, bound)]
            case ast.Binary(op=op, left=left, right=right):
                return [op, self.lower(left, bound), self.lower(right, bound)]
            case ast.Cond(test=test, then=then, other=other):
                return ["?:", self.lower(test, bound), self.lower(then, bound), self.lower(other, bound)]
            case ast.ListLit(items=items):
                return ["list", *(self.lower(item, bound) for item in items)]
            case ast.MapLit():
                return self.map(expr, bound)
            case ast.FnCall():
                return self.call(expr, bound)
            case ast.MethodCall():
                return self.method(expr, bound)
        raise ValueError(f"an expression that was refused: {expr!r:.80}")

    def name(self, node: Node, name: str, bound: frozenset[str]) -> ExprJson:
        raise NotImplementedError

    def select(self, expr: ast.Select, bound: frozenset[str]) -> ExprJson:
        return ["select", self.lower(expr.operand, bound), expr.field.text]

    def map(self, expr: ast.MapLit, bound: frozenset[str]) -> ExprJson:
        return ["map", *([self.lower(e.key, bound), self.lower(e.value, bound)] for e in expr.entries)]

    def call(self, expr: ast.FnCall, bound: frozenset[str]) -> ExprJson:
        return ["call", expr.function.text, *(self.lower(arg.value, bound) for arg in expr.args)]

    def method(self, expr: ast.MethodCall, bound: frozenset[str]) -> ExprJson:
        name, args = expr.method.text, expr.args
        if name in MACROS and (len(args) == 2 or (name == "map" and len(args) == 3)):
            variable = args[0]
            if not isinstance(variable, ast.Ident):
                raise ValueError(f"the first argument of `{name}` is a new name")
            inner = bound | {variable.name}
            op = {"map": "map_if" if len(args) == 3 else "map_"}.get(name, name)
            parts = (self.lower(arg, inner) for arg in args[1:])
            return [op, self.lower(expr.operand, bound), variable.name, *parts]
        return ["call", name, self.lower(expr.operand, bound), *(self.lower(arg, bound) for arg in args)]


class _TypedLowering(_Lowering):
    """With an analysis."""

    def __init__(self, analysis: Analysis, currency: str = "USD") -> None:
        self.analysis = analysis
        self.currency = currency
        self.nodes = 0

    def lower(self, expr: ast.Expr, bound: frozenset[str]) -> ExprJson:
        self.nodes += 1
        if self.nodes > MAX_NODES:  # consts stand in full wherever they are used, so a few lines can be very large
            from jamjet_dsl.diagnostics.errors import JamError

            message = f"an expression has more than {MAX_NODES:,} parts once its consts are filled in"
            raise JamError("JAMR501", message, "use a smaller const")
        wide = self.analysis.widened.get(expr)
        if wide is None or wide.kind in ("record", "object", "map", "list", "conversation"):
            return super().lower(expr, bound)
        while wide.kind in ("optional", "secret"):
            wide = wide.args[0]
        match wide.kind, expr:
            case "enum", ast.Lit(kind="string", value=value):
                return ["enum", wide.name, value]
            case "decimal", ast.Lit(kind="int" | "quantity", value=value):
                return ["decimal", str(value)]
            case "decimal", ast.Lit(kind="float"):
                return ["decimal", _digits(expr)]
            case "float", ast.Lit(kind="int" | "quantity", value=int(value)):
                return ["float", float(value)]
            case "decimal" | "float", _:
                return ["widen", wide.kind, super().lower(expr, bound)]
        return super().lower(expr, bound)

    def name(self, node: Node, name: str, bound: frozenset[str]) -> ExprJson:
        symbol = self.analysis.symbols.get(node)
        if name in bound and (symbol is None or symbol.kind == "local"):
            return ["local", name]
        if symbol is None:
            raise ValueError(f"`{name}` was not resolved")
        return self.symbol(symbol, name)

    def symbol(self, symbol: Symbol, name: str) -> ExprJson:
        if symbol.kind == "local":
            return ["local", name]
        if symbol.kind == "member":
            return ["enum", symbol.type.name if symbol.type else None, name]
        if symbol.kind in _TEXT_SYMBOLS:
            return ["string", symbol.name]
        if symbol.kind == "const":
            assert isinstance(symbol.node, ast.ConstDecl)
            return self.lower(symbol.node.value, frozenset())
        return ["var", name]

    def select(self, expr: ast.Select, bound: frozenset[str]) -> ExprJson:
        if isinstance(expr.operand, ast.Ident):
            symbol = self.analysis.symbols.get(expr.operand)
            if symbol is not None and symbol.kind == "enum":
                return ["enum", symbol.name, expr.field.text]
        return super().select(expr, bound)

    def map(self, expr: ast.MapLit, bound: frozenset[str]) -> ExprJson:
        type = self.analysis.widened.get(expr) or self.analysis.types.get(expr)
        while type is not None and type.kind in ("optional", "secret"):
            type = type.args[0]
        if type is None or type.kind not in ("record", "object", "Move", "ToolCall"):
            return super().map(expr, bound)
        fields = {_field(entry): self.lower(entry.value, bound) for entry in expr.entries}
        for name in self._optional_fields(type):
            fields.setdefault(name, ["null"])
        return ["record", type.name or type.kind, fields]

    def _optional_fields(self, type: Type) -> list[str]:
        if type.kind == "record":
            decl = self.analysis.records[type.name or ""]
            return [field.name.text for field in decl.fields if field.type.optional]
        return [name for name, field in type.fields if field.kind == "optional"]

    def call(self, expr: ast.FnCall, bound: frozenset[str]) -> ExprJson:
        name = expr.function.text
        symbol = self.analysis.symbols.get(expr.function)
        if symbol is not None and symbol.kind == "fn":
            assert isinstance(symbol.node, ast.FnDecl)
            return ["fn", symbol.name, *self._in_order(expr, symbol.node, bound)]
        if name in ("has", "attested", "untrusted"):
            return [name, self.lower(expr.args[0].value, bound)]
        if name == "calls":
            return ["calls", self._tool(expr)]
        if name in _HISTORY:
            args = {arg.name.text: self.lower(arg.value, bound) for arg in expr.args[1:] if arg.name is not None}
            return ["history", name, self._tool(expr), args]
        return self._with_zero(super().call(expr, bound), expr)

    def method(self, expr: ast.MethodCall, bound: frozenset[str]) -> ExprJson:
        return self._with_zero(super().method(expr, bound), expr)

    def _tool(self, expr: ast.FnCall) -> str:
        """The tool that `calls(T)` and its kin name first."""
        named = expr.args[0].value
        symbol = self.analysis.symbols.get(named)
        if symbol is not None:
            return symbol.name
        if isinstance(named, ast.Ident):
            return named.name
        raise ValueError(f"`{expr.function.text}` takes the name of a tool")

    def _in_order(self, expr: ast.FnCall, fn: ast.FnDecl, bound: frozenset[str]) -> list[ExprJson]:
        """The arguments of a declared function, by position and then by name."""
        by_name = {arg.name.text: arg.value for arg in expr.args if arg.name is not None}
        values = [arg.value for arg in expr.args if arg.name is None]
        values += [by_name[param.name.text] for param in fn.params[len(values) :]]
        return [self.lower(value, bound) for value in values]

    def _with_zero(self, call: ExprJson, expr: ast.Expr) -> ExprJson:
        """`sum` of an empty list is a zero of the list's type, which is known only here."""
        if call[:2] != ["call", "sum"] or len(call) > 3:
            return call
        type = self.analysis.types.get(expr)
        while type is not None and type.kind == "secret":
            type = type.args[0]
        zeros: dict[str, ExprJson] = {
            "uint": ["uint", 0],
            "float": ["float", 0.0],
            "decimal": ["decimal", "0"],
            "duration": ["duration", 0],
        }
        if type is not None and type.kind == "money":
            return [*call, ["money", money_text(Decimal(0), type.currency or self.currency)]]
        return [*call, zeros[type.kind]] if type is not None and type.kind in zeros else call


class _DynamicLowering(_Lowering):
    """Without an analysis."""

    def __init__(self, dynamic: Dynamic) -> None:
        self.container = dynamic.container
        self.cel = dynamic.cel

    def name(self, node: Node, name: str, bound: frozenset[str]) -> ExprJson:
        return ["local", name] if name in bound else self._qualified((name,))

    def _qualified(self, names: tuple[str, ...]) -> ExprJson:
        if names[0][0] == ".":  # a name from the root, whatever the container
            return ["qualified", [names[0][1:], *names[1:]], ""]
        return ["qualified", list(names), self.container]

    def select(self, expr: ast.Select, bound: frozenset[str]) -> ExprJson:
        names: list[str] = []
        base: ast.Expr = expr
        while isinstance(base, ast.Select):
            names.append(base.field.text)
            base = base.operand
        names.reverse()
        if isinstance(base, ast.Ident) and base.name not in bound:
            return self._qualified((base.name, *names))
        lowered = self.lower(base, bound)
        for name in names:
            lowered = ["select", lowered, name]
        return lowered

    def map(self, expr: ast.MapLit, bound: frozenset[str]) -> ExprJson:
        pairs = []
        for entry in expr.entries:
            if entry.field is not None and self.cel:
                key = self.name(entry, entry.field.text, bound)
            else:
                key = self.lower(entry.key, bound)
            pairs.append([key, self.lower(entry.value, bound)])
        return ["map", *pairs]

    def call(self, expr: ast.FnCall, bound: frozenset[str]) -> ExprJson:
        name = expr.function.text
        if name != "has" or len(expr.args) != 1:
            return super().call(expr, bound)
        inner = expr.args[0].value
        lowered = self.lower(inner, bound)
        return ["present" if isinstance(inner, ast.Select) else "has", lowered]


def _field(entry: ast.MapEntry) -> str:
    """The field that an entry of a record literal sets."""
    if entry.field is not None:
        return entry.field.text
    if isinstance(entry.key, ast.Lit) and isinstance(entry.key.value, str):
        return entry.key.value
    raise ValueError("the key of a record literal is a field name")
