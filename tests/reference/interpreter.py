"""A reference interpreter of `specs/60-runs.md`: it walks the syntax tree, one generator for each frame.

To be read beside the specification. There is no journal, no lowering and no care for speed, and nothing is shared with
the engine. Frames are asked in the order of their paths whether they have something to do, from the first one again
after each thing that was done: one order of decisions, as the journal has. What happens outside is a `World`; time is
a number that jumps to whatever comes next. Its parts: `expressions`, `reading` (of the tree), `agents` (budget and
policy), `frames` (from state to state), `calls`, `actions` (everything else that a state does).
"""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any

from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.parser import parse
from tests.reference.actions import Thread
from tests.reference.agents import Agent
from tests.reference.calls import INDEFINITE
from tests.reference.expressions import Names, NoValue
from tests.reference.frames import BEGIN, DECIDED, Closed, Doubt, Frame, Outcome, Steps, Undo, states_of
from tests.reference.reading import FOREVER, Call, clauses, params, read, total, type_text
from tests.reference.world import Landing, World, called

NOT_SENT = {"InvalidInput", "RateLimited", "Unavailable"}


class Run:
    """A run: the clock, what is shared by all frames, and who is asked next."""

    def __init__(self, text: str, world: World, id: str = "run-1") -> None:
        items = parse(SourceFile("p.jam", text)).program.items
        kinds = (ast.ToolDecl, ast.ModelDecl, ast.AgentDecl)
        self.tools, self.models, self.agents = ({d.name.text: d for d in clauses(items, kind)} for kind in kinds)
        self.world, self.id, self.now, self.pushed, self.moves = world, id, 0, 0, iter(world.operator)
        self.frames, self.tasks, self.flights = dict[str, Frame](), dict[str, Steps](), dict[str, Any]()
        self.coming: list[tuple[int, int, str, int, Callable[[], None]]] = []
        self.first_start, self.keys = dict[str, int](), dict[tuple[str, Any], Any]()
        self.queue, self.grants = list[tuple[str, Any]](), list[Any]()
        self.counted = list[tuple[Any, int]]()
        self.undo, self.doubts, self.ended = list[Undo](), list[Doubt](), list[Closed]()
        self.parked: tuple[Frame, str] | None = None
        self.cancelled, self.ending, self.status, self.output = False, "", "", dict[str, Any]()
        self.trace, self.denied = list[tuple[str, str]](), list[tuple[str, str]]()
        self.performed, self.emitted = list[tuple[int, str, str, Any]](), list[tuple[str, Any]]()
        decl = next(iter(self.agents.values()))
        inputs = {name: read(world.input[name], type_) for name, type_ in params(decl, ast.InputDecl).items()}
        self.main = self.open(decl, None, None, inputs, "").agent
        for n, outside in enumerate(world.outside):
            self.push(outside.at_ms, 2, f"{n:03}", partial(self.happen, outside))
        self.push(world.crash_at or FOREVER, 3, "", self.crash)

    def open(self, decl: ast.AgentDecl, at: Frame | None, budget: Any, inputs: Names, path: str) -> Frame:
        """An agent starts."""
        agent = Agent(self, decl, at, budget, inputs)
        agent.root = Thread(self, path, agent, states_of(decl.members), agent.first)
        return agent.root

    def go(self) -> Run:
        """To the end, or to where only somebody outside can move it."""
        self.decide()
        while not self.status and self.coming:
            self.now, _, _, _, comes = heapq.heappop(self.coming)
            comes()
            self.decide()
        return self

    def push(self, at: int, order: int, key: str, comes: Callable[[], None]) -> None:
        """Something is to happen then; what comes at one time has an order."""
        self.pushed += 1
        if at < FOREVER:
            heapq.heappush(self.coming, (max(at, self.now), order, key, self.pushed, comes))

    def wake(self, at: int) -> None:
        """Somebody is to be asked then."""
        self.push(at, 1, "", lambda: None)

    def decide(self) -> None:
        """Ask all frames, in order, until none of them has anything to do (§1.2, §10.10)."""
        while not self.status and self.parked is None:
            for agent in {frame.agent for frame in self.frames.values() if not frame.over}:
                if not (agent.exceeded or agent.diverted or agent.ending):
                    late = agent.spent("time") >= agent.caps.get("time", FOREVER)
                    agent.exceeded, agent.diverted = late, "exceeded" if late else ""
            begin = ""
            for path in sorted(self.tasks):
                said = self.ask(path, False)
                if said == DECIDED or self.parked is not None:
                    break
                begin = begin or (f"/{path}" if said == BEGIN else "")
            else:
                if not begin:
                    break
                self.ask(begin[1:], True)

    def ask(self, path: str, may_begin: bool) -> str:
        """Whether a frame has something to do; it does one thing."""
        task = self.tasks[path]
        return next(task) if inspect.getgeneratorstate(task) == inspect.GEN_CREATED else task.send(may_begin)

    def happen(self, outside: Any) -> None:
        """Somebody outside does something: an event, a cancellation, an operator's move (§4, §7, §9)."""
        frame, commands = self.parked or (self.main.root, "")
        match outside.kind:
            case "event":
                decl = next(e for e in clauses(self.main.decl.members, ast.EventDecl) if e.name.text == outside.name)
                value = {p.name.text: read(outside.value[p.name.text], type_text(p.type)) for p in decl.params}
                self.queue.append((outside.name, value))
            case "cancel" if outside.value:
                self.cancel_now()
            case "cancel":
                if (not self.cancelled or self.parked is not None) and not self.main.ending:
                    self.main.diverted = "cancel"
                self.cancelled, self.parked = True, None
            case "retry" if commands == "retry":
                self.parked = None
            case "happened" | "did_not_happen" if commands == "settle":
                frame.settled, self.parked = outside.kind, None

    # ---- effects

    def start(self, frame: Frame, call: Call, aside: str) -> Any:
        """An effect begins; the world knows when it will end, and how. A timeout is an end like any other."""
        key = frame.key + aside
        landing = self.world.lands(key, call.type, bool(call.raises))
        if landing.after_ms >= call.timeout:
            landing = Landing(int(call.timeout), error="Timeout")
        if key not in self.first_start:
            self.performed.append((self.now, key, call.name, call.args))
        begun = self.first_start.setdefault(key, self.now)
        flight = self.flights[key] = SimpleNamespace(frame=frame, call=call, key=key, landing=landing, aside=aside)
        self.push(begun + landing.after_ms, 0, key, partial(self.land, flight))
        return flight

    def drop(self, flight: Any) -> None:
        """Nobody waits for it any more: what it may have used counts in full (§6.3)."""
        del self.flights[flight.key]
        for kind in ("tokens", "cost"):
            flight.frame.agent.spend(kind, getattr(flight.call, kind))

    def land(self, flight: Any) -> None:
        """An effect comes back: it is settled, and what came of it is known (§3.2, §3.3, §6.3)."""
        if self.flights.get(flight.key) is not flight:
            return
        frame, call, landing = flight.frame, flight.call, flight.landing
        error, value, used = landing.error or "", None, (call.tokens, call.cost)
        del self.flights[flight.key]
        if error and error not in INDEFINITE | NOT_SENT | call.raises:
            error = "Crashed"
        used = (0, 0) if error in NOT_SENT else used
        if call.tool is None and not error:
            tokens = (landing.tokens_in, landing.tokens_out)
            used = sum(tokens), total(call.prices, tokens)
        try:
            value = None if error else read(landing.value, call.type)
        except NoValue:
            error = "InvalidOutput"
        for kind, amount in zip(("tokens", "cost"), used, strict=True):
            frame.agent.spend(kind, amount)
        if not error and not flight.aside:
            frame.happened(call, value)
        held = self.flights.pop(frame.key, None) if flight.aside and not error else None
        if held is not None and value is not None:  # §8.2: what a crash took, and what is known of it now
            frame.agent.spend("cost", held.call.cost)
        frame.at, frame.landed = self.now, Outcome("failed" if error else "ok", value, error)

    def crash(self) -> None:
        """The process dies, and another takes the run over at once (§8): what was in flight is not known."""
        for key, flight in sorted(self.flights.items()):
            if not (flight.call.cost or flight.call.tokens or flight.call.writes):
                continue  # it is made again as it was
            flight.frame.landed = Outcome("recovered")
            self.drop(flight) if flight.call.confirm is None else self.flights.update(
                {key: SimpleNamespace(**vars(flight))}
            )

    def close(self, frame: Frame) -> None:
        """A frame has ended; with the root, the run."""
        frame.over = True
        del self.tasks[frame.path]
        self.ended.append(frame.closed)
        if not frame.path:
            self.finish()

    def finish(self) -> None:
        """The end of the run."""
        closed, self.parked = self.main.root.closed, None
        self.status, self.output = self.ending, closed.value if isinstance(closed.value, dict) else {}

    def cancel_now(self) -> None:
        """Without delay (§7.3): frames are closed as they are; `finally` is made unless it is that which is cut."""
        for flight in list(self.flights.values()):
            self.drop(flight)
        for frame in [frame for frame in self.frames.values() if frame.path and not frame.over]:
            frame.over = True
            del self.tasks[frame.path]
        if self.main.ending:
            self.finish()
        else:
            self.cancelled, self.parked, self.main.root.closed = True, None, Closed("cancelled")
            self.tasks[""] = self.main.root.end()


def seen(run: Run) -> dict[str, Any]:
    """What is compared, of the reference's run."""
    path: dict[str, list[str]] = {}
    for frame, state in run.trace:
        path.setdefault(called(frame), []).append(state)
    used = run.main.used
    return {
        "status": run.status or ("parked" if run.parked is not None else "open"),
        "path": path,
        "variables": run.main.root.vars,
        "output": {k: v for k, v in run.output.items() if v is not None} if run.status else None,
        "steps": used["steps"],
        "tokens": used["tokens"],
        "cost": Decimal(used["cost"]),
        "performed": sorted(((at, called(cmd), *rest) for at, cmd, *rest in run.performed), key=lambda call: call[:2]),
        "denied": sorted((called(frame), tool) for frame, tool in run.denied),
        "emitted": run.emitted,
        "where": [] if run.status else sorted(f"{called(f.path)}:{f.here}" for f in run.frames.values() if not f.over),
    }
