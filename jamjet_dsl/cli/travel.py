"""`jam replay`, `jam fork`, `jam migrate`, `jam prune`: what can be done with runs beside driving them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from jamjet_dsl.cli.common import (
    FOUND,
    OK,
    db_option,
    existing_database,
    format_option,
    head_log,
    print_json,
    read_json,
    tell,
)
from jamjet_dsl.cli.look import opened
from jamjet_dsl.cli.operate import by_option, detach_option
from jamjet_dsl.cli.run import drive, engine_for, follow, report, script_option
from jamjet_dsl.cli.words import counted, plain, status, when
from jamjet_dsl.cli.words import jam as command_line
from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from jamjet_dsl.definition import Compiled
    from jamjet_dsl.engine.replay import Disagreement, Replay, Said


# ---- replay


@click.command("replay")
@click.argument("run_id", metavar="ID")
@format_option("human", "json")
@db_option
@click.pass_context
def replay_command(ctx: click.Context, run_id: str, form: str) -> int:
    """Decide every event of a run again and compare: the journal proves its own transitions.

    Nothing is called and nothing is written. Exit 0 if all came out alike, 1 at the first disagreement.
    """
    from jamjet_dsl.engine.replay import replay

    with opened(ctx) as (jam, db):
        try:
            found = replay(jam.store, run_id)
        except JamError as error:
            if error.code != "JAMR107":
                raise
            # The journal is not the one that was written: whatever it would decide proves nothing.
            help = f"`{command_line(db, f'audit verify {run_id}')}` names what was changed"
            tell(JamError(error.code, error.message, help, error.details))
            return FOUND
    if form == "json":
        print_json(found.as_json())
    else:
        for line in _told(found):
            click.echo(line)
    return OK if found.proven else FOUND


def _told(found: Replay) -> list[str]:
    wrong = found.disagreement
    if wrong is not None:
        return disagreement_lines(found.run_id, wrong)
    parts = [
        f"{counted(found.decided, 'decision')} came out alike",
        f"{counted(found.taken - found.snapshots, 'event')} from outside can have been so",
    ]
    if found.snapshots:
        parts.append(f"{counted(found.snapshots, 'snapshot')} fit")
    head = f"run {click.style(found.run_id, bold=True)} replays: {counted(found.events, 'event')}, {found.status}"
    lines = [head + (f" in {found.state}" if found.state else ""), f"  {', '.join(parts)}"]
    return [*lines, *(f"  not checked: {plain(text)}" for text in found.open)]


def disagreement_lines(run_id: str, wrong: Disagreement) -> list[str]:
    """The first event that replays differently, for people."""
    where = f" in state {wrong.state}" if wrong.state else ""
    place = f" ({wrong.place})" if wrong.place else ""
    lines = [f"run {click.style(run_id, bold=True)} does not replay: event {wrong.seq}{where}{place}"]
    fields = f": {', '.join(wrong.fields)}" if wrong.fields else ""
    lines.append(f"  {plain(wrong.why)}{fields}")
    lines.append(f"  expected  {_said(wrong.expected, wrong.fields)}")
    lines.append(f"  actual    {_said(wrong.actual, wrong.fields)}")
    return lines


def _said(said: Said | None, fields: tuple[str, ...]) -> str:
    if said is None:
        return "nothing"
    body = {name: value for name, value in said.body.items() if name in fields} if fields else said.body
    return f"{said.kind} {plain(body)}"


# ---- fork


@click.command("fork")
@click.argument("run_id", metavar="ID")
@click.option("--at", "at", type=int, required=True, metavar="SEQ", help="The event after which to go on.")
@click.option("--set", "sets", multiple=True, metavar="VAR=JSON", help="Change a variable first (repeat for several).")
@click.option("--input", "given", metavar="JSON|@F", help="Change inputs first, as a JSON object.")
@click.option(
    "--mock", "mocks", multiple=True, metavar="NAME=JSON", help="What a tool or thinking state is to give (repeatable)."
)
@click.option("--live", is_flag=True, help="Make calls really. Without it they get what they got in the original.")
@click.option("--allow-repeat", is_flag=True, help="Live, even if calls that cannot be taken back are made again.")
@click.option("--id", "name", metavar="NEW", help="The fork's id (default: drawn).")
@by_option
@detach_option
@script_option
@format_option("human", "json")
@db_option
@click.pass_context
def fork_command(
    ctx: click.Context, run_id: str, at: int, sets: tuple[str, ...], given: str | None, mocks: tuple[str, ...],
    live: bool, allow_repeat: bool, name: str | None, by: str | None, detach: bool, script: str | None, form: str,
) -> int:  # fmt: skip
    """Go on from a point in a run's past, as a run of its own.

    `jam history` numbers the events. Calls are off: tools and models say what they said in the original as long as
    they are asked the same, or what --mock says, and the fork is parked at the first other call. People are asked anew.
    """
    from jamjet_dsl.engine.fork import fork

    values = dict(_assigned("--set", text) for text in sets)
    results = dict(_assigned("--mock", text) for text in mocks)
    inputs = read_json(given, "--input") if given is not None else {}
    if not isinstance(inputs, dict):
        raise JamError("JAMR301", "--input is not a JSON object", 'write {"name": value}')
    db = existing_database(ctx)

    async def go() -> int:
        async with engine_for(db, script) as jam:
            began = jam.clock.now_ms()
            made = fork(
                jam.store, run_id, at, owner=jam.owner, now_ms=began, id=name, set=values,
                input=inputs, mocks=results, live=live, allow_repeat=allow_repeat, by=by or "",
            )  # fmt: skip
            if form == "human":
                calls = "calls are made" if live else f"calls are off, {counted(made.recordings, 'recorded outcome')}"
                click.echo(f"fork {made.run_id} of {made.origin} after event {at}, in {made.state}; {calls}", err=True)
            if detach:
                return report(jam, jam.show(made.run_id), form, db, detached=True)
            return await follow(jam, await jam.resume(made.run_id), form, db, began)

    return drive(go(), db)


def _assigned(option: str, text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{option} {text}: write NAME=JSON")
    return name, read_json(value, f"{option} {name}")


# ---- migrate


@click.command("migrate")
@click.argument("run_id", metavar="ID", required=False)
@click.option("--all", "everything", is_flag=True, help="Every run at rest that is of an agent of FILE (or of AGENT).")
@click.option(
    "--to",
    "program",
    required=True,
    metavar="FILE[:AGENT]",
    help="The program to move to: FILE's agent of the run's own name, or AGENT.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would become of each run.")
@by_option
@click.option("--note", metavar="T", help="Why, for the journal.")
@format_option("human", "json")
@db_option
@click.pass_context
def migrate_command(
    ctx: click.Context, run_id: str | None, everything: bool, program: str, dry_run: bool, by: str | None,
    note: str | None, form: str,
) -> int:  # fmt: skip
    """Move runs that wait or are parked to another version of their program, if it fits where they are.

    States that have another name now are mapped by the program: `migrate from 2 { old -> new }`. Exit 0 if every run
    fits (and was moved, unless --dry-run), 1 if one does not: it stays as it is.
    """
    import os

    from jamjet_dsl.cli.common import program_file, split_agent
    from jamjet_dsl.cli.text import load
    from jamjet_dsl.engine.audit.witness import witnessing
    from jamjet_dsl.engine.engine import Engine
    from jamjet_dsl.engine.migrate import AT_REST, migrate, runs_to_migrate
    from jamjet_dsl.engine.naming import run_to_change
    from jamjet_dsl.store.sqlite import SqliteStore

    if (run_id is None) != everything:
        raise click.UsageError("name a run, or --all")
    path = program_file(split_agent(program)[0])
    first = load(program)
    folder = os.path.dirname(os.path.abspath(path)) if path != "-" else os.getcwd()
    db = existing_database(ctx)
    heads = None if dry_run else head_log(db)
    engine = Engine(store=SqliteStore(db, read_only=dry_run))
    store = engine.store
    try:
        if run_id is not None:
            row = store.summary(store.find(run_id) if dry_run else run_to_change(store, run_id))
            chosen = [(row.run_id, _version_of(program, first, row.agent))]
        else:
            agents = dict.fromkeys(row.agent for row in store.summaries((*AT_REST, "running")))
            versions = {id(v): v for v in (_version_of(program, first, agent) for agent in agents)}
            chosen = [(name, version) for version in versions.values() for name in runs_to_migrate(store, version)]
        with witnessing(store, heads, engine.clock):
            verdicts = [
                migrate(
                    store, name, version, owner=engine.owner, now_ms=engine.clock.now_ms(), folder=folder,
                    dry_run=dry_run, by=by or "", note=note or "",
                )
                for name, version in chosen
            ]  # fmt: skip
    finally:
        store.close()
    for verdict in verdicts:
        if form == "json":
            print_json(verdict.as_json())
            continue
        done = "is on it already" if verdict.already else "compatible" if dry_run else "moved"
        said = click.style(done, fg="green") if verdict.compatible else click.style("stays", fg="red")
        click.echo(f"{verdict.run_id}  {verdict.status} in {verdict.state}  {said}")
        for reason in verdict.reasons:
            click.echo(f"  {reason.code}  {plain(reason.message)}")
            click.echo(f"    help: {plain(reason.help)}")
        for old, new in verdict.mapped:
            click.echo(f"  {old} -> {new}")
    if not verdicts and form == "human":
        click.echo("no run is at rest that could be moved", err=True)
    return OK if all(verdict.compatible for verdict in verdicts) else FOUND


def _version_of(program: str, first: Compiled, agent: str) -> Compiled:
    """The program for runs of an agent: FILE's own agent of that name where none was named, else what was named (or
    the first), which the run will be told it is not of."""
    from jamjet_dsl.cli.common import program_file, split_agent
    from jamjet_dsl.compiler import compile_file

    path, named = split_agent(program)
    if named is not None or path == "-" or agent == first.definition.main:
        return first
    try:
        return compile_file(program_file(path), agent)
    except JamError as error:
        if error.code != "JAMR005":
            raise
        return first


# ---- prune


@click.command("prune")
@click.option("--older-than", "age", default=None, metavar="D", help="Only runs that ended so long ago: 30d, 12h.")
@click.option("--keep", type=click.IntRange(0), metavar="N", help="Keep the N that ended last.")
@click.option("--status", "wanted", multiple=True, metavar="S", help="Only runs with this status (repeat for several).")
@click.option("--dry-run", is_flag=True, help="Only say which runs would be deleted.")
@format_option("human", "json")
@db_option
@click.pass_context
def prune_command(
    ctx: click.Context, age: str | None, keep: int | None, wanted: tuple[str, ...], dry_run: bool, form: str
) -> int:
    """Delete runs that have ended, with all that belongs to them, in one transaction.

    Runs that go on are never deleted, and the id of a deleted run is never used again. Say which: --older-than,
    --keep or --status.
    """
    from jamjet_dsl.engine.clock import SystemClock
    from jamjet_dsl.kernel.model import ENDED
    from jamjet_dsl.store.sqlite import SqliteStore

    if age is None and keep is None and not wanted:
        raise click.UsageError("say which runs: --older-than 30d, --keep N or --status S")
    unknown = [status for status in wanted if status not in ENDED]
    if unknown:
        ended = ", ".join(sorted(ENDED))
        raise click.UsageError(f"--status {unknown[0]}: only runs that have ended are deleted ({ended})")
    now = SystemClock().now_ms()
    before = None if age is None else now - _age(age)
    db = existing_database(ctx)
    heads = None if dry_run else head_log(db)
    store = SqliteStore(db, read_only=dry_run)
    try:
        rows = store.prune(
            now_ms=now, before_ms=before, keep=keep or 0, statuses=frozenset(wanted) or ENDED, dry_run=dry_run
        )
    finally:
        store.close()
    if heads is not None and rows:
        # Signed, so that a run that is missing can be told from one that was deleted by whoever has the key.
        heads.append((), now, [row.run_id for row in rows])
    if form == "json":
        for row in rows:
            print_json({**row._asdict(), "deleted": not dry_run})
        return OK
    for row in rows:
        size = f"{counted(row.events, 'event')}, {row.bytes:,} bytes"
        click.echo(f"{row.run_id}  {row.agent}  {status(row.status)}  ended {when(row.ended_ms)}  {size}")
    done = "would be deleted" if dry_run else "deleted"
    click.echo(f"{counted(len(rows), 'run')} {done}", err=True)
    return OK


def _age(text: str) -> int:
    """A stretch of time as the language writes it, in milliseconds."""
    from jamjet_dsl.kernel.values import EvalError, parse_duration

    try:
        age = parse_duration(text, days=True)
    except EvalError:
        raise JamError("JAMR006", f"--older-than {text}: no stretch of time", "write 30d, 12h or 90m") from None
    if age.ns < 0:
        # Every run would be older than that.
        raise JamError("JAMR006", f"--older-than {text}: it is below zero", "write 30d, 12h or 90m")
    return age.ns // 1_000_000
