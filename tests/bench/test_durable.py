"""`./dev bench durable`: every part runs on small sizes, and its figures are computed as they are said to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.durable.__main__ import PARTS, main
from bench.durable.chart import chart, nice
from bench.durable.environments import interpreter
from bench.durable.job import percentile
from bench.durable.measure import ratio, spread, table
from bench.durable.steps import FLOOR, GROUP, IN_PROCESSES, ON_THREADS, OURS


def measured(part: str, tmp_path: Path) -> dict[str, Any]:
    """The results of one part on the smallest sizes."""
    out = tmp_path / "out.json"
    small = ["--peers", "none", "--rounds", "1", "--scale", "0.002", "--data", str(tmp_path)]
    main(["--only", part, *small, "--out", str(out), "--plots", str(tmp_path / "plots")])
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured("steps", tmp_path)
    for shape in ("seq", "conc"):
        rounds = found[f"steps/{shape}"]
        many = IN_PROCESSES if shape == "conc" else []
        assert set(rounds) == {entry.name for entry in [FLOOR, GROUP, *OURS, ON_THREADS, *many]}
        for (result,) in rounds.values():
            assert result["rate"] > 0
            assert 0 < result["p50_us"] <= result["p99_us"]
            assert result["bytes_step"] > 200
    text = capsys.readouterr().out
    assert "(a) one run of 5 steps" in text
    assert "failed" not in text.lower()


def test_size_is_set_against_what_a_step_holds(tmp_path: Path) -> None:
    found = measured("size", tmp_path)
    assert len(found) == 4
    assert {figures["limit"] for figures in found.values()} == {450 + 2 * 3 * 200}


def test_growth(tmp_path: Path) -> None:
    found = measured("growth", tmp_path)
    (name, line), *rest = found["growth"].items()
    assert (name, rest) == ("jamjet_dsl", [])
    assert line[-1][0] == 20
    assert line == sorted(line)
    assert ElementTree.parse(tmp_path / "plots" / "growth.svg").getroot().tag.endswith("svg")


def test_kernel(tmp_path: Path) -> None:
    found = measured("kernel", tmp_path)
    assert len(found["kernel"]) == 5
    assert all(result["rate"] > 0 for (result,) in found["kernel"].values())


def test_waiting(tmp_path: Path) -> None:
    found = measured("waiting", tmp_path)["waiting"]
    assert set(found) == {"fill 10", "10", "fill 20", "20"}
    assert found["20"][0]["wake_p50_ms"] > 0


def test_long(tmp_path: Path) -> None:
    found = measured("long", tmp_path)["long"]
    assert found["building a long run"][0]["events"] >= 1000
    assert found["folding a long run"][0]["n"] == 1000
    assert found["resuming a long run"][0]["seconds"] > 0


def test_every_part_is_tried_here() -> None:
    tried = {name.removeprefix("test_").split("_")[0] for name in globals() if name.startswith("test_")}
    assert set(PARTS) - tried == {"syncs"}, "syncs needs strace"


def test_ratios_are_taken_within_rounds() -> None:
    ours = [{"round": 0, "rate": 10.0}, {"round": 2, "rate": 40.0}]
    theirs = [{"round": 0, "rate": 5.0}, {"round": 1, "rate": 1.0}, {"round": 2, "rate": 10.0}]
    assert ratio(ours, theirs) == 3.0
    assert spread(theirs, "rate") == "5 [1–10]"
    assert ratio(ours, []) == 0.0


def test_percentiles() -> None:
    values = [float(n) for n in range(101)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [0.0, 50.0, 99.0, 100.0]
    assert percentile([], 0.5) == 0.0


def test_tables_line_up() -> None:
    text = table(["", "steps/s"], [["a", "1"], ["longer", "12,345"]])
    assert text.splitlines() == [
        "|        | steps/s |",
        "| ------ | ------: |",
        "| a      |       1 |",
        "| longer |  12,345 |",
    ]


@pytest.mark.parametrize(("value", "end"), [(0.3, 0.3), (7, 8), (57, 60), (101, 150), (1_000, 1_000)])
def test_axes_end_at_round_numbers(value: float, end: float) -> None:
    assert nice(value) == pytest.approx(end)


def test_charts_are_well_formed() -> None:
    root = ElementTree.fromstring(chart("A & B", "x", "y", {"<one>": [(1, 2), (3, 4)], "two": [(1, 2), (3, 4)]}))
    lines = [part for part in root if part.tag.endswith("polyline")]
    names = ["".join(part.itertext()) for part in root if part.tag.endswith("text")]
    assert len(lines) == 2
    assert "A & B" in names
    assert "<one>: 4.0" in names


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
    assert "nothing: not one of" in capsys.readouterr().err


def test_a_python_that_is_not_there_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"there is no Python 3\.99"):
        interpreter((3, 99))
