"""What several commands need: options, reading files and JSON, printing."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from jamjet_dsl.definition import Compiled
    from jamjet_dsl.engine.audit.heads import HeadLog

F = TypeVar("F", bound=Callable[..., Any])

OK, FOUND, USAGE, FAILED, WAITS = 0, 1, 2, 3, 4
INTERRUPTED = 130

_FOUND_CODES = ("JAMR004", "JAMR302", "JAMR303", "JAMR304", "JAMR306", "JAMR307", "JAMR5", "JAMR9")


def exit_code(error: JamError) -> int:
    """1 for what is wrong in a program or its tools; 2 for what was asked for wrongly: a file, a database, a run, a
    question, an input."""
    return FOUND if error.code.startswith(_FOUND_CODES) else USAGE


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
    """Columns of the terminal; 120 where there is none. (`shutil` would answer too, but costs 5 ms to import.)"""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns or 120
    except (OSError, ValueError):
        return 120


def format_option(*choices: str) -> Callable[[F], F]:
    """`--format`, after the command's name as well as before it; the first choice is the default."""

    def pick(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
        wanted = value or ctx.find_root().obj.get("form") or choices[0]
        if wanted not in choices:
            known = ", ".join(choices)
            raise click.BadParameter(f"{wanted!r} is not one of {known}.", ctx, param)
        return str(wanted)

    return click.option("--format", "form", metavar="|".join(choices), callback=pick, help=f"Default: {choices[0]}.")


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


def first_taken(program: str, compiled: Compiled) -> str:
    """What to know where a file has several agents and none was named: which was taken, and how to name another. Else
    the empty string."""
    path, named = split_agent(program)
    text = next(iter(compiled.sources.values()), "")
    names = re.findall(r"^agent\s+`?(\w+)", text, re.MULTILINE)
    main = compiled.definition.main
    others = [name for name in names if name != main]
    if named is not None or not others or main not in names:
        return ""
    rest = f"`{path}:{others[0]}` names another" + (f" (it has {len(others)} more)" if len(others) > 1 else "")
    return f"`{main}` is the first agent of {path}, and is taken: {rest}"


def debug_option(command: F) -> F:
    """`--debug` after the command's name as well as before it."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")(command)


_SHOWN = 8
"""Programs of a folder that are named where one is meant."""


def program_file(name: str) -> str:
    """The one program that is meant: a file, `-`, or the only `.jam` file of a folder.

    Raises JamError JAMR001 for a folder without programs, JAMR006 for one with several.
    """
    if name == "-" or not os.path.isdir(name):
        return name
    inside = program_files([name])
    if len(inside) > 1:
        shown = (*inside[:_SHOWN], f"and {len(inside) - _SHOWN} more") if len(inside) > _SHOWN else tuple(inside)
        raise JamError("JAMR006", f"there are {len(inside)} programs below {name}", "name one of them", shown)
    return inside[0]


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
    """All of stdin as text. Raises JamError: JAMR002 if it is not UTF-8, JAMR003 if it is too large, JAMR006 if it
    was read before."""
    from jamjet_dsl.compiler import MAX_BYTES, decode

    given = click.get_current_context().find_root().obj
    if given.get("stdin"):
        raise JamError("JAMR006", "stdin can be read only once", "name a file for one of the two `-`")
    if sys.stdin is None:
        raise JamError("JAMR001", "stdin cannot be read: it is closed", "name a file, or open it")
    given["stdin"] = True
    return _decoded(decode(sys.stdin.buffer.read(MAX_BYTES + 1)), "stdin")


def _decoded(text: Any, what: str) -> str:
    if not isinstance(text, str):
        raise JamError(text.code, f"{what} cannot be read: {text.message}", text.help)
    return text


def read_json(value: str, what: str) -> Any:
    """JSON given on the command line, as `@FILE`, or as `-` for stdin. Decimal fractions stay exact.

    Raises JamError: JAMR001 to JAMR003 for the file, JAMR301 for text that is not JSON.
    """
    text = value
    if value == "-":
        text = read_stdin()
    elif value.startswith("@"):
        from jamjet_dsl.compiler import read_text

        text = _decoded(read_text(value[1:]), value[1:] or "a file without a name")
    return parse_json(text, what)


def parse_json(text: str, what: str) -> Any:
    """A text as JSON; decimal fractions stay exact. Raises JamError: JAMR003 for one that is nested too deeply, JAMR301
    for one that is not JSON."""
    import json
    from decimal import Decimal

    help = 'write JSON such as \'{"name": "value"}\', or @FILE'
    try:
        value = json.loads(text, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_distinct_keys)
    except json.JSONDecodeError as error:
        place = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise JamError("JAMR301", f"{what} is not JSON: {place}", help) from None
    except RecursionError:
        raise JamError("JAMR003", f"{what} is nested too deeply", "nest it less") from None
    except ValueError as error:
        words = "a number has too many digits" if "digits" in str(error) else str(error)
        raise JamError("JAMR301", f"{what} cannot be used: {words}", help) from None
    if "\\u" in text and _has_surrogate(text):
        raise JamError("JAMR301", f"{what} cannot be used: half of a surrogate pair is no character", help)
    return value


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, _ in pairs if sum(name == n for n, _ in pairs) > 1)
        raise ValueError(f"{twice!r} is given twice in one object")
    return found


def _has_surrogate(text: str) -> bool:
    import json

    # Written as two escapes, a pair becomes one character; what is left of surrogates after that is half of one.
    return any("\ud800" <= c <= "\udfff" for c in json.dumps(json.loads(text), ensure_ascii=False))


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
    """As `database`, for commands that want runs to be there: a database that is not there, or empty, is not made.

    Raises JamError JAMR101.
    """
    path = database(ctx)
    if not os.path.exists(path):
        raise JamError(
            "JAMR101",
            f"there is no run database at {path}",
            "name one with --db or JAM_DB: `jam run` prints which it uses",
        )
    if os.path.isfile(path) and not any(map(_size, (path, f"{path}-wal", f"{path}-journal"))):
        help = "name another with --db or JAM_DB: `jam run` prints which it uses, and would begin one here"
        raise JamError("JAMR101", f"{path} is an empty file: no run was ever begun in it", help)
    return path


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def heads_file(db: str) -> str:
    """The file of signed heads of a database: JAM_AUDIT_HEADS, else beside it."""
    return os.environ.get("JAM_AUDIT_HEADS") or f"{db}.heads.jsonl"


def head_log(db: str) -> HeadLog | None:
    """Where to sign what is committed, if the environment has a key for it.

    Raises JamError: JAMR109 for a file that cannot be written, JAMR110 for a key that cannot be used, or that is
    missing where the environment names the file.
    """
    if not any(os.environ.get(name) for name in ("JAM_AUDIT_KEY", "JAM_AUDIT_KEY_FILE")):
        if os.environ.get("JAM_AUDIT_HEADS"):
            help = "set JAM_AUDIT_KEY_FILE too, or unset it"
            raise JamError("JAMR110", "JAM_AUDIT_HEADS is set, and there is no key to sign with", help)
        return None
    from jamjet_dsl.engine.audit.heads import HeadLog
    from jamjet_dsl.engine.audit.keys import signer_in

    signer = signer_in(os.environ)
    return None if signer is None else HeadLog(heads_file(db), signer)
