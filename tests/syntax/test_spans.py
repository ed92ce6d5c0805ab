"""Spans are exact: they cover the text of the node and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node, children, walk
from jamjet_dsl.syntax.parser import parse, parse_expression, tokens

DESIGN = sorted((Path(__file__).resolve().parents[3] / "shared" / "design" / "examples").glob("*.jam"))


def _nodes(text: str) -> list[Node]:
    parsed = parse(SourceFile("x", text))
    assert not parsed.diagnostics
    return list(walk(parsed.program))


@pytest.mark.parametrize("path", DESIGN, ids=lambda p: p.stem)
def test_every_node_begins_and_ends_at_tokens_and_holds_its_parts(path: Path) -> None:
    source = SourceFile(path.name, path.read_text(encoding="utf-8"))
    parsed = parse(source)
    starts = {token.start for token in tokens(source)}
    ends = {token.end for token in tokens(source)}
    for node in walk(parsed.program):
        if isinstance(node, ast.Program):
            continue
        inside_text = isinstance(node, ast.Placeholder)
        if not inside_text and node.span.start < node.span.end and node.span.text[0] != "{":
            assert node.span.start in starts or _in_text(source, node), node
            assert node.span.end in ends or _in_text(source, node), node
        for child in children(node):
            assert node.span.start <= child.span.start <= child.span.end <= node.span.end, (node, child)


def _in_text(source: SourceFile, node: Node) -> bool:
    return any(t.kind == "STRING" and t.start < node.span.start < t.end for t in tokens(source))


def test_names_are_their_words() -> None:
    for node in _nodes("agent a version 1 { input `when`: T  state s { call t(x = y) as z  -> s } }"):
        if isinstance(node, ast.Name):
            assert node.span.text.strip("`") == node.text


def test_an_expression_in_parentheses_spans_what_is_inside_and_its_operation_the_parentheses() -> None:
    made, _ = parse_expression(SourceFile("x", " (a + b) * (c) "))
    assert isinstance(made, ast.Binary)
    assert made.span.text == "(a + b) * (c)"
    assert made.left.span.text == "a + b"
    assert made.right.span.text == "c"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (ast.Edge, "when a -> s limit 2 else t { set x = 1 }"),
        (ast.When, "when a"),
        (ast.SetClause, "set x = 1"),
        (ast.CallAction, "call t(a, b = 2) as z timeout 5s"),
        (ast.ToolCall, "t(a, b = 2)"),
        (ast.BindOpt, "as z"),
        (ast.Arg, "a"),
        (ast.StateDecl, "start state s { call t(a, b = 2) as z timeout 5s  when a -> s limit 2 else t { set x = 1 } }"),
    ],
)
def test_clauses_span_their_whole_text(kind: type[Node], text: str) -> None:
    program = """
    // before
    agent a version 1 {
      start state s { call t(a, b = 2) as z timeout 5s  when a -> s limit 2 else t { set x = 1 } } // after
    }
    """
    assert next(node for node in _nodes(program) if type(node) is kind).span.text == text


def test_lines_and_columns_count_code_points_from_one() -> None:
    program = '/// \U0001f600\nconst a: string = "é😀"\r\nconst b: int = 1\n'
    const = parse(SourceFile("x", program)).program.items[1]
    assert (const.span.line, const.span.column, const.span.end_column) == (3, 1, 17)


def test_a_byte_order_mark_is_no_text() -> None:
    parsed = parse(SourceFile("x", "\ufefflanguage 1\n"))
    assert not parsed.diagnostics
    assert parsed.program.language is not None
    assert parsed.program.language.span.start == 1
