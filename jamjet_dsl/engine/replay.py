"""Replay: every decision of a journal is made again, and must come out as it stands there.

A journal holds two sorts of events. What came from the world (an outcome, an answer, a timer, an operator's move) is
checked against what the kernel would have made of it at that point; what the kernel decided (a transition, a retry,
an intent, a question) must be exactly what `decide` gives for the state before. Where chance had a say, a question's id
or a jittered time, the journal's value is taken after a look at whether it could have been drawn.

Where one transaction ended and the next began is not stored, and need not be: deciding is a function of the state.
After an event from the world an engine may have stopped, so anything from the world may follow, or the decision. After
a decision whatever else is to be decided follows in the same transaction; only intents may be left for later, which an
engine does while a message waits. A decision that the kernel did not make is never accepted.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jamjet_dsl.definition import SpanJson
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.loading import Pinned, pinned
from jamjet_dsl.engine.replay_world import MALFORMED, Impossible, Recall, World, known_to_world, same
from jamjet_dsl.kernel.ids import frame_of
from jamjet_dsl.kernel.machine import apply, decide, initial
from jamjet_dsl.kernel.model import Ask, Call, Command, Count, Event, Record, RunState, SetTimer, Think
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.recovery import recover
from jamjet_dsl.ports import Store

FIRST = frozenset({"started", "forked"})
"""The kinds of event that begin a journal."""


_BEGIN = ("intent", "counted")
"""What begins an effect may be left for a later transaction."""
_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?(E[+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Said:
    """An event as it stands in the journal, or as it should."""

    kind: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The first event that is not what the kernel makes of the journal before it.

    `state` is where the run stood, `place` the source of that state or edge as `file:line`. Without `expected` the
    kernel decides nothing at that point; without `actual` the journal ends before what must follow.
    """

    seq: int
    state: str
    why: str
    expected: Said | None
    actual: Said | None
    place: str | None
    fields: tuple[str, ...] = ()
    """The fields in which the two differ, where they are of one kind."""


@dataclass(slots=True)
class Replay:
    """What a replay found. `decided` counts decisions that came out alike, `taken` events from the world, `snapshots`
    those whose digest was that of the state. `open` says what could not be checked, and why."""

    run_id: str
    events: int = 0
    decided: int = 0
    taken: int = 0
    snapshots: int = 0
    open: list[str] = field(default_factory=list)
    status: str = ""
    state: str = ""
    disagreement: Disagreement | None = None

    @property
    def proven(self) -> bool:
        """Whether nothing disagreed."""
        return self.disagreement is None

    def as_json(self) -> dict[str, Any]:
        """All of it, for `--format json`."""
        return {**asdict(self), "proven": self.proven}


def replay(store: Store, run_id: str) -> Replay:
    """Decide a whole run again. Linear in the length of its journal; starts nothing and writes nothing.

    Raises JamError: JAMR201 for an unknown run, JAMR107 for a journal or a definition that is damaged, JAMR104 for
    one of a newer version.
    """
    run_id = store.find(run_id)
    walk = Walk(store, run_id)
    try:
        for event in store.history(run_id):
            walk.step(event)
        walk.end()
    except Disagrees as found:
        walk.found.disagreement = found.disagreement
    walk.found.status = walk.state.status
    walk.found.state = walk.place()[0]
    return walk.found


class Disagrees(Exception):
    """Ends a replay at the first event that is not what it should be."""

    def __init__(self, disagreement: Disagreement) -> None:
        super().__init__(disagreement.why)
        self.disagreement = disagreement


class Walk:
    """A journal, gone through once. `state` is the fold so far; `commands` what `decide` gave for it last; `flying`
    every effect that was wanted and has no outcome yet, by id."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        self.found = Replay(run_id)
        self.state: RunState = initial(run_id)
        self.flying: dict[str, Call | Think] = {}
        self.program: Program | None = None
        self.pinned: Pinned | None = None
        self.veil: Recall | None = None
        self.landed: Call | Think | None = None
        """The effect that the last outcome was of."""
        self.unrecorded: Call | Think | None = None
        """In a fork whose calls are off: the last one that had no recording."""
        self._must: deque[Said] = deque()
        self._decided = False
        self._world = World()
        self._erased = False

    # ---- one event

    def step(self, event: Event) -> None:
        """Check one event and fold it. Raises Disagrees."""
        self.found.events += 1
        if self.program is None:
            self._begin(event)
            return
        known = self._revealed(event)
        if event.at_ms < self.state.now_ms:
            self._refuse(known, "its time is before that of the event before it", None)
        if event.kind == "migrated":
            self._migrate(known)
        else:
            self._check(known)
        self._fold(known)

    def end(self) -> None:
        """The journal ends here: nothing may be missing that belongs to the last transaction. Raises Disagrees."""
        if self._must:
            self._missing(self._must[0])
        if self._decided and self.program is not None:
            after = next((s for s in self._candidates(self._decide()) if s.kind not in _BEGIN), None)
            if after is not None:
                self._missing(after)

    def _check(self, event: Event) -> None:
        if self._must:
            expected = self._must.popleft()
            if not self._agree(expected, event):
                self._differs(expected, event)
            self.found.decided += 1
            return
        commands = self._decide()
        candidates = list(self._candidates(commands))
        for expected in candidates:
            if self._agree(expected, event):
                self._decided = True
                self.found.decided += 1
                self._begun(event, commands)
                return
        first = next((s for s in candidates if s.kind not in _BEGIN), None)
        if self._erased and candidates and not known_to_world(event.kind):
            self._leave_open(event, "what was erased could have led elsewhere")
            self._decided = True
            return
        if self._decided and not self._erased and first is not None and not self._key_taken(event):
            self._differs(first, event)
        self._from_outside(event, candidates)

    def _from_outside(self, event: Event, candidates: list[Said]) -> None:
        """An event that `decide` did not give must be one that the world can give here."""
        assert self.program is not None
        expected = candidates[0] if candidates else None
        try:
            note = self._world.check(self, event)
        except Impossible as problem:
            if self._erased and problem.of_values:
                self._leave_open(event, str(problem))
            elif problem.decision:
                self._differs(expected, event)
            else:
                self._refuse(event, str(problem), problem.expected)
        except JamError as problem:
            if not self._erased:
                self._refuse(event, problem.message, None)
            self._leave_open(event, problem.message)
        else:
            if note:
                self.found.open.append(note)
        if event.kind == "snapshot":
            self.found.snapshots += 1
        else:
            # A snapshot closes the transaction of the event before it, whichever sort that was of.
            self._decided = False
        self.found.taken += 1
        if event.kind == "resumed" and "since_ms" not in event.body:
            self._must.extend(Said(r.kind, r.body) for r in recover(self.program, self.state)[1:])

    def _fold(self, event: Event) -> None:
        assert self.program is not None
        try:
            self.state = apply(self.program, self.state, event)
        except MALFORMED as problem:
            self._refuse(event, f"it cannot be applied here ({type(problem).__name__}: {problem})", None)
        self._world.applied(self, event)
        if self.veil is not None:
            self.veil.learn_event(event.body)
            self.veil.learn(self.state)

    # ---- what decides

    def _decide(self) -> list[Command]:
        assert self.program is not None
        commands = decide(self.program, self.state)
        for command in commands:
            if isinstance(command, Call | Think) and command.intent is None:
                self.flying[command.id] = command
        return commands

    def _begun(self, event: Event, commands: list[Command]) -> None:
        """An effect with an intent is in flight from its intent on, and not before. Where values were erased another
        one may be wanted here than was wanted then."""
        wanted = (c for c in commands if isinstance(c, Call | Think) and c.id == event.body.get("cmd"))
        if event.kind == "intent" and (command := next(wanted, None)) is not None:
            self.flying[command.id] = replace(command, intent=None)

    def _candidates(self, commands: list[Command]) -> Iterator[Said]:
        """The events that may come next, by decision: the first that is to be journaled, and where that is an intent
        (which may be left for later) the first that is none."""
        for command in commands:
            if isinstance(command, Record):
                yield Said(command.kind, command.body)
                return
        begun = False
        for command in commands:
            match command:
                case Ask(_, body):
                    yield Said("asked", body)
                    return
                case SetTimer():
                    body = {**command.body, "at_ms": command.at_ms, _SPREAD: command.spread_ms}
                    yield Said(command.record, body)
                    return
                case Count() if not begun:
                    begun = True
                    used = [[share.home, share.rule] for share in command.shares]
                    yield Said("counted", {"cmd": command.id, "used": used})
                case Call() | Think() if command.intent is not None and not begun:
                    begun = True
                    yield Said("intent", command.intent)

    def _agree(self, expected: Said, event: Event) -> bool:
        if expected.kind != event.kind:
            return False
        body, given = expected.body, event.body
        if _SPREAD in body:
            body = _drawn_time(body, given)
        elif event.kind == "counted":
            body = _counted(body, given)
        elif event.kind == "asked":
            body = self._drawn_id(body, given)
            body = self._without_rules(event, body)
        if same(body, given):
            return True
        if self._erased:
            # What was erased is not known here: where it had a part in a decision, that one is taken as it stands.
            self._leave_open(event, "a value that it depends on was erased")
            return True
        return False

    def _drawn_id(self, body: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        number = given.get("question")
        fresh = isinstance(number, str) and number != "" and number not in self._world.questions
        return {**body, "question": number} if fresh else body

    def _without_rules(self, event: Event, body: dict[str, Any]) -> dict[str, Any]:
        """An earlier version did not say by which rules a question was asked: that is left open."""
        call = event.body.get("call")
        if "call" not in body or not isinstance(call, dict) or "policy" in call:
            return body
        self.found.open.append(f"event {event.seq} (asked) does not say by which rules its call may be approved")
        return {**body, "call": {name: value for name, value in body["call"].items() if name != "policy"}}

    def _key_taken(self, event: Event) -> bool:
        """A declared key that another run had used with other arguments: found out right after the intent, before
        anything else of the transaction was decided."""
        return event.kind == "failed" and self._world.last_intent == event.body.get("cmd") and _is_key_conflict(event)

    def _leave_open(self, event: Event, why: str) -> None:
        self.found.open.append(f"event {event.seq} ({event.kind}) was not decided again: {why}")

    # ---- beginnings

    def _begin(self, event: Event) -> None:
        if event.kind not in FIRST:
            self._refuse(event, "a journal begins with `started` or `forked`", None)
        self._pin(event, event.body)
        assert self.program is not None
        known = self._revealed(event)
        try:
            self._world.begins(self, known)
        except Impossible as problem:
            if not self._erased:
                self._refuse(known, str(problem), problem.expected)
            self._leave_open(known, str(problem))
        except JamError as problem:
            if problem.code == "JAMR104":
                raise  # what a newer version wrote proves nothing here, and disproves nothing
            if not self._erased:
                self._refuse(known, problem.message, None)
            self._leave_open(known, problem.message)
        self.found.taken += 1
        # A run is created with all that follows from its start; a fork waits for somebody to drive it.
        self._decided = event.kind == "started"
        self._fold(known)

    def _migrate(self, event: Event) -> None:
        """From here on the run is of another program, which must be compatible with where it stands."""
        from jamjet_dsl.engine.migrate import check_migrated

        before = self.program
        assert before is not None
        if self._must or (self._decided and any(s.kind not in _BEGIN for s in self._candidates(self._decide()))):
            self._differs(next(iter(self._must or self._candidates(self._decide()))), event)
        self._pin(event, event.body.get("to"))
        assert self.program is not None
        try:
            problem = check_migrated(before, self.program, self.state, event.body, event.at_ms)
        except MALFORMED as malformed:
            problem = f"it is malformed ({type(malformed).__name__}: {malformed})"
        if problem is not None:
            self._refuse(event, problem, None)
        self.flying.clear()
        self._decided = False
        self.found.taken += 1

    def _pin(self, event: Event, to: Any) -> None:
        if not isinstance(to, dict) or not {"definition", "source"} <= to.keys():
            self._refuse(event, "it names no program", None)
        self.pinned = pinned(self.store, str(to["definition"]), str(to["source"]))
        assert self.pinned is not None
        self.program = Program.of(self.pinned.compiled.definition)
        self.veil = Recall.of(self.store, self.program, self.found.run_id, self.veil)

    def _revealed(self, event: Event) -> Event:
        if self.veil is None:
            return event
        body, erased = self.veil.shown(event.body)
        self._erased = self._erased or erased
        return replace(event, body=body)

    # ---- what is wrong

    def place(self, body: dict[str, Any] | None = None) -> tuple[str, str | None]:
        """The state that an event is about, and where it stands in the source, with its edge if it has one."""
        path = _frame_of(body or {})
        frame = self.state.frames.get(path) or self.state.frames.get("")
        if frame is None or self.program is None or self.pinned is None:
            return "", None
        region = getattr(frame, "region", "")
        agent = getattr(frame, "agent", "") or self.program.agent.name
        key = "/".join(part for part in (agent, region, frame.state) if part)
        spans = self.pinned.compiled.spans
        edge = (body or {}).get("edge")
        span: SpanJson | None = spans.get(f"{key}/{str(edge).rstrip('!')}") if edge else None
        span = span or spans.get(key) or spans.get(agent)
        name = self.state.final_state or "/".join(part for part in (region, frame.state) if part)
        return name, None if span is None else f"{span.file}:{span.line}"

    def _differs(self, expected: Said | None, event: Event) -> None:
        if expected is None:
            return self._refuse(event, "nothing is to be decided here", None)
        if expected.kind != event.kind:
            return self._refuse(event, f"`{expected.kind}` is decided here", expected)
        names = sorted(n for n in expected.body.keys() | event.body.keys() if n != _SPREAD)
        fields = tuple(n for n in names if not same(expected.body.get(n), event.body.get(n)))
        raise Disagrees(self._disagreement(event, "it is decided differently", expected, fields))

    def _refuse(self, event: Event, why: str, expected: Said | None) -> None:
        raise Disagrees(self._disagreement(event, why, expected))

    def _disagreement(
        self, event: Event, why: str, expected: Said | None, fields: tuple[str, ...] = ()
    ) -> Disagreement:
        state, place = self.place(expected.body if expected is not None else event.body)
        shown = None if expected is None else Said(expected.kind, self._hidden(expected.body))
        return Disagreement(event.seq, state, why, shown, Said(event.kind, self._hidden(event.body)), place, fields)

    def _missing(self, expected: Said) -> None:
        state, place = self.place(expected.body)
        why = "the journal ends in the middle of a transition"
        shown = Said(expected.kind, self._hidden(expected.body))
        raise Disagrees(Disagreement(self.state.seq + 1, state, why, shown, None, place))

    def _hidden(self, body: dict[str, Any]) -> dict[str, Any]:
        """A body as it may be shown: what is redacted stays so."""
        body = {name: value for name, value in body.items() if name != _SPREAD}
        hidden: dict[str, Any] = body if self.veil is None else self.veil.hide_body(body)
        return hidden


_SPREAD = "\x00spread_ms"
"""How far before `at_ms` a time may have been drawn; stands in expected bodies only."""


def _counted(body: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The expected body with what the journal says that all runs had used: nobody can look that up any more."""
    used = given.get("used")
    if not isinstance(used, list) or not all(_is_use(item) for item in used):
        return body
    return {**body, "used": used} if same([item[:2] for item in used], body["used"]) else body


def _is_use(item: Any) -> bool:
    """Whether it is [home, rule, calls, total], as a limit can have been used."""
    if not isinstance(item, list) or len(item) != 4 or type(item[2]) is not int or not isinstance(item[3], str):
        return False
    return item[2] >= 0 and bool(_AMOUNT.fullmatch(item[3]))


def _drawn_time(body: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The expected body with the journal's time, if that could have been drawn."""
    latest, drawn = int(body["at_ms"]), given.get("at_ms")
    expected = {name: value for name, value in body.items() if name != _SPREAD}
    if type(drawn) is int and latest - int(body[_SPREAD]) <= drawn <= latest:
        expected["at_ms"] = drawn
    return expected


def _frame_of(body: dict[str, Any]) -> str:
    if "frame" in body:
        return str(body["frame"])
    return frame_of(str(body["cmd"])) if "cmd" in body else ""


def _is_key_conflict(event: Event) -> bool:
    message = str(event.body.get("message", ""))
    return event.body.get("error") == "InvalidInput" and message.endswith("was used before with other arguments")
