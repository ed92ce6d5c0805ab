"""One seed: machines, a store, programs, people and trouble, all drawn from one number, until every run has ended."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Happened
from jamjet_dsl.engine.driver import Driver
from jamjet_dsl.engine.engine import Engine
from jamjet_dsl.ports import Lease, Store
from jamjet_dsl.store.memory import MemoryStore
from tests.sim.check import Checker, Violation
from tests.sim.disk import Disk
from tests.sim.fast import known, shortened
from tests.sim.loop import Machine, SimLoop, Spinning
from tests.sim.people import People
from tests.sim.programs import VARIANTS, Subject, fixed_names, subject
from tests.sim.world import TOOLS, SimModel, SimThreads, World

EXPECTED = frozenset({"JAMR101", "JAMR103", "JAMR106", "JAMR205", "JAMR206"})
"""What may keep an engine from driving a run: faults of its store, or another engine."""
CALM_SWEEPS = 400
"""After so many looks at a world without trouble every run must have ended."""


class SimEngine(Engine):
    """An engine whose states are compared with the journal when they are loaded and when they are committed."""

    checker: Checker

    def _load(self, lease: Lease) -> tuple[Driver, list[Happened]]:
        driver, first = super()._load(lease)
        self.checker.same_state(lease.run_id, driver.state, "loaded")
        return driver, first

    def progressed(self, run_id: str, still: bool = True) -> None:
        super().progressed(run_id, still)
        driver = self._keeper.drivers.get(run_id)
        if driver is not None and driver.state.seq % 5 == 0:
            self.checker.same_state(run_id, driver.state, "driven")


@dataclass
class Worker:
    """A machine with an engine on it. `generation` counts its restarts."""

    name: str
    machine: Machine
    engine: SimEngine
    generation: int = 0


@dataclass
class Result:
    """What came of a seed."""

    seed: int
    failure: Violation | None
    digest: str
    events: int
    effects: int
    ended: int
    lines: list[str] = field(default_factory=list)


@dataclass
class Simulation:
    """See the module's text."""

    seed: int
    tell: bool = False
    programs: int = VARIANTS
    make_store: Callable[[], Any] = MemoryStore

    def __post_init__(self) -> None:
        self.chance = random.Random(f"sim {self.seed}")
        self.loop = SimLoop(random.Random(f"loop {self.seed}"))
        self.checker = Checker(self.loop, self.tell)
        self.harsh = self.chance.choice((0.0, 0.3, 1.0, 1.0, 2.0))
        store = self.make_store()
        self.disk = Disk(
            store,
            self.checker,
            random.Random(f"disk {self.seed}"),
            faults=self.harsh * self.chance.choice((0.0, 0.01, 0.05)),
            crashes=self.harsh * self.chance.choice((0.0, 0.005, 0.02)),
        )
        self.disk.on_crash = self.crash
        self.checker.history = store.history
        self.store: Store = store
        self.world = World(
            self.loop, random.Random(f"world {self.seed}"), self.checker, self.chance.choice((0.0, 0.15, 0.4, 0.7))
        )
        self.world.on_call = self._on_call
        self.tools = {name: self.world.function(name) for name in sorted(TOOLS)}
        self.workers: dict[str, Worker] = {}
        self.calm = False
        self.spawned: list[asyncio.Task[None]] = []
        self.call_crash = self.harsh * self.chance.choice((0.0, 0.0, 0.03))
        self.people = People(self, random.Random(f"people {self.seed}"))

    # ---- machines

    def boot(self, name: str) -> None:
        """A machine starts, and its engine begins to look for work."""
        old = self.workers.get(name)
        generation = 0 if old is None else old.generation + 1
        skew = self.chance.choice((0, 0, 0, 300, -300, 1500, -1500, 3000, -3000)) if self.harsh else 0
        machine = self.loop.add(f"{name}.{generation}", skew)
        self.checker.story(f"{machine.name} starts, its clock is {skew} ms off")
        machine.context.copy().run(self._install, name, machine, generation)

    def _install(self, name: str, machine: Machine, generation: int) -> None:
        engine = SimEngine(
            self.disk.drive(machine),
            self.tools,
            {"*": SimModel(self.world)},
            machine,
            chance=SimChance(f"{self.seed} {machine.name}", machine.name),
        )
        engine.checker = self.checker
        engine.owner = machine.name
        engine._programs.threads = SimThreads(machine, self.world)  # type: ignore[assignment]
        self.workers[name] = Worker(name, machine, engine, generation)
        machine.spawn(self._work(engine))

    async def _work(self, engine: SimEngine) -> None:
        """A worker that survives what may happen to its store."""
        while True:
            try:
                await engine.work()
            except JamError as error:
                if error.code == "JAMR006":
                    return
                self._expected(error)
                await asyncio.sleep(0.5)

    def _expected(self, error: JamError) -> None:
        if error.code not in EXPECTED:
            self.checker.violated("errors", f"{error.code} {error.message}")

    def crash(self, machine: Machine) -> None:
        """A process is gone in the middle of whatever it does."""
        if machine.gone:
            return
        machine.crash()
        self.checker.unwell(machine)
        self.loop.remove(machine)
        name = machine.name.partition(".")[0]
        down = self.chance.choice((100, 1000, 5000, 20_000, 60_000)) if not self.calm else 100
        self.loop.world.context.copy().run(self.loop.after, down, lambda: self.boot(name))

    def stall(self, machine: Machine, ms: int) -> None:
        """A process stands still; it wakes and knows nothing of it."""
        if machine.gone or machine.stalled:
            return
        self.checker.story(f"{machine.name} stalls for {ms} ms")
        machine.stalled = True

        def wake() -> None:
            machine.stalled = False
            self.checker.unwell(machine)
            self.checker.story(f"{machine.name} wakes")

        self.loop.world.context.copy().run(self.loop.after, ms, wake)

    def _on_call(self, machine: Machine, tool: str) -> None:
        if not self.calm and self.call_crash and self.chance.random() < self.call_crash:
            if self.chance.random() < 0.5:
                self.loop.world.context.copy().run(
                    self.loop.after, self.chance.choice((0, 10, 400)), lambda: self.crash(machine)
                )
            else:
                self.stall(machine, self.chance.choice((3000, 16_000, 40_000)))

    async def on(self, worker: Worker, work: Callable[[SimEngine], Coroutine[Any, Any, Any]]) -> tuple[str, Any]:
        """Do something on a machine, as a caller of its engine: `ok`, `error` with the JamError, or `lost`."""
        done: asyncio.Future[tuple[str, Any]] = self.loop.create_future()
        task = worker.machine.spawn(work(worker.engine))

        def settle(task: asyncio.Task[Any]) -> None:
            if done.done():
                return
            if task.cancelled():
                done.set_result(("lost", None))
                return
            error = task.exception()
            if error is None:
                done.set_result(("ok", task.result()))
            elif isinstance(error, JamError):
                done.set_result(("error", error))
            else:
                done.set_result(("lost", error))
                if isinstance(error, Exception):
                    self.checker.violated("errors", f"{type(error).__name__}: {error}")

        task.add_done_callback(settle, context=self.loop.world.context.copy())
        self.loop.after(60_000, lambda: None if done.done() else done.set_result(("lost", None)))
        return await done

    def up(self) -> list[Worker]:
        """The machines that run."""
        return [w for w in self.workers.values() if not w.machine.gone and not w.machine.stalled]

    # ---- the course of things

    def subjects(self) -> list[Subject]:
        """The programs of this seed: mostly random ones."""
        fixed = fixed_names()
        names = []
        count = self.chance.choice((1, 1, 2, 2, 3))
        if self.chance.random() < 0.08:
            return [subject(self.chance.choice(fixed))] * count
        for _ in range(count):
            if self.chance.random() < 0.25:
                names.append(self.chance.choice(fixed))
            else:
                names.append(f"g{self.chance.randrange(self.programs)}")
        return [subject(name) for name in names]

    async def main(self) -> None:
        """Start everything, let there be trouble for a while, then calm, until all runs have ended."""
        for n in range(self.chance.choice((2, 2, 3))):
            self.boot(f"w{n}")
        starting = []
        for n, given in enumerate(self.subjects()):
            known(given)
            starting.append(asyncio.ensure_future(self.people.start(f"r{n}", given, n)))
        trouble = self.chance.choice((20_000, 90_000, 400_000, 4_000_000)) if self.harsh else 60_000
        self.spawned.append(asyncio.ensure_future(self._trouble(self.loop.wall_ms() + trouble)))
        until = self.loop.wall_ms() + trouble
        while self.loop.wall_ms() < until and not self._over(starting):
            await self.loop.pause(self.chance.choice((300, 2000, 2000, 15_000, 60_000)))
            await self.people.look()
        self._become_calm()
        for sweep in range(CALM_SWEEPS):
            if self._over(starting):
                return
            await self.loop.pause(2000 if sweep < 40 else 30_000 if sweep < 100 else 600_000)
            await self.people.look()
        left = [run_id for run_id, book in self.checker.books.items() if book.events and not book.ended]
        shown = {run_id: (s := self.store.summary(run_id), s.waiting_for)[0] for run_id in left}
        self.checker.violated("every run ends", f"{shown}")

    def _over(self, starting: list[asyncio.Task[None]]) -> bool:
        if self.checker.failure is not None:
            return True
        return all(task.done() for task in starting) and all(b.ended for b in self.checker.books.values())

    def _become_calm(self) -> None:
        self.checker.story("calm")
        self.calm = self.world.calm = self.people.calm = True
        self.disk.faults = self.disk.crashes = self.disk.full_until_ms = 0

    async def _trouble(self, until_ms: int) -> None:
        """Crashes and stalls at any time."""
        pace = self.chance.choice((4000, 20_000, 100_000))
        while self.harsh and not self.calm and self.loop.wall_ms() < until_ms:
            await self.loop.pause(1 + int(self.chance.expovariate(1 / pace) / self.harsh))
            up = self.up()
            if not up or self.calm:
                continue
            worker = self.chance.choice(up)
            match self.chance.random():
                case x if x < 0.35:
                    self.checker.story(f"{worker.machine.name} crashes")
                    self.crash(worker.machine)
                case x if x < 0.75:
                    self.stall(worker.machine, self.chance.choice((500, 9000, 16_000, 30_000, 70_000)))
                case x if x < 0.85:
                    self.spawned.append(asyncio.ensure_future(self._replace(worker)))
                case _:
                    self.disk.full_until_ms = self.loop.wall_ms() + self.chance.choice((0, 500, 8000))

    async def _replace(self, worker: Worker) -> None:
        """A machine is taken out of service properly, and another one in its place."""
        self.checker.story(f"{worker.machine.name} is closed")
        self.checker.unwell(worker.machine)
        await self.on(worker, lambda engine: engine.close(5000))
        if not worker.machine.gone:
            self.crash(worker.machine)

    def run(self) -> Result:
        """The whole seed."""
        try:
            asyncio.set_event_loop(None)
            self.loop.run_until_complete(self.main())
        except Spinning:
            self.checker.violated("no run is stuck", "an engine turns in a circle while no time passes")
        finally:
            self.loop.close()
        books = self.checker.books
        digest = hashlib.sha256()
        for run_id in sorted(books):
            for event in books[run_id].events:
                digest.update(event.hash.encode())
        if self.checker.failure is None:
            for book in books.values():
                problem = self.checker.proves(book) if self.seed % 4 == 0 else None
                if problem is not None:
                    self.checker.violated("fold", f"{book.run_id}: {problem}")
        return Result(
            self.seed,
            self.checker.failure,
            digest.hexdigest(),
            self.checker.events,
            len(self.world.deeds),
            sum(book.ended for book in books.values()),
            self.checker.lines if self.checker.lines is not None else [line for _, line in self.checker.recent[-25:]],
        )


class SimChance:
    """Chance of one engine; ids are unique over all machines."""

    def __init__(self, seed: str, name: str) -> None:
        self._random = random.Random(seed)
        self._name = name
        self._count = 0

    def question_id(self) -> str:
        """An id that no other machine draws."""
        self._count += 1
        return f"q{self._count}-{self._name}"

    def between(self, low: int, high: int) -> int:
        """As `random.randint`."""
        return self._random.randint(low, high)


def simulate(seed: int, tell: bool = False, programs: int = VARIANTS) -> Result:
    """Run one seed with so many random programs to draw from. The same seed gives the same journals, byte for byte."""
    made = random.Random(f"constants {seed}")
    with shortened(500, made.choice((7, 20, 200)), made.choice((1, 5, 20)), whole=seed % 16 == 15):
        return Simulation(seed, tell, programs=programs).run()
