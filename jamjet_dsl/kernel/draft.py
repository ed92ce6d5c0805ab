"""Changing a state without changing it: a draft copies each part of a `RunState` the first time it is written.

Whatever a draft does not touch stays shared with the state before, so a fold costs what the events change and not
what the run has gathered.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, TypeVar

from jamjet_dsl.kernel.model import Account, Frame, Intent, Json, RunState, Spent

T = TypeVar("T")


def _copier(kind: type[T], left_out: str = "") -> Callable[[T], T]:
    """A function that copies an object of this class with slots, field by field; `left_out` becomes None. Every event
    pays for copies: this is made as dataclasses make theirs, and takes a fifth of the time of `kind(*fields)`."""
    names: tuple[str, ...] = kind.__slots__  # type: ignore[attr-defined]
    lines = ["def of(old, make=make, kind=kind):", " new = make(kind)"]
    lines += [f" new.{name} = {'None' if name == left_out else f'old.{name}'}" for name in names]
    found: dict[str, Any] = {"make": object.__new__, "kind": kind}
    exec("\n".join([*lines, " return new"]), found)
    made: Callable[[T], T] = found["of"]
    return made


_copy_state = _copier(RunState)
_copy_frame = _copier(Frame, left_out="made")
_copy_spent = _copier(Spent)


class Draft:
    """A state in the making. `state` is ours alone; its containers are ours once they were asked for here.

    Several events may be folded into one draft: each part is copied for the first of them only.
    """

    __slots__ = ("_accounts", "_frames", "_monitors", "_owned", "state")

    def __init__(self, state: RunState) -> None:
        self.state = _copy_state(state)
        self._owned: set[str] = set()
        self._frames: set[str] = set()
        self._accounts: set[str] = set()
        self._monitors: set[str] = set()

    def own(self, name: str) -> Any:
        """The dict or list of that field, ready to be changed."""
        found = getattr(self.state, name)
        if name not in self._owned:
            self._owned.add(name)
            found = found.copy()
            setattr(self.state, name, found)
        return found

    def frame(self, path: str) -> Frame:
        """The frame at `path`, ready to be changed; its dicts are to be replaced, not changed."""
        if path in self._frames:
            frame = self.state.frames[path]
            frame.made = None
            return frame
        frames: dict[str, Frame] = self.own("frames")
        frame = frames[path] = _copy_frame(frames[path])
        self._frames.add(path)
        return frame

    def add_frame(self, frame: Frame) -> None:
        """A frame that was not there."""
        self.own("frames")[frame.path] = frame
        self._frames.add(frame.path)

    def drop_frame(self, path: str) -> None:
        """The frame is gone."""
        del self.own("frames")[path]
        for owned in (self._frames, self._accounts, self._monitors):
            owned.discard(path)

    def intent(self, cmd: str) -> Intent:
        """The open intent of that id, ready to be changed."""
        intents = self.own("intents")
        intents[cmd] = copy(intents[cmd])
        found: Intent = intents[cmd]
        return found

    def spent(self) -> Spent:
        """What was spent, ready to be changed."""
        if "spent" not in self._owned:
            self._owned.add("spent")
            self.state.spent = _copy_spent(self.state.spent)
        return self.state.spent

    def account(self, home: str) -> Account:
        """What the child agent at `home` may use and has used, ready to be changed."""
        frame = self.frame(home)
        if home not in self._accounts:
            frame.account = copy(frame.account)
            self._accounts.add(home)
        assert frame.account is not None
        return frame.account

    def monitors(self, home: str) -> dict[str, Json]:
        """What the rules of the agent at `home` count, ready to be changed."""
        if not home:
            found: dict[str, Json] = self.own("monitors")
            return found
        frame = self.frame(home)
        if home not in self._monitors:
            frame.monitors = frame.monitors.copy()
            self._monitors.add(home)
        return frame.monitors
