"""Damage a run database in every way a disk can, and see that nobody believes it.

    python -m tests.crash.corruption [N [SEED]]

N mutations (default 1,000; each with a seed of its own, from SEED on) of one database that real appends made: flipped
bits, bytes set at random, zeroed ranges, truncation, pages that change places, pages of an earlier moment, pages of
another database; in the database or its log, with or without the index of the log. After each, everything of every run
is read, the run is claimed and one event is appended.

What is read has to be what was written: the journal of each run a prefix of the true one (of which no commit is
halved), or a coded error. The same holds for what stands beside the journal: questions, messages, keys, summaries and
snapshots, as far as `docs/database.md` says that they are covered. No traceback, no hang.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Batch, Draft, Erasable, KeyUse, Lease, Snapshot, Standing
from jamjet_dsl.store.sqlite import SqliteStore

CANONICAL = b'{"agents":{},"format":1,"main":"a"}'
DIGEST = hashlib.sha256(CANONICAL).hexdigest()
RUNS = 12
STEPS = 25
PAGE = 4096
SLOW_S = 20.0
"""An answer that takes longer than this is a hang: without damage it takes a few milliseconds."""
HARMLESS = frozenset({"JAMR101", "JAMR102", "JAMR103", "JAMR104", "JAMR105", "JAMR106", "JAMR107"})
"""What may be said of a database that was damaged."""
MISSED = frozenset({"JAMR201", "JAMR401", "JAMR205"})
"""Said of a run or a question that exists (its entry in an index is gone), or of a run whose lease could not be given
up for that reason and has to run out. Never taken for another, but not called damage either; counted apart."""


class Truth(NamedTuple):
    """What was committed: by run, the hashes of its events (by seq), and the seqs that commits ended at."""

    journals: dict[str, list[str]]
    commits: dict[str, set[int]]
    questions: dict[str, set[tuple[Any, ...]]]
    messages: dict[str, set[tuple[Any, ...]]]
    keys: dict[tuple[str, str], bytes]
    snapshots: dict[str, set[tuple[int, bytes]]]
    erasable: dict[str, set[Erasable]]
    summaries: dict[str, set[tuple[Any, ...]]]


class Place(NamedTuple):
    """The files of a moment: database, log, index of the log, and those of an earlier one and of another database."""

    main: bytes
    wal: bytes
    shm: bytes
    earlier: bytes
    other: bytes


@dataclass
class Outcome:
    """How the mutations ended."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def __str__(self) -> str:
        found = ", ".join(f"{name} {count}" for name, count in self.counts.most_common())
        return f"{found}; slowest {self.slowest_s:.2f} s; wrong: {len(self.wrong)}"


class Writer:
    """Writes runs with something in every table, and keeps what was committed."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.truth = Truth({}, {}, {}, {}, {}, {}, {}, {})
        self._leases: dict[str, Lease] = {}
        self._seq: dict[str, int] = {}

    def begin(self, run_id: str) -> None:
        """A run with its first event."""
        source = self.store.put_definition(DIGEST, CANONICAL, b'{"sources":{}}', 1)
        body = {"definition": DIGEST, "source": source, "agent": "a", "input": {"of": run_id}}
        batch = Batch([Draft(1_000, "started", body)], Standing("running", "s0"))
        self._leases[run_id] = self.store.create(run_id, batch, "writer", 10**9, 1_000)
        for part in (self.truth.questions, self.truth.messages, self.truth.snapshots, self.truth.erasable):
            part[run_id] = set()
        self.truth.journals[run_id] = [e.hash for e in self.store.history(run_id)]
        self.truth.commits[run_id], self._seq[run_id] = {0, 1}, 1
        self.truth.summaries[run_id] = {_summary_of(self.store, run_id)}

    def step(self, run_id: str, n: int) -> None:
        """One commit: a few events, and now and then a question, a message, a key, a value, a snapshot."""
        store, truth, seq = self.store, self.truth, self._seq[run_id]
        drafts = [
            Draft(1_000 + n, "moved", {"n": n, "run": run_id, "pad": "x" * (n * 37 % 300)}) for _ in range(1 + n % 3)
        ]
        questions, consumed, keys, hidden = (), [], [], []
        if n % 7 == 3:
            name = f"q-{run_id}-{n}"
            drafts.append(Draft(1_000 + n, "asked", {"question": name, "role": "r", "text": f"pay {n}?"}))
            questions = (name,)
        if n % 5 == 2:
            store.take_slot("t", [(3, 1_000)], 1_000 + n, str(n))
            store.enqueue(run_id, "event", {"n": n, "run": run_id}, f"d{n}", 1_000 + n)
            truth.messages[run_id].update({_message(m) for m in store.pending(run_id)})
        if n % 10 == 4:
            consumed = [m.id for m in store.pending(run_id)][:1]
        if n % 4 == 1:
            keys = [KeyUse("pay", f"{run_id}/{n}", hashlib.sha256(f"{run_id}{n}".encode()).digest())]
        if n % 6 == 5:
            salt = f"{run_id}{n}".encode()
            hidden = [Erasable(hashlib.sha256(salt + b"v").digest(), "p", salt, b"v")]
        snapshot = Snapshot(seq, f"state of {run_id} at {seq}".encode() * 20) if n % 8 == 6 else None
        stands = Standing(
            "waiting" if n % 3 else "running", f"s{n}", ({"kind": "x", "n": n},), 5_000 + n, {"steps": n}, questions
        )
        store.append(self._leases[run_id], seq, Batch(drafts, stands, consumed, keys, hidden, snapshot, release=False))
        truth.journals[run_id] += [e.hash for e in store.history(run_id, seq)]
        self._seq[run_id] = seq + len(drafts)
        truth.commits[run_id].add(seq + len(drafts))
        truth.keys.update({(use.tool, use.key): use.args_digest for use in keys})
        truth.erasable[run_id].update(hidden)
        truth.snapshots[run_id].update([] if snapshot is None else [tuple(snapshot)])
        truth.questions[run_id].update(_question(q) for q in store.questions(run_id, None))
        truth.summaries[run_id].add(_summary_of(store, run_id))


def _question(row: Any) -> tuple[Any, ...]:
    return row.id, row.run_id, row.status, row.role, row.asked_ms, row.option, row.closed_ms, str(row.body)


def _message(row: Any) -> tuple[Any, ...]:
    return row.at_ms, row.kind, str(row.body)


def _summary_of(store: SqliteStore, run_id: str) -> tuple[Any, ...]:
    row = store.summary(run_id)
    return row.run_id, row.agent, row.source, row.status, row.state, str(row.waiting_for), row.last_seq, row.wake_at_ms


def prepare(folder: Path) -> tuple[Place, Truth]:
    """The database that is damaged: half of it moved into the file, half still in the log, as after a crash."""
    path = folder / "true.db"
    store = SqliteStore(path, "normal")
    writer = Writer(store)
    names = [f"run-{n}" for n in range(RUNS)]
    for name in names:
        writer.begin(name)
    earlier = b""
    for n in range(STEPS):
        for name in names:
            writer.step(name, n)
        if n in (STEPS // 3, STEPS * 2 // 3):
            store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            earlier = earlier or path.read_bytes()
    wal, shm = (Path(f"{path}{end}").read_bytes() for end in ("-wal", "-shm"))
    main = path.read_bytes()
    other = SqliteStore(folder / "other.db", "normal")
    stranger = Writer(other)
    for name in names[:4]:
        stranger.begin(name)
        for n in range(9):
            stranger.step(name, n + 1)
    other.close()
    store.close()
    return Place(main, wal, shm, earlier, (folder / "other.db").read_bytes()), writer.truth


# ---- damage


def flip_bits(data: bytearray, chance: random.Random, place: Place) -> None:
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def set_bytes(data: bytearray, chance: random.Random, place: Place) -> None:
    for _ in range(chance.choice((1, 2, 16))):
        data[chance.randrange(len(data))] = chance.randrange(256)


def flip_in_header(data: bytearray, chance: random.Random, place: Place) -> None:
    """Where one bit matters most: the first bytes of a page."""
    page = chance.randrange(max(len(data) // PAGE, 1)) * PAGE
    data[min(page + chance.randrange(110), len(data) - 1)] ^= 1 << chance.randrange(8)


def zero(data: bytearray, chance: random.Random, place: Place) -> None:
    length = min(chance.choice((1, 16, 512, PAGE, 3 * PAGE)), len(data))
    at = chance.randrange(len(data) - length + 1)
    data[at : at + length] = bytes(length)


def truncate(data: bytearray, chance: random.Random, place: Place) -> None:
    del data[chance.choice((chance.randrange(len(data)), len(data) // PAGE // 2 * PAGE)) :]


def swap_pages(data: bytearray, chance: random.Random, place: Place) -> None:
    one, two = (chance.randrange(max(len(data) // PAGE, 1)) * PAGE for _ in "ab")
    first, second = bytes(data[one : one + PAGE]), bytes(data[two : two + PAGE])
    if len(first) == len(second) == PAGE:
        data[one : one + PAGE], data[two : two + PAGE] = second, first


def old_page(data: bytearray, chance: random.Random, place: Place) -> None:
    _splice(data, chance, place.earlier)


def foreign_page(data: bytearray, chance: random.Random, place: Place) -> None:
    _splice(data, chance, place.other)


def _splice(data: bytearray, chance: random.Random, source: bytes) -> None:
    pages = min(len(data), len(source)) // PAGE
    if pages:
        at = chance.randrange(pages) * PAGE
        data[at : at + PAGE] = source[at : at + PAGE]


KINDS: tuple[Callable[[bytearray, random.Random, Place], None], ...] = (
    flip_bits,
    flip_bits,
    set_bytes,
    flip_in_header,
    zero,
    truncate,
    swap_pages,
    old_page,
    foreign_page,
)


def damage(place: Place, folder: Path, seed: int) -> str:
    """Write the files with one mutation; says which."""
    chance = random.Random(seed)
    kind, where = chance.choice(KINDS), chance.choice(("main", "main", "wal"))
    if kind in (old_page, foreign_page):
        where = "main"
    # Without its index the log is read anew, as after a crash of the machine.
    keep_shm = chance.random() < 0.3
    files = {"main": bytearray(place.main), "wal": bytearray(place.wal)}
    kind(files[where], chance, place)
    for end, data in (("", files["main"]), ("-wal", files["wal"]), ("-shm", place.shm if keep_shm else None)):
        path = folder / f"t.db{end}"
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)
    return f"seed {seed}: {kind.__name__} in {where}, {'with' if keep_shm else 'without'} shm"


# ---- what is said then


def attempt(path: Path, truth: Truth) -> tuple[str, list[str]]:
    """How opening and reading everything ended, and what of it was wrong."""
    said: Counter[str] = Counter()
    wrong: list[str] = []
    try:
        store = SqliteStore(path, "normal")
    except JamError as error:
        return f"refused {error.code}", [] if error.code in HARMLESS else [f"opening: {error.code} {error.message}"]
    try:
        for run_id in truth.journals:
            for what, look in LOOKS.items():
                try:
                    wrong += [f"{run_id}, {what}: {problem}" for problem in look(store, truth, run_id)]
                except JamError as error:
                    said[error.code] += 1
                    if error.code not in HARMLESS | MISSED:
                        wrong.append(f"{run_id}, {what}: {error.code} {error.message}")
    finally:
        try:
            store.close()
        except JamError as error:
            said[error.code] += 1
    if wrong:
        return "WRONG", wrong
    if not said:
        return "unharmed", []
    return ("detected" if set(said) & HARMLESS else "missed"), []


def _journal(store: SqliteStore, truth: Truth, run_id: str) -> Iterator[str]:
    known, seq = truth.journals[run_id], 0
    try:
        for event in store.history(run_id):
            seq = event.seq
            if seq > len(known) or known[seq - 1] != event.hash:
                yield f"event {seq} is not what was written"
                return
        if store.last_seq(run_id) > seq:
            yield f"ends at {seq} and says {store.last_seq(run_id)}"
    except JamError:
        if seq in truth.commits[run_id]:
            raise
    if seq not in truth.commits[run_id]:
        yield f"ends in the middle of a commit, at {seq}"


def _tail(store: SqliteStore, truth: Truth, run_id: str) -> Iterator[str]:
    snapshot = store.snapshot(run_id)
    after = 0 if snapshot is None else snapshot.seq
    if snapshot is not None and type(after) is int:
        known = truth.journals[run_id]
        for event in store.history(run_id, after):
            if event.seq > len(known) or known[event.seq - 1] != event.hash:
                yield f"event {event.seq} after the snapshot is not what was written"


def _beside(store: SqliteStore, truth: Truth, run_id: str) -> Iterator[str]:
    row = _summary_of(store, run_id)
    if row not in truth.summaries[run_id]:
        yield f"the summary was never written: {row}"


def _questions(store: SqliteStore, truth: Truth, run_id: str) -> Iterator[str]:
    for question in store.questions(run_id, None):
        if _question(question) not in truth.questions[run_id]:
            yield f"the question was never there: {question}"


def _messages(store: SqliteStore, truth: Truth, run_id: str) -> Iterator[str]:
    for message in store.pending(run_id):
        if _message(message) not in truth.messages[run_id]:
            yield f"the message was never there: {message}"


def _keys(store: SqliteStore, truth: Truth, run_id: str) -> Iterator[str]:
    for (tool, key), digest in truth.keys.items():
        if key.startswith(f"{run_id}/") and store.key_digest(tool, key) not in (digest, None):
            yield f"the key {key} has another digest"


def _values(store: SqliteStore, truth: Truth, run_id: str) -> Iterator[str]:
    for row in store.erasable(run_id):
        if row.commitment not in {known.commitment for known in truth.erasable[run_id]}:
            yield f"a value that was never there: {row}"


def _going_on(store: SqliteStore, truth: Truth, run_id: str) -> Iterator[str]:
    """Claim and append: what is written now follows what was there, or is refused."""
    seq = store.last_seq(run_id)
    lease = store.claim(run_id, "next", 10, 10**12)
    store.append(lease, seq, Batch([Draft(9_000, "resumed", {})], Standing("running", "x")))
    (event,) = store.history(run_id, seq)
    if seq not in truth.commits[run_id] or event.prev_hash != truth.journals[run_id][seq - 1]:
        yield f"went on after {seq} from a journal that never was"


def _lists(store: SqliteStore, truth: Truth, run_id: str) -> Iterator[str]:
    """What a worker and an operator ask of the whole database. Only the first run pays for it."""
    if run_id != "run-0":
        return
    for list_ in (store.summaries, store.mail, store.next_wake, lambda: store.due(10**12), lambda: store.activity(0)):
        try:
            list_()
        except JamError as error:
            if error.code not in HARMLESS:
                raise
    yield from (
        f"prune would take {row}" for row in store.prune(now_ms=1, dry_run=True) if row.run_id in truth.journals
    )
    store.take_slot("t", [(3, 1_000)], 1_000, "later")
    for lease in store.claim_due("worker", 10, 10**12, 3):
        if lease.run_id not in truth.journals:
            yield f"claimed {lease}"
        store.renew_many([lease], 10, 10**12)
        store.release(lease)


LOOKS: dict[str, Callable[[SqliteStore, Truth, str], Iterator[str]]] = {
    "journal": _journal,
    "tail": _tail,
    "summary": _beside,
    "questions": _questions,
    "messages": _messages,
    "keys": _keys,
    "values": _values,
    "lists": _lists,
    "going on": _going_on,
}


def campaign(mutations: int, seed: int = 0) -> Outcome:
    """Run so many mutations."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place, truth = prepare(folder)
        for number in range(seed, seed + mutations):
            what = damage(place, folder, number)
            started = time.perf_counter()
            try:
                how, wrong = attempt(folder / "t.db", truth)
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                how, wrong = "TRACEBACK", [f"{type(error).__name__}: {error} ({where.name}:{where.lineno})"]
            took = time.perf_counter() - started
            outcome.slowest_s = max(outcome.slowest_s, took)
            if took > SLOW_S:
                how, wrong = "HANG", [f"took {took:.1f} s"]
            outcome.counts[how] += 1
            outcome.wrong += [f"{what}: {problem}" for problem in wrong]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    return outcome


def main(arguments: list[str]) -> int:
    """Print how it went."""
    outcome = campaign(int(arguments[0]) if arguments else 1_000, int(arguments[1]) if len(arguments) > 1 else 0)
    for line in outcome.wrong[:50]:
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{outcome}\n")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
