"""A bounded run of the corruption campaign; `python -m tests.crash.corruption 10000` is the long one."""

from __future__ import annotations

from tests.crash.corruption import campaign


def test_a_damaged_database_is_never_believed() -> None:
    outcome = campaign(120, seed=77_000)
    assert outcome.wrong == []
    assert outcome.counts["detected"] + outcome.counts["refused JAMR107"] > 20, "the damage has to be felt"
    assert outcome.counts["unharmed"] > 20, "and what is not touched has to be read"
