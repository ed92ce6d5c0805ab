"""Clocks: the system's, and one that a test moves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time


class SystemClock:
    """Wall clock time."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep_until(self, at_ms: int) -> None:
        # A long sleep is cut into pieces, so that a change of the system's clock is noticed.
        while (left := at_ms - self.now_ms()) > 0:
            await asyncio.sleep(min(left / 1000, 30.0))


class SimClock:
    """Simulated time: it stands still until `advance` moves it."""

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = start_ms
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now_ms(self) -> int:
        return self._now_ms

    async def sleep_until(self, at_ms: int) -> None:
        if at_ms <= self._now_ms:
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (at_ms, next(self._order), waiter))
        await waiter

    async def advance(self, ms: int) -> None:
        """Let that much time pass. Sleepers wake one after the other, each at its own time."""
        until = self._now_ms + ms
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            at_ms, _, waiter = heapq.heappop(self._sleepers)
            self._now_ms = max(self._now_ms, at_ms)
            if not waiter.done():
                waiter.set_result(None)
                await self._settle()
        self._now_ms = until
        await self._settle()

    async def _settle(self) -> None:
        """Let everything run that can run now."""
        for _ in range(50):
            await asyncio.sleep(0)
