"""Bounds, case by case: budgets, retries, fan-outs, model calls."""

from __future__ import annotations

import pytest

from jamjet_dsl.compiler import check_text


def told(text: str, code: str) -> list[str]:
    """The text under the carets of each finding of a code."""
    found = check_text(text, "a.jam")
    assert not [d for d in found if d.code < "JAM2" and d.code != "JAM107"], [d.message for d in found]
    return [d.span.text for d in found if d.code == code]


TOOL = "tool ping(host: string) -> bool {{ effect reads {} }}\n"
AGENT = "agent a version 1 {{ input host: string policy {{ allow ping }} {} final done {{}} }}\n"
STATE = "start state s {{ call ping(host) {} -> done }}"


@pytest.mark.parametrize(
    ("retry", "where"),
    [
        ("retry Timeout 1 times", None),
        ("retry Timeout 0 times", "0"),
        ("retry any 2 times backoff 1s x 1", None),
        ("retry any 2 times backoff 1s x 0.9", "0.9"),
        ("retry any 2 times backoff 5s x 2 max 5s", None),
        ("retry any 2 times backoff 5s x 2 max 4999ms", "4999ms"),
    ],
)
def test_a_retry_grows_towards_its_longest_delay(retry, where):
    expected = [where] if where else []
    assert told(TOOL.format("") + AGENT.format(STATE.format(retry)), "JAM311") == expected
    assert told(TOOL.format(retry) + AGENT.format(STATE.format("")), "JAM311") == expected


def test_a_const_is_looked_up():
    text = "const none: int = 0\n" + TOOL.format("retry any none times") + AGENT.format(STATE.format(""))
    assert told(text, "JAM311") == ["none"]


@pytest.mark.parametrize(
    ("budget", "where"),
    [
        ("", []),
        ("budget { steps 5 exceeded -> done }", []),
        ("budget { steps 5 }", ["budget { steps 5 }"]),
        ("budget { cost $1 warn at 80% }", ["budget { cost $1 warn at 80% }"]),
        ("budget { warn at 80% }", []),
    ],
)
def test_a_budget_that_limits_something_says_where_it_leads(budget, where):
    assert told(TOOL.format("") + AGENT.format(budget + STATE.format("")), "JAM315") == where


@pytest.mark.parametrize(
    ("budget", "edge", "where"),
    [
        ("", "on error any -> s limit 2", ["on error any -> s limit 2"]),
        ("", "on error any -> s limit 2 else done", []),
        ("budget { steps 9 exceeded -> done }", "on error any -> s limit 2", []),
        ("budget { steps 9 }", "on error any -> s limit 2", ["budget { steps 9 }"]),
    ],
)
def test_a_limit_leads_somewhere_by_itself_or_by_the_budget(budget, edge, where):
    assert told(TOOL.format("") + AGENT.format(budget + STATE.format(edge)), "JAM315") == where


@pytest.mark.parametrize(("limit", "bounded"), [("tokens 9k", False), ("cost $1", True), ("steps 9", True)])
def test_only_a_token_budget_needs_bounded_answers(limit, bounded):
    think = 'start state s { think "Think." model m as t: string -> done }'
    text = f"agent a version 1 {{ budget {{ {limit} exceeded -> done }} {think} final done {{}} }}"
    assert bool(told(text, "JAM317")) != bounded


@pytest.mark.parametrize(
    ("source", "bounded"),
    [
        ("few", True),
        ("many", False),
        ("few.filter(x, x != host)", True),
        ("few.map(x, x + host)", True),
        ("distinct(few)", True),
        ("few + few", True),
        ("few + many", False),
        ("many.filter(x, x != host)", False),
        ('host == "" ? few : many', False),
        ('["a", host]', True),
        ("plan.hosts", True),
        ('host.split(",")', False),
    ],
)
def test_parts_of_a_bounded_list_are_bounded(source, bounded):
    body = f"""input few: list<string> 0..9, many: list<string>, plan: Plan
      start state s {{ each h in {source} {{ call ping(h) }} -> done }}"""
    text = TOOL.format("") + "record Plan { hosts: list<string> 1..12 }\n" + AGENT.format(body)
    assert told(text, "JAM314") == ([] if bounded else [source])


def test_a_think_inside_an_item_is_bounded_too():
    text = """agent a version 1 { input few: list<string> 0..9 budget { tokens 9k exceeded -> done }
      start state s { each f in few { think "Think." given f model m as t: string } -> done } final done {} }"""
    assert len(told(text, "JAM317")) == 1
