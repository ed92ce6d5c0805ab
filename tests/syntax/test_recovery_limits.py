"""Whatever the text, parsing ends soon and with a diagnostic, never with an exception."""

from __future__ import annotations

import random
from pathlib import Path
from time import process_time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax.clean import MAX_ERRORS
from jamjet_dsl.syntax.lexer import scan
from jamjet_dsl.syntax.node import walk
from jamjet_dsl.syntax.parser import MAX_PROGRAM_CHARS, Parsed, parse, parse_expression, tokens

KIB64 = 65536
DESIGN = sorted((Path(__file__).resolve().parents[3] / "shared" / "design" / "examples").glob("*.jam"))
TEXTS = [path.read_text(encoding="utf-8") for path in DESIGN]
REPEATED = [
    *"{}()[]!-`;\\'\"$0é\u202e",
    "a.",
    "a ? b : ",
    "1 + ",
    '"""',
    "///\n",
    "#\n",
    "f(",
    "x {",
    "-> ",
    "<<<<<<<\n",
    "1h30m ",
    "agent a { state b { ",
    "/*",
    "list<",
    "when a -> b else if ",
    "enum e {",
]


def _sound(parsed: Parsed, text: str) -> None:
    """What holds for every parse: places within the text, in order, and not too many."""
    assert len(parsed.diagnostics) <= 2 * MAX_ERRORS + 3
    starts = [d.span.start for d in parsed.diagnostics]
    assert starts == sorted(starts)
    for d in parsed.diagnostics:
        assert 0 <= d.span.start <= d.span.end <= len(text)
    for node in walk(parsed.program):
        assert 0 <= node.span.start <= node.span.end <= len(text)


@pytest.mark.parametrize("piece", REPEATED, ids=repr)
def test_64_kib_of_one_thing_is_answered_within_a_second(piece: str) -> None:
    text = (piece * (KIB64 // len(piece) + 1))[:KIB64]
    began = process_time()
    parsed = parse(SourceFile("x", text))
    assert process_time() - began < 1.0
    assert parsed.diagnostics or piece == "///\n"
    _sound(parsed, text)
    began = process_time()
    assert parse_expression(SourceFile("x", text))[1]
    assert process_time() - began < 1.0


@pytest.mark.parametrize("low_high", [(0, 255), (32, 126), (0, 0x2FFF)], ids=str)
def test_64_kib_of_random_characters_are_answered_within_a_second(low_high: tuple[int, int]) -> None:
    rng = random.Random(7)
    text = "".join(chr(rng.randint(*low_high)) for _ in range(KIB64))
    began = process_time()
    parsed = parse(SourceFile("x", text))
    assert process_time() - began < 1.0
    assert parsed.diagnostics
    _sound(parsed, text)


def test_ten_megabytes_of_braces_are_answered_at_once() -> None:
    began = process_time()
    (found,) = parse(SourceFile("x", "{" * 10_000_000)).diagnostics
    assert process_time() - began < 0.5
    assert (found.code, found.message) == ("JAM001", "nested more than 200 levels deep")


def test_a_program_beyond_the_limit_is_refused_unread() -> None:
    (found,) = parse(SourceFile("x", " " * (MAX_PROGRAM_CHARS + 1))).diagnostics
    assert found.message == "the program is larger than 16 MiB"


@pytest.mark.parametrize("nested", ["(" * 10_000 + "1" + ")" * 10_000, "!" * 10_000 + "a", "a" + ".b" * 10_000])
def test_nesting_of_ten_thousand_is_one_error(nested: str) -> None:
    found = parse(SourceFile("x", f"const a: int = {nested}")).diagnostics
    assert [(d.code, d.message) for d in found] == [("JAM001", "nested more than 200 levels deep")]


def test_two_hundred_levels_are_read_and_one_more_is_not() -> None:
    def parsed(depth: int) -> list[str]:
        return [d.message for d in parse(SourceFile("x", "const a: int = " + " + ".join(["1"] * depth))).diagnostics]

    assert parsed(201) == []
    assert parsed(202) == ["nested more than 200 levels deep"]


def test_after_fifty_errors_the_rest_is_not_shown() -> None:
    text = "agent a version 1 {\n" + "  stat s { -> t }\n  final f { ok true }\n" * 200 + "}\n"
    found = parse(SourceFile("x", text)).diagnostics
    assert len(found) == MAX_ERRORS + 1
    assert any("the rest is not shown" in d.message for d in found)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=300))
def test_any_text_is_parsed_without_an_exception(text: str) -> None:
    _sound(parse(SourceFile("x", text)), text)
    parse_expression(SourceFile("x", text))


_PIECES = [
    "{",
    "}",
    "(",
    ")",
    "->",
    "state",
    "agent",
    ":",
    "=",
    '"',
    "wibble",
    "1.5h",
    "\n",
    "//",
    "`",
    ",",
    "é",
    "/*",
    "'''",
]


@pytest.mark.skipif(not TEXTS, reason="the design programs are not there")
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_mutated_program_is_parsed_without_an_exception(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(TEXTS))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(st.sampled_from(["", *_PIECES])) + text[at + length :]
    _sound(parse(SourceFile("x", text)), text)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab{}()\"'`/\\*.:;=<>-0123456789smhd \n\t$é"), max_size=200))
def test_tokens_and_the_space_between_them_are_the_text(text: str) -> None:
    if scan(text).deep is None:
        at = 0
        for token in tokens(SourceFile("x", text)):
            assert text[at : token.start].strip(" \t\r\n\ufeff") == ""
            assert text[token.start : token.end] == token.text
            at = token.end
        assert at == len(text)


@pytest.mark.skipif(not TEXTS, reason="the design programs are not there")
def test_ten_thousand_lines_are_parsed_in_under_a_second() -> None:
    loan = next(text for text in TEXTS if "agent loan_underwriting" in text).replace("language 1\n", "")
    text = "".join(loan.replace("loan_underwriting", f"loan_{i}") for i in range(112))
    began = process_time()
    parsed = parse(SourceFile("x", text))
    assert process_time() - began < 0.9
    assert not parsed.diagnostics
    assert len(parsed.program.items) == 112 * 9
