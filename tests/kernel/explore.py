"""A small model checker: every order of outcomes of a program, with a crash after any event, and what must hold.

States are visited once, in an order drawn from a seed, so that a limit leaves out neither the early nor the late ones.
A move is the outcome of one effect in flight (a success, an error
that the tool declares, and for a write an error that leaves open what happened), a timer, what a person says of a call
in doubt, a cancellation, or the end of the process after any event of the transition that a move leads to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from jamjet_dsl.definition import Definition
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.budget import amount, caps_at, homes, spares, used_at
from jamjet_dsl.kernel.ids import frame_of
from jamjet_dsl.kernel.machine import apply, decide, due, initial, next_wake
from jamjet_dsl.kernel.model import ENDED, Ask, Await, Call, Event, Json, Record, RunState, SetTimer, Think
from jamjet_dsl.kernel.program import WRITES, Program
from jamjet_dsl.kernel.recovery import recover
from jamjet_dsl.kernel.state_json import decode, encode
from tests.kernel.driver import label

Made = tuple[str, dict[str, Json]]


@dataclass(frozen=True)
class Node:
    """A state in which only effects and waiting are left, and what has led to it."""

    state: RunState
    started: frozenset[str]
    """Ids that were ever started and had an intent: none is started twice, in whatever process."""
    done: frozenset[str]
    """Labels of the writes that are known to have happened."""
    crashes: int
    cancels: int
    way: tuple[str, ...] = ()


@dataclass
class Explorer:
    """Explores one program."""

    definition: Definition
    crashes: int = 1
    cancels: int = 0
    limit: int = 4000
    seed: int = 0
    ends: set[str] = field(default_factory=set)
    nodes: int = 0

    def __post_init__(self) -> None:
        self.program = Program.of(self.definition)

    def explore(self) -> Explorer:
        """Visits every state that can be reached, up to the limit. Raises AssertionError where something is wrong."""
        first = Node(initial("run-1"), frozenset(), frozenset(), self.crashes, self.cancels)
        todo = list(self._after(first, [inputs.started(self.program, {}, None, "bindings")], "start"))
        chance = Random(self.seed)
        seen: set[tuple[object, ...]] = set()
        while todo and self.nodes < self.limit:
            number = chance.randrange(len(todo))
            todo[number], todo[-1] = todo[-1], todo[number]
            node = todo.pop()
            same = (encode(replace(node.state, seq=0)), node.started, node.done, node.crashes, node.cancels)
            if same in seen:
                continue
            seen.add(same)
            self.nodes += 1
            todo += self._next(node)
        return self

    # ---- moves

    def _next(self, node: Node) -> Iterator[Node]:
        state = node.state
        if state.status in ENDED:
            self.ends.add(state.status)
            return
        commands = decide(self.program, state)
        effects = [c for c in commands if isinstance(c, Call | Think)]
        waits = any(isinstance(c, Await) and c.what != "budget" for c in commands)
        assert effects or waits or state.parked is not None, f"nothing goes on, and nothing is waited for: {node.way}"
        for effect in effects:
            again = isinstance(effect, Call) and effect.effect in WRITES and label(effect) in node.done
            assert not again, f"{label(effect)} has happened, and is made again: {node.way}"
            for name, made in self._outcomes(state, effect):
                happened = name == "ok" and isinstance(effect, Call) and effect.effect in WRITES
                done = node.done | {label(effect)} if happened else node.done
                yield from self._after(replace(node, done=done), [made], f"{label(effect)} {name}")
        wake = next_wake(state)
        if wake is not None:
            yield from self._after(node, list(due(state, wake)), "time", wake)
        doubts = sorted(cmd for cmd, intent in state.intents.items() if intent.unsettled == "doubt")
        for cmd in doubts if state.parked is not None else ():
            for happened in (True, False):
                told = inputs.settle(
                    self.program, state, happened, f"<settled {cmd}>" if happened else None, "op", "", cmd
                )
                yield from self._after(node, [told], f"settle {happened}")
        if node.cancels:
            for now in (False, True):
                said = inputs.cancelling(self.program, state, "op", "", now)
                yield from self._after(replace(node, cancels=node.cancels - 1), [said], f"cancel {now}")

    def _outcomes(self, state: RunState, effect: Call | Think) -> Iterator[tuple[str, Made]]:
        usage = {"tokens_in": 10, "tokens_out": 10, "cost": None}
        gives = isinstance(effect, Think) or self.definition.tools[effect.tool].result is not None
        value = f"<{label(effect)}>" if gives else None
        yield "ok", inputs.succeeded(self.program, state, effect, value, usage if isinstance(effect, Think) else None)
        if isinstance(effect, Think):
            yield "fails", inputs.failed(self.program, state, effect, "Unavailable", "")
            return
        declared = self.definition.tools[effect.tool]
        if effect.does == "confirm":
            yield "null", inputs.succeeded(self.program, state, effect, None)
        yield "fails", inputs.failed(self.program, state, effect, next(iter(declared.raises), "Unavailable"), "")
        if effect.effect in WRITES:
            yield "lost", inputs.failed(self.program, state, effect, "Timeout", "")

    # ---- one transition

    def _after(self, node: Node, made: list[Made], what: str, now_ms: int = 0) -> Iterator[Node]:
        """The node behind a transition, and for each of its events the one behind a crash there."""
        way = (*node.way, what)
        passed: list[tuple[RunState, frozenset[str]]] = []
        state, started = node.state, node.started
        for kind, body in made:
            state = self._apply(state, kind, body, now_ms, way)
            passed.append((state, started))
        state, started = self._settle(state, started, now_ms, way, passed)
        yield replace(node, state=state, started=started, way=way)
        if not node.crashes:
            return
        for number, (at, ids) in enumerate(passed):
            if at.status in ENDED:
                continue
            died, then = at, (*way, f"crash after event {at.seq}")
            for record in recover(self.program, at):
                died = self._apply(died, record.kind, record.body, now_ms, then)
            died, ids = self._settle(died, ids, now_ms, then, [])
            yield replace(node, state=died, started=ids, crashes=node.crashes - 1, way=then)
            assert number < 500, way

    def _settle(
        self,
        state: RunState,
        started: frozenset[str],
        now_ms: int,
        way: tuple[str, ...],
        passed: list[tuple[RunState, frozenset[str]]],
    ) -> tuple[RunState, frozenset[str]]:
        for _ in range(500):
            commands = decide(self.program, state)
            next_ = next((made for c in commands if (made := self._event(state, c)) is not None), None)
            if next_ is None:
                return state, started
            kind, body = next_
            state = self._apply(state, kind, body, now_ms, way)
            if kind == "intent":
                assert body["cmd"] not in started, f"{body['cmd']} is started a second time: {way}"
                started |= {body["cmd"]}
                self._fits(state, body["cmd"], way)
            passed.append((state, started))
        raise AssertionError(f"no end of decisions: {way}")

    def _event(self, state: RunState, command: object) -> Made | None:
        match command:
            case Record(kind, body):
                return kind, body
            case Ask(_, body):
                return "asked", {**body, "question": f"q{state.seq}"}
            case SetTimer(at_ms=at_ms, record=record, body=body):
                return record, {**body, "at_ms": at_ms}
            case Call(intent=intent) | Think(intent=intent) if intent is not None:
                return "intent", intent
            case _:
                return None

    # ---- what must hold

    def _apply(self, state: RunState, kind: str, body: dict[str, Json], now_ms: int, way: tuple[str, ...]) -> RunState:
        event = Event("run-1", state.seq + 1, max(now_ms, state.now_ms), kind, body)
        after = apply(self.program, state, event)
        loaded = decode(encode(after))
        assert loaded == after, f"a snapshot after `{kind}` loses something: {way}"
        assert decide(self.program, loaded) == decide(self.program, after), f"decided differently: {kind} {way}"
        if kind == "joined":
            under = [f.path for f in state.frames.values() if f.parent == frame_of(body["cmd"])]
            assert not under, f"joined while {under} are at work: {way}"
        if kind == "finished":
            left = [path for path, frame in state.frames.items() if frame.parent is not None]
            assert not left, f"finished while {left} are at work: {way}"
        for frame in after.frames.values():
            assert frame.parent is None or frame.parent in after.frames, f"{frame.path} is an orphan: {way}"
        assert after.seq < 300, f"no end: {way}"
        return after

    def _fits(self, state: RunState, cmd: str, way: tuple[str, ...]) -> None:
        frame = state.frames[frame_of(cmd)]
        for home in homes(state, frame.path):
            caps, used = caps_at(self.program, state, home, spares(state, frame)), used_at(state, home)
            need = state.intents[cmd].reserve
            if caps.tokens is not None and need.tokens:
                assert used.tokens + used.held_tokens <= caps.tokens, f"{cmd} does not fit: {way}"
            if caps.cost is not None and amount(need.cost):
                assert used.cost + used.held_cost <= caps.cost, f"{cmd} does not fit: {way}"
