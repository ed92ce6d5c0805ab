"""What of a run is not to be read in what is stored: values of `secret` types, and what policies `redact`.

The declared types say where a secret may stand, since a secret never goes where it is not declared (JAM411): in inputs,
variables and outputs, arguments and results of tools, answers, events, what a model or a child agent gives. A value
that an expression makes for an item or a branch has no declared type: it counts as secret if the expression reads
anything that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.model import Frame, RunState
from jamjet_dsl.kernel.program import Plan, Program
from jamjet_dsl.kernel.values import to_journal

Path: TypeAlias = tuple[str, ...]
DIGEST = "(digest)"
"""Stands for the path of a hash of a call's arguments: who guesses a short secret could check the guess against it."""
_LOOSE = d.SecretType(item=d.Scalar(kind="any"))
"""The type of what was computed from a secret."""


class Found(NamedTuple):
    """A value to be kept apart, in the journal form; the path says where it was found first."""

    path: str
    value: Any
    secret: bool


class Sight:
    """Where the secrets of a program stand, and what it redacts. One for each program: `Sight.of`."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._defn = program.defn
        self._records: dict[str, bool] = {}
        plans = {"": program.main, **program.plans}
        self._paths = {agent: redacted_paths(plan.agent) for agent, plan in plans.items()}
        self._names = {agent: self._typed_names(plan) for agent, plan in plans.items()}
        self._payloads = _merged(
            (name, d.ObjectType(fields={f.name: f.type for f in message.fields}))
            for plan in plans.values()
            for name, message in plan.agent.events.items()
        )
        self._forms = [a.form for plan in plans.values() for a in _actions(plan) if isinstance(a, d.Ask) and a.form]
        self._bound = {agent: _bound_by(plan) for agent, plan in plans.items()}

    @classmethod
    def of(cls, program: Program) -> Sight:
        """The sight of a program, made once."""
        known = _SIGHTS.get(program)
        if known is None:
            known = _SIGHTS[program] = cls(program)
        return known

    @property
    def has_secrets(self) -> bool:
        """Whether the program declares any secret."""
        return self._program.has_secrets

    # ---- in a state

    def of_state(self, state: RunState) -> Iterator[Found]:
        """What is to be kept apart of a state."""
        yield from self._of_names("", {**state.input, **state.vars})
        if state.output is not None:
            types = {field.name: field.type for field in self._program.agent.outputs}
            yield from self._of_fields(types, {name: to_journal(value) for name, value in state.output.items()}, "")
        for frame in state.frames.values():
            if frame.scope:
                yield from self._of_names(frame.agent, frame.scope)
            yield from self._of_outcome(frame)
        for agent, bound in self._bound.items():
            for event in state.queue:
                for name in bound.get(f"on {event['name']}", ()):
                    yield from self._redacted_in(agent, {name: event["payload"]})

    def _of_names(self, agent: str, values: Mapping[str, Any]) -> Iterator[Found]:
        types, paths = self._names[agent], self._paths[agent]
        if not types and not paths:
            return
        wanted = types.keys() | {path[0] for path in paths}
        trees = {name: to_journal(value) for name, value in values.items() if name in wanted}
        # What is both is secret: that says more.
        yield from self._of_fields(types, trees, "")
        yield from self._redacted_in(agent, trees)

    def _redacted_in(self, agent: str, trees: Mapping[str, Any]) -> Iterator[Found]:
        for path in self._paths[agent]:
            for value in _at(trees, path):
                yield Found(".".join(path), value, False)

    def _of_outcome(self, frame: Frame) -> Iterator[Found]:
        """What the action of a frame has given, before it is bound to anything, and what its own frames are given."""
        if frame.outcome is None and frame.opened is None and not frame.ended:
            return
        plan = self._program.plan(frame)
        here = plan.regions.get(frame.region, {}).get(frame.state)
        action = here.action if isinstance(here, d.State) else None
        if frame.outcome is not None and "result" in frame.outcome:
            result = frame.outcome["result"]
            for name in self._bound[frame.agent].get(frame.state, ()):
                yield from self._redacted_in(frame.agent, {name: result})
            type_ = self._type_of_outcome(frame.agent, action)
            if type_ is None and frame.call is not None:
                type_ = self._defn.tools[frame.call["tool"]].result
            yield from self._of(type_, result, frame.state)
        if isinstance(action, d.Each) and frame.opened is not None:
            type_ = self._names[frame.agent].get(action.item)
            for item in frame.opened.get("items", ()):
                yield from self._of(type_, item, action.item)
        for end in frame.ended.values():
            if "value" in end:
                yield from self._of(self._type_of_end(frame.agent, action), end["value"], frame.state)

    # ---- in an event

    def of_event(self, body: Mapping[str, Any]) -> Iterator[Found]:
        """What is to be kept apart of an event from the moment it is journaled."""
        yield from self._of_call(body)
        for part in ("call", "undo"):
            if isinstance(body.get(part), dict):
                yield from self._of_call(body[part])
        if isinstance(body.get("form"), dict):
            for form in self._forms:
                yield from self._of_fields({field.name: field.type for field in form}, body["form"], "")
        if "calls" in body and "outcome" in body:
            # Of a recording: the hashes that make a call the same.
            yield from (Found(DIGEST, name, False) for name in body["calls"])
        if "payload" in body:
            for type_ in self._payloads.get(str(body.get("name")), ()):
                yield from self._of(type_, body["payload"], str(body.get("name")))
        if isinstance(body.get("agent"), str):
            # An agent begins, with its inputs and the first values of its variables.
            agent = "" if body["agent"] == self._program.agent.name else body["agent"]
            for trees in (body.get("input"), body.get("set")):
                if isinstance(trees, dict) and agent in self._names:
                    yield from self._of_fields(self._names[agent], trees, "")
                    yield from self._redacted_in(agent, trees)
        if isinstance(body.get("end"), dict):
            # The outputs of an agent that has a `finally` to do first.
            for plan in (self._program.main, *self._program.plans.values()):
                types = {field.name: field.type for field in plan.agent.outputs}
                yield from self._of_fields(types, body["end"].get("output") or body["end"].get("value") or {}, "")

    def _of_call(self, body: Mapping[str, Any]) -> Iterator[Found]:
        name = body.get("tool")
        tool = self._defn.tools.get(name) if isinstance(name, str) else None
        if tool is None:
            return
        if isinstance(body.get("digest"), str):
            yield Found(DIGEST, body["digest"], False)
        if isinstance(body.get("args"), dict):
            yield from self._of_fields({p.name: p.type for p in tool.params}, body["args"], f"{name}.")
        if body.get("result") is not None:
            yield from self._of(tool.result, body["result"], f"{name}()")

    # ---- in a value

    def _of_fields(self, types: Mapping[str, d.Type], trees: Mapping[str, Any], before: str) -> Iterator[Found]:
        for name, type_ in types.items():
            if name in trees:
                yield from self._of(type_, trees[name], before + name)

    def _of(self, type_: d.Type | None, tree: Any, path: str) -> Iterator[Found]:
        """The secrets in a value of a type."""
        if type_ is None or tree is None or not self._holds(type_):
            return
        match type_:
            case d.SecretType():
                # As a whole, and each part of it: a program may take one out and put it somewhere else.
                if not isinstance(tree, bool):
                    yield Found(path, tree, True)
                if isinstance(tree, dict | list):
                    keys = tree if isinstance(type_.item, d.MapType) and "$map" not in tree else ()
                    for leaf in (*keys, *_leaves(tree)):
                        yield Found(path, leaf, True)
            case d.OptionalType():
                yield from self._of(type_.item, tree, path)
            case d.ListType() if isinstance(tree, list):
                for item in tree:
                    yield from self._of(type_.item, item, path)
            case d.MapType() if isinstance(tree, dict):
                pairs = tree["$map"] if len(tree) == 1 and "$map" in tree else tree.items()
                for key, item in pairs:
                    yield from self._of(type_.key, key, path)
                    yield from self._of(type_.value, item, path)
            case d.RecordType() if isinstance(tree, dict):
                fields = {field.name: field.type for field in self._defn.records[type_.name].fields}
                yield from self._of_fields(fields, tree, f"{path}.")
            case d.ObjectType() if isinstance(tree, dict):
                yield from self._of_fields(type_.fields, tree, f"{path}.")

    def _holds(self, type_: d.Type) -> bool:
        """Whether there is a secret in values of a type."""
        match type_:
            case d.SecretType():
                return True
            case d.OptionalType() | d.ListType():
                return self._holds(type_.item)
            case d.MapType():
                return self._holds(type_.key) or self._holds(type_.value)
            case d.ObjectType():
                return any(self._holds(item) for item in type_.fields.values())
            case d.RecordType():
                if type_.name not in self._records:
                    self._records[type_.name] = any(self._holds(f.type) for f in self._defn.records[type_.name].fields)
                return self._records[type_.name]
            case _:
                return False

    # ---- types of names

    def _typed_names(self, plan: Plan) -> dict[str, d.Type]:
        """The names of an agent whose values have a secret in them."""
        declared = {field.name: field.type for field in plan.agent.inputs} | plan.types
        found = {name: type_ for name, type_ in declared.items() if self._holds(type_)}
        for bind, type_ in self._binds(plan):
            if type_ is not None and self._holds(type_):
                found.setdefault(bind, type_)
        size = -1
        while size != len(found):
            # An item of a list of secrets is one, and so is what is collected from items, however deep they nest.
            size = len(found)
            for action in _actions(plan):
                for name, type_ in self._derived(found, action):
                    if type_ is not None:
                        found.setdefault(name, type_)
        return found

    def _binds(self, plan: Plan) -> Iterator[tuple[str, d.Type | None]]:
        for states in plan.regions.values():
            for state in states.values():
                if not isinstance(state, d.State):
                    continue
                bind = getattr(state.action, "bind", None)
                if bind is not None:
                    yield bind, self._type_of_result(plan, state.action)
                for edge in state.edges:
                    if edge.bind is not None and edge.event in plan.agent.events:
                        message = plan.agent.events[edge.event]
                        yield edge.bind, d.ObjectType(fields={f.name: f.type for f in message.fields})

    def _type_of_result(self, plan: Plan, action: d.Action | None) -> d.Type | None:
        match action:
            case d.Call():
                return self._defn.tools[action.tool].result
            case d.Think():
                return action.result
            case d.Ask():
                return d.ObjectType(fields={field.name: field.type for field in action.form})
            case d.RunAgent():
                return d.ObjectType(fields={f.name: f.type for f in self._defn.agents[action.agent].outputs})
            case d.Wait() if action.event in plan.agent.events:
                message = plan.agent.events[action.event]
                return d.ObjectType(fields={f.name: f.type for f in message.fields})
            case d.CallProposed() | d.CallApproved():
                secret = any(tool.result is not None and self._holds(tool.result) for tool in self._defn.tools.values())
                return _LOOSE if secret else None
            case _:
                return None

    def _derived(self, known: Mapping[str, d.Type], action: d.Action) -> Iterator[tuple[str, d.Type | None]]:
        if isinstance(action, d.Each):
            source = self._type_of_expr(known, action.source)
            yield action.item, source.item if isinstance(source, d.ListType) else source
            if action.bind is not None:
                yield action.bind, self._type_of_yields(known, action.body)
        elif isinstance(action, d.Parallel):
            for branch in action.branches:
                if branch.bind is not None:
                    yield branch.bind, self._type_of_yields(known, branch.body)

    def _type_of_expr(self, known: Mapping[str, d.Type], expr: d.ExprJson) -> d.Type | None:
        if isinstance(expr, list) and len(expr) == 2 and expr[0] == "var" and expr[1] in known:
            return known[expr[1]]
        return _LOOSE if self._program.reads(expr) & known.keys() else None

    def _type_of_yields(self, known: Mapping[str, d.Type], body: d.Region) -> d.Type | None:
        exprs: list[d.ExprJson] = []
        for state in body.states:
            if isinstance(state, d.Final):
                exprs += state.outputs.values()
            else:
                exprs += [e for e in (state.yields, *(edge.yields for edge in state.edges)) if e is not None]
        return _LOOSE if any(self._program.reads(expr) & known.keys() for expr in exprs) else None

    def _type_of_outcome(self, agent: str, action: d.Action | None) -> d.Type | None:
        plan = self._program.plans[agent] if agent else self._program.main
        if isinstance(action, d.Each | d.Parallel):
            return self._type_of_end(agent, action)
        return self._type_of_result(plan, action)

    def _type_of_end(self, agent: str, action: d.Action | None) -> d.Type | None:
        """The type of what one of the frames of an action is worth."""
        known = self._names[agent]
        match action:
            case d.Each():
                return self._type_of_yields(known, action.body)
            case d.Parallel():
                types = (self._type_of_yields(known, branch.body) for branch in action.branches)
                return next((type_ for type_ in types if type_ is not None), None)
            case d.RunAgent():
                return d.ObjectType(fields={f.name: f.type for f in self._defn.agents[action.agent].outputs})
            case _:
                return None


_SIGHTS: WeakKeyDictionary[Program, Sight] = WeakKeyDictionary()


def redacted_paths(agent: d.Agent) -> tuple[Path, ...]:
    """The paths that an agent's policy redacts."""
    return tuple(rule.path for rule in agent.rules or () if rule.kind == "redact" and rule.path)


def _actions(plan: Plan) -> Iterator[d.Action]:
    for states in plan.regions.values():
        for state in states.values():
            if isinstance(state, d.State) and state.action is not None:
                yield state.action


def _bound_by(plan: Plan) -> dict[str, set[str]]:
    """By state, and by event as `on NAME`: the variables that the outcome, or the payload, may be bound to."""
    found: dict[str, set[str]] = {}
    for states in plan.regions.values():
        for state in states.values():
            if not isinstance(state, d.State):
                continue
            name = getattr(state.action, "bind", None)
            if name is not None:
                found.setdefault(state.name, set()).add(name)
                if isinstance(state.action, d.Wait) and state.action.event is not None:
                    found.setdefault(f"on {state.action.event}", set()).add(name)
            for edge in state.edges:
                if edge.event and edge.bind:
                    found.setdefault(f"on {edge.event}", set()).add(edge.bind)
    return found


def _merged(pairs: Iterable[tuple[str, d.Type]]) -> dict[str, list[d.Type]]:
    found: dict[str, list[d.Type]] = {}
    for name, type_ in pairs:
        found.setdefault(name, []).append(type_)
    return found


def _at(tree: Any, path: Path) -> Iterator[Any]:
    """The leaves at a path; a path that ends at a record or list means all that is in it."""
    if not path:
        yield from _leaves(tree)
    elif isinstance(tree, dict) and path[0] in tree:
        yield from _at(tree[path[0]], path[1:])
    elif isinstance(tree, list):
        for item in tree:
            yield from _at(item, path)


def _leaves(tree: Any) -> Iterator[Any]:
    """The parts of a value in the journal form that have no parts."""
    if isinstance(tree, dict) and "$map" in tree and len(tree) == 1:
        for key, item in tree["$map"]:
            yield from _leaves(key)
            yield from _leaves(item)
    elif isinstance(tree, dict) and not _is_tagged(tree):
        for item in tree.values():
            yield from _leaves(item)
    elif isinstance(tree, list):
        for item in tree:
            yield from _leaves(item)
    elif not isinstance(tree, bool):
        # Hiding true or false wherever it stands would hide everything and nothing.
        yield tree


def _is_tagged(tree: dict[str, Any]) -> bool:
    return len(tree) == 1 and next(iter(tree)).startswith("$")
