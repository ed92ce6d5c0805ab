"""Forgetting runs that have ended, in one transaction.

What stays: the ids (`gone`), so that nobody can mistake a new run for an old one; the declared keys, which are promises
to the world outside and not to the run; definitions, which a run that is just being started may be about to name; of
what somebody has used of a limit that runs share, all that a window can see, and how much it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from jamjet_dsl.kernel.model import ENDED
from jamjet_dsl.ports import Pruned

SEEN_MS = 2 * 86_400_000
"""The longest window of a limit is a day; the clocks of two processes are not a day apart."""

_USED = """DELETE FROM shared WHERE at_ms < ?1 AND run NOT IN (SELECT run FROM runs) AND EXISTS (
  SELECT 1 FROM shared l WHERE (l.who, l.counter, l.grp) = (shared.who, shared.counter, shared.grp)
    AND (l.at_ms, l.calls) > (shared.at_ms, shared.calls) AND l.at_ms < ?1)"""
"""Each row says what all up to it add up to, so of those that no window can see any more the newest is enough."""

_BELONGS = ("snapshots", "inbox", "dedupe", "questions", "erasable", "events")


def candidates(db: sqlite3.Connection, before_ms: int | None, keep: int, statuses: Collection[str]) -> list[Pruned]:
    """The ended runs of these statuses whose last event is older than `before_ms`, without the `keep` newest of them;
    the oldest first. ValueError for a status that is not one of an ended run."""
    if not set(statuses) <= ENDED:
        raise ValueError(f"only runs that have ended can be pruned, not {sorted(set(statuses) - ENDED)}")
    marks = ", ".join("?" * len(statuses))
    when = "" if before_ms is None else "WHERE updated_ms < ?"
    sql = (
        f"SELECT run_id, agent, status, updated_ms, last_seq, (SELECT coalesce(sum(length(body)), 0) FROM events e"
        f" WHERE e.run = r.run) FROM (SELECT * FROM runs WHERE status IN ({marks}) AND owner IS NULL"
        f" ORDER BY updated_ms DESC, run DESC LIMIT -1 OFFSET ?) r {when} ORDER BY updated_ms, run"
    )
    values = [*statuses, max(keep, 0), *([] if before_ms is None else [before_ms])]
    return [Pruned(*row) for row in db.execute(sql, values)]


def forget(db: sqlite3.Connection, run_ids: Sequence[str], now_ms: int) -> None:
    """Delete runs with everything of theirs, and remember their ids."""
    (before,) = db.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
    for run_id in run_ids:
        (run,) = db.execute("SELECT run FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        db.execute("INSERT INTO gone SELECT id, 'question', ? FROM questions WHERE run = ?", (now_ms, run))
        for table in _BELONGS:
            db.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
        db.execute("DELETE FROM runs WHERE run = ?", (run,))
        db.execute("INSERT INTO gone VALUES (?, 'run', ?)", (run_id, now_ms))
    db.execute(_USED, (now_ms - SEEN_MS,))
    (after,) = db.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
    if after < before:
        # Whoever follows the positions must never meet one twice: the newest stays taken, by an event of no run.
        db.execute("INSERT INTO events VALUES (?, 0, ?, ?, 'pruned', x'7b7d', NULL)", (before, before, now_ms))
    db.execute("DELETE FROM events WHERE run = 0 AND position < (SELECT max(position) FROM events)")
