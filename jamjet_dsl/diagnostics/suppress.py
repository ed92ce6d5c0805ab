"""Suppression: a comment that takes a finding back, and says why.

`// jam: ignore JAM107, JAM211 because the sandbox has no such tool` suppresses these codes where their span begins
on the same line, or on the next line that holds more than comments. It cannot make a program mean something: of
errors, only those can be suppressed without whose fix every run is still defined. A suppression without a reason,
with a code that cannot be suppressed, or that suppresses nothing is JAM990.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple, Protocol

from jamjet_dsl.diagnostics.codes import CODES
from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.diagnostics.suggest import did_you_mean
from jamjet_dsl.source import Span

# Errors about what a run may do, not about what the program says. All others leave a gap (a name, a type, a value
# that is missing) which nothing could execute.
_JUDGEMENTS = frozenset(
    {
        "JAM204",
        "JAM215",
        "JAM304",
        "JAM411",
        "JAM505",
        "JAM601",
        "JAM602",
        "JAM608",
        "JAM612",
        "JAM615",
        "JAM617",
        "JAM701",
        "JAM702",
        "JAM905",
    }
)


@cache
def _comment() -> re.Pattern[str]:
    """The form of a comment that speaks to the checker; compiled only where a comment mentions it."""
    words = r"//+\s*jam\s*:\s*(?P<verb>[A-Za-z]*)(?P<codes>[^\n]*?)"
    return re.compile(words + r"(?:\s+because\b\s*(?P<reason>.*?))?\s*$")


class HasText(Protocol):
    """A comment: `syntax.ast.Comment`, which this layer does not know."""

    @property
    def span(self) -> Span: ...
    @property
    def text(self) -> str: ...


class Suppressed(NamedTuple):
    """A finding that `comment` takes back for `reason`."""

    diagnostic: Diagnostic
    reason: str
    comment: Span


class _Rule(NamedTuple):
    """One code of one comment: it holds for findings that begin on a line of `lines`."""

    code: str
    span: Span
    lines: tuple[int, ...]
    reason: str
    comment: Span


def can_suppress(code: str) -> bool:
    """Whether a comment may take findings of this code back: all warnings but JAM990, and errors without whose fix
    the program still means something."""
    return code != "JAM990" and (CODES[code].severity != "error" or code in _JUDGEMENTS)


def apply(
    diagnostics: Iterable[Diagnostic],
    comments: Iterable[HasText],
    *,
    evaluated: frozenset[str] | None = None,
) -> tuple[list[Diagnostic], list[Suppressed]]:
    """What is left, with the JAM990 of the comments added and all in order, and what was suppressed.

    `comments` are those of every file that the diagnostics are about. `evaluated` holds the codes that were looked
    for (all where it is None): after a syntax error most checks did not run, and a comment is then not called unused.
    """
    rules: list[_Rule] = []
    kept: list[Diagnostic] = []
    for comment in comments:
        if "jam" in comment.text:
            found, problems = _read(comment)
            rules += found
            kept += problems
    if not rules and not kept:
        return sorted(diagnostics, key=Diagnostic.sort_key), []
    at: dict[tuple[str, str, int], _Rule] = {}
    for rule in rules:
        for line in rule.lines:
            at.setdefault((rule.code, rule.span.file, line), rule)
    suppressed: list[Suppressed] = []
    used: set[int] = set()
    for d in diagnostics:
        hit = at.get((d.code, d.span.file, d.span.line))
        if hit is None:
            kept.append(d)
        else:
            used.add(id(hit))
            suppressed.append(Suppressed(d, hit.reason, hit.comment))
    for rule in rules:
        if id(rule) not in used and (evaluated is None or rule.code in evaluated):
            kept.append(_problem(rule.span, f"the suppression of {rule.code} suppresses nothing", "remove the code"))
    suppressed.sort(key=lambda s: s.diagnostic.sort_key())
    return sorted(kept, key=Diagnostic.sort_key), suppressed


def _read(comment: HasText) -> tuple[list[_Rule], list[Diagnostic]]:
    match = _comment().match(comment.text)
    if match is None:
        return [], []
    span = comment.span
    form = "write `// jam: ignore CODE because REASON`"
    if match["verb"] != "ignore":
        return [], [_problem(span, f"`jam: {match['verb']}` is no instruction", form)]
    reason = match["reason"] or ""
    words = list(re.finditer(r"[^\s,]+", match["codes"]))
    if not words:
        return [], [_problem(span, "a suppression names no code", form)]
    if not reason:
        return [], [_problem(span, "a suppression gives no reason", "add `because` and the reason")]
    rules: list[_Rule] = []
    problems: list[Diagnostic] = []
    lines = _lines(span)
    for word in words:
        start = span.start + match.start("codes") + word.start()
        place = Span(span.source, start, start + len(word.group()))
        code = word.group()
        if code not in CODES:
            near = did_you_mean(code, CODES)
            help = f"did you mean `{near}`?" if near else "name a code as `jam check` prints it"
            problems.append(_problem(place, f"`{code}` is no code", help))
        elif not can_suppress(code):
            problems.append(_problem(place, f"{code} cannot be suppressed", "fix the program instead"))
        else:
            rules.append(_Rule(code, place, lines, reason, span))
    return rules, problems


def _lines(span: Span) -> tuple[int, ...]:
    """The lines that a comment speaks of: its own where it follows code, else the next with more than a comment."""
    source = span.source
    line = span.line
    if source.line_text(line)[: span.column - 1].strip():
        return (line,)
    following = line + 1
    while following <= source.line_count and _only_comment(source.line_text(following)):
        following += 1
    return (line, following)


def _only_comment(text: str) -> bool:
    stripped = text.lstrip()
    return not stripped or stripped.startswith("//")


def _problem(span: Span, message: str, help: str) -> Diagnostic:
    why = "a finding that is silenced must say to the next reader why it does not matter"
    return Diagnostic("JAM990", message, span, why=why, help=help)
