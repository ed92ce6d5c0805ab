"""Which brace is missing or too many, told from the layout as a reader would.

A parser that only sees tokens notices a missing `}` at the end of the file and an extra one where the next
declaration stands outside of its agent. So when brackets do not balance, two sources of advice are asked. Programs
are nearly always indented: the first line that is not indented deeper than the line of an open brace tells where that
should have ended. And a single bracket put in, taken out or replaced close before the first error is tried on the
parser. Whatever lets most of the program be read is done. Both are heuristics: where neither helps, nothing is
changed, and recovery has the word.
"""

from __future__ import annotations

from typing import NamedTuple

from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.source import SourceFile, Span
from jamjet_dsl.syntax.driver import CLOSERS, Driver, Machine
from jamjet_dsl.syntax.expected import found
from jamjet_dsl.syntax.lexer import END, Token

_WINDOW = 24  # tokens before the first error in which a single bracket is put in or taken out
_AHEAD = 400  # tokens after it on which a change is judged
_TEXT = {"LBRACE": "{", "RBRACE": "}", "LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]"}

_OPENER_KINDS = "STATE START FINAL FAILED AGENT TOOL RECORD ENUM MODEL POLICY BUDGET TEST PARALLEL BRANCH EACH FINALLY"
_OPENERS = frozenset(_OPENER_KINDS.split())


class _Open(NamedTuple):
    """A `{` that waits for its `}`: its token and the indentation of its line."""

    token: Token
    line: int
    indent: int


class _Head:
    """The first token of a line: whether it opens a block, and whether a `{` was found for it."""

    __slots__ = ("braced", "opens")

    def __init__(self, opens: bool) -> None:
        self.opens = opens
        self.braced = False


class _Fix(NamedTuple):
    """Insert `kind` before the token `at`, or put it in the place of that token, or (kind empty) remove that token.
    `opened` is the bracket that an inserted one closes, where that is known."""

    at: int
    kind: str
    replace: bool = False
    opened: Token | None = None


def balance(source: SourceFile, driver: Driver, start: str) -> tuple[list[Token], list[Diagnostic], bool]:
    """The tokens with brackets in balance, what was found, and whether they balance now. `driver` stands at the first
    token that does not fit. The layout of the program and single changes close before that token are tried, and the
    one after which most of the program can be read is taken."""
    tokens = driver.tokens
    excess = _excess(tokens)
    if excess is None:
        return tokens, [], True
    plans = [_plan(source, tokens)] if excess["LBRACE"] or not any(excess.values()) else []
    if plans and len(plans[0]) > abs(excess["LBRACE"]) + 2:
        plans = []
    plans += [[fix] for fix in _near(tokens, driver.at, excess)]
    base = max(driver.at - _WINDOW, 0)
    probe = Driver([*tokens[:base], Token("STOP", "", 0, 0)], start, driver.builder)
    probe.run()
    best: tuple[int, list[_Fix]] | None = None
    for plan in plans:
        ahead = [fix for fix in plan if fix.at <= driver.at + _AHEAD]
        if any(fix.at < base for fix in ahead):
            continue
        stop = driver.at + _AHEAD
        edited = _edited(tokens, ahead, base, stop)
        edited.append(Token("STOP", "", 0, 0))
        machine = Machine(edited, probe.states)
        left = len(edited) - machine.reach((), 0, len(edited))
        if best is None or left < best[0]:
            best = (left, plan)
    if best is None:
        return tokens, [], False
    fixes = best[1]
    unchanged = len(tokens) - driver.at
    if best[0] >= min(unchanged, _AHEAD + 1) and len(fixes) == 1 and fixes is not plans[0]:
        return tokens, [], False
    made = _edited(tokens, fixes, 0, len(tokens))
    return made, [_finding(source, tokens, fix) for fix in fixes], _excess(made) is None


def _edited(tokens: list[Token], fixes: list[_Fix], start: int, stop: int) -> list[Token]:
    """The tokens from `start` to `stop` with the fixes done."""
    made: list[Token] = []
    for fix in fixes:
        made += tokens[start : fix.at]
        start = fix.at + (fix.replace or not fix.kind)
        if fix.kind:
            here = tokens[fix.at - 1].end if fix.at and not fix.replace else tokens[fix.at].start
            made.append(Token(fix.kind, _TEXT[fix.kind], here, here))
    return made + tokens[start:stop]


def _near(tokens: list[Token], at: int, excess: dict[str, int]) -> list[_Fix]:
    """Single changes of a bracket, the closest to the token `at` first."""
    fixes: list[_Fix] = []
    last = len(tokens) - 1
    for opener, count in excess.items():
        closer = CLOSERS[opener]
        for index in range(at, max(at - _WINDOW, -1), -1):
            kind = tokens[index].kind
            if count > 0:
                fixes.append(_Fix(index, closer, opened=_opened(tokens, index, opener)))
                if kind == opener:
                    fixes.append(_Fix(index, ""))
            elif count < 0 and index < last:
                fixes.append(_Fix(index, opener))
                if kind == closer:
                    fixes.append(_Fix(index, ""))
        made = closer if count > 0 else opener
        for index in range(at, max(at - 3, -1), -1):
            if count and index < last and tokens[index].kind not in _TEXT:
                opened = _opened(tokens, index, opener) if count > 0 else None
                fixes.append(_Fix(index, made, replace=True, opened=opened))
    return fixes


def _opened(tokens: list[Token], index: int, opener: str) -> Token | None:
    """The innermost bracket of a kind that is open before `index`."""
    closer, depth = CLOSERS[opener], 0
    for at in range(index - 1, max(index - 2000, -1), -1):
        if tokens[at].kind == closer:
            depth += 1
        elif tokens[at].kind == opener:
            if not depth:
                return tokens[at]
            depth -= 1
    return None


def _finding(source: SourceFile, tokens: list[Token], fix: _Fix) -> Diagnostic:
    here = tokens[fix.at]
    before = tokens[fix.at - 1] if fix.at else here
    if not fix.kind:
        message = f"this `{here.text}` closes nothing" if here.kind in CLOSERS.values() else f"unexpected `{here.text}`"
        return Diagnostic("JAM001", message, Span(source, here.start, here.end), help="remove it")
    if fix.opened is not None and not fix.replace:
        return unclosed(source, fix.opened, before.end)
    text = _TEXT[fix.kind]
    message = f"expected `{text}` after {found(before)}, found {found(here)}"
    new_line = "\n" in source.text[before.end : here.start]
    where = Span(source, before.end, before.end) if new_line else Span(source, here.start, here.end)
    return Diagnostic("JAM001", message, where, help=f"write `{text}`")


def unclosed(source: SourceFile, opened: Token, at: int) -> Diagnostic:
    """The finding for a bracket that should have been closed at `at`."""
    closer = {"{": "}", "(": ")", "[": "]"}[opened.text]
    label = Label(Span(source, opened.start, opened.end), "opened here")
    line = source.line_column(opened.start)[0]
    message = f"the `{opened.text}` of line {line} is not closed: expected `{closer}` here"
    return Diagnostic("JAM002", message, Span(source, at, at), (label,), help=f"add `{closer}`")


def _excess(tokens: list[Token]) -> dict[str, int] | None:
    """How many more of each bracket are opened than closed; None when they nest properly."""
    open_: list[str] = []
    proper = True
    count = dict.fromkeys(CLOSERS, 0)
    openers = {closer: opener for opener, closer in CLOSERS.items()}
    for token in tokens:
        kind = token.kind
        if kind in count:
            count[kind] += 1
            open_.append(kind)
        elif kind in openers:
            count[openers[kind]] -= 1
            if not open_ or open_.pop() != openers[kind]:
                proper = False
    return None if proper and not open_ else count


def _plan(source: SourceFile, tokens: list[Token]) -> list[_Fix]:
    fixes: list[_Fix] = []
    stack: list[_Open] = []
    line = indent = 0
    heads: dict[int, _Head] = {}  # the last line that began at an indentation
    for index, token in enumerate(tokens):
        now, column = source.line_column(token.start)
        first = now != line
        closing = token.kind == "RBRACE"
        if first:
            line, indent = now, column - 1
            if not closing:
                heads[indent] = _Head(token.kind in _OPENERS)
        if first and token.kind != END:
            fixes += _ended(stack, index, line, indent, closing)
        if token.kind == "LBRACE":
            if indent in heads:
                heads[indent].braced = True
            stack.append(_Open(token, line, indent))
        elif closing:
            head = heads.get(indent)
            deeper = not stack or (indent > stack[-1].indent if first else stack[-1].line != line)
            if deeper and head is not None and head.opens and not head.braced:
                head.braced = True  # its `{` is missing: the parser will see that
            elif not stack or (first and indent > stack[-1].indent and _closed_later(source, tokens, index, stack[-1])):
                fixes.append(_Fix(index, ""))
            else:
                stack.pop()
    last = len(tokens) - 1
    return fixes + [_Fix(last, "RBRACE", opened=opened.token) for opened in reversed(stack)]


def _ended(stack: list[_Open], index: int, line: int, indent: int, closing: bool) -> list[_Fix]:
    """The blocks that should have ended before a line that begins at `indent`: it stands no deeper than the lines
    that opened them, and is not their `}`."""
    fixes: list[_Fix] = []
    while stack and stack[-1].line < line:
        opened = stack[-1]
        if indent > opened.indent or (indent == opened.indent and closing):
            break
        if closing and not any(other.indent == indent for other in stack):
            break
        fixes.append(_Fix(index, "RBRACE", opened=stack.pop().token))
    return fixes


def _closed_later(source: SourceFile, tokens: list[Token], index: int, opened: _Open) -> bool:
    """Whether another `}` further down stands where this block's own is expected."""
    for token in tokens[index + 1 : index + 2000]:
        line, column = source.line_column(token.start)
        if column - 1 <= opened.indent and line > opened.line:
            return token.kind == "RBRACE" and column - 1 == opened.indent
    return False
