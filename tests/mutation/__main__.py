"""Mutation testing of the kernel: every small change of it has to be noticed by a test.

python -m tests.mutation [--limit N] [--module M] [--seed S] [--jobs J] [--survivors FILE]

Each mutant runs in a process of its own, forked from one that has everything else loaded already: first the engine is
compared with the reference interpreter on programs whose runs were worked out before, then the kernel's tests run.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.util
import io
import os
import random
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest

from jamjet_dsl.compiler import compile_text
from tests.mutation.mutants import Mutant, mutants
from tests.reference import programs
from tests.reference.interpreter import Run, seen
from tests.reference.world import World

ROOT = Path(__file__).resolve().parents[2]
KERNEL = ROOT / "jamjet_dsl" / "kernel"
RELOADED = ("jamjet_dsl.kernel", "jamjet_dsl.engine", "tests.reference.engine", "tests.kernel", "tests.semantics")
SLOW = ("test_expr_oracle", "test_expr_spec", "test_quick", "test_reference", "test_stateful")
"""Left out: they are about expressions and their speed, or are what the first stage does."""
MOST_SECONDS = 90
SAMPLE = 80
"""Programs of the first stage, three worlds each."""


class Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from other text."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.source, f"{self.name} (mutated)", "exec"), module.__dict__)


def sample() -> list[tuple[Any, World, dict[str, Any]]]:
    """Definitions with worlds, and what the reference says of them."""
    found = []
    for seed in range(SAMPLE):
        text = programs.program(seed)
        definition = compile_text(text).definition
        for n in range(3):
            world = programs.world(seed * 3 + n, crash=n == 1)
            found.append((definition, world, seen(Run(text, world).go())))
    return found


def noticed(known: list[tuple[Any, World, dict[str, Any]]]) -> str | None:
    """By which stage the loaded kernel is found to be another one; None if it is not. Runs in a process of its own."""
    try:
        from tests.reference import engine

        for definition, world, expected in known:
            if engine.seen(engine.play(definition, world)) != expected:
                return "reference"
    except Exception:
        return "reference"
    hypothesis.settings.register_profile("mutation", max_examples=15, derandomize=True, database=None)
    hypothesis.settings.load_profile("mutation")
    ignored = [f"--ignore=tests/kernel/{name}.py" for name in SLOW]
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *ignored, "tests/kernel"]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return "tests" if pytest.main(arguments) else None


def killed(
    module: str, source: str, mutant: Mutant | None, known: list[tuple[Any, World, dict[str, Any]]]
) -> str | None:
    """What kills a mutant (None: the module as it is): reference, tests or time; None if it survives."""
    child = os.fork()
    if child == 0:
        signal.alarm(MOST_SECONDS)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        sys.meta_path.insert(0, Mutated(module, source if mutant is None else mutant.applied(source)))
        os._exit({"reference": 10, "tests": 11, None: 0}[noticed(known)])
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "time"
    return {10: "reference", 0: None}.get(os.WEXITSTATUS(status), "tests")


def forget() -> None:
    """Unload the kernel and what was built on it, so that each child loads its own."""
    for name in [name for name in sys.modules if name.startswith(RELOADED)]:
        del sys.modules[name]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--limit", type=int, help="so many mutants, drawn by chance")
    parser.add_argument("--module", help="only this module of the kernel, such as `leave`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--survivors", type=Path, help="write them to this file")
    given = parser.parse_args()
    os.chdir(ROOT)
    began, known = time.monotonic(), sample()
    todo = [
        (f"jamjet_dsl.kernel.{path.stem}", path.read_text(), mutant)
        for path in sorted(KERNEL.glob("*.py"))
        if path.stem != "__init__" and given.module in (None, path.stem)
        for mutant in mutants(path.read_text())
    ]
    if given.limit is not None and given.limit < len(todo):
        todo = random.Random(given.seed).sample(todo, given.limit)
    forget()
    module, source, _ = todo[0]
    without = killed(module, source, None, known)
    if without is not None:
        print(f"the {without} fails without any change: nothing can be said of mutants")
        return 2
    by: dict[str | None, int] = {}
    survivors: list[str] = []
    with ThreadPoolExecutor(given.jobs) as pool:
        for (module, _, mutant), how in zip(todo, pool.map(lambda item: killed(*item, known), todo), strict=True):
            by[how] = by.get(how, 0) + 1
            if how is None:
                survivors.append(f"{module.rpartition('.')[2]}:{mutant.line}: {mutant.what}")
                print(survivors[-1], flush=True)
    if given.survivors is not None:
        given.survivors.write_text("\n".join(survivors) + "\n")
    dead = len(todo) - by.get(None, 0)
    share = 100 * dead / max(len(todo), 1)
    print(f"{len(todo)} mutants, {dead} killed ({share:.1f} %), by {by} in {time.monotonic() - began:.0f} s")
    return 0 if share >= 90 else 1


if __name__ == "__main__":
    sys.exit(main())
