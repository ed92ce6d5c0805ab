"""`test` blocks of programs under pytest: collected, selected, and failing without a traceback."""

from __future__ import annotations

import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from jamjet_dsl import compile_text
from jamjet_dsl.engine.testing import run_tests
from tests.cli.test_test_coverage import LARGE, SMALL, SORT

pytest_plugins = ["pytester"]

PLUGIN = "jamjet_dsl.cli.pytest_plugin"
FAILS = 'test "wrong" for sort { input n = 1  expect path sorting, large }\n'


@pytest.fixture(autouse=True, scope="module")
def _loaded() -> None:
    """pytester forgets the modules that a run has loaded: those of this package are to be there before."""
    (result, _) = run_tests(compile_text(SORT + LARGE + SMALL))
    assert result.passed


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    """pytest with the plugin, whether this package is installed with its entry point or not."""
    return pytester.runpytest_inprocess(
        "-p", "no:jam", "-p", PLUGIN, "-p", "no:cacheprovider", "-p", "no:asyncio", *args
    )


@pytest.fixture
def sort(pytester: pytest.Pytester) -> Path:
    path = pytester.path / "in" / "sort.jam"
    path.parent.mkdir()
    path.write_text(SORT + LARGE + SMALL, "utf-8")
    return path


def test_the_entry_point_names_the_plugin() -> None:
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text("utf-8")
    assert tomllib.loads(text)["project"]["entry-points"]["pytest11"] == {"jam": PLUGIN}


def test_a_program_that_is_named_is_collected(pytester: pytest.Pytester, sort: Path) -> None:
    said = run(pytester, "-v", "in/sort.jam")
    said.assert_outcomes(passed=2)
    said.stdout.fnmatch_lines(["in/sort.jam::sort::large PASSED*", "in/sort.jam::sort::small PASSED*"])


def test_programs_in_folders_are_collected_only_if_the_project_says_so(pytester: pytest.Pytester, sort: Path) -> None:
    pytester.makepyfile("def test_own(): pass")
    run(pytester).assert_outcomes(passed=1)
    run(pytester, "in", ".").assert_outcomes(passed=1)
    run(pytester, "--jam").assert_outcomes(passed=3)
    run(pytester, "--jam", "in").assert_outcomes(passed=2)
    pytester.makeini("[pytest]\njam_tests = true\n")
    run(pytester).assert_outcomes(passed=3)
    pytester.makeini("[pytest]\njam_tests = false\n")
    run(pytester).assert_outcomes(passed=1)


def test_one_test_by_its_node_id_and_some_by_k(pytester: pytest.Pytester, sort: Path) -> None:
    run(pytester, "in/sort.jam::sort::small").assert_outcomes(passed=1)
    run(pytester, "in/sort.jam::sort").assert_outcomes(passed=2)
    run(pytester, "in/sort.jam", "-k", "large").assert_outcomes(passed=1, deselected=1)
    assert run(pytester, "in/sort.jam::sort::gone").ret == pytest.ExitCode.USAGE_ERROR


def test_a_failure_is_told_as_jam_test_tells_it_and_has_no_traceback(pytester: pytest.Pytester, sort: Path) -> None:
    sort.write_text(SORT + LARGE + FAILS, "utf-8")
    said = run(pytester, "in/sort.jam")
    said.assert_outcomes(passed=1, failed=1)
    said.stdout.fnmatch_lines(
        [
            "*sort: wrong*",
            "in/sort.jam:12",
            "the path differs at step 2: expected large, found small",
            "it went sorting → small, and ended completed",
            "FAILED in/sort.jam::sort::wrong*",
        ]
    )
    for part in ("Traceback", "JamFailed", "pytest_plugin.py"):
        said.stdout.no_fnmatch_line(f"*{part}*")


def test_a_program_with_errors_is_an_error_with_its_findings(pytester: pytest.Pytester, sort: Path) -> None:
    sort.write_text(SORT.replace("-> small", "-> smal") + LARGE, "utf-8")
    said = run(pytester, "in/sort.jam")
    said.assert_outcomes(errors=1)
    said.stdout.fnmatch_lines(
        ["error[[]JAM101[]]: there is no state `smal`", "*--> in/sort.jam:6:18", "*help: did you*"]
    )
    said.stdout.no_fnmatch_line("*Traceback*")
    sort.write_bytes(b"\xff")
    said = run(pytester, "in/sort.jam")
    said.assert_outcomes(errors=1)
    said.stdout.fnmatch_lines(["error[[]JAMR002[]]:*"])


def test_a_file_without_tests_has_none(pytester: pytest.Pytester, sort: Path) -> None:
    sort.write_text("tool t() { effect reads }\n", "utf-8")
    assert run(pytester, "in/sort.jam").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_mock_that_is_missing_or_not_used(pytester: pytest.Pytester, sort: Path) -> None:
    sort.write_text(
        "tool look() -> int { effect reads }\n"
        "agent a { policy { allow look } on error any -> bad  start state s { call look() as n  -> done }\n"
        "final done {} failed bad {} }\n"
        'test "missing" for a { expect state == bad }\n',
        "utf-8",
    )
    said = run(pytester, "in/sort.jam")
    said.stdout.fnmatch_lines(["JAM902: `s` calls look: add `mock look returns …`"])


def test_junit_of_pytest_has_them_too(pytester: pytest.Pytester, sort: Path) -> None:
    run(pytester, "in/sort.jam", "--junitxml=out.xml")
    cases = list(ET.parse(pytester.path / "out.xml").iter("testcase"))
    assert [case.get("name") for case in cases] == ["large", "small"]


def test_nothing_but_the_plugin_imports_pytest() -> None:
    package = Path(__file__).resolve().parents[2] / "jamjet_dsl"
    found = [p.name for p in package.rglob("*.py") if "import pytest" in p.read_text("utf-8")]
    assert found == ["pytest_plugin.py"]
