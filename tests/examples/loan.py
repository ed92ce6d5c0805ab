"""What the tests of the loan example share: start a run, answer it, crash it, look into the bank's ledger."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from jamjet_dsl import Engine
from jamjet_dsl.engine.view import RunView

from .pages import ROOT

ADA = {"account": "acc-1", "name": "Ada", "ssn": "123-45-6789", "amount": "9000.00 USD", "income": "80000.00 USD"}
GRACE = {"account": "acc-2", "name": "Grace", "ssn": "222-22-2222", "amount": "30000.00 USD", "income": "50000.00 USD"}
MALLORY = {**ADA, "name": "Mallory", "ssn": "333-33-3333"}
NOBODY = {**ADA, "name": "Nobody", "ssn": "000-00-0000"}


class Office:
    """A folder with the program, its tools, a bank and a run database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "loan_underwriting.jam"
        self.store = folder / "jam.db"

    def edit(self, old: str, new: str) -> None:
        """Change the program's file."""
        text = self.program.read_text(encoding="utf-8")
        assert old in text, f"the program does not say {old!r}"
        self.program.write_text(text.replace(old, new), encoding="utf-8")

    async def apply(self, app: dict[str, Any], answers: Iterable[str] = (), run_id: str = "r") -> RunView:
        """Start a run, give these answers, one a question, and drive it until it ends or waits again."""
        async with Engine(store=self.store) as jam:
            run = await jam.start(self.program, {"app": {**app, "months": 24}}, id=run_id)
            view = await run.wait()
            for option in answers:
                assert view.status == "waiting", view
                await jam.answer(run_id, option, by="olivia")
                view = await run.wait()
            return view

    async def go_on(self, run_id: str = "r") -> RunView:
        """Resume a run in this process."""
        async with Engine(store=self.store) as jam:
            return await (await jam.resume(run_id)).wait()

    def kill_while_paying(self, bank: str, *, until: str = "pay", run_id: str = "r") -> None:
        """Approve in a process of its own, and kill it with SIGKILL once the bank has counted a call of `pay`, or once
        it has committed the payment (`until="payment"`)."""
        process = subprocess.Popen(
            [sys.executable, "-m", "jamjet_dsl.cli", "--db", str(self.store), "answer", run_id, "approve"],
            env={**os.environ, "BANK": bank, "BANK_DELAY": "120", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            deadline = time.monotonic() + 60
            while not (self.payments() if until == "payment" else self.calls("pay")):
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline, "the bank was never asked to pay"
                time.sleep(0.05)
        finally:
            process.kill()  # SIGKILL: no handler runs, nothing is flushed or given up
            process.communicate()

    def payments(self) -> list[tuple[str, str]]:
        """Key and amount of every payment in the ledger."""
        return [(row[0], row[1]) for row in self._ask("SELECT key, amount FROM payments ORDER BY id")]

    def calls(self, operation: str) -> int:
        """How often the bank was asked for an operation."""
        rows = self._ask("SELECT count FROM calls WHERE operation = ?", operation)
        return int(rows[0][0]) if rows else 0

    def _ask(self, query: str, *args: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "ledger.db", timeout=10)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'calls'").fetchall():
                return []
            return db.execute(query, args).fetchall()

    def journal(self, run_id: str = "r") -> list[tuple[str, dict[str, Any]]]:
        """Kind and body of every event of a run."""
        with closing(sqlite3.connect(self.store)) as db:
            rows = db.execute("SELECT kind, body FROM journal WHERE run_id = ? ORDER BY seq", (run_id,)).fetchall()
        return [(kind, json.loads(body)) for kind, body in rows]
