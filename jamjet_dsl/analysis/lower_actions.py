"""Actions and edges to their definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.analysis.asks import options_of
from jamjet_dsl.analysis.flow import edge_ids, offered_tools, proposed_tools, tools_of
from jamjet_dsl.analysis.lower_expr import lower_path, lower_text
from jamjet_dsl.analysis.lower_parts import Parts
from jamjet_dsl.analysis.model import AgentInfo, FlowRegion, FlowState
from jamjet_dsl.analysis.types import MOVE, STRING
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

_TRIGGERS: dict[type[ast.Trigger], str] = {
    ast.Always: "always",
    ast.When: "when",
    ast.Otherwise: "otherwise",
    ast.OnError: "error",
    ast.OnTimeout: "timeout",
    ast.OnDenied: "denied",
    ast.OnInDoubt: "in_doubt",
    ast.OnJoin: "join",
    ast.OnCancel: "cancel",
    ast.OnEvent: "event",
    ast.OnOption: "option",
}


def trigger_name(trigger: ast.Trigger) -> str:
    """The name of a trigger in the definition."""
    return _TRIGGERS[type(trigger)]


def errors_of(trigger: ast.Trigger) -> tuple[str, ...]:
    """The errors that a trigger waits for."""
    if not isinstance(trigger, ast.OnError):
        return ()
    return ("any",) if trigger.any else tuple(n.text for n in trigger.errors)


class ActionLowering:
    """Lowers the actions of one agent; `region` lowers the bodies inside them."""

    def __init__(self, info: AgentInfo, parts: Parts, region: Callable[[FlowRegion], d.Region]) -> None:
        self.info = info
        self.parts = parts
        self.region = region

    def action(self, state: FlowState) -> d.Action | None:
        """The action of a state, None if it has none."""
        parts = self.parts
        if isinstance(state.decl, ast.ParallelDecl):
            return self._parallel(state)
        action = state.action
        options: tuple[Node, ...] = getattr(action, "options", ())
        common = self._common(options)
        match action:
            case ast.CallAction(call=call):
                return d.Call(tool=parts.tool(call.tool), args=parts.args(call), **common)
            case ast.CallWithAction(tool=tool, args=args):
                return d.Call(tool=parts.tool(tool), args_map=parts.expr(args), **common)
            case ast.CallProposedAction(move=move):
                tools = self._tools(proposed_tools(move.text, self.info))
                return d.CallProposed(move=move.text, tools=tools, chat=self._chat(move.text), **common)
            case ast.CallApprovedAction(name=name):
                return self._approved(state, name, common)
            case ast.ThinkAction():
                return self._think(action, common)
            case ast.AskAction():
                return self._ask(action, common)
            case ast.RunAction(call=call):
                budget = ast.clause(options, ast.Budget)
                return d.RunAgent(
                    agent=parts.agent(call.tool),
                    args=parts.args(call),
                    budget=self.budget(budget) if budget is not None else None,
                    **common,
                )
            case ast.EachAction():
                return d.Each(
                    item=action.item.text,
                    source=parts.expr(action.source),
                    at_once=parts.integer(action.at_once) if action.at_once is not None else 1,
                    flat=action.flat,
                    body=self.region(state.bodies[0]),
                    bind=common.get("bind"),
                    timeout_ms=common.get("timeout_ms"),
                )
            case ast.EmitAction(call=call):
                return d.Emit(message=call.tool.text, args=parts.args(call))
            case ast.UndoAllAction():
                return d.UndoAll()
            case _:
                return self._wait(action, common)

    def _wait(self, action: ast.Action | None, common: dict[str, Any]) -> d.Wait | None:
        match action:
            case ast.WaitFor(duration=duration):
                return d.Wait(duration_ms=self.parts.ms(duration))
            case ast.WaitUntil(until=until):
                return d.Wait(until=self.parts.expr(until), timeout_ms=common.get("timeout_ms"))
            case ast.WaitEvent(event=event, bind=bind):
                name = bind.text if bind is not None else None
                return d.Wait(event=event.text, bind=name, timeout_ms=common.get("timeout_ms"))
            case _:
                return None

    def _common(self, options: tuple[Node, ...]) -> dict[str, Any]:
        """`as`, `timeout` and `retry`, as far as they are given."""
        found: dict[str, Any] = {}
        bind = ast.clause(options, ast.BindOpt)
        if bind is not None:
            found["bind"] = bind.name.text
        timeout = ast.clause(options, ast.TimeoutClause)
        if timeout is not None:
            found["timeout_ms"] = self.parts.ms(timeout.duration)
        retries = self.parts.retries(options)
        if retries:
            found["retry"] = retries
        return found

    def _tools(self, names: list[ast.Name]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.parts.tool(n) for n in names))

    def _chat(self, move: str) -> str | None:
        """The conversation of the think that binds a `Move`."""
        return next((t.chat.text for t in self.info.moves.get(move, ()) if t.chat is not None), None)

    def _approved(self, state: FlowState, name: ast.Name, common: dict[str, Any]) -> d.CallApproved:
        """A granted call: by the name of its tool, or by that of the answer that granted it."""
        symbol = self.parts.analysis.symbols[name]
        if symbol.kind == "tool":
            tool: str | None = self.parts.tool(name)
            asks = [
                s
                for s in self.info.all_states()
                if any(self.parts.tool(n) == tool for n in offered_tools(s.action, self.info))
            ]
        else:
            tool, asks = None, self.info.answers[name.text]
            for decl in tools_of(state.action, self.info, self.parts.analysis):
                self.parts.tool(decl)
        moves = [a.action.proposed.text for a in asks if isinstance(a.action, ast.AskAction) and a.action.proposed]
        chat = next((c for c in map(self._chat, moves) if c is not None), None)
        return d.CallApproved(tool=tool, asks=tuple(s.name for s in asks), chat=chat, **common)

    def _think(self, action: ast.ThinkAction, common: dict[str, Any]) -> d.Think:
        parts, options = self.parts, action.options
        tools, model = ast.clause(options, ast.ToolsOpt), ast.clause(options, ast.ModelOpt)
        prompt_limit, token_limit = ast.clause(options, ast.MaxPromptOpt), ast.clause(options, ast.MaxTokensOpt)
        temperature, given = ast.clause(options, ast.TemperatureOpt), ast.clause(options, ast.GivenOpt)
        return d.Think(
            prompt=self.text(action.text),
            given=tuple(self._given(g) for g in given.items) if given is not None else (),
            chat=action.chat.text if action.chat is not None else None,
            tools=self._tools(list(tools.tools)) if tools is not None else (),
            model=parts.model(model.model) if model is not None else None,
            max_prompt=parts.integer(prompt_limit.tokens) if prompt_limit is not None else None,
            max_tokens=parts.integer(token_limit.tokens) if token_limit is not None else None,
            temperature=parts.number_text(temperature.value) if temperature is not None else None,
            result=self._thought(options),
            **common,
        )

    def _thought(self, options: tuple[Node, ...]) -> d.Type:
        bind = ast.clause(options, ast.BindOpt)
        if ast.clause(options, ast.ToolsOpt) is not None:
            return self.parts.type(MOVE)
        if bind is None:
            return self.parts.type(STRING)
        if bind.type is not None:
            return self.parts.written(bind.type)
        symbol = self.info.vars[bind.name.text]
        return self.parts.type(symbol.type if symbol.type is not None else STRING)

    def _given(self, item: ast.Given) -> d.GivenDef:
        label = item.label.text if item.label is not None else item.expr.span.text
        return d.GivenDef(label=label, value=self.parts.expr(item.expr), optional=item.optional)

    def _ask(self, action: ast.AskAction, common: dict[str, Any]) -> d.Ask:
        parts, options = self.parts, action.options
        show, form = ast.clause(options, ast.ShowOpt), ast.clause(options, ast.AnswerOpt)
        remind = ast.clause(options, ast.RemindOpt)
        return d.Ask(
            role=str(action.role.value),
            text=self.text(action.text),
            call=parts.call(action.call) if action.call is not None else None,
            proposed=action.proposed.text if action.proposed is not None else None,
            tools=self._tools(offered_tools(action, self.info)) if action.proposed is not None else (),
            show=tuple(
                d.GivenDef(label=i.path.text, value=lower_path(i.path, parts.analysis), optional=i.optional)
                for i in show.items
            )
            if show is not None
            else (),
            options=tuple(d.OptionDef(name=n, approves=a) for n, a in options_of(action)),
            form=parts.fields(form.fields) if form is not None else (),
            remind_ms=parts.ms(remind.every) if remind is not None else None,
            **common,
        )

    def _parallel(self, state: FlowState) -> d.Parallel:
        bodies = {b.name: b for b in state.bodies}
        branches = tuple(
            d.BranchDef(
                name=b.name.text,
                bind=b.bind.text if b.bind is not None else None,
                default=self.parts.expr(b.default) if b.default is not None else None,
                body=self.region(bodies[b.name.text]),
            )
            for b in ast.clauses(state.clauses, ast.Branch)
        )
        join = ast.clause(state.clauses, ast.Join)
        need = len(branches)
        if join is not None and join.mode == "any":
            need = 1
        elif join is not None and join.k is not None:
            need = self.parts.integer(join.k)
        return d.Parallel(
            branches=branches, need=need, within_ms=self.parts.ms(join.within) if join is not None else None
        )

    # ---- texts, budgets, edges

    def text(self, text: ast.Text) -> d.ExprJson:
        """A prompt or question."""
        return lower_text(text, self.parts.analysis)

    def budget(self, budget: ast.Budget) -> d.Budget:
        """A budget, of the agent or of one child run."""
        warn, reserve = ast.clause(budget.items, ast.WarnAt), ast.clause(budget.items, ast.ReserveClause)
        exceeded = ast.clause(budget.items, ast.ExceededClause)
        percent = warn.percent.value if warn is not None else None
        assert percent is None or isinstance(percent, int)
        return d.Budget(
            limits=self._limits(ast.clauses(budget.items, ast.BudgetLimit)),
            reserve=self._limits(reserve.limits) if reserve is not None else d.Limits(),
            warn_percent=percent,
            exceeded=exceeded.target.text if exceeded is not None else None,
        )

    def _limits(self, limits: tuple[ast.BudgetLimit, ...]) -> d.Limits:
        found: dict[str, object] = {}
        for limit in limits:
            if limit.kind == "cost":
                found["cost"] = self.parts.money(limit.amount)
            elif limit.kind in ("time", "active"):
                found[f"{limit.kind}_ms"] = self.parts.ms(limit.amount)
            else:
                found[limit.kind] = self.parts.integer(limit.amount)
        return d.Limits.model_validate(found)

    def edges(self, state: FlowState) -> tuple[d.Edge, ...]:
        """The written edges of a state, in order."""
        return tuple(self._edge(edge, id_) for edge, id_ in edge_ids(state.clauses))

    def _edge(self, edge: ast.Edge, id_: str) -> d.Edge:
        trigger, parts = edge.trigger, self.parts
        found: dict[str, object] = {"id": id_, "trigger": trigger_name(trigger), "errors": errors_of(trigger)}
        match trigger:
            case ast.When(condition=condition):
                found["guard"] = parts.expr(condition)
            case ast.OnEvent(event=event, bind=bind):
                found |= {"event": event.text, "bind": bind.text if bind is not None else None}
            case ast.OnOption(option=option):
                found["option"] = option.text
            case _:
                pass
        return d.Edge.model_validate(
            found
            | {
                "target": edge.target.text if edge.target is not None else None,
                "skip": edge.skip,
                "yields": parts.expr(edge.yields) if edge.yields is not None else None,
                "limit": parts.integer(edge.limit) if edge.limit is not None else None,
                "limit_to": edge.limit_else.text if edge.limit_else is not None else None,
                "sets": self.sets(edge.sets),
            }
        )

    def sets(self, clauses: tuple[ast.SetClause, ...]) -> tuple[d.SetDef, ...]:
        """Assignments, in order."""
        return tuple(
            d.SetDef(path=tuple(n.text for n in c.path.names), value=self.parts.expr(c.value)) for c in clauses
        )
