"""Forgetting runs that have ended."""

from __future__ import annotations

import hashlib

import pytest

from jamjet_dsl.ports import Batch, Draft, Erasable, KeyConflict, KeyUse, Snapshot, Standing, Store
from tests.contract.test_store_contract import RUNNING, append, asked, begin, code_of, first, moved


def ended(store: Store, run_id: str, at_ms: int, status: str = "completed") -> None:
    """A run with something in every table."""
    lease = begin(store, run_id)
    question = f"q-{run_id}"
    append(store, lease, 1, [asked(question)], Standing("waiting", "x", questions=(question,)))
    number = store.enqueue(run_id, "event", {"n": 1}, f"event:{run_id}", 5)
    store.enqueue(run_id, "event", {"n": 2}, None, 6)
    assert number is not None
    value = run_id.encode()
    append(
        store,
        lease,
        2,
        [moved(2), Draft(at_ms, "finished", {"status": status})],
        Standing(status, "done"),
        consumed=[number],
        keys=[KeyUse("pay", run_id, b"a" * 32)],
        erasable=[Erasable(hashlib.sha256(b"s" + value).digest(), "p", b"s", value)],
        snapshot=Snapshot(3, b"state"),
        release=True,
    )


def fill(store: Store) -> None:
    for n, run_id in enumerate(("one", "two", "three")):
        ended(store, run_id, 10_000 + n, "failed" if run_id == "two" else "completed")
    begin(store, "going")


def pruned(store: Store, **how: object) -> list[str]:
    return [row.run_id for row in store.prune(now_ms=99_000, **how)]  # type: ignore[arg-type]


def test_what_would_be_pruned_is_told_and_stays(store: Store) -> None:
    fill(store)
    rows = store.prune(now_ms=99_000, dry_run=True)
    assert [(r.run_id, r.agent, r.status, r.ended_ms, r.events) for r in rows] == [
        ("one", "a", "completed", 10_000, 4),
        ("two", "a", "failed", 10_001, 4),
        ("three", "a", "completed", 10_002, 4),
    ]
    assert all(row.bytes > 100 for row in rows)
    assert len(store.summaries()) == 4
    assert len(list(store.history("one"))) == 4


def test_only_runs_that_ended_go_and_everything_of_them_does(store: Store) -> None:
    fill(store)
    assert pruned(store) == ["one", "two", "three"]
    assert [s.run_id for s in store.summaries()] == ["going"]
    assert store.questions(status=None) == []
    assert store.mail() == set()
    for call in (store.summary, store.snapshot, store.erasable, store.pending, store.last_seq, store.find):
        assert code_of(lambda call=call: call("one")) == "JAMR201"  # type: ignore[misc, operator]
    assert code_of(lambda: list(store.history("one"))) == "JAMR201"
    assert code_of(lambda: store.deduped("one", "event:one")) == "JAMR201"
    assert code_of(lambda: store.find_question("q-one")) == "JAMR401"
    assert pruned(store) == []


def test_age_status_and_number_choose(store: Store) -> None:
    fill(store)
    assert pruned(store, before_ms=10_002, dry_run=True) == ["one", "two"]
    assert pruned(store, keep=1, dry_run=True) == ["one", "two"]
    assert pruned(store, keep=9, dry_run=True) == []
    assert pruned(store, keep=1, before_ms=10_001, dry_run=True) == ["one"]
    assert pruned(store, statuses=["failed"]) == ["two"]
    assert pruned(store, statuses=["completed"], keep=1) == ["one"]
    assert [s.run_id for s in store.summaries()] == ["three", "going"]


def test_a_run_that_has_not_ended_cannot_be_asked_for(store: Store) -> None:
    with pytest.raises(ValueError, match="ended"):
        store.prune(now_ms=1, statuses=["waiting"])


def test_ids_do_not_come_back(store: Store) -> None:
    fill(store)
    pruned(store)
    assert code_of(lambda: begin(store, "one")) == "JAMR203"
    lease = begin(store, "new")
    again = Batch([asked("q-one")], Standing("waiting", "x", questions=("q-one",)))
    assert code_of(lambda: store.append(lease, 1, again)) == "JAMR208"
    assert store.last_seq("new") == 1


def test_a_declared_key_stays_bound(store: Store) -> None:
    fill(store)
    pruned(store)
    assert store.key_digest("pay", "one") == b"a" * 32
    lease = begin(store, "new")
    with pytest.raises(KeyConflict):
        append(store, lease, 1, [moved(1)], RUNNING, keys=[KeyUse("pay", "one", b"b" * 32)])
    append(store, lease, 1, [moved(1)], RUNNING, keys=[KeyUse("pay", "one", b"a" * 32)])


def test_a_follower_misses_nothing_across_a_prune(store: Store) -> None:
    """The newest events go, and what comes after them has new positions all the same."""
    ended(store, "one", 10_000)
    _, position = store.activity(0)
    pruned(store)
    assert store.activity(position) == (set(), position)
    begin(store, "new")
    moved_runs, later = store.activity(position)
    assert moved_runs == {"new"}
    assert later > position
    ended(store, "two", 10_000)
    _, position = store.activity(later)
    pruned(store)
    pruned(store)
    begin(store, "newer")
    assert store.activity(position)[0] == {"newer"}


def test_pruning_shows_as_a_change(store: Store) -> None:
    fill(store)
    before = store.changes()
    pruned(store, dry_run=True)
    assert store.changes() == before
    pruned(store)
    assert store.changes() != before


def test_a_run_that_somebody_still_drives_stays(store: Store) -> None:
    lease = begin(store)
    append(store, lease, 1, [Draft(1001, "finished", {"status": "completed"})], Standing("completed", "x"))
    assert pruned(store) == []
    store.release(lease)
    assert pruned(store) == ["r"]


def test_definitions_stay_for_runs_that_are_about_to_start(store: Store) -> None:
    source = first(store).body["source"]
    ended(store, "one", 10_000)
    pruned(store)
    assert store.side(source) == b"{}"
    begin(store, "new")
