"""Verifying one agent of a program: explore it, decide what is asked, and look closer where the first look was too
coarse."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.engine.trial import Typical
from jamjet_dsl.kernel.program import reads_of
from jamjet_dsl.verify import properties as p
from jamjet_dsl.verify.concrete import concrete
from jamjet_dsl.verify.decide import Answer, Decider
from jamjet_dsl.verify.explore import MOST_NODES, Explored, explore
from jamjet_dsl.verify.program import nodes_of


@dataclass(slots=True)
class Verified:
    """What was found of an agent. `states` and `steps` were explored, of its abstraction; `left` was not."""

    agent: str
    answers: list[Answer] = field(default_factory=list)
    states: int = 0
    steps: int = 0
    left: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    """Lists of which two items stand for any larger number."""

    @property
    def holds(self) -> bool:
        """Whether nothing that was asked is broken."""
        return all(answer.verdict != "violated" for answer in self.answers)


def verify(
    definition: d.Definition, asked: list[p.Asked], most: int = MOST_NODES, typical: Typical | None = None
) -> Verified:
    """Decide properties of the main agent of a definition, and what is asked of every program. For what is violated a
    real run that shows it is looked for, with values such as the `typical` ones."""
    own = {type(one.property) for one in asked}
    wanted = [*asked, *(rule for rule in p.RULES if type(rule.property) not in own)]
    read = frozenset(name for one in wanted for name in _read(one.property))
    found = explore(definition, most, read)
    answers = _answers(found, definition, wanted)
    states, steps = len(found.nodes), found.steps
    open_ = [n for n, answer in enumerate(answers) if answer.verdict in ("violated", "unknown") or _is_loop(answer)]
    if open_ and found.complete and _is_coarse(definition):
        # Limits were taken to be used up at any time. Counted exactly there is more to explore, and less may happen.
        closer = explore(definition, most, read, exact=True)
        states, steps = states + len(closer.nodes), steps + closer.steps
        again = _answers(closer, definition, [wanted[n] for n in open_])
        for n, answer in zip(open_, again, strict=True):
            if closer.complete or answer.verdict != "unknown":
                answers[n] = answer
    if any(isinstance(answer.asked.property, p.CallsAllowed) and answer.guards for answer in answers):
        _guarded(answers, definition, explore(definition, most, read, policy="shadow"))
    for answer in answers:
        if answer.verdict == "violated" and answer.way:
            answer.run = concrete(definition, answer.way, typical or Typical())
    return Verified(definition.main, answers, states, steps, tuple(found.left), found.lists)


def _guarded(answers: list[Answer], definition: d.Definition, unguarded: Explored) -> None:
    """What is proved only because the policy refuses calls at run time is guarded by it: without it, it would break."""
    decider = Decider(unguarded, definition.agent.budget)
    refusals = next(answer.guards for answer in answers if isinstance(answer.asked.property, p.CallsAllowed))
    for number, answer in enumerate(answers):
        if answer.verdict == "proved":
            without = decider.decide(answer.asked)
            if without.verdict == "violated":
                why = "it holds because the policy refuses calls at run time"
                answers[number] = Answer(answer.asked, "guarded", why, without.way, refusals)


def _answers(found: Explored, definition: d.Definition, wanted: list[p.Asked]) -> list[Answer]:
    decider = Decider(found, definition.agent.budget)
    return [decider.decide(one) for one in wanted]


def _read(property: p.Property) -> frozenset[str]:
    return reads_of(property.condition) if isinstance(property, p.Always | p.AtEnd) else frozenset()


def _is_loop(answer: Answer) -> bool:
    """Whether the answer might be better if limits of edges were counted."""
    return answer.verdict == "guarded" and isinstance(answer.asked.property, p.EndsWithin)


def _is_coarse(definition: d.Definition) -> bool:
    """Whether a program has anything that an exact exploration counts."""
    tree = definition.model_dump(mode="python")
    return any(n[0] in ("calls", "history") for n in nodes_of(tree)) or _has_limit(tree)


def _has_limit(tree: Any) -> bool:
    if isinstance(tree, dict):
        limit = tree.get("limit")
        if (isinstance(limit, int) and limit > 1) or (isinstance(limit, dict) and (limit.get("count") or 0) > 1):
            return True
        return any(_has_limit(item) for item in tree.values())
    return isinstance(tree, list | tuple) and any(_has_limit(item) for item in tree)
