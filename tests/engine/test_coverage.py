"""What tests pass of a program: states and edges, down into branches, items and child agents."""

from __future__ import annotations

import pytest

from jamjet_dsl import compile_text
from jamjet_dsl.engine.coverage import Coverage
from jamjet_dsl.engine.passed import Part, parts_of
from jamjet_dsl.engine.testing import run_tests

PROGRAM = """
tool look(q: string) -> int { effect reads  cost $0.10  raises Lost }
tool pay(n: int) { effect writes }
agent small {
  input q: string
  output n: int?
  policy { allow look }
  on error any -> bad
  start state one { call look(q) as n  -> done }
  final done { n = n }
  failed bad { }
}
agent big version 1 {
  input list: list<string> 0..9
  output n: int?
  var tries: int = 0
  budget { steps 30  cost $0.80  exceeded -> poor }
  policy { allow look  allow pay when args.n > 3 }
  on error Timeout, Disconnected -> bad
  on error any -> bad
  on denied -> bad
  start state items {
    each q in list {
      call look(q) as r
      on error Lost skip
      on error any yields -1
      when r > 10 yields 10
      otherwise yields r
    } as all
    when size(all) > 5 -> both
    when size(all) > 1 -> paying
    otherwise -> items2
  }
  state items2 { set tries = tries + 1  when tries > 3 -> done  otherwise -> again }
  state again { wait 1s  -> items2 limit 1 else both }
  parallel both {
    branch left { state deep { call look("l") as x timeout 5s  on error any skip  -> enough }  final enough { } }
    branch right { call look("r") as y timeout 5s  on error Lost skip }
    join any
    on join -> child
    on error any -> bad
  }
  state child { run small(q = "x") as c  on error ChildFailed -> bad  -> done }
  state paying { call pay(size(all))  -> done }
  final done { n = 1 }
  failed bad { }
  failed poor { }
}
"""


def of(body: str, agent: str = "big") -> Coverage:
    compiled = compile_text(PROGRAM + f'test "t" for {agent} {{ {body} }}', agent=agent)
    coverage = Coverage(compiled)
    (result,) = run_tests(compiled)
    coverage.add(result.through)
    return coverage


def edges(coverage: Coverage) -> set[tuple[str, str]]:
    return {(p.state, p.edge) for p in coverage.passed if p.edge}


def test_every_edge_of_a_list_is_told_from_the_others_though_the_journal_names_none() -> None:
    found = of(
        'input list = ["a", "b", "c", "d"]  mock look returns 50 then raises Lost then returns 1 then raises Timeout'
    )
    each = {edge for state, edge in edges(found) if state == "items/each/do"}
    assert each == {"when#0", "on error#0", "otherwise#0", "on error#1"}
    assert found.passed[Part("big", "items/each/do")] == 4


def test_one_way_out_of_an_item_does_not_count_as_another() -> None:
    found = of('input list = ["a"]  mock look returns 3')
    assert ("items/each/do", "otherwise#0") in edges(found)
    assert not {("items/each/do", e) for e in ("when#0", "on error#0", "on error#1")} & edges(found)


def test_the_else_of_a_limit_is_an_edge_of_its_own() -> None:
    found = of("input list = []  mock look returns 3")
    assert {("again", "always#0"), ("again", "always#0!")} <= edges(found)
    assert ("", "exceeded") not in edges(found)


def test_branches_and_a_child_are_passed() -> None:
    found = of("input list = []  mock look returns 3")
    assert {("both", "on join#0"), ("both/left/deep", "always#0"), ("child", "always#0")} <= edges(found)
    assert Part("big", "both/left/enough") in found.passed
    compiled = compile_text(PROGRAM + 'test "t" for big { input list = []  mock look returns 3 }', agent="big")
    small = Coverage(compile_text(PROGRAM, agent="small"))
    for result in run_tests(compiled):
        small.add(result.through)
    assert small.states == (2, 3)
    assert edges(small) == {("one", "always#0")}


def test_a_branch_that_is_skipped_by_an_edge() -> None:
    found = of("input list = []  mock look raises Lost then returns 0")
    assert {("both/left/deep", "on error#0")} <= edges(found)


@pytest.mark.parametrize(
    ("body", "edge"),
    [
        ('input list = ["a", "b"]  mock look returns 2', "agent on denied#0"),
        (
            'input list = ["1","2","3","4","5","6","7","8","9"]  mock look returns 2',
            "exceeded",
        ),
    ],
)
def test_edges_of_the_whole_agent(body: str, edge: str) -> None:
    assert ("", edge) in edges(of(body))


def test_handlers_of_one_trigger_are_told_apart() -> None:
    text = """
tool look() -> int { effect reads }
agent a {
  policy { allow look }
  on error Timeout -> slow
  on denied -> slow
  on error any -> bad
  start state s { call look() as n  -> done }
  final done { }
  failed slow { }
  failed bad { }
}
test "t" for a { mock look raises Unavailable }
"""
    compiled = compile_text(text)
    (result,) = run_tests(compiled)
    assert result.through[Part("a", "", "agent on error#1")] == 1
    coverage = Coverage(compiled)
    coverage.add(result.through)
    overlay = coverage.overlay()
    assert ("\x00any", "handler:error#2") in overlay.edges  # as the diagram counts them
    assert [f.message for f in coverage.findings()] == [
        "no test takes the edge `->` of `s`",
        "no test enters `done`",
        "no test enters `slow`",
        "no test takes the edge `on error Timeout` of `a`",
        "no test takes the edge `on denied` of `a`",
    ]
    assert [(f.span.line, f.span.column) for f in coverage.findings()] == [(8, 37), (9, 3), (10, 3), (5, 3), (6, 3)]


def test_the_parts_are_all_that_can_be_passed() -> None:
    coverage = of('input list = ["a"]  mock look returns 3')
    assert set(coverage.passed) <= set(parts_of(coverage.agent))
    states, all_ = coverage.states
    taken, ways = coverage.edges
    assert (0 < states < all_, 0 < taken < ways) == (True, True)
    assert len(coverage.missing()) == all_ - states + ways - taken
