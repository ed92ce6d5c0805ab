"""A journal as a timeline that a person can read: one line an event, or none for what only machines need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jamjet_dsl.cli.words import ago, when
from jamjet_dsl.cli.words import journaled as plain
from jamjet_dsl.definition import Definition, State
from jamjet_dsl.render.graph import trigger_text

if TYPE_CHECKING:
    from jamjet_dsl.kernel.model import Event

Body = Mapping[str, Any]


def _args(body: Body) -> str:
    return ", ".join(f"{k}: {plain(v)}" for k, v in (body.get("args") or {}).items())


def _by(body: Body) -> str:
    return plain(body.get("by") or "somebody")


def _note(body: Body) -> str:
    return f": “{plain(body['note'])}”" if body.get("note") else ""


def _form(body: Body) -> str:
    form = body.get("form") or {}
    rest = {name: value for name, value in form.items() if name != "note"}
    return (f" with {plain(rest)}" if rest else "") + _note(form)


class Timeline:
    """Tells the events of one run, in order. It remembers what a call or a timer was when its outcome comes."""

    def __init__(self, definition: Definition) -> None:
        self._edges: dict[tuple[str, str], str] = {}
        for state in definition.agent.body.states:
            if isinstance(state, State):
                self._edges.update({(state.name, e.id): trigger_text(e) for e in state.edges})
        self._calls: dict[str, str] = {}
        self._due: dict[str, int] = {}
        self._questions: dict[str, str] = {}
        self._started: int | None = None

    def line(self, event: Event) -> str:
        """One event, with its number and how long after the start it was; empty for what only machines need."""
        if self._started is None:
            self._started = event.at_ms
        body = event.body
        match event.kind:
            case "moved":
                said = self._moved(body)
            case "intent":
                said = self._intent(body)
            case "timer" | "retry":
                said = self._timer(body, event.at_ms)
            case "fired":
                said = self._fired(body, event.at_ms)
            case "asked":
                self._questions[body["question"]] = str(body.get("state", ""))
                said = f"? asks {plain(body.get('role'))}: {plain(body.get('text'))}  ({body['question']})"
            case "expired":
                said = f"nobody answered the question of {self._questions.get(body['question'], '')} in time"
            case kind if kind in _OUTCOMES:
                said = _OUTCOMES[kind](body, self._calls.get(str(body.get("cmd")), str(body.get("tool") or "")))
            case kind if kind in _WORDS:
                said = _WORDS[kind](body)
            case _:
                return ""
        inside = f"[{body['frame']}] " if body.get("frame") else ""
        return f"{event.seq:>4}  {ago(event.at_ms - self._started):>7}  {inside}{said}" if said else ""

    def _intent(self, body: Body) -> str:
        name = str(body.get("tool") or f"model {body.get('model') or ''}".strip())
        self._calls[str(body.get("cmd"))] = name
        key = f"  key {plain(body['key'])}" if body.get("key") else ""
        return f"→ {name}({_args(body)}){key}" if body.get("tool") else f"→ {name}"

    def _moved(self, body: Body) -> str:
        edge, state = str(body.get("edge", "")), str(body.get("state"))
        text = self._edges.get((state, edge), edge.rstrip("!").partition("#")[0])
        if edge.endswith("!"):
            text = f"{self._edges.get((state, edge[:-1]), edge)}: limit used up"
        return f"{state} ─{f'({text})' if text else ''}→ {body.get('to')}"

    def _timer(self, body: Body, now_ms: int) -> str:
        what = str(body.get("id", "")).rpartition("/")[2]
        at_ms = int(body.get("at_ms") or now_ms)
        self._due[str(body.get("id"))] = at_ms
        if "attempt" in body:
            return f"tries again in {ago(max(0, at_ms - now_ms))}: attempt {body['attempt']}"
        words = {"wait": "waits until", "timeout": "waits at most until"}.get(what, "")
        return f"{words} {when(at_ms)}" if words else ""

    def _fired(self, body: Body, now_ms: int) -> str:
        name = str(body.get("id"))
        what = name.rpartition("/")[2]
        late = now_ms - self._due.get(name, now_ms)
        words = {"wait": "the time has come", "timeout": "the time to wait is over", "remind": "reminds"}.get(what, "")
        return words + (f", {ago(late)} late" if words and late >= 1000 else "")


def _succeeded(body: Body, call: str) -> str:
    took = f"  in {ago(int(body['duration_ms']))}" if body.get("duration_ms") else ""
    return f"✓ {call}: {plain(body.get('result'))}{took}"


def _failed(body: Body, call: str) -> str:
    unknown = "" if body.get("definite", True) else "  (it may have happened)"
    # A call that was never made, because its arguments did not fit, has no intent to take a name from.
    who = f"{call}: " if call else ""
    return f"✗ {who}{body.get('error')}: {plain(body.get('message', ''))}{unknown}"


def _probed(body: Body, call: str) -> str:
    match body.get("happened"):
        case True:
            return f"{call} is confirmed: it happened, with {plain(body.get('result'))}"
        case False:
            return f"{call} is confirmed: it did not happen"
        case _:
            return f"{call} cannot be confirmed: {plain(body.get('why') or 'unknown')}"


def _settled(body: Body, call: str) -> str:
    how = f"happened, with {plain(body.get('result'))}" if body.get("happened") else "did not happen"
    return f"{_by(body)} settles that {call} {how}{_note(body)}"


def _recovered(body: Body, call: str) -> str:
    how = {"again": "is made again", "key": "is made again under its key", "confirm": "is asked about"}
    return f"{call} was in flight when its process died: it {how.get(str(body.get('how')), plain(body.get('how')))}"


_OUTCOMES: dict[str, Callable[[Body, str], str]] = {
    "succeeded": _succeeded,
    "failed": _failed,
    "probed": _probed,
    "settled": _settled,
    "recovered": _recovered,
    "in_doubt": lambda b, call: f"{call} is in doubt: {plain(b.get('why', ''))}",
    "late": lambda b, call: f"a late outcome of {call}: {plain(b.get('result', b.get('message')))}",
}

_WORDS: dict[str, Callable[[Body], str]] = {
    "started": lambda b: f"started {b.get('agent', '')} with {plain(b.get('input', {}))}",
    "answered": lambda b: f"{_by(b)} answers {b.get('option')}{_form(b)}",
    "received": lambda b: f"event {b.get('name')} {plain(b.get('payload', {}))}",
    "consumed": lambda b: f"takes event {b.get('name')}",
    "emitted": lambda b: f"emits {b.get('message')}({_args(b)})",
    "denied": lambda b: f"⊘ denied {b.get('tool')}({_args(b)}): {plain((b.get('decision') or {}).get('reason', ''))}",
    "fact": lambda b: f"fact {b.get('name')}: {plain(b.get('result'))}",
    "spent": lambda b: f"warning: {b.get('what')} at {b.get('level')}%",
    "exceeded": lambda b: f"budget exceeded: {b.get('what')}",
    "overrun": lambda b: f"overrun: {b.get('what')} by {b.get('by')}",
    "parked": lambda b: f"parked: {plain(b.get('reason', ''))}",
    "unparked": lambda b: f"{_by(b)} lets it try again{_note(b)}",
    "cancelling": lambda b: f"{_by(b)} cancels it{' at once' if b.get('now') else ''}{_note(b)}",
    "faulted": lambda b: f"✗ {plain(b.get('message') or b.get('error') or '')}",
    "resumed": lambda _: "taken up again",
    "finished": lambda b: (
        f"{b.get('status')} in {b.get('state')}" + (f" with {plain(b['output'])}" if b.get("output") else "")
    ),
}
