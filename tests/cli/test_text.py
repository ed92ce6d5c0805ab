"""`jam fmt`, `jam compile`, `jam eval`, `jam graph`, `jam new`: from text to text and pictures."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Jam
from tests.cli.programs import SOUND

UGLY = SOUND.replace("    when n > 10 -> big\n", "  when   n>10->big\n")


def test_fmt_is_a_filter_on_stdin(jam: Jam) -> None:
    assert jam("fmt", "-", given=UGLY) == (0, SOUND, "")
    assert jam("fmt", "-", given=SOUND) == (0, SOUND, "")


def test_fmt_of_what_does_not_parse_prints_nothing_on_stdout(jam: Jam) -> None:
    said = jam("fmt", "-", given="agent {")
    assert (said.code, said.out) == (1, "")
    assert "<stdin>:1" in said.err
    assert "nothing was formatted" in said.err


def test_fmt_writes_files_and_says_which_and_keeps_their_mode(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(UGLY)
    (tmp_path / "a.jam").chmod(0o640)
    (tmp_path / "b.jam").write_text(SOUND)
    said = jam("fmt", ".")
    assert (said.code, said.out, said.err) == (0, "", "formatted ./a.jam\n")
    assert (tmp_path / "a.jam").read_text() == SOUND
    assert stat.S_IMODE((tmp_path / "a.jam").stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["a.jam", "b.jam"]
    assert "already" in jam("fmt", ".").err


def test_fmt_check_and_diff_change_nothing_and_fail(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(UGLY)
    said = jam("fmt", "--check", "a.jam")
    assert (said.code, said.err) == (1, "would change a.jam\n")
    said = jam("fmt", "--diff", "a.jam")
    assert said.code == 1
    assert "-  when   n>10->big\n+    when n > 10 -> big\n" in said.out
    assert (tmp_path / "a.jam").read_text() == UGLY
    (tmp_path / "a.jam").write_text(SOUND)
    assert jam("fmt", "--check", "a.jam").code == 0


def test_fmt_goes_on_after_a_file_it_cannot_read(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text("agent {")
    (tmp_path / "b.jam").write_text(UGLY)
    assert jam("fmt", "missing.jam", "a.jam", "b.jam").code == 2
    assert (tmp_path / "a.jam").read_text() == "agent {"
    assert (tmp_path / "b.jam").read_text() == SOUND


def test_fmt_follows_a_link_instead_of_replacing_it(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "real.jam").write_text(UGLY)
    (tmp_path / "link.jam").symlink_to("real.jam")
    assert jam("fmt", "link.jam").code == 0
    assert (tmp_path / "link.jam").is_symlink()
    assert (tmp_path / "real.jam").read_text() == SOUND


def test_compile_prints_canonical_json_whose_sha_256_is_the_digest(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    said = jam("compile", "a.jam")
    digest = jam("compile", "a.jam", "--digest").out.strip()
    assert hashlib.sha256(said.out.rstrip("\n").encode()).hexdigest() == digest
    assert said.json["main"] == "little"
    assert json.loads(jam("compile", "-", "--pretty", given=UGLY).out) == said.json
    assert jam("compile", "a.jam", "-o", "a.json").code == 0
    assert json.loads((tmp_path / "a.json").read_text()) == said.json


def test_compile_refuses_a_program_with_errors_as_check_does(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND.replace("-> big\n", "-> huge\n"))
    said = jam("compile", "a.jam")
    assert (said.code, said.out) == (1, "")
    assert "a.jam:5:20" in said.err


def test_a_folder_with_one_program_stands_for_it(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jam").write_text(SOUND)
    assert jam("compile", "p").json["main"] == "little"
    (tmp_path / "p" / "b.jam").write_text(SOUND)
    said = jam("compile", "p")
    assert said.code == 2
    assert "p/a.jam" in said.err
    assert "p/b.jam" in said.err


@pytest.mark.parametrize(
    ("expression", "data", "value"),
    [
        ("1 + 2 * 3", None, 7),
        ("size(xs) > 1 && name.startsWith('A')", '{"xs": [1, 2], "name": "Ada"}', True),
        ("x * 2.0", '{"x": 1.5}', 3.0),
        ("[1, 2].map(i, i * i)", None, [1, 4]),
        ("{'a': null}", None, {"a": None}),
    ],
)
def test_eval_gives_the_value_as_json(jam: Jam, expression: str, data: str | None, value: object) -> None:
    more = [] if data is None else ["--data", data]
    said = jam("eval", expression, *more)
    assert (said.code, said.json) == (0, value)
    assert jam("eval", "-", *more, given=expression).json == value


@pytest.mark.parametrize(
    ("expression", "code"),
    [("1 +", "JAMR004"), ("nobody", "JAMR503"), ("1 / 0", "JAMR503"), ("((" * 5000, "JAMR")],
)
def test_eval_of_what_has_no_value_is_a_coded_error(jam: Jam, expression: str, code: str) -> None:
    said = jam("eval", expression)
    assert (said.code, said.out) == (1, "")
    assert f"error[{code}" in said.err
    assert "help: " in said.err


def test_graph_draws_every_form_by_the_name_of_the_file(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    starts = {"svg": b"<?xml", "png": b"\x89PNG", "dot": b"digraph", "html": b"<!", "mmd": b""}
    for form, start in starts.items():
        assert jam("graph", "a.jam", "-o", f"a.{form}").code == 0, form
        assert (tmp_path / f"a.{form}").read_bytes().lstrip()[: len(start)].lower() == start.lower(), form
    assert "look" in (tmp_path / "a.mmd").read_text()
    assert jam("graph", "a.jam").code == 0
    assert (tmp_path / "little.svg").exists()


def test_graph_prints_to_stdout_and_reads_stdin(jam: Jam) -> None:
    said = jam("graph", "-", "-o", "-", "--to", "mmd", given=SOUND)
    assert said.code == 0
    assert "look" in said.out
    assert jam("graph", "-", "-o", "-", given=SOUND).code == 2


def test_graph_draws_what_checks_refuse_and_says_so(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND.replace("    otherwise   -> small\n", ""))
    said = jam("graph", "a.jam", "-o", "a.dot")
    assert said.code == 0
    assert "`jam check` names them" in said.err


def test_graph_of_a_form_that_is_not_known_is_a_usage_error(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    said = jam("graph", "a.jam", "-o", "a.gif")
    assert said.code == 2
    assert "JAMR006" in said.err
    assert jam("graph").code == 2
    assert jam("graph", "a.jam", "-o", "no/such/folder/a.svg").code == 2


def test_new_makes_a_program_that_is_canonical_checks_tests_and_runs(jam: Jam, tmp_path: Path) -> None:
    assert jam("new", "my-agent").code == 0
    assert jam("check", "my-agent", "--strict").out == "no problems in 1 file\n"
    assert jam("fmt", "--check", "my-agent").code == 0
    assert "1 passed, 0 failed" in jam("test", "my-agent").out
    said = jam("run", "my-agent", "--input", '{"name": "Ada"}', "--id", "r", "--format", "json")
    assert (said.code, said.json["status"]) == (4, "waiting")
    said = jam("answer", "r", "approve", "--format", "json", "--db", "my-agent/jam.db")
    assert (said.code, said.json["output"]) == (0, {"greeting": "Hello, Ada!"})


def test_new_overwrites_nothing_and_takes_only_names(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    assert jam("new", "full").code == 2
    assert jam("new", "1st").code == 2
    assert jam("new", "ünï").code == 2
    assert jam("new", "").code == 2
    assert os.listdir(tmp_path) == ["full"]
