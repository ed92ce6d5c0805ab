"""The nodes of the `pydantic-graph` job: at module level, since their annotations are read from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_graph import BaseNode, End, GraphBuilder, GraphRunContext, StepContext


@dataclass
class State:
    """What the graph carries."""

    left: int
    box: Any


@dataclass
class A(BaseNode[State, None, int]):
    """One of the two states."""

    async def run(self, ctx: GraphRunContext[State]) -> B | End[int]:
        """One transition."""
        return B() if step(ctx.state) else End(int(ctx.state.box.s["n"]))


@dataclass
class B(BaseNode[State, None, int]):
    """The other."""

    async def run(self, ctx: GraphRunContext[State]) -> A | End[int]:
        """One transition."""
        return A() if step(ctx.state) else End(int(ctx.state.box.s["n"]))


def step(state: State) -> bool:
    """Act; whether there are more to come."""
    state.box.act()
    state.left -= 1
    return state.left > 0


async def begin(ctx: StepContext[State, None, int]) -> A:
    """Where the graph enters its nodes."""
    return A()


async def run(events: int, box: Any) -> int:
    """A graph's run of so many transitions."""
    builder = GraphBuilder(state_type=State, input_type=int, output_type=int)
    first = builder.step(begin)
    builder.add(builder.node(A), builder.node(B), builder.edge_from(builder.start_node).to(first))
    return int(await builder.build().run(state=State(events, box), inputs=0))
