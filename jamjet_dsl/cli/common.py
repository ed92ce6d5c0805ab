"""What several commands need: options, reading files and JSON, printing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import click

from jamjet_dsl.diagnostics.errors import JamError

F = TypeVar("F", bound=Callable[..., Any])

OK, FOUND, USAGE, FAILED, WAITS = 0, 1, 2, 3, 4

_USAGE_CODES = frozenset({"JAMR001", "JAMR002", "JAMR003", "JAMR005", "JAMR006"})


def exit_code(error: JamError) -> int:
    """2 for what was asked for wrongly (a file, a run, a question that is not there), else 1."""
    return USAGE if error.code in _USAGE_CODES or error.code[:5] in ("JAMR2", "JAMR4") else FOUND


def tell(error: JamError) -> None:
    """Print an error to stderr; a refused program with its findings in full, as `jam check` shows them."""
    found = getattr(error, "diagnostics", None)
    if found:
        from jamjet_dsl.diagnostics.render import render

        click.echo(render(found, "human", color=colour(sys.stderr), width=width(), files=1), err=True, nl=False)
        return
    head, _, rest = str(error).partition("\n")
    click.echo(click.style(head, fg="red", bold=True) if colour(sys.stderr) else head, err=True)
    if rest:
        click.echo(rest, err=True)


def colour(stream: Any) -> bool:
    """Colour on a terminal, unless NO_COLOR says otherwise."""
    return bool(getattr(stream, "isatty", lambda: False)()) and not os.environ.get("NO_COLOR")


def width() -> int:
    """Columns of the terminal."""
    import shutil

    return shutil.get_terminal_size((120, 24)).columns


def format_option(*choices: str) -> Callable[[F], F]:
    """`--format`, whose first choice is the default."""
    return click.option(
        "--format", "form", type=click.Choice(choices or ("human", "json")), default=choices[0] if choices else "human"
    )


def db_option(command: F) -> F:
    """`--db` and `--debug` after the command's name as well as before it."""

    def keep(ctx: click.Context, _param: click.Parameter, value: Any) -> Any:
        if value:
            ctx.find_root().obj["db"] = value
        return value

    command = click.option("--db", metavar="F", expose_value=False, callback=keep, help="The run database.")(command)
    return click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")(command)


def split_agent(name: str) -> tuple[str, str | None]:
    """`FILE:AGENT` in two; a colon in a path is not one."""
    if os.path.exists(name):
        return name, None
    path, colon, agent = name.rpartition(":")
    if colon and agent.isidentifier() and path:
        return path, agent
    return name, None


def program_files(names: Iterable[str]) -> list[str]:
    """The programs that are meant: `-`, files, and all `.jam` files below directories, in order.

    Raises JamError JAMR001 for a directory without programs.
    """
    found: list[str] = []
    for name in names:
        if name != "-" and os.path.isdir(name):
            inside = sorted(_below(name))
            if not inside:
                raise JamError("JAMR001", f"there is no .jam file below {name}", "name a file, or another folder")
            found += inside
        else:
            found.append(name)
    return list(dict.fromkeys(found))


def _below(folder: str) -> Iterator[str]:
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in ("node_modules", "__pycache__"))
        yield from (os.path.join(at, f) for f in files if f.endswith(".jam"))


def read_stdin() -> str:
    """All of stdin as text. Raises JamError JAMR002 if it is not UTF-8."""
    data: bytes = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JamError("JAMR002", f"stdin is not UTF-8 text (byte {error.start})") from None


def read_json(value: str, what: str) -> Any:
    """JSON given on the command line, as `@FILE`, or as `-` for stdin. Decimal fractions stay exact.

    Raises JamError: JAMR001 or JAMR002 for the file, JAMR301 for text that is not JSON.
    """
    import json
    from decimal import Decimal

    text = value
    if value == "-":
        text = read_stdin()
    elif value.startswith("@"):
        try:
            with open(value[1:], encoding="utf-8") as file:
                text = file.read()
        except OSError as error:
            raise JamError("JAMR001", f"{value[1:]} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise JamError("JAMR002", f"{value[1:]} is not UTF-8 text") from None
    try:
        return json.loads(text, parse_float=Decimal)
    except json.JSONDecodeError as error:
        raise JamError(
            "JAMR301",
            f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            'write JSON such as \'{"name": "value"}\', or @FILE',
        ) from None
    except RecursionError:
        raise JamError("JAMR003", f"{what} is nested too deeply") from None


def print_json(value: Any) -> None:
    """One JSON value on one line."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False, default=str))


def database(ctx: click.Context, program: str | None = None) -> str:
    """The database that is meant: --db, else JAM_DB, else jam.db next to the program (or here, without one)."""
    named = ctx.find_root().obj.get("db") or os.environ.get("JAM_DB")
    if named:
        return str(named)
    folder = os.path.dirname(program) if program and program != "-" else ""
    return os.path.join(folder, "jam.db")


def existing_database(ctx: click.Context) -> str:
    """As `database`, for commands that only look: a database that is not there is not made.

    Raises JamError JAMR101.
    """
    path = database(ctx)
    if not os.path.exists(path):
        raise JamError(
            "JAMR101",
            f"there is no run database at {path}",
            "name one with --db or JAM_DB: `jam run` prints which it uses",
        )
    return path
