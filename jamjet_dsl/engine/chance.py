"""What the engine draws by chance: ids and jitter. All of it is journaled before anything depends on it."""

from __future__ import annotations

import random
import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Digits and letters that nobody confuses (no i, l, o, u)."""
_LENGTH = 16


def new_id() -> str:
    """80 random bits in 16 characters: ids differ from the first character on, so people can shorten them."""
    number = secrets.randbits(80)
    return "".join(_ALPHABET[(number >> (5 * n)) & 31] for n in range(_LENGTH))


def is_drawn(name: str) -> bool:
    """Whether an id has the form of those that `new_id` draws."""
    return len(name) == _LENGTH and all(character in _ALPHABET for character in name)


class SystemChance:
    """Real chance."""

    def question_id(self) -> str:
        return new_id()

    def between(self, low: int, high: int) -> int:
        return random.randint(low, high)


class SeededChance:
    """Chance that can be had again: for tests and simulation."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._count = 0

    def question_id(self) -> str:
        self._count += 1
        return f"q{self._count}"

    def between(self, low: int, high: int) -> int:
        return self._random.randint(low, high)
