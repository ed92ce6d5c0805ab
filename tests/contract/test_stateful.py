"""The store on a disk and the one in memory, side by side under random calls: they answer alike, refuse alike, and
stand alike after each."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import ENDED
from jamjet_dsl.ports import Batch, Draft, Erasable, KeyConflict, KeyUse, Lease, Snapshot, Standing, Store
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.store.sqlite import SqliteStore
from tests.contract.test_store_contract import CANONICAL, DIGEST

RUN_IDS = ["r", "run", "run-1", "läuft", "x"]
OWNERS = ["ann", "bob", "cyd"]
QUESTIONS = ["q1", "q2", "q3", "q22"]
STATUSES = ["running", "waiting", "waiting", "parked", "completed", "failed", "cancelled"]

standings = st.builds(
    Standing,
    st.sampled_from(STATUSES),
    st.sampled_from(["one", "two"]),
    st.sampled_from([(), ({"kind": "event", "name": "e"},)]),
    st.none() | st.integers(0, 3_000),
    st.just({"steps": 1, "cost": "0.10 USD"}),
    st.lists(st.sampled_from(QUESTIONS), unique=True, max_size=2).map(tuple),
)
drafts = st.lists(
    st.one_of(
        st.builds(lambda n: ("moved", {"n": n}), st.integers()),
        st.builds(lambda q: ("asked", {"question": q, "state": "s", "role": "r"}), st.sampled_from(QUESTIONS)),
        st.builds(lambda q: ("answered", {"question": q, "option": "yes", "by": "zoe"}), st.sampled_from(QUESTIONS)),
        st.builds(lambda q: ("expired", {"question": q}), st.sampled_from(QUESTIONS)),
        st.builds(lambda t: ("late", {"text": t}), st.text(max_size=5)),
    ),
    max_size=3,
)
keys = st.lists(
    st.builds(
        lambda tool, key, args: KeyUse(tool, key, hashlib.sha256(args).digest()),
        st.sampled_from(["pay", "send"]),
        st.sampled_from(["k", "ü"]),
        st.sampled_from([b"1", b"2"]),
    ),
    max_size=2,
)


class Twins(RuleBasedStateMachine):
    """Every call goes to both."""

    leases: Bundle[Lease] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "t.db")
        self.disk: Store = SqliteStore(self.path, "normal")
        self.memory: Store = MemoryStore()
        self.now = 1_000
        self.salt = 0
        self.sources = [
            self.both(lambda s, side=side: s.put_definition(DIGEST, CANONICAL, side, 1))[1] for side in (b"{}", b"[]")
        ]

    def teardown(self) -> None:
        assert self.disk.check() == []  # type: ignore[attr-defined]
        self.disk.close()
        self.folder.cleanup()

    def both(self, call: Callable[[Store], Any]) -> tuple[str, Any]:
        """What both answer, or are wrong about, alike."""
        answers = [_answer(call, store) for store in (self.disk, self.memory)]
        assert answers[0] == answers[1]
        return answers[0]

    @rule(
        target=leases,
        run_id=st.sampled_from(RUN_IDS),
        owner=st.sampled_from(OWNERS),
        stands=standings,
        n=st.integers(0, 1),
    )
    def create(self, run_id: str, owner: str, stands: Standing, n: int) -> Any:
        stands = Standing(stands.status, stands.state, stands.waiting_for, stands.wake_at_ms, stands.spent)
        body = {"definition": DIGEST, "source": self.sources[n], "agent": "a", "parent": None}
        batch = Batch([Draft(self.now, "started", body)], stands)
        kind, made = self.both(lambda s: s.create(run_id, batch, owner, 500, self.now))
        return made if kind == "ok" else multiple()

    def batch(self, lease: Lease, parts: list[tuple[str, dict[str, Any]]], **more: Any) -> Batch:
        stands = more.pop("stands")
        if any(kind == "asked" for kind, _ in parts) and stands.status in ENDED:
            parts = []
        return Batch([Draft(self.now, kind, dict(body)) for kind, body in parts], stands, **more)

    def take(self, lease: Lease, many: int) -> list[int]:
        """Messages of the run that can be consumed, and perhaps one that cannot."""
        kind, found = self.both(lambda s: s.pending(lease.run_id))
        return [m.id for m in found][:many] if kind == "ok" else []

    @rule(
        lease=leases, parts=drafts, stands=standings, uses=keys, off=st.sampled_from([0, 0, 0, 1, -1]),
        take=st.integers(0, 2), snapshot=st.booleans(), release=st.booleans(), repin=st.sampled_from([None, 0, 1]),
        hide=st.booleans(),
    )  # fmt: skip
    def append(
        self, lease: Lease, parts: list[tuple[str, dict[str, Any]]], stands: Standing, uses: list[KeyUse], off: int,
        take: int, snapshot: bool, release: bool, repin: int | None, hide: bool,
    ) -> None:  # fmt: skip
        kind, seq = self.both(lambda s: s.last_seq(lease.run_id))
        if kind != "ok":
            return
        batch = self.batch(
            lease,
            parts,
            stands=stands,
            consumed=self.take(lease, take),
            keys=uses,
            snapshot=Snapshot(seq, b"state") if snapshot and parts else None,
            release=release,
            repin=None if repin is None else (DIGEST, self.sources[repin]),
            erasable=[self.hidden()] if hide and parts else [],
        )
        self.both(lambda s: s.append(lease, seq + off, batch))

    def hidden(self) -> Erasable:
        self.salt += 1
        salt = str(self.salt).encode()
        return Erasable(hashlib.sha256(salt + b"v").digest(), "p", salt, b"v")

    @rule(
        plan=st.lists(
            st.tuples(leases, drafts, standings, keys, st.sampled_from([0, 0, 0, 1]), st.booleans()), max_size=4
        )
    )
    def append_many(self, plan: list[Any]) -> None:
        items, ahead = [], dict[str, int]()
        for lease, parts, stands, uses, off, release in plan:
            kind, seq = self.both(lambda s, run_id=lease.run_id: s.last_seq(run_id))
            seq = seq + ahead.get(lease.run_id, 0) if kind == "ok" else 1
            batch = self.batch(lease, parts, stands=stands, keys=uses, release=release)
            items.append((lease, seq + off, batch))
            ahead[lease.run_id] = ahead.get(lease.run_id, 0) + (len(batch.drafts) if not off else 0)
        self.both(lambda s: [_shown(result) for result in s.append_many(items)])

    @rule(
        target=leases,
        run_id=st.sampled_from(RUN_IDS),
        owner=st.sampled_from(OWNERS),
        dead=st.sampled_from([None, *OWNERS]),
    )
    def claim(self, run_id: str, owner: str, dead: str | None) -> Any:
        kind, lease = self.both(lambda s: s.claim(run_id, owner, 500, self.now, lambda name: name == dead))
        return lease if kind == "ok" else multiple()

    @rule(
        target=leases, owner=st.sampled_from(OWNERS), limit=st.integers(1, 3), dead=st.sampled_from([None, *OWNERS]),
        skip=st.booleans(),
    )  # fmt: skip
    def claim_due(self, owner: str, limit: int, dead: str | None, skip: bool) -> Any:
        avoid = self.sources[:1] if skip else []
        _, found = self.both(lambda s: s.claim_due(owner, 500, self.now, limit, lambda name: name == dead, avoid))
        return multiple(*found)

    @rule(held=st.lists(leases, max_size=4))
    def renew(self, held: list[Lease]) -> None:
        self.both(lambda s: s.renew_many(held, 500, self.now))

    @rule(lease=leases)
    def release(self, lease: Lease) -> None:
        self.both(lambda s: s.release(lease))

    @rule(run_id=st.sampled_from(RUN_IDS), dedupe=st.none() | st.sampled_from(["d", "e"]), n=st.integers())
    def enqueue(self, run_id: str, dedupe: str | None, n: int) -> None:
        self.both(lambda s: s.enqueue(run_id, "event", {"n": n}, dedupe, self.now))

    @rule(by=st.integers(1, 700))
    def time_passes(self, by: int) -> None:
        self.now += by

    @rule(
        before=st.none() | st.integers(500, 4_000), keep=st.integers(0, 2), dry=st.booleans(),
        statuses=st.sampled_from([ENDED, ["failed"], ["completed", "cancelled"]]),
    )  # fmt: skip
    def prune(self, before: int | None, keep: int, dry: bool, statuses: Any) -> None:
        self.both(lambda s: s.prune(now_ms=self.now, before_ms=before, keep=keep, statuses=statuses, dry_run=dry))

    @rule(tool=st.sampled_from(["a", "b"]), holder=st.sampled_from(["r/#1", "r/#2"]))
    def take_slot(self, tool: str, holder: str) -> None:
        self.both(lambda s: s.take_slot(tool, [(2, 100), (3, 1_000)], self.now, holder))

    @rule()
    def reopen(self) -> None:
        self.disk.close()
        self.disk = SqliteStore(self.path, "normal")

    @rule(prefix=st.sampled_from([*RUN_IDS, *QUESTIONS, "", "q", "ru", "\U0010ffff"]))
    def find(self, prefix: str) -> None:
        self.both(lambda s: s.find(prefix))
        self.both(lambda s: s.find_question(prefix))

    @invariant()
    def they_stand_alike(self) -> None:
        self.both(lambda s: sorted(s.summaries(), key=lambda row: row.run_id))
        self.both(lambda s: s.questions(status=None))
        self.both(lambda s: s.questions())
        self.both(lambda s: (sorted(s.due(self.now)), s.next_wake(), s.mail(), s.activity(0)[0]))
        for use in (KeyUse("pay", "k", b""), KeyUse("send", "ü", b"")):
            self.both(lambda s, use=use: s.key_digest(use.tool, use.key))
        for run_id in RUN_IDS:
            self.both(lambda s, run_id=run_id: list(s.history(run_id)))
            self.both(lambda s, run_id=run_id: list(s.history(run_id, after=2)))
            self.both(lambda s, run_id=run_id: (s.pending(run_id), s.snapshot(run_id), s.last_seq(run_id)))
            self.both(lambda s, run_id=run_id: sorted(s.erasable(run_id)))
            self.both(lambda s, run_id=run_id: s.deduped(run_id, "d"))


def _answer(call: Callable[[Store], Any], store: Store) -> tuple[str, Any]:
    try:
        return "ok", call(store)
    except (JamError, KeyConflict) as error:
        return _shown(error)


def _shown(result: Any) -> Any:
    if isinstance(result, JamError):
        return "refused", result.code
    return ("conflict", result.use.key) if isinstance(result, KeyConflict) else result


TestTwins = Twins.TestCase
TestTwins.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
