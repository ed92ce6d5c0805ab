"""The engine: many runs at once on one event loop, every one of them resumable at any moment.

    async with Engine(store="runs.db", tools=[refund], models={"large": model}) as jam:
        run = await jam.start("support.jam", input={...}, id="t-42", principal=user)
        async for event in run.events(): ...
        await jam.answer(question_id, option="approve", by=user)

It installs no signal handlers and keeps nothing in globals; several engines may live in one process, and several
processes may share one database.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

from jamjet_dsl.definition import Compiled, Definition
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Chance, Happened, advance
from jamjet_dsl.engine.chance import SystemChance, new_id
from jamjet_dsl.engine.clock import SystemClock
from jamjet_dsl.engine.commits import Commits
from jamjet_dsl.engine.driver import Driver, as_event, at_rest
from jamjet_dsl.engine.flights import MOST_EFFECTS, MOST_THREADS, Places
from jamjet_dsl.engine.handle import Run
from jamjet_dsl.engine.journal import LEASE_MS, Journal, batch_of, keys_of, used_of
from jamjet_dsl.engine.keeper import MOST_RUNS, Keeper
from jamjet_dsl.engine.loading import load_since, load_state, load_veil
from jamjet_dsl.engine.naming import check_same_request, run_to_change
from jamjet_dsl.engine.owner import is_dead, this_owner
from jamjet_dsl.engine.programs import Programs
from jamjet_dsl.engine.questions import closed, find_question, over
from jamjet_dsl.engine.recordings import is_off, recorded_hosts
from jamjet_dsl.engine.view import RunView, view_of
from jamjet_dsl.engine.watching import POLL_MS, Watching
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.fold import waits_for_people
from jamjet_dsl.kernel.ids import trace_key
from jamjet_dsl.kernel.machine import initial
from jamjet_dsl.kernel.model import ENDED, Event, Mode, RunState
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.recovery import recover
from jamjet_dsl.kernel.state_json import encode
from jamjet_dsl.ports import (
    Clock,
    Lease,
    Message,
    ModelHost,
    New,
    Outdated,
    QuestionRow,
    RunSummary,
    Store,
    ToolHost,
)
from jamjet_dsl.tools.python import Function
from jamjet_dsl.tools.threads import Threads

if TYPE_CHECKING:
    from jamjet_dsl.engine.audit.heads import HeadLog
    from jamjet_dsl.engine.audit.witness import Witness

__all__ = ["POLL_MS", "Engine", "Run"]

GRACE_MS = 10_000
"""How long closing waits for writes in flight."""
HANDOVER_MS = 3_000
"""How long an answer waits to be taken by the process that drives the run."""
SKIP_MS = 60_000
"""After how long a worker looks again whether it has the tools of a program."""
CLAIMS = 100
"""Runs that a worker takes up in one transaction: a bound for how long others wait for the write lock."""
_UNBOUND = frozenset({"JAMR303", "JAMR304", "JAMR306", "JAMR307"})
"""The codes of tools, models or keys that are not there."""

Person = Any
"""A name, `{"id": …, "roles": […]}`, None, or anything that the `verify` hook of the engine takes."""


class Engine:
    """Runs programs. See the module's text; every argument has a sensible default.

    `store` is a path or a store; `tools` are functions by name (`tools=[refund]` or `{"refund": f}`); `models` maps
    a model's name (or `"*"`) to a model. `folder` overrides where tools' modules are looked for. `verify` turns
    whatever the service knows of a caller into `{"id": …, "roles": […]}`; what it raises reaches the caller.

    Without `drive` it looks and posts: what it starts, and what it is told for a run, is journaled with what the
    program decides about it, and then left to whoever drives runs. No tool and no model is called, and none is needed.

    `heads` signs where runs stand, at most once a second and when the engine is closed; see docs/audit.md.
    """

    def __init__(
        self,
        store: str | Path | Store = "jam.db",
        tools: Mapping[str, Function] | Iterable[Function] = (),
        models: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        *,
        folder: str | Path | None = None,
        durability: Literal["full", "normal"] = "full",
        chance: Chance | None = None,
        verify: Callable[[Any], Mapping[str, Any]] | None = None,
        drive: bool = True,
        max_runs: int = MOST_RUNS,
        max_effects: int = MOST_EFFECTS,
        max_threads: int = MOST_THREADS,
        lease_ms: int = LEASE_MS,
        heads: HeadLog | None = None,
    ) -> None:
        self._verify = verify
        self.drives = drive
        self.clock: Clock = clock or SystemClock()
        self.chance: Chance = chance or SystemChance()
        self._owns_store = isinstance(store, str | Path)
        if isinstance(store, str | Path):
            from jamjet_dsl.store.sqlite import SqliteStore

            self.store: Store = SqliteStore(store, durability)
        else:
            self.store = store
        self.owner = this_owner(self.store.durability)
        self._lease_ms = lease_ms
        where = None if folder is None else Path(folder)
        self._programs = Programs(self.store, tools, models or {}, where, Threads(max_threads), calls=drive)
        self._commits = Commits(self.store, may_use_thread=isinstance(self.clock, SystemClock))
        self._keeper = Keeper(self, self.chance, self._commits, Places(max_effects, max_threads), lease_ms, max_runs)
        self._watching = Watching(self.store, self._noticed)
        self._nudge: asyncio.Event | None = None
        self._working_since: int | None = None
        self._skipped: dict[str, int] = {}
        """Programs whose tools this worker does not have, and when it found that out."""
        self._tell: Callable[[str, JamError], None] = lambda run_id, error: None
        self._handles: WeakValueDictionary[str, Run] = WeakValueDictionary()
        self._witness = None if heads is None else self._witnessed(heads)
        self._closed = False

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace_ms: int = GRACE_MS) -> None:
        """Stop driving: start nothing more, wait for writes in flight, give up all leases. Every run is resumable.

        A call that timed out and still runs on a thread is waited for too: what it did is worth knowing.
        """
        if self._closed:
            return
        self._closed = True
        self._keeper.stop()
        try:
            until = asyncio.get_running_loop().time() + grace_ms / 1000
            while self._keeper.drivers and (left := until - asyncio.get_running_loop().time()) > 0:
                self._nudge = asyncio.Event()
                await nudged(self._nudge, left)
        finally:
            self._keeper.abort()
            await self._commits.close()
            self._programs.threads.close()
            self._watching.close()
            if self._owns_store:
                self.store.close()
            if self._witness is not None:
                self.store.observer = None
                await self._witness.close()

    def _witnessed(self, heads: HeadLog) -> Witness:
        from jamjet_dsl.engine.audit.witness import Witness

        aside = isinstance(self.clock, SystemClock)
        witness = Witness(heads, self.clock, aside, lambda error: self.failed("audit", error))
        self.store.observer = witness.committed
        return witness

    def late(self) -> list[str]:
        """The tools of calls that were given up and still run on a thread: closing waits for what they give."""
        return sorted(tool for driver in self._keeper.drivers.values() for tool in driver.late())

    # ---- starting and resuming

    async def start(
        self,
        program: str | Path | Compiled | Definition,
        input: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        principal: Person = None,
        if_exists: Literal["error", "attach"] = "error",
        agent: str | None = None,
        drive: bool = True,
        policy: Mode = "enforce",
    ) -> Run:
        """Start a run and drive it. Returns once its first transition is committed.

        Without `drive`, and while as many runs are driven as this engine may drive, none of its calls is begun here:
        the run lies ready in the database for whoever takes it up. With `policy="shadow"` every call is decided and the
        decision journaled, and the call made whatever was decided, in this run, its children and its forks.

        Raises JamError: JAMR0xx for the program, JAMR301 for the input, JAMR303 to 305 for its bindings, JAMR203 if
        the id exists (unless `if_exists="attach"`, which gives that run if it has this agent and input).
        """
        self._check_open()
        place = self._programs.pin(program, agent, self.clock.now_ms())
        bound = self._programs.bound(place)
        run_id = id if id is not None else new_id()
        kind, body = inputs.started(
            bound.program, dict(input or {}), self._person(principal), bound.digest, policy=policy
        )
        first = [Happened(kind, {**body, "source": place.source})]
        veil = load_veil(self.store, bound.program, run_id, new=True)
        known, used = keys_of(veil, self.store), used_of(veil, self.store)
        drive = drive and self.drives
        here = drive and self._keeper.room > 0
        if here:
            # What the store may refuse comes first: a run whose lease is taken and which nobody begins would be stuck.
            self._watching.begin()
        while True:
            now = self.clock.now_ms()
            step = advance(bound.program, initial(run_id), first, now, self.chance, known, used, begin=here)
            # What has nothing to do for now is nobody's from the beginning.
            driven = here and not at_rest(step, now)
            batch = batch_of(veil, step, release=not driven)
            try:
                lease = await self._keeper.create(New(run_id, batch, self.owner, self._lease_ms, now))
            except Outdated:
                continue
            except JamError as error:
                if error.code != "JAMR203" or if_exists != "attach" or not self._exists(run_id):
                    raise
                check_same_request(self._look(self.store.summary(run_id))[1], body)
                return await self._attach(run_id, drive)
            break
        if lease is not None:
            if veil is not None:
                veil.unsaved.clear()
            journal = Journal(self.store, bound.program, lease, veil, 0, self._lease_ms)
            driver = Driver(self._keeper, bound.program, initial(run_id), journal, bound.tools, bound.models)
            self._keeper.take(driver)
            driver.go_on(step)
        elif here:
            self._keeper.rests(run_id, step.state)
        elif drive:
            self._keeper.defer(run_id)
        if self._witness is not None:
            self._witness.soon()
        return self._handle(run_id)

    async def resume(self, run_id: str) -> Run:
        """Drive a run on from where it stands. Raises JamError: JAMR204 (it has ended), JAMR205 (another process
        drives it), JAMR303 to 305 (its tools or models are not there)."""
        self._check_drives()
        run_id = run_to_change(self.store, run_id)
        summary = self.store.summary(run_id)
        if summary.status in ENDED:
            raise over(summary)
        driver = self._keeper.drivers.get(run_id)
        if driver is not None:
            driver.drive_on()
        elif not self._keeper.knows(run_id):
            self._take_up(run_id)
        return self._handle(run_id)

    async def resume_all(self) -> tuple[list[Run], dict[str, JamError]]:
        """Resume every run that has something to do; also gives why others could not be."""
        runs, problems = [], {}
        for run_id in self.store.due(self.clock.now_ms()):
            try:
                runs.append(await self.resume(run_id))
            except JamError as error:
                problems[run_id] = error
        return runs, problems

    async def work(self, poll_ms: int = 500, tell: Callable[[str, JamError], None] | None = None) -> None:
        """Keep taking up whatever has something to do, until cancelled: what `jam worker` does.

        `tell` hears of each run that cannot be driven here, and why; of a program whose tools are missing once.
        A run whose process has died on this machine is taken up within `poll_ms`, any other one when its lease is
        over.
        """
        self._check_drives()
        self._tell = tell or self._tell
        self._working_since = self.clock.now_ms()
        self._keeper.shelves = True
        self._keeper.forget_resting()
        self._watching.begin()
        while True:
            self._nudge = asyncio.Event()
            try:
                full = self._take_due()
                wake = self.store.next_wake()
            except JamError as error:
                if error.code != "JAMR103":
                    raise
                full, wake = False, None
            self._keeper.forget_resting()
            left = 0 if wake is None else wake - self.clock.now_ms()
            delay = min(poll_ms, left) if left > 0 else poll_ms
            await nudged(self._nudge, 0 if full else delay / 1000)

    def _take_due(self) -> bool:
        """Take up what has something to do, as far as there is room. True if there may be more to take."""
        now = self.clock.now_ms()
        self._keeper.clear_shelf(now)
        most = min(self._keeper.room, CLAIMS)
        if not most:
            return False
        skip = {source for source, since in self._skipped.items() if now - since < SKIP_MS}
        leases = self.store.claim_due(self.owner, self._lease_ms, now, most, is_dead, skip)
        for lease in leases:
            try:
                self._begin(*self._load(lease))
            except JamError as error:
                if error.code not in _UNBOUND:
                    self._keeper.give_up(lease, failed=True)
                else:
                    self._keeper.give_up(lease)
                    source = self.store.summary(lease.run_id).source
                    if source in self._skipped:
                        self._skipped[source] = now
                        continue
                    self._skipped[source] = now
                self.failed(lease.run_id, error)
        return len(leases) == most

    def claim(self, run_id: str) -> tuple[Driver, list[Happened]]:
        """Take a run's lease and load it; the events are what recovery has to say first."""
        self._programs.bound_for(run_id)
        lease = self.store.claim(run_id, self.owner, self._lease_ms, self.clock.now_ms(), dead=is_dead)
        try:
            return self._load(lease)
        except BaseException:
            self._keeper.give_up(lease)
            raise

    def _load(self, lease: Lease) -> tuple[Driver, list[Happened]]:
        run_id = lease.run_id
        bound = self._programs.bound_for(run_id)
        veil = load_veil(self.store, bound.program, run_id)
        state, snapshot = load_since(self.store, bound.program, run_id, veil)
        if state.seq != self.store.last_seq(run_id):
            # The lease is ours, so nobody can have appended since: the journal and its run disagree.
            raise JamError("JAMR107", f"the journal of {run_id} does not end where its run says")
        if veil is not None and veil.erased_in(json.loads(encode(state))):
            raise JamError("JAMR413", f"values that the run {run_id} needs to go on were erased")
        self._programs.recall_scripts(run_id, bound)
        journal = Journal(self.store, bound.program, lease, veil, snapshot, self._lease_ms)
        tools: ToolHost = bound.tools
        models: ModelHost = bound.models
        if is_off(state):
            tools, models = recorded_hosts(self.store, bound.program, run_id, veil)
        driver = Driver(self._keeper, bound.program, state, journal, tools, models)
        return driver, self._recovery(bound.program, state)

    def _recovery(self, program: Program, state: RunState) -> list[Happened]:
        """What is journaled before anything else when a run is taken up.

        A run that came to rest by itself lost nothing. But unless somebody is known to have watched it since, that
        time is not active: `since_ms` says from when on it was watched.
        """
        if state.status in ENDED:
            return []
        if state.status == "running" or state.intents:
            return [Happened(record.kind, record.body) for record in recover(program, state, self.owner)]
        since = self._keeper.watched_since(state.run_id)
        if since is None:
            since = self.clock.now_ms() if self._working_since is None else self._working_since
        if since <= state.now_ms or waits_for_people(state):
            return []
        return [Happened("resumed", {"owner": self.owner, "since_ms": since})]

    def _take_up(self, run_id: str, holds: bool = False) -> None:
        """Drive a run from now on, or as soon as there is room; what `holds` waits for a message before it begins
        anything. Raises JamError as `resume`."""
        self._watching.begin()
        if self._keeper.room:
            driver, first = self.claim(run_id)
            driver.holds = holds
            self._begin(driver, first)
        elif self.drives:
            self._programs.bound_for(run_id)
            self._keeper.defer(run_id)

    def _begin(self, driver: Driver, first: list[Happened]) -> None:
        self._keeper.take(driver)
        driver.begin(first)

    def _handle(self, run_id: str) -> Run:
        handle = self._handles.get(run_id)
        if handle is None:
            handle = self._handles[run_id] = Run(self, run_id)
        return handle

    def _person(self, who: Person) -> dict[str, Any]:
        return person(who if self._verify is None or who is None else self._verify(who))

    def _check_open(self) -> None:
        if self._closed:
            raise JamError("JAMR006", "the engine is closed", "make a new one")

    def _check_drives(self) -> None:
        self._check_open()
        if not self.drives:
            raise JamError("JAMR006", "this engine drives no runs", "make one without `drive=False`")

    def _exists(self, run_id: str) -> bool:
        """Whether there is such a run; the id of one that was pruned is taken all the same."""
        with suppress(JamError):
            return self.store.summary(run_id).run_id == run_id
        return False

    async def _attach(self, run_id: str, drive: bool) -> Run:
        if drive:
            with suppress(JamError):
                return await self.resume(run_id)
        return self._handle(run_id)

    def look_after(self, run_id: str) -> JamError | None:
        """See to it that a run goes on though another process drives it now: when that one stops in the middle, the
        run is taken over here. Whoever waits for a run wants that; an engine without its tools only looks on, and
        gives the reason."""
        if self._closed or not self.drives or run_id in self._keeper.errors:
            return None
        if self._keeper.knows(run_id):
            driver = self._keeper.drivers.get(run_id)
            if driver is not None:
                driver.drive_on()
            return None
        if self.store.summary(run_id).status in ENDED:
            return None
        try:
            self._programs.bound_for(run_id)
        except JamError as error:
            return error
        self._keeper.watch(run_id)
        self._watching.begin()
        return None

    # ---- from outside

    async def answer(
        self,
        question: str,
        option: str,
        *,
        by: Person = None,
        note: str | None = None,
        form: Mapping[str, Any] | None = None,
    ) -> RunSummary:
        """Answer a question: its id, or a run that has one open question. Returns where the run stands then.

        Raises JamError: JAMR401 (no such question), 402 (it is closed, and by whom), 403, 404 (option or form), 409.
        """
        row = self.question(question)
        if row.status != "open":
            raise closed(row)
        who, data = self._person(by), dict(form or {})
        if note is not None:
            data.setdefault("note", note)
        body = {"question": row.id, "option": option, "form": data, "by": who["id"], "roles": who.get("roles")}
        try:
            await self._post(row.run_id, "answer", body, None)
        except JamError as error:
            # Somebody was quicker, or the run ended before it took the answer: the question says how it was closed.
            row = self.store.find_question(row.id)
            if error.code not in ("JAMR204", "JAMR401", "JAMR402") or row.status == "open":
                raise
        row = self.store.find_question(row.id)
        if row.status == "open" or (row.status == "answered" and (row.option, row.by) == (option, who["id"])):
            return self.store.summary(row.run_id)
        raise closed(row)

    async def send(
        self, run_id: str, event: str, payload: Any = None, *, dedupe: str | None = None, by: Person = None
    ) -> RunSummary:
        """Send an event to a run. The same `dedupe` twice is one event. Raises JamError JAMR405, 406, 204."""
        run_id = run_to_change(self.store, run_id)
        if dedupe is not None and self.store.deduped(run_id, f"event:{dedupe}") is not None:
            # A sender that did not hear of it asks again: the answer is the same, even if the run has ended.
            return self.store.summary(run_id)
        body = {"name": event, "payload": payload, "id": dedupe or new_id(), "by": self._person(by)["id"]}
        await self._post(run_id, "event", body, None if dedupe is None else f"event:{dedupe}")
        return self.store.summary(run_id)

    async def cancel(self, run_id: str, *, by: Person = None, note: str = "", now: bool = False) -> RunSummary:
        """Cancel a run; `now` skips what its `on cancel` would do. Raises JamError JAMR204."""
        return await self._operate(run_id, "cancel", {"by": self._person(by)["id"], "note": note, "now": now})

    async def retry(self, run_id: str, *, by: Person = None, note: str = "") -> RunSummary:
        """Let a parked run try again. Raises JamError JAMR408."""
        return await self._operate(run_id, "retry", {"by": self._person(by)["id"], "note": note})

    async def settle(
        self,
        run_id: str,
        happened: bool,
        result: Any = None,
        *,
        by: Person = None,
        note: str = "",
        cmd: str | None = None,
    ) -> RunSummary:
        """Say whether a call in doubt happened, and with which result. Raises JamError JAMR407, 302."""
        who = self._person(by)["id"]
        body = {"happened": happened, "result": result, "by": who, "note": note, "cmd": cmd}
        return await self._operate(run_id, "settle", body)

    async def _operate(self, run_id: str, kind: str, body: dict[str, Any]) -> RunSummary:
        run_id = run_to_change(self.store, run_id)
        await self._post(run_id, kind, body, None)
        return self.store.summary(run_id)

    async def _post(self, run_id: str, kind: str, body: dict[str, Any], dedupe: str | None) -> None:
        """Leave a message in the run's inbox and see it taken: by our own driver, by one made for it, or by the
        process that drives the run. If nobody can take it now it stays, and whoever drives the run next will."""
        self._check_open()
        program, state = self._look(self.store.summary(run_id))
        if state.status in ENDED:
            raise over(self.store.summary(run_id))
        now = self.clock.now_ms()
        _kind, event = as_event(program, state, Message(0, now, kind, body))
        if kind == "settle":
            # What is told about one call is never taken for another that may be in doubt when it arrives.
            body = {**body, "cmd": event["cmd"]}
        veil = load_veil(self.store, program, run_id)
        sealed, apart = (body, []) if veil is None else veil.seal_message(body)
        number = self.store.enqueue(run_id, kind, sealed, dedupe, now, apart)
        if number is None:
            return
        if not self._keeper.knows(run_id):
            try:
                # What is refused drives nothing: the driver begins once it has accepted a message.
                self._take_up(run_id, holds=True)
            except JamError as error:
                if error.code not in _UNBOUND | {"JAMR205"}:
                    raise
        driver = self._keeper.drivers.get(run_id)
        reply = None if driver is None else driver.reply_to(number)
        self._keeper.poke(run_id)
        if reply is None and run_id in self._keeper.drivers:
            # It was at rest here and has just been woken.
            reply = self._keeper.drivers[run_id].reply_to(number)
        if reply is not None:
            await asyncio.wait([reply])
            if not reply.cancelled():
                reply.result()
                return
        await self._taken(run_id, number)

    async def _taken(self, run_id: str, number: int) -> None:
        for _ in range(HANDOVER_MS // 50):
            self._check_open()
            if all(message.id != number for message in self.store.pending(run_id)):
                return
            summary = self.store.summary(run_id)
            if summary.status in ENDED:
                # It ended as the message came: nobody will take it, and the sender should not think so.
                raise over(summary)
            await asyncio.sleep(0.05)

    # ---- looking

    def run(self, run_id: str) -> Run:
        """A handle of a run that exists, driven here or not. Ids may be shortened."""
        return self._handle(self.store.find(run_id))

    def runs(self, status: Iterable[str] | None = None) -> list[RunSummary]:
        """All runs, oldest first."""
        return self.store.summaries(status)

    def show(self, run_id: str) -> RunView:
        """Everything about where a run stands."""
        return self.view(self.store.summary(self.store.find(run_id)))

    def view(self, summary: RunSummary) -> RunView:
        """Everything about a run that stands there."""
        program, state = self._look(summary)
        view = view_of(summary, program, state, load_veil(self.store, program, summary.run_id))
        slots = tuple(self._delayed(program, state))
        return replace(view, waiting_for=(*view.waiting_for, *slots)) if slots else view

    def _delayed(self, program: Program, state: RunState) -> Iterator[dict[str, Any]]:
        """The calls that have been decided and wait until the limits of their tools let them be made."""
        for intent in state.intents.values():
            tool = program.defn.tools.get(str(intent.body.get("tool", "")))
            if tool is None or not tool.limits or intent.unsettled:
                continue
            name, holder = str(intent.body["tool"]), trace_key(state.run_id, intent.cmd)
            at_ms = self.store.slot(name, self.clock.now_ms(), holder)
            if at_ms is not None:
                yield {"kind": "slot", "name": name, "at_ms": at_ms}

    def history(self, run_id: str, after: int = 0) -> Iterator[Event]:
        """A run's journal."""
        return self.store.history(self.store.find(run_id), after)

    def inbox(self) -> list[QuestionRow]:
        """All open questions."""
        return self.store.questions()

    def question(self, name: str) -> QuestionRow:
        """The question with this id, or the only open one of the run with this id; see `find_question`."""
        return find_question(self.store, name)

    def program(self, run_id: str) -> Compiled:
        """The program that a run executes, as it was when the run started."""
        summary = self.store.summary(self.store.find(run_id))
        return self._programs.pinned(summary.definition, summary.source).compiled

    def folder(self, run_id: str) -> Path | None:
        """Where the program of a run lay when the run was started; None for one that was no file."""
        summary = self.store.summary(self.store.find(run_id))
        return self._programs.pinned(summary.definition, summary.source).folder

    def _look(self, summary: RunSummary) -> tuple[Program, RunState]:
        """A run's program and present state, without driving it. Needs no tools."""
        run_id = summary.run_id
        driver = self._keeper.drivers.get(run_id)
        if driver is not None and driver.state.seq == summary.last_seq:
            # Not behind: a driver learns only with its next commit that another process has taken its run over.
            return driver.program, driver.state
        handle = self._handles.get(run_id)
        if handle is not None and handle.left is not None and handle.left[1].seq == summary.last_seq:
            return handle.left
        program = Program.of(self._programs.pinned(summary.definition, summary.source).compiled.definition)
        return program, load_state(self.store, program, run_id, load_veil(self.store, program, run_id))

    # ---- who watches

    def progressed(self, run_id: str, still: bool = True) -> None:
        """Something was committed for this run: wake whoever follows it."""
        self._watching.progressed(run_id, still)
        if self._witness is not None:
            self._witness.soon()

    def failed(self, run_id: str, error: JamError) -> None:
        """A run could not be driven on."""
        try:
            self._tell(run_id, error)
        except Exception as problem:
            # Whoever is told may be gone (a closed pipe). The other runs, and the heartbeat, go on all the same.
            loop = asyncio.get_running_loop()
            loop.call_exception_handler({"message": f"telling of {run_id} failed", "exception": problem})

    def vacated(self, driver: Driver) -> None:
        """A driver has left. Whoever holds its run is about to ask where it stands."""
        handle = self._handles.get(driver.run_id)
        if handle is not None:
            handle.left = (driver.program, driver.state)
        if self._nudge is not None and (self._closed or self._keeper.room == 1):
            self._nudge.set()

    def changed(self, run_id: str, every: bool = True) -> asyncio.Future[None]:
        """A future that ends with the next commit of this run, here or in another process; without `every` with one
        after which the run goes no further by itself."""
        self._check_open()
        return self._watching.changed(run_id, every)

    def forget(self, run_id: str, future: asyncio.Future[None]) -> None:
        """Nobody waits for this future any more."""
        self._watching.forget(run_id, future)

    def driver(self, run_id: str) -> Driver | None:
        """Who drives a run in this engine. Raises the JamError that ended the driving, if one did."""
        error = self._keeper.errors.get(run_id)
        if error is not None:
            raise error
        return self._keeper.drivers.get(run_id)

    def nobody_drives(self, run_id: str) -> bool:
        """Whether a run has something to do, and no process that is known to live has its lease."""
        summary = self.store.summary(run_id)
        if summary.status in ENDED or (summary.owner and not is_dead(summary.owner)):
            return False
        return summary.status == "running" or bool(self.store.pending(run_id))

    def _noticed(self, run_id: str, mail: bool) -> None:
        """Somebody wrote to a run."""
        if mail or run_id not in self._keeper.drivers:
            self._keeper.poke(run_id)
        if mail and self._working_since is not None and self._nudge is not None:
            self._nudge.set()


async def nudged(nudge: asyncio.Event, seconds: float) -> None:
    """Wait until somebody nudges, at most so long.

    Not with `asyncio.wait_for`: until Python 3.12 one that is cancelled just as its event is set returns as if it had
    not been, and whoever asked a worker to stop while a message came would wait for it for ever.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await nudge.wait()


def person(who: Person) -> dict[str, Any]:
    """A caller as `{"id": …}` with `roles`, where they are known: without them nobody keeps a list."""
    if who is None:
        return {"id": ""}
    if isinstance(who, str):
        return {"id": who}
    if not isinstance(who, Mapping):
        help = 'give a name or {"id": ..., "roles": [...]}, or a verify hook'
        raise JamError("JAMR006", f"{type(who).__name__} is no person", help)
    return {"id": "", **who}
