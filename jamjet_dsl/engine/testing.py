"""`test` blocks: run one with its mocks in simulated time, and say what was not as expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.hidden import unmarked
from jamjet_dsl.engine.passed import Passed, passed
from jamjet_dsl.engine.sight import Sight
from jamjet_dsl.engine.simulate import Answered, Raised, Returned, Simulation, Stuck, used_by
from jamjet_dsl.engine.veil import Veil
from jamjet_dsl.kernel.machine import initial
from jamjet_dsl.kernel.model import Call, Frame, Question, Think
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.scope import Scope, names_only, scope_of
from jamjet_dsl.kernel.values import EvalError, to_public


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that was not as expected. `kind` is path, expect, stuck or input; `text` the expectation as written;
    `code` that of the catalogue, where it has one (JAM902: a mock is missing)."""

    kind: str
    message: str
    text: str = ""
    expected: Any = None
    found: Any = None
    code: str = ""


@dataclass(frozen=True, slots=True)
class Unused:
    """A mock of something that the run did not come to (JAM902). It fails no test."""

    target: str
    line: int = 0
    code: str = "JAM902"


@dataclass(frozen=True, slots=True)
class TestResult:
    """How a test went. `path` are the states the run went through; `calls` counts calls by tool; times in ms. `passed`
    says whether all was as expected, `through` what states and edges the run has passed."""

    __test__ = False
    title: str
    agent: str
    passed: bool
    failures: tuple[Failure, ...]
    status: str
    path: tuple[str, ...]
    output: dict[str, Any] | None
    spent: dict[str, Any]
    calls: dict[str, int]
    simulated_ms: int
    file: str = ""
    line: int = 0
    unused: tuple[Unused, ...] = ()
    through: Passed = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """All fields but `through`, for `--format json`."""
        return asdict(replace(self, through=Counter()), dict_factory=_without_through)


def _without_through(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if name != "through"}


def run_tests(compiled: d.Compiled, match: str | None = None) -> list[TestResult]:
    """Run the tests of a program, in order; with `match` only those whose title contains it."""
    wanted = (match or "").casefold()
    return [run_test(compiled, test) for test in compiled.tests if wanted in test.title.casefold()]


def run_test(compiled: d.Compiled, test: d.TestDef) -> TestResult:
    """Run one test."""
    fns = {**compiled.definition.fns, **compiled.test_fns}
    definition = compiled.definition.model_copy(update={"main": test.agent, "fns": fns})
    program = Program.of(_with_stubs(definition, {mock.target for mock in test.mocks}))
    mocks = _Mocks(program, test)
    simulation = Simulation(program, mocks=mocks)
    failures: list[Failure] = []
    try:
        simulation.run({name: to_public(mocks.value(expr)) for name, expr in test.inputs.items()})
    except Stuck as stuck:
        code = "JAM902" if isinstance(stuck, Unmocked) else ""
        failures.append(Failure("stuck", str(stuck), code=code))
    except EvalError as error:
        failures.append(Failure("input", f"a value of the test cannot be computed: {error.message}"))
    except JamError as error:
        failures.append(Failure("input", error.message, found=list(error.details)))
    if not failures or simulation.path:
        failures += _compare(program, simulation, test)
    result = _result(simulation, test, failures)
    unused = tuple(Unused(m.target, m.span.line if m.span else 0) for m in test.mocks if not mocks.used(m.target))
    return _masked(program, simulation, replace(result, unused=unused, through=passed(program, simulation.journal)))


def _masked(program: Program, simulation: Simulation, result: TestResult) -> TestResult:
    """The result without secrets: a test that fails is told on terminals and in the logs of builds."""
    if not program.has_secrets:
        return result
    veil = Veil(Sight.of(program), "")
    for draft in simulation.journal:
        veil.learn_event(draft.body)
    veil.learn(simulation.state)

    def told(value: Any) -> Any:
        return unmarked(veil.hide_secrets(value))

    failures = tuple(replace(f, message=told(f.message), found=told(f.found)) for f in result.failures)
    return replace(result, failures=failures, output=told(result.output))


def _with_stubs(definition: d.Definition, mocked: set[str]) -> d.Definition:
    """The definition with a question to a model in place of each `run` that the test mocks: it gives or raises what the
    mock says, and nothing of the child happens."""

    def region(body: d.Region) -> d.Region:
        return body.model_copy(update={"states": tuple(state(s) for s in body.states)})

    def state(item: d.State | d.Final) -> d.State | d.Final:
        action = item.action if isinstance(item, d.State) else None
        if isinstance(action, d.RunAgent) and item.name in mocked:
            outputs = definition.agents[action.agent].outputs
            stub = d.Think(
                prompt=["text"],
                max_prompt=0,
                max_tokens=0,
                result=d.ObjectType(fields={field.name: field.type for field in outputs}),
                bind=action.bind,
                retry=action.retry,
            )
            return item.model_copy(update={"action": stub})
        if isinstance(action, d.Each):
            return item.model_copy(update={"action": action.model_copy(update={"body": region(action.body)})})
        if isinstance(action, d.Parallel):
            branches = tuple(b.model_copy(update={"body": region(b.body)}) for b in action.branches)
            return item.model_copy(update={"action": action.model_copy(update={"branches": branches})})
        return item

    agent = definition.agent
    agents = {**definition.agents, agent.name: agent.model_copy(update={"body": region(agent.body)})}
    return definition.model_copy(update={"agents": agents})


class Unmocked(Stuck):
    """The run came to something that the test does not mock."""


class _Mocks:
    """The mocks of a test, in the order of their uses."""

    def __init__(self, program: Program, test: d.TestDef) -> None:
        self._program = program
        self._by_target = {mock.target: mock.responses for mock in test.mocks}
        self._used: dict[str, int] = {}
        self._empty = names_only({})

    def used(self, target: str) -> bool:
        """Whether the run came to what a mock is of."""
        return target in self._used

    def value(self, expr: d.ExprJson) -> Any:
        """A value that a test gives. Raises EvalError."""
        return self._program.evaluate(expr, self._empty)

    def tool(self, call: Call, state: str) -> Returned | Raised:
        """What a call of a tool gives."""
        return self._outcome(call.tool, f"`{state}` calls {call.tool}")

    def model(self, think: Think) -> Returned | Raised:
        """What a model answers."""
        target = think.state if think.state in self._by_target else think.model or think.state
        return self._outcome(target, f"`{think.state}` asks a model", f"mock {think.state} returns …")

    def person(self, question: Question) -> Answered:
        """What a person answers. Nobody does where the test mocks the answer `timeout`, or none and the question has
        a timeout."""
        response = self._response(question.state)
        if response is None:
            if question.expires_at_ms is None:
                raise Unmocked(f"`{question.state}` asks a person: add `mock {question.state} answers OPTION`")
            return Answered(None)
        if response.option == "timeout":  # no option is called so
            return Answered(None)
        return Answered(response.option, None if response.form is None else to_public(self.value(response.form)))

    def _outcome(self, target: str, what: str, advice: str = "") -> Returned | Raised:
        response = self._response(target)
        if response is None:
            raise Unmocked(f"{what}: add `{advice or f'mock {target} returns …'}`")
        if response.raises is not None:
            return Raised(response.raises)
        if response.returns is None:
            raise Stuck(f"{what}: its mock answers like a person; use returns or raises")
        return Returned(to_public(self.value(response.returns)))

    def _response(self, target: str) -> d.MockResponse | None:
        responses = self._by_target.get(target)
        if not responses:
            return None
        times = self._used.get(target, 0)
        self._used[target] = times + 1
        response: d.MockResponse = used_by(responses, times)
        return response


def _compare(program: Program, simulation: Simulation, test: d.TestDef) -> Iterable[Failure]:
    if test.path is not None and tuple(simulation.path) != test.path:
        at = next((n for n, (a, b) in enumerate(zip(simulation.path, test.path, strict=False)) if a != b), None)
        at = min(len(simulation.path), len(test.path)) if at is None else at
        here = simulation.path[at] if at < len(simulation.path) else "nothing more"
        there = test.path[at] if at < len(test.path) else "nothing more"
        message = f"the path differs at step {at + 1}: expected {there}, found {here}"
        yield Failure("path", message, ", ".join(test.path), list(test.path), list(simulation.path))
    texts = [*test.texts, *[""] * len(test.expects)]
    scope = _end_scope(program, simulation)
    for expr, text in zip(test.expects, texts, strict=False):
        try:
            value = program.evaluate(expr, scope)
        except EvalError as error:
            yield Failure("expect", f"has no value: {error.message}", text, True)
            continue
        if value is not True:
            yield Failure("expect", _why(program, expr, scope), text, True, to_public(value))


def _end_scope(program: Program, simulation: Simulation) -> Scope:
    """What an expectation sees: inputs, outputs by name, variables (which win), `state`, `outputs`, `spent`, counts."""
    state = simulation.state
    scope = scope_of(program, state, Frame("", ""))
    output = state.output or {}
    names = {
        **{name: value for name, value in output.items() if name not in state.vars},
        "outputs": output,
        "state": simulation.path[-1] if simulation.path else "",
        "$calls": lambda tool: simulation.count("attempted", tool),
        "$history": simulation.count,
    }
    return scope.nested(names)


_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}


def _why(program: Program, expr: d.ExprJson, scope: Scope) -> str:
    """What made an expectation false: the first part of a conjunction, with the values on its sides."""
    if expr[0] == "&&":
        try:
            left = program.evaluate(expr[1], scope)
        except EvalError:
            left = False
        return _why(program, expr[1] if left is not True else expr[2], scope)
    if expr[0] in _COMPARISONS:
        try:
            sides = [to_public(program.evaluate(side, scope)) for side in expr[1:3]]
        except EvalError as error:
            return f"has no value: {error.message}"
        return f"is false: {sides[0]!r} {expr[0]} {sides[1]!r}"
    return "is false"


def _result(simulation: Simulation, test: d.TestDef, failures: list[Failure]) -> TestResult:
    state = simulation.state
    spent = {"steps": state.spent.steps, "tokens": state.spent.tokens, "cost": state.spent.cost}
    tools = dict.fromkeys(draft.body["tool"] for draft in simulation.journal if draft.body.get("tool"))
    return TestResult(
        test.title,
        test.agent,
        not failures,
        tuple(failures),
        state.status if state.frames or state.status != initial("").status else "not started",
        tuple(simulation.path),
        None if state.output is None else {name: to_public(value) for name, value in state.output.items()},
        spent,
        {tool: simulation.count("attempted", tool) for tool in tools},
        simulation.now_ms - (simulation.journal[0].at_ms if simulation.journal else simulation.now_ms),
        test.span.file if test.span is not None else "",
        test.span.line if test.span is not None else 0,
    )
