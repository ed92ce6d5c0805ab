"""Entering a state that thinks, asks, waits or emits."""

from __future__ import annotations

from collections.abc import Mapping

from jamjet_dsl import definition as d
from jamjet_dsl.kernel import rules
from jamjet_dsl.kernel.binding import lapsed, policy_digest
from jamjet_dsl.kernel.budget import misfit, think_reserve
from jamjet_dsl.kernel.calls import Refused, counting, decided, declared_call, proposed_call
from jamjet_dsl.kernel.expr.access import ABSENT
from jamjet_dsl.kernel.ids import action_id, timer_id
from jamjet_dsl.kernel.model import Ask, Await, Command, Frame, Json, Question, Record, RunState, SetTimer, Think
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.records import digest_of, fault, grants_for, lacking, reserve_body
from jamjet_dsl.kernel.scope import UNTRUSTED, Scope, scope_of, value_of
from jamjet_dsl.kernel.values import EvalError, Timestamp, from_journal, to_journal

# ---- think


def enter_think(program: Program, state: RunState, frame: Frame, action: d.Think) -> list[Command]:
    """Asks the model, if the worst case of this attempt fits the budget."""
    cmd = action_id(frame)
    open_intent = state.intents.get(cmd)
    if open_intent is not None:
        frame.made = _think(program, state, frame, action, open_intent.body, None)
        return [frame.made]
    scope = scope_of(program, state, frame)
    try:
        prompt = program.evaluate(action.prompt, scope)
        given = _labelled(program, scope, action.given)
    except EvalError as error:
        return [fault(frame, "InvalidInput", error.message, "what the model is given")]
    chat = value_of(state, frame, action.chat) if action.chat else None
    size = len(str(prompt).encode()) + len(str(given).encode()) + len(str(chat or "").encode())
    model = program.defn.models.get(action.model) if action.model else None
    reserve = think_reserve(program, state, frame, action, model, size)
    lack = misfit(program, state, frame, reserve)
    if lack is not None:
        return [lacking(frame, lack)]
    body: dict[str, Json] = {
        "cmd": cmd,
        "does": "think",
        "model": action.model,
        "prompt": prompt,
        "given": given,
        "effect": "reads",
        "reserve": reserve_body(reserve),
    }
    if UNTRUSTED in _told(program, scope, action):
        body["untrusted"] = True
    return [_think(program, state, frame, action, body, body)]


def _told(program: Program, scope: Scope, action: d.Think) -> frozenset[str]:
    names = set(program.reads(action.prompt)).union(*(program.reads(given.value) for given in action.given))
    return scope.flags(names | ({action.chat} if action.chat else set()))


def _labelled(program: Program, scope: Scope, given: tuple[d.GivenDef, ...]) -> list[Json]:
    """Labels with values in journal form. What is optional and not set is left out."""
    found: list[Json] = []
    for item in given:
        try:
            value = program.evaluate(item.value, scope)
        except EvalError as error:
            if item.optional and error.reason in ABSENT:
                continue
            raise
        if not (item.optional and value is None):
            found.append([item.label, to_journal(value)])
    return found


def _think(
    program: Program,
    state: RunState,
    frame: Frame,
    action: d.Think,
    body: Mapping[str, Json],
    intent: dict[str, Json] | None,
) -> Think:
    error = frame.error
    return Think(
        id=action_id(frame),
        state=program.label(frame),
        model=action.model,
        prompt=body["prompt"],
        given=tuple((label, from_journal(value)) for label, value in body["given"]),
        messages=tuple(value_of(state, frame, action.chat) or ()) if action.chat else None,
        tools=action.tools,
        result_type=action.result,
        max_prompt=action.max_prompt,
        max_tokens=action.max_tokens,
        temperature=action.temperature,
        timeout_ms=action.timeout_ms,
        attempt=frame.attempt,
        previous_error=error["message"] if error is not None and error["error"] == "InvalidOutput" else None,
        intent=intent,
    )


# ---- ask


def enter_ask(program: Program, state: RunState, frame: Frame, action: d.Ask) -> list[Command]:
    """Opens the question; with a call to approve, once the policy has not denied it."""
    question = next((q for q in state.questions.values() if q.frame == frame.path), None)
    if question is not None:
        record = expired(state, question) or interrupting(program, state, frame)
        if record is not None:
            return [record]
        return [Await(action_id(frame), "question", question.id, question.expires_at_ms)]
    scope = scope_of(program, state, frame)
    try:
        body = _question(program, state, frame, action, scope)
        frozen = _offer(program, state, frame, action, scope)
    except EvalError as error:
        return [fault(frame, "InvalidInput", error.message, "the question")]
    except Refused as refused:
        return [refused.record]
    if isinstance(frozen, list):
        return frozen
    return [Ask(action_id(frame), {**body, **frozen})]


def _question(program: Program, state: RunState, frame: Frame, action: d.Ask, scope: Scope) -> dict[str, Json]:
    body: dict[str, Json] = {
        "cmd": action_id(frame),
        "state": program.label(frame),
        "role": action.role,
        "text": program.evaluate(action.text, scope),
        "show": _labelled(program, scope, action.show),
        "options": [{"name": option.name, "approves": option.approves} for option in action.options],
        "form": [field.model_dump(mode="json", exclude_defaults=True) for field in action.form],
    }
    if action.timeout_ms is not None:
        body["expires_at_ms"] = state.now_ms + action.timeout_ms
    if action.remind_ms is not None:
        body["remind_ms"] = action.remind_ms
    return body


def _offer(
    program: Program, state: RunState, frame: Frame, action: d.Ask, scope: Scope
) -> dict[str, Json] | list[Command]:
    """The frozen call that an approving option grants, decided now; nothing where the question offers none."""
    if action.call is not None:
        tool, args, flags = declared_call(program, scope, frame, action.call.tool, action.call.args)
    elif action.proposed is not None:
        tool, args, flags = proposed_call(program, state, frame, action.proposed, action.tools)
    else:
        return {}
    call = to_journal(args)
    digest = digest_of(tool, call)
    grants = [grant for grant in grants_for(state, digest) if not lapsed(grant, state.now_ms)]
    decision = decided(program, state, scope, frame, tool, args, flags, grants, offered=frame.state)
    if not isinstance(decision, rules.Decision):
        return decision
    held = decision.verdict != "denied"
    if not held and state.policy == "enforce":
        return [Record("denied", {"cmd": action_id(frame), "tool": tool, "args": call, "decision": decision.body()})]
    count = counting(state, action_id(frame), decision)
    if count is not None:
        return [count]
    policy = policy_digest(program, state, frame, tool)
    frozen: dict[str, Json] = {"tool": tool, "args": call, "digest": digest, "policy": policy}
    if any(flags.values()):
        frozen["from"] = {name: sorted(flag) for name, flag in flags.items()}
    offer: dict[str, Json] = {"call": frozen, "decision": decision.body(enforced=held)}
    return offer if action.timeout_ms is None else {**offer, "holds_ms": action.timeout_ms}


# ---- wait


def enter_wait(program: Program, state: RunState, frame: Frame, action: d.Wait) -> list[Command]:
    """Waits for a time, or for an event that may lie in the queue already."""
    cmd = action_id(frame)
    if action.event is not None and any(e["name"] == action.event for e in state.queue):
        return [consume(state, frame, action.event)]
    event = interrupting(program, state, frame)
    if event is not None:
        return [event]
    deadline = timer_id(cmd, "wait" if action.event is None else "timeout")
    if deadline in state.timers:
        at_ms = state.timers[deadline]
        if action.event is not None:
            return [Await(cmd, "event", action.event, at_ms)]
        return [Await(cmd, "timer", deadline, at_ms)]
    try:
        wake = _wake_at(program, state, frame, action)
    except EvalError as error:
        return [fault(frame, "InvalidInput", error.message, "when to go on")]
    if wake is None:
        return [Await(cmd, "event", action.event or "")]
    return [SetTimer(deadline, wake, body={"id": deadline, "cmd": cmd})]


def _wake_at(program: Program, state: RunState, frame: Frame, action: d.Wait) -> int | None:
    if action.until is not None:
        value = program.evaluate(action.until, scope_of(program, state, frame))
        if not isinstance(value, Timestamp):
            raise EvalError("no_overload", "`wait until` takes a timestamp")
        return value.ms
    pause = action.duration_ms if action.event is None else action.timeout_ms
    return None if pause is None else frame.entered_ms + pause


# ---- emit, and events from outside


def enter_emit(program: Program, state: RunState, frame: Frame, action: d.Emit) -> list[Command]:
    """Says something to whoever follows the run."""
    scope = scope_of(program, state, frame)
    try:
        args = {name: to_journal(program.evaluate(expr, scope)) for name, expr in action.args.items()}
    except EvalError as error:
        return [fault(frame, "InvalidInput", error.message, f"the arguments of `{action.message}`")]
    return [Record("emitted", {"message": action.message, "args": args, "cmd": action_id(frame)})]


def interrupting(program: Program, state: RunState, frame: Frame) -> Record | None:
    """The oldest queued event that one of the state's `on event` edges takes."""
    takes = program.spot(frame).takes
    for event in state.queue:
        if event["name"] in takes:
            return consume(state, frame, event["name"])
    return None


def consume(state: RunState, frame: Frame, name: str) -> Record:
    """Takes the oldest queued event of that name."""
    event = next(e for e in state.queue if e["name"] == name)
    return Record("consumed", {"name": name, "id": event["id"], "frame": frame.path})


def expired(state: RunState, question: Question) -> Record | None:
    """The end of a question whose time is up: its timer has fired, so it is gone."""
    if question.expires_at_ms is None or timer_id(question.cmd, "timeout") in state.timers:
        return None
    return Record("expired", {"question": question.id})
