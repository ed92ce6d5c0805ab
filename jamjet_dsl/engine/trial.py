"""A program under faults, in simulated time: what it does not survive, and what its tools do twice.

A trial is one run in a world where calls fail, hang, time out,
answer rubbish, or happen and lose their answer, and where the process dies between two events and another takes the
run over. Everything is drawn from one seed, so a trial can be had again. Nothing outside is called.

The world keeps a ledger of what really happened, which the program does not see: `confirm` tools answer from it, and
what stands in it twice was done twice.
"""

from __future__ import annotations

import heapq
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Transition
from jamjet_dsl.engine.samples import Samples
from jamjet_dsl.engine.virtual import Virtual
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.ids import base_of, frame_of
from jamjet_dsl.kernel.machine import due, initial, next_wake
from jamjet_dsl.kernel.model import Call, Question, RunState, Think
from jamjet_dsl.kernel.program import WRITES, Program
from jamjet_dsl.kernel.recovery import recover

MAX_TRANSITIONS = 20_000
"""More than any program with a budget takes; what goes on for longer is reported as endless."""
_LANDS_MS = (5, 5_000)
_ANSWERS_MS = (1_000, 100_000)
_CONFUSED = 20
"""Answers that may be refused (who has approved may not approve again) before nobody is asked any more."""

Fault = Literal["error", "hang", "lost", "rubbish"]
FAULTS: tuple[Fault, ...] = ("error", "hang", "lost", "rubbish")
"""What may happen to a call: it fails; it never answers; it happens and its answer is lost; it answers what does not
fit. A process that dies is no fault of a call: `crash`."""
_DEFINITE = ("Unavailable", "RateLimited")


class Typical(NamedTuple):
    """What is known of a program beside its types, from its tests or its user: inputs, and what tools and states that
    ask a model give when nothing goes wrong, as public JSON."""

    inputs: tuple[Any, ...] = ()
    results: Mapping[str, tuple[Any, ...]] = {}


@dataclass(slots=True)
class Done:
    """A call that happened: how often under this key, or in this visit of a state where it has none."""

    tool: str
    key: str | None
    result: Any
    times: int = 0


@dataclass(slots=True)
class Ended:
    """How a trial ended. `status` is that of the run, `parked`, `doubt` (parked because nobody knows whether a call
    happened), `waiting` (for what will never come) or `endless`; `where` names the state, `why` what is missing there,
    `error` the error that nothing handled."""

    status: str
    where: str = ""
    why: str = ""
    tool: str = ""
    error: str = ""


class _Flight(NamedTuple):
    command: Call | Think
    value: Any
    error: str | None


@dataclass(slots=True)
class Trial(Virtual):
    """One run of a program under the faults of a seed."""

    faults: tuple[Fault, ...] = FAULTS
    crashes: bool = True
    typical: Typical = field(default_factory=Typical)
    state: RunState = field(default_factory=lambda: initial("trial"))
    tried: list[tuple[str, str]] = field(default_factory=list)
    """The faults that were put in: of which sort, and into what (a tool, or a state that asks a model)."""
    crashed_at: list[int] = field(default_factory=list)
    """After how many events the process died."""
    done: dict[tuple[str, str], Done] = field(default_factory=dict)
    _random: random.Random = field(init=False)
    _samples: Samples = field(init=False)
    _rate: float = field(init=False)
    _dies: list[int] = field(init=False)
    _coming: list[tuple[int, int, str, Any]] = field(default_factory=list)
    _pushed: int = 0
    _flights: dict[str, _Flight] = field(default_factory=dict)
    _asked: set[tuple[str, int]] = field(default_factory=set)
    _awaited: set[str] = field(default_factory=set)
    _people: int = 0
    _step: Transition | None = None

    def __post_init__(self) -> None:
        Virtual.__post_init__(self)
        self._random = random.Random(self.seed)
        self._samples = Samples(self.program.defn, self._random)
        # Faults one at a time show most clearly what is missing; many at once find what only happens together.
        self._rate = self._random.choice((0.0, 0.1, 0.3, 0.6))
        deaths = self._random.choice((0, 1, 1, 2, 4)) if self.crashes else 0
        within = self._random.choice((6, 15, 60))
        self._dies = sorted(self._random.randint(1, within) for _ in range(deaths))

    def run(self) -> Ended:
        """Run to the end, or to where nothing will happen any more. Raises JamError JAMR301 for an input that does not
        fit."""
        known = self.typical.inputs
        given = self._random.choice(known) if known else self._samples.fields(self.program.agent.inputs)
        self._happen(inputs.started(self.program, given, {}, "trial"))
        for _ in range(MAX_TRANSITIONS):
            step = self._step
            assert step is not None
            if step.ended:
                return Ended(self.state.status, self.state.final_state or "")
            if self.state.parked is not None:
                return self._parked(self.state.parked)
            if self._dies and len(self.journal) >= self._dies[0]:
                self._crash()
                continue
            self._outside(step)
            if not self._next():
                return self._stuck(step)
        return Ended("endless", why=f"it did not end within {MAX_TRANSITIONS:,} transitions")

    def repeated(self) -> list[Done]:
        """What was done more than once: under one key, or without one."""
        return [done for done in self.done.values() if done.times > 1]

    # ---- time

    def _push(self, after_ms: int, kind: str, thing: Any) -> None:
        self._pushed += 1
        heapq.heappush(self._coming, (self.now_ms + after_ms, self._pushed, kind, thing))

    def _next(self) -> bool:
        """What comes next in time. False if nothing does."""
        wake = next_wake(self.state)
        if wake is not None and (not self._coming or wake <= self._coming[0][0]):
            self.now_ms = max(self.now_ms, wake)
            self._happen(*due(self.state, self.now_ms))
            return True
        if not self._coming:
            return False
        self.now_ms, _, kind, thing = heapq.heappop(self._coming)
        match kind:
            case "lands":
                self._land(thing)
            case "answer":
                self._answer(*thing)
            case "event":
                self._send(thing)
        return True

    def _happen(self, *events: tuple[str, dict[str, Any]]) -> None:
        self._step = step = self.happen(*events)
        for name in [name for name in self._flights if name not in step.effects]:
            del self._flights[name]
        if self.state.parked is None:
            for command in step.effects.values():
                if command.id not in self._flights:
                    self._start(command)

    # ---- calls

    def _start(self, command: Call | Think) -> None:
        """An effect begins. What comes of it, and whether it happens, is decided here."""
        flight, after_ms = self._drawn(command), self._random.randint(*_LANDS_MS)
        self._flights[command.id] = flight
        late = command.timeout_ms is not None and (flight.error == "hang" or after_ms >= command.timeout_ms)
        if late:
            assert command.timeout_ms is not None
            self._flights[command.id] = flight = _Flight(command, None, "Timeout")
            after_ms = command.timeout_ms
        if flight.error != "hang":
            self._push(after_ms, "lands", flight)

    def _drawn(self, command: Call | Think) -> _Flight:
        value = self._result(command)
        if not self.faults or self._random.random() >= self._rate:
            self._perform(command, value)
            return _Flight(command, value, None)
        fault = self._random.choice(self.faults)
        rubbish = self._samples.misfit(_type_of(self.program, command)) if fault == "rubbish" else None
        if fault == "rubbish" and rubbish is None:
            fault = "error"
        self.tried.append((fault, command.tool if isinstance(command, Call) else command.state))
        if fault == "error":
            raises = self.program.defn.tools[command.tool].raises if isinstance(command, Call) else ()
            return _Flight(command, None, self._random.choice((*raises, *_DEFINITE)))
        if fault != "hang" or self._random.random() < 0.5:
            self._perform(command, value)
        if fault == "rubbish":
            return _Flight(command, rubbish, None)
        return _Flight(command, None, "hang" if fault == "hang" else "Disconnected")

    def _result(self, command: Call | Think) -> Any:
        """What the effect gives if nothing goes wrong."""
        if isinstance(command, Call) and command.does == "confirm":
            held = self.done.get(_promise(self.state, base_of(command.id)))
            return None if held is None else held.result
        known = self.typical.results.get(command.tool if isinstance(command, Call) else command.state, ())
        if known and self._random.random() < 0.7:
            return self._random.choice(known)
        if isinstance(command, Think) and command.tools:
            return self._samples.move(command.tools)
        return self._samples.value(_type_of(self.program, command))

    def _perform(self, command: Call | Think, result: Any) -> None:
        """It happens, whatever the program hears of it. The same key gets the same result again, as from a tool that
        keeps its promise; that it was asked twice is what is told."""
        if not isinstance(command, Call) or command.effect not in WRITES or command.does == "confirm":
            return
        done = self.done.setdefault(_promise_of(command), Done(command.tool, command.key, result))
        done.times += 1

    def _land(self, flight: _Flight) -> None:
        command = flight.command
        if self._flights.get(command.id) is not flight:
            return
        del self._flights[command.id]
        if flight.error is not None:
            event = inputs.failed(self.program, self.state, command, flight.error, "put in by the simulation")
        else:
            usage = _USAGE if isinstance(command, Think) else None
            event = inputs.succeeded(self.program, self.state, command, flight.value, usage)
        self._happen(event, *due(self.state, self.now_ms))

    def _crash(self) -> None:
        """The process dies between two events, and another takes the run over."""
        self._dies.pop(0)
        self.crashed_at.append(len(self.journal))
        self._flights.clear()
        self._coming = [item for item in self._coming if item[2] != "lands"]
        heapq.heapify(self._coming)
        self._happen(*((record.kind, record.body) for record in recover(self.program, self.state)))

    # ---- people, and other systems

    def _outside(self, step: Transition) -> None:
        """Somebody will answer what is asked, and send what is waited for; sometimes too late, where there is a time
        for it."""
        for question in self.state.questions.values():
            turn = (question.id, len(question.approvals))
            if turn not in self._asked:
                self._asked.add(turn)
                if question.expires_at_ms is None or self._random.random() < 0.8:
                    self._push(self._random.randint(*_ANSWERS_MS), "answer", (question.id, _CONFUSED))
        for wait in step.awaits:
            if wait.what == "event" and wait.id not in self._awaited:
                self._awaited.add(wait.id)
                if wait.at_ms is None or self._random.random() < 0.8:
                    self._push(self._random.randint(*_ANSWERS_MS), "event", wait.name)

    def _answer(self, question_id: str, tries: int) -> None:
        question = self.state.questions.get(question_id)
        if question is None or not tries:
            return
        self._people += 1
        options = [str(option["name"]) for option in question.body["options"]]
        form = self._samples.fields(self._form(question))
        try:
            option = self._random.choice(options)
            who = f"person {self._people}"
            event = inputs.answered(self.program, self.state, question_id, option, form, who, None)
        except JamError:
            self._push(1_000, "answer", (question_id, tries - 1))
            return
        self._happen(event)

    def _form(self, question: Question) -> Any:
        action = self.program.action(self.state.frames[question.frame])
        return getattr(action, "form", ())

    def _send(self, name: str) -> None:
        for agent in self.program.defn.agents.values():
            if name in agent.events:
                payload = self._samples.fields(agent.events[name].fields)
                try:
                    event = inputs.received(self.program, self.state, name, payload, f"e{len(self.journal)}")
                except JamError:
                    return
                self._happen(event)
                return

    # ---- ends

    def _parked(self, body: Mapping[str, Any]) -> Ended:
        where = self._place(str(body.get("frame", "")), str(body.get("state", "")))
        why, tool = str(body.get("reason", "")), self._tool_of(str(body.get("cmd", "")))
        if any(command.startswith("settle") for command in body.get("commands", ())):
            return Ended("doubt", where, why, tool)
        error = _ERROR.match(why)
        return Ended("parked", where, why, tool, "" if error is None else error[1])

    def _stuck(self, step: Transition) -> Ended:
        for flight in self._flights.values():
            command = flight.command
            name = command.tool if isinstance(command, Call) else "the model"
            where = self._place(frame_of(command.id), command.state if isinstance(command, Think) else "")
            return Ended("waiting", where, f"`{name}` never answers, and nothing limits how long it may take", name)
        waits = ", ".join(f"{wait.what} {wait.name}" for wait in step.awaits)
        return Ended("waiting", self._place("", ""), f"it waits for {waits or 'nothing that will come'}")

    def _place(self, path: str, state: str) -> str:
        frame = self.state.frames.get(path)
        return self.program.label(frame) if frame is not None else state

    def _tool_of(self, cmd: str) -> str:
        found = [draft.body.get("tool", "") for draft in self.journal if draft.body.get("cmd") == cmd]
        return next((str(tool) for tool in reversed(found) if tool), "")


_ERROR = re.compile(r"([A-Z]\w*): ")
_USAGE = {"tokens_in": 1, "tokens_out": 1, "cost": None}


def _promise_of(command: Call) -> tuple[str, str]:
    """What a call stands in the ledger under: its key, or the visit of the state that makes it."""
    return command.tool, command.key if command.key is not None else command.id.rpartition(".")[0]


def _promise(state: RunState, cmd: str) -> tuple[str, str]:
    """The same of a call that is in doubt, by its intent."""
    intent = state.intents.get(cmd)
    if intent is None:
        return "", ""
    key = intent.body.get("key")
    return str(intent.body["tool"]), str(key) if key is not None else cmd.rpartition(".")[0]


def _type_of(program: Program, command: Call | Think) -> Any:
    return program.defn.tools[command.tool].result if isinstance(command, Call) else command.result_type
