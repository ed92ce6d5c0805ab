"""The shop's policy: its page does what it says, its tests pass, and its tools are those of the shop."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jamjet_dsl.compiler import check_file, compile_file
from jamjet_dsl.engine.testing import run_tests

from .pages import ROOT, checkout, run_blocks

FOLDER = ROOT / "examples" / "retail_support"
PROGRAM = FOLDER / "retail_support.jam"


def test_it_is_checked_without_a_finding_and_its_tests_pass() -> None:
    assert check_file(PROGRAM).diagnostics == []
    results = run_tests(compile_file(PROGRAM))
    assert [r.title for r in results if not r.passed] == []
    assert len(results) == 5


@pytest.mark.skipif(shutil.which("bash") is None, reason="the page is written for bash")
def test_its_page_does_what_it_says(tmp_path: Path) -> None:
    run_blocks(FOLDER / "README.md", checkout(tmp_path))


def test_the_model_is_offered_every_tool_but_the_one_for_the_policy() -> None:
    definition = compile_file(PROGRAM).definition
    (decide,) = [state for state in definition.agent.body.states if state.name == "decide"]
    assert set(definition.tools) - set(decide.action.tools) == {"get_variants"}  # type: ignore[union-attr]
