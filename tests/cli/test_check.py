"""`jam check` and `jam explain`: forms, exit codes, several files, stdin, agents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jamjet_dsl.cli import COMMANDS
from tests.cli.conftest import Jam
from tests.cli.programs import LOAN, SOUND, terminal

WRONG = SOUND.replace("-> big\n", "-> huge\n")
WARNED = SOUND.replace("  start state", "  var unused: int = 1\n  start state")


def test_a_sound_program_is_said_to_be_sound(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    assert jam("check", "a.jam") == (0, "no problems in 1 file\n", "")


def test_all_errors_are_told_with_place_and_help_and_the_code_is_1(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(WRONG.replace("otherwise   -> small", "otherwise   -> smal"))
    said = jam("check", "a.jam")
    assert said.code == 1
    assert "a.jam:5:20" in said.out
    assert "`huge`" in said.out
    assert "small" in said.out
    assert "found 2 errors" in said.out


def test_json_has_the_published_shape_counted_from_1(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(WRONG)
    said = jam("check", "a.jam", "--format", "json")
    assert said.code == 1
    assert said.json["errors"] == 1
    first = said.json["diagnostics"][0]
    assert {"code", "severity", "message", "file", "line", "column", "end_line", "end_column", "help"} <= set(first)
    assert (first["file"], first["line"], first["column"]) == ("a.jam", 5, 20)
    assert (first["end_line"], first["end_column"]) == (5, 24)


@pytest.mark.parametrize(("form", "sign"), [("concise", "a.jam:5:20:"), ("sarif", '"2.1.0"'), ("github", "::error ")])
def test_the_other_forms(jam: Jam, tmp_path: Path, form: str, sign: str) -> None:
    (tmp_path / "a.jam").write_text(WRONG)
    said = jam("check", "--format", form, "a.jam")
    assert said.code == 1
    assert sign in said.out


def test_format_may_stand_before_the_command(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    assert jam("--format", "json", "check", "a.jam").json["errors"] == 0


def test_warnings_fail_only_under_strict(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(WARNED)
    said = jam("check", "a.jam", "--format", "json")
    assert (said.code, said.json["errors"]) == (0, 0)
    assert said.json["warnings"] >= 1
    assert jam("check", "a.jam", "--strict").code == 1


def test_select_and_ignore_take_prefixes_and_lists(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(WRONG)
    (code,) = {d["code"] for d in jam("check", "a.jam", "--format", "json").json["diagnostics"] if d["line"] == 5}
    assert jam("check", "a.jam", "--ignore", code).code == 0
    assert jam("check", "a.jam", "--select", f"JAM9,{code[:5].lower()}").code == 1
    assert jam("check", "a.jam", "--select", "JAM9").code == 0


def test_folders_are_searched_and_hidden_ones_left_out(jam: Jam, tmp_path: Path) -> None:
    for name in ("one.jam", "deep/er/two.jam", ".hidden/three.jam", "deep/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(SOUND)
    assert jam("check", ".").out == "no problems in 2 files\n"


def test_stdin_is_checked_and_may_import_what_is_beside_it(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "lib.jam").write_text("record Box { n: int }\n")
    program = 'import { Box } from "./lib.jam"\n' + SOUND.replace("n: int", "b: Box").replace("n > 10", "b.n > 10")
    assert jam("check", "-", given=program) == (0, "no problems in 1 file\n", "")
    said = jam("check", "-", given=program.replace("b.n >", "b.m >"))
    assert said.code == 1
    assert "<stdin>:6" in said.out


def test_an_error_in_an_imported_file_is_reported_once(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "lib.jam").write_text("record Box { n: nothing }\n")
    for name in ("a.jam", "b.jam"):
        (tmp_path / name).write_text('import { Box } from "./lib.jam"\n' + SOUND.replace("n: int", "n: int, b: Box"))
    said = jam("check", "a.jam", "b.jam", "lib.jam", "--format", "json")
    assert [(d["file"], d["line"]) for d in said.json["diagnostics"] if d["severity"] == "error"] == [("lib.jam", 1)]


def test_a_file_that_cannot_be_read_does_not_hide_what_is_wrong_with_the_others(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(WRONG)
    said = jam("check", "missing.jam", "a.jam")
    assert said.code == 1
    assert "JAMR001" in said.err
    assert "a.jam:5:20" in said.out


def test_an_agent_of_a_file_can_be_picked(jam: Jam, tmp_path: Path) -> None:
    two = SOUND + SOUND.replace("agent little", "agent other").replace("-> big\n", "-> huge\n")
    (tmp_path / "a.jam").write_text(two)
    assert jam("check", "a.jam:other").code == 1
    said = jam("check", "a.jam:third")
    assert (said.code, "JAMR005" in said.err) == (2, True)


def test_of_several_agents_the_first_is_taken_and_that_is_said(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND + "\n" + SOUND.replace("agent little", "agent other"))
    note = "note: `little` is the first agent of a.jam, and is taken: `a.jam:other` names another\n"
    assert jam("graph", "a.jam").err.startswith(note)
    assert jam("compile", "a.jam").err == note
    said = jam("run", "a.jam")
    assert said.err.startswith(note)
    assert "the input does not fit `little`" in said.err
    assert "note:" not in jam("graph", "a.jam:little").err + jam("run", "a.jam:other").err


def test_draw_makes_a_picture_of_the_path_that_a_finding_is_about(jam: Jam, tmp_path: Path) -> None:
    text = (LOAN / "loan_underwriting.jam").read_text()
    unsafe = text.replace("-> officer_review\n    otherwise ", "-> pay\n    otherwise ")
    assert unsafe != text
    (tmp_path / "a.jam").write_text(unsafe)
    said = jam("check", "a.jam", "--draw", "path.svg", "--select", "JAM602")
    assert said.code == 1
    assert "JAM602" in said.out
    assert "drew path.svg" in said.err
    assert "JAM602: `disburse` can be called without" in (tmp_path / "path.svg").read_text()


def test_draw_without_a_path_says_so(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    said = jam("check", "a.jam", "--draw", "path.svg")
    assert "no finding has a path" in said.err
    assert not (tmp_path / "path.svg").exists()


def test_colour_only_on_a_terminal_and_not_under_no_color(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(WRONG)
    assert "\x1b[" not in jam("check", "a.jam").out
    code, shown = terminal("check", "a.jam", cwd=tmp_path)
    assert (code, "\x1b[" in shown) == (1, True)
    code, shown = terminal("check", "a.jam", cwd=tmp_path, env={"NO_COLOR": "1"})
    assert (code, "\x1b[" in shown) == (1, False)


def test_explain_shows_the_page_of_a_code_in_any_case_or_by_its_name(jam: Jam) -> None:
    said = jam("explain", "jam602")
    assert said.code == 0
    assert said.out.startswith("# JAM602")
    assert jam("explain", "JAMR203").out.startswith("# JAMR203")
    assert jam("explain", "unreachable").out.startswith("# JAM2")
    assert jam("explain", "jam602", "--format", "json").json == {"code": "JAM602", "page": said.out.rstrip()}


def test_explain_of_no_code_is_a_usage_error_with_the_nearest(jam: Jam) -> None:
    said = jam("explain", "JAM6022")
    assert said.code == 2
    assert "did you mean" in said.err


def test_every_command_has_help_and_a_misspelt_one_its_nearest(jam: Jam) -> None:
    listed = jam("--help").out.partition("Commands:")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^  (\w+) ", listed, re.M)) == sorted(COMMANDS)
    for name in COMMANDS:
        said = jam(name, "--help")
        assert said.code == 0, name
        assert f"jam {name}" in said.out
    said = jam("chek")
    assert (said.code, "Did you mean `jam check`?" in said.err) == (2, True)


def test_an_option_or_form_that_is_not_known_is_a_usage_error(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    for wrong in (["--formt", "json"], ["--format", "xml"], ["--format", ""], ["--strict=yes"]):
        said = jam("check", "a.jam", *wrong)
        assert said.code == 2 or wrong == ["--format", ""], wrong
    assert jam("--format", "ünïcode", "check", "a.jam").code == 2
    assert jam("check").code == 2
