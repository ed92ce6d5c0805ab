"""Forks: a new run that goes on from a point in another one's past.

A fork's journal begins with `forked`, which holds the whole state at that point and names the run, the event and its
hash. So a fork stands on its own: it can be resumed, replayed and forked again after the run it came from was pruned,
and as long as that one is there the two can be compared. Its calls are off unless it is `live`: they are answered by
the outcomes that the original had after that point, which follow as `recorded` events, while they are the same calls;
at the first that is not the fork is parked. People are asked anew, and time goes on from now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from jamjet_dsl.definition import Type
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Transition
from jamjet_dsl.engine.chance import new_id
from jamjet_dsl.engine.journal import batch_of
from jamjet_dsl.engine.loading import load_veil
from jamjet_dsl.engine.recordings import is_off, mocked, parked_body, recorded
from jamjet_dsl.engine.replay import Disagrees, Walk
from jamjet_dsl.engine.replay_world import Impossible, same
from jamjet_dsl.engine.veil import Veil
from jamjet_dsl.kernel import state_json
from jamjet_dsl.kernel.machine import apply, decide, initial
from jamjet_dsl.kernel.model import ENDED, Await, Event, RunState
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.values import from_journal, from_public, to_journal, to_public
from jamjet_dsl.ports import Draft, Lease, Store

OUTCOMES = frozenset({"succeeded", "failed", "fact", "probed"})


@dataclass(frozen=True, slots=True)
class Fork:
    """A fork that was made. `state` is where it goes on; `recordings` how many outcomes it can answer from."""

    run_id: str
    origin: str
    at: int
    state: str
    live: bool
    recordings: int
    repeats: tuple[str, ...]
    """Calls that cannot be taken back and that the original has made after that point."""


@dataclass(slots=True)
class _Later:
    """What the original did after the point: its outcomes, and the writes that cannot be taken back."""

    bodies: list[dict[str, Any]]
    begun: dict[str, str]
    hidden: Veil | None = None
    """All that the original hides."""


def fork(
    store: Store,
    run_id: str,
    at: int,
    *,
    owner: str,
    now_ms: int,
    id: str | None = None,
    set: Mapping[str, Any] | None = None,
    input: Mapping[str, Any] | None = None,
    mocks: Mapping[str, Any] | None = None,
    live: bool = False,
    allow_repeat: bool = False,
    by: str = "",
) -> Fork:
    """Make a run that goes on from the state of `run_id` after event `at`, with the variables `set` and the inputs
    `input` (public JSON) changed. Nothing of it has been worked on: resume it. `mocks` are what tools and thinking
    states are to give, by name, instead of what they gave in the original.

    Raises JamError: JAMR006 (live, with mocks), JAMR201, JAMR203 (its id exists), JAMR204 (the original had ended
    there), JAMR301 (a variable, an input or a mock does not fit), JAMR410 (live, and a call that cannot be taken back
    would be made again, unless `allow_repeat`), JAMR411 (no such event), JAMR413 (values of that state were
    erased), JAMR107 for a journal that does not prove itself.
    """
    if live and mocks:
        raise JamError("JAMR006", "the calls of a live fork are made, not mocked", "leave out --mock, or --live")
    run_id = store.find(run_id)
    name = id if id is not None else new_id()
    place, later = _walked(store, run_id, at, name)
    state, program, source, hash_ = place
    if state.status in ENDED:
        raise JamError(
            "JAMR204", f"the run {run_id} is {state.status} at event {at}", f"fork it --at {at - 1} or before"
        )
    repeats = _repeats(program, state, later)
    if live and repeats and not allow_repeat:
        raise JamError(
            "JAMR410", f"a live fork of {run_id} at {at} would repeat what cannot be taken back", "", repeats
        )
    body: dict[str, Any] = {
        "definition": program.digest,
        "source": source,
        "agent": state.agent,
        "parent": run_id,
        "origin": {"run": run_id, "seq": at, "hash": hash_, "live": live},
        "whole": json.loads(state_json.encode(state)),
        "by": by,
    }
    for field, given, declared in (("input", input, program.agent.inputs), ("set", set, program.agent.vars)):
        if given:
            body[field] = _values(program, field, given, {each.name: each.type for each in declared})
    recordings = [] if live else [*mocked(program, mocks or {}), *later.bodies]
    events = [("forked", body), *(("recorded", r) for r in recordings)]
    _create(store, program, name, events, owner, now_ms, later.hidden)
    where = state.frames[""].state
    return Fork(name, run_id, at, where, live, 0 if live else len(later.bodies), repeats)


def _walked(store: Store, run_id: str, at: int, name: str) -> tuple[tuple[RunState, Program, str, str], _Later]:
    """Goes through the original, proving it on the way: where it stood after event `at`, and what it did after that."""
    walk = Walk(store, run_id)
    place: tuple[RunState, Program, str, str] | None = None
    later = _Later([], {})
    try:
        for event in store.history(run_id):
            walk.step(event)
            if event.seq == at:
                assert walk.program is not None
                assert walk.pinned is not None
                place = walk.state, walk.program, walk.pinned.source, event.hash
                _open_at(walk, later)
            elif event.seq > at:
                shown = event if walk.veil is None else replace(event, body=walk.veil.shown(event.body)[0])
                # What was erased of an outcome cannot be given again: the fork comes to a call without a record.
                whole = walk.veil is None or not walk.veil.erased_in(shown.body)
                if event.kind in OUTCOMES and walk.landed is not None and whole:
                    later.bodies.append(recorded(walk.landed, shown, (run_id, name)))
                _note(walk, shown, later)
    except Disagrees as found:
        what = found.disagreement
        help = f"`jam replay {run_id}` shows what disagrees"
        raise JamError("JAMR107", f"the journal of {run_id} does not prove itself at event {what.seq}", help) from None
    later.hidden = walk.veil
    if place is None:
        raise JamError("JAMR411", f"the run {run_id} has no event {at}: its last is {walk.state.seq}")
    return place, later


def _open_at(walk: Walk, later: _Later) -> None:
    for cmd, intent in walk.state.intents.items():
        if intent.body.get("effect") == "irreversible" and intent.body.get("tool"):
            later.begun[cmd] = _shown_call(walk, intent.body)


def _note(walk: Walk, event: Event, later: _Later) -> None:
    """A call that cannot be taken back was begun; a definite failure says that it did not happen."""
    body = event.body
    if event.kind == "intent" and body.get("effect") == "irreversible":
        later.begun[body["cmd"]] = _shown_call(walk, body)
    elif event.kind == "failed" and body.get("definite") and "cmd" in body:
        later.begun.pop(body["cmd"], None)


def _shown_call(walk: Walk, body: Mapping[str, Any]) -> str:
    args = body["args"] if walk.veil is None else walk.veil.hide_value(body["args"])
    try:
        shown = to_public(from_journal(args))
    except ValueError:
        shown = args
    told = ", ".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in shown.items())
    return f"{body['tool']}({told})"


def _repeats(program: Program, state: RunState, later: _Later) -> tuple[str, ...]:
    """The calls that a live fork would make again, or may make again under an approval that was given once."""
    found = list(dict.fromkeys(later.begun.values()))
    for grant in state.grants.values():
        tool = grant.call["tool"]
        known = any(call.startswith(f"{tool}(") for call in found)
        if grant.used_by is None and not known and program.defn.tools[tool].effect != "reads":
            found.append(f"{tool}, which {grant.by} approved once")
    return tuple(found)


def _values(program: Program, field: str, given: Mapping[str, Any], types: Mapping[str, Type]) -> dict[str, Any]:
    """Variables or inputs in the journal form. Raises JamError JAMR301 naming all that do not fit."""
    what, plural = ("input", "inputs") if field == "input" else ("variable", "variables")
    problems: list[str] = []
    values = {}
    for name, value in given.items():
        if name not in types:
            problems.append(f"{name}: `{program.agent.name}` has no such {what}")
            continue
        read = from_public(value, types[name], program.defn, name, problems)
        values[name] = None if problems else to_journal(read)
    if problems:
        word = "input" if field == "input" else "var"
        raise JamError("JAMR301", f"the {plural} do not fit", f"give what `{word}` declares", tuple(problems))
    return values


def _create(
    store: Store,
    program: Program,
    run_id: str,
    events: list[tuple[str, dict[str, Any]]],
    owner: str,
    now_ms: int,
    hidden: Veil | None,
) -> None:
    """Create the run. What the original hides at any point of its journal is hidden in the fork from its beginning:
    the recordings hold what it has not come to yet."""
    veil = load_veil(store, program, run_id, new=True)
    if veil is not None and hidden is not None:
        veil.learn_from(hidden)
    step = Transition(initial(run_id))
    for kind, body in events:
        step.drafts.append(Draft(now_ms, kind, body))
        step.state = apply(program, step.state, Event(run_id, step.state.seq + 1, now_ms, kind, body))
        step.passed.append(step.state)
    if veil is not None and veil.erased_in(json.loads(state_json.encode(step.state))):
        raise JamError(
            "JAMR413",
            "values that the fork needs to go on were erased",
            "give them with --input or --set, or fork a run that still has them",
        )
    step.awaits = [c for c in decide(program, step.state) if isinstance(c, Await)]
    lease: Lease | None = None
    try:
        lease = store.create(run_id, batch_of(veil, step), owner, 1, now_ms)
    except JamError as error:
        if error.code != "JAMR203":
            raise
        raise JamError(error.code, error.message, "give the fork another id, or none: one is drawn") from None
    finally:
        if lease is not None:
            store.release(lease)


# ---- in a replay


def check_forked(walk: Walk, event: Event) -> None:
    """The first event of a fork. While the original is there, its state at that point must be the one that the fork
    began with. Raises Impossible."""
    body = event.body
    origin, whole = body["origin"], body["whole"]
    try:
        walk.store.summary(origin["run"])
    except JamError:
        walk.found.open.append(f"the run {origin['run']}, which it came from, is not there any more")
        return
    there = Walk(walk.store, origin["run"])
    try:
        for past in walk.store.history(origin["run"]):
            there.step(past)
            if past.seq == origin["seq"]:
                break
    except Disagrees as found:
        seq = found.disagreement.seq
        raise Impossible(f"the run it came from, {origin['run']}, does not prove itself at event {seq}") from None
    if there.state.seq != origin["seq"] or past.hash != origin["hash"]:
        raise Impossible(f"the run it came from, {origin['run']}, has another event {origin['seq']}")
    if not same(json.loads(state_json.encode(there.state)), state_json.upgraded(whole)):
        raise Impossible(
            f"it does not begin with the state of {origin['run']} after event {origin['seq']}", of_values=True
        )


def check_parked(walk: Walk, event: Event) -> None:
    """A fork whose calls are off was parked at one that has no recording. Raises Impossible."""
    assert walk.program is not None
    command = walk.unrecorded
    if not is_off(walk.state) or command is None:
        raise Impossible("`parked` is something that is decided, and not here", decision=True)
    if not same(parked_body(walk.program, walk.state, command), event.body):
        raise Impossible("the fork was not parked like this", of_values=True)
