"""Assignment, liveness, secrets and branches, case by case: what counts as assigned, read, shown."""

from __future__ import annotations

import pytest

from jamjet_dsl.compiler import check_text
from jamjet_dsl.diagnostics.model import Diagnostic

TOOLS = """
record Page { text: string  note: string? }
tool fetch(id: string) -> Page { effect reads }
tool sign(id: string) -> string { effect writes  key run.id }
"""
HEAD = "input id: string, on: bool  policy { allow fetch, sign }  budget { steps 50 exceeded -> stop }"


def found(body: str, *codes: str, tools: str = TOOLS) -> list[Diagnostic]:
    """The findings of these codes about an agent with this body and an optional output."""
    text = f"{tools}\nagent a version 1 {{\n{HEAD}\noutput text: string?\n{body}\nfailed stop {{}}\n}}\n"
    all_found = [d for d in check_text(text, "a.jam") if d.code not in ("JAM107", "JAM211", "JAM613", "JAM609")]
    assert not [d for d in all_found if d.code < "JAM2"], [f"{d.code} {d.message}" for d in all_found]
    return [d for d in all_found if d.code in codes]


def unsafe(body: str) -> list[tuple[str, str]]:
    return [(d.code, d.span.text) for d in found(body, "JAM404", "JAM405", "JAM414")]


def path(finding: Diagnostic) -> str:
    return " ".join(f"{step.state} --{step.edge}-->" if step.edge else step.state for step in finding.path)


# ---- which edges assign what


@pytest.mark.parametrize("trigger", ["", "when on", "otherwise"])
def test_a_result_is_assigned_on_the_edges_of_success(trigger):
    rest = "" if trigger != "when on" else "otherwise -> stop"
    assert not unsafe(
        f"start state s {{ call fetch(id) as p {trigger} -> done {rest} }} final done {{ text = p.text }}"
    )


@pytest.mark.parametrize("trigger", ["on error any", "on error Timeout", "on denied"])
def test_a_result_is_not_assigned_when_the_action_failed(trigger):
    body = f"start state s {{ call fetch(id) as p {trigger} -> done -> done }} final done {{ text = p.text }}"
    assert unsafe(body) == [("JAM405", "p")]


def test_an_answer_is_assigned_by_an_option_and_not_by_the_timeout():
    body = """start state s {{ ask role "boss" "Well?" options yes, no timeout 1h as reply
      on yes -> {0} on no -> stop on timeout -> {1} }}
      final done {{ text = reply.by }} final other {{ text = "" }}"""
    assert not unsafe(body.format("done", "other"))
    assert unsafe(body.format("other", "done")) == [("JAM404", "reply")]


def test_the_payload_of_an_event_is_assigned_on_its_edge_and_on_that_of_its_limit():
    body = """event go(why: string) start state s { wait 1h on event go(e) -> s limit 2 else done -> stop }
      final done { text = e.why }"""
    assert not unsafe(body)
    body = "event go(why: string) start state s { wait 1h on event go(e) -> done -> done } final done { text = e.why }"
    assert unsafe(body) == [("JAM405", "e")]


def test_what_was_waited_for_is_not_assigned_on_the_timeout():
    body = """event go(why: string) start state s { wait for event go(e) timeout 1h on timeout -> done -> done }
      final done { text = e.why }"""
    (finding,) = found(body, "JAM405")
    assert path(finding) == "s --on timeout--> done"


def test_the_block_of_an_edge_does_not_run_on_the_way_to_else():
    body = """var n: string start state s { wait 1h -> s limit 2 else done { set n = "x" } } final done { text = n }"""
    assert unsafe(body) == [("JAM405", "n")]


def test_exceeding_the_budget_assigns_nothing():
    text = f"""{TOOLS} agent a version 1 {{ input id: string output text: string policy {{ allow fetch }}
      budget {{ steps 5 exceeded -> stop }}
      start state s {{ call fetch(id) as p -> stop }} final stop {{ text = p.text }} }}"""
    (finding,) = [d for d in check_text(text, "a.jam") if d.code == "JAM405"]
    assert path(finding) == "s --budget exceeded--> stop"


def test_sets_of_a_state_run_in_order_after_its_action():
    body = """var n: string var m: string
      start state s { call fetch(id) as p set n = p.text set m = n -> done } final done { text = m }"""
    assert not unsafe(body)
    body = """var n: string var m: string
      start state s { call fetch(id) as p set m = n set n = p.text -> done } final done { text = m }"""
    assert unsafe(body) == [("JAM404", "n")]


def test_changing_a_part_reads_the_whole():
    body = 'var p: Page start state s { wait 1h set p.text = "x" -> done } final done { text = p.text }'
    assert ("JAM404", "p") in unsafe(body)


def test_a_handler_of_the_agent_is_taken_before_anything_is_assigned():
    body = "on error any -> late start state s { call fetch(id) as p -> late } final late { text = p.text }"
    (finding,) = found(body, "JAM405")
    assert path(finding) == "s --on error any (handler)--> late"


def test_each_variable_is_told_once_with_its_other_reads():
    body = """var n: string
      start state s { wait 1h when n == "x" -> done otherwise -> t }
      state t { wait 1h when n == "y" -> done otherwise -> done }
      final done { text = n }"""
    (finding,) = found(body, "JAM404", "JAM405")
    assert len(finding.labels) == 2


def test_a_think_in_a_chat_begins_the_conversation():
    body = """var talk: conversation start state s {{ think "Hello." in talk model m as said: string {} }}
      state t {{ ask role "r" "Well?" show talk -> done }} final done {{}}"""
    assert not unsafe(body.format("-> t"))
    assert unsafe(body.format("on error any -> t -> t")) == [("JAM405", "talk")]


# ---- reads that ask first

READS = [
    "has(p) ? p.text : null",
    "has(p.note) ? p.note : null",
    'has(p) && p.text == "x" ? "a" : "b"',
    '!has(p) || p.text == "x" ? "a" : "b"',
    '(has(p) && id != "") && p.text == "x" ? "a" : "b"',
    'id == "" ? "" : has(p) ? p.text : ""',
]


@pytest.mark.parametrize("expr", READS)
def test_a_read_behind_has_is_safe(expr):
    body = f"start state s {{ call fetch(id) as p on error any -> done -> done }} final done {{ text = {expr} }}"
    assert not unsafe(body)


@pytest.mark.parametrize(
    "expr",
    [
        "has(p) ? null : p.text",
        'has(p) || p.text == "x" ? "a" : "b"',
        '!has(p) && p.text == "x" ? "a" : "b"',
        '(has(p) || id == "") && p.text == "x" ? "a" : "b"',
        'p.text == "x" && has(p) ? "a" : "b"',
    ],
)
def test_a_read_that_has_does_not_cover_is_not(expr):
    body = f"start state s {{ call fetch(id) as p on error any -> done -> done }} final done {{ text = {expr} }}"
    assert unsafe(body) == [("JAM405", "p")]


def test_a_guard_makes_sure_for_what_comes_after_it():
    body = """start state s {{ call fetch(id) as p on error any -> t -> t }}
      state t {{ when {} -> done otherwise -> {} }} final done {{ text = p.text }} final other {{}}"""
    assert not unsafe(body.format("has(p)", "other"))
    assert not unsafe(body.format('has(p) && id == "x"', "other"))
    assert unsafe(body.format('has(p) || id == "x"', "other")) == [("JAM405", "p")]
    assert unsafe(body.format("has(p)", "done")) == [("JAM405", "p")]
    body = """start state s { call fetch(id) as p on error any -> t -> t }
      state t { when !has(p) -> other otherwise -> done } final done { text = p.text } final other {}"""
    assert not unsafe(body)


def test_a_guard_that_failed_says_the_opposite_of_all_its_parts():
    body = """start state s {{ call fetch(id) as p on error any -> t -> t }}
      state t {{ when {} -> other otherwise -> done }} final done {{ text = p.text }} final other {{}}"""
    assert not unsafe(body.format('!has(p) || id == "x"'))
    assert not unsafe(body.format('!(has(p) && id == "x")'))
    assert unsafe(body.format('!has(p) && id == "x"')) == [("JAM405", "p")]


def test_optional_things_to_show_may_be_unset():
    body = """start state s {{ call fetch(id) as p on error any -> t -> t }}
      state t {{ think "Summarise." given {} model m as out: string -> done }}
      final done {{ text = out }}"""
    assert not unsafe(body.format("p?"))
    (finding,) = found(body.format("p"), "JAM405")
    assert "write `p?`" in finding.help


def test_what_finally_reads_is_left_out_when_it_is_unset():
    body = "finally { call fetch(p.text) } start state s { call fetch(id) as p -> done } final done {}"
    assert not unsafe(body)


# ---- branches and items


def branches(join: str, default: str = "", read: str = "text = one.text") -> str:
    return f"""start parallel both {{
        branch b1 as one{default} {{ call fetch(id) }}
        branch b2 as two {{ call fetch(id) }}
        join {join} on join -> done on error any -> stop }} final done {{ {read} }}"""


@pytest.mark.parametrize("join", ["all", "2 of 2"])
def test_all_names_are_assigned_by_a_join_of_all(join):
    assert not unsafe(branches(join))


@pytest.mark.parametrize("join", ["any", "1 of 2"])
def test_a_branch_that_may_be_cancelled_leaves_its_name_unset(join):
    assert unsafe(branches(join)) == [("JAM414", "one")]
    assert not unsafe(branches(join, ' or { text: "" }'))
    assert not unsafe(branches(join, read="text = has(one) ? one.text : null"))


def test_a_failed_join_assigns_nothing():
    body = branches("all").replace("on error any -> stop", "on error any -> done")
    assert unsafe(body) == [("JAM405", "one")]


def test_a_branch_sees_what_was_assigned_before_and_a_read_in_it_has_a_path_through_it():
    body = """start state s { call fetch(id) as p on error any -> both -> both }
      parallel both { branch left { call sign(p.text) } branch right { wait 1h } join all on join -> done }
      final done {}"""
    (finding,) = found(body, "JAM405")
    assert path(finding) == "s --on error any--> both --branch left--> both/left/do"


def test_what_an_item_assigns_ends_with_it():
    body = """input ids: list<string> 0..3 var last: string
      start state s { each i in ids { call fetch(i) set last = i } as pages -> done } final done { text = last }"""
    assert [d.code for d in found(body, "JAM404", "JAM406")] == ["JAM406", "JAM404"]
    assert not unsafe("""input ids: list<string> 0..3
      start state s { each i in ids { call sign(i) } as all_signed -> done } final done { text = all_signed.join() }""")


def test_two_branches_that_set_one_variable_conflict():
    body = """var n: int = 0 start parallel both {
        branch b1 { wait 1h set n = 1 } branch b2 { state x { wait 1h -> y { set n = 2 } } state y { wait 1h } }
        join all on join -> done } final done { text = string(n) }"""
    (finding,) = found(body, "JAM413")
    assert finding.message == "branches `b1` and `b2` both write `n`"


def test_one_branch_may_set_a_variable_twice():
    body = """var n: int = 0 start parallel both {
        branch b1 { state x { wait 1h set n = 1 -> y } state y { wait 1h set n = n + 1 } } branch b2 { wait 1h }
        join all on join -> done } final done { text = string(n) }"""
    assert not found(body, "JAM413")


# ---- values that nobody reads


def dead(body: str) -> list[str]:
    return [d.span.text for d in found(body, "JAM406")]


def test_a_result_that_is_all_a_state_is_for_must_be_read():
    assert dead("start state s { call fetch(id) as p -> done } final done {}") == ["p"]
    assert not dead("start state s { call sign(id) as receipt -> done } final done {}")
    assert not dead('start state s { ask role "r" "Well?" as reply -> done } final done {}')


@pytest.mark.parametrize("watcher", ['check always n != "x"', "finally { call fetch(n) }"])
def test_what_watches_the_whole_run_reads_every_value(watcher):
    body = 'var n: string = "y" start state s { wait 1h set n = "z" -> done } final done {}'
    assert dead(body) == ['set n = "z"']
    assert not dead(f"{watcher} {body}")


def test_the_policy_and_the_tests_of_an_agent_read_too():
    agent = """agent a version 1 {{ input id: string var n: string = "y" policy {{ allow sign {} }}
      start state s {{ wait 1h set n = "z" -> t }} state t {{ call sign(id) on denied -> done -> done }}
      final done {{}} }}"""
    test = 'test "t" for a { input id = "1" expect n == "z" }'

    def codes(text: str) -> list[str]:
        return [d.code for d in check_text(TOOLS + text, "a.jam") if d.code in ("JAM101", "JAM406")]

    assert codes(agent.format("")) == ["JAM406"]
    assert codes(agent.format('forbid sign when n == "x"')) == []
    assert codes(agent.format("") + test) == []


def test_a_value_that_only_another_branch_reads_after_the_join_is_read():
    body = """var n: int = 0 start parallel both {
        branch b1 { wait 1h set n = 1 } branch b2 { wait 1h } join all on join -> done }
        final done { text = string(n) }"""
    assert not dead(body)


# ---- secrets

SECRETS = (
    TOOLS
    + """
record Person { name: string  ssn: secret string }
tool lookup(ssn: secret string) -> Page { effect reads }
"""
)


def leaks(body: str) -> list[str]:
    text = f"""{SECRETS} agent a version 1 {{ input who: Person, id: string, on: bool output text: string?
      policy {{ allow fetch, sign, lookup }} emits said(text: string) {body} final done {{}} }}"""
    all_found = check_text(text, "a.jam")
    assert not [d for d in all_found if d.code in ("JAM001", "JAM101", "JAM401")], [d.message for d in all_found]
    return [d.span.text for d in all_found if d.code == "JAM411"]


@pytest.mark.parametrize(
    ("action", "leak"),
    [
        ('think "Write." given who model m as t: string', "who"),
        ('think "Write." given who.ssn model m as t: string', "who.ssn"),
        ('think "Write." given x = "no. " + who.ssn model m as t: string', '"no. " + who.ssn'),
        ('think "Write to {who.ssn}." model m as t: string', "who.ssn"),
        ('ask role "r" "Is {who.ssn} right?" as t', "who.ssn"),
        ('ask role "r" "Well?" show who as t', "who"),
        ("emit said(who.ssn)", "who.ssn"),
        ("call fetch(who.ssn) as t", "who.ssn"),
        ('think "Write." given who.name model m as t: string', None),
        ('ask role "r" "Is {who.name} right?" as t', None),
        ("call lookup(who.ssn) as t", None),
        ('think "Write." given known = who.ssn != "" model m as t: string', None),
        ("emit said(who.name)", None),
    ],
)
def test_a_secret_goes_only_where_one_is_declared(action, leak):
    assert leaks(f"start state s {{ {action} -> done }}") == ([leak] if leak else [])


def test_a_secret_is_kept_only_in_a_secret():
    assert leaks('var n: string = "" start state s { wait 1h set n = who.ssn -> done }') == ["who.ssn"]
    assert leaks("var n: secret string start state s { wait 1h set n = who.ssn -> done }") == []


def test_a_record_that_holds_a_record_with_a_secret_is_one():
    text = f"""{SECRETS} record Team {{ lead: Person }} agent a version 1 {{ input team: Team
      start state s {{ think "Write." given team model m as t: string -> done }} final done {{}} }}"""
    (finding,) = [d for d in check_text(text, "a.jam") if d.code == "JAM411"]
    assert "`team.lead.ssn`" in finding.message


def test_a_body_inside_a_state_that_no_path_reaches_is_no_trouble() -> None:
    body = """
  start state here { -> done }
  state island {
    each p in ["x", "y"] { state one { call fetch(p) as page  -> two }  state two { yields page.text } } as texts
    -> done
  }
  final done { text = "t" }
"""
    assert unsafe(body) == []
