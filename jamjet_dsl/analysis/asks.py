"""The options of a question, and the edges that answer to them (JAM212)."""

from __future__ import annotations

from jamjet_dsl.analysis.model import FlowState
from jamjet_dsl.analysis.report import Report
from jamjet_dsl.diagnostics.model import Label
from jamjet_dsl.diagnostics.suggest import did_you_mean
from jamjet_dsl.syntax import ast

DONE = "done"
"""The one option of an ask that offers neither options nor a call: its form was sent."""


def options_of(action: ast.AskAction) -> list[tuple[str, bool]]:
    """The options of an ask and which of them grant the call it offers.

    Without `options`, an ask that offers a call has `approve` and `decline`, any other the single option `done`.
    Where no option is marked `approves`, the one named `approve` grants.
    """
    clause = ast.clause(action.options, ast.OptionsOpt)
    offers = action.call is not None or action.proposed is not None
    if clause is None:
        return [("approve", True), ("decline", False)] if offers else [(DONE, False)]
    marked = any(o.approves for o in clause.options)
    return [(o.name.text, o.approves or (offers and not marked and o.name.text == "approve")) for o in clause.options]


def check_options(state: FlowState, report: Report) -> None:
    """Every option has an edge, every option edge an option, and a call that is offered can be granted."""
    edges = {e: e.trigger for e in ast.clauses(state.clauses, ast.Edge)}
    taken = {t.option.text: t.option for t in edges.values() if isinstance(t, ast.OnOption)}
    if not isinstance(state.action, ast.AskAction):
        for name in taken.values():
            report.add(
                "JAM212",
                name.span,
                f"`on {name.text}` waits for an option, and this state asks nobody",
                help="the triggers are: error, timeout, denied, in_doubt, event, join, or an option of an `ask`",
            )
        return
    action = state.action
    options = options_of(action)
    names = [name for name, _ in options]
    clause = ast.clause(action.options, ast.OptionsOpt)
    meant: set[str] = set()
    for text, name in taken.items():
        if text not in names:
            guess = did_you_mean(text, [n for n in names if n not in taken])
            meant.update([guess] if guess else [])
            report.add(
                "JAM212",
                name.span,
                f"`{text}` is not an option of this ask",
                help=f"did you mean `{guess}`?" if guess else f"its options are {_listed(names)}",
                labels=(Label(clause.span, "its options"),) if clause is not None else (),
            )
    _check_repeated(clause, report)
    if any(isinstance(t, ast.Always | ast.Otherwise) for t in edges.values()) or (
        state.region.kind != "agent" and not taken
    ):
        missing = []
    else:
        missing = [n for n in names if n not in taken and n not in meant]
    for text in missing:
        option = next((o for o in clause.options if o.name.text == text), None) if clause is not None else None
        report.add(
            "JAM212",
            option.name.span if option is not None else action.role.span,
            f"nothing happens on option `{text}`" if text != DONE else "nothing happens when this question is answered",
            help=f"add an edge: `on {text} -> …`" if text != DONE else "add an edge: `-> …`",
        )
    if (action.call is not None or action.proposed is not None) and not any(grants for _, grants in options):
        assert clause is not None
        report.add(
            "JAM212",
            clause.span,
            "no option grants the call that this ask offers",
            help="mark the one that does: `options yes approves, no`",
        )


def _check_repeated(clause: ast.OptionsOpt | None, report: Report) -> None:
    seen: dict[str, ast.Name] = {}
    for option in clause.options if clause is not None else ():
        first = seen.setdefault(option.name.text, option.name)
        if first is not option.name:
            report.add(
                "JAM102",
                option.name.span,
                f"`{option.name.text}` is already an option of this ask",
                labels=(Label(first.span, "the first one"),),
            )


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{n}`" for n in names)
