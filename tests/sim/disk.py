"""The store as one machine sees it: it fails, it is slow to answer, and it may be the last thing the machine does."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.ports import Batch, Lease
from tests.sim.loop import Lost, Machine

if TYPE_CHECKING:
    from tests.sim.check import Checker

WRITES = frozenset({"put_definition", "create", "claim", "claim_due", "renew", "renew_many", "release", "append"})
WRITES |= {"append_many", "take_slot", "enqueue", "prune"}
FAULTS = (
    ("JAMR103", "another process holds the lock"),
    ("JAMR106", "the disk failed to read or write"),
    ("JAMR106", "the disk is full"),
)


class Disk:
    """What all machines share, and when it fails."""

    def __init__(self, store: Any, checker: Checker, chance: random.Random, faults: float, crashes: float) -> None:
        self.store = store
        self.checker = checker
        self.chance = chance
        self.faults = faults
        self.crashes = crashes
        self.full_until_ms = 0
        self.on_crash: Callable[[Machine], None] = lambda machine: None

    def drive(self, machine: Machine) -> Any:
        """The store for a machine, an object that implements `ports.Store`."""
        return Drive(self, machine)


class Drive:
    """See `ports.Store`: every method of the real one, with what can happen on the way."""

    def __init__(self, disk: Disk, machine: Machine) -> None:
        self._disk = disk
        self._machine = machine

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._disk.store, name)
        if name.startswith("_") or not callable(real):
            return real
        write = name in WRITES

        def call(*args: Any, **more: Any) -> Any:
            return self._through(name, write, real, args, more)

        self.__dict__[name] = call
        return call

    def _through(self, name: str, write: bool, real: Any, args: tuple[Any, ...], more: dict[str, Any]) -> Any:
        disk, machine = self._disk, self._machine
        if machine.gone:
            if name in ("release", "close"):
                return None  # what a finaliser of a process that is gone would do, it does not do
            raise Lost(machine.name)
        if name == "close":
            return None
        if not write:
            return real(*args, **more)
        now = disk.checker.loop.wall_ms()
        after = None
        if disk.faults or disk.crashes:
            draw = disk.chance.random()
            if now < disk.full_until_ms and name != "release":
                self._fail(name, FAULTS[2], now)
            if draw < disk.faults:
                self._before(name, now)
            elif draw < disk.faults * 1.3:
                after = FAULTS[1]
            elif draw < disk.faults * 1.3 + disk.crashes:
                self._die(name, "before")
            elif draw < disk.faults * 1.3 + disk.crashes * 2:
                after = ("", "")
        result = real(*args, **more)
        disk.checker.wrote(machine, name, args, more, result)
        if after is not None:
            if not after[0]:
                self._die(name, "after")
            self._fail(name, after, now)
        return result

    def _before(self, name: str, now: int) -> None:
        fault = self._disk.chance.choice(FAULTS)
        if fault is FAULTS[2] and self._disk.chance.random() < 0.3:
            self._disk.full_until_ms = now + self._disk.chance.choice((200, 3000, 20_000))
        self._fail(name, fault, now)

    def _fail(self, name: str, fault: tuple[str, str], now: int) -> None:
        self._disk.checker.unwell(self._machine)
        self._disk.checker.story(f"{self._machine.name} {name}: {fault[1]}")
        raise JamError(fault[0], f"sim: {fault[1]}")

    def _die(self, name: str, when: str) -> None:
        self._disk.checker.story(f"{self._machine.name} crashes {when} {name}")
        self._disk.on_crash(self._machine)
        raise Lost(self._machine.name)


__all__ = ["Batch", "Disk", "Drive", "Lease"]
