"""Opening a run database, and saying in words what SQLite says in codes."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.store import schema

Durability: TypeAlias = Literal["full", "normal"]
"""`full`: a commit is on the disk when it returns. `normal`: it survives the process, but a power cut may take
the last ones (never half of one)."""

CHECKPOINT_PAGES = 2_000
"""After so many pages in the log (8 MB) a commit moves them into the database: seldom enough that such a commit is not
among the slowest hundredth, often enough that opening after a crash reads little."""
CACHE_KIB = 16_000

_CODES: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: ("JAMR103", "another process holds the lock"),
    sqlite3.SQLITE_LOCKED: ("JAMR103", "another connection holds the lock"),
    sqlite3.SQLITE_READONLY: ("JAMR102", "it cannot be written"),
    sqlite3.SQLITE_PERM: ("JAMR102", "permission is refused"),
    sqlite3.SQLITE_NOTADB: ("JAMR105", "it is no SQLite database"),
    sqlite3.SQLITE_FULL: ("JAMR106", "the disk is full"),
    sqlite3.SQLITE_IOERR: ("JAMR106", "the disk failed to read or write"),
    sqlite3.SQLITE_CORRUPT: ("JAMR107", "the file is damaged"),
    sqlite3.SQLITE_CONSTRAINT: ("JAMR107", "the file is damaged: what stands there leaves no place for a row"),
    sqlite3.SQLITE_MISMATCH: ("JAMR107", "the file is damaged: a number is none"),
    sqlite3.SQLITE_CANTOPEN: ("JAMR101", "it cannot be opened"),
}


FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""What `sqlite3` raises. A damaged schema may be quoted in a message that is no text any more."""


def refuse(error: Exception, path: str) -> NoReturn:
    """Raise the coded error for what SQLite reported."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    name, what = _CODES.get(code, ("JAMR101", str(error)))
    unreadable = isinstance(error, UnicodeDecodeError) or "decode to UTF-8" in str(error)
    if unreadable or code == sqlite3.SQLITE_ERROR:
        # Our statements are right for our tables: where they do not fit, the file is not what we wrote.
        name, what = "JAMR107", f"the file is damaged: {error}"
    if code == sqlite3.SQLITE_CANTOPEN:
        what = f"{what}{_reason(path)}"
    raise JamError(name, f"{path}: {what}") from error


def _reason(path: str) -> str:
    """Why a database cannot be opened, in the words of the system: SQLite does not say."""
    try:
        with open(path, "r+b" if os.path.exists(path) else "xb"):
            pass
    except OSError as error:
        return f" ({error.strerror})"
    return ""


@contextmanager
def coded(path: str) -> Iterator[None]:
    """Everything SQLite raises inside becomes a JamError."""
    try:
        yield
    except FAILURES as error:
        refuse(error, path)


def connect(path: Path, durability: Durability, busy_ms: int, read_only: bool) -> sqlite3.Connection:
    """Open, and create or migrate where that is needed.

    Raises JamError: JAMR101 (cannot be opened), 102 (read-only), 103 (locked), 104 (newer), 105 (not ours).
    """
    if path.is_dir():
        raise JamError("JAMR101", f"{path} is a folder, not a database")
    if read_only and not path.exists():
        raise JamError("JAMR101", f"{path} does not exist", "start a run first, or name another with --db")
    if not path.parent.is_dir():
        raise JamError("JAMR101", f"{path}: its folder does not exist", "create the folder, or name another with --db")
    with coded(str(path)):
        uri = path.resolve().as_uri() + ("?mode=ro" if read_only else "")
        if read_only and not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists():
            # Nobody can be writing: SQLite needs no lock files, which it could not create here.
            uri += "&immutable=1"
        connection = sqlite3.connect(uri, busy_ms / 1000, 0, None, check_same_thread=False, uri=True)
        try:
            _prepare(connection, path, durability, busy_ms, read_only)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, durability: Durability, busy_ms: int, read_only: bool) -> None:
    connection.execute("BEGIN")
    try:
        version = _check(connection, path)  # of one moment, though another process may be creating it
    finally:
        connection.execute("ROLLBACK")
    # docs/database.md explains these. There is no `mmap_size` on purpose: a file that shrinks under a memory map kills
    # the process instead of giving an error.
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute("PRAGMA cell_size_check = ON")
    if read_only:
        if 0 < version < schema.VERSION:
            connect(path, durability, 5_000, read_only=False).close()
        return
    _use_wal(connection, busy_ms)
    connection.execute(f"PRAGMA synchronous = {durability.upper()}")
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    if version == 0:
        _create(connection, path)
    elif version < schema.VERSION:
        from jamjet_dsl.store.steps import STEPS

        schema.migrate(connection, schema.VERSION, STEPS)
    connection.execute("PRAGMA foreign_keys = ON")


def _use_wal(connection: sqlite3.Connection, busy_ms: int) -> None:
    """WAL lets readers read while a run is driven; it is a property of the file and stays. On a new file SQLite does
    not wait for another process that is just creating it, so that is done here."""
    for left in range(busy_ms // _PAUSE_MS, -1, -1):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not left or error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            time.sleep(_PAUSE_MS / 1000)


_PAUSE_MS = 20


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version; 0 for a file without anything in it."""
    owner: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if owner != schema.APPLICATION_ID:
        if owner or version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise JamError("JAMR105", f"{path} is a database of something else")
        return 0
    check_version(connection, path)
    return version


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raises JamError JAMR104 for a database that a newer version has written, or has brought forward meanwhile."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > schema.VERSION:
        raise JamError("JAMR104", f"{path} has schema {version}; this version of jam knows {schema.VERSION}")


def _create(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have created it while this one waited for the lock.
        if _check(connection, path) == 0:
            schema.create(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
