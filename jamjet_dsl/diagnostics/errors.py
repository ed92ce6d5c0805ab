"""Errors that are not findings in a program: a file that cannot be read, a database that is locked, a run
that does not exist. Each has a code of the `JAMR` table, says what happened and what to do, and is the only
exception that commands and the Python API let through to a user."""

from __future__ import annotations

from typing import Any, NamedTuple


class ErrorCode(NamedTuple):
    """A row of the table of run-time errors. `help` is what to do when a raise gives nothing better."""

    id: str
    slug: str
    title: str
    help: str


_ROWS: tuple[tuple[str, str, str, str], ...] = (
    ("JAMR001", "file-unreadable", "the file cannot be read", "check the path and its permissions"),
    ("JAMR002", "not-utf8", "the file is not UTF-8 text", "save the file as UTF-8"),
    ("JAMR003", "too-large", "the input is larger than the limit", "split it, or pass a smaller one"),
    ("JAMR004", "program-refused", "the program has errors", "run `jam check` on it and fix what it names"),
    ("JAMR005", "no-such-agent", "the file has no such agent", "name one of its agents as FILE:AGENT"),
    ("JAMR006", "usage", "the command cannot be carried out like this", "see `jam --help`"),
    ("JAMR101", "db-unusable", "the database cannot be opened", "name another with --db"),
    ("JAMR102", "db-read-only", "the database is read-only", "make the file and its folder writable"),
    ("JAMR103", "db-locked", "the database is locked by another process", "wait for the other process, or stop it"),
    ("JAMR104", "db-newer", "the database was written by a newer version", "upgrade jamjet-dsl"),
    ("JAMR105", "db-foreign", "the file is not a jam database", "name another file with --db"),
    ("JAMR106", "db-full", "the disk is full or failed", "free some space; nothing committed was lost"),
    ("JAMR107", "journal-corrupt", "the journal does not match its hashes", "restore the database from a backup"),
    ("JAMR108", "not-as-signed", "the database is not what was signed", "restore the database from a backup"),
    ("JAMR109", "heads-unusable", "the file of signed heads is damaged or cannot be used", "see docs/audit.md"),
    ("JAMR110", "key-unusable", "the key of the audit cannot be used", "`jam audit keygen -o FILE` makes one"),
    ("JAMR201", "no-such-run", "there is no such run", "`jam runs` lists them"),
    ("JAMR202", "ambiguous-id", "more than one run or question starts like this", "give more characters of the id"),
    ("JAMR203", "run-exists", "a run with this id exists already", "use another id, or --if-exists attach"),
    ("JAMR204", "run-ended", "the run has ended", "start a new one"),
    ("JAMR205", "run-busy", "the run is being driven by another process", "wait for it, or stop that process"),
    ("JAMR206", "lease-lost", "the run was taken over by another process", "nothing was lost; it goes on there"),
    (
        "JAMR207",
        "run-id-invalid",
        "this cannot be the id of a run",
        "use 1 to 128 characters without spaces or slashes, the first no `-`",
    ),
    (
        "JAMR208",
        "question-exists",
        "an id of a question was used before",
        "nothing was written; give the engine a source of chance that does not repeat itself",
    ),
    ("JAMR301", "input-invalid", "the input does not fit the agent", "give what `input` declares"),
    ("JAMR302", "result-invalid", "a result does not fit its declared type", "fix the tool, or its declaration"),
    ("JAMR303", "binding-missing", "tools or models have no implementation", "bind them with `via` or in the Engine"),
    ("JAMR304", "tool-import", "a tool's module cannot be imported", "fix the module that is named"),
    ("JAMR306", "secret-without-key", "a secret needs a key", "set JAM_KEY or JAM_KEY_FILE in the environment"),
    ("JAMR307", "wrong-key", "the key is none, or not the one that was used", "give the key that was used as well"),
    ("JAMR401", "no-such-question", "there is no such open question", "`jam inbox` lists the open ones"),
    ("JAMR402", "question-closed", "the question is no longer open", "`jam history` shows how it was answered"),
    ("JAMR403", "no-such-option", "the question does not offer this option", "use one of those it offers"),
    ("JAMR404", "answer-invalid", "the form does not fit the question", "give what `answer` declares"),
    ("JAMR405", "no-such-event", "the agent does not take this event", "use one that it declares"),
    ("JAMR406", "event-invalid", "the payload does not fit the event", "give what `event` declares"),
    ("JAMR407", "nothing-to-settle", "the run is not in doubt", "`jam show` says where it stands"),
    ("JAMR408", "nothing-to-retry", "the run is not parked", "`jam show` says where it stands"),
    ("JAMR409", "not-allowed-to-answer", "this person may not answer the question", "ask somebody with the role"),
    ("JAMR410", "would-repeat", "the fork would make calls again", "look without --live, or say --allow-repeat"),
    ("JAMR411", "no-such-event", "the run has no such event", "`jam history` numbers them"),
    ("JAMR412", "not-migratable", "the run cannot be moved to this program", "`jam migrate --dry-run` says why"),
    ("JAMR413", "value-erased", "a value that is needed was erased", "start a new run, or fork one before it"),
    ("JAMR414", "not-erasable", "values of a run that goes on are not erased", "`jam cancel` it first"),
    (
        "JAMR501",
        "expression-too-large",
        "the expression is larger than the limit",
        "split it with a `fn` or a variable",
    ),
    (
        "JAMR502",
        "evaluation-limit",
        "the evaluation needs more steps than the limit",
        "bound the lists it goes through",
    ),
    ("JAMR503", "evaluation-failed", "the expression failed", "guard against the case that is named"),
    ("JAMR901", "internal", "a bug in jam", "report it with the output of --debug"),
)

ERRORS: dict[str, ErrorCode] = {row[0]: ErrorCode(*row) for row in _ROWS}


class JamError(Exception):
    """A failure with a code. `message` says what happened to what; `help` what to do; `details` lists all
    problems at once where there are several (`path: problem`)."""

    def __init__(self, code: str, message: str, help: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.help = help or ERRORS[code].help
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        """As it crosses from one process to another; what a subclass holds beside this stays behind."""
        return JamError, (self.code, self.message, self.help, self.details)

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.message}", *(f"  {d}" for d in self.details), f"help: {self.help}"]
        return "\n".join(lines)
