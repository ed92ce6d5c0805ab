"""The canonical layout, one rule a test; and what holds for every program."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from textwrap import dedent
from types import FrameType

import pytest
from hypothesis import HealthCheck, assume, given, settings

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax.format import WIDTH, format_program, format_source
from jamjet_dsl.syntax.lexer import scan
from tests.generators import program, programs

ROOT = Path(__file__).resolve().parents[2]


def lay(text: str) -> str:
    """Formats dedented text, and again to see that nothing changes."""
    once = format_source(dedent(text).lstrip("\n"))
    assert format_source(once) == once
    return once


def expect(text: str) -> str:
    return dedent(text).lstrip("\n")


def test_spaces_follow_from_the_construct() -> None:
    assert lay(
        """
        language   1
        import {a,b} from "./x.jam"
        record P{a:string  b:secret list< map<string ,any> >? 1 .. 12}
        enum E{x y}
        const c:duration=5m
        fn f(o:Order,n:int)->decimal=-n+g( o.items[0] ,[1,2 , ],{a:1})*( 2-.x )
        tool t ( a:string ) ->R untrusted{effect reads  raises A,B}
        """
    ) == expect(
        """
        language 1
        import { a, b } from "./x.jam"
        record P { a: string  b: secret list<map<string, any>>? 1..12 }
        enum   E { x  y }
        const c: duration = 5m
        fn f(o: Order, n: int) -> decimal = -n + g(o.items[0], [1, 2,], { a: 1 }) * (2 - .x)
        tool t(a: string) -> R untrusted { effect reads  raises A, B }
        """
    )


def test_a_block_stays_on_its_line_if_it_was_on_one_and_fits() -> None:
    assert lay("record A { x: int\n y: int }\nrecord B {}\nrecord C { x: int }") == expect(
        """
        record A {
          x: int
          y: int
        }
        record B {}
        record C { x: int }
        """
    )


def test_a_block_that_does_not_fit_gets_a_line_for_each_clause() -> None:
    long = "alpha_" * 12
    assert lay(f'tool t(a: string) {{ effect reads  timeout 10s  key "{long}{long}" }}') == expect(
        f"""
        tool t(a: string) {{
          effect  reads
          timeout 10s
          key     "{long}{long}"
        }}
        """
    )


def test_clauses_may_share_a_line_but_states_edges_and_rules_do_not() -> None:
    assert lay(
        """
        agent a version 1 { policy {
        allow x allow y }
        budget {
        steps 5 tokens 20k
        time 5m }
        start state s { call x() -> t when a -> b
        } }
        """
    ) == expect(
        """
        agent a version 1 {
          policy {
            allow x
            allow y
          }
          budget {
            steps 5  tokens 20k
            time 5m
          }
          start state s {
            call x()
            -> t
            when a -> b
          }
        }
        """
    )


def test_neighbours_are_aligned_until_an_empty_line_or_another_kind() -> None:
    assert lay(
        """
        agent a version 1 {
          input x: int
          output y: int
          on error any -> t
          on cancel -> t

          on denied -> t
          state s {
            on error NotFound -> t
            // a comment does not part them
            on ok -> u limit 2 else t
            -> v
            on x -> y
          }
          final t { y = 1 }
          failed u2 { y = 2 }
          final longer {
            y = 3
            yy = 4
          }
        }
        """
    ) == expect(
        """
        agent a version 1 {
          input  x: int
          output y: int
          on error any -> t
          on cancel    -> t

          on denied -> t
          state s {
            on error NotFound -> t
            // a comment does not part them
            on ok             -> u limit 2 else t
            -> v
            on x -> y
          }
          final  t  { y = 1 }
          failed u2 { y = 2 }
          final longer {
            y  = 3
            yy = 4
          }
        }
        """
    )


def test_nothing_waits_for_a_very_long_guard() -> None:
    guard = "report.score >= 720 && app.amount <= $10_000 && report.flags.size() == 0"
    rows = lay(f"agent a {{ state s {{ when {guard} -> x\n otherwise -> y\n when z -> y }} }}").splitlines()
    assert rows[2:5] == [f"    when {guard} -> x", "    otherwise -> y", "    when z    -> y"]


def test_a_long_edge_breaks_before_its_arrow_and_its_operators() -> None:
    a, b = "a" * 50, "b" * 45
    assert lay(f"agent x {{ state s {{ when {a} && !({b}) && {a} -> t limit 2 else u {{ set v = 1 }} }} }}") == expect(
        f"""
        agent x {{
          state s {{
            when {a}
                && !({b})
                && {a}
              -> t limit 2 else u {{ set v = 1 }}
          }}
        }}
        """
    )


def test_options_of_an_action_keep_their_lines() -> None:
    assert lay(
        """
        agent x { state s {
          think "Explain." given a,b?
          model large max tokens 2k
            retry E 2 times
            backoff 2s x 2   jitter full
          as y:T
          -> t } }
        """
    ) == expect(
        """
        agent x {
          state s {
            think "Explain." given a, b?
              model large  max tokens 2k
              retry E 2 times
                backoff 2s x 2 jitter full
              as y: T
            -> t
          }
        }
        """
    )


def test_a_long_action_is_filled_by_whole_options() -> None:
    assert lay(
        """
        agent x { state s {
          call t(app.ssn, 1 + 1) as report timeout 10s retry Timeout, Gone 4 times backoff 2s x 2 max 30s jitter full
          -> t } }
        """
    ).splitlines()[2:4] == [
        "    call t(app.ssn, 1 + 1) as report timeout 10s",
        "      retry Timeout, Gone 4 times backoff 2s x 2 max 30s jitter full",
    ]


def test_values_that_do_not_fit_break_at_their_brackets() -> None:
    text = "d" * 45
    assert lay(f'test "t" for a {{ mock f returns [{{ a: "{text}", b: [1, 2] }}, {{ a: g("{text}") }}] }}') == expect(
        f"""
        test "t" for a {{
          mock f returns [
            {{ a: "{text}", b: [1, 2] }},
            {{ a: g("{text}") }}
          ]
        }}
        """
    )
    assert lay(f'test "t" for a {{ mock f returns f({{ a: "{text}", b: "{text}", c: 1 }}) }}') == expect(
        f"""
        test "t" for a {{
          mock f returns f({{
            a: "{text}",
            b: "{text}",
            c: 1
          }})
        }}
        """
    )


def test_comments_stay_in_their_gap() -> None:
    assert lay(
        """
        // head


        // second
        record A { // after the brace
          // own line
          a: int    // trailing
          b: list<int> // longer

          /// doc of c
          c: int
          // before the end

        } // after
        // end
        """
    ) == expect(
        """
        // head

        // second
        record A {                                              // after the brace
          // own line
          a: int                                                // trailing
          b: list<int>                                          // longer

          /// doc of c
          c: int
          // before the end
        }                                                       // after
        // end
        """
    )


def test_trailing_comments_of_long_lines_stand_together() -> None:
    name = "n" * 50
    rows = lay(f"record A {{\n  {name}: int // a\n  b: int // b\n\n  c: int // c\n}}").splitlines()
    assert [row.index("//") for row in rows if "//" in row] == [59, 59, 56]


def test_a_comment_inside_an_expression_breaks_it_there() -> None:
    assert lay("agent a { state s { when x // why\n && y -> t } }") == expect(
        """
        agent a {
          state s {
            when x                                              // why
                && y
              -> t
          }
        }
        """
    )


def test_empty_lines_are_kept_once_and_not_at_edges() -> None:
    assert lay("\n\n\nrecord A {\n\n\n  a: int\n\n\n\n  b: int\n\n}\n\n\n\nrecord B {}\n\n\n") == expect(
        """
        record A {
          a: int

          b: int
        }

        record B {}
        """
    )


def test_strings_and_names_are_never_touched() -> None:
    text = 'const a = """one\n\n   two   // no comment\n"""\nconst b = `model`\nconst c = \'it\'\n'
    assert format_source(text) == text


def test_windows_line_breaks_and_a_byte_order_mark_go() -> None:
    assert format_source("\ufeffrecord A {\r\n  a: int // x\r\n}\r\n") == (
        "record A {\n  a: int" + " " * 48 + "// x\n}\n"
    )


def test_an_empty_program_stays_empty() -> None:
    assert [format_source(text) for text in ("", "\n\n", " \t")] == ["", "", ""]
    assert format_source("// only this") == "// only this\n"


def test_a_program_with_syntax_errors_is_not_touched() -> None:
    text = "agent a {\n   state s {  -> \n"
    made = format_program(SourceFile("a.jam", text))
    assert made.text == text
    assert {d.code for d in made.diagnostics} <= {"JAM001", "JAM002"}
    assert made.diagnostics
    with pytest.raises(JamError) as refused:
        format_source(text, "a.jam")
    assert refused.value.code == "JAMR004"
    assert refused.value.details[0].startswith("a.jam:")


def design_programs() -> list[Path]:
    """The programs of this checkout, and those of the design where they are at hand."""
    return sorted([*ROOT.glob("examples/**/*.jam"), *ROOT.parent.glob("shared/design/examples/*.jam")])


@pytest.mark.parametrize("path", design_programs(), ids=lambda path: path.name)
def test_examples_keep_their_tokens_and_format_once(path: Path) -> None:
    check_laws(path.read_text("utf-8"))


def check_laws(text: str) -> None:
    """Tokens and comments are the same and in the same order, a second pass changes nothing, no line ends in space."""
    once = format_source(text)
    before, after = scan(text), scan(once)
    assert [t.text for t in after.tokens] == [t.text for t in before.tokens]
    assert [c.text.rstrip() for c in after.comments] == [c.text.rstrip() for c in before.comments]
    assert format_source(once) == once
    assert not once or once.endswith("\n")
    assert not any("\n\n\n" in once[a.end : b.start] for a, b in zip(after.tokens, after.tokens[1:], strict=False))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(programs(comments=0.08))
def test_any_program_keeps_its_tokens_and_formats_once(text: str) -> None:
    assume(not format_program(SourceFile("g.jam", text)).diagnostics)
    check_laws(text)


def test_nearly_all_generated_programs_parse() -> None:
    """Without this the property above could hold because everything was assumed away."""
    broken = [s for s in range(60) if format_program(SourceFile("g.jam", program(random.Random(s)))).diagnostics]
    assert len(broken) <= 12


def test_lines_fit_where_something_can_break() -> None:
    items = ", ".join(f"item_{i}" for i in range(40))
    text = f"import {{ {items} }} from 'x.jam'\nagent a {{ policy {{ allow {items} }} on error {items} -> s }}"
    assert max(map(len, lay(text).splitlines())) <= WIDTH


def test_nesting_as_deep_as_the_parser_allows_is_laid_out() -> None:
    depth = 60
    text = f"const a = {'[{ a: ' * depth}1{' }]' * depth}\nconst b = {' + '.join(['x'] * 150)}\n"
    once = format_source(text)
    assert format_source(once) == once


def test_the_work_grows_linearly_with_the_lines() -> None:
    agent = expect(
        """
        agent a version 1 {
          input  x: int
          start state s {
            call t(x, amount = 5) as report
              retry Timeout 4 times backoff 2s x 2 max 30s jitter full
            when report.flags.exists(f, f == "fraud") -> d
            otherwise                                 -> d
          }

          final d { y = [1, 2, 3]  z = { a: 1 } }       // done
        }

        """
    )
    lines = agent.count("\n")

    def calls(n: int) -> int:
        """Calls of functions that it takes: the same on every machine, however busy."""
        count = 0

        def counted(frame: FrameType, event: str, arg: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        known = sys.getprofile()
        sys.setprofile(counted)
        try:
            assert format_source(agent * (n // lines))
        finally:
            sys.setprofile(known)
        return count

    calls(lines)  # what is made on first use
    small, large = calls(300), calls(3_000)
    assert large < 12 * small


def test_options_of_a_question_that_does_not_fit_begin_on_the_next_line() -> None:
    before = """
        agent a version 1 {
          start state s {
            think "TEXT" model small max prompt 3k max tokens 300 timeout 30s temperature 0 as x: string
            -> q
          }
          state q { ask role "support" "How bad is it?" show t, x options low, high, no_idea timeout 1h as answer -> r }
          state r { ask role "support" "Ok?" show t  -> f }
          final f {}
        }
        """
    after = """
        agent a version 1 {
          start state s {
            think "TEXT"
              model small  max prompt 3k  max tokens 300  timeout 30s  temperature 0  as x: string
            -> q
          }
          state q {
            ask role "support" "How bad is it?" show t, x options low, high, no_idea timeout 1h as answer
            -> r
          }
          state r { ask role "support" "Ok?" show t  -> f }
          final f {}
        }
        """
    text = "Classify this ticket: {t}"
    assert format_source(expect(before).replace("TEXT", text)) == expect(after).replace("TEXT", text)
