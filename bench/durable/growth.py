"""How a database grows when every step adds to a list: as the steps do, or as their square."""

from __future__ import annotations

from pathlib import Path

from bench.durable.chart import chart
from bench.durable.measure import Bench, Entry, table

STEPS = 10_000
ENTRIES = [
    Entry("jamjet_dsl", "ours_growth"),
    Entry("langgraph", "peers.langgraph_growth", peer="langgraph"),
]
MIB = 1024 * 1024


def part_growth(bench: Bench) -> str:
    """The sizes at tenths of the way, how the second half compares with the first, and the plot."""
    steps = bench.size(STEPS, 20)
    lines: dict[str, list[tuple[float, float]]] = {}
    for entry in ENTRIES:
        result = bench.run(entry, "--steps", str(steps)) if bench.wants(entry) else None
        if result is not None:
            lines[entry.name] = [(float(step), size / MIB) for step, size in result["samples"]]
    bench.results["growth"] = lines
    if not lines:
        return "Nothing was measured."
    head = ["", *(f"{steps * n // 5:,} steps" for n in range(1, 6)), "second half ÷ first"]
    rows = [[name, *(f"{near(line, steps * n / 5):,.1f} MiB" for n in range(1, 6))] for name, line in lines.items()]
    for row, line in zip(rows, lines.values(), strict=True):
        half = near(line, steps / 2)
        row.append(f"{(line[-1][1] - half) / half:.2f}" if half else "")
    folder = bench.plots or bench.folder
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(folder, "growth.svg")
    path.write_text(chart("A list that grows by one item each step", "steps", "MiB", lines))
    where = f"\n\nPlot: {path}" if bench.plots else ""
    return f"{table(head, rows)}\n\nLinear growth has 1 in the last column, quadratic growth 3.{where}"


def near(line: list[tuple[float, float]], step: float) -> float:
    """The size at the sample nearest to a step."""
    return min(line, key=lambda sample: abs(sample[0] - step))[1]
