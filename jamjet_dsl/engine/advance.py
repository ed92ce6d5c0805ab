"""One transition: what happened goes in, the events to commit and the effects to start come out.

This is where the engine drives the kernel, and the only place. It reads no store and starts nothing, so a
transition that could not be committed can be computed again from the state before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from jamjet_dsl.kernel import draft as kernel_draft
from jamjet_dsl.kernel.fold import fold_into
from jamjet_dsl.kernel.machine import decide, next_wake
from jamjet_dsl.kernel.model import (
    ENDED,
    Ask,
    Await,
    Call,
    CancelAction,
    Command,
    Record,
    RunState,
    SetTimer,
    Think,
)
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.records import key_refused
from jamjet_dsl.ports import Draft, KeyUse, Standing
from jamjet_dsl.store.chain import args_digest

MAX_TURNS = 10_000
"""Decisions in one transition. The kernel parks a program that turns without doing anything long before."""


class Chance(Protocol):
    """What is drawn by chance. Everything drawn stands in an event before the kernel sees it."""

    def question_id(self) -> str: ...

    def between(self, low: int, high: int) -> int: ...


class Happened(NamedTuple):
    """An event from the world, before it has a number: what `kernel.inputs` returned."""

    kind: str
    body: dict[str, Any]


@dataclass(slots=True)
class Transition:
    """What `advance` computed. `effects` are all effects that should be in flight after it."""

    state: RunState
    drafts: list[Draft] = field(default_factory=list)
    effects: dict[str, Call | Think] = field(default_factory=dict)
    awaits: list[Await] = field(default_factory=list)
    keys: list[KeyUse] = field(default_factory=list)
    passed: list[RunState] = field(default_factory=list)
    """Of a program with secrets or redaction, the state after each event: a value may be there in one of them only."""

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.state.status in ENDED


def advance(
    program: Program,
    state: RunState,
    happened: Iterable[Happened | tuple[str, dict[str, Any]]],
    now_ms: int,
    chance: Chance,
    key_digest: Callable[[KeyUse], bytes | None],
    only_apply: bool = False,
    begin: bool = True,
) -> Transition:
    """Apply what happened and decide until nothing but effects and waiting is left.

    `key_digest` gives the digest of the arguments that a declared key was first used with, in any run. With
    `only_apply` nothing is decided: an engine that is closing keeps an outcome and leaves the rest to whoever resumes.
    Without `begin` no intent is written: the next transition decides again about the effects.
    """
    step = Transition(state)

    folded = kernel_draft.Draft(state)

    def add(kind: str, body: dict[str, Any]) -> None:
        nonlocal folded
        if program.redacts and step.drafts:
            folded = kernel_draft.Draft(folded.state)
        new = step.state = folded.state
        at_ms = max(now_ms, new.now_ms)
        step.drafts.append(Draft(at_ms, kind, body))
        fold_into(program, folded, new.seq + 1, at_ms, kind, body)
        if program.redacts:
            step.passed.append(new)

    for kind, body in happened:
        add(kind, body)
    if only_apply:
        # Whoever looks at the run meanwhile is told what it waits for, as far as that is certain.
        step.awaits = [command for command in decide(program, step.state) if isinstance(command, Await)]
        return step
    for _ in range(MAX_TURNS):
        commands = decide(program, step.state)
        last = commands[-1] if commands else None
        if type(last) is Record:
            # A record is the last word: whatever else is wanted is decided again once it is applied.
            add(last.kind, last.body)
            continue
        if not begin:
            commands = [c for c in commands if not isinstance(c, Call | Think) or c.intent is None]
        for command in commands:
            if _journal(step, command, add, chance, key_digest):
                break
        else:
            for command in commands:
                if isinstance(command, Await):
                    step.awaits.append(command)
                elif isinstance(command, Call | Think):
                    step.effects[command.id] = command
            return step
    raise RuntimeError(f"run {state.run_id} makes no progress at {step.state.seq}")


def _journal(
    step: Transition,
    command: Command,
    add: Callable[[str, dict[str, Any]], None],
    chance: Chance,
    key_digest: Callable[[KeyUse], bytes | None],
) -> bool:
    """Append the event that a command asks for first. False if it asks for none."""
    match command:
        case Call() | Think():
            if command.intent is None:
                return False
            if _takes_key(step, command, key_digest):
                add("intent", command.intent)
            else:
                refused = key_refused(step.state, command)
                add(refused.kind, refused.body)
        case Ask(_, body):
            add("asked", {**body, "question": chance.question_id()})
        case SetTimer():
            drawn = command.at_ms - chance.between(0, command.spread_ms) if command.spread_ms else command.at_ms
            add(command.record, {**command.body, "at_ms": drawn})
        case Record() | Await() | CancelAction():
            return False
    return True


def _takes_key(step: Transition, command: Call | Think, key_digest: Callable[[KeyUse], bytes | None]) -> bool:
    """Bind the declared key of a call to its arguments. False if it is bound to others, in this run or another."""
    if isinstance(command, Think) or command.key is None or command.intent is None:
        return True
    use = KeyUse(command.tool, command.key, args_digest(command.intent.get("args")))
    bound = next((other.args_digest for other in step.keys if other[:2] == use[:2]), None)
    known = key_digest(use) if bound is None else bound
    if known is not None and known != use.args_digest:
        return False
    step.keys.append(use)
    return True


def standing(step: Transition) -> Standing:
    """Where the run stands after the transition, for lists and inboxes."""
    state = step.state
    root = state.frames.get("")
    place = state.final_state or (root.state if root is not None else "")
    return Standing(
        state.status,
        place,
        tuple(_waits_for(step)) if step.awaits or state.questions or state.parked is not None else (),
        None if step.ended else next_wake(state),
        {
            "steps": state.spent.steps,
            "tokens": state.spent.tokens,
            "cost": state.spent.cost,
            "active_ms": state.spent.active_ms,
        },
        tuple(state.questions),
    )


def _waits_for(step: Transition) -> Iterable[dict[str, Any]]:
    state = step.state
    if step.ended:
        return
    if state.parked is not None:
        yield {"kind": "operator", **state.parked}
    for question in state.questions.values():
        body = question.body
        yield {
            "kind": "question",
            "id": question.id,
            "state": question.state,
            "role": body.get("role", ""),
            "text": body.get("text", ""),
            "options": body.get("options", []),
            "expires_at_ms": question.expires_at_ms,
        }
    for wait in step.awaits:
        if wait.what == "event":
            yield {"kind": "event", "name": wait.name, "at_ms": wait.at_ms}
        elif wait.what == "timer":
            yield {"kind": "timer", "name": wait.name, "at_ms": wait.at_ms}
