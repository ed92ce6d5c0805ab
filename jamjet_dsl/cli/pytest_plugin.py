"""pytest collects the `test` blocks of `.jam` files: `pytest agent.jam`, `pytest "agent.jam::AGENT::TITLE"`, `-k`.

A program that is named is always collected. Those that pytest comes to in folders are collected only where the project
says so (`jam_tests = true` among its ini options, or `--jam`): a project may have programs that are no tests of its
own, and installing a package should not change what its test run does.

Nothing else of the package imports pytest; pytest imports this as a plugin of the entry point `pytest11`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from jamjet_dsl.definition import Compiled, TestDef
    from jamjet_dsl.engine.testing import TestResult


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--jam`, and the ini option `jam_tests`."""
    group = parser.getgroup("jam", "agents (.jam)")
    group.addoption("--jam", action="store_true", help="Collect the tests of the .jam files in folders too.")
    parser.addini("jam_tests", "Collect the tests of the .jam files in folders too.", type="bool", default=False)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A collector for a program that is named, or one in a folder where the project wants those."""
    if file_path.suffix != ".jam":
        return None
    config = parent.config
    if not (parent.session.isinitpath(file_path) or config.getoption("--jam") or config.getini("jam_tests")):
        return None
    return JamFile.from_parent(parent, path=file_path)


class JamFile(pytest.File):
    """A program. One with errors cannot be collected; its findings are shown."""

    def collect(self) -> Iterator[pytest.Collector]:
        """The agents of the file that have tests."""
        from jamjet_dsl.cli.tested import agents_of
        from jamjet_dsl.compiler import check_file
        from jamjet_dsl.diagnostics.errors import JamError

        name = _shown(self.path)
        try:
            agents = agents_of(check_file(name), name)
        except JamError as error:
            raise self.CollectError(_why(error)) from None
        for compiled in agents:
            if compiled.tests:
                yield JamAgent.of(self, compiled)


class JamAgent(pytest.Collector):
    """An agent and its tests."""

    compiled: Compiled

    @classmethod
    def of(cls, parent: pytest.Collector, compiled: Compiled) -> JamAgent:
        """The collector for an agent of a program."""
        agent: JamAgent = cls.from_parent(parent, name=compiled.definition.main)
        agent.compiled = compiled
        return agent

    def collect(self) -> Iterator[pytest.Item]:
        """Its tests, in the order of the source."""
        from jamjet_dsl.cli.words import plain

        for test in self.compiled.tests:
            item: JamTest = JamTest.from_parent(self, name=plain(test.title, None))
            item.compiled, item.test = self.compiled, test
            yield item


class JamFailed(Exception):
    """A test was not as expected."""

    def __init__(self, result: TestResult) -> None:
        super().__init__(result.title)
        self.result = result


class JamTest(pytest.Item):
    """A `test` block."""

    compiled: Compiled
    test: TestDef

    def runtest(self) -> None:
        """Run it in simulated time. Raises JamFailed."""
        from jamjet_dsl.engine.testing import run_test

        result = run_test(self.compiled, self.test)
        for mock in result.unused:
            text = f"{_shown(self.path)}:{mock.line}: the mock of `{mock.target}` is not used"
            self.add_report_section("call", mock.code, text)
        if not result.passed:
            raise JamFailed(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What `jam test` says of it. Only what is no failure of the test but of this package has a traceback."""
        from dataclasses import replace

        from jamjet_dsl.cli.tested import failed
        from jamjet_dsl.diagnostics.errors import JamError

        if isinstance(excinfo.value, JamFailed):
            lines = failed(replace(excinfo.value.result, file=_shown(self.path)))
            return "\n".join(line.removeprefix("    ") for line in lines)
        if isinstance(excinfo.value, JamError):
            return _why(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[os.PathLike[str], int | None, str]:
        """Where it stands; lines count from 0 here."""
        line = self.test.span.line - 1 if self.test.span is not None else None
        return self.path, line, f"{self.compiled.definition.main}: {self.name}"


def _why(error: Any) -> str:
    """An error as the commands say it; a refused program with its findings in full."""
    found = getattr(error, "diagnostics", None)
    if not found:
        return str(error)
    from jamjet_dsl.diagnostics.render import render

    return render(found, "human", files=1).rstrip("\n")


def _shown(path: Path) -> str:
    """A path as a person finds it from here, and never with `..`."""
    text = os.path.relpath(path) if os.path.splitdrive(path)[0] == os.path.splitdrive(os.getcwd())[0] else str(path)
    return str(path) if text.startswith("..") else text
