"""A granted call finds its grant on every path (JAM604): one was given, and no call before has used it up.

The search runs over states with the number of grants that are left there. An edge of an ask that approves adds
one, a `call approved` takes one on every way out of it but a denial. The items of an `each` come one after the other
here, and each branch of a `parallel` also after all the others: they share what was granted outside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import NamedTuple, TypeAlias

from jamjet_dsl.analysis.checks.callsites import CallSites, Site, approving_edges
from jamjet_dsl.analysis.checks.paths import edge_text, enclosing, region_text
from jamjet_dsl.analysis.model import FlowEdge, FlowRegion, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label, PathStep
from jamjet_dsl.source import Span
from jamjet_dsl.syntax import ast

_MOST = 3
"""Grants are counted up to here; more are as good."""


class _Stop(NamedTuple):
    """A state and the grants left in it. `inside`: its branches or items have begun."""

    state: FlowState
    left: int
    inside: bool = False


def check_grants(calls: CallSites, refused: Collection[Span]) -> Iterator[Diagnostic]:
    """JAM604 of one agent. Of the calls at `refused` it was said already that no approval comes before them."""
    granted: dict[FlowState, Site] = {}
    for site in calls.sites:
        if site.how == "approved" and site.state is not None and site.asks:
            granted.setdefault(site.state, site)
    for state, site in granted.items():
        if site.span not in refused:
            sharing = {s: other for s, other in granted.items() if _share(site, other)}
            yield from _check(state, site, sharing, calls)


def _share(site: Site, other: Site) -> bool:
    """Whether two calls may use one grant."""
    return site.tool is other.tool and not set(site.asks).isdisjoint(other.asks)


def _check(state: FlowState, site: Site, sharing: dict[FlowState, Site], calls: CallSites) -> Iterator[Diagnostic]:
    granting = {edge for ask in site.asks for edge in approving_edges(ask)}
    came = _search(state, granting, sharing, calls)
    end = _Stop(state, 0)
    if end not in came:
        return
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
    yield Diagnostic("JAM604", message, site.span, labels, why, help, path, calls.agent.name)


_Way: TypeAlias = FlowEdge | FlowRegion | None
"""How a stop is left: by an edge, into a branch or an item, or (None) at the end of one."""


def _search(
    goal: FlowState, granting: Collection[FlowEdge], sharing: Collection[FlowState], calls: CallSites
) -> dict[_Stop, tuple[_Stop, _Way] | None]:
    """Each stop that can be reached, with the one before it and how it was left, until `goal` is without a grant."""
    region = calls.agent.flow
    if region is None or region.start is None:
        return {}
    begin = _Stop(region.start, 0)
    came: dict[_Stop, tuple[_Stop, _Way] | None] = {begin: None}
    todo = deque((begin,))
    while todo:
        at = todo.popleft()
        if at.state is goal and at.left == 0:
            break
        for way, following in _following(at, granting, sharing, calls):
            if following not in came:
                came[following] = (at, way)
                todo.append(following)
    return came


def _following(
    at: _Stop, granting: Collection[FlowEdge], sharing: Collection[FlowState], calls: CallSites
) -> Iterator[tuple[_Way, _Stop]]:
    state = at.state
    each = isinstance(state.action, ast.EachAction)
    for body in state.bodies if each or not at.inside else ():
        beside = sum(_uses(other, sharing) for other in state.bodies if other is not body)
        for left in {at.left, max(at.left - beside, 0)}:
            if body.start is not None:
                yield body, _Stop(body.start, left)
    for edge in state.out:
        if edge.target is not None and edge.origin != "exceeded" and calls.possible(edge):
            yield edge, _Stop(edge.target, _after(at.left, edge, granting, sharing))
    owner = state.region.owner
    if owner is not None:
        ends = [edge for edge in state.out if edge.target is None]
        for left in {_after(at.left, edge, granting, sharing) for edge in ends} or {_at_end(at, sharing)}:
            yield None, _Stop(owner, left, inside=True)


def _uses(body: FlowRegion, sharing: Collection[FlowState]) -> int:
    """How many grants a branch may use up, counted by the states that use one."""
    return sum(1 for state in sharing if any(stop.region is body for stop in enclosing(state)))


def _after(left: int, edge: FlowEdge, granting: Collection[FlowEdge], sharing: Collection[FlowState]) -> int:
    if edge.source in sharing and not isinstance(edge.trigger, ast.OnDenied):
        return max(left - 1, 0)
    return min(left + 1, _MOST) if edge in granting else left


def _at_end(at: _Stop, sharing: Collection[FlowState]) -> int:
    """What is left when a branch or an item ends in a state without an edge that says so, or fails there."""
    return max(at.left - 1, 0) if at.state in sharing else at.left


def _path(
    came: dict[_Stop, tuple[_Stop, _Way] | None], end: _Stop, sharing: Collection[FlowState]
) -> tuple[tuple[PathStep, ...], FlowState | None]:
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
