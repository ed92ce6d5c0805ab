"""Times `jam verify` on programs of growing size: `./dev bench verify`.

A program of N states is a chain with a guard, a retry, an error and an approval in turn, and five properties. Beside
its time stands that of a bare breadth-first search over the graph that was found: the least any search could take.
"""

from __future__ import annotations

import time
from collections import deque

from jamjet_dsl.compiler import analyse_text, lower_for_drawing
from jamjet_dsl.verify.check import verify
from jamjet_dsl.verify.explore import Explored, explore
from jamjet_dsl.verify.properties import asked_of

SIZES = (30, 100, 300, 1_000)
TO_REACH_S = {30: 0.5, 1_000: 10.0}
_TOOLS = """
tool look(n: int) -> int { effect reads  raises Gone }
tool book(n: int) -> string { effect writes  key run.id + string(n) }
tool pay(n: int) -> string { effect irreversible  key run.id }
"""


def program(states: int) -> str:
    """A program of so many states."""
    lines = [
        "agent chain version 1 {",
        "  input n: int",
        f"  budget {{ steps {2 * states}  exceeded -> over }}",
        "  policy { allow any  require approval s1 before pay }",
        "  check every path to done passes s1",
        "  check no path calls pay twice",
        "  check never pay unless s1 answers approve",
        "  check every cycle is bounded",
        "  check from any state a final is reachable",
        "  on error any -> over",
        "  on in_doubt -> over",
        "  on denied -> over",
        "  start state s0 { call look(n) as v0  -> s1 }",
        '  state s1 { ask role "r" to pay(n) "Pay?" options approve, no as d  on approve -> s2  on no -> over }',
        "  state s2 { call approved pay  -> s3 }",
    ]
    for number in range(3, states):
        onward = f"s{number + 1}" if number + 1 < states else "done"
        match number % 3:
            case 0:
                act = f"call look(n) as v{number}  when v{number} > {number} -> {onward}  otherwise -> {onward}"
            case 1:
                act = f"call book(n) retry Unavailable 2 times  -> {onward}"
            case _:
                act = f"call look({number}) on error Gone -> {onward}  -> {onward}"
        lines.append(f"  state s{number} {{ {act} }}")
    lines += ["  final done {}", "  failed over {}", "}"]
    return _TOOLS + "\n".join(lines)


def searched(found: Explored) -> float:
    """Seconds of a bare breadth-first search over what was found."""
    began = time.perf_counter()
    seen = {step.target.number for step in found.first}
    todo = deque(seen)
    while todo:
        for step in found.nodes[todo.popleft()].steps:
            if step.target.number not in seen:
                seen.add(step.target.number)
                todo.append(step.target.number)
    return time.perf_counter() - began


def main() -> None:
    """Prints one line for each size."""
    for size in SIZES:
        result = analyse_text(program(size))
        compiled = lower_for_drawing(result)
        (info,) = result.analysis.main_agents()
        began = time.perf_counter()
        found = verify(compiled.definition, asked_of(info, result.analysis), most=100_000)
        took = time.perf_counter() - began
        verdicts = ", ".join(sorted({answer.verdict for answer in found.answers}))
        bare = searched(explore(compiled.definition, 100_000))
        reach = f" (to reach: {TO_REACH_S[size]:g} s)" if size in TO_REACH_S else ""
        print(
            f"{size:>5} states: {took:6.2f} s{reach}; {found.states:,} states of runs and {found.steps:,} steps,"
            f" {found.states / took:,.0f} states a second; a bare search {1000 * bare:.1f} ms; {verdicts}"
        )


if __name__ == "__main__":
    main()
