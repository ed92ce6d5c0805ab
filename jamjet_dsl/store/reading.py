"""Reading a journal: in order, a page at a time, and nothing that is not under its hash."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import Event
from jamjet_dsl.store.chain import GENESIS, decode, event_hash

if TYPE_CHECKING:
    from jamjet_dsl.store.access import Access

_PAGE = 500
"""Events read at once: a long history never holds a read transaction open for long."""
_EVENTS = f"SELECT seq, at_ms, kind, body, hash FROM events WHERE run = ? AND seq > ? ORDER BY seq LIMIT {_PAGE}"
_ANCHOR = "SELECT seq, hash FROM events WHERE run = ? AND seq <= ? AND hash IS NOT NULL ORDER BY seq DESC LIMIT 1"


def events_of(access: Access, run_id: str, after: int) -> Iterator[Event]:
    """The events after `after`. What was written under a hash is read under it: a changed event is never given.

    Only the last event of each append has its hash stored. The others are held back until that one has been reached.
    Raises JamError JAMR201, JAMR107.
    """
    row = access.row("SELECT run, last_seq, head FROM runs WHERE run_id = ?", run_id)
    if row is None:
        raise JamError("JAMR201", f"there is no run {run_id}")
    run, last_seq, head = row
    if type(last_seq) is not int or type(head) is not bytes:
        raise _changed(run_id, 0)
    seq, prev = _anchor(access, run, after)
    held: list[Event] = []
    while True:
        found = access.rows(_EVENTS, run, seq)
        for number, at_ms, kind, body, stored in found:
            if number != seq + 1 or type(body) is not bytes:
                raise _changed(run_id, seq + 1)
            own = event_hash(run_id, number, at_ms, kind, body, prev)
            held.append(Event(run_id, number, at_ms, kind, decode(body, run_id), prev, own))
            seq, prev = number, own
            if stored is None and seq != last_seq:
                continue
            # The head of a run counts even if what the event itself carries was taken away. Compared as bytes: damage
            # may have made something else of either.
            link = bytes.fromhex(own)
            if (stored is not None and stored != link) or (seq == last_seq and head != link):
                raise _changed(run_id, seq)
            yield from (event for event in held if event.seq > after)
            held.clear()
        if len(found) < _PAGE:
            break
    if held or seq < last_seq:
        if access.row("SELECT 1 FROM runs WHERE run_id = ?", run_id) is None:
            raise JamError("JAMR201", f"the run {run_id} was pruned")
        message = f"the journal of {run_id} ends at event {seq} of {last_seq}: events are missing"
        raise JamError("JAMR107", message)


def _anchor(access: Access, run: int, after: int) -> tuple[int, str]:
    """The last event up to `after` whose hash is stored: the chain is followed from there."""
    row = access.row(_ANCHOR, run, after) if after > 0 else None
    if row is None or type(row[1]) is not bytes:
        return 0, GENESIS
    return int(row[0]), row[1].hex()


def _changed(run_id: str, seq: int) -> JamError:
    return JamError("JAMR107", f"the journal of {run_id} was changed or damaged at event {seq}")


class Row(NamedTuple):
    """An event as it lies in the database, unchecked: damage may have made anything of any field."""

    seq: Any
    at_ms: Any
    kind: Any
    body: Any
    hash: Any
    """32 bytes in the last event of each append, None in those before it."""


class Rows(NamedTuple):
    """A run's journal as it lies in the database, unchecked. What is appended meanwhile is left out."""

    last_seq: Any
    head: Any
    number: int
    """How many events there are."""
    first: Any
    """The least number of an event, None without any."""
    last: Any
    """The greatest one."""
    events: Iterator[Row]


def rows_of(access: Access, run_id: str) -> Rows:
    """The rows of a run and what its own row says of them, for those who check the journal themselves. Raises JamError
    JAMR201."""
    found = access.row(
        "SELECT r.run, r.last_seq, r.head, count(e.seq), min(e.seq), max(e.seq) FROM runs r"
        " LEFT JOIN events e USING (run) WHERE r.run_id = ? GROUP BY r.run",
        run_id,
    )
    if found is None:
        raise JamError("JAMR201", f"there is no run {run_id}")
    run, last_seq, head, number, first, last = found
    return Rows(last_seq, head, number, first, last, _raw(access, run, last))


def _raw(access: Access, run: int, last: Any) -> Iterator[Row]:
    sql = f"SELECT seq, at_ms, kind, body, hash FROM events WHERE run = ? AND seq > ? ORDER BY seq LIMIT {_PAGE}"
    seq: Any = 0
    while type(seq) is int:
        found = access.rows(sql, run, seq)
        for row in found:
            if type(last) is int and type(row[0]) is int and row[0] > last:
                return
            yield Row(*row)
        if len(found) < _PAGE:
            return
        seq = found[-1][0]
