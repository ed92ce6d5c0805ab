"""`jam fmt`, `jam compile`, `jam eval`: from text to text."""

from __future__ import annotations

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
    first_taken,
    format_option,
    print_json,
    program_file,
    program_files,
    read_json,
    read_stdin,
    split_agent,
    tell,
    width,
)
from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from jamjet_dsl.definition import Compiled
    from jamjet_dsl.diagnostics.model import Diagnostic


@click.command("fmt")
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR|- …")
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if a file is not in the canonical layout.")
@click.option("--diff", is_flag=True, help="Change nothing; print what would change.")
@debug_option
def fmt_command(files: tuple[str, ...], check: bool, diff: bool) -> int:
    """Give programs their one canonical layout. Comments stay; the definition does not change. `-` filters stdin."""
    from jamjet_dsl.compiler import read_program
    from jamjet_dsl.source import SourceFile
    from jamjet_dsl.syntax.format import format_program

    code, changed, count = OK, 0, 0
    for name in program_files(files):
        try:
            text = read_stdin() if name == "-" else read_program(name)
        except JamError as error:
            tell(error)
            code = max(code, exit_code(error))
            continue
        count += 1
        done = format_program(SourceFile("<stdin>" if name == "-" else name, text))
        if done.diagnostics:
            _refuse(done.diagnostics)
            code = max(code, FOUND)
            continue
        if name == "-" and not (check or diff):
            click.echo(done.text, nl=False)
            continue
        if done.text == text:
            continue
        changed += 1
        if diff:
            _show_diff(name, text, done.text)
        if check or diff:
            click.echo(f"would change {name}", err=True)
            code = max(code, FOUND)
        else:
            _replace(name, done.text)
            click.echo(f"formatted {name}", err=True)
    if "-" not in files and not changed and code == OK:
        click.echo(f"{count} file{'' if count == 1 else 's'} in canonical layout already", err=True)
    return code


def _refuse(diagnostics: list[Diagnostic]) -> None:
    from jamjet_dsl.diagnostics.render import render

    click.echo(render(diagnostics, "human", color=colour(sys.stderr), width=width()), err=True, nl=False)
    click.echo("nothing was formatted: the layout of a program that cannot be read is not known", err=True)


def _show_diff(name: str, old: str, new: str) -> None:
    import difflib

    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), name, f"{name} (canonical)")
    click.echo("".join(line if line.endswith("\n") else line + "\n" for line in lines), nl=False)


def _replace(name: str, text: str) -> None:
    """Write beside the file and rename, so that a crash leaves one of the two whole. Keeps the file's mode."""
    path = os.path.realpath(name)
    beside = f"{path}.jam-fmt-{os.getpid()}"
    try:
        with open(beside, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(beside, os.stat(path).st_mode & 0o7777)
        os.replace(beside, path)
    except OSError as error:
        if os.path.exists(beside):
            os.unlink(beside)
        raise JamError("JAMR001", f"{name} cannot be written: {error.strerror}") from None


@click.command("compile")
@click.argument("program", metavar="FILE[:AGENT]")
@click.option("-o", "output", metavar="F", help="Write to a file instead of stdout.")
@click.option("--pretty", is_flag=True, help="Indented, for reading; the digest is of the canonical form.")
@click.option("--digest", is_flag=True, help="Print only the SHA-256 digest.")
@debug_option
def compile_command(program: str, output: str | None, pretty: bool, digest: bool) -> int:
    """Print the definition: what runs, as canonical JSON (RFC 8785)."""
    compiled = load(program)
    definition = compiled.definition
    if taken := first_taken(program, compiled):
        click.echo(f"note: {taken}", err=True)
    if digest:
        click.echo(definition.digest)
        return OK
    data = definition.canonical()
    if pretty:
        import json

        data = json.dumps(json.loads(data), indent=2, ensure_ascii=False).encode()
    if output and output != "-":
        try:
            with open(output, "wb") as file:
                file.write(data + b"\n")
        except OSError as error:
            raise JamError("JAMR001", f"{output} cannot be written: {error.strerror}") from None
        click.echo(f"{output}: {definition.digest}", err=True)
    else:
        click.echo(data)
    return OK


def load(program: str) -> Compiled:
    """Compile FILE, FILE:AGENT or `-`. Raises JamError as `compile_file` does."""
    from jamjet_dsl.compiler import compile_file, compile_text

    path, agent = split_agent(program)
    path = program_file(path)
    if path == "-":
        return compile_text(read_stdin(), "<stdin>", agent, folder=os.getcwd())
    return compile_file(path, agent)


@click.command("eval")
@click.argument("expression", metavar="EXPR")
@click.option("--data", metavar="JSON|@F", help="The variables, as a JSON object.")
@format_option("human", "json")
@debug_option
def eval_command(expression: str, data: str | None, form: str) -> int:
    """Evaluate an expression of the language (CEL) with the variables given."""
    from jamjet_dsl.evaluate.expression import eval_text
    from jamjet_dsl.kernel.values import to_public

    given = read_json(data, "--data") if data is not None else {}
    if not isinstance(given, dict):
        raise JamError("JAMR301", "--data is not a JSON object", 'write {"name": value}')
    print_json(to_public(eval_text(read_stdin() if expression == "-" else expression, given)))
    return OK
