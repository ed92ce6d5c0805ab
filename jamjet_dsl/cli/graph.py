"""`jam graph`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from jamjet_dsl.cli.common import OK, db_option, first_taken, program_file, read_stdin, split_agent
from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from jamjet_dsl.definition import Compiled
    from jamjet_dsl.render.graph import Overlay


@click.command("graph")
@click.argument("program", metavar="FILE[:AGENT]", required=False)
@click.option("-o", "output", metavar="F", help="A .svg, .png, .pdf, .dot, .mmd or .html file; `-` prints (with --to).")
@click.option(
    "--to", "kind", type=click.Choice(("svg", "png", "pdf", "dot", "mmd", "html")), help="The form, if not by name."
)
@click.option("--run", "run_id", metavar="ID", help="Draw the way this run took (on the program it started with).")
@db_option
@click.pass_context
def graph_command(
    ctx: click.Context, program: str | None, output: str | None, kind: str | None, run_id: str | None
) -> int:
    """Draw the diagram for review: states, guards, limits, approvals, trouble, budget and policy."""
    if run_id is not None:
        compiled, overlay = _of_run(ctx, run_id)
    elif program is None:
        raise click.UsageError("name a FILE, or a run with --run ID")
    else:
        compiled, overlay = _of_file(program), None
    target = output or f"{compiled.definition.main}.{kind or 'svg'}"
    write_picture(compiled, target, overlay, kind)
    return OK


def _of_file(program: str) -> Compiled:
    """A program may be drawn while checks still refuse it: a picture helps to see why."""
    from jamjet_dsl.compiler import analyse_text, check_file, lower_for_drawing

    path, agent = split_agent(program)
    path = program_file(path)
    result = analyse_text(read_stdin(), "<stdin>", folder=os.getcwd()) if path == "-" else check_file(path)
    compiled = lower_for_drawing(result, agent)
    if taken := first_taken(program, compiled):
        click.echo(f"note: {taken}", err=True)
    errors = sum(d.severity == "error" for d in result.diagnostics)
    if errors:
        click.echo(
            f"note: the program has {errors} error{'' if errors == 1 else 's'}; `jam check` names them", err=True
        )
    return compiled


def _of_run(ctx: click.Context, run_id: str) -> tuple[Compiled, Overlay]:
    from jamjet_dsl.cli.look import opened
    from jamjet_dsl.render.graph import overlay_of_run

    with opened(ctx) as (engine, _db):
        view = engine.show(run_id)
        events = ({"kind": e.kind, "body": e.body} for e in engine.history(view.run_id))
        overlay = overlay_of_run(events, f"run {view.run_id}: {view.status}")
        if not overlay.states:
            overlay.states[view.state] = 1
        overlay.current = (view.state,) if view.state else overlay.current
        return engine.program(view.run_id), overlay


def write_picture(compiled: Compiled, target: str, overlay: Overlay | None = None, kind: str | None = None) -> None:
    """Draw into a file, or to stdout for `-`. Raises JamError JAMR006 for a form that is not known, JAMR001 for a file
    that cannot be written."""
    from jamjet_dsl.render import FORMATS, picture

    kind = kind or os.path.splitext(target)[1].lstrip(".").lower()
    if kind not in FORMATS:
        known = ", ".join(f".{f}" for f in FORMATS)
        raise JamError(
            "JAMR006", f"{target} does not say what to draw", f"end the name with one of {known}, or use --to"
        )
    data = picture(compiled, kind, overlay=overlay)
    if target == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        with open(target, "wb") as file:
            file.write(data)
    except OSError as error:
        raise JamError("JAMR001", f"{target} cannot be written: {error.strerror}") from None
    click.echo(f"drew {target}", err=True)
