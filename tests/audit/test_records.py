"""What the audit trail tells of runs, and that its decisions come out alike."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, Scripted, ToolError, compile_text
from jamjet_dsl.cli.evidence import told
from jamjet_dsl.engine.audit.recheck import recheck
from jamjet_dsl.engine.audit.records import RECORDS, records
from jamjet_dsl.engine.clock import SimClock
from jamjet_dsl.engine.fork import fork
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.store.sqlite import SqliteStore
from tests.audit.evidence import PROGRAM, Evidence, tools
from tests.engine.test_recovery import PROGRAM as BANK
from tests.engine.test_recovery import Bank
from tests.engine.test_redact import INPUT, SSN
from tests.engine.test_redact import PROGRAM as REDACTING
from tests.engine.test_replay import changed, drafts_of, wide_run
from tests.engine.test_replay_frames import frames_run

Record = dict[str, Any]


def of(found: list[Record], event: str, **fields: Any) -> Record:
    """The one record of that event with these fields."""
    (one,) = [r for r in found if r["event"] == event and all(r.get(name) == value for name, value in fields.items())]
    return one


@pytest.fixture(scope="module")
def trail(pristine: Evidence) -> list[Record]:
    """The records of `one`."""
    store = SqliteStore(pristine.db, read_only=True)
    try:
        return list(records(store, "one"))
    finally:
        store.close()


def test_each_event_that_is_evidence_has_its_record_with_its_hash(pristine: Evidence, trail: list[Record]) -> None:
    store = SqliteStore(pristine.db, read_only=True)
    try:
        events = [event for event in store.history("one") if event.kind in RECORDS]
        digest = store.summary("one").definition
    finally:
        store.close()
    assert [(r["seq"], r["prev_hash"], r["hash"]) for r in trail] == [(e.seq, e.prev_hash, e.hash) for e in events]
    assert {r["definition"] for r in trail} == {digest}
    assert all(r["principal"] == {"id": "ann", "roles": ["clerk"]} for r in trail)
    json.dumps(trail)


def test_a_call_that_costs(trail: list[Record]) -> None:
    intent, outcome = of(trail, "intent", tool="price"), of(trail, "succeeded", tool="price")
    for record in (intent, outcome):
        assert (record["args"], record["effect"], record["agent"]) == ({"n": 3}, "reads", "buyer")
        assert (record["from"], record["to"]) == ("dear", "refused")
        assert record["decision"]["result"] == "allowed"
        (rule,) = record["decision"]["rules"]
        assert (rule["text"], rule["place"].rpartition(":")[2]) == ("allow look, price", "15")
    assert outcome["intent"] == intent["seq"]
    assert outcome["result"] == 21
    held, spent = intent["budget"]["run"], outcome["budget"]["run"]
    assert (held["before"]["held_cost"], held["after"]["held_cost"]) == ("0.00 USD", "0.10 USD")
    assert (spent["before"]["cost"], spent["after"]["cost"]) == ("0.00 USD", "0.10 USD")
    assert spent["after"]["held_cost"] == "0.00 USD"
    assert spent["limits"] == {"steps": 30, "cost": "5.00 USD"}


def test_a_free_read_is_told_in_full_though_only_its_outcome_is_journaled(trail: list[Record]) -> None:
    reads = [record for record in trail if record.get("tool") == "look"]
    assert len(reads) > 3
    for record in reads:
        assert record["event"] == "succeeded"
        assert record["derived"] == ["args", "effect", "decision"]
        assert (record["args"], record["effect"]) == ({"n": 3}, "reads")
        assert record["decision"]["rules"][0]["text"] == "allow look, price"


def test_a_denial(trail: list[Record]) -> None:
    denied = of(trail, "denied")
    assert (denied["record"], denied["tool"], denied["args"]) == ("denied", "wipe", {"n": 3})
    assert denied["decision"]["result"] == "denied"
    assert "wipe" in denied["decision"]["reason"]
    assert denied["to"] == "review"


def test_an_approval_and_the_call_it_was_given_for(trail: list[Record]) -> None:
    asked, answered, paid = of(trail, "asked"), of(trail, "answered"), of(trail, "intent", tool="pay")
    assert (asked["tool"], asked["args"], asked["decision"]["result"]) == ("pay", {"n": 3}, "needs_approval")
    assert (answered["by"], answered["roles"], answered["option"]) == ("bob", ["boss"], "approve")
    assert (answered["tool"], answered["args"], answered["to"]) == ("pay", {"n": 3}, "paying")
    (grant,) = paid["approvals"]
    assert grant["by"] == [{"by": "bob", "roles": ["boss"]}]
    assert grant["seqs"] == [asked["seq"], answered["seq"]]
    assert (paid["key"], paid["effect"]) == ("one/pay", "irreversible")
    fact = of(trail, "fact")
    for record in (asked, paid):
        used = record["facts"]["most"]
        assert used == {"args": {"n": 3}, "at_ms": fact["at_ms"], "result": 100, "seq": fact["seq"]}
    assert [rule["text"] for rule in paid["decision"]["rules"]] == ["require approval review before pay"]


async def test_a_call_that_is_made_again_names_the_approval_that_its_first_attempt_used_up() -> None:
    tried: list[int] = []

    def pay(n: int) -> str:
        tried.append(n)
        if len(tried) < 3:
            raise ToolError("Unavailable")
        return "paid"

    text = PROGRAM.replace('key run.id + "/pay" }', 'key run.id + "/pay"  retry Unavailable 2 times }')
    clock = SimClock(1_000)
    async with Engine(MemoryStore(), tools=[pay, *(t for t in tools() if t.__name__ != "pay")], clock=clock) as jam:
        run = await jam.start(compile_text(text), {"n": 3}, id="one", principal="ann")
        await run.wait()
        await jam.answer("one", "approve", by={"id": "bob", "roles": ["boss"]})
        await run.wait()
        found = [
            r for r in records(jam.store, "one") if r.get("tool") == "pay" and "cmd" in r and r["record"] != "question"
        ]
    assert tried == [3, 3, 3]
    assert [r["event"] for r in found] == ["intent", "failed", "intent", "failed", "intent", "succeeded"]
    assert [[grant["by"] for grant in r["approvals"]] for r in found] == [[[{"by": "bob", "roles": ["boss"]}]]] * 6
    assert all("approved by bob (boss)" in "\n".join(told(r)) for r in found)


def test_what_people_read_says_who_and_why(trail: list[Record]) -> None:
    text = "\n".join(line for record in trail for line in told(record))
    seqs = ", ".join(str(seq) for seq in of(trail, "intent", tool="pay")["approvals"][0]["seqs"])
    assert f"for ann, approved by bob (boss) (events {seqs}), buyer in paying -> done" in text
    assert "fact most(n: 3) = 100" in text
    assert "wipe(n: 3)" in text


async def test_runs_of_many_frames_and_of_child_agents() -> None:
    store = MemoryStore()
    await frames_run(store)
    found = list(records(store, "t"))
    events = [event for event in store.history("t") if event.kind in RECORDS]
    assert [record["seq"] for record in found] == [event.seq for event in events]
    child = [record for record in found if record["agent"] == "helper"]
    assert {record["event"] for record in child} == {"intent", "succeeded"}
    for record in child:
        assert record["from"] == "s"
        home = next(name for name in record["budget"] if name != "run")
        assert record["budget"][home]["limits"]["steps"] == 9
        assert [outer["agent"] for outer in record["decision"]["outer"]] == ["trip"]
    undone = [record for record in found if record["event"] == "intent" and "undoes" in record]
    assert [record["tool"] for record in undone] == ["give_back"]
    for record in found:
        assert told(record)
        if record["record"] == "outcome":
            assert record["tool"] in ("find", "book", "give_back", "note")
            assert record["decision"]["result"] == "allowed"
    again = recheck(store, "t")
    assert again.replay.proven
    assert again.count("allowed") == sum("decision" in event.body for event in events)


async def test_a_run_that_goes_through_everything() -> None:
    store = MemoryStore()
    await wide_run(store)
    found = list(records(store, "t"))
    assert of(found, "received")["by"] == "ann"
    assert of(found, "denied")["tool"] == "never_allowed"
    think = of(found, "intent", does="think")
    assert (think["model"], think["budget"]["run"]["after"]["held_tokens"] > 0) == ("small", True)
    probed = of(found, "probed")
    assert probed["intent"] == of(found, "intent", tool="book")["seq"]
    again = recheck(store, "t")
    assert again.replay.proven
    assert (again.count("denied"), again.count("needs_approval")) == (1, 2)


async def test_who_moved_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    bank = Bank()
    async with Engine(store, tools=bank.tools()) as jam:
        run = await jam.start(compile_text(BANK), {"n": 1}, id="t", principal="ann")
        await run.wait()
        await jam.answer("t", "approve", by="olga")
        await run.wait()
        seq = of(list(records(store, "t")), "asked")["seq"]
        made = fork(store, "t", seq, owner=jam.owner, now_ms=jam.clock.now_ms(), by="eve")
        await jam.cancel(made.run_id, by="max", note="not needed", now=True)
    found = list(records(store, made.run_id))
    forked, stopped = of(found, "forked"), of(found, "cancelling")
    assert (forked["by"], forked["origin"]["run"], forked["principal"]["id"]) == ("eve", "t", "ann")
    assert (stopped["by"], stopped["note"]) == ("max", "not needed")


async def test_what_is_redacted_is_never_told(tmp_path: Path) -> None:
    async def bureau(ssn: str, n: int) -> int:
        return n + 10

    async def lodge(text: str) -> str:
        return text

    async with Engine(tmp_path / "db", tools=[bureau, lodge], models={"*": Scripted(["she is fine"])}) as jam:
        run = await jam.start(compile_text(REDACTING), INPUT, id="t")
        await run.wait()
        await jam.answer("t", "yes", by="bob")
        await run.wait()
        found = list(records(jam.store, "t"))
        assert recheck(jam.store, "t").replay.proven
    text = json.dumps(found, ensure_ascii=False) + "\n".join(line for record in found for line in told(record))
    assert of(found, "intent", tool="lodge")["args"]["text"].startswith("of ‹redacted ")
    assert SSN not in text
    assert "81234" not in text


async def test_a_denial_that_does_not_hold_is_not_told_as_one_that_did(tmp_path: Path) -> None:
    called = []

    def wipe(n: int) -> int:
        called.append(n)
        return n

    others = [tool for tool in tools() if tool.__name__ != "wipe"]
    async with Engine(tmp_path / "db", tools=[*others, wipe]) as jam:
        run = await jam.start(compile_text(PROGRAM), {"n": 3}, id="t", policy="shadow")
        await run.wait()
        found = list(records(jam.store, "t"))
        assert recheck(jam.store, "t").count("denied") == 1
    assert called == [3]
    assert of(found, "started")["policy"] == "shadow"
    intent = of(found, "intent", tool="wipe")
    assert (intent["decision"]["result"], intent["decision"]["enforced"]) == ("denied", False)
    assert any("denied (shadow: it does not hold): " in line for line in told(intent))


# ---- decided again


def test_a_decision_that_was_changed_is_named_with_what_differs() -> None:
    store = MemoryStore()
    asyncio.run(wide_run(store))
    drafts = drafts_of(store, "t")
    changes = 0
    for index, draft in enumerate(drafts):
        decision = draft.body.get("decision")
        if decision is None:
            continue
        for name, other in (("rules", [0, 7]), ("reason", "because"), ("result", "denied"), ("new", 1)):
            if decision.get(name) == other:
                continue
            body = {**draft.body, "decision": {**decision, name: other}}
            forged = [*drafts[:index], draft._replace(body=body), *drafts[index + 1 :]]
            found = recheck(changed(store, "t", forged), "t")  # type: ignore[arg-type]
            assert found.replay.disagreement is not None
            assert found.replay.disagreement.seq == index + 1
            assert found.differs == (name,)
            changes += 1
    assert changes >= 16
