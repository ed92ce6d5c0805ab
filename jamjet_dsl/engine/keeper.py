"""Which runs an engine looks after: those it drives, and those at rest that it wakes when something happens to them.

A run at rest is a name and a time here, nothing more: ten thousand of them cost a megabyte and no task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Chance, Happened
from jamjet_dsl.engine.alarms import Alarms
from jamjet_dsl.engine.commits import Commits, Creation
from jamjet_dsl.engine.driver import Driver, coded
from jamjet_dsl.engine.flights import Places
from jamjet_dsl.engine.turns import Turns
from jamjet_dsl.kernel.machine import next_wake
from jamjet_dsl.kernel.model import ENDED, RunState
from jamjet_dsl.ports import Clock, Lease, New, Store

ELSEWHERE_MS = 500
"""How often to look at a run that has something to do but is driven by another process."""
MOST_RUNS = 1_000
"""Runs that one engine drives at once; others with something to do wait in the database."""
_TAKEN_OVER = frozenset({"JAMR205", "JAMR206"})
_LATER = _TAKEN_OVER | {"JAMR103"}
"""A run that rests loses nothing by waiting for a database that is locked."""
_HEARTBEAT = ""
"""The alarm that renews the leases: no run has this name."""


class Home(Protocol):
    """What a keeper needs of its engine."""

    store: Store
    clock: Clock
    drives: bool

    def claim(self, run_id: str) -> tuple[Driver, list[Happened]]: ...

    def progressed(self, run_id: str, still: bool = True) -> None: ...

    def failed(self, run_id: str, error: JamError) -> None:
        """A run could not be driven on."""
        ...

    def vacated(self, driver: Driver) -> None:
        """A driver has left: there is room, and a closing engine waits for the last one."""
        ...


class Keeper:
    """The world of the drivers of one engine."""

    def __init__(
        self, home: Home, chance: Chance, commits: Commits, places: Places, lease_ms: int, most_runs: int
    ) -> None:
        self.store = home.store
        self.places = places
        self.lease_ms = lease_ms
        self.drivers: dict[str, Driver] = {}
        self.errors: dict[str, JamError] = {}
        self.clock = home.clock
        self.chance = chance
        self.drives = home.drives
        self._home = home
        self._most_runs = most_runs
        self.shelves = False
        """Whether leases of runs that could not be driven on are kept for a while: a worker would take them up again
        at once."""
        self._shelf: deque[tuple[int, Lease]] = deque()
        self._turns = Turns(commits)
        # Asked for in every step of every run: no detour through methods of ours.
        self.ready = self._turns.ready
        self.progressed = home.progressed
        self._alarms = Alarms(home.clock, self._ring)
        self._resting: dict[str, int] = {}
        """Since when each is watched; 0 for those that came to rest here."""
        self._full: set[str] = set()
        """Runs of ours that have something to do and no room yet."""
        self._closing = False

    # ---- what drivers need

    async def create(self, new: New) -> Lease | None:
        """Create a run, in one transaction with whatever else is ready to be written; None for one that nobody holds.
        Raises what `Store.create` raises."""
        creation = Creation(new, asyncio.get_running_loop().create_future(), self.give_up)
        self._turns.write(creation)
        return await creation.done

    def wake_at(self, run_id: str, at_ms: int) -> None:
        """Ring for a run at that time, whoever drives it then."""
        self._alarms.set(run_id, at_ms)

    def give_up(self, lease: Lease, failed: bool = False) -> None:
        """Give a lease up: now, or when the store lets us. Nobody else could, since our heartbeat keeps all we hold."""
        if failed and self.shelves:
            self._shelf.append((self.clock.now_ms() + self.lease_ms, lease))
            return
        try:
            self.store.release(lease)
        except JamError as error:
            if error.code == "JAMR103":
                self._shelf.append((self.clock.now_ms(), lease))
                self._alarms.set(_HEARTBEAT, self.clock.now_ms() + self.lease_ms // 3)

    def clear_shelf(self, now_ms: int) -> None:
        """Give up what has been kept long enough: whoever finds it next tries again."""
        for at_ms, lease in [self._shelf.popleft() for _ in range(len(self._shelf))]:
            if at_ms <= now_ms:
                self.give_up(lease)
            else:
                self._shelf.append((at_ms, lease))

    def left(self, driver: Driver, error: JamError | None) -> None:
        """A driver is gone: its run rests, has ended, was taken over, or could not be driven on."""
        run_id = driver.run_id
        self.drivers.pop(run_id, None)
        self._alarms.drop(run_id)
        if error is not None and error.code not in _TAKEN_OVER:
            self.errors[run_id] = error
            self._home.failed(run_id, error)
        elif error is not None:
            self.rests(run_id, driver.state, self.clock.now_ms() + ELSEWHERE_MS)
        elif not driver.holds:
            # One that only took messages leaves its run to whoever drives it.
            self.rests(run_id, driver.state, self.clock.now_ms() if driver.poked else None)
        self._home.vacated(driver)
        self._home.progressed(run_id)
        self._make_room()

    # ---- what the engine asks

    def rests(self, run_id: str, state: RunState, look_ms: int | None = None) -> None:
        """Wake a run that has come to rest here when its first timer is due, or look at it at `look_ms`."""
        if state.status in ENDED or self._closing or not self.drives:
            return
        self._resting[run_id] = 0
        wake = next_wake(state) if look_ms is None else look_ms
        if wake is not None:
            self._alarms.set(run_id, wake)

    @property
    def room(self) -> int:
        """How many more runs can be driven now."""
        return max(self._most_runs - len(self.drivers), 0)

    def knows(self, run_id: str) -> bool:
        """Whether the run is driven here, or woken when something happens to it."""
        return run_id in self.drivers or run_id in self._resting

    def take(self, driver: Driver) -> None:
        """Look after a run that is driven from now on."""
        stale = self.drivers.get(driver.run_id)
        if stale is not None:
            # It lost its lease while the process was stopped, and a worker's search came before the next heartbeat.
            stale.lose()
        self.errors.pop(driver.run_id, None)
        self._resting.pop(driver.run_id, None)
        self._full.discard(driver.run_id)
        self.drivers[driver.run_id] = driver
        self._alarms.set(_HEARTBEAT, self.clock.now_ms() + self.lease_ms // 3)

    def watch(self, run_id: str) -> None:
        """Look after a run that rests or that somebody else drives: it is taken up when it has something to do and
        is free."""
        if not self.knows(run_id) and not self._closing:
            self.errors.pop(run_id, None)
            now = self.clock.now_ms()
            self._resting[run_id] = now
            self._alarms.set(run_id, now)

    def forget_resting(self) -> None:
        """Somebody else (a worker's search) wakes what rests: nothing is kept of it."""
        for run_id in self._resting:
            self._alarms.drop(run_id)
        self._resting.clear()
        self._full.clear()

    def defer(self, run_id: str) -> None:
        """Look after a run that has something to do, as soon as there is room for it."""
        self.errors.pop(run_id, None)
        self._resting[run_id] = self.clock.now_ms()
        self._full.add(run_id)

    def watched_since(self, run_id: str) -> int | None:
        """Since when this engine watches a run at rest (0: it came to rest here); None for one it does not know."""
        return self._resting.get(run_id)

    def poke(self, run_id: str) -> None:
        """Something was written for the run, here or in another process."""
        driver = self.drivers.get(run_id)
        if driver is not None:
            driver.poke()
        elif run_id in self._resting:
            self._visit(run_id)

    def stop(self) -> None:
        """Let every driver end as soon as no write of it is in flight; wake nothing any more."""
        self._closing = True
        self._resting.clear()
        self._full.clear()
        for driver in list(self.drivers.values()):
            driver.stop()

    def abort(self) -> None:
        """End every driver now."""
        for driver in list(self.drivers.values()):
            driver.end()
        self.clear_shelf(self.clock.now_ms() + self.lease_ms)
        self._alarms.close()

    # ---- waking

    def _ring(self, name: str) -> None:
        if name == _HEARTBEAT:
            self._beat()
        elif name in self.drivers:
            self.drivers[name].rouse()
        elif name in self._resting:
            self._visit(name)

    def _visit(self, run_id: str) -> None:
        """Take a run up if it has something to do and is free; else say when to look again."""
        try:
            summary = self.store.summary(run_id)
            if summary.status in ENDED:
                self._resting.pop(run_id, None)
                self._home.progressed(run_id)
                return
            now, wake = self.clock.now_ms(), summary.wake_at_ms
            due = summary.status == "running" or (wake is not None and wake <= now)
            if due or self.store.pending(run_id):
                if not self.room:
                    self._full.add(run_id)
                    return
                driver, first = self._home.claim(run_id)
                self.take(driver)
                driver.begin(first)
                return
        except Exception as problem:
            # Whatever it is: one run that cannot be taken up must not end the alarms, and with them every heartbeat.
            error = coded(problem)
            if error.code not in _LATER:
                self._resting.pop(run_id, None)
                self.errors[run_id] = error
                self._home.failed(run_id, error)
                self._home.progressed(run_id)
                return
            wake = self.clock.now_ms() + ELSEWHERE_MS
        if wake is not None:
            self._alarms.set(run_id, wake)

    def _make_room(self) -> None:
        while self._full and self.room:
            self._visit(self._full.pop())

    def _beat(self) -> None:
        """Renew the leases that need it, all in one transaction. What was lost is stopped."""
        now = self.clock.now_ms()
        self.clear_shelf(now)
        if not self.drivers:
            return
        self._alarms.set(_HEARTBEAT, now + self.lease_ms // 3)
        if all(now < driver.journal.renew_at_ms for driver in self.drivers.values()):
            return
        held = dict(self.drivers)
        try:
            renewed = self._renewed([driver.journal.lease for driver in held.values()], now)
        except JamError:
            # The store says no for now; the next beat comes long before the leases are over.
            return
        for lease in renewed:
            held.pop(lease.run_id).journal.lease = lease
        for driver in held.values():
            driver.lose()

    def _renewed(self, leases: Iterable[Lease], now_ms: int) -> list[Lease]:
        return self.store.renew_many(list(leases), self.lease_ms, now_ms)
