"""From the database to a program and a state: the definition a run is pinned to, and the fold of its journal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jamjet_dsl.definition import Compiled, Definition, SpanJson
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Transition
from jamjet_dsl.engine.journal import batch_of, reveal_state
from jamjet_dsl.engine.sight import Sight
from jamjet_dsl.engine.vault import HOW, VARIABLE, Vault
from jamjet_dsl.engine.veil import Veil
from jamjet_dsl.kernel.machine import apply, decide, initial
from jamjet_dsl.kernel.model import Await, Event, RunState
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.state_json import decode
from jamjet_dsl.ports import Store

if TYPE_CHECKING:
    from jamjet_dsl.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a run executes: `compiled` as it was when the run started, `folder` where its tools were then."""

    compiled: Compiled
    digest: str
    source: str
    folder: Path | None


def pin(store: Store, compiled: Compiled, folder: Path | None, now_ms: int) -> Pinned:
    """Store a program, so that runs of it never depend on its file again."""
    canonical = compiled.definition.canonical()
    number = compiled.definition.digest
    side = {
        "sources": compiled.sources,
        "spans": {key: span.model_dump() for key, span in compiled.spans.items()},
        "docs": compiled.docs,
        "folder": None if folder is None else str(folder),
    }
    data = json.dumps(side, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    return Pinned(compiled, number, store.put_definition(number, canonical, data, now_ms), folder)


def pinned(store: Store, definition: str, source: str) -> Pinned:
    """The program that was stored. Raises JamError JAMR104 or JAMR107 for one that cannot be read."""
    canonical, side = store.definition(definition), json.loads(store.side(source))
    try:
        read = Definition.model_validate_json(canonical)
    except ValueError as error:
        newer = json.loads(canonical).get("format", 1) > Definition.model_fields["format"].default
        code, what = ("JAMR104", "of a newer form") if newer else ("JAMR107", "damaged")
        raise JamError(code, f"the definition {definition[:12]} is {what}") from error
    spans = {key: SpanJson(**span) for key, span in side["spans"].items()}
    compiled = Compiled(definition=read, sources=side["sources"], spans=spans, docs=side["docs"])
    return Pinned(compiled, definition, source, Path(side["folder"]) if side.get("folder") else None)


def load_veil(store: Store, program: Program, run_id: str, new: bool = False) -> Veil | None:
    """What is secret or redacted of a run, which is none of the store's yet where it is `new`; None for a program with
    nothing of the kind. Raises JamError: JAMR306 where a key is needed and there is none, JAMR307 for a wrong one."""
    if not program.redacts:
        return None
    vault = needed_vault(program)
    return Veil(Sight.of(program), run_id, () if new else store.erasable(run_id), vault)


def needed_vault(program: Program) -> Vault | None:
    """The keys for a program's values. Raises JamError JAMR306 where it has secrets and there is no key."""
    vault = Vault.of_environment()
    if vault is None and program.has_secrets:
        what = f"the program has values of type `secret`, which are stored encrypted, and {VARIABLE} is not set"
        raise JamError("JAMR306", what, HOW)
    return vault


def load_state(store: Store, program: Program, run_id: str, veil: Veil | None) -> RunState:
    """The newest snapshot and what came after it, or the whole journal where a snapshot does not fit its digest."""
    return load_since(store, program, run_id, veil)[0]


def load_since(store: Store, program: Program, run_id: str, veil: Veil | None) -> tuple[RunState, int]:
    """The same, and the event whose snapshot was used; 0 where it was the whole journal."""
    snapshot = store.snapshot(run_id)
    if snapshot is not None:
        rest = list(store.history(run_id, after=snapshot.seq))
        state = _trusted(snapshot.state, rest, veil)
        if state is not None:
            return _fold_on(store, program, state, rest, veil), snapshot.seq
    return _fold_on(store, program, initial(run_id), store.history(run_id), veil), 0


def rebuild(store: SqliteStore, run_id: str) -> None:
    """Write a run's caches (summary, questions, keys) anew from its journal.

    Raises JamError JAMR107 for a journal that does not fit its hashes, JAMR201 for an unknown run.
    """
    pin = next(store.history(run_id)).body
    for event in store.history(run_id):
        pin = event.body["to"] if event.kind == "migrated" else pin
    program = _program(store, pin)
    veil = load_veil(store, program, run_id)
    state = _fold_on(store, program, initial(run_id), store.history(run_id), veil)
    step = Transition(state, awaits=[c for c in decide(program, state) if isinstance(c, Await)])
    store.rebuild(run_id, batch_of(veil, step).standing)


def _fold_on(store: Store, program: Program, state: RunState, events: Iterable[Event], veil: Veil | None) -> RunState:
    """The fold of what follows a state. `program` is the one that the run has now: what was journaled before it was
    migrated is folded with the one that it had then."""
    if isinstance(events, list):
        moved = next((event for event in events if event.kind == "migrated"), None)
        current = program if moved is None else _program(store, moved.body["from"])
    else:
        current = program
    for event in events:
        if event.kind == "migrated":
            current = _program(store, event.body["to"], program)
        elif event.seq == 1:
            current = _program(store, event.body, program)
        known = event if veil is None else replace(event, body=veil.reveal(event.body))
        state = apply(current, state, known)
    return state


def _program(store: Store, pin: dict[str, str], known: Program | None = None) -> Program:
    """The program that an event names; `known` if that is it."""
    if known is not None and known.digest == pin["definition"]:
        return known
    return Program.of(pinned(store, pin["definition"], pin["source"]).compiled.definition)


def _trusted(data: bytes, rest: list[Event], veil: Veil | None) -> RunState | None:
    """The state of a snapshot if the chained event right after it holds the digest of its bytes."""
    if not rest or rest[0].kind != "snapshot":
        return None
    if hashlib.sha256(data).hexdigest() != rest[0].body.get("state_digest"):
        return None
    try:
        return decode(reveal_state(veil, data))
    except ValueError:
        return None
