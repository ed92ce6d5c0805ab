"""JAM616: untrusted text in the arguments of irreversible calls, as a run would mark it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.compiler import check_text, compile_text
from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.engine.testing import run_tests

PROGRAM = """
tool send(to: string, text: string) {{ effect irreversible  key run.id + to + text  timeout 5s }}
tool page(url: string) -> string untrusted {{ effect reads  timeout 5s }}
tool look(q: string) -> string {{ effect reads  timeout 5s }}
record Note {{ text: string  by: string }}
agent a version 1 {{
  input to: string, n: int, xs: list<string> 0..5
  var chat: conversation = []
  var note: Note = {{ text: "", by: "" }}
  var memo: string = ""
  event said(text: string)
  policy {{ allow page, look  {policy} }}
  on error any -> stop
  on denied -> refused
  on in_doubt -> stop
  {states}
  final done {{}}
  final refused {{}}
  failed stop {{}}
}}
"""
WAIVED = 'allow send without approval because "our own people"'
READ = "start state read { call page(to) as text  -> next }"
SEND = "  state mail { call send(to, %s)  -> done }"
KIDS = """
agent echo version 1 {
  input t: string
  output out: string
  start state go { wait 1s  -> done }
  final done { out = t }
}
agent mute version 1 {
  input t: string
  output out: string
  policy { allow look }
  on error any -> stop
  on denied -> stop
  start state go { call look(t) as x  -> done }
  final done { out = x }
  failed stop { out = "" }
}
agent fetch version 1 {
  input t: string
  output out: string
  policy { allow page }
  on error any -> stop
  on denied -> stop
  start state go { call page("u") as x  -> done }
  final done { out = x }
  failed stop { out = t }
}
agent post version 1 {
  input t: string
  policy { allow send without approval because "our own people" }
  on error any -> stop
  on denied -> stop
  on in_doubt -> stop
  start state go { call send("us", t)  -> done }
  final done {}
  failed stop {}
}
"""


def found(states: str, policy: str = WAIVED) -> list[Diagnostic]:
    diagnostics = check_text(PROGRAM.format(states=states, policy=policy) + KIDS)
    assert not [d for d in diagnostics if d.severity == "error"], diagnostics
    return [d for d in diagnostics if d.code == "JAM616"]


def way(diagnostic: Diagnostic) -> list[str]:
    return [f"{s.state} {s.edge}".strip() for s in diagnostic.path]


THINK = 'think "{%s}" model m  max tokens 1k  as words: string'


@pytest.mark.parametrize(
    ("between", "value"),
    [
        ("", "text"),
        ("", '"Hello " + text'),
        ("set memo = text", "memo"),
        ("set note.text = text", "note.by"),
        (THINK % "text", "words"),
        ('think "x" given text  model m  max tokens 1k  as words: string', "words"),
        ("run echo(text) as r", "r.out"),
        ("run fetch(to) as r", "r.out"),
        ('each x in [text] { think "{x}" model m  max tokens 1k } as ys', "string(size(ys)) + ys.map(y, y)[0]"),
        ('each x in xs { call page(x) as p  yields p + "!" } as ys', "ys.map(y, y)[0]"),
        ("each x in xs { call look(x) as p  yields text } as ys", "ys.map(y, y)[0]"),
    ],
)
def test_what_comes_of_untrusted_text_is_untrusted(between, value):
    (problem,) = found(READ + f"  state next {{ {between or 'wait 1h'}  -> mail }}" + SEND % value)
    assert problem.message == "untrusted text reaches `text` of `send`, which nobody approves"
    assert way(problem)[-1] == "mail"
    assert [label.text for label in problem.labels] == ["untrusted text comes from here"]


@pytest.mark.parametrize(
    ("between", "value"),
    [
        ("", '"Hello"'),
        ("", "to"),
        ("call look(text) as clean", "clean"),
        ("set memo = text  set memo = to", "memo"),
        (THINK % "to", "words"),
        ("run mute(text) as r", "r.out"),
        ('ask role "o" "{text}?" answer { say: string } timeout 1h  on timeout -> stop  as q', "q.say"),
        ("wait for event said(m) timeout 1h  on timeout -> stop", "m.text"),
        ("each x in [text] { call look(x) } as ys", "ys.map(y, y)[0]"),
    ],
)
def test_what_a_person_an_event_or_another_tool_says_is_not(between, value):
    between = between.replace(" on timeout -> stop  as q", " as q  on timeout -> stop")
    assert found(READ + f"  state next {{ {between or 'wait 1h'}  -> mail }}" + SEND % value) == []


def test_the_whole_path_from_where_it_was_read_is_shown():
    states = READ.replace("-> next", "when n > 1 -> next  otherwise -> done") + "  state next { wait 1h  -> mail }"
    (problem,) = found(states + SEND % "text")
    assert way(problem) == ["read when n > 1", "next then", "mail"]
    dead = states.replace("n > 1", "n > 1 && n < 0")
    assert found(dead + SEND % "(has(text) ? text : to)") == []


def test_a_call_at_the_end_of_the_run_counts():
    states = READ + "  state next { wait 1h  -> done }  finally { call send(to, text) }"
    (problem,) = found(states)
    assert way(problem) == ["read then", "next then", "done"]


def test_the_policy_of_an_agent_around_counts_for_what_a_child_sends():
    states = READ + "  state next { run post(text)  -> done }"
    assert found(states, WAIVED + "  forbid send when untrusted(args.text)") == []
    assert len(found(states, WAIVED + "  forbid send when untrusted(args.to)")) == 1


def test_each_argument_is_told_once():
    both = READ + "  state next { call send(text, text)  -> next limit 2 else done }"
    assert [d.message for d in found(both)] == [
        "untrusted text reaches `to` of `send`, which nobody approves",
        "untrusted text reaches `text` of `send`, which nobody approves",
    ]


def test_a_child_that_sends_what_it_is_given():
    (problem,) = found(READ + "  state next { run post(text)  -> done }")
    assert problem.message == "untrusted text reaches `text` of `send`, in `post`, which nobody approves"
    assert way(problem) == ["read then", "next"]
    assert found(READ + "  state next { run post(to)  -> done }") == []


def test_a_conversation_that_has_heard_it_is_untrusted_and_so_is_what_a_model_proposes_in_it():
    states = """start state d {
      think "x" in chat tools page, %s  model m  max tokens 1k  max prompt 4k  timeout 5s  as move
      when has(move.call) -> act
      otherwise -> done
    }
    state act { call proposed move  -> d limit 5 else done }"""
    problems = found(states % "send")
    assert [d.message for d in problems] == ["untrusted text reaches the arguments of `send`, which nobody approves"]
    assert way(problems[0]) == ["d when has(move.call)", "act then", "d when has(move.call)", "act"]
    assert found((states % "send").replace("in chat ", "")) == []
    assert found((states % "send").replace("tools page, ", "tools look, ")) == []


@pytest.mark.parametrize(
    "policy",
    [
        'allow send when !untrusted(args.text) without approval because "x"',
        WAIVED + "  forbid send when untrusted(args.text)",
        WAIVED + "  forbid send when !attested(args.text)",
        WAIVED + '  forbid send when args.to == "us" && untrusted(args)',
    ],
)
def test_a_policy_that_asks_where_the_argument_came_from_is_enough(policy):
    states = READ + "  state next { wait 1h  -> mail }" + SEND % "text"
    assert found(states, policy.replace("untrusted(args)", "untrusted(args.text)")) == []
    other = policy.replace("args.text", "args.to").replace("untrusted(args)", "untrusted(args.to)")
    assert len(found(states, other)) == 1


def test_a_call_that_somebody_approves_is_in_order():
    states = (
        READ
        + """  state next {
      ask role "o" to send(to, text) "?"  timeout 1h  on approve -> go  on decline -> stop  on timeout -> stop
    }
    state go { call approved send  -> done }"""
    )
    assert found(states, "allow send") == []


def test_a_write_is_no_matter_of_this_check():
    text = PROGRAM.format(states=READ + "  state next { wait 1h  -> mail }" + SEND % "text", policy="allow send")
    assert "JAM616" not in [d.code for d in check_text(text.replace("irreversible", "writes"))]


# ---- against what a run marks

NAMES = ("p", "q", "r")
STEPS = st.one_of(
    st.tuples(st.just("page"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("look"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("set"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("add"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("think"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("ask"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("echo"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("mute"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("each"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("both"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
)


def state(n: int, step: tuple[str, str, str], jumps: bool) -> str:
    """A state that sets the second name of a step to what the action makes of the first; one that jumps may leave out
    the next one."""
    what, one, other = step
    sets = f"set {other} = "
    match what:
        case "page" | "look":
            body = f"call {what}({one}) as x{n}  {sets}x{n}"
        case "set":
            body = f"{sets}{one}"
        case "add":
            body = f"{sets}{other} + {one}"
        case "think":
            body = f'think "{{{one}}}" model m  max tokens 1k  as x{n}: string  {sets}x{n}'
        case "ask":
            body = f'ask role "o" "{{{one}}}?" answer {{ say: string }}  as x{n}  {sets}x{n}.say'
        case "echo" | "mute":
            body = f"run {what}({one}) as x{n}  {sets}x{n}.out"
        case "each":
            body = f"each i{n} in [{one}, p] {{ call look(p)  yields i{n} }} as x{n}  {sets}x{n}.map(y, y)[0]"
        case _:
            branches = f"branch u{n} as x{n} {{ call page(p) as z{n}  yields {one} }} branch v{n} {{ call look(p) }}"
            return (
                f"parallel s{n} {{ {branches} join all  on join -> s{n}_ }}  state s{n}_ {{ {sets}x{n}  -> s{n + 1} }}"
            )
    ways = f"when n == {n} -> s{n + 2}  otherwise -> s{n + 1}" if jumps else f"-> s{n + 1}"
    return f"state s{n} {{ {body}  {ways} }}"


@settings(max_examples=60)
@given(st.lists(STEPS, min_size=2, max_size=6), st.sampled_from(NAMES), st.integers(0, 5))
def test_the_check_finds_what_a_run_would_mark(steps, sent, jump):
    """One program for each: the check on the one that would send, and runs of the one whose policy denies untrusted
    text, over both ways through the states: one of them is denied if and only if something is found."""
    states = "  var p: string = to  var q: string = to  var r: string = to\n  start state s { wait 1s  -> s0 }\n"
    states += "\n".join(state(n, step, n == jump) for n, step in enumerate(steps))
    end = len(steps)
    states += f"\n  state s{end} {{ wait 1s  -> s{end + 1} }}\n  state s{end + 1} {{ call send(to, {sent})  -> done }}"
    text = PROGRAM.format(states=states, policy="%s") + KIDS
    told = [d for d in check_text(text % WAIVED) if d.code in ("JAM616", "JAM001", "JAM101", "JAM401")]
    assert {d.code for d in told} <= {"JAM616"}
    said = {"ask": 'answers done { say: "t" }', "think": 'returns "t"'}
    mocks = 'mock page returns "t"  mock look returns "t"  mock send returns null  '
    mocks += "  ".join(f"mock s{n} {said[step[0]]}" for n, step in enumerate(steps) if step[0] in said)
    tests = "\n".join(
        f'test "{n}" for a {{ input to = "t"  input n = {n}  input xs = []  {mocks}  expect state != stop }}'
        for n in (-1, jump)
    )
    results = list(run_tests(compile_text(text % (WAIVED + "  forbid send when untrusted(args.text)") + tests)))
    assert all(r.path[-1] in ("done", "refused") for r in results), [(r.path, r.failures) for r in results]
    assert bool(told) == any(r.path[-1] == "refused" for r in results)
