"""`jam worker`, as it is, with a note of every append it tried: under which token, and whether it was refused.

    python -m tests.workers.worker LOG ARGUMENTS-OF-JAM-WORKER

The note is written after the commit; a process that is killed in between leaves one out, never one too many.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from jamjet_dsl.cli import main
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine import driver
from jamjet_dsl.ports import Batch, Item, KeyConflict, Lease, New, Written
from jamjet_dsl.store import sqlite

_LOG = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def _note(lease: Lease, after: int, batch: Batch, result: Written) -> None:
    if isinstance(result, JamError):
        line = {"run": lease.run_id, "token": lease.token, "refused": result.code}
    elif isinstance(result, KeyConflict):
        line = {"run": lease.run_id, "token": lease.token, "refused": "key"}
    else:
        line = {"run": lease.run_id, "token": lease.token, "after": after, "events": len(batch.drafts)}
    os.write(_LOG, json.dumps(line).encode() + b"\n")


class Noted(sqlite.SqliteStore):
    """Writes down what became of each append."""

    def append(self, lease: Lease, expected_seq: int, batch: Batch) -> None:
        try:
            super().append(lease, expected_seq, batch)
        except JamError as error:
            _note(lease, expected_seq, batch, error)
            raise
        _note(lease, expected_seq, batch, None)

    def append_many(self, items: Sequence[Item]) -> list[Written]:
        results = super().append_many(items)
        for item, result in zip(items, results, strict=True):
            if not isinstance(item, New):
                _note(*item, result)
        return results


if __name__ == "__main__":
    sqlite.SqliteStore = Noted  # type: ignore[misc]
    # So that the short waits of the campaign are left to whoever is first, not kept by whoever began them.
    driver.LINGER_MS = 50
    main(["worker", *sys.argv[2:]])
