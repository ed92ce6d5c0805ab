"""Checks of bounds: cycles, retries, fan-outs, and where a budget that is used up leads."""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl.analysis.checks.facts import constant, number, written_edges
from jamjet_dsl.analysis.checks.graph import endless, unlimited
from jamjet_dsl.analysis.checks.paths import cycle_through, cyclic_components, path_steps, regions
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowRegion, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node


def check_budgets(agent: AgentInfo, analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM304, JAM305, JAM314, JAM315 and JAM317 of one agent."""
    limits = {} if agent.budget is None else {i.kind: i for i in ast.clauses(agent.budget.items, ast.BudgetLimit)}
    exceeded = None if agent.budget is None else ast.clause(agent.budget.items, ast.ExceededClause)
    if agent.budget is not None and limits and exceeded is None:
        yield Diagnostic(
            "JAM315",
            f"the budget of `{agent.name}` says nothing about being exceeded",
            agent.budget.span,
            why="when it is used up, the run must go somewhere",
            help="add `exceeded -> STATE`, best to a final that tells what was left undone",
        )
    for region in regions(agent.flow):
        yield from _cycles(region, agent, limits.get("steps"))
        for state in region.states.values():
            if exceeded is None:
                yield from _limit_to_nowhere(state, agent.budget is not None and bool(limits))
            yield from _fan_out(state, analysis)
            if "tokens" in limits:
                yield from _open_think(state, agent.name)


# ---- cycles


def _cycles(region: FlowRegion, agent: AgentInfo, steps: ast.BudgetLimit | None) -> Iterator[Diagnostic]:
    """JAM304 and JAM305: what is left of the graph without the edges that carry a limit must have no cycle.
    A cycle without any action is JAM215, one that no way leads out of JAM204, and neither is told again."""
    endless_states = {s for place in endless(region) for s in place} if region.kind == "agent" else set()
    for component in cyclic_components(region.states.values(), unlimited):
        if component[0] in endless_states or all(s.action is None and not s.bodies for s in component):
            continue
        first = component[0]
        path = path_steps(first, cycle_through(first, component, unlimited))
        help = "put a limit on one of its edges: `-> STATE limit 5 else OTHER`"
        if steps is None:
            yield Diagnostic(
                "JAM304",
                f"nothing bounds the cycle through `{first.name}`",
                first.span,
                why="no edge on it has a limit, and the agent has no step budget",
                help=help,
                path=path,
                agent=agent.name,
            )
        else:
            yield Diagnostic(
                "JAM305",
                f"only the step budget bounds the cycle through `{first.name}`",
                first.span,
                why="it may use up the whole budget of the run, and then nothing else gets done",
                help=help,
                path=path,
                agent=agent.name,
            )


# ---- budgets that lead nowhere


def _limit_to_nowhere(state: FlowState, told: bool) -> Iterator[Diagnostic]:
    """JAM315 at an edge, unless the budget itself was already told about."""
    if told:
        return
    for edge in written_edges(state):
        if edge.limit is not None and edge.limit_else is None:
            yield Diagnostic(
                "JAM315",
                f"the limit of this edge of `{state.name}` leads nowhere once it is used up",
                edge.span,
                why="a limit without `else` goes where the budget's `exceeded` goes, and there is none",
                help="add `else STATE`, or a `budget { … exceeded -> STATE }`",
            )


def _open_think(state: FlowState, agent: str) -> Iterator[Diagnostic]:
    action = state.action
    if isinstance(action, ast.ThinkAction) and ast.clause(action.options, ast.MaxTokensOpt) is None:
        yield Diagnostic(
            "JAM317",
            f"`think` in `{state.name}` has no bound on its answer",
            action.span,
            why=f"`{agent}` has a token budget, and what a call may use at most is reserved before it starts",
            help="add `max tokens 2k`",
        )


# ---- fan-outs


def _fan_out(state: FlowState, analysis: Analysis) -> Iterator[Diagnostic]:
    action = state.action
    if isinstance(action, ast.EachAction) and not _bounded(action.source, analysis):
        yield Diagnostic(
            "JAM314",
            f"`each` in `{state.name}` goes over a list without an upper bound",
            action.source.span,
            why="how much it starts, and what that costs, is then decided by the data",
            help="give the list's type a range, such as `list<string> 0..20`",
        )


def _bounded(source: ast.Expr, analysis: Analysis) -> bool:
    """Whether a list cannot be longer than something the program says. Parts of a bounded list are bounded."""
    todo: list[Node] = [source]
    while todo:
        expr = todo.pop()
        type_ = analysis.types.get(expr)
        while type_ is not None and type_.kind in ("secret", "optional"):
            type_ = type_.args[0]
        if type_ is None or type_.kind not in ("list", "any") or type_.high is not None:
            continue
        match expr:
            case ast.ListLit():
                continue
            case ast.MethodCall(operand=operand, method=ast.Name(text="filter" | "map" | "distinct" | "reverse")):
                todo.append(operand)
            case ast.FnCall(function=ast.Name(text="distinct"), args=(ast.Arg(value=value),)):
                todo.append(value)
            case ast.Binary(op="+", left=left, right=right):
                todo += (left, right)
            case ast.Cond(then=then, other=other):
                todo += (then, other)
            case _:
                return False
    return True


# ---- retries


def check_retries(analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM311 of the tools and the states of all files."""
    for scope in analysis.files:
        for tool in ast.clauses(scope.program.items, ast.ToolDecl):
            for retry in ast.clauses(tool.clauses, ast.RetryClause):
                yield from _retry(retry, analysis)
    for agent in analysis.agents:
        for state in agent.all_states():
            for retry in ast.clauses(getattr(state.action, "options", ()), ast.RetryClause):
                yield from _retry(retry, analysis)


def _retry(retry: ast.RetryClause, analysis: Analysis) -> Iterator[Diagnostic]:
    times = number(retry.times, analysis)
    if times is not None and times < 1:
        yield Diagnostic(
            "JAM311",
            "a retry that never tries again",
            retry.times.span,
            why="the number counts further attempts, after the first one",
            help="write how many further attempts to make, or remove `retry`",
        )
    factor = number(retry.factor, analysis)
    if retry.factor is not None and factor is not None and factor < 1:
        yield Diagnostic(
            "JAM311",
            "a delay that shrinks from attempt to attempt",
            retry.factor.span,
            why="what is overloaded needs longer pauses, not shorter ones",
            help="write a factor of at least 1, such as `x 2`",
        )
    first, most = constant(retry.backoff, analysis), constant(retry.max_delay, analysis)
    if retry.max_delay is not None and isinstance(first, int) and isinstance(most, int) and most < first:
        yield Diagnostic(
            "JAM311",
            "the longest delay is shorter than the first one",
            retry.max_delay.span,
            why="every delay would be cut to the longest one",
            help="make `max` at least as long as `backoff`",
        )
