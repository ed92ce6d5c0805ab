"""Columns: consecutive lines of one kind are padded so that their parts stand below each other.

Alignment is local: an empty line, another kind of line or another indent ends a section, and a part that is very
long is not waited for. So an edit moves its neighbours and nothing else.
"""

from __future__ import annotations

from jamjet_dsl.syntax.format_plan import Columns

_COMMENT_COLUMN = 56
"""Where trailing comments stand when the code before them is shorter."""
_WAIT = 64
"""Parts that end beyond this column are not waited for by those of other lines."""
_WAIT_COMMENT = 88


class Line:
    """One line: tokens (their indices and texts) with the spaces before each, and a comment."""

    __slots__ = ("blank", "columns", "comment", "gaps", "indent", "texts", "tokens")

    def __init__(self, indent: int, blank: bool) -> None:
        self.indent = indent
        self.blank = blank  # an empty line stands before it
        self.tokens: list[int] = []
        self.texts: list[str] = []
        self.gaps: list[int] = []
        self.comment = ""
        self.columns: Columns | None = None

    def multiline(self) -> bool:
        """Whether a token of it holds line breaks."""
        return any("\n" in text for text in self.texts)

    def code(self) -> str:
        """The line without indent and comment."""
        return "".join(" " * gap + text for gap, text in zip(self.gaps, self.texts, strict=True))


def align(lines: list[Line]) -> str:
    """The lines as text, aligned; every line ends with a line break."""
    section: list[Line] = []
    for line in lines:
        if not line.texts:
            if line.blank:
                _pad(section)
                section = []
            continue  # a comment between lines does not part them
        same = section and line.columns and section[0].columns and line.columns.kind == section[0].columns.kind
        if not same or line.blank or line.indent != section[0].indent:
            _pad(section)
            section = []
        if line.columns:
            section.append(line)
    _pad(section)
    return _text(lines)


def _pad(section: list[Line]) -> None:
    """Widens gaps of the lines so that their columns begin below each other."""
    if len(section) < 2:
        return
    for column in range(max(len(line.columns.at) for line in section if line.columns)):
        ends: list[tuple[Line, int, int]] = []
        for line in section:
            at = line.columns.at if line.columns else ()
            if column < len(at):
                index = at[column] - line.tokens[0]
                ends.append((line, index, _end(line, index)))
        widest = max((end for _, _, end in ends if end <= _WAIT), default=0)
        for line, index, end in ends:
            if end <= widest:
                line.gaps[index] = widest - end + max(line.gaps[index], 1)


def _end(line: Line, index: int) -> int:
    """The column after the token before the given one."""
    return line.indent + sum(line.gaps[:index]) + sum(len(text) for text in line.texts[:index])


def _text(lines: list[Line]) -> str:
    out: list[str] = []
    for start, stop in _comment_sections(lines):
        codes = [" " * line.indent + line.code() if line.texts else "" for line in lines[start:stop]]
        lengths = [len(code) - code.rfind("\n") - 1 for code in codes]
        column = max([_COMMENT_COLUMN, *(length + 2 for length in lengths if length <= _WAIT_COMMENT)])
        for line, code, length in zip(lines[start:stop], codes, lengths, strict=True):
            if line.blank:
                out.append("\n")
            if not line.texts:
                out.append(f"{' ' * line.indent}{line.comment}\n")
            elif line.comment:
                out.append(f"{code}{' ' * max(column - length, 2)}{line.comment}\n")
            else:
                out.append(f"{code}\n")
    return "".join(out)


def _comment_sections(lines: list[Line]) -> list[tuple[int, int]]:
    """Ranges of lines: those that follow each other with a trailing comment make one, any other line is alone."""
    sections: list[tuple[int, int]] = []
    start = 0
    for i, line in enumerate(lines):
        trailing = bool(line.texts and line.comment)
        if i > start and (not trailing or line.blank or not lines[i - 1].texts or not lines[i - 1].comment):
            sections.append((start, i))
            start = i
    if lines:
        sections.append((start, len(lines)))
    return sections
