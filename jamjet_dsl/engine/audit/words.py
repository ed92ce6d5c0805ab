"""What records are made of: plain values, and what was used of the budget."""

from __future__ import annotations

from typing import Any

from jamjet_dsl.engine.view import _plain
from jamjet_dsl.kernel.budget import Used, caps_at, homes, tree_of, used_at
from jamjet_dsl.kernel.model import RunState
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.money import money_text


def plain(value: Any) -> Any:
    """A journaled value as plain JSON; one that is none of the journal form stays as it is."""
    try:
        return _plain(value, None)
    except (ValueError, TypeError, KeyError):
        return value


def budget_of(program: Program, before: RunState, after: RunState, path: str) -> dict[str, Any]:
    """What the run, and each agent around the frame, had used and held before an event and after it, and its limits."""
    found = {}
    for home in dict.fromkeys(homes(after, path)):
        account: dict[str, Any] = {
            "before": _used(program, used_at(before, home)) if _has(before, home) else None,
            "after": _used(program, used_at(after, home)),
        }
        limits = tree_of(caps_at(program, after, home, spare=True), program.agent.currency)
        found[home or "run"] = {**account, "limits": limits}
    return found


def _has(state: RunState, home: str) -> bool:
    return not home or (home in state.frames and state.frames[home].account is not None)


def _used(program: Program, used: Used) -> dict[str, Any]:
    currency = program.agent.currency
    return {
        "steps": used.steps,
        "tokens": used.tokens,
        "cost": money_text(used.cost, currency),
        "active_ms": used.active,
        "held_tokens": used.held_tokens,
        "held_cost": money_text(used.held_cost, currency),
    }
