"""`./dev fuzz [SECONDS]`: looks for inputs that break the parser, the checks, the reports or the formatter.

First, every seed and 64 KiB inputs of the kinds that parsers are slow at, whose slowest is printed. Then, for the
rest of the time, coverage-guided fuzzing by atheris; where atheris is not installed, seeded mutation without
coverage, and it says so. Failing inputs are kept in `.dev/fuzz/`. Ends with `N inputs, M failures`; 1 on failures.

    python -m tests.fuzz.run [SECONDS] [--seed N]      look for failures
    python -m tests.fuzz.run --again FILE…             try inputs that failed
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.mutate import ROOT, Mutator, large, seeds
from tests.fuzz.target import KIB64, examine

KEPT = ROOT / ".dev" / "fuzz"
HANGS_S = 20
"""An instrumented input of at most 4 KiB that takes longer counts as a hang."""


class Campaign:
    """Counts inputs and keeps those that fail, one for each place in the code where something fails. The first
    `thorough` inputs, and an eighth of the others, are examined thoroughly."""

    def __init__(self, thorough: int = 0) -> None:
        self.inputs = 0
        self.sound = 0
        self.thorough = thorough
        self.failures: dict[str, Path] = {}

    def check(self, data: bytes) -> None:
        """Examine one input; a failure is printed and kept, and the campaign goes on."""
        self.inputs += 1
        try:
            self.sound += examine(data, thorough=zlib.crc32(data) % 8 == 0 or self.inputs <= self.thorough).sound
        except Exception as error:
            self._keep(data, error)

    def _keep(self, data: bytes, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "jamjet_dsl" in f.filename] or frames
        place = f"{type(error).__name__} in {Path(ours[-1].filename).name}:{ours[-1].lineno}"
        if place in self.failures:
            return
        KEPT.mkdir(parents=True, exist_ok=True)
        path = KEPT / f"{hashlib.sha256(data).hexdigest()[:16]}.jam"
        path.write_bytes(data)
        self.failures[place] = path
        print(f"FAILURE {place}: {error}")
        print(f"  again: python -m tests.fuzz.run --again {os.path.relpath(path, ROOT)}", flush=True)


def latency(campaign: Campaign, rng: random.Random) -> None:
    """How long 64 KiB take, from bytes to all five reports and the layout, for the slowest kinds."""
    took = []
    for kind, data in large(KIB64, rng).items():
        began = time.process_time()
        campaign.check(data)
        took.append((time.process_time() - began, kind))
    took.sort(reverse=True)
    slowest = "; ".join(f"{seconds * 1000:.0f} ms {kind}" for seconds, kind in took[:3])
    print(f"64 KiB of {len(took)} kinds, check + all reports + layout, CPU: slowest {slowest}", flush=True)


def seeded(campaign: Campaign, until: float, rng: random.Random) -> None:
    """Mutation of the seeds, without coverage."""
    texts = seeds()
    mutate = Mutator(texts)
    while time.monotonic() < until:
        campaign.check(mutate(rng.choice(texts).encode(), rng, 4 * 1024))


def guided(seconds: int, seed: int) -> tuple[int, int]:
    """Coverage-guided fuzzing in a process of its own, which libFuzzer ends. Gives inputs and failures."""
    with tempfile.TemporaryDirectory() as folder:
        for number, text in enumerate(seeds()):
            Path(folder, f"{number:04}.jam").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "tests.fuzz.guided", folder, f"-max_total_time={seconds}", f"-seed={seed}",
                   "-max_len=4096", f"-timeout={HANGS_S}", "-rss_limit_mb=2048", "-print_final_stats=1",
                   "-verbosity=0", f"-artifact_prefix={folder}/"]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILURE", "  again:"))]
        print("\n".join(failed), end="\n" if failed else "", flush=True)
        ran = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
        failures = sum(line.startswith("FAILURE") for line in failed)
        if done.returncode != 0 or ran is None:
            # A hang, a crash of the interpreter or a lack of memory: libFuzzer has written the input down.
            failures += 1
            KEPT.mkdir(parents=True, exist_ok=True)
            for found in (p for kind in ("crash-*", "timeout-*", "oom-*") for p in Path(folder).glob(kind)):
                (KEPT / f"{found.name}.jam").write_bytes(found.read_bytes())
                print(f"FAILURE {found.name.partition('-')[0]}: kept in {os.path.relpath(KEPT, ROOT)}/{found.name}.jam")
            print("\n".join(done.stderr.splitlines()[-15:]), file=sys.stderr)
        return int(ran[1]) if ran else 0, failures


def main(argv: list[str] | None = None) -> int:
    """The command; gives the exit code."""
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("seconds", nargs="?", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="the same seed looks at the same inputs (default 1)")
    parser.add_argument("--again", nargs="+", metavar="FILE", help="try these inputs only")
    options = parser.parse_args(argv)
    campaign, rng = Campaign(thorough=10_000), random.Random(options.seed)
    if options.again:
        for name in options.again:
            print(f"{name}: {examine(Path(name).read_bytes())}")
        return 0
    until = time.monotonic() + options.seconds
    for text in seeds():
        campaign.check(text.encode())
    latency(campaign, rng)
    inputs, failures, left = 0, 0, int(until - time.monotonic())
    if find_spec("atheris") is None:
        print(f"atheris is not installed for Python {sys.version_info[0]}.{sys.version_info[1]} on this platform: "
              f"seeded mutation without coverage, seed {options.seed}")  # fmt: skip
        seeded(campaign, until, rng)
    elif left > 0:
        print(f"atheris, guided by coverage, {left} s, seed {options.seed}", flush=True)
        inputs, failures = guided(left, options.seed)
    failures += len(campaign.failures)
    print(f"{campaign.inputs + inputs} inputs, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
