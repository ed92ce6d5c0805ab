"""Appends of several runs in one transaction."""

from __future__ import annotations

import hashlib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Batch, Draft, Erasable, KeyConflict, KeyUse, Lease, New, Snapshot, Standing, Store, Written
from jamjet_dsl.store.chain import broken_at, encode
from jamjet_dsl.store.memory import MemoryStore
from tests.contract.test_store_contract import RUNNING, append, asked, begin, first, moved


def outcomes(results: list[Written]) -> list[Any]:
    """`new` for a run that was made, `ok` for what was appended, the code of what was refused."""
    shown: list[Any] = []
    for result in results:
        match result:
            case None:
                shown.append("ok")
            case Lease():
                shown.append("new")
            case JamError():
                shown.append(result.code)
            case KeyConflict():
                shown.append("conflict")
    return shown


def sound(store: Store, run_id: str) -> list[int]:
    events = list(store.history(run_id))
    rows = [(e.seq, e.at_ms, e.kind, encode(e.body), e.prev_hash, e.hash) for e in events]
    assert broken_at(run_id, rows) is None
    return [e.seq for e in events]


def test_a_group_is_committed_in_its_order(store: Store) -> None:
    leases = [begin(store, f"r{n}") for n in range(5)]
    position = store.activity(None)[1]
    results = store.append_many([(lease, 1, Batch([moved(1), moved(2)], RUNNING)) for lease in leases])
    assert outcomes(results) == ["ok"] * 5
    assert store.activity(position) == ({f"r{n}" for n in range(5)}, position + 10)
    assert all(sound(store, f"r{n}") == [1, 2, 3] for n in range(5))


def test_an_empty_group_does_nothing(store: Store) -> None:
    assert store.append_many([]) == []


def test_what_each_item_is_refused_for_stands_in_its_place(store: Store) -> None:
    good, stale, other, gone, full = (begin(store, name) for name in ("good", "stale", "other", "gone", "full"))
    store.claim("stale", "you", 10_000, 20_000)
    number = store.enqueue("gone", "event", {}, None, 1)
    assert number is not None
    append(store, gone, 1, [moved(1)], RUNNING, consumed=[number])
    append(store, good, 1, [moved(1)], RUNNING, keys=[KeyUse("pay", "k", b"a" * 32)])
    drafts = [moved(3)]
    results = store.append_many(
        [
            (good, 2, Batch(drafts, RUNNING)),
            (stale, 1, Batch(drafts, RUNNING)),
            (other, 1, Batch(drafts, RUNNING, keys=[KeyUse("pay", "k", b"b" * 32)])),
            (gone, 2, Batch(drafts, RUNNING, consumed=[number])),
            (full, 1, Batch([Draft(1002, "moved", {"x": "y" * 17_000_000})], RUNNING)),
            (full, 1, Batch([Draft(1002, "moved", {"x": "\ud800"})], RUNNING)),
            (Lease("nobody", "me", 1, 9), 1, Batch(drafts, RUNNING)),
            (full, 1, Batch(drafts, RUNNING)),
        ]
    )
    assert outcomes(results) == ["ok", "JAMR206", "conflict", "JAMR206", "JAMR003", "JAMR302", "JAMR201", "ok"]
    assert [sound(store, name) for name in ("good", "stale", "other", "gone", "full")] == [
        [1, 2, 3],
        [1],
        [1],
        [1, 2],
        [1, 2],
    ]


def test_an_item_that_fails_late_leaves_nothing_of_itself(store: Store) -> None:
    """What an item writes before it is refused is taken back, and only that."""
    one, two, three = (begin(store, name) for name in ("one", "two", "three"))
    append(store, one, 1, [asked("q1")], Standing("waiting", "x", questions=("q1",)))
    row = Erasable(hashlib.sha256(b"sv").digest(), "p", b"s", b"v")
    bad = Batch(
        [moved(2), asked("q1", 1003)],
        Standing("waiting", "elsewhere", ({"kind": "x"},), 77, {"steps": 9}, ("q1",)),
        keys=[KeyUse("pay", "new", b"c" * 32)],
        erasable=[row],
        snapshot=Snapshot(2, b"state"),
        release=True,
    )
    before = store.summary("two")
    results = store.append_many([(two, 1, bad), (three, 1, Batch([moved(1)], RUNNING)), (two, 1, bad)])
    assert outcomes(results) == ["JAMR208", "ok", "JAMR208"]
    assert store.summary("two") == before
    assert (store.key_digest("pay", "new"), store.erasable("two"), store.snapshot("two")) == (None, [], None)
    assert sound(store, "two") == [1]
    assert [q.run_id for q in store.questions()] == ["one"]
    append(store, two, 1, [moved(1)], RUNNING)


def test_a_run_may_stand_in_a_group_twice(store: Store) -> None:
    lease = begin(store)
    results = store.append_many(
        [
            (lease, 1, Batch([moved(1)], RUNNING)),
            (lease, 2, Batch([moved(2)], Standing("waiting", "x"))),
            (lease, 2, Batch([moved(3)], RUNNING)),
        ]
    )
    assert outcomes(results) == ["ok", "ok", "JAMR206"]
    assert store.summary("r").status == "waiting"
    assert sound(store, "r") == [1, 2, 3]


def test_the_appends_of_one_run_are_tried_in_their_order(store: Store) -> None:
    """One that is refused is not written after all because another that came later made its place."""
    lease, other = begin(store), begin(store, "other")
    results = store.append_many(
        [
            (lease, 2, Batch([moved(1)], RUNNING)),
            (other, 1, Batch([Draft(1002, "moved", {"x": "\ud800"})], RUNNING)),
            (lease, 1, Batch([moved(2)], RUNNING)),
            (other, 1, Batch([moved(3)], RUNNING)),
            (lease, 1, Batch([moved(4)], RUNNING)),
        ]
    )
    assert outcomes(results) == ["JAMR206", "JAMR302", "ok", "ok", "JAMR206"]
    assert [e.body["n"] for name in ("r", "other") for e in list(store.history(name))[1:]] == [2, 3]


def test_what_is_asked_and_closed_at_once_was_asked(store: Store) -> None:
    one, two = begin(store, "one"), begin(store, "two")
    drafts = [asked("q1"), Draft(1003, "expired", {"question": "q1"})]
    results = store.append_many([(one, 1, Batch(drafts, RUNNING)), (two, 1, Batch([moved(1)], RUNNING))])
    assert outcomes(results) == ["ok", "ok"]
    assert [(q.run_id, q.status) for q in store.questions(status=None)] == [("one", "expired")]


def test_runs_are_created_in_groups_too(store: Store) -> None:
    begin(store, "there")
    lease = begin(store, "append")
    start = Batch([first(store), moved(1)], RUNNING)
    asks = Standing("waiting", "x", questions=("q1",))
    key = [KeyUse("pay", "k", b"a" * 32)]
    other = [KeyUse("pay", "k", b"b" * 32)]
    results = store.append_many(
        [
            New("one", start, "me", 10_000, 1_000),
            New("there", start, "me", 10_000, 1_000),
            New("a b", start, "me", 10_000, 1_000),
            (lease, 1, Batch([moved(1)], RUNNING)),
            New("two", Batch([first(store), asked("q1")], asks, keys=key), "me", 10_000, 1_000),
            New("three", Batch([first(store), asked("q1")], asks), "me", 10_000, 1_000),
            New("four", Batch([first(store)], RUNNING, keys=other), "me", 10_000, 1_000),
            New("one", start, "you", 10_000, 1_000),
            New("free", start._replace(release=True), "me", 10_000, 1_000),
        ]
    )
    assert outcomes(results) == [
        "new", "JAMR203", "JAMR207", "ok", "new", "JAMR208", "conflict", "JAMR203", "new",
    ]  # fmt: skip
    assert [s.run_id for s in store.summaries()] == ["there", "append", "one", "two", "free"]
    assert {s.run_id: s.owner for s in store.summaries()} == dict.fromkeys(("there", "append", "one", "two"), "me") | {
        "free": ""
    }
    made = results[0]
    assert isinstance(made, Lease)
    append(store, made, 2, [moved(3)], RUNNING)
    # A number of a run that was taken back is given to nobody whose journal it could spoil.
    assert [sound(store, s.run_id)[:1] for s in store.summaries()] == [[1]] * 5
    begin(store, "three")
    assert sound(store, "three") == [1]


def test_of_two_that_bind_one_key_the_first_has_it(store: Store) -> None:
    one, two = begin(store, "one"), begin(store, "two")
    results = store.append_many(
        [
            (one, 1, Batch([moved(1)], RUNNING, keys=[KeyUse("pay", "k", b"a" * 32)])),
            (two, 1, Batch([moved(1)], RUNNING, keys=[KeyUse("pay", "k", b"b" * 32)])),
        ]
    )
    assert outcomes(results) == ["ok", "conflict"]
    assert store.key_digest("pay", "k") == b"a" * 32


def test_consuming_and_releasing_go_in_groups_too(store: Store) -> None:
    one, two = begin(store, "one"), begin(store, "two")
    number = store.enqueue("one", "event", {"n": 1}, None, 5)
    assert number is not None
    results = store.append_many(
        [(one, 1, Batch([], RUNNING, consumed=[number])), (two, 1, Batch([], RUNNING, release=True))]
    )
    assert outcomes(results) == ["ok", "ok"]
    assert store.pending("one") == []
    assert (store.summary("one").owner, store.summary("two").owner) == ("me", "")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=12))
def test_a_group_does_what_the_same_appends_one_by_one_do(store: Store, plan: list[tuple[int, int]]) -> None:
    """Each item is a run and what is wrong with it: nothing, its seq, a key, a message, its question."""
    alone = MemoryStore()
    tag = f"{store.activity(None)[1]}-"
    made = {}
    for kept, name in ((store, "group"), (alone, "alone")):
        made[name] = [begin(kept, f"{tag}{n}") for n in range(4)]
        # Something that each kind of bad item collides with.
        append(kept, made[name][3], 1, [asked(f"{tag}q")], Standing("waiting", "x", questions=(f"{tag}q",)))
        append(kept, made[name][3], 2, [moved(1)], RUNNING, keys=[KeyUse("t", f"{tag}k", b"a" * 32)])
    seqs = {0: 1, 1: 1, 2: 1, 3: 3}
    items = []
    for n, wrong in plan:
        drafts = [moved(1), asked(f"{tag}q", 1003)] if wrong == 4 else [moved(1)]
        batch = Batch(
            drafts,
            RUNNING,
            consumed=[10**9] if wrong == 3 else [],
            keys=[KeyUse("t", f"{tag}k", b"b" * 32)] if wrong == 2 else [],
        )
        items.append((n, seqs[n] + (7 if wrong == 1 else 0), batch))
        seqs[n] += wrong == 0
    grouped = store.append_many([(made["group"][n], seq, batch) for n, seq, batch in items])
    single: list[Written] = []
    for n, seq, batch in items:
        try:
            alone.append(made["alone"][n], seq, batch)
            single.append(None)
        except (JamError, KeyConflict) as error:
            single.append(error)
    assert outcomes(grouped) == outcomes(single)
    for n in range(4):
        assert [e.hash for e in store.history(f"{tag}{n}")] == [e.hash for e in alone.history(f"{tag}{n}")]
