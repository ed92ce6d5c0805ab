"""What `undo all` cannot take back: writes without `undo` on a path to it (JAM704), irreversible undos (JAM705)."""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl.analysis.checks.callsites import CallSites, Site
from jamjet_dsl.analysis.checks.paths import path_between
from jamjet_dsl.analysis.checks.variables import after_success
from jamjet_dsl.analysis.flow import effect_of
from jamjet_dsl.analysis.model import Analysis, FlowEdge, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

_MOST_PATHS = 50
"""Calls times rollbacks of one agent between which a path is looked for."""


def check_rollbacks(calls: CallSites) -> Iterator[Diagnostic]:
    """JAM704 of one agent: each tool once."""
    rollbacks = [s for s in calls.states if isinstance(s.action, ast.UndoAllAction)]
    if not rollbacks:
        return
    undoing = set(_undos(calls.analysis))
    told: set[ast.ToolDecl] = set()
    tried = 0
    for site in calls.sites:
        if site.tool in told or site.tool in undoing or not _stays(site):
            continue
        for rollback in rollbacks:
            tried += 1
            if tried > _MOST_PATHS:
                return
            assert site.state is not None
            path = path_between(site.state, rollback, _succeeded, calls.possible)
            if path is not None:
                told.add(site.tool)
                yield Diagnostic(
                    "JAM704",
                    f"`undo all` leaves what `{site.name}` has done",
                    site.span,
                    labels=(
                        Label(site.tool.name.span, "declared without `undo`"),
                        Label(_action_of(rollback).span, "rolled back here"),
                    ),
                    why=f"`{site.name}` is declared `{effect_of(site.tool)}`, and nothing says what takes it back",
                    help=f"declare `undo …` on `{site.name}`, or call it where no rollback can follow",
                    path=path,
                    agent=calls.agent.name,
                )
                break


def _action_of(state: FlowState) -> ast.Action:
    assert state.action is not None
    return state.action


def _stays(site: Site) -> bool:
    """Whether a call changes something and nothing takes it back."""
    if site.state is None or site.how not in ("direct", "proposed", "approved", "run"):
        return False
    return effect_of(site.tool) != "reads" and ast.clause(site.tool.clauses, ast.UndoClause) is None


def _succeeded(edge: FlowEdge) -> bool:
    """A call in doubt is not followed: a rollback finds out first what became of it."""
    return after_success(edge.trigger)


def _undos(analysis: Analysis) -> Iterator[Node]:
    """The tools that other tools name as their undo: what a call of them does is meant to stay."""
    for tool, clause in _declared(analysis):
        symbol = analysis.symbols.get(clause.call.tool)
        if symbol is not None and symbol.node is not None and symbol.node is not tool:
            yield symbol.node


def _declared(analysis: Analysis) -> Iterator[tuple[ast.ToolDecl, ast.UndoClause]]:
    for scope in analysis.files:
        for tool in ast.clauses(scope.program.items, ast.ToolDecl):
            clause = ast.clause(tool.clauses, ast.UndoClause)
            if clause is not None:
                yield tool, clause


def check_undos(analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM705 of the tools of all files."""
    for tool, clause in _declared(analysis):
        symbol = analysis.symbols.get(clause.call.tool)
        other = symbol.node if symbol is not None else None
        if isinstance(other, ast.ToolDecl) and effect_of(other) == "irreversible":
            yield Diagnostic(
                "JAM705",
                f"the undo of `{tool.name.text}` is irreversible itself",
                clause.call.tool.span,
                labels=(Label(other.name.span, "declared irreversible"),),
                why="`undo all` asks nobody for an approval, and what it does cannot be taken back",
                help=f"undo `{tool.name.text}` with a call that only `writes`, or leave it to a person",
            )
