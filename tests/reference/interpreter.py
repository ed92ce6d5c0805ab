"""A naive interpreter of the sequential language: one loop, no events, no journal, nothing shared with the kernel.

It says what a run should come to, for the part of the language that random programs are made of: guards and
`set`s over integers, calls with results and errors, retries, limits, error edges and handlers, a budget of
steps and cost, a policy of `allow` and `limit`, doubt. It is written to be read beside the specification.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from jamjet_dsl import definition as d

INDEFINITE = {"Timeout", "Disconnected", "Crashed", "InvalidOutput"}


class NoValue(Exception):
    """The expression has no value."""


@dataclass
class Outcome:
    """How a run ended, as far as it can be compared."""

    status: str = "running"
    path: list[str] = field(default_factory=list)
    output: dict[str, Any] | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    performed: list[str] = field(default_factory=list)
    steps: int = 0
    cost: Decimal = Decimal(0)


def evaluate(expr: list[Any], names: dict[str, Any]) -> Any:
    """Integers, truth values and variables."""
    match expr:
        case ["int" | "bool", value]:
            return value
        case ["var", name]:
            if name not in names:
                raise NoValue
            return names[name]
        case [("+" | "-" | "*" | "/" | "<" | ">=" | "==") as op, left, right]:
            a, b = evaluate(left, names), evaluate(right, names)
            if op == "/":
                if b == 0:
                    raise NoValue
                return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            return {"+": a + b, "-": a - b, "*": a * b, "<": a < b, ">=": a >= b, "==": a == b}[op]
    raise AssertionError(expr)


def money(text: str | None) -> Decimal:
    return Decimal(text.split()[0]) if text else Decimal(0)


class Interpreter:
    """Runs one definition against a script of outcomes by tool: an int, or the name of an error."""

    def __init__(self, definition: d.Definition, script: dict[str, list[Any]]) -> None:
        self.defn = definition
        self.agent = definition.agent
        self.states = {state.name: state for state in self.agent.body.states}
        self.script = {tool: list(outcomes) for tool, outcomes in script.items()}
        self.counters: dict[tuple[str, str], int] = {}
        self.calls: dict[str, int] = {}
        self.exceeded = False
        self.result: dict[str, Any] = {}
        """What the action gave: bound as its state is left, so not in a run that parks there."""
        self.out = Outcome()

    def run(self) -> Outcome:
        out = self.out
        out.variables = {var.name: evaluate(var.init, {}) for var in self.agent.vars if var.init is not None}
        self.enter(self.agent.body.start)
        while out.status == "running":
            here = self.states[out.path[-1]]
            if isinstance(here, d.Final):
                out.output = {name: evaluate(expr, out.variables) for name, expr in here.outputs.items()}
                out.status = "failed" if here.failed else "completed"
            else:
                self.state(here)
        return out

    def enter(self, name: str) -> None:
        self.out.path.append(name)
        self.out.variables |= self.result
        self.result = {}
        here = self.states[name]
        if isinstance(here, d.State) and here.action is not None and not self.exceeded:
            self.out.steps += 1

    def goto(self, name: str) -> None:
        here = self.states[name]
        cap = self.agent.budget.limits.steps if self.agent.budget else None
        metered = isinstance(here, d.State) and here.action is not None
        if metered and cap is not None and not self.exceeded and self.out.steps >= cap:
            self.exceed()
        else:
            self.enter(name)

    def exceed(self) -> None:
        """The budget is used up: once, to its target; a second time there is nowhere to go."""
        target = self.agent.budget.exceeded if self.agent.budget else None
        if self.exceeded or target is None:
            self.exceeded = True
            self.out.status = "parked"
            return
        self.exceeded = True
        self.enter(target)

    # ---- one state

    def state(self, here: d.State) -> None:
        if here.action is not None and self.exceeded:
            self.out.status = "parked"
            return
        result: Any = None
        if isinstance(here.action, d.Call):
            kind, result = self.call(here.action)
            if kind == "exceeded":
                self.exceed()
                return
            if kind != "ok":
                self.after(here, kind, result)
                return
            if here.action.bind is not None:
                self.result = {here.action.bind: result}
        self.success(here)

    def success(self, here: d.State) -> None:
        names = {**self.out.variables, **self.result}
        try:
            for item in here.sets:
                names[item.path[0]] = evaluate(item.value, names)
            for edge in here.edges:
                if edge.trigger == "always" or (edge.trigger == "when" and evaluate(edge.guard or [], names)):
                    self.take(here, edge, names)
                    return
        except NoValue:
            self.after(here, "fault", "EvaluationFailed")

    def take(self, here: d.State, edge: d.Edge, names: dict[str, Any]) -> None:
        """By an edge; with a fault in its block nothing has happened yet."""
        key = (here.name, edge.id)
        used = self.counters.get(key, 0)
        if edge.limit is not None and used >= edge.limit:
            if edge.limit_to is None:
                self.exceed()  # what was set on the way is kept only if somewhere is gone to
                if self.out.status != "parked":
                    self.keep_sets(here)
                return
            target = edge.limit_to
        else:
            for item in edge.sets:
                names[item.path[0]] = evaluate(item.value, names)
            target = edge.target or ""
        before = (self.exceeded, len(self.out.path))
        self.goto(target)
        if self.exceeded and not before[0]:
            if self.out.status != "parked":
                self.keep_sets(here)
            return
        if edge.limit is not None and used < edge.limit:
            self.counters[key] = used + 1
        self.out.variables.update(names)

    def keep_sets(self, here: d.State) -> None:
        """On the way to `exceeded` a state's own `set`s have run, an edge's block has not."""
        names = dict(self.out.variables)
        for item in here.sets:
            names[item.path[0]] = evaluate(item.value, names)
        self.out.variables = names

    # ---- calls

    def call(self, action: d.Call) -> tuple[str, Any]:
        tool = self.defn.tools[action.tool]
        if not self.allowed(action.tool):
            return "denied", None
        self.calls[action.tool] = self.calls.get(action.tool, 0) + 1
        left = [rule.times for rule in action.retry]
        first = True
        self.unclear = False
        while True:
            caps = self.agent.budget.limits if self.agent.budget else d.Limits()
            if caps.cost is not None and tool.cost and self.out.cost + money(tool.cost) > money(caps.cost):
                if first:
                    self.calls[action.tool] -= 1
                return ("exceeded", None) if first or not self.unclear else ("in_doubt", None)
            first = False
            self.out.performed.append(action.tool)
            outcomes = self.script[action.tool]
            outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
            if isinstance(outcome, int):
                self.out.cost += money(tool.cost)
                return "ok", outcome
            if outcome not in ("RateLimited", "Unavailable", "InvalidInput"):
                self.out.cost += money(tool.cost)
            # Only the tool's own answer tells of the attempts before it.
            before = self.unclear and outcome not in tool.raises
            self.unclear = tool.effect != "reads" and (outcome in INDEFINITE or before)
            rule = next((n for n, r in enumerate(action.retry) if outcome in r.errors or "any" in r.errors), None)
            if rule is not None and left[rule] and not (self.unclear and tool.key is None):
                left[rule] -= 1
                continue
            return ("in_doubt", None) if self.unclear else ("error", outcome)

    unclear = False

    def allowed(self, tool: str) -> bool:
        rules = self.agent.rules or ()
        if not any(rule.kind == "allow" and rule.tools and tool in rule.tools.names for rule in rules):
            return False
        return all(
            rule.limit is None
            or tool not in rule.limit.tools.names
            or rule.limit.count is None
            or sum(self.calls.get(name, 0) for name in rule.limit.tools.names) < rule.limit.count
            for rule in rules
        )

    # ---- when it did not go well

    def after(self, here: d.State, kind: str, error: Any) -> None:
        trigger = "error" if kind in ("error", "fault") else kind
        for edge in here.edges:
            if edge.trigger == trigger and (trigger != "error" or error in edge.errors or "any" in edge.errors):
                try:
                    self.take_plain(here, edge)
                except NoValue:
                    self.out.status = "parked"
                return
        for handler in self.agent.handlers:
            fits = handler.trigger == trigger and (trigger != "error" or "any" in handler.errors)
            if fits and handler.target != here.name:
                self.goto(handler.target)
                return
        self.out.status = "parked"

    def take_plain(self, here: d.State, edge: d.Edge) -> None:
        """An edge that leaves without a success: no `set` of the state has run."""
        empty = here.model_copy(update={"sets": ()})
        self.take(empty, edge, {**self.out.variables, **self.result})
