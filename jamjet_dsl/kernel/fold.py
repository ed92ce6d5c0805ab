"""`apply`: one event folded into a state. Evaluates nothing: what it needs stands in the event.

An event about an effect that is not open changes nothing, so a journal may hold what came too late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from jamjet_dsl.kernel import frames, outcomes, versions
from jamjet_dsl.kernel.binding import facts_of
from jamjet_dsl.kernel.budget import ZERO, account_of, amount, charge, count_step
from jamjet_dsl.kernel.draft import Draft
from jamjet_dsl.kernel.ids import base_of, frame_of, inside, timer_id, visit_prefix
from jamjet_dsl.kernel.model import ENDED, Event, Frame, Grant, Intent, Json, Question, Reserve, RunState
from jamjet_dsl.kernel.outcomes import open_frame
from jamjet_dsl.kernel.program import FINALLY, WRITES, Program
from jamjet_dsl.kernel.scope import value_of
from jamjet_dsl.kernel.values import Timestamp, from_journal, to_journal
from jamjet_dsl.money import money_text

Body: TypeAlias = dict[str, Json]
Fold: TypeAlias = Callable[[Program, Draft, Body], None]

TIME_TIMER, ACTIVE_TIMER = "budget/time", "budget/active"


def apply(program: Program, state: RunState, event: Event) -> RunState:
    """The state after an event. `state` is left as it is; the two share what did not change.

    Raises KeyError for a kind of event that this version does not know.
    """
    draft = Draft(state)
    fold_into(program, draft, event.seq, event.at_ms, event.kind, event.body)
    return draft.state


def fold_into(program: Program, draft: Draft, seq: int, at_ms: int, kind: str, body: Body) -> None:
    """Folds one more event into a draft. Raises KeyError for a kind of event that this version does not know."""
    new = draft.state
    new.seq = seq
    if at_ms > new.now_ms:
        _pass_time(draft, at_ms, kind, body)
    new.counted = None  # Other runs go on: what was used is known for one decision only.
    _FOLDS[kind](program, draft, body)
    if new.frames:
        _settle_down(program, draft)


def _pass_time(draft: Draft, at_ms: int, kind: str, body: Body) -> None:
    """Moves the clock on. Time waiting for people or an operator, and downtime, is not active: nor is by how much a
    timer is noticed late, since nobody was there to notice it."""
    new = draft.state
    since, until = new.now_ms, at_ms
    if kind == "fired":
        until = min(at_ms, new.timers.get(body["id"], at_ms))
    elif kind == "resumed":
        since = body.get("since_ms", at_ms)
    if new.frames and until > since:
        for home in agents(new):
            if not waits_for_people(new, home):
                spent = draft.account(home) if home else draft.spent()
                spent.active_ms += until - max(since, new.now_ms)
    new.now_ms = at_ms


_ROOT_ALONE = [""]


def agents(state: RunState) -> Sequence[str]:
    """The homes of all agents at work, the run's own first."""
    if len(state.frames) == 1:
        return _ROOT_ALONE
    return ["", *sorted(path for path, frame in state.frames.items() if frame.kind == "agent")]


def waits_for_people(state: RunState, home: str = "") -> bool:
    """Whether nothing goes on in an agent before a person answers, or an operator moves the run."""
    if state.parked is not None:
        return True
    return all(f.phase == "ask" for f in state.frames.values() if inside(f.path, home) and f.phase not in _AROUND)


_AROUND = ("join", "finally")
"""The phases of a frame that only waits for frames of its own."""


def _settle_down(program: Program, draft: Draft) -> None:
    """What follows from the rest: the status, and when active time will be used up."""
    new = draft.state
    if new.status in ENDED:
        new.timers = {}
        return
    if new.parked is not None:
        new.status = "parked"
    elif all(f.phase in _AT_REST or awaits_event(program, f) for f in new.frames.values()) and not _to_open(new):
        new.status = "waiting"
    else:
        new.status = "running"
    if program.meters_activity:
        for home in agents(new):
            _active_timer(program, draft, home)


_AT_REST = ("ask", "wait", *_AROUND)


def _to_open(state: RunState) -> bool:
    """Whether a frame that has opened others has none at work: what comes next is decided, and not waited for."""
    parents = {frame.parent for frame in state.frames.values()}
    return any(frame.phase in _AROUND and path not in parents for path, frame in state.frames.items())


def _active_timer(program: Program, draft: Draft, home: str) -> None:
    """Sets or drops the timer for the moment at which the active time of an agent is used up."""
    new = draft.state
    account = account_of(new, home)
    if account is None:
        cap, used, over, name = program.main.caps.active, new.spent.active_ms, new.exceeded, ACTIVE_TIMER
    else:
        cap, used, over, name = (
            account.caps.get("active_ms"),
            account.active_ms,
            account.exceeded,
            f"{home}/{ACTIVE_TIMER}",
        )
    if cap is None:
        return
    # What is used up needs no timer: the next decision sees it. One would be due at once, again and again, while an
    # end that nothing stops (a `finally`, a write that is waited for) is on its way.
    wanted = None if over or used >= cap or waits_for_people(new, home) else new.now_ms + cap - used
    if new.timers.get(name) != wanted:
        timers = draft.own("timers")
        timers.pop(name, None)
        if wanted is not None:
            timers[name] = wanted


def awaits_event(program: Program, frame: Frame) -> bool:
    """Whether the frame waits for an event without a time limit, which journals nothing as it begins."""
    return frame.phase == "enter" and program.spot(frame).listens


# ---- the beginning and the way


def _started(program: Program, draft: Draft, body: Body) -> None:
    new = draft.state
    new.agent = body["agent"]
    new.input = _values(body["input"])
    new.principal = body["principal"]
    new.policy = body.get("policy", "enforce")
    new.vars = _values(body.get("set", {}))
    new.started_ms = new.now_ms
    root = draft.own("frames")[""] = Frame("", program.agent.body.start, entered_ms=new.now_ms)
    spent = draft.spent()
    spent.cost = money_text(ZERO, program.agent.currency)
    spent.steps = int(program.steps(root, root.state))
    if program.main.caps.time is not None:
        draft.own("timers")[TIME_TIMER] = new.now_ms + program.main.caps.time


def _values(tree: Body) -> dict[str, Any]:
    return {name: from_journal(item) for name, item in tree.items()}


def _moved(program: Program, draft: Draft, body: Body) -> None:
    new, frame = draft.state, draft.frame(body["frame"])
    spot = program.spot(frame)
    acts = spot.action is not None
    if len(body) != _PLAIN:
        _assign(draft, frame, body)
        if "counted" in body:
            _count(frame, f"{body['state']}/{body['edge']}")
    if frame.phase != "enter" or new.intents:
        outcomes.close_visit(program, draft, frame)
    if frame.fault is not None and not acts:
        _count(frame, f"{body['state']}/fault")
    frame.idle = 0 if acts else frame.idle + 1
    frame.state, frame.visit, frame.attempt, frame.phase = body["to"], frame.visit + 1, 1, "enter"
    frame.outcome = frame.call = frame.error = frame.fault = frame.event = frame.opened = None
    frame.late, frame.entered_ms = False, new.now_ms
    frame.retries, frame.ended = {}, {}
    if frame.path == frame.home:
        _arrive(draft, frame, body["edge"])
    if frame.state in spot.acting and frame.kind != FINALLY:
        count_step(draft, frame.path)


def _count(frame: Frame, key: str) -> None:
    frame.counters = {**frame.counters, key: frame.counters.get(key, 0) + 1}


def _arrive(draft: Draft, frame: Frame, edge: str) -> None:
    """What the agent was to be led to has been reached."""
    if frame.account is None:
        if edge == draft.state.diverted:
            draft.state.diverted = None
    elif edge == frame.account.diverted:
        draft.account(frame.path).diverted = None


def _assign(draft: Draft, frame: Frame, body: Body) -> None:
    """The variables: the bound outcome, the conversation's new messages, what was set. A frame other than the root
    keeps them for itself."""
    outcome = frame.outcome
    values: dict[str, Any] = {}
    if "bind" in body:
        assert outcome is not None
        values[body["bind"]] = from_journal(outcome["result"])
    for name in body.get("binds", ()):
        assert outcome is not None
        values[name] = from_journal(outcome["results"][name]["value"])
    if "append" in body:
        for name, items in body["append"].items():
            said = value_of(draft.state, frame, name) or []
            values[name] = [*said, *(from_journal(item) for item in items)]
    if "set" in body:
        for name, value in body["set"].items():
            values[name] = from_journal(value)
    if not values:
        return
    came = {name: frozenset(flags) for name, flags in body["from"].items()} if "from" in body else None
    if frame.parent is None:
        draft.own("vars").update(values)
        if came:
            draft.own("provenance").update(came)
    else:
        frame.scope = {**frame.scope, **values}
        if came:
            frame.flags = {**frame.flags, **came}


_PLAIN = 5
"""How many fields a transition has that assigns nothing."""


def _faulted(program: Program, draft: Draft, body: Body) -> None:
    frame = draft.frame(body["frame"])
    frame.fault, frame.phase = body, "leave"


def _finished(program: Program, draft: Draft, body: Body) -> None:
    new = draft.state
    new.status, new.final_state, new.output = body["status"], body["state"], _values(body["output"])
    new.parked = new.diverted = None
    new.questions = {}
    for path in list(new.frames):
        frame = draft.frame(path)
        outcomes.close_visit(program, draft, frame)
        frame.phase, frame.opened, frame.ended = "ended", None, {}


# ---- effects that begin


def _intent(program: Program, draft: Draft, body: Body) -> None:
    cmd, new = body["cmd"], draft.state
    held = body.get("reserve")
    reserve = Reserve() if held is None else Reserve(held["tokens"], held["cost"])
    draft.own("intents")[cmd] = Intent(cmd, body, new.now_ms, reserve)
    frame, does = draft.frame(frame_of(cmd)), body.get("does", "action")
    if does == "think":
        frame.phase = "act"
    elif does == "action":
        frame.phase = "act"
        if frame.call is None:
            outcomes.freeze(program, draft, frame, body)


def _asked(program: Program, draft: Draft, body: Body) -> None:
    cmd, name = body["cmd"], body["question"]
    frame = draft.frame(frame_of(cmd))
    frame.phase, frame.idle = "ask", 0
    expires = body.get("expires_at_ms")
    facts = facts_of(draft.state, frame, body.get("decision", {}))
    draft.own("questions")[name] = Question(name, cmd, frame.path, body["state"], body, expires, facts=facts)
    timers = draft.own("timers")
    if expires is not None:
        timers[timer_id(cmd, "timeout")] = expires
    if "remind_ms" in body:
        timers[timer_id(cmd, "remind")] = draft.state.now_ms + body["remind_ms"]


def _timer(program: Program, draft: Draft, body: Body) -> None:
    frame = draft.frame(frame_of(body["cmd"]))
    frame.phase = "wait"
    draft.own("timers")[body["id"]] = body["at_ms"]


def _retry(program: Program, draft: Draft, body: Body) -> None:
    """A further attempt of the same visit, now or when its timer fires."""
    new, frame = draft.state, draft.frame(frame_of(body["cmd"]))
    outcomes.next_attempt(draft, frame, body["cmd"])
    rule = str(body["rule"])
    frame.retries = {**frame.retries, rule: frame.retries.get(rule, 0) + 1}
    if body["at_ms"] > new.now_ms:
        frame.phase = "backoff"
        draft.own("timers")[timer_id(f"{visit_prefix(frame)}{frame.attempt}", "retry")] = body["at_ms"]


def _fired(program: Program, draft: Draft, body: Body) -> None:
    """A timer is due. One that is not set any more says nothing: nothing fires twice."""
    new, name = draft.state, body["id"]
    if name not in new.timers:
        return
    timers = draft.own("timers")
    at_ms = timers.pop(name)
    cmd, _, what = name.rpartition("/")
    if cmd.endswith("budget"):
        return
    if what == "remind":
        question = next((q for q in new.questions.values() if q.cmd == cmd), None)
        if question is not None:
            every = question.body["remind_ms"]
            timers[name] = at_ms + every * ((new.now_ms - at_ms) // every + 1)
        return
    frame = open_frame(new, cmd)
    if frame is None:
        return
    frame = draft.frame(frame.path)
    if what == "retry" and frame.phase == "backoff":
        frame.phase = "enter"
    elif what == "wait" and frame.phase == "wait":
        outcomes.succeed(draft, frame, {"result": None})
    elif what == "timeout" and frame.phase == "wait":
        outcomes.end_action(draft, frame, {"kind": "timeout"})
    elif what == "within" and frame.phase == "join":
        frame.late = not frames.reached(program, frame)


# ---- people and events from outside


def _answered(program: Program, draft: Draft, body: Body) -> None:
    new = draft.state
    question = new.questions.get(body["question"])
    if question is None:
        return
    person = {"by": body["by"], "roles": body["roles"]}
    approves = any(o["name"] == body["option"] and o["approves"] for o in question.body["options"])
    approvals = [*question.approvals, person] if approves else question.approvals
    questions = draft.own("questions")
    if approves and not outcomes.enough(new, question, approvals):
        questions[question.id] = replace(question, approvals=approvals)
        return
    del questions[question.id]
    if approves and "call" in question.body:
        asking = new.frames[question.frame]
        bind = getattr(program.action(asking), "bind", None)
        by = ", ".join(str(p["by"]) for p in approvals)
        draft.own("grants")[question.id] = Grant(
            question.id,
            asking.state,
            bind,
            _granted(question.body),
            by,
            new.now_ms,
            approvers=approvals,
            home=asking.home,
            frame=asking.path,
            seq=new.seq,
            facts=question.facts,
        )
    result = {
        **body.get("form", {}),
        "option": body["option"],
        "by": body["by"],
        "at": to_journal(Timestamp.of_ms(new.now_ms)),
    }
    outcomes.end_action(
        draft, draft.frame(question.frame), {"kind": "answered", "option": body["option"], "result": result}
    )


def _granted(asked: Body) -> dict[str, Json]:
    """The frozen call, and how long the approval holds."""
    call: dict[str, Json] = asked["call"]
    return {**call, "holds_ms": asked["holds_ms"]} if "holds_ms" in asked else call


def _expired(program: Program, draft: Draft, body: Body) -> None:
    question = draft.own("questions").pop(body["question"], None)
    if question is not None:
        outcomes.end_action(draft, draft.frame(question.frame), {"kind": "timeout"})


def _received(program: Program, draft: Draft, body: Body) -> None:
    draft.own("queue").append(body)


def _consumed(program: Program, draft: Draft, body: Body) -> None:
    """The oldest event of that name goes to the frame: as the outcome of its wait, or to its `on event` edge."""
    queue: list[Body] = draft.own("queue")
    event = next(e for e in queue if e["name"] == body["name"])
    queue.remove(event)
    frame = draft.frame(body["frame"])
    if getattr(program.action(frame), "event", None) == body["name"] and frame.outcome is None:
        outcomes.succeed(draft, frame, {"result": event["payload"]})
    else:
        frame.event, frame.phase = event, "leave"


def _emitted(program: Program, draft: Draft, body: Body) -> None:
    outcomes.succeed(draft, draft.frame(frame_of(body["cmd"])), {"result": None})


def _denied(program: Program, draft: Draft, body: Body) -> None:
    outcomes.end_action(draft, draft.frame(frame_of(body["cmd"])), {"kind": "denied", **body})


# ---- budget, operator


def _spent(program: Program, draft: Draft, body: Body) -> None:
    if "home" in body:
        account = draft.account(body["home"])
        account.warned = [*account.warned, body["what"]]
    else:
        draft.own("warned").append(body["what"])


def _exceeded(program: Program, draft: Draft, body: Body) -> None:
    """From here on only the way to an end is left; the timers of the budget have nothing more to say."""
    new, home = draft.state, body.get("home")
    if home is None:
        new.exceeded = body["what"]
        new.diverted = "exceeded"
        draft.own("timers").pop(TIME_TIMER, None)
    else:
        account = draft.account(home)
        account.exceeded, account.diverted = body["what"], "exceeded"
        draft.own("timers").pop(f"{home}/{TIME_TIMER}", None)


def _overrun(program: Program, draft: Draft, body: Body) -> None:
    draft.own("overruns").pop(0)


def _parked(program: Program, draft: Draft, body: Body) -> None:
    draft.state.parked = body


def _unparked(program: Program, draft: Draft, body: Body) -> None:
    """An operator wants it tried again: what is done stays done, so after a success only the way out is new."""
    new = draft.state
    parked, new.parked = new.parked, None
    if parked is None:
        return
    frame = draft.frame(parked["frame"])
    frame.idle, frame.entered_ms = 0, new.now_ms  # a `wait` that is tried again waits from now on
    done = frame.event is not None or (frame.outcome is not None and frame.outcome["kind"] in ("ok", "answered"))
    if frame.fault is not None and (done or program.action(frame) is None):
        frame.fault = None  # what comes after it is tried again
    elif not done and frame.phase == "leave":
        outcomes.next_attempt(draft, frame, f"{visit_prefix(frame)}{frame.attempt}")
        frame.retries, frame.fault = {}, None


def _counted(program: Program, draft: Draft, body: Body) -> None:
    draft.state.counted = body


def _cancelling(program: Program, draft: Draft, body: Body) -> None:
    new = draft.state
    if new.frames[""].phase == "finally" and not body["now"] and new.parked is None:
        return  # it is at its end already, and ends as it was about to
    if new.cancelling is None or body["now"] or new.parked is not None:
        # Asked again while the handler is at work: it is not to begin anew, which could do its writes twice.
        new.diverted = "cancel"
    new.cancelling, new.parked = body, None


def _recovered(program: Program, draft: Draft, body: Body) -> None:
    """An effect without outcome was found: what it may have cost is settled in full."""
    cmd, new = body["cmd"], draft.state
    intent = new.intents.get(cmd)
    if intent is None:
        return
    frame = draft.frame(frame_of(cmd))
    if body["how"] == "confirm":
        draft.intent(cmd).unsettled = "recovery"
        frame.phase = "confirm"
        return
    usage = body.get("usage") or {"tokens": 0, "cost": None}
    charge(draft, frame_of(cmd), usage["tokens"], amount(usage["cost"]), program.agent.currency)
    if body["how"] == "key":
        # What was in flight may have happened: until an attempt tells, the call stays open, as after a `Timeout`.
        frame.error = {
            "error": "Crashed",
            "message": "the process ended before its outcome was known",
            "definite": False,
        }
        known = draft.intent(cmd)
        known.reserve, known.unsettled = Reserve(), "indefinite"
    else:
        del draft.own("intents")[cmd]
    if base_of(cmd) == cmd:
        outcomes.next_attempt(draft, frame, cmd)


def _unsent(program: Program, draft: Draft, body: Body) -> None:
    """An effect was never begun: nothing was used, and it is nothing that may have happened. An attempt before it may
    have, and then the call stays open."""
    cmd, new = body["cmd"], draft.state
    intent = new.intents.get(cmd)
    if intent is None:
        return
    frame = draft.frame(frame_of(cmd))
    doubtful = frame.error is not None and not frame.error["definite"] and intent.body["effect"] in WRITES
    if doubtful and base_of(cmd) == cmd:
        known = draft.intent(cmd)
        known.reserve, known.unsettled = Reserve(), "indefinite"
    else:
        del draft.own("intents")[cmd]
    if base_of(cmd) == cmd:
        outcomes.next_attempt(draft, frame, cmd)


def _nothing(program: Program, draft: Draft, body: Body) -> None:
    """For the record only."""


_FOLDS: dict[str, Fold] = {
    "started": _started,
    "moved": _moved,
    "faulted": _faulted,
    "finished": _finished,
    "intent": _intent,
    "succeeded": outcomes.succeeded,
    "failed": outcomes.failed,
    "fact": outcomes.fact,
    "probed": outcomes.probed,
    "in_doubt": outcomes.in_doubt,
    "settled": outcomes.settled,
    "asked": _asked,
    "timer": _timer,
    "retry": _retry,
    "fired": _fired,
    "answered": _answered,
    "expired": _expired,
    "received": _received,
    "consumed": _consumed,
    "emitted": _emitted,
    "denied": _denied,
    "spent": _spent,
    "exceeded": _exceeded,
    "overrun": _overrun,
    "parked": _parked,
    "unparked": _unparked,
    "cancelling": _cancelling,
    "counted": _counted,
    "recovered": _recovered,
    "unsent": _unsent,
    "opened": frames.opened,
    "begun": frames.begun,
    "closed": frames.closed,
    "joined": frames.joined,
    "resumed": _nothing,
    "late": _nothing,
    "forked": versions.forked,
    "migrated": versions.migrated,
    "recorded": _nothing,
    "snapshot": _nothing,
}
