"""Ten thousand runs that wait: what a process has resident that looks after them, and what it costs to wake one."""

from __future__ import annotations

from bench.durable.measure import Bench, Entry, Rounds, median, ratio, table

FEW, MANY = 10, 10_000
WAKES = 50
FILL = Entry("jamjet_dsl, filling", "ours_waiting", ("--do", "fill"))
WAKE = Entry("jamjet_dsl, a worker", "ours_waiting", ("--do", "work"))


def part_waiting(bench: Bench) -> str:
    """The table for few and for many runs, and the ratio of what a wake costs."""
    rounds: Rounds = {}
    rows = []
    counts = (FEW, bench.size(MANY, 20))
    for count in counts:
        path = bench.folder / f"waiting-{count}.db"
        filled = bench.run(FILL, "--database", str(path), "--runs", str(count))
        if filled is None:
            return f"Failed: {bench.failures[FILL.name]}"
        rounds[f"fill {count}"] = [filled]
    for number in range(bench.rounds):
        for count in counts:
            path = bench.folder / f"waiting-{count}.db"
            result = bench.run(WAKE, "--database", str(path), "--runs", str(count), "--wakes", str(WAKES))
            if result is None:
                return f"Failed: {bench.failures[WAKE.name]}"
            rounds.setdefault(str(count), []).append({**result, "round": number})
    for count in counts:
        mine, filled = rounds[str(count)], rounds[f"fill {count}"][0]
        keys = ("empty_mib", "idle_mib", "woken_mib", "poll_ms", "wake_p50_ms", "wake_p99_ms", "cpu_ms")
        rows.append([f"{count:,} runs", *(f"{median(mine, key):,.2f}" for key in keys), f"{filled['peak_mib']:,.0f}"])
    bench.results["waiting"] = rounds
    head = ["waiting", "MiB at start", "MiB at work", "MiB after wakes", "ms a poll"]
    head += ["ms a wake (p50)", "p99", "CPU ms a wake", "MiB in who started them"]
    few, many = (rounds[str(count)] for count in counts)
    change = ratio(many, few, "wake_p50_ms")
    text = f"Waking one of {counts[1]:,} costs {change:.2f} times what waking one of {counts[0]} costs."
    return f"{table(head, rows)}\n\n{text}"
