"""The rules of a policy to their definition, in the order of the source."""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl import definition as d
from jamjet_dsl.analysis.lower_parts import Parts
from jamjet_dsl.analysis.model import AgentInfo
from jamjet_dsl.analysis.typecheck_policy import WINDOWS, is_principal, is_turn, is_window
from jamjet_dsl.source import Span
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node


def lower_policy(info: AgentInfo, parts: Parts) -> tuple[d.Rule, ...]:
    """The rules; each limit and each redacted path is a rule of its own."""
    assert info.policy is not None
    found: list[d.Rule] = []
    for node in info.policy.rules:
        for span, rule in _rules(node, parts):
            parts.note(f"{info.name}/rules/{len(found)}", span)
            found.append(rule)
    return tuple(found)


def _rules(node: Node, parts: Parts) -> Iterator[tuple[Span, d.Rule]]:
    match node:
        case ast.LimitRule(limits=limits):
            for limit in limits:
                yield limit.span, d.Rule(kind="limit", limit=_limit(limit, parts))
        case ast.RedactRule(paths=paths):
            for path in paths:
                yield path.span, d.Rule(kind="redact", path=tuple(n.text for n in path.names))
        case _:
            yield node.span, _rule(node, parts)


def _rule(node: Node, parts: Parts) -> d.Rule:
    when = getattr(node, "when", None)
    condition = parts.expr(when) if when is not None else None
    match node:
        case ast.AllowRule(tools=tools, because=because):
            reason = str(because.value) if because is not None else None
            return d.Rule(kind="allow", tools=_tools(tools, parts), when=condition, because=reason)
        case ast.ForbidRule(tools=tools):
            return d.Rule(kind="forbid", tools=_tools(tools, parts), when=condition)
        case ast.RequireAnyRule(tools=reads, alias=alias, before=before):
            return d.Rule(
                kind="require_any",
                reads=_tools(reads, parts),
                bind=alias.text if alias is not None else None,
                tools=_tools(before, parts),
                when=condition,
            )
        case ast.RequireReadRule(call=call, alias=alias, before=before):
            return d.Rule(
                kind="require_read",
                call=parts.call(call),
                bind=alias.text if alias is not None else None,
                tools=_tools(before, parts),
                when=condition,
            )
        case ast.RequireAskRule(ask=ask, before=before):
            return d.Rule(kind="require_ask", ask=ask.text, tools=_tools(before, parts), when=condition)
        case ast.RequirePeopleRule(count=count, role=role, excluding=excluding, before=before):
            return d.Rule(
                kind="require_people",
                count=parts.integer(count),
                role=str(role.value),
                excluding=excluding.text if excluding is not None else None,
                tools=_tools(before, parts),
                when=condition,
            )
        case ast.NeverRule(tools=tools, after=after):
            return d.Rule(kind="never", tools=_tools(tools, parts), after=_tools(after, parts), when=condition)
        case ast.FactRule(name=name, call=call, within=within, tools=only):
            return d.Rule(
                kind="fact",
                name=name.text,
                call=parts.call(call),
                within_ms=parts.ms(within),
                tools=_tools(only, parts) if only is not None else None,
            )
    raise AssertionError(f"no rule: {type(node).__name__}")


def _tools(tools: ast.ToolSet, parts: Parts) -> d.ToolSetDef:
    return d.ToolSetDef.model_validate(
        {"names": tuple(parts.tool(n) for n in tools.names), "classes": tuple(c.text for c in tools.classes)}
    )


def _limit(limit: ast.LimitCalls | ast.LimitTotal, parts: Parts) -> d.LimitDef:
    """`per principal` widens the count to all runs of the principal, `per day` is a window, `per turn` is since a model
    last answered; other `per` group."""
    window = next((WINDOWS[p.name] for p in limit.per if isinstance(p, ast.Ident) and is_window(p)), None)
    words = [p for p in limit.per if is_window(p) or is_turn(p) or is_principal(p)]
    total = limit if isinstance(limit, ast.LimitTotal) else None
    return d.LimitDef(
        tools=_tools(limit.tools, parts),
        count=parts.integer(limit.count) if isinstance(limit, ast.LimitCalls) else None,
        amount=parts.expr(total.amount) if total is not None else None,
        bound=parts.expr(total.bound) if total is not None else None,
        per=tuple(parts.expr(p) for p in limit.per if p not in words),
        principal=any(is_principal(p) for p in limit.per),
        turn=any(is_turn(p) for p in limit.per),
        window_ms=window,
    )
