"""LangGraph: one node that goes round, the SQLite saver and `durability="sync"`; many runs on a pool of threads."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict

from bench.durable.job import THREADS, job, pragmas

os.environ.setdefault("LANGSMITH_TRACING", "false")

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    """What the graph carries."""

    s: dict[str, Any]
    left: int


def main() -> None:
    """Do the job and print its result."""
    work = job()
    connection = sqlite3.connect(work.file("langgraph.db"), check_same_thread=False)
    saver = SqliteSaver(connection)
    saver.setup()
    graph = StateGraph(State)
    graph.add_node("work", lambda state: {"s": work.body(state["s"]), "left": state["left"] - 1})
    graph.add_edge(START, "work")
    graph.add_conditional_edges("work", lambda state: "work" if state["left"] else END, ["work", END])
    app = graph.compile(checkpointer=saver)

    def one(run: int) -> int:
        config = {"configurable": {"thread_id": f"r-{run:06d}"}, "recursion_limit": work.steps + 10}
        first = {"s": work.state(run), "left": work.steps}
        return int(app.invoke(first, config, durability="sync")["s"]["n"])

    with ThreadPoolExecutor(THREADS) as pool, work.clock.running():
        counts = list(pool.map(one, range(work.runs))) if work.concurrent else [one(0)]
    promise = pragmas(connection.execute)
    connection.close()
    work.done(counts, promise=promise)


if __name__ == "__main__":
    main()
