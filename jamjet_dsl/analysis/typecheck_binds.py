"""The types of names that an agent binds: what `as`, events, items and branches leave in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from jamjet_dsl.analysis.flow import tools_of
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowRegion, FlowState, Symbol, Type
from jamjet_dsl.analysis.report import Report
from jamjet_dsl.analysis.typecheck_expr import ExprChecker
from jamjet_dsl.analysis.types import ANY, ERROR, MOVE, STRING, TIMESTAMP, join, list_of, show
from jamjet_dsl.diagnostics.model import Label
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

Source: TypeAlias = Callable[[], Type | None]


class Bind(NamedTuple):
    """One place that binds a name: `source` gives the type of what it leaves there, None for nothing."""

    name: ast.Name
    symbol: Symbol
    source: Source
    declared: ast.TypeExpr | None
    what: str


class Binds:
    """Finds the types of the bound names of one agent, each when it is first needed."""

    def __init__(self, info: AgentInfo, exprs: ExprChecker) -> None:
        self.info = info
        self.exprs = exprs
        self.analysis: Analysis = exprs.names.analysis
        self.all: list[Bind] = []
        self._first: dict[Symbol, Bind] = {}
        self._open: set[Symbol] = set()

    def collect(self) -> None:
        """Goes through the states and remembers what each of them binds."""
        for state in self.info.all_states():
            for bind in self._of(state):
                self.all.append(bind)
                self._first.setdefault(bind.symbol, bind)

    def complete(self, symbol: Symbol) -> Type:
        """The type of a bound name, found quietly: what is wrong there is reported when its state is checked."""
        bind = self._first.get(symbol)
        if bind is None or symbol in self._open:
            return ERROR
        self._open.add(symbol)
        symbol.type = self._quietly(bind)
        self._open.discard(symbol)
        return symbol.type

    def _quietly(self, bind: Bind) -> Type:
        if bind.declared is not None:
            return self.exprs.types_of(bind.declared)
        exprs = self.exprs
        kept = (exprs.report, exprs.names.report, exprs.locals, exprs.present)
        exprs.report = exprs.names.report = Report()
        exprs.locals, exprs.present = {}, frozenset()
        missed = exprs.names.missed
        found = bind.source()
        exprs.report, exprs.names.report, exprs.locals, exprs.present = kept
        exprs.names.missed = missed
        return found if found is not None else ERROR

    def check(self) -> None:
        """Compares all places that bind one name, and the name's declaration."""
        for bind in self.all:
            expected = bind.symbol.type if bind.symbol.type is not None else self.complete(bind.symbol)
            found = self._quietly(bind) if bind.source() is not None else None
            if found is None:
                self.exprs.problem(
                    "JAM401", bind.name, f"{bind.what} leaves nothing to bind", help=f"remove `as {bind.name.text}`"
                )
            elif not self.exprs.fits(found, expected):
                first = bind.symbol.node
                at = getattr(first, "name", first) if first is not None else None
                self.exprs.report.add(
                    "JAM401",
                    bind.name.span,
                    f"`{bind.name.text}` is `{show(expected)}`, and here it would be `{show(found)}`",
                    help="give one of them another name",
                    labels=(Label(at.span, "it gets its type here"),) if at is not None and at is not bind.name else (),
                )

    # ---- what is bound where

    def _of(self, state: FlowState) -> Iterator[Bind]:
        symbols = self.analysis.symbols
        action = state.action
        options: tuple[Node, ...] = getattr(action, "options", ())
        bind = ast.clause(options, ast.BindOpt)
        if bind is not None and bind.name in symbols:
            yield Bind(bind.name, symbols[bind.name], lambda: self.result(state), bind.type, _what(action))
        if isinstance(action, ast.EachAction) and action.item in symbols:
            each = action
            yield Bind(action.item, symbols[action.item], lambda: self.item(each), None, "the list")
        if isinstance(action, ast.WaitEvent) and action.bind is not None and action.bind in symbols:
            yield Bind(action.bind, symbols[action.bind], _late(self.payload, action.event), None, "the event")
        bodies = {b.name: b for b in state.bodies}
        for clause in state.clauses:
            match clause:
                case ast.Edge(trigger=ast.OnEvent(event=event, bind=name)) if name is not None and name in symbols:
                    yield Bind(name, symbols[name], _late(self.payload, event), None, "the event")
                case ast.Branch(bind=name) if name is not None and name in symbols:
                    body = bodies.get(clause.name.text)
                    if body is not None:
                        yield Bind(name, symbols[name], _branch(self, clause, body), None, "the branch")

    def payload(self, event: ast.Name) -> Type:
        """What an event carries."""
        symbol = self.info.events.get(event.text)
        if symbol is None or not isinstance(symbol.node, ast.EventDecl):
            return ERROR
        return self._object(symbol.node.params)

    def _object(self, params: tuple[ast.Param, ...]) -> Type:
        return Type("object", fields=tuple((p.name.text, self.exprs.types_of(p.type)) for p in params))

    def item(self, action: ast.EachAction) -> Type:
        """What an `each` goes through, one at a time."""
        source = self.exprs.value(action.source)
        inner = source.args[0] if source.kind == "secret" else source
        return inner.args[0] if inner.kind == "list" else ERROR if inner.kind != "any" else ANY

    def result(self, state: FlowState) -> Type | None:
        """What the action of a state leaves when it succeeds."""
        match state.action:
            case ast.CallAction() | ast.CallWithAction() | ast.CallProposedAction() | ast.CallApprovedAction():
                return self._called(state)
            case ast.ThinkAction(options=options):
                return self._thought(options)
            case ast.AskAction(options=options):
                form = ast.clause(options, ast.AnswerOpt)
                fields = (("option", STRING), ("by", STRING), ("at", TIMESTAMP))
                extra = self._object(form.fields).fields if form is not None else ()
                return Type("object", fields=fields + extra)
            case ast.RunAction(call=call):
                symbol = self.analysis.symbols.get(call.tool)
                if symbol is None or not isinstance(symbol.node, ast.AgentDecl):
                    return ERROR
                outputs = ast.clauses(symbol.node.members, ast.OutputDecl)
                return self._object(tuple(p for o in outputs for p in o.params))
            case ast.EachAction(flat=flat):
                value = self.body_value(state.bodies[0]) if state.bodies else None
                if value is None or value.kind == "error":
                    return value
                if flat:
                    return list_of(value.args[0]) if value.kind == "list" else ERROR
                return list_of(value)
            case ast.WaitEvent(event=event):
                return self.payload(event)
            case _:
                return None

    def _called(self, state: FlowState) -> Type | None:
        tools = tools_of(state.action, self.info, self.analysis)
        results = [self.exprs.types_of(t.result) for t in tools if t.result is not None]
        if not tools:
            return ERROR
        if not results:
            return None
        if len(tools) > len(results):
            return ANY
        found: Type | None = results[0]
        for other in results[1:]:
            found = join(found, other) if found is not None else None
        return found if found is not None else ANY

    def _thought(self, options: tuple[Node, ...]) -> Type:
        bind = ast.clause(options, ast.BindOpt)
        if bind is not None and bind.type is not None:
            return self.exprs.types_of(bind.type)
        if ast.clause(options, ast.ToolsOpt) is not None:
            return MOVE
        symbol = self.info.vars.get(bind.name.text) if bind is not None else None
        return symbol.type if symbol is not None and symbol.kind == "var" and symbol.type is not None else STRING

    # ---- values of bodies

    def body_value(self, region: FlowRegion) -> Type | None:
        """The value of an item or a branch: what its ends yield, or the result of its one action."""
        found: Type | None = None
        for end in self._ends(region):
            if end is None:
                continue
            found = end if found is None else join(found, end) or found
        return found

    def _ends(self, region: FlowRegion) -> Iterator[Type | None]:
        for state in region.states.values():
            clause = ast.clause(state.clauses, ast.YieldsClause)
            if clause is not None:
                yield self.exprs.infer(clause.value)
            elif isinstance(state.decl, ast.Branch | ast.EachAction) and not _goes_on(state):
                yield self.result(state)
            yield from self._yielded(state)
            if isinstance(state.decl, ast.FinalDecl) and state.decl.assigns and not state.failed:
                fields = tuple((a.name.text, self.exprs.infer(a.value)) for a in state.decl.assigns)
                yield Type("object", fields=fields)

    def _yielded(self, state: FlowState) -> Iterator[Type]:
        """What the edges of a state yield, knowing what their guards made sure of."""
        exprs = self.exprs
        before = known = exprs.present
        for edge in ast.clauses(state.clauses, ast.Edge):
            taken = known
            if isinstance(edge.trigger, ast.When):
                facts = exprs.narrowing.facts(edge.trigger.condition)
                taken, known = known | facts.true, known | facts.false
            if edge.yields is not None:
                exprs.present = taken
                found = exprs.infer(edge.yields)
                exprs.present = before
                yield found


def _goes_on(state: FlowState) -> bool:
    """Whether an edge is taken once the action succeeded: then that edge says what the item is worth."""
    edges = ast.clauses(state.clauses, ast.Edge)
    return any(isinstance(e.trigger, ast.When | ast.Otherwise | ast.Always) for e in edges)


def _late(function: Callable[[ast.Name], Type], name: ast.Name) -> Source:
    return lambda: function(name)


def _branch(binds: Binds, branch: ast.Branch, body: FlowRegion) -> Source:
    """A branch's value. Where the join may go on without this branch and nothing stands for it, the name has no
    value then, which is JAM414's business and not part of its type."""

    def source() -> Type | None:
        value = binds.body_value(body)
        if value is None:
            return None
        if branch.default is not None:
            return join(value, binds.exprs.infer(branch.default, value)) or value
        return value

    return source


def _what(action: ast.Action | None) -> str:
    match action:
        case ast.CallAction(call=call):
            return f"`{call.tool.text}`"
        case ast.CallWithAction(tool=tool):
            return f"`{tool.text}`"
        case ast.EachAction():
            return "the body of this `each`"
        case _:
            return "this action"
