"""The reference interpreter against the engine, on generated programs.

python -m tests.reference [--steps N] [--seed S] [--jobs J] [--one SEED]
python -m tests.reference --policy [--decisions N] [--seed S] [--jobs J] [--one SEED]    policies alone
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from jamjet_dsl.compiler import ProgramRefused, compile_text
from tests.reference import engine, programs
from tests.reference.interpreter import Run, seen
from tests.reference.policy.__main__ import campaign
from tests.reference.world import World

WORLDS = 8
"""In so many worlds each program runs."""
CHUNK = 25


@dataclass
class Tally:
    """What was compared."""

    programs: int = 0
    refused: int = 0
    runs: int = 0
    steps: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for name in ("programs", "refused", "runs", "steps"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for end, count in other.ends.items():
            self.ends[end] = self.ends.get(end, 0) + count
        self.wrong += other.wrong


def differences(text: str, world: World, definition: Any = None) -> tuple[list[str], dict[str, Any]]:
    """Where the engine and the reference disagree about one program in one world, and what the engine did."""
    definition = definition if definition is not None else compile_text(text).definition
    played = engine.play(definition, world)
    found, expected = engine.seen(played), seen(Run(text, world).go())
    wrong = [
        f"{name}:\n    engine    {found[name]}\n    reference {expected[name]}"
        for name in found
        if found[name] != expected[name]
    ]
    if wrong:
        wrong.append("the journal:\n" + "\n".join(f"    {d.at_ms:>8} {d.kind:10} {d.body}" for d in played.journal))
    return wrong, found


def steps_of(found: dict[str, Any]) -> int:
    """States that were entered and calls that were made."""
    return sum(map(len, found["path"].values())) + len(found["performed"])


def compare(seeds: range, parts: frozenset[str]) -> Tally:
    """Some programs, in some worlds each; every second one is killed on the way."""
    tally = Tally()
    for seed in seeds:
        text = programs.program(seed, parts)
        tally.programs += 1
        try:
            definition = compile_text(text).definition
        except ProgramRefused:
            tally.refused += 1
            continue
        for n in range(WORLDS):
            world = programs.world(seed * WORLDS + n, crash=n % 2 == 1)
            try:
                wrong, found = differences(text, world, definition)
            except Exception as error:
                wrong, found = (
                    ["".join(traceback.format_exception(error)[-3:])],
                    {"path": {}, "performed": [], "status": "error"},
                )
            tally.runs += 1
            tally.steps += steps_of(found)
            tally.ends[found["status"]] = tally.ends.get(found["status"], 0) + 1
            if wrong:
                tally.wrong.append("\n".join([f"seed {seed}, world {n}: {world}", text, *wrong]))
    return tally


def chunks(start: int) -> Iterator[range]:
    while True:
        yield range(start, start + CHUNK)
        start += CHUNK


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reference", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--one", type=int, help="only this program")
    parser.add_argument("--sequential", action="store_true", help="without frames")
    parser.add_argument("--policy", action="store_true", help="decisions of policies, over histories of calls")
    parser.add_argument("--decisions", type=int, default=1_000_000, help="with --policy: how many")
    given = parser.parse_args()
    if given.policy:
        seeds = range(given.one, given.one + 1) if given.one is not None else None
        return campaign(given.decisions, given.seed, given.jobs, seeds)
    parts = programs.SEQUENTIAL if given.sequential else programs.ALL
    began, total = time.monotonic(), Tally()
    if given.one is not None:
        total = compare(range(given.one, given.one + 1), parts)
    else:
        with ProcessPoolExecutor(given.jobs) as pool:
            todo = chunks(given.seed)
            running = {pool.submit(compare, next(todo), parts) for _ in range(given.jobs * 2)}
            while running:
                done = next(iter(running))
                running.discard(done)
                total.add(done.result())
                if total.steps < given.steps and len(total.wrong) < 20:
                    running.add(pool.submit(compare, next(todo), parts))
    for text in total.wrong[:12]:
        print(text, end="\n\n")
    print(
        f"{total.programs:,} programs ({total.refused:,} refused), {total.runs:,} runs {total.ends}, {total.steps:,} "
        f"steps compared, {len(total.wrong)} disagreements in {time.monotonic() - began:.0f} s"
    )
    return 1 if total.wrong or not total.runs else 0


if __name__ == "__main__":
    sys.exit(main())
