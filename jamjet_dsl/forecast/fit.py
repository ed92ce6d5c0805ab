"""Odds fitted from journals: how often what went well, how long it took, which way was taken, in runs that were made.

Only what a journal says is counted. A rate is a plain share of what was observed, with the number of observations
beside it; what was never observed keeps its default and is named. Forks are left out: their calls may be recordings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.forecast.assumed import TIMEOUT, Given, Times
from jamjet_dsl.forecast.skeleton import Place, place_name, places
from jamjet_dsl.kernel.budget import amount
from jamjet_dsl.kernel.errors import STANDARD_ERRORS
from jamjet_dsl.kernel.ids import base_of, frame_of
from jamjet_dsl.kernel.model import Event
from jamjet_dsl.money import money_text
from jamjet_dsl.ports import Store

PARTS = 5
"""Observed times are put in order and divided into so many equal parts; each counts with its mean."""


class Observed(NamedTuple):
    """What was observed of one thing, and how often: `kind` as in `inputs.KINDS`."""

    kind: str
    name: str
    times: int
    text: str


@dataclass(slots=True)
class Fitted:
    """What the journals of an agent say. `definitions` are the digests of what the runs ran, with how many did."""

    given: Given = field(default_factory=Given)
    runs: int = 0
    forks: int = 0
    definitions: Counter[str] = field(default_factory=Counter)
    observed: list[Observed] = field(default_factory=list)
    unobserved: list[str] = field(default_factory=list)


def fit(store: Store, defn: d.Definition) -> Fitted:
    """What the runs of the definition's agent say. Raises JamError JAMR101 if there is none, JAMR107 for a journal that
    was changed or damaged."""
    known = [row for row in store.summaries() if row.agent == defn.main]
    found = Fitted(forks=sum(row.parent is not None for row in known))
    counts = _Counts(defn)
    for row in known:
        if row.parent is not None:
            continue
        found.runs += 1
        found.definitions[row.definition] += 1
        counts.add(store.history(row.run_id))
    if not found.runs:
        agents = sorted({row.agent for row in store.summaries()})
        have = f"it has runs of: {', '.join(agents)}" if agents else "it has no runs at all"
        raise JamError("JAMR101", f"the database has no run of `{defn.main}` to fit odds from", have)
    counts.put_into(found)
    return found


class _Counts:
    """What was seen so far, by the names that people use."""

    def __init__(self, defn: d.Definition) -> None:
        self.defn = defn
        self.places: dict[str, Place] = places(defn)
        self.worked: Counter[str] = Counter()
        self.failed: dict[str, Counter[str]] = {}
        self.took: dict[str, list[int]] = {}
        self.tokens: dict[str, list[tuple[int, int]]] = {}
        self.cost: dict[str, list[Decimal]] = {}
        self.taken: dict[str, Counter[str]] = {}
        self.crashed = 0
        self.begun = 0

    def add(self, events: Iterable[Event]) -> None:
        """One more journal."""
        _Journal(self).read(events)

    def edge(self, place: str, choice: str) -> None:
        """One more time that was taken."""
        self.taken.setdefault(place, Counter())[choice] += 1

    # ---- in the end

    def put_into(self, found: Fitted) -> None:
        """The odds that follow, and what is not known."""
        for name in sorted({*self.worked, *self.failed}):
            self._reliability(found, name)
        for name, times in sorted(self.took.items()):
            found.given.latency[name] = in_parts(times)
            mean = math.fsum(times) / len(times)
            found.observed.append(Observed("latency", name, len(times), f"{mean / 1000:.3g} s on the average"))
        for name, used in sorted(self.tokens.items()):
            both = tuple(round(math.fsum(row[n] for row in used) / len(used)) for n in (0, 1))
            found.given.tokens[name] = both[0], both[1]
            found.observed.append(Observed("tokens", name, len(used), f"{both[0]} in, {both[1]} out on the average"))
        for name, costs in sorted(self.cost.items()):
            text = money_text(round(sum(costs, Decimal(0)) / len(costs), 9), self.defn.agent.currency)
            found.given.cost[name] = text
            found.observed.append(Observed("cost", name, len(costs), f"{text} on the average"))
        for place, counts in sorted(self.taken.items()):
            self._choices(found, place, counts)
        attempts = self.begun
        if attempts:
            found.given.crash = self.crashed / attempts
            found.observed.append(Observed("crash", "", attempts, f"{self.crashed} found without an outcome"))
        found.unobserved += self._unseen()

    def _reliability(self, found: Fitted, name: str) -> None:
        errors = self.failed.get(name, Counter())
        whole = self.worked[name] + errors.total()
        found.given.reliability[name] = self.worked[name] / whole
        told = ", ".join(f"{n} {error}" for error, n in errors.most_common())
        found.observed.append(Observed("reliability", name, whole, f"{self.worked[name]} went well" + _and(told)))
        if errors:
            found.given.errors[name] = {error: float(n) for error, n in errors.items()}

    def _choices(self, found: Fitted, place: str, counts: Counter[str]) -> None:
        """The shares of each kind of choice that a state has."""
        exits = {edge.id for edge in self.places[place].exits}
        odds = found.given.take.setdefault(place, {})
        for group in ([c for c in counts if c in exits], [c for c in counts if c not in exits]):
            whole = sum(counts[choice] for choice in group)
            for choice in group:
                odds[choice] = counts[choice] / whole
            told = ", ".join(f"{counts[c]} {c}" for c in sorted(group, key=lambda c: -counts[c]))
            if group:
                found.observed.append(Observed("take", place, whole, told))
        for name in self._all_choices(self.places[place], set(counts) & exits, set(counts) - exits):
            odds.setdefault(name, 0.0)

    @staticmethod
    def _all_choices(place: Place, exits: set[str], others: set[str]) -> list[str]:
        """All choices of the kinds of which some were seen: the others were never taken."""
        found = [edge.id for edge in place.exits] if exits else []
        action = place.state.action
        if others and isinstance(action, d.Ask):
            found += [option.name for option in action.options]
        if others and isinstance(action, d.Think):
            found += action.tools
        return found

    def _unseen(self) -> list[str]:
        seen = {*self.worked, *self.failed}
        unseen = [name for name in sorted(self.defn.tools) if name not in seen]
        for name, place in self.places.items():
            asks = isinstance(place.state.action, d.Ask)
            thinks = isinstance(place.state.action, d.Think) and name not in seen
            if thinks or ((asks or len(place.exits) > 1) and name not in self.taken):
                unseen.append(name)
        return unseen


def _and(text: str) -> str:
    return f", {text}" if text else ""


class _Journal:
    """One journal, read from its first event on: which frame is in which state, and what is under way."""

    def __init__(self, counts: _Counts) -> None:
        self.counts = counts
        self.at: dict[str, tuple[str, str, str]] = {}
        self.thinking: dict[str, str] = {}
        self.asked: dict[str, tuple[str, int]] = {}

    def read(self, events: Iterable[Event]) -> None:
        for event in events:
            handler = getattr(self, f"_{event.kind}", None)
            if handler is not None:
                handler(event, event.body)

    def _place(self, frame: str) -> str | None:
        agent, region, state = self.at.get(frame, ("", "", ""))
        name = place_name(self.counts.defn.main, agent, region, state)
        return name if name in self.counts.places else None

    def _started(self, event: Event, body: Mapping[str, Any]) -> None:
        self.at[""] = ("", "", self.counts.defn.agent.body.start)

    def _begun(self, event: Event, body: Mapping[str, Any]) -> None:
        around = self.at.get(frame_of(body["cmd"]), ("", "", ""))[0]
        self.at[body["frame"]] = (body.get("agent", around), body["region"], body["state"])

    def _moved(self, event: Event, body: Mapping[str, Any]) -> None:
        frame = body["frame"]
        agent, region, _ = self.at.get(frame, ("", "", ""))
        self.at[frame] = (agent, region, body["state"])
        place = self._place(frame)
        if place is not None and any(edge.id == body["edge"] for edge in self.counts.places[place].exits):
            self.counts.edge(place, body["edge"])
        self.at[frame] = (agent, region, body["to"])

    def _intent(self, event: Event, body: Mapping[str, Any]) -> None:
        self.counts.begun += 1
        if body.get("does") == "think":
            place = self._place(frame_of(body["cmd"]))
            if place is not None:
                self.thinking[body["cmd"]] = place

    def _name(self, body: Mapping[str, Any]) -> str | None:
        """The tool, or the state that asked a model. None for what was never begun, and for what is not there now."""
        if "tool" in body:
            return str(body["tool"]) if body["tool"] in self.counts.defn.tools else None
        return self.thinking.get(body["cmd"])

    def _succeeded(self, event: Event, body: Mapping[str, Any]) -> None:
        name = self._name(body)
        if name is None:
            return
        counts, usage = self.counts, body.get("usage") or {}
        counts.worked[name] += 1
        counts.took.setdefault(name, []).append(int(body.get("duration_ms") or 0))
        if "tool" not in body:
            used = (int(usage.get("tokens_in") or 0), int(usage.get("tokens_out") or 0))
            if usage:
                counts.tokens.setdefault(name, []).append(used)
            call = body["result"].get("call") if isinstance(body["result"], dict) else None
            action = counts.places[name].state.action
            if isinstance(action, d.Think) and isinstance(call, dict) and call.get("tool") in action.tools:
                counts.edge(name, str(call["tool"]))
        if usage.get("cost") is not None:
            counts.cost.setdefault(name, []).append(amount(usage["cost"]))

    def _failed(self, event: Event, body: Mapping[str, Any]) -> None:
        name = self._name(body)
        if name is None:
            return
        tool = self.counts.defn.tools.get(name)
        error = str(body["error"])
        if error not in STANDARD_ERRORS and (tool is None or error not in tool.raises):
            error = "Crashed"  # as the kernel takes one that the tool does not declare
        self.counts.failed.setdefault(name, Counter())[error] += 1

    def _recovered(self, event: Event, body: Mapping[str, Any]) -> None:
        if base_of(body["cmd"]) == body["cmd"]:
            self.counts.crashed += 1

    def _in_doubt(self, event: Event, body: Mapping[str, Any]) -> None:
        if "process ended" in str(body.get("why")):
            self.counts.crashed += 1

    def _asked(self, event: Event, body: Mapping[str, Any]) -> None:
        place = self._place(frame_of(body["cmd"]))
        if place is not None:
            self.asked[body["question"]] = place, event.at_ms

    def _answered(self, event: Event, body: Mapping[str, Any]) -> None:
        known = self.asked.get(body["question"])
        if known is None:
            return
        place, since = known
        action = self.counts.places[place].state.action
        if isinstance(action, d.Ask) and any(option.name == body["option"] for option in action.options):
            self.counts.edge(place, str(body["option"]))
            self.counts.took.setdefault(place, []).append(event.at_ms - since)

    def _expired(self, event: Event, body: Mapping[str, Any]) -> None:
        known = self.asked.get(body["question"])
        if known is not None:
            self.counts.edge(known[0], TIMEOUT)


def in_parts(times: Sequence[int], parts: int = PARTS) -> Times:
    """Observed times as a few, with the share of the observations that each stands for. The mean stays what it was, to
    half a millisecond."""
    ordered = sorted(times)
    number = min(parts, len(ordered))
    cuts = [len(ordered) * n // number for n in range(number + 1)]
    found: dict[int, float] = {}
    for low, high in pairwise(cuts):
        middle = round(math.fsum(ordered[low:high]) / (high - low))
        found[middle] = found.get(middle, 0.0) + (high - low) / len(ordered)
    return tuple((chance, ms) for ms, chance in sorted(found.items()))
