"""For scripts: run a program and wait, without async."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jamjet_dsl.definition import Compiled, Definition
from jamjet_dsl.engine.engine import Engine
from jamjet_dsl.engine.view import RunView
from jamjet_dsl.kernel.model import Mode


def run_sync(
    program: str | Path | Compiled | Definition,
    input: Mapping[str, Any] | None = None,
    *,
    id: str | None = None,
    principal: str | Mapping[str, Any] | None = None,
    policy: Mode = "enforce",
    patience_ms: int = 60_000,
    **engine: Any,
) -> RunView:
    """Start a run and drive it until it ends, is parked, or waits for somebody. `engine` goes to `Engine`.

    Raises JamError as `Engine.start` and `Run.wait` do.
    """

    async def whole() -> RunView:
        async with Engine(**engine) as jam:
            run = await jam.start(program, input, id=id, principal=principal, policy=policy)
            return await run.wait(patience_ms)

    return asyncio.run(whole())
