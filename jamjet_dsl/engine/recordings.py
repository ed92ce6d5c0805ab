"""What a run's tools and models gave, recorded for a fork whose calls are off: the same call gets the same answer, and
a call that was not made there is not made here either."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.ids import action_id, frame_of
from jamjet_dsl.kernel.model import Call, Event, RunState, Think
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.values import from_journal, from_public, to_journal
from jamjet_dsl.ports import Store, ThinkResult, ToolContext, ToolError

if TYPE_CHECKING:
    from jamjet_dsl.engine.veil import Veil

Body = dict[str, Any]
MISSING = "calls are off in this fork"
"""How the message of a call that has no recording begins."""


class NoRecording(ToolError):
    """A call that was not made in the run that a fork came from. It certainly had no effect; the fork is parked."""

    def __init__(self, command: Call | Think) -> None:
        super().__init__("Unavailable", reason(command), definite=True)


def reason(command: Call | Think) -> str:
    """Why a fork cannot go on at a call."""
    if isinstance(command, Think):
        return f"{MISSING}, and `{command.state}` asks the model what the run it came from did not ask"
    return f"{MISSING}, and `{command.tool}` was not called with these arguments in the run it came from"


def parked_body(program: Program, state: RunState, command: Call | Think) -> Body:
    """The body of the `parked` that goes with it. An action can be tried again; what a decision or `confirm` could not
    read is decided without it."""
    frame = state.frames[frame_of(command.id)]
    again = isinstance(command, Think) or command.does in ("action", "undo")
    return {
        "reason": reason(command),
        "frame": frame.path,
        "state": program.label(frame),
        "commands": ["retry", "cancel"] if again else ["cancel"],
        "cmd": action_id(frame),
    }


def digest(command: Call | Think, renamed: tuple[str, str] | None = None) -> str:
    """What makes two calls the same: the tool with its arguments, or all that the model is told. With `renamed` every
    mention of one run's id counts as one of the other's."""
    head: list[Any]
    tree: Any
    if isinstance(command, Call):
        head, tree = ["call", command.does, command.tool], to_journal(command.args)
    else:
        told = [[label, to_journal(value)] for label, value in command.given]
        head, tree = (
            ["think", command.model],
            [command.prompt, told, list(command.messages or ()), command.previous_error],
        )
    if renamed is not None:
        tree = _renamed(tree, *renamed)  # what is said of the run, not the words in which that is written here
    tree = [*head, tree] if isinstance(command, Call) else [*head, *tree]
    data = json.dumps(tree, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=to_journal)
    return hashlib.sha256(data.encode()).hexdigest()


def _renamed(tree: Any, old: str, new: str) -> Any:
    if isinstance(tree, str):
        return tree.replace(old, new)
    if isinstance(tree, Mapping):
        return {name: _renamed(item, old, new) for name, item in tree.items()}
    return [_renamed(item, old, new) for item in tree] if isinstance(tree, list | tuple) else tree


def recorded(command: Call | Think, event: Event, renamed: tuple[str, str]) -> Body:
    """The body of a `recorded` event: the outcome that a call had, under what makes it the same call in the fork."""
    kept = ("result", "happened", "error", "message", "definite", "usage", "items", "retry_after_ms", "why")
    return {
        "cmd": command.id,
        "calls": sorted({digest(command), digest(command, renamed)}),
        "outcome": event.kind,
        **{name: event.body[name] for name in kept if name in event.body},
    }


def mocked(program: Program, given: Mapping[str, Any]) -> list[Body]:
    """The bodies of `recorded` events for results (public JSON) by the name of a tool or of a thinking state.

    Raises JamError JAMR301 naming all that do not fit.
    """
    problems: list[str] = []
    bodies = []
    for name, value in given.items():
        if name in program.defn.tools:
            type_ = program.defn.tools[name].result
        else:
            think = _think(program, name)
            if think is None or think.tools:
                why = "it proposes calls" if think is not None else "there is no such tool, and no state that thinks"
                problems.append(f"{name}: {why}")
                continue
            type_ = think.result
        if type_ is None and value is not None:
            problems.append(f"{name}: it gives nothing, so write null")
        result = None if type_ is None else from_public(value, type_, program.defn, name, problems)
        if not problems:
            bodies.append({"mock": name, "outcome": "succeeded", "result": to_journal(result)})
    if problems:
        raise JamError("JAMR301", "the mocks do not fit", "give what the tool or state declares", tuple(problems))
    return bodies


def _think(program: Program, name: str) -> d.Think | None:
    """The action of the thinking state of that name, in any agent, branch or item."""
    regions = (region for plan in (program.main, *program.plans.values()) for region in plan.regions.values())
    states = (region[name] for region in regions if name in region)
    actions = (state.action for state in states if isinstance(state, d.State))
    return next((action for action in actions if isinstance(action, d.Think)), None)


class Recordings:
    """The recordings of one fork. A call is answered by what the call of the same id got, if that was the same call,
    else by the first that was: so an answer follows from the call alone, and a fork that was interrupted goes on. What
    was mocked for the fork comes before what was recorded; whether a call happened (`confirm`) cannot be mocked."""

    def __init__(self, bodies: Iterable[Body] = ()) -> None:
        self._first: dict[str, Body] = {}
        self._exact: dict[tuple[str, str], Body] = {}
        self._mocks: dict[str, Body] = {}
        self._places: dict[int, int] = {}
        for body in bodies:
            self.add(body)

    def add(self, body: Body) -> None:
        """One more recording, in the order in which the outcomes came."""
        if "mock" in body:
            self._mocks[body["mock"]] = body
            return
        self._places[id(body)] = len(self._places)
        for call in body["calls"]:
            self._first.setdefault(call, body)
            self._exact.setdefault((body["cmd"], call), body)

    def find(self, command: Call | Think) -> Body | None:
        """What the call is to get, or what the same call got; None if it was never made."""
        name = command.state if isinstance(command, Think) else command.tool
        if name in self._mocks and (isinstance(command, Think) or command.does != "confirm"):
            return self._mocks[name]
        call = digest(command)
        return self._exact.get((command.id, call)) or self._first.get(call)

    def place(self, command: Call | Think) -> int:
        """Which outcome of the original it gets, counted from the first; what is mocked comes before all of them, and
        what has no recording after."""
        body = self.find(command)
        return len(self._places) if body is None else self._places.get(id(body), -1)

    def answer(self, program: Program, command: Call | Think) -> ThinkResult:
        """The recorded outcome as a tool or a model gives it. Raises ToolError for an error, NoRecording for none."""
        body = self.find(command)
        if body is None:
            raise NoRecording(command)
        if "error" in body:
            usage, after = body.get("usage"), body.get("retry_after_ms")
            definite = bool(body.get("definite")) or None
            raise ToolError(body["error"], body["message"], definite=definite, retry_after_ms=after, usage=usage)
        if body["outcome"] == "probed":
            return ThinkResult(_confirmed(program, command, body))
        usage = body.get("usage") or {}
        cost = usage.get("cost")
        counts = usage.get("tokens_in", 0), usage.get("tokens_out", 0)
        return ThinkResult(from_journal(body["result"]), *counts, cost, messages=tuple(body.get("items", ())))


def _confirmed(program: Program, command: Call | Think, body: Body) -> Any:
    """What `confirm` gave, from what was made of it."""
    assert isinstance(command, Call)
    if body["happened"] is None:
        raise ToolError("Unavailable", str(body.get("why", "")), definite=True)
    declared = program.defn.tools[command.tool].result
    if declared is not None and declared.kind == "bool":
        return bool(body["happened"])
    return from_journal(body["result"]) if body["happened"] else None


class RecordedTools:
    """A tool host that calls nothing."""

    def __init__(self, program: Program, recordings: Recordings) -> None:
        self.recordings = recordings
        self._program = program

    async def call(
        self, call: Call, context: Callable[[], ToolContext], wanted: Callable[[], bool] | None = None
    ) -> Any:
        """What the tool gave in the run that the fork came from. Raises ToolError, NoRecording."""
        return self.recordings.answer(self._program, call).value

    def blocking(self, tool: str) -> bool:
        """Nothing occupies a thread here."""
        return False

    def missing(self, tools: Iterable[str]) -> list[str]:
        """Nothing has to be bound."""
        return []


class RecordedModels:
    """A model host that asks nobody."""

    def __init__(self, program: Program, recordings: Recordings) -> None:
        self._program = program
        self._recordings = recordings

    async def think(self, think: Think, run_id: str) -> ThinkResult:
        """What the model gave in the run that the fork came from. Raises ToolError, NoRecording."""
        return self._recordings.answer(self._program, think)

    def missing(self, models: Iterable[str | None]) -> list[str]:
        """Nothing has to be bound."""
        return []


def is_off(state: RunState) -> bool:
    """Whether the run is a fork that makes no calls."""
    return state.origin is not None and not state.origin["live"]


def calls_nothing(store: Store, run_id: str) -> bool:
    """Whether a run is a fork that makes no calls, by the first event of its journal."""
    first = next(iter(store.history(run_id)), None)
    return first is not None and first.kind == "forked" and not first.body["origin"]["live"]


def recordings_of(store: Store, run_id: str, veil: Veil | None) -> Recordings:
    """The recordings that stand at the beginning of a fork's journal."""
    found = Recordings()
    for event in store.history(run_id):
        if event.kind == "recorded":
            found.add(event.body if veil is None else veil.reveal(event.body))
        elif event.kind != "forked":
            break
    return found


def recorded_hosts(
    store: Store, program: Program, run_id: str, veil: Veil | None
) -> tuple[RecordedTools, RecordedModels]:
    """What answers for the tools and models of a fork whose calls are off."""
    found = recordings_of(store, run_id, veil)
    return RecordedTools(program, found), RecordedModels(program, found)
