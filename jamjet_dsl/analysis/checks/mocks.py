"""Checks of the mocks of tests (JAM902): one of a tool that the agent cannot call, and one that is missing for a step
of the expected path.

A step needs its mock for certain where only what comes of the action leads on: an edge that is also taken without it
(after a denial, a timeout, a used-up budget) says nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

from jamjet_dsl.analysis.checks.callsites import CallSites
from jamjet_dsl.analysis.checks.facts import intact_agents, tests_of
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowEdge, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

_AFTER_SUCCESS = (ast.Always, ast.When, ast.Otherwise)


def check_mocks(analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM902 of the tests of all agents."""
    tests = tests_of(analysis)
    for agent in intact_agents(analysis):
        if agent.decl not in tests:
            continue
        called = _callable(agent, analysis)
        for test in tests[agent.decl]:
            mocks = ast.clauses(test.items, ast.Mock)
            for mock in mocks:
                yield from _useless(mock, called, agent, analysis)
            known = [_meant(mock.target, analysis) for mock in mocks]
            if None in known:
                continue  # a mock that could not be resolved may be the one that is missing
            for expected in ast.clauses(test.items, ast.ExpectPath):
                yield from _missing(expected, known, agent, analysis)


def _meant(name: ast.Name, analysis: Analysis) -> Node | None:
    """The declaration that a name stands for: two files may call it differently."""
    symbol = analysis.symbols.get(name)
    return symbol.node if symbol is not None else None


def _callable(agent: AgentInfo, analysis: Analysis) -> set[ast.ToolDecl]:
    """Every tool that a run of the agent may call: those of its states and of the agents it runs, what asks whether a
    call happened, what takes one back, and the reads that the engine makes for facts."""
    found: set[ast.ToolDecl] = set()
    todo, seen = [agent], {agent.decl}
    while todo:
        one = todo.pop()
        found.update(site.tool for site in CallSites(one, analysis).sites)
        for fact in ast.clauses(one.policy.rules, ast.FactRule) if one.policy is not None else ():
            tool = _meant(fact.call.tool, analysis)
            if isinstance(tool, ast.ToolDecl):
                found.add(tool)
        for state in one.all_states():
            if not isinstance(state.action, ast.RunAction):
                continue
            meant = _meant(state.action.call.tool, analysis)
            for child in analysis.agents:
                if child.decl is meant and child.decl not in seen:
                    seen.add(child.decl)
                    todo.append(child)
    return found


def _useless(mock: ast.Mock, called: set[ast.ToolDecl], agent: AgentInfo, analysis: Analysis) -> Iterator[Diagnostic]:
    tool = _meant(mock.target, analysis)
    if not isinstance(tool, ast.ToolDecl) or tool in called:
        return
    yield Diagnostic(
        "JAM902",
        f"`{mock.target.text}` is mocked, and agent `{agent.decl.name.text}` never calls it",
        mock.target.span,
        labels=(Label(tool.name.span, "this tool"),),
        why="the mock is never used",
        help="remove it, or mock what the agent calls",
    )


def _missing(
    expected: ast.ExpectPath, mocks: Collection[Node | None], agent: AgentInfo, analysis: Analysis
) -> Iterator[Diagnostic]:
    """The first step of an expected path that comes to something which no mock answers."""
    assert agent.flow is not None
    states = agent.flow.states
    for here, following in pairwise(expected.states):
        state, target = states.get(here.text), states.get(following.text)
        if state is None or target is None:
            return
        needed = _needed(state)
        if needed is None or state.decl in mocks or _meant(needed, analysis) in mocks:
            continue
        ways = [edge for edge in state.out if edge.target is target]
        if ways and all(_after_outcome(edge) for edge in ways):
            form = "answers OPTION" if isinstance(state.action, ast.AskAction) else "returns …"
            yield Diagnostic(
                "JAM902",
                f"the path goes through `{state.name}`, and nothing mocks `{needed.text}`",
                here.span,
                labels=(Label(state.action.span if state.action is not None else state.span, "needs an outcome"),),
                why="nothing outside is called in a test",
                help=f"add `mock {needed.text} {form}`",
            )
            return


def _needed(state: FlowState) -> ast.Name | None:
    """What has to be mocked so that the action of a state succeeds; None where that is not certain."""
    match state.action:
        case ast.CallAction(call=call):
            return call.tool
        case ast.CallWithAction(tool=tool):
            return tool
        case ast.ThinkAction() | ast.AskAction() if isinstance(state.decl, ast.StateDecl):
            return state.decl.name
        case _:
            return None


def _after_outcome(edge: FlowEdge) -> bool:
    """Whether an edge is taken only once there is an outcome that a test has to give."""
    if edge.origin not in ("edge", "else"):
        return False
    if isinstance(edge.trigger, ast.OnOption):
        return True
    return not isinstance(edge.source.action, ast.AskAction) and isinstance(edge.trigger, _AFTER_SUCCESS)
