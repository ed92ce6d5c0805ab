"""Bugs to plant: each is a mistake that an engine could have, made by replacing one function while it is planted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

from jamjet_dsl.engine import advance as advancing
from jamjet_dsl.engine import driver as driving
from jamjet_dsl.engine import loading
from jamjet_dsl.engine.commits import Commits
from jamjet_dsl.engine.driver import Driver, Move
from jamjet_dsl.kernel import (
    actions,
    binding,
    budget,
    calls,
    fold,
    frames,
    inputs,
    leave,
    machine,
    monitors,
    opening,
    outcomes,
    recovery,
    rules,
)
from jamjet_dsl.kernel.model import Frame, Record, Reserve
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.store.memory import MemoryStore


class Bug(NamedTuple):
    """A bug, said in one sentence."""

    sentence: str
    planted: Callable[[], AbstractContextManager[None]]


Change = tuple[Any, str, Callable[[Any], Any]]
"""Where, which attribute, and what is made of it."""
BUGS: dict[str, Bug] = {}
_ABSENT = object()


@contextmanager
def swapped(changes: list[Change]) -> Iterator[None]:
    """Replace attributes by what is made of them."""
    kept = []
    for where, name, make in changes:
        real = vars(where).get(name, _ABSENT)
        kept.append((where, name, real))
        setattr(where, name, make(None if real is _ABSENT else real))
    try:
        yield
    finally:
        for where, name, real in reversed(kept):
            if real is _ABSENT:
                delattr(where, name)
            else:
                setattr(where, name, real)


def bug(sentence: str) -> Callable[[Callable[[], list[Change]]], Callable[[], list[Change]]]:
    """Add a bug to the list, under the name of the function that says what it changes."""

    def add(changes: Callable[[], list[Change]]) -> Callable[[], list[Change]]:
        BUGS[changes.__name__] = Bug(sentence, lambda: swapped(changes()))
        return changes

    return add


# ---- the store


@bug("The store does not look at the token of a lease: a worker that lost its run writes on.")
def unfenced_append() -> list[Change]:
    def make(real: Any) -> Any:
        def append(self: Any, lease: Any, expected: int, batch: Any) -> Any:
            run = self._run(lease.run_id)
            return real(self, replace(lease, token=run.token), len(run.events), batch)

        return append

    def keep(real: Any) -> Any:
        return lambda self, leases, lease_ms, now_ms: [
            replace(held, expires_at_ms=now_ms + lease_ms) for held in leases
        ]

    return [(MemoryStore, "append", make), (MemoryStore, "renew_many", keep)]


@bug("A claim takes a run from an owner whose lease is not over.")
def claims_what_is_held() -> list[Change]:
    return [(MemoryStore, "_lost", lambda real: lambda self, owner, now_ms, dead: True)]


@bug("A heartbeat says that the leases are kept, and keeps none.")
def renew_ignored() -> list[Change]:
    def make(real: Any) -> Any:
        def renew_many(self: Any, leases: Any, lease_ms: int, now_ms: int) -> Any:
            owners = dict(self._owners)
            kept = real(self, leases, lease_ms, now_ms)
            self._owners.update(owners)
            return kept

        return renew_many

    return [(MemoryStore, "renew_many", make)]


@bug("A key is not bound to its arguments: another run may use it for something else.")
def key_not_bound() -> list[Change]:
    return [(MemoryStore, "_commit", lambda real: lambda self, run, batch: real(self, run, batch._replace(keys=())))]


@bug("A call is not counted under the limits that it shares with other runs.")
def use_not_counted() -> list[Change]:
    return [(MemoryStore, "_commit", lambda real: lambda self, run, batch: real(self, run, batch._replace(uses=())))]


@bug("A message that was taken stays in the inbox, and is taken again.")
def message_applied_twice() -> list[Change]:
    return [
        (MemoryStore, "_commit", lambda real: lambda self, run, batch: real(self, run, batch._replace(consumed=())))
    ]


@bug("An event that is sent twice under one name is two events.")
def dedupe_forgotten() -> list[Change]:
    def make(real: Any) -> Any:
        return lambda self, run_id, kind, body, dedupe, now_ms: real(self, run_id, kind, body, None, now_ms)

    return [(MemoryStore, "enqueue", make), (MemoryStore, "deduped", lambda real: lambda self, run_id, name: None)]


# ---- the engine


@bug("Effects are begun before the transition that decides on them is in the journal.")
def effect_before_commit() -> list[Change]:
    def early(real: Any) -> Any:
        def prepare(self: Any, move: Any, now: int) -> Any:
            append = real(self, move, now)
            for command in append.step.effects.values() if append.begin else ():
                self._flights.start(command)
            return append

        return prepare

    def later(real: Any) -> Any:
        return lambda self: asyncio.get_running_loop().call_later(0.02, real, self) and None

    return [(Driver, "_prepare", early), (Commits, "flush", later)]


@bug("A message leaves the inbox, and what it said is not journaled.")
def message_not_journaled() -> list[Change]:
    def make(real: Any) -> Any:
        def taken(self: Any, message: Any) -> Any:
            return Move([], message) if message.kind == "event" else real(self, message)

        return taken

    return [(Driver, "_taken", make)]


@bug("A timer that is due is journaled twice.")
def timer_fires_twice() -> list[Change]:
    return [(driving, "due", lambda real: lambda state, now: [e for e in real(state, now) for _ in (0, 1)])]


@bug("Nobody is told when a run has to be woken: a timer is lost as soon as the run rests.")
def timer_lost() -> list[Change]:
    return [(advancing, "next_wake", lambda real: lambda state: None)]


@bug("Timers fire a little before their time.")
def timer_early() -> list[Change]:
    return [(driving, "due", lambda real: lambda state, now: real(state, now + 1500))]


@bug("The time of an event is that of the machine's clock, though the journal was further on.")
def clock_goes_back() -> list[Change]:
    return [(advancing, "max", lambda real: lambda now, known: now)]


@bug("After a snapshot one event of the rest of the journal is folded twice.")
def replay_counts_twice() -> list[Change]:
    def make(real: Any) -> Any:
        def fold_on(store: Any, program: Any, state: Any, events: Any, veil: Any) -> Any:
            found = list(events)
            return real(store, program, state, found[:2] + found[1:] if state.seq else found, veil)

        return fold_on

    return [(loading, "_fold_on", make)]


@bug("A snapshot does not hold how often the edges were taken.")
def snapshot_misses_counters() -> list[Change]:
    def make(real: Any) -> Any:
        def decode(data: bytes) -> Any:
            state = real(data)
            for frame in state.frames.values():
                frame.counters = {}
            return state

        return decode

    return [(loading, "decode", make)]


@bug("A snapshot does not hold the events from outside that wait in the queue.")
def snapshot_misses_queue() -> list[Change]:
    def make(real: Any) -> Any:
        def decode(data: bytes) -> Any:
            state = real(data)
            state.queue = []
            return state

        return decode

    return [(loading, "decode", make)]


# ---- intents, outcomes, recovery


@bug("A call that costs or writes leaves no intent.")
def intent_not_journaled() -> list[Change]:
    return [(Program, "callee", lambda real: lambda self, tool: real(self, tool)._replace(journaled=False))]


@bug("An outcome counts twice: what was used is settled two times.")
def double_settle() -> list[Change]:
    def make(real: Any) -> Any:
        def used(usage: Any, reserve: Any, model: Any) -> Any:
            tokens, cost = real(usage, reserve, model)
            return tokens * 2, cost * 2

        return used

    return [(outcomes, "used", make)]


@bug("The reservation of a write that may have happened is charged and held as well.")
def reservation_not_released() -> list[Change]:
    def make(real: Any) -> Any:
        def settle(program: Any, draft: Any, cmd: str, usage: Any, keep: bool = False) -> None:
            old = draft.state.intents.get(cmd)
            real(program, draft, cmd, usage, keep)
            if keep and old is not None:
                draft.intent(cmd).reserve = old.reserve

        return settle

    return [(outcomes, "_settle", make)]


@bug("An attempt that was found without outcome after a crash is not charged.")
def recovered_read_not_charged() -> list[Change]:
    return [(recovery, "reserve_body", lambda real: lambda reserve: real(Reserve()))]


@bug("A write without a key that was in flight when the process ended is simply made again.")
def recovery_repeats_write() -> list[Change]:
    return [(recovery, "WRITES", lambda real: frozenset())]


@bug("A write without a key is tried again after an error that leaves open whether it happened.")
def retry_without_key() -> list[Change]:
    def make(real: Any) -> Any:
        return lambda program, state, frame, indefinite: real(program, state, frame, False)

    return [(leave, "_retry", make)]


@bug("An error after which nobody knows what happened is an ordinary error.")
def indefinite_is_definite() -> list[Change]:
    return [(inputs, "INDEFINITE", lambda real: frozenset({"Timeout"}))]


@bug("An outcome that comes after the run has moved on is applied.")
def late_outcome_applied() -> list[Change]:
    always = lambda real: lambda state, cmd: state.frames.get(cmd.rpartition("#")[0]) is not None  # noqa: E731
    return [(inputs, "is_open", always), (outcomes, "is_open", always)]


@bug("A call in doubt goes by `on error`.")
def doubt_is_an_error() -> list[Change]:
    def make(real: Any) -> Any:
        def by_trigger(program: Any, state: Any, frame: Any, trigger: str) -> Any:
            return real(program, state, frame, "error" if trigger == "in_doubt" else trigger)

        return by_trigger

    return [(leave, "_by_trigger", make)]


@bug("A step counts twice.")
def step_counted_twice() -> list[Change]:
    def make(real: Any) -> Any:
        def count(draft: Any, path: str) -> None:
            real(draft, path)
            real(draft, path)

        return count

    return [(fold, "count_step", make)]


# ---- budgets, policy, approvals


@bug("One step and one cent more than the budget may be used.")
def budget_off_by_one() -> list[Change]:
    def make(real: Any) -> Any:
        def caps_at(*args: Any) -> Any:
            caps = real(*args)
            steps = None if caps.steps is None else caps.steps + 1
            return replace(caps, steps=steps, cost=None if caps.cost is None else caps.cost + Decimal("0.05"))

        return caps_at

    return [(budget, "caps_at", make)]


@bug("What others hold is not counted when an attempt begins.")
def held_not_counted() -> list[Change]:
    return [
        (budget, "used_at", lambda real: lambda s, home: real(s, home)._replace(held_cost=Decimal(0), held_tokens=0))
    ]


@bug("A child may use whatever it likes: its budget is not carved out of its parent's.")
def child_budget_ignored() -> list[Change]:
    return [(opening, "carve", lambda real: lambda *args: ({}, {}))]


@bug("The policies of the agents around a child are not asked.")
def outer_policy_ignored() -> list[Change]:
    return [(calls, "homes", lambda real: lambda state, path: iter([next(iter(real(state, path)))]))]


@bug("`never A after B` forgets what was called.")
def never_after_forgotten() -> list[Change]:
    def without(real: dict[str, Any]) -> dict[str, Any]:
        return {**real, "never": lambda judge, rule: None}

    return [(rules, "_SAYS", without)]


@bug("A limit in a window counts what has left the window.")
def window_miscounted() -> list[Change]:
    def make(real: Any) -> Any:
        def used(found: Any, rule: int, group: str, since: int | None) -> Any:
            return real(found, rule, group, None)

        return used

    return [(monitors, "limit_used", make)]


@bug("What a run itself has used of a limit that runs share is not counted against it.")
def own_use_forgotten() -> list[Change]:
    def make(real: Any) -> Any:
        def counted(self: MemoryStore, run_id: str, uses: Any) -> Any:
            found = real(self, run_id, uses)
            return {name: {cmd: use for cmd, use in of.items() if cmd[0] != run_id} for name, of in found.items()}

        return counted

    return [(MemoryStore, "_counted", make)]


@bug("An approval is not used up by the call that it was for.")
def grant_reused() -> list[Change]:
    def make(real: Any) -> Any:
        def freeze(program: Any, draft: Any, frame: Any, body: Any) -> None:
            real(program, draft, frame, body)
            for name in body.get("grants", ()):
                grants = draft.own("grants")
                grants[name] = replace(grants[name], used_by=None)

        return freeze

    return [(outcomes, "freeze", make)]


@bug("An approval never expires.")
def approval_kept_for_ever() -> list[Change]:
    def make(real: Any) -> Any:
        return lambda grant, now_ms: False

    return [(module, "lapsed", make) for module in (actions, binding, calls)]


@bug("A call is made with other arguments than those that were approved.")
def approval_for_other_args() -> list[Change]:
    def make(real: Any) -> Any:
        def chosen(program: Any, state: Any, frame: Any, action: Any) -> Any:
            tool, args, flags = real(program, state, frame, action)
            return tool, {**args, "n": args["n"] + 1} if action.kind == "call_approved" else args, flags

        return chosen

    return [(calls, "chosen", make)]


# ---- frames, rollback, the end


@bug("A rollback begins with the first call.")
def undo_in_order() -> list[Change]:
    return [(opening, "reversed", lambda real: iter)]


@bug("What was taken back stays on the list.")
def undo_twice() -> list[Change]:
    return [(frames, "_taken_back", lambda real: lambda draft, frame, body: None)]


@bug("Frames that are not wanted any more are closed while a write is in flight in them.")
def stopped_in_flight() -> list[Change]:
    return [(machine, "open_write", lambda real: lambda program, state, frame: False)]


@bug("A cancelled run does not say which of its writes nobody knows about.")
def cancelled_write_forgotten() -> list[Change]:
    def make(real: Any) -> Any:
        def end(program: Any, state: Any, frame: Any, body: Any) -> Any:
            record = real(program, state, frame, body)
            return Record(record.kind, {k: v for k, v in record.body.items() if k != "unresolved"})

        return end

    return [(machine, "_end", make)]


@bug("`finally` is left out.")
def finally_left_out() -> list[Change]:
    def make(real: Any) -> Any:
        def end_of(program: Any, frame: Frame, end: Any) -> Record:
            return Record("closed" if frame.kind == "agent" else "finished", end)

        return end_of

    return [(machine, "end_of", make)]


@bug("A join is satisfied with one branch less.")
def joins_early() -> list[Change]:
    def make(real: Any) -> Any:
        def of_branches(program: Any, state: Any, frame: Any, cmd: Any) -> Any:
            body = real(program, state, frame, cmd)
            done = sum(end["how"] == "done" for end in frame.ended.values())
            if body is None and done and done + 1 == program.action(frame).need:
                return {**cmd, "how": "ok", "results": {}}
            return body

        return of_branches

    return [(opening, "_of_branches", make)]


@bug("The values of items come in the order in which they ended.")
def items_out_of_order() -> list[Change]:
    def make(real: Any) -> Any:
        def of_items(program: Any, frame: Any, cmd: Any) -> Any:
            body = real(program, frame, cmd)
            if body is not None and body["how"] == "ok" and not program.action(frame).flat:
                values = [end["value"] for end in frame.ended.values() if end["how"] == "done"]
                return {**body, "result": values}
            return body

        return of_items

    return [(opening, "_of_items", make)]


@bug("A run that is parked goes on in its other frames.")
def parked_goes_on() -> list[Change]:
    def make(real: Any) -> Any:
        return lambda program, state: machine._at(program, state, state.frames[""], machine._tree(state), stop=False)

    return [(machine, "_in_flight", make)]
