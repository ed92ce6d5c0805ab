"""A journal as a timeline that a person can read: one line an event, or none for what only machines need.

Each line has the event's number, how long after the start it was, and what happened: which call, what it gave, how
long it took and what it cost; which edge was taken, and why that one. What happens inside a branch, an item, a child
agent, a rollback or `finally` is indented below what opened it, with its name in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jamjet_dsl.cli.told import (
    OUTCOMES,
    WORDS,
    args_text,
    by_text,
    closed_text,
    note_text,
    opened_text,
    unenforced_text,
)
from jamjet_dsl.cli.words import ago, when
from jamjet_dsl.cli.words import journaled as plain
from jamjet_dsl.definition import Agent, Definition, Each, Edge, Parallel, Region, State
from jamjet_dsl.kernel.ids import base_of
from jamjet_dsl.render.graph import trigger_text
from jamjet_dsl.render.readable import duration, money, quantity

if TYPE_CHECKING:
    from jamjet_dsl.kernel.model import Event

Body = Mapping[str, Any]
Load = Callable[[str, str], Definition]
_SILENT = frozenset({"snapshot", "recorded"})
_INDENT = "│ "


class Timeline:
    """Tells the events of one run, in order. It remembers what a call or a timer was when its outcome comes, what the
    variables were when a guard was true, and which frames are inside which."""

    def __init__(self, definition: Definition, load: Load | None = None) -> None:
        """`load` gives a program by the digests of its definition and its sources, for runs that were migrated."""
        self._edges: dict[tuple[str, str, str], dict[str, Edge]] = {}
        self._load = load
        self._learn(definition)
        self._frames: dict[str, tuple[str, str]] = {"": (definition.main, "")}
        self._calls: dict[str, str] = {}
        self._costs: dict[str, Any] = {}
        self._due: dict[str, int] = {}
        self._questions: dict[str, str] = {}
        self._why: dict[str, str] = {}
        self._values: dict[str, dict[str, Any]] = {"": {}}
        self._results: dict[str, Any] = {}
        self._cancelled = ""
        self._started: int | None = None

    def line(self, event: Event) -> str:
        """One event, with its number and how long after the start it was; empty for what only machines need."""
        if self._started is None:
            self._started = event.at_ms
        if event.kind in _SILENT:
            return ""
        said = self._said(event)
        if not said:
            return ""
        path = _path(event.body)
        if event.kind in ("begun", "closed"):
            path = path.rpartition("/")[0].rpartition("/")[0]
        inside = _INDENT * _depth(path) + (f"{self._place(path)}: " if path else "")
        return f"{event.seq:>4}  {ago(event.at_ms - self._started):>7}  {inside}{said}"

    def _said(self, event: Event) -> str:
        body = event.body
        self._follow(event)
        match event.kind:
            case "started" | "forked" | "migrated":
                return self._program(event)
            case "moved":
                return self._moved(body)
            case "intent":
                return self._intent(body)
            case "timer" | "retry":
                return self._timer(body, event.at_ms)
            case "fired":
                return self._fired(body, event.at_ms)
            case "asked":
                self._questions[body["question"]] = str(body.get("state", ""))
                until = f", until {when(body['expires_at_ms'])}" if body.get("expires_at_ms") else ""
                asks = f"? asks {plain(body.get('role'))}: {plain(body.get('text'))}  ({body['question']}{until})"
                return asks + unenforced_text(body)
            case "expired":
                return f"nobody answered the question of {self._questions.get(body['question'], '')} in time"
            case "opened":
                return opened_text(body)
            case "closed":
                return closed_text(body, self._name(_path(body)))
            case kind if kind in OUTCOMES:
                cmd = str(body.get("cmd"))
                about = base_of(cmd) if kind == "probed" else cmd  # `confirm` speaks of the call that it is asked about
                said = OUTCOMES[kind](body, self._call(about) or str(body.get("tool") or ""))
                return said + self._cost(cmd, body)
            case kind if kind in WORDS:
                return WORDS[kind](body)
            case _:
                # An event of a later version: its name says more than nothing.
                return f"{event.kind} {plain(dict(body))}"

    def _call(self, cmd: str) -> str:
        """What was called; an attempt that was never begun was to make the call of the one before it."""
        known = self._calls.get(cmd, "")
        if known or "/" in cmd.rpartition("#")[2]:
            return known
        visit, _, number = cmd.rpartition(".")
        earlier = (f"{visit}.{n}" for n in range(int(number) - 1, 0, -1)) if number.isdigit() else ()
        return next((self._calls[name] for name in earlier if name in self._calls), "")

    def _name(self, path: str) -> str:
        """What a person calls a frame: its branch, `item 3`, its agent."""
        key = path.rpartition("/")[2]
        what = "undo" if self._frames.get(path, ("", ""))[1].startswith("undo ") else "item"
        return f"{what} {int(key) + 1}" if key.isdecimal() else key

    def _place(self, path: str) -> str:
        """A frame with those around it, since several are told by turns: `item 3 › left`."""
        parts = path.split("/")
        around = ["/".join(parts[: end + 1]) for end in range(1, len(parts), 2)]
        return " › ".join(self._name(frame) for frame in around)

    # ---- what it remembers

    def _learn(self, definition: Definition) -> None:
        for agent in definition.agents.values():
            for region, state in _states(agent):
                self._edges[agent.name, region, state.name] = {edge.id: edge for edge in state.edges}

    def _follow(self, event: Event) -> None:
        """Why the next edge will be taken, and what the variables are."""
        body, path = event.body, _path(event.body)
        match event.kind:
            case "begun":
                around = self._frames.get(path.rpartition("/")[0].rpartition("/")[0], self._frames[""])
                self._frames[path] = str(body.get("agent") or around[0]), str(body.get("region", ""))
                self._values[path] = {}
                if "doubt" in body:
                    # The rollback asks about a call that was begun elsewhere.
                    self._calls[f"{path}#1.1"] = self._calls.get(str(body["doubt"]), "")
            case "failed" | "faulted":
                self._why[path] = str(body.get("error") or "an error")
            case "denied":
                self._why[path] = f"{body.get('tool')} was denied"
            case "answered":
                state = self._questions.get(str(body.get("question")), "")
                self._why[f"?{state}"] = f"by {by_text(body)}"
            case "succeeded":
                self._results[path] = body.get("result")
                self._why.pop(path, None)
            case "joined":
                self._results[path] = body.get("result")
                self._values.setdefault(path, {}).update(
                    {name: found.get("value") for name, found in (body.get("results") or {}).items()}
                )
                if body.get("how") != "ok":
                    self._why[path] = str(body.get("error") or "")
            case "exceeded":
                self._why["exceeded"] = f"budget exceeded: {body.get('what')}"
            case "cancelling":
                self._cancelled = by_text(body)

    def _program(self, event: Event) -> str:
        body = event.body
        to = body["to"] if event.kind == "migrated" else body
        if self._load is not None:
            self._learn(self._load(str(to.get("definition")), str(to.get("source"))))
        values = self._values[""]
        match event.kind:
            case "started":
                self._frames[""] = str(body.get("agent", "")), ""
                values.update(body.get("input") or {}, **(body.get("set") or {}))
                shadow = ", its policy in shadow" if body.get("policy") == "shadow" else ""
                return f"started {body.get('agent', '')} with {plain(body.get('input', {}))}{shadow}"
            case "forked":
                whole, origin = body.get("whole") or {}, body.get("origin") or {}
                self._frames[""] = str(body.get("agent", "")), ""
                values.update(whole.get("input") or {}, **(whole.get("vars") or {}))
                self._inherit(whole)
                given = {**(body.get("input") or {}), **(body.get("set") or {})}
                values.update(given)
                calls = "its calls are made" if origin.get("live") else "its calls are off"
                changed = f", with {plain(given)}" if given else ""
                return f"forked from {origin.get('run')} after event {origin.get('seq')}, {calls}{changed}"
            case _:
                names = ", ".join(f"{old} is {new}" for old, new in (body.get("states") or {}).items())
                who = f" by {by_text(body)}" if body.get("by") else ""
                return f"moved to program {str(to.get('definition'))[:12]}{who}{f' ({names})' if names else ''}" + (
                    note_text(body)
                )

    def _inherit(self, whole: Body) -> None:
        """What a fork begins with in the middle: frames, calls, timers and questions that the original had opened."""
        main = self._frames[""][0]
        for path, frame in (whole.get("frames") or {}).items():
            if path:
                self._frames[path] = str(frame.get("agent") or main), str(frame.get("region", ""))
                self._values[path] = dict(frame.get("scope") or {})
            found = frame.get("outcome") or frame.get("fault") or {}
            self._results[path] = found.get("result")
            if found.get("kind") == "answered":
                self._why[f"?{frame.get('state')}"] = f"by {by_text(found.get('result') or {})}"
            elif found.get("kind") == "denied":
                self._why[path] = f"{found.get('tool')} was denied"
            elif found.get("error"):
                self._why[path] = str(found["error"])
        for cmd, intent in (whole.get("intents") or {}).items():
            self._calls[cmd] = _called(intent["body"])
            self._costs[cmd] = (intent.get("reserve") or {}).get("cost")
        self._due.update(whole.get("timers") or {})
        self._questions.update({name: str(asked["state"]) for name, asked in (whole.get("questions") or {}).items()})
        if whole.get("exceeded"):
            self._why["exceeded"] = f"budget exceeded: {whole['exceeded']}"
        if whole.get("cancelling"):
            self._cancelled = by_text(whole["cancelling"])

    # ---- ways

    def _moved(self, body: Body) -> str:
        """The transition, and why this edge: the guard with the values it was true for, the error, who said so."""
        path, state, name = str(body.get("frame", "")), str(body.get("state")), str(body.get("edge", ""))
        values = self._values.setdefault(path, {})
        agent, region = self._frames.get(path, self._frames[""])
        if "bind" in body:
            values[body["bind"]] = self._results.get(path)
        values.update(body.get("set") or {})
        edge = self._edges.get((agent, region, state), {}).get(name.rstrip("!"))
        why = self._reason(path, state, name, edge, values)
        if body.get("over") or name.endswith("!"):
            why = f"{why}: limit used up" if why else "limit used up"
        self._why.pop(path, None)
        return f"{state} ─{f'({why})' if why else ''}→ {body.get('to')}"

    def _reason(self, path: str, state: str, name: str, edge: Edge | None, values: dict[str, Any]) -> str:
        if edge is None:
            if name == "exceeded":
                return self._why.pop("exceeded", name)
            if name == "cancel":
                return f"cancelled by {self._cancelled}"
            known = self._why.get(path)
            return f"{name.partition('#')[0]}{f': {known}' if known else ''}"
        text = trigger_text(edge)
        match edge.trigger:
            case "when":
                found = ", ".join(f"{n} = {v}" for n, v in _read(edge.guard, values, self._values[""]))
                return f"{text}{f'; {found}' if found else ''}"
            case "error" | "denied":
                known = self._why.get(path)
                return f"{text}{f': {known}' if known and known not in text else ''}"
            case "option":
                known = self._why.pop(f"?{state}", "")
                return f"{text}{f' {known}' if known else ''}"
        return text

    # ---- calls and time

    def _intent(self, body: Body) -> str:
        cmd, name = str(body.get("cmd")), _called(body)
        self._calls[cmd] = name
        self._costs[cmd] = (body.get("reserve") or {}).get("cost")
        key = f"  key {plain(body['key'])}" if body.get("key") else ""
        tries = int(cmd.rpartition(".")[2]) if cmd.rpartition(".")[2].isdecimal() else 1
        again = f"  (attempt {tries})" if tries > 1 else ""
        if not body.get("tool"):
            return f"→ {name}{again}"
        return f"→ {name}({args_text(body)}){key}{again}{unenforced_text(body)}"

    def _cost(self, cmd: str, body: Body) -> str:
        """What an attempt was settled at: what it used, or where that is not known what was reserved."""
        if "usage" not in body and cmd not in self._costs:
            return ""
        usage, reserved = body.get("usage"), self._costs.pop(cmd, None)
        tokens = int((usage or {}).get("tokens_in") or 0) + int((usage or {}).get("tokens_out") or 0)
        cost = reserved if usage is None else usage.get("cost")
        parts = [f"{quantity(tokens)} tokens"] if tokens else []
        if cost and str(cost).partition(" ")[0].strip("0."):
            parts.append(money(str(cost)) if " " in str(cost) else str(cost))
        return f"  ({', '.join(parts)})" if parts else ""

    def _timer(self, body: Body, now_ms: int) -> str:
        what = str(body.get("id", "")).rpartition("/")[2]
        at_ms = int(body.get("at_ms") or now_ms)
        self._due[str(body.get("id"))] = at_ms
        if "attempt" in body:
            return f"tries again in {ago(max(0, at_ms - now_ms))}: attempt {body['attempt']}"
        words = {"wait": "waits until", "timeout": "waits at most until"}.get(what, "")
        return f"{words} {when(at_ms)} ({duration(max(at_ms - now_ms, 0))})" if words else ""

    def _fired(self, body: Body, now_ms: int) -> str:
        name = str(body.get("id"))
        what = name.rpartition("/")[2]
        late = now_ms - self._due.get(name, now_ms)
        words = _FIRED.get(what, "")
        return words + (f", {ago(late)} late" if words and late >= 1000 else "")


_FIRED = {
    "wait": "the time has come",
    "timeout": "the time to wait is over",
    "within": "the time for it is over",
    "remind": "reminds",
    "time": "the time of the budget is over",
    "active": "the active time of the budget is over",
}


def _states(agent: Agent) -> Iterator[tuple[str, State]]:
    """Every state of an agent with its region, as frames name it."""

    def inside(key: str, region: Region) -> Iterator[tuple[str, State]]:
        for state in region.states:
            if not isinstance(state, State):
                continue
            yield key, state
            place = f"{key}/{state.name}" if key else state.name
            if isinstance(state.action, Parallel):
                for branch in state.action.branches:
                    yield from inside(f"{place}/{branch.name}", branch.body)
            elif isinstance(state.action, Each):
                yield from inside(f"{place}/each", state.action.body)

    yield from inside("", agent.body)
    if agent.finally_ is not None:
        yield from inside("finally", agent.finally_)


def _called(body: Body) -> str:
    """What an intent is about: a tool, or a model."""
    return str(body.get("tool") or f"model {body.get('model') or ''}".strip())


def _path(body: Body) -> str:
    """The frame that an event is about."""
    if "frame" in body:
        return str(body["frame"])
    return str(body.get("cmd", "")).rpartition("#")[0]


def _depth(path: str) -> int:
    return (path.count("/") + 1) // 2 if path else 0


def _read(expr: Any, *scopes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The variables that a guard reads, with what they were. Long values say little here."""
    seen: set[str] = set()
    todo = [expr]
    while todo:
        node = todo.pop(0)
        if not isinstance(node, list | tuple):
            continue
        if len(node) == 2 and node[0] == "var":
            scope = next((values for values in scopes if node[1] in values), None)
            if scope is not None and node[1] not in seen:
                seen.add(node[1])
                text = plain(scope[node[1]], 40)
                if not text.endswith("…"):
                    yield str(node[1]), text
            continue
        todo.extend(node)
