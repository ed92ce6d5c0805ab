"""A run of a million events: resumed from its snapshot, and folded and verified from its first event."""

from __future__ import annotations

from bench.durable.measure import Bench, Entry, Result, median, table

EVENTS = 1_000_000
BUILD = Entry("building a long run", "ours_long", ("--do", "build"))
FOLD = Entry("folding a long run", "ours_long", ("--do", "fold"))
SNAP = Entry("a snapshot of a long run", "ours_long", ("--do", "more"))
RESUME = Entry("resuming a long run", "ours_long", ("--do", "resume"))


def part_long(bench: Bench) -> str:
    """Times and peaks of memory, each of a process of its own."""
    path = bench.folder / "long.db"
    found: dict[str, list[Result]] = {}
    for entry, times in ((BUILD, 1), (FOLD, min(bench.rounds, 2)), (SNAP, 1), (RESUME, bench.rounds)):
        for _ in range(times):
            result = bench.run(entry, "--database", str(path), "--events", str(bench.size(EVENTS, 1000)))
            if result is None:
                return f"Failed: {entry.name}: {bench.failures[entry.name]}"
            found.setdefault(entry.name, []).append(result)
    bench.results["long"] = found
    rows = [
        [name, f"{median(results, 'seconds'):,.3f}", f"{median(results, 'peak_mib'):,.0f}"]
        for name, results in found.items()
        if name != SNAP.name
    ]
    events = found[BUILD.name][0]["events"]
    size = path.stat().st_size / events
    return f"{table([f'{events:,} events', 'seconds', 'peak MiB'], rows)}\n\n{size:.0f} bytes an event on disk."
