"""What is assumed of a program's world, ready for the kernel's questions: the odds of each attempt, answer and edge.

`Given` is what somebody said, by name; `Assumed` is that for one definition, with a default for all that was not said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from jamjet_dsl import definition as d
from jamjet_dsl.forecast.skeleton import Place, places
from jamjet_dsl.kernel.errors import STANDARD_ERRORS
from jamjet_dsl.kernel.model import Call, Think

EVERY = "*"
"""Stands for all tools and models that are not named."""
HAPPENED = "happened"
TIMEOUT = "timeout"
LIKELY = 0.5
"""How likely an indefinite error or a crash left a write done, where nothing is said: nobody knows."""


class Landing(NamedTuple):
    """How something that was begun turns out, and after how many milliseconds. `how` is `ok`, the name of an error,
    `crash`, `never`, the option that a person chose, or the name of an event."""

    how: str
    ms: int
    value: Any = None
    usage: dict[str, Any] | None = None


Odds: TypeAlias = Sequence[tuple[float, Landing]]
Attempt: TypeAlias = tuple[str, Odds]
"""The place that makes it, and how it may turn out."""

Times: TypeAlias = tuple[tuple[float, int], ...]
"""How long something takes: chances and milliseconds."""
AT_ONCE: Times = ((1.0, 0),)


@dataclass(slots=True)
class Given:
    """What was said, by name: of tools, models and places (see `skeleton.Place`)."""

    reliability: dict[str, float] = field(default_factory=dict)
    """How likely an attempt goes well."""
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    """In which shares an attempt that does not go well ends in which error."""
    latency: dict[str, Times] = field(default_factory=dict)
    tokens: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of a model's answer: tokens in and out."""
    cost: dict[str, str] = field(default_factory=dict)
    """Of a call, where it is not the worst case that the tool declares: money text."""
    take: dict[str, dict[str, float]] = field(default_factory=dict)
    """By place: how likely which edge, option or tool is taken."""
    items: dict[str, int] = field(default_factory=dict)
    """By place: how many items an `each` has."""
    crash: float = 0.0
    """How likely the process dies during one attempt at a call or a model's answer."""


class Assumed:
    """What was said of one definition, and defaults for the rest."""

    def __init__(self, defn: d.Definition, given: Given, checkpoint: bool = True) -> None:
        self.defn = defn
        self.given = given
        self.checkpoint = checkpoint
        self.places: dict[str, Place] = places(defn)
        self._guards = {place.name: self._guards_of(place) for place in self.places.values()}
        self._attempts: dict[tuple[Any, ...], Odds] = {}

    # ---- guards

    def guard(self, place: str, edge: str) -> float:
        """How likely a guard holds where those before it did not."""
        return self._guards[place][edge]

    def _guards_of(self, place: Place) -> dict[str, float]:
        exits = [edge.id for edge in place.exits]
        weights = self.shares(place.name, exits)
        found, left = {}, 1.0
        for number, edge in enumerate(exits):
            last = number == len(exits) - 1
            found[edge] = 1.0 if last else min(weights[edge] / left, 1.0) if left > 1e-15 else 0.0
            left -= weights[edge]
        return found

    def shares(self, place: str, names: Sequence[str], rare: Sequence[str] = ()) -> dict[str, float]:
        """The odds of each of some choices: as said, and the rest in equal parts. What is `rare` happens only if it is
        said to."""
        said = {name: chance for name, chance in self.given.take.get(place, {}).items() if name in names}
        free = [name for name in names if name not in said and name not in rare]
        rest = max(1.0 - sum(said.values()), 0.0)
        return {name: said.get(name, rest / len(free) if name in free else 0.0) for name in names}

    # ---- attempts

    def attempt(self, place: str, command: Call | Think) -> Odds:
        """How an attempt at a call or a model's answer may turn out."""
        name = command.tool if isinstance(command, Call) else command.model or ""
        does = command.does if isinstance(command, Call) else "think"
        key = (place, name, does, command.timeout_ms)
        known = self._attempts.get(key)
        if known is None:
            known = self._attempts[key] = self._drawn(place, name, does, command)
        return known

    def _drawn(self, place: str, name: str, does: str, command: Call | Think) -> Odds:
        own = place if does in ("action", "think") else ""
        works = self.reliability(own, name)
        times = self.times(own, name)
        alive = 1.0 - self.given.crash
        made: list[tuple[float, Landing]] = []
        for share, ms in times:
            late = command.timeout_ms is not None and ms >= command.timeout_ms
            for part, value in self._values(place, name, does):
                if late:
                    made.append((alive * works * share * part, Landing("Timeout", command.timeout_ms or 0)))
                else:
                    usage = self._usage(place, name, does)
                    made.append((alive * works * share * part, Landing("ok", ms, value, usage)))
            for error, part in self.errors(own, name).items():
                waits = command.timeout_ms if (error == "Timeout" or late) and command.timeout_ms is not None else ms
                made.append((alive * (1.0 - works) * share * part, Landing("Timeout" if late else error, waits)))
            made.append((self.given.crash * share, Landing("crash", min(ms, command.timeout_ms or ms))))
        return [(chance, landing) for chance, landing in _merged(made) if chance > 0.0 or landing.how == "ok"]

    def _values(self, place: str, name: str, does: str) -> list[tuple[float, Any]]:
        if does == "confirm":
            happened = self.given.take.get(place, {}).get(HAPPENED, LIKELY)
            return [(chance, value) for chance, value in ((happened, True), (1.0 - happened, False)) if chance > 0.0]
        if does == "think":
            action = self.places[place].state.action
            if isinstance(action, d.Think) and action.tools:
                odds = self.shares(place, action.tools)
                return [(odds[tool], {"call": {"tool": tool, "args": {}}}) for tool in action.tools if odds[tool] > 0.0]
        return [(1.0, None)]

    def _usage(self, place: str, name: str, does: str) -> dict[str, Any] | None:
        if does == "think":
            tokens_in, tokens_out = self.tokens(place)
            return {"tokens_in": tokens_in, "tokens_out": tokens_out, "cost": self.given.cost.get(place)}
        cost = self.given.cost.get(name)
        return None if cost is None else {"tokens_in": 0, "tokens_out": 0, "cost": cost}

    def reliability(self, place: str, name: str) -> float:
        """How likely one attempt goes well: as said of the place, of the tool or model, of all; else certain."""
        said = self.given.reliability
        return next((said[key] for key in (place, name, EVERY) if key in said), 1.0)

    def times(self, place: str, name: str) -> Times:
        """How long one attempt takes."""
        said = self.given.latency
        return next((said[key] for key in (place, name, EVERY) if key in said), AT_ONCE)

    def tokens(self, place: str) -> tuple[int, int]:
        """What a model's answer uses: as said, else all that the state lets it use."""
        action = self.places[place].state.action
        most = (action.max_prompt or 0, action.max_tokens or 0) if isinstance(action, d.Think) else (0, 0)
        return self.given.tokens.get(place, most)

    def errors(self, place: str, name: str) -> dict[str, float]:
        """In which shares an attempt fails with which error: as said, else with one (see `usual_error`)."""
        said = next((self.given.errors[key] for key in (place, name, EVERY) if key in self.given.errors), None)
        if said is None:
            return {self.usual_error(place, name): 1.0}
        whole = sum(said.values())
        return {error: share / whole for error, share in said.items()}

    def usual_error(self, place: str, name: str) -> str:
        """The error of an attempt that fails, where nothing is said: one that comes and goes, since that is what a
        reliability is about. `Unavailable` where it is tried again, else the first that is; where nothing is tried
        again, the first that the tool raises, else `Unavailable`."""
        tool = self.defn.tools.get(name)
        action = self.places[place].state.action if place in self.places else None
        clauses = (*getattr(action, "retry", ()), *(tool.retry if tool is not None else ()))
        again = [error for clause in clauses for error in clause.errors]
        raised = tool.raises if tool is not None else ()
        if not again:
            return raised[0] if raised else "Unavailable"
        if "any" in again or "Unavailable" in again:
            return "Unavailable"
        return next((error for error in again if error in raised or error in STANDARD_ERRORS), "Unavailable")

    # ---- people and events

    def answer(self, place: str, options: Sequence[str], left_ms: int | None) -> Odds:
        """What a person may answer, and when; one who takes too long does not answer. `left_ms` is until the question
        expires."""
        odds = self.shares(place, [*options, TIMEOUT], rare=(TIMEOUT,))
        found = [
            (odds[option] * share, Landing(option, ms) if left_ms is None or ms < left_ms else _NEVER)
            for option in options
            for share, ms in self.given.latency.get(place, AT_ONCE)
        ]
        return [(c, landing) for c, landing in _merged([*found, (odds[TIMEOUT], _NEVER)]) if c > 0.0]

    def arrival(self, place: str, event: str, limited: bool) -> Odds:
        """When an event comes that is waited for; not at all by the odds of `timeout`."""
        late = self.given.take.get(place, {}).get(TIMEOUT, 0.0)
        found = [((1.0 - late) * share, Landing(event, ms)) for share, ms in self.given.latency.get(place, AT_ONCE)]
        return [(c, landing) for c, landing in [*found, (late, _NEVER)] if c > 0.0]


_NEVER = Landing("never", 0)


def _merged(odds: Sequence[tuple[float, Landing]]) -> list[tuple[float, Landing]]:
    """The same odds with each landing once."""
    found: list[tuple[float, Landing]] = []
    for chance, landing in odds:
        at = next((n for n, (_, known) in enumerate(found) if known == landing), None)
        if at is None:
            found.append((chance, landing))
        else:
            found[at] = (found[at][0] + chance, landing)
    return found


def maxima(given: Given) -> Mapping[str, int]:
    """By place, how many tokens its prompt is taken to have."""
    return {place: tokens_in for place, (tokens_in, _) in given.tokens.items()}
