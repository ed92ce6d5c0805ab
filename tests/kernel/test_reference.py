"""Random small programs: the kernel and the naive interpreter come to the same end, by the same way."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.budget import amount
from jamjet_dsl.kernel.machine import decide, fold
from jamjet_dsl.kernel.model import Call, Record
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.state_json import decode, encode
from tests.kernel.build import INT, always, final, i, on, program, set_, state, tools, var, when
from tests.kernel.driver import Crash, Driver, Fails
from tests.reference.interpreter import Interpreter

ERRORS = ["Timeout", "Unavailable", "RateLimited", "Mine"]
VARIABLES = ["x", "y"]
KEY = ["select", ["var", "run"], "id"]
TOOLS = {
    "read": d.Tool(params=(), result=INT, effect="reads", raises=("Mine",)),
    "dear": d.Tool(params=(), result=INT, effect="reads", raises=("Mine",), cost="0.30 USD"),
    "write": d.Tool(params=(), result=INT, effect="writes", raises=("Mine",)),
    "keyed": d.Tool(params=(), result=INT, effect="writes", raises=("Mine",), key=KEY, cost="0.10 USD"),
}

numbers = st.integers(-3, 6)
atoms = st.one_of(numbers.map(i), st.sampled_from(VARIABLES).map(var))
terms = st.one_of(atoms, st.tuples(st.sampled_from(["+", "-", "*", "/"]), atoms, atoms).map(list))
guards = st.tuples(st.sampled_from(["<", ">=", "=="]), terms, terms).map(list)
sets = st.lists(st.tuples(st.sampled_from(VARIABLES), terms).map(lambda p: set_(*p)), max_size=2).map(tuple)


@st.composite
def edges(draw: Any, here: int, count: int) -> tuple[d.Edge, ...]:
    """Guards, a way on, and ways out of trouble. What leads back has a limit, so every program ends."""
    names = [f"s{n}" for n in range(count)] + ["end", "bad"]

    def target() -> dict[str, Any]:
        name = draw(st.sampled_from(names))
        back = name.startswith("s") and int(name[1:]) <= here
        more: dict[str, Any] = {"sets": draw(sets)}
        if back or draw(st.booleans()):
            more["limit"] = draw(st.integers(1, 3))
            more["limit_to"] = draw(st.sampled_from(["end", "bad", None]))
        return {"target": name, **more}

    found = [when(draw(guards), n=n, **target()) for n in range(draw(st.integers(0, 2)))]
    found.append(always(**target()))
    if draw(st.booleans()):
        way = {"limit": 2, "limit_to": "bad", **target()}
        found.append(d.Edge(id="on error#0", trigger="error", errors=(draw(st.sampled_from([*ERRORS, "any"])),), **way))
    for trigger in ("denied", "in_doubt"):
        if draw(st.booleans()):
            found.append(on(trigger, draw(st.sampled_from(["end", "bad"]))))
    return tuple(found)


@st.composite
def programs(draw: Any) -> d.Definition:
    count = draw(st.integers(1, 4))
    states: list[Any] = []
    for n in range(count):
        action = None
        if draw(st.booleans()):
            retry = draw(
                st.lists(
                    st.builds(
                        d.Retry,
                        errors=st.sampled_from([*ERRORS, "any"]).map(lambda e: (e,)),
                        times=st.integers(1, 2),
                        backoff_ms=st.sampled_from([0, 100]),
                    ),
                    max_size=2,
                ).map(tuple)
            )
            tool, bind = draw(st.sampled_from(sorted(TOOLS))), draw(st.sampled_from([None, "x"]))
            action = d.Call(tool=tool, bind=bind, retry=retry)
        states.append(state(f"s{n}", action, *draw(edges(n, count)), sets=draw(sets)))
    budget = d.Budget(
        limits=d.Limits(
            steps=draw(st.one_of(st.none(), st.integers(1, 6))),
            cost=draw(st.sampled_from([None, "0.50 USD", "1.00 USD"])),
        ),
        exceeded=draw(st.sampled_from(["over", "end"])),
    )
    allowed = draw(st.lists(st.sampled_from(sorted(TOOLS)), min_size=2, unique=True))
    rules = [d.Rule(kind="allow", tools=tools(*allowed))]
    if draw(st.booleans()):
        limited = tools(*draw(st.lists(st.sampled_from(sorted(TOOLS)), min_size=1, max_size=2, unique=True)))
        rules.append(d.Rule(kind="limit", limit=d.LimitDef(tools=limited, count=draw(st.integers(1, 2)))))
    handlers = draw(st.sampled_from([(), (d.HandlerDef(trigger="error", errors=("any",), target="bad"),)]))
    return program(
        *states,
        final("end", x=var("x")),
        final("bad", failed=True, y=var("y")),
        final("over", failed=True),
        tools=TOOLS,
        vars=tuple(d.VarDef(name=name, type=INT, init=i(n)) for n, name in enumerate(VARIABLES)),
        budget=budget,
        rules=tuple(rules),
        handlers=handlers,
    )


outcomes = st.lists(st.one_of(numbers, st.sampled_from(ERRORS)), min_size=1, max_size=4)
scripts = st.fixed_dictionaries(dict.fromkeys(TOOLS, outcomes))


def drive(definition: d.Definition, script: dict[str, list[Any]], **more: Any) -> Driver:
    played = {tool: [Fails(o) if isinstance(o, str) else o for o in list_] for tool, list_ in script.items()}
    return Driver(definition, played, check=False, **more)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs(), scripts)
def test_the_kernel_does_what_the_naive_interpreter_does(
    definition: d.Definition, script: dict[str, list[Any]]
) -> None:
    expected = Interpreter(definition, script).run()
    run = drive(definition, script).start({}).run()
    assert run.path == expected.path
    assert [c.tool for c in run.performed if isinstance(c, Call)] == expected.performed
    assert run.state.status == expected.status
    assert run.state.output == expected.output
    assert run.state.spent.steps == expected.steps
    assert amount(run.state.spent.cost) == expected.cost
    assert {name: run.state.vars[name] for name in VARIABLES} == {n: expected.variables[n] for n in VARIABLES}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs(), scripts)
def test_a_journal_proves_its_own_transitions(definition: d.Definition, script: dict[str, list[Any]]) -> None:
    run = drive(definition, script).start({}).run()
    program_ = Program.of(definition)
    decided = {"moved", "finished", "denied", "exceeded", "parked", "faulted", "in_doubt", "overrun", "spent"}
    before = fold(program_, "run-1", run.journal[:1])
    for event in run.journal[1:]:
        if event.kind in decided:
            (record,) = [c for c in decide(program_, before) if isinstance(c, Record)]
            assert (record.kind, record.body) == (event.kind, event.body)
        after = fold(program_, "run-1", run.journal[: event.seq])
        assert decode(encode(after)) == after
        before = after
    assert before == run.state


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs(), scripts, st.data())
def test_a_crash_at_any_event_comes_to_the_same_end_where_tools_are_idempotent(
    definition: d.Definition, script: dict[str, list[Any]], data: Any
) -> None:
    free = {
        name: tool.model_copy(update={"cost": None, "key": KEY if tool.effect != "reads" else None})
        for name, tool in TOOLS.items()
    }
    definition = definition.model_copy(update={"tools": free})

    # A tool's answer depends on the visit alone, as that of an idempotent tool does. That a write is not let in is no
    # answer: after a crash it would leave open what became of the attempt before.
    def answers(tool: str, list_: list[Any]) -> Any:
        def answer(call: Call) -> Any:
            visit = int(call.id.partition("#")[2].partition(".")[0])
            found = list_[visit % len(list_)]
            if call.effect != "reads" and found in ("Unavailable", "RateLimited"):
                found = "Mine"
            return Fails(found) if isinstance(found, str) else found

        return answer

    played = {tool: answers(tool, copy.copy(list_)) for tool, list_ in script.items()}
    whole = Driver(definition, played, check=False).start({}).run()
    at = data.draw(st.integers(2, len(whole.journal)))
    crashed = Driver(definition, played, check=False, crash_at=at, lost=data.draw(st.booleans()))
    try:
        crashed.start({}).run()
    except Crash:
        crashed.recover()
    assert crashed.path == whole.path
    assert crashed.state.status == whole.state.status
    assert crashed.state.output == whole.state.output
    assert crashed.state.vars == whole.state.vars
    assert crashed.state.spent.steps == whole.state.spent.steps  # active time leaves out the crash
