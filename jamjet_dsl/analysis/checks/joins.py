"""Joins: how many branches they count (JAM701), whether so many can be done (JAM702) in the time there is (JAM703), and
irreversible calls in branches that a join may cancel (JAM607)."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import NamedTuple

from jamjet_dsl.analysis.asks import options_of
from jamjet_dsl.analysis.checks.callsites import CallSites
from jamjet_dsl.analysis.checks.facts import constant, number, written_edges
from jamjet_dsl.analysis.checks.guards import Possible
from jamjet_dsl.analysis.checks.paths import enclosing, path_steps, path_to, reachable, region_text, source_text
from jamjet_dsl.analysis.checks.variables import after_success
from jamjet_dsl.analysis.flow import effect_of
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowEdge, FlowRegion, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label, PathStep
from jamjet_dsl.syntax import ast

_DEEPEST = 50
"""How deep parallels and agents inside each other are looked into for time; below that they take none."""


def check_joins(agent: AgentInfo, analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM701, JAM702 and JAM703 of one agent."""
    possible = Possible(analysis)
    for state in agent.all_states():
        if isinstance(state.decl, ast.ParallelDecl) and state.bodies:
            yield from _check_join(state, state.decl, agent, analysis, possible)


class Wanted(NamedTuple):
    """What a join waits for: `needed` branches of those there are, within some milliseconds or for ever."""

    clause: ast.Join | None
    needed: int
    within_ms: int | None


def wanted(state: FlowState, analysis: Analysis) -> Wanted:
    """What the join of a `parallel` waits for; without one, for all branches."""
    join = ast.clause(state.clauses, ast.Join)
    needed = len(state.bodies)
    within = None
    if join is not None:
        found = number(join.k, analysis) if join.k is not None else None
        needed = 1 if join.mode == "any" else found if isinstance(found, int) else needed
        limit = constant(join.within, analysis)
        within = limit if isinstance(limit, int) and not isinstance(limit, bool) else None
    return Wanted(join, needed, within)


def _check_join(
    state: FlowState, decl: ast.ParallelDecl, agent: AgentInfo, analysis: Analysis, possible: Possible
) -> Iterator[Diagnostic]:
    join = wanted(state, analysis)
    if join.clause is not None:
        miscounted = _miscounted(state, join.clause, analysis)
        if miscounted is not None:
            yield miscounted
            return
    branches = {b.name.text: b for b in ast.clauses(decl.members, ast.Branch)}
    able = [body for body in state.bodies if _can_be_done(body, possible)]
    if len(able) < join.needed:
        yield _unreachable(state, join, able, branches, agent)
    if join.within_ms is not None and join.clause is not None and join.clause.within is not None:
        for body in able:
            quickest = _Quickest(analysis, possible).of(body)
            if quickest is not None and quickest.ms > join.within_ms:
                yield _too_slow(state, branches[body.name], body, quickest, join.clause.within, agent)


# ---- JAM701


def _miscounted(state: FlowState, join: ast.Join, analysis: Analysis) -> Diagnostic | None:
    there = len(state.bodies)
    k, n = (number(part, analysis) if part is not None else None for part in (join.k, join.n))
    if k is None or n is None or join.k is None or join.n is None:
        return None
    if k > n or k > there:
        most = min(n, there) if k > n else there
        return Diagnostic(
            "JAM701",
            f"`join {source_text(join.k)} of {source_text(join.n)}` wants more branches than `{state.name}` has",
            join.k.span,
            labels=(Label(state.span, f"{_branches(there)} here"),),
            why="the join fails as soon as so many branches cannot be done any more, which is at once",
            help=f"write a number up to {most}",
            agent="",
        )
    if n != there:
        return Diagnostic(
            "JAM701",
            f"`{state.name}` has {_branches(there)}, and its join counts {source_text(join.n)}",
            join.n.span,
            labels=(Label(state.span, f"{_branches(there)} here"),),
            why="the second number says how many branches there are",
            help=f"write `join {source_text(join.k)} of {there}`, if this many are enough",
        )
    return None


def _branches(n: int) -> str:
    return "1 branch" if n == 1 else f"{n} branches"


# ---- JAM702


def _unreachable(
    state: FlowState, join: Wanted, able: list[FlowRegion], branches: dict[str, ast.Branch], agent: AgentInfo
) -> Diagnostic:
    never = [body for body in state.bodies if body not in able]
    span = join.clause.span if join.clause is not None else state.span
    can = "none of its branches can be done" if not able else f"only {_branches(len(able))} can be done"
    return Diagnostic(
        "JAM702",
        f"the join of `{state.name}` is never reached: it wants {join.needed}, and {can}",
        span,
        labels=tuple(Label(branches[b.name].name.span, "never done: it is skipped or fails") for b in never[:4]),
        why="a branch is done at a final that is not `failed`, by `yields`, or in a state that leads nowhere",
        help="let these branches end well on some path, or wait for fewer of them",
        path=path_to(state) or (),
        agent=agent.name,
    )


def _can_be_done(body: FlowRegion, possible: Possible) -> bool:
    return body.start is None or any(may_end_well(s, possible) for s in reachable(body.start, possible))


def may_end_well(state: FlowState, possible: Possible) -> bool:
    """Whether a branch may be done in a state. Where guards may leave a case open, it may."""
    if state.final:
        return not state.failed
    if any(e.edge is not None and e.edge.yields is not None and possible(e) for e in state.out):
        return True
    edges = written_edges(state)
    if any(isinstance(e.trigger, ast.Always | ast.Otherwise | ast.OnJoin) for e in edges):
        return False
    if isinstance(state.action, ast.AskAction):
        taken = {e.trigger.option.text for e in edges if isinstance(e.trigger, ast.OnOption)}
        return any(name not in taken for name, _ in options_of(state.action))
    return True


# ---- JAM703


def _too_slow(
    state: FlowState, branch: ast.Branch, body: FlowRegion, quickest: _Way, within: ast.Expr, agent: AgentInfo
) -> Diagnostic:
    assert body.start is not None
    before = (path_to(state) or ())[:-1]
    inside = path_steps(body.start, quickest.edges)
    return Diagnostic(
        "JAM703",
        f"branch `{branch.name.text}` waits longer than `{state.name}` does",
        branch.name.span,
        labels=(Label(within.span, "the join is over then"),),
        why=f"its shortest way takes {_ms(quickest.ms)}, so it is cancelled every time",
        help="wait less in the branch, or longer for the join",
        path=(*before, PathStep(state.path, state.span, region_text(body)), *inside),
        agent=agent.name,
    )


def _ms(ms: int) -> str:
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")):
        if ms >= size and ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms"


class _Way(NamedTuple):
    ms: int
    edges: tuple[FlowEdge, ...] = ()


class _Quickest:
    """The shortest time that a body takes to its end: what it waits for certain, all else in no time."""

    def __init__(self, analysis: Analysis, possible: Possible) -> None:
        self.analysis = analysis
        self.possible = possible

    def of(self, region: FlowRegion, depth: int = 0) -> _Way | None:
        """The quickest way to an end that is none of failure; None if there is none."""
        start = region.start
        if start is None or depth > _DEEPEST:
            return _Way(0)
        best: dict[FlowState, int] = {start: 0}
        queue: list[tuple[int, int, FlowState | None, tuple[FlowEdge, ...]]] = [(0, 0, start, ())]
        tick = 0
        while queue:
            ms, _, state, edges = heappop(queue)
            if state is None:
                return _Way(ms, edges)
            if ms > best[state]:
                continue
            takes = self._takes(state, depth)
            if may_end_well(state, self.possible):
                tick += 1
                heappush(queue, (ms + takes, tick, None, edges))
            for edge in state.out:
                after = ms + (takes if _waited(edge) else 0)
                if edge.target is None or not self.possible(edge) or after >= best.get(edge.target, after + 1):
                    continue
                best[edge.target] = after
                tick += 1
                heappush(queue, (after, tick, edge.target, (*edges, edge)))
        return None

    def _takes(self, state: FlowState, depth: int) -> int:
        """The time for which a state is certain to wait before its action succeeds."""
        match state.action:
            case ast.WaitFor(duration=duration):
                found = constant(duration, self.analysis)
                return found if isinstance(found, int) and not isinstance(found, bool) else 0
            case ast.RunAction(call=call):
                symbol = self.analysis.symbols.get(call.tool)
                child = next((a for a in self.analysis.agents if symbol is not None and a.decl is symbol.node), None)
                way = self.of(child.flow, depth + 1) if child is not None and child.flow is not None else None
                return way.ms if way is not None else 0
        if isinstance(state.decl, ast.ParallelDecl):
            ways = sorted(way.ms for body in state.bodies if (way := self.of(body, depth + 1)) is not None)
            needed = wanted(state, self.analysis).needed
            return ways[needed - 1] if 0 < needed <= len(ways) else 0
        return 0


def _waited(edge: FlowEdge) -> bool:
    """Whether the action of the state is over when the edge is taken. An event ends a wait before its time."""
    return after_success(edge.trigger) and edge.origin != "exceeded" and not isinstance(edge.trigger, ast.OnEvent)


# ---- JAM607


def check_cancelled(calls: CallSites) -> Iterator[Diagnostic]:
    """JAM607: irreversible calls in branches that are cancelled when the others are enough, or too slow."""
    for site in calls.sites:
        if site.state is None or site.how not in ("direct", "proposed", "approved", "run"):
            continue
        if effect_of(site.tool) != "irreversible":
            continue
        for stop in reversed(enclosing(site.state)[:-1]):
            found = _cancels(stop, calls.analysis) if isinstance(stop.decl, ast.ParallelDecl) else None
            if found is not None:
                join, when = found
                yield Diagnostic(
                    "JAM607",
                    f"`{site.name}` is irreversible, and `{stop.name}` may cancel the branch that calls it",
                    site.span,
                    labels=(Label(join.span, "cancels what is still open"),),
                    why=f"{when}, so whether the call is made is a matter of time, and its result is lost",
                    help=f"call `{site.name}` after the join, or wait for all branches: `join all`",
                    path=path_to(site.state) or (),
                    agent=calls.agent.name,
                )
                break


def _cancels(state: FlowState, analysis: Analysis) -> tuple[ast.Join, str] | None:
    """The join that may cancel a branch that goes well, and when it does."""
    join = wanted(state, analysis)
    if join.clause is None:
        return None
    if join.needed < len(state.bodies):
        enough = "one branch is" if join.needed == 1 else f"{join.needed} branches are"
        return join.clause, f"`{state.name}` goes on as soon as {enough} done"
    if join.clause.within is not None:
        return join.clause, f"`{state.name}` gives up after {source_text(join.clause.within)}"
    return None
