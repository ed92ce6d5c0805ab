"""A campaign of a few seconds; `python -m tests.workers.campaign` is the long one."""

from __future__ import annotations

from pathlib import Path

from tests.workers.campaign import Campaign, Plan


async def test_stops_past_the_lease_and_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    plan = Plan(workers=3, runs=40, stalls=6, kills=2, lease_ms=400, poll_ms=50, folder=tmp_path)
    found, figures = await Campaign(plan).run()
    assert found == []
    assert figures["completed"] == figures["runs"] >= 40
    assert (figures["stalls"], figures["stale appends"]) == (6, 0)
    assert figures["kills"] > 0
    assert figures["appends"] > figures["runs"]
