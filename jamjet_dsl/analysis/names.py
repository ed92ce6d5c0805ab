"""The names of one file, and types as they are written in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from jamjet_dsl.analysis.model import Analysis, FileScope, Symbol, Type
from jamjet_dsl.analysis.report import Report
from jamjet_dsl.analysis.types import ERROR, KEYS, RANGED, SCALARS, TYPE_NAMES, optional, secret
from jamjet_dsl.diagnostics.model import Label
from jamjet_dsl.source import Span
from jamjet_dsl.syntax import ast

if TYPE_CHECKING:
    from fractions import Fraction

_A_KIND = {
    "tool": "a tool",
    "record": "a record",
    "enum": "an enum",
    "const": "a const",
    "fn": "a function",
    "model": "a model",
    "agent": "an agent",
}


class Names:
    """Looks names up in a file and remembers what was used.

    `partial` says that the file has syntax errors: a declaration may be missing because it could not be read,
    so nothing is said about names that are not there. `missed` counts the uses that found nothing.
    """

    __slots__ = ("analysis", "errors", "missed", "partial", "report", "scope", "used")

    def __init__(self, scope: FileScope, analysis: Analysis, report: Report, partial: bool) -> None:
        self.scope = scope
        self.analysis = analysis
        self.report = report
        self.partial = partial
        self.used: set[str] = set()
        self.errors: dict[str, Symbol] = {}
        self.missed = 0

    def find(self, name: str) -> Symbol | None:
        """What a name means at top level; looking is using."""
        symbol = self.scope.names.get(name)
        if symbol is not None:
            symbol.used = True
            self.used.add(name)
        return symbol

    def use(self, node: ast.Name, kind: str) -> Symbol | None:
        """The declaration of a kind that a name means; reported where there is none."""
        symbol = self.find(node.text)
        if symbol is not None and symbol.kind == kind:
            self.analysis.symbols[node] = symbol
            return symbol
        if symbol is not None and symbol.kind == "unknown":
            self.missed += 1
            return None
        if symbol is not None:
            self.missed += 1
            is_a = _A_KIND.get(symbol.kind, symbol.kind)
            self.report.add("JAM101", node.span, f"`{node.text}` is {is_a}, not {_A_KIND[kind]}")
        else:
            self.unknown(
                node.span, node.text, kind, self.all_of(kind), f"declare it, or import it: `{kind} {node.text}`"
            )
        return None

    def all_of(self, *kinds: str) -> Iterator[str]:
        """The visible names of some kinds."""
        return (name for name, s in self.scope.names.items() if s.kind in kinds)

    def unknown(self, span: Span, text: str, what: str, candidates: Iterable[str], otherwise: str = "") -> None:
        """JAM101, unless the declaration may be among what could not be read. The candidates are gone through only
        while hints are given, so they are best not put into a list before."""
        self.missed += 1
        if not self.partial:
            message = f"there is no {what} `{text}`"
            self.report.add("JAM101", span, message, help=self.report.meant(text, candidates, otherwise))

    # ---- types

    def params(self, nodes: tuple[ast.Param, ...], what: str) -> None:
        """Denotes the types of parameters or fields and reports names given twice."""
        self.distinct((p.name for p in nodes), what)
        for param in nodes:
            self.denote(param.type)

    def distinct(self, given: Iterable[ast.Name], what: str) -> None:
        """JAM102 for every name that is given again."""
        seen: dict[str, ast.Name] = {}
        for name in given:
            first = seen.setdefault(name.text, name)
            if first is not name:
                self.report.add(
                    "JAM102",
                    name.span,
                    f"`{name.text}` is already a {what} here",
                    help="give one of them another name",
                    labels=(Label(first.span, "the first one"),),
                )

    def denote(self, node: ast.TypeExpr) -> Type:
        """The type that is written, `error` where it is none; kept in the table of types."""
        found = self.analysis.types.get(node)
        if found is None:
            found = self._denote(node)
            if node.range is not None and found.kind != "error":
                found = self._ranged(found, node.range)
            if node.secret:
                found = secret(found)
            if node.optional:
                found = optional(found)
            self.analysis.types[node] = found
        return found

    def _denote(self, node: ast.TypeExpr) -> Type:
        name = node.name.text
        wanted = {"list": 1, "map": 2}.get(name, 0)
        symbol = None
        if name not in SCALARS and not wanted:
            symbol = self.find(name)
            if symbol is None or symbol.kind not in ("record", "enum"):
                if symbol is None:
                    known = chain(TYPE_NAMES, self.all_of("record", "enum"))
                    self.unknown(node.name.span, name, "type", known, f"declare it: `record {name} {{ … }}`")
                elif symbol.kind != "unknown":
                    is_a = _A_KIND.get(symbol.kind, symbol.kind)
                    self.report.add("JAM101", node.name.span, f"`{name}` is {is_a}, not a type")
                return ERROR
            self.analysis.symbols[node.name] = symbol
        parts = tuple(map(self.denote, node.args))
        if len(parts) != wanted:
            takes = {0: "takes no types in `<>`", 1: "takes one type: `list<T>`", 2: "takes two types: `map<K, V>`"}
            self.report.add("JAM108", node.span, f"`{name}` {takes[wanted]}")
            return ERROR
        if symbol is not None:
            return Type(symbol.kind, name=symbol.name)
        if not wanted:
            return SCALARS[name]
        if name == "map" and parts[0].kind not in KEYS and parts[0].kind != "error":
            self.report.add(
                "JAM401",
                node.args[0].span,
                f"a map cannot have `{node.args[0].span.text}` keys",
                help="keys are string, int, bool or an enum",
            )
        return Type(name, parts)

    def _ranged(self, type_: Type, range_: ast.RangeExpr) -> Type:
        if type_.kind not in RANGED:
            self.report.add(
                "JAM401",
                range_.span,
                f"`{type_.kind}` has no range",
                help="numbers and money have a range of values, a list has one of lengths",
            )
            return type_
        bounds = (self._bound(type_.kind, range_.low), self._bound(type_.kind, range_.high))
        if bounds[0] is None or bounds[1] is None:
            return type_
        if number(bounds[0]) > number(bounds[1]):
            self.report.add("JAM408", range_.span, "no value lies in this range", help="put the smaller end first")
            return type_
        ranged = type_._replace(low=bounds[0], high=bounds[1])
        if type_.kind != "money":
            return ranged
        ends = (range_.low, range_.high)
        currencies = [e.value[1] for e in ends if isinstance(e, ast.Lit) and isinstance(e.value, tuple)]
        if currencies[0] != currencies[-1]:
            help = "write both ends in the same currency"
            self.report.add("JAM401", range_.span, f"a range from {currencies[0]} to {currencies[-1]}", help=help)
            return type_
        return ranged._replace(currency=currencies[0])

    def _bound(self, kind: str, node: ast.Expr) -> object:
        """An end of a range: an int for int and list, a float for float, exact text for decimal and money."""
        if isinstance(node, ast.Lit):
            if kind in ("int", "uint", "list") and node.kind in ("int", "quantity", "uint"):
                return node.value
            if kind == "float" and isinstance(node.value, int | float) and node.kind in ("int", "float"):
                return float(node.value)
            if kind == "decimal" and node.kind in ("int", "float"):
                return node.span.text.replace("_", "")
            if kind == "money" and node.kind == "money" and isinstance(node.value, tuple):
                return str(node.value[0])
        if not isinstance(node, ast.ErrorExpr):
            self.report.add("JAM401", node.span, f"this is no end of a range of {kind}")
        return None


def number(value: object) -> Fraction | int:
    """The exact number of an end of a range, or of a literal: texts are decimals."""
    if isinstance(value, int):
        return value
    from fractions import Fraction  # most programs get by without it

    assert isinstance(value, float | str)
    return Fraction(value)
