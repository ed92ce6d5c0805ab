"""`jam audit`: what it prints and the code it ends with, and which commands sign."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest

from jamjet_dsl.engine.audit.keys import public
from tests.cli.conftest import Jam

KEY, DB = "jam.key", "jam.db"


@pytest.fixture
def paid(jam: Jam, pay: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A database with the run `p`, which paid; signed by every command that wrote to it."""
    for name in ("JAM_AUDIT_KEY", "JAM_AUDIT_HEADS", "JAM_AUDIT_PUBLIC_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert jam("audit", "keygen", "-o", KEY).code == 0
    monkeypatch.setenv("JAM_AUDIT_KEY_FILE", KEY)
    given = '{"to": "Ada", "amount": "5.00 USD"}'
    assert jam("run", pay, "--input", given, "--id", "p", "--as", "ann", "--db", DB).code == 4
    assert jam("answer", "p", "approve", "--by", "olga", "--db", DB).code == 0
    monkeypatch.delenv("JAM_AUDIT_KEY_FILE")
    return tmp_path / DB


def test_keygen(jam: Jam, tmp_path: Path) -> None:
    said = jam("audit", "keygen", "-o", KEY)
    key = public((tmp_path / f"{KEY}.pub").read_bytes(), "a test")
    assert key.id in said.out
    assert (tmp_path / KEY).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / KEY).read_text() not in said.out + said.err
    again = jam("audit", "keygen", "-o", KEY)
    assert (again.code, "JAMR110" in again.err) == (2, True)


def test_show(jam: Jam, paid: Path) -> None:
    said = jam("audit", "show", "p", "--db", DB, "--format", "json")
    assert said.code == 0
    (intent,) = [record for record in said.lines if record["record"] == "intent"]
    assert (intent["tool"], intent["principal"]["id"], intent["from"]) == ("pay", "ann", "go")
    assert intent["approvals"][0]["by"][0]["by"] == "olga"
    assert intent["decision"]["rules"][0]["place"].startswith("pay.jam:")
    text = jam("audit", "show", "p", "--db", DB).out
    assert "approved by olga" in text
    assert "require approval review before pay" in text


def test_verify(jam: Jam, paid: Path) -> None:
    chain = jam("audit", "verify", "p", "--db", DB)
    assert chain.code == 0
    assert "not compared with signed heads" in chain.out
    assert "--public-key" in chain.err, "the heads lie there, and nobody said whose they are"
    said = jam("audit", "verify", "--all", "--db", DB, "--public-key", f"{KEY}.pub", "--format", "json")
    run, heads = said.lines
    assert (said.code, run["run_id"], run["sound"], run["findings"]) == (0, "p", True, [])
    assert run["signed_to"] == run["events"] > 5
    assert (run["unsigned"], heads["findings"], len(heads["last"])) == (0, [], 64)
    assert jam("audit", "verify", "p", "--db", DB, "--require-signed").code == 1
    assert jam("audit", "verify", "p", "--db", DB, "--public-key", f"{KEY}.pub", "--require-signed").code == 0


def test_verify_names_what_was_changed(jam: Jam, paid: Path) -> None:
    with sqlite3.connect(paid) as db:
        db.execute("UPDATE events SET body = replace(body, 'Ada', 'Eve') WHERE seq = 1")
        db.execute("UPDATE events SET body = CAST(body AS BLOB)")
    said = jam("audit", "verify", "p", "--db", DB)
    assert said.code == 1
    assert "JAMR107" in said.out
    assert "event" in said.out
    found = jam("audit", "verify", "--all", "--db", DB, "--public-key", f"{KEY}.pub", "--format", "json")
    assert found.code == 1
    finding = found.lines[0]["findings"][0]
    assert finding["seq"] <= 1 <= finding["last"]
    exported = jam("audit", "export", "p", "-o", "b.jsonl", "--db", DB)
    assert (exported.code, Path("b.jsonl").exists()) == (1, False)


def test_heads_that_were_changed_are_told_by_line(jam: Jam, paid: Path) -> None:
    heads = Path(f"{DB}.heads.jsonl")
    lines = heads.read_bytes().splitlines(keepends=True)
    assert len(lines) >= 2
    heads.write_bytes(b"".join(lines[1:]))
    said = jam("audit", "verify", "p", "--db", DB, "--public-key", f"{KEY}.pub")
    assert (said.code, "line 1 of" in said.out, "JAMR109" in said.out) == (1, True, True)


def test_what_is_asked_for_wrongly(jam: Jam, paid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for args in (
        ["verify"],
        ["verify", "p", "--all"],
        ["verify", "nobody"],
        ["verify", "p", "--heads", "none.jsonl", "--public-key", f"{KEY}.pub"],
        ["verify", "p", "--heads", f"{DB}.heads.jsonl"],
        ["verify", "p", "--public-key", KEY],
        ["verify", "p", "--public-key", "none"],
        ["verify", "--bundle", "none"],
        ["show", "nobody"],
        ["replay", "nobody"],
        ["export", "nobody", "-o", "x"],
        ["export", "p", "-o", "no/folder/x"],
        ["keygen", "-o", "no/folder/x"],
        ["nothing"],
    ):
        said = jam("audit", *args, *([] if args[0] in ("keygen", "nothing") else ["--db", DB]))
        assert said.code == 2, (args, said)
        assert said.err, args
    assert jam("audit", "show", "p", "--db", "none.db").code == 2


def test_export_and_the_bundle(jam: Jam, paid: Path) -> None:
    trusted = ["--public-key", f"{KEY}.pub"]
    said = jam("audit", "export", "p", "-o", "b.jsonl", "--db", DB, *trusted, "--format", "json")
    assert (said.code, said.json["bundle"], said.json["unsigned"]) == (0, "b.jsonl", 0)
    assert jam("audit", "verify", "--bundle", "b.jsonl").code == 0
    good = jam("audit", "verify", "--bundle", "b.jsonl", *trusted, "--require-signed", "--format", "json")
    assert (good.code, good.json["run_id"], good.json["signed_to"]) == (0, "p", said.json["events"])
    data = Path("b.jsonl").read_bytes()
    Path("b.jsonl").write_bytes(data.replace(b"Ada", b"Eve"))
    bad = jam("audit", "verify", "--bundle", "b.jsonl", *trusted)
    assert bad.code == 1
    assert "event 1 of p" in bad.out
    Path("b.jsonl").write_bytes(b"")
    assert jam("audit", "verify", "--bundle", "b.jsonl").code == 1


def test_replay(jam: Jam, paid: Path) -> None:
    said = jam("audit", "replay", "p", "--db", DB, "--format", "json")
    assert (said.code, said.json["proven"], said.json["allowed"], said.json["needs_approval"]) == (0, True, 1, 1)
    assert "came out alike: 1 allowed, 1 asked" in jam("audit", "replay", "p", "--db", DB).out


def test_a_key_that_cannot_be_used_stops_whoever_would_sign(
    jam: Jam, pay: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("run", pay, "--input", '{"to": "Ada", "amount": "5.00 USD"}', "--db", DB)
    monkeypatch.setenv("JAM_AUDIT_KEY_FILE", "none")
    said = jam(*given)
    assert (said.code, "JAMR110" in said.err) == (2, True)
    monkeypatch.delenv("JAM_AUDIT_KEY_FILE")
    monkeypatch.setenv("JAM_AUDIT_HEADS", "heads.jsonl")
    said = jam(*given)
    assert (said.code, "no key to sign with" in said.err) == (2, True)
    monkeypatch.setenv("JAM_AUDIT_KEY", "x")
    assert jam(*given).code == 2
    assert not Path(DB).exists() or not jam("runs", "--db", DB).out


def test_prune_signs_what_it_deletes(jam: Jam, paid: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run that was deleted without the key is missed; one that was pruned with it is not."""
    trusted = ["verify", "--all", "--db", DB, "--public-key", f"{KEY}.pub"]
    before = paid.read_bytes()
    assert jam("prune", "--status", "completed", "--db", DB).code == 0
    missed = jam("audit", *trusted)
    assert (missed.code, "nobody signed that" in missed.out) == (1, True)
    for name in (f"{DB}-wal", f"{DB}-shm"):
        Path(name).unlink(missing_ok=True)
    paid.write_bytes(before)
    monkeypatch.setenv("JAM_AUDIT_KEY_FILE", KEY)
    assert jam("prune", "--status", "completed", "--db", DB).code == 0
    assert jam("audit", *trusted).code == 0
    last = json.loads(Path(f"{DB}.heads.jsonl").read_text().splitlines()[-1])
    assert last["pruned"] == ["p"]


def test_what_forks_and_migrates_signs_too(jam: Jam, paid: Path, pay: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAM_AUDIT_KEY_FILE", KEY)
    asked = next(
        r["seq"] for r in jam("audit", "show", "p", "--db", DB, "--format", "json").lines if r["event"] == "asked"
    )
    assert jam("fork", "p", "--at", asked - 1, "--id", "f", "--by", "eve", "--db", DB).code == 4
    newer = pay.with_name("newer.jam")
    newer.write_text(pay.read_text().replace("agent payer version 1", "agent payer version 2").replace("1h", "2h"))
    moved = jam("migrate", "f", "--to", newer, "--by", "max", "--db", DB)
    assert moved.code == 0, moved
    heads = [json.loads(line) for line in Path(f"{DB}.heads.jsonl").read_text().splitlines()]
    said = jam("audit", "verify", "--all", "--require-signed", "--db", DB, "--format", "json")
    assert said.code == 0, said
    assert heads[-1]["heads"][0][:2] == ["f", said.lines[1]["events"]]
    told = {r["event"]: r for r in jam("audit", "show", "f", "--db", DB, "--format", "json").lines}
    assert (told["forked"]["by"], told["migrated"]["by"]) == ("eve", "max")
    assert told["migrated"]["versions"]["from"] != told["migrated"]["versions"]["to"]
    exported = jam("audit", "export", "f", "-o", "f.jsonl", "--db", DB)
    assert exported.code == 0, exported
    assert jam("audit", "verify", "--bundle", "f.jsonl", "--public-key", f"{KEY}.pub").code == 0


def test_what_somebody_without_the_key_wrote_is_named(
    jam: Jam, pay: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is signed with what follows, by a process that only read it."""
    for name in ("JAM_AUDIT_KEY", "JAM_AUDIT_HEADS", "JAM_AUDIT_PUBLIC_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert jam("audit", "keygen", "-o", KEY).code == 0
    trusted = ("--db", DB, "--public-key", f"{KEY}.pub")
    assert jam("run", pay, "--input", '{"to": "Ada", "amount": "5.00 USD"}', "--id", "p", "--db", DB).code == 4
    monkeypatch.setenv("JAM_AUDIT_KEY_FILE", KEY)
    assert jam("answer", "p", "approve", "--by", "olga", "--db", DB).code == 0
    said = jam("audit", "verify", "p", *trusted)
    assert (said.code, "written without the key" in said.out, "p is as it was signed" in said.out) == (0, True, True)
    (first, last), *more = jam("audit", "verify", "p", *trusted, "--format", "json").lines[0]["unwitnessed"]
    assert (first, more) == (1, [])
    assert jam("audit", "verify", "p", *trusted, "--require-signed").code == 1
    exported = jam("audit", "export", "p", "-o", "b.jsonl", *trusted)
    assert exported.code == 0
    bundle = jam("audit", "verify", "--bundle", "b.jsonl", "--public-key", f"{KEY}.pub")
    (since,) = re.findall(r"wrote events (\d+) to", bundle.out)
    assert int(since) > last
