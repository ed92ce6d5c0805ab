"""A program over unknown values: the kernel runs it as any other, but what depends on what nobody knows is chosen.

Only evaluation differs. A condition is true or false, as the oracle says; a value is the expression that it stands
for; and what may fail (an index, a division, a conversion) may fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from jamjet_dsl import definition as d
from jamjet_dsl.definition import ExprJson
from jamjet_dsl.kernel.expr import Evaluator, compile_expr
from jamjet_dsl.kernel.expr.macros import MACROS
from jamjet_dsl.kernel.program import Callee, Plan, Program
from jamjet_dsl.kernel.quick import MISS, Quick, reader_of
from jamjet_dsl.kernel.scalars import Timestamp
from jamjet_dsl.kernel.scope import Scope
from jamjet_dsl.kernel.values import EvalError, from_public
from jamjet_dsl.render import readable
from jamjet_dsl.verify.abstract import abstracted
from jamjet_dsl.verify.values import Oracle, holds_unknown, is_unknown, term_of

_CHANGING = frozenset({"now", "spent", "budget", "undo"})
"""What a run knows of itself that is not followed: nothing is known of it, each time it is asked for."""
_FAILING = frozenset({"index", "/", "%"})
_FAILING_CALLS = frozenset(
    {"bool", "charAt", "decimal", "divide", "double", "duration", "float", "int", "matches", "max", "min", "money"}
    | {"range", "substring", "timestamp", "uint"}
)
MOST_ITEMS = 2
"""Items of a list that is gone through. Items do not see each other: what one of many can do, and what two of them can
do to each other, one of two can do, unless calls are counted."""


_Param: TypeAlias = tuple[str, d.Type, Quick, bool]


class Impossible(Exception):
    """What was chosen cannot be: the checks have proved that one of the conditions holds."""


class _Plan(Plan):
    """One agent, whose policy is evaluated by the program."""

    def __init__(self, defn: d.Definition, agent: d.Agent, program: AbstractProgram) -> None:
        super().__init__(defn, agent)
        self._program = program

    def closure(self, expr: ExprJson) -> Evaluator:
        return self._program.closure(expr)


class AbstractProgram(Program):
    """The abstraction of a definition, ready to be explored. `oracle` is asked what nobody knows."""

    def __init__(self, definition: d.Definition, exact: bool = False) -> None:
        self.source = definition
        self.exact = exact
        super().__init__(abstracted(definition, None if exact else self._is_used_up))
        self.main = _Plan(self.defn, self.defn.agent, self)
        self.plans = {name: _Plan(self.defn, a, self) for name, a in self.defn.agents.items() if name != self.defn.main}
        self.oracle = Oracle()
        self.counts_calls = any(
            rule.kind == "limit" for agent in self.defn.agents.values() for rule in agent.rules or ()
        )
        """Whether a rule of the policy counts how many calls there were."""
        self.cut: set[str] = set()
        """Lists that may be longer than is explored, as they are written."""
        self.has_floats = '"float"' in definition.model_dump_json()
        """Then a comparison that does not hold says nothing of its contrary: there may be NaN."""
        self._conditions: set[int] = set()
        self._last: set[int] = set()
        self._lists: dict[int, tuple[int, int]] = {}
        self._maps: dict[int, str] = {}
        self._times: set[int] = set()
        self._ranged: dict[int, d.Type] = {}
        self._ranging: dict[str, Callee] = {}
        self._original = Program.of(definition)
        self.chats = {
            var.name
            for agent in definition.agents.values()
            for var in agent.vars
            if isinstance(var.type, d.BuiltinType) and var.type.kind == "conversation"
        }
        """Conversations: what was said is not followed."""
        rules = [rule for agent in definition.agents.values() for rule in agent.rules or ()]
        self._facts = {rule.name for rule in rules if rule.kind == "fact"}
        plans = (self.main, *self.plans.values())
        asked = (node for plan in plans for expr in plan.expressions() for node in nodes_of(expr))
        self.counted = {str(n[1] if n[0] == "calls" else n[2]) for n in asked if n[0] in ("calls", "history") and exact}
        """Tools whose calls an expression counts."""
        self.noticed = self.remembered | {name for name, tool in self.defn.tools.items() if tool.key is not None}
        """Tools of which it is of matter whether they were called: a rule asks, or a key was given away."""
        for agent in self.defn.agents.values():
            self._note(agent, definition.agents[agent.name])

    def _note(self, agent: d.Agent, original: d.Agent) -> None:
        """Which expressions are conditions, lists, times, and the arguments of a call as a whole."""
        self._conditions.update(id(rule.when) for rule in agent.rules or () if rule.when is not None)
        types = {item.name: item.type for item in original.inputs} | {var.name: var.type for var in original.vars}
        ranged = {name: type_ for name, type_ in types.items() if self._original.bounded(type_)}
        for region in (agent.body, agent.finally_):
            for state in _states(region):
                for item in (*state.sets, *(item for edge in state.edges for item in edge.sets)):
                    if item.path[0] in ranged:
                        self._ranged[id(item.value)] = ranged[item.path[0]]
                guards = [edge.guard for edge in state.edges if edge.guard is not None]
                self._conditions.update(map(id, guards))
                if guards and not any(edge.trigger in ("always", "otherwise") for edge in state.edges):
                    # The checks have proved that one of them holds.
                    self._last.add(id(guards[-1]))
                match state.action:
                    case d.Each(source=source):
                        self._lists[id(source)] = _length(source, types)
                    case d.Wait(until=until) if until is not None:
                        self._times.add(id(until))
                    case d.Call(args_map=args, tool=tool) if args is not None:
                        self._maps[id(args)] = tool

    def _is_used_up(self) -> bool:
        return self.oracle.choose(2, "the limit of an edge is used up") == 1

    # ---- evaluation

    def closure(self, expr: ExprJson) -> Evaluator:
        known = self._closures.get(id(expr))
        if known is None:
            known = self._closures[id(expr)] = self._made(expr)
        return known

    def _made(self, expr: ExprJson) -> Callable[[Any], Any]:
        if id(expr) in self._conditions:
            fails, last = _may_fail(expr, self.defn.fns), id(expr) in self._last
            return lambda scope: self._condition(expr, scope, fails, last)
        if id(expr) in self._lists:
            return lambda scope: self._list(expr, scope)
        if id(expr) in self._times:
            return lambda scope: Timestamp.of_ms(0)
        if id(expr) in self._maps:
            names = [param.name for param in self.defn.tools[self._maps[id(expr)]].params]
            return lambda scope: {name: self.oracle.fresh() for name in names}
        fails = _may_fail(expr, self.defn.fns)
        type_ = self._ranged.get(id(expr))
        if type_ is not None:
            return lambda scope: self._within(self._value(expr, scope, fails), type_)
        return lambda scope: self._value(expr, scope, fails)

    def _condition(self, expr: ExprJson, scope: Scope, fails: bool, last: bool) -> bool:
        if fails and self._fails(expr, scope):
            raise EvalError("unknown", f"`{readable.expression(expr)}` has no value")
        asked = len(self.oracle.choices)
        answer = self.truth(expr, scope)
        if last and not answer and len(self.oracle.choices) > asked:
            raise Impossible
        return answer

    def _value(self, expr: ExprJson, scope: Scope, fails: bool) -> Any:
        if fails and self._fails(expr, scope):
            raise EvalError("unknown", f"`{readable.expression(expr)}` has no value")
        return self.value(expr, scope)

    def _fails(self, expr: ExprJson, scope: Scope) -> bool:
        """Whether an expression that may fail does, which is chosen where it depends on something unknown."""
        return self._depends(expr, scope) and self.oracle.choose(2, f"`{readable.expression(expr)}` fails") == 1

    def _within(self, value: Any, type_: d.Type) -> Any:
        """A value for a variable with a range, which an unknown one may leave."""
        if not holds_unknown(value):
            problems: list[str] = []
            from_public(value, type_, self.source, "", problems)
            if problems:
                raise EvalError("bad_argument", problems[0])
        elif self.oracle.choose(2, "a value is out of range") == 1:
            raise EvalError("bad_argument", "it is out of range")
        return value

    @contextmanager
    def small_children(self, steps: int) -> Iterator[None]:
        """Agents that are run meanwhile have so many steps."""
        known = {name: plan.agent for name, plan in self.plans.items()}
        for plan in self.plans.values():
            budget = plan.agent.budget
            if budget is not None and budget.limits.steps is not None:
                limits = budget.limits.model_copy(update={"steps": steps})
                plan.agent = plan.agent.model_copy(update={"budget": budget.model_copy(update={"limits": limits})})
        try:
            yield
        finally:
            for name, plan in self.plans.items():
                plan.agent = known[name]

    def callee(self, tool: str) -> Callee:
        known = self._ranging.get(tool)
        if known is None:
            known, declared = super().callee(tool), self.source.tools[tool].params
            params = tuple(map(self._parameter, known.params, declared))
            known = self._ranging[tool] = known._replace(params=params)
        return known

    def _parameter(self, known: _Param, declared: d.FieldDef) -> _Param:
        """A parameter. What is unknown may leave a range."""
        if not self._original.bounded(declared.type):
            return known
        read = reader_of(declared.type, self.source)

        def fits(value: Any) -> Any:
            if not holds_unknown(value):
                return read(value)
            return MISS if self.oracle.choose(2, f"`{declared.name}` is out of range") else value

        return known[0], declared.type, fits, known[3]

    def _list(self, expr: ExprJson, scope: Scope) -> list[Any]:
        """A list to be gone through: of unknown length up to `MOST_ITEMS`."""
        value = self.value(expr, scope)
        if isinstance(value, list) and len(value) <= MOST_ITEMS:
            return value
        low, high = self._lists[id(expr)]
        if high > MOST_ITEMS:
            self.cut.add(readable.expression(expr))
        most = min(high, MOST_ITEMS)
        size = min(low, most) + self.oracle.choose(most - min(low, most) + 1, f"items of `{readable.expression(expr)}`")
        return [self.oracle.fresh() for _ in range(size)]

    # ---- conditions

    def truth(self, expr: ExprJson, scope: Scope) -> bool:
        """Whether a condition holds. Raises EvalError."""
        match expr:
            case ["&&" | "||" as op, left, right]:
                decides = op == "||"
                try:
                    first = self.truth(left, scope)
                except EvalError:
                    # An error on one side is of no matter where the other decides.
                    if self.truth(right, scope) is decides:
                        return decides
                    raise
                return decides if first is decides else self.truth(right, scope)
            case ["!", inner]:
                return not self.truth(inner, scope)
            case ["?:", test, one, other]:
                return self.truth(one if self.truth(test, scope) else other, scope)
            case ["free"]:
                return self.oracle.choose(2, "a rule of the policy holds") == 1
        value = self.value(expr, scope)
        if is_unknown(value):
            return self.oracle.holds(term_of(value), readable.expression(expr))
        return bool(value)

    # ---- values

    def value(self, expr: ExprJson, scope: Scope) -> Any:
        """What an expression gives: the value, as far as it is known. Raises EvalError."""
        if expr[0] == "changed":
            return self.oracle.fresh()
        if not self._depends(expr, scope):
            return compile_expr(expr, self.defn.fns)(scope)
        match expr:
            case ["var", name]:
                return self._variable(name, scope)
            case ["select", inner, name]:
                base = self.value(inner, scope)
                if isinstance(base, dict):
                    if name not in base:
                        raise EvalError("no_such_field", f"there is no `{name}` in it")
                    return base[name]
            case ["has", ["select", inner, name]]:
                base = self.value(inner, scope)
                if isinstance(base, dict):
                    return self._is_there(base.get(name))
            case ["has", ["var", name]] if name in scope and not is_unknown(scope[name]):
                return scope[name] is not None
            case ["?:", test, one, other] if not self._depends(test, scope):
                return self.value(one if self.value(test, scope) else other, scope)
            case ["record", _, fields]:
                return {name: self.value(item, scope) for name, item in fields.items()}
            case ["list", *items]:
                return [self.value(item, scope) for item in items]
        return self.oracle.unknown(self._term(expr, scope))

    def _is_there(self, value: Any) -> Any:
        return self.oracle.unknown(["has", term_of(value)]) if is_unknown(value) else value is not None

    def _variable(self, name: str, scope: Scope) -> Any:
        if name in _CHANGING or name in self.chats or name in self._facts:
            return self.oracle.fresh()
        return scope[name]

    def _depends(self, expr: ExprJson, scope: Scope) -> bool:
        """Whether an expression depends on something unknown."""
        for node in nodes_of(expr):
            if node[0] in ("free", "changed") or (node[0] == "history" and node[3]):
                return True
            if node[0] in ("calls", "history") and not self.exact:
                return True
            if node[0] == "var" and len(node) == 2:
                name = node[1]
                if name in _CHANGING or name in self.chats or name in self._facts:
                    return True
                try:
                    if holds_unknown(scope[name]):
                        return True
                except (KeyError, EvalError):
                    continue
        return False

    def _term(self, expr: Any, scope: Scope) -> Any:
        """The expression with what is known put in, over symbols."""
        match expr:
            case ["var", name]:
                try:
                    return term_of(self._variable(name, scope))
                except (KeyError, EvalError):
                    return expr
            case ["history" | "calls", *_]:
                return term_of(self.oracle.fresh())
            case [str() as op, *rest] if op not in MACROS:
                return [op, *(self._term(part, scope) for part in rest)]
            case list():
                return [self._term(part, scope) for part in expr]
            case dict():
                return {name: self._term(part, scope) for name, part in expr.items()}
        return expr


def _states(region: d.Region | None) -> Iterator[d.State]:
    """The states of a region, and of the branches and items in it."""
    for state in region.states if region is not None else ():
        if isinstance(state, d.State):
            yield state
            if isinstance(state.action, d.Parallel):
                for branch in state.action.branches:
                    yield from _states(branch.body)
            elif isinstance(state.action, d.Each):
                yield from _states(state.action.body)


def _length(source: ExprJson, types: dict[str, d.Type]) -> tuple[int, int]:
    """The lengths that a list may have, as its declared type says."""
    type_ = types.get(source[1]) if source[0] == "var" else None
    if not isinstance(type_, d.ListType):
        return 0, MOST_ITEMS + 1
    return type_.low or 0, MOST_ITEMS + 1 if type_.high is None else type_.high


def nodes_of(expr: Any) -> Iterator[list[Any]]:
    """All operators in an expression, or in the expressions of dumped data."""
    todo = [expr]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            todo.extend(node.values())
        elif isinstance(node, list | tuple):
            if isinstance(node, list) and node and isinstance(node[0], str):
                yield node
            todo.extend(part for part in node if isinstance(part, list | dict | tuple))


def _may_fail(expr: ExprJson, fns: Mapping[str, d.Fn]) -> bool:
    """Whether an expression that has its types may have no value. Arithmetic beyond 64 bits is left out."""
    for node in nodes_of(expr):
        if node[0] in _FAILING or (node[0] == "call" and node[1] in _FAILING_CALLS):
            return True
        if node[0] == "fn" and _may_fail(fns[node[1]].body, fns):
            return True
    return False
