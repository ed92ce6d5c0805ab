"""Where the values come from that decide which way a run goes."""

from __future__ import annotations

from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.engine.generate.case import Scene, label_of
from jamjet_dsl.engine.generate.wishes import Wish, wishes_of


class Sources:
    """Where the variables of an agent come from, and what its states ask of them."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.of: dict[str, list[str]] = {}
        """Variable -> the mocked things that may give it a value."""
        self._sets: dict[str, list[d.ExprJson]] = {}
        for path, state in scene.states.items():
            bind = getattr(state.action, "bind", None)
            if bind is not None:
                self.of.setdefault(bind, []).extend(self.targets(path))
            for item in (*state.sets, *(s for e in state.edges for s in e.sets)):
                self._sets.setdefault(item.path[0], []).append(item.value)

    def targets(self, path: str) -> list[str]:
        """What is mocked when a state acts: the tool it calls, or the state itself."""
        match self.scene.states[path].action:
            case d.Call(tool=tool):
                return [tool]
            case d.CallProposed(tools=tools):
                return list(tools)
            case d.CallApproved(tool=tool, asks=asks):
                named = [tool] if tool is not None else [t for ask in asks for t in self._offered(ask)]
                return list(dict.fromkeys(named))
            case d.Think() | d.Ask() | d.RunAgent():
                return [label_of(path)]
            case _:
                return []

    def _offered(self, ask: str) -> tuple[str, ...]:
        for path, state in self.scene.states.items():
            if label_of(path) == ask and isinstance(state.action, d.Ask):
                return (state.action.call.tool,) if state.action.call is not None else state.action.tools
        return ()

    def about(self, path: str, edge: d.Edge) -> tuple[list[Wish], list[Wish], list[str]]:
        """The wishes of the guard of an edge, those of all that decides at its state, near or far (where a value is
        computed, of what it is computed from; for a denial, of the rules of the policy), and the variables read."""
        state = self.scene.states[path]
        exprs: list[Any] = []
        if edge.trigger == "denied":
            for rule in self.scene.agent.rules or ():
                exprs += [rule.when] if rule.when is not None else []
            if isinstance(state.action, d.Call):
                exprs += list(state.action.args.values())
        else:
            guards = [e.guard for e in state.edges if e.guard is not None]
            exprs += guards
        wishes, roots = [], []
        todo, seen = list(exprs), 0
        while seen < len(todo):
            more, read = wishes_of(todo[seen], self.scene.defn.fns)
            seen += 1
            wishes += [w for w in more if w not in wishes]
            for name in read:
                if name not in roots:
                    roots.append(name)
                    todo += self._sets.get(name, ())
                    action = state.action
                    if isinstance(action, d.Each) and name == action.item:
                        todo.append(action.source)
        own = wishes_of(edge.guard, self.scene.defn.fns)[0] if edge.guard is not None else []
        given = {f.name for f in self.scene.agent.inputs}

        def had(names: list[Wish]) -> list[Wish]:
            return [wish for wish in names if wish.path[0] in given or wish.path[0] in self.of]

        return had(own), had(wishes), [r for r in roots if r in given or r in self.of]
