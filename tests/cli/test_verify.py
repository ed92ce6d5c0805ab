"""`jam verify` as it is used."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Jam
from tests.verify.test_verify import AGENT, HEAD


def test_the_command(jam: Jam, tmp_path: Path) -> None:
    body = (
        "check no path calls mail twice\n start state one { call mail(n) -> two }\n state two { call mail(n) -> done }"
    )
    (tmp_path / "a.jam").write_text(HEAD + AGENT % body)
    said = jam("verify", "a.jam", "--replay")
    assert said.code == 1
    assert "✗ violated  no path calls mail twice  a.jam:" in said.out
    assert "path: one ─(then)→ two" in said.out
    assert "mail gives" in said.out
    told_json = jam("verify", "a.jam", "--format", "json")
    assert told_json.code == 1
    (one, *_) = told_json.json["properties"]
    assert (one["verdict"], one["abstract"], one["line"] > 0) == ("violated", False, True)
    assert one["path"] == [{"state": "one", "edge": "always#0", "to": "two"}]
    assert jam("verify", "a.jam", "-o", "way.mmd").code == 1
    assert (tmp_path / "way.mmd").exists()


def test_wrong_input_of_the_command(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "bad.jam").write_text("agent a { start state s { -> nowhere } }")
    for args, code, said in (
        (("verify", "none.jam"), 2, "JAMR001"),
        (("verify", "bad.jam"), 1, "JAM101"),
        (("verify", "bad.jam", "--states", "0"), 2, "--states"),
    ):
        found = jam(*args)
        assert (found.code, said in found.err + found.out) == (code, True), found


def test_a_folder_of_many_programs_is_not_listed_whole(jam: Jam, tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"p{number:02}.jam").write_text(HEAD)
    said = jam("verify", ".")
    assert (said.code, "there are 30 programs" in said.err, "and 22 more" in said.err) == (2, True, True)
    assert len(said.err.splitlines()) < 15
