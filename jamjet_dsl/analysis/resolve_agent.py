"""The names of one agent: its variables, states and what its actions, rules and checks speak of."""

from __future__ import annotations

from itertools import chain

from jamjet_dsl.analysis import clauses
from jamjet_dsl.analysis.asks import check_options, options_of
from jamjet_dsl.analysis.flow import FlowBuilder, effect_of, offered_tools
from jamjet_dsl.analysis.model import AgentInfo, FlowRegion, FlowState, Symbol
from jamjet_dsl.analysis.names import Names
from jamjet_dsl.analysis.types import BUILTIN_ERRORS, ROOTS
from jamjet_dsl.diagnostics.model import Label
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

RESERVED = frozenset(ROOTS) | {"args"}
"""Names that always mean something in an agent's expressions; no variable may hide them."""


class AgentResolver:
    """Resolves one agent. Making it declares the agent's names, `resolve` then finds their uses."""

    def __init__(self, decl: ast.AgentDecl, names: Names) -> None:
        self.names = names
        self.report = names.report
        self.symbols = names.analysis.symbols
        own = names.scope.names.get(decl.name.text)
        name = own.name if own is not None and own.node is decl else decl.name.text
        self.info = AgentInfo(decl, names.scope.program, name, broken=names.partial)
        self.flow = FlowBuilder(self.info, names.analysis, names.report, names.partial)
        self._members()
        self.flow.states()
        for state in self.info.all_states():
            self._binds(state)

    # ---- declaring

    def _members(self) -> None:
        info, names = self.info, self.names
        for member in info.decl.members:
            match member:
                case ast.InputDecl(params=params):
                    for param in params:
                        self._declare(info.inputs, "input", param.name, param, names.denote(param.type))
                case ast.OutputDecl(params=params):
                    for param in params:
                        self._field(info.outputs, "output", param)
                case ast.VarDecl(name=name, type=type_):
                    self._declare(info.vars, "var", name, member, names.denote(type_))
                case ast.EventDecl(name=name, params=params):
                    self._message(info.events, "event", name, member, params)
                case ast.EmitsDecl(name=name, params=params):
                    self._message(info.emits, "emits", name, member, params)
                case ast.Budget() if info.budget is None:
                    info.budget = member
                case ast.Policy() if info.policy is None:
                    info.policy = member
                case ast.Check():
                    info.checks.append(member)
                case ast.Handler():
                    info.handlers.append(member)
                case ast.Finally() if info.finally_ is None:
                    info.finally_ = member
                case _:
                    pass

    def _declare(self, table: dict[str, Symbol], kind: str, name: ast.Name, node: Node, type_: object) -> None:
        info = self.info
        first = info.inputs.get(name.text) or info.vars.get(name.text)
        if first is not None and first.node is not None:
            self._twice(name, f"`{name.text}` is already {_a(first)} of this agent", first)
            return
        self._check_value_name(name)
        symbol = Symbol(kind, name.text, node, type_)  # type: ignore[arg-type]
        table[name.text] = symbol
        self.symbols[name] = symbol

    def _check_value_name(self, name: ast.Name) -> None:
        """A variable hides neither what the language defines nor a const of the file."""
        if name.text in RESERVED:
            self.report.add(
                "JAM103",
                name.span,
                f"`{name.text}` means something in every expression of an agent",
                help="choose another name",
            )
            return
        outer = self.names.scope.names.get(name.text)
        if outer is not None and outer.kind == "const" and isinstance(outer.node, ast.ConstDecl):
            self.report.add(
                "JAM104",
                name.span,
                f"`{name.text}` hides a const of the same name",
                help="give one of them another name",
                labels=(Label(outer.node.name.span, "the const"),),
            )

    def _field(self, table: dict[str, Symbol], kind: str, param: ast.Param) -> None:
        first = table.get(param.name.text)
        if first is not None:
            self._twice(param.name, f"`{param.name.text}` is already {_a(first)} of this agent", first)
            return
        symbol = Symbol(kind, param.name.text, param, self.names.denote(param.type))
        table[param.name.text] = symbol
        self.symbols[param.name] = symbol

    def _message(
        self, table: dict[str, Symbol], kind: str, name: ast.Name, node: Node, params: tuple[ast.Param, ...]
    ) -> None:
        self.names.params(params, "field")
        first = self.info.events.get(name.text) or self.info.emits.get(name.text)
        if first is not None:
            self._twice(name, f"`{name.text}` is already {_a(first)} of this agent", first)
            return
        table[name.text] = Symbol(kind, name.text, node)
        self.symbols[name] = table[name.text]

    def _twice(self, name: ast.Name, message: str, first: Symbol) -> None:
        assert first.node is not None
        at = getattr(first.node, "name", first.node)
        self.report.add(
            "JAM102",
            name.span,
            message,
            help="give one of them another name",
            labels=(Label(at.span, "the first one"),),
        )

    # ---- what `as` and events bind

    def _binds(self, state: FlowState) -> None:
        info = self.info
        options: tuple[Node, ...] = getattr(state.action, "options", ())
        bind = ast.clause(options, ast.BindOpt)
        if bind is not None:
            self._bind(bind.name)
            if isinstance(state.action, ast.ThinkAction) and ast.clause(options, ast.ToolsOpt) is not None:
                info.moves.setdefault(bind.name.text, []).append(state.action)
            elif isinstance(state.action, ast.AskAction):
                info.answers.setdefault(bind.name.text, []).append(state)
        if isinstance(state.action, ast.EachAction):
            self._bind(state.action.item)
        elif isinstance(state.action, ast.WaitEvent) and state.action.bind is not None:
            self._bind(state.action.bind)
        for clause in state.clauses:
            if isinstance(clause, ast.Branch) and clause.bind is not None:
                self._bind(clause.bind)
            elif isinstance(clause, ast.Edge) and isinstance(clause.trigger, ast.OnEvent) and clause.trigger.bind:
                self._bind(clause.trigger.bind)

    def _bind(self, name: ast.Name) -> None:
        """A name after `as` is a variable: the declared one of this name, or one of its own."""
        if name.text in self.info.inputs:
            first = self.info.inputs[name.text]
            self._twice(name, f"`{name.text}` is an input, and inputs do not change", first)
            return
        symbol = self.info.vars.get(name.text)
        if symbol is None:
            self._check_value_name(name)
            symbol = self.info.vars[name.text] = Symbol("bound", name.text, name)
        symbol.used = True
        self.symbols[name] = symbol

    # ---- uses

    def resolve(self) -> None:
        """Resolves states, edges, rules and checks, and reports what is out of place in them."""
        info, names = self.info, self.names
        clauses.check_agent(info.decl, self.report)
        before = names.missed
        states = info.all_states()
        for state in states:
            self._state(state)
        if info.flow is not None:
            self._handlers(info.flow)
        if info.finally_ is not None:
            clauses.check_finally(info.finally_, self.report)
            for action in ast.clauses(info.finally_.body, ast.CallAction):
                names.use(action.call.tool, "tool")
        if info.policy is not None:
            for rule in info.policy.rules:
                self._rule(rule)
        for check in info.checks:
            self._check(check.property)
        for migration in ast.clauses(info.decl.members, ast.Migration):
            for moved in migration.states:
                self._state_name(moved.new)
        if names.missed > before:
            info.broken = True
        self.flow.edges()

    def _state(self, state: FlowState) -> None:
        if state.final:
            return
        where = f"state `{state.name}`" if state.decl in self.names.analysis.flow_of else "this body"
        parallel = isinstance(state.decl, ast.ParallelDecl)
        clauses.check_state(state.clauses, self.report, where, state.region.kind != "agent", parallel)
        if not parallel:
            check_options(state, self.report)
        for clause in state.clauses:
            match clause:
                case ast.Action():
                    self._action(clause)
                case ast.Branch(body=body):
                    clauses.check_body(body, self.report)
                case ast.SetClause():
                    self._set(clause)
                case ast.Edge(trigger=trigger, sets=sets):
                    self._trigger(trigger)
                    for part in sets:
                        self._set(part)
                case _:
                    pass

    def _action(self, action: ast.Action) -> None:
        names, info = self.names, self.info
        match action:
            case ast.CallAction(call=call):
                names.use(call.tool, "tool")
            case ast.CallWithAction(tool=tool):
                names.use(tool, "tool")
            case ast.CallProposedAction(move=move):
                self._move(move)
            case ast.CallApprovedAction(name=name):
                self._granted(name)
            case ast.ThinkAction(chat=chat):
                if chat is not None:
                    self._variable(chat)
            case ast.AskAction(call=call, proposed=proposed):
                if call is not None:
                    names.use(call.tool, "tool")
                if proposed is not None:
                    self._move(proposed)
            case ast.RunAction(call=call):
                names.use(call.tool, "agent")
            case ast.EachAction(body=body):
                clauses.check_body(body, self.report)
            case ast.WaitEvent(event=event):
                self._event(event)
            case ast.EmitAction(call=call):
                self._member(call.tool, info.emits, "message", "declare it: `emits {}(…)`")
            case _:
                pass
        for option in getattr(action, "options", ()):
            match option:
                case ast.ToolsOpt(tools=tools):
                    for tool in tools:
                        names.use(tool, "tool")
                case ast.ModelOpt(model=model):
                    self._model(model)
                case ast.RetryClause(errors=errors):
                    self._errors(errors)
                case _:
                    pass

    def _model(self, name: ast.Name) -> None:
        """A model need not be declared: `jam.toml` may bind it. Another kind of thing is no model."""
        symbol = self.names.find(name.text)
        if symbol is None:
            self.symbols[name] = Symbol("model", name.text, None)
        else:
            self.names.use(name, "model")

    def _granted(self, name: ast.Name) -> None:
        """`call approved NAME`: a tool, or the name of an ask's answer; its question must offer a call."""
        asks = self.info.answers.get(name.text)
        if asks is not None:
            self.symbols[name] = self.info.vars[name.text]
            self.info.vars[name.text].used = True
            if not any(offered_tools(ask.action, self.info) for ask in asks):
                self._not_offered(name, f"the question that `{name.text}` answers offers no call")
            return
        symbol = self.names.scope.names.get(name.text)
        if symbol is not None:
            tool = self.names.use(name, "tool")
            # of an irreversible call without a question JAM601 and JAM617 have more to say
            if tool is not None and isinstance(tool.node, ast.ToolDecl) and effect_of(tool.node) != "irreversible":
                offered = (n.text for s in self.info.all_states() for n in offered_tools(s.action, self.info))
                if name.text not in offered:
                    self._not_offered(name, f"no question of this agent offers `{name.text}`")
            return
        known = chain(self.names.all_of("tool"), self.info.answers)
        self.names.unknown(name.span, name.text, "tool or answer of an ask", known)

    def _not_offered(self, name: ast.Name, message: str) -> None:
        self.names.missed += 1  # what the checks would say of a call without an approval is a consequence
        self.report.add(
            "JAM401",
            name.span,
            message,
            help='offer one: `ask role "…" to T(…) "…?"`',
            why="an approved call is exactly the call that a person was shown",
        )

    def _move(self, name: ast.Name) -> None:
        if name.text in self.info.moves:
            self.symbols[name] = self.info.vars[name.text]
            self.info.vars[name.text].used = True
            return
        if name.text in self.info.vars:
            self.report.add(
                "JAM401",
                name.span,
                f"`{name.text}` holds no proposed call",
                help="name what a `think` with `tools` binds",
            )
            return
        hint = 'bind one: `think "…" tools A, B as move`'
        self.names.unknown(name.span, name.text, "proposed call", self.info.moves, hint)

    def _variable(self, name: ast.Name) -> Symbol | None:
        symbol = self.info.vars.get(name.text)
        if symbol is not None:
            self.symbols[name] = symbol
            symbol.used = True
            return symbol
        if name.text in self.info.inputs:
            self.report.add("JAM101", name.span, f"`{name.text}` is an input, and inputs do not change")
            return None
        hint = f"declare it: `var {name.text}: …`"
        self.names.unknown(name.span, name.text, "variable", self.info.vars, hint)
        return None

    def _set(self, node: ast.SetClause) -> None:
        name = node.path.names[0]
        symbol = self.info.vars.get(name.text)
        if symbol is not None:
            self.symbols[name] = symbol
            symbol.used = True
        else:
            self._variable(name)

    def _event(self, name: ast.Name) -> None:
        self._member(name, self.info.events, "event", "declare it: `event {}(…)`")

    def _member(self, name: ast.Name, table: dict[str, Symbol], what: str, hint: str) -> None:
        symbol = table.get(name.text)
        if symbol is not None:
            symbol.used = True
            self.symbols[name] = symbol
            return
        self.names.unknown(name.span, name.text, what, table, hint.format(name.text))

    def _trigger(self, trigger: ast.Trigger) -> None:
        match trigger:
            case ast.OnError(errors=errors):
                self._errors(errors)
            case ast.OnEvent(event=event):
                self._event(event)
            case ast.OnOption(option=option):
                self.symbols[option] = Symbol("option", option.text, None)
            case _:
                pass

    def _errors(self, errors: tuple[ast.Name, ...]) -> None:
        for name in errors:
            symbol = self.error(self.names, name.text)
            if symbol is not None:
                self.symbols[name] = symbol
            else:
                hint = "it is neither an error of the language nor raised by a tool of this file"
                self.names.unknown(name.span, name.text, "error", self.names.errors, hint)

    @staticmethod
    def error(names: Names, text: str) -> Symbol | None:
        """The error of a name: one of the language, or one that a tool in sight raises."""
        if not names.errors:
            known = {e: Symbol("error", e, None) for e in BUILTIN_ERRORS}
            for symbol in names.scope.names.values():
                if isinstance(symbol.node, ast.ToolDecl):
                    for clause in ast.clauses(symbol.node.clauses, ast.RaisesClause):
                        for name in clause.errors:
                            known.setdefault(name.text, Symbol("error", name.text, name))
            names.errors.update(known)
        return names.errors.get(text)

    def _handlers(self, region: FlowRegion) -> None:
        allowed = (ast.OnError, ast.OnDenied, ast.OnCancel, ast.OnInDoubt, ast.OnTimeout)
        for handler in self.info.handlers:
            self._trigger(handler.trigger)
            if not isinstance(handler.trigger, allowed):
                self.report.add(
                    "JAM001",
                    handler.span,
                    "this trigger stands in a state, not beside the states",
                    help="an agent handles error, denied, in_doubt, timeout and cancel",
                )

    # ---- rules and checks

    def tool_set(self, tools: ast.ToolSet) -> None:
        """Resolves the tools of a rule."""
        for name in tools.names:
            self.names.use(name, "tool")

    def _rule(self, rule: Node) -> None:
        for field in rule.__match_args__:
            value = getattr(rule, field)
            if isinstance(value, ast.ToolSet):
                self.tool_set(value)
            elif isinstance(value, ast.ToolCall):
                self.names.use(value.tool, "tool")
        match rule:
            case ast.LimitRule(limits=limits):
                for limit in limits:
                    self.tool_set(limit.tools)
            case ast.RequireAskRule(ask=ask):
                self._ask_name(ask)
            case ast.RequirePeopleRule(excluding=excluding) if excluding is not None:
                if excluding.text != "principal":
                    self.names.unknown(excluding.span, excluding.text, "person", ["principal"])
            case _:
                pass

    def _state_name(self, name: ast.Name) -> FlowState | None:
        state = self.flow.by_name.get(name.text)
        if state is None:
            self.names.unknown(name.span, name.text, "state", self.flow.by_name)
            return None
        self.symbols[name] = self.flow.symbols[name.text]
        return state

    def _ask_name(self, name: ast.Name) -> FlowState | None:
        state = self.flow.by_name.get(name.text)
        if state is not None and not isinstance(state.action, ast.AskAction):
            self.report.add(
                "JAM101",
                name.span,
                f"`{name.text}` asks nobody",
                help="name a state with an `ask`",
                labels=(Label(state.span, "this state"),),
            )
            return None
        return self._state_name(name)

    def _check(self, prop: ast.Property) -> None:
        match prop:
            case ast.EveryPathPasses(state=name, passes=passes):
                self._state_name(name)
                for each in passes:
                    self._state_name(each)
            case ast.NeverUnless(tool=tool, ask=ask, option=option):
                self.names.use(tool, "tool")
                state = self._ask_name(ask)
                if state is not None and isinstance(state.action, ast.AskAction):
                    self._option_name(option, state.action)
            case ast.NoPathCalls(tool=tool):
                self.names.use(tool, "tool")
            case _:
                pass

    def _option_name(self, name: ast.Name, action: ast.AskAction) -> None:
        known = [n for n, _ in options_of(action)]
        if name.text in known:
            self.symbols[name] = Symbol("option", name.text, None)
        else:
            self.names.unknown(name.span, name.text, "option", known)


def _a(symbol: Symbol) -> str:
    return {
        "input": "an input",
        "output": "an output",
        "var": "a variable",
        "event": "an event",
        "emits": "a message",
    }[symbol.kind]
