"""`jam test`: the `test` blocks of programs, in simulated time, with mocks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from jamjet_dsl.cli.common import (
    FOUND,
    OK,
    debug_option,
    exit_code,
    format_option,
    print_json,
    program_files,
    read_stdin,
    split_agent,
    tell,
)
from jamjet_dsl.cli.words import ago, plain
from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from jamjet_dsl.engine.testing import TestResult


@click.command("test")
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR|- …")
@click.option("-k", "match", metavar="TEXT", help="Only tests whose title contains TEXT.")
@format_option("human", "json")
@debug_option
def test_command(files: tuple[str, ...], match: str | None, form: str) -> int:
    """Run the tests in programs. Nothing outside is called: tools, models and people are mocked, time is simulated."""
    began = time.perf_counter()
    results: list[TestResult] = []
    code = OK
    for name in program_files(files):
        found: list[TestResult] = []
        try:
            found.extend(_results(name, match))
        except JamError as error:
            tell(error)
            code = max(code, exit_code(error))
        found.sort(key=lambda r: r.line)
        results += found
        if form == "human":
            for result in found:
                click.echo(_human(result))
    failed = sum(not r.passed for r in results)
    if form == "json":
        print_json({"tests": [r.as_json() for r in results], "passed": len(results) - failed, "failed": failed})
    elif results:
        counts = f"{len(results) - failed} passed, {failed} failed"
        click.echo(f"{counts} in {ago(int((time.perf_counter() - began) * 1000))}")
    elif code == OK:
        click.echo("no tests found" + (f" with {plain(match)} in their title" if match else ""))
    return max(code, FOUND if failed or not results else OK)


def _results(name: str, match: str | None) -> Iterator[TestResult]:
    """The tests of all agents of a file, or of one; a file of tools has no agent, and so no tests.

    Raises ProgramRefused (JAMR004) for a program with errors, JAMR005 for an agent that is not there.
    """
    from jamjet_dsl.compiler import ProgramRefused, analyse_text, check_file, lower_for_drawing
    from jamjet_dsl.engine.testing import run_tests

    path, agent = split_agent(name)
    checked = analyse_text(read_stdin(), "<stdin>", folder=os.getcwd()) if path == "-" else check_file(path)
    if checked.has_errors:
        raise ProgramRefused(path, checked.diagnostics)
    for wanted in [agent] if agent is not None else [a.name for a in checked.analysis.main_agents()]:
        yield from run_tests(lower_for_drawing(checked, wanted), match)


def _human(result: TestResult) -> str:
    """A line for a test that passed; for one that failed also what was expected, what came, and the way it went."""
    sign = click.style("✓", fg="green") if result.passed else click.style("✗", fg="red")
    took = f", {ago(result.simulated_ms)} simulated" if result.simulated_ms >= 1000 else ""
    lines = [f"{sign} {plain(result.title)}  {click.style(f'{result.agent}{took}', dim=True)}"]
    if result.passed:
        return lines[0]
    if result.file:
        lines.append(f"    {result.file}:{result.line}")
    for failure in result.failures:
        lines.append(f"    {plain(failure.message)}")
        if failure.text:
            lines.append(f"      expect {failure.text}")
        if failure.expected is not None or failure.found is not None:
            lines.append(f"      expected {plain(failure.expected)}")
            lines.append(f"      found    {plain(failure.found)}")
    lines.append(f"    it went {' → '.join(result.path)}, and ended {result.status}")
    return "\n".join(lines)
