"""Two runs with something of everything, the heads that were signed of them, and the ways to change a database."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from jamjet_dsl import Engine, compile_text
from jamjet_dsl.engine.audit.heads import Head, HeadLog
from jamjet_dsl.engine.audit.keys import Signer, new_pair, signer
from jamjet_dsl.store.chain import GENESIS, event_hash
from jamjet_dsl.store.reading import Row
from jamjet_dsl.store.rows import Head as RunRow
from jamjet_dsl.store.rows import Place, Stands, head_of
from jamjet_dsl.store.sqlite import SqliteStore

PROGRAM = """
tool look(n: int) -> int { effect reads }
tool price(n: int) -> int { effect reads  cost $0.10 }
tool limit_of(n: int) -> int { effect reads }
tool pay(n: int) -> string { effect irreversible  key run.id + "/pay" }
tool wipe(n: int) -> int { effect writes }
agent buyer version 1 {
  input  n: int
  output receipt: string?
  var    seen: int = 0
  var    cost: int = 0
  budget { steps 30  cost $5  exceeded -> over }
  policy {
    fact most = limit_of(n = args.n) within 10m
    allow look, price
    allow wipe when args.n > 100
    allow pay when args.n <= most
    require approval review before pay
  }
  on denied -> review
  on error any -> over
  start state first {
    call look(n) as seen
    when seen < n + 3 -> first limit 6 else dear
    otherwise -> dear
  }
  state dear { call price(n) as cost -> refused }
  state refused { call wipe(n) -> over }
  state review {
    ask role "boss" to pay(n) "Pay {n}?" options approve approves, no answer { note: string? } as a
    on approve -> paying
    on no -> over
  }
  state paying { call approved pay as receipt -> done }
  final done { receipt = receipt }
  failed over {}
}
"""


def tools() -> list[Callable[..., object]]:
    """What the program calls."""

    def look(n: int) -> int:
        return n - 2

    def price(n: int) -> int:
        return 7 * n

    def limit_of(n: int) -> int:
        return 100

    def pay(n: int) -> str:
        return f"paid {n}"

    def wipe(n: int) -> int:
        raise AssertionError("the policy denies it")

    return [look, price, limit_of, pay, wipe]


class Evidence(NamedTuple):
    """A database with the runs `one` and `two`, the file of signed heads, and the key that signed."""

    db: Path
    heads: Path
    key: Signer
    private: bytes

    def copy(self, folder: Path) -> Evidence:
        """The same, to be changed."""
        shutil.copy(self.db, folder / "jam.db")
        shutil.copy(self.heads, folder / "heads.jsonl")
        return self._replace(db=folder / "jam.db", heads=folder / "heads.jsonl")


def make(folder: Path) -> Evidence:
    """Drive both runs to their end. Heads are signed by the engine, and of each event of `one` by hand."""
    private, _ = new_pair()
    key = signer(private, "a test")
    db, heads = folder / "jam.db", folder / "heads.jsonl"
    log = HeadLog(heads, key)
    asyncio.run(_drive(db, log))
    store = SqliteStore(db)
    try:
        for event in store.history("one"):
            log.append([Head("one", event.seq, event.hash)], event.at_ms)
    finally:
        store.close()
    with sqlite3.connect(db) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    return Evidence(db, heads, key, private)


async def _drive(db: Path, log: HeadLog) -> None:
    program = compile_text(PROGRAM)
    async with Engine(store=db, tools=tools(), heads=log) as jam:
        for name in ("one", "two"):
            run = await jam.start(program, {"n": 3}, id=name, principal={"id": "ann", "roles": ["clerk"]})
            await run.wait()
            await jam.answer(name, "approve", by={"id": "bob", "roles": ["boss"]}, note="go on")
            view = await run.wait()
            assert view.status == "completed", view


def rows_of(db: Path, run_id: str) -> list[Row]:
    """The events of a run as they lie in the database."""
    store = SqliteStore(db, read_only=True)
    try:
        return list(store.raw(run_id).events)
    finally:
        store.close()


def append_of(rows: Sequence[Row], seq: int) -> tuple[int, int]:
    """The first and last event of the append that an event was part of."""
    first = max((row.seq for row in rows if row.seq < seq and row.hash is not None), default=0) + 1
    return first, min(row.seq for row in rows if row.seq >= seq and row.hash is not None)


def rewritten(run_id: str, rows: Sequence[Row]) -> list[Row]:
    """The rows numbered and chained anew: what somebody can do who knows how it is done."""
    prev, found = GENESIS, []
    for seq, row in enumerate(rows, 1):
        prev = event_hash(run_id, seq, row.at_ms, row.kind, row.body, prev)
        last = seq == len(rows)
        found.append(Row(seq, row.at_ms, row.kind, row.body, bytes.fromhex(prev) if row.hash or last else None))
    return found


def put(db: Path, run_id: str, rows: Sequence[Row], *, own_row: bool = True) -> None:
    """Replace the events of a run; with `own_row` the run's row says so, under a sum that fits."""
    with sqlite3.connect(db) as connection:
        (run,) = connection.execute("SELECT run FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        connection.execute("DELETE FROM events WHERE run = ?", (run,))
        connection.executemany(
            "INSERT INTO events (run, seq, at_ms, kind, body, hash) VALUES (?, ?, ?, ?, ?, ?)",
            [(run, *row) for row in rows],
        )
        if own_row:
            connection.execute("DELETE FROM snapshots WHERE run = ?", (run,))
            asked = "SELECT seq FROM events WHERE run = ? AND kind = 'asked'"
            connection.execute(f"DELETE FROM questions WHERE run = ? AND seq NOT IN ({asked})", (run, run))
            connection.execute(
                "UPDATE runs SET last_seq = ?, head = ?, updated_ms = ? WHERE run = ?",
                (rows[-1].seq, rows[-1].hash, rows[-1].at_ms, run),
            )
            resum(connection, run)
    connection.close()


COLUMNS = (
    "run, run_id, token, last_seq, head, program, agent, parent, status, state, waiting_for, spent, wake_at_ms,"
    " created_ms, updated_ms, sum"
)


def resum(connection: sqlite3.Connection, run: int) -> None:
    """Give a run's row the sum that fits it: a sum finds accidents, not people."""
    row = connection.execute(f"SELECT {COLUMNS} FROM runs WHERE run = ?", (run,)).fetchone()
    place = Place.of(row[0], row[1], row[6], row[7], row[13], row[5])
    own = RunRow(place, row[2], row[3], row[4].hex(), Stands(*row[8:13]), row[14], frozenset())
    connection.execute("UPDATE runs SET sum = ? WHERE run = ?", (own.sum, run))
    again = connection.execute(f"SELECT {COLUMNS} FROM runs WHERE run = ?", (run,)).fetchone()
    assert head_of(again) is not None
