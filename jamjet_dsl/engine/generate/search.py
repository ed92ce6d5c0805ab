"""The search: runs are tried, those that pass something new are kept, and changed towards what is still missing.

For an edge that is missing, a run that comes to its state is changed where it matters: the answer of a person, an error
of the call, the constants that the guard compares with. What a change does is seen by trying it; nothing here decides
what a run does but the kernel.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.engine.generate.case import TIMEOUT, Case, Found, Fresh, Response, Scene
from jamjet_dsl.engine.generate.impossible import impossible
from jamjet_dsl.engine.generate.sources import Sources
from jamjet_dsl.engine.generate.values import Values, fields_of, plain_number, stamp
from jamjet_dsl.engine.generate.wishes import Wish
from jamjet_dsl.engine.passed import HANDLED, Part, handlers_of, parts_of
from jamjet_dsl.engine.virtual import START_MS
from jamjet_dsl.money import money_text

_KEPT = 3_000
"""The most runs that are remembered."""
_AT_LEAST = 200
"""So many runs are tried even where few pass everything: among more there is a smaller choice."""
_PATIENCE = 0.5
"""After this part of all trials without anything new the search gives up."""


@dataclass(slots=True)
class Explored:
    """What a search found: `runs` by what they pass, the smallest for each, and `missing` with the reason."""

    runs: dict[frozenset[Part], Found] = field(default_factory=dict)
    missing: dict[Part, str] = field(default_factory=dict)
    trials: int = 0


def explore(scene: Scene, seed: int, trials: int) -> Explored:
    """Try runs until all that can be passed is passed, or `trials` are used up. The same seed finds the same."""
    return _Search(scene, seed, trials).explore()


class _Search:
    def __init__(self, scene: Scene, seed: int, trials: int) -> None:
        self.scene = scene
        self.chance = random.Random(seed)
        self.values = Values(scene.defn, self.chance)
        self.most = trials
        self.found = Explored()
        self.parts = list(parts_of(scene.agent))
        self.goals: dict[Part, None] = {}
        self.best: dict[Part, Found] = {}
        """The smallest run that passes a part."""
        self.sources = Sources(scene)
        self.tries: dict[Part, int] = {}

    def explore(self) -> Explored:
        never = impossible(self.scene.agent)
        self.goals = dict.fromkeys(part for part in self.parts if part not in never)
        idle, complete = 0, 0
        for n in range(self.most):
            if not self.goals:
                complete = complete or n
                if n >= max(_AT_LEAST, 2 * complete):
                    break
            elif idle > max(50, int(self.most * _PATIENCE)):
                break
            idle = 0 if self._try() else idle + 1
        self.found.trials = self.scene.trials
        for part in self.parts:
            if part in never:
                self.found.missing[part] = never[part]
            elif part in self.goals:
                self.found.missing[part] = self._reason(part)
        return self.found

    def _reason(self, part: Part) -> str:
        trials = f"in {self.found.trials:,} trials"
        if part.edge and part.state and Part(part.agent, part.state) not in self.best:
            return f"its state was not reached {trials}"
        if part.edge:
            return f"no inputs and mocks that take it were found {trials}"
        return f"no way to it was found {trials}"

    def _try(self) -> bool:
        """One trial. Whether it passed something new."""
        goal = self._goal() if self.best and self.chance.random() < 0.9 else None
        base = self._base(goal) if goal is not None else None
        if goal is None or base is None:
            case = Case(self.values.fields(self.scene.agent.inputs))
            fresh = Fresh(self.values, self.chance, self.chance.choice((0.0, 0.1, 0.4)), self.chance.choice((0.0, 0.9)))
        else:
            case = self._changed(base.case, goal)
            fresh = Fresh(self.values, self.chance, self.chance.choice((0.0, 0.0, 0.2)), self.chance.choice((0.2, 1.0)))
        run = self.scene.run(case, fresh)
        return run is not None and self._keep(run)

    def _keep(self, run: Found) -> bool:
        known = self.found.runs.get(run.through)
        if (known is None and len(self.found.runs) < _KEPT) or (known and run.case.size() < known.case.size()):
            self.found.runs[run.through] = run
        new = False
        for part in run.through:
            best = self.best.get(part)
            if best is None or run.case.size() < best.case.size():
                self.best[part] = run
            if part in self.goals:
                del self.goals[part]
                new = True
        if new:
            self.found.runs[run.through] = run
        return new

    def _goal(self) -> Part | None:
        """A part that is missing and whose state is reached: those that were tried least first."""
        near = [g for g in self.goals if not g.state or Part(g.agent, g.state) in self.best]
        if not near:
            near = [g for g in self.goals if not g.edge]
        if not near:
            return None
        least = min(self.tries.get(g, 0) for g in near)
        goal = self.chance.choice([g for g in near if self.tries.get(g, 0) <= least + 3])
        self.tries[goal] = self.tries.get(goal, 0) + 1
        return goal

    def _base(self, goal: Part) -> Found | None:
        """A run that comes to where the goal is left from."""
        at = self.best.get(Part(goal.agent, goal.state)) if goal.state and goal.edge else None
        if at is not None and self.chance.random() < 0.5:
            return at
        runs = [r for r in self.found.runs.values() if not goal.edge or not goal.state or _comes_to(r, goal)]
        return self.chance.choice(runs) if runs else at

    # ---- a change towards a goal

    def _changed(self, case: Case, goal: Part) -> Case:
        state = self.scene.states.get(goal.state)
        edge = None
        if state is not None and goal.edge:
            edge = next(e for e in state.edges if e.id == goal.edge.removesuffix("!"))
        if edge is not None and state is not None and self.chance.random() < 0.85:
            case = self._towards(case, goal.state, state, edge)
        elif goal.edge.startswith(HANDLED):
            handler = next(h for part, h in handlers_of(self.scene.agent) if part == goal)
            case = self._failing(case, self._any_target(case), handler.trigger, handler.errors)
        if edge is None or self.chance.random() < 0.3:
            for _ in range(self.chance.choice((1, 1, 2, 4))):
                case = self._anyhow(case)
        return case

    def _towards(self, case: Case, path: str, state: d.State, edge: d.Edge) -> Case:
        targets = self.sources.targets(path)
        target = self.chance.choice(targets) if targets else None
        match edge.trigger:
            case "option" if target is not None and edge.option is not None:
                form = self.values.fields(self.scene.forms.get(target, ()))
                return self._put(case, target, Response(option=edge.option, form=form or None))
            case "timeout" if target is not None:
                return self._put(case, target, Response(option=TIMEOUT))
            case "error" | "in_doubt" if target is not None:
                return self._failing(case, target, edge.trigger, edge.errors)
            case "when" | "otherwise" | "always" | "denied" | "join":
                own, wishes, roots = self.sources.about(path, edge)
                if own and self.chance.random() < 0.5:
                    for wish in own:
                        case = self._granted(case, wish)
                    return case
                if wishes and self.chance.random() < 0.7:
                    for wish in self.chance.sample(wishes, min(len(wishes), self.chance.choice((1, 1, 2, 3)))):
                        case = self._granted(case, wish)
                    return case
                if roots:
                    return self._at_root(case, self.chance.choice(roots), lambda t, v: self.values.changed(t, v))
        return self._anyhow(case)

    def _failing(self, case: Case, target: str, trigger: str, errors: Iterable[str]) -> Case:
        if trigger in ("in_doubt", "error"):
            names = [e for e in errors if e != "any"] or ["Unavailable", "Disconnected", "Timeout"]
            tool = self.scene.defn.tools.get(target)
            if "any" in errors and tool is not None:
                names += tool.raises
            if trigger == "in_doubt":
                names = ["Disconnected"]
                if tool is not None and tool.confirm is not None and self.chance.random() < 0.7:
                    unknown = Response(raises="Unavailable") if self.chance.random() < 0.7 else Response()
                    case = self._put(case, tool.confirm.tool, unknown)
            return self._put(case, target, Response(raises=self.chance.choice(names)))
        return self._anyhow(case)

    def _put(self, case: Case, target: str, response: Response) -> Case:
        """The response from some use of the target on: later ones are drawn again, or it goes on."""
        known = case.script.get(target, ())
        at = self.chance.choice((0, max(0, len(known) - 1), len(known), self.chance.randint(0, len(known))))
        return replace(case, script={**case.script, target: (*known[:at], response)})

    def _any_target(self, case: Case) -> str:
        return self.chance.choice(list(case.script)) if case.script else ""

    def _anyhow(self, case: Case) -> Case:
        """Any change: of an input, or of what one of the mocks gives."""
        spots: list[str | None] = [*([None] if self.scene.agent.inputs else []), *case.script]
        if not spots:
            return case
        target = self.chance.choice(spots)
        if target is None:
            given = self.chance.choice(self.scene.agent.inputs)
            new = self.values.changed(given.type, case.inputs.get(given.name))
            return replace(case, inputs={**case.inputs, given.name: new})
        known = list(case.script[target])
        at = self.chance.randrange(len(known)) if known else 0
        if not known or self.chance.random() < 0.3:
            return replace(case, script={**case.script, target: tuple(known[:at])})
        old = known[at]
        if old.option is not None or old.raises is not None or self.scene.offers.get(target):
            return replace(case, script={**case.script, target: tuple(known[:at])})
        known[at] = replace(old, value=self.values.changed(self.scene.types.get(target), old.value))
        return replace(case, script={**case.script, target: tuple(known)})

    def _at_root(self, case: Case, root: str, change: Any) -> Case:
        """A change of the value that a variable has: where it is given, in the input or by a mock."""
        for given in self.scene.agent.inputs:
            if given.name == root:
                return replace(case, inputs={**case.inputs, root: change(given.type, case.inputs.get(root))})
        targets = [t for t in self.sources.of.get(root, ()) if t in case.script or t in self.scene.types]
        if not targets:
            return self._anyhow(case)
        target = self.chance.choice(targets)
        known = list(case.script.get(target, ())) or [Response()]
        type_ = self.scene.types.get(target)
        spots = range(len(known)) if self.chance.random() < 0.5 else [self.chance.randrange(len(known))]
        for at in spots:
            old = known[at]
            if old.option is not None:
                if old.form is not None:
                    shape = d.ObjectType(fields={f.name: f.type for f in self.scene.forms.get(target, ())})
                    known[at] = replace(old, form=change(shape, dict(old.form)))
            elif not self.scene.offers.get(target):
                value = old.value if old.value is not None and old.raises is None else self.values.value(type_)
                known[at] = Response(change(type_, value))
        return replace(case, script={**case.script, target: tuple(known)})

    def _granted(self, case: Case, wish: Wish) -> Case:
        root, *fields = wish.path
        return self._at_root(case, root, lambda type_, value: self._wished(type_, value, fields, wish))

    def _wished(self, type_: d.Type | None, value: Any, fields: list[str], wish: Wish) -> Any:
        if isinstance(type_, d.OptionalType | d.SecretType):
            if not fields and wish.kind == "there" and value is not None:
                return None
            filled = value if value is not None else self.values.value(type_.item)
            return self._wished(type_.item, filled, fields, wish)
        if fields and fields[0] == "*" and isinstance(type_, d.ListType):
            items = list(value) if isinstance(value, list) and value else [self.values.value(type_.item)]
            at = self.chance.randrange(len(items))
            items[at] = self._wished(type_.item, items[at], fields[1:], wish)
            return items
        if fields:
            shape = fields_of(self.scene.defn, type_)
            if fields[0] not in shape or not isinstance(value, Mapping):
                return self.values.changed(type_, value)
            part = self._wished(shape[fields[0]], value.get(fields[0]), fields[1:], wish)
            return {**value, fields[0]: part}
        if wish.kind == "size" and isinstance(type_, d.ListType | d.MapType):
            return self.values.of_size(type_, value, max(0, int(wish.value) + self._step(wish)))
        if wish.kind == "near" and (near := self._near(type_, wish.value, self._step(wish))) is not None:
            return near
        return self.values.value(type_)

    def _step(self, wish: Wish) -> int:
        """To where the comparison holds, mostly: the other ways out of a state want the opposite."""
        return wish.step if self.chance.random() < 0.7 else self.chance.choice((-1, 0, 1))

    def _near(self, type_: d.Type | None, literal: Any, by: int) -> Any:
        """A value of the type that many steps above a literal."""
        match type_, literal:
            case d.Scalar(kind="bool"), _:
                return self.chance.random() < 0.5
            case d.Scalar(kind="int" | "uint"), ["int" | "uint" | "decimal" | "float", n]:
                return int(Decimal(str(n))) + by
            case d.Scalar(kind="decimal" | "float" as kind), ["int" | "uint" | "decimal" | "float", n]:
                number = Decimal(str(n))
                exponent = number.as_tuple().exponent  # a step that leaves room beside numbers as fine as this one
                step = Decimal(1).scaleb(exponent - 1) if isinstance(exponent, int) else Decimal("0.01")
                return plain_number(number + by * step, kind)
            case d.MoneyType(), ["money", str(text)]:
                amount, _, currency = text.partition(" ")
                return money_text(Decimal(amount) + by * Decimal("0.01"), currency)
            case d.Scalar(kind="string"), ["string", str(text)]:
                return text
            case d.EnumType(), ["enum", _, str(member)]:
                return member
            case d.EnumType(), ["string", str(member)]:
                return member
            case d.Scalar(kind="duration"), ["duration", ms]:
                return f"{max(0, int(ms) // 1000 + by)}s"
            case d.Scalar(kind="timestamp"), ["duration", ms]:
                return stamp(START_MS // 1000 - int(ms) // 1000 + by)
        return None


def _comes_to(run: Found, goal: Part) -> bool:
    return Part(goal.agent, goal.state) in run.through
