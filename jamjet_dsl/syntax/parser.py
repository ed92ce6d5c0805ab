"""The parser: text to syntax tree, all errors in one pass.

    parsed = parse(SourceFile("loan.jam", text))
    parsed.program        the ast.Program; after errors, what could be read
    parsed.diagnostics    the findings JAM001 to JAM006, in order of place
    parsed.incomplete     a declaration lost parts to an error: report nothing about what is missing
    parsed.tokens         every token and every comment in source order (`lexer.Token`: kind, text, start, end)
    parse_expression(SourceFile("<expression>", "1 + 2"))    an expression alone

For formatters and editors, `tokens(source)` gives the same token stream without parsing. A token's text is
exactly the source between its offsets, whitespace is what lies between tokens, and comments (`//` and `///`)
are tokens of kind `COMMENT`. The kind of a word is that of the keyword it may be, or `FIELD` or `TARGET` before a
`:` or `=`: whether it was used as a name is seen in the syntax tree (a `Name` there has its span).
"""

from __future__ import annotations

import gc
from operator import attrgetter
from typing import Any

from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.source import SourceFile, Span
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.build import Builder
from jamjet_dsl.syntax.driver import Driver
from jamjet_dsl.syntax.lexer import Scan, Token, scan

MAX_PROGRAM_CHARS = 16 * 1024 * 1024
"""The longest program that is read, in characters. `parse` refuses a longer one; callers that read files refuse it
before, with JAMR003."""

MAX_PAIRS = 1_000_000
"""The most pairs of brackets in it: a program of 100,000 lines has a tenth of that, and megabytes of nothing else
would be read for half a minute before they were refused."""

LANGUAGE_VERSION = 1
"""The newest version of the language that this tool knows."""

_START = attrgetter("start")


class Parsed:
    """What one parse gave: see the top of this module."""

    __slots__ = ("_scan", "diagnostics", "incomplete", "program")

    def __init__(self, program: ast.Program, diagnostics: list[Diagnostic], incomplete: bool, found: Scan) -> None:
        self.program = program
        self.diagnostics = diagnostics
        self.incomplete = incomplete
        self._scan = found

    @property
    def tokens(self) -> list[Token]:
        """Every token and comment in source order, the empty `$END` token last."""
        return sorted([*self._scan.tokens, *self._scan.comments], key=_START)


def tokens(source: SourceFile) -> list[Token]:
    """Every token and comment of a text in source order, the empty `$END` token last."""
    found = scan(source.text)
    return sorted([*found.tokens, *found.comments], key=_START)


def parse(source: SourceFile) -> Parsed:
    """Parse a program. Never raises, whatever the text contains."""
    limit = ""
    if len(source.text) > MAX_PROGRAM_CHARS:
        limit = f"{MAX_PROGRAM_CHARS >> 20} MiB"
    elif len(source.text) > 2 * MAX_PAIRS and sum(source.text.count(closing) for closing in "})]") > MAX_PAIRS:
        limit = f"{MAX_PAIRS:,} pairs of brackets"
    if limit:
        message = f"the program is larger than {limit}"
        where = Span(source, 0, 0)
        large = Diagnostic("JAM001", message, where, help="split it into files that import each other")
        empty = Scan([Token("$END", "", 0, 0)], [], False, None)
        return Parsed(ast.Program(where, source, None, (), (), ()), [large], True, empty)
    found = scan(source.text)
    docs = _docs(found)
    builder = Builder(source, {at: "\n".join(lines) for at, (lines, _) in docs.items()})
    result, incomplete = _drive(found, "start", builder)
    language, items = result or (None, [])
    imports = tuple(item for item in items if type(item) is ast.Import)
    rest = tuple(item for item in items if type(item) is not ast.Import)
    # A doc comment that describes nothing is an ordinary comment.
    attached = {start for at, (_, starts) in docs.items() if at in builder.used_docs for start in starts}
    comments = tuple(
        ast.Comment(Span(source, start, end), text) for _, text, start, end in found.comments if start not in attached
    )
    program = ast.Program(Span(source, 0, len(source.text)), source, language, imports, rest, comments)
    return Parsed(program, sorted(builder.diagnostics, key=Diagnostic.sort_key), incomplete, found)


def parse_expression(source: SourceFile) -> tuple[ast.Expr, list[Diagnostic]]:
    """Parse a single expression, as `jam eval` takes it; an ErrorExpr when nothing of it can be read."""
    builder = Builder(source, {})
    result, _ = _drive(scan(source.text), "expression", builder)
    if not isinstance(result, ast.Expr):
        result = ast.ErrorExpr(Span(source, 0, len(source.text)))
    return result, sorted(builder.diagnostics, key=Diagnostic.sort_key)


def _drive(found: Scan, start: str, builder: Builder) -> tuple[Any, bool]:
    """Run the machine; only a program with an error costs more than that. Findings go to the builder. The garbage
    collector rests: it would walk again and again over a tree that grows and has no cycles."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _run(found, start, builder)
    finally:
        if collecting:
            gc.enable()


def _run(found: Scan, start: str, builder: Builder) -> tuple[Any, bool]:
    source = builder.source
    newer = _newer_language(source, found.tokens)
    if newer is not None:
        builder.diagnostics.append(newer)
        return None, True
    stream = found.tokens
    incomplete = False
    if found.bad or not source.text.isascii() or "<<<<<<<" in source.text:
        from jamjet_dsl.syntax.clean import clean

        cleaned = clean(source, found)
        builder.diagnostics += cleaned.diagnostics
        incomplete = cleaned.cut
        stream = cleaned.tokens
    if found.deep is not None:
        builder.too_deep(found.deep.start, found.deep.end)
        incomplete = True
    known = len(builder.diagnostics)
    driver = Driver(stream, start, builder)
    if not driver.run():
        incomplete = not _recovered(driver, start, builder, known, incomplete) or incomplete
    else:  # else the retry they belong to may be what was lost
        for word, first, last in builder.orphans:
            message = f"`{word}` belongs to a `retry`, and there is none before it"
            builder.error("JAM001", message, first, last, f"write `retry any 3 times {word} …`")
    for literal in builder.unfolded.values():
        message = "this number does not fit into 64 bits"
        builder.error("JAM004", message, literal.span.start, literal.span.end, "only with a minus before it")
    return driver.result, incomplete


def _recovered(driver: Driver, start: str, builder: Builder, known: int, quiet: bool) -> bool:
    """Go on with recovery, from the beginning when braces had to be balanced first. True when nothing of the program
    was lost. `known` findings were there before parsing; `quiet` when what follows is their consequence."""
    from jamjet_dsl.syntax.balance import balance
    from jamjet_dsl.syntax.recover import Recovery

    balanced = True
    if start == "start" and not quiet:
        stream, unbalanced, balanced = balance(builder.source, driver, start)
        if unbalanced:
            builder.restart(known)
            driver.restart(stream, start)
            builder.diagnostics += unbalanced
    recovery = Recovery(builder.source, driver, braces=not balanced)
    recovery.run()
    if not quiet:
        builder.diagnostics += recovery.diagnostics
    return not recovery.incomplete


def _newer_language(source: SourceFile, stream: list[Token]) -> Diagnostic | None:
    """JAM006 when the program says that it needs a later language: then nothing else is said about it."""
    if len(stream) < 2 or stream[0].kind != "LANGUAGE" or stream[1].kind != "INT":
        return None
    text = stream[1].text
    if len(text) < 6 and text.isdigit() and int(text) == LANGUAGE_VERSION:
        return None
    message = f"the program is written in language {text}, and this tool knows language {LANGUAGE_VERSION}"
    older = len(text) < 6 and text.isdigit() and int(text) < LANGUAGE_VERSION
    help = f"write `language {LANGUAGE_VERSION}`" if older else "upgrade jamjet-dsl, or rewrite the program"
    return Diagnostic("JAM006", message, Span(source, stream[0].start, stream[1].end), help=help)


def _is_doc(text: str) -> bool:
    return text.startswith("///") and not text.startswith("////")


def _docs(found: Scan) -> dict[int, tuple[list[str], list[int]]]:
    """The lines of doc comments, and where they start, by the start of the token that follows them."""
    docs: dict[int, tuple[list[str], list[int]]] = {}
    stream = found.tokens
    at = 0
    for comment in found.comments:
        if not _is_doc(comment.text):
            continue
        while stream[at].start < comment.start:
            at += 1
        lines, starts = docs.setdefault(stream[at].start, ([], []))
        lines.append(comment.text[3:].removeprefix(" ").rstrip())
        starts.append(comment.start)
    return docs
