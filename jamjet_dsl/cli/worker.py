"""`jam worker`: a process that drives whatever has something to do. Any number of them share one database."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import click

from jamjet_dsl.cli.common import OK, database, db_option, format_option, print_json
from jamjet_dsl.cli.run import drive, durability_option, engine_for, script_option

if TYPE_CHECKING:
    from jamjet_dsl.diagnostics.errors import JamError

UNBOUND = ("JAMR303", "JAMR304", "JAMR306", "JAMR307")


@click.command("worker")
@click.option(
    "--concurrency", type=click.IntRange(1), default=1_000, help="Runs driven at once (default 1000); others wait."
)
@click.option("--threads", type=click.IntRange(1), default=64, help="Calls of tools that block, at once (default 64).")
@click.option("--poll", "poll_ms", type=click.IntRange(1), default=500, help="How often to look for work (ms).")
@click.option(
    "--lease",
    "lease_ms",
    type=click.IntRange(100),
    default=15_000,
    help="How long a run stays this worker's when it is stopped (ms): others take over after that.",
)
@click.option(
    "--grace",
    "grace_ms",
    type=click.IntRange(0),
    default=10_000,
    help="How long a stopping worker waits for writes in flight (ms).",
)
@script_option
@durability_option
@format_option("human", "json")
@db_option
@click.pass_context
def worker_command(
    ctx: click.Context, concurrency: int, threads: int, poll_ms: int, lease_ms: int, grace_ms: int, script: str | None,
    durability: str, form: str,
) -> int:  # fmt: skip
    """Keep taking up whatever has something to do: timers that are due, answers, runs of a dead process.

    SIGTERM or Ctrl-C stops it: nothing new is begun, writes in flight are waited for, every lease is given up. A
    second one ends it at once. Runs of a worker that died on this machine are taken over within --poll, of one that
    hangs or runs elsewhere within --lease and --poll. Programs whose tools are not here are left to other workers.
    """
    db = database(ctx)

    def tell(run_id: str, error: JamError) -> None:
        if form == "json":
            print_json({"run_id": run_id, "code": error.code, "message": error.message})
            return
        click.echo(f"{run_id}: {error.code} {error.message}", err=True)
        if error.code in UNBOUND:
            click.echo("  runs of this program are left to workers that have what it needs", err=True)

    async def go() -> int:
        async with engine_for(
            db, script, durability, max_runs=concurrency, max_threads=threads, lease_ms=lease_ms, grace_ms=grace_ms
        ) as jam:
            level = jam.store.durability
            known = {"db": db, "durability": level, "pid": os.getpid(), "owner": jam.owner}
            if form == "json":
                print_json({**known, "concurrency": concurrency, "poll_ms": poll_ms, "lease_ms": lease_ms})
            else:
                text = f"working on {db} (durability {level}, up to {concurrency} runs at once); Ctrl-C stops"
                click.echo(text, err=True)
            # To be stopped is how a worker ends: leaving this block gives up its leases.
            with contextlib.suppress(asyncio.CancelledError):
                await jam.work(poll_ms, tell)
        return OK

    return drive(go(), db)
