"""A graph of LangGraph whose list, with `operator.add` as its reducer, grows by one short text each step."""

from __future__ import annotations

import operator
import os
import sqlite3
from typing import Annotated, Any, TypedDict

from bench.durable.job import Growth, growth

os.environ.setdefault("LANGSMITH_TRACING", "false")

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    """What the graph carries."""

    items: Annotated[list[str], operator.add]


def drive(work: Growth) -> int:
    """How long the list was in the end."""
    connection = sqlite3.connect(work.path, check_same_thread=False)
    graph = StateGraph(State)
    graph.add_node("step", lambda state: {"items": [work.item(len(state["items"]))]})
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda s: "step" if len(s["items"]) < work.steps else END, ["step", END])
    app = graph.compile(checkpointer=SqliteSaver(connection))
    config: Any = {"configurable": {"thread_id": "grow"}, "recursion_limit": work.steps + 10}
    length = len(app.invoke({"items": []}, config, durability="sync")["items"])
    connection.close()
    return length


if __name__ == "__main__":
    work = growth("langgraph.db")
    work.done(drive(work))
