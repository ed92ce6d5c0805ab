"""`Diagnostic`: one finding about a program, as data. Renderers decide how it looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from jamjet_dsl.source import Span

Severity: TypeAlias = Literal["error", "warning", "info"]


@dataclass(frozen=True, eq=False, repr=False)
class Label:
    """A secondary place and what to know about it."""

    span: Span
    text: str


@dataclass(frozen=True, eq=False, repr=False)
class PathStep:
    """One stop of the path that explains a finding: a state, and the edge by which it is left.

    `edge` is readable text (`when report.score < 580`, `on approve`), empty at the last stop.
    `edge_id` is the edge's identity as diagrams know it (see `definition.Edge.id`), empty at the last stop.
    """

    state: str
    span: Span
    edge: str = ""
    edge_id: str = ""


@dataclass(frozen=True, eq=False)
class Diagnostic:
    """One finding.

    `code` is a row of `diagnostics.codes.CODES`; the severity is that row's. `message` is one lower-case
    sentence without a full stop, `why` one sentence of reason, `help` the fix. `path` explains a finding
    about the graph; `agent` then names the agent it runs through.
    """

    code: str
    message: str
    span: Span
    labels: tuple[Label, ...] = ()
    why: str = ""
    help: str = ""
    path: tuple[PathStep, ...] = ()
    agent: str = ""
    severity: Severity = field(init=False)

    def __post_init__(self) -> None:
        from jamjet_dsl.diagnostics.codes import CODES

        object.__setattr__(self, "severity", CODES[self.code].severity)

    def sort_key(self) -> tuple[str, int, int, str]:
        """File, then place, then code: the order in which findings are reported."""
        return self.span.file, self.span.start, self.span.end, self.code
