"""Many tests: one after the other, or in several processes at once, always told in the order of the source."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from jamjet_dsl.definition import Compiled, TestDef
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.testing import TestResult, run_test


class Task(NamedTuple):
    """One test: the number of its program, and of the test in it."""

    program: int
    test: int


class Ran(NamedTuple):
    """A test that ran. `seconds` is the real time it took."""

    task: Task
    result: TestResult
    seconds: float


def tasks_of(programs: Sequence[Compiled], match: str | None = None, first: int = 0) -> list[Task]:
    """The tests of the agents of one file in the order of the source; with `match` only those whose title contains it.
    `first` is the number of the first of these programs."""
    wanted = (match or "").casefold()
    found = [
        (_line(test), Task(first + p, t))
        for p, program in enumerate(programs)
        for t, test in enumerate(program.tests)
        if wanted in test.title.casefold()
    ]
    return [task for _, task in sorted(found)]


def _line(test: TestDef) -> int:
    return test.span.line if test.span is not None else 0


def run_suite(programs: Sequence[Compiled], tasks: Sequence[Task], jobs: int = 1) -> Iterator[Ran]:
    """Run tests, `jobs` at a time in processes of their own, and give what came of them in the order of the tasks.

    Every run has a world of its own, so it makes no difference how many there are. Raises JamError JAMR006 if a process
    is killed.
    """
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        for task in tasks:
            yield _run(programs, task)
        return
    # Where it can be had, `fork` starts in no time; elsewhere threads of the system's own libraries forbid it.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    chunk = max(1, len(tasks) // (jobs * 4))
    with ProcessPoolExecutor(jobs, context, _begin, (list(programs),)) as pool:
        try:
            yield from pool.map(_run_known, tasks, chunksize=chunk)
        except BrokenProcessPool:
            raise JamError("JAMR006", "a process that ran tests was killed", "try fewer --jobs") from None
        finally:
            pool.shutdown(cancel_futures=True)


_known: list[Compiled] = []
"""The programs, in a process that runs tests for another."""


def _begin(programs: list[Compiled]) -> None:
    _known[:] = programs
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of whoever started these


def _run_known(task: Task) -> Ran:
    return _run(_known, task)


def _run(programs: Sequence[Compiled], task: Task) -> Ran:
    began = time.perf_counter()
    compiled = programs[task.program]
    result = run_test(compiled, compiled.tests[task.test])
    return Ran(task, result, time.perf_counter() - began)
