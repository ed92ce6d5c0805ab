"""`Program`: a definition, looked at once. States by name, closures by expression, what needs an intent and why.

Everything here follows from the definition alone, so it can be shared by all runs of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.budget import Caps, caps_of, tool_reserve
from jamjet_dsl.kernel.expr import Evaluator, compile_expr
from jamjet_dsl.kernel.model import Frame, Reserve
from jamjet_dsl.kernel.quick import Quick, reader_of
from jamjet_dsl.kernel.scope import Scope

WRITES = frozenset({"writes", "irreversible"})
UNDO = "undo"
"""The name of the one state of a region that undoes a call."""
FINALLY = "finally"
PLAIN = "do"
"""The name of the state of a body that is written as plain clauses."""


_MOVING = frozenset({"spent", "budget", "undo", "now"})
"""What a run knows of itself that changes while a frame does not."""


class Plan:
    """One agent of a program: its regions, handlers and budget, and what its rules ask about past calls."""

    def __init__(self, defn: d.Definition, agent: d.Agent) -> None:
        self.defn = defn
        self.agent = agent
        self.caps: Caps = caps_of(agent.budget)
        self.handlers: dict[str, list[d.HandlerDef]] = {}
        for handler in agent.handlers:
            self.handlers.setdefault(handler.trigger, []).append(handler)
        self.dockets: dict[str, Any] = {}
        """By tool, what the policy has to say of it: see `rules.looked_up`."""
        self._closures: dict[int, Evaluator] = {}
        self.regions: dict[str, dict[str, d.State | d.Final]] = {}
        self.acting: dict[str, frozenset[str]] = {}
        """By region, the states that have an action: entering one counts as a step."""
        self.starts: dict[str, str] = {}
        self._add("", agent.body)
        if agent.finally_ is not None:
            self._add(FINALLY, agent.finally_)
        for name, tool in defn.tools.items():
            if tool.effect in WRITES:
                self._add(
                    f"{UNDO} {name}", d.Region(start=UNDO, states=(d.State(name=UNDO, action=d.Call(tool=name)),))
                )

    def _add(self, key: str, region: d.Region) -> None:
        self.regions[key] = {state.name: state for state in region.states}
        self.acting[key] = frozenset(s.name for s in region.states if isinstance(s, d.State) and s.action is not None)
        self.starts[key] = region.start
        for state in region.states:
            action = state.action if isinstance(state, d.State) else None
            place = f"{key}/{state.name}" if key else state.name
            if isinstance(action, d.Parallel):
                for branch in action.branches:
                    self._add(f"{place}/{branch.name}", branch.body)
            elif isinstance(action, d.Each):
                self._add(f"{place}/each", action.body)

    def closure(self, expr: d.ExprJson) -> Evaluator:
        """What evaluates an expression of the agent's policy, compiled on first use."""
        closure = self._closures.get(id(expr))
        if closure is None:
            closure = self._closures[id(expr)] = compile_expr(expr, self.defn.fns)
        return closure

    def budgets(self) -> Iterator[d.Budget]:
        """The agent's budget, and those that it gives to agents it runs."""
        if self.agent.budget is not None:
            yield self.agent.budget
        for states in self.regions.values():
            for state in states.values():
                action = state.action if isinstance(state, d.State) else None
                if isinstance(action, d.RunAgent) and action.budget is not None:
                    yield action.budget

    @cached_property
    def types(self) -> dict[str, d.Type]:
        """The types of the agent's variables."""
        return {var.name: var.type for var in self.agent.vars}

    @cached_property
    def tracked(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """By tool: the sets of arguments (sorted names) under which the history of its calls is counted."""
        found: dict[str, set[tuple[str, ...]]] = {}
        for node in _nodes(self.expressions()):
            if node[0] == "history":
                found.setdefault(node[2], set()).add(tuple(sorted(node[3])))
        for rule in self.agent.rules or ():
            if rule.kind == "require_read" and rule.call is not None:
                found.setdefault(rule.call.tool, set()).add(tuple(sorted(rule.call.args)))
        return {tool: tuple(sorted(names)) for tool, names in found.items()}

    @cached_property
    def remembered(self) -> frozenset[str]:
        """Tools whose calls the policy or an expression asks about: these leave an intent."""
        names = set(self.tracked)
        names.update(node[1] for node in _nodes(self.expressions()) if node[0] == "calls")
        for rule in self.agent.rules or ():
            for tools in (rule.reads, rule.after, rule.limit.tools if rule.limit else None):
                if tools is not None:
                    names.update(tool for tool in self.defn.tools if matches(self.defn, tools, tool))
        return frozenset(names)

    @cached_property
    def turns(self) -> bool:
        """Whether the policy has a limit per turn."""
        return any(rule.limit is not None and rule.limit.turn for rule in self.agent.rules or ())

    def expressions(self) -> Iterator[d.ExprJson]:
        """Every expression of the agent and of the functions it may call."""
        yield from _expressions_in(self.agent.model_dump(mode="python"))
        for fn in self.defn.fns.values():
            yield fn.body

    @cached_property
    def proposers(self) -> dict[str, str]:
        """By the name a move is bound to: the conversation of the model that proposed it."""
        states = (state for region in self.regions.values() for state in region.values())
        actions = [state.action for state in states if isinstance(state, d.State)]
        return {a.bind: a.chat for a in actions if isinstance(a, d.Think) and a.bind and a.chat and a.tools}


class Callee(NamedTuple):
    """A tool, looked at once. `params` are name, type, quick reader, and whether it may be left out; `reserve` is the
    worst case of one attempt; `journaled`: a call leaves an intent before it starts, since it writes, costs, is limited
    or is asked about by a rule. `result` reads what it gave, if that is its own journal form."""

    tool: d.Tool
    params: tuple[tuple[str, d.Type, Quick, bool], ...]
    reserve: Reserve
    journaled: bool
    result: Quick | None


class Argument(NamedTuple):
    """An argument of a call as it is written: its name, its value, and what that reads."""

    name: str
    value: Evaluator
    reads: frozenset[str]


class Setting(NamedTuple):
    """A `set`, looked at once. `more` evaluates what `set xs = xs + more` adds; `ranged`: its type has a range."""

    name: str
    fields: tuple[str, ...]
    value: Evaluator
    reads: frozenset[str]
    more: Evaluator | None
    ranged: bool


class Exit(NamedTuple):
    """An edge, looked at once: `guard` of a `when`, `option` of an answer; `plain` where nothing is asked."""

    edge: d.Edge
    plain: bool
    guard: Evaluator | None
    option: str | None
    where: str
    sets: tuple[Setting, ...]


class Spot(NamedTuple):
    """A state, looked at once. `exits` are the edges that may be taken after a success, `others` all by trigger."""

    here: d.State | d.Final
    action: d.Action | None
    bind: str | None
    """The name that the action's result is bound to."""
    chat: str | None
    """The conversation that the action tells its outcome: its own, or that of the model which proposed the call that it
    asks about."""
    sets: tuple[Setting, ...]
    exits: tuple[Exit, ...]
    others: dict[str, list[d.Edge]]
    takes: frozenset[str]
    """The events from outside that an edge takes."""
    final: bool
    listens: bool
    """The action waits for an event."""
    acting: frozenset[str]
    """The states of the region that have an action: entering one counts as a step."""


class Program:
    """A definition ready to be decided on. Make one with `Program.of`."""

    def __init__(self, defn: d.Definition) -> None:
        self.defn = defn
        self.agent = defn.agent
        self.main = Plan(defn, defn.agent)
        self.plans = {name: Plan(defn, agent) for name, agent in defn.agents.items() if name != defn.main}
        self._closures: dict[int, Evaluator] = {}
        self._reads: dict[int, frozenset[str]] = {}
        self._spots: dict[str, Spot] = {}
        self._settings: dict[int, tuple[Setting, ...]] = {}
        self._settled: dict[tuple[int, str], bool] = {}
        self._callees: dict[str, Callee] = {}
        self._arguments: dict[int, tuple[Argument, ...]] = {}
        budgets = [budget for plan in (self.main, *self.plans.values()) for budget in plan.budgets()]
        self.warns = any(budget.warn_percent is not None for budget in budgets)
        self.meters_activity = any(budget.limits.active_ms is not None for budget in budgets)

    @cached_property
    def has_secrets(self) -> bool:
        """Whether any type of the program is secret."""
        return '"kind":"secret"' in self.defn.model_dump_json()

    @cached_property
    def redacts(self) -> bool:
        """Whether there are values that the journal must not hold: secret ones, or ones that a policy redacts."""
        rules = (rule for agent in self.defn.agents.values() for rule in agent.rules or ())
        return any(rule.kind == "redact" for rule in rules) or self.has_secrets

    @classmethod
    def of(cls, defn: d.Definition) -> Program:
        """The program of a definition. The most recent ones are kept, by identity."""
        for program in _RECENT:
            if program.defn is defn:
                return program
        program = cls(defn)
        _RECENT.appendleft(program)
        return program

    def plan(self, frame: Frame) -> Plan:
        """The agent that a frame runs."""
        return self.plans[frame.agent] if frame.agent else self.main

    def spot(self, frame: Frame) -> Spot:
        """The state that a frame is in, ready for use."""
        if frame.region or frame.agent:
            key = f"{frame.agent} {frame.region} {frame.state}"
        else:
            key = frame.state
        spot = self._spots.get(key)
        if spot is None:
            spot = self._spots[key] = self._look_at(self.plan(frame), frame)
        return spot

    def _look_at(self, plan: Plan, frame: Frame) -> Spot:
        here, acting = plan.regions[frame.region][frame.state], plan.acting[frame.region]
        if isinstance(here, d.Final):
            return Spot(here, None, None, None, (), (), {}, frozenset(), final=True, listens=False, acting=acting)
        others: dict[str, list[d.Edge]] = {}
        for edge in here.edges:
            others.setdefault(edge.trigger, []).append(edge)
        exits = tuple(
            Exit(
                edge,
                edge.trigger in ("always", "otherwise", "join"),
                None if edge.guard is None else self.closure(edge.guard),
                edge.option,
                f"the guard `{edge.id}` of `{here.name}`",
                self._sets(plan, edge.sets),
            )
            for edge in here.edges
            if edge.trigger in ("always", "otherwise", "join", "when", "option")
        )
        takes = frozenset(edge.event for edge in others.get("event", ()) if edge.event is not None)
        listens = isinstance(here.action, d.Wait) and here.action.event is not None
        sets, bind, chat = self._sets(plan, here.sets), getattr(here.action, "bind", None), _chat_of(plan, here.action)
        return Spot(here, here.action, bind, chat, sets, exits, others, takes, False, listens, acting)

    def _sets(self, plan: Plan, sets: Iterable[d.SetDef]) -> tuple[Setting, ...]:
        found = []
        for item in sets:
            name, *fields = item.path
            type_ = plan.types.get(name)
            more = None
            if not fields and isinstance(type_, d.ListType) and item.value[0] == "+" and item.value[1] == ["var", name]:
                more = self.closure(item.value[2])
            ranged = type_ is not None and self.bounded(type_)
            value = self.closure(item.value)
            found.append(Setting(name, tuple(fields), value, self.reads(item.value), more, ranged))
        return tuple(found)

    def sets_of(self, plan: Plan, edge: d.Edge) -> tuple[Setting, ...]:
        """The block of an edge, ready for use."""
        known = self._settings.get(id(edge))
        if known is None:
            known = self._settings[id(edge)] = self._sets(plan, edge.sets)
        return known

    def state(self, frame: Frame) -> d.State | d.Final:
        """The state that a frame is in."""
        return self.spot(frame).here

    def action(self, frame: Frame) -> d.Action | None:
        """The action of the state that a frame is in; None for a state without one and for a final."""
        return self.spot(frame).action

    def label(self, frame: Frame) -> str:
        """What people call the state that a frame is in. The one state of a plain body has no name of its own: it is
        called like its branch, or like the state around it."""
        if frame.state != PLAIN or frame.parent is None:
            return frame.state
        parts = frame.region.split("/")
        return next((part for part in reversed(parts) if part not in (PLAIN, "each")), frame.state)

    def evaluate(self, expr: d.ExprJson, scope: Scope) -> Any:
        """The value of an expression. Raises EvalError."""
        return self.closure(expr)(scope)

    def closure(self, expr: d.ExprJson) -> Evaluator:
        """What evaluates an expression. It is compiled on first use and kept: expressions belong to the definition,
        which lives as long as the program, so their identity is a safe key."""
        closure = self._closures.get(id(expr))
        if closure is None:
            closure = self._closures[id(expr)] = compile_expr(expr, self.defn.fns)
        return closure

    def reads(self, expr: d.ExprJson) -> frozenset[str]:
        """The variables, inputs and roots that an expression reads."""
        known = self._reads.get(id(expr))
        if known is None:
            known = self._reads[id(expr)] = reads_of(expr)
        return known

    @cached_property
    def digest(self) -> str:
        """The definition's digest."""
        return self.defn.digest

    def matches(self, tools: d.ToolSetDef | None, tool: str) -> bool:
        """Whether a set of tools holds this one. None holds all."""
        return matches(self.defn, tools, tool)

    @cached_property
    def remembered(self) -> frozenset[str]:
        """Tools whose calls a policy or an expression of any agent asks about: these leave an intent."""
        return self.main.remembered.union(*(plan.remembered for plan in self.plans.values()))

    @cached_property
    def turns(self) -> bool:
        """Whether the policy of any agent has a limit per turn."""
        return self.main.turns or any(plan.turns for plan in self.plans.values())

    def callee(self, tool: str) -> Callee:
        """A declared tool, ready to be called."""
        known = self._callees.get(tool)
        if known is None:
            declared = self.defn.tools[tool]
            params = tuple(
                (p.name, p.type, reader_of(p.type, self.defn), p.type.kind == "optional") for p in declared.params
            )
            plain = declared.effect == "reads" and declared.cost is None and not declared.limits
            journaled = not plain or tool in self.remembered
            result = None if declared.result is None else reader_of(declared.result, self.defn, plain=True)
            known = self._callees[tool] = Callee(declared, params, tool_reserve(declared), journaled, result)
        return known

    def arguments(self, exprs: Mapping[str, d.ExprJson]) -> tuple[Argument, ...]:
        """The arguments that the definition writes for a call, ready for use."""
        known = self._arguments.get(id(exprs))
        if known is None:
            made = (Argument(name, self.closure(expr), self.reads(expr)) for name, expr in exprs.items())
            known = self._arguments[id(exprs)] = tuple(made)
        return known

    def steps(self, frame: Frame, name: str) -> bool:
        """Whether entering that state of the frame's region counts as a step: it has an action."""
        return name in self.plan(frame).acting[frame.region]

    def is_settled(self, action: d.Action, tool: str) -> bool:
        """Whether a call by this action stays the same while its frame does: nothing that it is made of, and no
        rule about the tool, looks at what the rest of the run does."""
        key = (id(action), tool)
        known = self._settled.get(key)
        if known is None:
            exprs = [*action.args.values(), action.args_map] if isinstance(action, d.Call) else None
            known = exprs is not None and not any(_looks_around(e) for e in exprs if e is not None)
            for plan in (self.main, *self.plans.values()):
                rules = [r for r in plan.agent.rules or () if r.tools is None or matches(self.defn, r.tools, tool)]
                known = known and all(r.kind in ("allow", "forbid", "redact") and r.when is None for r in rules)
            self._settled[key] = known
        return known

    def retries(self, frame: Frame, tool: str | None) -> tuple[d.Retry, ...]:
        """The retry clauses of a state's action, its own before those of the tool it calls."""
        own: tuple[d.Retry, ...] = getattr(self.action(frame), "retry", ())
        declared = self.defn.tools.get(tool) if tool is not None else None
        return own if declared is None else own + declared.retry

    def bounded(self, type_: d.Type) -> bool:
        """Whether a type has a range in it, which only a look at the value can prove."""
        match type_:
            case d.Scalar() | d.MoneyType():
                return type_.low is not None or type_.high is not None
            case d.ListType():
                return type_.low is not None or type_.high is not None or self.bounded(type_.item)
            case d.MapType():
                return self.bounded(type_.value)
            case d.OptionalType() | d.SecretType():
                return self.bounded(type_.item)
            case d.RecordType():
                return any(self.bounded(f.type) for f in self.defn.records[type_.name].fields)
            case d.ObjectType():
                return any(self.bounded(item) for item in type_.fields.values())
            case d.EnumType() | d.BuiltinType():
                return False


_RECENT: deque[Program] = deque(maxlen=32)


def _chat_of(plan: Plan, action: d.Action | None) -> str | None:
    if isinstance(action, d.Ask):
        return plan.proposers.get(action.proposed) if action.proposed is not None else None
    return action.chat if isinstance(action, d.Think | d.CallProposed | d.CallApproved) else None


def _expressions_in(tree: object) -> Iterator[d.ExprJson]:
    """Every list in dumped data: expressions are the only lists that a definition holds."""
    if isinstance(tree, dict):
        for item in tree.values():
            yield from _expressions_in(item)
    elif isinstance(tree, tuple):
        for item in tree:
            yield from _expressions_in(item)
    elif isinstance(tree, list):
        yield tree


def _nodes(expressions: Iterable[d.ExprJson]) -> Iterator[list[Any]]:
    """All operators in these expressions, outermost first."""
    stack: list[Any] = list(expressions)
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            stack.extend(node.values())
        elif isinstance(node, list):
            if node and isinstance(node[0], str):
                yield node
            stack.extend(item for item in node if isinstance(item, (list, dict)))


def _variables(expr: d.ExprJson) -> Iterator[str]:
    for node in _nodes([expr]):
        if node[0] == "var" and len(node) == 2:
            yield node[1]


def _looks_around(expr: d.ExprJson) -> bool:
    """Whether an expression asks about what the rest of the run does meanwhile."""
    return any(node[0] in ("calls", "history") or (node[0] == "var" and node[1] in _MOVING) for node in _nodes([expr]))


def uses_functions(rule: d.Rule) -> bool:
    """Whether an expression of a rule calls a declared `fn`."""
    return any(node[0] == "fn" for node in _nodes(_expressions_in(rule.model_dump(mode="python"))))


def reads_of(expr: d.ExprJson) -> frozenset[str]:
    """The variables, inputs and roots that an expression reads."""
    return frozenset(_variables(expr))


def matches(defn: d.Definition, tools: d.ToolSetDef | None, tool: str) -> bool:
    """Whether a set of tools holds this one. None holds all."""
    if tools is None or tool in tools.names or "any" in tools.classes:
        return True
    known = defn.tools.get(tool)
    return known is not None and known.effect in tools.classes
