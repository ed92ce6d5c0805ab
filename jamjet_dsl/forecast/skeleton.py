"""A definition without its data: what is left is what decides the way of a run.

States, edges, limits, retries, timeouts, effects, keys, budgets and prices stay. Arguments, results, variables and
outputs go; a guard becomes a choice by odds. The policy is taken to allow every call that the program makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.program import PLAIN

NULL: d.ExprJson = ["null"]
_ANY = d.Scalar(kind="any")
_ALLOW = (d.Rule(kind="allow", tools=d.ToolSetDef(classes=("any",)), because="the forecast takes it as allowed"),)
DIMENSIONS = ("steps", "tokens", "cost", "time", "active")
_LIMITS = {"tokens": "tokens", "cost": "cost", "time": "time_ms", "active": "active_ms", "steps": "steps"}


@dataclass(frozen=True, slots=True)
class Place:
    """A state by the name that people use for it: `pay`, `gather/web` in a branch, `child.look` in another agent."""

    name: str
    agent: str
    region: str
    state: d.State

    @property
    def exits(self) -> tuple[d.Edge, ...]:
        """The edges that guards choose between: what is taken after the action went well."""
        return tuple(e for e in self.state.edges if e.trigger in ("when", "otherwise", "always"))


def place_name(main: str, agent: str, region: str, state: str) -> str:
    """The name of a state. The one state of a plain body is called like the body."""
    inside = f"{region}/{state}" if region else state
    inside = inside.removesuffix(f"/{PLAIN}")
    return inside if agent in ("", main) else f"{agent}.{inside}"


def places(defn: d.Definition) -> dict[str, Place]:
    """Every state of every agent by its name; finals are none."""
    found: dict[str, Place] = {}
    for agent in defn.agents.values():
        regions = [("", agent.body)] + ([("finally", agent.finally_)] if agent.finally_ is not None else [])
        for key, region in regions:
            for inner, state in _states(key, region):
                name = place_name(defn.main, agent.name, inner, state.name)
                found[name] = Place(name, agent.name, inner, state)
    return found


def _states(key: str, region: d.Region) -> Iterator[tuple[str, d.State]]:
    for state in region.states:
        if not isinstance(state, d.State):
            continue
        yield key, state
        at = f"{key}/{state.name}" if key else state.name
        if isinstance(state.action, d.Parallel):
            for branch in state.action.branches:
                yield from _states(f"{at}/{branch.name}", branch.body)
        elif isinstance(state.action, d.Each):
            yield from _states(f"{at}/each", state.action.body)


@dataclass(frozen=True, slots=True)
class Changes:
    """How a skeleton differs from the program: without retries; without limits of these dimensions; with other limits
    of steps."""

    retries: bool = True
    unlimited: frozenset[str] = frozenset()
    more_steps: Callable[[int], int] | None = None


@dataclass(slots=True)
class Skeleton:
    """The definition without data. `guards` are the expressions (by identity) that stand for a choice: the place and
    the edge that each is the guard of."""

    definition: d.Definition
    guards: dict[int, tuple[str, str]] = field(default_factory=dict)
    kept: list[d.ExprJson] = field(default_factory=list)
    """The guards themselves: while they are kept, their identities are theirs alone."""


def skeleton(
    defn: d.Definition,
    items: Mapping[str, int],
    prompts: Mapping[str, int],
    pauses: Mapping[str, int],
    changes: Changes | None = None,
) -> Skeleton:
    """The skeleton of a definition. `items` says how many items an `each` has, `prompts` how many tokens a prompt is
    taken to have that declares no `max prompt`, `pauses` how long a `wait until` takes (milliseconds), all by place.

    Raises JamError JAMR006 naming an `each` of which the length is not known.
    """
    return _Maker(defn, items, prompts, pauses, changes or Changes()).made()


class _Maker:
    def __init__(
        self,
        defn: d.Definition,
        items: Mapping[str, int],
        prompts: Mapping[str, int],
        pauses: Mapping[str, int],
        changes: Changes,
    ) -> None:
        self.defn, self.items, self.prompts, self.pauses, self.changes = defn, items, prompts, pauses, changes
        self.found = Skeleton(defn)
        self.confirming = {tool.confirm.tool for tool in defn.tools.values() if tool.confirm is not None}
        self.undoes = any(isinstance(place.state.action, d.UndoAll) for place in places(defn).values())
        self.asks = {
            (p.agent, p.state.name): p.state.action for p in places(defn).values() if isinstance(p.state.action, d.Ask)
        }
        self.agent = ""

    def made(self) -> Skeleton:
        agents = {name: self._agent(agent) for name, agent in self.defn.agents.items()}
        tools = {name: self._tool(name, tool) for name, tool in self.defn.tools.items()}
        self.found.definition = self.defn.model_copy(
            update={"agents": agents, "tools": tools, "records": {}, "enums": {}, "fns": {}}
        )
        return self.found

    def _tool(self, name: str, tool: d.Tool) -> d.Tool:
        # A tool that confirms says yes or no: there is no result to tell, but whether there is one.
        result = d.Scalar(kind="bool") if name in self.confirming else None
        return tool.model_copy(
            update={
                "params": (),
                "result": result,
                "untrusted": False,
                "via": None,
                "key": None if tool.key is None else ["string", name],
                "confirm": None if tool.confirm is None else d.ToolCallDef(tool=tool.confirm.tool, args={}),
                "undo": d.ToolCallDef(tool=tool.undo.tool, args={}) if tool.undo is not None and self.undoes else None,
                "retry": self._retries(tool.retry),
                "limits": (),
                "doc": None,
            }
        )

    def _retries(self, clauses: tuple[d.Retry, ...]) -> tuple[d.Retry, ...]:
        return clauses if self.changes.retries else ()

    def _agent(self, agent: d.Agent) -> d.Agent:
        self.agent = agent.name
        moves = tuple(
            d.VarDef(name=var.name, type=d.BuiltinType(kind="Move"))
            for var in agent.vars
            if isinstance(var.type, d.BuiltinType) and var.type.kind == "Move"
        )
        return agent.model_copy(
            update={
                "inputs": (),
                "outputs": (),
                "vars": moves,
                "events": {name: d.Message(fields=()) for name in agent.events},
                "emits": {name: d.Message(fields=()) for name in agent.emits},
                "rules": _ALLOW,
                "budget": self._budget(agent.budget),
                "finally_": None if agent.finally_ is None else self._region("finally", agent.finally_),
                "migrations": (),
                "body": self._region("", agent.body),
            }
        )

    def _budget(self, budget: d.Budget | None) -> d.Budget | None:
        if budget is None:
            return None
        gone = {_LIMITS[name]: None for name in self.changes.unlimited}
        limits = budget.limits.model_copy(update=gone)
        if self.changes.more_steps is not None and limits.steps is not None:
            limits = limits.model_copy(update={"steps": self.changes.more_steps(limits.steps)})
        return budget.model_copy(update={"limits": limits, "warn_percent": None})

    def _region(self, key: str, region: d.Region) -> d.Region:
        states: tuple[d.State | d.Final, ...] = tuple(
            state.model_copy(update={"outputs": {}}) if isinstance(state, d.Final) else self._state(key, state)
            for state in region.states
        )
        return region.model_copy(update={"states": states})

    def _state(self, key: str, state: d.State) -> d.State:
        name = place_name(self.defn.main, self.agent, key, state.name)
        return state.model_copy(
            update={
                "action": None if state.action is None else self._action(key, name, state, state.action),
                "sets": (),
                "edges": tuple(self._edge(name, edge) for edge in state.edges),
                "yields": None if state.yields is None else NULL,
            }
        )

    def _edge(self, place: str, edge: d.Edge) -> d.Edge:
        guard = edge.guard
        if guard is not None:
            guard = ["bool", True]
            self.found.guards[id(guard)] = (place, edge.id)
            self.found.kept.append(guard)
        yields = None if edge.yields is None else NULL
        return edge.model_copy(update={"guard": guard, "bind": None, "sets": (), "yields": yields})

    def _action(self, key: str, place: str, state: d.State, action: d.Action) -> d.Action:
        plain: dict[str, Any] = {"bind": None}
        if isinstance(action, d.Call | d.CallProposed | d.CallApproved | d.Think | d.RunAgent):
            plain["retry"] = self._retries(action.retry)
        match action:
            case d.Call():
                return action.model_copy(update={**plain, "args": {}, "args_map": None})
            case d.CallProposed():
                return action.model_copy(update={**plain, "chat": None})
            case d.CallApproved():
                return self._approved(place, action)
            case d.Think():
                # One that declares no `max prompt` reserves what its prompt has.
                size = action.max_prompt if action.max_prompt is not None else self.prompts.get(place, 0)
                kept = action.bind if action.tools else None
                empty = {"prompt": ["text"], "given": (), "chat": None, "temperature": None, "max_prompt": size}
                result = action.result if action.tools else _ANY
                return action.model_copy(update={**plain, **empty, "bind": kept, "result": result})
            case d.Ask():
                empty = {"text": ["text"], "show": (), "form": (), "call": None, "proposed": None, "remind_ms": None}
                return action.model_copy(update={**plain, **empty})
            case d.RunAgent():
                return action.model_copy(update={**plain, "args": {}, "budget": self._budget(action.budget)})
            case d.Each():
                source = ["list", *[NULL] * self._length(place, state, action)]
                body = self._region(f"{key}/{state.name}/each" if key else f"{state.name}/each", action.body)
                return action.model_copy(update={**plain, "source": source, "flat": False, "body": body})
            case d.Wait():
                if action.until is not None:
                    return action.model_copy(update={**plain, "until": None, "duration_ms": self.pauses.get(place, 0)})
                return action.model_copy(update=plain)
            case d.Emit():
                return action.model_copy(update={"args": {}})
            case d.UndoAll():
                return action
            case d.Parallel():
                at = f"{key}/{state.name}" if key else state.name
                branches = tuple(
                    b.model_copy(update={"bind": None, "default": None, "body": self._region(f"{at}/{b.name}", b.body)})
                    for b in action.branches
                )
                return action.model_copy(update={"branches": branches})

    def _approved(self, place: str, action: d.CallApproved) -> d.Action:
        """The call that an approval was given for: one tool, or what a model proposed."""
        kept: dict[str, Any] = {"timeout_ms": action.timeout_ms, "retry": self._retries(action.retry)}
        if action.tool is not None:
            return d.Call(tool=action.tool, **kept)
        asks = [self.asks[self.agent, name] for name in action.asks if (self.agent, name) in self.asks]
        tools = {ask.call.tool for ask in asks if ask.call is not None}
        moves = {(ask.proposed, ask.tools) for ask in asks if ask.proposed is not None}
        if len(tools) == 1 and not moves:
            return d.Call(tool=tools.pop(), **kept)
        if len(moves) == 1 and not tools:
            move, offered = moves.pop()
            assert move is not None
            return d.CallProposed(move=move, tools=offered, **kept)
        raise JamError(
            "JAMR006",
            f"`{place}` calls what one of several questions approved: its odds cannot be told",
            "name the tool: `call approved TOOL`",
        )

    def _length(self, place: str, state: d.State, action: d.Each) -> int:
        if place in self.items:
            return self.items[place]
        known = length_of(action.source)
        if known is None:
            raise JamError(
                "JAMR006",
                f"how many items `{place}` has is not known",
                f"say it with --items {place}=N, or under [forecast] in jam.toml: items = {{ {place} = N }}",
            )
        return known


def length_of(source: d.ExprJson) -> int | None:
    """The length of a list that is written out, or of a `range` of a literal; None for any other."""
    if source[0] == "list":
        return len(source) - 1
    if source[:2] == ["call", "range"] and len(source) == 3 and source[2][0] == "int":
        return max(int(source[2][1]), 0)
    return None


def live_moves(defn: d.Definition) -> dict[str, frozenset[str]]:
    """By state of the main agent's body, the proposed calls that may still be made from there on. Any other that a run
    has kept decides nothing any more."""
    states = [state for state in defn.agent.body.states if isinstance(state, d.State)]
    handlers = {handler.target for handler in defn.agent.handlers}
    if defn.agent.budget is not None and defn.agent.budget.exceeded is not None:
        handlers.add(defn.agent.budget.exceeded)
    used = {state.name: frozenset(_moves(state)) for state in states}
    set_ = {s.name: {s.action.bind} if isinstance(s.action, d.Think) and s.action.tools else set() for s in states}
    live = dict(used)
    changed = True
    while changed:
        changed = False
        for state in states:
            targets = {edge.target for edge in state.edges} | {edge.limit_to for edge in state.edges} | handlers
            after = frozenset[str]().union(*(live.get(target or "", frozenset()) for target in targets))
            found = used[state.name] | (after - set_[state.name])
            changed = changed or found != live[state.name]
            live[state.name] = found
    return live


def _moves(state: d.State) -> Iterator[str]:
    for _, inner in _states("", d.Region(start=state.name, states=(state,))):
        if isinstance(inner.action, d.CallProposed):
            yield inner.action.move
