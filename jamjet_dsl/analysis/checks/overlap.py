"""Rules of one policy that contradict each other, or one of which adds nothing to another (JAM611).

A rule is looked at tool by tool: each name or class that it speaks of. One is subsumed if another rule of its kind
speaks of the same tool whenever it does, and says at least as much. Conditions are compared as guards are: by their
tests, exactly or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from jamjet_dsl.analysis.checks.atoms import Space, conj, disj, key_of, neg
from jamjet_dsl.analysis.checks.cover import satisfiable
from jamjet_dsl.analysis.checks.facts import number
from jamjet_dsl.analysis.checks.paths import source_text
from jamjet_dsl.analysis.flow import effect_of
from jamjet_dsl.analysis.model import Analysis
from jamjet_dsl.analysis.typecheck_policy import is_principal
from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node, children

_MOST_RULES = 200
"""Of longer policies only this many rules of a kind are compared with each other."""
_MOST_COMPARED = 2_000
"""Conditions of one policy that are compared with another one."""


def check_overlap(policy: ast.Policy, analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM611 of one policy."""
    overlap = _Overlap(analysis)
    allows = ast.clauses(policy.rules, ast.AllowRule)[:_MOST_RULES]
    forbids = ast.clauses(policy.rules, ast.ForbidRule)[:_MOST_RULES]
    yield from overlap.allows(allows)
    yield from overlap.restrictions(forbids)
    yield from overlap.restrictions([r for r in policy.rules if isinstance(r, _REQUIRES)][:_MOST_RULES])
    yield from overlap.restrictions(ast.clauses(policy.rules, ast.NeverRule)[:_MOST_RULES])
    limits = [part for rule in ast.clauses(policy.rules, ast.LimitRule) for part in rule.limits]
    yield from overlap.restrictions([p for p in limits if isinstance(p, ast.LimitCalls)][:_MOST_RULES])
    yield from overlap.forbidden(allows, forbids)
    yield from overlap.waived_and_required(allows, policy.rules)
    yield from overlap.never_and_required(policy.rules)


_REQUIRES = (ast.RequireAskRule, ast.RequirePeopleRule, ast.RequireReadRule, ast.RequireAnyRule)


class _Overlap:
    """Compares the rules of one policy."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self._names: dict[Node, frozenset[str]] = {}
        self._tools: dict[ast.ToolSet, tuple[frozenset[object], frozenset[str]]] = {}
        self._compared = 0

    # ---- one rule adds nothing to another

    def allows(self, rules: Sequence[ast.AllowRule]) -> Iterator[Diagnostic]:
        """An `allow` whose calls another one allows already. One that waives an approval says more."""
        for at, rule in enumerate(rules):
            for part in (*rule.tools.names, *rule.tools.classes):
                for by, other in enumerate(rules):
                    says_more = rule.because is not None and other.because is None
                    if by == at or says_more or not self._covers(other.tools, part):
                        continue
                    if self._implies(rule.when, other.when) and (by < at or not self._vice_versa(rule, other, part)):
                        yield _idle_allow(rule, part, other)
                        break

    def restrictions(self, rules: Sequence[Node]) -> Iterator[Diagnostic]:
        """A rule that restricts nothing beyond another one of its kind."""
        for at, rule in enumerate(rules):
            for by, other in enumerate(rules):
                if by == at or type(rule) is not type(other) or not self._within(rule, other):
                    continue
                if by < at or not self._within(other, rule):
                    yield Diagnostic(
                        "JAM611",
                        f"`{source_text(rule)}` adds nothing to another rule",
                        rule.span,
                        labels=(Label(other.span, "says at least as much"),),
                        why="whenever this rule denies a call, the other one does",
                        help="remove it, or correct what makes it the same",
                    )
                    break

    def _within(self, rule: Node, other: Node) -> bool:
        """Whether `other` restricts every call that `rule` restricts, at least as much."""
        if not self._same_kind(rule, other) or not self._all_covered(_tools(other), _tools(rule)):
            return False
        return self._implies(getattr(rule, "when", None), getattr(other, "when", None))

    def _same_kind(self, rule: Node, other: Node) -> bool:
        """Whether what is required, forbidden or counted is the same, or stricter in `other`."""
        match rule, other:
            case ast.ForbidRule(), ast.ForbidRule():
                return True
            case ast.NeverRule(after=after), ast.NeverRule(after=after_other):
                return self._all_covered(after_other, after)
            case ast.RequireAskRule(ask=ask), ast.RequireAskRule(ask=ask_other):
                return ask.text == ask_other.text
            case ast.RequirePeopleRule() as people, ast.RequirePeopleRule() as stricter:
                few, many = (number(r.count, self.analysis) for r in (people, stricter))
                same = people.role.value == stricter.role.value
                same = same and (people.excluding is None or stricter.excluding is not None)
                return same and few is not None and many is not None and few <= many
            case ast.RequireReadRule(alias=None, call=call), ast.RequireReadRule(call=call_other):
                return source_text(call, 1000) == source_text(call_other, 1000)
            case ast.RequireAnyRule(alias=None, tools=tools), ast.RequireAnyRule(tools=tools_other):
                return self._all_covered(tools, tools_other)
            case ast.LimitCalls() as limit, ast.LimitCalls() as lower:
                more, less = number(limit.count, self.analysis), number(lower.count, self.analysis)
                return more is not None and less is not None and less <= more and _coarser(lower.per, limit.per)
            case _:
                return False

    def _vice_versa(self, rule: ast.AllowRule, other: ast.AllowRule, part: ast.Name) -> bool:
        """Whether the one rule makes a part of the other needless as well: then only the later one is too much."""
        says_more = other.because is not None and rule.because is None
        if says_more or not self._implies(other.when, rule.when):
            return False
        return any(self._denotes(p) == self._denotes(part) for p in (*other.tools.names, *other.tools.classes))

    # ---- rules against each other

    def forbidden(self, allows: Sequence[ast.AllowRule], forbids: Sequence[ast.ForbidRule]) -> Iterator[Diagnostic]:
        """An `allow` under a condition all of whose calls are forbidden."""
        for rule in allows:
            if rule.when is None or self.analysis.types.get(rule.when) is None:
                continue
            names = self._mentioned(rule.when)
            against = [
                f
                for f in forbids
                if f.when is not None and self._all_covered(f.tools, rule.tools) and names & self._mentioned(f.when)
            ]
            if not against:
                continue
            space = Space(self.analysis)
            allowed = space.formula(rule.when)
            denied = disj(*(space.formula(f.when) for f in against if f.when is not None))
            space.seal()
            if satisfiable(allowed, space) is True and satisfiable(conj(allowed, neg(denied)), space) is False:
                yield Diagnostic(
                    "JAM611",
                    f"what `{source_text(rule)}` lets through is forbidden",
                    rule.span,
                    labels=tuple(Label(f.span, "forbidden here") for f in against[:3]),
                    why="a `forbid` wins over every `allow`",
                    help="correct one of the conditions, or remove the `allow`",
                )

    def waived_and_required(self, allows: Sequence[ast.AllowRule], rules: Sequence[Node]) -> Iterator[Diagnostic]:
        """An approval that is waived, and required all the same."""
        for rule in allows:
            if rule.because is None:
                continue
            for other in rules:
                if not isinstance(other, ast.RequireAskRule | ast.RequirePeopleRule):
                    continue
                if self._all_covered(other.before, rule.tools) and self._implies(rule.when, other.when):
                    yield Diagnostic(
                        "JAM611",
                        "an approval is waived here, and another rule requires one",
                        rule.because.span,
                        labels=(Label(other.span, "requires it"),),
                        why="a waiver takes back only that an irreversible tool needs an approval, and no rule",
                        help="take out `without approval because …`, or the rule that requires it",
                    )
                    break

    def never_and_required(self, rules: Sequence[Node]) -> Iterator[Diagnostic]:
        """A call that must have been made before another one, which must never follow it."""
        for rule in ast.clauses(tuple(rules), ast.NeverRule):
            if rule.when is not None:
                continue
            for other in rules:
                if not isinstance(other, ast.RequireReadRule) or other.when is not None:
                    continue
                if self._covers(rule.after, other.call.tool) and self._all_covered(rule.tools, other.before):
                    yield Diagnostic(
                        "JAM611",
                        f"`{source_text(other.before)}` must come after `{other.call.tool.text}`, and must never do so",
                        rule.span,
                        labels=(Label(other.span, "requires it before"),),
                        why="together these rules deny every such call",
                        help="remove one of them, or give it a condition",
                    )

    # ---- tools

    def _denotes(self, part: ast.Name) -> object:
        symbol = self.analysis.symbols.get(part)
        return symbol.node if symbol is not None and symbol.node is not None else part.text

    def _covers(self, tools: ast.ToolSet, part: ast.Name) -> bool:
        """Whether a set holds every tool that a name or class of another one means."""
        held = self._tools.get(tools)
        if held is None:
            held = (frozenset(map(self._denotes, tools.names)), frozenset(c.text for c in tools.classes))
            self._tools[tools] = held
        named, classes = held
        denoted = self._denotes(part)
        if "any" in classes or denoted in named:
            return True
        return (effect_of(denoted) if isinstance(denoted, ast.ToolDecl) else denoted) in classes

    def _all_covered(self, tools: ast.ToolSet, others: ast.ToolSet) -> bool:
        return all(self._covers(tools, part) for part in (*others.names, *others.classes))

    # ---- conditions

    def _implies(self, one: ast.Expr | None, other: ast.Expr | None) -> bool:
        """Whether the second condition is proved to hold whenever the first one does. None always holds."""
        if other is None:
            return True
        if one is None or self.analysis.types.get(one) is None or self.analysis.types.get(other) is None:
            return False
        if key_of(one) == key_of(other):
            return True
        self._compared += 1
        if self._compared > _MOST_COMPARED or not self._mentioned(one) & self._mentioned(other):
            return False
        space = Space(self.analysis)
        first, second = space.formula(one), space.formula(other)
        space.seal()
        return satisfiable(first, space) is True and satisfiable(conj(first, neg(second)), space) is False

    def _mentioned(self, expr: ast.Expr) -> frozenset[str]:
        """The paths that a condition names."""
        found = self._names.get(expr)
        if found is None:
            found = self._names[expr] = frozenset(_paths(expr))
        return found


def _tools(rule: Node) -> ast.ToolSet:
    """The tools that a rule restricts."""
    tools = getattr(rule, "before", None) or getattr(rule, "tools", None)
    assert isinstance(tools, ast.ToolSet)
    return tools


def _paths(expr: ast.Expr) -> Iterator[str]:
    todo: list[Node] = [expr]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Ident | ast.Select):
            yield key_of(node)
        else:
            todo.extend(children(node))


def _coarser(per: Iterable[ast.Expr], others: Iterable[ast.Expr]) -> bool:
    """Whether a limit counts together at least what another one counts together, in the same runs."""
    one, other = list(per), list(others)
    if any(map(is_principal, one)) != any(map(is_principal, other)):
        return False
    return {key_of(p) for p in one} <= {key_of(p) for p in other}


def _idle_allow(rule: ast.AllowRule, part: ast.Name, other: ast.AllowRule) -> Diagnostic:
    name = "any" if part.text == "any" else f"any {part.text}" if part in rule.tools.classes else part.text
    if rule.when is not None and other.when is None:
        message = f"the condition on `{name}` restricts nothing, because another rule allows it always"
        help = "take it out of the other `allow`, or make the condition a `forbid`"
    else:
        message, help = f"`{name}` is allowed already", "take it out of one of the rules"
    return Diagnostic(
        "JAM611",
        message,
        part.span,
        labels=(Label(other.span, "allowed here"),),
        why="one `allow` that matches is enough, whatever the others say",
        help=help,
    )
