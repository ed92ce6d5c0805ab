"""A run that goes on elsewhere: as a fork, at another time, and in another version of its program."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import initial, next_wake
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.state_json import encode
from tests.kernel.driver import NOTHING, Driver, Fails
from tests.kernel.source import answer, begun, compiled, retry

TOOLS = """
tool look(q: string) -> string { effect reads  timeout 5s }
tool web(q: string) -> string untrusted { effect reads  timeout 5s }
tool score(q: string) -> int { effect reads  timeout 5s }
tool mail(q: string) { effect reads  timeout 5s }
tool pay(q: string) -> string { effect writes  key q  timeout 5s }
"""
SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
LATER = 1_000_000_000
"""How much later a fork begins."""
RULES = "allow look, web, score, mail, pay"


def agent(
    body: str, *, head: str = "", rules: str = RULES, budget: str = "steps 60", result: str = '"done"', name: str = "a"
) -> str:
    return f"""agent {name} version 1 {{
      {head}
      output r: string
      budget {{ {budget}  exceeded -> over }}
      policy {{ {rules} }}
      on error any -> bad
      start {body}
      final done {{ r = {result} }}  failed bad {{ r = "bad" }}  failed over {{ r = "over" }}
    }}
    """


def fork(run: Driver, later: int = LATER, **body: Any) -> Driver:
    """The run goes on in another one, from where it is now, so much later."""
    other = Driver(run.definition, now_ms=run.now_ms + later)
    other.state = initial("run-2")
    origin = {"run": "run-1", "seq": run.state.seq, "hash": "h", "live": True}
    other.append("forked", {"whole": json.loads(encode(run.state)), "origin": origin, **body})
    return other.begin()


def moved(run: Driver, text: str, **body: Any) -> Driver:
    """The run goes on in another program."""
    run.definition = compiled(text)
    run.program = Program.of(run.definition)
    run.append("migrated", {"to": run.program.digest, **body})
    return run.begin()


def passes(run: Driver, ms: int) -> None:
    """Time passes in which the run is watched, and nothing comes of it but that a journal says so."""
    run.now_ms += ms
    run.append("resumed", {"since_ms": run.now_ms - ms})


# ---- forks


def test_a_fork_is_the_run_as_it_was_under_a_name_of_its_own() -> None:
    run = begun(TOOLS + agent('state s { call look("1")  -> t }  state t { call look("2")  -> done }'))
    run.land("look(1)", "v")
    other = fork(run)
    assert (other.state.run_id, other.state.seq, other.state.now_ms) == ("run-2", 1, run.state.now_ms + LATER)
    assert other.state.origin == {"run": "run-1", "seq": run.state.seq, "hash": "h", "live": True}
    assert other.state.started_ms == run.state.started_ms + LATER
    assert other.flights == ["look(2)"]
    assert other.land("look(2)", "v").state.output == run.land("look(2)", "v").state.output
    assert run.state.origin is None


def test_what_was_left_of_a_rest_is_left_in_a_fork() -> None:
    run = begun(TOOLS + agent("state s { wait 1h  -> done }"))
    passes(run, 10 * MINUTE)
    other = fork(run)
    assert next_wake(other.state) == other.now_ms + 50 * MINUTE
    assert other.at(other.now_ms + 50 * MINUTE - 1).state.status == "waiting"
    assert other.at(other.now_ms + 1).state.status == "completed"


def test_a_rest_that_had_not_begun_begins_in_a_fork() -> None:
    other = fork(Driver(compiled(TOOLS + agent("state s { wait 1h  -> done }"))).start({}))
    assert next_wake(other.state) == other.now_ms + HOUR


@pytest.mark.parametrize("inside", [False, True])
def test_what_was_left_of_the_time_of_an_agent_is_left_in_a_fork(inside: bool) -> None:
    work = 'state s { call look("1")  -> done }'
    text = TOOLS + (
        agent("state s { run kid() as k  -> done }", result="k.r") + agent(work, budget="time 2h", name="kid")
        if inside
        else agent(work, budget="time 2h")
    )
    run = begun(text)
    passes(run, 30 * MINUTE)
    for spare, end in ((0, "over"), (1, "done")):
        other = fork(run)
        other.now_ms += 90 * MINUTE - spare
        other.land("look(1)", "v")
        assert other.state.output == {"r": "bad" if inside and end == "over" else end}


def test_active_time_does_not_pass_between_a_run_and_its_fork() -> None:
    run = begun(TOOLS + agent('state s { call look("1")  -> done }', budget="active 1h"))
    passes(run, 10 * MINUTE)
    other = fork(run)
    assert other.state.spent.active_ms == 10 * MINUTE
    assert next_wake(other.state) == other.now_ms + 50 * MINUTE
    assert "spent" not in other.kinds


TWO_CALLS = """state s { call mail("1")  -> t }  state t { wait 1h  -> u }
  state u { call mail("2")  on denied -> bad  -> done }"""
TOO_FEW = " // jam: ignore JAM615 because that the last call is denied is what is tested\n"
LIMITED = agent(
    TWO_CALLS,
    rules=RULES + "  limit mail 1 call per day",
)


@pytest.mark.parametrize(("rest", "end"), [(0, "bad"), (1, "done")])
@pytest.mark.parametrize("inside", [False, True])
def test_the_window_of_a_limit_slides_on_in_a_fork(inside: bool, rest: int, end: str) -> None:
    """What was counted an hour before the fork was counted an hour before its beginning."""
    body = LIMITED.replace("wait 1h", f"wait {23 + rest}h")
    text = TOOLS + body
    if inside:
        text = TOOLS + agent("state s { run kid() as k  -> done }", result="k.r") + body.replace("agent a", "agent kid")
    run = begun(text)
    run.land("mail(1)", NOTHING)
    passes(run, HOUR)
    other = fork(run)
    other.at(next_wake(other.state) or 0)
    assert other.flights == (["mail(2)"] if rest else [])
    if not rest:
        assert other.state.output == {"r": "bad"}


@pytest.mark.parametrize(("wait", "asks"), [(4, False), (5, False), (6, True)])
def test_a_fact_grows_old_in_a_fork_from_the_age_it_had(wait: int, asks: bool) -> None:
    rules = RULES + '  fact risk = score(q = "x") within 10m for pay  forbid pay when risk > 5'
    body = (
        f'state s {{ call pay("1")  -> t }}  state t {{ wait {5 + wait}m  -> u }}  state u {{ call pay("2")  -> done }}'
    )
    run = begun(TOOLS + agent(body, rules=rules)).land("score(x)", 1).land("pay(1)", "R")
    passes(run, 5 * MINUTE)
    other = fork(run)
    other.at(other.now_ms + wait * MINUTE)
    assert other.flights == (["score(x)"] if asks else ["pay(2)"])


def test_a_further_attempt_is_as_far_away_in_a_fork_as_it_was() -> None:
    body = 'state s { call look("1") retry Unavailable 3 times backoff 1m  -> done }'
    run = begun(TOOLS + agent(body))
    run.append(*run.outcome(run.flight("look(1)"), Fails("Unavailable", sent=False)))
    passes(run, 20 * SECOND)
    other = fork(run)
    assert next_wake(other.state) == other.now_ms + 40 * SECOND


def test_what_was_left_until_a_join_is_late_is_left_in_a_fork() -> None:
    body = """parallel p { branch one { call look("1") }  branch two { wait 9h }  join any within 1h
      on late -> bad  on join -> done }"""
    body = body.replace("on late -> bad  ", "on error JoinFailed -> bad  ")
    run = begun(TOOLS + agent(body))
    passes(run, 10 * MINUTE)
    other = fork(run)
    assert min(other.state.timers.values()) == other.now_ms + 50 * MINUTE
    assert other.at(other.now_ms + 50 * MINUTE).state.final_state == "bad"


ASKING = agent(
    """state s { call web("1") as w  set v = w  -> q }
    state q { ask role "boss" "{v}?" options yes, no timeout 5h remind every 1h as a
      on yes -> t  on no -> bad  on timeout -> bad }
    state t { call mail(v) on denied -> bad  -> done }""",
    head='input n: int  var v: string = ""',
    rules="allow web, mail",
    result="v + string(n)",
)


def asking(text: str = "x") -> Driver:
    return begun(TOOLS + ASKING, n=7).land("web(1)", text)


def test_a_fork_asks_anew_and_takes_no_answer_to_the_old_question() -> None:
    run = asking()
    passes(run, HOUR + MINUTE)
    (old,) = run.state.questions.values()
    other = Driver(run.definition, now_ms=run.now_ms + LATER)
    other.questions = 10
    other.append("forked", {"whole": json.loads(encode(run.state)), "origin": {}})
    assert (other.state.questions, other.state.timers, other.state.status) == ({}, {}, "running")
    other.begin()
    (new,) = other.state.questions.values()
    assert (new.id, new.state, new.expires_at_ms) == ("q11", "q", other.now_ms + 5 * HOUR)
    assert sorted(other.state.timers.values()) == [other.now_ms + HOUR, other.now_ms + 5 * HOUR]
    with pytest.raises(JamError) as refused:
        inputs.answered(other.program, other.state, old.id, "yes", None, "ann", None)
    assert refused.value.code == "JAMR402"
    assert answer(other, "yes").flights == ["mail(x)"]
    assert run.state.questions == {old.id: old}


def test_a_fork_may_begin_with_other_inputs_and_variables() -> None:
    run = asking()
    other = fork(run, input={"n": 8}, set={"v": "y"})
    assert answer(other, "yes").flights == ["mail(y)"]
    assert other.land("mail(y)", NOTHING).state.output == {"r": "y8"}
    assert answer(run, "yes").flights == ["mail(x)"]
    assert run.land("mail(x)", NOTHING).state.output == {"r": "x7"}


def test_what_somebody_has_set_in_a_fork_does_not_come_from_where_the_old_value_did() -> None:
    run = asking()
    assert run.state.provenance == {"v": frozenset({"untrusted"}), "w": frozenset({"untrusted"})}
    assert fork(run, set={"v": "y"}).state.provenance == {"w": frozenset({"untrusted"})}
    assert fork(run).state.provenance == run.state.provenance


# ---- migrations


def test_an_edge_was_taken_as_often_under_the_new_name_of_its_state() -> None:
    body = 'state s { call look("1")  -> s limit 2 else done }  state q { wait 1h  -> q limit 2 else s }'
    run = begun(TOOLS + agent(body)).land("look(1)", "").land("look(1)", "")
    assert run.state.frames[""].counters == {"s/always#0": 2}
    place = {"frames": {"": {"state": "t", "region": ""}}, "states": {"s": "t"}}
    text = TOOLS + agent(body.replace("state s", "state t").replace("-> s", "-> t").replace("else s", "else t"))
    moved(run, text, **place)
    assert run.flights == ["look(1)"]
    assert run.land("look(1)", "").state.status == "completed"


def test_counters_of_states_that_keep_their_names_are_kept() -> None:
    body = """state s { call look("1")  when 1 > 2 -> done  -> s limit 3 else q }
      state q { wait 1h  -> done }"""
    run = begun(TOOLS + agent(body)).land("look(1)", "")
    before = run.state.frames[""].counters
    assert before
    moved(run, TOOLS + agent(body.replace("state q", "state p").replace("else q", "else p")), states={"q": "p"})
    assert run.state.frames[""].counters == before


def test_a_child_keeps_the_names_of_its_own_states() -> None:
    kid = agent('state s { call look("1")  -> s limit 2 else done }', name="kid")
    text = TOOLS + agent("state s { run kid()  -> done }")
    run = begun(text + kid).land("look(1)", "")
    place = {"frames": {"": {"state": "t", "region": ""}}, "states": {"s": "t"}}
    moved(run, text.replace("state s", "state t") + kid, **place)
    assert run.state.frames["s@1/kid"].counters == {"s/always#0": 1}
    assert run.land("look(1)", "").flights == ["look(1)"]
    assert run.land("look(1)", "").state.status == "completed"


def test_a_question_and_an_approval_belong_to_the_new_name_of_their_state() -> None:
    body = """state q { ask role "boss" to pay("1") "?" options approve, no timeout 9h
        on approve -> nap  on no -> bad  on denied -> bad  on timeout -> bad }
      state nap { wait 1h  -> go }
      state go { call approved pay  on denied -> bad  on in_doubt -> bad  -> done }"""
    rules = 'allow pay  require approval q before pay when args.q == "1"'
    run = begun(TOOLS + agent(body, rules=rules))
    names = {"q": "ok"}
    renamed = TOOLS + agent(body.replace("state q", "state ok"), rules=rules.replace("approval q", "approval ok"))
    end = run.now_ms + 5 * HOUR
    place = {"frames": {"": {"state": "ok", "region": ""}}, "states": names}
    (name,) = run.state.questions
    moved(run, renamed, expires={name: end}, **place)
    (question,) = run.state.questions.values()
    assert (question.id, question.state, question.expires_at_ms) == (name, "ok", end)
    answer(run, "approve")
    assert [grant.state for grant in run.state.grants.values()] == ["ok"]
    moved(run, TOOLS + agent(body, rules=rules), states={"ok": "q"})
    assert [grant.state for grant in run.state.grants.values()] == ["q"]
    assert run.at(next_wake(run.state) or 0).flights == ["pay(1)"]


def test_a_question_that_nothing_is_said_of_stays_as_it_is() -> None:
    body = """state q { ask role "boss" "?" options yes timeout 9h  on yes -> done  on timeout -> bad }"""
    run = begun(TOOLS + agent(body))
    before = dict(run.state.questions)
    moved(run, TOOLS + agent(body + "  state more { -> done }"))
    assert run.state.questions == before
    assert run.state.questions["q1"].expires_at_ms is not None


def test_a_parked_run_is_parked_in_the_state_as_it_is_called_now() -> None:
    body = 'state s { call look("1")  -> done }'
    text = (TOOLS + agent(body)).replace("on error any -> bad", "")
    run = begun(text).land("look(1)", Fails("Unavailable"))
    assert run.state.parked is not None
    reason = run.state.parked["reason"]
    place = {"frames": {"": {"state": "t", "region": ""}}, "states": {"s": "t"}}
    moved(run, text.replace("state s", "state t"), **place)
    assert run.state.parked is not None
    assert (run.state.parked["state"], run.state.parked["reason"]) == ("t", reason)
    moved(run, text.replace("state s", "state t") + "\n", states={"x": "y"})
    assert run.state.parked is not None
    assert run.state.parked["state"] == "t"
    assert retry(run).flights == ["look(1)"]


def test_variables_are_dropped_added_and_changed_and_the_others_stay() -> None:
    head = 'input n: int  var a: string = "A"  var b: string = "B"'
    body = 'state s { call web("1") as w  set a = w, b = w  -> t }  state t { wait 1h  -> done }'
    body = body.replace("set a = w, b = w", "set a = w  set b = w")
    run = begun(TOOLS + agent(body, head=head, result="b + string(n)"), n=1).land("web(1)", "W")
    text = TOOLS + agent(
        body.replace("set a = w", ""),
        head='input n: int  input m: int  var b: string = "B"  var c: string = "C"',
        result="b + c + string(n + m)",
    )
    moved(run, text, drop=["a"], set={"c": "new"}, input={"m": 5})
    assert run.state.vars == {"b": "W", "c": "new", "w": "W"}
    assert run.state.provenance == {"b": frozenset({"untrusted"}), "w": frozenset({"untrusted"})}
    assert run.state.input == {"n": 1, "m": 5}
    assert run.at(next_wake(run.state) or 0).state.output == {"r": "Wnew6"}


def test_timers_are_set_moved_and_taken_away() -> None:
    run = begun(TOOLS + agent("state s { wait 5h  -> done }", budget="time 9h"))
    name = next(name for name in run.state.timers if name.endswith("wait"))
    began = run.now_ms
    text = TOOLS + agent("state s { wait 2h  -> done }", budget="active 8h")
    moved(run, text, timers={name: began + 2 * HOUR, "budget/time": None})
    assert run.state.timers == {name: began + 2 * HOUR, "budget/active": began + 8 * HOUR}
    moved(run, TOOLS + agent("state s { wait 2h  -> done }"))
    assert run.state.timers == {name: began + 2 * HOUR}
    assert run.at(began + 2 * HOUR).state.status == "completed"


@pytest.mark.parametrize(("rules", "flights"), [({"5": 6}, []), ({"5": 6, "4": 9}, []), ({}, ["mail(2)"])])
def test_what_a_limit_has_counted_stays_under_the_number_of_its_rule(rules: Any, flights: list[str]) -> None:
    body = TWO_CALLS
    before = f"allow look  allow web  allow score  allow mail  allow pay  limit mail 1 call {TOO_FEW}"
    run = begun(TOOLS + agent(body, rules=before)).land("mail(1)", NOTHING)
    after = before.replace("allow look", "allow look  forbid pay")
    moved(run, TOOLS + agent(body, rules=after), rules=rules)
    assert run.at(next_wake(run.state) or 0).flights == flights
    assert run.state.final_state == (None if flights else "bad")
    assert any(key.startswith("calls") for key in run.state.monitors)


def test_limits_of_one_version_may_change_places_in_the_next() -> None:
    body = TWO_CALLS.replace('mail("2")', 'look("2")')
    one, two = "limit mail 1 call", "limit look 1 call"
    run = begun(TOOLS + agent(body, rules=f"allow look, mail  {one}  {two}")).land("mail(1)", NOTHING)
    moved(run, TOOLS + agent(body, rules=f"allow look, mail  {two}  {one}"), rules={"1": 2, "2": 1})
    assert run.at(next_wake(run.state) or 0).flights == ["look(2)"]


def test_a_limit_that_is_gone_takes_nothing_with_it() -> None:
    rules = f"allow look, mail  limit mail 1 call  limit look 1 call {TOO_FEW}"
    body = TWO_CALLS.replace('call mail("2")', 'call look("2")')
    body = body.replace("-> t }", '-> n }  state n { call look("1")  -> t }', 1)
    run = begun(TOOLS + agent(body, rules=rules)).land("mail(1)", NOTHING).land("look(1)", "v")
    moved(run, TOOLS + agent(body, rules=f"allow look, mail  limit look 1 call {TOO_FEW}"), rules={"2": 1})
    assert run.at(next_wake(run.state) or 0).flights == []
    assert run.state.final_state == "bad"
