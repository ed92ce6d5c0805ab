"""The rules of a policy: may this call be made, now, by this run?

Default deny: at least one `allow` must match. Every other rule only restricts. The result is the join of all
restrictions in the order allowed < needs approval < denied, so the order of rules never matters. A condition
that fails, or has no value, denies the call in whatever kind of rule and under whatever negation it stands.

A decision is a function of the state: history is read from monitors, facts from earlier `fact` events. Where
a fact is not there yet the answer is `Missing`: the engine reads it and asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias

from jamjet_dsl import definition as d
from jamjet_dsl.kernel import monitors
from jamjet_dsl.kernel.docket import Docket, Ready, ReadyLimit, make_docket
from jamjet_dsl.kernel.errors import STANDARD_ERRORS
from jamjet_dsl.kernel.model import Grant, Json, RunState, Share
from jamjet_dsl.kernel.people import name_of
from jamjet_dsl.kernel.program import Plan, Program
from jamjet_dsl.kernel.records import check_args
from jamjet_dsl.kernel.scope import NONE, UNTRUSTED, Scope, bool_of, monitors_at
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
    shared: tuple[Share, ...] = ()
    """What of `limits`, here and in `outer`, counts for all runs of the principal."""

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
    docket, fixed = looked_up(plan, tool)
    if fixed is not None and not undoing:
        decision = fixed
    else:
        inner, shown = scope.nested({"args": dict(args)}), dict[str, Json]()
        if docket.facts:
            facts = _facts(program, state, home, inner, cmd, docket)
            if isinstance(facts, Missing):
                return facts
            inner, shown = inner.nested(facts.values, facts.origins), facts.shown
            inner.unreadable = facts.unreadable
        judge = _Judge(docket, program.defn.tools[tool].effect, state, home, inner, tool, used_of(state, home, cmd))
        for rule in docket.rules:
            judge.rule(rule)
        if not undoing:
            judge.limited_by_all()
        decision = judge.join(undoing, shown)
    if decision.verdict != "needs_approval":
        return decision
    return _with_grants(decision, state, home, grants, offered)


def used_of(state: RunState, home: str, cmd: str) -> dict[int, tuple[int, Decimal]]:
    """What all runs had used of the shared limits of the agent at `home` just before this decision, by rule: calls and
    total. Empty where that has not been found out."""
    counted = state.counted
    if counted is None or counted["cmd"] != cmd:
        return {}
    return {rule: (calls, Decimal(total)) for at, rule, calls, total in counted["used"] if at == home}


def is_dry(state: RunState) -> bool:
    """Whether it is a fork whose calls are off: what it counts, it counts alone."""
    return state.origin is not None and not state.origin["live"]


def looked_up(plan: Plan, tool: str) -> tuple[Docket, Decision | None]:
    """What the policy has to say of a tool, and the decision itself where it depends on nothing. Made on first use."""
    known: tuple[Docket, Decision | None] | None = plan.dockets.get(tool)
    if known is None:
        docket = make_docket(plan, tool)
        known = plan.dockets[tool] = docket, _fixed(plan, tool, docket) if docket.simple else None
    return known


def docket_of(plan: Plan, tool: str) -> Docket:
    """What the policy has to say of a tool."""
    return looked_up(plan, tool)[0]


def _fixed(plan: Plan, tool: str, docket: Docket) -> Decision:
    """The decision on a tool of which every rule says the same whatever happens."""
    verdicts = Verdicts(tool, plan.defn.tools[tool].effect)
    for rule in docket.rules:
        if rule.kind == "allow":
            verdicts.allow(rule)
        else:
            verdicts.forbid(rule)
    return verdicts.join()


def plan_at(program: Program, state: RunState, home: str) -> Plan:
    """The agent at `home`."""
    return program.plan(state.frames[home]) if home else program.main


def limits_of(
    program: Program, state: RunState, home: str, scope: Scope, tool: str
) -> tuple[tuple[tuple[int, str, str], ...], tuple[Share, ...]]:
    """What a call that is made counts under, whoever decided it: (rule, group, amount), and what of it is shared."""
    docket = docket_of(plan_at(program, state, home), tool)
    judge = _Judge(docket, program.defn.tools[tool].effect, state, home, scope, tool)
    judge.limited_by_all()
    return tuple(judge.limits), tuple(judge.shared)


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
        self.shared: list[Share] = []

    def allow(self, rule: Ready) -> None:
        """A rule allows the call."""
        self.allowing.append(rule.number)
        self.waived = self.waived or rule.rule.because is not None

    def forbid(self, rule: Ready) -> None:
        """A rule forbids the call."""
        self.denials.append((rule.number, f"`{self.tool}` is forbidden"))

    def join(self, undoing: bool = False, facts: dict[str, Json] | None = None) -> Decision:
        """Allowed, unless something restricts; the strongest restriction wins. `facts` are what was read."""
        decision = self._joined(undoing, {} if facts is None else facts)
        return replace(decision, shared=tuple(self.shared)) if self.shared else decision

    def _joined(self, undoing: bool, facts: dict[str, Json]) -> Decision:
        limits = tuple(self.limits)
        if self.denials:
            denials = sorted(self.denials)
            indices, reason = tuple(sorted({i for i, _ in denials})), "; ".join(r for _, r in denials)
            return Decision("denied", indices, reason, facts=facts, limits=limits)
        if not self.allowing:
            reason = f"no rule allows `{self.tool}` with these arguments"
            return Decision("denied", (), reason, facts=facts, limits=limits)
        needs = [] if undoing else sorted(self.needs, key=lambda item: item[0])
        if needs:
            wanted = " and ".join(_in_words(need) for _, need in needs)
            indices, open_ = tuple(i for i, _ in needs), tuple(n for _, n in needs)
            return Decision("needs_approval", indices, f"needs {wanted}", open_, facts, limits)
        allowing = tuple(self.allowing)
        if self.effect == "irreversible" and not (self.waived or undoing):
            reason = "an irreversible call needs an approval"
            return Decision("needs_approval", allowing, reason, ({"ask": None},), facts, limits)
        return Decision("allowed", allowing, f"`{self.tool}` is allowed", (), facts, limits, plain=True)


class _Judge(Verdicts):
    """Collects what the rules say of one call, here and now."""

    def __init__(
        self,
        docket: Docket,
        effect: str,
        state: RunState,
        home: str,
        scope: Scope,
        tool: str,
        used: Mapping[int, tuple[int, Decimal]] | None = None,
    ) -> None:
        super().__init__(tool, effect)
        self.docket = docket
        self.home = home
        self.used = used or {}
        self.dry = is_dry(state)
        self.now_ms = state.now_ms
        self.monitors = monitors_at(state, home)
        self.scope = scope

    def rule(self, rule: Ready) -> None:
        """Adds what one matching rule says; a failing condition denies."""
        try:
            _SAYS[rule.kind](self, rule)
        except EvalError as error:
            self.denials.append((rule.number, f"its condition has no value: {error.message}"))

    def _holds(self, rule: Ready) -> bool:
        return rule.when is None or bool_of(rule.when(self.scope))

    def _allow(self, rule: Ready) -> None:
        if self._holds(rule):
            self.allow(rule)

    def _forbid(self, rule: Ready) -> None:
        if self._holds(rule):
            self.forbid(rule)

    def _ask(self, rule: Ready) -> None:
        if self._holds(rule):
            self.needs.append((rule.number, {"ask": rule.rule.ask}))

    def _people(self, rule: Ready) -> None:
        if self._holds(rule):
            wanted = rule.rule
            need = {"people": wanted.count or 1, "role": wanted.role, "excluding": wanted.excluding}
            self.needs.append((rule.number, need))

    def _read(self, rule: Ready) -> None:
        call = rule.rule.call
        assert call is not None
        entry = monitors.last_read(self.monitors, rule.key, [value(self.scope) for _, value in rule.args])
        # A condition that reads the bound result cannot be asked before the read: then the read is required.
        if entry is not None:
            self._bound(rule, call.tool, entry)
        elif rule.about or self._holds(rule):
            self.denials.append((rule.number, f"`{call.tool}` has to be read first, with the same values"))

    def _any_read(self, rule: Ready) -> None:
        found = monitors.first_success(self.monitors, rule.tools)
        if found is not None:
            self._bound(rule, *found)
        elif rule.about or self._holds(rule):
            names = ", ".join(f"`{tool}`" for tool in rule.tools)
            self.denials.append((rule.number, f"one of {names} has to succeed first"))

    def _bound(self, rule: Ready, tool: str, entry: dict[str, Json]) -> None:
        """The read was made, of this tool. A `when` beside it says what must hold of what was read."""
        if rule.when is None:
            return
        scope, name = self.scope, rule.rule.bind
        if name is not None:
            came = {name: frozenset({UNTRUSTED}), f"{name}.args": NONE} if tool in rule.untrusted else {name: NONE}
            scope = scope.nested({name: from_journal({"args": entry["args"], "result": entry["result"]})}, came)
        if not bool_of(rule.when(scope)) and rule.about:
            self.denials.append((rule.number, "what was read does not meet the condition"))

    def _never(self, rule: Ready) -> None:
        before = next((tool for tool in rule.tools if monitors.calls(self.monitors, tool)), None)
        if self._holds(rule) and before is not None:
            self.denials.append((rule.number, f"`{self.tool}` must not be called after `{before}`"))

    def limited_by_all(self) -> None:
        """Adds what every `limit` for the tool says."""
        for limit in self.docket.limits:
            self.limited(limit)

    def limited(self, ready: ReadyLimit) -> None:
        """Denies what a `limit` has no room for, and notes what the call counts."""
        index, limit = ready.number, ready.limit
        try:
            group = monitors.group_key([value(self.scope) for value in ready.per])
            since = None if limit.window_ms is None else self.now_ms - limit.window_ms
            shared = bool(ready.counter) and not self.dry
            if shared:
                calls, total = self.used.get(index, _UNUSED)
            else:
                calls, total = monitors.limit_used(self.monitors, index, group, since, limit.turn)
            size, most = self._sized(ready, total)
            if limit.count is not None and calls + 1 > limit.count:
                whose = " by all runs of the principal" if ready.counter else ""
                self.denials.append((index, f"all {limit.count} calls of `{self.tool}` are used up{whose}"))
            self.limits.append((index, group, str(size)))
            if shared:
                room = None if limit.count is None else limit.count - 1, None if most is None else str(most)
                start = -1 if since is None else since
                kept = monitors.settled(group)
                self.shared.append(Share(self.home, index, ready.counter, kept, str(size), start, *room))
        except EvalError as error:
            self.denials.append((index, f"the limit has no value: {error.message}"))

    def _sized(self, ready: ReadyLimit, total: Decimal) -> tuple[Decimal, Decimal | None]:
        """What the call adds to a total, and what may have been used before for it to have room; 0 and None where there
        is no total, or where the call cannot be counted. Such a call is denied, and gives nothing back if it was made
        all the same. Raises EvalError."""
        if ready.amount is None or ready.bound is None:
            return _UNSIZED
        value, bound = ready.amount(self.scope), ready.bound(self.scope)
        size, most = _number(value), _number(bound)
        if size < 0:
            self.denials.append((ready.number, "the amount is below zero, which no limit can count"))
            return _UNSIZED
        if isinstance(value, Money) and isinstance(bound, Money) and value.currency != bound.currency:
            self.denials.append((ready.number, f"{value} and {bound} are of different currencies"))
            return _UNSIZED
        if total + size > most:
            whose = f", of which all runs of the principal have used {total}" if ready.counter else ""
            self.denials.append((ready.number, f"{value} is more than what is left of {bound}{whose}"))
        return size, most - size


_NOTHING = Decimal(0)
_UNUSED = (0, _NOTHING)
_UNSIZED = (_NOTHING, None)
_SAYS: dict[str, Callable[[_Judge, Ready], None]] = {
    "allow": _Judge._allow,
    "forbid": _Judge._forbid,
    "require_read": _Judge._read,
    "require_any": _Judge._any_read,
    "require_ask": _Judge._ask,
    "require_people": _Judge._people,
    "never": _Judge._never,
}


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
    people = {name_of(person) for grant in grants for person in grant.approvers if counts(state, need, person)}
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
    shared = inner.shared + tuple(share for _, _, decision in outer for share in decision.shared)
    if not denied:
        return replace(inner, outer=bodies, shared=shared)
    return replace(inner, verdict="denied", reason="; ".join(denied), outer=bodies, plain=False, shared=shared)


def counts(state: RunState, need: Mapping[str, Json], person: Mapping[str, Json]) -> bool:
    """Whether this person's approval counts towards a need for people. Somebody without a name may be anybody, also one
    who has approved already or who started the run, and does not count."""
    if not name_of(person) or (need["role"] is not None and need["role"] not in person["roles"]):
        return False
    return not (need["excluding"] == "principal" and name_of(person) == name_of(state.principal, "id"))


# ---- facts


class _Facts(NamedTuple):
    """The facts of a decision: values by name, where these came from, what was read, and which could not be read."""

    values: dict[str, Any]
    origins: dict[str, frozenset[str]]
    shown: dict[str, Json]
    unreadable: frozenset[str]


def _facts(program: Program, state: RunState, home: str, scope: Scope, cmd: str, docket: Docket) -> _Facts | Missing:
    """The facts that the rules for this call read, or the first one that has to be read.

    Where the tool answered with an error that it `raises`, there is nothing to know: the fact has no value, and `has`
    says so. After any other failure nobody knows what the answer would have been.
    """
    values: dict[str, Any] = {}
    origins = {fact.name: fact.origin for fact in docket.facts}
    shown: dict[str, Json] = {}
    unreadable: set[str] = set()
    for fact in docket.facts:
        try:
            around = scope.nested(values, origins)
            around.unreadable = frozenset(unreadable)
            args = {name: value(around) for name, value in fact.args}
        except EvalError:
            unreadable.add(fact.name)
            continue
        if check_args(program, fact.tool, args)[1]:
            unreadable.add(fact.name)
            continue
        key = fact_key(home, fact.name, args)
        known = state.facts.get(key)
        if known is None or not _fresh(fact.rule, known, state.now_ms, cmd):
            return Missing(fact.name, fact.tool, args, key)
        shown[fact.name] = {"args": to_journal(args), "at_ms": known["at_ms"]}
        if "error" not in known:
            values[fact.name] = from_journal(known["result"])
        elif known["error"] in STANDARD_ERRORS or known["error"] not in program.defn.tools[fact.tool].raises:
            unreadable.add(fact.name)
    return _Facts(values, origins, shown, frozenset(unreadable))


def fact_key(home: str, name: str, args: Mapping[str, Any]) -> str:
    """Under which a fact is kept: two agents may have facts of one name."""
    own = f"{name}{monitors.SEP}{monitors.group_key([dict(args)])}"
    return f"{home}{monitors.SEP}{own}" if home else own


def _fresh(rule: d.Rule, known: Mapping[str, Json], now_ms: int, cmd: str) -> bool:
    if known["cmd"] == cmd:
        return True
    return rule.within_ms is not None and "error" not in known and now_ms - int(known["at_ms"]) <= rule.within_ms
