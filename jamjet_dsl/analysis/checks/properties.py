"""The `check` clauses: decided on the flow graph where they can be (JAM905 refuted), else said not to be (JAM907).

The graph has every way that a run can go, and some that the data never allow. So what is proved here holds for
every run; what is refuted is refuted for a path of the graph, which is shown. Nothing is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl.analysis.checks.approvals import states_without
from jamjet_dsl.analysis.checks.callsites import CallSites, Rules, Site, granting_options
from jamjet_dsl.analysis.checks.counting import Count, count_calls
from jamjet_dsl.analysis.checks.facts import number
from jamjet_dsl.analysis.checks.graph import unlimited
from jamjet_dsl.analysis.checks.paths import (
    cycle_through,
    cyclic_components,
    enclosing,
    path_steps,
    path_to,
    reachable,
    reaching,
    regions,
)
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowEdge, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label, PathStep
from jamjet_dsl.syntax import ast


def check_properties(agent: AgentInfo, analysis: Analysis) -> Iterator[Diagnostic]:
    """What becomes of the `check` clauses of an agent."""
    if not agent.checks:
        return
    deciding = _Deciding(agent, analysis)
    for check in agent.checks:
        yield from deciding.check(check)


class _Deciding:
    """Decides the properties of one agent."""

    def __init__(self, agent: AgentInfo, analysis: Analysis) -> None:
        self.agent = agent
        self.analysis = analysis
        self.states = agent.all_states()
        self._calls: CallSites | None = None
        self._rules: Rules | None = None
        self._counts: dict[tuple[ast.ToolDecl, int], Count] = {}

    @property
    def calls(self) -> CallSites:
        """Where the agent calls what, found when first asked for."""
        if self._calls is None:
            self._calls = CallSites(self.agent, self.analysis)
        return self._calls

    @property
    def rules(self) -> Rules:
        """The rules of the policy by tool, sorted when first asked for."""
        if self._rules is None:
            self._rules = Rules(self.agent, self.analysis)
        return self._rules

    def check(self, check: ast.Check) -> Iterator[Diagnostic]:
        """Decides one clause."""
        match check.property:
            case ast.EveryPathPasses() as prop:
                yield from self._passes(check, prop)
            case ast.NeverUnless() as prop:
                yield from self._never_unless(check, prop)
            case ast.NoPathCalls() as prop:
                yield from self._no_path_calls(check, prop)
            case ast.EveryRunEnds(steps=steps):
                yield from self._ends_within(check, steps)
            case ast.EveryCycleBounded():
                yield from self._cycles(check)
            case ast.FinalReachable():
                yield from self._finals(check)
            case ast.AlwaysHolds() | ast.HoldsAtEnd():
                yield self._not_verified(check, "it depends on values, which no path of the graph knows")

    # ---- answers

    def _refuted(self, check: ast.Check, message: str, path: tuple[PathStep, ...], *labels: Label) -> Diagnostic:
        return Diagnostic(
            "JAM905",
            message,
            check.property.span,
            labels=labels,
            why="the path below is one that a run can take, as far as the graph knows" if path else "",
            help="change the edges on this path, or the property",
            path=path,
            agent=self.agent.name,
        )

    def _not_verified(self, check: ast.Check, reason: str) -> Diagnostic:
        return Diagnostic(
            "JAM907",
            f"not verified: {reason}",
            check.property.span,
            why="a property that was not decided is said to be so, and never passed over",
            help="`jam verify` explores the runs of an agent and decides more",
            agent=self.agent.name,
        )

    def _state(self, name: ast.Name) -> FlowState | None:
        symbol = self.analysis.symbols.get(name)
        return self.analysis.flow_of.get(symbol.node) if symbol is not None and symbol.node is not None else None

    # ---- every path to S passes A, B

    def _passes(self, check: ast.Check, prop: ast.EveryPathPasses) -> Iterator[Diagnostic]:
        """Each of the states named after `passes` is passed, in whatever order."""
        goal = self._state(prop.state)
        if goal is None:
            return
        if path_to(goal) is None:
            yield self._not_verified(check, f"no path reaches `{goal.name}`, so this says nothing")
            return
        outer = enclosing(goal)
        for name in prop.passes:
            through = self._state(name)
            if through is None or through in outer:
                continue
            if all(stop.region is not through.region for stop in outer):
                yield self._not_verified(
                    check, f"`{through.name}` is inside `{enclosing(through)[0].name}`, which runs beside other states"
                )
                continue
            if any(stop.region.start is through for stop in outer):
                continue
            path = path_to(goal, lambda e, avoided=through: avoided not in (e.source, e.target))  # type: ignore[misc]
            if path is not None:
                yield self._refuted(
                    check,
                    f"a path reaches `{goal.name}` without passing `{through.name}`",
                    path,
                    Label(through.span, "not on the path"),
                )

    # ---- never T unless A answers o

    def _never_unless(self, check: ast.Check, prop: ast.NeverUnless) -> Iterator[Diagnostic]:
        ask, tool = self._state(prop.ask), self._tool(prop.tool)
        if ask is None or tool is None:
            return
        sites = [s for s in self.calls.sites if s.tool is tool]
        if not sites:
            yield self._not_verified(check, f"`{prop.tool.text}` is never called, so this says nothing")
            return
        if self._fenced(tool, ask, prop.option.text):
            return
        wanted = [
            e for e in ask.out if isinstance(e.trigger, ast.OnOption) and e.trigger.option.text == prop.option.text
        ]
        without = states_without(self.calls, wanted)
        for site in sites:
            if site.state in without or (site.state is None and any(s.final for s in without)):
                yield self._refuted(
                    check,
                    f"`{site.name}` can be called without `{prop.option.text}` of `{ask.name}`",
                    self._path_without(site, without, wanted),
                    Label(site.span, "called here"),
                )
                return

    def _path_without(self, site: Site, without: set[FlowState], wanted: list[FlowEdge]) -> tuple[PathStep, ...]:
        goal = site.state or next((s for s in without if s.final), None)
        path = path_to(goal, lambda e: e not in wanted) if goal is not None else None
        return path or ()

    def _fenced(self, tool: ast.ToolDecl, ask: FlowState, option: str) -> bool:
        """Whether the policy itself sees to it: it denies every call that this ask did not approve, and only this
        option approves. What `undo all` and `confirm` call needs no approval."""
        needed = [r for r in self.rules.of(tool).requires if r.when is None]
        own = all(s.how in ("direct", "proposed", "approved") for s in self.calls.sites if s.tool is tool)
        return own and any(r.ask.text == ask.name for r in needed) and granting_options(ask) == [option]

    def _tool(self, name: ast.Name) -> ast.ToolDecl | None:
        symbol = self.analysis.symbols.get(name)
        return symbol.node if symbol is not None and isinstance(symbol.node, ast.ToolDecl) else None

    # ---- no path calls T n times

    def _no_path_calls(self, check: ast.Check, prop: ast.NoPathCalls) -> Iterator[Diagnostic]:
        tool = self._tool(prop.tool)
        found = number(prop.count, self.analysis) if prop.count is not None else 2
        if tool is None:
            return
        if not isinstance(found, int) or found < 1:
            yield self._not_verified(check, "the number of times has to be a whole number of at least 1")
            return
        most = self._most_by_policy(tool)
        if most is not None and most < found:
            return
        steps = self._steps()
        if steps is not None and steps < found:
            return
        answer = self._counts.get((tool, found))
        if answer is None:
            answer = self._counts[tool, found] = count_calls(self.calls, tool, found)
        if answer.verdict == "proved":
            return
        times = "twice" if found == 2 else "once" if found == 1 else f"{found} times"
        if answer.verdict == "refuted":
            labels = [Label(s.span, "called here") for s in self.calls.sites if s.tool is tool and s.how != "confirm"]
            yield self._refuted(check, f"a path calls `{prop.tool.text}` {times}", answer.path, *labels[:3])
            return
        yield self._not_verified(check, answer.reason)

    def _most_by_policy(self, tool: ast.ToolDecl) -> int | None:
        """The calls in a run that a `limit` of the policy leaves."""
        bounds = []
        for limit in self.rules.of(tool).limits:
            if isinstance(limit, ast.LimitCalls) and not limit.per:
                found = number(limit.count, self.analysis)
                if isinstance(found, int):
                    bounds.append(found)
        return min(bounds, default=None)

    def _steps(self) -> int | None:
        """The step budget, if there is one: every call is a step."""
        items = self.agent.budget.items if self.agent.budget is not None else ()
        for limit in ast.clauses(items, ast.BudgetLimit):
            if limit.kind == "steps":
                found = number(limit.amount, self.analysis)
                return found if isinstance(found, int) else None
        return None

    # ---- runs and cycles

    def _ends_within(self, check: ast.Check, wanted: ast.Expr) -> Iterator[Diagnostic]:
        """The step budget decides it; without one nothing short of exploring the runs does."""
        most, steps = number(wanted, self.analysis), self._steps()
        if most is not None and steps is not None and steps <= most:
            return
        reason = "the agent has no step budget" if steps is None else f"the step budget lets a run take {steps} steps"
        yield self._not_verified(check, f"{reason}, and its longest path was not measured")

    def _cycles(self, check: ast.Check) -> Iterator[Diagnostic]:
        """A cycle is bounded by a `limit` on one of its edges or by the step budget."""
        if self._steps() is not None:
            return
        for region in regions(self.agent.flow):
            for component in cyclic_components(region.states.values(), unlimited):
                first = component[0]
                cycle = path_steps(first, cycle_through(first, component, unlimited))
                yield self._refuted(check, f"nothing bounds the cycle through `{first.name}`", cycle)
                return

    def _finals(self, check: ast.Check) -> Iterator[Diagnostic]:
        """From every state that can be entered, some path leads to a final, in branches and items to their end."""
        for region in regions(self.agent.flow):
            if region.start is None:
                continue
            entered = reachable(region.start)
            ends = [s for s in region.states.values() if s.final or (region.kind != "agent" and _may_end(s))]
            stuck = entered - reaching(ends, _on_its_own)
            if stuck:
                first = min(stuck, key=lambda s: s.span.start)
                path = path_to(first) or ()
                yield self._refuted(check, f"no final can be reached from `{first.name}`", path)
                return


def _may_end(state: FlowState) -> bool:
    """Whether a branch or an item may end in a state: by `skip`, `yields`, or with no edge left."""
    own = isinstance(state.decl, ast.StateDecl | ast.ParallelDecl)
    return (
        not own or any(e.target is None for e in state.out) or ast.clause(state.clauses, ast.YieldsClause) is not None
    )


def _on_its_own(edge: FlowEdge) -> bool:
    """Being cancelled or running out of budget always ends a run; that is not what the property asks about."""
    return edge.origin != "exceeded" and not isinstance(edge.trigger, ast.OnCancel)
