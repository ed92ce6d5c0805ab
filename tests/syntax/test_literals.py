"""Literals are exact, and those that are not literals say what to write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.parser import parse, parse_expression


def lit(text: str) -> tuple[str, object]:
    made, found = parse_expression(SourceFile("x", text))
    assert [(d.code, d.message) for d in found] == []
    assert isinstance(made, ast.Lit)
    assert made.span.text == text
    return made.kind, made.value


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("0", "int", 0),
        ("1_000", "int", 1000),
        ("0xFf", "int", 255),
        ("9223372036854775807", "int", 2**63 - 1),
        ("5u", "uint", 5),
        ("0xFFU", "uint", 255),
        ("18446744073709551615u", "uint", 2**64 - 1),
        ("1.5", "float", 1.5),
        (".5", "float", 0.5),
        ("1e3", "float", 1000.0),
        ("2.5E-3", "float", 0.0025),
        ("$1.50", "money", ("1.50", "USD")),
        ("$50_000", "money", ("50000", "USD")),
        ("1_000.50 EUR", "money", ("1000.50", "EUR")),
        ("0.1\tJPY", "money", ("0.1", "JPY")),
        ("500ms", "duration", 500),
        ("30s", "duration", 30_000),
        ("5m", "duration", 300_000),
        ("48h", "duration", 172_800_000),
        ("7d", "duration", 604_800_000),
        ("20k", "quantity", 20_000),
        ("1M", "quantity", 1_000_000),
        ("true", "bool", True),
        ("false", "bool", False),
        ("null", "null", None),
        ('"a"', "string", "a"),
        ("'it\"s'", "string", 'it"s'),
        ('""', "string", ""),
        ('"""a\n"b" c"""', "string", 'a\n"b" c'),
        ("'''x'''", "string", "x"),
        (r'r"\d"', "string", r"\d"),
        (r'R"""\n"""', "string", r"\n"),
        (r'"\a\b\f\n\r\t\v\\\?\"\'\`"', "string", "\a\b\f\n\r\t\v\\?\"'`"),
        (r'"\x41\u00e9\U0001F600\101"', "string", "Aé😀A"),
        ('"é // no comment"', "string", "é // no comment"),
        ('b"é"', "bytes", "é".encode()),
        (r'b"\xff\377\n"', "bytes", b"\xff\xff\n"),
        (r'br"\x"', "bytes", rb"\x"),
        ("rb'a'", "bytes", b"a"),
        ('b"""a\nb"""', "bytes", b"a\nb"),
    ],
)
def test_literals(text: str, kind: str, value: object) -> None:
    assert lit(text) == (kind, value)
    assert type(lit(text)[1]) is type(value)


def test_line_ends_in_triple_quotes_do_not_depend_on_the_checkout() -> None:
    assert lit('"""a\r\nb\\n"""') == ("string", "a\nb\n")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=50))
def test_any_string_can_be_written_with_escapes(value: str) -> None:
    written = "".join(f"\\U{ord(c):08x}" if c in '"\\\n' or not c.isprintable() else c for c in value)
    made, _ = parse_expression(SourceFile("x", f'"{written}"'))
    assert isinstance(made, ast.Lit)
    assert made.value == value


@given(st.binary(max_size=50))
def test_any_bytes_can_be_written(value: bytes) -> None:
    assert lit('b"' + "".join(f"\\x{byte:02x}" for byte in value) + '"') == ("bytes", value)


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_int_of_64_bits_can_be_written(value: int) -> None:
    assert lit(str(value)) == ("int", value)


@given(st.decimals(0, 10**15, places=4))
def test_amounts_keep_their_digits(value: object) -> None:
    assert lit(f"${value:f}") == ("money", (f"{value:f}", "USD"))


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("1h30m", "`1h30m` mixes units", "a duration has one unit: write `90m`"),
        ("1.5h", "a duration is a whole number, unlike `1.5h`", "write `90m`"),
        ("1.5s", "a duration is a whole number, unlike `1.5s`", "write `1500ms`"),
        ("10min", "there is no unit `min`", "write `10m`: units are ms, s, m, h, d"),
        ("2hours", "there is no unit `hours`", "write `2h`: units are ms, s, m, h, d"),
        ("10USD", "`10USD` needs a space before the currency", "write `10 USD`"),
        ("20K", "`20K` is not a number", "counts end in `k` or `M`, without a fraction: `20k`, `1M`"),
        ("$x", "the character `$` has no meaning here", "remove it"),
        ("5parsecs", "there is no unit `parsecs`", "units are ms, s, m, h, d for durations and k, M for counts"),
        ("0x", "there is no unit `x`", "units are ms, s, m, h, d for durations and k, M for counts"),
        ("9223372036854775808", "this number does not fit into 64 bits", "only with a minus before it"),
        ("9223372036854775809", "this number does not fit into 64 bits", "the largest int is 9223372036854775807"),
        ("1" * 5000, "this number does not fit into 64 bits", "the largest int is 9223372036854775807"),
        ("18446744073709551616u", "this number does not fit into 64 bits", "the largest uint is 18446744073709551615u"),
        ("1e400", "this number is too large for a float", "the largest float is about 1.8e308"),
        ("9999999999d", "this duration is longer than 292 years", "write a shorter one"),
        ('"\\q"', "there is no escape `\\q`", 'write `\\\\` for a backslash, or a raw string r"…"'),
        ('"\\x4"', "`\\x` needs 2 hexadecimal digits", "write `\\\\` for a backslash"),
        ('"\\ud800"', "this escape is not a Unicode character", "surrogates cannot be written"),
        ('"\\400"', "there is no escape `\\4`", 'write `\\\\` for a backslash, or a raw string r"…"'),
        ('b"\\u0041"', "bytes have no `\\u` escapes", "write the bytes as `\\x..`"),
    ],
)
def test_what_is_no_literal_is_refused_with_a_hint(text: str, message: str, help: str) -> None:
    _, found = parse_expression(SourceFile("x", text))
    assert (found[0].message, found[0].help) == (message, help)
    assert len(found) == 1 or text == "$x"


@pytest.mark.parametrize(
    ("clause", "message", "help"),
    [
        ("timeout 60", "a duration needs a unit", "write `60s` for seconds"),
        ("timeout $6", "`$6` is not a duration", "write for example `30s`, `5m` or `48h`"),
        ("cost 0.10", "an amount of money needs a currency", "write `$0.10` or `0.10 EUR`"),
        ("cost 5s", "`5s` is not an amount of money", "write for example `$2.00`"),
        ("limit $6 calls per minute", "a plain number is needed here, not `$6`", "write for example `10`"),
        ("retry any 1.5 times", "a plain number is needed here, not `1.5`", "write for example `10`"),
    ],
)
def test_a_literal_of_the_wrong_kind_says_which_is_needed(clause: str, message: str, help: str) -> None:
    (found,) = parse(SourceFile("x", f"tool t() {{ effect reads  {clause} }}")).diagnostics
    assert (found.code, found.message, found.help) == ("JAM004", message, help)


def test_an_error_inside_a_text_points_at_the_escape() -> None:
    (found,) = parse(SourceFile("x", 'const a: string = "one \\q two"')).diagnostics
    assert found.span.text == "\\q"


def test_a_form_feed_is_white_space_as_in_cel() -> None:
    expr, problems = parse_expression(SourceFile("x", "1\f+\f2"))
    assert problems == []
    assert isinstance(expr, ast.Binary)
