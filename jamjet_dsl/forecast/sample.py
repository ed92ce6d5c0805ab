"""Monte Carlo: the kernel driven over the same skeleton, one run after the other, with chance drawn from a seed.

Nothing is merged, no limit is left out, pauses are drawn from their whole spread: what the exact chain does to be
finite is not done here, so the two say of each other whether they are right.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.forecast.assumed import Assumed
from jamjet_dsl.forecast.skeleton import Skeleton
from jamjet_dsl.forecast.world import End, World

MAX_STEPS = 1_000_000
"""Of one run. A program with a budget takes far fewer."""
AMOUNTS: tuple[str, ...] = ("steps", "tokens", "cost", "time")
NORMAL_95 = 1.959963984540054


class Drawing:
    """A chooser that draws."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.asked = 0

    def among(self, odds: Sequence[tuple[float, Any]]) -> Any:
        if len(odds) == 1:
            return odds[0][1]
        self.asked += 1
        at = self._random.random()
        for chance, value in odds:
            at -= chance
            if at < 0.0:
                return value
        return next(value for chance, value in reversed(odds) if chance > 0.0)

    def between(self, low: int, high: int) -> int:
        self.asked += 1
        return self._random.randint(low, high)


@dataclass(slots=True)
class Samples:
    """What came of the runs. Cost in units of the currency, time in milliseconds."""

    seed: int
    runs: int = 0
    ends: Counter[End] = field(default_factory=Counter)
    totals: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in AMOUNTS})

    def share(self, how: str) -> float:
        """Which part of the runs ended like this."""
        return sum(n for end, n in self.ends.items() if end.how == how) / self.runs

    def average(self, name: str) -> tuple[float, float]:
        """The mean of an amount, and the standard error of that."""
        values = self.totals[name]
        mean = math.fsum(values) / len(values)
        spread = math.fsum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
        return mean, math.sqrt(spread / len(values))


def interval(share: float, runs: int) -> tuple[float, float]:
    """Where the odds lie with 95 % confidence, after so many runs (Wilson's score interval)."""
    z = NORMAL_95 * NORMAL_95
    middle = (share + z / (2 * runs)) / (1 + z / runs)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / runs + z / (4 * runs * runs)) / (1 + z / runs)
    return (middle - half if share else 0.0), (middle + half if share < 1.0 else 1.0)


def sample(skeleton: Skeleton, assumed: Assumed, runs: int, seed: int) -> Samples:
    """So many runs. Raises JamError JAMR006 for one that does not come to an end."""
    world = World(skeleton, assumed, Drawing(seed))
    found = Samples(seed)
    for _ in range(runs):
        node: Any = world.start()
        steps, tokens, cost, time = node.state.spent.steps, 0, Decimal(0), 0
        for _ in range(MAX_STEPS):
            to, spent, *_ = world.step(node)
            steps, tokens, cost, time = (
                steps + spent.steps,
                tokens + spent.tokens,
                cost + spent.cost,
                time + spent.time,
            )
            if isinstance(to, End):
                break
            node = to
        else:
            raise JamError("JAMR006", "a run of this program does not come to an end by these odds", "say other odds")
        found.runs += 1
        found.ends[to] += 1
        for name, value in zip(AMOUNTS, (steps, tokens, cost, time), strict=True):
            found.totals[name].append(float(value))
    return found
