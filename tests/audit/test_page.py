"""The procedure of docs/audit.md, as it stands there, on good bundles and on changed ones."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from jamjet_dsl.engine.audit.bundle import export
from jamjet_dsl.engine.audit.heads import read_heads
from jamjet_dsl.engine.audit.keys import new_pair
from jamjet_dsl.store.sqlite import SqliteStore
from tests.audit.evidence import Evidence

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text()
SECTION = PAGE.split("## Checking a bundle without jam", 1)[1].split("\n## ", 1)[0]
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")


def block(language: str) -> str:
    """The one block of the procedure in that language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    return str(found)


@pytest.fixture
def folder(pristine: Evidence, tmp_path: Path) -> Path:
    """What a stranger has: the bundle, the key, and the page."""
    store = SqliteStore(pristine.db, read_only=True)
    try:
        signed = read_heads(str(pristine.heads), [pristine.key.public])
        assert export(store, "one", tmp_path / "bundle.jsonl", signed, [pristine.key.public]).sound
    finally:
        store.close()
    (tmp_path / "jam.key.pub").write_text(pristine.key.public.pem)
    (tmp_path / "check.py").write_text(block("python"))
    return tmp_path


def checked(folder: Path) -> tuple[int, str]:
    """What the commands of the page come to, with nothing of ours to import."""
    commands = block("sh").replace("python3", f"{sys.executable} -I")
    done = subprocess.run(["sh", "-e", "-c", commands], cwd=folder, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def change(folder: Path, edit: Callable[[list[bytes]], list[bytes]], *, mend: bool = True) -> None:
    """Change the lines of the bundle; with `mend` the last line fits again."""
    path = folder / "bundle.jsonl"
    lines = edit(path.read_bytes().splitlines(keepends=True))
    if mend:
        lines[-1] = b'{"sha256":"%s"}\n' % sha256(b"".join(lines[:-1])).hexdigest().encode()
    path.write_bytes(b"".join(lines))


@needs_openssl
def test_a_good_bundle(folder: Path) -> None:
    code, said = checked(folder)
    assert code == 0, said
    assert "Signature Verified Successfully" in said
    assert len(block("python").splitlines()) < 30


def rewritten(lines: list[bytes]) -> list[bytes]:
    """The last result forged, every hash computed anew."""
    run, prev, found = json.loads(lines[0])["run"], "0" * 64, []
    for line in lines:
        item = json.loads(line)
        if "seq" in item:
            item["body"] = item["body"].replace("paid 3", "paid 9")
            head = f"jam1\n{run}\n{item['seq']}\n{item['at_ms']}\n{item['kind']}\n{prev}\n"
            item["prev"], item["hash"] = prev, sha256(head.encode() + item["body"].encode()).hexdigest()
            prev = item["hash"]
        found.append(item)
    found[0]["head"] = prev
    return [json.dumps(item, separators=(",", ":")).encode() + b"\n" for item in found]


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda lines: [line.replace(b"paid 3", b"paid 9") for line in lines], r"event \d+ was changed"),
        (lambda lines: [line.replace(b'"at_ms":1', b'"at_ms":2') for line in lines], "event 1 was changed"),
        (lambda lines: lines[:8] + lines[9:], r"event \d+ was changed"),
        (lambda lines: [*lines[:8], lines[9], lines[8], *lines[10:]], r"event \d+ was changed"),
        (lambda lines: [*lines[:-2], lines[-1]], "events are missing"),
        (lambda lines: [lines[0].replace(b'"one"', b'"two"'), *lines[1:]], "event 1 was changed"),
        (lambda lines: [lines[0], lines[1].replace(b"irreversible", b"reads"), *lines[2:]], "another program ran"),
        (
            lambda lines: [*lines[:2], lines[2].replace(b"irreversible", b"reads"), *lines[3:]],
            "its sources were others",
        ),
        (lambda lines: [line for line in lines if b'"source"' not in line[:12]], "sources were others"),
        (lambda lines: [line for line in lines if b'"signed"' not in line[:12]], "there is no signed head"),
        (rewritten, r"event \d+ is not the one that was signed"),
    ],
)
def test_a_bundle_that_was_changed(folder: Path, edit: Callable[[list[bytes]], list[bytes]], why: str) -> None:
    change(folder, edit)
    code, said = checked(folder)
    assert code != 0
    assert re.search(why, said), said


def test_what_was_changed_is_found_without_assertions_too(folder: Path) -> None:
    assert "assert " not in block("python")
    change(folder, lambda lines: [line.replace(b"paid 3", b"paid 9") for line in lines])
    done = subprocess.run(
        [sys.executable, "-O", "check.py", "bundle.jsonl"], cwd=folder, capture_output=True, timeout=60
    )
    assert done.returncode == 1
    assert b"was changed" in done.stderr
    assert b"Traceback" not in done.stderr


def test_bytes_that_were_changed_and_nothing_mended(folder: Path) -> None:
    change(folder, lambda lines: [lines[0], lines[1], *lines[2:]][:-2] + lines[-2:][::-1], mend=False)
    assert checked(folder)[0] != 0


@needs_openssl
def test_a_signature_of_somebody_else(folder: Path) -> None:
    (folder / "jam.key.pub").write_text(new_pair()[1].pem)
    code, said = checked(folder)
    assert code != 0
    assert "Verification Failure" in said


@needs_openssl
def test_a_signed_line_that_was_forged(folder: Path) -> None:
    """Everything is computed anew and put under the head: only the signature is missing."""

    def forged(lines: list[bytes]) -> list[bytes]:
        before = json.loads(lines[0])["head"]
        lines = rewritten(lines)
        after = json.loads(lines[0])["head"]
        return [line.replace(before.encode(), after.encode()) for line in lines]

    change(folder, forged)
    code, said = checked(folder)
    assert code != 0
    assert "fit each other" in said
    assert "Verification Failure" in said
