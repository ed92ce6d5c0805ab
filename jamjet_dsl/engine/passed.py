"""What a run has passed: its states and edges, in branches, items and the agents that it runs too.

A transition names its edge in the journal. An edge that ends a branch or an item (`skip`, `yields`) does not: the
journal has only the end. Which edge it was is asked of the kernel again, with a program in which those edges lead to a
state, so that it names them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.leave import leave
from jamjet_dsl.kernel.machine import apply, initial
from jamjet_dsl.kernel.model import Event, Record
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.ports import Draft

HANDLED = "agent on "
"""What the edge of a handler of the whole agent begins with in a journal."""
EXCEEDED = "exceeded"
CANCEL = "cancel"
_OUT = "\x00out"


class Part(NamedTuple):
    """A state (`edge` is empty) or an edge of an agent. `state` is the path of the state; it is empty for the edges
    that belong to the whole agent: handlers (`agent on error#0`) and `exceeded`. The `else` of a limit is the id of its
    edge followed by `!`."""

    agent: str
    state: str
    edge: str = ""


Passed: TypeAlias = Counter[Part]
"""How often each part was passed."""


def parts_of(agent: d.Agent) -> Iterator[Part]:
    """Every state and edge of an agent, in the order of the program, those of the whole agent last."""
    for path, state in states_of(agent.body):
        yield Part(agent.name, path)
        for edge in state.edges if isinstance(state, d.State) else ():
            yield Part(agent.name, path, edge.id)
            if edge.limit is not None and edge.limit_to is not None:
                yield Part(agent.name, path, f"{edge.id}!")
    for part, _ in handlers_of(agent):
        yield part
    if agent.budget is not None and agent.budget.exceeded is not None:
        yield Part(agent.name, "", EXCEEDED)


def states_of(region: d.Region, prefix: str = "") -> Iterator[tuple[str, d.State | d.Final]]:
    """The states of a region and of those inside it, each with its path."""
    for state in region.states:
        path = f"{prefix}{state.name}"
        yield path, state
        action = state.action if isinstance(state, d.State) else None
        if isinstance(action, d.Parallel):
            for branch in action.branches:
                yield from states_of(branch.body, f"{path}/{branch.name}/")
        elif isinstance(action, d.Each):
            yield from states_of(action.body, f"{path}/each/")


def handlers_of(agent: d.Agent) -> Iterator[tuple[Part, d.HandlerDef]]:
    """The handlers of the whole agent with their identities: trigger and ordinal among those of the trigger."""
    seen: Counter[str] = Counter()
    for handler in agent.handlers:
        yield Part(agent.name, "", f"{HANDLED}{handler.trigger}#{seen[handler.trigger]}"), handler
        seen[handler.trigger] += 1


class _At(NamedTuple):
    """Where a frame is: its agent, and what stands before the names of its states."""

    agent: str
    prefix: str


def passed(program: Program, journal: Sequence[Draft]) -> Passed:
    """What the run with this journal has passed."""
    found: Passed = Counter()
    places: dict[str, _At] = {}
    ends = _ends(program, journal)
    for n, (_, kind, body) in enumerate(journal):
        frame = body.get("frame", "")
        if kind == "started":
            places[""] = at = _At(program.agent.name, "")
            found[Part(at.agent, program.agent.body.start)] += 1
        elif kind == "begun" and body["kind"] in ("branch", "item", "agent"):
            around = places.get(body["cmd"].rpartition("#")[0])
            if around is not None:
                prefix = f"{body['region']}/" if body["region"] else ""
                places[frame] = at = _At(body.get("agent") or around.agent, prefix)
                found[Part(at.agent, f"{prefix}{body['state']}")] += 1
        elif kind == "moved" and frame in places:
            at = places[frame]
            found[_taken(at, body)] += 1
            found[Part(at.agent, f"{at.prefix}{body['to']}")] += 1
        elif n in ends and frame in places:
            at = places[frame]
            state, edge = ends[n]
            found[Part(at.agent, f"{at.prefix}{state}", edge)] += 1
    return found


def _taken(at: _At, body: Mapping[str, object]) -> Part:
    edge = str(body["edge"])
    if edge == CANCEL:
        edge = f"{HANDLED}cancel#0"
    if edge == EXCEEDED or edge.startswith(HANDLED):
        return Part(at.agent, "", edge)
    return Part(at.agent, f"{at.prefix}{body['state']}", f"{edge}!" if body.get("over") else edge)


# ---- edges that end a branch or an item


def _ends(program: Program, journal: Sequence[Draft]) -> dict[int, tuple[str, str]]:
    """By the number of the event: the state and the edge by which a branch or an item ended."""
    if not any(_is_end(edge) for agent in program.defn.agents.values() for edge in _edges(agent.body)):
        return {}
    named = Program.of(_with_targets(program.defn))
    state = initial("")
    found: dict[int, tuple[str, str]] = {}
    for n, (at_ms, kind, body) in enumerate(journal):
        if kind == "closed" and body["how"] in ("done", "skipped"):
            frame = state.frames[body["frame"]]
            if frame.kind in ("branch", "item") and isinstance(program.state(frame), d.State):
                match leave(named, state, frame):
                    case [Record(kind="moved", body=move)] if move["to"] == _OUT:
                        found[n] = frame.state, str(move["edge"])
        state = apply(program, state, Event("", state.seq + 1, at_ms, kind, body))
    return found


def _edges(region: d.Region) -> Iterable[d.Edge]:
    for _, state in states_of(region):
        if isinstance(state, d.State):
            yield from state.edges


def _is_end(edge: d.Edge) -> bool:
    return edge.target is None


def _with_targets(definition: d.Definition) -> d.Definition:
    """The definition with a state behind every edge that ends a branch or an item."""

    def region(body: d.Region) -> d.Region:
        states = tuple(state(s) for s in body.states)
        if any(_is_end(e) for s in body.states if isinstance(s, d.State) for e in s.edges):
            states += (d.State(name=_OUT),)
        return body.model_copy(update={"states": states})

    def state(item: d.State | d.Final) -> d.State | d.Final:
        if isinstance(item, d.Final):
            return item
        new: dict[str, object] = {"edges": tuple(edge(e) for e in item.edges)}
        if isinstance(item.action, d.Each):
            new["action"] = item.action.model_copy(update={"body": region(item.action.body)})
        elif isinstance(item.action, d.Parallel):
            branches = tuple(b.model_copy(update={"body": region(b.body)}) for b in item.action.branches)
            new["action"] = item.action.model_copy(update={"branches": branches})
        return item.model_copy(update=new)

    def edge(item: d.Edge) -> d.Edge:
        return item.model_copy(update={"target": _OUT, "skip": False, "yields": None}) if _is_end(item) else item

    agents = {name: a.model_copy(update={"body": region(a.body)}) for name, a in definition.agents.items()}
    return definition.model_copy(update={"agents": agents})
