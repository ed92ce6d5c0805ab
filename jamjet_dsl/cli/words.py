"""Runs in words: where one stands, what it waits for, what continues it."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from jamjet_dsl.render.readable import duration, money, quantity

if TYPE_CHECKING:
    from jamjet_dsl.engine.engine import Engine
    from jamjet_dsl.engine.view import RunView

_COLOUR = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "parked": "red",
    "waiting": "magenta",
    "running": "cyan",
}

_COMMANDS = {
    "settle --happened": "settle {id} --happened JSON --by WHO --note TEXT",
    "settle --did-not-happen": "settle {id} --did-not-happen --by WHO --note TEXT",
}
"""How the operator's moves are typed, where it is more than the word and the run."""


def _move(command: str, run_id: str, call: str = "") -> str:
    """An operator's move as it is typed. `settle --call CALL` names one of several calls in doubt; `call` is the one
    that is meant where several are and the command does not say."""
    if call and command.startswith("settle ") and " --call " not in command:
        command = command.replace("settle ", f"settle --call {call} ", 1)
    words = command.split(" ")
    named = f" --call '{words[2]}'" if words[1:2] == ["--call"] else ""
    plain_command = f"{words[0]} {words[3]}" if named else command
    return _COMMANDS.get(plain_command, f"{plain_command} {{id}}").format(id=run_id) + named


_REDACTED = re.compile("‹redacted [0-9a-f]{64}(?:/[0-9])?(?:\\+[0-9]+)?›")
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def status(text: str) -> str:
    """A status in its colour."""
    return click.style(text, fg=_COLOUR.get(text), bold=True)


def when(at_ms: int) -> str:
    """A time as people here read it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def safe(text: str) -> str:
    """A text without what could move the cursor, colour the terminal or turn the direction of reading around.

    INVARIANT: whatever a tool, a model or a caller gave reaches a terminal through here, so that none of them can
    show an officer another call than the one that is approved.
    """
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def plain(value: Any, limit: int | None = 300) -> str:
    """A value as JSON (a text as it is) on one line, cut where it is longer than `limit`."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = _REDACTED.sub("‹redacted›", safe(text).replace("\n", " ⏎ "))
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def journaled(value: Any, limit: int | None = 300) -> str:
    """As `plain`, for a value in the journal form."""
    return plain(public(value), limit)


def public(value: Any) -> Any:
    """A value of the journal as people write it: money as `"1.50 USD"`, without tags. A value that is public already
    stays as it is, even if it looks like a tag."""
    from jamjet_dsl.kernel.values import from_journal, to_public

    value = _marked(value)
    try:
        return to_public(from_journal(value))
    except ValueError:
        return value


def _marked(value: Any) -> Any:
    """A value in the journal form with a text for each part that is kept apart from the journal."""
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(value.get("$redacted"), str):
            return f"‹redacted {value['$redacted']}›"
        return {name: _marked(item) for name, item in value.items()}
    return [_marked(item) for item in value] if isinstance(value, list) else value


def option_names(options: Iterable[Any]) -> list[str]:
    """The names of a question's options."""
    return [str(o["name"]) if isinstance(o, Mapping) else str(o) for o in options]


def spent(view_spent: Mapping[str, Any], budget: Mapping[str, Any]) -> str:
    """What was used of what there is: `steps 5/25 · tokens 0/20k · cost $0.40/$2.00`."""
    parts = []
    for name in ("steps", "tokens"):
        limit = budget.get(name)
        if view_spent.get(name) or limit is not None:
            parts.append(
                f"{name} {quantity(int(view_spent.get(name) or 0))}"
                + (f"/{quantity(limit)}" if limit is not None else "")
            )
    limit = budget.get("cost")
    cost = str(view_spent.get("cost") or "0")
    if limit is not None or cost.split(" ")[0] not in ("0", "0.00"):
        parts.append(f"cost {money(cost)}" + (f"/{money(limit)}" if limit is not None else ""))
    return " · ".join(parts)


def jam(db: str, rest: str) -> str:
    """A command to copy, with --db where the default would be another database. JAM_COMMAND is how `jam` was called."""
    command = os.environ.get("JAM_COMMAND") or "jam"
    if os.path.normpath(db) == "jam.db" or os.environ.get("JAM_DB") == db:
        return f"{command} {rest}"
    return f"{command} {rest} --db {shlex.quote(db)}"


def question(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a person who answers has to see: the text, the call that approving grants, the values shown, the form."""
    call = body.get("call")
    return {
        "role": body.get("role", ""),
        "text": body.get("text", ""),
        "call": call and {"tool": call["tool"], "args": public(call.get("args") or {})},
        "show": {name: public(value) for name, value in body.get("show") or ()},
        "options": list(body.get("options") or ()),
        "form": [field["name"] for field in body.get("form") or ()],
    }


def complete(jam_: Engine, view: RunView, db: str) -> RunView:
    """The view with what a person needs to go on: questions in full, and commands as they are typed."""
    from dataclasses import replace

    items = []
    for item in view.waiting_for:
        match item.get("kind"):
            case "question":
                items.append({**item, **question(jam_.store.find_question(item["id"]).body)})
            case "operator":
                meant = str(item.get("cmd", "")) if len(view.doubts) > 1 else ""
                moves = (_move(command, view.run_id, meant) for command in item.get("commands", ()))
                items.append({**item, "commands": [jam(db, move) for move in moves]})
            case _:
                items.append(dict(item))
    return replace(view, waiting_for=tuple(items), failure=_failure(jam_, view))


def _failure(jam_: Engine, view: RunView) -> dict[str, Any] | None:
    from jamjet_dsl.cli.why import TAIL, failure

    if view.status != "failed":
        return None
    return failure(jam_.store.history(view.run_id, max(0, view.last_seq - TAIL)))


def waits(item: Mapping[str, Any]) -> str:
    """One thing a run waits for, on one line."""
    match item.get("kind"):
        case "question":
            return f"{plain(item.get('role') or 'a person')}: {plain(item.get('text', ''))}"
        case "event":
            return f"the event {item.get('name')}"
        case "timer":
            return "the time"
        case "slot":
            return f"its turn: the calls of `{item.get('name')}` are limited"
        case "operator":
            return f"an operator: {plain(item.get('reason', ''))}"
        case other:
            return str(other)


def standing(view: RunView, db: str) -> str:
    """Some lines about a run that `complete` has gone through, ending with the commands that continue it."""
    lines = [
        f"run {click.style(view.run_id, bold=True)}  {status(view.status)}"
        + (f"  in {view.state}" if view.state else "")
    ]
    if view.output is not None:
        width = max((len(k) for k in view.output), default=0)
        lines += [f"  {k.ljust(width)}  {plain(v)}" for k, v in view.output.items()]
    if view.failure is not None:
        from jamjet_dsl.cli.why import told

        lines.append(f"  {told(view.failure)}")
    used = spent(view.spent, view.budget)
    if used:
        lines.append(click.style(f"  spent {used}", dim=True))
    lines += [f"  {line}" for line in _doubts(view)]
    for item in view.waiting_for:
        lines += _waiting(view, item, db)
    if view.status == "running":
        lines.append(_continue(f"{jam(db, f'resume {view.run_id}')}, or keep `{jam(db, 'worker')}` running"))
    return "\n".join(lines)


def _doubts(view: RunView) -> list[str]:
    """What a person has to look up before a call in doubt can be settled: exactly which call it was."""
    lines = []
    for doubt in view.doubts:
        args = ", ".join(f"{name}: {plain(value, None)}" for name, value in doubt["args"].items())
        key = f"  key {plain(doubt['key'], None)}" if doubt["key"] is not None else ""
        named = f"  as {plain(doubt['call'])}" if len(view.doubts) > 1 else ""
        lines.append(f"in doubt: {doubt['tool']}({args}){key}{named}, begun {when(doubt['since_ms'])}")
    return lines


def _waiting(view: RunView, item: Mapping[str, Any], db: str) -> list[str]:
    lines = [f"  waits for {waits(item)}"]
    match item.get("kind"):
        case "question":
            lines += [f"    {line}" for line in question_lines(item)]
            if item.get("expires_at_ms"):
                lines.append(f"    until {when(item['expires_at_ms'])}")
            choice = "|".join(option_names(item.get("options", ())))
            several = sum(other.get("kind") == "question" for other in view.waiting_for) > 1
            lines.append(_continue(jam(db, f"answer {item['id'] if several else view.run_id} {choice} --by WHO")))
        case "event":
            if item.get("at_ms"):
                lines[-1] += f", until {when(item['at_ms'])}"
            lines.append(_continue(jam(db, f"send {view.run_id} {item.get('name')} JSON")))
        case "slot":
            lines[-1] += f", until {when(item['at_ms'])}"
        case "timer":
            at = item.get("at_ms") or view.wake_at_ms
            if at:
                lines[-1] = f"  waits until {when(at)}"
            lines.append(_continue(f"{jam(db, f'resume {view.run_id}')} then, or keep `{jam(db, 'worker')}` running"))
        case "operator":
            if item.get("message"):
                lines.append(f"    {plain(item['message'])}")
            lines += [_continue(command) for command in item.get("commands", ())]
    return lines


def question_lines(item: Mapping[str, Any]) -> list[str]:
    """What approving grants, in full, and the values shown beside the question; see `question`."""
    lines = []
    call = item.get("call")
    if call:
        args = ", ".join(f"{name}: {plain(value, None)}" for name, value in call["args"].items())
        lines.append(f"approving grants this call, once: {call['tool']}({args})")
    lines += [f"{name}: {plain(value)}" for name, value in (item.get("show") or {}).items()]
    if item.get("form"):
        lines.append(f"with the answer it takes {', '.join(item['form'])}")
    return lines


def _continue(command: str) -> str:
    return f"  {click.style('continue with', dim=True)}  {command}"


def counted(number: int, what: str) -> str:
    """`1 event`, `2 events`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def ago(ms: int) -> str:
    """A stretch of time in one or two units, for reading."""
    if ms < 1000:
        return f"{ms}ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f}s"
    return duration(ms // 60_000 * 60_000) if ms < 3_600_000 else f"{ms / 3_600_000:.1f}h"
