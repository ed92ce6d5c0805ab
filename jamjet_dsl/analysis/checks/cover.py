"""Which of a list of formulas is ever the first that holds, and what none of them covers: exactly, or not at all.

A region of the space (for each dimension the cells still possible) is split at a test that decides the formula
at hand until the formula has one answer in the whole region; then the region is done (true) or goes on to the
next formula (false). Regions that look alike to all formulas that follow are visited once. Work is counted and
bounded, for one question and for all questions about a program; past a bound the answer is "unknown".
"""

from __future__ import annotations

from collections.abc import Sequence

from jamjet_dsl.analysis.checks.atoms import Atom, Formula, Space
from jamjet_dsl.analysis.checks.intervals import Dim

WORK = 10_000
"""Tests evaluated for one question before the answer is unknown."""

PROGRAM_WORK, WORK_PER_CHARACTER = 150_000, 4
"""Tests evaluated for all questions about a program and what it imports. A guard takes some dozens, so this is for
texts that were made to be slow: 64 KiB of them must be checked in a second."""


class Cover:
    """The answer. `reached` are the formulas that are the first to hold somewhere; `gap` is a region in which none
    holds (for each dimension that matters its cells), or None. Unless `complete`, what is missing from `reached`
    and a `gap` of None mean nothing."""

    __slots__ = ("complete", "gap", "reached")

    def __init__(self) -> None:
        self.reached: set[int] = set()
        self.gap: dict[Dim, int] | None = None
        self.complete = True


def first_match(formulas: Sequence[Formula], space: Space, declared: bool = True) -> Cover:
    """Follows the formulas in order over the space; with `declared` false, declared ranges of types are not used."""
    analysis = space.analysis
    if analysis.guard_work is None:
        size = sum(len(f.program.source.text) for f in analysis.files)
        analysis.guard_work = PROGRAM_WORK + WORK_PER_CHARACTER * size
    found, spent = _follow(formulas, space, declared, min(WORK, analysis.guard_work))
    analysis.guard_work -= spent
    return found


def _follow(formulas: Sequence[Formula], space: Space, declared: bool, limit: int) -> tuple[Cover, int]:
    """The answer, and the work that it took."""
    work = limit
    found = Cover()
    # A declared range that leaves nothing was reported where it stands.
    begin = [dim.declared if declared and dim.declared else dim.full for dim in space.dims]
    uses = _uses_from(formulas, len(begin))
    todo: list[tuple[int, list[int]]] = [(0, begin)]
    seen: set[tuple[int, ...]] = set()
    count = len(formulas)
    while todo:
        at, region = todo.pop()
        if found.gap is not None and len(found.reached) == count:
            break
        if at == count:
            if found.gap is None:
                found.gap = {d: m for d, m, b in zip(space.dims, region, begin, strict=True) if m != b}
            continue
        key = (at, *(region[i] for i in uses[at]))
        if key in seen:
            continue
        seen.add(key)
        work -= len(key)
        decided = _evaluate(formulas[at], region)
        work -= decided[1]
        if work < 0:
            found.complete = False
            break
        match decided[0]:
            case True:
                found.reached.add(at)
            case False:
                todo.append((at + 1, region))
            case Atom() as atom:
                index = atom.dim.index
                for part in (region[index] & atom.mask, region[index] & ~atom.mask):
                    split = region.copy()
                    split[index] = part
                    todo.append((at, split))
    return found, limit - work


def satisfiable(formula: Formula, space: Space, declared: bool = True) -> bool | None:
    """Whether a formula holds somewhere; None where the work it takes is too much."""
    found = first_match((formula,), space, declared)
    return True if found.reached else (False if found.complete else None)


def _uses_from(formulas: Sequence[Formula], dims: int) -> list[list[int]]:
    """For each position the dimensions that the formulas from there on test."""
    uses: list[list[int]] = []
    used: set[int] = set()
    for formula in reversed(formulas):
        before = len(used)
        todo = [formula]
        while todo:
            part = todo.pop()
            if isinstance(part, Atom):
                used.add(part.dim.index)
            elif isinstance(part, tuple):
                todo.extend(part[1])
        uses.append(uses[-1] if uses and len(used) == before else sorted(used))
    uses.reverse()
    return uses


def _evaluate(formula: Formula, region: list[int]) -> tuple[bool | Atom, int]:
    """The answer of a formula in a whole region, or a test that has two answers in it; and how many tests it took."""
    if isinstance(formula, bool):
        return formula, 1
    if isinstance(formula, Atom):
        cells = region[formula.dim.index]
        if not cells & formula.mask:
            return False, 1
        return (True, 1) if not cells & ~formula.mask else (formula, 1)
    op, parts = formula
    work = 1
    if op == "!":
        inner, work = _evaluate(parts[0], region)
        return (not inner if isinstance(inner, bool) else inner), work + 1
    if op in ("==", "?"):
        return _compound(op, parts, region)
    decides = op == "||"
    unknown: Atom | None = None
    for part in parts:
        answer, spent = _evaluate(part, region)
        work += spent
        if answer is decides:
            return decides, work
        if isinstance(answer, Atom) and unknown is None:
            unknown = answer
    return (unknown if unknown is not None else not decides), work


def _compound(op: str, parts: tuple[Formula, ...], region: list[int]) -> tuple[bool | Atom, int]:
    """The answer of `==` and `?`, whose parts all matter; each is evaluated once."""
    test, work = _evaluate(parts[0], region)
    if op == "?" and isinstance(test, bool):
        answer, spent = _evaluate(parts[1] if test else parts[2], region)
        return answer, work + spent + 1
    second, spent = _evaluate(parts[1], region)
    work += spent + 1
    if op == "==":
        if isinstance(test, Atom):
            return test, work
        return (second if isinstance(second, Atom) else test is second), work
    third, spent = _evaluate(parts[2], region)
    return (second if isinstance(second, bool) and second is third else test), work + spent
