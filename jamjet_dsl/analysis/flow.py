"""One graph per agent: its regions, states and every way between them, written or implied.

An edge that is implied (a handler of the agent, the budget's `exceeded`) is added only where something can
take it, so a path in this graph is one that a run might go, and no run goes a way that is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowEdge, FlowRegion, FlowState, Symbol
from jamjet_dsl.analysis.report import Report
from jamjet_dsl.analysis.types import BUILTIN_ERRORS, INDEFINITE_ERRORS
from jamjet_dsl.diagnostics.model import Label
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

ANONYMOUS = "do"
"""The name of the one state of a body that is written as plain clauses."""

_NEVER_SENT = frozenset({"RateLimited", "Unavailable", "InvalidInput"})
_OF_CALLS = frozenset(BUILTIN_ERRORS) - {"JoinFailed", "ChildFailed"}
_TRIGGERS: dict[type[ast.Trigger], str] = {
    ast.Always: "always",
    ast.When: "when",
    ast.Otherwise: "otherwise",
    ast.OnError: "on error",
    ast.OnTimeout: "on timeout",
    ast.OnDenied: "on denied",
    ast.OnInDoubt: "on in_doubt",
    ast.OnJoin: "on join",
    ast.OnCancel: "on cancel",
}


def trigger_text(trigger: ast.Trigger) -> str:
    """What an edge waits for, as its identity says it: `when`, `on error`, `on approve`, `on event said`."""
    match trigger:
        case ast.OnOption(option=option):
            return f"on {option.text}"
        case ast.OnEvent(event=event):
            return f"on event {event.text}"
        case _:
            return _TRIGGERS[type(trigger)]


def edge_ids(clauses: Iterable[Node]) -> Iterator[tuple[ast.Edge, str]]:
    """The written edges of a state with their identities: trigger and ordinal among the edges of that trigger."""
    seen: dict[str, int] = {}
    for node in clauses:
        if isinstance(node, ast.Edge):
            text = trigger_text(node.trigger)
            at = seen[text] = seen.get(text, -1) + 1
            yield node, f"{text}#{at}"


# ---- what an action can meet


def tools_of(action: ast.Action | None, info: AgentInfo, analysis: Analysis) -> list[ast.ToolDecl]:
    """The tools that an action may call: one, or the closed set of a proposed or approved call."""
    names: list[ast.Name]
    match action:
        case ast.CallAction(call=call):
            names = [call.tool]
        case ast.CallWithAction(tool=tool):
            names = [tool]
        case ast.CallProposedAction(move=move):
            names = proposed_tools(move.text, info)
        case ast.CallApprovedAction(name=name):
            symbol = analysis.symbols.get(name)
            if symbol is not None and symbol.kind == "tool":
                names = [name]
            else:
                names = [n for ask in info.answers.get(name.text, ()) for n in offered_tools(ask.action, info)]
        case _:
            return []
    found: dict[str, ast.ToolDecl] = {}
    for name in names:
        symbol = analysis.symbols.get(name)
        if symbol is not None and isinstance(symbol.node, ast.ToolDecl):
            found[symbol.name] = symbol.node
    return list(found.values())


def proposed_tools(move: str, info: AgentInfo) -> list[ast.Name]:
    """The tools out of which the call in a `Move` variable was chosen."""
    return [n for think in info.moves.get(move, ()) for o in ast.clauses(think.options, ast.ToolsOpt) for n in o.tools]


def offered_tools(action: ast.Action | None, info: AgentInfo) -> list[ast.Name]:
    """The tools whose call an ask may grant."""
    if not isinstance(action, ast.AskAction):
        return []
    if action.call is not None:
        return [action.call.tool]
    return proposed_tools(action.proposed.text, info) if action.proposed is not None else []


def effect_of(tool: ast.ToolDecl) -> str:
    """The declared effect; a tool that declares none is taken for the worst."""
    clause = ast.clause(tool.clauses, ast.EffectClause)
    return clause.effect.text if clause is not None else "irreversible"


def raised_errors(state: FlowState, info: AgentInfo, analysis: Analysis) -> frozenset[str]:
    """The errors that an action can raise to an `on error` of its state.

    Indefinite errors of calls that write are not among them: they go to `on in_doubt`. Only where a `confirm` may
    tell that the call did not happen are they ordinary errors in the end: without that edge a proof would be none.
    """
    if state.bodies and isinstance(state.decl, ast.ParallelDecl):
        return frozenset({"JoinFailed"})
    match state.action:
        case ast.CallAction() | ast.CallWithAction() | ast.CallProposedAction() | ast.CallApprovedAction():
            errors: set[str] = set()
            for tool in tools_of(state.action, info, analysis):
                errors |= _OF_CALLS if effect_of(tool) == "reads" else _NEVER_SENT
                if ast.clause(tool.clauses, ast.ConfirmClause) is not None:
                    errors |= INDEFINITE_ERRORS
                errors.update(n.text for c in ast.clauses(tool.clauses, ast.RaisesClause) for n in c.errors)
            return frozenset(errors) or _OF_CALLS
        case ast.ThinkAction():
            return _OF_CALLS
        case ast.RunAction():
            return frozenset({"ChildFailed", "InvalidInput", "Timeout"})
        case ast.AskAction(call=call, proposed=proposed):
            return _unanswered(state) | ({"InvalidInput"} if call is not None or proposed is not None else set())
        case ast.WaitEvent() | ast.WaitUntil():
            return _unanswered(state)
        case ast.EachAction(options=options):
            late = {"Timeout"} if ast.clause(options, ast.TimeoutClause) is not None else set()
            return _raised_in(state.bodies, info, analysis) | late
        case _:
            return frozenset()


def _unanswered(state: FlowState) -> frozenset[str]:
    """A timeout without an `on timeout` is an error like any other."""
    own = any(isinstance(e.trigger, ast.OnTimeout) for e in ast.clauses(state.clauses, ast.Edge))
    return frozenset({"Timeout"}) if can_time_out(state) and not own else frozenset()


_TOTAL_OPERATORS = frozenset({"&&", "||", "==", "!=", "<", "<=", ">", ">=", "in"})


def may_fault(state: FlowState) -> bool:
    """Whether an expression that a state evaluates around its action may fail at run time: what fails there goes to
    `on error any`, of the state or of the agent. A `set` also fails where its value leaves a declared range."""
    todo: list[Node] = []
    for clause in state.clauses:
        match clause:
            case ast.SetClause(value=value):
                todo.append(value)
            case ast.Edge(trigger=trigger, sets=sets):
                todo.extend(part.value for part in sets)
                if isinstance(trigger, ast.When):
                    todo.append(trigger.condition)
            case ast.EmitAction(call=call):
                todo.extend(arg.value for arg in call.args)
            case ast.WaitUntil(until=until):
                todo.append(until)
            case _:
                pass
    while todo:
        match todo.pop():
            case ast.Lit() | ast.Ident() | ast.FnCall(function=ast.Name(text="has")):
                pass
            case ast.Select(operand=operand) | ast.Unary(op="!", operand=operand):
                todo.append(operand)
            case ast.Binary(op=op, left=left, right=right) if op in _TOTAL_OPERATORS:
                todo += (left, right)
            case ast.Cond(test=test, then=then, other=other):
                todo += (test, then, other)
            case ast.MethodCall(operand=operand, method=ast.Name(text="exists" | "all"), args=args):
                todo += (operand, *args[1:])
            case _:
                return True
    return False


def _raised_in(bodies: list[FlowRegion], info: AgentInfo, analysis: Analysis) -> frozenset[str]:
    """What the states of a body raise and do not handle: the item fails with it, and the `each` raises it."""
    errors: set[str] = set()
    for body in bodies:
        for inner in body.states.values():
            if inner.failed:
                errors.add("ChildFailed")
            errors |= raised_errors(inner, info, analysis) - _handled(inner)
    return frozenset(errors)


def _handled(state: FlowState) -> frozenset[str]:
    names: set[str] = set()
    for edge in ast.clauses(state.clauses, ast.Edge):
        if isinstance(edge.trigger, ast.OnError):
            if edge.trigger.any:
                names.update(BUILTIN_ERRORS)
            names.update(n.text for n in edge.trigger.errors)
    return frozenset(names)


def can_be_denied(state: FlowState) -> bool:
    """Whether the policy decides a call that the state makes or offers; without a policy all calls are denied."""
    match state.action:
        case ast.CallAction() | ast.CallWithAction() | ast.CallProposedAction() | ast.CallApprovedAction():
            return True
        case ast.AskAction(call=call, proposed=proposed):
            return call is not None or proposed is not None
        case _:
            return False


def can_be_in_doubt(state: FlowState, info: AgentInfo, analysis: Analysis) -> bool:
    """Whether a call of the state may end without anybody knowing whether it happened."""
    return any(effect_of(tool) != "reads" for tool in tools_of(state.action, info, analysis))


def can_time_out(state: FlowState) -> bool:
    """Whether an `on timeout` edge of the state can be taken."""
    return isinstance(state.action, ast.AskAction | ast.WaitEvent | ast.WaitUntil) and (
        ast.clause(state.action.options, ast.TimeoutClause) is not None
    )


def is_metered(state: FlowState, kinds: set[str], info: AgentInfo, analysis: Analysis) -> bool:
    """Whether entering the state's action can exceed a budget that limits `kinds`."""
    if isinstance(state.decl, ast.ParallelDecl):
        return True
    match state.action:
        case None | ast.UndoAllAction():
            return False
        case ast.ThinkAction() | ast.RunAction() | ast.EachAction():
            return True
        case action if kinds & {"steps", "time", "active"}:
            return True
        case action:
            tools = tools_of(action, info, analysis) if "cost" in kinds else []
            return any(ast.clause(tool.clauses, ast.CostClause) is not None for tool in tools)


# ---- building


class FlowBuilder:
    """Builds the graph of one agent in two passes: all states, then all edges.

    `partial` says that the file has syntax errors: nothing is said about states that are not there.
    """

    def __init__(self, info: AgentInfo, analysis: Analysis, report: Report, partial: bool) -> None:
        self.info = info
        self.partial = partial
        self.analysis = analysis
        self.report = report
        self.by_name: dict[str, FlowState] = {}
        self.symbols: dict[str, Symbol] = {}
        self.exceeded: ast.ExceededClause | None = None

    def states(self) -> FlowRegion:
        """First pass: regions and states, those with the same name reported."""
        region = FlowRegion("agent", self.info.name, None)
        self._fill(region, self.info.decl.members, "", self.info.decl)
        self.info.flow = region
        return region

    def _fill(self, region: FlowRegion, nodes: tuple[Node, ...], prefix: str, anchor: Node) -> None:
        """The states of a region; `anchor` is what holds them: the agent, the branch or the `each`."""
        kinds = (ast.StateDecl, ast.ParallelDecl, ast.FinalDecl)
        decls = [n for n in nodes if isinstance(n, kinds)]
        if region.kind != "agent" and not decls:
            action = next((n for n in nodes if isinstance(n, ast.Action)), None)
            state = FlowState(ANONYMOUS, f"{prefix}{ANONYMOUS}", anchor, region, action, nodes)
            region.states[ANONYMOUS] = region.start = state
            self._bodies(state)
            return
        for decl in decls:
            self._declare(region, decl, prefix)
        if region.start is None and region.kind != "agent":
            region.start = next(iter(region.states.values()), None)

    def _declare(self, region: FlowRegion, decl: Node, prefix: str) -> None:
        assert isinstance(decl, ast.StateDecl | ast.ParallelDecl | ast.FinalDecl)
        name = decl.name.text
        if name in self.by_name:
            first = self.by_name[name]
            self.info.broken = True
            self.report.add(
                "JAM102",
                decl.name.span,
                f"`{name}` is already a state of this agent",
                help="give one of them another name",
                why="edges, checks and tests find a state by its name, in branches and items too",
                labels=(Label(first.span, "the first one"),),
            )
            return
        clauses: tuple[Node, ...] = ()
        action = None
        if isinstance(decl, ast.StateDecl):
            clauses = decl.clauses
            action = next((n for n in clauses if isinstance(n, ast.Action)), None)
        elif isinstance(decl, ast.ParallelDecl):
            clauses = decl.members
        final = isinstance(decl, ast.FinalDecl)
        failed = isinstance(decl, ast.FinalDecl) and decl.failed
        state = FlowState(name, prefix + name, decl, region, action, clauses, final, failed)
        region.states[name] = self.by_name[name] = state
        self.analysis.flow_of[decl] = state
        self.symbols[name] = Symbol("state", name, decl)
        if region.start is None and not isinstance(decl, ast.FinalDecl) and decl.start:
            region.start = state
        self._bodies(state)

    def _bodies(self, state: FlowState) -> None:
        if isinstance(state.decl, ast.Branch | ast.EachAction):
            self.analysis.flow_of.setdefault(state.decl, state)
        if isinstance(state.decl, ast.ParallelDecl):
            taken: set[str] = set()
            for branch in ast.clauses(state.decl.members, ast.Branch):
                if branch.name.text in taken:
                    self.report.add(
                        "JAM102", branch.name.span, f"`{branch.name.text}` is already a branch of `{state.name}`"
                    )
                    self.info.broken = True
                    continue
                taken.add(branch.name.text)
                body = FlowRegion("branch", branch.name.text, state)
                state.bodies.append(body)
                self._fill(body, branch.body, f"{state.path}/{branch.name.text}/", branch)
                if body.start is not None:
                    self.analysis.flow_of.setdefault(branch, body.start)
        elif isinstance(state.action, ast.EachAction):
            body = FlowRegion("each", "each", state)
            state.bodies.append(body)
            self._fill(body, state.action.body, f"{state.path}/each/", state.action)
            if body.start is not None:
                self.analysis.flow_of.setdefault(state.action, body.start)

    # ---- edges

    def edges(self) -> None:
        """Second pass, after the names of tools are resolved: every edge."""
        info = self.info
        if info.budget is not None:
            self.exceeded = ast.clause(info.budget.items, ast.ExceededClause)
        assert info.flow is not None
        exceeded = self.target(self.exceeded.target, info.flow) if self.exceeded else None
        kinds = {n.kind for n in info.budget.items if isinstance(n, ast.BudgetLimit)} if info.budget else set()
        handlers = [(h, self.target(h.target, info.flow)) for h in info.handlers]
        ids = _handler_ids(info.handlers)
        for state in info.all_states():
            self._written(state, exceeded)
            if state.final or state.region is not info.flow:
                continue
            for handler, target in handlers:
                if target is not None and self._applies(handler, state):
                    self._link(state, target, handler, handler.trigger, "handler", ids[handler])
            if exceeded is not None and exceeded is not state and is_metered(state, kinds, info, self.analysis):
                assert self.exceeded is not None
                self._link(state, exceeded, self.exceeded, None, "exceeded", "exceeded")

    def _written(self, state: FlowState, exceeded: FlowState | None) -> None:
        for edge, id_ in edge_ids(state.clauses):
            target = self.target(edge.target, state.region) if edge.target is not None else None
            if edge.target is None or target is not None:
                self._link(state, target, edge, edge.trigger, "edge", id_)
            if edge.limit is None:
                continue
            if edge.limit_else is not None:
                other = self.target(edge.limit_else, state.region)
            else:
                other = exceeded
            if other is not None:
                self._link(state, other, edge, edge.trigger, "else", id_ + "!")

    def _link(
        self,
        source: FlowState,
        target: FlowState | None,
        node: Node,
        trigger: ast.Trigger | None,
        origin: str,
        id_: str,
    ) -> None:
        edge = FlowEdge(source, target, node, trigger, origin, id_)
        source.out.append(edge)
        if target is not None:
            target.into.append(edge)

    def target(self, name: ast.Name, region: FlowRegion) -> FlowState | None:
        """The state that a name in an edge of a region means; reported where there is none."""
        found = region.states.get(name.text)
        if found is not None and name.text in self.symbols:
            self.analysis.symbols[name] = self.symbols[name.text]
            return found
        self.info.broken = True
        if self.partial:  # the state may be what could not be read
            return None
        other = self.by_name.get(name.text)
        if other is not None:
            where = "of this agent" if other.region.kind == "agent" else f"inside `{_place(other.region)}`"
            self.report.add(
                "JAM207",
                name.span,
                f"`{name.text}` is a state {where}, and an edge cannot go there from here",
                help="end the branch or item instead: `skip`, `yields`, or a final of its own"
                if region.kind != "agent"
                else "go to the state that holds it",
                why="a branch or an item has states of its own, and only its end leads out of it",
                labels=(Label(other.span, "this state"),),
            )
            return None
        known = (s for s in region.states if s in self.symbols)
        self.report.add(
            "JAM101",
            name.span,
            f"there is no state `{name.text}`" + ("" if region.kind == "agent" else f" in `{_place(region)}`"),
            help=self.report.meant(name.text, known, f"declare it: `state {name.text} {{ … }}`"),
        )
        return None

    def _applies(self, handler: ast.Handler, state: FlowState) -> bool:
        """Whether a handler of the agent catches something that happens in a state and that it does not handle."""
        own = [e.trigger for e in ast.clauses(state.clauses, ast.Edge)]
        match handler.trigger:
            case ast.OnError(errors=errors, any=any_):
                left = raised_errors(state, self.info, self.analysis) - _handled(state)
                if any(isinstance(t, ast.OnError) and t.any for t in own) or handler.target.text == state.name:
                    return False  # a state that handles errors for all others parks when it fails itself
                return bool(left) or may_fault(state) if any_ else not left.isdisjoint(n.text for n in errors)
            case ast.OnDenied():
                found = can_be_denied(state)
            case ast.OnInDoubt():
                found = can_be_in_doubt(state, self.info, self.analysis)
            case ast.OnTimeout():
                found = can_time_out(state)
            case _:  # a run is cancelled once, so not again on the way that this leads to
                return handler.target.text != state.name and (state.action is not None or bool(state.bodies))
        return found and not any(type(t) is type(handler.trigger) for t in own)


def _place(region: FlowRegion) -> str:
    assert region.owner is not None
    return region.owner.name if region.kind == "each" else region.name


def _handler_ids(handlers: list[ast.Handler]) -> dict[Node, str]:
    seen: dict[str, int] = {}
    ids: dict[Node, str] = {}
    for handler in handlers:
        text = trigger_text(handler.trigger).removeprefix("on ")
        at = seen[text] = seen.get(text, -1) + 1
        ids[handler] = f"handler:{text}#{at}"
    return ids
