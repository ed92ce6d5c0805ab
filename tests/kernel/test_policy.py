"""The policy: default deny, the join of restrictions, conditions without a value, history, limits, approvals, facts."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.policy import Fence, decide_call
from tests.kernel.build import (
    BOOL,
    INT,
    MONEY,
    STRING,
    allow,
    always,
    fields,
    final,
    i,
    on,
    on_option,
    options,
    program,
    reads,
    record,
    s,
    set_,
    state,
    text,
    tools,
    usd,
    var,
    writes,
)
from tests.kernel.driver import Driver, Fails

TOOLS = {
    "look": reads(params={"id": STRING}),
    "page": reads(params={"id": STRING}, untrusted=True),
    "note": writes(params={"id": STRING}),
    "pay": writes(params={"to": STRING, "amount": MONEY}, effect="irreversible"),
    "order": reads(record("Order"), {"id": STRING}),
}
RECORDS = {"Order": d.Record(fields=fields(status=STRING, total=MONEY))}
PAY = {"to": "x", "amount": "5.00 USD"}


def with_rules(*rules: d.Rule, **agent: Any) -> d.Definition:
    return program(state("s", None, always("e")), final("e"), tools=TOOLS, records=RECORDS, rules=rules, **agent)


def rule(kind: Any, *names: str, **more: Any) -> d.Rule:
    return d.Rule(kind=kind, tools=tools(*names), **more)


def verdict(definition: d.Definition, tool: str, args: dict[str, Any] | None = None, **more: Any) -> str:
    return Fence(definition).decide(tool, {"id": "1"} if args is None else args, **more).verdict


EVERYTHING = d.Rule(kind="allow", tools=tools(classes=("any",)))
FAILS = ["==", ["/", i(1), i(0)], i(1)]
UNSET = ["==", var("nowhere"), i(1)]


# ---- the join


def test_what_no_rule_allows_is_denied() -> None:
    assert verdict(with_rules(allow("look")), "note") == "denied"
    assert verdict(with_rules(), "look") == "denied"
    assert verdict(with_rules(allow("look")), "look") == "allowed"


def test_an_allow_holds_only_while_its_condition_does() -> None:
    definition = with_rules(allow("pay", when=["<=", var("args", "amount"), usd("10.00")], because="small"))
    assert verdict(definition, "pay", PAY) == "allowed"
    assert verdict(definition, "pay", {"to": "x", "amount": "10.01 USD"}) == "denied"


def test_an_irreversible_call_needs_an_approval_unless_it_is_waived() -> None:
    assert verdict(with_rules(allow("pay")), "pay", PAY) == "needs_approval"
    assert verdict(with_rules(allow("pay", because="tiny")), "pay", PAY) == "allowed"
    assert verdict(with_rules(allow("pay", because="tiny"), rule("require_ask", "pay", ask="a")), "pay", PAY) == (
        "needs_approval"
    )


def test_forbidden_wins_over_approved() -> None:
    definition = with_rules(EVERYTHING, rule("require_ask", "pay", ask="a"), rule("forbid", "pay"))
    assert verdict(definition, "pay", PAY, approvals=[{"ask": "a", "by": "ann"}]) == "denied"


@pytest.mark.parametrize("condition", [FAILS, UNSET, ["!", UNSET], ["!", FAILS], s("yes"), ["null"]])
@pytest.mark.parametrize("kind", ["allow", "forbid", "require_ask", "require_people", "require_read", "never"])
def test_a_condition_without_a_truth_value_denies_in_any_kind_of_rule(kind: str, condition: list[Any]) -> None:
    more: dict[str, Any] = {"ask": "a"} if kind == "require_ask" else {}
    if kind == "require_people":
        more = {"count": 1, "role": "boss"}
    if kind == "require_read":
        more = {"call": d.ToolCallDef(tool="order", args={"id": s("9")})}
    if kind == "never":
        more = {"after": tools("look")}
    fence = Fence(with_rules(EVERYTHING, rule(kind, "note", when=condition, **more)))
    fence.record("look", {"id": "1"})
    decision = fence.decide("note", {"id": "1"})
    assert decision.verdict == "denied"
    assert decision.rules == (1,)


def test_a_deciding_side_of_a_condition_wins_over_an_error_on_the_other() -> None:
    definition = with_rules(EVERYTHING, rule("forbid", "note", when=["&&", ["bool", False], FAILS]))
    assert verdict(definition, "note") == "allowed"


def test_the_order_of_rules_does_not_matter() -> None:
    no_x = rule("forbid", "pay", when=["==", var("args", "to"), s("x")])
    rules = (
        EVERYTHING,
        rule("require_ask", "pay", ask="a"),
        no_x,
        d.Rule(kind="limit", limit=d.LimitDef(tools=tools("pay"), count=1)),
    )
    for args, approvals in itertools.product((PAY, {**PAY, "to": "y"}), ([], [{"ask": "a", "by": "ann"}])):
        orders = itertools.permutations(rules)
        assert len({verdict(with_rules(*order), "pay", args, approvals=approvals) for order in orders}) == 1


def test_classes_of_tools_stand_for_all_of_them() -> None:
    definition = with_rules(EVERYTHING, d.Rule(kind="forbid", tools=tools(classes=("writes",))))
    assert verdict(definition, "note") == "denied"
    assert verdict(definition, "look") == "allowed"
    assert verdict(definition, "pay", PAY) == "needs_approval"


def test_a_program_without_a_policy_may_call_nothing() -> None:
    definition = program(state("s", None, always("e")), final("e"), tools=TOOLS, records=RECORDS, rules=None)
    assert verdict(definition, "note") == "denied"
    assert verdict(definition, "look") == "denied"


def test_arguments_that_do_not_fit_are_denied_and_unknown_tools_refused() -> None:
    assert verdict(with_rules(EVERYTHING), "note", {"id": 5}) == "denied"
    with pytest.raises(JamError):
        verdict(with_rules(EVERYTHING), "nothing")


# ---- history


def test_a_required_read_must_have_succeeded_with_the_same_arguments() -> None:
    need = d.Rule(
        kind="require_read", tools=tools("note"), call=d.ToolCallDef(tool="order", args={"id": var("args", "id")})
    )
    fence = Fence(with_rules(EVERYTHING, need))
    assert fence.decide("note", {"id": "1"}).verdict == "denied"
    fence.record("order", {"id": "2"}, result={"status": "open", "total": "1.00 USD"})
    fence.record("order", {"id": "1"}, ok=False)
    assert fence.decide("note", {"id": "1"}).verdict == "denied"
    fence.record("order", {"id": "1"}, result={"status": "open", "total": "1.00 USD"})
    assert fence.decide("note", {"id": "1"}).verdict == "allowed"


def test_what_was_read_can_be_required_to_hold() -> None:
    need = d.Rule(
        kind="require_read",
        tools=tools("note"),
        bind="o",
        when=["==", var("o", "result", "status"), s("open")],
        call=d.ToolCallDef(tool="order", args={"id": var("args", "id")}),
    )
    fence = Fence(with_rules(EVERYTHING, need))
    assert fence.decide("note", {"id": "1"}).verdict == "denied"
    fence.record("order", {"id": "1"}, result={"status": "sent", "total": "1.00 USD"})
    assert fence.decide("note", {"id": "1"}).verdict == "denied"
    fence.record("order", {"id": "1"}, result={"status": "open", "total": "1.00 USD"})
    assert fence.decide("note", {"id": "1"}).verdict == "allowed"


def test_the_first_of_several_reads_that_succeeded_is_the_one_that_is_bound() -> None:
    need = d.Rule(
        kind="require_any",
        tools=tools("note"),
        reads=tools("look", "page"),
        bind="who",
        when=["==", var("who", "args", "id"), var("args", "id")],
    )
    fence = Fence(with_rules(EVERYTHING, need))
    assert fence.decide("note", {"id": "1"}).verdict == "denied"
    fence.record("page", {"id": "1"}, result="ann")
    fence.record("look", {"id": "2"}, result="ben")
    assert fence.decide("note", {"id": "1"}).verdict == "allowed"
    assert fence.decide("note", {"id": "2"}).verdict == "denied"


def test_never_after_holds_for_attempts_that_failed_too() -> None:
    fence = Fence(with_rules(EVERYTHING, rule("never", "note", after=tools("page"))))
    assert fence.decide("note", {"id": "1"}).verdict == "allowed"
    fence.record("page", {"id": "1"}, ok=False)
    assert fence.decide("note", {"id": "1"}).verdict == "denied"


def test_conditions_count_past_calls_by_their_arguments() -> None:
    seen = ["history", "succeeded", "look", {"id": var("args", "id")}]
    fence = Fence(with_rules(EVERYTHING, rule("forbid", "note", when=[">=", seen, i(2)])))
    for _ in range(2):
        assert fence.decide("note", {"id": "1"}).verdict == "allowed"
        fence.record("look", {"id": "1"})
    assert fence.decide("note", {"id": "1"}).verdict == "denied"
    assert fence.decide("note", {"id": "2"}).verdict == "allowed"


def test_a_decision_costs_the_same_after_a_long_history() -> None:
    seen = ["history", "attempted", "look", {"id": var("args", "id")}]
    fence = Fence(with_rules(EVERYTHING, rule("forbid", "note", when=[">", seen, i(5000)])))
    for _ in range(500):
        fence.record("look", {"id": "1"})
    assert len(fence._state.monitors) < 10


# ---- limits


def limit(*names: str, **more: Any) -> d.Rule:
    return d.Rule(kind="limit", limit=d.LimitDef(tools=tools(*names), **more))


def test_a_limit_on_calls_counts_per_group() -> None:
    fence = Fence(with_rules(EVERYTHING, limit("look", count=1, per=(var("args", "id"),))))
    fence.record("look", {"id": "1"})
    assert fence.decide("look", {"id": "1"}).verdict == "denied"
    assert fence.decide("look", {"id": "2"}).verdict == "allowed"


def test_a_limit_on_a_total_leaves_room_up_to_its_bound_exactly() -> None:
    total = limit("pay", amount=var("args", "amount"), bound=usd("10.00"))
    fence = Fence(with_rules(allow("pay", because="small"), total))
    fence.record("pay", {"to": "x", "amount": "9.90 USD"})
    assert fence.decide("pay", {"to": "x", "amount": "0.10 USD"}).verdict == "allowed"
    assert fence.decide("pay", {"to": "x", "amount": "0.11 USD"}).verdict == "denied"


def test_a_negative_amount_does_not_make_room() -> None:
    total = limit("pay", amount=var("args", "amount"), bound=usd("10.00"))
    fence = Fence(with_rules(allow("pay", because="small"), total))
    assert fence.decide("pay", {"to": "x", "amount": "-5.00 USD"}).verdict == "denied"


def test_a_window_slides() -> None:
    fence = Fence(with_rules(EVERYTHING, limit("look", count=2, window_ms=1000)))
    fence.record("look", {"id": "1"}, at_ms=0)
    fence.record("look", {"id": "1"}, at_ms=600)
    assert fence.decide("look", {"id": "1"}, at_ms=999).verdict == "denied"
    assert fence.decide("look", {"id": "1"}, at_ms=1000).verdict == "allowed"


def test_a_limit_in_a_run_denies_the_call_after_the_last() -> None:
    states = (state("a", d.Call(tool="look", args={"id": s("1")}), on("denied", "end"), always("a")), final("end"))
    definition = program(*states, tools=TOOLS, records=RECORDS, rules=(EVERYTHING, limit("look", count=3)))
    finished = Driver(definition, {"look": "x"}).start({}).run()
    assert len(finished.calls("look")) == 3
    assert finished.events("denied")[0]["decision"]["rules"] == [1]


def test_a_retried_call_counts_once() -> None:
    action = d.Call(tool="look", args={"id": s("1")}, retry=(d.Retry(errors=("any",), times=3),))
    states = (state("a", action, on("denied", "end"), always("a")), final("end"))
    definition = program(*states, tools=TOOLS, records=RECORDS, rules=(EVERYTHING, limit("look", count=2)))
    outcomes = [Fails("Unavailable"), Fails("Unavailable"), "x", Fails("Timeout"), "x"]
    finished = Driver(definition, {"look": outcomes}).start({}).run()
    assert finished.state.status == "completed"
    assert len(finished.calls("look")) == 5


# ---- approvals


def asking(
    *rules: d.Rule, options_: tuple[d.OptionDef, ...] = options("!yes", "no"), amount: str = "5.00", **agent: Any
) -> d.Definition:
    ask = d.Ask(
        role="boss",
        text=text("Pay?"),
        options=options_,
        bind="a",
        call=d.ToolCallDef(tool="pay", args={"to": s("x"), "amount": ["var", "amount"]}),
    )
    states = (
        state(
            "ask",
            ask,
            on_option("yes", "pay", sets=(set_("amount", usd("999.00")),)),
            on_option("no", "end"),
            on("denied", "refused"),
        ),
        state("pay", d.CallApproved(tool="pay", asks=("ask",), bind="r"), on("denied", "refused"), always("again")),
        state("again", d.CallApproved(tool=None, asks=("ask",)), on("denied", "end"), always("twice")),
        final("end"),
        final("refused", failed=True),
        final("twice", failed=True),
    )
    start = d.VarDef(name="amount", type=MONEY, init=usd(amount))
    return program(*states, tools=TOOLS, records=RECORDS, rules=rules or (allow("pay"),), vars=(start,), **agent)


def test_an_approval_is_the_call_that_was_shown_and_is_used_once() -> None:
    waiting = Driver(asking(), {"pay": "ok"}).start({}).run()
    shown = waiting.events("asked")[0]["call"]
    waiting.answer("yes")
    (paid,) = waiting.calls("pay")
    assert {name: str(value) for name, value in paid.args.items()} == {"to": "x", "amount": "5.00 USD"}
    assert shown["args"] == {"to": "x", "amount": {"$money": "5.00 USD"}}
    assert waiting.path == ["ask", "pay", "again", "end"]
    assert waiting.events("denied")[0]["decision"]["reason"].startswith("there is no unused approval")


def test_an_option_that_does_not_approve_grants_nothing() -> None:
    waiting = Driver(asking(), {"pay": "ok"}).start({}).run().answer("no")
    assert waiting.path == ["ask", "end"]
    assert not waiting.state.grants


def test_what_is_denied_is_not_even_asked() -> None:
    definition = asking(allow("pay"), rule("forbid", "pay", when=[">", var("args", "amount"), usd("1.00")]))
    finished = Driver(definition).start({}).run()
    assert finished.path == ["ask", "refused"]
    assert "asked" not in finished.kinds


def test_the_policy_is_asked_again_when_the_call_is_made() -> None:
    late = rule("forbid", "pay", when=["==", var("amount"), usd("999.00")])
    waiting = Driver(asking(allow("pay"), late)).start({}).run()
    waiting.answer("yes")
    assert waiting.path == ["ask", "pay", "refused"]
    assert not waiting.calls("pay")


def test_the_approval_of_another_ask_does_not_count() -> None:
    waiting = Driver(asking(allow("pay"), rule("require_ask", "pay", ask="other"))).start({}).run()
    waiting.answer("yes")
    assert waiting.path == ["ask", "pay", "refused"]


def people(count: int, **more: Any) -> d.Rule:
    return rule("require_people", "pay", count=count, role="boss", **more)


def test_two_different_people_have_to_approve_where_the_policy_says_so() -> None:
    waiting = Driver(asking(allow("pay"), people(2)), {"pay": "ok"}).start({}).run()
    waiting.answer("yes", by="ann", roles=["boss"])
    assert waiting.state.status == "waiting"
    with pytest.raises(JamError, match="approved this already"):
        waiting.answer("yes", by="ann", roles=["boss"])
    waiting.answer("yes", by="ben", roles=["boss"])
    assert waiting.path == ["ask", "pay", "again", "end"]


def test_whoever_started_the_run_cannot_approve_it_where_the_policy_says_so() -> None:
    definition = asking(allow("pay"), people(1, excluding="principal"))
    waiting = Driver(definition, {"pay": "ok"}).start({}, {"id": "ann", "roles": ["boss"]}).run()
    with pytest.raises(JamError, match="does not count"):
        waiting.answer("yes", by="ann", roles=["boss"])
    assert waiting.answer("yes", by="ben", roles=["boss"]).calls("pay")


def test_a_call_that_needs_an_approval_is_denied_without_one() -> None:
    pay = d.Call(tool="pay", args={"to": s("x"), "amount": usd("1.00")})
    states = (state("a", pay, on("denied", "no"), always("e")), final("e"), final("no"))
    definition = program(*states, tools=TOOLS, records=RECORDS, rules=(allow("pay"),))
    finished = Driver(definition, {"pay": "ok"}).start({}).run()
    assert finished.path == ["a", "no"]
    assert finished.events("denied")[0]["decision"]["result"] == "needs_approval"


# ---- provenance


def provenance(condition: list[Any], sets: tuple[d.SetDef, ...]) -> d.Definition:
    ask = d.Ask(role="boss", text=text("Why?"), options=options("done"), form=fields(why=STRING), bind="a")
    states = (
        state("ask", ask, on_option("done", "read")),
        state("read", d.Call(tool="page", args={"id": s("1")}, bind="p"), always("go"), sets=sets),
        state("go", d.Call(tool="note", args={"id": s("1")}), on("denied", "no"), always("yes")),
        final("yes"),
        final("no"),
    )
    rules = (EVERYTHING, rule("forbid", "note", when=condition))
    return program(*states, tools=TOOLS, records=RECORDS, rules=rules, vars=(d.VarDef(name="x", type=STRING),))


@pytest.mark.parametrize(
    ("condition", "value", "end"),
    [
        (["!", ["attested", var("x")]], var("a", "why"), "yes"),
        (["!", ["attested", var("x")]], ["+", var("a", "why"), var("p")], "no"),
        (["!", ["attested", var("x")]], s("I say so"), "no"),
        (["!", ["attested", var("y")]], var("a", "why"), "no"),
        (["untrusted", var("x")], var("a", "why"), "yes"),
        (["untrusted", var("x")], ["+", var("a", "why"), var("p")], "no"),
    ],
)
def test_set_keeps_where_a_value_came_from(condition: list[Any], value: list[Any], end: str) -> None:
    waiting = Driver(provenance(condition, (set_("x", value),)), {"page": "web", "note": "ok"}).start({}).run()
    assert waiting.answer("done", {"why": "because"}).path[-1] == end


# ---- facts


def with_fact(within_ms: int | None = None) -> d.Definition:
    fact = d.Rule(
        kind="fact", name="o", within_ms=within_ms, call=d.ToolCallDef(tool="order", args={"id": var("args", "id")})
    )
    states = (
        state("a", d.Call(tool="note", args={"id": s("7")}), on("denied", "no"), always("b")),
        state("b", d.Call(tool="note", args={"id": s("7")}), on("denied", "no"), always("yes")),
        final("yes"),
        final("no"),
    )
    rules = (allow("note"), fact, rule("forbid", "note", when=["!=", var("o", "status"), s("open")]))
    return program(*states, tools=TOOLS, records=RECORDS, rules=rules)


ORDER = {"status": "open", "total": "1.00 USD"}


def test_a_fact_is_read_by_the_engine_for_each_decision() -> None:
    finished = Driver(with_fact(), {"order": [ORDER, {**ORDER, "status": "sent"}], "note": "ok"}).start({}).run()
    assert [call.does for call in finished.calls("order")] == ["fact", "fact"]
    assert finished.path == ["a", "b", "no"]
    assert finished.events("fact")[0]["args"] == {"id": "7"}
    assert finished.state.spent.steps == 2


def test_a_fact_that_is_fresh_is_used_again() -> None:
    finished = Driver(with_fact(within_ms=60_000), {"order": ORDER, "note": "ok"}).start({}).run()
    assert len(finished.calls("order")) == 1
    assert finished.path == ["a", "b", "yes"]


def test_a_fact_that_cannot_be_read_denies() -> None:
    finished = Driver(with_fact(), {"order": Fails("Unavailable"), "note": "ok"}).start({}).run()
    assert finished.path == ["a", "no"]


def test_facts_that_no_rule_asks_for_are_not_read() -> None:
    fact = d.Rule(kind="fact", name="o", call=d.ToolCallDef(tool="order", args={"id": var("args", "id")}))
    states = (state("a", d.Call(tool="note", args={"id": s("7")}), always("yes")), final("yes"))
    definition = program(*states, tools=TOOLS, records=RECORDS, rules=(EVERYTHING, fact))
    finished = Driver(definition, {"note": "ok"}).start({}).run()
    assert not finished.calls("order")


# ---- alone


def test_a_call_of_any_agent_can_be_decided_after_its_history() -> None:
    definition = with_rules(EVERYTHING, rule("never", "note", after=tools("page")), rule("require_ask", "pay", ask="a"))
    page = {"tool": "page", "args": {"id": "1"}, "result": "text"}
    decision = decide_call(definition, [page], {"tool": "note", "args": {"id": "1"}})
    assert (decision.verdict, decision.rules) == ("denied", (1,))
    assert decision.reason == "`note` must not be called after `page`"
    assert decide_call(definition, [], {"tool": "pay", "args": PAY}).verdict == "needs_approval"
    assert decide_call(definition, [], {"tool": "pay", "args": PAY, "approved": True}).verdict == "allowed"


def test_conditions_may_name_the_principal_and_variables() -> None:
    boss = ["in", s("boss"), var("principal", "roles")]
    definition = with_rules(
        allow("note", when=["&&", boss, var("open")]), vars=(d.VarDef(name="open", type=BOOL),), inputs=fields(n=INT)
    )
    asked = Fence(definition, principal={"id": "ann", "roles": ["boss"]}, variables={"open": True})
    assert asked.decide("note", {"id": "1"}).verdict == "allowed"
    assert Fence(definition, variables={"open": True}).decide("note", {"id": "1"}).verdict == "denied"


def test_an_approved_call_keeps_where_its_arguments_came_from() -> None:
    """The decision at the call sees the same provenance as the one at the question."""
    first = d.Ask(role="boss", text=text("To whom?"), options=options("done"), form=fields(to=STRING), bind="who")
    ask = d.Ask(
        role="boss",
        text=text("Pay?"),
        options=options("!yes"),
        bind="a",
        call=d.ToolCallDef(tool="pay", args={"to": var("who", "to"), "amount": usd("1.00")}),
    )
    states = (
        state("first", first, on_option("done", "ask")),
        state("ask", ask, on_option("yes", "pay"), on("denied", "no")),
        state("pay", d.CallApproved(tool="pay", asks=("ask",)), on("denied", "no"), always("yes")),
        final("yes"),
        final("no"),
    )
    rules = (allow("pay"), rule("forbid", "pay", when=["!", ["attested", var("args", "to")]]))
    definition = program(*states, tools=TOOLS, records=RECORDS, rules=rules)
    waiting = Driver(definition, {"pay": "ok"}).start({}).run()
    assert waiting.answer("done", {"to": "x"}).answer("yes").path == ["first", "ask", "pay", "yes"]
    fixed = definition.agent.body.states[1].model_copy(
        update={
            "action": ask.model_copy(
                update={"call": d.ToolCallDef(tool="pay", args={"to": s("x"), "amount": usd("1.00")})}
            )
        }
    )
    body = definition.agent.body.model_copy(update={"states": (states[0], fixed, *states[2:])})
    agent = definition.agent.model_copy(update={"body": body})
    other = definition.model_copy(update={"agents": {"a": agent}})
    waiting = Driver(other, {"pay": "ok"}).start({}).run()
    assert waiting.answer("done", {"to": "x"}).path == ["first", "ask", "no"]


def test_the_latest_of_several_approvals_is_used_first_whatever_the_questions_are_called() -> None:
    ask = d.Ask(
        role="boss",
        text=text("Pay?"),
        options=options("!yes"),
        bind="a",
        call=d.ToolCallDef(tool="pay", args={"to": var("to"), "amount": usd("1.00")}),
    )
    grow = (set_("to", ["+", var("to"), s("x")]),)
    states = (
        state("ask", ask, on_option("yes", "ask", limit=9, limit_to="pay", sets=grow)),
        state("pay", d.CallApproved(tool="pay", asks=("ask",)), always("end")),
        final("end"),
    )
    start = d.VarDef(name="to", type=STRING, init=s("x"))
    definition = program(*states, tools=TOOLS, records=RECORDS, rules=(allow("pay"),), vars=(start,))
    waiting = Driver(definition, {"pay": "ok"}).start({}).run()
    for _ in range(10):
        waiting.answer("yes")
    assert waiting.calls("pay")[0].args["to"] == "x" * 10
    assert len([g for g in waiting.state.grants.values() if g.used_by is None]) == 9
