"""What a policy says of one call, straight from `specs/60-runs.md` §4, §5: over the syntax tree and the whole history.

Nothing is compiled, counted ahead or remembered but what happened: every question goes through all past calls again.
Nothing is shared with the engine but the parser.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node, children
from tests.reference.agents import WINDOWS, named
from tests.reference.expressions import UNREADABLE, Names, NoValue, Quantity, evaluate
from tests.reference.reading import FOREVER, effect, given, number, plain

Rule = tuple[int, Any]
"""A rule with its number. Each part of a `limit` counts as a rule of its own."""


class Past(NamedTuple):
    """A call that was made, whatever was decided about it."""

    tool: str
    args: dict[str, Any]
    ok: bool
    result: Any
    at: int


GONE = object()
"""What a read gave that said that there is nothing of the kind."""


class Read(NamedTuple):
    """A read of a fact. `value` is NoValue if it could not be read, GONE if there is none."""

    name: str
    args: dict[str, Any]
    value: Any
    at: int


class Counted(NamedTuple):
    """What a call that was made counts as under a limit."""

    rule: int
    group: list[Any]
    size: Decimal
    at: int


class Ruling(NamedTuple):
    """The decision: by which rules, and which approvals it wants (an ask state, None for any, or people)."""

    verdict: str
    rules: tuple[int, ...]
    needs: tuple[Any, ...] = ()


@dataclass
class Judge:
    """A policy, and everything that has happened."""

    policy: tuple[Any, ...]
    tools: dict[str, ast.ToolDecl]
    variables: Names
    origins: dict[str, frozenset[str]]
    principal: Names
    read: Callable[[str, dict[str, Any], int], Any]
    """The world: what a fact's tool gives. Raises NoValue."""
    now: int = 0
    past: list[Past] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    counted: list[Counted] = field(default_factory=list)
    known: Names = field(default_factory=dict)
    """The facts of the last decision."""
    bound: dict[str, str] = field(default_factory=dict)
    """By the name that a rule gives to what was read: the tool that was read."""
    everybody: list[tuple[Any, Counted]] = field(default_factory=list)
    """What was counted for all histories of a principal, and what it was counted as."""

    def __post_init__(self) -> None:
        self.rules: list[Any] = []
        for rule in self.policy:
            parts = rule.limits if isinstance(rule, ast.LimitRule) else (rule,)
            self.rules += [one for one in parts if not isinstance(one, ast.RedactRule)]

    # ---- one decision

    def decide(self, tool: str, args: dict[str, Any], approvals: list[dict[str, Any]]) -> Ruling:
        """The ruling on a call with valid arguments."""
        decl = self.tools[tool]
        mine: list[Rule] = [(n, rule) for n, rule in enumerate(self.rules) if named(_speaks_of(rule), decl)]
        names = self.names(args)
        self.known = self.facts([rule for _, rule in mine], decl, names)
        names |= self.known
        denying, allowing, waived = set[int](), list[int](), False
        wanted: list[tuple[int, Any]] = []
        for n, rule in mine:
            try:
                match rule:
                    case ast.FactRule():
                        pass
                    case ast.AllowRule() if _holds(rule, names):
                        allowing.append(n)
                        waived |= rule.because is not None
                    case ast.AllowRule():
                        pass
                    case ast.RequireAskRule() | ast.RequirePeopleRule():
                        wanted += [(n, _need(rule))] if _holds(rule, names) else []
                    case ast.LimitCalls() | ast.LimitTotal():
                        denying |= set() if self.has_room(n, rule, names) else {n}
                    case _:
                        denying |= {n} if self.stands_against(rule, names) else set()
            except NoValue:
                denying.add(n)
        if denying or not allowing:
            return Ruling("denied", tuple(sorted(denying)))
        if not wanted and effect(decl) == "irreversible" and not waived:
            wanted = [(n, None) for n in allowing[:1]]
            rules = tuple(allowing)
        else:
            rules = tuple(n for n, _ in wanted)
        if not wanted:
            return Ruling("allowed", tuple(allowing))
        missing = tuple(need for _, need in wanted if not self.met(need, approvals))
        return Ruling("needs_approval" if missing else "allowed", rules, missing)

    def stands_against(self, rule: Any, names: Names) -> bool:
        """Whether a `forbid`, a `never` or a required read denies the call. Raises NoValue."""
        match rule:
            case ast.ForbidRule():
                return _holds(rule, names)
            case ast.NeverRule():
                return _holds(rule, names) and any(named(rule.after, self.tools[p.tool]) for p in self.past)
            case ast.RequireReadRule():
                tool = rule.call.tool.text
                wanted = given(rule.call, self.tools[tool].params, names)
                same = [p for p in self.past if p.ok and p.tool == tool and _has(p.args, wanted)]
                return self.unread(rule, names, same[-1] if same else None)
            case ast.RequireAnyRule():
                found = [p for p in self.past if p.ok and named(rule.tools, self.tools[p.tool])]
                return self.unread(rule, names, found[0] if found else None)
        raise AssertionError(f"the reference does not know {rule}")

    def unread(self, rule: Any, names: Names, found: Past | None) -> bool:
        """Whether what had to be read was not, or is not as the condition wants it."""
        about = rule.when is not None and rule.alias is not None and rule.alias.text in _idents(rule.when)
        if found is None:
            return rule.when is None or about or _holds(rule, names)
        if rule.when is None:
            return False
        bound = {} if rule.alias is None else {rule.alias.text: {"args": found.args, "result": found.result}}
        self.bound = dict.fromkeys(bound, found.tool)
        return not _holds(rule, {**names, **bound}) and about

    def met(self, need: Any, approvals: list[dict[str, Any]]) -> bool:
        """Whether the approvals that were given for this very call are what a rule wants."""
        if not isinstance(need, tuple):
            return any(need is None or one["ask"] == need for one in approvals)
        count, role, excluding = need
        people = {_folded(one["by"]) for one in approvals if _folded(one["by"]) and role in one["roles"]}
        return len(people - ({_folded(self.principal["id"])} if excluding else set())) >= count

    # ---- limits

    def has_room(self, n: int, limit: Any, names: Names) -> bool:
        """Whether a limit has room for the call. Raises NoValue."""
        group, size, bound, units = self.measured(limit, names)
        since = self.now - min(units, default=FOREVER)
        if _shared(limit):
            mine = [one for what, one in self.everybody if what == self.counter(limit) and one.at <= self.now]
            counted = [one for one in mine if one.group == group and one.at > since]
        else:
            counted = [one for one in self.counted if (one.rule, one.group) == (n, group) and one.at > since]
        if bound is None:
            return len(counted) < number(limit.count)
        if _unlike(size, bound) or plain(size) < 0:
            return False
        return bool(sum((one.size for one in counted), Decimal(0)) + plain(size) <= plain(bound))

    def measured(self, limit: Any, names: Names) -> tuple[list[Any], Any, Any, list[int]]:
        """The group that a call counts in, its amount, the bound, and the windows. Raises NoValue."""
        units = [WINDOWS.get(getattr(per, "name", "")) for per in limit.per]
        own = [per for per, unit in zip(limit.per, units, strict=True) if unit is None and not _is_principal(per)]
        group = [evaluate(per, names) for per in own]
        total = isinstance(limit, ast.LimitTotal)
        size, bound = (evaluate(limit.amount, names), evaluate(limit.bound, names)) if total else (0, None)
        return group, size, bound, [unit for unit in units if unit]

    def made(self, tool: str, args: dict[str, Any], ok: bool, result: Any) -> None:
        """The call that was decided last was made, allowed or not. It counts under every limit that can count it."""
        names = self.names(args)
        shared: dict[str, tuple[Any, Counted]] = {}
        for n, rule in enumerate(self.rules):
            if isinstance(rule, ast.LimitCalls | ast.LimitTotal) and named(rule.tools, self.tools[tool]):
                try:
                    group, size, bound, _ = self.measured(rule, {**names, **self.known})
                except NoValue:
                    continue
                countable = bound is not None and not _unlike(size, bound) and plain(size) > 0
                counted = Counted(n, group, Decimal(plain(size)) if countable else Decimal(0), self.now)
                if _shared(rule):
                    shared[repr((self.counter(rule), group))] = self.counter(rule), counted
                else:
                    self.counted.append(counted)
        self.everybody += shared.values()
        self.past.append(Past(tool, args, ok, result, self.now))

    def counter(self, limit: Any) -> Any:
        """As what a limit counts for everybody: whose calls, of what, what of them, and for what. Not how many."""
        amount = _text(limit.amount) if isinstance(limit, ast.LimitTotal) else None
        pers = [_text(per) for per in limit.per if getattr(per, "name", "") not in WINDOWS and not _is_principal(per)]
        names = sorted(name.text for name in limit.tools.names), sorted(name.text for name in limit.tools.classes)
        return self.principal["id"], names, amount, pers

    # ---- what conditions see

    def names(self, args: dict[str, Any]) -> Names:
        """What every condition sees."""
        own = {"args": args, "principal": self.principal, "budget": {"remaining": {"steps": 10}}}
        return {**self.variables, **own, "$calls": self.calls, "$from": self.comes_from}

    def calls(self, kind: str, tool: str, args: dict[str, Any]) -> int:
        """`calls(T)`, `succeeded(T, a = e)` and the like: through the whole history."""
        wanted = {"attempted": (True, False), "succeeded": (True,), "failed": (False,)}[kind]
        return sum(p.tool == tool and p.ok in wanted and _has(p.args, args) for p in self.past)

    def comes_from(self, kind: str, path: tuple[str, ...]) -> bool:
        """Whether the value at a path is `attested`, or `untrusted`. Raises NoValue where there is none."""
        tool = self.bound.get(path[0])
        if path[0] in self.known and self.known[path[0]] is not UNREADABLE:
            (tool,) = (r.call.tool.text for r in self.rules if isinstance(r, ast.FactRule) and r.name.text == path[0])
        if tool is not None:
            return kind == "untrusted" and path[1:2] != ("args",) and self.tools[tool].untrusted
        if path[0] not in self.variables and path[0] != "args":
            raise NoValue
        known = self.origins.get(".".join(path[:2]), self.origins.get(path[0], frozenset()))
        return kind in known

    def facts(self, rules: list[Any], decl: ast.ToolDecl, names: Names) -> Names:
        """The facts that these rules ask for, read now or known from a read that is fresh. Where there is none it has
        no value; one that could not be read, or whose arguments have no value, must not even be asked for."""
        declared = [rule for rule in self.rules if isinstance(rule, ast.FactRule) and named(_speaks_of(rule), decl)]
        wanted = {name for rule in rules if not isinstance(rule, ast.FactRule) for name in _idents(rule)}
        for fact in reversed(declared):
            if fact.name.text in wanted:
                wanted |= set(_idents(fact.call))
        found: Names = {}
        for fact in declared:
            if fact.name.text not in wanted:
                continue
            try:
                tool = fact.call.tool.text
                args = given(fact.call, self.tools[tool].params, {**names, **found})
                value = self.value_of(fact, tool, args)
            except NoValue:
                value = UNREADABLE
            if value is not GONE:
                found[fact.name.text] = value
        return found

    def value_of(self, fact: ast.FactRule, tool: str, args: dict[str, Any]) -> Any:
        """A fact's value: of a read that is not older than `within`, or of one that is made now. Raises NoValue."""
        same = [r for r in self.reads if (r.name, r.args) == (fact.name.text, args)]
        last = same[-1] if same and same[-1].value not in (NoValue, GONE) else None
        if last is not None and fact.within is not None and self.now - last.at <= number(fact.within):
            return last.value
        try:
            value = self.read(tool, args, self.now)
        except NoValue:
            value = NoValue
        self.reads.append(Read(fact.name.text, args, value, self.now))
        if value is NoValue:
            raise NoValue
        return value


def _speaks_of(rule: Any) -> Any:
    """The tools that a rule is about. A fact without a `for` is for all."""
    tools = getattr(rule, "before", None) or rule.tools
    return tools if tools is not None else _All()


class _All:
    """Every tool."""

    names = ()

    class _Any:
        text = "any"

    classes = (_Any,)


def _holds(rule: Any, names: Names) -> bool:
    """Whether a rule's condition is true. Raises NoValue for what is neither true nor false."""
    if rule.when is None:
        return True
    value = evaluate(rule.when, names)
    if not isinstance(value, bool):
        raise NoValue
    return value


def _folded(name: str) -> str:
    """A name as it is compared (§4.4)."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def _need(rule: Any) -> Any:
    if isinstance(rule, ast.RequireAskRule):
        return rule.ask.text
    return number(rule.count), rule.role.value, rule.excluding is not None


def _has(args: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(name in args and args[name] == value for name, value in wanted.items())


def _is_principal(per: Any) -> bool:
    return getattr(per, "name", "") == "principal"


def _shared(limit: Any) -> bool:
    """Whether it counts in all histories of a principal."""
    return any(_is_principal(per) for per in limit.per)


def _text(node: Any) -> str:
    """How it is written."""
    return str(node.span.source.text[node.span.start : node.span.end])


def _unlike(size: Any, bound: Any) -> bool:
    """Whether two amounts are of different currencies."""
    return isinstance(size, Quantity) and isinstance(bound, Quantity) and size.unit != bound.unit


def _idents(tree: Node) -> Iterator[str]:
    """Every name in an expression below a node."""
    if isinstance(tree, ast.Ident):
        yield tree.name
    for child in children(tree):
        yield from _idents(child)
