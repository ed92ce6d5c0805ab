"""Which run is meant, and whether it is the one that somebody wanted to start.

Ids may be shortened while that is unique; where a run is to be changed, only an id that was drawn, whose every
character is by chance: `loan-1` must never approve the payment of `loan-10`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.chance import is_drawn
from jamjet_dsl.engine.hidden import marks
from jamjet_dsl.engine.replay_world import same
from jamjet_dsl.kernel.model import RunState
from jamjet_dsl.kernel.values import to_journal
from jamjet_dsl.ports import Store

_FEWEST = 4
"""Characters of a drawn id that stand for it where a run is changed: a slip of the finger finds no run with them."""


def run_to_change(store: Store, name: str) -> str:
    """The id of the run that `name` stands for where it is to be changed.

    Raises JamError: JAMR201 for none, or where `name` is the beginning of an id that somebody chose; JAMR202 where it
    may mean several.
    """
    found = store.find(name)
    if not stands_for(name, found):
        raise shortened("JAMR201", "run", name, found)
    return found


def stands_for(name: str, found: str) -> bool:
    """Whether a name may stand for this id in what changes a run."""
    return name == found or (len(name) >= _FEWEST and is_drawn(found))


def shortened(code: str, what: str, name: str, found: str) -> JamError:
    """What is said where a name is the beginning of an id and may not stand for it."""
    why = f"give {_FEWEST} characters or more" if is_drawn(found) else "an id that somebody chose is not shortened here"
    return JamError(code, f"there is no {what} {name!r}", f"write the whole id, if you mean {found}: {why}")


def check_same_request(state: RunState, started: Mapping[str, Any]) -> None:
    """Whoever starts a run that exists gets that one, if it is what would be started: of the same agent and with the
    same input. Its program may have changed since, and what was erased of its input is not compared.

    Raises JamError JAMR203.
    """
    help = "use another id, or give what the run was started with"
    if state.agent != started["agent"]:
        raise JamError("JAMR203", f"the run {state.run_id} exists, of the agent `{state.agent}`", help)
    known, given = to_journal(state.input), started["input"]
    other = [
        name
        for name in known
        if name in given and not same(known[name], given[name]) and next(marks(known[name]), None) is None
    ]
    if other:
        names = ", ".join(f"`{name}`" for name in other)
        raise JamError("JAMR203", f"the run {state.run_id} exists, with another input: {names}", help)
