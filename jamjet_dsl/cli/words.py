"""Runs in words: where one stands, what it waits for, what continues it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from jamjet_dsl.render.readable import duration, money, quantity

if TYPE_CHECKING:
    from jamjet_dsl.engine.view import RunView

_COLOUR = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "parked": "red",
    "waiting": "magenta",
    "running": "cyan",
}


def status(text: str) -> str:
    """A status in its colour."""
    return click.style(text, fg=_COLOUR.get(text), bold=True)


def when(at_ms: int) -> str:
    """A time as people here read it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def plain(value: Any) -> str:
    """A value as JSON on one line, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(public(value), ensure_ascii=False, default=str)
    return text if len(text) <= 300 else text[:299] + "…"


def public(value: Any) -> Any:
    """A value of the journal as people write it: money as `"1.50 USD"`, without tags."""
    from jamjet_dsl.kernel.values import from_journal, to_public

    return to_public(from_journal(value))


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
    """A command to copy, with --db where the default would be another database."""
    return (
        f"jam {rest}" if os.path.normpath(db) == "jam.db" or os.environ.get("JAM_DB") == db else f"jam {rest} --db {db}"
    )


def waits(item: Mapping[str, Any]) -> str:
    """One thing a run waits for."""
    match item.get("kind"):
        case "question":
            return f"{item.get('role', 'a person')}: {item.get('text', '')}"
        case "event":
            return f"the event {item.get('name')}"
        case "timer":
            return "the time"
        case "operator":
            return f"an operator: {item.get('reason', '')}"
        case other:
            return str(other)


def standing(view: RunView, db: str) -> str:
    """Some lines about a run, ending with the commands that continue it."""
    lines = [
        f"run {click.style(view.run_id, bold=True)}  {status(view.status)}"
        + (f"  in {view.state}" if view.state else "")
    ]
    if view.output is not None:
        width = max((len(k) for k in view.output), default=0)
        lines += [f"  {k.ljust(width)}  {plain(v)}" for k, v in view.output.items()]
    used = spent(view.spent, view.budget)
    if used:
        lines.append(click.style(f"  spent {used}", dim=True))
    for item in view.waiting_for:
        lines += _waiting(view, item, db)
    return "\n".join(lines)


def _waiting(view: RunView, item: Mapping[str, Any], db: str) -> list[str]:
    lines = [f"  waits for {waits(item)}"]
    match item.get("kind"):
        case "question":
            options = option_names(item.get("options", ()))
            call = item.get("call")
            if call:
                args = ", ".join(f"{k}: {plain(v)}" for k, v in (call.get("args") or {}).items())
                lines.append(f"    it grants this call, once: {call.get('tool')}({args})")
            for name, value in (item.get("show") or {}).items():
                lines.append(f"    {name}: {plain(value)}")
            if item.get("expires_at_ms"):
                lines.append(f"    until {when(item['expires_at_ms'])}")
            choice = options[0] if len(options) == 1 else "|".join(options)
            lines.append(
                f"  {click.style('continue with', dim=True)}  {jam(db, f'answer {view.run_id} {choice} --by WHO')}"
            )
        case "event":
            lines.append(_continue(jam(db, f"send {view.run_id} {item.get('name')} JSON")))
        case "timer":
            at = item.get("at_ms") or view.wake_at_ms
            if at:
                lines[-1] = f"  waits until {when(at)}"
            lines.append(_continue(f"{jam(db, f'resume {view.run_id}')} then, or keep `{jam(db, 'worker')}` running"))
        case "operator":
            if item.get("message"):
                lines.append(f"    {item['message']}")
            for command in item.get("commands", ()):
                lines.append(
                    f"  {click.style('continue with', dim=True)}  {jam(db, str(command).removeprefix('jam '))}"
                )
    return lines


def _continue(command: str) -> str:
    return f"  {click.style('continue with', dim=True)}  {command}"


def ago(ms: int) -> str:
    """A stretch of time in one or two units, for reading."""
    if ms < 1000:
        return f"{ms}ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f}s"
    return duration(ms // 60_000 * 60_000) if ms < 3_600_000 else f"{ms / 3_600_000:.1f}h"
