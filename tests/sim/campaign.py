"""Many seeds in one process."""

from __future__ import annotations

import gc
from contextlib import nullcontext
from dataclasses import dataclass, field

from tests.sim.bugs import BUGS
from tests.sim.programs import VARIANTS
from tests.sim.run import Result, simulate

TWICE = 25
"""Every so many seeds one is run a second time: its journals must be the same."""
COLLECT = 20
"""Seeds between two collections of garbage: in between the collector rests, which saves a third of the time."""


@dataclass
class Tally:
    """What came of some seeds."""

    seeds: int = 0
    events: int = 0
    effects: int = 0
    ended: int = 0
    again: int = 0
    differ: int = 0
    failures: list[Result] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what came of others."""
        for name in ("seeds", "events", "effects", "ended", "again", "differ"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failures += other.failures

    def note(self, result: Result) -> None:
        """Count one seed."""
        self.seeds += 1
        self.events += result.events
        self.effects += result.effects
        self.ended += result.ended
        if result.failure is not None:
            self.failures.append(result)


def run_seeds(task: tuple[int, int, str | None], programs: int = VARIANTS) -> Tally:
    """Run `count` seeds from `first`, with a bug planted if one is named, and so many random programs."""
    first, count, plant = task
    tally = Tally()
    gc.disable()
    try:
        with BUGS[plant].planted() if plant else nullcontext():
            for seed in range(first, first + count):
                result = simulate(seed, programs=programs)
                tally.note(result)
                if seed % TWICE == 0:
                    tally.again += 1
                    tally.differ += simulate(seed, programs=programs).digest != result.digest
                if seed % COLLECT == 0:
                    gc.collect()
                    gc.freeze()  # what is left are programs, which stay: they need not be walked over again
    finally:
        gc.enable()
    return tally
