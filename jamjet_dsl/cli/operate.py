"""`jam answer`, `send`, `retry`, `settle`, `cancel`: moves from outside. Each is journaled, and the run is driven on
from there, unless another process drives it or `--detach` says to leave it."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from jamjet_dsl.cli.common import db_option, existing_database, format_option, read_json
from jamjet_dsl.cli.run import drive, engine_for, follow, report, script_option, user
from jamjet_dsl.cli.settings import named, person
from jamjet_dsl.cli.words import jam as command_line
from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from jamjet_dsl.engine.engine import Engine, Run
    from jamjet_dsl.ports import RunSummary

by_option = click.option(
    "--by",
    metavar="WHO",
    callback=lambda ctx, param, who: named(ctx, param, who) or user(),
    help="Who says so (default: who you are here).",
)
note_option = click.option("--note", metavar="T", help="Why, for the journal.")
detach_option = click.option(
    "--detach", is_flag=True, help="Do not drive the run on: `jam worker` or `jam resume` calls what comes next."
)


def _move(
    ctx: click.Context, form: str, script: str | None, detach: bool, name: str,
    move: Callable[[Engine], Awaitable[RunSummary]],
) -> int:  # fmt: skip
    """Make a move to the run (or question) of that name, then drive the run on, and say where it stands."""
    db = existing_database(ctx)

    async def go() -> int:
        async with engine_for(db, script, drive=not detach) as jam:
            began = jam.clock.now_ms()
            try:
                summary = await move(jam)
            except JamError as error:
                raise _with_rest(jam, name, db, error) from None
            if detach:
                return report(jam, jam.show(summary.run_id), form, db, detached=True)
            return await follow(jam, await _driven(jam, summary.run_id, db), form, db, began)

    return drive(go(), db)


def _with_rest(jam: Engine, name: str, db: str, error: JamError) -> JamError:
    """A refusal drives nothing. If the run has something to do (the time of its question is over, say) and nobody does
    it, whoever was refused should know."""
    run_id = _run_named(jam, name)
    if run_id is None or not jam.nobody_drives(run_id):
        return error
    again, worker = command_line(db, f"resume {run_id}"), command_line(db, "worker")
    rest = f"the run {run_id} has something to do, and nobody drives it: `{again}`, or keep `{worker}` running"
    return JamError(error.code, error.message, error.help, (*error.details, rest))


def _run_named(jam: Engine, name: str) -> str | None:
    """The run of that name, or whose question has it."""
    with contextlib.suppress(JamError):
        return jam.store.find_question(name).run_id
    with contextlib.suppress(JamError):
        return jam.store.find(name)
    return None


async def _driven(jam: Engine, run_id: str, db: str) -> Run:
    """The run, driven here or elsewhere. If it cannot be driven, what was said to it is kept, and this is told."""
    try:
        return await jam.resume(run_id)
    except JamError as error:
        if error.code in ("JAMR204", "JAMR205"):
            return jam.run(run_id)
        kept = f"what you said is kept: `{command_line(db, f'resume {run_id}')}` goes on once this is mended"
        raise JamError(error.code, error.message, error.help, (*error.details, kept)) from None


@click.command("answer")
@click.argument("question", metavar="ID")
@click.argument("option")
@by_option
@note_option
@click.option("--data", metavar="JSON|@F", help="The form that goes with the answer.")
@detach_option
@script_option
@format_option("human", "json")
@db_option
@click.pass_context
def answer_command(
    ctx: click.Context, question: str, option: str, by: str | None, note: str | None, data: str | None, detach: bool,
    script: str | None, form: str,
) -> int:  # fmt: skip
    """Answer a question, named by its id or by a run that has one open.

    Approving grants exactly the call that is shown, once.
    """
    values = read_json(data, "--data") if data is not None else {}
    if not isinstance(values, dict):
        raise JamError("JAMR404", "--data is not a JSON object", 'write {"name": value}')

    def said(jam: Engine) -> Awaitable[RunSummary]:
        folder = jam.folder(jam.question(question).run_id)
        return jam.answer(question, option, by=person(folder, by or ""), note=note, form=values)

    return _move(ctx, form, script, detach, question, said)


@click.command("send")
@click.argument("run_id", metavar="ID")
@click.argument("event")
@click.argument("payload", metavar="[JSON|@F]", required=False)
@click.option("--dedupe", metavar="K", help="The same K twice is one event.")
@by_option
@detach_option
@script_option
@format_option("human", "json")
@db_option
@click.pass_context
def send_command(
    ctx: click.Context, run_id: str, event: str, payload: str | None, dedupe: str | None, by: str | None, detach: bool,
    script: str | None, form: str,
) -> int:  # fmt: skip
    """Send an event to a run. It is queued durably, first in first out."""
    value: Any = read_json(payload, "the payload") if payload is not None else {}
    return _move(ctx, form, script, detach, run_id, lambda jam: jam.send(run_id, event, value, dedupe=dedupe, by=by))


@click.command("retry")
@click.argument("run_id", metavar="ID")
@by_option
@note_option
@detach_option
@script_option
@format_option("human", "json")
@db_option
@click.pass_context
def retry_command(
    ctx: click.Context, run_id: str, by: str | None, note: str | None, detach: bool, script: str | None, form: str
) -> int:
    """Let a parked run try again what it is parked at."""
    return _move(ctx, form, script, detach, run_id, lambda jam: jam.retry(run_id, by=by, note=note or ""))


@click.command("settle")
@click.argument("run_id", metavar="ID")
@click.option("--happened", metavar="JSON|@F", help="It happened, with this result.")
@click.option("--did-not-happen", "did_not", is_flag=True, help="It did not happen.")
@click.option("--call", "cmd", metavar="CALL", help="Which call, where several are in doubt: `jam show` names them.")
@click.option("--by", metavar="WHO", callback=named, help="Who found out, for the journal.")
@note_option
@detach_option
@script_option
@format_option("human", "json")
@db_option
@click.pass_context
def settle_command(
    ctx: click.Context, run_id: str, happened: str | None, did_not: bool, cmd: str | None, by: str | None,
    note: str | None, detach: bool, script: str | None, form: str,
) -> int:  # fmt: skip
    """Say whether a call in doubt happened. It is journaled who said so and why: --by and --note are required."""
    if (happened is not None) == did_not:
        raise click.UsageError("say --happened JSON (with the call's result) or --did-not-happen")
    if not by or not note:
        raise click.UsageError("say who found out and how: --by WHO --note TEXT")
    result = read_json(happened, "--happened") if happened is not None else None
    return _move(
        ctx,
        form,
        script,
        detach,
        run_id,
        lambda jam: jam.settle(run_id, not did_not, result, by=by, note=note, cmd=cmd),
    )


@click.command("cancel")
@click.argument("run_id", metavar="ID")
@click.option("--now", is_flag=True, help="Without what `on cancel` would do.")
@by_option
@note_option
@format_option("human", "json")
@db_option
@click.pass_context
def cancel_command(ctx: click.Context, run_id: str, now: bool, by: str | None, note: str | None, form: str) -> int:
    """Cancel a run: its `on cancel` handler runs first, unless --now."""
    return _move(ctx, form, None, False, run_id, lambda jam: jam.cancel(run_id, by=by, note=note or "", now=now))
