"""The arithmetic on a chain: how often each node is reached, where it ends, and how what is spent is distributed.

A node is worked off after all that lead to it. Nodes that lead to each other (a crash that makes an attempt again, a
loop that nothing counts) are one knot, which is gone round until what is still in it is less than `LEAST`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.forecast.chain import Arc, Chain
from jamjet_dsl.forecast.world import Spent

LEAST = 1e-15
"""What is left over of all odds when going round a knot ends."""
MAX_ROUNDS = 100_000
MAX_VALUES = 4_096
"""Sums with more different values than this are put on a grid (`_on_grid`)."""


def knots(chain: Chain) -> list[list[int]]:
    """The nodes in groups: those that lead to each other in one, and each group after all that lead to it. (Tarjan's
    strongly connected components, without recursion.)"""
    arcs = chain.arcs
    index = [-1] * len(arcs)
    low = [0] * len(arcs)
    on_stack = [False] * len(arcs)
    stack: list[int] = []
    found: list[list[int]] = []
    counter = 0
    for root in range(len(arcs)):
        if index[root] >= 0:
            continue
        work = [(root, 0)]
        while work:
            node, position = work.pop()
            if position == 0:
                index[node] = low[node] = counter
                counter += 1
                stack.append(node)
                on_stack[node] = True
            for at in range(position, len(arcs[node])):
                to = arcs[node][at].to
                if index[to] < 0:
                    work += [(node, at + 1), (to, 0)]
                    break
                if on_stack[to]:
                    low[node] = min(low[node], index[to])
            else:
                if low[node] == index[node]:
                    group: list[int] = []
                    while not group or group[-1] != node:
                        group.append(stack.pop())
                        on_stack[group[-1]] = False
                    found.append(group)
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
    found.reverse()
    return found


def _is_plain(chain: Chain, group: Sequence[int]) -> bool:
    return len(group) == 1 and all(arc.to != group[0] for arc in chain.arcs[group[0]])


class _Endless(JamError):
    def __init__(self) -> None:
        super().__init__(
            "JAMR006",
            f"a run of this program goes round for more than {MAX_ROUNDS:,} turns by these odds",
            "bound its cycles, or say other odds",
        )


def visits(chain: Chain, order: Sequence[Sequence[int]]) -> list[float]:
    """How often each node is visited on the average; for an end, how likely a run ends there."""
    flow = [0.0] * len(chain.arcs)
    flow[0] = 1.0
    for group in order:
        if _is_plain(chain, group):
            for arc in chain.arcs[group[0]]:
                flow[arc.to] += flow[group[0]] * arc.chance
            continue
        inside = set(group)
        here = {node: flow[node] for node in group if flow[node]}
        for _ in range(MAX_ROUNDS):
            after: dict[int, float] = {}
            for node, mass in here.items():
                for arc in chain.arcs[node]:
                    if arc.to in inside:
                        after[arc.to] = after.get(arc.to, 0.0) + mass * arc.chance
                    else:
                        flow[arc.to] += mass * arc.chance
            for node, mass in after.items():
                flow[node] += mass
            here = after
            if sum(here.values()) < LEAST:
                break
        else:
            raise _Endless
    return flow


def reaching(chain: Chain, order: Sequence[Sequence[int]], worth: Mapping[int, float]) -> list[float]:
    """From each node, what its end is worth on the average: with 1 for the ends that are wanted, their odds."""
    found = [0.0] * len(chain.arcs)
    for node, value in worth.items():
        found[node] = value
    for group in reversed(order):
        if _is_plain(chain, group):
            node = group[0]
            if chain.arcs[node]:
                found[node] = math.fsum(arc.chance * found[arc.to] for arc in chain.arcs[node])
            continue
        for _ in range(MAX_ROUNDS):
            change = 0.0
            for node in group:
                value = math.fsum(arc.chance * found[arc.to] for arc in chain.arcs[node])
                change = max(change, abs(value - found[node]))
                found[node] = value
            if change < LEAST:
                break
        else:
            raise _Endless
    return found


@dataclass(slots=True)
class Spread:
    """How a sum is distributed, by the end that a run came to. `grid` is the width of the widest grid that values were
    put on; 0 if all of them are exact."""

    at: dict[int, dict[int, float]]
    grid: int = 0

    def all(self, ends: Iterable[int] | None = None) -> dict[int, float]:
        """The values and their odds, over these ends."""
        found: dict[int, float] = {}
        for end in self.at if ends is None else ends:
            for value, mass in self.at.get(end, {}).items():
                found[value] = found.get(value, 0.0) + mass
        return found


def mean(values: Mapping[int, float]) -> float:
    """The expected value."""
    whole = math.fsum(values.values())
    return math.fsum(value * mass for value, mass in values.items()) / whole if whole else 0.0


def quantile(values: Mapping[int, float], part: float) -> int:
    """The least value that this part of the runs does not exceed."""
    wanted, so_far = part * math.fsum(values.values()) - 1e-12, 0.0
    for value in sorted(values):
        so_far += values[value]
        if so_far >= wanted:
            return value
    return max(values, default=0)


def spread(
    chain: Chain, order: Sequence[Sequence[int]], of: Callable[[Spent], int], first: int = 0, most: int = MAX_VALUES
) -> Spread:
    """How the sum of `first` and what `of` takes of each step is distributed at the ends."""
    at: list[dict[int, float] | None] = [None] * len(chain.arcs)
    at[0] = {first: 1.0}
    found = Spread({})
    for group in order:
        if _is_plain(chain, group):
            _pass_on(chain.arcs[group[0]], at[group[0]], at, of, found, most)
            if group[0] in chain.ends:
                found.at[group[0]] = at[group[0]] or {}
            at[group[0]] = None
            continue
        inside = set(group)
        here = {node: values for node in group if (values := at[node])}
        for _ in range(MAX_ROUNDS):
            nodes: dict[int, dict[int, float]] = {}
            for node, values in here.items():
                for arc in chain.arcs[node]:
                    target = nodes.setdefault(arc.to, {}) if arc.to in inside else _of(at, arc.to)
                    _shift(values, of(arc.spent), arc.chance, target)
            here = {node: _on_grid(values, most, found) for node, values in nodes.items()}
            if math.fsum(mass for values in here.values() for mass in values.values()) < LEAST:
                break
        else:
            raise _Endless
        for node in group:
            at[node] = None
    return found


def _of(at: list[dict[int, float] | None], node: int) -> dict[int, float]:
    known = at[node]
    if known is None:
        known = at[node] = {}
    return known


def _pass_on(
    arcs: Sequence[Arc],
    values: dict[int, float] | None,
    at: list[dict[int, float] | None],
    of: Callable[[Spent], int],
    found: Spread,
    most: int,
) -> None:
    if not values:
        return
    values = _on_grid(values, most, found)
    for arc in arcs:
        if arc.chance:
            _shift(values, of(arc.spent), arc.chance, _of(at, arc.to))


def _shift(values: dict[int, float], by: int, chance: float, target: dict[int, float]) -> None:
    for value, mass in values.items():
        target[value + by] = target.get(value + by, 0.0) + mass * chance


def _on_grid(values: dict[int, float], most: int, found: Spread) -> dict[int, float]:
    """Values that are too many, on a grid: each one divided between its two neighbours so that the mean stays exactly
    what it was."""
    if len(values) <= most:
        return values
    low, high = min(values), max(values)
    width = -(-(high - low) // (most // 2))
    found.grid = max(found.grid, width)
    made: dict[int, float] = {}
    for value, mass in values.items():
        slot, over = divmod(value - low, width)
        left = low + slot * width
        made[left] = made.get(left, 0.0) + mass * (width - over) / width
        if over:
            made[left + width] = made.get(left + width, 0.0) + mass * over / width
    return made
