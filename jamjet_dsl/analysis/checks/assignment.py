"""Definite assignment: is every variable assigned before it is read, on every path?

A forward analysis over the flow graph. A set of variables is a number; on each edge it says what is certainly
assigned once that edge was taken: what the source had, the action's result and the state's `set`s if the
edge is one for success, the edge's own `set`s, the event that was taken, and what its guard made sure of with
`has`. Where edges meet, only what all of them have is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from jamjet_dsl.analysis.checks.facts import bound_name, options_of, written_edges
from jamjet_dsl.analysis.checks.paths import path_to, regions, reverse_postorder
from jamjet_dsl.analysis.checks.variables import (
    Variables,
    after_success,
    event_bind,
    read_before,
    state_sets,
    state_yields,
    written_of,
)
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowEdge, FlowRegion, FlowState
from jamjet_dsl.diagnostics.model import Diagnostic, Label, PathStep
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

_MOST_LABELS = 5
_MOST_PATHS = 20
"""A path is searched for this many findings of an agent; nobody reads more, and each costs a search."""


class UnsafeRead(NamedTuple):
    """A read of a variable that may not be assigned there."""

    name: str
    place: Node
    state: FlowState


class Words(NamedTuple):
    """What is said about a read; see `Diagnostic`."""

    code: str
    message: str
    why: str
    help: str
    labels: tuple[Label, ...] = ()


def check_assignment(agent: AgentInfo, analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM404, JAM405, JAM407 and JAM414 of one agent."""
    if agent.flow is None or agent.flow.start is None:
        return
    flow = Assignment(agent, analysis)
    reads = flow.unsafe_reads(partial_joins=False)
    if reads:
        lucky = {id(r.place) for r in flow.unsafe_reads(partial_joins=True)} if flow.has_partial_joins else None
        flow.assume(partial_joins=False)
        yield from _tell(flow, reads, lucky)
    yield from _unset_outputs(agent)


class Assignment:
    """The analysis of one agent."""

    def __init__(self, agent: AgentInfo, analysis: Analysis) -> None:
        self.agent = agent
        self.variables = Variables(agent, analysis)
        self.regions = regions(agent.flow)
        self.partial = False
        self._gains: dict[FlowEdge, int] = {}
        self._after: dict[FlowState, int] = {}
        self._guards: dict[FlowState, dict[ast.Edge, int]] = {}
        self.has_partial_joins = any(_is_partial(state) for region in self.regions for state in region.states.values())

    # ---- what is assigned

    def at_start(self) -> int:
        """What is assigned before the first state: the variables with an initial value."""
        bits = 0
        for member in ast.clauses(self.agent.decl.members, ast.VarDecl):
            if member.init is not None:
                bits |= self.variables.bit(member.name.text)
        return bits

    def gain(self, edge: FlowEdge) -> int:
        """What taking an edge adds to what is assigned in its source."""
        found = self._gains.get(edge)
        if found is None:
            found = self._gains[edge] = self._gain(edge)
        return found

    def _gain(self, edge: FlowEdge) -> int:
        if edge.origin not in ("edge", "else") or not after_success(edge.trigger):
            bits = 0
        else:
            bits = self._after.get(edge.source, -1)
            if bits < 0:
                bits = self._after[edge.source] = self.after_action(edge.source)
            bind = event_bind(edge.trigger)
            bits |= self.variables.bit(bind.text) if bind is not None else 0
            bits |= self._guarded(edge)
        written = written_of(edge)
        return bits | (self._sets(written.sets) if written is not None else 0)

    def after_action(self, state: FlowState) -> int:
        """What a state has assigned before its edges are tried, its action having succeeded."""
        return self._sets(state_sets(state)) | self.bound(state)

    def bound(self, state: FlowState) -> int:
        """What the action of a state binds: its result, an event's payload, the results of branches."""
        name = bound_name(state.action)
        bits = self.variables.bit(name.text) if name is not None else 0
        if isinstance(state.action, ast.ThinkAction) and state.action.chat is not None:
            bits |= self.variables.bit(state.action.chat.text)  # it goes on with the conversation, or begins one
        if isinstance(state.decl, ast.ParallelDecl):
            certain = self.partial or not _is_partial(state)
            for branch in ast.clauses(state.decl.members, ast.Branch):
                if branch.bind is not None and (certain or branch.default is not None):
                    bits |= self.variables.bit(branch.bind.text)
        return bits

    def _sets(self, sets: tuple[ast.SetClause, ...]) -> int:
        bits = 0
        for part in sets:
            if len(part.path.names) == 1:
                bits |= self.variables.bit(part.path.names[0].text)
        return bits

    def _guarded(self, edge: FlowEdge) -> int:
        """What the guards say when an edge is taken: its own held, and those before it did not."""
        known = self._guards.get(edge.source)
        if known is None:
            known = self._guards[edge.source] = {}
            failed = 0
            for written in written_edges(edge.source):
                known[written] = failed
                if isinstance(written.trigger, ast.When):
                    known[written] |= self.variables.assured(written.trigger.condition, True)
                    failed |= self.variables.assured(written.trigger.condition, False)
        written_edge = edge.edge
        return known[written_edge] if written_edge is not None else 0

    # ---- the fixpoint

    def assume(self, partial_joins: bool) -> None:
        """Whether a join that need not wait for all its branches is taken to assign the names of all."""
        if self.partial != partial_joins:
            self.partial = partial_joins
            self._gains.clear()
            self._after.clear()

    def unsafe_reads(self, partial_joins: bool) -> list[UnsafeRead]:
        """All reads of what may be unassigned, in source order of the regions. With `partial_joins`, as if every
        branch of every join had finished."""
        self.assume(partial_joins)
        found: list[UnsafeRead] = list(self._initial_reads())
        entry: dict[FlowRegion, int] = {}
        for region in self.regions:
            start = self.at_start() if region.owner is None else entry.get(region, -1)
            known = self._solve(region, start)
            for state in region.states.values():
                here = known.get(state)
                if here is None:
                    continue
                found.extend(UnsafeRead(name, place, state) for name, place in self._reads(state, here))
                for body in state.bodies:
                    entry[body] = here | self._item(state)
        return found

    def _item(self, state: FlowState) -> int:
        action = state.action
        return self.variables.bit(action.item.text) if isinstance(action, ast.EachAction) else 0

    def _solve(self, region: FlowRegion, start: int) -> dict[FlowState, int]:
        """What is assigned on entering each reachable state of a region."""
        if region.start is None:
            return {}
        known = {region.start: start}
        order = reverse_postorder(region.start)
        changed = True
        while changed:
            changed = False
            for state in order:
                here = known[state]
                for edge in state.out:
                    if edge.target is None:
                        continue
                    before = known.get(edge.target, -1)
                    after = before & (here | self.gain(edge))
                    if after != before or edge.target not in known:
                        known[edge.target] = after
                        changed = True
        return known

    def possibly_assigned(self) -> dict[FlowState, int]:
        """What some path assigns before a state is entered."""
        possible: dict[FlowState, int] = {}
        for region in self.regions:
            owner = region.owner
            start = self.at_start() if owner is None else possible.get(owner, 0) | self._item(owner)
            order = reverse_postorder(region.start) if region.start is not None else []
            possible.update(dict.fromkeys(order, start))
            changed = True
            while changed:
                changed = False
                for state in order:
                    for edge in state.out:
                        if edge.target is None:
                            continue
                        after = possible[edge.target] | possible[state] | self.gain(edge)
                        if after != possible[edge.target]:
                            possible[edge.target] = after
                            changed = True
        return possible

    def unassigned_path(self, read: UnsafeRead) -> tuple[PathStep, ...]:
        """A shortest path to a read on which nothing assigns the variable."""
        bit = self.variables.bit(read.name)
        return path_to(read.state, lambda edge: not self.gain(edge) & bit) or ()

    # ---- reads

    def _initial_reads(self) -> Iterator[UnsafeRead]:
        start = self.agent.flow.start if self.agent.flow is not None else None
        known = 0
        for member in ast.clauses(self.agent.decl.members, ast.VarDecl):
            if member.init is not None and start is not None:
                for name, place in self.variables.unsafe_reads(member.init, known):
                    yield UnsafeRead(name, place, start)
                known |= self.variables.bit(member.name.text)

    def _reads(self, state: FlowState, known: int) -> Iterator[tuple[str, Node]]:
        """The unsafe reads of a state that is entered with `known` assigned."""
        unsafe = self.variables.unsafe_reads
        for node, optional in read_before(state):
            if not optional:
                yield from unsafe(node, known)
        done = known | self.bound(state)
        for part in state_sets(state):
            yield from self._set_reads(part, done)
            done |= self._sets((part,))
        for result in state_yields(state):
            yield from unsafe(result.value, done)
        failed_guards = done
        for edge in written_edges(state):
            if isinstance(edge.trigger, ast.When):
                yield from unsafe(edge.trigger.condition, failed_guards)
                here = failed_guards | self.variables.assured(edge.trigger.condition, True)
                failed_guards |= self.variables.assured(edge.trigger.condition, False)
            else:
                here = failed_guards if after_success(edge.trigger) else known
            bind = event_bind(edge.trigger)
            here |= self.variables.bit(bind.text) if bind is not None else 0
            if edge.yields is not None:
                yield from unsafe(edge.yields, here)
            for part in edge.sets:
                yield from self._set_reads(part, here)
                here |= self._sets((part,))

    def _set_reads(self, part: ast.SetClause, known: int) -> Iterator[tuple[str, Node]]:
        """`set a.b = …` changes a part of what `a` holds, so it reads `a`."""
        yield from self.variables.unsafe_reads(part.value, known)
        if len(part.path.names) > 1:
            yield from self.variables.unsafe_reads(part.path, known)


def _is_partial(state: FlowState) -> bool:
    """Whether a parallel may go on before all its branches are done."""
    if not isinstance(state.decl, ast.ParallelDecl):
        return False
    join = ast.clause(state.decl.members, ast.Join)
    if join is None or join.mode == "all":
        return False
    branches = len(ast.clauses(state.decl.members, ast.Branch))
    if join.mode == "any":
        return branches > 1
    return not (isinstance(join.k, ast.Lit) and isinstance(join.k.value, int) and join.k.value >= branches)


# ---- findings


def _tell(flow: Assignment, reads: list[UnsafeRead], lucky: set[int] | None) -> Iterator[Diagnostic]:
    """One finding for each variable and code: the first read, the others as labels. Reads that are unsafe only
    because a branch may be cancelled are JAM414."""
    groups: dict[tuple[str, bool], list[UnsafeRead]] = {}
    for read in reads:
        groups.setdefault((read.name, lucky is not None and id(read.place) not in lucky), []).append(read)
    possible = flow.possibly_assigned()
    branches = _branch_names(flow) if lucky is not None else {}
    for at, ((name, cancelled), group) in enumerate(groups.items()):
        first = group[0]
        if cancelled:
            words = _cancelled(name, *branches[name])
        elif possible.get(first.state, 0) & flow.variables.bit(name):
            words = _on_some_path(first)
        else:
            words = _on_no_path(name)
        path = flow.unassigned_path(first) if words.code != "JAM404" and at < _MOST_PATHS else ()
        more = tuple(Label(r.place.span, "read here, too") for r in group[1 : 1 + _MOST_LABELS])
        labels = (*words.labels, *more)
        yield Diagnostic(
            words.code, words.message, first.place.span, labels, words.why, words.help, path, flow.agent.name
        )


def _branch_names(flow: Assignment) -> dict[str, tuple[FlowState, ast.Branch]]:
    """The names of branches without a default, and where they stand."""
    return {
        branch.bind.text: (state, branch)
        for region in flow.regions
        for state in region.states.values()
        if isinstance(state.decl, ast.ParallelDecl)
        for branch in ast.clauses(state.decl.members, ast.Branch)
        if branch.bind is not None and branch.default is None
    }


def _cancelled(name: str, state: FlowState, branch: ast.Branch) -> Words:
    return Words(
        "JAM414",
        f"`{name}` is read, but branch `{branch.name.text}` of `{state.name}` may have been cancelled",
        why=f"`{state.name}` goes on as soon as enough of its branches are done",
        help=f"give it a value for that case (`as {name} or …`), write `{name}?`, or ask with `has({name})`",
        labels=(Label(branch.name.span, "its branch"),),
    )


def _on_some_path(read: UnsafeRead) -> Words:
    help = f"assign it on every path, or ask first: `has({read.name})`"
    at = read.place.span.start
    for option in options_of(read.state.action):
        if isinstance(option, (ast.GivenOpt, ast.ShowOpt)) and option.span.start <= at < option.span.end:
            help = f"assign it on every path, or write `{read.name}?`: then it is left out where it is not set"
    return Words(
        "JAM405",
        f"`{read.name}` is not assigned on every path to `{read.state.name}`",
        why="on the path that is shown, nothing gives it a value",
        help=help,
    )


def _on_no_path(name: str) -> Words:
    return Words(
        "JAM404",
        f"`{name}` is read before anything assigns it",
        why="no path that leads here gives it a value",
        help=f"assign it before (`as {name}`, `set {name} = …`), or give its declaration a value",
    )


def _unset_outputs(agent: AgentInfo) -> Iterator[Diagnostic]:
    """JAM407: a final says every output that is not optional."""
    required = [
        name for name, symbol in agent.outputs.items() if symbol.type is not None and symbol.type.kind != "optional"
    ]
    if agent.flow is None:
        return
    for state in agent.flow.states.values():
        if not isinstance(state.decl, ast.FinalDecl):
            continue
        given = {assign.name.text for assign in state.decl.assigns}
        missing = [name for name in required if name not in given]
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            help = f"add `{missing[0]} = …`, or declare it optional with `?`"
            if state.decl.failed:
                help += ", which says that there may be none when the agent fails"
            yield Diagnostic(
                "JAM407",
                f"final `{state.name}` leaves {names} unset",
                state.span,
                labels=_declared(agent, missing),
                why="whoever starts the agent relies on every output that is not optional",
                help=help,
            )


def _declared(agent: AgentInfo, names: list[str]) -> tuple[Label, ...]:
    nodes = [agent.outputs[name].node for name in names[:_MOST_LABELS]]
    return tuple(Label(node.span, "declared here") for node in nodes if node is not None)
