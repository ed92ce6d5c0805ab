"""The policy alone, as a fence around any agent: decide a call, tell what was called, with no run beside it.

    fence = Fence(definition, principal={"id": "ann", "roles": ["clerk"]})
    decision = fence.decide("refund", {"order": "o1", "amount": "20.00 USD"})
    if decision.verdict == "allowed":
        result = refund(...)
        fence.record("refund", {"order": "o1", "amount": "20.00 USD"}, result=result)

Everything is decided by the same code as in a run (`kernel.rules`), over the same monitors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from jamjet_dsl.definition import Definition, Scalar, Type
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import monitors, rules
from jamjet_dsl.kernel.draft import Draft
from jamjet_dsl.kernel.errors import named_error
from jamjet_dsl.kernel.model import Frame, Grant, RunState, Share
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.records import check_args, digest_of
from jamjet_dsl.kernel.rules import Decision
from jamjet_dsl.kernel.scope import ATTESTED, UNTRUSTED, scope_of
from jamjet_dsl.kernel.values import from_public, to_journal

__all__ = ["Decision", "Fence", "Ledger", "decide_call"]

_ANY = Scalar(kind="any")


class Ledger:
    """What was used of limits that all runs of a principal share, for all fences that are given it. Not for use by
    several threads at once."""

    def __init__(self) -> None:
        self._uses: dict[tuple[str, str, str], list[tuple[int, Decimal]]] = {}

    def add(self, who: str, shares: Iterable[Share], at_ms: int) -> None:
        """A call was made that counts there: once, where two limits count the same."""
        for (counter, group), amount in {(share.counter, share.group): share.amount for share in shares}.items():
            self._uses.setdefault((who, counter, group), []).append((at_ms, Decimal(amount)))

    def used(self, who: str, share: Share, now_ms: int) -> tuple[int, Decimal]:
        """What was used until now: calls and total."""
        uses = self._uses.get((who, share.counter, share.group), ())
        found = [amount for at_ms, amount in uses if share.since_ms < at_ms <= now_ms]
        return len(found), sum(found, Decimal(0))


class Fence:
    """A policy and the history of the calls it has to know. Not for use by several threads at once."""

    def __init__(
        self,
        definition: Definition,
        *,
        principal: Mapping[str, Any] | None = None,
        variables: Mapping[str, Any] | None = None,
        now_ms: int = 0,
        ledger: Ledger | None = None,
    ) -> None:
        """`variables` are what conditions may name beside `args` and `principal`; `now_ms` is the time of the
        first call (milliseconds since 1970). A limit `per principal` counts the calls of all fences with one
        `ledger` and one principal; without a ledger this fence is all there is."""
        self.program = Program.of(definition)
        if not isinstance(principal, Mapping | None):
            raise _malformed("a principal", 'write {"id": name, "roles": [...]}')
        who = {"id": "", "roles": [], **(principal or {})}
        state = RunState("fence", agent=self.program.agent.name, principal=who, now_ms=now_ms, started_ms=now_ms)
        # One draft for good: nobody else has seen its parts, so nothing is copied for each call that is told.
        self._draft = Draft(state)
        self._state = self._draft.state
        self._types = {**{f.name: f.type for f in self.program.agent.inputs}, **self.program.main.types}
        self._state.vars = {name: self._value(name, value) for name, value in (variables or {}).items()}
        self._frame = Frame("", "")
        self._ledger = Ledger() if ledger is None else ledger
        self._last: tuple[str, str, Decision] | None = None

    def decide(
        self,
        tool: str,
        args: Mapping[str, Any],
        *,
        approved: bool = False,
        approvals: Iterable[Mapping[str, Any]] = (),
        attested: Iterable[str] = (),
        untrusted: Iterable[str] = (),
        facts: Mapping[str, Any] | None = None,
        read: Callable[[str, dict[str, Any]], Any] | None = None,
        at_ms: int | None = None,
    ) -> Decision:
        """Decides a call with these arguments (JSON or values) at a time (milliseconds since 1970).

        `approvals` were given for exactly this call: `{"ask": state, "by": id, "roles": [...]}`; `approved` stands
        for every approval that the rules want. `attested` are the parameters whose value a person gave, `untrusted`
        those that outside text had a part in; what is named in neither is neither. Facts come from `facts` by name,
        else from `read(tool, args)`. An error in place of one, or that `read` raises, says that there is none if the
        tool `raises` it (by its class's name, or a `ToolError` of that name), and `has` is false then. One that failed
        otherwise, that neither gives, or that is not of its type could be anything: what asks for it denies.

        Raises JamError JAMR006 for what nothing can be decided by: a tool that is not declared, an approval that does
        not say by whom, a name in `attested` or `untrusted` that is none of the tool's parameters.
        """
        values, problems = self._arguments(tool, args)
        if problems:
            return Decision("denied", (), "; ".join(problems))
        if at_ms is not None:
            self._state.now_ms = max(at_ms, self._state.now_ms)
        digest = digest_of(tool, to_journal(values))
        grants = self._grants(digest, tool, approvals)
        scope = scope_of(self.program, self._state, self._frame).nested({}, _origins(tool, values, attested, untrusted))
        draft = Draft(self._state)
        misfits: list[str] = []
        while True:
            answer = rules.decide(self.program, draft.state, "", scope, "#1.1", tool, values, grants)
            if isinstance(answer, Decision):
                if not answer.shared or draft.state.counted is not None:
                    break
                draft.state.counted = self._counted(answer)
                continue
            draft.own("facts")[answer.key] = self._fact(answer, facts or {}, read, misfits)
        self._last = tool, digest, answer
        if approved and answer.verdict == "needs_approval":
            return replace(answer, verdict="allowed", reason="approved: " + answer.reason)
        if misfits and answer.verdict == "denied":
            return replace(answer, reason="; ".join([answer.reason, *misfits]))
        return answer

    def turn(self) -> None:
        """The model has answered anew: what is limited `per turn` is counted from here on."""
        monitors.new_turn(self.program, self._draft, "")

    def know(self, name: str, value: Any, *, attested: bool = False, untrusted: bool = False) -> None:
        """Sets an input or a variable of the agent, for every later decision, and says where its value came from.

        Raises JamError: JAMR006 for a name that the agent does not have, JAMR301 for a value of another type.
        """
        if name not in self._types:
            raise JamError("JAMR006", f"the agent has no input or variable `{name}`", "name one that it declares")
        found = self._value(name, value)
        flags = frozenset(f for f, there in ((ATTESTED, attested), (UNTRUSTED, untrusted)) if there)
        self._draft.own("vars")[name] = found
        self._draft.own("provenance")[name] = flags

    def record(
        self, tool: str, args: Mapping[str, Any], *, ok: bool = True, result: Any = None, at_ms: int | None = None
    ) -> None:
        """Tells that a call was made, allowed or not, and what came of it. Time never goes back.

        Raises JamError: JAMR006 for a tool that is not declared; JAMR301 for a call that a limit cannot count, since
        its arguments do not fit the tool. Whatever else can be counted of it is.
        """
        values, problems = self._arguments(tool, args)
        draft, fitting = self._draft, values
        if at_ms is not None:
            draft.state.now_ms = max(at_ms, draft.state.now_ms)
        if problems:
            values, fitting = self._as_they_are(tool, args)
        limits, shared = self._counts(tool, fitting)
        for index, group, size in limits:
            limit = (self.program.agent.rules or ())[index].limit
            assert limit is not None
            monitors.limit_take(draft, "", index, limit, group, size)
        self._last = None
        self._ledger.add(self._state.principal["id"], shared, self._state.now_ms)
        monitors.count(self.program, draft, "", "attempted", tool, values)
        monitors.count(self.program, draft, "", "succeeded" if ok else "failed", tool, values)
        if ok:
            draft.state.seq += 1
            value = self._typed(result, self.program.defn.tools[tool].result)
            monitors.remember(self.program, draft, "", tool, values, to_journal(value))
        if problems and len(limits) < len(rules.docket_of(self.program.main, tool).limits):
            raise JamError(
                "JAMR301",
                f"a call of `{tool}` was made with arguments that do not fit it, and a limit cannot count it",
                "decide a call before it is made, and make none that is denied",
                tuple(problems),
            )

    def _counts(self, tool: str, values: dict[str, Any]) -> tuple[tuple[tuple[int, str, str], ...], tuple[Share, ...]]:
        """What a call counts under: what was decided, if it was the last one that was. Its limits may read facts."""
        if self._last is not None and self._last[:2] == (tool, digest_of(tool, to_journal(values))):
            return self._last[2].limits, self._last[2].shared
        scope = scope_of(self.program, self._state, self._frame).nested({"args": values})
        return rules.limits_of(self.program, self._state, "", scope, tool)

    def _counted(self, decision: Decision) -> dict[str, Any]:
        """What was used of shared limits, as `counted` would say it."""
        who, now_ms = self._state.principal["id"], self._state.now_ms
        used = []
        for share in decision.shared:
            calls, total = self._ledger.used(who, share, now_ms)
            used.append([share.home, share.rule, calls, str(total)])
        return {"cmd": "#1.1", "used": used}

    def _arguments(self, tool: str, args: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        if not isinstance(tool, str) or tool not in self.program.defn.tools:
            raise JamError("JAMR006", f"the program declares no tool `{tool}`", "declare it, with its effect")
        if not isinstance(args, Mapping):
            return {}, [f"the arguments of `{tool}` are no record"]
        return check_args(self.program, tool, args)

    def _as_they_are(self, tool: str, args: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arguments that do not fit: what is said in them, as far as it is plain data, and those that fit by
        themselves."""
        given: dict[Any, Any] = dict(args) if isinstance(args, Mapping) else {}
        types = {name: type_ for name, type_, *_ in self.program.callee(tool).params}
        plain, fitting = dict[str, Any](), dict[str, Any]()
        for name, value in given.items():
            for found, type_ in ((plain, _ANY), (fitting, types.get(name))):
                problems: list[str] = []
                read = None if type_ is None else from_public(value, type_, self.program.defn, "", problems)
                if type_ is not None and not problems:
                    found[str(name)] = read
        return {**plain, **fitting}, fitting

    def _grants(self, digest: str, tool: str, approvals: Iterable[Mapping[str, Any]]) -> list[Grant]:
        """Each approval as a grant of exactly the call with that digest. Raises JamError JAMR006 for what is none."""
        call, now = {"tool": tool, "digest": digest}, self._state.now_ms
        found = []
        for n, given in enumerate(_listed(approvals, "approvals")):
            _object(given, "an approval", ("ask", "by", "roles"))
            by, ask = given.get("by", ""), given.get("ask") or ""
            if not isinstance(by, str) or not isinstance(ask, str):
                raise _malformed("an approval", 'write {"ask": state, "by": name, "roles": [...]}')
            people = [{"by": by, "roles": _names(given.get("roles", ()), "roles")}]
            found.append(Grant(f"g{n}", ask, None, call, by, now, None, people))
        return found

    def _fact(
        self,
        missing: rules.Missing,
        facts: Mapping[str, Any],
        read: Callable[[str, dict[str, Any]], Any] | None,
        misfits: list[str],
    ) -> dict[str, Any]:
        entry: dict[str, Any] = {"at_ms": self._state.now_ms, "cmd": "#1.1"}
        tool = self.program.defn.tools[missing.tool]
        if missing.name in facts:
            value = facts[missing.name]
        elif read is not None:
            try:
                value = read(missing.tool, missing.args)
            except Exception as problem:  # whatever it was: the fact has no value
                value = problem
        else:
            return {**entry, "error": "Unavailable"}
        if isinstance(value, Exception):
            return {**entry, "error": named_error(value, tool.raises) or "Crashed"}
        problems: list[str] = []
        type_ = tool.result or _ANY
        result = from_public(value, type_, self.program.defn, missing.name, problems)
        misfits.extend(f"the fact {problem}" for problem in problems)
        return {**entry, "error": "InvalidOutput"} if problems else {**entry, "result": to_journal(result)}

    def _typed(self, value: Any, type_: Type | None) -> Any:
        """A recorded result as its type has it; where it does not fit (a redacted log), as plain data."""
        problems: list[str] = []
        found = from_public(value, type_ or _ANY, self.program.defn, "", problems)
        return from_public(value, _ANY, self.program.defn, "", []) if problems else found

    def _value(self, name: str, value: Any) -> Any:
        problems: list[str] = []
        found = from_public(value, self._types.get(name, _ANY), self.program.defn, name, problems)
        if problems:
            raise JamError("JAMR301", f"`{name}` does not fit its type", details=tuple(problems))
        return found


def _origins(
    tool: str, values: Mapping[str, Any], attested: Iterable[str], untrusted: Iterable[str]
) -> dict[str, frozenset[str]]:
    """By path (`args.p`), where the value of each of these parameters came from. Raises JamError JAMR006 for a name
    that is none of them: nothing would be known of the parameter that was meant."""
    found: dict[str, frozenset[str]] = {}
    for flag, names in ((ATTESTED, attested), (UNTRUSTED, untrusted)):
        for name in _names(names, flag):
            if name not in values:
                raise JamError("JAMR006", f"`{tool}` has no parameter `{name}` that could be {flag}")
            found[f"args.{name}"] = found.get(f"args.{name}", frozenset()) | {flag}
    return found


def decide_call(
    definition: Definition,
    history: Iterable[Mapping[str, Any]],
    call: Mapping[str, Any],
    *,
    principal: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    now_ms: int = 0,
) -> Decision:
    """Decides one call after a history of calls.

    Calls are `{"tool", "args"}`; those of the history may also have `ok` (default true), `result` and `at_ms`, the one
    to decide `approved`, `approvals`, `attested` and `untrusted`, as `Fence.decide` takes them. For a stream of calls
    keep a `Fence`, which does not go through the history again for each.

    Raises JamError: JAMR006 for what is no call or says something else, and what `Fence.record` raises.
    """
    fence = Fence(definition, principal=principal, variables=variables)
    for past in history:
        said, ok, at_ms = _call(past, _PAST), past.get("ok", True), past.get("at_ms")
        if not isinstance(ok, bool) or not (at_ms is None or type(at_ms) is int):
            raise _malformed("a past call", "`ok` is true or false, `at_ms` are milliseconds since 1970")
        fence.record(said["tool"], said["args"], ok=ok, result=said.get("result"), at_ms=at_ms)
    said = _call(call, _WISHED)
    if not isinstance(said.get("approved", False), bool):
        raise _malformed("a call", "`approved` is true or false")
    told = {name: said[name] for name in _WISHED if name in said}
    return fence.decide(said["tool"], said["args"], facts=facts, at_ms=now_ms, **told)


_WISHED = ("approved", "approvals", "attested", "untrusted")
_PAST = ("ok", "result", "at_ms", *_WISHED)
"""What calls may say beside tool and arguments. A past one may be what was decided, with what came of it."""


def _call(given: Any, known: tuple[str, ...]) -> Mapping[str, Any]:
    said = _object(given, "a call", ("tool", "args", *known))
    if "tool" not in said or "args" not in said:
        raise _malformed("a call", 'write {"tool": name, "args": {...}}')
    return said


def _object(given: Any, what: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    """What is given, if it is an object with no other fields than these: a misspelt one would not be heeded."""
    if not isinstance(given, Mapping):
        raise _malformed(what, f"it is an object with {', '.join(known)}")
    for name in given:
        if name not in known:
            raise _malformed(what, f"it has no `{name}`; known are {', '.join(known)}")
    return given


def _listed(given: Any, what: str) -> list[Any]:
    """The items of what is given. The letters of a text are none."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise _malformed(f"`{what}`", "it is a list")
    return list(given)


def _names(given: Any, what: str) -> list[str]:
    found = _listed(given, what)
    if not all(isinstance(name, str) for name in found):
        raise _malformed(f"`{what}`", "it is a list of names")
    return found


def _malformed(what: str, help: str) -> JamError:
    return JamError("JAMR006", f"{what} is not what it should be", help)
