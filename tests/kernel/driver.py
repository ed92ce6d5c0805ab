"""A synchronous shell for the kernel: scripted outcomes, simulated time, a journal in a list.

It does what `kernel/__init__.py` asks of a shell and nothing else, and checks on the way what every shell may
rely on: `apply` leaves its argument alone, and a snapshot gives the state back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jamjet_dsl.definition import Definition
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import apply, decide, due, initial, next_wake
from jamjet_dsl.kernel.model import (
    ENDED,
    Ask,
    Await,
    Call,
    CancelAction,
    Command,
    Count,
    Event,
    Mode,
    Record,
    RunState,
    SetTimer,
    Think,
)
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.records import key_refused
from jamjet_dsl.kernel.recovery import recover
from jamjet_dsl.kernel.state_json import decode, encode

NOTHING = object()
"""A scripted result that is null."""


class Crash(Exception):
    """The process dies here."""


@dataclass
class Fails:
    """A scripted error."""

    error: str
    message: str = ""
    sent: bool = True
    retry_after_ms: int | None = None


@dataclass
class Result:
    """A scripted result with its usage."""

    value: Any
    usage: dict[str, Any] | None = None
    takes_ms: int = 0
    messages: tuple[Any, ...] = ()


Script = dict[str, Any]
"""By tool or thinking state: an outcome, a list of them (the last repeats), or a function of the command."""


@dataclass
class Driver:
    """Drives one run."""

    definition: Definition
    script: Script = field(default_factory=dict)
    now_ms: int = 1_000_000
    check: bool = True
    crash_at: int | None = None
    """The process dies as the event of this number is appended: after it was stored, or with `lost` before."""
    lost: bool = False

    def __post_init__(self) -> None:
        self.program = Program.of(self.definition)
        self.state: RunState = initial("run-1")
        self.journal: list[Event] = []
        self.started: set[str] = set()
        self.performed: list[Call | Think] = []
        self.cancelled: list[str] = []
        self.questions = 0
        self.keys: dict[tuple[str, str], Any] = {}
        """What declared keys stand for: every shell keeps that, over all its runs."""
        self.flying: dict[str, Call | Think] = {}
        self.used: dict[int, tuple[int, str]] = {}
        """What all runs have used of shared limits, by rule."""

    # ---- the journal

    def append(self, kind: str, body: dict[str, Any]) -> None:
        dies = self.crash_at == len(self.journal) + 1
        if dies and self.lost:
            raise Crash
        event = Event("run-1", self.state.seq + 1, self.now_ms, kind, body)
        before = encode(self.state) if self.check else b""
        after = apply(self.program, self.state, event)
        if self.check:
            assert encode(self.state) == before, f"`{kind}` changed the state it was applied to"
            loaded = decode(encode(after))
            assert loaded == after, f"a snapshot after `{kind}` loses something"
            assert decide(self.program, loaded) == decide(self.program, after), "a snapshot is decided on differently"
        self.state = after
        self.journal.append(event)
        if dies:
            raise Crash

    def start(self, input: dict[str, Any], principal: dict[str, Any] | None = None, policy: Mode = "enforce") -> Driver:
        self.append(*inputs.started(self.program, input, principal, "bindings", policy=policy))
        return self

    # ---- the loop

    def commands(self) -> list[Command]:
        """Decides until only effects and awaits are left."""
        for _ in range(3000):
            commands = decide(self.program, self.state)
            step = next((c for c in commands if isinstance(c, Record)), None)
            if step is not None:
                assert all(isinstance(c, (Record, CancelAction)) for c in commands)
                assert sum(isinstance(c, Record) for c in commands) == 1
                self.cancelled += [c.id for c in commands if isinstance(c, CancelAction)]
                self.append(step.kind, step.body)
                continue
            again = False
            for command in commands:
                match command:
                    case Ask(body=body):
                        self.questions += 1
                        self.append("asked", {**body, "question": f"q{self.questions}"})
                        again = True
                    case SetTimer(at_ms=at_ms, record=record, body=body):
                        self.append(record, {**body, "at_ms": at_ms})
                        again = True
                    case Count(id=cmd, shares=shares):
                        told = [[s.home, s.rule, *self.used.get(s.rule, (0, "0"))] for s in shares]
                        self.append("counted", {"cmd": cmd, "used": told})
                        again = True
                    case Call(key=key, tool=tool, intent=intent) if (
                        intent is not None
                        and key is not None
                        and (self.keys.setdefault((tool, key), intent["args"]) != intent["args"])
                    ):
                        refused = key_refused(self.state, command)
                        self.append(refused.kind, refused.body)
                        again = True
                    case Call(intent=intent) | Think(intent=intent) if intent is not None:
                        self.append("intent", intent)
                        again = True
                    case _:
                        continue
                break  # what begins may leave no room for the others: they are decided anew
            if not again:
                return commands
        raise AssertionError(f"the run turns in a circle: {self.kinds[-6:]}")

    def run(self, limit: int = 2000) -> Driver:
        """Goes on until the run ends, or waits for something that time alone does not bring."""
        for _ in range(limit):
            effects = [c for c in self.commands() if isinstance(c, (Call, Think)) and c.id not in self.started]
            if effects:
                self.perform(effects[0])
            elif not self.wake():
                return self
        raise AssertionError("the run does not come to rest")

    def wake(self) -> bool:
        """Lets time pass to the next timer of a wait or a backoff; questions and events wait for the test."""
        if self.state.status in ENDED or any(isinstance(c, Await) and c.what != "timer" for c in self.commands()):
            return False
        at_ms = next_wake(self.state)
        if at_ms is None or self.state.status == "parked":
            return False
        self.pass_time(max(at_ms, self.now_ms))
        return True

    def pass_time(self, to_ms: int) -> None:
        self.now_ms = to_ms
        for kind, body in due(self.state, self.now_ms):
            self.append(kind, body)

    def perform(self, command: Call | Think) -> None:
        self.started.add(command.id)
        self.performed.append(command)
        self.append(*self.outcome(command))

    # ---- several effects at once, with outcomes in an order of the test's choice

    def begin(self) -> Driver:
        """Decides and starts every effect that is wanted; each stays in flight until `land` gives its outcome."""
        wanted = {c.id: c for c in self.commands() if isinstance(c, (Call, Think))}
        for id, command in wanted.items():
            if id not in self.started:
                self.started.add(id)
                self.performed.append(command)
        self.flying = wanted
        return self

    @property
    def flights(self) -> list[str]:
        """What is in flight, as `tool(arguments)` or the name of the state that thinks."""
        return sorted(label(command) for command in self.flying.values())

    def flight(self, name: str) -> Call | Think:
        """The one effect in flight with that label."""
        found = [command for command in self.flying.values() if label(command) == name]
        assert len(found) == 1, f"`{name}` is in flight {len(found)} times: {self.flights}"
        return found[0]

    def land(self, name: str, outcome: Any) -> Driver:
        """The outcome of the effect in flight with that label arrives, and the run goes on."""
        command = self.flight(name)
        self.append(*self.outcome(command, outcome))
        return self.begin()

    def take_over(self) -> Driver:
        """A new process takes over: nothing is in flight any more, and the run goes on."""
        self.started, self.crash_at = set(), None
        for record in recover(self.program, self.state):
            self.append(record.kind, record.body)
        return self.begin()

    def at(self, to_ms: int) -> Driver:
        """Time has passed, and the run goes on."""
        self.pass_time(to_ms)
        return self.begin()

    def outcome(self, command: Call | Think, entry: Any = None) -> tuple[str, dict[str, Any]]:
        name = command.tool if isinstance(command, Call) else command.state
        if entry is None:
            entry = self.script.get(name, Fails("Crashed", f"no script for {name}"))
        if isinstance(entry, list):
            entry = entry.pop(0) if len(entry) > 1 else entry[0]
        if callable(entry) and not isinstance(entry, (Fails, Result)):
            entry = entry(command)
        if isinstance(entry, Fails):
            return inputs.failed(
                self.program,
                self.state,
                command,
                entry.error,
                entry.message,
                sent=entry.sent,
                retry_after_ms=entry.retry_after_ms,
            )
        if not isinstance(entry, Result):
            entry = Result(None if entry is NOTHING else entry)
        self.now_ms += entry.takes_ms
        return inputs.succeeded(
            self.program, self.state, command, entry.value, entry.usage, entry.takes_ms, entry.messages
        )

    # ---- people and operators

    def answer(
        self, option: str, form: dict[str, Any] | None = None, by: str = "ann", roles: list[str] | None = None
    ) -> Driver:
        question = next(iter(self.state.questions))
        self.append(*inputs.answered(self.program, self.state, question, option, form, by, roles))
        return self.run()

    def send(self, name: str, payload: dict[str, Any], id: str = "e1") -> Driver:
        self.append(*inputs.received(self.program, self.state, name, payload, id))
        return self.run()

    def recover(self) -> Driver:
        """A new process takes over: it has started nothing yet."""
        self.started = set()
        self.crash_at = None
        for record in recover(self.program, self.state):
            self.append(record.kind, record.body)
        return self.run()

    def retry(self) -> Driver:
        self.append(*inputs.retry(self.program, self.state, "op", ""))
        return self.run()

    def settle(self, happened: bool, result: Any = None) -> Driver:
        self.append(*inputs.settle(self.program, self.state, happened, result, "op", ""))
        return self.run()

    def cancel(self, now: bool = False) -> Driver:
        self.append(*inputs.cancelling(self.program, self.state, "op", "", now))
        return self.run()

    # ---- what tests look at

    @property
    def path(self) -> list[str]:
        """The states that were entered, in order."""
        moves = [e.body["to"] for e in self.journal if e.kind == "moved"]
        return [self.program.agent.body.start, *moves]

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.journal]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event.body for event in self.journal if event.kind == kind]

    def calls(self, tool: str) -> list[Call]:
        return [c for c in self.performed if isinstance(c, Call) and c.tool == tool]


def label(command: Call | Think) -> str:
    """How a test names an effect: `tool(arguments)`, or the state that thinks."""
    if isinstance(command, Think):
        return command.state
    return f"{command.tool}({', '.join(str(value) for value in command.args.values())})"
