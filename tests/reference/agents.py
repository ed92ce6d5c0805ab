"""An agent at work, as the reference has it: its budget (§6, §11.3) and its policy (§5, §11.4)."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from jamjet_dsl.syntax import ast
from tests.reference.expressions import Names, NoValue, evaluate
from tests.reference.reading import FOREVER, clause, clauses, effect, given, number, plain

WINDOWS = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
Demands = tuple[list[Any], list[tuple[int, str]]]


class Stop(Exception):
    """What a frame does is not wanted any more (§6.4, §7.3, §10.7)."""


class Exceeded(Stop):
    """It is what this frame was about to do that does not fit the budget: that is decided before anything else."""


class Agent:
    """One agent: what it may use and has used, and what its policy remembers. `at` is the frame that runs it."""

    def __init__(self, run: Any, decl: ast.AgentDecl, at: Any, clause_: Any, inputs: Names) -> None:
        self.run, self.decl, self.at, self.inputs, self.root = run, decl, at, inputs, None
        self.around: list[Agent] = [self, *(at.agent.around if at is not None else [])]
        self.started, self.used, self.handlers = run.now, Counter[str](), clauses(decl.members, ast.Handler)
        self.history, self.counted = list[tuple[str, Any]](), list[tuple[Any, int]]()
        self.exceeded, self.ending, self.diverted = False, False, ""
        budgets = [b for b in (clause_, clause(decl.members, ast.Budget)) if b is not None]
        limits = [(limit.kind, number(limit.amount)) for b in budgets for limit in clauses(b.items, ast.BudgetLimit)]
        for agent in self.around[1:]:  # §11.3
            limits += [(k, max(cap - agent.spent(k) - agent.held(k), 0)) for k, cap in agent.caps.items()]
        self.limits = {kind: min(amount for k, amount in limits if k == kind) for kind, _ in limits}
        reserves = [reserve for b in budgets for reserve in clauses(b.items, ast.ReserveClause)]
        kept = {limit.kind: number(limit.amount) for limit in (reserves[0].limits if reserves else ())}
        self.caps = {kind: max(limit - kept.get(kind, 0), 0) for kind, limit in self.limits.items()}
        self.on_exceeded = clause(budgets[-1].items, ast.ExceededClause, "target") if budgets else None
        run.wake(run.now + self.caps.get("time", FOREVER))
        self.first: Names = {}
        for var in [var for var in clauses(decl.members, ast.VarDecl) if var.init is not None]:
            self.first[var.name.text] = evaluate(var.init, {**inputs, **self.first})

    # ---- the budget

    def spent(self, kind: str) -> Any:
        """How much of it is used up."""
        return self.run.now - self.started if kind == "time" else self.used[kind]

    def held(self, kind: str) -> Any:
        """What is reserved by effects in flight (§6.2)."""
        flights = [f for f in self.run.flights.values() if self in f.frame.agent.around]
        return sum(getattr(f.call, kind) for f in flights) if kind in ("tokens", "cost") else 0

    def spend(self, kind: str, amount: Any) -> None:
        """What a child uses counts for every agent around it."""
        for agent in self.around:
            agent.used[kind] += amount if kind != "steps" or not agent.exceeded else 0

    def fits(self, call: Any, spare: bool, own: Any = None) -> Agent | bool:
        """True, False (it waits for what others hold, §10.9), or the agent whose budget it exceeds (§6.2). What its
        `own` call holds, of which a crash took the outcome, is never given back to it."""
        waits = False
        for agent in self.around:
            caps = agent.limits if spare else agent.caps
            for kind in [kind for kind in ("tokens", "cost") if kind in caps and getattr(call, kind)]:
                need = agent.used[kind] + getattr(call, kind)
                if need + (getattr(own, kind) if own is not None else 0) > caps[kind]:
                    return agent
                waits |= need + agent.held(kind) > caps[kind]
        return not waits

    def exceed(self) -> None:
        """It is used up (§6.4): once; afterwards it parks."""
        self.exceeded, self.diverted = True, "exceeded"
        raise Exceeded

    # ---- the policy

    def remember(self, kind: str, call: Any) -> None:
        """What its rules and those around it may ask about."""
        for agent in self.around:
            agent.history.append((kind, call))

    def calls(self, kind: str, tool: str, args: dict[str, Any]) -> int:
        """`calls(T)`, `succeeded(T, a = e)` and the like."""
        found = [call.args for was, call in self.history if (was, call.name) == (kind, tool)]
        return sum(all(given.get(name) == value for name, value in args.items()) for given in found)

    def demands(self, frame: Any, call: Any) -> Demands | None:
        """The ask states and the people whose approval a call needs by this policy; None if it is denied."""
        rules, undoing = clause(self.decl.members, ast.Policy, "rules"), frame.undoes is not None
        if rules is None and frame.agent is not self:
            return [], []
        while frame.agent is not self:
            frame = frame.agent.at
        names, asks, people = {**frame.names(), "args": call.args}, list[Any](), list[tuple[int, str]]()
        allowed = waived = False
        try:
            for rule in rules or ():
                limits = rule.limits if isinstance(rule, ast.LimitRule) and not undoing else ()
                if not all(self.has_room(limit, names, call) for limit in limits if named(limit.tools, call.tool)):
                    return None
                tools = getattr(rule, "before", None) or getattr(rule, "tools", None)
                if tools is None or not named(tools, call.tool):
                    continue
                if rule.when is not None and not evaluate(rule.when, names):
                    continue
                match rule:
                    case ast.AllowRule():
                        allowed, waived = True, waived or rule.because is not None
                    case ast.RequireAskRule():
                        asks.append(rule.ask.text)
                    case ast.RequirePeopleRule():
                        people.append((number(rule.count), rule.role.value))
                    case ast.RequireReadRule(call=read):
                        args = given(read, self.run.tools[read.tool.text].params, names)
                        if not self.calls("succeeded", read.tool.text, args):
                            return None
                    case ast.RequireAnyRule() if self.known("succeeded", rule.tools):
                        pass
                    case ast.NeverRule() if not self.known("attempted", rule.after):
                        pass
                    case _:
                        return None
        except NoValue:
            return None
        if effect(call.tool) == "irreversible" and not (waived or asks or people):
            asks.append(None)
        return (asks, people) if allowed else None

    def known(self, kind: str, tools: ast.ToolSet) -> bool:
        """Whether a call of one of these tools is remembered."""
        return any(named(tools, tool) and self.calls(kind, name, {}) for name, tool in self.run.tools.items())

    def has_room(self, limit: Any, names: Names, call: Any) -> bool:
        """Whether a `limit` has room for the call; what it counts as is kept with the call (§5.5, §5.6). What all runs
        have used is found out last, just before the call would begin (§5.7)."""
        units = [WINDOWS.get(getattr(per, "name", "")) for per in limit.per]
        shared = any(getattr(per, "name", "") == "principal" for per in limit.per)
        own = [per for per, unit in zip(limit.per, units, strict=True) if not unit]
        group = [evaluate(per, names) for per in own if getattr(per, "name", "") != "principal"]
        since = self.run.now - min((unit for unit in units if unit), default=FOREVER)
        total = isinstance(limit, ast.LimitTotal)
        size, bound = (plain(evaluate(limit.amount, names)), limit.bound) if total else (1, limit.count)
        used = self.run.counted if shared else self.counted
        call.counts.append((used, (limit, group, size)))
        most = plain(evaluate(bound, names))

        def fits(counted: list[tuple[Any, int]]) -> bool:
            sizes = [s for (rule, g, s), at in counted if rule is limit and g == group and at > since]
            return bool(size >= 0 and sum(sizes) + size <= most)

        if shared:
            call.last.append(partial(fits, used))
        return fits([] if shared else used)


def named(tools: ast.ToolSet, tool: ast.ToolDecl) -> bool:
    """Whether a rule speaks of a tool."""
    return bool({tool.name.text, effect(tool), "any"} & {n.text for n in (*tools.names, *tools.classes)})
