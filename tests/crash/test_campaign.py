"""A few points of the campaign; `python -m tests.crash` takes them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from jamjet_dsl.kernel import recovery
from jamjet_dsl.kernel.model import Intent, Record
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.records import reserve_body
from tests.crash import tracing
from tests.crash.campaign import Result, Tally, campaign, table, thin
from tests.crash.judge import Verdict, judge
from tests.crash.office import Office, Seen, Wrong, check
from tests.crash.points import Point
from tests.crash.programs import PROGRAMS
from tests.crash.tracing import Place
from tests.crash.zygote import Exit, Zygote

_MISSING = tracing.missing()
needs_strace = pytest.mark.skipif(_MISSING is not None, reason=f"the campaign kills at system calls: {_MISSING}")


@needs_strace
@pytest.mark.parametrize(
    ("names", "number", "faults"),
    [
        (["people", "nested"], 6, ["kill"]),
        (["unkeyed"], 6, ["twice", "eio", "enospc", "readonly"]),
    ],
)
def test_whatever_is_struck_goes_on(tmp_path: Path, names: list[str], number: int, faults: list[str]) -> None:
    tmp_path.chmod(0o755)
    result = campaign(names, number, faults, 2, tmp_path.resolve())
    assert result.failures == []
    assert result.skipped == {}
    assert [tally.resumed for tally in result.tallies.values()] == [number] * len(names)
    assert all(tally.unreached <= 1 for tally in result.tallies.values())


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A run of `unkeyed` that was let alone."""
    office = Office(PROGRAMS["unkeyed"], tmp_path_factory.mktemp("judge") / "office")
    office.set_up()
    zygote = Zygote()
    office.go_on(zygote)
    zygote.close()
    return office.seen()


def struck(normal: Seen, at: int) -> Seen:
    """As the run was at an event of its."""
    return Seen("running", (), normal.events[:at], 0, normal.ledger[:1])


def test_a_run_that_was_let_alone_is_well(normal: Seen) -> None:
    assert judge(PROGRAMS["unkeyed"], normal, struck(normal, 2), normal) == Verdict()


def test_the_judge_sees_a_lost_event(normal: Seen) -> None:
    after = Seen(normal.status, (), normal.events[:1] + normal.events[2:], 0, normal.ledger)
    assert judge(PROGRAMS["unkeyed"], normal, struck(normal, 3), after).lost == 1


def test_the_judge_sees_a_lost_transition(normal: Seen) -> None:
    index = next(i for i, event in enumerate(normal.events) if event.kind == "moved")
    after = Seen(normal.status, (), normal.events[:index] + normal.events[index + 1 :], 0, normal.ledger)
    verdict = judge(PROGRAMS["unkeyed"], normal, struck(normal, index), after)
    assert (verdict.lost, verdict.duplicated) == (1, 0)
    assert verdict.problem


def test_the_judge_sees_a_transition_made_twice(normal: Seen) -> None:
    index = next(i for i, event in enumerate(normal.events) if event.kind == "moved")
    after = Seen(normal.status, (), [*normal.events[: index + 1], *normal.events[index:]], 0, normal.ledger)
    assert judge(PROGRAMS["unkeyed"], normal, struck(normal, index), after).duplicated == 1


def test_the_judge_sees_a_second_effect_and_a_second_call(normal: Seen) -> None:
    done = next(line for line in normal.ledger if line["what"] == "did")
    after = Seen(normal.status, (), normal.events, 0, [*normal.ledger, done])
    assert "more than once" in judge(PROGRAMS["unkeyed"], normal, struck(normal, 1), after).problem
    called = next(line for line in normal.ledger if line["what"] == "call")
    after = Seen(normal.status, (), normal.events, 0, [*normal.ledger, called])
    assert "made again" in judge(PROGRAMS["unkeyed"], normal, struck(normal, 1), after).problem


def test_the_judge_sees_a_completed_call_made_again(normal: Seen) -> None:
    before = Seen("running", (), normal.events[:-1], 0, normal.ledger)
    called = next(line for line in normal.ledger if line["what"] == "call")
    after = Seen(normal.status, (), normal.events, 0, [*normal.ledger, called])
    assert "completed call" in judge(PROGRAMS["unkeyed"], normal, before, after).problem


def test_the_judge_sees_another_end_and_a_missing_effect(normal: Seen) -> None:
    other = [*normal.events[:-1], normal.events[0]]
    after = Seen(normal.status, (), other, 0, normal.ledger)
    assert "another end" in judge(PROGRAMS["unkeyed"], normal, struck(normal, 1), after).problem
    after = Seen(normal.status, (), normal.events, 0, normal.ledger[:-1])
    assert "missing" in judge(PROGRAMS["unkeyed"], normal, struck(normal, 1), after).problem


@pytest.mark.parametrize(
    ("done", "problem"),
    [
        (Exit(None, "", ""), "hangs"),
        (Exit(1, "", "Traceback (most recent call last):"), "traceback"),
        (Exit(1, "", "error[JAMR901]: a bug in jam"), "bug"),
        (Exit(2, "", "no"), "without a code"),
    ],
)
def test_a_command_that_ends_badly_is_seen(done: Exit, problem: str) -> None:
    with pytest.raises(Wrong, match=problem):
        check(done, ["resume"])
    check(Exit(2, "", "error[JAMR106]: the disk is full"), ["resume"])


def test_a_trace_gives_every_place_of_the_busiest_thread(tmp_path: Path) -> None:
    log = "\n".join(
        [
            f'11 pwrite64(5<{tmp_path}/jam.db-wal>, "x", 1, 0) = 1',
            f'12 pwrite64(5<{tmp_path}/jam.db-wal>, "x", 1, 0) = 1',
            f'11 pwrite64(5<{tmp_path}/jam.db-wal>, "x", 1, 0) = 1',
            f'11 unlink("{tmp_path}/jam.db-wal") = 0',
            '11 write(1</dev/pts/0>, "x", 1) = 1',
            f"11 fcntl(5<{tmp_path}/jam.db>, F_SETLK, {{l_type=F_UNLCK}}) = 0",
            f"11 fcntl(5<{tmp_path}/jam.db>, F_SETLK, {{l_type=F_WRLCK}}) = 0",
        ]
    )
    assert tracing.places(log, tmp_path, tracing.WRITES) == [
        Place("jam.db-wal", "pwrite64", 1),
        Place("jam.db-wal", "pwrite64", 2),
        Place("jam.db-wal", "unlink", 1),
    ]
    assert tracing.places(log, tmp_path, tracing.LOCKS) == [Place("jam.db", "fcntl", 2)]


def test_a_point_is_what_its_text_says() -> None:
    point = Point("people", 2, "eio+", Place("jam.db-wal", "fdatasync", 3), 17)
    assert Point.parse(str(point)) == point
    assert [p.turn for p in thin([point._replace(turn=n) for n in range(10)], 3)] == [0, 3, 6]


def test_the_table_counts_what_failed() -> None:
    tally, point = Tally(), Point("people", 0, "kill", Place("jam.db", "pwrite64", 1), 1)
    tally.add(point, True, Verdict(2), 0.5)
    tally.add(point, False, Verdict(0, 1, 1, "lost"), 0.5)
    assert (tally.points, tally.resumed, tally.unreached, tally.repeated) == (2, 1, 1, 2)
    lines = table(Result({"people": tally}, {"other": "failed: it has errors"})).splitlines()
    assert lines[1].split() == ["people", "2", "1", "2", "1", "1", "1", "1"]
    assert lines[-1].split()[0] == "other"


@needs_strace
def test_the_campaign_sees_a_recovery_that_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug, which the commands inherit: what may have happened and has no key is just made again."""

    def again(_program: Program, intent: Intent) -> Record:
        return Record("recovered", {"cmd": intent.cmd, "how": "key", "usage": reserve_body(intent.reserve)})

    monkeypatch.setattr(recovery, "_recovered", again)
    tmp_path.chmod(0o755)
    result = campaign(["unkeyed"], 12, ["kill"], 2, tmp_path.resolve())
    assert any("made again" in problem or "more than once" in problem for _, problem in result.failures)
