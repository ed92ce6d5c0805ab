"""What else a state does: ask, wait, tell, and open frames of its own (§4, §7, §10 to §13)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any

from jamjet_dsl.syntax import ast
from tests.reference.agents import Stop
from tests.reference.calls import Calling
from tests.reference.expressions import Names, NoValue, Quantity, evaluate
from tests.reference.frames import (
    BEGIN,
    DECIDED,
    IDLE,
    NOTHING,
    Closed,
    Doubt,
    Frame,
    Outcome,
    Park,
    Steps,
    Undo,
    Way,
    made,
    states_of,
)
from tests.reference.reading import FOREVER, Call, bind_of, clause, clauses, given, number, params, plain, timeout_of


class Thread(Calling):
    """A frame that can do everything."""

    def act(self, action: Any) -> Steps:
        """What a state does, to its outcome; NoValue where the arguments have none."""
        return ACTIONS[type(action)](self, action)

    def ask(self, action: ast.AskAction) -> Steps:
        """A question, with the call that an answer approves (§4)."""
        run, voices, role, call = self.run, list[tuple[str, str]](), str(action.role.value), None
        listed = clause(action.options, ast.OptionsOpt, "options")
        options = {o.name.text: o.approves for o in listed} if listed else {"approve": True, "decline": False}
        needs: list[tuple[int, str]] = []
        while True:
            if self.stopping:
                raise Stop
            self.text(action.text)
            if action.call is not None:
                tool = run.tools[action.call.tool.text]
                call = Call.of(tool, given(action.call, tool.params, self.names()))
                said = [agent.demands(self, call) for agent in self.agent.around]
                if None in said or any(ask for demands in said[1:] for ask in demands[0]):  # §11.4
                    run.denied.append((self.path, call.name))
                    return Outcome("denied", error="Denied")
                needs = said[0][1]
            if (yield BEGIN):
                break
        if call is not None and not all(fits() for fits in call.last):  # §5.7
            run.denied.append((self.path, call.name))
            return Outcome("denied", error="Denied")
        key, asked, ends = self.key, run.now, run.now + timeout_of(action.options)

        def answer(option: str, person: str) -> None:  # §4.2, §4.4, §4.5
            if self.key != key or self.outcome is not None or self.landed is not None or self.over:
                return
            if call is not None and options[option]:
                voices.append((person, role))
                if any(sum(r == role for _, r in set(voices)) < n for n, role in needs):
                    return
                grant = {"state": self.here, "bind": bind_of(action), "call": call, "voices": voices}
                run.grants.append(SimpleNamespace(**grant, agent=self.agent, until=run.now + ends - asked))  # §4.6
            value = {"option": option, "by": person, "at": Quantity(Decimal(run.now), "at")}
            self.landed = Outcome("answered", value, option=option)

        run.wake(ends)
        for after, option, person in run.world.answers(key, list(options)):
            run.push(run.now + after, 2, key, partial(answer, option, person))
        yield DECIDED
        return (yield from self.until(lambda: self.late(ends) or self.noticed()))

    def late(self, ends: int) -> Outcome | None:
        """A timeout, when it is time."""
        return Outcome("timeout", error="Timeout") if self.run.now >= ends else None

    def noticed(self) -> Outcome | None:
        """That an event came for an `on event` edge, if one did."""
        self.event = self.take_event()
        return None if self.event is None else Outcome("event")

    def wait(self, action: Any) -> Steps:
        """For a time (§7)."""
        until = getattr(action, "until", None)
        ends = self.entered + number(action.duration) if until is None else plain(evaluate(until, self.names()))
        self.run.wake(int(ends))
        return (yield from self.until(lambda: self.noticed() or (self.late(ends) and Outcome("ok"))))

    def wait_event(self, action: ast.WaitEvent) -> Steps:
        """For an event (§7)."""
        ends, name = self.entered + timeout_of(action.options), action.event.text
        self.run.wake(ends)

        def came() -> Outcome | None:
            event = self.take_event(name)
            return None if event is None else Outcome("ok", event[1])

        return (yield from self.until(lambda: came() or self.noticed() or self.late(ends)))

    def emit(self, action: ast.EmitAction) -> Steps:
        """Say something to whoever follows the run."""
        name = action.call.tool.text
        decl = next(e for e in clauses(self.agent.decl.members, ast.EmitsDecl) if e.name.text == name)
        self.run.emitted.append((name, given(action.call, decl.params, self.names())))
        yield from ()
        return Outcome("ok")

    # ---- frames below this one (§10, §11)

    def below(self, key: str) -> str:
        """The path of a frame that the present attempt opens (§10.2)."""
        again = f".{self.attempt}" if self.attempt > 1 else ""
        return f"{self.path + '/' if self.path else ''}{self.here}@{self.visit}{again}/{key}"

    def fan(
        self,
        opens: dict[str, Callable[[str], Frame]],
        judge: Any,
        late: str,
        within: Any,
        at_once: int,
    ) -> Steps:
        """Opens these frames, so many at a time, until `judge` says how it went (an error, or ok), or it is too late;
        then the rest is cancelled. Gives how it went, and how each frame has ended. A success counts though nobody
        waits for it any more (§10.7)."""
        frames, verdict, ends = dict[str, Frame](), "", self.run.now + within
        self.run.wake(ends)
        while True:
            alive = [frame for frame in frames.values() if not frame.over]
            ended = {key: frame.closed or Closed("cancelled") for key, frame in frames.items() if frame.over}
            if not verdict and not self.stopping:
                ending = any(frame.closed is not None for frame in alive)
                verdict = judge(ended) or (late if self.run.now >= ends and not ending else "")
            if self.stopping or verdict:
                for frame in alive:
                    frame.cancelled = True
                if not alive and self.stopping and (verdict or judge(ended)) != "ok":
                    raise Stop
                if not alive:
                    return verdict or "ok", ended
            elif len(frames) < len(opens) and len(alive) < at_once:
                key = list(opens)[len(frames)]
                frames[key] = opens[key](self.below(key))
                self.run.ask(frames[key].path, False)  # it enters its first state at once
                yield DECIDED
                continue
            yield IDLE

    def body(self, body: Iterable[Any], names: Names, path: str) -> Frame:
        """A branch or an item: it sees the variables as they are (§10.3)."""
        return Thread(self.run, path, self.agent, states_of(body), {**self.vars, **names})

    def parallel(self, action: ast.ParallelDecl) -> Steps:
        """§10.6."""
        branches, join = clauses(action.members, ast.Branch), clause(action.members, ast.Join)
        need = {"all": len(branches), "any": 1}.get(join.mode) or number(join.k)

        def judge(ended: dict[str, Closed]) -> str:
            done = sum(closed.how == "done" for closed in ended.values())
            return "ok" if done >= need else "JoinFailed" if len(branches) - len(ended) + done < need else ""

        opens = {branch.name.text: partial(self.body, branch.body, {}) for branch in branches}
        within, values = number(join.within, FOREVER), {}
        verdict, ended = yield from self.fan(opens, judge, "JoinFailed", within, len(branches))
        try:
            for branch in (branch for branch in branches if branch.bind is not None and verdict == "ok"):  # §10.8
                closed = ended.get(branch.name.text, Closed("cancelled"))
                if closed.how == "done" and closed.value is not NOTHING:
                    values[branch.bind.text] = closed.value
                elif branch.default is not None:
                    values[branch.bind.text] = evaluate(branch.default, self.names())
        except NoValue:
            verdict = "JoinFailed"
        return Outcome("ok", values) if verdict == "ok" else Outcome("failed", error=verdict)

    def each(self, action: ast.EachAction) -> Steps:
        """§10.6: the values of what is done, in the order of the list."""
        items = evaluate(action.source, self.names())

        def judge(ended: dict[str, Closed]) -> str:
            failed = [closed for closed in self.run.ended if closed.how == "failed" and closed in ended.values()]
            whole = len(ended) == len(items) and all(closed.how != "cancelled" for closed in ended.values())
            return failed[0].error if failed else "ok" if whole else ""

        opens = {str(n): partial(self.body, action.body, {action.item.text: v}) for n, v in enumerate(items)}
        late, at_once = timeout_of(action.options), number(action.at_once, 1)
        verdict, ended = yield from self.fan(opens, judge, "Timeout", late, at_once)
        if verdict != "ok":
            return Outcome("failed", error=verdict)
        values = [ended[key].value for key in opens if ended[key].how == "done" and ended[key].value is not NOTHING]
        return Outcome("ok", [one for many in values for one in many] if action.flat else values)

    def child(self, action: ast.RunAction) -> Steps:
        """§11, with its own further attempts."""
        decl, options = self.run.agents[action.call.tool.text], action.options
        needed = [p for d in clauses(decl.members, ast.InputDecl) for p in d.params]
        inputs = given(action.call, needed, self.names())
        open_ = partial(self.run.open, decl, self, clause(options, ast.Budget), inputs)

        def judge(ended: dict[str, Closed]) -> str:
            return next(("ok" if closed.how == "done" else "ChildFailed" for closed in ended.values()), "")

        while not self.stopping:
            fan = self.fan({decl.name.text: open_}, judge, "Timeout", timeout_of(options), 1)
            verdict, ended = yield from fan
            if verdict == "ok":
                outputs = dict.fromkeys(params(decl, ast.OutputDecl))
                return Outcome("ok", {**outputs, **ended[decl.name.text].value})
            rule, self.at = self.rule_for(clauses(options, ast.RetryClause), verdict), self.run.now
            if rule is None:
                return Outcome("failed", error=verdict)
            yield from self.back_off(rule)
        raise Stop

    def undo_all(self, action: ast.UndoAllAction) -> Steps:
        """§12.2: what is in doubt is resolved first, then what can be taken back is, the latest first."""
        for n in range(FOREVER):
            doubts = sorted((d for d in self.run.doubts if self.agent in d.agent.around), key=lambda d: (d.at, d.key))
            undo = [entry for entry in reversed(self.run.undo) if self.agent in entry.agent.around]
            if not doubts and not undo:
                break
            opens = {str(n): partial(Undoing, self, [*doubts, *undo][0])}
            yield from self.fan(opens, lambda ended: "ok" if ended else "", "", FOREVER, 1)
        return Outcome("ok")

    def settle(self, doubt: Doubt) -> Steps:
        """Whether a call happened that another frame has left in doubt; it is not made again for that (§12.2)."""
        if doubt not in self.run.doubts:  # a person said that it did not
            return Outcome("failed")
        self.run.doubts.remove(doubt)
        self.begun = doubt.at
        return (yield from self.resolve(doubt.call)) or Outcome("failed")

    def last(self, calls: list[Any]) -> Frame:
        """A frame that makes the calls of a `finally`."""
        return Finally(self, self.below("finally"), calls)


class Undoing(Thread):
    """A call that takes another back (§12.3), or that finds out whether one in doubt happened (§12.2)."""

    spare = True

    def __init__(self, around: Frame, entry: Undo | Doubt, path: str) -> None:
        super().__init__(around.run, path, around.agent, {"undo": made("undo", entry)}, {})
        self.entry, self.undoes = entry, entry.undoes if isinstance(entry, Doubt) else entry

    @property
    def leaving(self) -> bool:
        """What was taken back must not be taken back again."""
        return super().leaving or (self.outcome is not None and self.outcome.kind == "ok")

    def leave(self, here: Any) -> Way:
        kind = self.outcome.kind if self.outcome is not None else "failed"
        if kind == "in_doubt":
            raise Park("settle")
        if self.undoes in self.run.undo and (kind == "ok" or self.undoes is self.entry):
            self.run.undo.remove(self.undoes)
        raise Closed("done" if kind == "ok" else "failed")


class Finally(Thread):
    """The calls of `finally`, one after the other, whatever comes of each (§13)."""

    spare = True

    def __init__(self, around: Frame, path: str, calls: list[Any]) -> None:
        states = {f"finally_{n}": made(f"finally_{n}", call) for n, call in enumerate(calls, 1)}
        states["finally_end"] = made("finally_end")
        super().__init__(around.run, path, around.agent, states, around.vars)

    def leave(self, here: Any) -> Way:
        if self.here == "finally_end":
            raise Closed("done")
        return Way(list(self.states)[self.visit], self.vars)


ACTIONS: dict[type, Callable[[Any, Any], Steps]] = {
    **dict.fromkeys((ast.CallAction, ast.CallApprovedAction, ast.ThinkAction, Undo), Thread.call),
    **dict.fromkeys((ast.WaitFor, ast.WaitUntil), Thread.wait),
    ast.WaitEvent: Thread.wait_event,
    ast.AskAction: Thread.ask,
    ast.EmitAction: Thread.emit,
    ast.RunAction: Thread.child,
    ast.EachAction: Thread.each,
    ast.ParallelDecl: Thread.parallel,
    ast.UndoAllAction: Thread.undo_all,
    Doubt: Thread.settle,
}
