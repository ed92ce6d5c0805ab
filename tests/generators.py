"""Random programs, straight from the grammar: whatever it can derive, with space and comments anywhere.

`program(random)` makes one from a `random.Random`; `programs()` is the Hypothesis strategy. The programs are
syntactically valid but mean nothing: names are not declared and types do not fit. Nothing is listed here but texts
for the terminals, so a new construct of the grammar is generated as soon as it is there.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from hypothesis import strategies as st

from jamjet_dsl.syntax.tables import grammar_text

_NAMES = [
    "alpha",
    "beta",
    "order",
    "report",
    "Report",
    "item_1",
    "Receipt",
    "very_long_name_of_something",
    "_p",
    "`model`",
]
_SOFT = ["state", "steps", "call", "all", "reads", "max", "final", "test"]
_SAMPLES = {
    "IDENT": _NAMES,
    "FIELD": [*_NAMES, *_SOFT],
    "TARGET": [*_NAMES, *_SOFT],
    "QNAME": ["`content-type`"],
    "MONEY": ["$1", "$50_000", "$0.10", "1.50 EUR", "3\tUSD"],
    "DURATION": ["2s", "30m", "48h", "7d", "250ms"],
    "QUANTITY": ["20k", "1M"],
    "UINT": ["7u", "0xFFu"],
    "FLOAT": ["1.5", ".5", "2e3", "1.0e-3"],
    "INT": ["1", "25", "720", "0x1F", "1_000"],
    "STRING": [
        '"text"',
        "'single'",
        '"a \\"quoted\\" // not a comment"',
        '"for {alpha} and {order.id}"',
        'r"^\\d+$"',
        '"""three\n  lines // of\ntext"""',
        "'''x\n'''",
        '"日本 👍"',
        '"a sentence that is long enough to make the line it stands in too long for the width"',
    ],
    "BYTES": ['b"\\x00"', "b'abc'"],
}
_SPACES = [" "] * 12 + ["  ", "\t", "\n", "\n", "\n\n", "\n\n\n  \t\n", "\r\n", "\f", " \n    "]
_COMMENTS = [
    " // why\n",
    "\n// a line of its own\n",
    "\n\n  // after an empty line\n\n",
    " //\n",
    "\n/// a doc comment\n",
    "//tight\n//twice\n",
    " // x   \r\n",
    "\n// jam: ignore JAM107 because it is generated\n",
]
_NOTHING_BESIDE = frozenset("(){}[],:")


class Grammar:
    """The rules of the grammar as plain alternatives, with the depth that each needs at least."""

    def __init__(self) -> None:
        from lark import Lark

        lark = Lark(grammar_text(), start=["start", "expression"], parser="lalr", maybe_placeholders=True)
        self.literals: dict[str, str] = {
            t.name: t.pattern.value for t in lark.terminals if type(t.pattern).__name__ == "PatternStr"
        }
        self.rules: dict[str, list[list[Any]]] = {}
        for rule in lark.rules:
            if not any(symbol.name == "ERROR_EXPR" for symbol in rule.expansion):
                self.rules.setdefault(rule.origin.name, []).append(list(rule.expansion))
        self.depth: dict[str, int] = {}
        changed = True
        while changed:
            changed = False
            for name, expansions in self.rules.items():
                found = min((self.needed(e) for e in expansions), default=_ENDLESS)
                if found < self.depth.get(name, _ENDLESS):
                    self.depth[name] = found
                    changed = True

    def needed(self, expansion: list[Any]) -> int:
        """The least depth of anything an alternative derives."""
        return 1 + max((0 if s.is_term else self.depth.get(s.name, _ENDLESS) for s in expansion), default=0)


_ENDLESS = 10**6


@cache
def grammar() -> Grammar:
    """The grammar, loaded once."""
    return Grammar()


def tokens(rng: random.Random, start: str = "start", depth: int = 30) -> list[str]:
    """The token texts of a random derivation. Beyond `depth` it takes the nearest way to an end."""
    known = grammar()
    out: list[str] = []
    todo: list[tuple[Any, str, int]] = [(None, start, depth)]
    while todo:
        terminal, name, left = todo.pop()
        if terminal:
            out.append(_sample(rng, terminal, name, known))
            continue
        alternatives = known.rules[name]
        fitting = [e for e in alternatives if known.needed(e) <= left]
        if len(out) > 3000 or not fitting:
            least = min(map(known.needed, alternatives))
            fitting = [e for e in alternatives if known.needed(e) == least]
        expansion = rng.choice(fitting)
        for symbol in reversed(expansion):
            todo.append((symbol.name if symbol.is_term else None, name if symbol.is_term else symbol.name, left - 1))
    return [text for text in out if text]


def _sample(rng: random.Random, terminal: str, rule: str, known: Grammar) -> str:
    if terminal in known.literals:
        return known.literals[terminal]
    if terminal == "$END":
        return ""
    if rule in ("language", "agent", "migration") and terminal == "INT":
        return "1"
    if rule == "warn_at" and terminal == "INT":
        return "80"
    if terminal == "IDENT" and rng.random() < 0.02:
        return rng.choice(_SOFT)
    return rng.choice(_SAMPLES[terminal])


def spaced(rng: random.Random, texts: list[str], comments: float = 0.05) -> str:
    """The tokens with random space between them, and comments in that share of the gaps."""
    parts: list[str] = []
    before = ""
    for text in texts:
        if rng.random() < comments:
            parts.append(" " * (before == "/") + rng.choice(_COMMENTS))  # `///` would be another comment
        elif (before in _NOTHING_BESIDE or text in _NOTHING_BESIDE) and rng.random() < 0.4:
            pass
        elif before:
            parts.append(rng.choice(_SPACES))
        parts.append(text)
        before = text
    parts.append(rng.choice(["", "\n", "\n\n", " // the end", "\n// the end\n"]))
    return "".join(parts)


def program(rng: random.Random, comments: float = 0.05, depth: int = 30) -> str:
    """The text of a random program."""
    return spaced(rng, tokens(rng, "start", depth), comments)


def programs(comments: float = 0.05) -> st.SearchStrategy[str]:
    """Random programs for Hypothesis, which reproduces a failure by its seed."""
    return st.integers(0, 2**32).map(lambda seed: program(random.Random(seed), comments))
