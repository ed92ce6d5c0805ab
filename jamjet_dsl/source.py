"""Source text and positions in it.

Every layer that can point at a program does so with a `Span`. A span knows its file, so a
diagnostic about an imported file needs nothing beside it. Offsets count Unicode code points from 0;
lines and columns, which only people and editors see, count from 1 and are computed when asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple


class SourceFile:
    """One program text and the name it is reported under (a path as the user wrote it, or `<stdin>`)."""

    __slots__ = ("_starts", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._starts: list[int] | None = None

    def _line_starts(self) -> list[int]:
        if self._starts is None:
            starts = [0]
            find = self.text.find
            at = find("\n")
            while at >= 0:
                starts.append(at + 1)
                at = find("\n", at + 1)
            self._starts = starts
        return self._starts

    def line_column(self, offset: int) -> tuple[int, int]:
        """The line and column (both from 1) of an offset; an offset past the end is the end."""
        starts = self._line_starts()
        offset = min(max(offset, 0), len(self.text))
        line = bisect_right(starts, offset)
        return line, offset - starts[line - 1] + 1

    def line_text(self, line: int) -> str:
        """The text of a line (from 1) without its line break; empty past the end."""
        starts = self._line_starts()
        if not 1 <= line <= len(starts):
            return ""
        end = starts[line] - 1 if line < len(starts) else len(self.text)
        return self.text[starts[line - 1] : end].rstrip("\r")

    @property
    def line_count(self) -> int:
        """How many lines the text has; an empty text has one."""
        return len(self._line_starts())

    def __repr__(self) -> str:
        return f"SourceFile({self.name!r})"


class Span(NamedTuple):
    """A half-open range of code points in one file."""

    source: SourceFile
    start: int
    end: int

    @property
    def file(self) -> str:
        """The name the file is reported under."""
        return self.source.name

    @property
    def line(self) -> int:
        """First line, from 1."""
        return self.source.line_column(self.start)[0]

    @property
    def column(self) -> int:
        """First column, from 1."""
        return self.source.line_column(self.start)[1]

    @property
    def end_line(self) -> int:
        """Line of the position after the last character, from 1."""
        return self.source.line_column(self.end)[0]

    @property
    def end_column(self) -> int:
        """Column of the position after the last character, from 1."""
        return self.source.line_column(self.end)[1]

    @property
    def text(self) -> str:
        """The text the span covers."""
        return self.source.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        """The smallest span that covers this one and a later one of the same file."""
        return Span(self.source, self.start, max(self.end, other.end))

    def __repr__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"
