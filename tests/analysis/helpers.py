"""Programs for the tests of the analysis, and findings as short text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import compiler
from jamjet_dsl.definition import Compiled

SHARED = Path(os.environ.get("JAM_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
DESIGN = SHARED.parent / "design" / "examples"
ROOT = Path(__file__).parents[2]


def programs() -> list[Any]:
    """The programs of the design and the examples of the project; a skipped one where there are none."""
    found: list[Any] = [*sorted(DESIGN.glob("*.jam")), *sorted((ROOT / "examples").glob("*/*.jam"))]
    return found or [pytest.param(None, marks=pytest.mark.skip(reason="no example programs here"))]


def findings(text: str, codes: str = "", files: dict[str, str] | None = None) -> list[str]:
    """`CODE LINE:COLUMN message` of the findings whose code starts with one of `codes` (all if empty)."""
    wanted = tuple(codes.split())
    return [
        f"{d.code} {d.span.line}:{d.span.column} {d.message}"
        for d in compiler.check_text(text, files=files)
        if not wanted or d.code.startswith(wanted)
    ]


def codes(text: str, files: dict[str, str] | None = None) -> list[str]:
    """The codes of all findings."""
    return [d.code for d in compiler.check_text(text, files=files)]


def agent(body: str, before: str = "") -> str:
    """A program with one agent that ends in `done`; the body starts in line 2."""
    return f"{before}agent a version 1 {{\n{body}\n}}\n"


def guarded(guard: str, declarations: str, before: str = "") -> str:
    """An agent with one guard over some declarations."""
    return agent(
        (
            f"{declarations}\nstart state s {{\nwhen {guard} -> done\notherwise -> other\n}}\nfinal done {{}}\n"
            f"final other {{}}"
        ),
        before,
    )


def compiled(text: str, name: str | None = None, files: dict[str, str] | None = None) -> Compiled:
    """The compiled program; the test fails with its findings if it has errors."""
    try:
        return compiler.compile_text(text, agent=name, files=files)
    except compiler.ProgramRefused as error:
        raise AssertionError(str(error)) from error
