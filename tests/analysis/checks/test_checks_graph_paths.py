"""The graph algorithms against networkx and against plain enumeration."""

from __future__ import annotations

import itertools
import time

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from jamjet_dsl.analysis.checks.paths import (
    components,
    cycle_through,
    cyclic_components,
    path_to,
    reachable,
    reaching,
    reverse_postorder,
    shortest_path,
)
from jamjet_dsl.analysis.model import FlowEdge, FlowRegion, FlowState
from jamjet_dsl.source import SourceFile, Span
from jamjet_dsl.syntax import ast

_SOURCE = SourceFile("graph.jam", "x" * 10_000)


def region(count: int, edges: list[tuple[int, int]]) -> FlowRegion:
    """States `s0`, `s1`, … with unguarded edges between them; `s0` is the start."""
    made = FlowRegion("agent", "g", None)
    states = []
    for i in range(count):
        span = Span(_SOURCE, i, i + 1)
        name = ast.Name(span, f"s{i}")
        decl = ast.StateDecl(span, name, i == 0, (), None)
        state = FlowState(f"s{i}", f"s{i}", decl, made, None, ())
        made.states[state.name] = state
        states.append(state)
    made.start = states[0]
    for n, (a, b) in enumerate(edges):
        node = ast.Edge(Span(_SOURCE, n, n), ast.Always(Span(_SOURCE, n, n)), None, False, None, None, None, ())
        edge = FlowEdge(states[a], states[b], node, node.trigger, "edge", f"always#{n}")
        states[a].out.append(edge)
        states[b].into.append(edge)
    return made


COUNT = 9
GRAPHS = st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1)), max_size=24)


def oracle(edges: list[tuple[int, int]]) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(f"s{i}" for i in range(COUNT))
    graph.add_edges_from((f"s{a}", f"s{b}") for a, b in edges)
    return graph


def start_of(flow: FlowRegion):
    assert flow.start is not None
    return flow.start


@given(GRAPHS)
def test_components_are_those_of_networkx_and_stand_in_reverse_topological_order(edges):
    flow = region(COUNT, edges)
    found = components(flow.states.values())
    assert {frozenset(s.name for s in c) for c in found} == {
        frozenset(c) for c in nx.strongly_connected_components(oracle(edges))
    }
    position = {s: i for i, c in enumerate(found) for s in c}
    assert all(position[e.target] <= position[s] for s in position for e in s.out)


@given(GRAPHS)
def test_every_cyclic_component_has_a_cycle_through_each_state_and_no_other_state_has_one(edges):
    flow = region(COUNT, edges)
    cyclic = cyclic_components(flow.states.values())
    on_cycle = {s for c in cyclic for s in c}
    for state in flow.states.values():
        cycle = cycle_through(state, flow.states.values())
        assert bool(cycle) == (state in on_cycle)
        if cycle:
            assert cycle[0].source is state
            assert cycle[-1].target is state
            assert all(a.target is b.source for a, b in itertools.pairwise(cycle))


@given(GRAPHS)
def test_shortest_paths_have_the_length_that_networkx_finds(edges):
    flow = region(COUNT, edges)
    lengths = nx.single_source_shortest_path_length(oracle(edges), "s0")
    start = start_of(flow)
    assert {s.name for s in reachable(start)} == set(lengths)
    for state in flow.states.values():
        found = shortest_path(start, {state})
        assert (None if found is None else len(found)) == lengths.get(state.name)
        assert (start in reaching({state})) == (found is not None)
        stops = path_to(state)
        assert (None if stops is None else len(stops) - 1) == lengths.get(state.name)


@given(GRAPHS, st.integers(0, 23))
def test_an_edge_that_is_not_followed_is_as_good_as_not_there(edges, without):
    flow = region(COUNT, edges)
    kept = [pair for n, pair in enumerate(edges) if n != without]

    def follow(edge):
        return edge.id != f"always#{without}"

    start = start_of(flow)
    assert {s.name for s in reachable(start, follow)} == set(nx.descendants(oracle(kept), "s0")) | {"s0"}
    reduced = region(COUNT, kept)
    assert [[s.name for s in c] for c in cyclic_components(flow.states.values(), follow)] == [
        [s.name for s in c] for c in cyclic_components(reduced.states.values())
    ]


@given(GRAPHS)
def test_in_reverse_postorder_only_the_edges_of_cycles_lead_back(edges):
    flow = region(COUNT, edges)
    order = reverse_postorder(start_of(flow))
    assert set(order) == reachable(start_of(flow))
    place = {state: i for i, state in enumerate(order)}
    on_cycle = {s: c[0] for c in cyclic_components(order) for s in c}
    for state in order:
        for edge in state.out:
            if place[edge.target] <= place[state]:
                assert on_cycle[state] is on_cycle[edge.target]


def test_a_chain_of_fifty_thousand_states_with_one_handler_costs_seconds_at_most():
    count = 50_000
    chain = [(i, i + 1) for i in range(count - 2)] + [(i, count - 1) for i in range(count - 1)]
    flow = region(count, chain)
    began = time.process_time()
    assert len(components(flow.states.values())) == count
    assert reverse_postorder(start_of(flow))[0] is flow.start
    assert len(path_to(flow.states[f"s{count - 2}"]) or ()) == count - 1
    assert time.process_time() - began < 5
