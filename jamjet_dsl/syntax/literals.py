"""What literals mean: exact numbers, money and durations, the escapes of CEL strings and bytes.

Every function takes the text of one token as the scanner accepted it. What is wrong inside it is raised as
`BadLiteral`, with the place relative to the token, and becomes JAM004.
"""

from __future__ import annotations

INT_MIN = -(2**63)
INT_MAX = 2**63 - 1
UINT_MAX = 2**64 - 1

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_QUANTITY = {"k": 1_000, "M": 1_000_000}
_SIMPLE_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "?": "?",
    '"': '"',
    "'": "'",
    "`": "`",
}
_HEX_DIGITS = {"x": 2, "X": 2, "u": 4, "U": 8}


class BadLiteral(ValueError):
    """A literal that the scanner accepts and the language does not have.

    `start` and `end` are code points from the first of the token; `help` says what to write.
    """

    def __init__(self, message: str, help: str, start: int, end: int) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.start = start
        self.end = end


def integer(text: str) -> int:
    """The value of `1_000` or `0xFF`, not yet checked against 64 bits: a minus may stand before it."""
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    digits = text.replace("_", "")
    if len(digits) > 40:  # beyond any range; converting a megabyte of digits would be quadratic
        return INT_MAX * 4
    return int(digits)


def unsigned(text: str) -> int:
    """The value of `5u`."""
    value = integer(text[:-1])
    if value > UINT_MAX:
        raise BadLiteral("this number does not fit into 64 bits", f"the largest uint is {UINT_MAX}u", 0, len(text))
    return value


def floating(text: str) -> float:
    """The value of `1.5e3`."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise BadLiteral("this number is too large for a float", "the largest float is about 1.8e308", 0, len(text))
    return value


def money(text: str) -> tuple[str, str]:
    """The amount, exactly as written without `_`, and the currency of `$1_000.50` or `1.50 EUR`."""
    if text[0] == "$":
        return text[1:].replace("_", ""), "USD"
    return text[:-3].rstrip().replace("_", ""), text[-3:]


def duration(text: str) -> int:
    """The whole milliseconds of `500ms`, `30s`, `5m`, `48h` or `7d`."""
    unit = text.lstrip("0123456789")
    digits = text[: len(text) - len(unit)]
    value = int(digits) * _UNIT_MS[unit] if len(digits) <= 15 else INT_MAX + 1
    if value > INT_MAX // 1_000_000:  # so that nanoseconds fit as well; 292 years
        raise BadLiteral("this duration is longer than 292 years", "write a shorter one", 0, len(text))
    return value


def quantity(text: str) -> int:
    """The number meant by `20k` or `1M`."""
    value = integer(text[:-1]) * _QUANTITY[text[-1]]
    if value > INT_MAX:
        raise BadLiteral("this number does not fit into 64 bits", f"the largest int is {INT_MAX}", 0, len(text))
    return value


def body_of(text: str) -> tuple[int, int, bool, bool]:
    """Where the inside of a string or bytes literal starts and ends, whether it is raw, whether it is triple."""
    at = 0
    raw = False
    while text[at] not in "\"'":
        raw = raw or text[at] in "rR"
        at += 1
    triple = text.startswith(('"""', "'''"), at) and len(text) >= at + 6
    width = 3 if triple else 1
    return at + width, len(text) - width, raw, triple


def string(text: str) -> str:
    """The value of a string literal."""
    start, end, raw, triple = body_of(text)
    body = text[start:end]
    if triple and "\r" in body:
        body = body.replace("\r\n", "\n")
    if raw or "\\" not in body:
        return body
    pieces: list[str] = []
    at = start
    while True:
        slash = text.find("\\", at, end)
        if slash < 0:
            pieces.append(text[at:end])
            break
        pieces.append(text[at:slash])
        code, at = _escape(text, slash, end)
        if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
            raise BadLiteral("this escape is not a Unicode character", "surrogates cannot be written", slash, at)
        pieces.append(chr(code))
    value = "".join(pieces)
    return value.replace("\r\n", "\n") if triple and "\r" in text[start:end] else value


def bytes_(text: str) -> bytes:
    """The value of a bytes literal: the UTF-8 of its text; `\\x` and octal escapes are single bytes."""
    start, end, raw, _ = body_of(text)
    if raw or "\\" not in text[start:end]:
        return text[start:end].encode("utf-8", "surrogatepass")
    made = bytearray()
    at = start
    while at < end:
        if text[at] != "\\":
            slash = text.find("\\", at, end)
            slash = end if slash < 0 else slash
            made += text[at:slash].encode("utf-8", "surrogatepass")
            at = slash
            continue
        kind = text[at + 1]
        code, after = _escape(text, at, end)
        if kind in "uU":
            raise BadLiteral("bytes have no `\\u` escapes", "write the bytes as `\\x..`", at, after)
        made += bytes((code,))
        at = after
    return bytes(made)


def _escape(text: str, at: int, end: int) -> tuple[int, int]:
    """The code of the escape at `at` and where it ends."""
    kind = text[at + 1]
    simple = _SIMPLE_ESCAPES.get(kind)
    if simple is not None:
        return ord(simple), at + 2
    if kind in _HEX_DIGITS:
        stop = at + 2 + _HEX_DIGITS[kind]
        digits = text[at + 2 : min(stop, end)]
        if len(digits) < _HEX_DIGITS[kind] or not all(d in "0123456789abcdefABCDEF" for d in digits):
            raise BadLiteral(
                f"`\\{kind}` needs {_HEX_DIGITS[kind]} hexadecimal digits",
                "write `\\\\` for a backslash",
                at,
                min(stop, end),
            )
        return int(digits, 16), stop
    if kind in "0123":
        digits = text[at + 1 : min(at + 4, end)]
        if len(digits) == 3 and all(d in "01234567" for d in digits):
            return int(digits, 8), at + 4
        raise BadLiteral("an octal escape has three digits, from \\000 to \\377", "write `\\x..`", at, at + 2)
    raise BadLiteral(
        f"there is no escape `\\{kind}`" if kind.isprintable() else "there is no such escape",
        'write `\\\\` for a backslash, or a raw string r"…"',
        at,
        at + 2,
    )
