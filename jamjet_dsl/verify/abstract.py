"""A definition with its data taken out: what is explored when a program is verified.

Every run of a program is a run of its abstraction, under some choice of what is unknown there. So what holds for all
runs of the abstraction holds for all runs of the program; a run of the abstraction may be none of the program's.

What stays as it is: states, edges, retries, joins, handlers, approvals, keys, effects, and of a policy what depends on
no data. What goes: types (all are `any`), prices and rates, the amounts of budgets (they may be used up at any time),
conversations, and the rules of a policy that look at arguments or facts (they may hold or not, each time anew). Limits
of edges and of calls stay too if it is to be `exact`. Otherwise one of more than one is used up at any time after the
first: how far each of several has been used multiplies what there is to explore.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.program import matches, reads_of

ANY = d.Scalar(kind="any")
FREE: d.ExprJson = ["free"]
"""Stands for a condition that nothing is known of: it may hold or not, each time it is asked."""
Free: TypeAlias = Callable[[], bool] | None
_FEW = 2
EVER_MS = 10**15
STEPS = 10**6
"""The time and the steps of every budget: no run takes as much, so they are used up exactly when the exploration says
so."""


class Limit(int):
    """The limit of an edge of which is known only whether any of it was used. `free` says whether all of it is."""

    free: Callable[[], bool]

    def __le__(self, used: int) -> bool:
        """Whether so many are all, as `used >= limit` asks."""
        return used >= 1 and (int(self) == 1 or self.free())


def abstracted(definition: d.Definition, free: Free) -> d.Definition:
    """The abstraction of a definition; an exact one without `free`, which says whether a limit is used up. Expressions
    keep their identity: what stood in the program is still the same list, and can be found by it."""
    return definition.model_copy(
        update={
            "agents": {name: _agent(agent, definition, free) for name, agent in definition.agents.items()},
            "tools": {name: _tool(tool) for name, tool in definition.tools.items()},
            "models": {name: model.model_copy(update=_priceless(model)) for name, model in definition.models.items()},
        }
    )


def _priceless(model: d.ModelDef) -> dict[str, None]:
    return {name: None for name in ("price_in", "price_out") if name in type(model).model_fields}


def _fields(fields: tuple[d.FieldDef, ...]) -> tuple[d.FieldDef, ...]:
    return tuple(d.FieldDef(name=field.name, type=ANY) for field in fields)


def _tool(tool: d.Tool) -> d.Tool:
    return tool.model_copy(
        update={
            "params": _fields(tool.params),
            "result": None if tool.result is None else ANY,
            "cost": None,
            "limits": (),
            "retry": _at_once(tool.retry),
        }
    )


def _at_once(retries: tuple[d.Retry, ...]) -> tuple[d.Retry, ...]:
    """When a further attempt is made is of no matter: time may pass anyhow. One is enough: what comes of several
    follows from the last, and from whether one before it may have happened."""
    return tuple(d.Retry(errors=retry.errors, times=min(retry.times, 1)) for retry in retries)


def _agent(agent: d.Agent, definition: d.Definition, free: Free) -> d.Agent:
    return agent.model_copy(
        update={
            "inputs": _fields(agent.inputs),
            "outputs": _fields(agent.outputs),
            "vars": tuple(d.VarDef(name=var.name, type=ANY, init=var.init) for var in agent.vars),
            "events": {name: d.Message(fields=_fields(event.fields)) for name, event in agent.events.items()},
            "emits": {name: d.Message(fields=_fields(event.fields)) for name, event in agent.emits.items()},
            "budget": None if agent.budget is None else _budget(agent.budget, _depth(definition, agent.name)),
            "rules": _rules(agent, definition, free),
            "body": _region(agent.body, free),
            "finally_": None if agent.finally_ is None else _region(agent.finally_, free),
            "migrations": (),
        }
    )


def _depth(definition: d.Definition, name: str) -> int:
    """How many agents are around this one, at most."""
    callers = [a.name for a in definition.agents.values() if a.name != name and name in _runs(a)]
    return max((1 + _depth(definition, caller) for caller in callers), default=0)


def _runs(agent: d.Agent) -> set[str]:
    found: set[str] = set()
    todo: list[object] = [agent.body.model_dump(mode="python")]
    while todo:
        tree = todo.pop()
        if isinstance(tree, dict):
            if tree.get("kind") == "run":
                found.add(str(tree["agent"]))
            todo += tree.values()
        elif isinstance(tree, list | tuple):
            todo += tree
    return found


def _budget(budget: d.Budget, depth: int) -> d.Budget | None:
    """A budget that is used up when the exploration says so; the time of a child is over long before that of those
    around it."""
    if not budget.limits.model_dump(exclude_none=True):
        return None
    counts = any(n is not None for n in (budget.limits.steps, budget.limits.tokens, budget.limits.cost))
    return d.Budget(
        limits=d.Limits(time_ms=EVER_MS // 100**depth, steps=STEPS if counts else None), exceeded=budget.exceeded
    )


# ---- states


def _region(region: d.Region, free: Free) -> d.Region:
    return region.model_copy(update={"states": tuple(_state(state, free) for state in region.states)})


def _state(state: d.State | d.Final, free: Free) -> d.State | d.Final:
    if isinstance(state, d.Final):
        return state
    edges = tuple(
        edge.model_copy(update={"sets": _sets(edge.sets), "limit": _limit(edge, free)}) for edge in state.edges
    )
    sets = _sets(state.sets)
    if isinstance(state.action, d.Each) and state.action.bind is not None:
        # Two items stand for any number from two on, so how many results there are is not known.
        sets = (_changed(state.action.bind), *sets)
    return state.model_copy(update={"action": _action(state.action, free), "sets": sets, "edges": edges})


def _limit(edge: d.Edge, free: Free) -> int | None:
    if edge.limit is None or free is None:
        return edge.limit
    limit = Limit(edge.limit)
    limit.free = free
    return limit


def _sets(sets: tuple[d.SetDef, ...]) -> tuple[d.SetDef, ...]:
    """A `set` of a field is one of the whole record, of which nothing is known then but where it came from."""
    return tuple(item if len(item.path) == 1 else _changed(item.path[0], item.value) for item in sets)


def _changed(name: str, *more: d.ExprJson) -> d.SetDef:
    """What a variable holds is unknown from here on; it came from where it and the others came from."""
    return d.SetDef(path=(name,), value=["changed", ["var", name], *more])


def _action(action: d.Action | None, free: Free) -> d.Action | None:
    match action:
        case d.Call() | d.CallProposed() | d.CallApproved():
            update: dict[str, object] = {"retry": _at_once(action.retry)}
            if not isinstance(action, d.Call):
                update["chat"] = None
            return action.model_copy(update=update)
        case d.Think():
            result = d.BuiltinType(kind="Move") if action.tools else ANY
            more = {"retry": _at_once(action.retry), "chat": None, "max_prompt": None, "max_tokens": None}
            return action.model_copy(update={**more, "result": result, "given": ()})
        case d.Ask():
            return action.model_copy(update={"form": _fields(action.form), "remind_ms": None, "show": ()})
        case d.RunAgent():
            retry = tuple(d.Retry(errors=each.errors, times=each.times) for each in action.retry)
            return action.model_copy(update={"budget": None, "retry": retry})
        case d.Each():
            body, at_once = _region(action.body, free), min(action.at_once, 2)
            return action.model_copy(update={"body": body, "flat": False, "at_once": at_once})
        case d.Parallel():
            branches = tuple(b.model_copy(update={"body": _region(b.body, free)}) for b in action.branches)
            return action.model_copy(update={"branches": branches})
    return action


# ---- the policy


def _rules(agent: d.Agent, definition: d.Definition, free: Free) -> tuple[d.Rule, ...] | None:
    """The policy: a rule stays as it is where it depends on nothing that is not followed. All others that may deny a
    call of a tool are one that may hold or not: more of them deny it no more."""
    if agent.rules is None:
        return None
    facts = {rule.name for rule in agent.rules if rule.kind == "fact"}
    kept = [rule for rule in agent.rules if rule.kind not in ("fact", "redact") and not _is_open(rule, facts, free)]
    open_ = [rule for rule in agent.rules if _is_open(rule, facts, free)]
    for tool in definition.tools:
        if any(matches(definition, _tools(rule), tool) for rule in open_):
            kept.append(d.Rule(kind="forbid", tools=d.ToolSetDef(names=(tool,)), when=list(FREE)))
    return tuple(kept)


def _is_open(rule: d.Rule, facts: set[str | None], free: Free) -> bool:
    match rule.kind:
        case "require_read":
            return True
        case "require_any":
            return rule.when is not None
        case "forbid" if rule.when is not None:
            return not facts.isdisjoint(reads_of(rule.when))
        case "limit" if rule.limit is not None:
            return not _is_exact(rule.limit, free)
    return False


def _tools(rule: d.Rule) -> d.ToolSetDef | None:
    return rule.tools if rule.limit is None else rule.limit.tools


def _is_exact(limit: d.LimitDef, free: Free) -> bool:
    """Whether a limit counts calls of this run and nothing else, and few enough."""
    if free is not None and (limit.count or 0) > _FEW:
        return False
    return limit.amount is None and not (limit.per or limit.principal or limit.turn or limit.window_ms)
