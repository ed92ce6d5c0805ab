"""What a policy has to say of one tool, looked at once: an index, so that a call costs only the rules about it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.expr import Evaluator
from jamjet_dsl.kernel.monitors import read_key
from jamjet_dsl.kernel.program import Plan, matches, reads_of
from jamjet_dsl.kernel.scope import NONE, UNTRUSTED
from jamjet_dsl.kernel.values import dumps_form

SPEAKING = frozenset({"allow", "forbid", "require_read", "require_any", "require_ask", "require_people", "never"})
"""The kinds of rules that say something of a call. Limits and facts stand apart; `redact` says nothing of calls."""

Arguments = tuple[tuple[str, Evaluator], ...]


class Ready(NamedTuple):
    """A rule, its condition and the arguments of the read that it requires, by name, with the `key` that such reads
    are kept under. `about`: the condition looks at what was read. `tools` are those of `any of …`, or those that
    nothing may come after, sorted: in one order, whether the definition was just made or read back from its canonical
    form. `untrusted` are those of the tools it reads whose results are."""

    number: int
    kind: str
    rule: d.Rule
    when: Evaluator | None
    about: bool
    args: Arguments
    key: str
    tools: tuple[str, ...]
    untrusted: frozenset[str]


class ReadyLimit(NamedTuple):
    """A limit and its expressions. `counter` names one that all runs of a principal share; empty for any other."""

    number: int
    limit: d.LimitDef
    per: tuple[Evaluator, ...]
    amount: Evaluator | None
    bound: Evaluator | None
    counter: str


class ReadyFact(NamedTuple):
    """A fact, the arguments of its read, and where what it gives comes from."""

    name: str
    rule: d.Rule
    tool: str
    args: Arguments
    origin: frozenset[str]


class Docket(NamedTuple):
    """The rules about a tool, its limits, the facts that they read, in the order of the program, and whether none of
    it depends on anything."""

    rules: tuple[Ready, ...]
    limits: tuple[ReadyLimit, ...]
    facts: tuple[ReadyFact, ...]
    simple: bool


def make_docket(plan: Plan, tool: str) -> Docket:
    """The docket of a tool."""
    rules = plan.agent.rules or ()
    speaking = [(i, r) for i, r in enumerate(rules) if r.kind in SPEAKING and matches(plan.defn, r.tools, tool)]
    limits = [(i, r.limit) for i, r in enumerate(rules) if r.limit is not None]
    limits = [(i, limit) for i, limit in limits if matches(plan.defn, limit.tools, tool)]
    wanted = {name for i, _ in (*speaking, *limits) for expr in _expressions(rules[i]) for name in reads_of(expr)}
    declared = [r for r in rules if r.kind == "fact" and r.call is not None and matches(plan.defn, r.tools, tool)]
    for rule in reversed(declared):
        if rule.name in wanted and rule.call is not None:  # a fact may need those before it
            wanted = wanted.union(*(reads_of(expr) for expr in rule.call.args.values()))
    facts = tuple(
        ReadyFact(rule.name or "", rule, rule.call.tool, _arguments(plan, rule.call), _origin(plan, rule.call.tool))
        for rule in declared
        if rule.name in wanted and rule.call is not None
    )
    simple = all(r.kind in ("allow", "forbid") and r.when is None for _, r in speaking)
    return Docket(
        tuple(_ready(plan, i, r) for i, r in speaking),
        tuple(_ready_limit(plan, i, limit) for i, limit in limits),
        facts,
        simple and not limits and not facts,
    )


def _ready(plan: Plan, index: int, rule: d.Rule) -> Ready:
    when = None if rule.when is None else plan.closure(rule.when)
    about = rule.when is not None and rule.bind in reads_of(rule.when)
    args: Arguments = ()
    key = ""
    if rule.call is not None:
        args = tuple(sorted(_arguments(plan, rule.call), key=lambda item: item[0]))
        key = read_key(rule.call.tool, (name for name, _ in args))
    listed = {"require_any": rule.reads, "never": rule.after}.get(rule.kind)
    tools = () if listed is None else tuple(sorted(t for t in plan.defn.tools if matches(plan.defn, listed, t)))
    read = tools if rule.call is None else (rule.call.tool,)
    untrusted = frozenset(tool for tool in read if plan.defn.tools[tool].untrusted)
    return Ready(index, rule.kind, rule, when, about, args, key, tools, untrusted)


def _origin(plan: Plan, tool: str) -> frozenset[str]:
    return frozenset({UNTRUSTED}) if plan.defn.tools[tool].untrusted else NONE


def _ready_limit(plan: Plan, index: int, limit: d.LimitDef) -> ReadyLimit:
    amount, bound = (None if expr is None else plan.closure(expr) for expr in (limit.amount, limit.bound))
    per = tuple(plan.closure(expr) for expr in limit.per)
    return ReadyLimit(index, limit, per, amount, bound, counter_of(plan.agent.name, limit))


def counter_of(agent: str, limit: d.LimitDef) -> str:
    """The name under which calls are counted for a limit that all runs of a principal share: what is counted, in which
    agent. Its bound and its window may change without anything being forgotten. Empty for a limit of one run, and a
    turn is of one run."""
    if not limit.principal or limit.turn:
        return ""
    tools = limit.tools
    what = [agent, sorted(tools.names), sorted(tools.classes), limit.amount, list(limit.per)]
    return hashlib.sha256(b"jam limit\n" + dumps_form(what)).hexdigest()[:32]


def _arguments(plan: Plan, call: d.ToolCallDef) -> Arguments:
    return tuple((name, plan.closure(expr)) for name, expr in call.args.items())


def _expressions(rule: d.Rule) -> Iterator[d.ExprJson]:
    if rule.when is not None:
        yield rule.when
    if rule.call is not None and rule.kind != "fact":
        yield from rule.call.args.values()
    if rule.limit is not None:
        yield from rule.limit.per
        for expr in (rule.limit.amount, rule.limit.bound):
            if expr is not None:
                yield expr
