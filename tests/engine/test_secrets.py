"""Secrets at run time: what stands for them beside the journal, across runs and keys; rows that were tampered with."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, compile_text
from jamjet_dsl.diagnostics.errors import JamError
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
    ):
        kept = raw.execute("SELECT commitment, ciphertext, nonce FROM erasable WHERE run = 1").fetchone()
        raw.execute(change)
        raw.commit()
        async with Engine(path, drive=False) as jam:
            with pytest.raises(JamError) as found:
                jam.show("one")
        assert found.value.code == "JAMR107", change
        raw.execute("UPDATE erasable SET ciphertext = ?, nonce = ? WHERE commitment = ?", (*kept[1:], kept[0]))
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
    with pytest.raises(JamError, match="changed or damaged"):
        vault.open("q", row)


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
