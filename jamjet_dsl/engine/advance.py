"""One transition: what happened goes in, the events to commit and the effects to start come out.

This is where the engine drives the kernel, and the only place. It reads no store and starts nothing, so a
transition that could not be committed can be computed again from the state before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
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
    Count,
    Record,
    RunState,
    SetTimer,
    Share,
    Think,
)
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.records import key_refused
from jamjet_dsl.ports import Draft, KeyUse, SharedUse, Standing
from jamjet_dsl.store.chain import args_digest
from jamjet_dsl.store.limits import added

MAX_TURNS = 10_000
"""Decisions in one transition. The kernel parks a program that turns without doing anything long before."""


class Chance(Protocol):
    """What is drawn by chance. Everything drawn stands in an event before the kernel sees it."""

    def question_id(self) -> str: ...

    def between(self, low: int, high: int) -> int: ...


class Used(Protocol):
    """What all runs of a principal have used of a limit that they share, as far as it is written: calls and total."""

    def __call__(self, who: str, share: Share) -> tuple[int, Decimal]: ...


def used_by_nobody(who: str, share: Share) -> tuple[int, Decimal]:
    """Where there is no database that runs could share."""
    return 0, Decimal(0)


def used_in(uses: Iterable[SharedUse], who: str, share: Share) -> tuple[int, Decimal]:
    """What the uses of one run add to a limit that runs share: calls and total. Where two limits count the same, a call
    was used once."""
    known = (who, share.counter, share.group)
    found = {use.cmd: use.amount for use in uses if use[:3] == known and use.at_ms > share.since_ms}
    return len(found), added(found.values())


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
    uses: list[SharedUse] = field(default_factory=list)
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
    used: Used,
    only_apply: bool = False,
    begin: bool = True,
) -> Transition:
    """Apply what happened and decide until nothing but effects and waiting is left.

    `key_digest` gives the digest of the arguments that a declared key was first used with, in any run, `used` what all
    runs have used of a limit that they share. With `only_apply` nothing is decided: an engine that is closing keeps an
    outcome and leaves the rest to whoever resumes. Without `begin` no intent is written: the next transition decides
    again about the effects.
    """
    step = Transition(state)
    elsewhere = _Elsewhere(step, key_digest, used)

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
            commands = [c for c in commands if not _begins(c)]
        for command in commands:
            if _journal(step, command, add, chance, elsewhere):
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
    elsewhere: _Elsewhere,
) -> bool:
    """Append the event that a command asks for first. False if it asks for none."""
    match command:
        case Call() | Think():
            if command.intent is None:
                return False
            if elsewhere.takes_key(command):
                add("intent", command.intent)
                elsewhere.counts(command)
            else:
                refused = key_refused(step.state, command)
                add(refused.kind, refused.body)
        case Count():
            add("counted", elsewhere.asked(command))
        case Ask(_, body):
            add("asked", {**body, "question": chance.question_id()})
        case SetTimer():
            drawn = command.at_ms - chance.between(0, command.spread_ms) if command.spread_ms else command.at_ms
            add(command.record, {**command.body, "at_ms": drawn})
        case Record() | Await() | CancelAction():
            return False
    return True


def _begins(command: Command) -> bool:
    """Whether an effect begins with it, or is about to."""
    return isinstance(command, Count) or (isinstance(command, Call | Think) and command.intent is not None)


class _Elsewhere:
    """What a transition asks the rest of the database, and leaves there."""

    def __init__(self, step: Transition, key_digest: Callable[[KeyUse], bytes | None], used: Used) -> None:
        self._step = step
        self._key_digest = key_digest
        self._used = used
        self._counted: tuple[Count, list[tuple[int, Decimal]]] | None = None

    def takes_key(self, command: Call | Think) -> bool:
        """Bind the declared key of a call to its arguments. False if it is bound to others, in this run or another."""
        if isinstance(command, Think) or command.key is None or command.intent is None:
            return True
        use = KeyUse(command.tool, command.key, args_digest(command.intent.get("args")))
        bound = next((other.args_digest for other in self._step.keys if other[:2] == use[:2]), None)
        known = self._key_digest(use) if bound is None else bound
        if known is not None and known != use.args_digest:
            return False
        self._step.keys.append(use)
        return True

    def asked(self, count: Count) -> dict[str, Any]:
        """What was used of shared limits, as the body of an event."""
        found = [self._used_of(share) for share in count.shares]
        self._counted = count, found
        told = zip(count.shares, found, strict=True)
        return {
            "cmd": count.id,
            "used": [[share.home, share.rule, calls, str(total)] for share, (calls, total) in told],
        }

    def _used_of(self, share: Share) -> tuple[int, Decimal]:
        """What is written, and what this transition is about to write."""
        who = self._step.state.principal["id"]
        calls, total = self._used(who, share)
        more, sum_ = used_in(self._step.uses, who, share)
        return calls + more, added((total, sum_))

    def counts(self, command: Call | Think) -> None:
        """A call begins: it is counted under the limits that were asked about before it. What has no room, and is made
        in spite of that, is made however much others use meanwhile."""
        state = self._step.state
        if self._counted is None or self._counted[0].id != command.id:
            return
        for share, known in zip(self._counted[0].shares, self._counted[1], strict=True):
            limit = (state.principal["id"], share.counter, share.group, share.since_ms)
            most = None if share.most_total is None else Decimal(share.most_total)
            use = SharedUse(*limit, state.now_ms, command.id, Decimal(share.amount), share.most_calls, most)
            self._step.uses.append(use if use.fits(*known) else use._replace(most_calls=None, most_total=None))


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
