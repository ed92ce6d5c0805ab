"""How the reference makes a call: prepared, attempted, tried again, and found out about (§3, §5, §6.2, §8)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

from jamjet_dsl.syntax import ast
from tests.reference.agents import Agent, Stop
from tests.reference.expressions import Names, NoValue, evaluate
from tests.reference.frames import BEGIN, DECIDED, IDLE, Frame, Outcome, Steps, Undo
from tests.reference.reading import FOREVER, Call, clause, clauses, given, matches, number, timeout_of, total, type_text

INDEFINITE = {"Timeout", "Disconnected", "Crashed", "InvalidOutput"}


class Calling(Frame):
    """What a frame does about calls and model calls."""

    def until(self, ready: Callable[[], Any] = lambda: None, stops: bool = True) -> Steps:
        """Waits for what comes of an effect or a question, or for what `ready` gives."""
        while self.landed is None:
            if self.stopping and stops:
                raise Stop
            found = ready()
            if found:
                return found
            yield IDLE
        landed, self.landed = self.landed, None
        return landed

    def call(self, action: Any) -> Steps:
        """A call or a model call, with its further attempts (§3). `maybe`: an attempt may have happened."""
        maybe, error = False, ""
        while True:
            if self.stopping and not maybe:
                raise Stop
            call = self.frozen or (self.prompt if isinstance(action, ast.ThinkAction) else self.prepare)(action)
            if call is None:
                return Outcome("denied", error="Denied")
            full = self.agent.fits(call, self.spare)
            if maybe and (self.stopping or isinstance(full, Agent)):
                told = yield from self.again(call, action, error, maybe, over=True)
                if isinstance(told, Outcome):
                    return told
                maybe = told
                continue
            if isinstance(full, Agent):
                if self.spare:
                    return Outcome("failed", error="Exceeded")
                full.exceed()
            if not (yield BEGIN if full else IDLE):
                continue
            if self.frozen is None and not all(fits() for fits in call.last):  # §5.7
                self.run.denied.append((self.path, call.name))
                return Outcome("denied", error="Denied")
            if self.run.keys.get((call.name, call.key), call.args) != call.args:
                outcome, self.at = Outcome("failed", error="InvalidInput"), self.run.now  # §3.7: as it would begin
            else:
                self.frozen = call
                outcome = yield from self.attempted(call)
            if outcome.kind == "recovered":
                told = yield from self.recovered(call)
                if isinstance(told, Outcome):
                    return told
                maybe, error = told, "Crashed"
                continue
            if outcome.kind != "failed":
                return outcome
            error = outcome.error
            maybe = call.writes and error not in call.raises and (maybe or error in INDEFINITE)
            told = yield from self.again(call, action, error, maybe)
            if isinstance(told, Outcome):
                return told
            maybe = told

    def again(self, call: Call, action: Any, error: str, maybe: bool, over: bool = False) -> Steps:
        """After an error: its outcome, or where there is a further attempt whether the call may have happened all the
        same. `over`: none can be made before it is known that it did not."""
        retries, rule = [*clauses(action.options, ast.RetryClause), *call.retries], None
        while over or (rule := self.rule_for(retries, error)) is None or (maybe and call.key is None):
            told = (yield from self.resolve(call)) if maybe else Outcome("failed", error=error)
            if told is not None:
                return told
            maybe = over = False  # it did not happen: an ordinary error now
        yield from self.back_off(rule)
        return maybe

    def prepare(self, action: Any) -> Call | None:
        """Arguments, decision and key, all before the first attempt (§3.1, §3.7, §5); None if it is denied."""
        run, grants = self.run, list[Any]()
        if isinstance(action, Undo):
            tool, args = action.tool, action.args
        elif isinstance(action, ast.CallApprovedAction):
            name, mine = action.name.text, [g for g in run.grants if g.agent is self.agent]
            held, fits = [g for g in mine if run.now <= g.until], lambda g: name in (g.call.name, g.bind)
            own = next(filter(fits, (*reversed(held), *reversed(mine))), None)
            if own is None:
                run.denied.append((self.path, name if name in run.tools else ""))
                return None
            tool, args = own.call.tool, own.call.args
            if run.now > own.until:  # §4.6
                run.denied.append((self.path, own.call.name))
                return None
            grants = [own, *(g for g in held if g is not own and (g.call.tool, g.call.args) == (tool, args))]
        else:
            tool = run.tools[action.call.tool.text]
            args = given(action.call, tool.params, self.names())
        if args is None:
            raise NoValue
        call = Call.of(tool, args, action.options)
        uses = [grants[:n] for n in range(len(grants) + 1) if self.allowed(call, grants[:n])]
        if not uses:
            run.denied.append((self.path, call.name))
            return None
        call.uses = uses[0] or grants[:1]
        call.key = None if call.keyed is None else evaluate(call.keyed, self.tool_names(args))
        return call

    def allowed(self, call: Call, grants: list[Any]) -> bool:
        """What the policies of this agent and of all around it say together (§5.2, §11.4)."""
        call.counts, call.last = [], []
        voices = {voice for grant in grants for voice in grant.voices}
        for agent in self.agent.around:
            demands, states = agent.demands(self, call), {g.state for g in grants if g.agent is agent}
            if demands is None:
                return False
            asked = all(ask in states if ask is not None else bool(grants) for ask in demands[0])
            asked = asked and all(sum(r == role for _, r in voices) >= n for n, role in demands[1])
            if not asked and self.undoes is None:
                return False
        return True

    def prompt(self, action: ast.ThinkAction) -> Call:
        """A model call: its worst case is what `max prompt` and `max tokens` say, at the model's prices (§6.2)."""
        options = action.options
        self.text(action.text, *(one.expr for one in clause(options, ast.GivenOpt, "items", ()) if not one.optional))
        model = self.run.models[clause(options, ast.ModelOpt, "model").text]
        most = [number(clause(options, kind, "tokens")) for kind in (ast.MaxPromptOpt, ast.MaxTokensOpt)]
        price = clause(model.clauses, ast.PriceClause)
        prices = [number(one) / number(price.per) for one in (price.input, price.output)]
        more = {"tokens": sum(most), "cost": total(prices, most), "prices": prices}
        return Call(None, {}, type_text(clause(options, ast.BindOpt, "type")), timeout_of(options), **more)

    def text(self, text: ast.Text, *more: Any) -> None:
        """What a text reads has to have a value, and so has what is shown with it."""
        for expr in [*(ast.Ident(None, p.path.text) for p in clauses(text.parts, ast.Placeholder)), *more]:
            evaluate(expr, self.names())

    def attempted(self, call: Call, aside: str = "") -> Steps:
        """Start an effect and wait for its end. A read is given up where it is not wanted any more."""
        if not aside and self.called is None and call.tool is not None:
            self.called = call
            self.agent.remember("attempted", call)
            for used, counted in call.counts:
                used.append((counted, self.run.now))
            self.run.grants = [grant for grant in self.run.grants if grant not in call.uses]
            if call.key is not None:
                self.run.keys.setdefault((call.name, call.key), call.args)
        flight = self.run.start(self, call, aside)
        self.begun = self.begun if aside else self.run.now
        yield DECIDED
        try:
            return (yield from self.until(stops=not call.writes and not aside))
        except Stop:
            self.run.drop(flight)
            raise

    def rule_for(self, retries: list[Any], error: str) -> Any:
        """The first `retry` clause that names the error; None if it has no further attempt (§3.4)."""
        rule = next((rule for rule in retries if matches(rule, error)), None)
        used_up = rule is None or self.stopping or self.tries[id(rule)] >= number(rule.times)
        return None if used_up else rule

    def back_off(self, rule: ast.RetryClause) -> Steps:
        """Until the next attempt is due (§3.4). Half of what `jitter full` may take off is."""
        delay = number(rule.backoff, Decimal(0)) * Decimal(number(rule.factor, 1)) ** self.tries[id(rule)]
        delay = int(min(delay, number(rule.max_delay, FOREVER)))
        due = self.at + delay - (delay // 2 if rule.jitter is not None else 0)
        self.tries[id(rule)] += 1
        self.attempt += 1
        self.run.wake(due)
        yield DECIDED
        yield from self.until(lambda: self.stopping or self.run.now >= due, stops=False)

    def resolve(self, call: Call) -> Steps:
        """Whether a call happened that may have (§3.5): its outcome, or None if it did not."""
        told, self.doubtful = Outcome("in_doubt"), call
        if call.confirm is None:
            return told
        tool = self.run.tools[call.confirm.tool.text]
        try:
            question = Call.of(tool, given(call.confirm, tool.params, self.tool_names(call.args)))
        except NoValue:
            return told
        held = self.run.flights.get(self.key)
        own = None if held is None else held.call
        while not isinstance(fits := self.agent.fits(question, self.spare, own), Agent):
            if (yield BEGIN if fits else IDLE):
                told = yield from self.attempted(question, "/confirm")
                if told.kind != "recovered":
                    break
        if told.kind != "ok":
            return Outcome("in_doubt")
        return None if told.value is None else self.happened(call, told.value)

    def recovered(self, call: Call) -> Steps:
        """The process died while the call was in flight (§8): its outcome, or where it is made again whether it may
        have happened all the same."""
        maybe = False
        if call.writes:
            told = yield from self.resolve(call)
            held = self.run.flights.pop(self.key, None)
            if told is not None and held is not None:
                self.agent.spend("cost", call.cost)
            asked = call.confirm is not None or self.run.main.diverted == "exceeded"
            if told is not None and (told.kind != "in_doubt" or call.key is None or (self.stopping and asked)):
                return told
            maybe = told is not None
        self.attempt, self.lost = self.attempt + 1, self.lost + 1
        return maybe

    def happened(self, call: Call, value: Any) -> Outcome:
        """A call succeeded: history, and how it could be taken back (§12.1)."""
        if call.tool is not None:
            self.agent.remember("succeeded", call)
        if call.undo is not None:
            tool, args = self.run.tools[call.undo.tool.text], None
            with suppress(NoValue):
                args = given(call.undo, tool.params, {**self.tool_names(call.args), "result": value})
            self.run.undo.append(Undo(self.agent, tool, args))
        return Outcome("ok", value)

    def tool_names(self, args: dict[str, Any]) -> Names:
        """What the clauses of a tool may read."""
        return {"args": args, "run": self.run_names, **args}
