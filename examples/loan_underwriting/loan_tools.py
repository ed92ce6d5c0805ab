"""The tools that `loan_underwriting.jam` names: plain functions between the program and the bank."""

from __future__ import annotations

from typing import Any

import bank  # the module beside this one

from jamjet_dsl import Money, ToolContext


def credit_report(ssn: str) -> dict[str, Any]:
    """What the bureau knows. Its `NotFound` is the one that the program declares: errors are matched by name."""
    score, flags = bank.report(ssn)
    return {"score": score, "flags": flags}


def account_history(account: str) -> dict[str, Any]:
    """How the account was kept."""
    months, overdrafts, average = bank.history(account)
    return {"months": months, "overdrafts": overdrafts, "average_balance": average}


def disburse(account: str, amount: Money, ctx: ToolContext) -> dict[str, Any]:
    """Pay out under the call's key, so that the bank can tell a repetition from a second payment."""
    number, paid = bank.pay(ctx.key, account, str(amount))
    return {"id": number, "paid": paid}


def lookup_payment(run: str) -> dict[str, Any] | None:
    """What the bank has paid for a run, if it has."""
    found = bank.payment(run)
    return None if found is None else {"id": found[0], "paid": found[1]}
