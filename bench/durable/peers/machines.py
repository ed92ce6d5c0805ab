"""State machine libraries in memory: two states that go back and forth, and an action that adds one to `n`.

`table` is the least that a machine can do: a look-up and a call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from typing import Any

from bench.durable.job import MARK, timed

Fire = Callable[[int], int]
"""Makes so many transitions and says how many it made."""

STATE = {
    "n": 0,
    "run": "r-000000",
    "tags": ["alpha", "beta"],
    "cfg": {"retry": 3, "ok": True, "w": 0.5},
    "pad": "x" * 95,
}


class Box:
    """The state that the action changes."""

    def __init__(self) -> None:
        self.s: dict[str, Any] = dict(STATE)

    def act(self) -> None:
        """What every transition does."""
        self.s = {**self.s, "n": self.s["n"] + 1}


def by_table() -> Fire:
    """A dictionary."""
    box, place = Box(), ["A"]
    table = {("A", "go"): ("B", box.act), ("B", "go"): ("A", box.act)}

    def go() -> None:
        place[0], act = table[place[0], "go"]
        act()

    return repeated(go, box)


def by_transitions(guarded: bool) -> Fire:
    """The library `transitions`, with or without a condition on each transition."""
    from transitions import Machine

    class Model(Box):
        def below(self) -> bool:
            return bool(self.s["n"] < 1_000_000_000)

    model = Model()
    more: dict[str, Any] = {"conditions": "below"} if guarded else {}
    moves = [{"trigger": "go", "source": a, "dest": b, "after": "act", **more} for a, b in ("AB", "BA")]
    Machine(model, states=["A", "B"], initial="A", transitions=moves)
    return repeated(model.go, model)  # type: ignore[attr-defined]


def by_statemachine() -> Fire:
    """The library `python-statemachine`."""
    from statemachine import State, StateMachine

    box = Box()

    class Flip(StateMachine):  # type: ignore[misc]
        a = State(initial=True)
        b = State()
        go = a.to(b) | b.to(a)

        def on_go(self) -> None:
            box.act()

    machine = Flip()
    return repeated(lambda: machine.send("go"), box)


def by_sismic() -> Fire:
    """The library `sismic`."""
    from sismic.interpreter import Interpreter
    from sismic.io import import_from_yaml

    chart = import_from_yaml("""
statechart:
  name: bench
  root state:
    name: root
    initial: A
    states:
      - name: A
        transitions: [{target: B, event: go, action: act()}]
      - name: B
        transitions: [{target: A, event: go, action: act()}]
""")
    box = Box()
    interpreter = Interpreter(chart, initial_context={"act": box.act})
    interpreter.execute()
    return repeated(lambda: interpreter.queue("go").execute(), box)


def by_pydantic_graph() -> Fire:
    """The library `pydantic-graph`; version 2 keeps nothing, so there is no durable job for it."""
    from bench.durable.peers.pydantic_nodes import run

    return lambda events: asyncio.run(run(events, Box()))


def repeated(go: Callable[[], object], box: Box) -> Fire:
    """One transition after the other."""

    def fire(events: int) -> int:
        before = box.s["n"]
        for _ in range(events):
            go()
        return int(box.s["n"]) - int(before)

    return fire


LIBRARIES: dict[str, Callable[[], Fire]] = {
    "table": by_table,
    "transitions": lambda: by_transitions(False),
    "transitions-guarded": lambda: by_transitions(True),
    "python-statemachine": by_statemachine,
    "sismic": by_sismic,
    "pydantic-graph": by_pydantic_graph,
}


def main() -> None:
    """Make the transitions and print their rate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder")
    parser.add_argument("--library", choices=list(LIBRARIES), required=True)
    parser.add_argument("--events", type=int, required=True)
    options = parser.parse_args()
    fire = LIBRARIES[options.library]()
    print(MARK + json.dumps(timed(fire, options.events)), flush=True)


if __name__ == "__main__":
    main()
