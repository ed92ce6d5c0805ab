"""A frame of the reference interpreter: how it goes from state to state (§2, §6.1, §9, §10.4).

A frame is a generator that is asked again and again whether it has something to do. It yields `DECIDED` after it did
one thing that is final, `BEGIN` if it wants to start something that the budget and the policy are asked about (it may
once nobody decides anything any more), and `IDLE` while it waits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from jamjet_dsl.syntax import ast
from tests.reference.agents import Agent, Exceeded, Stop
from tests.reference.expressions import Names, NoValue, Quantity, evaluate
from tests.reference.reading import FOREVER, Call, bind_of, clause, clauses, matches, number, parts, read
from tests.reference.world import Outside

if TYPE_CHECKING:
    from tests.reference.interpreter import Run

DECIDED, BEGIN, IDLE = "decided", "begin", "idle"
NOTHING = object()
ON_TIMEOUT = (ast.OnTimeout, ast.OnError)
TRIGGERS = {"failed": [ast.OnError], "timeout": ON_TIMEOUT, "denied": [ast.OnDenied], "in_doubt": [ast.OnInDoubt]}
Steps = Generator[str, bool, Any]


class Park(Exception):
    """Nothing goes on before an operator does what the text says (§9)."""


class Closed(Exception):
    """The frame has ended (§10.4): how, its value, its error."""

    def __init__(self, how: str, value: Any = NOTHING, error: str = "") -> None:
        self.how, self.value, self.error = how, value, error


class Outcome(NamedTuple):
    """How an action ended: ok, answered, event, failed, timeout, denied, in_doubt (§2.4); recovered: not known (§8)."""

    kind: str
    value: Any = None
    error: str = ""
    option: str = ""


class Way(NamedTuple):
    """Where a frame goes on, and its variables then. `edge` counts if it has a limit."""

    target: str
    names: Names
    edge: ast.Edge | None = None


@dataclass(eq=False)
class Undo:
    """A call that takes another back (§12.1)."""

    agent: Agent
    tool: ast.ToolDecl
    args: dict[str, Any] | None
    options: tuple[Any, ...] = ()


@dataclass(eq=False)
class Doubt:
    """A call that nobody knows about, left behind by its frame; `undoes` is what it was to take back (§12.2)."""

    at: int
    key: str
    agent: Agent
    call: Call
    undoes: Undo | None


def states_of(body: Iterable[Any]) -> dict[str, Any]:
    """The states of an agent or of a body, which may be one without a name."""
    states = clauses(body, (ast.StateDecl, ast.ParallelDecl, ast.FinalDecl))
    return {state.name.text: state for state in states} or {"do": made("do", *body)}


def made(name: str, *nodes: Any) -> Any:
    """A state that the program does not name; it has no place in it."""
    return ast.StateDecl(None, ast.Name(None, name), False, nodes, None)


def action_of(state: Any) -> Any:
    """What a state does; a `parallel` does itself."""
    return state if isinstance(state, ast.ParallelDecl) else clause(parts(state), (ast.Action, Undo, Doubt))


class Frame(ABC):
    """One thread of control (§10.1): the states of an agent, of a branch, of an item."""

    spare = False
    """Whether it may use the reserve, and counts no steps (§12.3, §13.1)."""

    def __init__(self, run: Run, path: str, agent: Agent, states: dict[str, Any], names: Names) -> None:
        self.run, self.path, self.agent, self.states, self.vars = run, path, agent, states, names
        self.here, self.visit, self.used, self.cancelled, self.over = "", 0, Counter[int](), False, False
        self.closed: Closed | None = None
        self.outcome: Outcome | None = None
        self.undoes: Undo | None = None
        run.frames[path], run.tasks[path] = self, self.live()

    def arrive(self, here: str) -> None:
        """A new visit (§1.4): nothing is known of its action."""
        self.here, self.visit, self.attempt, self.entered, self.fault = here, self.visit + 1, 1, self.run.now, ""
        self.outcome = self.landed = self.event = self.called = self.frozen = self.doubtful = None
        self.begun, self.lost, self.tries = 0, 0, Counter[int]()
        self.run.trace.append((self.path, here))

    @property
    def spot(self) -> Any:
        """The state that it is in."""
        return self.states[self.here]

    @property
    def stopping(self) -> bool:
        """Whether what is open here is to be given up."""
        return self.cancelled or (self.agent.root is self and bool(self.agent.diverted))

    @property
    def leaving(self) -> bool:
        """Whether it goes on though it is stopped. Money that may be gone comes first: `on in_doubt`, or a person."""
        return self.outcome is not None and self.outcome.kind == "in_doubt" and self.run.main.diverted != "cancel"

    @property
    def key(self) -> str:
        """The world's name of the present attempt (§1.4); those that a crash has taken (§8) are none of its."""
        return f"{self.path}#{self.visit}.{self.attempt - self.lost}"

    @property
    def run_names(self) -> Names:
        """§11.2."""
        return {"id": "/".join(filter(None, (self.run.id, self.agent.root.path)))}

    def names(self, way: Names | None = None) -> Names:
        """What an expression may read here."""
        agent, now = self.agent, Decimal(self.run.now)
        cost, time = Quantity(Decimal(agent.used["cost"]), "USD"), Quantity(now - agent.started, "ms")
        spent = {"steps": agent.used["steps"], "tokens": agent.used["tokens"], "cost": cost, "time": time}
        more = {"spent": spent, "run": self.run_names, "now": Quantity(now, "at"), "$calls": agent.calls}
        return {**agent.inputs, **(self.vars if way is None else way), **more}

    @abstractmethod
    def act(self, action: Any) -> Steps:
        """What a state does, to its outcome; NoValue where the arguments have none."""

    @abstractmethod
    def happened(self, call: Call, value: Any) -> Outcome:
        """A call succeeded."""

    @abstractmethod
    def last(self, calls: list[Any]) -> Frame:
        """A frame that makes the calls of a `finally`."""

    # ---- from state to state (§2)

    def live(self) -> Steps:
        """The frame from its start to its end (§10.4)."""
        start = next((name for name, s in self.states.items() if getattr(s, "start", False)), next(iter(self.states)))
        way: Way | None = Way(start, self.vars)
        stopped, commands, decided = False, "", False
        while self.closed is None:
            try:
                if decided:
                    decided = False
                    yield DECIDED
                if commands:
                    parked, commands = commands, ""
                    yield from self.park(parked)
                if way is not None and not stopped:
                    self.enter(way)
                    way = None
                    yield DECIDED
                way, stopped = self.divert() if stopped and not self.leaving else (yield from self.state()), False
            except Stop as stop:
                stopped, decided = True, isinstance(stop, Exceeded)
            except Park as park:
                commands = str(park)
            except Closed as closed:
                self.closed = closed
        yield from self.end()

    def end(self) -> Steps:
        """The end of the frame; an agent makes the calls of its `finally` first (§13)."""
        agent, how = self.agent, self.closed.how if self.closed is not None else ""
        if not self.path:
            self.run.ending = "cancelled" if self.run.cancelled else {"done": "completed"}.get(how, how)
        last = clause(agent.decl.members, ast.Finally, "body") if agent.root is self and self.here else None
        if last is not None:
            agent.ending = True
            frame = self.last(clauses(last, ast.CallAction))
            self.run.ask(frame.path, False)
            yield DECIDED
            while not frame.over:
                yield IDLE
        self.leave_visit()
        self.run.close(self)
        yield DECIDED

    def enter(self, way: Way) -> None:
        """Go on to a state, if its action fits under the limit of steps (§6.1). At the start, where there is no state
        before, it is entered first."""
        agent, acts = self.agent, action_of(self.states[way.target]) is not None and not self.spare
        out = [a for a in agent.around if acts and a.used["steps"] >= a.caps.get("steps", FOREVER)]
        first = not self.here and agent.root is self
        full = next(iter(sorted(out, key=lambda a: first and a is agent)), None)
        full = None if full is not None and full.exceeded else full
        if full is not None and not (first and full is agent):
            full.exceed()
        agent.spend("steps", int(acts))
        self.leave_visit()
        self.used[id(way.edge)] += 1
        self.vars = way.names
        self.arrive(way.target)
        if full is not None:
            full.exceed()

    def leave_visit(self) -> None:
        """What stays of a visit: a call in doubt, and that one has failed."""
        kind = self.outcome.kind if self.outcome is not None else ""
        if kind == "in_doubt":
            self.run.doubts.append(Doubt(self.begun, self.key, self.agent, self.doubtful, self.undoes))
        if kind == "failed" and self.called is not None:
            self.agent.remember("failed", self.called)

    def divert(self) -> Way:
        """To `exceeded` or `on cancel`: what the action gave is bound, and the state's `set`s run unless one fails."""
        agent = self.agent
        if self.cancelled or agent.root is not self or not agent.diverted:
            raise Closed("cancelled")
        here, way, target = self.spot, self.bound(), agent.on_exceeded
        done = self.outcome.kind in ("ok", "answered") if self.outcome is not None else action_of(here) is None
        with suppress(NoValue):
            way = self.sets(clauses(parts(here), ast.SetClause), way) if done and not self.fault else way
        if agent.diverted == "cancel":
            target = next((h.target for h in agent.handlers if isinstance(h.trigger, ast.OnCancel)), None)
            if target is None or isinstance(here, ast.FinalDecl):
                raise Closed("cancelled")
        elif target is None:
            raise Park("cancel") if agent.at is None else Closed("failed", error="ChildFailed")
        agent.diverted = ""
        return Way(target.text, way)

    def state(self) -> Steps:
        """One state: its action, then an edge (§2.1). Gives the way to the next."""
        here = self.spot
        action = action_of(here)
        if isinstance(here, ast.FinalDecl) and not self.cancelled:
            return self.final(here)
        if self.outcome is None and self.stopping:
            raise Stop
        if self.outcome is None and action is not None and not self.fault:
            if self.agent.exceeded and not self.spare and not isinstance(action, ast.UndoAllAction):
                raise Park("cancel")  # §6.4
            try:
                self.outcome = yield from self.act(action)
            except NoValue:
                self.fault = "InvalidInput"  # §2.6
            yield DECIDED
        if self.stopping and not self.leaving:
            raise Stop
        return self.leave(here)

    def leave(self, here: Any) -> Way:
        """The edge that is taken (§2.1). An expression without a value is an error; a second one, while it is
        handled, parks (§2.6)."""
        outcome = Outcome("failed", error=self.fault) if self.fault else self.outcome or Outcome("ok")
        try:
            if outcome.kind not in TRIGGERS:
                return self.succeeded(here, outcome)
            ways = (self.handled(here, trigger, outcome.error) for trigger in TRIGGERS[outcome.kind])
            doubted = self.outcome is not None and self.outcome.kind == "in_doubt"
            commands = "settle" if doubted else "retry"  # a doubt never becomes an ordinary error (§10.5)
            return next(filter(None, ways), None) or self.unhandled(outcome.error, commands)
        except NoValue:
            if self.fault:
                raise Park("retry") from None
            self.fault = "EvaluationFailed"
        return self.leave(here)

    def succeeded(self, here: Any, outcome: Outcome) -> Way:
        """After a success: `set`s, queued events, options, guards, in this order."""
        way = self.bound()
        if outcome.kind != "event":
            way = self.sets(clauses(parts(here), ast.SetClause), way)
        event = self.event = self.event or self.take_event()
        for edge in clauses(parts(here), ast.Edge):
            match edge.trigger:
                case ast.OnEvent(event=name, bind=bind) if event is not None and name.text == event[0]:
                    return self.take(edge, way if bind is None else {**way, bind.text: event[1]})
                case ast.OnOption(option=option) if event is None and option.text == outcome.option:
                    return self.take(edge, way)
                case ast.Always() | ast.Otherwise() | ast.OnJoin() if event is None:
                    return self.take(edge, way)
                case ast.When(condition=guard) if event is None and evaluate(guard, self.names(way)):
                    return self.take(edge, way)
        if self.agent.root is self:
            raise NoValue
        worth = clause(parts(here), ast.YieldsClause, "value")
        plain_ = outcome.value if here.span is None and self.outcome is not None else NOTHING
        raise Closed("done", evaluate(worth, self.names(way)) if worth is not None else plain_)

    def take(self, edge: ast.Edge, way: Names) -> Way:
        """By an edge: through its block, or to where its limit sends it (§2.2, §2.3)."""
        if self.used[id(edge)] >= number(edge.limit, FOREVER):
            if edge.limit_else is not None:
                return Way(edge.limit_else.text, way)
            if self.agent.exceeded:
                raise Park("cancel")
            self.agent.exceed()
        way = self.sets(edge.sets, way)
        if edge.target is not None:
            return Way(edge.target.text, way, edge)
        raise Closed("skipped") if edge.yields is None else Closed("done", evaluate(edge.yields, self.names(way)))

    def handled(self, here: Any, kind: type, error: str) -> Way | None:
        """The state's own edges, then the handlers of the agent, which a body does not have (§2.4, §10.5)."""
        for way in [*clauses(parts(here), ast.Edge), *(self.agent.handlers if self.agent.root is self else ())]:
            if not isinstance(way.trigger, kind) or (kind is ast.OnError and not matches(way.trigger, error)):
                continue
            if isinstance(way, ast.Edge):
                return self.take(way, self.bound())
            if way.target.text != self.here:
                return Way(way.target.text, self.bound())
        return None

    def unhandled(self, error: str, commands: str) -> Any:
        """It fails a branch or an item; it parks an agent, and a doubt everything."""
        if self.agent.root is self or commands == "settle":
            raise Park(commands)
        raise Closed("failed", error=error)

    def final(self, here: ast.FinalDecl) -> Way:
        """An end: outputs are evaluated as it is entered."""
        try:
            value = {a.name.text: evaluate(a.value, self.names()) for a in here.assigns}
        except NoValue:
            again, self.fault = self.used[id(here)] or self.fault, "EvaluationFailed"
            self.used[id(here)] += 1
            way = None if again else self.handled(here, ast.OnError, self.fault)
            return way or self.unhandled(self.fault, "cancel")
        raise Closed("failed" if here.failed else "done", value or NOTHING, "ChildFailed")

    def bound(self) -> Names:
        """The variables with the result of the action under its name (§2.1)."""
        action, outcome = action_of(self.spot), self.outcome
        if outcome is None or outcome.kind not in ("ok", "answered"):
            return self.vars
        name = bind_of(action)
        more = outcome.value if isinstance(action, ast.ParallelDecl) else {name: outcome.value} if name else {}
        return {**self.vars, **more}

    def sets(self, items: Iterable[ast.SetClause], way: Names) -> Names:
        """The `set`s in order; a value outside the range of the variable's type is none (§2.7)."""
        ranges = {v.name.text: v.type.range for v in clauses(self.agent.decl.members, ast.VarDecl)}
        for item in items:
            value, bounds = evaluate(item.value, self.names(way)), ranges.get(item.path.text)
            if bounds is not None and not number(bounds.low) <= value <= number(bounds.high):
                raise NoValue
            way = {**way, item.path.text: value}
        return way

    def take_event(self, *awaited: str) -> tuple[str, Any] | None:
        """The oldest queued event of this name, or that an `on event` edge of the state takes (§7.2)."""
        on = clauses([edge.trigger for edge in clauses(parts(self.spot), ast.Edge)], ast.OnEvent)
        names = awaited or [trigger.event.text for trigger in on]
        event = next((e for e in self.run.queue if e[0] in names), None)
        self.run.queue = [e for e in self.run.queue if e is not event]
        return event

    def park(self, commands: str) -> Steps:
        """Nothing goes on before an operator says so (§9). After `retry` what failed is tried again."""
        run, self.settled, move = self.run, "", next(self.run.moves, None)
        doubted = self.outcome is not None and self.outcome.kind == "in_doubt" and commands == "retry"
        run.parked = (self, "settle" if doubted else commands)  # what is in doubt is not just tried again (§3.6)
        if move is not None:
            run.push(run.now + 1000, 2, "operator", partial(run.happen, Outside(0, move)))
        yield IDLE
        if self.settled == "happened":
            value = run.world.settled(self.key, self.doubtful.type)
            self.outcome, self.fault = self.happened(self.doubtful, read(value, self.doubtful.type)), ""
        elif self.stopping:
            self.outcome = None if self.settled else self.outcome
            raise Stop
        else:
            self.entered, self.fault = run.now, ""
            if action_of(self.spot) is not None and (self.outcome is None or self.outcome.kind in TRIGGERS):
                self.outcome, self.attempt = None, self.attempt + 1
                self.tries = self.tries if self.settled else Counter()
