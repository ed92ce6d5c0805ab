"""Broken programs: one pass finds each error, where it is, and says little else.

Each file of `broken/` is a program with errors; its first line names what is expected as `CODE:LINE`, one for each
real error. The set is exact: an error too many is a cascade, one too few was hidden by another.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from jamjet_dsl import compiler
from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.lexer import scan
from jamjet_dsl.syntax.node import walk
from jamjet_dsl.syntax.parser import Parsed, parse

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.jam"))
DESIGN = sorted((Path(__file__).resolve().parents[3] / "shared" / "design" / "examples").glob("*.jam"))


def _parse(path: Path) -> Parsed:
    return parse(SourceFile(path.name, path.read_text(encoding="utf-8")))


def _expected(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("// expect: ").split()


def test_there_are_at_least_sixty_broken_programs() -> None:
    assert len(BROKEN) >= 60
    assert all(_expected(path) for path in BROKEN)


@pytest.mark.parametrize("path", BROKEN, ids=lambda p: p.stem)
def test_each_error_is_reported_once_and_where_it_is(path: Path) -> None:
    found = [f"{d.code}:{d.span.line}" for d in _parse(path).diagnostics]
    assert sorted(found) == sorted(_expected(path))


@pytest.mark.parametrize("path", BROKEN, ids=lambda p: p.stem)
def test_later_phases_report_no_consequence_of_a_syntax_error(path: Path) -> None:
    found = compiler.check_text(path.read_text(encoding="utf-8"), path.name)
    beyond = {d.code for d in found if d.severity == "error" and not d.code.startswith("JAM00")}
    assert beyond <= {"missing_from": {"JAM105"}, "keyword_literal_as_name": {"JAM103"}}.get(path.stem, set())


def test_messages(snapshot: SnapshotAssertion) -> None:
    lines = []
    for path in BROKEN:
        lines.append(f"{path.stem}:")
        for d in _parse(path).diagnostics:
            lines.append(f"  {d.code} {d.span.line}:{d.span.column}-{d.span.end_line}:{d.span.end_column} {d.message}")
            lines += [f"    help: {d.help}"] if d.help else []
            lines += [f"    label {x.span.line}:{x.span.column}: {x.text}" for x in d.labels]
    assert "\n".join(lines) == snapshot


def test_messages_speak_of_the_language_and_not_of_the_parser() -> None:
    for path in BROKEN:
        for d in _parse(path).diagnostics:
            for word in ("LBRACE", "RBRACE", "IDENT", "token", "terminal", "ANON", "$END", "FIELD", "BADNUM"):
                assert word not in d.message + d.help, (path.stem, d.message)
            assert not d.message.endswith(".")


def _declared(parsed: Parsed) -> list[str]:
    return [
        node.name.text
        for node in walk(parsed.program)
        if isinstance(node, ast.StateDecl | ast.FinalDecl | ast.AgentDecl | ast.ToolDecl | ast.RecordDecl)
    ]


_KEPT = [p for p in BROKEN if p.stem.startswith(("misspelt_", "foreign_", "word_", "missing_close", "missing_open"))]


@pytest.mark.parametrize("path", _KEPT, ids=lambda p: p.stem)
def test_a_program_with_a_small_error_keeps_all_its_declarations(path: Path) -> None:
    parsed = _parse(path)
    text = path.read_text(encoding="utf-8")
    for name in ("done", "failed_end", "loan", "look"):
        if f"{name} {{" in text or f"{name}(" in text.split("agent")[0]:
            assert name in _declared(parsed), name


def test_a_misspelt_keyword_loses_nothing_and_a_missing_operand_does() -> None:
    by_name = {path.stem: _parse(path) for path in BROKEN}
    assert not by_name["misspelt_state"].incomplete
    assert not by_name["single_equals_in_guard"].incomplete
    assert by_name["missing_operand"].incomplete
    assert by_name["garbage_in_a_state"].incomplete
    assert any(isinstance(node, ast.ErrorExpr) for node in walk(by_name["missing_operand"].program))


@pytest.mark.parametrize("edit", ["left out", "doubled", "replaced by a name", "preceded by a bracket"])
@pytest.mark.skipif(not DESIGN, reason="the design programs are not there")
def test_one_token_changed_is_one_error_nearly_always(edit: str) -> None:
    counts: Counter[int] = Counter()
    for path in DESIGN:
        text = path.read_text(encoding="utf-8")
        for token in scan(text).tokens[:-1:3]:
            match edit:
                case "left out":
                    changed = text[: token.start] + text[token.end :]
                case "doubled":
                    changed = f"{text[: token.end]} {token.text}{text[token.end :]}"
                case "replaced by a name":
                    changed = f"{text[: token.start]} wibble {text[token.end :]}"
                case _:
                    changed = f"{text[: token.start]} ] {text[token.start :]}"
            counts[len(parse(SourceFile(path.name, changed)).diagnostics)] += 1
    several = sum(count for errors, count in counts.items() if errors > 1)
    assert several <= sum(counts.values()) // 50, counts
    assert max(counts) <= 5, counts
