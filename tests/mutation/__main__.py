"""Mutation testing of the kernel: every small change of it has to be noticed by a check.

python -m tests.mutation [--limit N] [--modules M …] [--seed S] [--jobs J] [--survivors FILE] [--recording FILE]
                          [--only FILE] [--most SECONDS]

First each check runs on the kernel as it is, and the lines it passes are noted. Then each mutant is put into the loaded
kernel, in a forked process of its own, and meets the checks that pass its lines, the quickest first, until one fails.
What survives and is not in `accepted.txt` is printed; `docs/mutation.md` says what the figures mean.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import random
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import pytest

from tests.mutation import patch
from tests.mutation.checks import Check, Recording, against_reference, record, test
from tests.mutation.mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
KERNEL = ROOT / "jamjet_dsl" / "kernel"
ACCEPTED = Path(__file__).parent / "accepted.txt"
TESTS = (
    *("tests/kernel", "tests/semantics"),
    *(f"tests/engine/test_{name}.py" for name in ("approvals", "fork", "migrate", "recovery", "replay", "test_runner")),
)
MOST_MEMORY = 4 << 30
SURVIVED, KILLED, SAME_CODE = 0, 10, 11
PASSED_ON = "survived"


@dataclass
class Campaign:
    """Pytest collects the tests; what is done with them is this."""

    given: argparse.Namespace
    fates: dict[str, str] = field(default_factory=dict)
    """By mutant, what became of it."""
    checks: list[Check] = field(default_factory=list)
    broken: str | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running the tests: record them, then let the mutants meet them."""
        self.functions = patch.loaded(KERNEL)
        self.caches = patch.caches("jamjet_dsl", "tests")
        self.checks = [*against_reference(), *(test(item) for item in session.items)]
        began = time.monotonic()
        known = Recording(self.given.recording, KERNEL)
        for check in self.checks:
            self.forget()
            if not known.fills(check) and not record(check, KERNEL):
                self.broken = check.name
                return True
        known.keep(self.checks)
        most = self.given.most
        self.checks = sorted((c for c in self.checks if most is None or c.seconds <= most), key=lambda c: c.seconds)
        todo = self.todo()
        say(f"{len(self.checks)} checks recorded in {time.monotonic() - began:.0f} s; {len(todo)} mutants")
        self.meet(todo)
        return True

    def forget(self) -> None:
        """Each check begins with empty caches, so that what it relies on runs within it."""
        for empty in self.caches:
            empty()

    def todo(self) -> list[Mutant]:
        """The mutants that were asked for."""
        paths = [
            path
            for path in sorted(KERNEL.glob("*.py"))
            if self.given.modules is None or path.stem in self.given.modules
        ]
        found = [mutant for path in paths for mutant in mutants(path)]
        if self.given.only is not None:
            wanted = keys_in(self.given.only)
            found = [mutant for mutant in found if mutant.key in wanted]
        limit = self.given.limit
        return found if limit is None or limit >= len(found) else random.Random(self.given.seed).sample(found, limit)

    def meet(self, todo: list[Mutant]) -> None:
        """Every mutant in a process of its own, so many at a time. Caches are empty when it begins."""
        self.forget()
        gc.collect()
        gc.freeze()
        running: dict[int, Mutant] = {}
        for mutant in todo:
            if len(running) >= self.given.jobs:
                self.settle(running)
            running[self.fork(mutant)] = mutant
        while running:
            self.settle(running)

    def settle(self, running: dict[int, Mutant]) -> None:
        """Wait for one of the processes, and note how it ended."""
        pid, status = os.wait()
        mutant = running.pop(pid)
        fate = "killed by its time" if os.WIFSIGNALED(status) else "killed"
        fate = {SURVIVED: PASSED_ON, SAME_CODE: "the same code"}.get(os.waitstatus_to_exitcode(status), fate)
        self.fates[mutant.key] = fate
        if fate == PASSED_ON:
            say(f"{mutant.path.stem}:{mutant.first}: {mutant.key}")

    def fork(self, mutant: Mutant) -> int:
        """Begin a mutant's process."""
        pid = os.fork()
        if pid == 0:
            code = KILLED  # a check that leaves by an exception of its own has noticed something
            try:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 1)
                os.dup2(nowhere, 2)
                code = self.outcome(mutant)
            finally:
                os._exit(code)
        return pid

    def outcome(self, mutant: Mutant) -> int:
        """What the checks say of a mutant."""
        if not patch.put(mutant.code(), self.functions):
            return SAME_CODE
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        lines = {(str(mutant.path), line) for line in range(mutant.first, mutant.last + 1)}
        for check in self.checks:
            if check.lines.isdisjoint(lines):
                continue
            signal.setitimer(signal.ITIMER_PROF, 3 + 3 * check.seconds)
            if not check.passes():
                return KILLED
        return SURVIVED


def say(text: str) -> None:
    """Print past pytest, which has `sys.stdout` while it runs."""
    print(text, file=sys.__stdout__, flush=True)


def keys_in(path: Path) -> set[str]:
    """Keys of mutants, one a line; lines that begin with `#` are words between them."""
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    return {line for line in lines if line and not line.startswith("#")}


def interval(hits: int, of: int) -> tuple[float, float]:
    """Wilson's interval for a share in percent, at 95 % confidence."""
    if of == 0:
        return 0.0, 100.0
    z, share = 1.96, hits / of
    middle = share + z * z / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    scale = 100 / (1 + z * z / of)
    return (middle - spread) * scale, (middle + spread) * scale


def report(campaign: Campaign, seconds: float) -> bool:
    """Print the table and what is new. True if nine of ten were killed and every survivor is explained."""
    by: dict[str, Counter[str]] = defaultdict(Counter)
    for key, fate in campaign.fates.items():
        by[key.partition(".")[0]][fate] += 1
        by["all"][fate] += 1
    known, survivors = keys_in(ACCEPTED), [key for key, fate in campaign.fates.items() if fate == PASSED_ON]
    for name, fates in by.items():
        real = fates.total() - fates["the same code"]
        dead = real - fates[PASSED_ON]
        print(f"{name:12} {real:5} mutants {dead:5} killed {100 * dead / max(real, 1):6.1f} %  {dict(fates)}")
    new = [key for key in survivors if key not in known]
    print(f"{len(survivors)} survived, {len(new)} of them not explained; {seconds:.0f} s")
    if campaign.given.survivors is not None:
        campaign.given.survivors.write_text("".join(f"{key}\n" for key in survivors), "utf-8")
    total = by["all"]
    if campaign.given.limit is not None:
        low, high = interval(len(survivors), total.total() - total["the same code"])
        print(f"of all mutants, {100 - high:.1f} to {100 - low:.1f} % are killed (95 % confidence)")
    return not new and 10 * total[PASSED_ON] <= total.total() - total["the same code"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--limit", type=int, help="so many mutants, drawn by chance")
    parser.add_argument("--modules", nargs="+", metavar="M", help="only these modules of the kernel, such as `leave`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--survivors", type=Path, help="write their keys to this file")
    parser.add_argument("--only", type=Path, help="only the mutants whose keys are in this file, such as survivors")
    parser.add_argument("--most", type=float, help="leave out checks that took longer: sooner done, and too strict")
    parser.add_argument(
        "--recording", type=Path, help="keep in this file which lines the checks pass, for the next time"
    )
    given = parser.parse_args()
    os.chdir(ROOT)
    quick = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutation", derandomize=True, database=None, deadline=None, phases=quick)
    hypothesis.settings.load_profile("mutation")
    campaign, began = Campaign(given), time.monotonic()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        pytest.main(["-s", "-p", "no:cacheprovider", *TESTS], plugins=[campaign])
    if campaign.broken is not None or not campaign.fates:
        print(f"{campaign.broken} fails without any change: nothing can be said of mutants")
        return 2
    return 0 if report(campaign, time.monotonic() - began) else 1


if __name__ == "__main__":
    sys.exit(main())
