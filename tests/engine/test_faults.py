"""What goes wrong between processes, threads, clocks and disks, brought about on purpose."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, JamError, SimClock, compile_text
from jamjet_dsl.engine.journal import LEASE_MS
from jamjet_dsl.engine.owner import is_dead, this_owner
from jamjet_dsl.ports import Lease
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.store.sqlite import SqliteStore
from jamjet_dsl.tools.threads import Threads
from tests.engine.test_engine_runs import ASK, EVENTS, INPUT, kinds, pay, pay_ann

LIMITED = """
tool note(n: int) -> int { effect writes  limit 1 calls per minute  key run.id }
agent clerk {
  input n: int
  output n: int
  budget { steps 9  exceeded -> over }
  policy { allow note }
  start state noting { call note(n) as got  on in_doubt -> over  on error any -> over  -> done }
  final done { n = got }
  failed over { n = 0 }
}
"""


SLOW = """
tool pay(amount: money) -> map<string, string> { effect writes  key run.id }
agent payer {
  input amount: money
  output id: string
  budget { steps 9  exceeded -> over }
  policy { allow pay }
  start state paying { call pay(amount) as got  on in_doubt -> over  on error any -> over  -> done }
  final done { id = "id" in got ? got["id"] : "" }
  failed over { id = "" }
}
"""


class Between(MemoryStore):
    """Calls something in between: after what is named here was done."""

    after: dict[str, Callable[[], None]]

    def __init__(self) -> None:
        super().__init__()
        self.after = {}

    def _then(self, name: str) -> None:
        happens = self.after.pop(name, None)
        if happens is not None:
            happens()

    def summary(self, run_id: str) -> Any:
        found = super().summary(run_id)
        self._then("summary")
        return found

    def changes(self) -> int:
        now = super().changes()
        self._then("changes")
        return now

    def activity(self, after: int | None) -> Any:
        found = super().activity(after)
        self._then("activity")
        return found

    def enqueue(self, *args: Any) -> Any:
        number = super().enqueue(*args)
        self._then("enqueue")
        return number


# ---- who follows a run misses nothing


async def test_a_commit_right_after_the_first_look_is_noticed() -> None:
    """The place from which a watcher follows others is older than what it reads next."""
    store, clock = Between(), SimClock()
    async with Engine(store, clock=clock, tools={"pay": pay_ann}) as jam:
        await (await jam.start(compile_text(ASK), INPUT, id="t")).wait()

    def somebody_else() -> None:
        lease = store.claim("t", "other", LEASE_MS, clock.now_ms())
        last = list(store.history("t"))[-1]
        summary = store.summary("t")
        from jamjet_dsl.ports import Batch, Draft, Standing

        ended = Standing("completed", "paid", spent=summary.spent)
        store.append(lease, last.seq, Batch([Draft(last.at_ms, "snapshot", {})], ended))

    async with Engine(store, clock=clock) as jam:
        store.after["summary"] = somebody_else
        jam.view = lambda summary: summary  # type: ignore[assignment, return-value]
        view = await asyncio.wait_for(jam.run("t").wait_ended(), 2)
        assert view.status == "completed"


async def test_what_could_not_be_read_is_looked_for_again() -> None:
    store, clock = Between(), SimClock()

    def locked() -> None:
        raise JamError("JAMR103", "locked")

    async with Engine(store, clock=clock, tools={"pay": pay_ann}) as first, Engine(store, clock=clock) as second:
        await (await first.start(compile_text(ASK), INPUT, id="t")).wait()
        watched = asyncio.ensure_future(second.run("t").wait_ended())
        await asyncio.sleep(0)
        await first.answer("t", "approve", by="olga")
        store.after["activity"] = locked
        assert (await asyncio.wait_for(watched, 2)).status == "completed"


async def test_engines_that_share_a_store_object_see_each_other(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.db")
    async with Engine(store, tools={"pay": pay_ann}) as first, Engine(store, tools={"pay": pay_ann}) as second:
        run = await first.start(compile_text(ASK), INPUT, id="t")
        assert (await run.wait()).status == "waiting"
        watched = asyncio.ensure_future(run.wait_ended())
        await asyncio.sleep(0)
        await second.answer("t", "approve", by="olga")
        assert (await asyncio.wait_for(watched, 5)).status == "completed"


# ---- what was given up does not begin later


async def test_a_job_that_is_not_wanted_any_more_when_a_thread_is_free_is_not_begun() -> None:
    threads, gate, ran = Threads(most=1), threading.Event(), []
    wanted = True
    first = threads.run(gate.wait)
    second = threads.run(lambda: ran.append("second"), lambda: wanted)
    third = threads.run(lambda: ran.append("third"), lambda: True)
    wanted = False
    gate.set()
    await asyncio.wait([first, second, third])
    assert second.cancelled()
    assert ran == ["third"]
    threads.close()


async def test_a_call_whose_time_was_up_in_the_queue_is_never_made() -> None:
    clock, gate, made = SimClock(), threading.Event(), []

    def slow(to: str, amount: Any) -> str:
        made.append(to)
        gate.wait(10)
        return "late"

    program = pay(more="timeout 1m")
    async with Engine(MemoryStore(), tools={"pay": slow}, clock=clock) as jam:
        jam._programs.threads = Threads(most=1)
        runs = [await jam.start(program, INPUT, id=f"t{n}") for n in range(2)]
        await asyncio.sleep(0.05)
        await clock.advance(61_000)
        for run in runs:
            assert (await run.wait()).status == "parked"
        gate.set()
        await asyncio.sleep(0.05)
        assert made == ["ann"], "the second call was in doubt, and a person may have made it since"


# ---- leases


async def test_an_effect_does_not_begin_under_a_lease_that_was_lost() -> None:
    """The process waits for its turn at a limited tool; meanwhile somebody else takes the run over."""
    store, clock, made = MemoryStore(), SimClock(), []

    async def note(n: int) -> int:
        made.append(n)
        return n

    async with Engine(store, clock=clock, tools={"note": note}) as jam:
        await (await jam.start(compile_text(LIMITED), {"n": 1}, id="a")).wait()
        run = await jam.start(compile_text(LIMITED), {"n": 2}, id="b")
        await asyncio.sleep(0)
        # As if the process had been stopped for a minute: no timer of it ran, and the lease went to another.
        clock._now_ms += 70_000
        store.claim("b", "other", 10 * LEASE_MS, clock.now_ms())
        await clock.advance(0)
        await asyncio.sleep(0.01)
        assert made == [1]
        assert kinds(jam, run)[-1] == "intent", "and nothing was written"


async def test_a_stale_holder_can_neither_append_nor_renew_nor_release(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.db")
    async with Engine(store, tools={"pay": pay_ann}) as jam:
        await (await jam.start(compile_text(ASK), INPUT, id="t")).wait()
    old = store.claim("t", "one", LEASE_MS, 1)
    new = store.claim("t", "two", LEASE_MS, LEASE_MS + 2)
    with pytest.raises(JamError) as caught:
        store.renew(old, LEASE_MS, LEASE_MS + 3)
    assert caught.value.code == "JAMR206"
    store.release(old)
    assert store.renew(new, LEASE_MS, LEASE_MS + 3) == Lease("t", "two", new.token, 2 * LEASE_MS + 3)


def test_a_process_of_another_container_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    place, _, rest = this_owner().partition("/")
    assert not is_dead(f"{place}9/999999/1/x")
    assert rest.split("/")[0] == str(os.getpid())
    monkeypatch.setattr(os, "kill", lambda pid, signal: (_ for _ in ()).throw(ProcessLookupError))
    assert is_dead(f"{place}/999999/1/x")


# ---- closing


async def test_an_engine_that_closes_takes_no_message_and_fires_no_timer() -> None:
    store, clock, gate = MemoryStore(), SimClock(), asyncio.Event()

    async def slow(to: str, amount: Any) -> str:
        await gate.wait()
        return "paid"

    jam = Engine(store, tools={"pay": slow}, clock=clock)
    run = await jam.start(pay(more="key to"), INPUT, id="t")
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(jam.close())
    await asyncio.sleep(0)
    store.enqueue("t", "cancel", {"by": "x", "note": "", "now": False}, None, clock.now_ms())
    gate.set()
    await asyncio.wait_for(closing, 5)
    assert [event.kind for event in store.history("t")][-1] == "succeeded"
    assert len(store.pending("t")) == 1, "it is carried out by whoever resumes"
    with pytest.raises(JamError) as caught:
        await jam.send("t", "x")
    assert caught.value.code == "JAMR006"
    async with Engine(store, tools={"pay": pay_ann}, clock=clock) as later:
        await later.resume_all()
        assert (await later.run(run.id).wait_ended()).status == "cancelled"
        assert store.pending("t") == []


async def test_an_event_that_comes_as_the_run_ends_is_refused() -> None:
    store, clock = Between(), SimClock()
    async with Engine(store, clock=clock) as jam:
        await (await jam.start(compile_text(EVENTS), {}, id="t")).wait()

    def ends() -> None:
        run = store._runs["t"]
        run.summary = replace(run.summary, status="completed")
        run.owner, store._owners["other"] = "other", clock.now_ms() + 10**9

    async with Engine(store, clock=clock) as jam:
        store.after["enqueue"] = ends
        with pytest.raises(JamError) as caught:
            await jam.send("t", "word", {"text": "late"})
        assert caught.value.code == "JAMR204"


async def test_a_database_that_is_locked_for_long_does_not_end_a_run_that_rests() -> None:
    store, clock = MemoryStore(), SimClock()
    async with Engine(store, clock=clock, tools={"pay": pay_ann}) as jam:
        run = await jam.start(compile_text(ASK), INPUT, id="t")
        await run.wait()
        claim = store.claim
        refused: list[Any] = []

        def locked(*args: Any, **named: Any) -> Lease:
            if not refused:
                refused.append(args)
                raise JamError("JAMR103", "locked")
            return claim(*args, **named)

        store.claim = locked  # type: ignore[method-assign]
        await clock.advance(49 * 3_600_000)
        assert refused
        await clock.advance(1000)
        assert (await asyncio.wait_for(run.wait_ended(), 5)).status in ("completed", "failed")


# ---- the file


async def test_a_database_that_was_deleted_under_a_run_is_noticed_before_anything_is_done(tmp_path: Path) -> None:
    """SQLite goes on writing to a deleted file, and says nothing."""
    path, made = tmp_path / "t.db", []

    async def count(to: str, amount: Any) -> str:
        made.append(to)
        return "paid"

    async with Engine(path, tools={"pay": count}) as jam:
        await (await jam.start(compile_text(ASK), INPUT, id="t")).wait()
        path.rename(tmp_path / "away.db")
        with pytest.raises(JamError) as caught:
            await jam.answer("t", "approve", by="olga")
        assert caught.value.code == "JAMR101"
        assert "moved" in caught.value.message
        assert made == []
        (tmp_path / "away.db").rename(path)
        await jam.answer("t", "approve", by="olga")
        assert (await jam.run("t").wait_ended()).status == "completed"
        assert made == ["ann"]


def waiting(folder: Path) -> Path:
    """A database with a run that waits, copied from under an open engine: with its write-ahead log."""

    async def begin() -> None:
        async with Engine(folder / "s.db", tools={"pay": pay_ann}) as jam:
            await (await jam.start(compile_text(ASK), INPUT, id="t")).wait()
            while jam.store.summary("t").owner:
                await asyncio.sleep(0)
            for name in ("s.db", "s.db-wal"):
                shutil.copy(folder / name, folder / name.replace("s", "t", 1))

    asyncio.run(begin())
    return folder / "t.db"


async def go_on(path: Path) -> str:
    async with Engine(path, tools={"pay": pay_ann}) as jam:
        await jam.answer("t", "approve", by="olga")
        return (await asyncio.wait_for(jam.run("t").wait_ended(), 5)).status


def test_a_write_ahead_log_that_a_killed_process_left_is_read(tmp_path: Path) -> None:
    assert asyncio.run(go_on(waiting(tmp_path))) == "completed"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), '9.50', '9000.50') AS BLOB)",
        "UPDATE events SET body = CAST(body AS TEXT) WHERE seq = 2",
        "UPDATE events SET at_ms = at_ms + 1 WHERE seq = 1",
        "UPDATE events SET kind = 'late' WHERE seq = 2",
        "UPDATE events SET hash = zeroblob(32) WHERE seq = 1",
        "UPDATE events SET hash = NULL, body = CAST('{}' AS BLOB) WHERE seq = 2",
        "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)",
        "DELETE FROM events",
        "UPDATE runs SET last_seq = last_seq - 1",
        "UPDATE runs SET last_seq = last_seq + 1",
        "UPDATE runs SET head = zeroblob(32)",
        "UPDATE definitions SET canonical = CAST(replace(CAST(canonical AS TEXT), 'ann', 'eve') || ' ' AS BLOB)",
        "UPDATE programs SET side = CAST('{' AS BLOB)",
        "UPDATE programs SET side = CAST(replace(CAST(side AS TEXT), 'folder', 'golder') AS BLOB)",
    ],
)
def test_a_run_is_never_driven_on_from_what_was_changed(tmp_path: Path, change: str) -> None:
    path = waiting(tmp_path)
    raw = sqlite3.connect(path)
    assert raw.execute(change).rowcount >= 1
    raw.commit()
    raw.close()
    with pytest.raises(JamError) as caught:
        asyncio.run(go_on(path))
    assert caught.value.code == "JAMR107"


def test_a_snapshot_that_was_changed_is_not_used(tmp_path: Path) -> None:
    path = waiting(tmp_path)
    raw = sqlite3.connect(path)
    run, seq = raw.execute("SELECT run, last_seq - 1 FROM runs").fetchone()
    raw.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", (run, seq, b"{}"))
    raw.commit()
    raw.close()
    assert asyncio.run(go_on(path)) == "completed"


async def answer_and_wait(jam: Engine) -> None:
    await jam.answer("t", "approve", by="olga")
    await asyncio.wait_for(jam.run("t").wait_ended(), 5)


def test_a_disk_that_fills_up_ends_the_driving_and_loses_nothing(tmp_path: Path) -> None:
    path = waiting(tmp_path)

    async def full() -> None:
        store = SqliteStore(path)
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        async with Engine(store, tools={"pay": lambda to, amount: "x" * 200_000}) as jam:
            store._db.execute(f"PRAGMA max_page_count = {pages + 3}")
            with pytest.raises(JamError) as caught:
                await answer_and_wait(jam)
            assert caught.value.code == "JAMR106"

    asyncio.run(full())

    async def later() -> tuple[str, list[str]]:
        async with Engine(path, tools={"pay": lambda to, amount: "again"}) as jam:
            await jam.resume_all()
            view = await asyncio.wait_for(jam.run("t").wait(), 5)
            return view.status, [event.kind for event in jam.history("t")]

    status, journal = asyncio.run(later())
    assert status in ("completed", "parked", "failed")
    assert "intent" in journal


async def test_two_answers_at_once_from_two_engines_are_one(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    async with Engine(path, tools={"pay": pay_ann}) as one, Engine(path, tools={"pay": pay_ann}) as two:
        run = await one.start(compile_text(ASK), INPUT, id="t")
        await run.wait()
        said = await asyncio.gather(
            one.answer("t", "approve", by="olga"), two.answer("t", "decline", by="pete"), return_exceptions=True
        )
        refused = [problem for problem in said if isinstance(problem, JamError)]
        assert [problem.code for problem in refused] == ["JAMR402"]
        await asyncio.wait_for(run.wait_ended(), 5)
        assert kinds(one, run).count("answered") == 1


async def test_whoever_waits_for_a_run_takes_it_over_from_an_engine_that_closes_in_the_middle(tmp_path: Path) -> None:
    # Found as two officers answered at once: the process that was refused drove the run, and closed while it paid.
    begun = asyncio.Event()
    let_go = asyncio.Event()

    async def slow_pay(amount: Any) -> dict[str, str]:
        begun.set()
        await let_go.wait()
        return {"id": "p1"}

    there = Engine(tmp_path / "jam.db", tools={"pay": slow_pay})
    async with Engine(tmp_path / "jam.db", tools={"pay": slow_pay}) as here:
        run = await there.start(compile_text(SLOW), {"amount": "5.00 USD"}, id="r1")
        await begun.wait()
        waiting = asyncio.ensure_future(here.run("r1").wait())
        await asyncio.sleep(0.05)
        closing = asyncio.ensure_future(there.close())
        await asyncio.sleep(0.05)
        let_go.set()
        await closing
        view = await asyncio.wait_for(waiting, 10)
    assert run.id == view.run_id
    assert (view.status, view.state) == ("completed", "done")


async def test_the_same_event_sent_twice_at_once_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    async with Engine(path) as one, Engine(path) as two:
        run = await one.start(compile_text(EVENTS), {}, id="t")
        await run.wait()
        await asyncio.gather(
            one.send("t", "word", {"text": "a"}, dedupe="k"), two.send("t", "word", {"text": "b"}, dedupe="k")
        )
        assert kinds(one, run).count("received") == 1


# ---- what waits is taken in the order in which it came


async def test_a_cancellation_that_waits_is_read_before_anything_is_begun() -> None:
    """The process died with a call in flight; while nobody drove the run, a person cancelled it."""
    store, clock, made = MemoryStore(), SimClock(), []

    async def note(n: int) -> int:
        made.append(n)
        return await asyncio.sleep(3600, n)

    program = compile_text(LIMITED.replace("  limit 1 calls per minute", "").replace("writes", "reads cost $0.01 "))
    jam = Engine(store, tools={"note": note}, clock=clock)
    await jam.start(program, {"n": 1}, id="t")
    await asyncio.sleep(0.01)
    assert made == [1]
    jam._keeper.abort()
    await asyncio.sleep(0.01)
    store.enqueue("t", "cancel", {"by": "x", "note": "", "now": False}, None, clock.now_ms())
    made.clear()
    async with Engine(store, tools={"note": note}, clock=clock) as later:
        run = await later.resume("t")
        assert (await asyncio.wait_for(run.wait_ended(), 5)).status == "cancelled"
        assert made == []
    await jam.close()


@pytest.mark.parametrize(("hours", "state"), [(47, "paid"), (49, "stopped")])
async def test_an_answer_given_in_time_is_in_time_even_if_nobody_was_there_to_take_it(hours: int, state: str) -> None:
    store, clock = MemoryStore(), SimClock()
    async with Engine(store, clock=clock, tools={"pay": pay_ann}) as jam:
        await (await jam.start(compile_text(ASK), INPUT, id="t")).wait()
    await clock.advance(hours * 3_600_000)
    async with Engine(store, clock=clock) as jam:
        # It has no tools, so the answer lies in the inbox.
        await jam.answer("t", "approve", by="olga")
    await clock.advance(50 * 3_600_000)
    async with Engine(store, clock=clock, tools={"pay": pay_ann}) as jam:
        await jam.resume_all()
        assert (await asyncio.wait_for(jam.run("t").wait_ended(), 5)).state == state


@pytest.mark.parametrize("code", ["JAMR103", "JAMR106"])
async def test_a_disk_that_fails_before_a_call_is_no_error_of_the_program(code: str) -> None:
    store, clock, made = MemoryStore(), SimClock(), []
    take, refused = store.take_slot, [1]

    def fails(*args: Any) -> int:
        if refused.pop() if refused else 0:
            raise JamError(code, "once")
        return take(*args)

    store.take_slot = fails  # type: ignore[method-assign]

    async def note(n: int) -> int:
        made.append(n)
        return n

    async with Engine(store, tools={"note": note}, clock=clock) as jam:
        run = await jam.start(compile_text(LIMITED), {"n": 1}, id="t")
        if code == "JAMR106":
            with pytest.raises(JamError) as caught:
                await asyncio.wait_for(run.wait(), 5)
            assert (caught.value.code, made, kinds(jam, run)[-1]) == (code, [], "intent")
            await jam.resume("t")
        # A lock is waited for; after anything else whoever resumes makes the call.
        view = await asyncio.wait_for(run.wait(), 5)
        assert (view.status, made) == ("completed", [1])
        assert "failed" not in kinds(jam, run)


async def test_an_answer_reaches_the_question_that_was_meant() -> None:
    """The id of a run may be the beginning of the id of another run's question."""

    class Chance:
        ids = iter(["bcd", "x1", "x2"])

        def question_id(self) -> str:
            return next(self.ids)

        def between(self, low: int, high: int) -> int:
            return low

    async with Engine(MemoryStore(), tools={"pay": pay_ann}, chance=Chance()) as jam:
        for run_id in ("a", "b", "bcc"):
            await (await jam.start(compile_text(ASK), INPUT, id=run_id)).wait()
        assert [jam.question(name).run_id for name in ("a", "b", "bcd", "bcc", "x1")] == ["a", "b", "a", "bcc", "b"]
        for name, code in {"bc": "JAMR202", "x": "JAMR202", "y": "JAMR401"}.items():
            with pytest.raises(JamError) as caught:
                jam.question(name)
            assert caught.value.code == code
