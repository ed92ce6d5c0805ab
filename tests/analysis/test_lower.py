"""From a checked program to its definition: what is in it, and what does not change it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import compiler
from jamjet_dsl.definition import Definition, json_schema
from jamjet_dsl.diagnostics.errors import JamError
from tests.analysis.helpers import ROOT, agent, compiled, programs

PROGRAMS = programs()
TOOL = "tool get(id: string) -> int { effect reads }\n"
SMALL = TOOL + agent(
    "policy { allow get }\ninput id: string\noutput n: int\n"
    "start state s { call get(id) as x -> done }\nfinal done { n = x }"
)


def state(text: str, name: str, index: int = -1) -> dict[str, Any]:
    """A state of the agent, or of the definition's last one, as JSON without defaults."""
    data = json.loads(compiled(text).definition.canonical())
    return next(s for s in data["agents"]["a"]["body"]["states"] if s["name"] == name)


def one(body: str, before: str = "", name: str = "s") -> dict[str, Any]:
    return state(before + agent(body + "\nfinal done {}"), name)


# ---- digests


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("\n", "\n\n  "),
        lambda t: "// a comment\n" + t,
        lambda t: t.replace("agent a", "/// What it does.\nagent a"),
        lambda t: t + 'test "t" for a { input id = "x"  expect n == 1 }\n',
        lambda t: t.replace("policy {", "check every cycle is bounded\npolicy {"),
        lambda t: "tool other() { effect reads }\nrecord R { x: int }\n" + t,
        lambda t: "fn twice(n: int) -> int = n * 2\n" + t + 'test "t" for a { input id = "x"  expect twice(n) == 2 }\n',
        lambda t: t.replace("get(id)", "get(id = id)"),
    ],
)
def test_what_does_not_run_does_not_change_the_digest(change: Any) -> None:
    assert compiled(change(SMALL)).definition.digest == compiled(SMALL).definition.digest


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("tool get", "/// Finds it.\ntool get"),
        lambda t: t.replace("effect reads", "effect writes"),
        lambda t: t.replace("version 1", "version 2"),
        lambda t: t.replace("n = x", "n = x + 1"),
        lambda t: t.replace("state s", "state first"),
        lambda t: t.replace("allow get", 'allow get when args.id != ""'),
        lambda t: t.replace("as x ->", "as x timeout 5s ->"),
    ],
)
def test_what_runs_or_what_a_model_reads_changes_the_digest(change: Any) -> None:
    assert compiled(change(SMALL)).definition.digest != compiled(SMALL).definition.digest


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.name if p else "none")
def test_examples_compile_to_the_same_bytes_every_time(path: Path) -> None:
    for info in compiler.check_file(path).analysis.main_agents():
        first = compiler.compile_file(path, info.name)
        second = compiler.compile_file(path, info.name)
        assert first == second
        assert first.definition.main == info.name
        assert Definition.model_validate_json(first.definition.canonical()) == first.definition


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.name if p else "none")
def test_examples_fit_the_published_schema(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "docs" / "definition.schema.json").read_text("utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    for info in compiler.check_file(path).analysis.main_agents():
        data = json.loads(compiler.compile_file(path, info.name).definition.canonical())
        assert [e.message for e in validator.iter_errors(data)] == []
        data["agents"][info.name]["body"]["nonsense"] = 1
        assert list(validator.iter_errors(data))


def test_the_published_schema_is_that_of_the_definition() -> None:
    published = (ROOT / "docs" / "definition.schema.json").read_text("utf-8")
    assert published == json.dumps(json_schema(), indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.name if p else "none")
def test_every_state_edge_and_rule_of_an_example_has_its_place(path: Path) -> None:
    for info in compiler.check_file(path).analysis.main_agents():
        made = compiler.compile_file(path, info.name)
        for name, agent_ in made.definition.agents.items():
            assert name in made.spans
            for n, _ in enumerate(agent_.rules or ()):
                assert f"{name}/rules/{n}" in made.spans
            for state_ in agent_.body.states:
                assert f"{name}/{state_.name}" in made.spans
                for edge in getattr(state_, "edges", ()):
                    assert f"{name}/{state_.name}/{edge.id}" in made.spans
        for key, span in made.spans.items():
            lines = made.sources[span.file].split("\n")
            assert 1 <= span.line <= span.end_line <= len(lines), key


# ---- what is in it


def test_only_what_is_used_is_in_the_definition() -> None:
    text = (
        "record R { part: Part }\nrecord Part { kind: Kind }\nenum Kind { a  b }\nrecord Unused { x: int }\n"
        + TOOL
        + agent("input r: R\noutput k: Kind\nstart state s { wait 1h -> done }\nfinal done { k = r.part.kind }")
    )
    definition = compiled(text).definition
    assert sorted(definition.records) == ["Part", "R"]
    assert sorted(definition.enums) == ["Kind"]
    assert definition.tools == {}


def test_the_tools_that_confirm_and_undo_come_with_a_tool() -> None:
    tools = (
        "tool was() -> int? { effect reads }\ntool back(n: int) { effect writes  undo again() }\n"
        "tool again() { effect writes }\n"
        "tool pay(n: int) -> int { effect writes  confirm was()  undo back(result + n) }\n"
    )
    text = tools + agent("policy { allow pay, back, was, again }\nstart state s { call pay(1) -> done }\nfinal done {}")
    definition = compiled(text).definition
    assert sorted(definition.tools) == ["again", "back", "pay", "was"]
    assert definition.tools["pay"].undo is not None
    assert definition.tools["pay"].undo.args == {"n": ["+", ["var", "result"], ["var", "n"]]}


def test_functions_come_with_the_functions_they_call() -> None:
    text = "fn f(n: int) -> int = g(n) + 1\nfn g(n: int) -> int = n * 2\nfn h(n: int) -> int = n\n" + agent(
        "output n: int\nstart state s { wait 1h -> done }\nfinal done { n = f(2) }"
    )
    assert sorted(compiled(text).definition.fns) == ["f", "g"]


def test_functions_that_only_tests_use_stand_beside_the_definition() -> None:
    made = compiled(
        "fn twice(n: int) -> int = n * 2\n" + SMALL + 'test "t" for a { input id = "x"  expect twice(n) == 2 }\n'
    )
    assert made.definition.fns == {}
    assert list(made.test_fns) == ["twice"]
    assert made.tests[0].expects == (["==", ["fn", "twice", ["var", "n"]], ["int", 2]],)
    assert made.tests[0].texts == ("twice(n) == 2",)


def test_consts_are_what_they_stand_for() -> None:
    before = "const pause: duration = 90s\nconst many: int = 3\nconst price: money = $1.50\n"
    body = (
        "budget { steps many  cost price  time pause  exceeded -> done }\nstart state s { wait pause\n"
        "-> s limit many else done }"
    )
    data = json.loads(compiled(before + agent(body + "\nfinal done {}")).definition.canonical())["agents"]["a"]
    assert data["budget"]["limits"] == {"steps": 3, "cost": "1.50 USD", "time_ms": 90000}
    assert data["body"]["states"][0]["action"] == {"kind": "wait", "duration_ms": 90000}
    assert data["body"]["states"][0]["edges"][0]["limit"] == 3


def test_a_retry_has_exact_numbers() -> None:
    body = (
        "policy { allow get }\n"
        'start state s { call get("a") retry any 3 times backoff 2s x 1.5 max 30s jitter full -> done }'
    )
    assert one(body, TOOL)["action"]["retry"] == [
        {"errors": ["any"], "times": 3, "backoff_ms": 2000, "factor": "1.5", "max_ms": 30000, "jitter": "full"}
    ]


def test_arguments_are_by_parameter_however_they_are_given() -> None:
    before = "tool t(a: int, b: decimal, c: string?) { effect reads }\n"
    body = "policy {{ allow t }}\nstart state s {{ call t({}) -> done }}"
    by_place = one(body.format("1, 2"), before)["action"]["args"]
    by_name = one(body.format("b = 2, a = 1"), before)["action"]["args"]
    assert by_place == by_name == {"a": ["int", 1], "b": ["decimal", "2"]}


def test_a_proposed_call_knows_its_tools_and_its_conversation() -> None:
    body = (
        "policy { allow get, put }\nvar chat: conversation = []\n"
        'start state s { think "t" in chat tools get, put model m max prompt 1k max tokens 1k as move -> act }\n'
        "state act { call proposed move -> done }"
    )
    made = one(body, TOOL + "tool put(n: int) { effect reads }\n", "act")
    assert made["action"] == {"kind": "call_proposed", "move": "move", "tools": ["get", "put"], "chat": "chat"}


@pytest.mark.parametrize(("named", "tool"), [("pay", "pay"), ("answer", None)])
def test_a_granted_call_knows_the_asks_that_can_grant_it(named: str, tool: str | None) -> None:
    before = "tool pay(n: int) { effect irreversible }\n"
    body = (
        "policy { allow pay\nrequire approval s before pay }\n"
        'start state s { ask role "r" to pay(1) "?" as answer\non approve -> p\non decline -> done }\n'
        f"state p {{ call approved {named}\non in_doubt -> done\non denied -> done\n-> done }}"
    )
    made = one(body, before, "p")
    assert made["action"] == {"kind": "call_approved", "tool": tool, "asks": ["s"]}
    assert one(body, before)["action"]["options"] == [{"name": "approve", "approves": True}, {"name": "decline"}]


def test_an_each_holds_its_body_and_the_value_of_an_item() -> None:
    body = (
        'policy { allow get }\nstart state s { each q in ["a"], 2 at once { call get(q)\n'
        "on error any skip } as _xs -> done }"
    )
    made = one(body, TOOL)["action"]
    assert (made["kind"], made["item"], made["at_once"], made["bind"]) == ("each", "q", 2, "_xs")
    assert made["body"]["start"] == "do"
    assert made["body"]["states"][0]["yields"] == ["var", "result"]
    assert made["body"]["states"][0]["edges"] == [
        {"id": "on error#0", "trigger": "error", "errors": ["any"], "skip": True}
    ]


@pytest.mark.parametrize(("join", "need"), [("join all", 2), ("join any", 1), ("join 1 of 2", 1), ("", 2)])
def test_a_parallel_knows_how_many_branches_it_needs(join: str, need: int) -> None:
    body = (
        f"start parallel s {{ branch x {{ wait 1h }}\nbranch y {{ wait 2h }}\n{join}\non join -> done\n"
        f"on error any -> done }}"
    )
    made = one(body)["action"]
    assert (made["need"], [b["name"] for b in made["branches"]]) == (need, ["x", "y"])


def test_a_child_agent_comes_with_its_parent() -> None:
    child = (
        "agent child version 1 {\ninput n: int\noutput m: int\nstart state s { wait 1h -> done }\n"
        "final done { m = n }\n}\n"
    )
    text = child + agent(
        "output m: int\nstart state s { run child(1) as x budget { steps 3 } -> done }\nfinal done { m = x.m }"
    )
    made = compiler.compile_text(text, agent="a").definition
    assert sorted(made.agents) == ["a", "child"]
    alone = compiler.compile_text(text, agent="child").definition
    assert sorted(alone.agents) == ["child"]


def test_finally_runs_its_calls_one_after_the_other_whatever_happens() -> None:
    body = 'policy { allow get }\nfinally { call get("a")\ncall get("b") }\nstart state s { wait 1h -> done }'
    data = json.loads(compiled(TOOL + agent(body + "\nfinal done {}")).definition.canonical())
    region = data["agents"]["a"]["finally_"]
    assert [s["name"] for s in region["states"]] == ["finally_1", "finally_2", "finally_end"]
    assert {e["target"] for e in region["states"][0]["edges"]} == {"finally_2"}


def test_rules_keep_their_order_and_windows_and_people() -> None:
    before = TOOL + "tool pay(amount: money, id: string) { effect irreversible }\n"
    body = (
        "policy {\nfact n = get(id = args.id) within 10m for pay\nallow get\nallow pay when args.amount <= $5\n"
        'require get(id = args.id) before pay\nrequire approval by 2 of "officer" not principal before pay\n'
        "never get after pay\nlimit get 3 calls, pay total args.amount <= $9 per args.id per principal per day\n"
        "forbid any irreversible when n > 3\nredact key, id\n}\ninput key: string, id: string\n"
        'start state s { ask role "officer" to pay($1, id) "?"\non approve -> p\non decline -> done }\n'
        "state p { call approved pay\non in_doubt -> done\non denied -> done\n-> done }\n"
        "state _q { call get(key) -> done }"
    )
    result = compiler.analyse_text(before + agent(body + "\nfinal done {}"))
    from jamjet_dsl.analysis.lower import lower

    rules = [
        r.model_dump(mode="json", exclude_defaults=True)
        for r in lower(result.analysis, result.analysis.agents[0]).definition.agent.rules or ()
    ]
    assert [r["kind"] for r in rules] == [
        "fact",
        "allow",
        "allow",
        "require_read",
        "require_people",
        "never",
        "limit",
        "limit",
        "forbid",
        "redact",
        "redact",
    ]
    assert rules[7]["limit"] == {
        "tools": {"names": ["pay"]},
        "amount": ["select", ["var", "args"], "amount"],
        "bound": ["money", "9.00 USD"],
        "per": [["select", ["var", "args"], "id"]],
        "principal": True,
        "window_ms": 86_400_000,
    }
    assert rules[4] == {
        "kind": "require_people",
        "tools": {"names": ["pay"]},
        "count": 2,
        "role": "officer",
        "excluding": "principal",
    }
    assert rules[8]["tools"] == {"classes": ["irreversible"]}


def test_doc_comments_that_models_read_are_in_the_definition_and_all_stand_beside_it() -> None:
    text = (
        "/// Finds it.\ntool get(id: string) -> Found { effect reads }\n"
        "/// What was found.\nrecord Found {\n/// How many.\nn: int }\n"
        "/// Looks.\n"
        + agent(
            'policy { allow get }\noutput n: int\n/// First.\nstart state s { call get("a") as x -> done }\n'
            "final done { n = x.n }"
        )
    )
    made = compiled(text)
    assert made.definition.tools["get"].doc == "Finds it."
    assert made.definition.records["Found"].fields[0].doc == "How many."
    assert made.docs["a"] == "Looks."
    assert made.docs["a/s"] == "First."
    assert b"Looks." not in made.definition.canonical()


def test_large_integers_and_money_are_exact() -> None:
    body = (
        "output n: int, m: money, d: decimal\nstart state s { wait 1h -> done }\n"
        "final done { n = 9007199254740993  m = $0.1  d = 0.1 }"
    )
    data = json.loads(compiled(agent(body)).definition.canonical())
    outputs = data["agents"]["a"]["body"]["states"][1]["outputs"]
    assert outputs == {"n": ["int", "9007199254740993"], "m": ["money", "0.10 USD"], "d": ["decimal", "0.1"]}


# ---- refusals


def test_a_program_with_errors_is_refused_with_all_its_findings() -> None:
    with pytest.raises(compiler.ProgramRefused) as caught:
        compiler.compile_text(agent("start state s { -> nowhere }\nfinal done {}"), "x.jam")
    assert caught.value.code == "JAMR004"
    assert [d.code for d in caught.value.diagnostics if d.severity == "error"] == ["JAM101"]
    assert caught.value.details == ("x.jam:2:20: JAM101: there is no state `nowhere`",)


@pytest.mark.parametrize(("text", "name"), [(SMALL, "b"), ("record R { x: int }\n", None)])
def test_an_agent_that_is_not_there_is_a_coded_error(text: str, name: str | None) -> None:
    with pytest.raises(JamError) as caught:
        compiler.compile_text(text, agent=name)
    assert caught.value.code == "JAMR005"


def test_an_expression_that_is_too_large_to_evaluate_is_refused_when_it_is_compiled() -> None:
    fns = "fn f0(n: int) -> int = n + 1\n" + "".join(
        f"fn f{i}(n: int) -> int = f{i - 1}(n) + 1\n" for i in range(1, 150)
    )
    body = "input x: int\noutput y: int\nstart state s { wait 1h -> done }\nfinal done { y = f149(x) }"
    with pytest.raises(JamError) as caught:
        compiler.compile_text(fns + agent(body), "deep.jam")
    assert caught.value.code == "JAMR501"
    assert caught.value.message.startswith("deep.jam:155:18: ")


def test_the_sum_of_no_money_is_in_the_currency_of_the_agent() -> None:
    body = (
        "input parts: list<money>\noutput total: money\n"
        "start state s { when sum(parts) > 5 EUR -> done  otherwise -> done }\nfinal done { total = sum(parts) }"
    )
    data = json.loads(compiled(agent(body)).definition.canonical())
    outputs = data["agents"]["a"]["body"]["states"][1]["outputs"]
    assert outputs["total"] == ["call", "sum", ["var", "parts"], ["money", "0.00 EUR"]]


def test_the_range_of_a_money_type_fixes_its_currency() -> None:
    body = "input m: money 0 EUR..500 EUR\noutput n: money\nstart state s { wait 1h -> done }\nfinal done { n = m }"
    (field,) = json.loads(compiled(agent(body)).definition.canonical())["agents"]["a"]["inputs"]
    assert field["type"] == {"kind": "money", "currency": "EUR", "low": "0", "high": "500"}
