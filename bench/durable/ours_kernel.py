"""This kernel alone, in memory: `apply` and `decide` in a loop, with guards and a budget, nothing stored.

`set`: a line of states, each sets a variable and asks a guard; no policy, no tool. It is no circle, since the language
refuses one in which nothing is done.
`call`: two states that go back and forth, each step is the outcome of a tool that reads, and the transition after it.
`set-advance`, `call-advance`: the same through the function that the engine uses, which decides and folds until a run
wants something of the world.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from bench.durable.job import MARK, timed
from jamjet_dsl import compile_text
from jamjet_dsl.engine.advance import advance, used_by_nobody
from jamjet_dsl.engine.chance import SystemChance
from jamjet_dsl.engine.collector import calm
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import apply, decide, initial
from jamjet_dsl.kernel.model import ENDED, Call, Event, Record, RunState
from jamjet_dsl.kernel.program import Program

HEAD = """
record Config { retry: int  ok: bool  w: float }
agent flip {
  input goal: int
  output n: int
  var n: int = 0
  var cfg: Config = { retry: 3, ok: true, w: 0.5 }
  var tags: list<string> = ["alpha", "beta"]
  var pad: string = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
  budget { steps 10000000  time 7d  exceeded -> over }
"""
TAIL = "  failed over { n = n }\n}\n"
LENGTH = 100
"""States of the line: as many as a large program has."""
SETS = (
    "".join(
        f"  {'' if n else 'start '}state s{n} {{ set n = n + 1  when n <= goal -> s{n + 1}  otherwise -> over }}\n"
        for n in range(LENGTH)
    )
    + f"  final s{LENGTH} {{ n = n }}\n"
)
TOOL = "tool inc(n: int) -> int { effect reads }\n"
CALLS = """
  on error any -> over
  start state a { call inc(n) as n  when n < goal -> b  otherwise -> done }
  state b { call inc(n) as n  when n < goal -> a  otherwise -> done }
  final done { n = n }
"""
AT_MS = 1_700_000_000_000


def started(program: Program, goal: int) -> RunState:
    """A run after its first event."""
    kind, body = inputs.started(program, {"goal": goal}, {"id": "bench"}, "0" * 64)
    return apply(program, initial("bench"), Event("bench", 1, AT_MS, kind, body))


def follow(program: Program, state: RunState) -> tuple[RunState, Call | None]:
    """Journal decisions until the run has ended or wants a call."""
    while state.status not in ENDED:
        for command in decide(program, state):
            if isinstance(command, Call):
                return state, command
            if isinstance(command, Record):
                event = Event("bench", state.seq + 1, AT_MS + state.seq, command.kind, command.body)
                state = apply(program, state, event)
                break
        else:
            raise RuntimeError(f"the run stands still at {state.seq}")
    return state, None


def sets(program: Program, goal: int) -> RunState:
    """A run without calls."""
    return follow(program, started(program, goal))[0]


def calls(program: Program, goal: int) -> RunState:
    """A run of calls, each performed at once."""
    state, call = follow(program, started(program, goal))
    while call is not None:
        kind, body = inputs.succeeded(program, state, call, call.args["n"] + 1, None, 0)
        state = apply(program, state, Event("bench", state.seq + 1, AT_MS + state.seq, kind, body))
        state, call = follow(program, state)
    return state


def advances(program: Program, goal: int) -> RunState:
    """The same runs by `advance`: without calls all of it at once."""
    chance = SystemChance()
    happened = inputs.started(program, {"goal": goal}, {"id": "bench"}, "0" * 64)
    state = initial("bench")
    while True:
        step = advance(program, state, [happened], AT_MS, chance, lambda use: None, used_by_nobody)
        state = step.state
        if step.ended:
            return state
        (call,) = step.effects.values()
        assert isinstance(call, Call)
        happened = inputs.succeeded(program, state, call, call.args["n"] + 1, None, 0)


def main() -> None:
    """Make about as many transitions as were asked for, in runs of one length."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder")
    parser.add_argument("--job", choices=["set", "call", "set-advance", "call-advance"], required=True)
    parser.add_argument("--events", type=int, required=True)
    options = parser.parse_args()
    setting, calling = HEAD + SETS + TAIL, TOOL + HEAD + "  policy { allow inc }\n" + CALLS + TAIL
    jobs: dict[str, tuple[str, Callable[[Program, int], RunState]]] = {
        "set": (setting, sets),
        "call": (calling, calls),
        "set-advance": (setting, advances),
        "call-advance": (calling, advances),
    }
    text, run = jobs[options.job]
    program = Program.of(compile_text(text).definition)
    calm()

    def fire(events: int) -> int:
        made = 0
        for _ in range(events // LENGTH):
            state = run(program, LENGTH)
            made += int(state.vars["n"]) if state.status == "completed" else 0
        return made

    print(MARK + json.dumps(timed(fire, options.events)), flush=True)


if __name__ == "__main__":
    main()
