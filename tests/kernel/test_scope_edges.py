"""What an expression knows of a run: what is spent and left, in which unit, and whose variables a frame sees."""

from __future__ import annotations

import pytest

from jamjet_dsl.kernel.scalars import Duration, Money
from jamjet_dsl.kernel.scope import budget_record, names_only, scope_of, spent_record
from tests.kernel.source import begun, only

TOOLS = """
tool look(q: string) -> string { effect reads  timeout 5s }
tool bill(id: string) -> string { effect writes  key id  cost $0.40  timeout 5s }
model free { via scripted "x" }
"""
ALL = "steps 9  tokens 500  cost $2  time 1h  active 30m"


def agent(body: str, budget: str = ALL, head: str = "", name: str = "a", result: str = '"done"') -> str:
    return f"""agent {name} version 1 {{
      {head}
      output r: string
      budget {{ {budget}  exceeded -> over }}
      policy {{ allow look, bill }}
      on error any -> bad
      start {body}
      final done {{ r = {result} }}  failed bad {{ r = "bad" }}  failed over {{ r = "over" }}
    }}
    """


def test_what_is_left_is_told_in_the_unit_of_the_limit() -> None:
    run = begun(TOOLS + agent('state t { wait 1m  -> s } state s { call bill("1")  on in_doubt -> bad  -> done }'))
    run.at(run.now_ms + 60_000)
    assert budget_record(run.program, run.state) == {
        "steps": 9,
        "tokens": 500,
        "cost": Money("2 USD"),
        "time": Duration.of_ms(3_600_000),
        "active": Duration.of_ms(1_800_000),
        "remaining": {
            "steps": 7,
            "tokens": 500,
            "cost": Money("1.60 USD"),  # what is in flight is not left
            "time": Duration.of_ms(3_540_000),
            "active": Duration.of_ms(1_740_000),
        },
    }
    assert spent_record(run.program, run.state) == {
        "steps": 2,
        "tokens": 0,
        "cost": Money("0 USD"),
        "time": Duration.of_ms(60_000),
        "active": Duration.of_ms(60_000),
    }
    run.land("bill(1)", "A")
    assert spent_record(run.program, run.state)["cost"] == Money("0.40 USD")
    assert budget_record(run.program, run.state)["remaining"]["cost"] == Money("1.60 USD")


@pytest.mark.parametrize("limit", ["tokens 500", "cost $2", "time 1h", "active 30m"])
def test_only_what_is_limited_has_something_left(limit: str) -> None:
    run = begun(TOOLS + agent('state s { call bill("1")  on in_doubt -> bad  -> done }', f"steps 9  {limit}"))
    found = budget_record(run.program, run.state)
    assert set(found) == {"steps", limit.partition(" ")[0], "remaining"}
    assert set(found["remaining"]) == set(found) - {"remaining"}


def test_what_a_child_has_left_is_its_own() -> None:
    kid = agent("state w { wait 1m  -> w2 } state w2 { wait 1h  -> done }", "steps 5  tokens 100", name="kid")
    run = begun(TOOLS + agent("state x { run kid()  -> done }") + kid)
    run.at(run.now_ms + 60_000)
    found = budget_record(run.program, run.state, "x@1/kid")
    assert (found["steps"], found["remaining"]["steps"]) == (5, 3)
    assert (found["tokens"], found["remaining"]["tokens"]) == (100, 100)
    assert found["remaining"]["time"] == Duration.of_ms(3_540_000)  # what was left around it as it began


def test_nothing_is_left_of_what_was_used_up_and_more() -> None:
    run = begun(TOOLS + agent("state s { wait 2h  -> done }", "steps 9  time 10m  reserve { time 5m }"))
    run.at(run.now_ms + 3_600_000)
    assert budget_record(run.program, run.state)["remaining"]["time"] == Duration.of_ms(0)


def test_where_only_names_are_given_nothing_of_a_run_is_known() -> None:
    scope = names_only({"x": 1})
    assert scope["x"] == 1
    for name in ("run", "principal", "spent", "budget", "undo", "now", "y"):
        with pytest.raises(KeyError):
            scope[name]


def test_a_name_that_a_run_does_not_know_is_an_error() -> None:
    run = begun(TOOLS + agent('state s { call look("1")  -> done }'))
    with pytest.raises(KeyError):
        scope_of(run.program, run.state, run.state.frames[""])["nothing"]


# ---- a conversation, and what a model proposed, within a branch

THINKS = """state t { think "hi" in talk model free tools look max prompt 1k max tokens 1k timeout 5s as m
  on error any -> e
  when has(m.call) -> go  otherwise -> e }
state go { call proposed m as got  on denied -> e  on error any -> e  -> u }
state u { think "and now?" in talk model free max prompt 1k max tokens 1k timeout 5s as word  on error any -> e  -> e }
state e { yields word }"""
MOVE = {"call": {"tool": "look", "args": {"q": "1"}}}
SAID = [("assistant", None), ("tool", "found")]


def test_what_a_model_proposed_in_a_branch_is_called_there_and_its_conversation_goes_on_there() -> None:
    head = 'var talk: conversation  var word: string = ""'
    body = f"""parallel p {{ branch one as w {{ start {THINKS} }}  branch two {{ wait 1h }}
      join any  on join -> done  on error JoinFailed -> bad }}"""
    run = begun(TOOLS + agent(body, "steps 20  tokens 100k", head + "  var w: string?", result='has(w) ? w : "none"'))
    run.land("t", MOVE)
    assert run.flights == ["look(1)"]
    run.land("look(1)", "found")
    second = run.flight("u")
    assert [(said["role"], said.get("text")) for said in second.messages or ()] == SAID
    assert run.state.vars.get("talk") in (None, [])  # what a branch says is its own
    run.land("u", "bye")
    assert run.state.output == {"r": "bye"}


def test_a_conversation_of_an_agent_is_none_of_the_agent_that_it_runs() -> None:
    head = 'var talk: conversation  var word: string = ""'
    kid = agent(
        THINKS.replace("-> e", "-> done").replace("state e { yields word }", ""),
        "tokens 50k  steps 9",
        head,
        name="kid",
        result="word",
    )
    first = 'state f { think "first" in talk model free max prompt 1k max tokens 1k timeout 5s as word  -> x }'
    body = f"{first}  state x {{ run kid() as k  -> done }}"
    run = begun(TOOLS + agent(body, "steps 20  tokens 100k", head, result="word") + kid)
    run.land("f", "hello")
    assert run.flight("t").messages == ()
    run.land("t", MOVE)
    run.land("look(1)", "found")
    assert [(said["role"], said.get("text")) for said in run.flight("u").messages or ()] == SAID


def test_what_branches_give_is_bound_and_not_set_beside() -> None:
    """A value is written once: with the end of its branch."""
    body = """parallel p { branch one as x { call look("1") }  branch two as y { call look("2") }
      join all  on join -> done  on error JoinFailed -> bad }"""
    run = begun(TOOLS + agent(body))
    run.land("look(1)", "A").land("look(2)", "B")
    moved = only(run, "moved")
    assert moved["binds"] == ["x", "y"]
    assert "set" not in moved
    assert run.state.vars == {"x": "A", "y": "B"}
