"""Who drives which run, inside a transaction.

A run's `token` grows whenever it changes hands; `append` compares it, and that alone is what keeps a stalled process
out. Everything else here only decides when somebody may take a run: an owner's heartbeat keeps all it holds, and what a
lost owner held is freed (and fenced) in one go, so that taking over costs by the runs taken, never by those waiting.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Lease
from jamjet_dsl.store.checks import damaged, row_sum
from jamjet_dsl.store.rows import NUMBER, number_in

FREED_AT_ONCE = 2_000
"""How many runs of a lost owner one transaction frees: others wait for the write lock meanwhile."""

Dead = Callable[[str], bool]

_DUE = """SELECT run, run_id, token, program, since FROM (
    SELECT run, run_id, token, program, updated_ms AS since FROM runs
      WHERE status IN ('running', 'waiting', 'parked') AND status = 'running' AND owner IS NULL
    UNION ALL
    SELECT run, run_id, token, program, wake_at_ms FROM runs
      WHERE wake_at_ms IS NOT NULL AND wake_at_ms <= :now AND owner IS NULL AND status IN ('waiting', 'parked')
    UNION ALL
    SELECT run, run_id, token, program, updated_ms FROM runs
      WHERE mail > 0 AND owner IS NULL AND status IN ('waiting', 'parked')
  ) WHERE program NOT IN (SELECT p.program FROM programs p, json_each(:skip) s WHERE p.digest = s.value)
  ORDER BY since, run LIMIT :limit"""
"""Free runs with something to do, by index: those left in the middle, those with a timer, those with mail."""

DUE = """SELECT run_id FROM runs WHERE run IN (
    SELECT run FROM runs WHERE status IN ('running', 'waiting', 'parked') AND status = 'running'
    UNION
    SELECT run FROM runs WHERE wake_at_ms IS NOT NULL AND wake_at_ms <= ? AND status IN ('waiting', 'parked')
    UNION
    SELECT run FROM runs WHERE mail > 0 AND status IN ('waiting', 'parked')
  ) ORDER BY run"""

NEXT_WAKE = """SELECT wake_at_ms FROM runs
  WHERE wake_at_ms IS NOT NULL AND owner IS NULL ORDER BY wake_at_ms LIMIT 1"""


def heartbeat(db: sqlite3.Connection, name: str, expires_ms: int, now_ms: int) -> int:
    """The number of an owner, who holds what it holds at least until then."""
    row = db.execute("SELECT owner, name, expires_ms, sum FROM owners WHERE name = ?", (name,)).fetchone()
    if row is None:
        # A new owner is rare, and the moment to forget those that are gone and hold nothing.
        db.execute(
            "DELETE FROM owners WHERE expires_ms <= ?"
            " AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.owner IS NOT NULL AND runs.owner = owners.owner)",
            (now_ms,),
        )
        number = int(db.execute("INSERT INTO owners VALUES (NULL, ?, ?, 0)", (name, expires_ms)).lastrowid or 0)
    elif row[3] == row_sum(*row[:3]) and row[2] >= expires_ms:
        return int(row[0])
    else:
        number = int(row[0])
    total = row_sum(number, name, expires_ms)
    db.execute("UPDATE owners SET expires_ms = ?, sum = ? WHERE owner = ?", (expires_ms, total, number))
    return number


def _lost(row: tuple[Any, ...], now_ms: int, dead: Dead | None) -> bool:
    """Whether an owner (owner, name, expires_ms, sum) holds nothing any more. Where a row cannot be believed nobody
    waits for it: a process that is alive after all is kept out by its tokens."""
    return row_sum(*row[:3]) != row[3] or row[2] <= now_ms or bool(dead and dead(row[1]))


def claim(db: sqlite3.Connection, run_id: str, owner: str, lease_ms: int, now_ms: int, dead: Dead | None) -> Lease:
    """Take one run. Raises JamError JAMR201, JAMR205."""
    run = number_in(db.execute(NUMBER, (run_id,)).fetchone(), run_id)
    row = db.execute(
        "SELECT r.token, o.owner, o.name, o.expires_ms, o.sum FROM runs r LEFT JOIN owners o USING (owner)"
        " WHERE r.run = ?",
        (run,),
    ).fetchone()
    token, number, holder = row[:3]
    if number is not None and holder != owner and not _lost(row[1:], now_ms, dead):
        raise JamError("JAMR205", f"the run {run_id} is being driven by {holder}")
    number = heartbeat(db, owner, now_ms + lease_ms, now_ms)
    return _take(db, run, run_id, token, owner, number, now_ms + lease_ms)


def _take(db: sqlite3.Connection, run: int, run_id: str, token: int, owner: str, number: int, expires_ms: int) -> Lease:
    if type(token) is not int or type(run_id) is not str:
        damaged(f"the row of the run {run_id!r}")
    db.execute("UPDATE runs SET owner = ?, token = ? WHERE run = ?", (number, token + 1, run))
    return Lease(run_id, owner, token + 1, expires_ms)


def lost_owners(db: sqlite3.Connection, owner: str, now_ms: int, dead: Dead | None) -> list[int]:
    """The others whose leases are over, or whose processes are gone."""
    others = db.execute("SELECT owner, name, expires_ms, sum FROM owners WHERE name <> ?", (owner,)).fetchall()
    return [row[0] for row in others if _lost(row, now_ms, dead)]


def due(db: sqlite3.Connection, now_ms: int, limit: int, skip: str) -> list[tuple[int, str, int]]:
    """Free runs with something to do, the longest due first: number, id, token. `skip` is a JSON list."""
    rows = db.execute(_DUE, {"now": now_ms, "limit": limit + limit, "skip": skip}).fetchall()
    # A run that is due for two reasons stands there twice.
    return list(dict.fromkeys(row[:3] for row in rows))[:limit]


def claim_due(
    db: sqlite3.Connection, owner: str, lease_ms: int, now_ms: int, limit: int, dead: Dead | None, skip: str
) -> list[Lease]:
    """Free what lost owners held, and take up to `limit` runs that have something to do."""
    for number in lost_owners(db, owner, now_ms, dead):
        freed = db.execute(
            "UPDATE runs SET owner = NULL, token = token + 1"
            " WHERE run IN (SELECT run FROM runs WHERE owner IS NOT NULL AND owner = ? LIMIT ?)",
            (number, FREED_AT_ONCE),
        ).rowcount
        if freed < FREED_AT_ONCE:
            db.execute("DELETE FROM owners WHERE owner = ?", (number,))
    found = due(db, now_ms, limit, skip)
    if not found:
        return []
    number = heartbeat(db, owner, now_ms + lease_ms, now_ms)
    return [_take(db, *run, owner, number, now_ms + lease_ms) for run in found]


def renew(db: sqlite3.Connection, leases: Sequence[Lease], lease_ms: int, now_ms: int) -> list[Lease]:
    """Keep what one owner holds. Those of the leases that were lost are left out."""
    kept = [
        Lease(lease.run_id, lease.owner, lease.token, now_ms + lease_ms)
        for lease in leases
        if db.execute(
            "SELECT 1 FROM runs r JOIN owners o USING (owner) WHERE r.run_id = ? AND r.token = ? AND o.name = ?",
            (lease.run_id, lease.token, lease.owner),
        ).fetchone()
    ]
    for owner in dict.fromkeys(lease.owner for lease in kept):
        heartbeat(db, owner, now_ms + lease_ms, now_ms)
    return kept


def release(db: sqlite3.Connection, lease: Lease) -> None:
    """Give a run up, if it is still held under this lease."""
    db.execute(
        "UPDATE runs SET owner = NULL WHERE run_id = ? AND token = ? AND owner IS NOT NULL", (lease.run_id, lease.token)
    )
