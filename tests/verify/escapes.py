"""Whether what runs do lies inside what was explored of their program.

Each trial of a generated program, under faults and crashes, is told as a sequence of labels: states entered, calls
begun, answers, ends. The exploration is an automaton over the same labels; a sequence that it does not accept is an
*escape*: something that a run did and that nothing proved about the program accounts for.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jamjet_dsl.compiler import compile_text
from jamjet_dsl.definition import Definition
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Transition
from jamjet_dsl.engine.trial import Trial
from jamjet_dsl.kernel.model import RunState
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.verify.explore import Explored, Step, explore
from jamjet_dsl.verify.labels import Label, labels_of
from tests.reference import programs

Told = tuple[str, str, str, str]


def told(label: Label) -> Told:
    """A label without words that differ between real and unknown values."""
    how = label.how if label.kind in ("enter", "answer", "end") else ""
    place = "" if label.kind == "park" else label.place
    return label.kind, place, how, label.agent


@dataclass(slots=True)
class Watched(Trial):
    """A trial that keeps what its transitions mean."""

    labels: list[Told] = field(default_factory=list)
    _begun: set[str] = field(default_factory=set)

    def happen(self, *events: tuple[str, dict[str, Any]]) -> Transition:
        before: RunState | None = self.state if self.state.frames else None
        step = Trial.happen(self, *events)
        new = [command for name, command in step.effects.items() if name not in self._begun]
        self._begun = set(step.effects)
        self.labels += map(told, labels_of(before, step.drafts, new, self.program.agent.name))
        return step


class Automaton:
    """An exploration as an automaton over labels."""

    def __init__(self, found: Explored) -> None:
        self._found = found
        self._labels = {id(step): tuple(map(told, step.labels)) for step in found.all_steps()}

    def rejects(self, labels: Sequence[Told]) -> int | None:
        """Which label is the first that nothing explored has there; None if all are."""
        places = self._closed([], [(step, 0) for step in self._found.first])
        for number, label in enumerate(labels):
            nodes: list[int] = []
            inside: list[tuple[Step, int]] = []
            for step, at in places:
                own = self._labels[id(step)]
                if own[at] == label:
                    if at + 1 == len(own):
                        nodes.append(step.target.number)
                    else:
                        inside.append((step, at + 1))
            places = self._closed(nodes, inside)
            if not places and number + 1 < len(labels):
                return number + 1
            if not nodes and not inside:
                return number
        return None

    def _closed(self, nodes: Iterable[int], inside: list[tuple[Step, int]]) -> list[tuple[Step, int]]:
        """The steps that may go on from there, those without labels gone through."""
        seen: set[int] = set()
        todo = list(nodes)
        found: list[tuple[Step, int]] = []
        for step, at in inside:
            if self._labels[id(step)]:
                found.append((step, at))
            else:
                todo.append(step.target.number)
        while todo:
            number = todo.pop()
            if number in seen:
                continue
            seen.add(number)
            for step in self._found.nodes[number].steps:
                if self._labels[id(step)]:
                    found.append((step, 0))
                else:
                    todo.append(step.target.number)
        return found


@dataclass(slots=True)
class Tally:
    programs: int = 0
    incomplete: int = 0
    runs: int = 0
    labels: int = 0
    escapes: list[str] = field(default_factory=list)


def escapes(definition: Definition, seeds: range, most: int, tally: Tally, name: str, exact: bool = False) -> None:
    """Run trials of a program, and note those that leave what was explored of it."""
    found = explore(definition, most, exact=exact)
    tally.programs += 1
    if not found.complete or found.lists:
        tally.incomplete += 1
        return
    automaton = Automaton(found)
    for seed in seeds:
        trial = Watched(Program.of(definition), seed)
        try:
            trial.run()
        except JamError:
            continue
        tally.runs += 1
        tally.labels += len(trial.labels)
        at = automaton.rejects(trial.labels)
        if at is not None:
            tally.escapes.append(f"{name} seed {seed}: {trial.labels[at]} after {trial.labels[max(0, at - 4) : at]}")
            return  # one is enough to look at


def main() -> int:
    """Explore so many generated programs, and run each so often."""
    ask = argparse.ArgumentParser(description=main.__doc__)
    ask.add_argument("--programs", type=int, default=100)
    ask.add_argument("--from", dest="first", type=int, default=0)
    ask.add_argument("--trials", type=int, default=20)
    ask.add_argument("--most", type=int, default=1_000, help="states explored of a program at most")
    given = ask.parse_args()
    tally, began = Tally(), time.monotonic()
    for seed in range(given.first, given.first + given.programs):
        definition = compile_text(programs.program(seed)).definition
        escapes(definition, range(given.trials), given.most, tally, f"program {seed}", exact=seed % 2 == 1)
    for escape in tally.escapes[:20]:
        print(escape)
    took = time.monotonic() - began
    print(
        f"{tally.programs:,} programs ({tally.incomplete:,} too large to be explored), {tally.runs:,} runs,"
        f" {tally.labels:,} labels, {len(tally.escapes)} escapes; {took:.0f} s"
    )
    return 1 if tally.escapes else 0


if __name__ == "__main__":
    sys.exit(main())
