"""Which question is meant, and how one that is closed was closed."""

from __future__ import annotations

from datetime import UTC, datetime

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.naming import shortened, stands_for
from jamjet_dsl.kernel.model import ENDED
from jamjet_dsl.ports import QuestionRow, RunSummary, Store


def find_question(store: Store, name: str) -> QuestionRow:
    """The question with this id, or the only open one of the run with this id. A whole id is worth more than the
    beginning of one: an answer must never reach a question that nobody meant.

    Raises JamError: JAMR401 for none, or where `name` is the beginning of an id that somebody chose; JAMR402 where they
    are closed, JAMR204 where the run has ended and nobody was asked or answered, JAMR202 where `name` may mean several.
    """
    found, run_id, several = None, "", None
    try:
        found = store.find_question(name)
    except JamError as error:
        if error.code not in ("JAMR401", "JAMR202"):
            raise
        several = error if error.code == "JAMR202" else None
    if found is not None and found.id == name:
        return found
    try:
        run_id = store.find(name)
    except JamError as error:
        if error.code not in ("JAMR201", "JAMR202"):
            raise
        several = several or (error if error.code == "JAMR202" else None)
    if run_id != name:
        if several is not None:
            raise several
        if found is not None and run_id not in ("", found.run_id):
            both = (f"the question {found.id}", f"the run {run_id}")
            raise JamError("JAMR202", f"a question and a run start with {name!r}", details=both)
        if found is not None:
            if not stands_for(name, found.id):
                raise shortened("JAMR401", "question or run", name, found.id)
            return found
        if run_id and not stands_for(name, run_id):
            raise shortened("JAMR401", "question or run", name, run_id)
    if not run_id:
        raise JamError("JAMR401", f"there is no question or run {name!r}")
    rows = store.questions(run_id)
    if len(rows) > 1:
        raise JamError("JAMR202", f"the run {run_id} has several open questions", details=tuple(r.id for r in rows))
    if not rows:
        known, row = store.questions(run_id, status=None), store.summary(run_id)
        if row.status in ENDED and not (known and known[-1].status == "answered"):
            raise over(row)
        if known:
            raise closed(known[-1])
        raise JamError("JAMR401", f"the run {run_id} has no open question")
    return rows[0]


def closed(row: QuestionRow) -> JamError:
    """What is said about a question that takes no answer any more."""
    how = {
        "answered": f"{row.by or 'somebody'} answered it: {row.option}",
        "expired": "nobody answered it in time",
        "open": "it is open",
    }.get(row.status, "the run went on without it")
    return JamError("JAMR402", f"the question {row.id} is closed: {how}")


def over(row: RunSummary) -> JamError:
    """What is said to whoever wants something of a run that has ended."""
    at = datetime.fromtimestamp(row.updated_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return JamError("JAMR204", f"the run {row.run_id} has ended ({row.status} at {at})")
