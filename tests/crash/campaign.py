"""The crash campaign: kill real `jam` processes at every system call that writes, or let the call fail, and go on.

    python -m tests.crash [--programs a,b] [--points N|all] [--faults kill,eio,…] [--jobs 2] [--only POINT]

For each program an operator brings a run to its end, command by command; what the folder was like before each command
is kept. strace tells which system calls of the command write to which file: each is a place to die. For each, the
folder is put back, the command is struck there, and the operator goes on from whatever was left.
"""

from __future__ import annotations

import argparse
import multiprocessing
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jamjet_dsl import JamError
from tests.crash import tracing
from tests.crash.judge import Verdict
from tests.crash.office import Wrong
from tests.crash.points import Point, Recorded, points, record
from tests.crash.programs import PROGRAMS
from tests.crash.strike import strike
from tests.crash.zygote import Zygote

FAULTS = ("kill", "twice", "eio", "enospc", "locked", "readonly")


@dataclass
class Tally:
    """What became of a program's points."""

    points: int = 0
    resumed: int = 0
    unreached: int = 0
    repeated: int = 0
    lost: int = 0
    duplicated: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, point: Point, reached: bool, verdict: Verdict, seconds: float) -> None:
        """Count one point."""
        self.points += 1
        self.unreached += not reached
        self.repeated += verdict.repeated
        self.lost += verdict.lost
        self.duplicated += verdict.duplicated
        self.seconds += seconds
        if verdict.problem:
            self.failures.append((str(point), verdict.problem))
        else:
            self.resumed += 1


_zygote: Zygote | None = None


def _own_zygote() -> Zygote:
    global _zygote
    if _zygote is None:
        _zygote = Zygote()
    return _zygote


def _record(job: tuple[str, Path]) -> tuple[str, Recorded | None, str]:
    name, base = job
    program = PROGRAMS[name]
    try:
        found = record(_own_zygote(), program, base)
        _kept(base, name).write_bytes(pickle.dumps(found))
        return name, found, ""
    except (Wrong, JamError) as error:
        return name, None, f"failed: {error}"


def _kept(base: Path, name: str) -> Path:
    return base / name / "recorded"


@cache
def _recorded(base: Path, name: str) -> Recorded:
    found: Recorded = pickle.loads(_kept(base, name).read_bytes())
    return found


def _strike(job: tuple[Point, Path]) -> tuple[Point, bool, Verdict, float]:
    point, base = job
    began = time.perf_counter()
    work = base / f"work{multiprocessing.current_process().pid}" / "office"
    work.parent.mkdir(exist_ok=True)
    try:
        reached, verdict = strike(_own_zygote(), _recorded(base, point.program), point, base, work)
    except Exception as error:
        reached, verdict = True, Verdict(problem=f"the campaign itself failed: {type(error).__name__}: {error}")
    return point, reached, verdict, time.perf_counter() - began


def thin(every: list[Point], number: int | None) -> list[Point]:
    """So many of them, evenly spread."""
    if number is None or number >= len(every):
        return every
    return [every[index * len(every) // number] for index in range(number)]


@dataclass
class Result:
    """What a campaign found, by program, in the order they were asked for."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)


def campaign(
    names: list[str],
    number: int | None,
    faults: Iterable[str],
    jobs: int,
    base: Path,
    only: list[Point] | None = None,
    tell: bool = False,
) -> Result:
    """Strike `number` points of each program (None: all)."""
    result = Result()
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        work: list[tuple[Point, Path]] = []
        for name, found, why in pool.imap(_record, [(name, base) for name in names]):
            if found is None:
                result.skipped[name] = why
                if why.startswith("failed"):
                    result.failures.append((name, why))
                continue
            result.tallies[name] = Tally()
            every = list(points(found, faults)) if only is None else [p for p in only if p.program == name]
            work += [(point, base) for point in thin(every, number)]
        for count, (point, reached, verdict, seconds) in enumerate(pool.imap_unordered(_strike, work, chunksize=4), 1):
            result.tallies[point.program].add(point, reached, verdict, seconds)
            if tell and count % 200 == 0:
                sys.stderr.write(f"{count} of {len(work)}\n")
    for tally in result.tallies.values():
        result.failures += tally.failures
    return result


def table(result: Result) -> str:
    """The figures as lines of text."""
    head = ("program", "points", "resumed", "same key", "lost", "duplicated", "unreached", "s")
    rows: list[tuple[object, ...]] = [
        (name, t.points, t.resumed, t.repeated, t.lost, t.duplicated, t.unreached, round(t.seconds))
        for name, t in result.tallies.items()
    ]
    rows.append(("all", *(sum(int(str(row[column])) for row in rows) for column in range(1, len(head)))))
    lines = [f"{head[0]:<12}" + "".join(f"{title:>11}" for title in head[1:])]
    lines += [f"{row[0]:<12}" + "".join(f"{value:>11}" for value in row[1:]) for row in rows]
    lines += [f"{name:<12}  {why}" for name, why in result.skipped.items()]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """The command. Ends with 1 if anything was wrong, with 2 if it cannot be done here."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="names, with commas (default: all)")
    parser.add_argument("--points", default="all", help="how many points of each program, or `all`")
    parser.add_argument("--faults", default=",".join(FAULTS), help=f"of {','.join(FAULTS)}")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", action="append", help="one point, as a failure prints it")
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it there")
    given = parser.parse_args(arguments)
    missing = tracing.missing()
    if missing is not None:
        sys.stderr.write(f"crash: {missing}\n")
        return 2
    only = [Point.parse(text) for text in given.only] if given.only else None
    names = list(dict.fromkeys(p.program for p in only)) if only else given.programs.split(",")
    unknown = [name for name in (*names, *given.faults.split(",")) if name not in PROGRAMS and name not in FAULTS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}")
    number = None if given.points == "all" else int(given.points)
    base = given.keep or Path(tempfile.mkdtemp(prefix="jam-crash-"))
    base.mkdir(parents=True, exist_ok=True)
    base.chmod(0o755)
    began = time.perf_counter()
    try:
        result = campaign(names, number, given.faults.split(","), given.jobs, base.resolve(), only, tell=True)
    finally:
        if given.keep is None:
            shutil.rmtree(base, ignore_errors=True)
    for point, problem in result.failures:
        sys.stdout.write(f"failed: {point}: {problem}\n")
        if "/" in point:
            sys.stdout.write(f"        python -m tests.crash --only {point}\n")
    sys.stdout.write(table(result))
    sys.stdout.write(f"{time.perf_counter() - began:.0f} s, {len(result.failures)} failed\n")
    return 1 if result.failures else 0
