"""What the world may have said at a point of a journal: each event that no decision made, made again by
`kernel.inputs` from the state it came to, and compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jamjet_dsl.engine.hidden import canonical, marks
from jamjet_dsl.engine.journal import hide_state
from jamjet_dsl.engine.loading import load_veil
from jamjet_dsl.engine.recordings import Recordings, is_off
from jamjet_dsl.engine.sight import Sight
from jamjet_dsl.engine.veil import Veil
from jamjet_dsl.kernel import inputs, state_json
from jamjet_dsl.kernel.model import Call, Event, Think
from jamjet_dsl.kernel.outcomes import is_open
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.values import from_journal, of_key
from jamjet_dsl.ports import Store

if TYPE_CHECKING:
    from jamjet_dsl.engine.replay import Said, Walk

Body = dict[str, Any]
MALFORMED = (
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    IndexError,
    StopIteration,
    ArithmeticError,
)
"""What comes of reading a body that nobody would have written."""


class Impossible(Exception):
    """The world cannot have given this here. `expected` is what it can have given, where that is one thing;
    `decision` says that such an event is only ever decided; `of_values` that it depends on values."""

    def __init__(self, why: str, expected: Said | None = None, decision: bool = False, of_values: bool = False) -> None:
        super().__init__(why)
        self.expected = expected
        self.decision = decision
        self.of_values = of_values


def same(one: Any, other: Any) -> bool:
    """Whether two bodies are the same JSON. Tuples are lists there, and `1`, `1.0` and `true` are not one another."""
    kind = type(one)
    if kind is dict:
        if type(other) is not dict or len(one) != len(other):
            return False
        return all(name in other and same(item, other[name]) for name, item in one.items())
    if kind is list or kind is tuple:
        return (
            isinstance(other, list | tuple)
            and len(one) == len(other)
            and all(same(item, there) for item, there in zip(one, other, strict=True))
        )
    return kind is type(other) and bool(one == other)


_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def _canonical(tree: Any) -> str:
    return _encode(tree)


def plain(tree: Any) -> Any:
    """A journaled value as `kernel.inputs` takes it from Python code."""
    return _keys(from_journal(tree))


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {of_key(key): _keys(item) for key, item in value.items()}
    return [_keys(item) for item in value] if isinstance(value, list) else value


class World:
    """The checks, and the little that they have to remember of the journal so far."""

    def __init__(self) -> None:
        self.questions: set[str] = set()
        self.last_intent: str | None = None
        self.recordings = Recordings()
        self._firing: tuple[int, dict[str, int]] | None = None
        """While timers fire together: their time, and the timers that were set before the first of them did."""

    def begins(self, walk: Walk, event: Event) -> None:
        """The first event. Raises Impossible, JamError."""
        try:
            self._begins(walk, event)
        except MALFORMED as problem:
            raise Impossible(f"it is malformed ({type(problem).__name__}: {problem})", of_values=True) from problem

    def _begins(self, walk: Walk, event: Event) -> None:
        assert walk.program is not None
        if event.kind == "forked":
            from jamjet_dsl.engine.fork import check_forked

            check_forked(walk, event)
            return
        body = event.body
        values = plain(body.get("input", {}))
        made = inputs.started(
            walk.program,
            values,
            body.get("principal"),
            body.get("bindings", ""),
            body.get("parent"),
            body.get("policy", "enforce"),
        )
        self._compare(made, event, ignoring=("source",))

    def check(self, walk: Walk, event: Event) -> str | None:
        """Whether the world can have given this event. Gives a note about what could not be checked, if any.

        Raises Impossible; JamError where `kernel.inputs` would have refused what came.
        """
        if event.kind != "fired":
            self._firing = None
        check = _CHECKS.get(event.kind)
        if check is None:
            raise Impossible(f"`{event.kind}` is something that is decided, and not here", decision=True)
        try:
            return check(self, walk, event)
        except MALFORMED as problem:
            raise Impossible(f"it is malformed ({type(problem).__name__}: {problem})", of_values=True) from problem

    def applied(self, walk: Walk, event: Event) -> None:
        """Keeps what later checks ask for."""
        self.last_intent = event.body.get("cmd") if event.kind == "intent" else None
        if event.kind == "asked":
            self.questions.add(event.body["question"])
        elif event.kind in ("succeeded", "failed", "fact", "probed", "unsent"):
            walk.landed = walk.flying.pop(event.body["cmd"], None)
        elif event.kind == "recorded":
            self.recordings.add(event.body)

    # ---- outcomes

    def _command(self, walk: Walk, body: Body) -> Call | Think:
        command = walk.flying.get(body["cmd"])
        if command is None:
            raise Impossible(f"nobody had begun `{body['cmd']}`", of_values=True)
        if not is_open(walk.state, command.id):
            raise Impossible(f"`{command.id}` was not open any more: its outcome is `late`")
        if is_off(walk.state):
            self._as_recorded(walk, command, body)
        return command

    def _as_recorded(self, walk: Walk, command: Call | Think, body: Body) -> None:
        """A fork whose calls are off has the outcomes that were recorded, and no others. What the fork's program makes
        of one may be an error of its own: a variable that was changed can change what a result has to fit."""
        known = self.recordings.find(command)
        if known is None:
            walk.unrecorded = command
            if body.get("error") != "Unavailable" and body.get("happened") is not None:
                raise Impossible("the calls of this fork are off, and this one has no recording", of_values=True)
            return
        for name in ("result", "happened"):
            if name in body and not same(body[name], known.get(name)):
                raise Impossible("the calls of this fork are off, and the recording is another", of_values=True)

    def _succeeded(self, walk: Walk, event: Event) -> None:
        body = event.body
        command = self._command(walk, body)
        made = inputs.succeeded(
            walk.program,  # type: ignore[arg-type]
            walk.state,
            command,
            plain(body["result"]),
            body.get("usage"),
            body["duration_ms"],
            body.get("items", ()),
        )
        self._compare(made, event)

    def _failed(self, walk: Walk, event: Event) -> None:
        body = event.body
        command = self._command(walk, body)
        self._either(walk, event, command, body["error"], body["message"])

    def _either(self, walk: Walk, event: Event, command: Call | Think, error: str, message: str) -> None:
        """The error of an attempt that left this machine, or of one that did not: nobody journals which."""
        body, made = event.body, None
        for sent in (False, True):
            made = inputs.failed(
                walk.program,  # type: ignore[arg-type]
                walk.state,
                command,
                error,
                message,
                sent=sent,
                usage=body.get("usage"),
                duration_ms=body.get("duration_ms", 0),
                retry_after_ms=body.get("retry_after_ms"),
            )
            if made[0] == event.kind and same(made[1], body):
                return
        assert made is not None
        self._compare(made, event)

    def _unsent(self, walk: Walk, event: Event) -> None:
        """Whether it was begun no journal can tell; it must have been in flight, and nothing known of it."""
        command = self._command(walk, event.body)
        intent = walk.state.intents.get(command.id)
        if set(event.body) != {"cmd"} or intent is None or intent.unsettled:
            raise Impossible(f"`{command.id}` is none that could have been given back")

    def _fact(self, walk: Walk, event: Event) -> None:
        body = event.body
        command = self._command(walk, body)
        if "error" in body:
            self._either(walk, event, command, body["error"], body["message"])
            return
        made = inputs.succeeded(walk.program, walk.state, command, plain(body["result"]), body.get("usage"))  # type: ignore[arg-type]
        self._compare(made, event)

    def _probed(self, walk: Walk, event: Event) -> str | None:
        """What `confirm` answered is journaled as the result of the call it is about, so only that can be checked."""
        body = event.body
        command = self._command(walk, body)
        if not (isinstance(command, Call) and command.does == "confirm") or body["happened"] not in (True, False, None):
            raise Impossible("it is no answer to `confirm`")
        if body["happened"] is None and not isinstance(body.get("why"), str):
            raise Impossible("it does not say why `confirm` could not tell")
        return None

    def _late(self, walk: Walk, event: Event) -> None:
        if is_open(walk.state, event.body["cmd"]):
            raise Impossible(f"`{event.body['cmd']}` was still waited for: its outcome is not `late`")

    # ---- time, people, operators

    def _fired(self, walk: Walk, event: Event) -> None:
        name = event.body["id"]
        if self._firing is None or self._firing[0] != event.at_ms:
            self._firing = event.at_ms, walk.state.timers
        at_ms = self._firing[1].get(name)
        if at_ms is None:
            raise Impossible(f"no timer `{name}` was set")
        if at_ms > event.at_ms:
            raise Impossible(f"the timer `{name}` was not due before {at_ms}")
        self._compare(("fired", {"id": name}), event)

    def _answered(self, walk: Walk, event: Event) -> None:
        body = event.body
        made = inputs.answered(
            walk.program,  # type: ignore[arg-type]
            walk.state,
            body["question"],
            body["option"],
            plain(body["form"]),
            body["by"],
            None if body.get("checked") is False else body["roles"],
        )
        if "checked" not in body:  # an earlier version did not say so
            del made[1]["checked"]
        self._compare(made, event)

    def _received(self, walk: Walk, event: Event) -> None:
        body = event.body
        made = inputs.received(
            walk.program,  # type: ignore[arg-type]
            walk.state,
            body["name"],
            plain(body["payload"]),
            body["id"],
            body["by"],
        )
        self._compare(made, event)

    def _cancelling(self, walk: Walk, event: Event) -> None:
        body = event.body
        made = inputs.cancelling(walk.program, walk.state, body["by"], body["note"], body["now"])  # type: ignore[arg-type]
        self._compare(made, event)

    def _unparked(self, walk: Walk, event: Event) -> None:
        body = event.body
        self._compare(inputs.retry(walk.program, walk.state, body["by"], body["note"]), event)  # type: ignore[arg-type]

    def _settled(self, walk: Walk, event: Event) -> None:
        body = event.body
        result = plain(body.get("result"))
        made = inputs.settle(
            walk.program,  # type: ignore[arg-type]
            walk.state,
            body["happened"],
            result,
            body["by"],
            body["note"],
            body["cmd"],
        )
        self._compare(made, event)

    # ---- the engine's own

    def _resumed(self, walk: Walk, event: Event) -> None:
        """A run was taken up: from the process that drove it, or at rest; then it is said since when it was watched."""
        body, state = event.body, walk.state
        if set(body) - {"owner", "since_ms"} or not isinstance(body.get("owner", ""), str):
            raise Impossible("it holds more than who took the run up, and since when it was watched")
        if "since_ms" in body:
            if type(body["since_ms"]) is not int or not state.now_ms < body["since_ms"] <= event.at_ms:
                raise Impossible("the run was not watched since then")
            if state.status == "running" or state.intents:
                raise Impossible("the run was not at rest")

    def _snapshot(self, walk: Walk, event: Event) -> str | None:
        """The digest that is chained after a snapshot must be that of the state here."""
        body = event.body
        if body.get("form", state_json.FORMAT) != state_json.FORMAT:
            return f"event {event.seq}: a snapshot in the form of another version was not checked"
        if body.get("of") != walk.state.seq:
            raise Impossible(f"it is said to be of event {body.get('of')}")
        data = hide_state(walk.veil, state_json.encode(walk.state))
        if hashlib.sha256(data).hexdigest() != body.get("state_digest"):
            raise Impossible("the digest of the snapshot is not that of the state here", of_values=True)
        return None

    def _parked(self, walk: Walk, event: Event) -> None:
        """A fork whose calls are off is parked at the first one that has no recording."""
        from jamjet_dsl.engine.fork import check_parked

        check_parked(walk, event)

    def _recorded(self, walk: Walk, event: Event) -> None:
        calls = [] if "mock" in event.body else event.body["calls"]
        if not is_off(walk.state) or not (same(sorted(calls), calls) or next(marks(calls), None)):
            raise Impossible("only a fork whose calls are off has recordings")

    @staticmethod
    def _compare(made: tuple[str, Body], event: Event, ignoring: tuple[str, ...] = ()) -> None:
        from jamjet_dsl.engine.replay import Said

        kind, body = made
        given = {name: value for name, value in event.body.items() if name not in ignoring}
        if kind == event.kind and same(body, given):
            return
        names = sorted(n for n in body.keys() | given.keys() if not same(body.get(n), given.get(n)))
        what = f"the fields {', '.join(names)} cannot be so" if kind == event.kind else f"it would be `{kind}`"
        raise Impossible(what, Said(kind, body), of_values=True)


_CHECKS: dict[str, Callable[[World, Any, Event], str | None]] = {
    "succeeded": World._succeeded,
    "failed": World._failed,
    "unsent": World._unsent,
    "fact": World._fact,
    "probed": World._probed,
    "late": World._late,
    "fired": World._fired,
    "answered": World._answered,
    "received": World._received,
    "cancelling": World._cancelling,
    "unparked": World._unparked,
    "settled": World._settled,
    "resumed": World._resumed,
    "snapshot": World._snapshot,
    "parked": World._parked,
    "recorded": World._recorded,
}


def known_to_world(kind: str) -> bool:
    """Whether events of this kind can come from the world."""
    return kind in _CHECKS


class Recall(Veil):
    """The veil that a run had at each point of its journal: it learns the hidden values in the order in which the
    engine did, and finds the commitments that were made then, so that snapshots are hidden as they were."""

    @classmethod
    def of(cls, store: Store, program: Program, run_id: str, before: Recall | None = None) -> Recall | None:
        """The veil of a run; None for a program that hides nothing. Raises JamError as `load_veil`."""
        made = load_veil(store, program, run_id)
        if made is None:
            return None
        veil = cls(made.sight, run_id)
        veil._rows = made.rows()
        veil._paths = {commitment: made.path(commitment) for commitment in veil._rows}
        veil._recall = {canonical(value): commitment for commitment, (value, _) in veil._rows.items()}
        if before is not None:
            veil.take_over(before)
        for text, commitment in made.wholes():
            veil._all.keep_whole(commitment, text)
        return veil

    def __init__(self, sight: Sight, run_id: str) -> None:
        super().__init__(sight, run_id)
        self._rows: dict[str, tuple[Any, bool]] = {}
        self._recall: dict[str, str] = {}

    def shown(self, body: Body) -> tuple[Body, bool]:
        """An event's body as the kernel takes it, and whether something in it was erased."""
        for commitment in marks(body):
            if commitment in self._rows and not self.knows(commitment):
                self._keep(commitment, *self._rows[commitment])
        known = self.reveal(body)
        return known, bool(self.erased_in(known))

    def _whole_commitment(self, text: str) -> str | None:
        return self._all.wholes.get(text)

    def _commitment_of(self, path: str, value: Any, secret: bool) -> str | None:
        return self._recall.get(canonical(value))
