"""A real run that goes the way of a counterexample, if one can be found.

The way says what happens; what the values are is tried out: those of the tests, samples of the types, and numbers and
texts at the edges of what the program compares with. Time is simulated, nothing outside is called.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Transition
from jamjet_dsl.engine.samples import Samples
from jamjet_dsl.engine.trial import Typical
from jamjet_dsl.engine.virtual import Virtual
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.expr.literals import LITERALS
from jamjet_dsl.kernel.ids import frame_of
from jamjet_dsl.kernel.machine import due
from jamjet_dsl.kernel.model import Call, RunState, Think
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.recovery import recover
from jamjet_dsl.kernel.values import Duration, Money, to_public
from jamjet_dsl.ports import Draft
from jamjet_dsl.verify.explore import Step
from jamjet_dsl.verify.labels import Label, labels_of
from jamjet_dsl.verify.program import nodes_of
from jamjet_dsl.verify.world import MISFIT, Move

TRIES = 400
_SEED = 20_260_101


@dataclass(slots=True)
class Concrete:
    """A run that goes the way: its input, and its journal."""

    input: dict[str, Any]
    journal: list[Draft]
    state: RunState


def concrete(
    definition: d.Definition,
    way: Sequence[Step],
    typical: Typical,
    tries: int = TRIES,
) -> Concrete | None:
    """A run on which the same happens as on this way. None if none was found."""
    program = Program.of(definition)
    constants = _constants(definition)
    for attempt in range(tries):
        chance = random.Random(_SEED + attempt)
        run = _Walk(program, _Edges(definition, chance, constants), typical, chance)
        found = run.go(way)
        if found is not None:
            return found
    return None


class _Edges(Samples):
    """Samples that are often what the program compares with, or just beside it."""

    def __init__(self, definition: d.Definition, chance: random.Random, constants: Mapping[str, list[Any]]) -> None:
        super().__init__(definition, chance)
        self._known = constants

    def value(self, type_: d.Type | None, depth: int = 0) -> Any:
        """A value of the type."""
        if self._chance.random() < 0.6:
            found = self._near(type_)
            if found is not None:
                return found
        return super().value(type_, depth)

    def _near(self, type_: d.Type | None) -> Any:
        match type_:
            case d.Scalar(kind="int" | "uint" | "decimal" | "float" as kind) if self._known["number"]:
                number = self._chance.choice(self._known["number"]) + self._chance.choice((-1, 0, 1))
                if _inside(number, type_.low, type_.high):
                    return (
                        int(number) if kind in ("int", "uint") else str(number) if kind == "decimal" else float(number)
                    )
            case d.MoneyType() if self._known["money"]:
                amount = self._chance.choice(self._known["money"]) + self._chance.choice((-1, 0, 1))
                if _inside(amount, type_.low, type_.high):
                    return f"{amount} {type_.currency or 'USD'}"
            case d.Scalar(kind="string") if self._known["string"]:
                return self._chance.choice(self._known["string"])
            case d.Scalar(kind="duration") if self._known["duration"]:
                return f"{self._chance.choice(self._known['duration']) / 1000}s"
        return None


def _inside(number: Decimal, low: Any, high: Any) -> bool:
    least, most = (None if end is None else Decimal(str(end).split()[0]) for end in (low, high))
    return (least is None or number >= least) and (most is None or number <= most)


def _constants(definition: d.Definition) -> dict[str, list[Any]]:
    """What the expressions of a program compare with, by kind."""
    found: dict[str, set[Any]] = {"number": set(), "money": set(), "string": set(), "duration": set()}
    for node in nodes_of(definition.model_dump(mode="python")):
        if node[0] not in LITERALS or len(node) < 2:
            continue
        try:
            value = LITERALS[node[0]](node)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            continue
        match value:
            case bool():
                continue
            case Money():
                found["money"].add(value.amount)
            case Duration():
                found["duration"].add(value.ms)
            case int() | Decimal():
                found["number"].add(Decimal(value))
            case str():
                found["string"].add(value)
    return {kind: sorted(values) for kind, values in found.items()}


class _Walk(Virtual):
    """One attempt to go a way."""

    def __init__(self, program: Program, samples: Samples, typical: Typical, chance: random.Random) -> None:
        super().__init__(program)
        self._samples = samples
        self._typical = typical
        self._draw = chance
        self._effects: dict[str, Call | Think] = {}

    def go(self, way: Sequence[Step]) -> Concrete | None:
        """The run, if it goes the way."""
        given = self._input()
        try:
            started = inputs.started(self.program, given, {"id": "who started it"}, "")
        except JamError:
            return None
        for step in way:
            try:
                events = [started] if step.move is None else self._events(step.move)
            except (JamError, _Astray):
                return None
            before = None if step.move is None else self.state
            if not self._takes(self.happen(*events), before, step.labels):
                return None
        return Concrete(given, self.journal, self.state)

    def _input(self) -> dict[str, Any]:
        known = self._typical.inputs
        if known and self._draw.random() < 0.4:
            return dict(self._draw.choice(known))
        return self._samples.fields(self.program.agent.inputs)

    def _takes(self, step: Transition, before: RunState | None, wanted: Sequence[Label]) -> bool:
        begun = [command for name, command in step.effects.items() if name not in self._effects]
        drafts = self.journal[len(self.journal) - len(step.drafts) :]
        self._effects = dict(step.effects)
        return _bare(labels_of(before, drafts, begun, self.program.agent.name)) == _bare(wanted)

    def _events(self, move: Move) -> list[tuple[str, dict[str, Any]]]:
        match move.kind:
            case "gives" | "fails" | "confirms":
                return [self._landed(self._effect(move), move)]
            case "answers":
                return [self._answer(move)]
            case "sends":
                agents = self.program.defn.agents.values()
                fields = next(agent.events[move.what].fields for agent in agents if move.what in agent.events)
                payload = self._samples.fields(fields)
                return [inputs.received(self.program, self.state, move.what, payload, f"event {len(self.journal)}")]
            case "fires":
                return self._fire(move)
            case "cancels":
                return [inputs.cancelling(self.program, self.state, "an operator", "", False)]
        return [(record.kind, record.body) for record in recover(self.program, self.state)]

    def _effect(self, move: Move) -> Call | Think:
        for command in self._effects.values():
            does = "confirms" if isinstance(command, Call) and command.does == "confirm" else ""
            name = command.tool if isinstance(command, Call) else command.state
            if name == move.what and (does == "confirms") == (move.kind == "confirms"):
                return command
        raise _Astray

    def _landed(self, command: Call | Think, move: Move) -> tuple[str, dict[str, Any]]:
        if move.kind == "fails" or move.how == "unknown":
            error = move.how if move.kind == "fails" else "Unavailable"
            return inputs.failed(self.program, self.state, command, error, "chosen")
        value = self._value(command, move)
        usage = {"tokens_in": 1, "tokens_out": 1, "cost": None} if isinstance(command, Think) else None
        return inputs.succeeded(self.program, self.state, command, value, usage)

    def _value(self, command: Call | Think, move: Move) -> Any:
        if move.kind == "confirms" and move.how == "it did not":
            return None
        if isinstance(command, Think) and command.tools:
            if not move.how:
                return {"text": "so it is"}
            if move.how == MISFIT:
                return {"call": {"tool": self._draw.choice(command.tools), "args": {"none of them": 1}}}
            params = self.program.defn.tools[move.how].params
            return {"call": {"tool": move.how, "args": self._samples.fields(params)}}
        name = command.tool if isinstance(command, Call) else command.state
        known = self._typical.results.get(name, ())
        if known and self._draw.random() < 0.4:
            return self._draw.choice(known)
        if isinstance(command, Call):
            return self._samples.value(self.program.defn.tools[command.tool].result)
        return self._samples.value(command.result_type)

    def _answer(self, move: Move) -> tuple[str, dict[str, Any]]:
        for question in self.state.questions.values():
            if question.state == move.what:
                action = self.program.action(self.state.frames[question.frame])
                form = self._samples.fields(action.form) if isinstance(action, d.Ask) else {}
                who = f"person {len(question.approvals) + 1}"
                return inputs.answered(self.program, self.state, question.id, move.how, form, who, None)
        raise _Astray

    def _fire(self, move: Move) -> list[tuple[str, dict[str, Any]]]:
        """Time goes on until the timer is due; if another one comes first, this is not the way."""
        for name, at_ms in sorted(self.state.timers.items(), key=lambda item: item[1]):
            frame = self.state.frames.get(frame_of(name))
            label = "budget" if name.startswith("budget/") else "" if frame is None else self.program.label(frame)
            if (move.how == "budget" and label == "budget") or (move.how != "budget" and label == move.what):
                self.now_ms = max(self.now_ms, at_ms)
                return due(self.state, self.now_ms)[:1]
            if label != "budget":
                break
        raise _Astray


class _Astray(Exception):
    """What the way says cannot happen here."""


def _bare(labels: Sequence[Label]) -> list[tuple[str, str, str]]:
    """Labels without words that differ between a real value and an unknown one."""
    told = ("enter", "answer", "end")
    return [(label.kind, label.place, label.how if label.kind in told else "") for label in labels]


def told(found: Concrete) -> list[str]:
    """The run in words: its input, and what calls gave and people said."""
    lines = [f"input {found.input}"]
    for event in found.journal:
        body = event.body
        match event.kind:
            case "succeeded" if "tool" in body:
                lines.append(f"{body['tool']} gives {to_public(body['result'])}")
            case "succeeded":
                lines.append(f"the model answers {body['result']}")
            case "failed":
                lines.append(f"{body.get('tool', 'the model')} fails: {body['error']}")
            case "answered":
                lines.append(f"{body['by']} answers {body['option']} {body['form'] or ''}".rstrip())
            case "received":
                lines.append(f"the event {body['name']} comes: {body['payload']}")
            case "moved":
                lines.append(f"{body['state']} -> {body['to']}  ({body['edge']})")
    return lines
