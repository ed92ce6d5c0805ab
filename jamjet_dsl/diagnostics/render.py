"""`render`: diagnostics in one of the five forms that commands print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.diagnostics.suppress import Suppressed

Format: TypeAlias = Literal["human", "concise", "json", "sarif", "github"]
FORMATS: tuple[Format, ...] = ("human", "concise", "json", "sarif", "github")


def render(
    diagnostics: Sequence[Diagnostic],
    format: Format,
    *,
    color: bool = False,
    width: int = 120,
    suppressed: Sequence[Suppressed] = (),
    files: int | None = None,
    version: str = "",
) -> str:
    """The diagnostics as text that ends with a line break, or is empty.

    `color` and `width` (terminal columns, for cutting lines of source) concern the forms for people. `files` is the
    number of programs that were looked at; with it the human form ends with a summary. `version` is the package's,
    for SARIF. JSON and SARIF list what was suppressed.
    """
    match format:
        case "human":
            from jamjet_dsl.diagnostics.human import render_human

            text = render_human(diagnostics, color=color, width=width)
            return text if files is None else text + summary(diagnostics, files, len(suppressed), color=color) + "\n"
        case "concise":
            from jamjet_dsl.diagnostics.concise import render_concise

            return render_concise(diagnostics, color=color)
        case "json":
            from jamjet_dsl.diagnostics.json_ import render_json

            return render_json(diagnostics, suppressed)
        case "sarif":
            from jamjet_dsl.diagnostics.sarif import render_sarif

            return render_sarif(diagnostics, suppressed, version)
        case "github":
            from jamjet_dsl.diagnostics.github import render_github

            return render_github(diagnostics)


def summary(diagnostics: Sequence[Diagnostic], files: int, suppressed: int = 0, *, color: bool = False) -> str:
    """`found 2 errors and 1 warning in 3 files (1 suppressed)`, without a line break."""
    from jamjet_dsl.diagnostics.snippet import Paint

    paint = Paint(color)
    counts = []
    for severity, word in (("error", "error"), ("warning", "warning"), ("info", "note")):
        if n := sum(d.severity == severity for d in diagnostics):
            counts.append(paint(severity, _count(n, word)))
    aside = f" ({suppressed} suppressed)" if suppressed else ""
    if not counts:
        return f"no problems in {_count(files, 'file')}{aside}"
    listed = ", ".join(counts[:-1]) + " and " + counts[-1] if len(counts) > 1 else counts[0]
    return f"found {listed} in {_count(files, 'file')}{aside}"


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"
