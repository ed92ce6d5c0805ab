"""Mistakes with a name of their own: what people write who know another language, and how words are misspelt."""

from __future__ import annotations

from typing import NamedTuple

from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax.driver import Driver
from jamjet_dsl.syntax.expected import found
from jamjet_dsl.syntax.lexer import END, Token, keywords
from jamjet_dsl.syntax.tables import tables

SYNONYMS = {
    "if": "when",
    "elif": "when",
    "elseif": "when",
    "elsif": "when",
    "else": "otherwise",
    "default": "otherwise",
    "func": "fn",
    "function": "fn",
    "def": "fn",
    "struct": "record",
    "type": "record",
    "class": "record",
    "let": "var",
    "use": "import",
    "include": "import",
    "workflow": "agent",
    "graph": "agent",
    "machine": "agent",
    "node": "state",
    "step": "state",
    "initial": "start",
    "terminal": "final",
    "end": "final",
    "invoke": "call",
    "prompt": "think",
    "llm": "think",
    "sleep": "wait",
    "deny": "forbid",
    "permit": "allow",
    "yield": "yields",
    "returning": "returns",
    "throws": "raises",
    "catch": "on",
    "into": "as",
}
_OPERATOR_WORDS = {
    "and": ("ANDAND", "&&"),
    "or": ("OROR", "||"),
    "not": ("BANG", "!"),
    "AND": ("ANDAND", "&&"),
    "OR": ("OROR", "||"),
}
_LITERALS = frozenset(("INT", "FLOAT", "MONEY", "DURATION", "QUANTITY", "UINT", "STRING", "BYTES"))


class Fix(NamedTuple):
    """Replace `drop` tokens from the current one by `insert`; first forget `pop` shifted tokens before it."""

    drop: int
    insert: tuple[Token, ...]
    message: str
    help: str = ""
    code: str = "JAM001"
    pop: int = 0
    needs: int = 2  # tokens that must follow for a mistake with a name of its own to be believed


def known(source: SourceFile, driver: Driver, token: Token, accepted: list[str]) -> list[Fix]:
    """What is meant if this is a mistake with a name of its own, most particular first."""
    following = driver.tokens[driver.at + 1] if token.kind != END else token
    previous = driver.tokens[driver.at - 1] if driver.at else token
    adjacent = following.start == token.end
    text = token.text
    fixes: list[Fix] = []
    if "ARROW" in accepted and following.kind in ("GT", "ARROW") and token.kind in ("EQUAL", "EQ", "MINUS"):
        shown = source.text[token.start : following.end]
        fixes.append(
            Fix(2, (made_from("ARROW", token),), f"an edge is written with `->`, not with `{shown}`", "write `->`")
        )
    if token.kind == "EQUAL" and previous.kind in ("EQ", "NE") and previous.end == token.start:
        help = f"write `{previous.text}`"
        fixes.append(Fix(1, (), f"there is no operator `{previous.text}=`", help))
    nameless = token.kind in ("EQUAL", "COLON") and driver.reach((missing("IDENT", token.start),), driver.at, 3) < 3
    if nameless and previous.text in keywords():
        message = f"`{previous.text}` takes what follows without a `{text}`"
        fixes.append(Fix(1, (), message, f"remove the `{text}`", needs=1))
    if token.kind == "COLON" and following.kind == "EQUAL" and adjacent and "EQUAL" in accepted:
        fixes.append(Fix(1, (), "there is no operator `:=`", "write `=`"))
    if token.kind == "EQUAL" and "EQ" in accepted:
        help = "write `==` to compare"
        fixes.append(Fix(1, (made_from("EQ", token),), "`=` does not compare two values", help))
    if text in _OPERATOR_WORDS:
        kind, symbol = _OPERATOR_WORDS[text]
        fixes.append(Fix(1, (made_from(kind, token),), f"there is no operator `{text}`", f"write `{symbol}`"))
    if previous.text in ("not", "NOT") and driver.tables.symbols[driver.states[-1]] == "IDENT":
        fixes.append(Fix(0, (made_from("BANG", previous),), "there is no operator `not`", "write `!`", pop=1))
    if previous.kind == "MAX" and "TOKENS" in accepted and token.kind in _LITERALS:
        message = f"expected `prompt` or `tokens` after `max`, found `{text}`"
        fixes.append(Fix(0, (missing("TOKENS", token.start),), message, f"write `max tokens {text}`"))
    if {"FIELD", "TARGET"} & set(accepted) and token.kind != END and text[:1].isalpha():
        kind, mark, sign = ("FIELD", "COLON", ":") if "FIELD" in accepted else ("TARGET", "EQUAL", "=")
        insert = (made_from(kind, token), Token(mark, sign, token.end, token.end))
        message = f"expected `{sign}` after `{text}`, found {found(following)}"
        fixes.append(Fix(1, insert, message, f"write `{text}{' ' * (sign == '=')}{sign} …`"))
    if text == "else" and following.text == "if":
        help = "give each case its own `when`; the first that holds is taken, and `otherwise` is the last"
        fixes.append(Fix(2, (made_from("WHEN", token),), "there is no `else if`", help))
    if token.kind in _LITERALS:
        fixes += _other_literal(token, accepted, following)
    return fixes + _of_this_language(driver, token)


def _of_this_language(driver: Driver, token: Token) -> list[Fix]:
    """What is written in one place of this language and not in another."""
    tokens, at = driver.tokens, driver.at
    previous, before = (tokens[max(at - n, 0)] for n in (1, 2))
    if token.kind == "LBRACE" and previous.kind == "IDENT" and before.kind == "ARROW":
        message, help = "a handler of the agent sets nothing", "lead it to a state, and `set` there"
        return [Fix(_past_brackets(tokens, at) - at, (), message, help)]
    if token.kind == "EQUAL" and _in_input(tokens, at):
        end = at + 2
        if tokens[at + 1].kind in _OPENING:
            end = _past_brackets(tokens, at + 1)
        elif tokens[end].kind == "LPAR":
            end = _past_brackets(tokens, end)
        help = "declare it optional with `?`; whoever starts the agent gives the rest"
        return [Fix(end - at, (), "an input has no default", help)]
    if token.kind == "OPT" and before.kind == "DOTS":
        return [Fix(1, (), "the `?` of an optional type stands before its range", "write for example `int? 1..30`")]
    if token.kind == "LBRACE" and previous.kind == "IDENT" and _begins_a_record(tokens, at):
        message = f"a record is written without its name `{previous.text}`"
        help = "write `{ field: value }`: its type is known from where it stands"
        # Without the name the record is read on; where more than the name would be lost, without the record.
        alone = Fix(0, (), message, help, pop=1)
        return [alone, Fix(_past_brackets(tokens, at) - at, (), message, help, needs=1)]
    prefixed = token.kind == "STRING" and previous.end == token.start and previous.text in ("f", "F")
    if prefixed and driver.tables.symbols[driver.states[-1]] == "IDENT":
        help = "join texts with `+`; placeholders are filled in the texts of `think` and `ask`"
        return [Fix(0, (), f"there is no text with the prefix `{previous.text}`", help, pop=1)]
    return []


def _begins_a_record(tokens: list[Token], at: int) -> bool:
    """Whether what the brace at a place opens looks like `{ name: …` or `{}` right after a name, as CEL's messages."""
    if tokens[at].start != tokens[at - 1].end and not tokens[at - 1].text[:1].isupper():
        return False
    inside = tokens[at + 1 : at + 3]
    return inside[0].kind == "RBRACE" or (len(inside) == 2 and inside[1].kind == "COLON")


_OPENING = frozenset(("LBRACE", "LPAR", "LSQB"))
_CLOSING = frozenset(("RBRACE", "RPAR", "RSQB"))
_FAR = 200
"""Tokens that a look around goes at most, so that a file full of one mistake stays linear."""


def _past_brackets(tokens: list[Token], at: int) -> int:
    """The place behind the bracket that closes the one at `at`, or a place behind it where that is far away."""
    depth = 0
    for place in range(at, min(at + _FAR, len(tokens) - 1)):
        depth += (tokens[place].kind in _OPENING) - (tokens[place].kind in _CLOSING)
        if depth == 0:
            return place + 1
    return at + 1


def _in_input(tokens: list[Token], at: int) -> bool:
    """Whether what stands at a place belongs to an `input`: parameters and their types lead back to it."""
    for place in range(at - 1, max(at - _FAR, -1), -1):
        if tokens[place].kind == "INPUT":
            return True
        if tokens[place].kind not in _OF_PARAMETERS:
            return False
    return False


_OF_PARAMETERS = frozenset({"FIELD", "TARGET", "IDENT", "COLON", "COMMA", "SECRET", "LT", "GT", "OPT", "DOTS", "MINUS",
                            "INT", "FLOAT", "MONEY", "DURATION"})  # fmt: skip
_DURATION_WORDS = {"sec": "s", "second": "s", "min": "m", "minute": "m", "hour": "h", "hr": "h", "day": "d"}


def _other_literal(token: Token, accepted: list[str], following: Token) -> list[Fix]:
    """A literal of one kind where another is needed: a number without its unit, and the like."""
    text, bad = token.text, (Token("BADNUM", token.text, token.start, token.end),)
    fixes = []
    digits = token.kind in ("INT", "FLOAT")
    unit = _DURATION_WORDS.get(following.text.lower().removesuffix("s"))
    if "DURATION" in accepted and digits and unit:
        fixes.append(Fix(2, bad, f"`{following.text}` is no unit of time", f"write `{text}{unit}`", "JAM004", needs=1))
    elif "DURATION" in accepted:
        help = f"write `{text}s` for seconds" if token.kind == "INT" else "write for example `30s`, `5m` or `48h`"
        fixes.append(
            Fix(1, bad, "a duration needs a unit" if digits else f"`{text}` is not a duration", help, "JAM004", needs=1)
        )
    elif "MONEY" in accepted:
        help = f"write `${text}` or `{text} EUR`" if digits else "write for example `$2.00`"
        what = "an amount of money needs a currency" if digits else f"`{text}` is not an amount of money"
        fixes.append(Fix(1, bad, what, help, "JAM004", needs=1))
    elif "INT" in accepted and "ERROR_EXPR" not in accepted and token.kind not in ("STRING", "BYTES"):
        fixes.append(
            Fix(1, bad, f"a plain number is needed here, not `{text}`", "write for example `10`", "JAM004", needs=1)
        )
    return fixes


def made_from(kind: str, token: Token) -> Token:
    """A token of another kind in the place of one."""
    return Token(kind, tables().literals.get(kind, token.text), token.start, token.end)


def missing(kind: str, at: int) -> Token:
    """A token that is missing at a place. A missing name has an empty text, a missing number no value."""
    if kind in ("DURATION", "MONEY", "QUANTITY", "INT", "FLOAT"):
        return Token("BADNUM", "", at, at)
    return Token(kind, '""' if kind == "STRING" else tables().literals.get(kind, ""), at, at)


def distance(left: str, right: str) -> int:
    """Edit distance with transpositions, cut off above 2."""
    if abs(len(left) - len(right)) > 2:
        return 3
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        last, row, older = row, [i], before
        for j, b in enumerate(right, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        before = last
    return row[-1]
