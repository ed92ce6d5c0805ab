"""Secrets at run time: what stands for them beside the journal, across runs and keys; rows that were tampered with."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, compile_text
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine import vault as vaults
from jamjet_dsl.engine.audit.records import records
from jamjet_dsl.engine.replay import replay
from jamjet_dsl.engine.vault import Vault
from jamjet_dsl.store.sqlite import SqliteStore

FIRST, SECOND = "11" * 32, "22" * 32
PROGRAM = """
tool pay(who: secret string, n: int) -> string { effect writes  key "pay-" + who }
agent a {
  input who: secret string, n: int
  output said: string
  budget { steps 9  exceeded -> over }
  policy { allow pay }
  start state s { call pay(who, n) as r  on in_doubt -> over  on error InvalidInput -> refused  on error any -> over
    -> done }
  final done { said = "paid" }
  failed refused { said = "refused" }
  failed over { said = "over" }
}
"""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAM_KEY_FILE", raising=False)
    monkeypatch.setenv("JAM_KEY", FIRST)


async def run(path: Path, run_id: str, who: str, n: int) -> dict[str, Any] | None:
    seen: list[str] = []

    async def pay(who: str, n: int) -> str:
        seen.append(who)
        return "ok"

    async with Engine(path, tools={"pay": pay}) as jam:
        view = await (await jam.start(compile_text(PROGRAM), {"who": who, "n": n}, id=run_id)).wait()
    assert seen in ([who], []), "the tool gets the value itself"
    return view.output


async def test_a_key_made_of_a_secret_is_one_promise_in_every_run_and_under_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.db"
    assert await run(path, "one", "some-canary", 1) == {"said": "paid"}
    assert await run(path, "two", "some-canary", 1) == {"said": "paid"}
    assert await run(path, "three", "some-canary", 2) == {"said": "refused"}
    assert await run(path, "four", "another-one", 2) == {"said": "paid"}
    monkeypatch.setenv("JAM_KEY", f"{SECOND} {FIRST}")
    assert await run(path, "five", "some-canary", 2) == {"said": "refused"}
    assert await run(path, "six", "some-canary", 1) == {"said": "paid"}
    raw = sqlite3.connect(path)
    assert [key.startswith("‹key ") for (key,) in raw.execute("SELECT key FROM keys")] == [True, True]
    raw.close()
    assert b"some-canary" not in path.read_bytes()


async def test_a_row_that_was_changed_or_moved_is_found(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    await run(path, "one", "some-canary", 1)
    await run(path, "two", "some-canary", 1)
    raw = sqlite3.connect(path)
    for change in (
        "UPDATE erasable SET ciphertext = zeroblob(length(ciphertext)) WHERE run = 1",
        "UPDATE erasable SET nonce = zeroblob(12) WHERE run = 1",
        "UPDATE erasable SET nonce = NULL WHERE run = 1",
        "UPDATE erasable SET ciphertext = (SELECT ciphertext FROM erasable WHERE run = 2),"
        " nonce = (SELECT nonce FROM erasable WHERE run = 2) WHERE run = 1",
        "UPDATE erasable SET path = replace(path, 'secret ', '') WHERE run = 1",
        "UPDATE erasable SET path = '(derived)' WHERE run = 1",
    ):
        kept = raw.execute("SELECT commitment, ciphertext, nonce, path FROM erasable WHERE run = 1").fetchone()
        raw.execute(change)
        raw.commit()
        async with Engine(path, drive=False) as jam:
            with pytest.raises(JamError) as found:
                jam.show("one")
        assert found.value.code == "JAMR107", change
        raw.execute(
            "UPDATE erasable SET ciphertext = ?, nonce = ?, path = ? WHERE commitment = ?", (*kept[1:], kept[0])
        )
        raw.commit()
    raw.close()
    async with Engine(path, drive=False) as jam:
        assert jam.show("one").status == "completed"


def test_neither_salt_nor_value_lies_in_the_open() -> None:
    vault = Vault.of_environment()
    assert vault is not None
    row, commitment = vault.seal("r", "secret who", b'"value"')
    again, other = vault.seal("r", "secret who", b'"value"')
    assert (row.salt, row.commitment) == (b"", commitment)
    assert b"value" not in row.value
    assert commitment != other
    assert row.nonce != again.nonce
    assert vault.open("r", row) == b'"value"'
    for moved in (("q", row), ("r", row._replace(path="who"))):
        with pytest.raises(JamError, match="changed or damaged"):
            vault.open(*moved)


def test_a_row_of_an_earlier_version_opens_whatever_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was not bound to it; a row of this version does not pass for one."""
    vault, bound = Vault.of_environment(), vaults._bound
    assert vault is not None
    with monkeypatch.context() as before:
        before.setattr(vaults, "_bound", lambda run_id, commitment, path="": bound(run_id, commitment))
        old, _ = vault.seal("r", "secret who", b'"value"')
    assert vault.open("r", old) == vault.open("r", old._replace(path="who")) == b'"value"'


async def test_a_secret_output_is_hidden_and_a_redacted_one_is_not(tmp_path: Path) -> None:
    program = """
    agent a { input s: secret string, t: string  output x: secret string, y: string
      policy { redact t }  start state w { otherwise -> done }  final done { x = s  y = t } }
    """
    async with Engine(tmp_path / "t.db") as jam:
        view = await (await jam.start(compile_text(program), {"s": "hush-hush", "t": "personal"}, id="t")).wait()
    assert view.output is not None
    assert view.output["x"].startswith("‹redacted ")
    assert view.output["y"] == "personal"
    SqliteStore(tmp_path / "t.db").verify("t")
    assert b"hush-hush" not in (tmp_path / "t.db").read_bytes()
    assert b"personal" not in (tmp_path / "t.db").read_bytes()


COUNTED = """
tool stamp(code: secret int, rate: secret decimal) -> string { effect reads }
tool charge(pin: secret string, code: secret int, amount: secret money, rate: secret decimal) -> string {
  effect writes  key run.id + "/pin" + pin + "-" + string(code)
}
agent a {
  input pin: secret string, code: secret int, amount: secret money, rate: secret decimal
  output said: string
  event go()
  var n: int = 0
  budget { steps 99  exceeded -> over }
  policy {
    allow charge
    fact seen = stamp(code = args.code, rate = args.rate) within 1h
    limit charge 3 calls per args.code, charge total args.amount <= $15000, charge 9 calls per args.rate
    forbid charge when seen != "ok" || attempted(charge, pin = args.pin, rate = args.rate) > 3
  }
  on error any -> over
  on denied -> asked
  start state s { call charge(pin, code, amount, rate) as r  on in_doubt -> over  -> s { set n = n + 1 } }
  state asked { wait for event go timeout 1h  on timeout -> over  -> over }
  final over { said = "over" }
}
"""
GIVEN = {"pin": "q7z", "code": 913, "amount": "9876.50 USD", "rate": "1234567.50"}
WORDS = re.compile(r"q7z|(?<!\d)913(?!\d)|9876\.5|1234567\.5")


async def nothing(**given: Any) -> str:
    raise AssertionError("no call is made")


async def counted(path: Path) -> None:
    async def charge(**given: Any) -> str:
        assert given["pin"] == "q7z"
        return "done"

    async def stamp(**given: Any) -> str:
        return "ok"

    async with Engine(path, tools={"charge": charge, "stamp": stamp}) as jam:
        run = await jam.start(compile_text(COUNTED), GIVEN, id="r")
        assert (await run.wait()).state == "asked"
        assert [e.body["tool"] for e in jam.history("r") if e.kind == "denied"] == ["charge"]


def stored(path: Path) -> str:
    """All that stands in the tables, without the hashes in it."""
    raw = sqlite3.connect(path)
    tables = [name for (name,) in raw.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    rows = [row for name in tables for row in raw.execute(f"SELECT * FROM {name}")]
    raw.close()
    cells = [cell for row in rows for cell in row if isinstance(cell, str | bytes)]
    text = "\n".join(cell if isinstance(cell, str) else cell.decode("utf-8", "replace") for cell in cells)
    return re.sub("[0-9a-f]{32,}", "", text)


async def test_what_is_made_of_secrets_does_not_show_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups and amounts of limits, keys, what facts were read with: also short values, and numbers written shorter."""
    monkeypatch.setattr("jamjet_dsl.engine.journal.SNAPSHOT_AT_REST", 1)
    path = tmp_path / "t.db"
    await counted(path)
    text = stored(path)
    assert "limit\\u001f" in text
    assert WORDS.findall(text) == []
    assert replay(SqliteStore(path), "r").proven
    async with Engine(path, tools={"charge": nothing, "stamp": nothing}, drive=False) as jam:
        assert jam.show("r").state == "asked", "the snapshot can be read again"


async def test_what_was_erased_still_proves_what_does_not_depend_on_it(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    await counted(path)
    async with Engine(path, tools={"charge": nothing, "stamp": nothing}) as jam:
        await jam.send("r", "go", {})
        assert (await jam.run("r").wait()).status == "completed"
    store = SqliteStore(path)
    assert store.erase("r", lambda _: True, 0).values > 4
    assert WORDS.findall(stored(path)) == []
    store.verify("r")
    found = replay(store, "r")
    assert found.disagreement is None
    assert found.open, "what is not known any more is said"


async def test_the_journal_s_own_numbers_and_words_are_not_hidden(tmp_path: Path) -> None:
    """A secret 2 must not turn the number of a rule into a mark: that would tell it."""
    path = tmp_path / "t.db"
    program = compile_text(
        """
tool pay(a: string, pin: secret int) -> string { effect writes }
agent a {
  input pin: secret int, word: string
  output done: string
  budget { steps 19  exceeded -> bad }
  policy { allow pay  limit pay 3 calls per args.a  require approval by 2 of "boss" before pay  redact word }
  on error any -> bad
  on denied -> bad
  start state s { ask role "boss" to pay("x", pin) "ok?" options boss approves, no timeout 1h as q
    on boss -> bad  on no -> bad  on timeout -> bad }
  final bad { done = "k" }
}
"""
    )
    async with Engine(path, tools={"pay": nothing}) as jam:
        run = await jam.start(program, {"pin": 2, "word": "boss"}, id="r")
        await run.wait()
        (question,) = jam.store.questions("r")
        assert question.role == "boss"
        (asked,) = [e.body for e in jam.history("r") if e.kind == "asked"]
        assert asked["decision"]["rules"] == [2]
        assert asked["decision"]["needs"] == [{"people": 2, "role": "boss", "excluding": None}]
        await jam.cancel("r")
        await run.wait()
    store = SqliteStore(path)
    store.erase("r", lambda _: True, 0)
    assert replay(store, "r").disagreement is None
    assert list(records(store, "r"))


REDACTS = """
tool pay(who: string, n: int) -> string { effect writes  key "pay-" + who }
agent a {
  input who: string, n: int
  output said: string
  budget { steps 9  exceeded -> over }
  policy { allow pay REDACT }
  start state s { call pay(who, n) as r  on in_doubt -> over  on error InvalidInput -> refused  on error any -> over
    -> done }
  final done { said = "paid" }
  failed refused { said = "refused" }
  failed over { said = "over" }
}
"""


async def test_a_key_is_found_whatever_the_runs_hide_and_whether_there_is_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a key a digest of redacted values cannot be guessed; one that is there later changes no promise."""

    async def pay(who: str, n: int) -> str:
        return "ok"

    async def said(run_id: str, n: int, redact: str = "redact who") -> Any:
        program = compile_text(REDACTS.replace("REDACT", redact))
        async with Engine(tmp_path / "t.db", tools={"pay": pay}) as jam:
            view = await (await jam.start(program, {"who": "078-05-1120", "n": n}, id=run_id)).wait()
        return (view.output or {})["said"]

    monkeypatch.delenv("JAM_KEY")
    assert await said("one", 1) == "paid"
    monkeypatch.setenv("JAM_KEY", FIRST)
    assert [await said("two", 2), await said("three", 1)] == ["refused", "paid"]
    assert [await said("four", 2, ""), await said("five", 1, "")] == ["refused", "paid"]
    raw = sqlite3.connect(tmp_path / "t.db")
    found = dict(raw.execute("SELECT key, args_digest FROM keys").fetchall())
    raw.close()
    assert len(found) == 3
    assert len(set(found.values())) == 2, "the run that had a key kept no plain digest"
