"""A process that drives one run and can be told where to die: `python -m tests.crash.worker DB LEDGER POINT`.

POINT is `-` (live), `TOOL:before`, `TOOL:after` (the tool dies before, or after its effect), `append:N:before` or
`append:N:after` (around the Nth commit). The ledger is a text file: one line per call and one per effect.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from jamjet_dsl import Engine, JamError, compile_text
from jamjet_dsl.store.sqlite import SqliteStore

PROGRAM = """
tool look(account: string) -> int { effect reads  cost $0.10 }
tool pay(account: string, amount: int) -> string { effect irreversible  key run.id + "/pay" }
tool note(text: string) -> string { effect writes }
agent teller {
  input account: string
  output receipt: string?, noted: string?
  budget { steps 9  cost $1  exceeded -> stopped }
  policy { allow look, note  allow pay without approval because "a test" }
  start state looking { call look(account) as balance  on error any -> stopped  -> paying }
  state paying { call pay(account, balance) as receipt  on error any -> stopped  -> noting }
  state noting { call note(receipt) as noted  on error any -> stopped  -> done }
  final done { receipt = receipt  noted = noted }
  failed stopped { }
}
"""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Ledger:
    """Effects that survive the process. `pay` executes one key once, as a bank does; `note` knows no keys."""

    def __init__(self, path: Path, point: str) -> None:
        self.path = path
        self.point = point

    def write(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def step(self, tool: str, key: str) -> None:
        self.write(f"called {tool}")
        if self.point == f"{tool}:before":
            die()
        if f"did {tool} {key}" not in self.path.read_text().splitlines():
            self.write(f"did {tool} {key}")
        if self.point == f"{tool}:after":
            die()

    async def look(self, account: str) -> int:
        self.step("look", "-")
        return 7

    def pay(self, account: str, amount: int, ctx: Any) -> str:
        self.step("pay", ctx.key)
        return f"r-{amount}"

    async def note(self, text: str) -> str:
        self.write(f"noted {text}")
        self.step("note", "-")
        return "noted"


class DyingStore(SqliteStore):
    """Dies around its Nth commit to the journal."""

    point = "-"
    commits = 0

    def append(self, *args: Any, **named: Any) -> Any:
        type(self).commits += 1
        if self.point == f"append:{self.commits}:before":
            die()
        events = super().append(*args, **named)
        if self.point == f"append:{self.commits}:after":
            die()
        return events


async def main(db: str, ledger: str, point: str) -> str:
    bank = Ledger(Path(ledger), point)
    DyingStore.point = point
    tools = {"look": bank.look, "pay": bank.pay, "note": bank.note}
    store = DyingStore(db)
    async with Engine(store, tools=tools) as jam:
        try:
            run = await jam.resume("t")
        except JamError as error:
            if error.code == "JAMR204":
                return jam.store.summary("t").status
            if error.code != "JAMR201":
                raise
            run = await jam.start(compile_text(PROGRAM), {"account": "a1"}, id="t")
        view = await run.wait()
        return f"{view.status} {view.state}"


if __name__ == "__main__":
    sys.stdout.write(asyncio.run(main(*sys.argv[1:4])))
