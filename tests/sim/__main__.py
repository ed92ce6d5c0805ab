"""The deterministic simulator: many seeds, one of them in full, or the simulator's own test with planted bugs.

    python -m tests.sim [--seeds N] [--from S] [--jobs J]     run N seeds (default 1000), tell which fail
    python -m tests.sim --seed S [--trace]                    one seed, with its whole story
    python -m tests.sim --bugs [NAME ...] [--seeds N]         plant each bug and find it within N seeds (default 1000)

Real engines and the real kernel run on machines that crash, stall and lose their disks, with tools that fail in every
way, in virtual time. One number decides everything: a seed gives the same journals, byte for byte, every time. The exit
code is 1 if a seed fails, or if a planted bug is not found.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from statistics import median

from tests.sim.bugs import BUGS
from tests.sim.campaign import Tally, run_seeds
from tests.sim.run import Result, simulate

CHUNK = 100


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="the deterministic simulator")
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="tell the whole story of --seed")
    parser.add_argument("--plant", choices=sorted(BUGS), help="with this bug planted")
    parser.add_argument("--bugs", nargs="*", metavar="NAME", help="find the planted bugs (all of them, or these)")
    given = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # coroutines of machines that are gone are never awaited
    if given.bugs is not None:
        return find_bugs(given.bugs or sorted(BUGS), given.first, given.seeds, given.jobs)
    if given.seed is not None:
        return one(given.seed, given.trace, given.plant)
    return many(given.first, given.seeds, given.jobs, given.plant)


def one(seed: int, trace: bool, plant: str | None) -> int:
    """One seed, twice: what happened, and whether it happened again in the same way."""
    with BUGS[plant].planted() if plant else nullcontext():
        result, again = simulate(seed, tell=True), simulate(seed)
    if trace:
        print("\n".join(result.lines))
    print(f"seed {seed}: {result.events} events, {result.effects} effects, {result.ended} runs ended")
    if result.digest != again.digest:
        print("NOT DETERMINISTIC: a second run of the seed gave other journals")
        return 1
    if result.failure is not None:
        print(f"VIOLATED {result.failure}")
        return 1
    print("nothing was violated; a second run gave the same journals")
    return 0


def many(first: int, seeds: int, jobs: int, plant: str | None) -> int:
    """Many seeds; the failing ones are listed with how to see them."""
    began = time.monotonic()
    total = Tally()
    for tally in _tallies(first, seeds, jobs, plant):
        total.add(tally)
        for result in tally.failures:
            _report(result, plant)
        _progress(f"{total.seeds} of {seeds} seeds, {len(total.failures)} failed")
    _progress("")
    seconds = time.monotonic() - began
    twice = f"{total.differ} of {total.again} run twice differed"
    print(f"{total.seeds} seeds from {first}: {len(total.failures)} failed, {twice}")
    print(f"{total.events} events, {total.effects} effects, {total.ended} runs ended; {seconds:.0f} s")
    return 1 if total.failures or total.differ else 0


def _tallies(first: int, seeds: int, jobs: int, plant: str | None) -> Iterator[Tally]:
    chunks = [(at, min(CHUNK, first + seeds - at), plant) for at in range(first, first + seeds, CHUNK)]
    if jobs <= 1:
        yield from map(run_seeds, chunks)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(run_seeds, chunks)


def _report(result: Result, plant: str | None) -> None:
    print(f"seed {result.seed} FAILED: {result.failure}")
    print("\n".join(f"    {line[:180]}" for line in result.lines[-12:]))
    print(f"  see it: python -m tests.sim --seed {result.seed} --trace{f' --plant {plant}' if plant else ''}")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:60}", end="" if text else "\r", file=sys.stderr, flush=True)


def find_bugs(names: list[str], first: int, seeds: int, jobs: int) -> int:
    """Plant each bug and say which seed finds it."""
    tasks = [(name, first, seeds) for name in names]
    found: list[int] = []
    missed = []
    with multiprocessing.get_context("fork").Pool(max(jobs, 1)) as pool:
        for name, seed, violated in pool.imap(_hunt, tasks):
            if seed is None:
                missed.append(name)
            else:
                found.append(seed - first + 1)
            where = "NOT FOUND" if seed is None else f"seed {seed:4}: {violated}"
            print(f"{name:34} {where}\n{'':34}   {BUGS[name].sentence}", flush=True)
    if found:
        print(
            f"{len(found)} of {len(names)} bugs found; seeds needed: median {median(found):.0f}, at most {max(found)}"
        )
    return 1 if missed else 0


def _hunt(task: tuple[str, int, int]) -> tuple[str, int | None, str]:
    name, first, seeds = task
    with BUGS[name].planted():
        for seed in range(first, first + seeds):
            result = simulate(seed)
            if result.failure is not None:
                return name, seed, str(result.failure)[:120]
    return name, None, ""


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") is None:
        # Nothing may depend on it; that is checked with several values by the tests, not left to chance here.
        os.environ["PYTHONHASHSEED"] = "0"
    sys.exit(main())
