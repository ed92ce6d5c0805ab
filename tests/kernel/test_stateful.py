"""One run under everything that can happen to it, in any order: outcomes, crashes, answers, events, time, operators.

Whatever happens, the invariants of a run hold after each step.
"""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.budget import amount
from jamjet_dsl.kernel.machine import fold
from jamjet_dsl.kernel.model import ENDED, Call, Think
from jamjet_dsl.kernel.recovery import recover
from tests.kernel.build import (
    INT,
    STRING,
    allow,
    always,
    fields,
    final,
    handler,
    i,
    on,
    on_error,
    on_event,
    on_option,
    options,
    program,
    reads,
    set_,
    state,
    text,
    tools,
    usd,
    var,
    when,
    writes,
)
from tests.kernel.driver import Driver, Fails

CAP = Decimal("1.50")
ERRORS = ["Timeout", "Unavailable", "RateLimited", "Disconnected", "Crashed", "Rejected"]


def desk(keyed: bool, confirmed: bool) -> d.Definition:
    """Looks something up, asks, pays, waits, and begins again: with retries, limits, events and every handler."""
    amount_ = ["*", usd("10.00"), var("n")]
    ask = d.Ask(
        role="boss",
        text=text("Pay?"),
        options=options("!yes", "no"),
        timeout_ms=5000,
        remind_ms=1000,
        bind="a",
        call=d.ToolCallDef(tool="pay", args={"amount": amount_}),
    )
    retry = (d.Retry(errors=("any",), times=2, backoff_ms=100, factor="2", jitter="full"),)
    think = d.Think(prompt=text("Go on?"), result=INT, bind="n", max_prompt=100, max_tokens=50, retry=retry)
    states = (
        state(
            "look",
            d.Call(tool="look", bind="found", retry=retry),
            on_error("tidy", "Rejected"),
            on_event("stop", "tidy", "why"),
            always("think"),
        ),
        state("think", think, when(["<", var("n"), i(1)], "tidy"), always("ask", limit=6, limit_to="tidy")),
        state(
            "ask",
            ask,
            on_option("yes", "pay"),
            on_option("no", "look", limit=4, limit_to="tidy"),
            on("denied", "wait"),
            on("timeout", "wait"),
            on_event("stop", "tidy"),
        ),
        state(
            "pay",
            d.CallApproved(tool="pay", asks=("ask",), bind="paid", retry=retry),
            on("denied", "tidy"),
            on_error("wait", "Rejected"),
            always("wait"),
        ),
        state("wait", d.Wait(duration_ms=500), always("look", limit=5, limit_to="tidy")),
        state("tidy", None, always("end"), sets=(set_("n", i(0)),)),
        final("end"),
        final("over", failed=True),
        final("bad", failed=True),
    )
    declared = {
        "look": reads(cost="0.05 USD"),
        "pay": writes(
            params={"amount": d.MoneyType(currency="USD")},
            effect="irreversible",
            cost="0.10 USD",
            key=["text", "k", ["show", var("args", "amount")]] if keyed else None,
            confirm=d.ToolCallDef(tool="paid", args={}) if confirmed else None,
            raises=("Rejected",),
        ),
        "paid": reads(d.OptionalType(item=STRING)),
    }
    rules = (
        allow("look", "pay"),
        d.Rule(kind="require_ask", ask="ask", tools=tools("pay")),
        d.Rule(kind="forbid", tools=tools("pay"), when=[">", var("args", "amount"), usd("40.00")]),
        d.Rule(kind="limit", limit=d.LimitDef(tools=tools("pay"), count=3)),
    )
    budget = d.Budget(
        limits=d.Limits(steps=20, tokens=3000, cost="2.00 USD", time_ms=60_000, active_ms=20_000),
        reserve=d.Limits(cost="0.50 USD"),
        warn_percent=50,
        exceeded="over",
    )
    return program(
        *states,
        tools=declared,
        rules=rules,
        budget=budget,
        vars=(d.VarDef(name="n", type=INT, init=i(1)),),
        events={"stop": d.Message(fields=fields(text=STRING))},
        handlers=(handler("error", "bad"), handler("cancel", "tidy")),
    )


DESKS = [desk(keyed, confirmed) for keyed in (True, False) for confirmed in (True, False)]


class Life(RuleBasedStateMachine):
    """Each rule is one thing that happens."""

    @initialize(definition=st.sampled_from(DESKS))
    def begin(self, definition: d.Definition) -> None:
        self.definition = definition
        self.another_run_begins()

    @precondition(lambda self: self.status in ENDED)
    @rule()
    def another_run_begins(self) -> None:
        self.run = Driver(self.definition).start({})
        self.flying: list[Any] = []
        self.settle_down()

    def settle_down(self) -> None:
        commands = self.run.commands()
        self.flying = [c for c in commands if isinstance(c, (Call, Think))]

    @property
    def status(self) -> str:
        return self.run.state.status

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), lasts=st.integers(0, 3000))
    def an_outcome_comes(self, data: Any, lasts: int) -> None:
        command = self.flying[0]
        good = st.integers(0, 6) if isinstance(command, Think) else st.sampled_from(["r1", None])
        bad = st.sampled_from(ERRORS).map(Fails)
        name = command.tool if isinstance(command, Call) else command.state
        self.run.script[name] = data.draw(st.one_of(good, good, bad))
        self.run.now_ms += lasts
        self.run.perform(command)
        self.settle_down()

    @precondition(lambda self: self.flying)
    @rule(n=st.integers(1, 4))
    def all_goes_well_for_a_while(self, n: int) -> None:
        self.run.script.update(look="r1", pay="r1", paid=None, think=n)
        for _ in range(4):
            if self.flying:
                self.run.perform(self.flying[0])
                self.settle_down()

    @precondition(lambda self: self.status not in ENDED)
    @rule(down=st.integers(0, 10_000))
    def the_process_dies(self, down: int) -> None:
        self.run.now_ms += down
        self.run.started = set()
        for record in recover(self.run.program, self.run.state):
            self.run.append(record.kind, record.body)
        self.settle_down()

    @precondition(lambda self: self.status not in ENDED)
    @rule(passes=st.integers(1, 6000))
    def time_passes(self, passes: int) -> None:
        self.run.pass_time(self.run.now_ms + passes)
        self.settle_down()

    @precondition(lambda self: self.run.state.questions)
    @rule(option=st.sampled_from(["yes", "yes", "no"]))
    def somebody_answers(self, option: str) -> None:
        question = next(iter(self.run.state.questions))
        self.run.append(*inputs.answered(self.run.program, self.run.state, question, option, None, "ann", None))
        self.settle_down()

    @precondition(lambda self: self.status not in ENDED and len(self.run.journal) > 10)
    @rule()
    def an_event_is_sent(self) -> None:
        self.run.append(*inputs.received(self.run.program, self.run.state, "stop", {"text": "x"}, "e"))
        self.settle_down()

    @precondition(lambda self: self.status == "parked")
    @rule(move=st.sampled_from(["retry", "happened", "not"]))
    def an_operator_moves_it(self, move: str) -> None:
        with contextlib.suppress(JamError):  # a move that does not fit is refused, and nothing is journaled
            if move == "retry":
                self.run.append(*inputs.retry(self.run.program, self.run.state, "op", ""))
            else:
                happened = move == "happened"
                self.run.append(*inputs.settle(self.run.program, self.run.state, happened, "r1", "op", ""))
        self.settle_down()

    @precondition(lambda self: self.status not in ENDED and len(self.run.journal) > 20)
    @rule(now=st.booleans())
    def it_is_cancelled(self, now: bool) -> None:
        self.run.append(*inputs.cancelling(self.run.program, self.run.state, "op", "", now))
        self.settle_down()

    @invariant()
    def the_journal_gives_the_state(self) -> None:
        if hasattr(self, "run"):
            assert [event.seq for event in self.run.journal] == list(range(1, len(self.run.journal) + 1))
            assert fold(self.run.program, "run-1", self.run.journal) == self.run.state

    @invariant()
    def nothing_started_that_did_not_fit(self) -> None:
        if hasattr(self, "run"):
            spent = self.run.state.spent
            assert spent.steps <= 20
            assert spent.tokens <= 3000
            assert amount(spent.cost) <= CAP

    @invariant()
    def a_run_that_goes_on_has_something_to_do_or_to_wait_for(self) -> None:
        if hasattr(self, "run") and self.status in ("running", "waiting"):
            assert self.run.commands()

    @invariant()
    def every_payment_was_approved_once_for_exactly_this_amount(self) -> None:
        if not hasattr(self, "run"):
            return
        asked = {body["question"]: body["call"] for body in self.run.events("asked")}
        yes = {body["question"] for body in self.run.events("answered") if body["option"] == "yes"}
        used: list[str] = []
        first: dict[str, Any] = {}
        for body in self.run.events("intent"):
            if body.get("does", "action") == "action" and body["tool"] == "pay":
                visit = body["cmd"].partition(".")[0]
                if visit not in first:
                    (question,) = body["grants"]
                    assert question in yes
                    assert asked[question]["args"] == body["args"]
                    used.append(question)
                    first[visit] = body
                assert (first[visit]["args"], first[visit]["key"]) == (body["args"], body["key"])
        assert len(used) == len(set(used)) <= 3


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
