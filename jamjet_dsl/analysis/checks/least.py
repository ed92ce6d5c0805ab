"""Limits of a policy that no run can keep to its end: the least calls on a path are more than the limit (JAM615).

A path counts here if it ends in a final that is not `failed`. A call counts where it certainly began: where its state
is left after its success, and not in branches, items or child agents. So one that is denied does not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import heappop, heappush
from typing import NamedTuple

from jamjet_dsl.analysis.checks.callsites import CallSites, Rules
from jamjet_dsl.analysis.checks.facts import number
from jamjet_dsl.analysis.checks.paths import path_steps, source_text
from jamjet_dsl.analysis.checks.variables import after_success
from jamjet_dsl.analysis.model import FlowEdge, FlowRegion, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.syntax import ast

_MOST_LIMITS = 50
"""Limits of one policy for which a path is looked for."""


def check_limits(policy: ast.Policy, calls: CallSites, rules: Rules) -> Iterator[Diagnostic]:
    """JAM615 of one agent."""
    region = calls.agent.flow
    called = dict.fromkeys(s.tool for s in calls.sites if s.certain)
    limits = [limit for rule in ast.clauses(policy.rules, ast.LimitRule) for limit in rule.limits]
    for limit in limits[:_MOST_LIMITS]:
        if not isinstance(limit, ast.LimitCalls) or limit.per or region is None or region.start is None:
            continue
        most = number(limit.count, calls.analysis)
        tools = rules.among(limit.tools, called)
        if not tools or most is None:
            continue
        least = _Least(calls, tools).of(region)
        if least is not None and least.calls > most:
            yield Diagnostic(
                "JAM615",
                f"`{source_text(limit)}` is less than what every path to a final needs",
                limit.span,
                labels=tuple(Label(s.span, "called here") for s in calls.sites if s.certain and s.tool in tools)[:4],
                why=f"the path with the fewest calls makes {least.calls}, and what is above the limit is denied",
                help=f"raise the limit to at least {least.calls}, or give the agent a way with fewer calls",
                path=path_steps(region.start, least.edges),
                agent=calls.agent.name,
            )


class _Way(NamedTuple):
    calls: int
    edges: tuple[FlowEdge, ...]


class _Least:
    """The fewest calls of some tools on a way to an end."""

    def __init__(self, calls: CallSites, tools: Collection[ast.ToolDecl]) -> None:
        self.calls = calls
        self.certain = {s.state for s in calls.sites if s.certain and s.tool in tools}

    def of(self, region: FlowRegion) -> _Way | None:
        """The way with the fewest calls to a final that is not `failed`; None if there is none."""
        start = region.start
        if start is None:
            return None
        best: dict[FlowState, int] = {start: 0}
        queue: list[tuple[int, int, FlowState, tuple[FlowEdge, ...]]] = [(0, 0, start, ())]
        tick = 0
        while queue:
            count, _, state, edges = heappop(queue)
            if count > best[state]:
                continue
            if state.final and not state.failed:
                return _Way(count, edges)
            made = 1 if state in self.certain else 0
            for edge in state.out:
                after = count + (made if after_success(edge.trigger) else 0)
                target = edge.target
                if target is None or edge.origin == "exceeded" or after >= best.get(target, after + 1):
                    continue
                if not self.calls.possible(edge):
                    continue
                best[target] = after
                tick += 1
                heappush(queue, (after, tick, target, (*edges, edge)))
        return None
