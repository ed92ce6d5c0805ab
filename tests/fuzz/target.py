"""What must hold for every input, whatever its bytes: the oracle that the fuzzers drive."""

from __future__ import annotations

import json
from typing import NamedTuple

from jamjet_dsl.compiler import CheckResult, analyse_text, decode
from jamjet_dsl.diagnostics.render import FORMATS, Format, render
from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax.format import format_program

KIB64 = 64 * 1024


class Broken(AssertionError):
    """An input for which something does not hold that holds for all."""


class Seen(NamedTuple):
    """How far an input came: `read` as text, `parsed` without syntax errors, `sound` without any error."""

    read: bool
    parsed: bool
    sound: bool
    findings: int


def examine(data: bytes, thorough: bool = True) -> Seen:
    """Reads, checks, reports and formats an input as `jam check` and `jam fmt` do. Unless `thorough`, it is not
    compiled, and reported in one form only: five times as many inputs in the same time.

    Raises Broken for a property that does not hold; any other exception is a failure too.
    """
    text = decode(data)
    if not isinstance(text, str):
        _that(bool(text.message and text.help), "a file that cannot be read is refused without words")
        return Seen(False, False, False, 0)
    result = analyse_text(text, "fuzz.jam", files={})
    _within(text, result)
    _reports(result, FORMATS if thorough else ("human",))
    layout = format_program(SourceFile("fuzz.jam", text))
    if layout.diagnostics:
        _that(layout.text == text, "a program with syntax errors was changed by the formatter")
        _that(result.has_errors, "the formatter refuses what the checker accepts")
        return Seen(True, False, False, len(result.diagnostics))
    again = format_program(SourceFile("fuzz.jam", layout.text))
    _that(not again.diagnostics, "the formatter made a program that does not parse")
    _that(again.text == layout.text, "formatting twice is not formatting once")
    if thorough and not result.has_errors and result.analysis.main_agents():
        _same_digest(text, layout.text)
    return Seen(True, True, not result.has_errors, len(result.diagnostics))


def _within(text: str, result: CheckResult) -> None:
    for d in result.diagnostics:
        _that(0 <= d.span.start <= d.span.end <= len(text), f"{d.code} points outside the text")
        _that(bool(d.message) and "\n" not in d.message, f"{d.code} has no message of one line")


def _reports(result: CheckResult, forms: tuple[Format, ...]) -> None:
    for form in forms:
        text = render(result.diagnostics, form, color=form == "human", files=1)
        text.encode("utf-8")
        if form in ("json", "sarif"):
            json.loads(text)


def _same_digest(text: str, formatted: str) -> None:
    from jamjet_dsl.compiler import compile_text

    before = compile_text(text, "fuzz.jam", files={}).definition.digest
    after = compile_text(formatted, "fuzz.jam", files={}).definition.digest
    _that(before == after, "formatting changed the definition")


def _that(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)
