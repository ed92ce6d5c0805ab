"""The tests of the programs that are named, run, and what is said of each; for `jam test` and for pytest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import click

from jamjet_dsl.cli.common import read_stdin, split_agent
from jamjet_dsl.cli.words import ago, plain
from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from jamjet_dsl.compiler import CheckResult
    from jamjet_dsl.definition import Compiled
    from jamjet_dsl.engine.suite import Ran
    from jamjet_dsl.engine.testing import TestResult


@dataclass(slots=True)
class TestedFile:
    """A file as it was named: its agents, the tests of all of them as they ran, or why it has none."""

    name: str
    path: str
    agents: list[Compiled] = field(default_factory=list)
    ran: list[Ran] = field(default_factory=list)
    refused: JamError | None = None

    @property
    def folder(self) -> str:
        """What stands before the names of files that are relative to the program."""
        folder = os.path.dirname(self.path)
        return f"{folder}/" if folder else ""

    @property
    def results(self) -> list[TestResult]:
        """The results, in the order of the source."""
        return [ran.result for ran in self.ran]

    def load(self) -> None:
        """Find its agents, or only the one that is named; a file of tools has none. What is wrong with the file is
        kept in `refused`."""
        try:
            self.path, agent = split_agent(self.name)
            checked = _checked(self.path)
            self.agents = agents_of(checked, self.path, agent)
        except JamError as error:
            self.refused = error


def _checked(path: str) -> CheckResult:
    from jamjet_dsl.compiler import analyse_text, check_file

    return analyse_text(read_stdin(), "<stdin>", folder=os.getcwd()) if path == "-" else check_file(path)


def agents_of(checked: CheckResult, path: str, agent: str | None = None) -> list[Compiled]:
    """All agents that a file declares, or one.

    Raises ProgramRefused (JAMR004) for a program with errors, JAMR005 for an agent that is not there.
    """
    from jamjet_dsl.compiler import ProgramRefused, lower_for_drawing

    if checked.has_errors:
        raise ProgramRefused(path, checked.diagnostics)
    names = [agent] if agent is not None else [a.name for a in checked.analysis.main_agents()]
    return [lower_for_drawing(checked, name) for name in names]


def run_files(files: Sequence[TestedFile], match: str | None, jobs: int) -> Iterator[tuple[TestedFile, Ran]]:
    """Run the tests of files, in order; each result is kept in its file, with the place as a person finds it."""
    from jamjet_dsl.engine.suite import Task, run_suite, tasks_of

    programs: list[Compiled] = []
    tasks: list[Task] = []
    owner: list[TestedFile] = []
    for file in files:
        tasks += tasks_of(file.agents, match, len(programs))
        programs += file.agents
        owner += [file] * len(file.agents)
    for ran in run_suite(programs, tasks, jobs):
        file = owner[ran.task.program]
        ran = ran._replace(result=replace(ran.result, file=file.folder + ran.result.file))
        file.ran.append(ran)
        yield file, ran


def told(result: TestResult) -> str:
    """A line for a test that passed; for one that failed also what was expected, what came, and the way it went."""
    sign = click.style("✓", fg="green") if result.passed else click.style("✗", fg="red")
    took = f", {ago(result.simulated_ms)} simulated" if result.simulated_ms >= 1000 else ""
    lines = [f"{sign} {plain(result.title)}  {click.style(f'{result.agent}{took}', dim=True)}"]
    for mock in result.unused:
        place = f"{result.file}:{mock.line}" if mock.line else result.file
        lines.append(click.style(f"    {mock.code}: the mock of `{mock.target}` is not used  {plain(place)}", dim=True))
    return "\n".join(lines if result.passed else [*lines, *failed(result)])


def failed(result: TestResult) -> list[str]:
    """What a test that failed expected, what came, and the way it went."""
    lines = [f"    {plain(result.file)}:{result.line}"] if result.file else []
    for failure in result.failures:
        code = f"{failure.code}: " if failure.code else ""
        lines.append(f"    {code}{plain(failure.message)}")
        if failure.text:
            lines.append(f"      expect {plain(failure.text)}")
        if failure.expected is not None or failure.found is not None:
            lines.append(f"      expected {plain(failure.expected)}")
            lines.append(f"      found    {plain(failure.found)}")
    return [*lines, f"    it went {' → '.join(result.path)}, and ended {result.status}"]
