"""Transitions: edges and their order, errors and retries, limits, handlers, events, waits, cancellation."""

from __future__ import annotations

import pytest

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import decide, fold
from jamjet_dsl.kernel.model import SetTimer
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.state_json import decode, digest, encode
from tests.kernel.build import (
    INT,
    STRING,
    always,
    fields,
    final,
    handler,
    i,
    list_of,
    on,
    on_error,
    on_event,
    options,
    otherwise,
    program,
    reads,
    record,
    s,
    set_,
    state,
    text,
    var,
    when,
    writes,
)
from tests.kernel.driver import Driver, Fails, Result

N = d.VarDef(name="n", type=INT, init=i(0))
COUNT = set_("n", ["+", var("n"), i(1)])


def call(tool: str = "t", **more: object) -> d.Call:
    return d.Call(tool=tool, **more)  # type: ignore[arg-type]


def run(definition: d.Definition, script: dict[str, object] | None = None, **input: object) -> Driver:
    return Driver(definition, script or {}).start(input).run()


# ---- edges


def test_guards_are_first_match() -> None:
    states = (
        state("a", None, when([">", var("x"), i(0)], "pos"), when([">", var("x"), i(5)], "big", 1), otherwise("neg")),
        final("pos"),
        final("big"),
        final("neg"),
    )
    definition = program(*states, inputs=fields(x=INT))
    assert run(definition, x=9).path == ["a", "pos"]
    assert run(definition, x=-1).path == ["a", "neg"]


def test_sets_of_a_state_run_before_its_guards_and_those_of_the_edge_only_on_its_way() -> None:
    states = (
        state(
            "a",
            None,
            when(["==", var("n"), i(1)], "b", sets=(set_("n", i(10)),)),
            otherwise("c", sets=(set_("n", i(99)),)),
            sets=(COUNT,),
        ),
        final("b", n=var("n")),
        final("c"),
    )
    assert run(program(*states, vars=(N,))).state.output == {"n": 10}


def test_a_set_of_a_field_leaves_the_other_fields() -> None:
    pair = d.Record(fields=fields(x=INT, y=INT))
    start = d.VarDef(name="p", type=record("Pair"), init=["record", "Pair", {"x": i(1), "y": i(2)}])
    states = (state("a", None, always("b"), sets=(set_("p", i(7), "y"),)), final("b", p=var("p")))
    assert run(program(*states, vars=(start,), records={"Pair": pair})).state.output == {"p": {"x": 1, "y": 7}}


def test_a_set_outside_the_range_of_its_variable_is_an_error() -> None:
    small = d.VarDef(name="n", type=d.Scalar(kind="int", low=0, high=3), init=i(3))
    states = (state("a", None, on_error("bad"), always("b"), sets=(COUNT,)), final("b"), final("bad", n=var("n")))
    assert run(program(*states, vars=(small,))).state.output == {"n": 3}


def test_a_limited_edge_counts_only_when_it_is_taken_and_its_block_only_runs_then() -> None:
    states = (
        state("a", None, always("a", limit=3, limit_to="end", sets=(COUNT,))),
        final("end", n=var("n")),
    )
    finished = run(program(*states, vars=(N,)))
    assert finished.state.output == {"n": 3}
    assert finished.path == ["a", "a", "a", "a", "end"]


def test_a_limit_without_else_takes_the_exceeded_edge() -> None:
    budget = d.Budget(limits=d.Limits(steps=100), exceeded="over")
    states = (state("a", None, always("a", limit=2)), final("end"), final("over", failed=True))
    finished = run(program(*states, budget=budget))
    assert finished.path == ["a", "a", "a", "over"]
    assert finished.events("exceeded")[0]["what"] == "limit of `always#0` in `a`"


def test_a_program_that_turns_without_acting_is_parked() -> None:
    finished = run(program(state("a", None, always("b")), state("b", None, always("a")), final("c")))
    assert finished.state.status == "parked"
    assert "circle" in finished.events("parked")[0]["reason"]


def test_a_guard_that_fails_is_an_error_never_true() -> None:
    guard = [">", ["/", i(1), var("x")], i(0)]
    states = (
        state("a", None, when(guard, "yes"), otherwise("no"), on_error("bad")),
        final("yes"),
        final("no"),
        final("bad"),
    )
    assert run(program(*states, inputs=fields(x=INT)), x=0).path == ["a", "bad"]


def test_a_guard_that_fails_goes_to_the_handler_of_the_agent() -> None:
    guard = [">", ["/", i(1), var("x")], i(0)]
    states = (state("a", None, when(guard, "yes"), otherwise("no")), final("yes"), final("no"), final("bad"))
    handlers = (handler("error", "bad"),)
    assert run(program(*states, inputs=fields(x=INT), handlers=handlers), x=0).path == ["a", "bad"]


def test_a_named_error_edge_does_not_match_a_guard_that_fails() -> None:
    guard = [">", ["/", i(1), var("x")], i(0)]
    states = (
        state("a", None, when(guard, "yes"), otherwise("no"), on_error("bad", "Timeout")),
        final("yes"),
        final("no"),
        final("bad"),
    )
    finished = run(program(*states, inputs=fields(x=INT)), x=0)
    assert finished.state.status == "parked"


def test_a_failing_guard_after_a_done_call_does_not_repeat_the_call_on_retry() -> None:
    guard = [">", ["/", i(1), var("x")], i(0)]
    states = (state("a", call(bind="r"), when(guard, "yes"), otherwise("no")), final("yes"), final("no"))
    finished = run(program(*states, inputs=fields(x=INT), tools={"t": writes()}), {"t": "done"}, x=0)
    assert finished.state.status == "parked"
    finished.retry()
    assert finished.state.status == "parked"
    assert len(finished.calls("t")) == 1


def test_an_error_in_the_handling_of_an_error_parks() -> None:
    broken = set_("n", ["/", i(1), i(0)])
    states = (state("a", None, always("b"), on_error("b", sets=(broken,)), sets=(broken,)), final("b"))
    assert run(program(*states, vars=(N,))).state.status == "parked"


def test_an_output_that_fails_goes_to_the_handler_once() -> None:
    states = (state("a", None, always("b")), final("b", x=["/", i(1), i(0)]), final("bad", x=i(0)))
    assert run(program(*states, handlers=(handler("error", "bad"),))).path == ["a", "b", "bad"]
    looping = program(state("a", None, always("b")), final("b", x=["/", i(1), i(0)]), handlers=(handler("error", "a"),))
    assert run(looping).state.status == "parked"


# ---- calls and errors


def test_a_result_is_bound_before_the_sets_of_its_state() -> None:
    states = (state("a", call(bind="r"), always("b"), sets=(set_("n", ["+", var("r"), i(1)]),)), final("b", n=var("n")))
    assert run(program(*states, vars=(N,), tools={"t": reads(INT)}), {"t": 4}).state.output == {"n": 5}


def test_the_states_own_error_edge_wins_over_the_handler() -> None:
    states = (state("a", call(), on_error("own", "Mine"), always("b")), final("own"), final("b"), final("all"))
    definition = program(*states, tools={"t": reads(raises=("Mine", "Other"))}, handlers=(handler("error", "all"),))
    assert run(definition, {"t": Fails("Mine")}).path == ["a", "own"]
    assert run(definition, {"t": Fails("Other")}).path == ["a", "all"]


def test_an_error_without_any_handler_parks_and_retry_makes_the_call_again() -> None:
    definition = program(state("a", call(), always("b")), final("b"), tools={"t": reads()})
    finished = run(definition, {"t": [Fails("Unavailable", "down"), "up"]})
    assert finished.state.status == "parked"
    assert finished.events("parked")[0]["reason"] == "Unavailable: down"
    assert finished.retry().state.status == "completed"


def test_an_error_that_the_tool_does_not_declare_counts_as_a_crash() -> None:
    states = (state("a", call(), on_error("c", "Crashed"), always("b")), final("b"), final("c"))
    finished = run(program(*states, tools={"t": reads()}), {"t": Fails("ValueError", "oops")})
    assert finished.path == ["a", "c"]
    assert finished.events("failed")[0]["message"] == "ValueError: oops"


def test_a_result_that_does_not_fit_is_an_invalid_output() -> None:
    states = (state("a", call(), on_error("c", "InvalidOutput"), always("b")), final("b"), final("c"))
    assert run(program(*states, tools={"t": reads(INT)}), {"t": "five"}).path == ["a", "c"]


def test_arguments_that_cannot_be_computed_are_an_invalid_input() -> None:
    action = call(args={"x": ["/", i(1), i(0)]})
    states = (state("a", action, on_error("c", "InvalidInput"), always("b")), final("b"), final("c"))
    finished = run(program(*states, tools={"t": reads(params={"x": INT})}), {"t": "never"})
    assert finished.path == ["a", "c"]
    assert not finished.performed


def test_arguments_outside_the_range_of_their_parameter_are_never_sent() -> None:
    tool = writes(params={"x": d.Scalar(kind="int", high=3)})
    states = (state("a", call(args={"x": i(4)}), on_error("c", "InvalidInput"), always("b")), final("b"), final("c"))
    finished = run(program(*states, tools={"t": tool}))
    assert finished.path == ["a", "c"]
    assert not finished.performed


def test_retry_waits_grow_up_to_their_maximum_and_are_each_journaled() -> None:
    retry = (d.Retry(errors=("Unavailable",), times=4, backoff_ms=100, factor="3", max_ms=500),)
    states = (state("a", call(retry=retry), on_error("c"), always("b")), final("b"), final("c"))
    finished = run(program(*states, tools={"t": reads()}), {"t": Fails("Unavailable")})
    assert [e.body["at_ms"] - e.at_ms for e in finished.journal if e.kind == "retry"] == [100, 300, 500, 500]
    assert len(finished.performed) == 5
    assert finished.path == ["a", "c"]


def test_full_jitter_may_wait_anything_up_to_the_delay_but_not_less_than_was_asked_for() -> None:
    retry = (d.Retry(errors=("any",), times=1, backoff_ms=1000, jitter="full"),)
    definition = program(state("a", call(retry=retry), always("b")), final("b"), tools={"t": reads()})
    waiting = Driver(definition, {"t": Fails("RateLimited", retry_after_ms=300)}).start({})
    waiting.perform(waiting.commands()[0])  # type: ignore[arg-type]
    (timer,) = decide(waiting.program, waiting.state)
    assert isinstance(timer, SetTimer)
    assert (timer.at_ms - waiting.now_ms, timer.spread_ms) == (1000, 700)


def test_retry_after_is_longer_than_the_backoff() -> None:
    retry = (d.Retry(errors=("any",), times=1, backoff_ms=100),)
    definition = program(state("a", call(retry=retry), always("b")), final("b"), tools={"t": reads()})
    finished = run(definition, {"t": [Fails("RateLimited", retry_after_ms=9000), "ok"]})
    assert [e.body["at_ms"] - e.at_ms for e in finished.journal if e.kind == "retry"] == [9000]


def test_the_retry_of_the_state_comes_before_that_of_the_tool() -> None:
    tool = reads(retry=(d.Retry(errors=("any",), times=5),))
    own = (d.Retry(errors=("any",), times=1),)
    states = (state("a", call(retry=own), on_error("c"), always("b")), final("b"), final("c"))
    assert len(run(program(*states, tools={"t": tool}), {"t": Fails("Unavailable")}).performed) == 2


def test_counters_and_bound_results_survive_a_fold() -> None:
    states = (
        state("a", call(bind="r"), always("a", limit=2, limit_to="b", sets=(COUNT,))),
        final("b", r=var("r"), n=var("n")),
    )
    finished = run(program(*states, vars=(N,), tools={"t": reads()}), {"t": ["x", "y", "z"]})
    assert finished.state.output == {"r": "z", "n": 2}
    again = fold(finished.program, "run-1", finished.journal)
    assert again == finished.state
    assert digest(again) == digest(decode(encode(finished.state)))


# ---- think and conversations


def think(**more: object) -> d.Think:
    return d.Think(prompt=text("Go on."), **{"result": STRING, "max_tokens": 10, "max_prompt": 10, **more})  # type: ignore[arg-type]


def test_an_answer_that_does_not_fit_is_asked_again_with_its_error() -> None:
    action = think(result=INT, bind="x", retry=(d.Retry(errors=("InvalidOutput",), times=2),))
    finished = run(program(state("a", action, always("b")), final("b", x=var("x"))), {"a": ["many", 3]})
    assert finished.state.output == {"x": 3}
    first, second = finished.performed
    assert first.previous_error is None
    assert "expected" in (second.previous_error or "")


def test_an_optional_value_that_is_not_set_is_not_given_to_the_model() -> None:
    given = (d.GivenDef(label="x", value=var("x"), optional=True), d.GivenDef(label="n", value=var("n")))
    finished = run(program(state("a", think(given=given), always("b")), final("b"), vars=(N,)), {"a": "fine"})
    assert finished.performed[0].given == (("n", 0),)


def chat_program(**more: object) -> d.Definition:
    """A model that proposes calls of `look` and hears what came of them."""
    chat = d.VarDef(name="chat", type=d.BuiltinType(kind="conversation"), init=["list", ["call", "user", s("hi")]])
    has_call = ["has", ["select", var("move"), "call"]]
    states = (
        state(
            "decide",
            think(chat="chat", tools=("look",), bind="move", result=d.BuiltinType(kind="Move")),
            when(has_call, "act"),
            otherwise("done"),
        ),
        state(
            "act",
            d.CallProposed(move="move", tools=("look",), chat="chat"),
            on("denied", "decide"),
            on_error("decide"),
            always("decide"),
        ),
        final("done", chat=var("chat")),
    )
    look = reads(list_of(STRING), {"q": STRING}, raises=("NotFound",), untrusted=True)
    move = d.VarDef(name="move", type=d.BuiltinType(kind="Move"))
    return program(*states, tools={"look": look, "other": reads()}, vars=(chat, move), **more)


def proposes(tool: str, **args: object) -> dict[str, object]:
    return {"call": {"tool": tool, "args": args}}


def test_a_proposed_call_and_its_result_stand_in_the_conversation() -> None:
    finished = run(chat_program(), {"decide": [proposes("look", q="x"), {"text": "bye"}], "look": Result(["found"])})
    assert finished.state.output is not None
    assert finished.state.output["chat"] == [
        {"role": "user", "text": "hi"},
        {"role": "assistant", "call": {"id": "#1.1", "tool": "look", "args": {"q": "x"}}},
        {"role": "tool", "call": "#1.1", "tool": "look", "text": '["found"]'},
        {"role": "assistant", "text": "bye"},
    ]


def test_a_conversation_is_journaled_once_however_long_it_grows() -> None:
    script = {"decide": [proposes("look", q="x")] * 5 + [{"text": "bye"}], "look": Result(["found"])}
    finished = run(chat_program(), script)
    said = [body["append"]["chat"] for body in finished.events("moved") if "append" in body]
    assert [len(items) for items in said] == [1] * 11
    assert not any("chat" in body.get("set", {}) for body in finished.events("moved"))


def test_the_error_of_a_proposed_call_stands_in_the_conversation() -> None:
    script = {"decide": [proposes("look", q="x"), {"text": "bye"}], "look": Fails("NotFound", "no")}
    finished = run(chat_program(), script)
    assert finished.state.vars["chat"][2] == {
        "role": "tool",
        "call": "#1.1",
        "tool": "look",
        "error": "NotFound",
        "text": "NotFound: no",
    }


def test_the_denial_of_a_proposed_call_stands_in_the_conversation() -> None:
    finished = run(chat_program(rules=()), {"decide": [proposes("look", q="x"), {"text": "bye"}]})
    assert finished.state.vars["chat"][2]["error"] == "Denied"
    assert not finished.calls("look")


@pytest.mark.parametrize(
    "proposal",
    [proposes("other"), proposes("look", q=5), proposes("look"), {"text": "none"}, proposes("look", q="x", r="y")],
)
def test_a_proposal_outside_the_closed_set_or_its_parameters_is_never_performed(proposal: dict[str, object]) -> None:
    definition = chat_program()
    states = definition.agent.body.states
    always_act = states[0].model_copy(update={"edges": (always("act", limit=1, limit_to="done"),)})
    body = definition.agent.body.model_copy(update={"states": (always_act, *states[1:])})
    agent = definition.agent.model_copy(update={"body": body})
    finished = run(definition.model_copy(update={"agents": {"a": agent}}), {"decide": proposal, "look": Result(["x"])})
    assert finished.events("failed")[0]["error"] == "InvalidInput"
    assert not [c for c in finished.performed if not hasattr(c, "prompt")]


def test_what_a_provider_wants_kept_is_kept_in_the_conversation() -> None:
    finished = run(chat_program(), {"decide": Result({"text": "bye"}, messages=({"opaque": 1},))})
    assert finished.state.vars["chat"][1] == {"role": "assistant", "text": "bye", "items": [{"opaque": 1}]}


# ---- waits and events


def test_a_wait_ends_at_its_time_however_late_it_is_noticed_and_only_once() -> None:
    definition = program(state("a", d.Wait(duration_ms=5000), always("b")), final("b"))
    waiting = Driver(definition).start({})
    waiting.commands()
    assert waiting.state.status == "waiting"
    timer = waiting.events("timer")[0]
    waiting.pass_time(waiting.now_ms + 90_000)
    waiting.append("fired", {"id": timer["id"]})
    waiting.run()
    assert waiting.path == ["a", "b"]


def test_wait_until_a_time_that_has_passed_goes_on_at_once() -> None:
    until = ["call", "timestamp", s("1970-01-01T00:00:01Z")]
    finished = run(program(state("a", d.Wait(until=until), always("b")), final("b")))
    assert finished.path == ["a", "b"]


SAID = {"said": d.Message(fields=fields(text=STRING))}


def test_a_queued_event_is_taken_by_a_wait_in_the_order_it_came() -> None:
    states = (
        state("a", d.Wait(event="said", bind="m"), always("a", limit=1, limit_to="b")),
        final("b", last=var("m", "text")),
    )
    waiting = run(program(*states, events=SAID))
    assert waiting.state.status == "waiting"
    waiting.append(*inputs.received(waiting.program, waiting.state, "said", {"text": "one"}, "e1"))
    waiting.append(*inputs.received(waiting.program, waiting.state, "said", {"text": "two"}, "e2"))
    waiting.run()
    assert waiting.state.output == {"last": "two"}
    assert [body["id"] for body in waiting.events("consumed")] == ["e1", "e2"]


def test_a_wait_for_an_event_times_out() -> None:
    states = (
        state("a", d.Wait(event="said", timeout_ms=1000), on("timeout", "late"), always("b")),
        final("b"),
        final("late"),
    )
    waiting = run(program(*states, events=SAID))
    waiting.pass_time(waiting.now_ms + 1000)
    assert waiting.run().path == ["a", "late"]


def test_an_event_is_looked_at_when_the_outcome_is_there_and_before_the_guards() -> None:
    states = (
        state(
            "a",
            call(),
            on_event("said", "heard", "m", sets=(set_("n", ["call", "size", var("m", "text")]),)),
            always("b"),
        ),
        final("b"),
        final("heard", n=var("n")),
    )
    definition = program(*states, events=SAID, vars=(N,), tools={"t": reads()})
    early = Driver(definition, {"t": "x"}).start({})
    early.append(*inputs.received(early.program, early.state, "said", {"text": "abc"}, "e1"))
    early.run()
    assert early.calls("t")
    assert early.state.output == {"n": 3}


def test_an_event_ends_a_question_at_once() -> None:
    ask = d.Ask(role="clerk", text=text("Well?"), options=options("yes"))
    states = (
        state("a", ask, d.Edge(id="on yes#0", trigger="option", option="yes", target="b"), on_event("said", "heard")),
        final("b"),
        final("heard"),
    )
    waiting = run(program(*states, events=SAID))
    waiting.send("said", {"text": "never mind"})
    assert waiting.path == ["a", "heard"]
    with pytest.raises(JamError, match="not open") as raised:
        inputs.answered(waiting.program, waiting.state, "q1", "yes", None, "ann", None)
    assert raised.value.code == "JAMR402"


def test_an_event_the_agent_does_not_take_is_refused() -> None:
    waiting = run(program(state("a", d.Wait(event="said"), always("b")), final("b"), events=SAID))
    with pytest.raises(JamError) as raised:
        waiting.send("sung", {})
    assert raised.value.code == "JAMR405"
    with pytest.raises(JamError) as raised:
        waiting.send("said", {"text": 5})
    assert raised.value.code == "JAMR406"


def test_an_emitted_message_is_in_the_journal() -> None:
    emit = d.Emit(message="reply", args={"text": text("n is ", ["show", var("n")])})
    finished = run(program(state("a", emit, always("b")), final("b"), vars=(N,)))
    assert finished.events("emitted") == [{"message": "reply", "args": {"text": "n is 0"}, "cmd": "#1.1"}]
    assert finished.state.spent.steps == 1


# ---- questions


def question(**more: object) -> d.Definition:
    ask = d.Ask(
        role="clerk",
        text=text("Well?"),
        options=options("yes", "no"),
        bind="a",
        form=fields(note=d.OptionalType(item=STRING)),
        **more,
    )  # type: ignore[arg-type]
    edges = [d.Edge(id=f"on {o}#0", trigger="option", option=o, target=o) for o in ("yes", "no")]
    return program(state("ask", ask, *edges), final("yes", by=var("a", "by"), option=var("a", "option")), final("no"))


def test_an_option_is_an_edge_and_the_answer_a_value() -> None:
    finished = run(question()).answer("yes", {"note": "fine"}, by="ben")
    assert finished.state.output == {"by": "ben", "option": "yes"}
    assert finished.state.vars["a"]["note"] == "fine"
    assert finished.state.provenance["a"] == {"attested"}


@pytest.mark.parametrize(
    ("option", "form", "roles", "code"),
    [
        ("maybe", None, None, "JAMR403"),
        ("yes", {"note": 5}, None, "JAMR404"),
        ("yes", {"other": "x"}, None, "JAMR404"),
        ("yes", None, ["cook"], "JAMR409"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_the_question_stays_open(
    option: str, form: dict[str, object] | None, roles: list[str] | None, code: str
) -> None:
    waiting = run(question())
    with pytest.raises(JamError) as raised:
        waiting.answer(option, form, roles=roles)
    assert raised.value.code == code
    assert waiting.answer("no").path == ["ask", "no"]


def test_the_second_of_two_answers_finds_the_question_closed() -> None:
    waiting = run(question())
    late = inputs.answered(waiting.program, waiting.state, "q1", "no", None, "ben", None)
    waiting.answer("yes")
    waiting.append(*late)
    assert waiting.path == ["ask", "yes"]


def test_reminders_come_again_and_skip_what_was_slept_through() -> None:
    waiting = run(question(remind_ms=1000))
    begun = waiting.now_ms
    waiting.pass_time(begun + 1000)
    assert waiting.events("fired")[0]["id"].endswith("/remind")
    waiting.pass_time(begun + 5500)
    assert waiting.state.timers == {"#1.1/remind": begun + 6000}


# ---- cancellation and the rest


def test_cancelling_a_wait_without_a_handler_ends_the_run() -> None:
    waiting = run(program(state("a", d.Wait(event="said"), always("b")), final("b"), events=SAID))
    waiting.cancel()
    assert waiting.state.status == "cancelled"
    with pytest.raises(JamError) as raised:
        waiting.cancel()
    assert raised.value.code == "JAMR204"


def test_cancelling_goes_by_the_handler_and_ends_as_cancelled() -> None:
    states = (state("a", d.Wait(event="said"), always("b")), final("b"), state("tidy", call(), always("b")))
    handlers = (handler("cancel", "tidy"),)
    waiting = run(program(*states, events=SAID, handlers=handlers, tools={"t": reads()}), {"t": "x"})
    waiting.cancel()
    assert waiting.path == ["a", "tidy", "b"]
    assert waiting.state.status == "cancelled"


def test_cancelling_takes_no_step_that_does_not_fit() -> None:
    """The handler acts, and no step is left for it: the run goes to `exceeded`, and ends as cancelled all the same."""
    looks = (state("a", call(), always("b")), state("b", d.Wait(event="said"), always("done")))
    states = (*looks, final("done"), final("over"), state("tidy", call(), always("done")))
    limits = d.Budget(limits=d.Limits(steps=2), exceeded="over")
    definition = program(
        *states, events=SAID, handlers=(handler("cancel", "tidy"),), tools={"t": reads()}, budget=limits
    )
    waiting = run(definition, {"t": "x"})
    waiting.cancel()
    assert waiting.path == ["a", "b", "over"]
    assert waiting.state.spent.steps == 2
    assert (waiting.state.status, waiting.state.exceeded) == ("cancelled", "steps")
    assert len(waiting.performed) == 1


def test_cancelling_waits_for_a_write_in_flight_and_stops_a_read_at_once() -> None:
    dear = reads(cost="0.01 USD")
    for tool, kinds in ((writes(), ["intent", "cancelling"]), (dear, ["cancelling", "moved", "finished"])):
        states = (state("a", call(), always("b")), final("b"), final("stopped"))
        definition = program(*states, tools={"t": tool}, handlers=(handler("cancel", "stopped"),))
        flying = Driver(definition, {"t": "x"}).start({})
        (command,) = flying.commands()
        flying.append(*inputs.cancelling(flying.program, flying.state, "op", "", False))
        flying.commands()
        assert flying.kinds[-len(kinds) :] == kinds
        flying.append(*flying.outcome(command))  # type: ignore[arg-type]
        flying.commands()
        assert flying.state.status == "cancelled"
        assert ("late" in flying.kinds) == (tool.effect == "reads")
        assert flying.cancelled == (["#1.1"] if tool.effect == "reads" else [])


def test_cancelling_now_names_the_write_that_nobody_knows_about() -> None:
    flying = Driver(program(state("a", call(), always("b")), final("b"), tools={"t": writes()})).start({})
    flying.commands()
    flying.cancel(now=True)
    assert flying.events("finished")[0]["unresolved"] == ["#1.1"]


def test_an_outcome_for_an_unknown_id_is_ignored() -> None:
    waiting = run(question())
    before = waiting.state
    waiting.append("succeeded", {"cmd": "#7.1", "result": 1, "usage": None, "duration_ms": 0})
    assert waiting.state.frames == before.frames


def test_input_that_does_not_fit_is_refused_with_every_problem() -> None:
    definition = program(state("a", None, always("b")), final("b"), inputs=fields(x=INT, y=STRING))
    with pytest.raises(JamError) as raised:
        run(definition, x="one", z=1)
    assert raised.value.code == "JAMR301"
    assert len(raised.value.details) == 3


def test_deciding_again_gives_the_same_journal() -> None:
    finished = run(chat_program(), {"decide": [proposes("look", q="x"), {"text": "bye"}], "look": Result(["found"])})
    state = None
    program_ = Program.of(finished.definition)
    for event in finished.journal:
        if state is not None and event.kind in ("moved", "finished", "denied", "exceeded"):
            (command,) = [c for c in decide(program_, state) if hasattr(c, "kind")]
            assert (command.kind, command.body) == (event.kind, event.body)
        state = fold(program_, "run-1", finished.journal[: event.seq])


def test_the_sets_of_a_question_do_not_run_when_an_event_ends_it() -> None:
    ask = d.Ask(role="clerk", text=text("Well?"), options=options("yes"))
    states = (
        state(
            "a",
            ask,
            d.Edge(id="on yes#0", trigger="option", option="yes", target="b"),
            on_event("said", "b"),
            sets=(COUNT,),
        ),
        final("b", n=var("n")),
    )
    definition = program(*states, events=SAID, vars=(N,))
    assert run(definition).send("said", {"text": "x"}).state.output == {"n": 0}
    assert run(definition).answer("yes").state.output == {"n": 1}


def test_a_state_is_not_the_handler_of_its_own_denial() -> None:
    states = (state("a", call(), always("b")), final("b"))
    finished = run(program(*states, tools={"t": reads()}, rules=(), handlers=(handler("denied", "a"),)))
    assert finished.path == ["a"]
    assert finished.state.status == "parked"


def test_a_snapshot_keeps_every_kind_of_value() -> None:
    values = [
        ["int", "9007199254740993"],
        ["float", 0.5],
        ["decimal", "1.50"],
        ["money", "1.50 USD"],
        ["duration", 90_000],
        ["bytes", "AAE="],
        ["null"],
        ["list", i(1), s("x")],
        ["call", "timestamp", s("2024-05-10T15:52:59Z")],
        ["map", [i(1), ["bool", True]]],
        ["record", "R", {"$odd": i(1)}],
    ]
    any_ = d.Scalar(kind="any")
    variables = tuple(d.VarDef(name=f"v{n}", type=any_, init=value) for n, value in enumerate(values))
    waiting = run(program(state("a", d.Wait(event="said"), always("b")), final("b"), events=SAID, vars=variables))
    again = decode(encode(waiting.state))
    assert again == waiting.state
    assert {n: type(v) for n, v in again.vars.items()} == {n: type(v) for n, v in waiting.state.vars.items()}
    assert digest(again) == digest(waiting.state)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"format":2}', b'{"format":1,"unknown":1}', b"\xff"])
def test_what_is_no_snapshot_of_this_version_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode(data)
