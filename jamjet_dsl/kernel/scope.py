"""What an expression of a run can name, as the evaluator's environment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jamjet_dsl.kernel import monitors
from jamjet_dsl.kernel.budget import DIMENSIONS, NO_CAPS, Caps, account_of, caps_in, full_caps, used_at
from jamjet_dsl.kernel.model import Frame, Json, RunState
from jamjet_dsl.kernel.scalars import Duration, EvalError, Money, Timestamp

if TYPE_CHECKING:
    from jamjet_dsl.kernel.program import Program

ATTESTED, UNTRUSTED = "attested", "untrusted"
NONE: frozenset[str] = frozenset()
_NOWHERE: Mapping[str, frozenset[str]] = {}
_PROVENANCE = {"$attested": ATTESTED, "$untrusted": UNTRUSTED}


class Scope(dict[str, Any]):
    """Names and their values: what an expression is evaluated in, with the provenance of the names. What a run knows of
    itself (`spent`, `budget`, `now`, …) is made when it is first asked for: most expressions never ask.

    `nested` makes a larger one and leaves it as it is. Nothing in it may lead back to it: every step makes some, and
    what stands in no circle is gone without the garbage collector.
    """

    __slots__ = ("_asked", "_frame", "_program", "_state", "provenance", "unreadable")
    provenance: Mapping[str, frozenset[str]]
    unreadable: frozenset[str]
    """Facts that could not be read. That such a name has no value does not mean that there is none: asking for it is an
    error, also by `has`."""
    _program: Program | None
    _state: RunState
    _frame: Frame
    _asked: Scope | None
    """Of a copy: whose names are asked where they came from. What a macro binds has no provenance."""

    def __missing__(self, name: str) -> Any:
        if name in _PROVENANCE:
            return (self if self._asked is None else self._asked)._asks(_PROVENANCE[name])
        if name in self.unreadable:
            raise EvalError("unreadable", f"the fact `{name}` could not be read")
        if self._program is None:
            raise KeyError(name)
        value = self[name] = _root(name, self._program, self._state, self._frame)
        return value

    def copy(self) -> Scope:
        """The same names, to be changed."""
        made = _scope(self, self.provenance, self._program, self._state, self._frame)
        made._asked = self if self._asked is None else self._asked
        made.unreadable = self.unreadable
        return made

    def nested(self, names: Mapping[str, Any], provenance: Mapping[str, frozenset[str]] | None = None) -> Scope:
        """The same with more names. A path such as `args.amount` may have provenance of its own."""
        known = {**self.provenance, **provenance} if provenance else self.provenance
        made = _scope(self, known, self._program, self._state, self._frame)
        made.update(names)
        made.unreadable = self.unreadable
        return made

    def flags(self, names: Iterable[str]) -> frozenset[str]:
        """The provenance of a value made of these names: attested if all are, untrusted if any is."""
        if not self.provenance:
            return NONE
        found = [self.provenance.get(name, NONE) for name in names]
        if not found:
            return NONE
        attested = ATTESTED if all(ATTESTED in flags for flags in found) else None
        untrusted = UNTRUSTED if any(UNTRUSTED in flags for flags in found) else None
        return frozenset(flag for flag in (attested, untrusted) if flag)

    def _asks(self, flag: str) -> Callable[[tuple[str | int, ...]], bool | None]:
        """Whether what stands at a path came from there; None for what has no value."""

        def ask(path: tuple[str | int, ...]) -> bool | None:
            if path[0] not in self:
                return None
            if len(path) > 1 and f"{path[0]}.{path[1]}" in self.provenance:
                return flag in self.provenance[f"{path[0]}.{path[1]}"]
            return flag in self.provenance.get(str(path[0]), NONE)

        return ask


def _scope(
    names: Mapping[str, Any],
    provenance: Mapping[str, frozenset[str]],
    program: Program | None,
    state: RunState,
    frame: Frame,
) -> Scope:
    made = Scope(names)
    made.provenance = provenance
    made._program, made._state, made._frame, made._asked = program, state, frame, None
    made.unreadable = NONE
    return made


def _root(name: str, program: Program, state: RunState, frame: Frame) -> Any:
    """What a run knows of itself, for the agent of a frame. Raises KeyError for a name that is none of it."""
    home = frame.home
    match name:
        case "run":
            return {"id": run_id_of(state, home)}
        case "principal":
            return state.principal
        case "spent":
            return spent_record(program, state, home)
        case "budget":
            return budget_record(program, state, home)
        case "undo":
            return {"failed": [entry["text"] for entry in state.undo_failed if entry["home"] == home]}
        case "now":
            return Timestamp.of_ms(state.now_ms)
        case "$calls":
            counts = monitors_at(state, home)
            return lambda tool: monitors.calls(counts, tool)
        case "$history":
            counts = monitors_at(state, home)
            return lambda kind, tool, args: monitors.history(counts, kind, tool, args)
    raise KeyError(name)


_NO_STATE, _NO_FRAME = RunState(""), Frame("", "")


def names_only(names: Mapping[str, Any]) -> Scope:
    """These names and nothing of a run."""
    return _scope(names, _NOWHERE, None, _NO_STATE, _NO_FRAME)


def scope_of(program: Program, state: RunState, frame: Frame) -> Scope:
    """What a state's expressions see: inputs, variables and the roots of a run. A branch or an item sees what its
    agent had set when it was opened, and over it what it has set itself."""
    if frame.parent is None:
        made = _scope(state.input, state.provenance, program, state, frame)
        made.update(state.vars)
        return made
    names, provenance = _names(state, frame)
    return _scope(names, provenance, program, state, frame)


def scope_with(
    program: Program,
    state: RunState,
    frame: Frame,
    names: Mapping[str, Any],
    provenance: Mapping[str, frozenset[str]] = _NOWHERE,
) -> Scope:
    """Names of one's own choice, and the roots of a run."""
    return _scope(names, provenance, program, state, frame)


def _names(state: RunState, frame: Frame) -> tuple[dict[str, Any], Mapping[str, frozenset[str]]]:
    """Inputs and variables as a frame sees them, and where their values came from."""
    own = [frame]
    while own[-1].path != frame.home:
        own.append(state.frames[own[-1].parent or ""])
    names: dict[str, Any] = {}
    provenance: dict[str, frozenset[str]] = {}
    for part in reversed(own):
        if part.parent is None:
            names, provenance = {**state.input, **state.vars}, dict(state.provenance)
        names |= part.scope
        provenance |= part.flags
    return names, provenance


def value_of(state: RunState, frame: Frame, name: str) -> Any:
    """The value of a variable as a frame sees it, or None."""
    if frame.parent is None:
        return state.vars.get(name)
    return _names(state, frame)[0].get(name)


def flags_of(state: RunState, frame: Frame, name: str) -> frozenset[str]:
    """Where the value of a variable came from, as a frame sees it."""
    return _names(state, frame)[1].get(name, NONE)


def run_id_of(state: RunState, home: str) -> str:
    """What `run.id` is to the agent at `home`: a child has one of its own."""
    return f"{state.run_id}/{home}" if home else state.run_id


def monitors_at(state: RunState, home: str) -> dict[str, Json]:
    """What the rules of the agent at `home` have counted."""
    return state.frames[home].monitors if home else state.monitors


def tool_scope(state: RunState, args: Mapping[str, Any], home: str = "") -> Scope:
    """What the clauses of a tool see: its parameters (also as `args`) and `run`. `undo` adds `result`. A parameter that
    is called like one of these is meant where its name stands."""
    run = {"id": run_id_of(state, home)}
    return names_only({"args": dict(args), "run": run, "now": Timestamp.of_ms(state.now_ms), **args})


def spent_record(program: Program, state: RunState, home: str = "") -> dict[str, Any]:
    """`spent`: what the agent at `home` has used so far."""
    used = used_at(state, home)
    return {
        "steps": used.steps,
        "tokens": used.tokens,
        "cost": Money(used.cost, program.agent.currency),
        "time": Duration.of_ms(used.time),
        "active": Duration.of_ms(used.active),
    }


def budget_record(program: Program, state: RunState, home: str = "") -> dict[str, Any]:
    """`budget`: the limits of the agent at `home`, and what is left of them beside what is held by effects in
    flight. A dimension without a limit has no entry."""
    full = _limits(program, state, home)
    used = used_at(state, home)
    so_far = (used.steps, used.tokens + used.held_tokens, used.cost + used.held_cost, used.time, used.active)
    limits: dict[str, Any] = {}
    remaining: dict[str, Any] = {}
    for name, spent in zip(DIMENSIONS, so_far, strict=True):
        limit = getattr(full, name)
        if limit is not None:
            limits[name] = _shown(name, limit, program.agent.currency)
            remaining[name] = _shown(name, max(limit - spent, 0 * limit), program.agent.currency)
    return {**limits, "remaining": remaining}


def _limits(program: Program, state: RunState, home: str) -> Caps:
    account = account_of(state, home)
    if account is not None:
        return caps_in(account.limits)
    budget = program.agent.budget
    return NO_CAPS if budget is None else full_caps(budget.limits)


def _shown(name: str, value: Any, currency: str) -> Any:
    if name == "cost":
        return Money(value, currency)
    return Duration.of_ms(value) if name in ("time", "active") else value


def bool_of(value: Any) -> bool:
    """A condition's value. Raises EvalError for what is not true or false: it never counts as either."""
    if value is True or value is False:
        return bool(value)
    raise EvalError("no_overload", "a condition has to be true or false")
