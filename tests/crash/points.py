"""Where a run may be struck: each command of an undisturbed one, at each system call that writes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.crash import tracing
from tests.crash.judge import end
from tests.crash.office import DATABASE, Office, Seen, Wrong, check
from tests.crash.programs import Program
from tests.crash.tracing import Place
from tests.crash.zygote import Zygote

FAULT_EVERY = 6
"""Of so many places one is refused with each error, besides being died at."""
HELD = ("held", "freed")
"""Another process holds the write lock: to the end, or for a moment."""
REFUSED = ("file", "folder")
"""What may not be written."""


class Point(NamedTuple):
    """Strike this program in its Nth command. Its text is what `--only` takes."""

    program: str
    step: int
    fault: str
    place: Place
    turn: int = 0

    def __str__(self) -> str:
        return "/".join(map(str, (self.program, self.step, self.fault, *self.place, self.turn)))

    @classmethod
    def parse(cls, text: str) -> Point:
        """The point that a text names."""
        program, step, fault, file, call, number, turn = text.split("/")
        return cls(program, int(step), fault, Place(file, call, int(number)), int(turn))


@dataclass
class Recorded:
    """A run that was let alone: the commands, and where each may be struck."""

    program: Program
    moves: list[list[str]] = field(default_factory=list)
    places: list[list[Place]] = field(default_factory=list)
    reads: list[list[Place]] = field(default_factory=list)
    locks: list[list[Place]] = field(default_factory=list)
    opens: list[list[Place]] = field(default_factory=list)
    normal: Seen = field(default_factory=Seen)
    first: int = 0
    """The first command that is struck."""


def prepared(base: Path, program: str, step: int) -> Path:
    """The folder as it was before a command."""
    return base / program / f"step{step}"


def record(zygote: Zygote, program: Program, base: Path) -> Recorded:
    """Let a run alone, twice: the second time under strace, which tells where it may be struck. Raises Wrong."""
    plain = Office(program, base / program.name / "plain")
    found = Recorded(program)
    plain.set_up()

    def keep(move: list[str]) -> None:
        shutil.copytree(plain.folder, prepared(base, program.name, len(found.moves)))
        found.moves.append(move)
        if move[0] == program.travel:
            found.normal, found.first = plain.seen(), len(found.moves) - 1

    plain.go_on(zygote, each=keep)
    if program.travel != "prune":
        found.normal = plain.seen()
    ended = end(found.normal.events)
    wanted = "cancelled" if any(move[0] == "cancel" for move in program.moves.values()) else "completed"
    if ended is None or ended["status"] != wanted:
        raise Wrong(f"the run that was let alone ended otherwise: {ended}")
    if not found.normal.ledger and program.name not in ("budgets",):
        raise Wrong("the run that was let alone did nothing")
    traced = Office(program, base / program.name / "traced")
    log = base / program.name / "log"
    calls = (*tracing.WRITES, *tracing.READS, *tracing.LOCKS, *tracing.OPENS)
    for step, move in enumerate(found.moves):
        traced.become(prepared(base, program.name, step))
        strace = ["-y", "-e", f"trace={','.join(calls)}", "-o", str(log)]
        check(traced.perform(zygote, move, strace), move)
        text = log.read_text()
        found.places.append(tracing.places(text, traced.folder, tracing.WRITES))
        found.reads.append(_of_database(tracing.places(text, traced.folder, tracing.READS)))
        found.locks.append(_of_database(tracing.places(text, traced.folder, tracing.LOCKS)))
        found.opens.append(_of_database(tracing.places(text, traced.folder, tracing.OPENS)))
    return found


def _of_database(places: list[Place]) -> list[Place]:
    return [place for place in places if place.file.startswith(DATABASE)]


def points(found: Recorded, faults: Iterable[str]) -> Iterator[Point]:
    """Every point of a program, in order."""
    wanted, turn = set(faults), 0
    name = found.program.name
    for step, places in enumerate(found.places):
        if step < found.first:
            continue
        for index, place in enumerate(places):
            turn += 1
            if "kill" in wanted:
                yield Point(name, step, "kill", place, turn)
            if "twice" in wanted and index % FAULT_EVERY == 1:
                yield Point(name, step, "twice", place, turn)
            if not place.file.startswith(DATABASE):
                continue
            for number, fault in enumerate(("eio", "enospc")):
                if fault in wanted and index % FAULT_EVERY == number * FAULT_EVERY // 2:
                    forever = "+" if index // FAULT_EVERY % 2 else ""
                    yield Point(name, step, fault + forever, place, turn)
        if "eio" in wanted:
            yield from (Point(name, step, "eio", place) for place in found.reads[step][:: 3 * FAULT_EVERY])
        if found.moves[step] == ["worker"]:
            continue  # It waits for a lock for ever, as it should.
        if "locked" in wanted:
            yield from (Point(name, step, "locked", place) for place in found.locks[step][::FAULT_EVERY])
            # Held to the end costs five seconds of waiting.
            for how in HELD if step == len(found.places) - 1 else HELD[1:]:
                yield Point(name, step, "locked", Place(DATABASE, how, 0))
        if "readonly" in wanted:
            fresh = found.program.fresh and step == 0
            for how in REFUSED[1:] if fresh else REFUSED:
                yield Point(name, step, "readonly", Place(DATABASE, how, 0))
            for place in found.opens[step]:
                yield from (Point(name, step, fault, place) for fault in ("readonly", "readonly+"))
