"""The chain, which the kernel makes, against a matrix that is written without it, and against closed forms."""

from __future__ import annotations

import math

import pytest

from jamjet_dsl.compiler import compile_text
from jamjet_dsl.forecast.assumed import Given
from jamjet_dsl.forecast.chain import explore
from jamjet_dsl.forecast.results import Ways, forecast
from jamjet_dsl.forecast.solve import knots, visits
from tests.forecast.programs import described, solution

PROGRAMS = 80
CLOSE = 1e-9


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_the_chain_is_what_a_naive_matrix_gives(seed: int) -> None:
    made = described(seed)
    found = forecast(compile_text(made.text(), "made.jam").definition, Given(**made.said()))
    for name, retries, checkpoints in (
        ("as_written", True, True),
        ("without_retries", False, True),
        ("without_checkpoints", True, False),
        ("without_both", False, False),
    ):
        column, exact = found.columns[name], solution(made, retries, checkpoints)
        for how, end in (("completed", "done"), ("failed", "gave_up"), ("parked", "parked"), ("lost", "lost")):
            assert math.isclose(column.odds[how], float(exact.ends[end]), abs_tol=CLOSE), (name, how)
        assert math.isclose(column.amounts["steps"].expected, float(exact.steps), rel_tol=CLOSE), name


def test_the_generated_programs_are_of_all_kinds() -> None:
    made = [described(seed) for seed in range(PROGRAMS)]
    assert sum(any(edge.limit is not None for call in one.calls for edge in call.exits) for one in made) > 20
    assert sum(any(call.retries for call in one.calls) for one in made) > 40
    assert sum(any(len(call.exits) > 1 for call in one.calls) for one in made) > 40
    assert sum(one.crash > 0 for one in made) > 30
    assert sum(any(call.on_error is None for call in one.calls) for one in made) > 30


@pytest.mark.parametrize("seed", range(10))
def test_all_odds_lead_somewhere(seed: int) -> None:
    made = described(seed)
    ways = Ways(compile_text(made.text(), "made.jam").definition, Given(**made.said()))
    chain = explore(ways.skeleton("as_written"), ways.assumed("as_written"))
    for node, arcs in enumerate(chain.arcs):
        assert (node in chain.ends) == (not arcs)
        if arcs:
            assert math.isclose(math.fsum(arc.chance for arc in arcs), 1.0, abs_tol=1e-12)
    flow = visits(chain, knots(chain))
    assert math.isclose(math.fsum(flow[end] for end in chain.ends), 1.0, abs_tol=1e-12)


def linear(steps: int, retries: int = 0, budget: str = "", error: str = "Unavailable") -> str:
    again = f"  retry {error} {retries} times" if retries else ""
    states = "\n".join(
        f"  {'start ' if n == 1 else ''}state s{n} {{ call work()  -> {f's{n + 1}' if n < steps else 'done'} }}"
        for n in range(1, steps + 1)
    )
    return f"""language 1
tool work() -> int {{ via python "x:y"  effect reads  cost $0.10{again} }}
agent line version 1 {{
  {budget}
  policy {{ allow work }}
  on error any -> over
{states}
  final done {{}}
  failed over {{}}
}}
"""


@pytest.mark.parametrize(("works", "odds"), [(0.99, 0.6050060671375364), (0.95, 0.07694497527671315)])
def test_fifty_steps(works: float, odds: float) -> None:
    definition = compile_text(linear(50), "line.jam").definition
    assert forecast(definition, Given(reliability={"work": works})).written.completes == pytest.approx(odds, abs=1e-12)
    lost = forecast(definition, Given(crash=1.0 - works))
    assert lost.written.completes == pytest.approx(1.0, abs=1e-12)
    assert lost.columns["without_checkpoints"].completes == pytest.approx(odds, abs=1e-12)


def test_retries_and_checkpoints_are_worth_what_they_are() -> None:
    definition = compile_text(linear(50, retries=2), "line.jam").definition
    found = forecast(definition, Given(reliability={"work": 0.99}, crash=0.01))
    columns = found.columns
    assert columns["as_written"].completes == pytest.approx((1 - 0.01**3) ** 50, abs=1e-12)
    assert columns["without_retries"].completes == pytest.approx(0.99**50, abs=1e-12)
    alive, again = 0.99 * 0.99, 0.99 * 0.01
    once = alive * (1 + again + again**2)
    assert columns["without_checkpoints"].completes == pytest.approx(once**50, abs=1e-12)
    assert columns["without_both"].completes == pytest.approx(alive**50, abs=1e-12)
    # An attempt costs 10 cents, whatever comes of it; but `Unavailable` was never sent.
    assert columns["without_retries"].amounts["cost"].expected == pytest.approx(
        sum(0.99**n for n in range(1, 51)) * 0.10 + sum(0.99**n for n in range(50)) * 0.10 * 0.01 / 0.99, rel=1e-9
    )


def test_a_budget_of_steps_bounds_the_run() -> None:
    text = """language 1
tool work() -> int { via python "x:y"  effect reads }
agent loop version 1 {
  input n: int
  budget { steps 5  exceeded -> over }
  policy { allow work }
  start state turn { call work()  when n > 3 -> turn  otherwise -> done }
  final done {}
  failed over {}
}
"""
    found = forecast(compile_text(text, "loop.jam").definition, Given(take={"turn": {"otherwise#0": 0.4}}))
    assert found.written.odds["exceeded"] == pytest.approx(0.6**5, abs=1e-12)
    assert found.written.amounts["steps"].expected == pytest.approx(sum(0.6**n for n in range(5)), abs=1e-12)
    for steps in range(1, 11):
        assert found.budget["as_written"][steps] == pytest.approx(1 - 0.6**steps, abs=1e-12), steps


def test_a_budget_of_cost_bounds_the_run_where_it_can_be_reached_only() -> None:
    def odds(cost: str) -> tuple[float, float, int]:
        text = linear(4, retries=3, budget=f"budget {{ steps 9  cost {cost}  exceeded -> over }}", error="Timeout")
        found = forecast(compile_text(text, "line.jam").definition, Given(reliability={"work": 0.9}))
        return found.written.completes, found.written.odds["exceeded"], len(found.written.chain.arcs)

    never = (1 - 0.1**4) ** 4
    # Twelve failures at most and four that go well: $1.60 is never exceeded, and is left out of the chain.
    plenty = odds("$2.00")
    assert plenty[0] == pytest.approx(never, abs=1e-12)
    assert plenty[1] == 0.0
    scarce = odds("$0.50")  # four calls and one more attempt fit
    assert scarce[0] == pytest.approx(0.9**4 * (1 + 4 * 0.1), abs=1e-12)
    assert scarce[2] > plenty[2]
