"""A process with an engine and the tools: `python -m tests.engine.other_process DB ID MODE`, driving until the end."""

from __future__ import annotations

import asyncio
import sys

from jamjet_dsl import Engine, Money, compile_text
from tests.engine.test_engine_runs import ASK, INPUT


def say(line: str) -> None:
    """Tell the test at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(db: str, run_id: str, mode: str) -> None:
    async def pay(to: str, amount: Money) -> str:
        say("paying")
        if mode == "slow":
            await asyncio.sleep(1.5)
        return f"paid {amount}"

    async with Engine(db, tools={"pay": pay}) as jam:
        run = await jam.start(compile_text(ASK), INPUT, id=run_id)
        say("started")
        view = await run.wait_ended()
        say(f"{view.status} {view.state} {view.output}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
