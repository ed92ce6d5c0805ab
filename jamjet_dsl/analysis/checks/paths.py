"""Paths through a flow graph: reachability, shortest paths with readable text, cycles.

Every function here treats each edge of the graph as one that may be taken, so a path that is found may be
impossible for reasons of data, and a path that is not found does not exist. All of them are iterative and
linear in the edges they see: a state graph of a thousand states is ordinary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

from jamjet_dsl.analysis.model import FlowEdge, FlowRegion, FlowState
from jamjet_dsl.diagnostics.model import PathStep
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

Follow: TypeAlias = Callable[[FlowEdge], bool]
"""Which edges a search may use. None stands for all of them."""

_LONGEST_GUARD = 60


# ---- words for edges


def source_text(node: Node, longest: int = _LONGEST_GUARD) -> str:
    """The text of a node on one line, cut at `longest` characters."""
    text = " ".join(node.span.text.split())
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def trigger_text(trigger: ast.Trigger | None) -> str:
    """A trigger as a person reads it: `when report.score < 580`, `on approve`, `otherwise`, `then`."""
    match trigger:
        case None | ast.Always():
            return "then"
        case ast.When(condition=condition):
            return f"when {source_text(condition)}"
        case ast.Otherwise():
            return "otherwise"
        case ast.OnError(any=True):
            return "on error any"
        case ast.OnError(errors=errors):
            return "on error " + ", ".join(e.text for e in errors)
        case ast.OnTimeout():
            return "on timeout"
        case ast.OnDenied():
            return "on denied"
        case ast.OnInDoubt():
            return "on in_doubt"
        case ast.OnJoin():
            return "on join"
        case ast.OnCancel():
            return "on cancel"
        case ast.OnEvent(event=event):
            return f"on event {event.text}"
        case ast.OnOption(option=option):
            return f"on {option.text}"
        case _:
            return source_text(trigger)


def edge_text(edge: FlowEdge) -> str:
    """An edge as a person reads it, with where it comes from if it is not written in its state."""
    match edge.origin:
        case "exceeded":
            return "budget exceeded"
        case "handler":
            return f"{trigger_text(edge.trigger)} (handler)"
        case "else":
            return f"{trigger_text(edge.trigger)}, limit used up"
        case _:
            return trigger_text(edge.trigger)


def path_steps(start: FlowState, edges: Iterable[FlowEdge]) -> tuple[PathStep, ...]:
    """The stops of a walk that begins at `start` and takes `edges` in order."""
    stops: list[PathStep] = []
    at = start
    for edge in edges:
        stops.append(PathStep(at.path, at.span, edge_text(edge), edge.id))
        if edge.target is None:
            return tuple(stops)
        at = edge.target
    stops.append(PathStep(at.path, at.span))
    return tuple(stops)


# ---- searches


def shortest_path(
    start: FlowState, goals: Collection[FlowState], follow: Follow | None = None
) -> list[FlowEdge] | None:
    """The edges of a shortest walk from `start` to one of `goals`; empty if `start` is one, None if none is
    reached. Of several, the one whose edges are written first."""
    if start in goals:
        return []
    came: dict[FlowState, FlowEdge | None] = {start: None}
    todo = deque((start,))
    while todo:
        for edge in todo.popleft().out:
            target = edge.target
            if target is None or target in came or (follow is not None and not follow(edge)):
                continue
            came[target] = edge
            if target in goals:
                return _walk_back(came, target)
            todo.append(target)
    return None


def _walk_back(came: dict[FlowState, FlowEdge | None], at: FlowState) -> list[FlowEdge]:
    edges: list[FlowEdge] = []
    while (edge := came[at]) is not None:
        edges.append(edge)
        at = edge.source
    edges.reverse()
    return edges


def enclosing(state: FlowState) -> list[FlowState]:
    """The states around a state, outermost first, ending with the state itself."""
    chain = [state]
    while (owner := chain[-1].region.owner) is not None:
        chain.append(owner)
    chain.reverse()
    return chain


def path_to(state: FlowState, follow: Follow | None = None) -> tuple[PathStep, ...] | None:
    """The stops of a shortest path from the start of the agent to `state`, through the branches and items
    around it; None if there is none."""
    stops: list[PathStep] = []
    chain = enclosing(state)
    for index, stop in enumerate(chain):
        start = stop.region.start
        edges = shortest_path(start, (stop,), follow) if start is not None else None
        if start is None or edges is None:
            return None
        steps = path_steps(start, edges)
        if index + 1 < len(chain):
            steps = (*steps[:-1], PathStep(stop.path, stop.span, region_text(chain[index + 1].region)))
        stops.extend(steps)
    return tuple(stops)


def path_between(
    first: FlowState, second: FlowState, leave: Follow | None = None, follow: Follow | None = None
) -> tuple[PathStep, ...] | None:
    """The stops of a path from the start of the agent through `first` and later through `second`, which may be the
    same state; None if there is none.

    `leave` says by which edges `first` may be left, `follow` which edges may be taken at all. Branches of one
    `parallel` may come in either order, and so may the items of an `each`.
    """
    begin = path_to(first, follow)
    if begin is None:
        return None
    chain, goals = enclosing(first), enclosing(second)
    for at in reversed(range(len(chain))):
        inner = chain[at]
        goal = next((s for s in goals if s.region is inner.region), None)
        if goal is None:
            continue
        for edge in inner.out:
            if edge.target is None or (follow is not None and not follow(edge)):
                continue
            if inner is first and leave is not None and not leave(edge):
                continue
            rest = shortest_path(edge.target, (goal,), follow)
            if rest is not None:
                way = path_steps(inner, [edge, *rest])
                tail = _descend(goal, second)
                return (*begin[:-1], *way[:-1], *(tail or way[-1:]))
        if goal is inner and inner is not first and inner is not second:
            each = isinstance(inner.action, ast.EachAction)
            if each or goals[at + 1].region is not chain[at + 1].region:
                stop = PathStep(first.path, first.span, "the next item" if each else "beside it")
                return (*begin[:-1], stop, *_descend(goal, second))
    return None


def _descend(outer: FlowState, state: FlowState) -> tuple[PathStep, ...]:
    """The last stops of a path to a state inside `outer`, from `outer` on."""
    if outer is state:
        return ()
    whole = path_to(state) or ()
    at = next((i for i, step in enumerate(whole) if step.state == outer.path), None)
    return whole[at:] if at is not None else ()


def region_text(region: FlowRegion) -> str:
    """The way into a branch or item, as the text of an edge."""
    return f"branch {region.name}" if region.kind == "branch" else "each item"


def reachable(start: FlowState, follow: Follow | None = None) -> set[FlowState]:
    """Every state of the region that a walk from `start` may enter, `start` included."""
    seen = {start}
    todo = [start]
    while todo:
        for edge in todo.pop().out:
            target = edge.target
            if target is not None and target not in seen and (follow is None or follow(edge)):
                seen.add(target)
                todo.append(target)
    return seen


def reaching(goals: Iterable[FlowState], follow: Follow | None = None) -> set[FlowState]:
    """Every state from which a walk may enter one of `goals`, the goals included."""
    seen = set(goals)
    todo = list(seen)
    while todo:
        for edge in todo.pop().into:
            if edge.source not in seen and (follow is None or follow(edge)):
                seen.add(edge.source)
                todo.append(edge.source)
    return seen


def reverse_postorder(start: FlowState) -> list[FlowState]:
    """The states that are reachable from `start`, each after those that lead to it, cycles apart: the order in
    which a forward analysis settles in the fewest rounds."""
    order: list[FlowState] = []
    seen = {start}
    work = [(start, iter(start.out))]
    while work:
        state, edges = work[-1]
        for edge in edges:
            target = edge.target
            if target is not None and target not in seen:
                seen.add(target)
                work.append((target, iter(target.out)))
                break
        else:
            work.pop()
            order.append(state)
    order.reverse()
    return order


def regions(region: FlowRegion | None) -> list[FlowRegion]:
    """A region and all regions inside it, outer ones first, in source order."""
    found = [region] if region is not None else []
    for outer in found:
        for state in outer.states.values():
            found.extend(state.bodies)
    return found


# ---- cycles


def components(states: Iterable[FlowState], follow: Follow | None = None) -> list[list[FlowState]]:
    """The strongly connected components of the graph between `states` (Tarjan), each in the order of
    discovery. A component stands before those that can reach it."""
    inside = dict.fromkeys(states)
    index: dict[FlowState, int] = {}
    low: dict[FlowState, int] = {}
    pending: list[FlowState] = []
    waiting: set[FlowState] = set()
    found: list[list[FlowState]] = []
    for root in inside:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        pending.append(root)
        waiting.add(root)
        work = [(root, iter(root.out))]
        while work:
            state, edges = work[-1]
            for edge in edges:
                target = edge.target
                if target is None or target not in inside or (follow is not None and not follow(edge)):
                    continue
                if target not in index:
                    index[target] = low[target] = len(index)
                    pending.append(target)
                    waiting.add(target)
                    work.append((target, iter(target.out)))
                    break
                if target in waiting:
                    low[state] = min(low[state], index[target])
            else:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[state])
                if low[state] == index[state]:
                    component: list[FlowState] = []
                    while not component or component[-1] is not state:
                        component.append(pending.pop())
                    component.reverse()
                    waiting.difference_update(component)
                    found.append(component)
    return found


def cyclic_components(states: Iterable[FlowState], follow: Follow | None = None) -> list[list[FlowState]]:
    """The components that hold a cycle: more than one state, or one with an edge to itself. Each is in source
    order, and so are they among each other."""
    found = []
    for component in components(states, follow):
        state = component[0]
        loops = (e for e in state.out if e.target is state and (follow is None or follow(e)))
        if len(component) > 1 or next(loops, None) is not None:
            found.append(sorted(component, key=_place))
    found.sort(key=lambda component: _place(component[0]))
    return found


def _place(state: FlowState) -> tuple[str, int]:
    span = state.span
    return span.file, span.start


def cycle_through(state: FlowState, inside: Collection[FlowState], follow: Follow | None = None) -> list[FlowEdge]:
    """The edges of a shortest cycle from `state` back to itself between the states of `inside`; empty if there
    is none."""
    came: dict[FlowState, FlowEdge | None] = {state: None}
    todo = deque((state,))
    members = inside if isinstance(inside, (set, frozenset, dict)) else set(inside)
    while todo:
        for edge in todo.popleft().out:
            target = edge.target
            if target is None or target not in members or (follow is not None and not follow(edge)):
                continue
            if target is state:
                return [*_walk_back(came, edge.source), edge]
            if target not in came:
                came[target] = edge
                todo.append(target)
    return []
