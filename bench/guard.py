"""Times the guard that the README states: `python bench/guard.py`."""

from __future__ import annotations

import time
import timeit

from jamjet_dsl.analysis.lower_expr import lower_expr
from jamjet_dsl.kernel.expr import compile_guard
from jamjet_dsl.source import SourceFile
from jamjet_dsl.syntax.parser import parse_expression

GUARD = 'report.score >= 720 && !report.flags.exists(f, f == "fraud")'
LIMITS_US = {0: 1.0, 3: 2.0}


def typed(tree: object) -> object:
    """The lowered guard as a program has it: a dotted name is a variable and its fields."""
    if not isinstance(tree, list):
        return tree
    if tree[:1] == ["qualified"]:
        made: list[object] = ["var", tree[1][0]]
        for field in tree[1][1:]:
            made = ["select", made, field]
        return made
    return [typed(part) for part in tree]


def measure(flags: int) -> float:
    """Microseconds for one evaluation, the best of seven."""
    expr, _ = parse_expression(SourceFile("<guard>", GUARD))
    lowered = typed(lower_expr(expr, None))
    assert isinstance(lowered, list)
    guard = compile_guard(lowered)
    env = {"report": {"score": 760, "flags": ["late", "moved", "new"][:flags]}, "app": {"amount": 1}, "round": 2}
    assert guard(env) is True
    count = 100_000
    names = {"guard": guard, "env": env}
    times = timeit.repeat("guard(env)", globals=names, number=count, repeat=7, timer=time.process_time)
    return min(times) / count * 1e6


def main() -> None:
    """Prints one line for each number of flags."""
    print(GUARD)
    for flags, limit in LIMITS_US.items():
        print(f"  {flags} flags: {measure(flags):.2f} µs (to reach: {limit:g} µs)")


if __name__ == "__main__":
    main()
