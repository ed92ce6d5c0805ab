"""A Pygments lexer for `.jam` programs: documentation, notebooks and terminals colour them with it.

Registered as `jam` by the entry point `pygments.lexers`. The words are those of `diagnostics.tint`, which a test
holds against the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from pygments.lexer import Lexer
from pygments.token import (
    Comment,
    Error,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Whitespace,
    _TokenType,
)

from jamjet_dsl.diagnostics import tint

_CLASSES: dict[str, _TokenType] = {
    "space": Whitespace,
    "doc": String.Doc,
    "comment": Comment.Single,
    "string": String,
    "money": Number,
    "number": Number,
    "declaration": Keyword.Declaration,
    "clause": Keyword,
    "constant": Keyword.Constant,
    "type": Keyword.Type,
    "name": Name,
    "field": Name.Attribute,
    "quoted": Name,
    "arrow": Operator,
    "operator": Operator,
    "punctuation": Punctuation,
    "other": Error,
}
_IN_STRING = re.compile(r"(?P<brace>\{\{|\}\})|(?P<placeholder>\{[A-Za-z_][A-Za-z0-9_.]*\})|(?P<escape>\\.)", re.DOTALL)


class JamLexer(Lexer):  # type: ignore[misc]  # Pygments has no types
    """Lexer for the `.jam` language. It never fails; what is no token of the language becomes `Error`."""

    name = "Jam"
    aliases: ClassVar[list[str]] = ["jam"]
    filenames: ClassVar[list[str]] = ["*.jam"]
    mimetypes: ClassVar[list[str]] = ["text/x-jam"]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, _TokenType, str]]:
        """`(index, token type, value)` of the whole text, in order and without gaps."""
        for start, end, kind in tint.tokens(text):
            value = text[start:end]
            if kind == "string":
                yield from _string(start, value)
            else:
                yield start, _CLASSES[kind], value


def _string(start: int, value: str) -> Iterator[tuple[int, _TokenType, str]]:
    """A string literal, its placeholders and escapes apart. A raw one and bytes have neither."""
    prefix = value[: len(value) - len(value.lstrip("bBrR"))]
    at = 0
    for match in _IN_STRING.finditer(value) if not prefix else ():
        if match.start() > at:
            yield start + at, String, value[at : match.start()]
        yield (
            start + match.start(),
            String.Interpol if match.lastgroup == "placeholder" else String.Escape,
            match.group(),
        )
        at = match.end()
    if at < len(value):
        yield start + at, String, value[at:]
