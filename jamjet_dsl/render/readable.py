"""Definitions in words: expressions, durations, types and rules as a reviewer reads them.

The definition holds expressions as trees; this is the way back to text close to what was written. It is for
people only: nothing parses it again.
"""

from __future__ import annotations

from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.scalars import readable_ms

_BINARY = {
    "||": 1, "&&": 2, "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4, "in": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "%": 6,
}  # fmt: skip
_MACROS = ("all", "exists", "exists_one", "filter")
_METHODS = frozenset({"contains", "startsWith", "endsWith", "matches", "split", "join", "replace", "trim", "substring",
                      "lowerAscii", "upperAscii", "indexOf"})  # fmt: skip
duration = readable_ms
"""A time as it stands in diagrams and lists; the kernel says times in reasons in the same way."""


def money(text: str) -> str:
    """Money as it is written in programs: `1.50 USD` is `$1.50`."""
    amount, _, currency = text.partition(" ")
    whole, dot, rest = amount.partition(".")
    sign = "-" if whole.startswith("-") else ""
    grouped = f"{int(whole.lstrip('-') or 0):,}".replace(",", "_")
    # Large round amounts are written without their cents, as people write them.
    cents = "" if int(whole.lstrip("-") or 0) >= 1000 and not rest.strip("0") else dot + rest
    amount = f"{sign}{grouped}{cents}"
    return f"${amount}" if currency in ("USD", "") else f"{amount} {currency}"


def quantity(count: int) -> str:
    """A count with `k` or `M` where that is exact."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= size and count % size == 0:
            return f"{count // size}{unit}"
    return str(count)


def expression(expr: d.ExprJson, outer: int = 0) -> str:
    """An expression of a definition as text; `outer` is the precedence around it."""
    op, *rest = expr
    if op in _BINARY:
        rank = _BINARY[op]
        text = f"{expression(rest[0], rank)} {op} {expression(rest[1], rank + 1)}"
        return f"({text})" if rank < outer else text
    match expr:
        case ["null"]:
            return "null"
        case ["bool", value]:
            return "true" if value else "false"
        case ["string", value]:
            return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        case ["money", value]:
            return money(value)
        case ["duration", value]:
            return duration(int(value))
        case ["enum", _, member]:
            return str(member)
        case ["uint", value]:
            return f"{value}u"
        case [("int" | "float" | "decimal"), value]:
            return str(value)
        case ["bytes", value]:
            return f'b"{value}"'
        case [("var" | "local"), name]:
            return str(name)
        case ["select", operand, field]:
            return f"{expression(operand, 9)}.{field}"
        case ["index", operand, index]:
            return f"{expression(operand, 9)}[{expression(index)}]"
        case ["list", *items]:
            return f"[{', '.join(expression(i) for i in items)}]"
        case ["map", *pairs]:
            return "{ " + ", ".join(f"{expression(k)}: {expression(v)}" for k, v in pairs) + " }"
        case ["record", _, fields]:
            return "{ " + ", ".join(f"{k}: {expression(v)}" for k, v in fields.items()) + " }"
        case ["!", operand]:
            return f"!{expression(operand, 8)}"
        case ["neg", operand]:
            return f"-{expression(operand, 8)}"
        case ["?:", test, then, other]:
            text = f"{expression(test, 1)} ? {expression(then, 1)} : {expression(other)}"
            return f"({text})" if outer > 0 else text
        case ["widen", _, operand]:
            return expression(operand, outer)
        case ["text", *parts]:
            return "".join(p if isinstance(p, str) else "{" + expression(p[1]) + "}" for p in parts)
        case _:
            return _call(expr)


def _call(expr: d.ExprJson) -> str:
    """Macros, functions and the questions about history."""
    match expr:
        case [op, source, name, body] if op in _MACROS or op == "map_":
            return f"{expression(source, 9)}.{'map' if op == 'map_' else op}({name}, {expression(body)})"
        case ["map_if", source, name, test, body]:
            return f"{expression(source, 9)}.map({name}, {expression(test)}, {expression(body)})"
        case ["call", function, receiver, *args] if function in _METHODS:
            return f"{expression(receiver, 9)}.{function}({', '.join(expression(a) for a in args)})"
        case [("call" | "fn"), function, *args]:
            return f"{function}({', '.join(expression(a) for a in args)})"
        case ["calls", tool]:
            return f"calls({tool})"
        case ["history", what, tool, args]:
            inner = "".join(f", {k} = {expression(v)}" for k, v in args.items())
            return f"{what}({tool}{inner})"
        case [op, *args]:
            return f"{op}({', '.join(expression(a) if isinstance(a, list) else str(a) for a in args)})"
    return str(expr)


def type_text(type_: Any) -> str:
    """A type as it is written."""
    match type_:
        case d.OptionalType():
            return f"{type_text(type_.item)}?"
        case d.SecretType():
            return f"secret {type_text(type_.item)}"
        case d.ListType():
            length = f" {type_.low}..{type_.high}" if type_.low is not None or type_.high is not None else ""
            return f"list<{type_text(type_.item)}>{length}"
        case d.MapType():
            return f"map<{type_text(type_.key)}, {type_text(type_.value)}>"
        case d.RecordType() | d.EnumType():
            return type_.name
        case d.ObjectType():
            return "{ " + ", ".join(f"{k}: {type_text(v)}" for k, v in type_.fields.items()) + " }"
        case _:
            low, high = getattr(type_, "low", None), getattr(type_, "high", None)
            bounds = f" {low}..{high}" if low is not None or high is not None else ""
            return f"{type_.kind}{bounds}"


def limits(given: d.Limits) -> list[str]:
    """The set limits of a budget, one phrase each."""
    parts = []
    if given.steps is not None:
        parts.append(f"steps {quantity(given.steps)}")
    if given.tokens is not None:
        parts.append(f"tokens {quantity(given.tokens)}")
    if given.cost is not None:
        parts.append(f"cost {money(given.cost)}")
    if given.time_ms is not None:
        parts.append(f"time {duration(given.time_ms)}")
    if given.active_ms is not None:
        parts.append(f"active {duration(given.active_ms)}")
    return parts


def tool_set(tools: d.ToolSetDef | None) -> str:
    """The tools a rule speaks of."""
    if tools is None:
        return "any"
    return ", ".join([*tools.names, *("any" if c == "any" else f"any {c}" for c in tools.classes)])


def rule(given: d.Rule) -> str:
    """A rule of a policy in one line, as it is written."""
    when = f" when {expression(given.when)}" if given.when is not None else ""
    tools = tool_set(given.tools)
    match given.kind:
        case "allow":
            waived = f' without approval because "{given.because}"' if given.because else ""
            return f"allow {tools}{when}{waived}"
        case "forbid":
            return f"forbid {tools}{when}"
        case "require_read" if given.call is not None:
            args = ", ".join(f"{k} = {expression(v)}" for k, v in given.call.args.items())
            return f"require {given.call.tool}({args}) before {tools}{when}"
        case "require_any":
            return f"require any of {tool_set(given.reads)} before {tools}{when}"
        case "require_ask":
            return f"require approval {given.ask} before {tools}{when}"
        case "require_people":
            without = f" not {given.excluding}" if given.excluding else ""
            return f'require approval by {given.count} of "{given.role}"{without} before {tools}{when}'
        case "never":
            return f"never {tools} after {tool_set(given.after)}{when}"
        case "limit" if given.limit is not None:
            return f"limit {_limit(given.limit)}"
        case "fact" if given.call is not None:
            within = f" within {duration(given.within_ms)}" if given.within_ms is not None else ""
            args = ", ".join(f"{k} = {expression(v)}" for k, v in given.call.args.items())
            return f"fact {given.name} = {given.call.tool}({args}){within}"
        case "redact":
            return f"redact {'.'.join(given.path or ())}"
    return given.kind


_WINDOWS = {1_000: "second", 60_000: "minute", 3_600_000: "hour", 86_400_000: "day"}
"""The windows that a program can write, as it writes them."""


def _limit(given: d.LimitDef) -> str:
    tools = tool_set(given.tools)
    per = "".join(f" per {expression(p)}" for p in given.per)
    per += " per principal" if given.principal else ""
    per += " per turn" if given.turn else ""
    per += f" per {_WINDOWS.get(given.window_ms) or duration(given.window_ms)}" if given.window_ms is not None else ""
    if given.amount is not None and given.bound is not None:
        return f"{tools} total {expression(given.amount)} <= {expression(given.bound)}{per}"
    return f"{tools} {given.count} call{'' if given.count == 1 else 's'}{per}"
