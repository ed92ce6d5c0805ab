"""All that a program may do: the states that its abstraction can come to, found by driving the kernel.

A node is a run at rest, after everything that follows by itself was decided; a step is one thing that happens to it,
with what follows. Nodes that differ in nothing but times, counts of what was used and the names of visits are one.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from jamjet_dsl.definition import Definition
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.advance import Transition, advance, used_by_nobody
from jamjet_dsl.kernel import inputs
from jamjet_dsl.kernel.machine import initial
from jamjet_dsl.kernel.model import ENDED, Await, Call, Frame, Grant, Mode, RunState, Think
from jamjet_dsl.kernel.monitors import SEP, calls
from jamjet_dsl.kernel.state_json import encode
from jamjet_dsl.ports import KeyUse
from jamjet_dsl.verify.abstract import STEPS
from jamjet_dsl.verify.labels import Label, labels_of, moves_of
from jamjet_dsl.verify.live import Live
from jamjet_dsl.verify.program import MOST_ITEMS, AbstractProgram, Impossible
from jamjet_dsl.verify.values import MOST_WAYS, SYMBOL, Oracle, TooMany, branches
from jamjet_dsl.verify.world import Events, Move, Ruled, events_of, moves

MOST_NODES = 5_000
NEW = "new"
"""In place of a home: those of the agents that are begun."""
_FANNED = 10
"""Steps to a state that are followed on average, at most."""
START_MS = 1_700_000_000_000


@dataclass(slots=True, eq=False)
class Node:
    """A run at rest. `came` is the step that found it first, on a shortest way."""

    number: int
    state: RunState
    effects: dict[str, Call | Think]
    awaits: list[Await]
    known: dict[str, bool]
    next_symbol: int
    came: Step | None = None
    steps: list[Step] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.state.status in ENDED

    @property
    def parked(self) -> bool:
        return self.state.parked is not None


@dataclass(slots=True, eq=False)
class Step:
    """What happens at a node, and what follows from it."""

    source: Node | None
    target: Node
    move: Move | None
    labels: tuple[Label, ...]
    moves: tuple[tuple[str, str, str], ...]
    """The transitions of the main agent's own states: from, edge, to."""
    limited: bool
    """It uses up some of the limit of an edge."""
    acted: int = 0
    """Steps of the budget that it takes."""
    end: RunState | None = None
    """The state that a run ends in with it: ends that nothing follows are one node."""


@dataclass(slots=True)
class Explored:
    """Everything that was found. `complete`: there is nothing else; otherwise `left` says what was left out."""

    program: AbstractProgram
    nodes: list[Node] = field(default_factory=list)
    first: list[Step] = field(default_factory=list)
    steps: int = 0
    left: list[str] = field(default_factory=list)
    lists: tuple[str, ...] = ()
    """Lists of which two items stand for any larger number. That says nothing of how often something happens."""

    @property
    def complete(self) -> bool:
        return not self.left

    def all_steps(self) -> Iterator[Step]:
        """Every step, those from the beginning first."""
        yield from self.first
        for node in self.nodes:
            yield from node.steps


class _Chance:
    """Names for questions that can be told from other texts."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def question_id(self) -> str:
        return self._oracle.fresh()[2:-2]

    def between(self, low: int, high: int) -> int:
        return high


def explore(
    definition: Definition,
    most: int = MOST_NODES,
    read: frozenset[str] = frozenset(),
    exact: bool = False,
    policy: Mode = "enforce",
) -> Explored:
    """Find everything that a program may do, up to so many nodes. `read` are variables that are asked about from
    outside; `exact` counts how much of each limit is used; with `policy="shadow"` denied calls are made too."""
    return _Explorer(definition, most, read, exact, policy).run()


class _Explorer:
    def __init__(self, definition: Definition, most: int, read: frozenset[str], exact: bool, policy: Mode) -> None:
        self._policy = policy
        self.program = AbstractProgram(definition, exact)
        self.most = most
        self.found = Explored(self.program)
        self._same = Same(self.program, read)
        self._known: dict[bytes, Node] = {}
        self._labels: dict[tuple[Label, ...], tuple[Label, ...]] = {}
        self._moves: dict[tuple[tuple[str, str, str], ...], tuple[tuple[str, str, str], ...]] = {}
        self._todo: deque[Node] = deque()

    def run(self) -> Explored:
        self._expand(None, None)
        while self._todo:
            if len(self.found.nodes) > self.most or self.found.steps > _FANNED * self.most:
                found = f"{len(self.found.nodes):,} states and {self.found.steps:,} steps"
                self.found.left.append(f"what lies beyond {found} of runs")
                break
            node = self._todo.popleft()
            for move in () if self.found.left else moves(self.program, node.state, node.effects, node.awaits):
                self._expand(node, move)
        self.found.lists = tuple(sorted(self.program.cut))
        if self.found.lists and (self.program.counts_calls or self.program.counted):
            self.found.left.append(f"lists of more than {MOST_ITEMS} items, whose calls are counted")
        return self.found

    def _expand(self, node: Node | None, move: Move | None) -> None:
        """Everything that may come of a move. Where it enters states that act, a budget may be used up before any."""
        try:
            acted = self._branch(node, move, None)
            for home in self._counting(node) if acted else ():
                for left in range(acted):
                    self._branch(node, move, (home, left))
        except (TooMany, RuntimeError):
            self.found.left.append(f"what follows where `{move or 'it starts'}` may go more than {MOST_WAYS:,} ways")
            self._todo.clear()

    def _branch(self, node: Node | None, move: Move | None, left: tuple[str, int] | None) -> int:
        """Follow a move, with so many steps `left` to the agent at a home, or to those that are begun with it (`NEW`).
        Gives the most steps that it takes."""

        def make(prefix: tuple[int, ...]) -> tuple[Oracle, Transition | None]:
            known = {} if node is None else dict(node.known)
            symbol = 1 if node is None else node.next_symbol
            oracle = self.program.oracle = Oracle(prefix, known, symbol, not self.program.has_floats)
            try:
                return oracle, self._follow(node, move, oracle, left)
            except (Impossible, Ruled, JamError):
                return oracle, None

        most = 0
        for oracle, step in branches(make):
            if step is not None and (left is None or any(draft.kind == "exceeded" for draft in step.drafts)):
                acted = step.state.spent.steps - (0 if node is None else node.state.spent.steps)
                most = max(most, acted)
                self._arrive(node, move, oracle, step, acted if left is None else 0)
        return most

    def _counting(self, node: Node | None) -> Iterator[str]:
        """The homes of the agents at work that have a budget of steps."""
        if self.program.main.caps.steps is not None and (node is None or node.state.exceeded is None):
            yield ""
        for path, frame in () if node is None else node.state.frames.items():
            account = frame.account
            if account is not None and account.exceeded is None and account.caps.get("steps") is not None:
                yield path
        if self.program.plans:
            yield NEW

    def _follow(self, node: Node | None, move: Move | None, oracle: Oracle, left: tuple[str, int] | None) -> Transition:
        program = self.program
        if node is None or move is None:
            given = {field.name: oracle.fresh() for field in program.agent.inputs}
            event = inputs.started(program, given, {"id": "who started it"}, "", policy=self._policy)
            begun = self._advance(initial("verified"), [event], START_MS, oracle, only_apply=True)
            # The first step is counted with the start.
            state = _unmade(begun.state)
            if left is not None and left[0] != NEW:
                state = _nearly_spent(state, left[0], left[1] - 1)
            with self._small(left):
                step = self._advance(state, [], START_MS, oracle)
            return replace(step, drafts=[*begun.drafts, *step.drafts])
        state = _unmade(node.state)
        if left is not None and left[0] != NEW:
            state = _nearly_spent(state, *left)
        now_ms = max(state.now_ms, state.timers[move.cmd]) if move.kind == "fires" else state.now_ms
        with self._small(left):
            return self._advance(state, events_of(program, state, node.effects, move), now_ms, oracle)

    def _small(self, left: tuple[str, int] | None) -> AbstractContextManager[None]:
        return self.program.small_children(left[1]) if left is not None and left[0] == NEW else nullcontext()

    def _advance(
        self, state: RunState, events: Events, now_ms: int, oracle: Oracle, only_apply: bool = False
    ) -> Transition:
        refused: list[KeyUse] = []

        def known(use: KeyUse) -> bytes | None:
            """A key may stand for other arguments already, if there was a call before; but not for ever: then the
            attempt before would not have been made."""
            if refused or not calls(state.monitors, use.tool) or not oracle.choose(2):
                return None
            refused.append(use)
            return b"another"

        return advance(self.program, state, events, now_ms, _Chance(oracle), known, used_by_nobody, only_apply)

    def _arrive(self, source: Node | None, move: Move | None, oracle: Oracle, step: Transition, acted: int) -> None:
        state = self._same.settled(step.state)
        key, known = self._same.key(state, oracle.known)
        before = {} if source is None else source.effects
        begun = [command for name, command in step.effects.items() if name not in before]
        was = None if source is None else source.state
        labels = labels_of(was, step.drafts, begun, self.program.agent.name)
        labels = self._labels.setdefault(labels, labels)
        limited = any(draft.kind == "moved" and draft.body.get("counted") for draft in step.drafts)
        target = self._known.get(key)
        new = target is None
        if target is None:
            target = Node(len(self.found.nodes), state, step.effects, step.awaits, known, oracle.next_symbol)
            self._known[key] = target
            self.found.nodes.append(target)
        end = state if state.status in ENDED else None
        moved = moves_of(was, step.drafts)
        moved = self._moves.setdefault(moved, moved)
        made = Step(source, target, move, labels, moved, limited, acted, end)
        self.found.steps += 1
        (self.found.first if source is None else source.steps).append(made)
        if new:
            target.came = made
            if not (target.ended or target.parked):
                self._todo.append(target)


def _nearly_spent(state: RunState, home: str, left: int) -> RunState:
    """The state with so many steps left to the agent at `home`."""
    if not home:
        return replace(state, spent=replace(state.spent, steps=STEPS - left))
    frame = state.frames[home]
    assert frame.account is not None
    account = replace(frame.account, steps=int(frame.account.caps["steps"]) - left)
    return replace(state, frames={**state.frames, home: replace(frame, account=account)})


def _unmade(state: RunState) -> RunState:
    """The state without what a decision has left in its frames: each way to decide makes its own."""
    return replace(state, frames={path: replace(frame, made=None) for path, frame in state.frames.items()})


# ---- which states are the same

_TIME = re.compile(r"\b[0-9]{12,}\b")
_COUNT = re.compile(r'"(seq|steps|tokens|active_ms|duration_ms|visit|attempt)":[0-9]+')
_DIGEST = re.compile(r'"digest":"[0-9a-f]{64}"')
"""Of a call whose tool and arguments stand beside it, with symbols that are called differently."""
_WORDS = re.compile(r'"(message|why|reason)":"(?:[^"\\]|\\.)*"')
_VISIT = re.compile(r"(@|#)([0-9]+(?:\.[0-9]+)?)")


class Same:
    """Tells states of runs that may go on differently apart, and takes out of them what nothing asks about any more."""

    def __init__(self, program: AbstractProgram, read: frozenset[str]) -> None:
        self._program = program
        self._live = Live(program.main, read)

    def settled(self, state: RunState) -> RunState:
        """The state without what is over: approvals that are used up, variables that nobody will read, calls that
        nobody counts."""
        grants = {name: grant for name, grant in state.grants.items() if not _is_over(state, grant)}
        root = state.frames.get("")
        live = self._live.at(root.state) - self._program.chats if root is not None else frozenset()
        return replace(
            state,
            spent=replace(state.spent, steps=0),
            grants=grants,
            frames={path: self._frame(frame) for path, frame in state.frames.items()},
            vars={name: value for name, value in state.vars.items() if name in live},
            provenance={name: flags for name, flags in state.provenance.items() if name in live},
            monitors=self._counted(state.monitors),
        )

    def _counted(self, monitors: dict[str, Any]) -> dict[str, Any]:
        """What rules and expressions ask about past calls: how many under a limit, how many of a tool (whether any, if
        nothing counts them), and whether one succeeded."""
        found: dict[str, Any] = {}
        for name, item in monitors.items():
            what, *parts = name.split(SEP)
            if what == "limit":
                found[name] = item
            elif what == "first":
                found[name] = {"order": 0, "args": {}, "result": None}
            elif what == "calls" and parts[1] in self._program.counted:
                found[name] = item
            elif what == "calls" and parts[0] == "attempted" and parts[1] in self._program.noticed:
                found[name] = 1
        return found

    def _frame(self, frame: Frame) -> Frame:
        """A frame without what nobody asks about."""
        counters = frame.counters
        if not self._program.exact:
            counters = {name: min(count, 1) for name, count in counters.items()}
        account = frame.account
        if account is not None:
            caps = {**account.caps, "steps": STEPS} if "steps" in account.caps else account.caps
            account = replace(account, steps=0, caps=caps)
        return replace(frame, monitors=self._counted(frame.monitors), counters=counters, account=account)

    def key(self, state: RunState, known: dict[str, bool]) -> tuple[bytes, dict[str, bool]]:
        """What tells this state apart, and what is still known of the values in it. Times, counts of what was used,
        and the names of visits, questions and symbols tell nothing."""
        if state.status in ENDED or state.parked is not None:
            how = state.final_state if state.parked is None else state.parked
            return f"{state.status} {how}".encode(), {}
        text = encode(state).decode()
        live = set(SYMBOL.findall(text))
        kept = {term: answer for term, answer in known.items() if live.issuperset(SYMBOL.findall(term))}
        text = _WORDS.sub("", _DIGEST.sub("", _COUNT.sub("", _TIME.sub("0", text))))
        at = "\n".join(f"{path}#{f.visit}.{f.attempt} {f.attempt > 1}" for path, f in sorted(state.frames.items()))
        visits: dict[str, str] = {}
        text = _VISIT.sub(lambda m: m[1] + visits.setdefault(m[2], str(len(visits))), f"{at}\n{text}")
        symbols: dict[str, str] = {}

        def renamed(match: re.Match[str]) -> str:
            return "§" + symbols.setdefault(match[1], str(len(symbols)))

        text = SYMBOL.sub(renamed, text)
        facts = sorted(f"{SYMBOL.sub(renamed, term)} {answer}" for term, answer in kept.items())
        return hashlib.blake2b("\n".join([text, *facts]).encode(), digest_size=16).digest(), kept


def _is_over(state: RunState, grant: Grant) -> bool:
    return grant.used_by is not None and grant.used_by not in state.intents
