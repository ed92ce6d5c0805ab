"""The effects of one run that are in flight: started once each, given up when nobody waits for them any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import Call, Think
from jamjet_dsl.ports import Clock, ModelHost, ThinkResult, ToolContext, ToolError, ToolHost

if TYPE_CHECKING:
    from jamjet_dsl.engine.driver import Driver

MOST_EFFECTS = 1_000
"""Asynchronous tools and model calls in flight at once, over all runs of an engine."""
MOST_THREADS = 64
"""Calls of tools that block, likewise: each takes a thread."""
LOCKED_TRIES = 5
"""How often a database that somebody else has locked is waited for once more."""
T = TypeVar("T")


class Places:
    """How much may be in flight at once in one engine; what is beyond that waits for its turn, in order."""

    def __init__(self, effects: int = MOST_EFFECTS, threads: int = MOST_THREADS) -> None:
        self.effects = asyncio.Semaphore(effects)
        self.threads = asyncio.Semaphore(threads)


@dataclass(slots=True, eq=False)
class Flight:
    """An effect that was started. `begun` once the tool or model was called; `over` once nobody waits for it: what
    it still gives is late."""

    command: Call | Think
    started_ms: int
    deadline_ms: int | None
    blocking: bool
    task: asyncio.Task[None] | None = None
    begun: bool = False
    over: bool = False


@dataclass(frozen=True, slots=True)
class Landed:
    """An effect came to its end: with a result, or with an error."""

    flight: Flight
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
        self._started: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._flying)

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for any of them."""
        return any(not flight.over for flight in self._flying.values())

    @property
    def worth_waiting_for(self) -> bool:
        """Whether a write is in flight, wanted or not: what it did is worth knowing."""
        return any(_writes(flight) and flight.begun for flight in self._flying.values())

    def late(self) -> list[str]:
        """The tools of writes that were given up and still run on a thread."""
        return [
            flight.command.tool
            for flight in self._flying.values()
            if flight.over and isinstance(flight.command, Call) and _writes(flight)
        ]

    def deadlines(self) -> list[int]:
        """When the time of those that somebody waits for is up."""
        return [f.deadline_ms for f in self._flying.values() if f.deadline_ms is not None and not f.over]

    def overdue(self, now_ms: int) -> Flight | None:
        """One whose time is up."""
        for flight in self._flying.values():
            if flight.deadline_ms is not None and now_ms >= flight.deadline_ms and not flight.over:
                return flight
        return None

    def start(self, command: Call | Think) -> None:
        """Start an effect, unless it was started before."""
        if command.id in self._started:
            return
        self._started.add(command.id)
        now = self._clock.now_ms()
        deadline = None if command.timeout_ms is None else now + command.timeout_ms
        blocking = isinstance(command, Call) and self._tools.blocking(command.tool)
        flight = self._flying[command.id] = Flight(command, now, deadline, blocking)
        flight.task = asyncio.get_running_loop().create_task(self._fly(flight, self._slot(flight)))

    def keep_only(self, wanted: Container[str]) -> None:
        """Give up all that are not `wanted` any more."""
        for flight in [f for name, f in self._flying.items() if name not in wanted and not f.over]:
            self.give_up(flight)
        for name in [name for name in self._started if name not in wanted and name not in self._flying]:
            self._started.discard(name)

    def give_up(self, flight: Flight) -> None:
        """Nobody waits for it any more. What runs on a thread goes on, and its result is journaled as late."""
        flight.over = True
        if flight.task is not None and not (flight.blocking and flight.begun):
            flight.task.cancel()

    def abort(self) -> None:
        """Stop all of them, as far as they can be stopped. Nobody hears of them any more."""
        for flight in self._flying.values():
            flight.over = True
            if flight.task is not None:
                flight.task.cancel()

    # ---- one flight

    async def _fly(self, flight: Flight, slot: int | JamError) -> None:
        landed: Landed | None
        try:
            landed = Landed(flight, await self._perform(flight, slot))
        except ToolError as error:
            landed = Landed(flight, error=error)
        except _NotBegun as refusal:
            # The disk failed, or the run is not ours any more. That is no error of the program: whoever recovers the
            # run finds the intent.
            self._driver.end(refusal.error)
            return
        except asyncio.CancelledError:
            crashed = Landed(flight, error=ToolError("Crashed", "the tool cancelled itself"))
            landed = None if flight.over else crashed
        except (Exception, SystemExit) as error:
            landed = Landed(flight, error=ToolError("Crashed", f"{type(error).__name__}: {error}"))
        del self._flying[flight.command.id]
        self._driver.landed(landed)

    async def _perform(self, flight: Flight, slot: int | JamError) -> Any:
        command = flight.command
        if isinstance(slot, JamError):
            raise _NotBegun(slot)
        if slot > flight.started_ms:
            if command.timeout_ms is not None:
                flight.deadline_ms = slot + command.timeout_ms
            await self._clock.sleep_until(slot)
        async with self._places.threads if flight.blocking else self._places.effects:
            while True:
                now = self._clock.now_ms()
                # The process may have been stopped since the intent was committed, and somebody else may have taken the
                # run over: an effect begins under a lease that is ours.
                refusal = _patiently(partial(self._driver.journal.renew, now))
                if isinstance(refusal, JamError):
                    raise _NotBegun(refusal)
                if command.timeout_ms is not None:
                    flight.deadline_ms = now + command.timeout_ms
                flight.begun = True
                if not isinstance(command, Call):
                    return await self._models.think(command, self._driver.run_id)
                turn = _Turn(flight, self._clock, self._driver.journal.lease.expires_at_ms)
                try:
                    return await self._tools.call(command, self._context(flight), turn.wanted)
                except asyncio.CancelledError:
                    task = asyncio.current_task()
                    if not turn.missed or flight.over or (task is not None and task.cancelling()):
                        raise

    def _slot(self, flight: Flight) -> int | JamError:
        """When the call may be made, if its tool is limited; the error if the store could not say."""
        driver, command, now = self._driver, flight.command, flight.started_ms
        rates = driver.program.defn.tools[command.tool].limits if isinstance(command, Call) else ()
        if isinstance(command, Think) or not rates:
            return now
        limits = [(rate.calls, rate.per_ms) for rate in rates]
        return _patiently(lambda: driver.take_slot(command, limits, now))

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

    def __init__(self, flight: Flight, clock: Clock, until_ms: int) -> None:
        self._flight = flight
        self._clock = clock
        self._until_ms = until_ms
        self.missed = False
        """The lease was over when its turn came: it has not begun, and may yet begin under a lease that is good."""

    def wanted(self) -> bool:
        """Asked on the thread, right before the call."""
        self.missed = self._clock.now_ms() >= self._until_ms
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
