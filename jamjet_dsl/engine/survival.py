"""Many trials of one program: what it does not survive, what is done twice, and the seed that shows each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from jamjet_dsl.definition import Compiled
from jamjet_dsl.engine.hidden import unmarked
from jamjet_dsl.engine.sight import Sight
from jamjet_dsl.engine.trial import FAULTS, Ended, Fault, Trial, Typical
from jamjet_dsl.engine.veil import Veil
from jamjet_dsl.kernel.model import Event
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.scope import names_only
from jamjet_dsl.kernel.values import EvalError, to_public
from jamjet_dsl.store.chain import GENESIS, seal, sealed_events

_ENDS = ("completed", "failed", "cancelled")


@dataclass(slots=True)
class Finding:
    """Something that the program does not survive: `kind` is parked, doubt, waiting or endless. `errors` are those that
    nothing handled there, `times` counts the trials; `message` and `seed` are of the one with the fewest faults."""

    kind: str
    state: str
    tool: str
    message: str = ""
    errors: list[str] = field(default_factory=list)
    times: int = 0
    seed: int = 0
    _least: int = 1_000_000

    @property
    def help(self) -> str:
        """What a program can say so that this ends otherwise."""
        where = f"`{self.state}`"
        match self.kind:
            case "waiting" if self.tool:
                return f"give {where}, or the tool, a `timeout`"
            case "waiting":
                return "give the wait or the question a `timeout`"
            case "endless":
                return "bound its cycles: `limit n` on an edge, or `steps n` in the budget"
            case "doubt":
                return f"say `on in_doubt -> …` in {where}, or give `{self.tool}` a `confirm` or a `key`"
        if self.errors:
            return (
                f"handle it: `on error {', '.join(self.errors)} -> …` in {where}, or `on error any -> …` in the agent"
            )
        return "an operator has to look at it: `jam retry` or `jam cancel`"

    def as_json(self) -> dict[str, Any]:
        """All but what only sorts."""
        return {name: value for name, value in asdict(self).items() if name != "_least"} | {"help": self.help}


@dataclass(slots=True)
class Repeated:
    """A tool that was done more than once: `most` times at most, in `times` trials. With `keyed` each time under the
    same key, which is what is promised; without, somebody was charged twice."""

    tool: str
    keyed: bool
    times: int = 0
    most: int = 0
    seed: int = 0


@dataclass(slots=True)
class Survey:
    """What came of the trials of one agent."""

    agent: str
    first_seed: int
    trials: int = 0
    events: int = 0
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    crashes: int = 0
    crashed_at: set[int] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    repeated: list[Repeated] = field(default_factory=list)

    @property
    def survived(self) -> bool:
        """Whether every trial ended by itself, and nothing was done twice without a key."""
        return not self.findings and all(one.keyed for one in self.repeated)

    def add(self, trial: Trial, ended: Ended) -> None:
        """Count one trial."""
        self.trials += 1
        self.events += len(trial.journal)
        self.ends[ended.status, ended.where] += 1
        self.faults.update(fault for fault, _ in trial.tried)
        self.crashes += len(trial.crashed_at)
        self.crashed_at.update(trial.crashed_at)
        if ended.status not in _ENDS:
            self._find(trial, ended)
        most: Counter[tuple[str, bool]] = Counter()
        for done in trial.repeated():
            most[done.tool, done.key is not None] = max(most[done.tool, done.key is not None], done.times)
        for (tool, keyed), times in most.items():
            self._repeat(trial.seed, tool, keyed, times)

    def _find(self, trial: Trial, ended: Ended) -> None:
        known = (ended.status, ended.where, ended.tool)
        found = next((f for f in self.findings if (f.kind, f.state, f.tool) == known), None)
        if found is None:
            found = Finding(*known)
            self.findings.append(found)
        found.times += 1
        if ended.error and ended.error not in found.errors:
            found.errors.append(ended.error)
        weight = len(trial.tried) + len(trial.crashed_at)
        if weight < found._least:
            found._least, found.seed, found.message = weight, trial.seed, ended.why

    def _repeat(self, seed: int, tool: str, keyed: bool, times: int) -> None:
        found = next((one for one in self.repeated if (one.tool, one.keyed) == (tool, keyed)), None)
        if found is None:
            found = Repeated(tool, keyed, seed=seed)
            self.repeated.append(found)
        found.times += 1
        found.most = max(found.most, times)

    def as_json(self) -> dict[str, Any]:
        """All of it, for `--format json`."""
        ends = [{"status": status, "state": state, "times": n} for (status, state), n in self.ends.most_common()]
        return {
            "agent": self.agent,
            "first_seed": self.first_seed,
            "trials": self.trials,
            "events": self.events,
            "ends": ends,
            "faults": dict(self.faults),
            "crashes": self.crashes,
            "crashed_at": sorted(self.crashed_at),
            "findings": [finding.as_json() for finding in self.findings],
            "repeated": [asdict(one) for one in self.repeated],
            "survived": self.survived,
        }


def survey(
    compiled: Compiled,
    seeds: Iterable[int],
    faults: tuple[Fault, ...] = FAULTS,
    crashes: bool = True,
    input: Any = None,
) -> Survey:
    """Try the program with each seed. Raises JamError JAMR301 for an input that does not fit."""
    program, typical = Program.of(compiled.definition), typical_of(compiled, input)
    numbers = [*seeds]
    found = Survey(compiled.definition.main, numbers[0] if numbers else 0)
    for seed in numbers:
        trial = Trial(program, seed, faults=faults, crashes=crashes, typical=typical)
        found.add(trial, trial.run())
    found.findings.sort(key=lambda finding: -finding.times)
    return found


def typical_of(compiled: Compiled, input: Any = None) -> Typical:
    """What the tests of a program say that its inputs are and its tools and models give; `input` (public JSON, not
    validated yet) in place of theirs."""
    fns = {**compiled.definition.fns, **compiled.test_fns}
    program = Program.of(compiled.definition.model_copy(update={"fns": fns}))
    inputs: list[Any] = []
    results: dict[str, list[Any]] = {}
    for test in compiled.tests:
        try:
            inputs.append({name: _value(program, expr) for name, expr in test.inputs.items()})
        except EvalError:
            continue  # `jam test` says so
        for mock in test.mocks:
            for response in mock.responses:
                if response.returns is not None:
                    results.setdefault(mock.target, []).append(_value(program, response.returns))
    given = (input,) if input is not None else tuple(inputs)
    return Typical(given, {name: tuple(values) for name, values in results.items()})


def _value(program: Program, expr: Any) -> Any:
    return to_public(program.evaluate(expr, names_only({})))


def told(trial: Trial) -> list[Event]:
    """The journal of a trial as events, without what is secret or redacted."""
    veil = Veil(Sight.of(trial.program), "")
    for draft in trial.journal:
        veil.learn_event(draft.body)
    veil.learn(trial.state)
    drafts = [draft._replace(body=unmarked(veil.hide_body(draft.body))) for draft in trial.journal]
    return sealed_events("trial", GENESIS, seal("trial", 0, GENESIS, drafts))
