"""Checks of what runs side by side: two branches that write one variable."""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl.analysis.checks.facts import bound_name, written_edges
from jamjet_dsl.analysis.checks.paths import regions
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowRegion, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.syntax import ast


def check_branches(agent: AgentInfo, analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM413 of one agent."""
    for region in regions(agent.flow):
        for state in region.states.values():
            if isinstance(state.decl, ast.ParallelDecl):
                yield from _conflicts(state, state.decl)


def _conflicts(state: FlowState, decl: ast.ParallelDecl) -> Iterator[Diagnostic]:
    """Each variable is told once for each further branch that writes it. The name that a branch gives to its
    result is written by that branch."""
    binds = {b.name.text: b.bind for b in ast.clauses(decl.members, ast.Branch)}
    first: dict[str, tuple[str, ast.Name]] = {}
    for body in state.bodies:
        written: dict[str, ast.Name] = {}
        bind = binds.get(body.name)
        if bind is not None:
            written[bind.text] = bind
        for name in _writes(body):
            written.setdefault(name.text, name)
        for text, name in written.items():
            branch, earlier = first.setdefault(text, (body.name, name))
            if branch != body.name:
                yield Diagnostic(
                    "JAM413",
                    f"branches `{branch}` and `{body.name}` both write `{text}`",
                    name.span,
                    labels=(Label(earlier.span, f"written by `{branch}`"),),
                    why="they run side by side, so which value stays would be a matter of luck",
                    help="give each branch a name of its own (`as …`) and put them together after the join",
                )


def _writes(body: FlowRegion) -> Iterator[ast.Name]:
    """The names that the states of a body, and of the bodies in it, assign."""
    for region in regions(body):
        for state in region.states.values():
            name = bound_name(state.action)
            if name is not None:
                yield name
            for clause in ast.clauses(state.clauses, ast.SetClause):
                yield clause.path.names[0]
            for edge in written_edges(state):
                for clause in edge.sets:
                    yield clause.path.names[0]
