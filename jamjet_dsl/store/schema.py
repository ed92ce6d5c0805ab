"""The run database: its tables, and how an older one becomes a newer one.

What nothing else can give back: `definitions`, `programs`, `events`, `inbox`, `dedupe`, `leases`, `erasable`;
`slots` matters only until its windows are over. Everything else is a cache of the journals and can be rebuilt: the
columns of `runs` after `head`, `questions`,
`keys`, `snapshots`.

Hashes are stored as 32 bytes, bodies as the exact bytes that were hashed, times as milliseconds since 1970 UTC.
`application_id` says that the file is a jam database, `user_version` which version of this schema it has.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x4A414D31
"""`JAM1`, in the header of the file."""

VERSION = 1

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- A definition under the SHA-256 of its canonical JSON: what runs execute, whatever happens to the file.
CREATE TABLE definitions (
  digest TEXT PRIMARY KEY, canonical BLOB NOT NULL, created_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- What people need beside a definition (sources, spans, docs): two layouts of one program share a definition.
CREATE TABLE programs (
  digest TEXT PRIMARY KEY, definition TEXT NOT NULL REFERENCES definitions, side BLOB NOT NULL,
  created_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- `last_seq` and `head` (the hash of that event) are what an append must agree with.
CREATE TABLE runs (
  run INTEGER PRIMARY KEY,
  run_id TEXT NOT NULL UNIQUE,
  last_seq INTEGER NOT NULL,
  head BLOB NOT NULL,
  agent TEXT NOT NULL,
  definition TEXT NOT NULL REFERENCES definitions,
  source TEXT NOT NULL REFERENCES programs,
  parent TEXT,
  status TEXT NOT NULL,
  state TEXT NOT NULL,
  waiting_for TEXT NOT NULL,
  spent TEXT NOT NULL,
  wake_at_ms INTEGER,
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL
);
CREATE INDEX runs_by_wake ON runs (wake_at_ms) WHERE wake_at_ms IS NOT NULL;
CREATE INDEX runs_going ON runs (status) WHERE status IN ('running', 'waiting', 'parked');

-- `token` grows with every claim; an append that carries an older one is refused. Never rebuilt, never reset.
CREATE TABLE leases (
  run INTEGER PRIMARY KEY REFERENCES runs, owner TEXT, token INTEGER NOT NULL, expires_ms INTEGER NOT NULL
);

-- `position` is the order of commits over all runs: a reader follows everything with one cursor.
CREATE TABLE events (
  position INTEGER PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs,
  seq INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  kind TEXT NOT NULL,
  body BLOB NOT NULL,
  prev_hash BLOB NOT NULL,
  hash BLOB NOT NULL,
  UNIQUE (run, seq)
);

-- The whole state after event `seq`; its digest stands in the chained event after it.
CREATE TABLE snapshots (
  run INTEGER PRIMARY KEY REFERENCES runs, seq INTEGER NOT NULL, state BLOB NOT NULL
);

-- What came from outside and no driver has taken yet, in order. AUTOINCREMENT: an id never comes back.
CREATE TABLE inbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  run INTEGER NOT NULL REFERENCES runs,
  at_ms INTEGER NOT NULL,
  kind TEXT NOT NULL,
  body BLOB NOT NULL
);
CREATE INDEX inbox_by_run ON inbox (run);
CREATE TABLE dedupe (
  run INTEGER NOT NULL REFERENCES runs, key TEXT NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (run, key)
) WITHOUT ROWID;

CREATE TABLE questions (
  id TEXT PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs,
  state TEXT NOT NULL,
  role TEXT NOT NULL,
  status TEXT NOT NULL,
  asked_ms INTEGER NOT NULL,
  expires_ms INTEGER,
  body BLOB NOT NULL,
  option TEXT,
  by TEXT,
  closed_ms INTEGER
) WITHOUT ROWID;
CREATE INDEX questions_open ON questions (run) WHERE status = 'open';

-- A declared key is a promise about one set of arguments, in every run of this database.
CREATE TABLE keys (
  tool TEXT NOT NULL, key TEXT NOT NULL, args_digest BLOB NOT NULL, run INTEGER NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY (tool, key)
) WITHOUT ROWID;

-- When calls of a limited tool were, or are to be, made: `limit 10 calls per minute` holds over all runs.
CREATE TABLE slots (tool TEXT NOT NULL, at_ms INTEGER NOT NULL);
CREATE INDEX slots_by_tool ON slots (tool, at_ms);

-- Secret and redacted values. The journal holds the commitment (SHA-256 of salt and value); erasing a row here
-- forgets the value and leaves every hash valid. `key_id` is NULL for a value that is kept unencrypted.
CREATE TABLE erasable (
  commitment BLOB PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs, path TEXT NOT NULL, salt BLOB NOT NULL,
  ciphertext BLOB NOT NULL, nonce BLOB, key_id TEXT, created_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX erasable_by_run ON erasable (run);

CREATE VIEW journal AS
  SELECT e.position, r.run_id, e.seq, strftime('%Y-%m-%dT%H:%M:%fZ', e.at_ms / 1000.0, 'unixepoch') AS at,
         e.kind, CAST(e.body AS TEXT) AS body, lower(hex(e.prev_hash)) AS prev_hash, lower(hex(e.hash)) AS hash
  FROM events e JOIN runs r USING (run);
CREATE VIEW run_summary AS
  SELECT r.run_id, r.agent, r.status, r.state, r.waiting_for, r.spent, r.last_seq, r.wake_at_ms, r.created_ms,
         r.updated_ms, r.definition, r.source, l.owner, l.expires_ms AS lease_expires_ms
  FROM runs r LEFT JOIN leases l USING (run);
CREATE VIEW open_questions AS
  SELECT q.id, r.run_id, r.agent, q.state, q.role, q.asked_ms, q.expires_ms, CAST(q.body AS TEXT) AS body
  FROM questions q JOIN runs r USING (run) WHERE q.status = 'open';
CREATE VIEW open_intents AS
  SELECT r.run_id, i.seq, i.at_ms, json_extract(CAST(i.body AS TEXT), '$.cmd') AS cmd,
         json_extract(CAST(i.body AS TEXT), '$.tool') AS tool, json_extract(CAST(i.body AS TEXT), '$.key') AS key
  FROM runs r JOIN events i USING (run)
  WHERE r.status IN ('running', 'waiting', 'parked') AND i.kind = 'intent' AND NOT EXISTS (
    SELECT 1 FROM events o WHERE o.run = i.run AND o.seq > i.seq AND o.kind IN ('succeeded', 'failed', 'settled')
      AND json_extract(CAST(o.body AS TEXT), '$.cmd') = json_extract(CAST(i.body AS TEXT), '$.cmd'));
"""

STEPS: dict[int, Callable[[Database], None]] = {}
"""What makes version n of version n - 1, under n. A step runs once, in a transaction, and is never changed again."""


def create(connection: sqlite3.Connection, version: int = VERSION) -> None:
    """Make an empty file a jam database. The caller holds the write lock."""
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")


def migrate(connection: sqlite3.Connection, version: int, steps: dict[int, Callable[[Database], None]]) -> None:
    """Bring a database from its version to `version`, forward only, each step in a transaction of its own."""
    from sqlite_utils import Database

    database = Database(connection)
    for number in range(_user_version(connection) + 1, version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have migrated while this one waited for the lock.
            if _user_version(connection) < number:
                steps[number](database)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _user_version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
