"""`Diagnostic`: one finding about a program, as data. Renderers decide how it looks."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from jamjet_dsl.source import Span

Severity: TypeAlias = Literal["error", "warning", "info"]


class Label(NamedTuple):
    """A secondary place and what to know about it."""

    span: Span
    text: str


class PathStep(NamedTuple):
    """One stop of the path that explains a finding: a state, and the edge by which it is left.

    `edge` is readable text (`when report.score < 580`, `on approve`), empty at the last stop.
    `edge_id` is the edge's identity as diagrams know it (see `definition.Edge.id`), empty at the last stop.
    """

    state: str
    span: Span
    edge: str = ""
    edge_id: str = ""


class Diagnostic:
    """One finding. Nobody changes one: whoever has more to say makes another.

    `code` is a row of `diagnostics.codes.CODES`; `severity` is that row's. `message` is one lower-case
    sentence without a full stop, `why` one sentence of reason, `help` the fix. `path` explains a finding
    about the graph; `agent` then names the agent it runs through.
    """

    __slots__ = ("agent", "code", "help", "labels", "message", "path", "severity", "span", "why")

    def __init__(
        self,
        code: str,
        message: str,
        span: Span,
        labels: tuple[Label, ...] = (),
        why: str = "",
        help: str = "",
        path: tuple[PathStep, ...] = (),
        agent: str = "",
    ) -> None:
        from jamjet_dsl.diagnostics.codes import CODES

        self.code = code
        self.message = message
        self.span = span
        self.labels = labels
        self.why = why
        self.help = help
        self.path = path
        self.agent = agent
        self.severity: Severity = CODES[code].severity

    def __repr__(self) -> str:
        return f"Diagnostic({self.code!r}, {self.message!r}, {self.span!r})"

    def sort_key(self) -> tuple[str, int, int, str]:
        """File, then place, then code: the order in which findings are reported."""
        return self.span.file, self.span.start, self.span.end, self.code
