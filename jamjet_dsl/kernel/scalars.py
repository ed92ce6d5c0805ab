"""Values that JSON has no word for: money, durations, timestamps, unsigned integers, types; and `EvalError`.

Everything else a program computes with is the Python value of the same name: int (64 bits, checked by the
operators), float, str, bool, bytes, None, Decimal, list, dict (records and maps). Values never change.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from typing import TypeAlias

from jamjet_dsl.money import money_text

Value: TypeAlias = object
"""Any run-time value. Operators look at its class; there is nothing static to say about it."""

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
UINT_MAX = 2**64 - 1
NS = 1_000_000_000
TIMESTAMP_MIN_NS = -62_135_596_800 * NS
TIMESTAMP_MAX_NS = 253_402_300_800 * NS - 1
DURATION_MAX_NS = 315_576_000_000 * NS
"""Ten thousand years, the range that CEL gives a duration on both sides of zero."""

EXACT = Context(prec=60, Emin=-99, Emax=99, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])
"""Sums and products of decimals: exact, or refused when a result needs more than 60 digits."""
QUOTIENT = Context(prec=34, rounding=ROUND_HALF_EVEN, Emin=-99, Emax=99, traps=[InvalidOperation, Overflow])
"""Quotients of decimals: 34 significant digits, ties to even, as IEEE 754 decimal128 has them."""


class EvalError(Exception):
    """An expression has no value.

    `reason` is one of no_such_field, unset, no_such_key, index, divide_by_zero, overflow, bad_argument,
    no_overload, unknown_name, currency, limit; `message` says what happened, in lower case.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class UInt(int):
    """An unsigned 64-bit integer. Equal to the int of the same value, as CEL's numeric equality wants it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{int(self)}u"


class TypeValue:
    """What `type(x)` gives, under CEL's name for the type."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeValue) and self.name == other.name

    def __hash__(self) -> int:
        return hash((TypeValue, self.name))

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"TypeValue({self.name})"


class BoolKey:
    """Stands for true or false as the key of a map, since in Python `True` and `1` would be one key."""

    __slots__ = ("value",)

    def __init__(self, value: bool) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoolKey) and self.value == other.value

    def __hash__(self) -> int:
        return hash((BoolKey, self.value))

    def __repr__(self) -> str:
        return f"BoolKey({self.value})"


TRUE_KEY, FALSE_KEY = BoolKey(True), BoolKey(False)


def to_key(value: Value) -> object:
    """The form in which a value is the key of a dict. Raises EvalError for what cannot be a key (lists, maps)."""
    if value is True:
        return TRUE_KEY
    if value is False:
        return FALSE_KEY
    if isinstance(value, (list, dict)):
        raise EvalError("no_such_key", "a list or a map cannot be the key of a map")
    return value


def of_key(key: object) -> Value:
    """The value that a key of a dict stands for."""
    return key.value if type(key) is BoolKey else key


_KEY_RANK = {str: 0, int: 1, UInt: 1, float: 1, Decimal: 1, BoolKey: 2}


def map_keys(items: dict[object, Value]) -> list[Value]:
    """The keys in the order in which a program sees them: sorted, so that a run that was resumed from its
    journal, where keys are sorted, goes the same way as one that was not."""
    if all(type(key) is str for key in items):
        return sorted(items)  # type: ignore[type-var]  # texts only
    keys = sorted(items, key=lambda k: (_KEY_RANK.get(type(k), 3), k.value if type(k) is BoolKey else k))
    return [of_key(key) for key in keys]


class Money:
    """An exact amount in one currency (three capital letters): `Money("12.50 USD")`, `Money(Decimal("12.50"), "USD")`.

    Raises EvalError for a text that is no money, TypeError for an amount that is not exact or has no currency."""

    __slots__ = ("amount", "currency")

    def __init__(self, amount: Decimal | int | str, currency: str = "") -> None:
        if type(amount) is not Decimal or not currency:
            amount, currency = _written(amount, currency)
        self.amount: Decimal = amount
        self.currency = currency

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Money):
            return NotImplemented
        return self.currency == other.currency and self.amount == other.amount

    def __hash__(self) -> int:
        return hash((self.amount, self.currency))

    def _same(self, other: Money) -> Decimal:
        if self.currency != other.currency:
            raise EvalError("currency", f"{self} and {other} are of different currencies")
        return other.amount

    def __lt__(self, other: Money) -> bool:
        return self.amount < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.amount <= self._same(other)

    def __gt__(self, other: Money) -> bool:
        return self.amount > self._same(other)

    def __ge__(self, other: Money) -> bool:
        return self.amount >= self._same(other)

    def __add__(self, other: Money) -> Money:
        return Money(exactly(EXACT.add, self.amount, self._same(other)), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(exactly(EXACT.subtract, self.amount, self._same(other)), self.currency)

    def __neg__(self) -> Money:
        return Money(self.amount.copy_negate(), self.currency)

    def times(self, factor: Decimal) -> Money:
        """The exact product. Raises EvalError when it needs more than 60 digits."""
        return Money(exactly(EXACT.multiply, self.amount, factor), self.currency)

    def __str__(self) -> str:
        return money_text(self.amount, self.currency)

    def __repr__(self) -> str:
        return f"Money({self})"


class _Nanoseconds:
    """A whole number of nanoseconds, ordered within one class."""

    __slots__ = ("ns",)

    def __init__(self, ns: int) -> None:
        self.ns = ns

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.ns == other.ns

    def __hash__(self) -> int:
        return hash((type(self), self.ns))

    def __lt__(self, other: _Nanoseconds) -> bool:
        return self.ns < other.ns

    def __le__(self, other: _Nanoseconds) -> bool:
        return self.ns <= other.ns

    def __gt__(self, other: _Nanoseconds) -> bool:
        return self.ns > other.ns

    def __ge__(self, other: _Nanoseconds) -> bool:
        return self.ns >= other.ns

    @property
    def ms(self) -> int:
        """Whole milliseconds, towards zero for a duration and towards the past for a timestamp."""
        return self.ns // 1_000_000

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


class Duration(_Nanoseconds):
    """A signed span of time."""

    __slots__ = ()

    @classmethod
    def of_ms(cls, ms: int) -> Duration:
        """From whole milliseconds, the form of definitions."""
        return cls(ms * 1_000_000)

    @property
    def ms(self) -> int:
        return self.ns // 1_000_000 if self.ns >= 0 else -(-self.ns // 1_000_000)

    def __str__(self) -> str:
        """`90s`, `1.5s`, `-0.000000001s`: seconds, exact, as CEL and protocol buffers write them."""
        sign = "-" if self.ns < 0 else ""
        seconds, rest = divmod(abs(self.ns), NS)
        fraction = f".{rest:09d}".rstrip("0") if rest else ""
        return f"{sign}{seconds}{fraction}s"


class Timestamp(_Nanoseconds):
    """An instant: nanoseconds since 1970-01-01T00:00:00Z, within the years 1 to 9999."""

    __slots__ = ()

    @classmethod
    def of_ms(cls, ms: int) -> Timestamp:
        """From whole milliseconds since the epoch, the form of events."""
        return cls(ms * 1_000_000)

    def __str__(self) -> str:
        """`2024-05-10T15:52:59.5Z`: RFC 3339 in UTC, without needless zeros."""
        import datetime

        seconds, rest = divmod(self.ns, NS)
        days, second = divmod(seconds, 86_400)
        date = datetime.date.fromordinal(days + 719_163)
        fraction = f".{rest:09d}".rstrip("0") if rest else ""
        return f"{date.isoformat()}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}{fraction}Z"


def exactly(operation: Callable[..., Decimal], *operands: Decimal | str) -> Decimal:
    """Applies an operation of `EXACT`. Raises EvalError overflow where the result would not be exact."""
    try:
        return operation(*operands)
    except (Inexact, Overflow, InvalidOperation):
        raise EvalError("overflow", "a decimal needs more digits than are kept") from None


def readable_ms(ms: int) -> str:
    """Milliseconds in the largest unit that shows them exactly: `90000` is `90s`, `7200000` is `2h`."""
    for size, unit in _UNITS:
        # Two days are 48h to people who wait for an answer; a week is 7d.
        if ms % size == 0 and ms >= (size if unit != "d" else 3 * size):
            return f"{ms // size}{unit}"
    return f"{ms}ms"


_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms"))


def duration(ns: int) -> Duration:
    """A duration within CEL's range. Raises EvalError overflow."""
    if -DURATION_MAX_NS <= ns <= DURATION_MAX_NS:
        return Duration(ns)
    raise EvalError("overflow", "the duration is longer than 10,000 years")


def timestamp(ns: int) -> Timestamp:
    """A timestamp within the years 1 to 9999. Raises EvalError overflow."""
    if TIMESTAMP_MIN_NS <= ns <= TIMESTAMP_MAX_NS:
        return Timestamp(ns)
    raise EvalError("overflow", "the timestamp is outside the years 1 to 9999")


_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
_MONEY = re.compile(r"(-?)(\$?)(\d+(?:\.\d+)?)(?: ([A-Z]{3}))?", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d)", re.ASCII)
_UNIT_NS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 1_000_000, "s": NS}
_UNIT_NS |= {"m": 60 * NS, "h": 3600 * NS, "d": 86_400 * NS}
_TIMESTAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)


def parse_decimal(text: str) -> Decimal:
    """Reads `-1.50` or `2e3`. Raises EvalError bad_argument, or overflow beyond 60 digits."""
    if not _DECIMAL.fullmatch(text):
        raise EvalError("bad_argument", f"{_quoted(text)} is not a decimal number")
    return exactly(EXACT.create_decimal, text)


def _written(amount: object, currency: str) -> tuple[Decimal, str]:
    """Money as people write it in Python."""
    if isinstance(amount, str):
        money = parse_money(f"{amount} {currency}" if currency else amount)
        return money.amount, money.currency
    if currency and isinstance(amount, int | Decimal) and not isinstance(amount, bool):
        return Decimal(amount), currency
    given = f"{amount!r}, {currency!r}" if currency else repr(amount)
    raise TypeError(f'Money({given}): money is exact and has a currency; write Money("12.50 USD")')


def parse_money(text: str, currency: str | None = None) -> Money:
    """Reads `1.50 USD` or `$1.50`; without a currency of its own the text is in `currency`.
    Raises EvalError bad_argument."""
    found = _MONEY.fullmatch(text)
    if found is not None:
        sign, dollar, digits, code = found.groups()
        code = code or ("USD" if dollar else currency)
        if code is not None and not (dollar and code != "USD"):
            return Money(parse_decimal(sign + digits), code)
    raise EvalError("bad_argument", f"{_quoted(text)} is not money like `1.50 USD`")


def parse_duration(text: str, days: bool = False) -> Duration:
    """Reads `1h30m`, `-1.5s`, `90s` and, with `days`, `7d`. What is below a nanosecond is cut off.
    Raises EvalError bad_argument or overflow."""
    body = text[1:] if text[:1] in ("-", "+") else text
    total = at = 0
    while at < len(body) <= 100:
        part = _DURATION_PART.match(body, at)
        if part is None or (part[2] == "d" and not days):
            break
        whole, _, fraction = part[1].partition(".")
        unit = _UNIT_NS[part[2]]
        total += int(whole or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        at = part.end()
    if body == "0":
        return Duration(0)
    if not body or at < len(body):
        raise EvalError("bad_argument", f"{_quoted(text)} is not a duration like `90s` or `1h30m`")
    return duration(-total if text.startswith("-") else total)


def parse_timestamp(text: str) -> Timestamp:
    """Reads RFC 3339 with a zone. Raises EvalError bad_argument (saying so where only the zone is missing)."""
    import datetime

    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        raise EvalError("bad_argument", f"{_quoted(text)} is not a timestamp like `2024-05-10T15:52:59Z`")
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    if zone is None:
        raise EvalError("bad_argument", f"{_quoted(text)} has no zone: add `Z`, or an offset such as `+02:00`")
    try:
        days = datetime.date(int(year), int(month), int(day)).toordinal() - 719_163
    except ValueError:
        raise EvalError("bad_argument", f"{_quoted(text)} is not a date of the calendar") from None
    if int(hour) > 23 or int(minute) > 59 or int(second) > 59 or len(fraction or "") > 9:
        raise EvalError("bad_argument", f"{_quoted(text)} is not a time of the day")
    seconds = days * 86_400 + int(hour) * 3600 + int(minute) * 60 + int(second) - offset_seconds(zone)
    return timestamp(seconds * NS + int((fraction or "0").ljust(9, "0")))


def offset_seconds(zone: str) -> int:
    """The offset of `Z`, `+02:00` or `-08:30` in seconds east of UTC. Raises EvalError bad_argument."""
    if zone in ("Z", "z"):
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 23 or minutes > 59:
        raise EvalError("bad_argument", f"{_quoted(zone)} is not an offset from UTC")
    seconds = hours * 3600 + minutes * 60
    return -seconds if zone[0] == "-" else seconds


def _quoted(text: str) -> str:
    """User text in a message, short."""
    return f"`{text if len(text) <= 40 else text[:37] + '…'}`"
