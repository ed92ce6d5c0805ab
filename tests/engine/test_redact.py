"""`redact`: the value lies in the erasable table and nowhere else, and runs do not notice."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl import Engine, Scripted, compile_text
from jamjet_dsl.definition import Compiled
from jamjet_dsl.engine.journal import hide_state, reveal_state
from jamjet_dsl.engine.replay import replay
from jamjet_dsl.engine.sight import Sight
from jamjet_dsl.engine.veil import Veil, notes
from jamjet_dsl.kernel.model import RunState
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.ports import Draft
from jamjet_dsl.store.sqlite import SqliteStore

SSN = "078-05-1120"

PROGRAM = """
record App { ssn: string  income: money  name: string }
tool bureau(ssn: string, n: int) -> int { effect reads  cost $0.01 }
tool lodge(text: string) -> string { effect writes  key run.id }
model small { via openai "x" }
agent clerk {
  input app: App
  output text: string?
  var n: int = 0
  budget { steps 200  tokens 90k  cost $5  exceeded -> over }
  policy { allow bureau, lodge  redact app.ssn  redact app.income }
  on error any -> over
  start state look { call bureau(app.ssn, n) as n  when n < 30 -> look  otherwise -> explain }
  state explain {
    think "Explain {app.ssn} of {app.name}." given app model small max prompt 1k max tokens 9 as text: string
    -> ask_it }
  state ask_it { ask role "clerk" "File {app.ssn}?" show app options yes timeout 48h as a
    on yes -> filing  on timeout -> over }
  state filing { call lodge("of " + app.ssn) as receipt  on in_doubt -> over  -> done }
  final done { text = text }
  failed over { }
}
"""
INPUT = {"app": {"ssn": SSN, "income": "81234.00 USD", "name": "ann"}}


def stored(path: Path) -> str:
    """All that the database holds beside the erasable table."""
    raw = sqlite3.connect(path)
    tables = [t for (t,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'") if t != "erasable"]
    return "\n".join(
        item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
        for table in tables
        for row in raw.execute(f"SELECT * FROM {table}")
        for item in row
    )


def program() -> Compiled:
    return compile_text(PROGRAM)


async def test_a_redacted_value_is_nowhere_but_in_the_erasable_table(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def bureau(ssn: str, n: int) -> int:
        seen.append(ssn)
        return n + 1

    async def lodge(text: str) -> str:
        seen.append(text)
        return f"filed {text}"

    tools, models = {"bureau": bureau, "lodge": lodge}, {"*": Scripted([f"The person {SSN} is fine."])}
    async with Engine(tmp_path / "t.db", tools=tools, models=models) as jam:
        view = await (await jam.start(program(), INPUT, id="t")).wait()
        assert view.status == "waiting"
        assert SSN not in json.dumps(view.as_json())
        assert view.input["app"]["ssn"].startswith("‹redacted ")
        assert view.input["app"]["name"] == "ann"
        (question,) = jam.inbox()
        assert question.body["text"].startswith("File ‹redacted ")
    assert SSN not in stored(tmp_path / "t.db")
    assert "81234" not in stored(tmp_path / "t.db")
    store = SqliteStore(tmp_path / "t.db")
    assert {row.path for row in store.erasable("t")} == {"app.ssn", "app.income"}
    assert store.snapshot("t") is not None

    # Another process loads it, from the snapshot and from the journal alone, and the tools get the value itself.
    raw = sqlite3.connect(tmp_path / "t.db")
    for statement in ("SELECT 1", "DELETE FROM snapshots"):
        raw.execute(statement)
        raw.commit()
        async with Engine(tmp_path / "t.db", tools=tools, models=models) as jam:
            assert jam.show("t").state == "ask_it"
    async with Engine(tmp_path / "t.db", tools=tools, models=models) as jam:
        await jam.answer("t", "yes", by="x")
        view = await jam.run("t").wait()
        assert view.output == {"text": f"The person {SSN} is fine."}
    assert set(seen) == {SSN, f"of {SSN}"}
    assert SSN not in stored(tmp_path / "t.db")


async def test_erasing_forgets_the_value_and_leaves_the_chain_valid(tmp_path: Path) -> None:
    async def bureau(ssn: str, n: int) -> int:
        return 99

    async with Engine(
        tmp_path / "t.db", tools={"bureau": bureau, "lodge": lambda text: text}, models={"*": Scripted(["fine"])}
    ) as jam:
        await (await jam.start(program(), INPUT, id="t")).wait()
    raw = sqlite3.connect(tmp_path / "t.db")
    raw.execute("DELETE FROM erasable")
    raw.commit()
    store = SqliteStore(tmp_path / "t.db")
    store.verify("t")
    assert SSN not in (tmp_path / "t.db").read_bytes().decode("latin-1") or not store.erasable("t")


TWO = """
agent two { input x: string  input n: int  policy { redact x  redact n }  start state s { wait 1h -> t }  final t { } }
"""
LEAVES = st.text(max_size=6) | st.integers(0, 3) | st.none() | st.booleans()
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=8), st.integers(0, 9), TREES)
def test_hiding_and_revealing_gives_the_same_value(text: str, number: int, tree: Any) -> None:
    sight = Sight.of(Program.of(compile_text(TWO).definition))
    veil = Veil(sight, "r")
    state = RunState("r", input={"x": text, "n": number})
    veil.learn(state)
    body = {"set": [tree, text, f"a {text} b", number, {"deep": text}], "state": text, "visit": number}
    hidden = veil.hide(Draft(1, "moved", body)).body
    assert hidden["state"] == text, "the journal's own fields are not touched"
    assert hidden["visit"] == number
    assert hidden["set"][1] != text
    assert veil.reveal(hidden) == body
    again = Veil(sight, "r", veil.unsaved)
    assert again.reveal(hidden) == body
    data = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    assert reveal_state(veil, hide_state(veil, data)) == data


def test_a_mark_that_somebody_writes_is_a_text_like_any_other() -> None:
    """Marks stand in histories: whoever writes one into a message must not be given what it stands for."""
    veil = Veil(Sight.of(Program.of(compile_text(TWO).definition)), "r")
    veil.learn(RunState("r", input={"x": "the-secret", "n": 7}))
    (mark,) = veil.hide(Draft(1, "moved", {"set": ["the-secret"]})).body["set"]
    (number,) = veil.hide(Draft(1, "moved", {"set": [7]})).body["set"]
    plain = [
        mark,
        f"see {mark}!",
        mark.replace("redacted ", "literal redacted "),
        "‹redacted ",
        "‹literal ",
        "‹erased›",
    ]
    plain += [f"‹redacted {number['$redacted']}/1›", mark.replace("›", "/1›"), f"{mark}the-secret{mark}"]
    hidden = veil.hide(Draft(1, "moved", {"set": [*plain, {mark: mark}]})).body
    assert "the-secret" not in json.dumps(hidden)
    assert veil.reveal(hidden) == {"set": [*plain, {mark: mark}]}
    data = json.dumps({"vars": plain}, ensure_ascii=False, separators=(",", ":")).encode()
    assert reveal_state(veil, hide_state(veil, data)) == data


def test_an_amount_that_is_hidden_hides_nothing_else() -> None:
    """What a limit has added up is hidden where it stands, and is no value to be looked for in keys and groups."""
    veil = Veil(Sight.of(Program.of(compile_text(TWO).definition)), "r")
    veil.learn(RunState("r", input={"x": "the-secret", "n": 93}))
    counted = {"cmd": "#1.1", "decision": {"rules": [1], "limits": [[1, "[]", "7"]]}, "key": "pay-7"}
    stored = [veil.hide(Draft(1, "intent", counted)).body]
    veil.learn(RunState("r", input={"x": "another-one", "n": 93}))
    stored.append(veil.hide(Draft(1, "intent", counted)).body)
    assert stored[0] == stored[1]
    assert stored[0]["key"] == "pay-7"
    assert stored[0]["decision"]["rules"] == [1]
    amount = stored[0]["decision"]["limits"][0]
    assert amount[:2] == [1, "[]"]
    assert amount[2].startswith("‹redacted ")
    assert veil.reveal(stored[0]) == counted
    assert veil.erased_in(veil.reveal(stored[0])) == []
    assert veil.hide(Draft(1, "intent", {**counted, "key": "pay-93"})).body["key"].startswith("‹redacted ")


TOLD = """
tool post(text: string) -> string { effect writes }
agent a {
  input pan: secret string
  output done: string
  event note(text: string)
  var text: string = ""
  budget { steps 9  exceeded -> bad }
  policy { allow post }
  on error any -> bad
  start state wait_for_it { wait for event note(n) timeout 1h  on timeout -> bad  -> again { set text = n.text } }
  state again { wait for event note(m) timeout 1h  on timeout -> bad  -> say }
  state say { call post(text) as p  on in_doubt -> bad  -> good }
  final good { done = p }
  failed bad { done = "no" }
}
"""


async def test_a_mark_in_a_message_does_not_become_the_secret_when_the_run_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAM_KEY", "5a" * 32)
    posted: list[str] = []

    async def post(text: str) -> str:
        posted.append(text)
        return "ok"

    path, tools = tmp_path / "t.db", {"post": post}
    async with Engine(path, tools=tools) as jam:
        await jam.start(compile_text(TOLD), {"pan": "4111222233334444"}, id="r")
        mark = next(jam.history("r")).body["input"]["pan"]
        await jam.send("r", "note", {"text": f"post {mark}"})
    async with Engine(path, tools=tools) as jam:
        await jam.send("r", "note", {"text": "go"})
        await jam.run("r").wait()
    assert posted == [f"post {mark}"]
    assert replay(SqliteStore(path), "r").proven


def test_what_redaction_does_not_do_is_said() -> None:
    (note,) = notes(program().definition.agent, encrypted=False)
    assert notes(program().definition.agent, encrypted=True) == []
    assert "app.ssn, app.income" in note
    assert "not encrypted" in note


FLEETING = """
tool fetch() -> string { effect writes  key run.id }
agent clerk {
  output ok: bool
  var ssn: string = ""
  budget { steps 200  exceeded -> over }
  policy { allow fetch  redact ssn }
  on error any -> over
  start state get { call fetch() as ssn  on in_doubt -> over  set ssn = ""  -> nap }
  state nap { wait 1h  -> done }
  final done { ok = true }
  failed over { ok = false }
}
"""


async def test_a_value_that_is_overwritten_at_once_is_hidden_too(tmp_path: Path) -> None:
    """The result and the next value of the variable are written in one transaction."""

    async def fetch() -> str:
        return SSN

    async with Engine(tmp_path / "t.db", tools={"fetch": fetch}) as jam:
        assert (await (await jam.start(compile_text(FLEETING), {}, id="t")).wait()).status == "waiting"
    assert SSN not in stored(tmp_path / "t.db")


async def test_a_result_that_is_kept_while_the_engine_closes_is_hidden_too(tmp_path: Path) -> None:
    """Nothing is decided any more then, so the result is not bound to its variable yet."""
    gate = asyncio.Event()

    async def fetch() -> str:
        await gate.wait()
        return SSN

    jam = Engine(tmp_path / "t.db", tools={"fetch": fetch})
    await jam.start(compile_text(FLEETING), {}, id="t")
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(jam.close())
    await asyncio.sleep(0)
    gate.set()
    await closing
    store = SqliteStore(tmp_path / "t.db")
    assert [event.kind for event in store.history("t")][-1] == "succeeded"
    assert SSN not in stored(tmp_path / "t.db")
    async with Engine(tmp_path / "t.db", tools={"fetch": fetch}) as jam:
        assert (await (await jam.resume("t")).wait()).status == "waiting"
    assert SSN not in stored(tmp_path / "t.db")
