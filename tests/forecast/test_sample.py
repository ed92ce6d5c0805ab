"""The exact chain against the kernel, run by run: over its own skeleton, and over whole programs with data."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest

from jamjet_dsl.compiler import compile_text
from jamjet_dsl.engine.simulate import Answered, Raised, Returned, Simulation
from jamjet_dsl.forecast.assumed import Given
from jamjet_dsl.forecast.results import HOWS, Forecast, forecast, monte_carlo
from jamjet_dsl.forecast.sample import AMOUNTS, interval
from jamjet_dsl.kernel.model import Call, Question, Think
from jamjet_dsl.kernel.program import Program
from tests.forecast.library import LIBRARY
from tests.forecast.programs import described

RUNS = 1_500
NEAR = 4.0
"""Standard errors. Of the few hundred figures below, chance puts none further off with these seeds."""


def agree(found: Forecast, runs: int = RUNS, seed: int = 1) -> None:
    samples = monte_carlo(found, runs, seed)
    for how in HOWS:
        exact = found.written.odds[how]
        error = math.sqrt(exact * (1.0 - exact) / runs)
        assert abs(samples.share(how) - exact) <= NEAR * error + 1e-12, (how, samples.share(how), exact)
    for what in AMOUNTS:
        mean, error = samples.average(what)
        exact = found.written.amounts[what].expected
        # A jittered pause is divided into whole milliseconds; one run may hold several.
        assert abs(mean - exact) <= NEAR * error + (5.0 if what == "time" else 1e-9), (what, mean, exact)


@pytest.mark.parametrize("name", LIBRARY)
def test_every_phase_of_the_kernel(name: str) -> None:
    text, given = LIBRARY[name]
    agree(forecast(compile_text(text, f"{name}.jam").definition, given))


@pytest.mark.parametrize("seed", range(100, 116))
def test_generated_programs(seed: int) -> None:
    made = described(seed)
    agree(forecast(compile_text(made.text(), "made.jam").definition, Given(**made.said())), seed=seed)


def test_the_same_seed_gives_the_same_runs() -> None:
    text, given = LIBRARY["doubt"]
    found = forecast(compile_text(text, "doubt.jam").definition, given)
    first, again, other = (monte_carlo(found, 200, seed) for seed in (7, 7, 8))
    assert first.ends == again.ends
    assert first.totals == again.totals
    assert first.ends != other.ends


def test_an_interval_holds_the_share_and_is_never_empty() -> None:
    for share in (0.0, 0.3, 1.0):
        low, high = interval(share, 100)
        assert 0.0 <= low <= share <= high <= 1.0
        assert low < high


# ---- whole programs, with data: the test simulator drives the kernel, and nothing of the forecast is in it

WHOLE = """language 1
enum Kind { small  large }
record Case { kind: Kind  score: int 1..10 }
tool fetch(id: string) -> Case { via python "x:fetch"  effect reads  raises NotFound
  retry Unavailable 2 times backoff 1s }
tool store(id: string, score: int) -> string { via python "x:store"  effect writes  key id  raises Refused }
agent desk version 1 {
  input  id: string
  output score: int?
  var    tries: int = 0
  budget { steps 8  exceeded -> over }
  policy { allow fetch  allow store when args.score > 0 }
  start state get {
    call fetch(id) as found
    on error NotFound -> over
    on error any -> review
    set tries = tries + 1
    when found.kind == small -> keep
    when found.score > 7 -> review
    otherwise -> get limit 2 else over
  }
  state review {
    ask role "lead" "Keep {id}?" options keep, drop, redo timeout 1h as said
    on keep -> keep
    on drop -> over
    on redo -> get limit 1 else over
    on timeout -> over
  }
  state keep { call store(id, tries + 1)  on error Refused -> over  on in_doubt -> over  -> done }
  final done { score = tries }
  failed over { score = null }
}
"""
GIVEN = Given(
    {"fetch": 0.8, "store": 0.9},
    errors={"fetch": {"Unavailable": 3.0, "NotFound": 1.0}, "store": {"Refused": 1.0, "Timeout": 1.0}},
    # Half of the cases are small; of the others three in ten have a score above 7.
    take={"get": {"when#0": 0.5, "when#1": 0.15, "otherwise#0": 0.35}, "review": {"keep": 0.3, "timeout": 0.2}},
)


class Dice:
    """The same odds, for a program with data."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def tool(self, call: Call, state: str) -> Returned | Raised:
        at = self.random.random()
        if call.tool == "fetch":
            if at < 0.2:
                return Raised("NotFound" if at < 0.05 else "Unavailable")
            kind = self.random.choice(("small", "large"))
            return Returned({"kind": kind, "score": self.random.randint(1, 10)})
        return Returned("ok") if at < 0.9 else Raised("Refused" if at < 0.95 else "Timeout")

    def model(self, think: Think) -> Returned | Raised:
        raise AssertionError("no model is asked")

    def person(self, question: Question) -> Answered:
        at = self.random.random()
        return Answered(None if at < 0.2 else "keep" if at < 0.5 else "drop" if at < 0.75 else "redo")


def test_a_program_with_data_comes_out_as_its_skeleton_does() -> None:
    definition = compile_text(WHOLE, "desk.jam").definition
    found = forecast(definition, GIVEN)
    program, ends, steps = Program.of(definition), Counter[str](), list[int]()
    for seed in range(RUNS):
        run: Any = Simulation(program, seed, mocks=Dice(seed))
        state = run.run({"id": "a"})
        how = "exceeded" if state.exceeded and state.status == "failed" else state.status
        ends[how] += 1
        steps.append(state.spent.steps)
    for how in HOWS:
        exact = found.written.odds[how]
        assert abs(ends[how] / RUNS - exact) <= NEAR * math.sqrt(exact * (1 - exact) / RUNS) + 1e-12, (how, exact, ends)
    mean = sum(steps) / RUNS
    error = math.sqrt(sum((n - mean) ** 2 for n in steps) / (RUNS - 1) / RUNS)
    assert abs(mean - found.written.amounts["steps"].expected) <= NEAR * error
