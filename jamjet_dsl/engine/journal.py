"""Writing one run's journal: batches under a lease, snapshots, and what is redacted kept out of all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from decimal import Decimal

from jamjet_dsl.engine.advance import Transition, Used, standing
from jamjet_dsl.engine.veil import Veil, open_name
from jamjet_dsl.kernel.machine import apply
from jamjet_dsl.kernel.model import Event, Share
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.state_json import FORMAT, encode
from jamjet_dsl.ports import Batch, Draft, KeyUse, Lease, Message, SharedUse, Snapshot, Store

LEASE_MS = 15_000
"""How long a lease lasts: a process that is stopped longer may find its runs taken over."""
SNAPSHOT_EVERY = 200
SNAPSHOT_AT_REST = 20
"""Events since the last snapshot after which the next is taken: while a run works, and when it comes to rest."""


def batch_of(
    veil: Veil | None,
    step: Transition,
    snapshot: Snapshot | None = None,
    consumed: tuple[int, ...] = (),
    release: bool = False,
) -> Batch:
    """What a transition writes."""
    stands = standing(step)
    if veil is None:
        return Batch(step.drafts, stands, consumed, step.keys, (), snapshot, release, uses=_named(None, step.uses))
    _learn(veil, step)
    hidden = [veil.hide(draft) for draft in step.drafts]
    stands = replace(stands, waiting_for=tuple(veil.hide_body(wait) for wait in stands.waiting_for))
    keys = [veil.key_use(use) for use in step.keys]
    return Batch(hidden, stands, consumed, keys, tuple(veil.unsaved), snapshot, release, uses=_named(veil, step.uses))


def _learn(veil: Veil, step: Transition) -> None:
    # A value that one event brings and the next takes away stands in the first of them all the same.
    for number, draft in enumerate(step.drafts):
        veil.learn_event(draft.body)
        if number < len(step.passed):
            veil.learn(step.passed[number])
    veil.learn(step.state)


def keys_of(veil: Veil | None, store: Store) -> Callable[[KeyUse], bytes | None]:
    """Where to ask for the digest of the arguments that a declared key was first used with, whatever the run hid that
    did."""

    def known(use: KeyUse) -> bytes | None:
        names = [open_name(use.key)] if veil is None else veil.key_names(use.key)
        digests = [use.args_digest] if veil is None else veil.digests(use.args_digest)
        kept = (store.key_digest(use.tool, name) for name in (use.key, *names))
        found = [digest for digest in kept if digest is not None]
        if any(digest in digests for digest in found):
            return use.args_digest
        return found[0] if found else None

    return known


def used_of(veil: Veil | None, store: Store) -> Used:
    """Where to ask what all runs have used of a limit that they share."""

    def used(who: str, share: Share) -> tuple[int, Decimal]:
        return store.shared_use(_whose(who), share.counter, _group(veil, share.group), share.since_ms)

    return used


def _named(veil: Veil | None, uses: Iterable[SharedUse]) -> list[SharedUse]:
    """Uses of shared limits as they are kept."""
    return [use._replace(who=_whose(use.who), group=_group(veil, use.group)) for use in uses]


def _whose(who: str) -> str:
    """The name under which is kept what somebody has used: always the same, whatever the run at hand has to hide. A run
    that could be counted under another name could get around a limit."""
    return hashlib.sha256(b"jam principal\n" + who.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _group(veil: Veil | None, group: str) -> str:
    """The name under which is kept what a limit counts something for. Of a program with secrets nobody can guess its
    values without the key."""
    digest = hashlib.sha256(b"jam group\n" + group.encode("utf-8", "surrogatepass")).digest()
    return (digest if veil is None else veil.kept_digest(digest)).hex()[:32]


def hide_state(veil: Veil | None, data: bytes) -> bytes:
    """The bytes of a snapshot as they are stored."""
    return data if veil is None else _recoded(veil.hide_state(json.loads(data)))


def reveal_state(veil: Veil | None, data: bytes) -> bytes:
    """The bytes of a snapshot as the kernel wrote them."""
    return data if veil is None else _recoded(veil.reveal_state(json.loads(data)))


def _recoded(tree: object) -> bytes:
    return json.dumps(tree, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


class Journal:
    """One run's journal while its lease is held. `released` once the lease was given up."""

    def __init__(
        self, store: Store, program: Program, lease: Lease, veil: Veil | None, seq: int, lease_ms: int = LEASE_MS
    ) -> None:
        self.released = False
        self.key_digest = keys_of(veil, store)
        self.used = used_of(veil, store)
        self.lease = lease
        self._store = store
        self._program = program
        self._lease_ms = lease_ms
        self._veil = veil
        self._snapshot_seq = seq

    @property
    def renew_at_ms(self) -> int:
        """When the lease should be renewed: long before it is over."""
        return self.lease.expires_at_ms - self._lease_ms * 2 // 3

    def renew(self, now_ms: int) -> None:
        """Keep the lease if it is time to. Raises JamError JAMR206 if it was lost."""
        if now_ms >= self.renew_at_ms:
            self.lease = self._store.renew(self.lease, self._lease_ms, now_ms)

    def prepare(
        self,
        step: Transition,
        now_ms: int,
        consumed: tuple[int, ...] = (),
        *,
        rest: bool = False,
        release: bool = False,
    ) -> Batch:
        """What has to be written for a transition. A snapshot that is due becomes part of it."""
        snapshot = None
        if step.state.seq - self._snapshot_seq >= (SNAPSHOT_AT_REST if rest else SNAPSHOT_EVERY) and not step.ended:
            snapshot = self._snapshot(step, now_ms)
        return batch_of(self._veil, step, snapshot, consumed, release)

    def opened(self, messages: list[Message]) -> list[Message]:
        """Messages with what they say, which the inbox may only commit to. Raises JamError as `Veil` does."""
        if self._veil is None or not messages:
            return messages
        rows = self._store.erasable(self.lease.run_id)
        return [message._replace(body=self._veil.open_message(message.body, rows)) for message in messages]

    def written(self, step: Transition, batch: Batch) -> None:
        """The batch is in the store."""
        if self._veil is not None:
            self._veil.unsaved.clear()
        if batch.snapshot is not None:
            self._snapshot_seq = step.state.seq
        self.released = self.released or batch.release

    def _snapshot(self, step: Transition, now_ms: int) -> Snapshot:
        """The state as it is, and after it the chained event that holds the digest of what is stored."""
        state = step.state
        if self._veil is not None:
            _learn(self._veil, step)
        data = hide_state(self._veil, encode(state))
        body = {"state_digest": hashlib.sha256(data).hexdigest(), "of": state.seq, "form": FORMAT}
        at_ms = max(now_ms, state.now_ms)
        step.drafts.append(Draft(at_ms, "snapshot", body))
        step.state = apply(self._program, state, Event(state.run_id, state.seq + 1, at_ms, "snapshot", body))
        return Snapshot(state.seq, data)
