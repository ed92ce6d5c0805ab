"""Looking after one run for as long as the engine is open: driving it, and waking it when something happens."""

from __future__ import annotations

import asyncio
from typing import Protocol

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Happened
from jamjet_dsl.engine.driver import Driver
from jamjet_dsl.kernel.model import ENDED
from jamjet_dsl.ports import Clock, Store

ELSEWHERE_MS = 500
"""How often to look at a run that has something to do but is driven by another process."""
_TAKEN_OVER = frozenset({"JAMR205", "JAMR206"})
_LATER = _TAKEN_OVER | {"JAMR103"}
"""A run that rests loses nothing by waiting for a database that is locked."""


class Home(Protocol):
    """What an attendant needs of its engine."""

    store: Store
    clock: Clock

    def claim(self, run_id: str) -> tuple[Driver, list[Happened]]: ...

    def progressed(self, run_id: str) -> None: ...

    def left(self, run_id: str, error: JamError | None) -> None: ...


class Attendant:
    """One task per run that has not ended. `driver` is there while the run is worked on."""

    def __init__(self, home: Home, run_id: str, driver: Driver | None, first: list[Happened]) -> None:
        """Without a `driver` somebody else drives the run; it is taken over when it has something to do and is free."""
        self.driver = driver
        self.error: JamError | None = None
        self._home = home
        self._run_id = run_id
        self._poked = asyncio.Event()
        self._stopping = False
        self._task = asyncio.ensure_future(self._attend(first))

    def poke(self) -> None:
        """Something was written for the run, here or in another process."""
        self._poked.set()
        if self.driver is not None:
            self.driver.poke()

    def stop(self) -> asyncio.Task[None]:
        """Stop driving; the task ends when no write is in flight any more."""
        self._stopping = True
        self._poked.set()
        if self.driver is not None:
            self.driver.stop()
        return self._task

    async def _attend(self, first: list[Happened]) -> None:
        try:
            if self.driver is None:
                first = await self._idle()
            while self.driver is not None:
                await self._drive(self.driver, first)
                self.driver = None
                self._home.progressed(self._run_id)
                if self.error is not None or self._stopping:
                    return
                first = await self._idle()
        except JamError as error:
            self.error = error
        except Exception as error:
            self.error = _bug(error)
        finally:
            self.driver = None
            self._home.left(self._run_id, self.error)

    async def _drive(self, driver: Driver, first: list[Happened]) -> None:
        try:
            await driver.drive(first)
        except JamError as error:
            if error.code not in _TAKEN_OVER:
                self.error = error
        except Exception as error:
            self.error = _bug(error)

    async def _idle(self) -> list[Happened]:
        """Until the run has something to do and its lease could be had; `driver` is None then if it has ended."""
        store, clock = self._home.store, self._home.clock
        while not self._stopping:
            self._poked.clear()
            summary = store.summary(self._run_id)
            if summary.status in ENDED:
                return []
            wake = summary.wake_at_ms
            due = summary.status == "running" or (wake is not None and wake <= clock.now_ms())
            if due or store.pending(self._run_id):
                try:
                    self.driver, first = self._home.claim(self._run_id)
                    return first
                except JamError as error:
                    if error.code not in _LATER:
                        raise
                wake = clock.now_ms() + ELSEWHERE_MS
            await self._sleep(wake)
        return []

    async def _sleep(self, wake: int | None) -> None:
        timer = None
        if wake is not None:
            timer = asyncio.ensure_future(self._home.clock.sleep_until(wake))
            timer.add_done_callback(lambda _: self._poked.set())
        try:
            await self._poked.wait()
        finally:
            if timer is not None:
                timer.cancel()


def _bug(error: Exception) -> JamError:
    coded = JamError("JAMR901", f"{type(error).__name__}: {error}")
    coded.__cause__ = error
    return coded
