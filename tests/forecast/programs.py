"""Generated programs whose chains can be written down without the kernel, and their naive solution.

A program is a graph of calls: each has a reliability and retries, leads on by one of a few edges with given odds, may
go back by an edge with a limit, and fails to a handler, to a failed final, or parks. `solution` writes the transition
matrix from that description alone and solves it exactly, by elimination over fractions.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

DONE, FAILED = "done", "gave_up"


@dataclass(frozen=True)
class Exit:
    """One edge: where to, how likely, and after how many times where to instead."""

    to: str
    odds: Fraction
    limit: int | None = None
    instead: str = ""


@dataclass(frozen=True)
class Call:
    """One state: `s1` calls the tool `t1`. `on_error` None: nothing handles a failure, and the run parks."""

    number: int
    works: Fraction
    retries: int
    exits: tuple[Exit, ...]
    on_error: str | None

    @property
    def name(self) -> str:
        return f"s{self.number}"


@dataclass(frozen=True)
class Description:
    calls: tuple[Call, ...]
    crash: Fraction

    def text(self) -> str:
        """The program."""
        lines = ["language 1"]
        for call in self.calls:
            again = f"  retry Unavailable {call.retries} times" if call.retries else ""
            lines.append(f'tool t{call.number}() -> int {{ via python "x:y"  effect reads{again} }}')
        lines += ["agent made version 1 {", "  input n: int", "  policy { allow any reads }"]
        for call in self.calls:
            lines.append(f"  {'start ' if call.number == 0 else ''}state {call.name} {{")
            lines.append(f"    call t{call.number}()")
            if call.on_error is not None:
                lines.append(f"    on error any -> {call.on_error}")
            for number, edge in enumerate(call.exits):
                last = edge is call.exits[-1]
                guard = "" if len(call.exits) == 1 else "otherwise " if last else f"when n > {-number} "
                bound = f" limit {edge.limit} else {edge.instead}" if edge.limit is not None else ""
                lines.append(f"    {guard}-> {edge.to}{bound}")
            lines.append("  }")
        lines += [f"  final {DONE} {{}}", f"  failed {FAILED} {{}}", "}"]
        return "\n".join(lines)

    def said(self) -> dict[str, Any]:
        """What is to be said of it: arguments of `Given`."""
        return {
            "reliability": {f"t{call.number}": float(call.works) for call in self.calls},
            "take": {
                call.name: {_edge(call, n): float(edge.odds) for n, edge in enumerate(call.exits)}
                for call in self.calls
                if len(call.exits) > 1
            },
            "crash": float(self.crash),
        }


def _edge(call: Call, number: int) -> str:
    """The edge's id: its trigger, and the how manieth of its kind it is."""
    return "otherwise#0" if number == len(call.exits) - 1 else f"when#{number}"


def described(seed: int) -> Description:
    """A program of two to six calls. Edges lead on, but for at most two that go back and have a limit."""
    chance = random.Random(seed)
    size = chance.randint(2, 6)
    back = chance.randint(0, 2)
    calls = []
    for number in range(size):
        exits: list[Exit] = []
        later = [f"s{n}" for n in range(number + 1, size)] + [DONE]
        weights = [chance.randint(1, 6) for _ in range(chance.randint(1, 3))]
        for at, weight in enumerate(weights):
            odds = Fraction(weight, sum(weights))
            if at == 0 and back and number and len(weights) > 1:
                back -= 1
                exits.append(Exit(f"s{chance.randrange(number + 1)}", odds, chance.randint(1, 3), chance.choice(later)))
            else:
                # Every state has to be reachable: its own successor comes first.
                exits.append(Exit(later[0] if at == len(weights) - 1 else chance.choice(later), odds))
        on_error = chance.choice((None, FAILED, chance.choice(later)))
        calls.append(Call(number, Fraction(chance.randint(8, 20), 20), chance.randint(0, 2), tuple(exits), on_error))
    return Description(tuple(calls), chance.choice((Fraction(0), Fraction(1, 20), Fraction(3, 10))))


@dataclass(frozen=True)
class Solution:
    """The odds of each end, and the expected number of steps."""

    ends: dict[str, Fraction]
    steps: Fraction


def solution(made: Description, retries: bool = True, checkpoints: bool = True) -> Solution:
    """The fundamental matrix, from the description alone: (state, counters of limited edges, attempt) are the transient
    states, and the system is solved by Gaussian elimination with fractions."""
    calls = {call.name: call for call in made.calls}
    rows: dict[Any, dict[Any, Fraction]] = {}
    todo: list[Any] = [("s0", (), 0)]
    ends = (DONE, FAILED, "parked", "lost")

    def entered(name: str, counters: tuple[Any, ...]) -> Any:
        return name if name in ends else (name, counters, 0)

    while todo:
        at = todo.pop()
        if at in rows or at in ends:
            continue
        name, counters, attempt = at
        call, row = calls[name], dict[Any, Fraction]()

        def add(to: Any, chance: Fraction, row: dict[Any, Fraction] = row) -> None:
            row[to] = row.get(to, Fraction(0)) + chance

        alive = 1 - made.crash
        if made.crash:
            add(at if checkpoints else "lost", made.crash)
        if call.works < 1:
            if retries and attempt < call.retries:
                add((name, counters, attempt + 1), alive * (1 - call.works))
            elif call.on_error is None:
                add("parked", alive * (1 - call.works))
            else:
                add(entered(call.on_error, counters), alive * (1 - call.works))
        for number, edge in enumerate(call.exits):
            if edge.limit is None:
                add(entered(edge.to, counters), alive * call.works * edge.odds)
                continue
            used = dict(counters)
            if used.get((name, number), 0) >= edge.limit:
                add(entered(edge.instead, counters), alive * call.works * edge.odds)
            else:
                used[name, number] = used.get((name, number), 0) + 1
                add(entered(edge.to, tuple(sorted(used.items()))), alive * call.works * edge.odds)
        rows[at] = row
        todo += row
    # A step is counted where a state is entered: not for a further attempt, nor for one made again after a crash.
    steps = {
        at: sum((p for to, p in row.items() if to in rows and to[2] == 0 and to != at), Fraction(0))
        for at, row in rows.items()
    }
    wanted = {**{end: {at: row.get(end, Fraction(0)) for at, row in rows.items()} for end in ends}, "steps": steps}
    solved = _solved(rows, wanted)
    return Solution({end: solved[end] for end in ends}, solved["steps"] + 1)


def _solved(rows: dict[Any, dict[Any, Fraction]], wanted: dict[str, dict[Any, Fraction]]) -> dict[str, Fraction]:
    """x = b + Px for each right side b, at the first state: the others are eliminated, the last one first."""
    order = list(rows)
    rest = {at: {to: p for to, p in row.items() if to in rows} for at, row in rows.items()}
    right = {name: dict(b) for name, b in wanted.items()}
    for pivot in reversed(order):
        loop = 1 - rest[pivot].pop(pivot, Fraction(0))
        row = {to: p / loop for to, p in rest[pivot].items()}
        for b in right.values():
            b[pivot] /= loop
        for at in order:
            if at == pivot or pivot not in rest[at]:
                continue
            weight = rest[at].pop(pivot)
            for to, p in row.items():
                rest[at][to] = rest[at].get(to, Fraction(0)) + weight * p
            for b in right.values():
                b[at] += weight * b[pivot]
        rest[pivot] = {}

    return {name: b[order[0]] for name, b in right.items()}
