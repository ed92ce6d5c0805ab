"""What happens to variables on the way out of a state: the result is bound, the conversation extended, `set`s run.

Everything is gathered first and journaled in one `moved`, so a fold never evaluates anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.expr import Evaluator
from jamjet_dsl.kernel.ids import action_id
from jamjet_dsl.kernel.model import Frame, Json, Record, RunState
from jamjet_dsl.kernel.program import Program, Setting
from jamjet_dsl.kernel.scope import ATTESTED, NONE, UNTRUSTED, Scope, scope_of
from jamjet_dsl.kernel.values import EvalError, from_journal, from_public, to_journal, to_public

_NONE: dict[str, Any] = {}
"""Shared, and never changed."""


class Way:
    """The variables as they are on the way from one state to the next."""

    __slots__ = ("appended", "bind", "binds", "flags", "frame", "program", "scope", "sets", "state")

    def __init__(self, program: Program, state: RunState, frame: Frame) -> None:
        self.program = program
        self.state = state
        self.frame = frame
        self.scope: Scope = scope_of(program, state, frame)
        self.bind: str | None = None
        self.binds: list[str] | None = None
        self.sets: dict[str, Any] = {}
        # Nearly every transition has none of these: each is a dict of its own from the first on.
        self.appended: dict[str, list[Json]] = _NONE
        self.flags: dict[str, frozenset[str]] = _NONE

    def take_outcome(self) -> None:
        """Binds the action's result to its name and tells the conversation what came of it."""
        outcome = self.frame.outcome
        if outcome is None:
            return
        spot = self.program.spot(self.frame)
        action = spot.action
        if action is None:
            return
        chat = spot.chat
        if chat is not None:
            said = message(action, self.frame, outcome, self.scope.get(chat) or [])
            if said:
                self._tell(chat, said, UNTRUSTED if outcome.get("untrusted") else None)
        if outcome["kind"] not in ("ok", "answered"):
            return
        if "results" in outcome:
            self.binds = sorted(outcome["results"])
            for name in self.binds:
                found = outcome["results"][name]
                self._assign(name, from_journal(found["value"]), frozenset(found.get("from", ())), journaled=False)
        bind = spot.bind
        if bind is not None:
            self.bind = bind
            self._assign(bind, from_journal(outcome["result"]), _came(outcome), journaled=False)

    def take_event(self, edge: d.Edge) -> None:
        """Gives the edge's block the payload of the event that was consumed."""
        assert self.frame.event is not None
        if edge.bind is not None:
            value = from_journal(self.frame.event["payload"])
            self._assign(edge.bind, value, NONE, journaled=edge.bind in self.program.plan(self.frame).types)

    def _tell(self, chat: str, items: list[Json], flag: str | None) -> None:
        self.appended = {**self.appended, chat: items}
        known = self.scope.provenance.get(chat, NONE)
        flags = frozenset(f for f in known | ({flag} if flag else NONE) if f != ATTESTED)
        old = self.scope.get(chat) or []
        self._assign(chat, [*old, *(from_journal(item) for item in items)], flags, journaled=False)

    def run(self, sets: Iterable[Setting]) -> None:
        """Runs `set`s in order; each sees what the ones before it have set. Raises EvalError."""
        for item in sets:
            name, scope = item.name, self.scope
            flags = scope.flags(item.reads)
            if item.more is not None and self._append(item, item.more, flags):
                continue
            value = item.value(scope)
            if item.fields:
                if name not in scope:
                    raise EvalError("unset", f"`{name}` has no value here")
                value = _with_field(scope[name], list(item.fields), value)
                known = scope.provenance.get(name, NONE)
                flags = frozenset(f for f in flags | known if f == UNTRUSTED or (f in flags and f in known))
            if item.ranged:
                self._fits(name, value)
            self._assign(name, value, flags, journaled=True)

    def _append(self, item: Setting, more: Evaluator, flags: frozenset[str]) -> bool:
        """Whether this was `set xs = xs + more` on a list: then only what is added is journaled, or a list that grows
        would be written again and again. Raises EvalError."""
        name = item.name
        old = self.scope.get(name)
        if name in self.sets or not isinstance(old, list):
            return False
        added = more(self.scope)
        if not isinstance(added, list):
            return False
        value = [*old, *added]
        if item.ranged:
            type_ = self.program.plan(self.frame).types[name]
            assert isinstance(type_, d.ListType)
            self._fits(name, value if type_.low is not None or type_.high is not None else added)
        said = self.appended.get(name, [])
        self._assign(name, value, flags, journaled=False)
        self.appended = {**self.appended, name: [*said, *(to_journal(part) for part in added)]}
        return True

    def _fits(self, name: str, value: Any) -> None:
        """Types are proved before a run, but not the ranges of computed values. Raises EvalError."""
        problems: list[str] = []
        from_public(value, self.program.plan(self.frame).types[name], self.program.defn, name, problems)
        if problems:
            raise EvalError("bad_argument", problems[0])

    def _assign(self, name: str, value: Any, flags: frozenset[str], journaled: bool) -> None:
        if journaled:
            self.sets[name] = value
            if name in self.appended:
                self.appended = {known: items for known, items in self.appended.items() if known != name}
        if (flags or self.scope.provenance) and (flags != self.scope.provenance.get(name, NONE) or name in self.flags):
            self.flags = {**self.flags, name: flags}
            self.scope = self.scope.nested({name: value}, {name: flags})
        else:
            self.scope[name] = value

    def moved(self, edge: str, to: str, over: bool = False, counted: bool = False) -> Record:
        """The transition."""
        frame = self.frame
        body: dict[str, Json] = {
            "frame": frame.path,
            "visit": frame.visit,
            "state": frame.state,
            "edge": edge,
            "to": to,
        }
        if counted:
            body["counted"] = True
        if over:
            body["over"] = True
        if self.bind is not None:
            body["bind"] = self.bind
        if self.binds:
            body["binds"] = self.binds
        if self.appended:
            body["append"] = self.appended
        if self.sets:
            sets = body["set"] = {}
            for name, value in self.sets.items():
                sets[name] = to_journal(value)
        if self.flags:
            body["from"] = {name: sorted(flags) for name, flags in self.flags.items()}
        return Record("moved", body)

    def worth(self, expr: d.ExprJson) -> dict[str, Json]:
        """The value of a body that ends here, and where it came from. `result` is what its action gave. Raises
        EvalError."""
        scope = self.scope
        outcome = self.frame.outcome
        if outcome is not None and outcome["kind"] in ("ok", "answered"):
            scope = scope.nested({"result": from_journal(outcome["result"])}, {"result": _came(outcome)})
        found: dict[str, Json] = {"value": to_journal(self.program.evaluate(expr, scope))}
        came = scope.flags(self.program.reads(expr))
        return {**found, "from": sorted(came)} if came else found


def _came(outcome: dict[str, Json]) -> frozenset[str]:
    """Where what an action gave came from."""
    if outcome["kind"] != "answered" and not outcome.get("untrusted") and "from" not in outcome:
        return NONE
    flags = set(outcome.get("from", ()))
    if outcome["kind"] == "answered":
        flags.add(ATTESTED)
    if outcome.get("untrusted"):
        flags.add(UNTRUSTED)
    return frozenset(flags)


def _with_field(value: Any, fields: list[str], new: Any) -> Any:
    if not fields:
        return new
    if not isinstance(value, dict) or (len(fields) > 1 and fields[0] not in value):
        raise EvalError("no_such_field", f"there is no record with a `{fields[0]}`")
    return {**value, fields[0]: _with_field(value.get(fields[0]), fields[1:], new)}


def message(action: d.Action, frame: Frame, outcome: dict[str, Json], chat: list[Any]) -> list[Json]:
    """What a conversation is told of an outcome, provider-neutral: `role`, `text`, `call`.

    A model's answer is the assistant's; a call's result, error or denial is the tool's, in answer to the call.
    A model's failed answer is nothing that was said.
    """
    if isinstance(action, d.Think):
        return _said(frame, outcome, bool(action.tools)) if outcome["kind"] == "ok" else []
    if isinstance(action, d.Ask) and outcome["kind"] != "denied":
        return []
    asked: dict[str, Any] = next((said["call"] for said in reversed(chat) if said.get("call")), {})
    item: dict[str, Json] = {"role": "tool", "call": asked.get("id"), "tool": asked.get("tool")}
    match outcome["kind"]:
        case "ok":
            item["text"] = _text(from_journal(outcome["result"]))
        case "denied":
            item |= {"error": "Denied", "text": f"denied: {outcome['decision']['reason']}"}
        case "in_doubt":
            item |= {"error": "InDoubt", "text": "nobody knows whether this call happened"}
        case _:
            error = outcome.get("error", "Timeout")
            item |= {"error": error, "text": f"{error}: {outcome.get('message', '')}"}
    return [{name: value for name, value in item.items() if value is not None}]


def _said(frame: Frame, outcome: dict[str, Json], offers: bool) -> list[Json]:
    item: dict[str, Json] = {"role": "assistant"}
    result = outcome["result"]
    if offers:
        if result.get("text") is not None:
            item["text"] = result["text"]
        if result.get("call") is not None:
            item["call"] = {"id": action_id(frame), **result["call"]}
    else:
        item["text"] = _text(from_journal(result))
    if outcome.get("items"):
        item["items"] = outcome["items"]
    return [item]


def _text(value: Any) -> str:
    """A value as a model reads it: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(to_public(value), ensure_ascii=False)
