"""The tools that `support_tools.jam` names: plain functions between the program and the shop.

Their errors (`NotFound`, `BadQuery`, `Rejected`) are those of the shop: the program matches them by name.
"""

from __future__ import annotations

from typing import Any

import shop  # the module beside this one

from jamjet_dsl import Money, ToolContext


def search(q: str) -> list[str]:
    """Addresses of pages of the help centre."""
    return shop.search(q)


def read_page(url: str) -> str:
    """The text of a page."""
    return shop.page(url)


def run_sql(role: str, query: str) -> list[dict[str, Any]]:
    """One SELECT. The policy lets only `read_only` through; the connection is read-only whatever it says."""
    return shop.select(query)


def refund(order: str, amount: Money, ctx: ToolContext) -> str:
    """Pay back under the declared key, so that the shop can tell a repetition from a second refund."""
    return shop.pay_back(ctx.key, order, amount.amount, amount.currency)
