"""Functions on text, under the names and rules of CEL's strings extension. Positions count code points from 0."""

from __future__ import annotations

from typing import Any

from jamjet_dsl.kernel.expr.operators import MAX_ITEMS, no_overload
from jamjet_dsl.kernel.scalars import EvalError

_LOWER = {ord(c): ord(c) + 32 for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_UPPER = {ord(c): ord(c) - 32 for c in "abcdefghijklmnopqrstuvwxyz"}
_SPACES = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"


def text_of(name: str, *values: Any) -> None:
    """Refuses arguments that are not text. Raises EvalError no_overload."""
    for value in values:
        if type(value) is not str:
            raise no_overload(f"`{name}`", *values)


def _whole(name: str, *values: Any) -> None:
    for value in values:
        if type(value) is not int:
            raise no_overload(f"`{name}`", *values)


def _position(at: int, high: int) -> None:
    if not 0 <= at <= high:
        raise EvalError("index", f"there is no position {at} in a text of {high}")


def contains(text: str, part: str) -> bool:
    """Whether `part` stands anywhere in the text."""
    text_of("contains", text, part)
    return part in text


def starts_with(text: str, part: str) -> bool:
    """Whether the text starts with `part`."""
    text_of("startsWith", text, part)
    return text.startswith(part)


def ends_with(text: str, part: str) -> bool:
    """Whether the text ends with `part`."""
    text_of("endsWith", text, part)
    return text.endswith(part)


def char_at(text: str, at: int) -> str:
    """The character at a position; empty at the end."""
    text_of("charAt", text)
    _whole("charAt", at)
    _position(at, len(text))
    return text[at : at + 1]


def index_of(text: str, part: str, start: int = 0) -> int:
    """Where `part` first stands, from `start` on; -1 if nowhere."""
    text_of("indexOf", text, part)
    _whole("indexOf", start)
    _position(start, len(text))
    return text.find(part, start)


def last_index_of(text: str, part: str, start: int | None = None) -> int:
    """Where `part` last stands, starting no later than `start`; -1 if nowhere."""
    text_of("lastIndexOf", text, part)
    if start is None:
        return text.rfind(part)
    _whole("lastIndexOf", start)
    _position(start, len(text))
    return text.rfind(part, 0, start + len(part))


def join(parts: list[str], between: str = "") -> str:
    """The texts of a list in a row, with `between` between them."""
    if type(parts) is not list:
        raise no_overload("`join`", parts)
    text_of("join", between, *parts)
    if sum(map(len, parts)) + len(between) * len(parts) > MAX_ITEMS:
        raise EvalError("limit", f"the result is longer than {MAX_ITEMS:,}")
    return between.join(parts)


def lower_ascii(text: str) -> str:
    """With the letters A to Z made small."""
    text_of("lowerAscii", text)
    return text.translate(_LOWER)


def upper_ascii(text: str) -> str:
    """With the letters a to z made capital."""
    text_of("upperAscii", text)
    return text.translate(_UPPER)


def replace(text: str, old: str, new: str, times: int = -1) -> str:
    """With `old` replaced by `new`, the first `times` times; a negative number means everywhere."""
    text_of("replace", text, old, new)
    _whole("replace", times)
    found = text.count(old) if times < 0 else min(times, text.count(old))
    if len(text) + found * (len(new) - len(old)) > MAX_ITEMS:
        raise EvalError("limit", f"the result is longer than {MAX_ITEMS:,}")
    return text.replace(old, new, times if times >= 0 else -1)


def reverse(value: str | list[Any]) -> str | list[Any]:
    """A text or a list from its end."""
    if type(value) not in (str, list):
        raise no_overload("`reverse`", value)
    return value[::-1]


def split(text: str, between: str, pieces: int = -1) -> list[str]:
    """The pieces of the text between the places where `between` stands; at most `pieces` of them."""
    text_of("split", text, between)
    _whole("split", pieces)
    if pieces == 0:
        return []
    if between:
        return text.split(between, pieces - 1 if pieces > 0 else -1)
    if 0 < pieces < len(text):
        return [*text[: pieces - 1], text[pieces - 1 :]]
    return list(text)


def substring(text: str, start: int, end: int | None = None) -> str:
    """From `start` up to but not including `end`."""
    text_of("substring", text)
    stop = len(text) if end is None else end
    _whole("substring", start, stop)
    _position(start, len(text))
    _position(stop, len(text))
    if start > stop:
        raise EvalError("index", f"position {start} comes after {stop}")
    return text[start:stop]


def trim(text: str) -> str:
    """Without white space at either end."""
    text_of("trim", text)
    return text.strip(_SPACES)
