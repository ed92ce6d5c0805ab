"""The effects of one run that are in flight: started once each, given up when nobody waits for them any more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.ids import base_of
from jamjet_dsl.kernel.model import Call, Think
from jamjet_dsl.ports import Clock, ModelHost, ThinkResult, ToolContext, ToolError, ToolHost

if TYPE_CHECKING:
    from jamjet_dsl.engine.driver import Driver
    from jamjet_dsl.engine.journal import Journal

MOST_EFFECTS = 1_000
"""Asynchronous tools and model calls in flight at once, over all runs of an engine."""
MOST_THREADS = 64
"""Calls of tools that block, likewise: each takes a thread."""
LOCKED_TRIES = 5
"""How often a database that somebody else has locked is waited for once more."""
T = TypeVar("T")


class Room:
    """A number of places, given to those who ask in the order in which they ask."""

    def __init__(self, places: int) -> None:
        self.free = places
        """How many may be taken at once, by counting them down. While somebody waits there are none."""
        self.left = 0
        """How often a place was given back: while that grows, whoever waits gets nearer."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Take a place, now or when it is one's turn."""
        if self.free:
            self.free -= 1
        else:
            await self.wait()

    async def wait(self) -> None:
        """Take a place as soon as it is one's turn."""
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back: whoever has waited longest has it."""
        self.left += 1
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.free += 1


class Places:
    """How much may be in flight at once in one engine; what is beyond that waits for its turn, in order."""

    def __init__(self, effects: int = MOST_EFFECTS, threads: int = MOST_THREADS) -> None:
        self.effects = Room(effects)
        self.threads = Room(threads)
        self._most_of_one = threads - threads // 4
        self._of_tool: dict[str, Room] = {}

    def threads_of(self, tool: str) -> Room:
        """The places that one tool may take of all threads: however slow it is, some are left to the others."""
        room = self._of_tool.get(tool)
        if room is None:
            room = self._of_tool[tool] = Room(self._most_of_one)
        return room


@dataclass(slots=True, eq=False)
class Flight:
    """An effect that was started. `begun` once the tool or model was called; `over` once nobody waits for it: what
    it still gives is late. In the end it has a result, or an error."""

    command: Call | Think
    started_ms: int
    deadline_ms: int | None
    blocking: bool
    task: asyncio.Task[None] | None = None
    begun: bool = False
    left: int = 0
    """How often a place that it waits for had been given back when its time was last set."""
    over: bool = False
    result: Any = None
    error: ToolError | None = None


class _NotBegun(Exception):
    """The store said no before a call was begun."""

    def __init__(self, error: JamError) -> None:
        super().__init__(str(error))
        self.error = error


class Flights:
    """What is in flight for one driver."""

    def __init__(self, driver: Driver, places: Places, clock: Clock, tools: ToolHost, models: ModelHost) -> None:
        self._driver = driver
        self._places = places
        self._clock = clock
        self._tools = tools
        self._models = models
        self._flying: dict[str, Flight] = {}
        self._started: dict[str, None] = {}
        self.wanted = 0
        """How many of them somebody waits for."""

    def __bool__(self) -> bool:
        return bool(self._flying)

    @property
    def worth_waiting_for(self) -> bool:
        """Whether a write is in flight, wanted or not: what it did is worth knowing."""
        return any(_writes(flight) and flight.begun for flight in self._flying.values())

    def give_back(self) -> list[str]:
        """Give up all that were not begun, and say which."""
        unbegun = [flight for flight in self._flying.values() if not flight.begun and not flight.over]
        for flight in unbegun:
            self.give_up(flight)
        return [flight.command.id for flight in unbegun]

    def late(self) -> list[str]:
        """The tools of writes that were given up and still run on a thread."""
        return [
            flight.command.tool
            for flight in self._flying.values()
            if flight.over and isinstance(flight.command, Call) and _writes(flight)
        ]

    def next_deadline(self) -> int | None:
        """When the time of the first that somebody waits for is up."""
        first = None
        for flight in self._flying.values():
            at_ms = flight.deadline_ms
            if at_ms is not None and not flight.over and (first is None or at_ms < first):
                first = at_ms
        return first

    def overdue(self, now_ms: int) -> Flight | None:
        """One whose time is up."""
        for flight in self._flying.values():
            late = flight.deadline_ms is not None and now_ms >= flight.deadline_ms and not flight.over
            if late and (flight.begun or not self._gets_nearer(flight, now_ms)):
                return flight
        return None

    def _gets_nearer(self, flight: Flight, now_ms: int) -> bool:
        """Whether the queue that it stands in has moved on in its time: then it has the same time again, since its own
        has not begun. A queue that stands still is a hanging tool, and is not waited for."""
        left = self._left(flight)
        if left == flight.left:
            return False
        flight.left, flight.deadline_ms = left, now_ms + (flight.command.timeout_ms or 0)
        return True

    def _left(self, flight: Flight) -> int:
        if not flight.blocking or not isinstance(flight.command, Call):
            return self._places.effects.left
        return self._places.threads.left + self._places.threads_of(flight.command.tool).left

    def start(self, command: Call | Think) -> None:
        """Start an effect, unless it was started before."""
        if command.id in self._started:
            return
        self._started[command.id] = None
        now = self._clock.now_ms()
        deadline = None if command.timeout_ms is None else now + command.timeout_ms
        blocking = False
        slot: int | JamError = now
        if isinstance(command, Call):
            blocking = self._tools.blocking(command.tool)
            if self._driver.program.defn.tools[command.tool].limits:
                slot = self._slot(command, now)
        flight = Flight(command, now, deadline, blocking)
        behind = self._asked_about(command)
        if deadline is not None:
            flight.left = self._left(flight)
        self._flying[command.id] = flight
        self.wanted += 1
        flight.task = asyncio.get_running_loop().create_task(self._fly(flight, slot, behind), name=command.id)

    def _asked_about(self, command: Call | Think) -> asyncio.Task[None] | None:
        """The call that a `confirm` asks about, if it still runs on a thread: while it does nobody can say that it did
        not happen."""
        if not isinstance(command, Call) or command.does != "confirm":
            return None
        other = self._flying.get(base_of(command.id))
        return None if other is None else other.task

    def keep_only(self, wanted: Container[str]) -> None:
        """Give up all that are not `wanted` any more."""
        for name in [*self._started]:
            if name in wanted:
                continue
            flight = self._flying.get(name)
            if flight is None:
                del self._started[name]
            elif not flight.over:
                self.give_up(flight)

    def give_up(self, flight: Flight) -> None:
        """Nobody waits for it any more. What runs on a thread goes on, and its result is journaled as late."""
        flight.over = True
        self.wanted -= 1
        if flight.task is not None and not (flight.blocking and flight.begun):
            flight.task.cancel()

    def abort(self) -> None:
        """Stop all of them, as far as they can be stopped. Nobody hears of them any more."""
        self.wanted = 0
        for flight in self._flying.values():
            flight.over = True
            if flight.task is not None:
                flight.task.cancel()

    # ---- one flight

    async def _fly(self, flight: Flight, slot: int | JamError, behind: asyncio.Task[None] | None = None) -> None:
        """Perform an effect when its slot and a place are there, and tell the driver what came of it."""
        heard = True
        place = self._places.effects
        try:
            if behind is not None:
                await asyncio.wait([behind])
            if slot != flight.started_ms:
                await self._wait_for(flight, slot)
            if flight.blocking:
                flight.result = await self._placed(flight)
            else:
                if place.free:
                    place.free -= 1
                else:
                    await place.wait()
                try:
                    flight.result = await self._begin(flight)
                finally:
                    place.leave()
        except ToolError as error:
            # The frame that the traceback holds would hold the flight, and that the error.
            flight.error = error.with_traceback(None)
        except _NotBegun as refusal:
            # The disk failed, or the run is not ours any more. That is no error of the program: whoever recovers the
            # run finds the intent.
            self._driver.end(refusal.error)
            return
        except asyncio.CancelledError:
            flight.error = ToolError("Crashed", "the tool cancelled itself")
            heard = not flight.over
        except (Exception, SystemExit) as error:
            flight.error = ToolError("Crashed", f"{type(error).__name__}: {error}")
        del self._flying[flight.command.id]
        if not flight.over:
            self.wanted -= 1
        self._driver.landed(flight if heard else None)

    async def _placed(self, flight: Flight) -> Any:
        """What a tool gave that blocks, once it has one of its own places and one of all threads."""
        assert isinstance(flight.command, Call)
        own, all_ = self._places.threads_of(flight.command.tool), self._places.threads
        await own.enter()
        try:
            await all_.enter()
            try:
                return await self._on_thread(flight)
            finally:
                all_.leave()
        finally:
            own.leave()

    async def _wait_for(self, flight: Flight, slot: int | JamError) -> None:
        """Wait until the limits of a tool let it be called: its time runs from then on."""
        if isinstance(slot, JamError):
            raise _NotBegun(slot)
        if flight.command.timeout_ms is not None:
            flight.deadline_ms = slot + flight.command.timeout_ms
        await self._clock.sleep_until(slot)

    def _begin(self, flight: Flight, wanted: Callable[[], bool] | None = None) -> Awaitable[Any]:
        """Begin an effect, under a lease that is ours: the process may have been stopped since the intent was
        committed, and somebody else may have taken the run over."""
        command, driver, now = flight.command, self._driver, self._clock.now_ms()
        if now >= driver.journal.renew_at_ms:
            refusal = _patiently(partial(driver.journal.renew, now))
            if refusal is not None:
                raise _NotBegun(refusal)
        if command.timeout_ms is not None:
            flight.deadline_ms = now + command.timeout_ms
        flight.begun = True
        if isinstance(command, Call):
            return self._tools.call(command, partial(self._context, flight), wanted)
        return self._models.think(command, driver.run_id)

    async def _on_thread(self, flight: Flight) -> Any:
        """What a tool gave that blocks. Its call is made once its thread is there, and the lease may be over then."""
        while True:
            turn = _Turn(flight, self._clock, self._driver.journal)
            try:
                return await self._begin(flight, turn.wanted)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not turn.missed or flight.over or (task is not None and task.cancelling()):
                    raise

    def _slot(self, call: Call, now: int) -> int | JamError:
        """When the call of a limited tool may be made; the error if the store could not say."""
        driver = self._driver
        limits = [(rate.calls, rate.per_ms) for rate in driver.program.defn.tools[call.tool].limits]
        return _patiently(lambda: driver.take_slot(call, limits, now))

    def _context(self, flight: Flight) -> ToolContext:
        command, state = flight.command, self._driver.state
        assert isinstance(command, Call)
        frame = state.frames.get(command.id.rpartition("#")[0])
        return ToolContext(
            state.run_id,
            frame.state if frame is not None else "",
            command.tool,
            command.key if command.key is not None else command.trace_key,
            command.key is not None,
            command.attempt,
            flight.deadline_ms,
        )


class _Turn:
    """Whether a call that waited for its thread may still begin: somebody waits for it, and the lease is not over. In
    the time between, the process may have been stopped and another may have taken the run over."""

    def __init__(self, flight: Flight, clock: Clock, journal: Journal) -> None:
        self._flight = flight
        self._clock = clock
        self._journal = journal
        self.missed = False
        """The lease was over when its turn came: it has not begun, and may yet begin under a lease that is good."""

    def wanted(self) -> bool:
        """Asked on the thread, right before the call."""
        self.missed = self._clock.now_ms() >= self._journal.lease.expires_at_ms
        return not self._flight.over and not self.missed


def _writes(flight: Flight) -> bool:
    return isinstance(flight.command, Call) and flight.command.effect != "reads"


def _patiently(work: Callable[[], T]) -> T | JamError:
    """What it gives, or what stands in the way; a database that somebody has locked is waited for."""
    for left in reversed(range(LOCKED_TRIES)):
        try:
            return work()
        except JamError as error:
            if error.code != "JAMR103" or not left:
                return error
    raise AssertionError("unreachable")


def parts_of(result: Any) -> tuple[Any, dict[str, Any] | None, tuple[Any, ...]]:
    """Value, usage and messages of what an effect gave."""
    if isinstance(result, ThinkResult):
        usage = {"tokens_in": result.tokens_in, "tokens_out": result.tokens_out, "cost": result.cost}
        return result.value, usage, result.messages
    return result, None, ()
