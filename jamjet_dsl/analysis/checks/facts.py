"""Small questions about an agent that several checks ask."""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowState
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

_CONST_CHAIN = 20


def written_edges(state: FlowState) -> tuple[ast.Edge, ...]:
    """The edges written in a state, in order, whether their targets exist or not."""
    return ast.clauses(state.clauses, ast.Edge)


def constant(expr: Node | None, analysis: Analysis) -> object:
    """The value of a literal or of a const that is one, as `ast.Lit` holds it; None for anything else."""
    for _ in range(_CONST_CHAIN):
        if isinstance(expr, ast.Lit):
            return expr.value
        symbol = analysis.symbols.get(expr) if isinstance(expr, ast.Ident) else None
        if symbol is None or not isinstance(symbol.node, ast.ConstDecl):
            return None
        expr = symbol.node.value
    return None


def number(expr: Node | None, analysis: Analysis) -> int | float | None:
    """A constant number, or None."""
    value = constant(expr, analysis)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def options_of(action: Node | None) -> tuple[Node, ...]:
    """The options of an action, in source order; none for actions without any."""
    return getattr(action, "options", ())


def bound_name(action: Node | None) -> ast.Name | None:
    """The name that an action's `as` gives its result."""
    if isinstance(action, ast.WaitEvent):
        return action.bind
    bind = ast.clause(options_of(action), ast.BindOpt)
    return bind.name if bind is not None else None


def raises_of(tool: ast.ToolDecl) -> tuple[ast.Name, ...]:
    """The errors that a tool declares, over all its `raises`."""
    return tuple(name for clause in ast.clauses(tool.clauses, ast.RaisesClause) for name in clause.errors)


def intact_agents(analysis: Analysis) -> Iterator[AgentInfo]:
    """The agents whose graph is what their author meant: all names in them were resolved."""
    for agent in analysis.agents:
        if not agent.broken and agent.flow is not None:
            yield agent


def tests_of(analysis: Analysis) -> dict[ast.AgentDecl, list[ast.TestDecl]]:
    """The tests of all files by the agent they are for."""
    found: dict[ast.AgentDecl, list[ast.TestDecl]] = {}
    for scope in analysis.files:
        for test in ast.clauses(scope.program.items, ast.TestDecl):
            symbol = scope.names.get(test.agent.text)
            if symbol is not None and isinstance(symbol.node, ast.AgentDecl):
                found.setdefault(symbol.node, []).append(test)
    return found
