"""A run's journal, kept a second time: what it must be able to say of itself, computed naively."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from jamjet_dsl.definition import Definition, Parallel, State, Tool
from jamjet_dsl.kernel.machine import apply, initial
from jamjet_dsl.kernel.model import ENDED, Event, RunState
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.ports import Standing, ToolContext
from tests.sim.accounts import ZERO, Accounts, Attempt, beside, frame_of, money, trace_key, visit_of
from tests.sim.places import Place, Places
from tests.sim.rules import Everybody, Naive, judge_all

Problem = tuple[str, str]
QUIET_ENDS = ("cancel", "exceeded")
"""Edges by which a state is left though its action has no outcome."""


class Book:
    """See the module's text. `problem` is the first thing that does not add up."""

    def __init__(self, run_id: str, definition: Definition, everybody: Everybody) -> None:
        self.run_id = run_id
        self.definition = definition
        self.everybody = everybody
        self.events: list[Event] = []
        self.problem: Problem | None = None
        self.ended = False
        self.parked: dict[str, Any] | None = None
        self.cancelling: dict[str, Any] | None = None
        self.attempts: dict[str, Attempt] = {}
        self.visits: dict[str, list[Attempt]] = {}
        self.open: dict[str, Attempt] = {}
        self.done: set[str] = set()
        self.questions: dict[str, dict[str, Any]] = {}
        self.closed: set[str] = set()
        self.grants: dict[str, dict[str, Any]] = {}
        self.timers: dict[str, int] = {}
        self.fired: set[str] = set()
        self.received: set[str] = set()
        self.consumed: set[str] = set()
        self.values: dict[int, str] = {}
        self.refs: dict[tuple[str, str], str] = {}
        self.undo: list[dict[str, Any]] = []
        self.closing: set[str] = set()
        self.principal: dict[str, Any] = {}
        self.state: RunState = initial(run_id)
        self.program = Program.of(definition)
        self.places = Places(definition)
        self.accounts = Accounts(definition, self.open)
        self.naive: dict[str, Naive] = {"": Naive(definition, definition.agent, everybody)}
        self._prev = "0" * 64
        self._handlers = {name[4:]: getattr(self, name) for name in dir(self) if name.startswith("_on_")}

    def wrong(self, name: str, text: str) -> None:
        """Something does not add up."""
        if self.problem is None:
            self.problem = (name, f"{self.run_id} at event {len(self.events)}: {text}")

    def folded(self) -> RunState:
        """The state after the journal, by the kernel's own fold."""
        for event in self.events[self.state.seq :]:
            self.state = apply(self.program, self.state, event)
        return self.state

    def add(self, event: Event) -> None:
        """One more event was committed."""
        if event.seq != len(self.events) + 1:
            self.wrong("journal", f"the event is number {event.seq}")
        if self.events and event.at_ms < self.events[-1].at_ms:
            self.wrong("journal", "time goes back")
        data = json.dumps(event.body, ensure_ascii=False, separators=(",", ":")).encode()
        head = f"jam1\n{self.run_id}\n{event.seq}\n{event.at_ms}\n{event.kind}\n{self._prev}\n".encode()
        if event.prev_hash != self._prev or event.hash != hashlib.sha256(head + data).hexdigest():
            self.wrong("journal", "the chain of hashes is broken")
        self._prev = event.hash
        self.events.append(event)
        if self.ended and event.kind != "late":
            self.wrong("end", f"{event.kind} after the end")
        handler = self._handlers.get(event.kind)
        if handler is not None:
            handler(event, event.body)
        for text in self.accounts.problems:
            self.wrong("budget", text)
        self.accounts.problems.clear()

    def place(self, cmd: str) -> Place:
        """The frame of an effect."""
        return self.places.now.get(frame_of(cmd)) or Place(frame_of(cmd), "", 0)

    def current(self, cmd: str) -> bool:
        """Whether an id belongs to the state that its frame is in."""
        place = self.places.now.get(frame_of(cmd))
        return place is not None and visit_of(cmd) == f"{place.path}#{place.visit}"

    # ---- the way

    def _on_started(self, event: Event, body: dict[str, Any]) -> None:
        self.principal = body["principal"]
        self.places.now[""] = Place("", self.definition.agent.body.start)
        if self.places.acts(self.places.now[""]):
            self.accounts.step("", False)

    def _on_moved(self, event: Event, body: dict[str, Any]) -> None:
        place = self.places.now.get(body["frame"])
        if place is None or (body["visit"], body["state"]) != (place.visit, place.state):
            self.wrong(
                "transitions", f"{body['frame']} moved from {body['state']}, visit {body['visit']}: it is not there"
            )
            return
        if self.places.inside(place.path):
            self.wrong("transitions", f"{body['frame']} moved while frames are open below it")
        way = body["edge"].removeprefix("agent ").removeprefix("on ").partition("#")[0]
        self._left(place, way)
        place.visit, place.state, place.last, place.told, place.ends = place.visit + 1, body["to"], "", {}, {}
        if self.places.acts(place):
            # What does not fit on the way of a cancellation is refused in the state that it leads to.
            self.accounts.step(place.path, way in QUIET_ENDS or self.places.spares(place.path))

    def _left(self, place: Place, way: str) -> None:
        """What was open in the state that is left is settled; what may have happened is never an ordinary error."""
        quiet = way in QUIET_ENDS
        if place.last == "doubt" and way != "in_doubt" and not quiet:
            self.wrong("doubt", f"a call in doubt left by {way}")
        if place.last == "indefinite" and way == "error":
            self.wrong("doubt", f"a write that may have happened left by {way}")
        if place.last == "denied" and way != "denied" and not quiet:
            self.wrong("policy", f"a denial left by {way}")
        self._close_visit(place, f"by {way}", ())

    def _close_visit(self, place: Place, how: str, named: tuple[str, ...]) -> None:
        prefix = f"{place.path}#{place.visit}."
        for cmd in [c for c in self.open if c.startswith(prefix)]:
            attempt = self.open[cmd]
            if attempt.outcome == "doubt":
                continue
            if attempt.writes and attempt.outcome in ("", "indefinite") and cmd not in named:
                self.wrong("doubt", f"{cmd} was left {how} while it was in flight, or nobody knew of it")
            self.accounts.charge(attempt)
            del self.open[cmd]

    # ---- frames

    def _on_opened(self, event: Event, body: dict[str, Any]) -> None:
        place = self.place(body["cmd"])
        if visit_of(body["cmd"]) in self.done and "finally" not in body:
            self.wrong("steps once", f"{body['cmd']} is opened though its step is done")
        if place.told and "finally" not in body:
            self.wrong("steps once", f"{body['cmd']} is opened though frames are open for it")
        place.told, place.ends = body, {}
        if "finally" in body:
            self.closing.add(place.path)
            self._close_visit(place, "for its finally", tuple(body["end"].get("unresolved", ())))
        if "at_ms" in body:
            self.timers[f"{body['cmd']}/within"] = body["at_ms"]
        if "finally" in body:
            # An agent at its end: nobody is asked any more in the state where it was stopped.
            here = frame_of(body["cmd"])
            self.closed |= {name for name, asked in self.questions.items() if frame_of(asked["cmd"]) == here}

    def _on_begun(self, event: Event, body: dict[str, Any]) -> None:
        path = body["frame"]
        if path in self.places.now or path in self.places.past:
            self.wrong("steps once", f"the frame {path} was opened twice")
        around = self.place(body["cmd"])
        agent = body.get("agent")
        home = around.home if agent is None else path
        place = Place(
            path, body["state"], 1, body["kind"], agent or around.agent, body["region"], around.path, body["key"], home
        )
        self.places.now[path] = place
        if agent is not None:
            self.accounts.opened(path, around.told)
            self.naive[path] = Naive(self.definition, self.definition.agents[agent], self.everybody)
        if place.kind == "item":
            at_once = getattr(getattr(self.places.state(around), "action", None), "at_once", 1)
            open_ = sum(p.parent == around.path for p in self.places.now.values())
            if open_ > at_once:
                self.wrong("frames", f"{open_} items of {around.path} are open, {at_once} may be")
        if "doubt" in body:
            self._doubted(place, body["doubt"])
        elif "undo" in body:
            self._undoing(place, body["undo"])
        elif place.kind != "finally" and self.places.acts(place):
            self.accounts.step(path, self.places.spares(path))

    def _doubted(self, place: Place, cmd: str) -> None:
        """A call in doubt that its own frame has left behind is resolved in a frame of its own, under an id of it."""
        old = self._latest(cmd)
        if old is None or old.outcome != "doubt":
            self.wrong("undo", f"{cmd} is to be resolved, and is not in doubt")
            return
        self.open.pop(old.cmd, None)
        own = f"{place.path}#1.1"
        attempt = Attempt(own, old.body, 0, ZERO, True, "indefinite")
        self.attempts[own] = self.open[own] = attempt
        self.visits[visit_of(own)] = [attempt]
        place.last = "indefinite"

    def _undoing(self, place: Place, cmd: str) -> None:
        """A rollback takes the latest call that is left."""
        mine = [
            e["cmd"] for e in self.undo if not place.home or e["cmd"].startswith((f"{place.home}#", f"{place.home}/"))
        ]
        if not mine or mine[-1] != cmd:
            self.wrong("undo", f"{cmd} is taken back, but {mine[-1:] or 'nothing'} is the latest")
        place.told = {"undo": cmd}

    def _on_closed(self, event: Event, body: dict[str, Any]) -> None:
        place = self.places.now.get(body["frame"])
        if place is None:
            self.wrong("frames", f"{body['frame']} was closed twice, or never opened")
            return
        if self.places.inside(place.path):
            self.wrong("frames", f"{place.path} was closed before those inside it")
        if place.last == "doubt" and self.cancelling is None and body["how"] in ("failed", "cancelled"):
            self.wrong("doubt", f"{place.path} was closed with a call in doubt")
        agent = self.places.agent(place)
        now = self.cancelling is not None and self.cancelling.get("now")
        if place.kind == "agent" and agent.finally_ is not None and place.path not in self.closing and not now:
            self.wrong("finally", f"{place.path} was closed without its finally")
        self._close_visit(place, f"as {body['how']}", tuple(body.get("unresolved", ())))
        if place.kind == "undo" and body["how"] != "cancelled":
            cmd = place.told["undo"]
            self.undo = [e for e in self.undo if e["cmd"] != cmd]
        del self.places.now[place.path]
        self.places.past.add(place.path)
        self.places.now[place.parent or ""].ends[place.key] = body

    def _on_joined(self, event: Event, body: dict[str, Any]) -> None:
        place = self.place(body["cmd"])
        if self.places.inside(place.path):
            self.wrong("frames", f"{body['cmd']} was joined while frames are open")
        if body["how"] == "ok":
            self._join_counts(place, body)
            self.done.add(visit_of(body["cmd"]))
        place.last, place.told, place.ends = "ok" if body["how"] == "ok" else "definite", {}, {}

    def _join_counts(self, place: Place, body: dict[str, Any]) -> None:
        """A join has what it wants; a list has the values of its items in their order."""
        state = self.places.state(place)
        action = state.action if isinstance(state, State) else None
        done = [key for key, end in place.ends.items() if end["how"] == "done"]
        if isinstance(action, Parallel) and len(done) < action.need:
            self.wrong("frames", f"{body['cmd']} was joined with {len(done)} of {action.need} branches")
        if "items" in place.told:
            if len(place.ends) != len(place.told["items"]):
                self.wrong("frames", f"{body['cmd']} was joined before all items had ended")
            values = [place.ends[key].get("value") for key in sorted(done, key=int)]
            if getattr(action, "flat", False):
                values = [item for value in values if value is not None for item in value]
            if values != body["result"]:
                self.wrong("frames", f"{body['cmd']} gives {body['result']}, its items gave {values}")

    # ---- effects

    def _on_intent(self, event: Event, body: dict[str, Any]) -> None:
        cmd, reserve = body["cmd"], body.get("reserve") or {"tokens": 0, "cost": None}
        cost, visit = money(reserve["cost"]), visit_of(body["cmd"])
        if cmd in self.attempts and not beside(cmd):
            self.wrong("ids", f"{cmd} was started twice")
        if not self.current(cmd):
            self.wrong("ids", f"{cmd} begins, and its frame is elsewhere")
        if self.parked is not None:
            self.wrong("parked", f"{cmd} began while the run was parked")
        if body.get("does", "action") == "action" and visit in self.done:
            self.wrong("steps once", f"{cmd} begins though its step is done")
        self.accounts.may_hold(cmd, reserve["tokens"], cost, self.places.spares(frame_of(cmd)))
        if "tool" in body and cost != money(self.definition.tools[body["tool"]].cost):
            self.wrong("budget", f"{cmd} reserves {cost}, which is not its worst case")
        attempt = Attempt(cmd, body, reserve["tokens"], cost)
        earlier = [a for a in self.visits.get(visit, ()) if not beside(a.cmd)]
        self.attempts[cmd] = self.open[cmd] = attempt
        self.visits.setdefault(visit, []).append(attempt)
        if "tool" in body and not beside(cmd):
            self._unrepeated(attempt, earlier)
            if not earlier:
                self._decided(event, body)

    def _unrepeated(self, attempt: Attempt, earlier: list[Attempt]) -> None:
        """A further attempt makes the same call, and an unkeyed write has one only if the last certainly failed."""
        for other in earlier:
            if (other.body.get("tool"), other.body.get("args")) != (attempt.body.get("tool"), attempt.body.get("args")):
                self.wrong("one call", f"{attempt.cmd} is another call than {other.cmd}")
            unsure = other.outcome in ("", "indefinite", "doubt", "again", "yes")
            if attempt.writes and attempt.body["key"] is None and unsure:
                self.wrong("at most once", f"{attempt.cmd} begins, nobody knows about {other.cmd} ({other.outcome})")

    def _decided(self, event: Event, body: dict[str, Any]) -> None:
        tool, args = body["tool"], body["args"]
        undoing = self.place(body["cmd"]).kind == "undo"
        if body["decision"].get("result", "allowed") != "allowed":
            self.wrong("policy", f"{tool} begins with the decision {body['decision']['result']}")
        grants = []
        for name in body.get("grants", ()):
            grant = self.grants.get(name)
            if grant is None:
                self.wrong("approvals", f"{tool} uses the approval {name}, which nobody gave")
                continue
            if grant["used"]:
                self.wrong("approvals", f"{tool} uses the approval {name} again")
            if (grant["call"]["tool"], grant["call"]["args"]) != (tool, args):
                self.wrong("approvals", f"{tool} uses the approval {name} for another call")
            asked, told = grant["asked"], self.events[-2].at_ms  # what was decided by is the time before the intent
            if "expires_at_ms" in asked and told - grant["at_ms"] > asked["expires_at_ms"] - asked["asked_ms"]:
                self.wrong("approvals", f"{tool} uses the approval {name}, which was given too long ago")
            grant["used"] = True
            grants.append(grant)
        verdict, why = self._judge(body["cmd"], tool, args, event.at_ms, grants, undoing)
        if verdict not in ("allowed", "unknown"):
            self.wrong("policy", f"{tool} {args} begins though it is {verdict}: {why}")
        for home in self.places.homes(frame_of(body["cmd"])):
            self.naive[home].made(tool, args, event.at_ms, undoing, str(self.principal["id"]))

    def _judge(
        self,
        cmd: str,
        tool: str,
        args: Any,
        at_ms: int,
        grants: list[dict[str, Any]],
        undoing: bool = False,
        asking: bool = False,
    ) -> tuple[str, str]:
        agents = [self.naive[home] for home in self.places.homes(frame_of(cmd))]
        return judge_all(agents, tool, args, at_ms, grants, self.principal, undoing, asking)

    def _on_denied(self, event: Event, body: dict[str, Any]) -> None:
        place = self.place(body["cmd"])
        place.last = "denied"
        if body["tool"] and body["args"]:
            verdict, _ = self._judge(body["cmd"], body["tool"], body["args"], event.at_ms, [], place.kind == "undo")
            if verdict == "allowed":
                self.wrong("policy", f"{body['tool']} {body['args']} was denied though it is allowed")

    def _ends(self, event: Event, body: dict[str, Any]) -> Attempt | None:
        """An outcome counts only for an effect that is open."""
        cmd = body["cmd"]
        attempt = self.attempts.get(cmd)
        if not self.current(cmd):
            self.wrong("late", f"{event.kind} of {cmd}, which was left")
        if visit_of(cmd) in self.done:
            self.wrong("steps once", f"{event.kind} of {cmd}, whose step is done")
        if attempt is not None:
            if attempt.outcome:
                self.wrong("late", f"{event.kind} of {cmd}, which had ended: {attempt.outcome}")
            self.accounts.charge(attempt, body.get("usage"))
        return attempt

    def _on_succeeded(self, event: Event, body: dict[str, Any]) -> None:
        attempt = self._ends(event, body)
        if attempt is not None:
            attempt.outcome = "ok"
        self.open.pop(body["cmd"], None)
        self._step_done(body)

    def _step_done(self, body: dict[str, Any]) -> None:
        cmd, visit = body["cmd"], visit_of(body["cmd"])
        self.done.add(visit)
        self.place(cmd).last = "ok"
        result = body.get("result")
        promised = cmd in self.attempts and self.attempts[cmd].body.get("key") is not None
        if isinstance(result, int) and not isinstance(result, bool) and not promised and "duration_ms" in body:
            known = self.values.setdefault(result, visit)
            if known != visit:
                self.wrong("steps once", f"the result {result} of {known} came for {visit} too")
        if "undo" in body:
            self.undo.append({"cmd": cmd, **body["undo"]})
        if "tool" in body and cmd not in self.attempts:
            for home in self.places.homes(frame_of(cmd)):
                self.naive[home].made(body["tool"], {}, 0, False, str(self.principal["id"]))

    def _on_failed(self, event: Event, body: dict[str, Any]) -> None:
        attempt = self._ends(event, body)
        self.place(body["cmd"]).last = how = "definite" if body["definite"] else "indefinite"
        if attempt is not None:
            attempt.outcome = how
            if body["definite"] or not attempt.writes:
                self.open.pop(body["cmd"], None)

    def _on_recovered(self, event: Event, body: dict[str, Any]) -> None:
        attempt = self.attempts.get(body["cmd"])
        if attempt is None or body["how"] == "confirm":
            return
        self.accounts.charge(attempt)
        self.open.pop(body["cmd"], None)
        attempt.outcome = "again"
        if body["how"] == "again" and attempt.writes:
            self.wrong("at most once", f"{body['cmd']} writes, and is made again")
        if body["how"] == "key" and attempt.body["key"] is None:
            self.wrong("at most once", f"{body['cmd']} has no key, and is made again")

    def _on_unsent(self, event: Event, body: dict[str, Any]) -> None:
        """It used nothing, and is nothing that may have happened: the ledger of the world tells if that is not so."""
        attempt = self.attempts.get(body["cmd"])
        if attempt is None or attempt.outcome:
            self.wrong("at most once", f"{body['cmd']} is said not to have begun, and was not in flight")
            return
        self.accounts.charge(attempt, {"tokens_in": 0, "tokens_out": 0, "cost": "0 USD"})
        self.open.pop(body["cmd"], None)
        attempt.outcome = "unsent"

    def _on_retry(self, event: Event, body: dict[str, Any]) -> None:
        cmd = body["cmd"]
        attempt = self.open.pop(cmd, None)
        if attempt is not None and attempt.outcome == "indefinite" and attempt.writes and not attempt.body.get("key"):
            self.wrong("at most once", f"{cmd} may have happened, has no key, and is tried again")
        self.place(cmd).last = ""
        if body["at_ms"] > event.at_ms:
            base, _, number = cmd.rpartition(".")
            self.timers[f"{base}.{int(number) + 1}/retry"] = body["at_ms"]

    def _latest(self, cmd: str) -> Attempt | None:
        """The attempt of that id; where it was never begun, the one before it."""
        found = [a for a in self.visits.get(visit_of(cmd), ()) if not beside(a.cmd)]
        return self.attempts.get(cmd) or (found[-1] if found else None)

    def _on_in_doubt(self, event: Event, body: dict[str, Any]) -> None:
        attempt = self._latest(body["cmd"])
        if attempt is not None:
            self.accounts.charge(attempt)
            attempt.outcome = "doubt"
            self.open.setdefault(attempt.cmd, attempt)
        self.place(body["cmd"]).last = "doubt"

    def _on_probed(self, event: Event, body: dict[str, Any]) -> None:
        probe = self.open.pop(body["cmd"], None)
        if probe is not None:
            self.accounts.charge(probe, body.get("usage"))
            probe.outcome = "ok"
        self._told(body["cmd"].removesuffix("/confirm"), body)

    def _on_settled(self, event: Event, body: dict[str, Any]) -> None:
        self.parked = None
        self._told(body["cmd"], body)

    def _told(self, cmd: str, body: dict[str, Any]) -> None:
        """Somebody knows now whether a call happened."""
        attempt = self._latest(cmd)
        if body["happened"] is None:
            return
        place, here = self.place(cmd), self.current(cmd)
        if attempt is not None:
            if body["happened"]:
                self.accounts.charge(attempt)
            if not body["happened"] and place.last == "indefinite":
                place.last = "definite"
            if body["happened"] and place.kind == "doubt" and "undoes" in attempt.body:
                # It was a call that takes another one back: that one is taken back, then.
                self.undo = [entry for entry in self.undo if entry["cmd"] != attempt.body["undoes"]]
            attempt.settled, attempt.outcome = True, "yes" if body["happened"] else "no"
            self.open.pop(attempt.cmd, None)
        if body["happened"] and here:
            self._step_done({**body, "cmd": cmd})
        elif here and place.last == "doubt":
            place.last = ""
        elif body["happened"] and "undo" in body:
            self.undo.append({"cmd": cmd, **body["undo"]})

    # ---- people, timers, events

    def _on_asked(self, event: Event, body: dict[str, Any]) -> None:
        if body["question"] in self.questions:
            self.wrong("ids", f"the question {body['question']} was asked twice")
        self.questions[body["question"]] = {**body, "approvals": [], "asked_ms": self.events[-2].at_ms}
        if "expires_at_ms" in body:
            self.timers[f"{body['cmd']}/timeout"] = body["expires_at_ms"]
        if "remind_ms" in body:
            self.timers[f"{body['cmd']}/remind"] = event.at_ms + body["remind_ms"]
        if "call" in body:
            verdict, why = self._judge(
                body["cmd"], body["call"]["tool"], body["call"]["args"], event.at_ms, [], asking=True
            )
            if verdict == "denied":
                self.wrong("policy", f"{body['call']['tool']} was asked about though it is denied: {why}")

    def _on_answered(self, event: Event, body: dict[str, Any]) -> None:
        question = self.questions.get(body["question"])
        if question is None or body["question"] in self.closed or not self.current(question["cmd"]):
            self.wrong("approvals", f"the question {body['question']} was answered though it is not open")
            return
        if f"{question['cmd']}/timeout" in self.fired:
            self.wrong("timers", f"the question {body['question']} was answered after its time")
        approves = any(o["name"] == body["option"] and o["approves"] for o in question["options"])
        if approves:
            question["approvals"].append({"by": body["by"], "roles": body["roles"]})
            homes = self.places.homes(frame_of(question["cmd"]))
            if not self.naive[homes[0]].enough(question, self.principal):
                return
        self.closed.add(body["question"])
        self.place(question["cmd"]).last = "answered"
        if approves and "call" in question:
            people = list(question["approvals"])
            self.grants[body["question"]] = {
                "call": question["call"], "state": question["state"], "people": people, "used": False,
                "asked": question, "at_ms": event.at_ms,
            }  # fmt: skip

    def _on_expired(self, event: Event, body: dict[str, Any]) -> None:
        question = self.questions[body["question"]]
        if event.at_ms < question["expires_at_ms"] or body["question"] in self.closed:
            self.wrong("timers", f"the question {body['question']} expired")
        self.closed.add(body["question"])

    def _on_timer(self, event: Event, body: dict[str, Any]) -> None:
        self.timers[body["id"]] = body["at_ms"]
        self.fired.discard(body["id"])  # a wait that an operator has tried again

    def _on_fired(self, event: Event, body: dict[str, Any]) -> None:
        name = body["id"]
        if name.endswith(("budget/time", "budget/active")):
            return
        at_ms = self.timers.get(name)
        if at_ms is None or event.at_ms < at_ms:
            self.wrong("timers", f"{name} fired at {event.at_ms}, it was set to {at_ms}")
            return
        if name.endswith("/remind"):
            question = next(q for q in self.questions.values() if f"{q['cmd']}/remind" == name)
            every = question["remind_ms"]
            self.timers[name] = at_ms + every * ((event.at_ms - at_ms) // every + 1)
            return
        if name in self.fired:
            self.wrong("timers", f"{name} fired twice")
        if not self.current(name):
            self.wrong("timers", f"{name} fired after its state was left")
        self.fired.add(name)

    def _on_received(self, event: Event, body: dict[str, Any]) -> None:
        if body["id"] in self.received:
            self.wrong("messages once", f"the event {body['id']} was received twice")
        self.received.add(body["id"])

    def _on_consumed(self, event: Event, body: dict[str, Any]) -> None:
        if body["id"] not in self.received or body["id"] in self.consumed:
            self.wrong("messages once", f"the event {body['id']} was consumed twice or never received")
        self.consumed.add(body["id"])

    # ---- the run

    def _on_exceeded(self, event: Event, body: dict[str, Any]) -> None:
        self.accounts.exceeded(body.get("home", ""), body["what"])

    def _on_parked(self, event: Event, body: dict[str, Any]) -> None:
        self.parked = body
        if not body["commands"]:
            self.wrong("named", "parked, and nothing continues it")
        if self.places.now[body["frame"]].last == "indefinite":
            self.wrong("doubt", "parked with a write that may have happened, and not in doubt")

    def _on_unparked(self, event: Event, body: dict[str, Any]) -> None:
        place = self.places.now.get((self.parked or {}).get("frame", ""))
        if place is not None and place.last == "doubt":
            self.wrong("doubt", "a call in doubt is just tried again")
        self.parked = None

    def _on_cancelling(self, event: Event, body: dict[str, Any]) -> None:
        self.parked, self.cancelling = None, body

    def _on_finished(self, event: Event, body: dict[str, Any]) -> None:
        self.ended = True
        if len(self.places.now) > 1:
            self.wrong("frames", "it ended while frames are open")
        named = {visit_of(cmd) for cmd in body.get("unresolved", ())}
        unnamed = {
            cmd: a.outcome
            for cmd, a in self.open.items()
            if a.writes and a.outcome in ("", "indefinite", "doubt") and visit_of(cmd) not in named
        }
        if (body["status"] == "cancelled" and unnamed) or any(o != "doubt" for o in unnamed.values()):
            self.wrong("doubt", f"it ended {body['status']}, and {sorted(unnamed)} may have happened")
        if self.definition.agent.finally_ is not None and "" not in self.closing:
            self.wrong("finally", "it ended without its finally")
        for attempt in list(self.open.values()):
            if attempt.outcome != "doubt":
                self.accounts.charge(attempt)

    def stands(self, standing: Standing) -> None:
        """What lists show of the run has to be what the journal says."""
        spent, own = standing.spent or {}, self.accounts.all[""]
        told = (spent.get("steps"), spent.get("tokens"), money(str(spent.get("cost", "0"))))
        if told != (own.steps, own.tokens, own.cost):
            self.wrong("budget", f"spent is {told}, by the journal it is {(own.steps, own.tokens, own.cost)}")
        if (standing.status in ENDED) != self.ended:
            self.wrong("end", f"the status is {standing.status}")

    # ---- what others ask

    def may_begin(self, tool: str, ctx: ToolContext, args: dict[str, Any]) -> tuple[Problem | None, str]:
        """What is wrong with a call that leaves a machine now, as the journal says, and the frame that makes it."""
        declared: Tool = self.definition.tools[tool]
        if self.ended:
            return ("end", f"{tool} of {self.run_id} begins after the end"), ""
        if declared.effect == "reads" and not self.program.callee(tool).journaled:
            return self._read_once(tool, str(args["ref"])), ""
        for cmd, attempt in self.open.items():
            body = attempt.body
            if body.get("tool") == tool and body["args"] == args and not attempt.outcome:
                if (body["key"] is not None) == ctx.promised and ctx.key == (
                    body["key"] or trace_key(self.run_id, cmd)
                ):
                    return None, frame_of(cmd)
                return ("one key, one call", f"{tool} of {self.run_id} was called under the key {ctx.key}, {cmd}"), ""
        return ("intent first", f"{tool} {args} of {self.run_id} begins without an intent"), ""

    def _read_once(self, tool: str, ref: str) -> Problem | None:
        """A free read leaves no intent; what it is about says which visit it is of."""
        known = self.refs.get((tool, ref))
        if known is not None and known in self.done:
            return "steps once", f"{tool} {ref} of {self.run_id} is read again"
        here = [p for p in self.places.now.values() if ref.startswith(f"{self.run_id}/{p.state}.")]
        if len(here) == 1 and len(self.places.now) == 1:
            self.refs[tool, ref] = f"{here[0].path}#{here[0].visit}"
        return None

    def may_refuse(self, kind: str, body: dict[str, Any]) -> bool:
        """Whether a message may be taken without being journaled."""
        if kind == "cancel" or self.ended:
            return self.ended
        if kind == "event":
            payload = body.get("payload") or {}
            return body["name"] not in self.definition.agent.events or not isinstance(payload.get("k"), int)
        if kind != "answer":
            return True
        question = self.questions.get(body["question"])
        if question is None or body["question"] in self.closed or not self.current(question["cmd"]):
            return True
        known = {option["name"] for option in question["options"]}
        fits = body["option"] in known and question["role"] in (body.get("roles") or [question["role"]])
        return not fits or bool(body.get("form")) or bool(question.get("decision", {}).get("needs"))
