"""What is unknown, and what is known of it.

An unknown value is a text `⟦…⟧` that holds, as JSON, the expression it stands for over symbols `§1`, `§2`, …: the
answer of a tool, an input, what a person said. So `set y = app.amount` and a later test of `y` speak of the same thing
as a test of `app.amount`. What a test of an unknown value was taken to give is remembered, by that expression, as long
as its symbols are about; a choice that contradicts it is not made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

from jamjet_dsl.kernel.expr.literals import LITERALS
from jamjet_dsl.kernel.values import Duration, Money, to_journal

T = TypeVar("T")

OPEN, SHUT = "⟦", "⟧"
SYMBOL = re.compile("§([0-9]+)")
MOST_WAYS = 1_000
"""Ways that one computation may go, at most."""
MOST_CHOICES = 100
"""Choices that one computation may ask for: with more of them it turns in a circle."""
LARGEST = 240
"""An unknown value whose expression is longer is a symbol of its own: what is added up in a loop grows for ever."""
_MIRRORED = {">": "<", ">=": "<="}


class TooMany(Exception):
    """A computation may go more ways than are followed."""


def is_unknown(value: Any) -> bool:
    """Whether a value is itself unknown."""
    return type(value) is str and value[:1] == OPEN


def holds_unknown(value: Any) -> bool:
    """Whether a value is unknown, or something in it."""
    if type(value) is str:
        return value[:1] == OPEN
    if type(value) is dict:
        return any(holds_unknown(item) for item in value.values())
    return type(value) in (list, tuple) and any(holds_unknown(item) for item in value)


def term_of(value: Any) -> Any:
    """What a value is in an expression over symbols."""
    return json.loads(value[1:-1]) if is_unknown(value) else ["value", to_journal(value)]


@dataclass(slots=True)
class Choice:
    """One thing that was decided where nothing was known: of so many ways one, and in which words."""

    ways: int
    taken: int
    text: str


@dataclass(slots=True)
class Oracle:
    """Decides what nobody knows: first as it is told (`prefix`), then the first way that contradicts nothing.
    `known` is what tests of unknown values have given, by their expressions."""

    prefix: tuple[int, ...] = ()
    known: dict[str, bool] = field(default_factory=dict)
    next_symbol: int = 1
    ordered: bool = True
    """Of two numbers of the program one is smaller, or they are equal: it has no `float`, and so no NaN."""
    choices: list[Choice] = field(default_factory=list)

    def choose(self, ways: int, text: str = "") -> int:
        """One of so many ways. Raises TooMany."""
        at = len(self.choices)
        if at >= MOST_CHOICES:
            raise TooMany
        taken = self.prefix[at] if at < len(self.prefix) else 0
        self.choices.append(Choice(ways, taken, text))
        return taken

    def fresh(self) -> str:
        """A value of which nothing is known."""
        name = f"§{self.next_symbol}"
        self.next_symbol += 1
        return f'{OPEN}"{name}"{SHUT}'

    def unknown(self, term: Any) -> str:
        """The value that an expression over symbols stands for."""
        text = json.dumps(term, ensure_ascii=False, separators=(",", ":"))
        return f"{OPEN}{text}{SHUT}" if len(text) <= LARGEST else self.fresh()

    def holds(self, term: Any, text: str) -> bool:
        """Whether a test of unknown values is taken to hold."""
        term, turned = normal(term)
        if self.ordered and isinstance(term, list) and term[0] == "==" and term[1] == term[2]:
            return not turned
        key = json.dumps(term, ensure_ascii=False, separators=(",", ":"))
        answer = self.known.get(key)
        if answer is None:
            possible = [way for way in (True, False) if consistent(self.known, term, way, self.ordered)]
            # What was taken to be known may contradict itself in a way that is not seen: then anything may be.
            ways = possible or [True, False]
            answer = ways[0] if len(ways) == 1 else ways[self.choose(2, text)]
            self.known[key] = answer
        return answer != turned


def branches(make: Callable[[tuple[int, ...]], tuple[Oracle, T]]) -> Iterator[tuple[Oracle, T]]:
    """Everything that may come of a computation which asks an oracle: it is made again for each way to decide. Raises
    TooMany."""
    todo: list[tuple[int, ...]] = [()]
    ways = 0
    while todo:
        prefix = todo.pop()
        ways += 1
        if ways > MOST_WAYS:
            raise TooMany
        oracle, result = make(prefix)
        yield oracle, result
        taken = tuple(choice.taken for choice in oracle.choices)
        for at in range(len(taken) - 1, len(prefix) - 1, -1):
            todo += [(*taken[:at], way) for way in range(oracle.choices[at].ways - 1, 0, -1)]


# ---- what follows from what is known


def normal(term: Any) -> tuple[Any, bool]:
    """A test in the form it is remembered in, and whether that is the contrary of it."""
    turned = False
    while isinstance(term, list) and term[0] == "!":
        term, turned = term[1], not turned
    if isinstance(term, list) and term[0] == "!=":
        term, turned = ["==", *term[1:]], not turned
    if isinstance(term, list) and term[0] in _MIRRORED:
        term = [_MIRRORED[term[0]], term[2], term[1]]
    if isinstance(term, list) and term[0] == "==" and json.dumps(term[2]) < json.dumps(term[1]):
        term = ["==", term[2], term[1]]
    return term, turned


def consistent(known: Mapping[str, bool], term: Any, answer: bool, ordered: bool) -> bool:
    """Whether a test may give this, as far as comparisons of one thing with constants tell. With NaN about (not
    `ordered`) that one comparison does not hold says nothing of its contrary."""
    about = _compared(term)
    if about is None:
        return True
    thing, *_ = about
    limits = [(about, answer)]
    for other, truth in known.items():
        if thing in other:
            found = _compared(json.loads(other))
            if found is not None and found[0] == thing:
                limits.append((found, truth))
    return _possible(limits, ordered)


def _compared(term: Any) -> tuple[str, str, Any] | None:
    """The thing (as text), the relation and the constant of a comparison of something with a constant."""
    if not isinstance(term, list) or term[0] not in ("==", "<", "<="):
        return None
    op, left, right = term
    one, other = _constant(left), _constant(right)
    if (one is None) == (other is None):
        return None
    if other is not None:
        return json.dumps(left, ensure_ascii=False, separators=(",", ":")), op, other[0]
    assert one is not None
    turned = {"==": "==", "<": ">", "<=": ">="}[op]
    return json.dumps(right, ensure_ascii=False, separators=(",", ":")), turned, one[0]


def _constant(term: Any) -> tuple[Any] | None:
    """The value of a constant: a number as a Decimal (with its unit, if it has one), or anything else as it is."""
    while isinstance(term, list) and term[0] == "widen":
        term = term[2]
    if not isinstance(term, list) or term[0] not in LITERALS:
        return None
    value = LITERALS[term[0]](term)
    if isinstance(value, Money):
        return (("money", value.amount),)
    if isinstance(value, Duration):
        return (("duration", Decimal(value.ms)),)
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return (("number", Decimal(value)),)
    return (("other", repr(value)),) if not isinstance(value, float) else None


def _possible(limits: list[tuple[tuple[str, str, Any], bool]], ordered: bool) -> bool:
    """Whether one value can meet all of these."""
    equal = [c for (_, op, c), truth in limits if op == "==" and truth]
    if any(c != equal[0] for c in equal[1:]):
        return False
    for (_, op, constant), truth in limits:
        if equal and (met := _meets(equal[0], op, constant)) is not None and met is not truth:
            return False
    return equal != [] or _overlap(limits, ordered)


def _meets(value: Any, op: str, constant: Any) -> bool | None:
    if op == "==":
        return bool(value == constant)
    if value[0] != constant[0] or value[0] == "other":
        return None
    one, other = value[1], constant[1]
    met = {"<": one < other, "<=": one <= other, ">": one > other, ">=": one >= other}
    return bool(met[op])


def _overlap(limits: list[tuple[tuple[str, str, Any], bool]], ordered: bool) -> bool:
    """Whether there is room between the highest lower and the lowest upper bound."""
    lower: list[tuple[Decimal, bool]] = []
    upper: list[tuple[Decimal, bool]] = []
    for (_, op, (unit, amount)), truth in limits:
        if op == "==" or unit == "other" or not (truth or ordered):
            continue
        if not truth:
            op = _CONTRARY[op]
        (lower if op in (">", ">=") else upper).append((amount, op in (">", "<")))
    if not lower or not upper:
        return True
    low, high = max(lower), min(upper, key=lambda bound: (bound[0], not bound[1]))
    return low[0] < high[0] or (low[0] == high[0] and not (low[1] or high[1]))


_CONTRARY = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
