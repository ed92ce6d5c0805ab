"""A granted call finds its grant on every path (JAM604): one was given, and no call before has used it up.

The search runs over states with the number of grants that are left there. An edge of an ask that approves adds one, a
`call approved` takes one on every way out of it but a denial. The items of an `each` come one after the other here,
and so do the branches of a `parallel`: what they leave is what is left after a join of all. Besides, each branch is
looked at alone, after the others have taken what they may and given nothing: they share what was granted outside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import NamedTuple, TypeAlias

from jamjet_dsl.analysis.checks.callsites import CallSites, Site, approving_edges
from jamjet_dsl.analysis.checks.joins import may_end_well, wanted
from jamjet_dsl.analysis.checks.paths import edge_text, enclosing, region_text
from jamjet_dsl.analysis.checks.variables import after_success
from jamjet_dsl.analysis.model import FlowEdge, FlowRegion, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label, PathStep
from jamjet_dsl.source import Span
from jamjet_dsl.syntax import ast

_MOST = 3
"""Grants are counted up to here; more are as good."""
_MOST_WORK = 100_000
"""Stops that the searches of one agent may look at; what is left then is not looked for."""
_LOST = -1
"""In place of a count: a branch or an item has failed, and the state around it fails with it."""


class _Stop(NamedTuple):
    """A state and the grants left in it. `ended` counts its branches, or says that it had an item. `alone` is the
    branch that is looked at for itself: its end leads nowhere."""

    state: FlowState
    left: int
    ended: int = 0
    alone: FlowRegion | None = None


_Way: TypeAlias = FlowEdge | FlowRegion | None
"""How a stop is left: by an edge, into a branch or an item, or (None) at the end of one."""
_Came: TypeAlias = dict[_Stop, tuple[_Stop, _Way] | None]


def check_grants(calls: CallSites, refused: Collection[Span]) -> Iterator[Diagnostic]:
    """JAM604 of one agent. Of the calls at `refused` it was said already that no approval comes before them."""
    granted: dict[FlowState, Site] = {}
    for site in calls.sites:
        if site.how == "approved" and site.state is not None and site.asks:
            granted.setdefault(site.state, site)
    groups: dict[tuple[ast.ToolDecl, tuple[FlowState, ...]], list[FlowState]] = {}
    for state, site in granted.items():
        groups.setdefault((site.tool, site.asks), []).append(state)
    work = 0
    for (tool, asks), states in groups.items():
        shared = (other for other in groups if other[0] is tool and not set(asks).isdisjoint(other[1]))
        sharing = {state: granted[state] for other in shared for state in groups[other]}
        if work > _MOST_WORK or all(granted[state].span in refused for state in states):
            continue
        granting = {edge for ask in asks for edge in approving_edges(ask)}
        came = _search(granting, sharing, calls)
        work += len(came)
        lacking: dict[FlowState, _Stop] = {}
        for stop in came:
            if stop.left == 0:
                lacking.setdefault(stop.state, stop)
        for state in states:
            if state in lacking and granted[state].span not in refused:
                yield _lacking(state, granted[state], sharing, came, lacking[state], calls.agent.name)


def _lacking(
    state: FlowState, site: Site, sharing: dict[FlowState, Site], came: _Came, end: _Stop, agent: str
) -> Diagnostic:
    path, used = _path(came, end, sharing)
    asked = tuple(Label(ask.span, "granted here") for ask in site.asks[:3])
    if used is None:
        message = f"`{site.name}` can be reached without its grant"
        why = "`call approved` performs a call that somebody approved, and nobody has on this path"
        help = f"lead every path to this call through an option of `{site.asks[0].name}` that approves"
        labels = asked
    else:
        message = f"the grant of `{site.name}` may be used up"
        why = "an approval grants one call, and its attempt uses it up, whatever comes of it"
        help = f"ask again first: lead the path through `{site.asks[0].name}`"
        labels = (*asked, Label(sharing[used].span, "used up here")) if used is not state else asked
    return Diagnostic("JAM604", message, site.span, labels, why, help, path, agent)


def _search(granting: Collection[FlowEdge], sharing: Collection[FlowState], calls: CallSites) -> _Came:
    """Every stop that is reached, the nearest first, each with the one before it and how that was left."""
    region = calls.agent.flow
    if region is None or region.start is None:
        return {}
    begin = _Stop(region.start, 0)
    came: _Came = {begin: None}
    todo = deque((begin,))
    while todo:
        at = todo.popleft()
        for way, following in _following(at, granting, sharing, calls):
            if following not in came:
                came[following] = (at, way)
                todo.append(following)
    return came


def _following(
    at: _Stop, granting: Collection[FlowEdge], sharing: Collection[FlowState], calls: CallSites
) -> Iterator[tuple[_Way, _Stop]]:
    state = at.state
    if state.bodies:
        yield from _inside(at, sharing)
    whole = isinstance(state.decl, ast.ParallelDecl) and wanted(state, calls.analysis).needed == len(state.bodies)
    for edge in state.out:
        if edge.target is None or edge.origin == "exceeded" or not calls.possible(edge):
            continue
        if not (whole and after_success(edge.trigger) and at.ended < len(state.bodies)):
            yield edge, _Stop(edge.target, _after(at.left, edge, granting, sharing), alone=at.alone)
    owner = state.region.owner
    if owner is not None and at.alone is not state.region:
        for left, ended in _ends(at, owner, sharing, calls):
            yield None, _Stop(owner, left, ended, at.alone)


def _ends(at: _Stop, owner: FlowState, sharing: Collection[FlowState], calls: CallSites) -> Iterator[tuple[int, int]]:
    """The ways in which a branch or an item may end in a state: what is left, and what that makes of `ended`."""
    state = at.state
    after = owner.bodies.index(state.region) + 1
    needed = wanted(owner, calls.analysis).needed if isinstance(owner.decl, ast.ParallelDecl) else 0
    lost = _LOST if needed == len(owner.bodies) else after
    for edge in state.out:
        if edge.target is None and calls.possible(edge):
            skipped = edge.edge is not None and edge.edge.skip
            yield _after(at.left, edge, (), sharing), lost if skipped else after
    left = max(at.left - 1, 0) if state in sharing else at.left
    if may_end_well(state, calls.possible):
        yield left, after
    if not state.final or state.failed:
        yield left, lost if needed else _LOST


def _inside(at: _Stop, sharing: Collection[FlowState]) -> Iterator[tuple[_Way, _Stop]]:
    """The ways into the branches or the items of a state."""
    bodies = at.state.bodies
    each = isinstance(at.state.action, ast.EachAction)
    if at.ended == _LOST:
        return
    following = bodies[0] if each else bodies[at.ended] if at.ended < len(bodies) else None
    if following is not None and following.start is not None:
        yield following, _Stop(following.start, at.left, alone=at.alone)
    for body in bodies if not each and at.ended == 0 else ():
        beside = sum(_uses(other, sharing) for other in bodies if other is not body)
        if body.start is not None:
            yield body, _Stop(body.start, max(at.left - beside, 0), alone=body)


def _uses(body: FlowRegion, sharing: Collection[FlowState]) -> int:
    """How many grants a branch may use up, counted by the states that use one."""
    return sum(1 for state in sharing if any(stop.region is body for stop in enclosing(state)))


def _after(left: int, edge: FlowEdge, granting: Collection[FlowEdge], sharing: Collection[FlowState]) -> int:
    if edge.source in sharing and not isinstance(edge.trigger, ast.OnDenied):
        return max(left - 1, 0)
    return min(left + 1, _MOST) if edge in granting else left


def _path(came: _Came, end: _Stop, sharing: Collection[FlowState]) -> tuple[tuple[PathStep, ...], FlowState | None]:
    """The path to a stop, and the state on it that used up the last grant, if one did."""
    steps = [PathStep(end.state.path, end.state.span)]
    used: FlowState | None = None
    at = end
    while (before := came[at]) is not None:
        stop, way = before
        if used is None and at.left < stop.left:
            used = stop.state if stop.state in sharing else _beside(stop.state, at.state, sharing)
        steps.append(_step(stop.state, way))
        at = stop
    steps.reverse()
    return tuple(steps), used


def _step(state: FlowState, way: _Way) -> PathStep:
    match way:
        case FlowEdge():
            return PathStep(state.path, state.span, edge_text(way), way.id)
        case FlowRegion():
            return PathStep(state.path, state.span, region_text(way))
        case None:
            return PathStep(state.path, state.span, "ends")


def _beside(owner: FlowState, start: FlowState, sharing: Collection[FlowState]) -> FlowState | None:
    """A state of another branch of a `parallel` that uses a grant."""
    others = [body for body in owner.bodies if body is not start.region]
    return next((s for s in sharing if any(stop.region in others for stop in enclosing(s))), None)
