"""Guards: first match, and every case has an edge (JAM502 never true, 503 always true, 504 shadowed, 505 a gap)."""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl.analysis.checks.atoms import Atom, Formula, Space, neg
from jamjet_dsl.analysis.checks.cover import Cover, first_match, satisfiable
from jamjet_dsl.analysis.checks.intervals import Dim, disjoint
from jamjet_dsl.analysis.checks.paths import source_text
from jamjet_dsl.analysis.checks.raising import check_raising
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowEdge, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

_LABELS = 4
"""How many earlier guards a finding points at."""


def check_guards(agent: AgentInfo, analysis: Analysis) -> Iterator[Diagnostic]:
    """What is wrong with the guards of an agent, and the expressions in it that may fail at run time."""
    for state in agent.all_states():
        edges = guarded_edges(state)
        if any(isinstance(e.trigger, ast.When) for e in edges) and _well_typed(edges, analysis):
            yield from _check_state(state, edges, analysis)
    yield from check_raising(agent, analysis)


def guarded_edges(state: FlowState) -> list[ast.Edge]:
    """The edges that are tried in order once the action is done: `when`, and the first one without a condition (a
    second one is JAM214)."""
    found: list[ast.Edge] = []
    open_end = True
    for edge in ast.clauses(state.clauses, ast.Edge):
        if isinstance(edge.trigger, ast.Otherwise | ast.Always):
            if open_end:
                found.append(edge)
            open_end = False
        elif isinstance(edge.trigger, ast.When):
            found.append(edge)
    return found


def _well_typed(edges: list[ast.Edge], analysis: Analysis) -> bool:
    """Whether every guard is a truth value; what is not was reported, and reasoning on would only cascade."""
    for edge in edges:
        if isinstance(edge.trigger, ast.When):
            type_ = analysis.types.get(edge.trigger.condition)
            if type_ is None or type_.kind != "bool":
                return False
    return True


def edge_formula(edge: ast.Edge, space: Space) -> Formula:
    """When an edge of `guarded_edges` is taken, were it the first."""
    return space.formula(edge.trigger.condition) if isinstance(edge.trigger, ast.When) else True


def _check_state(state: FlowState, edges: list[ast.Edge], analysis: Analysis) -> Iterator[Diagnostic]:
    formulas, cover, dead, space = _cover(state, edges, analysis)
    if dead:
        yield from _dead_edges(edges, formulas, cover, space)
    closed = any(not isinstance(edge.trigger, ast.When) for edge in edges)
    if not closed and not falls_through(state) and (cover.gap is not None or not cover.complete):
        yield _gap(state, edges, cover)


class Possible:
    """Whether an edge can be taken, as far as the guards of its state say: not if no value satisfies its guard, nor if
    earlier ones always win. Each state is reasoned about once, here or by `check_guards`."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self._dead = analysis.dead_edges

    def __call__(self, edge: FlowEdge) -> bool:
        written = edge.edge
        if written is None:
            return True
        dead = self._dead.get(edge.source)
        if dead is None:
            edges = guarded_edges(edge.source)
            self._dead[edge.source] = dead = frozenset()
            if any(isinstance(e.trigger, ast.When) for e in edges) and _well_typed(edges, self.analysis):
                dead = _cover(edge.source, edges, self.analysis)[2]
        return written not in dead


def _cover(
    state: FlowState, edges: list[ast.Edge], analysis: Analysis
) -> tuple[list[Formula], Cover, frozenset[Node], Space]:
    """The guards of a state as formulas, which of them are reached, and the edges that are never taken, which are
    remembered."""
    space = Space(analysis)
    formulas = [edge_formula(edge, space) for edge in edges]
    space.seal()
    cover = first_match(formulas, space)
    dead = frozenset(e for at, e in enumerate(edges) if cover.complete and at not in cover.reached)
    analysis.dead_edges[state] = dead
    return formulas, cover, dead, space


def falls_through(state: FlowState) -> bool:
    """Whether a state has a way on when no guard holds: the one state of a branch or item that is written as plain
    clauses may end, so may one that says what it `yields`, and an ask has an edge for each of its options (JAM212)."""
    own = isinstance(state.decl, ast.StateDecl | ast.ParallelDecl)
    return not own or isinstance(state.action, ast.AskAction) or ast.clause(state.clauses, ast.YieldsClause) is not None


# ---- edges that are never taken


def _dead_edges(edges: list[ast.Edge], formulas: list[Formula], cover: Cover, space: Space) -> Iterator[Diagnostic]:
    for at, edge in enumerate(edges):
        if at not in cover.reached and satisfiable(formulas[at], space) is False:
            assert isinstance(edge.trigger, ast.When)
            yield _never_true(edge.trigger.condition, formulas[at], space)
        elif at in cover.reached:
            last = at + 1 == len(edges)
            if not last and isinstance(edge.trigger, ast.When) and _always(formulas[at], space):
                yield _always_true(edges, at, formulas[at], space)
                return
        else:
            yield _shadowed(edges, at, formulas, space)


def _always(formula: Formula, space: Space, declared: bool = True) -> bool:
    return satisfiable(neg(formula), space, declared) is False


def _never_true(condition: ast.Expr, formula: Formula, space: Space) -> Diagnostic:
    return Diagnostic(
        "JAM502",
        f"`{source_text(condition)}` is never true",
        condition.span,
        why=_range_reason(formula, space) or "its parts exclude each other",
        help="correct the condition, or delete the edge",
    )


def _always_true(edges: list[ast.Edge], at: int, formula: Formula, space: Space) -> Diagnostic:
    trigger = edges[at].trigger
    assert isinstance(trigger, ast.When)
    later = tuple(Label(e.trigger.span, "never reached") for e in edges[at + 1 : at + 1 + _LABELS])
    return Diagnostic(
        "JAM503",
        f"`{source_text(trigger.condition)}` is always true, so no later edge is ever taken",
        trigger.condition.span,
        labels=later,
        why=_range_reason(neg(formula), space) or "its parts cover every case",
        help="correct the condition, or make this `otherwise` and delete what follows",
    )


def _range_reason(formula: Formula, space: Space) -> str:
    """Why a formula never holds, where a declared range is the reason; else empty."""
    if satisfiable(formula, space, declared=False) is not True:
        return ""
    for dim in _dims_of(formula):
        if dim.declared != dim.full and (words := dim.show_range()):
            return f"`{dim.text}` is declared as {words}"
    return ""


def _dims_of(formula: Formula) -> list[Dim]:
    found: dict[Dim, None] = {}
    todo = [formula]
    while todo:
        part = todo.pop()
        if isinstance(part, Atom):
            found.setdefault(part.dim)
        elif isinstance(part, tuple):
            todo.extend(reversed(part[1]))
    return list(found)


def _shadowed(edges: list[ast.Edge], at: int, formulas: list[Formula], space: Space) -> Diagnostic:
    edge = edges[at]
    winners = _winners(formulas, at, space)
    labels = tuple(Label(edges[i].trigger.span, "this one wins") for i in winners[:_LABELS])
    if isinstance(edge.trigger, ast.When):
        what = f"`{source_text(edge.trigger.condition)}`"
        span = edge.trigger.condition.span
    else:
        what = "`otherwise`" if isinstance(edge.trigger, ast.Otherwise) else "the edge without a guard"
        span = edge.span if edge.target is None else edge.trigger.span.to(edge.target.span)
    whole = "an earlier guard always wins" if len(winners) == 1 else "the guards before it cover all of its cases"
    return Diagnostic(
        "JAM504",
        f"{what} is never reached: {whole}",
        span,
        labels=labels,
        why="of several guards that hold, the first one is taken",
        help="delete this edge, or move it before the one that wins",
    )


def _winners(formulas: list[Formula], at: int, space: Space) -> list[int]:
    """The one earlier formula that covers this one, if there is one, else all that share a case with it."""
    before = range(at)
    for i in before:
        found = first_match((formulas[i], formulas[at]), space)
        if found.complete and 1 not in found.reached:
            return [i]
    return [i for i in before if satisfiable(("&&", (formulas[i], formulas[at])), space) is not False]


# ---- cases without an edge


def _gap(state: FlowState, edges: list[ast.Edge], cover: Cover) -> Diagnostic:
    last = edges[-1].trigger
    labels = (Label(last.span, "the last guard"),)
    if not cover.complete or cover.gap is None:
        return Diagnostic(
            "JAM505",
            f"the guards of `{state.name}` are too many to prove that they cover every case",
            state.span,
            labels=labels,
            help="add `otherwise -> …`",
            why="a run that finds no edge to take fails",
        )
    dims = sorted(cover.gap, key=lambda d: d.index)
    case = ", ".join(dim.describe(cover.gap[dim]) for dim in dims) or "any value"
    if disjoint(dims):
        why = "a run that finds no edge to take fails"
    else:
        why = "that no run gets there is not proved, and one that finds no edge to take fails"
    return Diagnostic(
        "JAM505",
        f"`{state.name}` has no edge for {case}",
        state.span,
        labels=labels,
        why=why,
        help="add `otherwise -> …`, or a guard for this case",
    )
