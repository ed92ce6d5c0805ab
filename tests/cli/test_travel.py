"""`jam history` of what runs in several frames, `jam replay`, `fork`, `migrate`, `prune`."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.cli.conftest import Jam
from tests.cli.programs import LOOK, PAY

INPUT = '{"to": "Ada", "amount": "5.00 USD"}'

FRAMES = """\
tool find(q: string) -> string { via python "find_tools:find"  effect reads  cost $0.01  raises Gone }
tool book(q: string) -> string { via python "find_tools:book"  effect writes  key q  undo back(result) }
tool back(id: string) -> string { via python "find_tools:back"  effect writes  key id }
agent trip version 1 {
  input  qs: list<string> 0..9
  output n: int
  var    n: int = 0
  budget { steps 40  cost $9  exceeded -> over }
  policy { allow find, book, back }
  on error any -> rollback
  on in_doubt -> over
  start parallel both {
    branch left as a or "none" { call find("left") on error Gone skip }
    branch right as b or "-" { call book("r") on in_doubt skip }
    join all
    on join -> items
    on error JoinFailed -> rollback
  }
  state items {
    each q in qs, 2 at once { call find(q) on error Gone skip } as found
    set n = size(found)
    when n > 1 -> rollback
    otherwise -> over
  }
  state rollback { undo all -> done }
  final done { n = n }
  failed over { n = 0 }
}
"""
INNER = """\
tool find(q: string) -> string { via python "find_tools:find"  effect reads  raises Gone }
agent deep version 1 {
  output n: int
  budget { steps 40  exceeded -> over }
  policy { allow find }
  on error any -> over
  start parallel both {
    branch left as a or "none" {
      start state first { call find("bad")  on error Gone -> two  -> two }
      state two { call find("r") as y  when y == "rr" -> three  otherwise -> three }
      state three { wait 0s -> four }
      state four { call find("bad") as z  on error Gone yields "gone"  yields z }
    }
    branch right as b or "-" {
      start state begin { call find("s") as u -> next }
      state next { call find(u) as v  yields v }
    }
    join all
    on join -> done
    on error JoinFailed -> over
  }
  final done { n = 1 }
  failed over { n = 0 }
}
"""
TOOLS = """\
class Gone(Exception):
    pass

def find(q):
    if q == "bad":
        raise Gone("no such thing")
    return q * 2

def book(q):
    return "b" + q

def back(id):
    return "ok"
"""


@pytest.fixture
def paid(jam: Jam, pay: Path) -> str:
    """A run that was approved and has paid."""
    assert jam("run", "pay.jam", "--input", INPUT, "--id", "r1").code == 4
    assert jam("answer", "r1", "approve", "--by", "olga").code == 0
    return "r1"


def seq(jam: Jam, run: str, kind: str) -> int:
    return next(e["seq"] for e in jam("history", run, "--format", "json").lines if e["kind"] == kind)


def test_the_timeline_indents_what_happens_inside_and_says_why(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(FRAMES)
    (tmp_path / "find_tools.py").write_text(TOOLS)
    assert jam("run", "a.jam", "--input", '{"qs": ["a", "bad", "c"]}', "--id", "t").code == 0
    told = jam("history", "t").out
    for part in (
        "┌ branches left, right",
        "│ left: → find(q: left)",
        "│ left: ✓ find: leftleft",
        "($0.01)",
        "│ right is done: br",
        "both ─(join)→ items",
        "┌ 3 items",
        "│ item 2: ✗ find: Gone: no such thing",
        "│ item 2 is skipped",
        '└ ["aa", "cc"]',
        "items ─(n > 1; n = 2)→ rollback",
        "┌ undoes what can be taken back",
        "│ undo 1: → back(id: br)",
        "completed in done",
    ):
        assert part in told, f"{part}\n{told}"
    numbers = [int(line.split()[0]) for line in told.splitlines()]
    assert numbers == sorted(set(numbers))
    assert jam("replay", "t").code == 0


def test_the_timeline_says_who_chose_and_which_error_led_on(jam: Jam, paid: str, tmp_path: Path) -> None:
    assert "review ─(approve by olga)→ go" in jam("history", paid).out
    (tmp_path / "no_tools.py").write_text(
        "class Refused(Exception):\n  pass\ndef pay(to, amount): raise Refused('no')\n"
    )
    (tmp_path / "no.jam").write_text(PAY.replace("pay_tools", "no_tools"))
    jam("run", "no.jam", "--input", INPUT, "--id", "r2")
    jam("answer", "r2", "approve", "--by", "olga")
    told = jam("history", "r2").out
    assert "✗ pay: Refused: no" in told
    assert "go ─(error Refused)→ failed_run" in told


def test_replay_proves_a_run_or_names_what_disagrees(jam: Jam, paid: str, tmp_path: Path) -> None:
    said = jam("replay", paid)
    assert said.code == 0
    assert "run r1 replays: 8 events, completed in paid" in said.out
    assert jam("replay", paid, "--format", "json").json["proven"] is True
    other = _reseal(tmp_path / "jam.db", "moved", '"to":"go"', '"to":"declined"')
    said = jam("replay", paid)
    line = PAY.split("\n").index("    on approve -> go") + 1
    assert said.code == 1, said
    assert f"run r1 does not replay: event {other} in state review (pay.jam:{line})" in said.out
    assert "it is decided differently: to" in said.out
    assert '{"to": "go"}' in said.out
    assert '{"to": "declined"}' in said.out
    found = jam("replay", paid, "--format", "json").json["disagreement"]
    assert (found["seq"], found["state"], found["fields"]) == (other, "review", ["to"])
    assert jam("replay", "nobody").code == 2


def _reseal(path: Path, kind: str, old: str, new: str) -> int:
    """Changes one event in the database as somebody would who can compute every hash anew; gives its number."""
    from jamjet_dsl.ports import Draft
    from jamjet_dsl.store.chain import GENESIS, seal
    from jamjet_dsl.store.sqlite import SqliteStore

    store = SqliteStore(path)
    events = list(store.history("r1"))
    store.close()
    changed = next(e.seq for e in events if e.kind == kind)
    drafts = []
    for e in events:
        text = json.dumps(e.body, ensure_ascii=False, separators=(",", ":"))
        drafts.append(Draft(e.at_ms, e.kind, json.loads(text.replace(old, new) if e.seq == changed else text)))
    sealed = seal("r1", 0, GENESIS, drafts)
    with sqlite3.connect(path) as raw:
        (run,) = raw.execute("SELECT run FROM runs WHERE run_id = 'r1'").fetchone()
        columns = [row[1] for row in raw.execute("PRAGMA table_info(events)")]
        for seq, _, _, body, own in sealed:
            raw.execute("UPDATE events SET body = ? WHERE run = ? AND seq = ?", (body.encode(), run, seq))
            if "hash" in columns:
                raw.execute(
                    "UPDATE events SET hash = ? WHERE run = ? AND seq = ? AND hash IS NOT NULL",
                    (bytes.fromhex(own), run, seq),
                )
        if "head" in [row[1] for row in raw.execute("PRAGMA table_info(runs)")]:
            raw.execute("UPDATE runs SET head = ? WHERE run = ?", (bytes.fromhex(own), run))
        raw.execute("DELETE FROM snapshots")
    return changed


def test_a_fork_says_what_the_original_said(jam: Jam, paid: str, tmp_path: Path) -> None:
    calls = (tmp_path / "calls").read_text()
    at = seq(jam, paid, "asked") - 1
    said = jam("fork", paid, "--at", at, "--id", "f1")
    assert said.code == 4, said
    assert "calls are off, 1 recorded outcome" in said.err
    assert "continue with" in said.out
    said = jam("answer", "f1", "approve", "--by", "otto")
    assert said.code == 0, said
    assert "paid 5.00 USD" in said.out
    assert (tmp_path / "calls").read_text() == calls
    assert f"fork of r1 after event {at}, its calls are off" in jam("show", "f1").out
    assert jam("show", "f1", "--format", "json").json["origin"]["run"] == "r1"
    assert f"forked from r1 after event {at}, its calls are off" in jam("history", "f1").out
    assert "fork of r1" in next(line for line in jam("runs").out.splitlines() if line.startswith("f1"))
    assert jam("replay", "f1").code == 0


def ways(lines: Iterable[str]) -> list[str]:
    """The transitions that lines of a timeline tell, with their reasons, whatever their numbers, times and order."""
    return sorted(re.split(r"^ *[0-9]+ +[0-9.]+[a-z]+ +", line)[1] for line in lines if "─" in line and "→ " in line)


def test_a_fork_names_its_edges_as_the_original_did_wherever_it_begins(jam: Jam, tmp_path: Path) -> None:
    (tmp_path / "a.jam").write_text(INNER)
    (tmp_path / "find_tools.py").write_text(TOOLS)
    assert jam("run", "a.jam", "--id", "t").code == 0
    events = jam("history", "t", "--format", "json").lines
    told = {int(line.split()[0]): line for line in jam("history", "t").out.splitlines()}
    for at in [event["seq"] for event in events[:-1]]:
        assert jam("fork", "t", "--at", at, "--id", f"f{at}").code == 0
        after = [told[event["seq"]] for event in events if event["kind"] == "moved" and event["seq"] > at]
        assert ways(jam("history", f"f{at}").out.splitlines()) == ways(after), at


def test_a_fork_after_an_answer_knows_who_gave_it_and_which_call_was_in_flight(jam: Jam, paid: str) -> None:
    assert jam("fork", paid, "--at", seq(jam, paid, "answered"), "--id", "f1").code == 0
    assert "review ─(approve by olga)→ go" in jam("history", "f1").out
    assert jam("fork", paid, "--at", seq(jam, paid, "intent"), "--id", "f2").code == 0
    assert "✓ pay: paid 5.00 USD" in jam("history", "f2").out


def test_a_live_fork_is_refused_where_it_would_repeat(jam: Jam, paid: str, tmp_path: Path) -> None:
    at = seq(jam, paid, "answered")
    said = jam("fork", paid, "--at", at, "--live")
    assert said.code == 2
    assert "JAMR410" in said.err
    assert 'pay(to: "Ada", amount: "5.00 USD")' in said.err
    assert len(jam("runs", "--format", "json").lines) == 1
    said = jam("fork", paid, "--at", at, "--live", "--allow-repeat", "--id", "f1")
    assert said.code == 0, said
    assert (tmp_path / "calls").read_text().count("Ada") == 2


def test_a_fork_of_changed_variables_is_parked_where_it_calls_something_new(
    jam: Jam, tmp_path: Path, pay: Path
) -> None:
    loop = LOOK.replace("  start", "  var most: int = 1\n  start").replace(
        "-> done", "when most > 1 -> new\n    -> done", 1
    )
    new = '  state new { call pay(to + "!", amount) as receipt  -> done }\n  final'
    (tmp_path / "a.jam").write_text(loop.replace("  final", new))
    said = jam("run", "a.jam", "--input", INPUT, "--id", "l")
    assert said.code == 0, said
    said = jam("fork", "l", "--at", 1, "--set", "most=2", "--id", "f")
    assert said.code == 4, said
    assert "calls are off in this fork, and `pay` was not called with these arguments" in said.out
    assert jam("replay", "f").code == 0
    assert (tmp_path / "calls").read_text().count("\n") == 1
    assert jam("fork", "l", "--at", 1, "--set", "most").code == 2
    assert jam("fork", "l", "--at", 1, "--set", 'most="x"').code == 2
    said = jam("fork", "l", "--at", 1, "--set", "most=2", "--mock", 'pay="as they say"', "--id", "m")
    assert said.code == 0, said
    assert "as they say" in said.out
    said = jam("fork", "l", "--at", 1, "--input", '{"to": "Bob"}', "--mock", 'pay="as they say"', "--id", "b")
    assert 'with {"to": "Bob"}' in jam("history", "b").out
    assert [jam("replay", run_id).code for run_id in ("m", "b")] == [0, 0]
    assert (tmp_path / "calls").read_text().count("\n") == 1
    assert jam("fork", "l", "--at", 99).code == 2
    assert jam("fork", "l", "--at", 1, "--mock", "pay").code == 2
    assert jam("fork", "l", "--at", 1, "--input", "[]").code == 2
    assert jam("fork", "l", "--at", 1, "--input", '{"nothing": 1}').code == 2


def test_migrate_lists_a_verdict_per_run_and_moves_what_fits(jam: Jam, pay: Path, tmp_path: Path) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    jam("run", "pay.jam", "--input", INPUT, "--id", "r2")
    (tmp_path / "new.jam").write_text(PAY.replace("version 1", "version 2").replace("timeout 20m", "timeout 40m"))
    dry = jam("migrate", "--all", "--to", "new.jam", "--dry-run", "--format", "json")
    assert dry.code == 0, dry
    assert [(v["run_id"], v["compatible"], v["moved"]) for v in dry.lines] == [("r1", True, False), ("r2", True, False)]
    said = jam("migrate", "r1", "--to", "new.jam", "--by", "olga", "--note", "more time")
    assert said.code == 0, said
    assert "r1  waiting in review  moved" in said.out
    assert "moved to program" in jam("history", "r1").out
    (tmp_path / "other.jam").write_text(PAY.replace("version 1", "version 2").replace("review", "check"))
    events = jam("history", "r1", "--format", "json").lines
    for more in ((), ("--dry-run",)):
        said = jam("migrate", "r1", "--to", "new.jam", *more)
        assert (said.code, "is on it already" in said.out) == (0, True)
    assert jam("history", "r1", "--format", "json").lines == events
    said = jam("migrate", "r2", "--to", "other.jam")
    assert said.code == 1
    assert "JAM802" in said.out
    assert jam("migrate", "--to", "new.jam").code == 2
    assert jam("answer", "r1", "approve", "--by", "olga").code == 0
    assert jam("answer", "r2", "approve", "--by", "olga").code == 0
    assert jam("replay", "r1").code == 0
    assert jam("explain", "JAM802").code == 0


OTHER = """\
agent other version 1 {
  start state nap { wait 1h -> done }
  final done {}
}
"""


def test_migrate_takes_the_runs_own_agent_of_a_file_with_several(jam: Jam, pay: Path, tmp_path: Path) -> None:
    two = OTHER + PAY.replace("version 1", "version 2").replace("timeout 20m", "timeout 40m")
    (tmp_path / "two.jam").write_text(two)
    (tmp_path / "other.jam").write_text(OTHER.replace("1h", "2h"))
    jam("run", "pay.jam", "--input", INPUT, "--id", "r1")
    jam("run", "pay.jam", "--input", INPUT, "--id", "r2")
    jam("run", "other.jam", "--id", "o1")
    for name, agent in (("two.jam:other", "other"), ("other.jam", "other")):
        said = jam("migrate", "r1", "--to", name)
        assert said.code == 1
        assert f"  JAMR412  it is of the agent `payer`, the program of `{agent}`\n" in said.out
        assert "    help: name a program of its agent: `--to FILE:payer`\n" in said.out
    said = jam("migrate", "r1", "--to", "two.jam")
    assert (said.code, said.out) == (0, "r1  waiting in review  moved\n")
    said = jam("migrate", "--all", "--to", "two.jam")
    assert (said.code, sorted(said.out.splitlines())) == (
        0,
        ["o1  waiting in nap  moved", "r2  waiting in review  moved"],
    ), said
    assert [jam("replay", name).code for name in ("r1", "r2", "o1")] == [0, 0, 0]


def test_migrate_says_what_to_do_about_each_reason(jam: Jam, paid: str, tmp_path: Path) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r2")
    (tmp_path / "new.jam").write_text(PAY.replace("version 1", "version 2").replace("review", "check"))
    (gone,) = jam("migrate", "r2", "--to", "new.jam", "--format", "json").json["reasons"]
    assert gone["message"].endswith("map it with `migrate from 1 { review -> … }`")
    assert gone["help"].endswith("or leave the run to end on its own program")
    said = jam("migrate", paid, "--to", "new.jam")
    assert "  JAMR204  it has ended (completed)\n    help: it keeps the program it had; start a new run\n" in said.out


def test_prune_deletes_what_has_ended_and_says_what(jam: Jam, paid: str, tmp_path: Path) -> None:
    jam("run", "pay.jam", "--input", INPUT, "--id", "r2")
    assert jam("prune").code == 2
    assert jam("prune", "--older-than", "soon").code == 2
    assert jam("prune", "--status", "waiting").code == 2
    assert jam("prune", "--older-than", "1h").out == ""
    dry = jam("prune", "--keep", 0, "--dry-run", "--format", "json")
    assert [(row["run_id"], row["deleted"]) for row in dry.lines] == [("r1", False)]
    said = jam("prune", "--keep", 0)
    assert said.out.startswith("r1  payer  completed")
    assert "1 run deleted" in said.err
    assert [row["run_id"] for row in jam("runs", "--format", "json").lines] == ["r2"]
    assert jam("run", "pay.jam", "--input", INPUT, "--id", "r1").code == 2


def test_the_id_of_a_pruned_run_is_refused_also_to_attach_to(jam: Jam, paid: str) -> None:
    assert jam("prune", "--keep", "0").code == 0
    for more in ((), ("--if-exists", "attach"), ("--if-exists", "attach", "--detach")):
        said = jam("run", "pay.jam", "--input", INPUT, "--id", paid, *more)
        assert (said.code, "JAMR203" in said.err, "--if-exists" in said.err) == (2, True, False), said.err
        assert "never used again" in said.err


def test_history_says_of_every_line_inside_which_item_and_branch_it_is_of(jam: Jam, tmp_path: Path) -> None:
    """Two items at once are told by turns, and the outcome of a branch that nobody waited for comes last."""
    (tmp_path / "t.py").write_text(
        "import time\n\ndef look(s):\n    if s.endswith('slow'):\n        time.sleep(0.3)\n    return s\n"
    )
    (tmp_path / "a.jam").write_text("""
tool look(s: string) -> string { via python "t:look"  effect reads  timeout 5s }
agent all version 1 {
  policy { allow look }
  on error any -> bad
  start state go { each name in ["x", "y"], 2 at once { run one(name) as o } as results  -> rest }
  state rest { wait 1s  -> good }
  final good {}
  failed bad {}
}
agent one version 1 {
  input name: string
  policy { allow look }
  on error any -> bad
  start parallel two {
    branch fast as a { call look(name + " fast") }
    branch slow as b { call look(name + " slow") }
    join any
    on join -> good
  }
  final good {}
  failed bad {}
}
""")
    assert jam("run", "a.jam:all", "--id", "r1").code == 0
    told = jam("history", "r1").out
    for number, name in ((1, "x"), (2, "y")):
        assert f"item {number} › one › fast: ✓ look: {name} fast" in told, told
        assert f"item {number} › one › slow: a late outcome of look: {name} slow" in told, told
    inside = [line for line in told.splitlines() if "│" in line]
    assert len(inside) > 10
    assert all("item 1" in line or "item 2" in line for line in inside), told


def test_prune_refuses_an_age_below_zero(jam: Jam, tmp_path: Path) -> None:
    """Every run would be older than that."""
    said = jam("prune", "--older-than", "-3d", "--db", tmp_path / "none.db")
    assert (said.code, "JAMR006" in said.err or "JAMR101" in said.err) == (2, True)
    from jamjet_dsl.cli.travel import _age
    from jamjet_dsl.diagnostics.errors import JamError

    assert _age("12h") == 43_200_000
    with pytest.raises(JamError, match="below zero"):
        _age("-3d")
