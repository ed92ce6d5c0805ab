"""Which variables may be read from a state on before they are set: a walk over the states of a lowered program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.program import Plan

_WITHOUT_RESULT = frozenset({"error", "timeout", "denied", "in_doubt"})
"""Triggers of edges that are taken when the action gave nothing to bind."""


def needed(plan: Plan, start: str, name: str) -> bool:
    """Whether the variable may be read, before it is set, by a run that is in the middle of the state `start`.

    The arguments of the action there were evaluated when it was entered. Paths are those of the graph: a guard is
    never looked at.
    """
    states = plan.regions[""]
    seen: set[str] = set()
    todo = [(start, True), *((target, False) for target in _from_anywhere(plan))]
    while todo:
        at, inside = todo.pop()
        if at in seen and not inside:
            continue
        seen.add(at)
        state = states.get(at)
        if state is None:
            continue
        if isinstance(state, d.Final):
            if _reads(dict(state.outputs), name):
                return True
            continue
        if not inside and state.action is not None and _reads(state.action.model_dump(mode="json"), name):
            return True
        if _leaving_reads(state, name):
            return True
        todo += [(target, False) for target in _onward(state, name)]
    return False


def _from_anywhere(plan: Plan) -> Iterator[str]:
    yield from (handler.target for handler in plan.agent.handlers)
    if plan.agent.budget is not None and plan.agent.budget.exceeded is not None:
        yield plan.agent.budget.exceeded


def _leaving_reads(state: d.State, name: str) -> bool:
    """Whether the way out of a state reads the variable, before the way itself has set it."""
    bound = getattr(state.action, "bind", None) == name
    for setting in () if bound else state.sets:
        if _reads(setting.value, name) or (setting.path[0] == name and len(setting.path) > 1):
            return True
        bound = bound or setting.path == (name,)
    for edge in state.edges:
        known = edge.bind == name or (bound and edge.trigger not in _WITHOUT_RESULT)
        if not known and (_reads(edge.guard, name) or any(_reads(item.value, name) for item in edge.sets)):
            return True
    return False


def _onward(state: d.State, name: str) -> Iterator[str]:
    """Where the run may go with the variable still not set."""
    bound = getattr(state.action, "bind", None) == name or any(item.path == (name,) for item in state.sets)
    if isinstance(state.action, d.Parallel):
        bound = bound or any(branch.bind == name and branch.default is not None for branch in state.action.branches)
    for edge in state.edges:
        if bound and edge.trigger not in _WITHOUT_RESULT:
            continue
        if edge.target is not None and edge.bind != name and all(item.path != (name,) for item in edge.sets):
            yield edge.target
        if edge.limit_to is not None:
            yield edge.limit_to


def _reads(tree: Any, name: str) -> bool:
    """Whether an expression, or anything made of them, names the variable."""
    return tree is not None and f'["var", {json.dumps(name)}]' in json.dumps(tree, default=list)
