"""Budgets: nothing starts that does not fit.

An attempt reserves its worst case before it starts and is settled by what it used. A cap is a limit less its
reserve: what does not fit under a cap is exceeded, once, and the reserve is left for the way to an end.
Money is exact; amounts are in the agent's one currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from jamjet_dsl.definition import Budget, Limits, ModelDef, Think, Tool
from jamjet_dsl.kernel.draft import Draft
from jamjet_dsl.kernel.model import Json, Reserve, RunState
from jamjet_dsl.money import money_text

ZERO = Decimal(0)
DIMENSIONS = ("steps", "tokens", "cost", "time", "active")


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits as numbers. None is no limit; cost in units of the currency, times in milliseconds."""

    steps: int | None = None
    tokens: int | None = None
    cost: Decimal | None = None
    time: int | None = None
    active: int | None = None


NO_CAPS = Caps()


def amount(text: str | None) -> Decimal:
    """The number in money text; nothing is zero."""
    return Decimal(text.split(" ")[0]) if text else ZERO


def full_caps(limits: Limits) -> Caps:
    """A definition's limits as numbers."""
    cost = None if limits.cost is None else amount(limits.cost)
    return Caps(limits.steps, limits.tokens, cost, limits.time_ms, limits.active_ms)


def caps_of(budget: Budget | None) -> Caps:
    """What may be used before `exceeded` fires: limits less reserve, never below zero."""
    if budget is None:
        return NO_CAPS
    full, kept = full_caps(budget.limits), full_caps(budget.reserve)

    def less(limit: Any, reserve: Any) -> Any:
        return None if limit is None else max(limit - (reserve or 0), 0 * limit)

    return Caps(*(less(getattr(full, name), getattr(kept, name)) for name in DIMENSIONS))


def reserved(state: RunState) -> tuple[int, Decimal]:
    """Tokens and cost held by the effects in flight."""
    held = [intent.reserve for intent in state.intents.values()]
    return sum(r.tokens for r in held), sum((amount(r.cost) for r in held), ZERO)


def tool_reserve(tool: Tool) -> Reserve:
    """The worst case of one attempt at a call: what the tool declares."""
    return Reserve(0, tool.cost)


def think_reserve(
    action: Think, model: ModelDef | None, prompt_bytes: int, caps: Caps, state: RunState, currency: str
) -> Reserve:
    """The worst case of one attempt at a model call.

    Without `max prompt` the prompt's UTF-8 bytes bound its tokens (no tokenizer gives more than one a byte).
    Without `max tokens` an answer may take all that is left, so all of it is reserved.
    """
    prompt = action.max_prompt if action.max_prompt is not None else prompt_bytes
    if action.max_tokens is not None:
        answer = action.max_tokens
    else:
        answer = 0 if caps.tokens is None else max(caps.tokens - state.spent.tokens - reserved(state)[0] - prompt, 0)
    cost = price(model, prompt, answer)
    return Reserve(prompt + answer, None if cost is None else money_text(cost, currency))


def price(model: ModelDef | None, tokens_in: int, tokens_out: int) -> Decimal | None:
    """What that many tokens cost by the declared prices, or None where none are declared."""
    if model is None or not model.per_tokens or (model.price_in is None and model.price_out is None):
        return None
    return (amount(model.price_in) * tokens_in + amount(model.price_out) * tokens_out) / model.per_tokens


def misfit(caps: Caps, state: RunState, need: Reserve) -> str | None:
    """Which limit an attempt with that worst case does not fit under, or None if it may start."""
    tokens, cost = reserved(state)
    if caps.tokens is not None and need.tokens and state.spent.tokens + tokens + need.tokens > caps.tokens:
        return "tokens"
    wanted = amount(need.cost)
    if caps.cost is not None and wanted and amount(state.spent.cost) + cost + wanted > caps.cost:
        return "cost"
    return None


def overdue(caps: Caps, state: RunState) -> str | None:
    """`time` or `active` when that much has passed."""
    if caps.time is not None and state.now_ms - state.started_ms >= caps.time:
        return "time"
    if caps.active is not None and state.spent.active_ms >= caps.active:
        return "active"
    return None


def charge(draft: Draft, tokens: int, cost: Decimal, currency: str) -> None:
    """Adds to what was spent."""
    if tokens or cost:
        spent = draft.spent()
        spent.tokens += tokens
        spent.cost = money_text(amount(spent.cost) + cost, currency)


def used(usage: Mapping[str, Json] | None, reserve: Reserve, model: ModelDef | None) -> tuple[int, Decimal]:
    """What an attempt is settled at: its usage; the reservation where nothing is known of it."""
    if usage is None:
        return reserve.tokens, amount(reserve.cost)
    tokens_in, tokens_out = int(usage.get("tokens_in") or 0), int(usage.get("tokens_out") or 0)
    if usage.get("cost") is not None:
        return tokens_in + tokens_out, amount(usage["cost"])
    by_price = price(model, tokens_in, tokens_out)
    return tokens_in + tokens_out, amount(reserve.cost) if by_price is None else by_price


def overruns(cmd: str, reserve: Reserve, tokens: int, cost: Decimal, currency: str) -> list[dict[str, Json]]:
    """Bodies of `overrun` events: by how much an attempt used more than it had reserved."""
    found: list[dict[str, Json]] = []
    if tokens > reserve.tokens:
        found.append({"cmd": cmd, "what": "tokens", "by": tokens - reserve.tokens})
    if cost > amount(reserve.cost):
        found.append({"cmd": cmd, "what": "cost", "by": money_text(cost - amount(reserve.cost), currency)})
    return found


def warn_level(budget: Budget | None, state: RunState) -> dict[str, Json] | None:
    """The body of `spent` when a dimension has passed the warning level, once for each."""
    if budget is None or budget.warn_percent is None:
        return None
    full, spent = full_caps(budget.limits), state.spent
    levels = (
        ("steps", spent.steps, full.steps),
        ("tokens", spent.tokens, full.tokens),
        ("cost", amount(spent.cost), full.cost),
        ("time", state.now_ms - state.started_ms, full.time),
        ("active", spent.active_ms, full.active),
    )
    for name, so_far, limit in levels:
        if limit and name not in state.warned and so_far * 100 >= limit * budget.warn_percent:
            return {"what": name, "level": int(so_far * 100 / limit)}
    return None
