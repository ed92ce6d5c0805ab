"""Canaries: a secret in every place that one can be, through every command, and then every byte is looked at that was
written or printed. A leak that is planted in one of the places where secrets are hidden has to be found."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl.engine import journal as journal_module
from jamjet_dsl.engine import vault as vault_module
from jamjet_dsl.engine import view as view_module
from jamjet_dsl.engine.hidden import Hidden
from jamjet_dsl.engine.veil import Veil
from tests.cli import canaries
from tests.cli.conftest import Jam, Said

KEY = "5a" * 32


class Stage:
    """A folder that a user works in, with what was printed there. What the user writes himself lies beside it."""

    def __init__(self, jam: Jam, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.known = canaries.canaries()
        self.work, self.own = home / "work", home / "own"
        self.work.mkdir()
        self.own.mkdir()
        self.said: list[str] = []
        self._jam = jam
        (self.work / "clerk.jam").write_text(canaries.PROGRAM)
        (self.work / "tools.py").write_text(canaries.TOOLS)
        (self.own / "canaries.json").write_text(json.dumps(self.known))
        (self.own / "script.json").write_text(json.dumps({"*": [{"words": self.known["words"]}]}))
        monkeypatch.setenv("CANARIES", str(self.own / "canaries.json"))
        monkeypatch.setenv("JAM_KEY", KEY)
        monkeypatch.delenv("JAM_KEY_FILE", raising=False)
        monkeypatch.chdir(self.work)
        monkeypatch.setattr("sys.dont_write_bytecode", True)

    def jam(self, *args: object, code: int | None = None) -> Said:
        """A command, whose output is kept."""
        said = self._jam(*args)
        self.said.append(said.out + said.err)
        if code is not None:
            assert said.code == code, said
        return said

    def given(self, name: str, value: Any) -> str:
        """A file that the user has written."""
        path = self.own / name
        path.write_text(json.dumps(value, ensure_ascii=False))
        return f"@{path}"

    def leaks(self) -> list[str]:
        """Every trace of a canary in what was printed and written."""
        printed = {f"output {number}": text.encode() for number, text in enumerate(self.said)}
        return canaries.found_in(self.known, {**printed, **canaries.all_files(self.work)})


@pytest.fixture
def stage(jam: Jam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(jam, tmp_path, monkeypatch)


def begin(stage: Stage) -> None:
    """A run up to the question to a person."""
    known = stage.known
    given = {
        "p": {"name": "ann", "ssn": known["ssn"]},
        "raw": known["raw"],
        "many": [known["item0"], known["item1"]],
        "plain": known["plain"],
    }
    script = ("--model-script", stage.own / "script.json")
    stage.jam("run", "clerk.jam:clerk", "--input", stage.given("in.json", given), "--id", "r", *script, code=4)


def finish(stage: Stage) -> None:
    """The answer, the event, and what parks it in the end: a call in doubt, which is settled."""
    known = stage.known
    script = ("--model-script", stage.own / "script.json")
    stage.jam("answer", "r", "yes", "--by", "bo", "--data", stage.given("pin", {"pin": known["pin"]}), *script)
    doc = {"body": known["body"], "mail": known["mail"]}
    # What nobody takes yet lies in the inbox.
    stage.jam("send", "r", "doc", stage.given("doc", doc), "--dedupe", "one", "--detach")
    assert stage.jam("resume", "r", *script).code in (0, 4)
    look(stage)
    sure = ("--happened", stage.given("settled", known["raw"]), "--by", "bo", "--note", known["pin"])
    stage.jam("settle", "r", *sure, *script, code=0)


def look(stage: Stage) -> None:
    """Every command that only looks."""
    for name in ("show", "history", "replay"):
        stage.jam(name, "r")
        stage.jam(name, "r", "--format", "json")
    for name in ("show", "verify", "replay"):
        stage.jam("audit", name, "r", code=0)
        stage.jam("audit", name, "r", "--format", "json", code=0)
    for name in ("runs", "inbox", "doctor"):
        stage.jam(name, code=0)
        stage.jam(name, "--format", "json")


def others(stage: Stage) -> None:
    """What works with programs and with a run's past."""
    stage.jam("graph", "clerk.jam", "--format", "svg", "-o", "clerk.svg")
    stage.jam("check", "clerk.jam")
    stage.jam("compile", "clerk.jam:clerk")
    (stage.work / "newer.jam").write_text(canaries.PROGRAM.replace("steps 200", "steps 300"))
    stage.jam("migrate", "r", "--to", "newer.jam:clerk")
    stage.jam("audit", "export", "r", "-o", "evidence.zip", code=0)
    last = int(json.loads(stage.jam("history", "r", "--format", "json").out.splitlines()[-1])["seq"])
    for number, at in enumerate((3, last // 2, last - 3)):
        assert "JAMR" not in stage.jam("fork", "r", "--at", at, "--id", f"f{number}").err
        stage.jam("history", f"f{number}")
        stage.jam("show", f"f{number}", "--format", "json")
        stage.jam("replay", f"f{number}", code=0)


def everything(stage: Stage) -> None:
    """All of it. A connection that stays open keeps the log beside the database, as another process would."""
    begin(stage)
    look(stage)
    with sqlite3.connect(stage.work / "jam.db") as other:
        other.execute("SELECT count(*) FROM events").fetchone()
        finish(stage)
        assert (stage.work / "jam.db-wal").stat().st_size
        look(stage)
        others(stage)
        stage.known["log"] = stage.known["ssn"]
        assert stage.leaks() == []
    other.close()


def test_no_byte_of_a_secret_is_written_or_printed(stage: Stage) -> None:
    everything(stage)
    assert stage.jam("show", "r", "--format", "json").json["status"] == "completed"
    assert stage.jam("replay", "r").code == 0
    assert stage.leaks() == []
    assert "‹redacted›" in "".join(stage.said)
    stage.jam("erase", "r", code=0)
    look(stage)
    # What was erased cannot be decided again, and replay says of each event that it was not.
    again = stage.jam("replay", "r", "--format", "json", code=0).json
    assert again["proven"]
    assert any("erased" in note for note in again["open"])
    assert stage.leaks() == []


def test_a_key_that_is_not_there_loses_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(stage)
    script = ("--model-script", stage.own / "script.json")
    for key, code in (("", "JAMR306"), ("6b" * 32, "JAMR307"), ("no key", "JAMR307")):
        monkeypatch.setenv("JAM_KEY", key)
        for looks in (("show", "r"), ("replay", "r"), ("fork", "r", "--at", "3")):
            assert code in stage.jam(*looks).err
        for moves in (("resume", "r"), ("answer", "r", "yes"), ("retry", "r")):
            assert code in stage.jam(*moves, *script).err
    monkeypatch.setenv("JAM_KEY", f"{'6b' * 32},{KEY}")
    finish(stage)
    assert stage.leaks() == []
    assert {row["key_id"] for row in rows(stage, "erasable")} == {key_id("6b" * 32), key_id(KEY)}


def test_a_program_with_secrets_is_refused_before_it_begins(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAM_KEY")
    given = {"p": {"name": "a", "ssn": "x"}, "raw": "y", "many": [], "plain": "z"}
    said = stage.jam("run", "clerk.jam:clerk", "--input", stage.given("in.json", given), code=1)
    assert "JAMR306" in said.err
    assert "openssl rand -hex 32" in said.err
    assert not (stage.work / "jam.db").exists()


def test_no_hash_of_a_secret_without_salt_is_written(stage: Stage) -> None:
    """Whoever guesses a short secret could check the guess against it, also after the value was erased."""
    begin(stage)
    form = {"text": stage.known["raw"], "amount": {"$money": "1.00 USD"}}
    data = json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    digest = hashlib.sha256(b"pay\0" + data).hexdigest()
    (question,) = [json.loads(row["body"]) for row in rows(stage, "events") if row["kind"] == "asked"]
    assert question["call"]["digest"].startswith("‹redacted ")
    assert digest.encode() not in b"".join(canaries.all_files(stage.work).values())


def test_a_key_is_never_quoted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(stage)
    wrong = KEY[:-1] + "z"
    monkeypatch.setenv("JAM_KEY", wrong)
    said = stage.jam("show", "r")
    assert "JAMR307" in said.err
    assert wrong[:16] not in said.out + said.err
    (stage.own / "keys").write_text(f"{KEY}\n")
    monkeypatch.setenv("JAM_KEY_FILE", str(stage.own / "keys"))
    assert "both" in stage.jam("show", "r").err
    monkeypatch.delenv("JAM_KEY")
    stage.jam("show", "r", code=0)
    (stage.own / "keys").write_text(wrong)
    assert wrong[:16] not in stage.jam("show", "r").err


def test_a_test_that_fails_tells_no_secret(stage: Stage) -> None:
    text = canaries.TESTED
    for place in ("INPUT", "RESULT"):
        text = text.replace(f"PLACE-{place}", stage.known["ssn" if place == "INPUT" else "raw"].replace('"', ""))
    (stage.own / "small.jam").write_text(text)
    for form in ("human", "json"):
        said = stage.jam("test", stage.own / "small.jam", "--format", form, code=1)
        for place in ("ssn", "raw"):
            assert stage.known[place].replace('"', "") not in said.out + said.err


def rows(stage: Stage, table: str) -> list[dict[str, Any]]:
    db = sqlite3.connect(stage.work / "jam.db")
    db.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in db.execute(f"SELECT * FROM {table}")]
    finally:
        db.close()


def key_id(text: str) -> str:
    return vault_module._key(text, 1, "JAM_KEY").id


# ---- leaks that are planted

PLANTS: dict[str, tuple[object, str, Callable[..., Any]]] = {
    "events": (Veil, "hide", lambda self, draft: draft),
    "snapshots": (journal_module, "hide_state", lambda veil, data: data),
    "the inbox": (Veil, "seal_message", lambda self, body: (body, [])),
    "the table of keys": (Veil, "key_use", lambda self, use: use),
    "values at rest": (vault_module.Vault, "seal", lambda self, run, path, value: vault_module.keep_plain(path, value)),
    "outputs": (Veil, "hide_secrets", lambda self, tree: tree),
    "what people are shown": (view_module.Veil, "hide_value", lambda self, tree: tree),
    "texts": (Hidden, "_hide_text", lambda self, text, to_store: self._texts and text),
}


@pytest.mark.parametrize("place", PLANTS)
def test_a_planted_leak_is_found(stage: Stage, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, leak = PLANTS[place]
    monkeypatch.setattr(owner, name, leak)
    begin(stage)
    stage.jam("show", "r", "--format", "json")
    if place in ("the inbox", "outputs"):
        finish(stage)
    assert stage.leaks()


def test_the_search_finds_every_form() -> None:
    known = {"it": 'ab"üzz' + "q" * 20}
    raw = known["it"].encode()
    shown = [raw, raw.hex().encode(), json.dumps(known["it"]).encode(), known["it"].encode("utf-16-le")]
    shown += [base64.b64encode(b"x" * shift + raw + b"tail") for shift in range(3)]
    for data in shown:
        assert canaries.found_in(known, {"file": b"before" + data + b"after"}), data
    assert canaries.found_in(known, {"file": b"nothing of it"}) == []
