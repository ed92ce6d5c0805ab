"""Values that are already what their type says, read without looking for problems.

Nearly all that a run reads against a type fits it exactly: the result of a tool as plain Python data, an argument that
was computed from variables. A *quick reader* is a closure made once for a type; it gives the same value as
`convert.from_public` would, in containers of its own, or `MISS` for whatever it does not know, which is then read with
all care. It never decides that a value is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from jamjet_dsl.definition import MAX_SAFE_INT
from jamjet_dsl.kernel.scalars import INT_MAX, INT_MIN, Duration, Money, Timestamp

if TYPE_CHECKING:
    from jamjet_dsl import definition as d

Quick = Callable[[Any], Any]

MISS = object()
"""What a quick reader gives for a value that it does not know."""

TEXT = 4096
ITEMS = 256
"""Longer text and longer lists are read with care, so that what is read quickly has a limit known beforehand."""
LARGEST = 8 * 1024 * 1024
"""No type whose values could be larger than this is read quickly: `convert.MAX_BYTES` counts them otherwise."""


class Shelf:
    """The quick readers of one definition's types."""

    def __init__(self, defn: d.Definition) -> None:
        self.defn = defn
        self._readers: dict[tuple[int, bool], tuple[Any, Quick]] = {}

    def reader(self, type: Any, plain: bool) -> Quick:
        """The reader of a type. The type is kept with it, so its identity is a safe key."""
        known = self._readers.get((id(type), plain))
        if known is None:
            if len(self._readers) >= _MOST_TYPES:
                self._readers.clear()
            made = _Maker(self.defn, plain).made(type, ())
            known = self._readers[id(type), plain] = (type, made.read if made is not None else _never)
        return known[1]


_MOST_TYPES = 1000
"""Types that are made for one reading would otherwise pile up."""
_MOST_SHELVES = 32
_SHELVES: dict[int, Shelf] = {}


def reader_of(type: Any, defn: d.Definition, plain: bool = False) -> Quick:
    """The quick reader of a type whose records and enums are in `defn`. Those of recent definitions are kept. One that
    is `plain` knows only values that are their own journal form."""
    shelf = _SHELVES.get(id(defn))
    if shelf is None:
        if len(_SHELVES) >= _MOST_SHELVES:
            del _SHELVES[next(iter(_SHELVES))]
        shelf = _SHELVES[id(defn)] = Shelf(defn)
    return shelf.reader(type, plain)


def _never(data: Any) -> Any:
    return MISS


class Made(NamedTuple):
    """A reader, and the most bytes that its values count for. `test` says of a scalar, as Python text about `{v}`,
    whether it is one that is taken as it is."""

    read: Quick
    size: int
    test: str = ""


class _Maker:
    def __init__(self, defn: d.Definition, plain: bool) -> None:
        self.defn = defn
        self.plain = plain

    def made(self, type: Any, around: tuple[str, ...]) -> Made | None:
        """The reader of a type, or None for one that is not read quickly. `around` are the records that this type
        stands in: one that holds itself has no limit known beforehand."""
        match type.kind:
            case "optional":
                made = self.made(type.item, around)
                return None if made is None else Made(_optional(made.read), made.size + 8)
            case "list":
                made = self.made(type.item, around)
                if made is None or made.size * ITEMS + 8 > LARGEST:
                    return None
                high = ITEMS if type.high is None else min(type.high, ITEMS)
                return Made(_list(made.read, type.low or 0, high), made.size * ITEMS + 8)
            case "record" if type.name not in around and type.name in self.defn.records:
                return self._record(type.name, around)
            case "enum" if type.name in self.defn.enums:
                return Made(_enum(frozenset(self.defn.enums[type.name].members)), 8)
            case "money" if type.low is None and type.high is None and not self.plain:
                return Made(_money(type.currency), 8)
            case _:
                return self._scalar(type)

    def _record(self, name: str, around: tuple[str, ...]) -> Made | None:
        fields = {f.name: self.made(f.type, (*around, name)) for f in self.defn.records[name].fields}
        found = {name: made for name, made in fields.items() if made is not None}
        size = sum(made.size for made in found.values()) + 8
        if len(found) < len(fields) or size > LARGEST:
            return None
        return Made(_record(found), size)

    def _scalar(self, type: Any) -> Made | None:
        bounds = getattr(type, "low", None), getattr(type, "high", None)
        if type.kind == "int":
            least, most = (-MAX_SAFE_INT, MAX_SAFE_INT) if self.plain else (INT_MIN, INT_MAX)
            if not all(bound is None or isinstance(bound, int) for bound in bounds):
                return None
            low = least if bounds[0] is None else max(bounds[0], least)
            high = most if bounds[1] is None else min(bounds[1], most)
            return _tested(f"type({{v}}) is int and {low} <= {{v}} <= {high}", 8)
        test = (_PLAIN_TESTS if self.plain else _TESTS).get(type.kind)
        return (
            None
            if test is None or bounds != (None, None)
            else _tested(test, 8 + (TEXT if type.kind == "string" else 0))
        )


_PLAIN_TESTS = {
    "string": f"type({{v}}) is str and len({{v}}) <= {TEXT} and {{v}}.isascii()",
    "bool": "type({v}) is bool",
    "float": "type({v}) is float and isfinite({v})",
    "null": "{v} is None",
}
_TESTS = {
    **_PLAIN_TESTS,
    "float": "type({v}) is float and {v} == {v}",
    "duration": "type({v}) is Duration",
    "timestamp": "type({v}) is Timestamp",
}
_NAMES = {"Duration": Duration, "Timestamp": Timestamp, "MISS": MISS, "isfinite": math.isfinite}


def _function(lines: list[str], names: dict[str, Any]) -> Quick:
    """The function `read(data)` of these lines. A loop over fields and closures takes three times as long."""
    space: dict[str, Any] = {**_NAMES, **names}
    exec("\n".join(["def read(data):", *(f" {line}" for line in lines)]), space)
    made: Quick = space["read"]
    return made


def _tested(test: str, size: int) -> Made:
    return Made(_function([f"return data if {test.format(v='data')} else MISS"], {}), size, test)


def _enum(members: frozenset[str]) -> Quick:
    return lambda data: data if type(data) is str and data in members else MISS


def _money(currency: str | None) -> Quick:
    def read(data: Any) -> Any:
        return data if type(data) is Money and currency in (None, data.currency) else MISS

    return read


def _optional(item: Quick) -> Quick:
    return lambda data: None if data is None else item(data)


def _list(item: Quick, low: int, high: int) -> Quick:
    def read(data: Any) -> Any:
        if type(data) is not list or not low <= len(data) <= high:
            return MISS
        made = [item(found) for found in data]
        return MISS if MISS in made else made

    return read


def _record(fields: dict[str, Made]) -> Quick:
    lines = [f"if type(data) is not dict or len(data) != {len(fields)}: return MISS"]
    tests, items = [], []
    names: dict[str, Any] = {}
    lines.append("try:")
    for number, (name, made) in enumerate(fields.items()):
        lines.append(f" v{number} = data[{name!r}]")
        if made.test:
            tests.append(made.test.format(v=f"v{number}"))
        else:
            names[f"r{number}"] = made.read
            items.append(number)
    lines += [" pass", "except KeyError: return MISS"]
    if tests:
        lines.append(f"if not ({' and '.join(tests)}): return MISS")
    for number in items:
        lines += [f"v{number} = r{number}(v{number})", f"if v{number} is MISS: return MISS"]
    lines.append("return {" + ", ".join(f"{name!r}: v{number}" for number, name in enumerate(fields)) + "}")
    return _function(lines, names)
