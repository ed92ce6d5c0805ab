"""`./dev bench policy`: it runs on small sizes, and says what it says it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.policy import SHAPES, Decisions, main, program


def test_every_part_is_measured_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    main(["--count", "5", "--rounds", "2", "--history", "10", "--steps", "5", "--out", str(out)])
    found = json.loads(out.read_text())
    assert set(found) == {"rules", "fence", "history", "step"}
    assert set(found["history"]) == {"1", "10"}
    assert all(value > 0 for part in found.values() for values in part.values() for value in values)
    said = capsys.readouterr().out
    assert "a decision of the kernel, by rules" in said
    assert "at 100 rules: " in said


@pytest.mark.parametrize("shape", SHAPES)
def test_a_policy_has_as_many_rules_as_is_said_and_none_stands_against_the_call(shape: str) -> None:
    definition = program(100, shape)
    assert len(definition.agent.rules or ()) == 100
    about = [rule for rule in definition.agent.rules or () if "t0" in (rule.tools or rule.limit.tools).names]  # type: ignore[union-attr]
    assert len(about) == (10 if shape == "spread" else 99)
    assert {rule.kind for rule in about} == {"forbid", "limit", "never", "require_read", "allow"}
    assert Decisions(definition, 20).decide().verdict == "allowed"
