"""Checks of what the edges of a state wait for: doubles, order, errors that cannot come, errors nobody handles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from jamjet_dsl.analysis.checks.facts import options_of, raises_of, written_edges
from jamjet_dsl.analysis.checks.paths import trigger_text
from jamjet_dsl.analysis.flow import raised_errors, tools_of
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowState
from jamjet_dsl.analysis.types import INDEFINITE_ERRORS
from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.syntax import ast

_OF_PARALLEL = "JoinFailed"
_OF_CHILD = "ChildFailed"


def check_handlers(agent: AgentInfo, analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM208, JAM209, JAM210, JAM211, JAM213 and JAM214 of one agent."""
    yield from _same_trigger(agent.handlers, "handler")
    yield from _catch_all_first(agent.handlers)
    everywhere: set[str] = set()
    for state in agent.all_states():
        if state.final:
            continue
        edges = written_edges(state)
        yield from _same_trigger(edges, "edge")
        yield from _catch_all_first(edges)
        yield from _two_exits(edges)
        possible = raised_errors(state, agent, analysis)
        everywhere |= possible
        tools = tools_of(state.action, agent, analysis)
        yield from _impossible(state, edges, possible, tools)
        yield from _unhandled(agent, state, edges, tools)
    yield from _impossible_everywhere(agent, everywhere)
    yield from _unawaited(agent)


# ---- doubles


def _waits_for(trigger: ast.Trigger) -> Iterator[tuple[str, str]]:
    """What a trigger waits for, as (key, words); conditions are the guard analysis's business."""
    match trigger:
        case ast.OnError(any=True):
            yield "error any", "any error"
        case ast.OnError(errors=errors):
            for error in errors:
                yield f"error {error.text}", f"error `{error.text}`"
        case ast.OnEvent(event=event):
            yield f"event {event.text}", f"event `{event.text}`"
        case ast.OnOption(option=option):
            yield f"option {option.text}", f"option `{option.text}`"
        case ast.OnTimeout():
            yield "timeout", "the timeout"
        case ast.OnDenied():
            yield "denied", "a denial"
        case ast.OnInDoubt():
            yield "in_doubt", "a call in doubt"
        case ast.OnJoin():
            yield "join", "the join"
        case ast.OnCancel():
            yield "cancel", "being cancelled"


def _same_trigger(edges: Iterable[ast.Edge | ast.Handler], what: str) -> Iterator[Diagnostic]:
    first: dict[str, ast.Edge | ast.Handler] = {}
    for edge in edges:
        for key, words in _waits_for(edge.trigger):
            earlier = first.setdefault(key, edge)
            if earlier is not edge:
                yield Diagnostic(
                    "JAM208",
                    f"a second {what} for {words}",
                    edge.trigger.span,
                    labels=(Label(earlier.trigger.span, "the first one is always taken"),),
                    why="the first that fits is taken, so this one never is",
                    help="remove one of them",
                )


def _two_exits(edges: tuple[ast.Edge, ...]) -> Iterator[Diagnostic]:
    unguarded = [e for e in edges if isinstance(e.trigger, (ast.Always, ast.Otherwise))]
    for edge in unguarded[1:]:
        yield Diagnostic(
            "JAM214",
            "a second way out without a condition",
            edge.span,
            labels=(Label(unguarded[0].span, "this one is always taken first"),),
            why="the first edge that fits is taken, and an unguarded one always fits",
            help="give one of them a condition (`when …`), or remove it",
        )


def _catch_all_first(edges: Iterable[ast.Edge | ast.Handler]) -> Iterator[Diagnostic]:
    catch_all: ast.Trigger | None = None
    for edge in edges:
        if not isinstance(edge.trigger, ast.OnError):
            continue
        if edge.trigger.any:
            catch_all = catch_all or edge.trigger
        elif catch_all is not None:
            yield Diagnostic(
                "JAM209",
                f"`{trigger_text(edge.trigger)}` stands behind `on error any`",
                edge.trigger.span,
                labels=(Label(catch_all.span, "this one takes every error"),),
                why="handlers are tried in order, so this one is never reached",
                help="move `on error any` behind it",
            )


# ---- errors that cannot come


def _impossible(
    state: FlowState, edges: tuple[ast.Edge, ...], possible: AbstractSet[str], tools: list[ast.ToolDecl]
) -> Iterator[Diagnostic]:
    for edge in edges:
        if isinstance(edge.trigger, ast.OnError):
            for name in edge.trigger.errors:
                if name.text not in possible:
                    yield _cannot_come(name, state, tools)
    raised = possible | INDEFINITE_ERRORS
    for retry in ast.clauses(options_of(state.action), ast.RetryClause):
        for name in retry.errors:
            if name.text not in raised:
                yield _cannot_come(name, state, tools)


def _cannot_come(name: ast.Name, state: FlowState, tools: list[ast.ToolDecl]) -> Diagnostic:
    if tools and name.text in INDEFINITE_ERRORS:
        why = f"after `{name.text}` nobody knows whether the call of `{tools[0].name.text}` happened"
        help = "handle that with `on in_doubt`"
    elif name.text == _OF_PARALLEL:
        why, help = "only a join fails like this", "remove it"
    elif name.text == _OF_CHILD:
        why, help = "only `run` fails like this", "remove it"
    elif tools:
        declared = sorted({n.text for tool in tools for n in raises_of(tool)})
        why = f"`{tools[0].name.text}` declares " + (
            "`raises " + ", ".join(declared) + "`" if declared else "no errors of its own"
        )
        help = f"remove it, or declare `raises {name.text}` on the tool"
    else:
        why, help = "only a call of a tool that declares it can raise it", "remove it"
    return Diagnostic("JAM210", f"`{name.text}` cannot arrive at `{state.name}`", name.span, why=why, help=help)


def _impossible_everywhere(agent: AgentInfo, possible: AbstractSet[str]) -> Iterator[Diagnostic]:
    for handler in agent.handlers:
        if isinstance(handler.trigger, ast.OnError):
            for name in handler.trigger.errors:
                if name.text not in possible:
                    yield Diagnostic(
                        "JAM210",
                        f"no state of `{agent.name}` can raise `{name.text}`",
                        name.span,
                        why="no tool that it calls declares it",
                        help="remove the handler, or declare the error on the tool that raises it",
                    )


# ---- errors that nobody handles


def _handles(triggers: Iterable[ast.Trigger], error: str) -> bool:
    return any(isinstance(t, ast.OnError) and (t.any or any(name.text == error for name in t.errors)) for t in triggers)


def _unhandled(
    agent: AgentInfo, state: FlowState, edges: tuple[ast.Edge, ...], tools: list[ast.ToolDecl]
) -> Iterator[Diagnostic]:
    """JAM211, for the errors that tools declare: somebody expects those. Inside a branch or an item an error
    ends that branch or item, and the join or the list decides."""
    if state.region.kind != "agent":
        return
    triggers = [e.trigger for e in edges] + [h.trigger for h in agent.handlers]
    told: set[str] = set()
    for tool in tools:
        for name in raises_of(tool):
            if name.text in told or _handles(triggers, name.text):
                continue
            told.add(name.text)
            yield Diagnostic(
                "JAM211",
                f"nothing handles `{name.text}` of `{tool.name.text}` in `{state.name}`",
                state.action.span if state.action is not None else state.span,
                labels=(Label(name.span, "declared here"),),
                why="an error without an edge or a handler parks the run until an operator looks at it",
                help=f"add `on error {name.text} -> …` here, or `on error any -> …` to the agent",
            )


# ---- events that nobody waits for


def _unawaited(agent: AgentInfo) -> Iterator[Diagnostic]:
    for event in agent.events.values():
        if not event.used and isinstance(event.node, ast.EventDecl):
            yield Diagnostic(
                "JAM213",
                f"no state takes the event `{event.name}`",
                event.node.name.span,
                why="what is sent would be queued for ever",
                help=f"take it in a state (`on event {event.name} -> …`, `wait for event {event.name}`), or remove it",
            )
