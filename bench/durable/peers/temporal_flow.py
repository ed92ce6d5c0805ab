"""The Temporal workflow: in a module of its own, because the SDK imports it once more in its sandbox."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow


@workflow.defn
class Flow:
    """Every step is an activity: scheduled, started and completed are events of the history, each durable."""

    @workflow.run
    async def run(self, state: dict[str, Any], steps: int) -> int:
        """One run."""
        for _ in range(steps):
            state = await workflow.execute_activity("work", state, start_to_close_timeout=timedelta(seconds=60))
        return int(state["n"])
