"""How often a tool can be called in one run: an upper bound that is proved, or a path that reaches a number.

The bound follows the graph without its cycles (strongly connected components). A call on a cycle of edges
without a limit is not bounded. Where every cycle through a state has an edge with a limit, each return to the
state uses up one of them, so it is entered at most 1 + (sum of the limits in its component) times. Branches
add up, items multiply. Where the bound does not decide and no path within the limits is found, the answer is
"unknown".
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from jamjet_dsl.analysis.checks.callsites import CallSites, Site
from jamjet_dsl.analysis.checks.facts import number, options_of
from jamjet_dsl.analysis.checks.graph import unlimited
from jamjet_dsl.analysis.checks.paths import Follow, components, cyclic_components, path_steps
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowEdge, FlowRegion, FlowState
from jamjet_dsl.diagnostics.model import PathStep
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

_MOST_WORK = 200_000
"""States times counts that a search for a path may look at."""
_MOST_INSIDE = 50
"""Calls inside a branch or an item that a path is looked for."""


class Count(NamedTuple):
    """`verdict` is proved, refuted (with a path) or unknown (with a reason)."""

    verdict: str
    path: tuple[PathStep, ...] = ()
    reason: str = ""


def count_calls(calls: CallSites, tool: ast.ToolDecl, times: int) -> Count:
    """Whether every path of an agent calls a tool fewer than `times` times."""
    region = calls.agent.flow
    if region is None or region.start is None:
        return Count("unknown", reason="the agent has no start state")
    counter = _Counter(calls, tool, times)
    after = sum(1 for s in calls.sites if s.tool is tool and s.how == "finally")
    if counter.most(region) + after < times:
        return Count("proved")
    if times * len(region.states) > _MOST_WORK:
        return Count("unknown", reason="the number of calls is too large to look for a path")
    for follow in (unlimited, None):
        walk = counter.walk(region, times - after, follow)
        if walk is not None and _within_limits(walk, calls.analysis):
            return Count("refuted", path_steps(region.start, walk))
    reason = counter.unsure or "whether a path gets there depends on how the limits of its edges add up"
    return Count("unknown", reason=reason)


def at_most(calls: CallSites, tool: ast.ToolDecl, times: int) -> bool:
    """Whether it is proved that no path of an agent calls a tool more than `times` times."""
    region = calls.agent.flow
    if region is None or region.start is None or times < 0:
        return False
    after = sum(1 for s in calls.sites if s.tool is tool and s.how == "finally")
    return _Counter(calls, tool, times + 1).most(region) + after <= times


class _Counter:
    """Counts of one tool, all of them cut off at `times`."""

    def __init__(self, calls: CallSites, tool: ast.ToolDecl, times: int) -> None:
        self.analysis: Analysis = calls.analysis
        self.components = calls.components
        self.tool = tool
        self.times = times
        self.unsure = ""
        """Why some count is only an upper bound."""
        self.sites: dict[FlowState, list[Site]] = {}
        for site in calls.sites:
            if site.tool is tool and site.state is not None:
                self.sites.setdefault(site.state, []).append(site)
        self._upper: dict[FlowState, int] = {}
        self._lower: dict[FlowState, int] = {}

    # ---- the upper bound

    def most(self, region: FlowRegion) -> int:
        """The most calls in one pass through a region."""
        best: dict[FlowState, int] = {}
        top = 0
        if region not in self.components:
            self.components[region] = components(region.states.values())
        for component in self.components[region]:
            inside = set(component)
            after = max(
                (best[e.target] for s in component for e in s.out if e.target is not None and e.target not in inside),
                default=0,
            )
            value = min(self.times, self._component(component, inside) + after)
            best.update(dict.fromkeys(component, value))
            top = value if region.start in inside else top
        return top

    def _component(self, component: list[FlowState], inside: set[FlowState]) -> int:
        """The most calls while a run stays in one strongly connected component."""
        calling = [s for s in component if self._state(s)]
        if not calling:
            return 0
        within = [e for s in component for e in s.out if e.target in inside]
        if not within:
            return self._state(component[0])
        endless = {s for c in cyclic_components(component, unlimited) for s in c}
        returns = 0
        for edge in within:
            if not unlimited(edge):
                limit = _limit(edge, self.analysis)
                returns += limit if limit is not None else self.times
        total = 0
        for state in calling:
            total += self.times if state in endless else self._state(state) * (1 + returns)
        return min(self.times, total)

    def _state(self, state: FlowState) -> int:
        """The most calls of one visit of a state, what is inside it included."""
        known = self._upper.get(state)
        if known is None:
            known = self._upper[state] = min(self.times, self._visit(state))
        return known

    def _visit(self, state: FlowState) -> int:
        total = sum(self._site(site) for site in self.sites.get(state, ()))
        inside = sum(self.most(body) for body in state.bodies)
        if inside and isinstance(state.action, ast.EachAction):
            items = self._items(state.action)
            inside = self.times if items is None else inside * items
        return total + inside

    def _items(self, action: ast.EachAction) -> int | None:
        """The most items of an `each`, or None where its list has no declared length."""
        if isinstance(action.source, ast.ListLit):
            return len(action.source.items)
        type_ = self.analysis.types.get(action.source)
        return type_.high if type_ is not None and type_.kind == "list" and isinstance(type_.high, int) else None

    def _site(self, site: Site) -> int:
        match site.how:
            case "run":
                return self._child(site)
            case "undo":
                self.unsure = f"`undo all` calls `{site.name}` once for each call that it takes back"
                return self.times
            case "confirm":
                self.unsure = f"the engine calls `{site.name}` whenever it has to find out whether a call happened"
                return self.times
            case _:
                return 1

    def _child(self, site: Site) -> int:
        """The most calls of a child agent; unknown where it may be run again after an error."""
        assert site.state is not None
        action = site.state.action
        assert isinstance(action, ast.RunAction)
        self.unsure = f"`{action.call.tool.text}`, which runs here, calls `{site.name}` too"
        symbol = self.analysis.symbols.get(action.call.tool)
        child = next((a for a in self.analysis.agents if symbol is not None and a.decl is symbol.node), None)
        if child is None or child.flow is None or ast.clause(options_of(action), ast.RetryClause) is not None:
            return self.times
        return _child_count(child, self.analysis, self.tool, self.times)

    # ---- a path

    def walk(self, region: FlowRegion, wanted: int, follow: Follow | None) -> list[FlowEdge] | None:
        """A shortest walk from the start of a region whose calls are certain to reach a number."""
        start = region.start
        if start is None:
            return None
        begin = (start, min(wanted, self._certain(start)))
        came: dict[tuple[FlowState, int], tuple[tuple[FlowState, int], FlowEdge] | None] = {begin: None}
        todo = deque([begin])
        while todo:
            at = todo.popleft()
            if at[1] >= wanted:
                return _back(came, at)
            for edge in at[0].out:
                if edge.target is None or (follow is not None and not follow(edge)):
                    continue
                after = (edge.target, min(wanted, at[1] + self._certain(edge.target)))
                if after not in came:
                    came[after] = (at, edge)
                    todo.append(after)
        return None

    def _certain(self, state: FlowState) -> int:
        """Calls that one visit of a state can really make; what is only bounded from above does not count."""
        known = self._lower.get(state)
        if known is None:
            known = self._lower[state] = min(self.times, self._certain_visit(state))
        return known

    def _certain_visit(self, state: FlowState) -> int:
        total = sum(1 for s in self.sites.get(state, ()) if s.how in ("direct", "proposed", "approved"))
        for body in state.bodies:
            inside = self._reached(body)
            if inside and isinstance(state.action, ast.EachAction):
                items = self._items(state.action)
                inside *= self.times if items is None else items
            total += inside
        return total

    def _reached(self, body: FlowRegion) -> int:
        """The largest number of calls for which a body has a walk without edges that carry a limit."""
        count = 0
        while count < min(self.times, _MOST_INSIDE) and self.walk(body, count + 1, unlimited) is not None:
            count += 1
        return count


def _child_count(child: AgentInfo, analysis: Analysis, tool: ast.ToolDecl, times: int) -> int:
    calls = CallSites(child, analysis)
    assert child.flow is not None
    after = sum(1 for s in calls.sites if s.tool is tool and s.how == "finally")
    return _Counter(calls, tool, times).most(child.flow) + after


def _limit(edge: FlowEdge, analysis: Analysis) -> int | None:
    """How often an edge may be taken, or None where nothing says so. A budget is exceeded once."""
    if edge.origin == "exceeded":
        return 1
    written = edge.edge
    found = number(written.limit, analysis) if written is not None else None
    return found if isinstance(found, int) else None


def _within_limits(walk: list[FlowEdge], analysis: Analysis) -> bool:
    """Whether a walk takes no edge more often than its limit says, and the alternative of a limit only once the
    limit is used up."""
    used: dict[Node, int] = {}
    for edge in walk:
        written = edge.node
        if edge.origin != "exceeded" and (not isinstance(written, ast.Edge) or written.limit is None):
            continue
        limit = _limit(edge, analysis)
        if limit is None:
            return False
        if edge.origin == "else":
            if used.get(written, 0) < limit:
                return False
            continue
        used[written] = used.get(written, 0) + 1
        if used[written] > limit:
            return False
    return True


def _back(
    came: dict[tuple[FlowState, int], tuple[tuple[FlowState, int], FlowEdge] | None], at: tuple[FlowState, int]
) -> list[FlowEdge]:
    edges: list[FlowEdge] = []
    while (step := came[at]) is not None:
        at, edge = step
        edges.append(edge)
    edges.reverse()
    return edges
