"""Changing a state without changing it: a draft copies each part of a `RunState` the first time it is written.

`apply` makes one draft per event. Whatever it does not touch stays shared with the state before, so a fold
costs what the event changes and not what the run has gathered.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from jamjet_dsl.kernel.model import Frame, Intent, RunState, Spent


class Draft:
    """A state in the making. `state` is ours alone; its containers are ours once `own` was called on them."""

    __slots__ = ("_owned", "state")

    def __init__(self, state: RunState) -> None:
        self.state = copy(state)
        self._owned: set[str] = set()

    def own(self, name: str) -> Any:
        """The dict or list of that field, ready to be changed."""
        if name not in self._owned:
            self._owned.add(name)
            setattr(self.state, name, copy(getattr(self.state, name)))
        return getattr(self.state, name)

    def frame(self, path: str) -> Frame:
        """The frame at `path`, ready to be changed; its dicts are to be replaced, not changed."""
        mark = f"frame:{path}"
        if mark not in self._owned:
            frames = self.own("frames")
            frames[path] = copy(frames[path])
            self._owned.add(mark)
        frame: Frame = self.state.frames[path]
        return frame

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
            self.state.spent = copy(self.state.spent)
        return self.state.spent
