"""Signed heads: what the file says, what is noticed of a change to it, and when an engine signs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, JamError, compile_text
from jamjet_dsl.engine.audit import keys
from jamjet_dsl.engine.audit.heads import Head, HeadLog, Signed, check_lines, read_heads
from jamjet_dsl.engine.audit.witness import EVERY_MS, Witness
from jamjet_dsl.engine.clock import SimClock
from jamjet_dsl.store.memory import MemoryStore
from tests.audit.evidence import PROGRAM, Evidence, tools

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def key() -> keys.Signer:
    return keys.signer(keys.new_pair()[0], "a test")


def head(number: int, run: str = "r") -> Head:
    return Head(run, number, f"{number:064x}")


def written(path: Path, key: keys.Signer, lines: int = 5) -> list[bytes]:
    """The lines of a file to which so many were written."""
    log = HeadLog(path, key)
    for number in range(1, lines + 1):
        log.append([head(number), head(number, "s")], 1000 * number)
    return path.read_bytes().splitlines(keepends=True)


def check(lines: list[bytes], key: keys.Signer) -> Signed:
    return check_lines("heads", lines, [key.public])


def test_a_file_that_nobody_changed(tmp_path: Path, key: keys.Signer) -> None:
    lines = written(tmp_path / "heads", key)
    found = read_heads(str(tmp_path / "heads"), [key.public])
    assert not found.findings
    assert found.lines == 5
    assert {seq: seen.hash for seq, seen in found.runs["r"].items()} == {n: f"{n:064x}" for n in range(1, 6)}
    assert found.runs["s"][2].at_ms == 2000
    assert all(line.isascii() and json.loads(line)["jam"] == "heads1" for line in lines)
    assert key.public.id in lines[0].decode()


def test_every_byte_of_every_line(tmp_path: Path, key: keys.Signer) -> None:
    data = b"".join(written(tmp_path / "heads", key, 2))
    for at in range(len(data)):
        for bit in (1, 1 << at % 8):
            changed = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            # As a file is read: line feeds alone end lines.
            lines = [line + b"\n" for line in changed.split(b"\n")]
            lines = [*lines[:-1], lines[-1][:-1]] if lines[-1] != b"\n" else lines[:-1]
            found = check(lines, key)
            number = data[:at].count(b"\n") + 1
            assert found.findings, (at, bit)
            assert found.findings[0].line in (number, number + 1), (at, found.findings[0])


def test_lines_deleted_doubled_moved(tmp_path: Path, key: keys.Signer) -> None:
    lines = written(tmp_path / "heads", key)
    for i, line in enumerate(lines):
        if i + 1 < len(lines):
            fields = [finding.field for finding in check(lines[:i] + lines[i + 1 :], key).findings]
            assert fields == ["prev"], i
            assert check([*lines[:i], lines[i + 1], line, *lines[i + 2 :]], key).findings, i
        assert check(lines[: i + 1] + lines[i:], key).findings, i


def test_what_cannot_be_found_is_that_the_end_is_gone(tmp_path: Path, key: keys.Signer) -> None:
    """Whoever has kept the digest of the last line elsewhere can tell."""
    lines = written(tmp_path / "heads", key)
    whole, cut = check(lines, key), check(lines[:3], key)
    assert not cut.findings
    assert (whole.last != cut.last, max(cut.runs["r"])) == (True, 3)


def test_a_line_cut_short_is_named_by_the_one_after_it(tmp_path: Path, key: keys.Signer) -> None:
    path = tmp_path / "heads"
    lines = written(path, key, 3)
    for length in range(1, len(lines[2])):
        path.write_bytes(b"".join(lines[:2]) + lines[2][:length])
        assert [finding.field for finding in read_heads(str(path), [key.public]).findings] == ["form"], length
        HeadLog(path, key).append([head(9)], 9000)
        found = read_heads(str(path), [key.public])
        assert not found.findings, (length, found.findings)
        assert sorted(found.runs["r"]) == ([1, 2, 9] if length < len(lines[2]) - 1 else [1, 2, 3, 9])
        after = path.read_bytes().splitlines(keepends=True)
        assert len(after) == 4
        # It is only that very line which may be there.
        assert check([*after[:2], after[2][:-1] + b"x\n", after[3]], key).findings
        assert check([*after[:2], after[3]], key).findings


@pytest.mark.parametrize("there", [b"agent a {\n", b"SQLite format 3\0", b"{}", b'{"jam":"heads0",', b" "])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, key: keys.Signer, there: bytes) -> None:
    path = tmp_path / "loan.jam"
    path.write_bytes(there)
    with pytest.raises(JamError) as caught:
        HeadLog(path, key)
    assert (caught.value.code, "is no file of signed heads" in caught.value.message) == ("JAMR109", True)
    assert path.read_bytes() == there


@pytest.mark.parametrize("there", [b"", b"{", b'{"jam":"heads1",', b'{"jam"\0\0', b"\0\0", b"\n", b'{"j\n{"jam":"he'])
def test_what_is_left_of_a_first_line_is_written_on(tmp_path: Path, key: keys.Signer, there: bytes) -> None:
    path = tmp_path / "heads"
    path.write_bytes(there)
    HeadLog(path, key).append([head(1)], 1000)
    assert path.read_bytes().startswith(there)
    signed = read_heads(str(path), [key.public])
    assert list(signed.runs) == ["r"]
    assert signed.lines == 1


def test_another_key_is_not_trusted(tmp_path: Path, key: keys.Signer) -> None:
    other = keys.signer(keys.new_pair()[0], "another")
    written(tmp_path / "heads", key, 2)
    HeadLog(tmp_path / "heads", other).append([head(3)], 3000)
    found = read_heads(str(tmp_path / "heads"), [key.public])
    assert [(finding.line, finding.field) for finding in found.findings] == [(3, "key_id")]
    assert sorted(found.runs["r"]) == [1, 2], "what it signed counts for nothing"
    assert not read_heads(str(tmp_path / "heads"), [key.public, other.public]).findings


def test_two_histories_of_one_event(tmp_path: Path, key: keys.Signer) -> None:
    log = HeadLog(tmp_path / "heads", key)
    log.append([head(4)], 1)
    log.append([Head("r", 4, "f" * 64)], 2)
    (finding,) = read_heads(str(tmp_path / "heads"), [key.public]).findings
    assert (finding.code, finding.run_id, finding.seq, finding.line) == ("JAMR108", "r", 4, 2)


WRITER = """
import sys
from jamjet_dsl.engine.audit.heads import Head, HeadLog
from jamjet_dsl.engine.audit.keys import read, signer
log = HeadLog(sys.argv[1], signer(read(sys.argv[2]), "a test"))
for number in range(1, 41):
    log.append([Head(sys.argv[3], number, "0" * 64)], number)
"""


def test_several_processes_write_one_chain(tmp_path: Path, pristine: Evidence) -> None:
    (tmp_path / "key").write_bytes(pristine.private)
    heads = tmp_path / "heads"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-c", WRITER, str(heads), str(tmp_path / "key")]
    others = [subprocess.Popen([*command, name], env=environ) for name in ("a", "b", "c")]
    assert [other.wait(timeout=120) for other in others] == [0, 0, 0]
    found = read_heads(str(heads), [pristine.key.public])
    assert (found.findings, found.lines) == ([], 120)
    assert {name: len(seen) for name, seen in found.runs.items()} == {"a": 40, "b": 40, "c": 40}


# ---- keys


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    private, public = keys.new_pair()
    (tmp_path / "k").write_bytes(private)
    (tmp_path / "k.pub").write_text(public.pem)
    (tmp_path / "junk").write_bytes(b"secret material\n")
    assert keys.signer_in({}) is None
    by_text = keys.signer_in({"JAM_AUDIT_KEY": private.decode()})
    by_file = keys.signer_in({"JAM_AUDIT_KEY_FILE": str(tmp_path / "k")})
    assert by_text is not None
    assert by_file is not None
    assert by_text.public.id == by_file.public.id == public.id
    assert private.decode() not in repr(by_text)
    refused: list[Any] = [
        lambda: keys.signer_in({"JAM_AUDIT_KEY": "x", "JAM_AUDIT_KEY_FILE": "y"}),
        lambda: keys.signer_in({"JAM_AUDIT_KEY_FILE": str(tmp_path / "none")}),
        lambda: keys.signer_in({"JAM_AUDIT_KEY_FILE": str(tmp_path / "junk")}),
        lambda: keys.signer_in({"JAM_AUDIT_KEY": public.pem}),
        lambda: keys.public_in([str(tmp_path / "k")]),
        lambda: keys.public_in([str(tmp_path / "junk")]),
        lambda: keys.public_in([str(tmp_path)]),
    ]
    for call in refused:
        with pytest.raises(JamError) as error:
            call()
        assert error.value.code == "JAMR110"
        assert "secret material" not in str(error.value)


def test_a_key_of_another_kind_is_refused() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP256R1())
    pem = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(JamError, match="not Ed25519"):
        keys.signer(pem, "a test")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    with pytest.raises(JamError, match="not Ed25519"):
        keys.public(other.public_key().public_bytes(serialization.Encoding.PEM, form), "a test")


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(JamError, match="`cryptography`") as error:
        keys.new_pair()
    assert (error.value.code, "cryptography" in error.value.help) == ("JAMR110", True)


# ---- when an engine signs


class Lines:
    """A log that keeps what would be signed, and when."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, list[Head]]] = []
        self.fails = False

    def append(self, heads: Any, at_ms: int, pruned: Any = ()) -> None:
        if self.fails:
            raise JamError("JAMR109", "it cannot be written")
        self.lines.append((at_ms, list(heads)))


async def test_at_most_one_line_a_second_whatever_is_committed() -> None:
    clock, log, told = SimClock(), Lines(), list[JamError]()
    witness = Witness(log, clock, False, told.append)  # type: ignore[arg-type]
    began = clock.now_ms()
    for step in range(1, 101):
        witness.committed("r", step, step, f"{step}")
        witness.committed("s", step, step, f"{step}")
        witness.soon()
        await clock.advance(50)
    await clock.advance(EVERY_MS)
    times = [at_ms for at_ms, _ in log.lines]
    assert times[0] == began, "the first is signed at once"
    assert all(later - earlier >= EVERY_MS for earlier, later in pairwise(times))
    assert 5 <= len(times) <= 7
    assert all(len(heads) == 2 for _, heads in log.lines[1:])
    for run in ("r", "s"):
        said = [head for _, heads in log.lines for head in heads if head.run_id == run]
        assert (said[0].since, said[-1].seq, said[-1].hash) == (1, 100, "100")
        assert all(head.since == before.seq + 1 for before, head in pairwise(said)), "each event is in one line"
    lines = len(log.lines)
    await clock.advance(60_000)
    assert len(log.lines) == lines, "without news there is nothing to sign"


async def test_a_file_that_cannot_be_written_is_tried_again_and_told_once() -> None:
    clock, log, told = SimClock(), Lines(), list[JamError]()
    witness = Witness(log, clock, False, told.append)  # type: ignore[arg-type]
    log.fails = True
    witness.committed("r", 1, 2, "2")
    witness.soon()
    await clock.advance(3 * EVERY_MS)
    witness.committed("s", 6, 7, "7")
    witness.committed("r", 3, 4, "4")
    await clock.advance(3 * EVERY_MS)
    assert [error.code for error in told] == ["JAMR109"]
    with pytest.raises(JamError):
        await witness.close()
    log.fails = False
    await witness.close()
    assert [heads for _, heads in log.lines] == [[Head("r", 4, "4", 1), Head("s", 7, "7", 6)]]


async def test_what_others_wrote_in_between_is_not_signed_as_ones_own() -> None:
    log = Lines()
    witness = Witness(log, SimClock(), False, lambda error: None)  # type: ignore[arg-type]
    witness.committed("r", 1, 3, "3")
    witness.committed("r", 7, 8, "8")
    witness.committed("r", 9, 9, "9")
    witness.sign()
    assert [heads for _, heads in log.lines] == [[Head("r", 3, "3", 1), Head("r", 9, "9", 7)]]


async def test_a_clock_that_is_set_back_is_not_waited_for() -> None:
    clock, log = SimClock(), Lines()
    witness = Witness(log, clock, False, lambda error: None)  # type: ignore[arg-type]
    witness.committed("r", 1, 1, "1")
    witness.soon()
    await clock.advance(1)
    clock._now_ms -= 3_600_000
    witness.committed("r", 2, 2, "2")
    witness.soon()
    await clock.advance(EVERY_MS)
    assert [heads for _, heads in log.lines] == [[Head("r", 1, "1", 1)], [Head("r", 2, "2", 2)]]


@pytest.mark.parametrize("durable", [True, False])
async def test_an_engine_signs_what_it_wrote_before_it_is_closed(
    tmp_path: Path, key: keys.Signer, durable: bool
) -> None:
    store: Any = tmp_path / "jam.db" if durable else MemoryStore()
    program = compile_text(PROGRAM)
    heads = tmp_path / "heads"
    hashes: dict[tuple[str, int], str] = {}
    async with Engine(store=store, tools=tools(), heads=HeadLog(heads, key)) as jam:
        runs = [await jam.start(program, {"n": 3}, id=f"r{n}") for n in range(20)]
        await asyncio.gather(*(run.wait() for run in runs))
        left = await jam.start(program, {"n": 3}, id="left", drive=False)
        for run in [*runs, left]:
            hashes |= {(run.id, event.seq): event.hash for event in jam.history(run.id)}
        ends = {run.id: max(seq for name, seq in hashes if name == run.id) for run in [*runs, left]}
    found = read_heads(str(heads), [key.public])
    assert not found.findings
    assert {name: max(seen) for name, seen in found.runs.items()} == ends
    assert all(hashes[name, seq] == seen.hash for name, seqs in found.runs.items() for seq, seen in seqs.items())
    assert found.lines < 6


async def test_an_engine_whose_heads_cannot_be_written_does_not_begin(tmp_path: Path, key: keys.Signer) -> None:
    with pytest.raises(JamError) as error:
        HeadLog(tmp_path / "no" / "heads", key)
    assert error.value.code == "JAMR109"
