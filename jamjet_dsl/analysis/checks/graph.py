"""Checks of the shape of the graph: where it starts, what is reached, where it gets stuck.

All of them treat every edge as one that may be taken. What is reported as unreachable, as a trap or as
without a way to a final is so for certain; what is not reported may still never happen for reasons of data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from jamjet_dsl.analysis.checks.facts import written_edges
from jamjet_dsl.analysis.checks.paths import (
    components,
    cycle_through,
    cyclic_components,
    path_steps,
    reachable,
    reaching,
    regions,
)
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowEdge, FlowRegion, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.syntax import ast

_MOST_LABELS = 5


def check_graph(agent: AgentInfo, analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM201, JAM202, JAM203, JAM204 and JAM215 of one agent."""
    yield from _starts(agent)
    for region in regions(agent.flow):
        yield from _unreachable(region)
        yield from _idle_cycles(region, agent.name)
    if agent.flow is not None:
        yield from _stuck(agent.flow)


# ---- where it starts


def _starts(agent: AgentInfo) -> Iterator[Diagnostic]:
    """JAM201. In a branch or an item the first state is the start if none says so."""
    states = [m for m in agent.decl.members if isinstance(m, (ast.StateDecl, ast.ParallelDecl))]
    starts = [s for s in states if s.start]
    if not states:
        yield Diagnostic(
            "JAM201",
            f"agent `{agent.name}` has no states",
            agent.decl.name.span,
            why="a run begins in the start state",
            help="add `start state first { … }` and a final",
        )
    elif not starts:
        yield Diagnostic(
            "JAM201",
            f"agent `{agent.name}` has no start state",
            agent.decl.name.span,
            labels=(Label(states[0].name.span, "the first state"),),
            why="a run begins in the start state",
            help=f"write `start` before the state that comes first: `start state {states[0].name.text}`",
        )
    for extra in starts[1:]:
        yield Diagnostic(
            "JAM201",
            f"`{extra.name.text}` is a second start state",
            extra.name.span,
            labels=(Label(starts[0].name.span, "the first one"),),
            why="a run begins in one place",
            help="remove one `start`",
        )


# ---- unreachable states


def _unreachable(region: FlowRegion) -> Iterator[Diagnostic]:
    """JAM202. States that are only reached from unreachable ones are named with the one that leads to them."""
    if region.start is None:
        return
    lost = dict.fromkeys(region.states.values())
    for state in reachable(region.start):
        lost.pop(state, None)
    named: set[FlowState] = set()
    for component in reversed(components(lost)):
        head = min(component, key=lambda s: s.span.start)
        if head in named:
            continue
        behind = _behind(head, lost, named)
        labels = tuple(Label(s.span, "only reached from there") for s in behind[:_MOST_LABELS])
        others = f", nor the {_count(behind)} behind it" if behind else ""
        yield Diagnostic(
            "JAM202",
            f"no path reaches {_what(head)} `{head.name}`{others}",
            head.span,
            labels=labels,
            why="no edge of a state that is reached leads here, and no handler does",
            help=f"add an edge `-> {head.name}`, or remove it",
        )


def _behind(head: FlowState, lost: Collection[FlowState], named: set[FlowState]) -> list[FlowState]:
    """The unreachable states that `head` leads to and that were not named yet, in source order; they are now."""
    found: list[FlowState] = []
    named.add(head)
    todo = [head]
    while todo:
        for edge in todo.pop().out:
            target = edge.target
            if target is not None and target in lost and target not in named:
                named.add(target)
                found.append(target)
                todo.append(target)
    found.sort(key=lambda s: s.span.start)
    return found


def _count(states: list[FlowState]) -> str:
    return f"{len(states)} states" if len(states) > 1 else "state"


def _what(state: FlowState) -> str:
    match state.decl:
        case ast.FinalDecl():
            return "final"
        case ast.ParallelDecl():
            return "parallel"
        case _:
            return "state"


# ---- states that cannot go on


def _leaves_normally(edge: ast.Edge) -> bool:
    """Whether an edge may be taken when the action went well. An event alone is no way on: nobody waits for it."""
    return isinstance(edge.trigger, (ast.Always, ast.When, ast.Otherwise, ast.OnOption, ast.OnJoin))


def _stuck(region: FlowRegion) -> Iterator[Diagnostic]:
    """JAM203 and JAM204. Of states that only lead into such a place, nothing more is said; an answer without an
    edge is JAM212 where it is offered."""
    traps: set[FlowState] = set()
    for state in region.states.values():
        if state.final or any(map(_leaves_normally, written_edges(state))):
            continue
        traps.add(state)
        if not isinstance(state.action, ast.AskAction):
            yield _trap(state)
    finals = [s for s in region.states.values() if s.final]
    if not finals:
        owner = region.start
        if owner is not None and not traps:
            yield Diagnostic(
                "JAM204",
                f"agent `{region.name}` has no final",
                owner.span,
                why="a run ends by entering a final",
                help="add `final done { … }` and an edge to it",
            )
        return
    for component in endless(region):
        if traps.isdisjoint(component):
            yield _no_way_out(component)


def endless(region: FlowRegion) -> list[list[FlowState]]:
    """The places that a run cannot leave and in which there is no final: components, each in source order."""
    ends = reaching((s for s in region.states.values() if s.final), _counts_as_a_way_out)
    stuck = [s for s in region.states.values() if s not in ends]
    found = []
    for component in components(stuck, _counts_as_a_way_out):
        inside = set(component)
        if all(e.target in inside for s in component for e in s.out if _counts_as_a_way_out(e)):
            found.append(sorted(component, key=lambda s: s.span.start))
    return found


def _counts_as_a_way_out(edge: FlowEdge) -> bool:
    """An agent that can only end by using up its budget or by being cancelled was not meant to end at all."""
    return edge.origin != "exceeded" and not isinstance(edge.trigger, ast.OnCancel)


def _trap(state: FlowState) -> Diagnostic:
    edges = written_edges(state)
    if any(isinstance(e.trigger, ast.OnEvent) for e in edges):
        why = "an event is only looked for when the action is done; a state without another edge cannot wait for it"
        help = "wait for it with `wait for event`, or add an edge `-> …` for when it has not come"
    elif edges:
        why = "its edges are for things that go wrong; when the action goes well, none fits"
        help = "add an edge `-> …` for the normal outcome"
    else:
        why = "a run that enters it could neither go on nor end"
        help = "add an edge `-> …`, or make it a `final`"
    return Diagnostic("JAM203", f"{_what(state)} `{state.name}` has no way on", state.span, why=why, help=help)


def _no_way_out(component: list[FlowState]) -> Diagnostic:
    first = component[0]
    inside = set(component)
    cycle = cycle_through(first, inside, _counts_as_a_way_out)
    names = [f"`{s.name}`" for s in component[:3]]
    if len(component) > len(names):
        names.append(f"{len(component) - len(names)} more")
    listed = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
    return Diagnostic(
        "JAM204",
        f"no final is reachable from {listed}",
        first.span,
        labels=tuple(Label(s.span, "nor from here") for s in component[1 : 1 + _MOST_LABELS]),
        why="a run that gets here could only end by using up its budget, or by being cancelled",
        help="add an edge that leads to a final",
        path=path_steps(first, cycle),
    )


# ---- cycles that do nothing


def _idle_cycles(region: FlowRegion, agent: str) -> Iterator[Diagnostic]:
    """JAM215: a cycle without an action that either never ends (no limit on it) or changes nothing (no `set`)."""
    idle = [s for s in region.states.values() if s.action is None and not s.final and not s.bodies]
    setting = {s for s in idle if ast.clause(s.clauses, ast.SetClause) is not None}
    told: set[FlowState] = set()
    for follow, why in (
        (unlimited, "nothing on it takes time or counts as a step, so no budget would ever end it"),
        (
            lambda edge: edge.source not in setting and _changes_nothing(edge),
            "nothing on it changes anything, so every round would decide like the first one",
        ),
    ):
        for component in cyclic_components(idle, follow):
            if not told.isdisjoint(component):
                continue
            told.update(component)
            first = component[0]
            yield Diagnostic(
                "JAM215",
                f"the cycle through `{first.name}` does nothing",
                first.span,
                why=why,
                help="let a state on it act (`wait`, `call`, `ask`, …), or leave the cycle",
                path=path_steps(first, cycle_through(first, component, follow)),
                agent=agent,
            )


def unlimited(edge: FlowEdge) -> bool:
    """Whether an edge may be taken any number of times. The alternative of a limit may: it has none itself. The
    budget is exceeded only once."""
    if edge.origin == "edge":
        return edge.edge is None or edge.edge.limit is None
    return edge.origin != "exceeded"


def _changes_nothing(edge: FlowEdge) -> bool:
    """Whether nothing happens on the way of an edge: no `set`, and no event that is taken."""
    written = edge.edge
    if written is not None and (written.sets or isinstance(written.trigger, ast.OnEvent)):
        return False
    return edge.origin != "exceeded"
