"""`jam answer`, `send`, `retry`, `settle`, `cancel`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Jam
from tests.cli.programs import LOOK, MAIL, SOUND, process, until

INPUT = '{"to": "Ada", "amount": "5.00 USD"}'


@pytest.fixture
def asked(jam: Jam, pay: Path) -> str:
    """The id of a run that has a question open."""
    assert jam("run", "pay.jam", "--input", INPUT, "--id", "r1").code == 4
    return "r1"


def calls(folder: Path) -> list[str]:
    """What the bank was asked to do."""
    return (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []


def test_an_answer_names_the_run_and_drives_it_on(jam: Jam, asked: str, tmp_path: Path) -> None:
    said = jam("answer", asked, "approve", "--by", "olga", "--note", "fine")
    assert said.code == 0
    assert "receipt  paid 5.00 USD" in said.out
    assert calls(tmp_path) == ["Ada 5.00 USD"]
    answered = next(e for e in jam("history", asked, "--format", "json").lines if e["kind"] == "answered")
    assert (answered["body"]["by"], answered["body"]["form"]) == ("olga", {"note": "fine"})


def test_an_answer_names_the_question_even_shortened_and_without_driving_on(
    jam: Jam, asked: str, tmp_path: Path
) -> None:
    (row,) = jam("inbox", "--format", "json").lines
    said = jam("answer", row["id"][:8], "approve", "--detach", "--format", "json")
    assert said.json["run_id"] == asked
    jam("resume", "--all")
    assert jam("show", asked, "--format", "json").json["status"] == "completed"
    assert calls(tmp_path) == ["Ada 5.00 USD"]


@pytest.mark.parametrize(
    "command",
    [
        "answer loan-1 approve", "cancel loan-1", "cancel loan-1 --now", "send loan-1 go", "resume loan-1",
        "retry loan-1", "settle loan-1 --did-not-happen --by a --note b", "erase loan-1", "migrate loan-1 --to pay.jam",
    ],
)  # fmt: skip
def test_the_beginning_of_an_id_that_somebody_chose_changes_nothing(
    jam: Jam, pay: Path, tmp_path: Path, command: str
) -> None:
    assert jam("run", "pay.jam", "--input", INPUT, "--id", "loan-10").code == 4
    (before,) = jam("show", "loan-10", "--format", "json").lines
    said = jam(*command.split())
    assert (said.code, said.out) == (2, ""), said.out
    assert re.search(r"error\[JAMR[24]01\]: there is no .*loan-1", said.err), said.err
    assert "write the whole id, if you mean loan-10" in said.err
    assert jam("show", "loan-1", "--format", "json").lines == [before], "to look at it, the beginning is enough"
    assert calls(tmp_path) == []


@pytest.mark.parametrize("command", [("answer", "", "approve"), ("cancel", ""), ("show", "")])
def test_a_name_that_is_empty_names_nothing(jam: Jam, asked: str, command: tuple[str, ...]) -> None:
    said = jam(*command)
    assert (said.code, said.out) == (2, "")
    assert re.search(r"there is no (question or )?run ''", said.err), said.err


def test_a_drawn_id_is_not_shortened_to_less_than_four_characters_where_a_run_is_changed(jam: Jam, pay: Path) -> None:
    asked = jam("run", "pay.jam", "--input", INPUT, "--format", "json").json["run_id"]
    said = jam("cancel", asked[:3])
    assert (said.code, "give 4 characters or more" in said.err) == (2, True)
    assert jam("cancel", asked[:4]).code == 3


def test_a_question_that_is_no_longer_open_says_who_answered_what(jam: Jam, asked: str) -> None:
    jam("answer", asked, "decline", "--by", "olga")
    said = jam("answer", asked, "approve", "--by", "pete")
    assert (said.code, said.out) == (2, "")
    assert "JAMR402" in said.err
    assert "olga answered it: decline" in said.err


@pytest.mark.parametrize(
    "command",
    ["answer r1 yes", "send r1 go", "retry r1", "cancel r1", "resume r1", "settle r1 --did-not-happen --by a --note b"],
)
def test_a_run_that_has_ended_takes_nothing_and_says_when_it_ended(jam: Jam, tmp_path: Path, command: str) -> None:
    (tmp_path / "a.jam").write_text(SOUND)
    assert jam("run", "a.jam", "--input", '{"n": 12}', "--id", "r1").code == 0
    said = jam(*command.split())
    assert (said.code, said.out) == (2, "")
    assert re.search(r"error\[JAMR204\]: the run r1 has ended \(completed at [0-9 :-]{19} UTC\)\n", said.err), said.err
    assert "help: start a new one" in said.err


def test_an_option_or_form_that_does_not_fit_is_refused_and_the_question_stays(jam: Jam, asked: str) -> None:
    said = jam("answer", asked, "aprove")
    assert (said.code, "JAMR403" in said.err) == (2, True)
    assert "approve" in said.err
    said = jam("answer", asked, "approve", "--data", '{"note": 7, "more": 1}')
    assert (said.code, "JAMR404" in said.err) == (2, True)
    assert "note" in said.err
    assert "more" in said.err
    assert jam("answer", asked, "approve", "--data", "[]").code == 2
    assert len(jam("inbox", "--format", "json").lines) == 1
    assert jam("answer", "nobody", "approve").code == 2


def test_of_two_answers_at_once_one_wins_and_the_other_is_told_who(jam: Jam, asked: str, tmp_path: Path) -> None:
    (tmp_path / "mode").write_text("slow")
    both = [
        process("answer", asked, "approve", "--by", "olga", cwd=tmp_path),
        process("answer", asked, "decline", "--by", "pete", cwd=tmp_path),
    ]
    ended = [(p.communicate(timeout=60), p.returncode) for p in both]
    status = jam("show", asked, "--format", "json").json
    winner = 0 if status["state"] == "paid" else 1
    (_, lost), code = ended[1 - winner]
    assert status["status"] == "completed"
    assert ended[winner][1] == 0
    assert code == 2, lost
    assert "JAMR402" in lost
    assert ("olga answered it: approve", "pete answered it: decline")[winner] in lost
    assert len(calls(tmp_path)) == (1 if winner == 0 else 0)


def test_an_event_is_validated_queued_and_taken(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(MAIL)
    said = jam("run", "a.jam", "--id", "m")
    assert said.code == 4
    assert "jam send m said JSON" in said.out
    said = jam("send", "m", "said", '{"text": 7, "more": 1}')
    assert (said.code, "JAMR406" in said.err) == (2, True)
    assert "text" in said.err
    assert "more" in said.err
    said = jam("send", "m", "shouted", "{}")
    assert (said.code, "JAMR405" in said.err) == (2, True)
    said = jam("send", "m", "said", '{"text": "hello"}', "--format", "json")
    assert (said.code, said.json["output"]) == (0, {"heard": "hello"})


def test_the_same_dedupe_key_twice_is_one_event(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(MAIL.replace("-> done {", "-> listen limit 5 else done {"))
    assert jam("check", "a.jam").code == 0, jam("check", "a.jam").out
    jam("run", "a.jam", "--id", "m")
    for text, key in (("one", "k1"), ("two", "k1"), ("three", "k2")):
        assert jam("send", "m", "said", f'{{"text": "{text}"}}', "--dedupe", key).code == 4
    received = [e["body"]["payload"] for e in jam("history", "m", "--format", "json").lines if e["kind"] == "received"]
    assert received == [{"text": "one"}, {"text": "three"}]


def test_a_sender_that_asks_again_hears_the_same_even_when_the_run_has_ended(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(MAIL)
    jam("run", "a.jam", "--id", "m")
    for _ in range(2):
        said = jam("send", "m", "said", '{"text": "x"}', "--dedupe", "k", "--format", "json")
        assert (said.code, said.json["status"], said.json["output"]) == (0, "completed", {"heard": "x"})
    assert jam("send", "m", "said", '{"text": "x"}', "--dedupe", "other").code == 2


def test_the_timeline_tells_who_did_what_to_which_call_and_why(jam: Jam, asked: str, tmp_path: Path) -> None:
    (tmp_path / "mode").write_text("crash")
    jam("answer", asked, "approve", "--by", "olga", "--note", "sounds right")
    jam("settle", asked, "--happened", '"r9"', "--by", "pete", "--note", "seen\nin the ledger")
    told = jam("history", asked).out
    for line in (
        "olga answers approve: “sounds right”",
        "→ pay(to: Ada, amount: 5.00 USD)  key r1",
        "✗ pay: Crashed: RuntimeError: the bank is on fire  (it may have happened)",
        "pete settles that pay happened, with r9: “seen ⏎ in the ledger”",
    ):
        assert line in told, line


def test_the_timeline_tells_until_when_it_waits_and_who_cancels(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(MAIL)
    jam("run", "a.jam", "--id", "m")
    jam("cancel", "m", "--now", "--by", "olga", "--note", "enough")
    told = jam("history", "m").out
    assert "waits at most until 20" in told
    assert "olga cancels it at once: “enough”" in told
    assert "cancelled in listen" in told


def test_a_parked_run_tells_the_commands_that_continue_it_and_they_work(jam: Jam, asked: str, tmp_path: Path) -> None:
    (tmp_path / "mode").write_text("crash")
    said = jam("answer", asked, "approve")
    assert said.code == 4
    for command in (
        f"jam settle {asked} --happened JSON --by WHO --note TEXT",
        f"jam settle {asked} --did-not-happen --by WHO --note TEXT",
        f"jam cancel {asked}",
    ):
        assert command in said.out, command
    listed = jam("show", asked, "--format", "json").json["waiting_for"][0]
    assert f"jam cancel {asked}" in listed["commands"]
    for wrong in ([], ["--did-not-happen"], ["--did-not-happen", "--happened", "1", "--by", "o", "--note", "n"]):
        assert jam("settle", asked, *wrong).code == 2
    said = jam("settle", asked, "--happened", "7", "--by", "olga", "--note", "x")
    assert (said.code, "JAMR302" in said.err) == (1, True)
    said = jam("settle", asked, "--happened", '"r9"', "--by", "olga", "--note", "the bank says so", "--format", "json")
    assert (said.code, said.json["output"]) == (0, {"receipt": "r9"})
    said = jam("settle", asked, "--did-not-happen", "--by", "olga", "--note", "x")
    assert (said.code, "JAMR204" in said.err) == (2, True)


def test_retry_and_settle_of_a_run_that_is_not_parked_are_refused(jam: Jam, asked: str) -> None:
    said = jam("retry", asked)
    assert (said.code, "JAMR408" in said.err) == (2, True)
    said = jam("settle", asked, "--did-not-happen", "--by", "olga", "--note", "x")
    assert (said.code, "JAMR407" in said.err) == (2, True)


def test_retry_lets_a_parked_run_try_again(jam: Jam, tmp_path: Path, pay: Path) -> None:
    pay.write_text(LOOK)
    (tmp_path / "mode").write_text("crash")
    said = jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    assert said.code == 4, said
    assert "jam retry r1" in said.out
    (tmp_path / "mode").write_text("fine")
    said = jam("retry", "r1", "--note", "the bank is back", "--format", "json")
    assert (said.code, said.json["output"]) == (0, {"receipt": "paid 5.00 USD"})


def test_cancel_ends_a_run_with_3_and_only_once(jam: Jam, asked: str, tmp_path: Path) -> None:
    said = jam("cancel", asked, "--by", "olga", "--note", "not needed", "--format", "json")
    assert (said.code, said.json["status"]) == (3, "cancelled")
    said = jam("cancel", asked)
    assert (said.code, "JAMR204" in said.err) == (2, True)
    assert calls(tmp_path) == []
    assert jam("inbox").err == "nothing waits for anybody\n"


def test_who_answers_is_journaled_even_if_not_said(jam: Jam, asked: str) -> None:
    jam("answer", asked, "decline")
    answered = next(e for e in jam("history", asked, "--format", "json").lines if e["kind"] == "answered")
    assert answered["body"]["by"]


def test_an_answer_reaches_a_run_that_another_process_drives(jam: Jam, pay: Path, tmp_path: Path) -> None:
    (tmp_path / "mode").write_text("slow")
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    first = process("answer", "r1", "approve", "--by", "olga", cwd=tmp_path)
    until(tmp_path / "calls")
    said = jam("cancel", "r1", "--by", "pete")
    _, err = first.communicate(timeout=60)
    assert "Traceback" not in err
    assert said.code in (0, 3, 4), said
    assert len(calls(tmp_path)) == 1


DOUBTS = """
tool pay(to: string, amount: money) -> string {
  via python "lost_tools:pay"  effect writes  key run.id + "/" + to  undo back(result)
}
tool back(id: string) { via python "lost_tools:back"  effect writes  key id }
agent payer version 1 {
  output n: int
  var    secret: string = "Cynthia"
  budget { steps 20  exceeded -> over }
  policy { allow pay, back  redact secret }
  on error any -> over
  start parallel both {
    branch left  { call pay("Ada", $5.00) as a  on in_doubt skip }
    branch right { call pay(secret, $7.00) as b  on in_doubt skip }
    join any
    on error JoinFailed -> rollback
    on join -> done
  }
  state rollback { undo all  -> done }
  final done { n = 1 }
  failed over { n = 0 }
}
"""


def test_a_doubt_that_a_rollback_asks_about_says_which_call_it_was(jam: Jam, tmp_path: Path) -> None:
    """An operator who is to look up a payment has to know which one: the arguments and the key of each."""
    (tmp_path / "lost.jam").write_text(DOUBTS)
    (tmp_path / "lost_tools.py").write_text(
        "def pay(to, amount):\n    raise RuntimeError('the line is dead')\n\ndef back(id):\n    return None\n"
    )
    said = jam("run", "lost.jam", "--id", "r1")
    assert said.code == 4, said
    view = jam("show", "r1", "--format", "json").json
    ada, cy = sorted(view["doubts"], key=lambda doubt: str(doubt["args"]["amount"]))
    assert (ada["tool"], ada["args"], ada["key"]) == ("pay", {"to": "Ada", "amount": "5.00 USD"}, "r1/Ada")
    assert (cy["args"]["amount"], cy["args"]["to"][:10]) == ("7.00 USD", "‹redacted ")
    for out in (said.out, jam("show", "r1").out):
        assert "in doubt: pay(to: Ada, amount: 5.00 USD)  key r1/Ada" in out
        assert "in doubt: pay(to: ‹redacted›, amount: 7.00 USD)" in out
        assert "Cynthia" not in out
    assert "undo 1: pay is in doubt" in jam("history", "r1").out
    # The commands that are shown name the call that is meant.
    moves = [move for item in view["waiting_for"] for move in item["commands"]]
    assert [move.partition("settle")[0] for move in moves[:2]] == ["jam ", "jam "]
    assert f"--call '{ada['call']}'" in moves[0]
    said = jam("settle", "r1", "--did-not-happen", "--call", ada["call"], "--by", "olga", "--note", "asked")
    assert said.code == 4, said
    (left,) = jam("show", "r1", "--format", "json").json["doubts"]
    assert left["args"]["amount"] == "7.00 USD"
    assert jam("settle", "r1", "--did-not-happen", "--by", "olga", "--note", "asked").code == 0
    assert jam("show", "r1", "--format", "json").json["doubts"] == []


def test_a_detached_answer_calls_nothing_whoever_drives_the_run_does(jam: Jam, asked: str, tmp_path: Path) -> None:
    (tmp_path / "pay_tools.py").rename(tmp_path / "elsewhere")
    posting = process("answer", asked, "approve", "--by", "olga", "--detach", cwd=tmp_path)
    said, problems = posting.communicate(timeout=60)
    assert (posting.returncode, problems) == (0, "")
    assert "run r1  running  in go" in said
    assert "continue with  jam resume r1, or keep `jam worker` running" in said
    assert calls(tmp_path) == []
    (tmp_path / "elsewhere").rename(tmp_path / "pay_tools.py")
    working = process("worker", "--poll", "20", cwd=tmp_path)
    until(tmp_path / "calls")
    working.terminate()
    working.communicate(timeout=60)
    jam("resume", "--all")
    assert jam("show", asked, "--format", "json").json["output"] == {"receipt": "paid 5.00 USD"}
    assert calls(tmp_path) == ["Ada 5.00 USD"]


def test_a_detached_start_calls_nothing_not_even_a_free_read(jam: Jam, pay: Path, tmp_path: Path) -> None:
    (tmp_path / "look.jam").write_text(LOOK)
    for _ in range(2):
        said = jam("run", "look.jam", "--input", INPUT, "--id", "l", "--detach", "--if-exists", "attach")
        assert (said.code, calls(tmp_path)) == (0, [])
    assert "jam worker" in said.out
    assert jam("resume", "l").code == 0
    assert calls(tmp_path) == ["Ada 5.00 USD"]


def test_a_refused_answer_calls_nothing_and_says_that_the_run_has_something_to_do(
    jam: Jam, pay: Path, tmp_path: Path
) -> None:
    question = 'start state wait_for_it { ask role "boss" "Now?" options yes timeout 1ms as a\n'
    ways = "on yes -> look  on timeout -> look }\n  state look {"
    (tmp_path / "look.jam").write_text(LOOK.replace("start state look {", question + ways))
    jam("run", "look.jam", "--input", INPUT, "--id", "l", "--detach")
    (row,) = jam("inbox", "--format", "json").lines
    said = jam("answer", row["id"], "yes")
    assert (said.code, "nobody answered it in time" in said.err, calls(tmp_path)) == (2, True, [])
    assert "nobody drives it: `jam resume l`, or keep `jam worker` running" in said.err
    assert jam("show", "l", "--format", "json").json["status"] == "running"
    assert jam("resume", "l").code == 0
    assert calls(tmp_path) == ["Ada 5.00 USD"]
