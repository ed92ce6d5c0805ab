"""The tools of the crash campaign: every effect is a synced line of a ledger, under the key it was made with.

The ledger lies in the folder the process works in. A line is `{"what": "call" | "did" | "failed", "tool", "key",
"args", "result"?}`: `call` before anything is done, `did` with the effect. A tool with a declared key finds what was
done under it and does it no second time, as a bank does; one without has no way to know.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from jamjet_dsl import ToolContext, ToolError

LEDGER = "ledger"


def write(what: str, ctx: ToolContext, args: dict[str, Any], result: Any = None) -> None:
    """One line, on the disk when this returns. A line is one system call, so a kill leaves no half of one."""
    line = {"what": what, "tool": ctx.tool, "key": ctx.key, "args": args, "result": result}
    file = os.open(Path.cwd() / LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (json.dumps(line, sort_keys=True) + "\n").encode())
        os.fsync(file)
    finally:
        os.close(file)


def lines() -> list[dict[str, Any]]:
    """All that was written so far."""
    path = Path.cwd() / LEDGER
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def found(tool: str, key: str) -> Any:
    """The result of what was done under a key; None if nothing was."""
    made = [line["result"] for line in lines() if (line["what"], line["tool"], line["key"]) == ("did", tool, key)]
    return made[0] if made else None


def once(ctx: ToolContext, args: dict[str, Any], result: str) -> str:
    """Do it once for this key."""
    write("call", ctx, args)
    known = found(ctx.tool, ctx.key)
    if known is None:
        write("did", ctx, args, result)
    return result if known is None else str(known)


def look(n: int) -> int:
    """A free read: it leaves no line, as it leaves none in the journal."""
    return n * 2


def priced(n: int) -> int:
    """A read that costs."""
    return n + 1


def open_for(to: str) -> bool:
    """A fact about a customer."""
    return to != "nobody"


def pay(to: str, amount: int, ctx: ToolContext) -> str:
    """Pay, once for a key."""
    return once(ctx, {"to": to, "amount": amount}, f"paid {to} {amount}")


def wire(to: str, amount: int, ctx: ToolContext) -> str:
    """Pay what cannot be taken back, once for a key."""
    return once(ctx, {"to": to, "amount": amount}, f"wired {to} {amount}")


def refund(to: str, ctx: ToolContext) -> str:
    """Take a payment back, once for a key."""
    return once(ctx, {"to": to}, f"refunded {to}")


def note(text: str, ctx: ToolContext) -> str:
    """A write that knows no keys: called twice it does it twice."""
    write("call", ctx, {"text": text})
    write("did", ctx, {"text": text}, f"noted {text}")
    return f"noted {text}"


def asked_note(text: str, ctx: ToolContext) -> str:
    """As `note`; but one can ask whether it happened."""
    return note(text, ctx)


def find_note(text: str) -> str | None:
    """Whether `asked_note` has happened."""
    made = [line for line in lines() if line["what"] == "did" and line["args"] == {"text": text}]
    return f"noted {text}" if made else None


def flaky(name: str, ctx: ToolContext) -> str:
    """Not there for the first two calls, and says so before anything is done."""
    write("call", ctx, {"name": name})
    if len([line for line in lines() if (line["what"], line["key"]) == ("call", ctx.key)]) < 3:
        raise ToolError("Unavailable", "not yet", definite=True)
    if found(ctx.tool, ctx.key) is None:
        write("did", ctx, {"name": name}, f"reached {name}")
    return f"reached {name}"


def lost(name: str, ctx: ToolContext) -> str:
    """Does what it should, and loses the answer the first time."""
    write("call", ctx, {"name": name})
    if found(ctx.tool, ctx.key) is None:
        write("did", ctx, {"name": name}, f"kept {name}")
        raise TimeoutError("no answer")
    return f"kept {name}"


def publish(name: str, ctx: ToolContext) -> str:
    """Put a file in its place as one does it well: written beside it, synced, renamed."""
    write("call", ctx, {"name": name})
    place = Path.cwd() / f"page-{name}"
    draft = place.with_suffix(".new")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(file, name.encode())
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(draft, place)
    if found(ctx.tool, ctx.key) is None:
        write("did", ctx, {"name": name}, f"published {name}")
    return f"published {name}"


def paced(n: int, ctx: ToolContext) -> str:
    """A write whose tool has a limit of calls."""
    return once(ctx, {"n": n}, f"paced {n}")
