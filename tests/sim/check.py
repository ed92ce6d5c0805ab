"""What must hold, checked while it happens: every commit, every call that leaves a machine, every effect in the world.

Nothing here asks the kernel what it thinks: budgets, policy, timers and leases are kept a second time, naively, from
what stands in the journal. Only that a state is the fold of its journal is checked with the kernel's own `apply`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from jamjet_dsl.kernel.budget import used_at
from jamjet_dsl.kernel.machine import apply, initial
from jamjet_dsl.kernel.model import ENDED, Event, RunState, Think
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.state_json import encode
from jamjet_dsl.ports import Batch, Lease, New, ToolContext
from tests.sim.book import Book
from tests.sim.loop import Machine, SimLoop
from tests.sim.programs import Subject
from tests.sim.rules import Everybody

MAIL = {"answer": "answered", "event": "received", "cancel": "cancelling", "retry": "unparked", "settle": "settled"}
"""The event that a message of each kind becomes, once, in the commit that takes it."""


class Violation(AssertionError):
    """Something that must never happen has happened."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        self.name = name
        self.text = text

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


class Holder:
    """Who may append to a run, as the claims say."""

    def __init__(self, token: int, machine: Machine) -> None:
        self.token = token
        self.machine = machine
        self.released = False
        self.doubtful = False


class Checker:
    """See the module's text. The first violation is kept in `failure`; `lines` tell the story if somebody listens."""

    def __init__(self, loop: SimLoop, tell: bool = False) -> None:
        self.loop = loop
        self.failure: Violation | None = None
        self.lines: list[str] | None = [] if tell else None
        self.recent: list[tuple[int, str]] = []
        self.books: dict[str, Book] = {}
        self.holders: dict[str, Holder] = {}
        self.mail: dict[int, tuple[str, str, dict[str, Any]]] = {}
        self.taken: set[int] = set()
        self.keys: dict[tuple[str, str], str] = {}
        self.everybody: Everybody = {}
        self.ill: dict[str, int] = {}
        self.events = 0
        self.history: Callable[[str, int], Iterable[Event]] = lambda run_id, after: ()
        """What the store, which never fails this one, says of a run after an event."""
        self.truth: Callable[[str, str, str, str], bool] = lambda run_id, tool, ref, frame: False
        """Whether a call of this tool about this, made by this frame, has happened in the world."""

    def story(self, line: str) -> None:
        """Note what happened, for whoever reads the trace."""
        if self.lines is not None:
            self.lines.append(f"{(self.loop.wall_ms() - 1_700_000_000_000) / 1000:12.3f}  {line}")
        else:
            self.recent.append((self.loop.wall_ms(), line))
            if len(self.recent) > 60:
                del self.recent[:30]

    def violated(self, name: str, text: str) -> None:
        """Keep the first violation; the simulation ends at the next turn."""
        if self.failure is None:
            self.failure = Violation(name, text)
            self.story(f"VIOLATED {name}: {text}")

    def must(self, fact: bool, name: str, text: Callable[[], str] | str) -> None:
        """What must hold."""
        if not fact:
            self.violated(name, text if isinstance(text, str) else text())

    def unwell(self, machine: Machine) -> None:
        """This machine has been stalled, or its store has failed: it may lose the leases that it has."""
        self.ill[machine.name] = self.loop.wall_ms()
        for holder in self.holders.values():
            if holder.machine is machine:
                holder.doubtful = True

    # ---- the store

    def wrote(self, machine: Machine, name: str, args: tuple[Any, ...], more: dict[str, Any], result: Any) -> None:
        """A write to the store was committed."""
        match name:
            case "append":
                self._appended(machine, args[0], args[1], args[2])
            case "create":
                self._created(machine, args[0], args[1], result)
            case "claim":
                self._claimed(machine, args[0], result)
            case "renew":
                holder = self.holders[args[0].run_id]
                self.must(args[0].token == holder.token, "fencing", "a lease that is not the newest was renewed")
            case "release":
                holder = self.holders[args[0].run_id]
                holder.released = holder.released or holder.token == args[0].token
            case "append_many":
                for item, written in zip(args[0], result, strict=True):
                    if isinstance(written, Exception):
                        continue
                    if isinstance(item, New):
                        self._created(machine, item.run_id, item.batch, written)
                    else:
                        self._appended(machine, *item)
            case "claim_due":
                for lease in result:
                    self._claimed(machine, lease.run_id, lease)
            case "renew_many":
                for lease in result:
                    holder = self.holders[lease.run_id]
                    self.must(lease.token == holder.token, "fencing", "a lease that is not the newest was renewed")
            case "enqueue" if result is not None:
                self.must(result not in self.mail, "ids", f"the message {result} was numbered twice")
                self.mail[result] = (args[0], args[1], args[2])

    def _created(self, machine: Machine, run_id: str, batch: Batch, lease: Lease) -> None:
        holder = self.holders[run_id] = Holder(lease.token, machine)
        holder.released = batch.release
        self._committed(machine, run_id, 0, batch)

    def _claimed(self, machine: Machine, run_id: str, lease: Lease) -> None:
        old = self.holders[run_id]
        self.must(lease.token > old.token, "fencing", f"a claim of {run_id} gave the token {lease.token} again")
        well = not old.machine.gone and not old.machine.stalled and old.machine is not machine
        well = well and not (old.released or old.doubtful)
        calm_ms = self.loop.wall_ms() - self.ill.get(old.machine.name, 0)
        even = abs(old.machine.skew_ms - machine.skew_ms) <= 3000
        if well and even and calm_ms > 40_000:
            self.violated("lease kept", f"{machine.name} took {run_id} from {old.machine.name}, which was well")
        self.story(f"{machine.name} claims {run_id}")
        self.holders[run_id] = Holder(lease.token, machine)

    def _appended(self, machine: Machine, lease: Lease, expected: int, batch: Batch) -> None:
        holder = self.holders[lease.run_id]
        self.must(
            lease.token == holder.token and machine is holder.machine,
            "fencing",
            lambda: f"{machine.name} appended to {lease.run_id} under token {lease.token} of {holder.token}",
        )
        if batch.release:
            holder.released = True
        self._committed(machine, lease.run_id, expected, batch)

    def _committed(self, machine: Machine, run_id: str, after: int, batch: Batch) -> None:
        book = self.books.get(run_id)
        if book is None:
            self.violated("world", f"{run_id} is unknown")
            return
        events = list(islice(self.history(run_id, after), len(batch.drafts)))
        self.events += len(events)
        for use in batch.keys:
            known = self.keys.setdefault((use.tool, use.key), use.args_digest.hex())
            self.must(known == use.args_digest.hex(), "one key, one call", f"the key {use.key} was bound again")
        was_ended = book.ended
        for event in events:
            self.story(f"{run_id} {event.seq:3} {event.kind} {brief(event.body)}")
            book.add(event)
            if event.kind == "failed" and event.body["definite"]:
                self._did_not_happen(book, event)
        self._mail_taken(run_id, book, batch, events, was_ended)
        book.stands(batch.standing)
        if book.problem is not None:
            self.violated(*book.problem)

    def _did_not_happen(self, book: Book, event: Event) -> None:
        """What is said to have failed for certain has not happened. A tool's own error is its own word."""
        attempt = book.attempts.get(event.body["cmd"])
        if attempt is None or not attempt.writes or event.body["error"] in ("Declined", "Gone"):
            return
        tool, ref = attempt.body["tool"], str(attempt.body["args"]["ref"])
        happened = self.truth(book.run_id, tool, ref, event.body["cmd"].rpartition("#")[0])
        self.must(not happened, "doubt", f"{tool} {ref} is said to have failed for certain, and has happened")

    def _mail_taken(self, run_id: str, book: Book, batch: Batch, events: list[Event], was_ended: bool) -> None:
        """Every message is taken once, and what it says is journaled in that very commit."""
        counts: dict[str, int] = {}
        for event in events:
            if event.kind in MAIL.values():
                counts[event.kind] = counts.get(event.kind, 0) + 1
        for number in batch.consumed:
            self.must(number not in self.taken, "messages once", f"the message {number} was taken twice")
            self.taken.add(number)
            to, kind, body = self.mail.get(number, ("", "", {}))
            self.must(to == run_id, "messages once", f"the message {number} was for {to or 'nobody'}")
            wanted = MAIL.get(kind, "")
            if counts.get(wanted, 0):
                counts[wanted] -= 1
            elif not was_ended:
                self.must(book.may_refuse(kind, body), "messages kept", f"{kind} {body} was taken and not journaled")
        extra = [kind for kind, left in counts.items() if left]
        self.must(not extra, "messages once", f"{run_id}: {extra} without a message")

    # ---- calls and effects

    def begins(self, machine: Machine, tool: str, ctx: ToolContext, args: dict[str, Any]) -> str:
        """A call leaves a machine, now. Gives the frame that makes it."""
        book = self.books[ctx.run_id]
        holder = self.holders[ctx.run_id]
        self.must(
            machine is holder.machine, "lease held", f"{tool} of {ctx.run_id} began on {machine.name}, which lost it"
        )
        problem, frame = book.may_begin(tool, ctx, args)
        if problem is not None:
            self.violated(*problem)
        if ctx.promised:
            said = repr((tool, sorted(args.items())))
            known = self.keys.setdefault((f"sent {tool}", ctx.key), said)
            self.must(
                known == said, "one key, one call", f"{tool} was called with the key {ctx.key} and other arguments"
            )
        return frame

    def thinks(self, machine: Machine, run_id: str, think: Think) -> None:
        """A model is asked."""
        self.must(machine is self.holders[run_id].machine, "lease held", f"a model was asked for {run_id} elsewhere")
        self.must(think.id in self.books[run_id].open, "intent first", f"{think.id} of {run_id} has no intent")

    def happened(self, deed: Any, times: int) -> None:
        """An effect is there, in the world."""
        self.must(times == 1, "effects once", f"{deed.tool} {deed.ref} happened {times} times")

    # ---- states

    def began(self, run_id: str, subject: Subject) -> None:
        """A run is about to be started."""
        if run_id not in self.books:
            self.books[run_id] = Book(run_id, subject.definition, self.everybody)

    def same_state(self, run_id: str, state: RunState, how: str) -> None:
        """A state in some engine has to be the fold of the journal up to there."""
        book = self.books[run_id]
        if state.seq != len(book.events):
            return
        self.must(encode(state) == encode(book.folded()), "fold", f"{run_id} as {how} is not its journal's fold")
        held = used_at(state, "")
        own = book.accounts.held("")
        self.must(
            (held.held_tokens, held.held_cost) == own,
            "budget",
            f"{run_id} as {how} holds {held.held_tokens} tokens and {held.held_cost}, by the journal it is {own}",
        )

    def proves(self, book: Book) -> str | None:
        """Fold a journal from its first event once more; the reason if that is not what the engines had."""
        program = Program.of(book.definition)
        state = initial(book.run_id)
        for event in book.events:
            state = apply(program, state, event)
        return None if encode(state) == encode(book.folded()) else "folding it again gives another state"

    def ended(self, run_id: str) -> bool:
        """Whether a run is over, as its journal says."""
        return self.books[run_id].ended


def brief(body: dict[str, Any]) -> str:
    """A body as one short line."""
    kept = {
        k: v
        for k, v in body.items()
        if k not in ("digest", "decision", "trace_key", "definition", "bindings", "source", "roles")
    }
    text = " ".join(f"{k}={v}" for k, v in kept.items())
    return text if len(text) <= 150 else text[:149] + "…"


__all__ = ["ENDED", "Checker", "Violation", "brief"]
