"""From text to tokens: one scan with one regular expression, made from the grammar's terminals.

`scan` never fails: what no terminal accepts becomes a token of kind `BAD`, and the parser's recovery says what
is wrong with it. Keywords are soft, so a word carries the kind of its keyword (`STATE`), or `FIELD` or `TARGET`
where a `:` or `=` follows, and is a plain name (`IDENT`) wherever that kind does not fit: `word_kinds` has the
order in which the kinds of a word are tried.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from jamjet_dsl.syntax.tables import tables

END = "$END"
BAD = "BAD"

MAX_DEPTH = 200
"""How deep expressions, types and brackets may be nested: later phases recurse over them."""

# A number that recovery could not read, or one that is missing, stands for whichever kind is needed.
_NUMBER_KINDS = ("ERROR_EXPR", "DURATION", "MONEY", "QUANTITY", "INT", "FLOAT", "IDENT")


class Token(NamedTuple):
    """One token. `kind` is a terminal of the grammar, `COMMENT`, `BAD`, or `$END` (empty, at the end)."""

    kind: str
    text: str
    start: int
    end: int


class Scan(NamedTuple):
    """The tokens of a text, ended by one of kind `$END`, and its comments. `bad` says that there are tokens of kind
    `BAD`. `deep` is the bracket at which the scan ended early, because brackets nest too deeply there."""

    tokens: list[Token]
    comments: list[Token]
    bad: bool
    deep: Token | None


# A comment of another language, letters and digits in one clump that is no number, a quote that is never closed, a name
# in backticks that is none, or any other character.
_BLOCK_COMMENT = r"(?P<BLOCK>/\*[\s\S]*?(?:\*/|\Z))"
_BAD = (
    r"(?P<BAD>\$?[0-9][0-9A-Za-z_]*(?:\.[0-9][0-9A-Za-z_]*)*"
    r"|[bBrR]{0,2}(?:\"\"\"|''')[\s\S]*|[bBrR]{0,2}[\"'][^\n]*"
    r"|`[^`\n]*`?|[\s\S])"
)
_NESTING = {"LBRACE": 1, "LPAR": 1, "LSQB": 1, "RBRACE": -1, "RPAR": -1, "RSQB": -1}


@lru_cache(maxsize=1)
def _scanner() -> re.Pattern[str]:
    return re.compile(rf"[ \t\r\n\f]*(?:{_BLOCK_COMMENT}|{tables().scanner}|(?P<END>\Z)|{_BAD})")


@lru_cache(maxsize=1)
def keywords() -> dict[str, str]:
    """Keyword to terminal."""
    return {text: kind for kind, text in tables().literals.items() if text[0].isalpha()}


def scan(text: str) -> Scan:
    """All tokens of the text, up to where brackets are nested more than `MAX_DEPTH` deep (or closed so often more
    than opened)."""
    tokens: list[Token] = []
    comments: list[Token] = []
    words = keywords()
    make = tuple.__new__
    append = tokens.append
    bad = False
    deep: Token | None = None
    depth = 0
    word = False  # whether the last token is a word
    for match in _scanner().finditer(text, 1 if text.startswith("\ufeff") else 0):
        kind: str = match.lastgroup  # type: ignore[assignment]  # every alternative is a named group
        start, end = match.span(kind)
        if kind == "IDENT":
            value = text[start:end]
            append(make(Token, (words.get(value, kind), value, start, end)))
            word = True
            continue
        if kind == "COMMENT":
            comments.append(make(Token, (kind, text[start:end], start, end)))
            continue
        if word:
            word = False
            if kind == "COLON" or kind == "EQUAL":
                last = tokens[-1]
                tokens[-1] = make(Token, ("FIELD" if kind == "COLON" else "TARGET", last[1], last[2], last[3]))
        if kind in _NESTING:
            depth += _NESTING[kind]
            if not -MAX_DEPTH <= depth <= MAX_DEPTH:
                deep = Token(kind, text[start:end], start, end)
                break
        elif kind == "END":
            break
        elif kind == "BAD" or kind == "BLOCK":
            bad = True
            kind = BAD
        append(make(Token, (kind, text[start:end], start, end)))
    append(Token(END, "", len(text), len(text)))
    return Scan(tokens, comments, bad, deep)


def word_kinds(token: Token) -> tuple[str, ...]:
    """The kinds a token may have, in the order in which they are tried; words have more than one."""
    kind, text = token.kind, token.text
    if kind == "BADNUM":
        return _NUMBER_KINDS
    if kind == "FIELD" or kind == "TARGET":
        keyword = keywords().get(text)
        return (kind, keyword, "IDENT") if keyword else (kind, "IDENT")
    if kind != "IDENT" and text[:1].isalpha() and text in keywords():
        return (kind, "IDENT")
    return (kind,)
