"""What holds of every policy, on random policies, histories and calls."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jamjet_dsl import definition as d
from jamjet_dsl.compiler import compile_text
from jamjet_dsl.kernel.policy import Decision
from tests.reference.policy import policies
from tests.reference.policy.compare import judge_of, values
from tests.reference.policy.guard import Guard

SEEDS = st.integers(0, 100_000)
STRONG = {"allowed": 0, "needs_approval": 1, "denied": 2}
CALLS = 12
property_ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # fmt: skip
Change = Callable[[tuple[d.Rule, ...]], tuple[d.Rule, ...]]


@cache
def definition(seed: int) -> d.Definition:
    return compile_text(policies.program(seed)[0]).definition


def with_rules(seed: int, change: Change) -> d.Definition:
    """The program of a seed with other rules."""
    whole = definition(seed)
    agent = whole.agent.model_copy(update={"rules": change(whole.agent.rules or ())})
    return whole.model_copy(update={"agents": {**whole.agents, agent.name: agent}})


def decided(seed: int, change: Change = lambda rules: rules) -> list[tuple[str, Decision]]:
    """The decisions on the calls of one history. The calls that are made are the same whatever the rules say."""
    world = policies.World(seed)
    guard = Guard(with_rules(seed, change), world.principal, world.variables)
    found = []
    for _ in range(CALLS):
        tool, args, fits = world.call([*policies.READS, *policies.WRITES])
        approvals, at = world.approvals(), world.later(guard.now_ms)
        guard.come_from(world.origins())

        def read(tool: str, args: dict[str, Any], at: int = at) -> Any:
            return world.fact(tool, args, at)

        found.append((tool, guard.ruling(tool, args, approvals, read, at)))
        ok, result = world.outcome(tool)
        if fits:
            guard.made(tool, args, ok, result)
    return found


def said(decision: Decision, names: list[int] | None = None) -> tuple[Any, ...]:
    """What a decision says, with rules under the numbers that they had before."""
    rules = [names[n] if names is not None else n for n in decision.rules]
    return decision.verdict, sorted(rules), sorted(str(need) for need in decision.needs)


@property_
@given(SEEDS, SEEDS)
def test_the_order_of_rules_never_matters(seed: int, shuffle: int) -> None:
    rules = definition(seed).agent.rules or ()
    order = list(range(len(rules)))
    random.Random(shuffle).shuffle(order)
    # A fact may read those before it: facts keep their order among themselves.
    facts = iter(n for n in range(len(rules)) if rules[n].kind == "fact")
    order = [next(facts) if rules[n].kind == "fact" else n for n in order]
    changed = decided(seed, lambda old: tuple(old[n] for n in order))
    assert [said(one, order) for _, one in changed] == [said(one) for _, one in decided(seed)]


CONDITIONS = st.sampled_from(
    [
        None,
        ["bool", True],
        ["bool", False],
        [">", ["select", ["var", "args"], "n"], ["int", 2]],
        ["!", ["==", ["select", ["var", "args"], "id"], ["string", "a"]]],
        ["==", ["/", ["int", 1], ["int", 0]], ["int", 1]],
        [">", ["history", "succeeded", "score", {}], ["int", 0]],
    ]
)
TOOLS = st.sampled_from([("any",), ("reads",), ("writes",), ("irreversible",)])


@property_
@given(SEEDS, CONDITIONS, TOOLS, st.integers(0, 20))
def test_adding_a_forbid_never_allows_more(seed: int, when: Any, classes: Any, place: int) -> None:
    forbid = d.Rule(kind="forbid", tools=d.ToolSetDef(classes=classes), when=when)
    after = decided(seed, lambda rules: (*rules[:place], forbid, *rules[place:]))
    before = decided(seed)
    assert all(STRONG[a.verdict] >= STRONG[b.verdict] for (_, a), (_, b) in zip(after, before, strict=True))


RAISING = ["==", ["/", ["int", 1], ["int", 0]], ["int", 1]]


@property_
@given(SEEDS, st.integers(0, 30), st.booleans())
def test_an_error_in_any_condition_denies(seed: int, which: int, negated: bool) -> None:
    rules = definition(seed).agent.rules or ()
    conditional = [n for n, rule in enumerate(rules) if rule.kind not in ("fact", "limit", "redact")]
    chosen = conditional[which % len(conditional)]
    when = ["!", RAISING] if negated else RAISING
    changed = decided(
        seed,
        lambda old: tuple(r.model_copy(update={"when": when}) if n == chosen else r for n, r in enumerate(old)),
    )
    about = rules[chosen].tools
    assert about is not None
    held = [one for tool, one in changed if in_set(about, tool)]
    assume(held)
    assert {one.verdict for one in held} == {"denied"}


def in_set(tools: d.ToolSetDef, tool: str) -> bool:
    effects = {"note": "writes", "move": "writes", "pay": "irreversible", "wipe": "irreversible"}
    return tool in tools.names or bool({"any", effects.get(tool, "reads")} & set(tools.classes))


@property_
@given(SEEDS)
def test_the_reference_holds_to_it_too(seed: int) -> None:
    """Of a call that nobody has approved the reference never says more than of one that everybody has."""
    text, _ = policies.program(seed)
    world = policies.World(seed)
    everybody = [{"ask": ask, "by": by, "roles": ["boss", "clerk"]} for ask in ("sign", "seal") for by in ("x", "y")]
    for _ in range(4):
        tool, args, fits = world.call([*policies.READS, *policies.WRITES])
        if fits:
            none, all_ = (judge_of(text, world).decide(tool, values(tool, args), given) for given in ([], everybody))
            assert STRONG[none.verdict] >= STRONG[all_.verdict]
            assert none.verdict == "denied" or all_.verdict == "allowed"
