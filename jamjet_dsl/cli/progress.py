"""Live progress of a run on a terminal: a line per transition, and below it where the run is and what it has spent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jamjet_dsl.cli.words import spent

if TYPE_CHECKING:
    from jamjet_dsl.engine.engine import Engine, Run
    from jamjet_dsl.kernel.model import Event


class Progress:
    """Follows one run on stderr: what is journaled from `since_ms` on, and where it stands. `close` leaves the lines
    and takes the moving part away."""

    def __init__(self, jam: Engine, run_id: str, since_ms: int = 0) -> None:
        from rich.console import Console
        from rich.status import Status

        from jamjet_dsl.cli.timeline import Timeline

        self._jam = jam
        self._run_id = run_id
        self._since_ms = since_ms
        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._status = Status("starting", console=self._console, spinner="dots")
        self._status.start()
        self._timeline = Timeline(jam.program(run_id).definition)
        self._seen = 0

    async def watch(self, run: Run) -> None:
        """Until the run ends or the task is cancelled."""
        async for event in run.events():
            self._say(event)
            await asyncio.sleep(0)

    def catch_up(self) -> None:
        """Print what was journaled and not seen yet: the run came to rest faster than it was watched."""
        for event in self._jam.history(self._run_id, self._seen):
            self._say(event)

    def _say(self, event: Event) -> None:
        if event.seq <= self._seen:
            return
        self._seen = event.seq
        text = self._timeline.line(event)
        if text and event.at_ms >= self._since_ms:
            self._console.print(text, markup=False, no_wrap=True, overflow="ellipsis", crop=True)
        view = self._jam.show(self._run_id)
        doing = "waits in" if view.status == "waiting" else "in"
        self._status.update(f"{doing} {view.state}   {spent(view.spent, view.budget)}")

    def close(self) -> None:
        """Take the spinner away."""
        self._status.stop()
