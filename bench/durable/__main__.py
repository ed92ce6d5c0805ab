"""The command line: `python -m bench.durable [--only PARTS] [--peers NAMES|none] [--rounds N] [--out FILE]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.durable import growth, kernel, long, steps, waiting
from bench.durable.environments import NEEDS, Environments
from bench.durable.measure import Bench

Part = Callable[[Bench], str]

PARTS: dict[str, tuple[str, Part]] = {
    "steps": ("Durable steps", steps.part_steps),
    "syncs": ("Disk syncs", steps.part_syncs),
    "size": ("Size of a step", steps.part_size),
    "growth": ("A list that grows", growth.part_growth),
    "kernel": ("The kernel alone, in memory", kernel.part_kernel),
    "waiting": ("Runs that wait", waiting.part_waiting),
    "long": ("A long run", long.part_long),
}


def options(arguments: list[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="./dev bench durable", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--peers", default=",".join(NEEDS), help="peers to measure, by name; none for none")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured")
    parser.add_argument("--venvs", type=Path, help="where the peers' environments are kept (default: made anew)")
    parser.add_argument("--data", type=Path, help="where data is written; on the disk to be measured, not in memory")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies all sizes")
    parser.add_argument("--plots", type=Path, help="a folder for the plots (SVG)")
    parser.add_argument("--out", type=Path, help="a file for all results as JSON")
    found = parser.parse_args(arguments)
    found.only = [name for name in found.only.split(",") if name]
    found.peers = frozenset(name for name in found.peers.split(",") if name and name != "none")
    for name, known in (("only", set(PARTS)), ("peers", set(NEEDS))):
        unknown = set(getattr(found, name)) - known
        if unknown:
            parser.error(f"--{name}: {', '.join(sorted(unknown))}: not one of {', '.join(sorted(known))}")
    return found


def in_memory(folder: Path) -> bool:
    """Whether a folder lies in memory, where a sync costs nothing and every figure would be wrong."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    home = max((m for m in mounts if folder.resolve().is_relative_to(m[1])), key=lambda m: len(m[1]), default=None)
    return home is not None and home[2] in ("tmpfs", "ramfs")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    asked = options(arguments)
    if asked.data is not None:
        asked.data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="jam-bench-", dir=asked.data) as folder:
        home = Path(folder)
        environments = Environments(asked.venvs.resolve() if asked.venvs else home / "venvs")
        bench = Bench(home, asked.rounds, asked.peers, environments, asked.scale, asked.plots)
        print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, ", end="")
        print(f"{platform.machine()}, {asked.rounds} rounds; rates are `median [least–most]`", flush=True)
        if in_memory(home):
            print(f"{home} lies in memory: its syncs cost nothing. Name another folder with --data.", flush=True)
        for name in asked.only:
            title, part = PARTS[name]
            text = part(bench)
            print(f"\n## {title}\n\n{text}", flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(bench.results, indent=1) + "\n")


if __name__ == "__main__":
    main()
