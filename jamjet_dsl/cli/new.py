"""`jam new`: a small program that checks, tests and runs, as a place to start from."""

from __future__ import annotations

import os

import click

from jamjet_dsl.cli.common import OK, debug_option
from jamjet_dsl.diagnostics.errors import JamError

_PROGRAM = """\
// Greets somebody, once a person has agreed. Try: jam check, jam test, jam graph, jam run.
language 1

/// Writes a greeting to the guest book. The same key is written once.
tool greet(name: string) -> string {
  via     python "NAME_tools:greet"
  effect  irreversible
  key     run.id
  timeout 10s
}

agent NAME version 1 {
  input  name: string
  output greeting: string?
  budget { steps 5  time 1h  exceeded -> gave_up }

  policy {
    allow greet
    require approval agree before greet
  }
  check never greet unless agree answers approve

  on error any -> gave_up
  on in_doubt  -> gave_up
  on denied    -> gave_up

  start state agree {
    ask role "host" to greet(name)
      "Greet {name}?"
      options approve approves, decline
      timeout 30m
      as decision
    on approve -> say
    on decline -> gave_up
    on timeout -> gave_up
  }

  state say {
    call approved greet as text
    -> done
  }

  final  done    { greeting = text }
  failed gave_up {}
}

test "somebody agrees, and the guest is greeted" for NAME {
  input name = "Ada"
  mock greet returns "Hello, Ada!"
  mock agree answers approve
  expect path agree, say, done
  expect greeting == "Hello, Ada!" && calls(greet) == 1
}
"""

_TOOLS = '''\
"""The tools of NAME.jam. A tool is a function; it may be async, and may ask for a `ToolContext`."""

from pathlib import Path

from jamjet_dsl import ToolContext

BOOK = Path(__file__).with_name("guest_book.txt")


def greet(name: str, ctx: ToolContext) -> str:
    """Writes one line per key, so that a call that is repeated after a crash does nothing new."""
    line = f"{ctx.key} Hello, {name}!"
    written = BOOK.read_text().splitlines() if BOOK.exists() else []
    if line not in written:
        BOOK.write_text("\\n".join([*written, line]) + "\\n")
    return f"Hello, {name}!"
'''


@click.command("new")
@click.argument("name")
@debug_option
def new_command(name: str) -> int:
    """Start a program in a new folder NAME. Nothing that exists is overwritten."""
    agent = os.path.basename(name.rstrip("/")).replace("-", "_")
    if not agent.isascii() or not agent.isidentifier():
        raise JamError(
            "JAMR006", f"`{agent}` cannot be the name of an agent", "use letters, digits and _, a letter first"
        )
    if os.path.exists(name) and (not os.path.isdir(name) or os.listdir(name)):
        raise JamError("JAMR006", f"{name} exists and is not empty", "choose another name")
    files = {f"{agent}.jam": _PROGRAM, f"{agent}_tools.py": _TOOLS}
    try:
        os.makedirs(name, exist_ok=True)
        for file, text in files.items():
            with open(os.path.join(name, file), "x", encoding="utf-8") as out:
                out.write(text.replace("NAME", agent))
    except OSError as error:
        raise JamError("JAMR001", f"{name} cannot be written: {error.strerror}") from None
    program = os.path.join(name, f"{agent}.jam")
    click.echo(f"made {program} and its tools. Next:")
    for line in (f"jam check {program}", f"jam test {program}", f"jam graph {program} -o {agent}.svg",
                 f"jam run {program} --input '{{\"name\": \"Ada\"}}'"):  # fmt: skip
        click.echo(f"  {line}")
    return OK
