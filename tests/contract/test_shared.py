"""Limits that all runs of a principal share: what every store promises of them."""

from __future__ import annotations

import threading
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Batch, Draft, Lease, LimitConflict, New, SharedUse, Standing, Store
from jamjet_dsl.store.sqlite import SqliteStore
from tests.contract.test_store_contract import RUNNING, append, begin, first, moved

NONE = (0, Decimal(0))


def use(
    cmd: str = "#1.1",
    amount: str = "1.50",
    most: tuple[int | None, str | None] = (0, None),
    who: str = "ann",
    at_ms: int = 2000,
    **more: str,
) -> SharedUse:
    """Of the limit `c`, with a window of a second. `most` may have been used before."""
    limit = (who, more.get("counter", "c"), more.get("group", "[]"), at_ms - 1000)
    total = None if most[1] is None else Decimal(most[1])
    return SharedUse(*limit, at_ms, cmd, Decimal(amount), most[0], total)


def test_what_all_runs_have_used_adds_up_exactly(store: Store) -> None:
    one, two = begin(store, "one"), begin(store, "two")
    assert store.shared_use("ann", "c", "[]", 0) == NONE
    append(store, one, 1, [moved(1)], RUNNING, uses=[use("#1.1", "0.10"), use("#2.1", "0.20", most=(1, None))])
    assert store.shared_use("ann", "c", "[]", 1000) == (2, Decimal("0.30"))
    append(store, two, 1, [moved(1)], RUNNING, uses=[use(amount="1e20", most=(2, "0.3"))])
    append(store, one, 2, [moved(2)], RUNNING, uses=[use("#3.1", "1e-20", most=(None, None))])
    assert store.shared_use("ann", "c", "[]", 1000) == (4, Decimal("100000000000000000000.30000000000000000001"))


def test_another_principal_counter_group_or_time_is_apart(store: Store) -> None:
    append(store, begin(store, "one"), 1, [moved(1)], RUNNING, uses=[use()])
    assert store.shared_use("bo", "c", "[]", 0) == NONE
    assert store.shared_use("ann", "d", "[]", 0) == NONE
    assert store.shared_use("ann", "c", '["x"]', 0) == NONE
    assert store.shared_use("ann", "c", "[]", 2000) == NONE
    assert store.shared_use("ann", "c", "[]", 1999) == (1, Decimal("1.50"))


def test_a_window_holds_what_was_used_after_it_began(store: Store) -> None:
    lease = begin(store, "one")
    for n in range(1, 6):
        append(store, lease, n, [moved(n)], RUNNING, uses=[use(f"#{n}.1", f"{n}", (None, None), at_ms=n * 100)])
    found = [store.shared_use("ann", "c", "[]", since) for since in (-1, 99, 100, 350, 499, 500)]
    assert found == [(5, 15), (5, 15), (4, 14), (2, 9), (1, 5), NONE]


def test_the_times_of_a_counter_do_not_go_back(store: Store) -> None:
    """The clock of another process may be behind: what it uses later stays in the window at least as long."""
    one, two = begin(store, "one"), begin(store, "two")
    append(store, one, 1, [moved(1)], RUNNING, uses=[use(at_ms=5000)])
    append(store, two, 1, [moved(1)], RUNNING, uses=[use(at_ms=3000, most=(1, None))])
    assert store.shared_use("ann", "c", "[]", 4000) == (2, Decimal(3))
    assert store.shared_use("ann", "c", "[]", 5000) == NONE


def test_a_use_without_room_is_refused_whole(store: Store) -> None:
    one, two = begin(store, "one"), begin(store, "two")
    append(store, one, 1, [moved(1)], RUNNING, uses=[use()])
    for full in (use(most=(0, None)), use(most=(None, "1.49")), use(most=(0, "1.5")), use(most=(1, "1.4"))):
        with pytest.raises(LimitConflict):
            append(store, two, 1, [moved(1)], RUNNING, uses=[use(who="bo"), full])
    assert store.last_seq("two") == 1
    assert store.shared_use("bo", "c", "[]", 0) == NONE
    append(store, two, 1, [moved(1)], RUNNING, uses=[use(most=(1, "1.5"))])


def test_one_call_counts_once_and_several_of_a_batch_one_after_the_other(store: Store) -> None:
    """Two limits may count the same, one in a window and one for good: both are asked as if the call were not made."""
    lease = begin(store, "one")
    append(store, lease, 1, [moved(1)], RUNNING, uses=[use(), use()])
    assert store.shared_use("ann", "c", "[]", 0) == (1, Decimal("1.50"))
    with pytest.raises(LimitConflict):
        append(store, lease, 2, [moved(2)], RUNNING, uses=[use("#2.1", most=(1, None)), use("#3.1", most=(1, None))])
    append(store, lease, 2, [moved(2)], RUNNING, uses=[use("#2.1", most=(1, None)), use("#3.1", most=(2, None))])
    assert store.shared_use("ann", "c", "[]", 0) == (3, Decimal("4.50"))


def test_a_new_run_counts_too(store: Store) -> None:
    def new(name: str, shared: SharedUse) -> New:
        return New(name, Batch([first(store)], RUNNING, uses=[shared]), "me", 10_000, 1000)

    store.create(*new("one", use()))
    with pytest.raises(LimitConflict):
        store.create(*new("two", use()))
    assert [summary.run_id for summary in store.summaries()] == ["one"]


def test_in_a_group_only_what_does_not_fit_is_refused(store: Store) -> None:
    """The first of a group takes the place; there is none for the second, and one for the third."""
    leases = [begin(store, name) for name in ("one", "two", "three")]
    room = [(0, None), (0, None), (1, "1.5")]
    results = store.append_many(
        [(lease, 1, Batch([moved(1)], RUNNING, uses=[use(most=m)])) for lease, m in zip(leases, room, strict=True)]
    )
    assert [type(result) for result in results] == [type(None), LimitConflict, type(None)]
    assert [store.last_seq(name) for name in ("one", "two", "three")] == [2, 1, 2]


def test_what_was_used_outlives_the_run(store: Store) -> None:
    one = begin(store, "one")
    ended = Standing("completed", "done")
    finished = Draft(1001, "finished", {"status": "completed"})
    append(store, one, 1, [finished], ended, uses=[use()], release=True)
    store.prune(now_ms=10**15, before_ms=10**15)
    assert store.summaries() == []
    assert store.shared_use("ann", "c", "[]", 0) == (1, Decimal("1.50"))


def test_what_no_window_can_see_is_forgotten_and_how_much_it_was_is_not(store: Store) -> None:
    """The newest of the old ones says how much there was; those of runs that are still there stay, for the doctor."""
    day, ended = 86_400_000, Standing("completed", "done")
    for n in range(8):
        lease = begin(store, f"r{n}")
        last = Draft(10 * day + n, "finished", {"status": "completed"})
        when = use(f"#{n}.1", "1", (None, None), at_ms=n * day)
        if n == 2:
            append(store, lease, 1, [moved(1)], RUNNING, uses=[when])
            continue
        append(store, lease, 1, [last], ended, uses=[when], release=True)
    windows = [(8, Decimal(8)), (2, Decimal(2)), (1, Decimal(1)), NONE]
    times = (-1, 5 * day, 6 * day, 7 * day)
    for _ in range(2):
        assert [store.shared_use("ann", "c", "[]", since) for since in times] == windows
        store.prune(now_ms=7 * day + 1)
    assert len(store.summaries()) == 1
    if isinstance(store, SqliteStore):
        kept = store._db.execute("SELECT calls FROM shared ORDER BY calls").fetchall()
        assert kept == [(3,), (6,), (7,), (8,)]


def test_of_two_writers_one_gets_the_last_place(tmp_path: Path) -> None:
    """Both were decided by the same look at what others had used; they write at once."""
    for number in range(10):
        assert _raced(tmp_path / f"{number}.db") == 1


def _raced(path: Path) -> int:
    """How many of two were refused."""
    stores = [SqliteStore(path), SqliteStore(path)]
    leases = [begin(store, f"r{n}") for n, store in enumerate(stores)]
    ready, refused = threading.Barrier(2), list[SharedUse]()

    def write(store: SqliteStore, lease: Lease) -> None:
        ready.wait()
        try:
            append(store, lease, 1, [moved(1)], RUNNING, uses=[use()])
        except LimitConflict as conflict:
            refused.append(conflict.use)

    threads = [threading.Thread(target=write, args=pair) for pair in zip(stores, leases, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    return len(refused)


def test_a_changed_row_is_noticed(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "t.db")) as store:
        append(store, begin(store, "one"), 1, [moved(1)], RUNNING, uses=[use()])
        store._db.execute("UPDATE shared SET total = '0.01'")
        with pytest.raises(JamError, match="what was used of a limit that runs share was changed"):
            store.shared_use("ann", "c", "[]", 0)
        assert any("what one has used of a limit was changed" in problem for problem in store.check())
