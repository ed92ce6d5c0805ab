"""Writing one run's journal: batches under a lease, snapshots, and what is redacted kept out of all of it."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import replace

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Transition, standing
from jamjet_dsl.engine.veil import Veil
from jamjet_dsl.kernel.machine import apply
from jamjet_dsl.kernel.model import Event
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.state_json import encode
from jamjet_dsl.ports import Batch, Draft, Lease, Snapshot, Store

LEASE_MS = 15_000
SNAPSHOT_EVERY = 200
SNAPSHOT_AT_REST = 20
"""Events since the last snapshot after which the next is taken: while a run works, and when it comes to rest."""
LOCKED_TRIES = 5
"""How often a commit waits once more for a database that somebody else has locked."""


def batch_of(veil: Veil | None, step: Transition, snapshot: Snapshot | None = None) -> Batch:
    """What a transition writes."""
    stands = standing(step)
    if veil is None:
        return Batch(step.drafts, stands, keys=step.keys, snapshot=snapshot)
    # A value that one event brings and the next takes away stands in the first of them all the same.
    for state in step.passed or [step.state]:
        veil.learn(state)
    hidden = [veil.hide(draft) for draft in step.drafts]
    stands = replace(stands, waiting_for=tuple(veil.hide_value(wait) for wait in stands.waiting_for))
    return Batch(hidden, stands, keys=step.keys, erasable=tuple(veil.unsaved), snapshot=snapshot)


def hide_state(veil: Veil | None, data: bytes) -> bytes:
    """The bytes of a snapshot as they are stored."""
    return data if veil is None else _recoded(veil.hide_value(json.loads(data)))


def reveal_state(veil: Veil | None, data: bytes) -> bytes:
    """The bytes of a snapshot as the kernel wrote them."""
    return data if veil is None else _recoded(veil.reveal_value(json.loads(data)))


def _recoded(tree: object) -> bytes:
    return json.dumps(tree, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


class Journal:
    """One run's journal while its lease is held. `released` once the lease was given up."""

    def __init__(self, store: Store, program: Program, lease: Lease, veil: Veil | None, seq: int) -> None:
        self.released = False
        self._store = store
        self._program = program
        self._lease = lease
        self._veil = veil
        self._snapshot_seq = seq

    @property
    def renew_at_ms(self) -> int:
        """When the lease should be renewed: long before it is over."""
        return self._lease.expires_at_ms - LEASE_MS * 2 // 3

    def renew(self, now_ms: int) -> None:
        """Keep the lease if it is time to. Raises JamError JAMR206 if it was lost."""
        if now_ms >= self.renew_at_ms:
            self._lease = self._store.renew(self._lease, LEASE_MS, now_ms)

    def commit(
        self,
        after: int,
        step: Transition,
        now_ms: int,
        consumed: tuple[int, ...] = (),
        *,
        rest: bool = False,
        release: bool = False,
    ) -> None:
        """Write a transition that follows event `after`. A snapshot that is due becomes part of it.

        Raises KeyConflict, and JamError JAMR1xx or JAMR206; nothing is written then.
        """
        snapshot = None if step.ended else self._snapshot(step, now_ms, SNAPSHOT_AT_REST if rest else SNAPSHOT_EVERY)
        if step.drafts or consumed or release:
            batch = batch_of(self._veil, step, snapshot)._replace(consumed=consumed, release=release)
            self._append(after, batch)
        if self._veil is not None:
            self._veil.unsaved.clear()
        if snapshot is not None:
            self._snapshot_seq = step.state.seq
        self.released = self.released or release

    def release(self) -> None:
        """Give the lease up, if it is still ours."""
        if not self.released:
            self.released = True
            with suppress(JamError):
                self._store.release(self._lease)

    def _append(self, after: int, batch: Batch) -> None:
        for left in reversed(range(LOCKED_TRIES)):
            try:
                self._store.append(self._lease, after, batch)
                return
            except JamError as error:
                # An outcome is in our hands: it is worth more waiting than the store is patient for.
                if error.code != "JAMR103" or not left:
                    raise

    def _snapshot(self, step: Transition, now_ms: int, every: int) -> Snapshot | None:
        """The state as it is, and after it the chained event that holds the digest of what is stored."""
        state = step.state
        if state.seq - self._snapshot_seq < every:
            return None
        if self._veil is not None:
            self._veil.learn(state)
        data = hide_state(self._veil, encode(state))
        body = {"state_digest": hashlib.sha256(data).hexdigest(), "of": state.seq}
        at_ms = max(now_ms, state.now_ms)
        step.drafts.append(Draft(at_ms, "snapshot", body))
        step.state = apply(self._program, state, Event(state.run_id, state.seq + 1, at_ms, "snapshot", body))
        return Snapshot(state.seq, data)
