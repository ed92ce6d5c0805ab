"""What makes a campaign of a hundred thousand seeds affordable, without leaving out anything that is under test.

A definition is compiled, digested and read back from its canonical bytes again and again by engines that start anew.
Here that is done once in a process: in fifteen of sixteen seeds. The others go the whole way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jamjet_dsl.definition import Definition
from jamjet_dsl.engine import journal as journal_module
from jamjet_dsl.engine import loading as loading_module
from jamjet_dsl.engine import programs as programs_module
from jamjet_dsl.engine import watching as watching_module
from jamjet_dsl.engine.loading import Pinned
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.ports import Store
from tests.sim.programs import Subject

_programs: dict[int, tuple[Definition, Program]] = {}
_real_program = Program.of.__func__  # type: ignore[attr-defined]
_real_pinned = loading_module.pinned
_subjects: dict[str, Subject] = {}


def known(subject: Subject) -> None:
    """A program that a simulation will start."""
    _subjects[subject.definition.digest] = subject


def _program(cls: type[Program], defn: Definition) -> Program:
    found = _programs.get(id(defn))
    if found is None:
        found = _programs[id(defn)] = (defn, cls(defn))
    return found[1]


def _pinned(store: Store, definition: str, source: str) -> Pinned:
    found = _subjects.get(definition)
    if found is None:
        return _real_pinned(store, definition, source)
    return Pinned(found.compiled, definition, source, None)


@contextmanager
def shortened(poll_ms: int, every: int, at_rest: int, whole: bool) -> Iterator[None]:
    """Poll more rarely, take snapshots more often and, unless `whole`, read definitions once."""
    kept: list[tuple[Any, str, Any]] = []

    def put(where: Any, name: str, value: Any) -> None:
        kept.append((where, name, getattr(where, name)))
        setattr(where, name, value)

    put(watching_module, "POLL_MS", poll_ms)
    put(journal_module, "SNAPSHOT_EVERY", every)
    put(journal_module, "SNAPSHOT_AT_REST", at_rest)
    if not whole:
        put(programs_module, "pinned", _pinned)
        kept.append((Program, "of", classmethod(_real_program)))
        Program.of = classmethod(_program)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        for where, name, value in reversed(kept):
            setattr(where, name, value)
