"""Diagnostics as a SARIF 2.1.0 log, for code scanning.

Rules carry the texts of the explain pages, labels become related locations, paths become code flows, and what a
comment suppresses is listed as suppressed with its reason. Regions count Unicode code points from 1, and a region's
end is the column after its last character, as everywhere in this package.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jamjet_dsl.diagnostics.codes import CODES
from jamjet_dsl.diagnostics.explain import page
from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.diagnostics.suppress import Suppressed
from jamjet_dsl.source import SourceFile, Span

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVEL = {"error": "error", "warning": "warning", "info": "note"}


def render_sarif(diagnostics: Sequence[Diagnostic], suppressed: Sequence[Suppressed] = (), version: str = "") -> str:
    """The log as text, indented by two, with a line break at its end. `version` is that of the package."""
    return json.dumps(to_sarif(diagnostics, suppressed, version), indent=2, ensure_ascii=False) + "\n"


def to_sarif(
    diagnostics: Sequence[Diagnostic], suppressed: Sequence[Suppressed] = (), version: str = ""
) -> dict[str, Any]:
    """The log with its one run."""
    everything = [*diagnostics, *(s.diagnostic for s in suppressed)]
    index = {code: i for i, code in enumerate(sorted({d.code for d in everything}))}
    results = [_result(d, index) for d in diagnostics]
    for s in suppressed:
        note = {"kind": "inSource", "justification": s.reason, "location": _location(s.comment)}
        results.append(_result(s.diagnostic, index) | {"suppressions": [note]})
    driver = {"name": "jam", "fullName": "jamjet-dsl", "rules": [_rule(code) for code in index]}
    if version:
        driver["semanticVersion"] = version
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str) -> dict[str, Any]:
    row = CODES[code]
    text = page(code)
    rule: dict[str, Any] = {
        "id": code,
        "name": "".join(word.capitalize() for word in row.slug.split("-")),
        "shortDescription": {"text": row.title},
        "defaultConfiguration": {"level": _LEVEL[row.severity]},
    }
    if text:
        rule["help"] = {"text": text, "markdown": text}
    return rule


def _result(d: Diagnostic, index: dict[str, int]) -> dict[str, Any]:
    parts = [d.message, d.why, d.help and f"help: {d.help}"]
    result: dict[str, Any] = {
        "ruleId": d.code,
        "ruleIndex": index[d.code],
        "level": _LEVEL[d.severity],
        "message": {"text": "\n".join(p for p in parts if p)},
        "locations": [_location(d.span)],
    }
    if d.labels:
        result["relatedLocations"] = [
            {"id": i, **_location(label.span), "message": {"text": label.text}} for i, label in enumerate(d.labels)
        ]
    if d.path:
        stops = [{"location": _location(s.span) | {"message": {"text": _stop(s.state, s.edge)}}} for s in d.path]
        result["codeFlows"] = [{"threadFlows": [{"locations": stops}]}]
    return result


def _stop(state: str, edge: str) -> str:
    return f"{state}, left by `{edge}`" if edge else state


def _location(span: Span) -> dict[str, Any]:
    line, column = span.source.line_column(span.start)
    end_line, end_column = span.source.line_column(span.end)
    region = {"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column}
    return {"physicalLocation": {"artifactLocation": {"uri": _uri(span.source)}, "region": region}}


def _uri(source: SourceFile) -> str:
    """The file's name as a relative or absolute URI reference."""
    path = source.name.replace("\\", "/")
    if len(path) > 1 and path[1] == ":" and path[0].isalpha():
        path = "/" + path  # a Windows drive
    plain = frozenset("/-._~")
    encoded = "".join(
        chr(b) if b < 128 and (chr(b).isalnum() or chr(b) in plain) else f"%{b:02X}"
        for b in path.encode("utf-8", "replace")
    )
    return f"file://{encoded}" if encoded.startswith("/") else encoded
