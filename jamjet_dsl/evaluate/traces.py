"""Recorded calls of any agent, decided by the policy of a `.jam` file. Nothing is called, nothing is stored.

A *trace* is one JSON object: a sequence of calls as some agent made them.

    {"id": "t-1", "principal": {"id": "ann", "roles": ["clerk"]}, "variables": {"customer": "c-7"},
     "calls": [{"tool": "get_order", "args": {"id": "o-1"}, "result": {…}},
               {"tool": "refund", "args": {"id": "o-1", "amount": "20.00 USD"}, "ok": false, "confirm": true,
                "facts": {"order": {"status": "open"}}, "attested": {"amount": "20.00 USD"},
                "at": "2026-11-23T08:00:00Z"}]}

Each call is decided after those before it, as they are said to have been made: a call that this policy denies, and
that was made all the same, stands in the history of the next. What a call says is described at `_Call`; short names
(`t`, `a`, `out`, `user`) stand for the long ones, and names that mean nothing here are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jamjet_dsl.definition import Compiled
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.errors import ToolError
from jamjet_dsl.kernel.policy import Fence, Ledger
from jamjet_dsl.kernel.rules import Verdict
from jamjet_dsl.kernel.scalars import EvalError, parse_timestamp

_HELP = 'a trace is {"id": …, "calls": [{"tool": …, "args": {…}}]}: see docs/policy.md'
_MS = 1_000_000
_LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What the policy says of one call: `call` is its place in the trace, from 0; `rules` are `file:line`."""

    call: int
    tool: str
    decision: Verdict
    rules: tuple[str, ...]
    reason: str

    def as_json(self) -> dict[str, Any]:
        """The form of `jam policy test --format json`."""
        return {
            "call": self.call,
            "tool": self.tool,
            "decision": self.decision,
            "rules": list(self.rules),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """What the policy says of the calls of one trace, in their order."""

    id: str
    decisions: tuple[Decided, ...]

    def as_json(self) -> dict[str, Any]:
        """The form of `jam policy test --format json`."""
        return {"id": self.id, "decisions": [decided.as_json() for decided in self.decisions]}


@dataclass(slots=True)
class Tally:
    """How often a rule decided, by what was decided. `decides`: there are calls that it could decide, as a fact or a
    `redact` never does."""

    place: str
    text: str
    decides: bool
    counts: dict[Verdict, int] = field(default_factory=dict)


class Judge:
    """The policy of a program, over any number of traces. Each trace has a history of its own, as a run has; what a
    limit counts `per principal` it counts in all traces of that principal, in the order in which they are judged."""

    def __init__(self, compiled: Compiled, now_ms: int) -> None:
        """`now_ms` is the time of traces in which no call says its own (milliseconds since 1970)."""
        self._defn = compiled.definition
        self._now_ms = now_ms
        agent = self._defn.agent
        self._variables = {*(f.name for f in agent.inputs), *(v.name for v in agent.vars)}
        self.verdicts: dict[Verdict, int] = {}
        self._ledger = Ledger()
        self._rules = [
            Tally(*_place(compiled, f"{agent.name}/rules/{n}", rule.kind), rule.kind not in ("fact", "redact"))
            for n, rule in enumerate(agent.rules or ())
        ]
        self._none = Tally("", "no rule: nothing allows the call, or it is no call of a declared tool", False)

    @property
    def tallies(self) -> list[Tally]:
        """How often each rule decided, in the order of the program; last, the calls that no rule decided."""
        return [*self._rules, self._none]

    def judge(self, trace: Any, name: str) -> Judged:
        """Decides every call of a trace (parsed JSON, numbers with a fraction as `Decimal`); `name` is its id if it has
        none. Raises JamError JAMR301 for what is no trace, and counts nothing of it then."""
        if not isinstance(trace, dict):
            raise JamError("JAMR301", "it is no JSON object", _HELP)
        calls = trace.get("calls")
        if not isinstance(calls, list):
            raise JamError("JAMR301", "`calls` is not a list", _HELP)
        read = [self._read(n, call) for n, call in enumerate(calls)]
        try:
            named, principal, variables = _id(trace, name), _principal(trace), _values(trace, "variables")
        except ValueError as problem:
            raise JamError("JAMR301", str(problem), _HELP) from None
        # A call that does not say its time was made when the one before it was.
        began = next((call.at_ms for call in read if call.at_ms is not None), self._now_ms)
        fence = Fence(self._defn, principal=principal, variables=variables, now_ms=began, ledger=self._ledger)
        found = list(self._decisions(fence, read, variables))
        for decided, rules in found:
            _count(self.verdicts, decided.decision)
            for tally in [self._rules[rule] for rule in rules] or [self._none]:
                _count(tally.counts, decided.decision)
        return Judged(named, tuple(decided for decided, _ in found))

    def _read(self, number: int, call: Any) -> _Call:
        try:
            return _Call.of(call)
        except ValueError as problem:
            raise JamError("JAMR301", f"call {number}: {problem}", _HELP) from None

    def _decisions(
        self, fence: Fence, calls: list[_Call], variables: Mapping[str, Any]
    ) -> Iterator[tuple[Decided, tuple[int, ...]]]:
        """Each call decided, and by which rules."""
        turn: Any = None
        for number, call in enumerate(calls):
            if number and not (call.parallel or (call.turn is not None and call.turn == turn)):
                fence.turn()
            turn = call.turn
            yield self._decided(fence, number, call, variables)

    def _decided(
        self, fence: Fence, number: int, call: _Call, variables: Mapping[str, Any]
    ) -> tuple[Decided, tuple[int, ...]]:
        for name, value in call.told(variables).items():
            if name in self._variables:
                fence.know(name, value, attested=True)
        if call.tool not in self._defn.tools:
            # Nothing is known of it, not even whether it writes, so no rule can speak of it.
            return Decided(number, call.tool, "denied", (), f"the program declares no tool `{call.tool}`"), ()
        decision = fence.decide(
            call.tool,
            call.args,
            approved=call.approved,
            approvals=call.approvals,
            attested=[n for n, v in call.told(call.args).items() if n in call.args and _same(v, call.args[n])],
            untrusted=call.untrusted,
            facts=call.facts,
            read=lambda tool, args: self._given(call, tool, args),
            at_ms=call.at_ms,
        )
        reason = decision.reason
        try:
            fence.record(call.tool, call.args, ok=call.ok, result=call.result, at_ms=call.at_ms)
        except JamError as error:  # such a call was denied already, and others may be judged all the same
            reason = f"{reason}; {error.message}"
        places = tuple(dict.fromkeys(self._rules[rule].place for rule in decision.rules))
        return Decided(number, call.tool, decision.verdict, places, reason), decision.rules

    def _given(self, call: _Call, tool: str, args: Mapping[str, Any]) -> Any:
        """A fact that the trace does not say: where its read is the very call that is decided, what that gave."""
        if (tool, args) != (call.tool, call.args) or (call.ok and call.result is None):
            raise ToolError("Unavailable")
        if not call.ok:
            raise ToolError(next(iter(self._defn.tools[tool].raises), "Crashed"))
        return call.result


def _count(counts: dict[Verdict, int], verdict: Verdict) -> None:
    counts[verdict] = counts.get(verdict, 0) + 1


def _place(compiled: Compiled, key: str, kind: str) -> tuple[str, str]:
    """`file:line` of a rule, and its text on one line."""
    span = compiled.spans[key]
    lines = compiled.sources[span.file].splitlines()[span.line - 1 : span.end_line]
    if span.end_line == span.line:
        lines = [lines[0][span.column - 1 : span.end_column - 1]]
    else:
        lines = [lines[0][span.column - 1 :], *lines[1:-1], lines[-1][: span.end_column - 1]]
    text = " ".join(" ".join(lines).split())
    # Of `limit A, B` and `redact x, y` each part is a rule, and its place begins behind the word.
    return f"{span.file}:{span.line}", text if kind not in ("limit", "redact") else f"{kind} {text}"


# ---- reading


@dataclass(frozen=True, slots=True)
class _Call:
    """One recorded call.

    tool (t)      the name of the tool
    args (a)      its arguments; left out: none
    ok            whether the tool did it: true or false, 1 or 0; left out: it did
    result (out)  what it gave, for rules that read it
    confirm       its approval: true (1) for every approval that the rules want, or a list of those that were given,
                  `{"by": "ann", "roles": ["officer"], "ask": "review"}`
    facts         the policy's facts by name, as they were at that moment. One that is not there could be anything
    fact_errors   the errors that reads of facts ended with, by name: one that the tool `raises` says that there is none
    attested      the values that a person gave, by parameter or variable: an argument is attested if it is this value.
                  Or a list of such values, or of the names of what holds them
    untrusted     a list of the parameters that text from outside had a part in
    at            when: RFC 3339 with a zone, or milliseconds since 1970; left out: when the one before it was made.
                  Time never goes back within a trace
    turn          calls with equal values after each other were proposed in one answer of the model; or
    parallel      true (1): in the same answer as the call before. Without either a call is an answer of its own
    """

    tool: str
    args: dict[str, Any]
    ok: bool
    result: Any
    approved: bool
    approvals: list[dict[str, Any]]
    facts: dict[str, Any]
    attested: dict[str, Any] | list[Any]
    untrusted: list[str]
    at_ms: int | None
    turn: Any
    parallel: bool

    @classmethod
    def of(cls, call: Any) -> _Call:
        """A call as it was read. Raises ValueError for what is none."""
        if not isinstance(call, dict):
            raise ValueError("it is no JSON object")
        tool = _named(call, "tool", "t")
        args = _named(call, "args", "a")
        if not isinstance(tool, str):
            raise ValueError("`tool` is not a text")
        if args is not None and not isinstance(args, dict):
            raise ValueError("`args` is not an object")
        confirm, attested = call.get("confirm"), call.get("attested")
        listed = isinstance(confirm, list)
        return cls(
            tool,
            args or {},
            _flag(call, "ok", True),
            _named(call, "result", "out"),
            False if listed else _flag(call, "confirm", False),
            [_approval(given) for given in confirm] if isinstance(confirm, list) else [],
            {**_values(call, "facts"), **_errors(call)},
            attested if isinstance(attested, list) else _values(call, "attested"),
            _names(call, "untrusted"),
            time_ms(call["at"]) if call.get("at") is not None else None,
            call.get("turn"),
            _flag(call, "parallel", False),
        )

    def told(self, known: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a person gave, by name. A list of values says so of each of these that holds one of them."""
        if isinstance(self.attested, dict):
            return self.attested
        given = self.attested
        return {name: v for name, v in known.items() if any(item == name or _same(item, v) for item in given)}


def time_ms(value: Any) -> int:
    """A time as a trace or the command line gives it: RFC 3339 with a zone, or milliseconds since 1970.

    Raises ValueError for anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= _LATEST_MS:
            raise ValueError(f"{value} are no milliseconds since 1970")
        return value
    if not isinstance(value, str):
        raise ValueError("a time is RFC 3339 with a zone, or milliseconds since 1970")
    try:
        return parse_timestamp(value).ns // _MS
    except EvalError as problem:
        raise ValueError(problem.message) from None


def _named(call: Mapping[str, Any], name: str, short: str) -> Any:
    if name in call and short in call:
        raise ValueError(f"`{name}` and `{short}` are one and the same")
    return call.get(name, call.get(short))


def _flag(call: Mapping[str, Any], name: str, otherwise: bool) -> bool:
    value = call.get(name)
    if value is None:
        return otherwise
    if not isinstance(value, int) or value not in (0, 1):
        raise ValueError(f"`{name}` is neither true nor false")
    return bool(value)


def _values(call: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = call.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"`{name}` is not an object")
    return value


def _errors(call: Mapping[str, Any]) -> dict[str, Any]:
    errors = _values(call, "fact_errors")
    if not all(isinstance(name, str) for name in errors.values()):
        raise ValueError("`fact_errors` is not an object of names of errors")
    return {fact: ToolError(name) for fact, name in errors.items()}


def _names(call: Mapping[str, Any], name: str) -> list[str]:
    value = call.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"`{name}` is not a list of names")
    return value


def _approval(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict) or not isinstance(given.get("by"), str):
        raise ValueError("an approval in `confirm` does not say `by` whom")
    return {"by": given["by"], "roles": _names(given, "roles"), "ask": given.get("ask")}


def _id(trace: Mapping[str, Any], otherwise: str) -> str:
    given = trace.get("id")
    if given is None:
        return otherwise
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise ValueError("`id` is neither a text nor a whole number")
    return str(given)


def _principal(trace: Mapping[str, Any]) -> dict[str, Any]:
    """Who the agent acted for: a name, or an object with `id` and `roles`."""
    given = trace.get("principal", trace.get("user"))
    if given is None:
        return {}
    if isinstance(given, str):
        return {"id": given}
    if not isinstance(given, dict) or not isinstance(given.get("id"), str):
        raise ValueError("`principal` is neither a name nor an object with an `id`")
    return {**given, "roles": _names(given, "roles")}


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, `true` and `1` apart."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
