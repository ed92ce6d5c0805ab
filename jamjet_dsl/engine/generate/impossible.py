"""What no test can pass: a test sends no events and cancels nothing. What only such an edge leads to is as far away."""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl import definition as d
from jamjet_dsl.engine.passed import EXCEEDED, Part, handlers_of, parts_of, states_of

NO_EVENTS = "a test sends no events"
NO_CANCEL = "a test cancels nothing"
BEYOND = "only what a test cannot do leads there: it sends no events and cancels nothing"


def impossible(agent: d.Agent) -> dict[Part, str]:
    """Each part that no test passes, and why."""
    found = {part: NO_CANCEL for part, handler in handlers_of(agent) if handler.trigger == "cancel"}
    for path, state in states_of(agent.body):
        if not isinstance(state, d.State):
            continue
        for edge in state.edges:
            if edge.trigger == "event" or (_waits(state) and edge.trigger in _AFTER_SUCCESS):
                found[Part(agent.name, path, edge.id)] = NO_EVENTS
                found[Part(agent.name, path, f"{edge.id}!")] = NO_EVENTS
    reached = _reached(agent, found)
    for part in parts_of(agent):
        if part.state and part.state not in reached:
            found.setdefault(part, BEYOND)
    parts = set(parts_of(agent))
    return {part: why for part, why in found.items() if part in parts}


_AFTER_SUCCESS = ("always", "when", "otherwise")


def _waits(state: d.State) -> bool:
    """Whether a state is left in the ordinary way only once an event is there."""
    return isinstance(state.action, d.Wait) and state.action.event is not None


def _reached(agent: d.Agent, never: dict[Part, str]) -> set[str]:
    """The states that edges lead to which a test may take."""
    states = dict(states_of(agent.body))
    ways = [h.target for part, h in handlers_of(agent) if part not in never]
    if agent.budget is not None and agent.budget.exceeded is not None and Part(agent.name, "", EXCEEDED) not in never:
        ways.append(agent.budget.exceeded)
    todo, seen = [agent.body.start, *ways], set[str]()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        state = states[path]
        if isinstance(state, d.State):
            todo += _onward(agent.name, path, state, never)
    return seen


def _onward(agent: str, path: str, state: d.State, never: dict[Part, str]) -> Iterator[str]:
    prefix = path.removesuffix(state.name)
    for edge in state.edges:
        if edge.target is not None and Part(agent, path, edge.id) not in never:
            yield f"{prefix}{edge.target}"
        if edge.limit_to is not None and Part(agent, path, f"{edge.id}!") not in never:
            yield f"{prefix}{edge.limit_to}"
    if isinstance(state.action, d.Each):
        yield f"{path}/each/{state.action.body.start}"
    elif isinstance(state.action, d.Parallel):
        yield from (f"{path}/{branch.name}/{branch.body.start}" for branch in state.action.branches)
