"""A process that makes refunds, as many at once as it can: `python -m tests.engine.refunds DB NAME`."""

from __future__ import annotations

import asyncio
import sys

from jamjet_dsl import Engine, Money, compile_text

TEXT = """
tool refund(order: string, amount: money) -> string { effect writes  key order }
agent desk {
  input  order: string
  output done: bool
  budget { steps 9  exceeded -> over }
  policy { allow any  limit refund total args.amount <= $100.00 per principal }
  start state pay { call refund(order, $40.00) as id  on denied -> over  on in_doubt -> over  on error any -> over
    -> paid }
  final paid { done = true }
  final over { done = false }
}
"""


async def main(db: str, name: str) -> None:
    async def refund(order: str, amount: Money) -> str:
        return order

    async with Engine(db, tools={"refund": refund}) as jam:
        program = compile_text(TEXT)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()

        async def one(order: str) -> str:
            run = await jam.start(program, {"order": order}, id=order, principal="ann")
            return (await run.wait()).state

        ends = await asyncio.gather(*(one(f"{name}-{n}") for n in range(5)))
    sys.stdout.write("\n".join(ends) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
