"""The run database: its tables, and how an older one becomes a newer one (`steps` holds what one version adds).

What nothing else can give back: `definitions`, `programs`, `events`, `inbox`, `dedupe`, `keys`, `shared`, `erasable`,
`gone`, and of `runs` the fencing `token`; `slots` and `owners` matter only for a while. Everything else is a cache of
the journals and can be rebuilt from them: the columns of `runs` after `mail`, `questions`, `snapshots`.

Hashes are stored as 32 bytes, bodies as the exact bytes that were hashed, times as milliseconds since 1970 UTC.
`application_id` says that the file is a jam database, `user_version` which version of this schema it has. `sum` is a
CRC-32 of a row's other columns (`checks`): the hash chain covers the journal, the sums what stands beside it.
docs/database.md explains the tables and views to people who query them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

APPLICATION_ID = 0x4A414D31
"""`JAM1`, in the header of the file."""

VERSION = 4

TABLES = """
-- A definition under the SHA-256 of its canonical JSON: what runs execute, whatever happens to the file.
CREATE TABLE definitions (
  digest TEXT PRIMARY KEY, canonical BLOB NOT NULL, created_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- What people need beside a definition (sources, spans, docs): two layouts of one program share a definition. The
-- digest is of the definition's digest and `side`. Runs name the number: a digest would be the largest part of a row.
CREATE TABLE programs (
  program INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, definition TEXT NOT NULL REFERENCES definitions,
  side BLOB NOT NULL, created_ms INTEGER NOT NULL, sum INTEGER NOT NULL
);

-- Processes that drive runs. One heartbeat, this row, keeps everything its owner holds: thousands of runs cost one
-- small write. When it is over (or the process is known to be gone, or the row is damaged) its runs are nobody's.
CREATE TABLE owners (
  owner INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, expires_ms INTEGER NOT NULL, sum INTEGER NOT NULL
);

-- `token` grows whenever the run changes hands, and an append that carries an older one is refused: that alone keeps
-- a process out that was stopped past its lease, whatever its clock says. A lease that is over but that nobody took is
-- still good. `last_seq` and `head` (the hash of that event) are what an append must agree with. `mail` counts the
-- run's rows in `inbox`, so that one that gets lost is noticed. AUTOINCREMENT: a number never comes back.
CREATE TABLE runs (
  run INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id TEXT NOT NULL UNIQUE,
  token INTEGER NOT NULL,
  owner INTEGER REFERENCES owners,
  last_seq INTEGER NOT NULL,
  head BLOB NOT NULL,
  mail INTEGER NOT NULL,
  program INTEGER NOT NULL REFERENCES programs,
  agent TEXT NOT NULL,
  parent TEXT,
  status TEXT NOT NULL,
  state TEXT NOT NULL,
  waiting_for TEXT NOT NULL,
  spent TEXT NOT NULL,
  wake_at_ms INTEGER,
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL,
  sum INTEGER NOT NULL
);
-- What a worker looks for, each found without looking at the runs that merely wait: timers, messages, runs that were
-- left in the middle, and what a lost owner held.
CREATE INDEX runs_by_wake ON runs (wake_at_ms, owner) WHERE wake_at_ms IS NOT NULL;
CREATE INDEX runs_by_mail ON runs (mail) WHERE mail > 0;
CREATE INDEX runs_going ON runs (status, owner) WHERE status IN ('running', 'waiting', 'parked');
CREATE INDEX runs_by_owner ON runs (owner) WHERE owner IS NOT NULL;

-- `position` is the order of commits over all runs: a reader follows everything with one cursor. `hash` stands in the
-- last event of each append; those before it are computed on the way to it. Run 0 is a place holder (see `prune`),
-- which is why `run` is no foreign key.
CREATE TABLE events (
  position INTEGER PRIMARY KEY,
  run INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  kind TEXT NOT NULL,
  body BLOB NOT NULL,
  hash BLOB
);
CREATE UNIQUE INDEX events_by_run ON events (run, seq);

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
  body BLOB NOT NULL,
  sum INTEGER NOT NULL
);
CREATE INDEX inbox_by_run ON inbox (run);
CREATE TABLE dedupe (
  run INTEGER NOT NULL REFERENCES runs, key TEXT NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL,
  sum INTEGER NOT NULL, PRIMARY KEY (run, key)
) WITHOUT ROWID;

-- The question that event `seq` of a run asked; its text and options are in that event.
CREATE TABLE questions (
  id TEXT PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs,
  seq INTEGER NOT NULL,
  state TEXT NOT NULL,
  role TEXT NOT NULL,
  status TEXT NOT NULL,
  asked_ms INTEGER NOT NULL,
  expires_ms INTEGER,
  option TEXT,
  by TEXT,
  closed_ms INTEGER,
  sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX questions_open ON questions (run) WHERE status = 'open';
CREATE INDEX questions_by_run ON questions (run);

-- A declared key is a promise about one set of arguments, in every run of this database, for as long as the database
-- exists: rows outlive their runs.
CREATE TABLE keys (
  tool TEXT NOT NULL, key TEXT NOT NULL, args_digest BLOB NOT NULL, run INTEGER NOT NULL, sum INTEGER NOT NULL,
  PRIMARY KEY (tool, key)
) WITHOUT ROWID;

-- Calls that count under a limit which all runs of a principal share (`limit … per principal`): whose (a digest),
-- which limit, for what (a digest), when, and how many there were and what they added up to with this one. So what a
-- window holds is the difference of two rows. Rows outlive their runs: what somebody has used was used.
CREATE TABLE shared (
  who TEXT NOT NULL, counter TEXT NOT NULL, grp TEXT NOT NULL, at_ms INTEGER NOT NULL, calls INTEGER NOT NULL,
  total TEXT NOT NULL, run INTEGER NOT NULL, cmd TEXT NOT NULL, sum INTEGER NOT NULL,
  PRIMARY KEY (who, counter, grp, at_ms, calls)
) WITHOUT ROWID;
CREATE UNIQUE INDEX shared_by_run ON shared (run, cmd, who, counter, grp);

-- When calls of a limited tool were, or are to be, made: `limit 10 calls per minute` holds over all runs.
CREATE TABLE slots (tool TEXT NOT NULL, at_ms INTEGER NOT NULL, holder TEXT NOT NULL);
CREATE INDEX slots_by_tool ON slots (tool, at_ms);

-- Secret and redacted values. The journal holds the commitment (SHA-256 of salt and value); erasing a row here
-- forgets the value and leaves every hash valid. `key_id` is NULL for a value that is kept unencrypted.
CREATE TABLE erasable (
  commitment BLOB PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs, path TEXT NOT NULL, salt BLOB NOT NULL,
  ciphertext BLOB NOT NULL, nonce BLOB, key_id TEXT, created_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX erasable_by_run ON erasable (run);

-- Ids of runs and questions that were pruned: nobody gets them again.
CREATE TABLE gone (id TEXT NOT NULL, what TEXT NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (id, what)) WITHOUT ROWID;
"""

VIEWS = """
CREATE VIEW journal AS
  SELECT e.position, r.run_id, e.seq, strftime('%Y-%m-%dT%H:%M:%fZ', e.at_ms / 1000.0, 'unixepoch') AS at,
         e.kind, CAST(e.body AS TEXT) AS body, lower(hex(e.hash)) AS hash
  FROM events e JOIN runs r USING (run);
CREATE VIEW run_summary AS
  SELECT r.run_id, r.agent, r.status, r.state, r.waiting_for, r.spent, r.last_seq, r.mail AS messages, r.wake_at_ms,
         strftime('%Y-%m-%dT%H:%M:%fZ', r.wake_at_ms / 1000.0, 'unixepoch') AS wakes,
         r.created_ms, strftime('%Y-%m-%dT%H:%M:%fZ', r.created_ms / 1000.0, 'unixepoch') AS created,
         r.updated_ms, strftime('%Y-%m-%dT%H:%M:%fZ', r.updated_ms / 1000.0, 'unixepoch') AS updated,
         r.parent, p.definition, p.digest AS source, o.name AS owner, o.expires_ms AS lease_expires_ms
  FROM runs r JOIN programs p USING (program) LEFT JOIN owners o USING (owner);
CREATE VIEW open_questions AS
  SELECT q.id, r.run_id, r.agent, q.state, q.role, json_extract(CAST(e.body AS TEXT), '$.text') AS text,
         q.asked_ms, strftime('%Y-%m-%dT%H:%M:%fZ', q.asked_ms / 1000.0, 'unixepoch') AS asked,
         q.expires_ms, strftime('%Y-%m-%dT%H:%M:%fZ', q.expires_ms / 1000.0, 'unixepoch') AS expires,
         CAST(e.body AS TEXT) AS body
  FROM questions q JOIN runs r USING (run) JOIN events e ON e.run = q.run AND e.seq = q.seq
  WHERE q.status = 'open';
CREATE VIEW parked_runs AS
  SELECT r.run_id, r.agent, r.state, json_extract(w.value, '$.reason') AS reason, json_extract(w.value, '$.cmd') AS cmd,
         r.updated_ms, strftime('%Y-%m-%dT%H:%M:%fZ', r.updated_ms / 1000.0, 'unixepoch') AS since
  FROM runs r, json_each(r.waiting_for) w
  WHERE r.status = 'parked' AND json_extract(w.value, '$.kind') = 'operator';
CREATE VIEW waiting_runs AS
  SELECT r.run_id, r.agent, r.state, json_extract(w.value, '$.kind') AS what,
         coalesce(json_extract(w.value, '$.name'), json_extract(w.value, '$.id')) AS name,
         strftime('%Y-%m-%dT%H:%M:%fZ', r.wake_at_ms / 1000.0, 'unixepoch') AS wakes,
         strftime('%Y-%m-%dT%H:%M:%fZ', r.updated_ms / 1000.0, 'unixepoch') AS since
  FROM runs r, json_each(r.waiting_for) w WHERE r.status = 'waiting';
CREATE VIEW spending AS
  SELECT r.run_id, r.agent, r.status, json_extract(r.spent, '$.steps') AS steps,
         json_extract(r.spent, '$.tokens') AS tokens, json_extract(r.spent, '$.cost') AS cost,
         CAST(json_extract(r.spent, '$.cost') AS REAL) AS amount,
         substr(json_extract(r.spent, '$.cost'), instr(json_extract(r.spent, '$.cost'), ' ') + 1) AS currency,
         json_extract(r.spent, '$.active_ms') AS active_ms, r.created_ms, r.updated_ms
  FROM runs r;
"""

OPEN_INTENTS = """
CREATE VIEW open_intents AS
  WITH i AS (
    SELECT e.run, r.run_id, e.seq, e.at_ms, json_extract(CAST(e.body AS TEXT), '$.cmd') AS cmd,
           json_extract(CAST(e.body AS TEXT), '$.tool') AS tool, json_extract(CAST(e.body AS TEXT), '$.key') AS key,
           json_extract(CAST(e.body AS TEXT), '$.effect') = 'reads' AS reads
    FROM runs r JOIN events e USING (run)
    WHERE r.status IN ('running', 'waiting', 'parked') AND e.kind = 'intent')
  SELECT i.run_id, i.seq, i.at_ms, i.cmd, i.tool, i.key FROM i WHERE NOT EXISTS (
    SELECT 1 FROM events o WHERE o.run = i.run AND o.seq > i.seq AND CASE
      WHEN o.kind IN ('succeeded', 'failed', 'settled', 'fact', 'unsent')
      THEN json_extract(CAST(o.body AS TEXT), '$.cmd') = i.cmd
      -- It is made again, under another id; one whose tool has `confirm` is asked about first.
      WHEN o.kind = 'recovered'
      THEN json_extract(CAST(o.body AS TEXT), '$.cmd') = i.cmd
           AND json_extract(CAST(o.body AS TEXT), '$.how') <> 'confirm'
      WHEN o.kind = 'probed'
      THEN json_extract(CAST(o.body AS TEXT), '$.cmd') = i.cmd
           OR json_extract(CAST(o.body AS TEXT), '$.cmd') = i.cmd || '/confirm'
              AND json_extract(CAST(o.body AS TEXT), '$.happened') IS NOT NULL
      -- A read that nobody waits for any more is over; a call that writes is not.
      WHEN o.kind IN ('moved', 'closed') AND i.reads
      THEN json_extract(CAST(o.body AS TEXT), '$.frame') || '#' = substr(i.cmd, 1, instr(i.cmd, '#'))
           OR json_extract(CAST(o.body AS TEXT), '$.frame') || '/'
              = substr(i.cmd, 1, length(json_extract(CAST(o.body AS TEXT), '$.frame')) + 1)
      ELSE 0 END);
"""
"""Calls that were begun and have no outcome yet."""

Step = Callable[[sqlite3.Connection], None]
"""What makes version n of version n - 1. A step runs once, in a transaction, and is never changed again."""


def create(connection: sqlite3.Connection, version: int = VERSION) -> None:
    """Make an empty file a jam database. The caller holds the write lock."""
    execute(connection, TABLES + VIEWS + OPEN_INTENTS)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")


def execute(connection: sqlite3.Connection, script: str) -> None:
    """Run statements one by one: `executescript` would commit the transaction they are to be part of."""
    for statement in script.split(";\n"):
        if statement.strip():
            connection.execute(statement)


def migrate(connection: sqlite3.Connection, version: int, steps: dict[int, Step]) -> None:
    """Bring a database from its version to `version`, forward only, each step in a transaction of its own."""
    for number in range(user_version(connection) + 1, version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have migrated while this one waited for the lock.
            if user_version(connection) < number:
                steps[number](connection)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def user_version(connection: sqlite3.Connection) -> int:
    """The version of the schema; 0 for a file that has none."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
