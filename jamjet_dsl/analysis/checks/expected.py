"""Checks of what tests expect: a path that the graph does not have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from jamjet_dsl.analysis.checks.facts import intact_agents, tests_of
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowRegion
from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.syntax import ast


def check_expected(analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM903 of the tests of all agents."""
    tests = tests_of(analysis)
    for agent in intact_agents(analysis):
        for test in tests.get(agent.decl, ()):
            for expected in ast.clauses(test.items, ast.ExpectPath):
                if agent.flow is not None:
                    yield from _impossible(agent, agent.flow, expected.states)


def _impossible(agent: AgentInfo, region: FlowRegion, names: tuple[ast.Name, ...]) -> Iterator[Diagnostic]:
    """The first step of an expected path that no edge takes. Names that are no states of the agent are reported
    where they stand."""
    start = region.start
    if start is not None and names and names[0].text in region.states and names[0].text != start.name:
        yield Diagnostic(
            "JAM903",
            f"the path begins in `{names[0].text}`, and a run begins in `{start.name}`",
            names[0].span,
            labels=(Label(start.span, "the start"),),
            why="the test can never pass",
            help=f"begin the path with `{start.name}`",
        )
        return
    for here, following in pairwise(names):
        state, target = region.states.get(here.text), region.states.get(following.text)
        if state is None or target is None or any(edge.target is target for edge in state.out):
            continue
        if state.final and target.name in _after_a_final(agent):
            continue
        yield Diagnostic(
            "JAM903",
            f"no edge leads from `{here.text}` to `{following.text}`",
            following.span,
            labels=(Label(state.span, "this state"),),
            why="the test can never pass",
            help="write the states in the order in which a run enters them, each one",
        )
        return


def _after_a_final(agent: AgentInfo) -> set[str]:
    """Where a run goes on whose final has an output that fails: to a handler of errors of the whole agent."""
    return {handler.target.text for handler in agent.handlers if isinstance(handler.trigger, ast.OnError)}
