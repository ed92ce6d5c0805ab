"""Every construct of the language becomes the node that `ast.py` documents."""

from __future__ import annotations

from typing import TypeVar

import pytest
from syrupy.assertion import SnapshotAssertion

from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.ast import clause, clauses
from jamjet_dsl.syntax.node import Node
from jamjet_dsl.syntax.parser import parse, parse_expression

_N = TypeVar("_N", bound=Node)


def program(text: str) -> ast.Program:
    parsed = parse(SourceFile("test.jam", text))
    assert [(d.code, d.message) for d in parsed.diagnostics] == []
    assert not parsed.incomplete
    return parsed.program


def agent(members: str) -> ast.AgentDecl:
    (item,) = program(f"agent a version 1 {{\n{members}\n}}").items
    assert isinstance(item, ast.AgentDecl)
    return item


def only(nodes: tuple[Node, ...], kind: type[_N]) -> _N:
    found = clause(nodes, kind)
    assert found is not None
    return found


def state(clauses_: str) -> tuple[Node, ...]:
    return only(agent(f"state s {{\n{clauses_}\n}}").members, ast.StateDecl).clauses


def expr(text: str) -> ast.Expr:
    made, found = parse_expression(SourceFile("x", text))
    assert [(d.code, d.message) for d in found] == []
    return made


_DECLARATIONS = {
    "language": "language 1",
    "import": 'import { a, b } from "./x.jam"',
    "record": "record R { a: int  b: list<map<string, any>>?  c: int 300..850  d: secret string  e: money $1..$5 }",
    "negative range": "record R { a: float -1.5..2.5  b: list<string> 1..12 }",
    "range of money before a value": "const a: money -2 EUR.. -1 EUR = -1 EUR\nconst b: money 0 EUR..9.5 EUR = 1 EUR",
    "enum": "enum E { x  y }",
    "const": 'const c: map<string, int> = { "economy": 1 }\nconst d = 5m',
    "fn": "fn f(o: Order, n: int) -> decimal = sum(o.items.map(i, i.price)) * n",
    "fn without parameters": "fn f() -> int = 1",
    "tool": """
        tool pay(account: string, amount: money) -> Receipt untrusted {
          via http POST "https://bank/{account}"
          effect irreversible  key run.id + "/x"  confirm lookup(run.id)  undo reverse(result.id)
          cost $0.10  timeout 60s  retry RateLimited, Timeout 3 times backoff 1s x 2 max 30s jitter full
          limit 10 calls per minute  raises Rejected, NotFound
        }""",
    "via": """
        tool a() { via python "m:f" }
        tool b() { via mcp bank "disburse" }
        tool c() { via command ["pay", "{account}"] }""",
    "tool without anything": "tool t() { }",
    "model": 'model large { via anthropic "claude"  price $3 in $15 out per 1M tokens }',
    "test": """
        test "name" for a {
          input q = { b: 1 }
          mock t returns 1 then 2 then raises E
          mock r answers approve { note: "ok" } then answers refuse
          expect path x, y
          expect calls(t) == 1 && spent.cost <= $0.50
        }""",
}
_MEMBERS = {
    "input, output, var": "input a: int, b: R?\noutput c: string\nvar d: list<int> = []\nvar e: conversation",
    "events": "event said(text: string)\nevent stop()\nemits reply(text: string, n: int)",
    "budget": """
        budget { steps 25  tokens 20k  cost $2.00  time 7d  active 10m  warn at 80%
                 reserve { steps 5  cost 0.20 EUR  time 10m }  exceeded -> e }""",
    "budget of consts": "budget { steps n  tokens m  cost c  time t }",
    "handlers": "on error any -> e\non error A, B -> e\non denied -> e\non cancel -> e\non in_doubt -> e",
    "finally": "finally { call close(sb.id) }",
    "migration": "migrate from 2 { old -> new  b -> c }",
    "fact": "policy { fact o = get(id = args.id) within 10m for a, any writes\nfact p = get() }",
    "allow": """
        policy {
          allow a, b  allow any reads  allow c when args.x <= $5
          allow d without approval because "reversible"  allow any
        }""",
    "forbid and never": """
        policy {
          forbid a when x != "y"  forbid any irreversible
          never a after b, any writes  never any after c  never d after e when x
        }""",
    "require": """
        policy {
          require get(id = args.id) as g before pay when x  require get() before any writes
          require any of a, b as who before c, any writes
          require approval review before pay when args.amount > $100
          require approval by 2 of "officer" not principal before pay  require approval by n of "x" before pay
        }""",
    "policy limits": """
        policy {
          limit search 8 calls, refund 1 call per args.order_id
          limit refund total args.amount <= $500 per principal per day, any writes n calls
          redact app.ssn, b
        }""",
    "checks": """
        check every path to s passes a, b
        check never t unless a answers o
        check no path calls t twice
        check no path calls t 3 times
        check every run ends within 20 steps
        check every cycle is bounded
        check from any state a final is reachable
        check "named": always x > 1
        check "bounded": every cycle is bounded
        check spent.cost <= $2.00""",
    "states": "start state s { }\nstate t { }\nfinal f { a = 1  state = b }\nfailed g { }",
    "parallel": """
        start parallel p {
          branch a as x or [] { call t() }
          branch b as y { state s { -> f }  final f { } }
          branch c { yields 3 }
          join 2 of 3 within 25m
          on join -> m
        }
        parallel q { join all }
        parallel r { join any }
        parallel s { join k of n within d }""",
}
_CLAUSES = {
    "call": "call t(1, b = x) as y timeout 5s retry any n times",
    "call with": "call t with { a: 1 } as x",
    "call proposed": "call proposed m timeout 5s",
    "call approved": "call approved t as x",
    "think": """
        think "Say {a.b} and {{c}}." in chat
          given a, b.c?, label = d + 1  tools t, u  model large  max prompt 24k  max tokens n  temperature 0.5
          timeout 1m  retry InvalidOutput 2 times  as x: list<T>""",
    "ask": """
        ask role "R" to t(a, n = 1) "Do {x}?" show a?, b.c  options yes approves, no
          answer { note: string?  state: int }  remind every 8h  timeout 48h  as a""",
    "ask proposed": 'ask role "R" to proposed m "Do it?" options yes approves',
    "ask freely": 'ask role "R" "What?" answer { text: string } as a',
    "run": "run child(a, n = 1) as x budget { steps 3 } timeout 5m retry any 2 times",
    "each": """
        each q in plan.items, 4 at once collect flat {
          call t(q)
          on error any skip
          on error E yields { a: 1 }
          yields q
        } as xs""",
    "each with states": "each q in xs { state s { -> d }  final d { } }",
    "waits": "wait 30m\nwait d\nwait until t + 1h\nwait for event said(m) timeout 30m\nwait for event stop",
    "emit and undo": "emit reply(text = x)\nundo all",
    "set and yields": "set a.b = 1\nyields a",
    "edges": """
        -> t
        when a > 1 -> t limit 3 else u { set a = 1  set b = 2 }
        otherwise -> t limit n
        on error A, B -> t
        on error any skip
        on error any yields 1
        on timeout -> t
        on denied -> t
        on in_doubt -> t
        on approve -> t
        on event e(x) -> t
        on event e -> t
        on join -> t
        when a skip""",
    "soft keywords as names": """
        call call(state, model = budget) as when
        set limit = max(steps, all) + retry.times
        when on -> otherwise
        -> state""",
    "backticked names": "call `call`(`true`) as `when`\n-> `on`",
}


@pytest.mark.parametrize("name", _DECLARATIONS)
def test_declarations(name: str, snapshot: SnapshotAssertion) -> None:
    made = program(_DECLARATIONS[name])
    assert [made.language, *made.imports, *made.items] == snapshot(name=name)


@pytest.mark.parametrize("name", _MEMBERS)
def test_members_of_agents(name: str, snapshot: SnapshotAssertion) -> None:
    assert "\n".join(map(repr, agent(_MEMBERS[name]).members)) == snapshot(name=name)


@pytest.mark.parametrize("name", _CLAUSES)
def test_clauses_of_states(name: str, snapshot: SnapshotAssertion) -> None:
    assert "\n".join(map(repr, state(_CLAUSES[name]))) == snapshot(name=name)


# ---- what the tree promises beyond its shape


def test_the_parts_of_a_retry_are_one_clause_wherever_they_stand() -> None:
    call = only(state("call t() retry E 3 times timeout 5s backoff 1s x 2 as x max 30s jitter full"), ast.CallAction)
    retry = only(call.options, ast.RetryClause)
    assert [type(option) for option in call.options] == [ast.RetryClause, ast.TimeoutClause, ast.BindOpt]
    assert (retry.backoff, retry.factor, retry.max_delay, retry.jitter) != (None, None, None, None)
    assert retry.jitter is not None
    assert retry.jitter.text == "full"
    assert retry.span.text.startswith("retry E")
    assert retry.span.text.endswith("jitter full")


def test_two_retries_keep_their_own_parts() -> None:
    call = only(state("call t() retry A 3 times backoff 1s retry B 2 times backoff 2s"), ast.CallAction)
    first, second = clauses(call.options, ast.RetryClause)
    assert isinstance(first.backoff, ast.Lit)
    assert isinstance(second.backoff, ast.Lit)
    assert (first.backoff.value, second.backoff.value) == (1000, 2000)


def test_a_part_given_twice_is_a_duplicate_clause() -> None:
    found = parse(SourceFile("x", "tool t() { retry any 3 times backoff 1s backoff 2s }")).diagnostics
    assert [(d.code, d.message) for d in found] == [("JAM007", "`backoff` is given twice for one retry")]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("-5", "int", -5),
        ("-9223372036854775808", "int", -(2**63)),
        ("-1.5", "float", -1.5),
        ("-$2.50", "money", ("-2.50", "USD")),
        ("-5m", "duration", -300_000),
    ],
)
def test_a_minus_before_a_number_belongs_to_it(text: str, kind: str, value: object) -> None:
    made = expr(text)
    assert isinstance(made, ast.Lit)
    assert (made.kind, made.value, made.span.text) == (kind, value, text)


@pytest.mark.parametrize("text", ["-(5)", "--5", "-a", "-5u", '-"a"', "-true", "-5.f()"])
def test_a_minus_before_anything_else_is_an_operation(text: str) -> None:
    assert isinstance(expr(text), ast.Unary | ast.MethodCall)


def test_operators_bind_as_in_cel() -> None:
    def shape(node: ast.Expr) -> str:
        match node:
            case ast.Binary(op=op, left=left, right=right):
                return f"({shape(left)}{op}{shape(right)})"
            case ast.Cond(test=test, then=then, other=other):
                return f"({shape(test)}?{shape(then)}:{shape(other)})"
            case ast.Unary(op=op, operand=operand):
                return f"{op}{shape(operand)}"
        return node.span.text

    assert shape(expr("a + b * c - d")) == "((a+(b*c))-d)"
    assert shape(expr("a || b && c == d + e")) == "(a||(b&&(c==(d+e))))"
    assert shape(expr("a ? b : c ? d : e")) == "(a?b:(c?d:e))"
    assert shape(expr("!a.b && -c < d in e")) == "(!a.b&&((-c<d)ine))"
    assert shape(expr("a % b / c")) == "((a%b)/c)"


def test_a_bare_key_is_a_field_and_any_other_key_an_expression() -> None:
    made = expr('{ a: 1, (b): 2, "c": 3, .d: 4, `e`: 5 }')
    assert isinstance(made, ast.MapLit)
    assert [entry.field.text if entry.field else None for entry in made.entries] == ["a", None, None, None, "e"]
    assert [type(entry.key) for entry in made.entries] == [ast.Lit, ast.Ident, ast.Lit, ast.Ident, ast.Lit]


def test_a_leading_dot_names_the_root() -> None:
    made = expr(".x")
    assert isinstance(made, ast.Ident)
    assert made.name == ".x"


def test_a_currency_may_stand_before_a_colon() -> None:
    made = expr("a ? 5 EUR : 3 EUR")
    assert isinstance(made, ast.Cond)
    assert isinstance(made.then, ast.Lit)
    assert made.then.value == ("5", "EUR")


def test_a_name_of_three_capitals_after_a_number_is_a_name_before_equals() -> None:
    final = only(agent("final f { a = 5 EUR = 6 }").members, ast.FinalDecl)
    assert [assign.name.text for assign in final.assigns] == ["a", "EUR"]


def test_a_type_may_end_right_before_an_equals_sign() -> None:
    (const,) = program("const c: list<int>= [1]").items
    assert isinstance(const, ast.ConstDecl)
    assert isinstance(const.value, ast.ListLit)


# ---- texts


def _text(source: str) -> ast.Text:
    return only(state(f"think {source} as x"), ast.ThinkAction).text


def test_a_text_has_its_placeholders_in_place() -> None:
    made = _text('"Lend {app.amount} to { who }?"')
    assert made.value == "Lend {app.amount} to { who }?"
    shown = [part if isinstance(part, str) else part.path.text for part in made.parts]
    assert shown == ["Lend ", "app.amount", " to ", "who", "?"]
    places = [part for part in made.parts if isinstance(part, ast.Placeholder)]
    assert [place.span.text for place in places] == ["{app.amount}", "{ who }"]
    assert [name.span.text for place in places for name in place.path.names] == ["app", "amount", "who"]


def test_a_doubled_brace_is_a_brace_and_a_closing_one_needs_nothing() -> None:
    made = _text('"{{\\"a\\": {b}}"')
    assert [p if isinstance(p, str) else p.path.text for p in made.parts] == ['{"a": ', "b", "}"]


def test_places_are_exact_behind_escapes_and_in_triple_and_raw_texts() -> None:
    for source in ('"\\n\\u00e9{a}"', '"""x\n"y" {a}"""', "r'\\d{a}'"):
        made = _text(source)
        (place,) = [part for part in made.parts if isinstance(part, ast.Placeholder)]
        assert place.span.text == "{a}"
    assert _text('"\\n\\u00e9{a}"').parts[0] == "\n\u00e9"
    assert _text("r'\\d{a}'").parts[0] == "\\d"


def test_an_escaped_brace_is_no_placeholder() -> None:
    assert _text('"\\x7ba}"').parts == ("{a}",)


def test_an_empty_text_has_no_parts() -> None:
    assert _text('""').parts == ()


# ---- doc comments


_DOCUMENTED = """
/// An outcome.
record R {
  /// The score,
  /// of the bureau.
  score: int
  flags: int
}
/// Pays.
tool pay(
  /// From where.
  account: string
) { effect writes }
//// not a doc comment
enum E { x }
/// A model.
model m { via a "b" }
/// The agent.
agent a version 1 {
  /// What to look at.
  input app: R
  /// Kept.
  var v: int
  /// May be sent.
  event e(n: int)
  /// Is sent.
  emits m(n: int)
  /// First.
  start state s { -> f }
  /// Both at once.
  parallel p {
    /// One.
    branch b { yields 1 }
    join all
  }
  /// The end.
  final f { }
}
"""


def test_doc_comments_belong_to_what_follows() -> None:
    made = program(_DOCUMENTED)
    docs = {}
    todo: list[Node] = list(made.items)
    from jamjet_dsl.syntax.node import walk

    for item in todo:
        for node in walk(item):
            if getattr(node, "doc", None):
                docs[node.name.text] = node.doc  # type: ignore[attr-defined]
    assert docs == {
        "R": "An outcome.",
        "score": "The score,\nof the bureau.",
        "pay": "Pays.",
        "account": "From where.",
        "m": "Is sent.",
        "a": "The agent.",
        "app": "What to look at.",
        "v": "Kept.",
        "e": "May be sent.",
        "s": "First.",
        "p": "Both at once.",
        "b": "One.",
        "f": "The end.",
    }
    assert [comment.text for comment in made.comments] == ["//// not a doc comment"]


def test_a_doc_comment_that_describes_nothing_is_a_comment() -> None:
    made = program("/// lost\nimport { a } from './x.jam'\n/// the end")
    assert [comment.text for comment in made.comments] == ["/// lost", "/// the end"]
