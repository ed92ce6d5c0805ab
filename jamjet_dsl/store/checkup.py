"""Looking at a whole database, and writing anew what can be had from the journals."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import Event
from jamjet_dsl.ports import KeyConflict, KeyUse, Standing
from jamjet_dsl.store import limits, rows
from jamjet_dsl.store.chain import key_use
from jamjet_dsl.store.checks import row_sum
from jamjet_dsl.store.reading import events_of

if TYPE_CHECKING:
    from jamjet_dsl.store.access import Access

_ORPHANS = ("events", "snapshots", "inbox", "dedupe", "questions", "erasable")


def problems(access: Access) -> Iterator[str]:
    """One sentence for everything that is wrong. Holds no transaction open for long; runs that are worked on meanwhile
    are read as they are."""
    try:
        found = access.rows("PRAGMA integrity_check(20)")
        yield from (f"the file is damaged: {row[0]}" for row in found if row[0] != "ok")
        names = [row[0] for row in access.rows("SELECT run_id FROM runs ORDER BY run")]
        (count,) = access.rows(
            "SELECT count(*) FROM runs WHERE owner IS NOT NULL AND owner NOT IN (SELECT owner FROM owners)"
        )[0]
        if count:
            yield f"{count} runs are driven by nobody who is known"
        for table in _ORPHANS:
            (count,) = access.rows(f"SELECT count(*) FROM {table} WHERE run > 0 AND run NOT IN (SELECT run FROM runs)")[
                0
            ]
            if count:
                yield f"{count} rows of {table} belong to no run"
    except JamError as error:
        yield error.message
        return
    for run_id in names:
        yield from of_run(access, run_id)


def _key_in(event: Event) -> KeyUse | None:
    """The key that an intent promises something about. A key with a hidden value in it is kept under a keyed hash,
    which cannot be had from the journal: whether that row is there cannot be said here."""
    use = key_use(event)
    return None if use is None or "‹redacted " in use.key else use


def of_run(access: Access, run_id: str) -> Iterator[str]:
    """What is wrong with one run. One that was pruned meanwhile has nothing."""
    try:
        yield from _of_run(access, run_id)
    except JamError as error:
        if error.code != "JAMR201":
            yield error.message


def _of_run(access: Access, run_id: str) -> Iterator[str]:
    last, counted, off = 0, None, False
    asked: list[str] = []
    for event in events_of(access, run_id, 0):
        last = event.seq
        off = off or (event.kind == "forked" and not event.body["origin"]["live"])
        begun = event.kind == "intent" and event.body["cmd"] == counted and not off
        if begun and access.row(COUNTED, run_id, counted) is None:
            yield f"the call {counted} of {run_id} is not counted under its limits any more"
        if event.kind == "asked":
            asked.append(event.body["question"])
        counted = event.body["cmd"] if event.kind == "counted" else None
        use = _key_in(event)
        # The arguments of an intent may be hidden: only whether the key is bound at all can be seen for every run.
        if use is not None and rows.key_digest(access.row(rows.KEY, use.tool, use.key)) is None:
            yield f"the key {use.key!r} of {run_id} is not bound any more"
    row = access.row(
        "SELECT last_seq, mail, (SELECT count(*) FROM inbox i WHERE i.run = r.run) FROM runs r WHERE run_id = ?",
        run_id,
    )
    if row is None:
        return
    last_seq, mail, messages = row
    if last > last_seq:
        yield f"the journal of {run_id} goes on after its last event: events were added"
    if mail != messages:
        yield f"the inbox of {run_id} has {messages} messages instead of {mail}"
    there = {
        row[0] for row in access.rows("SELECT id FROM questions q JOIN runs r USING (run) WHERE run_id = ?", run_id)
    }
    yield from (f"the question {name} of {run_id} is not there any more" for name in asked if name not in there)
    yield from _sums(access, run_id)


SHARED = f"SELECT {limits.COLUMNS} FROM shared WHERE run = ?"
COUNTED = "SELECT 1 FROM shared WHERE run = (SELECT run FROM runs WHERE run_id = ?) AND cmd = ?"


def _sums(access: Access, run_id: str) -> Iterator[str]:
    with access.reading() as db:
        head = rows.read_head(db, run_id)
        for row in db.execute(f"{rows.QUESTION} WHERE q.run = ?", (head.place.run,)):
            if type(row[11]) is not bytes or rows.question_sum((row[0], *row[2:11]), row[13], row[11]) != row[12]:
                yield f"the question {row[0]} of {run_id} was changed or damaged"
        for *row, total in db.execute(SHARED, (head.place.run,)):
            if row_sum(*row) != total:
                yield f"what {run_id} has used of a limit was changed or damaged"
        for table, columns in {"inbox": "run, at_ms, kind, body", "dedupe": "run, key, at_ms, body"}.items():
            for *row, total in db.execute(f"SELECT {columns}, sum FROM {table} WHERE run = ?", (head.place.run,)):
                if row_sum(*row) != total:
                    yield f"a message of {run_id} was changed or damaged"


def rewrite(db: sqlite3.Connection, run: int, events: list[Event], standing: Standing) -> None:
    """Write a run's caches anew from its journal; `standing` is the fold of it."""
    first, last = events[0], events[-1]
    source = first.body["source"]
    for event in events:
        if event.kind == "migrated":
            source = event.body["to"]["source"]
    db.execute("DELETE FROM questions WHERE run = ?", (run,))
    db.execute("DELETE FROM snapshots WHERE run = ?", (run,))
    run_id, token = db.execute("SELECT run_id, token FROM runs WHERE run = ?", (run,)).fetchone()
    stands = rows.Stands.of(standing)
    program = rows.program_of(db, source)
    place = rows.Place.of(run, run_id, first.body["agent"], first.body.get("parent"), first.at_ms, program)
    head = rows.Head(place, token, last.seq, last.hash, stands, last.at_ms, frozenset())
    own = (last.seq, bytes.fromhex(last.hash), program, place.agent, place.parent)
    db.execute(
        "UPDATE runs SET last_seq = ?, head = ?, program = ?, agent = ?, parent = ?, status = ?, state = ?,"
        " waiting_for = ?, spent = ?, wake_at_ms = ?, created_ms = ?, updated_ms = ?, sum = ?,"
        " mail = (SELECT count(*) FROM inbox i WHERE i.run = runs.run),"
        " owner = (SELECT owner FROM owners o WHERE o.owner = runs.owner) WHERE run = ?",
        (*own, *stands, first.at_ms, last.at_ms, head.sum, run),
    )
    rows.write_questions(db, run, [(e.seq, e.at_ms, e.kind, e.body) for e in events], standing)
    for event in events:
        use = _key_in(event)
        if use is not None:
            try:
                rows.bind_key(db, use, run)
            except KeyConflict:
                # Of arguments that are hidden the digest cannot be had from the journal: what is bound stays bound.
                continue
