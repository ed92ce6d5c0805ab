"""`jam test`: the `test` blocks of programs, in simulated time, with mocks."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from jamjet_dsl.cli.common import FOUND, OK, debug_option, exit_code, format_option, print_json, program_files, tell
from jamjet_dsl.cli.tested import TestedFile, run_files, told
from jamjet_dsl.cli.words import ago, plain

if TYPE_CHECKING:
    from jamjet_dsl.engine.testing import TestResult


@click.command("test")
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR|- …")
@click.option("-k", "match", metavar="TEXT", help="Only tests whose title contains TEXT.")
@click.option("-j", "--jobs", metavar="N", default=1, type=click.IntRange(1, 256), help="Run N tests at once.")
@click.option("--junit", "junit_file", metavar="F", help="Write the results as JUnit XML too, for CI.")
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
    files: tuple[str, ...],
    match: str | None,
    jobs: int,
    junit_file: str | None,
    coverage: bool,
    output: str | None,
    least: float | None,
    form: str,
) -> int:
    """Run the tests in programs. Nothing outside is called: tools, models and people are mocked, time is simulated."""
    if least is not None and not 0 <= least <= 100:  # `nan` is in every range
        raise click.BadParameter(f"{least} is no percentage", param_hint="--min-coverage")
    tested = [TestedFile(name, name) for name in program_files(files)]
    results, code = _run(tested, match, jobs, form)
    failed = sum(not r.passed for r in results)
    said: dict[str, Any] = {
        "tests": [r.as_json() for r in results],
        "passed": len(results) - failed,
        "failed": failed,
    }
    if coverage or output is not None or least is not None:
        code = max(code, _coverage(tested, output, least, form, said))
    if junit_file is not None:
        from jamjet_dsl.cli.junit import write_junit

        write_junit(tested, junit_file)
    if form == "json":
        print_json(said)
    return max(code, FOUND if failed or not results else OK)


def _run(tested: Sequence[TestedFile], match: str | None, jobs: int, form: str) -> tuple[list[TestResult], int]:
    """Run all tests, saying what comes of each as it comes; the exit code is that of what could not be run."""
    began = time.perf_counter()
    code = OK
    for file in tested:
        file.load()
        if file.refused is not None:
            tell(file.refused)
            code = max(code, exit_code(file.refused))
    for _, ran in run_files(tested, match, jobs):
        if form == "human":
            click.echo(told(ran.result))
    results = [result for file in tested for result in file.results]
    if form == "human" and results:
        failed = sum(not r.passed for r in results)
        took = ago(int((time.perf_counter() - began) * 1000))
        click.echo(f"{len(results) - failed} passed, {failed} failed in {took}")
    elif form == "human" and code == OK:
        click.echo("no tests found" + (f" with {plain(match)} in their title" if match else ""))
    return results, code


def _coverage(
    tested: Sequence[TestedFile], output: str | None, least: float | None, form: str, said: dict[str, Any]
) -> int:
    """Tell and draw what the tests pass. Exit 1 for less than what is asked for."""
    from jamjet_dsl.cli.covered import covered, draw, table_json, table_text

    table = covered(tested)
    said["coverage"] = table_json(table)
    if form == "human" and table.rows:
        click.echo(table_text(table), file=sys.stderr if output == "-" else None)
    if output is not None and table.rows:
        draw(table, output)
    if least is None or table.total >= least:
        return OK
    click.echo(f"coverage is {table.total:.1f} %, and at least {least:g} % is asked for", err=True)
    return FOUND
