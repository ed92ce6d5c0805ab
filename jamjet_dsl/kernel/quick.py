"""Values that are already what their type says, read without looking for problems.

Nearly all that a run reads against a type fits it exactly: the result of a tool as plain Python data, an argument that
was computed from variables. A *quick reader* is a closure made once for a type; it gives the same value as
`convert.from_public` would, in containers of its own, or `MISS` for whatever it does not know, which is then read with
all care. It never decides that a value is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
        self._readers: dict[int, tuple[Any, Quick]] = {}

    def reader(self, type: Any) -> Quick:
        """The reader of a type. The type is kept with it, so its identity is a safe key."""
        known = self._readers.get(id(type))
        if known is None:
            if len(self._readers) >= _MOST_TYPES:
                self._readers.clear()
            made = _made(self.defn, type, ())
            known = self._readers[id(type)] = (type, made[0] if made is not None else _never)
        return known[1]


_MOST_TYPES = 1000
"""Types that are made for one reading would otherwise pile up."""
_MOST_SHELVES = 32
_SHELVES: dict[int, Shelf] = {}


def reader_of(type: Any, defn: d.Definition) -> Quick:
    """The quick reader of a type whose records and enums are in `defn`. Those of recent definitions are kept."""
    shelf = _SHELVES.get(id(defn))
    if shelf is None:
        if len(_SHELVES) >= _MOST_SHELVES:
            del _SHELVES[next(iter(_SHELVES))]
        shelf = _SHELVES[id(defn)] = Shelf(defn)
    return shelf.reader(type)


def _never(data: Any) -> Any:
    return MISS


def _made(defn: d.Definition, type: Any, around: tuple[str, ...]) -> tuple[Quick, int] | None:
    """A reader and the most bytes that its values count for, or None for a type that is not read quickly. `around` are
    the records that this type stands in: one that holds itself has no limit known beforehand."""
    match type.kind:
        case "optional":
            made = _made(defn, type.item, around)
            return None if made is None else (_optional(made[0]), made[1] + 8)
        case "list":
            made = _made(defn, type.item, around)
            if made is None or made[1] * ITEMS + 8 > LARGEST:
                return None
            return _list(made[0], type.low or 0, ITEMS if type.high is None else min(type.high, ITEMS)), (
                made[1] * ITEMS + 8
            )
        case "record" if type.name not in around and type.name in defn.records:
            fields = {f.name: _made(defn, f.type, (*around, type.name)) for f in defn.records[type.name].fields}
            found = {name: made for name, made in fields.items() if made is not None}
            size = sum(made[1] for made in found.values()) + 8
            if len(found) < len(fields) or size > LARGEST:
                return None
            return _record(tuple((name, made[0]) for name, made in found.items())), size
        case "enum" if type.name in defn.enums:
            return _enum(frozenset(defn.enums[type.name].members)), 8
        case "money" if type.low is None and type.high is None:
            return _money(type.currency), 8
        case _:
            return _scalar(type)


def _scalar(type: Any) -> tuple[Quick, int] | None:
    bounds = getattr(type, "low", None), getattr(type, "high", None)
    if type.kind == "int":
        low, high = (INT_MIN if bounds[0] is None else bounds[0]), (INT_MAX if bounds[1] is None else bounds[1])
        return (_int(low, high), 8) if isinstance(low, int) and isinstance(high, int) else None
    reader = _SCALARS.get(type.kind)
    return None if reader is None or bounds != (None, None) else (reader, 8 + (TEXT if type.kind == "string" else 0))


def _string(data: Any) -> Any:
    return data if type(data) is str and len(data) <= TEXT and data.isascii() else MISS


def _exactly(kind: type) -> Quick:
    return lambda data: data if type(data) is kind else MISS


_SCALARS: dict[str, Quick] = {
    "string": _string,
    "bool": _exactly(bool),
    "float": _exactly(float),
    "duration": _exactly(Duration),
    "timestamp": _exactly(Timestamp),
    "null": _exactly(type(None)),
}


def _int(low: int, high: int) -> Quick:
    return lambda data: data if type(data) is int and low <= data <= high else MISS


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


def _record(fields: tuple[tuple[str, Quick], ...]) -> Quick:
    count = len(fields)

    def read(data: Any) -> Any:
        if type(data) is not dict or len(data) != count:
            return MISS
        made: dict[str, Any] = {}
        for name, item in fields:
            found = item(data.get(name, MISS))
            if found is MISS:
                return MISS
            made[name] = found
        return made

    return read
