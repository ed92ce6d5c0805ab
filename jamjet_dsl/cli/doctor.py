"""`jam doctor`: whether a run database is sound, and writing anew what can be had from its journals."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from jamjet_dsl.cli.common import FOUND, OK, db_option, existing_database, format_option, print_json, tell
from jamjet_dsl.cli.words import counted, plain, status
from jamjet_dsl.cli.words import jam as command_line
from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from jamjet_dsl.store.sqlite import SqliteStore

Done: TypeAlias = dict[str, Any]


@click.command("doctor")
@click.argument("ids", nargs=-1, metavar="[ID …]")
@click.option("--rebuild", is_flag=True, help="Write what stands beside the journals of these runs anew.")
@click.option("--all", "everything", is_flag=True, help="With --rebuild: of all runs.")
@click.option("--accept-loss", is_flag=True, help="With --rebuild: even if messages to a run got lost.")
@format_option("human", "json")
@db_option
@click.pass_context
def doctor_command(
    ctx: click.Context, ids: tuple[str, ...], rebuild: bool, everything: bool, accept_loss: bool, form: str
) -> int:
    """Tell everything that is wrong with the run database: pages, indices, journals, sums.

    With --rebuild the summary, the questions, the keys and the snapshot of a run are written anew from its journal. The
    journal itself is never changed: one that is damaged is refused, and so is a run that somebody drives. Exit 0 if all
    is well, 1 if not.
    """
    if rebuild != (bool(ids) or everything) or (ids and everything) or (accept_loss and not rebuild):
        raise click.UsageError("say --rebuild ID …, --rebuild --all, or neither to look at everything")
    db = existing_database(ctx)
    return _rebuilt(db, ids, accept_loss, form) if rebuild else _checked(db, form)


def _checked(db: str, form: str) -> int:
    from jamjet_dsl.store.sqlite import SqliteStore

    store = SqliteStore(db, read_only=True)
    try:
        problems = store.check()
    finally:
        store.close()
    if form == "json":
        print_json({"db": db, "sound": not problems, "problems": problems})
        return FOUND if problems else OK
    for problem in problems:
        click.echo(plain(problem, None))
    if not problems:
        click.echo(f"{db} is sound", err=True)
        return OK
    again = command_line(db, "doctor --rebuild ID")
    click.echo(f"{counted(len(problems), 'problem')} in {db}", err=True)
    click.echo(f"help: `{again}` writes all but a journal anew; a damaged journal needs a backup", err=True)
    return FOUND


def _rebuilt(db: str, ids: tuple[str, ...], accept_loss: bool, form: str) -> int:
    from jamjet_dsl.store.sqlite import SqliteStore

    store = SqliteStore(db)
    code = OK
    try:
        names = [store.find(name) for name in ids] if ids else store.names()
        if not names and form == "human":
            click.echo("no runs", err=True)
        for run_id in dict.fromkeys(names):
            try:
                done = _one(store, run_id, accept_loss)
            except JamError as error:
                # One run that cannot be rebuilt says nothing about the others.
                code = FOUND
                if form == "json":
                    print_json({"run_id": run_id, "rebuilt": False, "code": error.code, "message": error.message})
                else:
                    tell(error)
                continue
            if form == "json":
                print_json({"run_id": run_id, "rebuilt": True, **done})
            else:
                click.echo("\n".join(_told(run_id, done)))
            code = FOUND if done["left"] else code
    finally:
        store.close()
    return code


def _one(store: SqliteStore, run_id: str, accept_loss: bool) -> Done:
    """Rebuild one run that nobody drives, and say what it is now and what was other before."""
    from jamjet_dsl.engine.clock import SystemClock
    from jamjet_dsl.engine.journal import LEASE_MS
    from jamjet_dsl.engine.loading import rebuild
    from jamjet_dsl.engine.owner import is_dead, this_owner

    # Under a lease: what another process appended between the reading and the writing would be lost.
    lease = store.claim(run_id, this_owner(), LEASE_MS, SystemClock().now_ms(), dead=is_dead)
    try:
        if not accept_loss:
            _keep_loss(store, run_id)
        problems, before = store.check(run_id), _lists(store, run_id)
        rebuild(store, run_id)
        left, after = store.check(run_id), _lists(store, run_id)
    finally:
        store.release(lease)
    mended = [problem for problem in problems if problem not in left]
    mended += [f"{name} did not fit the journal" for name in after if name in before and before[name] != after[name]]
    run = store.summary(run_id)
    return {"events": run.last_seq, "status": run.status, "state": run.state, "mended": mended, "left": left}


def _keep_loss(store: SqliteStore, run_id: str) -> None:
    """A message that got lost stands in no journal: that one is missing is all that is known of it. Rebuilding counts
    the messages that are there, and would hide it. Raises JamError JAMR107."""
    try:
        store.pending(run_id)
    except JamError as error:
        help = "restore the database from a backup; --accept-loss goes on with the messages that are there"
        raise JamError(error.code, f"{error.message}: rebuilding would hide what is missing", help) from None


def _lists(store: SqliteStore, run_id: str) -> dict[str, Any]:
    """What lists show of a run; what is damaged is left out."""
    found: dict[str, Any] = {}
    reads: dict[str, Callable[[], Any]] = {
        "the summary": lambda: store.summary(run_id),
        "its questions": lambda: store.questions(run_id, status=None),
    }
    for name, read in reads.items():
        try:
            found[name] = read()
        except JamError as error:
            if error.code != "JAMR107":
                raise
    return found


def _told(run_id: str, done: Done) -> list[str]:
    head = f"{run_id}  written anew from {counted(done['events'], 'event')}: {status(done['status'])}"
    lines = [head + (f" in {done['state']}" if done["state"] else "")]
    lines += [f"  mended: {plain(problem, None)}" for problem in done["mended"]]
    lines += [f"  not mended: {plain(problem, None)}" for problem in done["left"]]
    return lines if len(lines) > 1 else [f"{lines[0]}; all was as it should be"]
