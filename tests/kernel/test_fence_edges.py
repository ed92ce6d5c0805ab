"""The policy beside any agent framework: what it is told, what it asks for, and what it counts as the same."""

from __future__ import annotations

from typing import Any

import pytest

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.policy import Fence, Ledger, decide_call
from tests.kernel.build import (
    INT,
    STRING,
    allow,
    always,
    fields,
    final,
    i,
    program,
    reads,
    s,
    state,
    tools,
    var,
    writes,
)

ANY = d.Scalar(kind="any")
TOOLS = {
    "look": reads(result=STRING, params={"x": ANY}),
    "score": reads(result=INT, params={"x": ANY}),
    "free": reads(result=None, params={"x": ANY}),
    "act": writes(params={"x": ANY}),
}
CALL = d.ToolCallDef


def fence(*rules: d.Rule, now_ms: int = 0, **more: Any) -> Fence:
    states = (state("s", None, always("e")), final("e"))
    definition = program(*states, tools=TOOLS, rules=(allow("act"), *rules), inputs=fields(most=INT))
    return Fence(definition, now_ms=now_ms, **more)


def rule(kind: Any, *names: str, **more: Any) -> d.Rule:
    return d.Rule(kind=kind, tools=tools(*names) if names else None, **more)


SAME = rule("require_read", "act", call=CALL(tool="look", args={"x": var("args", "x")}))

# ---- what is the same


@pytest.mark.parametrize(
    ("read", "called", "verdict"),
    [
        (1, 1, "allowed"),
        (1, 2, "denied"),
        ("1", 1, "denied"),
        (["a", ["b"]], ["a", ["b"]], "allowed"),
        (["a", ["b"]], ["a", ["c"]], "denied"),
        ({"k": [1]}, {"k": [1]}, "allowed"),
        ({"k": [1]}, {"k": [2]}, "denied"),
        (None, None, "allowed"),
        (None, "", "denied"),
    ],
)
def test_a_read_counts_for_the_same_values_and_for_no_others(read: Any, called: Any, verdict: str) -> None:
    guard = fence(SAME)
    guard.record("look", {"x": read}, result="v")
    assert guard.decide("act", {"x": called}).verdict == verdict


@pytest.mark.parametrize(("read", "called"), [("1.5", "1.50"), ("0", "0.00"), ("100", "1e2")])
def test_decimals_are_the_same_however_they_are_written(read: str, called: str) -> None:
    tools_ = {name: reads(result=STRING, params={"x": d.Scalar(kind="decimal")}) for name in ("look", "act")}
    states = (state("s", None, always("e")), final("e"))
    guard = Fence(program(*states, tools=tools_, rules=(allow("act"), SAME)))
    guard.record("look", {"x": read}, result="v")
    assert guard.decide("act", {"x": called}).verdict == "allowed"
    assert guard.decide("act", {"x": "9"}).verdict == "denied"


def test_a_read_that_failed_or_was_of_another_tool_does_not_count() -> None:
    guard = fence(SAME)
    guard.record("look", {"x": 1}, ok=False)
    guard.record("score", {"x": 1}, result=3)
    assert guard.decide("act", {"x": 1}).verdict == "denied"
    guard.record("look", {"x": 1}, result="v")
    assert guard.decide("act", {"x": 1}).verdict == "allowed"


@pytest.mark.parametrize(
    ("kind", "verdicts"),
    [
        ("attempted", ["denied", "allowed", "allowed"]),
        ("failed", ["denied", "allowed", "allowed"]),
        ("succeeded", ["denied", "denied", "allowed"]),
    ],
)
def test_conditions_count_attempts_failures_and_successes_apart(kind: str, verdicts: list[str]) -> None:
    states = (state("s", None, always("e")), final("e"))
    when = [">", ["history", kind, "look", {}], i(0)]
    guard = Fence(program(*states, tools=TOOLS, rules=(d.Rule(kind="allow", tools=tools("act"), when=when),)))
    seen = [guard.decide("act", {"x": 1}).verdict]
    guard.record("look", {"x": 1}, ok=False)
    seen.append(guard.decide("act", {"x": 1}).verdict)
    guard.record("look", {"x": 1}, result="v")
    seen.append(guard.decide("act", {"x": 1}).verdict)
    assert seen == verdicts


# ---- facts

RISK = rule("fact", "act", name="risk", call=CALL(tool="score", args={"x": var("args", "x")}))
NO_RISK = rule("forbid", "act", when=[">", var("risk"), i(5)])


@pytest.mark.parametrize(
    ("given", "verdict"),
    [({"risk": 3}, "allowed"), ({"risk": 9}, "denied"), ({}, "denied"), ({"risk": "high"}, "denied")],
)
def test_a_fact_may_be_given_and_one_that_is_not_or_does_not_fit_denies(given: dict[str, Any], verdict: str) -> None:
    assert fence(RISK, NO_RISK).decide("act", {"x": 1}, facts=given).verdict == verdict


@pytest.mark.parametrize(("value", "verdict"), [(3, "allowed"), (9, "denied"), ("high", "denied"), (None, "denied")])
def test_a_fact_may_be_read_by_whoever_asks(value: Any, verdict: str) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def read(tool: str, args: dict[str, Any]) -> Any:
        asked.append((tool, args))
        return value

    assert fence(RISK, NO_RISK).decide("act", {"x": 7}, read=read).verdict == verdict
    assert asked == [("score", {"x": 7})]


def test_a_fact_that_is_given_is_not_read() -> None:
    def read(tool: str, args: dict[str, Any]) -> Any:
        raise AssertionError(f"{tool} is read")

    assert fence(RISK, NO_RISK).decide("act", {"x": 7}, facts={"risk": 1}, read=read).verdict == "allowed"


# ---- limits and time


def limit(window_ms: int | None) -> d.Rule:
    return d.Rule(kind="limit", limit=d.LimitDef(tools=tools("act"), count=2, window_ms=window_ms))


@pytest.mark.parametrize(("at_ms", "verdict"), [(999, "denied"), (1000, "allowed"), (1001, "allowed")])
def test_a_call_leaves_the_window_exactly_when_it_is_over(at_ms: int, verdict: str) -> None:
    guard = fence(limit(1000))
    guard.record("act", {"x": 1}, at_ms=0)
    guard.record("act", {"x": 1}, at_ms=500)
    assert guard.decide("act", {"x": 1}, at_ms=at_ms).verdict == verdict


def test_calls_that_left_the_window_do_not_come_back() -> None:
    guard = fence(limit(1000))
    for at_ms in (0, 1000, 2000):
        guard.record("act", {"x": 1}, at_ms=at_ms)
        assert guard.decide("act", {"x": 1}).verdict == "allowed"
    guard.record("act", {"x": 1}, at_ms=2500)
    assert guard.decide("act", {"x": 1}).verdict == "denied"
    assert guard.decide("act", {"x": 1}, at_ms=3000).verdict == "allowed"


def test_a_limit_without_a_window_counts_for_ever() -> None:
    guard = fence(limit(None))
    guard.record("act", {"x": 1}, at_ms=0)
    guard.record("act", {"x": 1}, ok=False, at_ms=10**12)
    assert guard.decide("act", {"x": 1}, at_ms=10**13).verdict == "denied"


def test_time_never_goes_back() -> None:
    guard = fence(limit(1000), now_ms=5000)
    guard.record("act", {"x": 1})
    guard.record("act", {"x": 1}, at_ms=0)
    assert guard.decide("act", {"x": 1}, at_ms=5500).verdict == "denied"
    assert guard.decide("act", {"x": 1}, at_ms=0).verdict == "denied"
    assert guard.decide("act", {"x": 1}, at_ms=6000).verdict == "allowed"


# ---- what does not fit


@pytest.mark.parametrize("args", [{}, {"x": 1, "y": 2}, {"y": 2}])
def test_arguments_that_the_tool_does_not_take_are_denied(args: dict[str, Any]) -> None:
    guard = fence()
    assert guard.decide("act", {"x": 1}).verdict == "allowed"
    if args:
        assert guard.decide("act", args).verdict == "denied"


def test_a_call_that_was_made_with_arguments_that_do_not_fit_is_counted_all_the_same() -> None:
    """A log may hold what this program would never send."""
    never = rule("never", "act", after=tools("look"))
    guard = fence(never)
    guard.record("look", {"unknown": 1}, result="v")
    assert guard.decide("act", {"x": 1}).verdict == "denied"


def test_a_result_that_does_not_fit_its_type_is_kept_as_it_is() -> None:
    bound = d.Rule(
        kind="require_any",
        reads=tools("score", "free"),
        bind="r",
        tools=tools("act"),
        when=["==", var("r", "result"), s("hidden")],
    )
    guard = fence(bound)
    guard.record("score", {"x": 1}, result="hidden")
    assert guard.decide("act", {"x": 1}).verdict == "allowed"
    guard = fence(bound)
    guard.record("free", {"x": 1}, result="hidden")
    assert guard.decide("act", {"x": 1}).verdict == "allowed"


def test_variables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(JamError) as refused:
        fence(variables={"most": "many"})
    assert refused.value.code == "JAMR301"


def test_a_history_may_leave_out_that_a_call_went_well() -> None:
    states = (state("s", None, always("e")), final("e"))
    definition = program(*states, tools=TOOLS, rules=(allow("act"), SAME))
    look = {"tool": "look", "args": {"x": 1}, "result": "v"}
    call = {"tool": "act", "args": {"x": 1}}
    assert decide_call(definition, [look], call).verdict == "allowed"
    assert decide_call(definition, [{**look, "ok": False}], call).verdict == "denied"
    assert decide_call(definition, [], call).verdict == "denied"


def test_an_approval_of_another_ask_is_none() -> None:
    guard = fence(rule("require_ask", "act", ask="sign"))
    assert guard.decide("act", {"x": 1}, approvals=[{"by": "ann"}]).verdict == "needs_approval"
    assert guard.decide("act", {"x": 1}, approvals=[{"ask": "other", "by": "ann"}]).verdict == "needs_approval"
    assert guard.decide("act", {"x": 1}, approvals=[{"ask": "sign", "by": "ann"}]).verdict == "allowed"


# ---- limits


def limited(**more: Any) -> d.Rule:
    return d.Rule(kind="limit", limit=d.LimitDef(tools=tools("act"), **more))


def test_fences_with_one_ledger_share_what_is_limited_per_principal() -> None:
    ledger, once = Ledger(), limited(count=1, principal=True, window_ms=1000)
    ann, again, bo = (fence(once, ledger=ledger, principal={"id": who}) for who in ("ann", "ann", "bo"))
    ann.record("act", {"x": 1}, at_ms=5)
    assert again.decide("act", {"x": 1}, at_ms=4).verdict == "allowed"  # it had not been made then
    assert again.decide("act", {"x": 1}, at_ms=5).reason.endswith("used up by all runs of the principal")
    assert again.decide("act", {"x": 1}, at_ms=1004).verdict == "denied"
    assert again.decide("act", {"x": 1}, at_ms=1005).verdict == "allowed"
    assert bo.decide("act", {"x": 1}, at_ms=5).verdict == "allowed"
    assert (
        ann.decide("act", {"x": 1}, at_ms=5).reason == "all 1 calls of `act` are used up by all runs of the principal"
    )
    assert fence(once, principal={"id": "ann"}).decide("act", {"x": 1}, at_ms=5).verdict == "allowed"


def test_a_call_counts_under_a_limit_as_it_was_decided_though_that_reads_a_fact() -> None:
    known = d.Rule(kind="fact", name="score", call=CALL(tool="score", args={"x": var("args", "x")}))
    per_score = limited(count=1, per=(var("score"),))
    desk = fence(known, per_score)
    assert desk.decide("act", {"x": 1}, facts={"score": 7}).verdict == "allowed"
    desk.record("act", {"x": 1})
    assert desk.decide("act", {"x": 2}, facts={"score": 7}).verdict == "denied"
    assert desk.decide("act", {"x": 2}, facts={"score": 8}).verdict == "allowed"


# ---- what is malformed

OUTSIDE = d.Rule(kind="forbid", tools=tools("act"), when=["untrusted", var("args", "x")])
TOLD = d.Rule(kind="forbid", tools=tools("act"), when=["!", ["attested", var("args", "x")]])
PEOPLE = d.Rule(kind="require_people", tools=tools("act"), count=2, role="boss")
ACT: dict[str, Any] = {"tool": "act", "args": {"x": 1}}


def decided(*rules: d.Rule, history: Any = (), **call: Any) -> str:
    return decide_call(fence(*rules).program.defn, history, {**ACT, **call}).verdict


def test_one_call_says_where_its_arguments_came_from_and_who_approved_it() -> None:
    assert [decided(OUTSIDE), decided(OUTSIDE, untrusted=["x"])] == ["allowed", "denied"]
    assert [decided(TOLD), decided(TOLD, attested=["x"])] == ["denied", "allowed"]
    given = [{"by": by, "roles": ["boss"]} for by in ("ann", "bob")]
    assert [decided(PEOPLE, approvals=given[:n]) for n in range(3)] == ["needs_approval", "needs_approval", "allowed"]
    assert decided(PEOPLE, approved=True) == "allowed"


@pytest.mark.parametrize(
    "call",
    [
        {},
        {"tool": "act"},
        {"args": {"x": 1}},
        {"tool": 5, "args": {}},
        {"tool": ["act"], "args": {}},
        {"tool": "none", "args": {}},
        {**ACT, "untrsuted": ["x"]},
        {**ACT, "untrusted": "x"},
        {**ACT, "untrusted": ["y"]},
        {**ACT, "attested": [1]},
        {**ACT, "approved": "no"},
        {**ACT, "approvals": {"by": "ann"}},
        {**ACT, "approvals": ["ann"]},
        {**ACT, "approvals": [{"by": 7}]},
        {**ACT, "approvals": [{"by": "ann", "roles": "boss"}]},
        {**ACT, "approvals": [{"by": "ann", "role": "boss"}]},
        None,
        "act",
        ["act", {}],
    ],
)
def test_what_is_no_call_is_refused(call: Any) -> None:
    definition = fence().program.defn
    with pytest.raises(JamError) as caught:
        decide_call(definition, [], call)
    assert caught.value.code == "JAMR006"


@pytest.mark.parametrize("args", [None, [1], "x", 5, {5: 1}, {"x": object()}, {}])
def test_arguments_that_are_none_are_denied(args: Any) -> None:
    assert decide_call(fence().program.defn, [], {"tool": "act", "args": args}).verdict == "denied"
    assert fence().decide("act", args).verdict == "denied"


@pytest.mark.parametrize(
    "past",
    [
        *(
            {**ACT, **said}
            for said in ({"ok": "no"}, {"ok": None}, {"at_ms": "noon"}, {"at_ms": True}, {"okay": False})
        ),
        *({"tool": "act"}, {"args": {"x": 1}}, {"tool": "none", "args": {}}, None, "act"),
    ],
)
def test_a_past_call_that_does_not_say_what_it_means_is_refused(past: Any) -> None:
    with pytest.raises(JamError) as caught:
        decide_call(fence().program.defn, [past], ACT)
    assert caught.value.code == "JAMR006"


def test_what_was_decided_and_made_may_be_told_as_it_was() -> None:
    past = {**ACT, "approved": True, "untrusted": ["x"], "ok": True, "result": None, "at_ms": 5}
    assert decided(rule("never", "act", after=tools("act")), history=[past]) == "denied"


def test_a_principal_that_is_none_is_refused() -> None:
    for who in ("ann", ["ann"], 5):
        with pytest.raises(JamError) as caught:
            fence(principal=who)
        assert caught.value.code == "JAMR006"


def capped(*per: Any, amount: Any = None) -> d.Rule:
    bound = {} if amount is None else {"amount": amount, "bound": i(9)}
    count = 1 if amount is None else None
    return d.Rule(kind="limit", limit=d.LimitDef(tools=tools("act"), count=count, per=per, **bound))


@pytest.mark.parametrize("args", [{}, {"x": 1, "y": 2}, {"x": object()}, None])
def test_a_call_whose_arguments_do_not_fit_counts_under_a_limit_that_does_not_ask_for_them(args: Any) -> None:
    guard = fence(capped())
    guard.record("act", args)
    assert guard.decide("act", {"x": 1}).verdict == "denied"


def test_one_that_a_limit_cannot_count_is_refused_and_everything_else_counts_it() -> None:
    for rule_ in (capped(var("args", "x")), capped(amount=var("args", "x"))):
        guard = fence(rule_, rule("never", "act", after=tools("act")))
        with pytest.raises(JamError) as caught:
            guard.record("act", {"y": 1})
        assert caught.value.code == "JAMR301"
        assert caught.value.details == ("x: is missing", "y: `act` has no such parameter")
        assert "must not be called after `act`" in guard.decide("act", {"x": 1}).reason
    guard = fence(capped(var("args", "x")))
    guard.record("act", {"x": 1, "y": 1})
    assert [guard.decide("act", {"x": x}).verdict for x in (1, 2)] == ["denied", "allowed"]


# ---- numbers that are one group


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (0.0, -0.0, True),
        (0, -0.0, True),
        (1, 1.0, True),
        ([1, {"a": -0.0}], [1.0, {"a": 0}], True),
        (1e300, 1e300, True),
        (2**53 + 1, float(2**53), False),
        (1.5, 1, False),
        (1, "1", False),
        (1.0, "1.0", False),
        (1, True, False),
        (float("inf"), float("-inf"), False),
    ],
)
def test_a_limit_counts_equal_numbers_as_one_whatever_their_type(one: Any, other: Any, same: bool) -> None:
    for capped_by in (capped(var("args", "x")), shared_by(var("args", "x"))):
        guard = fence(capped_by)
        guard.record("act", {"x": one})
        assert guard.decide("act", {"x": other}).verdict == ("denied" if same else "allowed")
        assert guard.decide("act", {"x": one}).verdict == "denied"


def shared_by(*per: Any) -> d.Rule:
    return d.Rule(kind="limit", limit=d.LimitDef(tools=tools("act"), count=1, per=per, principal=True))
