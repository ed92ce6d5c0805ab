"""Random calls, decided by the engine and by the reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from jamjet_dsl.compiler import ProgramRefused, compile_text
from jamjet_dsl.definition import Definition
from jamjet_dsl.kernel.policy import Decision, Fence, Ledger
from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.parser import parse
from tests.reference.expressions import NoValue, Quantity
from tests.reference.policy import policies
from tests.reference.policy.guard import Guard
from tests.reference.policy.judge import GONE, Judge, Ruling
from tests.reference.reading import clause, clauses

HISTORIES = 12
"""So many histories are tried with one policy."""
CALLS = 40
"""So many calls are decided in one history."""


@dataclass
class Tally:
    """What was compared."""

    policies: int = 0
    refused: int = 0
    decisions: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.policies += other.policies
        self.refused += other.refused
        self.decisions += other.decisions
        for name, count in other.verdicts.items():
            self.verdicts[name] = self.verdicts.get(name, 0) + count
        self.wrong += other.wrong


def compare(seeds: range) -> Tally:
    """The policies of these seeds, each with some histories."""
    tally = Tally()
    for seed in seeds:
        text, kept = policies.program(seed)
        tally.policies += 1
        try:
            definition = compile_text(text).definition
        except ProgramRefused:
            tally.refused += 1
            continue
        everybody: list[Any] = []
        ledger = Ledger()
        for n in range(HISTORIES):
            wrong = one_history(text, definition, kept, seed * HISTORIES + n, tally, everybody, ledger)
            if wrong:
                tally.wrong.append(f"seed {seed}, history {n}:\n{text}\n{wrong}")
                break
    return tally


def one_history(
    text: str, definition: Definition, kept: bool, seed: int, tally: Tally, everybody: list[Any], ledger: Ledger
) -> str | None:
    """One history of calls. The first disagreement, in words. What is limited per principal is so in all of them."""
    world = policies.World(seed)
    judge = judge_of(text, world)
    judge.everybody = everybody
    guard = Guard(definition, world.principal, world.variables, ledger)
    tools = sorted(definition.tools)  # those that the policy speaks of
    told: list[str] = []
    for _ in range(CALLS):
        tool, args, fits = world.call(tools)
        approvals, at, origins = world.approvals(), world.later(judge.now), world.origins()
        judge.now = max(at, judge.now) if fits else judge.now  # what is no call has no time
        judge.origins = {name: frozenset(flags) for name, flags in origins.items()}
        guard.come_from(origins)
        ruling = judge.decide(tool, values(tool, args), approvals) if fits else Ruling("denied", ())
        found = by_engine(guard, world, kept, tool, args, approvals, at)
        tally.decisions += 1
        tally.verdicts[found.verdict] = tally.verdicts.get(found.verdict, 0) + 1
        told.append(f"  {judge.now:>8} {tool} {args} {approvals} {origins}: {ruling}")
        if seen(found) != ruling:
            return "\n".join([*told, f"  the engine: {seen(found)} ({found.reason})"])
        if fits and (found.verdict == "allowed" or world.chance.random() < 0.4):
            ok, result = world.outcome(tool)
            judge.made(tool, values(tool, args), ok, result)
            if kept:
                guard.made(tool, args, ok, result)
            else:
                guard.record(tool, args, ok=ok, result=result, at_ms=at)
            told.append(f"           {tool} was made: {ok} {result}")
    return None


def by_engine(
    guard: Guard, world: policies.World, kept: bool, tool: str, args: dict[str, Any], approvals: list[Any], at: int
) -> Decision:
    """The engine's decision: as a run makes it where facts are kept, else as a fence does."""
    now = max(at, guard.now_ms)

    def read(tool: str, args: dict[str, Any]) -> Any:
        return world.fact(tool, args, now)

    if kept:
        return guard.ruling(tool, args, approvals, read, at)
    return Fence.decide(guard, tool, args, approvals=approvals, read=read, at_ms=at)


def judge_of(text: str, world: policies.World) -> Judge:
    """The reference's side."""
    items = parse(SourceFile("p.jam", text)).program.items
    (agent,) = clauses(items, ast.AgentDecl)
    tools = {tool.name.text: tool for tool in clauses(items, ast.ToolDecl)}

    def read(tool: str, args: dict[str, Any], now: int) -> Any:
        try:
            value = world.fact(tool, args, now)
        except policies.Gone:
            return GONE
        except (OSError, policies.Timeout):
            raise NoValue from None
        if isinstance(value, int) if tool == "info" else not isinstance(value, int):
            raise NoValue
        if isinstance(value, dict) and len(value) < 3:
            raise NoValue
        return value

    rules = clause(agent.members, ast.Policy, "rules")
    return Judge(rules, tools, dict(world.variables), {}, world.principal, read)


def values(tool: str, args: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call as the reference has values."""
    return {name: amount(value) if name == "m" else value for name, value in args.items()}


def amount(text: str) -> Quantity:
    number, unit = text.split()
    return Quantity(Decimal(number), unit)


def seen(decision: Decision) -> Ruling:
    """A decision of the engine, as a ruling."""
    needs: list[Any] = []
    for need in decision.needs if decision.verdict == "needs_approval" else ():
        people = (need.get("people"), need.get("role"), need.get("excluding") is not None)
        needs.append(need.get("ask", people))
    return Ruling(decision.verdict, decision.rules, tuple(needs))
