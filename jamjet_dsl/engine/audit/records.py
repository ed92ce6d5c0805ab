"""`jam audit show`: who did what, from which state to which, by which rule, at what cost. Derived from the journal.

There is a record for each intent and each outcome of a call, each denial, each question and answer, and each move of a
person. Nothing of it is stored: the journal is folded with the kernel, and what a record says beside its event is the
state that the event came to. `derived` names what stands in no event because it follows from those before it: the
arguments, effect and decision of a free and unlimited read, which has no intent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.definition import SpanJson
from jamjet_dsl.engine.audit.words import budget_of, plain
from jamjet_dsl.engine.loading import Pinned, pinned
from jamjet_dsl.engine.replay_world import MALFORMED, Recall
from jamjet_dsl.kernel import rules
from jamjet_dsl.kernel.calls import Refused, chosen, decided
from jamjet_dsl.kernel.ids import base_of, frame_of
from jamjet_dsl.kernel.machine import apply, initial
from jamjet_dsl.kernel.model import Event, Frame, Grant, RunState
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.values import EvalError, from_journal, to_journal
from jamjet_dsl.ports import Store

Record = dict[str, Any]
RECORDS = {
    **dict.fromkeys(("started", "forked", "migrated", "finished"), "run"),
    "intent": "intent",
    **dict.fromkeys(("succeeded", "failed", "fact", "probed", "in_doubt", "late"), "outcome"),
    "denied": "denied",
    **dict.fromkeys(("asked", "answered", "expired"), "question"),
    **dict.fromkeys(
        ("settled", "unparked", "cancelling", "received", "resumed", "recovered", "unsent", "parked"), "move"
    ),
}
"""What each kind of event is a record of. The others (transitions, timers, frames) are in `jam history`."""
_TOLD = (
    *("result", "error", "message", "definite", "usage", "duration_ms", "happened", "why", "option", "form", "note"),
    *(
        "by",
        "roles",
        "checked",
        "question",
        "role",
        "text",
        "name",
        "payload",
        "how",
        "now",
        "owner",
        "reason",
        "status",
        "output",
    ),
    *("unresolved", "origin", "untrusted", "undoes", "model", "prompt", "given", "input", "policy"),
)
"""The fields of events that are told as they are."""


def records(store: Store, run_id: str) -> Iterator[Record]:
    """The records of a run, in order. Raises JamError JAMR201, and JAMR107 for a journal that is damaged."""
    trail = Trail(store, store.find(run_id))
    for event in store.history(trail.run_id):
        trail.step(event)
    yield from trail.found


class Trail:
    """A journal, gone through once. `found` are the records so far; where one leads is filled in when it is known."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.run_id = run_id
        self.found: list[Record] = []
        self._store = store
        self._state: RunState = initial(run_id)
        self._program: Program | None = None
        self._pinned: Pinned | None = None
        self._veil: Recall | None = None
        self._calls: dict[str, Record] = {}
        """The last intent of each call, by its id."""
        self._facts: dict[str, int] = {}
        """By the key of a fact, the event that read it last."""
        self._questions: dict[str, list[int]] = {}
        """By its id, the events about a question."""
        self._open: dict[str, list[Record]] = {}
        """By frame, the records of the visit that it is at."""

    def step(self, event: Event) -> None:
        """One more event."""
        body = event.body
        if self._program is None:
            self._pin(body)
        elif event.kind == "migrated":
            self._pin(body["to"])
        program = self._program
        assert program is not None
        known = event if self._veil is None else replace(event, body=self._veil.shown(body)[0])
        what = RECORDS.get(event.kind)
        before = self._state
        record = None if what is None else self._record(what, event)
        if event.kind == "moved":
            for past in self._open.pop(str(body["frame"]), ()):
                past["to"] = body["to"]
        self._state = apply(program, before, known)
        if self._veil is not None:
            self._veil.learn(self._state)
        if record is not None:
            record["budget"] = budget_of(program, before, self._state, record["frame"])
            if event.kind in ("started", "forked"):
                record["principal"] = plain(self._state.principal)
            self.found.append(record)

    def _pin(self, to: Mapping[str, Any]) -> None:
        self._pinned = pinned(self._store, str(to["definition"]), str(to["source"]))
        self._program = Program.of(self._pinned.compiled.definition)
        self._veil = Recall.of(self._store, self._program, self.run_id, self._veil)

    # ---- one record

    def _record(self, what: str, event: Event) -> Record:
        assert self._program is not None
        assert self._pinned is not None
        body, cmd = event.body, event.body.get("cmd")
        question = self._state.questions.get(str(body.get("question")))
        asked = "" if question is None else question.frame
        path = frame_of(cmd) if cmd is not None else str(body.get("frame", asked))
        frame = self._state.frames.get(path)
        record: Record = {
            "run_id": self.run_id,
            "seq": event.seq,
            "at_ms": event.at_ms,
            "record": what,
            "event": event.kind,
            "frame": path,
            "agent": self._program.agent.name if frame is None else self._program.plan(frame).agent.name,
            "principal": plain(self._state.principal),
            "from": self._program.label(frame) if frame is not None else None,
            "to": None,
        }
        if cmd is not None:
            record["cmd"] = cmd
            self._about_call(record, event, frame)
        elif question is not None and "call" in question.body:
            call = question.body["call"]
            record |= {"tool": call["tool"], "args": self._shown(call["args"])}
        if cmd is not None or question is not None:
            self._open.setdefault(path, []).append(record)
        record |= {name: plain(body[name]) for name in _TOLD if name in body}
        if event.kind == "migrated":
            record["versions"] = {"from": body.get("from"), "to": body["to"]}
        if "question" in body:
            seqs = self._questions.setdefault(str(body["question"]), [])
            seqs.append(event.seq)
        if event.kind == "fact":
            self._facts[str(body["key"])] = event.seq
        record |= {"definition": self._pinned.digest, "prev_hash": event.prev_hash, "hash": event.hash}
        return record

    def _about_call(self, record: Record, event: Event, frame: Frame | None) -> None:
        """Tool, arguments, effect, key, decision, facts and approvals of the call that the event is about."""
        body, cmd = event.body, str(event.body["cmd"])
        intent = self._calls.get(cmd)
        if event.kind == "intent":
            record["does"] = body.get("does", "action")
            record |= {name: plain(body[name]) for name in ("tool", "args", "effect", "key") if name in body}
            self._calls[cmd] = record
        elif intent is not None:
            kept = ("does", "tool", "args", "effect", "key", "decision", "facts", "approvals")
            record |= {"intent": intent["seq"], **{name: intent[name] for name in kept if name in intent}}
        elif "tool" in body:
            record |= {name: plain(body[name]) for name in ("tool", "args") if name in body}
            self._derived(record, event, frame)
        elif "call" in body:
            record |= {"tool": body["call"]["tool"], "args": plain(body["call"]["args"])}
        elif base_of(cmd) != cmd and base_of(cmd) in self._calls:
            record["intent"] = self._calls[base_of(cmd)]["seq"]
        if "decision" in body:
            self._decided(record, body["decision"], frame)
        if event.kind == "intent" and record["does"] == "action" and "grants" not in body:
            grants = self._used_up(cmd)
        else:
            grants = [self._state.grants[name] for name in body.get("grants", ()) if name in self._state.grants]
        if grants:
            record["approvals"] = [
                {
                    "question": grant.question,
                    "state": grant.state,
                    "by": grant.approvers or [{"by": grant.by}],
                    "at_ms": grant.at_ms,
                    "seqs": self._questions.get(grant.question, []),
                }
                for grant in grants
            ]

    def _used_up(self, cmd: str) -> list[Grant]:
        """The approvals of a call that is made again: its first attempt used them up, and it is the same frozen call.
        A rollback resolves what an action before it left in doubt, under an id of its own."""
        known = self._state.intents.get(cmd)
        calls = (cmd,) if known is None else (cmd, str(known.body["cmd"]))
        visits = {call.rpartition(".")[0] for call in calls}
        return [g for g in self._state.grants.values() if g.used_by and g.used_by.rpartition(".")[0] in visits]

    def _decided(self, record: Record, decision: Mapping[str, Any], frame: Frame | None) -> None:
        """The decision with the rules' places and what the facts were."""
        home, agent = (frame.home, record["agent"]) if frame is not None else ("", record["agent"])
        record["decision"] = self._decision(decision, agent, str(record.get("tool", "")))
        facts = self._facts_of(decision, home)
        outer = [
            {"agent": one["agent"], **self._decision(one, str(one["agent"]), str(record.get("tool", "")))}
            for one in decision.get("outer", ())
        ]
        if outer:
            record["decision"]["outer"] = outer
            for one in decision["outer"]:
                facts |= self._facts_of(one, str(one["home"]))
        if facts:
            record["facts"] = facts
        counted = self._state.counted
        if counted is not None and counted["cmd"] == record.get("cmd"):
            told = [self._used(home, number, record["agent"], *used) for home, number, *used in counted["used"]]
            record["decision"]["used"] = told

    def _used(self, home: str, number: int, agent: str, calls: int, total: str) -> Record:
        """What all runs of the principal had used of a limit that they share."""
        around = self._state.frames.get(home)
        if home and around is not None and around.agent:
            agent = around.agent
        elif not home and self._program is not None:
            agent = self._program.agent.name
        return {**self._rule(agent, number), "calls": calls, "total": total}

    def _decision(self, decision: Mapping[str, Any], agent: str, tool: str) -> Record:
        """A decision in full: what is plainly allowed is journaled in as few bytes as it takes."""
        told: Record = {
            "result": decision.get("result", "allowed"),
            "reason": decision.get("reason", f"`{tool}` is allowed"),
            "rules": [self._rule(agent, int(number)) for number in decision.get("rules", ())],
        }
        known = ("rules", "result", "reason", "outer", "facts", "home", "agent")
        return told | {name: plain(value) for name, value in decision.items() if name not in known}

    def _rule(self, agent: str, number: int) -> Record:
        assert self._pinned is not None
        span: SpanJson | None = self._pinned.compiled.spans.get(f"{agent}/rules/{number}")
        if span is None:
            return {"rule": number}
        lines = self._pinned.compiled.sources.get(span.file, "").splitlines()
        text = lines[span.line - 1].strip() if span.line <= len(lines) else ""
        return {"rule": number, "place": f"{span.file}:{span.line}", "text": text}

    def _facts_of(self, decision: Mapping[str, Any], home: str) -> Record:
        """What was read for a decision: when, by which event, and what it was."""
        found: Record = {}
        for name, used in decision.get("facts", {}).items():
            told = {"args": plain(used["args"]), "at_ms": used["at_ms"]}
            key = self._fact_key(home, name, used["args"])
            known = self._state.facts.get(key)
            if known is not None and known["at_ms"] == used["at_ms"]:
                result = known.get("result")
                told |= {"error": known["error"]} if "error" in known else {"result": self._shown(result)}
                told["seq"] = self._facts.get(key)
            found[name] = told
        return found

    def _fact_key(self, home: str, name: str, args: Mapping[str, Any]) -> str:
        shown = args if self._veil is None else self._veil.reveal_value(args)
        values = from_journal(shown)
        return rules.fact_key(home, name, values if isinstance(values, dict) else {})

    def _shown(self, tree: Any) -> Any:
        """A value of the state, which knows what is redacted, as it may be told."""
        return plain(tree if self._veil is None else self._veil.hide_value(tree))

    def _derived(self, record: Record, event: Event, frame: Frame | None) -> None:
        """What a free and unlimited read was allowed by, and with which arguments: it follows from the state."""
        program, tool = self._program, event.body["tool"]
        assert program is not None
        declared = program.defn.tools.get(tool)
        if declared is not None:
            record["effect"] = declared.effect
        action = program.action(frame) if frame is not None else None
        if (
            event.kind not in ("succeeded", "failed")
            or frame is None
            or not isinstance(action, d.Call | d.CallProposed)
        ):
            return
        try:
            name, args, flags = chosen(program, self._state, frame, action)
            answer = decided(program, self._state, None, frame, name, args, flags, ())
        except (Refused, EvalError, *MALFORMED):
            return  # it was never made; or a value that it depends on was erased
        if name != tool or not isinstance(answer, rules.Decision):
            return
        record["args"] = self._shown(to_journal(args))
        self._decided(record, answer.body(), frame)
        record["derived"] = ["args", "effect", "decision"]
