"""`jam run`, `resume`, `runs`, `show`, `history`, `inbox`, `graph --run`, `test`: in words and as JSON."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine
from jamjet_dsl.store.sqlite import SqliteStore
from tests.cli.conftest import Jam
from tests.cli.programs import NAP, PAY, SOUND

INPUT = '{"to": "Ada", "amount": "5.00 USD"}'


def test_a_run_that_completes_says_what_it_gave_and_ends_with_0(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    said = jam("run", "a.jam", "--input", '{"n": 12}', "--id", "r1")
    assert said.code == 0
    assert said.out.splitlines() == ["run r1  completed  in big", "  size  big"]
    assert said.err == "db jam.db\n"


def test_json_is_one_object_with_the_published_fields(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    said = jam("run", "a.jam", "--input", '{"n": 12}', "--id", "r1", "--format", "json")
    assert (said.code, said.err) == (0, "")
    assert {"run_id", "status", "state", "output", "spent", "waiting_for"} <= set(said.json)
    assert said.json["run_id"] == "r1"
    assert (said.json["status"], said.json["state"]) == ("completed", "big")
    assert (said.json["output"], said.json["waiting_for"]) == ({"size": "big"}, [])


def test_a_run_that_waits_ends_with_4_and_says_for_what_and_what_continues_it(jam: Jam, pay: Path) -> None:
    said = jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    assert said.code == 4
    assert "waits for officer: Pay 5.00 USD to Ada?" in said.out
    assert "approving grants this call, once: pay(to: Ada, amount: 5.00 USD)" in said.out
    assert "jam answer r1 approve|decline --by WHO" in said.out
    waiting = jam("show", "r1", "--format", "json").json["waiting_for"][0]
    assert waiting["call"] == {"tool": "pay", "args": {"to": "Ada", "amount": "5.00 USD"}}
    assert waiting["show"] == {"to": "Ada"}


def test_a_run_that_fails_ends_with_3(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND.replace("final big  ", "failed big "))
    said = jam("run", "a.jam", "--input", '{"n": 12}', "--format", "json")
    assert (said.code, said.json["status"], said.json["output"]) == (3, "failed", {"size": "big"})


def test_what_is_shown_cannot_steer_the_terminal(jam: Jam, pay: Path) -> None:
    evil = json.dumps({"to": "Bob\x1b[2K\x1b[1A\u202eadA\nrun r1  completed", "amount": "5.00 USD"})
    said = jam("run", "pay.jam", "--input", evil, "--id", "r1")
    assert said.code == 4
    for out in (said.out, jam("inbox").out, jam("show", "r1").out, jam("history", "r1").out, jam("runs").out):
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "\\u001b[2K" in out
        assert not [line for line in out.splitlines()[1:] if line.startswith("run r1  completed")]


def test_redacted_values_are_not_shown_and_that_they_are_kept_unencrypted_is_said(jam: Jam, pay: Path) -> None:
    pay.write_text(PAY.replace("allow pay  require", "redact to  allow pay  require"))
    said = jam("run", "pay.jam", "--input", '{"to": "Ada Lovelace", "amount": "5.00 USD"}', "--id", "r1")
    assert said.code == 4, said
    assert "not encrypted" in said.err
    assert "started payer" in jam("history", "r1").out
    for out in (jam("history", "r1").out, jam("history", "r1", "--format", "json").out, jam("runs").out):
        assert "Lovelace" not in out
        assert "redacted" in out


def test_the_database_is_beside_the_program_or_where_db_or_the_environment_say(
    jam: Jam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jam").write_text(SOUND)
    run = ("run", "p/a.jam", "--input", '{"n": 1}')
    assert jam(*run).err == "db p/jam.db\n"
    assert jam("--db", "one.db", *run).err == "db one.db\n"
    assert jam(*run, "--db", "two.db").err == "db two.db\n"
    monkeypatch.setenv("JAM_DB", "three.db")
    assert jam(*run).err == "db three.db\n"
    for name in ("p/jam.db", "one.db", "two.db", "three.db"):
        assert len(jam("runs", "--format", "json", "--db", name).lines) == 1, name


def test_an_agent_of_several_is_picked_and_stdin_and_files_give_input(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND + SOUND.replace("agent little", "agent other").replace('"big"', '"huge"'))
    (tmp_path / "in.json").write_text('{"n": 50}')
    said = jam("run", "a.jam:other", "--input", "@in.json", "--format", "json")
    assert (said.json["agent"], said.json["output"]) == ("other", {"size": "huge"})
    assert jam("run", "a.jam", "--input", "-", "--format", "json", given='{"n": 5}').json["output"] == {"size": "small"}
    assert jam("run", "-", "--input", '{"n": 5}', "--format", "json", given=SOUND).json["agent"] == "little"


def test_an_id_that_exists_is_refused_or_attached_to(jam: Jam, pay: Path) -> None:
    run = ("run", "pay.jam", "--input", INPUT, "--id", "r1", "--format", "json")
    first = jam(*run).json
    said = jam(*run)
    assert (said.code, said.out) == (2, "")
    assert "JAMR203" in said.err
    assert "--if-exists attach" in said.err
    again = jam(*run, "--if-exists", "attach")
    assert again.code == 4
    assert again.json["last_seq"] == first["last_seq"]
    assert len(jam("runs", "--format", "json").lines) == 1
    other = [INPUT.replace("Ada", "Bob") if word == INPUT else word for word in run]
    said = jam(*other, "--if-exists", "attach")
    assert (said.code, said.out) == (2, "")
    assert "JAMR203" in said.err
    assert "with another input" in said.err


def test_an_id_that_is_empty_is_refused_and_none_is_drawn(jam: Jam, pay: Path) -> None:
    said = jam("run", "pay.jam", "--input", INPUT, "--id", "")
    assert (said.code, "JAMR207" in said.err) == (2, True)
    assert jam("runs", "--format", "json").lines == []


def test_a_detached_run_returns_at_once_and_resume_goes_on(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(NAP)
    said = jam("run", "a.jam", "--id", "r1", "--detach", "--format", "json")
    assert said.code in (0, 4)
    said = jam("resume", "r1", "--format", "json")
    assert (said.code, said.json["status"]) == (0, "completed")
    said = jam("resume", "r1")
    assert (said.code, "JAMR204" in said.err) == (2, True)
    assert "nothing to resume" in jam("resume", "--all").err
    assert jam("resume").code == 2


def test_one_run_that_cannot_be_resumed_does_not_keep_the_others_from_it(jam: Jam, pay: Path) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    said = jam("resume", "missing", "r1", "--format", "json")
    assert said.code == 4
    assert "JAMR201" in said.err
    assert said.json["run_id"] == "r1"


def test_runs_lists_them_and_ids_may_be_shortened_while_unique(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    for name in ("order-1", "order-2", "other"):
        jam("run", "a.jam", "--input", '{"n": 1}', "--id", name)
    assert [r["run_id"] for r in jam("runs", "--format", "json").lines] == ["order-1", "order-2", "other"]
    assert [line.split()[0] for line in jam("runs").out.splitlines()] == ["order-1", "order-2", "other"]
    assert jam("runs", "--status", "failed").err == "no runs\n"
    assert jam("show", "ot", "--format", "json").json["run_id"] == "other"
    said = jam("show", "order")
    assert said.code == 2
    assert "JAMR202" in said.err
    assert "order-1" in said.err
    assert jam("show", "").code == 2


def test_show_tells_input_variables_and_where_it_stands(jam: Jam, pay: Path) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    said = jam("show", "r1")
    assert said.code == 0
    for part in ("agent payer", "to: Ada", "amount: 5.00 USD", "in review", "steps 1/9"):
        assert part in said.out, part


def test_history_is_a_timeline_in_words_and_the_chained_journal_as_json(jam: Jam, pay: Path) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    jam("answer", "r1", "approve", "--by", "olga")
    words = jam("history", "r1").out
    for part in ("started payer", "asks officer", "olga answers approve", "→ pay(", "key r1", "✓", "completed in paid"):
        assert part in words, part
    events = jam("history", "r1", "--format", "json").lines
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert all(a["hash"] == b["prev_hash"] for a, b in pairwise(events))
    assert {"run_id", "seq", "at_ms", "kind", "body", "prev_hash", "hash"} == set(events[0])
    assert jam("history", "r1", "-f", "--format", "json").lines == events


def test_inbox_shows_the_call_that_approving_grants(jam: Jam, pay: Path) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    said = jam("inbox")
    assert "officer: Pay 5.00 USD to Ada?" in said.out
    assert "pay(to: Ada, amount: 5.00 USD)" in said.out
    (row,) = jam("inbox", "--format", "json").lines
    assert (row["run_id"], row["state"], row["role"]) == ("r1", "review", "officer")
    assert row["call"]["args"]["amount"] == "5.00 USD"
    assert [o["name"] for o in row["options"]] == ["approve", "decline"]
    jam("answer", row["id"][:6], "decline")
    assert jam("inbox").err == "nothing waits for anybody\n"
    assert jam("inbox", "--format", "json").out == ""


def test_looking_changes_nothing(jam: Jam, pay: Path, tmp_path: Path) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    before = (tmp_path / "jam.db").read_bytes()
    for command in (["runs"], ["show", "r1"], ["history", "r1"], ["inbox"], ["graph", "--run", "r1", "-o", "r.dot"]):
        assert jam(*command).code == 0, command
    assert (tmp_path / "jam.db").read_bytes() == before


def test_a_database_that_is_not_there_is_not_made_by_looking(jam: Jam, tmp_path: Path) -> None:
    for command in (["runs"], ["show", "x"], ["history", "x"], ["inbox"], ["answer", "x", "y"], ["resume", "x"]):
        said = jam(*command)
        assert (said.code, "JAMR101" in said.err) == (2, True), command
    assert list(tmp_path.iterdir()) == []


def test_the_picture_of_a_run_shows_the_way_it_took_on_the_program_it_started_with(
    jam: Jam, pay: Path, tmp_path: Path
) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    pay.write_text(SOUND)
    said = jam("graph", "--run", "r1", "-o", "r.svg")
    assert said.code == 0
    picture = (tmp_path / "r.svg").read_text()
    assert "run r1: waiting" in picture
    assert "review" in picture
    assert jam("graph", "--run", "nix").code == 2


def test_a_run_is_pinned_to_the_program_it_started_with(jam: Jam, pay: Path) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    pay.write_text(PAY.replace("final  paid       { receipt = receipt }", 'final  paid       { receipt = "other" }'))
    said = jam("answer", "r1", "approve", "--format", "json")
    assert (said.code, said.json["output"]) == (0, {"receipt": "paid 5.00 USD"})


def test_the_tests_of_a_program_pass_or_fail_with_words_and_codes(jam: Jam, pay: Path) -> None:
    said = jam("test", "pay.jam")
    assert said.code == 0
    assert re.search(r"^✓ approved and paid", said.out, re.M)
    assert re.search(r"^2 passed, 0 failed in ", said.out, re.M)
    pay.write_text(PAY.replace('receipt == "r1"', 'receipt == "r2"'))
    said = jam("test", "pay.jam")
    assert said.code == 1
    for part in ("✗ approved and paid", 'expect receipt == "r2"', "it went review → go → paid", "1 passed, 1 failed"):
        assert part in said.out, part
    as_json = jam("test", "pay.jam", "--format", "json")
    assert (as_json.code, as_json.json["passed"], as_json.json["failed"]) == (1, 1, 1)
    assert [t["passed"] for t in as_json.json["tests"]] == [False, True]
    assert jam("test", "pay.jam", "-k", "twice").code == 0


def test_no_tests_at_all_is_a_failure_that_says_so(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    assert jam("test", "a.jam")[:2] == (1, "no tests found\n")
    (tmp_path / "a.jam").write_text(SOUND.replace("-> big\n", "-> huge\n"))
    said = jam("test", "a.jam")
    assert (said.code, said.out) == (1, "")
    assert "a.jam:5:20" in said.err
    assert jam("test", "a.jam:nobody").code == 1
    (tmp_path / "a.jam").write_text(SOUND)
    assert (jam("test", "a.jam:nobody").code, "JAMR005" in jam("test", "a.jam:nobody").err) == (2, True)


def test_the_tests_of_all_agents_of_a_file_are_run_in_their_order(jam: Jam, pay: Path) -> None:
    other = PAY.replace("agent payer", "agent other").replace("for payer", "for other").partition("agent other")
    pay.write_text(PAY + "".join(other[1:]).replace("nobody pays", "nobody else pays"))
    assert jam("check", "pay.jam").code == 0
    said = jam("test", "pay.jam", "--format", "json").json
    assert [(t["agent"], t["passed"]) for t in said["tests"]] == [("payer", True)] * 2 + [("other", True)] * 2
    assert len(jam("test", "pay.jam:other", "--format", "json").json["tests"]) == 2


MANY = """
agent many version 1 {
  output n: int
  budget { steps 40  exceeded -> over }
  start state all {
    each q in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 12 at once {
      state first { parallel_step }
    }
    -> done
  }
  final done { n = 12 }
  failed over { n = 0 }
}
"""


def test_what_is_at_work_inside_is_listed_as_people_count(jam: Jam, tmp_path: Path) -> None:
    """Item 2 before item 10, and what is inside an item right after it."""
    inner = 'each r in [0, 1], 2 at once { ask role "boss" "{q}.{r}?" options yes, no  on yes skip  on no skip }'
    (tmp_path / "many.jam").write_text(MANY.replace("parallel_step", inner))
    assert jam("run", "many.jam", "--id", "r1").code == 4, jam("check", "many.jam").out
    paths = [frame["path"] for frame in jam("show", "r1", "--format", "json").json["frames"]]
    assert paths == [path for q in range(12) for path in (f"all@1/{q}", *(f"all@1/{q}/first@1/{r}" for r in (0, 1)))]
    shown = [line.split()[1] for line in jam("show", "r1").out.splitlines() if line.startswith("  item all@1/")]
    assert shown == paths


def test_what_a_commit_is_worth_is_told_by_who_commits(jam: Jam, pay: Path, tmp_path: Path) -> None:
    start = ("run", "pay.jam", "--input", INPUT, "--format", "json")
    assert jam(*start, "--id", "r1").json["durability"] == "full"
    assert jam(*start, "--id", "r2", "--durability", "normal").json["durability"] == "normal"
    # Nobody drives them now. What the next commit is worth is a matter of who makes it.
    assert [row["durability"] for row in jam("runs", "--format", "json").lines] == [None, None]
    assert jam("show", "r2", "--format", "json").json["durability"] is None
    assert "durability" not in jam("show", "r2").out
    store = SqliteStore(tmp_path / "jam.db", durability="normal")
    store.claim("r2", Engine(store).owner, 60_000, 1_900_000_000_000)
    store.close()
    assert [row["durability"] for row in jam("runs", "--format", "json").lines] == [None, "normal"]
    assert jam("show", "r2", "--format", "json").json["durability"] == "normal"
    assert ", durability normal" in jam("show", "r2").out


def test_an_input_that_does_not_fit_leaves_no_database_behind(jam: Jam, pay: Path, tmp_path: Path) -> None:
    said = jam("run", "pay.jam", "--input", '{"to": 7}')
    assert (said.code, "JAMR301" in said.err, "db jam.db" in said.err) == (2, True, False)
    assert not (tmp_path / "jam.db").exists()


@pytest.mark.parametrize("where", ["jamjet_dsl.cli.text.load", "jamjet_dsl.cli.run.database"])
def test_an_interruption_before_a_run_began_says_so(
    jam: Jam, pay: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    said = jam("run", "pay.jam", "--input", '{"to": "Ada", "amount": "5.00 USD"}', "--id", "r1")
    assert (said.code, said.err.lstrip()) == (130, "interrupted before a run began\n")


@pytest.mark.parametrize(
    ("after", "told"),
    [(False, "interrupted before a run began\n"), (True, "the run r1 began, and nothing is lost: `jam resume r1`")],
)
def test_an_interruption_around_the_start_says_whether_the_run_began(
    jam: Jam, pay: Path, monkeypatch: pytest.MonkeyPatch, after: bool, told: str
) -> None:
    from jamjet_dsl.engine.engine import Engine

    start = Engine.start

    async def interrupted(*args: Any, **more: Any) -> Any:
        if after:
            await start(*args, **more)
        raise asyncio.CancelledError

    monkeypatch.setattr(Engine, "start", interrupted)
    said = jam("run", "pay.jam", "--input", '{"to": "Ada", "amount": "5.00 USD"}', "--id", "r1")
    assert said.code == 4
    assert told in said.err


def test_a_run_that_failed_says_what_went_wrong_and_where(jam: Jam, pay: Path, tmp_path: Path) -> None:
    (tmp_path / "pay_tools.py").write_text(
        "class Refused(Exception):\n  pass\ndef pay(to, amount): raise Refused('no \\x1b[31maccount')\n"
    )
    jam("run", "pay.jam", "--input", '{"to": "Ada", "amount": "5.00 USD"}', "--id", "r1")
    said = jam("answer", "r1", "approve", "--by", "olga")
    assert said.code == 3
    told = "  after pay: Refused: no \\u001b[31maccount (event 6, in go)\n"
    assert told in said.out
    assert told in jam("show", "r1").out
    why = {"error": "Refused", "message": "no \x1b[31maccount", "state": "go", "call": "pay", "seq": 6}
    assert jam("show", "r1", "--format", "json").json["failure"] == why


def test_a_run_that_failed_says_what_a_branch_a_guard_or_the_time_did(jam: Jam, tmp_path: Path) -> None:
    program = """\
tool find(q: string) -> string { via python "find_tools:find"  effect reads  raises Gone }
agent a version 1 {
  input q: string
  budget { steps 9  exceeded -> over }
  policy { allow find when args.q != "no" }
  on error any -> tell
  on denied    -> over
  start state look { when q == "choose" -> over  when q == "both" -> both  otherwise -> one }
  state one { call find(q) -> done }
  parallel both {
    branch left { call find("bad") }
    branch right { call find("bad") }
    join any
    on join -> done
  }
  state tell { call find("fine")  on error any -> over  -> over }
  final done {}
  failed over {}
}
"""
    (tmp_path / "a.jam").write_text(program)
    (tmp_path / "find_tools.py").write_text(
        "class Gone(Exception):\n  pass\ndef find(q):\n  if q == 'bad':\n    raise Gone('it is gone')\n  return q\n"
    )
    found = {}
    for q in ("choose", "bad", "no", "both"):
        assert jam("run", "a.jam", "--input", json.dumps({"q": q}), "--id", q).code == 3
        found[q] = jam("show", q, "--format", "json").json["failure"]
    assert found["choose"] is None, "the program chose to fail"
    assert "after" not in jam("show", "choose").out
    # What went wrong is told although the state that was to tell of it went well.
    assert (found["bad"]["error"], found["bad"]["message"], found["bad"]["state"]) == ("Gone", "it is gone", "one")
    assert (found["no"]["error"], found["no"]["call"], found["no"]["state"]) == ("denied", "find", "one")
    assert (found["both"]["error"], found["both"]["call"], found["both"]["state"]) == ("JoinFailed", None, "both")
    assert "Gone: it is gone" in found["both"]["message"]


def test_a_policy_in_shadow_is_shown_with_what_it_would_have_stopped(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "shadow_tools.py").write_text("def read(path: str) -> str:\n    return path\n")
    program = """
tool read(path: string) -> string { via python "shadow_tools:read"  effect reads  timeout 10s }
agent reader version 1 {
  policy { allow read when args.path != "note.txt" }
  on error any -> failing
  on denied    -> failing
  start state look { call read("note.txt")  -> done }
  final done {}
  failed failing {}
}
"""
    (tmp_path / "a.jam").write_text(program)
    assert jam("run", "a.jam", "--id", "r1").code == 3
    assert jam("run", "a.jam", "--id", "r2", "--policy", "shadow").code == 0
    assert "policy in shadow" not in jam("show", "r1").out
    assert "policy in shadow: what it denies is journaled, and made all the same" in jam("show", "r2").out
    assert [jam("show", run, "--format", "json").json["policy"] for run in ("r1", "r2")] == ["enforce", "shadow"]
    history = jam("history", "r2").out
    assert "started reader with {}, its policy in shadow" in history
    assert "→ read(path: note.txt)  ⊘ in shadow: would be denied: no rule allows `read` with these arguments" in history
    assert jam("run", "a.jam", "--policy", "off").code == 2
