"""What a forecast tells: odds and amounts as written, and what retries and checkpoints are worth, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.forecast.assumed import Assumed, Given, maxima
from jamjet_dsl.forecast.chain import MAX_NODES, Chain, explore
from jamjet_dsl.forecast.sample import Samples, sample
from jamjet_dsl.forecast.skeleton import Changes, Skeleton, places, skeleton
from jamjet_dsl.forecast.solve import knots, mean, quantile, reaching, spread, visits
from jamjet_dsl.forecast.world import OK, End
from jamjet_dsl.kernel.budget import amount, caps_of, price
from jamjet_dsl.money import money_text

HOWS = ("completed", "failed", "exceeded", "parked", "doubt", "waiting", "lost")
"""How a run may end: in a final that is no failure; in a `failed` one; in such a one or parked once its budget was
used up; parked for an error that nothing handles; parked since nobody knows whether a call happened; waiting for what
never comes; lost with its process, where there are no checkpoints."""
COLUMNS = ("as_written", "without_retries", "without_checkpoints", "without_both")
FAR = 1e-10
"""A limit that a run reaches less often than this is left out of the chain: the odds are right to this much."""
_PICO = 12
"""Costs are counted in parts of 10^-12 of the currency: exact for every price of a token."""
_LARGE = frozenset({"tokens", "cost", "time", "active"})
PART = 0.95
MAX_TABLE = 20_000
"""States of a chain that is made only to tell what more steps would be worth."""


class Amount(NamedTuple):
    """The expected value, and what 95 of 100 runs do not exceed. Cost in units of the currency, time in ms."""

    expected: float
    p95: float


@dataclass(slots=True)
class Column:
    """One way to run the program."""

    odds: dict[str, float]
    ends: dict[End, float]
    amounts: dict[str, Amount]
    chain: Chain
    ignored: float = 0.0
    """How likely at most a run reaches a limit that was left out."""
    grid: dict[str, int] = field(default_factory=dict)
    """The width of the grid that an amount was put on, in its smallest unit; nothing where it is exact."""

    @property
    def completes(self) -> float:
        """How likely a run completes."""
        return self.odds["completed"]


class Share(NamedTuple):
    """A state's part in something: how much, and which part of the whole that is."""

    place: str
    amount: float
    share: float


@dataclass(slots=True)
class Forecast:
    """All of it. `budget` has, by column, the odds of completing within so many steps; `declared_steps` is the limit
    that the program has."""

    defn: d.Definition
    given: Given
    columns: dict[str, Column]
    failing: list[Share]
    costly: list[Share]
    budget: dict[str, dict[int, float]]
    declared_steps: int | None
    notes: list[str] = field(default_factory=list)
    samples: Samples | None = None

    @property
    def written(self) -> Column:
        """The program as it is written."""
        return self.columns["as_written"]

    @property
    def currency(self) -> str:
        """The currency of its costs."""
        return self.defn.agent.currency


class Ways:
    """The four ways to run a program, each computed once and shared where they are the same."""

    def __init__(self, defn: d.Definition, given: Given, most: int = MAX_NODES) -> None:
        self.defn, self.given, self.most = defn, given, most
        self.has_retries = any(_retries(defn))

    def assumed(self, column: str) -> Assumed:
        """The assumptions of a column."""
        return Assumed(self.defn, self.given, checkpoint=column in ("as_written", "without_retries"))

    def skeleton(self, column: str, unlimited: frozenset[str] = frozenset(), doubled: bool = False) -> Skeleton:
        """The skeleton of a column; without some limits, or with twice the limit of steps."""
        given = self.given
        pauses = {place: max(ms for _, ms in times) for place, times in given.latency.items()}
        changes = Changes(
            column in ("as_written", "without_checkpoints"), unlimited, (lambda n: 2 * n) if doubled else None
        )
        return skeleton(self.defn, given.items, maxima(given), pauses, changes)

    def same(self, column: str) -> str:
        """The first column that comes out alike: without crashes nothing is lost, and without `retry` nothing is
        tried again anyway."""
        retries = column in ("as_written", "without_checkpoints") or not self.has_retries
        checkpoints = column in ("as_written", "without_retries") or not self.given.crash
        return COLUMNS[(0 if retries else 1) + (0 if checkpoints else 2)]

    def chain(self, column: str, doubled: bool = False) -> tuple[Chain, float]:
        """The chain of a column, and how likely at most a run reaches a limit that was left out of it.

        Limits of what is large (tokens, cost, time) make a state of every amount. So it is made without them first,
        and again with those of them that a run can reach.
        """
        assumed = self.assumed(column)
        declared = frozenset(self._declared())
        if not declared:
            return explore(self.skeleton(column, doubled=doubled), assumed, self.most), 0.0
        tied = declared & self._tied()
        unlimited = declared - tied
        chain = explore(self.skeleton(column, unlimited, doubled), assumed, self.most)
        order = knots(chain)
        odds = {name: self._reached(chain, order, name) for name in unlimited}
        far = frozenset(name for name, chance in odds.items() if chance <= FAR)
        if far != unlimited:
            chain = explore(self.skeleton(column, far, doubled), assumed, self.most)
        return chain, math.fsum(odds[name] for name in far)

    def _declared(self) -> Iterable[str]:
        for limits in _limits(self.defn):
            caps = caps_of(d.Budget(limits=limits))
            yield from (name for name in _LARGE if getattr(caps, name) is not None)

    def _tied(self) -> frozenset[str]:
        """What cannot be left out: an answer without `max tokens` reserves all that is left."""
        open_ended = any(
            isinstance(place.state.action, d.Think) and place.state.action.max_tokens is None
            for place in places(self.defn).values()
        )
        return frozenset({"tokens", "cost"}) if open_ended else frozenset()

    def _reached(self, chain: Chain, order: list[list[int]], name: str) -> float:
        """How likely a run comes near the least of these limits, with the worst that is in flight."""
        least: Any = None
        for budget in _budgets(self.defn):
            cap = getattr(caps_of(budget), name)
            if cap is not None:
                least = cap if least is None else min(least, cap)
        worst = self._worst(name) * max(chain.held, 1)
        room = _pico(least - worst) if name == "cost" else least - worst
        values = spread(chain, order, _TAKEN["time" if name == "active" else name]).all()
        return math.fsum(mass for value, mass in values.items() if value >= room)

    def _worst(self, name: str) -> Any:
        """The most that one attempt reserves."""
        found: list[Any] = [Decimal(0) if name == "cost" else 0]
        if name == "cost":
            found += [amount(tool.cost) for tool in self.defn.tools.values()]
        for place in places(self.defn).values():
            action = place.state.action
            if isinstance(action, d.Think):
                prompt = action.max_prompt or self.given.tokens.get(place.name, (0, 0))[0]
                answer = action.max_tokens or 0
                if name == "tokens":
                    found.append(prompt + answer)
                elif name == "cost" and action.model is not None:
                    found.append(price(self.defn.models.get(action.model), prompt, answer) or Decimal(0))
        return max(found)

    def column(self, name: str) -> Column:
        """What comes of running the program that way."""
        chain, ignored = self.chain(name)
        order = knots(chain)
        flow = visits(chain, order)
        ends = {end: flow[node] for node, end in chain.ends.items()}
        odds = {how: math.fsum(mass for end, mass in ends.items() if end.how == how) for how in HOWS}
        amounts: dict[str, Amount] = {}
        grid: dict[str, int] = {}
        for what, taken in _TAKEN.items():
            found = spread(chain, order, taken, chain.steps if what == "steps" else 0)
            values = found.all()
            expected, most = mean(values), quantile(values, PART)
            scale = 10.0**_PICO if what == "cost" else 1.0
            amounts[what] = Amount(expected / scale, most / scale)
            if found.grid:
                grid[what] = found.grid
        return Column(odds, ends, amounts, chain, ignored, grid)


def _pico(cost: Decimal) -> int:
    return int(cost.scaleb(_PICO))


_TAKEN = {
    "steps": lambda spent: spent.steps,
    "tokens": lambda spent: spent.tokens,
    "cost": lambda spent: _pico(spent.cost),
    "time": lambda spent: spent.time,
}


def _retries(defn: d.Definition) -> Iterable[d.Retry]:
    for tool in defn.tools.values():
        yield from tool.retry
    for place in places(defn).values():
        yield from getattr(place.state.action, "retry", ())


def _budgets(defn: d.Definition) -> Iterable[d.Budget]:
    for agent in defn.agents.values():
        if agent.budget is not None:
            yield agent.budget
    for place in places(defn).values():
        action = place.state.action
        if isinstance(action, d.RunAgent) and action.budget is not None:
            yield action.budget


def _limits(defn: d.Definition) -> Iterable[d.Limits]:
    return (budget.limits for budget in _budgets(defn))


def forecast(defn: d.Definition, given: Given, most: int = MAX_NODES) -> Forecast:
    """The forecast of a definition under what was said.

    Raises JamError JAMR006 where something of the program cannot be had exactly: it names the state.
    """
    ways = Ways(defn, given, most)
    columns: dict[str, Column] = {}
    tables: dict[str, dict[int, float]] = {}
    limit = None if defn.agent.budget is None else defn.agent.budget.limits.steps
    for name in COLUMNS:
        same = ways.same(name)
        if same != name:
            columns[name], tables[name] = columns[same], tables[same]
            continue
        columns[name] = ways.column(name)
        tables[name] = _within(ways, name, columns[name], limit)
    failing, costly = contributions(
        columns["as_written"].chain, {place: number for number, place in enumerate(places(defn))}
    )
    return Forecast(defn, given, columns, failing, costly, tables, limit)


def _within(ways: Ways, name: str, column: Column, limit: int | None) -> dict[int, float]:
    """The odds of completing within so many steps, for every number up to twice the limit that is declared. (A run that
    stays within n steps is the same run under every limit that is at least n.)"""
    chain = column.chain
    if limit is not None:
        # Where that is too large a chain, the table ends at the limit that is declared.
        with suppress(JamError):
            chain = Ways(ways.defn, ways.given, MAX_TABLE).chain(name, doubled=True)[0]
    kept = ways.defn.agent.budget.reserve.steps if limit is not None and ways.defn.agent.budget is not None else 0
    found = spread(chain, knots(chain), lambda spent: spent.steps, chain.steps)
    wanted = [node for node, end in chain.ends.items() if end.how == "completed" and not end.exceeded]
    values = found.all(wanted)
    highest = max([*found.all(), 1]) + (kept or 0)
    odds, table = 0.0, {}
    for steps in range(1, highest + 1):
        odds = min(odds + values.get(steps - (kept or 0), 0.0), 1.0)
        table[steps] = odds
    return table


def contributions(chain: Chain, order_of: Mapping[str, int]) -> tuple[list[Share], list[Share]]:
    """Which state contributes most to not completing, and to the cost, the most first.

    The first is by how much the odds of completing would rise if no attempt of the state ever failed, as far as one
    state alone can tell: each failing attempt counts with how much worse the odds are after it than after one that
    went well.
    """
    order = knots(chain)
    flow = visits(chain, order)
    odds = reaching(chain, order, {node: 1.0 for node, end in chain.ends.items() if end.how == "completed"})
    lost: dict[str, float] = {}
    cost: dict[str, float] = {}
    for node, arcs in enumerate(chain.arcs):
        if not flow[node]:
            continue
        for arc in arcs:
            if arc.spent.cost:
                cost[arc.landed] = cost.get(arc.landed, 0.0) + flow[node] * arc.chance * float(arc.spent.cost)
        drawn = [arc for arc in arcs if arc.drawn is not None]
        fine = [arc for arc in drawn if arc.drawn is not None and arc.drawn[1] == OK]
        if not fine:
            continue
        whole = math.fsum(arc.chance for arc in fine)
        after = (
            math.fsum(arc.chance * odds[arc.to] for arc in fine) / whole
            if whole
            else math.fsum(odds[arc.to] for arc in fine) / len(fine)
        )
        for arc in drawn:
            if arc.drawn is not None and arc.drawn[1] != OK and arc.chance:
                place = arc.drawn[0]
                lost[place] = lost.get(place, 0.0) + flow[node] * arc.chance * (after - odds[arc.to])
    return _ranked(lost, order_of), _ranked(cost, order_of)


def _ranked(found: Mapping[str, float], order_of: Mapping[str, int]) -> list[Share]:
    """The most first; what is alike in the order of the program."""
    kept = {place: value for place, value in found.items() if value > 1e-12}
    whole = math.fsum(kept.values())
    ranked = sorted(kept.items(), key=lambda item: (-round(item[1], 12), order_of.get(item[0], len(order_of))))
    return [Share(place, value, value / whole) for place, value in ranked]


def monte_carlo(found: Forecast, runs: int, seed: int) -> Samples:
    """The same program, run by run: with all its limits, and what the kernel does with each of them."""
    ways = Ways(found.defn, found.given)
    return sample(ways.skeleton("as_written"), ways.assumed("as_written"), runs, seed)


def cost_text(cost: float, currency: str) -> str:
    """An amount of money, to six digits of a unit."""
    return money_text(Decimal(str(round(cost, 6))), currency)
