"""Whether a run can go on in another version of its program, where it stands.

`fit` looks at two programs and one state, and gives reasons against it, each under its code, or what has to change in
the state. It starts nothing and reads no store, so `jam migrate`, replay and a diff can all ask it.

| code | the run |
|---|---|
| JAM802 | is in a state that is not there any more, or that does something else now |
| JAM803 | holds a variable or a queued event that does not fit its type now, or lacks what is needed |
| JAM804 | has an open question that would be asked differently now |
| JAM805 | has waited longer than it may now |
| JAM807 | has used more than the budget is now |
| JAM808 | has something to undo that cannot be undone now |
| JAMR412 | has a history that the new policy asks about and nobody has kept, or keeps values secret that it would not |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.engine.compat_flow import needed
from jamjet_dsl.engine.reasons import KEEP, Reason, reason
from jamjet_dsl.engine.sight import redacted_paths
from jamjet_dsl.kernel import monitors
from jamjet_dsl.kernel.actions import enter_ask
from jamjet_dsl.kernel.budget import used_at
from jamjet_dsl.kernel.docket import counter_of
from jamjet_dsl.kernel.fold import TIME_TIMER
from jamjet_dsl.kernel.ids import action_id, timer_id
from jamjet_dsl.kernel.model import Ask, Count, Frame, Json, Question, RunState
from jamjet_dsl.kernel.program import Plan, Program
from jamjet_dsl.kernel.records import check_args
from jamjet_dsl.kernel.scope import scope_of
from jamjet_dsl.kernel.values import EvalError, Timestamp, from_journal, from_public, of_key, to_journal


@dataclass(slots=True)
class Fit:
    """Reasons against it, and the fields of the `migrated` event that make the state one of the new program."""

    reasons: list[Reason] = field(default_factory=list)
    body: dict[str, Any] = field(default_factory=dict)

    def against(self, code: str, message: str, help: str = "") -> None:
        """One more reason."""
        self.reasons.append(reason(code, message, help))


def fit(old: Program, new: Program, state: RunState, now_ms: int) -> Fit:
    """Whether a run that is at rest can go on in `new` from `now_ms` on (milliseconds since 1970)."""
    found = Fit()
    names = mapping(old, new)
    if names:
        found.body["states"] = names
    for frame in state.frames.values():
        _place(old, new, state, frame, names, now_ms, found)
    _variables(old, new, state, names, found)
    _queue(new, state, found)
    _budget(new, state, now_ms, found)
    _undo(new, state, found)
    _history(old, new, state, found)
    return found


def mapping(old: Program, new: Program) -> dict[str, str]:
    """The states that have another name now: `migrate from VERSION { old -> new }` of the new program."""
    for migration in new.agent.migrations:
        if migration.from_version == old.agent.version:
            return dict(migration.states)
    return {}


# ---- where it stands


def _place(
    old: Program, new: Program, state: RunState, frame: Frame, names: dict[str, str], now_ms: int, found: Fit
) -> None:
    """One frame: its state is there, does what it did, and has its timers."""
    label = f"`{old.label(frame)}`"
    if frame.agent and frame.agent not in new.plans:
        found.against("JAM802", f"it is in {label} of the agent `{frame.agent}`, which is not there any more")
        return
    region, name = _region(frame, {} if frame.agent else names), frame.state
    if not frame.agent:
        name = names.get(name, name)
    plan = new.plan(frame)
    there = plan.regions.get(region, {}).get(name)
    if there is None:
        mapped = f" (mapped to `{name}`)" if name != frame.state else ""
        help = "" if frame.agent or mapped else f": map it with `migrate from {old.agent.version} {{ {name} -> … }}`"
        found.against("JAM802", f"the state {label}{mapped} is not there any more{help}")
        return
    if (region, name) != (frame.region, frame.state):
        found.body.setdefault("frames", {})[frame.path] = {"state": name, "region": region}
    was, now = old.action(frame), there.action if isinstance(there, d.State) else None
    if _changed(new, state, frame, was, now):
        found.against("JAM802", f"the state {label} does something else now")
        return
    moved = _renamed(state, frame, name, region)
    question = next((q for q in state.questions.values() if q.frame == frame.path), None)
    if question is not None and isinstance(now, d.Ask):
        _question(new, moved, moved.frames[frame.path], now, question, found)
    _timer(new, moved, frame, was, now, question, now_ms, found)


def _region(frame: Frame, names: dict[str, str]) -> str:
    """The frame's region where states have other names: every second part is a state's."""
    parts = frame.region.split("/")
    return "/".join(names.get(part, part) if index % 2 == 0 else part for index, part in enumerate(parts))


def _changed(new: Program, state: RunState, frame: Frame, was: d.Action | None, now: d.Action | None) -> bool:
    """Whether the state does something else than what the run is in the middle of."""
    if type(was) is not type(now):
        return True
    if frame.call is not None:
        tool = frame.call["tool"]
        known = new.defn.tools.get(tool)
        args, problems = ({}, ["gone"]) if known is None else check_args(new, tool, _plain(frame.call["args"]))
        same = known is not None and known.effect == frame.call["effect"] and not problems
        return not same or to_journal(args) != frame.call["args"] or getattr(now, "tool", tool) not in (tool, None)
    match was, now:
        case d.Wait(), d.Wait():
            return was.event != now.event or (was.until is None) != (now.until is None)
        case d.Parallel(), d.Parallel():
            return {b.name for b in was.branches} != {b.name for b in now.branches}
        case d.RunAgent(), d.RunAgent():
            return was.agent != now.agent
        case d.Each(), d.Each():
            return (was.item, was.flat) != (now.item, now.flat)
    return False


def _renamed(state: RunState, frame: Frame, name: str, region: str) -> RunState:
    """The state with the frame where it will be, and no question open in it."""
    moved = replace(frame, state=name, region=region)
    questions = {n: q for n, q in state.questions.items() if q.frame != frame.path}
    return replace(state, frames={**state.frames, frame.path: moved}, questions=questions)


def _question(new: Program, state: RunState, frame: Frame, action: d.Ask, question: Question, found: Fit) -> None:
    """The question is asked again in thought: whom it asks, what can be said and what that grants must be the same."""
    # As it was when the state was entered: what was read and counted for the question then need not hold now.
    then = replace(state, now_ms=frame.entered_ms)
    commands = enter_ask(new, then, frame, action)
    if commands and isinstance(commands[0], Count):
        unused = {"cmd": commands[0].id, "used": [[share.home, share.rule, 0, "0"] for share in commands[0].shares]}
        commands = enter_ask(new, replace(then, counted=unused), frame, action)
    asked = commands[0] if commands and isinstance(commands[0], Ask) else None
    if asked is None:
        found.against("JAM804", f"the question of `{question.state}` would not be asked now")
        return
    for name, what in (
        ("role", "whom it asks"),
        ("options", "its options"),
        ("form", "its form"),
        ("call", "its call"),
    ):
        was, now = question.body.get(name), asked.body.get(name)
        if name == "call":
            was, now = (was or {}).get("digest"), (now or {}).get("digest")
        if was != now:
            found.against("JAM804", f"the question of `{question.state}` is pending, and {what} changed")
    policies = [(q.body.get("call") or {}).get("policy") for q in (question, asked)]
    if policies[0] is not None and policies[0] != policies[1]:
        found.against("JAM804", f"the question of `{question.state}` is pending, and the rules for its call changed")
    needs = [(q.body.get("decision") or {}).get("needs") for q in (question, asked)]
    if needs[0] != needs[1]:
        found.against("JAM804", f"the question of `{question.state}` is pending, and who has to approve changed")


def _timer(
    new: Program,
    state: RunState,
    frame: Frame,
    was: d.Action | None,
    now: d.Action | None,
    question: Question | None,
    now_ms: int,
    found: Fit,
) -> None:
    """The time that the action may take, or waits for: from when it began, as the new program has it."""
    what, before = _limit(was)
    _, after = _limit(now)
    name = timer_id(action_id(frame), what)
    if isinstance(was, d.Wait) and isinstance(now, d.Wait) and now.until is not None:
        at_ms = None if was.until == now.until else _until(new, state, frame, now, found)
        if at_ms is None:
            return
    elif before == after or frame.phase not in ("ask", "wait", "join", "enter"):
        return
    elif after is None:
        at_ms = None
    else:
        began = state.timers[name] - before if before is not None and name in state.timers else frame.entered_ms
        at_ms = began + after
    if at_ms is not None and at_ms <= now_ms:
        found.against("JAM805", f"`{frame.state}` has waited longer than it may now")
        return
    found.body.setdefault("timers", {})[name] = at_ms
    if question is not None:
        found.body.setdefault("expires", {})[question.id] = at_ms


def _until(new: Program, state: RunState, frame: Frame, action: d.Wait, found: Fit) -> int | None:
    assert action.until is not None
    try:
        value = new.evaluate(action.until, scope_of(new, state, state.frames[frame.path]))
    except EvalError as error:
        found.against("JAM805", f"when `{frame.state}` is to go on cannot be told: {error.message}")
        return None
    return value.ms if isinstance(value, Timestamp) else None


def _limit(action: d.Action | None) -> tuple[str, int | None]:
    """What the timer of an action is called, and how long it is set for."""
    match action:
        case d.Ask():
            return "timeout", action.timeout_ms
        case d.Wait(event=None):
            return "wait", action.duration_ms
        case d.Wait():
            return "timeout", action.timeout_ms
        case d.Parallel():
            return "within", action.within_ms
        case d.Each() | d.RunAgent():
            return "within", action.timeout_ms
    return "", None


# ---- what it holds


def _variables(old: Program, new: Program, state: RunState, names: dict[str, str], found: Fit) -> None:
    """Every value has the type that its name has now, and every value that will be needed is there."""
    types = {var.name: var.type for var in new.agent.vars}
    drop = sorted(name for name in state.vars if name not in types)
    values: dict[str, Json] = {}
    for name, value in state.vars.items():
        if name in types:
            _value(new, name, value, types[name], values, found)
    inputs: dict[str, Json] = {}
    for item in new.agent.inputs:
        if item.name in state.input:
            _value(new, item.name, state.input[item.name], item.type, inputs, found)
        elif item.type.kind == "optional":
            inputs[item.name] = None
        else:
            found.against("JAM803", f"the input `{item.name}` is required now, and the run has none")
    _inner(new, state, found)
    known = {var.name for var in old.agent.vars}
    for var in new.agent.vars:
        if var.name in state.vars:
            continue
        if var.init is not None and var.name not in known:
            try:
                values[var.name] = to_journal(new.evaluate(var.init, scope_of(new, state, Frame("", ""))))
            except EvalError as error:
                found.against("JAM803", f"the initial value of `{var.name}` has no value: {error.message}")
        elif var.type.kind != "optional" and _lacks(old, new, state, var.name, names):
            found.against("JAM803", f"the variable `{var.name}` is read from here on, and the run has not set it")
    for key, tree in (("set", values), ("input", inputs), ("drop", drop)):
        if tree:
            found.body[key] = tree


def _lacks(old: Program, new: Program, state: RunState, name: str, names: dict[str, str]) -> bool:
    """Whether a variable that is not set may be read from where the run stands on, and could not be before."""
    here = state.frames[""].state
    if not needed(new.main, names.get(here, here), name):
        return False
    return name not in {var.name for var in old.agent.vars} or not needed(old.main, here, name)


def _value(
    new: Program, name: str, value: Any, type_: d.Type, values: dict[str, Json], found: Fit, label: str = ""
) -> None:
    """One value against a type; a value that is written differently there is kept in the new way."""
    problems: list[str] = []
    read = from_public(_keys(value), type_, new.defn, name, problems)
    if problems:
        found.against("JAM803", f"{label}`{name}` does not fit its type now: {'; '.join(problems)}")
    elif to_journal(read) != to_journal(value):
        values[name] = to_journal(read)


def _inner(new: Program, state: RunState, found: Fit) -> None:
    """What branches, items and children hold. It stays as it is written, so it must be written alike."""
    for frame in state.frames.values():
        if frame.parent is None or (frame.agent and frame.agent not in new.plans):
            continue
        agent = new.plan(frame).agent
        types: dict[str, d.Type] = {item.name: item.type for item in agent.inputs}
        types |= {var.name: var.type for var in agent.vars}
        changed: dict[str, Json] = {}
        for name, value in frame.scope.items():
            if name in types:
                _value(new, name, value, types[name], changed, found, f"in `{frame.path}` ")
        for name in changed:
            found.against("JAM803", f"in `{frame.path}` `{name}` is written differently now")


def _queue(new: Program, state: RunState, found: Fit) -> None:
    """Events that came and that nobody has taken yet: they are taken as they were sent, and must fit as they are."""
    agents = [new.agent, *(new.plan(f).agent for f in state.frames.values() if f.agent in new.plans)]
    for event in state.queue:
        name, payload = event["name"], event["payload"]
        declared = next((agent.events[name] for agent in agents if name in agent.events), None)
        if declared is None:
            found.against("JAM803", f"an event `{name}` is queued, and there is no such event any more")
            continue
        shape, problems = d.ObjectType(fields={f.name: f.type for f in declared.fields}), list[str]()
        read = from_public(_plain(payload), shape, new.defn, name, problems)
        if problems:
            found.against("JAM803", f"a queued event does not fit `{name}` now: {'; '.join(problems)}")
        elif to_journal(read) != payload:
            found.against("JAM803", f"a queued event `{name}` is written differently now")


def _plain(tree: Json) -> Any:
    return _keys(from_journal(tree))


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {of_key(key): _keys(item) for key, item in value.items()}
    return [_keys(item) for item in value] if isinstance(value, list) else value


# ---- what it has used and done


def _budget(new: Program, state: RunState, now_ms: int, found: Fit) -> None:
    """No limit lies below what was used. An exceeded budget is on its way to an end and asks for nothing more."""
    caps, used = new.main.caps, used_at(state, "")
    if state.exceeded is None:
        rows: tuple[tuple[str, Any, Any], ...] = (
            ("steps", used.steps, caps.steps),
            ("tokens", used.tokens + used.held_tokens, caps.tokens),
            ("cost", used.cost + used.held_cost, caps.cost),
            ("active", used.active, caps.active),
        )
        for name, so_far, cap in rows:
            if cap is not None and so_far > cap:
                found.against("JAM807", f"{name}: {so_far} were used, and the budget has {cap}")
        if caps.time is not None and now_ms - state.started_ms >= caps.time:
            found.against("JAM807", f"time: {now_ms - state.started_ms} ms have passed, and the budget has {caps.time}")
    amount, _, currency = state.spent.cost.partition(" ")
    if currency and currency != new.agent.currency and amount.strip("0."):
        found.against("JAM807", f"cost: {state.spent.cost} were used, and the budget is in {new.agent.currency}")
    wanted = None if caps.time is None or state.exceeded is not None else state.started_ms + caps.time
    if state.timers.get(TIME_TIMER) != wanted:
        found.body.setdefault("timers", {})[TIME_TIMER] = wanted


def _undo(new: Program, state: RunState, found: Fit) -> None:
    """What is on the list of what can be taken back can still be."""
    undoing = {tool.undo.tool for tool in new.defn.tools.values() if tool.undo is not None}
    for entry in state.undo:
        tool = entry["tool"]
        if tool not in new.defn.tools or tool not in undoing:
            found.against("JAM808", f"`{tool}` takes back what the run has done, and is no undo any more")
        elif "args" in entry and check_args(new, tool, _plain(entry["args"]))[1]:
            found.against("JAM808", f"`{tool}` takes back what the run has done, and takes other arguments now")


def _history(old: Program, new: Program, state: RunState, found: Fit) -> None:
    """What the policy asks about past calls was counted under the old one: the new one must ask for nothing else."""
    lost = set(redacted_paths(old.agent)) - set(redacted_paths(new.agent))
    if lost:
        paths = ", ".join(".".join(path) for path in sorted(lost))
        found.against("JAMR412", f"`redact {paths}` is gone: what was kept apart would be written down", KEEP)
    for problem in _unknown(old.main, new.main, state.monitors):
        found.against("JAMR412", problem, KEEP)
    for frame in state.frames.values():
        if frame.kind == "agent" and frame.agent in new.plans:
            before, after = old.plan(frame), new.plan(frame)
            if before.agent.rules != after.agent.rules:
                help = "wait until the child has ended, or keep its policy"
                found.against("JAMR412", f"the child `{frame.agent}` is at work, and its policy changed", help)
    rules = _rules(old.main, new.main)
    if any(index != number for index, number in rules.items()) or len(rules) < _limits(old.main):
        found.body["rules"] = {str(index): number for index, number in rules.items()}


def _limits(plan: Plan) -> int:
    return sum(rule.kind == "limit" for rule in plan.agent.rules or ())


def _rules(old: Plan, new: Plan) -> dict[int, int]:
    """The limits of the old policy that stand in the new one word for word, and their number there."""
    left = [(number, rule) for number, rule in enumerate(new.agent.rules or ()) if rule.kind == "limit"]
    found: dict[int, int] = {}
    for index, rule in enumerate(old.agent.rules or ()):
        number = next((n for n, other in left if other == rule and n not in found.values()), None)
        if rule.kind == "limit" and number is not None:
            found[index] = number
    return found


def _shared(plan: Plan) -> set[str]:
    """The limits that all runs of a principal share."""
    return {counter_of(plan.agent.name, rule.limit) for rule in plan.agent.rules or () if rule.limit is not None} - {""}


def _unknown(old: Plan, new: Plan, counted: dict[str, Json]) -> Iterator[str]:
    """Questions of the new policy about calls that were made while nobody counted them like that."""
    kept = set(_rules(old, new).values())
    shared = _shared(old)
    made = [tool for tool in new.defn.tools if monitors.calls(counted, tool)]
    for number, rule in enumerate(new.agent.rules or ()):
        if rule.kind == "limit" and number not in kept and rule.limit is not None:
            if counter_of(new.agent.name, rule.limit) in shared:
                continue  # The database has counted them, whatever the bound and the window were.
            for tool in made:
                if _holds(new, rule.limit.tools, tool):
                    yield f"a new `limit` counts calls of `{tool}`, and the run has made some that were not counted"
    for tool in made:
        if set(new.tracked.get(tool, ())) - set(old.tracked.get(tool, ())) or (
            tool in new.remembered and tool not in old.remembered
        ):
            yield f"the policy asks about calls of `{tool}`, and the run has made some that were not remembered"


def _holds(plan: Plan, tools: d.ToolSetDef, tool: str) -> bool:
    from jamjet_dsl.kernel.program import matches

    return matches(plan.defn, tools, tool)
