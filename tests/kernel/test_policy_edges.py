"""The policy at its edges: what a decision says, facts that rules need, limits, approvals, agents within agents."""

from __future__ import annotations

from typing import Any

import pytest

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.policy import Fence
from tests.kernel.build import allow, always, final, i, program, state, tools, var, writes
from tests.kernel.driver import Fails
from tests.kernel.source import begun, compiled, only, went

TOOLS = """
record Order { id: string  status: string }
tool order(id: string) -> Order { effect reads  timeout 5s }
tool other(id: string) -> Order { effect reads  timeout 5s }
tool score(q: string) -> int { effect reads  timeout 5s }
tool look(q: string) -> string { effect reads  timeout 5s }
tool ship(id: string) -> string { effect writes  timeout 5s }
tool pay(id: string, amount: money) -> string { effect irreversible  timeout 5s }
"""


def fence(rules: str, principal: dict[str, Any] | None = None) -> Fence:
    text = f"""{TOOLS} agent a version 1 {{
      policy {{ {rules} }}
      start s {{ -> done }}
      final done {{}}
    }}"""
    return Fence(compiled(text.replace("start s", "start state s")), principal=principal)


def agent(body: str, rules: str, *, name: str = "a", head: str = "on error any -> bad  on denied -> no") -> str:
    policy = f"policy {{ {rules} }}" if rules else ""
    return f"""agent {name} version 1 {{
      output r: string
      budget {{ steps 40  exceeded -> bad }}
      {policy}
      {head}
      start {body}
      final done {{ r = "done" }}  final no {{ r = "no" }}  failed bad {{ r = "bad" }}
    }}
    """


ORDER = {"id": "1", "status": "paid"}
SHIP = {"id": "1"}

# ---- what a decision says


def test_a_decision_says_what_it_read_and_when() -> None:
    run = begun(
        TOOLS
        + agent(
            'state s { call ship("1")  -> done }',
            'allow ship  fact o = order(id = args.id)  forbid ship when o.status == "gone"',
        )
    )
    run.land("order(1)", ORDER)
    decision = only(run, "intent")["decision"]
    assert decision["facts"] == {"o": {"args": {"id": "1"}, "at_ms": 1_000_000}}
    assert "limits" not in decision
    assert "outer" not in decision


def test_a_plain_decision_says_by_which_rules_and_no_more() -> None:
    run = begun(TOOLS + agent('state s { call ship("1")  -> done }', "allow look  allow ship"))
    assert only(run, "intent")["decision"] == {"rules": [1]}


def test_the_decision_on_a_childs_call_says_what_every_policy_around_it_said() -> None:
    run = begun(
        TOOLS
        + agent("state s { run kid()  -> done }", "allow look  allow ship")
        + agent('state s { call ship("1")  -> done }', "allow ship", name="kid")
    )
    decision = only(run, "intent")["decision"]
    assert decision["rules"] == [0]
    assert [(outer["home"], outer["agent"], outer["rules"]) for outer in decision["outer"]] == [("", "a", [1])]


# ---- reads that are required


@pytest.mark.parametrize(
    ("read", "verdict"),
    [(None, "denied"), ("paid", "allowed"), ("open", "denied")],
)
def test_what_must_be_read_first_must_also_be_as_the_rule_says(read: str | None, verdict: str) -> None:
    guard = fence('allow ship  require order(id = args.id) as o before ship when o.result.status == "paid"')
    if read is not None:
        guard.record("order", SHIP, result={"id": "1", "status": read})
    assert guard.decide("ship", SHIP).verdict == verdict


@pytest.mark.parametrize(("id", "verdict"), [("big", "denied"), ("small", "allowed")])
def test_a_condition_that_does_not_ask_what_was_read_says_whether_the_read_is_required(id: str, verdict: str) -> None:
    """Before the read the condition says whether it is needed; after it, there is nothing more to require."""
    required = fence('allow ship  require order(id = args.id) before ship when args.id == "big"')
    assert required.decide("ship", {"id": id}).verdict == verdict
    required.record("order", {"id": id}, result=ORDER)
    assert required.decide("ship", {"id": id}).verdict == "allowed"


@pytest.mark.parametrize(("id", "verdict"), [("big", "denied"), ("small", "allowed")])
def test_one_of_several_reads_is_required_only_while_its_condition_holds(id: str, verdict: str) -> None:
    required = fence('allow ship, look  require any of order, other before ship when args.id == "big"')
    required.record("look", {"q": "x"}, result="v")  # another read is none of them
    assert required.decide("ship", {"id": id}).verdict == verdict
    required.record("other", {"id": "whatever"}, result=ORDER)
    assert required.decide("ship", {"id": id}).verdict == "allowed"


@pytest.mark.parametrize(("status", "verdict"), [(None, "denied"), ("paid", "allowed"), ("open", "denied")])
def test_the_first_of_several_reads_must_be_as_the_rule_says(status: str | None, verdict: str) -> None:
    guard = fence('allow ship  require any of order, other as o before ship when o.result.status == "paid"')
    if status is not None:
        guard.record("other", SHIP, result={"id": "1", "status": status})
    assert guard.decide("ship", SHIP).verdict == verdict


def test_nothing_after_it_is_denied_only_while_the_condition_holds() -> None:
    guard = fence('allow ship, look  never ship after look when args.id == "secret"')
    guard.record("look", {"q": "x"}, result="v")
    assert guard.decide("ship", {"id": "secret"}).verdict == "denied"
    assert guard.decide("ship", {"id": "open"}).verdict == "allowed"


# ---- limits


def limited(amount: Any, bound: Any) -> Fence:
    more = d.LimitDef(tools=tools("t"), amount=var("args", "x"), bound=bound)
    tool = writes(params={"x": d.Scalar(kind="any")})
    states = (state("s", None, always("e")), final("e"))
    definition = program(*states, tools={"t": tool}, rules=(allow("t"), d.Rule(kind="limit", limit=more)))
    return Fence(definition)


@pytest.mark.parametrize(
    ("amount", "bound", "verdict"),
    [
        (0, i(5), "allowed"),
        (5, i(5), "allowed"),
        (6, i(5), "denied"),
        (-1, i(5), "denied"),
        (True, i(5), "denied"),
        ("5", i(5), "denied"),
        (None, i(5), "denied"),
    ],
)
def test_a_limit_counts_numbers_up_to_its_bound_and_nothing_else(amount: Any, bound: Any, verdict: str) -> None:
    assert limited(amount, bound).decide("t", {"x": amount}).verdict == verdict


def test_a_limit_in_one_currency_does_not_count_another() -> None:
    guard = fence('allow pay without approval because "t"  limit pay total args.amount <= $10')
    assert guard.decide("pay", {"id": "1", "amount": "9.00 USD"}).verdict == "allowed"
    assert guard.decide("pay", {"id": "1", "amount": "9.00 EUR"}).verdict == "denied"


def test_a_limit_without_a_value_denies() -> None:
    rule = d.Rule(kind="limit", limit=d.LimitDef(tools=tools("t"), count=9, per=(["/", i(1), i(0)],)))
    states = (state("s", None, always("e")), final("e"))
    guard = Fence(program(*states, tools={"t": writes()}, rules=(allow("t"), rule)))
    decision = guard.decide("t", {})
    assert (decision.verdict, decision.rules) == ("denied", (1,))


def test_a_limit_may_be_a_fact() -> None:
    rules = "allow ship  fact most = score(q = args.id)  limit ship total size(args.id) <= most"
    guard = fence(rules)
    assert guard.decide("ship", {"id": "abc"}, facts={"most": 3}).verdict == "allowed"
    assert fence(rules).decide("ship", {"id": "abcd"}, facts={"most": 3}).verdict == "denied"
    assert fence(rules).decide("ship", {"id": "abc"}).verdict == "denied"  # nobody knows how many


def test_a_limit_may_count_per_fact() -> None:
    guard = fence("allow ship  fact o = order(id = args.id)  limit ship 1 calls per o.status")

    def decide(status: str) -> str:
        return guard.decide("ship", SHIP, facts={"o": {"id": "1", "status": status}}).verdict

    assert (decide("a"), decide("b")) == ("allowed", "allowed")


# ---- facts


def test_a_fact_may_be_needed_only_for_what_has_to_be_read_first() -> None:
    guard = fence("allow ship  fact o = order(id = args.id)  require look(q = o.status) before ship")
    guard.record("look", {"q": "paid"}, result="v")
    assert guard.decide("ship", SHIP, facts={"o": ORDER}).verdict == "allowed"
    assert guard.decide("ship", SHIP, facts={"o": {"id": "1", "status": "open"}}).verdict == "denied"


def test_a_fact_is_not_read_for_one_that_is_for_other_calls() -> None:
    asked: list[str] = []

    def read(tool: str, args: dict[str, Any]) -> Any:
        asked.append(tool)
        return 1

    rules = (
        "allow ship, pay  fact one = score(q = args.id)  fact two = score(q = string(one)) for pay"
        "  forbid ship when two > 5"
    )
    assert fence(rules).decide("ship", SHIP, read=read).verdict == "denied"
    assert asked == []


def test_a_fact_is_not_read_for_the_limit_of_another_tool() -> None:
    asked: list[str] = []

    def read(tool: str, args: dict[str, Any]) -> Any:
        asked.append(tool)
        return 1

    guard = fence('allow ship, look  fact most = score(q = "m")  limit ship total 1 <= most')
    assert guard.decide("look", {"q": "x"}, read=read).verdict == "allowed"
    assert asked == []
    assert guard.decide("ship", SHIP, read=read).verdict == "allowed"
    assert asked == ["score"]


def test_a_fact_that_cannot_be_asked_for_does_not_hide_the_next_one() -> None:
    rules = """allow ship
      fact first = score(q = string(1 / size(args.id)))  fact o = order(id = args.id)
      forbid ship when o.status == "gone" && !(first > 3)"""
    guard = fence(rules)
    assert guard.decide("ship", {"id": ""}, facts={"o": ORDER}).verdict == "allowed"
    assert guard.decide("ship", {"id": ""}, facts={"o": {"id": "", "status": "gone"}}).verdict == "denied"


def test_a_fact_that_could_not_be_read_is_read_again_for_the_next_call() -> None:
    rules = "allow ship  fact risk = score(q = args.id) within 10m  forbid ship when risk > 5"
    run = begun(
        TOOLS + agent('state s { call ship("1")  on denied -> t  -> done }  state t { call ship("1")  -> done }', rules)
    )
    run.land("score(1)", Fails("Unavailable"))
    assert run.flights == ["score(1)"]  # for the second call: an error is no value to keep
    run.land("score(1)", 1)
    assert run.flights == ["ship(1)"]


@pytest.mark.parametrize(("wait", "flights"), [("10m", ["ship(2)"]), ("601s", ["score(x)"])])
def test_a_fact_is_fresh_up_to_its_time(wait: str, flights: list[str]) -> None:
    rules = 'allow ship  fact risk = score(q = "x") within 10m  forbid ship when risk > 5'
    body = f'state s {{ call ship("1")  -> w }}  state w {{ wait {wait}  -> t }}  state t {{ call ship("2")  -> done }}'
    run = begun(TOOLS + agent(body, rules)).land("score(x)", 1).land("ship(1)", "v")
    run.at(1_000_000 + (600_000 if wait == "10m" else 601_000))
    assert run.flights == flights


def test_agents_may_have_facts_of_one_name() -> None:
    """Each is read by the agent whose rule it is, and neither stands for the other."""
    run = begun(
        TOOLS
        + agent("state s { run kid()  -> done }", "allow ship  fact f = score(q = args.id)  forbid ship when f > 5")
        + agent(
            'state s { call ship("1")  -> done }',
            'allow ship  fact f = look(q = args.id)  forbid ship when f == "no"',
            name="kid",
        )
    )
    seen = []
    while run.flights and run.flights != ["ship(1)"]:
        (flight,) = run.flights
        seen.append(flight)
        run.land(flight, 1 if flight.startswith("score") else "yes")
    assert sorted(seen) == ["look(1)", "score(1)"]
    assert run.flights == ["ship(1)"]
    assert len({body["key"] for body in run.events("fact")}) == 2


def test_a_fact_of_the_agent_around_can_deny_a_call_of_a_child() -> None:
    run = begun(
        TOOLS
        + agent(
            "state s { run kid() as k  on error ChildFailed -> bad  -> done }",
            "allow ship  fact f = score(q = args.id)  forbid ship when f > 5",
        )
        + agent('state s { call ship("1")  -> done }', "allow ship", name="kid")
    )
    run.land("score(1)", 9)
    assert only(run, "denied")["tool"] == "ship"
    assert run.calls("ship") == []


# ---- approvals


@pytest.mark.parametrize(
    ("approvals", "verdict"),
    [
        ([], "needs_approval"),
        ([{"by": "ann", "roles": ["boss"]}], "needs_approval"),
        ([{"by": "ann", "roles": ["boss"]}, {"by": "ann", "roles": ["boss"]}], "needs_approval"),
        ([{"by": "ann", "roles": ["boss"]}, {"by": "ben", "roles": ["clerk"]}], "needs_approval"),
        ([{"by": "ann", "roles": ["boss"]}, {"by": "eve", "roles": ["boss"]}], "needs_approval"),
        ([{"by": "ann", "roles": ["boss"]}, {"by": "ben", "roles": ["boss"]}], "allowed"),
    ],
)
def test_only_people_of_the_role_count_each_once_and_not_who_started_it(
    approvals: list[dict[str, Any]], verdict: str
) -> None:
    rule = d.Rule(kind="require_people", tools=tools("t"), count=2, role="boss", excluding="principal")
    states = (state("s", None, always("e")), final("e"))
    definition = program(*states, tools={"t": writes()}, rules=(allow("t"), rule))
    guard = Fence(definition, principal={"id": "eve", "roles": ["boss"]})
    assert guard.decide("t", {}, approvals=approvals).verdict == verdict


@pytest.mark.parametrize(("by", "verdict"), [("eve", "allowed"), ("ann", "allowed")])
def test_where_a_rule_names_no_role_anybody_counts(by: str, verdict: str) -> None:
    rule = d.Rule(kind="require_people", tools=tools("t"), count=1)
    states = (state("s", None, always("e")), final("e"))
    definition = program(*states, tools={"t": writes()}, rules=(allow("t"), rule))
    guard = Fence(definition, principal={"id": "eve", "roles": []})
    assert guard.decide("t", {}).verdict == "needs_approval"
    assert guard.decide("t", {}, approvals=[{"by": by}]).verdict == verdict


def test_every_need_is_named_by_its_rule_in_the_order_of_the_policy() -> None:
    first = d.Rule(kind="require_people", tools=tools("t"), count=2, role="boss")
    second = d.Rule(kind="require_ask", tools=tools("t"), ask="sign")
    states = (state("s", None, always("e")), final("e"))
    decision = Fence(program(*states, tools={"t": writes()}, rules=(allow("t"), first, second))).decide("t", {})
    assert (decision.verdict, decision.rules) == ("needs_approval", (1, 2))
    assert [sorted(need) for need in decision.needs] == [["excluding", "people", "role"], ["ask"]]


def test_an_approval_that_the_agent_around_wants_cannot_be_had_in_a_child() -> None:
    text = (
        TOOLS
        + agent(
            "state s { run kid() as k  on error ChildFailed -> bad  -> done }", "allow pay", head="on error any -> bad"
        )
        + agent('state s { call pay("1", $5)  -> done }', 'allow pay without approval because "small"', name="kid")
    )
    run = went(text, {"pay": "v"})
    assert run.calls("pay") == []
    assert only(run, "denied")["decision"]["result"] == "denied"


def test_an_agent_without_a_policy_allows_what_those_around_it_allow() -> None:
    text = (
        TOOLS
        + agent("state s { run kid() as k  -> done }", "allow ship")
        + agent('state s { call ship("1")  -> done }', "allow ship, look", name="kid")
    )
    assert len(went(text, {"ship": "v"}).calls("ship")) == 1


def test_the_policy_of_every_agent_around_binds_an_inner_call() -> None:
    """The middle one allows it, and so does the inner one: the outer one has the last word."""
    text = (
        TOOLS
        + agent("state s { run middle() as k  on error ChildFailed -> bad  -> done }", 'allow ship when args.id == "9"')
        + agent("state s { run inner() as k  on error ChildFailed -> bad  -> done }", "allow ship", name="middle")
        + agent('state s { call ship("1")  -> done }', "allow ship", name="inner")
    )
    assert went(text, {"ship": "v"}).calls("ship") == []
    allowed = text.replace('allow ship when args.id == "9"', "allow ship")
    run = went(allowed, {"ship": "v"})
    assert len(run.calls("ship")) == 1
    assert [outer["agent"] for outer in only(run, "intent")["decision"]["outer"]] == ["middle", "a"]


def test_a_limit_of_the_agent_around_counts_the_calls_of_its_children() -> None:
    text = (
        TOOLS
        + agent(
            "state s { run kid()  -> t }  state t { run kid()  on error ChildFailed -> bad  -> done }",
            "allow ship  limit ship 1 calls",
        )
        + agent('state s { call ship("1")  -> done }', "allow ship", name="kid")
    )
    run = went(text, {"ship": "v"})
    assert len(run.calls("ship")) == 1
    assert len(run.events("denied")) == 1
