"""A journal as a timeline that a person can read: one line an event, or none for what only machines need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jamjet_dsl.cli.words import ago, plain
from jamjet_dsl.definition import Definition, State
from jamjet_dsl.render.graph import trigger_text

if TYPE_CHECKING:
    from jamjet_dsl.kernel.model import Event

Body = Mapping[str, Any]


def _args(body: Body) -> str:
    return ", ".join(f"{k}: {plain(v)}" for k, v in (body.get("args") or {}).items())


def _intent(body: Body) -> str:
    what = f"{body.get('tool')}({_args(body)})" if body.get("tool") else f"model {body.get('model') or ''}"
    key = f"  key {body['key']}" if body.get("key") else ""
    return f"→ {what}{key}"


def _failed(body: Body) -> str:
    return f"✗ {body.get('error')}: {plain(body.get('message', ''))}" + (
        "" if body.get("definite", True) else "  (it may have happened)"
    )


_WORDS: dict[str, Callable[[Body], str]] = {
    "started": lambda b: f"started {b.get('agent', '')} with {plain(b.get('input', {}))}",
    "intent": _intent,
    "succeeded": lambda b: (
        f"✓ {plain(b.get('result'))}" + (f"  in {ago(int(b['duration_ms']))}" if b.get("duration_ms") else "")
    ),
    "failed": _failed,
    "retry": lambda b: f"retry: attempt {b.get('attempt')}",
    "asked": lambda b: f"? asks {b.get('role')}: {plain(b.get('text'))}  ({b.get('question')})",
    "answered": lambda b: f"{b.get('by') or 'somebody'} answers {b.get('option')}",
    "expired": lambda b: f"nobody answered {b.get('question')} in time",
    "received": lambda b: f"event {b.get('name')} {plain(b.get('payload', {}))}",
    "consumed": lambda b: f"takes event {b.get('name')}",
    "emitted": lambda b: f"emits {b.get('message')}({_args(b)})",
    "denied": lambda b: f"⊘ denied {b.get('tool')}({_args(b)}): {plain((b.get('decision') or {}).get('reason', ''))}",
    "in_doubt": lambda b: f"in doubt: {plain(b.get('why', ''))}",
    "probed": lambda b: (
        "confirm: " + {True: "it happened", False: "it did not happen", None: "unknown"}[b.get("happened")]
    ),
    "settled": lambda b: (
        f"{b.get('by') or 'somebody'} settles: {'it happened' if b.get('happened') else 'it did not happen'}"
    ),
    "fact": lambda b: f"fact {b.get('name')}: {plain(b.get('result'))}",
    "spent": lambda b: f"warning: {b.get('what')} at {b.get('level')}%",
    "exceeded": lambda b: f"budget exceeded: {b.get('what')}",
    "overrun": lambda b: f"overrun: {b.get('what')} by {b.get('by')}",
    "parked": lambda b: f"parked: {plain(b.get('reason', ''))}",
    "unparked": lambda b: f"{b.get('by') or 'an operator'} lets it try again",
    "cancelling": lambda b: f"{b.get('by') or 'somebody'} cancels it",
    "late": lambda b: f"a late outcome of {b.get('cmd')}",
    "faulted": lambda b: f"✗ {plain(b.get('message') or b.get('error') or '')}",
    "recovered": lambda b: f"recovered {b.get('cmd')}: {b.get('how')}",
    "resumed": lambda b: "resumed after an interruption",
    "finished": lambda b: (
        f"{b.get('status')} in {b.get('state')}" + (f" with {plain(b['output'])}" if b.get("output") else "")
    ),
}


def edge_texts(definition: Definition) -> dict[tuple[str, str], str]:
    """What each edge of the main agent waits for, in words, by state and edge id: why a run went the way it did."""
    found: dict[tuple[str, str], str] = {}
    for state in definition.agent.body.states:
        if isinstance(state, State):
            found.update({(state.name, e.id): trigger_text(e) for e in state.edges})
    return found


def _moved(body: Body, edges: Mapping[tuple[str, str], str]) -> str:
    edge = str(body.get("edge", ""))
    text = edges.get((str(body.get("state")), edge), edge.rstrip("!").partition("#")[0])
    if edge.endswith("!"):
        text = f"{edges.get((str(body.get('state')), edge[:-1]), edge)}: limit used up"
    return f"{body.get('state')} ─{f'({text})' if text else ''}→ {body.get('to')}"


def line_of(event: Event, started_ms: int, edges: Mapping[tuple[str, str], str]) -> str:
    """One event as a line, with its number and how long after the start it was; empty for timers and snapshots.

    `edges` are those of `edge_texts`.
    """
    if event.kind == "moved":
        said = _moved(event.body, edges)
    elif event.kind in _WORDS:
        said = _WORDS[event.kind](event.body)
    else:
        return ""
    frame = event.body.get("frame")
    inside = f"[{frame}] " if frame else ""
    return f"{event.seq:>4}  {ago(event.at_ms - started_ms):>7}  {inside}{said}"
