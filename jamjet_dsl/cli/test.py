"""`jam test`: the `test` blocks of programs, in simulated time, with mocks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
    from jamjet_dsl.cli.covered import Program
    from jamjet_dsl.engine.testing import TestResult


@click.command("test")
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR|- …")
@click.option("-k", "match", metavar="TEXT", help="Only tests whose title contains TEXT.")
@click.option("--coverage", is_flag=True, help="Say which states and edges no test passes.")
@click.option("-o", "output", metavar="F", help="Draw them: a .svg, .png, .pdf, .dot, .mmd or .html file.")
@click.option(
    "--min-coverage",
    "least",
    metavar="P",
    type=click.FloatRange(0, 100),
    help="Exit 1 if less than P percent of all states and edges are passed.",
)
@format_option("human", "json")
@debug_option
def test_command(
    files: tuple[str, ...], match: str | None, coverage: bool, output: str | None, least: float | None, form: str
) -> int:
    """Run the tests in programs. Nothing outside is called: tools, models and people are mocked, time is simulated."""
    if least is not None and not 0 <= least <= 100:  # `nan` is in every range
        raise click.BadParameter(f"{least} is no percentage", param_hint="--min-coverage")
    began = time.perf_counter()
    programs: list[Program] = []
    code = OK
    for name in program_files(files):
        try:
            found = list(_programs(name, match))
        except JamError as error:
            tell(error)
            code = max(code, exit_code(error))
            continue
        programs += found
        if form == "human":
            for result in sorted((r for p in found for r in p.results), key=lambda r: r.line):
                click.echo(_human(result))
    results = [r for p in programs for r in p.results]
    failed = sum(not r.passed for r in results)
    told: dict[str, Any] = {
        "tests": [r.as_json() for r in results],
        "passed": len(results) - failed,
        "failed": failed,
    }
    if form == "human" and results:
        counts = f"{len(results) - failed} passed, {failed} failed"
        click.echo(f"{counts} in {ago(int((time.perf_counter() - began) * 1000))}")
    elif form == "human" and code == OK:
        click.echo("no tests found" + (f" with {plain(match)} in their title" if match else ""))
    if coverage or output is not None or least is not None:
        code = max(code, _coverage(programs, output, least, form, told))
    if form == "json":
        print_json(told)
    return max(code, FOUND if failed or not results else OK)


def _coverage(programs: list[Program], output: str | None, least: float | None, form: str, told: dict[str, Any]) -> int:
    """Tell and draw what the tests pass. Exit 1 for less than what is asked for."""
    from jamjet_dsl.cli.covered import covered, draw, table_json, table_text

    table = covered(programs)
    told["coverage"] = table_json(table)
    if form == "human" and programs:
        click.echo(table_text(table), file=sys.stderr if output == "-" else None)
    if output is not None and programs:
        draw(table, output)
    if least is None or table.total >= least:
        return OK
    click.echo(f"coverage is {table.total:.1f} %, and at least {least:g} % is asked for", err=True)
    return FOUND


def _programs(name: str, match: str | None) -> Iterator[Program]:
    """All agents of a file, or one, with the results of their tests; a file of tools has no agent, and so no tests.

    Raises ProgramRefused (JAMR004) for a program with errors, JAMR005 for an agent that is not there.
    """
    from jamjet_dsl.cli.covered import Program
    from jamjet_dsl.compiler import ProgramRefused, analyse_text, check_file, lower_for_drawing
    from jamjet_dsl.engine.testing import run_tests

    path, agent = split_agent(name)
    checked = analyse_text(read_stdin(), "<stdin>", folder=os.getcwd()) if path == "-" else check_file(path)
    if checked.has_errors:
        raise ProgramRefused(path, checked.diagnostics)
    for wanted in [agent] if agent is not None else [a.name for a in checked.analysis.main_agents()]:
        compiled = lower_for_drawing(checked, wanted)
        program = Program(path, compiled, ())
        placed = (replace(r, file=program.folder + r.file) for r in run_tests(compiled, match))
        yield program._replace(results=tuple(placed))


def _human(result: TestResult) -> str:
    """A line for a test that passed; for one that failed also what was expected, what came, and the way it went."""
    sign = click.style("✓", fg="green") if result.passed else click.style("✗", fg="red")
    took = f", {ago(result.simulated_ms)} simulated" if result.simulated_ms >= 1000 else ""
    lines = [f"{sign} {plain(result.title)}  {click.style(f'{result.agent}{took}', dim=True)}"]
    for mock in result.unused:
        place = f"{result.file}:{mock.line}" if mock.line else result.file
        lines.append(click.style(f"    {mock.code}: the mock of `{mock.target}` is not used  {plain(place)}", dim=True))
    if result.passed:
        return "\n".join(lines)
    if result.file:
        lines.append(f"    {result.file}:{result.line}")
    for failure in result.failures:
        code = f"{failure.code}: " if failure.code else ""
        lines.append(f"    {code}{plain(failure.message)}")
        if failure.text:
            lines.append(f"      expect {failure.text}")
        if failure.expected is not None or failure.found is not None:
            lines.append(f"      expected {plain(failure.expected)}")
            lines.append(f"      found    {plain(failure.found)}")
    lines.append(f"    it went {' → '.join(result.path)}, and ended {result.status}")
    return "\n".join(lines)
