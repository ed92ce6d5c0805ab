"""Few runs that pass all that was found, each made small.

To choose the fewest of given sets that cover a whole is hard in general; the usual greedy choice is at most a
logarithm away, and what it makes superfluous afterwards is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.engine.generate.case import TIMEOUT, Case, Found, Response, Scene
from jamjet_dsl.engine.generate.values import simpler
from jamjet_dsl.engine.passed import Part

_STEPS = 400
"""The most runs that are tried to make one case smaller."""


def smallest(scene: Scene, runs: Iterable[Found]) -> list[Found]:
    """A small set of small cases that passes all that the runs pass together, those with the most in common first."""
    chosen = _cover(list(runs))
    for n, run in enumerate(chosen):
        others = frozenset(part for m, other in enumerate(chosen) if m != n for part in other.through)
        chosen[n] = _shrunk(scene, run, run.through - others)
    kept = _without_superfluous(chosen)
    return sorted(kept, key=lambda run: (len(run.path), run.path, run.case.size()))


def _cover(runs: list[Found]) -> list[Found]:
    missing = frozenset(part for run in runs for part in run.through)
    chosen: list[Found] = []
    while missing:
        best = max(runs, key=lambda run: (len(run.through & missing), bool(run.final), -run.case.size()))
        chosen.append(best)
        missing -= best.through
    return _without_superfluous(chosen)


def _without_superfluous(runs: Sequence[Found]) -> list[Found]:
    """Without runs of which others pass everything; the largest are tried first."""
    kept = list(runs)
    times = Counter(part for run in kept for part in run.through)
    for run in sorted(runs, key=lambda run: -run.case.size()):
        if all(times[part] > 1 for part in run.through):
            kept.remove(run)
            times.subtract(run.through)
    return kept


def _shrunk(scene: Scene, run: Found, needed: frozenset[Part]) -> Found:
    """The run with less to read that still passes what it is needed for, and ends as well."""
    steps = _STEPS
    better = True
    while better and steps > 0:
        better = False
        for case in _smaller(scene, run.case):
            steps -= 1
            if steps <= 0:
                break
            tried = scene.run(case)
            if tried is None or not needed <= tried.through or bool(tried.final) < bool(run.final):
                continue
            if tried.case.size() <= run.case.size():
                run, better = tried, True
                break
    return run


def _smaller(scene: Scene, case: Case) -> Iterator[Case]:
    """Cases with a little less in them."""
    for target, responses in case.script.items():
        if len(responses) > 1:
            yield _with(case, target, responses[:1])
            yield _with(case, target, responses[-1:])
        for at in range(len(responses) if len(responses) > 1 else 0):
            yield _with(case, target, (*responses[:at], *responses[at + 1 :]))
        if all(response.option == TIMEOUT for response in responses):
            yield _with(case, target, ())
    for given in scene.agent.inputs:
        for value in simpler(scene.defn, given.type, case.inputs.get(given.name)):
            yield replace(case, inputs={**case.inputs, given.name: value})
    for target, responses in case.script.items():
        for at, response in enumerate(responses):
            for other in _simpler_response(scene, target, response):
                yield _with(case, target, (*responses[:at], other, *responses[at + 1 :]))


def _with(case: Case, target: str, responses: tuple[Response, ...]) -> Case:
    return replace(case, script={**case.script, target: responses})


def _simpler_response(scene: Scene, target: str, response: Response) -> Iterator[Response]:
    if response.option is not None:
        fields = {field.name: field.type for field in scene.forms.get(target, ())}
        if response.form is not None:
            if all(isinstance(type_, d.OptionalType) for type_ in fields.values()):
                yield replace(response, form=None)
            for form in simpler(scene.defn, d.ObjectType(fields=fields), dict(response.form)):
                yield replace(response, form=form)
    elif response.raises is None:
        offered = scene.offers.get(target)
        if not offered:
            for value in simpler(scene.defn, scene.types.get(target), response.value):
                yield Response(value)
        elif isinstance(response.value, dict) and "call" in response.value:
            yield from (Response(value) for value in _simpler_move(scene, response.value["call"]))


def _simpler_move(scene: Scene, call: dict[str, Any]) -> Iterator[Any]:
    shape = d.ObjectType(fields={p.name: p.type for p in scene.defn.tools[call["tool"]].params})
    for args in simpler(scene.defn, shape, call["args"]):
        yield {"call": {**call, "args": args}}
