"""How long an approval holds: as long after it was given as its question could have been answered."""

from __future__ import annotations

import pytest

from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.model import Mode
from tests.kernel.driver import Driver, Fails
from tests.kernel.source import compiled, only, retry

HOUR_MS = 3_600_000
LATE = "the approval of `s` was given more than 1h before"


def asking(
    pause: str = "1h",
    timeout: str = "timeout 1h",
    rules: str = "",
    then: str = "-> done",
    script: object = "paid",
    parks: bool = False,
    yes: str = "rest",
    policy: Mode = "enforce",
) -> Driver:
    """A run that asks, and waits for a while before it makes the call that was approved."""
    late = "on timeout -> no" if timeout else ""
    text = f"""
tool pay(n: int) -> string {{ effect irreversible  timeout 5s  key run.id }}
agent a version 1 {{
  policy {{ allow pay  {rules} }}
  {"" if parks else "on error any -> bad"}
  on denied -> no
  start state s {{ ask role "boss" to pay(5) "Pay?" options yes approves, no {timeout} as answer
    on yes -> {yes}  on no -> no  {late} }}
  state rest {{ wait {pause}  -> go }}
  state t {{ ask role "boss" to pay(5) "Sure?" options yes approves, no timeout 1h as other
    on yes -> rest  on no -> no  on timeout -> no }}
  state go {{ call approved pay  {then} }}
  final done {{}}  failed no {{}}  failed bad {{}}
}}"""
    return Driver(compiled(text), {"pay": script}).start({}, policy=policy).run()


def test_an_approval_holds_for_as_long_as_its_question_could_have_been_answered() -> None:
    run = asking()
    run.pass_time(run.now_ms + HOUR_MS - 1)
    run.answer("yes")
    assert run.path == ["s", "rest", "go", "done"]
    assert len(run.calls("pay")) == 1


def test_an_approval_that_was_given_longer_ago_is_none_and_is_not_used() -> None:
    run = asking("3601s").answer("yes")
    assert run.path == ["s", "rest", "go", "no"]
    assert not run.calls("pay")
    assert only(run, "denied")["decision"]["reason"] == LATE
    (grant,) = run.state.grants.values()
    assert grant.used_by is None


def test_its_time_begins_with_the_answer_that_made_it_complete() -> None:
    run = asking(rules='require approval by 2 of "boss" before pay').answer("yes")
    run.pass_time(run.now_ms + HOUR_MS - 1)
    assert run.answer("yes", by="bob").path == ["s", "rest", "go", "done"]


def test_without_a_timeout_it_does_not_expire() -> None:
    assert asking("60d", timeout="").answer("yes").path == ["s", "rest", "go", "done"]


@pytest.mark.parametrize("backoff", ["1h", "60d"])
def test_a_call_that_was_begun_in_time_is_tried_again_later(backoff: str) -> None:
    """The first intent has used the approval up, and every further attempt is that same call."""
    tried = [Fails("Unavailable", sent=False), "paid"]
    run = asking(then=f"retry Unavailable 1 times backoff {backoff}  -> done", script=tried).answer("yes")
    assert run.path == ["s", "rest", "go", "done"]
    assert len(run.calls("pay")) == 2


def test_a_call_that_was_begun_in_time_is_tried_again_by_an_operator() -> None:
    run = asking(parks=True, script=[Fails("Unavailable", sent=False), "paid"])
    run.answer("yes")
    assert run.state.status == "parked"
    run.now_ms += 24 * HOUR_MS
    retry(run).land("pay(5)", "paid")
    assert (run.path[-1], len(run.calls("pay"))) == ("done", 2)


def test_a_process_that_takes_the_run_over_too_late_does_not_use_it() -> None:
    run = asking("1s")
    question = next(iter(run.state.questions))
    run.append(*inputs.answered(run.program, run.state, question, "yes", None, "ann", None))
    run.now_ms += 24 * HOUR_MS
    run.append("resumed", {})
    assert run.run().path == ["s", "rest", "go", "no"]
    assert not run.calls("pay")


def test_of_two_approvals_the_one_that_still_holds_is_used() -> None:
    """The later one has expired; the question of the other had no timeout."""
    run = asking("2h", timeout="", yes="t").answer("yes").answer("yes")
    assert run.path == ["s", "t", "rest", "go", "done"]
    assert {grant.state: grant.used_by is not None for grant in run.state.grants.values()} == {"s": True, "t": False}


def test_an_expired_approval_is_not_counted_beside_one_that_holds() -> None:
    rules = "require approval s before pay  require approval t before pay"
    assert asking("1s", rules=rules, yes="t").answer("yes").answer("yes").path[-1] == "done"
    run = asking("1s", rules=rules, yes="t").answer("yes")
    run.pass_time(run.now_ms + HOUR_MS)
    run.answer("yes")
    assert run.path == ["s", "t", "rest", "go", "no"]
    assert only(run, "denied")["decision"]["result"] == "needs_approval"


def test_in_shadow_it_is_told_and_the_call_is_made() -> None:
    run = asking("2h", policy="shadow").answer("yes")
    assert run.path == ["s", "rest", "go", "done"]
    (intent,) = [body for body in run.events("intent") if body["tool"] == "pay"]
    assert (intent["decision"]["enforced"], intent["decision"]["reason"]) == (False, LATE)


def test_journals_in_which_questions_do_not_say_how_long_are_decided_as_they_were() -> None:
    run = asking("2h")
    for kept in run.state.questions.values():
        del kept.body["holds_ms"]
    assert run.answer("yes").path == ["s", "rest", "go", "done"]
