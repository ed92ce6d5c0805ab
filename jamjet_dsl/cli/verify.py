"""`jam verify`: what a program can and cannot do. Nothing is run, nothing outside is called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from jamjet_dsl.cli.common import (
    FOUND,
    OK,
    debug_option,
    first_taken,
    format_option,
    print_json,
    program_file,
    split_agent,
)
from jamjet_dsl.cli.text import load
from jamjet_dsl.cli.words import counted, plain

if TYPE_CHECKING:
    from jamjet_dsl.compiler import CheckResult
    from jamjet_dsl.definition import Compiled
    from jamjet_dsl.verify.check import Verified
    from jamjet_dsl.verify.decide import Answer
    from jamjet_dsl.verify.explore import Step

_SIGNS = {"proved": ("✓", "green"), "violated": ("✗", "red"), "guarded": ("◐", "yellow"), "unknown": ("?", "magenta")}
_MOST_GUARDS = 8
_SHOWN = ("JAM6", "JAM9")
"""Errors of policy and of properties, after which a program still means something."""


@click.command("verify")
@click.argument("program", metavar="FILE[:AGENT]")
@click.option("--replay", is_flag=True, help="Tell the real run that shows each violation, event by event.")
@click.option("-o", "target", metavar="F", help="Draw the way of the first violation: .svg, .png, .pdf, .html, .mmd.")
@click.option(
    "--states", default=5_000, show_default=True, type=click.IntRange(1), help="How many states are explored at most."
)
@click.option("--strict", is_flag=True, help="Exit 1 also if something that is asked is not decided.")
@format_option("human", "json")
@debug_option
def verify_command(program: str, replay: bool, target: str | None, states: int, strict: bool, form: str) -> int:
    """Prove the `check` clauses of an agent, and what is asked of every program, or show how they are broken.

    Explores everything the program may do, by the kernel that runs it, over unknown data: all answers, errors, crashes,
    timeouts and people. Exit 1 if something is violated.
    """
    from jamjet_dsl.engine.survival import typical_of
    from jamjet_dsl.verify.check import verify
    from jamjet_dsl.verify.properties import asked_of

    result, compiled = _read(program)
    if taken := first_taken(program, compiled):
        click.echo(f"note: {taken}", err=True)
    agent = next(info for info in result.analysis.main_agents() if info.name == compiled.definition.main)
    found = verify(compiled.definition, asked_of(agent, result.analysis), states, typical_of(compiled))
    if form == "json":
        print_json(_as_json(found))
    else:
        click.echo("\n".join(_told(found, compiled, replay)))
    if target is not None:
        _draw(found, compiled, target)
    undecided = any(answer.verdict == "unknown" for answer in found.answers)
    return FOUND if not found.holds or (strict and undecided) else OK


def _read(program: str) -> tuple[CheckResult, Compiled]:
    """The program, which may be one that `jam check` refuses for what its policy or its `check` clauses say: here it is
    shown how that happens."""
    from jamjet_dsl.compiler import check_file, lower_for_drawing

    path, agent = split_agent(program)
    if path != "-":
        result = check_file(program_file(path))
        errors = [found for found in result.diagnostics if found.severity == "error"]
        if errors and all(found.code.startswith(_SHOWN) for found in errors):
            click.echo(f"note: `jam check` refuses this program: {counted(len(errors), 'error')}", err=True)
            return result, lower_for_drawing(result, agent)
    compiled = load(program)
    if path == "-":
        from jamjet_dsl.compiler import analyse_text

        return analyse_text(next(iter(compiled.sources.values())), "<stdin>"), compiled
    return result, compiled


# ---- people


def _told(found: Verified, compiled: Compiled, replay: bool) -> Iterator[str]:
    head = f"{click.style(plain(found.agent), bold=True)}: {counted(found.states, 'state')}, {found.steps:,} steps"
    yield f"{head} explored" + (f"; two items stand for any number in {_lists(found)}" if found.lists else "")
    for answer in found.answers:
        yield from _answer(answer, compiled, replay)
    for left in found.left:
        yield f"not explored: {plain(left, None)}"


def _lists(found: Verified) -> str:
    return ", ".join(f"`{plain(name, None)}`" for name in found.lists)


def _answer(answer: Answer, compiled: Compiled, replay: bool) -> Iterator[str]:
    sign, colour = _SIGNS[answer.verdict]
    place = f"  {plain(answer.asked.file)}:{answer.asked.line}" if answer.asked.file else ""
    name = f"{plain(answer.asked.label)}: " if answer.asked.label else ""
    yield f"{click.style(sign, fg=colour)} {answer.verdict:<8}  {name}{plain(answer.asked.text, None)}{place}"
    if answer.vacuous:
        yield f"    it says nothing: {plain(answer.why, None)}"
    elif answer.why:
        yield f"    {plain(answer.why, None)}"
    for guard in answer.guards[:_MOST_GUARDS]:
        yield f"    - {plain(guard, None)}"
    if len(answer.guards) > _MOST_GUARDS:
        yield f"    and {len(answer.guards) - _MOST_GUARDS} more"
    if answer.verdict == "violated":
        yield f"    path: {plain(_path(answer.way, _edges(compiled)), None)}"
        yield f"    when: {plain('; '.join(_story(answer.way)) or 'it starts', None)}"
        if answer.run is None:
            yield "    no real run was found that goes this way: it may be one of the abstraction only"
        elif not replay:
            yield "    a real run goes this way: --replay tells it"
    if replay and answer.run is not None:
        from jamjet_dsl.verify.concrete import told

        yield from (f"      {plain(line, None)}" for line in told(answer.run))


def _story(way: tuple[Step, ...]) -> list[str]:
    return [str(step.move) for step in way if step.move is not None]


def _moves(way: tuple[Step, ...]) -> list[tuple[str, str, str]]:
    """The transitions of the agent's own states on a way: from, edge, to."""
    return [move for step in way for move in step.moves]


def _edges(compiled: Compiled) -> dict[tuple[str, str], str]:
    """The edges of the agent's states as people read them."""
    from jamjet_dsl.definition import State
    from jamjet_dsl.kernel.program import Program
    from jamjet_dsl.render.graph import trigger_text

    found: dict[tuple[str, str], str] = {}
    for region, states in Program.of(compiled.definition).main.regions.items():
        for state in states.values():
            place = f"{region}/{state.name}" if region else state.name
            for edge in state.edges if isinstance(state, State) else ():
                word = "when " if edge.trigger == "when" else "on " if edge.trigger == "option" else ""
                found[place, edge.id] = f"{word}{trigger_text(edge)}" if trigger_text(edge) else "then"
    return found


def _path(way: tuple[Step, ...], edges: dict[tuple[str, str], str]) -> str:
    moves = _moves(way)
    if not moves:
        return "where it starts"
    text, at = moves[0][0], moves[0][0]
    for before, edge, to in moves:
        said = edges.get((before, edge), "budget exceeded" if edge == "exceeded" else edge.partition("#")[0])
        text += f" … {before}" if before != at else ""
        text += f" ─({said})→ {to}"
        at = to
    return text


# ---- JSON and pictures


def _as_json(found: Verified) -> dict[str, Any]:
    return {
        "agent": found.agent,
        "holds": found.holds,
        "states": found.states,
        "steps": found.steps,
        "not_explored": list(found.left),
        "lists": list(found.lists),
        "properties": [_answer_json(answer) for answer in found.answers],
    }


def _answer_json(answer: Answer) -> dict[str, Any]:
    asked = answer.asked
    one: dict[str, Any] = {"property": asked.text, "verdict": answer.verdict, "why": answer.why}
    one |= {"file": asked.file or None, "line": asked.line or None, "label": asked.label or None}
    one |= {"vacuous": answer.vacuous, "guards": list(answer.guards)}
    if answer.verdict == "violated":
        one["path"] = [{"state": a, "edge": edge, "to": b} for a, edge, b in _moves(answer.way)]
        one["events"] = _story(answer.way)
        one["abstract"] = answer.run is None
        if answer.run is not None:
            one["input"] = answer.run.input
    return one


def _draw(found: Verified, compiled: Compiled, target: str) -> None:
    from jamjet_dsl.cli.graph import write_picture
    from jamjet_dsl.render.graph import overlay_of_path

    shown = next((answer for answer in found.answers if answer.verdict == "violated" and answer.way), None)
    if shown is None:
        click.echo("nothing is violated: there is no way to draw", err=True)
        return
    moves = _moves(shown.way)
    path = [(before, edge) for before, edge, _ in moves]
    path.append((moves[-1][2] if moves else compiled.definition.agent.body.start, ""))
    write_picture(compiled, target, overlay_of_path(path, f"violated: {shown.asked.text}"))
