"""A policy, evaluated naively: over the list of all calls that a run has made, with conditions of the simplest kind."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeAlias

from jamjet_dsl.definition import Agent, Definition, LimitDef, Rule, ToolSetDef

_COMPARE = {
    "<=": lambda a, b: a <= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
}


class Unknown(Exception):
    """A condition that is beyond this evaluator."""


Everybody: TypeAlias = dict[str, list[tuple[int, Decimal]]]
"""What all runs have used of limits `per principal`, in the order of their commits: when, and what a total gets."""


class Naive:
    """One agent's policy and the calls that were made by it and inside it."""

    def __init__(self, definition: Definition, agent: Agent, everybody: Everybody) -> None:
        self.definition = definition
        self.agent = agent
        self.everybody = everybody
        self.rules = agent.rules or ()
        self.calls: list[tuple[str, dict[str, Any], int, bool]] = []

    def made(self, tool: str, args: dict[str, Any], at_ms: int, undoing: bool, who: str) -> None:
        """A call was begun for somebody. One that takes another back counts under no limit."""
        self.calls.append((tool, args, at_ms, undoing))
        limits = [rule.limit for rule in self.rules if rule.limit is not None and self._among(rule.limit.tools, tool)]
        shared = {} if undoing else {self._counter(limit, who): limit for limit in limits if limit.principal}
        for name, limit in shared.items():
            used = self.everybody.setdefault(name, [])
            size = Decimal(0) if limit.amount is None else _value(limit.amount, args)
            used.append((max(at_ms, used[-1][0] if used else 0), size))

    def _counter(self, limit: LimitDef, who: str) -> str:
        """What is one limit to everybody: neither its bound nor its window, nor the version of the program."""
        return repr((who, self.agent.name, limit.tools, limit.amount))

    def judge(
        self,
        tool: str,
        args: dict[str, Any],
        at_ms: int,
        grants: list[dict[str, Any]],
        principal: dict[str, Any],
        undoing: bool,
        asking: bool = False,
    ) -> tuple[str, str]:
        """`allowed`, `needs_approval` or `denied`, and why; `unknown` where a rule is beyond this evaluator."""
        try:
            return self._judge(tool, args, at_ms, grants, principal, undoing, asking)
        except Unknown:
            return "unknown", "beyond this evaluator"

    def _judge(
        self,
        tool: str,
        args: dict[str, Any],
        at_ms: int,
        grants: list[dict[str, Any]],
        principal: dict[str, Any],
        undoing: bool,
        asking: bool,
    ) -> tuple[str, str]:
        rules = [rule for rule in self.rules if self._among(rule.tools, tool)]
        allowing = [r for r in rules if r.kind == "allow" and self._holds(r, args)]
        if not allowing:
            return "denied", "nothing allows it"
        for rule in rules:
            if rule.kind == "forbid" and self._holds(rule, args):
                return "denied", "it is forbidden"
            if rule.kind == "never" and any(self._among(rule.after, name) for name, _, _, _ in self.calls):
                return "denied", "it comes after what it must not come after"
            if rule.kind in ("require_read", "require_any", "fact"):
                raise Unknown
        if undoing:
            return "allowed", ""
        over = self._over(tool, args, at_ms, str(principal["id"]), asking)
        if over is not None:
            return "denied", over
        needs = [r for r in rules if r.kind in ("require_ask", "require_people") and self._holds(r, args)]
        waived = any(rule.because is not None for rule in allowing)
        irreversible = self.definition.tools[tool].effect == "irreversible" and not waived
        for need in needs:
            if not self._met(need, grants, principal):
                return "needs_approval", need.kind
        if irreversible and not needs and not grants:
            return "needs_approval", "it is irreversible"
        return "allowed", ""

    def _over(self, tool: str, args: dict[str, Any], at_ms: int, who: str, asking: bool) -> str | None:
        """Which limit a further call would pass. While a question is being asked others may use what is left."""
        for rule in self.rules:
            limit = rule.limit
            if limit is None or not self._among(limit.tools, tool):
                continue
            if limit.per or (limit.principal and asking):
                raise Unknown
            used = self.everybody.get(self._counter(limit, who), []) if limit.principal else self._own(limit)
            inside = [size for when, size in used if limit.window_ms is None or when > at_ms - limit.window_ms]
            if limit.count is not None and len(inside) + 1 > limit.count:
                return f"{limit.count} calls are used up"
            if limit.amount is None or limit.bound is None:
                continue
            if sum(inside, Decimal(0)) + _value(limit.amount, args) > _value(limit.bound, args):
                return "the total is used up"
        return None

    def _own(self, limit: LimitDef) -> list[tuple[int, Decimal]]:
        """What this run alone has used of a limit."""
        calls = [
            (when, given) for name, given, when, undoing in self.calls if self._among(limit.tools, name) and not undoing
        ]
        return [(when, Decimal(0) if limit.amount is None else _value(limit.amount, given)) for when, given in calls]

    def _met(self, need: Rule, grants: list[dict[str, Any]], principal: dict[str, Any]) -> bool:
        if need.kind == "require_ask":
            return any(grant["state"] == need.ask for grant in grants)
        people = {p["by"] for grant in grants for p in grant["people"] if self._counts(need, p, principal)}
        return len(people) >= (need.count or 1)

    def _counts(self, need: Rule, person: dict[str, Any], principal: dict[str, Any]) -> bool:
        if need.role is not None and need.role not in person["roles"]:
            return False
        return not (need.excluding == "principal" and person["by"] == principal.get("id"))

    def enough(self, question: dict[str, Any], principal: dict[str, Any]) -> bool:
        """Whether a question has all the approvals that it wants."""
        if "call" not in question:
            return True
        tool, args = question["call"]["tool"], question["call"]["args"]
        grant = {"state": question["state"], "people": question["approvals"]}
        needs = [rule for rule in self.rules if rule.kind == "require_people" and self._among(rule.tools, tool)]
        return all(self._met(rule, [grant], principal) for rule in needs if self._holds(rule, args))

    def _among(self, tools: ToolSetDef | None, tool: str) -> bool:
        if tools is None or tool in tools.names or "any" in tools.classes:
            return True
        return self.definition.tools[tool].effect in tools.classes

    def _holds(self, rule: Rule, args: dict[str, Any]) -> bool:
        if rule.when is None:
            return True
        operator, left, right = (*rule.when, None, None)[:3]
        if operator not in _COMPARE:
            raise Unknown
        return bool(_COMPARE[operator](_value(left, args), _value(right, args)))


def _value(expr: Any, args: dict[str, Any]) -> Decimal:
    if expr[0] == "int":
        return Decimal(expr[1])
    if expr[0] == "select" and expr[1] == ["var", "args"] and expr[2] in args:
        return Decimal(args[expr[2]])
    raise Unknown


def judge_all(
    agents: list[Naive],
    tool: str,
    args: dict[str, Any],
    at_ms: int,
    grants: list[dict[str, Any]],
    principal: dict[str, Any],
    undoing: bool,
    asking: bool,
) -> tuple[str, str]:
    """What the policies of an agent and of those around it say together: the strongest restriction of all.

    An approval by a state of an agent around it cannot be had inside; one that anybody may give counts for all. While
    somebody is still being asked nobody knows yet what will be given.
    """
    own, *around = [agent for agent in agents if agent is agents[0] or agent.agent.rules is not None]
    found = [own.judge(tool, args, at_ms, grants, principal, undoing, asking)]
    foreign = [{**grant, "state": ""} for grant in grants]
    for agent in around:
        verdict, why = agent.judge(tool, args, at_ms, foreign, principal, undoing, asking)
        if verdict == "needs_approval":
            verdict = "unknown" if asking else "denied"
        found.append((verdict, why))
    order = ("denied", "unknown", "needs_approval", "allowed")
    return min(found, key=lambda one: order.index(one[0]))
