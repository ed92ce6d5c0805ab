"""People and other systems: they start runs, answer late, twice and wrongly, and look after what is stuck."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import ENDED
from jamjet_dsl.ports import QuestionRow, RunSummary
from tests.sim.programs import Subject

if TYPE_CHECKING:
    from tests.sim.run import Simulation, Worker

PERSONS = ("ann", "bob", "cy")
EXPECTED = frozenset({"JAMR101", "JAMR103", "JAMR106", "JAMR006"}) | {
    "JAMR201",
    "JAMR204",
    "JAMR205",
    "JAMR206",
    "JAMR401",
    "JAMR402",
    "JAMR403",
    "JAMR404",
    "JAMR405",
    "JAMR406",
    "JAMR407",
    "JAMR408",
    "JAMR409",
}
"""What an engine may say to a person."""
STUCK_MS = 1_800_000
PATIENCE = 150
"""Looks at one run in calm after which it is cancelled: a run that goes in a circle ends like that."""


class People:
    """See the module's text. Whatever they do, they do by the public face of some engine."""

    def __init__(self, sim: Simulation, chance: random.Random) -> None:
        self.sim = sim
        self.chance = chance
        self.calm = False
        self.sent = 0
        self.looks: dict[str, int] = {}
        self.moved: dict[str, tuple[int, int]] = {}

    async def start(self, run_id: str, given: Subject, x: int) -> None:
        """Start a run; whoever does not hear of it tries again."""
        sim = self.sim
        sim.checker.began(run_id, given)
        sim.checker.story(f"{run_id} is {given.name}")
        await sim.loop.pause(self.chance.choice((0, 10, 3000, 30_000)))
        while not sim.checker.books[run_id].events or self.chance.random() < 0.2:
            worker = self._somebody()
            if worker is None:
                await sim.loop.pause(1000)
                continue
            self._heard(
                await sim.on(
                    worker,
                    lambda engine: engine.start(
                        given.compiled,
                        {"x": x},
                        id=run_id,
                        principal={"id": "ann", "roles": ["officer"]},
                        if_exists="attach",
                    ),
                )
            )
            await sim.loop.pause(self.chance.choice((100, 4000)))

    def _somebody(self) -> Worker | None:
        up = self.sim.up()
        return self.chance.choice(up) if up else None

    def _heard(self, answer: tuple[str, Any]) -> None:
        how, error = answer
        if how == "error" and error.code not in EXPECTED:
            self.sim.checker.violated("errors", f"a person was told {error.code}: {error.message}")

    async def look(self) -> None:
        """See what waits for somebody, and do something about it, or not."""
        for summary in self.sim.store.summaries():
            if summary.status in ENDED:
                continue
            self._named(summary)
            if self.sim.checker.failure is not None:
                return
            if self.calm or self.chance.random() < 0.6:
                await self._see_to(summary)

    def _named(self, summary: RunSummary) -> None:
        """Without trouble a run goes on, or it says for whom it waits."""
        sim = self.sim
        now = sim.loop.wall_ms()
        seq, since = self.moved.get(summary.run_id, (-1, now))
        if seq != summary.last_seq:
            seq, since = summary.last_seq, now
        if not self.calm:
            since = now
        self.moved[summary.run_id] = (seq, since)
        if summary.status != "running" and not summary.waiting_for:
            sim.checker.violated("named", f"{summary.run_id} is {summary.status} and waits for nothing")
        for wait in summary.waiting_for:
            if wait["kind"] == "operator" and not wait["commands"]:
                sim.checker.violated("named", f"{summary.run_id} is parked for ever")
        stuck = now - since > STUCK_MS
        if stuck and summary.status == "running":
            sim.checker.violated("no run is stuck", f"{summary.run_id} does not go on at event {seq}")
        overdue = summary.wake_at_ms is not None and now - summary.wake_at_ms > STUCK_MS
        book = sim.checker.books[summary.run_id]
        lost = [t for t, at in book.timers.items() if t not in book.fired and now - at > STUCK_MS and book.current(t)]
        parked = summary.status == "parked"
        if stuck and (overdue or (lost and not parked)):
            sim.checker.violated("timers", f"{summary.run_id} sleeps through {summary.wake_at_ms or lost}")

    async def _see_to(self, summary: RunSummary) -> None:
        run_id = summary.run_id
        if self.calm:
            self.looks[run_id] = self.looks.get(run_id, 0) + 1
            if self.looks[run_id] > PATIENCE and self.looks[run_id] % 10 == 0:
                await self._do("cancel", run_id, by="ann", now=self.looks[run_id] > PATIENCE + 40)
                return
        elif self.chance.random() < 0.02:
            await self._do("cancel", run_id, by="ann", now=self.chance.random() < 0.3)
        for wait in summary.waiting_for:
            match wait["kind"]:
                case "question":
                    await self._answer(run_id, wait["id"])
                case "event":
                    await self._send(run_id, wait["name"])
                case "operator":
                    await self._operate(run_id, wait)
        if not self.calm and self.chance.random() < 0.05:
            await self._send(run_id, "go")

    # ---- what they do

    async def _do(self, what: str, *args: Any, **more: Any) -> None:
        worker = self._somebody()
        if worker is not None:
            self.sim.checker.story(f"{what} {args} {more} on {worker.machine.name}")
            self._heard(await self.sim.on(worker, lambda engine: getattr(engine, what)(*args, **more)))

    async def _answer(self, run_id: str, question: str) -> None:
        try:
            row: QuestionRow = self.sim.store.find_question(question)
        except JamError:
            return
        options = [option["name"] for option in row.body["options"]]
        option = self.chance.choice([*options, options[0], options[0]])
        who = self.chance.choice(PERSONS)
        roles = ["officer"]
        form: dict[str, Any] = {"k": self.chance.randint(1, 9)} if row.body.get("form") else {}
        if not self.calm and self.chance.random() < 0.15:
            option, roles, form = self.chance.choice(
                (("nonsense", roles, form), (option, ["clerk"], form), (option, roles, {"zzz": 1}))
            )
        for _ in range(2 if self.chance.random() < 0.2 else 1):
            by = {"id": who, "roles": roles}
            if self.chance.random() < 0.3:
                worker = self._somebody()
                if worker is not None:
                    self.sim.checker.story(f"answer {question} {option} by {who}, not waited for")
                    worker.machine.spawn(self._quietly(worker, question, option, by, form))
                continue
            await self._do("answer", question, option, by=by, form=form)

    async def _quietly(self, worker: Worker, question: str, option: str, by: Any, form: dict[str, Any]) -> None:
        try:
            await worker.engine.answer(question, option, by=by, form=form)
        except JamError as error:
            self._heard(("error", error))

    async def _send(self, run_id: str, name: str) -> None:
        self.sent += 1
        wrong = not self.calm and self.chance.random() < 0.1
        payload = {"k": "x"} if wrong else {"k": self.chance.randint(1, 9)}
        for _ in range(2 if self.chance.random() < 0.3 else 1):
            await self._do("send", run_id, name, payload, dedupe=f"e{self.sent}")

    async def _operate(self, run_id: str, wait: dict[str, Any]) -> None:
        """An operator's move on a parked run. What is told about a call in doubt is the truth."""
        commands = wait["commands"]
        if any(command.startswith("settle") for command in commands):
            await self._settle(run_id, wait)
            return
        if not self.calm and self.chance.random() < 0.3:
            return
        if "retry" in commands and self.chance.random() < 0.6:
            await self._do("retry", run_id, by="ann", note="again")
        elif "cancel" in commands:
            await self._do("cancel", run_id, by="ann", now=self.chance.random() < 0.3)

    async def _settle(self, run_id: str, wait: dict[str, Any]) -> None:
        book = self.sim.checker.books[run_id]
        cmd = wait.get("cmd")
        doubts = [c for c, a in book.attempts.items() if a.outcome == "doubt"]
        attempt = book.attempts.get(str(cmd)) or (book.attempts[doubts[-1]] if doubts else None)
        if attempt is None:
            return
        tool, ref = attempt.body["tool"], attempt.body["args"]["ref"]
        if self.sim.world.in_flight(tool, ref):
            return
        if self.chance.random() < 0.05:
            await self._do("cancel", run_id, by="ann", now=self.chance.random() < 0.5)
            return
        deed = self.sim.world.truth(tool, ref)
        await self._do(
            "settle", run_id, deed is not None, None if deed is None else deed.value, by="ann", note="looked"
        )
