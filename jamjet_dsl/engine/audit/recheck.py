"""`jam audit replay`: every decision of the policy made again from the record.

This is `engine.replay`, which proves the whole journal; here it is told which of what was proved are decisions of the
policy, and of one that comes out differently what of it differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from jamjet_dsl.engine.replay import Disagreement, Disagrees, Replay, Said, Walk
from jamjet_dsl.engine.replay_world import same
from jamjet_dsl.kernel.model import Event
from jamjet_dsl.ports import Store


@dataclass(frozen=True, slots=True)
class Proved:
    """A decision that came out as it stands in the journal."""

    seq: int
    cmd: str
    tool: str
    result: str


@dataclass(slots=True)
class Recheck:
    """What was found. `allowed`, `denied` and `asked` count decisions that came out alike; `reads` are free and
    unlimited reads that were decided again, though nothing but their outcome is in the journal. `differs` are the parts
    of the decision that came out differently, where it is a decision that did."""

    replay: Replay
    decisions: list[Proved] = field(default_factory=list)
    reads: int = 0
    differs: tuple[str, ...] = ()

    def count(self, result: str) -> int:
        """How many came out as this."""
        return sum(one.result == result for one in self.decisions)

    def as_json(self) -> dict[str, Any]:
        """All of it, for `--format json`."""
        counts = {name: self.count(name) for name in ("allowed", "needs_approval", "denied")}
        decisions = [asdict(one) for one in self.decisions]
        tail = {"reads": self.reads, "differs": list(self.differs), **self.replay.as_json()}
        return {**counts, "decisions": decisions, **tail}


def recheck(store: Store, run_id: str) -> Recheck:
    """Decide a run again. Starts nothing and writes nothing. Raises JamError as `engine.replay.replay`."""
    run_id = store.find(run_id)
    walk = _Walk(store, run_id)
    found = Recheck(walk.found, walk.proved)
    try:
        for event in store.history(run_id):
            walk.step(event)
        walk.end()
    except Disagrees as wrong:
        walk.found.disagreement = wrong.disagreement
        found.differs = _differing(wrong.disagreement)
    walk.found.status, walk.found.state = walk.state.status, walk.place()[0]
    found.reads = walk.reads
    return found


class _Walk(Walk):
    """Keeps the decisions that it proves."""

    def __init__(self, store: Store, run_id: str) -> None:
        super().__init__(store, run_id)
        self.proved: list[Proved] = []
        self.reads = 0

    def _agree(self, expected: Said, event: Event) -> bool:
        open_before = len(self.found.open)
        agrees = super()._agree(expected, event)
        if agrees and "decision" in event.body and len(self.found.open) == open_before:
            body = event.body
            tool = str(body["tool"] if "tool" in body else body["call"]["tool"])
            result = str(body["decision"].get("result", "allowed"))
            self.proved.append(Proved(event.seq, str(body["cmd"]), tool, result))
        return agrees

    def _from_outside(self, event: Event, candidates: list[Said]) -> None:
        free = "tool" in event.body and event.body.get("cmd") not in self.state.intents
        super()._from_outside(event, candidates)
        if free and event.kind in ("succeeded", "failed"):
            self.reads += 1


def _differing(wrong: Disagreement) -> tuple[str, ...]:
    """The parts of a decision in which the two differ."""
    if wrong.expected is None or wrong.actual is None or "decision" not in wrong.fields:
        return ()
    one, other = (said.body.get("decision") for said in (wrong.expected, wrong.actual))
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return ("decision",)
    names = sorted({*one, *other})
    return tuple(name for name in names if name not in one or name not in other or not same(one[name], other[name]))
