"""Replay and forks of runs with several frames, with recoveries from every commit, and with values that were erased."""

from __future__ import annotations

import copy
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, Scripted, compile_text
from jamjet_dsl.engine.fork import fork
from jamjet_dsl.engine.replay import replay
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.store.sqlite import SqliteStore
from tests.engine import test_recovery as recovery
from tests.engine.test_redact import INPUT as REDACTED_INPUT
from tests.engine.test_redact import SSN
from tests.engine.test_redact import program as redacting
from tests.engine.test_replay import DECIDED, changed, drafts_of, mutations

FRAMES = """
tool find(q: string) -> string { effect reads  cost $0.01  raises Gone }
tool book(q: string) -> string { effect writes  key run.id + "/" + q  undo give_back(result)  raises Full }
tool give_back(id: string) -> string { effect writes  key id }
tool note(text: string) -> string { effect writes  key text }
agent trip version 1 {
  input  qs: list<string> 0..20
  output n: int
  var    n: int = 0
  budget { steps 60  cost $9  exceeded -> over }
  policy { allow find, book, give_back, note }
  on error any -> rollback
  on in_doubt -> rollback
  start parallel both {
    branch left as a or "none" { call find("left") on error Gone skip }
    branch right as b or "-" {
      state one { call book("r") as mine  on in_doubt skip  -> two }
      state two { yields mine }
    }
    join all
    on join -> items
    on error JoinFailed -> rollback
  }
  state items {
    each q in qs, 2 at once { call find(q) on error Gone skip } as found
    set n = size(found)
    when n > 1 -> child
    otherwise -> rollback
  }
  state child { run helper("x") as h -> rollback  on error ChildFailed -> rollback }
  state rollback { undo all -> done }
  final done { n = n }
  failed over { n = 0 - 1 }
  finally { call note("end") }
}
agent helper version 1 {
  input q: string
  output a: string
  budget { steps 9  exceeded -> over }
  policy { allow find }
  on error any -> over
  start state s { call find(q) as found -> done }
  final done { a = found }
  failed over { a = "" }
}
"""


class Gone(Exception):
    """An error that `find` declares."""


class Office(recovery.Bank):
    """The tools of `FRAMES`."""

    def tools(self) -> dict[str, Any]:
        async def find(q: str) -> str:
            self.called["find"] += 1
            if q == "bad":
                raise Gone("no such thing")
            return q * 2

        async def book(q: str) -> str:
            self.called["book"] += 1
            return f"b{q}"

        async def give_back(id: str) -> str:
            return "ok"

        async def note(text: str) -> str:
            return "noted"

        return {"find": find, "book": book, "give_back": give_back, "note": note}


async def finish(store: Any, office: Office, run_id: str = "t") -> Any:
    async with Engine(store, tools=office.tools()) as jam:
        if store.summary(run_id).status != "completed":
            await (await jam.resume(run_id)).wait()
        return jam.show(run_id).output


async def frames_run(store: Any) -> None:
    async with Engine(store, tools=Office().tools()) as jam:
        run = await jam.start(compile_text(FRAMES, agent="trip"), {"qs": ["a", "bad", "c"]}, id="t")
        assert (await run.wait()).output == {"n": 2}


async def test_every_recovery_of_a_run_in_many_frames_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jamjet_dsl.engine.engine.is_dead", lambda owner: True)
    store = recovery.Recording(Office())
    await frames_run(store)
    found = replay(store, "t")
    assert found.proven, found.disagreement
    kinds = {e.kind for e in store.history("t")}
    assert {"opened", "begun", "closed", "joined"} <= kinds
    assert len(store.copies) >= 8
    for parts, _ in store.copies:
        later = MemoryStore()
        later.__dict__.update(copy.deepcopy(parts))
        cut = replay(later, "t")
        assert cut.proven, cut.disagreement
        assert await finish(later, Office()) == {"n": 2}
        found = replay(later, "t")
        assert found.proven, found.disagreement
        assert found.open == []


async def test_every_recovery_of_calls_in_doubt_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jamjet_dsl.engine.engine.is_dead", lambda owner: True)
    bank = recovery.Bank()
    store = recovery.Recording(bank)
    async with Engine(store, tools=bank.tools()) as jam:
        run = await jam.start(compile_text(recovery.PROGRAM), {"n": 1}, id="t")
        await run.wait()
        await jam.answer("t", "approve", by="olga")
        await run.wait()
    recovered = set()
    for parts, then in store.copies:
        later = MemoryStore()
        later.__dict__.update(copy.deepcopy(parts))
        await recovery.finish(later, then)
        found = replay(later, "t")
        assert found.proven, found.disagreement
        drafts = drafts_of(later, "t")
        for index, draft in enumerate(drafts):
            if draft.kind == "recovered":
                recovered.add(draft.body["how"])
                for body in mutations(draft.body):
                    other = [*drafts[:index], draft._replace(body=body), *drafts[index + 1 :]]
                    assert not replay(changed(later, "t", other), "t").proven, body
    assert recovered == {"again", "confirm", "key"}


async def test_no_decision_about_frames_can_be_changed_without_notice() -> None:
    store = MemoryStore()
    await frames_run(store)
    drafts = drafts_of(store, "t")
    seen: dict[str, int] = {}
    for index, draft in enumerate(drafts):
        if draft.kind not in ("opened", "begun", "closed", "joined") or seen.get(draft.kind, 0) >= 4:
            continue
        seen[draft.kind] = seen.get(draft.kind, 0) + 1
        for body in mutations(draft.body):
            other = [*drafts[:index], draft._replace(body=body), *drafts[index + 1 :]]
            found = replay(changed(store, "t", other), "t")
            assert found.disagreement is not None, (draft.kind, body)
            assert found.disagreement.seq == index + 1
    assert set(seen) == {"opened", "begun", "closed", "joined"}
    assert not seen.keys() & DECIDED


async def test_a_fork_from_every_event_of_a_run_in_many_frames_ends_alike() -> None:
    store = MemoryStore()
    await frames_run(store)
    for at in range(1, store.last_seq("t")):
        office = Office()
        fork(store, "t", at, owner="test", now_ms=1_900_000_000_000, id=f"f{at}")
        assert await finish(store, office, f"f{at}") == {"n": 2}, at
        assert not office.called
        found = replay(store, f"f{at}")
        assert found.proven, (at, found.disagreement)


async def redacted(path: Path) -> SqliteStore:
    async def bureau(ssn: str, n: int) -> int:
        return n + 10

    async def lodge(text: str) -> str:
        return f"filed {text}"

    store = SqliteStore(path)
    tools, models = {"bureau": bureau, "lodge": lodge}, {"*": Scripted([f"The person {SSN} is fine."])}
    async with Engine(store, tools=tools, models=models) as jam:
        run = await jam.start(redacting(), REDACTED_INPUT, id="t")
        await run.wait()
        await jam.answer("t", "yes", by="ann")
        assert (await run.wait()).status == "completed"
    return store


async def test_redacted_values_take_part_and_are_never_shown(tmp_path: Path) -> None:
    store = await redacted(tmp_path / "t.db")
    found = replay(store, "t")
    assert found.proven, found.disagreement
    assert found.open == []
    drafts = drafts_of(store, "t")
    index, draft = next((i, d) for i, d in enumerate(drafts) if d.kind == "moved")
    other = [*drafts[:index], draft._replace(body={**draft.body, "to": "over"}), *drafts[index + 1 :]]
    wrong = replay(changed(store, "t", other), "t")
    assert not wrong.proven
    assert SSN not in str(wrong.as_json())
    fork(store, "t", 3, owner="test", now_ms=1_900_000_000_000, id="f")
    raw = sqlite3.connect(tmp_path / "t.db")
    bodies = [row[0] for row in raw.execute("SELECT body FROM events")]
    assert all(SSN.encode() not in body for body in bodies)
    assert replay(store, "f").proven


async def test_what_depends_on_an_erased_value_is_said_to_be_unchecked(tmp_path: Path) -> None:
    store = await redacted(tmp_path / "t.db")
    with sqlite3.connect(tmp_path / "t.db") as raw:
        raw.execute("DELETE FROM erasable WHERE path = 'app.income'")
    found = replay(store, "t")
    assert found.proven, found.disagreement
    # The income is in the conversation only: everything else is still decided again.
    assert found.open
    assert len(found.open) < 8
    assert found.decided > 8


async def test_a_fork_and_a_replay_do_not_care_how_long_the_run_rested(tmp_path: Path) -> None:
    """`resumed` with the time since when a resting run was watched is no recovery."""
    store = MemoryStore()
    program = compile_text(
        "agent a version 1 {\n  budget { steps 9  active 1h  exceeded -> over }\n"
        "  event go(n: int)\n  start state s { wait for event go(m)  -> done }\n  final done {}\n  failed over {}\n}\n"
    )
    async with Engine(store) as jam:
        await (await jam.start(program, {}, id="t")).wait()
    async with Engine(store) as jam:
        await jam.send("t", "go", {"n": 1}, by="ann")
        await jam.run("t").wait()
    found = replay(store, "t")
    assert found.proven, found.disagreement
    drafts = drafts_of(store, "t")
    for index, draft in enumerate(drafts):
        if draft.kind == "resumed" and "since_ms" in draft.body:
            other = [*drafts[:index], draft._replace(body={**draft.body, "since_ms": 1}), *drafts[index + 1 :]]
            assert not replay(changed(store, "t", other), "t").proven
