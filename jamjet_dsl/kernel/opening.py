"""Actions that are carried out by frames of their own: `parallel`, `each`, `run`, `undo all`, and `finally`.

An `opened` event says what is to be opened; each frame is a `begun`, each end a `closed`; a `joined` says what came of
it all, and is to the state what an outcome is to a call. How far it has come stands in the frame that opened it
(`opened`, `ended`) and in the frames that are open, so a crash costs nothing that was done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.budget import carve, out_of_steps
from jamjet_dsl.kernel.ids import action_id, child_path, concerns, frame_of
from jamjet_dsl.kernel.model import Command, Frame, Intent, Json, Record, RunState
from jamjet_dsl.kernel.program import FINALLY, UNDO, Plan, Program
from jamjet_dsl.kernel.records import exceeded, failed, fault
from jamjet_dsl.kernel.scope import Scope, scope_of, scope_with
from jamjet_dsl.kernel.values import EvalError, from_journal, from_public, to_journal

# ---- opening


def open_action(program: Program, state: RunState, frame: Frame, action: d.Action) -> list[Command]:
    """Entering a state whose action is carried out by frames of its own."""
    body: dict[str, Json] = {"cmd": action_id(frame)}
    scope = scope_of(program, state, frame)
    within: int | None = getattr(action, "timeout_ms", None)
    match action:
        case d.Parallel():
            body["branches"] = [branch.name for branch in action.branches]
            within = action.within_ms
        case d.Each():
            try:
                items = program.evaluate(action.source, scope)
            except EvalError as error:
                return [fault(frame, "InvalidInput", error.message, "the list")]
            body["items"] = [to_journal(item) for item in items]
            flags = scope.flags(program.reads(action.source))
            if flags:
                body["from"] = sorted(flags)
        case d.RunAgent():
            found = _child(program, state, frame, action, scope)
            if isinstance(found, Record):
                return [found]
            body |= found
        case _:
            assert isinstance(action, d.UndoAll)
            body["undo"] = True
    if within is not None:
        body["at_ms"] = state.now_ms + within
    return [Record("opened", body)]


def _child(
    program: Program, state: RunState, frame: Frame, action: d.RunAgent, scope: Scope
) -> dict[str, Json] | Record:
    """The inputs, first values and budget of a child."""
    plan = program.plans[action.agent]
    problems: list[str] = []
    shape = d.ObjectType(fields={field.name: field.type for field in plan.agent.inputs})
    try:
        given = {name: program.evaluate(expr, scope) for name, expr in action.args.items()}
    except EvalError as error:
        return fault(frame, "InvalidInput", error.message, f"the arguments of `{action.agent}`")
    values = from_public(given, shape, program.defn, "", problems)
    if problems:
        return failed(frame, "InvalidInput", f"`{action.agent}`: " + "; ".join(problems))
    assert isinstance(values, dict)
    names = dict(values)
    flags = {name: found for name, expr in action.args.items() if (found := scope.flags(program.reads(expr)))}
    first: dict[str, Any] = {}
    for var in plan.agent.vars:
        if var.init is None:
            continue
        inner = scope_with(program, state, frame, names, flags)
        try:
            first[var.name] = names[var.name] = program.evaluate(var.init, inner)
        except EvalError as error:
            return fault(frame, "InvalidInput", error.message, f"the initial value of `{var.name}`")
        if found := inner.flags(program.reads(var.init)):
            # What is made of an input comes from where that came from.
            flags = {**flags, var.name: found}
    limits, caps = carve(program, state, frame, plan.agent.budget, action.budget)
    body: dict[str, Json] = {
        "agent": action.agent,
        "input": to_journal(values),
        "set": to_journal(first),
        "limits": limits,
        "caps": caps,
    }
    return {**body, "from": {name: sorted(found) for name, found in flags.items()}} if flags else body


def end_of(program: Program, frame: Frame, end: dict[str, Json]) -> Record:
    """The end of an agent: `finally` first, if it has one. `end` is the body of what comes after it."""
    if program.plan(frame).agent.finally_ is not None and frame.phase != FINALLY:
        return Record("opened", {"cmd": action_id(frame), FINALLY: True, "end": end})
    return Record("closed" if frame.kind == "agent" else "finished", end)


# ---- beginning


def begin_next(program: Program, state: RunState, frame: Frame, open_: Sequence[Frame]) -> Record | None:
    """The next frame to open, or None if nothing is to be opened now. `open_` are those that are open."""
    opened = frame.opened
    assert opened is not None
    keys = {child.key for child in open_}
    if "branches" in opened:
        for name in opened["branches"]:
            if name not in keys and name not in frame.ended:
                return _begin(program, state, frame, name, "branch", f"{_place(frame)}/{name}")
        return None
    if "items" in opened:
        action = program.action(frame)
        assert isinstance(action, d.Each)
        number = len(keys) + len(frame.ended)
        if number < len(opened["items"]) and len(keys) < action.at_once:
            return _begin(program, state, frame, str(number), "item", f"{_place(frame)}/each")
        return None
    if keys:
        return None
    if "agent" in opened:
        if frame.ended:
            return None
        return _begin(program, state, frame, opened["agent"], "agent", "", agent=opened["agent"])
    if FINALLY in opened:
        return None if frame.ended else _begin(program, state, frame, FINALLY, FINALLY, FINALLY)
    return _take_back(state, frame)


def _place(frame: Frame) -> str:
    return f"{frame.region}/{frame.state}" if frame.region else frame.state


def _begin(
    program: Program, state: RunState, frame: Frame, key: str, kind: str, region: str, agent: str | None = None
) -> Record:
    plan = program.plans[agent] if agent is not None else program.plan(frame)
    start = plan.starts[region]
    if _acts(plan, region, start) and kind != FINALLY:
        home = out_of_steps(program, state, frame)
        if home is not None:
            return exceeded(frame, "steps", home)
    body: dict[str, Json] = {
        "frame": child_path(frame, key),
        "cmd": action_id(frame),
        "key": key,
        "kind": kind,
        "region": region,
        "state": start,
    }
    return Record("begun", body if agent is None else {**body, "agent": agent})


def _acts(plan: Plan, region: str, name: str) -> bool:
    state = plan.regions[region][name]
    return isinstance(state, d.State) and state.action is not None


def _take_back(state: RunState, frame: Frame) -> Record | None:
    """The next step of a rollback: what is in doubt is resolved first, then the latest call is taken back."""
    key = str(len(frame.ended))
    body: dict[str, Json] = {"frame": child_path(frame, key), "cmd": action_id(frame), "key": key, "state": UNDO}
    for intent in doubts(state, frame.home):
        region = f"{UNDO} {intent.body['tool']}"
        return Record("begun", {**body, "kind": "doubt", "region": region, "doubt": intent.cmd})
    entry = _last_done(state, frame.home)
    if entry is None or any(other.opened == entry for other in state.frames.values()):
        return None  # nothing is taken back twice: what another rollback is at is waited for
    return Record("begun", {**body, "kind": UNDO, "region": f"{UNDO} {entry['tool']}", "undo": entry["cmd"]})


def _last_done(state: RunState, home: str) -> dict[str, Json] | None:
    """The latest call of an agent that can be taken back."""
    return next((entry for entry in reversed(state.undo) if concerns(entry["cmd"], home)), None)


def doubts(state: RunState, home: str) -> list[Intent]:
    """The calls of an agent that nobody knows about and that no frame waits for any more, the first one first."""
    found = [i for i in state.intents.values() if i.unsettled == "doubt" and concerns(i.cmd, home)]
    return sorted((i for i in found if not _waited_for(state, i)), key=lambda intent: (intent.at_ms, intent.cmd))


def _waited_for(state: RunState, intent: Intent) -> bool:
    frame = state.frames.get(frame_of(intent.cmd))
    outcome = frame.outcome if frame is not None else None
    return outcome is not None and outcome["kind"] == "in_doubt" and outcome["cmd"] == intent.cmd


# ---- how it ends


def verdict(program: Program, state: RunState, frame: Frame, open_: Sequence[Frame]) -> dict[str, Json] | None:
    """The body of the `joined` event as soon as it is certain what comes of it; None while it is not."""
    opened = frame.opened
    assert opened is not None
    cmd: dict[str, Json] = {"cmd": action_id(frame)}
    if "branches" in opened:
        return _of_branches(program, state, frame, cmd)
    if "items" in opened:
        return _of_items(program, frame, cmd)
    if "agent" in opened:
        return _of_child(frame, cmd)
    if not open_ and not doubts(state, frame.home) and _last_done(state, frame.home) is None:
        return {**cmd, "how": "ok", "result": None}
    return None


def _of_branches(program: Program, state: RunState, frame: Frame, cmd: dict[str, Json]) -> dict[str, Json] | None:
    action = program.action(frame)
    assert isinstance(action, d.Parallel)
    done = [branch for branch in action.branches if frame.ended.get(branch.name, {}).get("how") == "done"]
    if len(done) >= action.need and not frame.late:
        return _joined(program, state, frame, action, cmd)
    ended = {branch.name: frame.ended[branch.name] for branch in action.branches if branch.name in frame.ended}
    lost = {name: end for name, end in ended.items() if end["how"] in _LOST}
    if frame.late or len(action.branches) - len(lost) < action.need:
        why = f"{len(done)} of {action.need} branches done" + (" when the time was over" if frame.late else "")
        told = [f"`{name}` {end['how']}" + (f": {_why(end)}" if "error" in end else "") for name, end in lost.items()]
        return {**cmd, "how": "failed", "error": "JoinFailed", "message": "; ".join([why, *told])}
    return None


_LOST = ("skipped", "failed")
"""How a frame ends by itself without being done. That one was cancelled says nothing: what it was for is certain
already, or is not asked for any more."""


def _why(end: dict[str, Json]) -> str:
    return f"{end['error']}: {end['message']}"


def _joined(
    program: Program, state: RunState, frame: Frame, action: d.Parallel, cmd: dict[str, Json]
) -> dict[str, Json]:
    """The values of the branches that are done, or their defaults."""
    results: dict[str, Json] = {}
    scope = scope_of(program, state, frame)
    for branch in action.branches:
        if branch.bind is None:
            continue
        end = frame.ended.get(branch.name, {})
        if end.get("how") == "done" and "value" in end:
            results[branch.bind] = {name: end[name] for name in ("value", "from") if name in end}
        elif branch.default is not None:
            try:
                results[branch.bind] = {"value": to_journal(program.evaluate(branch.default, scope))}
            except EvalError as error:
                message = f"the default of `{branch.name}` has no value: {error.message}"
                return {**cmd, "how": "failed", "error": "JoinFailed", "message": message}
    return {**cmd, "how": "ok", "results": results}


def _of_items(program: Program, frame: Frame, cmd: dict[str, Json]) -> dict[str, Json] | None:
    action, opened = program.action(frame), frame.opened
    assert isinstance(action, d.Each)
    assert opened is not None
    wrong = next((end for end in frame.ended.values() if end["how"] == "failed"), None)
    if wrong is not None:
        return {**cmd, "how": "failed", "error": wrong["error"], "message": wrong["message"]}
    if frame.late:
        return {**cmd, "how": "failed", "error": "Timeout", "message": "the items did not end in time"}
    if len(frame.ended) < len(opened["items"]) or any(end["how"] == "cancelled" for end in frame.ended.values()):
        return None
    ends = [frame.ended[str(n)] for n in range(len(opened["items"]))]
    kept = [end for end in ends if end["how"] == "done" and "value" in end]
    values = [end["value"] for end in kept]
    body: dict[str, Json] = {**cmd, "how": "ok", "result": _flat(values) if action.flat else values}
    came = _together([end.get("from", []) for end in kept])
    return {**body, "from": came} if came else body


def _flat(values: list[Json]) -> list[Json]:
    return [item for value in values if value is not None for item in value]


def _together(flags: list[list[str]]) -> list[str]:
    """Where a list came from: attested if all of it is, untrusted if any of it is."""
    untrusted = ["untrusted"] if any("untrusted" in found for found in flags) else []
    attested = ["attested"] if flags and all("attested" in found for found in flags) else []
    return attested + untrusted


def _of_child(frame: Frame, cmd: dict[str, Json]) -> dict[str, Json] | None:
    end = next(iter(frame.ended.values()), None)
    if end is not None and end["how"] == "done":
        body: dict[str, Json] = {**cmd, "how": "ok", "result": end["value"]}
        return {**body, "from": end["from"]} if "from" in end else body
    if end is not None and end["how"] == "failed":
        return {**cmd, "how": "failed", "error": "ChildFailed", "message": end["message"]}
    if frame.late:
        return {**cmd, "how": "failed", "error": "Timeout", "message": "the agent did not end in time"}
    return None


def input_of(opened: dict[str, Json]) -> dict[str, Any]:
    """The inputs and first values of the child that is opened."""
    return {name: from_journal(value) for part in ("input", "set") for name, value in opened[part].items()}
