"""The kernel, driven over a skeleton in simulated time, one random choice at a time.

What the engine does with a run is done here with a skeleton: what happened is folded, what the kernel decides is
folded, effects begin and land. Three things are chosen: how an attempt, a person or an event turns out, and when;
which edge the guards of a state let a run go; and where in its spread a jittered pause lies. `Chooser` is asked for
each; whoever follows all ways answers by `Undecided`, whoever follows one answers at random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from jamjet_dsl import definition as d
from jamjet_dsl.forecast.assumed import Assumed, Attempt, Landing
from jamjet_dsl.forecast.skeleton import Skeleton, place_name
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.budget import amount
from jamjet_dsl.kernel.draft import Draft
from jamjet_dsl.kernel.expr import Evaluator
from jamjet_dsl.kernel.fold import fold_into
from jamjet_dsl.kernel.ids import base_of, frame_of
from jamjet_dsl.kernel.machine import decide, due, initial, next_wake
from jamjet_dsl.kernel.model import ENDED, Ask, Await, Call, Command, Frame, Record, RunState, SetTimer, Think
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.recovery import recover

CRASH = "crash"
OK = "ok"


class Chooser(Protocol):
    """Who answers where something is random."""

    def among(self, odds: Sequence[tuple[float, Any]]) -> Any:
        """One of these, by their odds."""

    def between(self, low: int, high: int) -> int:
        """A whole number, all as likely."""

    @property
    def asked(self) -> int:
        """How often something has been chosen that could have been chosen otherwise."""


class Drawn(Program):
    """A skeleton that is decided on, with guards that are chosen by odds and not evaluated."""

    def __init__(self, skeleton: Skeleton, assumed: Assumed) -> None:
        self._guards = skeleton.guards
        self._skeleton = skeleton
        self._assumed = assumed
        self.chooser: Chooser | None = None
        super().__init__(skeleton.definition)

    def closure(self, expr: d.ExprJson) -> Evaluator:
        """As of any program; for a guard, a choice. One that follows others that were not taken has what is left."""
        known = self._guards.get(id(expr))
        if known is None:
            return super().closure(expr)
        held = self._assumed.guard(*known)
        odds = [(chance, value) for chance, value in ((held, True), (1.0 - held, False)) if chance > 0.0]

        def chosen(scope: Any) -> bool:
            assert self.chooser is not None
            return bool(self.chooser.among(odds))

        return chosen

    def place(self, frame: Frame) -> str:
        """The name of the state that a frame is in."""
        return place_name(self.defn.main, frame.agent, frame.region, frame.state)


class Flight(NamedTuple):
    """What was begun and will land: an effect, an answer, an event."""

    at_ms: int
    place: str
    landing: Landing


@dataclass(slots=True)
class Node:
    """Where a run stands. `flights` are by the id of the command, or of the question."""

    state: RunState
    now_ms: int
    flights: Mapping[str, Flight] = field(default_factory=dict)


class End(NamedTuple):
    """How it ends. `how` is completed, failed, parked, doubt, exceeded, waiting or lost; `place` the final, or the
    state where it stopped; `why` what it says there."""

    how: str
    place: str
    why: str = ""
    exceeded: bool = False


class Spent(NamedTuple):
    """What one step of the chain adds; cost in units of the currency, time in milliseconds."""

    steps: int
    tokens: int
    cost: Decimal
    time: int


class Step(NamedTuple):
    """One step: where it leads, what it adds, the place where something landed in it, and the attempt that was drawn in
    it: its place and how it turned out."""

    to: Node | End
    spent: Spent
    landed: str = ""
    drawn: tuple[str, str] | None = None


class World:
    """What happens to a run of a skeleton, under assumptions."""

    def __init__(self, skeleton: Skeleton, assumed: Assumed, chooser: Chooser) -> None:
        self.program = Drawn(skeleton, assumed)
        self.assumed = assumed
        self.chooser = chooser
        self.program.chooser = chooser

    def start(self) -> Node:
        """A run at its beginning."""
        draft = Draft(initial("forecast"))
        kind, body = inputs.started(self.program, {}, {}, "forecast")
        fold_into(self.program, draft, 1, _START_MS, kind, body)
        return Node(draft.state, _START_MS)

    def step(self, node: Node) -> Step:
        """The next step: what the kernel decides up to the first choice; or if that is nothing, the next thing in time
        that lands. At most one thing is chosen in it."""
        settled = _Settled(self, node)
        if not settled.finished:
            after = Node(settled.state, node.now_ms, node.flights)
            return Step(after, _spent(node, after))
        end = self._end(settled)
        if end is not None:
            return Step(end, _spent(node, Node(settled.state, node.now_ms)))
        flights = {name: flight for name, flight in node.flights.items() if name in settled.open}
        drawn: tuple[str, str] | None = None
        for name in sorted(settled.open):
            if name in flights:
                continue
            place, odds = settled.open[name]()
            before = self.chooser.asked
            landing = self.chooser.among(odds) if odds else None
            if landing is None or landing.how == NEVER:
                flights[name] = Flight(_NEVER_MS, place, Landing(NEVER, 0))
            else:
                flights[name] = Flight(node.now_ms + landing.ms, place, landing)
                drawn = (place, landing.how) if name in settled.effects else drawn
            if self.chooser.asked > before and len(settled.open) > 1:
                after = Node(settled.state, node.now_ms, flights)
                return Step(after, _spent(node, after), "", drawn)
        return self._land(node, settled, flights, drawn)

    def _land(self, node: Node, settled: _Settled, flights: dict[str, Flight], drawn: tuple[str, str] | None) -> Step:
        """What comes next in time; a timer before what lands at the same moment."""
        state = settled.state
        wake = next_wake(state)
        name = min(flights, key=lambda n: (flights[n].at_ms, n), default=None)
        if name is not None and flights[name].at_ms >= _NEVER_MS:
            name = None
        if wake is not None and (name is None or wake <= flights[name].at_ms):
            now = max(node.now_ms, wake)
            after = Node(self._folded(state, now, due(state, now)), now, flights)
            return Step(after, _spent(node, after), "", drawn)
        if name is None:
            end = End("waiting", self._waits_in(settled), "for what never comes")
            return Step(end, _spent(node, Node(state, node.now_ms)), "", drawn)
        flight = flights.pop(name)
        now = flight.at_ms
        if flight.landing.how == CRASH:
            if not self.assumed.checkpoint:
                gone = Node(self._folded(state, now, []), now)
                return Step(End("lost", flight.place, "the process died"), _spent(node, gone), flight.place, drawn)
            records = [(record.kind, record.body) for record in recover(self.program, state)]
            flights = {key: known for key, known in flights.items() if key not in settled.effects}
        else:
            records = [self._event(state, settled, name, flight)]
        after = Node(self._folded(state, now, records), now, flights)
        return Step(after, _spent(node, after), flight.place, drawn)

    def _folded(self, state: RunState, now_ms: int, events: Sequence[tuple[str, dict[str, Any]]]) -> RunState:
        draft = Draft(state)
        for kind, body in events:
            fold_into(self.program, draft, draft.state.seq + 1, now_ms, kind, body)
        return draft.state

    def _event(self, state: RunState, settled: _Settled, name: str, flight: Flight) -> tuple[str, dict[str, Any]]:
        """What lands, as an event."""
        landing, program = flight.landing, self.program
        command = settled.effects.get(name)
        if command is None:
            if name in state.questions:
                return inputs.answered(program, state, name, landing.how, {}, "a person", None)
            return inputs.received(program, state, landing.how, {}, f"event {state.seq}", None)
        if landing.how != OK:
            return inputs.failed(program, state, command, landing.how, "drawn by the forecast")
        return inputs.succeeded(program, state, command, landing.value, landing.usage)

    # ---- what may happen

    def opened(self, state: RunState, commands: Sequence[Command]) -> dict[str, Callable[[], Attempt]]:
        """What is under way and will land, and how to have its odds."""
        found: dict[str, Callable[[], Attempt]] = {}
        for command in commands:
            if isinstance(command, Call | Think):
                found[command.id] = lambda command=command: self._attempt(state, command)  # type: ignore[misc]
            elif isinstance(command, Await) and command.what == "event":
                found[command.id] = lambda command=command: self._arrival(state, command)  # type: ignore[misc]
            elif isinstance(command, Await) and command.what == "question":
                found[command.name] = lambda command=command: self._answer(state, command)  # type: ignore[misc]
        return found

    def _attempt(self, state: RunState, command: Call | Think) -> Attempt:
        place = self.program.place(state.frames[frame_of(base_of(command.id))])
        return place, self.assumed.attempt(place, command)

    def _arrival(self, state: RunState, wait: Await) -> Attempt:
        place = self.program.place(state.frames[frame_of(wait.id)])
        return place, self.assumed.arrival(place, wait.name, wait.at_ms is not None)

    def _answer(self, state: RunState, wait: Await) -> Attempt:
        frame = state.frames[frame_of(wait.id)]
        place = self.program.place(frame)
        left = None if wait.at_ms is None else wait.at_ms - state.now_ms
        options = [str(option["name"]) for option in state.questions[wait.name].body["options"]]
        return place, self.assumed.answer(place, options, left)

    # ---- ends

    def _end(self, settled: _Settled) -> End | None:
        state = settled.state
        used_up = state.exceeded is not None
        if state.status in ENDED:
            final = state.final_state or ""
            ended = "exceeded" if used_up and state.status != "completed" else str(state.status)
            return End(ended, final, exceeded=used_up)
        if state.parked is not None:
            body = state.parked
            frame = state.frames.get(str(body.get("frame", "")))
            place = self.program.place(frame) if frame is not None else str(body["state"])
            doubt = any(str(command).startswith("settle") for command in body["commands"])
            how = "exceeded" if used_up else "doubt" if doubt else "parked"
            return End(how, place, str(body["reason"]).partition(":")[0], used_up)
        return None

    def _waits_in(self, settled: _Settled) -> str:
        paths = [frame_of(wait.id) for wait in settled.awaits] or [""]
        return self.program.place(settled.state.frames[paths[0]])


_START_MS = 0
_NEVER_MS = 1 << 62
NEVER = "never"


class _Settled:
    """What the kernel decides where a run stands: up to the first choice, or until only effects and waits are left
    (`finished`). As `engine.advance` does it, without what only a database needs."""

    def __init__(self, world: World, node: Node) -> None:
        program, chooser = world.program, world.chooser
        draft, now = Draft(node.state), node.now_ms
        before, number = chooser.asked, 0
        self.effects: dict[str, Call | Think] = {}
        self.awaits: list[Await] = []
        self.open: dict[str, Callable[[], Attempt]] = {}

        def fold(kind: str, body: dict[str, Any]) -> None:
            nonlocal number
            number += 1
            fold_into(program, draft, draft.state.seq + 1, now, kind, body)

        while chooser.asked == before:
            commands = decide(program, draft.state)
            last = commands[-1] if commands else None
            if isinstance(last, Record):
                fold(last.kind, last.body)
                continue
            event = next((event for event in map(self._event_of, commands) if event is not None), None)
            if event is None:
                self.effects = {c.id: c for c in commands if isinstance(c, Call | Think)}
                self.awaits = [c for c in commands if isinstance(c, Await)]
                self.open = world.opened(draft.state, commands)
                break
            kind, body, timer = event
            if timer is not None:
                at_ms = timer.at_ms - (chooser.between(0, timer.spread_ms) if timer.spread_ms else 0)
                body = {**body, "at_ms": at_ms}
            elif kind == "asked":
                body = {**body, "question": f"q{draft.state.seq}"}
            fold(kind, body)
        self.state = draft.state
        self.finished = chooser.asked == before

    @staticmethod
    def _event_of(command: Command) -> tuple[str, dict[str, Any], SetTimer | None] | None:
        match command:
            case Call() | Think():
                return None if command.intent is None else ("intent", command.intent, None)
            case Ask():
                return "asked", command.body, None
            case SetTimer():
                return command.record, command.body, command
        return None


def _spent(before: Node, after: Node) -> Spent:
    old, new = before.state.spent, after.state.spent
    cost = Decimal(0) if old.cost == new.cost else amount(new.cost) - amount(old.cost)
    return Spent(new.steps - old.steps, new.tokens - old.tokens, cost, after.now_ms - before.now_ms)
