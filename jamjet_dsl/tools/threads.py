"""Threads for tools that block. They are daemons: a tool that hangs never keeps the process from ending, and what
it was doing is in the journal."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

Wanted = Callable[[], bool]
Job = tuple[Callable[[], Any], Wanted | None, asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class _Unwanted(BaseException):
    """A job that nobody waited for any more when its turn came: it was not begun."""


class Threads:
    """A pool that grows with need and reuses its threads."""

    def __init__(self, most: int = 64) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._most = most
        self._count = 0
        self._busy = 0
        self._lock = threading.Lock()

    def run(self, function: Callable[[], Any], wanted: Wanted | None = None) -> asyncio.Future[Any]:
        """Run a function on a thread. A thread cannot be stopped; but a job whose turn comes when it is not `wanted`
        any more is not begun, and its future is cancelled: what was given up must not happen later."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._lock:
            self._busy += 1
            if self._busy > self._count and self._count < self._most:
                self._count += 1
                threading.Thread(target=self._work, name="jam-tool", daemon=True).start()
        self._jobs.put((function, wanted, loop, future))
        return future

    def close(self) -> None:
        """Let idle threads end; busy ones end after their job."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, wanted, loop, future = job
            result: Any
            error: BaseException | None
            try:
                if wanted is not None and not wanted():
                    raise _Unwanted
                result, error = function(), None
            except BaseException as problem:
                # SystemExit in a tool is the tool's failure, not the end of a thread that others wait for.
                result, error = None, problem
            with self._lock:
                self._busy -= 1
            _hand_over(loop, future, result, error)
            del job, function, wanted, future, result, error


def _hand_over(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: BaseException | None
) -> None:
    def settle() -> None:
        if future.done():
            return
        if isinstance(error, _Unwanted):
            future.cancel()
        elif error is None:
            future.set_result(result)
        else:
            future.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        # The loop is closed: the engine is gone, and recovery decides about the call.
        return
