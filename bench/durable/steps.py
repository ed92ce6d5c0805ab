"""Rates and latencies of durable steps: the floor, this engine, the peers; interleaved, with ratios within rounds."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.durable.measure import Bench, Entry, Result, Rounds, median, ratio, spread, table

FLOOR = Entry("sqlite3, a commit each", "floor", ("--commit", "each"))
GROUP = Entry("sqlite3, groups of 100", "floor", ("--commit", "group"))
OURS = [
    Entry("jamjet_dsl, reads", "ours", ("--effect", "reads")),
    Entry("jamjet_dsl, writes", "ours", ("--effect", "writes")),
]
ON_THREADS = Entry("jamjet_dsl, reads, sync tool", "ours", ("--effect", "reads", "--tool", "sync"))
IN_PROCESSES = [
    Entry("jamjet_dsl, reads, two processes", "ours_processes", ("--effect", "reads")),
    Entry("jamjet_dsl, writes, two processes", "ours_processes", ("--effect", "writes")),
]
"""One run is driven by one process: these are for many at once."""
PEERS = [
    Entry("jamjet @durable", "peers.jamjet", peer="jamjet"),
    Entry("burr sync, WAL", "peers.burr", ("--api", "sync", "--journal", "wal"), "burr"),
    Entry("burr async", "peers.burr", ("--api", "async"), "burr"),
    Entry("langgraph sync", "peers.langgraph", peer="langgraph"),
    Entry("dbos, WAL", "peers.dbos", ("--journal", "wal"), "dbos"),
    Entry("restate, one node", "peers.restate", peer="restate"),
    Entry("temporal dev server", "peers.temporal", peer="temporal", share=0.1),
]
SHAPES = {"seq": "(a) one run of {steps} steps", "conc": "(b) {runs} runs of {steps} steps at once"}
SHARE_OF_SYNCS = 0.1
"""Under strace everything is slow, and a tenth of the job says as much."""


def part_steps(bench: Bench) -> str:
    """The table of both shapes, and what this engine's rate is to the floors and to the best peer."""
    everybody = [entry for entry in [FLOOR, GROUP, *OURS, ON_THREADS, *IN_PROCESSES, *PEERS] if bench.wants(entry)]
    texts = []
    for shape, title in SHAPES.items():
        wanted = [entry for entry in everybody if shape == "conc" or entry not in IN_PROCESSES]
        rounds: Rounds = {}
        for number in range(bench.rounds):
            # Every other round goes backwards, so that nobody always comes after the same neighbour.
            for entry in wanted if number % 2 == 0 else reversed(wanted):
                result = bench.run(entry, *arguments(bench, shape, entry.share))
                if result is not None:
                    rounds.setdefault(entry.name, []).append({**result, "round": number})
        bench.results[f"steps/{shape}"] = rounds
        steps, runs = sizes(bench, shape)
        texts.append(f"### {title.format(steps=f'{steps:,}', runs=f'{runs:,}')}\n\n{shape_table(rounds, wanted)}")
    for peer, why in bench.environments.missing.items():
        texts.append(f"Not measured: {peer} ({why}).")
    for name, why in bench.failures.items():
        texts.append(f"Failed: {name} ({why}).")
    return "\n\n".join(texts)


def sizes(bench: Bench, shape: str, share: float = 1.0) -> tuple[int, int]:
    """Steps of each run and runs of a shape."""
    if shape == "seq":
        return bench.size(round(1000 * share), 5), 1
    return 10, bench.size(round(200 * share))


def arguments(bench: Bench, shape: str, share: float = 1.0) -> list[str]:
    """The options of one measurement of a shape."""
    steps, runs = sizes(bench, shape, share)
    return ["--workload", shape, "--steps", str(steps), "--runs", str(runs)]


def shape_table(rounds: Rounds, wanted: list[Entry]) -> str:
    """One shape's table. Ratios are of this row's rate to that of the floor in the same round."""
    head = ["", "steps/s", "÷ each", "÷ group", "p50 µs", "p99 µs", "p99/p50", "bytes/step", "peak MiB"]
    rows = []
    for entry in wanted:
        mine = rounds.get(entry.name)
        if not mine:
            continue
        against = [ratio(mine, rounds[f.name]) if f.name in rounds else 0.0 for f in (FLOOR, GROUP)]
        p50, p99 = median(mine, "p50_us"), median(mine, "p99_us")
        rows.append(
            [
                entry.name + (f" ({entry.share:.0%} of the job)" if entry.share < 1 else ""),
                spread(mine, "rate"),
                *(f"{share:.2f}" for share in against),
                *(f"{value:,.0f}" for value in (p50, p99)),
                f"{p99 / p50:.1f}" if p50 else "",
                *(f"{median(mine, key):,.0f}" for key in ("bytes_step", "peak_mib")),
            ]
        )
    return table(head, rows) + "\n\n" + against_peers(rounds)


def against_peers(rounds: Rounds) -> str:
    """This engine's rate by each peer's, and which peer is the best."""
    peers = [entry.name for entry in PEERS if entry.name in rounds]
    lines = []
    for entry in [*OURS, *IN_PROCESSES]:
        mine = rounds.get(entry.name)
        if not mine or not peers:
            continue
        ratios = {name: ratio(mine, rounds[name]) for name in peers}
        best = min(ratios, key=lambda name: ratios[name])
        each = ", ".join(f"{name} × {value:.1f}" for name, value in sorted(ratios.items(), key=lambda item: item[1]))
        lines.append(f"{entry.name}: {ratios[best]:.2f} times the best peer ({best}). {each}.")
    return "\n".join(lines)


def part_syncs(bench: Bench) -> str:
    """How often everybody asks the disk to sync, for each step: whether they really promise the same."""
    strace = shutil.which("strace")
    if strace is None:
        return "Not measured: strace is not there."
    wanted = [entry for entry in [FLOOR, GROUP, *OURS, *PEERS] if bench.wants(entry)]
    rows = []
    for entry in wanted:
        row = [entry.name]
        for shape in SHAPES:
            log = bench.folder / "strace.txt"
            prefix = [strace, "-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range,msync", "-o", str(log)]
            options = arguments(bench, shape, SHARE_OF_SYNCS)
            result = bench.run(entry, *options, prefix=prefix)
            row.append("failed" if result is None else f"{syncs(log) / result['steps']:.2f}")
            bench.results.setdefault("syncs", {}).setdefault(entry.name, []).append(row[-1])
        rows.append(row)
    return table(["syncs per step", *(name.split(")")[0] + ")" for name in SHAPES.values())], rows)


def syncs(log: Path) -> int:
    """Synchronising calls in a trace; an interrupted call is resumed in a line of its own."""
    return sum("resumed>" not in line and "sync" in line for line in log.read_text().splitlines())


def part_size(bench: Bench) -> str:
    """Bytes on disk for each step against 450 and twice what a step holds: arguments, result, changed variables."""
    rows = []
    for entry in OURS:
        result = bench.run(entry, *arguments(bench, "seq"))
        many = bench.run(entry, *arguments(bench, "conc"))
        for shape, found in (("one run", result), ("many runs", many)):
            if found is None:
                continue
            limit = 450 + 2 * step_bytes(found)
            bench.results[f"size/{entry.name}/{shape}"] = {"bytes_step": found["bytes_step"], "limit": limit}
            rows.append([f"{entry.name}, {shape}", f"{found['bytes_step']:,.0f}", f"{limit:,}"])
    return table(["", "bytes/step", "450 + 2 × canonical"], rows)


def step_bytes(result: Result) -> int:
    """The canonical bytes of a step: the state as argument, as result and as the variable that it becomes."""
    return 3 * int(result["state_bytes"])
