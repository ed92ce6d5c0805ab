"""How an amount of money is written: one text for one amount, wherever it is stored, shown or digested."""

from __future__ import annotations

from decimal import Decimal

_NO_MINOR = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DIGITS = "BHD IQD JOD KWD LYD OMR TND"
_MINOR_DIGITS = dict.fromkeys(_NO_MINOR.split(" "), 0) | dict.fromkeys(_THREE_DIGITS.split(" "), 3)


def amount_text(amount: Decimal, currency: str) -> str:
    """The digits of an amount: at least as many decimals as the currency has, no needless zeros beyond."""
    places = _MINOR_DIGITS.get(currency, 2)
    text = format(amount, "f")
    whole, _, part = text.partition(".")
    part = part.rstrip("0").ljust(places, "0")
    if not amount:
        whole = "0"  # there is no minus zero of money
    return f"{whole}.{part}" if part else whole


def money_text(amount: Decimal, currency: str) -> str:
    """`1.50 USD`: the canonical text of money. Equal amounts have equal texts."""
    return f"{amount_text(amount, currency)} {currency}"
