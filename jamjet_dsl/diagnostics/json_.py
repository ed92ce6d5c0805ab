"""Diagnostics as one JSON object, for programs.

`{"diagnostics": [{"code", "severity", "message", "file", "line", "column", "end_line", "end_column", "help"}],
"errors": n, "warnings": n}`, places counted from 1 and in code points. A diagnostic also has `why`, `labels`,
`agent` and `path`; the object has `suppressed` with the findings that a comment takes back, and why.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.diagnostics.suppress import Suppressed
from jamjet_dsl.source import Span


def render_json(diagnostics: Sequence[Diagnostic], suppressed: Sequence[Suppressed] = ()) -> str:
    """The object as text, indented by two, with a line break at its end."""
    return json.dumps(to_json(diagnostics, suppressed), indent=2, ensure_ascii=False) + "\n"


def to_json(diagnostics: Sequence[Diagnostic], suppressed: Sequence[Suppressed] = ()) -> dict[str, Any]:
    """The object itself, for commands that print more beside it."""
    severities = [d.severity for d in diagnostics]
    return {
        "diagnostics": [diagnostic_json(d) for d in diagnostics],
        "errors": severities.count("error"),
        "warnings": severities.count("warning"),
        "suppressed": [diagnostic_json(s.diagnostic) | {"reason": s.reason} for s in suppressed],
    }


def diagnostic_json(d: Diagnostic) -> dict[str, Any]:
    """One diagnostic."""
    return {
        "code": d.code,
        "severity": d.severity,
        "message": d.message,
        **_place(d.span),
        "help": d.help,
        "why": d.why,
        "labels": [{"message": label.text, **_place(label.span)} for label in d.labels],
        "agent": d.agent,
        "path": [
            {"state": step.state, "edge": step.edge, "edge_id": step.edge_id, **_place(step.span)} for step in d.path
        ],
    }


def _place(span: Span) -> dict[str, str | int]:
    line, column = span.source.line_column(span.start)
    end_line, end_column = span.source.line_column(span.end)
    return {"file": span.file, "line": line, "column": column, "end_line": end_line, "end_column": end_column}
