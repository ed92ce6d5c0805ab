"""The machine: `apply` folds an event into a state, `decide` says what comes next. Both are pure.

`decide` looks at the run as a whole first (an operator's stop, the budget, a cancellation), then at the frames, from
the root down: one whose own frames are at work begins the next, waits, stops them or joins them; any other by its
phase: `enter` and `act` (actions, calls), `ask` and `wait`, `backoff`, `confirm`, `leave`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, assert_never

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.actions import enter_ask, enter_emit, enter_think, enter_wait
from jamjet_dsl.kernel.budget import account_of, caps_at, out_of_steps, overdue, spares, warn_level
from jamjet_dsl.kernel.calls import confirm, enter_call
from jamjet_dsl.kernel.fold import agents, apply
from jamjet_dsl.kernel.ids import action_id, timer_id
from jamjet_dsl.kernel.leave import doubted, is_indefinite, leave, resolve
from jamjet_dsl.kernel.model import (
    ENDED,
    Await,
    Call,
    CancelAction,
    Command,
    Event,
    Frame,
    Json,
    Record,
    RunState,
    SetTimer,
    Think,
)
from jamjet_dsl.kernel.opening import begin_next, end_of, open_action, verdict
from jamjet_dsl.kernel.outcomes import UNANSWERED
from jamjet_dsl.kernel.program import FINALLY, UNDO, WRITES, Program
from jamjet_dsl.kernel.records import EVALUATION, closed, exceeded, fault, open_write, parked, reserve_body
from jamjet_dsl.kernel.scope import ATTESTED, UNTRUSTED, scope_of
from jamjet_dsl.kernel.values import EvalError, to_journal
from jamjet_dsl.kernel.way import Way

Tree: TypeAlias = Mapping[str, Sequence[Frame]]
"""The open frames by the path of the frame that has opened them."""

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
    awaits that are open. Empty when the run has ended or has not started."""
    if not state.frames or state.status in ENDED:
        return []
    for body in state.overruns:
        return [Record("overrun", body)]
    if program.warns:
        for home in agents(state):
            level = warn_level(program.plan(state.frames[home]).agent.budget, state, home)
            if level is not None:
                return [Record("spent", level)]
    if state.diverted == "cancel":
        return _cancelled(program, state)
    if state.parked is not None:
        return _in_flight(program, state)
    root = state.frames[""]
    return _at(program, state, root, _tree(state), stop=False)


def _tree(state: RunState) -> Tree:
    if len(state.frames) == 1:
        return {}
    tree: dict[str, list[Frame]] = {}
    for path in sorted(state.frames):
        frame = state.frames[path]
        if frame.parent is not None:
            tree.setdefault(frame.parent, []).append(frame)
    return tree


def _in_flight(program: Program, state: RunState) -> list[Command]:
    """While a run is parked nothing begins; what is in flight is wanted all the same."""
    found: list[Command] = []
    for path in sorted(state.frames):
        if path != (state.parked or {}).get("frame"):
            commands = _at_work(program, state, state.frames[path])
            found += [c for c in commands if isinstance(c, Call | Think) and c.intent is None]
    return found


def _at_work(program: Program, state: RunState, frame: Frame) -> list[Command]:
    """What may be in flight for a frame: its action, or the question whether that happened."""
    held = state.intents.get(action_id(frame))
    if held is not None and held.unsettled in UNANSWERED:
        question = confirm(program, state, frame)
        return [] if question is None else [question]
    here = program.state(frame)
    if frame.phase not in ("act", "enter") or isinstance(here, d.Final) or here.action is None:
        return []
    return _phase(program, state, frame, here)


def _is_decided(commands: Sequence[Command]) -> bool:
    """Whether there is something final among them: a record, or the time of a further attempt."""
    return any(isinstance(c, Record) or (isinstance(c, SetTimer) and c.record == "retry") for c in commands)


# ---- frames


def _at(program: Program, state: RunState, frame: Frame, tree: Tree, stop: bool) -> list[Command]:
    """What comes next in a frame and below it. `stop`: it is not wanted any more, and ends as soon as it may."""
    if frame.phase == FINALLY:
        return _finally(program, state, frame, tree)
    if frame.phase != "join":
        return _stopping(program, state, frame) if stop else _frame(program, state, frame)
    is_home = frame.path == frame.home
    late = _overdue(program, state, frame) if is_home and not stop else None
    if late is not None:
        return [late]
    below = tree.get(frame.path, ())
    diverted = is_home and _diverted(state, frame) is not None
    settled = verdict(program, state, frame, below)
    halt = stop or diverted or settled is not None
    if not halt:
        record = begin_next(program, state, frame, below)
        if record is not None:
            return [record]
    commands = _below(program, state, below, tree, halt)
    if below or not halt:
        return commands  # none of its own: a rollback that waits for what another one is taking back
    if settled is not None:
        return [Record("joined", settled)]
    return _exceeded(program, state, frame) if diverted and not stop else _stopping(program, state, frame)


def _below(program: Program, state: RunState, frames: Sequence[Frame], tree: Tree, stop: bool) -> list[Command]:
    """What one frame decides stands alone: whatever the others want is decided again once it is applied."""
    commands: list[Command] = []
    for child in frames:
        step = _at(program, state, child, tree, stop)
        if _is_decided(step):
            return step
        commands += step
    return commands


def _finally(program: Program, state: RunState, frame: Frame, tree: Tree) -> list[Command]:
    """An agent is at its end, and does what it does at every end. Nothing but `cancel --now` stops that."""
    below = tree.get(frame.path, ())
    if below:
        return _below(program, state, below, tree, stop=False)
    record = begin_next(program, state, frame, below)
    if record is not None:
        return [record]
    assert frame.opened is not None
    return [_end(program, state, frame, frame.opened["end"])]


def _end(program: Program, state: RunState, frame: Frame, end: dict[str, Json]) -> Record:
    """The end of the root or of a child, after its `finally`."""
    if frame.kind != "agent" and end["status"] == "cancelled":
        writes = {cmd for cmd, intent in state.intents.items() if intent.body["effect"] in WRITES}
        unresolved = sorted(writes.union(state.unresolved, end.get("unresolved", ())))
        if unresolved:
            end = {**end, "unresolved": unresolved}
    return end_of(program, frame, end)


def _stopping(program: Program, state: RunState, frame: Frame) -> list[Command]:
    """A frame that is not wanted any more: a write in flight is waited for, and what may have happened is resolved."""
    if open_write(program, state, frame):
        return _resolving(program, state, frame)
    if doubted(frame) and state.diverted != "cancel":
        return leave(program, state, frame)
    if frame.kind == UNDO and frame.outcome is not None and frame.outcome["kind"] == "ok":
        return leave(program, state, frame)  # what was taken back must not be taken back again
    end: dict[str, Json] = {"frame": frame.path, "how": "cancelled"}
    record = end_of(program, frame, end) if frame.kind == "agent" else closed(frame, "cancelled")
    return [*_stop(state, frame), record]


def _frame(program: Program, state: RunState, frame: Frame) -> list[Command]:
    here = program.spot(frame).here
    if isinstance(here, d.Final):
        return [_finish(program, state, frame, here)]
    if frame.path == frame.home:
        late = _overdue(program, state, frame)
        if late is not None:
            return [late]
        if _diverted(state, frame) is not None:
            return _exceeded(program, state, frame)
    return _phase(program, state, frame, here)


def _overdue(program: Program, state: RunState, frame: Frame) -> Record | None:
    if exceeded_in(state, frame) is not None:
        return None
    what = overdue(program, state, frame.home)
    return None if what is None else exceeded(frame, what)


def exceeded_in(state: RunState, frame: Frame) -> str | None:
    """What of the budget of the frame's agent is used up."""
    account = account_of(state, frame.home)
    return state.exceeded if account is None else account.exceeded


def _diverted(state: RunState, frame: Frame) -> str | None:
    account = account_of(state, frame.home)
    return state.diverted if account is None else account.diverted


def _phase(program: Program, state: RunState, frame: Frame, here: d.State) -> list[Command]:
    if frame.made is not None:
        return [frame.made]
    if here.action is None or frame.phase == "leave":
        return leave(program, state, frame)
    match frame.phase:
        case "confirm":
            return [_confirming(program, state, frame)]
        case "backoff":
            timer = timer_id(action_id(frame), "retry")
            return [Await(action_id(frame), "timer", timer, state.timers.get(timer))]
        case "enter" if frame.attempt == 1 and frame.call is None:
            refusal = _may_enter(program, state, frame, here.action)
            return [refusal] if refusal is not None else _enter(program, state, frame, here.action)
        case "enter" | "act" | "ask" | "wait":
            return _enter(program, state, frame, here.action)
        case _:
            return leave(program, state, frame)


def _may_enter(program: Program, state: RunState, frame: Frame, action: d.Action) -> Record | None:
    """After the budget is exceeded only finals, `set`s, guards and `undo all` are left."""
    used_up = exceeded_in(state, frame)
    if used_up is not None and action.kind != "undo_all" and not spares(state, frame):
        return parked(frame, f"the budget is exceeded ({used_up}): `{frame.state}` may not act", ["cancel"])
    if used_up is None and frame.path == frame.home:
        cap, account = caps_at(program, state, frame.home).steps, account_of(state, frame.home)
        if cap is not None and (state.spent.steps if account is None else account.steps) > cap:
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
            return open_action(program, state, frame, action)
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
    if frame.call is not None and frame.call["key"] is not None:
        return Record("recovered", {"cmd": cmd, "how": "key", "usage": reserve_body(intent.reserve)})
    return Record("in_doubt", {"cmd": cmd, "why": "the process ended before its outcome was known"})


def _finish(program: Program, state: RunState, frame: Frame, final: d.Final) -> Record:
    """The end of an agent or a body: outputs are evaluated as the final is entered."""
    scope = scope_of(program, state, frame)
    output: dict[str, Json] = {}
    for name, expr in final.outputs.items():
        try:
            output[name] = to_journal(program.evaluate(expr, scope))
        except EvalError as error:
            return _final_fault(program, state, frame, f"the output `{name}` has no value: {error.message}")
    if frame.parent is None:
        status = "cancelled" if state.cancelling is not None else "failed" if final.failed else "completed"
        return _end(program, state, frame, {"status": status, "state": final.name, "output": output})
    end: dict[str, Json] = {"frame": frame.path, "how": "done"}
    if final.failed:
        end |= {"how": "failed", "error": "ChildFailed", "message": f"it ended in `{final.name}`"}
    if output or frame.kind == "agent":
        end["value"] = output
        flags = [scope.flags(program.reads(expr)) for expr in final.outputs.values()]
        came = sorted(
            ({ATTESTED} if flags and all(ATTESTED in f for f in flags) else set())
            | ({UNTRUSTED} if any(UNTRUSTED in f for f in flags) else set())
        )
        if came:
            end["from"] = came
    return end_of(program, frame, end) if frame.kind == "agent" else Record("closed", end)


def _final_fault(program: Program, state: RunState, frame: Frame, message: str) -> Record:
    """An output that fails goes to the agent's handler once; a second time, and without one, the run parks."""
    if frame.region:
        return closed(frame, "failed", error=EVALUATION, message=message)
    if frame.fault is None and not frame.counters.get(f"{frame.state}/fault"):
        return fault(frame, EVALUATION, message, f"the final `{frame.state}`")
    for index, handler in enumerate(program.plan(frame).handlers.get("error", ())):
        if frame.fault is not None and "any" in handler.errors and handler.target != frame.state:
            return Way(program, state, frame).moved(f"agent on error#{index}", handler.target)
    return parked(frame, message, ["cancel"])


# ---- what concerns a whole agent


def _exceeded(program: Program, state: RunState, frame: Frame) -> list[Command]:
    """The budget is used up: to where it says, as soon as no write is in flight."""
    if open_write(program, state, frame):
        return _resolving(program, state, frame)
    if doubted(frame):
        return leave(program, state, frame)
    budget = program.plan(frame).agent.budget
    target = budget.exceeded if budget is not None else None
    what = exceeded_in(state, frame)
    if target is not None:
        return [*_stop(state, frame), _divert(program, state, frame, "exceeded", target)]
    reason = f"the budget is exceeded ({what})"
    if frame.parent is None:
        return [*_stop(state, frame), parked(frame, reason, ["cancel"])]
    end: dict[str, Json] = {"frame": frame.path, "how": "failed", "error": "ChildFailed", "message": reason}
    return [*_stop(state, frame), end_of(program, frame, end)]


def _cancelled(program: Program, state: RunState) -> list[Command]:
    """Cancellation was asked for: by the handler if there is one, unless `now`."""
    assert state.cancelling is not None
    frame = state.frames[""]
    if state.cancelling.get("now"):
        return _cancelled_now(program, state, frame)
    if frame.phase == FINALLY:
        return _finally(program, state, frame, _tree(state))
    if state.parked is None and frame.phase == "join":
        tree = _tree(state)
        below = tree.get("", ())
        if below:
            return _below(program, state, below, tree, stop=True)
        settled = verdict(program, state, frame, below)
        if settled is not None:
            return [Record("joined", settled)]
    if state.parked is None and open_write(program, state, frame):
        return _resolving(program, state, frame)
    handlers = program.main.handlers.get("cancel", [])
    here = program.state(frame)
    if not handlers or isinstance(here, d.Final):
        return [*_stop(state, frame), _end(program, state, frame, _cancelled_at(frame))]
    target = handlers[0].target
    if state.exceeded is None and target in program.main.acting[""] and out_of_steps(program, state, frame) is not None:
        return [exceeded(frame, "steps")]
    return [*_stop(state, frame), _divert(program, state, frame, "cancel", target)]


def _cancelled_at(frame: Frame) -> dict[str, Json]:
    return {"status": "cancelled", "state": frame.state, "output": {}}


def _cancelled_now(program: Program, state: RunState, root: Frame) -> list[Command]:
    """Without delay: frames are closed as they are, and writes in flight are noted. `finally` is done, unless it is
    that which is to be cut short."""
    for path in sorted(state.frames, reverse=True):
        frame = state.frames[path]
        if frame.parent is not None:
            writes = [c for c, i in state.intents.items() if i.body["effect"] in WRITES and c.startswith(f"{path}#")]
            return [*_stop(state, frame), closed(frame, "cancelled", **({"unresolved": writes} if writes else {}))]
    if root.phase == FINALLY and root.opened is not None:
        return [_end(program, state, root, root.opened["end"])]
    return [*_stop(state, root), _end(program, state, root, _cancelled_at(root))]


def _resolving(program: Program, state: RunState, frame: Frame) -> list[Command]:
    """A write in flight is waited for; one that failed indefinitely is resolved, without further attempts."""
    if frame.phase == "leave" and is_indefinite(program, frame):
        return [resolve(program, state, frame, "it failed while the run was to be stopped")]
    if frame.phase == "confirm":
        # Not under its key: that would be a further attempt. `confirm` that was asked need not be asked again.
        return [resolve(program, state, frame, "the process ended before its outcome was known")]
    if frame.phase in ("enter", "backoff"):
        return [resolve(program, state, frame, "it was not tried again because the run was to be stopped")]
    here = program.state(frame)
    assert isinstance(here, d.State)
    return _phase(program, state, frame, here)


def _divert(program: Program, state: RunState, frame: Frame, edge: str, target: str) -> Record:
    """Leaves for a handler of the whole run; what the action gave is bound and the state's `set`s run all the same,
    unless one of them fails."""
    way = Way(program, state, frame)
    here = program.state(frame)
    done = frame.outcome is not None and frame.outcome["kind"] in ("ok", "answered")
    way.take_outcome()
    if isinstance(here, d.State) and frame.fault is None and (done or here.action is None):
        kept = (way.scope.nested({}), dict(way.sets), dict(way.appended), dict(way.flags))
        try:
            way.run(program.spot(frame).sets)
        except EvalError:
            way.scope, way.sets, way.appended, way.flags = kept
    return way.moved(edge, target)


def _stop(state: RunState, frame: Frame) -> list[Command]:
    """What is in flight below this frame and no longer wanted."""
    if frame.phase != "act" and not any(cmd.startswith(f"{action_id(frame)}/") for cmd in state.intents):
        return []
    return [CancelAction(cmd) for cmd in sorted(state.intents) if cmd.startswith(action_id(frame))]
