"""The graph of an agent: every way that a run may go, written or implied."""

from __future__ import annotations

from pathlib import Path

import pytest

from jamjet_dsl import compiler
from jamjet_dsl.analysis.model import AgentInfo
from tests.analysis.helpers import agent, programs

TOOLS = (
    "tool get(id: string) -> int { effect reads  raises NotFound }\n"
    "tool pay(n: int) -> int { effect irreversible  key run.id  raises Rejected }\n"
)


def flow(body: str) -> AgentInfo:
    return compiler.analyse_text(TOOLS + agent(body)).analysis.agents[0]


def ways(info: AgentInfo, path: str) -> dict[str, str | None]:
    """Edge id -> path of its target."""
    state = next(s for s in info.all_states() if s.path == path)
    return {edge.id: edge.target.path if edge.target else None for edge in state.out}


def test_an_edge_is_known_by_its_trigger_and_ordinal() -> None:
    info = flow(
        'event e(n: int)\ninput n: int\nstart state s { ask role "r" "?" options yes, no timeout 1h\n'
        "on yes -> d\non no -> d\non event e(x) -> d\non timeout -> d\non error NotFound -> d\non error any -> d\n"
        "when n > 1 -> d\nwhen n > 2 -> d\notherwise -> d }\nfinal d {}"
    )
    assert list(ways(info, "s")) == [
        "on yes#0",
        "on no#0",
        "on event e#0",
        "on timeout#0",
        "on error#0",
        "on error#1",
        "when#0",
        "when#1",
        "otherwise#0",
    ]


def test_a_limit_leads_to_its_alternative_or_to_exceeded() -> None:
    info = flow(
        "budget { steps 9  exceeded -> out }\ninput n: int\n"
        "start state s { when n > 1 -> s limit 2 else d\notherwise -> s limit 3 }\nfinal d {}\nfailed out {}"
    )
    assert ways(info, "s") == {"when#0": "s", "when#0!": "d", "otherwise#0": "s", "otherwise#0!": "out"}


@pytest.mark.parametrize(
    ("action", "handler", "caught"),
    [
        ('call get("a")', "on error any -> out", True),
        ('call get("a")', "on error NotFound -> out", True),
        ('call get("a")', "on error Timeout -> out", True),
        ('call get("a")', "on error Rejected -> out", False),
        ("call pay(1)", "on error Timeout -> out", False),
        ("call pay(1)", "on error RateLimited -> out", True),
        ("call pay(1)", "on in_doubt -> out", True),
        ('call get("a")', "on in_doubt -> out", False),
        ("call pay(1)", "on denied -> out", True),
        ('think "t" model m max prompt 1k max tokens 1k', "on denied -> out", False),
        ('think "t" model m max prompt 1k max tokens 1k', "on error InvalidOutput -> out", True),
        ("wait 1h", "on error any -> out", False),
        ("wait 1h", "on cancel -> out", True),
        ("", "on cancel -> out", False),
        ('ask role "r" to pay(1) "?"', "on denied -> out", True),
        ('each q in ["a"] { call get(q) }', "on error NotFound -> out", True),
        ('each q in ["a"] { call get(q)\non error any skip }', "on error any -> out", True),
        ("each q in [1] { yields q }", "on error any -> out", False),
    ],
)
def test_a_handler_of_the_agent_is_an_edge_where_it_can_be_taken(action: str, handler: str, caught: bool) -> None:
    info = flow(f"{handler}\nstart state s {{ {action}\n-> d }}\nfinal d {{}}\nfailed out {{}}")
    assert any(id_.startswith("handler:") for id_ in ways(info, "s")) is caught


def test_an_edge_of_the_state_wins_over_a_handler() -> None:
    info = flow(
        'on error any -> out\nstart state s { call get("a")\non error any -> d\n-> d }\nfinal d {}\nfailed out {}'
    )
    assert ways(info, "s") == {"on error#0": "d", "always#0": "d"}


@pytest.mark.parametrize(
    ("budget", "action", "metered"),
    [
        ("steps 3", "wait 1h", True),
        ("steps 3", "", False),
        ("steps 3", "undo all", False),
        ("tokens 3k", "wait 1h", False),
        ("tokens 3k", 'think "t" model m max prompt 1k max tokens 1k', True),
        ("cost $3", 'call get("a")', False),
        ("time 1h", 'call get("a")', True),
    ],
)
def test_exceeded_is_an_edge_of_what_the_budget_meters(budget: str, action: str, metered: bool) -> None:
    info = flow(
        f"budget {{ {budget}  exceeded -> out }}\nstart state s {{ {action}\n-> d }}\nfinal d {{}}\nfailed out {{}}"
    )
    assert ("exceeded" in ways(info, "s")) is metered


def test_bodies_have_states_of_their_own_below_the_path_of_their_state() -> None:
    info = flow(
        'start parallel p {\nbranch one { each q in ["a"] { call get(q)\non error any skip } }\n'
        "branch two { start state x { wait 1h -> y }\nfinal y {} }\n"
        "join all\non join -> d\non error any -> d }\nfinal d {}"
    )
    paths = {s.path: [e.id for e in s.out] for s in info.all_states()}
    assert paths == {
        "p": ["on join#0", "on error#0"],
        "d": [],
        "p/one/do": [],
        "p/one/do/each/do": ["on error#0"],
        "p/two/x": ["always#0"],
        "p/two/y": [],
    }
    inner = next(s for s in info.all_states() if s.path == "p/one/do/each/do")
    assert inner.out[0].target is None
    assert inner.region.kind == "each"
    assert inner.region.owner is not None
    assert inner.region.owner.path == "p/one/do"


def test_a_target_that_does_not_exist_makes_the_agent_unfit_for_graph_checks() -> None:
    info = flow("start state s { wait 1h -> nowhere }\nfinal d {}")
    assert info.broken
    assert ways(info, "s") == {}


def test_one_broken_agent_does_not_hide_another() -> None:
    broken = agent("start state s { wait 1h -> nowhere }\nfinal d {}")
    other = agent("start state s { wait 1h -> d }\nstate lost { wait 1h -> d }\nfinal d {}").replace(
        "agent a", "agent b"
    )
    found = [(d.code, d.span.line) for d in compiler.check_text(broken + other)]
    assert ("JAM202", 7) in found
    assert ("JAM101", 2) in found
    assert not any(code.startswith("JAM2") and line <= 4 for code, line in found)


@pytest.mark.parametrize("path", programs(), ids=lambda p: p.name if p else "none")
def test_edges_leave_and_enter_the_states_they_join(path: Path) -> None:
    for info in compiler.check_file(path).analysis.agents:
        states = info.all_states()
        assert len({s.path for s in states}) == len(states)
        for state in states:
            assert len({e.id for e in state.out}) == len(state.out)
            for edge in state.out:
                assert edge.source is state
                if edge.target is not None:
                    assert edge in edge.target.into
                    assert edge.target.region is state.region
