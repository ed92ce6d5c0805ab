"""What is set on the way from one state to the next: ranges, lists that grow, fields, and where values came from."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.driver import Driver, Fails
from tests.kernel.source import answer, begun

TOOLS = """
record P { n: int 1..3  s: string }
record Q { p: P }
tool look(q: string) -> string { effect reads  timeout 5s }
tool web(q: string) -> string untrusted { effect reads  timeout 5s }
tool mail(q: string) { effect reads  timeout 5s }
"""


def agent(body: str, head: str = "", result: str = '"done"', rules: str = "") -> str:
    return f"""{TOOLS}
    agent a version 1 {{
      {head}
      output r: string
      budget {{ steps 60  exceeded -> bad }}
      policy {{ allow look, web, mail  {rules} }}
      on error any -> bad
      start {body}
      final done {{ r = {result} }}  failed bad {{ r = "bad" }}
    }}"""


# ---- ranges


@pytest.mark.parametrize(
    ("type", "first", "good", "bad"),
    [
        ("int 0..3", "0", "n", "n + 1"),
        ("int 0..3", "0", "n - 3", "n - 4"),
        ("int?", "null", "n * 1000", None),
        ("money $0..$3", "$0", "$1 * n", "$1 * (n + 1)"),
        ("list<int> 0..2", "[]", "[n, n]", "[n, n] + [n]"),
        ("list<int> 1..2", "[0]", "[n]", "[n].filter(i, i > 3)"),
        ("list<int 0..3>", "[]", "[n, n, n]", "[n, n + 1]"),
        ("list<int>", "[]", "[n, n * 1000]", None),
        ("list<list<int 0..3>>", "[]", "[[n]]", "[[n + 1]]"),
        ("map<string, int 0..3>", "{}", '{ "k": n }', '{ "k": n + 1 }'),
        ("P?", "null", '{ n: n, s: "" }', '{ n: n + 1, s: "" }'),
        ("Q?", "null", '{ p: { n: n, s: "" } }', '{ p: { n: n + 1, s: "" } }'),
    ],
)
def test_what_is_set_is_within_the_range_of_its_type_wherever_that_stands(
    type: str, first: str, good: str, bad: str | None
) -> None:
    for value, end in ((good, "done"), (bad, "bad")):
        if value is not None:
            text = agent(f"state s {{ set v = {value}  -> done }}", f"input n: int  var v: {type} = {first}")
            run = begun(text, n=3)
            assert run.state.final_state == end, value
            if end == "bad":
                assert "v" in run.events("faulted")[0]["message"]


# ---- lists that grow


def grown(sets: str, head: str = "", **given: Any) -> Driver:
    """A run that has gone through one state with these `set`s."""
    head = f"input n: int  var xs: list<int> = [0]  var ys: list<int> = [] {head}"
    return begun(agent(f"state s {{ {sets}  -> t }}  state t {{ wait 1h  -> done }}", head), n=7)


@pytest.mark.parametrize(
    ("sets", "appended", "written", "xs"),
    [
        ("set xs = xs + [1]", {"xs": [1]}, {}, [0, 1]),
        ("set xs = xs + [1]  set xs = xs + [2, 3]", {"xs": [1, 2, 3]}, {}, [0, 1, 2, 3]),
        ("set xs = xs + [1]  set xs = [9]", {}, {"xs": [9]}, [9]),
        ("set xs = [9]  set xs = xs + [1]", {}, {"xs": [9, 1]}, [9, 1]),
        ("set xs = xs + [1]  set xs = [9]  set xs = xs + [2]", {}, {"xs": [9, 2]}, [9, 2]),
        ("set xs = xs + xs", {"xs": [0]}, {}, [0, 0]),
        ("set xs = [1] + xs", {}, {"xs": [1, 0]}, [1, 0]),
        ("set xs = ys + [1]", {}, {"xs": [1]}, [1]),
        ("set xs = xs + [n]  set ys = xs", {"xs": [7]}, {"ys": [0, 7]}, [0, 7]),
        ("set ys = ys + [1]  set xs = xs + ys  set xs = [5]", {"ys": [1]}, {"xs": [5]}, [5]),
        ("set xs = xs + []", {"xs": []}, {}, [0]),
    ],
)
def test_of_a_list_that_grows_only_what_is_new_is_written(
    sets: str, appended: dict[str, Any], written: dict[str, Any], xs: list[int]
) -> None:
    run = grown(sets)
    (body,) = run.events("moved")
    assert (body.get("append", {}), body.get("set", {})) == (appended, written)
    assert run.state.vars["xs"] == xs


@pytest.mark.parametrize(
    ("type", "more", "end"),
    [
        ("list<int> 0..2", "[1]", "done"),
        ("list<int> 0..2", "[1, 2]", "bad"),
        ("list<int 0..3>", "[n - 4]", "done"),
        ("list<int 0..3>", "[n]", "bad"),
        ("list<int> 1..9", "[n]", "done"),
    ],
)
def test_a_list_that_grows_stays_within_its_range(type: str, more: str, end: str) -> None:
    text = agent(f"state s {{ set v = v + {more}  -> done }}", f"input n: int  var v: {type} = [0]")
    run = begun(text, n=7)
    assert run.state.final_state == end
    assert run.state.vars["v"] == (
        [0] if end == "bad" else [0, *([1] if more == "[1]" else [3] if "-" in more else [7])]
    )


def test_values_that_a_journal_writes_with_tags_come_back_as_they_were() -> None:
    head = 'var m: money = $0  var d: duration = duration("1s")  var t: list<money> = []  var k: map<int, money> = {}'
    sets = 'set m = $1.50  set d = duration("90s")  set t = t + [m]  set k = { 1: m }'
    run = begun(agent(f"state s {{ {sets}  -> done }}", head, "string(m) + string(d) + string(t[0]) + string(k[1])"))
    assert run.state.output == {"r": "1.50 USD90s1.50 USD1.50 USD"}


# ---- fields


def test_a_field_is_set_and_the_others_stay() -> None:
    head = 'var p: P = { n: 1, s: "a" }  var q: Q = { p: { n: 1, s: "b" } }'
    run = begun(agent('state s { set p.s = "x"  set q.p.n = 2  -> done }', head, "p.s + q.p.s + string(p.n + q.p.n)"))
    assert run.state.output == {"r": "xb3"}
    (body, *_) = run.events("moved")
    assert body["set"] == {"p": {"n": 1, "s": "x"}, "q": {"p": {"n": 2, "s": "b"}}}


@pytest.mark.parametrize(("value", "end"), [("3", "done"), ("2 + n", "bad")])
def test_a_field_is_within_its_range_too(value: str, end: str) -> None:
    text = agent(f"state s {{ set q.p.n = {value}  -> done }}", 'input n: int  var q: Q = { p: { n: 1, s: "b" } }')
    assert begun(text, n=7).state.final_state == end


# ---- where values came from

SAFE, TOLD = "forbid mail when untrusted(args.q)", "forbid mail when !attested(args.q)"
HEAD = (
    'var a: string = ""  var b: string = ""  var v: string = "v"  var xs: list<string> = []  var p: P = { n: 1, s: "" }'
)


@pytest.mark.parametrize(
    ("sets", "mailed"),
    [
        ("set a = w", False),
        ("set a = w  set a = v", True),
        ("set a = v  set a = w", False),
        ("set a = v + w", False),
        ("set a = v", True),
        ("set b = w  set a = b", False),
        ("set p.s = w  set a = p.s", False),
        ("set p.s = w  set a = string(p.n)", False),
        ("set p.s = w  set p.s = v  set a = p.s", False),
        ('set p.s = w  set p = { n: 1, s: "" }  set a = p.s', True),
        ("set xs = xs + [w]  set a = xs[0]", False),
        ("set xs = xs + [w]  set xs = [v]  set a = xs[0]", True),
        ("set xs = [w]  set xs = xs + [v]  set a = xs[1]", False),
    ],
)
def test_what_is_made_of_something_untrusted_is_untrusted_until_it_is_set_anew(sets: str, mailed: bool) -> None:
    body = f'state s {{ call web("1") as w  {sets}  -> t }}  state t {{ call mail(a)  on denied -> bad  -> done }}'
    run = begun(agent(body, HEAD, rules=SAFE)).land("web(1)", "W")
    assert bool(run.flights) == mailed
    assert mailed or run.state.final_state == "bad"


@pytest.mark.parametrize(
    ("sets", "mailed"),
    [
        ("set a = x.q", True),
        ("set a = v", False),
        ("set a = x.q + v", False),
        ("set a = x.q  set b = a  set a = b", True),
        ("set p.s = x.q  set a = p.s", False),
        ("set p = { n: x.n, s: x.q }  set a = p.s", True),
        ("set p = { n: x.n, s: x.q }  set p.s = x.q  set a = p.s", True),
        ("set p = { n: x.n, s: x.q }  set p.s = v  set a = p.s", False),
        ("set xs = xs + [x.q]  set a = xs[0]", False),
        ("set xs = [x.q]  set a = xs[0]", True),
    ],
)
def test_what_a_person_said_is_attested_as_long_as_nothing_else_is_in_it(sets: str, mailed: bool) -> None:
    body = f"""state s {{ ask role "r" "?" options ok answer {{ q: string  n: int }} timeout 1h as x
      {sets}  on ok -> t  on timeout -> bad }}  state t {{ call mail(a)  on denied -> bad  -> done }}"""
    run = answer(begun(agent(body, HEAD, rules=TOLD)), "ok", {"q": "hi", "n": 2})
    assert bool(run.flights) == mailed
    assert mailed or run.state.final_state == "bad"


def test_what_is_set_on_the_way_after_an_error_does_not_know_the_result() -> None:
    head = 'var a: string = "old"'
    body = """state s { call look("1") as v  set a = "new"  on error any -> t { set a = a + "!" }  -> t }
      state t { -> done }"""
    assert begun(agent(body, head, "a")).land("look(1)", Fails("Unavailable")).state.output == {"r": "old!"}
    assert begun(agent(body, head, "a")).land("look(1)", "v").state.output == {"r": "new"}
