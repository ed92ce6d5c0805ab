"""`jam run` and `jam resume`: the commands that drive runs until they end or wait."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from jamjet_dsl.cli.common import (
    FAILED,
    INTERRUPTED,
    OK,
    WAITS,
    database,
    db_option,
    existing_database,
    exit_code,
    first_taken,
    format_option,
    head_log,
    print_json,
    program_file,
    read_json,
    split_agent,
    tell,
)
from jamjet_dsl.cli.settings import named, person
from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from jamjet_dsl.engine.engine import Engine, Run
    from jamjet_dsl.engine.view import RunView
    from jamjet_dsl.store.connection import Durability

T = TypeVar("T")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

script_option = click.option(
    "--model-script",
    "script",
    metavar="F",
    help="Answer for every model from this JSON file: for demonstrations and tests.",
)
durability_option = click.option(
    "--durability",
    type=click.Choice(("full", "normal")),
    default="full",
    envvar="JAM_DURABILITY",
    help="full: a commit survives a power cut; normal: it survives a crash of the process only. (JAM_DURABILITY)",
)


@click.command("run")
@click.argument("program", metavar="FILE[:AGENT]")
@click.option("--input", "given", metavar="JSON|@F", help="What the agent takes, as a JSON object.")
@click.option("--id", "run_id", metavar="ID", help="The run's id (default: drawn).")
@click.option(
    "--if-exists", type=click.Choice(("error", "attach")), default="error", help="If a run with this id exists."
)
@click.option("--as", "who", metavar="WHO", callback=named, help="On whose behalf (`principal` in the program).")
@click.option(
    "--detach",
    is_flag=True,
    help="Return after the first commit and call nothing; `jam worker` or `jam resume` goes on.",
)
@click.option(
    "--policy",
    type=click.Choice(("enforce", "shadow")),
    default="enforce",
    help="shadow: decide every call and journal what would have been denied, but make it all the same.",
)
@script_option
@durability_option
@format_option("human", "json")
@db_option
@click.pass_context
def run_command(
    ctx: click.Context,
    program: str,
    given: str | None,
    run_id: str | None,
    if_exists: str,
    who: str | None,
    detach: bool,
    policy: str,
    script: str | None,
    durability: str,
    form: str,
) -> int:
    """Start a run and drive it until it ends or waits. Ctrl-C leaves it resumable."""
    from jamjet_dsl.cli.text import load
    from jamjet_dsl.engine.chance import new_id
    from jamjet_dsl.engine.loading import needed_vault
    from jamjet_dsl.engine.vault import Vault
    from jamjet_dsl.engine.veil import notes
    from jamjet_dsl.kernel.inputs import started
    from jamjet_dsl.kernel.program import Program

    path = program_file(split_agent(program)[0])
    value = read_json(given, "--input") if given is not None else {}
    if not isinstance(value, dict):
        raise JamError("JAMR301", "--input is not a JSON object", 'write {"name": value}')
    compiled = load(program)
    if taken := first_taken(program, compiled):
        click.echo(click.style(f"note: {taken}", dim=True), err=True)
    # What would be refused leaves no database behind.
    started(Program.of(compiled.definition), value, None, "")
    needed_vault(Program.of(compiled.definition))
    db = database(ctx, path)
    name = new_id() if run_id is None else run_id
    if form == "human":
        click.echo(click.style(f"db {db}", dim=True), err=True)
        for note in notes(compiled.definition.agent, encrypted=Vault.of_environment() is not None):
            click.echo(click.style(f"note: {note}", dim=True), err=True)
    folder = os.path.dirname(os.path.abspath(path)) if path != "-" else os.getcwd()
    principal = person(Path(folder), who or user())

    async def go() -> int:
        async with engine_for(db, script, durability, folder) as jam:
            run = await jam.start(
                compiled,
                value,
                id=name,
                principal=principal,
                if_exists="attach" if if_exists == "attach" else "error",
                drive=not detach,
                policy="shadow" if policy == "shadow" else "enforce",
            )
            if detach:
                return report(jam, jam.show(run.id), form, db, detached=True)
            return await follow(jam, run, form, db)

    return drive(go(), db, lambda: _begun(db, name))


def _begun(db: str, run_id: str) -> str:
    """What is told of a run whose start was interrupted. Only the database knows whether it began."""
    from jamjet_dsl.cli.words import jam
    from jamjet_dsl.store.sqlite import SqliteStore

    try:
        store = SqliteStore(db, read_only=True) if os.path.exists(db) else None
        try:
            status = None if store is None else store.summary(run_id).status
        finally:
            if store is not None:
                store.close()
    except JamError:
        status = None
    if status is None:
        return "interrupted before a run began"
    return f"interrupted; the run {run_id} began, and nothing is lost: `{jam(db, f'resume {run_id}')}` goes on"


def user() -> str:
    """Who is at the keyboard, for the audit; `--as` says otherwise."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


@click.command("resume")
@click.argument("ids", nargs=-1, metavar="ID…")
@click.option("--all", "everything", is_flag=True, help="Every run that has something to do.")
@script_option
@durability_option
@format_option("human", "json")
@db_option
@click.pass_context
def resume_command(
    ctx: click.Context, ids: tuple[str, ...], everything: bool, script: str | None, durability: str, form: str
) -> int:
    """Continue runs from their last checkpoint, on the definition they started with."""
    if bool(ids) == everything:
        raise click.UsageError("name runs, or --all")
    db = existing_database(ctx)

    async def go() -> int:
        async with engine_for(db, script, durability) as jam:
            began = jam.clock.now_ms()
            if everything:
                runs, problems = await jam.resume_all()
                for error in problems.values():
                    tell(error)
                if not runs and not problems and form == "human":
                    click.echo("nothing to resume: no run has anything to do now", err=True)
            else:
                runs, problems = await _resumed(jam, ids)
            codes = [await follow(jam, run, form, db, began) for run in runs]
            return max([*codes, *(exit_code(e) for e in problems.values())], default=OK)

    return drive(go(), db)


async def _resumed(jam: Engine, ids: Iterable[str]) -> tuple[list[Run], dict[str, JamError]]:
    """The runs that could be resumed; one that could not does not keep the others from it."""
    runs: list[Run] = []
    problems: dict[str, JamError] = {}
    for run_id in dict.fromkeys(ids):
        try:
            runs.append(await jam.resume(run_id))
        except JamError as error:
            problems[run_id] = error
            tell(error)
    return runs, problems


@contextlib.asynccontextmanager
async def engine_for(
    db: str, script: str | None = None, durability: str = "full", folder: str | None = None, **limits: Any
) -> AsyncIterator[Engine]:
    """An engine as the command line wants it; `limits` go to `Engine`.

    A call that timed out on a thread is waited for before the process ends: what it did is worth knowing.
    """
    from jamjet_dsl.engine.engine import GRACE_MS, Engine

    models: dict[str, Any] = {}
    if script is not None:
        from jamjet_dsl.models.scripted import Scripted

        models["*"] = Scripted.from_file(script)
    grace_ms = limits.pop("grace_ms", GRACE_MS)
    level: Durability = "normal" if durability == "normal" else "full"
    engine = Engine(store=db, models=models, folder=folder, durability=level, heads=head_log(db), **limits)
    try:
        yield engine
    finally:
        late = engine.late()
        if late:
            names = ", ".join(late)
            text = f"waiting up to {grace_ms / 1000:g}s for the late result of {names}; Ctrl-C leaves without it"
            click.echo(text, err=True)
        await engine.close(grace_ms)


def drive(work: Coroutine[Any, Any, int], db: str, told: Callable[[], str] | None = None) -> int:
    """Run to the end. A first SIGTERM or Ctrl-C stops it: leases are given up, writes in flight are waited for. A
    second one ends the process at once, whatever it does: everything stays resumable. `told` is what is said then."""
    from jamjet_dsl.engine.collector import calm

    calm()

    async def guarded() -> int:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            for name in _SIGNALS:
                loop.remove_signal_handler(name)
                signal.signal(name, signal.SIG_DFL)
            task.cancel()

        for name in _SIGNALS:
            with contextlib.suppress(NotImplementedError, ValueError):
                loop.add_signal_handler(name, stop)
        try:
            return await task
        except asyncio.CancelledError:
            click.echo((told or resumable)(), err=True)
            return WAITS

    def resumable() -> str:
        from jamjet_dsl.cli.words import jam

        return f"interrupted; nothing is lost: `{jam(db, 'resume --all')}` goes on from the last checkpoint"

    try:
        return asyncio.run(guarded())
    except KeyboardInterrupt:
        # Before the loop takes signals, and after it does.
        work.close()
        click.echo((told or resumable)(), err=True)
        return INTERRUPTED


async def follow(jam: Engine, run: Run, form: str, db: str, since_ms: int = 0) -> int:
    """Drive a run until it ends or waits, with progress (what happens from `since_ms` on) on a terminal, then say
    where it stands: also when it is interrupted before that."""
    try:
        if form == "human" and sys.stderr.isatty():
            view = await _watched(jam, run, since_ms)
        else:
            view = await run.wait()
    except asyncio.CancelledError:
        report(jam, jam.show(run.id), form, db)
        raise
    return report(jam, view, form, db)


async def _watched(jam: Engine, run: Run, since_ms: int) -> RunView:
    from jamjet_dsl.cli.progress import Progress

    progress = Progress(jam, run.id, since_ms)
    watching = asyncio.ensure_future(progress.watch(run))
    try:
        return await run.wait()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        progress.catch_up()
        progress.close()


def report(jam: Engine, view: RunView, form: str, db: str, *, detached: bool = False) -> int:
    """Print where a run stands and what continues it; the exit code that belongs to it."""
    from dataclasses import replace

    from jamjet_dsl.cli.words import complete, standing

    view = complete(jam, view, db)
    if view.durability is None:
        view = replace(view, durability=jam.store.durability)  # nobody drives it now: what was committed was here
    if form == "json":
        print_json(view.as_json())
    else:
        click.echo(standing(view, db))
    match view.status:
        case "completed":
            return OK
        case "failed" | "cancelled":
            return FAILED
        case "running" if detached:
            return OK
        case _:
            return WAITS
