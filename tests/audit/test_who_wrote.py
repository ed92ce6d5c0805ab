"""Who signs says which events it wrote itself: what somebody without the key wrote is named, and so is what a lost line
of the heads would have told."""

from __future__ import annotations

import base64
import json
import sqlite3
from pathlib import Path

import pytest

from jamjet_dsl import Engine, compile_text
from jamjet_dsl.engine.audit import keys
from jamjet_dsl.engine.audit.heads import Head, HeadLog, check_lines, read_heads
from jamjet_dsl.engine.audit.verify import Verdict, verify
from jamjet_dsl.engine.clock import SimClock
from jamjet_dsl.store.sqlite import SqliteStore
from tests.audit.evidence import resum, rewritten, rows_of

PROGRAM = compile_text(
    """
agent twice version 1 {
  input  n: int
  output first: string?, second: string?
  budget { steps 9  exceeded -> over }
  start state one { ask role "boss" "First?" options yes, no answer { note: string? } as a  otherwise -> two }
  state two { ask role "boss" "Second?" options yes, no answer { note: string? } as b  otherwise -> done }
  final done { first = a.note  second = b.note }
  failed over {}
}
"""
)


@pytest.fixture
def key() -> keys.Signer:
    return keys.signer(keys.new_pair()[0], "a test")


async def move(folder: Path, key: keys.Signer | None, answer: str | None = None) -> int:
    """A process that starts the run, or answers what it asks; with a key it signs. The last event then."""
    heads = None if key is None else HeadLog(folder / "heads", key)
    async with Engine(folder / "jam.db", clock=SimClock(), heads=heads) as jam:
        if answer is None:
            await (await jam.start(PROGRAM, {"n": 1}, id="r")).wait()
        else:
            await jam.answer("r", "yes", by="olga", note=answer)
        return max(event.seq for event in jam.history("r"))


def verdict(folder: Path, key: keys.Signer) -> Verdict:
    store = SqliteStore(folder / "jam.db", read_only=True)
    try:
        return verify(store, "r", read_heads(str(folder / "heads"), [key.public]))
    finally:
        store.close()


def forge(folder: Path) -> None:
    """Another note, every hash anew, and the run's row as it has to be."""
    rows = [row._replace(body=row.body.replace(b"mine", b"evil")) for row in rows_of(folder / "jam.db", "r")]
    with sqlite3.connect(folder / "jam.db") as db:
        for row in rewritten("r", rows):
            db.execute("UPDATE events SET body = ?, hash = ? WHERE seq = ?", (row.body, row.hash, row.seq))
        db.execute("UPDATE runs SET head = ?", (row.hash,))
        resum(db, 1)
    db.close()


async def test_what_was_written_without_the_key_is_named_though_it_is_signed_later(
    tmp_path: Path, key: keys.Signer
) -> None:
    first = await move(tmp_path, key)
    middle = await move(tmp_path, None, "mine")
    forge(tmp_path)
    last = await move(tmp_path, key, "yours")
    found = verdict(tmp_path, key)
    assert found.sound, "nothing tells that it was forged"
    assert (found.signed_to, found.unsigned, found.since) == (last, 0, middle + 1)
    assert found.unwitnessed == [(first + 1, middle)], "but nobody says that it was not"


async def test_what_was_written_with_the_key_has_nothing_to_be_named(tmp_path: Path, key: keys.Signer) -> None:
    await move(tmp_path, key)
    await move(tmp_path, key, "mine")
    last = await move(tmp_path, key, "yours")
    found = verdict(tmp_path, key)
    assert (found.sound, found.signed_to, found.unsigned, found.unwitnessed) == (True, last, 0, [])
    forge(tmp_path)
    assert not verdict(tmp_path, key).sound


async def test_a_line_that_was_cut_and_passes_for_torn_leaves_a_gap(tmp_path: Path, key: keys.Signer) -> None:
    """Whoever cuts the last bytes of the last line has the next process take it for one whose writing was cut short."""
    first = await move(tmp_path, key)
    middle = await move(tmp_path, key, "mine")
    heads = tmp_path / "heads"
    heads.write_bytes(heads.read_bytes()[:-5])
    forge(tmp_path)
    await move(tmp_path, key, "yours")
    signed, found = read_heads(str(heads), [key.public]), verdict(tmp_path, key)
    assert (signed.findings, signed.torn, found.sound) == ([], 1, True)
    assert found.unwitnessed == [(first + 1, middle)]


def test_lines_of_an_earlier_version_do_not_say_who_wrote_what(tmp_path: Path, key: keys.Signer) -> None:
    HeadLog(tmp_path / "new", key).append([Head("r", 3, "3" * 64, 2)], 5)
    line = json.loads((tmp_path / "new").read_bytes())
    line["heads"], signature = [["r", 3, "3" * 64]], line.pop("sig")
    message = json.dumps(line, separators=(",", ":")).encode()
    own = base64.b64encode(key.sign(message)).decode()
    assert own != signature
    old = message[:-1] + b',"sig":"' + own.encode() + b'"}\n'
    found = check_lines("heads", [old], [key.public])
    assert not found.findings
    assert found.runs["r"][3].since == 0
