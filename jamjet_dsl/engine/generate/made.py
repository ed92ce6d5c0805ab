"""From an agent to the runs that cover it: search, choice, titles."""

from __future__ import annotations

from dataclasses import dataclass, field

from jamjet_dsl import definition as d
from jamjet_dsl.engine.coverage import named
from jamjet_dsl.engine.generate.blocks import block, titles_of
from jamjet_dsl.engine.generate.case import Found, Scene, label_of
from jamjet_dsl.engine.generate.search import explore
from jamjet_dsl.engine.generate.smallest import smallest
from jamjet_dsl.engine.passed import Part, parts_of, states_of
from jamjet_dsl.engine.testing import with_stubs
from jamjet_dsl.kernel.program import Program

TRIALS = 4_000
"""How many runs are tried for an agent unless somebody says otherwise."""


@dataclass(slots=True)
class Made:
    """Tests of one agent, chosen among the `candidates`. `missing` says of each part that
    none passes why; `trials` counts the runs that were tried."""

    scene: Scene
    candidates: list[Found]
    missing: dict[Part, str]
    trials: int
    runs: list[Found] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)

    def choose(self) -> None:
        """Choose the tests anew."""
        self.runs = smallest(self.scene, self.candidates)
        self.titles = titles_of(self.scene, self.runs)

    def blocks(self, agent: str, plain: frozenset[int] = frozenset()) -> list[str]:
        """The tests as text; those of `plain`, by number, expect the way and the end only."""
        told = enumerate(zip(self.runs, self.titles, strict=True))
        return [block(self.scene, run, title, agent, outputs=n not in plain) for n, (run, title) in told]

    def drop(self, numbers: frozenset[int]) -> None:
        """Do without tests that cannot be written down, and whatever goes their way; what they pass others may."""
        paths = {self.runs[n].path for n in numbers}
        self.candidates = [run for run in self.candidates if run.path not in paths]
        self.choose()
        left = frozenset(part for run in self.runs for part in run.through)
        for part in parts_of(self.scene.agent):
            if part not in left:
                self.missing.setdefault(part, "a run that passes it was found, but not as a test")

    def reasons(self) -> list[str]:
        """What is not covered, and why, in the order of the program."""
        return [
            f"{named(self.scene.agent, part)}: {self.missing[part]}"
            for part in parts_of(self.scene.agent)
            if part in self.missing
        ]

    @property
    def counted(self) -> tuple[int, int]:
        """How many states and edges are covered, and how many there are."""
        every = list(parts_of(self.scene.agent))
        return sum(part not in self.missing for part in every), len(every)


def make(definition: d.Definition, seed: int = 0, trials: int = TRIALS) -> Made:
    """Tests for the main agent of a definition. The same seed makes the same."""
    scene = scene_of(definition)
    explored = explore(scene, seed, trials)
    made = Made(scene, list(explored.runs.values()), explored.missing, explored.trials)
    made.choose()
    return made


def scene_of(definition: d.Definition) -> Scene:
    """The agent with the agents that it runs mocked: a test says what comes of them, and no more."""
    runs = {
        label_of(path)
        for path, state in states_of(definition.agent.body)
        if isinstance(state, d.State) and isinstance(state.action, d.RunAgent)
    }
    return Scene(Program.of(with_stubs(definition, runs)))
