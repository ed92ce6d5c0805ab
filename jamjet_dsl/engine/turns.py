"""Whose turn it is. Every driver that has something to do makes one transition a round, and what a round has to say is
written together: many runs share a disk sync, and none waits longer than the others."""

from __future__ import annotations

import asyncio
from collections import deque

from jamjet_dsl.engine.commits import MOST_IN_GROUP, Commits, Creation
from jamjet_dsl.engine.driver import Driver, coded


class Turns:
    """The rounds of one engine."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._waiting: deque[Driver] = deque()
        self._promised = False

    def ready(self, driver: Driver) -> None:
        """Give the driver a turn in the next round."""
        if driver.queued:
            return
        driver.queued = True
        self._waiting.append(driver)
        if not self._promised:
            self._promise()

    def write(self, creation: Creation) -> None:
        """Write a new run in the next round."""
        self._commits.add(creation)
        if not self._promised:
            self._promise()

    def _promise(self) -> None:
        self._promised = True
        asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        """One turn for each driver that waits, as many as fit into one group."""
        self._promised = False
        for _ in range(min(len(self._waiting), MOST_IN_GROUP)):
            driver = self._waiting.popleft()
            driver.queued = False
            try:
                append = driver.turn()
            except Exception as error:
                driver.end(coded(error))
                continue
            if append is not None:
                self._commits.add(append)
        self._commits.flush()
        if self._waiting and not self._promised:
            self._promise()
