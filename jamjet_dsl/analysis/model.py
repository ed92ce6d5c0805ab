"""What the analysis knows of a program: the boundary between resolving, typing, the checks and lowering.

`resolve` fills the tables of names, `typecheck` those of types, `flow` builds one graph per agent; the
checks and `lower` only read. Tables are keyed by syntax node (nodes are equal only to themselves).
None of this is stored, and none of it needs pydantic or networkx: `jam check` must start in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.source import Span
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node


class Type(NamedTuple):
    """A type, compared by structure.

    `kind`: bool int uint float string bytes decimal duration timestamp any null money list map record enum
    optional secret object fn conversation Move ToolCall file error. `args` are the parts of a list (item), map (key,
    value), optional and secret (inner). `name` is the declared name of a record or enum. `low`/`high` bound
    a number or a list's length. `fields` are those of an `object` (an ask's answer, an event's payload).
    `currency` belongs to money; None means not fixed by the context. `error` is the type of what was already
    reported: it fits everything and nothing more is said about it.
    """

    kind: str
    args: tuple[Type, ...] = ()
    name: str | None = None
    low: object = None
    high: object = None
    fields: tuple[tuple[str, Type], ...] = ()
    currency: str | None = None


@dataclass(eq=False, slots=True)
class Symbol:
    """What a name stands for.

    `kind`: input var bound const fn tool model record enum member event emits agent state option local fact
    alias root error branch builtin. `bound` is a variable introduced by `as`; `root` one of args, run, user,
    principal, spent, budget, undo, now, result. `node` is its declaration (None for what is built in).
    """

    kind: str
    name: str
    node: Node | None
    type: Type | None = None
    used: bool = False


@dataclass(eq=False, slots=True)
class FlowEdge:
    """One way from a state to another, explicit or implied.

    `origin`: `edge` written in the state; `else` the alternative of its limit; `handler` one of the agent's
    handlers; `exceeded` the budget's. `id` is the edge's identity within the state (`when#1`, `on approve#0`,
    see definition.Edge); `else` has the id of its edge followed by `!`, handlers `handler:error#0`, and so on.
    `node` is the ast.Edge, ast.Handler or ast.ExceededClause it comes from. `target` is None for `skip` and
    `yields`, which end the item or branch.
    """

    source: FlowState
    target: FlowState | None
    node: Node
    trigger: ast.Trigger | None
    origin: str
    id: str

    @property
    def edge(self) -> ast.Edge | None:
        """The written edge, for origin `edge` and `else`."""
        return self.node if isinstance(self.node, ast.Edge) else None


@dataclass(eq=False, slots=True)
class FlowState:
    """A state, parallel or final in the graph. `path` is `STATE` or `STATE/BRANCH/INNER`, unique in the agent.

    `decl` is StateDecl, ParallelDecl or FinalDecl; for the one anonymous state of a branch or item body it is
    the Branch or EachAction. `bodies` are the regions inside it. `clauses` are the state's own clauses.
    """

    name: str
    path: str
    decl: Node
    region: FlowRegion
    action: ast.Action | None
    clauses: tuple[Node, ...]
    final: bool = False
    failed: bool = False
    out: list[FlowEdge] = field(default_factory=list)
    into: list[FlowEdge] = field(default_factory=list)
    bodies: list[FlowRegion] = field(default_factory=list)

    @property
    def span(self) -> Span:
        """Where it is named (or, for an anonymous state, where it stands)."""
        name = getattr(self.decl, "name", None)
        return name.span if isinstance(name, ast.Name) else self.decl.span


@dataclass(eq=False, slots=True)
class FlowRegion:
    """States that can reach each other: the agent itself, a branch, the body of an `each`.

    `kind` is agent, branch or each; `owner` the state it stands in.
    """

    kind: str
    name: str
    owner: FlowState | None
    states: dict[str, FlowState] = field(default_factory=dict)
    start: FlowState | None = None


@dataclass(eq=False, slots=True)
class AgentInfo:
    """One agent with its parts sorted by kind and its graph. The first of a kind wins where one is allowed."""

    decl: ast.AgentDecl
    file: ast.Program
    name: str
    inputs: dict[str, Symbol] = field(default_factory=dict)
    outputs: dict[str, Symbol] = field(default_factory=dict)
    vars: dict[str, Symbol] = field(default_factory=dict)
    """Declared variables and those bound by `as`, in all regions; branch-local ones under their own name."""
    events: dict[str, Symbol] = field(default_factory=dict)
    emits: dict[str, Symbol] = field(default_factory=dict)
    budget: ast.Budget | None = None
    policy: ast.Policy | None = None
    checks: list[ast.Check] = field(default_factory=list)
    handlers: list[ast.Handler] = field(default_factory=list)
    finally_: ast.Finally | None = None
    flow: FlowRegion | None = None
    moves: dict[str, list[ast.ThinkAction]] = field(default_factory=dict)
    """Name of a `Move` variable -> the thinks with `tools` that bind it."""
    answers: dict[str, list[FlowState]] = field(default_factory=dict)
    """Name of an ask's answer -> the ask states that bind it."""
    currency: str | None = None
    """The one currency of its money, once typing has met one."""
    broken: bool = False
    """A name in it was not resolved, so its graph is not what its author meant: graph checks leave it out."""

    def all_states(self) -> list[FlowState]:
        """Every state of every region, outer ones first, in source order."""
        found: list[FlowState] = []
        todo = [self.flow] if self.flow else []
        while todo:
            region = todo.pop(0)
            for state in region.states.values():
                found.append(state)
                todo.extend(state.bodies)
        return found


@dataclass(eq=False, slots=True)
class FileScope:
    """The names a file can see at top level: its own and the imported ones."""

    program: ast.Program
    names: dict[str, Symbol] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Analysis:
    """All that is known of a program and what it imports. `files[0]` is the one that was asked for."""

    files: list[FileScope] = field(default_factory=list)
    agents: list[AgentInfo] = field(default_factory=list)
    """Agents of all files, those of the asked file first, in source order."""
    symbols: dict[Node, Symbol] = field(default_factory=dict)
    """ast.Name (in a use) and ast.Ident -> what it means. A name that is not in here was reported."""
    types: dict[Node, Type] = field(default_factory=dict)
    """ast.Expr -> its type after checking; ast.TypeExpr -> the type it denotes."""
    widened: dict[Node, Type] = field(default_factory=dict)
    """ast.Expr -> the type it was widened to by its context (int to decimal or float, string to enum, map literal
    to record), where that differs from `types`."""
    records: dict[str, ast.RecordDecl] = field(default_factory=dict)
    enums: dict[str, ast.EnumDecl] = field(default_factory=dict)
    """Declarations by the name their types have (`Type.name`, `Symbol.name`), which is unique in the program: the
    written one, with `@FILE` after it where two files declare it."""
    flow_of: dict[Node, FlowState] = field(default_factory=dict)
    """StateDecl, ParallelDecl, FinalDecl, Branch, EachAction -> its place in the graph."""
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def main_agents(self) -> list[AgentInfo]:
        """The agents of the file that was asked for."""
        return [a for a in self.agents if a.file is self.files[0].program]
