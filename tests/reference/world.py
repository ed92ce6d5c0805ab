"""The world that the engine and the reference both live in: when each effect ends and with what.

Everything follows from a seed and from where in the program it happens, never from the order in which somebody asks:
so both sides see the same world, and so does a run that was killed and taken over. Times are in milliseconds.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import Any

ERRORS = ("Timeout", "Disconnected", "Crashed", "RateLimited", "Unavailable", "InvalidInput", "Mine")
_LONGEST = 40_000


def called(path: str) -> str:
    """What a frame of `finally` is called without the attempt at which its agent ended: a crash may have taken attempts
    that the reference never makes."""
    return re.sub(r"(@\d+)\.\d+(/finally)", r"\1\2", path)


@dataclass(frozen=True)
class Landing:
    """How an effect ends: after how long, with a value (public JSON) or an error, and what it used."""

    after_ms: int
    value: Any = None
    error: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True)
class Outside:
    """Something that somebody does at a time: kind is event (name, value), or cancel (value: without delay)."""

    at_ms: int
    kind: str
    name: str = ""
    value: Any = None


@dataclass(frozen=True)
class World:
    """`failing` is the chance of an error, in percent; at `crash_at` the process dies."""

    seed: int
    failing: int = 20
    outside: tuple[Outside, ...] = ()
    operator: tuple[str, ...] = ()
    """What an operator does, each time that the run is parked: retry, happened, did_not_happen, cancel."""
    crash_at: int | None = None
    input: dict[str, Any] = field(default_factory=dict)
    errors: tuple[str, ...] = ERRORS
    """The errors that happen; the last one only to tools that raise it."""

    def _chance(self, key: str) -> random.Random:
        return random.Random(f"{self.seed} {called(key)}")

    def lands(self, key: str, type_: str, raises: bool) -> Landing:
        """What comes of the effect `key` (frame, visit, attempt), whose result has this type."""
        chance = self._chance(key)
        after_ms = chance.randint(1, _LONGEST)
        if chance.randrange(100) < self.failing:
            error = chance.choice(self.errors if raises else self.errors[:-1])
            return Landing(after_ms, error=error)
        value = "no int" if type_ == "int" and chance.randrange(30) == 0 else self.value(chance, type_)
        return Landing(after_ms, value, None, chance.randint(0, 60), chance.randint(0, 110))

    def value(self, chance: random.Random, type_: str) -> Any:
        """A value of a type, as its public JSON."""
        match type_:
            case "int":
                return chance.randint(-3, 9)
            case "int?":
                return chance.choice([None, None, chance.randint(-3, 9)])
            case "bool":
                return chance.random() < 0.5
            case "string":
                return chance.choice(["a", "b", "ž"])
            case "list<int>":
                return [chance.randint(-3, 9) for _ in range(chance.randint(0, 3))]
            case "money":
                return f"{chance.randint(0, 900) / 100:.2f} USD"
        return None

    def settled(self, key: str, type_: str) -> Any:
        """What a person says that the call `key` gave."""
        return self.value(self._chance(f"{key}/settled"), type_)

    def answers(self, key: str, options: list[str]) -> list[tuple[int, str, str]]:
        """Who answers the question `key`: after how long, with which option, and who."""
        chance = self._chance(key)
        times = sorted(chance.randint(1, 90_000) for _ in range(chance.choice([0, 1, 1, 2, 3])))
        return [(at, chance.choice(options), f"person {n}") for n, at in enumerate(times)]
