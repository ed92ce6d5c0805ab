"""What only a real process shows: a terminal, a pipe that closes, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Jam
from tests.cli.programs import NAP, ROOT, SOUND, process, terminal, until

INPUT = '{"to": "Ada", "amount": "5.00 USD"}'
pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX terminals and signals")


def test_a_run_on_a_terminal_shows_live_where_it_is_and_what_it_has_spent(pay: Path, tmp_path: Path) -> None:
    code, shown = terminal("run", "pay.jam", "--input", INPUT, "--id", "r1", cwd=tmp_path)
    assert code == 4
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    for part in ("started payer", "? asks officer", "in review", "steps 1/9", "waits for officer", "jam answer r1"):
        assert part in plain, part
    assert "\x1b[" in shown


def test_progress_after_an_answer_starts_with_the_answer(jam: Jam, pay: Path, tmp_path: Path) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    code, shown = terminal("answer", "r1", "approve", "--by", "olga", cwd=tmp_path)
    assert code == 0
    for part in ("olga answers approve", "→ pay(", "✓ pay", "completed in paid"):
        assert part in shown, part
    assert "started payer" not in shown


def test_json_on_a_terminal_is_json_alone(pay: Path, tmp_path: Path) -> None:
    code, shown = terminal("run", "pay.jam", "--input", INPUT, "--format", "json", cwd=tmp_path)
    assert code == 4
    assert json.loads(shown)["status"] == "waiting"


def test_no_color_is_heeded_by_progress_too(pay: Path, tmp_path: Path) -> None:
    _, shown = terminal("run", "pay.jam", "--input", INPUT, cwd=tmp_path, env={"NO_COLOR": "1"})
    assert "waiting" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_ends_with_4_repeats_nothing_and_goes_on_with_resume(
    jam: Jam, pay: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "mode").write_text("slow")
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    child = process("answer", "r1", "approve", "--format", "json", cwd=tmp_path)
    until(tmp_path / "calls")
    child.send_signal(getattr(signal, name))
    out, err = child.communicate(timeout=30)
    assert child.returncode == 4, (out, err)
    assert "Traceback" not in err
    assert "jam resume --all" in err
    assert json.loads(out)["run_id"] == "r1"
    jam("resume", "--all")
    said = jam("show", "r1", "--format", "json")
    assert said.json["output"] == {"receipt": "paid 5.00 USD"}
    assert (tmp_path / "calls").read_text() == "Ada 5.00 USD\n"


def test_a_run_killed_in_flight_parks_or_goes_on_by_its_key(jam: Jam, pay: Path, tmp_path: Path) -> None:
    (tmp_path / "mode").write_text("slow")
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    child = process("answer", "r1", "approve", cwd=tmp_path)
    until(tmp_path / "calls")
    child.kill()
    child.communicate()
    (tmp_path / "mode").write_text("fine")
    said = jam("resume", "r1", "--format", "json")
    assert (said.code, said.json["output"]) == (0, {"receipt": "paid 5.00 USD"})
    keys = [e["body"]["key"] for e in jam("history", "r1", "--format", "json").lines if e["kind"] == "intent"]
    assert set(keys) == {"r1"}
    assert "pay was in flight when its process died: it is made again under its key" in jam("history", "r1").out


def test_history_follows_a_run_until_it_ends(jam: Jam, pay: Path, tmp_path: Path) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    child = process("history", "r1", "-f", "--format", "json", cwd=tmp_path)
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["kind"] == "started"
    jam("answer", "r1", "decline")
    rest, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (0, "")
    assert json.loads(rest.splitlines()[-1])["kind"] == "finished"


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND.replace("-> big\n", "-> huge\n"))
    ours, theirs = socket.socketpair()
    theirs.close()
    child = process("check", "a.jam", cwd=tmp_path, stdout=ours)
    _, err = child.communicate(timeout=30)
    ours.close()
    assert (child.returncode, err) == (141, "")


@pytest.mark.parametrize(
    "command",
    ["--help", "run --help", "check a.jam", "fmt -", "compile a.jam", "graph a.jam -o - --to dot", "eval 1+1"],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is needed")
def test_output_that_cannot_be_written_is_an_error_with_a_code(tmp_path: Path, command: str) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    with open("/dev/full", "w") as full, open(tmp_path / "a.jam") as given:
        child = process(*command.split(), cwd=tmp_path, stdout=full, stdin=given)
        _, err = child.communicate(timeout=60)
    assert err.startswith("error[JAMR001]: standard output cannot be written: No space left on device\nhelp: ")
    assert (child.returncode, err.count("\n")) == (2, 2)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-", "2>/dev/full"])
def test_a_run_goes_its_way_whatever_becomes_of_its_output(jam: Jam, tmp_path: Path, closed: str) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    command = f"{sys.executable} -m jamjet_dsl.cli run a.jam --input '{{\"n\": 3}}' --id r {closed}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == (2 if closed.startswith(">") else 0)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert jam("show", "r", "--format", "json").json["status"] == "completed"


def test_a_reader_of_errors_that_goes_away_is_no_error_either(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    child = process("check", "nothing.jam", cwd=tmp_path, stderr=ours)
    out, _ = child.communicate(timeout=30)
    ours.close()
    assert (child.returncode, out) == (141, "")


def test_an_encoding_without_the_signs_shows_question_marks_and_no_error(pay: Path, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "jamjet_dsl.cli", "test", "pay.jam"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, encoding="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "? approved and paid" in done.stdout


def test_the_same_program_by_its_module_and_by_its_command(tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    child = process("check", "a.jam", cwd=tmp_path)
    assert child.communicate() == ("no problems in 1 file\n", "")
    assert child.returncode == 0


def test_a_worker_does_what_is_due_until_it_is_stopped(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(NAP)
    jam("run", "a.jam", "--id", "r1", "--detach")
    child = process("worker", cwd=tmp_path)
    end = time.monotonic() + 20
    while jam("show", "r1", "--format", "json").json["status"] != "completed":
        assert time.monotonic() < end
        time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 0
    assert "working on jam.db" in err
    assert "Traceback" not in err


def test_the_version_is_told(tmp_path: Path) -> None:
    child = process("--version", cwd=tmp_path)
    assert child.communicate()[0].startswith("jam, version 0.")
