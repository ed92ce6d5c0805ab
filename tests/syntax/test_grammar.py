"""The grammar itself, and that the driver and Lark read it alike."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.syntax import tables as tables_module
from jamjet_dsl.syntax.compile_grammar import compile_grammar, compile_to_bytes, load_lark
from jamjet_dsl.syntax.driver import Driver
from jamjet_dsl.syntax.lexer import Token, scan
from jamjet_dsl.syntax.tables import Tables, grammar_text, tables
from tests.generators import tokens as random_tokens

ROOT = Path(__file__).resolve().parents[2]
DESIGN = ROOT.parent / "shared" / "design" / "examples"
BROKEN = ROOT / "tests" / "syntax" / "broken"


class _Plain:
    """A builder that makes of every reduction a plain (name, children)."""

    def __getattr__(self, name: str) -> Callable[[list[Any], int, int], Any]:
        return lambda kids, start, end: (name, [k.text if type(k) is Token else k for k in kids])


def _from_driver(text: str, start: str = "start") -> Any:
    driver = Driver(scan(text).tokens, start, _Plain())
    assert driver.run(), driver.tokens[driver.at]
    return driver.result


def _from_lark(text: str, start: str = "start") -> Any:
    def plain(node: Any) -> Any:
        if node is None or not hasattr(node, "children"):
            return None if node is None else str(node)
        return (str(node.data), [plain(child) for child in node.children])

    return plain(_lark().parse(text, start=start))


_LARK: list[Any] = []


def _lark() -> Any:
    if not _LARK:
        _LARK.append(load_lark(grammar_text()))
    return _LARK[0]


def test_the_grammar_is_lalr_and_clean_under_strict() -> None:
    assert load_lark(grammar_text(), strict=True).rules


@pytest.mark.parametrize("path", sorted(DESIGN.glob("*.jam")), ids=lambda p: p.stem)
def test_lark_and_the_driver_read_the_design_programs_alike(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert _from_driver(text) == _from_lark(text)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_lark_and_the_driver_read_any_program_of_the_grammar_alike(seed: int) -> None:
    # One token a line: what Lark needs a look-ahead for (a name before `:`) it does not find behind a comment.
    text = "\n".join(random_tokens(random.Random(seed), depth=24))
    assert _from_driver(text) == _from_lark(text)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_lark_and_the_driver_read_any_expression_of_the_grammar_alike(seed: int) -> None:
    text = "\n".join(random_tokens(random.Random(seed), "expression", depth=24))
    assert _from_driver(text, "expression") == _from_lark(text, "expression")


@pytest.mark.parametrize("seed", [599, 734, 1734])  # a currency behind the range of a const, and more than one sign
def test_lark_and_the_driver_read_what_once_was_refused(seed: int) -> None:
    text = "\n".join(random_tokens(random.Random(seed), depth=24))
    assert _from_driver(text) == _from_lark(text)


def test_the_compiled_tables_survive_their_bytes() -> None:
    made = compile_grammar(grammar_text())
    again = Tables.load(made.dump())
    assert again == made == tables()


@pytest.mark.parametrize("data", [b"", b"\x00", b"nonsense", compile_to_bytes(grammar_text())[:1000]])
def test_damaged_tables_are_made_again(data: bytes) -> None:
    assert Tables.load(data) is None


def test_a_damaged_cache_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = tables_module._cached(grammar_text())
    (cached,) = (tmp_path / "jamjet-dsl").iterdir()
    cached.write_bytes(b"torn")
    assert tables_module._cached(grammar_text()) == first
    assert Tables.load(cached.read_bytes()) == first


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert tables_module._cached(grammar_text()) == tables()


def test_a_changed_grammar_has_another_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    changed = grammar_text().replace('"otherwise"', '"elsewise"')
    assert "elsewise" in tables_module._cached(changed).literals.values()
    assert "elsewise" not in tables_module._cached(grammar_text()).literals.values()


def test_parsing_imports_nothing_heavy() -> None:
    program = (
        "import sys; from jamjet_dsl.source import SourceFile; from jamjet_dsl.syntax.parser import parse;"
        "parse(SourceFile('a', 'record A { a: int }'));"
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'lark', 'pydantic', 'networkx', 'rich', 'asyncio', 'sqlite3', 'json', 'hashlib', 'decimal', 'logging'}))"
    )
    tables()  # so that the cache is there
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
