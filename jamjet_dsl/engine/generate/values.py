"""Values for runs that are to go every way: often a constant of the program or its neighbour, since guards turn there.

All values are public JSON, as tools, models and people say them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.engine.samples import Samples
from jamjet_dsl.engine.virtual import START_MS
from jamjet_dsl.money import money_text

_TEXTS = ("", "a", "b")
_STEPS = {"int": Decimal(1), "uint": Decimal(1), "decimal": Decimal("0.01"), "float": Decimal("0.5")}
_MOST_ITEMS = 12
"""Longer lists are drawn only where a type asks for them."""


class Constants:
    """The literals of a program, by kind, each once and in order."""

    def __init__(self, definition: d.Definition) -> None:
        self.by_kind: dict[str, list[Any]] = {}
        self._gather(definition.model_dump(mode="json", exclude_defaults=True))

    def _gather(self, part: Any) -> None:
        if isinstance(part, Mapping):
            for item in part.values():
                self._gather(item)
        elif isinstance(part, list | tuple):
            match part:
                case ["int" | "uint" | "float" | "decimal" | "money" | "duration" | "string" as kind, value]:
                    known = self.by_kind.setdefault("int" if kind == "uint" else str(kind), [])
                    if value not in known:
                        known.append(value)
                case _:
                    for item in part:
                        self._gather(item)

    def numbers(self) -> list[Decimal]:
        """All numbers without a unit."""
        found = [Decimal(str(v)) for kind in ("int", "decimal", "float") for v in self.by_kind.get(kind, ())]
        return list(dict.fromkeys(found))


class Values(Samples):
    """Draws values of types, and changes them a little."""

    def __init__(self, definition: d.Definition, chance: random.Random) -> None:
        super().__init__(definition, chance)
        self._constants = Constants(definition)

    def value(self, type_: d.Type | None, depth: int = 0) -> Any:
        """A value that fits the type, within its range."""
        match type_:
            case d.MoneyType():
                return self._money(type_)
            case d.ListType():
                low = type_.low or 0
                sizes = [low, low + 1, low + 1, low + 2, *self._sizes()] if depth < 3 else [low]
                high = _MOST_ITEMS if type_.high is None else type_.high
                fit = [size for size in sizes if low <= size <= high] or [low]
                return [self.value(type_.item, depth + 1) for _ in range(self._chance.choice(fit))]
            case d.Scalar(kind="int" | "uint" | "decimal" | "float"):
                return self._number_of(type_)
            case d.Scalar(kind="string"):
                return self._chance.choice([*_TEXTS, *self._constants.by_kind.get("string", ()) * 2])
            case d.Scalar(kind="duration"):
                return f"{self._chance.choice(self._durations())}s"
            case d.Scalar(kind="timestamp"):
                return stamp(START_MS // 1000 + self._chance.choice((-1, 1)) * self._chance.choice(self._durations()))
            case d.Scalar(kind="any"):
                return self._chance.choice([None, 1, "text", [], {"a": 1}])
        return super().value(type_, depth)

    def _sizes(self) -> list[int]:
        whole = [int(n) + by for n in self._constants.by_kind.get("int", ()) for by in (0, 1)]
        return [n for n in whole if n <= _MOST_ITEMS]

    def _durations(self) -> list[int]:
        """Whole seconds: small ones, and those of the program with their neighbours."""
        known = [int(ms) // 1000 + by for ms in self._constants.by_kind.get("duration", ()) for by in (-1, 0, 1)]
        return [0, 1, 60, *(s for s in known if s >= 0)]

    def _number_of(self, type_: d.Scalar) -> Any:
        step = _STEPS[type_.kind]
        some = [Decimal(n) for n in (0, 1, 2, 10)]
        known = [n + by for n in self._constants.numbers() for by in (-step, Decimal(0), step)]
        least = Decimal(0) if type_.kind == "uint" and type_.low is None else _bound(type_.low)
        fit = within(some + known + known, least, _bound(type_.high))
        return plain_number(self._chance.choice(fit) if fit else Decimal(str(super()._scalar(type_))), type_.kind)

    def _money(self, type_: d.MoneyType) -> str:
        currency = type_.currency or "USD"
        cent = Decimal("0.01")
        known = [Decimal(str(m).split(" ")[0]) for m in self._constants.by_kind.get("money", ())]
        near = [m + by for m in known for by in (-cent, Decimal(0), cent)]
        fit = within([Decimal(0), Decimal(1), Decimal(10), *near, *near], _bound(type_.low), _bound(type_.high))
        amount = self._chance.choice(fit) if fit else (_bound(type_.low) or _bound(type_.high) or Decimal(0))
        return money_text(amount, currency)

    def of_size(self, type_: d.ListType | d.MapType, value: Any, size: int) -> Any:
        """A list or a map with about that many items, those of the value first."""
        if isinstance(type_, d.MapType):
            known = dict(value) if isinstance(value, dict) else {}
            numbers = isinstance(type_.key, d.Scalar) and type_.key.kind in ("int", "uint")
            for n in range(size):
                known.setdefault(str(n) if numbers else f"k{n}", self.value(type_.value))
            return dict(list(known.items())[:size])
        size = max(type_.low or 0, size if type_.high is None else min(size, type_.high))
        items = list(value) if isinstance(value, list) else []
        return (items + [self.value(type_.item) for _ in range(size)])[:size]

    # ---- a change

    def changed(self, type_: d.Type | None, value: Any) -> Any:
        """The value with one part of it drawn anew."""
        chance = self._chance
        match type_:
            case d.OptionalType():
                return self.value(type_) if value is None or chance.random() < 0.2 else self.changed(type_.item, value)
            case d.SecretType():
                return self.changed(type_.item, value)
            case d.RecordType() | d.ObjectType() if isinstance(value, dict):
                fields = fields_of(self._definition, type_)
                if not fields:
                    return value
                name = chance.choice(list(fields))
                return {**value, name: self.changed(fields[name], value.get(name))}
            case d.ListType() if isinstance(value, list):
                return self._list(type_, value)
        return self.value(type_)

    def _list(self, type_: d.ListType, value: list[Any]) -> list[Any]:
        ways: list[Callable[[], list[Any]]] = [lambda: self.value(type_)]
        at = self._chance.randrange(len(value)) if value else 0
        if value:
            ways += [lambda: [*value[:at], self.changed(type_.item, value[at]), *value[at + 1 :]]] * 2
            if len(value) > (type_.low or 0):
                ways.append(lambda: [*value[:at], *value[at + 1 :]])
        if len(value) < (_MOST_ITEMS if type_.high is None else type_.high):
            ways.append(lambda: [*value, self.value(type_.item, 1)])
        return self._chance.choice(ways)()


def fields_of(definition: d.Definition, type_: d.Type | None) -> dict[str, d.Type]:
    """The fields of a record or of an anonymous one; none of anything else."""
    match type_:
        case d.RecordType():
            return {f.name: f.type for f in definition.records[type_.name].fields}
        case d.ObjectType():
            return dict(type_.fields)
        case d.OptionalType() | d.SecretType():
            return fields_of(definition, type_.item)
    return {}


def simpler(definition: d.Definition, type_: d.Type | None, value: Any) -> Iterator[Any]:
    """Values of the type that a reader has less to look at, the simplest first; each differs in one part."""
    match type_:
        case d.OptionalType():
            if value is not None:
                yield None
                yield from simpler(definition, type_.item, value)
        case d.SecretType():
            yield from simpler(definition, type_.item, value)
        case d.RecordType() | d.ObjectType() if isinstance(value, dict):
            for name, field in fields_of(definition, type_).items():
                for part in simpler(definition, field, value.get(name)):
                    yield {**value, name: part}
        case d.ListType() if isinstance(value, list):
            low = type_.low or 0
            if len(value) > low:
                yield value[:low]
                for at in range(len(value)):
                    yield [*value[:at], *value[at + 1 :]]
            for at, item in enumerate(value):
                for part in simpler(definition, type_.item, item):
                    yield [*value[:at], part, *value[at + 1 :]]
        case d.MapType() if value:
            yield {}
        case d.Scalar(kind="any"):
            if value is not None:
                yield None
        case _:
            plain = _plainest(definition, type_)
            if plain is not None and plain != value:
                yield plain


def _plainest(definition: d.Definition, type_: d.Type | None) -> Any:
    match type_:
        case d.EnumType():
            return definition.enums[type_.name].members[0]
        case d.MoneyType():
            fit = within([Decimal(0)], _bound(type_.low), _bound(type_.high))
            return money_text(fit[0], type_.currency or "USD") if fit else None
        case d.Scalar(kind="bool"):
            return False
        case d.Scalar(kind="string" | "bytes"):
            return ""
        case d.Scalar(kind="timestamp"):
            return stamp(START_MS // 1000)
        case d.Scalar(kind="duration"):
            return "0s"
        case d.Scalar(kind="int" | "uint" | "decimal" | "float"):
            fit = within([Decimal(0)], _bound(type_.low), _bound(type_.high))
            return plain_number(fit[0], type_.kind) if fit else None
    return None


def within(numbers: list[Decimal], low: Decimal | None, high: Decimal | None) -> list[Decimal]:
    """Those in a range; the ends of the range too, where there are some."""
    ends = [end for end in (low, high) if end is not None]
    return [n for n in numbers + ends if (low is None or n >= low) and (high is None or n <= high)]


def plain_number(number: Decimal, kind: str) -> Any:
    """A number as public JSON has it: decimals are texts."""
    if kind in ("int", "uint"):
        return int(number)
    return float(number) if kind == "float" else format(number, "f")


def stamp(seconds: int) -> str:
    """A time as public JSON has it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _bound(end: int | float | str | None) -> Decimal | None:
    return None if end is None else Decimal(str(end).split(" ")[0])
