"""Cases as `test` blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jamjet_dsl import definition as d
from jamjet_dsl.engine.coverage import named
from jamjet_dsl.engine.generate.case import Found, Response, Scene
from jamjet_dsl.engine.generate.literals import field_name, literal, text
from jamjet_dsl.engine.passed import Part, parts_of, states_of

_TITLE = 90
"""The most characters of a title."""


def titles_of(scene: Scene, runs: Sequence[Found]) -> list[str]:
    """A title for each run: how it ends, and the edge that sets it apart most. No two are the same."""
    times = Counter(part for run in runs for part in run.through)
    order = {part: n for n, part in enumerate(parts_of(scene.agent))}
    found: list[str] = []
    for run in runs:
        rare = min((p for p in run.through if p.edge), key=lambda p: (times[p], -order[p]), default=None)
        end = run.final or f"parked in {run.path[-1]}"
        title = end + (f", by {_by(scene, rare)}" if rare is not None else "")
        title = title if len(title) <= _TITLE else title[: _TITLE - 1] + "…"
        same = sum(other == title or other.startswith(f"{title} (") for other in found)
        found.append(f"{title} ({same + 1})" if same else title)
    return found


def _by(scene: Scene, part: Part) -> str:
    return named(scene.agent, part).replace("`", "").replace('"', "'").removeprefix("the edge ")


def block(scene: Scene, run: Found, title: str, agent: str, outputs: bool = True) -> str:
    """One `test` block. `agent` is the agent's name where the block stands; `outputs` says whether what comes out is
    expected too, where it can be written down."""
    defn, lines = scene.defn, [f"test {text(title)} for {agent} {{"]
    for given in scene.agent.inputs:
        value = run.case.inputs.get(given.name)
        if value is not None or not isinstance(given.type, d.OptionalType):
            lines.append(f"  input {field_name(given.name)} = {literal(defn, given.type, value)}")
    for target, responses in run.case.script.items():
        told = [_response(scene, target, response) for response in _without_repeats(responses)]
        if told:
            lines.append(f"  mock {target} " + " then ".join(told))
    lines.append(f"  expect path {', '.join(run.path)}")
    if run.final:
        lines.append(f"  expect state == {run.final}")
    if outputs and run.final:
        lines += [f"  expect {told}" for told in _outputs(scene, run)]
    return "\n".join([*lines, "}"]) + "\n"


def _without_repeats(responses: Sequence[Response]) -> Sequence[Response]:
    """The last one goes on by itself."""
    kept = list(responses)
    while len(kept) > 1 and kept[-1] == kept[-2]:
        kept.pop()
    return kept


def _response(scene: Scene, target: str, response: Response) -> str:
    if response.raises is not None:
        return f"raises {response.raises}"
    if response.option is not None:
        if response.form is None:
            return f"answers {response.option}"
        shape = d.ObjectType(fields={field.name: field.type for field in scene.forms[target]})
        form = literal(scene.defn, shape, response.form)
        return f"answers {response.option}" + ("" if form == "{}" else f" {form}")
    if scene.offers.get(target):
        return f"returns {literal(scene.defn, d.BuiltinType(kind='Move'), response.value)}"
    return f"returns {literal(scene.defn, scene.types.get(target), response.value)}"


def _outputs(scene: Scene, run: Found) -> list[str]:
    """What the final gives, where it is no record, list or secret."""
    given = next(s for path, s in states_of(scene.agent.body) if path == run.final)
    assert isinstance(given, d.Final)
    found = []
    for field in scene.agent.outputs:
        if field.name not in given.outputs or field.name not in run.output:
            continue
        value, type_ = run.output[field.name], field.type
        inner = type_.item if isinstance(type_, d.OptionalType) else type_
        if value is None:
            found.append(f"!has(outputs.{field.name})")
        elif isinstance(inner, d.EnumType | d.MoneyType) or (
            isinstance(inner, d.Scalar) and inner.kind in ("bool", "int", "uint", "string", "decimal", "duration")
        ):
            found.append(f"outputs.{field.name} == {literal(scene.defn, inner, value)}")
    return found
