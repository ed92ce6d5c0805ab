"""What can stand against moving a run to another version of its program, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

_LEAVE = "or leave the run to end on its own program"
KEEP = f"keep the rule as it was, {_LEAVE}"
_HELPS = {
    "JAM802": f"keep the state as it was, or map it to one that does the same, {_LEAVE}",
    "JAM803": f"give the variable an initial value, or keep its type, {_LEAVE}",
    "JAM804": "have the question answered first, or keep it as it was",
    "JAM805": "let the run go on first (`jam resume`), or give it more time",
    "JAM807": f"give the new program a larger budget, {_LEAVE}",
    "JAM808": f"keep the tool and its parameters, {_LEAVE}",
    "JAMR204": "it keeps the program it had; start a new run",
    "JAMR205": "stop the process that drives it, or wait until it rests",
}


class Reason(NamedTuple):
    """Something that stands against it, and what to do."""

    code: str
    message: str
    help: str


def reason(code: str, message: str, help: str = "") -> Reason:
    """A reason with its help, or what helps against all of its code."""
    return Reason(code, message, help or _HELPS[code])
