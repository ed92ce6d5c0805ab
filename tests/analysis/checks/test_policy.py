"""Policy and approvals on the flow graph: what is refused, with which path, and what is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.analysis.checks.policy import check_policy
from jamjet_dsl.compiler import analyse_text
from jamjet_dsl.diagnostics.model import Diagnostic

TOOLS = """
tool pay(to: string, amount: int) -> string {
  effect irreversible  key run.id  timeout 5s  confirm paid(run.id)
}
tool paid(run: string) -> string? { effect reads  timeout 5s }
tool look(q: string) -> string untrusted { effect reads  timeout 5s }
tool book(n: int) -> string { effect writes  key run.id  timeout 5s  undo unbook(result) }
tool unbook(id: string) { effect writes  key id  timeout 5s }
"""
AGENT = """
agent a version 1 {{
  input to: string, amount: int
  {head}
  on error any -> stop
  on in_doubt -> stop
  {states}
  final done {{}}
  failed stop {{}}
}}
"""
ASK = """
  state review {
    ask role "officer" to pay(to, amount) "Pay?"  options approve approves, decline, later  timeout 1h  as answer
    on approve -> go
    on decline -> stop
    on later -> look_again limit 2 else stop
    on timeout -> stop
  }
  state look_again { wait 1h  -> review }
  state go { call approved pay  -> done }
"""
ALLOW = "policy { allow pay, paid  require approval review before pay }  on denied -> stop"
WITHOUT_RULE = "policy { allow pay, paid }  on denied -> stop"


def found(head: str, states: str, tools: str = TOOLS) -> list[Diagnostic]:
    result = analyse_text(tools + AGENT.format(head=head, states=states))
    agent = result.analysis.agents[-1]
    problems = [d for d in result.diagnostics if d.code[:4] in ("JAM0", "JAM1", "JAM4") and d.severity == "error"]
    assert not problems, problems
    return list(check_policy(agent, result.analysis))


def brief(diagnostics: list[Diagnostic]) -> list[tuple[str, str]]:
    return [(d.code, d.message) for d in diagnostics]


def way(diagnostic: Diagnostic) -> list[str]:
    return [f"{s.state} {s.edge}".strip() for s in diagnostic.path]


# ---- JAM601, JAM602: the approval comes before the call


@pytest.mark.parametrize("head", [ALLOW, WITHOUT_RULE])
def test_a_call_behind_the_approving_edge_is_accepted(head):
    assert found(head, "start state s { wait 1h  -> review }" + ASK) == []


@pytest.mark.parametrize(
    ("head", "code", "words"),
    [(ALLOW, "JAM602", "the approval of `review`"), (WITHOUT_RULE, "JAM601", "an approval")],
)
@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("on decline -> stop", "on decline -> go", ["s then", "review on decline", "go"]),
        ("on timeout -> stop", "on timeout -> go", ["s then", "review on timeout", "go"]),
        ("wait 1h  -> review }\n  state go", "wait 1h  -> go }\n  state go", None),
        (
            "limit 2 else stop",
            "limit 2 else go",
            ["s then", "review on later, limit used up", "go"],
        ),
    ],
)
def test_a_way_around_the_approving_edge_is_refused_with_the_path(head, code, words, old, new, path):
    assert old in ASK
    (problem,) = found(head, "start state s { wait 1h  -> review }" + ASK.replace(old, new))
    assert (problem.code, problem.message) == (code, f"`pay` can be called without {words}")
    assert way(problem) == (path or ["s then", "review on later", "look_again then", "go"])
    assert problem.agent == "a"


def test_the_shortest_way_around_is_shown():
    states = "start state s { wait 1h  -> t }  state t { when amount > 5 -> review  otherwise -> go }" + ASK
    (problem,) = found(ALLOW, states)
    assert way(problem) == ["s then", "t otherwise", "go"]


def test_an_unguarded_edge_of_the_ask_is_no_approval():
    states = "start state s { wait 1h  -> review }" + ASK.replace("on approve -> go", "-> go")
    assert brief(found(ALLOW, states)) == [("JAM602", "`pay` can be called without the approval of `review`")]


def test_a_missing_edge_for_the_approval_is_shown_with_the_way_to_the_question():
    states = "start state s { wait 1h  -> review }" + ASK.replace("on approve -> go", "")
    (problem,) = found(ALLOW, states)
    assert problem.code == "JAM602"
    assert way(problem) == ["s then", "review on approve (no edge)"]


def test_an_approved_call_must_be_the_call_that_was_shown():
    states = "start state s { wait 1h  -> review }" + ASK.replace("call approved pay", "call pay(to, amount)")
    for head, code in ((ALLOW, "JAM602"), (WITHOUT_RULE, "JAM601")):
        (problem,) = found(head, states)
        assert (problem.code, problem.message) == (code, "`call pay` is a new call, not the one that was approved")
        assert problem.help == "write `call approved pay`"


def test_an_irreversible_call_that_nobody_asks_about_is_refused():
    (problem,) = found(WITHOUT_RULE, "start state s { call pay(to, amount)  -> done }")
    assert (problem.code, way(problem)) == ("JAM601", ["s"])


def test_a_waived_approval_is_not_asked_for():
    head = 'policy { allow paid  allow pay without approval because "small sums" }'
    assert found(head, "start state s { call pay(to, amount)  -> done }") == []


def test_a_waiver_with_a_condition_does_not_waive_what_another_rule_allows():
    waiver = 'allow pay when args.amount < 5 without approval because "small" }  on denied -> stop'
    states = "start state s { call pay(to, amount)  -> done }"
    assert [d.code for d in found("policy { allow paid, pay  " + waiver, states)] == ["JAM601"]
    assert found("policy { allow paid  " + waiver, states) == []


def test_a_required_approval_holds_in_spite_of_a_waiver():
    head = (
        'policy { allow paid  allow pay without approval because "x"  require approval review before pay }'
        "  on denied -> stop"
    )
    states = "start state s { wait 1h  -> go }" + ASK
    assert [d.code for d in found(head, states)] == ["JAM602", "JAM611"]


def test_each_required_approval_is_checked_on_its_own():
    second = """
  state boss {
    ask role "boss" to pay(to, amount) "Really?"  timeout 1h  as b
    on approve -> go
    on decline -> stop
    on timeout -> stop
  }"""
    head = (
        "policy { allow pay, paid  require approval review before pay  require approval boss before pay }"
        "  on denied -> stop"
    )
    both = "start state s { wait 1h  -> review }" + ASK.replace("on approve -> go", "on approve -> boss") + second
    assert found(head, both) == []
    one = both.replace("on approve -> boss", "on approve -> go")
    assert brief(found(head, one)) == [("JAM602", "`pay` can be called without the approval of `boss`")]


def test_an_approval_before_a_branch_holds_inside_it_and_one_of_another_branch_does_not():
    ask = ASK.replace("on approve -> go", "on approve -> both").replace("state go { call approved pay  -> done }", "")
    parallel = """
  parallel both {
    branch one { call approved pay }
    branch two { call look(to) }
    join all
    on join -> done
  }"""
    head = "policy { allow pay, paid, look  require approval review before pay }  on denied -> stop"
    assert found(head, "start state s { wait 1h  -> review }" + ask + parallel) == []
    (problem,) = found(head, "start state s { wait 1h  -> both }" + ask + parallel)
    assert problem.code == "JAM602"
    assert way(problem) == ["s then", "both branch one", "both/one/do"]


def test_an_approval_by_people_needs_some_ask_that_offers_the_call():
    head = 'policy { allow pay, paid  require approval by 2 of "officer" not principal before pay }  on denied -> stop'
    assert found(head, "start state s { wait 1h  -> review }" + ASK) == []
    (problem,) = found(head, "start state s { wait 1h  -> go }" + ASK)
    assert brief([problem]) == [("JAM602", '`pay` can be called without the approval by 2 of "officer"')]


def test_a_rule_for_a_class_of_tools_covers_its_tools():
    head = "policy { allow any  require approval review before any irreversible }  on denied -> stop"
    assert [d.code for d in found(head, "start state s { wait 1h  -> go }" + ASK)] == ["JAM602"]
    states = "start state s { call book(1)  -> t }  state t { call look(to)  -> done }"
    assert found(head, states + ASK) == []


def test_a_call_in_finally_is_never_behind_an_approval():
    states = "start state s { wait 1h  -> done }  finally { call pay(to, amount) }"
    (problem,) = found(WITHOUT_RULE, states)
    assert (problem.code, way(problem)) == ("JAM601", ["s then", "done"])


# ---- proposed calls

REACT = """
  start state decide {
    think "Choose." tools look, pay  model large  max prompt 2k  max tokens 1k  timeout 1m  as move
    %s
    otherwise -> done
  }
  state act { call proposed move  -> decide limit 3 else stop }
  state ask_pay {
    ask role "lead" to proposed move "Pay?"  timeout 1h  as answer
    on approve -> go
    on decline -> stop
    on timeout -> stop
  }
  state go { call approved pay  -> done }
"""
ROUTED = """when has(move.call) && move.call.tool == "pay" -> ask_pay
    when has(move.call) -> act"""


def test_a_proposed_call_that_a_guard_sends_to_the_ask_needs_nothing_more():
    head = "policy { allow look, pay, paid  require approval ask_pay before pay }"
    assert found(head, REACT % ROUTED) == []


def test_a_proposed_call_that_may_need_an_approval_is_denied_at_run_time_and_has_to_be_handled():
    head = "policy { allow look, pay, paid  require approval ask_pay before pay }"
    loose = REACT % "when has(move.call) && amount > 5 -> ask_pay\n    when has(move.call) -> act"
    assert brief(found(head, loose)) == [("JAM613", "nothing happens in `act` when `pay` is denied")]
    assert found(head + "  on denied -> stop", loose) == []


def test_a_proposed_call_that_nobody_can_ever_approve_is_refused():
    states = REACT.split("  state ask_pay")[0] % "when has(move.call) -> act"
    (problem,) = found("policy { allow look, pay, paid }  on denied -> stop", states)
    assert brief([problem]) == [("JAM601", "`pay` can be proposed here and can never be approved")]


# ---- JAM617


def test_the_ask_that_has_to_approve_a_call_must_offer_it():
    states = "start state s { wait 1h  -> review }" + ASK.replace("to pay(to, amount) ", "")
    problems = found(ALLOW, states)
    assert ("JAM617", "`review` does not offer `pay` for approval") in brief(problems)


def test_an_ask_that_offers_what_was_proposed_offers_each_of_its_tools():
    head = "policy { allow look, pay, paid  require approval ask_pay before any }  on denied -> stop"
    assert [d.code for d in found(head, REACT % "when has(move.call) -> ask_pay")] == []


def test_a_rule_about_a_tool_that_is_not_called_needs_no_offer():
    head = "policy { allow look  require approval review before book }  on denied -> stop"
    states = """start state s { call look(to)  -> review }
  state review {
    ask role "x" "ok?"  options yes  timeout 1h  as b
    on yes -> done
    on timeout -> stop
  }"""
    assert found(head, states) == []


# ---- JAM608, JAM609, JAM610


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("allow look", "no rule allows `book`"),
        ("allow any reads", "no rule allows `book`"),
        ("allow any irreversible", "no rule allows `book`"),
        ("allow book  forbid book", "`book` is forbidden, whatever its arguments"),
        ("allow book  forbid any writes", "`book` is forbidden, whatever its arguments"),
    ],
)
def test_a_call_that_no_rule_allows_is_refused(rules, message):
    problems = found(f"policy {{ {rules} }}  on denied -> stop", "start state s { call book(1)  -> done }")
    assert ("JAM608", message) in brief(problems)


@pytest.mark.parametrize("rules", ["allow book", "allow any", "allow any writes", "allow book when args.n > 3"])
def test_a_call_that_some_rule_allows_is_accepted(rules):
    assert found(f"policy {{ {rules} }}  on denied -> stop", "start state s { call book(1)  -> done }") == []


def test_an_agent_without_a_policy_is_told_what_to_allow():
    (problem,) = found("", "start state s { call book(1)  -> t }  state t { call look(to)  -> done }")
    assert brief([problem]) == [("JAM608", "`a` calls tools and has no policy that allows them")]
    assert problem.help == "add to the agent: `policy { allow book, look }`"


def test_confirm_undo_and_finally_need_to_be_allowed():
    states = "start state s { call pay(to, amount)  -> done }"
    head = 'policy { allow pay without approval because "x" }'
    assert brief(found(head, states)) == [
        ("JAM608", "no rule allows `paid`, which is called to ask whether a call happened")
    ]
    states = "start state s { call book(1)  -> back }  state back { undo all  -> done }"
    assert brief(found("policy { allow book }", states)) == [
        ("JAM608", "no rule allows `unbook`, which is called by `undo all`")
    ]
    states = "start state s { wait 1h  -> done }  finally { call look(to) }"
    assert brief(found("policy { allow book }", states)) == [
        ("JAM608", "no rule allows `look`, which is called in `finally`"),
        ("JAM609", "`book` is allowed and never called"),
    ]


def test_the_policy_of_an_agent_covers_the_agents_it_runs():
    child = (
        TOOLS
        + """
agent child version 1 {
  policy { allow look }
  on error any -> no
  start state s { call look("x")  -> yes }
  final yes {}
  failed no {}
}
"""
    )
    states = "start state s { run child()  -> done }"
    assert brief(found("policy { allow book }", states, child))[0] == (
        "JAM608",
        "no rule allows `look`, which is called by the agent that runs here",
    )
    assert found("policy { allow look }", states, child) == []


def test_an_allow_for_a_tool_that_is_only_offered_or_proposed_is_used():
    assert found("policy { allow look, pay, paid }  on denied -> stop", REACT % ROUTED) == []


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("args.n > 5 && args.n < 3", "`args.n > 5 && args.n < 3` is never true, so the rule forbids nothing"),
        ("args.n > 5 || args.n <= 5", "`args.n > 5 || args.n <= 5` is always true, so every call is denied"),
    ],
)
def test_a_forbid_that_is_always_or_never_true_is_reported(condition, message):
    head = f"policy {{ allow book  forbid book when {condition} }}  on denied -> stop"
    assert brief(found(head, "start state s { call book(1)  -> done }")) == [("JAM610", message)]


# ---- JAM612


def test_a_call_after_one_that_it_must_never_follow_is_refused_with_the_path():
    head = "policy { allow look, book  never book after look }  on denied -> stop"
    states = """start state s { call look(to)  -> t }
  state t { when amount > 3 -> u  otherwise -> done }
  state u { call book(1)  -> done }"""
    (problem,) = found(head, states)
    assert brief([problem]) == [("JAM612", "`book` can be called after `look`")]
    assert way(problem) == ["s then", "t when amount > 3", "u"]
    other_way = "start state s { call book(1)  -> t }  state t { call look(to)  -> done }"
    assert found(head, other_way) == []


def test_a_cycle_brings_the_call_after_itself():
    head = "policy { allow look, book  never book after any }  on denied -> stop"
    states = "start state s { call book(1)  -> s limit 2 else done }"
    (problem,) = found(head.replace(", book", "").replace("allow look", "allow book"), states)
    assert way(problem) == ["s then", "s"]
    assert found(head.replace("allow look, book", "allow book"), "start state s { call book(1)  -> done }") == []


def test_a_rule_with_a_condition_and_proposed_calls_are_left_to_the_policy():
    states = "start state s { call look(to)  -> t }  state t { call book(1)  -> done }"
    head = "policy { allow look, book  never book after look when args.n > 3 }  on denied -> stop"
    assert found(head, states) == []
    head = "policy { allow look, pay, paid  never look after look }  on denied -> stop"
    assert found(head, REACT % ROUTED) == []


def test_an_approved_one_of_several_that_a_model_chose_from_is_left_to_the_policy_too():
    """It is not certain which of them a person approves."""
    head = (
        "policy { allow look, pay  require approval ask_pay before pay, look  never look after pay }  on denied -> stop"
    )
    states = (REACT % "when has(move.call) -> ask_pay").replace("call approved pay", "call approved answer")
    states = states.replace("state act { call proposed move  -> decide limit 3 else stop }", "")
    states = states.replace("answer  -> done", "answer  -> decide limit 3 else stop")
    assert "JAM612" not in [d.code for d in found(head, states)]
    one = states.replace("tools look, pay", "tools pay")
    assert "JAM612" in [d.code for d in found(head.replace("never look after pay", "never pay after pay"), one)]


def test_branches_beside_each_other_may_come_in_any_order():
    head = "policy { allow look, book  never book after look }  on denied -> stop"
    states = """start parallel both {
    branch one { call book(1) }
    branch two { call look(to) }
    join all
    on join -> done
  }"""
    assert [d.code for d in found(head, states)] == ["JAM612"]


# ---- JAM613


@pytest.mark.parametrize(
    "rules",
    [
        "allow book when args.n < 3",
        "allow book  forbid book when args.n > 3",
        "allow book  limit book 1 call",
        "allow book, look  require look(q = to) before book",
        "allow book, look  require any of look before book",
        "allow book, look  require approval review before book when args.n > 3",
    ],
)
def test_a_call_that_may_be_denied_needs_a_way_on(rules):
    states = """start state s { when amount > 1 -> u  otherwise -> t }  state u { call look(to)  -> t }
  state t { call book(1)  when amount > 5 -> t limit 2 else done  otherwise -> done }
  state review {
    ask role "x" to book(1) "ok?"  timeout 1h  as b
    on approve -> done
    on decline -> stop
    on timeout -> stop
  }"""
    if "review" not in rules:
        states = states.split("  state review")[0]
    if "look" not in rules:
        rules += "  allow look"
    assert ("JAM613", "nothing happens in `t` when `book` is denied") in brief(found(f"policy {{ {rules} }}", states))
    assert "JAM613" not in [d.code for d in found(f"policy {{ {rules} }}  on denied -> stop", states)]
    handled = states.replace("call book(1)  ", "call book(1)  on denied -> stop  ")
    assert "t" not in [d.message.split("`")[1] for d in found(f"policy {{ {rules} }}", handled) if d.code == "JAM613"]


def test_a_call_that_is_always_allowed_needs_none():
    assert found("policy { allow book }", "start state s { call book(1)  -> done }") == []


@pytest.mark.parametrize(
    ("rules", "safe"),
    [
        ("require look(q = to) before book", True),
        ("require look(to) before book", True),
        ("require look(q = args.n == 1 ? to : to) before book", False),
        ('require look("else") before book', False),
        ("require any of look before book", True),
        ("limit book 1 call", True),
        ("limit book 0 calls", False),
        ("limit book 1 call per args.n", True),
        ("limit book 1 call per principal per day", False),
        ("limit any writes 1 call", False),
        ("limit book total args.n <= 5", False),
        ("never look after book", True),
        ("never unbook after look", True),
    ],
)
def test_a_rule_that_is_met_on_every_path_denies_nothing(rules, safe):
    states = "start state s { call look(to)  -> t }  state t { call book(1)  -> done }"
    denied = [d for d in found(f"policy {{ allow look, book  {rules} }}", states) if d.code == "JAM613"]
    assert (not denied) == safe


@pytest.mark.parametrize(
    "instead",
    [
        "start state s { call look(to)  on error any -> t  -> t }",  # the failed read leads there too
        "start state s { when amount > 1 -> u  otherwise -> t }  state u { call look(to)  -> t }",
        'start state s { call look(to + "")  -> t }',  # that its argument is the same is not known
        "start parallel s { branch x { call look(to) }  branch y { wait 1h }  join any  on join -> t }",
    ],
)
def test_a_read_that_some_path_leaves_out_does_not_count(instead):
    states = instead + "  state t { call book(1)  -> done }"
    assert "JAM613" in [d.code for d in found("policy { allow look, book  require look(to) before book }", states)]


def test_a_retried_call_may_use_up_a_limit():
    states = "start state s { call book(1) retry RateLimited 2 times  -> done }"
    assert "JAM613" in [d.code for d in found("policy { allow book  limit book 1 call }", states)]


@pytest.mark.parametrize(
    ("rules", "safe"),
    [
        ("allow pay when args.amount < 100", True),
        ("allow pay  forbid pay when args.amount > amount", True),
        ("allow pay  forbid pay when attempted(look) > 1", False),
        ("allow pay  forbid pay when has(answer)", False),
        ("allow pay  limit pay total args.amount <= 10", False),
    ],
)
def test_what_was_decided_when_the_question_was_asked_is_not_decided_otherwise(rules, safe):
    head = f"policy {{ {rules}  allow look, paid  require approval review before pay }}"
    states = "start state s { wait 1h  -> review }" + ASK.replace("on approve", "on denied -> stop on approve")
    denied = [d.message for d in found(head, states) if d.code == "JAM613"]
    assert (denied == []) == safe


# ---- against all walks of small graphs

PLACES = ["s", "review", "go", "a", "b"]
TARGETS = st.sampled_from([*PLACES, "done", "stop"])


@settings(max_examples=100, deadline=None)
@given(st.tuples(*[st.tuples(TARGETS, TARGETS, TARGETS)] * len(PLACES)), st.booleans())
def test_an_unapproved_walk_is_found_iff_there_is_one(targets, with_rule):
    edges = dict(zip(PLACES, targets, strict=True))
    states = []
    for place, (x, y, z) in edges.items():
        if place == "review":
            ask = 'ask role "o" to pay(to, amount) "Pay?"  timeout 1h  as answer'
            states.append(f"state review {{ {ask}  on approve -> {x}  on decline -> {y}  on timeout -> {z} }}")
            continue
        action = "call approved pay" if place == "go" else "wait 1h"
        start = "start " if place == "s" else ""
        ways = f"when amount > 1 -> {x}  when amount > 0 -> {y}  otherwise -> {z}"
        states.append(f"{start}state {place} {{ {action}  {ways} }}")

    unapproved = False
    todo = [("s", False)]
    seen = set(todo)
    while todo:
        place, approved = todo.pop()
        unapproved = unapproved or (place == "go" and not approved)
        ways = [(t, approved or (place == "review" and i == 0)) for i, t in enumerate(edges.get(place, ()))]
        if place == "go":
            ways.append(("stop", approved))
        for way_ in ways:
            if way_ not in seen:
                seen.add(way_)
                todo.append(way_)

    code = "JAM602" if with_rule else "JAM601"
    problems = [d for d in found(ALLOW if with_rule else WITHOUT_RULE, "\n  ".join(states)) if d.code == code]
    assert bool(problems) == unapproved
    for problem in problems:
        stops = [(step.state, step.edge) for step in problem.path]
        assert stops[0][0] == "s"
        assert stops[-1][0] == "go"
        assert ("review", "on approve") not in stops


# ---- the design programs

DESIGN = Path(os.environ.get("JAM_SHARED_DATA", Path(__file__).parents[3] / ".." / "shared" / "data")).parent / "design"


@pytest.mark.parametrize("name", ["fact_check", "loan_underwriting", "market_brief", "support_agent"])
def test_the_design_programs_have_no_policy_error(name):
    folder = DESIGN / "examples"
    if not folder.is_dir():
        pytest.skip("the design programs are not beside the checkout")
    files = {path.name: path.read_text() for path in folder.glob("*.jam")}
    result = analyse_text(files[f"{name}.jam"], f"{name}.jam", files)
    found = [d for agent in result.analysis.agents for d in check_policy(agent, result.analysis)]
    assert {d.code for d in found} <= {"JAM613"}
