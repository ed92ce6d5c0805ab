"""One run in simulated time, with mocks for tools, models and people: deterministic.

Time stands still while something happens and jumps to the next timer when nothing does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Transition
from jamjet_dsl.engine.virtual import Virtual
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import due, initial, next_wake
from jamjet_dsl.kernel.model import Call, Question, RunState, Think
from jamjet_dsl.kernel.monitors import group_key
from jamjet_dsl.kernel.values import from_journal

MAX_TRANSITIONS = 100_000
"""More than any program with a budget takes."""


class Stuck(Exception):
    """The run cannot go on; the text says what it needs."""


@dataclass(frozen=True, slots=True)
class Returned:
    """A mock gave a value."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """A mock failed with an error of this name."""

    error: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A mocked person chose an option. Option None: nobody answers, and time passes."""

    option: str | None
    form: Any = None


class Mocks(Protocol):
    """Where outcomes come from. Each raises Stuck where it has none."""

    def tool(self, call: Call, state: str) -> Returned | Raised: ...

    def model(self, think: Think) -> Returned | Raised: ...

    def person(self, question: Question) -> Answered: ...


@dataclass(slots=True)
class Simulation(Virtual):
    """A run that was simulated: its journal, its last state, and the states it went through."""

    mocks: Mocks = field(kw_only=True)
    state: RunState = field(default_factory=lambda: initial("test"))
    path: list[str] = field(default_factory=list)
    _silent: set[str] = field(default_factory=set)
    _people: int = 0

    def run(
        self, input: Mapping[str, Any], principal: Mapping[str, Any] | None = None, most: int = MAX_TRANSITIONS
    ) -> RunState:
        """Run until it ends or is parked. Raises Stuck for what no mock answers and after `most` transitions, JamError
        JAMR301 for the input."""
        step = self._happen(inputs.started(self.program, input, principal or {}, "test"))
        for _ in range(most):
            if step.ended or self.state.parked is not None:
                return self.state
            step = self._next(step)
        raise Stuck(f"the run did not end within {most:,} transitions")

    def _happen(self, *events: tuple[str, dict[str, Any]]) -> Transition:
        step = self.happen(*events)
        for draft in step.drafts:
            if draft.kind == "started":
                self.path.append(self.program.agent.body.start)
            elif draft.kind == "moved" and not draft.body["frame"]:
                self.path.append(draft.body["to"])
        return step

    def _next(self, step: Transition) -> Transition:
        for command in step.effects.values():
            return self._happen(self._perform(command))
        for question in self.state.questions.values():
            if question.id not in self._silent:
                answer = self.mocks.person(question)
                if answer.option is not None:
                    return self._happen(self._answer(question, answer))
                self._silent.add(question.id)
        wake = next_wake(self.state)
        if wake is None:
            waits = ", ".join(f"{w.what} {w.name}" for w in step.awaits)
            raise Stuck(f"it waits for {waits or 'nothing that will come'}")
        self.now_ms = max(self.now_ms, wake)
        return self._happen(*due(self.state, self.now_ms))

    def _perform(self, command: Call | Think) -> tuple[str, dict[str, Any]]:
        if isinstance(command, Call):
            frame = self.state.frames.get(command.id.rpartition("#")[0])
            given = self.mocks.tool(command, self.program.label(frame) if frame is not None else "")
        else:
            given = self.mocks.model(command)
        if isinstance(given, Raised):
            return inputs.failed(self.program, self.state, command, given.error, "raised by a mock")
        return inputs.succeeded(self.program, self.state, command, given.value, _NOTHING_USED)

    def _answer(self, question: Question, answer: Answered) -> tuple[str, dict[str, Any]]:
        """Every answer comes from another person, so that two approvals are those of two people."""
        self._people += 1
        assert answer.option is not None
        try:
            return inputs.answered(
                self.program, self.state, question.id, answer.option, answer.form, f"person {self._people}", None
            )
        except JamError as error:
            raise Stuck(f"the answer {answer.option} in {question.state} is refused: {error.message}") from error

    def count(self, kind: str, tool: str, args: Mapping[str, Any] | None = None) -> int:
        """How many calls of a tool were `attempted`, `succeeded`, `failed` or `denied`: one for a visit of a state."""
        visits: dict[str, str] = {}
        wanted = group_key(list(args.values())) if args else None
        for draft in self.journal:
            body = draft.body
            if body.get("tool") != tool or body.get("does", "action") != "action":
                continue
            if wanted is not None and wanted != _given(body.get("args", {}), args or {}):
                continue
            visit = str(body.get("cmd", "")).rpartition(".")[0]
            if draft.kind in ("intent", "succeeded", "failed"):
                visits[visit] = "attempted" if draft.kind == "intent" and visit not in visits else draft.kind
            elif draft.kind == "denied":
                visits[f"{visit} denied"] = "denied"
        if kind == "attempted":
            return sum(1 for outcome in visits.values() if outcome != "denied")
        return sum(1 for outcome in visits.values() if outcome == kind)


def _given(args: Mapping[str, Any], names: Iterable[str]) -> str:
    """The values (in journal form) of some arguments as the text by which they are compared."""
    return group_key([from_journal(args.get(name)) for name in names])


_NOTHING_USED: dict[str, Any] = {"tokens_in": 0, "tokens_out": 0, "cost": None}


def used_by(sequence: Sequence[Any], times: int) -> Any:
    """The response for the nth use: in order, and the last one again and again."""
    return sequence[min(times, len(sequence) - 1)]
