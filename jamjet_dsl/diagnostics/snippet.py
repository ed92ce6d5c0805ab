"""Lines of source with marks under them, as `rustc` draws them.

A mark within a line is underlined; one over several lines gets a bar on the left. Columns are terminal columns:
a tab goes to the next multiple of four, East Asian wide characters and emoji take two, combining marks none, and
a control character is shown as a replacement, so that no program can write to the terminal through its own
diagnostics. A line longer than the width is cut around what is marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jamjet_dsl.diagnostics.tint import tokens
from jamjet_dsl.source import SourceFile, Span

_STYLES = {
    "error": "1;31",
    "warning": "1;33",
    "info": "1;34",
    "message": "1",
    "gutter": "1;34",
    "label": "1;34",
    "why": "1",
    "help": "1;36",
    "path": "1;35",
    "declaration": "35",
    "clause": "35",
    "constant": "36",
    "type": "34",
    "string": "32",
    "money": "36",
    "number": "36",
    "comment": "2",
    "doc": "2;32",
    "arrow": "1",
}
_TAB = 4
_FAR = 512
"""Of a longer line only this many characters before and after the place that matters are looked at."""
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Paint:
    """Wraps text in the colour of a style, or leaves it as it is."""

    __slots__ = ("on",)

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, style: str, text: str) -> str:
        code = _STYLES.get(style) if self.on and text else None
        return f"\x1b[{code}m{text}\x1b[0m" if code else text


class Mark(NamedTuple):
    """A place and what to say of it. The primary one gets carets in the colour of the severity."""

    span: Span
    text: str
    primary: bool


class _Piece(NamedTuple):
    """The part of a mark that lies on one line: display columns, first and after the last."""

    start: int
    end: int
    text: str
    primary: bool


class _Bar(NamedTuple):
    """A mark over several lines and the column of its bar."""

    mark: Mark
    first: int
    last: int
    depth: int


def visible(text: str) -> str:
    """Text that came from a program, fit for a terminal: control characters are replaced, line breaks stay."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or _width(c) is not None else "\ufffd" for c in text.replace("\t", " "))


def one_line(text: str) -> str:
    """`visible` text where a line break cannot stand."""
    return visible(text).replace("\n", " ")


def _width(c: str) -> int | None:
    """Terminal columns of a character; None where it must not reach a terminal."""
    if " " <= c <= "~":
        return 1
    from unicodedata import category, east_asian_width

    kind = category(c)
    if kind in ("Cc", "Cs", "Zl", "Zp") or c in _BIDI:
        return None
    if kind in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(c) in "WF" else 1


class _Row:
    """One line as shown: its text after cutting, and where each character stands."""

    __slots__ = ("_columns", "_from", "_to", "text")

    def __init__(self, raw: str, focus: tuple[int, int], width: int, paint: Paint) -> None:
        start, stop = 0, len(raw)
        if stop > 2 * _FAR:
            start, stop = max(0, focus[0] - _FAR), min(len(raw), focus[0] + _FAR)
        cells, columns = _cells(raw[start:stop])
        low, high = _window(columns, focus[0] - start, focus[1] - start, width)
        cut_left, cut_right = start + low > 0, start + high < len(raw)
        offset = columns[low] - (1 if cut_left else 0)
        self._from, self._to = start + low, start + high
        self._columns = [c - offset for c in columns[low : high + 1]]
        shown = "".join(cells[low:high])
        if paint.on:
            shown = ""
            for first, last, kind in tokens(raw[start:stop]):
                shown += paint(kind, "".join(cells[max(first, low) : min(last, high)]))
        self.text = ("…" if cut_left else "") + shown + ("…" if cut_right else "")

    def column(self, index: int) -> int:
        """The display column of a character of the line; the nearest shown one where it was cut off."""
        return self._columns[min(max(index, self._from), self._to) - self._from]


def _cells(text: str) -> tuple[list[str], list[int]]:
    """How each character is shown and the display column where it starts; one column more for the end."""
    if text.isascii() and text.isprintable():
        return list(text), list(range(len(text) + 1))
    cells, columns = [], [0]
    for c in text:
        at = columns[-1]
        if c == "\t":
            step = _TAB - at % _TAB
            cells.append(" " * step)
            columns.append(at + step)
            continue
        width = _width(c)
        cells.append(c if width is not None else "\ufffd")
        columns.append(at + (1 if width is None else width))
    return cells, columns


def _window(columns: list[int], first: int, last: int, width: int) -> tuple[int, int]:
    """Which characters are shown, as a half-open range that holds `first` and as much as fits."""
    end = len(columns) - 1
    if columns[end] <= width:
        return 0, end
    room = max(width - 2, 8)  # the two ellipses
    first, last = min(max(first, 0), end), min(max(last, 0), end)
    low = 0
    if columns[last] > room - room // 6:
        spare = max(room - (columns[last] - columns[first]), room // 3)
        while columns[first] - columns[low] > spare * 2 // 3:
            low += 1
    high = low
    while high < end and columns[high + 1] - columns[low] <= room:
        high += 1
    return low, high


def render_snippet(marks: Sequence[Mark], severity: str, gutter: int, width: int, paint: Paint) -> list[str]:
    """The marked lines of one file with their marks, in rows without line breaks. `gutter` is the width of the
    line numbers. All marks are of the same file."""
    source = marks[0].span.source
    singles: dict[int, list[Mark]] = {}
    bars: list[_Bar] = []
    for mark in sorted(marks, key=lambda m: (m.span.start, -m.span.end)):
        first, last = mark.span.line, _last_line(mark.span)
        if first == last:
            singles.setdefault(first, []).append(mark)
        else:
            bars.append(_Bar(mark, first, last, _free_depth(bars, first)))
    drawing = _Drawing(source, bars, severity, gutter, width, paint)
    before = 0
    rows = [drawing.blank(0)]
    for line in _shown_lines(source, singles, bars):
        if before and line > before + 1:
            rows.append(drawing.gap(before))
        rows += drawing.line(line, singles.get(line, []))
        before = line
    return rows


def _last_line(span: Span) -> int:
    """The last line that holds a character of the span: a break at its end belongs to the line it ends."""
    end = max(span.start, span.end - 1) if span.text.endswith("\n") else span.end
    return span.source.line_column(end)[0]


def _free_depth(bars: list[_Bar], first: int) -> int:
    """The leftmost bar column that no bar which is still open on line `first` uses."""
    taken = {bar.depth for bar in bars if bar.last >= first}
    depth = 0
    while depth in taken:
        depth += 1
    return depth


def _shown_lines(source: SourceFile, singles: dict[int, list[Mark]], bars: list[_Bar]) -> list[int]:
    """Marked lines, the ends of bars with a line of their inside, and single lines between two shown ones."""
    wanted = set(singles)
    for bar in bars:
        wanted |= {bar.first, bar.last, bar.first + 1, bar.last - 1}
    for line in tuple(wanted):
        if line > 1 and not source.line_text(line).strip():
            # A mark on an empty line, such as the end of the file, tells more below the text before it.
            above = line - 1
            while above > 1 and line - above < 4 and not source.line_text(above).strip():
                above -= 1
            wanted.add(above)
    wanted |= {line + 1 for line in wanted if line + 2 in wanted}
    return sorted(wanted)


class _Drawing:
    """Draws the lines of one file."""

    __slots__ = ("_bars", "_gutter", "_margin", "_paint", "_severity", "_source", "_width")

    def __init__(
        self, source: SourceFile, bars: list[_Bar], severity: str, gutter: int, width: int, paint: Paint
    ) -> None:
        self._source = source
        self._bars = bars
        self._severity = severity
        self._gutter = gutter
        self._margin = 2 * (1 + max((bar.depth for bar in bars), default=-1))
        self._width = max(width - gutter - 3 - self._margin, 16)
        self._paint = paint

    def blank(self, line: int) -> str:
        """A row without source."""
        return self._row("", {}, line).rstrip()

    def gap(self, line: int) -> str:
        """Stands for lines that are left out after `line`; bars that are open go on through it."""
        margin = self._margin_text({b.depth: "|" for b in self._bars if b.first <= line < b.last}, line)
        return (self._paint("gutter", "...") + " " * self._gutter + margin).rstrip()

    def line(self, line: int, marks: list[Mark]) -> list[str]:
        """A line of source and the rows under it."""
        starts = [b for b in self._bars if b.first == line]
        ends = [b for b in self._bars if b.last == line]
        raw = self._source.line_text(line).rstrip()
        places = [(*self._columns(m, line), m.primary) for m in (*marks, *(b.mark for b in (*starts, *ends)))]
        first, last, _ = min(places, key=lambda p: (not p[2], p[0]), default=(0, 0, False))
        row = _Row(raw, (first, last), self._width, self._paint)
        indent = len(raw) - len(raw.lstrip())
        slanted = [b for b in starts if self._columns(b.mark, line)[0] <= indent]
        open_bars = {b.depth: "|" for b in self._bars if b.first < line <= b.last}
        number = self._paint("gutter", f"{line:>{self._gutter}} |")
        head = self._margin_text(open_bars | {b.depth: "/" for b in slanted}, line)
        rows = [f"{number} {head}{row.text}".rstrip()]
        open_bars |= {b.depth: "|" for b in slanted}
        pieces = [self._piece(m, line, row) for m in marks]
        rows += [self._row(text, open_bars, line) for text in self._underlines(pieces)]
        for bar in sorted(ends, key=lambda b: -b.depth):
            at = max(row.column(self._columns(bar.mark, line)[1]) - 1, 0)
            rows.append(self._elbow(bar, at, open_bars, bar.mark.text, line))
            del open_bars[bar.depth]
        for bar in starts:
            if bar not in slanted:
                at = row.column(self._columns(bar.mark, line)[0])
                rows.append(self._elbow(bar, at, open_bars, "", line))
                open_bars[bar.depth] = "|"
        return rows

    def _columns(self, mark: Mark, line: int) -> tuple[int, int]:
        """First character of the mark on this line and the one after its last, as indices into the line."""
        span, text = mark.span, self._source.line_text(line)
        start = span.column - 1 if span.line == line else 0
        end = span.end_column - 1 if span.end_line == line else len(text)
        return min(start, len(text)), min(end, len(text))

    def _piece(self, mark: Mark, line: int, row: _Row) -> _Piece:
        first, last = self._columns(mark, line)
        start = row.column(first)
        return _Piece(start, max(row.column(last), start + 1), mark.text, mark.primary)

    def _style(self, primary: bool) -> str:
        return self._severity if primary else "label"

    def _margin_text(self, bars: dict[int, str], line: int, depths: int | None = None) -> str:
        """The columns of the bars, the first `depths` of them or all."""
        text = ""
        for depth in range(self._margin // 2 if depths is None else depths):
            char = bars.get(depth, " ")
            primary = any(b.depth == depth and b.mark.primary and b.first <= line <= b.last for b in self._bars)
            text += (self._paint(self._style(primary), char) if char != " " else char) + " "
        return text

    def _row(self, text: str, bars: dict[int, str], line: int) -> str:
        start = " " * (self._gutter + 1) + self._paint("gutter", "|")
        return f"{start} {self._margin_text(bars, line)}{text}".rstrip()

    def _elbow(self, bar: _Bar, at: int, bars: dict[int, str], text: str, line: int) -> str:
        """The row that joins a bar with the character at display column `at`."""
        style = self._style(bar.mark.primary)
        left = self._margin_text(bars, line, bar.depth)  # what lies right of the bar is crossed by the line
        corner = "|" if bar.depth in bars else " "
        run = "_" * (self._margin - 2 * bar.depth - 1 + at)
        tip = "^" if bar.mark.primary else "-"
        start = " " * (self._gutter + 1) + self._paint("gutter", "|")
        tail = f" {text}" if text else ""
        return f"{start} {left}" + self._paint(style, f"{corner}{run}{tip}{tail}")

    def _underlines(self, pieces: list[_Piece]) -> list[str]:
        """The rows under a line: marks, and labels that hang from them where they do not fit beside."""
        if not pieces:
            return []
        canvas = _Canvas()
        for piece in sorted(pieces, key=lambda p: p.primary):
            canvas.put(0, piece.start, ("^" if piece.primary else "-") * (piece.end - piece.start), piece.primary)
        labelled = sorted((p for p in pieces if p.text), key=lambda p: (p.start, p.end))
        if labelled:
            last = labelled[-1]
            if all(p is last or p.end <= last.start for p in pieces):
                labelled.pop()
                canvas.put(0, last.end + 1, last.text, last.primary)
        depth = 1
        for i, piece in enumerate(reversed(labelled)):
            depth = 2 if i == 0 else depth + 1
            for above in range(1, depth):
                if canvas.free(above, piece.start):
                    canvas.put(above, piece.start, "|", piece.primary)
            canvas.put(depth, piece.start, piece.text, piece.primary)
        return canvas.rows(self._paint, self._style(True), self._style(False))


class _Canvas:
    """Rows of characters, each primary or secondary, written over one another."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: list[list[tuple[str, bool]]] = []

    def put(self, row: int, column: int, text: str, primary: bool) -> None:
        """Writes text at a display column; wide characters take their columns."""
        while len(self._rows) <= row:
            self._rows.append([])
        cells = self._rows[row]
        at = column
        for c in text:
            width = _width(c)
            width = 1 if width is None else width
            if width == 0 and cells and at > column:
                cells[at - 1] = (cells[at - 1][0] + c, primary)
                continue
            cells += [(" ", False)] * (at + width - len(cells))
            cells[at] = (c, primary)
            for extra in range(1, width):
                cells[at + extra] = ("", primary)
            at += width

    def free(self, row: int, column: int) -> bool:
        """Whether nothing is written there yet."""
        return row >= len(self._rows) or column >= len(self._rows[row]) or self._rows[row][column][0] == " "

    def rows(self, paint: Paint, primary: str, secondary: str) -> list[str]:
        """The rows as text, runs of one style painted together."""
        out = []
        for cells in self._rows:
            text, run, style = "", "", ""
            for char, is_primary in cells:
                now = style if char in ("", " ") else primary if is_primary else secondary
                if now != style:
                    text += paint(style, run)
                    run, style = "", now
                run += char
            out.append(text + paint(style, run))
        return out
