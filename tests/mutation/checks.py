"""What a mutant has to get past, which lines each of these checks runs, and how long it takes."""

from __future__ import annotations

import hashlib
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from jamjet_dsl.compiler import compile_text
from tests.reference import engine, programs
from tests.reference.interpreter import Run, seen

PROGRAMS = 80
"""Random programs on which the engine is compared with the reference, in three worlds each."""

Line = tuple[str, int]


@dataclass
class Check:
    """Something that fails if the kernel is not what it should be."""

    name: str
    passes: Callable[[], bool]
    seconds: float = 0.0
    """How long it took while its lines were recorded, in processor time."""
    lines: frozenset[Line] = frozenset()
    source: Path = Path(__file__)
    """The file that says what it does."""


def against_reference() -> Iterator[Check]:
    """The engine does in a world what the reference interpreter does there, which is worked out here and now."""
    for seed in range(PROGRAMS):
        text = programs.program(seed)
        definition = compile_text(text).definition
        for n in range(3):
            world = programs.world(seed * 3 + n, crash=n == 1)
            expected = seen(Run(text, world).go())
            yield Check(f"reference, program {seed}, world {n}", partial(_same, definition, world, expected))


def _same(definition: Any, world: Any, expected: dict[str, Any]) -> bool:
    return engine.seen(engine.play(definition, world)) == expected


def test(item: pytest.Item) -> Check:
    """A test that pytest has collected, with fixtures of its own."""

    def passes() -> bool:
        before = item.session.testsfailed
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        return item.session.testsfailed == before

    return Check(item.nodeid, passes, source=item.path)


def record(check: Check, folder: Path) -> bool:
    """Run a check on the kernel as it is, and note what it runs of the modules in `folder`. False if it fails."""
    began = time.process_time()
    with _traced(str(folder)) as lines:
        passed = check.passes()
    check.seconds, check.lines = time.process_time() - began, frozenset(lines)
    return passed


@contextmanager
def _traced(folder: str) -> Iterator[set[Line]]:
    lines: set[Line] = set()

    def local(frame: FrameType, event: str, arg: object) -> Any:
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    def call(frame: FrameType, event: str, arg: object) -> Any:
        name = frame.f_code.co_filename
        return local if name.startswith(folder) and "/" not in name[len(folder) + 1 :] else None

    threading.settrace(call)
    sys.settrace(call)
    try:
        yield lines
    finally:
        sys.settrace(None)
        threading.settrace(None)


class Recording:
    """What was recorded of checks before, in a file; it holds for the same kernel and the same text of the check."""

    def __init__(self, path: Path | None, folder: Path) -> None:
        self._path, self._digests = path, dict[Path, str]()
        modules = "".join(self._digest(module) for module in sorted(folder.rglob("*.py")))
        self._kernel = hashlib.sha256(modules.encode()).hexdigest()[:16]
        self._known: dict[str, tuple[str, float, frozenset[Line]]] = {}
        if path is not None and path.exists():
            self._known = pickle.loads(path.read_bytes())

    def fills(self, check: Check) -> bool:
        """Give a check what is known of it; False if that is nothing."""
        key, seconds, lines = self._known.get(check.name, ("", 0.0, frozenset()))
        if key != self._key(check):
            return False
        check.seconds, check.lines = seconds, lines
        return True

    def keep(self, checks: list[Check]) -> None:
        """Write down what is known now."""
        if self._path is not None:
            known = {check.name: (self._key(check), check.seconds, check.lines) for check in checks}
            self._path.write_bytes(pickle.dumps(known))

    def _key(self, check: Check) -> str:
        return self._digest(check.source) + self._kernel

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return self._digests[path]
