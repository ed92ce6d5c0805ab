"""`jam forecast` as it is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Jam

FIFTY = Path(__file__).resolve().parents[2] / "docs" / "fifty.jam"


@pytest.mark.parametrize(("works", "odds"), [("99%", 0.99**50), ("95%", 0.95**50)])
def test_fifty_steps_without_retries(jam: Jam, works: str, odds: float) -> None:
    said = jam("forecast", str(FIFTY), "--reliability", f"*={works}", "--format", "json")
    assert said.code == 0
    assert said.json["columns"]["without_both"]["completes"] == pytest.approx(odds, abs=1e-9)
    assert said.json["completes"] > said.json["columns"]["without_retries"]["completes"]


def test_a_table_for_people_and_a_plot(jam: Jam, tmp_path: Path) -> None:
    said = jam("forecast", str(FIFTY), "--reliability", "*=99%", "--crash", "1%", "-o", "plot.svg")
    assert said.code == 0
    assert "as written  without retries  without checkpoints  without both" in said.out
    assert "60.5006 %" in said.out
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    "wrong",
    [
        ("--reliability", "nope=90%"),
        ("--reliability", "x"),
        ("--crash", "200%"),
        ("--from", "none.db"),
        ("-o", "plot.png"),
        ("--take", "step_1/when#7=50%"),
    ],
)
def test_wrong_input_is_told_with_what_to_do(jam: Jam, wrong: tuple[str, str]) -> None:
    said = jam("forecast", str(FIFTY), *wrong)
    assert (said.code, said.out) == (2, "")
    assert "error[JAMR" in said.err
    assert "help:" in said.err


def test_odds_fitted_from_journals(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "tt.py").write_text("def look(n):\n    if n < 0:\n        raise ValueError(n)\n    return n\n")
    (tmp_path / "a.jam").write_text(
        'tool look(n: int) -> int { effect reads  via python "tt:look" }\n'
        "agent a { input n: int\n budget { steps 3 exceeded -> no }\n policy { allow look }\n on error any -> no\n"
        " start state s { call look(n) -> yes }\n final yes {}\n failed no {} }\n"
    )
    for n in (1, 2, 3, -1):
        jam("run", "a.jam", "--input", f'{{"n": {n}}}')
    said = jam("forecast", "a.jam", "--from", "jam.db", "--format", "json")
    assert said.code == 0, said
    assert said.json["completes"] == pytest.approx(0.75)
    assert said.json["fitted"]
