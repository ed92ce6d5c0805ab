"""Every statement of the specification holds, and every code has a page that shows it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from jamjet_dsl.diagnostics.codes import CODES
from jamjet_dsl.syntax.format import format_source
from tests import spec_harness as harness

SPECS = Path(__file__).resolve().parents[1] / "specs"
PAGES = SPECS / "diagnostics"
UPDATE = os.environ.get("JAM_UPDATE") == "1"

if not SPECS.is_dir():
    pytest.skip("the specification is not part of this installation", allow_module_level=True)

CASES = [case for page in sorted(SPECS.rglob("*.md")) for case in harness.cases(page)]


@pytest.mark.skipif(UPDATE, reason="the blocks are being written")
@pytest.mark.parametrize("case", [case for case in CASES if case.expected], ids=lambda case: case.name)
def test_what_a_page_states_about_a_program_holds(case: harness.Case) -> None:
    for block in case.expected:
        found = harness.found(case, block)
        assert found == harness.normal(block), f"\n{harness.explained(case.program.text)}"


if UPDATE:

    @pytest.mark.parametrize("page", sorted({case.page for case in CASES}), ids=lambda page: page.name)
    def test_write_what_was_found(page: Path) -> None:
        changes = {}
        for case in CASES:
            if case.page == page:
                for block in case.expected:
                    found = harness.found(case, block)
                    if found != harness.normal(block):
                        changes[block] = found
        if changes:
            harness.update(page, changes)


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_has_a_page_with_its_title(code: str) -> None:
    page = PAGES / f"{code}.md"
    assert page.exists(), f"write {page.relative_to(SPECS.parent)}"
    text = page.read_text("utf-8")
    assert re.match(rf"# {code}: \S", text)
    assert [b.heading for b in harness.blocks(text) if b.language == ""] == ["Refused", "Accepted"]


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_every_page_refuses_and_accepts_what_it_says(page: Path) -> None:
    code = page.stem
    assert code in CODES
    found = harness.cases(page)
    refused = [case for case in found if case.program.heading == "Refused"]
    accepted = [case for case in found if case.program.heading == "Accepted"]
    assert refused
    assert accepted
    for case in refused:
        assert [b.language for b in case.expected][:1] == ["diagnostics"], "say what is found, and where"
        codes = [d.code for d in harness.check(case.program.text)]
        assert code in codes, f"found {codes}"
    for case in accepted:
        diagnostics = harness.check(case.program.text)
        assert code not in [d.code for d in diagnostics], harness.explained(case.program.text)
        assert "error" not in [d.severity for d in diagnostics], harness.explained(case.program.text)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_formatting_a_program_of_the_specification_twice_is_formatting_it_once(case: harness.Case) -> None:
    for text in harness.files_of(case.program.text).values():
        if not any(d.code.startswith(("JAM0", "JAM205")) for d in harness.check(text)):
            assert format_source(format_source(text)) == format_source(text)


def test_blocks_belong_to_the_program_before_them(tmp_path: Path) -> None:
    page = tmp_path / "x.md"
    page.write_text(
        "# X\n```jam\na\n```\ntext\n```diagnostics\nb\n```\n\n```trace\nc\n```\n```python\nd\n```\n## Y\n```jam\n```\n"
    )
    first, second = harness.cases(page)
    assert (first.program.text, [b.text for b in first.expected]) == ("a\n", ["b\n", "c\n"])
    assert (second.program.text, second.expected, second.program.heading) == ("", (), "Y")
    harness.update(page, {first.expected[0]: "new\nlines\n", first.expected[1]: ""})
    assert "```diagnostics\nnew\nlines\n```\n\n```trace\n```\n" in page.read_text()
    page.write_text("```diagnostics\n```\n")
    with pytest.raises(ValueError, match="without a `jam` block"):
        harness.cases(page)
    page.write_text("```jam\n")
    with pytest.raises(ValueError, match="never closed"):
        harness.cases(page)


def test_a_block_may_hold_several_files() -> None:
    text = '//// file: a.jam\nimport { A } from "./b.jam"\n//// file: b.jam\nrecord A { x: int }\n'
    assert harness.files_of(text) == {"a.jam": 'import { A } from "./b.jam"\n', "b.jam": "record A { x: int }\n"}
    assert harness.files_of("record A {}\n") == {"main.jam": "record A {}\n"}


def test_a_definition_states_only_the_keys_it_has() -> None:
    actual = {"a": 1, "b": [{"c": 2, "d": 3}], "e": None}
    assert harness.contains(actual, {"b": [{"c": 2}]})
    assert not harness.contains(actual, {"b": []})
    assert not harness.contains(actual, {"a": True})
    assert not harness.contains(actual, {"f": 1})
    assert harness.project(actual, {"b": [{"c": 9}], "f": 0}) == {"b": [{"c": 2}]}


def test_runs_diagrams_and_definitions_can_be_stated(tmp_path: Path) -> None:
    page = tmp_path / "x.md"
    program = (
        "tool t(n: int) -> int { effect reads }\n"
        "agent a version 3 {\n  input n: int\n  output m: int\n  policy { allow t }\n  on error any -> bad\n"
        "  start state first {\n    call t(n) as x\n    -> done\n  }\n"
        "  final done { m = x }\n  failed bad { m = 0 }\n}\n"
        'test "it doubles" for a {\n  input n = 2\n  mock t returns 4\n  expect path first, done\n}\n'
    )
    page.write_text(
        f'```jam\n{program}```\n```trace\n```\n```mermaid\n```\n```definition\n{{"main": "a", "tools": {{}}}}\n```\n'
    )
    (case,) = harness.cases(page)
    trace, mermaid, definition = (harness.found(case, block) for block in case.expected)
    assert trace == 'it doubles: completed\n  first -> done\n  {"m": 4}\n'
    assert mermaid.startswith("flowchart TD\n")
    assert definition == harness.normal(case.expected[2])
