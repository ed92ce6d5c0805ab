"""What may happen next to a run that is at rest: outcomes, answers, events, timers, a crash, a budget used up.

Everything that can happen to a run in an engine is one of these, or the same to the program as one of them: errors
that no clause tells apart are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.errors import INDEFINITE, NOT_SENT
from jamjet_dsl.kernel.fold import TIME_TIMER
from jamjet_dsl.kernel.ids import frame_of
from jamjet_dsl.kernel.model import Await, Call, Frame, RunState, Think
from jamjet_dsl.kernel.program import WRITES
from jamjet_dsl.kernel.recovery import recover
from jamjet_dsl.verify.program import AbstractProgram

Events = list[tuple[str, dict[str, Any]]]
MISFIT = "a call that does not fit"
"""What a model may propose beside the tools: arguments that a tool does not take."""
_ORDINARY = ("Unavailable", "Timeout")
"""What stands for all errors that nobody names: one after which nothing was done, and one that leaves that open."""


class Move(NamedTuple):
    """One thing that may happen. `kind`: gives, fails, answers, sends, fires, cancels, dies; `what` is the tool, the
    state that thinks or asks, the event or the timer; `how` the error, option or proposed tool. `cmd` is the effect,
    question or timer that it is about."""

    kind: str
    what: str
    how: str = ""
    cmd: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "gives":
                return f"{self.what} proposes {self.how}" if self.how else f"{self.what} succeeds"
            case "fails":
                return f"{self.what} fails: {self.how}"
            case "answers":
                return f"a person answers {self.how} in {self.what}"
            case "sends":
                return f"the event {self.what} comes"
            case "fires":
                return "the budget is used up" if self.how == "budget" else f"the time of {self.what} is over"
            case "cancels":
                return "an operator cancels the run"
            case "confirms":
                return f"confirming {self.what}: {self.how}"
        return "the process dies, and another takes the run over"


def moves(
    program: AbstractProgram, state: RunState, effects: dict[str, Call | Think], awaits: list[Await]
) -> list[Move]:
    """What may happen to a run at rest, each once."""
    found: list[Move] = []
    for command in effects.values():
        found += _outcomes(program, state, command)
    for question in state.questions.values():
        found += [Move("answers", question.state, str(o["name"]), question.id) for o in question.body["options"]]
    found += [Move("sends", name) for name in _events(program, state, awaits)]
    for timer in state.timers:
        what = "budget" if timer.endswith(TIME_TIMER) else ""
        frame = state.frames.get(frame_of(timer)) if not what else None
        found.append(Move("fires", program.label(frame) if frame is not None else timer, what, timer))
    if state.cancelling is None and "cancel" in program.main.handlers:
        found.append(Move("cancels", ""))
    if any(isinstance(c, Call) and c.effect in WRITES and c.id in state.intents for c in effects.values()):
        found.append(Move("dies", ""))
    return found


def _outcomes(program: AbstractProgram, state: RunState, command: Call | Think) -> Iterator[Move]:
    if isinstance(command, Call) and command.does == "confirm":
        for how in ("it happened", "it did not", "unknown"):
            yield Move("confirms", command.tool, how, command.id)
        return
    what = command.tool if isinstance(command, Call) else command.state
    if isinstance(command, Think) and command.tools:
        for tool in (*command.tools, MISFIT):
            yield Move("gives", what, tool, command.id)
    yield Move("gives", what, "", command.id)
    for error in _errors(program, state.frames[frame_of(command.id)], command):
        yield Move("fails", what, error, command.id)


def _errors(program: AbstractProgram, frame: Frame, command: Call | Think) -> list[str]:
    """The errors that a clause names, and one or two that stand for all others."""
    named: set[str] = set()
    tool = command.tool if isinstance(command, Call) else None
    for retry in program.retries(frame, tool):
        named.update(retry.errors)
    for edge in program.spot(frame).others.get("error", ()):
        named.update(edge.errors)
    for handler in program.plan(frame).handlers.get("error", ()):
        named.update(handler.errors)
    raises = program.defn.tools[tool].raises if tool is not None else ()
    possible = INDEFINITE | NOT_SENT | set(raises)
    found = [*sorted(named & possible)]
    writes = isinstance(command, Call) and command.effect in WRITES
    for one in _ORDINARY if writes else _ORDINARY[:1]:
        found += [one] if one not in found else []
    others = sorted(name for name in raises if name not in named)
    return found + others[:1]


def _events(program: AbstractProgram, state: RunState, awaits: list[Await]) -> list[str]:
    """The events that a state waits for or would take on its way."""
    wanted = {wait.name for wait in awaits if wait.what == "event"}
    for frame in state.frames.values():
        wanted |= program.spot(frame).takes
    return sorted(wanted - {event["name"] for event in state.queue})


# ---- what a move is in events


class Ruled(Exception):
    """It cannot happen here: the kernel refuses it."""


def events_of(program: AbstractProgram, state: RunState, effects: dict[str, Call | Think], move: Move) -> Events:
    """The events of a move, in a state that it is possible in. Raises Ruled."""
    try:
        match move.kind:
            case "gives" | "fails" | "confirms":
                return [_landed(program, state, effects[move.cmd], move)]
            case "answers":
                return [_answer(program, state, move)]
            case "sends":
                fields = _fields_of(program, move.what)
                payload = {field.name: program.oracle.fresh() for field in fields}
                return [inputs.received(program, state, move.what, payload, f"event {move.what}")]
            case "fires":
                return [("fired", {"id": move.cmd})]
            case "cancels":
                return [inputs.cancelling(program, state, "an operator", "", False)]
            case _:
                return [(record.kind, record.body) for record in recover(program, state)]
    except JamError as error:
        raise Ruled(error.message) from None


def _landed(program: AbstractProgram, state: RunState, command: Call | Think, move: Move) -> tuple[str, dict[str, Any]]:
    if move.kind == "fails":
        return inputs.failed(program, state, command, move.how, "chosen")
    value: Any = program.oracle.fresh()
    if move.kind == "confirms":
        if move.how == "unknown":
            return inputs.failed(program, state, command, "Unavailable", "chosen")
        value = None if move.how == "it did not" else value
    elif isinstance(command, Think) and command.tools:
        tool = program.oracle.fresh() if move.how == MISFIT else move.how
        call = {"tool": tool, "args": _args(program, move.how)}
        value = {"call": call} if move.how else {"text": value}
    return inputs.succeeded(program, state, command, value, _USAGE if isinstance(command, Think) else None)


_USAGE = {"tokens_in": 0, "tokens_out": 0, "cost": None}


def _args(program: AbstractProgram, tool: str) -> dict[str, Any]:
    known = program.defn.tools.get(tool)
    return {param.name: program.oracle.fresh() for param in known.params} if known is not None else {}


def _answer(program: AbstractProgram, state: RunState, move: Move) -> tuple[str, dict[str, Any]]:
    question = state.questions[move.cmd]
    action = program.action(state.frames[question.frame])
    form = {field.name: program.oracle.fresh() for field in action.form} if isinstance(action, d.Ask) else {}
    who = f"person {len(question.approvals) + 1}"
    return inputs.answered(program, state, question.id, move.how, form, who, None)


def _fields_of(program: AbstractProgram, event: str) -> tuple[d.FieldDef, ...]:
    for agent in program.defn.agents.values():
        if event in agent.events:
            return agent.events[event].fields
    return ()
