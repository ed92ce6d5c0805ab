"""Types: what is built in, how a type reads in a message, and which value fits where."""

from __future__ import annotations

from jamjet_dsl.analysis.model import Type
from jamjet_dsl.analysis.signatures import MESSAGE

BOOL = Type("bool")
INT = Type("int")
UINT = Type("uint")
FLOAT = Type("float")
STRING = Type("string")
BYTES = Type("bytes")
DECIMAL = Type("decimal")
MONEY = Type("money")
DURATION = Type("duration")
TIMESTAMP = Type("timestamp")
ANY = Type("any")
NULL = Type("null")
ERROR = Type("error")
CONVERSATION = Type("conversation")
FILE = Type("file")
STATE = Type("string", name="state")
"""The name of a state, which tests and checks compare with: a string that knows what it is."""

TOOL_CALL = Type("ToolCall", fields=(("tool", STRING), ("args", Type("map", (STRING, ANY)))))
MOVE = Type("Move", fields=(("text", Type("optional", (STRING,))), ("call", Type("optional", (TOOL_CALL,)))))

SCALARS: dict[str, Type] = {
    t.kind: t
    for t in (BOOL, INT, UINT, FLOAT, STRING, BYTES, DECIMAL, MONEY, DURATION, TIMESTAMP, ANY, CONVERSATION, FILE)
} | {"Move": MOVE, "ToolCall": TOOL_CALL}
"""The built-in types that take no arguments, by the name a program writes."""

TYPE_NAMES = (*SCALARS, "list", "map")

NUMERIC = frozenset({"int", "uint", "float", "decimal"})
ORDERED = NUMERIC | {"string", "bytes", "bool", "money", "duration", "timestamp"}
RANGED = frozenset({"int", "uint", "float", "decimal", "money", "list"})
KEYS = frozenset({"string", "int", "uint", "bool", "enum"})

_SPENT = Type(
    "object",
    fields=(("steps", INT), ("tokens", INT), ("cost", MONEY), ("time", DURATION), ("active", DURATION)),
)
ROOTS: dict[str, Type] = {
    "run": Type("object", fields=(("id", STRING),)),
    "principal": Type("object", fields=(("id", STRING), ("roles", Type("list", (STRING,))))),
    "spent": _SPENT,
    "budget": Type("object", fields=(("remaining", _SPENT),)),
    "undo": Type("object", fields=(("failed", Type("list", (STRING,))),)),
    "now": TIMESTAMP,
}
"""Names that mean something in every expression of an agent."""

BUILTIN_ERRORS = (
    "Timeout",
    "RateLimited",
    "Disconnected",
    "Unavailable",
    "InvalidInput",
    "InvalidOutput",
    "Crashed",
    "JoinFailed",
    "ChildFailed",
)
INDEFINITE_ERRORS = frozenset({"Timeout", "Disconnected", "Crashed", "InvalidOutput"})
"""After one of these nobody knows whether a call that writes happened."""

EFFECTS = ("reads", "writes", "irreversible")


def optional(item: Type) -> Type:
    """`item?`; an optional of an optional is one optional."""
    return item if item.kind in ("optional", "any", "null", "error") else Type("optional", (item,))


def list_of(item: Type) -> Type:
    """`list<item>`."""
    return Type("list", (item,))


def secret(item: Type) -> Type:
    """`secret item`; a secret optional reads as an optional secret."""
    if item.kind in ("secret", "error"):
        return item
    if item.kind == "optional":
        return Type("optional", (secret(item.args[0]),))
    return Type("secret", (item,))


def strip_secret(t: Type) -> Type:
    """The type without `secret`."""
    return t.args[0] if t.kind == "secret" else t


def base(t: Type) -> Type:
    """The type without `?` and `secret`."""
    while t.kind in ("optional", "secret"):
        t = t.args[0]
    return t


def plain(t: Type) -> Type:
    """The type of a computed value: without a declared range."""
    return t if t.low is None and t.high is None else t._replace(low=None, high=None)


def show(t: Type, depth: int = 4) -> str:
    """The type as a program writes it; what nests deeper than `depth` is left out."""
    match t.kind:
        case "optional":
            return show(t.args[0], depth) + "?"
        case "secret":
            return "secret " + show(t.args[0], depth)
        case "list" | "map":
            inner = ", ".join(show(a, depth - 1) for a in t.args) if depth > 0 else "…"
            text = f"{t.kind}<{inner}>"
        case "record" | "enum" | "fn":
            text = (t.name or t.kind).partition("@")[0]
        case "object":
            inner = "  ".join(f"{name}: {show(f, depth - 1)}" for name, f in t.fields) if depth > 0 else "…"
            text = f"{{ {inner} }}" if inner else "{}"
        case "error":
            text = "unknown"
        case "money" if t.currency:
            text = f"money in {t.currency}"
        case _:
            text = t.kind
    if t.low is not None or t.high is not None:
        text += f" {t.low}..{t.high}"
    return text


def fits(value: Type, expected: Type) -> bool:
    """Whether a value of one type may stand where another is expected, numbers being widened.

    Ranges are not compared: a constant outside of one is JAM408, a computed value is validated when the run
    stores it. A secret fits where its plain type is expected; whether it may go there is JAM411's question.
    """
    if value == expected or value.kind == "error" or expected.kind in ("any", "error"):
        return True
    if value.kind == "secret" or expected.kind == "secret":
        return fits(strip_secret(value), strip_secret(expected))
    if expected.kind == "optional":
        return value.kind == "null" or fits(value.args[0] if value.kind == "optional" else value, expected.args[0])
    match value.kind, expected.kind:
        case "int", "decimal" | "float":
            return True
        case "money", "money":
            return value.currency is None or expected.currency is None or value.currency == expected.currency
        case ("list", "list") | ("map", "map"):
            return all(map(_same_part, value.args, expected.args))
        case "list", "conversation":
            return value.args[0] == MESSAGE or value.args[0].kind == "any"
        case ("record", "record") | ("enum", "enum"):
            return value.name == expected.name
        case "object", "object":
            return value.fields == expected.fields
        case a, b:
            return a == b


def _same_part(value: Type, expected: Type) -> bool:
    """Parts of lists and maps are not widened: that would change every element behind the program's back."""
    if value.kind in NUMERIC and expected.kind in NUMERIC:
        return value.kind == expected.kind
    return fits(value, expected)


def join(a: Type, b: Type) -> Type | None:
    """The smallest type that both fit, or None. `any` gives way: an empty list takes the type of its neighbours."""
    if a == b or b.kind in ("error", "any"):
        return a
    if a.kind in ("error", "any"):
        return b
    if a.kind == "null" or b.kind == "null":
        return optional(b if a.kind == "null" else a)
    if a.kind == "optional" or b.kind == "optional":
        inner = join(a.args[0] if a.kind == "optional" else a, b.args[0] if b.kind == "optional" else b)
        return optional(inner) if inner else None
    if a.kind == "secret" or b.kind == "secret":
        inner = join(strip_secret(a), strip_secret(b))
        return secret(inner) if inner else None
    a, b = plain(a), plain(b)
    if fits(a, b):
        return b
    return a if fits(b, a) else None


def comparable(a: Type, b: Type) -> bool:
    """Whether `==` between them can ever be true."""
    a, b = base(a), base(b)
    if "error" in (a.kind, b.kind) or "any" in (a.kind, b.kind) or "null" in (a.kind, b.kind):
        return True
    if a.kind in NUMERIC and b.kind in NUMERIC:
        return True
    if a.kind == b.kind and a.kind in ("list", "map"):
        return all(map(comparable, a.args, b.args))
    if {a.kind, b.kind} == {"enum", "string"}:
        return True
    return fits(a, b) or fits(b, a)


def field_of(t: Type, name: str) -> Type | None:
    """The type of a field of an object or of a built-in shape; records are looked up by their symbol."""
    for field, type_ in t.fields:
        if field == name:
            return type_
    return None
