"""Programs as people write them: each is in order as it stands, keeps its layout and its meaning, and is drawn."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from jamjet_dsl import definition as d
from jamjet_dsl.compiler import check_file, compile_file
from jamjet_dsl.render import picture
from jamjet_dsl.syntax.format import format_source

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.jam"))


@pytest.fixture(params=PROGRAMS, ids=lambda path: path.stem)
def program(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_nothing_is_said_about_a_program_that_is_in_order(program: Path) -> None:
    assert [f"{f.code} {f.message}" for f in check_file(program).diagnostics] == []


def test_its_layout_is_the_canonical_one_and_its_meaning_does_not_hang_on_it(program: Path, tmp_path: Path) -> None:
    text = program.read_text(encoding="utf-8")
    assert format_source(text) == text
    crumpled = re.sub(r"\n\s*", "\n\t ", text)
    again = format_source(crumpled)
    assert format_source(again) == again
    copy = tmp_path / program.name
    copy.write_text(again, encoding="utf-8")
    assert compile_file(copy).definition.digest == compile_file(program).definition.digest


def test_every_agent_of_it_is_drawn(program: Path) -> None:
    names = re.findall(r"^agent (\w+)", program.read_text(encoding="utf-8"), re.MULTILINE)
    assert names
    for name in names:
        compiled = compile_file(program, agent=name)
        svg = picture(compiled, "svg").decode()
        ET.fromstring(svg)
        for path in _states(compiled.definition.agent.body):
            assert f'id="state {path}"' in svg
        assert picture(compiled, "mmd").startswith(b"flowchart")


def _states(region: d.Region, prefix: str = "") -> list[str]:
    found = []
    for state in region.states:
        path = f"{prefix}{state.name}"
        found.append(path)
        match getattr(state, "action", None):
            case d.Parallel(branches=branches):
                for branch in branches:
                    found += _states(branch.body, f"{path}/{branch.name}/")
            case d.Each(body=body):
                found += _states(body, f"{path}/each/")
    return found
