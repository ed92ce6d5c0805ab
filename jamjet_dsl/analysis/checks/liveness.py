"""Dead assignments: values that nothing ever reads.

A backward analysis: a variable is live where some path still reads it. What a policy, a `check`, a test or
`finally` names is live everywhere. Inside a branch everything that is live after its join is live; an item's
variables end with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl.analysis.checks.facts import bound_name, intact_agents, options_of, tests_of, written_edges
from jamjet_dsl.analysis.checks.paths import regions, reverse_postorder
from jamjet_dsl.analysis.checks.variables import (
    Variables,
    after_success,
    read_before,
    state_sets,
    state_yields,
    written_of,
)
from jamjet_dsl.analysis.flow import effect_of, tools_of
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowEdge, FlowRegion, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node


def check_dead_assignments(analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM406 of all agents."""
    tests = tests_of(analysis)
    for agent in intact_agents(analysis):
        yield from Liveness(agent, analysis, tests.get(agent.decl, [])).findings()


class Liveness:
    """The analysis of one agent."""

    def __init__(self, agent: AgentInfo, analysis: Analysis, tests: list[ast.TestDecl]) -> None:
        self.agent = agent
        self.analysis = analysis
        self.variables = Variables(agent, analysis)
        self.always = self._always_live(tests)
        self.entered: dict[FlowState, int] = {}
        self._inside: dict[FlowRegion, int] = {}

    def _always_live(self, tests: list[ast.TestDecl]) -> int:
        agent = self.agent
        bits = 0
        watchers: list[Node | None] = [agent.policy, agent.finally_, *agent.checks]
        for node in watchers:
            bits |= self.variables.mentions(node) if node is not None else 0
        for test in tests:
            for expect in ast.clauses(test.items, ast.Expect):
                bits |= self.variables.mentions(expect.condition)
        return bits

    def findings(self) -> Iterator[Diagnostic]:
        """Solves region by region, outer ones first, and reports on the way."""
        after: dict[FlowRegion, int] = {}
        for region in regions(self.agent.flow):
            if region.owner is not None and region not in after:
                continue
            at_end = after.get(region, 0) | self.always
            for state in self._solve(region, at_end):
                yield from self._dead(state, at_end)
                joined = self._after_action(state, at_end) if state.bodies else 0
                for body in state.bodies:
                    after[body] = joined if body.kind == "branch" else 0

    def _solve(self, region: FlowRegion, at_end: int) -> list[FlowState]:
        """Finds what is live where each state of a region is entered; the states that are reached."""
        order = reverse_postorder(region.start) if region.start is not None else []
        order.reverse()
        for state in order:
            self.entered[state] = self.always
        changed = True
        while changed:
            changed = False
            for state in order:
                live = self._live(state, at_end)
                if live != self.entered[state]:
                    self.entered[state] = live
                    changed = True
        return order

    # ---- one state, backwards

    def _along(self, edge: FlowEdge, at_end: int) -> int:
        """What is live before an edge is taken, its guard included."""
        live = self.entered[edge.target] if edge.target is not None else at_end
        written = written_of(edge)
        if written is not None:
            for part in reversed(written.sets):
                live = self._before_set(part, live)
            if written.yields is not None:
                live |= self.variables.mentions(written.yields)
        return live

    def _before_set(self, part: ast.SetClause, live: int) -> int:
        bit = self.variables.bit(part.path.names[0].text)
        if len(part.path.names) == 1:
            live &= ~bit
        return live | self.variables.mentions(part.value)

    def _after_sets(self, state: FlowState, at_end: int) -> int:
        """What is live once the action succeeded and the state's `set`s have run."""
        live = at_end if state.region.kind != "agent" else self.always
        for edge in state.out:
            if after_success(edge.trigger) and edge.origin != "exceeded":
                live |= self._along(edge, at_end)
        for written in written_edges(state):
            if isinstance(written.trigger, ast.When):
                live |= self.variables.mentions(written.trigger.condition)
        for result in state_yields(state):
            live |= self.variables.mentions(result.value)
        return live

    def _after_action(self, state: FlowState, at_end: int) -> int:
        live = self._after_sets(state, at_end)
        for part in reversed(state_sets(state)):
            live = self._before_set(part, live)
        return live

    def _live(self, state: FlowState, at_end: int) -> int:
        live = self._after_action(state, at_end)
        name = bound_name(state.action)
        if name is not None:
            live &= ~self.variables.bit(name.text)
        for edge in state.out:
            if edge.origin == "exceeded" or not after_success(edge.trigger):
                live |= self._along(edge, at_end)
        for node, _ in read_before(state):
            live |= self.variables.mentions(node)
        for body in state.bodies:
            live |= self._read_inside(body)
        return live | self.always

    def _read_inside(self, body: FlowRegion) -> int:
        """Everything that is read in a body, whether it was assigned there or not."""
        found = self._inside.get(body)
        if found is None:
            found = 0
            for state in body.states.values():
                for clause in state.clauses or (state.decl,):
                    found |= self.variables.mentions(clause)
            self._inside[body] = found
        return found

    # ---- findings

    def _dead(self, state: FlowState, at_end: int) -> Iterator[Diagnostic]:
        live = self._after_sets(state, at_end)
        for part in reversed(state_sets(state)):
            yield from self._dead_set(part, live)
            live = self._before_set(part, live)
        name = bound_name(state.action)
        if name is not None and not live & self.variables.bit(name.text) and self._only_for_its_result(state):
            yield Diagnostic(
                "JAM406",
                f"`{name.text}` is never read",
                name.span,
                why="finding it out is all that the state does",
                help=f"read it, or leave out `as {name.text}`",
            )
        for edge in state.out:
            written = written_of(edge)
            if written is not None:
                live = self.entered[edge.target] if edge.target is not None else at_end
                for part in reversed(written.sets):
                    yield from self._dead_set(part, live)
                    live = self._before_set(part, live)

    def _dead_set(self, part: ast.SetClause, live: int) -> Iterator[Diagnostic]:
        name = part.path.names[0].text
        symbol = self.agent.vars.get(name)
        if symbol is None or live & self.variables.bit(name):
            return
        yield Diagnostic(
            "JAM406",
            f"the value that `{part.path.text}` gets here is never read",
            part.span,
            why="on every path from here it is set again or not used any more",
            help="remove the `set`, or read the variable",
        )

    def _only_for_its_result(self, state: FlowState) -> bool:
        """Whether the action has no other purpose than its result: it neither changes the world, nor asks a
        person, nor goes on with a conversation. For those, `as` is a name in the journal."""
        match state.action:
            case ast.ThinkAction(chat=None) as think:
                return ast.clause(options_of(think), ast.ToolsOpt) is None
            case ast.CallAction() | ast.CallWithAction():
                tools = tools_of(state.action, self.agent, self.analysis)
                return bool(tools) and all(effect_of(tool) == "reads" for tool in tools)
            case _:
                return False
