"""A reference interpreter of `specs/60-runs.md`: it walks the syntax tree, one generator for each frame.

To be read beside the specification. There is no journal, no lowering and no care for speed, and nothing is shared with
the engine. A frame is a generator that is asked again and again whether it has something to do. It yields `DECIDED`
after it did one thing that is final, `BEGIN` if it wants to start something that the budget and the policy are asked
about (it may once nobody decides anything any more), and `IDLE` while it waits. Frames are asked in the order of their
paths, from the first one again after each thing that was done: one order of decisions, as the journal has.

What happens outside is a `World`; time is a number that jumps to whatever comes next.
"""

from __future__ import annotations

import heapq
import inspect
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NamedTuple

from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.parser import parse
from tests.reference.expressions import Names, NoValue, Quantity, evaluate
from tests.reference.world import Landing, Outside, World

INDEFINITE = {"Timeout", "Disconnected", "Crashed", "InvalidOutput"}
NOT_SENT = {"InvalidInput", "RateLimited", "Unavailable"}
STANDARD = INDEFINITE | NOT_SENT | {"JoinFailed", "ChildFailed"}
MAX_IDLE = 1000
DECIDED, BEGIN, IDLE = "decided", "begin", "idle"
Steps = Generator[str, bool, Any]


class Stop(Exception):
    """What the frame does is not wanted any more (§6.4, §7.3, §10.7)."""


class Fault(Exception):
    """An expression has no value (§2.6). The text is the error's name."""


class Outcome(NamedTuple):
    """How an action ended: ok, answered, failed, timeout, denied, in_doubt, event (§2.4)."""

    kind: str
    value: Any = None
    error: str = ""
    option: str = ""


class Closed(Exception):
    """The frame has ended (§10.4)."""

    def __init__(self, how: str, value: Any = None, error: str = "", valued: bool = False) -> None:
        super().__init__(how)
        self.how, self.value, self.error, self.valued = how, value, error, valued


@dataclass
class Call:
    """A call as it was frozen (§3.1); `tool` is None for a model call. `uses` are the approvals that it takes."""

    tool: ast.ToolDecl | None
    args: dict[str, Any]
    cost: Decimal
    tokens: int
    key: Any = None
    counts: list[tuple[Agent, Any, Any, Decimal]] = field(default_factory=list)
    uses: list[Grant] = field(default_factory=list)
    price: tuple[Decimal, Decimal] = (Decimal(0), Decimal(0))
    type: str = ""
    timeout: int | None = None

    @property
    def writes(self) -> bool:
        return self.tool is not None and effect(self.tool) != "reads"


@dataclass
class Grant:
    """An approval (§4.2)."""

    state: str
    bind: str | None
    tool: str
    args: dict[str, Any]
    people: list[tuple[str, str]]
    agent: Agent
    used: bool = False


@dataclass
class Flight:
    """An effect that was started and has not come back."""

    frame: Frame
    call: Call
    key: str
    landing: Landing
    what: str


def clause(nodes: Iterable[Any], kind: type) -> Any:
    """The clause of a kind, or None."""
    return next((node for node in nodes if isinstance(node, kind)), None)


def clauses(nodes: Iterable[Any], kind: type) -> list[Any]:
    """All clauses of a kind."""
    return [node for node in nodes if isinstance(node, kind)]


def effect(tool: ast.ToolDecl) -> str:
    """reads, writes or irreversible."""
    return str(clause(tool.clauses, ast.EffectClause).effect.text)


def number(expr: Any, default: Any = None) -> Any:
    """A literal of a clause: a count, an amount or milliseconds."""
    if expr is None:
        return default
    return plain(evaluate(expr, {}))


def plain(value: Any) -> Any:
    """The number of an amount."""
    return value.amount if isinstance(value, Quantity) else value


def type_text(type_: ast.TypeExpr | None) -> str:
    """A type as it is written."""
    if type_ is None:
        return "null"
    args = f"<{', '.join(type_text(arg) for arg in type_.args)}>" if type_.args else ""
    return f"{type_.name.text}{args}{'?' if type_.optional else ''}"


def read(value: Any, type_: str) -> Any:
    """A value from the world, or NoValue if it is not of the type (§3.2)."""
    if type_ == "null" or (value is None and type_.endswith("?")):
        return None
    kind = {"int": int, "bool": bool, "string": str, "money": str}.get(type_.rstrip("?"), list)
    if type(value) is not kind:
        raise NoValue
    return Quantity(Decimal(value.split()[0]), value.split()[1]) if kind is str and type_ == "money" else value


class Way(NamedTuple):
    """Where a frame goes on, and its variables then. `edge` counts if it has a limit."""

    target: str
    names: Names
    edge: ast.Edge | None = None


class Undo(NamedTuple):
    """A call that takes another back (§12.1)."""

    agent: Agent
    tool: ast.ToolDecl
    args: dict[str, Any] | None
    options: tuple[Any, ...] = ()


class Doubt(NamedTuple):
    """A call that nobody knows about, left behind by its frame (§12.2)."""

    agent: Agent
    call: Call
    at: int
    key: str
    options: tuple[Any, ...] = ()


@dataclass
class Question:
    """An open question; `approvals` are those given so far (§4.4)."""

    frame: Frame
    action: ast.AskAction
    call: Call | None
    needs: list[tuple[int, str]]
    role: str
    approving: list[str]
    answer: Outcome | None = None
    approvals: list[tuple[str, str]] = field(default_factory=list)


INFINITY = 1 << 62
STATES = (ast.StateDecl, ast.ParallelDecl, ast.FinalDecl)
NOBODY = ast.ToolCall(None, ast.Name(None, ""), ())
WINDOWS = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}


def parts(state: Any) -> tuple[Any, ...]:
    """The clauses of a state, or the members of a `parallel`."""
    return state.members if isinstance(state, ast.ParallelDecl) else getattr(state, "clauses", ())


def action_of(state: Any) -> Any:
    """What a state does; a `parallel` does itself."""
    if isinstance(state, ast.ParallelDecl) and clause(state.members, ast.Join) is not None:
        return state
    return clause(parts(state), ast.Action)


def edges(state: Any, trigger: type) -> list[Any]:
    """The edges of a state with this trigger."""
    return [edge for edge in clauses(parts(state), ast.Edge) if isinstance(edge.trigger, trigger)]


def bind_of(action: Any) -> str | None:
    """The name after `as`, or that of an awaited event."""
    name = getattr(action, "bind", None) or getattr(clause(getattr(action, "options", ()), ast.BindOpt), "name", None)
    return name.text if name is not None else None


def inputs_of(decl: ast.AgentDecl) -> tuple[ast.Param, ...]:
    """The inputs of an agent."""
    return tuple(p for d in clauses(decl.members, ast.InputDecl) for p in d.params)


def cost_of(tool: ast.ToolDecl) -> Decimal:
    """What one attempt may cost."""
    cost = clause(tool.clauses, ast.CostClause)
    return Decimal(0) if cost is None else Decimal(number(cost.amount))


def timeout_of(*clauses_: Iterable[Any]) -> int | None:
    """How long one attempt may take: what the state says, else what the tool says."""
    found = [limit for nodes in clauses_ if (limit := clause(nodes, ast.TimeoutClause)) is not None]
    return int(number(found[0].duration)) if found else None


def raised(tool: ast.ToolDecl | None) -> set[str]:
    """The errors that a tool declares."""
    return {n.text for c in clauses(tool.clauses if tool else (), ast.RaisesClause) for n in c.errors}


class Agent:
    """An agent at work: its budget, its policy's memory, its variables (§6, §11)."""

    root: Frame

    def __init__(
        self, run: Run, decl: ast.AgentDecl, outer: Agent | None, clause_: Any, inputs: Names, at: Any = None
    ) -> None:
        self.run, self.decl, self.outer, self.inputs, self.at = run, decl, outer, inputs, at
        self.around: list[Agent] = [self, *(outer.around if outer else [])]
        self.started, self.used, self.history = run.now, Counter[str](), list[tuple[str, str, dict[str, Any]]]()
        self.counted: list[tuple[Any, Any, int, Decimal]] = []
        self.exceeded, self.ending = False, False
        self.diverted = self.status = ""
        own = clause(decl.members, ast.Budget)
        budgets = [b for b in (clause_, own) if b is not None]
        full: dict[str, list[Any]] = {}
        for budget in budgets:
            for limit in clauses(budget.items, ast.BudgetLimit):
                full.setdefault(limit.kind, []).append(number(limit.amount))
        for agent in outer.around if outer else []:  # §11.3
            for kind, cap in agent.caps.items():
                full.setdefault(kind, []).append(max(cap - agent.now_used(kind) - agent.held(kind), 0))
        self.limits = {kind: min(amounts) for kind, amounts in full.items()}
        reserves = [r for b in budgets if (r := clause(b.items, ast.ReserveClause)) is not None]
        kept = {limit.kind: number(limit.amount) for limit in reserves[0].limits} if reserves else {}
        self.caps = {kind: max(limit - kept.get(kind, 0), 0) for kind, limit in self.limits.items()}
        exceeded = clause(own.items, ast.ExceededClause) if own is not None else None
        self.on_exceeded = exceeded.target.text if exceeded is not None else None
        self.handlers = clauses(decl.members, ast.Handler)
        policy = clause(decl.members, ast.Policy)
        self.rules = policy.rules if policy is not None else None
        run.wake(run.now + self.caps.get("time", INFINITY))
        self.first: Names = {}
        for var in clauses(decl.members, ast.VarDecl):
            if var.init is not None:
                self.first[var.name.text] = evaluate(var.init, {**inputs, **self.first})

    @property
    def run_id(self) -> str:
        """§11.2."""
        return f"{self.run.id}/{self.root.path}" if self.root.path else self.run.id

    def now_used(self, kind: str) -> Any:
        return self.run.now - self.started if kind == "time" else self.used[kind]

    def held(self, kind: str) -> Any:
        """What is reserved by effects in flight (§6.2)."""
        flights = [f for f in self.run.flights.values() if self in f.frame.agent.around]
        return sum((getattr(f.call, kind) for f in flights), Decimal(0)) if kind in ("tokens", "cost") else 0

    def spend(self, kind: str, amount: Any) -> None:
        for agent in self.around:
            agent.used[kind] += amount if kind != "steps" or not agent.exceeded else 0

    def remember(self, kind: str, tool: str, args: dict[str, Any]) -> None:
        for agent in self.around:
            agent.history.append((kind, tool, args))

    def count(self, kind: str, tool: str, args: dict[str, Any]) -> int:
        """`calls(T)`, `succeeded(T, a = e)` and the like."""
        found = [given for was, name, given in self.history if (was, name) == (kind, tool)]
        return sum(all(given.get(name) == value for name, value in args.items()) for given in found)

    def fits(self, call: Call, spare: bool = False) -> Agent | bool:
        """True, False (it waits for what others hold, §10.9), or the agent whose budget it exceeds (§6.2)."""
        waits = False
        for agent in self.around:
            caps = agent.limits if spare else agent.caps
            for kind, need in (("tokens", call.tokens), ("cost", call.cost)):
                if need and kind in caps and agent.used[kind] + need > caps[kind]:
                    return agent
                waits |= bool(need and kind in caps and agent.used[kind] + agent.held(kind) + need > caps[kind])
        return not waits

    def exceed(self) -> None:
        """Once (§6.4); afterwards it parks."""
        self.exceeded, self.diverted = True, "exceeded"

    # ---- policy (§5)

    def named(self, tools: ast.ToolSet, tool: ast.ToolDecl) -> bool:
        classes = {name.text for name in tools.classes}
        return tool.name.text in {n.text for n in tools.names} or "any" in classes or effect(tool) in classes

    def decide(self, frame: Frame, call: Call, grants: list[Grant], offered: bool, undoing: bool) -> str:
        """allowed, denied, or needs_approval, for the policy of this agent alone. With `offered` the question is
        whether an approval may be asked for; who has to give it is left in `frame.people`."""
        if self.rules is None and frame.agent is not self:
            return "allowed"
        inside = frame.agent is not self
        while frame.agent is not self:
            frame = frame.agent.at
        tool, names = call.tool, {**frame.names(), "args": call.args}
        assert tool is not None
        try:
            verdict = self._judge(tool, names, call, undoing)
        except NoValue:
            return "denied"
        if verdict is None:
            return "denied"
        asks, people = verdict
        frame.people = people
        if undoing:
            return "allowed"
        if offered:  # an ask state of an outer agent cannot be had inside (§11.4)
            return "denied" if inside and any(ask is not None for ask in asks) else "allowed"
        given = {grant.state for grant in grants if grant.agent is self}
        met = all(bool(grants) if ask is None else ask in given for ask in asks)
        met &= all(len({p for g in grants for p, r in g.people if r == role}) >= n for n, role in people)
        return "allowed" if met else "needs_approval"

    def _judge(self, tool: ast.ToolDecl, names: Names, call: Call, undoing: bool) -> tuple[list[Any], list[Any]] | None:
        """None if it is denied, else the asks and the people whose approval is needed."""
        allowed, waived, asks, people, denied = False, False, [], [], False
        for rule in self.rules or ():
            tools = rule.before if hasattr(rule, "before") else getattr(rule, "tools", None)
            if isinstance(rule, ast.LimitRule):
                for limit in rule.limits if not undoing else ():
                    denied |= self.named(limit.tools, tool) and self._limited(limit, names, call)
                continue
            if not self.named(tools, tool):
                continue
            holds = rule.when is None or evaluate(rule.when, names)
            match rule:
                case ast.AllowRule() if holds:
                    allowed, waived = True, waived or rule.because is not None
                case ast.ForbidRule():
                    denied |= holds
                case ast.NeverRule():
                    after = [t for t in self.run.tools.values() if self.named(rule.after, t)]
                    denied |= holds and any(self.count("attempted", t.name.text, {}) for t in after)
                case ast.RequireReadRule():
                    args = self.run.given(rule.call, self.run.tools[rule.call.tool.text].params, names)
                    denied |= holds and not self.count("succeeded", rule.call.tool.text, args)
                case ast.RequireAnyRule():
                    reads = [t for t in self.run.tools.values() if self.named(rule.tools, t)]
                    denied |= holds and not any(self.count("succeeded", t.name.text, {}) for t in reads)
                case ast.RequireAskRule() if holds:
                    asks.append(rule.ask.text)
                case ast.RequirePeopleRule() if holds:
                    people.append((number(rule.count), rule.role.value))
        if denied or not allowed:
            return None
        if effect(tool) == "irreversible" and not waived and not asks and not people:
            asks.append(None)
        return asks, people

    def _limited(self, limit: Any, names: Names, call: Call) -> bool:
        """Whether a `limit` has no room for the call; what it counts as is kept with the call (§5.5, §5.6)."""
        window, group = None, []
        for per in limit.per:
            if isinstance(per, ast.Ident) and per.name in WINDOWS:
                window = WINDOWS[per.name]
            else:
                group.append(evaluate(per, names))
        size = plain(evaluate(limit.amount, names)) if isinstance(limit, ast.LimitTotal) else Decimal(0)
        counted = [
            s
            for rule, g, at, s in self.counted
            if rule is limit and g == group and (window is None or at > self.run.now - window)
        ]
        call.counts.append((self, limit, group, size))
        if isinstance(limit, ast.LimitTotal):
            return bool(size < 0 or sum(counted) + size > plain(evaluate(limit.bound, names)))
        return len(counted) + 1 > number(limit.count)


class Frame:
    """One thread of control (§10.1): the states of an agent, of a branch, of an item."""

    def __init__(self, run: Run, path: str, agent: Agent, body: Iterable[Any], names: Names) -> None:
        self.run, self.path, self.agent, self.vars, self.body = run, path, agent, dict(names), body
        self.states: dict[str, Any] = {s.name.text: s for s in body if isinstance(s, STATES)}
        self.plain = not self.states
        if self.plain:
            self.states["do"] = ast.ParallelDecl(None, ast.Name(None, "do"), True, tuple(body), None)
        self.start = next((n for n, s in self.states.items() if getattr(s, "start", False)), next(iter(self.states)))
        self.here, self.visit, self.attempt, self.lost, self.idle, self.entered = "", 0, 1, 0, 0, run.now
        self.used = Counter[int]()
        self.cancelled, self.settled = False, ""
        self.closed: Closed | None = None
        self.over = False
        self.landed: Outcome | None = None
        self.outcome: Outcome | None = None
        self.fault, self.waits = "", ""
        self.called: tuple[str, dict[str, Any]] | None = None
        self.doubtful: Call | None = None
        self.frozen: Call | None = None
        self.begun, self.tries = 0, Counter[int]()
        self.event: tuple[str, Any] | None = None
        self.people: list[tuple[int, str]] = []
        run.frames[path] = self
        run.tasks[path] = self.live()

    @property
    def stopping(self) -> bool:
        """Whether what is open here is to be given up."""
        return self.cancelled or (self.agent.root is self and bool(self.agent.diverted))

    @property
    def spare(self) -> bool:
        """Whether it may use the reserve (§12.3, §13.1)."""
        return isinstance(self, (Undoing, Finally))

    @property
    def key(self) -> str:
        """The id of the present attempt (§1.4); attempts that a crash has taken (§8) are none of the world's."""
        return f"{self.path}#{self.visit}.{self.attempt - self.lost}"

    def names(self, way: Names | None = None) -> Names:
        """What an expression may read here."""
        agent, now = self.agent, Decimal(self.run.now)
        spent = {kind: agent.used[kind] for kind in ("steps", "tokens")}
        cost, time = Quantity(agent.used["cost"] + Decimal(0), "USD"), Quantity(now - agent.started, "ms")
        return {
            **agent.inputs,
            **(self.vars if way is None else way),
            "spent": {**spent, "cost": cost, "time": time},
            "run": {"id": agent.run_id},
            "now": Quantity(now, "at"),
            "undo": {"failed": self.run.undo_failed},
            "$calls": agent.count,
        }

    # ---- from state to state (§2)

    def live(self) -> Steps:
        """The frame from its start to its end (§10.4)."""
        way = Way(self.start, self.vars)
        agent = self.agent if self.agent.root is self else None
        stopped = False
        while self.closed is None:
            try:
                if not stopped:
                    self.enter(way)
                    yield DECIDED
                    way = yield from self.state(self.states[self.here])
                elif (
                    self.outcome is not None and self.outcome.kind == "in_doubt" and self.run.main.diverted != "cancel"
                ):
                    way = yield from self.doubted()  # money that may be gone comes first
                elif self.cancelled or agent is None or not agent.diverted:
                    raise Closed("cancelled")
                else:
                    way = yield from self.divert(agent)
                stopped = False
            except Stop:
                stopped = True
            except Closed as closed:
                self.closed = closed
        yield from self.end()

    def end(self) -> Steps:
        """The end of the frame; an agent makes the calls of its `finally` first (§13)."""
        closed = self.closed
        assert closed is not None
        if self.agent.root is self:
            status = "completed" if closed.how == "done" else closed.how
            self.agent.status = "cancelled" if self.run.cancelled and not self.path else status
            decl = clause(self.agent.decl.members, ast.Finally)
            if decl is not None and self.here:
                self.agent.ending = True
                last = Finally(self.run, self.below("finally"), self.agent, decl.body, self.vars)
                self.run.ask(last.path, False)
                yield DECIDED
                while not last.over:
                    yield IDLE
        self.leave_visit()
        self.over = True
        self.run.close(self)
        yield DECIDED

    def doubted(self) -> Steps:
        """By `on in_doubt`, or a person says what happened."""
        while True:
            way = self.leave(self.states[self.here])
            if isinstance(way, Way):
                return way
            yield from self.park(way)
            if self.outcome is None or self.outcome.kind != "in_doubt":
                raise Stop

    def enter(self, way: Way) -> None:
        """Go on to a state, if its action fits under the limit of steps (§6.1). At the start of a run, where there is
        no state before, it is entered first."""
        acts, agent = action_of(self.states[way.target]) is not None, self.agent
        out = [a for a in agent.around if a.used["steps"] >= a.caps.get("steps", INFINITY)] if acts else []
        first = not self.here and agent.root is self
        full = next(iter(sorted(out, key=lambda a: first and a is agent)), None)
        if full is not None and full.exceeded:
            full = None
        if full is not None and not (first and full is agent):
            full.exceed()
            raise Stop
        if acts:
            agent.spend("steps", 1)
        self.leave_visit()
        idle = self.here and action_of(self.states[self.here]) is None
        self.idle = self.idle + 1 if idle else 0
        if way.edge is not None:
            self.used[id(way.edge)] += 1
        self.vars, self.here, self.visit, self.attempt, self.lost = way.names, way.target, self.visit + 1, 1, 0
        self.outcome, self.landed, self.fault, self.entered = None, None, "", self.run.now
        self.called = self.frozen = self.event = None
        self.tries = Counter()
        self.run.trace.append((self.path, self.here))
        if full is not None:
            full.exceed()
            raise Stop

    def leave_visit(self) -> None:
        if self.outcome is not None and self.outcome.kind == "in_doubt" and self.doubtful is not None:
            self.run.doubts.append(Doubt(self.agent, self.doubtful, self.begun, self.key))
        if self.outcome is not None and self.outcome.kind == "failed" and self.called is not None:
            self.agent.remember("failed", *self.called)

    def divert(self, agent: Agent) -> Steps:
        """To `exceeded` or `on cancel`: what the action gave is bound, and the state's `set`s run unless one fails."""
        here, way = self.states[self.here], self.bound()
        done = self.outcome is not None and self.outcome.kind in ("ok", "answered")
        if not self.fault and (done or action_of(here) is None):
            with suppress(NoValue):
                way = self.sets(here, way)
        target = agent.on_exceeded
        if agent.diverted == "cancel":
            target = next((h.target.text for h in agent.handlers if isinstance(h.trigger, ast.OnCancel)), None)
            if target is None or isinstance(here, ast.FinalDecl):
                raise Closed("cancelled")
        elif target is None and agent.outer is not None:
            raise Closed("failed", error="ChildFailed")
        elif target is None:
            yield from self.park("cancel")
        agent.diverted = ""
        return Way(target, way)

    def state(self, here: Any) -> Steps:
        """One state: its action, then an edge (§2.1). Gives the way to the next."""
        action = action_of(here)
        while True:
            if isinstance(here, ast.FinalDecl):
                way = self.final(here)
            elif self.stopping and self.outcome is None:
                raise Stop
            elif self.idle >= MAX_IDLE:
                yield from self.park("cancel")
                continue
            else:
                if action is not None and self.outcome is None and not self.fault:
                    if self.agent.exceeded and not isinstance(action, ast.UndoAllAction):
                        yield from self.park("cancel")  # §6.4
                        continue
                    try:
                        self.outcome = yield from self.act(here, action)
                    except Fault as fault:
                        self.fault = str(fault)
                    yield DECIDED
                if self.stopping:
                    raise Stop
                way = self.leave(here)
            if isinstance(way, Way):
                return way
            yield from self.park(way)

    def leave(self, here: Any) -> Way | str:
        """The edge that is taken (§2.1, §2.4), or what an operator may do because there is none."""
        outcome = self.outcome
        if self.fault:
            return self.on_error(here, self.fault)
        match outcome.kind if outcome is not None else "ok":
            case "ok" | "answered" | "event":
                return self.succeeded(here)
            case "failed":
                assert outcome is not None
                return self.on_error(here, outcome.error)
            case "timeout":
                return self.handled(here, ast.OnTimeout) or self.on_error(here, "Timeout")
            case "denied":
                found = self.handled(here, ast.OnDenied)
                return found or self.unhandled("Denied", "retry")
        return self.handled(here, ast.OnInDoubt) or "settle"

    def succeeded(self, here: Any) -> Way | str:
        """After a success: `set`s, queued events, options, guards, in this order."""
        outcome = self.outcome
        try:
            way = self.bound()
            if outcome is None or outcome.kind != "event":
                way = self.sets(here, way)
            self.event = self.event or self.take_event(here)
            event = outcome.value if outcome is not None and outcome.kind == "event" else self.event
            if event is not None:
                edge = next(e for e in edges(here, ast.OnEvent) if e.trigger.event.text == event[0])
                if edge.trigger.bind is not None:
                    way[edge.trigger.bind.text] = event[1]
                return self.take(here, edge, way)
            for edge in clauses(parts(here), ast.Edge):
                match edge.trigger:
                    case ast.OnOption() if outcome is not None and edge.trigger.option.text == outcome.option:
                        return self.take(here, edge, way)
                    case ast.Always() | ast.Otherwise() | ast.OnJoin():
                        return self.take(here, edge, way)
                    case ast.When() if evaluate(edge.trigger.condition, self.names(way)):
                        return self.take(here, edge, way)
            if self.agent.root is not self:
                yields = clause(parts(here), ast.YieldsClause)
                if yields is not None:
                    raise Closed("done", evaluate(yields.value, self.names(way)), valued=True)
                bare = self.plain and outcome is not None and outcome.kind in ("ok", "answered")
                raise Closed("done", outcome.value if bare and outcome else None, valued=bare)
        except NoValue:
            pass
        return self.failing(here)

    def failing(self, here: Any) -> Way | str:
        """An expression without a value is an error; a second one, while it is handled, parks (§2.6)."""
        if self.fault:
            return "retry"
        self.fault = "EvaluationFailed"
        return self.on_error(here, self.fault)

    def take(self, here: Any, edge: ast.Edge, way: Names) -> Way | str:
        """By an edge: through its block, or to where its limit sends it (§2.2, §2.3)."""
        if edge.limit is not None and self.used[id(edge)] >= number(edge.limit):
            if edge.limit_else is not None:
                return Way(edge.limit_else.text, way)
            if self.agent.exceeded:
                return "cancel"
            self.agent.exceed()
            raise Stop
        try:
            for item in edge.sets:
                way = self.set(item, way)
            if edge.yields is not None:
                raise Closed("done", evaluate(edge.yields, self.names(way)), valued=True)
        except NoValue:
            return self.failing(here)
        if edge.target is None:
            raise Closed("skipped")
        return Way(edge.target.text, way, edge)

    def on_error(self, here: Any, error: str) -> Way | str:
        """The state's own edges, then the handlers of the agent, which a body does not have (§2.4, §10.5)."""
        return self.handled(here, ast.OnError, error) or self.unhandled(error, "retry")

    def handled(self, here: Any, trigger: type, error: str = "") -> Way | str | None:
        def fits(handler: Any) -> bool:
            on = handler.trigger
            return trigger is not ast.OnError or on.any or error in [name.text for name in on.errors]

        for edge in edges(here, trigger):
            if fits(edge):
                return self.take(here, edge, self.bound())
        for handler in self.agent.handlers if self.agent.root is self else ():
            if isinstance(handler.trigger, trigger) and fits(handler) and handler.target.text != self.here:
                return Way(handler.target.text, self.bound())
        return None

    def unhandled(self, error: str, commands: str) -> str:
        """It fails a branch or an item; it parks an agent."""
        if self.agent.root is self:
            return commands
        raise Closed("failed", error=error)

    def final(self, here: ast.FinalDecl) -> Way | str:
        """An end: outputs are evaluated as it is entered."""
        try:
            value = {a.name.text: evaluate(a.value, self.names()) for a in here.assigns}
        except NoValue:
            again, self.fault = self.used[id(here)] or self.fault, "EvaluationFailed"
            self.used[id(here)] += 1
            if self.agent.root is not self:
                raise Closed("failed", error="EvaluationFailed") from None
            if not again:
                for handler in self.agent.handlers:
                    on = handler.trigger
                    if isinstance(on, ast.OnError) and on.any and handler.target.text != self.here:
                        return Way(handler.target.text, self.vars)
            return "cancel"
        raise Closed("failed" if here.failed else "done", value, "ChildFailed" if here.failed else "", bool(value))

    def bound(self) -> Names:
        """The variables with the result of the action under its name (§2.1)."""
        outcome, way = self.outcome, dict(self.vars)
        name = bind_of(action_of(self.states[self.here]))
        if outcome is not None and outcome.kind in ("ok", "answered"):
            if isinstance(self.states[self.here], ast.ParallelDecl) and not self.plain:
                way |= outcome.value
            elif name is not None:
                way[name] = outcome.value
        return way

    def sets(self, here: Any, way: Names) -> Names:
        for item in clauses(parts(here), ast.SetClause):
            way = self.set(item, way)
        return way

    def set(self, item: ast.SetClause, way: Names) -> Names:
        """One `set`; the value is within the range of the variable's type, or there is none (§2.7)."""
        value, name = evaluate(item.value, self.names(way)), item.path.text
        decl = next((v for v in clauses(self.agent.decl.members, ast.VarDecl) if v.name.text == name), None)
        if decl is not None and decl.type.range is not None:
            size = len(value) if isinstance(value, list) else value
            if not number(decl.type.range.low) <= size <= number(decl.type.range.high):
                raise NoValue
        return {**way, name: value}

    def take_event(self, here: Any) -> tuple[str, Any] | None:
        """The oldest queued event that an `on event` edge of the state takes."""
        names = [edge.trigger.event.text for edge in edges(here, ast.OnEvent)]
        event = next((e for e in self.run.queue if e[0] in names), None)
        if event is not None:
            self.run.queue.remove(event)
        return event

    def park(self, commands: str) -> Steps:
        """Nothing goes on before an operator says so (§9). After `retry` what failed is tried again."""
        run, self.settled = self.run, ""
        run.parked = (self.path, self.here, commands)
        if run.parks < len(run.world.operator):
            run.push(run.now + 1000, 2, "operator", Outside(0, run.world.operator[run.parks]))
        run.parks += 1
        while run.parked is not None:
            yield IDLE
        if self.settled == "happened" and self.doubtful is not None and self.doubtful.tool is not None:
            type_ = type_text(self.doubtful.tool.result)
            self.outcome = run.happened(self, self.doubtful, read(run.world.settled(self.key, type_), type_))
            return
        if self.stopping:
            self.outcome = None if self.settled else self.outcome
            raise Stop
        self.idle, self.entered = 0, self.run.now
        if self.outcome is not None and self.outcome.kind in ("ok", "answered", "event"):
            self.fault = ""
        elif self.outcome is not None or action_of(self.states[self.here]) is not None:
            self.attempt += 1
            self.tries = self.tries if self.settled else Counter()
            self.outcome = None
        self.fault = ""

    # ---- actions

    def act(self, here: Any, action: Any) -> Steps:
        """What the state does, to its outcome."""
        match action:
            case ast.CallAction() | ast.CallApprovedAction() | ast.ThinkAction():
                return self.call(here, action)
            case ast.AskAction():
                return self.ask(here, action)
            case ast.WaitFor() | ast.WaitUntil() | ast.WaitEvent():
                return self.wait(here, action)
            case ast.EmitAction():
                return self.emit(action)
            case ast.RunAction():
                return self.child(action)
            case ast.EachAction():
                return self.each(action)
            case ast.UndoAllAction():
                return self.undo_all()
        return self.parallel(here)

    def call(self, here: Any, action: Any, doubt: bool = False) -> Steps:
        """A call or a model call, with its further attempts (§3). `maybe`: an attempt may have happened."""
        call, error = self.frozen, ""
        tries, maybe = self.tries, False
        while True:
            while not doubt:
                if self.stopping and not maybe:
                    raise Stop
                prepared = call or self.prepare(here, action)
                if isinstance(prepared, Outcome):
                    outcome = prepared
                    break
                full = self.agent.fits(prepared, self.spare)
                if self.stopping or (maybe and isinstance(full, Agent)):
                    return (yield from self.resolve(prepared)) or Outcome("failed", error=error)
                if isinstance(full, Agent) and self.spare:
                    return Outcome("failed", error="Exceeded")
                if isinstance(full, Agent):
                    full.exceed()
                    raise Stop
                if (yield BEGIN if full else IDLE):
                    call = self.frozen = prepared
                    outcome = yield from self.attempt_(call)
                    break
            if doubt:
                outcome, maybe, doubt, self.run.landed_at[self.path] = (
                    Outcome("failed", error="Crashed"),
                    True,
                    False,
                    self.run.now,
                )
            if outcome.kind == "recovered":
                assert call is not None
                again = yield from self.recovered(call)
                if isinstance(again, Outcome):
                    return again
                maybe, error = again, "Crashed"
                continue
            if outcome.kind != "failed":
                return outcome
            error, raises = outcome.error, raised(call.tool if call else None)
            maybe = bool(call and call.writes and error not in raises and (maybe or error in INDEFINITE))
            while True:
                rule = self.rule_for(action, call, error)
                further = rule is not None and tries[id(rule)] < number(rule.times) and not self.stopping
                if further and not (maybe and (call is None or call.key is None)):
                    yield from self.back_off(rule, tries)
                    break
                if not maybe:
                    return outcome
                told = yield from self.resolve(call)
                if told is not None:
                    return told
                maybe = False  # it did not happen: an ordinary error now

    def prepare(self, here: Any, action: Any) -> Call | Outcome:
        """Arguments, decision and key, all before the first attempt (§3.1, §3.7, §5). Raises Fault."""
        if isinstance(action, ast.ThinkAction):
            return self.prompt(action)
        grants: list[Grant] = []
        if isinstance(action, Undo):
            if action.args is None:
                return Outcome("failed", error="InvalidInput")
            tool, args = action.tool, action.args
        elif isinstance(action, ast.CallApprovedAction):
            name = action.name.text
            open_ = [g for g in self.run.grants if not g.used and g.agent is self.agent]
            fitting = [g for g in open_ if name in (g.tool, g.bind)]
            if not fitting:
                self.run.denied.append((self.path, name if name in self.run.tools else ""))
                return Outcome("denied")
            own = fitting[-1]
            same = [g for g in open_ if (g.tool, g.args) == (own.tool, own.args)]
            grants = [own, *(g for g in same if g is not own)]
            tool, args = self.run.tools[own.tool], own.args
        else:
            tool = self.run.tools[action.call.tool.text]
            args = self.run.given(action.call, tool.params, self.names(), "InvalidInput")
        call = Call(tool, args, cost_of(tool), 0, timeout=timeout_of(action.options, tool.clauses))
        if self.verdict(call, grants) != "allowed":
            self.run.denied.append((self.path, tool.name.text))
            return Outcome("denied")
        call.uses = next(grants[:n] for n in range(len(grants) + 1) if self.verdict(call, grants[:n]) == "allowed")
        call.uses = call.uses or grants[:1]
        key = clause(tool.clauses, ast.KeyClause)
        if key is not None:
            try:
                call.key = evaluate(key.value, self.tool_names(call.args))
            except NoValue:
                raise Fault("InvalidInput") from None
            if self.run.keys.get((tool.name.text, call.key), call.args) != call.args:
                return Outcome("failed", error="InvalidInput")
        return call

    def prompt(self, action: ast.ThinkAction) -> Call:
        """A model call: its worst case is what `max prompt` and `max tokens` say, at the model's prices (§6.2)."""
        try:
            for part in [p for p in action.text.parts if isinstance(p, ast.Placeholder)]:
                evaluate(ast.Ident(None, part.path.text), self.names())
            for item in (g for o in clauses(action.options, ast.GivenOpt) for g in o.items if not g.optional):
                evaluate(item.expr, self.names())
        except NoValue:
            raise Fault("InvalidInput") from None
        most = [
            number(clause(action.options, ast.MaxPromptOpt).tokens),
            number(clause(action.options, ast.MaxTokensOpt).tokens),
        ]
        model = clause(action.options, ast.ModelOpt)
        price = clause(self.run.models[model.model.text].clauses, ast.PriceClause) if model else None
        prices = (Decimal(0), Decimal(0))
        if price is not None:
            prices = (number(price.input) / number(price.per), number(price.output) / number(price.per))
        cost = prices[0] * most[0] + prices[1] * most[1]
        bind = clause(action.options, ast.BindOpt)
        type_ = type_text(bind.type) if bind is not None and bind.type is not None else "string"
        return Call(None, {}, cost, sum(most), price=prices, type=type_, timeout=timeout_of(action.options))

    def verdict(self, call: Call, grants: list[Grant], offered: bool = False) -> str:
        """What the policies of this agent and of all around it say together (§5.2, §11.4)."""
        call.counts = []
        undoing = isinstance(self, Undoing)
        said = [agent.decide(self, call, grants, offered, undoing) for agent in self.agent.around]
        return next((v for v in ("denied", "needs_approval") if v in said), "allowed")

    def attempt_(self, call: Call, what: str = "action") -> Steps:
        """Start an effect and wait for its end. A read is given up where it is not wanted any more."""
        if what == "action" and self.called is None and call.tool is not None:
            self.called = (call.tool.name.text, call.args)
            self.agent.remember("attempted", *self.called)
            for agent, limit, group, size in call.counts:
                agent.counted.append((limit, group, self.run.now, size))
            for grant in call.uses:
                grant.used = True
            if call.key is not None:
                self.run.keys.setdefault((call.tool.name.text, call.key), call.args)
        flight = self.run.start(self, call, what)
        self.begun = self.run.now
        yield DECIDED
        while self.landed is None:
            if self.stopping and not call.writes and what == "action":
                self.run.drop(flight)
                raise Stop
            yield IDLE
        landed, self.landed = self.landed, None
        return landed

    def back_off(self, rule: ast.RetryClause, tries: Counter[int]) -> Steps:
        """Until the next attempt is due (§3.4). Half of what `jitter full` may take off is."""
        delay = Decimal(number(rule.backoff, 0)) * Decimal(number(rule.factor, 1)) ** tries[id(rule)]
        delay = int(min(delay, number(rule.max_delay, INFINITY)))
        at = self.run.landed_at[self.path] + delay - (delay // 2 if rule.jitter is not None else 0)
        tries[id(rule)] += 1
        self.attempt += 1
        self.run.wake(at)
        yield DECIDED
        while self.run.now < at and not self.stopping:
            yield IDLE

    def rule_for(self, action: Any, call: Call | None, error: str) -> ast.RetryClause | None:
        """The first `retry` clause that names the error, the state's before the tool's."""
        tool = call.tool if call else self.run.tools.get(getattr(getattr(action, "call", None), "tool", NOBODY).text)
        rules = [*clauses(action.options, ast.RetryClause), *clauses(tool.clauses if tool else (), ast.RetryClause)]
        return next((r for r in rules if r.any or error in [n.text for n in r.errors]), None)

    def resolve(self, call: Call) -> Steps:
        """Whether a call happened that may have (§3.5): its outcome, or None if it did not."""
        assert call.tool is not None
        told: Outcome | None = None
        asks = clause(call.tool.clauses, ast.ConfirmClause)
        if asks is not None:
            try:
                tool = self.run.tools[asks.call.tool.text]
                args = self.run.given(asks.call, tool.params, self.tool_names(call.args))
                question = Call(tool, args, cost_of(tool), 0, timeout=timeout_of(tool.clauses))
                while not isinstance(fits := self.agent.fits(question, self.spare), Agent):
                    if (yield BEGIN if fits else IDLE):
                        told = yield from self.attempt_(question, "confirm")
                        if told.kind != "recovered":
                            break
            except NoValue:
                pass
        if told is not None and told.kind == "ok" and told.value is None:
            return None
        if told is not None and told.kind == "ok":
            return self.run.happened(self, call, told.value)
        self.doubtful = call
        return Outcome("in_doubt")

    def recovered(self, call: Call) -> Steps:
        """The process died while the call was in flight (§8): its outcome, or where it is made again whether it may
        have happened all the same."""
        maybe = False
        if call.writes:
            told: Outcome | None = Outcome("in_doubt")
            self.doubtful = call
            if clause(call.tool.clauses if call.tool else (), ast.ConfirmClause) is not None:
                told = yield from self.resolve(call)
                flight = self.run.flights[self.key]
                if told is None:
                    del self.run.flights[self.key]
                else:
                    self.run.drop(flight)
            if told is not None and (told.kind != "in_doubt" or call.key is None or self.stopping):
                return told
            maybe = told is not None
        self.attempt, self.lost = self.attempt + 1, self.lost + 1
        return maybe

    def tool_names(self, args: dict[str, Any]) -> Names:
        """What the clauses of a tool may read."""
        return {**args, "args": args, "run": {"id": self.agent.run_id}}

    def ask(self, here: Any, action: ast.AskAction) -> Steps:
        """A question, with the call that an answer approves (§4)."""
        call: Call | None = None
        opened = None
        while opened is None:
            if self.stopping:
                raise Stop
            try:
                for part in [p for p in action.text.parts if isinstance(p, ast.Placeholder)]:
                    evaluate(ast.Ident(None, part.path.text), self.names())
            except NoValue:
                raise Fault("InvalidInput") from None
            if action.call is not None:
                tool = self.run.tools[action.call.tool.text]
                args = self.run.given(action.call, tool.params, self.names(), "InvalidInput")
                call = Call(tool, args, Decimal(0), 0)
                if self.verdict(call, [], offered=True) == "denied":
                    self.run.denied.append((self.path, tool.name.text))
                    return Outcome("denied")
            if (yield BEGIN):
                opened = self.run.question(self, action, call)
        limit = clause(action.options, ast.TimeoutClause)
        ends = self.run.now + number(limit.duration) if limit is not None else INFINITY
        self.run.wake(ends)
        self.waits = "ask"
        try:
            yield DECIDED
            while opened.answer is None:
                if self.stopping:
                    raise Stop
                if self.run.now >= ends:
                    return Outcome("timeout")
                event = self.take_event(here)
                if event is not None:
                    return Outcome("event", event)
                yield IDLE
            return opened.answer
        finally:
            self.waits = ""
            self.run.questions.remove(opened)

    def wait(self, here: Any, action: Any) -> Steps:
        """For a time, or for an event (§7)."""
        limit: Any = clause(action.options, ast.TimeoutClause)
        pause = action.duration if isinstance(action, ast.WaitFor) else limit.duration if limit is not None else None
        ends = INFINITY if pause is None else self.entered + number(pause)
        if isinstance(action, ast.WaitUntil):
            try:
                ends = int(evaluate(action.until, self.names()).amount)
            except NoValue:
                raise Fault("InvalidInput") from None
        self.run.wake(ends)
        self.waits = "wait"
        try:
            while True:
                if self.stopping:
                    raise Stop
                if isinstance(action, ast.WaitEvent):
                    event = next((e for e in self.run.queue if e[0] == action.event.text), None)
                    if event is not None:
                        self.run.queue.remove(event)
                        return Outcome("ok", event[1])
                event = self.take_event(here)
                if event is not None:
                    return Outcome("event", event)
                if self.run.now >= ends:
                    return Outcome("timeout" if isinstance(action, ast.WaitEvent) else "ok")
                yield IDLE
        finally:
            self.waits = ""

    def emit(self, action: ast.EmitAction) -> Steps:
        """Say something to whoever follows the run."""
        decl = next(e for e in clauses(self.agent.decl.members, ast.EmitsDecl) if e.name.text == action.call.tool.text)
        args = self.run.given(action.call, decl.params, self.names(), "InvalidInput")
        self.run.emitted.append((decl.name.text, args))
        return Outcome("ok")
        yield DECIDED

    # ---- frames below this one (§10, §11)

    def below(self, key: str) -> str:
        """The path of a frame that the present attempt opens (§10.2)."""
        again = f".{self.attempt}" if self.attempt > 1 else ""
        return f"{self.path + '/' if self.path else ''}{self.here}@{self.visit}{again}/{key}"

    def fan(self, keys: list[str], open_: Any, at_once: int, judge: Any, ends: Any = INFINITY) -> Steps:
        """Frames for these keys, so many at a time, until `judge` says how it went; then the rest is cancelled."""
        frames: dict[str, Frame] = {}
        verdict: Outcome | None = None
        self.run.wake(ends)
        while True:
            if verdict is None and not self.stopping:
                ending = any(frame.closed is not None and not frame.over for frame in frames.values())
                late = Outcome("late") if self.run.now >= ends and not ending else None
                verdict = judge(frames) or late
            alive = [frame for frame in frames.values() if not frame.over]
            if self.stopping or verdict is not None:
                for frame in alive:
                    frame.cancelled = True
                if not alive and verdict is not None and not self.stopping:
                    return verdict
                if not alive:
                    raise Stop
            elif len(frames) < len(keys) and len(alive) < at_once:
                key = keys[len(frames)]
                frames[key] = open_(key)
                self.run.ask(frames[key].path, False)  # it enters its first state at once
                yield DECIDED
                continue
            yield IDLE

    def branch(self, path: str, body: Iterable[Any], names: Names) -> Frame:
        return Frame(self.run, path, self.agent, body, {**self.vars, **names})

    def parallel(self, here: ast.ParallelDecl) -> Steps:
        """§10.6."""
        branches = {b.name.text: b for b in clauses(here.members, ast.Branch)}
        join = clause(here.members, ast.Join)
        need = {"all": len(branches), "any": 1}.get(join.mode) or number(join.k)

        def judge(frames: dict[str, Frame]) -> Outcome | None:
            ended = [f.closed.how for f in frames.values() if f.closed is not None and f.over]
            if ended.count("done") >= need:
                return Outcome("ok")
            return Outcome("late") if len(branches) - len(ended) + ended.count("done") < need else None

        frames: dict[str, Frame] = {}

        def open_(key: str) -> Frame:
            frames[key] = self.branch(self.below(key), branches[key].body, {})
            return frames[key]

        ends = INFINITY if join.within is None else self.run.now + number(join.within)
        verdict = yield from self.fan(list(branches), open_, len(branches), judge, ends)
        if verdict.kind == "late":
            return Outcome("failed", error="JoinFailed")
        values: Names = {}
        for key, branch in branches.items():  # §10.8
            closed = frames[key].closed if key in frames else None
            if branch.bind is None:
                continue
            if closed is not None and closed.how == "done" and closed.valued:
                values[branch.bind.text] = closed.value
            elif branch.default is not None:
                try:
                    values[branch.bind.text] = evaluate(branch.default, self.names())
                except NoValue:
                    return Outcome("failed", error="JoinFailed")
        return Outcome("ok", values)

    def each(self, action: ast.EachAction) -> Steps:
        """§10.6: the values of what is done, in the order of the list."""
        try:
            items = evaluate(action.source, self.names())
        except NoValue:
            raise Fault("InvalidInput") from None
        frames: dict[str, Frame] = {}

        def open_(key: str) -> Frame:
            path = self.below(key)
            frames[key] = self.branch(path, action.body, {action.item.text: items[int(key)]})
            return frames[key]

        def judge(found: dict[str, Frame]) -> Outcome | None:
            failed = [
                f.closed.error for f in self.run.ended if f in found.values() and f.closed and f.closed.how == "failed"
            ]
            if failed:
                return Outcome("failed", error=failed[0])
            return Outcome("ok") if len(found) == len(items) and all(f.over for f in found.values()) else None

        keys = [str(n) for n in range(len(items))]
        limit = clause(action.options, ast.TimeoutClause)
        ends = INFINITY if limit is None else self.run.now + number(limit.duration)
        verdict = yield from self.fan(keys, open_, number(action.at_once, 1), judge, ends)
        if verdict.kind != "ok":
            return verdict if verdict.kind == "failed" else Outcome("failed", error="Timeout")
        closed = [frames[key].closed for key in keys]
        values = [c.value for c in closed if c is not None and c.how == "done" and c.valued]
        return Outcome("ok", [one for many in values for one in many] if action.flat else values)

    def child(self, action: ast.RunAction) -> Steps:
        """§11, with its own further attempts."""
        decl = self.run.agents[action.call.tool.text]
        args = self.run.given(action.call, inputs_of(decl), self.names(), "InvalidInput")
        limit = clause(action.options, ast.TimeoutClause)
        tries = Counter[int]()
        while True:

            def open_(key: str) -> Frame:
                agent = Agent(self.run, decl, self.agent, clause(action.options, ast.Budget), args, self)
                agent.root = Frame(self.run, self.below(key), agent, decl.members, agent.first)
                return agent.root

            def judge(frames: dict[str, Frame]) -> Outcome | None:
                closed = next((f.closed for f in frames.values() if f.over), None)
                if closed is None:
                    return None
                outputs = {p.name.text: None for d in clauses(decl.members, ast.OutputDecl) for p in d.params}
                return Outcome("ok", {**outputs, **closed.value}) if closed.how == "done" else Outcome("child")

            ends = INFINITY if limit is None else self.run.now + number(limit.duration)
            verdict = yield from self.fan([decl.name.text], open_, 1, judge, ends)
            if verdict.kind == "ok":
                return verdict
            error = "Timeout" if verdict.kind == "late" else "ChildFailed"
            self.run.landed_at[self.path] = self.run.now
            rule = self.rule_for(action, None, error)
            if rule is None or tries[id(rule)] >= number(rule.times) or self.stopping:
                return Outcome("failed", error=error)
            yield from self.back_off(rule, tries)
            if self.stopping:
                raise Stop

    def undo_all(self) -> Steps:
        """§12.2: what is in doubt is resolved first, then what can be taken back is, the latest first."""

        def judge(frames: dict[str, Frame]) -> Outcome | None:
            if any(not frame.over for frame in frames.values()):
                return None
            keys.append(str(len(frames)))
            return None if self.run.in_doubt(self.agent) or self.run.undoable(self.agent) else Outcome("ok")

        def open_(key: str) -> Frame:
            doubts = self.run.in_doubt(self.agent)
            entry = doubts[0] if doubts else self.run.undoable(self.agent)[-1]
            return (Resolving if doubts else Undoing)(self, key, entry)

        keys: list[str] = []
        return (yield from self.fan(keys, open_, 1, judge))


class Undoing(Frame):
    """A call that takes another back (§12.3)."""

    def __init__(self, around: Frame, key: str, entry: Undo | Doubt) -> None:
        super().__init__(around.run, around.below(key), around.agent, (), {})
        self.entry = entry
        self.visit, self.here = 1, "undo"
        self.run.trace.append((self.path, self.here))

    def live(self) -> Steps:
        yield DECIDED
        while self.closed is None:
            try:
                self.outcome = self.outcome or (yield from self.carry_out())
                if self.outcome.kind == "in_doubt":
                    yield from self.park("settle")
                else:
                    ok = self.outcome.kind == "ok"
                    self.closed = Closed("done") if ok else Closed("failed", error=self.outcome.error or "Denied")
            except Stop:
                self.closed = Closed("cancelled")
        self.conclude(self.closed.how)
        yield from self.end()

    def carry_out(self) -> Steps:
        return self.call(None, self.entry)

    def conclude(self, how: str) -> None:
        """Off the list, unless it was cut short; what could not be taken back stays on another (§12.4)."""
        if how != "cancelled":
            self.run.undo.remove(self.entry)
        if how == "failed":
            self.run.undo_failed.append({"tool": self.entry.tool.name.text})


class Resolving(Undoing):
    """A call in doubt that its own frame has left behind."""

    def carry_out(self) -> Steps:
        self.run.doubts.remove(self.entry)
        self.frozen = self.entry.call
        return self.call(None, self.entry, doubt=True)

    def conclude(self, how: str) -> None:
        if how == "cancelled":
            self.run.doubts.insert(0, self.entry)


class Finally(Frame):
    """The calls of `finally`, one after the other, whatever comes of each (§13)."""

    def live(self) -> Steps:
        yield DECIDED
        for number_, action in enumerate(clauses(self.body, ast.CallAction), 1):
            self.visit, self.attempt, self.lost, self.here = number_, 1, 0, f"finally_{number_}"
            self.landed, self.called, self.frozen, self.tries = None, None, None, Counter()
            self.run.trace.append((self.path, self.here))
            with suppress(Fault):
                self.outcome = yield from self.call(None, action)
            yield DECIDED
            self.leave_visit()
            self.outcome = None
        self.run.trace.append((self.path, "finally_end"))
        self.closed = Closed("done")
        yield from self.end()


class Run:
    """A run: the clock, what is shared by all frames, and who is asked next."""

    def __init__(self, text: str, world: World, id: str = "run-1") -> None:
        items = parse(SourceFile("p.jam", text)).program.items
        self.tools = {t.name.text: t for t in clauses(items, ast.ToolDecl)}
        self.models = {m.name.text: m for m in clauses(items, ast.ModelDecl)}
        self.agents = {a.name.text: a for a in clauses(items, ast.AgentDecl)}
        self.world, self.id, self.now, self.pushed = world, id, 0, 0
        self.frames: dict[str, Frame] = {}
        self.tasks: dict[str, Steps] = {}
        self.flights: dict[str, Flight] = {}
        self.coming: list[tuple[int, int, str, int, Any]] = []
        self.first_start: dict[str, int] = {}
        self.landed_at: dict[str, int] = {}
        self.queue: list[tuple[str, Any]] = []
        self.keys: dict[tuple[str, Any], Any] = {}
        self.grants: list[Grant] = []
        self.questions: list[Question] = []
        self.undo: list[Undo] = []
        self.undo_failed: list[dict[str, Any]] = []
        self.doubts: list[Doubt] = []
        self.ended: list[Frame] = []
        self.parked: tuple[str, str, str] | None = None
        self.cancelled, self.status, self.parks = False, "", 0
        self.output: dict[str, Any] | None = None
        self.trace: list[tuple[str, str]] = []
        self.performed: list[tuple[int, str, str, Any]] = []
        self.emitted: list[tuple[str, Any]] = []
        self.denied: list[tuple[str, str]] = []
        decl = next(iter(self.agents.values()))
        given = {p.name.text: read(world.input[p.name.text], type_text(p.type)) for p in inputs_of(decl)}
        self.main = Agent(self, decl, None, None, given)
        self.main.root = Frame(self, "", self.main, decl.members, self.main.first)
        for n, outside in enumerate(world.outside):
            self.push(outside.at_ms, 2, f"{n:03}", outside)
        if world.crash_at is not None:
            self.push(world.crash_at, 3, "", None)

    # ---- time

    def go(self) -> Run:
        """To the end, or to where only somebody outside can move it."""
        self.decide()
        while not self.status and self.coming:
            self.now, order, key, _, thing = heapq.heappop(self.coming)
            if order == 0 and thing is not self.flights.get(key):
                continue
            match order:
                case 0:
                    self.land(thing)
                case 2:
                    self.happen(thing)
                case 3:
                    self.crash()
            self.decide()
        return self

    def push(self, at: int, order: int, key: str, thing: Any) -> None:
        self.pushed += 1
        heapq.heappush(self.coming, (at, order, key, self.pushed, thing))

    def wake(self, at: int) -> None:
        """Something is to be looked at then."""
        if at < INFINITY:
            self.push(max(at, self.now), 1, "", None)

    def decide(self) -> None:
        """Ask all frames, in order, until none of them has anything to do (§1.2)."""
        while not self.status and self.parked is None:
            for agent in {id(f.agent): f.agent for f in self.frames.values() if not f.over}.values():
                if not (agent.exceeded or agent.diverted or agent.ending) and agent.now_used("time") >= agent.caps.get(
                    "time", INFINITY
                ):
                    agent.exceed()
            said: dict[str, str] = {}
            for path in sorted(self.tasks):
                said[path] = self.ask(path, False)
                if said[path] == DECIDED or self.parked is not None:
                    break
            else:
                first = next((path for path in said if said[path] == BEGIN), None)
                if first is None:
                    break
                self.ask(first, True)

    def ask(self, path: str, may_begin: bool) -> str:
        task = self.tasks[path]
        return next(task) if inspect.getgeneratorstate(task) == inspect.GEN_CREATED else task.send(may_begin)

    def in_doubt(self, agent: Agent) -> list[Doubt]:
        """The calls in doubt of an agent and of those inside it that no frame waits for, the first one first."""
        found = [doubt for doubt in self.doubts if agent in doubt.agent.around]
        return sorted(found, key=lambda doubt: (doubt.at, doubt.key))

    def undoable(self, agent: Agent) -> list[Undo]:
        """What can be taken back, in order of completion."""
        return [entry for entry in self.undo if agent in entry.agent.around]

    def happen(self, outside: Any) -> None:
        """Somebody outside does something: an event, a cancellation, an answer, an operator's move (§4, §7, §9)."""
        root = self.main.root
        assert root is not None
        match outside.kind:
            case "event":
                decl = next(e for e in clauses(self.main.decl.members, ast.EventDecl) if e.name.text == outside.name)
                types = {p.name.text: type_text(p.type) for p in decl.params}
                self.queue.append((outside.name, {name: read(outside.value[name], types[name]) for name in types}))
            case "cancel" if outside.value:
                self.cancel_now()
            case "cancel":
                if (not self.cancelled or self.parked is not None) and not self.main.ending:
                    self.main.diverted = "cancel"
                self.cancelled, self.parked = True, None
            case "answer":
                self.answer(*outside.value, outside.name)
            case "retry" if self.parked is not None and self.parked[2] == "retry":
                self.parked = None
            case "happened" | "did_not_happen" if self.parked is not None and self.parked[2] == "settle":
                frame, self.parked = self.frames[self.parked[0]], None
                frame.settled = outside.kind

    def answer(self, question: Question, person: str, option: str) -> None:
        """§4.2, §4.4, §4.5."""
        if question not in self.questions:
            return
        approves = question.call is not None and option in question.approving
        if approves:
            question.approvals.append((person, question.role))
            if any(len({p for p, r in question.approvals if r == role}) < n for n, role in question.needs):
                return
            frame, call = question.frame, question.call
            assert call is not None
            bind = bind_of(question.action)
            grant = Grant(frame.here, bind, call.tool.name.text, call.args, question.approvals, frame.agent)
            self.grants.append(grant)
        value = {"option": option, "by": person, "at": Quantity(Decimal(self.now), "at")}
        question.answer = Outcome("answered", value, option=option)

    def question(self, frame: Frame, action: ast.AskAction, call: Call | None) -> Question:
        """Open a question; who answers it, and when, is the world's."""
        listed = clause(action.options, ast.OptionsOpt)
        default = [("approve", True), ("decline", False)] if call else [("done", False)]
        options = [(o.name.text, o.approves) for o in listed.options] if listed else default
        marked = [name for name, approves in options if approves] or ["approve"]
        question = Question(frame, action, call, list(frame.people) if call else [], action.role.value, marked)
        self.questions.append(question)
        for after_ms, option, person in self.world.answers(frame.key, [name for name, _ in options]):
            self.push(self.now + after_ms, 2, frame.key, Outside(0, "answer", option, (question, person)))
        return question

    # ---- effects

    def given(self, call: ast.ToolCall, params: Any, names: Names, fault: str = "") -> dict[str, Any]:
        """Arguments by parameter. Raises NoValue, or the Fault that it is there."""
        try:
            by_name = {(a.name.text if a.name else params[n].name.text): a.value for n, a in enumerate(call.args)}
            return {p.name.text: evaluate(by_name[p.name.text], names) for p in params if p.name.text in by_name}
        except NoValue:
            if fault:
                raise Fault(fault) from None
            raise

    def start(self, frame: Frame, call: Call, what: str) -> Flight:
        """An effect begins; the world knows when it will end, and how. A timeout is an end like any other."""
        key = frame.key + ("/confirm" if what == "confirm" else "")
        name = call.tool.name.text if call.tool else "think"
        type_ = type_text(call.tool.result) if call.tool else call.type
        landing = self.world.lands(key, type_, bool(raised(call.tool)))
        timeout = call.timeout or INFINITY
        if landing.after_ms >= timeout:
            landing = Landing(timeout, error="Timeout")
        begun = self.first_start.setdefault(key, self.now)
        if begun == self.now:
            self.performed.append((self.now, key, name, call.args))
        flight = self.flights[key] = Flight(frame, call, key, landing, what)
        self.push(max(self.now, begun + landing.after_ms), 0, key, flight)
        return flight

    def drop(self, flight: Flight) -> None:
        """Nobody waits for it any more: what it may have used counts in full (§6.3)."""
        del self.flights[flight.key]
        self.charge(flight, flight.call.tokens, flight.call.cost)

    def charge(self, flight: Flight, tokens: int, cost: Decimal) -> None:
        flight.frame.agent.spend("tokens", tokens)
        flight.frame.agent.spend("cost", cost)

    def land(self, flight: Flight) -> None:
        """An effect comes back: it is settled, and what came of it is known (§3.2, §3.3, §6.3)."""
        del self.flights[flight.key]
        frame, call, landing = flight.frame, flight.call, flight.landing
        error, value = landing.error, None
        if error is not None and error not in STANDARD | raised(call.tool):
            error = "Crashed"
        if error is None:
            try:
                value = read(landing.value, type_text(call.tool.result) if call.tool else call.type)
            except NoValue:
                error = "InvalidOutput"
        if call.tool is None and landing.error is None:
            tokens = (landing.tokens_in, landing.tokens_out)
            self.charge(flight, sum(tokens), sum((p * n for p, n in zip(call.price, tokens, strict=True)), Decimal(0)))
        elif error not in NOT_SENT:
            self.charge(flight, call.tokens, call.cost)
        self.landed_at[frame.path] = self.now
        if error is not None:
            frame.landed = Outcome("failed", error=error)
        elif flight.what == "action":
            frame.landed = self.happened(frame, call, value)
        else:
            frame.landed = Outcome("ok", value)

    def happened(self, frame: Frame, call: Call, value: Any) -> Outcome:
        """A call succeeded: history, and how it could be taken back (§12.1)."""
        if call.tool is not None:
            frame.agent.remember("succeeded", call.tool.name.text, call.args)
            undo = clause(call.tool.clauses, ast.UndoClause)
            if undo is not None:
                tool, args = self.tools[undo.call.tool.text], None
                with suppress(NoValue):
                    args = self.given(undo.call, tool.params, {**frame.tool_names(call.args), "result": value})
                self.undo.append(Undo(frame.agent, tool, args))
        return Outcome("ok", value)

    def crash(self) -> None:
        """The process dies, and another takes the run over at once (§8): what was in flight is not known."""
        for key, flight in sorted(self.flights.items()):
            call, free = flight.call, not flight.call.cost and not flight.call.tokens
            if free and not call.writes:
                continue  # it is made again as it was
            del self.flights[key]
            if call.tool is not None and clause(call.tool.clauses, ast.ConfirmClause) is not None:
                self.flights[key] = replace(flight)  # held until somebody tells
            else:
                self.charge(flight, call.tokens, call.cost)
            flight.frame.landed = Outcome("recovered")

    # ---- the end

    def close(self, frame: Frame) -> None:
        """A frame has ended; with the root, the run."""
        del self.tasks[frame.path]
        self.ended.append(frame)
        if not frame.path:
            closed = frame.closed
            assert closed is not None
            self.status, self.output, self.parked = self.main.status, closed.value or {}, None

    def cancel_now(self) -> None:
        """Without delay (§7.3): frames are closed as they are; `finally` is made unless it is that which is cut."""
        self.cancelled, self.parked, root = True, None, self.main.root
        for flight in list(self.flights.values()):
            self.drop(flight)
        for frame in [f for f in self.frames.values() if f.path and not f.over]:
            frame.over = True
            del self.tasks[frame.path]
        if self.main.ending:
            self.status, self.output = self.main.status, (root.closed.value if root.closed else None) or {}
            return
        root.closed = Closed("cancelled")
        self.tasks[""] = root.end()


def seen(run: Run) -> dict[str, Any]:
    """What is compared, of the reference's run."""
    path: dict[str, list[str]] = {}
    for frame, state in run.trace:
        path.setdefault(frame, []).append(state)
    root = run.main.root
    return {
        "status": run.status or ("parked" if run.parked is not None else "open"),
        "path": path,
        "variables": root.vars,
        "output": None if run.output is None else {k: v for k, v in run.output.items() if v is not None},
        "steps": run.main.used["steps"],
        "tokens": run.main.used["tokens"],
        "cost": Decimal(run.main.used["cost"]),
        "performed": sorted(run.performed, key=lambda call: call[:2]),
        "denied": sorted(run.denied),
        "emitted": run.emitted,
        "where": [] if run.status else sorted(f"{f.path}:{f.here}" for f in run.frames.values() if not f.over),
    }
