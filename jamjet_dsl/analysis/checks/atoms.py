"""From guards to formulas: a guard becomes a boolean combination of tests on dimensions (see `intervals`).

What the analysis cannot look into (a comprehension, a call, a comparison of two computed values) becomes a
dimension of its own under its text, so the same text means the same thing in all guards of a state. That is
sound because expressions are pure and all guards of a state see the same values. Dimensions are taken to be
independent of each other, which only ever adds cases: "never true" and "covers everything" stay proofs.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TypeAlias

from jamjet_dsl.analysis.checks.constants import CONST_DEPTH, constant
from jamjet_dsl.analysis.checks.intervals import NUMBERS, SIGNS, Constant, Dim, as_number, mirrored
from jamjet_dsl.analysis.checks.paths import source_text
from jamjet_dsl.analysis.model import Analysis, Type
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
_UNKNOWN = Type("any")


class Atom:
    """One test of one dimension; `mask` is set when the space is sealed."""

    __slots__ = ("dim", "mask", "op", "value")

    def __init__(self, dim: Dim, op: str, value: Decimal | str = "") -> None:
        self.dim = dim
        self.op = op
        self.value = value
        self.mask = 0


Formula: TypeAlias = bool | Atom | tuple[str, tuple["Formula", ...]]
"""A truth, a test, or `("&&" | "||", parts)`, `("!", (part,))`, `("==", (a, b))` for two that hold together or not
at all, `("?", (test, then, other))`."""


def conj(*parts: Formula) -> Formula:
    """All of them."""
    return ("&&", parts)


def disj(*parts: Formula) -> Formula:
    """Any of them."""
    return ("||", parts)


def neg(part: Formula) -> Formula:
    """Not it."""
    return not part if isinstance(part, bool) else ("!", (part,))


# ---- names of expressions


def key_of(expr: ast.Expr) -> str:
    """A text that two expressions share exactly if they mean the same by their form: layout and parentheses do not
    count, and `m["a"]` is `m.a`."""
    match expr:
        case ast.Ident(name=name):
            return name
        case ast.Select(operand=operand, field=field):
            return f"{key_of(operand)}.{field.text}"
        case ast.Lit(kind=kind, value=value):
            return f"{kind}:{value!r}"
        case ast.Index(operand=operand, index=ast.Lit(kind="string", value=str(name))) if name.isidentifier():
            return f"{key_of(operand)}.{name}"
        case ast.Index(operand=operand, index=index):
            return f"{key_of(operand)}[{key_of(index)}]"
        case ast.MethodCall(operand=operand, method=ast.Name(text="size"), args=()):
            return f"size({key_of(operand)})"
        case ast.FnCall(function=function, args=args):
            inner = ", ".join((f"{a.name.text}=" if a.name else "") + key_of(a.value) for a in args)
            return f"{function.text}({inner})"
        case ast.MethodCall(operand=operand, method=method, args=values):
            return f"{key_of(operand)}.{method.text}({', '.join(map(key_of, values))})"
        case ast.Unary(op=op, operand=operand):
            return f"({op}{key_of(operand)})"
        case ast.Binary(op=op, left=left, right=right):
            return f"({key_of(left)} {op} {key_of(right)})"
        case ast.Cond(test=test, then=then, other=other):
            return f"({key_of(test)} ? {key_of(then)} : {key_of(other)})"
        case ast.ListLit(items=items):
            return f"[{', '.join(map(key_of, items))}]"
        case ast.MapLit(entries=entries):
            return "{" + ", ".join(f"{key_of(e.key)}: {key_of(e.value)}" for e in entries) + "}"
        case _:
            return f"?{id(expr)}"


def is_path(expr: ast.Expr) -> bool:
    """Whether an expression is a name or a chain of fields of one."""
    while isinstance(expr, ast.Select):
        expr = expr.operand
    return isinstance(expr, ast.Ident)


def sized(expr: ast.Expr) -> ast.Expr | None:
    """The operand of `size(x)` or `x.size()`, else None."""
    match expr:
        case ast.FnCall(function=ast.Name(text="size"), args=(ast.Arg(name=None, value=operand),)):
            return operand
        case ast.MethodCall(operand=operand, method=ast.Name(text="size"), args=()):
            return operand
        case _:
            return None


def conjuncts(expr: ast.Expr, op: str = "&&") -> list[ast.Expr]:
    """The operands of a chain of one operator, in order; a chain of a thousand does not recurse."""
    found: list[ast.Expr] = []
    todo = [expr]
    while todo:
        expr = todo.pop()
        if isinstance(expr, ast.Binary) and expr.op == op:
            todo += (expr.right, expr.left)
        else:
            found.append(expr)
    return found


def paths_in(expr: ast.Expr) -> frozenset[str]:
    """The longest paths that an expression reads."""
    found: set[str] = set()
    todo: list[Node] = [expr]
    while todo:
        node = todo.pop()
        match node:
            case ast.Expr() if is_path(node):
                found.add(key_of(node))
            case ast.FnCall(args=args):
                todo.extend(a.value for a in args)
            case ast.MethodCall(operand=operand, args=values):
                todo += (operand, *values)
            case ast.Unary(operand=operand):
                todo.append(operand)
            case ast.Select(operand=operand):
                todo.append(operand)
            case ast.Index(operand=operand, index=index):
                todo += (operand, index)
            case ast.Binary(left=left, right=right):
                todo += (left, right)
            case ast.Cond(test=test, then=then, other=other):
                todo += (test, then, other)
            case ast.ListLit(items=items):
                todo.extend(items)
            case ast.MapLit(entries=entries):
                for entry in entries:
                    todo += (entry.key, entry.value)
            case _:
                pass
    return frozenset(found)


# ---- the space of a set of guards


class Space:
    """The dimensions of the guards of one state, and the guards as formulas over them.

    Translate every guard with `formula`, then `seal` once, then ask (see `cover`).
    """

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.dims: list[Dim] = []
        self._by_key: dict[str, Dim] = {}
        self._atoms: list[Atom] = []

    def seal(self) -> None:
        """Cuts all dimensions into cells; no formula can be added afterwards."""
        for dim in self.dims:
            dim.seal()
        for atom in self._atoms:
            atom.mask = atom.dim.mask(atom.op, atom.value)

    # ---- formulas

    def formula(self, expr: ast.Expr) -> Formula:
        """A boolean expression as a formula."""
        match expr:
            case ast.Lit(kind="bool", value=value):
                return bool(value)
            case ast.Unary(op="!", operand=operand):
                return neg(self.formula(operand))
            case ast.Binary(op="&&" | "||" as op):
                return (op, tuple(self.formula(part) for part in conjuncts(expr, op)))
            case ast.Binary(op=op, left=left, right=right) if op in _COMPARISONS:
                return self.comparison(op, left, right)
            case ast.Binary(op="in", left=left, right=right):
                return self._member(expr, left, right)
            case ast.Cond(test=test, then=then, other=other):
                return ("?", (self.formula(test), self.formula(then), self.formula(other)))
            case ast.FnCall(function=ast.Name(text="has"), args=(ast.Arg(value=operand),)):
                return self.present(operand)
            case _:
                known = constant(expr, self.analysis)
                if known is not None and isinstance(known.value, bool):
                    return known.value
                return self._atom(self._term(expr, "truth"), "==", "true")

    def present(self, expr: ast.Expr) -> Formula:
        """`has(expr)`, which is also `expr != null`."""
        dim = self._dim_of(expr)
        dim.nullable = True
        return self._atom(dim, "has")

    def comparison(self, op: str, left: ast.Expr, right: ast.Expr) -> Formula:
        """`left op right`."""
        if op == "!=":
            return neg(self.comparison("==", left, right))
        a, b = constant(left, self.analysis), constant(right, self.analysis)
        if b is not None and a is not None:
            return self._known(op, left, a, right, b)
        if a is not None:
            return self._with_constant(mirrored(op), right, a, left)
        if b is not None:
            return self._with_constant(op, left, b, right)
        if op == "==" and self._kind(left) == "bool":
            return ("==", (self.formula(left), self.formula(right)))
        return self._ordered(op, left, right)

    def _known(self, op: str, left: ast.Expr, a: Constant, right: ast.Expr, b: Constant) -> Formula:
        kind = a.kind if a.kind in ("money", "duration") else "float" if self._kind(left) == "float" else "decimal"
        x, y = as_number(a, kind), as_number(b, kind)
        if x is not None and y is not None and a.currency == b.currency:
            sign = (x > y) - (x < y)
            return sign in SIGNS[op]
        if op == "==" and a.kind == b.kind and a.kind in ("string", "bool", "null"):
            return a.value == b.value
        return self._ordered(op, left, right)

    def _with_constant(self, op: str, term: ast.Expr, value: Constant, written: ast.Expr) -> Formula:
        """`term op value`; `written` is the value as an expression, for when it is not looked into."""
        if value.kind == "null":
            return neg(self.present(term)) if op == "==" else self._ordered(op, term, written)
        kind = self._kind(term)
        if isinstance(value.value, bool):
            inner = self.formula(term)
            if op == "==" and kind == "bool":
                return inner if value.value else neg(inner)
        elif isinstance(value.value, str) and op == "==" and kind in ("string", "enum", "any"):
            dim = self._dim_of(term, "text")
            if dim.kind == "text":
                dim.names.setdefault(value.value)
                return self._atom(dim, "==", value.value)
        elif kind in NUMBERS:
            number = as_number(value, kind)
            dim = self._dim_of(term)
            if number is not None and dim.kind == "number" and dim.currency in ("", value.currency):
                dim.currency = value.currency
                dim.cuts.add(number)
                return self._atom(dim, op, number)
        return self._ordered(op, term, written)

    def _ordered(self, op: str, left: ast.Expr, right: ast.Expr) -> Formula:
        """A comparison of two terms: one dimension for the pair, however it is turned."""
        a, b = key_of(left), key_of(right)
        exact = self._kind(left) not in ("float", "any") and self._kind(right) not in ("float", "any")
        if a == b and exact and op in ("==", "<=", ">="):
            return True
        if a > b:
            left, right, a, b, op = right, left, b, a, mirrored(op)
        key = f"{a} ? {b}"
        dim = self._by_key.get(key)
        if dim is None:
            type_ = Type("int" if exact else "float")
            dim = self._new(key, "order", source_text(left), type_, source_text(right))
            dim.reads = paths_in(left) | paths_in(right)
        return self._atom(dim, op)

    def _member(self, expr: ast.Binary, left: ast.Expr, right: ast.Expr) -> Formula:
        """`x in [constants]` is a choice; membership of anything else is a truth of its own."""
        source: ast.Expr = right
        for _ in range(CONST_DEPTH):
            symbol = self.analysis.symbols.get(source) if isinstance(source, ast.Ident) else None
            if symbol is None or symbol.kind != "const" or not isinstance(symbol.node, ast.ConstDecl):
                break
            source = symbol.node.value
        match source:
            case ast.ListLit(items=items):
                return ("||", tuple(self.comparison("==", left, item) for item in items))
            case ast.MapLit(entries=entries):
                return ("||", tuple(self.comparison("==", left, entry.key) for entry in entries))
            case _:
                return self._atom(self._term(expr, "truth"), "==", "true")

    def _atom(self, dim: Dim, op: str, value: Decimal | str = "") -> Atom:
        atom = Atom(dim, op, value)
        self._atoms.append(atom)
        return atom

    # ---- dimensions

    def _type(self, expr: ast.Expr) -> Type:
        known = self.analysis.types.get(expr)
        if known is None:  # an expression that a check built
            return _UNKNOWN if sized(expr) is None else Type("int")
        return known

    def _kind(self, expr: ast.Expr) -> str:
        return _base(self._type(expr)).kind

    def _dim_of(self, expr: ast.Expr, wanted: str = "") -> Dim:
        """The dimension of a term, of the kind that its type asks for."""
        type_ = _base(self._type(expr))
        match type_.kind:
            case kind if kind in NUMBERS:
                return self._term(expr, "number")
            case "string" | "enum":
                return self._term(expr, "text")
            case "bool":
                return self._term(expr, "truth")
            case _:
                return self._term(expr, wanted or "thing")

    def _term(self, expr: ast.Expr, kind: str) -> Dim:
        key = key_of(expr)
        dim = self._by_key.get(key)
        if dim is not None and dim.kind != kind:  # something of type `any`, tested as this and as that
            key = f"{key} as {kind}"
            dim = self._by_key.get(key)
        declared = self._type(expr)
        if dim is None:
            type_ = _base(declared)
            dim = self._new(key, kind, source_text(expr), type_)
            operand = sized(expr)
            path = expr if operand is None else operand
            dim.simple = is_path(path)
            dim.reads = frozenset({key_of(path)}) if dim.simple else paths_in(expr)
            if kind == "number":
                dim.low, dim.high = _bounds(type_)
                dim.currency = type_.currency or ""
            if operand is not None and kind == "number":
                low, high = _bounds(_base(self._type(operand)))
                dim.low, dim.high = low if low is not None and low > 0 else Decimal(0), high
            if type_.kind == "enum":
                dim.members = self._members(type_.name)
        if declared.kind == "optional":
            dim.nullable = True
        return dim

    def _new(self, key: str, kind: str, text: str, type_: Type, other: str = "") -> Dim:
        dim = Dim(len(self.dims), kind, text, type_, other)
        self.dims.append(dim)
        self._by_key[key] = dim
        return dim

    def _members(self, enum: str | None) -> tuple[str, ...] | None:
        decl = self.analysis.enums.get(enum or "")
        return tuple(member.text for member in decl.members) if decl is not None else None


def _base(type_: Type) -> Type:
    while type_.kind in ("optional", "secret"):
        type_ = type_.args[0]
    return type_


def _bounds(type_: Type) -> tuple[Decimal | None, Decimal | None]:
    """The declared range of a type as exact numbers."""
    return _bound(type_.low, type_.kind), _bound(type_.high, type_.kind)


def _bound(value: object, kind: str) -> Decimal | None:
    match value:
        case None | bool():
            return None
        case int() | Decimal():
            return Decimal(value)
        case float():
            return Decimal(value) if kind == "float" else Decimal(repr(value))
        case (str(amount), str()) | str(amount):
            try:
                return Decimal(amount.split()[0].lstrip("$").replace("_", ""))
            except (ArithmeticError, IndexError):
                return None
        case _:
            return None
