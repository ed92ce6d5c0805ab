"""`test` blocks in simulated time: what passes, and what a failure says."""

from __future__ import annotations

from pathlib import Path

import pytest

from jamjet_dsl import compile_text
from jamjet_dsl.engine.testing import TestResult, run_tests

AGENT = """
tool find(q: string) -> list<string> {{ effect reads  cost $0.10  raises NotFound }}
tool pay(to: string, amount: money) -> string {{ effect irreversible  key run.id }}
model large {{ via openai "x" }}
agent clerk {{
  input q: string
  output answer: string?, n: int?
  budget {{ steps 9  cost $1  tokens 9k  exceeded -> over }}
  policy {{ allow find, pay  require approval review before pay }}
  on error any -> over
  start state looking {{
    call find(q) as found  retry NotFound 2 times backoff 1h
    -> thinking
  }}
  state thinking {{ think "?" given found model large max prompt 1k max tokens 10 as word: string  -> review }}
  state review {{
    ask role "boss" to pay(word, $2) "Pay {{word}}?" options approve approves, no  answer {{ n: int? }}
      timeout 48h  as a
    on approve -> paying
    on no -> declined
    on timeout -> over
  }}
  state paying {{ call approved pay as receipt  on in_doubt -> over  -> done }}
  final done {{ answer = receipt  n = a.n }}
  final declined {{ }}
  failed over {{ }}
}}
test "t" for clerk {{
  input q = "x"
  {body}
}}
"""

GOOD = """
  mock find returns ["a"]
  mock thinking returns "w"
  mock review answers approve { n: 3 }
  mock pay returns "r"
"""


def run(body: str) -> TestResult:
    (result,) = run_tests(compile_text(AGENT.format(body=body)))
    return result


def failure(body: str) -> str:
    result = run(body)
    assert not result.passed
    return " | ".join(f"{f.kind}: {f.message}" for f in result.failures)


def test_a_test_that_holds_passes_and_says_what_happened() -> None:
    result = run(
        GOOD
        + """
  expect path looking, thinking, review, paying, done
  expect answer == "r" && outputs.n == 3 && calls(pay) == 1
  expect state == done
  expect spent.steps == 4 && spent.cost == $0.10"""
    )
    assert result.failures == ()
    assert result.path == ("looking", "thinking", "review", "paying", "done")
    assert (result.status, result.output) == ("completed", {"answer": "r", "n": 3})
    assert (result.spent["steps"], result.calls) == (4, {"find": 1, "pay": 1})
    assert result.as_json()["passed"] is True


def test_a_wrong_path_is_shown_where_it_differs() -> None:
    text = failure(GOOD + "expect path looking, thinking, review, declined")
    assert "at step 4: expected declined, found paying" in text
    unanswered = GOOD.replace("mock review answers approve { n: 3 }", "")
    text = failure(unanswered + "expect path looking, thinking, review, paying, done")
    assert "at step 4: expected paying, found over" in text


def test_a_false_expectation_shows_the_values_that_made_it_false() -> None:
    text = failure(GOOD + "expect calls(pay) == 1 && spent.steps <= 3")
    assert text == "expect: is false: 4 <= 3"
    result = run(GOOD + "expect calls(pay) == 1 && spent.steps <= 3")
    assert result.failures[0].text == "calls(pay) == 1 && spent.steps <= 3"


@pytest.mark.parametrize(
    ("missing", "advice"),
    [
        ('mock find returns ["a"]', "`looking` calls find: add `mock find returns …`"),
        ('mock thinking returns "w"', "`thinking` asks a model: add `mock thinking returns …`"),
        ('mock pay returns "r"', "`paying` calls pay: add `mock pay returns …`"),
    ],
)
def test_a_missing_mock_is_named(missing: str, advice: str) -> None:
    assert advice in failure(GOOD.replace(missing, ""))


def test_nobody_answers_where_no_answer_is_mocked_and_time_passes() -> None:
    result = run(GOOD.replace("mock review answers approve { n: 3 }", "expect state == over"))
    assert result.passed
    assert result.simulated_ms == 48 * 3_600_000


def test_responses_come_in_order_and_backoff_costs_no_real_time() -> None:
    result = run(
        GOOD.replace('returns ["a"]', 'raises NotFound then raises NotFound then returns ["b"]')
        + "expect calls(find) == 1 && state == done"
    )
    assert result.failures == ()
    assert result.simulated_ms >= 2 * 3_600_000


def test_the_last_response_repeats() -> None:
    assert run(GOOD.replace('returns ["a"]', "raises NotFound") + "expect state == over").passed


def test_two_approvals_come_from_two_people() -> None:
    (result,) = run_tests(
        compile_text("""
tool pay(to: string) -> string { effect irreversible }
agent clerk {
  output r: string?
  budget { steps 9  exceeded -> over }
  policy { allow pay  require approval by 2 of "boss" before pay }
  start state review {
    ask role "boss" to pay("a") "Pay?" options approve approves, no timeout 1h as a
    on approve -> paying  on no -> over  on timeout -> over
  }
  state paying { call approved pay as r  on error any -> over  on in_doubt -> over  on denied -> over  -> done }
  final done { r = r }
  failed over { }
}
test "both" for clerk { mock review answers approve  mock pay returns "ok"  expect state == done }
""")
    )
    assert result.failures == ()


def test_tests_are_chosen_by_their_title() -> None:
    program = compile_text(AGENT.format(body=GOOD + "expect state == done"))
    assert [r.title for r in run_tests(program, "T")] == ["t"]
    assert run_tests(program, "other") == []


@pytest.mark.parametrize("name", ["loan_underwriting", "support_agent"])
def test_the_design_examples_pass_their_own_tests(name: str) -> None:
    path = Path(__file__).parents[3] / "shared" / "design" / "examples" / f"{name}.jam"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    from jamjet_dsl import compile_file

    results = run_tests(compile_file(path))
    assert results
    assert all(result.passed for result in results), results


def test_a_person_who_does_not_answer_in_time_is_mocked_with_timeout() -> None:
    result = run('mock find returns ["a"]  mock thinking returns "w"  mock review answers timeout')
    assert result.path == ("looking", "thinking", "review", "over")
    assert result.simulated_ms == 48 * 3_600_000


def test_denials_are_counted_apart_from_attempts() -> None:
    text = (
        AGENT.replace("{{", "{")
        .replace("}}", "}")
        .replace("require approval review before pay", "forbid pay when args.amount > $1")
    )
    body = """
      mock find returns ["a"]  mock thinking returns "w"
      expect denied(pay) == 1  expect denied(pay, amount = $2.00) == 1  expect denied(pay, amount = $3) == 0
      expect attempted(pay) == 0  expect denied(find) == 0  expect attempted(find, q = "x") == 1
      expect calls(pay) == 0
    """
    text = text.replace("on timeout -> over", "on timeout -> over  on denied -> declined").replace("{body}", body)
    text = text.replace("on in_doubt -> over", "on in_doubt -> over  on denied -> declined")
    (result,) = run_tests(compile_text(text))
    assert result.failures == ()
    assert result.path == ("looking", "thinking", "review", "declined")
