"""What must hold when the campaign is over, read from the database, the ledger and the notes of the workers."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from jamjet_dsl import JamError
from jamjet_dsl.kernel.model import Event
from jamjet_dsl.store.sqlite import SqliteStore

AUDIT = """
CREATE TABLE audit (run_id TEXT NOT NULL, seq INTEGER NOT NULL, token INTEGER NOT NULL, PRIMARY KEY (run_id, seq));
CREATE TRIGGER audit_events AFTER INSERT ON events BEGIN
  INSERT INTO audit SELECT run_id, new.seq, token FROM runs WHERE run = new.run;
END;
"""
"""In the transaction of each event: the token that was valid then. An append under another one was stale."""


def begin_audit(database: Path) -> None:
    """From now on every event is written down with the token that was valid."""
    with closing(sqlite3.connect(database)) as db:
        db.executescript(AUDIT)


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file that processes may have been killed over."""
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def problems(database: Path, ledger: Path, notes: list[Path]) -> tuple[list[str], Counter[str]]:
    """What must not be, one sentence each, and the figures of the campaign."""
    found: list[str] = []
    figures: Counter[str] = Counter()
    store = SqliteStore(database)
    try:
        for summary in store.summaries():
            figures["runs"] += 1
            figures[summary.status] += 1
            found += _run(store, summary.run_id, figures)
    finally:
        store.close()
    found += _appends(database, notes, figures)
    found += _effects(ledger, figures)
    return found, figures


def _run(store: SqliteStore, run_id: str, figures: Counter[str]) -> Iterator[str]:
    try:
        store.verify(run_id)
        events: list[Event] = list(store.history(run_id))
    except JamError as error:
        yield f"{run_id}: {error}"
        return
    figures["events"] += len(events)
    kinds = Counter(event.kind for event in events)
    figures["taken over"] += kinds["recovered"] + kinds["in_doubt"]
    figures["late"] += kinds["late"]
    if kinds["finished"] != 1 or events[-1].kind != "finished" or events[-1].body["status"] != "completed":
        yield f"{run_id}: it was not completed once: {dict(kinds)}"
    if kinds["fired"] != 1:
        yield f"{run_id}: its timer fired {kinds['fired']} times"
    left = [event.body["state"] for event in events if event.kind == "moved"]
    if len(left) != len(set(left)):
        yield f"{run_id}: a completed step was repeated: {left}"
    outcomes = Counter(event.body["cmd"] for event in events if event.kind in ("succeeded", "failed"))
    if any(count > 1 for count in outcomes.values()):
        yield f"{run_id}: two outcomes of one attempt: {outcomes}"
    figures["in doubt"] += events[-1].body["state"] == "unsure"


def _appends(database: Path, notes: list[Path], figures: Counter[str]) -> Iterator[str]:
    """No append was made under a token that was not valid then."""
    with closing(sqlite3.connect(database)) as db:
        valid = {(run, seq): token for run, seq, token in db.execute("SELECT run_id, seq, token FROM audit")}
    for path in notes:
        for line in lines(path):
            if "refused" in line:
                figures[f"appends refused ({line['refused']})"] += 1
                continue
            figures["appends"] += 1
            for seq in range(line["after"] + 1, line["after"] + 1 + line["events"]):
                if valid.get((line["run"], seq)) != line["token"]:
                    figures["stale appends"] += 1
                    yield f"{line['run']}: event {seq} was appended under the stale token {line['token']}"


def _effects(ledger: Path, figures: Counter[str]) -> Iterator[str]:
    """Keyed effects: each once at the ledger, which knows a repeated key when it sees it. Others: at most once."""
    made: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines(ledger):
        made[line["run"], line["tool"]].append(line)
    figures["effects"] = len(made)
    for (run, tool), calls in made.items():
        if tool == "note":
            if len(calls) > 1:
                yield f"{run}: a write without a key was made {len(calls)} times"
            continue
        figures["repeated under one key"] += len(calls) - 1
        if len({(call["key"], call["order"], call.get("amount")) for call in calls}) != 1:
            yield f"{run}: {tool} was made under several keys or with other arguments"
    for tool in ("charge", "ship"):
        count = sum(1 for _, name in made if name == tool)
        figures[f"{tool} made"] = count
        if count != figures["runs"]:
            yield f"{tool} was made for {count} of {figures['runs']} runs"
