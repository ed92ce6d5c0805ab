"""What a guard says of the values it reads: near which constant they turn it, how long a list must be, what must be
there. A wish is a hint where to look, not a proof: whether it helps shows when the run is tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias

from jamjet_dsl import definition as d

Path: TypeAlias = tuple[str, ...]
"""A variable and fields below it; `*` is any item of a list."""

_LITERALS = frozenset({"int", "uint", "float", "decimal", "money", "duration", "string", "enum", "bool"})
_NUMBERS = frozenset({"int", "uint", "float", "decimal"})
_COMPARISONS = {"==": 0, "!=": 1, "<": -1, "<=": 0, ">": 1, ">=": 0}
"""Each comparison with the step from its right side to a left side for which it holds."""
_MACROS = frozenset({"all", "exists", "exists_one", "filter", "map_", "map_if"})
_DEPTH = 12
"""Functions may call functions; none calls itself."""


class Wish(NamedTuple):
    """What to do with the value at a path. `near`: set it to the literal `value`, or beside it; `size`: give the list
    about that many items; `there`: give it a value, or none. `step` is where the comparison holds: above (1), at (0) or
    below (-1)."""

    path: Path
    kind: Literal["near", "size", "there"]
    value: Any = None
    step: int = 0


class _Reader:
    def __init__(self, fns: Mapping[str, d.Fn]) -> None:
        self.fns = fns
        self.read: dict[str, None] = {}

    def wishes(self, expr: Any, names: Mapping[str, Path], depth: int = 0) -> Iterator[Wish]:
        """All wishes of an expression. `names` are the paths of local names."""
        if not isinstance(expr, list) or not expr or depth > _DEPTH:
            return
        head = expr[0]
        if head == "var" and isinstance(expr[1], str):
            self.read.setdefault(expr[1])
        elif head in _COMPARISONS:
            step = _COMPARISONS[head]
            yield from self._compared(expr[1], expr[2], names, step)
            yield from self._compared(expr[2], expr[1], names, -step)
        elif head == "in":
            for path in self._paths(expr[1], names):
                yield from (Wish(path, "near", lit) for lit in _literals(expr[2]))
            for path in self._paths(expr[2], names):
                yield from (Wish((*path, "*"), "near", lit) for lit in _literals(expr[1]))
        elif head == "has":
            yield from (Wish(path, "there") for path in self._paths(expr[1], names))
        elif head in ("var", "local", "select", "widen"):
            yield from (Wish(path, "near", ["bool", True]) for path in self._paths(expr, names))
        if head in _MACROS:
            for path in self._paths(expr[1], names):
                yield Wish(path, "size", 1)
                inner = {**names, expr[2]: (*path, "*")}
                for part in expr[3:]:
                    yield from self.wishes(part, inner, depth)
            yield from self.wishes(expr[1], names, depth)
        elif head == "fn":
            fn = self.fns.get(expr[1])
            paths = [next(iter(self._paths(arg, names)), None) for arg in expr[2:]]
            for arg in expr[2:]:
                yield from self.wishes(arg, names, depth)
            if fn is not None:
                given = {p.name: path for p, path in zip(fn.params, paths, strict=False) if path is not None}
                yield from self.wishes(fn.body, given, depth + 1)
        else:
            for part in expr[1:]:
                if isinstance(part, dict):
                    for value in part.values():
                        yield from self.wishes(value, names, depth)
                else:
                    yield from self.wishes(part, names, depth)

    def _compared(self, side: Any, other: Any, names: Mapping[str, Path], step: int) -> Iterator[Wish]:
        literals = list(_literals(other))
        for path in self._paths(side, names):
            yield from (Wish(path, "near", literal, step) for literal in literals)
            if other == ["null"]:
                yield Wish(path, "there")
        match side:
            case ["call", "size", inner]:
                for path in self._paths(inner, names):
                    yield from (Wish(path, "size", int(lit[1]), step) for lit in literals if lit[0] == "int")
            case ["+" | "-", a, b]:
                yield from (
                    Wish(p, "near", lit) for part in (a, b) for p in self._paths(part, names) for lit in literals
                )

    def _paths(self, expr: Any, names: Mapping[str, Path]) -> Iterator[Path]:
        """The path that an expression is, if it is one."""
        match expr:
            case ["var", str(name)]:
                self.read.setdefault(name)
                yield (name,)
            case ["local", str(name)]:
                if name in names:
                    yield names[name]
            case ["select", inner, str(field)]:
                for path in self._paths(inner, names):
                    yield (*path, field)
            case ["index", inner, _]:
                for path in self._paths(inner, names):
                    yield (*path, "*")
            case ["widen", _, inner]:
                yield from self._paths(inner, names)


def _literals(expr: Any) -> Iterator[Any]:
    match expr:
        case [str(kind), *_] if kind in _LITERALS:
            yield expr
        case ["widen", _, inner]:
            yield from _literals(inner)
        case ["list", *items]:
            for item in items:
                yield from _literals(item)
        case ["neg", [str(kind), value]] if kind in _NUMBERS:
            yield [kind, str(-Decimal(str(value)))]
        case ["+" | "-" | "*" as op, a, b]:
            for left in _literals(a):
                for right in _literals(b):
                    if left[0] in _NUMBERS and right[0] in _NUMBERS:
                        kind = left[0] if right[0] == "int" else right[0]
                        x, y = Decimal(str(left[1])), Decimal(str(right[1]))
                        yield [kind, str(x + y if op == "+" else x - y if op == "-" else x * y)]


def wishes_of(expr: d.ExprJson, fns: Mapping[str, d.Fn]) -> tuple[list[Wish], list[str]]:
    """The wishes of an expression, each once, and the variables that it reads."""
    reader = _Reader(fns)
    found: list[Wish] = []
    for wish in reader.wishes(expr, {}):
        if wish not in found:
            found.append(wish)
    return found, list(reader.read)
