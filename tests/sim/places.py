"""Where a run is: its frames, as the journal tells them, and what a definition says of their states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jamjet_dsl.definition import Agent, Definition, Each, Final, Parallel, Region, State


@dataclass
class Place:
    """One frame. `last` is what came of the action of its present visit."""

    path: str
    state: str
    visit: int = 1
    kind: str = "root"
    agent: str = ""
    region: str = ""
    parent: str | None = None
    key: str = ""
    home: str = ""
    last: str = ""
    told: dict[str, Any] = field(default_factory=dict)
    """The body of `opened`, while frames are open for it."""
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)
    """How those frames ended, by key."""


class Places:
    """The frames of a run, and the regions of its agents."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.now: dict[str, Place] = {}
        self.past: set[str] = set()
        self._regions: dict[tuple[str, str], dict[str, State | Final]] = {}
        for name, agent in definition.agents.items():
            self._add(name, "", agent.body)
            if agent.finally_ is not None:
                self._add(name, "finally", agent.finally_)

    def _add(self, agent: str, key: str, region: Region) -> None:
        self._regions[agent, key] = {state.name: state for state in region.states}
        for state in region.states:
            action = state.action if isinstance(state, State) else None
            inner = f"{key}/{state.name}" if key else state.name
            if isinstance(action, Parallel):
                for branch in action.branches:
                    self._add(agent, f"{inner}/{branch.name}", branch.body)
            elif isinstance(action, Each):
                self._add(agent, f"{inner}/each", action.body)

    def agent(self, place: Place) -> Agent:
        """The agent that a frame runs."""
        return self.definition.agents[place.agent or self.definition.main]

    def state(self, place: Place) -> State | Final | None:
        """The state that a frame is in; None for the one state of a rollback."""
        return self._regions.get((place.agent or self.definition.main, place.region), {}).get(place.state)

    def acts(self, place: Place) -> bool:
        """Whether the state that a frame is in has an action."""
        state = self.state(place)
        return isinstance(state, State) and state.action is not None

    def spares(self, path: str) -> bool:
        """Whether a frame may use the reserve: it takes something back, or is part of a `finally`."""
        place = self.now.get(path)
        while place is not None and place.parent is not None:
            if place.kind in ("undo", "finally"):
                return True
            place = self.now.get(place.parent)
        return False

    def homes(self, path: str) -> list[str]:
        """The agents around a frame, the innermost first."""
        found = []
        place = self.now.get(path)
        while place is not None and place.home:
            found.append(place.home)
            place = self.now.get(self.now[place.home].parent or "")
        return [*found, ""]

    def inside(self, path: str) -> list[str]:
        """The frames that are open below one."""
        return [p for p in self.now if p != path and (not path or p.startswith(f"{path}/") or self._below(p, path))]

    def _below(self, path: str, above: str) -> bool:
        place = self.now.get(path)
        while place is not None and place.parent is not None:
            if place.parent == above:
                return True
            place = self.now.get(place.parent)
        return False
