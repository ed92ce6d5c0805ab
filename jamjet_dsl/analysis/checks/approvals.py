"""Approvals come before the calls they guard, on every path (JAM601, JAM602), and offer those calls (JAM617).

Only the edges of an ask that grant its call count: a path that leaves the ask by another option, its timeout
or a handler has passed the question, not the approval. Paths are those of the flow graph, which has every way
that a run can go, so what is not reported holds at run time. A way that only data makes impossible is still
reported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from jamjet_dsl.analysis.checks.callsites import (
    CallSites,
    Rules,
    Site,
    ToolRules,
    approving_edges,
    granting_options,
    needs_approval,
)
from jamjet_dsl.analysis.checks.paths import Follow, path_to
from jamjet_dsl.analysis.flow import effect_of
from jamjet_dsl.analysis.model import FlowEdge, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label, PathStep
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

_PATHS = 20
"""How many findings about one approval get a path drawn; a search costs a walk over the whole graph."""


def check_approvals(calls: CallSites, rules: Rules) -> Iterator[Diagnostic]:
    """JAM601, JAM602 and JAM617 of one agent."""
    guards = _Dominance(calls)
    for site in calls.sites:
        if site.how in ("direct", "proposed", "approved", "finally"):
            yield from _check_site(site, calls, rules.of(site.tool), guards)
    yield from _not_offered(calls, rules)


class _Dominance:
    """For a set of edges, the states that a run can reach without taking one of them; each set once."""

    def __init__(self, calls: CallSites) -> None:
        self.calls = calls
        self._open: dict[frozenset[FlowEdge], set[FlowState]] = {}
        self._drawn: dict[frozenset[FlowEdge], int] = {}

    def avoids(self, state: FlowState | None, edges: frozenset[FlowEdge]) -> bool:
        """Whether a path reaches the state (None: the end of the run) without any of the edges."""
        reached = self._open.get(edges)
        if reached is None:
            reached = self._open[edges] = states_without(self.calls, edges)
        if state is None:
            return any(s.final for s in reached)
        return state in reached

    def path(self, state: FlowState | None, edges: frozenset[FlowEdge]) -> tuple[PathStep, ...]:
        """A shortest such path; empty once enough were drawn."""
        self._drawn[edges] = self._drawn.get(edges, 0) + 1
        if self._drawn[edges] > _PATHS:
            return ()
        goal = state or next((s for s in self._open[edges] if s.final), None)
        return (path_to(goal, _without(edges)) or ()) if goal is not None else ()


def _without(edges: Collection[FlowEdge]) -> Follow:
    return lambda edge: edge not in edges


def states_without(calls: CallSites, edges: Collection[FlowEdge]) -> set[FlowState]:
    """The states, in branches and items too, that a run can enter without taking any of the edges."""
    start = calls.agent.flow.start if calls.agent.flow is not None else None
    todo = [start] if start is not None else []
    seen = set(todo)
    while todo:
        state = todo.pop()
        following = [e.target for e in state.out if e not in edges] + [b.start for b in state.bodies]
        for target in following:
            if target is not None and target not in seen:
                seen.add(target)
                todo.append(target)
    return seen


# ---- one call


def _check_site(site: Site, calls: CallSites, rules: ToolRules, guards: _Dominance) -> Iterator[Diagnostic]:
    if not needs_approval(site.tool, rules):
        return
    if site.how == "proposed":
        # The policy denies a proposed call that was not approved; that is what it is for. Only a tool that can
        # never be approved anywhere is a mistake.
        if not calls.offers.get(site.tool):
            yield _never_approved(site, guards)
        return
    required = [r for r in rules.requires if r.when is None]
    told = False
    for rule in required:
        asks = _asks_of(rule, calls)
        for found in _guarded(site, "JAM602", asks, f"the approval of `{rule.ask.text}`", rule, guards):
            told = True
            yield found
    for people in (r for r in rules.people if r.when is None):
        who = f'the approval by {people.count.span.text} of "{people.role.value}"'
        for found in _guarded(site, "JAM602", calls.offers.get(site.tool, []), who, people, guards):
            told = True
            yield found
    if not told and not required and effect_of(site.tool) == "irreversible" and not rules.waived:
        asks = list(site.asks) if site.how == "approved" else calls.offers.get(site.tool, [])
        yield from _guarded(site, "JAM601", asks, "an approval", None, guards)


def _asks_of(rule: ast.RequireAskRule, calls: CallSites) -> list[FlowState]:
    return [s for s in calls.states if s.name == rule.ask.text and isinstance(s.action, ast.AskAction)]


def _guarded(
    site: Site,
    code: str,
    asks: list[FlowState],
    what: str,
    rule: ast.RequireAskRule | ast.RequirePeopleRule | None,
    guards: _Dominance,
) -> Iterator[Diagnostic]:
    """The finding that a call is not behind the granting edges of some asks, if it is not."""
    edges = frozenset(e for ask in asks for e in approving_edges(ask))
    labels = _labels(rule, asks)
    if guards.avoids(site.state, edges):
        yield Diagnostic(
            code,
            f"`{site.name}` can be called without {what}",
            site.span,
            labels=labels,
            why=_why(rule, asks, edges),
            help=_help(site, asks),
            path=guards.path(site.state, edges),
            agent=guards.calls.agent.name,
        )
    elif not edges and asks and guards.avoids(asks[0], frozenset()):
        yield _leads_nowhere(site, code, asks[0], labels, guards)
    elif site.how != "approved" and guards.avoids(site.state, frozenset()):
        yield Diagnostic(
            code,
            f"`call {site.name}` is a new call, not the one that was approved",
            site.span,
            labels=labels,
            why="an approval grants the very call that was shown, with its arguments, once",
            help=f"write `call approved {site.name}`",
            path=guards.path(site.state, frozenset()),
            agent=guards.calls.agent.name,
        )


def _labels(rule: ast.RequireAskRule | ast.RequirePeopleRule | None, asks: list[FlowState]) -> tuple[Label, ...]:
    if rule is not None:
        return (Label(rule.span, "required here"),)
    return tuple(Label(ask.span, "asked here") for ask in asks[:3])


def _why(rule: Node | None, asks: list[FlowState], edges: frozenset[FlowEdge]) -> str:
    if not asks:
        return "an irreversible call needs a person's approval, and no ask of this agent offers it"
    options = sorted({f"`on {o}`" for ask in asks for o in granting_options(ask)})
    through = " or ".join(f"`{ask.name}`" for ask in asks[:3])
    taken = " or ".join(options) if options else "an option that approves"
    if rule is None:
        return f"an irreversible call needs a person's approval, and this path does not leave {through} by {taken}"
    return f"only {taken} of {through} approves the call, and this path does not take it"


def _help(site: Site, asks: list[FlowState]) -> str:
    if not asks:
        return (
            f'ask first: `ask role "…" to {site.name}(…)` with `on approve ->` a state that does '
            f'`call approved {site.name}`; or waive it: `allow {site.name} without approval because "…"`'
        )
    option = (granting_options(asks[0]) or ["approve"])[0]
    return f"lead every path to this call through `on {option}` of `{asks[0].name}`"


def _leads_nowhere(site: Site, code: str, ask: FlowState, labels: tuple[Label, ...], guards: _Dominance) -> Diagnostic:
    """The call cannot be reached at all, because the approval has no edge."""
    option = (granting_options(ask) or ["approve"])[0]
    path = path_to(ask) or ()
    if path:
        path = (*path[:-1], PathStep(ask.path, ask.span, f"on {option} (no edge)"))
    return Diagnostic(
        code,
        f"`{ask.name}` can approve `{site.name}`, but no edge leads from its approval to the call",
        site.span,
        labels=labels,
        why=f"`on {option}` of `{ask.name}` is the way to this call, and it is missing",
        help=f"add `on {option} -> …` to `{ask.name}`",
        path=path,
        agent=guards.calls.agent.name,
    )


def _never_approved(site: Site, guards: _Dominance) -> Diagnostic:
    reachable = guards.avoids(site.state, frozenset())
    return Diagnostic(
        "JAM601",
        f"`{site.name}` can be proposed here and can never be approved",
        site.span,
        labels=(Label(site.tool.name.span, "needs an approval"),),
        why="no ask of this agent offers the call, so the policy denies it every time",
        help=f'add a state with `ask role "…" to proposed …`, or take `{site.name}` out of the `tools`',
        path=guards.path(site.state, frozenset()) if reachable else (),
        agent=guards.calls.agent.name,
    )


# ---- JAM617


def _not_offered(calls: CallSites, rules: Rules) -> Iterator[Diagnostic]:
    """An approval is required before a tool that is called here, and the ask does not offer the call."""
    called = dict.fromkeys(s.tool for s in calls.sites if s.how in ("direct", "proposed", "approved", "finally"))
    for rule in rules.policy.rules if rules.policy is not None else ():
        match rule:
            case ast.RequireAskRule(ask=name, before=before):
                asks = _asks_of(rule, calls)
                for tool in rules.among(before, called) if asks else ():
                    if asks[0] not in calls.offers.get(tool, []):
                        yield _no_offer(tool, name, asks[0])
            case ast.RequirePeopleRule(before=before, role=role):
                for tool in rules.among(before, called):
                    if not calls.offers.get(tool):
                        yield Diagnostic(
                            "JAM617",
                            f"no ask of this agent offers `{tool.name.text}` for approval",
                            rule.span,
                            why="an approval grants one call, which the question has to show",
                            help=f'add a state with `ask role "{role.value}" to {tool.name.text}(…)`',
                        )
            case _:
                pass


def _no_offer(tool: ast.ToolDecl, name: ast.Name, ask: FlowState) -> Diagnostic:
    assert isinstance(ask.action, ast.AskAction)
    return Diagnostic(
        "JAM617",
        f"`{name.text}` does not offer `{tool.name.text}` for approval",
        name.span,
        labels=(Label(ask.action.role.span, "this question shows no such call"),),
        why="an approval grants one call, which the question has to show",
        help=f"write `ask role {ask.action.role.span.text} to {tool.name.text}(…)` in `{name.text}`",
    )
