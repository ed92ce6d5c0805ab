"""The engine does what the reference interpreter says, on random programs: a bounded part of the campaign."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jamjet_dsl.compiler import compile_text
from tests.reference import programs
from tests.reference.__main__ import WORLDS, compare, differences


@pytest.mark.parametrize("parts", [programs.SEQUENTIAL, programs.ALL], ids=["sequential", "all"])
def test_the_engine_does_what_the_reference_does(parts: frozenset[str]) -> None:
    tally = compare(range(12), parts)
    assert not tally.wrong, tally.wrong[0]
    assert tally.programs * 0.9 <= tally.programs - tally.refused
    assert tally.steps > 200
    assert {"completed", "failed", "parked", "cancelled"} <= tally.ends.keys()


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1_000_000, 1_001_000), st.integers(0, WORLDS - 1))
def test_also_where_hypothesis_looks(seed: int, number: int) -> None:
    text = programs.program(seed)
    wrong, _ = differences(text, programs.world(seed * WORLDS + number, crash=number % 2 == 1))
    assert not wrong, "\n".join([text, *wrong])


def test_a_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself is tried: an engine that forgets what a failed call costs does not get through."""
    from jamjet_dsl.kernel import outcomes

    settle = outcomes._settle
    monkeypatch.setattr(
        outcomes,
        "_settle",
        lambda program, draft, cmd, usage, keep=False: settle(
            program, draft, cmd, {"tokens_in": 0, "tokens_out": 0, "cost": "0"}, keep
        ),
    )
    assert compare(range(12), programs.SEQUENTIAL).wrong


def test_the_programs_have_every_construct() -> None:
    text = "\n".join(programs.program(seed) for seed in range(60))
    for construct in (
        "parallel",
        "each",
        "run ",
        "undo all",
        "finally",
        "think",
        "ask",
        "wait",
        "emit",
        "collect flat",
    ):
        assert construct in text
    compile_text(programs.program(0))
