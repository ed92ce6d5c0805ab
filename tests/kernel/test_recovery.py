"""A process that dies, wherever it dies: what is made again, what is asked, what is in doubt, what an operator does."""

from __future__ import annotations

from typing import Any

import pytest

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.model import Call, Think
from jamjet_dsl.kernel.recovery import recover
from tests.kernel.build import (
    APPLICATION,
    STRING,
    always,
    final,
    i,
    loan,
    on,
    on_error,
    optional,
    program,
    reads,
    s,
    set_,
    state,
    text,
    var,
    writes,
)
from tests.kernel.driver import Crash, Driver, Fails, Result


class Bank:
    """Executes one key once, counts every call, and dies or loses its answer when told to."""

    def __init__(self, keys: bool = True) -> None:
        self.keys = keys
        self.calls = 0
        self.ledger: dict[str, int] = {}
        self.dies = 0

    def pay(self, call: Call) -> Any:
        self.calls += 1
        name = call.key if self.keys and call.key is not None else f"{call.id}/{self.calls}"
        self.ledger.setdefault(name, self.calls)
        if self.dies:
            self.dies -= 1
            raise Crash
        return f"r{self.ledger[name]}"

    def look(self, call: Call) -> Any:
        return f"r{next(iter(self.ledger.values()))}" if self.ledger else None

    def script(self) -> dict[str, Any]:
        return {"pay": self.pay, "look": self.look}


CONFIRM = d.ToolCallDef(tool="look", args={})


def paying(*edges: d.Edge, retry: tuple[d.Retry, ...] = (), **tool: Any) -> d.Definition:
    states = (
        state("pay", d.Call(tool="pay", bind="r", retry=retry), *edges, always("paid")),
        final("paid", r=var("r")),
        final("doubt", failed=True),
        final("bad", failed=True),
    )
    return program(*states, tools={"pay": writes(**tool), "look": reads(optional(STRING))})


def crashed(definition: d.Definition, bank: Bank) -> Driver:
    """A run that died after the bank had paid and before its answer was journaled."""
    bank.dies = 1
    run = Driver(definition, bank.script()).start({})
    with pytest.raises(Crash):
        run.run()
    return run


def test_a_confirmed_payment_is_not_made_again() -> None:
    bank = Bank(keys=False)
    run = crashed(paying(confirm=CONFIRM), bank).recover()
    assert run.state.output == {"r": "r1"}
    assert bank.calls == 1
    assert run.events("recovered") == [{"cmd": "#1.1", "how": "confirm"}]
    assert run.events("probed")[0]["happened"] is True


def test_a_payment_that_did_not_happen_is_made_then() -> None:
    bank = Bank(keys=False)
    run = Driver(paying(confirm=CONFIRM), bank.script()).start({})
    run.commands()  # the intent is journaled, the bank was never called
    run.recover()
    assert run.state.output == {"r": "r1"}
    assert bank.calls == 1
    assert run.performed[-1].id == "#1.2"


def test_a_payment_under_a_key_is_repeated_under_the_same_key_and_arguments() -> None:
    bank = Bank()
    run = crashed(paying(key=var("run", "id")), bank).recover()
    assert run.state.output == {"r": "r1"}
    assert (bank.calls, len(bank.ledger)) == (2, 1)
    first, second = run.calls("pay")
    assert (first.key, first.args) == (second.key, second.args)
    assert [body["cmd"] for body in run.events("intent")] == ["#1.1", "#1.2"]


def test_where_confirm_cannot_tell_the_key_decides() -> None:
    bank = Bank()
    run = crashed(paying(key=var("run", "id"), confirm=CONFIRM), bank)
    run.script["look"] = Fails("Unavailable")
    run.recover()
    assert run.state.output == {"r": "r1"}
    assert (bank.calls, len(bank.ledger)) == (2, 1)


def test_without_key_or_confirm_the_payment_is_in_doubt_and_the_run_parks() -> None:
    bank = Bank(keys=False)
    run = crashed(paying(), bank).recover()
    assert run.state.status == "parked"
    assert run.kinds[-3:] == ["resumed", "in_doubt", "parked"]
    assert run.events("parked")[0]["commands"][:2] == ["settle --happened", "settle --did-not-happen"]
    assert bank.calls == 1


def test_on_in_doubt_is_taken_before_anything_parks() -> None:
    run = crashed(paying(on("in_doubt", "doubt")), Bank(keys=False)).recover()
    assert run.path == ["pay", "doubt"]


def test_settled_as_happened_the_run_goes_on_with_the_result() -> None:
    bank = Bank(keys=False)
    run = crashed(paying(), bank).recover().settle(True, "r1")
    assert run.state.output == {"r": "r1"}
    assert bank.calls == 1


def test_settled_as_not_happened_the_call_is_made() -> None:
    bank = Bank(keys=False)
    run = Driver(paying(), bank.script()).start({})
    run.commands()
    run.recover()
    assert run.state.status == "parked"
    run.settle(False)
    assert run.state.output == {"r": "r1"}
    assert bank.calls == 1


def test_what_is_in_doubt_cannot_just_be_tried_again() -> None:
    run = crashed(paying(), Bank(keys=False)).recover()
    with pytest.raises(JamError) as raised:
        run.retry()
    assert raised.value.code == "JAMR407"


def test_a_settled_result_has_to_fit_and_there_has_to_be_a_doubt() -> None:
    run = crashed(paying(), Bank(keys=False)).recover()
    with pytest.raises(JamError) as raised:
        run.settle(True, {"not": "text"})
    assert raised.value.code == "JAMR302"
    run.settle(True, "r1")
    with pytest.raises(JamError) as raised:
        run.settle(True, "r1")
    assert raised.value.code == "JAMR407"


def test_cancelling_a_run_in_doubt_names_the_call() -> None:
    run = crashed(paying(), Bank(keys=False)).recover().cancel()
    assert run.state.status == "cancelled"
    assert run.events("finished")[0]["unresolved"] == ["#1.1"]


def test_a_read_that_costs_is_settled_in_full_and_made_again() -> None:
    states = (state("a", d.Call(tool="t", bind="r"), always("b")), final("b", r=var("r")))
    spend = d.Budget(limits=d.Limits(cost="1.00 USD", steps=5))
    run = Driver(program(*states, tools={"t": reads(cost="0.40 USD")}, budget=spend), {"t": "x"}).start({})
    run.commands()
    run.recover()
    assert run.state.output == {"r": "x"}
    assert run.state.spent.cost == "0.80 USD"
    assert run.state.spent.steps == 1


def test_a_read_that_does_not_fit_a_second_time_is_exceeded() -> None:
    states = (state("a", d.Call(tool="t"), always("b")), final("b"), final("over"))
    spend = d.Budget(limits=d.Limits(cost="0.50 USD"), exceeded="over")
    run = Driver(program(*states, tools={"t": reads(cost="0.40 USD")}, budget=spend), {"t": "x"}).start({})
    run.commands()
    assert run.recover().path == ["a", "over"]


def test_a_free_read_is_made_again_under_its_id() -> None:
    states = (state("a", d.Call(tool="t", bind="r"), always("b")), final("b", r=var("r")))
    run = Driver(program(*states, tools={"t": reads()}), {"t": "x"}).start({})
    (before,) = run.commands()
    run.recover()
    assert [c.id for c in run.performed] == [before.id]  # type: ignore[union-attr]
    assert run.kinds == ["started", "resumed", "succeeded", "moved", "finished"]


def test_a_model_is_asked_again_with_the_same_prompt() -> None:
    think = d.Think(prompt=text("n is ", ["show", var("n")]), result=STRING, max_prompt=10, max_tokens=5)
    start = d.VarDef(name="n", type=d.Scalar(kind="int"), init=i(1))
    run = Driver(program(state("a", think, always("b")), final("b"), vars=(start,)), {"a": "x"}).start({})
    (before,) = run.commands()
    run.recover()
    (after,) = run.performed
    assert isinstance(before, Think)
    assert isinstance(after, Think)
    assert (before.prompt, before.id, after.id) == (after.prompt, "#1.1", "#1.2")
    assert run.state.spent.tokens == 15 + 15


def test_recovering_is_not_one_of_the_retries() -> None:
    retry = (d.Retry(errors=("any",), times=1),)
    states = (state("a", d.Call(tool="t", retry=retry), on_error("c"), always("b")), final("b"), final("c"))
    run = Driver(program(*states, tools={"t": reads(cost="0.01 USD")}), {"t": [Fails("Timeout"), "x"]}).start({})
    run.commands()
    run.recover()
    assert run.path == ["a", "b"]


def test_a_run_that_ended_or_waits_has_nothing_to_recover() -> None:
    done = Driver(paying(), {"pay": "r"}).start({}).run()
    assert recover(done.program, done.state) == []
    waiting = Driver(program(state("a", d.Wait(duration_ms=10), always("b")), final("b"))).start({})
    waiting.commands()
    assert [r.kind for r in recover(waiting.program, waiting.state)] == ["resumed"]


# ---- errors that leave open what happened


TWICE = (d.Retry(errors=("any",), times=2),)


@pytest.mark.parametrize("error", ["Timeout", "Disconnected", "Crashed", "InvalidOutput"])
def test_an_indefinite_error_of_a_write_never_takes_an_error_edge(error: str) -> None:
    run = Driver(paying(on_error("bad"), on("in_doubt", "doubt")), {"pay": Fails(error)}).start({}).run()
    assert run.path == ["pay", "doubt"]


@pytest.mark.parametrize("error", ["RateLimited", "Unavailable", "Rejected"])
def test_a_definite_error_of_a_write_is_an_ordinary_error(error: str) -> None:
    definition = paying(on_error("bad"), on("in_doubt", "doubt"), raises=("Rejected",))
    assert Driver(definition, {"pay": Fails(error)}).start({}).run().path == ["pay", "bad"]


def test_an_error_before_anything_was_sent_is_definite() -> None:
    run = Driver(paying(on_error("bad")), {"pay": Fails("Timeout", sent=False)}).start({}).run()
    assert run.path == ["pay", "bad"]


def test_an_indefinite_error_is_retried_only_under_a_key() -> None:
    script = {"pay": [Fails("Timeout"), "r1"]}
    assert Driver(paying(retry=TWICE), dict(script)).start({}).run().state.status == "parked"
    keyed = Driver(paying(retry=TWICE, key=var("run", "id")), {"pay": [Fails("Timeout"), "r1"]}).start({}).run()
    assert keyed.state.output == {"r": "r1"}


def test_after_its_retries_an_indefinite_error_is_confirmed() -> None:
    script: dict[str, Any] = {"pay": Fails("Timeout"), "look": "r9"}
    run = Driver(paying(retry=TWICE, key=var("run", "id"), confirm=CONFIRM), script).start({}).run()
    assert len(run.calls("pay")) == 3
    assert run.state.output == {"r": "r9"}


def test_what_did_not_happen_is_an_ordinary_error_and_may_be_tried_again() -> None:
    script: dict[str, Any] = {"pay": [Fails("Timeout"), "r1"], "look": None}
    once = Driver(paying(on_error("bad", "Timeout"), confirm=CONFIRM), dict(script)).start({}).run()
    assert once.path == ["pay", "bad"]
    again = Driver(paying(on_error("bad"), retry=TWICE, confirm=CONFIRM), {**script, "pay": [Fails("Timeout"), "r1"]})
    assert again.start({}).run().state.output == {"r": "r1"}


def test_where_confirm_fails_too_the_call_is_in_doubt() -> None:
    script = {"pay": Fails("Timeout"), "look": Fails("Unavailable")}
    run = Driver(paying(on("in_doubt", "doubt"), confirm=CONFIRM), script).start({}).run()
    assert run.path == ["pay", "doubt"]
    assert run.events("probed")[0]["happened"] is None


def test_a_result_that_the_declaration_does_not_allow_leaves_a_write_in_doubt() -> None:
    run = Driver(paying(on_error("bad"), on("in_doubt", "doubt")), {"pay": {"un": "expected"}}).start({}).run()
    assert run.path == ["pay", "doubt"]


def test_a_call_in_doubt_can_be_settled_after_the_run_went_on() -> None:
    ask = d.Wait(event="go")
    states = (
        state("pay", d.Call(tool="pay", bind="r"), on("in_doubt", "hold"), always("paid")),
        final("paid"),
        state("hold", ask, always("paid")),
    )
    definition = program(*states, tools={"pay": writes()}, events={"go": d.Message(fields=())})
    run = Driver(definition, {"pay": Fails("Timeout")}).start({}).run()
    assert run.state.status == "waiting"
    run.settle(True, "r1")
    assert run.state.status == "waiting"
    assert not run.state.intents
    assert run.state.monitors["calls\x1fsucceeded\x1fpay"] == 1


# ---- keys


def test_a_key_that_stood_for_other_arguments_is_refused() -> None:
    start = d.VarDef(name="n", type=d.Scalar(kind="int"), init=i(1))
    grow = (set_("n", ["+", var("n"), i(1)]),)
    action = d.Call(tool="pay", args={"n": var("n")})
    states = (state("a", action, on_error("bad", "InvalidInput"), always("a", sets=grow)), final("bad"))
    tool = writes(params={"n": d.Scalar(kind="int")}, key=s("same"))
    run = Driver(program(*states, tools={"pay": tool}, vars=(start,)), {"pay": "x"}).start({}).run()
    assert run.path == ["a", "a", "bad"]
    assert len(run.calls("pay")) == 1


def test_a_call_carries_a_stable_trace_key_even_without_a_promise() -> None:
    run = Driver(paying(retry=TWICE), {"pay": [Fails("Unavailable"), "r"]}).start({}).run()
    assert {call.trace_key for call in run.calls("pay")} == {"run-1/#1"}
    assert {call.key for call in run.calls("pay")} == {None}


def test_the_call_that_takes_a_result_back_is_journaled_with_it() -> None:
    undo = d.ToolCallDef(tool="back", args={"id": var("result"), "run": var("run", "id")})
    states = (state("a", d.Call(tool="pay"), always("b")), final("b"))
    back = writes(None, {"id": STRING, "run": STRING})
    run = Driver(program(*states, tools={"pay": writes(undo=undo), "back": back}), {"pay": "r1"}).start({}).run()
    assert run.state.undo == [{"cmd": "#1.1", "tool": "back", "args": {"id": "r1", "run": "run-1"}}]


# ---- every place


def dying(definition: d.Definition, script: Any, at: int, lost: bool) -> Driver:
    """Dies as the event number `at` is appended, then recovers, and goes on to the end."""
    run = Driver(definition, script, check=False, crash_at=at, lost=lost)
    try:
        run.start(APPLICATION).run()
        if run.state.questions:
            run.answer("approve")
    except Crash:
        run.recover()
    return run.answer("approve") if run.state.questions else run


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("confirm", [True, False])
def test_wherever_a_process_dies_the_loan_is_paid_once_and_ends_alike(lost: bool, confirm: bool) -> None:
    definition = loan()
    if not confirm:
        tool = definition.tools["disburse"].model_copy(update={"confirm": None})
        definition = definition.model_copy(update={"tools": {**definition.tools, "disburse": tool}})
    length = 30
    for at in range(2, length):
        bank = Bank()
        script = {
            "credit_bureau": Result({"score": 650, "flags": []}),
            "explain": "risk",
            "disburse": lambda call, bank=bank: {"id": bank.pay(call)},
            "lookup_payment": lambda call, bank=bank: {"id": bank.look(call)} if bank.ledger else None,
        }
        run = dying(definition, script, at, lost)
        assert run.state.status == "completed"
        assert run.state.output == {"outcome": "approved", "receipt": {"id": "r1"}}
        assert run.path == ["fetch_report", "triage", "explain", "officer_review", "pay", "paid"]
        assert len(bank.ledger) == 1
        assert bank.calls == 1 or not confirm
        if len(run.journal) < at:
            assert at > 15
            return
    raise AssertionError("the journal is longer than was tried")


def test_a_late_outcome_is_kept_and_changes_nothing() -> None:
    run = crashed(paying(), Bank(keys=False))
    (call,) = run.calls("pay")
    run.recover()
    kind, body = inputs.succeeded(run.program, run.state, call, "r1")
    assert (kind, body["result"]) == ("late", "r1")
    before = run.state.frames
    run.append(kind, body)
    assert run.state.frames == before


def test_a_result_of_confirm_that_does_not_fit_the_call_leaves_it_in_doubt() -> None:
    number = d.Scalar(kind="int")
    definition = paying(on("in_doubt", "doubt"), confirm=CONFIRM)
    tools = {**definition.tools, "look": reads(optional(number))}
    run = Driver(definition.model_copy(update={"tools": tools}), {"pay": Fails("Timeout"), "look": 7}).start({}).run()
    assert run.path == ["pay", "doubt"]


def test_what_confirm_found_can_be_taken_back_too() -> None:
    undo = d.ToolCallDef(tool="back", args={"id": var("result")})
    definition = paying(confirm=CONFIRM, undo=undo)
    tools = {**definition.tools, "back": writes(None, {"id": STRING})}
    script = {"pay": Fails("Timeout"), "look": "r7"}
    run = Driver(definition.model_copy(update={"tools": tools}), script).start({}).run()
    assert run.state.undo == [{"cmd": "#1.1", "tool": "back", "args": {"id": "r7"}}]


def test_a_run_that_an_operator_cannot_help_says_so() -> None:
    spend = d.Budget(limits=d.Limits(steps=1))
    states = (state("a", d.Call(tool="t"), always("a")), final("b"))
    run = Driver(program(*states, tools={"t": reads()}, budget=spend), {"t": "x"}).start({}).run()
    assert run.state.status == "parked"
    with pytest.raises(JamError, match="cannot be tried again") as raised:
        run.retry()
    assert raised.value.code == "JAMR408"
    assert run.cancel().state.status == "cancelled"


def test_a_run_that_is_not_parked_cannot_be_retried() -> None:
    waiting = Driver(program(state("a", d.Wait(duration_ms=10), always("b")), final("b"))).start({})
    waiting.commands()
    with pytest.raises(JamError) as raised:
        inputs.retry(waiting.program, waiting.state, "op", "")
    assert raised.value.code == "JAMR408"
