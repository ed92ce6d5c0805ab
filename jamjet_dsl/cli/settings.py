"""`jam.toml` beside a program: who has which role, and what `jam forecast` is to assume.

    [roles]
    loan_officer = ["olga", "piet"]

    [forecast]
    reliability = { search = 0.99 }

With a list of roles a person has those that name him, and no others; without one a name is taken at its word.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.people import one_name

NAME = "jam.toml"
_KNOWN = ("roles", "forecast")
"""The tables that are read. Another one is refused: it should not look as if it were heeded."""


def named(_ctx: click.Context, _param: click.Parameter, who: str | None) -> str | None:
    """The callback of an option that names a person: the name without the space around it. Raises click.BadParameter
    for one of which nothing can be seen: whoever leaves a name out is who they are here, and nobody is nobody by
    mistake."""
    if who is not None and not one_name(who):
        raise click.BadParameter("it names nobody")
    return None if who is None else who.strip()


def person(folder: Path | None, who: str) -> str | dict[str, Any]:
    """Somebody as the engine takes him: with his roles, if the file in this folder has a list of them.

    Raises JamError: JAMR001 for a file that cannot be read, JAMR006 for one that does not say what it should.
    """
    roles = None if folder is None else _roles(folder / NAME)
    if roles is None:
        return who
    return {"id": who, "roles": [role for role, members in roles.items() if who in members]}


def table(folder: Path, name: str) -> Any:
    """One table of the file in this folder as it is written there; None without it. Raises JamError as `person`."""
    return _read(folder / NAME).get(name)


def _read(path: Path) -> dict[str, Any]:
    """All tables; none where there is no file."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise JamError("JAMR001", f"{path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise JamError(
            "JAMR006", f"{path} is not TOML: {error}", 'write [roles] and under it role = ["name", …]'
        ) from None
    for table in tree:
        if table not in _KNOWN:
            raise JamError("JAMR006", f"{path}: `{table}` means nothing here", f"known are: {', '.join(_KNOWN)}")
    return tree


def _roles(path: Path) -> dict[str, list[str]] | None:
    """The roles and their members; None without a list of them."""
    roles = _read(path).get("roles")
    if roles is None:
        return None
    named = isinstance(roles, dict) and all(
        isinstance(members, list) and all(isinstance(member, str) and member for member in members)
        for members in roles.values()
    )
    if not named:
        raise JamError("JAMR006", f"{path}: `roles` is no table of lists of names", 'write role = ["name", …]')
    return dict(roles)
