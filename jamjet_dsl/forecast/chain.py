"""The chain: every way that a run of a skeleton may go, with what the kernel cannot tell apart merged.

A node is where a run stands; two runs stand in the same place if the kernel decides alike for both from there on. So
numbers of visits, ids and dates are left out of what is compared, times count from now, and what was spent counts only
where something limits it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.forecast.assumed import Assumed
from jamjet_dsl.forecast.skeleton import Skeleton, live_moves, places
from jamjet_dsl.forecast.world import End, Node, Spent, Step, World
from jamjet_dsl.kernel.ids import action_id, base_of
from jamjet_dsl.kernel.model import Frame, Intent, Json, RunState

MAX_NODES = 200_000
"""A chain with more is refused: it would take minutes and gigabytes."""
SPREAD = 4
"""Into how many times of equal odds a jittered pause is divided, the middle of each."""


class Undecided(Exception):
    """Something random has to be chosen first."""

    def __init__(self, odds: Sequence[tuple[float, Any]]) -> None:
        super().__init__("undecided")
        self.odds = odds


class Script:
    """A chooser that answers from a list, and says `Undecided` at its end."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: tuple[Any, ...] = ()

    def begin(self, answers: tuple[Any, ...]) -> None:
        """From here on these are the answers."""
        self.asked, self.answers = 0, answers

    def among(self, odds: Sequence[tuple[float, Any]]) -> Any:
        if len(odds) == 1:
            return odds[0][1]
        if self.asked == len(self.answers):
            raise Undecided(odds)
        self.asked += 1
        return self.answers[self.asked - 1]

    def between(self, low: int, high: int) -> int:
        whole = high - low
        middles = [low + whole * (2 * n + 1) // (2 * SPREAD) for n in range(SPREAD)]
        chosen: int = self.among([(1 / SPREAD, ms) for ms in middles])
        return chosen


class Arc(NamedTuple):
    """One step of the chain, by the numbers of its nodes."""

    chance: float
    to: int
    spent: Spent
    landed: str
    drawn: tuple[str, str] | None


@dataclass(slots=True)
class Chain:
    """All nodes by number, the first one 0; `arcs[n]` lead on from node n, and none from an end."""

    arcs: list[list[Arc]] = field(default_factory=list)
    ends: dict[int, End] = field(default_factory=dict)
    steps: int = 0
    """The steps that a run has made as it begins: 1 where its first state acts."""
    held: int = 0
    """The most effects that were under way at once."""

    @property
    def transitions(self) -> int:
        """How many arcs there are."""
        return sum(map(len, self.arcs))


def explore(skeleton: Skeleton, assumed: Assumed, most: int = MAX_NODES) -> Chain:
    """The chain of a skeleton. Raises JamError JAMR006 for one with more than `most` nodes."""
    script = Script()
    world = World(skeleton, assumed, script)
    key = _Key(skeleton)
    chain, numbers = Chain(), dict[Any, int]()
    waiting: list[tuple[int, Node]] = []

    def number(found: Node | End) -> int:
        known = key.of(found) if isinstance(found, Node) else found
        at = numbers.get(known)
        if at is None:
            at = numbers[known] = len(chain.arcs)
            if at >= most:
                raise _too_large(most)
            chain.arcs.append([])
            if isinstance(found, Node):
                waiting.append((at, found))
                chain.held = max(chain.held, len(found.state.intents))
            else:
                chain.ends[at] = found
        return at

    begin = world.start()
    chain.steps = begin.state.spent.steps
    number(begin)
    while waiting:
        at, node = waiting.pop()
        for chance, step in _steps(world, script, node):
            chain.arcs[at].append(Arc(chance, number(step.to), step.spent, step.landed, step.drawn))
    return chain


def _too_large(most: int) -> JamError:
    return JamError(
        "JAMR006",
        f"the chain of this program has more than {most:,} states: its odds are not computed exactly",
        "say fewer different latencies, or take limits of time, cost or tokens out of a copy of the program",
    )


def _steps(world: World, script: Script, node: Node) -> Iterator[tuple[float, Step]]:
    """Every way that the next step from a node may go, with its odds."""
    todo: list[tuple[float, tuple[Any, ...]]] = [(1.0, ())]
    while todo:
        chance, answers = todo.pop()
        script.begin(answers)
        try:
            step = world.step(node)
        except Undecided as undecided:
            todo += [(chance * part, (*answers, value)) for part, value in undecided.odds]
        else:
            yield chance, step


_VISIT = re.compile(r"([#@])\d+(?:\.\d+)?")


def _plain(name: str) -> str:
    """A path or an id without numbers of visits and attempts."""
    return _VISIT.sub(r"\1", name)


class _Key:
    """What two nodes have in common that the kernel cannot tell apart."""

    def __init__(self, skeleton: Skeleton) -> None:
        defn = skeleton.definition
        budgets = [agent.budget for agent in defn.agents.values()]
        budgets += [getattr(p, "budget", None) for p in _actions(defn)]
        limits = [budget.limits for budget in budgets if budget is not None]
        self.steps = any(limit.steps is not None for limit in limits)
        self.tokens = any(limit.tokens is not None for limit in limits)
        self.cost = any(limit.cost is not None for limit in limits)
        self.time = any(limit.time_ms is not None for limit in limits)
        self.active = any(limit.active_ms is not None for limit in limits)
        self.live = live_moves(defn)

    def of(self, node: Node) -> tuple[Any, ...]:
        """The key of a node."""
        state, now = node.state, node.now_ms
        return (
            self._spent(state.spent),
            state.started_ms - now if self.time else 0,
            state.exceeded,
            state.diverted,
            state.parked is not None,
            state.status,
            state.final_state,
            self._moves(state),
            tuple(self._frame(state, frame, now) for _, frame in sorted(state.frames.items())),
            self._intents(state),
            tuple(sorted((_plain(name), at - now) for name, at in state.timers.items())),
            tuple(event["name"] for event in state.queue),
            tuple((_plain(entry["cmd"]), entry["tool"]) for entry in state.undo),
            self._flights(node),
        )

    def _spent(self, spent: Any) -> tuple[Any, ...]:
        return (
            spent.steps if self.steps else 0,
            spent.tokens if self.tokens else 0,
            spent.cost if self.cost else "",
            spent.active_ms if self.active else 0,
        )

    def _moves(self, state: RunState) -> str:
        """The proposed calls that may still be made."""
        if not state.vars:
            return ""
        live = self.live.get(state.frames[""].state, frozenset())
        return repr(sorted((name, value) for name, value in state.vars.items() if name in live))

    def _frame(self, state: RunState, frame: Frame, now: int) -> tuple[Any, ...]:
        account = frame.account
        return (
            _plain(frame.path),
            frame.state,
            min(frame.attempt, 2),
            frame.phase,
            _outcome(frame.outcome, now),
            tuple(sorted(frame.counters.items())),
            tuple(sorted(frame.retries.items())),
            None if frame.call is None else (frame.call["tool"], frame.call["key"]),
            None if frame.error is None else (frame.error["error"], frame.error["definite"]),
            None if frame.fault is None else frame.fault["error"],
            None if frame.event is None else frame.event["name"],
            frame.idle,
            frame.kind,
            frame.agent,
            frame.region,
            repr(frame.scope) if frame.scope else "",
            _opened(frame.opened),
            tuple(sorted((key, end["how"], end.get("error")) for key, end in frame.ended.items())),
            frame.late,
            None
            if account is None
            else (
                self._spent(account),
                account.started_ms - now if self.time else 0,
                tuple(sorted(account.limits.items())),
                tuple(sorted(account.caps.items())),
                account.exceeded,
                account.diverted,
            ),
        )

    def _intents(self, state: RunState) -> tuple[Any, ...]:
        """The calls that are open, in the order in which a rollback would resolve them."""
        if not state.intents:
            return ()
        now = {action_id(frame) for frame in state.frames.values()}
        ordered = sorted(state.intents.values(), key=lambda intent: (intent.at_ms, intent.cmd))
        return tuple(_intent(intent, base_of(intent.cmd) in now) for intent in ordered)

    def _flights(self, node: Node) -> tuple[Any, ...]:
        """What is under way; ids of questions follow from the frames that ask them."""
        asked = {question.id: _plain(question.cmd) for question in node.state.questions.values()}
        flights = (
            (asked.get(name, _plain(name)), flight.at_ms - node.now_ms, flight.landing.how, repr(flight.landing.value))
            if flight.landing.how != "never"
            else (asked.get(name, _plain(name)), 0, "never", "")
            for name, flight in node.flights.items()
        )
        return tuple(sorted(flights))


def _actions(defn: Any) -> Iterator[Any]:
    for place in places(defn).values():
        if place.state.action is not None:
            yield place.state.action


def _outcome(outcome: dict[str, Json] | None, now: int) -> tuple[Any, ...] | None:
    if outcome is None:
        return None
    result = repr(outcome.get("result")) if outcome["kind"] == "ok" else ""
    at = outcome["at_ms"] - now
    return outcome["kind"], outcome.get("error"), outcome.get("definite"), outcome.get("option"), result, at


def _opened(opened: dict[str, Json] | None) -> str:
    """What a frame has opened; when its time is over is told by its timer."""
    if opened is None:
        return ""
    return _plain(repr(sorted((name, value) for name, value in opened.items() if name != "at_ms")))


def _intent(intent: Intent, current: bool) -> tuple[Any, ...]:
    body = intent.body
    does, tool = body.get("does"), body.get("tool")
    return _plain(intent.cmd), current, does, tool, intent.unsettled, intent.reserve.tokens, intent.reserve.cost
