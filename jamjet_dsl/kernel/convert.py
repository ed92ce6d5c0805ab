"""Public JSON: what users, tools and models send and get, read against a declared type.

Reading reports every problem at once, each with its path (`app.amount: expected money like "1.50 USD",
found "x"`). It also takes what Python tools return: pydantic models, dataclasses, enums, decimals, datetimes,
timedeltas, tuples and sets, recognised by shape so that nothing has to be imported.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.foreign import INVALID, SCALARS, WORDS, is_number, number_of, python_value, zone_hint
from jamjet_dsl.kernel.quick import MISS, reader_of
from jamjet_dsl.kernel.scalars import (
    INT_MAX,
    INT_MIN,
    Duration,
    EvalError,
    Money,
    Timestamp,
    TypeValue,
    UInt,
    Value,
    of_key,
    parse_money,
    to_key,
)

if TYPE_CHECKING:
    from jamjet_dsl import definition as d

MAX_BYTES = 16 * 1024 * 1024
"""The largest value that is taken in, counted as text and eight bytes for everything else."""
MAX_DEPTH = 100
"""How deep lists and objects may be nested in a value that is taken in."""
MAX_PROBLEMS = 100
"""More problems than this are counted, not listed."""


class _Stop(Exception):
    """The value is too large to go on reading."""


def loads_public(text: str | bytes, code: str = "JAMR301", what: str = "the input") -> Any:
    """Parses JSON from outside: numbers with a fraction become Decimal, so that money stays exact.

    Raises JamError JAMR003 for more than `MAX_BYTES`, and `code` for text that is not JSON, has a key twice, or
    is nested too deep.
    """
    if len(text) > MAX_BYTES:
        raise JamError("JAMR003", f"{what} has {len(text):,} bytes; the limit is {MAX_BYTES:,}")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f'the key "{twice}" is given twice')
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(text, parse_float=Decimal, parse_constant=constant, object_pairs_hook=pairs)
    except RecursionError:
        raise JamError(code, f"{what} is nested too deep", "flatten it") from None
    except (ValueError, ArithmeticError) as problem:
        help = "pass one JSON value, with names in double quotes"
        raise JamError(code, f"{what} is not JSON: {problem}", help) from None


def from_public(data: object, type: d.Type, defn: d.Definition, path: str, problems: list[str]) -> Value:
    """Reads `data` (parsed JSON or Python objects) as a value of `type`, whose records and enums are in `defn`.

    Appends every problem to `problems` as `path: text`; the result is meaningful only if there is none.
    Never raises for bad data. A secret is never quoted in a problem.
    """
    value = reader_of(type, defn)(data)
    if value is not MISS:
        found: Value = value
        return found
    reader = _Reader(defn, problems)
    try:
        value = reader.read(data, type, path, 0)
    except _Stop:
        return None
    if reader.unlisted:
        problems.append(f"{path}: and {reader.unlisted} more problems")
    return value if reader.good else None


def read_any(data: object, path: str, problems: list[str]) -> Value:
    """Reads `data` as what its own shape says, as for the type `any`: numbers with a fraction are floats."""
    reader = _Reader(None, problems)
    try:
        value = reader.free(data, path, 0)
    except _Stop:
        return None
    return value if reader.good else None


class _Reader:
    """Reads one value. Without a definition there are no records and no enums."""

    def __init__(self, defn: d.Definition | None, problems: list[str]) -> None:
        self.records: Mapping[str, d.Record] = defn.records if defn is not None else {}
        self.enums: Mapping[str, d.Enum] = defn.enums if defn is not None else {}
        self.problems = problems
        self.good = True
        self.unlisted = 0
        self.size = 0
        self.hidden = 0

    def problem(self, path: str, text: str) -> object:
        self.good = False
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"{path}: {text}" if path else text)
        else:
            self.unlisted += 1
        return INVALID

    def expected(self, path: str, what: str, data: object, hint: str = "") -> object:
        return self.problem(path, f"expected {what}" + ("" if self.hidden else f", found {_shown(data)}{hint}"))

    def charge(self, size: int, path: str) -> None:
        self.size += size
        if self.size > MAX_BYTES:
            self.problem(path, f"the value is larger than {MAX_BYTES // 2**20} MiB")
            raise _Stop

    def read(self, data: object, type: Any, path: str, depth: int) -> object:
        """The value of `data` as `type`. After a problem was reported it means nothing: INVALID stands in its place."""
        self.charge(8, path)
        if depth > MAX_DEPTH:
            return self.problem(path, f"nested deeper than {MAX_DEPTH} levels")
        match type.kind:
            case "optional":
                return None if data is None else self.read(data, type.item, path, depth)
            case "secret":
                self.hidden += 1
                value = self.read(data, type.item, path, depth)
                self.hidden -= 1
                return value
            case "record":
                fields = {f.name: f.type for f in self.records[type.name].fields}
                return self.fields(data, fields, path, depth, f"an object ({type.name})")
            case "object":
                return self.fields(data, type.fields, path, depth, "an object")
            case "enum":
                return self.enum(data, type, path)
            case "list":
                return self.list(data, type, path, depth)
            case "map":
                return self.map(data, type, path, depth)
            case "money":
                return self.money(data, type, path)
            case "Move" | "ToolCall":
                return self.proposal(data, type.kind, path, depth)
            case "any" | "conversation" | "file":
                value = self.free(data, path, depth)
                if type.kind == "conversation" and not isinstance(value, list) and value is not INVALID:
                    return self.expected(path, "a list of messages", data)
                return value
            case _:
                return self.scalar(data, type, path)

    def fields(self, data: object, fields: Mapping[str, Any], path: str, depth: int, what: str) -> object:
        data = python_value(data)
        if not isinstance(data, Mapping):
            return self.expected(path, what, data)
        for key in data:
            if key not in fields:
                self.problem(_join(path, str(key)), "there is no such field" + _suggest(str(key), fields))
        value: dict[object, object] = {}
        for name, type in fields.items():
            if name in data:
                value[name] = self.read(data[name], type, _join(path, name), depth + 1)
            elif _is_optional(type):
                value[name] = None
            else:
                self.problem(_join(path, name), f"missing: expected {self.describe(type)}")
        return value

    def list(self, data: object, type: d.ListType, path: str, depth: int) -> object:
        data = python_value(data)
        if not isinstance(data, list):
            return self.expected(path, "a list", data)
        if (type.low is not None and len(data) < type.low) or (type.high is not None and len(data) > type.high):
            return self.problem(path, f"expected {_range(type.low, type.high)} items, found {len(data)}")
        return [self.read(item, type.item, f"{path}[{at}]", depth + 1) for at, item in enumerate(data)]

    def map(self, data: object, type: d.MapType, path: str, depth: int) -> object:
        data = python_value(data)
        if not isinstance(data, Mapping):
            return self.expected(path, "an object", data)
        found: dict[object, object] = {}
        for key, item in data.items():
            place = f"{path}[…]" if self.hidden else f"{path}[{_shown(key)}]"
            value = self.read(item, type.value, place, depth + 1)
            found[to_key(self.key(key, type.key, place))] = value
        return found

    def key(self, key: object, type: Any, path: str) -> object:
        """JSON has only text as keys; other keys are read from their text."""
        if isinstance(key, str) and type.kind in ("int", "uint", "bool"):
            with contextlib.suppress(ValueError):
                key = json.loads(key) if len(key) <= 20 else key
        return self.read(key, type, path, 0)

    def enum(self, data: object, type: d.EnumType, path: str) -> object:
        members = self.enums[type.name].members
        name = getattr(data, "name", None)
        value = python_value(data)
        if isinstance(value, str) and value in members:
            return value
        if isinstance(name, str) and name in members:
            return name  # a Python enum whose names, not values, are the members
        near = _suggest(value, members) if isinstance(value, str) and not self.hidden else ""
        return self.expected(path, f"one of {', '.join(members)}", data, near)

    def money(self, data: object, type: d.MoneyType, path: str) -> object:
        data = python_value(data)
        what = self.describe(type)
        try:
            if isinstance(data, Money):
                money = data
            elif isinstance(data, str):
                money = parse_money(data, type.currency)
            elif isinstance(data, (int, float, Decimal)) and not isinstance(data, bool):
                money = parse_money(str(Decimal(str(data)).__format__("f")), type.currency)
            elif isinstance(data, Mapping) and set(data) == {"amount", "currency"}:
                money = parse_money(f"{data['amount']} {data['currency']}")
            else:
                return self.expected(path, what, data)
        except (EvalError, ArithmeticError):
            return self.expected(path, what, data)
        if type.currency is not None and money.currency != type.currency:
            return self.expected(path, f"money in {type.currency}", data)
        low = parse_money(type.low, type.currency) if type.low else None
        high = parse_money(type.high, type.currency) if type.high else None
        if (low and money.amount < low.amount) or (high and money.amount > high.amount):
            return self.expected(path, f"money in {_range(low, high)}", data)
        return money

    def scalar(self, data: object, type: d.Scalar, path: str) -> object:
        data = python_value(data)
        value = SCALARS[type.kind](data)
        if value is INVALID:
            hint = ""
            if type.kind == "timestamp" and isinstance(data, str):
                hint = zone_hint(data)
            return self.expected(path, WORDS[type.kind] + hint, data)
        if isinstance(value, str):
            self.charge(len(value), path)
            if not value.isascii() and _has_surrogate(value):
                return self.problem(path, "the text holds half of a surrogate pair, which is no character")
        elif isinstance(value, bytes):
            self.charge(len(value), path)
        if (type.low is not None and number_of(value) < number_of(type.low)) or (
            type.high is not None and number_of(value) > number_of(type.high)
        ):
            return self.expected(path, f"{type.kind} in {_range(type.low, type.high)}", data)
        return value

    def proposal(self, data: object, kind: str, path: str, depth: int) -> object:
        """A `Move` or the `ToolCall` in it."""
        data = python_value(data)
        if not isinstance(data, Mapping):
            return self.expected(path, f"an object ({kind})", data)
        names = ("text", "call") if kind == "Move" else ("tool", "args")
        for key in data:
            if key not in names:
                return self.problem(_join(path, str(key)), "there is no such field" + _suggest(str(key), names))
        if kind == "Move":
            call = data.get("call")
            text = data.get("text")
            if text is not None and not isinstance(text, str):
                return self.expected(_join(path, "text"), "text", text)
            read = None if call is None else self.proposal(call, "ToolCall", _join(path, "call"), depth + 1)
            return {"text": text, "call": read}
        if not isinstance(data.get("tool"), str):
            return self.expected(_join(path, "tool"), "the name of a tool", data.get("tool"))
        args = self.free(data.get("args", {}), _join(path, "args"), depth + 1)
        if not isinstance(args, dict):
            # What has a problem within it has been named, and is no problem of its shape.
            return args if args is INVALID else self.expected(_join(path, "args"), "an object", data.get("args"))
        return {"tool": data["tool"], "args": args}

    def free(self, data: object, path: str, depth: int) -> object:
        """A value of type `any`: what its own shape says. Numbers with a fraction are floats, as JSON has them."""
        self.charge(8, path)
        if depth > MAX_DEPTH:
            return self.problem(path, f"nested deeper than {MAX_DEPTH} levels")
        data = python_value(data)
        if data is None or isinstance(data, (bool, UInt, Money, Duration, Timestamp, TypeValue)):
            return data
        if isinstance(data, str):
            self.charge(len(data), path)
            if not data.isascii() and _has_surrogate(data):
                return self.problem(path, "the text holds half of a surrogate pair, which is no character")
            return data
        if isinstance(data, int):
            return int(data) if INT_MIN <= data <= INT_MAX else self.expected(path, WORDS["int"], data)
        if isinstance(data, (float, Decimal)):
            return float(data) if is_number(data) else self.expected(path, WORDS["float"], data)
        if isinstance(data, bytes):
            self.charge(len(data), path)
            return data
        if isinstance(data, list):
            return [self.free(item, f"{path}[{at}]", depth + 1) for at, item in enumerate(data)]
        if isinstance(data, Mapping):
            found = {str(k): self.free(v, _join(path, str(k)), depth + 1) for k, v in data.items()}
            self.charge(sum(map(len, found)), path)
            return found
        return self.expected(path, "a value that JSON can say", data)

    def describe(self, type: Any) -> str:
        """A type in words, for a message."""
        match type.kind:
            case "secret" | "optional":
                return self.describe(type.item)
            case "record" | "enum":
                return str(type.name)
            case "money":
                code = type.currency or "USD"
                return f'money like "1.50 {code}"'
            case "list" | "map" | "object" | "conversation" | "Move" | "ToolCall" | "file":
                return {"list": "a list", "conversation": "a list of messages"}.get(type.kind, "an object")
            case kind:
                return WORDS.get(str(kind), str(kind))


# ---- texts


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_optional(type: Any) -> bool:
    return type.kind == "optional" or (type.kind == "secret" and _is_optional(type.item))


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _range(low: object, high: object) -> str:
    if high is None:
        return f"at least {low}"
    if low is None:
        return f"at most {high}"
    return f"{low}..{high}"


def _suggest(word: str, known: Any) -> str:
    """` (did you mean x?)` where a known name differs only in case or in two letters, else nothing."""
    import difflib

    folded = {k.lower(): k for k in known}
    near = difflib.get_close_matches(word.lower()[:50], list(folded), 1, 0.7)
    return f" (did you mean {folded[near[0]]}?)" if near else ""


def _shown(data: object) -> str:
    """What was found, short, as JSON where it is JSON."""
    if isinstance(data, str):
        return json.dumps(data if len(data) <= 40 else data[:37] + "…", ensure_ascii=False)
    if data is None or isinstance(data, (bool, int, float, Decimal, Money, Duration, Timestamp)):
        text = {True: "true", False: "false"}[data] if isinstance(data, bool) else "null" if data is None else str(data)
        return text if len(text) <= 40 else text[:37] + "…"
    if isinstance(data, Mapping):
        return "an object"
    if isinstance(data, list):
        return "a list"
    return f"a Python `{type(data).__name__}`"


def to_public(value: Value) -> Any:
    """The plain JSON form of a value, for people, tools and models: money `"1.50 USD"`, decimals, durations and
    timestamps as text, bytes as base64, keys as text. Lossy where JSON is; `to_journal` is not."""
    match value:
        case None | bool():
            return value
        case str() | int():
            return str(value) if isinstance(value, str) else int(value)
        case float():
            return value if math.isfinite(value) else "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
        case list() | tuple():
            return [to_public(item) for item in value]
        case dict():
            return {_key_text(key): to_public(item) for key, item in value.items()}
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case Decimal():
            return format(value, "f")
        case Money() | Duration() | Timestamp() | TypeValue():
            return str(value)
    raise TypeError(f"{type(value).__name__} is not a run-time value")


def _key_text(key: object) -> str:
    key = of_key(key)
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(int(key)) if isinstance(key, UInt) else str(key)
