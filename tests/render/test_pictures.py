"""What a reviewer relies on in a diagram, whatever it is drawn as."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from jamjet_dsl import definition as d
from jamjet_dsl.compiler import compile_text
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.render import picture
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
