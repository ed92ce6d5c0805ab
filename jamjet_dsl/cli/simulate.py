"""`jam simulate`: a program under faults, in simulated time. Nothing outside is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from jamjet_dsl.cli.common import (
    FOUND,
    OK,
    debug_option,
    first_taken,
    format_option,
    print_json,
    read_json,
)
from jamjet_dsl.cli.text import load
from jamjet_dsl.cli.words import ago, counted, plain

if TYPE_CHECKING:
    from jamjet_dsl.definition import Compiled
    from jamjet_dsl.engine.survival import Finding, Repeated, Survey
    from jamjet_dsl.engine.trial import Ended, Trial

CRASH = "crash"
_WORDS = {
    "error": "failed",
    "hang": "never answered",
    "lost": "happened and lost the answer",
    "rubbish": "answered what does not fit",
}
_MOST = 1_000_000


@click.command("simulate")
@click.argument("program", metavar="FILE[:AGENT]")
@click.option("--seeds", default=1_000, show_default=True, type=click.IntRange(1, _MOST), help="How many trials.")
@click.option("--from", "first", default=0, type=click.IntRange(0), help="The first seed.")
@click.option("--seed", type=click.IntRange(0), help="One trial, told event by event.")
@click.option("--input", "input_", metavar="JSON|@F", help="The input. Default: those of the tests, else by type.")
@click.option(
    "--faults",
    metavar="LIST",
    help="Which faults, with commas between them: error, hang, lost, rubbish, crash; or none. Default: all.",
)
@format_option("human", "json")
@debug_option
def simulate_command(
    program: str, seeds: int, first: int, seed: int | None, input_: str | None, faults: str | None, form: str
) -> int:
    """Try a program under faults: calls that fail, hang, answer rubbish, or happen and lose their answer, and processes
    that die between any two events.

    Exit 1 if a trial ends in what nobody handles, with the seed that shows it: `jam simulate FILE --seed N` tells it.
    Tools, models and people are simulated: they give what the tests' mocks say, or a value of the declared type.
    """
    compiled = load(program)
    if taken := first_taken(program, compiled):
        click.echo(f"note: {taken}", err=True)
    sorts, crashes = _faults(faults)
    given = None if input_ is None else read_json(input_, "the input")
    if seed is not None:
        return _one(compiled, program, seed, sorts, crashes, given, form)
    from jamjet_dsl.engine.survival import survey

    found = survey(compiled, range(first, first + seeds), sorts, crashes, given)
    if form == "json":
        print_json(found.as_json())
    else:
        click.echo("\n".join(_survey(found, program)))
    return OK if found.survived else FOUND


def _faults(names: str | None) -> tuple[Any, bool]:
    """The faults of calls that are wanted, and whether processes die. Raises click.BadParameter."""
    from jamjet_dsl.engine.trial import FAULTS

    if names is None:
        return FAULTS, True
    wanted = {name.strip() for name in names.split(",")} - {"", "none"}
    if unknown := sorted(wanted - {*FAULTS, CRASH}):
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join((*FAULTS, CRASH))}", param_hint="--faults")
    return tuple(fault for fault in FAULTS if fault in wanted), CRASH in wanted


def _survey(found: Survey, program: str) -> list[str]:
    last = found.first_seed + found.trials - 1
    put_in = [f"{n:,} {_WORDS[fault]}" for fault, n in found.faults.most_common()]
    died = (
        f"processes died {found.crashes:,} times, after {counted(len(found.crashed_at), 'different number')} of events"
    )
    lines = [
        f"{click.style(plain(found.agent), bold=True)}: {counted(found.trials, 'trial')},"
        f" seeds {found.first_seed} to {last}, {found.events:,} events",
        f"  calls: {', '.join(put_in) or 'no faults'}; {died if found.crashes else 'no process died'}",
    ]
    for (status, state), times in found.ends.most_common():
        lines.append(f"  {times:>7,}  {_how(status)} {plain(state)}".rstrip())
    for finding in found.findings:
        lines += _finding(finding, program)
    for one in found.repeated:
        lines += _repeated(one, program)
    if found.survived:
        lines.append(click.style("every trial ended by itself, in a state of the program", fg="green"))
    return lines


def _how(status: str) -> str:
    return {"parked": "parked in", "doubt": "parked in doubt in", "waiting": "waits for ever in"}.get(
        status, status if status in ("cancelled", "endless") else f"{status} in"
    )


def _finding(finding: Finding, program: str) -> list[str]:
    head = f"{_how(finding.kind)} `{plain(finding.state)}`" if finding.state else _how(finding.kind)
    return [
        f"{click.style('✗', fg='red')} {head}: {plain(finding.message)}",
        f"    in {counted(finding.times, 'trial')}; jam simulate {plain(program)} --seed {finding.seed}",
        f"    help: {plain(finding.help)}",
    ]


def _repeated(one: Repeated, program: str) -> list[str]:
    where = f"    in {counted(one.times, 'trial')}; jam simulate {plain(program)} --seed {one.seed}"
    name, times = plain(one.tool), f"up to {one.most} times"
    if one.keyed:
        head = (
            f"{click.style('!', fg='yellow')} `{name}` was done {times} under one key: make it idempotent under `key`"
        )
        return [head, where]
    return [f"{click.style('✗', fg='red')} `{name}` was done {times} without a key", where]


def _one(compiled: Compiled, program: str, seed: int, sorts: Any, crashes: bool, given: Any, form: str) -> int:
    """One trial, event by event."""
    from jamjet_dsl.cli.timeline import Timeline
    from jamjet_dsl.engine.survival import Survey, told, typical_of
    from jamjet_dsl.engine.trial import Trial
    from jamjet_dsl.kernel.program import Program

    trial = Trial(
        Program.of(compiled.definition), seed, faults=sorts, crashes=crashes, typical=typical_of(compiled, given)
    )
    ended = trial.run()
    events = told(trial)
    found = Survey(compiled.definition.main, seed)
    found.add(trial, ended)
    if form == "json":
        journal = [{"seq": e.seq, "at_ms": e.at_ms, "kind": e.kind, "body": e.body} for e in events]
        print_json({**found.as_json(), "seed": seed, "journal": journal})
        return OK if found.survived else FOUND
    timeline = Timeline(compiled.definition)
    for event in events:
        if line := timeline.line(event):
            click.echo(line)
    click.echo("\n".join(_told(trial, ended, found, program)))
    return OK if found.survived else FOUND


def _told(trial: Trial, ended: Ended, found: Survey, program: str) -> list[str]:
    faults = [f"`{plain(name)}` {_WORDS[fault]}" for fault, name in trial.tried]
    faults += [f"the process died after event {seq}" for seq in trial.crashed_at]
    took = ago(trial.now_ms - trial.journal[0].at_ms)
    lines = [f"put in: {'; '.join(faults) or 'nothing'}", f"{_how(ended.status)} {plain(ended.where)}, after {took}"]
    for finding in found.findings:
        lines += _finding(finding, program)
    for one in found.repeated:
        lines += _repeated(one, program)
    return lines
