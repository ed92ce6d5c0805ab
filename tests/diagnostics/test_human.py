"""The form for people, each test one way in which a line of source can be shown."""

from __future__ import annotations

import re
from textwrap import dedent

from hypothesis import given
from hypothesis import strategies as st

from jamjet_dsl.diagnostics.model import Diagnostic, Label, PathStep
from jamjet_dsl.diagnostics.render import render
from jamjet_dsl.source import SourceFile, Span

from .conftest import PROGRAM, Place, find


def shown(*diagnostics: Diagnostic, width: int = 120) -> str:
    return render(diagnostics, "human", width=width)


def at(text: str, marked: str, *labels: tuple[str, str], width: int = 120, nth: int = 0) -> str:
    source = SourceFile("a.jam", text)
    found = tuple(Label(find(source, where), what) for where, what in labels)
    return shown(Diagnostic("JAM101", "no `x`", find(source, marked, nth), found), width=width)


def expect(text: str) -> str:
    return dedent(text).lstrip("\n") + "\n"


def test_a_full_diagnostic_has_head_places_reason_fix_and_path(place: Place) -> None:
    path = (
        PathStep("fetch", place("fetch"), "otherwise", "e1"),
        PathStep("review", place("review", 1), "", "e2"),
        PathStep("pay", place("pay")),
    )
    diagnostic = Diagnostic(
        "JAM602",
        "`pay` is reachable without `review`",
        place("call bureau"),
        (Label(place("review"), "required here"),),
        why="money that left cannot be called back",
        help="go through `review`",
        path=path,
        agent="loan",
    )
    assert shown(diagnostic) == expect("""
        error[JAM602]: `pay` is reachable without `review`
          --> loan.jam:6:5
           |
         3 |     require approval review before pay
           |                      ------ required here
        ...
         6 |     call bureau(app.ssn) as report
           |     ^^^^^^^^^^^
           |
           = why: money that left cannot be called back
           = help: go through `review`
           = path through `loan`: fetch ─(otherwise)→ review ─→ pay
        """)


def test_labels_of_one_line_hang_below_each_other() -> None:
    assert at("when a.b > c.d -> z", "c.d", ("a.b", "left"), ("z", "target"), ("c.d", "right")) == expect("""
        error[JAM101]: no `x`
          --> a.jam:1:12
           |
         1 | when a.b > c.d -> z
           |      ---   ^^^    - target
           |      |     |
           |      |     right
           |      left
        """)


def test_overlapping_marks_keep_the_carets() -> None:
    assert at("call pay(a)", "pay(a)", ("call pay(a)", "this action")) == expect("""
        error[JAM101]: no `x`
          --> a.jam:1:6
           |
         1 | call pay(a)
           | -----^^^^^^
           | |
           | this action
        """)


def test_a_span_over_lines_gets_a_bar_that_skips_the_middle(place: Place, source: SourceFile) -> None:
    whole = place("start state fetch").to(place("otherwise -> review\n  }"))
    label = Label(place("report.score"), "this")
    assert shown(Diagnostic("JAM203", "a trap", whole, (Label(whole, "no way on"), label))) == expect("""
        error[JAM203]: a trap
          --> loan.jam:5:3
           |
         5 | /   start state fetch {
         6 | |     call bureau(app.ssn) as report
         7 | |     when report.score > 700 -> done
           | |          ------------ this
         8 | |     otherwise -> review
         9 | |   }
           | |___^ no way on
        """)
    long = SourceFile("b.jam", "x {\n" + "  y\n" * 50 + "} z")
    assert shown(Diagnostic("JAM203", "a trap", Span(long, 0, len(long.text) - 2))) == expect("""
        error[JAM203]: a trap
          --> b.jam:1:1
           |
         1 | / x {
         2 | |   y
        ...  |
        51 | |   y
        52 | | } z
           | |_^
        """)


def test_a_span_that_starts_inside_a_line_is_joined_by_an_elbow() -> None:
    assert at("ask to {\n  a\n}", "{\n  a\n}") == expect("""
        error[JAM101]: no `x`
          --> a.jam:1:8
           |
         1 |   ask to {
           |  ________^
         2 | |   a
         3 | | }
           | |_^
        """)


def test_two_spans_over_lines_have_bars_of_their_own() -> None:
    assert at("a {\n b {\n c\n }\n}", "b {\n c\n }", ("a {\n b {\n c\n }\n}", "outer")) == expect("""
        error[JAM101]: no `x`
          --> a.jam:2:2
           |
         1 | /   a {
         2 | | /  b {
         3 | | |  c
         4 | | |  }
           | | |__^
         5 | |   }
           | |___- outer
        """)


def test_tabs_and_wide_characters_keep_carets_in_place() -> None:
    assert at('\t"日本" x\ty', "x", ("y", "tab")) == expect("""
        error[JAM101]: no `x`
          --> a.jam:1:7
           |
         1 |     "日本" x    y
           |            ^    - tab
        """)
    assert at('"日" "👍🏽" z', '"日"', ("z", "last")).splitlines()[4] == "   | ^^^^        - last"
    combining = at("e\u0301e x", "x").splitlines()
    assert combining[4] == "   |    ^"


def test_long_lines_are_cut_around_the_caret() -> None:
    text = "a" * 3000 + " NEEDLE " + "b" * 3000
    output = at(text, "NEEDLE", width=60)
    source_row, marks = output.splitlines()[3:5]
    assert len(source_row) <= 60
    assert source_row[5] == "…"
    assert source_row.endswith("…")
    assert source_row.index("NEEDLE") == marks.index("^^^^^^")
    assert marks.rstrip().endswith("^^^^^^")


def test_a_long_mark_is_clipped_to_the_window() -> None:
    for row in at("x" + "y" * 500 + "z", "y" * 500, width=50).splitlines():
        assert len(row) <= 50


def test_windows_line_breaks_do_not_show() -> None:
    assert "\r" not in at("one\r\ntwo x\r\nthree\r\n", "x")
    assert at("one\r\ntwo x\r\nthree\r\n", "two x\r\n").splitlines()[3:5] == [" 2 | two x", "   | ^^^^^"]


def test_the_end_of_the_file_is_shown_below_its_last_text() -> None:
    source = SourceFile("a.jam", "agent a {\n\n")
    end = Span(source, len(source.text), len(source.text))
    assert shown(Diagnostic("JAM002", "`{` is never closed", end)) == expect("""
        error[JAM002]: `{` is never closed
          --> a.jam:3:1
           |
         1 | agent a {
         2 |
         3 |
           | ^
        """)


def test_an_empty_file_is_shown() -> None:
    assert " 1 |\n   | ^\n" in shown(Diagnostic("JAM001", "nothing here", Span(SourceFile("a.jam", ""), 0, 0)))


def test_labels_in_other_files_follow(place: Place) -> None:
    other = SourceFile("tools.jam", "tool bureau() { effect reads }")
    elsewhere = Label(find(other, "bureau"), "declared")
    assert shown(Diagnostic("JAM108", "too many", place("bureau"), (elsewhere,))) == expect("""
        error[JAM108]: too many
          --> loan.jam:6:10
           |
         6 |     call bureau(app.ssn) as report
           |          ^^^^^^
          ::: tools.jam:1:6
           |
         1 | tool bureau() { effect reads }
           |      ------ declared
        """)


def test_control_characters_of_a_program_do_not_reach_the_terminal() -> None:
    output = at('a "\x1b[31m\u202e\x07" b', "b")
    assert "\x1b" not in output
    assert "\u202e" not in output
    assert "\x07" not in output
    evil = Diagnostic("JAM101", "no `\x1b[2J`", Span(SourceFile("\x1b.jam", "a"), 0, 1), help="\x1b", why="\u2066")
    for form in ("human", "concise"):
        assert not re.search("[\x1b\u2066]", render([evil], form))  # type: ignore[arg-type]


def test_long_paths_wrap_and_skip_their_middle(place: Place) -> None:
    steps = tuple(PathStep(f"state_{i}", place("pay"), "on approve") for i in range(400))
    rows = shown(Diagnostic("JAM601", "m", place("pay"), path=steps), width=90).splitlines()
    chain = rows[rows.index(next(r for r in rows if "path" in r)) :]
    assert "360 more" in "".join(chain)
    assert "state_399" in chain[-2] + chain[-1]
    assert max(map(len, chain)) <= 90
    assert all(row.startswith("       ─") for row in chain[1:] if row)


def test_colour_only_adds_escapes(place: Place) -> None:
    diagnostic = Diagnostic("JAM505", "gap", place("report.score > 700"), (Label(place("done"), "here"),), help="add")
    plain = render([diagnostic], "human", files=1)
    coloured = render([diagnostic], "human", color=True, files=1)
    assert "\x1b" not in plain
    assert "\x1b[1;31merror[JAM505]" in coloured
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain


def test_the_summary_counts_and_agrees(place: Place) -> None:
    error = Diagnostic("JAM505", "gap", place("pay"))
    warning = Diagnostic("JAM202", "gap", place("pay"))
    cases: list[tuple[list[Diagnostic], int]] = [([], 3), ([error], 1), ([error, error, warning], 2)]
    ends = [render(found, "human", files=n).splitlines()[-1] for found, n in cases]
    assert ends == ["no problems in 3 files", "found 1 error in 1 file", "found 2 errors and 1 warning in 2 files"]


@given(
    st.text(st.sampled_from('ab \t\n\r{}"日👍\u0301\x1b\u202e'), max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=6),
    st.integers(20, 100),
)
def test_any_spans_in_any_text_can_be_shown(text: str, ranges: list[tuple[int, int]], width: int) -> None:
    source = SourceFile("a.jam", text)
    spans = [Span(source, min(a, b, len(text)), min(max(a, b), len(text))) for a, b in ranges]
    labels = tuple(Label(s, f"label {i}") for i, s in enumerate(spans[1:]))
    output = shown(Diagnostic("JAM101", "m", spans[0], labels), width=width)
    assert output.count("^") >= 1
    assert all(f"label {i}" in output for i in range(len(labels)))
    coloured = render([Diagnostic("JAM101", "m", spans[0], labels)], "human", color=True, width=width)
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == output


def test_many_diagnostics_on_one_long_line_stay_cheap() -> None:
    from time import process_time

    source = SourceFile("a.jam", "{" * 65536)
    diagnostics = [Diagnostic("JAM001", "m", Span(source, i, i + 1)) for i in range(0, 65536, 256)]
    start = process_time()
    render(diagnostics, "human")
    assert process_time() - start < 2


def test_the_fixture_is_the_program_that_the_expectations_quote(source: SourceFile) -> None:
    assert source.text == PROGRAM
