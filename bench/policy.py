"""What a decision costs: `python -m bench.policy`, `./dev bench policy`.

`decide` is the kernel's own function, over the state that a run has; `fence` is `Fence.decide`, which also checks and
digests the arguments, as another framework would use it. Rules are spread over ten tools (each call concerns a tenth of
them) or all about the tool that is called. Figures are medians of single decisions; of several rounds the best and the
median one are told, and what is compared is taken by turns, so that both had the same machine.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable
from statistics import median
from time import perf_counter_ns
from typing import Any

from jamjet_dsl import compile_text
from jamjet_dsl.definition import Definition
from jamjet_dsl.engine.advance import advance, used_by_nobody
from jamjet_dsl.engine.chance import SystemChance
from jamjet_dsl.kernel import inputs, rules
from jamjet_dsl.kernel.machine import initial
from jamjet_dsl.kernel.model import Call
from jamjet_dsl.kernel.policy import Fence
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.scope import scope_of

TOOLS = tuple(f"t{n}" for n in range(10))
AT_MS = 1_700_000_000_000
TO_REACH_US = 20.0
"""The median of a decision at 100 rules."""
RULES = (10, 100, 1_000)
HISTORY = (1, 10, 100, 1_000, 10_000)
SHAPES = ("spread", "same")
Figures = dict[str, list[float]]


def rule(n: int, tool: str) -> str:
    """The nth rule, of all kinds by turns. None of them stands against the calls that are made here."""
    other = TOOLS[(int(tool[1:]) + 1) % len(TOOLS)]
    match n % 8:
        case 0:
            return f'forbid {tool} when args.n > {1_000_000 + n} && args.id != "x{n}"'
        case 1:
            return f"forbid {tool} when attempted({other}, id = args.id) > {1_000_000 + n}"
        case 2:
            return f"limit {tool} {1_000_000 + n} calls per args.id"
        case 3:
            return f"limit {tool} total args.n <= {1_000_000_000 + n} per minute"
        case 4:
            return f"never {tool} after never_called when args.n >= 0"
        case 5:
            return f"require {other}(id = args.id, n = args.n) before {tool} when args.n > {2_000_000 + n}"
        case 6:
            return f"allow {tool} when args.n < {1_000_000 + n}"
    return f'forbid {tool} when principal.id == "nobody{n}" || untrusted(args.id)'


def program(count: int, shape: str, body: str = "") -> Definition:
    """An agent with so many rules. Every tool is called from its states, so that all are part of the definition."""
    chosen = [TOOLS[n % len(TOOLS)] if shape == "spread" else TOOLS[0] for n in range(count - 1)]
    # By tens, each tool (or the one) has rules of every kind.
    written = [rule(n // len(TOOLS) if shape == "spread" else n, tool) for n, tool in enumerate(chosen)]
    tools = "\n".join(f"tool {name}(id: string, n: int) -> int {{ effect reads }}" for name in (*TOOLS, "never_called"))
    policy = "\n".join(["    allow any", *(f"    {text}" for text in written)])
    states = body or "start state s { -> done }"
    return compile_text(f"""
{tools}
model m {{ via openai "x" }}
agent bench {{
  input goal: int
  var n: int = 0
  var who: string = "a"
  budget {{ steps 10000000  exceeded -> over }}
  policy {{
{policy}
  }}
  on error any -> over
  on denied -> over
  {states}
  state offered {{ think "?" model m max prompt 1k max tokens 9 tools {", ".join(TOOLS)} as move  -> over }}
  final done {{}}
  failed over {{}}
}}
""").definition


class Decisions:
    """Decisions of one policy after so many calls."""

    def __init__(self, definition: Definition, earlier: int) -> None:
        self.fence = Fence(definition, principal={"id": "ann"}, variables={"goal": 1}, now_ms=AT_MS)
        for n in range(earlier):
            name = TOOLS[n % len(TOOLS)]
            self.fence.record(name, {"id": f"id{n % 50}", "n": n % 7}, result=1, at_ms=AT_MS + n * 1_000)
        self.at_ms = AT_MS + earlier * 1_000
        self.args: dict[str, Any] = {"id": "id7", "n": 3}
        self.state, self.frame = self.fence._state, self.fence._frame

    def decide(self) -> Any:
        """The kernel's decision, in the scope of a state's expressions."""
        scope = scope_of(self.fence.program, self.state, self.frame)
        return rules.decide(self.fence.program, self.state, "", scope, "#1.1", TOOLS[0], self.args, ())

    def by_fence(self) -> Any:
        """The same with what a fence does around it."""
        return self.fence.decide(TOOLS[0], self.args, at_ms=self.at_ms)


def p50_us(decide: Callable[[], Any], count: int) -> float:
    """The median of so many single decisions, in microseconds."""
    taken = []
    for _ in range(count):
        began = perf_counter_ns()
        decide()
        taken.append(perf_counter_ns() - began)
    return median(taken) / 1_000


def by_turns(cases: dict[str, Callable[[], Any]], count: int, rounds: int) -> Figures:
    """The medians of every case in every round."""
    for decide in cases.values():
        assert decide().verdict == "allowed"
        p50_us(decide, 200)
    found: Figures = {name: [] for name in cases}
    for _ in range(rounds):
        for name, decide in cases.items():
            found[name].append(p50_us(decide, count))
    return found


STEPS = """start state a { call t0(who, n) as got  set n = n + 1  when n < goal -> b  otherwise -> done }
  state b { call t0(who, n) as got  set n = n + 1  when n < goal -> a  otherwise -> done }"""


def step_us(definition: Definition, steps: int) -> float:
    """One step of a run in memory (deciding the call, its outcome and the transition), in microseconds. The run's time
    goes on by a second with each."""
    ready, chance = Program.of(definition), SystemChance()
    happened = inputs.started(ready, {"goal": steps}, {"id": "ann"}, "0" * 64)
    state, began, now_ms = initial("bench"), perf_counter_ns(), AT_MS
    while True:
        now_ms += 1_000
        step = advance(ready, state, [happened], now_ms, chance, lambda use: None, used_by_nobody)
        state = step.state
        if step.ended:
            assert state.status == "completed"
            return (perf_counter_ns() - began) / steps / 1_000
        (call,) = step.effects.values()
        assert isinstance(call, Call)
        happened = inputs.succeeded(ready, state, call, 1, None, 0)


def measure(count: int, rounds: int, most_history: int, steps: int) -> dict[str, Figures]:
    """All figures, in microseconds."""
    made = {(n, shape): Decisions(program(n, shape), 20) for n in RULES for shape in SHAPES}
    past = {n: Decisions(program(100, "spread"), n) for n in HISTORY if n <= most_history}
    runs = {n: program(n, "spread", STEPS) for n in (1, *RULES)}
    gc.collect()
    gc.freeze()
    figures = {
        "rules": by_turns({f"{n} {shape}": one.decide for (n, shape), one in made.items()}, count, rounds),
        "fence": by_turns({f"{n} {shape}": one.by_fence for (n, shape), one in made.items()}, count, rounds),
        "history": by_turns({str(n): one.decide for n, one in past.items()}, count, rounds),
    }
    taken: Figures = {str(n): [] for n in runs}
    for _ in range(rounds):
        for n, definition in runs.items():
            taken[str(n)].append(step_us(definition, steps))
    return {**figures, "step": taken}


def told(figures: dict[str, Figures]) -> str:
    """The figures as text: the best and the median round, and the ratios."""
    lines = []
    titles = {
        "rules": "a decision of the kernel, by rules (all, and how they are spread)",
        "fence": "the same with arguments checked and digested (`Fence.decide`)",
        "history": "a decision at 100 rules, by earlier calls",
        "step": "a step of a run in memory, its call decided by so many rules",
    }
    for part, title in titles.items():
        lines.append(f"{title}: best and median, µs")
        first = next(iter(figures[part].values()))
        for name, values in figures[part].items():
            ratio = median(value / base for value, base in zip(values, first, strict=True))
            lines.append(f"  {name:>12}  {min(values):8.1f}  {median(values):8.1f}   × {ratio:.2f}")
    at_100 = median(figures["rules"]["100 spread"])
    lines.append(f"at 100 rules: {at_100:.1f} µs (to reach: {TO_REACH_US:g} µs)")
    return "\n".join(lines)


def main(args: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.policy", description=__doc__)
    parser.add_argument("--count", type=int, default=2_000, help="decisions of a case in a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--history", type=int, default=HISTORY[-1], help="at most so many earlier calls")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", help="write the figures of every round to this file, as JSON")
    options = parser.parse_args(args)
    figures = measure(options.count, options.rounds, options.history, options.steps)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
    print(told(figures))


if __name__ == "__main__":
    main()
