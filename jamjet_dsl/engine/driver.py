"""Driving one run: each thing that happens becomes one transition, and once it is committed its effects are started.

A driver exists while a run is worked on and holds its lease. It never waits itself: `turn` gives the next transition
to be written, `written` and `refused` say what came of it, so that one loop drives thousands of runs and writes what
they have to say together. When nothing is in flight and nothing is due soon a driver gives the lease up in its last
append and is gone; whoever wakes the run makes a new one from the journal.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Chance, Transition, advance
from jamjet_dsl.engine.flights import Flight, Flights, Places, parts_of
from jamjet_dsl.engine.journal import Journal
from jamjet_dsl.engine.recordings import NoRecording, RecordedTools, Recordings, parked_body
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import due, next_wake
from jamjet_dsl.kernel.model import ENDED, Call, RunState
from jamjet_dsl.kernel.outcomes import is_open
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.ports import Batch, Clock, Lease, Message, ModelHost, Outdated, Store, ToolError, ToolHost

Events = Sequence[tuple[str, dict[str, Any]]]
"""What happened, as `kernel.inputs` returned it."""
_UNSTORABLE = frozenset({"JAMR003", "JAMR302"})
"""The codes of what the journal cannot hold: too large, or not JSON."""
LINGER_MS = 5_000
"""A run whose next timer is due within this stays in memory."""


class World(Protocol):
    """What a driver needs of its engine."""

    store: Store
    places: Places

    @property
    def drives(self) -> bool:
        """Whether runs are driven here: where they are not, messages are taken and no effect begins."""
        ...

    @property
    def clock(self) -> Clock: ...

    @property
    def chance(self) -> Chance: ...

    def ready(self, driver: Driver) -> None:
        """Give the driver a turn soon."""
        ...

    def wake_at(self, run_id: str, at_ms: int) -> None:
        """Give whoever drives the run then a turn at that time."""
        ...

    def progressed(self, run_id: str, still: bool = True) -> None:
        """Something was committed for the run; `still` if it goes no further by itself."""
        ...

    def give_up(self, lease: Lease, failed: bool) -> None:
        """Give a lease up. One of a run that `failed` to be driven on may be kept for a while, so that it is not tried
        again at once."""
        ...

    def left(self, driver: Driver, error: JamError | None) -> None:
        """The driver is gone. `error` is why, if it could not do its work."""
        ...


@dataclass(slots=True)
class Move:
    """What a driver is about to journal: events, the message they came in, the effect whose outcome they are."""

    happened: Events
    message: Message | None = None
    landed: Flight | None = None
    refused: JamError | None = None
    """Why the message is not carried out; it leaves the inbox all the same."""
    rest: bool = False


@dataclass(slots=True)
class Append:
    """A transition that is ready to be written. `item` is what the store needs of it."""

    driver: Driver
    move: Move
    step: Transition
    item: tuple[Lease, int, Batch]
    decided: bool
    begin: bool


class Driver:
    """One run, while it is worked on. Everything here happens on the engine's event loop."""

    def __init__(
        self, world: World, program: Program, state: RunState, journal: Journal, tools: ToolHost, models: ModelHost
    ) -> None:
        self.state = state
        self.step = Transition(state)
        self.program = program
        self.journal = journal
        self.queued = False
        """Whether it has been promised a turn: the engine's note."""
        self.gone = False
        self.holds = False
        """It takes messages and begins nothing, until one is accepted: what is refused must not drive a run. Where
        nothing is driven it stays so."""
        self._world = world
        self._store = world.store
        self._clock = world.clock
        self._flights = Flights(self, world.places, self._clock, tools, models)
        self._landed: deque[Flight] = deque()
        self._recorded = tools.recordings if isinstance(tools, RecordedTools) else None
        self._replies: dict[int, asyncio.Future[None]] = {}
        self._mail = True
        self._again = False
        self._stopping = False
        self._move: Move | None = None
        self._writing = False

    # ---- what others may ask

    @property
    def run_id(self) -> str:
        """The run it drives."""
        return self.state.run_id

    @property
    def at_rest(self) -> bool:
        """Nothing is in flight, and only somebody outside or a timer can move the run."""
        if self.state.status == "running" or self._flights.wanted:
            return False
        return not self._landed and self._move is None

    @property
    def poked(self) -> bool:
        """Somebody wrote for the run, and the driver has not looked since."""
        return self._mail

    def begin(self, first: Events) -> None:
        """Take up a run that was claimed. `first` is committed before anything else (recovery)."""
        self._move = Move(first)
        self._world.ready(self)

    def drive_on(self) -> None:
        """Somebody wants the run driven: hold nothing back any more."""
        if self.holds:
            self.holds, self._again = False, True
            self._world.ready(self)

    def go_on(self, step: Transition) -> None:
        """Go on from a transition that was committed when the run was created. Nobody has written to it before that."""
        self._mail = False
        self._committed(step, begin=True, decided=True)
        self._world.ready(self)

    def poke(self) -> None:
        """Look at the inbox: there may be something in it."""
        self._mail = True
        self._world.ready(self)

    def rouse(self) -> None:
        """Something may be due."""
        self._world.ready(self)

    def reply_to(self, message: int) -> asyncio.Future[None]:
        """A future that ends when the message was taken, with the JamError if it was refused."""
        future = self._replies.get(message)
        if future is None:
            future = self._replies[message] = asyncio.get_running_loop().create_future()
        return future

    def stop(self) -> None:
        """Start nothing more, and end once no write is in flight: what it did is worth waiting for."""
        self._stopping = True
        self._world.ready(self)

    def late(self) -> list[str]:
        """The tools of calls that were given up and still run on a thread: what they give would be journaled."""
        return self._flights.late()

    def lose(self) -> None:
        """Somebody else drives the run now: stop what can be stopped, journal nothing more."""
        self.end(JamError("JAMR206", f"the run {self.run_id} was taken over"))

    def end(self, error: JamError | None = None) -> None:
        """Be gone: give the lease up if it is still ours, and stop what is in flight."""
        if self.gone:
            return
        self.gone = True
        lost = error is not None and error.code == "JAMR206"
        if not self.journal.released and not lost:
            self._world.give_up(self.journal.lease, failed=error is not None)
        self._flights.abort()
        for future in self._replies.values():
            future.cancel()
        self._world.left(self, error)

    # ---- what effects say and need

    def take_slot(self, call: Call, rates: list[tuple[int, int]], now_ms: int) -> int:
        """When a call of a limited tool may be made. Raises JamError JAMR1xx."""
        return self._store.take_slot(call.tool, rates, now_ms, call.trace_key)

    def landed(self, flight: Flight | None) -> None:
        """An effect came to its end; None for one that was stopped because nobody wanted it any more."""
        if self.gone:
            return
        if flight is not None:
            self._landed.append(flight)
        self._world.ready(self)

    # ---- a turn

    def turn(self) -> Append | None:
        """The next transition to be written; None if there is nothing to do now, and then it knows when to wake.

        Raises JamError for what stands in the way of driving on.
        """
        while not self.gone and not self._writing:
            now = self._clock.now_ms()
            if self._move is None:
                if self._stopping and not (self._landed or self._flights.worth_waiting_for):
                    self._move = self._given_back()
                    if self._move is None:
                        self.end()
                        return None
                else:
                    self._move = self._next(now)
                if self._move is None:
                    if self.holds:
                        self.end()
                    else:
                        self._sleep()
                    return None
            append = self._prepare(self._move, now)
            batch = append.item[2]
            if batch.drafts or batch.consumed or batch.release:
                self._writing = True
                return append
            self._settle(append)
        return None

    def _next(self, now: int) -> Move | None:
        """The next thing that happened, in the order in which things came; None if nothing did."""
        if self._landed and self._recorded is None:
            return self._outcome(self._landed.popleft(), now)
        if self._landed and self._recorded is not None and (self._stopping or not self._flights.wanted):
            return self._replayed(self._recorded, now)
        overdue = self._flights.overdue(now)
        if overdue is not None:
            return self._time_out(overdue, now)
        if self._stopping:
            # Timers and messages are durable where they are: whoever resumes takes them.
            return None
        # An answer that was given in time is in time, even if nobody was there to take it.
        messages = self._messages()
        fired = due(self.state, now if not messages else min(now, messages[0].at_ms))
        if fired:
            return Move(fired)
        if messages:
            self._mail = len(messages) > 1
            return self._taken(messages[0])
        if self._again:
            self._again = False
            return Move([])
        return Move([], rest=True) if self._can_rest(self.step, now) else None

    def _given_back(self) -> Move | None:
        """What the process had said that it would begin, and did not: it is journaled, or whoever resumes would have to
        take it for something that may have happened. None if there is nothing of the kind."""
        given_back = self._flights.give_back()
        if self._recorded is not None:
            return None  # in a fork whose calls are off nothing is ever called
        known = self.state.intents
        unsent = [cmd for cmd in given_back if cmd in known and not known[cmd].unsettled]
        return Move([("unsent", {"cmd": cmd}) for cmd in sorted(unsent)]) if unsent else None

    def _replayed(self, recorded: Recordings, now: int) -> Move:
        """In a fork whose calls are off all that is in flight has landed: what came first in the original is first, and
        what has no recording comes last. It may be that the original stopped waiting for it, and so does the fork."""
        flight = min(self._landed, key=lambda landed: recorded.place(landed.command))
        self._landed.remove(flight)
        unasked = isinstance(flight.error, NoRecording) and not is_open(self.state, flight.command.id)
        return Move([]) if unasked else self._outcome(flight, now)

    def _messages(self) -> list[Message]:
        """What nobody took yet, the oldest first. Where there is none, nobody looks again until somebody pokes."""
        messages = self.journal.opened(self._store.pending(self.run_id)) if self._mail else []
        self._mail = bool(messages)
        return messages

    def _taken(self, message: Message) -> Move:
        if self.state.status in ENDED:
            error = JamError("JAMR204", f"the run {self.run_id} is {self.state.status}")
            return Move([], message, refused=error)
        try:
            return Move([as_event(self.program, self.state, message)], message)
        except JamError as error:
            return Move([], message, refused=error)

    def _outcome(self, flight: Flight, now: int) -> Move:
        """What is journaled of an effect. What the kernel cannot take is the tool's `InvalidOutput`."""
        error = flight.error
        duration = max(now - flight.started_ms, 0)
        if error is None:
            value, usage, messages = parts_of(flight.result)
            try:
                event = inputs.succeeded(self.program, self.state, flight.command, value, usage, duration, messages)
                return Move([event], landed=flight)
            except JamError as problem:
                if problem.code not in _UNSTORABLE:
                    raise
                error = ToolError("InvalidOutput", problem.message)
        return self._failure(flight, error, duration)

    def _failure(self, flight: Flight, error: ToolError, duration: int) -> Move:
        event = inputs.failed(
            self.program,
            self.state,
            flight.command,
            error.name,
            error.message[:10_000],
            sent=error.definite is not True,
            usage=error.usage,
            duration_ms=duration,
            retry_after_ms=error.retry_after_ms,
        )
        if isinstance(error, NoRecording) and self.state.parked is None:
            # A fork whose calls are off goes no further by itself, whatever its program would make of the error.
            return Move([event, ("parked", parked_body(self.program, self.state, flight.command))])
        return Move([event])

    def _time_out(self, flight: Flight, now: int) -> Move:
        """The attempt is over. A thread goes on until it returns; what it gives then is journaled as late."""
        text = f"no answer after {flight.command.timeout_ms} ms"
        error = ToolError("Timeout", text)
        if not flight.begun:
            error = ToolError("Timeout", "the call was not begun: nothing before it came to its end", definite=True)
        self._flights.give_up(flight)
        return self._failure(flight, error, now - flight.started_ms)

    def _prepare(self, move: Move, now: int) -> Append:
        """Compute the transition.

        While a message waits, nothing is begun: it may be a cancellation, and is taken next. It comes before what
        the run itself makes of an outcome, and after what the run makes of a timer that was due earlier.
        """
        if move.rest:
            step, begin, decided = Transition(self.state, awaits=self.step.awaits), False, False
        else:
            decided = not self._stopping and (move.message is not None or not (self._mail and self._messages()))
            accepted = bool(move.happened) and move.message is not None and self._world.drives
            begin = decided and (accepted or not self.holds)
            decided = decided or (not self._stopping and any(kind == "fired" for kind, _ in move.happened))
            known, used = self.journal.key_digest, self.journal.used
            step = advance(
                self.program, self.state, move.happened, now, self._world.chance, known, used, not decided, begin
            )
        rest = move.rest or (decided and begin and not step.effects and self._can_rest(step, now))
        release = rest or (step.ended and not self._flights)
        consumed = () if move.message is None else (move.message.id,)
        batch = self.journal.prepare(step, now, consumed, rest=rest, release=release)
        return Append(self, move, step, (self.journal.lease, self.state.seq, batch), decided, begin)

    # ---- what came of it

    def written(self, append: Append) -> None:
        """The transition is in the journal: what follows from it may happen now."""
        self._writing = False
        if self.gone:
            return
        self._settle(append)
        if self._landed or self._mail or self._stopping or not self._flights.wanted:
            self._world.ready(self)
        elif not self.gone:
            self._sleep()

    def refused(self, append: Append, error: Exception) -> None:
        """Nothing of the transition was written."""
        self._writing = False
        if self.gone:
            return
        if isinstance(error, Outdated):
            # Another run took a key, or room under a limit, between the look-up and the commit: the next look-up finds
            # it.
            self._world.ready(self)
            return
        move = append.move
        if isinstance(error, JamError) and error.code in _UNSTORABLE:
            if move.landed is not None:
                invalid = ToolError("InvalidOutput", error.message)
                duration = max(self._clock.now_ms() - move.landed.started_ms, 0)
                self._move = self._failure(move.landed, invalid, duration)
                self._world.ready(self)
                return
            if move.message is not None and move.happened:
                self._move = Move([], move.message, refused=error)
                self._world.ready(self)
                return
        self.end(coded(error))

    def _settle(self, append: Append) -> None:
        move, self._move = append.move, None
        self.journal.written(append.step, append.item[2])
        self.holds = self.holds and not append.begin
        self._committed(append.step, begin=append.begin, decided=append.decided)
        if move.message is not None:
            future = self._replies.pop(move.message.id, None)
            if future is not None and not future.done():
                if move.refused is None:
                    future.set_result(None)
                else:
                    future.set_exception(move.refused)
        if self.journal.released:
            self.end()

    def _committed(self, step: Transition, begin: bool, decided: bool) -> None:
        self.step, self.state = step, step.state
        if begin:
            for command in step.effects.values():
                # While a run is parked nothing begins: what the journal says has begun already is all that is started.
                if step.state.parked is None or command.id in step.state.intents:
                    self._flights.start(command)
        if decided:
            self._flights.keep_only(step.effects)
        self._world.progressed(self.state.run_id, self.at_rest)

    # ---- sleeping and resting

    def _can_rest(self, step: Transition, now: int) -> bool:
        return not self._flights and not self._landed and not self._mail and at_rest(step, now)

    def _sleep(self) -> None:
        """Say when the next turn is due, if nothing happens before."""
        deadline = self._flights.next_deadline()
        wake = None if self._stopping or self.state.status in ENDED else next_wake(self.state)
        if deadline is not None:
            wake = deadline if wake is None else min(wake, deadline)
        if wake is not None:
            self._world.wake_at(self.state.run_id, wake)


def at_rest(step: Transition, now_ms: int) -> bool:
    """Whether a run has nothing to do after a transition, and nothing soon: it need not stay in memory."""
    if step.effects or step.state.status == "running":
        return False
    wake = None if step.ended else next_wake(step.state)
    return wake is None or wake - now_ms > LINGER_MS


def as_event(program: Program, state: RunState, message: Message) -> tuple[str, dict[str, object]]:
    """The event that a message from outside becomes. Raises JamError where it does not fit the run any more."""
    body = message.body
    match message.kind:
        case "answer":
            return inputs.answered(
                program, state, body["question"], body["option"], body.get("form"), body["by"], body.get("roles")
            )
        case "event":
            return inputs.received(program, state, body["name"], body.get("payload"), body["id"], body.get("by"))
        case "cancel":
            return inputs.cancelling(program, state, body["by"], body["note"], bool(body.get("now")))
        case "retry":
            return inputs.retry(program, state, body["by"], body["note"])
        case "settle":
            return inputs.settle(
                program, state, body["happened"], body.get("result"), body["by"], body["note"], body.get("cmd")
            )
    raise JamError("JAMR901", f"a message of unknown kind {message.kind!r}")


def coded(error: Exception) -> JamError:
    """An error that ends the driving of a run; one that should not have happened gets the code of a bug."""
    if isinstance(error, JamError):
        return error
    bug = JamError("JAMR901", f"{type(error).__name__}: {error}")
    bug.__cause__ = error
    return bug
