"""The simulator, for as long as a test may take: the command runs many more seeds and finds all planted bugs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.bugs import BUGS
from tests.sim.campaign import run_seeds
from tests.sim.programs import subject
from tests.sim.run import simulate

pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
"""Coroutines of machines that are gone are never awaited: nothing of a process that has crashed goes on."""
PROGRAMS = 40
"""Random programs that the smoke draws from: to compile one costs more than to simulate a seed."""


def test_seeds_hold() -> None:
    tally = run_seeds((0, 100, None), PROGRAMS)
    assert [f"seed {result.seed}: {result.failure}" for result in tally.failures] == []
    assert tally.seeds == 100
    assert tally.differ == 0
    assert tally.effects > 150
    assert tally.ended > 60


@pytest.mark.parametrize(
    "name", ["unfenced_append", "double_settle", "timer_fires_twice", "recovery_repeats_write", "grant_reused"]
)
def test_planted_bugs_are_found(name: str) -> None:
    with BUGS[name].planted():
        assert any(simulate(seed, programs=PROGRAMS).failure is not None for seed in range(150)), BUGS[name].sentence


def test_a_seed_is_the_same_in_another_process() -> None:
    def journals(hash_seed: str) -> str:
        code = "from tests.sim.run import simulate; print([simulate(s, programs=9).digest for s in (1, 4, 9, 15)])"
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            cwd=root,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root), "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert journals("1") == journals("2") == f"{[simulate(s, programs=9).digest for s in (1, 4, 9, 15)]}\n"


def test_a_bug_is_gone_when_it_is_no_longer_planted() -> None:
    before = simulate(3, programs=PROGRAMS).digest
    for bug in BUGS.values():
        with bug.planted():
            pass
    assert simulate(3, programs=PROGRAMS).digest == before


def test_every_program_written_by_hand_compiles() -> None:
    for name in ("child", "people", "principal", "purse", "saga", "shared", "twice", "windows"):
        assert subject(name).definition.main == "sim"
