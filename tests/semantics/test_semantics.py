"""What the language promises of a sequential run, as programs: every `test` block in this folder passes.

`jam check` takes each of these programs, so what they do is what a person may rely on.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from jamjet_dsl.compiler import compile_file
from jamjet_dsl.engine.testing import TestResult, run_tests

HERE = Path(__file__).parent
TEST = re.compile(r'^test "([^"]*)" for (\w+)', re.MULTILINE)
CASES = [
    pytest.param(path, agent, title, id=f"{path.stem}: {agent}: {title}")
    for path in sorted(HERE.glob("*.jam"))
    for title, agent in TEST.findall(path.read_text("utf-8"))
]


@cache
def results(path: Path, agent: str) -> dict[str, TestResult]:
    return {result.title: result for result in run_tests(compile_file(path, agent))}


@pytest.mark.parametrize(("path", "agent", "title"), CASES)
def test_a_program_does_what_its_test_says(path: Path, agent: str, title: str) -> None:
    result = results(path, agent)[title]
    assert result.passed, f"it went {' -> '.join(result.path)}, {result.status}: {result.failures}"


def test_no_test_of_these_programs_is_left_out() -> None:
    for path in HERE.glob("*.jam"):
        found = TEST.findall(path.read_text("utf-8"))
        ran = sum(len(results(path, agent)) for agent in dict.fromkeys(agent for _, agent in found))
        assert ran == len(found) > 0
