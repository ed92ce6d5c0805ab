"""The view `open_intents` says what the fold says: which calls were begun and have no outcome yet."""

from __future__ import annotations

import sqlite3

import pytest

from jamjet_dsl.compiler import compile_text
from jamjet_dsl.engine.trial import Trial
from jamjet_dsl.kernel.machine import apply, initial
from jamjet_dsl.kernel.model import ENDED
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.store import schema
from jamjet_dsl.store.chain import GENESIS, encode, seal, sealed_events
from tests.reference import programs

RUN = """
INSERT INTO runs (run, run_id, token, last_seq, head, mail, program, agent, status, state, waiting_for, spent,
                  created_ms, updated_ms, sum)
VALUES (1, 'r', 1, 0, x'', 0, 1, 'main', 'waiting', '', '[]', '{}', 0, 0, 0)
"""


def opened(db: sqlite3.Connection) -> set[str]:
    return {cmd for (cmd,) in db.execute("SELECT cmd FROM open_intents")}


@pytest.mark.parametrize("seed", range(24))
def test_what_is_open_is_what_the_fold_has_open(seed: int) -> None:
    """After every event of runs with branches, items, children, faults and crashes."""
    program, compared = Program.of(compile_text(programs.program(seed)).definition), 0
    for number in range(3):
        trial = Trial(program, number)
        trial.run()
        with sqlite3.connect(":memory:") as db:
            schema.create(db)
            db.execute(RUN)
            state = initial("r")
            for event in sealed_events("r", GENESIS, seal("r", 0, GENESIS, trial.journal)):
                state = apply(program, state, event)
                row = (event.seq, event.at_ms, event.kind, encode(event.body))
                db.execute("INSERT INTO events (run, seq, at_ms, kind, body) VALUES (1, ?, ?, ?, ?)", row)
                if state.status in ENDED:
                    break
                known, told = state.intents, opened(db)
                assert {cmd for cmd, intent in known.items() if not intent.unsettled} <= told, event
                # A call of which nobody knows (yet) whether it happened is open too, under the attempt that was made.
                assert told <= {*known, *state.unresolved}, (event, sorted(told), sorted(known))
                compared += bool(told)
        db.close()
    assert compared or not any(draft.kind == "intent" for draft in trial.journal)
