"""Values of declared types, drawn by chance: what tools, models and people may say of which nothing is known but the
type. In public JSON, as they say it themselves."""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from jamjet_dsl.definition import (
    BuiltinType,
    Definition,
    EnumType,
    FieldDef,
    ListType,
    MapType,
    MoneyType,
    ObjectType,
    OptionalType,
    RecordType,
    Scalar,
    SecretType,
    Type,
)

_WORDS = ("", "a", "ok", "no", "Ada Lovelace", "ž 漢 🙂", "line one\nline two", "x" * 300)
_INTS = (0, 1, 2, 3, 7, 10, 100, -1)
_DEEPEST = 4
"""How deep lists are filled: a record may hold a list of itself."""
_NOW_S, _YEAR_S = 1_700_000_000, 31_536_000


class Samples:
    """Draws values of the types of one definition."""

    def __init__(self, definition: Definition, chance: random.Random) -> None:
        self._definition = definition
        self._chance = chance

    def fields(self, fields: Sequence[FieldDef]) -> dict[str, Any]:
        """A value for each field."""
        return {field.name: self.value(field.type) for field in fields}

    def value(self, type_: Type | None, depth: int = 0) -> Any:
        """A value that fits the type, within its range."""
        match type_:
            case None:
                return None
            case OptionalType():
                return None if self._chance.random() < 0.3 else self.value(type_.item, depth)
            case SecretType():
                return self.value(type_.item, depth)
            case RecordType():
                return self._object({f.name: f.type for f in self._definition.records[type_.name].fields}, depth)
            case ObjectType():
                return self._object(type_.fields, depth)
            case EnumType():
                return self._chance.choice(self._definition.enums[type_.name].members)
            case ListType():
                low = type_.low or 0
                high = min(low + 3 if type_.high is None else type_.high, low + 3) if depth < _DEEPEST else low
                return [self.value(type_.item, depth + 1) for _ in range(self._chance.randint(low, high))]
            case MapType():
                size = self._chance.randint(0, 2) if depth < _DEEPEST else 0
                return {str(self.value(type_.key)): self.value(type_.value, depth + 1) for _ in range(size)}
            case MoneyType():
                return f"{self._number(type_.low, type_.high, 2)} {type_.currency or 'USD'}"
            case BuiltinType():
                return [] if type_.kind == "conversation" else {}
            case Scalar():
                return self._scalar(type_)

    def move(self, tools: Sequence[str]) -> dict[str, Any]:
        """What a model proposes that may choose one of these tools, or just speak."""
        if not tools or self._chance.random() < 0.2:
            return {"text": self._chance.choice(_WORDS)}
        name = self._chance.choice(tools)
        return {"call": {"tool": name, "args": self.fields(self._definition.tools[name].params)}}

    def misfit(self, type_: Type | None) -> Any:
        """A value that does not fit; None where every value does."""
        match type_:
            case None | Scalar(kind="any" | "null") | OptionalType(item=Scalar(kind="any")):
                return None
            case Scalar(kind="string" | "bytes"):
                return {"error": "500 Internal Server Error"}
            case RecordType() | ObjectType() | MapType():
                return self._chance.choice(["<html>502 Bad Gateway</html>", [], {"nothing": "of it"}])
            case OptionalType() | SecretType():
                return self.misfit(type_.item)
        return self._chance.choice(["<html>502 Bad Gateway</html>", {"nothing": "of it"}])

    def _object(self, fields: Mapping[str, Type], depth: int) -> dict[str, Any]:
        return {name: self.value(item, depth + 1) for name, item in fields.items()}

    def _scalar(self, type_: Scalar) -> Any:
        chance = self._chance
        match type_.kind:
            case "bool":
                return chance.random() < 0.5
            case "int" | "uint":
                low = type_.low if type_.low is not None else 0 if type_.kind == "uint" else None
                return int(self._number(low, type_.high, 0))
            case "float":
                return float(self._number(type_.low, type_.high, 2))
            case "decimal":
                return str(self._number(type_.low, type_.high, 2))
            case "string":
                return chance.choice(_WORDS)
            case "bytes":
                return base64.b64encode(chance.randbytes(chance.randint(0, 8))).decode()
            case "duration":
                return f"{chance.randint(0, 100_000)}s"
            case "timestamp":
                at = datetime.fromtimestamp(_NOW_S + chance.randint(-_YEAR_S, _YEAR_S), UTC)
                return at.strftime("%Y-%m-%dT%H:%M:%SZ")
            case "any":
                return chance.choice([None, 1, "text", [], {"a": 1}])
            case "null":
                return None

    def _number(self, low: int | float | str | None, high: int | float | str | None, digits: int) -> Decimal:
        """A number in the range, often one of its ends: mistakes live there."""
        step = Decimal(1).scaleb(-digits)
        least = None if low is None else Decimal(str(low).split()[0])
        most = None if high is None else Decimal(str(high).split()[0])
        if least is None and most is None:
            return Decimal(self._chance.choice(_INTS)).quantize(step)
        if least is not None and most is not None:
            ends = self._chance.random() < 0.3
            return self._chance.choice((least, most)) if ends else self._between(least, most, step)
        away = self._chance.choice((0, 1, 10, 1000))
        return least + away if least is not None else (most or Decimal(0)) - away

    def _between(self, least: Decimal, most: Decimal, step: Decimal) -> Decimal:
        return least + step * self._chance.randint(0, int((most - least) / step))
