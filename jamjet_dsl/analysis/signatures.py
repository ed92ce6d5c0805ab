"""What the operators and built-in functions of the language take and give: the one table of overloads.

The type checker asks `operator_overload`, `unary_type` and `call_overload`; completion, documentation and
error texts ask `signatures_of`. Overloads are written as text (`round(decimal, int) -> decimal`) because a
person must be able to review them; they are read when first asked for.

Rules that hold for all of them:

* A single capital letter is a type variable: one type for all its places.
* `int` widens to `decimal` and to `float` where the overload that needs the fewest widenings says so;
  nothing else converts by itself.
* All money in one overload has one currency; an unknown currency fits any, and the result has the known one.
* `any` and `error` fit everything. Where several overloads fit with different results, the result is `any`.
* A `secret` argument makes a result secret, unless that is a truth value or a number of things.
"""

from __future__ import annotations

from typing import NamedTuple

from jamjet_dsl.analysis.model import Type

ANY = Type("any")
BOOL = Type("bool")
INT = Type("int")
FLOAT = Type("float")
STRING = Type("string")
DECIMAL = Type("decimal")
NULL = Type("null")
MESSAGE = Type("object", fields=(("role", STRING), ("text", STRING)))
"""One entry of a conversation that a program writes: what `user(text)` makes."""

MACROS: dict[str, int] = {"all": 2, "exists": 2, "exists_one": 2, "filter": 2, "map": 2}
"""Macros on lists and maps, written `xs.all(x, P)`, and how many arguments they take (`map` also three)."""

SPECIAL_FORMS: dict[str, Type] = {
    "has": BOOL,
    "calls": INT,
    "attempted": INT,
    "succeeded": INT,
    "failed": INT,
    "attested": BOOL,
    "untrusted": BOOL,
}
"""Calls whose argument is a path or the name of a tool, not a value, with their result."""

CONVERSIONS = frozenset({"int", "uint", "float", "double", "string", "bytes", "bool", "decimal", "type", "dyn"})
"""Functions named like a type."""


class Overload(NamedTuple):
    """What one overload takes and gives. `params` are of the same length as the arguments it was chosen for;
    an argument of kind `int` under a `decimal` or `float` parameter is widened."""

    params: tuple[Type, ...]
    result: Type


_OPERATORS: dict[str, str] = {
    "+": "(int, int) -> int; (uint, uint) -> uint; (float, float) -> float; (decimal, decimal) -> decimal;"
    "(money, money) -> money; (string, string) -> string; (bytes, bytes) -> bytes;"
    "(list<T>, list<T>) -> list<T>; (duration, duration) -> duration; (timestamp, duration) -> timestamp;"
    "(duration, timestamp) -> timestamp; (conversation, list<Message>) -> conversation;"
    "(conversation, conversation) -> conversation",
    "-": "(int, int) -> int; (uint, uint) -> uint; (float, float) -> float; (decimal, decimal) -> decimal;"
    "(money, money) -> money; (duration, duration) -> duration; (timestamp, timestamp) -> duration;"
    "(timestamp, duration) -> timestamp",
    "*": "(int, int) -> int; (uint, uint) -> uint; (float, float) -> float; (decimal, decimal) -> decimal;"
    "(money, decimal) -> money; (decimal, money) -> money",
    "/": "(int, int) -> int; (uint, uint) -> uint; (float, float) -> float; (decimal, decimal) -> decimal;"
    "(money, money) -> decimal",
    "%": "(int, int) -> int; (uint, uint) -> uint",
    "<": "(int, int) -> bool; (uint, uint) -> bool; (float, float) -> bool; (decimal, decimal) -> bool;"
    "(money, money) -> bool; (string, string) -> bool; (bytes, bytes) -> bool; (bool, bool) -> bool;"
    "(duration, duration) -> bool; (timestamp, timestamp) -> bool",
    "==": "(T, T) -> bool",
    "in": "(T, list<T>) -> bool; (K, map<K, V>) -> bool",
    "&&": "(bool, bool) -> bool",
    "||": "(bool, bool) -> bool",
}
_SAME_AS = {"<=": "<", ">": "<", ">=": "<", "!=": "=="}

_UNARY: dict[str, tuple[str, ...]] = {"!": ("bool",), "-": ("int", "float", "decimal", "money", "duration")}

_ZONED = "(timestamp) -> int; (timestamp, string) -> int"
_ZONED_OR_SPAN = _ZONED + "; (duration) -> int"

# How a name may be written: f a function, m a method, fm both (the receiver is the first argument).
_FUNCTIONS: dict[str, tuple[str, str]] = {
    "size": ("fm", "(string) -> int; (bytes) -> int; (list<T>) -> int; (map<K, V>) -> int; (conversation) -> int"),
    "contains": ("m", "(string, string) -> bool"),
    "startsWith": ("m", "(string, string) -> bool"),
    "endsWith": ("m", "(string, string) -> bool"),
    "matches": ("fm", "(string, string) -> bool"),
    "charAt": ("m", "(string, int) -> string"),
    "indexOf": ("m", "(string, string) -> int; (string, string, int) -> int"),
    "lastIndexOf": ("m", "(string, string) -> int; (string, string, int) -> int"),
    "join": ("m", "(list<string>) -> string; (list<string>, string) -> string"),
    "lowerAscii": ("m", "(string) -> string"),
    "upperAscii": ("m", "(string) -> string"),
    "replace": ("m", "(string, string, string) -> string; (string, string, string, int) -> string"),
    "reverse": ("m", "(string) -> string; (list<T>) -> list<T>"),
    "split": ("m", "(string, string) -> list<string>; (string, string, int) -> list<string>"),
    "substring": ("m", "(string, int) -> string; (string, int, int) -> string"),
    "trim": ("m", "(string) -> string"),
    "int": (
        "f",
        "(int) -> int; (uint) -> int; (float) -> int; (decimal) -> int; (string) -> int; (timestamp) -> int",
    ),
    "uint": ("f", "(uint) -> uint; (int) -> uint; (float) -> uint; (decimal) -> uint; (string) -> uint"),
    "float": ("f", "(float) -> float; (int) -> float; (uint) -> float; (decimal) -> float; (string) -> float"),
    "double": ("f", "(float) -> float; (int) -> float; (uint) -> float; (decimal) -> float; (string) -> float"),
    "decimal": ("f", "(decimal) -> decimal; (uint) -> decimal; (float) -> decimal; (string) -> decimal"),
    "string": (
        "f",
        "(string) -> string; (int) -> string; (uint) -> string; (float) -> string; (bool) -> string;"
        "(bytes) -> string; (decimal) -> string; (money) -> string; (duration) -> string;"
        "(timestamp) -> string; (enum) -> string",
    ),
    "bytes": ("f", "(bytes) -> bytes; (string) -> bytes"),
    "bool": ("f", "(bool) -> bool; (string) -> bool"),
    "type": ("f", "(T) -> any"),
    "dyn": ("f", "(T) -> any"),
    "timestamp": ("f", "(timestamp) -> timestamp; (string) -> timestamp; (int) -> timestamp"),
    "duration": ("f", "(duration) -> duration; (string) -> duration"),
    "getFullYear": ("m", _ZONED),
    "getMonth": ("m", _ZONED),
    "getDate": ("m", _ZONED),
    "getDayOfMonth": ("m", _ZONED),
    "getDayOfWeek": ("m", _ZONED),
    "getDayOfYear": ("m", _ZONED),
    "getHours": ("m", _ZONED_OR_SPAN),
    "getMinutes": ("m", _ZONED_OR_SPAN),
    "getSeconds": ("m", _ZONED_OR_SPAN),
    "getMilliseconds": ("m", _ZONED_OR_SPAN),
    "money": ("f", "(string) -> money; (decimal, string) -> money"),
    "amount": ("fm", "(money) -> decimal"),
    "currency": ("fm", "(money) -> string"),
    "round": ("fm", "(money, int) -> money; (decimal, int) -> decimal"),
    "floor": ("fm", "(money, int) -> money; (decimal, int) -> decimal"),
    "ceil": ("fm", "(money, int) -> money; (decimal, int) -> decimal"),
    "divide": ("fm", "(money, decimal, int) -> money; (decimal, decimal, int) -> decimal"),
    "abs": ("fm", "(int) -> int; (float) -> float; (decimal) -> decimal; (money) -> money; (duration) -> duration"),
    "sum": (
        "fm",
        "(list<int>) -> int; (list<uint>) -> uint; (list<float>) -> float; (list<decimal>) -> decimal;"
        "(list<money>) -> money; (list<duration>) -> duration",
    ),
    "distinct": ("fm", "(list<T>) -> list<T>"),
    "flatten": ("fm", "(list<list<T>>) -> list<T>"),
    "range": ("f", "(int) -> list<int>; (int, int) -> list<int>"),
    "user": ("f", "(string) -> Message"),
}
_ORDERED = ("int", "uint", "float", "decimal", "money", "string", "bytes", "duration", "timestamp")
for _name in ("min", "max"):
    _many = "; ".join(f"({k}, {k}...) -> {k}" for k in _ORDERED)
    _FUNCTIONS[_name] = ("fm", "; ".join(f"(list<{k}>) -> {k}" for k in _ORDERED) + "; " + _many)

FUNCTION_NAMES: frozenset[str] = frozenset(_FUNCTIONS)
"""Every built-in function and method, macros and special forms not included."""


class _Form(NamedTuple):
    """An overload as declared. `rest`: the last parameter may be repeated."""

    params: tuple[Type, ...]
    result: Type
    rest: bool


_read: dict[str, tuple[_Form, ...]] = {}


def _parse_type(text: str) -> Type:
    text = text.strip()
    if text.endswith(">"):
        head, _, inner = text[:-1].partition("<")
        parts, depth, start = [], 0, 0
        for at, char in enumerate(inner):
            depth += (char == "<") - (char == ">")
            if char == "," and depth == 0:
                parts.append(inner[start:at])
                start = at + 1
        return Type(head, tuple(_parse_type(p) for p in (*parts, inner[start:])))
    if text == "Message":
        return MESSAGE
    return Type("var", name=text) if len(text) == 1 else Type(text)


def _forms(text: str) -> tuple[_Form, ...]:
    """Reads `(a, b) -> c; …`, once for each text."""
    found = _read.get(text)
    if found is None:
        forms = []
        for part in text.split(";"):
            left, _, right = part.partition("->")
            inner = left.strip()[1:-1]
            rest = inner.endswith("...")
            forms.append(_Form(_parse_type(f"p<{inner.removesuffix('...')}>").args, _parse_type(right), rest))
        found = _read[text] = tuple(forms)
    return found


class _Match:
    """One attempt to fit arguments to an overload: what variables stand for, the currency, what was widened."""

    __slots__ = ("currency", "names", "widened")

    def __init__(self) -> None:
        self.names: dict[str, Type] = {}
        self.currency: str | None = None
        self.widened = 0

    def fits(self, param: Type, arg: Type) -> bool:
        """Whether `arg` may stand where `param` is declared."""
        if arg.kind in ("any", "error") or param.kind == "any":
            return True
        if arg.kind == "secret":
            return self.fits(param, arg.args[0])
        if param.kind == "var":
            return self._bind(param.name or "", arg)
        if param.kind == "money" and arg.kind == "money":
            return self._one_currency(arg.currency)
        if param.kind != arg.kind:
            if arg.kind == "int" and param.kind in ("decimal", "float"):
                self.widened += 1
                return True
            return False
        if param.kind == "object":
            return param.fields == arg.fields
        return all(self.fits(p, a) for p, a in zip(param.args, arg.args, strict=False))

    def _one_currency(self, currency: str | None) -> bool:
        if currency is None or self.currency in (None, currency):
            self.currency = currency or self.currency
            return True
        return False

    def _bind(self, name: str, arg: Type) -> bool:
        known = self.names.get(name)
        joined = arg if known is None else join_types(known, arg)
        if joined is None:
            return False
        self.names[name] = joined
        return True

    def result(self, declared: Type) -> Type:
        """The declared result with variables and the currency filled in; what nothing bound is `any`."""
        if declared.kind == "var":
            return self.names.get(declared.name or "", ANY)
        if declared.kind == "money":
            return declared._replace(currency=self.currency)
        if declared.args:
            return declared._replace(args=tuple(self.result(a) for a in declared.args))
        return declared


def plain(type: Type) -> Type:
    """The type without `secret` around it and without bounds on its values."""
    while type.kind == "secret":
        type = type.args[0]
    if type.low is not None or type.high is not None:
        type = type._replace(low=None, high=None)
    return type


def join_types(a: Type, b: Type) -> Type | None:
    """The least type that both fit (`int` and `decimal`: `decimal`; `T` and null: `T?`), or None.

    `any` gives way to the other one, which is how an empty list (`list<any>`) takes the type of its neighbours.
    """
    a, b = plain(a), plain(b)
    if a == b or b.kind in ("any", "error"):
        return a
    if a.kind in ("any", "error"):
        return b
    if a.kind == "null" or b.kind == "null":
        other = b if a.kind == "null" else a
        return other if other.kind == "optional" else Type("optional", (other,))
    if a.kind == "optional" or b.kind == "optional":
        inner = join_types(a.args[0] if a.kind == "optional" else a, b.args[0] if b.kind == "optional" else b)
        return None if inner is None else Type("optional", (inner,))
    if a.kind != b.kind:
        kinds = {a.kind, b.kind}
        if kinds in ({"int", "decimal"}, {"int", "float"}):
            return a if b.kind == "int" else b
        return None
    if a.kind == "money":
        return a if b.currency in (None, a.currency) else b if a.currency is None else None
    if a.name != b.name or len(a.args) != len(b.args) or a.fields != b.fields:
        return None
    args = []
    for x, y in zip(a.args, b.args, strict=True):
        joined = join_types(x, y)
        if joined is None:
            return None
        args.append(joined)
    return a._replace(args=tuple(args))


def _choose(forms: tuple[_Form, ...], args: tuple[Type, ...]) -> Overload | None:
    best: list[Overload] = []
    fewest = 1 << 30
    for form in forms:
        params = form.params
        if form.rest and len(args) >= len(params):
            params += (params[-1],) * (len(args) - len(params))
        if len(params) != len(args):
            continue
        match = _Match()
        if all(match.fits(p, a) for p, a in zip(params, args, strict=True)) and match.widened <= fewest:
            if match.widened < fewest:
                best, fewest = [], match.widened
            best.append(Overload(tuple(match.result(p) for p in params), match.result(form.result)))
    if not best:
        return None
    first = best[0]
    if any(o.result != first.result for o in best):
        first = Overload(args, ANY)
    elif len(best) > 1:
        first = Overload(args, first.result)
    if any(a.kind == "secret" for a in args) and first.result.kind not in ("bool", "int"):
        first = Overload(first.params, Type("secret", (first.result,)))
    return first


def operator_overload(op: str, left: Type, right: Type) -> Overload | None:
    """The overload of a binary operator for these operands, or None where there is none."""
    return _choose(_forms(_OPERATORS[_SAME_AS.get(op, op)]), (left, right))


def operator_type(op: str, left: Type, right: Type) -> Type | None:
    """The type of `left op right`, or None where the operator does not take these operands."""
    chosen = operator_overload(op, left, right)
    return None if chosen is None else chosen.result


def unary_type(op: str, operand: Type) -> Type | None:
    """The type of `!x` or `-x`, or None."""
    bare = plain(operand)
    if bare.kind in ("any", "error"):
        return BOOL if op == "!" else ANY
    if bare.kind not in _UNARY[op]:
        return None
    return Type("secret", (bare,)) if operand.kind == "secret" and op == "-" else bare


def call_overload(name: str, args: tuple[Type, ...], method: bool = False) -> Overload | None:
    """The overload of a built-in for these arguments (a method's receiver first), or None where none fits
    or the name cannot be written in this way (see `call_forms`)."""
    entry = _FUNCTIONS.get(name)
    if entry is None or ("m" if method else "f") not in entry[0]:
        return None
    return _choose(_forms(entry[1]), args)


def call_type(name: str, args: tuple[Type, ...], method: bool = False) -> Type | None:
    """The type of a call of a built-in, or None."""
    chosen = call_overload(name, args, method)
    return None if chosen is None else chosen.result


def call_forms(name: str) -> str:
    """`f` for a function, `m` for a method, `fm` for both, empty for a name that is no built-in."""
    return _FUNCTIONS[name][0] if name in _FUNCTIONS else ""


def signatures_of(name: str) -> tuple[str, ...]:
    """The overloads of a built-in or operator as a person reads them, for help and documentation."""
    if name in _FUNCTIONS:
        return tuple(name + part.strip() for part in _FUNCTIONS[name][1].split(";"))
    text = _OPERATORS.get(_SAME_AS.get(name, name), "")
    return tuple(f"{name} {part.strip()}" for part in text.split(";") if part)
