"""What to do with effects that were in flight when the process ended.

Intents without outcome are all that a crash can leave behind. For each:

* a read, a model call, a fact or a `confirm`: what it had reserved is settled in full, then it is made again;
* a write whose tool has `confirm`: that is asked first;
* a write with a declared key: again, with the same key and the same canonical arguments;
* any other write: in doubt, for `on in_doubt` or a person.

A free, unlimited read has no intent: it is simply made again under the same id. So is everything in a fork whose calls
are off: nothing was ever called there, and what was in flight where it was forked is answered by its recording.
"""

from __future__ import annotations

from jamjet_dsl.kernel.ids import action_id, base_of, frame_of
from jamjet_dsl.kernel.model import ENDED, Intent, Json, Record, RunState
from jamjet_dsl.kernel.program import WRITES, Program
from jamjet_dsl.kernel.records import reserve_body


def recover(program: Program, state: RunState, owner: str | None = None, since_ms: int | None = None) -> list[Record]:
    """The records to append, in order, when a process takes over a run: `resumed`, then one for every open intent.

    `since_ms` is when the process began to watch the run, which was at rest. Nothing for a run that has ended or has
    not begun."""
    if state.status in ENDED or not state.frames:
        return []
    taken: dict[str, Json] = {} if owner is None else {"owner": owner}
    if since_ms is not None:
        taken["since_ms"] = since_ms
    records = [Record("resumed", taken)]
    if state.origin is not None and not state.origin["live"]:
        return records
    intents = [state.intents[cmd] for cmd in sorted(state.intents)]
    records += [_recovered(program, intent) for intent in intents if _in_flight(state, intent)]
    return records


def _in_flight(state: RunState, intent: Intent) -> bool:
    frame = state.frames.get(frame_of(intent.cmd))
    return frame is not None and not intent.unsettled and base_of(intent.cmd) == action_id(frame)


def _recovered(program: Program, intent: Intent) -> Record:
    body = intent.body
    usage = reserve_body(intent.reserve)
    if body["effect"] not in WRITES or base_of(intent.cmd) != intent.cmd:
        return Record("recovered", {"cmd": intent.cmd, "how": "again", "usage": usage})
    if program.defn.tools[body["tool"]].confirm is not None:
        return Record("recovered", {"cmd": intent.cmd, "how": "confirm"})
    if body["key"] is not None:
        return Record("recovered", {"cmd": intent.cmd, "how": "key", "usage": usage})
    return Record("in_doubt", {"cmd": intent.cmd, "why": "the process ended before its outcome was known"})
