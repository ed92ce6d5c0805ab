"""What a layout is made of: gaps, the groups that break them, and columns.

A *gap* is what stands before a token: gap `i` before token `i`. It has a width when it does not break, and at most
one group that may break it. Groups nest like the constructs they belong to; `format` decides which of them break.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from jamjet_dsl.syntax.format_tree import Cst, Tree


class Style(Enum):
    """How a group breaks once it does not stay on its line."""

    BLOCK = "block"
    """`{ }` of clauses: the braces break, then clauses do where the author broke them, where they must, and where
    they do not fit. What was all on one line gets a line for each."""
    EACH = "each"
    """All gaps break."""
    FILL = "fill"
    """Brackets break, then what does not fit on a line."""
    FLOW = "flow"
    """No brackets: gaps break where the author broke them and where the rest does not fit."""


class Group:
    """Gaps that belong together; `delta` is the indent of what follows a break against the line it began on."""

    __slots__ = (
        "always",
        "base",
        "broken",
        "closed",
        "delta",
        "first",
        "gaps",
        "last",
        "lead",
        "rigid",
        "spread",
        "style",
        "wide",
    )

    def __init__(self, style: Style, first: int, last: int, gaps: list[int], delta: int = 2) -> None:
        self.style = style
        self.first = first
        self.last = last
        self.gaps = gaps
        self.delta = delta
        self.closed = False  # the last gap is a closing bracket, which goes back to the indent of the first line
        self.always = False  # never on one line
        self.rigid = style is Style.BLOCK  # breaks if anything does between its ends
        self.wide = False  # after a break, its gaps are two spaces wide
        self.lead = -1  # the gap that breaks first where the author broke none
        self.base = 0  # set while laying out: the indent of the line it began on
        self.broken = False
        self.spread = False  # every gap breaks


class Columns:
    """A clause that is aligned with its neighbours of the same kind: the tokens at which its columns begin."""

    __slots__ = ("at", "kind", "last")

    def __init__(self, kind: str, last: int, at: tuple[int, ...]) -> None:
        self.kind = kind
        self.last = last
        self.at = at


class Plan:
    """What the rules say of each gap of a program."""

    __slots__ = ("columns", "groups", "must", "owner", "space", "tree")

    def __init__(self, tree: Tree) -> None:
        n = len(tree.tokens)
        self.tree = tree
        self.space = _default_spaces([t.text for t in tree.tokens])
        self.owner: list[Group | None] = [None] * n
        self.must: set[int] = set()  # gaps that break whenever their group does
        self.groups: list[Group] = []
        self.columns: dict[int, Columns] = {}

    def text(self, i: int) -> str:
        """The text of a token."""
        return self.tree.tokens[i].text

    def group(self, style: Style, first: int, last: int, gaps: Iterable[int], delta: int = 2) -> Group | None:
        """Adds a group that owns those of the gaps that nothing inside it owns; None if it owns none."""
        own = sorted({gap for gap in gaps if self.owner[gap] is None and first < gap <= last})
        if not own:
            return None
        made = Group(style, first, last, own, delta)
        for gap in own:
            self.owner[gap] = made
        self.groups.append(made)
        return made

    def bracket(self, style: Style, opening: int, items: Iterable[int]) -> Group | None:
        """A group of a bracket pair whose items begin at these tokens."""
        closing = self.tree.match[opening]
        made = self.group(style, opening, closing, [*items, closing])
        if made:
            made.closed = True
        return made

    def after_commas(self, first: int, last: int) -> list[int]:
        """The tokens after the commas in a range, those inside brackets left out."""
        found = []
        i = first
        while i <= last:
            text = self.text(i)
            if text in ("(", "[", "{"):
                i = self.tree.match[i]
            elif text == ",":
                found.append(i + 1)
            i += 1
        return found

    def keyword_before(self, node: Cst) -> int:
        """The token before a node and the parentheses around it."""
        i = node.first - 1
        while self.text(i) == "(":
            i -= 1
        return i

    def token_after(self, node: Cst) -> int:
        """The token after a node and the parentheses around it."""
        i = node.last + 1
        while self.text(i) == ")":
            i += 1
        return i


_NONE_BEFORE = frozenset({",", ")", "]", ":", ".", "..", "%", "$END"})
NONE_AFTER = frozenset({"(", "[", ".", "..", "!"})


def _default_spaces(texts: list[str]) -> list[int]:
    spaces = [1] * len(texts)
    spaces[0] = 0
    for i in range(1, len(texts)):
        if texts[i] in _NONE_BEFORE or texts[i - 1] in NONE_AFTER:
            spaces[i] = 0
    return spaces
