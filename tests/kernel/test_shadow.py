"""A policy in shadow: every call is decided as ever, what would have stopped it is journaled, and it is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jamjet_dsl.compiler import ProgramRefused, compile_text
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import apply, decide, initial
from jamjet_dsl.kernel.model import Ask, Call, Event, Record, RunState
from jamjet_dsl.kernel.program import Program
from tests.kernel.driver import Driver, Fails
from tests.kernel.source import compiled, only
from tests.reference import programs
from tests.reference.engine import Played

TOOLS = """
tool look(q: string) -> string { effect reads  timeout 5s }
tool level(q: string) -> int { effect reads  timeout 5s }
tool ship(id: string) -> string { effect writes  timeout 5s }
tool pay(id: string, n: int) -> string { effect irreversible  timeout 5s }
"""
SCRIPT = {"look": "seen", "level": 3, "ship": "sent", "pay": "paid"}


def agent(body: str, rules: str, *, name: str = "a", head: str = "") -> str:
    return f"""agent {name} version 1 {{
      output r: string
      budget {{ steps 9  exceeded -> over }}
      policy {{ {rules} }}
      {head or "on error any -> bad  on denied -> no"}
      start {body}
      final done {{ r = "done" }}  final no {{ r = "no" }}  failed bad {{ r = "bad" }}  failed over {{ r = "over" }}
    }}
    """


def shadow(text: str, script: dict[str, Any] | None = None) -> Driver:
    return Driver(compiled(TOOLS + text), {**SCRIPT, **(script or {})}).start({}, policy="shadow").run()


def enforced(text: str) -> Driver:
    return Driver(compiled(TOOLS + text), dict(SCRIPT)).start({}).run()


def test_the_mode_stands_in_the_first_event_and_only_there_where_it_is_shadow() -> None:
    text = agent('state s { call ship("1")  -> done }', "allow ship")
    assert shadow(text).journal[0].body["policy"] == "shadow"
    assert "policy" not in enforced(text).journal[0].body


def test_there_is_no_other_mode() -> None:
    program = Program.of(compiled(TOOLS + agent('state s { call ship("1")  -> done }', "allow ship")))
    with pytest.raises(JamError) as caught:
        inputs.started(program, {}, None, "", policy="off")  # type: ignore[arg-type]
    assert caught.value.code == "JAMR006"


def test_a_call_that_would_be_denied_is_made_and_its_decision_says_so() -> None:
    text = agent('state s { call ship("1")  -> done }', 'allow ship  forbid ship when args.id == "1"')
    assert enforced(text).path == ["s", "no"]
    run = shadow(text)
    assert run.path == ["s", "done"]
    assert len(run.calls("ship")) == 1
    assert not run.events("denied")
    assert only(run, "intent")["decision"] == {
        "rules": [1],
        "result": "denied",
        "reason": "`ship` is forbidden",
        "enforced": False,
    }


def test_what_is_allowed_is_journaled_as_ever() -> None:
    text = agent('state s { call ship("1")  -> done }', "allow ship")
    assert only(shadow(text), "intent") == only(enforced(text), "intent")


def test_a_free_read_that_would_be_denied_leaves_an_intent_too() -> None:
    text = agent('state s { call look("x")  -> done }', 'allow look when args.q == "y"')
    assert enforced(text).path == ["s", "no"]
    run = shadow(text)
    assert run.path == ["s", "done"]
    assert only(run, "intent")["decision"]["enforced"] is False
    assert not shadow(text.replace('look("x")', 'look("y")')).events("intent")


ASKS = """state s { ask role "boss" to pay("1", 5) "Pay?" options yes approves, no timeout 1h as answer
    on yes -> go  on no -> no  on timeout -> no }
  state go { call approved pay  on denied -> no  on in_doubt -> bad  -> again }
  state again { call approved pay  on denied -> done  on in_doubt -> bad  -> bad }"""


def test_a_question_that_the_program_asks_is_asked_and_a_no_is_a_no() -> None:
    run = shadow(agent(ASKS, "allow pay"))
    assert run.state.status == "waiting"
    assert run.answer("no").path == ["s", "no"]
    assert not run.calls("pay")


def test_an_approval_is_used_once_and_nothing_is_approved_without_one() -> None:
    run = shadow(agent(ASKS, "allow pay")).answer("yes")
    assert run.path == ["s", "go", "again", "done"]
    assert len(run.calls("pay")) == 1
    assert only(run, "denied")["decision"]["reason"].startswith("there is no unused approval")


def test_a_question_about_a_call_that_would_be_denied_is_asked_and_says_so() -> None:
    text = agent(ASKS, "allow pay  forbid pay when args.n > 3")
    assert enforced(text).path == ["s", "no"]
    run = shadow(text)
    assert only(run, "asked")["decision"]["enforced"] is False
    assert run.answer("yes").path == ["s", "go", "again", "done"]
    assert only(run, "intent")["decision"]["result"] == "denied"
    assert only(run, "intent")["grants"] == ["q1"]


def test_one_approval_is_enough_and_the_decision_says_who_was_missing() -> None:
    text = agent(ASKS, 'allow pay  require approval by 2 of "boss" before pay')
    waiting = enforced(text).answer("yes", by="ann")
    assert waiting.state.status == "waiting"
    run = shadow(text).answer("yes", by="ann")
    assert run.path == ["s", "go", "again", "done"]
    decision = only(run, "intent")["decision"]
    assert (decision["result"], decision["enforced"]) == ("needs_approval", False)
    assert decision["needs"] == [{"people": 2, "role": "boss", "excluding": None}]


def test_whoever_may_not_approve_by_a_rule_may_answer_and_the_role_of_the_question_holds() -> None:
    text = agent(ASKS, 'allow pay  require approval by 1 of "chief" before pay')
    run = shadow(text)
    with pytest.raises(JamError) as caught:
        run.answer("yes", roles=["clerk"])
    assert caught.value.code == "JAMR409"
    run.answer("yes", roles=["boss"])
    assert only(run, "intent")["decision"]["enforced"] is False


LIMITED = """state s { call ship("1")  on in_doubt -> bad  -> s limit 2 else done }"""


def test_calls_that_were_made_count_whatever_was_decided() -> None:
    run = shadow(agent(LIMITED, "allow ship  limit ship 1 call"))
    assert [body["decision"].get("enforced", True) for body in run.events("intent")] == [True, False, False]
    (entry,) = [value for key, value in run.state.monitors.items() if key.startswith("limit")]
    assert entry["count"] == 3
    assert enforced(agent(LIMITED, "allow ship  limit ship 1 call")).path == ["s", "s", "no"]


def test_a_call_that_would_be_denied_is_history_for_the_next_decision() -> None:
    body = """state s { call look("x")  -> t }  state t { call ship("1")  on in_doubt -> bad  -> done }"""
    rules = 'allow look, ship  forbid look when args.q == "x"  never ship after look when args.id == "1"'
    assert enforced(agent(body, rules)).path == ["s", "no"]
    marked = [body["decision"].get("enforced", True) for body in shadow(agent(body, rules)).events("intent")]
    assert marked == [False, False]


def test_the_budget_holds_as_ever() -> None:
    run = shadow(agent('state s { call ship("1")  on in_doubt -> bad  -> s limit 50 else done }', "allow ship"))
    assert (run.path[-1], run.state.spent.steps) == ("over", 9)


def test_a_fact_is_read_and_one_that_cannot_be_read_is_why_it_would_be_denied() -> None:
    rules = "allow ship  fact risk = level(q = args.id)  forbid ship when risk > 2"
    text = agent('state s { call ship("1")  on in_doubt -> bad  -> done }', rules)
    run = shadow(text)
    assert only(run, "fact")["result"] == 3
    assert only(run, "intent")["decision"]["reason"] == "`ship` is forbidden"
    failing = shadow(text, {"level": Fails("Unavailable")})
    assert failing.path == ["s", "done"]
    assert "has no value" in only(failing, "intent")["decision"]["reason"]


def test_a_child_is_in_shadow_too_and_the_policy_around_it_is_said_to_be() -> None:
    text = agent("state s { run kid()  -> done }", 'allow ship  forbid ship when args.id == "1"') + agent(
        'state s { call ship("1")  -> done }', "allow ship", name="kid", head="on error any -> bad"
    )
    run = Driver(compile_text(f"language 1\n{TOOLS}{text}", agent="a").definition, dict(SCRIPT))
    run.start({}, policy="shadow").run()
    decision = only(run, "intent")["decision"]
    assert (decision["result"], decision["enforced"]) == ("denied", False)
    (outer,) = decision["outer"]
    assert (outer["agent"], outer["result"], outer["enforced"]) == ("a", "denied", False)
    assert run.path[-1] == "done"


# ---- shadow and enforce decide alike

_SHADOW_ONLY = ("enforced", "limits")


def _alike(program: Program, state: RunState, event: Event) -> str | None:
    """What enforcing would have decided in the very state in which a shadow run decided this; None if it is alike."""
    marked = event.body["decision"].get("enforced", True) is False
    for command in decide(program, replace(state, policy="enforce")):
        match command:
            case Record("denied", body) if body["cmd"] == event.body["cmd"]:
                own = {k: v for k, v in event.body["decision"].items() if k not in (*_SHADOW_ONLY, "outer")}
                other = {k: v for k, v in body["decision"].items() if k not in (*_SHADOW_ONLY, "outer")}
                alike = marked and own == other and body["args"] == (event.body.get("call") or event.body)["args"]
                return None if alike else f"{own} and {other}"
            case Call(id=id, intent=intent) if id == event.body["cmd"]:
                return None if not marked and intent == event.body else f"{event.body} and {intent}"
            case Ask(id=id, body=body) if id == event.body["cmd"]:
                return None if not marked and {**body, "question": event.body["question"]} == event.body else "asks"
    return "it would decide nothing"


def _compared(seed: int) -> tuple[int, int, list[str]]:
    """Decisions compared in the shadow runs of one random program, how many of them were not enforced, and
    differences."""
    try:
        definition = compile_text(programs.program(seed)).definition
    except ProgramRefused:
        return 0, 0, []
    program, count, marked, wrong = Program.of(definition), 0, 0, list[str]()
    for n in range(8):
        played = Played(program, programs.world(seed * 8 + n, crash=n % 2 == 1), policy="shadow").go()
        state = initial("run-1")
        for seq, draft in enumerate(played.journal, 1):
            event = Event("run-1", seq, draft.at_ms, draft.kind, draft.body)
            first = draft.kind == "asked" or (draft.kind == "intent" and draft.body["cmd"].endswith(".1"))
            if first and "decision" in draft.body:
                now = replace(state, now_ms=max(draft.at_ms, state.now_ms))
                difference = _alike(program, now, event)
                count += 1
                marked += draft.body["decision"].get("enforced", True) is False
                wrong += [f"seed {seed}, world {n}, event {seq}: {difference}"] if difference else []
            assert draft.kind != "denied" or "no unused approval" in draft.body["decision"]["reason"]
            state = apply(program, state, event)
        assert state == played.state
    return count, marked, wrong


def test_shadow_and_enforce_decide_alike() -> None:
    results = [_compared(seed) for seed in range(80)]
    wrong = [text for _, _, found in results for text in found]
    assert not wrong, wrong[0]
    assert sum(count for count, _, _ in results) > 500
    assert sum(marked for _, marked, _ in results) > 20
