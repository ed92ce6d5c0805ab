"""Budgets of agents within agents, of what is in flight beside each other, and what a reserve is kept for."""

from __future__ import annotations

from decimal import Decimal

import pytest

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.budget import amount
from jamjet_dsl.kernel.machine import decide
from jamjet_dsl.kernel.model import Await, Think
from tests.kernel.build import STRING, always, final, program, state, text
from tests.kernel.driver import NOTHING, Driver, Fails, Result
from tests.kernel.source import begun, ends, only, went

TOOLS = """
tool dear(q: string) -> string { effect reads  cost $0.40  timeout 5s }
tool buy(q: string) -> string { effect writes  key q  cost $0.40  undo take_back(result)  timeout 5s }
tool take_back(q: string) { effect writes  key q  cost $0.30  timeout 5s }
tool note(q: string) { effect writes  key q  cost $0.40  timeout 5s }
tool look(q: string) -> string { effect reads  timeout 5s }
model m { via scripted "x"  price $3 in $15 out per 1M tokens }
model free { via scripted "x" }
"""
ALLOW = "policy { allow dear, buy, take_back, note, look }  on error any -> bad"
ENDS = 'final done { r = "done" }  failed over { r = "over" }  failed bad { r = "bad" }'


def agent(body: str, budget: str, name: str = "a", inputs: str = "") -> str:
    clause = f"budget {{ {budget}  exceeded -> over }}" if budget else ""
    return f"agent {name} version 1 {{ {inputs} output r: string {clause} {ALLOW} start {body} {ENDS} }}\n"


# ---- agents within agents

CHAIN = (
    TOOLS
    + agent("state s { run middle() as k  on error ChildFailed -> bad  -> done }", "steps 30  cost $5.00")
    + agent(
        'state s { run inner() as k  on error ChildFailed -> bad  -> t }  state t { call dear("m")  -> done }',
        "steps 9  cost $1.00  warn at 50%",
        "middle",
    )
    + agent('state s { call dear("1")  -> t }  state t { call dear("2")  -> done }', "steps 9  cost $3.00", "inner")
)


def test_what_an_inner_agent_uses_counts_for_every_agent_around_it() -> None:
    run = begun(CHAIN).land("dear(1)", "x").land("dear(2)", "x")
    # The middle one had 1.00: 0.80 are gone, and its own call for 0.40 does not fit any more.
    assert run.flights == []
    exceeded = only(run, "exceeded")
    assert (exceeded["what"], exceeded["home"]) == ("cost", "s@1/middle")
    assert amount(run.state.spent.cost) == Decimal("0.80")
    assert ends(run) == {"s@1/middle/s@1/inner": "done", "s@1/middle": "failed"}


def test_the_limits_of_an_inner_agent_are_what_every_agent_around_it_has_left() -> None:
    opened = begun(CHAIN).events("opened")
    assert [body["limits"]["cost"] for body in opened] == ["1.00 USD", "1.00 USD"]


def test_a_warning_names_the_agent_whose_budget_it_is_about() -> None:
    run = begun(CHAIN).land("dear(1)", "x")
    assert run.events("spent") == []
    run.land("dear(2)", "x")
    assert only(run, "spent") == {"what": "cost", "level": 80, "home": "s@1/middle"}


def test_steps_of_an_inner_agent_are_steps_of_all_and_the_one_with_none_left_is_named() -> None:
    source = (
        TOOLS
        + agent("state s { run inner() as k  on error ChildFailed -> bad  -> done }", "steps 30")
        + agent("state s { call look(string(spent.steps))  -> s limit 9 else done }", "steps 3", "inner")
    )
    run = went(source, {"look": "x"})
    exceeded = only(run, "exceeded")
    assert (exceeded["what"], exceeded["home"]) == ("steps", "s@1/inner")
    assert [call.args["q"] for call in run.calls("look")] == ["1", "2", "3"]
    assert run.state.spent.steps == 4  # the one that runs the agent, and the three inside it


TWO = (
    TOOLS
    + """agent a version 1 {
      output r: string
      budget { steps 30  tokens 100k  exceeded -> over }
      on error any -> bad
      start parallel p {
        branch one { run thinker() }
        branch two { run thinker() }
        join all
        on join -> done
      }
      final done { r = "done" }  failed over { r = "over" }  failed bad { r = "bad" }
    }
    agent thinker version 1 {
      output r: string
      budget { steps 9  tokens 3k  exceeded -> over }
      on error any -> bad
      start parallel p {
        branch x { think "1" model m max prompt 1k max tokens 1k timeout 5s as k: string }
        branch y { think "2" model m max prompt 1k max tokens 1k timeout 5s as l: string }
        join all
        on join -> done
      }
      final done { r = "done" }  failed over { r = "over" }  failed bad { r = "bad" }
    }"""
)


def test_what_one_agent_has_in_flight_is_held_from_its_own_budget_and_not_from_that_of_the_one_beside_it() -> None:
    run = begun(TWO)
    # Each has room for one call of 2,000 tokens at a time under its 3,000; the outer one has room for all four.
    homes = sorted(command.id.partition("/p@")[0] for command in run.flying.values())
    assert homes == ["p@1/one/do@1/thinker", "p@1/two/do@1/thinker"]
    waiting = [c for c in decide(run.program, run.state) if isinstance(c, Await) and c.what == "budget"]
    assert sorted(c.id.partition("/p@")[0] for c in waiting) == homes


def test_a_child_is_given_what_is_left_beside_what_is_in_flight() -> None:
    source = (
        TOOLS
        + """agent a version 1 {
          output r: string
          budget { steps 30  tokens 10k  cost $1.00  exceeded -> over }
          policy { allow dear, look }
          on error any -> bad
          start parallel p {
            branch first { call dear("1") }
            branch thought { think "1" model m max prompt 1k max tokens 1k timeout 5s as k: string }
            branch child { state t { call look("x")  -> u }  state u { run kid() } }
            join all
            on join -> done
          }
          final done { r = "done" }  failed over { r = "over" }  failed bad { r = "bad" }
        }"""
        + agent('state s { call dear("k")  -> done }', "steps 9  tokens 50k  cost $5.00", "kid")
    )
    run = begun(source).land("look(x)", "")
    opened = [body for body in run.events("opened") if "agent" in body]
    # 0.40 and (1,000 * 3 + 1,000 * 15) / 1M are held by the two that are in flight.
    assert (opened[0]["limits"]["tokens"], opened[0]["limits"]["cost"]) == (8000, "0.582 USD")


def test_a_child_of_agents_without_a_limit_has_its_own() -> None:
    source = (
        TOOLS
        + agent("state s { run kid()  -> done }", "steps 9")
        + agent('state s { call dear("k")  -> done }', "steps 3  cost $0.50", "kid")
    )
    assert begun(source).events("opened")[0]["limits"] == {"steps": 3, "cost": "0.50 USD"}


# ---- the reserve


def test_closing_may_use_the_reserve_and_the_work_itself_may_not() -> None:
    body = 'state s { call dear("1")  -> t }  state t { call dear("2")  -> done }  finally { call note("end") }'
    run = begun(TOOLS + agent(body, "steps 9  cost $1.00  reserve { cost $0.40 }")).land("dear(1)", "x")
    assert only(run, "exceeded")["what"] == "cost"  # 0.80 is more than the 0.60 before the reserve
    assert run.flights == ["note(end)"]  # and 0.80 is not more than all of it


def test_taking_back_in_a_child_may_use_the_reserve_of_the_child() -> None:
    source = (
        TOOLS
        + agent("state s { run kid() as k  -> done }", "steps 30  cost $5.00")
        + agent(
            'state s { call buy("1") as x  -> back }  state back { undo all  -> done }',
            "steps 9  cost $0.70  reserve { cost $0.30 }",
            "kid",
        )
    )
    run = begun(source)
    assert run.events("opened")[0]["caps"]["cost"] == "0.40 USD"
    run.land("buy(1)", "R")
    assert run.flights == ["take_back(R)"]


def test_an_agent_without_a_budget_takes_back_what_it_did() -> None:
    body = 'state s { call buy("1") as x  -> back }  state back { undo all  -> done }'
    source = TOOLS + agent(body, "").replace("failed over", "final over")
    run = begun(source).land("buy(1)", "R")
    assert run.flights == ["take_back(R)"]
    run.land("take_back(R)", NOTHING)
    assert run.state.status == "completed"


# ---- what a model call reserves


def asking(model: str, limits: str, more: str = "max prompt 1k") -> str:
    return TOOLS + agent(f'state s {{ think "hi" model {model} {more} timeout 5s as k: string  -> done }}', limits)


def reserve(source: str) -> dict[str, object]:
    run = begun(source)
    (command,) = run.flying.values()
    assert isinstance(command, Think)
    intent = run.state.intents[command.id]
    return {"tokens": intent.reserve.tokens, "cost": intent.reserve.cost}


def bounded_above(model: str, limits: str, more: str = "max prompt 1k") -> str:
    """The agent that asks the model has no limit: the one that runs it may have."""
    think = f'state s {{ think "hi" model {model} {more} timeout 5s as k: string  -> done }}'
    return TOOLS + agent("state s { run kid()  -> done }", limits) + agent(think, "steps 9", "kid")


@pytest.mark.parametrize(
    ("model", "limits", "held"),
    [
        ("free", "steps 9  tokens 5k", {"tokens": 5000, "cost": None}),
        ("m", "steps 9  tokens 5k", {"tokens": 5000, "cost": "0.063 USD"}),  # 1,000 in, 4,000 out
        ("m", "steps 9  tokens 1k", {"tokens": 1000, "cost": "0.003 USD"}),  # the prompt takes it all
        ("m", "steps 9", {"tokens": 1000, "cost": "0.003 USD"}),  # no limit says how long an answer may be
    ],
)
def test_an_answer_without_a_limit_of_its_own_may_take_all_that_is_left(
    model: str, limits: str, held: dict[str, object]
) -> None:
    assert reserve(bounded_above(model, limits)) == held


def test_an_answer_leaves_what_is_in_flight_and_what_is_used() -> None:
    source = TOOLS + agent(
        """state first { think "0" model free max prompt 1k max tokens 1k timeout 5s as z: string  -> p }
        parallel p {
          branch one { think "1" model free max prompt 1k max tokens 1k timeout 5s as k: string }
          branch two { run kid() }
          join all
          on join -> done
        }""",
        "steps 9  tokens 10k",
    )
    source += agent('state s { think "2" model free max prompt 1k timeout 5s as k: string  -> done }', "steps 9", "kid")
    run = begun(source).land("first", Result("z", {"tokens_in": 300, "tokens_out": 200}))
    held = {label.state: run.state.intents[id].reserve.tokens for id, label in run.flying.items()}  # type: ignore[union-attr]
    # 10,000, of which 500 are used and 2,000 held: 7,500 are left for the child, its prompt included.
    assert held == {"one": 2000, "s": 7500}


def test_the_least_that_any_agent_around_has_left_bounds_an_answer() -> None:
    source = (
        TOOLS
        + agent("state s { run kid()  -> done }", "steps 30  tokens 4k")
        + agent('state s { think "hi" model free max prompt 1k timeout 5s as k: string  -> done }', "steps 9", "kid")
    )
    assert reserve(source)["tokens"] == 4000


def test_a_prompt_without_a_limit_counts_its_bytes_and_those_of_what_is_given() -> None:
    def held(given: str) -> object:
        think = f'think "hi" {given} model free max tokens 100 timeout 5s as k: string'
        source = agent(f"state s {{ {think}  -> done }}", "steps 9  tokens 5k", inputs="input note: string")
        (intent,) = begun(TOOLS + source, note="Grüße").state.intents.values()
        return intent.reserve.tokens

    without, with_given = held(""), held("given note")
    assert isinstance(without, int)
    assert isinstance(with_given, int)
    assert without >= 100 + len("hi")
    assert with_given >= without + len("Grüße".encode())


@pytest.mark.parametrize(
    ("usage", "tokens", "cost"),
    [
        ({"tokens_in": 100, "tokens_out": 10}, 110, "0.00045"),
        ({"tokens_in": 100, "tokens_out": 10, "cost": "0.5 USD"}, 110, "0.5"),
        ({"tokens_in": 100}, 100, "0.0003"),
        (None, 2000, "0.018"),
    ],
)
def test_a_model_call_is_settled_by_what_is_known_of_it(
    usage: dict[str, object] | None, tokens: int, cost: str
) -> None:
    run = begun(asking("m", "steps 9  tokens 9k  cost $1", "max prompt 1k max tokens 1k")).land("s", Result("x", usage))
    assert (run.state.spent.tokens, amount(run.state.spent.cost)) == (tokens, Decimal(cost))


def test_a_model_that_says_nothing_of_cost_and_has_no_price_costs_what_was_reserved_nothing() -> None:
    run = begun(asking("free", "steps 9  tokens 9k", "max prompt 1k max tokens 1k"))
    run.land("s", Result("x", {"tokens_in": 5, "tokens_out": 5}))
    assert amount(run.state.spent.cost) == 0


# ---- limits, exactly


@pytest.mark.parametrize(("limit", "path"), [("$0.80", ["s", "s", "done"]), ("$0.79", ["s", "s", "over"])])
def test_what_fits_exactly_fits(limit: str, path: list[str]) -> None:
    body = 'state s { call dear("x")  -> s limit 1 else done }'
    assert went(TOOLS + agent(body, f"steps 9  cost {limit}"), {"dear": "x"}).path == path


@pytest.mark.parametrize(("used", "overrun"), [(2000, None), (2001, 1)])
def test_only_what_is_above_the_reservation_is_an_overrun(used: int, overrun: int | None) -> None:
    run = begun(asking("free", "steps 9  tokens 9k", "max prompt 1k max tokens 1k"))
    run.land("s", Result("x", {"tokens_in": 1000, "tokens_out": used - 1000}))
    assert [body["by"] for body in run.events("overrun")] == ([] if overrun is None else [overrun])


def test_a_call_that_fits_only_alone_waits_for_the_other_and_one_that_never_fits_does_not() -> None:
    def both(limit: str) -> str:
        return TOOLS + agent(
            'parallel p { branch one { call dear("1") }  branch two { call dear("2") }  join all  on join -> done }',
            f"steps 9  cost {limit}",
        )

    run = begun(both("$0.80"))
    assert run.flights == ["dear(1)", "dear(2)"]
    run = begun(both("$0.79"))
    assert run.flights == ["dear(1)"]
    assert "exceeded" not in run.kinds  # the one in flight might turn out to cost nothing
    run.land("dear(1)", Fails("Unavailable", sent=False))
    assert run.state.final_state == "bad"


def test_a_failed_attempt_that_was_not_sent_makes_room_for_the_one_that_waits() -> None:
    source = TOOLS + agent(
        """parallel p {
          branch one { call dear("1")  on error any skip }
          branch two { call dear("2") }
          join any
          on join -> done
        }""",
        "steps 9  cost $0.79",
    )
    run = begun(source).land("dear(1)", Fails("Unavailable", sent=False))
    assert run.flights == ["dear(2)"]


def test_what_fits_exactly_beside_nothing_else_waits_for_its_turn() -> None:
    source = TOOLS + agent(
        """state s { call dear("0")  -> p }
        parallel p {
          branch one { call dear("1")  on error any skip }
          branch two { call dear("2") }
          join any
          on join -> done
        }""",
        "steps 9  cost $0.80",
    )
    run = begun(source).land("dear(0)", "x")
    assert run.flights == ["dear(1)"]
    run.land("dear(1)", Fails("Unavailable", sent=False))
    assert run.flights == ["dear(2)"]


def test_a_call_that_needs_no_tokens_fits_where_tokens_were_overrun() -> None:
    body = 'state s { think "hi" model free max prompt 1k max tokens 1k timeout 5s as k: string  -> t }'
    body += 'state t { call dear("x")  -> done }'
    run = begun(TOOLS + agent(body, "steps 9  tokens 2k  cost $1"))
    run.land("s", Result("x", {"tokens_in": 2500, "tokens_out": 0}))
    assert run.flights == ["dear(x)"]


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        ({"price_in": "3.00 USD"}, "0.003 USD"),
        ({"price_out": "15.00 USD"}, "0.015 USD"),
        ({}, None),
    ],
)
def test_a_price_may_be_for_one_side_only(prices: dict[str, str], cost: str | None) -> None:
    think = d.Think(prompt=text("hi"), result=STRING, model="m", max_prompt=1000, max_tokens=1000)
    models = {"m": d.ModelDef(**prices, per_tokens=1_000_000)}
    definition = program(state("s", think, always("done")), final("done"), models=models)
    run = Driver(definition).start({}).begin()
    assert only(run, "intent")["reserve"]["cost"] == cost


# ---- the way out of an exceeded budget

TAKES_BACK = 'state s { call buy("1") as x  -> back }  state back { undo all  -> done }'


@pytest.mark.parametrize("where", ["the run", "a child"])
def test_what_takes_back_is_no_step(where: str) -> None:
    inner = agent(TAKES_BACK, "steps 2", "a" if where == "the run" else "kid")
    run = begun(TOOLS + (inner if where == "the run" else inner + agent("state s { run kid()  -> done }", "steps 9")))
    run.land("buy(1)", "R")
    assert run.flights == ["take_back(R)"]  # both steps are gone: one for the call, one for `undo all`
    run.land("take_back(R)", NOTHING)
    assert run.state.status == "completed"


def test_the_way_out_of_an_exceeded_child_is_no_step_of_it_and_one_of_its_parent() -> None:
    kid = """agent kid version 1 {
      output r: string
      budget { steps 1  exceeded -> back }
      policy { allow buy, take_back, look }
      on error any -> bad
      start state s { call buy("1") as x  -> t }
      state t { call look("never")  -> done }
      state back { undo all  -> bad }
      final done { r = "done" }  failed bad { r = "bad" }
    }"""
    run = begun(TOOLS + kid + agent("state s { run kid()  -> done }", "steps 9")).land("buy(1)", "R")
    assert run.flights == ["take_back(R)"]
    account = run.state.frames["s@1/kid"].account
    assert account is not None
    assert (account.steps, account.exceeded) == (1, "steps")
    assert run.state.spent.steps == 3  # `run`, `call`, and `undo all` of the child


# ---- time and warnings of a child


def test_active_time_of_a_child_begins_with_the_child() -> None:
    source = (
        TOOLS
        + agent(
            "state s { wait 5m  -> t }  state t { run kid()  on error ChildFailed -> bad  -> done }", "steps 9  time 2h"
        )
        + agent("state s { wait 7m  -> t }  state t { wait 4m  -> done }", "steps 9  active 10m", "kid")
    )
    run = went(source)
    exceeded = only(run, "exceeded")
    assert (exceeded["what"], exceeded["home"]) == ("active", "t@2/kid")
    assert run.now_ms == 1_000_000 + 15 * 60_000


def test_a_child_is_warned_by_the_limits_it_was_given_and_not_by_those_it_declares() -> None:
    source = (
        TOOLS
        + agent("state s { run kid() budget { cost $0.80 }  -> done }", "steps 9  cost $5")
        + agent(
            'state s { call dear("1")  -> t }  state t { call look("x")  -> done }',
            "steps 9  cost $4  warn at 50%",
            "kid",
        )
    )
    run = begun(source).land("dear(1)", "x")
    assert only(run, "spent") == {"what": "cost", "level": 50, "home": "s@1/kid"}


@pytest.mark.parametrize(("used", "level"), [(1599, None), (1600, 80), (2000, 100)])
def test_a_warning_comes_at_its_percentage_and_not_before(used: int, level: int | None) -> None:
    body = 'state s { think "hi" model free max prompt 1k max tokens 1k timeout 5s as k: string  -> t }'
    body += 'state t { call look("x")  -> done }'
    run = begun(TOOLS + agent(body, "steps 9  tokens 2k  warn at 80%"))
    run.land("s", Result("x", {"tokens_in": used, "tokens_out": 0}))
    assert [body["level"] for body in run.events("spent")] == ([] if level is None else [level])
