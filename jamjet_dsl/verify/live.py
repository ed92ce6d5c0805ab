"""Which variables a run may still read: the others tell states of runs apart for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.program import Plan, reads_of

_AFTER_SUCCESS = ("always", "when", "otherwise", "join", "option")


class Live:
    """The variables of an agent's body that may be read from a state on, before they are set anew. `always` are those
    that are read from outside of it."""

    def __init__(self, plan: Plan, always: Iterable[str] = ()) -> None:
        self._plan = plan
        self._states = plan.regions[""]
        self._always = frozenset(always) | self._anywhere()

    def at(self, state: str) -> frozenset[str]:
        """What may be read by a run that is in this state, or about to enter it."""
        return self._found.get(state, frozenset()) | self._everywhere

    @cached_property
    def _found(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = dict.fromkeys(self._states, frozenset())
        changed = True
        while changed:
            changed = False
            for name in reversed(self._states):
                now = _before(self._states[name], found)
                if now != found[name]:
                    found[name], changed = now, True
        return found

    @cached_property
    def _everywhere(self) -> frozenset[str]:
        """What is read where a run may come to from any state."""
        agent = self._plan.agent
        targets = [handler.target for handler in agent.handlers]
        if agent.budget is not None and agent.budget.exceeded is not None:
            targets.append(agent.budget.exceeded)
        return self._always.union(*(self._found.get(target, frozenset()) for target in targets))

    def _anywhere(self) -> frozenset[str]:
        """What the policy reads, and what is done at every end."""
        agent = self._plan.agent
        last = [] if agent.finally_ is None else [agent.finally_.model_dump(mode="python")]
        rules = [rule.model_dump(mode="python") for rule in agent.rules or ()]
        return frozenset().union(*(_read(tree) for tree in [*last, *rules]))


def _before(state: d.State | d.Final, found: Mapping[str, frozenset[str]]) -> frozenset[str]:
    if isinstance(state, d.Final):
        return _read(dict(state.outputs))
    own = set() if state.action is None else set(_read(state.action.model_dump(mode="python")))
    own |= {name for name in (getattr(state.action, "move", None), getattr(state.action, "proposed", None)) if name}
    for edge in state.edges:
        targets = [name for name in (edge.target, edge.limit_to) if name is not None]
        after = frozenset().union(*(found.get(name, frozenset()) for name in targets))
        after = _through(edge.sets, after) | _read(edge.guard) | _read(edge.yields)
        if edge.trigger in _AFTER_SUCCESS or state.action is None:
            after = _through(state.sets, after) - {getattr(state.action, "bind", None)}
        own |= after
    if not any(edge.trigger in _AFTER_SUCCESS for edge in state.edges):
        own |= _through(state.sets, frozenset()) - {getattr(state.action, "bind", None)}
    return frozenset(own)


def _through(sets: tuple[d.SetDef, ...], after: frozenset[str]) -> frozenset[str]:
    """What is read before some `set`s, of what is read after them."""
    for item in reversed(sets):
        after = (after - {item.path[0]} if len(item.path) == 1 else after | {item.path[0]}) | _read(item.value)
    return after


def _read(tree: Any) -> frozenset[str]:
    """The names that the expressions in dumped data read."""
    return frozenset(name for expr in _expressions(tree) for name in reads_of(expr))


def _expressions(tree: Any) -> Iterator[d.ExprJson]:
    if isinstance(tree, dict):
        for item in tree.values():
            yield from _expressions(item)
    elif isinstance(tree, tuple):
        for item in tree:
            yield from _expressions(item)
    elif isinstance(tree, list):
        yield tree
