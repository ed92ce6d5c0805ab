"""Names: what they mean, and what is said where they mean nothing."""

from __future__ import annotations

import pytest

from jamjet_dsl import compiler
from jamjet_dsl.analysis.model import Symbol
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import walk
from tests.analysis.helpers import agent, codes, findings

TOOL = "tool look(id: string) -> string { effect reads  raises NotFound }\n"
STEP = "start state s { wait 1h -> done }\nfinal done {}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("start state s { -> dnoe }\nfinal done {}", "JAM101 2:20 there is no state `dnoe`"),
        (
            'start state s { call look("x")\non error Timout -> done\n-> done }\nfinal done {}',
            "JAM101 3:10 there is no error `Timout`",
        ),
        ('start state s { call lok("x") -> done }\nfinal done {}', "JAM101 2:22 there is no tool `lok`"),
        ("start state s { run b() -> done }\nfinal done {}", "JAM101 2:21 there is no agent `b`"),
        ("start state s { emit hi(1) -> done }\nfinal done {}", "JAM101 2:22 there is no message `hi`"),
        ("start state s { wait for event e(m) -> done }\nfinal done {}", "JAM101 2:32 there is no event `e`"),
        ("start state s { set x = 1 -> done }\nfinal done {}", "JAM101 2:21 there is no variable `x`"),
        ("input i: strin\n" + STEP, "JAM101 2:10 there is no type `strin`"),
        ("check every path to paid passes s\n" + STEP, "JAM101 2:21 there is no state `paid`"),
        ("check never look unless s answers yes\n" + STEP, "JAM101 2:25 `s` asks nobody"),
        ("policy { allow lok }\n" + STEP, "JAM101 2:16 there is no tool `lok`"),
        ("policy { require approval s before look }\n" + STEP, "JAM101 2:27 `s` asks nobody"),
        ("migrate from 1 { old -> nowhere }\n" + STEP, "JAM101 2:25 there is no state `nowhere`"),
        ("start state s { call proposed m -> done }\nfinal done {}", "JAM101 2:31 there is no proposed call `m`"),
    ],
)
def test_an_unknown_name_is_reported_where_it_stands(body: str, expected: str) -> None:
    text = TOOL + agent(body)
    shifted = f"{expected.split()[0]} {int(expected.split()[1].split(':')[0]) + 1}:{expected.split(':', 1)[1]}"
    assert shifted in findings(text, "JAM1")


def test_a_misspelt_name_is_answered_with_the_nearest_one_of_its_kind() -> None:
    found = compiler.check_text(TOOL + agent('start state s { call lok("x") -> dnoe }\nfinal done {}'))
    assert [d.help for d in found if d.code == "JAM101"] == ["did you mean `look`?", "did you mean `done`?"]


def test_what_a_misspelt_name_meant_is_not_called_unused() -> None:
    text = TOOL + agent('policy { allow look }\nstart state s { call lok("x") -> done }\nfinal done {}')
    assert "JAM107" not in codes(text)


def test_a_name_of_another_kind_says_what_it_is() -> None:
    text = "record look { id: string }\n" + agent("input l: look\nstart state s { call look() -> done }\nfinal done {}")
    assert "JAM101 4:22 `look` is a record, not a tool" in findings(text, "JAM101")


def test_nothing_is_said_about_names_that_a_syntax_error_may_have_taken() -> None:
    text = "tool look(id string) -> string { effect reads }\n" + agent(
        'start state s { call look("x") as y -> done }\nfinal done {}'
    )
    assert all(code.startswith("JAM0") for code in codes(text))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("record A { x: int }\nrecord A { y: int }\n", 2),
        ("record A { x: int\nx: int }\n", 2),
        ("enum E { a\na }\n", 2),
        ("tool t(a: int,\na: int) { effect reads }\n", 2),
        (agent("input a: int\nvar a: int = 1\n" + STEP), 3),
        (agent("output a: int\noutput a: int\n" + STEP), 3),
        (agent("event e()\nevent e()\n" + STEP), 3),
        (agent("start state s { -> done }\nfinal done {}\nfinal done {}"), 4),
    ],
)
def test_a_name_declared_twice_is_reported_with_the_first_one(text: str, line: int) -> None:
    found = [d for d in compiler.check_text(text) if d.code == "JAM102"]
    assert [d.span.line for d in found] == [line]
    assert [label.span.line for label in found[0].labels] == [line - 1]


def test_an_output_may_be_named_like_a_variable() -> None:
    text = agent("output x: int\nvar x: int = 1\nstart state s { wait 1h -> done }\nfinal done { x = x }")
    assert codes(text) == []


def test_an_input_does_not_change() -> None:
    text = agent("input x: int\nstart state s { set x = 2 -> done }\nfinal done {}")
    assert findings(text, "JAM1") == ["JAM101 3:21 `x` is an input, and inputs do not change"]


def test_as_may_not_bind_an_input() -> None:
    text = TOOL + agent('input x: string\nstart state s { call look("a") as x -> done }\nfinal done {}')
    assert "JAM102 4:35 `x` is an input, and inputs do not change" in findings(text, "JAM102")


@pytest.mark.parametrize("name", ["string", "list", "size", "has", "calls", "round"])
def test_names_of_the_language_are_reserved(name: str) -> None:
    assert "JAM103" in codes(f"record {name} {{ x: int }}\n")


def test_a_parameter_of_a_tool_may_be_called_anything() -> None:
    text = "tool pay(run: string, result: int, args: int) -> string { effect writes  key run }\n"
    assert codes(text) == []


def test_a_library_may_leave_everything_unused() -> None:
    assert codes("record A { x: int }\nconst c: int = 1\n" + TOOL) == []


def test_what_begins_with_an_underscore_may_be_unused() -> None:
    text = "const _c: int = 1\nconst c: int = 1\n" + agent("var _v: int = 1\nvar v: int = 1\n" + STEP)
    found = findings(text, "JAM107")
    assert found == ["JAM107 2:7 const `c` is never used", "JAM107 5:5 variable `v` is never used"]


def test_a_tool_that_only_confirm_or_undo_names_is_used() -> None:
    text = (
        "tool was() -> int? { effect reads }\ntool back() { effect writes }\n"
        "tool pay() -> int { effect writes  confirm was()  undo back() }\n"
    )
    calls = agent(
        "policy { allow pay, back }\nstart state s { call pay() as n -> done }\noutput n: int\nfinal done { n = n }"
    )
    assert "JAM107" not in codes(text + calls)


@pytest.mark.parametrize(
    "text",
    [
        "record A { b: B }\nrecord B { c: C }\nrecord C { a: secret A }\n",
        "fn f(x: int) -> int = g(x)\nfn g(x: int) -> int = f(x)\n",
        "fn f(x: int) -> int = f(x)\n",
        "const a: int = b + 1\nconst b: int = a\n",
        agent("start state s { run a() -> done }\nfinal done {}"),
    ],
)
def test_what_contains_itself_is_reported_once(text: str) -> None:
    assert codes(text).count("JAM106") == 1


def test_a_record_may_contain_itself_in_a_list_a_map_or_an_optional() -> None:
    assert codes("record A { next: A?  all: list<A>  by: map<string, A> }\n") == []


def test_agents_that_run_each_other_are_recursive() -> None:
    text = agent("start state s { run b() -> done }\nfinal done {}")
    other = text.replace("agent a", "agent b").replace("run b", "run a")
    assert codes(text + other).count("JAM106") == 1


# ---- clauses


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tool t() { effect reads  effect reads }\n", "`effect` is given twice in tool `t`"),
        (agent("budget { steps 3  steps 4  exceeded -> done }\n" + STEP), "`steps` is given twice in the budget"),
        (agent("policy {}\npolicy {}\n" + STEP), "`policy` is given twice in agent `a`"),
        (agent("start state s { wait 1h\nwait 2h -> done }\nfinal done {}"), "state `s` has a second action"),
        (
            agent('start state s { ask role "r" "?" timeout 1h timeout 2h -> done }\nfinal done {}'),
            "`timeout` is given twice in this `ask`",
        ),
    ],
)
def test_a_clause_given_twice_is_reported(text: str, message: str) -> None:
    assert message in [m.split(" ", 2)[2] for m in findings(text, "JAM007")]


def test_retry_raises_and_limits_of_a_tool_may_stand_more_than_once() -> None:
    text = (
        "tool t() { effect reads  raises A  raises B  limit 1 call per minute  limit 9 calls per day\n"
        "retry A 1 times  retry B 2 times }\n"
    )
    assert codes(text) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "start state s { wait 1h\non timeout -> done\n-> done }\nfinal done {}",
            "`on timeout` is for `ask` and `wait`",
        ),
        ("start state s { wait 1h\non join -> done\n-> done }\nfinal done {}", "`on join` is for a `parallel`"),
        ("start state s { wait 1h\non error any skip\n-> done }\nfinal done {}", "`skip` ends an item or a branch"),
        ("start state s { wait 1h\nyields 1\n-> done }\nfinal done {}", "`yields` is for the items of an `each`"),
        ("finally { wait 1h }\n" + STEP, "`finally` holds only calls"),
    ],
)
def test_a_clause_out_of_place_says_where_it_belongs(body: str, message: str) -> None:
    assert any(message in m for m in findings(agent(body), "JAM001"))


def test_a_tool_says_its_effect() -> None:
    assert findings("tool t() {}\n") == ["JAM001 1:6 tool `t` does not say its effect"]


# ---- questions


def ask(options: str, edges: str, to: str = "") -> str:
    tool = "tool pay(n: int) { effect irreversible }\n"
    policy = "policy { allow pay\nrequire approval s before pay }\n" if to else ""
    return tool + agent(
        f'{policy}start state s {{ ask role "r" {to} "?" {options}\n{edges} }}\nfinal done {{}}\nfinal no {{}}'
    )


def test_every_option_needs_an_edge() -> None:
    found = findings(ask("options yes, no", "on yes -> done"), "JAM212")
    assert [m.split(" ", 2)[2] for m in found] == ["nothing happens on option `no`"]


def test_an_edge_without_a_condition_takes_the_other_options() -> None:
    assert findings(ask("options yes, no", "on yes -> done\n-> no"), "JAM212") == []


def test_a_misspelt_option_is_one_finding() -> None:
    found = [
        d for d in compiler.check_text(ask("options yes, no", "on yess -> done\non no -> no")) if d.code == "JAM212"
    ]
    assert [(d.message, d.help) for d in found] == [("`yess` is not an option of this ask", "did you mean `yes`?")]


def test_an_ask_without_options_is_answered_with_done() -> None:
    assert findings(ask("", "-> done"), "JAM212") == []
    assert findings(ask("", "on done -> done"), "JAM212") == []
    assert len(findings(ask("", "on timeout -> done"), "JAM212")) == 1


def test_an_ask_that_offers_a_call_is_approved_or_declined() -> None:
    assert findings(ask("", "on approve -> done\non decline -> no", "to pay(1)"), "JAM212") == []


def test_an_offered_call_needs_an_option_that_grants_it() -> None:
    found = findings(ask("options yes, no", "on yes -> done\non no -> no", "to pay(1)"), "JAM212")
    assert [m.split(" ", 2)[2] for m in found] == ["no option grants the call that this ask offers"]


def test_an_answer_that_approves_nothing_grants_no_call() -> None:
    text = "tool pay(n: int) -> int { effect irreversible }\n" + agent(
        'policy { allow pay }\nstart state s { ask role "r" "?" as answer -> p }\n'
        "state p { call approved answer as x\non denied -> d\non in_doubt -> d\n-> d }\nfinal d {}"
    )
    found = findings(text, "JAM401 JAM6")
    assert [m.split(" ", 2)[2] for m in found] == ["the question that `answer` answers offers no call"]


def test_an_approved_call_that_no_question_offers_is_reported() -> None:
    text = "tool note(n: int) -> int { effect writes }\n" + agent(
        "policy { allow note }\nstart state s { call approved note as x\n"
        "on denied -> d\non in_doubt -> d\n-> d }\nfinal d {}"
    )
    assert [m.split(" ", 2)[2] for m in findings(text, "JAM401")] == ["no question of this agent offers `note`"]


# ---- tables


def test_every_name_in_a_use_has_a_symbol() -> None:
    text = TOOL + agent(
        "policy { allow look }\ninput id: string\noutput text: string\n"
        "start state s { call look(id) as found\non error NotFound -> none\n-> done }\n"
        'final done { text = found }\nfinal none { text = "" }'
    )
    result = compiler.analyse_text(text)
    assert [d.code for d in result.diagnostics] == []
    symbols = result.analysis.symbols
    uses = {
        node.name if isinstance(node, ast.Ident) else node.text: symbols[node]
        for node in walk(result.analysis.files[0].program)
        if isinstance(node, ast.Ident | ast.Name) and node in symbols
    }
    kinds = {name: symbol.kind for name, symbol in uses.items() if isinstance(symbol, Symbol)}
    assert kinds == {
        "look": "tool",
        "id": "input",
        "text": "output",
        "found": "bound",
        "NotFound": "error",
        "none": "state",
        "done": "state",
    }
