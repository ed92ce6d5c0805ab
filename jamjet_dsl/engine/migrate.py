"""Moving runs at rest to another version of their program, where they stand: `migrated` in the journal, the new pin in
the same transaction, and a snapshot after it, so that nobody has to read what the old program wrote to go on.

A run that does not fit stays as it is, and the verdict says why: see `compat`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jamjet_dsl.definition import Compiled
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Transition
from jamjet_dsl.engine.compat import Fit, fit
from jamjet_dsl.engine.journal import batch_of, hide_state
from jamjet_dsl.engine.loading import Pinned, load_state, load_veil, pin, pinned
from jamjet_dsl.engine.naming import run_to_change
from jamjet_dsl.engine.owner import is_dead
from jamjet_dsl.engine.reasons import Reason, reason
from jamjet_dsl.engine.replay_world import same
from jamjet_dsl.kernel import state_json
from jamjet_dsl.kernel.machine import apply, decide
from jamjet_dsl.kernel.model import ENDED, Await, Event, RunState
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.ports import Draft, Lease, RunSummary, Snapshot, Store

LEASE_MS = 15_000
AT_REST = ("waiting", "parked")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one run. `mapped` are the states it stands in that have another name now; `moved` says that it
    was done, `already` that there is nothing to do."""

    run_id: str
    status: str
    state: str
    reasons: tuple[Reason, ...]
    mapped: tuple[tuple[str, str], ...] = ()
    moved: bool = False
    already: bool = False

    @property
    def compatible(self) -> bool:
        """Whether nothing stands against it."""
        return not self.reasons

    def as_json(self) -> dict[str, Any]:
        """All of it, for `--format json`."""
        reasons = [each._asdict() for each in self.reasons]
        mapped = [{"from": old, "to": new} for old, new in self.mapped]
        return {**asdict(self), "reasons": reasons, "mapped": mapped, "compatible": self.compatible}


def runs_to_migrate(store: Store, compiled: Compiled) -> list[str]:
    """The runs of the program's agent that have not ended and are not of this program already."""
    agent, digest = compiled.definition.main, compiled.definition.digest
    rows = store.summaries(("running", "waiting", "parked"))
    return [row.run_id for row in rows if row.agent == agent and row.definition != digest]


def migrate(
    store: Store,
    run_id: str,
    compiled: Compiled,
    *,
    owner: str,
    now_ms: int,
    folder: str | Path | None = None,
    dry_run: bool = False,
    by: str = "",
    note: str = "",
) -> Verdict:
    """Move one run to a program, or with `dry_run` only say what stands against it. Nothing is decided or called.

    Raises JamError: JAMR201 for an unknown run, JAMR1xx for the database.
    """
    run_id = store.find(run_id) if dry_run else run_to_change(store, run_id)
    new = Program.of(compiled.definition)
    summary = store.summary(run_id)
    if summary.definition == new.digest and summary.status not in ENDED:
        return Verdict(run_id, summary.status, summary.state, (), already=True)
    if dry_run:
        return _verdict(store, store.summary(run_id), new, now_ms)[0]
    try:
        lease = store.claim(run_id, owner, LEASE_MS, now_ms, dead=is_dead)
    except JamError as error:
        if error.code != "JAMR205":
            raise
        summary = store.summary(run_id)
        return Verdict(run_id, summary.status, summary.state, (reason(error.code, error.message),))
    try:
        summary = store.summary(run_id)
        verdict, found, old, state = _verdict(store, summary, new, now_ms)
        if verdict.compatible and state is not None and old is not None:
            place = pin(store, compiled, None if folder is None else Path(folder), now_ms)
            _commit(store, lease, old, place, new, state, found, {"by": by, "note": note}, now_ms)
            return replace(verdict, moved=True)
        return verdict
    finally:
        store.release(lease)


def _verdict(
    store: Store, summary: RunSummary, new: Program, now_ms: int
) -> tuple[Verdict, Fit, Pinned | None, RunState | None]:
    """What stands against moving a run now."""
    found = Fit()
    old: Pinned | None = None
    state: RunState | None = None
    if summary.status in ENDED:
        found.against("JAMR204", f"it has ended ({summary.status})")
    elif summary.agent != new.agent.name:
        help = f"name a program of its agent: `--to FILE:{summary.agent}`"
        found.against("JAMR412", f"it is of the agent `{summary.agent}`, the program of `{new.agent.name}`", help)
    else:
        old = pinned(store, summary.definition, summary.source)
        program = Program.of(old.compiled.definition)
        state = load_state(store, program, summary.run_id, load_veil(store, program, summary.run_id))
        if not at_rest(state):
            help = f"try again once it rests; `jam show {summary.run_id}` says where it stands"
            found.against("JAMR412", "it is at work: a run is moved while it waits or is parked", help)
        else:
            found = fit(program, new, state, max(now_ms, state.now_ms))
    names = found.body.get("states", {})
    mapped = tuple(sorted((was, names[was]) for was in names if state is not None and _stands_in(state, was)))
    return Verdict(summary.run_id, summary.status, summary.state, tuple(found.reasons), mapped), found, old, state


def _stands_in(state: RunState, name: str) -> bool:
    """Whether something of the run's own agent is in a state, or inside it."""
    frames = [frame for frame in state.frames.values() if not frame.agent]
    return any(name in (frame.state, *frame.region.split("/")[::2]) for frame in frames)


def at_rest(state: RunState) -> bool:
    """Whether nothing of the run is in flight, so that all there is to it stands in its state."""
    return state.status in AT_REST and all(intent.unsettled for intent in state.intents.values())


def _commit(
    store: Store,
    lease: Lease,
    old: Pinned,
    place: Pinned,
    new: Program,
    state: RunState,
    found: Fit,
    who: dict[str, Any],
    now_ms: int,
) -> None:
    at_ms = max(now_ms, state.now_ms)
    body = {
        "from": {"definition": old.digest, "source": old.source},
        "to": {"definition": place.digest, "source": place.source},
        **found.body,
        **{name: text for name, text in who.items() if text},
    }
    veil = load_veil(store, new, state.run_id)
    step = Transition(state)
    _add(step, new, at_ms, "migrated", body)
    if veil is not None:
        veil.learn(step.state)
    data = hide_state(veil, state_json.encode(step.state))
    snapshot = Snapshot(step.state.seq, data)
    digest = hashlib.sha256(data).hexdigest()
    _add(step, new, at_ms, "snapshot", {"state_digest": digest, "of": snapshot.seq, "form": state_json.FORMAT})
    commands = decide(new, step.state)
    step.awaits = [command for command in commands if isinstance(command, Await)]
    batch = batch_of(veil, step, snapshot)
    standing = batch.standing
    if any(not isinstance(command, Await) for command in commands):
        # What the run waited for may be there already, as the new program sees it: whoever works next takes it up.
        standing = replace(standing, wake_at_ms=at_ms)
    pin_now = (place.digest, place.source)
    store.append(lease, state.seq, batch._replace(standing=standing, release=True, repin=pin_now))


def _add(step: Transition, program: Program, at_ms: int, kind: str, body: dict[str, Any]) -> None:
    event = Event(step.state.run_id, step.state.seq + 1, at_ms, kind, body)
    step.drafts.append(Draft(at_ms, kind, body))
    step.state = apply(program, step.state, event)
    step.passed.append(step.state)


def check_migrated(old: Program, new: Program, state: RunState, body: dict[str, Any], at_ms: int) -> str | None:
    """What is wrong with a `migrated` event that came to this state; None if it is as it had to be."""
    if body.get("from", {}).get("definition") != old.digest:
        return "it is said to come from another program"
    if not at_rest(state):
        return "the run was at work"
    found = fit(old, new, state, at_ms)
    if found.reasons:
        reason = found.reasons[0]
        return f"the run did not fit the program ({reason.code}): {reason.message}"
    given = {name: value for name, value in body.items() if name not in ("from", "to", "by", "note")}
    return None if same(found.body, given) else "what it changes in the state is not what had to be changed"
