"""The machine: `apply` folds an event into a state, `decide` says what comes next. Both are pure.

`decide` looks at the run as a whole first (an operator's stop, the budget, a cancellation), then at each frame
by its phase: `enter` and `act` (actions, calls), `ask` and `wait`, `backoff`, `confirm`, `leave`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.actions import enter_ask, enter_emit, enter_think, enter_wait
from jamjet_dsl.kernel.budget import overdue, warn_level
from jamjet_dsl.kernel.calls import confirm, enter_call
from jamjet_dsl.kernel.fold import apply
from jamjet_dsl.kernel.ids import action_id, timer_id
from jamjet_dsl.kernel.leave import is_indefinite, leave, resolve
from jamjet_dsl.kernel.model import (
    ENDED,
    Await,
    CancelAction,
    Command,
    Event,
    Frame,
    Json,
    Record,
    RunState,
)
from jamjet_dsl.kernel.program import WRITES, Program
from jamjet_dsl.kernel.records import EVALUATION, exceeded, fault, open_write, parked
from jamjet_dsl.kernel.scope import scope_of
from jamjet_dsl.kernel.values import EvalError, to_journal
from jamjet_dsl.kernel.way import Way

__all__ = ["apply", "decide", "due", "fold", "initial", "next_wake"]


def initial(run_id: str) -> RunState:
    """A run before its first event."""
    return RunState(run_id)


def fold(program: Program, run_id: str, events: Iterable[Event]) -> RunState:
    """The state after a journal."""
    state = initial(run_id)
    for event in events:
        state = apply(program, state, event)
    return state


def due(state: RunState, now_ms: int) -> list[tuple[str, dict[str, Json]]]:
    """The `fired` events of all timers that are due, the earliest first."""
    ready = sorted((at, name) for name, at in state.timers.items() if at <= now_ms)
    return [("fired", {"id": name}) for _, name in ready]


def next_wake(state: RunState) -> int | None:
    """When the first timer is due (milliseconds since 1970), or None without one."""
    return min(state.timers.values(), default=None)


def decide(program: Program, state: RunState) -> list[Command]:
    """What comes next, in order: at most one Record (with what it cancels before it), or else all effects and
    awaits that are open. Empty when the run has ended, is parked or has not started."""
    if not state.frames or state.status in ENDED:
        return []
    for body in state.overruns:
        return [Record("overrun", body)]
    level = warn_level(program.agent.budget, state)
    if level is not None:
        return [Record("spent", level)]
    if state.diverted == "cancel":
        return _cancelled(program, state)
    if state.parked is not None:
        return []
    commands: list[Command] = []
    for path in sorted(state.frames):
        step = _frame(program, state, state.frames[path])
        if any(isinstance(command, Record) for command in step):
            return step
        commands += step
    return commands


# ---- one frame


def _frame(program: Program, state: RunState, frame: Frame) -> list[Command]:
    here = program.state(frame.state)
    if isinstance(here, d.Final):
        return [_finish(program, state, frame, here)]
    if state.exceeded is None:
        what = overdue(program.caps, state)
        if what is not None:
            return [exceeded(frame, what)]
    if state.diverted == "exceeded":
        return _exceeded(program, state, frame)
    return _phase(program, state, frame, here)


def _phase(program: Program, state: RunState, frame: Frame, here: d.State) -> list[Command]:
    match frame.phase:
        case "leave":
            return leave(program, state, frame)
        case "confirm":
            return [_confirming(program, state, frame)]
        case "backoff":
            timer = timer_id(action_id(frame), "retry")
            return [Await(action_id(frame), "timer", timer, state.timers.get(timer))]
        case "enter" if here.action is not None and frame.attempt == 1 and frame.call is None:
            refusal = _may_enter(program, state, frame, here.action)
            return [refusal] if refusal is not None else _enter(program, state, frame, here.action)
        case "enter" | "act" | "ask" | "wait" if here.action is not None:
            return _enter(program, state, frame, here.action)
        case _:
            return leave(program, state, frame)


def _may_enter(program: Program, state: RunState, frame: Frame, action: d.Action) -> Record | None:
    """After the budget is exceeded only finals, `set`s, guards and `undo all` are left."""
    if state.exceeded is not None and action.kind != "undo_all":
        return parked(frame, f"the budget is exceeded ({state.exceeded}): `{frame.state}` may not act", ["cancel"])
    cap = program.caps.steps
    if cap is not None and state.spent.steps > cap:
        return exceeded(frame, "steps")
    return None


def _enter(program: Program, state: RunState, frame: Frame, action: d.Action) -> list[Command]:
    match action:
        case d.Call() | d.CallProposed() | d.CallApproved():
            return enter_call(program, state, frame, action)
        case d.Think():
            return enter_think(program, state, frame, action)
        case d.Ask():
            return enter_ask(program, state, frame, action)
        case d.Wait():
            return enter_wait(program, state, frame, action)
        case d.Emit():
            return enter_emit(program, state, frame, action)
        case d.RunAgent() | d.Each() | d.UndoAll() | d.Parallel():
            raise AssertionError(f"`{action.kind}` is refused by `unsupported` before a run starts")
        case _:
            assert_never(action)


def _confirming(program: Program, state: RunState, frame: Frame) -> Command:
    """A call that was found without outcome: `confirm` first, then the declared key, then a person."""
    cmd = action_id(frame)
    intent = state.intents[cmd]
    if intent.unsettled == "recovery":
        question = confirm(program, state, frame)
        if question is not None:
            return question
    if frame.call is not None and frame.call["key"] is not None and state.diverted is None:
        return Record("recovered", {"cmd": cmd, "how": "key"})
    return Record("in_doubt", {"cmd": cmd, "why": "the process ended before its outcome was known"})


def _finish(program: Program, state: RunState, frame: Frame, final: d.Final) -> Record:
    """The end: outputs are evaluated as the final is entered."""
    scope = scope_of(program, state, frame)
    output: dict[str, Json] = {}
    for name, expr in final.outputs.items():
        try:
            output[name] = to_journal(program.evaluate(expr, scope))
        except EvalError as error:
            return _final_fault(program, state, frame, f"the output `{name}` has no value: {error.message}")
    status = "cancelled" if state.cancelling is not None else "failed" if final.failed else "completed"
    return Record("finished", {"status": status, "state": final.name, "output": output})


def _final_fault(program: Program, state: RunState, frame: Frame, message: str) -> Record:
    """An output that fails goes to the agent's handler once; a second time, and without one, the run parks."""
    if frame.fault is None and not frame.counters.get(f"{frame.state}/fault"):
        return fault(frame, EVALUATION, message, f"the final `{frame.state}`")
    for index, handler in enumerate(program.handlers.get("error", ())):
        if frame.fault is not None and "any" in handler.errors and handler.target != frame.state:
            return Way(program, state, frame).moved(f"agent on error#{index}", handler.target)
    return parked(frame, message, ["cancel"])


# ---- what concerns the whole run


def _exceeded(program: Program, state: RunState, frame: Frame) -> list[Command]:
    """The budget is used up: to where it says, as soon as no write is in flight."""
    if open_write(program, state, frame):
        return _resolving(program, state, frame)
    if _in_doubt(frame):
        return leave(program, state, frame)
    target = program.agent.budget.exceeded if program.agent.budget is not None else None
    if target is None:
        return [*_stop(state, frame), parked(frame, f"the budget is exceeded ({state.exceeded})", ["cancel"])]
    return [*_stop(state, frame), _divert(program, state, frame, "exceeded", target)]


def _cancelled(program: Program, state: RunState) -> list[Command]:
    """Cancellation was asked for: by the handler if there is one, unless `now`."""
    assert state.cancelling is not None
    frame = state.frames[""]
    now = bool(state.cancelling.get("now"))
    if not now and state.parked is None and open_write(program, state, frame):
        return _resolving(program, state, frame)
    handlers = program.handlers.get("cancel", [])
    here = program.state(frame.state)
    if now or not handlers or isinstance(here, d.Final):
        unresolved = sorted(c for c, i in state.intents.items() if i.body["effect"] in WRITES)
        end: dict[str, Json] = {"status": "cancelled", "state": frame.state, "output": {}}
        if unresolved:
            end["unresolved"] = unresolved
        return [*_stop(state, frame), Record("finished", end)]
    return [*_stop(state, frame), _divert(program, state, frame, "cancel", handlers[0].target)]


def _resolving(program: Program, state: RunState, frame: Frame) -> list[Command]:
    """A write in flight is waited for; one that failed indefinitely is resolved, without further attempts."""
    if frame.phase == "leave" and is_indefinite(program, frame):
        return [resolve(program, state, frame, "it failed while the run was to be stopped")]
    if frame.phase in ("enter", "backoff"):
        return [resolve(program, state, frame, "it was not tried again because the run was to be stopped")]
    here = program.state(frame.state)
    assert isinstance(here, d.State)
    return _phase(program, state, frame, here)


def _in_doubt(frame: Frame) -> bool:
    """Money that may be gone comes first: `on in_doubt`, or a person."""
    return frame.phase == "leave" and frame.outcome is not None and frame.outcome["kind"] == "in_doubt"


def _divert(program: Program, state: RunState, frame: Frame, edge: str, target: str) -> Record:
    """Leaves for a handler of the whole run; what the action gave is bound and the state's `set`s run all the same,
    unless one of them fails."""
    way = Way(program, state, frame)
    here = program.state(frame.state)
    done = frame.outcome is not None and frame.outcome["kind"] in ("ok", "answered")
    way.take_outcome()
    if isinstance(here, d.State) and frame.fault is None and (done or here.action is None):
        kept = (way.scope, dict(way.sets), dict(way.appended), dict(way.flags))
        try:
            way.run(here.sets)
        except EvalError:
            way.scope, way.sets, way.appended, way.flags = kept
    return way.moved(edge, target)


def _stop(state: RunState, frame: Frame) -> list[Command]:
    """What is in flight below this frame and no longer wanted."""
    if frame.phase != "act" and not any(cmd.startswith(f"{action_id(frame)}/") for cmd in state.intents):
        return []
    return [CancelAction(cmd) for cmd in sorted(state.intents) if cmd.startswith(action_id(frame))]
