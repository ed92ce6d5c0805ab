"""Measurements as processes: each in a fresh folder, one line of JSON from each, rounds interleaved."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.durable.environments import Environments
from bench.durable.job import MARK

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT = 900
"""Seconds that one measurement may take."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """Somebody who does the job: `module` of this package with `arguments`, in the environment of `peer`."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    peer: str = ""
    """Empty for what runs in the environment of this checkout."""
    share: float = 1.0
    """The part of the job that a very slow one does: its rate is measured on that."""


@dataclass
class Bench:
    """What all parts share: where to write, how often, at whose side, and what came out (for `--out`)."""

    folder: Path
    rounds: int
    peers: frozenset[str]
    environments: Environments
    scale: float = 1.0
    """Multiplies all sizes: the smoke test runs everything small."""
    plots: Path | None = None
    """Where plots go; without it beside the data, which is removed in the end."""
    results: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def size(self, full: int, least: int = 2) -> int:
        """A size of the job, scaled."""
        return max(least, round(full * self.scale))

    def wants(self, entry: Entry) -> bool:
        """Whether this entry is to be measured, and can be."""
        return not entry.peer or (entry.peer in self.peers and self.environments.python(entry.peer) is not None)

    def run(self, entry: Entry, *arguments: str, prefix: Sequence[str] = ()) -> Result | None:
        """One measurement. None if it failed; why is told once and kept in `failures`."""
        python = self.environments.python(entry.peer) if entry.peer else Path(sys.executable)
        folder = tempfile.mkdtemp(prefix=f"{entry.module.rsplit('.', 1)[-1]}-", dir=self.folder)
        command = [str(python), "-m", f"bench.durable.{entry.module}", "--folder", folder, *entry.arguments, *arguments]
        env = {**os.environ, **(self.environments.variables(entry.peer) if entry.peer else {})}
        try:
            done = subprocess.run(
                [*prefix, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
            why = " / ".join(done.stderr.strip().splitlines()[-3:]) or f"it ended with {done.returncode}"
            lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
        except subprocess.TimeoutExpired:
            lines, why = [], f"it took more than {TIMEOUT} s"
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            # What one has written must not be flushed in the time of the next.
            os.sync()
        if lines:
            result: Result = json.loads(lines[-1][len(MARK) :])
            return result
        if entry.name not in self.failures:
            print(f"  {entry.name} failed: {why}", flush=True)
        self.failures[entry.name] = why
        return None


Rounds = dict[str, list[Result]]
"""The results of each entry, by its name, a result for each round."""


def median(results: list[Result], key: str) -> float:
    """The median of one figure over the rounds."""
    return float(statistics.median(result[key] for result in results))


def spread(results: list[Result], key: str) -> str:
    """`median [least–most]`."""
    values = [result[key] for result in results]
    return f"{statistics.median(values):,.0f} [{min(values):,.0f}–{max(values):,.0f}]"


def ratio(ours: list[Result], theirs: list[Result], key: str = "rate") -> float:
    """The median over the rounds of one's figure by the other's of the same round."""
    other = {result["round"]: result[key] for result in theirs}
    both = [result[key] / other[result["round"]] for result in ours if result["round"] in other]
    return statistics.median(both) if both else 0.0


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown whose columns line up; all but the first are set to the right."""
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    lines = []
    for row in [head, ["-" * (w - (n > 0)) + ":" * (n > 0) for n, w in enumerate(widths)], *rows]:
        cells = [c.ljust(w) if n == 0 else c.rjust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
