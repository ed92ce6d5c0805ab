"""Strike a run at one point, go on as an operator would, and judge what came of it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.crash import tracing
from tests.crash.judge import Verdict, judge, kept
from tests.crash.office import DATABASE, FINE, RUN, Office, Seen, Wrong, check, gone, locked, read_only
from tests.crash.points import HELD, REFUSED, Point, Recorded, prepared
from tests.crash.tracing import Place
from tests.crash.zygote import Exit, Zygote, until

SHELL_EVERY = 25
"""Of so many kills one is of a process that is started from nothing, as people start it."""
HOWS = ("resume", "move", "resume", "all", "worker", "move")
"""How the operator goes on after each kill, in turn."""
HOLD_S = 0.3
"""How long another process holds a lock that it gives up: much less than a command waits."""
AGAIN = 24
"""The second kill is at one of the first so many writes to the WAL."""
PATIENCE_S = 2.0
"""How long a worker that cannot write is left alone before it is stopped."""


def strike(zygote: Zygote, found: Recorded, point: Point, base: Path, work: Path) -> tuple[bool, Verdict]:
    """Strike there, go on, and judge. Also tells whether the command came to the place at all."""
    office = Office(found.program, work)
    office.become(prepared(base, point.program, point.step))
    move = found.moves[point.step]
    reached = True
    try:
        done = _struck(zygote, office, point, move)
        if point.fault in ("kill", "twice"):
            reached = done.code == -signal.SIGKILL
        if not reached or point.fault not in ("kill", "twice"):
            check(done, move)
            _refused(point, done)
        before = office.seen()
        if point.fault == "twice":
            before = _again(zygote, office, point, before)
        office.go_on(zygote, HOWS[point.turn % len(HOWS)])
        return reached, judge(found.program, found.normal, before, office.seen())
    except Wrong as wrong:
        return reached, Verdict(problem=str(wrong))


def _again(zygote: Zygote, office: Office, point: Point, before: Seen) -> Seen:
    """Kill what recovers, too. Raises Wrong if that loses what was there before."""
    move = office.next_move(before)
    if move is None:
        return before
    place = Place(f"{DATABASE}-wal", "pwrite64", 1 + point.turn * 7 % AGAIN)
    if before.status and not office.program.travel:
        move = ["resume", RUN]
    done = office.perform(zygote, move, tracing.options(place, "kill", office.folder))
    if done.code != -signal.SIGKILL:
        check(done, move)
    after = office.seen()
    if office.program.travel != "prune" and not kept(before.events, after.events):
        raise Wrong("what was committed before the first kill is not there any more after the second")
    return after


def _struck(zygote: Zygote, office: Office, point: Point, move: list[str]) -> Exit:
    how, folder, argv = point.place.call, office.folder, ["--db", DATABASE, *move]
    if how in REFUSED:
        with read_only(office, how):
            return zygote.jam(argv, folder, plain=True)
    if how in HELD:
        if not (folder / DATABASE).exists():
            (folder / DATABASE).touch()
        with locked(folder / DATABASE) as lock:
            pid = zygote.start(argv, folder)
            zygote.go(pid)
            if how == "freed":
                time.sleep(HOLD_S)
                lock.rollback()
            return zygote.wait(pid)
    if point.fault == "locked":
        return _locked_at(zygote, office, point, argv)
    strace = tracing.options(point.place, point.fault, folder)
    if point.fault == "kill" and point.turn % SHELL_EVERY == 0 and move != ["worker"]:
        return tracing.traced_from_the_shell(argv, folder, strace)
    return office.perform(zygote, move, strace, 30.0 if point.fault in ("kill", "twice") else PATIENCE_S)


def _locked_at(zygote: Zygote, office: Office, point: Point, argv: list[str]) -> Exit:
    """Hold the command up where it takes a lock, take the write lock from it, and give it back a little later."""
    pid = zygote.start(argv, office.folder)
    tracer = tracing.attach(zygote, pid, tracing.options(point.place, point.fault, office.folder))
    until(lambda: gone(pid) or tracing.held_up(pid))
    with locked(office.folder / DATABASE):
        time.sleep(HOLD_S)
    done = zygote.wait(pid)
    tracer.communicate()
    return done


def _refused(point: Point, done: Exit) -> None:
    """What cannot be done is refused with the code for it, and what can be waited for is waited for. Raises Wrong."""
    how = point.place.call
    wanted = {"held": ("JAMR103",), "file": ("JAMR101", "JAMR102"), "folder": ("JAMR101", "JAMR102")}.get(how)
    if wanted is not None and not any(f"error[{code}]" in done.err for code in wanted):
        raise Wrong(f"refused ({how}) it ended with {done.code}, not with {' or '.join(wanted)}: {done.err.strip()}")
    if point.fault == "locked" and how != "held" and done.code not in FINE:
        raise Wrong(f"a lock that was soon given up ended the command with {done.code}: {done.err.strip()}")
