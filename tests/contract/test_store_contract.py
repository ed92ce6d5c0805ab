"""What every store promises, run against each of them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Batch, Draft, Erasable, KeyConflict, KeyUse, Lease, Snapshot, Standing, Store
from jamjet_dsl.store.chain import GENESIS, broken_at, encode
from jamjet_dsl.store.memory import MemoryStore

CANONICAL = b'{"agents":{},"format":1,"main":"a"}'
DIGEST = hashlib.sha256(CANONICAL).hexdigest()
RUNNING = Standing("running", "one", spent={"steps": 1})


def first(store: Store, at_ms: int = 1000) -> Draft:
    source = store.put_definition(DIGEST, CANONICAL, b"{}", at_ms)
    return Draft(at_ms, "started", {"definition": DIGEST, "source": source, "agent": "a", "input": {}})


def begin(store: Store, run_id: str = "r", standing: Standing = RUNNING) -> Lease:
    return store.create(run_id, Batch([first(store)], standing), "me", 10_000, 1000)


def append(store: Store, lease: Lease, seq: int, drafts: list[Draft], standing: Standing, **more: Any) -> None:
    store.append(lease, seq, Batch(drafts, standing, **more))


def moved(n: int) -> Draft:
    return Draft(1000 + n, "moved", {"frame": "", "n": n})


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(JamError) as caught:
        call()
    return caught.value.code


def test_a_definition_comes_back_byte_for_byte(store: Store) -> None:
    source = store.put_definition(DIGEST, CANONICAL, b'{"sources":{}}', 1)
    assert store.definition(DIGEST) == CANONICAL
    assert store.side(source) == b'{"sources":{}}'


def test_two_layouts_of_one_definition_keep_their_sources_apart(store: Store) -> None:
    one = store.put_definition(DIGEST, CANONICAL, b"one", 1)
    two = store.put_definition(DIGEST, CANONICAL, b"two", 2)
    assert (store.side(one), store.side(two)) == (b"one", b"two")


def test_a_definition_under_a_wrong_digest_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="digest"):
        store.put_definition("0" * 64, CANONICAL, b"", 1)


def test_creating_a_run_twice_is_refused_and_changes_nothing(store: Store) -> None:
    begin(store)
    assert code_of(lambda: begin(store)) == "JAMR203"
    assert [e.kind for e in store.history("r")] == ["started"]


@pytest.mark.parametrize("bad", ["", "a b", "a/b", "a\\b", "x" * 129, "a\nb", "a\x1b[31m", "\ud800"])
def test_an_id_that_nothing_can_carry_is_refused(store: Store, bad: str) -> None:
    assert code_of(lambda: begin(store, bad)) == "JAMR207"


def test_events_come_back_in_order_with_a_chain_that_holds(store: Store) -> None:
    lease = begin(store)
    append(store, lease, 1, [moved(1), moved(2)], RUNNING)
    append(store, lease, 3, [moved(3)], RUNNING)
    events = list(store.history("r"))
    assert [e.seq for e in events] == [1, 2, 3, 4]
    assert events[0].prev_hash == GENESIS
    rows = [(e.seq, e.at_ms, e.kind, encode(e.body), e.prev_hash, e.hash) for e in events]
    assert broken_at("r", rows) is None
    assert broken_at("other", rows) == 1
    assert [e.seq for e in store.history("r", after=2)] == [3, 4]
    assert store.last_seq("r") == 4


@pytest.mark.parametrize("field", range(6))
def test_every_part_of_an_event_is_under_its_hash(store: Store, field: int) -> None:
    lease = begin(store)
    append(store, lease, 1, [moved(1), moved(2)], RUNNING)
    rows = [(e.seq, e.at_ms, e.kind, encode(e.body), e.prev_hash, e.hash) for e in store.history("r")]
    other = (9, 1999, "denied", b'{"n":7}', "1" * 64, "2" * 64)[field]
    rows[1] = (*rows[1][:field], other, *rows[1][field + 1 :])  # type: ignore[assignment]
    assert broken_at("r", rows) is not None


def test_an_append_at_another_seq_is_refused(store: Store) -> None:
    lease = begin(store)
    append(store, lease, 1, [moved(1)], RUNNING)
    assert code_of(lambda: append(store, lease, 1, [moved(2)], RUNNING)) == "JAMR206"
    assert store.last_seq("r") == 2


def test_an_append_is_all_or_nothing(store: Store) -> None:
    lease = begin(store)
    bad = Draft(1002, "moved", {"text": "\ud800"})
    assert code_of(lambda: append(store, lease, 1, [moved(1), bad], Standing("failed", "two"))) == "JAMR302"
    assert code_of(lambda: append(store, lease, 1, [moved(1)], RUNNING, consumed=[77])) == "JAMR206"
    assert store.last_seq("r") == 1
    assert store.summary("r").status == "running"
    append(store, lease, 1, [moved(1)], RUNNING)


def test_an_older_lease_is_fenced_off(store: Store) -> None:
    old = begin(store)
    new = store.claim("r", "you", 10_000, 20_000)
    assert new.token > old.token
    assert code_of(lambda: append(store, old, 1, [moved(1)], RUNNING)) == "JAMR206"
    assert code_of(lambda: store.renew(old, 10_000, 20_000)) == "JAMR206"
    append(store, new, 1, [moved(1)], RUNNING)


def test_a_lease_that_is_held_cannot_be_claimed(store: Store) -> None:
    begin(store)
    assert code_of(lambda: store.claim("r", "you", 10_000, 5_000)) == "JAMR205"
    assert store.claim("r", "you", 10_000, 5_000, dead=lambda owner: owner == "me").owner == "you"


def test_renewing_keeps_others_out_longer(store: Store) -> None:
    lease = store.renew(begin(store), 10_000, 9_000)
    assert lease.expires_at_ms == 19_000
    assert code_of(lambda: store.claim("r", "you", 10_000, 15_000)) == "JAMR205"


def test_a_released_lease_is_free_at_once_and_an_old_release_does_nothing(store: Store) -> None:
    lease = begin(store)
    store.release(lease)
    other = store.claim("r", "you", 10_000, 1_000)
    store.release(lease)
    assert store.summary("r").owner == "you"
    append(store, other, 1, [moved(1)], RUNNING)


def test_an_append_may_give_the_lease_up_with_it(store: Store) -> None:
    lease = begin(store)
    append(store, lease, 1, [moved(1)], Standing("waiting", "x"), release=True)
    assert store.summary("r").owner == ""
    store.claim("r", "you", 10_000, 1_000)
    assert code_of(lambda: append(store, lease, 2, [moved(1)], RUNNING)) == "JAMR206"


def test_two_writers_race_and_exactly_one_wins_each_seq(store: Store) -> None:
    lease = begin(store)
    wins: list[str] = []

    def write(name: str) -> None:
        for seq in range(1, 21):
            try:
                append(store, lease, seq, [Draft(2000, "moved", {"by": name})], RUNNING)
                wins.append(name)
            except JamError as error:
                assert error.code == "JAMR206"  # noqa: PT017

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.last_seq("r") == len(wins) + 1
    assert [e.seq for e in store.history("r")] == list(range(1, len(wins) + 2))


def test_runs_do_not_see_each_other(store: Store) -> None:
    one, two = begin(store, "one"), begin(store, "two")
    append(store, one, 1, [moved(1)], RUNNING)
    append(store, two, 1, [moved(2)], Standing("completed", "done"))
    store.enqueue("one", "event", {"n": 1}, "k", 1)
    assert [e.body.get("n") for e in store.history("one")] == [None, 1]
    assert [e.body.get("n") for e in store.history("two")] == [None, 2]
    assert store.pending("two") == []
    assert [s.run_id for s in store.summaries()] == ["one", "two"]
    assert [s.run_id for s in store.summaries(["completed"])] == ["two"]


def test_an_unknown_run_is_named(store: Store) -> None:
    for call in (
        lambda: list(store.history("x")),
        lambda: store.summary("x"),
        lambda: store.pending("x"),
        lambda: store.claim("x", "me", 1, 1),
        lambda: store.enqueue("x", "event", {}, None, 1),
        lambda: store.last_seq("x"),
        lambda: store.find("x"),
        lambda: store.snapshot("x"),
        lambda: store.erasable("x"),
        lambda: store.questions("x"),
        lambda: store.deduped("x", "k"),
    ):
        assert code_of(call) == "JAMR201"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda s: s.isprintable()),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**53), 2**53)
            | st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
            lambda inner: st.lists(inner, max_size=3),
        ),
        max_size=4,
    )
)
def test_any_body_comes_back_as_it_was(body: dict[str, object]) -> None:
    store = MemoryStore()
    lease = begin(store)
    append(store, lease, 1, [Draft(1001, "moved", body)], RUNNING)
    assert list(store.history("r"))[1].body == body


def test_text_of_every_kind_is_kept(store: Store) -> None:
    lease = begin(store)
    body = {"text": 'Ünïcödé 漢字 \U0001f980 \u2028 \u0000 "quoted" \\ \n'}
    append(store, lease, 1, [Draft(1001, "moved", body)], RUNNING)
    assert list(store.history("r"))[1].body == body


def test_a_stored_body_is_not_shared_with_the_caller(store: Store) -> None:
    lease = begin(store)
    body = {"list": [1]}
    append(store, lease, 1, [Draft(1001, "moved", body)], RUNNING)
    body["list"].append(2)
    assert list(store.history("r"))[1].body == {"list": [1]}


def test_a_large_value_fits_and_a_huge_one_is_refused(store: Store) -> None:
    lease = begin(store)
    append(store, lease, 1, [Draft(1001, "moved", {"x": "y" * 5_000_000})], RUNNING)
    assert len(list(store.history("r"))[1].body["x"]) == 5_000_000
    huge = Draft(1002, "moved", {"x": "y" * 17_000_000})
    assert code_of(lambda: append(store, lease, 2, [huge], RUNNING)) == "JAMR003"
    assert store.last_seq("r") == 2


def test_messages_wait_in_order_until_an_append_takes_them(store: Store) -> None:
    lease = begin(store)
    one = store.enqueue("r", "event", {"n": 1}, None, 5)
    two = store.enqueue("r", "answer", {"n": 2}, None, 6)
    assert [(m.id, m.at_ms, m.kind, m.body) for m in store.pending("r")] == [
        (one, 5, "event", {"n": 1}),
        (two, 6, "answer", {"n": 2}),
    ]
    assert one is not None
    append(store, lease, 1, [moved(1)], RUNNING, consumed=[one])
    assert [m.id for m in store.pending("r")] == [two]
    assert store.mail() == {"r"}
    assert code_of(lambda: append(store, lease, 2, [moved(2)], RUNNING, consumed=[one])) == "JAMR206"


def test_a_message_is_taken_once_even_if_sent_twice(store: Store) -> None:
    begin(store)
    assert store.enqueue("r", "event", {"n": 1}, "k", 5) is not None
    assert store.enqueue("r", "event", {"n": 2}, "k", 6) is None
    assert store.deduped("r", "k") == {"n": 1}
    assert store.deduped("r", "other") is None
    assert len(store.pending("r")) == 1


def test_dedupe_outlives_the_message(store: Store) -> None:
    lease = begin(store)
    number = store.enqueue("r", "event", {"n": 1}, "k", 5)
    assert number is not None
    append(store, lease, 1, [moved(1)], RUNNING, consumed=[number])
    assert store.enqueue("r", "event", {"n": 1}, "k", 7) is None


def test_an_ended_run_takes_no_messages(store: Store) -> None:
    lease = begin(store)
    append(store, lease, 1, [Draft(1001, "finished", {"status": "completed"})], Standing("completed", "done"))
    assert code_of(lambda: store.enqueue("r", "event", {}, None, 5)) == "JAMR204"


def test_a_key_is_bound_to_its_first_arguments_across_runs(store: Store) -> None:
    one, two = begin(store, "one"), begin(store, "two")
    append(store, one, 1, [moved(1)], RUNNING, keys=[KeyUse("pay", "k", b"a" * 32)])
    assert store.key_digest("pay", "k") == b"a" * 32
    assert store.key_digest("refund", "k") is None
    append(store, two, 1, [moved(1)], RUNNING, keys=[KeyUse("pay", "k", b"a" * 32)])
    with pytest.raises(KeyConflict):
        append(store, two, 2, [moved(2)], RUNNING, keys=[KeyUse("pay", "k", b"b" * 32)])
    assert store.last_seq("two") == 2


def asked(question: str, at_ms: int = 1001) -> Draft:
    body = {
        "question": question,
        "cmd": "#1.1",
        "role": "officer",
        "state": "review",
        "options": ["yes"],
        "expires_at_ms": 9,
    }
    return Draft(at_ms, "asked", body)


def test_a_question_is_listed_until_it_is_answered(store: Store) -> None:
    lease = begin(store)
    open_ = Standing("waiting", "review", questions=("q1",))
    append(store, lease, 1, [asked("q1")], open_)
    (row,) = store.questions()
    assert (row.id, row.run_id, row.state, row.role, row.status, row.expires_ms) == (
        "q1",
        "r",
        "review",
        "officer",
        "open",
        9,
    )
    answered = Draft(1002, "answered", {"question": "q1", "option": "yes", "by": "ann", "form": {}, "roles": []})
    append(store, lease, 2, [answered], RUNNING)
    assert store.questions() == []
    row = store.find_question("q")
    assert (row.status, row.option, row.by, row.closed_ms) == ("answered", "yes", "ann", 1002)


def test_a_question_that_expires_or_is_left_is_closed(store: Store) -> None:
    lease = begin(store)
    append(store, lease, 1, [asked("q1"), asked("q2")], Standing("waiting", "review", questions=("q1", "q2")))
    append(store, lease, 3, [Draft(1003, "expired", {"question": "q1"})], Standing("waiting", "x", questions=("q2",)))
    append(store, lease, 4, [moved(9)], RUNNING)
    assert {r.id: r.status for r in store.questions(status=None)} == {"q1": "expired", "q2": "closed"}


def test_a_prefix_finds_one_run_or_says_why_not(store: Store) -> None:
    for run_id in ("abc-1", "abc-2", "abc", "xyz"):
        begin(store, run_id)
    assert store.find("x") == "xyz"
    assert store.find("abc") == "abc"
    assert code_of(lambda: store.find("abc-")) == "JAMR202"
    assert code_of(lambda: store.find("")) == "JAMR201"
    assert code_of(lambda: store.find("%")) == "JAMR201"
    assert code_of(lambda: store.find_question("q")) == "JAMR401"


def test_a_summary_says_where_a_run_stands(store: Store) -> None:
    lease = begin(store)
    waiting = ({"kind": "question", "id": "q1"},)
    standing = Standing("waiting", "review", waiting, 5000, {"steps": 3, "cost": "0.40 USD"})
    append(store, lease, 1, [moved(1)], standing)
    row = store.summary("r")
    assert (row.status, row.state, row.waiting_for, row.wake_at_ms) == ("waiting", "review", waiting, 5000)
    assert (row.spent, row.last_seq, row.created_ms, row.updated_ms) == (
        {"steps": 3, "cost": "0.40 USD"},
        2,
        1000,
        1001,
    )
    assert (row.agent, row.definition, row.owner) == ("a", DIGEST, "me")


def test_runs_with_something_to_do_are_found(store: Store) -> None:
    for run_id, standing in {
        "timer": Standing("waiting", "x", (), 5000),
        "later": Standing("waiting", "x", (), 9000),
        "message": Standing("waiting", "x"),
        "parked": Standing("parked", "x"),
        "lost": RUNNING,
        "ended": Standing("completed", "x", (), 1),
    }.items():
        begin(store, run_id, standing)
    store.enqueue("message", "event", {}, None, 1)
    assert store.due(5000) == ["timer", "message", "lost"]


def test_an_action_that_asks_again_gets_what_it_has_reserved_for_later(store: Store) -> None:
    rates = [(1, 1000)]
    assert [store.take_slot("t", rates, 0, who) for who in ("a", "b", "c", "b", "c")] == [0, 1000, 2000, 1000, 2000]
    # What is over counts, whoever had it: that call was made.
    assert store.take_slot("t", rates, 1500, "b") == 3000
    assert [store.slot("t", 1500, who) for who in ("a", "b", "c", "d")] == [None, 3000, 2000, None]
    assert (store.slot("t", 3000, "b"), store.slot("other", 0, "b")) == (None, None)


def test_a_rate_is_never_exceeded_in_any_window(store: Store) -> None:
    rates = [(2, 1000), (3, 5000)]
    at = [store.take_slot("t", rates, now, str(n)) for n, now in enumerate((0, 0, 0, 0, 100, 9000))]
    assert at == [0, 0, 1000, 5000, 5000, 9000]
    assert store.take_slot("other", rates, 0, "0") == 0
    for calls, per_ms in rates:
        for start in at:
            assert sum(1 for t in at if start <= t < start + per_ms) <= calls


def test_erasable_values_are_kept_beside_the_run(store: Store) -> None:
    lease = begin(store)
    begin(store, "other")
    row = Erasable(hashlib.sha256(b"s" * 16 + b'"123"').digest(), "app.ssn", b"s" * 16, b'"123"')
    append(store, lease, 1, [moved(1)], RUNNING, erasable=[row])
    assert store.erasable("r") == [row]
    assert store.erasable("other") == []


def test_one_cursor_follows_all_runs(store: Store) -> None:
    one = begin(store, "one")
    begin(store, "two")
    moved_runs, position = store.activity(0)
    assert moved_runs == {"one", "two"}
    assert store.activity(position) == store.activity(None) == (set(), position)
    append(store, one, 1, [moved(1), moved(2)], RUNNING)
    moved_runs, later = store.activity(position)
    assert moved_runs == {"one"}
    assert later > position


def test_the_newest_snapshot_is_kept(store: Store) -> None:
    lease = begin(store)
    assert store.snapshot("r") is None
    append(store, lease, 1, [moved(1)], RUNNING, snapshot=Snapshot(1, b"one"))
    append(store, lease, 2, [moved(2)], RUNNING, snapshot=Snapshot(2, b"two"))
    append(store, lease, 3, [moved(3)], RUNNING)
    assert store.snapshot("r") == Snapshot(2, b"two")
