"""What each version of the schema adds to the one before. A step is never changed once it was released.

Step 2 writes the present tables and sums, so later steps find there what they would add, and leave it: whoever changes
a table that is there already copies here what step 2 uses of `schema`, `rows`.
"""

from __future__ import annotations

import json
import sqlite3

from jamjet_dsl.store import rows, schema
from jamjet_dsl.store.checks import row_sum

_KEPT = ("definitions", "slots", "erasable")
_REMADE = ("programs", "runs", "leases", "events", "snapshots", "inbox", "dedupe", "questions", "keys")


def second(db: sqlite3.Connection) -> None:
    """One row per owner instead of one lease per run, checksums, smaller events, tombstones, indices for workers."""
    for view in ("journal", "run_summary", "open_questions", "open_intents"):
        db.execute(f"DROP VIEW {view}")
    (highest,) = db.execute("SELECT coalesce(max(id), 0) FROM inbox").fetchone()
    sequence = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'inbox'").fetchone()
    for name in [*_KEPT, *_REMADE]:
        db.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
    for (index,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchall():
        db.execute(f"DROP INDEX {index}")
    schema.execute(db, schema.TABLES)
    for name in _KEPT:
        more = ", ''" if name == "slots" else ""
        db.execute(f"INSERT INTO {name} SELECT *{more} FROM old_{name}")
    old = db.execute("SELECT digest, definition, side, created_ms FROM old_programs ORDER BY created_ms, digest")
    for number, (digest, definition, *rest) in enumerate(old.fetchall(), 1):
        total = row_sum(number, digest, definition)
        db.execute("INSERT INTO programs VALUES (?, ?, ?, ?, ?, ?)", (number, digest, definition, *rest, total))
    held = db.execute("SELECT owner, max(expires_ms) FROM old_leases WHERE owner IS NOT NULL GROUP BY owner").fetchall()
    for number, row in enumerate(held, 1):
        db.execute("INSERT INTO owners VALUES (?, ?, ?, ?)", (number, *row, row_sum(number, *row)))
    db.execute(
        "INSERT INTO events SELECT position, run, seq, at_ms, kind, body, hash FROM old_events ORDER BY position"
    )
    db.execute("INSERT INTO snapshots SELECT run, seq, state FROM old_snapshots")
    _runs(db)
    _messages(db)
    _questions(db)
    for tool, key, digest, run in db.execute("SELECT tool, key, args_digest, run FROM old_keys").fetchall():
        db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?)", (tool, key, digest, run, row_sum(tool, key, run, digest)))
    for name in [*_KEPT, *_REMADE, "meta"]:
        db.execute(f"DROP TABLE {'' if name == 'meta' else 'old_'}{name}")
    last = max(highest, sequence[0] if sequence else 0)
    db.execute("DELETE FROM sqlite_sequence WHERE name = 'inbox'")
    db.execute("INSERT INTO sqlite_sequence VALUES ('inbox', ?)", (last,))
    schema.execute(db, schema.VIEWS + schema.OPEN_INTENTS)


def _runs(db: sqlite3.Connection) -> None:
    found = db.execute(
        "SELECT r.run, r.run_id, l.token, r.last_seq, r.head, p.program, r.agent, r.parent, r.status, r.state,"
        " r.waiting_for, r.spent, r.wake_at_ms, r.created_ms, r.updated_ms, o.owner,"
        " (SELECT count(*) FROM old_inbox i WHERE i.run = r.run)"
        " FROM old_runs r JOIN old_leases l USING (run) JOIN programs p ON p.digest = r.source"
        " LEFT JOIN owners o ON o.name = l.owner ORDER BY r.run"
    )
    for row in found:
        run, run_id, token, last_seq, head, program, agent, parent, *stands = row[:13]
        created_ms, updated_ms, owner, mail = row[13:]
        fixed = rows.Place.of(run, run_id, agent, parent, created_ms, program)
        kept = rows.Head(fixed, token, last_seq, head.hex(), rows.Stands(*stands), updated_ms, frozenset())
        place = (run, run_id, token, owner, last_seq, head, mail, program, agent, parent)
        db.execute(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*place, *stands, created_ms, updated_ms, kept.sum),
        )


def _messages(db: sqlite3.Connection) -> None:
    for number, *row in db.execute("SELECT id, run, at_ms, kind, body FROM old_inbox ORDER BY id").fetchall():
        db.execute("INSERT INTO inbox VALUES (?, ?, ?, ?, ?, ?)", (number, *row, row_sum(*row)))
    for row in db.execute("SELECT run, key, at_ms, body FROM old_dedupe").fetchall():
        db.execute("INSERT INTO dedupe VALUES (?, ?, ?, ?, ?)", (*row, row_sum(*row)))


def _questions(db: sqlite3.Connection) -> None:
    asked = {}
    for run, seq, body in db.execute("SELECT run, seq, body FROM events WHERE kind = 'asked'"):
        asked[run, json.loads(body)["question"]] = (seq, body)
    old = "SELECT id, run, state, role, status, asked_ms, expires_ms, option, by, closed_ms FROM old_questions"
    for name, run, *rest in db.execute(old).fetchall():
        seq, body = asked[run, name]
        total = rows.question_sum((name, seq, *rest), run, body)
        db.execute("INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (name, run, seq, *rest, total))


def third(db: sqlite3.Connection) -> None:
    """Limits that all runs of a principal share."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS shared ("
        "who TEXT NOT NULL, counter TEXT NOT NULL, grp TEXT NOT NULL, at_ms INTEGER NOT NULL, calls INTEGER NOT NULL,"
        " total TEXT NOT NULL, run INTEGER NOT NULL, cmd TEXT NOT NULL, sum INTEGER NOT NULL,"
        " PRIMARY KEY (who, counter, grp, at_ms, calls)) WITHOUT ROWID"
    )
    db.execute("CREATE UNIQUE INDEX IF NOT EXISTS shared_by_run ON shared (run, cmd, who, counter, grp)")


def fourth(db: sqlite3.Connection) -> None:
    """Attempts that were given up, made again or found out about are not open in `open_intents`."""
    db.execute("DROP VIEW IF EXISTS open_intents")
    schema.execute(db, schema.OPEN_INTENTS)


STEPS: dict[int, schema.Step] = {2: second, 3: third, 4: fourth}
