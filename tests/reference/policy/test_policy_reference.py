"""The engine decides as the reference does, on random policies and histories: a bounded part of the campaign."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jamjet_dsl.kernel import monitors, rules
from tests.reference.policy.compare import compare


def test_the_engine_decides_as_the_reference_does() -> None:
    tally = compare(range(20))
    assert not tally.wrong, tally.wrong[0]
    assert tally.refused == 0
    assert tally.decisions > 9_000
    assert min(tally.verdicts[name] for name in ("allowed", "denied", "needs_approval")) > 500


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1_000_000, 1_001_000))
def test_also_where_hypothesis_looks(seed: int) -> None:
    tally = compare(range(seed, seed + 1))
    assert not tally.wrong, tally.wrong[0]


def _always(value: Any) -> Any:
    return lambda *_args, **_more: value


@pytest.mark.parametrize(
    ("where", "name", "wrong"),
    [
        (rules, "_fresh", _always(True)),
        (rules, "counts", _always(True)),
        (monitors, "last_read", _always(None)),
        (monitors, "first_success", _always(None)),
        (monitors, "calls", _always(0)),
        (monitors, "limit_take", _always(None)),
        (monitors, "history", _always(1)),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_difference_is_found(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, wrong: Any) -> None:
    """The comparison itself is tried: an engine that gets one of these wrong does not get through."""
    monkeypatch.setattr(where, name, wrong)
    assert any(compare(range(seed, seed + 1)).wrong for seed in range(60))


def test_the_command_says_how_many_it_compared() -> None:
    command = [sys.executable, "-m", "tests.reference", "--policy", "--decisions", "1", "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "decisions compared" in done.stdout
    assert ", 0 disagreements" in done.stdout
