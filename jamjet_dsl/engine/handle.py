"""`Run`: what a caller holds of one run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from jamjet_dsl.engine.view import RunView
from jamjet_dsl.kernel.model import ENDED, Event

if TYPE_CHECKING:
    from jamjet_dsl.engine.engine import Engine


class Run:
    """One run: follow it, wait for it, read its result."""

    def __init__(self, engine: Engine, run_id: str) -> None:
        self._engine = engine
        self.id = run_id

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

        A run that another process drives, and leaves in the middle, is taken over.
        """
        engine = self._engine
        engine.look_after(self.id)
        while True:
            changed = engine.changed(self.id)
            try:
                if self._is_still(patience_ms):
                    return engine.show(self.id)
                await changed
            finally:
                engine.forget(self.id, changed)

    async def wait_ended(self) -> RunView:
        """Until the run ends, however long it waits for others before. As `wait`, it takes a run over that was left."""
        engine = self._engine
        engine.look_after(self.id)
        while True:
            changed = engine.changed(self.id)
            try:
                engine.attendant(self.id)
                if engine.store.summary(self.id).status in ENDED:
                    return engine.show(self.id)
                await changed
            finally:
                engine.forget(self.id, changed)

    def _is_still(self, patience_ms: int) -> bool:
        engine = self._engine
        attendant = engine.attendant(self.id)
        if attendant is not None and attendant.driver is not None and not attendant.driver.at_rest:
            return False
        summary = engine.store.summary(self.id)
        if summary.status in ENDED:
            return True
        if summary.status == "running" or engine.store.pending(self.id):
            return False
        if summary.status == "parked" or any(w["kind"] in ("question", "event") for w in summary.waiting_for):
            return True
        wake = summary.wake_at_ms
        return wake is None or wake - engine.clock.now_ms() > patience_ms
