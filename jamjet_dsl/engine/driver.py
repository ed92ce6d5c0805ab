"""Driving one run: each thing that happens becomes one committed transition, then its effects are started.

A driver exists while a run is worked on and holds its lease. When nothing is in flight and nothing is due soon,
it gives the lease up in its last append and ends; whoever wakes the run makes a new one from the journal.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Protocol

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Chance, Happened, Transition, advance
from jamjet_dsl.engine.journal import Journal
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import due, next_wake
from jamjet_dsl.kernel.model import ENDED, Call, RunState, Think
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.ports import (
    Clock,
    KeyConflict,
    Message,
    ModelHost,
    Store,
    ThinkResult,
    ToolContext,
    ToolError,
    ToolHost,
)

_UNSTORABLE = frozenset({"JAMR003", "JAMR302"})
"""The codes of what the journal cannot hold: too large, or not JSON."""
LINGER_MS = 5_000
"""A run whose next timer is due within this stays in memory."""


class World(Protocol):
    """What a driver needs of its engine."""

    store: Store
    clock: Clock
    chance: Chance

    def progressed(self, run_id: str) -> None: ...


@dataclass(slots=True)
class Flight:
    """An effect that was started. `over` once its time was up: what it still gives is late."""

    command: Call | Think
    task: asyncio.Task[Any]
    started_ms: int
    deadline_ms: int | None
    over: bool = False


@dataclass(frozen=True, slots=True)
class Landed:
    """An effect came to its end: with a result, or with an error."""

    flight: Flight
    result: Any = None
    error: ToolError | None = None


class Driver:
    """One run, while it is worked on. Everything here happens on the engine's event loop."""

    def __init__(
        self, world: World, program: Program, state: RunState, journal: Journal, tools: ToolHost, models: ModelHost
    ) -> None:
        self.state = state
        self.step = Transition(state)
        self._world = world
        self._store = world.store
        self.program = program
        self._journal = journal
        self._tools = tools
        self._models = models
        self._flights: dict[str, Flight] = {}
        self._started: set[str] = set()
        self._landed: deque[Landed] = deque()
        self._replies: dict[int, asyncio.Future[None]] = {}
        self._poked = asyncio.Event()
        self._mail = True
        self._timer: tuple[int, asyncio.Task[None]] | None = None
        self._stopping = False

    # ---- what others may ask

    @property
    def at_rest(self) -> bool:
        """Nothing is in flight, and only somebody outside or a timer can move the run."""
        flying = any(not flight.over for flight in self._flights.values())
        return not flying and not self._landed and self.state.status != "running"

    def poke(self) -> None:
        """Look at the inbox: there may be something in it."""
        self._mail = True
        self._poked.set()

    def reply_to(self, message: int) -> asyncio.Future[None]:
        """A future that ends when the message was taken, with the JamError if it was refused."""
        future = self._replies.get(message)
        if future is None:
            future = self._replies[message] = asyncio.get_running_loop().create_future()
        return future

    def stop(self) -> None:
        """Start nothing more, and end once no write is in flight: what it did is worth waiting for."""
        self._stopping = True
        self._poked.set()

    def _writing(self) -> bool:
        return any(
            isinstance(flight.command, Call) and flight.command.effect != "reads" and not flight.over
            for flight in self._flights.values()
        ) or bool(self._landed)

    # ---- the loop

    async def drive(self, first: list[Happened]) -> None:
        """Work until the run ends or rests. `first` is committed before anything else (recovery)."""
        try:
            if first or not self.step.effects:
                self._commit(first)
            if self.state.status in ENDED:
                self._journal.release()
            while not self._journal.released:
                if self._stopping and not self._writing():
                    break
                if not self._take_one():
                    if self._poked.is_set():
                        self._poked.clear()
                        continue
                    if self._can_rest():
                        self._rest()
                        return
                    await self._sleep()
        finally:
            self._drop_timer()
            self._journal.release()
            for flight in self._flights.values():
                flight.over = True
                flight.task.cancel()
            for future in self._replies.values():
                future.cancel()

    def begin(self, step: Transition) -> None:
        """Go on from a transition that was committed when the run was created."""
        self._committed(step)

    def _take_one(self) -> bool:
        """Commit the next thing that happened. False if nothing did."""
        now = self._world.clock.now_ms()
        self._journal.renew(now)
        if self._landed:
            self._land(self._landed.popleft())
            return True
        for flight in self._flights.values():
            if flight.deadline_ms is not None and now >= flight.deadline_ms and not flight.over:
                self._time_out(flight)
                return True
        if self._stopping:
            # Timers and messages are durable where they are: whoever resumes takes them.
            return False
        # Messages and timers in the order in which they came: an answer that was given in time is in time,
        # even if nobody was there to take it.
        message = self._first_message()
        fired = due(self.state, now if message is None else min(now, message.at_ms))
        if fired:
            self._commit([Happened(*event) for event in fired])
        elif message is not None:
            self._deliver(message)
        return bool(fired) or message is not None

    def _first_message(self) -> Message | None:
        """The oldest message that nobody took. Where there is none, nobody looks again until somebody pokes."""
        messages = self._store.pending(self.state.run_id) if self._mail else []
        self._mail = bool(messages)
        return messages[0] if messages else None

    def _deliver(self, message: Message) -> None:
        """Take a message from the inbox: apply it, or tell whoever waits for it why it was refused."""
        refused: JamError | None = None
        happened: list[Happened] = []
        if self.state.status not in ENDED:
            try:
                happened = [Happened(*as_event(self.program, self.state, message))]
            except JamError as error:
                refused = error
        else:
            refused = JamError("JAMR204", f"the run {self.state.run_id} is {self.state.status}")
        try:
            self._commit(happened, consumed=(message.id,))
        except JamError as error:
            if error.code not in _UNSTORABLE:
                raise
            refused = error
            self._commit([], consumed=(message.id,))
        future = self._replies.pop(message.id, None)
        if future is not None and not future.done():
            if refused is None:
                future.set_result(None)
            else:
                future.set_exception(refused)

    def _land(self, landed: Landed) -> None:
        """Journal an outcome. What the kernel or the store cannot take is the tool's `InvalidOutput`."""
        flight, command = landed.flight, landed.flight.command
        duration = max(self._world.clock.now_ms() - flight.started_ms, 0)
        self._flights.pop(command.id, None)
        error = landed.error
        if error is None:
            value, usage, messages = _parts(landed.result)
            try:
                self._commit(
                    [Happened(*inputs.succeeded(self.program, self.state, command, value, usage, duration, messages))]
                )
                return
            except JamError as problem:
                if problem.code not in _UNSTORABLE:
                    raise
                error = ToolError("InvalidOutput", problem.message)
        self._fail(command, error, duration)

    def _fail(self, command: Call | Think, error: ToolError, duration: int) -> None:
        self._commit(
            [
                Happened(
                    *inputs.failed(
                        self.program,
                        self.state,
                        command,
                        error.name,
                        error.message[:10_000],
                        sent=error.definite is not True,
                        usage=error.usage,
                        duration_ms=duration,
                        retry_after_ms=error.retry_after_ms,
                    )
                )
            ]
        )

    def _time_out(self, flight: Flight) -> None:
        """The attempt is over. A thread goes on until it returns; what it gives then is journaled as late."""
        command = flight.command
        duration = self._world.clock.now_ms() - flight.started_ms
        self._give_up(flight)
        self._fail(command, ToolError("Timeout", f"no answer after {command.timeout_ms} ms"), duration)

    # ---- commits

    def _commit(self, happened: list[Happened], consumed: tuple[int, ...] = ()) -> None:
        """One transition, one transaction; then the effects that follow from it.

        While a message waits, nothing is begun: it may be a cancellation, and is taken next. It comes before what
        the run itself makes of an outcome, and after what the run makes of a timer that was due earlier.
        """
        begin = not self._stopping and (bool(consumed) or self._first_message() is None)
        only_apply = self._stopping or (not begin and not any(event.kind == "fired" for event in happened))
        while True:
            now = self._world.clock.now_ms()
            step = advance(
                self.program, self.state, happened, now, self._world.chance, self._store.key_digest, only_apply, begin
            )
            try:
                self._journal.commit(self.state.seq, step, now, consumed, release=step.ended and not self._flights)
            except KeyConflict:
                # Another run took the key between the look-up and the commit: the next look-up finds it.
                continue
            break
        self._committed(step, decided=not only_apply, begin=begin)

    def _committed(self, step: Transition, decided: bool = True, begin: bool = True) -> None:
        self.step, self.state = step, step.state
        for command in step.effects.values() if begin else ():
            if command.id not in self._started:
                self._start(command)
        for command_id, flight in list(self._flights.items()) if decided else ():
            if command_id not in step.effects and not flight.over:
                self._give_up(flight)
        self._world.progressed(self.state.run_id)

    # ---- effects

    def _start(self, command: Call | Think) -> None:
        self._started.add(command.id)
        now = self._world.clock.now_ms()
        slot = self._slot(command, now)
        deadline = None if command.timeout_ms is None else now + command.timeout_ms
        if command.timeout_ms is not None and isinstance(slot, int):
            deadline = slot + command.timeout_ms
        task = asyncio.ensure_future(self._perform(command, deadline, slot))
        flight = Flight(command, task, now, deadline)
        self._flights[command.id] = flight
        task.add_done_callback(lambda done: self._ended(flight, done))

    def _slot(self, command: Call | Think, now_ms: int) -> int | JamError:
        """When the call may be made, if its tool is limited; the error if the store could not say."""
        rates = self.program.defn.tools[command.tool].limits if isinstance(command, Call) else ()
        if isinstance(command, Think) or not rates:
            return now_ms
        try:
            return self._store.take_slot(command.tool, [(rate.calls, rate.per_ms) for rate in rates], now_ms)
        except JamError as error:
            return error

    def _give_up(self, flight: Flight) -> None:
        """Nobody waits for it any more. What runs on a thread goes on, and its result is journaled as late."""
        flight.over = True
        if not (isinstance(flight.command, Call) and self._tools.blocking(flight.command.tool)):
            flight.task.cancel()

    async def _perform(self, command: Call | Think, deadline: int | None, slot: int | JamError) -> Any:
        flight = self._flights[command.id]
        try:
            if isinstance(slot, JamError):
                raise slot
            if slot > flight.started_ms:
                await self._world.clock.sleep_until(slot)
            # The process may have been stopped since the intent was committed, and somebody else may have taken the
            # run over: an effect begins under a lease that is ours.
            self._journal.renew(self._world.clock.now_ms())
        except JamError as error:
            # What did not begin certainly has not happened.
            raise ToolError("Unavailable", f"the call was not begun: {error.message}", definite=True) from error
        if isinstance(command, Call):
            return await self._tools.call(command, self._context(command, deadline), lambda: not flight.over)
        return await self._models.think(command, self.state.run_id)

    def _context(self, command: Call, deadline: int | None) -> ToolContext:
        frame = self.state.frames.get(command.id.rpartition("#")[0])
        return ToolContext(
            self.state.run_id,
            frame.state if frame is not None else "",
            command.tool,
            command.key if command.key is not None else command.trace_key,
            command.key is not None,
            command.attempt,
            deadline,
        )

    def _ended(self, flight: Flight, task: asyncio.Task[Any]) -> None:
        if task.cancelled() and flight.over:
            self._flights.pop(flight.command.id, None)
            self._poked.set()
            return
        error = ToolError("Crashed", "the tool cancelled itself") if task.cancelled() else task.exception()
        if error is None:
            self._landed.append(Landed(flight, task.result()))
        elif isinstance(error, ToolError):
            self._landed.append(Landed(flight, error=error))
        else:
            self._landed.append(Landed(flight, error=ToolError("Crashed", f"{type(error).__name__}: {error}")))
        self._poked.set()

    # ---- sleeping and resting

    def _can_rest(self) -> bool:
        if self._flights or self._landed or self._mail or self.state.status == "running":
            return False
        wake = next_wake(self.state)
        return wake is None or wake - self._world.clock.now_ms() > LINGER_MS

    def _rest(self) -> None:
        """Give the run up until something happens to it."""
        step = replace(self.step, drafts=[], keys=[], effects={}, passed=[])
        self._journal.commit(self.state.seq, step, self._world.clock.now_ms(), rest=True, release=True)
        self.step, self.state = step, step.state
        self._world.progressed(self.state.run_id)

    async def _sleep(self) -> None:
        """Until somebody pokes, an effect lands, or the first of the times that matter."""
        times = [flight.deadline_ms for flight in self._flights.values() if flight.deadline_ms and not flight.over]
        wake = None if self._stopping else next_wake(self.state)
        at_ms = min([self._journal.renew_at_ms, *times, *([] if wake is None else [wake])])
        if self._timer is None or self._timer[0] != at_ms or self._timer[1].done():
            self._drop_timer()
            task = asyncio.ensure_future(self._world.clock.sleep_until(at_ms))
            task.add_done_callback(lambda _: self._poked.set())
            self._timer = (at_ms, task)
        await self._poked.wait()
        self._poked.clear()

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer[1].cancel()
            self._timer = None


def _parts(result: Any) -> tuple[Any, dict[str, Any] | None, tuple[Any, ...]]:
    """Value, usage and messages of what an effect gave."""
    if isinstance(result, ThinkResult):
        usage = {"tokens_in": result.tokens_in, "tokens_out": result.tokens_out, "cost": result.cost}
        return result.value, usage, result.messages
    return result, None, ()


def as_event(program: Program, state: RunState, message: Message) -> tuple[str, dict[str, Any]]:
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
