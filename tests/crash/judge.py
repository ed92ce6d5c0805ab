"""What must hold of a run that was struck, beside the one that was let alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, NamedTuple

from jamjet_dsl.kernel.ids import trace_key
from jamjet_dsl.kernel.model import Event
from tests.crash.office import Seen, Wrong
from tests.crash.programs import Program

Way = dict[str, list[tuple[Any, Any, Any]]]


class Verdict(NamedTuple):
    """What one point cost: calls made again under a key, transitions lost or made twice."""

    repeated: int = 0
    lost: int = 0
    duplicated: int = 0
    problem: str = ""


def way(events: list[Event]) -> Way:
    """The transitions of each frame, in order."""
    found: Way = {}
    for event in events:
        if event.kind == "moved":
            body = event.body
            found.setdefault(body.get("frame", ""), []).append((body["state"], body["edge"], body["to"]))
    return found


def end(events: list[Event]) -> dict[str, Any] | None:
    """How the run ended."""
    last = events[-1] if events else None
    if last is None or last.kind != "finished":
        return None
    # The name of a hidden value is drawn for each run.
    ended = {name: last.body.get(name) for name in ("status", "state", "output")}
    return dict(json.loads(re.sub(r"[0-9a-f]{64}", "…", json.dumps(ended))))


def judge(program: Program, normal: Seen, before: Seen, after: Seen) -> Verdict:
    """`before` is what was there when the process had died; `after`, when the run had been brought to its end."""
    if program.travel == "prune":
        return _pruned(normal, before, after)
    if not kept(before.events, after.events):
        return Verdict(lost=1, problem="what was committed before is not there any more")
    if normal.fork is not None:
        problem = _forked(normal.fork, before, after)
        if problem:
            return Verdict(problem=problem)
    repeated = _repeated(normal, after)
    lost, duplicated = _transitions(program, normal.events, after.events)
    try:
        if lost or duplicated:
            raise Wrong(f"other transitions: {way(after.events)}")
        if end(after.events) != end(normal.events):
            raise Wrong(f"another end: {end(after.events)}")
        _completed_once(after.events)
        _not_called_again(before, after)
        _effects(program, normal, after)
    except Wrong as wrong:
        return Verdict(repeated, lost, duplicated, str(wrong))
    return Verdict(repeated)


def kept(before: list[Event], after: list[Event]) -> bool:
    """Whether what was in a journal is still there, bit by bit."""
    return [event.hash for event in before] == [event.hash for event in after[: len(before)]]


def _pruned(normal: Seen, before: Seen, after: Seen) -> Verdict:
    """A run is deleted as a whole or not at all."""
    hashes = [event.hash for event in before.events]
    if hashes and hashes != [event.hash for event in normal.events]:
        return Verdict(lost=1, problem="a part of the run was deleted")
    return Verdict(problem="the run is still there" if after.events else "")


def _forked(normal: Seen, before: Seen, after: Seen) -> str:
    """A fork goes its way as one that was let alone, and the run that it is of stays what it is."""
    if (
        after.fork is None
        or way(after.fork.events) != way(normal.events)
        or end(after.fork.events) != end(normal.events)
    ):
        return "the fork went another way"
    if before.fork is not None and not kept(before.fork.events, after.fork.events):
        return "what was committed of the fork is not there any more"
    return "" if len(before.events) == len(after.events) else "the run that was forked has changed"


def _transitions(program: Program, normal: list[Event], after: list[Event]) -> tuple[int, int]:
    """How many transitions are missing, and how many are too many."""
    if program.same == "end":
        return 0, 0
    expected, made = way(normal), way(after)
    if program.same == "root":
        expected, made = {"": expected.get("", [])}, {"": made.get("", [])}
    if expected == made:
        return 0, 0
    wanted = Counter((frame, *step) for frame, steps in expected.items() for step in steps)
    had = Counter((frame, *step) for frame, steps in made.items() for step in steps)
    missing, extra = (wanted - had).total(), (had - wanted).total()
    return missing, extra or (0 if missing else 1)


def _completed_once(events: list[Event]) -> None:
    done = Counter(event.body["cmd"] for event in events if event.kind == "succeeded")
    twice = [command for command, count in done.items() if count > 1]
    if twice:
        raise Wrong(f"completed more than once: {twice}")


def _not_called_again(before: Seen, after: Seen) -> None:
    """What had succeeded in the journal is never called again, under its key or without one."""
    intents = {event.body["cmd"]: event.body for event in before.events if event.kind == "intent"}
    done = set()
    for event in before.events:
        body = intents.get(event.body.get("cmd", "")) if event.kind == "succeeded" else None
        if body is not None and "tool" in body:
            done.add((body["tool"], body.get("key") or trace_key(event.run_id, body["cmd"])))
    for line in after.ledger[len(before.ledger) :]:
        if line["what"] == "call" and (line["tool"], line["key"]) in done:
            raise Wrong(f"a completed call was made again: {line}")


def _keyed(events: list[Event]) -> set[str]:
    """The tools whose calls were made under a declared key."""
    return {event.body["tool"] for event in events if event.kind == "intent" and event.body.get("key")}


def _effects(program: Program, normal: Seen, after: Seen) -> None:
    """The effects are those of the run that was let alone, each once. Without a key a call is made once, unless
    somebody looked and said that it had not happened."""
    expected, made = _did(normal.ledger), _did(after.ledger)
    twice = [effect for effect, count in made.items() if count > max(1, expected[effect])]
    if twice:
        raise Wrong(f"an effect happened more than once: {twice}")
    if program.same == "all" and made != expected:
        raise Wrong(f"other effects: missing {dict(expected - made)}, too many {dict(made - expected)}")
    keyed = _keyed(after.events)
    again = sum(event.kind == "settled" and not event.body["happened"] for event in after.events)
    again += sum(event.kind == "probed" and event.body.get("happened") is False for event in after.events)
    wanted, calls = _calls(normal.ledger, keyed), _calls(after.ledger, keyed)
    extra = {call: count - wanted[call] for call, count in calls.items() if count > max(1, wanted[call])}
    if sum(extra.values()) > again:
        raise Wrong(f"calls without a key were made again: {extra}")


def _did(ledger: list[dict[str, Any]]) -> Counter[str]:
    return Counter(f"{line['tool']} {line['args']}" for line in ledger if line["what"] == "did")


def _calls(ledger: list[dict[str, Any]], keyed: set[str]) -> Counter[str]:
    made = (line for line in ledger if line["what"] == "call" and line["tool"] not in keyed)
    return Counter(f"{line['tool']} {line['args']}" for line in made)


def _repeated(normal: Seen, after: Seen) -> int:
    """How many calls were made again under the key that they were made with before."""
    keyed = _keyed(after.events)
    wanted = Counter((line["tool"], line["key"]) for line in normal.ledger if line["what"] == "call")
    made = Counter((line["tool"], line["key"]) for line in after.ledger if line["what"] == "call")
    return sum(max(0, count - wanted[call]) for call, count in made.items() if call[0] in keyed)
