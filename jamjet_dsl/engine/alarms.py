"""Being woken at a time: one sleeping task for everybody, however many wait."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from jamjet_dsl.ports import Clock


class Alarms:
    """Rings for a name at the earliest time that was set for it. Whoever is woken looks at what is due."""

    def __init__(self, clock: Clock, ring: Callable[[str], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._at: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        self._task: asyncio.Task[None] | None = None
        self._until = 0
        """What the task sleeps for."""

    def set(self, name: str, at_ms: int) -> None:
        """Ring for this name at that time, unless it rings earlier anyway."""
        known = self._at.get(name)
        if known is not None and known <= at_ms:
            return
        self._at[name] = at_ms
        heapq.heappush(self._heap, (at_ms, name))
        if self._task is None or at_ms < self._until:
            self.close()
            self._task = asyncio.ensure_future(self._sleep())

    def drop(self, name: str) -> None:
        """Do not ring for this name any more."""
        self._at.pop(name, None)
        if len(self._heap) > 2 * len(self._at) + 64:
            self._heap = [(at_ms, name) for name, at_ms in self._at.items()]
            heapq.heapify(self._heap)

    def close(self) -> None:
        """Ring no more, until the next alarm is set."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _sleep(self) -> None:
        while self._heap:
            self._until = self._heap[0][0]
            await self._clock.sleep_until(self._until)
            now = self._clock.now_ms()
            while self._heap and self._heap[0][0] <= now:
                at_ms, name = heapq.heappop(self._heap)
                if self._at.get(name) == at_ms:
                    del self._at[name]
                    self._ring(name)
        self._task = None
