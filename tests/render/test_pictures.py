"""What a reviewer relies on in a diagram, whatever it is drawn as."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from jamjet_dsl import definition as d
from jamjet_dsl.compiler import analyse_text, compile_text, lower_for_drawing
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.render import picture, readable
from jamjet_dsl.render.dot import BUSY, to_dot
from jamjet_dsl.render.graph import ANY_STATE, BUDGET, JOIN, Overlay, build, overlay_of_path, overlay_of_run
from jamjet_dsl.render.image import fitted

PROGRAM = """\
language 1
tool look(q: string) -> int { effect reads }
tool note(q: string) { effect writes }
tool pay(amount: money) -> string { effect irreversible  key run.id  raises Rejected }
agent shop version 2 {
  input  q: string, amount: money
  output id: string?
  budget { steps 12  cost $3.00  exceeded -> gave_up }
  policy {
    allow look, note, pay
    require approval review before pay
    limit look 5 calls
  }
  on error any -> gave_up
  on denied -> gave_up
  on in_doubt -> gave_up
  /// Find out.
  start state search {
    call look(q) as n timeout 5s retry Timeout 2 times
    when n > 3 && q != "<b>&\\"" -> write
    when n < 0 -> search limit 2 else gave_up
    otherwise -> review
  }
  state write { call note(q)  -> review }
  state review {
    ask role "boss" to pay(amount) "Pay {amount}?" options approve approves, no timeout 4h as r
    on approve -> do_pay
    on no -> refused
    on timeout -> gave_up
  }
  state do_pay {
    call approved pay as id
    on error Rejected -> refused
    -> paid
  }
  final paid { id = id }
  final refused {}
  failed gave_up {}
}
"""

PARALLEL = """\
language 1
tool look(q: string) -> list<string> { effect reads }
agent fan version 1 {
  input qs: list<string> 1..4
  output found: list<string>
  budget { steps 50  time 1h  exceeded -> gave_up }
  policy { allow look }
  on error any -> gave_up
  on denied -> gave_up
  start parallel gather {
    branch web as hits or [] {
      each q in qs, 2 at once collect flat {
        call look(q)
        on error any skip
      }
    }
    branch person as said {
      ask role "analyst" "Anything else?" answer { text: string } timeout 20m
      on timeout skip
    }
    join 1 of 2 within 25m
    on join -> done
  }
  final done { found = hits }
  failed gave_up { found = [] }
}
"""


@pytest.fixture(scope="module")
def shop() -> d.Compiled:
    return compile_text(PROGRAM, "shop.jam")


def many(count: int) -> d.Definition:
    """A chain of states with a way of trouble from each, and ways back."""
    states: list[d.State | d.Final] = []
    for i in range(count - 2):
        on = f"s{i + 1}" if i < count - 3 else "done"
        edges = (
            d.Edge(id="on error#0", trigger="error", errors=("Timeout",), target="bad"),
            d.Edge(
                id="when#0", trigger="when", guard=["<", ["var", "x"], ["int", i]], target=f"s{max(0, i - 3)}", limit=2
            ),
            d.Edge(id="otherwise#0", trigger="otherwise", target=on),
        )
        call = d.Call(tool="look", args={"q": ["string", "x"]})
        states.append(d.State(name=f"s{i}", action=call, edges=edges))
    states += [d.Final(name="done"), d.Final(name="bad", failed=True)]
    agent = d.Agent(name="many", body=d.Region(start="s0", states=tuple(states)))
    return d.Definition(
        main="many", agents={"many": agent}, tools={"look": d.Tool(params=(), result=None, effect="reads")}
    )


def test_every_state_and_edge_of_the_definition_is_drawn(shop: d.Compiled) -> None:
    graph = build(shop)
    for state in shop.definition.agent.body.states:
        assert state.name in graph
        if isinstance(state, d.State):
            drawn = {a.id for _, _, a in graph.out_edges(state.name, data="arrow")}
            assert {e.id for e in state.edges} <= drawn
    dot = to_dot(graph)
    for said in ("steps 12 · cost $3.00", "require approval review before pay", "n &gt; 3", "after 2×", "role boss"):
        assert said in dot


def test_kinds_of_edges_and_effects_are_told_apart(shop: d.Compiled) -> None:
    graph = build(shop)
    kinds = {a.id: a.kind for _, _, a in graph.out_edges("review", data="arrow")}
    assert kinds == {"on approve#0": "option", "on no#0": "option", "on timeout#0": "timeout"}
    assert graph.nodes["do_pay"]["box"].effect == "irreversible"
    assert graph.nodes["do_pay"]["box"].approved
    assert graph.nodes["write"]["box"].effect == "writes"
    assert graph.nodes["gave_up"]["box"].kind == "failed"
    assert {t for _, t in graph.out_edges(ANY_STATE)} == {"gave_up"}
    assert {t for _, t in graph.out_edges(BUDGET)} == {"gave_up"}


def test_branches_and_items_stand_in_frames() -> None:
    compiled = compile_text(PARALLEL, "fan.jam")
    graph = build(compiled)
    clusters = {c.path: c.parent for c in graph.graph["clusters"]}
    assert clusters["gather"] == ""
    assert clusters["gather/web"] == clusters["gather/person"] == "gather"
    join = graph.nodes["gather" + JOIN]["box"]
    assert join.title == "join any within 25m"
    assert ("gather" + JOIN, "done") in graph.edges()
    ET.fromstring(picture(compiled, "svg"))
    assert picture(compiled, "mmd").decode().count("subgraph") == len(clusters)


def test_what_stands_in_no_state_stands_in_the_header_and_frames_are_not_crossed() -> None:
    compiled = compile_text(
        """
tool look() -> int { effect reads  timeout 5s }
agent a version 1 {
  event said(text: string)
  emits heard(text: string)
  policy { allow look }
  finally { call look() }
  start state listen {
    wait for event said(m) timeout 10m
    on timeout -> done
    -> both
  }
  parallel both {
    branch one as x { call look() }
    branch two as y { call look() }
    join all
    on join      -> tell
    on error any -> done
  }
  state tell { emit heard(m.text)  -> done }
  final done {}
}
"""
    )
    text = to_dot(build(compiled))
    for words in (
        "hears",
        "said(text: string)",
        "tells",
        "heard(text: string)",
        "at every end",
        "look()",
        "timeout 10m",
    ):
        assert words in text
    assert text.count('lhead="cluster both/') == text.count('ltail="cluster both/') == 2


def test_an_each_is_left_where_all_its_items_end() -> None:
    program = """\
tool look(q: string) -> int { effect reads }
agent fan version 1 {
  input qs: list<string> 1..4
  output n: int
  policy { allow look }
  on error any -> none
  on denied -> none
  start state all_of_them {
    each q in qs, 2 at once {
      start state first { call look(q) as k  when k > 1 -> good  otherwise -> bad }
      final good { k = k }
      final bad { k = 0 }
    } as ks
    when size(ks) > 2 -> some
    when size(ks) > 1 -> none
    otherwise -> some
  }
  final some { n = size(ks) }
  failed none { n = 0 }
}
"""
    graph = build(compile_text(program, "fan.jam"))
    foot = "all_of_them" + JOIN
    assert graph.nodes[foot]["box"].title == "all items → ks"
    assert {s for s, _ in graph.in_edges(foot)} == {"all_of_them/each/good", "all_of_them/each/bad"}
    assert {t for _, t in graph.out_edges(foot)} == {"some", "none"}
    turns = {a.id: a.turn for _, _, a in graph.out_edges(foot, data="arrow")}
    assert turns == {"when#0": 1, "when#1": 2, "otherwise#0": 0}, "of several guards the first that holds is taken"
    took = overlay_of_path([("all_of_them", "when#1"), ("none", "")], "here")
    taken = next(x for x in to_dot(graph, took).splitlines() if 'id="edge all_of_them when#1"' in x)
    assert "penwidth=3.0" in taken


def test_a_branch_ends_where_it_yields_and_not_where_an_answer_leads_on() -> None:
    program = """\
tool look(q: string) -> int { effect reads }
agent fan version 1 {
  input q: string
  output n: int?
  policy { allow look }
  on error any -> none
  on denied -> none
  start parallel both {
    branch person as said or 0 {
      start state asked {
        ask role "clerk" "Look?" options yes, no timeout 1h
        on yes -> looks
        on no skip
        on timeout yields 7
      }
      state looks { call look(q) as k  yields k }
    }
    branch other as seen { call look(q) as s  when s > 1 yields s  otherwise yields 1 }
    join all
    on join -> some
  }
  final some { n = said + seen }
  failed none {}
}
"""
    graph = build(compile_text(program, "fan.jam"))
    into = {s.replace("\x00", "") for s, _ in graph.in_edges("both" + JOIN)}
    other = "both/other/do"
    assert into == {
        "both/person/looks",
        "both/person/asked/on timeout#0",
        f"{other}/when#0",
        f"{other}/otherwise#0",
    }


MOVES = """\
tool look(q: string) -> int { effect reads }
tool note(q: string) { effect writes  key run.id }
tool pay(amount: money) { effect irreversible  key run.id }
agent shop version 1 {
  input q: string
  output chat: conversation
  var chat: conversation = [user(q)]
  budget { steps 9  exceeded -> over }
  policy { RULES }
  on error any -> over
  start state decide {
    think "Help." in chat tools look, note, pay model m max prompt 1k max tokens 1k as move
    when has(move.call) -> act
    otherwise -> over
  }
  state act {
    call proposed move
    on denied -> decide limit 2 else over
    -> decide limit 2 else over
  }
  final over { chat = chat }
}
"""


@pytest.mark.parametrize(
    ("rules", "effect", "said"),
    [
        ("allow look, note, pay", "writes", "one of look, note"),
        ('allow look, note, pay  require approval by 1 of "x" before note', "reads", "only look"),
        ('allow look, note  allow pay without approval because "small"', "irreversible", "one of look, note, pay"),
    ],
)
def test_a_proposed_call_has_the_class_of_what_the_policy_lets_through(rules: str, effect: str, said: str) -> None:
    result = lower_for_drawing(analyse_text(MOVES.replace("RULES", rules)))
    box = build(result).nodes["act"]["box"]
    assert (box.effect, box.lines[1]) == (effect, said)


def test_ways_of_trouble_that_lead_to_one_place_are_one_line(shop: d.Compiled) -> None:
    dot = to_dot(build(shop))
    (line,) = [x for x in dot.splitlines() if f'"{ANY_STATE.replace(chr(0), "*")}" -> ' in x]
    assert "error any, denied, in doubt" in line


def test_a_long_guard_breaks_between_words_into_lines_of_one_length() -> None:
    from jamjet_dsl.render.dot import _balanced

    assert _balanced("size(reports.filter(r, !r.ok)) <= 3", 34) == ["size(reports.filter(r,", "!r.ok)) <= 3"]
    assert _balanced("", 34) == []
    assert _balanced("x" * 80, 34) == ["x" * 34, "x" * 34, "x" * 12]


def test_svg_is_well_formed_and_its_parts_have_names(shop: d.Compiled) -> None:
    svg = picture(shop, "svg").decode()
    ET.fromstring(svg.encode())
    for state in shop.definition.agent.body.states:
        assert f'id="state {state.name}"' in svg
    assert 'id="edge review on approve#0"' in svg


def test_the_same_definition_is_drawn_to_the_same_bytes(shop: d.Compiled) -> None:
    again = compile_text(PROGRAM, "shop.jam")
    for kind in ("dot", "mmd", "svg", "html"):
        assert picture(shop, kind) == picture(again, kind)


def test_png_and_html_are_whole(shop: d.Compiled) -> None:
    assert picture(shop, "png").startswith(b"\x89PNG")
    page = picture(shop, "html").decode()
    loads = [u for u in re.findall(r'(?:src|href)="([^"]+)"|url\(([^)]+)\)', page) if any(u)]
    assert loads == [], "the page must not load anything"
    assert "Find out." in page
    assert "call look(q) as n" in page


def test_text_of_a_program_cannot_leave_its_place_in_the_page() -> None:
    hostile = PROGRAM.replace("/// Find out.", "/// </script><script>alert(1)</script>")
    hostile = hostile.replace('"Pay {amount}?"', '"</svg><script>alert(2)</script> {amount}"')
    compiled = compile_text(hostile, "hostile.jam")
    page = picture(compiled, "html").decode()
    assert "<script>alert" not in page
    assert page.count("</script>") == 2
    ET.fromstring(picture(compiled, "svg"))
    assert "<script" not in picture(compiled, "mmd").decode()


def test_a_run_is_drawn_over_the_diagram(shop: d.Compiled) -> None:
    events = [
        {"kind": "moved", "body": {"frame": "", "state": "search", "edge": "otherwise#0", "to": "review"}},
        {"kind": "moved", "body": {"frame": "", "state": "review", "edge": "on no#0", "to": "refused"}},
    ]
    overlay = overlay_of_run(events, "run r1: completed")
    assert overlay.states == {"search": 1, "review": 1, "refused": 1}
    assert overlay.current == ("refused",)
    dot = to_dot(build(shop), overlay)
    taken = next(line for line in dot.splitlines() if 'id="edge review on no#0"' in line)
    other = next(line for line in dot.splitlines() if 'id="edge review on approve#0"' in line)
    assert "penwidth=3.0" in taken
    assert "penwidth=3.0" not in other
    assert "run r1: completed" in dot


def test_the_path_of_a_finding_is_drawn_in_the_colour_of_alarm(shop: d.Compiled) -> None:
    overlay = overlay_of_path([("search", "when#0"), ("write", "always#0"), ("review", "")], "JAM602: no")
    assert overlay.alarming
    assert overlay.edges == {("search", "when#0"): 1, ("write", "always#0"): 1}
    assert "JAM602: no" in to_dot(build(shop), overlay)


def test_a_busy_program_shows_its_trouble_as_tags_and_fits_a_page() -> None:
    graph = build(many(30))
    assert graph.number_of_nodes() > BUSY
    dot = fitted(graph)
    assert "error Timeout → bad" in dot
    svg = picture(many(30), "svg").decode()
    width, height = (int(n) for n in re.search(r'width="(\d+)pt" height="(\d+)pt"', svg).groups())  # type: ignore[union-attr]
    assert height <= 2.2 * width


def test_a_thousand_states_are_drawn_in_columns() -> None:
    definition = many(1000)
    svg = picture(definition, "svg").decode()
    ET.fromstring(svg.encode())
    assert svg.count('id="state ') == 1000
    width, height = (int(n) for n in re.search(r'width="(\d+)pt" height="(\d+)pt"', svg).groups())  # type: ignore[union-attr]
    assert 1 / 4 <= height / width <= 4


def test_an_unknown_agent_and_a_missing_pdf_renderer_are_said(
    shop: d.Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyError):
        build(shop, "nobody")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(JamError, match="no `dot` is installed") as caught:
        picture(shop, "pdf")
    assert caught.value.code == "JAMR006"


def test_an_overlay_of_nothing_draws_the_whole_program_faded(shop: d.Compiled) -> None:
    assert "penwidth=3.0" not in to_dot(build(shop), Overlay())


def test_a_notebook_shows_the_diagram(shop: d.Compiled) -> None:
    import jamjet_dsl

    assert jamjet_dsl.Definition is d.Definition
    svg = shop._repr_svg_()
    assert svg is not None
    assert svg == shop.definition._repr_svg_()
    ET.fromstring(svg.encode())


@pytest.mark.parametrize(
    "limit",
    [
        "look 5 calls",
        "look 1 call per turn",
        "look 5 calls per principal per day",
        "look 2 calls per args.q per hour",
        "pay total args.amount <= $500.00 per principal per minute",
        "note 3 calls per second",
    ],
)
def test_a_limit_is_shown_as_it_is_written(limit: str) -> None:
    rules = compile_text(PROGRAM.replace("limit look 5 calls", f"limit {limit}")).definition.agent.rules or ()
    assert [readable.rule(rule) for rule in rules if rule.kind == "limit"] == [f"limit {limit}"]
