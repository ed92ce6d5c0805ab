"""How many durable steps the engine makes a second, against SQLite alone: `./dev bench steps [STEPS [RUNS]]`.

A step is a call of a tool: one transaction that holds its outcome, the transition and the intent of the next call.
The same bytes are written once more in as many plain transactions of the same durability, on the same disk, right
before and right after; the ratio says what the engine adds. Two shapes: one run step after step, and many runs at once.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from jamjet_dsl import Engine, compile_text

PROGRAM = """
tool inc(n: int) -> int { effect writes  key run.id + "/" + string(n) }
agent counter {
  input goal: int
  output n: int
  var n: int = 0
  budget { steps 1000000  exceeded -> over }
  policy { allow inc }
  on error any -> over
  start state count { call inc(n) as n  on in_doubt -> over  when n < goal -> count  otherwise -> done }
  final done { n = n }
  failed over { n = n }
}
"""


async def drive(path: Path, steps: int, runs: int) -> float:
    """Steps a second of so many runs at once, `steps` in all."""

    async def inc(n: int) -> int:
        return n + 1

    program, goal = compile_text(PROGRAM), steps // runs
    async with Engine(path, tools={"inc": inc}) as jam:
        await (await jam.start(program, {"goal": 50}, id="warm")).wait()
        started = time.perf_counter()
        handles = [await jam.start(program, {"goal": goal}, id=f"r{n}") for n in range(runs)]
        views = await asyncio.gather(*(handle.wait() for handle in handles))
        took = time.perf_counter() - started
    if any(view.output != {"n": goal} for view in views):
        raise RuntimeError("a run did not count to its goal")
    return goal * runs / took


def raw(path: Path, bodies: list[bytes]) -> float:
    """Plain commits a second, each of one body."""
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE events (position INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    started = time.perf_counter()
    for body in bodies:
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO events (body) VALUES (?)", (body,))
        db.execute("COMMIT")
    took = time.perf_counter() - started
    db.close()
    return len(bodies) / took


def written(path: Path) -> list[bytes]:
    """What the engine wrote in each transaction of a run: everything up to and with the next intent."""
    db = sqlite3.connect(path)
    batches, batch = [], b""
    for kind, body, prev_hash, own in db.execute("SELECT kind, body, prev_hash, hash FROM events WHERE run > 1"):
        batch += body + prev_hash + own
        if kind in ("intent", "finished"):
            batches.append(batch)
            batch = b""
    db.close()
    return batches


def measure(steps: int, runs: int) -> str:
    """One line about one shape."""
    with tempfile.TemporaryDirectory() as folder:
        path, plain = Path(folder, "jam.db"), Path(folder, "plain.db")
        rate = asyncio.run(drive(path, steps, runs))
        bodies = written(path)
        commits = statistics.median(raw(plain, bodies) for _ in range(3))
    size = sum(map(len, bodies)) // len(bodies)
    return (
        f"{steps:>6} steps, {runs:>3} run{'s' if runs > 1 else ' '}: {rate:>7,.0f} steps/s; "
        f"SQLite alone {commits:>7,.0f} commits/s of {size} bytes; ratio {rate / commits:.2f}"
    )


def main(arguments: list[str]) -> None:
    """Print both shapes."""
    steps = int(arguments[0]) if arguments else 4_000
    runs = int(arguments[1]) if len(arguments) > 1 else 200
    for line in (measure(steps, 1), measure(steps, min(runs, steps))):
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
