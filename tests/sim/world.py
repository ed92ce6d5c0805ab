"""The world outside the engines: what tools really do, and a ledger of it that no crash can touch.

A call that was sent goes on wherever it was sent to, whatever becomes of the machine that sent it. A tool that promises
to deduplicate by key does so. People who ask the ledger whether something happened get the truth.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jamjet_dsl.kernel.model import Think
from jamjet_dsl.ports import ThinkResult, ToolContext, ToolError
from tests.sim.loop import HERE, Machine, SimLoop

if TYPE_CHECKING:
    from tests.sim.check import Checker

WRITERS = frozenset({"post", "put", "lodge", "pay", "wire", "slow", "block", "unput", "unpost", "unlodge", "close"})
PROBES = {"seen_lodge": "lodge", "seen_pay": "pay", "seen_wire": "wire"}
TOOLS = WRITERS | PROBES.keys() | {"peek", "scan"}
BLOCKING = frozenset({"block"})
"""Tools that run on threads."""
OUTCOMES = {
    "fine": 60,
    "slow": 8,
    "refused": 5,
    "unsent": 5,
    "limited": 4,
    "declared": 4,
    "dropped": 5,
    "crashed": 3,
    "hangs": 3,
    "hangs_after": 3,
    "rubbish": 3,
    "unknown": 2,
}


@dataclass
class Sent:
    """A call that has left a machine. `happened` once its effect is there; `over` once nothing more can come of it."""

    tool: str
    ref: str
    args: dict[str, Any]
    key: str | None
    value: int
    frame: str = ""
    happened: bool = False
    over: bool = False


@dataclass
class Deed:
    """One effect in the world."""

    tool: str
    ref: str
    args: dict[str, Any]
    value: int
    run_id: str
    frame: str
    """The frame that made the call: a second attempt at a whole agent or join is another one, and calls anew."""


@dataclass
class World:
    """See the module's text. `calm` once nothing goes wrong any more."""

    loop: SimLoop
    chance: random.Random
    checker: Checker
    trouble: float
    calm: bool = False
    deeds: list[Deed] = field(default_factory=list)
    by_ref: dict[tuple[str, str], list[Deed]] = field(default_factory=dict)
    by_key: dict[tuple[str, str], Deed] = field(default_factory=dict)
    flying: dict[tuple[str, str], list[Sent]] = field(default_factory=dict)
    values: int = 1000
    calls: int = 0
    on_call: Callable[[Machine, str], None] = lambda machine, tool: None
    thread_ms: int = 0

    def __post_init__(self) -> None:
        def happened(run_id: str, tool: str, ref: str, frame: str) -> bool:
            return any((d.run_id, d.frame) == (run_id, frame) for d in self.by_ref.get((tool, ref), ()))

        self.checker.truth = happened

    # ---- what an operator can find out

    def in_flight(self, tool: str, ref: str) -> bool:
        """Whether something may still come of a call that was sent."""
        return any(not sent.over for sent in self.flying.get((tool, ref), ()))

    def truth(self, tool: str, ref: str) -> Deed | None:
        """What happened."""
        return next(iter(self.by_ref.get((tool, ref), ())), None)

    # ---- tools

    def function(self, tool: str) -> Callable[..., Any]:
        """The implementation of a tool, for any engine."""

        async def call(ctx: ToolContext, **args: Any) -> Any:
            waiting, outcome = self._begin(tool, ctx, args)
            try:
                if waiting is not None:
                    await waiting
            except asyncio.CancelledError:
                self.checker.story(f"{ctx.run_id} {tool} {args.get('ref')}: cancelled")
                raise
            return outcome()

        def block(ctx: ToolContext, **args: Any) -> Any:
            _, outcome = self._begin(tool, ctx, args)
            return outcome()

        return block if tool in BLOCKING else call

    def _begin(
        self, tool: str, ctx: ToolContext, args: dict[str, Any]
    ) -> tuple[asyncio.Future[None] | None, Callable[[], Any]]:
        """Send a call. Gives what to wait for, and what the tool then gives or raises."""
        machine = HERE.get()
        assert machine is not None
        self.calls += 1
        try:
            frame = self.checker.begins(machine, tool, ctx, args)
        except Exception as problem:
            # Inside a tool this would pass for an error of the tool.
            self.checker.violated("world", f"{type(problem).__name__}: {problem}")
            raise
        self.on_call(machine, tool)
        how = "fine" if self.calm else self._draw()
        delay = self.chance.choice((0, 1, 20, 300, 900)) if how != "slow" else self.chance.choice((3000, 7000, 20000))
        ref = str(args["ref"])
        if tool in PROBES:
            return self._probe(PROBES[tool], ref, how, delay)
        if how == "declared" and ctx.promised and (tool, ctx.key) in self.by_key:
            how = "fine"  # what was done under a key is not declined under the same key
        self.checker.story(f"{ctx.run_id} {tool}({ref}, {args.get('n')}) on {machine.name}: {how}")
        if how in ("refused", "unsent", "limited", "declared"):
            return self._answer(delay), lambda: self._refuse(how, tool)
        value = self._value()
        sent = Sent(tool, ref, args, ctx.key if ctx.promised else None, value, frame)
        self.flying.setdefault((tool, ref), []).append(sent)
        arrives = how in ("fine", "slow", "rubbish", "hangs_after") or self.chance.random() < 0.5
        half = delay // 2 if how != "hangs_after" else self.chance.choice((0, 500, 3000))
        if self.loop.chance.random() < 0.3 and how in ("fine", "slow"):
            half = delay
        self._in_world(half, lambda: self._arrive(sent, ctx.run_id, arrives))
        if how in ("hangs", "hangs_after"):
            self.thread_ms = 120_000
            return self.loop.create_future(), lambda: self._answer_of(sent)
        return self._answer(max(delay, half)), lambda: self._result(how, sent)

    def _draw(self) -> str:
        if self.chance.random() > self.trouble:
            return "fine"
        return self.chance.choices(list(OUTCOMES), list(OUTCOMES.values()))[0]

    def _value(self) -> int:
        self.values += 1
        return self.values

    def _in_world(self, ms: int, callback: Callable[[], object]) -> None:
        """Later, wherever the call was sent to."""
        self.loop.world.context.copy().run(self.loop.after, ms, callback)

    def _answer(self, ms: int) -> asyncio.Future[None]:
        self.thread_ms = ms
        future: asyncio.Future[None] = self.loop.create_future()
        self._in_world(ms, lambda: None if future.done() else future.set_result(None))
        return future

    def _arrive(self, sent: Sent, run_id: str, arrives: bool) -> None:
        sent.over = True
        if not arrives:
            return
        if sent.key is not None:
            known = self.by_key.get((sent.tool, sent.key))
            if known is not None:
                sent.value, sent.happened = known.value, True
                return
        sent.happened = True
        if sent.tool not in WRITERS:
            return
        deed = Deed(sent.tool, sent.ref, sent.args, sent.value, run_id, sent.frame)
        self.deeds.append(deed)
        self.by_ref.setdefault((sent.tool, sent.ref), []).append(deed)
        if sent.key is not None:
            self.by_key[sent.tool, sent.key] = deed
        self.checker.story(f"{run_id} {sent.tool} {sent.ref}: happened")
        self.checker.happened(deed, sum(d.frame == deed.frame for d in self.by_ref[sent.tool, sent.ref]))

    def _answer_of(self, sent: Sent) -> int:
        return sent.value

    def _result(self, how: str, sent: Sent) -> Any:
        match how:
            case "dropped":
                raise ConnectionResetError("the connection was lost")
            case "crashed":
                raise ValueError("the tool has a bug")
            case "unknown":
                raise ToolError("Weird", "an error that nobody declared")
            case "rubbish":
                return {"what": "no number"}
        return sent.value

    def _refuse(self, how: str, tool: str) -> Any:
        match how:
            case "refused":
                raise ConnectionRefusedError("nobody is there")
            case "unsent":
                raise ToolError("Unavailable", "not now", definite=True)
            case "limited":
                raise ToolError(
                    "RateLimited", "too much", definite=True, retry_after_ms=self.chance.choice((None, 700, 4000))
                )
        raise ToolError("Gone" if tool == "peek" else "Declined", "no", definite=True)

    def _probe(
        self, tool: str, ref: str, how: str, delay: int
    ) -> tuple[asyncio.Future[None] | None, Callable[[], Any]]:
        """A read that tells whether a call happened: never while it is under way."""
        if how in ("hangs", "hangs_after"):
            return self.loop.create_future(), lambda: None

        def tell() -> Any:
            if how not in ("fine", "slow"):
                raise ToolError("Unavailable", "nobody knows")
            if self.in_flight(tool, ref):
                raise ToolError("Unavailable", "it is under way")
            deed = self.truth(tool, ref)
            return None if deed is None else deed.value

        return self._answer(min(delay, 900)), tell


class SimModel:
    """A model: numbers, now and then nonsense, and tokens that mostly keep to what was reserved."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def ask(self, think: Think, run_id: str) -> ThinkResult:
        """One answer."""
        world = self.world
        machine = HERE.get()
        assert machine is not None
        world.on_call(machine, "model")
        world.checker.thinks(machine, run_id, think)
        how = "fine" if world.calm else world._draw()
        if how in ("hangs", "hangs_after"):
            await world.loop.create_future()
        await world._answer(world.chance.choice((5, 200, 2500)))
        if how in ("refused", "unsent", "limited"):
            raise ToolError("Unavailable", "not now", definite=True)
        if how in ("dropped", "crashed", "unknown"):
            raise ToolError("Disconnected", "lost")
        value: Any = "words" if how == "rubbish" else world._value()
        over = world.chance.random() < 0.05
        return ThinkResult(value, world.chance.randint(1, 200), 150 if over else world.chance.randint(1, 100))


class SimThreads:
    """Threads of one machine: a job that was begun cannot be stopped, and its result comes when it comes."""

    def __init__(self, machine: Machine, world: World) -> None:
        self.machine = machine
        self.world = world

    def run(self, function: Callable[[], Any], wanted: Callable[[], bool] | None = None) -> asyncio.Future[Any]:
        """As `Threads.run`."""
        loop = self.machine.loop
        future: asyncio.Future[Any] = loop.create_future()

        def begin() -> None:
            if wanted is not None and not wanted():
                future.cancel()
                return
            self.world.thread_ms = 0
            result, error = None, None
            try:
                result = function()
            except Exception as problem:
                error = problem
            loop.after(self.world.thread_ms, lambda: settle(result, error))

        def settle(result: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        loop.call_soon(begin)
        return future

    def close(self) -> None:
        """Nothing to do."""
