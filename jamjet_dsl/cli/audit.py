"""`jam audit`: the journal as evidence. Looking and checking change nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from jamjet_dsl.cli.common import (
    FOUND,
    OK,
    db_option,
    existing_database,
    format_option,
    heads_file,
    print_json,
    tell,
)
from jamjet_dsl.cli.look import opened
from jamjet_dsl.cli.words import counted, plain, when
from jamjet_dsl.cli.words import jam as command_line
from jamjet_dsl.diagnostics.errors import JamError

if TYPE_CHECKING:
    from jamjet_dsl.engine.audit.heads import Signed
    from jamjet_dsl.engine.audit.keys import Public
    from jamjet_dsl.engine.audit.recheck import Recheck
    from jamjet_dsl.engine.audit.verify import Verdict

key_option = click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    metavar="K",
    envvar="JAM_AUDIT_PUBLIC_KEY",
    help="A file with a public key that is trusted (repeat for several). (JAM_AUDIT_PUBLIC_KEY)",
)
heads_option = click.option(
    "--heads", "heads", metavar="F", help="The signed heads (or JAM_AUDIT_HEADS; default: DB.heads.jsonl if it exists)."
)


@click.group("audit")
def audit_command() -> None:
    """Evidence: who did what, by which rule, and proof that nothing of it was changed.

    docs/audit.md says what can be proved, and how somebody without jam checks a bundle.
    """


# ---- show


@audit_command.command("show")
@click.argument("run_id", metavar="ID")
@format_option("human", "json")
@db_option
@click.pass_context
def show_command(ctx: click.Context, run_id: str, form: str) -> int:
    """Every call of a run, with who approved it, the rules that decided it, and what it cost."""
    from jamjet_dsl.cli.evidence import told
    from jamjet_dsl.engine.audit.records import records

    with opened(ctx) as (jam, _db):
        found = list(records(jam.store, run_id))
    for record in found:
        if form == "json":
            print_json(record)
        else:
            click.echo("\n".join(told(record)))
    return OK


# ---- verify


@audit_command.command("verify")
@click.argument("run_id", metavar="ID", required=False)
@click.option("--all", "everything", is_flag=True, help="Every run, and that none is missing that was signed.")
@click.option("--bundle", metavar="F", help="A bundle that was exported, in place of a run.")
@heads_option
@key_option
@click.option("--require-signed", is_flag=True, help="Fail too where an event is not signed, or not by who wrote it.")
@format_option("human", "json")
@db_option
@click.pass_context
def verify_command(
    ctx: click.Context, run_id: str | None, everything: bool, bundle: str | None, heads: str | None,
    public_keys: tuple[str, ...], require_signed: bool, form: str,
) -> int:  # fmt: skip
    """Whether runs are as they were written, and as they were signed. Exit 1 names the first event that is not.

    Without a public key (or the private one in JAM_AUDIT_KEY_FILE) signatures are not looked at.
    """
    if [run_id is not None, everything, bundle is not None].count(True) != 1:
        raise click.UsageError("name a run, --all, or --bundle F")
    keys = _keys(public_keys)
    if bundle is not None:
        from jamjet_dsl.engine.audit.bundle import check_bundle

        return _tell([check_bundle(bundle, keys)], None, require_signed, form)
    from jamjet_dsl.engine.audit.verify import verify, verify_all
    from jamjet_dsl.store.sqlite import SqliteStore

    db = existing_database(ctx)
    signed = _signed(db, heads, keys)
    store = SqliteStore(db, read_only=True)
    try:
        if run_id is not None:
            verdicts = [verify(store, store.find(run_id), signed)]
        else:
            verdicts = list(verify_all(store, signed))
    except JamError as error:
        if error.code != "JAMR107":
            raise
        tell(error)  # damage that leaves no run to look at
        return FOUND
    finally:
        store.close()
    return _tell(verdicts, signed, require_signed, form)


def _keys(paths: Sequence[str]) -> list[Public]:
    """The public keys that are trusted: those that are named, else that of the private key in the environment."""
    named = [path for path in paths if path]
    if not named and not any(os.environ.get(name) for name in ("JAM_AUDIT_KEY", "JAM_AUDIT_KEY_FILE")):
        return []
    from jamjet_dsl.engine.audit.keys import public_in, signer_in

    if named:
        return public_in(named)
    signer = signer_in(os.environ)
    return [] if signer is None else [signer.public]


def _signed(db: str, heads: str | None, keys: Sequence[Public]) -> Signed | None:
    """The signed heads that are meant; None where none are named and none are there."""
    named = heads or os.environ.get("JAM_AUDIT_HEADS")
    path = named or heads_file(db)
    if not named and not os.path.exists(path):
        if keys:
            raise JamError(
                "JAMR109", f"a key is named, and there are no signed heads at {path}", "name them: --heads F"
            )
        return None
    if not keys:
        if named:
            raise JamError("JAMR110", f"{path} cannot be checked without a key", "name the public key: --public-key K")
        click.echo(f"{path} is not looked at: name the public key with --public-key K", err=True)
        return None
    from jamjet_dsl.engine.audit.heads import read_heads

    return read_heads(path, keys)


def _tell(verdicts: Sequence[Verdict], signed: Signed | None, require_signed: bool, form: str) -> int:
    code = OK
    for verdict in verdicts:
        unsigned = require_signed and (verdict.signed_to is None or verdict.unsigned > 0 or bool(verdict.unwitnessed))
        code = code if verdict.sound and not unsigned else FOUND
        if form == "json":
            print_json(verdict.as_json())
        else:
            click.echo("\n".join(_verdict(verdict, bundle=signed is None)))
    if signed is not None:
        if signed.torn and form == "human":
            click.echo(
                f"{signed.path}: {counted(signed.torn, 'line')} cut short: what would have been signed is not known"
            )
        own = [finding for finding in signed.findings if not finding.run_id]
        code = FOUND if own else code
        if form == "json":
            findings = [finding.as_json() for finding in own]
            told = {"lines": signed.lines, "torn": signed.torn, "last": signed.last}
            print_json({"heads": signed.path, **told, "findings": findings})
        else:
            for finding in own:
                click.echo(f"{finding.code}  {plain(finding.message, None)}  ({finding.field})")
            click.echo(f"{signed.path}: {counted(signed.lines, 'line')}, the last one is {signed.last}")
    elif not verdicts and form == "human":
        click.echo("there are no runs", err=True)
    return code


def _verdict(verdict: Verdict, bundle: bool = False) -> list[str]:
    """What is said of a run. A bundle has one signed head and no other, so of who wrote what it tells less."""
    name = click.style(plain(verdict.run_id) or "the bundle", bold=True)
    if verdict.findings:
        head = f"{name} is {click.style('not as it was written', fg='red')}"
        return [head, *(f"  {f.code}  {plain(f.message, None)}  ({f.field})" for f in verdict.findings)]
    events = f"{counted(verdict.events, 'event')}, head {verdict.head[:16]}"
    if not verdict.signed_to:
        why = "not compared with signed heads" if verdict.signed_to is None else "no signed head names it"
        anyone = "whoever can write to it can have made all of it fit"
        return [f"{name} fits together: {events}", f"  {why}: {anyone}"]
    rest = f"; {counted(verdict.unsigned, 'event')} after it not signed" if verdict.unsigned else ""
    alone = bundle and verdict.since > 1
    word = "signed" if alone or verdict.unwitnessed or verdict.unsigned else "written"
    lines = [
        f"{name} is as it was {word}: {events}",
        f"  signed up to event {verdict.signed_to} at {when(verdict.at_ms or 0)}{rest}",
    ]
    if alone:
        lines.append(
            f"  who signed that wrote events {verdict.since} to {verdict.signed_to}, and read those before them"
        )
    for first, last in verdict.unwitnessed:
        these = f"event {first} was" if first == last else f"events {first} to {last} were"
        lines.append(f"  {these} written without the key, and signed later as found")
    return lines


# ---- export, replay, keygen


@audit_command.command("export")
@click.argument("run_id", metavar="ID")
@click.option("-o", "path", metavar="F", required=True, help="Where to write the bundle.")
@heads_option
@key_option
@format_option("human", "json")
@db_option
@click.pass_context
def export_command(
    ctx: click.Context, run_id: str, path: str, heads: str | None, public_keys: tuple[str, ...], form: str
) -> int:
    """Write a run for somebody who has nothing of ours: docs/audit.md says how to check it. Exit 1 and no bundle if the
    run is not as it was written."""
    from jamjet_dsl.engine.audit.bundle import export
    from jamjet_dsl.store.sqlite import SqliteStore

    db, keys = existing_database(ctx), _keys(public_keys)
    signed = _signed(db, heads, keys)
    store = SqliteStore(db, read_only=True)
    try:
        verdict = export(store, store.find(run_id), path, signed, keys)
    finally:
        store.close()
    if form == "json":
        print_json({**verdict.as_json(), "bundle": path if verdict.sound else None})
    elif verdict.sound:
        click.echo("\n".join([*_verdict(verdict), f"  written to {path}"]))
    else:
        click.echo("\n".join(_verdict(verdict)))
    return OK if verdict.sound else FOUND


@audit_command.command("replay")
@click.argument("run_id", metavar="ID")
@format_option("human", "json")
@db_option
@click.pass_context
def replay_command(ctx: click.Context, run_id: str, form: str) -> int:
    """Make every decision of the policy again from the record. Exit 0 if all came out alike, 1 at the first that did
    not, with what differs."""
    from jamjet_dsl.engine.audit.recheck import recheck

    with opened(ctx) as (jam, _db):
        found = recheck(jam.store, run_id)
    if form == "json":
        print_json(found.as_json())
    else:
        click.echo("\n".join(_rechecked(found)))
    return OK if found.replay.proven else FOUND


def _rechecked(found: Recheck) -> list[str]:
    replay, name = found.replay, click.style(found.replay.run_id, bold=True)
    wrong = replay.disagreement
    if wrong is not None:
        from jamjet_dsl.cli.travel import disagreement_lines

        lines = disagreement_lines(replay.run_id, wrong)
        return [*lines, f"  the decision differs in {', '.join(found.differs)}"] if found.differs else lines
    counts = (
        (found.count("allowed"), "allowed"),
        (found.count("needs_approval"), "asked"),
        (found.count("denied"), "denied"),
    )
    parts = [f"{number} {what}" for number, what in counts if number]
    told = f": {', '.join(parts)}" if parts else ""
    lines = [f"{name}: {counted(len(found.decisions), 'decision')} of the policy came out alike{told}"]
    if found.reads:
        lines.append(f"  {counted(found.reads, 'free read')} decided again too: nothing but their outcome is journaled")
    return [*lines, *(f"  not decided again: {plain(text)}" for text in replay.open)]


@audit_command.command("keygen")
@click.option(
    "-o", "path", metavar="F", required=True, help="Where to write the private key; F.pub gets the public one."
)
@click.pass_context
def keygen_command(ctx: click.Context, path: str) -> int:
    """Make a pair of Ed25519 keys. A file that exists is never written over."""
    from jamjet_dsl.engine.audit.keys import new_pair

    private, public = new_pair()
    for name, data, mode in ((path, private, 0o600), (f"{path}.pub", public.pem.encode(), 0o644)):
        try:
            with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(data)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise JamError("JAMR110", f"{name} cannot be written: {reason}", "name another file") from None
    click.echo(f"key {public.id}: {path} signs, {path}.pub is for whoever checks")
    click.echo(f"JAM_AUDIT_KEY_FILE={path} makes `{command_line('jam.db', 'run')}` and the others sign", err=True)
    return OK
