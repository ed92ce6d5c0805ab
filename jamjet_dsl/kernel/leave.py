"""Leaving a state: by which edge, once the outcome of its action is there.

After a success the result is bound and the state's `set`s run; then a queued event whose `on event` edge waits
for it, then `on OPTION` or `on join`, then guards in order, first match. After anything else only the edges for that
count, the state's own before those of the whole agent. What nobody handles parks the run; in a body (a branch, an
item, a rollback) it fails the body, and a body whose last state has no edge that fits is done.
"""

from __future__ import annotations

from decimal import Decimal

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.actions import interrupting
from jamjet_dsl.kernel.budget import account_of, out_of_steps
from jamjet_dsl.kernel.calls import confirm
from jamjet_dsl.kernel.errors import INDEFINITE
from jamjet_dsl.kernel.ids import action_id, timer_id
from jamjet_dsl.kernel.model import Command, Frame, Record, RunState, SetTimer
from jamjet_dsl.kernel.program import FINALLY, UNDO, WRITES, Program
from jamjet_dsl.kernel.records import (
    DENIED,
    EVALUATION,
    EXCEEDED,
    called_tool,
    closed,
    edges_of,
    exceeded,
    fault,
    parked,
)
from jamjet_dsl.kernel.scope import bool_of
from jamjet_dsl.kernel.values import EvalError
from jamjet_dsl.kernel.way import Way

MAX_IDLE = 1000
"""Transitions in a row without any action after which a run is parked."""


def leave(program: Program, state: RunState, frame: Frame) -> list[Command]:
    """What a frame whose outcome is known does next."""
    if frame.idle >= MAX_IDLE:
        reason = f"{MAX_IDLE} transitions in a row did nothing: the program turns in a circle"
        return [parked(frame, reason, ["cancel"])]
    if frame.fault is not None:
        return [_on_error(program, state, frame, frame.fault["error"], frame.fault["message"])]
    outcome = frame.outcome
    if outcome is None:
        return [_succeeded(program, state, frame)]
    match outcome["kind"]:
        case "ok" | "answered":
            return [_succeeded(program, state, frame)]
        case "failed":
            return _failed(program, state, frame)
        case "timeout":
            record = _by_trigger(program, state, frame, "timeout")
            return [record or _on_error(program, state, frame, "Timeout", "nothing came in time")]
        case "denied":
            return [_by_trigger(program, state, frame, "denied") or _unhandled_denial(frame)]
        case kind:
            assert kind == "in_doubt"
            return [_by_trigger(program, state, frame, "in_doubt") or _unhandled_doubt(frame)]


# ---- after a success


def _succeeded(program: Program, state: RunState, frame: Frame) -> Record:
    spot = program.spot(frame)
    here = spot.here
    assert isinstance(here, d.State)
    way = Way(program, state, frame)
    where = ""
    try:
        if frame.outcome is not None:
            way.take_outcome()
        if spot.sets and (frame.outcome is not None or here.action is None):
            way.run(spot.sets)  # not where an event ended a question or a wait: its action did not succeed
        if frame.event is not None:
            edge = next(e for e in spot.others["event"] if e.event == frame.event["name"])
            way.take_event(edge)
            return take(program, state, frame, edge, way)
        if spot.takes and state.queue:
            event = interrupting(program, state, frame)
            if event is not None:
                return event
        option = frame.outcome.get("option") if frame.outcome is not None else None
        for exit in spot.exits:
            where = exit.where
            if exit.plain:
                return take(program, state, frame, exit.edge, way)
            if exit.guard is None:
                if exit.option == option:
                    return take(program, state, frame, exit.edge, way)
            elif (held := exit.guard(way.scope)) is True or bool_of(held):
                return take(program, state, frame, exit.edge, way)
        if frame.region:
            where = f"the value of `{here.name}`"
            return closed(frame, "done", **(way.worth(here.yields) if here.yields is not None else {}))
    except EvalError as error:
        return _fault(frame, error.message, where or f"a `set` of `{here.name}`")
    return _fault(frame, "no edge is left for this case", f"the guards of `{here.name}`")


def _fault(frame: Frame, message: str, where: str) -> Record:
    """An expression failed. The first time its handler is looked for; a handler that fails itself parks the run."""
    if frame.fault is not None:
        reason = f"{where} failed while an error was handled: {message}"
        return _unhandled_doubt(frame, reason) if doubted(frame) else parked(frame, reason, ["retry", "cancel"])
    return fault(frame, EVALUATION, message, where)


def take(program: Program, state: RunState, frame: Frame, edge: d.Edge, way: Way) -> Record:
    """Goes by an edge: to its target and through its block, or to where its limit sends it."""
    limited = edge.limit is not None
    limit_used = limited and frame.counters.get(f"{frame.state}/{edge.id}", 0) >= (edge.limit or 0)
    if limit_used and edge.limit_to is None:
        return _no_way_on(frame, state, f"limit of `{edge.id}` in `{frame.state}`")
    target = edge.limit_to if limit_used else edge.target
    if target is None:
        return _leave_body(frame, edge, way)
    if edge.sets and not limit_used:
        try:
            way.run(program.sets_of(program.plan(frame), edge))
        except EvalError as error:
            return _fault(frame, error.message, f"a `set` of the edge `{edge.id}` in `{frame.state}`")
    return goto(program, state, frame, way, edge.id, target, over=limit_used, counted=limited)


def _leave_body(frame: Frame, edge: d.Edge, way: Way) -> Record:
    """By an edge that ends the branch or the item."""
    if edge.yields is None:
        return closed(frame, "skipped")
    try:
        return closed(frame, "done", **way.worth(edge.yields))
    except EvalError as error:
        return _fault(frame, error.message, f"the value of the edge `{edge.id}` in `{frame.state}`")


def goto(
    program: Program,
    state: RunState,
    frame: Frame,
    way: Way,
    edge: str,
    target: str,
    over: bool = False,
    counted: bool = False,
) -> Record:
    """The transition, unless the action behind it does not fit under the limit of steps."""
    if state.exceeded is None and target in program.spot(frame).acting:
        home = out_of_steps(program, state, frame)
        if home is not None and not _is_exceeded(state, home):
            return exceeded(frame, "steps", home)
    return way.moved(edge, target, over, counted and not over)


def _no_way_on(frame: Frame, state: RunState, what: str) -> Record:
    """A limit without `else` takes the `exceeded` edge, which exists once."""
    if not _is_exceeded(state, frame.home):
        return exceeded(frame, what)
    return parked(frame, f"the {what} is used up, and so is the budget", ["cancel"])


def _is_exceeded(state: RunState, home: str) -> bool:
    account = account_of(state, home)
    return (state.exceeded if account is None else account.exceeded) is not None


# ---- after an error


def _failed(program: Program, state: RunState, frame: Frame) -> list[Command]:
    outcome = frame.outcome
    assert outcome is not None
    indefinite = is_indefinite(program, frame)
    further = _retry(program, state, frame, indefinite)
    if further is not None:
        return [further]
    if indefinite:
        why = f"{outcome['error']}: {outcome['message']}"
        if outcome["error"] not in INDEFINITE:
            why += "; an earlier attempt may have happened"
        return [resolve(program, state, frame, why)]
    return [_on_error(program, state, frame, outcome["error"], outcome["message"])]


def is_indefinite(program: Program, frame: Frame) -> bool:
    """Whether the failed action may have happened all the same."""
    outcome, call = frame.outcome, frame.call
    if outcome is None or outcome["kind"] != "failed" or outcome["definite"]:
        return False
    return call is not None and call["effect"] in WRITES


def resolve(program: Program, state: RunState, frame: Frame, why: str) -> Command:
    """Finds out whether the call happened: by `confirm`, else it is in doubt."""
    cmd = action_id(frame)
    intent = state.intents.get(cmd)
    if intent is not None and intent.unsettled != "unknown":
        question = confirm(program, state, frame)
        if question is not None:
            return question
    return Record("in_doubt", {"cmd": cmd, "why": why})


def _retry(program: Program, state: RunState, frame: Frame, indefinite: bool) -> Command | None:
    """A further attempt, if a `retry` clause has one left. After an indefinite error only under a declared key."""
    outcome = frame.outcome
    assert outcome is not None
    if frame.kind == "doubt":
        return None  # it is asked whether the call happened; it is not to be made for that
    tool = called_tool(program, state, frame)
    if _is_too_much(program, frame, tool):
        return None  # what was spent does not come back
    if indefinite and (frame.call is None or frame.call["key"] is None):
        return None
    for index, rule in enumerate(program.retries(frame, tool)):
        if outcome["error"] not in rule.errors and "any" not in rule.errors:
            continue
        done = frame.retries.get(str(index), 0)
        if done >= rule.times:
            return None  # the first clause that matches decides, or two clauses would add up
        delay = int(rule.backoff_ms * Decimal(rule.factor) ** done)
        if rule.max_ms is not None:
            delay = min(delay, rule.max_ms)
        asked = int(outcome.get("retry_after_ms") or 0)
        wait = max(delay, asked)
        body = {"cmd": action_id(frame), "attempt": frame.attempt + 1, "rule": index}
        if wait == 0:
            return Record("retry", {**body, "at_ms": state.now_ms})
        spread = wait - asked if rule.jitter == "full" else 0
        timer = timer_id(f"{frame.path}#{frame.visit}.{frame.attempt + 1}", "retry")
        return SetTimer(timer, outcome["at_ms"] + wait, spread, "retry", body)
    return None


def _is_too_much(program: Program, frame: Frame, tool: str | None) -> bool:
    """Whether a call that may use the reserve does not fit the budget even so. A tool may raise such a name too."""
    declared = program.defn.tools.get(tool) if tool is not None else None
    its_own = declared is not None and EXCEEDED in declared.raises
    assert frame.outcome is not None
    return frame.kind in (UNDO, FINALLY) and frame.outcome["error"] == EXCEEDED and not its_own


def _on_error(program: Program, state: RunState, frame: Frame, error: str, text: str) -> Record:
    for edge in edges_of(program, frame, "error"):
        if error in edge.errors or "any" in edge.errors:
            way = Way(program, state, frame)
            way.take_outcome()
            return take(program, state, frame, edge, way)
    if frame.region and not doubted(frame):
        return closed(frame, "failed", error=error, message=text)
    for index, handler in enumerate(() if frame.region else program.plan(frame).handlers.get("error", ())):
        # A state that is itself the handler must not be its own way out: that would turn for ever.
        if (error in handler.errors or "any" in handler.errors) and handler.target != frame.state:
            return _by_handler(program, state, frame, f"agent on error#{index}", handler)
    if doubted(frame):
        # What failed is the handling of the doubt, and that is what it was: it never becomes an ordinary error (§10.5).
        return _unhandled_doubt(frame, f"{error}: {text}")
    return parked(frame, f"{error}: {text}", ["retry", "cancel"], action_id(frame))


def _by_handler(program: Program, state: RunState, frame: Frame, edge: str, handler: d.HandlerDef) -> Record:
    way = Way(program, state, frame)
    way.take_outcome()
    return goto(program, state, frame, way, edge, handler.target)


def _by_trigger(program: Program, state: RunState, frame: Frame, trigger: str) -> Record | None:
    for edge in edges_of(program, frame, trigger):
        way = Way(program, state, frame)
        way.take_outcome()
        return take(program, state, frame, edge, way)
    handlers = () if frame.region else program.plan(frame).handlers.get(trigger, ())
    for index, handler in enumerate(handlers):
        if handler.target != frame.state:
            return _by_handler(program, state, frame, f"agent on {trigger}#{index}", handler)
    return None


def _unhandled_denial(frame: Frame) -> Record:
    assert frame.outcome is not None
    reason = f"the policy refused `{frame.outcome['tool']}`: {frame.outcome['decision']['reason']}"
    if frame.region:
        return closed(frame, "failed", error=DENIED, message=reason)
    return parked(frame, reason, ["retry", "cancel"], action_id(frame))


def doubted(frame: Frame) -> bool:
    """Whether it is not known if the frame's call happened: money that may be gone comes first."""
    return frame.outcome is not None and frame.outcome["kind"] == "in_doubt"


def _unhandled_doubt(frame: Frame, failed: str = "") -> Record:
    """Nobody can go on before a person has told. `failed`: why what was to be done about it could not be done."""
    assert frame.outcome is not None
    assert frame.call is not None
    reason = f"`{frame.call['tool']}` may or may not have happened: {frame.outcome['why']}" + (
        f"; {failed}" if failed else ""
    )
    cmd = frame.outcome["cmd"]
    settle = "settle" if frame.parent is None else f"settle --call {cmd}"
    return parked(frame, reason, [f"{settle} --happened", f"{settle} --did-not-happen", "cancel"], cmd)
