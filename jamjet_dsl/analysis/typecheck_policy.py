"""Types in the rules of a policy."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from jamjet_dsl.analysis.flow import effect_of
from jamjet_dsl.analysis.model import AgentInfo, Symbol, Type
from jamjet_dsl.analysis.typecheck_args import check_arguments, known, whole
from jamjet_dsl.analysis.typecheck_calls import IN_RULES
from jamjet_dsl.analysis.typecheck_expr import ExprChecker, Scope
from jamjet_dsl.analysis.types import ANY, DURATION, ERROR, INT, base, join, show
from jamjet_dsl.diagnostics.model import Label
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

WINDOWS = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
"""The words after `per` that mean a sliding window, in milliseconds."""


def is_window(node: ast.Expr) -> bool:
    """Whether a `per` names a window of time."""
    return isinstance(node, ast.Ident) and node.name in WINDOWS


def is_turn(node: ast.Expr) -> bool:
    """Whether a `per` is `per turn`: since a model last answered."""
    return isinstance(node, ast.Ident) and node.name == "turn"


def is_principal(node: ast.Expr) -> bool:
    """Whether a `per` is `per principal`: over all runs of whoever started this one."""
    return isinstance(node, ast.Ident) and node.name == "principal"


class PolicyChecker:
    """Types the rules of one agent."""

    def __init__(self, info: AgentInfo, exprs: ExprChecker) -> None:
        self.info = info
        self.exprs = exprs
        self.names = exprs.names
        self.own: dict[str, Symbol] = {}

    def check(self, policy: ast.Policy) -> None:
        """Types every rule. Facts and aliases are names in all of them."""
        for rule in policy.rules:
            match rule:
                case ast.FactRule(name=name, call=call):
                    self._declare(name, Symbol("fact", name.text, rule, self._result(self._tools_named([call.tool]))))
                case ast.RequireAnyRule(alias=alias, tools=tools) if alias is not None:
                    self._alias(alias, rule, self._tools(tools))
                case ast.RequireReadRule(alias=alias, call=call) if alias is not None:
                    self._alias(alias, rule, self._tools_named([call.tool]))
                case _:
                    pass
        before = self.exprs.scope
        for rule in policy.rules:
            self._rule(rule)
        self.exprs.scope = before

    def _declare(self, name: ast.Name, symbol: Symbol) -> None:
        first = self.own.get(name.text) or self.info.vars.get(name.text) or self.info.inputs.get(name.text)
        if first is not None or name.text in self.exprs.scope.roots:
            at = getattr(first.node, "name", first.node) if first is not None else None
            self.exprs.report.add(
                "JAM102",
                name.span,
                f"`{name.text}` already means something in these rules",
                help="choose another name",
                labels=(Label(at.span, "the first one"),) if at is not None else (),
            )
            return
        self.own[name.text] = symbol
        self.exprs.symbols[name] = symbol

    def _alias(self, alias: ast.Name, rule: Node, tools: list[ast.ToolDecl]) -> None:
        fields = (("result", self._result(tools)), ("args", self._args(tools)))
        self._declare(alias, Symbol("alias", alias.text, rule, Type("object", fields=fields)))

    # ---- tools of a rule

    def _tools_named(self, names: Iterable[ast.Name]) -> list[ast.ToolDecl]:
        found = (self.exprs.symbols.get(n) for n in names)
        return [s.node for s in found if s is not None and isinstance(s.node, ast.ToolDecl)]

    def _tools(self, tools: ast.ToolSet) -> list[ast.ToolDecl]:
        """The tools that a rule speaks of, as far as the file can see them."""
        found = self._tools_named(tools.names)
        classes = {c.text for c in tools.classes}
        if classes:
            for symbol in self.names.scope.names.values():
                decl = symbol.node
                if isinstance(decl, ast.ToolDecl) and ("any" in classes or effect_of(decl) in classes):
                    found.append(decl)
        return found

    def _result(self, tools: list[ast.ToolDecl]) -> Type:
        results = [self.exprs.types_of(t.result) for t in tools if t.result is not None]
        found: Type | None = results[0] if results else ERROR
        for other in results[1:]:
            found = join(found, other) if found is not None else None
        return found if found is not None else ANY

    def _args(self, tools: list[ast.ToolDecl]) -> Type:
        """`args` of several tools has the parameters of all; what two of them type differently is `any`."""
        fields: dict[str, Type] = {}
        for tool in tools:
            for param in tool.params:
                found = self.exprs.types_of(param.type)
                known = fields.get(param.name.text)
                fields[param.name.text] = found if known is None or known == found else ANY
        return Type("object", fields=tuple(fields.items()))

    def _enter(self, tools: list[ast.ToolDecl] | None) -> None:
        args = self._args(tools) if tools is not None else ERROR
        own = self.info.vars | self.own | {"args": Symbol("root", "args", None, args)}
        self.exprs.scope = Scope(own, self.info.inputs, forms=IN_RULES, lenient=True)

    # ---- rules

    def _rule(self, rule: Node) -> None:
        exprs = self.exprs
        match rule:
            case ast.AllowRule(tools=tools, when=when) | ast.ForbidRule(tools=tools, when=when):
                self._when(tools, when)
            case ast.NeverRule(tools=tools, when=when):
                self._when(tools, when)
            case ast.RequireAnyRule(before=before, when=when) | ast.RequireAskRule(before=before, when=when):
                self._when(before, when)
            case ast.RequirePeopleRule(before=before, when=when, count=count):
                self._when(before, when)
                whole(exprs, count, 1, "a number of people")
            case ast.RequireReadRule(call=call, before=before, when=when):
                self._when(before, when)
                self._reads(call, "require")
                check_arguments(exprs, call, partial=True)
            case ast.FactRule(call=call, within=within, tools=tools):
                self._enter(self._tools(tools) if tools is not None else self._every())
                self._reads(call, "fact")
                check_arguments(exprs, call)
                if within is not None:
                    known(exprs, within, DURATION, "`within`")
            case ast.LimitRule(limits=limits):
                for limit in limits:
                    self._limit(limit)
            case ast.RedactRule(paths=paths):
                for path in paths:
                    self._redacted(path)
            case _:
                pass

    def _every(self) -> list[ast.ToolDecl]:
        return [s.node for s in self.names.scope.names.values() if isinstance(s.node, ast.ToolDecl)]

    def _when(self, tools: ast.ToolSet, when: ast.Expr | None) -> None:
        self._enter(self._tools(tools))
        if when is not None:
            self.exprs.condition(when, "a condition")

    def _reads(self, call: ast.ToolCall, word: str) -> None:
        for tool in self._tools_named([call.tool]):
            effect = ast.clause(tool.clauses, ast.EffectClause)
            if effect is not None and word == "fact" and effect.effect.text in ("writes", "irreversible"):
                self.exprs.report.add(
                    "JAM401",
                    call.tool.span,
                    f"a fact is read by the engine itself, and `{call.tool.text}` does not only read",
                    labels=(Label(effect.span, "its effect"),),
                )

    def _limit(self, limit: ast.LimitCalls | ast.LimitTotal) -> None:
        exprs = self.exprs
        self._enter(self._tools(limit.tools))
        if isinstance(limit, ast.LimitCalls):
            whole(exprs, limit.count, 0, "a limit")
        else:
            amount = base(exprs.value(limit.amount))
            if amount.kind not in ("int", "decimal", "money", "error", "any"):
                exprs.problem("JAM401", limit.amount, f"a total adds up numbers or money, not `{show(amount)}`")
            exprs.expect(limit.bound, amount if amount.kind in ("decimal", "money") else INT)
        windows = [p for p in limit.per if is_window(p) or is_turn(p)]
        for extra in windows[1:]:
            exprs.problem("JAM007", extra, "a limit has one window of time, or is per turn")
        if any(is_turn(p) for p in limit.per):
            for shared in filter(is_principal, limit.per):
                exprs.problem("JAM007", shared, "a turn is of one run, and cannot be counted per principal")
        for per in limit.per:
            if per not in windows:
                exprs.value(per)

    def _redacted(self, path: ast.Path) -> None:
        """A path of an input or variable; fields through optional values and lists are not followed."""
        exprs = self.exprs
        self._enter(None)
        first, *rest = path.names
        symbol = self.info.vars.get(first.text) or self.info.inputs.get(first.text)
        if symbol is None:
            known = chain(self.info.vars, self.info.inputs)
            self.names.unknown(first.span, first.text, "variable or input", known)
            return
        symbol.used = True
        exprs.symbols[first] = symbol
        found = symbol.type if symbol.type is not None else exprs.complete(symbol)
        for name in rest:
            found = exprs.field(name, found.args[0] if found.kind == "optional" else found)
        exprs.types[path] = found
