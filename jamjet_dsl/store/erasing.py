"""Forgetting values that the journal only commits to, and what is left of them in the file.

SQLite does not overwrite what it deletes: old bytes stay in free pages, in the unused part of pages that were split,
and in the log (WAL). So the rows are deleted in one transaction; then the database is written anew without free space
(VACUUM), and the log is moved into it and cut to nothing. What a file system or a disk keeps of blocks that it does not
use any more, and copies that others have made, are out of reach.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import ENDED
from jamjet_dsl.store.access import Access


def forget(db: sqlite3.Connection, run: int, run_id: str, wanted: Callable[[str], bool]) -> list[str]:
    """Delete the values whose path is wanted; their paths. Inside a transaction. Raises JamError JAMR414."""
    (status,) = db.execute("SELECT status FROM runs WHERE run = ?", (run,)).fetchone()
    if status not in ENDED:
        raise JamError("JAMR414", f"the run {run_id} is {status}: it may need its values to go on")
    found = db.execute("SELECT commitment, path FROM erasable WHERE run = ?", (run,)).fetchall()
    rows = [(commitment, path) for commitment, path in found if wanted(path)]
    db.executemany("DELETE FROM erasable WHERE commitment = ?", [(commitment,) for commitment, _ in rows])
    return [path for _, path in rows]


def scrub(access: Access) -> bool:
    """Leave no traces of what was deleted in the file and its log. False where another process is in the way: what was
    deleted is gone for every query, and a later call finishes it."""
    with access.alone() as db:
        try:
            db.execute("VACUUM")
            (busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            return False
    return not busy
