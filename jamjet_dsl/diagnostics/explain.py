"""The page of a code: what it means, a program that it refuses, and one that it accepts."""

from __future__ import annotations

import os
from functools import cache

from jamjet_dsl.diagnostics.codes import CODES
from jamjet_dsl.diagnostics.errors import ERRORS, JamError
from jamjet_dsl.diagnostics.suggest import did_you_mean


def explain(code: str) -> str:
    """The page of a `JAM…` or `JAMR…` code as Markdown; case does not matter, and a slug such as `unreachable` works.

    Raises `JamError` JAMR006 for a code that does not exist, with the nearest one.
    """
    wanted = code.strip()
    by_name = {row.id: row.id for row in CODES.values()} | {row.slug: row.id for row in CODES.values()}
    by_name |= {row.id: row.id for row in ERRORS.values()} | {row.slug: row.id for row in ERRORS.values()}
    found = by_name.get(wanted.upper()) or by_name.get(wanted.lower())
    if found is None:
        near = did_you_mean(wanted.upper(), by_name) or did_you_mean(wanted.lower(), by_name)
        help = f"did you mean `{near}`?" if near else "codes look like JAM101; `jam check` prints them in brackets"
        raise JamError("JAMR006", f"there is no code `{wanted[:80]}`", help)
    if found in ERRORS:
        row = ERRORS[found]
        return f"# {row.id}: {row.title}\n\nRaised by a command or a run (`{row.slug}`).\n\nWhat to do: {row.help}.\n"
    return page(found) or f"# {found}: {CODES[found].title}\n"


@cache
def page(code: str) -> str:
    """The text of a code's page, empty where there is none. Installed packages carry the pages beside this module;
    a checkout has them under `specs/`."""
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.dirname(os.path.dirname(here))
    for folder in (os.path.join(here, "pages"), os.path.join(root, "specs", "diagnostics")):
        try:
            with open(os.path.join(folder, f"{code}.md"), encoding="utf-8") as file:
                return file.read()
        except OSError:
            continue
    return ""
