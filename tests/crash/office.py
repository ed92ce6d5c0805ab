"""A folder with a program, its database and its ledger; and the operator, who looks where a run stands and makes the
next move, whatever has happened before."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jamjet_dsl import JamError
from jamjet_dsl.kernel.ids import trace_key
from jamjet_dsl.kernel.model import ENDED, Event
from jamjet_dsl.store.sqlite import SqliteStore
from tests.crash.programs import Program
from tests.crash.tracing import attach
from tests.crash.zygote import Exit, Zygote, until

RUN = "r"
DATABASE = "jam.db"
FORK = "f"
LEDGER = "ledger"
MOST_MOVES = 40

FINE = (0, 3, 4)
"""The exit codes of a run that ended well, one that failed, one that waits."""


class Wrong(Exception):
    """Something that must not be. The text says what."""


@dataclass
class Seen:
    """Where a run stands, read from its database, what its tools have done, and where its fork stands."""

    status: str = ""
    waiting_for: tuple[dict[str, Any], ...] = ()
    events: list[Event] = field(default_factory=list)
    pending: int = 0
    ledger: list[dict[str, Any]] = field(default_factory=list)
    run_id: str = RUN
    fork: Seen | None = None


class Office:
    """See the module."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self.folder = folder

    def set_up(self) -> None:
        """As it is before anything ran."""
        shutil.copytree(self.program.folder, self.folder, ignore=shutil.ignore_patterns("__pycache__", "*.db*"))
        if not self.program.fresh:
            SqliteStore(self.folder / DATABASE).close()

    def become(self, prepared: Path) -> None:
        """As another office was."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(prepared, self.folder)

    def seen(self) -> Seen:
        """Where the run stands. What was committed is looked at in a copy: looking must not mend anything.

        Raises Wrong for a database that cannot be opened or does not fit its hashes.
        """
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as place:
            for suffix in ("", "-wal", "-journal"):
                path = self.folder / (DATABASE + suffix)
                if path.exists():
                    shutil.copy(path, place)
            if not (Path(place) / DATABASE).exists():
                return Seen(ledger=self.ledger())
            try:
                return self._read(Path(place) / DATABASE)
            except (JamError, sqlite3.Error) as error:
                raise Wrong(f"the database cannot be read: {error}") from error

    def _read(self, path: Path) -> Seen:
        store = SqliteStore(path)
        try:
            fork = self._run(store, FORK)
            seen = self._run(store, RUN)
            return replace(seen, fork=fork if fork.status else None)
        finally:
            store.close()

    def _rests(self) -> bool:
        """Whether the run is at rest, while somebody else may be driving it: what is written cannot be copied."""
        try:
            store = SqliteStore(self.folder / DATABASE, read_only=True)
            try:
                return at_rest(self._run(store, RUN))
            finally:
                store.close()
        except JamError:
            return False

    def _run(self, store: SqliteStore, run_id: str) -> Seen:
        if run_id not in {summary.run_id for summary in store.summaries()}:
            return Seen(ledger=self.ledger(), run_id=run_id)
        store.verify(run_id)
        # In this order: a message that is gone has left its mark in what is read after it.
        pending = len(store.pending(run_id))
        summary = store.summary(run_id)
        return Seen(summary.status, summary.waiting_for, list(store.history(run_id)), pending, self.ledger(), run_id)

    def ledger(self) -> list[dict[str, Any]]:
        """What the tools have written, in order. The loan's bank keeps its own book."""
        if (self.folder / "ledger.db").exists():
            with closing(sqlite3.connect(self.folder / "ledger.db")) as db:
                tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
                paid = db.execute("SELECT * FROM payments").fetchall() if "payments" in tables else []
            return [{"what": "did", "tool": "disburse", "key": RUN, "args": list(map(str, row))[1:]} for row in paid]
        path = self.folder / LEDGER
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    # ---- the operator

    def next_move(self, seen: Seen) -> list[str] | None:
        """What an operator does for the run as it stands; None if it has ended, and its fork too."""
        return self._travel(seen) or self._move(seen)

    def _travel(self, seen: Seen) -> list[str] | None:
        states = [item.get("state") for item in seen.waiting_for]
        match self.program.travel:
            case "migrate" if "choose" in states and all(event.kind != "migrated" for event in seen.events):
                return ["migrate", RUN, "--to", "people2.jam"]
            case "prune" if seen.status in ENDED:
                return ["prune", "--keep", "0"]
            case "fork" if seen.fork is not None:
                return self._move(seen.fork)
            case "fork" if seen.status in ENDED:
                first = next(event.seq for event in seen.events if event.kind == "succeeded")
                return ["fork", RUN, "--at", str(first), "--id", FORK]
        return None

    def _move(self, seen: Seen) -> list[str] | None:
        if not seen.status and self.program.travel == "prune" and seen.ledger:
            return None
        if not seen.status:
            given = ["--input", self.program.input] if self.program.input else []
            detach = ["--detach"] if self.program.worker else []
            return ["run", self._named(), *given, "--id", RUN, "--as", "ann", "--if-exists", "attach", *detach]
        if seen.status in ENDED:
            return None
        if not seen.pending:
            for item in seen.waiting_for:
                move = self._for(item, seen)
                if move is not None:
                    return move
        return ["worker"] if self.program.worker else ["resume", seen.run_id]

    def _named(self) -> str:
        return self.program.file + (f":{self.program.agent}" if self.program.agent else "")

    def _for(self, item: dict[str, Any], seen: Seen) -> list[str] | None:
        if item["kind"] == "operator":
            return self._unpark(seen)
        name = item.get("state") if item["kind"] == "question" else item.get("name")
        move = self.program.moves.get(str(name)) if item["kind"] in ("question", "event") else None
        if move is None:
            return None
        number = sum(event.kind == "received" for event in seen.events)
        return [{"RUN": seen.run_id, "NUMBER": f"k{number}"}.get(word, word) for word in move]

    def _unpark(self, seen: Seen) -> list[str]:
        """Settle what is in doubt by what the ledger says; else try again."""
        doubted = doubts(seen.events)
        if not doubted:
            return ["retry", seen.run_id, "--by", "ann"]
        command, intent = doubted[0]
        keys = (intent.get("key"), trace_key(seen.run_id, intent["cmd"]))
        done = [line for line in seen.ledger if line["what"] == "did" and line["tool"] == intent["tool"]]
        made = [line for line in done if line["key"] in keys]
        say = ["--happened", json.dumps(made[0]["result"])] if made else ["--did-not-happen"]
        return ["settle", seen.run_id, *say, "--call", command, "--by", "ann", "--note", "looked into the ledger"]

    def go_on(self, zygote: Zygote, how: str = "move", each: Callable[[list[str]], None] | None = None) -> int:
        """Do what an operator does until the run has ended. `how` is the first move: `resume`, `all`, `worker`, or
        just what the run waits for. Gives how many moves it took. Raises Wrong if it does not end, or a command fails
        in a way that it should not."""
        seen = self.seen()
        if seen.status and seen.status not in ENDED and how != "move":
            self._well(zygote, {"worker": ["worker"], "all": ["resume", "--all"]}.get(how, ["resume", RUN]))
            seen = self.seen()
        for count in range(MOST_MOVES):
            move = self.next_move(seen)
            if move is None:
                return count
            if each is not None:
                each(move)
            self._well(zygote, move)
            seen = self.seen()
        raise Wrong(f"the run is {seen.status} after {MOST_MOVES} moves: {seen.waiting_for}")

    def _well(self, zygote: Zygote, move: list[str]) -> None:
        """Perform a move that has to succeed."""
        done = self.perform(zygote, move)
        check(done, move)
        if done.code not in FINE:
            raise Wrong(f"jam {' '.join(move)} ended with {done.code}: {done.err.strip()[-500:]}")
        if move == ["worker"] and not at_rest(self.seen()):
            raise Wrong("a worker did not bring the run to rest")

    def perform(self, zygote: Zygote, move: list[str], strace: list[str] | None = None, patience: float = 30.0) -> Exit:
        """Run a command to its end. A worker has none: it is stopped as a supervisor stops it, when it has brought
        the run to rest, and after `patience` seconds in any case."""
        pid = zygote.start(["--db", DATABASE, *move], self.folder)
        tracer = None
        if strace is None:
            zygote.go(pid)
        else:
            tracer = attach(zygote, pid, strace)
        if move == ["worker"]:
            until(lambda: _listens(pid) or gone(pid), patience)
            until(lambda: gone(pid) or self._rests(), patience)
            os.kill(pid, signal.SIGTERM)
        done = zygote.wait(pid)
        if tracer is not None:
            tracer.communicate()
        return done


def at_rest(seen: Seen) -> bool:
    """Whether nothing happens to the run any more unless somebody outside makes a move."""
    timed = any(item["kind"] == "timer" for item in seen.waiting_for)
    return seen.status in ENDED or (bool(seen.status) and seen.status != "running" and not seen.pending and not timed)


def gone(pid: int) -> bool:
    """Whether a process of the zygote has ended; it is there until it is waited for."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"


def _listens(pid: int) -> bool:
    """Whether a process would notice that it is to end: its handler of SIGTERM is in place."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def doubts(events: list[Event]) -> list[tuple[str, dict[str, Any]]]:
    """The calls that are in doubt now, oldest first: by what they are settled under, and the intent of each.

    A rollback asks again about a doubt that it finds, under a name of its own.
    """
    intents: dict[str, dict[str, Any]] = {}
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        # All attempts at an action make the same call.
        command = str(event.body.get("cmd"))
        action = command.rpartition(".")[0]
        if event.kind == "intent":
            intents[action] = event.body
        elif event.kind == "begun" and event.body.get("doubt"):
            asked = str(event.body["doubt"])
            intents[f"{event.body['frame']}#1"] = intents[asked.rpartition(".")[0]]
            found.pop(asked, None)
        elif event.kind == "in_doubt" and action in intents:
            found[command] = intents[action]
        elif event.kind in ("settled", "succeeded", "failed", "recovered"):
            found.pop(command, None)
    return list(found.items())


def check(done: Exit, move: list[str]) -> None:
    """However a command ends: it ends, without a traceback, and what it refuses has a code of its own.

    Raises Wrong.
    """
    words = f"jam {' '.join(move)}"
    if done.code is None:
        raise Wrong(f"{words} hangs; it had printed: {done.err.strip()[-300:]}")
    if "Traceback" in done.err or "Traceback" in done.out:
        raise Wrong(f"{words} ended with a traceback: {done.err.strip()[-800:]}")
    if "JAMR901" in done.err:
        raise Wrong(f"{words} ended with a bug: {done.err.strip()[-500:]}")
    if done.code not in FINE and done.code >= 0 and "error[JAMR" not in done.err:
        raise Wrong(f"{words} ended with {done.code} and without a code: {done.err.strip()[-500:]}")


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Another process holds the write lock of the database, unless somebody else holds it already. The lock is given
    up at the end of the block, or sooner by `rollback`."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
        with suppress(sqlite3.OperationalError):
            db.execute("BEGIN IMMEDIATE")
        yield db
        if db.in_transaction:
            db.execute("ROLLBACK")


@contextmanager
def read_only(office: Office, what: str) -> Iterator[None]:
    """The database's files or their folder cannot be written."""
    paths = [office.folder, *office.folder.iterdir()]
    modes = {path: path.stat().st_mode for path in paths}
    try:
        for path in paths:
            if what == "folder" or path.name.startswith(DATABASE):
                path.chmod(modes[path] & ~0o222)
        yield
    finally:
        for path in paths:
            if path.exists():
                path.chmod(modes[path])
