"""A comment may take a finding back if it says why; whatever else it says is itself a finding."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from jamjet_dsl.diagnostics.codes import CODES
from jamjet_dsl.diagnostics.explain import page
from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.diagnostics.suppress import Suppressed, apply, can_suppress
from jamjet_dsl.source import SourceFile, Span


class Comment(NamedTuple):
    span: Span
    text: str


def run(text: str, *found: tuple[str, str], evaluated: frozenset[str] | None = None) -> tuple[list[str], list[str]]:
    """What is kept and what is suppressed, as `CODE line`, of findings given as code and marked text."""
    source = SourceFile("a.jam", text)
    comments = [Comment(Span(source, m.start(), m.end()), m.group()) for m in re.finditer("//[^\n]*", text)]
    diagnostics = [
        Diagnostic(code, "m", Span(source, text.rindex(marked), text.rindex(marked) + len(marked)))
        for code, marked in found
    ]
    kept, suppressed = apply(diagnostics, comments, evaluated=evaluated)
    assert all(isinstance(s, Suppressed) and s.reason for s in suppressed)
    describe = [f"{d.code} {d.span.line}" + (f": {d.message}" if d.code == "JAM990" else "") for d in kept]
    return describe, [f"{s.diagnostic.code} {s.diagnostic.span.line}" for s in suppressed]


def test_the_line_before_and_the_same_line() -> None:
    assert run("// jam: ignore JAM107 because later\nrecord A", ("JAM107", "record A")) == ([], ["JAM107 2"])
    assert run("record A // jam: ignore JAM107 because later", ("JAM107", "record A")) == ([], ["JAM107 1"])


def test_several_codes_and_several_findings_of_one() -> None:
    text = "// jam: ignore JAM107, JAM202 JAM211 because a sandbox: has none\nstate a { b }"
    found = (("JAM107", "state a"), ("JAM202", "a {"), ("JAM202", "b"), ("JAM211", "b"))
    assert run(text, *found) == ([], ["JAM107 2", "JAM202 2", "JAM202 2", "JAM211 2"])


def test_comments_and_empty_lines_may_stand_between() -> None:
    text = "// jam: ignore JAM107 because later\n\n// about A\n/// A.\nrecord A\nrecord B"
    assert run(text, ("JAM107", "record A")) == ([], ["JAM107 5"])
    assert run(text, ("JAM107", "record B"))[1] == []


def test_a_trailing_comment_speaks_of_its_own_line_only() -> None:
    text = "record B // jam: ignore JAM107 because later\nrecord A"
    kept, suppressed = run(text, ("JAM107", "record A"))
    assert kept == ["JAM990 1: the suppression of JAM107 suppresses nothing", "JAM107 2"]
    assert suppressed == []


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("// jam: ignore JAM107", "a suppression gives no reason"),
        ("// jam: ignore JAM107 because", "a suppression gives no reason"),
        ("// jam: ignore JAM107 because   ", "a suppression gives no reason"),
        ("// jam: ignore because it is noisy", "a suppression names no code"),
        ("// jam: ignroe JAM107 because x", "`jam: ignroe` is no instruction"),
        ("// jam: ignore JAM1O7 because x", "`JAM1O7` is no code"),
        ("// jam: ignore all because x", "`all` is no code"),
        ("// jam: ignore JAM101 because x", "JAM101 cannot be suppressed"),
        ("// jam: ignore JAM401 because x", "JAM401 cannot be suppressed"),
        ("// jam: ignore JAM990 because x", "JAM990 cannot be suppressed"),
        ("// jam: ignore JAM202 because x", "the suppression of JAM202 suppresses nothing"),
    ],
)
def test_a_bad_suppression_is_reported_and_suppresses_nothing(comment: str, message: str) -> None:
    found = (("JAM107", "record"), ("JAM101", "A"), ("JAM401", "A"))
    assert run(f"{comment}\nrecord A", *found) == (
        [f"JAM990 1: {message}", "JAM107 2", "JAM101 2", "JAM401 2"],
        [],
    )


def test_a_wrong_code_does_not_spoil_the_others() -> None:
    kept, suppressed = run("// jam: ignore JAM107, JAM12 because x\nrecord A", ("JAM107", "record"))
    assert kept == ["JAM990 1: `JAM12` is no code"]
    assert suppressed == ["JAM107 2"]


def test_prose_that_mentions_jam_is_left_alone() -> None:
    text = "// jam is a language; jam: ignore\n// see jam: no\n//jam : ignore JAM107 because x\nrecord A"
    assert run(text, ("JAM107", "record")) == ([], ["JAM107 4"])


def test_a_code_that_was_not_looked_for_is_not_unused() -> None:
    text = "// jam: ignore JAM202 because x\nstate a"
    assert run(text, evaluated=frozenset({"JAM001"})) == ([], [])
    assert run(text)[0] == ["JAM990 1: the suppression of JAM202 suppresses nothing"]


def test_the_problem_points_at_the_code() -> None:
    source = SourceFile("a.jam", "//  jam: ignore JAM107,  JAM999 because x\nrecord A")
    comment = Comment(Span(source, 0, source.text.index("\n")), source.text.splitlines()[0])
    kept, _ = apply([], [comment])
    assert [d.span.text for d in kept] == ["JAM107", "JAM999"]


def test_two_comments_for_one_finding_leave_one_unused() -> None:
    text = "// jam: ignore JAM107 because x\nrecord A // jam: ignore JAM107 because y"
    kept, suppressed = run(text, ("JAM107", "record"))
    assert kept == ["JAM990 2: the suppression of JAM107 suppresses nothing"]
    assert suppressed == ["JAM107 2"]


def test_files_are_kept_apart() -> None:
    a, b = SourceFile("a.jam", "// jam: ignore JAM107 because x\nA"), SourceFile("b.jam", "\nA")
    comment = Comment(Span(a, 0, 32), a.line_text(1))
    kept, suppressed = apply([Diagnostic("JAM107", "m", Span(b, 1, 2))], [comment])
    assert [d.code for d in kept] == ["JAM990", "JAM107"]
    assert suppressed == []


def test_what_can_be_suppressed() -> None:
    refused = {code for code in CODES if not can_suppress(code)}
    assert {
        "JAM001",
        "JAM101",
        "JAM105",
        "JAM201",
        "JAM203",
        "JAM315",
        "JAM401",
        "JAM404",
        "JAM407",
        "JAM990",
    } <= refused
    assert refused.isdisjoint({"JAM107", "JAM202", "JAM304", "JAM505", "JAM601", "JAM602", "JAM907"})


def test_the_page_lists_the_errors_that_can_be_suppressed() -> None:
    listed = page("JAM990").split("Of errors")[1].split("All others")[0]
    errors = {code for code, row in CODES.items() if row.severity == "error" and can_suppress(code)}
    assert set(re.findall("JAM[0-9]+", listed)) == errors
