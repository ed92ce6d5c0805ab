"""A run that can be had again: its inputs, and what tools, models and people give, in the order of their uses."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.generate.values import Values
from jamjet_dsl.engine.passed import Part, passed, states_of
from jamjet_dsl.engine.simulate import Answered, Raised, Returned, Simulation, Stuck, used_by
from jamjet_dsl.kernel.model import Call, Question, Think
from jamjet_dsl.kernel.program import PLAIN, Program
from jamjet_dsl.kernel.values import EvalError, to_public

MOST_TRANSITIONS = 400
"""A run that takes longer is no test that anybody wants to read."""
TIMEOUT = "timeout"
"""The answer that nobody gives in time."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a mock gives once: `raises` an error, `answers` with an option (and a form), or else returns `value`."""

    value: Any = None
    raises: str | None = None
    option: str | None = None
    form: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """Inputs, and for each tool or state its responses; the last one goes on, as in a `test` block."""

    inputs: Mapping[str, Any]
    script: Mapping[str, tuple[Response, ...]] = field(default_factory=dict)

    def size(self) -> int:
        """How much there is to read."""
        told = sum(_size(r.value) + _size(r.form) + 1 for rs in self.script.values() for r in rs)
        return told + 2 * len(self.script) + sum(map(_size, self.inputs.values()))


def _size(value: Any) -> int:
    if isinstance(value, Mapping):
        return 1 + sum(map(_size, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(_size, value))
    return 0 if value is None else 1 + len(str(value)) // 20


class Found(NamedTuple):
    """A case that was run: what it passed, and how it ended. `final` is empty where the run was parked."""

    case: Case
    through: frozenset[Part]
    path: tuple[str, ...]
    final: str
    output: Mapping[str, Any]


def label_of(path: str) -> str:
    """What a test calls a state: the one of a plain body like its branch, or like the state around it."""
    return next((part for part in reversed(path.split("/")) if part not in (PLAIN, "each")), path)


class Scene:
    """One agent, and how its runs are tried. A test cannot reach into an agent that it runs, so that is mocked."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.defn = program.defn
        self.agent = program.agent
        self.types: dict[str, d.Type | None] = {name: tool.result for name, tool in self.defn.tools.items()}
        """What each thing that was mocked gives, once it was met."""
        self.states = {path: state for path, state in states_of(self.agent.body) if isinstance(state, d.State)}
        self.forms = {
            label_of(path): state.action.form for path, state in self.states.items() if isinstance(state.action, d.Ask)
        }
        self.offers: dict[str, tuple[str, ...]] = {}
        """The tools out of which a state that asks a model lets it choose."""
        self.trials = 0

    def run(self, case: Case, fresh: Fresh | None = None) -> Found | None:
        """Try a case; where it says nothing, `fresh` does. None for a run that needs what is not there, ends in no
        way, or is too long."""
        self.trials += 1
        mocks = _Mocks(self, case, fresh)
        simulation = Simulation(self.program, mocks=mocks)
        try:
            simulation.run(case.inputs, most=MOST_TRANSITIONS)
        except (Stuck, EvalError, JamError):
            return None
        used = {name: responses[: mocks.used[name]] for name, responses in mocks.script.items() if name in mocks.used}
        state = simulation.state
        return Found(
            replace(case, script={name: tuple(responses) for name, responses in used.items()}),
            frozenset(part for part in passed(self.program, simulation.journal) if part.agent == self.agent.name),
            tuple(simulation.path),
            state.final_state or "",
            {} if state.output is None else {name: to_public(value) for name, value in state.output.items()},
        )


class Fresh:
    """What is given where a case says nothing. `failing` is how often a call fails, `keeps` says for which targets the
    last response goes on instead."""

    def __init__(self, values: Values, chance: random.Random, failing: float, keeps: float) -> None:
        self.values = values
        self.chance = chance
        self.failing = failing
        self.keeps = keeps
        self.kept: dict[str, bool] = {}

    def keep(self, target: str) -> bool:
        """Whether the last response of a target goes on."""
        if target not in self.kept:
            self.kept[target] = self.chance.random() < self.keeps
        return self.kept[target]

    def response(self, scene: Scene, target: str, errors: tuple[str, ...]) -> Response:
        """What a tool or a model gives."""
        if errors and self.chance.random() < self.failing:
            return Response(raises=self.chance.choice(errors))
        return Response(self.value(scene, target))

    def value(self, scene: Scene, target: str) -> Any:
        """What a tool or a model gives if it gives something."""
        offered = scene.offers.get(target)
        return self.values.move(offered) if offered else self.values.value(scene.types[target])

    def answer(self, options: list[str], form: tuple[d.FieldDef, ...]) -> Response:
        """What a person answers; nobody does, for `timeout`."""
        option = self.chance.choice(options)
        return Response(option=option, form=self.values.fields(form) if form and option != TIMEOUT else None)


class _Mocks:
    def __init__(self, scene: Scene, case: Case, fresh: Fresh | None) -> None:
        self._scene = scene
        self._fresh = fresh
        self.script: dict[str, list[Response]] = {name: list(rs) for name, rs in case.script.items()}
        self.used: dict[str, int] = {}

    def _next(self, target: str) -> Response | None:
        """The next response of a target, or None where a fresh one is to be made. Raises Stuck without `fresh`."""
        known, n = self.script.setdefault(target, []), self.used.get(target, 0)
        self.used[target] = n + 1
        if n < len(known) or (known and (self._fresh is None or self._fresh.keep(target))):
            response: Response = used_by(known, n)
            return response
        if self._fresh is None:
            raise Stuck(f"nothing mocks {target}")
        return None

    def tool(self, call: Call, state: str) -> Returned | Raised:
        """What a call of a tool gives."""
        raises = self._scene.defn.tools[call.tool].raises
        return self._outcome(call.tool, (*raises, "Disconnected", "Unavailable", "Timeout"))

    def model(self, think: Think) -> Returned | Raised:
        """What a model, or an agent that is run, gives."""
        self._scene.types[think.state] = think.result_type
        self._scene.offers[think.state] = think.tools
        return self._outcome(think.state, ("Unavailable", "Timeout", "ChildFailed"))

    def _outcome(self, target: str, errors: tuple[str, ...]) -> Returned | Raised:
        given = self._next(target)
        if given is None:
            assert self._fresh is not None
            given = self._fresh.response(self._scene, target, errors)
            self.script[target].append(given)
        return Raised(given.raises) if given.raises is not None else Returned(given.value)

    def person(self, question: Question) -> Answered:
        """What a person answers."""
        scene, target = self._scene, question.state
        given = self._next(target)
        if given is None:
            assert self._fresh is not None
            options = [str(option["name"]) for option in question.body["options"]]
            options += [TIMEOUT] if question.expires_at_ms is not None else []
            given = self._fresh.answer(options, scene.forms.get(target, ()))
            self.script[target].append(given)
        if given.option == TIMEOUT:
            if question.expires_at_ms is None:
                raise Stuck("nobody answers, and there is no time for it")
            return Answered(None)
        return Answered(given.option, given.form)
