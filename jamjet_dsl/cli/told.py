"""What a timeline says of each kind of event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jamjet_dsl.cli.words import ago, counted, when
from jamjet_dsl.cli.words import journaled as plain

Body = Mapping[str, Any]


def args_text(body: Body) -> str:
    """The arguments of a call."""
    return ", ".join(f"{k}: {plain(v)}" for k, v in (body.get("args") or {}).items())


def unenforced_text(body: Body) -> str:
    """What the policy would not have let pass, were it enforced."""
    decision = body.get("decision") or {}
    if decision.get("enforced", True):
        return ""
    would = "be denied" if decision.get("result") == "denied" else "wait"
    return f"  ⊘ in shadow: would {would}: {plain(decision.get('reason', ''))}"


def by_text(body: Body) -> str:
    """Who did it."""
    return plain(body.get("by") or "somebody")


def note_text(body: Body) -> str:
    """Why, where somebody said so."""
    return f": “{plain(body['note'])}”" if body.get("note") else ""


def _form(body: Body) -> str:
    form = body.get("form") or {}
    rest = {name: value for name, value in form.items() if name != "note"}
    return (f" with {plain(rest)}" if rest else "") + note_text(form)


def opened_text(body: Body) -> str:
    """What is carried out by frames of their own from here on."""
    until = f", until {when(int(body['at_ms']))}" if body.get("at_ms") else ""
    if "branches" in body:
        return f"┌ branches {', '.join(body['branches'])}{until}"
    if "items" in body:
        return f"┌ {counted(len(body['items']), 'item')}{until}"
    if "agent" in body:
        return f"┌ runs {body['agent']} with {plain(body.get('input', {}))}{until}"
    return "┌ undoes what can be taken back" if body.get("undo") else "┌ finally"


def closed_text(body: Body, name: str) -> str:
    """How a frame of that name ended."""
    match body.get("how"):
        case "done":
            return f"│ {name} is done" + (f": {plain(body['value'])}" if body.get("value") is not None else "")
        case "failed":
            return f"│ {name} failed: {body.get('error')}: {plain(body.get('message', ''))}"
        case how:
            left = f", leaving {', '.join(body['unresolved'])} unresolved" if body.get("unresolved") else ""
            return f"│ {name} is {how}{left}"


def _joined(body: Body) -> str:
    if body.get("how") == "ok":
        results = body.get("results")
        found = {name: part.get("value") for name, part in results.items()} if results else body.get("result")
        return "└ " + (plain(found) if found is not None else "done")
    return f"└ ✗ {body.get('error')}: {plain(body.get('message', ''))}"


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
    return f"{by_text(body)} settles that {call} {how}{note_text(body)}"


def _recovered(body: Body, call: str) -> str:
    how = {"again": "is made again", "key": "is made again under its key", "confirm": "is asked about"}
    return f"{call} was in flight when its process died: it {how.get(str(body.get('how')), plain(body.get('how')))}"


def _unsent(body: Body, call: str) -> str:
    return f"{call} was not begun when its process was stopped: it is made later"


OUTCOMES: dict[str, Callable[[Body, str], str]] = {
    "succeeded": _succeeded,
    "failed": _failed,
    "probed": _probed,
    "settled": _settled,
    "recovered": _recovered,
    "unsent": _unsent,
    "in_doubt": lambda b, call: f"{call} is in doubt: {plain(b.get('why', ''))}",
    "late": lambda b, call: f"a late outcome of {call}: {plain(b.get('result', b.get('message')))}",
}
"""Of events about a call, by the call's name."""

WORDS: dict[str, Callable[[Body], str]] = {
    "answered": lambda b: f"{by_text(b)} answers {b.get('option')}{_form(b)}",
    "received": lambda b: f"event {b.get('name')} {plain(b.get('payload', {}))}",
    "consumed": lambda b: f"takes event {b.get('name')}",
    "emitted": lambda b: f"emits {b.get('message')}({args_text(b)})",
    "denied": lambda b: (
        f"⊘ denied {b.get('tool')}({args_text(b)}): {plain((b.get('decision') or {}).get('reason', ''))}"
    ),
    "counted": lambda b: (
        "all runs of the principal have used "
        + "; ".join(
            f"{calls} call{'' if calls == 1 else 's'}{f', {total} in all' if total != '0' else ''}"
            for *_, calls, total in b.get("used", [])
        )
    ),
    "fact": lambda b: f"fact {b.get('name')}: {plain(b['result'] if 'result' in b else b.get('error'))}",
    "spent": lambda b: f"warning: {b.get('what')} at {b.get('level')}%",
    "exceeded": lambda b: f"budget exceeded: {b.get('what')}",
    "overrun": lambda b: f"overrun: {b.get('what')} by {b.get('by')}",
    "parked": lambda b: f"parked: {plain(b.get('reason', ''))}",
    "unparked": lambda b: f"{by_text(b)} lets it try again{note_text(b)}",
    "cancelling": lambda b: f"{by_text(b)} cancels it{' at once' if b.get('now') else ''}{note_text(b)}",
    "faulted": lambda b: f"✗ {plain(b.get('message') or b.get('error') or '')}",
    "resumed": lambda _: "taken up again",
    "begun": lambda b: "",
    "joined": _joined,
    "finished": lambda b: (
        f"{b.get('status')} in {b.get('state')}" + (f" with {plain(b['output'])}" if b.get("output") else "")
    ),
}
"""Of all others."""
