"""`jam fmt`: one layout for every program.

The rules, as the specification's chapter on layout states them: two spaces of indent; lines of at most 110 columns
where the program allows it; a line break that the author made between clauses, list items or before an operator
stays; everything else about spaces and breaks follows from the construct. Consecutive edges, declarations and
clauses are aligned, trailing comments stand in column 57. At most one empty line stays, and none at the edges of a
block. Comments stay where they were: in lines of their own, or after the token they followed.

Tokens are never added, dropped or changed, so a program means the same, and has the same digest, before and after;
this is verified on each run. Formatting twice is formatting once.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax.format_align import Line, align
from jamjet_dsl.syntax.format_plan import Group, Plan, Style
from jamjet_dsl.syntax.format_rules import make_plan
from jamjet_dsl.syntax.format_tree import concrete_tree
from jamjet_dsl.syntax.lexer import Scan, Token, scan
from jamjet_dsl.syntax.parser import parse

WIDTH = 110
"""Columns that a line may take."""


class Formatted(NamedTuple):
    """The program in its canonical layout; where it has syntax errors, these and the text as it was."""

    text: str
    diagnostics: list[Diagnostic]


def format_program(source: SourceFile) -> Formatted:
    """A program in canonical layout, ended by one line break; an empty text stays empty.

    A program with syntax errors is not touched: its text comes back with the errors.
    """
    errors = [d for d in parse(source).diagnostics if d.severity == "error"]
    if errors:
        return Formatted(source.text, errors)
    return Formatted(_format(source.text), [])


def format_source(text: str, name: str = "<stdin>") -> str:
    """The canonical layout of a program. Raises `JamError` JAMR004 if it has syntax errors."""
    made = format_program(SourceFile(name, text))
    if made.diagnostics:
        problems = tuple(f"{d.span!r}: {d.message}" for d in made.diagnostics)
        raise JamError("JAMR004", f"`{name}` has syntax errors and was not formatted", "fix them first", problems)
    return made.text


def _format(text: str) -> str:
    found = scan(text)
    tree = concrete_tree(found.tokens)
    if tree is None:
        raise JamError("JAMR901", "the formatter does not accept a program that the parser accepts")
    lines = _Layout(text, found, make_plan(tree)).lines()
    made = align(lines)
    again = scan(made)
    if [t.text for t in again.tokens] != [t.text for t in found.tokens] or _texts(again) != _texts(found):
        raise JamError("JAMR901", "formatting would have changed the program; nothing was written")
    return made


def _texts(found: Scan) -> list[str]:
    return [comment.text.rstrip() for comment in found.comments]


class _Layout:
    """Lays out one program: goes through its tokens once and decides each gap."""

    def __init__(self, text: str, found: Scan, plan: Plan) -> None:
        self._text = text
        self._tokens = found.tokens
        self._plan = plan
        self._comments = _by_gap(found)
        n = len(found.tokens)
        self._forced = self._forced_gaps()
        # The first forced gap and the first gap that opens a block, from i on.
        self._next_forced = [n] * (n + 1)
        self._next_block = [n] * (n + 1)
        for i in range(n - 1, -1, -1):
            self._next_forced[i] = i if self._forced[i] else self._next_forced[i + 1]
            group = plan.owner[i]
            opens = group is not None and group.style is Style.BLOCK and group.first == i - 1
            self._next_block[i] = i if opens else self._next_block[i + 1]
        # `_hard_before[i]` counts what forces blocks open before i, `_width_before[i]` the columns of all on one line.
        self._hard_before = [0] * (n + 1)
        self._width_before = [0] * (n + 1)
        for i, token in enumerate(found.tokens):
            multiline = "\n" in token.text
            self._hard_before[i + 1] = self._hard_before[i] + (self._forced[i] or multiline)
            length = token.text.index("\n") if multiline else len(token.text)
            self._width_before[i + 1] = self._width_before[i] + plan.space[i] + length
        self._stack: list[Group] = []
        self._lines: list[Line] = []
        self._line = Line(0, False)
        self._column = 0

    def _forced_gaps(self) -> list[bool]:
        """Gaps that break whatever fits: after a comment, and where a group keeps a break that the author made."""
        forced = [False] * len(self._tokens)
        tokens, plan, text = self._tokens, self._plan, self._text
        for i in range(1, len(tokens)):
            if i in self._comments:
                forced[i] = True
            elif "\n" in text[tokens[i - 1].end : tokens[i].start]:
                if plan.owner[i] is not None:
                    forced[i] = True
                else:
                    before = plan.owner[i - 1]
                    # A break after an operator is kept as one before it.
                    if before is not None and before.style is Style.EACH and not before.closed:
                        forced[i - 1] = True
        return forced

    def lines(self) -> list[Line]:
        """The lines of the program, not yet aligned."""
        tokens, plan = self._tokens, self._plan
        groups = plan.groups
        at_group = 0
        for i, token in enumerate(tokens):
            while self._stack and self._stack[-1].last < i:
                self._stack.pop()
            self._gap(i)
            while at_group < len(groups) and groups[at_group].first == i:
                self._enter(groups[at_group])
                at_group += 1
            if token.text:
                self._put(i, token)
        self._finish()
        return self._lines

    def _put(self, i: int, token: Token) -> None:
        self._line.tokens.append(i)
        self._line.texts.append(token.text)
        cut = token.text.rfind("\n")
        self._column = self._column + len(token.text) if cut < 0 else len(token.text) - cut - 1

    def _finish(self) -> None:
        if self._line.texts or self._line.comment:
            columns = self._plan.columns.get(self._line.tokens[0]) if self._line.tokens else None
            if columns is not None and columns.last == self._line.tokens[-1] and not self._line.multiline():
                self._line.columns = columns
            self._lines.append(self._line)

    def _gap(self, i: int) -> None:
        """What stands before token i: nothing, spaces, or comments and a new line."""
        comments = self._comments.get(i)
        group = self._plan.owner[i]
        if not comments and i and not (group is not None and group.broken and self._breaks(group, i)):
            space = self._space(group, i)
            self._line.gaps.append(space)
            self._column += space
            return
        inside, outside = self._indents(group, i)
        end = self._tokens[i - 1].end if i else 0
        first = i == 0 or (group is not None and group.closed and i == group.first + 1)
        blank = group is not None and group.style is Style.BLOCK
        for comment in comments or ():
            between = self._text[end : comment.start]
            if i and end == self._tokens[i - 1].end and "\n" not in between:
                self._line.comment = comment.text.rstrip()
            else:
                self._break(inside, (blank or not i) and not first and between.count("\n") > 1)
                self._line.comment = comment.text.rstrip()
                first = False
            end = comment.end
        if i == 0 and not comments:
            self._line.gaps.append(0)
            return
        closing = group is not None and i == group.gaps[-1] and (group.closed or self._tokens[i].text == "")
        between = self._text[end : self._tokens[i].start]
        self._break(outside, (blank or not i) and not first and not closing and between.count("\n") > 1)
        self._line.gaps.append(0)

    def _break(self, indent: int, blank: bool) -> None:
        self._finish()
        self._line = Line(indent, blank and bool(self._lines))
        self._column = indent

    def _indents(self, group: Group | None, i: int) -> tuple[int, int]:
        """The indents of comments in a gap and of the token after it."""
        if group is not None:
            inside = group.base + group.delta
            return inside, group.base if group.closed and i == group.gaps[-1] else inside
        # Only brackets count here: whether a flow breaks at all may change with this very comment.
        for outer in reversed(self._stack):
            if outer.broken and (outer.closed or outer.style is Style.BLOCK):
                return (outer.base + outer.delta + 2,) * 2
        return 0, 0

    def _space(self, group: Group | None, i: int) -> int:
        return 2 if group is not None and group.wide and group.spread else self._plan.space[i]

    def _enter(self, group: Group) -> None:
        """Decides whether a group breaks, at the column where it begins."""
        group.base = self._line.indent
        group.spread = False
        kept = any(self._forced[gap] for gap in group.gaps)
        inside = self._hard_before[group.gaps[-1] + 1] - self._hard_before[group.first + 1] if group.rigid else 0
        group.broken = group.always or kept or inside > 0 or not self._fits(group.first, group.last, self._column)
        group.spread = group.style is Style.BLOCK and group.broken and not kept
        if kept:
            group.lead = -1
        self._stack.append(group)

    def _breaks(self, group: Group, i: int) -> bool:
        """Whether a broken group breaks in its gap i."""
        broken = self._forced[i] or i == group.lead or self._always_breaks(group, i)
        if not broken:
            at = bisect_right(group.gaps, i)
            last = group.gaps[at] - 1 if at < len(group.gaps) else group.last
            broken = not self._fits(i, last, self._column + self._space(group, i), whole=at >= len(group.gaps))
        if broken and group.wide:
            group.spread = True  # from here on its gaps are wide
        return broken

    def _always_breaks(self, group: Group, i: int) -> bool:
        match group.style:
            case Style.EACH:
                return True
            case Style.FLOW:
                return False
            case Style.FILL:
                return i in (group.gaps[0], group.gaps[-1])
            case Style.BLOCK:
                braces = i in (group.gaps[0], group.gaps[-1])
                return braces or group.spread or i in self._plan.must or not group.closed

    def _fits(self, first: int, last: int, column: int, whole: bool = True) -> bool:
        """Whether tokens fit on the line from a column on, up to the first break that is sure to come. With `whole`,
        what follows them up to the next place where a line may break has to fit too."""
        forced = self._next_forced[first + 1]
        if forced > last and whole:
            stop = min(forced, self._next_block[last + 1])
            for group in self._stack:
                if group.broken:
                    stop = min(stop, self._next_gap(group, last))
        else:
            stop = min(forced, last + 1)
        before = self._width_before
        return column + before[stop] - before[first] - self._plan.space[first] <= WIDTH

    def _next_gap(self, group: Group, after: int) -> int:
        at = bisect_right(group.gaps, after)
        return group.gaps[at] if at < len(group.gaps) else len(self._tokens)


def _by_gap(found: Scan) -> dict[int, list[Token]]:
    """The comments before each token, by its index."""
    gaps: dict[int, list[Token]] = {}
    i = 0
    for comment in found.comments:
        while found.tokens[i].start < comment.start:
            i += 1
        gaps.setdefault(i, []).append(comment)
    return gaps
