"""Folding the outcomes of effects: what is settled, counted and known once an effect has ended."""

from __future__ import annotations

from dataclasses import replace

from jamjet_dsl.kernel import monitors
from jamjet_dsl.kernel.budget import amount, charge, overruns, used
from jamjet_dsl.kernel.draft import Draft
from jamjet_dsl.kernel.ids import action_id, base_of, frame_of, visit_prefix
from jamjet_dsl.kernel.model import Frame, Intent, Json, Question, Reserve, RunState
from jamjet_dsl.kernel.people import name_of
from jamjet_dsl.kernel.program import WRITES, Program
from jamjet_dsl.kernel.rules import counts, plan_at
from jamjet_dsl.kernel.values import from_journal

FROZEN = ("tool", "args", "key", "effect", "decision", "home")
"""What an intent freezes of a call."""
UNANSWERED = ("indefinite", "recovery")
"""What an intent is while `confirm` may still tell whether its call happened."""


def open_frame(state: RunState, cmd: str) -> Frame | None:
    """The frame whose present attempt this id belongs to, or None for an id of the past."""
    frame = state.frames.get(frame_of(cmd))
    return frame if frame is not None and base_of(cmd) == action_id(frame) and frame.phase != "ended" else None


def is_open(state: RunState, cmd: str) -> bool:
    """Whether an outcome for this id is still waited for."""
    path, _, attempt = cmd.rpartition("#")
    frame = state.frames.get(path)
    if frame is not None and attempt == f"{frame.visit}.{frame.attempt}":
        return frame.phase == ("act" if cmd in state.intents else "enter")
    frame = open_frame(state, cmd)
    if frame is None:
        return False
    if cmd.endswith("/confirm"):
        intent = state.intents.get(base_of(cmd))
        return intent is not None and intent.unsettled in UNANSWERED
    return frame.phase == "enter"


def end_action(draft: Draft, frame: Frame, outcome: dict[str, Json]) -> None:
    """The action of the frame's visit has ended like this; an edge is chosen next."""
    outcome["at_ms"] = draft.state.now_ms
    at_work = frame.phase in _WITHOUT_TIMERS
    frame.outcome, frame.phase = outcome, "leave"
    if not at_work:
        _close_waits(draft, frame)


_WITHOUT_TIMERS = ("enter", "act")
"""The phases in which a visit has no timer and no question: nothing is waited for but an effect."""


def _close_waits(draft: Draft, frame: Frame) -> None:
    """What the frame's visit waited for is not waited for any more."""
    drop_timers(draft, visit_prefix(frame))
    for name in [q.id for q in draft.state.questions.values() if q.frame == frame.path]:
        del draft.own("questions")[name]


def succeed(draft: Draft, frame: Frame, body: dict[str, Json]) -> None:
    """The action gave a result."""
    outcome: dict[str, Json] = {"kind": "ok", "result": body["result"]}
    for name in ("untrusted", "items"):
        if name in body:
            outcome[name] = body[name]
    end_action(draft, frame, outcome)


def _picked(body: dict[str, Json], *names: str) -> dict[str, Json]:
    """Those of the fields that are there."""
    return {name: body[name] for name in names if name in body}


def drop_timers(draft: Draft, prefix: str) -> None:
    """The timers whose names begin like this are not set any more."""
    for name in [name for name in draft.state.timers if name.startswith(prefix)]:
        del draft.own("timers")[name]


def next_attempt(draft: Draft, frame: Frame, cmd: str) -> None:
    """The action is to be tried again, as it was. A call whose last attempt may have happened stays open under
    the new id, so that it is resolved even if no further attempt is ever made."""
    intents = draft.own("intents")
    old: Intent | None = intents.pop(cmd, None)
    frame.attempt += 1
    frame.phase, frame.outcome = "enter", None
    drop_timers(draft, visit_prefix(frame))
    if old is not None and old.unsettled == "indefinite":
        new = action_id(frame)
        intents[new] = Intent(new, old.body, old.at_ms, Reserve(), "indefinite")


def freeze(program: Program, draft: Draft, frame: Frame, body: dict[str, Json]) -> None:
    """The first intent of a visit: the call is frozen, its approvals used up, its limits counted."""
    new = draft.state
    frame.call = _picked(body, *FROZEN)
    for question in body.get("grants", ()):
        grants = draft.own("grants")
        grant = grants[question]
        grants[question] = replace(grant, used_by=body["cmd"])
    decision = body["decision"]
    for home, limits in [(frame.home, decision.get("limits", ()))] + [
        (outer["home"], outer.get("limits", ())) for outer in decision.get("outer", ())
    ]:
        rules = plan_at(program, new, home).agent.rules or ()
        for rule, group, size in limits:
            limit = rules[rule].limit
            assert limit is not None
            monitors.limit_take(draft, home, rule, limit, group, size)
    monitors.count(program, draft, frame.path, "attempted", body["tool"], _args(frame.call))


def _args(call: dict[str, Json]) -> dict[str, Json]:
    """The values of a call as the rules see them."""
    args = from_journal(call["args"])
    assert isinstance(args, dict)
    return args


def _settle(program: Program, draft: Draft, cmd: str, usage: dict[str, Json] | None, keep: bool = False) -> None:
    """Releases a reservation and books what was used instead."""
    new = draft.state
    intent = new.intents.get(cmd)
    if intent is None and usage is None:
        return
    reserve = intent.reserve if intent is not None else Reserve()
    model = intent.body.get("model") if intent is not None else None
    tokens, cost = used(usage, reserve, program.defn.models.get(model) if model else None)
    currency = program.agent.currency
    charge(draft, frame_of(cmd), tokens, cost, currency)
    for over in overruns(cmd, reserve, tokens, cost, currency):
        draft.own("overruns").append(over)
    if intent is None:
        return
    if keep:
        kept = draft.intent(cmd)
        kept.reserve, kept.unsettled = Reserve(), "indefinite"
    else:
        del draft.own("intents")[cmd]


def _began(program: Program, draft: Draft, frame: Frame, body: dict[str, Json]) -> None:
    """A free read has no intent: its first outcome is the first that is known of it."""
    if frame.call is None and frame.error is None and "tool" in body:
        monitors.count(program, draft, frame.path, "attempted", body["tool"], {})


def succeeded(program: Program, draft: Draft, body: dict[str, Json]) -> None:
    """`succeeded`: the action's result is there."""
    cmd, new = body["cmd"], draft.state
    if not is_open(new, cmd):
        return
    frame = draft.frame(frame_of(cmd))
    _began(program, draft, frame, body)
    _settle(program, draft, cmd, body.get("usage"))
    _happened(program, draft, frame, body)


def _happened(program: Program, draft: Draft, frame: Frame, body: dict[str, Json]) -> None:
    tool = frame.call["tool"] if frame.call is not None else body.get("tool")
    if tool is not None:
        args = _args(frame.call) if frame.call is not None else {}
        monitors.count(program, draft, frame.path, "succeeded", tool, args)
        monitors.remember(program, draft, frame.path, tool, args, body["result"])
    else:  # a model has answered: nothing else ends like this
        monitors.new_turn(program, draft, frame.path)
    if "undo" in body:
        draft.own("undo").append({"cmd": action_id(frame), **body["undo"]})
    succeed(draft, frame, body)


def failed(program: Program, draft: Draft, body: dict[str, Json]) -> None:
    """`failed`: the attempt gave an error; for a write an indefinite one leaves open what happened."""
    cmd, new = body["cmd"], draft.state
    if not is_open(new, cmd):
        return
    frame = draft.frame(frame_of(cmd))
    _began(program, draft, frame, body)
    open_still = not body["definite"] and frame.call is not None and frame.call["effect"] in WRITES
    _settle(program, draft, cmd, body.get("usage"), keep=open_still)
    frame.error = _picked(body, "error", "message", "definite")
    kept = _picked(body, "error", "message", "definite", "retry_after_ms", "tool")
    end_action(draft, frame, {"kind": "failed", **kept})


def fact(program: Program, draft: Draft, body: dict[str, Json]) -> None:
    """`fact`: a read for a decision. One that failed is remembered as that for this decision only."""
    cmd, new = body["cmd"], draft.state
    _settle(program, draft, cmd, body.get("usage"))
    entry = {"at_ms": new.now_ms, "cmd": base_of(cmd), **_picked(body, "result", "error")}
    draft.own("facts")[body["key"]] = entry


def probed(program: Program, draft: Draft, body: dict[str, Json]) -> None:
    """`probed`: what `confirm` told of a call that may have happened. `happened` null: it could not tell."""
    cmd, new = body["cmd"], draft.state
    if not is_open(new, cmd):
        return
    base = base_of(cmd)
    frame = draft.frame(frame_of(cmd))
    if cmd in new.intents:
        _settle(program, draft, cmd, body.get("usage"))
    if body["happened"] is None:
        draft.intent(base).unsettled = "unknown"
        return
    _tell(program, draft, frame, base, body)


def _tell(program: Program, draft: Draft, frame: Frame, cmd: str, body: dict[str, Json]) -> None:
    """It is known now whether a call happened."""
    known: Intent = draft.own("intents").pop(cmd)
    if body["happened"]:
        _release(program, draft, known)
        flag = {"untrusted": True} if program.defn.tools[known.body["tool"]].untrusted else {}
        _happened(program, draft, frame, {**body, **flag, "result": body.get("result")})
    elif frame.error is not None and (known.unsettled == "indefinite" or frame.kind == "doubt"):
        frame.error = {**frame.error, "definite": True}
        end_action(draft, frame, {"kind": "failed", **frame.error})
    else:
        frame.error = None
        next_attempt(draft, frame, cmd)


def _release(program: Program, draft: Draft, intent: Intent) -> None:
    path = frame_of(intent.cmd)
    charge(draft, path, intent.reserve.tokens, amount(intent.reserve.cost), program.agent.currency)


def in_doubt(program: Program, draft: Draft, body: dict[str, Json]) -> None:
    """`in_doubt`: nobody can tell whether the call happened. It stays open until a person settles it."""
    cmd = body["cmd"]
    frame = draft.frame(frame_of(cmd))
    intent = draft.intent(cmd)
    _release(program, draft, intent)
    intent.reserve, intent.unsettled = Reserve(), "doubt"
    end_action(draft, frame, {"kind": "in_doubt", "cmd": cmd, "why": body["why"]})


def settled(program: Program, draft: Draft, body: dict[str, Json]) -> None:
    """`settled`: a person told whether a call in doubt happened. The run goes on with that if it still waits
    there; if it went on before, this is for the record and for what rules count."""
    cmd, new = body["cmd"], draft.state
    intent = new.intents.get(cmd)
    if intent is None or intent.unsettled != "doubt":
        return
    frame = open_frame(new, cmd)
    if frame is not None and frame.outcome is not None and frame.outcome["kind"] == "in_doubt":
        if new.parked is not None and new.parked["frame"] == frame.path:
            new.parked = None
        waiting = draft.frame(frame.path)
        waiting.fault = None  # what had failed was the handling of the doubt, which is none any more
        _tell(program, draft, waiting, cmd, body)
        return
    del draft.own("intents")[cmd]
    if body["happened"]:
        monitors.count(program, draft, frame_of(cmd), "succeeded", intent.body["tool"], _args(intent.body))
        if "undo" in body:
            draft.own("undo").append({"cmd": cmd, **body["undo"]})


def close_visit(program: Program, draft: Draft, frame: Frame) -> None:
    """The frame leaves its state: what it had open there is closed. What is in doubt stays."""
    new, outcome = draft.state, frame.outcome
    if outcome is None:  # an outcome has closed what the visit waited for as it came
        if frame.phase not in _WITHOUT_TIMERS:
            _close_waits(draft, frame)
    elif outcome["kind"] == "failed":
        tool = frame.call["tool"] if frame.call is not None else outcome.get("tool")
        if tool is not None:
            args = _args(frame.call) if frame.call is not None else {}
            monitors.count(program, draft, frame.path, "failed", tool, args)
    if new.intents:
        prefix = visit_prefix(frame)
        for cmd, intent in list(new.intents.items()):
            if cmd.startswith(prefix) and intent.unsettled != "doubt":
                _release(program, draft, intent)
                del draft.own("intents")[cmd]


def enough(state: RunState, question: Question, approvals: list[dict[str, Json]]) -> bool:
    """Whether these people are all whom the rules want to approve the question's call."""
    needs = people_for(state, question)
    return all(len({name_of(p) for p in approvals if counts(state, need, p)}) >= int(need["people"]) for need in needs)


def people_for(state: RunState, question: Question) -> list[dict[str, Json]]:
    """The needs for several people that hold a question open. In shadow the policy holds nothing: one answer is enough
    for the program, and the decision on the call says who was missing."""
    if state.policy == "shadow":
        return []
    return [need for need in question.body.get("decision", {}).get("needs", ()) if "people" in need]
