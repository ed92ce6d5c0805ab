"""The rules of a policy: may this call be made, now, by this run?

Default deny: at least one `allow` must match. Every other rule only restricts. The result is the join of all
restrictions in the order allowed < needs approval < denied, so the order of rules never matters. A condition
that fails, or has no value, denies the call in whatever kind of rule and under whatever negation it stands.

A decision is a function of the state: history is read from monitors, facts from earlier `fact` events. Where
a fact is not there yet the answer is `Missing`: the engine reads it and asks again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias

from jamjet_dsl import definition as d
from jamjet_dsl.kernel import monitors
from jamjet_dsl.kernel.model import Grant, Json, RunState
from jamjet_dsl.kernel.program import Plan, Program, matches, reads_of
from jamjet_dsl.kernel.scope import Scope, bool_of, monitors_at
from jamjet_dsl.kernel.values import EvalError, Money, from_journal, to_journal

Verdict: TypeAlias = Literal["allowed", "needs_approval", "denied"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of one call.

    `rules` are the indices of the rules that decided (`AGENT/rules/N` in the span map), `needs` the approvals
    that are wanted, `facts` what was read, `limits` what the call counts under: (rule, group, amount). `outer` is
    what the policies of the agents around a child say: their decisions with their `home`.
    """

    verdict: Verdict
    rules: tuple[int, ...]
    reason: str
    needs: tuple[dict[str, Json], ...] = ()
    facts: dict[str, Json] = field(default_factory=dict)
    limits: tuple[tuple[int, str, str], ...] = ()
    outer: tuple[dict[str, Json], ...] = ()
    plain: bool = False
    """Allowed, and nothing more to say of it than by which rules."""

    def body(self, enforced: bool = True) -> dict[str, Json]:
        """The journal form. Most calls are plainly allowed, and that is written in as few bytes as it takes. Where it
        is not `enforced` the call is made whatever this says, so what it counts under is kept even of a denied one."""
        found: dict[str, Json] = {"rules": list(self.rules)}
        if not self.plain:
            found |= {"result": self.verdict, "reason": self.reason}
        if not enforced:
            found["enforced"] = False
        if self.needs:
            found["needs"] = list(self.needs)
        if self.facts:
            found["facts"] = self.facts
        if self.limits and not (enforced and self.verdict == "denied"):
            found["limits"] = [list(item) for item in self.limits]
        if self.outer:
            found["outer"] = list(self.outer)
        return found


@dataclass(frozen=True, slots=True)
class Missing:
    """A fact has to be read before the decision: a call of `tool` with these values."""

    name: str
    tool: str
    args: dict[str, Any]
    key: str


def decide(
    program: Program,
    state: RunState,
    home: str,
    scope: Scope,
    cmd: str,
    tool: str,
    args: Mapping[str, Any],
    grants: Sequence[Grant],
    offered: str | None = None,
    undoing: bool = False,
) -> Decision | Missing:
    """Decides one call by the policy of the agent at `home`.

    `scope` holds the names of its states; `args` are the call's values. `grants` are approvals given for exactly this
    call. With `offered` (an ask state's name) the question is what a grant by that ask would lead to: the needs
    that it can meet do not count, and the decision lists them. An agent without a policy allows nothing. A call that
    is `undoing` needs no approval and counts under no limit.
    """
    plan = plan_at(program, state, home)
    docket = docket_of(plan, tool)
    if docket.fixed is not None and not undoing:
        decision = docket.fixed
    else:
        inner = scope.nested({"args": dict(args)})
        facts = _facts(plan, state, home, inner, cmd, docket)
        if isinstance(facts, Missing):
            return facts
        judge = _Judge(program, plan, state, home, inner.nested(facts[0]), tool, undoing)
        for index, rule in docket.rules:
            judge.rule(index, rule)
        judge.limited_by_all()
        decision = replace(judge.join(undoing), facts=facts[1])
    if decision.verdict != "needs_approval":
        return decision
    return _with_grants(decision, state, home, grants, offered)


class Docket(NamedTuple):
    """What a policy has to say of one tool, looked at once: its rules, its limits, the facts they read in the order of
    the program, and the decision itself where it depends on nothing."""

    rules: tuple[tuple[int, d.Rule], ...]
    limits: tuple[tuple[int, d.LimitDef], ...]
    facts: tuple[d.Rule, ...]
    fixed: Decision | None


def docket_of(plan: Plan, tool: str) -> Docket:
    """The docket of a tool, made on first use."""
    known: Docket | None = plan.dockets.get(tool)
    if known is None:
        known = plan.dockets[tool] = _docket(plan, tool)
    return known


def _docket(plan: Plan, tool: str) -> Docket:
    rules = plan.agent.rules or ()
    applicable = tuple((i, r) for i, r in enumerate(rules) if r.tools is None or matches(plan.defn, r.tools, tool))
    limits = tuple(
        (i, r.limit) for i, r in enumerate(rules) if r.limit is not None and matches(plan.defn, r.limit.tools, tool)
    )
    wanted = set().union(*(_read_by(r) for _, r in applicable), *(_read_by(rules[i]) for i, _ in limits))
    for rule in reversed(rules):
        own = rule.kind == "fact" and rule.name in wanted and matches(plan.defn, rule.tools, tool)
        if own and rule.call is not None:  # a fact may need those before it
            wanted = wanted.union(*(reads_of(expr) for expr in rule.call.args.values()))
    facts = tuple(
        r
        for r in rules
        if r.kind == "fact" and r.call is not None and r.name in wanted and matches(plan.defn, r.tools, tool)
    )
    fixed = None
    simple = all(r.kind in ("allow", "forbid", "fact", "redact") and r.when is None for _, r in applicable)
    if simple and not limits and not facts:
        fixed = _fixed(plan, tool, applicable)
    return Docket(applicable, limits, facts, fixed)


def _fixed(plan: Plan, tool: str, applicable: Sequence[tuple[int, d.Rule]]) -> Decision:
    """The decision on a tool of which every rule says the same whatever happens."""
    verdicts = Verdicts(tool, plan.defn.tools[tool].effect)
    for index, rule in applicable:
        if rule.kind == "allow":
            verdicts.allow(index, rule)
        elif rule.kind == "forbid":
            verdicts.forbid(index)
    return verdicts.join()


def plan_at(program: Program, state: RunState, home: str) -> Plan:
    """The agent at `home`."""
    return program.plan(state.frames[home]) if home else program.main


def limits_of(
    program: Program, state: RunState, home: str, scope: Scope, tool: str
) -> tuple[tuple[int, str, str], ...]:
    """What a call that is made counts under, whoever decided it: (rule, group, amount)."""
    judge = _Judge(program, plan_at(program, state, home), state, home, scope, tool)
    judge.limited_by_all()
    return tuple(judge.limits)


class Verdicts:
    """What the rules say of one call, and what follows from all of it."""

    def __init__(self, tool: str, effect: str) -> None:
        self.tool = tool
        self.effect = effect
        self.allowing: list[int] = []
        self.waived = False
        self.denials: list[tuple[int, str]] = []
        self.needs: list[tuple[int, dict[str, Json]]] = []
        self.limits: list[tuple[int, str, str]] = []

    def allow(self, index: int, rule: d.Rule) -> None:
        """A rule allows the call."""
        self.allowing.append(index)
        self.waived = self.waived or rule.because is not None

    def forbid(self, index: int) -> None:
        """A rule forbids the call."""
        self.denials.append((index, f"`{self.tool}` is forbidden"))

    def join(self, undoing: bool = False) -> Decision:
        """Allowed, unless something restricts; the strongest restriction wins."""
        limits = tuple(self.limits)
        if self.denials:
            denials = sorted(self.denials)
            indices, reason = tuple(sorted({i for i, _ in denials})), "; ".join(r for _, r in denials)
            return Decision("denied", indices, reason, limits=limits)
        if not self.allowing:
            return Decision("denied", (), f"no rule allows `{self.tool}` with these arguments", limits=limits)
        needs = [] if undoing else sorted(self.needs, key=lambda item: item[0])
        if needs:
            wanted = " and ".join(_in_words(need) for _, need in needs)
            indices, open_ = tuple(i for i, _ in needs), tuple(n for _, n in needs)
            return Decision("needs_approval", indices, f"needs {wanted}", open_, limits=limits)
        allowing = tuple(self.allowing)
        if self.effect == "irreversible" and not (self.waived or undoing):
            reason = "an irreversible call needs an approval"
            return Decision("needs_approval", allowing, reason, ({"ask": None},), limits=limits)
        return Decision("allowed", allowing, f"`{self.tool}` is allowed", limits=limits, plain=True)


class _Judge(Verdicts):
    """Collects what the rules say of one call, here and now."""

    def __init__(
        self,
        program: Program,
        plan: Plan,
        state: RunState,
        home: str,
        scope: Scope,
        tool: str,
        undoing: bool = False,
    ) -> None:
        super().__init__(tool, program.defn.tools[tool].effect)
        self.program = program
        self.plan = plan
        self.state = state
        self.monitors = monitors_at(state, home)
        self.undoing = undoing
        self.scope = scope

    def rule(self, index: int, rule: d.Rule) -> None:
        """Adds what one matching rule says; a failing condition denies."""
        try:
            self._rule(index, rule)
        except EvalError as error:
            self.denials.append((index, f"its condition has no value: {error.message}"))

    def _rule(self, index: int, rule: d.Rule) -> None:
        match rule.kind:
            case "allow":
                if self._holds(rule.when, self.scope):
                    self.allow(index, rule)
            case "forbid":
                if self._holds(rule.when, self.scope):
                    self.forbid(index)
            case "require_read":
                self._read(index, rule)
            case "require_any":
                self._any_read(index, rule)
            case "require_ask":
                if self._holds(rule.when, self.scope):
                    self.needs.append((index, {"ask": rule.ask}))
            case "require_people":
                if self._holds(rule.when, self.scope):
                    need = {"people": rule.count or 1, "role": rule.role, "excluding": rule.excluding}
                    self.needs.append((index, need))
            case "never":
                self._never(index, rule)
            case "limit" | "fact" | "redact":
                pass

    def _holds(self, when: d.ExprJson | None, scope: Scope) -> bool:
        return when is None or bool_of(self.program.evaluate(when, scope))

    def _read(self, index: int, rule: d.Rule) -> None:
        call = rule.call
        assert call is not None
        wanted = {name: self.program.evaluate(expr, self.scope) for name, expr in call.args.items()}
        entry = monitors.last_read(self.monitors, call.tool, wanted)
        # A condition that reads the bound result cannot be asked before the read: then the read is required.
        if entry is not None:
            self._bound(index, rule, entry)
        elif rule.when is None or (rule.bind in self.program.reads(rule.when)) or self._holds(rule.when, self.scope):
            self.denials.append((index, f"`{call.tool}` has to be read first, with the same values"))

    def _any_read(self, index: int, rule: d.Rule) -> None:
        # In one order, whether the definition was just made or read back from its canonical form.
        tools = sorted(tool for tool in self.program.defn.tools if self.program.matches(rule.reads, tool))
        entry = monitors.first_success(self.monitors, tools)
        if entry is not None:
            self._bound(index, rule, entry)
        elif rule.when is None or (rule.bind in self.program.reads(rule.when)) or self._holds(rule.when, self.scope):
            names = ", ".join(f"`{tool}`" for tool in tools)
            self.denials.append((index, f"one of {names} has to succeed first"))

    def _bound(self, index: int, rule: d.Rule, entry: dict[str, Json]) -> None:
        """The read was made. A `when` beside it says what must hold of what was read."""
        if rule.when is None:
            return
        value = from_journal({"args": entry["args"], "result": entry["result"]})
        scope = self.scope if rule.bind is None else self.scope.nested({rule.bind: value})
        if not self._holds(rule.when, scope) and rule.bind in self.program.reads(rule.when):
            self.denials.append((index, "what was read does not meet the condition"))

    def _never(self, index: int, rule: d.Rule) -> None:
        before = [
            tool
            for tool in self.program.defn.tools
            if self.program.matches(rule.after, tool) and monitors.calls(self.monitors, tool)
        ]
        if self._holds(rule.when, self.scope) and before:
            self.denials.append((index, f"`{self.tool}` must not be called after `{before[0]}`"))

    def limited_by_all(self) -> None:
        """Adds what every `limit` for the tool says."""
        if not self.undoing:
            for index, limit in docket_of(self.plan, self.tool).limits:
                self.limited(index, limit)

    def limited(self, index: int, limit: d.LimitDef) -> None:
        """Denies what a `limit` has no room for, and notes what the call counts."""
        try:
            group = monitors.group_key([self.program.evaluate(expr, self.scope) for expr in limit.per])
            since = None if limit.window_ms is None else self.state.now_ms - limit.window_ms
            calls, total = monitors.limit_used(self.monitors, index, group, since)
            size = Decimal(0)
            if limit.amount is not None and limit.bound is not None:
                value = self.program.evaluate(limit.amount, self.scope)
                bound = self.program.evaluate(limit.bound, self.scope)
                size = _number(value)
                # What cannot be counted is denied; where such a call was made all the same, it gives nothing back.
                if size < 0:
                    size = Decimal(0)
                    self.denials.append((index, "the amount is below zero, which no limit can count"))
                elif isinstance(value, Money) and isinstance(bound, Money) and value.currency != bound.currency:
                    size = Decimal(0)
                    self.denials.append((index, f"{value} and {bound} are of different currencies"))
                elif total + size > _number(bound):
                    self.denials.append((index, f"{value} is more than what is left of {bound}"))
            if limit.count is not None and calls + 1 > limit.count:
                self.denials.append((index, f"all {limit.count} calls of `{self.tool}` are used up"))
            self.limits.append((index, group, str(size)))
        except EvalError as error:
            self.denials.append((index, f"the limit has no value: {error.message}"))


def _number(value: Any) -> Decimal:
    if isinstance(value, Money):
        return value.amount
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return Decimal(value)
    raise EvalError("no_overload", "a limit counts money or numbers")


def _in_words(need: Mapping[str, Json]) -> str:
    if "ask" in need:
        return f"the approval of `{need['ask']}`"
    who = f"{need['people']} of {need['role']}" if need["role"] else f"{need['people']} people"
    return f"the approval of {who}" + (" other than who started the run" if need["excluding"] else "")


# ---- approvals


def _with_grants(
    decision: Decision, state: RunState, home: str, grants: Sequence[Grant], offered: str | None
) -> Decision:
    """The decision once the approvals given (or offered) are counted."""
    open_needs = [need for need in decision.needs if not meets(state, home, need, grants)]
    if offered is not None:
        open_needs = [n for n in open_needs if n.get("ask") not in (None, offered) and "people" not in n]
        others = {str(n["ask"]) for n in open_needs}
        # Another ask may still be asked for the same call: only what can never be approved is denied here.
        return replace(decision, reason=decision.reason + (f"; {sorted(others)} ask too" if others else ""))
    if not open_needs:
        return replace(decision, verdict="allowed", reason="approved: " + decision.reason)
    return replace(decision, needs=tuple(open_needs))


def meets(state: RunState, home: str, need: Mapping[str, Json], grants: Sequence[Grant]) -> bool:
    """Whether grants for this very call satisfy a need of the agent at `home`. An ask that it names is its own."""
    if "ask" in need:
        return any(need["ask"] is None or (need["ask"] == g.state and g.home == home) for g in grants)
    people = {person["by"] for grant in grants for person in grant.approvers if counts(state, need, person)}
    return len(people) >= int(need["people"])


def joined(inner: Decision, outer: Sequence[tuple[str, str, Decision]], enforced: bool = True) -> Decision:
    """What the policy of a child and those of the agents around it (home, name, decision) say together. An approval
    that an outer policy still wants cannot be had inside, so the call is denied. Where that is not `enforced`, the
    decisions of those around that stand against the call say so."""
    denied = [inner.reason] if inner.verdict == "denied" else []
    for _, name, decision in outer:
        if decision.verdict == "denied":
            denied.append(f"`{name}`: {decision.reason}")
        elif decision.verdict == "needs_approval":
            denied.append(f"`{name}`: {decision.reason}, which cannot be had in an agent that it runs")
    bodies = tuple(
        {"home": home, "agent": name, **decision.body(enforced or decision.verdict == "allowed")}
        for home, name, decision in outer
    )
    if not denied:
        return replace(inner, outer=bodies)
    return replace(inner, verdict="denied", reason="; ".join(denied), outer=bodies, plain=False)


def counts(state: RunState, need: Mapping[str, Json], person: Mapping[str, Json]) -> bool:
    """Whether this person's approval counts towards a need for people. Somebody without a name may be anybody, also one
    who has approved already or who started the run, and does not count."""
    if not person["by"] or (need["role"] is not None and need["role"] not in person["roles"]):
        return False
    return not (need["excluding"] == "principal" and person["by"] == state.principal.get("id"))


# ---- facts


def _facts(
    plan: Plan, state: RunState, home: str, scope: Scope, cmd: str, docket: Docket
) -> tuple[dict[str, Any], dict[str, Json]] | Missing:
    """The facts that the rules for this call read: values by name and what was read, or the first one missing.

    A fact that could not be read has no value, so every condition that needs it denies the call.
    """
    values: dict[str, Any] = {}
    shown: dict[str, Json] = {}
    for rule in docket.facts:
        call = rule.call
        assert call is not None
        try:
            around = scope.nested(values)
            args = {name: plan.closure(expr)(around) for name, expr in call.args.items()}
        except EvalError:
            continue
        key = fact_key(home, rule.name or "", args)
        known = state.facts.get(key)
        if known is None or not _fresh(rule, known, state.now_ms, cmd):
            return Missing(rule.name or "", call.tool, args, key)
        shown[rule.name or ""] = {"args": to_journal(args), "at_ms": known["at_ms"]}
        if "error" not in known:
            values[rule.name or ""] = from_journal(known["result"])
    return values, shown


def fact_key(home: str, name: str, args: Mapping[str, Any]) -> str:
    """Under which a fact is kept: two agents may have facts of one name."""
    own = f"{name}{monitors.SEP}{monitors.group_key([dict(args)])}"
    return f"{home}{monitors.SEP}{own}" if home else own


def _fresh(rule: d.Rule, known: Mapping[str, Json], now_ms: int, cmd: str) -> bool:
    if known["cmd"] == cmd:
        return True
    return rule.within_ms is not None and "error" not in known and now_ms - int(known["at_ms"]) <= rule.within_ms


def _read_by(rule: d.Rule) -> frozenset[str]:
    return frozenset().union(*(reads_of(expr) for expr in _expressions(rule)))


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
