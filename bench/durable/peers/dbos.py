"""DBOS with its SQLite system database, a step function called by a workflow, on its own pool of threads.

As it comes it writes a rollback journal with `synchronous=FULL`; with `--journal wal` its file is in WAL mode already.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from dbos import DBOS, SetWorkflowID

from bench.durable.job import job, pragmas


def main() -> None:
    """Do the job and print its result."""
    work = job(journal=["delete", "wal"])
    path = work.file("dbos.sqlite")
    first = sqlite3.connect(path)
    first.execute(f"PRAGMA journal_mode = {work.options.journal}").fetchall()
    first.close()

    @DBOS.step()
    def step(state: dict[str, Any]) -> dict[str, Any]:
        return work.body(state)

    @DBOS.workflow()
    def flow(state: dict[str, Any], steps: int) -> int:
        for _ in range(steps):
            state = step(state)
        return int(state["n"])

    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{path}", "log_level": "ERROR"})
    DBOS.launch()
    with work.clock.running():
        handles = []
        for run in range(work.runs):
            with SetWorkflowID(f"r-{run:06d}"):
                handles.append(DBOS.start_workflow(flow, work.state(run), work.steps))
        counts = [handle.get_result() for handle in handles]
    from dbos._dbos import _get_dbos_instance

    with _get_dbos_instance()._sys_db.engine.connect() as connection:
        promise = pragmas(connection.exec_driver_sql)
    DBOS.destroy()
    work.done(counts, promise=promise)


if __name__ == "__main__":
    main()
