"""`jam test --coverage`: the table, what is left out, the drawing, and the codes that scripts branch on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Jam

SORT = """\
agent sort {
  input n: int
  output big: bool
  start state sorting {
    when n > 100 -> large
    otherwise -> small
  }
  final large { big = true }
  final small { big = false }
}
"""
LARGE = 'test "large" for sort { input n = 101  expect path sorting, large }\n'
SMALL = 'test "small" for sort { input n = 100  expect big == false }\n'


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_the_table_and_what_no_test_passes(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "in/sort.jam", SORT + LARGE)
    said = jam("test", "in", "--coverage")
    assert said.code == 0
    rows = [line.split() for line in said.out.splitlines()]
    assert ["sort", "2/3", "66.7", "%", "1/2", "50.0", "%"] in rows
    assert "60.0 % of all states and edges" in said.out
    assert "in/sort.jam:6:5: info[JAM904] no test takes the edge `otherwise` of `sorting`" in said.out
    assert "in/sort.jam:9:3: info[JAM904] no test enters `small`" in said.out


def test_nothing_is_named_when_all_is_passed(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "sort.jam", SORT + LARGE + SMALL)
    said = jam("test", "sort.jam", "--min-coverage", "100")
    assert said.code == 0
    assert "100.0 % of all states and edges" in said.out
    assert "JAM904" not in said.out


def test_too_little_coverage_ends_with_one(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "sort.jam", SORT + LARGE)
    assert jam("test", "sort.jam", "--min-coverage", "60").code == 0
    said = jam("test", "sort.jam", "--min-coverage", "60.5")
    assert said.code == 1
    assert "coverage is 60.0 %, and at least 60.5 % is asked for" in said.err
    for bad in ("101", "-1", "many", "nan"):
        assert jam("test", "sort.jam", "--min-coverage", bad).code == 2


def test_the_same_as_json(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "sort.jam", SORT + LARGE)
    told = jam("test", "sort.jam", "--coverage", "--format", "json").json
    assert told["passed"] == 1
    assert told["coverage"]["percent"] == 60.0
    (agent,) = told["coverage"]["agents"]
    assert (agent["agent"], agent["states"], agent["edges"]) == (
        "sort",
        {"covered": 2, "all": 3},
        {"covered": 1, "all": 2},
    )
    assert [(f["code"], f["line"], f["severity"]) for f in agent["not_covered"]] == [
        ("JAM904", 6, "info"),
        ("JAM904", 9, "info"),
    ]
    assert "coverage" not in jam("test", "sort.jam", "--format", "json").json


def test_check_does_not_speak_of_coverage(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "sort.jam", SORT)
    assert "JAM904" not in jam("check", "sort.jam", "--strict").out


def test_a_test_of_an_agent_passes_the_one_that_it_runs_in_another_file(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "sort.jam", SORT)
    write(
        tmp_path,
        "outer.jam",
        'import { sort } from "./sort.jam"\n'
        "agent outer { output big: bool  start state s { run sort(n = 5) as r  on error any -> bad  -> done }\n"
        "final done { big = r.big }  final bad { big = false } }\n"
        'test "t" for outer { expect big == false }\n',
    )
    told = jam("test", ".", "--coverage", "--format", "json").json
    by_name = {a["agent"]: a for a in told["coverage"]["agents"]}
    assert by_name["sort"]["states"]["covered"] == 2
    assert by_name["outer"]["edges"] == {"covered": 1, "all": 2}


@pytest.mark.parametrize("ending", ["svg", "mmd", "dot", "html", "png"])
def test_the_diagram_is_drawn_in_two_colours(jam: Jam, tmp_path: Path, ending: str) -> None:
    write(tmp_path, "sort.jam", SORT + LARGE)
    assert jam("test", "sort.jam", "-o", f"c.{ending}").code == 0
    data = (tmp_path / f"c.{ending}").read_bytes()
    if ending == "png":
        assert data.startswith(b"\x89PNG")
        return
    text = data.decode()
    assert "#1d7f4e" in text
    assert "#fdeaea" in text
    if ending == "mmd":
        assert "linkStyle 0 stroke:#1d7f4e" in text
        assert "linkStyle 1 stroke:#c62f3b" in text
    else:
        assert "tests pass 2 of 3 states and 1 of 2 edges" in text


def test_each_agent_has_a_diagram_of_its_own(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "two.jam", SORT + LARGE + SORT.replace("agent sort", "agent other"))
    assert jam("test", "two.jam", "-o", "c.mmd").code == 0
    assert sorted(p.name for p in tmp_path.glob("c*")) == ["c.other.mmd", "c.sort.mmd"]
    assert jam("test", "two.jam:sort", "-o", "one.mmd").code == 0
    assert (tmp_path / "one.mmd").exists()
    said = jam("test", "two.jam", "-o", "-")
    assert said.code == 2
    assert "name one as FILE:AGENT" in said.err


def test_a_drawing_that_cannot_be_made_is_said(jam: Jam, tmp_path: Path) -> None:
    write(tmp_path, "sort.jam", SORT + LARGE)
    for bad in ("c.txt", "c", "no/such/folder/c.svg", "."):
        said = jam("test", "sort.jam", "-o", bad)
        assert said.code == 2, bad
        assert said.err.startswith("error[JAMR00"), said.err


def test_a_mock_that_a_run_does_not_come_to_is_noted_and_fails_nothing(jam: Jam, tmp_path: Path) -> None:
    text = """
tool look() -> int { effect reads }
agent a {
  input n: int
  output r: int
  policy { allow look }
  on error any -> bad
  start state s { when n > 1 -> looks  otherwise -> done }
  state looks { call look() as m  -> done }
  final done { r = 1 }
  final bad { r = 0 }
}
test "not used" for a { input n = 1  mock look returns 1 }
test "missing" for a { input n = 2 }
"""
    write(tmp_path, "a.jam", text)
    said = jam("test", "a.jam")
    assert said.code == 1
    assert "JAM902: the mock of `look` is not used  a.jam:13" in said.out
    assert "JAM902: `looks` calls look: add `mock look returns …`" in said.out
    first, second = jam("test", "a.jam", "--format", "json").json["tests"]
    assert (first["passed"], first["unused"]) == (True, [{"target": "look", "line": 13, "code": "JAM902"}])
    assert (second["passed"], second["failures"][0]["code"]) == (False, "JAM902")
    assert "through" not in first
