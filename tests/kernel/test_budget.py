"""Budgets: reserve before, settle after, exceeded once, and nothing starts that does not fit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.budget import amount, caps_of, used_at
from jamjet_dsl.kernel.ids import concerns, inside
from jamjet_dsl.kernel.model import Account, Frame, Intent, Reserve, RunState, Think
from tests.kernel.build import (
    STRING,
    allow,
    always,
    final,
    handler,
    i,
    on_error,
    on_option,
    options,
    otherwise,
    program,
    reads,
    set_,
    state,
    text,
    var,
    when,
    writes,
)
from tests.kernel.driver import Driver, Fails, Result

LARGE = d.ModelDef(price_in="3.00 USD", price_out="15.00 USD", per_tokens=1_000_000)


def budget(
    exceeded: str | None = "over", reserve: d.Limits | None = None, warn: int | None = None, **limits: Any
) -> d.Budget:
    return d.Budget(limits=d.Limits(**limits), reserve=reserve or d.Limits(), exceeded=exceeded, warn_percent=warn)


def loop(tool: d.Tool, spend: d.Budget, *more: d.State) -> d.Definition:
    """Calls one tool for ever."""
    states = (state("a", d.Call(tool="t"), always("a")), *more, final("over", failed=True), final("done"))
    return program(*states, tools={"t": tool}, budget=spend)


def run(definition: d.Definition, script: dict[str, Any] | None = None) -> Driver:
    return Driver(definition, script if script is not None else {"t": "x"}).start({}).run()


def test_the_step_that_does_not_fit_is_not_taken() -> None:
    finished = run(loop(reads(), budget(steps=3)))
    assert len(finished.performed) == 3
    assert finished.state.spent.steps == 3
    assert finished.path == ["a", "a", "a", "over"]
    assert finished.state.status == "failed"


def test_exceeded_fires_at_the_budget_less_its_reserve() -> None:
    finished = run(loop(reads(), budget(steps=5, reserve=d.Limits(steps=2))))
    assert len(finished.performed) == 3


def test_a_retry_is_no_step_but_costs() -> None:
    retry = (d.Retry(errors=("any",), times=2),)
    states = (state("a", d.Call(tool="t", retry=retry), always("done")), final("done"), final("over"))
    definition = program(*states, tools={"t": reads(cost="0.10 USD")}, budget=budget(steps=1, cost="1.00 USD"))
    finished = run(definition, {"t": [Fails("Timeout"), Fails("Timeout"), "x"]})
    assert finished.state.spent.steps == 1
    assert finished.state.spent.cost == "0.30 USD"
    assert finished.path == ["a", "done"]


def test_a_call_whose_worst_case_does_not_fit_never_starts() -> None:
    finished = run(loop(reads(cost="0.40 USD"), budget(cost="1.00 USD")))
    assert len(finished.performed) == 2
    assert finished.state.spent.cost == "0.80 USD"
    assert finished.events("exceeded") == [{"what": "cost", "frame": "", "state": "a"}]
    assert finished.path == ["a", "a", "a", "over"]


def test_what_was_used_is_settled_and_leaves_room() -> None:
    cheap = Result("x", {"cost": "0.05 USD"})
    finished = run(loop(reads(cost="0.40 USD"), budget(cost="1.00 USD")), {"t": cheap})
    assert len(finished.performed) == 13  # 0.60 spent leaves exactly 0.40, 0.65 does not
    assert amount(finished.state.spent.cost) <= 1


def test_an_attempt_that_was_never_sent_costs_nothing() -> None:
    states = (state("a", d.Call(tool="t"), on_error("done"), always("done")), final("done"), final("over"))
    definition = program(*states, tools={"t": reads(cost="0.40 USD")}, budget=budget(cost="1.00 USD"))
    assert run(definition, {"t": Fails("Timeout", sent=False)}).state.spent.cost == "0.00 USD"
    assert run(definition, {"t": Fails("RateLimited")}).state.spent.cost == "0.00 USD"
    assert run(definition, {"t": Fails("Timeout")}).state.spent.cost == "0.40 USD"


def test_usage_above_the_reservation_is_journaled() -> None:
    finished = run(loop(reads(cost="0.40 USD"), budget(cost="1.00 USD")), {"t": Result("x", {"cost": "0.70 USD"})})
    assert finished.events("overrun")[0] == {"cmd": "#1.1", "what": "cost", "by": "0.30 USD"}
    assert len(finished.performed) == 1


def thinking(spend: d.Budget | None, **more: Any) -> d.Definition:
    think = d.Think(prompt=text("Go."), result=STRING, model="large", **{"max_prompt": 1000, "max_tokens": 500, **more})
    states = (state("a", think, always("a")), final("over"), final("done"))
    return program(*states, models={"large": LARGE}, budget=spend)


def test_a_model_call_reserves_prompt_and_answer_at_their_prices() -> None:
    asking = Driver(thinking(budget(tokens=10_000, cost="1.00 USD"))).start({})
    (think,) = [c for c in asking.commands() if isinstance(c, Think)]
    reserve = asking.events("intent")[0]["reserve"]
    assert reserve["tokens"] == 1500
    assert amount(reserve["cost"]) == Decimal("0.0105")
    assert think.intent is None  # journaled


def test_a_model_call_is_settled_by_the_tokens_it_used() -> None:
    answer = Result("x", {"tokens_in": 900, "tokens_out": 100, "cost": None})
    finished = run(thinking(budget(tokens=4000)), {"a": answer})
    assert finished.state.spent.tokens == 3000
    assert amount(finished.state.spent.cost) == 3 * (Decimal("0.0027") + Decimal("0.0015"))
    assert finished.events("exceeded")[0]["what"] == "tokens"


def test_a_model_call_of_unknown_usage_is_settled_in_full() -> None:
    assert run(thinking(budget(tokens=4000)), {"a": "x"}).state.spent.tokens == 3000


def test_without_max_tokens_all_that_is_left_is_reserved() -> None:
    asking = Driver(thinking(budget(tokens=4000), max_tokens=None)).start({})
    asking.commands()
    assert asking.events("intent")[0]["reserve"]["tokens"] == 4000


def test_exceeding_without_a_target_parks_the_run() -> None:
    finished = run(loop(reads(), budget(exceeded=None, steps=2)))
    assert finished.state.status == "parked"
    assert finished.events("parked")[0]["reason"] == "the budget is exceeded (steps)"


def test_after_exceeding_only_states_without_action_may_run() -> None:
    tidy = state(
        "over", None, when([">", var("spent", "steps"), i(1)], "act"), otherwise("done"), sets=(set_("n", i(5)),)
    )
    again = state("act", d.Call(tool="t"), always("done"))
    states = (state("a", d.Call(tool="t"), always("a")), tidy, again, final("done"))
    number = d.VarDef(name="n", type=d.Scalar(kind="int"))
    finished = run(program(*states, tools={"t": reads()}, budget=budget(steps=2), vars=(number,)))
    assert finished.path == ["a", "a", "over", "act"]
    assert finished.state.vars["n"] == 5
    assert finished.state.status == "parked"
    assert len(finished.performed) == 2
    assert finished.kinds.count("exceeded") == 1


# ---- time


def test_time_runs_out_while_a_person_is_asked() -> None:
    ask = d.Ask(role="boss", text=text("?"), options=options("yes"))
    states = (state("a", ask, on_option("yes", "done")), final("done"), final("over", failed=True))
    waiting = run(program(*states, budget=budget(time_ms=60_000)))
    waiting.pass_time(waiting.now_ms + 60_000)
    assert waiting.run().path == ["a", "over"]
    assert not waiting.state.questions


def test_time_never_interrupts_a_write_in_flight_and_keeps_its_result() -> None:
    states = (
        state("a", d.Call(tool="t", bind="r"), always("b")),
        state("b", d.Call(tool="t"), always("done")),
        final("done"),
        final("over", r=var("r")),
    )
    flying = Driver(program(*states, tools={"t": writes()}, budget=budget(time_ms=1000)), {"t": "kept"}).start({})
    (command,) = flying.commands()
    flying.pass_time(flying.now_ms + 5000)
    assert flying.commands() == [command]
    assert flying.kinds[-1] == "exceeded"
    flying.perform(command)  # type: ignore[arg-type]
    assert flying.run().state.output == {"r": "kept"}
    assert flying.path == ["a", "over"]


def test_time_cancels_a_read_in_flight() -> None:
    flying = Driver(loop(reads(cost="0.10 USD"), budget(time_ms=1000))).start({})
    flying.commands()
    flying.pass_time(flying.now_ms + 1000)
    flying.run()
    assert flying.cancelled == ["#1.1"]
    assert flying.path == ["a", "over"]
    assert flying.state.spent.cost == "0.10 USD"


def test_a_write_that_failed_unclear_is_resolved_before_the_budget_sends_it_elsewhere() -> None:
    retry = (d.Retry(errors=("any",), times=5, backoff_ms=10_000),)
    states = (
        state(
            "a",
            d.Call(tool="t", retry=retry),
            d.Edge(id="on in_doubt#0", trigger="in_doubt", target="doubt"),
            always("done"),
        ),
        final("done"),
        final("over"),
        final("doubt", failed=True),
    )
    tool = writes(key=var("run", "id"))
    flying = Driver(program(*states, tools={"t": tool}, budget=budget(time_ms=5000)), {"t": Fails("Timeout")}).start({})
    flying.perform(flying.commands()[0])  # type: ignore[arg-type]
    flying.commands()
    assert flying.state.frames[""].phase == "backoff"
    flying.pass_time(flying.now_ms + 5000)
    flying.run()
    assert flying.path[:2] == ["a", "doubt"]
    assert flying.state.intents["#1.2"].unsettled == "doubt"


def active(limit_ms: int) -> d.Definition:
    ask = d.Ask(role="boss", text=text("?"), options=options("yes"))
    states = (
        state("a", ask, on_option("yes", "b")),
        state("b", d.Call(tool="t"), always("c")),
        state("c", d.Wait(duration_ms=600), always("done")),
        final("done"),
        final("over"),
    )
    return program(*states, tools={"t": reads()}, budget=budget(active_ms=limit_ms))


def test_waiting_for_people_is_not_active() -> None:
    waiting = run(active(1000), {"t": Result("x", takes_ms=300)})
    waiting.now_ms += 3_600_000
    waiting.answer("yes")
    assert waiting.path == ["a", "b", "c", "done"]
    assert waiting.state.spent.active_ms == 900


def test_active_time_runs_out_while_something_goes_on() -> None:
    waiting = run(active(500), {"t": Result("x", takes_ms=300)})
    waiting.answer("yes")
    assert waiting.path == ["a", "b", "c", "over"]
    assert waiting.state.spent.active_ms == 500


def test_downtime_is_not_active() -> None:
    flying = Driver(active(1000), {"t": Result("x", takes_ms=300)}).start({})
    flying.run()
    flying.answer("yes")
    late = Driver(active(1000), {"t": "x"}).start({}).run()
    question = next(iter(late.state.questions))
    late.append("answered", {"question": question, "option": "yes", "form": {}, "by": "ann", "roles": []})
    late.now_ms += 3_600_000
    late.recover()
    assert late.path == ["a", "b", "c", "done"]
    assert late.state.spent.active_ms == 600


def test_a_warning_is_given_once() -> None:
    finished = run(loop(reads(), budget(steps=10, warn=80)))
    assert finished.events("spent") == [{"what": "steps", "level": 80}]


def test_each_dimension_of_a_budget_gives_a_warning_of_its_own() -> None:
    spend = budget(steps=10, cost="1.00 USD", warn=50)
    finished = run(loop(reads(cost="0.15 USD"), spend))
    assert finished.events("spent") == [{"what": "cost", "level": 60}, {"what": "steps", "level": 50}]


def test_an_error_handler_of_the_agent_is_not_a_way_around_the_budget() -> None:
    back = state("h", d.Call(tool="t"), on_error("a"), always("a"))
    states = (state("a", d.Call(tool="t"), always("a")), back, final("over"))
    definition = program(*states, tools={"t": reads()}, budget=budget(steps=2), handlers=(handler("error", "h"),))
    finished = run(definition, {"t": Fails("Unavailable")})
    assert finished.path == ["a", "h", "over"]
    assert len(finished.performed) == 2


def test_caps_are_limits_less_reserve_and_never_negative() -> None:
    caps = caps_of(budget(steps=5, cost="1.00 USD", time_ms=100, reserve=d.Limits(steps=7, cost="0.20 USD")))
    assert (caps.steps, caps.cost, caps.time, caps.tokens) == (0, Decimal("0.80"), 100, None)


def test_a_run_without_a_single_step_ends_at_once() -> None:
    finished = run(loop(reads(), budget(steps=0)))
    assert finished.path == ["a", "over"]
    assert not finished.performed


@pytest.mark.parametrize("left", ["steps", "tokens", "cost", "time", "active"])
def test_what_is_left_can_be_read_in_guards(left: str) -> None:
    spend = budget(steps=5, tokens=100, cost="1.00 USD", time_ms=1000, active_ms=1000)
    guard = ["==", ["select", ["select", ["var", "budget"], "remaining"], left], ["select", ["var", "spent"], left]]
    states = (state("a", None, when(guard, "over"), otherwise("done")), final("done"), final("over"))
    assert run(program(*states, budget=spend)).path == ["a", "done"]


def test_facts_must_fit_too() -> None:
    fact = d.Rule(kind="fact", name="f", call=d.ToolCallDef(tool="dear", args={}))
    rules = (allow("t", when=["==", var("f"), ["string", "x"]]), fact)
    states = (state("a", d.Call(tool="t"), always("done")), final("done"), final("over"))
    definition = program(
        *states, tools={"t": reads(), "dear": reads(cost="2.00 USD")}, budget=budget(cost="1.00 USD"), rules=rules
    )
    finished = run(definition, {"t": "x", "dear": "x"})
    assert finished.path == ["a", "over"]
    assert not finished.performed


@pytest.mark.parametrize(
    ("cmd", "around", "within"),
    [
        ("a@1/b#2.1", "", True),
        ("#2.1", "", True),
        ("a@1/b#2.1", "a@1/b", True),
        ("a@1/b#2.1/fact/x", "a@1/b", True),
        ("a@1/b/c@2/d#1.1", "a@1/b", True),
        ("a@1/bc#2.1", "a@1/b", False),
        ("a@1/bc/d@1/e#2.1", "a@1/b", False),
        ("#2.1", "a@1/b", False),
    ],
)
def test_a_path_that_begins_with_the_letters_of_another_is_not_inside_it(cmd: str, around: str, within: bool) -> None:
    assert concerns(cmd, around) == within
    assert inside(cmd.rpartition("#")[0], around) == within


def test_an_agent_does_not_hold_what_one_whose_name_begins_alike_holds() -> None:
    account = Account({"tokens": 100}, {"tokens": 100}, 0)
    frames = {
        "": Frame("", "a"),
        "a@1/b": Frame("a@1/b", "x", kind="agent", parent="", home="a@1/b", account=account),
        "a@1/bc": Frame("a@1/bc", "x", kind="agent", parent="", home="a@1/bc", account=account),
    }
    held = {
        cmd: Intent(cmd, {}, 0, Reserve(tokens, None)) for cmd, tokens in {"a@1/b#1.1": 1, "a@1/bc#1.1": 10}.items()
    }
    state = RunState("r", frames=frames, intents=held)
    assert used_at(state, "a@1/b").held_tokens == 1
    assert used_at(state, "a@1/bc").held_tokens == 10
    assert used_at(state, "").held_tokens == 11
