"""The lexical classes of the language as one regular expression: enough to colour a line, without a grammar.

It serves the coloured source lines of diagnostics and the Pygments lexer; a test holds the words against the
grammar. It never fails: what is no token is a one-character `other`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

# ruff: noqa: SIM905 (lists of words read best as text)

DECLARATIONS = frozenset(
    "agent branch budget check const emits enum event fact final finally fn import input language model output "
    "parallel policy record state test tool var failed".split()
)
"""Words that begin a part with a name of its own."""

CLAUSES = frozenset(
    "a active after all allow always answer answers any approval approved approves as ask at backoff because before "
    "bounded by call calls cancel collect confirm cost cycle denied each effect else emit ends error every exceeded "
    "expect flat for forbid from given in in_doubt irreversible is jitter join key limit max migrate mock never no "
    "not of on once options or otherwise out passes path per price prompt proposed raises reachable reads redact "
    "remind require reserve retry returns role run set show skip start steps temperature then think time timeout "
    "times to tokens tools total twice undo unless until via version wait warn when with within without writes x "
    "yields secret untrusted".split()
)
"""Words that begin or link the clauses of a part. They are soft: elsewhere they are names."""

CONSTANTS = frozenset({"true", "false", "null"})

TYPES = frozenset(
    "bool int uint float string bytes decimal money duration timestamp any list map conversation Move ToolCall "
    "file dyn type".split()
)
"""Names of the types that the language has of its own."""

_PATTERN = r"""
  (?P<space>[ \t\r\n\f]+)
| (?P<doc>///[^\n]*)
| (?P<comment>//[^\n]*)
| (?P<string>[bBrR]{0,2}(?:\"""(?:\\.|[^\\])*?(?:\"""|\Z)|'''(?:\\.|[^\\])*?(?:'''|\Z)
    |"(?:\\.|[^"\\\n])*(?:"|(?=\n)|\Z)|'(?:\\.|[^'\\\n])*(?:'|(?=\n)|\Z)))
| (?P<money>\$[0-9][0-9_]*(?:\.[0-9]+)?|[0-9][0-9_]*(?:\.[0-9]+)?[ \t]+[A-Z]{3}(?![A-Za-z0-9_])
    (?![ \t\r\n\f]*(?::|=(?!=))))
| (?P<number>0[xX][0-9a-fA-F]+[uU]?
    |(?:[0-9][0-9_]*(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?:ms|[smhdkMuU])?)
| (?P<name>[A-Za-z_][A-Za-z0-9_]*)
| (?P<quoted>`[^`\n]*`)
| (?P<arrow>->)
| (?P<operator>\.\.|&&|\|\||[=!<>]=|[-+*/%<>=!?])
| (?P<punctuation>[{}()\[\],:.])
| (?P<other>.)
"""


@cache
def pattern() -> re.Pattern[str]:
    """The compiled expression; made when first asked for, as most output is not coloured."""
    return re.compile(_PATTERN, re.VERBOSE | re.DOTALL)


@cache
def _looks_ahead() -> dict[str, re.Pattern[str]]:
    """What must follow the words that are far more often names than keywords, and what makes any word a name."""
    return {
        "": re.compile(r"[ \t\r\n\f]*(?::|=(?!=))"),
        "a": re.compile(r"\s+final\b"),
        "x": re.compile(r"\s+[0-9]"),
    }


def tokens(text: str) -> Iterator[tuple[int, int, str]]:
    """`(start, end, class)` of everything in `text`, without gaps. The classes are the groups of the expression,
    where a name is one of `declaration`, `clause`, `constant`, `type` and `name`, and `field` after a dot and before
    a `:` or `=`."""
    ahead = _looks_ahead()
    after_dot = False
    for match in pattern().finditer(text):
        kind = match.lastgroup or "other"
        if kind == "name":
            word = match.group()
            kind = word_class(word)
            if after_dot or (kind != "name" and ahead[""].match(text, match.end())):
                kind = "field"
            elif word in ahead and not ahead[word].match(text, match.end()):
                kind = "name"
        if kind != "space":
            after_dot = kind == "punctuation" and match.group() == "."
        yield match.start(), match.end(), kind


def word_class(word: str) -> str:
    """The class of a word outside a field access."""
    if word in DECLARATIONS:
        return "declaration"
    if word in CLAUSES:
        return "clause"
    if word in CONSTANTS:
        return "constant"
    return "type" if word in TYPES else "name"
