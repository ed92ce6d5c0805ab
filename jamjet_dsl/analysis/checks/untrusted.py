"""Untrusted text in the arguments of irreversible calls that nobody approves (JAM616).

What is untrusted is what a run marks so (`untrusted(x)`): the result of a tool declared `untrusted`, what a model says
that was given such a value or reads it in its conversation, and what a `set` makes of it; a tool answers for its own
result, and a person for his. Each name is followed on its own along the edges of the graph, so the first way that is
found is a shortest one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from jamjet_dsl.analysis.checks.callsites import CallSites, Rules, Site
from jamjet_dsl.analysis.checks.facts import bound_name
from jamjet_dsl.analysis.checks.paths import edge_text, region_text
from jamjet_dsl.analysis.checks.sinks import Sink, is_guarded, sinks_of
from jamjet_dsl.analysis.checks.variables import after_success, event_bind, state_sets, state_yields, written_of
from jamjet_dsl.analysis.flow import effect_of, tools_of
from jamjet_dsl.analysis.model import AgentInfo, FlowEdge, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label, PathStep
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node, children

_NAMES = frozenset({"input", "var", "bound"})
_NOTHING = ""
"""Stands for a run in which nothing untrusted was followed so far."""

Place: TypeAlias = tuple[FlowState, str]
"""A state and a name whose value is untrusted there."""


def check_untrusted(calls: CallSites, rules: Rules) -> Iterator[Diagnostic]:
    """JAM616 of one agent, with what it passes on to agents that it runs."""
    if not any(tool.untrusted for tool in _all_tools(calls)):
        return
    if not any(effect_of(site.tool) == "irreversible" for site in calls.sites):
        return
    flow = _Flow(calls, rules, {})
    came, found = flow.follow(_NOTHING)
    told: set[tuple[Site, str]] = set()
    for place, sink in found:
        if (sink.site, sink.param) not in told:
            told.add((sink.site, sink.param))
            yield _reached(place, sink, came, calls)


def _all_tools(calls: CallSites) -> Iterator[ast.ToolDecl]:
    for scope in calls.analysis.files:
        yield from ast.clauses(scope.program.items, ast.ToolDecl)


class _Summary(NamedTuple):
    """What becomes of an untrusted input of an agent, or of what it reads itself: whether an output is untrusted, and
    the calls that it reaches."""

    leaves: bool
    sinks: tuple[Sink, ...]


_Summaries: TypeAlias = dict[tuple[AgentInfo, str], _Summary]


class _Flow:
    """Where untrusted values of one agent go."""

    def __init__(self, calls: CallSites, rules: Rules, summaries: _Summaries) -> None:
        self.calls = calls
        self.agent = calls.agent
        self.analysis = calls.analysis
        self.summaries = summaries
        self._named: dict[Node, frozenset[str]] = {}
        self.rules = rules
        self.sinks = sinks_of(calls, rules)

    # ---- following a name

    def follow(self, name: str) -> tuple[dict[Place, tuple[Place, PathStep] | None], list[tuple[Place, Sink]]]:
        """Where a name that is untrusted at the start leads, or with `_NOTHING` what the agent reads itself: each place
        with the one before it, and the arguments that are reached, nearest first."""
        start = self.agent.flow.start if self.agent.flow is not None else None
        if start is None:
            return {}, []
        first = [(start, n) for n in (name, *(self._begun_with(name) if name else ()))]
        came: dict[Place, tuple[Place, PathStep] | None] = dict.fromkeys(first)
        found: list[tuple[Place, Sink]] = []
        todo = deque(first)
        while todo:
            place = todo.popleft()
            found += ((place, sink) for sink in self._sinks_at(*place))
            for step, following in self._following(*place):
                if following not in came:
                    came[following] = (place, step)
                    todo.append(following)
        return came, found

    def _begun_with(self, name: str) -> Iterator[str]:
        for decl in ast.clauses(self.agent.decl.members, ast.VarDecl):
            if decl.init is not None and name in self.named(decl.init):
                yield decl.name.text

    def _sinks_at(self, state: FlowState, name: str) -> Iterator[Sink]:
        sinks = list(self.sinks.get(state, ()))
        if state.final and state.region.kind == "agent":
            sinks += self.sinks.get(None, ())
        yield from (s for s in sinks if name and name in self.named(s.value))
        if name and isinstance(state.action, ast.RunAction):
            for param in self._passed(state.action, name):
                inside = self._child(state.action, param).sinks
                yield from (s for s in inside if self.agent.policy is None or not is_guarded(s, self.rules))

    def _following(self, state: FlowState, name: str) -> Iterator[tuple[PathStep, Place]]:
        for body in state.bodies:
            if body.start is not None:
                step = PathStep(state.path, state.span, region_text(body))
                yield step, (body.start, name)
                if isinstance(state.action, ast.EachAction) and name in self.named(state.action.source):
                    yield step, (body.start, state.action.item.text)
        for edge in state.out:
            if edge.target is not None and edge.origin != "exceeded" and self.calls.possible(edge):
                step = PathStep(state.path, state.span, edge_text(edge), edge.id)
                for after in self._after(edge, name):
                    yield step, (edge.target, after)
        owner = state.region.owner
        bound = _bound_outside(state) if owner is not None else None
        if owner is not None and bound is not None and self._is_worth(state, name):
            for edge in owner.out:
                if edge.target is not None and after_success(edge.trigger) and self.calls.possible(edge):
                    for after in self._set(owner, edge, {bound}):
                        yield PathStep(state.path, state.span, f"as {bound}"), (edge.target, after)

    def _after(self, edge: FlowEdge, name: str) -> set[str]:
        """What is untrusted behind an edge, if this name is before its state."""
        left = {name} if name else set()
        if after_success(edge.trigger):
            left = self._acted(edge.source, name, left)
        left = self._set(edge.source, edge, left)
        return left if name else left | {_NOTHING}

    def _set(self, state: FlowState, edge: FlowEdge, left: set[str]) -> set[str]:
        """What is untrusted after the `set`s of a state and those of an edge."""
        written = written_of(edge)
        payload = event_bind(edge.trigger)
        sets = list(state_sets(state)) if after_success(edge.trigger) else []
        if payload is not None:
            left = left - {payload.text}
        for clause in (*sets, *(written.sets if written is not None else ())):
            target = clause.path.names[0].text
            if left & self.named(clause.value):
                left = left | {target}
            elif len(clause.path.names) == 1:
                left = left - {target}
        return left

    def _acted(self, state: FlowState, name: str, left: set[str]) -> set[str]:
        """What is untrusted once an action has succeeded."""
        bind = bound_name(state.action)
        found = set(left)
        if bind is not None:
            found.discard(bind.text)
        if isinstance(state.decl, ast.ParallelDecl):
            found -= {b.bind.text for b in ast.clauses(state.decl.members, ast.Branch) if b.bind is not None}
        if self._gives(state, name):
            found |= ({bind.text} if bind is not None else set()) | self._chats(state.action)
        return found

    def _gives(self, state: FlowState, name: str) -> bool:
        """Whether the result of an action is untrusted because of a name, or because it is text from outside."""
        match state.action:
            case ast.ThinkAction(text=text, chat=chat, options=options):
                parts: list[Node] = [text, *ast.clauses(options, ast.GivenOpt), *([chat] if chat is not None else [])]
                return any(name in self.named(part) for part in parts)
            case ast.RunAction() as action:
                params = self._passed(action, name) if name else (_NOTHING,)
                return any(self._child(action, param).leaves for param in params)
            case action:
                return not name and any(tool.untrusted for tool in tools_of(action, self.agent, self.analysis))

    def _chats(self, action: ast.Action | None) -> set[str]:
        """The conversations that are told the result: a model's own, or that in which it proposed the call."""
        if isinstance(action, ast.ThinkAction):
            return {action.chat.text} if action.chat is not None else set()
        moves = [action.move.text] if isinstance(action, ast.CallProposedAction) else []
        if isinstance(action, ast.CallApprovedAction):
            asks = self.agent.answers.get(action.name.text) or [s for a in self.calls.offers.values() for s in a]
            offered = (ask.action for ask in asks)
            moves = [a.proposed.text for a in offered if isinstance(a, ast.AskAction) and a.proposed is not None]
        return {t.chat.text for move in moves for t in self.agent.moves.get(move, ()) if t.chat is not None}

    def _is_worth(self, state: FlowState, name: str) -> bool:
        """Whether the value of a branch or an item that ends in a state is untrusted."""
        if isinstance(state.decl, ast.FinalDecl):
            return bool(name) and any(name in self.named(assign.value) for assign in state.decl.assigns)
        values = [clause.value for clause in state_yields(state)]
        values += [e.edge.yields for e in state.out if e.edge is not None and e.edge.yields is not None]
        gives = self._gives(state, name)
        if not values:
            return gives
        bind = bound_name(state.action)
        return any((name and name in self.named(v)) or (gives and _reads_result(v, bind)) for v in values)

    def named(self, node: Node) -> frozenset[str]:
        """The inputs and variables that an expression or a text names."""
        found = self._named.get(node)
        if found is None:
            names: set[str] = set()
            todo = [node]
            while todo:
                part = todo.pop()
                if isinstance(part, ast.Ident | ast.Name):
                    symbol = self.analysis.symbols.get(part)
                    if symbol is not None and symbol.kind in _NAMES:
                        names.add(symbol.name)
                elif isinstance(part, ast.Text):
                    todo.extend(p.path for p in part.parts if isinstance(p, ast.Placeholder))
                else:
                    todo.extend(children(part))
            found = self._named[node] = frozenset(names)
        return found

    # ---- agents that are run

    def _passed(self, action: ast.RunAction, name: str) -> Iterator[str]:
        """The inputs of a child that are given something of a name."""
        child = self._agent(action)
        names = list(child.inputs) if child is not None else []
        for n, arg in enumerate(action.call.args[: len(names)]):
            if name in self.named(arg.value):
                yield arg.name.text if arg.name is not None else names[n]

    def _agent(self, action: ast.RunAction) -> AgentInfo | None:
        symbol = self.analysis.symbols.get(action.call.tool)
        return next((a for a in self.analysis.agents if symbol is not None and a.decl is symbol.node), None)

    def _child(self, action: ast.RunAction, param: str) -> _Summary:
        child = self._agent(action)
        if child is None or child.broken:
            return _Summary(False, ())
        found = self.summaries.get((child, param))
        if found is None:
            self.summaries[child, param] = _Summary(False, ())
            calls = CallSites(child, self.analysis)
            flow = _Flow(calls, Rules(child, self.analysis), self.summaries)
            came, sinks = flow.follow(param)
            ends = ((s, n) for s, n in came if s.final and not s.failed and s.region.kind == "agent" and n)
            leaves = any(flow._is_worth(state, name) for state, name in ends)
            reached = tuple(sink._replace(inside=sink.inside or child.name) for _, sink in sinks if param)
            found = self.summaries[child, param] = _Summary(leaves, reached)
        return found


def _bound_outside(state: FlowState) -> str | None:
    """The name that the value of a branch or of the items gets in the state around."""
    owner = state.region.owner
    if owner is None:
        return None
    if isinstance(owner.decl, ast.ParallelDecl):
        branch = next(b for b in ast.clauses(owner.decl.members, ast.Branch) if b.name.text == state.region.name)
        return branch.bind.text if branch.bind is not None else None
    bind = bound_name(owner.action)
    return bind.text if bind is not None else None


def _reads_result(value: Node, bind: ast.Name | None) -> bool:
    names = {"result", bind.text} if bind is not None else {"result"}
    todo = [value]
    while todo:
        part = todo.pop()
        if isinstance(part, ast.Ident) and part.name in names:
            return True
        todo.extend(children(part))
    return False


def _reached(
    place: Place, sink: Sink, came: dict[Place, tuple[Place, PathStep] | None], calls: CallSites
) -> Diagnostic:
    state, _ = place
    steps = [PathStep(state.path, state.span)]
    source: FlowState | None = None
    at = place
    while (before := came[at]) is not None:
        (was, name), step = before
        if at[1] and not name:
            source = was
        steps.append(step)
        at = before[0]
    steps.reverse()
    site = sink.site
    what = f"`{sink.param}` of `{site.name}`" if sink.param else f"the arguments of `{site.name}`"
    where = f", in `{sink.inside}`" if sink.inside else ""
    action = state.action if sink.inside else None
    read = Label(source.action.span, "untrusted text comes from here") if source and source.action else None
    return Diagnostic(
        "JAM616",
        f"untrusted text reaches {what}{where}, which nobody approves",
        action.span if action is not None else sink.value.span,
        labels=(read,) if read is not None else (),
        why="who wrote this text could choose what the call does, and it cannot be taken back",
        help=f"ask a person first (`ask … to {site.name}(…)`), or `forbid {site.name} when untrusted(args.…)`",
        path=tuple(steps),
        agent=calls.agent.name,
    )
