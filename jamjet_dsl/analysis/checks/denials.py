"""Calls that the policy may deny with nothing to do then (JAM613), and what makes sure that a rule does not deny."""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl.analysis.checks.callsites import CallSites, Rules, Site, ToolRules, needs_approval
from jamjet_dsl.analysis.checks.counting import at_most
from jamjet_dsl.analysis.checks.facts import number, options_of
from jamjet_dsl.analysis.checks.paths import shortest_path
from jamjet_dsl.analysis.checks.variables import after_success
from jamjet_dsl.analysis.model import FlowEdge, FlowState
from jamjet_dsl.analysis.typecheck_policy import is_principal
from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.source import Span
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node, children

_CHANGING = frozenset({"attempted", "succeeded", "failed", "attested", "untrusted"})
"""Functions of conditions that may say another thing when they are asked again."""
_FIXED_ROOTS = frozenset({"args", "principal"})
_FIXED = frozenset({"input", "const", "member", "enum", "local"})


def check_denials(calls: CallSites, rules: Rules) -> Iterator[Diagnostic]:
    """JAM613: states whose call the policy may deny and that have no way on then. Inside a branch or an item a
    denial ends that branch or item."""
    agent = calls.agent
    if agent.policy is None or any(isinstance(h.trigger, ast.OnDenied) for h in agent.handlers):
        return
    told: set[FlowState] = set()
    denials = _Denials(calls, rules)
    for state, tool, span, site in _decided(calls):
        if state in told or state.region.kind != "agent" or _handles_denial(state):
            continue
        cause = denials.cause(tool, site) if rules.of(tool).allows else None
        if cause is None:
            continue
        told.add(state)
        yield Diagnostic(
            "JAM613",
            f"nothing happens in `{state.name}` when `{tool.name.text}` is denied",
            span,
            labels=(Label(cause, "may deny it"),),
            why="a denied call without a way on parks the run until an operator looks at it",
            help="add `on denied -> …` here, or to the whole agent",
        )


def _decided(calls: CallSites) -> Iterator[tuple[FlowState, ast.ToolDecl, Span, Site | None]]:
    """The states in which the policy decides a call: those that make one (with the site) and those that offer one."""
    for site in calls.sites:
        if site.state is not None and site.how in ("direct", "proposed", "approved"):
            yield site.state, site.tool, site.span, site
    for tool, asks in calls.offers.items():
        for ask in asks:
            assert isinstance(ask.action, ast.AskAction)
            offered = ask.action.call or ask.action.proposed
            yield ask, tool, offered.span if offered is not None else ask.span, None


def _handles_denial(state: FlowState) -> bool:
    return any(isinstance(e.trigger, ast.OnDenied) for e in ast.clauses(state.clauses, ast.Edge))


class _Denials:
    """The rules of one agent that may deny a call at run time."""

    def __init__(self, calls: CallSites, rules: Rules) -> None:
        self.calls = calls
        self.rules = rules
        self.called = dict.fromkeys(site.tool for site in calls.sites)
        self.uncertain = dict.fromkeys(site.tool for site in calls.sites if not site.certain)

    def cause(self, tool: ast.ToolDecl, site: Site | None) -> Span | None:
        """A rule that may deny the call of a tool at a site (None: where an ask offers it), if there is one.

        What a person approved was decided before with the same arguments, so a condition on nothing but these says
        the same again.
        """
        about = self.rules.of(tool)
        again = site is not None and site.how == "approved"
        conditional = about.allows and not about.always_allowed
        if conditional and not (again and all(self._fixed(r.when) for r in about.allows)):
            return about.allows[0].span
        for forbid in about.forbids:
            if not (again and self._fixed(forbid.when)):
                return forbid.span
        for read in about.reads:
            if not (again and self._fixed(read)) and not (site is not None and self._read_before(read, site)):
                return read.span
        for limit in about.limits:
            if not self._never_reached(limit, tool, site):
                return limit.span
        for never in about.nevers:
            # Of two calls that are certain where they stand JAM612 speaks, or there is nothing to say.
            certain = never.when is None and site is not None and site.certain
            if self.rules.among(never.after, self.uncertain if certain else self.called):
                return never.span
        return self._unapproved(tool, about, site.how if site is not None else "asked")

    def _unapproved(self, tool: ast.ToolDecl, about: ToolRules, how: str) -> Span | None:
        if how == "direct":
            # One without a condition is JAM602's: it denies every time.
            return next((r.span for r in about.approvals if r.when is not None), None)
        if how == "proposed" and needs_approval(tool, about):
            return next((r.span for r in about.approvals), tool.name.span)
        return None

    def _fixed(self, node: Node | None) -> bool:
        """Whether everything that an expression or a `require` asks about stays as it is during a run."""
        match node:
            case ast.Ident():
                symbol = self.calls.analysis.symbols.get(node)
                if symbol is None:
                    return False
                return symbol.kind in _FIXED or (symbol.kind == "root" and symbol.name in _FIXED_ROOTS)
            case ast.FnCall(function=ast.Name(text=name)) if name in _CHANGING:
                return False
            case None:
                return True
            case _:
                return all(self._fixed(child) for child in children(node))

    # ---- a read that is required

    def _read_before(self, rule: ast.RequireReadRule | ast.RequireAnyRule, site: Site) -> bool:
        """Whether every path to the site makes, successfully, the read that a rule wants before."""
        region, start = site.state.region if site.state else None, None
        if region is None or (start := region.start) is None or site.state is None:
            return False
        done = {s.state for s in self.calls.sites if s.how == "direct" and s.state and self._is_it(rule, s, site)}

        def unread(edge: FlowEdge) -> bool:
            return edge.source not in done or edge.origin == "exceeded" or not after_success(edge.trigger)

        return bool(done) and shortest_path(start, (site.state,), unread) is None

    def _is_it(self, rule: ast.RequireReadRule | ast.RequireAnyRule, read: Site, site: Site) -> bool:
        """Whether a call is the one that a rule wants before the call at a site."""
        if isinstance(rule, ast.RequireAnyRule):
            return bool(self.rules.among(rule.tools, (read.tool,)))
        made = _arguments(read)
        if made is None or not self._same_tool(rule.call.tool, read.tool):
            return False
        wanted = _by_name(rule.call, read.tool)
        theirs = _arguments(site) or {}
        for name, value in wanted.items():
            match value:
                # `args.p` of the rule is what the call at the site is given for `p`.
                case ast.Select(operand=ast.Ident(name="args"), field=ast.Name(text=parameter)):
                    given = theirs.get(parameter)
                case _:
                    given = value
            other = made.get(name)
            if given is None or other is None or not (self._fixed(given) and _text(given) == _text(other)):
                return False
        return True

    def _same_tool(self, name: ast.Name, tool: ast.ToolDecl) -> bool:
        symbol = self.calls.analysis.symbols.get(name)
        return symbol is not None and symbol.node is tool

    # ---- a limit

    def _never_reached(self, limit: ast.LimitCalls | ast.LimitTotal, tool: ast.ToolDecl, site: Site | None) -> bool:
        """Whether no path makes more calls than a limit on one tool allows. What is retried counts again."""
        if not isinstance(limit, ast.LimitCalls) or len(limit.tools.names) != 1 or limit.tools.classes:
            return False
        if any(is_principal(part) for part in limit.per):
            return False  # other runs count too
        retried = ast.clause(tool.clauses, ast.RetryClause) is not None or any(
            s.tool is tool and s.state is not None and _retries(s.state) for s in self.calls.sites
        )
        most = number(limit.count, self.calls.analysis)
        # Where an ask offers the call, those that were made before count, and the one that is offered.
        return not retried and isinstance(most, int) and at_most(self.calls, tool, most - (site is None))


def _retries(state: FlowState) -> bool:
    return ast.clause(options_of(state.action), ast.RetryClause) is not None


def _arguments(site: Site) -> dict[str, ast.Expr] | None:
    """The arguments of a call that is written out, by parameter."""
    action = site.state.action if site.state is not None else None
    return _by_name(action.call, site.tool) if isinstance(action, ast.CallAction) else None


def _by_name(call: ast.ToolCall, tool: ast.ToolDecl) -> dict[str, ast.Expr]:
    names = [p.name.text for p in tool.params]
    return {
        arg.name.text if arg.name is not None else names[n]: arg.value
        for n, arg in enumerate(call.args)
        if arg.name is not None or n < len(names)
    }


def _text(expr: ast.Expr) -> str:
    return " ".join(expr.span.text.split())
