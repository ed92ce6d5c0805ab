"""Where an agent may call which tool, and what the rules of its policy say of that tool."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from jamjet_dsl.analysis.asks import options_of
from jamjet_dsl.analysis.checks.atoms import Space, conj, neg
from jamjet_dsl.analysis.checks.cover import satisfiable
from jamjet_dsl.analysis.checks.guards import Possible, edge_formula, guarded_edges
from jamjet_dsl.analysis.flow import effect_of, offered_tools, tools_of
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowEdge, FlowRegion, FlowState
from jamjet_dsl.source import Span
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node


class Site(NamedTuple):
    """A place where a tool may be called.

    `how` is direct (`call T`), proposed, approved, confirm (the probe of a call in doubt), undo, finally, or run (a
    child agent calls it). `state` is None in `finally`. `asks` are the asks whose grant an approved call uses.
    `certain`: who comes there calls this tool, and not one of several that a model chose from.
    """

    state: FlowState | None
    tool: ast.ToolDecl
    how: str
    span: Span
    asks: tuple[FlowState, ...] = ()
    certain: bool = False

    @property
    def name(self) -> str:
        """The name of the tool."""
        return self.tool.name.text


class CallSites:
    """Every place in an agent where a tool may be called, in source order, and the asks that offer calls."""

    def __init__(self, agent: AgentInfo, analysis: Analysis) -> None:
        self.agent = agent
        self.analysis = analysis
        self.states = agent.all_states()
        self.possible = Possible(analysis)
        """Which edges can be taken, as far as guards say."""
        self.components: dict[FlowRegion, list[list[FlowState]]] = {}
        """The strongly connected components of a region, once somebody has counted calls in it."""
        self.offers: dict[ast.ToolDecl, list[FlowState]] = {}
        """Tool -> the ask states that offer its call."""
        for state in self.states:
            for name in offered_tools(state.action, agent):
                tool = self._tool(name)
                if tool is not None and state not in self.offers.setdefault(tool, []):
                    self.offers[tool].append(state)
        self.sites: list[Site] = []
        for state in self.states:
            self.sites.extend(self._of_state(state))
        if agent.finally_ is not None:
            for action in ast.clauses(agent.finally_.body, ast.CallAction):
                if (tool := self._tool(action.call.tool)) is not None:
                    self.sites.append(Site(None, tool, "finally", action.call.span, certain=True))
        self.sites.extend(self._confirms())
        self.sites.extend(self._undos())

    def _tool(self, name: ast.Name) -> ast.ToolDecl | None:
        symbol = self.analysis.symbols.get(name)
        return symbol.node if symbol is not None and isinstance(symbol.node, ast.ToolDecl) else None

    def _of_state(self, state: FlowState) -> Iterator[Site]:
        action = state.action
        tools = tools_of(action, self.agent, self.analysis)
        match action:
            case ast.CallAction(call=call):
                yield from (Site(state, tool, "direct", call.span, certain=True) for tool in tools)
            case ast.CallWithAction(tool=name):
                yield from (Site(state, tool, "direct", name.span, certain=True) for tool in tools)
            case ast.CallProposedAction(move=move):
                for tool in tools:
                    if len(tools) == 1 or not self._routed_away(state, move, tool):
                        yield Site(state, tool, "proposed", action.span)
            case ast.CallApprovedAction(name=name):
                named = self.agent.answers.get(name.text)
                for tool in tools:
                    asks = self.offers.get(tool, [])
                    chosen = tuple(a for a in asks if named is None or a in named)
                    yield Site(state, tool, "approved", name.span, chosen, certain=len(tools) == 1)
            case ast.RunAction(call=call):
                yield from (Site(state, tool, "run", call.span) for tool in self._child_tools(call.tool))
            case _:
                return

    def _child_tools(self, name: ast.Name, seen: frozenset[Node] = frozenset()) -> Iterator[ast.ToolDecl]:
        """The tools that a child agent, or one of its own, may call."""
        symbol = self.analysis.symbols.get(name)
        child = next((a for a in self.analysis.agents if symbol is not None and a.decl is symbol.node), None)
        if child is None or child.decl in seen:
            return
        found: dict[ast.ToolDecl, None] = {}
        for state in child.all_states():
            found.update(dict.fromkeys(tools_of(state.action, child, self.analysis)))
            if isinstance(state.action, ast.RunAction):
                found.update(dict.fromkeys(self._child_tools(state.action.call.tool, seen | {child.decl})))
        yield from found

    def _confirms(self) -> Iterator[Site]:
        """The engine probes a call in doubt with what its tool names as `confirm`."""
        for site in list(self.sites):
            clause = ast.clause(site.tool.clauses, ast.ConfirmClause)
            tool = self._tool(clause.call.tool) if clause is not None and site.how != "run" else None
            if tool is not None:
                yield Site(site.state, tool, "confirm", site.span)

    def _undos(self) -> Iterator[Site]:
        """`undo all` calls what the tools called before name as `undo`."""
        undoing = [s for s in self.states if isinstance(s.action, ast.UndoAllAction)]
        if not undoing:
            return
        undone: dict[ast.ToolDecl, None] = {}
        for site in list(self.sites):
            clause = ast.clause(site.tool.clauses, ast.UndoClause)
            tool = self._tool(clause.call.tool) if clause is not None else None
            if tool is not None:
                undone.setdefault(tool)
        for state in undoing:
            assert state.action is not None
            for tool in undone:
                yield Site(state, tool, "undo", state.action.span)

    # ---- what the guards before a proposed call leave of its tools

    def _routed_away(self, state: FlowState, move: ast.Name, tool: ast.ToolDecl) -> bool:
        """Whether no edge into the state is taken while the proposed call is one of this tool: an earlier guard
        of the state before sends those elsewhere."""
        if state.region.start is state or not state.into:
            return False
        return all(self._edge_excludes(edge, move, tool) for edge in state.into)

    def _edge_excludes(self, edge: FlowEdge, move: ast.Name, tool: ast.ToolDecl) -> bool:
        written = edge.edge
        if written is None or not isinstance(written.trigger, ast.When | ast.Otherwise | ast.Always):
            return False
        if any(s.path.names[0].text == move.text for s in written.sets):
            return False
        space = Space(self.analysis)
        span = move.span
        call = ast.Select(span, ast.Ident(span, move.text), ast.Name(span, "call"))
        named = ast.Select(span, call, ast.Name(span, "tool"))
        parts = []
        for other in guarded_edges(edge.source):
            formula = edge_formula(other, space)
            if other is written:
                parts.append(formula)
                break
            parts.append(neg(formula))
        parts.append(space.comparison("==", named, ast.Lit(span, "string", tool.name.text)))
        parts.append(space.present(call))
        space.seal()
        return satisfiable(conj(*parts), space) is False


def approving_edges(ask: FlowState) -> list[FlowEdge]:
    """The edges of an ask that are taken only when its call was granted."""
    granting = granting_options(ask)
    return [e for e in ask.out if isinstance(e.trigger, ast.OnOption) and e.trigger.option.text in granting]


def granting_options(ask: FlowState) -> list[str]:
    """The options of an ask that grant the call it offers."""
    return [n for n, grants in options_of(ask.action) if grants] if isinstance(ask.action, ast.AskAction) else []


# ---- rules


class ToolRules:
    """The rules of a policy that speak of one tool."""

    __slots__ = ("allows", "forbids", "limits", "nevers", "people", "reads", "requires")

    def __init__(self) -> None:
        self.allows: list[ast.AllowRule] = []
        self.forbids: list[ast.ForbidRule] = []
        self.requires: list[ast.RequireAskRule] = []
        self.people: list[ast.RequirePeopleRule] = []
        self.reads: list[ast.RequireReadRule | ast.RequireAnyRule] = []
        self.nevers: list[ast.NeverRule] = []
        self.limits: list[ast.LimitCalls | ast.LimitTotal] = []

    def add(self, rule: Node) -> None:
        """Sorts in one more rule."""
        match rule:
            case ast.AllowRule():
                self.allows.append(rule)
            case ast.ForbidRule():
                self.forbids.append(rule)
            case ast.RequireAskRule():
                self.requires.append(rule)
            case ast.RequirePeopleRule():
                self.people.append(rule)
            case ast.RequireReadRule() | ast.RequireAnyRule():
                self.reads.append(rule)
            case ast.NeverRule():
                self.nevers.append(rule)
            case ast.LimitCalls() | ast.LimitTotal():
                self.limits.append(rule)
            case _:
                pass

    @property
    def approvals(self) -> list[ast.RequireAskRule | ast.RequirePeopleRule]:
        """The rules that require an approval."""
        return [*self.requires, *self.people]

    @property
    def always_allowed(self) -> bool:
        """Whether an `allow` without a condition matches."""
        return any(rule.when is None for rule in self.allows)

    @property
    def waived(self) -> bool:
        """Whether every call that is allowed is also let off the approval that an irreversible tool needs."""
        if any(rule.because is not None and rule.when is None for rule in self.allows):
            return True
        return bool(self.allows) and all(rule.because is not None for rule in self.allows)


class Rules:
    """The policy of an agent by tool; without a policy, no rule speaks of any."""

    def __init__(self, agent: AgentInfo, analysis: Analysis) -> None:
        self.policy = agent.policy
        self.analysis = analysis
        self._of: dict[ast.ToolDecl, ToolRules] = {}
        self._sets: dict[ast.ToolSet, tuple[frozenset[Node], frozenset[str]]] = {}
        self._named: dict[Node, list[int]] = {}
        self._classes: dict[str, list[int]] = {}
        self._rules: list[Node] = []
        for rule in self.policy.rules if self.policy is not None else ():
            for part in rule.limits if isinstance(rule, ast.LimitRule) else (rule,):
                self._add(part)

    def _add(self, rule: Node) -> None:
        """Enters a rule under the tools and classes that it restricts or allows."""
        match rule:
            case ast.AllowRule(tools=tools) | ast.ForbidRule(tools=tools) | ast.NeverRule(tools=tools):
                pass
            case ast.LimitCalls(tools=tools) | ast.LimitTotal(tools=tools):
                pass
            case ast.RequireAskRule(before=tools) | ast.RequirePeopleRule(before=tools):
                pass
            case ast.RequireReadRule(before=tools) | ast.RequireAnyRule(before=tools):
                pass
            case _:
                return
        named, classes = self._set(tools)
        for node in named:
            self._named.setdefault(node, []).append(len(self._rules))
        for name in classes:
            self._classes.setdefault(name, []).append(len(self._rules))
        self._rules.append(rule)

    def _set(self, tools: ast.ToolSet) -> tuple[frozenset[Node], frozenset[str]]:
        """The declarations that a set of tools names, and its classes."""
        found = self._sets.get(tools)
        if found is None:
            symbols = (self.analysis.symbols.get(name) for name in tools.names)
            named = frozenset(s.node for s in symbols if s is not None and s.node is not None)
            found = self._sets[tools] = (named, frozenset(c.text for c in tools.classes))
        return found

    def of(self, tool: ast.ToolDecl) -> ToolRules:
        """The rules that speak of a tool, in source order."""
        found = self._of.get(tool)
        if found is None:
            found = self._of[tool] = ToolRules()
            speaking = {*self._named.get(tool, ()), *self._classes.get("any", ())}
            speaking.update(self._classes.get(effect_of(tool), ()))
            for index in sorted(speaking):
                found.add(self._rules[index])
        return found

    def among(self, tools: ast.ToolSet, candidates: Collection[ast.ToolDecl]) -> list[ast.ToolDecl]:
        """Those of some tools that a set holds by name or class, in their order."""
        named, classes = self._set(tools)
        if not classes and named.isdisjoint(candidates):
            return []
        return [t for t in candidates if t in named or "any" in classes or effect_of(t) in classes]


def needs_approval(tool: ast.ToolDecl, rules: ToolRules) -> bool:
    """Whether every call of the tool needs an approval, whatever its arguments."""
    if any(rule.when is None for rule in rules.approvals):
        return True
    return effect_of(tool) == "irreversible" and not rules.waived
