"""Why a run failed: the last thing that went wrong and that an edge or a handler of the run's own states took up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jamjet_dsl.cli.words import plain, public

if TYPE_CHECKING:
    from jamjet_dsl.kernel.model import Event

TAIL = 1_000
"""How far back in its journal a run that failed is looked at: what went wrong long before is not why."""


def failure(events: Iterable[Event]) -> dict[str, Any] | None:
    """`error`, `message`, the `state` it happened in, the `call` that had it (a tool, a model, or null) and the `seq`
    of its event; None where nothing went wrong and the program simply chose to fail.

    What goes wrong in a branch, an item or a child agent counts as what the state around it made of it.
    """
    calls: dict[str, str] = {}
    wrong: dict[str, Any] | None = None
    found: dict[str, Any] | None = None
    for event in events:
        body = event.body
        if body.get("frame") or str(body.get("cmd", "")).rpartition("#")[0] or body.get("home"):
            continue
        match event.kind:
            case "intent":
                calls[str(body["cmd"])] = str(body.get("tool") or f"model {body.get('model') or ''}".strip())
            case "succeeded" | "answered":
                wrong = None
            case "moved":
                if wrong is not None:
                    found = {**wrong, "state": str(body.get("state", ""))}
                wrong = None
            case _:
                said = _said(event)
                if said is not None:
                    call = calls.get(str(body.get("cmd"))) or body.get("tool")
                    wrong = {"error": said[0], "message": said[1], "call": call, "seq": event.seq}
    return found


def _said(event: Event) -> tuple[str, str] | None:
    """The name and the text of what went wrong, if this is such an event."""
    body = event.body
    match event.kind:
        case "failed" | "faulted":
            return str(body.get("error") or "an error"), _text(body.get("message"))
        case "joined" if body.get("how") != "ok":
            return str(body.get("error") or "JoinFailed"), _text(body.get("message"))
        case "denied":
            return "denied", _text((body.get("decision") or {}).get("reason"))
        case "in_doubt":
            return "in doubt", _text(body.get("why"))
        case "expired":
            return "timeout", "nobody answered the question in time"
        case "exceeded":
            return "budget exceeded", _text(body.get("what"))
    return None


def _text(value: Any) -> str:
    shown = public(value)
    return shown if isinstance(shown, str) else "" if shown is None else plain(shown, None)


def told(why: Mapping[str, Any]) -> str:
    """One line: `after pay: Refused: no such account (event 6, in go)`."""
    call = f"{plain(why['call'])}: " if why["call"] else ""
    message = f": {plain(why['message'])}" if why["message"] else ""
    return f"after {call}{plain(why['error'])}{message} (event {why['seq']}, in {why['state']})"
