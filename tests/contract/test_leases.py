"""Who drives which run: heartbeats, claiming what is due, taking over from the lost."""

from __future__ import annotations

import threading

import pytest

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Batch, Draft, Lease, Standing, Store
from tests.contract.test_store_contract import CANONICAL, DIGEST, RUNNING, append, begin, code_of, moved


def rest(store: Store, run_id: str, wake_at_ms: int | None = None, status: str = "waiting") -> Lease:
    """A run that nobody drives."""
    lease = begin(store, run_id)
    append(store, lease, 1, [moved(1)], Standing(status, "x", (), wake_at_ms), release=True)
    return lease


def claimed(store: Store, now_ms: int, limit: int = 9, owner: str = "you", **more: object) -> list[str]:
    return [lease.run_id for lease in store.claim_due(owner, 1_000, now_ms, limit, **more)]  # type: ignore[arg-type]


def test_one_heartbeat_keeps_everything_of_an_owner(store: Store) -> None:
    leases = [begin(store, f"r{n}") for n in range(3)]
    kept = store.renew_many(leases[:1], 10_000, 9_000)
    assert [lease.expires_at_ms for lease in kept] == [19_000]
    for n in range(3):
        assert code_of(lambda n=n: store.claim(f"r{n}", "you", 1, 18_999)) == "JAMR205"  # type: ignore[misc]


def test_a_heartbeat_never_shortens_what_was_promised(store: Store) -> None:
    lease = begin(store)
    store.renew(lease, 10, 1_000)
    assert code_of(lambda: store.claim("r", "you", 1, 5_000)) == "JAMR205"


def test_leases_that_were_lost_are_left_out_of_a_renewal(store: Store) -> None:
    one, two, three = begin(store, "one"), begin(store, "two"), begin(store, "three")
    store.claim("two", "you", 10_000, 20_000)
    store.release(three)
    ghost = Lease("nobody", "me", 1, 1)
    assert [lease.run_id for lease in store.renew_many([one, two, three, ghost], 10_000, 20_000)] == ["one"]
    assert store.renew_many([], 1, 1) == []
    assert code_of(lambda: store.renew(three, 1, 1)) == "JAMR206"


def test_a_lease_that_is_over_is_good_until_somebody_takes_it(store: Store) -> None:
    lease = begin(store)
    append(store, lease, 1, [Draft(10**9, "moved", {})], RUNNING)
    store.renew(lease, 1_000, 10**9)
    store.claim("r", "you", 1_000, 2 * 10**9)
    assert code_of(lambda: append(store, lease, 2, [moved(1)], RUNNING)) == "JAMR206"


def test_what_is_due_is_claimed_longest_due_first(store: Store) -> None:
    for run_id, wake in {"late": 5_000, "later": 7_000, "first": 3_000, "not-yet": 9_000, "never": None}.items():
        rest(store, run_id, wake)
    rest(store, "parked", 4_000, "parked")
    assert store.next_wake() == 3_000
    assert claimed(store, 2_999) == []
    assert claimed(store, 8_000, limit=3) == ["first", "parked", "late"]
    assert store.next_wake() == 7_000
    assert claimed(store, 8_000, owner="third") == ["later"]
    assert claimed(store, 8_000, owner="fourth") == []


def test_mail_and_runs_left_in_the_middle_are_due(store: Store) -> None:
    rest(store, "mail")
    rest(store, "middle", None, "running")
    rest(store, "quiet")
    held = begin(store, "held")
    done = begin(store, "done")
    store.enqueue("done", "event", {}, None, 1)
    append(store, done, 1, [Draft(1001, "finished", {})], Standing("completed", "x"), release=True)
    store.enqueue("mail", "event", {}, None, 1)
    store.enqueue("held", "event", {}, None, 1)
    assert sorted(claimed(store, 5_000)) == ["mail", "middle"]
    append(store, held, 1, [moved(1)], RUNNING)


def test_a_run_that_is_due_for_two_reasons_is_claimed_once(store: Store) -> None:
    for n in range(4):
        rest(store, f"r{n}", 2_000)
        store.enqueue(f"r{n}", "event", {}, None, 1)
    assert len(claimed(store, 5_000, limit=3)) == 3
    assert len(claimed(store, 5_000, limit=3)) == 1


def test_programs_that_a_worker_cannot_run_are_left_alone(store: Store) -> None:
    rest(store, "mine", 2_000)
    other = store.put_definition(DIGEST, CANONICAL, b"other", 1)
    body = {"definition": DIGEST, "source": other, "agent": "a"}
    resting = Standing("waiting", "x", (), 1_500)
    lease = store.create("theirs", Batch([Draft(1000, "started", body)], resting), "me", 10, 1000)
    store.release(lease)
    assert claimed(store, 5_000, skip={other}) == ["mine"]
    assert claimed(store, 5_000, skip=set()) == ["theirs"]


@pytest.mark.parametrize("how", ["over", "dead"])
def test_what_a_lost_owner_held_is_freed_and_fenced(store: Store, how: str) -> None:
    leases = [begin(store, f"r{n}") for n in range(5)]
    append(store, leases[4], 1, [moved(1)], Standing("waiting", "x"))
    now_ms, dead = (20_000, None) if how == "over" else (2_000, lambda owner: owner == "me")
    assert claimed(store, 2_000) == []
    assert claimed(store, now_ms, limit=2, dead=dead) == ["r0", "r1"]
    for n, lease in enumerate(leases):
        assert code_of(lambda n=n, lease=lease: append(store, lease, 1 + (n == 4), [moved(1)], RUNNING)) == "JAMR206"  # type: ignore[misc]
    assert store.renew_many(leases, 1_000, now_ms) == []
    assert claimed(store, now_ms, owner="third", dead=dead) == ["r2", "r3"]


def test_a_claim_can_be_written_off(store: Store) -> None:
    rest(store, "r", 2_000)
    (lease,) = store.claim_due("you", 1_000, 5_000, 1)
    store.release(lease)
    assert claimed(store, 5_000, owner="third") == ["r"]
    assert code_of(lambda: append(store, lease, 2, [moved(1)], RUNNING)) == "JAMR206"


def test_an_owner_does_not_lose_its_runs_to_itself(store: Store) -> None:
    lease = begin(store)
    assert claimed(store, 50_000, owner="me") == []
    append(store, lease, 1, [moved(1)], RUNNING)


def test_many_claimers_never_share_a_run(store: Store) -> None:
    for n in range(40):
        rest(store, f"r{n}", 2_000)
    got: dict[str, list[str]] = {}

    def work(owner: str) -> None:
        got[owner] = []
        while names := claimed(store, 5_000, limit=3, owner=owner):
            got[owner] += names

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [name for names in got.values() for name in names]
    assert sorted(everything) == sorted(f"r{n}" for n in range(40))


def test_leases_survive_a_refused_claim(store: Store) -> None:
    lease = begin(store)
    with pytest.raises(JamError):
        store.claim("r", "you", 10_000, 5_000)
    append(store, lease, 1, [moved(1)], RUNNING)
