"""Diagnostics for people: the line of source, carets, labels, the reason, the fix and the path.

```
error[JAM602]: `disburse` can be called without an answer of `officer_review`
  --> loan.jam:63:5
   |
19 |     require approval officer_review before disburse
   |                      -------------- required here
...
63 |     call approved disburse as receipt
   |     ^^^^^^^^^^^^^^^^^^^^^^
   |
   = why: money that left cannot be called back
   = help: let every edge into `pay` come from `officer_review`
   = path: fetch_report ─(otherwise)→ explain ─→ pay
```

Nothing of a program reaches the terminal as a control character, and colour is used only when asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from jamjet_dsl.diagnostics.model import Diagnostic, PathStep
from jamjet_dsl.diagnostics.snippet import Mark, Paint, one_line, render_snippet, visible

_SHOWN_STEPS = 40
"""A longer path is shown by its first and last stops: the middle of a walk of hundreds explains nothing."""


def render_human(diagnostics: Sequence[Diagnostic], *, color: bool = False, width: int = 120) -> str:
    """All diagnostics one after the other, with an empty line after each. `width` is in terminal columns; only
    lines of source are cut to it."""
    paint = Paint(color)
    return "".join(f"{render_one(d, paint, width)}\n\n" for d in diagnostics)


def render_one(d: Diagnostic, paint: Paint, width: int) -> str:
    """One diagnostic, without a line break at its end."""
    files: dict[str, list[Mark]] = {d.span.file: []}
    primary_text = ""
    for label in d.labels:
        if label.span == d.span and not primary_text:
            primary_text = label.text  # stands beside the carets instead of on a row of its own
        else:
            files.setdefault(label.span.file, []).append(Mark(label.span, one_line(label.text), False))
    files[d.span.file].append(Mark(d.span, one_line(primary_text), True))
    last_line = max(mark.span.end_line for marks in files.values() for mark in marks)
    gutter = max(len(str(last_line)), 2)
    lines = [paint(d.severity, f"{d.severity}[{d.code}]") + paint("message", f": {one_line(d.message)}")]
    for file, marks in files.items():
        at = d.span if file == d.span.file else marks[0].span
        arrow = "-->" if file == d.span.file else ":::"
        lines.append(" " * gutter + paint("gutter", arrow) + f" {visible(file)}:{at.line}:{at.column}")
        lines += render_snippet(marks, d.severity, gutter, width, paint)
    notes = [("why", visible(d.why)), ("help", visible(d.help))]
    notes = [(head, text) for head, text in notes if text]
    indent = " " * (gutter + 1)
    if notes or d.path:
        lines.append(indent + paint("gutter", "|"))
    for head, text in notes:
        body = text.replace("\n", "\n" + " " * (gutter + 5 + len(head)))
        lines.append(indent + paint("gutter", "=") + " " + paint(head, f"{head}:") + f" {body}")
    if d.path:
        head = "path" + (f" through `{visible(d.agent)}`" if d.agent else "")
        first, *rest = _chain(d.path, width - gutter - 6, len(head) + 2)
        lines.append(indent + paint("gutter", "=") + " " + paint("path", f"{head}:") + f" {first}")
        lines += [" " * (gutter + 5) + row for row in rest]
    return "\n".join(lines)


def path_text(path: Sequence[PathStep]) -> str:
    """A path in one line: `a ─(otherwise)→ b ─→ c`."""
    return "".join(_stops(path)).lstrip()


def _stops(path: Sequence[PathStep]) -> list[str]:
    stops = []
    for i, step in enumerate(path):
        before = path[i - 1].edge if i else ""
        arrow = "" if not i else (f" ─({visible(before)})→ " if before else " ─→ ")
        stops.append(arrow + visible(step.state))
    if len(stops) > _SHOWN_STEPS:
        half = _SHOWN_STEPS // 2
        stops[half:-half] = [f" ─ … {len(stops) - 2 * half} more … "]
    return stops


def _chain(path: Sequence[PathStep], width: int, used: int) -> list[str]:
    """The path over as many rows as it needs, broken before an edge; `used` columns of the first are taken."""
    rows = [""]
    room = width - used
    for stop in _stops(path):
        if rows[-1] and len(rows[-1]) + len(stop) > room:
            rows.append(stop.lstrip())
            room = width
        else:
            rows[-1] += stop
    return rows
