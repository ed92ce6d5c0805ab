"""What the analysis knows of a program: the boundary between resolving, typing, the checks and lowering.

`resolve` fills the tables of names, `typecheck` those of types, `flow` builds one graph per agent; the
checks and `lower` only read. Tables are keyed by syntax node (nodes are equal only to themselves).
None of this is stored, and none of it needs pydantic, networkx or `dataclasses` (which compiles for half a
millisecond a class): `jam check` must start in milliseconds.
"""

from __future__ import annotations

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


class Symbol:
    """What a name stands for.

    `kind`: input var bound const fn tool model record enum member event emits agent state option local fact
    alias root error branch builtin. `bound` is a variable introduced by `as`; `root` one of args, run, user,
    principal, spent, budget, undo, now, result. `node` is its declaration (None for what is built in).
    """

    __slots__ = ("kind", "name", "node", "type", "used")

    def __init__(self, kind: str, name: str, node: Node | None, type: Type | None = None, used: bool = False) -> None:
        self.kind = kind
        self.name = name
        self.node = node
        self.type = type
        self.used = used


class FlowEdge:
    """One way from a state to another, explicit or implied.

    `origin`: `edge` written in the state; `else` the alternative of its limit; `handler` one of the agent's
    handlers; `exceeded` the budget's. `id` is the edge's identity within the state (`when#1`, `on approve#0`,
    see definition.Edge); `else` has the id of its edge followed by `!`, handlers `handler:error#0`, and so on.
    `node` is the ast.Edge, ast.Handler or ast.ExceededClause it comes from. `target` is None for `skip` and
    `yields`, which end the item or branch.
    """

    __slots__ = ("id", "node", "origin", "source", "target", "trigger")

    def __init__(
        self, source: FlowState, target: FlowState | None, node: Node, trigger: ast.Trigger | None, origin: str, id: str
    ) -> None:
        self.source = source
        self.target = target
        self.node = node
        self.trigger = trigger
        self.origin = origin
        self.id = id

    @property
    def edge(self) -> ast.Edge | None:
        """The written edge, for origin `edge` and `else`."""
        return self.node if isinstance(self.node, ast.Edge) else None


class FlowState:
    """A state, parallel or final in the graph. `path` is `STATE` or `STATE/BRANCH/INNER`, unique in the agent.

    `decl` is StateDecl, ParallelDecl or FinalDecl; for the one anonymous state of a branch or item body it is
    the Branch or EachAction. `bodies` are the regions inside it. `clauses` are the state's own clauses.
    """

    __slots__ = ("action", "bodies", "clauses", "decl", "failed", "final", "into", "name", "out", "path", "region")

    def __init__(
        self,
        name: str,
        path: str,
        decl: Node,
        region: FlowRegion,
        action: ast.Action | None,
        clauses: tuple[Node, ...],
        final: bool = False,
        failed: bool = False,
    ) -> None:
        self.name = name
        self.path = path
        self.decl = decl
        self.region = region
        self.action = action
        self.clauses = clauses
        self.final = final
        self.failed = failed
        self.out: list[FlowEdge] = []
        self.into: list[FlowEdge] = []
        self.bodies: list[FlowRegion] = []

    @property
    def span(self) -> Span:
        """Where it is named (or, for an anonymous state, where it stands)."""
        name = getattr(self.decl, "name", None)
        return name.span if isinstance(name, ast.Name) else self.decl.span


class FlowRegion:
    """States that can reach each other: the agent itself, a branch, the body of an `each`.

    `kind` is agent, branch or each; `owner` the state it stands in.
    """

    __slots__ = ("kind", "name", "owner", "start", "states")

    def __init__(self, kind: str, name: str, owner: FlowState | None) -> None:
        self.kind = kind
        self.name = name
        self.owner = owner
        self.states: dict[str, FlowState] = {}
        self.start: FlowState | None = None


class AgentInfo:
    """One agent with its parts sorted by kind and its graph. The first of a kind wins where one is allowed."""

    __slots__ = (
        "answers",
        "broken",
        "budget",
        "checks",
        "currency",
        "decl",
        "emits",
        "events",
        "file",
        "finally_",
        "flow",
        "handlers",
        "inputs",
        "moves",
        "name",
        "outputs",
        "policy",
        "vars",
    )

    def __init__(
        self, decl: ast.AgentDecl, file: ast.Program, name: str, flow: FlowRegion | None = None, broken: bool = False
    ) -> None:
        self.decl = decl
        self.file = file
        self.name = name
        self.inputs: dict[str, Symbol] = {}
        self.outputs: dict[str, Symbol] = {}
        self.vars: dict[str, Symbol] = {}
        """Declared variables and those bound by `as`, in all regions; branch-local ones under their own name."""
        self.events: dict[str, Symbol] = {}
        self.emits: dict[str, Symbol] = {}
        self.budget: ast.Budget | None = None
        self.policy: ast.Policy | None = None
        self.checks: list[ast.Check] = []
        self.handlers: list[ast.Handler] = []
        self.finally_: ast.Finally | None = None
        self.flow = flow
        self.moves: dict[str, list[ast.ThinkAction]] = {}
        """Name of a `Move` variable -> the thinks with `tools` that bind it."""
        self.answers: dict[str, list[FlowState]] = {}
        """Name of an ask's answer -> the ask states that bind it."""
        self.currency: str | None = None
        """The one currency of its money, once typing has met one."""
        self.broken = broken
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


class FileScope:
    """The names a file can see at top level: its own and the imported ones."""

    __slots__ = ("names", "program")

    def __init__(self, program: ast.Program) -> None:
        self.program = program
        self.names: dict[str, Symbol] = {}


class Analysis:
    """All that is known of a program and what it imports. `files[0]` is the one that was asked for."""

    __slots__ = (
        "agents",
        "dead_edges",
        "diagnostics",
        "enums",
        "files",
        "flow_of",
        "guard_work",
        "records",
        "roles",
        "symbols",
        "types",
        "widened",
    )

    def __init__(self, diagnostics: list[Diagnostic] | None = None) -> None:
        self.files: list[FileScope] = []
        self.agents: list[AgentInfo] = []
        """Agents of all files, those of the asked file first, in source order."""
        self.symbols: dict[Node, Symbol] = {}
        """ast.Name (in a use) and ast.Ident -> what it means. A name that is not in here was reported."""
        self.types: dict[Node, Type] = {}
        """ast.Expr -> its type after checking; ast.TypeExpr -> the type it denotes."""
        self.widened: dict[Node, Type] = {}
        """ast.Expr -> the type it was widened to by its context (int to decimal or float, string to enum, map literal
        to record), where that differs from `types`."""
        self.records: dict[str, ast.RecordDecl] = {}
        self.enums: dict[str, ast.EnumDecl] = {}
        """Declarations by the name their types have (`Type.name`, `Symbol.name`), which is unique in the program: the
        written one, with `@FILE` after it where two files declare it."""
        self.flow_of: dict[Node, FlowState] = {}
        """StateDecl, ParallelDecl, FinalDecl, Branch, EachAction -> its place in the graph."""
        self.roles: dict[str, int] | None = None
        """How many people have which role, where a list of them stands beside the program."""
        self.dead_edges: dict[FlowState, frozenset[Node]] = {}
        """State -> its edges that guards never let through, once somebody has reasoned about it."""
        self.guard_work: int | None = None
        """How many tests reasoning about guards may still make, once it has begun; see `checks.cover`."""
        self.diagnostics: list[Diagnostic] = [] if diagnostics is None else diagnostics

    def main_agents(self) -> list[AgentInfo]:
        """The agents of the file that was asked for."""
        return [a for a in self.agents if a.file is self.files[0].program]
