"""What an expression of a run can name, as the evaluator's environment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jamjet_dsl.kernel import monitors
from jamjet_dsl.kernel.budget import DIMENSIONS, amount, full_caps, reserved
from jamjet_dsl.kernel.model import Frame, RunState
from jamjet_dsl.kernel.scalars import Duration, EvalError, Money, Timestamp

if TYPE_CHECKING:
    from jamjet_dsl.kernel.program import Program

ATTESTED, UNTRUSTED = "attested", "untrusted"
NONE: frozenset[str] = frozenset()


class Scope:
    """An environment and the provenance of its names. Never changed: `nested` makes a larger one."""

    __slots__ = ("env", "provenance")

    def __init__(self, env: dict[str, Any], provenance: Mapping[str, frozenset[str]]) -> None:
        self.env = env
        self.provenance = provenance
        env["$attested"] = self._asks(ATTESTED)
        env["$untrusted"] = self._asks(UNTRUSTED)

    def nested(self, names: Mapping[str, Any], provenance: Mapping[str, frozenset[str]] | None = None) -> Scope:
        """The same with more names. A path such as `args.amount` may have provenance of its own."""
        return Scope({**self.env, **names}, {**self.provenance, **(provenance or {})})

    def flags(self, names: Iterable[str]) -> frozenset[str]:
        """The provenance of a value made of these names: attested if all are, untrusted if any is."""
        found = [self.provenance.get(name, NONE) for name in names]
        if not found:
            return NONE
        attested = ATTESTED if all(ATTESTED in flags for flags in found) else None
        untrusted = UNTRUSTED if any(UNTRUSTED in flags for flags in found) else None
        return frozenset(flag for flag in (attested, untrusted) if flag)

    def _asks(self, flag: str) -> Callable[[tuple[str | int, ...]], bool | None]:
        def ask(path: tuple[str | int, ...]) -> bool | None:
            if path[0] not in self.env:
                return None
            if len(path) > 1 and f"{path[0]}.{path[1]}" in self.provenance:
                return flag in self.provenance[f"{path[0]}.{path[1]}"]
            return flag in self.provenance.get(str(path[0]), NONE)

        return ask


def scope_of(program: Program, state: RunState, frame: Frame) -> Scope:
    """What a state's expressions see: inputs, variables and the roots of a run."""
    counts = state.monitors
    env: dict[str, Any] = {
        **state.input,
        **state.vars,
        **frame.scope,
        "run": {"id": state.run_id},
        "principal": state.principal,
        "spent": spent_record(program, state),
        "budget": budget_record(program, state),
        "undo": {"failed": []},
        "now": Timestamp.of_ms(state.now_ms),
        "$calls": lambda tool: monitors.calls(counts, tool),
        "$history": lambda kind, tool, args: monitors.history(counts, kind, tool, args),
    }
    return Scope(env, state.provenance)


def tool_scope(state: RunState, args: Mapping[str, Any]) -> Scope:
    """What the clauses of a tool see: its parameters (also as `args`) and `run`. `undo` adds `result`."""
    run = {"id": state.run_id}
    return Scope({**args, "args": dict(args), "run": run, "now": Timestamp.of_ms(state.now_ms)}, {})


def spent_record(program: Program, state: RunState) -> dict[str, Any]:
    """`spent`: what was used so far."""
    spent = state.spent
    return {
        "steps": spent.steps,
        "tokens": spent.tokens,
        "cost": Money(amount(spent.cost), program.agent.currency),
        "time": Duration.of_ms(state.now_ms - state.started_ms),
        "active": Duration.of_ms(spent.active_ms),
    }


def budget_record(program: Program, state: RunState) -> dict[str, Any]:
    """`budget`: its limits, and what is left of them beside what is held by effects in flight. A dimension
    without a limit has no entry."""
    budget = program.agent.budget
    if budget is None:
        return {"remaining": {}}
    full = full_caps(budget.limits)
    tokens, cost = reserved(state)
    used = (
        state.spent.steps,
        state.spent.tokens + tokens,
        amount(state.spent.cost) + cost,
        state.now_ms - state.started_ms,
        state.spent.active_ms,
    )
    limits: dict[str, Any] = {}
    remaining: dict[str, Any] = {}
    for name, so_far in zip(DIMENSIONS, used, strict=True):
        limit = getattr(full, name)
        if limit is not None:
            limits[name] = _shown(name, limit, program.agent.currency)
            remaining[name] = _shown(name, max(limit - so_far, 0 * limit), program.agent.currency)
    return {**limits, "remaining": remaining}


def _shown(name: str, value: Any, currency: str) -> Any:
    if name == "cost":
        return Money(value, currency)
    return Duration.of_ms(value) if name in ("time", "active") else value


def bool_of(value: Any) -> bool:
    """A condition's value. Raises EvalError for what is not true or false: it never counts as either."""
    if value is True or value is False:
        return bool(value)
    raise EvalError("no_overload", "a condition has to be true or false")
