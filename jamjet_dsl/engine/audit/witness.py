"""Signing where runs stand while they are driven: at most once a second, whatever was committed meanwhile.

What is signed is what this process computed when it wrote, and from which event on: whoever changes the database cannot
have that signed for true. A step costs one entry in a map; the signature and the sync are made beside the loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.audit.heads import Head, HeadLog
from jamjet_dsl.ports import Clock, Store

EVERY_MS = 1_000
"""The shortest time between two lines."""


class Witness:
    """Keeps what was committed until it is signed. `committed` is a store's observer."""

    def __init__(self, log: HeadLog, clock: Clock, aside: bool, tell: Callable[[JamError], None]) -> None:
        """With `aside` the file is written on a thread. `tell` hears of it once when the file cannot be written; it is
        tried again every second."""
        self._log = log
        self._clock = clock
        self._aside = aside
        self._tell = tell
        self._lock = threading.Lock()
        self._new: dict[str, list[Head]] = {}
        self._task: asyncio.Task[None] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._next_ms = 0
        self._failing = False

    def committed(self, run_id: str, first: int, seq: int, hash: str) -> None:
        """The run stands here now, and the events from `first` on were written by this process."""
        with self._lock:
            heads = self._new.setdefault(run_id, [])
            # Where somebody else wrote in between, what was written before that is a head of its own.
            since = heads.pop().since if heads and heads[-1].seq == first - 1 else first
            heads.append(Head(run_id, seq, hash, since))

    def soon(self) -> None:
        """See to it that what was committed is signed within a second. To be called on the loop."""
        if self._task is None and self._new:
            self._task = asyncio.ensure_future(self._sign_on())

    async def _sign_on(self) -> None:
        try:
            while self._new:
                # A clock that was set back is not waited for.
                await self._clock.sleep_until(min(self._next_ms, self._clock.now_ms() + EVERY_MS))
                self._next_ms = self._clock.now_ms() + EVERY_MS
                try:
                    if self._aside:
                        self._writing = asyncio.get_running_loop().run_in_executor(None, self.sign)
                        await asyncio.shield(self._writing)
                    else:
                        self.sign()
                    self._failing = False
                except JamError as error:
                    if not self._failing:
                        self._failing = True
                        self._tell(error)
        finally:
            self._task = None

    def sign(self) -> None:
        """Sign what is new, now. Raises JamError JAMR109; what could not be written is kept for the next time."""
        with self._lock:
            taken, self._new = self._new, {}
        if not taken:
            return
        try:
            self._log.append([head for run_id in sorted(taken) for head in taken[run_id]], self._clock.now_ms())
        except BaseException:
            with self._lock:
                for run_id, heads in self._new.items():
                    taken.setdefault(run_id, []).extend(heads)
                self._new = taken
            raise

    async def close(self) -> None:
        """Sign what is left. Nothing may be committed any more. Raises JamError JAMR109."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._writing is not None:
            await asyncio.wait([self._writing])
        self.sign()


@contextmanager
def witnessing(store: Store, log: HeadLog | None, clock: Clock) -> Iterator[None]:
    """What is committed inside is signed at its end, in one line; nothing is without a `log`. Raises JamError JAMR109:
    what was committed stays so."""
    if log is None:
        yield
        return
    witness = Witness(log, clock, False, lambda error: None)
    store.observer = witness.committed
    try:
        yield
    finally:
        store.observer = None
        witness.sign()
