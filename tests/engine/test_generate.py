"""Tests that are written by trying runs: what is found, how small it gets, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from jamjet_dsl import compile_text
from jamjet_dsl.compiler import agents_with_tests, analyse_text, check_file, lower_for_drawing
from jamjet_dsl.definition import Compiled
from jamjet_dsl.engine.coverage import Coverage
from jamjet_dsl.engine.generate.impossible import BEYOND, NO_CANCEL, NO_EVENTS
from jamjet_dsl.engine.generate.made import Made, make
from jamjet_dsl.engine.generate.wishes import Wish, wishes_of
from jamjet_dsl.engine.passed import Part
from jamjet_dsl.engine.testing import run_tests

ROOT = Path(__file__).resolve().parents[2]
LONG = {"retail_support.jam", "thermostat.jam"}
"""Programs whose runs are so long that to try thousands of them is more than a suite has time for."""
PROGRAMS = sorted(
    path
    for path in [*(ROOT / "examples").rglob("*.jam"), *(ROOT / "tests" / "programs").glob("*.jam")]
    if path.name not in LONG
)


def missing(made: Made) -> dict[tuple[str, str], str]:
    return {(part.state, part.edge): why for part, why in made.missing.items()}


def proved(text: str, made: Made, agent: str) -> Coverage:
    """The tests as they are written hold, and pass what they are said to pass."""
    checked = analyse_text(text + "\n" + "".join(made.blocks(agent)), "<text>")
    assert [d for d in checked.diagnostics if d.severity == "error" or d.code == "JAM902"] == []
    compiled = next(c for c in agents_with_tests(checked) if c.definition.main == agent)
    coverage = Coverage(compiled)
    for result in run_tests(compiled):
        assert result.passed, result
        assert result.unused == ()
        coverage.add(result.through)
    assert set(coverage.missing()) == set(made.missing)
    return coverage


GUARDS = """
enum Kind { gold  silver }
record Item { id: string  price: money  tags: list<string> 0..5  left: int? 0..99  at: timestamp  ratio: decimal }
record Order { kind: Kind  items: list<Item> 0..9  note: string?  wait: duration }
fn total(o: Order) -> money = sum(o.items.map(i, i.price))
agent guards {
  input order: Order, code: int 100..999, share: float 0.0..1.0
  output way: int
  on error any -> broken
  start state s {
    when order.kind == gold && total(order) > $1_234.56 -> a
    when size(order.items) == 4 -> b
    when order.items.exists(i, "fragile" in i.tags && has(i.left) && i.left == 42) -> c
    when order.wait > 90m && order.wait < 92m -> d
    when has(order.note) && order.note == "open sesame" -> e
    when code == 777 -> f
    when share > 0.25 && share < 0.26 -> g
    when order.items.exists(i, i.ratio >= 12.5 && i.ratio < 12.52) -> h
    otherwise -> i
  }
  final a { way = 1 }
  final b { way = 2 }
  final c { way = 3 }
  final d { way = 4 }
  final e { way = 5 }
  final f { way = 6 }
  final g { way = 7 }
  final h { way = 8 }
  final i { way = 9 }
  failed broken { way = 0 }
}
"""


def test_guards_over_records_lists_texts_times_and_money_are_all_solved() -> None:
    made = make(compile_text(GUARDS).definition, seed=0, trials=4_000)
    assert missing(made) == {
        ("broken", ""): missing(made)[("broken", "")],
        ("", "agent on error#0"): missing(made)[("", "agent on error#0")],
    }
    proved(GUARDS, made, "guards")
    assert len(made.runs) == 9  # one for each way, and no more


CALLS = """
tool look(q: string) -> int { effect reads  raises Gone }
tool pay(n: int) -> string { effect irreversible  key run.id  confirm told(run.id)  undo back(n)  timeout 5s }
tool told(id: string) -> string? { effect reads }
tool back(n: int) { effect writes }
agent caller {
  input q: string
  output m: int?
  budget { steps 40  time 2h  exceeded -> late }
  policy { allow look, told, back  allow pay when args.n < 100  require approval ask before pay }
  on denied -> refused
  start state looking {
    call look(q) as n  retry Gone 2 times backoff 1m
    on error Gone -> gone
    on error any -> looking limit 2 else gone
    when n > 7 -> ask
    otherwise -> gone
  }
  state ask {
    ask role "boss" to pay(n) "Pay {n}?" options approve approves, later, no  answer { why: string }  timeout 30m  as a
    on approve -> paying
    on later -> ask limit 9 else gone
    on no -> gone
    on timeout -> late
  }
  state paying { call approved pay  on in_doubt -> undoing  -> done }
  state undoing { undo all  -> gone }
  final done { m = n }
  final gone {}
  failed late {}
  failed refused {}
}
"""


def test_errors_retries_people_doubt_and_denial_are_found() -> None:
    made = make(compile_text(CALLS).definition, seed=0, trials=4_000)
    assert set(missing(made)) <= {("", "exceeded")}
    proved(CALLS, made, "caller")


INSIDE = """
tool look(q: string) -> int { effect reads  raises Lost }
agent child { input q: string  output n: int?  policy { allow look }
  on error any -> bad
  start state s { call look(q) as n  -> done }
  final done { n = n }
  failed bad {} }
agent inside {
  input list: list<string> 0..9
  output n: int
  policy { allow look }
  on error any -> bad
  start state items {
    each q in list { call look(q) as r  on error Lost skip  when r > 10 yields 10  otherwise yields r } as all
    when size(all) > 2 -> both
    otherwise -> runs
  }
  parallel both {
    branch left { call look("l") as x  on error any skip }
    branch right { state r { call look("r") as y  -> enough }  final enough {} }
    join any
    on join -> runs
  }
  state runs { each q in list { run child(q = q) as c  on error ChildFailed skip } as cs  -> one }
  state one { run child(q = "x") as c2  on error ChildFailed -> bad  -> done }
  final done { n = 1 }
  final bad { n = 0 }
}
"""


def test_items_branches_and_agents_that_are_run() -> None:
    made = make(compile_text(INSIDE, agent="inside").definition, seed=0, trials=4_000)
    assert missing(made) == {}
    proved(INSIDE, made, "inside")


def test_what_a_test_cannot_do_is_said() -> None:
    text = """
agent waits {
  output n: int
  event go()
  on cancel -> away
  start state s { wait for event go timeout 1h  on timeout -> late  -> on_it }
  state on_it { wait 1h -> done }
  final done { n = 1 }
  final late { n = 2 }
  final away { n = 3 }
}
"""
    made = make(compile_text(text).definition, trials=200)
    assert missing(made) == {
        ("s", "always#0"): NO_EVENTS,
        ("on_it", ""): BEYOND,
        ("on_it", "always#0"): BEYOND,
        ("done", ""): BEYOND,
        ("away", ""): BEYOND,
        ("", "agent on cancel#0"): NO_CANCEL,
    }
    assert [run.path for run in made.runs] == [("s", "late")]


def test_the_same_seed_makes_the_same_and_the_budget_holds() -> None:
    definition = compile_text(CALLS).definition
    one, two = (make(definition, seed=4, trials=300) for _ in range(2))
    assert one.blocks("caller") == two.blocks("caller")
    assert one.missing == two.missing
    assert make(definition, trials=3).trials <= 3
    assert make(definition, trials=3).missing


def test_nothing_superfluous_is_left_in_a_test() -> None:
    text = """
record R { a: string  b: list<int>  c: money? }
tool look(q: string) -> R { effect reads }
agent a { input q: string, w: int  output n: int  policy { allow look }  on error any -> bad
  start state s { call look(q) as r  when size(r.b) > 1 && w == 7 -> many  otherwise -> few }
  final many { n = 1 } final few { n = 2 } final bad { n = 3 } }
"""
    made = make(compile_text(text).definition, trials=2_000)
    blocks = [block for block in made.blocks("a") if "many" in block]
    assert len(blocks) == 1
    assert '  input q = ""\n  input w = 7\n  mock look returns { a: "", b: [0, 0] }\n' in blocks[0]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_for_every_program_what_hand_written_tests_pass_is_found_and_the_rest_holds(path: Path) -> None:
    checked = check_file(path)
    for info in checked.analysis.main_agents():
        compiled: Compiled = lower_for_drawing(checked, info.name)
        by_hand = Coverage(compiled)
        for result in run_tests(compiled):
            by_hand.add(result.through)
        made = make(compiled.definition, trials=1_500)
        lost = [part for part in made.missing if by_hand.passed[part]]
        assert lost == []
        assert frozenset(part for run in made.runs for part in run.through).isdisjoint(made.missing)


def test_wishes_of_a_guard() -> None:
    definition = compile_text(GUARDS).definition
    guards = [edge.guard for edge in definition.agent.body.states[0].edges]  # type: ignore[union-attr]
    first, read = wishes_of(guards[0] or [], definition.fns)
    assert Wish(("order", "kind"), "near", ["enum", "Kind", "gold"]) in first
    assert read == ["order"]
    third, _ = wishes_of(guards[2] or [], definition.fns)
    assert Wish(("order", "items", "*", "left"), "near", ["int", 42]) in third
    assert Wish(("order", "items", "*", "tags", "*"), "near", ["string", "fragile"]) in third
    second, _ = wishes_of(guards[1] or [], definition.fns)
    assert Wish(("order", "items"), "size", 4) in second


def test_the_parts_of_a_run_are_of_the_agent_only() -> None:
    made = make(compile_text(INSIDE, agent="inside").definition, trials=300)
    assert {part.agent for run in made.runs for part in run.through} == {"inside"}
    assert Part("inside", "items") in made.runs[0].through


def test_what_cannot_be_written_down_is_done_without_and_said() -> None:
    made = make(compile_text(GUARDS).definition, trials=1_000)
    way = made.runs[0]
    made.drop(frozenset({0}))
    assert way.path not in [run.path for run in made.runs]
    assert len(made.titles) == len(made.runs) == len(set(made.titles))
    lost = Part("guards", way.path[-1])
    assert made.missing[lost] == "a run that passes it was found, but not as a test"
    assert proved(GUARDS, made, "guards").passed[lost] == 0
