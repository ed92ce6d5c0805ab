"""What a state looks like may change with the program that writes it: a database of another version is read all the
same. A snapshot of another form is no snapshot; a fork that began with an older one is brought forward."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from jamjet_dsl import Engine, JamError, compile_text
from jamjet_dsl.engine import journal
from jamjet_dsl.engine.fork import fork
from jamjet_dsl.engine.replay import replay
from jamjet_dsl.kernel import state_json
from jamjet_dsl.kernel.model import Event, RunState
from jamjet_dsl.kernel.state_json import encode
from jamjet_dsl.ports import Batch, Standing
from jamjet_dsl.store.sqlite import SqliteStore
from tests.engine.test_replay import drafts_of

PROGRAM = """
tool look(n: int) -> int { effect reads  cost $0.01 }
agent counts version 1 {
  output n: int
  var n: int = 0
  budget { steps 99  cost $5  exceeded -> over }
  policy { allow look }
  on error any -> over
  start state count { call look(n) as m  set n = n + 1
    when n % 12 != 0 -> count limit 80 else over
    otherwise -> ask_it }
  state ask_it { ask role "boss" "More?" options yes, no  on yes -> count  on no -> done }
  final done { n = n }
  failed over { n = 0 - 1 }
}
"""


def engine(store: SqliteStore) -> Engine:
    return Engine(store, tools={"look": lambda n: n})


async def counted(store: SqliteStore, up_to: int = 12) -> None:
    """A run that waits for an answer. With 12 it has taken a snapshot, with 2 it has not."""
    async with engine(store) as jam:
        await (await jam.start(compile_text(PROGRAM.replace("12", str(up_to))), {}, id="r")).wait()


def form_of(store: SqliteStore) -> int:
    snapshot = store.snapshot("r")
    assert snapshot is not None
    return int(json.loads(snapshot.state)["format"])


@pytest.mark.parametrize("form", [state_json.FORMAT - 1, state_json.FORMAT + 1])
async def test_a_snapshot_of_another_form_is_left_aside_and_the_journal_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: int
) -> None:
    with monkeypatch.context() as then:
        then.setattr(state_json, "FORMAT", form)
        then.setattr(journal, "FORMAT", form)
        store = SqliteStore(tmp_path / "jam.db")
        await counted(store)
        store.close()
    store = SqliteStore(tmp_path / "jam.db")
    assert form_of(store) == form
    read: list[int] = []
    history = store.history

    def watched(run_id: str, after: int = 0) -> Iterator[Event]:
        read.append(after)
        return history(run_id, after)

    monkeypatch.setattr(store, "history", watched)
    async with engine(store) as jam:
        assert jam.show("r").vars == {"n": 12, "m": 11}
        assert 0 in read, "the journal is what counts"
        await jam.answer("r", "yes", by="ann")
        await jam.run("r").wait()
        assert form_of(store) == state_json.FORMAT, "the next snapshot is one of ours"
        read.clear()
        assert jam.show("r").vars == {"n": 24, "m": 23}
        assert 0 not in read
        await jam.answer("r", "no", by="ann")
        assert (await jam.run("r").wait()).output == {"n": 24}
    found = replay(store, "r")
    assert found.proven, found.disagreement
    (note,) = found.open
    assert "a snapshot in the form of another version was not checked" in note


async def test_a_fork_that_began_with_an_older_form_is_resumed_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "jam.db")
    await counted(store, 2)
    with monkeypatch.context() as then:
        then.setattr(state_json, "encode", older)
        fork(store, "r", store.last_seq("r"), owner="test", now_ms=1_900_000_000_000, id="f")
    (whole,) = [event.body["whole"] for event in store.history("f") if event.kind == "forked"]
    assert whole["format"] == 3
    async with engine(store) as jam:
        await (await jam.resume("f")).wait()
        await jam.answer("f", "no", by="ann")
        assert (await jam.run("f").wait()).output == {"n": 2}
    found = replay(store, "f")
    assert (found.proven, found.open) == (True, []), found.disagreement


def older(state: RunState) -> bytes:
    """The state in form 3."""
    return json.dumps({**json.loads(encode(state)), "format": 3, "keys": {"look k": "0" * 64}}).encode()


async def test_a_fork_that_began_with_a_newer_form_is_refused_with_a_clear_word(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jam.db")
    await counted(store, 2)
    fork(store, "r", store.last_seq("r"), owner="test", now_ms=1_900_000_000_000, id="f")
    (first,) = drafts_of(store, "f")
    newer = first._replace(body={**first.body, "whole": {**first.body["whole"], "format": state_json.FORMAT + 1}})
    store.create("g", Batch([newer], Standing("waiting", "ask_it"), release=True), "test", 1, 1)
    async with engine(store) as jam:
        for refused in (lambda: jam.show("g"), lambda: replay(store, "g")):
            with pytest.raises(JamError) as caught:
                refused()
            assert caught.value.code == "JAMR104"
        assert jam.show("f").state == "ask_it", "the others are not touched by it"
