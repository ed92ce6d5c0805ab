"""The job that everybody does, its clock and its result line. Only the standard library: peers import it too.

The job is a line of trivial steps over a state of about 200 bytes as JSON: each adds one to `n`, and each is one
durable checkpoint. `seq` is one run of N steps; `conc` is many runs of a few steps at once in one process.

* A step is one call of the step's body.
* Its latency is the time between two entries of the body in the same run: body, checkpoint and scheduling.
* The rate is all steps by the time from before the first run is started until the last has ended.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

MARK = "RESULT "
"""What a result line starts with."""
STATE_BYTES = 200
THREADS = 16
"""Of engines that work on a pool of threads."""


SLICE = 500
"""Transitions that are timed at a time where nothing is stored."""


def timed(fire: Callable[[int], int], events: int) -> dict[str, float]:
    """Make `events` transitions in slices, each by `fire`, which says how many it made: the `rate` of all, and of the
    `best` slice. What else the machine does can only make a slice slower, so the best says what the code costs."""
    fire(SLICE)
    times = []
    for _ in range(max(events // SLICE, 1)):
        begun = time.perf_counter()
        made = fire(SLICE)
        times.append(time.perf_counter() - begun)
        if made != SLICE:
            raise SystemExit(f"{made} transitions instead of {SLICE}")
    return {"rate": SLICE * len(times) / sum(times), "best": SLICE / min(times)}


class Job:
    """One measurement: what was asked for on the command line, and where it may write."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: str = options.folder
        self.concurrent: bool = options.workload == "conc"
        self.runs: int = options.runs if self.concurrent else 1
        self.steps: int = options.steps
        self.clock = Clock()

    def state(self, run: int) -> dict[str, Any]:
        """The state that a run starts with."""
        state: dict[str, Any] = {
            "n": 0,
            "run": f"r-{run:06d}",
            "tags": ["alpha", "beta"],
            "cfg": {"retry": 3, "ok": True, "w": 0.5},
            "pad": "",
        }
        state["pad"] = "x" * (STATE_BYTES - len(json.dumps(state, separators=(",", ":"))))
        return state

    def body(self, state: dict[str, Any]) -> dict[str, Any]:
        """One step."""
        self.clock.tick(state["run"])
        return {**state, "n": state["n"] + 1}

    def file(self, name: str) -> str:
        """A path in the folder of this measurement."""
        return os.path.join(self.folder, name)

    def done(self, counts: list[int], **more: Any) -> None:
        """Print the result line. `counts` is the `n` that each run ended with."""
        if set(counts) != {self.steps} or len(counts) != self.runs:
            raise SystemExit(f"the job was not done: {self.runs} runs of {self.steps} steps ended with {set(counts)}")
        total = self.runs * self.steps
        latencies = self.clock.latencies_us()
        result = {
            "steps": total,
            "rate": total / self.clock.seconds,
            "p50_us": percentile(latencies, 0.5),
            "p99_us": percentile(latencies, 0.99),
            "bytes_step": stored_bytes(self.folder) / total,
            "peak_mib": peak_mib(),
            "state_bytes": len(json.dumps(self.state(0), separators=(",", ":"))),
            **more,
        }
        print(MARK + json.dumps(result), flush=True)


class Clock:
    """The entries of step bodies by run, and the time of the whole job. In nanoseconds."""

    def __init__(self) -> None:
        self.entries: dict[str, list[int]] = {}
        self.seconds = 0.0

    def tick(self, run: str) -> None:
        """The body of a step of this run was entered."""
        now = time.perf_counter_ns()
        try:
            self.entries[run].append(now)
        except KeyError:
            self.entries[run] = [now]

    @contextmanager
    def running(self) -> Iterator[None]:
        """The whole job happens inside."""
        started = time.perf_counter()
        yield
        self.seconds = time.perf_counter() - started

    def latencies_us(self) -> list[float]:
        """Microseconds between two entries of the same run, sorted."""
        return sorted((b - a) / 1e3 for entries in self.entries.values() for a, b in pairwise(entries))


def percentile(values: list[float], share: float) -> float:
    """Of sorted values; 0 if there are none."""
    return values[round(share * (len(values) - 1))] if values else 0.0


def peak_mib(field: str = "VmHWM") -> float:
    """The most memory that this process had resident (`VmRSS`: has now), in MiB; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field))


def stored_bytes(folder: str) -> int:
    """The bytes of all files below a folder, once the write-ahead log of every SQLite file is folded into it."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    for path in files:
        if not path.name.endswith(("-wal", "-shm", "-journal")) and path.open("rb").read(15) == b"SQLite format 3":
            db = sqlite3.connect(path, timeout=30)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            db.close()
    return sum(path.stat().st_size for path in files if path.exists())


def pragmas(execute: Callable[[str], Any]) -> list[Any]:
    """What a SQLite connection promises, by its `execute`: journal mode and level of synchronisation."""
    return [execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]


def job(**choices: list[str]) -> Job:
    """The job from the command line. Each choice becomes an option whose default is its first value."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", choices=["seq", "conc"], default="seq")
    parser.add_argument("--steps", type=int, default=1000, help="steps of each run")
    parser.add_argument("--runs", type=int, default=200, help="runs at once, for conc")
    parser.add_argument("--folder", required=True, help="where data may be written; on the disk to be measured")
    for name, values in choices.items():
        parser.add_argument(f"--{name}", choices=values, default=values[0])
    return Job(parser.parse_args())


class Growth:
    """A list that grows by one text of eleven characters each step, and how large the database is on the way."""

    def __init__(self, steps: int, path: str) -> None:
        self.steps = steps
        self.path = path
        self.samples: list[tuple[int, int]] = []
        self._every = max(steps // 50, 1)

    def item(self, n: int) -> str:
        """What step `n` adds; the size is looked at now and then."""
        if n % self._every == 0 and n:
            self.samples.append((n, database_bytes(self.path)))
        return f"item {n:06d}"

    def done(self, length: int) -> None:
        """Print the result line."""
        if length != self.steps:
            raise SystemExit(f"the list has {length} items instead of {self.steps}")
        self.samples.append((length, database_bytes(self.path)))
        print(MARK + json.dumps({"samples": self.samples}), flush=True)


def growth(name: str) -> Growth:
    """What `--steps` and `--folder` ask for, in a database of this name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--folder", required=True)
    options = parser.parse_args()
    return Growth(options.steps, os.path.join(options.folder, name))


def database_bytes(path: str) -> int:
    """The size of a SQLite database as readers see it now, whether it lies in its file or in its log."""
    db = sqlite3.connect(path, timeout=30)
    pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    db.close()
    return int(pages * size)
