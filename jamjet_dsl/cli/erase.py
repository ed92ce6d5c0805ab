"""`jam erase`: forget personal data and secrets of a run, and keep the evidence of what it did."""

from __future__ import annotations

import click

from jamjet_dsl.cli.common import FOUND, OK, db_option, existing_database, format_option, print_json
from jamjet_dsl.cli.words import plain
from jamjet_dsl.diagnostics.errors import JamError


@click.command("erase")
@click.argument("run_id", metavar="ID")
@click.option("--value", "path", metavar="PATH", help="Only what is kept under this path, or inside of it.")
@format_option("human", "json")
@db_option
@click.pass_context
def erase_command(ctx: click.Context, run_id: str, path: str | None, form: str) -> int:
    """Forget the secret and redacted values of a run that has ended.

    The journal stays, with commitments in place of the values, and its hashes stay valid. The bytes are removed from
    the database file and its log as well; the exit code is 1 while another process keeps that from being done.
    """
    from jamjet_dsl.engine.clock import SystemClock
    from jamjet_dsl.engine.naming import run_to_change
    from jamjet_dsl.engine.veil import path_of, under
    from jamjet_dsl.store.sqlite import SqliteStore

    store = SqliteStore(existing_database(ctx))
    try:
        run_id = run_to_change(store, run_id)
        kept = sorted({path_of(row) for row in store.erasable(run_id)} - {""})
        if path is not None and not any(under(path, name) for name in kept):
            there = ", ".join(kept) if kept else "nothing"
            raise JamError("JAMR413", f"the run {run_id} keeps nothing under `{plain(path)}`", f"it keeps: {there}")
        done = store.erase(run_id, lambda name: path is None or under(path, name), SystemClock().now_ms())
        left = sorted({path_of(row) for row in store.erasable(run_id)} - {""})
    finally:
        store.close()
    names = sorted({path_of(name) for name in done.paths} - {""})
    if form == "json":
        print_json({"run_id": run_id, "values": done.values, "paths": names, "kept": left, "traces": done.traces})
    else:
        click.echo(f"{run_id}  {done.values} value{'' if done.values == 1 else 's'} erased  {plain(', '.join(names))}")
        if left:
            click.echo(f"  still kept: {plain(', '.join(left), None)}")
    if done.traces:
        click.echo("another process is using the database: traces may be left in its file; run this again", err=True)
        return FOUND
    return OK
