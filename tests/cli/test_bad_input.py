"""Whatever is given: a coded error that says what to do, an exit code that fits, nothing lost, no traceback.

The fixture `jam` fails a test by itself for a traceback, for any exception but an exit, and for JAMR901 (a bug).
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from tests.cli.conftest import Jam, Said
from tests.cli.programs import LOOK, MAIL, PAY, SOUND, process

INPUT = '{"to": "Ada", "amount": "5.00 USD"}'
AS_ROOT = pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read and write everything")


def refused(said: Said, code: str, exit_code: int, *words: str) -> None:
    """An error with this code on stderr, with what to do, and nothing on stdout."""
    assert said.code == exit_code, said
    assert f"error[{code}]" in said.err, said.err
    assert "help: " in said.err
    assert said.out == ""
    for word in words:
        assert word in said.err, (word, said.err)


def found(said: Said, code: str, *words: str) -> None:
    """A diagnostic of `jam check` with this code."""
    assert said.code == 1, said
    assert f"[{code}]" in said.out, said.out
    for word in words:
        assert word in said.out, (word, said.out)


# ---- programs


@pytest.mark.parametrize("command", ["check", "fmt", "compile", "graph", "run", "test"])
def test_an_unknown_file(jam: Jam, command: str) -> None:
    refused(jam(command, "nix.jam"), "JAMR001", 2, "nix.jam", "no such file")


@pytest.mark.parametrize("name", ["", "a\0b.jam", "x" * 5000, "ünïcode.jam", "-"])
def test_names_that_name_nothing(jam: Jam, name: str) -> None:
    said = jam("compile", name)
    assert said.code in (1, 2)
    assert "error[JAMR00" in said.err


def test_an_empty_file_is_a_program_without_agents(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text("")
    assert jam("check", "a.jam").code in (0, 1)
    assert jam("fmt", "-", given="") == (0, "", "")
    refused(jam("compile", "a.jam"), "JAMR005", 2, "agent NAME")
    refused(jam("run", "a.jam"), "JAMR005", 2)


def test_bytes_that_are_not_utf_8(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_bytes(SOUND.encode() + b"\n// \xff\xfe")
    refused(jam("check", "a.jam"), "JAMR002", 2, "line 12", "UTF-8")
    refused(jam("check", "-", given=b"\xff\xfe"), "JAMR002", 2, "stdin")
    refused(jam("run", "a.jam"), "JAMR002", 2)


@pytest.mark.parametrize("piece", ["{", "}", "{}", "(", '"'])
def test_ten_megabytes_of_braces(jam: Jam, tmp_path: Path, piece: str) -> None:
    (tmp_path / "a.jam").write_text(piece * (10_000_000 // len(piece)))
    said = jam("check", "a.jam")
    assert said.code == 1
    assert "error[JAM0" in said.out
    assert len(said.out) < 20_000


def test_more_than_the_limit_is_refused_without_reading_it_all(jam: Jam, tmp_path: Path) -> None:
    with (tmp_path / "a.jam").open("wb") as out:
        out.truncate(5_000_000_000)
    refused(jam("check", "a.jam"), "JAMR003", 2, "16 MiB")


@pytest.mark.parametrize(
    "text",
    [
        "const a = " + "(" * 10_000 + "1" + ")" * 10_000,
        "const a = " + "[" * 10_000 + "]" * 10_000,
        "const a = " + "-" * 10_000 + "1",
        "const a = " + "!" * 10_000 + "true",
        "const a = x" + ".a" * 10_000,
        "const a = " + "1 + " * 10_000 + "1",
        "const a = " + "true ? 1 : " * 10_000 + "1",
        "record r { a: " + "list<" * 10_000 + "int" + ">" * 10_000 + " }",
        "agent a { " + "parallel p { branch b { " * 10_000,
    ],
    ids=["parens", "lists", "minus", "not", "members", "sums", "conditionals", "types", "branches"],
)
def test_nesting_of_ten_thousand(jam: Jam, tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jam").write_text(text)
    said = jam("check", "a.jam")
    assert said.code == 1
    assert "error[JAM" in said.out
    assert jam("fmt", "--check", "a.jam").code == 1


def test_a_folder_instead_of_a_file_and_a_folder_without_programs(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for command in ("check", "run", "compile", "graph", "fmt", "test"):
        refused(jam(command, "empty"), "JAMR001", 2, "empty")


def test_a_fifo_is_read_like_a_file(jam: Jam, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jam")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe.jam").write_text(SOUND))
    writer.start()
    assert jam("check", "pipe.jam").code == 0
    writer.join()


@AS_ROOT
def test_a_file_that_may_not_be_read(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    (tmp_path / "a.jam").chmod(0)
    refused(jam("check", "a.jam"), "JAMR001", 2, "ermission")


def test_an_import_that_climbs_out_of_the_folder(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "secret.jam").write_text("record Box { n: int }\n")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jam").write_text('import { Box } from "../secret.jam"\n' + SOUND)
    found(jam("check", "p/a.jam"), "JAM105", "climbs out", "help:")
    (tmp_path / "p" / "link.jam").symlink_to("../secret.jam")
    (tmp_path / "p" / "a.jam").write_text('import { Box } from "./link.jam"\n' + SOUND)
    found(jam("check", "p/a.jam"), "JAM105", "leads out")
    (tmp_path / "p" / "a.jam").write_text('import { Box } from "/etc/passwd"\n' + SOUND)
    found(jam("check", "p/a.jam"), "JAM105")


def test_links_and_imports_that_go_in_a_circle(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "x.jam").symlink_to("y.jam")
    (tmp_path / "y.jam").symlink_to("x.jam")
    refused(jam("check", "x.jam"), "JAMR001", 2, "circle")
    (tmp_path / "a.jam").write_text('import { Box } from "./x.jam"\n' + SOUND)
    found(jam("check", "a.jam"), "JAM105", "circle")
    (tmp_path / "b.jam").write_text('import { Box } from "./c.jam"\n' + SOUND)
    (tmp_path / "c.jam").write_text('import { little } from "./b.jam"\nrecord Box { n: int }\n')
    found(jam("check", "b.jam"), "JAM105", "cycle")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "again").symlink_to(".")
    (tmp_path / "loop" / "a.jam").write_text(SOUND)
    assert jam("check", "loop").out == "no problems in 1 file\n"


# ---- tools


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (None, ["pay_tools"]),
        ("import no_such_module_at_all\n", ["no_such_module_at_all"]),
        ("raise RuntimeError('broken at import')\n", ["broken at import"]),
        ("def nothing(): pass\n", ["pay"]),
        ("def pay(:\n", ["pay_tools"]),
        ("pay = 7\n", ["pay"]),
        ("import sys\nsys.exit(3)\n", ["pay_tools"]),
    ],
    ids=["missing", "imports nothing", "raises", "without the function", "syntax error", "no function", "exits"],
)
def test_a_tool_module_that_cannot_be_used(
    jam: Jam, tmp_path: Path, pay: Path, module: str | None, words: list[str]
) -> None:
    if module is None:
        (tmp_path / "pay_tools.py").unlink()
    else:
        (tmp_path / "pay_tools.py").write_text(module)
    said = jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    assert said.code == 1
    assert "error[JAMR303]" in said.err or "error[JAMR304]" in said.err, said.err
    assert "help: " in said.err
    for word in words:
        assert word in said.err
    assert jam("runs", "--format", "json").out == ""


def test_a_tool_module_that_breaks_later_keeps_the_answer_and_the_run(jam: Jam, tmp_path: Path, pay: Path) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    tools = (tmp_path / "pay_tools.py").read_text()
    (tmp_path / "pay_tools.py").write_text("raise RuntimeError('broken at import')\n")
    child = process("answer", "r1", "approve", "--by", "olga", cwd=tmp_path)
    _, err = child.communicate(timeout=60)
    assert child.returncode in (1, 4), err
    assert "Traceback" not in err
    child = process("resume", "r1", cwd=tmp_path)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1, err
    assert "JAMR30" in err
    (tmp_path / "pay_tools.py").write_text(tools)
    child = process("resume", "r1", "--format", "json", cwd=tmp_path)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert json.loads(out)["output"] == {"receipt": "paid 5.00 USD"}


def test_a_result_of_the_wrong_type_of_a_call_that_pays_is_in_doubt_and_nothing_is_lost(
    jam: Jam, tmp_path: Path, pay: Path
) -> None:
    (tmp_path / "mode").write_text("wrong")
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    said = jam("answer", "r1", "approve")
    assert said.code == 4
    assert "jam settle r1 --happened JSON" in said.out
    assert "InvalidOutput" in jam("history", "r1").out
    settled = ("settle", "r1", "--happened", '"r1"', "--by", "olga", "--note", "seen", "--format", "json")
    assert jam(*settled).json["output"] == {"receipt": "r1"}


def test_a_result_of_100_megabytes_does_not_go_into_the_journal(jam: Jam, tmp_path: Path, pay: Path) -> None:
    pay.write_text(LOOK)
    (tmp_path / "pay_tools.py").write_text("def pay(to, amount):\n    return 'x' * 100_000_000\n")
    said = jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    assert said.code in (3, 4)
    assert len(said.out) < 10_000
    assert (tmp_path / "jam.db").stat().st_size < 5_000_000
    assert "InvalidOutput" in jam("history", "r1").out


@pytest.mark.parametrize("result", ["float('nan')", "object()", "'\\ud800'", "{1: 2}", "[[]] * 10**6", "b'x'"])
def test_results_that_are_no_values(jam: Jam, tmp_path: Path, pay: Path, result: str) -> None:
    pay.write_text(LOOK)
    (tmp_path / "pay_tools.py").write_text(f"def pay(to, amount):\n    return {result}\n")
    said = jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    assert said.code in (3, 4)
    assert "InvalidOutput" in jam("history", "r1").out


# ---- input


def test_input_that_does_not_fit_says_all_problems_at_once_with_paths(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(
        "record Item { id: string  count: int 1..9 }\n"
        + SOUND.replace("n: int", "n: int, items: list<Item>, price: money, note: string?")
    )
    given = {"items": [{"id": 7, "count": 3}, {"id": "x", "count": 99}], "price": "much", "extra": 1}
    said = jam("run", "a.jam", "--input", json.dumps(given), "--id", "r1")
    refused(said, "JAMR301", 2, "n", "items[0].id", "items[1].count", "price", "extra")
    assert jam("runs", "--format", "json").out == ""


@pytest.mark.parametrize(
    "given",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        "'n': 1",
        '{"n": NaN}',
        '{"n": Infinity}',
        '{"n": 1, "n": 2}',
        '{"n": 1e999999999}',
        '{"n": -1e-999999999}',
        '{"n": ' + "9" * 6000 + "}",
        '{"n": 99999999999999999999}',
        '{"n": 1.5}',
        '{"n": true}',
        '{"n": "\\ud800"}',
        '{"\\ud800": 1}',
        '{"n": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "@missing.json",
        "@",
        "@.",
    ],
    ids=lambda v: v[:24],
)
def test_input_that_is_no_json_object_of_the_agent(jam: Jam, tmp_path: Path, given: str) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    said = jam("run", "a.jam", "--input", given)
    assert said.code == 2, said
    assert said.err.partition("error[")[2].startswith(("JAMR301", "JAMR001", "JAMR003")), said.err
    assert "help: " in said.err
    assert len(said.err) < 3000


@pytest.mark.parametrize("given", ['{"n": 1.0}', '{"n": 10e0}', '{"n": -0}'])
def test_whole_numbers_in_any_writing_are_ints_or_refused(jam: Jam, tmp_path: Path, given: str) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    said = jam("run", "a.jam", "--input", given)
    assert said.code == 0 or (said.code == 2 and "JAMR301" in said.err)


@pytest.mark.parametrize(
    "amount",
    ["1e999999999 USD", "NaN USD", "Infinity USD", "5.00 XX", "5", "", "-0.00 USD", "9" * 400 + " USD", "٣ USD"],
)
def test_money_that_is_none(jam: Jam, pay: Path, amount: str) -> None:
    said = jam("run", "pay.jam", "--input", json.dumps({"to": "Ada", "amount": amount}), "--id", "r1")
    assert said.code == 4 or (said.code == 2 and "JAMR301" in said.err and "amount" in said.err), said


def test_a_text_of_ten_megabytes_as_input_is_taken_or_refused(jam: Jam, tmp_path: Path, pay: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps({"to": "x" * 10_000_000, "amount": "5.00 USD"}))
    said = jam("run", "pay.jam", "--input", "@in.json", "--id", "r1")
    assert said.code in (2, 4)
    assert len(said.out) + len(said.err) < 5_000_000


def test_input_given_twice_takes_the_last_as_every_option_does(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    said = jam("run", "a.jam", "--input", '{"n": 99}', "--input", '{"n": 1}', "--format", "json")
    assert said.json["output"] == {"size": "small"}


def test_stdin_for_two_things_at_once(jam: Jam) -> None:
    refused(jam("run", "-", "--input", "-", given='{"n": 1}'), "JAMR006", 2, "only once")


# ---- databases


def test_a_database_that_is_none(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    (tmp_path / "text.db").write_text("this is no database, only a text that is long enough to look like one\n" * 20)
    (tmp_path / "folder.db").mkdir()
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE precious (x)")
    other.commit()
    other.close()
    for name, code in (
        ("text.db", "JAMR105"),
        ("other.db", "JAMR105"),
        ("folder.db", "JAMR101"),
        ("no/x.db", "JAMR101"),
    ):
        said = jam("run", "a.jam", "--input", '{"n": 1}', "--db", name, "--format", "json")
        refused(said, code, 2, name)
        refused(jam("runs", "--db", name), code, 2, name)
    assert "no database, only a text" in (tmp_path / "text.db").read_text()


def test_an_empty_file_as_database(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    (tmp_path / "empty.db").write_text("")
    said = jam("runs", "--db", "empty.db")
    assert said.code in (0, 2)
    assert jam("run", "a.jam", "--input", '{"n": 1}', "--db", "empty.db").code == 0


def test_a_database_from_a_newer_version(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    jam("run", "a.jam", "--input", '{"n": 1}', "--id", "r1")
    db = sqlite3.connect(tmp_path / "jam.db")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    db.execute("PRAGMA user_version = 9999")
    db.commit()
    for command in (
        ["run", "a.jam", "--input", '{"n": 1}', "--format", "json"],
        ["runs"],
        ["resume", "r1"],
        ["show", "r1"],
    ):
        refused(jam(*command), "JAMR104", 2, "9999", "upgrade")
    db.execute(f"PRAGMA user_version = {version}")
    db.commit()
    db.close()
    assert jam("show", "r1").code == 0


def test_a_database_that_another_process_keeps_locked(jam: Jam, tmp_path: Path, pay: Path) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    db = sqlite3.connect(tmp_path / "jam.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    refused(jam("answer", "r1", "approve"), "JAMR103", 2, "lock")
    assert jam("show", "r1").code == 0
    db.execute("ROLLBACK")
    db.close()
    assert jam("answer", "r1", "approve").code == 0


@AS_ROOT
def test_a_database_that_may_not_be_written(jam: Jam, tmp_path: Path, pay: Path) -> None:
    (tmp_path / "d").mkdir()
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1", "--db", "d/x.db")
    (tmp_path / "d" / "x.db").chmod(0o444)
    (tmp_path / "d").chmod(0o555)
    try:
        refused(jam("answer", "r1", "approve", "--db", "d/x.db"), "JAMR102", 2)
        assert jam("show", "r1", "--db", "d/x.db").code == 0
    finally:
        (tmp_path / "d").chmod(0o755)


@pytest.mark.parametrize("kind", ["BLOB", "TEXT"])
def test_a_journal_that_was_changed_is_noticed(jam: Jam, tmp_path: Path, pay: Path, kind: str) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    db = sqlite3.connect(tmp_path / "jam.db")
    db.execute("PRAGMA writable_schema = ON")
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    db.execute(f"UPDATE events SET body = CAST(replace(CAST(body AS TEXT), 'Ada', 'Bob') AS {kind}) WHERE seq = 1")
    db.commit()
    db.close()
    said = jam("history", "r1")
    assert said.code != 0
    assert "JAMR107" in said.err
    assert jam("answer", "r1", "approve").code != 0


# ---- runs and options


@pytest.mark.parametrize("name", ["", " ", "a/b", "x" * 200, "a b", "\x1b[31m", "..\\x", "-x"])
def test_ids_that_are_none(jam: Jam, tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    said = jam("run", "a.jam", "--input", '{"n": 1}', "--id", name)
    assert said.code in (0, 2)
    assert said.code == 0 or "error[JAMR207]" in said.err
    assert "\x1b" not in said.err + said.out


def test_ids_and_words_in_any_script_are_no_reason_to_fail(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(MAIL)
    said = jam("run", "a.jam", "--id", "größe-例", "--as", "Åsa 🙂", "--format", "json")
    assert (said.code, said.json["run_id"]) == (4, "größe-例") or "JAMR207" in said.err
    for wrong in (["show", "例"], ["answer", "größe", "ja"], ["send", "größe", "said", "🙂"], ["explain", "🙂"]):
        assert jam(*wrong).code == 2, wrong


def test_a_construct_that_is_not_executed_yet_says_so_before_anything_starts(jam: Jam, tmp_path: Path) -> None:
    text = SOUND.replace("  final small", "  finally { emit bye() }\n  final small").replace(
        "  output", "  emits  bye()\n  output"
    )
    (tmp_path / "a.jam").write_text(text)
    said = jam("run", "a.jam", "--input", '{"n": 1}')
    assert said.code == 1
    assert "error[JAM" in said.err
    assert jam("runs", "--format", "json").out == ""


def test_model_scripts_that_cannot_be_used(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    (tmp_path / "bad.json").write_text("{")
    for name in ("missing.json", "bad.json", "."):
        said = jam("run", "a.jam", "--input", '{"n": 1}', "--model-script", name)
        assert said.code in (1, 2), said
        assert "error[JAMR" in said.err


def test_the_program_with_errors_is_refused_by_run_as_by_check(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(PAY.replace("call approved pay as", "call pay(to, amount) as"))
    said = jam("run", "a.jam", "--input", INPUT)
    assert (said.code, said.out) == (1, "")
    assert "a.jam:" in said.err
    assert not (tmp_path / "jam.db").exists()


@pytest.mark.parametrize(
    "command",
    [
        "runs", "show r1", "history r1", "inbox", "replay r1", "fork r1 --at 1", "resume --all", "answer r1 yes",
        "migrate --all --to a.jam", "prune --keep 0", "doctor", "doctor --rebuild --all",
    ],
)  # fmt: skip
def test_an_empty_file_is_no_database_and_stays_as_it_is(jam: Jam, tmp_path: Path, command: str) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    (tmp_path / "empty.db").touch()
    refused(jam(*command.split(), "--db", "empty.db"), "JAMR101", 2, "is an empty file", "--db")
    assert (tmp_path / "empty.db").read_bytes() == b""
    assert jam("run", "a.jam", "--input", '{"n": 12}', "--db", "empty.db").code == 0


def test_two_forks_with_one_id(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    jam("run", "a.jam", "--input", '{"n": 12}', "--id", "r1")
    assert jam("fork", "r1", "--at", 1, "--id", "f1").code == 0
    said = jam("fork", "r1", "--at", 1, "--id", "f1")
    refused(said, "JAMR203", 2, "the run f1 exists", "give the fork another id, or none")
    assert "--if-exists" not in said.err
    assert len(jam("runs", "--format", "json").lines) == 2
