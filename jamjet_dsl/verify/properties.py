"""The properties of a program as data: its `check` clauses, and what holds for every program.

A clause names states, tools and options; here these are the texts that an exploration knows them by.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from jamjet_dsl.analysis.checks.facts import number
from jamjet_dsl.analysis.lower_expr import lower_expr
from jamjet_dsl.analysis.model import AgentInfo, Analysis
from jamjet_dsl.definition import ExprJson
from jamjet_dsl.syntax import ast


class Passes(NamedTuple):
    """Every path to `goal` passes each of `through`."""

    goal: str
    through: tuple[str, ...]


class NeverUnless(NamedTuple):
    """`tool` is never called unless `ask` was answered with `option`."""

    tool: str
    ask: str
    option: str


class CallsLess(NamedTuple):
    """No path calls `tool` so many times."""

    tool: str
    times: int


class EndsWithin(NamedTuple):
    """Every run ends within so many steps."""

    steps: int


class CyclesBounded(NamedTuple):
    """Every cycle is bounded."""


class FinalReachable(NamedTuple):
    """From any state that can be come to, a final can be reached."""


class Always(NamedTuple):
    """A condition holds in every state."""

    condition: ExprJson


class AtEnd(NamedTuple):
    """A condition holds at every end."""

    condition: ExprJson


class WaysOn(NamedTuple):
    """No run stops for want of a way on."""


class DoubtsHandled(NamedTuple):
    """No run stops because nobody knows whether a call happened."""


class CallsAllowed(NamedTuple):
    """No call is refused by the policy."""


Property: TypeAlias = (
    Passes
    | NeverUnless
    | CallsLess
    | EndsWithin
    | CyclesBounded
    | FinalReachable
    | Always
    | AtEnd
    | WaysOn
    | DoubtsHandled
    | CallsAllowed
)


class Asked(NamedTuple):
    """A property, how it is written, and where (nowhere, for one that every program has)."""

    property: Property
    text: str
    file: str = ""
    line: int = 0
    label: str = ""


RULES: tuple[Asked, ...] = (
    Asked(FinalReachable(), "from any state a final is reachable"),
    Asked(WaysOn(), "no run stops for want of a way on"),
    Asked(DoubtsHandled(), "no run stops because a call may or may not have happened"),
    Asked(CallsAllowed(), "no call is refused by the policy"),
)
"""What is asked of every program."""


def asked_of(agent: AgentInfo, analysis: Analysis) -> list[Asked]:
    """The `check` clauses of an agent. Those whose numbers are no constants were refused or are not verified."""
    found: list[Asked] = []
    for check in agent.checks:
        made = _property(check.property, analysis)
        if made is None:
            continue
        span = check.span
        text = " ".join(check.property.span.text.split())
        label = "" if check.label is None else str(check.label.value)
        found.append(Asked(made, text, span.file, span.line, label))
    return found


def _property(node: ast.Property, analysis: Analysis) -> Property | None:
    match node:
        case ast.EveryPathPasses(state=state, passes=passes):
            return Passes(_path(state, analysis), tuple(_path(name, analysis) for name in passes))
        case ast.NeverUnless(tool=tool, ask=ask, option=option):
            return NeverUnless(tool.text, _path(ask, analysis), option.text)
        case ast.NoPathCalls(tool=tool, count=count):
            times = number(count, analysis) if count is not None else 2
            return CallsLess(tool.text, times) if isinstance(times, int) and times > 0 else None
        case ast.EveryRunEnds(steps=steps):
            most = number(steps, analysis)
            return EndsWithin(most) if isinstance(most, int) else None
        case ast.EveryCycleBounded():
            return CyclesBounded()
        case ast.FinalReachable():
            return FinalReachable()
        case ast.AlwaysHolds(condition=condition):
            return Always(lower_expr(condition, analysis))
        case ast.HoldsAtEnd(condition=condition):
            return AtEnd(lower_expr(condition, analysis))
    return None


def _path(name: ast.Name, analysis: Analysis) -> str:
    symbol = analysis.symbols.get(name)
    state = analysis.flow_of.get(symbol.node) if symbol is not None and symbol.node is not None else None
    return name.text if state is None else state.path
