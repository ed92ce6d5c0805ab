"""Every commit of a run is a place to go on from: the run ends alike, and nothing is done twice."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, JamError, compile_text
from jamjet_dsl.engine.loading import rebuild
from jamjet_dsl.ports import Batch, Lease
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.store.sqlite import SqliteStore
from tests.engine.test_engine_runs import ASK, INPUT, pay_ann

PROGRAM = """
tool look(n: int) -> int { effect reads  cost $0.10 }
tool pay(n: int) -> string { effect irreversible  key run.id + "/pay" }
tool seen_pay(run: string) -> string? { effect reads }
tool book(n: int) -> string { effect irreversible  confirm seen_pay(run.id) }
agent teller {
  input n: int
  output receipt: string?, booking: string?, by: string?
  budget { steps 30  cost $5  exceeded -> over }
  policy { allow look, seen_pay, book  require approval review before pay  allow pay
           allow book without approval because "a test" }
  on error any -> over
  start state first { call look(n) as n1  -> again }
  state again { call look(n1) as n2  when n2 < n + 4 -> again limit 2 else review  otherwise -> review }
  state review {
    ask role "boss" to pay(n2) "Pay {n2}?" options approve approves, no timeout 2d as a
    on approve -> paying  on no -> over  on timeout -> over
  }
  state paying { call approved pay as receipt  on in_doubt -> over  -> booking_it }
  state booking_it { call book(n2) as booking  on in_doubt -> over  -> done }
  final done { receipt = receipt  booking = booking  by = a.by }
  failed over { }
}
"""


class Bank:
    """What the tools did; it survives every restart, as a bank does."""

    def __init__(self) -> None:
        self.called: Counter[str] = Counter()
        self.paid: set[str] = set()
        self.booked: list[int] = []

    def tools(self) -> dict[str, Any]:
        async def look(n: int) -> int:
            self.called["look"] += 1
            return n + 1

        async def pay(n: int, ctx: Any) -> str:
            self.called["pay"] += 1
            self.paid.add(ctx.key)
            return f"paid {n}"

        async def seen_pay(run: str) -> str | None:
            return "booked before" if self.booked else None

        async def book(n: int) -> str:
            self.called["book"] += 1
            self.booked.append(n)
            return f"booked {n}"

        return {"look": look, "pay": pay, "seen_pay": seen_pay, "book": book}


class Recording(MemoryStore):
    """Keeps a copy of all that was stored after every commit, with what the bank had done by then."""

    def __init__(self, bank: Bank) -> None:
        super().__init__()
        self.bank = bank
        self.copies: list[tuple[dict[str, Any], Bank]] = []

    def _keep(self) -> None:
        parts = {name: value for name, value in self.__dict__.items() if name not in ("_lock", "bank", "copies")}
        self.copies.append((copy.deepcopy(parts), copy.deepcopy(self.bank)))

    def create(self, *args: Any, **named: Any) -> Lease:
        made = super().create(*args, **named)
        self._keep()
        return made

    def append(self, lease: Lease, expected_seq: int, batch: Batch) -> None:
        super().append(lease, expected_seq, batch)
        self._keep()


async def finish(store: MemoryStore, bank: Bank) -> dict[str, Any] | None:
    async with Engine(store, tools=bank.tools()) as jam:
        try:
            run = await jam.resume("t")
        except JamError as error:
            assert error.code == "JAMR204"  # noqa: PT017
            return jam.run("t").result
        if (await run.wait()).status == "waiting":
            await jam.answer("t", "approve", by="olga")
        view = await run.wait()
        assert view.status == "completed", view
        return view.output


async def test_from_every_commit_on_the_run_ends_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every owner but the one that asks is dead: these processes were all killed.
    monkeypatch.setattr("jamjet_dsl.engine.engine.is_dead", lambda owner: True)
    bank = Bank()
    store = Recording(bank)
    async with Engine(store, tools=bank.tools()) as jam:
        run = await jam.start(compile_text(PROGRAM), {"n": 1}, id="t")
        await run.wait()
        await jam.answer("t", "approve", by="olga")
        expected = (await run.wait()).output
    assert expected == {"receipt": "paid 3", "booking": "booked 3", "by": "olga"}
    assert len(store.copies) >= 8
    for parts, then in store.copies:
        later = MemoryStore()
        later.__dict__.update(copy.deepcopy(parts))
        done_before = [e.body["cmd"] for e in later.history("t") if e.kind == "succeeded"]
        output = await finish(later, then)
        assert output == expected
        # The bank was asked at most once more than if nothing had happened, under one key, and paid once.
        assert len(then.paid) == 1
        assert len(then.booked) == 1
        # What was completed is not done again.
        succeeded = [e.body["cmd"] for e in later.history("t") if e.kind == "succeeded"]
        assert len(set(succeeded)) == len(succeeded)
        assert succeeded[: len(done_before)] == done_before


async def test_the_journal_decides_alike_when_it_is_read_again(tmp_path: Path) -> None:
    """The caches written anew from the journal are those that were written on the way."""
    store = SqliteStore(tmp_path / "t.db")
    async with Engine(store, tools={"pay": pay_ann}) as jam:
        for run_id in ("waits", "ends"):
            await (await jam.start(compile_text(ASK), INPUT, id=run_id)).wait()
        await jam.answer("ends", "approve", by="olga")
        await jam.run("ends").wait()
        before = (jam.runs(), store.questions(status=None))
        store._db.execute("DELETE FROM questions")
        store._db.execute("UPDATE runs SET status = 'x', state = 'y', spent = '{}', waiting_for = '[]', wake_at_ms = 1")
        for run_id in ("waits", "ends"):
            rebuild(store, run_id)
        assert (jam.runs(), store.questions(status=None)) == before


async def test_a_changed_journal_is_never_acted_on(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.db")
    async with Engine(store, tools={"pay": pay_ann}) as jam:
        await (await jam.start(compile_text(ASK), INPUT, id="t")).wait()
    store._db.execute("UPDATE events SET body = CAST(replace(CAST(body AS TEXT), '9.50', '9000.50') AS BLOB)")
    async with Engine(store, tools={"pay": pay_ann}) as jam:
        with pytest.raises(JamError) as caught:
            await jam.answer("t", "approve", by="olga")
    assert caught.value.code == "JAMR107"
