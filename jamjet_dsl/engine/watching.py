"""Who waits for a run to move, and the one task that notices what other processes write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Store

POLL_MS = 100
"""How soon an engine notices what another process has written."""


class Watching:
    """Futures that end with the next commit of a run, here or in another process."""

    def __init__(self, store: Store, poke: Callable[[str, bool], None]) -> None:
        """`poke` is told of each run that somebody wrote to, and whether a message waits for it."""
        self._store = store
        self._poke = poke
        self._watchers: dict[str, dict[asyncio.Future[None], bool]] = {}
        self._poller: asyncio.Task[None] | None = None

    def __bool__(self) -> bool:
        return bool(self._watchers)

    def changed(self, run_id: str, every: bool) -> asyncio.Future[None]:
        """A future that ends with the next commit of the run: with `every` one, else with one after which the run
        goes no further by itself."""
        self.begin()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.setdefault(run_id, {})[future] = every
        return future

    def forget(self, run_id: str, future: asyncio.Future[None]) -> None:
        """Nobody waits for this future any more."""
        waiting = self._watchers.get(run_id)
        if waiting is not None:
            waiting.pop(future, None)
            if not waiting:
                del self._watchers[run_id]

    def progressed(self, run_id: str, still: bool) -> None:
        """Something was committed for this run: wake whoever follows it."""
        waiting = self._watchers.get(run_id)
        if waiting is None:
            return
        for future in [future for future, every in waiting.items() if every or still]:
            del waiting[future]
            if not future.done():
                future.set_result(None)
        if not waiting:
            del self._watchers[run_id]

    def begin(self) -> None:
        """Follow what others write, from now on: what the caller reads next is newer than where this begins."""
        if self._poller is None:
            seen = self._store.changes()
            self._poller = asyncio.ensure_future(self._poll(seen, self._store.activity(None)[1]))

    def close(self) -> None:
        """Follow nothing any more, and wake everybody who waits."""
        if self._poller is not None:
            self._poller.cancel()
        for run_id in list(self._watchers):
            self.progressed(run_id, still=True)

    async def _poll(self, seen: int, position: int) -> None:
        """Notice what other processes write. One cheap number says whether there is anything to look at."""
        while True:
            await asyncio.sleep(POLL_MS / 1000)
            with suppress(JamError):
                now = self._store.changes()
                if now == seen:
                    continue
                moved, newest = self._store.activity(position)
                mail = self._store.mail()
                for run_id in sorted(moved | mail):
                    self._poke(run_id, run_id in mail)
                    self.progressed(run_id, still=True)
                # Only now: what could not be read is looked for again.
                seen, position = now, newest
