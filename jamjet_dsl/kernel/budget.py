"""Budgets: nothing starts that does not fit.

An attempt reserves its worst case before it starts and is settled by what it used. A cap is a limit less its
reserve: what does not fit under a cap is exceeded, once, and the reserve is left for the way to an end.
Money is exact; amounts are in the agent's one currency.

What a child agent uses counts for it and for every agent around it. An agent is known by its `home`, the path of the
frame that runs it; the run's own is `""`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from jamjet_dsl.definition import Budget, Limits, ModelDef, Think, Tool
from jamjet_dsl.kernel.draft import Draft
from jamjet_dsl.kernel.ids import concerns, frame_of
from jamjet_dsl.kernel.model import Account, Frame, Json, Reserve, RunState
from jamjet_dsl.money import money_text

if TYPE_CHECKING:
    from jamjet_dsl.kernel.program import Program

ZERO = Decimal(0)
DIMENSIONS = ("steps", "tokens", "cost", "time", "active")
_FIELDS = ("steps", "tokens", "cost", "time_ms", "active_ms")


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
    return NO_CAPS if budget is None else _less(full_caps(budget.limits), full_caps(budget.reserve))


def _less(full: Caps, kept: Caps) -> Caps:
    rows = zip(_row(full), _row(kept), strict=True)
    return Caps(*(None if limit is None else max(limit - (reserve or 0), 0 * limit) for limit, reserve in rows))


def homes(state: RunState, path: str) -> Iterator[str]:
    """The homes of the agents around a frame, the innermost first. A frame that is gone has only the run's own."""
    frame = state.frames.get(path)
    while frame is not None and frame.home:
        yield frame.home
        frame = state.frames[state.frames[frame.home].parent or ""]
    yield ""


def account_of(state: RunState, home: str) -> Account | None:
    """What the agent at `home` may use and has used; None for the run's own agent, which the state speaks of."""
    return state.frames[home].account if home else None


def caps_at(program: Program, state: RunState, home: str, spare: bool = False) -> Caps:
    """What the agent at `home` may use: limits less reserve, or with `spare` the limits in full."""
    account = account_of(state, home)
    if account is not None:
        return caps_in(account.limits if spare else account.caps)
    budget = program.agent.budget
    if spare:
        return NO_CAPS if budget is None else full_caps(budget.limits)
    return program.main.caps


def caps_in(tree: Mapping[str, Json]) -> Caps:
    """Limits in the form of an account."""
    cost = tree.get("cost")
    return Caps(
        tree.get("steps"),
        tree.get("tokens"),
        None if cost is None else amount(cost),
        tree.get("time_ms"),
        tree.get("active_ms"),
    )


def tree_of(caps: Caps, currency: str) -> dict[str, Json]:
    """The form of an account: only the limits that there are."""
    cost = None if caps.cost is None else money_text(caps.cost, currency)
    items = zip(_FIELDS, (caps.steps, caps.tokens, cost, caps.time, caps.active), strict=True)
    return {name: value for name, value in items if value is not None}


class Used(NamedTuple):
    """What an agent and those inside it have used, and the tokens and cost that what is in flight holds."""

    steps: int
    tokens: int
    cost: Decimal
    time: int
    active: int
    held_tokens: int
    held_cost: Decimal


def used_at(state: RunState, home: str) -> Used:
    """What the agent at `home` has used."""
    held = [i.reserve for cmd, i in state.intents.items() if concerns(cmd, home)]
    tokens = sum(r.tokens for r in held)
    cost = sum((amount(r.cost) for r in held), ZERO)
    account = account_of(state, home)
    if account is not None:
        spent: Any = account
        started_ms = account.started_ms
    else:
        spent, started_ms = state.spent, state.started_ms
    return Used(spent.steps, spent.tokens, amount(spent.cost), state.now_ms - started_ms, spent.active_ms, tokens, cost)


def carve(
    program: Program, state: RunState, frame: Frame, own: Budget | None, clause: Budget | None
) -> tuple[dict[str, Json], dict[str, Json]]:
    """The limits and caps of a child that the frame runs: the least of its own, the clause's, and what is left to the
    agents around it. Both in the form of an account."""
    limits = [full_caps(budget.limits) for budget in (own, clause) if budget is not None]
    for home in homes(state, frame.path):
        caps, used = caps_at(program, state, home), used_at(state, home)
        so_far = (used.steps, used.tokens + used.held_tokens, used.cost + used.held_cost, used.time, used.active)
        left = (None if cap is None else max(cap - n, 0 * cap) for cap, n in zip(_row(caps), so_far, strict=True))
        limits.append(Caps(*left))
    columns = zip(*map(_row, limits), strict=True)
    least = Caps(*(min((limit for limit in column if limit is not None), default=None) for column in columns))
    reserve = next((b.reserve for b in (clause, own) if b is not None and b.reserve != Limits()), Limits())
    currency = program.agent.currency
    return tree_of(least, currency), tree_of(_less(least, full_caps(reserve)), currency)


def _row(caps: Caps) -> tuple[Any, ...]:
    return (caps.steps, caps.tokens, caps.cost, caps.time, caps.active)


def spares(state: RunState, frame: Frame) -> bool:
    """Whether the frame may use the reserve: it takes something back, or closes what has to be closed."""
    while frame.parent is not None:
        if frame.kind in ("undo", "finally"):
            return True
        frame = state.frames[frame.parent]
    return False


def tool_reserve(tool: Tool) -> Reserve:
    """The worst case of one attempt at a call: what the tool declares."""
    return Reserve(0, tool.cost)


def think_reserve(
    program: Program, state: RunState, frame: Frame, action: Think, model: ModelDef | None, prompt_bytes: int
) -> Reserve:
    """The worst case of one attempt at a model call.

    Without `max prompt` the prompt's UTF-8 bytes bound its tokens (no tokenizer gives more than one a byte).
    Without `max tokens` an answer may take all that is left, so all of it is reserved.
    """
    prompt = action.max_prompt if action.max_prompt is not None else prompt_bytes
    answer = action.max_tokens if action.max_tokens is not None else _tokens_left(program, state, frame, prompt)
    cost = price(model, prompt, answer)
    return Reserve(prompt + answer, None if cost is None else money_text(cost, program.agent.currency))


def _tokens_left(program: Program, state: RunState, frame: Frame, prompt: int) -> int:
    """What the agents around a frame have left for an answer; nothing where no limit says so."""
    left: list[int] = []
    for home in homes(state, frame.path):
        cap = caps_at(program, state, home).tokens
        if cap is not None:
            used = used_at(state, home)
            left.append(max(cap - used.tokens - used.held_tokens - prompt, 0))
    return min(left, default=0)


def price(model: ModelDef | None, tokens_in: int, tokens_out: int) -> Decimal | None:
    """What that many tokens cost by the declared prices, or None where none are declared."""
    if model is None or not model.per_tokens or (model.price_in is None and model.price_out is None):
        return None
    return (amount(model.price_in) * tokens_in + amount(model.price_out) * tokens_out) / model.per_tokens


class Misfit(NamedTuple):
    """What an attempt does not fit under: which limit of which agent. `waits`: it would fit if nothing else were in
    flight, so it may fit later."""

    what: str
    home: str
    waits: bool


def misfit(program: Program, state: RunState, frame: Frame, need: Reserve) -> Misfit | None:
    """Which limit an attempt with that worst case does not fit under, or None if it may start."""
    wanted = amount(need.cost)
    if not need.tokens and not wanted:
        return None
    spare = spares(state, frame)
    waiting: Misfit | None = None
    mine = [i.reserve for cmd, i in state.intents.items() if frame_of(cmd) == frame.path]
    own_tokens, own_cost = sum(r.tokens for r in mine), sum((amount(r.cost) for r in mine), ZERO)
    for home in homes(state, frame.path):
        caps, used = caps_at(program, state, home, spare), used_at(state, home)
        lacks = [  # what the frame holds itself is not given back while it waits
            (what, so_far + own + more > cap)
            for what, cap, so_far, held, own, more in (
                ("tokens", caps.tokens, used.tokens, used.held_tokens, own_tokens, need.tokens),
                ("cost", caps.cost, used.cost, used.held_cost, own_cost, wanted),
            )
            if cap is not None and more and so_far + held + more > cap
        ]
        for what, never in lacks:
            if never:
                return Misfit(what, home, False)
            waiting = waiting or Misfit(what, home, True)
    return waiting


def out_of_steps(program: Program, state: RunState, frame: Frame) -> str | None:
    """The home of an agent that has no step left for an action in this frame, or None."""
    if frame.parent is None:
        most = program.main.caps.steps
        return "" if most is not None and state.spent.steps >= most else None
    if spares(state, frame):
        return None
    for home in homes(state, frame.path):
        cap = caps_at(program, state, home).steps
        if cap is not None and used_at(state, home).steps >= cap:
            return home
    return None


def overdue(program: Program, state: RunState, home: str) -> str | None:
    """`time` or `active` when that much has passed for the agent at `home`."""
    account = account_of(state, home)
    if account is None:
        caps, started_ms, active_ms = program.main.caps, state.started_ms, state.spent.active_ms
    else:
        caps, started_ms, active_ms = caps_in(account.caps), account.started_ms, account.active_ms
    if caps.time is not None and state.now_ms - started_ms >= caps.time:
        return "time"
    if caps.active is not None and active_ms >= caps.active:
        return "active"
    return None


def charge(draft: Draft, path: str, tokens: int, cost: Decimal, currency: str) -> None:
    """Adds to what the agents around a frame have spent."""
    if not tokens and not cost:
        return
    for home in homes(draft.state, path):
        spent: Any = draft.account(home) if home else draft.spent()
        spent.tokens += tokens
        spent.cost = money_text(amount(spent.cost) + cost, currency)


def count_step(draft: Draft, path: str) -> None:
    """A step for the agents around a frame; none for those whose budget is exceeded, which are on their way out."""
    state = draft.state
    if not path:
        if state.exceeded is None:
            draft.spent().steps += 1
        return
    for home in homes(state, path):
        account = account_of(state, home)
        if home and account is not None and account.exceeded is None:
            draft.account(home).steps += 1
        elif not home and state.exceeded is None:
            draft.spent().steps += 1


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


def warn_level(budget: Budget | None, state: RunState, home: str) -> dict[str, Json] | None:
    """The body of `spent` when a dimension of the agent at `home` has passed the warning level, once for each."""
    if budget is None or budget.warn_percent is None:
        return None
    account = account_of(state, home)
    full = full_caps(budget.limits) if account is None else caps_in(account.limits)
    warned = state.warned if account is None else account.warned
    used = used_at(state, home)
    so_fars = (used.steps, used.tokens, used.cost, used.time, used.active)
    levels: Iterator[tuple[str, Any, Any]] = zip(DIMENSIONS, so_fars, _row(full), strict=True)
    for name, so_far, limit in levels:
        if limit and name not in warned and so_far * 100 >= limit * budget.warn_percent:
            body: dict[str, Json] = {"what": name, "level": int(so_far * 100 / limit)}
            return {**body, "home": home} if home else body
    return None
