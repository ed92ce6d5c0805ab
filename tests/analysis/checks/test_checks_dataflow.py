"""Definite assignment and liveness against naive references that walk over all paths, and case by case."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.compiler import check_text
from jamjet_dsl.diagnostics.model import Diagnostic

# ---- random agents: states that set, guard and jump


class Set(NamedTuple):
    """`set name = source`; source None stands for a constant."""

    name: str
    source: str | None


class Way(NamedTuple):
    """An edge; `guard` is one of when, has, not-has, has-and, `name` what it speaks of."""

    guard: str
    name: str
    target: int
    sets: tuple[Set, ...]


class State(NamedTuple):
    sets: tuple[Set, ...]
    ways: tuple[Way, ...]
    otherwise: int


COUNT = 5
NAMES = ("a", "b", "c")
_sets = st.lists(st.builds(Set, st.sampled_from(NAMES), st.sampled_from((None, None, *NAMES))), max_size=2).map(tuple)
_targets = st.integers(0, COUNT)
_ways = st.builds(Way, st.sampled_from(("when", "has", "not-has", "has-and")), st.sampled_from(NAMES), _targets, _sets)
AGENTS = st.lists(
    st.builds(State, _sets, st.lists(_ways, max_size=2).map(tuple), _targets), min_size=COUNT, max_size=COUNT
)
GUARDS = {"when": "{0}", "has": "has({0})", "not-has": "!has({0})", "has-and": "has({0}) && {0}"}


def set_text(part: Set) -> str:
    return f"set {part.name} = {part.source or 'true'}"


def target_text(target: int) -> str:
    return "done" if target == COUNT else f"s{target}"


def program(states: list[State]) -> str:
    """The agent as a program; one `set` or edge a line, so that a finding's line tells what it is about."""
    lines = ["agent g version 1 {", *(f"  var {name}: bool" for name in NAMES)]
    for i, state in enumerate(states):
        lines.append(f"  {'start ' if i == 0 else ''}state s{i} {{")
        lines.extend(f"    {set_text(part)}" for part in state.sets)
        for way in state.ways:
            lines.append(f"    when {GUARDS[way.guard].format(way.name)} -> {target_text(way.target)} {{")
            lines.extend(f"      {set_text(part)}" for part in way.sets)
            lines.append("    }")
        lines.append(f"    otherwise -> {target_text(state.otherwise)}")
        lines.append("  }")
    return "\n".join([*lines, "  final done {}", "}", ""])


def findings(states: list[State], *codes: str) -> list[Diagnostic]:
    found = check_text(program(states), "g.jam")
    assert not [d for d in found if d.code < "JAM2" and d.code != "JAM107"], "the generated program must be well-formed"
    return [d for d in found if d.code in codes]


# ---- the references


def follow_sets(sets: tuple[Set, ...], known: frozenset[str], unsafe: set[str]) -> frozenset[str]:
    for part in sets:
        if part.source is not None and part.source not in known:
            unsafe.add(part.source)
        known |= {part.name}
    return known


def successors(state: State, known: frozenset[str], unsafe: set[str]) -> list[tuple[int, frozenset[str]]]:
    """Where a run may go from a state that it enters with `known` assigned, noting unsafe reads."""
    known = follow_sets(state.sets, known, unsafe)
    found = []
    for way in state.ways:
        if way.guard == "when" and way.name not in known:
            unsafe.add(way.name)
        on_way = known | {way.name} if way.guard in ("has", "has-and") else known
        found.append((way.target, follow_sets(way.sets, on_way, unsafe)))
        if way.guard == "not-has":
            known |= {way.name}
    return [*found, (state.otherwise, known)]


def unsafe_names(states: list[State]) -> set[str]:
    """Every pair of a state and a set of assigned variables that some path leads to, one by one."""
    unsafe: set[str] = set()
    seen = {(0, frozenset[str]())}
    todo = list(seen)
    while todo:
        at, known = todo.pop()
        for target, after in successors(states[at], known, unsafe):
            if target != COUNT and (target, after) not in seen:
                seen.add((target, after))
                todo.append((target, after))
    return unsafe


def dead_lines(states: list[State]) -> set[int]:
    """The lines of the `set`s in reachable states whose value no walk reads."""
    lines = program(states).splitlines()
    points: dict[tuple[int, ...], list[tuple[str, object]]] = {}
    # A program of points: (state, i) is the i-th thing a state does. Each is a list of reads, writes and jumps.
    numbers: dict[tuple[int, ...], int] = {}
    line = 1 + len(NAMES)
    for i, state in enumerate(states):
        line += 1
        for n, part in enumerate(state.sets):
            line += 1
            points[i, n] = [("set", part), ("go", (i, n + 1))]
            numbers[i, n] = line
        guards: list[tuple[str, object]] = []
        for w, way in enumerate(state.ways):
            line += 1
            guards += [("read", way.name), ("go", (i, 100 + w, 0))]
            for n, part in enumerate(way.sets):
                line += 1
                points[i, 100 + w, n] = [("set", part), ("go", (i, 100 + w, n + 1))]
                numbers[i, 100 + w, n] = line
            line += 1
            points[i, 100 + w, len(way.sets)] = [("go", (way.target, 0))]
        line += 2
        points[i, len(state.sets)] = [*guards, ("go", (state.otherwise, 0))]
    points[COUNT, 0] = []
    reachable = walk(points, (0, 0), None)
    for at in numbers:
        assert lines[numbers[at] - 1].strip().startswith("set"), "the reference lost count of the lines"
    dead = set()
    for at, number in numbers.items():
        if at in reachable:
            part = points[at][0][1]
            assert isinstance(part, Set)
            if not walk(points, (*at[:-1], at[-1] + 1), part.name):
                dead.add(number)
    return dead


def walk(points: dict, start: tuple[int, ...], name: str | None) -> set:
    """The points that a walk meets; with a name, not empty iff it is read before it is set again."""
    seen = {start}
    todo = [start]
    while todo:
        for what, value in points[todo.pop()]:
            if what == "read" and value == name:
                return {start}
            if what == "set":
                if name is not None and value.source == name:
                    return {start}
                if value.name == name:
                    break
            if what == "go" and value not in seen:
                seen.add(value)
                todo.append(value)
    return set() if name is not None else seen


# ---- the properties


@settings(deadline=None, max_examples=80)
@given(AGENTS)
def test_a_variable_is_reported_iff_some_walk_reads_it_unassigned(states):
    reported = {d.message.split("`")[1] for d in findings(states, "JAM404", "JAM405")}
    assert reported == unsafe_names(states)


@settings(deadline=None, max_examples=80)
@given(AGENTS)
def test_the_path_of_a_finding_is_one_of_the_graph_and_never_assigns_the_variable(states):
    for finding in findings(states, "JAM405"):
        name = finding.message.split("`")[1]
        at = [int(step.state[1:]) for step in finding.path]
        assert at[0] == 0
        known = [frozenset[str]()]
        for here, following in itertools.pairwise(at):
            known = [
                after for k in known for target, after in successors(states[here], k, set()) if target == following
            ]
        assert any(name not in k for k in known)


@settings(deadline=None, max_examples=80)
@given(AGENTS)
def test_a_set_is_reported_as_dead_iff_no_walk_reads_its_value(states):
    assert {d.span.line for d in findings(states, "JAM406")} == dead_lines(states)
