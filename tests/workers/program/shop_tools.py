"""The world of the campaign: every call is a line in a file, which outlives whoever made it."""

import asyncio
import json
import os
import time
from pathlib import Path

from jamjet_dsl import ToolContext

_LEDGER = os.open(Path(__file__).with_name("ledger.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def _enter(tool: str, order: str, ctx: ToolContext, **more: int) -> int:
    line = {"tool": tool, "order": order, "run": ctx.run_id, "key": ctx.key, "pid": os.getpid(), **more}
    os.write(_LEDGER, json.dumps(line).encode() + b"\n")
    return 1


def charge(order: str, amount: int, ctx: ToolContext) -> int:
    """Blocks a little, before and after what it does."""
    time.sleep(0.002)
    entered = _enter("charge", order, ctx, amount=amount)
    time.sleep(0.002)
    return entered


async def ship(order: str, ctx: ToolContext) -> int:
    """Waits without blocking."""
    await asyncio.sleep(0.002)
    return _enter("ship", order, ctx)


async def note(order: str, ctx: ToolContext) -> int:
    """What nobody can tell apart from a second one: it must not be made twice."""
    entered = _enter("note", order, ctx)
    await asyncio.sleep(0.002)
    return entered
