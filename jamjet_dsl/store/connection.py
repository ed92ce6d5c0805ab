"""Opening a run database, and saying in words what SQLite says in codes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.store import schema

Durability: TypeAlias = Literal["full", "normal"]
"""`full`: a commit is on the disk when it returns. `normal`: it survives the process, but a power cut may take
the last ones (never half of one)."""

_CODES: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: ("JAMR103", "another process holds the lock"),
    sqlite3.SQLITE_LOCKED: ("JAMR103", "another connection holds the lock"),
    sqlite3.SQLITE_READONLY: ("JAMR102", "it cannot be written"),
    sqlite3.SQLITE_PERM: ("JAMR102", "permission is refused"),
    sqlite3.SQLITE_NOTADB: ("JAMR105", "it is no SQLite database"),
    sqlite3.SQLITE_FULL: ("JAMR106", "the disk is full"),
    sqlite3.SQLITE_IOERR: ("JAMR106", "the disk failed to read or write"),
    sqlite3.SQLITE_CORRUPT: ("JAMR107", "the file is damaged"),
    sqlite3.SQLITE_CANTOPEN: ("JAMR101", "it cannot be opened"),
}


def refuse(error: sqlite3.Error, path: str) -> NoReturn:
    """Raise the coded error for what SQLite reported."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    name, what = _CODES.get(code, ("JAMR101", str(error)))
    raise JamError(name, f"{path}: {what}") from error


@contextmanager
def coded(path: str) -> Iterator[None]:
    """Everything SQLite raises inside becomes a JamError."""
    try:
        yield
    except sqlite3.Error as error:
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
            _prepare(connection, path, durability, read_only)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, durability: Durability, read_only: bool) -> None:
    version = _check(connection, path)
    if not read_only:
        # WAL lets readers read while a run is driven; it is a property of the file and stays.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {durability.upper()}")
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA foreign_keys = ON")
        if version == 0:
            _create(connection, path)
        elif version < schema.VERSION:
            schema.migrate(connection, schema.VERSION, schema.STEPS)


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version; 0 for a file without anything in it."""
    owner: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if owner != schema.APPLICATION_ID:
        if owner or version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise JamError("JAMR105", f"{path} is a database of something else")
        return 0
    if version > schema.VERSION:
        raise JamError("JAMR104", f"{path} has schema {version}; this version of jam knows {schema.VERSION}")
    return version


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
