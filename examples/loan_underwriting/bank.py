"""A bank to try the agent against: a ledger in SQLite that misbehaves when told to.

It stands for a service on the other side of a network: it has its own database, commits on its own, and
knows nothing of runs. `BANK` in the environment says how it behaves:

    ok            pay, and answer (the default)
    slow          pay and commit at once, then take 20 seconds to answer
    lose          pay and commit, then break the connection instead of answering
    hang          never answer, and pay nothing
    fail          break before anything was paid
    refuse        answer that the account is closed
    flaky         the bureau does not answer the first two requests
    ignore-keys   pay every time it is asked, whatever the key, and answer as slowly as `slow`

`BANK_DELAY` is another number of seconds for what is slow, `BANK_LEDGER` another place for the ledger.
`python3 bank.py` prints the ledger: every payment, and how often each operation was called.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

PEOPLE = {"123-45-6789": (802, ""), "222-22-2222": (640, ""), "333-33-3333": (790, "fraud")}
ACCOUNTS = {"acc-1": (12, 0, "4200.00 USD"), "acc-2": (7, 2, "650.00 USD")}

TABLES = """
CREATE TABLE IF NOT EXISTS payments (id INTEGER PRIMARY KEY, key TEXT, account TEXT, amount TEXT);
CREATE TABLE IF NOT EXISTS calls (operation TEXT PRIMARY KEY, count INTEGER);
"""


class Rejected(Exception):
    """The bank refuses, and has done nothing."""


class NotFound(Exception):
    """The bureau knows nobody with this number."""


def behaviour() -> str:
    """How the bank behaves now."""
    return os.environ.get("BANK", "ok")


def delay(seconds: float) -> None:
    """Take this long, or what `BANK_DELAY` says."""
    time.sleep(float(os.environ.get("BANK_DELAY", seconds)))


@contextmanager
def ledger() -> Iterator[sqlite3.Connection]:
    """The bank's own database: one transaction, committed at the end, rolled back by an exception."""
    path = os.environ.get("BANK_LEDGER") or Path(__file__).with_name("ledger.db")
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        connection.executescript(TABLES)
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection


def count(operation: str) -> int:
    """Count a call, also of one that then fails, and say how many there were."""
    with ledger() as db:
        db.execute(
            "INSERT INTO calls VALUES (?, 1) ON CONFLICT (operation) DO UPDATE SET count = count + 1", (operation,)
        )
        return int(db.execute("SELECT count FROM calls WHERE operation = ?", (operation,)).fetchone()[0])


def report(ssn: str) -> tuple[int, list[str]]:
    """Score and flags of a person. Raises NotFound, and TimeoutError when flaky."""
    if count("report") <= 2 and behaviour() == "flaky":
        raise TimeoutError("the bureau does not answer")
    if ssn not in PEOPLE:
        raise NotFound("nobody is known under this number")
    score, flag = PEOPLE[ssn]
    return score, [flag] if flag else []


def history(account: str) -> tuple[int, int, str]:
    """Months, overdrafts and average balance of an account; an unknown account is a new one."""
    count("history")
    return ACCOUNTS.get(account, (0, 0, "0.00 USD"))


def pay(key: str, account: str, amount: str) -> tuple[str, str]:
    """Pay out once per key. Returns the id of the payment and its amount. Raises Rejected."""
    count("pay")
    match behaviour():
        case "hang":
            delay(3600)
            raise TimeoutError("the bank gave up, and has paid nothing")
        case "fail":
            raise RuntimeError("the bank is out of order")
        case "refuse":
            raise Rejected(f"account {account} is closed")
    with ledger() as db:
        paid = None if behaviour() == "ignore-keys" else _payment(db, key)
        if paid is None:
            row = db.execute("INSERT INTO payments (key, account, amount) VALUES (?, ?, ?)", (key, account, amount))
            paid = (f"p{row.lastrowid}", amount)
    # From here on the money is gone, whatever becomes of the answer.
    if behaviour() in ("slow", "ignore-keys"):
        delay(20)
    if behaviour() == "lose":
        raise ConnectionResetError("the connection broke before the answer came")
    return paid


def payment(key: str) -> tuple[str, str] | None:
    """The payment made under a key, if there is one."""
    count("payment")
    with ledger() as db:
        return _payment(db, key)


def _payment(db: sqlite3.Connection, key: str) -> tuple[str, str] | None:
    row = db.execute("SELECT id, amount FROM payments WHERE key = ?", (key,)).fetchone()
    return None if row is None else (f"p{row[0]}", row[1])


def main() -> None:
    """Print the ledger."""
    with ledger() as db:
        payments = db.execute("SELECT id, key, account, amount FROM payments ORDER BY id").fetchall()
        calls = db.execute("SELECT operation, count FROM calls ORDER BY operation").fetchall()
    for number, key, account, amount in payments:
        print(f"payment p{number}: {amount} to {account} (key {key})")
    told = ", ".join(f"{operation} {count}" for operation, count in calls)
    print(f"{len(payments)} payment{'' if len(payments) == 1 else 's'}; calls: {told or 'none'}")


if __name__ == "__main__":
    main()
