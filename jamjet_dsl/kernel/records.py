"""Small makers of `Record`s and look-ups that several parts of `decide` share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.budget import Misfit
from jamjet_dsl.kernel.ids import action_id, frame_of
from jamjet_dsl.kernel.model import Await, Call, Command, Frame, Grant, Json, Record, Reserve, RunState, Think
from jamjet_dsl.kernel.program import FINALLY, UNDO, WRITES, Program
from jamjet_dsl.kernel.quick import MISS
from jamjet_dsl.kernel.scope import value_of
from jamjet_dsl.kernel.values import dumps_form, from_public

EVALUATION = "EvaluationFailed"
"""The error of a guard, a set or an output that has no value. Only `any` matches it: no program can name it."""

EXCEEDED = "Exceeded"
"""The error of a call of a rollback or of `finally` that does not fit the budget."""

DENIED = "Denied"
"""The error of a branch or an item whose call the policy refused. Only `any` matches it."""


def fault(frame: Frame, error: str, message: str, where: str) -> Record:
    """An expression of the state has no value."""
    return Record(
        "faulted", {"frame": frame.path, "cmd": action_id(frame), "error": error, "message": message, "where": where}
    )


def closed(frame: Frame, how: str, **more: Json) -> Record:
    """A frame has ended: done, skipped, failed or cancelled."""
    return Record("closed", {"frame": frame.path, "how": how, **more})


def parked(frame: Frame, reason: str, commands: list[str], cmd: str | None = None) -> Record:
    """The run waits for an operator. `commands` are what continues it, for `jam`, after the run's id."""
    body: dict[str, Json] = {"reason": reason, "frame": frame.path, "state": frame.state, "commands": commands}
    if cmd is not None:
        body["cmd"] = cmd
    return Record("parked", body)


def exceeded(frame: Frame, what: str, home: str | None = None) -> Record:
    """A budget, or a limit without an `else`, of the agent at `home` (the frame's own without one) is used up."""
    body: dict[str, Json] = {"what": what, "frame": frame.path, "state": frame.state}
    owner = frame.home if home is None else home
    return Record("exceeded", {**body, "home": owner} if owner else body)


def lacking(frame: Frame, lack: Misfit) -> Command:
    """An attempt does not fit: it waits for what others hold, or the budget is exceeded. What takes something back or
    closes has the reserve already: what does not fit even so fails, and the others go on."""
    if lack.waits:
        return Await(action_id(frame), "budget", lack.what)
    if frame.kind in (UNDO, FINALLY):
        return failed(frame, EXCEEDED, f"it does not fit the budget ({lack.what})")
    return exceeded(frame, lack.what, lack.home)


def failed(frame: Frame, error: str, message: str) -> Record:
    """The action failed before anything was sent."""
    return Record(
        "failed",
        {
            "cmd": action_id(frame),
            "error": error,
            "message": message,
            "definite": True,
            "usage": {"tokens_in": 0, "tokens_out": 0, "cost": "0"},
            "duration_ms": 0,
        },
    )


def key_refused(state: RunState, command: Call | Think) -> Record:
    """What a call comes to whose declared key stands for other arguments already. Who drives runs keeps what keys stand
    for, over all of them; such a call is never begun, and counts as none."""
    assert isinstance(command, Call)
    message = f"the key {command.key!r} of `{command.tool}` stands for other arguments"
    return failed(state.frames[frame_of(command.id)], "InvalidInput", message)


def reserve_body(reserve: Reserve) -> dict[str, Json]:
    """A reservation in an event."""
    return {"tokens": reserve.tokens, "cost": reserve.cost}


def digest_of(tool: str, args: Mapping[str, Json]) -> str:
    """What makes two calls the same: the tool and its canonical arguments (journal form)."""
    return hashlib.sha256(tool.encode() + b"\0" + dumps_form(args)).hexdigest()


def check_args(program: Program, tool: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Arguments as values in the order of the tool's parameters, and every problem they have."""
    problems: list[str] = []
    params = program.callee(tool).params
    args: dict[str, Any] = {}
    found = 0
    for name, type_, read, optional in params:
        if name in given:
            found += 1
            value = read(given[name])
            args[name] = from_public(given[name], type_, program.defn, name, problems) if value is MISS else value
        elif optional:
            args[name] = None
        else:
            problems.append(f"{name}: is missing")
    if found < len(given):
        known = {param[0] for param in params}
        problems.extend(f"{name}: `{tool}` has no such parameter" for name in given if name not in known)
    return args, problems


def open_write(program: Program, state: RunState, frame: Frame) -> bool:
    """Whether the frame's call may have happened and nobody has told yet: it must be resolved before the frame
    goes anywhere else."""
    call = frame.call
    if call is None or call["effect"] not in WRITES:
        return False
    if frame.phase in ("act", "confirm"):
        return True
    indefinite = frame.error is not None and not frame.error["definite"]
    return indefinite and frame.phase in ("enter", "backoff", "leave") and _failing(frame)


def _failing(frame: Frame) -> bool:
    return frame.outcome is None or frame.outcome["kind"] == "failed"


def edges_of(program: Program, frame: Frame, trigger: str) -> Sequence[d.Edge]:
    """The frame's state's edges with that trigger, in order."""
    return program.spot(frame).others.get(trigger, ())


def called_tool(program: Program, state: RunState, frame: Frame) -> str | None:
    """The tool that the frame's action calls, if it is one that calls."""
    if frame.call is not None:
        return str(frame.call["tool"])
    match program.action(frame):
        case d.Call(tool=tool):
            return tool
        case d.CallProposed(move=move):
            value = value_of(state, frame, move)
            call = value.get("call") if isinstance(value, dict) else None
            return call.get("tool") if isinstance(call, dict) else None
    return None


def grants_for(state: RunState, digest: str) -> list[Grant]:
    """Approvals for exactly this call that were not used yet, oldest first."""
    unused = [g for g in state.grants.values() if g.used_by is None and g.call["digest"] == digest]
    return sorted(unused, key=lambda grant: grant.seq)
