"""Diagnostics as workflow commands, which GitHub Actions turns into annotations of a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from jamjet_dsl.diagnostics.human import path_text
from jamjet_dsl.diagnostics.model import Diagnostic

_COMMAND = {"error": "error", "warning": "warning", "info": "notice"}


def render_github(diagnostics: Sequence[Diagnostic]) -> str:
    """`::error file=…,line=…,col=…,endLine=…,endColumn=…,title=CODE::message`, one a line.

    The message carries the reason, the fix and the path, as an annotation has no other place for them.
    """
    return "".join(_line(d) + "\n" for d in diagnostics)


def _line(d: Diagnostic) -> str:
    properties = {"file": d.span.file, "line": d.span.line, "col": d.span.column, "endLine": d.span.end_line}
    if d.span.end_line == d.span.line:
        properties["endColumn"] = d.span.end_column  # GitHub ignores columns of an annotation over several lines
    properties["title"] = d.code
    path = f"path: {path_text(d.path)}" if d.path else ""
    parts = [d.message, d.why and f"why: {d.why}", d.help and f"help: {d.help}", path]
    listed = ",".join(f"{key}={_property(str(value))}" for key, value in properties.items())
    return f"::{_COMMAND[d.severity]} {listed}::{_data(chr(10).join(p for p in parts if p))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
