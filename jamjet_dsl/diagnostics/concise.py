"""One line a diagnostic, for editors, `grep` and terminals that link places."""

from __future__ import annotations

from collections.abc import Sequence

from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.diagnostics.snippet import Paint, one_line


def render_concise(diagnostics: Sequence[Diagnostic], *, color: bool = False) -> str:
    """`file:line:col: error[CODE] message`, one a line."""
    paint = Paint(color)
    return "".join(
        f"{paint('message', f'{one_line(d.span.file)}:{d.span.line}:{d.span.column}')}: "
        f"{paint(d.severity, f'{d.severity}[{d.code}]')} {one_line(d.message)}\n"
        for d in diagnostics
    )
