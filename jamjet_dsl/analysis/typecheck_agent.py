"""Types in one agent: its actions, guards, assignments and ends."""

from __future__ import annotations

from itertools import chain

from jamjet_dsl.analysis.enforceable import unenforceable
from jamjet_dsl.analysis.flow import tools_of
from jamjet_dsl.analysis.model import AgentInfo, FlowState, Symbol, Type
from jamjet_dsl.analysis.names import Names
from jamjet_dsl.analysis.narrow import Keys
from jamjet_dsl.analysis.report import Report
from jamjet_dsl.analysis.typecheck_args import check_arguments, check_retry, known, parameters, whole
from jamjet_dsl.analysis.typecheck_binds import Binds
from jamjet_dsl.analysis.typecheck_calls import IN_TESTS
from jamjet_dsl.analysis.typecheck_expr import ExprChecker, Scope, Shapes
from jamjet_dsl.analysis.types import (
    DURATION,
    ERROR,
    FLOAT,
    INT,
    MONEY,
    STATE,
    TIMESTAMP,
    fits,
    show,
)
from jamjet_dsl.diagnostics.model import Label
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node


class AgentChecker:
    """Types one agent. `prepare` denotes what it declares, `check` then types everything in it."""

    def __init__(self, info: AgentInfo, names: Names, shapes: Shapes, report: Report) -> None:
        self.info = info
        self.names = names
        self.report = report
        self.exprs = ExprChecker(names, shapes, report)
        self.exprs.one_currency = True
        self.binds = Binds(info, self.exprs)
        self.scope = Scope(info.vars, info.inputs)
        self.exprs.scope = self.scope
        self._costs: list[tuple[ast.Name, ast.Lit]] = []

    def complete(self, symbol: Symbol) -> Type:
        """The type of a name that the agent binds."""
        return self.binds.complete(symbol)

    def prepare(self) -> None:
        """Denotes the types that are written inside actions, and finds what the agent binds."""
        for state in self.info.all_states():
            for option in getattr(state.action, "options", ()):
                if isinstance(option, ast.BindOpt) and option.type is not None:
                    self.names.denote(option.type)
                elif isinstance(option, ast.AnswerOpt):
                    self._form(option)
        self.binds.collect()

    def _form(self, form: ast.AnswerOpt) -> None:
        self.names.params(form.fields, "field")
        for field in form.fields:
            if field.name.text in ("option", "by", "at"):
                self.exprs.problem(
                    "JAM103",
                    field.name,
                    f"every answer has a `{field.name.text}`",
                    help="choose another name",
                )

    def check(self) -> None:
        """Types everything in the agent; the budget first, which decides the currency."""
        info = self.info
        missed = self.names.missed
        if info.budget is not None:
            self._budget(info.budget)
        for member in info.decl.members:
            if isinstance(member, ast.VarDecl) and member.init is not None:
                self.exprs.scope = Scope({}, info.inputs)
                self.exprs.expect(member.init, self.exprs.types_of(member.type))
        self.exprs.scope = self.scope
        for state in info.all_states():
            if isinstance(state.decl, ast.FinalDecl):
                self._final(state, state.decl)
            else:
                self._state(state)
        self.binds.check()
        if info.finally_ is not None:
            for call in ast.clauses(info.finally_.body, ast.CallAction):
                self._action(call, None)
        if info.policy is not None:
            from jamjet_dsl.analysis.typecheck_policy import PolicyChecker

            PolicyChecker(info, self.exprs).check(info.policy)
        for check in info.checks:
            self._check(check.property)
        self._currency()
        if self.names.missed > missed:
            info.broken = True

    def _currency(self) -> None:
        """One currency per agent, the costs of its tools included."""
        currency = self.exprs.currency
        for name, cost in self._costs:
            assert isinstance(cost.value, tuple)
            found = str(cost.value[1])
            if currency is None:
                currency = found
            elif found != currency:
                self.report.add(
                    "JAM401",
                    name.span,
                    f"`{name.text}` costs {found}, and the money of this agent is in {currency}",
                    why="an agent has one currency, or its budget could not be added up",
                    labels=(Label(cost.span, "its cost"),),
                )
        self.info.currency = currency

    # ---- budget

    def _budget(self, budget: ast.Budget) -> None:
        for item in budget.items:
            match item:
                case ast.BudgetLimit():
                    self._limit(item)
                case ast.ReserveClause(limits=limits):
                    for limit in limits:
                        self._limit(limit)
                case ast.WarnAt(percent=percent):
                    if not isinstance(percent.value, int) or not 1 <= percent.value <= 100:
                        self.exprs.problem("JAM408", percent, "a budget warns at 1% to 100%")
                case _:
                    pass

    def _limit(self, limit: ast.BudgetLimit) -> None:
        match limit.kind:
            case "steps" | "tokens":
                whole(self.exprs, limit.amount, 0, f"`{limit.kind}`")
            case "cost":
                known(self.exprs, limit.amount, MONEY, "`cost`")
            case _:
                known(self.exprs, limit.amount, DURATION, f"`{limit.kind}`")

    # ---- states

    def _state(self, state: FlowState) -> None:
        exprs = self.exprs
        exprs.present = frozenset()
        if state.action is not None:
            self._action(state.action, state)
        for clause in state.clauses:
            match clause:
                case ast.SetClause():
                    self._set(clause)
                case ast.Branch(default=default) if default is not None:
                    symbol = self.info.vars.get(clause.bind.text) if clause.bind is not None else None
                    exprs.infer(default, symbol.type if symbol is not None else None)
                case ast.Join(k=k, n=n, within=within):
                    self._join(k, n, within)
                case _:
                    pass
        known = exprs.present
        for clause in state.clauses:
            if isinstance(clause, ast.Edge):
                known = self._edge(clause, state, known)
        exprs.present = known
        for clause in state.clauses:
            if isinstance(clause, ast.YieldsClause):
                self._yields(clause.value, state)
        exprs.present = frozenset()

    def _join(self, k: ast.Expr | None, n: ast.Expr | None, within: ast.Expr | None) -> None:
        for count in (k, n):
            if count is not None:
                whole(self.exprs, count, 1, "a count of branches")
        if within is not None:
            known(self.exprs, within, DURATION, "`within`")

    def _edge(self, edge: ast.Edge, state: FlowState, known: Keys) -> Keys:
        """Checks an edge; returns what is known where it is not taken."""
        exprs = self.exprs
        exprs.present = known
        after = known
        match edge.trigger:
            case ast.When(condition=condition):
                exprs.condition(condition)
                facts = exprs.narrowing.facts(condition)
                exprs.present, after = known | facts.true, known | facts.false
            case _:
                pass
        for part in edge.sets:
            self._set(part)
        if edge.yields is not None:
            self._yields(edge.yields, state)
        if edge.limit is not None:
            whole(exprs, edge.limit, 1, "a limit")
        return after

    def _yields(self, value: ast.Expr, state: FlowState) -> None:
        expected = self.binds.body_value(state.region) if state.region.kind != "agent" else None
        if expected is not None:
            self.exprs.expect(value, expected)
        else:
            self.exprs.infer(value)

    def _set(self, node: ast.SetClause) -> None:
        exprs = self.exprs
        first, *rest = node.path.names
        symbol = self.info.vars.get(first.text)
        if symbol is None:
            exprs.infer(node.value)
            return
        target = symbol.type if symbol.type is not None else self.complete(symbol)
        for name in rest:
            if target.kind == "optional":
                target = target.args[0]
            target = exprs.field(name, target)
        exprs.types[node.path] = target
        exprs.expect(node.value, target)
        key = node.path.text
        kept = frozenset(k for k in exprs.present if k != key and not k.startswith(key + "."))
        found = exprs.types.get(node.value, ERROR)
        exprs.present = kept | {key} if target.kind == "optional" and self._certain(node.value, found) else kept

    def _certain(self, value: ast.Expr, found: Type) -> bool:
        """Whether a value assigned to an optional is certainly there."""
        return (isinstance(value, ast.Lit | ast.MapLit | ast.ListLit) and found.kind != "null") or (
            found.kind not in ("optional", "null", "error", "any") and not isinstance(value, ast.Cond)
        )

    def _final(self, state: FlowState, decl: ast.FinalDecl) -> None:
        exprs = self.exprs
        exprs.present = frozenset()
        seen: dict[str, ast.Name] = {}
        for assign in decl.assigns:
            name = assign.name
            first = seen.setdefault(name.text, name)
            if first is not name:
                self.report.add(
                    "JAM007", name.span, f"`{name.text}` is given twice", labels=(Label(first.span, "the first one"),)
                )
            if state.region.kind != "agent":
                exprs.infer(assign.value)
                continue
            output = self.info.outputs.get(name.text)
            if output is None or output.type is None:
                hint = f"declare it: `output {name.text}: …`"
                self.names.unknown(name.span, name.text, "output", self.info.outputs, hint)
                exprs.infer(assign.value)
                continue
            exprs.symbols[name] = output
            exprs.expect(assign.value, output.type)

    # ---- actions

    def _action(self, action: ast.Action, state: FlowState | None) -> None:
        exprs = self.exprs
        match action:
            case ast.CallAction(call=call) | ast.EmitAction(call=call) | ast.RunAction(call=call):
                check_arguments(exprs, call)
            case ast.CallWithAction(tool=tool, args=args):
                self._with(tool, args)
            case ast.ThinkAction(text=text, chat=chat):
                self._text(text)
                if chat is not None:
                    self._conversation(chat)
                self._enforceable(action)
            case ast.AskAction(text=text, call=call):
                if call is not None:
                    check_arguments(exprs, call)
                self._text(text)
            case ast.EachAction():
                self._each(action, state)
            case ast.WaitFor(duration=duration):
                known(exprs, duration, DURATION, "`wait`")
            case ast.WaitUntil(until=until):
                exprs.expect(until, TIMESTAMP)
            case _:
                pass
        if state is not None:
            for tool_decl in tools_of(action, self.info, self.names.analysis):
                cost = ast.clause(tool_decl.clauses, ast.CostClause)
                if cost is not None and isinstance(cost.amount, ast.Lit) and isinstance(cost.amount.value, tuple):
                    self._costs.append((_tool_name(action, tool_decl), cost.amount))
        for option in getattr(action, "options", ()):
            self._option(option)

    def _each(self, action: ast.EachAction, state: FlowState | None) -> None:
        found = self.exprs.value(action.source)
        if found.kind not in ("list", "any", "error") and not (found.kind == "secret" and found.args[0].kind == "list"):
            self.exprs.problem("JAM401", action.source, f"`each` goes through a list, and this is `{show(found)}`")
        if action.at_once is not None:
            whole(self.exprs, action.at_once, 1, "`at once`")
        if action.flat and state is not None and state.bodies:
            value = self.binds.body_value(state.bodies[0])
            if value is None or value.kind not in ("list", "error"):
                says = f"`{show(value)}`" if value is not None else "nothing"
                self.exprs.problem(
                    "JAM401",
                    action.item,
                    f"`collect flat` joins lists, and each item gives {says}",
                    help="leave out `collect flat`",
                )

    def _with(self, tool: ast.Name, args: ast.Expr) -> None:
        found = parameters(self.exprs, tool)
        if found is None:
            self.exprs.infer(args)
            return
        params, at = found
        shape = Type("object", fields=tuple(params.items()))
        if isinstance(args, ast.MapLit):
            self.exprs.expect(args, shape)
            return
        given = self.exprs.value(args)
        if given.kind in ("any", "error") or (given.kind == "map" and given.args[0].kind == "string"):
            return
        fields = self.exprs.shapes.fields(given)
        if fields is None:
            self.exprs.problem("JAM401", args, f"`with` takes a map of arguments, and this is `{show(given)}`")
            return
        for name, type_ in params.items():
            if name not in fields and type_.kind != "optional":
                self.report.add(
                    "JAM108",
                    args.span,
                    f"`{tool.text}` needs `{name}`, and `{show(given)}` has no such field",
                    labels=(Label(at.span, "declared here"),),
                )
            elif name in fields and not fits(fields[name], type_):
                message = f"`{name}` is `{show(fields[name])}`, and `{tool.text}` takes `{show(type_)}`"
                self.exprs.problem("JAM401", args, message)

    def _conversation(self, chat: ast.Name) -> None:
        symbol = self.info.vars.get(chat.text)
        if symbol is None:
            return
        found = symbol.type if symbol.type is not None else self.complete(symbol)
        if found.kind not in ("conversation", "error"):
            self.exprs.problem(
                "JAM401",
                chat,
                f"`in` names a conversation, and `{chat.text}` is `{show(found)}`",
                help=f"declare it: `var {chat.text}: conversation = []`",
            )

    def _enforceable(self, action: ast.ThinkAction) -> None:
        bind = ast.clause(action.options, ast.BindOpt)
        if bind is None or bind.type is None:
            return
        found = self.exprs.types_of(bind.type)
        tools = ast.clause(action.options, ast.ToolsOpt)
        if tools is not None:
            if found.kind not in ("Move", "error"):
                self.exprs.problem(
                    "JAM401",
                    bind.type,
                    f"with `tools` a think gives a `Move`, not `{show(found)}`",
                    help=f"write `as {bind.name.text}`",
                )
            return
        reason = unenforceable(found, self.exprs.shapes)
        if reason:
            self.exprs.problem(
                "JAM410",
                bind.type,
                f"no model provider can be held to `{show(found)}`: {reason}",
                help="ask for text, numbers, enums, records and lists of them",
                why="an answer of another shape is an InvalidOutput, which costs a retry each time",
            )

    def _option(self, option: Node) -> None:
        exprs = self.exprs
        match option:
            case ast.GivenOpt(items=items):
                for item in items:
                    if item.optional:
                        exprs.infer(item.expr)
                    else:
                        exprs.value(item.expr)
            case ast.ShowOpt(items=shown):
                for show_item in shown:
                    self.path(show_item.path, "JAM101", show_item.optional)
            case ast.TimeoutClause(duration=duration) | ast.RemindOpt(every=duration):
                known(exprs, duration, DURATION, "a time")
            case ast.RetryClause():
                check_retry(exprs, option)
            case ast.MaxPromptOpt(tokens=tokens):
                whole(exprs, tokens, 1, "`max prompt`")
            case ast.MaxTokensOpt(tokens=tokens):
                whole(exprs, tokens, 1, "`max tokens`")
            case ast.TemperatureOpt(value=value):
                kind = INT if exprs.infer(value).kind == "int" else FLOAT
                known(exprs, value, kind, "`temperature`")
            case ast.Budget():
                self._budget(option)
            case _:
                pass

    # ---- texts and paths

    def _text(self, text: ast.Text) -> None:
        for part in text.parts:
            if isinstance(part, ast.Placeholder):
                self.path(part.path, "JAM412", False)

    def path(self, path: ast.Path, code: str, may_be_unset: bool) -> Type:
        """The type of what a path names; `code` is reported where it names nothing."""
        exprs = self.exprs
        first, *rest = path.names
        symbol = exprs.lookup(first.text)
        if symbol is None:
            self.names.missed += 1
            if not self.names.partial:
                known = chain(self.info.vars, self.info.inputs)
                help = self.report.meant(first.text, known, "name a variable or an input; `{{` is a brace")
                what = "placeholder" if code == "JAM412" else "variable"
                exprs.problem(code, first, f"there is no {what} `{first.text}`", help=help)
            return ERROR
        symbol.used = True
        exprs.symbols[first] = symbol
        found = symbol.type if symbol.type is not None else exprs.complete(symbol)
        key = first.text
        for name in rest:
            found = self._there(path, found, key, False)
            found = self._part(name, found, code)
            key += "." + name.text
        found = self._there(path, found, key, may_be_unset)
        exprs.types[path] = found
        return found

    def _part(self, name: ast.Name, whole_: Type, code: str) -> Type:
        fields = self.exprs.shapes.fields(whole_)
        if code == "JAM412" and fields is not None and name.text not in fields:
            help = self.report.meant(name.text, fields, f"it has {', '.join(list(fields)[:10])}" if fields else "")
            return self.exprs.problem(code, name, f"`{show(whole_)}` has no field `{name.text}`", help=help)
        return self.exprs.field(name, whole_)

    def _there(self, path: ast.Path, found: Type, key: str, may_be_unset: bool) -> Type:
        if found.kind != "optional" or may_be_unset:
            return found
        if key not in self.exprs.present:
            self.exprs.problem(
                "JAM403",
                path,
                f"`{key}` may not be there",
                help=f"mark it as optional in `show` and `given`: `{key}?`, or ask `has({key})` in a guard before",
                why=f"its type is {show(found)}",
            )
        return found.args[0]

    # ---- checks of the program

    def _check(self, prop: ast.Property) -> None:
        exprs = self.exprs
        match prop:
            case ast.AlwaysHolds(condition=condition) | ast.HoldsAtEnd(condition=condition):
                exprs.scope = end_scope(self.info)
                exprs.condition(condition, "what a check holds")
                exprs.scope = self.scope
            case ast.EveryRunEnds(steps=steps):
                whole(exprs, steps, 1, "a number of steps")
            case ast.NoPathCalls(count=count) if count is not None:
                whole(exprs, count, 1, "a number of calls")
            case _:
                pass


def end_scope(info: AgentInfo) -> Scope:
    """What an expression about a run sees when it has ended: `state`, `outputs` and each output by name,
    variables (which win over an output of the same name), inputs, `spent`, and counts of calls."""
    fields = tuple((name, s.type or ERROR) for name, s in info.outputs.items())
    own: dict[str, Symbol] = {
        "state": Symbol("root", "state", None, STATE),
        "outputs": Symbol("root", "outputs", None, Type("object", fields=fields)),
    }
    own |= info.vars
    scope = Scope(own, info.outputs | info.inputs, forms=IN_TESTS, lenient=True)
    scope.states = frozenset(s.name for s in info.all_states())
    return scope


def _tool_name(action: ast.Action, tool: ast.ToolDecl) -> ast.Name:
    match action:
        case ast.CallAction(call=call):
            return call.tool
        case ast.CallWithAction(tool=name) | ast.CallApprovedAction(name=name) | ast.CallProposedAction(move=name):
            return name
        case _:
            return tool.name
