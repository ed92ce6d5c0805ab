"""What `verify` proves, refutes and leaves open, and that no run leaves what it explored."""

from __future__ import annotations

import pytest

from jamjet_dsl.compiler import analyse_text, lower_for_drawing
from jamjet_dsl.verify.check import Verified, verify
from jamjet_dsl.verify.concrete import told
from jamjet_dsl.verify.decide import Answer
from jamjet_dsl.verify.properties import asked_of
from tests.verify.escapes import Tally, escapes

HEAD = """
tool look(n: int) -> int { effect reads }
tool pay(n: int) -> string { effect irreversible  key run.id }
tool mail(n: int) -> string { effect writes }
"""
AGENT = """
agent a version 1 {
  input n: int
  budget { steps 12  exceeded -> over }
  policy { allow any }
  on error any -> over
  on in_doubt -> over
  on denied -> over
  %s
  final done {}
  failed over {}
}
"""


def found_of(body: str, head: str = HEAD, agent: str = AGENT, most: int = 2_000) -> Verified:
    result = analyse_text(head + agent % body)
    info = next(iter(result.analysis.main_agents()))
    return verify(lower_for_drawing(result).definition, asked_of(info, result.analysis), most)


def answer(found: Verified, text: str) -> Answer:
    (one,) = [answer for answer in found.answers if answer.asked.text == text]
    return one


GUARDED = """
  start state first { call look(n) as a  when a > 10 -> second  otherwise -> third }
  state second { %s -> done }
  state third { when %s -> fourth  otherwise -> done }
  state fourth { call mail(n) -> done }
"""


def test_data_that_was_tested_is_remembered() -> None:
    """`third` is entered with `a` of 10 or less: a test that contradicts it is never taken, another may be."""
    cannot = found_of("check no path calls mail 1 times\n" + GUARDED % ("", "a > 20"))
    assert answer(cannot, "no path calls mail 1 times").vacuous
    can = answer(found_of("check no path calls mail 1 times\n" + GUARDED % ("", "a > 5")), "no path calls mail 1 times")
    assert can.verdict == "violated"
    assert can.run is not None
    assert [move for step in can.way for move in step.moves] == [
        ("first", "otherwise#0", "third"),
        ("third", "when#0", "fourth"),
    ]
    assert "look gives 6" in "\n".join(told(can.run)) or "look gives" in "\n".join(told(can.run))


def test_a_variable_that_is_set_anew_is_another_thing() -> None:
    body = "check every path to done passes fourth\n" + GUARDED.replace(
        "  state third {", "  state third { call look(1) as a  "
    )
    assert answer(found_of(body % ("", "a > 20")), "every path to done passes fourth").verdict == "violated"


def test_a_counterexample_of_the_abstraction_alone_is_said_to_be_one() -> None:
    """That a square is not negative is nothing that is known here, and no run can be found."""
    body = """
  check no path calls mail 1 times
  start state first { call look(n) as a  when a * a < 0 -> second  otherwise -> done }
  state second { call mail(n) -> done }
"""
    one = answer(found_of(body), "no path calls mail 1 times")
    assert (one.verdict, one.run) == ("violated", None)


def test_limits_of_edges_are_counted_where_it_matters() -> None:
    body = """
  check no path calls mail %d times
  check every run ends within %d steps
  check every cycle is bounded
  start state first { call mail(n)  when n > 0 -> first limit 3 else done  otherwise -> done }
"""
    found = found_of(body % (5, 4))
    assert [one.verdict for one in found.answers[:3]] == ["proved"] * 3
    found = found_of(body % (4, 3))
    assert [one.verdict for one in found.answers[:3]] == ["violated", "violated", "proved"]
    assert found.answers[0].run is not None


def test_a_cycle_that_only_the_budget_bounds_is_guarded() -> None:
    body = """
  check every cycle is bounded
  check every run ends within 12 steps
  start state first { call look(n) as a  when a > 0 -> first  otherwise -> done }
"""
    found = found_of(body)
    assert [one.verdict for one in found.answers[:2]] == ["guarded", "guarded"]
    assert "12 steps" in found.answers[0].guards[0]


def test_what_only_the_policy_prevents_is_guarded_by_it() -> None:
    agent = AGENT.replace("allow any", 'allow any  never mail after pay  allow pay without approval because "small"')
    body = """
  check no path calls mail 1 times
  start state first { call pay(n) -> second }
  state second { call mail(n) -> done }
"""
    one = answer(found_of(body, agent=agent), "no path calls mail 1 times")
    assert (one.verdict, one.guards) == ("guarded", ("`mail`: `mail` must not be called after `pay`",))


def test_where_a_run_would_be_parked_is_told() -> None:
    agent = AGENT.replace("  on error any -> over\n  on in_doubt -> over\n", "")
    found = found_of("start state first { call mail(n) -> done }", agent=agent)
    assert answer(found, "no run stops for want of a way on").verdict == "guarded"
    doubt = answer(found, "no run stops because a call may or may not have happened")
    assert doubt.verdict == "guarded"
    assert "`mail` may or may not have happened" in doubt.guards[0]
    assert found_of("start state first { call mail(n) -> done }").answers[1].verdict == "proved"


def test_approvals_crashes_and_people() -> None:
    agent = AGENT.replace("allow any", "allow any  require approval ask_it before pay")
    body = """
  check never pay unless ask_it answers approve
  check every path to done passes ask_it
  check no path calls pay twice
  start state ask_it { ask role "r" to pay(n) "Pay?" options approve, no  timeout 1h as d
    on approve -> paying  on no -> ask_it limit 4 else over  on timeout -> over }
  state paying { call approved pay  -> done }
"""
    found = found_of(body, agent=agent)
    assert [one.verdict for one in found.answers[:3]] == ["proved"] * 3


def test_two_items_stand_for_any_number_but_not_where_it_is_counted() -> None:
    body = """
  check never mail unless ask_it answers yes
  check no path calls look 4 times
  start state all { each x in [1, 2, 3, n] { call look(x) } as xs  when size(xs) > 3 -> ask_it  otherwise -> done }
  state ask_it { ask role "r" "?" options yes, no as d  on yes -> send  on no -> done }
  state send { call mail(n) -> done }
"""
    found = found_of(body)
    assert found.lists == ("[1, 2, 3, n]",)
    assert answer(found, "never mail unless ask_it answers yes").verdict == "proved"
    assert not answer(found, "never mail unless ask_it answers yes").vacuous, "how many results there are is not known"
    assert answer(found, "no path calls look 4 times").verdict == "unknown"


def test_what_is_too_large_is_unknown_and_says_so() -> None:
    states = "\n".join(
        f"state s{n} {{ call look(n) as v{n}  when v{n} > 0 -> s{n + 1}  otherwise -> done }}" for n in range(20)
    )
    body = f"check every cycle is bounded\n start state go {{ -> s0 }}\n{states}\n state s20 {{ -> done }}"
    found = found_of(body, most=5)
    assert found.answers[0].verdict == "unknown"
    assert "beyond" in found.answers[0].why


@pytest.mark.parametrize("first", [0, 100, 300])
def test_no_run_leaves_what_was_explored(first: int) -> None:
    """Generated programs of the whole language, under faults and crashes. `./dev escapes` does more."""
    from jamjet_dsl.compiler import compile_text
    from tests.reference import programs

    tally = Tally()
    for seed in range(first, first + 40):
        definition = compile_text(programs.program(seed)).definition
        escapes(definition, range(4), 60, tally, f"program {seed}", exact=seed % 2 == 1)
    assert tally.escapes == []
    assert tally.runs >= 20
