"""`jam check` and `jam explain`. This module is what a cold `jam check` loads: nothing heavy stands here."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

import click

from jamjet_dsl.cli.common import (
    FOUND,
    OK,
    colour,
    debug_option,
    exit_code,
    format_option,
    print_json,
    program_files,
    read_stdin,
    split_agent,
    tell,
    width,
)
from jamjet_dsl.compiler import CheckResult, analyse_text, check_file
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.diagnostics.render import FORMATS, Format, render

if TYPE_CHECKING:
    from jamjet_dsl.diagnostics.model import Diagnostic


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR|- …")
@format_option(*FORMATS)
@click.option("--strict", is_flag=True, help="Warnings, and checks that were not verified, fail too.")
@click.option("--select", metavar="CODES", help="Report only these codes (prefixes work: JAM2,JAM601).")
@click.option("--ignore", metavar="CODES", help="Leave out these codes.")
@click.option("--draw", metavar="F", help="Draw the first finding that a path explains (svg, png, html, …).")
@debug_option
def check_command(
    files: tuple[str, ...], form: Format, strict: bool, select: str | None, ignore: str | None, draw: str | None
) -> int:
    """Parse, resolve, type and check programs: everything that is wrong, in one pass."""
    # A syntax tree is all that lives here, and it has no cycles worth looking for: a third of the time on large files.
    gc.disable()
    results: list[CheckResult] = []
    problem: JamError | None = None
    for name in program_files(files):
        try:
            results.append(_checked(name))
        except JamError as error:
            # One file that cannot be read must not hide what is wrong with the others.
            tell(error)
            problem = problem or error
    found = _distinct(results)
    found = [d for d in found if _wanted(d.code, select, ignore)]
    suppressed = [s for r in results for s in r.suppressed]
    text = render(
        found,
        form,
        color=colour(sys.stdout),
        width=width(),
        suppressed=suppressed,
        files=len(results),
        version=_version(),
    )
    if results or form != "human":
        click.echo(text, nl=False)
    if draw:
        _draw(results, found, draw)
    if any(d.severity == "error" or (strict and d.severity == "warning") for d in found):
        return FOUND
    return exit_code(problem) if problem else OK


def _checked(name: str) -> CheckResult:
    """What is wrong with FILE or `-`; with FILE:AGENT, only what is not about the other agents in it."""
    path, agent = split_agent(name)
    result = analyse_text(read_stdin(), "<stdin>", folder=os.getcwd()) if path == "-" else check_file(path)
    if agent is None:
        return result
    if agent not in (a.name for a in result.analysis.main_agents()):
        raise JamError("JAMR005", f"{path} has no agent `{agent}`")
    mine = [d for d in result.diagnostics if d.agent in ("", agent)]
    return CheckResult(mine, result.suppressed, result.analysis)


def _distinct(results: list[CheckResult]) -> list[Diagnostic]:
    """Findings of all programs; a file that several import is reported once."""
    seen: dict[tuple[str, str, int, str], Diagnostic] = {}
    for result in results:
        for d in result.diagnostics:
            seen.setdefault((os.path.normpath(d.span.file), d.code, d.span.start, d.message), d)
    return list(seen.values())


def _wanted(code: str, select: str | None, ignore: str | None) -> bool:
    chosen = tuple(c.strip().upper() for c in (select or "").split(",") if c.strip())
    left_out = tuple(c.strip().upper() for c in (ignore or "").split(",") if c.strip())
    return (not chosen or code.startswith(chosen)) and not (left_out and code.startswith(left_out))


def _version() -> str:
    from jamjet_dsl import __version__

    return __version__


def _draw(results: list[CheckResult], found: list[Diagnostic], target: str) -> None:
    """The first finding with a path, over the diagram of its agent."""
    from jamjet_dsl.cli.graph import write_picture
    from jamjet_dsl.compiler import lower_for_drawing
    from jamjet_dsl.render.graph import overlay_of_path

    shown = next((d for d in found if d.path), None)
    if shown is None:
        click.echo("no finding has a path to draw", err=True)
        return
    result = next(r for r in results if shown in r.diagnostics)
    compiled = lower_for_drawing(result, shown.agent or None)
    overlay = overlay_of_path(((s.state, s.edge_id) for s in shown.path), f"{shown.code}: {shown.message}")
    write_picture(compiled, target, overlay)


@click.command("explain")
@click.argument("code")
@format_option("human", "json")
@debug_option
def explain_command(code: str, form: str) -> int:
    """What a code means, with a failing example and its fix."""
    from jamjet_dsl.diagnostics.explain import explain

    page = explain(code).rstrip()
    if form == "json":
        print_json({"code": page.removeprefix("# ").partition(":")[0], "page": page})
    else:
        click.echo(page)
    return OK
