"""Folding the lives of frames: what an action opens, what begins and ends below it, what comes of it."""

from __future__ import annotations

from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.kernel import outcomes
from jamjet_dsl.kernel.budget import count_step
from jamjet_dsl.kernel.draft import Draft
from jamjet_dsl.kernel.ids import action_id, frame_of, timer_id
from jamjet_dsl.kernel.model import Account, Frame, Intent, Json, Reserve
from jamjet_dsl.kernel.opening import input_of
from jamjet_dsl.kernel.program import FINALLY, UNDO, Program
from jamjet_dsl.kernel.values import from_journal


def opened(program: Program, draft: Draft, body: dict[str, Json]) -> None:
    """`opened`: from here on the frame only waits for those that are opened for it."""
    cmd = body["cmd"]
    frame = draft.frame(frame_of(cmd))
    frame.phase = FINALLY if FINALLY in body else "join"
    frame.opened, frame.ended, frame.late, frame.idle = body, {}, False, 0
    if FINALLY in body:
        _at_its_end(program, draft, frame)
    if "at_ms" in body:
        draft.own("timers")[timer_id(cmd, "within")] = body["at_ms"]


def _at_its_end(program: Program, draft: Draft, frame: Frame) -> None:
    """What the agent had open where it was stopped is closed before `finally`: neither an answer, an outcome nor a
    recovery may lead it back there. A cancellation of the run has got where it led to."""
    outcomes.close_visit(program, draft, frame)
    frame.outcome = None
    if frame.parent is None:
        draft.state.diverted = None


def begun(program: Program, draft: Draft, body: dict[str, Json]) -> None:
    """`begun`: one frame is there, in its start state."""
    new, path = draft.state, body["frame"]
    around = draft.frame(frame_of(body["cmd"]))
    agent = body.get("agent")
    frame = Frame(
        path,
        body["state"],
        entered_ms=new.now_ms,
        kind=body["kind"],
        agent=around.agent if agent is None else agent,
        region=body["region"],
        parent=around.path,
        key=body["key"],
        home=around.home if agent is None else path,
    )
    draft.add_frame(frame)
    told = around.opened or {}
    if agent is not None:
        _child(draft, frame, told)
    elif "items" in told:
        action = program.action(around)
        assert isinstance(action, d.Each)
        frame.scope = {action.item: from_journal(told["items"][int(frame.key)])}
        frame.flags = {action.item: frozenset(told["from"])} if "from" in told else {}
    if "undo" in body:
        frame.opened = next(entry for entry in reversed(new.undo) if entry["cmd"] == body["undo"])
    elif "doubt" in body:
        _doubt(draft, frame, body["doubt"])
    elif frame.kind != FINALLY and program.steps(frame, frame.state):
        count_step(draft, path)


def _child(draft: Draft, frame: Frame, told: dict[str, Json]) -> None:
    """A child agent: its inputs and first values, and what it may use."""
    new = draft.state
    frame.scope = input_of(told)
    frame.flags = {name: frozenset(flags) for name, flags in told.get("from", {}).items()}
    frame.account = Account(told["limits"], told["caps"], new.now_ms, cost=_nothing(new.spent.cost))
    if "time_ms" in told["caps"]:
        draft.own("timers")[f"{frame.path}/budget/time"] = new.now_ms + told["caps"]["time_ms"]


def _nothing(cost: str) -> str:
    """No money, in the currency of that cost."""
    currency = cost.partition(" ")[2]
    return f"0 {currency}" if currency else "0"


def _doubt(draft: Draft, frame: Frame, cmd: str) -> None:
    """A call in doubt that its own frame has left behind: it is this frame's to resolve now, as one that failed and
    may have happened."""
    intents = draft.own("intents")
    known: Intent = intents.pop(cmd)
    own = action_id(frame)
    intents[own] = Intent(own, known.body, known.at_ms, Reserve(), "indefinite")
    frame.call = {name: known.body[name] for name in outcomes.FROZEN if name in known.body}
    # One that was itself to take something back: if it happened, that is off the list too.
    frame.opened = next((e for e in draft.state.undo if e["cmd"] == known.body.get("undoes")), None)
    frame.error = {"error": "Crashed", "message": "nobody knows whether it happened", "definite": False}
    outcomes.end_action(draft, frame, {"kind": "failed", **frame.error})


def closed(program: Program, draft: Draft, body: dict[str, Json]) -> None:
    """`closed`: a frame has ended, and with it what it had open; the one around it keeps how."""
    new, path = draft.state, body["frame"]
    frame = draft.frame(path)
    outcomes.close_visit(program, draft, frame)
    outcomes.drop_timers(draft, f"{path}/")
    if frame.kind == UNDO or (frame.kind == "doubt" and body["how"] == "done"):
        _taken_back(draft, frame, body)
    new.unresolved = [*new.unresolved, *body.get("unresolved", ())]
    draft.drop_frame(path)
    around = draft.frame(frame.parent or "")
    kept = {name: value for name, value in body.items() if name not in ("frame", "unresolved")}
    around.ended = {**around.ended, frame.key: kept}


def reached(program: Program, frame: Frame) -> bool:
    """Whether as many branches are done as the join of the frame wants: from then on its time means nothing."""
    action = program.action(frame)
    if not isinstance(action, d.Parallel):
        return False
    done = [end for end in frame.ended.values() if end["how"] == "done"]
    return len(done) >= action.need


def _taken_back(draft: Draft, frame: Frame, body: dict[str, Json]) -> None:
    """The end of a call of a rollback: what it was for is off the list, unless it was cut short."""
    entry = frame.opened
    if entry is None or body["how"] == "cancelled":
        return
    undo: list[dict[str, Json]] = draft.own("undo")
    undo.reverse()
    if entry in undo:
        undo.remove(entry)
    undo.reverse()
    if body["how"] == "failed":
        why = f"{body['error']}: {body['message']}"
        text = f"{entry['tool']}: {why}"
        draft.own("undo_failed").append({"home": frame.home, "tool": entry["tool"], "why": why, "text": text})


def joined(program: Program, draft: Draft, body: dict[str, Json]) -> None:
    """`joined`: the action has its outcome."""
    frame = draft.frame(frame_of(body["cmd"]))
    if body["how"] == "ok":
        found: dict[str, Any] = {name: body[name] for name in ("result", "results", "from") if name in body}
        outcomes.end_action(draft, frame, {"kind": "ok", "result": None, **found})
    else:
        error = {"error": body["error"], "message": body["message"], "definite": True}
        frame.error = error
        outcomes.end_action(draft, frame, {"kind": "failed", **error})
    frame.opened, frame.ended, frame.late = None, {}, False
