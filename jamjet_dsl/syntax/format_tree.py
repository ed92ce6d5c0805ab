"""The concrete tree that the formatter works on: every reduction of the grammar with the tokens it covers.

The syntax tree forgets which token a keyword was and drops parentheses; a layout needs just these. So the parser's
machine runs once more with a builder that makes one plain node of each reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jamjet_dsl.syntax.driver import Driver
from jamjet_dsl.syntax.lexer import Token

_OPEN = {"(": ")", "[": "]", "{": "}"}
_CLOSE = {")", "]", "}"}


class Cst:
    """A reduction: the name of its builder function, its first and last token, and what it was made of.

    `kids` holds the nodes and the named terminals (as indices of tokens) in order, without what was absent. An
    expression in parentheses stands there without them.
    """

    __slots__ = ("first", "kids", "last", "name")

    def __init__(self, name: str, first: int, last: int, kids: list[Cst | int]) -> None:
        self.name = name
        self.first = first
        self.last = last
        self.kids = kids

    def nodes(self) -> list[Cst]:
        """The kids that are nodes."""
        return [kid for kid in self.kids if isinstance(kid, Cst)]

    def words(self) -> list[int]:
        """The kids that are tokens."""
        return [kid for kid in self.kids if isinstance(kid, int)]


class Tree:
    """All nodes of a program, inner ones first; the last is the program. `match` pairs brackets both ways."""

    __slots__ = ("match", "nodes", "tokens")

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.nodes: list[Cst] = []
        self.match: dict[int, int] = {}
        opened: list[int] = []
        for i, token in enumerate(tokens):
            if token.text in _OPEN:
                opened.append(i)
            elif token.text in _CLOSE and opened:
                start = opened.pop()
                self.match[start], self.match[i] = i, start


class _Builder:
    """Answers to the name of every rule with a function that makes a node."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._starts = {token.start: i for i, token in enumerate(tree.tokens)}
        self._ends = {token.end: i for i, token in enumerate(tree.tokens[:-1])}

    def __getattr__(self, name: str) -> Callable[[list[Any], int, int], Cst | None]:
        starts, ends, add = self._starts, self._ends, self._tree.nodes.append

        def make(values: list[Any], begin: int, end: int) -> Cst | None:
            if end <= begin and name != "start":
                return None  # an optional part that is absent
            kids: list[Cst | int] = []
            for value in values:
                if type(value) is Cst:
                    kids.append(value)
                elif type(value) is Token:
                    kids.append(starts[value.start])
                elif type(value) is list:
                    kids += [starts[v.start] if type(v) is Token else v for v in value if v is not None]
            node = Cst(name, starts[begin], ends.get(end, starts[begin]), kids)
            add(node)
            return node

        return make


def concrete_tree(tokens: list[Token]) -> Tree | None:
    """The tree of the tokens of a program (ended by `$END`, without comments), or None if it does not parse."""
    tree = Tree(tokens)
    return tree if Driver(tokens, "start", _Builder(tree)).run() else None
