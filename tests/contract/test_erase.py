"""Forgetting values: rows go, the journal stays."""

from __future__ import annotations

import hashlib

import pytest

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Draft, Erasable, Erased, Standing, Store
from tests.contract.test_store_contract import append, begin


def kept(path: str) -> Erasable:
    value = path.encode()
    return Erasable(hashlib.sha256(b"s" + value).digest(), path, b"s", value)


def test_a_message_brings_what_it_commits_to(store: Store) -> None:
    begin(store, "r")
    sealed = kept("message")._replace(nonce=b"n" * 12, key_id="k", salt=b"")
    assert store.enqueue("r", "event", {"n": 1}, "once", 5, [sealed]) is not None
    assert store.enqueue("r", "event", {"n": 1}, "once", 6, [kept("never")]) is None
    assert store.erasable("r") == [sealed]


def test_what_is_wanted_is_erased_and_the_journal_stays(store: Store) -> None:
    for run_id in ("r", "other"):
        lease = begin(store, run_id)
        rows = [kept(f"{run_id}.{name}") for name in ("a", "b", "c")]
        done = [Draft(9, "finished", {"status": "completed"})]
        append(store, lease, 1, done, Standing("completed", "done"), erasable=rows, release=True)
    before = list(store.history("r"))
    assert store.erase("r", lambda path: path != "r.b", 50) == Erased("r", ("r.a", "r.c"), 2, False)
    assert [row.path for row in store.erasable("r")] == ["r.b"]
    assert store.erase("r", lambda path: path == "r.a", 51).values == 0
    assert list(store.history("r")) == before
    assert len(store.erasable("other")) == 3


def test_a_run_that_goes_on_keeps_its_values(store: Store) -> None:
    lease = begin(store, "r")
    moved = [Draft(9, "moved", {"to": "x"})]
    append(store, lease, 1, moved, Standing("waiting", "x"), erasable=[kept("a")])
    with pytest.raises(JamError) as refused:
        store.erase("r", lambda path: True, 50)
    assert refused.value.code == "JAMR414"
    assert store.erasable("r") == [kept("a")]
    with pytest.raises(JamError) as unknown:
        store.erase("nobody", lambda path: True, 50)
    assert unknown.value.code == "JAMR201"
