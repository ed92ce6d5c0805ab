"""`jam.toml` beside a program: who has which role, and who may therefore answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Jam

PROGRAM = """language 1
tool wire(to: string) -> string { via python "wiring:wire"  effect irreversible  key run.id }
agent bank version 1 {
  output how: string
  budget { steps 9  exceeded -> over }
  policy {
    allow wire
    require approval by 2 of "officer" not principal before wire
  }
  on error any -> over
  start state sure {
    ask role "officer" to wire("acc-1") "Wire it?" options yes approves, no  timeout 1h
    on yes -> pay
    on no -> kept
    on timeout -> kept
    on denied -> kept
  }
  state pay { call approved wire as id  on denied -> kept  on in_doubt -> over  -> sent }
  final sent { how = "sent" }
  final kept { how = "kept" }
  failed over { how = "over" }
}
"""


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    (tmp_path / "bank.jam").write_text(PROGRAM)
    (tmp_path / "wiring.py").write_text("def wire(to):\n    return to\n")
    (tmp_path / "jam.toml").write_text('[roles]\nofficer = ["olga", "piet", "ann"]\nclerk = ["kim"]\n')
    return tmp_path


def test_only_who_has_the_role_may_answer(jam: Jam, bank: Path) -> None:
    assert jam("run", "bank.jam", "--id", "w", "--as", "ann").code == 4
    for who in ("kim", "nobody", "Olga"):
        said = jam("answer", "w", "yes", "--by", who)
        assert (said.code, f"error[JAMR409]: `{who}` does not have the role `officer`" in said.err) == (2, True), said
    assert "JAMR409" in jam("answer", "w", "yes", "--by", "ann").err  # whoever started it is not among them
    assert jam("answer", "w", "yes", "--by", "olga").code == 4
    assert "has approved this already" in jam("answer", "w", "yes", "--by", "olga").err
    assert jam("answer", "w", "yes", "--by", "piet").code == 0
    assert jam("show", "w", "--format", "json").json["output"] == {"how": "sent"}


def test_the_roles_stand_in_the_journal(jam: Jam, bank: Path) -> None:
    jam("run", "bank.jam", "--id", "w", "--as", "kim")
    jam("answer", "w", "no", "--by", "olga")
    events = {line["kind"]: line["body"] for line in jam("history", "w", "--format", "json").lines}
    assert events["started"]["principal"] == {"id": "kim", "roles": ["clerk"]}
    assert (events["answered"]["by"], events["answered"]["roles"]) == ("olga", ["officer"])
    assert events["answered"]["checked"] is True
    assert "by olga (officer: checked)" in jam("audit", "show", "w").out
    (record,) = [line for line in jam("audit", "show", "w", "--format", "json").lines if line["event"] == "answered"]
    assert record["checked"] is True


def test_the_file_beside_the_program_counts_wherever_the_database_is(jam: Jam, bank: Path, tmp_path: Path) -> None:
    other = tmp_path / "else" / "runs.db"
    other.parent.mkdir()
    jam("run", "bank.jam", "--id", "w", "--db", other)
    (other.parent / "jam.toml").write_text('[roles]\nofficer = ["kim"]\n')
    assert "JAMR409" in jam("answer", "w", "no", "--by", "kim", "--db", other).err
    assert jam("answer", "w", "no", "--by", "olga", "--db", other).code == 0


def test_without_a_list_a_name_is_taken_at_its_word(jam: Jam, bank: Path) -> None:
    (bank / "jam.toml").write_text("")
    jam("run", "bank.jam", "--id", "w", "--as", "ann")
    assert jam("answer", "w", "no", "--by", "anybody").code == 0
    assert "by anybody (officer: taken at their word)" in jam("audit", "show", "w").out


@pytest.mark.parametrize("name", ["", " ", "\t", "\u200b"])
def test_a_name_of_which_nothing_can_be_seen_is_refused(jam: Jam, bank: Path, name: str) -> None:
    jam("run", "bank.jam", "--id", "w")
    for command in (
        ("run", "bank.jam", "--id", "v", "--as", name),
        ("answer", "w", "yes", "--by", name),
        ("cancel", "w", "--by", name),
        ("settle", "w", "--did-not-happen", "--note", "n", "--by", name),
    ):
        said = jam(*command)
        assert (said.code, "it names nobody" in said.err) == (2, True), said
    assert [run["run_id"] for run in jam("runs", "--format", "json").lines] == ["w"]


def test_who_started_a_run_does_not_approve_it_by_writing_the_name_otherwise(jam: Jam, bank: Path) -> None:
    (bank / "jam.toml").unlink()
    jam("run", "bank.jam", "--id", "w", "--as", " ann ")
    for name in ("ann", "ann ", "Ann", "ANN\u200b"):
        assert "JAMR409" in jam("answer", "w", "yes", "--by", name).err, name
    assert jam("answer", "w", "yes", "--by", " olga").code == 4
    assert "has approved this already" in jam("answer", "w", "yes", "--by", "Olga").err
    assert jam("answer", "w", "yes", "--by", "piet").code == 0
    events = [line["body"] for line in jam("history", "w", "--format", "json").lines]
    assert events[0]["principal"]["id"] == "ann"
    assert [body["by"] for body in events if "option" in body] == ["olga", "piet"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[roles", "is not TOML"),
        ("\xff", "is not TOML"),
        ("[modles]\n", "`modles` means nothing here"),
        ("roles = 3", "no table of lists of names"),
        ('[roles]\nofficer = "olga"', "no table of lists of names"),
        ("[roles]\nofficer = [1]", "no table of lists of names"),
        ('[roles]\nofficer = [""]', "no table of lists of names"),
    ],
)
def test_a_file_that_says_something_else_is_refused(jam: Jam, bank: Path, text: str, says: str) -> None:
    jam("run", "bank.jam", "--id", "w")
    (bank / "jam.toml").write_bytes(text.encode("latin-1"))
    for command in (("run", "bank.jam", "--id", "v"), ("answer", "w", "yes", "--by", "olga")):
        said = jam(*command)
        assert (said.code, "error[JAMR006]" in said.err, says in said.err) == (2, True, True), said
    assert [run["run_id"] for run in jam("runs", "--format", "json").lines] == ["w"]
