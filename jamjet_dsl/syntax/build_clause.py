"""Builder functions for what stands inside declarations: clauses of tools, actions, edges, policy, checks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from jamjet_dsl.source import Span
from jamjet_dsl.syntax import ast, literals
from jamjet_dsl.syntax.ast import Expr, Lit, Name
from jamjet_dsl.syntax.build_expr import ExprBuilder, Kids
from jamjet_dsl.syntax.node import Node


class _RetryPart(NamedTuple):
    """`backoff …`, `max …` or `jitter …`, until it joins the retry before it. `values` by field of RetryClause."""

    word: str
    values: dict[str, Any]
    start: int
    end: int


class _Goto(NamedTuple):
    """`-> target limit n else t2 { set … }`."""

    target: Name
    limit: Expr | None
    limit_else: Name | None
    sets: tuple[ast.SetClause, ...]


class _AnyTool(NamedTuple):
    """`any` or `any writes` where tools are named."""

    name: Name


class ClauseBuilder(ExprBuilder):
    """Builds clauses, actions, edges, rules of policies, and checks."""

    def _span(self, s: int, e: int) -> Span:
        return Span(self.source, s, e)

    def _name(self, token: Any) -> Name | None:
        return None if token is None else self.name(token)

    # ---- clauses of tools, shared with actions

    def via(self, k: Kids, s: int, e: int) -> ast.Via:
        return ast.Via(self._span(s, e), self.name(k[0]), self._name(k[1]), k[2])

    def effect(self, k: Kids, s: int, e: int) -> ast.EffectClause:
        return ast.EffectClause(self._span(s, e), self.name(k[0]))

    def key(self, k: Kids, s: int, e: int) -> ast.KeyClause:
        return ast.KeyClause(self._span(s, e), k[0])

    def confirm(self, k: Kids, s: int, e: int) -> ast.ConfirmClause:
        return ast.ConfirmClause(self._span(s, e), k[0])

    def undo(self, k: Kids, s: int, e: int) -> ast.UndoClause:
        return ast.UndoClause(self._span(s, e), k[0])

    def cost(self, k: Kids, s: int, e: int) -> ast.CostClause:
        return ast.CostClause(self._span(s, e), k[0])

    def rate(self, k: Kids, s: int, e: int) -> ast.RateClause:
        return ast.RateClause(self._span(s, e), k[0], self.name(k[1]))

    def raises(self, k: Kids, s: int, e: int) -> ast.RaisesClause:
        return ast.RaisesClause(self._span(s, e), k[0])

    def timeout(self, k: Kids, s: int, e: int) -> ast.TimeoutClause:
        return ast.TimeoutClause(self._span(s, e), k[0])

    def any_error(self, k: Kids, s: int, e: int) -> None:
        return None

    def retry(self, k: Kids, s: int, e: int) -> ast.RetryClause:
        return ast.RetryClause(self._span(s, e), k[0] or (), k[0] is None, k[1])

    def backoff(self, k: Kids, s: int, e: int) -> _RetryPart:
        return _RetryPart("backoff", {"backoff": k[0], "factor": k[1]}, s, e)

    def max_delay(self, k: Kids, s: int, e: int) -> _RetryPart:
        return _RetryPart("max", {"max_delay": k[0]}, s, e)

    def jitter(self, k: Kids, s: int, e: int) -> _RetryPart:
        return _RetryPart("jitter", {"jitter": self.name(k[0])}, s, e)

    def clauses(self, kids: Iterable[Any]) -> tuple[Node, ...]:
        """The clauses with the parts of each retry joined into one RetryClause."""
        made: list[Node] = []
        last = -1
        for kid in kids:
            if type(kid) is not _RetryPart:
                if type(kid) is ast.RetryClause:
                    last = len(made)
                made.append(kid)
                continue
            if last < 0:
                self.orphans.append((kid.word, kid.start, kid.end))
                continue
            retry = made[last]
            assert isinstance(retry, ast.RetryClause)
            values = {field: getattr(retry, field) for field in ("backoff", "factor", "max_delay", "jitter")}
            if any(values[field] is not None and value is not None for field, value in kid.values.items()):
                self.error("JAM007", f"`{kid.word}` is given twice for one retry", kid.start, kid.end, "remove one")
                continue
            values.update(kid.values)
            span = self._span(retry.span.start, max(retry.span.end, kid.end))
            made[last] = ast.RetryClause(span, retry.errors, retry.any, retry.times, **values)
        return tuple(made)

    def tcall(self, k: Kids, s: int, e: int) -> ast.ToolCall:
        return ast.ToolCall(self._span(s, e), self.name(k[0]), k[1] or ())

    def price(self, k: Kids, s: int, e: int) -> ast.PriceClause:
        return ast.PriceClause(self._span(s, e), *k)

    # ---- budget

    def budget(self, k: Kids, s: int, e: int) -> ast.Budget:
        return ast.Budget(self._span(s, e), tuple(k))

    def limit_steps(self, k: Kids, s: int, e: int) -> ast.BudgetLimit:
        return ast.BudgetLimit(self._span(s, e), "steps", k[0])

    def limit_tokens(self, k: Kids, s: int, e: int) -> ast.BudgetLimit:
        return ast.BudgetLimit(self._span(s, e), "tokens", k[0])

    def limit_cost(self, k: Kids, s: int, e: int) -> ast.BudgetLimit:
        return ast.BudgetLimit(self._span(s, e), "cost", k[0])

    def limit_time(self, k: Kids, s: int, e: int) -> ast.BudgetLimit:
        return ast.BudgetLimit(self._span(s, e), "time", k[0])

    def limit_active(self, k: Kids, s: int, e: int) -> ast.BudgetLimit:
        return ast.BudgetLimit(self._span(s, e), "active", k[0])

    def warn_at(self, k: Kids, s: int, e: int) -> ast.WarnAt:
        token = k[0]
        number = literals.integer(token.text) if token.kind == "INT" else 0
        return ast.WarnAt(self._span(s, e), Lit(self._span(token.start, e), "percent", number))

    def reserve(self, k: Kids, s: int, e: int) -> ast.ReserveClause:
        return ast.ReserveClause(self._span(s, e), tuple(k))

    def exceeded(self, k: Kids, s: int, e: int) -> ast.ExceededClause:
        return ast.ExceededClause(self._span(s, e), self.name(k[0]))

    # ---- policy

    def policy(self, k: Kids, s: int, e: int) -> ast.Policy:
        return ast.Policy(self._span(s, e), tuple(k))

    def any_tool(self, k: Kids, s: int, e: int) -> _AnyTool:
        word = k[1] or k[0]
        return _AnyTool(Name(self._span(s, e), word.text))

    def tool_set(self, k: Kids, s: int, e: int) -> ast.ToolSet:
        names = tuple(self.name(kid) for kid in k if type(kid) is not _AnyTool)
        return ast.ToolSet(self._span(s, e), names, tuple(kid.name for kid in k if type(kid) is _AnyTool))

    def fact(self, k: Kids, s: int, e: int) -> ast.FactRule:
        return ast.FactRule(self._span(s, e), self.name(k[0]), k[1], k[2], k[3])

    def allow(self, k: Kids, s: int, e: int) -> ast.AllowRule:
        because = None if k[2] is None else self.string_lit(k[2])
        return ast.AllowRule(self._span(s, e), k[0], k[1], because)

    def forbid(self, k: Kids, s: int, e: int) -> ast.ForbidRule:
        return ast.ForbidRule(self._span(s, e), *k)

    def require_any(self, k: Kids, s: int, e: int) -> ast.RequireAnyRule:
        return ast.RequireAnyRule(self._span(s, e), k[0], self._name(k[1]), k[2], k[3])

    def require_read(self, k: Kids, s: int, e: int) -> ast.RequireReadRule:
        return ast.RequireReadRule(self._span(s, e), k[0], self._name(k[1]), k[2], k[3])

    def require_ask(self, k: Kids, s: int, e: int) -> ast.RequireAskRule:
        return ast.RequireAskRule(self._span(s, e), self.name(k[0]), k[1], k[2])

    def require_people(self, k: Kids, s: int, e: int) -> ast.RequirePeopleRule:
        count, role, excluding, before, when = k
        return ast.RequirePeopleRule(
            self._span(s, e), count, self.string_lit(role), self._name(excluding), before, when
        )

    def never(self, k: Kids, s: int, e: int) -> ast.NeverRule:
        return ast.NeverRule(self._span(s, e), *k)

    def limits(self, k: Kids, s: int, e: int) -> ast.LimitRule:
        return ast.LimitRule(self._span(s, e), tuple(k))

    def limit_calls(self, k: Kids, s: int, e: int) -> ast.LimitCalls:
        return ast.LimitCalls(self._span(s, e), *k)

    def limit_total(self, k: Kids, s: int, e: int) -> ast.LimitTotal:
        return ast.LimitTotal(self._span(s, e), *k)

    def per(self, k: Kids, s: int, e: int) -> tuple[Expr, ...]:
        return tuple(k)

    def redact(self, k: Kids, s: int, e: int) -> ast.RedactRule:
        return ast.RedactRule(self._span(s, e), tuple(k))

    # ---- checks

    def check(self, k: Kids, s: int, e: int) -> ast.Check:
        return ast.Check(self._span(s, e), None if k[0] is None else self.string_lit(k[0]), k[1])

    def every_path_passes(self, k: Kids, s: int, e: int) -> ast.EveryPathPasses:
        return ast.EveryPathPasses(self._span(s, e), self.name(k[0]), k[1])

    def never_unless(self, k: Kids, s: int, e: int) -> ast.NeverUnless:
        return ast.NeverUnless(self._span(s, e), *map(self.name, k))

    def no_path_calls(self, k: Kids, s: int, e: int) -> ast.NoPathCalls:
        return ast.NoPathCalls(self._span(s, e), self.name(k[0]), k[1] if len(k) > 1 else None)

    def every_run_ends(self, k: Kids, s: int, e: int) -> ast.EveryRunEnds:
        return ast.EveryRunEnds(self._span(s, e), k[0])

    def every_cycle_bounded(self, k: Kids, s: int, e: int) -> ast.EveryCycleBounded:
        return ast.EveryCycleBounded(self._span(s, e))

    def final_reachable(self, k: Kids, s: int, e: int) -> ast.FinalReachable:
        return ast.FinalReachable(self._span(s, e))

    def always_holds(self, k: Kids, s: int, e: int) -> ast.AlwaysHolds:
        return ast.AlwaysHolds(self._span(s, e), k[0])

    def holds_at_end(self, k: Kids, s: int, e: int) -> ast.HoldsAtEnd:
        return ast.HoldsAtEnd(self._span(s, e), k[0])

    # ---- actions

    def bind(self, k: Kids, s: int, e: int) -> ast.BindOpt:
        return ast.BindOpt(self._span(s, e), self.name(k[0]), None)

    def bind_typed(self, k: Kids, s: int, e: int) -> ast.BindOpt:
        return ast.BindOpt(self._span(s, e), self.name(k[0]), k[1])

    def call(self, k: Kids, s: int, e: int) -> ast.CallAction:
        return ast.CallAction(self._span(s, e), k[0], self.clauses(k[1:]))

    def call_with(self, k: Kids, s: int, e: int) -> ast.CallWithAction:
        return ast.CallWithAction(self._span(s, e), self.name(k[0]), k[1], self.clauses(k[2:]))

    def call_proposed(self, k: Kids, s: int, e: int) -> ast.CallProposedAction:
        return ast.CallProposedAction(self._span(s, e), self.name(k[0]), self.clauses(k[1:]))

    def call_approved(self, k: Kids, s: int, e: int) -> ast.CallApprovedAction:
        return ast.CallApprovedAction(self._span(s, e), self.name(k[0]), self.clauses(k[1:]))

    def think(self, k: Kids, s: int, e: int) -> ast.ThinkAction:
        return ast.ThinkAction(self._span(s, e), k[0], self._name(k[1]), self.clauses(k[2:]))

    def given(self, k: Kids, s: int, e: int) -> ast.GivenOpt:
        return ast.GivenOpt(self._span(s, e), tuple(k))

    def given_path(self, k: Kids, s: int, e: int) -> ast.Given:
        path: ast.Path = k[0]
        first, *rest = path.names
        expr: Expr = ast.Ident(first.span, first.text)
        for name in rest:
            expr = ast.Select(self._span(first.span.start, name.span.end), expr, name)
        return ast.Given(self._span(s, e), None, expr, k[1] is not None)

    def given_labelled(self, k: Kids, s: int, e: int) -> ast.Given:
        return ast.Given(self._span(s, e), self.name(k[0]), k[1], False)

    def offer(self, k: Kids, s: int, e: int) -> ast.ToolsOpt:
        return ast.ToolsOpt(self._span(s, e), k[0])

    def use_model(self, k: Kids, s: int, e: int) -> ast.ModelOpt:
        return ast.ModelOpt(self._span(s, e), self.name(k[0]))

    def temperature(self, k: Kids, s: int, e: int) -> ast.TemperatureOpt:
        return ast.TemperatureOpt(self._span(s, e), k[0])

    def max_prompt(self, k: Kids, s: int, e: int) -> ast.MaxPromptOpt:
        return ast.MaxPromptOpt(self._span(s, e), k[0])

    def max_tokens(self, k: Kids, s: int, e: int) -> ast.MaxTokensOpt:
        return ast.MaxTokensOpt(self._span(s, e), k[0])

    def proposed(self, k: Kids, s: int, e: int) -> Name:
        return self.name(k[0])

    def ask(self, k: Kids, s: int, e: int) -> ast.AskAction:
        role = self.string_lit(k[0])
        call = k[1] if isinstance(k[1], ast.ToolCall) else None
        proposed = k[1] if isinstance(k[1], Name) else None
        text, *options = k[1:] if isinstance(k[1], ast.Text) else k[2:]
        return ast.AskAction(self._span(s, e), role, call, proposed, text, self.clauses(options))

    def show(self, k: Kids, s: int, e: int) -> ast.ShowOpt:
        return ast.ShowOpt(self._span(s, e), tuple(k))

    def show_item(self, k: Kids, s: int, e: int) -> ast.ShowItem:
        return ast.ShowItem(self._span(s, e), k[0], k[1] is not None)

    def options(self, k: Kids, s: int, e: int) -> ast.OptionsOpt:
        return ast.OptionsOpt(self._span(s, e), tuple(k))

    def option(self, k: Kids, s: int, e: int) -> ast.OptionDecl:
        return ast.OptionDecl(self._span(s, e), self.name(k[0]), k[1] is not None)

    def answer(self, k: Kids, s: int, e: int) -> ast.AnswerOpt:
        return ast.AnswerOpt(self._span(s, e), tuple(k))

    def remind(self, k: Kids, s: int, e: int) -> ast.RemindOpt:
        return ast.RemindOpt(self._span(s, e), k[0])

    def run(self, k: Kids, s: int, e: int) -> ast.RunAction:
        return ast.RunAction(self._span(s, e), k[0], self.clauses(k[1:]))

    def body(self, k: Kids, s: int, e: int) -> tuple[Node, ...]:
        return tuple(k)

    def each(self, k: Kids, s: int, e: int) -> ast.EachAction:
        item, source, at_once, collect, body, *options = k
        flat = collect is not None
        return ast.EachAction(self._span(s, e), self.name(item), source, at_once, flat, body, self.clauses(options))

    def wait_for(self, k: Kids, s: int, e: int) -> ast.WaitFor:
        return ast.WaitFor(self._span(s, e), k[0], tuple(k[1:]))

    def wait_until(self, k: Kids, s: int, e: int) -> ast.WaitUntil:
        return ast.WaitUntil(self._span(s, e), k[0], tuple(k[1:]))

    def wait_event(self, k: Kids, s: int, e: int) -> ast.WaitEvent:
        return ast.WaitEvent(self._span(s, e), self.name(k[0]), self._name(k[1]), tuple(k[2:]))

    def emit(self, k: Kids, s: int, e: int) -> ast.EmitAction:
        return ast.EmitAction(self._span(s, e), k[0])

    def undo_all(self, k: Kids, s: int, e: int) -> ast.UndoAllAction:
        return ast.UndoAllAction(self._span(s, e))

    # ---- edges

    def set(self, k: Kids, s: int, e: int) -> ast.SetClause:
        return ast.SetClause(self._span(s, e), k[0], k[1])

    def sets(self, k: Kids, s: int, e: int) -> tuple[ast.SetClause, ...]:
        return tuple(k)

    def yields(self, k: Kids, s: int, e: int) -> ast.YieldsClause:
        return ast.YieldsClause(self._span(s, e), k[0])

    def goto(self, k: Kids, s: int, e: int) -> _Goto:
        target, limit, limit_else, sets = k
        return _Goto(self.name(target), limit, self._name(limit_else), sets or ())

    def skip(self, k: Kids, s: int, e: int) -> None:
        return None

    def _edge(self, trigger: ast.Trigger, outcome: Any, s: int, e: int) -> ast.Edge:
        span = self._span(s, e)
        match outcome:
            case _Goto(target, limit, limit_else, sets):
                return ast.Edge(span, trigger, target, False, None, limit, limit_else, sets)
            case ast.YieldsClause():
                return ast.Edge(span, trigger, None, False, outcome.value, None, None, ())
            case _:
                return ast.Edge(span, trigger, None, True, None, None, None, ())

    def always(self, k: Kids, s: int, e: int) -> ast.Edge:
        return self._edge(ast.Always(self._span(s, s)), k[0], s, e)

    def when(self, k: Kids, s: int, e: int) -> ast.Edge:
        condition: Expr = k[0]
        return self._edge(ast.When(self._span(s, condition.span.end), condition), k[1], s, e)

    def otherwise(self, k: Kids, s: int, e: int) -> ast.Edge:
        return self._edge(ast.Otherwise(self._span(s, s + len("otherwise"))), k[0], s, e)

    def on(self, k: Kids, s: int, e: int) -> ast.Edge:
        return self._edge(k[0], k[1], s, e)

    def on_error(self, k: Kids, s: int, e: int) -> ast.OnError:
        return ast.OnError(self._span(s, e), k[0] or (), k[0] is None)

    def on_timeout(self, k: Kids, s: int, e: int) -> ast.OnTimeout:
        return ast.OnTimeout(self._span(s, e))

    def on_denied(self, k: Kids, s: int, e: int) -> ast.OnDenied:
        return ast.OnDenied(self._span(s, e))

    def on_in_doubt(self, k: Kids, s: int, e: int) -> ast.OnInDoubt:
        return ast.OnInDoubt(self._span(s, e))

    def on_join(self, k: Kids, s: int, e: int) -> ast.OnJoin:
        return ast.OnJoin(self._span(s, e))

    def on_cancel(self, k: Kids, s: int, e: int) -> ast.OnCancel:
        return ast.OnCancel(self._span(s, e))

    def on_event(self, k: Kids, s: int, e: int) -> ast.OnEvent:
        return ast.OnEvent(self._span(s, e), self.name(k[0]), self._name(k[1]))

    def on_option(self, k: Kids, s: int, e: int) -> ast.OnOption:
        return ast.OnOption(self._span(s, e), self.name(k[0]))
