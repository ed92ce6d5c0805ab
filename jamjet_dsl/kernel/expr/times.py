"""Parts of timestamps, in UTC or another zone, and of durations."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jamjet_dsl.kernel.expr.operators import no_overload
from jamjet_dsl.kernel.scalars import NS, Duration, EvalError, Timestamp, offset_seconds

if TYPE_CHECKING:
    import datetime

_OFFSET = re.compile(r"[+-]?\d\d:\d\d", re.ASCII)


def _local(value: Timestamp, zone: str) -> datetime.datetime:
    """The wall clock of a zone: an offset, or a name of the IANA database."""
    import datetime

    utc = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=value.ns // NS)
    try:
        if zone in ("", "UTC"):
            return utc
        if _OFFSET.fullmatch(zone):
            seconds = offset_seconds(zone if zone[0] in "+-" else "+" + zone)
            return utc + datetime.timedelta(seconds=seconds)
        import zoneinfo

        return utc.replace(tzinfo=datetime.UTC).astimezone(zoneinfo.ZoneInfo(zone))
    except (KeyError, ValueError, OSError, OverflowError):
        raise EvalError("bad_argument", f"`{zone:.40}` is not a time zone") from None


def _getter(name: str, part: Callable[[datetime.datetime], int], unit_ns: int = 0) -> Callable[..., int]:
    """A method of timestamps that takes a zone and, with `unit_ns`, of durations: the whole units in it."""

    def get(value: Any, zone: Any = "UTC") -> int:
        if type(value) is Duration and unit_ns and zone == "UTC":
            whole = abs(value.ns) // unit_ns
            return -whole if value.ns < 0 else whole
        if type(value) is not Timestamp or type(zone) is not str:
            raise no_overload(f"`{name}`", value)
        return part(_local(value, zone))

    return get


def _milliseconds(value: Any, zone: Any = "UTC") -> int:
    """The milliseconds within the second, of a timestamp and (as CEL has it) of a duration too."""
    if type(value) is Duration and zone == "UTC":
        part = abs(value.ns) % NS // 1_000_000
        return -part if value.ns < 0 else part
    if type(value) is not Timestamp or type(zone) is not str:
        raise no_overload("`getMilliseconds`", value)
    _local(value, zone)
    return value.ns % NS // 1_000_000


TIMES: dict[str, Callable[..., int]] = {
    "getFullYear": _getter("getFullYear", lambda t: t.year),
    "getMonth": _getter("getMonth", lambda t: t.month - 1),
    "getDate": _getter("getDate", lambda t: t.day),
    "getDayOfMonth": _getter("getDayOfMonth", lambda t: t.day - 1),
    "getDayOfWeek": _getter("getDayOfWeek", lambda t: t.isoweekday() % 7),
    "getDayOfYear": _getter("getDayOfYear", lambda t: t.timetuple().tm_yday - 1),
    "getHours": _getter("getHours", lambda t: t.hour, 3600 * NS),
    "getMinutes": _getter("getMinutes", lambda t: t.minute, 60 * NS),
    "getSeconds": _getter("getSeconds", lambda t: t.second, NS),
    "getMilliseconds": _milliseconds,
}
