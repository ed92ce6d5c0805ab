"""Writing transitions: one alone at once, several that are ready together in one transaction with one disk sync.

One append of a group whose lease is stale fails alone. While the disk
is quick a group is written where it is: a thread would cost more than it saves. When it is slow (or somebody else
holds the lock) groups go through one writer thread, and the loop goes on with whatever does not need the disk.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.driver import Append, coded
from jamjet_dsl.engine.flights import LOCKED_TRIES
from jamjet_dsl.ports import Lease, New, Outdated, Store, Written

MOST_IN_GROUP = 256
"""Appends in one transaction: a bound for how long others wait for the write lock."""
SLOW_S = 0.005
"""A commit of one append that takes longer (seconds) is not worth stopping the loop for."""
SHARE_S = 0.0005
"""What each append of a group may take besides."""

Outcome: TypeAlias = Written | Exception


@dataclass(slots=True)
class Creation:
    """A run that is about to be created. `done` ends with its lease (None if nobody is to hold it), or an error."""

    item: New
    done: asyncio.Future[Lease | None]
    give_up: Callable[[Lease], None]

    def written(self, lease: Lease) -> None:
        """It is in the store. Whoever asked for it may be gone by now, and then nobody drives it here."""
        held = not self.item.batch.release
        if not self.done.done():
            self.done.set_result(lease if held else None)
        elif held:
            self.give_up(lease)

    def refused(self, error: Exception) -> None:
        """It is not in the store."""
        if not self.done.done():
            self.done.set_exception(error)


class Commits:
    """The appends of one engine, in the order in which they come. Never two transactions at once."""

    def __init__(self, store: Store, may_use_thread: bool) -> None:
        """Without `may_use_thread` everything is written on the loop: simulated time knows no slow disks."""
        self._store = store
        self._may_use_thread = may_use_thread
        self._slow = False
        self._queue: deque[Append | Creation] = deque()
        self._writer: ThreadPoolExecutor | None = None
        self._writing: asyncio.Future[Sequence[Outcome]] | None = None

    def add(self, item: Append | Creation) -> None:
        """Queue an append or a new run; `flush` writes it."""
        self._queue.append(item)

    def flush(self) -> None:
        """Write what is queued. What was written or refused is told to its driver, now or when the writer is done."""
        while self._queue and self._writing is None:
            group = [self._queue.popleft() for _ in range(min(len(self._queue), MOST_IN_GROUP))]
            if self._slow:
                self._write_aside(group)
            else:
                _tell(group, self._write(group))

    async def close(self) -> None:
        """Write nothing more: wait for the writer, if it is at work, and let its thread go."""
        for item in self._queue:
            if isinstance(item, Creation):
                item.done.cancel()
        self._queue.clear()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._writer is not None:
            self._writer.shutdown(wait=False)

    def _write_aside(self, group: list[Append | Creation]) -> None:
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, "jam-writer")
        writing = asyncio.get_running_loop().run_in_executor(self._writer, self._write, group)

        def done(future: asyncio.Future[Sequence[Outcome]]) -> None:
            self._writing = None
            if not future.cancelled():
                _tell(group, future.result())
            self.flush()

        self._writing = writing
        writing.add_done_callback(done)

    def _write(self, group: list[Append | Creation]) -> Sequence[Outcome]:
        """What became of each."""
        began = time.perf_counter()
        results = self._tried(group)
        took = time.perf_counter() - began
        self._slow = self._may_use_thread and took > SLOW_S + SHARE_S * len(group)
        return results

    def _tried(self, group: list[Append | Creation]) -> Sequence[Outcome]:
        for left in reversed(range(LOCKED_TRIES)):
            try:
                return self._once(group)
            except JamError as error:
                # Outcomes are in our hands: they are worth more waiting than the store is patient for.
                if error.code != "JAMR103" or not left:
                    return [error] * len(group)
            except Exception as error:
                return [error] * len(group)
        raise AssertionError("unreachable")

    def _once(self, group: list[Append | Creation]) -> Sequence[Outcome]:
        if len(group) > 1:
            return [*self._store.append_many([one.item for one in group])]
        (one,) = group
        try:
            if isinstance(one, Creation):
                return [self._store.create(*one.item)]
            self._store.append(*one.item)
            return [None]
        except Outdated as conflict:
            return [conflict]


def _tell(group: Sequence[Append | Creation], results: Sequence[Outcome]) -> None:
    for one, result in zip(group, results, strict=True):
        if isinstance(one, Creation):
            if isinstance(result, Exception):
                one.refused(result)
            else:
                assert result is not None
                one.written(result)
            continue
        try:
            if isinstance(result, Exception):
                one.driver.refused(one, result)
            else:
                one.driver.written(one)
        except Exception as error:
            # A mistake in one run is not to stop the others.
            one.driver.end(coded(error))
