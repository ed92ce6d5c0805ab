"""`./dev bench compile`: what checking costs. CPU seconds of whole processes, so that a busy machine disturbs little.

Every figure is a median, and each is set against a floor measured in the same run: the start of the interpreter.
Nothing is asserted here; README.md states the figures with the machine they were taken on.
"""

from __future__ import annotations

import compileall
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.generate import generate

ROOT = Path(__file__).resolve().parent.parent

_JAM = "import sys; sys.argv[0] = 'jam'; from jamjet_dsl.cli import main; sys.exit(main())"
"""What the installed `jam` script does."""


def cpu_of(command: list[str], runs: int) -> float:
    """Median CPU seconds (user and system) of a command's whole process, after one run that fills caches."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    taken = []
    for n in range(runs + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if n:
            taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(taken)


def main() -> None:
    """Print the figures of issue 2."""
    compileall.compile_dir(ROOT / "jamjet_dsl", quiet=1)
    print(
        f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
    )
    floor = cpu_of([sys.executable, "-c", "pass"], 15)
    with tempfile.TemporaryDirectory() as folder:
        small, lines, _ = check(generate(80), folder, 15)
        print(f"python -c pass             {floor * 1000:6.0f} ms CPU")
        more = (small - floor) * 1000
        print(f"jam check, {lines:>6} lines   {small * 1000:6.0f} ms CPU, {more:.0f} ms more than the floor")
        for wanted in (1_000, 10_000, 100_000):
            taken, lines, agents = check(generate(wanted), folder, 3 if wanted < 100_000 else 1)
            each = (taken - floor) / lines * 1e6
            print(f"jam check, {lines:>6} lines   {taken:6.2f} s CPU, {agents} agents, {each:.0f} µs a line")


def check(text: str, folder: str, runs: int) -> tuple[float, int, int]:
    """CPU seconds of `jam check` on a text, its lines and its agents."""
    file = Path(folder) / "program.jam"
    file.write_text(text)
    command = [sys.executable, "-c", _JAM, "check", str(file)]
    return cpu_of(command, runs), text.count("\n"), text.count("\nagent ")


if __name__ == "__main__":
    main()
