"""What does not fit a budget whatever happens: too few steps to complete, and waits that outlast the time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from jamjet_dsl.analysis.checks.facts import number, options_of
from jamjet_dsl.analysis.checks.paths import path_steps
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowEdge, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.syntax import ast


def check_fitting(agent: AgentInfo, analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM301 and JAM309 of one agent."""
    if agent.budget is None:
        return
    limits = {item.kind: item for item in ast.clauses(agent.budget.items, ast.BudgetLimit)}
    kept = ast.clause(agent.budget.items, ast.ReserveClause)
    reserved = {} if kept is None else {item.kind: item for item in kept.limits}
    if "steps" in limits:
        yield from _too_few(agent, limits["steps"], reserved.get("steps"), analysis)
    if "time" in limits:
        yield from _too_long(agent, limits["time"], analysis)


# ---- steps


def _too_few(
    agent: AgentInfo, limit: ast.BudgetLimit, kept: ast.BudgetLimit | None, analysis: Analysis
) -> Iterator[Diagnostic]:
    """JAM301: the shortest way to a final that completes the run takes more steps than there are."""
    most, reserve = number(limit.amount, analysis), 0 if kept is None else number(kept.amount, analysis)
    start = agent.flow.start if agent.flow is not None else None
    if start is None or not isinstance(most, int) or not isinstance(reserve, int):
        return
    assert agent.flow is not None
    finals = [state for state in agent.flow.states.values() if state.final]
    goals = [state for state in finals if not state.failed] or finals
    found = _shortest(start, goals)
    if found is None or found[0] <= most - reserve:
        return
    steps, edges = found
    left = f"{most - reserve} of the {most} steps" if reserve else f"{most} steps"
    yield Diagnostic(
        "JAM301",
        f"no run of `{agent.name}` can complete within its {left}",
        limit.span,
        labels=(Label(kept.span, "kept back"),) if kept is not None else (),
        why=f"the shortest way to `{edges[-1].target.name if edges and edges[-1].target else start.name}`"
        f" takes {steps} steps: every action is one, also in branches and items",
        help=f"raise `steps` to {steps + reserve} at least, or shorten the way",
        path=path_steps(start, edges),
        agent=agent.name,
    )


def _shortest(start: FlowState, goals: list[FlowState]) -> tuple[int, list[FlowEdge]] | None:
    """The fewest steps to one of these states, and the way; a used-up budget is no way. None if none is reached."""
    best: dict[FlowState, int] = {start: _steps(start)}
    came: dict[FlowState, FlowEdge] = {}
    todo = [(best[start], 0, start)]
    turn = 0
    while todo:
        steps, _, state = heapq.heappop(todo)
        if steps > best[state]:
            continue
        if state in goals:
            edges: list[FlowEdge] = []
            while state is not start:
                edges.append(came[state])
                state = came[state].source
            return steps, edges[::-1]
        for edge in state.out:
            to = edge.target
            if to is None or edge.origin == "exceeded" or isinstance(edge.trigger, ast.OnCancel):
                continue
            length = steps + _steps(to)
            if length < best.get(to, length + 1):
                turn += 1
                best[to], came[to] = length, edge
                heapq.heappush(todo, (length, turn, to))
    return None


def _steps(state: FlowState) -> int:
    """The fewest steps that being in a state takes: its action, and the first one of each branch."""
    if state.final or (state.action is None and not state.bodies):
        return 0
    starts = [body.start for body in state.bodies if body.kind == "branch" and body.start is not None]
    return 1 + sum(1 for inner in starts if not inner.final and (inner.action is not None or inner.bodies))


# ---- time


def _too_long(agent: AgentInfo, limit: ast.BudgetLimit, analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM309: what waits longer than the whole run may take never sees its own end."""
    most = number(limit.amount, analysis)
    if not isinstance(most, int):
        return
    for state in agent.all_states():
        action = state.action
        clause = ast.clause(options_of(action), ast.TimeoutClause)
        if isinstance(action, ast.WaitFor):
            what, span, waits = "waits", action.duration.span, number(action.duration, analysis)
        elif isinstance(action, ast.AskAction | ast.WaitEvent) and clause is not None:
            what, span, waits = "waits for its `timeout`", clause.span, number(clause.duration, analysis)
        else:
            continue
        if isinstance(waits, int) and waits > most:
            yield Diagnostic(
                "JAM309",
                f"`{state.name}` {what} longer than the run may take",
                span,
                labels=(Label(limit.span, "the time of the whole run"),),
                why="the budget is used up before, so what is to happen then never does",
                help="shorten it, or give the budget more `time`",
                agent=agent.name,
            )
