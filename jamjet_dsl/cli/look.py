"""`jam runs`, `jam show`, `jam history`, `jam inbox`: looking changes nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from jamjet_dsl.cli.common import OK, db_option, existing_database, format_option, print_json
from jamjet_dsl.cli.words import (
    ago,
    complete,
    option_names,
    plain,
    question,
    question_lines,
    standing,
    status,
    waits,
    when,
)
from jamjet_dsl.cli.words import jam as command_line

if TYPE_CHECKING:
    from jamjet_dsl.engine.engine import Engine


@contextlib.contextmanager
def opened(ctx: click.Context) -> Iterator[tuple[Engine, str]]:
    """An engine that is only looked through, and its database: it is opened for reading alone."""
    from jamjet_dsl.engine.engine import Engine
    from jamjet_dsl.store.sqlite import SqliteStore

    db = existing_database(ctx)
    engine = Engine(store=SqliteStore(db, read_only=True))
    try:
        yield engine, db
    finally:
        engine.store.close()


@click.command("runs")
@click.option("--status", "wanted", multiple=True, metavar="S", help="Only runs with this status (repeat for several).")
@format_option("human", "json")
@db_option
@click.pass_context
def runs_command(ctx: click.Context, wanted: tuple[str, ...], form: str) -> int:
    """List runs, oldest first."""
    from dataclasses import asdict

    from jamjet_dsl.engine.owner import durability_of

    with opened(ctx) as (jam, _db):
        rows = jam.runs(wanted or None)
        now = jam.clock.now_ms()
    if form == "json":
        for row in rows:
            print_json({**asdict(row), "durability": durability_of(row.owner)})
        return OK
    if not rows:
        click.echo("no runs", err=True)
    for row in rows:
        waiting = "; ".join(waits(w) for w in row.waiting_for)
        line = f"{row.run_id}  {row.agent}  {status(row.status)}  {row.state}"
        line += f"  (fork of {row.parent})" if row.parent else ""
        click.echo(
            f"{line}  {click.style(f'{ago(max(0, now - row.updated_ms))} ago', dim=True)}"
            + (f"  {plain(waiting)}" if waiting else "")
        )
    return OK


@click.command("show")
@click.argument("run_id", metavar="ID")
@format_option("human", "json")
@db_option
@click.pass_context
def show_command(ctx: click.Context, run_id: str, form: str) -> int:
    """Where one run stands, with its variables."""
    with opened(ctx) as (jam, db):
        view = complete(jam, jam.show(run_id), db)
    if form == "json":
        print_json(view.as_json())
        return OK
    click.echo(standing(view, db))
    click.echo(
        f"  agent {view.agent}  definition {view.definition[:12]}  {view.last_seq} events"
        f"  started {when(view.created_ms)}"
    )
    if view.owner:
        click.echo(f"  driven by {view.owner}, durability {view.durability}")
    if view.policy == "shadow":
        click.echo("  policy in shadow: what it denies is journaled, and made all the same")
    if view.origin is not None:
        calls = "its calls are made" if view.origin["live"] else "its calls are off"
        click.echo(f"  fork of {view.origin['run']} after event {view.origin['seq']}, {calls}")
    for frame in view.frames:
        click.echo(
            f"  {frame['kind']} {frame['path']}  {frame['state']}  {frame['phase']}, since {when(frame['since_ms'])}"
        )
    for title, values in (("input", view.input), ("variables", view.vars)):
        if values:
            click.echo(f"  {title}")
            for name, value in values.items():
                click.echo(f"    {name}: {plain(value)}")
    return OK


@click.command("history")
@click.argument("run_id", metavar="ID")
@click.option("-f", "follow", is_flag=True, help="Keep printing until the run ends.")
@format_option("human", "json")
@db_option
@click.pass_context
def history_command(ctx: click.Context, run_id: str, follow: bool, form: str) -> int:
    """The journal of a run: every decision, intent and outcome, in order."""
    from dataclasses import asdict, replace

    from jamjet_dsl.cli.timeline import Timeline
    from jamjet_dsl.engine.hidden import unmarked
    from jamjet_dsl.engine.loading import pinned
    from jamjet_dsl.kernel.model import ENDED

    with opened(ctx) as (jam, _db):
        run_id = jam.run(run_id).id
        store = jam.store
        timeline = Timeline(
            jam.program(run_id).definition, lambda digest, source: pinned(store, digest, source).compiled.definition
        )
        after = 0
        while True:
            # Asked before the journal is read: what a run appends when it ends is then in what is read.
            ended = jam.store.summary(run_id).status in ENDED
            kept = {row.commitment.hex() for row in store.erasable(run_id)} if form == "human" else frozenset()
            for event in jam.history(run_id, after):
                after = event.seq
                if form == "json":
                    print_json(asdict(event))
                elif line := timeline.line(replace(event, body=unmarked(event.body, kept))):
                    click.echo(line)
            if not follow or ended:
                return OK
            sys.stdout.flush()
            time.sleep(0.2)


@click.command("inbox")
@format_option("human", "json")
@db_option
@click.pass_context
def inbox_command(ctx: click.Context, form: str) -> int:
    """The questions that wait for people."""
    with opened(ctx) as (jam, db):
        rows = jam.inbox()
    if form == "json":
        for row in rows:
            times = {"asked_ms": row.asked_ms, "expires_ms": row.expires_ms}
            print_json({"id": row.id, "run_id": row.run_id, "state": row.state, **question(row.body), **times})
        return OK
    if not rows:
        click.echo("nothing waits for anybody", err=True)
    for row in rows:
        asked = question(row.body)
        until = f", until {when(row.expires_ms)}" if row.expires_ms else ""
        click.echo(f"{click.style(row.id, bold=True)}  {plain(asked['role'])}: {plain(asked['text'])}")
        click.echo(f"  run {row.run_id} in {row.state}, asked {when(row.asked_ms)}{until}")
        for line in question_lines(asked):
            click.echo(f"    {line}")
        command = command_line(db, f"answer {row.id} {'|'.join(option_names(asked['options']))} --by WHO")
        click.echo(f"  {click.style('answer with', dim=True)}  {command}")
    return OK
