"""What the engine needs of the world, as protocols: a store, a clock, tools, models. One implementation of
each kind lives in `store/`, `tools/`, `models/`; tests bring their own clock and tools."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, TypeAlias

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.errors import ToolError as ToolError
from jamjet_dsl.kernel.model import ENDED, Call, Event, Think


class Draft(NamedTuple):
    """An event before the store has given it its number and hash. `body` is in the journal form."""

    at_ms: int
    kind: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to append to a run. `token` grows with every claim: a store refuses an older one (fencing)."""

    run_id: str
    owner: str
    token: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands after an append, as lists and inboxes show it. `questions` are the ids still open."""

    status: str
    state: str
    waiting_for: tuple[dict[str, Any], ...] = ()
    wake_at_ms: int | None = None
    spent: dict[str, Any] | None = None
    questions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a list of runs shows; a cache that can be rebuilt from the journal. Times in ms since 1970 UTC.

    `definition` and `source` are digests; `owner` drives the run now, or is empty; `parent` is the run it was forked
    from.
    """

    run_id: str
    agent: str
    definition: str
    source: str
    status: str
    state: str
    waiting_for: tuple[dict[str, Any], ...]
    created_ms: int
    updated_ms: int
    last_seq: int
    wake_at_ms: int | None
    spent: dict[str, Any]
    owner: str = ""
    parent: str | None = None
    """The run that a fork was made from."""


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A question to a person. `status` is open, answered, expired or closed; `body` that of its `asked` event."""

    id: str
    run_id: str
    state: str
    role: str
    status: str
    asked_ms: int
    expires_ms: int | None
    body: dict[str, Any]
    option: str | None = None
    by: str | None = None
    closed_ms: int | None = None


class Snapshot(NamedTuple):
    """A whole state after event `seq`, encoded by the kernel."""

    seq: int
    state: bytes


class Pruned(NamedTuple):
    """A run that was, or would be, pruned. `ended_ms` is the time of its last event; `bytes` those of its events."""

    run_id: str
    agent: str
    status: str
    ended_ms: int
    events: int
    bytes: int


class Message(NamedTuple):
    """Something from outside that waits for whoever drives the run: an answer, an event, an operator's move."""

    id: int
    at_ms: int
    kind: str
    body: dict[str, Any]


class Erasable(NamedTuple):
    """A value that the journal commits to without holding it. `commitment` is SHA-256 of salt and value.

    With a `key_id` both are encrypted under that key: `salt` is empty then, and `value` the ciphertext.
    """

    commitment: bytes
    path: str
    salt: bytes
    value: bytes
    nonce: bytes | None = None
    key_id: str | None = None


class Erased(NamedTuple):
    """What erasing did: how many values, and under which paths. `traces` is whether bytes of them may be left in the
    database file or its log, because another process was using it."""

    run_id: str
    paths: tuple[str, ...]
    values: int
    traces: bool


class KeyUse(NamedTuple):
    """A declared key is about to be used with arguments of this digest (SHA-256)."""

    tool: str
    key: str
    args_digest: bytes


class SharedUse(NamedTuple):
    """A call is about to count under a limit that all runs of a principal share: `who` that is, which `counter`, for
    what `group`, and since when (`since_ms`) what was used counts. `most_calls` and `most_total` are what may have been
    used for the decision to be the same (None: whatever was). `amount` and `most_total` are exact decimals, and no
    amount is below zero."""

    who: str
    counter: str
    group: str
    since_ms: int
    at_ms: int
    cmd: str
    amount: Decimal
    most_calls: int | None
    most_total: Decimal | None

    def fits(self, calls: int, total: Decimal) -> bool:
        """Whether the decision is the same where so much was used before."""
        if self.most_calls is not None and calls > self.most_calls:
            return False
        return self.most_total is None or total <= self.most_total


class Outdated(Exception):
    """What a transition was decided by is not so any more: it has to be decided again. Nothing of it was written."""


class LimitConflict(Outdated):
    """So much of a limit that runs share was used meanwhile that a call does not fit any more."""

    def __init__(self, use: SharedUse) -> None:
        super().__init__(f"what was left for {use.cmd} of a limit that runs share is used up")
        self.use = use


class KeyConflict(Outdated):
    """A declared key was used before with other arguments. Nothing of the append was written."""

    def __init__(self, use: KeyUse) -> None:
        super().__init__(f"the key {use.key!r} of {use.tool} was used with other arguments")
        self.use = use


class Batch(NamedTuple):
    """What one transition writes, in one transaction.

    `consumed` messages leave the inbox; `keys` are bound to their arguments (KeyConflict if one is bound to others);
    `uses` of shared limits are counted, once for a call, a counter and a group (LimitConflict if one does not fit any
    more; those of one call stand together); with `release` the lease is given up; with `repin` (definition, source) the
    run executes that program from now on.
    """

    drafts: Sequence[Draft]
    standing: Standing
    consumed: Sequence[int] = ()
    keys: Sequence[KeyUse] = ()
    erasable: Sequence[Erasable] = ()
    snapshot: Snapshot | None = None
    release: bool = False
    repin: tuple[str, str] | None = None
    uses: Sequence[SharedUse] = ()


class New(NamedTuple):
    """A run to be created, in a group of appends: what `create` takes."""

    run_id: str
    batch: Batch
    owner: str
    lease_ms: int
    now_ms: int


Item: TypeAlias = tuple[Lease, int, Batch] | New
"""One of a group: what `append` takes, or a run to be created."""

Written: TypeAlias = Lease | JamError | Outdated | None
"""What became of one of a group: what `create` or `append` would have returned (None: it is written), or what it would
have raised."""


Observer: TypeAlias = Callable[[str, int, int, str], None]
"""Hears, after each commit, of every run that was written: its id, the first and the last seq of what was written, and
the hash of the last, as this process computed it. It may be called from any thread, and must not block or raise."""


class Clock(Protocol):
    """Where time comes from. Milliseconds since 1970 UTC."""

    def now_ms(self) -> int: ...

    async def sleep_until(self, at_ms: int) -> None: ...


class Store(Protocol):
    """Runs, their journals and what belongs to them. Blocking; every call is one transaction.

    Raises JamError: JAMR1xx for what is wrong with the database, JAMR201 for an unknown run, JAMR203 for a run that
    exists, JAMR205 for a run that somebody drives, JAMR206 for a lease that is no longer valid.
    """

    observer: Observer | None
    """Who hears of commits; nobody at first."""

    @property
    def durability(self) -> str:
        """What a commit is worth: `full` (on the disk), `normal` (survives the process, perhaps not the power) or
        `none` (in memory)."""
        ...

    def put_definition(self, digest: str, canonical: bytes, side: bytes, now_ms: int) -> str:
        """Store a definition and what stands beside it (sources, spans, docs). Returns the digest of `side`."""
        ...

    def definition(self, digest: str) -> bytes: ...

    def side(self, digest: str) -> bytes: ...

    def create(self, run_id: str, batch: Batch, owner: str, lease_ms: int, now_ms: int) -> Lease:
        """Create a run with its first events; the first one names definition, source and agent. With `release` nobody
        holds it."""
        ...

    def claim(
        self, run_id: str, owner: str, lease_ms: int, now_ms: int, dead: Callable[[str], bool] | None = None
    ) -> Lease:
        """Take the lease of a run that nobody holds, whose lease is over, or whose owner `dead` knows to be gone."""
        ...

    def claim_due(
        self,
        owner: str,
        lease_ms: int,
        now_ms: int,
        limit: int,
        dead: Callable[[str], bool] | None = None,
        skip: Collection[str] = (),
    ) -> list[Lease]:
        """Claim up to `limit` runs that have something to do and that nobody drives, the longest due first.

        Runs of owners whose leases are over, or that `dead` knows to be gone, are nobody's. Runs of the programs in
        `skip` (digests, `RunSummary.source`) are left alone. One transaction; only a read when nothing is due.
        """
        ...

    def renew(self, lease: Lease, lease_ms: int, now_ms: int) -> Lease:
        """Keep everything that the lease's owner holds. Raises JamError JAMR206 if this lease was lost."""
        ...

    def renew_many(self, leases: Sequence[Lease], lease_ms: int, now_ms: int) -> list[Lease]:
        """Keep the leases of one owner, with one write for all of them. Those that were lost are left out."""
        ...

    def release(self, lease: Lease) -> None: ...

    def append(self, lease: Lease, expected_seq: int, batch: Batch) -> None:
        """Append a batch, all or nothing, if the lease is the newest and the journal ends at `expected_seq`: its events
        are numbered from there on, and `history` gives them as they were sealed."""
        ...

    def append_many(self, items: Sequence[Item]) -> list[Written]:
        """Several appends (lease, expected seq, batch) and new runs in one transaction and one disk sync, in their
        order.

        Each is all or nothing by itself: where `append` or `create` would have raised (JAMR201, 203, 206, 207, 208,
        003, 302, Outdated), what it would have raised stands in its place and the others are committed. What is
        wrong with the database (JAMR1xx) is raised, and nothing of any of them was written; JAMR107 of one run alone
        stands in its place. A run may stand in `items` more than once.
        """
        ...

    def erasable(self, run_id: str) -> list[Erasable]:
        """The values that a run's journal commits to and that were not erased."""
        ...

    def erase(self, run_id: str, wanted: Callable[[str], bool], now_ms: int) -> Erased:
        """Forget the values of a run whose path is `wanted`, in one transaction, and their traces in the file.

        The journal and its hashes stay as they are. Raises JamError JAMR414 for a run that has not ended.
        """
        ...

    def key_digest(self, tool: str, key: str) -> bytes | None:
        """The digest of the arguments that a declared key was first used with."""
        ...

    def shared_use(self, who: str, counter: str, group: str, since_ms: int) -> tuple[int, Decimal]:
        """What all runs have used of a shared limit after `since_ms`: calls and total. The times of one counter do not
        go back: a call that is counted after another one has its time at least."""
        ...

    def take_slot(self, tool: str, rates: Sequence[tuple[int, int]], now_ms: int, holder: str) -> int:
        """Reserve the next time at which the tool may be called, now or later: for each rate (calls, per_ms) at most
        so many calls in any window of that length, over all runs. `holder` is the action that calls, whatever the
        attempt: what it has reserved for later is what it gets, so that attempts that died leave nothing behind."""
        ...

    def slot(self, tool: str, now_ms: int, holder: str) -> int | None:
        """The time that `holder` has reserved for a call of the tool and that is yet to come; None without one."""
        ...

    def enqueue(
        self,
        run_id: str,
        kind: str,
        body: dict[str, Any],
        dedupe: str | None,
        now_ms: int,
        erasable: Sequence[Erasable] = (),
    ) -> int | None:
        """Leave a message for whoever drives the run, with the values that it commits to. None when `dedupe` was seen
        before for this run."""
        ...

    def deduped(self, run_id: str, dedupe: str) -> dict[str, Any] | None:
        """The body that was enqueued first under `dedupe`."""
        ...

    def pending(self, run_id: str) -> list[Message]: ...

    def mail(self) -> set[str]:
        """The runs that have pending messages."""
        ...

    def history(self, run_id: str, after: int = 0) -> Iterator[Event]:
        """A run's events in order. Raises JamError JAMR107 where the journal does not fit its hashes."""
        ...

    def last_seq(self, run_id: str) -> int: ...

    def snapshot(self, run_id: str) -> Snapshot | None: ...

    def summary(self, run_id: str) -> RunSummary: ...

    def summaries(self, status: Iterable[str] | None = None) -> list[RunSummary]: ...

    def due(self, now_ms: int) -> list[str]:
        """Runs that have something to do: due timers, messages, or a driver that was lost."""
        ...

    def next_wake(self) -> int | None:
        """When the first timer of a run that nobody drives is due; it may be in the past."""
        ...

    def find(self, prefix: str) -> str:
        """The one run whose id is or starts with `prefix`. JAMR201 for none, JAMR202 for several."""
        ...

    def find_question(self, prefix: str) -> QuestionRow:
        """The one question whose id is or starts with `prefix`. JAMR401 for none, JAMR202 for several."""
        ...

    def questions(self, run_id: str | None = None, status: str | None = "open") -> list[QuestionRow]: ...

    def activity(self, after: int | None) -> tuple[set[str], int]:
        """The runs with events after this position (none for None), and the newest position. Positions grow."""
        ...

    def changes(self) -> int:
        """A number that is different when somebody else has committed since it was last asked for."""
        ...

    def prune(
        self,
        *,
        now_ms: int,
        before_ms: int | None = None,
        keep: int = 0,
        statuses: Collection[str] = ENDED,
        dry_run: bool = False,
    ) -> list[Pruned]:
        """Forget the runs that have ended with one of these statuses, whose last event is older than `before_ms`, but
        for the `keep` newest of them: journal, questions, messages, snapshot, redacted values, in one transaction.

        Returns them, the oldest first; with `dry_run` nothing is changed. Their ids, and those of their questions,
        are never given out again; declared keys stay bound to their arguments. ValueError for a status that is none
        of an ended run.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may ask for beside its arguments: declare a parameter `ctx: jamjet_dsl.ToolContext`."""

    run_id: str
    state: str
    tool: str
    key: str
    """The declared idempotency key; without one, the trace key, which promises nothing."""
    promised: bool
    attempt: int
    deadline_ms: int | None


class ToolHost(Protocol):
    """Performs calls. Raises ToolError with a standard or declared error name."""

    async def call(
        self, call: Call, context: Callable[[], ToolContext], wanted: Callable[[], bool] | None = None
    ) -> Any:
        """The tool's result as it gave it. A call that had to wait begins only if it is still `wanted` then.
        `context` gives what a tool may ask for beside its arguments; few do."""
        ...

    def blocking(self, tool: str) -> bool:
        """Whether a call of this tool occupies a thread: it cannot be stopped, and its late result is waited for."""
        ...

    def missing(self, tools: Iterable[str]) -> list[str]:
        """What is wrong with the bindings of these tools, one sentence each; empty when all can be called."""
        ...


@dataclass(frozen=True, slots=True)
class ThinkResult:
    """What a model gave. `value` is the parsed JSON (or text) before validation; `messages` are what the
    conversation grows by, in the journal form."""

    value: Any
    tokens_in: int = 0
    tokens_out: int = 0
    cost: str | None = None
    provider: str = ""
    messages: tuple[Any, ...] = ()


class Model(Protocol):
    """One model: what `Engine(models={"large": …})` may be given."""

    async def ask(self, think: Think, run_id: str) -> ThinkResult:
        """One answer. Raises ToolError: RateLimited, Unavailable, Timeout, Disconnected, InvalidOutput, Crashed."""
        ...


class ModelHost(Protocol):
    """Asks models. Raises ToolError with a standard error name."""

    async def think(self, think: Think, run_id: str) -> ThinkResult: ...

    def missing(self, models: Iterable[str | None]) -> list[str]:
        """What is wrong with the bindings of these models, one sentence each."""
        ...
