"""An event loop with virtual time on which several machines live, each of which can be stopped or lost.

Every callback belongs to the machine whose context scheduled it. A stalled machine's callbacks wait until it wakes; a
lost machine's are never run again. Callbacks of one machine run first in, first out, as asyncio promises; which
machine runs next is drawn by chance. Nothing ever blocks: when nothing can run, time jumps.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

HERE: ContextVar[Machine | None] = ContextVar("here", default=None)
QUIET_S = 0.51
"""For how long after something happened everybody who polls keeps polling; after that only the clocks move on."""
START_MS = 1_700_000_000_000
MOST_TURNS = 20_000
"""So many callbacks without any time passing are one that never comes to rest."""


class Spinning(Exception):
    """Something runs again and again, and time stands still."""


class Lost(BaseException):
    """The process is gone: raised where a machine crashes in the middle of a call."""


class Machine:
    """One computer. `gone` for good after a crash; `stalled` until somebody wakes it."""

    def __init__(self, loop: SimLoop, name: str, skew_ms: int = 0) -> None:
        self.loop = loop
        self.name = name
        self.skew_ms = skew_ms
        self.ready: deque[asyncio.Handle] = deque()
        self.stalled = False
        self.gone = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.context = copy_context()
        self.context.run(HERE.set, self)

    def now_ms(self) -> int:
        """What the clock of this machine shows."""
        return self.loop.wall_ms() + self.skew_ms

    async def sleep_until(self, at_ms: int) -> None:
        """The engine's `Clock`."""
        if self.now_ms() >= at_ms:
            await asyncio.sleep(0)
        while (left := at_ms - self.now_ms()) > 0:
            await self.loop.pause(left)

    def crash(self) -> None:
        """From now on nothing happens here."""
        self.gone = True
        self.ready.clear()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start something on this machine."""
        return self.context.copy().run(asyncio.ensure_future, work)


class SimLoop(asyncio.BaseEventLoop):
    """See the module's text. `world` is a machine that never stops: people, other systems, the simulation itself."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.skipped_ms = 0
        self.turns = 0
        self._advanced = 0
        self.on_spin: Callable[[], None] = self._give_up
        self._elapsed = 0.0
        self._quiet_until = QUIET_S
        self._count = itertools.count()
        self._later: list[tuple[float, int, asyncio.TimerHandle, Machine]] = []
        self._alarms: list[tuple[int, int, asyncio.Handle, Machine]] = []
        self.machines: list[Machine] = []
        self.world = self.add("world")

    def add(self, name: str, skew_ms: int = 0) -> Machine:
        """A new machine."""
        machine = Machine(self, name, skew_ms)
        self.machines.append(machine)
        return machine

    def remove(self, machine: Machine) -> None:
        """A machine that is gone is not looked at any more; its tasks are kept, so that nothing of it is finalised."""
        self.machines.remove(machine)

    # ---- time

    def time(self) -> float:
        """Seconds for asyncio's own timers. They do not notice when the clocks jump over a time in which nothing is
        due but polling."""
        return self._elapsed

    def wall_ms(self) -> int:
        """The true time."""
        return START_MS + self.skipped_ms + int(self._elapsed * 1000)

    def at(self, at_ms: int, callback: Callable[[], object]) -> None:
        """Call back at a true time, on the machine that is speaking."""
        machine = self._speaking(None)
        handle = asyncio.Handle(callback, (), self, machine.context.copy())
        heapq.heappush(self._alarms, (at_ms, next(self._count), handle, machine))

    def after(self, ms: int, callback: Callable[[], object]) -> None:
        """Call back after some time, on the machine that is speaking."""
        self.at(self.wall_ms() + ms, callback)

    async def pause(self, ms: int) -> None:
        """Sleep, by the true time."""
        waiter: asyncio.Future[None] = self.create_future()
        self.after(ms, lambda: None if waiter.done() else waiter.set_result(None))
        await waiter

    # ---- what asyncio calls

    def _speaking(self, context: Context | None) -> Machine:
        here = HERE.get() if context is None else context.get(HERE)
        return here or self.world

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        machine = self._speaking(context)
        handle = asyncio.Handle(callback, args, self, context)
        if not machine.gone:
            machine.ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._later, (when, next(self._count), timer, self._speaking(context)))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is dropped when its time comes."""

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = super().create_task(coro, name=name or "", context=context)
        self._speaking(context).tasks.append(task)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        """What a thread would do is done at once or a little later, on the same machine."""
        future: asyncio.Future[Any] = self.create_future()

        def work() -> None:
            if future.done():
                return
            try:
                result = func(*args)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.after(self.chance.choice((0, 0, 1, 5)), work)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What dies with a machine is nobody's error; what goes wrong in an engine is seen by the checks."""

    # ---- the turning

    def _run_once(self) -> None:
        self.turns += 1
        if self.turns - self._advanced > MOST_TURNS:
            self._advanced = self.turns + MOST_TURNS
            self.on_spin()
        able = [machine for machine in self.machines if machine.ready and not machine.stalled]
        if not able:
            self._advance()
            return
        machine = able[0] if len(able) == 1 else self.chance.choice(able)
        for _ in range(min(len(machine.ready), 8)):
            if machine.stalled or not machine.ready:
                return
            handle = machine.ready.popleft()
            if not handle._cancelled:
                handle._run()
            if self._stopping:  # type: ignore[attr-defined]
                return

    def _give_up(self) -> None:
        raise Spinning

    def _advance(self) -> None:
        """Nothing can run now: on to the next moment at which something is due."""
        now = self.wall_ms()
        self._to_next()
        if self.wall_ms() > now:
            self._advanced = self.turns

    def _to_next(self) -> None:
        later, alarms = self._later, self._alarms
        while later and (later[0][2]._cancelled or later[0][3].gone):
            heapq.heappop(later)
        while alarms and alarms[0][3].gone:
            heapq.heappop(alarms)
        alarm = (alarms[0][0] - START_MS - self.skipped_ms) / 1000 if alarms else None
        if later and (alarm is None or (later[0][0] < alarm and later[0][0] <= self._quiet_until)):
            self._elapsed = max(self._elapsed, later[0][0])
            while later and later[0][0] <= self._elapsed:
                _, _, timer, machine = heapq.heappop(later)
                if not timer._cancelled and not machine.gone:
                    machine.ready.append(timer)
            return
        if alarm is None:
            raise RuntimeError("the simulation has come to a stop")
        at_ms, _, handle, machine = heapq.heappop(alarms)
        ahead_ms = at_ms - self.wall_ms()
        if ahead_ms > 0:
            quiet_ms = max(0, int((self._quiet_until - self._elapsed) * 1000))
            self._elapsed += min(ahead_ms, quiet_ms) / 1000
            self.skipped_ms += ahead_ms - min(ahead_ms, quiet_ms)
            self.skipped_ms += at_ms - self.wall_ms()
        self._quiet_until = self._elapsed + QUIET_S
        machine.ready.append(handle)

    def _process_events(self, event_list: Any) -> None:
        """There is no selector."""

    def _write_to_self(self) -> None:
        """There is one thread."""
