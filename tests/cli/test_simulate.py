"""`jam simulate`: what it prints, its exit codes, and that the examples survive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Jam
from tests.engine.test_trial import CAREFUL, NAIVE

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [path for path in sorted(ROOT.glob("examples/*/*.jam")) if "\nagent " in path.read_text()]


@pytest.fixture
def naive(tmp_path: Path) -> Path:
    path = tmp_path / "shop.jam"
    path.write_text(NAIVE)
    return path


def test_what_is_not_survived_is_told_with_the_seed_that_shows_it(jam: Jam, naive: Path) -> None:
    said = jam("simulate", naive, "--seeds", 300)
    assert said.code == 1
    for part in (
        "300 trials, seeds 0 to 299",
        "parked in doubt in `pay`",
        "waits for ever in `look`",
        "help: give `look`",
    ):
        assert part in said.out, part
    finding = jam("simulate", naive, "--seeds", 300, "--format", "json").json["findings"][0]
    one = jam("simulate", naive, "--seed", finding["seed"])
    assert one.code == 1
    assert finding["message"] in one.out
    assert "started shop" in one.out
    assert "put in: " in one.out
    again = jam("simulate", naive, "--seed", finding["seed"], "--format", "json").json
    assert again["findings"][0]["message"] == finding["message"]
    assert again["journal"][0]["kind"] == "started"


def test_what_is_survived_ends_with_0_and_names_what_was_done_twice(jam: Jam, tmp_path: Path) -> None:
    path = tmp_path / "shop.jam"
    path.write_text(CAREFUL)
    said = jam("simulate", path, "--seeds", 300)
    assert (said.code, "every trial ended by itself" in said.out) == (0, True)
    assert "`send_mail` was done up to" in said.out
    assert "make it idempotent" in said.out


def test_only_the_faults_that_are_wanted(jam: Jam, naive: Path) -> None:
    calm = jam("simulate", naive, "--seeds", 50, "--faults", "none", "--format", "json").json
    assert (calm["faults"], calm["crashes"], calm["survived"]) == ({}, 0, True)
    lost = jam("simulate", naive, "--seeds", 100, "--faults", "lost, crash", "--format", "json").json
    assert list(lost["faults"]) == ["lost"]
    assert lost["crashes"] > 0
    given = '{"order": "o-9", "amount": "3 USD"}'
    told = jam("simulate", naive, "--seed", 1, "--input", given)
    assert '"order": "o-9"' in told.out


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["none.jam"], "JAMR001"),
        (["shop.jam:nobody"], "JAMR005"),
        (["shop.jam", "--faults", "fire"], "'fire' is none of"),
        (["shop.jam", "--input", "{"], "JAMR301"),
        (["shop.jam", "--input", "[1]"], "JAMR301"),
        (["shop.jam", "--input", '{"order": 1}'], "JAMR301"),
        (["shop.jam", "--seeds", "0"], "--seeds"),
        (["shop.jam", "--seed", "x"], "--seed"),
        ([], "Missing argument"),
    ],
)
def test_what_is_asked_for_wrongly(
    jam: Jam, naive: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: str
) -> None:
    monkeypatch.chdir(naive.parent)
    said = jam("simulate", *args)
    assert (said.code, code in said.err) == (2, True), said


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_survive(jam: Jam, path: Path) -> None:
    said = jam("simulate", path, "--seeds", 100)
    assert said.code == 0, said.out
