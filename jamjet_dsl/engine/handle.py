"""`Run`: what a caller holds of one run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from jamjet_dsl.engine.view import RunView
from jamjet_dsl.kernel.model import ENDED, Event
from jamjet_dsl.ports import RunSummary

if TYPE_CHECKING:
    from jamjet_dsl.engine.engine import Engine
    from jamjet_dsl.kernel.model import RunState
    from jamjet_dsl.kernel.program import Program

LOOK_MS = 50
PATIENCE_MS = 3_000
"""How often, and for how long, whoever cannot drive a run looks whether somebody else does."""


class Run:
    """One run: follow it, wait for it, read its result."""

    def __init__(self, engine: Engine, run_id: str) -> None:
        self._engine = engine
        self.id = run_id
        self.left: tuple[Program, RunState] | None = None
        """The run as its driver left it: who asks where it stands need not read its journal."""

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    @property
    def status(self) -> str:
        """running, waiting, parked, completed, failed or cancelled."""
        return self._engine.store.summary(self.id).status

    @property
    def result(self) -> dict[str, Any] | None:
        """The outputs of a run that has ended, as plain JSON; None before, and for a cancelled run."""
        return self._engine.show(self.id).output

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """The run's journal from `after` on, and what is appended to it, until the run ends."""
        engine = self._engine
        while True:
            changed = engine.changed(self.id)
            try:
                for event in engine.store.history(self.id, after):
                    after = event.seq
                    yield event
                summary = engine.store.summary(self.id)
                if summary.status in ENDED and summary.last_seq <= after:
                    return
                await changed
            finally:
                engine.forget(self.id, changed)

    async def wait(self, patience_ms: int = 60_000) -> RunView:
        """Until the run ends, is parked, or only somebody outside can move it (a person, an event, or a timer that is
        further away than `patience_ms`). Raises the JamError that ended the driving, if one did.

        A run that another process drives, and leaves in the middle, is taken over. Raises JamError JAMR303 to 305 if
        the run has something to do, its tools or models are not there, and no other process takes it up.
        """
        engine = self._engine
        unable = engine.look_after(self.id)
        looks = 0
        while True:
            changed = engine.changed(self.id, every=False)
            try:
                summary = self._still(patience_ms)
                if summary is not None:
                    return engine.view(summary)
                if unable is None:
                    await changed
                    continue
                # Somebody else may have what is missing here; nobody takes it up if nobody has.
                await asyncio.wait([changed], timeout=LOOK_MS / 1000)
                looks = looks + 1 if engine.nobody_drives(self.id) else 0
                if looks * LOOK_MS >= PATIENCE_MS:
                    raise unable
            finally:
                engine.forget(self.id, changed)

    async def wait_ended(self) -> RunView:
        """Until the run ends, however long it waits for others before. As `wait`, it takes a run over that was left."""
        engine = self._engine
        engine.look_after(self.id)
        while True:
            changed = engine.changed(self.id, every=False)
            try:
                engine.driver(self.id)
                summary = engine.store.summary(self.id)
                if summary.status in ENDED:
                    return engine.view(summary)
                await changed
            finally:
                engine.forget(self.id, changed)

    def _still(self, patience_ms: int) -> RunSummary | None:
        """Where the run stands, if it goes no further by itself."""
        engine = self._engine
        driver = engine.driver(self.id)
        if driver is not None and not driver.at_rest:
            return None
        summary = engine.store.summary(self.id)
        if summary.status in ENDED:
            return summary
        if summary.status == "running" or engine.store.pending(self.id):
            return None
        if summary.status == "parked" or any(w["kind"] in ("question", "event") for w in summary.waiting_for):
            return summary
        wake = summary.wake_at_ms
        return summary if wake is None or wake - engine.clock.now_ms() > patience_ms else None
