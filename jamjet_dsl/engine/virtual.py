"""A run in simulated time, in memory, without asyncio: what its two drivers share (`simulate`, `trial`).

It goes through the same `advance` as the engine's runs, and keeps what an engine would ask its database for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from jamjet_dsl.engine.advance import Happened, Transition, advance, used_in
from jamjet_dsl.engine.chance import SeededChance
from jamjet_dsl.kernel.machine import initial
from jamjet_dsl.kernel.model import RunState, Share
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.ports import Draft, KeyUse, SharedUse

START_MS = 1_700_000_000_000


@dataclass(slots=True)
class Virtual:
    """One run: its journal, its state, and the time it is there."""

    program: Program
    seed: int = 0
    journal: list[Draft] = field(default_factory=list)
    state: RunState = field(default_factory=lambda: initial("simulated"))
    now_ms: int = START_MS
    _keys: dict[tuple[str, str], bytes] = field(default_factory=dict)
    _uses: list[SharedUse] = field(default_factory=list)
    _chance: SeededChance = field(init=False)

    def __post_init__(self) -> None:
        self._chance = SeededChance(self.seed)

    def happen(self, *events: tuple[str, dict[str, Any]]) -> Transition:
        """One transition: what happened is applied, and what follows is decided and journaled."""
        happened = [Happened(*event) for event in events]
        step = advance(self.program, self.state, happened, self.now_ms, self._chance, self._known, self._used)
        self.state = step.state
        self.journal += step.drafts
        self._uses += step.uses
        for use in step.keys:
            self._keys[use.tool, use.key] = use.args_digest
        return step

    def _known(self, use: KeyUse) -> bytes | None:
        return self._keys.get((use.tool, use.key))

    def _used(self, who: str, share: Share) -> tuple[int, Decimal]:
        return used_in(self._uses, who, share)
