"""A state that came from elsewhere: from another run (`forked`), or from another version of its program (`migrated`).

Both events hold all that changes, so that a fold stays a fold: nothing here reads an older journal or another program.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jamjet_dsl.kernel.draft import Draft
from jamjet_dsl.kernel.ids import timer_id
from jamjet_dsl.kernel.model import Frame, Json, RunState
from jamjet_dsl.kernel.monitors import SEP
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.state_json import restore
from jamjet_dsl.kernel.values import from_journal

Body = dict[str, Json]
_OWN = frozenset({"run_id", "seq", "now_ms", "origin"})
"""What a fork does not take from the run it comes from."""
_ACTIVE = "budget/active"


def forked(program: Program, draft: Draft, body: Body) -> None:
    """`forked`, the first event of a fork: the state of another run after one of its events, as if that were now.

    What was left of every timer is left. Questions that were open there are asked anew: an answer to one is none to
    the other. What `input` and `set` give are inputs and variables that somebody has changed on the way.
    """
    new = draft.state
    whole = restore(body["whole"])
    passed = new.now_ms - whole.now_ms
    for field in dataclasses.fields(RunState):
        if field.name not in _OWN:
            setattr(new, field.name, getattr(whole, field.name))
    new.origin = body["origin"]
    _pass(new, passed)
    for question in new.questions.values():
        new.frames[question.frame].phase = "enter"
        for what in ("timeout", "remind"):
            new.timers.pop(timer_id(question.cmd, what), None)
    new.questions = {}
    for name, value in body.get("input", {}).items():
        new.input[name] = from_journal(value)
    for name, value in body.get("set", {}).items():
        new.vars[name] = from_journal(value)
        new.provenance.pop(name, None)


def _pass(new: RunState, ms: int) -> None:
    """Moves every time of a state that is measured from: nothing was worked on or waited for in between."""
    new.started_ms += ms
    new.timers = {name: at_ms + ms for name, at_ms in new.timers.items()}
    new.facts = {key: {**entry, "at_ms": entry["at_ms"] + ms} for key, entry in new.facts.items()}
    new.monitors = _later(new.monitors, ms)
    for frame in new.frames.values():
        frame.entered_ms += ms
        frame.monitors = _later(frame.monitors, ms)
        for name in ("outcome", "opened"):
            known = getattr(frame, name)
            if known is not None and "at_ms" in known:
                setattr(frame, name, {**known, "at_ms": known["at_ms"] + ms})
        if frame.account is not None:
            frame.account.started_ms += ms


def _later(monitors: dict[str, Json], ms: int) -> dict[str, Json]:
    """The windows of limits slide on."""
    return {
        key: {**entry, "window": [[at_ms + ms, amount] for at_ms, amount in entry["window"]]}
        if key.startswith(f"limit{SEP}")
        else entry
        for key, entry in monitors.items()
    }


def migrated(program: Program, draft: Draft, body: Body) -> None:
    """`migrated`: from here on the run is of the program `to`, which `program` is. The event says what of the state has
    another name there, which variables and timers are new or gone, and which rules have another number."""
    new = draft.state
    names: dict[str, str] = body.get("states", {})
    for path, place in body.get("frames", {}).items():
        frame = draft.frame(path)
        frame.state, frame.region = place["state"], place["region"]
    for path in list(new.frames):
        if not new.frames[path].agent:
            _rename(draft.frame(path), names)
    _assign(new, body)
    timers = draft.own("timers")
    for name, at_ms in {**body.get("timers", {}), _ACTIVE: None}.items():
        timers.pop(name, None)
        if at_ms is not None:
            timers[name] = at_ms
    questions = draft.own("questions")
    for name, question in list(questions.items()):
        expires = body.get("expires", {}).get(name, question.expires_at_ms)
        state = names.get(question.state, question.state)
        questions[name] = dataclasses.replace(question, state=state, expires_at_ms=expires)
    grants = draft.own("grants")
    for name, grant in list(grants.items()):
        grants[name] = dataclasses.replace(grant, state=names.get(grant.state, grant.state))
    if new.parked is not None:
        new.parked = {**new.parked, "state": names.get(new.parked["state"], new.parked["state"])}
    if "rules" in body:
        new.monitors = _renumbered(new.monitors, body["rules"])


def _rename(frame: Frame, names: dict[str, str]) -> None:
    """Edges are counted under the names of their states."""
    counted = ((key.partition("/"), n) for key, n in frame.counters.items())
    frame.counters = {f"{names.get(state, state)}{mark}{edge}": n for (state, mark, edge), n in counted}


def _assign(new: RunState, body: Body) -> None:
    gone = frozenset(body.get("drop", ()))
    new.vars = {name: value for name, value in new.vars.items() if name not in gone}
    new.vars.update({name: from_journal(value) for name, value in body.get("set", {}).items()})
    new.provenance = {name: flags for name, flags in new.provenance.items() if name not in gone}
    new.input = {**new.input, **{name: from_journal(value) for name, value in body.get("input", {}).items()}}


def _renumbered(monitors: dict[str, Json], rules: dict[str, int]) -> dict[str, Json]:
    """What limits have counted, under the numbers that their rules have now."""
    found: dict[str, Any] = {}
    for key, entry in monitors.items():
        kind, *rest = key.split(SEP, 2)
        if kind == "limit":
            if rest[0] not in rules:
                continue
            key = SEP.join(("limit", str(rules[rest[0]]), rest[1]))
        found[key] = entry
    return found
