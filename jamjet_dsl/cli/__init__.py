"""`jam`: the command line, and the only place that wires the parts together.

Commands are imported when they are called, so that `jam check` does not pay for what `jam run` needs.

Exit codes: 0 success; 1 errors found, or a check, a test or a verification failed; 2 usage; 3 the run failed or was
cancelled; 4 it waits or is parked. As everywhere, 130 is an interrupted command, and 141 one whose reader has gone.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from jamjet_dsl.cli.streams import Unheard, printing

if TYPE_CHECKING:
    from jamjet_dsl.diagnostics.errors import JamError

COMMANDS: dict[str, tuple[str, str]] = {
    "new": ("new", "Start a program in a new folder."),
    "check": ("check", "Tell everything that is wrong with programs."),
    "explain": ("check", "What a diagnostic's code means, and how to fix it."),
    "fmt": ("text", "Give programs their one canonical layout."),
    "compile": ("text", "Print the definition: what the program means, as canonical JSON."),
    "eval": ("text", "Evaluate an expression."),
    "graph": ("graph", "Draw the diagram for review."),
    "run": ("run", "Start a run and drive it until it ends or waits."),
    "resume": ("run", "Continue runs from their last checkpoint."),
    "worker": ("worker", "Keep resuming whatever has something to do."),
    "runs": ("look", "List runs."),
    "show": ("look", "Where one run stands."),
    "history": ("look", "The journal of a run as a timeline."),
    "replay": ("travel", "Prove that a journal's decisions come out alike."),
    "fork": ("travel", "Go on from a point in a run's past."),
    "migrate": ("travel", "Move runs at rest to another version of their program."),
    "prune": ("travel", "Delete runs that have ended."),
    "erase": ("erase", "Forget the secret and redacted values of a run."),
    "audit": ("audit", "Evidence: who did what, by which rule, and proof that nothing of it was changed."),
    "inbox": ("look", "What waits for people."),
    "answer": ("operate", "Answer a question."),
    "send": ("operate", "Send an event to a run."),
    "retry": ("operate", "Let a parked run try again."),
    "settle": ("operate", "Say whether a call in doubt happened."),
    "cancel": ("operate", "Cancel a run."),
    "test": ("test", "Run the tests in programs."),
    "verify": ("verify", "Prove what a program can and cannot do, or show how it can."),
    "simulate": ("simulate", "Try a program under faults, and say what it does not survive."),
    "forecast": ("forecast", "The odds of a program, its steps, cost and time; what retries are worth."),
    "policy": ("policy", "Decide recorded calls of any agent by a program's policy."),
    "doctor": ("doctor", "Whether the run database is sound; write what can be had from journals anew."),
}


class Jam(click.Group):
    """The commands of `COMMANDS`, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"jamjet_dsl.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from jamjet_dsl.diagnostics.suggest import did_you_mean

            near = did_you_mean(args[0], COMMANDS) if args else None
            if near is None:
                raise
            raise click.UsageError(f"{error.message} Did you mean `jam {near}`?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(
    cls=Jam,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="FILE:AGENT names an agent of a file; without it the first is taken. Ids may be shortened while they are"
    " unique; where a run is changed, only those that were drawn. Exit codes: 0 done; 1 something was found, or a proof"
    " or test failed; 2 it could not be carried out as written; 3 the run failed or was cancelled; 4 it waits or is"
    " parked. docs/language.md teaches the language.",
)
@click.version_option(package_name="jamjet-dsl", prog_name="jam")
@click.option("--db", metavar="F", help="The run database (or JAM_DB; default: jam.db next to the program).")
@click.option("--format", "form", metavar="FORM", help="How to print: human or json (jam check knows more).")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(ctx: click.Context, db: str | None, form: str | None, debug: bool) -> None:
    """Programs for agents that survive: checked before they run, checkpointed at every step."""
    ctx.obj = {"db": db, "form": form, "debug": debug}
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main(argv: list[str] | None = None) -> None:
    """The entry point. Nothing but an exit code and clear words leaves it, unless `--debug` is given."""
    with printing():
        try:
            code = _run(sys.argv[1:] if argv is None else argv)
        except Unheard:
            code = 141
    sys.exit(code)


def _run(args: list[str]) -> int:
    """Do what is asked for; the exit code."""
    from jamjet_dsl.diagnostics.errors import JamError

    code: object = 0
    try:
        code = cli.main(args, prog_name="jam", standalone_mode=False)
        sys.stdout.flush()
    except JamError as error:
        if "--debug" in args:
            raise
        code = _refused(error)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        # Where runs are driven an interruption is dealt with: one that comes here came before that.
        command = next((arg for arg in args if arg in COMMANDS), "")
        click.echo("interrupted before a run began" if command == "run" else "interrupted", err=True)
        code = 130
    except Unheard:
        raise
    except RecursionError:
        if "--debug" in args:
            raise
        code = _refused(JamError("JAMR003", "the input is nested too deeply", "nest it less"))
    except Exception as error:
        if "--debug" in args:
            raise
        help = "run it again with --debug and report what it prints; nothing committed was lost"
        code = _refused(JamError("JAMR901", f"a bug in jam: {type(error).__name__}: {error}", help))
    return code if isinstance(code, int) else 0


def _refused(error: JamError) -> int:
    from jamjet_dsl.cli.common import exit_code, tell

    tell(error)
    return exit_code(error)
