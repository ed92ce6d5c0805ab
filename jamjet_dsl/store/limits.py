"""Limits that all runs of a principal share: what was used of them, counted.

Each row says how many calls there were up to it and what they add up to, and the times of one counter do not go back.
So what a window holds is the difference of the newest row and the last one before the window: a decision costs the same
however much was used.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from decimal import MAX_PREC, Context, Decimal
from functools import reduce
from itertools import groupby
from operator import attrgetter
from typing import Any

from jamjet_dsl.ports import LimitConflict, SharedUse
from jamjet_dsl.store.checks import damaged, row_sum

COLUMNS = "who, counter, grp, at_ms, calls, total, run, cmd, sum"

USED = f"""SELECT * FROM (SELECT {COLUMNS} FROM shared WHERE who = ?1 AND counter = ?2 AND grp = ?3
    ORDER BY at_ms DESC, calls DESC LIMIT 1)
  UNION ALL SELECT * FROM (SELECT {COLUMNS} FROM shared WHERE who = ?1 AND counter = ?2 AND grp = ?3 AND at_ms <= ?4
    ORDER BY at_ms DESC, calls DESC LIMIT 1)"""
"""The newest row of a counter, and the last one before a window: the same row, if nothing is in the window."""

_KNOWN = "SELECT 1 FROM shared WHERE run = ? AND cmd = ? AND who = ? AND counter = ? AND grp = ?"
_EXACT = Context(prec=MAX_PREC)


def added(amounts: Iterable[Decimal]) -> Decimal:
    """Their sum, exactly."""
    return reduce(_EXACT.add, amounts, Decimal(0))


def used(found: Iterable[Sequence[Any]], since_ms: int) -> tuple[int, Decimal]:
    """Calls and total of a window that began at `since_ms`, from the rows of `USED`. Raises JamError JAMR107."""
    newest, before = (0, Decimal(0)), (0, Decimal(0))
    for *row, kept in found:
        if row_sum(*row) != kept:
            damaged("what was used of a limit that runs share")
        upto = int(row[4]), Decimal(row[5])
        newest = max(newest, upto)
        if row[3] <= since_ms:
            before = upto
    if newest[0] == before[0]:
        return 0, Decimal(0)
    return newest[0] - before[0], _EXACT.subtract(newest[1], before[1])


def count(db: sqlite3.Connection, run: int, uses: Iterable[SharedUse]) -> None:
    """Count calls of a run. Raises LimitConflict, and JamError JAMR107.

    Two rules may count the same, one for a day and one for good: both are asked before the call is counted, once.
    """
    for _, of_call in groupby(uses, attrgetter("cmd")):
        asked = list(of_call)
        for use in asked:
            if not use.fits(*used(db.execute(USED, (*use[:3], use.since_ms)), use.since_ms)):
                raise LimitConflict(use)
        for use in asked:
            if db.execute(_KNOWN, (run, use.cmd, *use[:3])).fetchone() is None:
                _add(db, run, use)


def _add(db: sqlite3.Connection, run: int, use: SharedUse) -> None:
    newest = db.execute(USED, (*use[:3], -1)).fetchone()
    at_ms, calls, total = (use.at_ms, 0, Decimal(0)) if newest is None else (newest[3], newest[4], Decimal(newest[5]))
    row = (*use[:3], max(use.at_ms, at_ms), calls + 1, str(added((total, use.amount))), run, use.cmd)
    db.execute("INSERT INTO shared VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, row_sum(*row)))
