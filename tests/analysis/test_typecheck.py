"""Types of expressions and of everything in an agent."""

from __future__ import annotations

import pytest

from jamjet_dsl import compiler
from jamjet_dsl.analysis.model import Type
from jamjet_dsl.analysis.types import show
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import walk
from tests.analysis.helpers import agent, codes, findings, guarded

DECLS = (
    "input i: int, d: decimal, f: float, s: string, b: bool, m: money, t: timestamp, u: duration, o: string?\n"
    "input xs: list<int>, words: list<string>, by: map<string, decimal>, r: Rec, rs: list<Rec>, e: Colour, a: any\n"
    "input ss: secret string, c: conversation"
)
TYPES = (
    "record Rec { id: string  n: int 0..10  note: string?  inner: Inner? }\n"
    "record Inner { x: decimal }\nenum Colour { red  green }\n"
)


def type_of(expr: str) -> str:
    """The type of an expression over `DECLS`; its findings if it has errors."""
    text = TYPES + agent(f"{DECLS}\nvar v: any = {expr}\nstart state s {{ wait 1h -> done }}\nfinal done {{}}")
    result = compiler.analyse_text(text)
    errors = [d for d in result.diagnostics if d.severity == "error" and d.code != "JAM411"]
    if errors:
        return " / ".join(f"{d.code} {d.message}" for d in errors)
    decl = next(n for n in walk(result.analysis.files[0].program) if isinstance(n, ast.VarDecl))
    assert decl.init is not None
    found: Type = result.analysis.types[decl.init]
    return show(found)


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("i + 1", "int"),
        ("d + 1", "decimal"),
        ("f * 2", "float"),
        ("i * 1.5", "float"),
        ("d * 1.5", "decimal"),
        ("1.5 * d", "decimal"),
        ("m * 2", "money"),
        ("2 * m", "money"),
        ("m * 0.1", "money"),
        ("m / m", "decimal"),
        ("m + $1", "money in USD"),
        ("$1 + 2 EUR", "JAM401 EUR in an agent whose money is in USD"),
        ("m < $5 && m > $1.50", "bool"),
        ("t - t", "duration"),
        ("t + 5m", "timestamp"),
        ("t + t", "JAM401 `+` between timestamp and timestamp"),
        ("u * 2", "JAM401 `*` between duration and int"),
        ('s + "x"', "string"),
        ("s + 1", "JAM401 `+` between string and int"),
        ("-i", "int"),
        ("-s", "JAM401 `-` does not take `string`"),
        ("!b", "bool"),
        ("i == 1 || b", "bool"),
        ("i && b", "JAM401 `int` where `bool` is expected"),
        ("i == s", "JAM401 `==` between int and string"),
        ("i == 1.5", "bool"),
        ("d == 1", "bool"),
        ("i in xs", "bool"),
        ('"k" in by', "bool"),
        ("s in xs", "JAM401 `in` between string and list<int>"),
        ("b ? 1 : 2", "int"),
        ("b ? i : d", "decimal"),
        ("b ? i : s", "JAM401 this is `int` or `string`"),
        ("b ? s : null", "string?"),
        ("xs[0]", "int"),
        ('by["x"]', "decimal"),
        ("by[1]", "JAM401 `int` where `string` is expected"),
        ("s[0]", "JAM401 `string` cannot be indexed"),
        ("[1, 2]", "list<int>"),
        ("[1, d]", "list<decimal>"),
        ('[1, "x"]', "JAM401 `string` in a list of `int`"),
        ("[]", "list<any>"),
        ("xs + []", "list<int>"),
        ("{ a: 1, b: 2 }", "map<string, int>"),
        ("r.id", "string"),
        ("r.n + 1", "int"),
        ("r.nn", "JAM402 `Rec` has no field `nn`"),
        ("s.x", "JAM402 `string` has no fields"),
        ("r.inner.x", "JAM403 `r.inner` may not be there"),
        ("has(r.inner) ? r.inner.x : 0", "decimal"),
        ("!has(r.inner) || r.inner.x > 1", "bool"),
        ("has(r.inner) && r.inner.x > 1", "bool"),
        ("r.inner != null && r.inner.x > 1", "bool"),
        ("o.size()", "JAM403 `o` may not be there"),
        ('o == "x" && o.size() > 1', "bool"),
        ("o == null", "bool"),
        ("size(xs) + words.size()", "int"),
        ("size(i)", "JAM401 `size` does not take `int`"),
        ("size()", "JAM108 `size` takes 1 argument, not 0"),
        ("nope(1)", "JAM101 there is no function `nope`"),
        ("s.nope()", "JAM101 there is no method `nope`"),
        ("s.size(1)", "JAM108 `size` takes 0 arguments, not 1"),
        ("contains(s, s)", "JAM108 `contains` is written `x.contains(…)`"),
        ('s.startsWith("a")', "bool"),
        ("round(d, 2)", "decimal"),
        ("round(1.55, 1)", "decimal"),
        ("min(i, 3, 4)", "int"),
        ("sum(rs.map(x, x.n))", "int"),
        ("rs.filter(x, x.n > 1)", "list<Rec>"),
        ("rs.filter(x, x.n)", "JAM401 `int` where `bool` is expected"),
        ("rs.map(x, has(x.note), x.note)", "list<string>"),
        ("rs.map(x, x.note)", "list<string?>"),
        ("rs.exists(x, has(x.note) && x.note.size() > 1)", "bool"),
        ("by.all(k, k != s)", "bool"),
        ("i.all(x, true)", "JAM401 `all` goes through a list or a map, and this is `int`"),
        ("xs.all(i, true)", "JAM104 `i` hides a name of the same text"),
        ("xs.all(x)", "JAM108 `all` takes a name and a condition"),
        ("xs.map(x, xs.map(y, x + y))", "list<list<int>>"),
        ("e == red", "bool"),
        ("red == e", "bool"),
        ('e == "red"', "bool"),
        ("e == blue", "JAM409 `Colour` has no member `blue`"),
        ("e in [red, green]", "bool"),
        ("Colour.green", "Colour"),
        ("Colour.blue", "JAM409 `Colour` has no member `blue`"),
        ("a.x.y", "any"),
        ("a > 1", "bool"),
        ("string(i)", "string"),
        ("int(s)", "int"),
        ('timestamp("2024-05-10T15:52:59Z")', "timestamp"),
        ("nothing", "JAM101 there is no variable `nothing`"),
        ("calls(x)", "JAM101 `calls` means something only in tests and checks"),
        ("attested(s)", "JAM101 `attested` means something only in the rules of a policy"),
        ("ss + s", "secret string"),
        ('c + [user("x")]', "conversation"),
        ("run.id", "string"),
        ("principal.roles", "list<string>"),
        ("now - t", "duration"),
        ("spent.cost + $1", "money in USD"),
        ("budget.remaining.steps", "int"),
        ("1 + 2 + s", "JAM401 `+` between int and string"),
    ],
)
def test_the_type_of_an_expression(expr: str, expected: str) -> None:
    assert type_of(expr) == expected


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("decimal", "1", []),
        ("decimal", "1.25", []),
        ("float", "1", []),
        ("int", "1.0", ["JAM401"]),
        ("int 1..5", "6", ["JAM408"]),
        ("int 1..5", "-1", ["JAM408"]),
        ("int 1..5", "five", []),
        ("int 1..5", "six", ["JAM408"]),
        ("int? 1..5", "6", ["JAM408"]),
        ("decimal 0..0.5", "0.6", ["JAM408"]),
        ("decimal 0..0.5", "0.5", []),
        ("money $1..$5", "$5.01", ["JAM408"]),
        ("list<int 0..9> 1..2", "[1, 10]", ["JAM408"]),
        ("list<int> 1..2", "[]", ["JAM408"]),
        ("list<int>", "[]", []),
        ("map<string, decimal>", "{ a: 1, b: 2.5 }", []),
        ("map<string, int>", '{ a: "x" }', ["JAM401"]),
        ("Rec", '{ id: "x", n: 3 }', []),
        ("Rec", '{ "id": "x", n: 3, note: null, inner: { x: 1 } }', []),
        ("Rec", '{ id: "x" }', ["JAM401"]),
        ("Rec", '{ id: "x", n: 11, extra: 1 }', ["JAM408", "JAM402"]),
        ("Rec", '{ id: 1, n: "x", inner: { x: "y" } }', ["JAM401", "JAM401", "JAM401"]),
        ("Rec", '{ id: "x", id: "y", n: 1 }', ["JAM102"]),
        ("Colour", "red", []),
        ("Colour?", "null", []),
        ("Colour", "null", ["JAM401"]),
        ("list<Colour>", '[red, Colour.green, "red", blue]', ["JAM409"]),
        ("conversation", '[user("hi")]', []),
        ("conversation", '["hi"]', ["JAM401"]),
        ("any", "{ a: [1] }", []),
        ("secret string", '"x"', []),
        ("int", "true ? 1 : null", ["JAM401"]),
        ("string", "5", ["JAM401"]),
    ],
)
def test_a_literal_takes_the_type_that_is_expected(type_: str, value: str, expected: list[str]) -> None:
    text = f"{TYPES}const five: int = 5\nconst six: int = 6\n" + agent(
        f"output five: int, six: int\nvar _v: {type_} = {value}\nstart state s {{ wait 1h -> done }}\n"
        "final done { five = five  six = six }"
    )
    assert [c for c in codes(text) if c != "JAM107"] == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("record A { x: list<int, int> }\n", "JAM108"),
        ("record A { x: list }\n", "JAM108"),
        ("record A { x: int<string> }\n", "JAM108"),
        ("record A { x: map<float, int> }\n", "JAM401"),
        ("record A { x: string 1..5 }\n", "JAM401"),
        ("record A { x: int 5..1 }\n", "JAM408"),
        ("record A { x: decimal 1..$5 }\n", "JAM401"),
        ("tool t() { effect reads  timeout $5 }\n", "JAM004"),
        ("tool t() { effect reads  key 5 }\n", "JAM401"),
        ("tool t() { effect reads  cost 5 }\n", "JAM004"),
        ("tool t() { effect reads  limit 0 calls per minute }\n", "JAM408"),
        ("tool t() { effect reads  limit 1 calls per week }\n", "JAM101"),
        ("tool t() { effect reeds }\n", "JAM101"),
        ("tool t() { effect writes  undo t(1) }\n", "JAM108"),
        ("tool r() -> string { effect reads }\ntool t() -> int { effect writes  confirm r() }\n", "JAM401"),
        ("tool w() -> int { effect writes }\ntool t() -> int { effect writes  confirm w() }\n", "JAM401"),
        ("fn f(x: int) -> string = x\n", "JAM401"),
        ("fn f(x: int) -> int = x + run.n\n", "JAM101"),
        ("fn f(x: int) -> int = y\n", "JAM101"),
        ('const c: int = "x"\n', "JAM401"),
        ("const c: int = x\n", "JAM101"),
    ],
)
def test_declarations_are_typed(text: str, code: str) -> None:
    assert codes(text) == [code]


# ---- guards and optional values


def test_an_earlier_guard_makes_sure_of_an_optional_value() -> None:
    guards = "when !has(o) -> done\nwhen o.size() > 3 -> done\notherwise -> done { set v = o }"
    text = agent(
        f'input o: string?\nvar v: string = ""\noutput w: string\nstart state s {{ {guards} }}\nfinal done {{ w = v }}'
    )
    assert codes(text) == []


def test_a_guard_that_may_fail_makes_sure_of_nothing_behind_it() -> None:
    guards = "when has(o) -> done\nwhen o.size() > 3 -> done\notherwise -> done"
    text = agent(f"input o: string?\nstart state s {{ {guards} }}\nfinal done {{}}")
    assert findings(text, "JAM403") == ["JAM403 4:6 `o` may not be there"]


def test_setting_an_optional_variable_makes_sure_of_it() -> None:
    body = "var o: string? = null\nstart state s {{ {} when o.size() > 3 -> done\notherwise -> done }}\nfinal done {{}}"
    assert findings(agent(body.format('set o = "x"')), "JAM403") == []
    assert len(findings(agent(body.format("set o = null")), "JAM403")) == 1
    assert len(findings(agent(body.format("")), "JAM403")) == 1


@pytest.mark.parametrize("guard", ["xs", "i", "s", "o", "null", "m"])
def test_a_guard_is_a_truth_value(guard: str) -> None:
    declarations = "input xs: list<int>, i: int, s: string, o: bool?, m: money"
    found = codes(guarded(guard, declarations))
    assert "JAM501" in found or (guard == "o" and "JAM403" in found)


# ---- what `as` binds

TOOLS = (
    "tool get(id: string) -> int { effect reads }\ntool act(id: string) { effect reads }\n"
    "tool name() -> string { effect reads }\n"
)


def bound(action: str, use: str, more: str = "", result: str = "any") -> list[str]:
    """The findings where an action binds `x` and a final uses it."""
    text = TOOLS + agent(
        f"policy {{ allow get, act, name }}\noutput out: {result}\n{more}\nstart state s {{ {action}\n-> done }}\n"
        f"final done {{ out = {use} }}"
    )
    return [m for m in findings(text, "JAM1 JAM4") if not m.startswith("JAM107")]


@pytest.mark.parametrize(
    ("action", "use", "result"),
    [
        ('call get("a") as x', "x", "int"),
        ('call get with { id: "a" } as x', "x", "int"),
        ('think "t" model m max prompt 1k max tokens 1k as x', "x", "string"),
        ('think "t" model m max prompt 1k max tokens 1k as x: list<int>', "x", "list<int>"),
        (
            'think "t" tools get model m max prompt 1k max tokens 1k as x',
            "x.text",
            "string?",
        ),
        ('ask role "r" "t" answer { n: int } as x', "x.n", "int"),
        ('ask role "r" "t" as x', "x.at", "timestamp"),
        ('ask role "r" "t" as x', "x.option + x.by", "string"),
        ("wait for event said(x)", "x.text", "string"),
        ('each q in ["a"] { call get(q) } as x', "x", "list<int>"),
        ("each q in [1] { yields q } as x", "x", "list<int>"),
        ("each q in [1], 2 at once collect flat { yields [q] } as x", "x", "list<int>"),
        (
            'each q in ["a"] { start state one { call get(q) as y -> two }\nstate two { yields y } } as x',
            "x",
            "list<int>",
        ),
        ("each q in [1] { start state one { -> two }\nfinal two { n = q } } as x", "x[0].n", "int"),
    ],
)
def test_an_action_binds_its_result(action: str, use: str, result: str) -> None:
    assert bound(action, use, "event said(text: string)", result) == []
    wrong = bound(action, use, "event said(text: string)", "bytes")
    assert len(wrong) == 1
    assert wrong[0].startswith("JAM401")


def test_a_child_agent_binds_its_outputs() -> None:
    child = "agent child version 1 {\noutput n: int\nstart state s { wait 1h -> done }\nfinal done { n = 1 }\n}\n"
    text = child + agent("output n: int\nstart state s { run child() as x -> done }\nfinal done { n = x.n }")
    assert codes(text) == []


def test_a_branch_binds_what_its_body_is_worth() -> None:
    body = (
        "policy { allow get }\noutput n: int, text: string\n"
        'start parallel p {\nbranch b as x { call get("a") }\nbranch c as y or "none" { yields "c" }\n'
        "join all\non join -> done\non error any -> gone\n}\nfinal done { n = x  text = y }\n"
        'failed gone { n = 0  text = "" }'
    )
    assert findings(TOOLS + agent(body), "JAM3 JAM4") == []


def test_a_tool_without_a_result_leaves_nothing_to_bind() -> None:
    assert [m.split(" ", 2)[2] for m in bound('call act("a") as x', "1", result="int")] == [
        "`act` leaves nothing to bind"
    ]


def test_a_name_that_several_states_bind_has_one_type() -> None:
    states = 'start state s { call get("a") as x -> t }\nstate t { call name() as x -> done }\nfinal done {}'
    found = findings(TOOLS + agent("policy { allow get, name }\n" + states), "JAM401")
    assert [m.split(" ", 2)[2] for m in found] == ["`x` is `int`, and here it would be `string`"]


def test_a_declared_variable_takes_what_is_bound_to_it() -> None:
    assert bound('call get("a") as x', "x", "var x: decimal", "decimal") == []
    assert len(bound('call get("a") as x', "x", "var x: string", "string")) == 1


def test_a_bound_name_may_be_used_before_the_state_that_binds_it_is_written() -> None:
    body = 'output n: int\nfinal done { n = x }\nstate t { call get("a") as x -> done }\nstart state s { wait 1h -> t }'
    assert findings(TOOLS + agent("policy { allow get }\n" + body), "JAM4") == []


# ---- actions


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("call get()", "JAM108 `get` needs the argument `id`"),
        ('call get("a", "b")', "JAM108 `get` takes 1 argument, not 2"),
        ('call get(idd = "a")', "JAM108 `get` has no parameter `idd`"),
        ('call get("a", id = "b")', "JAM108 `id` is given twice"),
        ("call get(1)", "JAM401 `int` where `string` is expected"),
        ("call get with 5", "JAM401 `with` takes a map of arguments, and this is `int`"),
        ("call get with { idd: 1 }", "JAM402 this has no field `idd`"),
        ('think "t {nope}" model m max prompt 1k max tokens 1k', "JAM412 there is no placeholder `nope`"),
        ('think "t {o}" model m max prompt 1k max tokens 1k', "JAM403 `o` may not be there"),
        ('think "t" given o model m max prompt 1k max tokens 1k', "JAM403 `o` may not be there"),
        ('think "t" in o model m max prompt 1k max tokens 1k', "JAM101 `o` is an input, and inputs do not change"),
        (
            'think "t" tools get model m max prompt 1k max tokens 1k as x: int',
            "JAM401 with `tools` a think gives a `Move`, not `int`",
        ),
        (
            'think "t" model m max prompt 1k max tokens 1k as x: any',
            "JAM410 no model provider can be held to `any`: `any` says nothing about the answer",
        ),
        ('think "t" model m max prompt k max tokens 1k', "JAM401 `max prompt` is a literal, or a const that is one"),
        ('ask role "r" "t" show o', "JAM403 `o` may not be there"),
        ('ask role "r" "t" show nope?', "JAM101 there is no variable `nope`"),
        ('ask role "r" "t" answer { by: string }', "JAM103 every answer has a `by`"),
        ("each q in k { yields q } as _x", "JAM401 `each` goes through a list, and this is `int`"),
        (
            "each q in [1] collect flat { yields q } as _x",
            "JAM401 `collect flat` joins lists, and each item gives `int`",
        ),
        ("wait k", "JAM401 `int` where `duration` is expected"),
        ('wait until "tomorrow"', "JAM401 `string` where `timestamp` is expected"),
        ("emit hi(1)", "JAM401 `int` where `string` is expected"),
        ("set v = k", "JAM401 `int` where `string` is expected"),
        ("set r.y = 1", "JAM402 `R` has no field `y`"),
        ('set r.x = "a"', "JAM401 `string` where `int` is expected"),
    ],
)
def test_what_an_action_is_given_must_fit(action: str, expected: str) -> None:
    text = f"record R {{ x: int }}\n{TOOLS}" + agent(
        'policy { allow get, act, name }\ninput o: string?, k: int\nemits hi(text: string)\nvar v: string = ""\n'
        f"var r: R = {{ x: 1 }}\nstart state s {{ {action}\n-> done }}\nfinal done {{}}"
    )
    found = [f"{d.code} {d.message}" for d in compiler.check_text(text)]
    assert expected in [m for m in found if not m.startswith(("JAM107", "JAM406"))]


def test_a_value_of_a_clause_may_be_a_const() -> None:
    text = "const pause: duration = 5m\nconst again: duration = pause\nconst many: int = 3\n" + agent(
        "budget { steps many  time again  exceeded -> done }\n"
        "start state s { wait pause\n-> s limit many else done }\nfinal done {}"
    )
    assert codes(text) == []


def test_a_const_that_is_computed_is_no_literal() -> None:
    text = "const many: int = 1 + 2\n" + agent("start state s { wait 1h\n-> s limit many else done }\nfinal done {}")
    assert findings(text) == ["JAM401 4:12 a limit is a literal, or a const that is one"]


def test_an_agent_has_one_currency_the_costs_of_its_tools_included() -> None:
    tools = "tool a() -> int { effect reads  cost $1 }\ntool b() -> int { effect reads  cost 1 EUR }\n"
    states = "start state s { call a() -> t }\nstate t { call b() -> done }\nfinal done {}"
    found = findings(tools + agent("policy { allow a, b }\n" + states), "JAM401")
    assert [m.split(" ", 2)[2] for m in found] == ["`b` costs EUR, and the money of this agent is in USD"]


def test_two_agents_may_have_two_currencies() -> None:
    one = (
        "agent {} version 1 {{\nbudget {{ cost {} exceeded -> done }}\nstart state s {{ wait 1h -> done }}\n"
        "final done {{}}\n}}\n"
    )
    result = compiler.analyse_text(one.format("x", "$5") + one.format("y", "5 EUR"))
    assert [a.currency for a in result.analysis.agents] == ["USD", "EUR"]
    assert not result.has_errors


# ---- policies


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ('allow get when args.id == "x"', None),
        ('allow get when args.idd == "x"', "JAM402 this has no field `idd`"),
        ("allow get when args.id", "JAM501 a condition is a truth value, and this is `string`"),
        ("allow get, act when args.id == s", None),
        ('forbid get when o == "x" || o.size() > 2', None),
        ("forbid get when !attested(o)", None),
        ('forbid get when attempted(get, id = "x") > 2', None),
        ('forbid get when attempted(get, idd = "x") > 2', "JAM108 `get` has no parameter `idd`"),
        ("forbid get when attempted(nope) > 2", "JAM101 there is no tool `nope`"),
        ("forbid get when calls(get) > 2", "JAM101 `calls` means something only in tests and checks"),
        ('forbid get when budget.remaining.steps < 2 || principal.id == "x"', None),
        ("limit get 3 calls per args.id per day", None),
        ("limit get 3 calls per principal per day", None),
        (
            "limit get 3 calls per turn per principal",
            "JAM007 a turn is of one run, and cannot be counted per principal",
        ),
        ("limit get 3 calls per day per hour", "JAM007 a limit has one window of time, or is per turn"),
        ("limit get total args.id <= 5", "JAM401 a total adds up numbers or money, not `string`"),
        ("limit get total size(args.id) <= 5 per principal", None),
        ("redact o", None),
        ("redact o.x", "JAM402 `string` has no fields"),
        ("redact nope", "JAM101 there is no variable or input `nope`"),
        ("fact f = get(id = args.id) within 5m\nforbid act when f > 2", None),
        ("fact s = get(id = args.id)", "JAM102 `s` already means something in these rules"),
        ("fact f = put(id = args.id)", "JAM401 a fact is read by the engine itself, and `put` does not only read"),
        ('require any of get, name as who before act\nforbid act when has(who.result) && who.args.id == "x"', None),
        ("require get() before act", None),
        ("require get(idd = 1) before act", "JAM108 `get` has no parameter `idd`"),
        ('require approval by 0 of "r" before act', "JAM408 `0` is outside of the declared range 1..9007199254740991"),
        ('require approval by 1 of "r" not somebody before act', "JAM101 there is no person `somebody`"),
    ],
)
def test_rules_are_typed(rule: str, expected: str | None) -> None:
    text = (
        TOOLS
        + "tool put(id: string) -> int { effect writes }\n"
        + agent(
            f"input o: string?, s: string\npolicy {{ allow get, act, name, put\n{rule}\n}}\n"
            'start state a1 { call get("x") -> a2 }\nstate a2 { call act("x") -> a3 }\nstate a3 { call name() -> a4 }\n'
            'state a4 { call put("x") -> done }\nfinal done {}'
        )
    )
    found = [f"{d.code} {d.message}" for d in compiler.check_text(text)]
    typed = [m for m in found if m.startswith(("JAM0", "JAM1", "JAM4", "JAM501")) and not m.startswith("JAM107")]
    assert typed == ([expected] if expected else [])


# ---- tests


def in_test(items: str) -> list[str]:
    text = TOOLS + agent(
        "policy { allow get }\ninput id: string, n: int?\noutput out: int\nvar v: int = 1\n"
        'start state s { call get(id) as x -> t }\nstate t { ask role "r" "?" options yes, no answer { n: int } as q\n'
        "on yes -> done\non no -> done }\nfinal done { out = x + v }"
    )
    return [m for m in findings(text + f'test "t" for a {{\n{items}\n}}\n') if not m.startswith("JAM107")]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("", "agent `a` needs the input `id`"),
        ('input id = "x"\ninput idd = 1', "agent `a` has no input `idd`"),
        ('input id = "x"\ninput id = "y"', "`id` is given twice"),
        ("input id = 5", "`int` where `string` is expected"),
        ('input id = "x"\nmock get returns "x"', "`string` where `int` is expected"),
        ('input id = "x"\nmock get raises Timout', "the program has no error `Timout`"),
        ('input id = "x"\nmock get answers yes', "tool `get` is no question: mock it with `returns` or `raises`"),
        ('input id = "x"\nmock nope returns 1', "agent `a` has no state or tool `nope`"),
        ('input id = "x"\nmock done returns 1', "`done` has nothing to mock"),
        ('input id = "x"\nmock t returns 1', "`t` asks a person: mock it with `answers OPTION`"),
        ('input id = "x"\nmock t answers maybe { n: 1 }', "this question has no option `maybe`"),
        ('input id = "x"\nmock t answers yes', "the answer needs a form with n"),
        ('input id = "x"\nmock t answers yes { n: "x" }', "`string` where `int` is expected"),
        ('input id = "x"\nexpect path s, u', "agent `a` has no state `u`"),
        ('input id = "x"\nexpect spent.steps', "what a test expects is a truth value, and this is `int`"),
        ('input id = "x"\nexpect state == nope', "there is no state `nope`"),
        ('input id = "x"\nexpect out == "x"', "`==` between int and string"),
        ('input id = "x"\nexpect calls(nope) == 1', "there is no tool `nope`"),
    ],
)
def test_a_test_must_fit_its_agent(items: str, message: str) -> None:
    found = in_test(items)
    assert [m.split(" ", 2)[2] for m in found] == [message]
    assert found[0].startswith("JAM901")


def test_a_test_sees_states_outputs_variables_and_counts() -> None:
    items = (
        'input id = "x"\nmock get returns 1 then 2 then raises Timeout\n'
        "mock t answers yes { n: 1 } then answers no { n: 2 }\n"
        'expect path s, t, done\nexpect state == done && out == 2 && outputs.out == 2 && v == 1 && id == "x"\n'
        'expect calls(get) == 1 && denied(get) == 0 && attempted(get, id = "x") == 1 && spent.cost <= $1'
    )
    assert in_test(items) == []


def test_a_test_for_an_unknown_agent_is_reported() -> None:
    assert [m.split(" ", 2)[2] for m in findings('test "t" for a { expect true }\n')] == ["there is no agent `a`"]


# ---- limits


def test_an_expression_that_nests_too_deep_is_one_finding() -> None:
    deep = "true ? 1 : " * 190 + "1"
    text = agent(f"output x: int\nstart state s {{ wait 1h -> done }}\nfinal done {{ x = {deep} }}")
    found = [d for d in compiler.check_text(text) if d.severity == "error"]
    assert len(found) == 1
    assert "deep" in found[0].message


def test_long_chains_are_no_deep_expressions() -> None:
    text = agent(f"output x: int\nstart state s {{ wait 1h -> done }}\nfinal done {{ x = {' + '.join(['1'] * 150)} }}")
    assert codes(text) == []


def test_the_ends_of_a_range_of_money_are_in_one_currency() -> None:
    (found,) = [d for d in compiler.check_text("record _R { a: money $1..5 EUR }") if d.severity == "error"]
    assert (found.code, found.message) == ("JAM401", "a range from USD to EUR")


# ---- what items and branches are worth


def each(body: str, read: str) -> list[str]:
    text = "record Pair { name: string  n: int }\ntool get(q: string) -> Pair? { effect reads }\n" + agent(
        "input qs: list<string> 1..3\npolicy { allow get }\non error any -> done\nvar v: any = 1\n"
        f"start state s {{ each q in qs {{ {body} }} as xs  -> t }}\n"
        f"state t {{ wait 1h  -> done {{ set v = {read} }} }}\nfinal done {{}}"
    )
    return [m.split(" ", 2)[2] for m in findings(text, "JAM401 JAM403")]


ITEM = "start state g { wait 1s  -> out }  final out { name = q  n = size(q) }"


@pytest.mark.parametrize("kind", ["list<Pair>", "list<Loose>", "list<Pair?>", "list<Pair>?"])
def test_what_items_are_worth_fits_a_record_of_the_same_fields(kind: str) -> None:
    body = agent(
        f"input qs: list<string> 1..3\noutput pairs: {kind}\n"
        f"start state s {{ each q in qs {{ {ITEM} }} as xs  -> done }}\n"
        "final done { pairs = xs }"
    )
    before = "record Pair { name: string  n: int }\nrecord Loose { name: string  n: int  note: string? }\n"
    assert findings(before + body, "JAM40") == []


@pytest.mark.parametrize(
    "record",
    [
        "record P { name: string  n: float }",  # every element would have to be converted
        "record P { name: string  n: int  more: int }",
        "record P { name: string }",
        "record P { name: int  n: int }",
    ],
)
def test_and_no_other_record(record: str) -> None:
    body = agent(
        f"input qs: list<string> 1..3\noutput ps: list<P>\n"
        f"start state s {{ each q in qs {{ {ITEM} }} as xs  -> done }}\n"
        "final done { ps = xs }"
    )
    found = findings(f"{record}\n{body}", "JAM40")
    assert [m.split(" ", 2)[2] for m in found] == ["`list<{ name: string  n: int }>` where `list<P>` is expected"]


def test_an_item_is_worth_what_its_edges_yield_not_its_result() -> None:
    assert each("call get(q) as p  when has(p) yields p.n  otherwise skip", "xs[0] + 1") == []
    assert each("call get(q) as p  when !has(p) skip  otherwise yields p", "xs[0].name") == []
    assert each("call get(q) as p  on error any yields null", "xs[0].name") == ["`xs[0]` may not be there"]


@pytest.mark.parametrize(
    ("expr", "help"),
    [
        ("m <= 10_000", "write an amount: `$10_000`"),
        ("m <= i", "compare amounts with amounts"),
        ('i > "720"', "write `720`, without quotes"),
        ("u > 5", "write a duration: `5s`"),
        ('"n: " + i', "convert it: `string(i)`"),
        ("m * m", "an amount is multiplied by a number"),
        ("True", "write `true`"),
        ("None", "write `null`"),
    ],
)
def test_the_help_says_what_to_write_instead(expr: str, help: str) -> None:
    text = TYPES + agent(f"{DECLS}\nvar v: any = {expr}\nstart state s {{ wait 1h -> done }}\nfinal done {{}}")
    assert [d.help for d in compiler.check_text(text) if d.severity == "error"] == [help]
