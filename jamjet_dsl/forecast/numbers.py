"""Numbers as people write them: chances, shares, times."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.forecast.assumed import Times

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_LONGEST_MS = 3_650 * _UNITS["d"]


def share(value: object, where: str) -> float:
    """A part among others: any number that is not negative. Raises JamError JAMR006."""
    try:
        found = float(str(value))
    except ValueError:
        found = math.nan
    if isinstance(value, bool) or not (math.isfinite(found) and found >= 0.0):
        raise JamError("JAMR006", f"{where}: `{value}` is no share", "write a number, 0 or more")
    return found


def percent(value: object, where: str) -> float:
    """`99%`, or a number from 0 to 1. Raises JamError JAMR006."""
    help = "write a percentage such as 99%, or a number from 0 to 1"
    text = str(value).strip()
    try:
        number = Fraction(text.removesuffix("%").strip()) / (100 if text.endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        raise JamError("JAMR006", f"{where}: `{value}` is no chance", help) from None
    if not 0 <= number <= 1:
        raise JamError("JAMR006", f"{where}: {value} is not between 0 and 100 %", help)
    return float(number)


def times(value: object, where: str) -> Times:
    """`2s`, or several with their odds: `1s@90%,10s@10%`; in a table also `[["1s", "90%"], ["10s", "10%"]]`. Raises
    JamError JAMR006."""
    rows: list[tuple[Any, Any]]
    if isinstance(value, list):
        if not all(isinstance(row, list) and len(row) == 2 for row in value) or not value:
            raise JamError("JAMR006", f"{where}: these are no pairs", 'write [["1s", "90%"], ["10s", "10%"]]')
        rows = [(row[0], row[1]) for row in value]
    else:
        parts = [part.partition("@") for part in str(value).split(",")]
        rows = [(text, chance if at else "100%") for text, at, chance in parts]
    found = tuple((percent(chance, where), duration_ms(text, where)) for text, chance in rows)
    if abs(math.fsum(chance for chance, _ in found) - 1.0) > 1e-9:
        raise JamError("JAMR006", f"{where}: the odds do not add up to 100 %", "write 1s@90%,10s@10%")
    return found


def duration_ms(text: object, where: str) -> int:
    """`2s`, `1h30m`, `250ms`, in milliseconds. Raises JamError JAMR006."""
    plain = str(text).strip()
    parts = _PART.findall(plain)
    if not parts or "".join(number + unit for number, unit in parts) != plain:
        if plain == "0":
            return 0
        raise JamError("JAMR006", f"{where}: `{text}` is no duration", "write one such as 250ms, 2s, 1h30m or 2d")
    ms = sum(Fraction(number) * _UNITS[unit] for number, unit in parts)
    if ms > _LONGEST_MS:
        raise JamError("JAMR006", f"{where}: {text} is more than ten years", "write a shorter one")
    return round(ms)
