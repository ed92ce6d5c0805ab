"""The type of a CEL expression by our table of overloads, in the words of the conformance suite.

The checker of the language types programs, where names are declared; the suite's cases have none of that, so
this walks their lowered form and asks the same table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jamjet_dsl.analysis.model import Type
from jamjet_dsl.analysis.signatures import ANY, BOOL, call_type, operator_type, unary_type

TypeEnv = Mapping[str, Type]

_WORDS = {"any": "dyn", "float": "double"}
_TYPES = {name: Type(name) for name in ("int", "uint", "string", "bytes", "bool", "type")} | {
    "double": Type("float"),
    "null_type": Type("null"),
    "list": Type("list", (ANY,)),
    "map": Type("map", (ANY, ANY)),
    "google.protobuf.Timestamp": Type("timestamp"),
    "google.protobuf.Duration": Type("duration"),
}
"""The types that are values, by name."""
_PRIMITIVES = {"INT64": "int", "UINT64": "uint", "DOUBLE": "float", "STRING": "string", "BOOL": "bool"}
_PRIMITIVES["BYTES"] = "bytes"
_WELL_KNOWN = {"TIMESTAMP": "timestamp", "DURATION": "duration", "ANY": "any"}
_BOOLS = ("&&", "||", "!", "==", "!=", "<", "<=", ">", ">=", "in", "has", "present", "all", "exists", "exists_one")


class NoType(Exception):
    """No overload fits."""


def environment(declarations: Iterable[Mapping[str, Any]]) -> dict[str, Type]:
    """The declared variables of a case."""
    return {d["name"]: read_type(d["ident"]["type"]) for d in declarations if "ident" in d}


def read_type(proto: Mapping[str, Any]) -> Type:
    """A type in protobuf JSON."""
    match proto:
        case {"primitive": name} | {"wrapper": name}:
            return Type(_PRIMITIVES[name])
        case {"wellKnown": name}:
            return Type(_WELL_KNOWN[name])
        case {"listType": {"elemType": item}}:
            return Type("list", (read_type(item),))
        case {"mapType": {"keyType": key, "valueType": value}}:
            return Type("map", (read_type(key), read_type(value)))
        case {"null": _}:
            return Type("null")
    return ANY


def text(type: Type) -> str:
    """The type in the suite's words."""
    if type.args:
        return f"{type.kind}({', '.join(map(text, type.args))})"
    return _WORDS.get(type.kind, type.kind)


def normal(name: str) -> str:
    """The suite's own text, in one spelling."""
    for long, short in (("null_type", "null"), ("google.protobuf.Timestamp", "timestamp")):
        name = name.replace(long, short)
    return name.replace("google.protobuf.Duration", "duration")


def _joined(types: list[Type]) -> Type:
    """The type of the items of a literal: theirs if they have one, `dyn` if not."""
    first = types[0] if types else ANY
    return first if all(t == first for t in types) else ANY


def deduce(expr: list[Any], env: TypeEnv) -> Type:
    """The type of a lowered expression. Raises NoType."""
    match expr:
        case ["null" | "bool" | "int" | "uint" | "float" | "string" | "bytes" | "duration" | "money" as kind, *_]:
            return Type(kind)
        case ["call", "type", value]:
            return Type("type", (deduce(value, env),))
        case ["list", *items]:
            return Type("list", (_joined([deduce(item, env) for item in items]),))
        case ["map", *pairs]:
            keys = _joined([deduce(k, env) for k, _ in pairs])
            return Type("map", (keys, _joined([deduce(v, env) for _, v in pairs])))
        case ["qualified", names, container]:
            return _name(names, container, env)
        case ["local", name]:
            return env["local " + name]
        case ["select", operand, _]:
            return _field(deduce(operand, env))
        case ["index", operand, _]:
            return _field(deduce(operand, env))
        case ["?:", _, then, other]:
            return _joined([deduce(then, env), deduce(other, env)])
        case ["neg", operand]:
            return unary_type("-", deduce(operand, env)) or _none(expr)
        case [("map_" | "filter") as op, items, name, body]:
            inner = _bound(items, name, env)
            result = deduce(body, inner)
            return Type("list", (inner["local " + name] if op == "filter" else result,))
        case ["map_if", items, name, _, body]:
            return Type("list", (deduce(body, _bound(items, name, env)),))
        case [("all" | "exists" | "exists_one"), items, name, body]:
            deduce(body, _bound(items, name, env))
            return BOOL
        case ["call", name, *args]:
            types = tuple(deduce(arg, env) for arg in args)
            return call_type(name, types) or call_type(name, types, method=True) or _none(expr)
        case [op, left, right] if op in ("+", "-", "*", "/", "%", *_BOOLS):
            types = _solved(left, deduce(left, env), right, deduce(right, env), env)
            return operator_type(op, *types) or _none(expr)
        case [op, *_] if op in _BOOLS:
            return BOOL
    return _none(expr)


def _none(expr: list[Any]) -> Type:
    raise NoType(f"no overload for {expr[0]}")


def _field(type: Type) -> Type:
    return type.args[-1] if type.kind in ("list", "map") else ANY


OPEN = Type("any", name="open")
"""The type of an item of `[]`, until an operator says what it takes."""


def _bound(items: list[Any], name: str, env: TypeEnv) -> dict[str, Type]:
    over = deduce(items, env)
    item = over.args[0] if over.kind in ("list", "map") else ANY
    return {**env, "local " + name: OPEN if items == ["list"] else item}


def _solved(left: list[Any], a: Type, right: list[Any], b: Type, env: TypeEnv) -> tuple[Type, Type]:
    """The types of two operands, where one that is open takes the type of the other."""
    for operand, own, other in ((left, a, b), (right, b, a)):
        if own is OPEN and other is not OPEN and isinstance(env, dict):
            env["local " + operand[1]] = other
            return other, other
    return a, b


def _name(names: list[str], container: str, env: TypeEnv) -> Type:
    prefixes = container.split(".") if container else []
    for length in range(len(names), 0, -1):
        for outer in range(len(prefixes), -1, -1):
            found = env.get(".".join((*prefixes[:outer], *names[:length])))
            if found is not None:
                for _ in names[length:]:
                    found = _field(found)
                return found
    known = _TYPES.get(".".join(names))
    return ANY if known is None else Type("type", (known,))
