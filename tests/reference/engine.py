"""The engine's side: `jamjet_dsl.engine.advance` in virtual time, in the same world as the reference."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Happened, Transition, advance, used_in
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.ids import base_of, frame_of
from jamjet_dsl.kernel.machine import due, initial, next_wake
from jamjet_dsl.kernel.model import Call, Mode, RunState, Think
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.recovery import recover
from jamjet_dsl.kernel.scalars import Duration, Money, Timestamp
from jamjet_dsl.kernel.values import from_journal
from jamjet_dsl.ports import Draft, SharedUse
from tests.reference.expressions import Quantity
from tests.reference.world import Landing, Outside, World, called

NOTHING = {"tokens_in": 0, "tokens_out": 0, "cost": None}


class HalfChance:
    """Jitter takes off half of what it may; questions are numbered."""

    def __init__(self) -> None:
        self._count = 0

    def question_id(self) -> str:
        self._count += 1
        return f"q{self._count}"

    def between(self, low: int, high: int) -> int:
        return (low + high) // 2


@dataclass
class Played:
    """One run of a definition in a world."""

    program: Program
    world: World
    now: int = 0
    state: RunState = field(default_factory=lambda: initial("run-1"))
    step: Transition | None = None
    journal: list[Draft] = field(default_factory=list)
    coming: list[tuple[int, int, str, int, Any]] = field(default_factory=list)
    flights: dict[str, tuple[Call | Think, Landing]] = field(default_factory=dict)
    first_start: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    probing: set[str] = field(default_factory=set)
    performed: list[tuple[int, str, str, Any]] = field(default_factory=list)
    keys: dict[tuple[str, ...], bytes] = field(default_factory=dict)
    policy: Mode = "enforce"
    uses: list[SharedUse] = field(default_factory=list)
    """What counts under limits that all runs of the principal share: there is this one."""
    _chance: HalfChance = field(default_factory=HalfChance)
    _pushed: int = 0

    def push(self, at: int, order: int, key: str, thing: Any) -> None:
        self._pushed += 1
        heapq.heappush(self.coming, (at, order, key, self._pushed, thing))

    def go(self, most: int = 5000) -> Played:
        """To the end, or to where only somebody outside can move it."""
        for n, outside in enumerate(self.world.outside):
            self.push(outside.at_ms, 2, f"{n:03}", outside)
        if self.world.crash_at is not None:
            self.push(self.world.crash_at, 3, "", None)
        self.happen(inputs.started(self.program, self.world.input, {}, "bindings", policy=self.policy))
        for _ in range(most):
            if self.step is not None and self.step.ended:
                return self
            wake = next_wake(self.state)
            if not self.coming and all(name.endswith("/remind") for name in self.state.timers):
                return self
            if wake is not None and (not self.coming or (max(wake, self.now), 1) < self.coming[0][:2]):
                self.now = max(wake, self.now)
                self.happen(*due(self.state, self.now))
                continue
            if not self.coming:
                return self
            self.now, order, key, _, thing = heapq.heappop(self.coming)
            if order == 0:
                flight = self.flights.get(key)
                if flight is not None and flight[1] is thing:
                    self.land(key)
            elif order == 2:
                self.outside(thing)
            else:
                self.crash()
        raise AssertionError("the run does not come to rest")

    def happen(self, *events: tuple[str, dict[str, Any]]) -> None:
        """One transition: apply, decide, and start what is to be started."""
        happened = [Happened(*event) for event in events]
        step = advance(
            self.program,
            self.state,
            happened,
            self.now,
            self._chance,
            lambda use: self.keys.get((use.tool, use.key)),
            lambda who, share: used_in(self.uses, who, share),
        )
        self.step, self.state = step, step.state
        self.uses += step.uses
        self.keys |= {(use.tool, use.key): use.args_digest for use in step.keys}
        for draft in step.drafts:
            self.notice(draft)
            self.journal.append(draft)
        for key in [key for key, (command, _) in self.flights.items() if command.id not in step.effects]:
            del self.flights[key]
        for draft in step.drafts:
            body, key = draft.body, self.key(draft.body.get("cmd", "#1.1"))
            if draft.kind == "intent" and body["cmd"] not in step.effects and key not in self.first_start:
                # Begun and given up in one transition: it was never sent, but it counts as a call that was made.
                self.first_start[key] = self.now
                args = {name: plain(from_journal(value)) for name, value in body.get("args", {}).items()}
                self.performed.append((self.now, key, body.get("tool", "think"), args))
        flying = {command.id for command, _ in self.flights.values()}
        for command in step.effects.values():
            parked = self.state.parked is not None and command.id not in self.state.intents
            if command.id not in flying and not parked:
                self.start(command)

    def notice(self, draft: Draft) -> None:
        """What an event means for the world."""
        body = draft.body
        if draft.kind == "recovered" and base_of(body["cmd"]) == body["cmd"]:
            self.probing.discard(body["cmd"])
            if body["how"] == "confirm":
                self.probing.add(body["cmd"])
            else:
                self.lose(body["cmd"])
        elif draft.kind == "probed" and body["happened"] is False and base_of(body["cmd"]) in self.probing:
            self.lose(base_of(body["cmd"]))
        elif draft.kind == "asked":
            options = [str(option["name"]) for option in body["options"]]
            key = self.key(body["cmd"])
            for after_ms, option, person in self.world.answers(key, options):
                answer = Outside(0, "answer", option, (body["question"], person))
                self.push(self.now + after_ms, 2, key, answer)
        elif draft.kind == "parked":
            parks = sum(event.kind == "parked" for event in self.journal)
            if parks < len(self.world.operator):
                self.push(self.now + 1000, 2, "operator", Outside(0, self.world.operator[parks]))

    def lose(self, cmd: str) -> None:
        visit = cmd.rpartition(".")[0]
        self.lost[visit] = self.lost.get(visit, 0) + 1

    def key(self, cmd: str) -> str:
        """The world's name of an effect: attempts that a crash has taken are none of its."""
        frame, _, rest = cmd.rpartition("#")
        attempt, slash, aside = rest.partition("/")
        visit, _, number = attempt.partition(".")
        return f"{frame}#{visit}.{int(number) - self.lost.get(f'{frame}#{visit}', 0)}{slash}{aside}"

    def start(self, command: Call | Think) -> None:
        key = self.key(command.id)
        if isinstance(command, Call):
            tool = self.program.defn.tools[command.tool]
            landing = self.world.lands(key, type_text(tool.result), bool(tool.raises))
            name, args = command.tool, {name: plain(value) for name, value in command.args.items()}
        else:
            landing, name, args = self.world.lands(key, type_text(command.result_type), False), "think", {}
        if command.timeout_ms is not None and landing.after_ms >= command.timeout_ms:
            landing = Landing(command.timeout_ms, error="Timeout")
        if key not in self.first_start:
            self.first_start[key] = self.now
            self.performed.append((self.now, key, name, args))
        self.flights[key] = (command, landing)
        self.push(max(self.first_start[key] + landing.after_ms, self.now), 0, key, landing)

    def land(self, key: str) -> None:
        command, landing = self.flights.pop(key)
        usage = None
        if isinstance(command, Think):
            usage = {"tokens_in": landing.tokens_in, "tokens_out": landing.tokens_out, "cost": None}
        if landing.error is not None:
            event = inputs.failed(self.program, self.state, command, landing.error, "so it goes")
        else:
            event = inputs.succeeded(self.program, self.state, command, landing.value, usage)
        self.happen(event, *due(self.state, self.now))

    def outside(self, thing: Outside) -> None:
        """Somebody outside does something; what is refused changes nothing."""
        program, state = self.program, self.state
        try:
            match thing.kind:
                case "event":
                    event = inputs.received(program, state, thing.name, thing.value, f"e{len(self.journal)}")
                case "cancel":
                    event = inputs.cancelling(program, state, "op", "", bool(thing.value))
                case "answer":
                    question, person = thing.value
                    event = inputs.answered(program, state, question, thing.name, {}, person, None)
                case "retry":
                    event = inputs.retry(program, state, "op", "")
                case _:
                    event = self.settle(thing.kind == "happened")
        except JamError:
            return
        self.happen(event)

    def settle(self, happened: bool) -> tuple[str, dict[str, Any]]:
        parked, value = self.state.parked or {}, None
        cmd = parked.get("cmd")
        intent = self.state.intents.get(cmd or "")
        if intent is not None and happened:
            tool = self.program.defn.tools[intent.body["tool"]]
            value = self.world.settled(self.key(intent.cmd), type_text(tool.result))
        return inputs.settle(self.program, self.state, happened, value, "op", "", cmd)

    def crash(self) -> None:
        """The process dies, and another takes the run over at once."""
        self.flights = {}
        records = recover(self.program, self.state)
        self.happen(*((record.kind, record.body) for record in records))


def type_text(type_: d.Type | None) -> str:
    """A type as it is written."""
    match type_:
        case None:
            return "null"
        case d.OptionalType():
            return f"{type_text(type_.item)}?"
        case d.ListType():
            return f"list<{type_text(type_.item)}>"
        case d.MoneyType():
            return "money"
        case d.Scalar():
            return str(type_.kind)
    raise AssertionError(type_)


def plain(value: Any) -> Any:
    """A value of the kernel as the reference has it."""
    match value:
        case Money():
            return Quantity(value.amount, value.currency)
        case Duration():
            return Quantity(Decimal(value.ms), "ms")
        case Timestamp():
            return Quantity(Decimal(value.ms), "at")
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            return {name: plain(item) for name, item in value.items()}
    return value


def seen(played: Played) -> dict[str, Any]:
    """What is compared, of the engine's run."""
    state, path = played.state, {}
    for draft in played.journal:
        body = draft.body
        if draft.kind == "started":
            path[""] = [played.program.agent.body.start]
        elif draft.kind == "begun":
            path[called(body["frame"])] = [body["state"]] if body.get("state") else []
        elif draft.kind == "moved":
            path[called(body["frame"])].append(body["to"])
    alive = sorted(f"{called(f.path)}:{f.state}" for f in state.frames.values() if f.phase != "ended")
    return {
        "status": "parked"
        if state.parked is not None
        else state.status
        if played.step and played.step.ended
        else "open",
        "path": path,
        "variables": {name: plain(value) for name, value in state.vars.items()},
        "output": None if state.output is None else {k: plain(v) for k, v in state.output.items() if v is not None},
        "steps": state.spent.steps,
        "tokens": state.spent.tokens,
        "cost": Decimal(state.spent.cost.split()[0]),
        "performed": sorted(
            ((at, called(cmd), *rest) for at, cmd, *rest in played.performed), key=lambda call: call[:2]
        ),
        "denied": sorted(
            (called(frame_of(e.body["cmd"])), e.body["tool"]) for e in played.journal if e.kind == "denied"
        ),
        "emitted": [
            (e.body["message"], {k: plain(from_journal(v)) for k, v in e.body["args"].items()})
            for e in played.journal
            if e.kind == "emitted"
        ],
        "where": alive if not (played.step and played.step.ended) else [],
    }


def play(definition: d.Definition, world: World) -> Played:
    """The run of a definition in a world."""
    return Played(Program.of(definition), world).go()
