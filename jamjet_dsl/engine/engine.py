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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from jamjet_dsl.definition import Compiled, Definition
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Chance, Happened, advance
from jamjet_dsl.engine.attendant import Attendant
from jamjet_dsl.engine.bindings import Bound, bind
from jamjet_dsl.engine.chance import SystemChance, new_id
from jamjet_dsl.engine.clock import SystemClock
from jamjet_dsl.engine.driver import Driver, as_event
from jamjet_dsl.engine.handle import Run
from jamjet_dsl.engine.journal import LEASE_MS, Journal, batch_of
from jamjet_dsl.engine.loading import Pinned, load_state, load_veil, pin, pinned
from jamjet_dsl.engine.owner import is_dead, this_owner
from jamjet_dsl.engine.view import RunView, view_of
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import initial
from jamjet_dsl.kernel.model import ENDED, Event, RunState
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.recovery import recover
from jamjet_dsl.ports import Clock, KeyConflict, Message, QuestionRow, RunSummary, Store
from jamjet_dsl.tools.python import Function, by_name
from jamjet_dsl.tools.threads import Threads

__all__ = ["Engine", "Run"]

POLL_MS = 100
"""How soon an engine notices what another process has written."""
GRACE_MS = 10_000
"""How long closing waits for writes in flight."""
MOST_PINS = 64
"""How many programs that callers hold compiled are remembered."""
HANDOVER_MS = 3_000
"""How long an answer waits to be taken by the process that drives the run."""

Person = Any
"""A name, `{"id": …, "roles": […]}`, None, or anything that the `verify` hook of the engine takes."""


class Engine:
    """Runs programs. See the module's text; every argument has a sensible default.

    `store` is a path or a store; `tools` are functions by name (`tools=[refund]` or `{"refund": f}`); `models` maps
    a model's name (or `"*"`) to a model. `folder` overrides where tools' modules are looked for. `verify` turns
    whatever the service knows of a caller into `{"id": …, "roles": […]}`; what it raises reaches the caller.
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
    ) -> None:
        self._verify = verify
        self.clock: Clock = clock or SystemClock()
        self.chance: Chance = chance or SystemChance()
        self._tools = by_name(tools)
        self._models = dict(models or {})
        self._folder = None if folder is None else Path(folder)
        self._owns_store = isinstance(store, str | Path)
        if isinstance(store, str | Path):
            from jamjet_dsl.store.sqlite import SqliteStore

            self.store: Store = SqliteStore(store, durability)
        else:
            self.store = store
        self.owner = this_owner()
        self._threads = Threads()
        self._bound: dict[str, tuple[Pinned, Bound]] = {}
        self._pins: dict[int, tuple[Compiled | Definition, Pinned]] = {}
        self._attendants: dict[str, Attendant] = {}
        self._errors: dict[str, JamError] = {}
        self._watchers: dict[str, set[asyncio.Future[None]]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace_ms: int = GRACE_MS) -> None:
        """Stop driving: start nothing more, wait for writes in flight, give up all leases. Every run is resumable."""
        if self._closed:
            return
        self._closed = True
        if self._poller is not None:
            self._poller.cancel()
        tasks = [attendant.stop() for attendant in list(self._attendants.values())]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=grace_ms / 1000)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._threads.close()
            for run_id in list(self._watchers):
                self.progressed(run_id)
            if self._owns_store:
                self.store.close()

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
    ) -> Run:
        """Start a run and drive it. Returns once its first transition is committed.

        Raises JamError: JAMR0xx for the program, JAMR301 for the input, JAMR303 to 305 for its bindings, JAMR203 if
        the id exists (unless `if_exists="attach"`, which gives that run).
        """
        self._check_open()
        place = self._pin(program, agent)
        bound = self._bind(place)
        run_id = id if id is not None else new_id()
        kind, body = inputs.started(bound.program, dict(input or {}), self._person(principal), bound.digest)
        first = [Happened(kind, {**body, "source": place.source})]
        veil = load_veil(self.store, bound.program)
        while True:
            now = self.clock.now_ms()
            step = advance(bound.program, initial(run_id), first, now, self.chance, self.store.key_digest)
            try:
                lease, _ = self.store.create(run_id, batch_of(veil, step), self.owner, LEASE_MS, now)
            except KeyConflict:
                continue
            except JamError as error:
                if error.code != "JAMR203" or if_exists != "attach":
                    raise
                return await self._attach(run_id)
            break
        if veil is not None:
            veil.unsaved.clear()
        journal = Journal(self.store, bound.program, lease, veil, 0)
        driver = Driver(self, bound.program, initial(run_id), journal, bound.tools, bound.models)
        driver.begin(step)
        self._attend(run_id, driver, [])
        return Run(self, run_id)

    async def resume(self, run_id: str) -> Run:
        """Drive a run on from where it stands. Raises JamError: JAMR204 (it has ended), JAMR205 (another process
        drives it), JAMR303 to 305 (its tools or models are not there)."""
        self._check_open()
        run_id = self.store.find(run_id)
        status = self.store.summary(run_id).status
        if status in ENDED:
            raise JamError("JAMR204", f"the run {run_id} is {status}")
        if run_id not in self._attendants:
            self._attend(run_id, *self.claim(run_id))
        return Run(self, run_id)

    async def resume_all(self) -> tuple[list[Run], dict[str, JamError]]:
        """Resume every run that has something to do; also gives why others could not be."""
        runs, problems = [], {}
        for run_id in self.store.due(self.clock.now_ms()):
            try:
                runs.append(await self.resume(run_id))
            except JamError as error:
                problems[run_id] = error
        return runs, problems

    async def work(self, poll_ms: int = 500) -> None:
        """Keep resuming whatever has something to do, until cancelled: what `jam worker` does."""
        while True:
            try:
                await self.resume_all()
            except JamError as error:
                if error.code != "JAMR103":
                    raise
            await asyncio.sleep(poll_ms / 1000)

    def claim(self, run_id: str) -> tuple[Driver, list[Happened]]:
        """Take a run's lease and load it; the events are what recovery has to say first."""
        bound = self._bound_for(run_id)
        lease = self.store.claim(run_id, self.owner, LEASE_MS, self.clock.now_ms(), dead=is_dead)
        try:
            veil = load_veil(self.store, bound.program, run_id)
            state = load_state(self.store, bound.program, run_id, veil)
            if state.seq != self.store.last_seq(run_id):
                # The lease is ours, so nobody can have appended since: the journal and its run disagree.
                raise JamError("JAMR107", f"the journal of {run_id} does not end where its run says")
            self._recall_scripts(run_id, bound)
            first: list[Happened] = []
            if state.status not in ENDED and (state.status == "running" or state.intents):
                # Nothing was lost by a run that came to rest by itself.
                first = [Happened(record.kind, record.body) for record in recover(bound.program, state, self.owner)]
            journal = Journal(self.store, bound.program, lease, veil, state.seq)
            return Driver(self, bound.program, state, journal, bound.tools, bound.models), first
        except BaseException:
            self.store.release(lease)
            raise

    def _person(self, who: Person) -> dict[str, Any]:
        return person(who if self._verify is None or who is None else self._verify(who))

    def _check_open(self) -> None:
        if self._closed:
            raise JamError("JAMR006", "the engine is closed", "make a new one")

    async def _attach(self, run_id: str) -> Run:
        with suppress(JamError):
            return await self.resume(run_id)
        return Run(self, run_id)

    def look_after(self, run_id: str) -> None:
        """See to it that a run goes on though another process drives it now: when that one stops in the middle, the
        run is taken over here. Whoever waits for a run wants that; an engine without its tools only looks on."""
        if self._closed or run_id in self._attendants or run_id in self._errors:
            return
        if self.store.summary(run_id).status in ENDED:
            return
        with suppress(JamError):
            self._bound_for(run_id)
            self._attend(run_id, None, [])

    def _attend(self, run_id: str, driver: Driver | None, first: list[Happened]) -> None:
        self._errors.pop(run_id, None)
        self._attendants[run_id] = Attendant(self, run_id, driver, first)
        self._watch()

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
            raise _closed(row)
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
        raise _closed(row)

    async def send(
        self, run_id: str, event: str, payload: Any = None, *, dedupe: str | None = None, by: Person = None
    ) -> RunSummary:
        """Send an event to a run. The same `dedupe` twice is one event. Raises JamError JAMR405, 406, 204."""
        run_id = self.store.find(run_id)
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
        run_id = self.store.find(run_id)
        await self._post(run_id, kind, body, None)
        return self.store.summary(run_id)

    async def _post(self, run_id: str, kind: str, body: dict[str, Any], dedupe: str | None) -> None:
        """Leave a message in the run's inbox and see it taken: by our own driver, by one made for it, or by the
        process that drives the run. If nobody can take it now it stays, and whoever drives the run next will."""
        self._check_open()
        program, state = self._look(run_id)
        if state.status in ENDED:
            raise JamError("JAMR204", f"the run {run_id} is {state.status}")
        now = self.clock.now_ms()
        _kind, _event = as_event(program, state, Message(0, now, kind, body))
        number = self.store.enqueue(run_id, kind, body, dedupe, now)
        if number is None:
            return
        if run_id not in self._attendants:
            try:
                self._attend(run_id, *self.claim(run_id))
            except JamError as error:
                if error.code not in ("JAMR205", "JAMR303", "JAMR304", "JAMR305"):
                    raise
        attendant = self._attendants.get(run_id)
        if attendant is not None and attendant.driver is not None:
            reply = attendant.driver.reply_to(number)
            attendant.poke()
            await asyncio.wait([reply])
            if not reply.cancelled():
                reply.result()
                return
        elif attendant is not None:
            attendant.poke()
        await self._taken(run_id, number)

    async def _taken(self, run_id: str, number: int) -> None:
        for _ in range(HANDOVER_MS // 50):
            self._check_open()
            if all(message.id != number for message in self.store.pending(run_id)):
                return
            status = self.store.summary(run_id).status
            if status in ENDED:
                # It ended as the message came: nobody will take it, and the sender should not think so.
                raise JamError("JAMR204", f"the run {run_id} is {status}")
            await asyncio.sleep(0.05)

    # ---- looking

    def run(self, run_id: str) -> Run:
        """A handle of a run that exists, driven here or not. Ids may be shortened."""
        return Run(self, self.store.find(run_id))

    def runs(self, status: Iterable[str] | None = None) -> list[RunSummary]:
        """All runs, oldest first."""
        return self.store.summaries(status)

    def show(self, run_id: str) -> RunView:
        """Everything about where a run stands."""
        run_id = self.store.find(run_id)
        program, state = self._look(run_id)
        return view_of(self.store.summary(run_id), program, state, load_veil(self.store, program, run_id))

    def history(self, run_id: str, after: int = 0) -> Iterator[Event]:
        """A run's journal."""
        return self.store.history(self.store.find(run_id), after)

    def inbox(self) -> list[QuestionRow]:
        """All open questions."""
        return self.store.questions()

    def question(self, name: str) -> QuestionRow:
        """The question with this id, or the only open one of the run with this id. A whole id is worth more than the
        beginning of one: an answer must never reach a question that nobody meant.

        Raises JamError: JAMR401 for none, JAMR402 where they are closed, JAMR202 where `name` may mean several.
        """
        found, run_id, several = None, "", None
        try:
            found = self.store.find_question(name)
        except JamError as error:
            if error.code not in ("JAMR401", "JAMR202"):
                raise
            several = error if error.code == "JAMR202" else None
        if found is not None and found.id == name:
            return found
        try:
            run_id = self.store.find(name)
        except JamError as error:
            if error.code not in ("JAMR201", "JAMR202"):
                raise
            several = several or (error if error.code == "JAMR202" else None)
        if run_id != name:
            if several is not None:
                raise several
            if found is not None and run_id not in ("", found.run_id):
                both = (f"the question {found.id}", f"the run {run_id}")
                raise JamError("JAMR202", f"a question and a run start with {name!r}", details=both)
            if found is not None:
                return found
            if not run_id:
                raise JamError("JAMR401", f"there is no question or run {name!r}")
        rows = self.store.questions(run_id)
        if len(rows) > 1:
            raise JamError("JAMR202", f"the run {run_id} has several open questions", details=tuple(r.id for r in rows))
        if not rows:
            closed = self.store.questions(run_id, status=None)
            if closed:
                raise _closed(closed[-1])
            raise JamError("JAMR401", f"the run {run_id} has no open question")
        return rows[0]

    def program(self, run_id: str) -> Compiled:
        """The program that a run executes, as it was when the run started."""
        summary = self.store.summary(self.store.find(run_id))
        return self._pinned(summary.definition, summary.source).compiled

    def _look(self, run_id: str) -> tuple[Program, RunState]:
        """A run's program and present state, without driving it. Needs no tools."""
        summary = self.store.summary(run_id)
        attendant = self._attendants.get(run_id)
        driver = attendant.driver if attendant is not None else None
        if driver is not None and driver.state.seq == summary.last_seq:
            # Not behind: a driver learns only with its next commit that another process has taken its run over.
            return driver.program, driver.state
        program = Program.of(self._pinned(summary.definition, summary.source).compiled.definition)
        return program, load_state(self.store, program, run_id, load_veil(self.store, program, run_id))

    # ---- bindings

    def _compile(self, program: str | Path | Compiled | Definition, agent: str | None) -> tuple[Compiled, Path | None]:
        if isinstance(program, Compiled):
            return program, None
        if isinstance(program, Definition):
            return Compiled(definition=program), None
        from jamjet_dsl.compiler import compile_file

        return compile_file(program, agent), Path(program).resolve().parent

    def _pin(self, program: str | Path | Compiled | Definition, agent: str | None) -> Pinned:
        """The program, stored. A program that is given compiled is digested and stored once."""
        known = self._pins.get(id(program))
        if known is not None and known[0] is program:
            return known[1]
        compiled, folder = self._compile(program, agent)
        place = pin(self.store, compiled, self._folder or folder, self.clock.now_ms())
        if not isinstance(program, str | Path):
            if len(self._pins) >= MOST_PINS:
                self._pins.clear()
            self._pins[id(program)] = (program, place)
        return place

    def _pinned(self, definition: str, source: str) -> Pinned:
        known = self._bound.get(source)
        return known[0] if known is not None else pinned(self.store, definition, source)

    def _bind(self, place: Pinned) -> Bound:
        known = self._bound.get(place.source)
        if known is None:
            folder = self._folder or place.folder
            bound = bind(place.compiled.definition, self._tools, self._models, folder, self._threads)
            known = self._bound[place.source] = (place, bound)
        return known[1]

    def _bound_for(self, run_id: str) -> Bound:
        summary = self.store.summary(run_id)
        return self._bind(self._pinned(summary.definition, summary.source))

    def _recall_scripts(self, run_id: str, bound: Bound) -> None:
        """A scripted model goes on where the run's journal says it was."""
        for model in (*self._models.values(), *bound.models.scripts()):
            recall = getattr(model, "recall", None)
            if recall is not None:
                recall(run_id, self.store.history(run_id), bound.program.agent.body.start)

    # ---- who watches

    def progressed(self, run_id: str) -> None:
        """Something was committed for this run: wake whoever follows it."""
        for future in self._watchers.pop(run_id, ()):
            if not future.done():
                future.set_result(None)

    def changed(self, run_id: str) -> asyncio.Future[None]:
        """A future that ends with the next commit of this run, here or in another process."""
        self._check_open()
        self._watch()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.setdefault(run_id, set()).add(future)
        return future

    def forget(self, run_id: str, future: asyncio.Future[None]) -> None:
        """Nobody waits for this future any more."""
        waiting = self._watchers.get(run_id)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._watchers[run_id]

    def left(self, run_id: str, error: JamError | None) -> None:
        """A run is not looked after any more: it has ended, or `error` is why it cannot be driven here."""
        self._attendants.pop(run_id, None)
        if error is not None:
            self._errors[run_id] = error
        self.progressed(run_id)

    def attendant(self, run_id: str) -> Attendant | None:
        """Who looks after a run in this engine. Raises the JamError that ended the driving, if one did."""
        error = self._errors.get(run_id)
        if error is not None:
            raise error
        return self._attendants.get(run_id)

    def _watch(self) -> None:
        """Follow what others write, from now on: what the caller reads next is newer than where this begins."""
        if self._poller is None:
            seen = self.store.changes()
            self._poller = asyncio.ensure_future(self._poll(seen, self.store.activity(None)[1]))

    async def _poll(self, seen: int, position: int) -> None:
        """Notice what other processes write. One cheap number says whether there is anything to look at."""
        while True:
            await asyncio.sleep(POLL_MS / 1000)
            with suppress(JamError):
                now = self.store.changes()
                if now == seen:
                    continue
                moved, newest = self.store.activity(position)
                mail = self.store.mail()
                for run_id in moved | mail:
                    attendant = self._attendants.get(run_id)
                    if attendant is not None and (attendant.driver is None or run_id in mail):
                        attendant.poke()
                    self.progressed(run_id)
                # Only now: what could not be read is looked for again.
                seen, position = now, newest


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


def _closed(row: QuestionRow) -> JamError:
    how = {
        "answered": f"{row.by or 'somebody'} answered it: {row.option}",
        "expired": "nobody answered it in time",
        "open": "it is open",
    }.get(row.status, "the run went on without it")
    return JamError("JAMR402", f"the question {row.id} is closed: {how}")
