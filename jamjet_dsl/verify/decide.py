"""Deciding properties on what was explored: proved, violated with a shortest way there, guarded, or unknown.

`proved`: no run of the abstraction breaks it, so no run of the program does. `violated`: a way through the abstraction
breaks it; whether a real run can go it is for a replay to say. `guarded`: it is not a matter of the graph, and a check
at run time sees to it. `unknown`: something was left out, or it depends on values that are not followed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeAlias, TypeVar

from jamjet_dsl.definition import Budget, ExprJson
from jamjet_dsl.kernel.expr.literals import LITERALS
from jamjet_dsl.kernel.model import RunState
from jamjet_dsl.kernel.scope import scope_of
from jamjet_dsl.kernel.values import Duration, EvalError, Money, parse_money
from jamjet_dsl.verify import properties as p
from jamjet_dsl.verify.concrete import Concrete
from jamjet_dsl.verify.explore import Explored, Node, Step
from jamjet_dsl.verify.labels import Label
from jamjet_dsl.verify.program import MOST_ITEMS, Impossible
from jamjet_dsl.verify.values import Oracle, branches

Verdict: TypeAlias = Literal["proved", "violated", "guarded", "unknown"]
Q = TypeVar("Q", bound=Hashable)


@dataclass(slots=True)
class Answer:
    """What was found of a property. `way` leads to where it is broken; `guards` are the checks at run time that remain;
    `vacuous`: what it speaks of never happens. `run` is a real run that goes the way, if one was found."""

    asked: p.Asked
    verdict: Verdict
    why: str = ""
    way: tuple[Step, ...] = ()
    guards: tuple[str, ...] = ()
    vacuous: bool = False
    run: Concrete | None = None


@dataclass(slots=True)
class Decider:
    """Decides properties of one agent on what was explored of it. `budget` is the agent's own."""

    found: Explored
    budget: Budget | None

    def decide(self, asked: p.Asked) -> Answer:
        """What becomes of one property."""
        match asked.property:
            case p.Passes():
                return self._passes(asked, asked.property)
            case p.NeverUnless():
                return self._never_unless(asked, asked.property)
            case p.CallsLess():
                return self._calls_less(asked, asked.property)
            case p.EndsWithin(steps=steps):
                return self._ends_within(asked, steps)
            case p.CyclesBounded():
                return self._cycles(asked)
            case p.FinalReachable():
                return self._final_reachable(asked)
            case p.Always(condition=condition):
                return self._holds(asked, condition, ends=False)
            case p.AtEnd(condition=condition):
                return self._holds(asked, condition, ends=True)
            case p.WaysOn():
                return self._stops(asked, doubt=False)
            case p.DoubtsHandled():
                return self._stops(asked, doubt=True)
            case p.CallsAllowed():
                return self._refused(asked)

    # ---- ways

    def _search(self, start: Q, after: Callable[[Q, Label], Q | None]) -> tuple[Step, ...] | None:
        """A shortest way on which `after` gives None, from what it gave before; None if there is none."""
        came: dict[tuple[int, Q], tuple[tuple[int, Q] | None, Step]] = {}
        todo: deque[tuple[int, Q]] = deque()

        def go(at: tuple[int, Q] | None, q: Q, step: Step) -> tuple[Step, ...] | None:
            for label in step.labels:
                found = after(q, label)
                if found is None:
                    return (*_back(came, at), step)
                q = found
            to = (step.target.number, q)
            if to not in came:
                came[to] = (at, step)
                todo.append(to)
            return None

        for step in self.found.first:
            if (way := go(None, start, step)) is not None:
                return way
        while todo:
            at = todo.popleft()
            for step in self.found.nodes[at[0]].steps:
                if (way := go(at, at[1], step)) is not None:
                    return way
        return None

    def _proved(self, asked: p.Asked, vacuous: str = "", counts: bool = False) -> Answer:
        left = list(self.found.left)
        if counts and self.found.lists:
            left.append(
                f"lists of more than {MOST_ITEMS} items ({', '.join(f'`{name}`' for name in self.found.lists)})"
            )
        if left:
            return Answer(asked, "unknown", f"not explored: {'; '.join(left)}")
        return Answer(asked, "proved", vacuous, vacuous=bool(vacuous))

    def _happens(self, kind: str, place: str) -> bool:
        return any(
            label.kind == kind and label.place == place for step in self.found.all_steps() for label in step.labels
        ) or (kind == "enter" and any(place == self.found.program.agent.body.start for _ in self.found.first))

    # ---- paths and calls

    def _passes(self, asked: p.Asked, wanted: p.Passes) -> Answer:
        main, start = self.found.program.agent.name, self.found.program.agent.body.start
        for through in wanted.through:
            if through == start:
                continue

            def after(passed: bool, label: Label, through: str = through) -> bool | None:
                if label.kind != "enter" or label.agent != main:
                    return passed
                if label.place == through:
                    return True
                return None if label.place == wanted.goal and not passed else passed

            way = self._search(False, after)
            if way is not None:
                return Answer(asked, "violated", f"`{wanted.goal}` is entered, and `{through}` was not", way)
        never = "" if self._happens("enter", wanted.goal) else f"no run comes to `{wanted.goal}`"
        return self._proved(asked, never)

    def _never_unless(self, asked: p.Asked, wanted: p.NeverUnless) -> Answer:
        def after(said: bool, label: Label) -> bool | None:
            if label.kind == "answer" and label.place == wanted.ask and label.how == wanted.option:
                return True
            return None if label.kind == "call" and label.place == wanted.tool and not said else said

        way = self._search(False, after)
        if way is not None:
            return Answer(asked, "violated", f"`{wanted.tool}` is called without that answer", way)
        never = "" if self._happens("call", wanted.tool) else f"no run calls `{wanted.tool}`"
        return self._proved(asked, never)

    def _calls_less(self, asked: p.Asked, wanted: p.CallsLess) -> Answer:
        def after(calls: int, label: Label) -> int | None:
            if label.kind != "call" or label.place != wanted.tool:
                return calls
            return None if calls + 1 >= wanted.times else calls + 1

        way = self._search(0, after)
        if way is not None:
            return Answer(asked, "violated", f"`{wanted.tool}` is called {wanted.times} times", way)
        never = "" if self._happens("call", wanted.tool) else f"no run calls `{wanted.tool}`"
        return self._proved(asked, never, counts=True)

    # ---- ends and cycles

    def _ends_within(self, asked: p.Asked, most: int) -> Answer:
        steps = None if self.budget is None else self.budget.limits.steps
        longest = self._longest()
        if longest is not None and longest[0] <= most and not self.found.lists:
            return self._proved(asked)
        if steps is not None and steps <= most:
            return Answer(asked, "guarded", guards=(f"the budget ends a run that takes more than {steps} steps",))
        if longest is not None and longest[0] <= most:
            return self._proved(asked, counts=True)
        if longest is None:
            why = "a cycle that no limit bounds can be gone through for ever"
            return Answer(asked, "unknown" if steps is not None else "violated", why, self._cycle())
        return Answer(asked, "violated", f"a run may take {longest[0]} steps", longest[1])

    def _cycles(self, asked: p.Asked) -> Answer:
        cycle = self._cycle()
        if not cycle:
            return self._proved(asked)
        steps = None if self.budget is None else self.budget.limits.steps
        where = next((label.place for step in cycle for label in step.labels if label.kind == "enter"), "")
        if steps is not None:
            guard = f"only the budget of {steps} steps bounds the cycle through `{where}`"
            return Answer(asked, "guarded", guards=(guard,), way=cycle)
        return Answer(asked, "violated", f"nothing bounds the cycle through `{where}`", cycle)

    def _final_reachable(self, asked: p.Asked) -> Answer:
        into: dict[int, list[int]] = {}
        for node in self.found.nodes:
            for step in node.steps:
                if step.move is None or not (step.move.how == "budget" or step.move.kind in ("cancels", "dies")):
                    into.setdefault(step.target.number, []).append(node.number)
        good = {node.number for node in self.found.nodes if node.ended or node.parked}
        todo = list(good)
        while todo:
            for number in into.get(todo.pop(), ()):
                if number not in good:
                    good.add(number)
                    todo.append(number)
        stuck = next((node for node in self.found.nodes if node.number not in good and not node.state.exceeded), None)
        if stuck is None or not self.found.complete:
            return self._proved(asked)
        where = stuck.state.frames[""].state if "" in stuck.state.frames else ""
        return Answer(asked, "violated", f"from `{where}` no final can be reached", way_to(stuck))

    def _stops(self, asked: p.Asked, doubt: bool) -> Answer:
        """The places where a run is parked: it waits there for somebody to put right what is wrong."""
        guards: dict[str, Node] = {}
        for node in self.found.nodes:
            if node.state.parked is not None and _is_doubt(node.state) == doubt:
                guards.setdefault(_parked(node.state), node)
        if not guards:
            return self._proved(asked)
        first = next(iter(guards.values()))
        return Answer(asked, "guarded", "such a run is parked, for a person", way_to(first), tuple(guards))

    def _refused(self, asked: p.Asked) -> Answer:
        guards: dict[str, Step] = {}
        for step in self.found.all_steps():
            for label in step.labels:
                if label.kind == "deny":
                    guards.setdefault(f"`{label.place}`: {label.how}", step)
        if not guards:
            return self._proved(asked)
        first = next(iter(guards.values()))
        before = () if first.source is None else way_to(first.source)
        return Answer(asked, "guarded", "the policy decides it at run time", (*before, first), tuple(guards))

    def _longest(self) -> tuple[int, tuple[Step, ...]] | None:
        """The most steps a run may take, and how; None where a cycle has no end."""
        order: list[Node] = []
        place: dict[int, int] = {}
        for component in _components(self.found.nodes, lambda step: True):
            inside = set(component)
            for number in component:
                place[number] = len(order)
            for number in component:
                node = self.found.nodes[number]
                if any(step.acted and step.target.number in inside for step in node.steps):
                    return None
            order += [self.found.nodes[number] for number in component]
        best: dict[int, tuple[int, tuple[int, Step] | None]] = {}
        for node in order:  # what a node leads to stands before it
            found: tuple[int, tuple[int, Step] | None] = (0, None)
            for step in node.steps:
                if place[step.target.number] != place[node.number]:
                    length = step.acted + best[step.target.number][0]
                    found = max(found, (length, (step.target.number, step)), key=lambda item: item[0])
            best[node.number] = found
        if not self.found.first:
            return 0, ()
        first = max(self.found.first, key=lambda step: step.acted + best[step.target.number][0])
        way, at = [first], first.target.number
        while (onward := best[at][1]) is not None:
            at, step = onward
            way.append(step)
        return first.acted + best[first.target.number][0], tuple(way)

    def _cycle(self) -> tuple[Step, ...]:
        """A way around a cycle that no limit of an edge bounds, from the beginning; empty if there is none."""
        for component in _components(self.found.nodes, self._is_free):
            inside = set(component)
            for number in component:
                for step in self.found.nodes[number].steps:
                    moves = any(label.kind == "enter" for label in step.labels)
                    if moves and step.target.number in inside and self._is_free(step):
                        around = self._path(step.target.number, number, inside)
                        return (*way_to(self.found.nodes[number]), step, *around)
        return ()

    def _is_free(self, step: Step) -> bool:
        return not step.limited

    def _path(self, start: int, goal: int, inside: set[int]) -> tuple[Step, ...]:
        came: dict[int, tuple[int, Step]] = {}
        todo = deque((start,))
        while todo and goal not in came and start != goal:
            number = todo.popleft()
            for step in self.found.nodes[number].steps:
                to = step.target.number
                if to in inside and to not in came and to != start and self._is_free(step):
                    came[to] = (number, step)
                    todo.append(to)
        way: list[Step] = []
        while goal != start:
            goal, step = came[goal]
            way.append(step)
        return tuple(reversed(way))

    # ---- conditions

    def _holds(self, asked: p.Asked, condition: ExprJson, ends: bool) -> Answer:
        answer = self._by_budget(asked, condition)
        if answer is not None:
            return answer
        unsure: tuple[Step, ...] = ()
        for step in self.found.all_steps():
            for state in _states(step, ends):
                found = self._truth(condition, state, step.target)
                if found == {False}:
                    return Answer(asked, "violated", "it does not hold there", _way_of(step))
                if False in found and not unsure:
                    unsure = _way_of(step)
        if unsure:
            return Answer(asked, "unknown", "it depends on values that are not followed", unsure)
        return self._proved(asked)

    def _truth(self, condition: ExprJson, state: RunState, node: Node) -> set[bool]:
        program = self.found.program
        frame = state.frames.get("")
        if frame is None:
            return {True}

        def make(prefix: tuple[int, ...]) -> tuple[Oracle, bool | None]:
            oracle = program.oracle = Oracle(prefix, dict(node.known), node.next_symbol, not program.has_floats)
            names = {"state": frame.state, "outputs": state.output or {}}
            scope = scope_of(program, state, frame).nested({**names, **(state.output or {}), **state.vars})
            try:
                return oracle, program.truth(condition, scope)
            except (EvalError, Impossible):
                return oracle, None

        return {answer for _, answer in branches(make) if answer is not None}

    def _by_budget(self, asked: p.Asked, condition: ExprJson) -> Answer | None:
        """What the budget says of `spent.X <= N`; None for any other condition."""
        match condition:
            case [("<=" | "<") as op, ["select", ["var", "spent"], str() as name], bound] if (
                number := _amount(bound)
            ) is not None:
                cap = self._cap(name)
            case _:
                return None
        if cap is None:
            return Answer(asked, "unknown", f"the agent has no budget of {name}")
        if cap > number or (op == "<" and cap == number):
            return Answer(asked, "unknown", f"the budget of {name} lets a run use more")
        if name == "steps":
            return Answer(asked, "proved")
        guard = f"what does not fit the budget of {name} is not begun; usage above what was reserved is an overrun"
        return Answer(asked, "guarded", guards=(guard,))

    def _cap(self, name: str) -> Decimal | None:
        if self.budget is None:
            return None
        limits = self.budget.limits
        values: dict[str, Any] = {
            "steps": limits.steps,
            "tokens": limits.tokens,
            "cost": None if limits.cost is None else parse_money(limits.cost).amount,
            "time": limits.time_ms,
            "active": limits.active_ms,
        }
        value = values.get(name)
        return None if value is None else Decimal(value)


def _amount(bound: ExprJson) -> Decimal | None:
    if bound[0] not in LITERALS:
        return None
    value = LITERALS[bound[0]](bound)
    if isinstance(value, Money):
        return value.amount
    if isinstance(value, Duration):
        return Decimal(value.ms)
    return Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None


def _states(step: Step, ends: bool) -> Iterator[RunState]:
    if step.end is not None:
        yield step.end
    elif not ends:
        yield step.target.state


def _way_of(step: Step) -> tuple[Step, ...]:
    return (*(() if step.source is None else way_to(step.source)), step)


def _is_doubt(state: RunState) -> bool:
    return any(str(command).startswith("settle") for command in (state.parked or {}).get("commands", ()))


def _parked(state: RunState) -> str:
    body = state.parked or {}
    return f"in `{body.get('state', '')}`: {body.get('reason', '')}"


def _back(came: dict[tuple[int, Q], tuple[tuple[int, Q] | None, Step]], at: tuple[int, Q] | None) -> tuple[Step, ...]:
    way: list[Step] = []
    while at is not None:
        at, step = came[at]
        way.append(step)
    return tuple(reversed(way))


def way_to(node: Node) -> tuple[Step, ...]:
    """The steps of a shortest way to a node."""
    way: list[Step] = []
    at: Node | None = node
    while at is not None and at.came is not None:
        way.append(at.came)
        at = at.came.source
    return tuple(reversed(way))


def _components(nodes: Iterable[Node], follow: Callable[[Step], bool]) -> Iterator[list[int]]:
    """The strongly connected components by the steps to be followed (Tarjan), each after those that it leads to."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    pending: list[int] = []
    waiting: set[int] = set()
    for root in nodes:
        if root.number in index:
            continue
        index[root.number] = low[root.number] = len(index)
        pending.append(root.number)
        waiting.add(root.number)
        work = [(root, iter(root.steps))]
        while work:
            node, steps = work[-1]
            for step in steps:
                to = step.target
                if not follow(step):
                    continue
                if to.number not in index:
                    index[to.number] = low[to.number] = len(index)
                    pending.append(to.number)
                    waiting.add(to.number)
                    work.append((to, iter(to.steps)))
                    break
                if to.number in waiting:
                    low[node.number] = min(low[node.number], index[to.number])
            else:
                work.pop()
                if work:
                    above = work[-1][0].number
                    low[above] = min(low[above], low[node.number])
                if low[node.number] == index[node.number]:
                    component: list[int] = []
                    while not component or component[-1] != node.number:
                        component.append(pending.pop())
                    waiting.difference_update(component)
                    yield component
