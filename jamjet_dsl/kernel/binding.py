"""What an approval is bound to beside the call itself: the rules about its tool, what the facts were, and a time.

The rules stand in the question's frozen call as a digest. Facts are kept with the question and the approval as they
were, not as a digest, which would give away a short value that is redacted. A call that is made under an approval is
decided again, and the approval counts only if both are what they were: whoever approved has seen nothing else. (The
run, the question and who may use it are a matter of where a grant stands; tool and arguments have a digest of their
own.) It holds as long after it was given as its question could have been answered: `holds_ms`. That was said when the
question was asked, so no later version of the program makes it hold longer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from jamjet_dsl import definition as d
from jamjet_dsl.kernel.budget import homes
from jamjet_dsl.kernel.model import Frame, Grant, Json, RunState
from jamjet_dsl.kernel.program import Plan, Program, uses_functions
from jamjet_dsl.kernel.rules import docket_of, fact_key, plan_at
from jamjet_dsl.kernel.scalars import readable_ms
from jamjet_dsl.kernel.values import dumps_form, from_journal


def policy_digest(program: Program, state: RunState, frame: Frame, tool: str) -> str:
    """The rules about a tool, of the agent and of those around it: hex SHA-256. Their order means nothing, so it is
    none of it."""
    plans = [plan_at(program, state, home) for home in homes(state, frame.path)]
    rules = [sorted(_digest(rule) for rule in _rules(plan, tool)) for plan in plans]
    return _digest({"tool": tool, "effect": program.defn.tools[tool].effect, "rules": rules})


def facts_of(state: RunState, frame: Frame, decision: Mapping[str, Json]) -> dict[str, Json]:
    """What the facts of a decision (its journal form) were when it was made, by their keys."""
    read = [(frame.home, decision.get("facts", {}))]
    read += [(outer["home"], outer.get("facts", {})) for outer in decision.get("outer", ())]
    keys = [fact_key(home, name, _args(fact)) for home, facts in read for name, fact in facts.items()]
    known = {key: state.facts.get(key, {}) for key in keys}
    return {key: {part: fact[part] for part in ("result", "error") if part in fact} for key, fact in known.items()}


def outdated(program: Program, state: RunState, frame: Frame, grant: Grant, decision: Mapping[str, Json]) -> str | None:
    """Why an approval does not count for its call as that is decided now; None if it does.

    One that was asked for before questions said what they are bound to has nothing to be compared with, and counts.
    """
    tool = grant.call["tool"]
    if lapsed(grant, state.now_ms):
        return f"the approval of `{grant.state}` was given more than {readable_ms(grant.call['holds_ms'])} before"
    if "policy" not in grant.call:
        return None
    if grant.call["policy"] != policy_digest(program, state, frame, tool):
        return f"the approval of `{grant.state}` was given when other rules held for `{tool}`"
    if dumps_form(grant.facts) != dumps_form(facts_of(state, frame, decision)):
        return f"the approval of `{grant.state}` was given when the facts were others"
    return None


def lapsed(grant: Grant, now_ms: int) -> bool:
    """Whether an approval was given too long ago. One whose question had no timeout never was."""
    holds_ms = grant.call.get("holds_ms")
    return holds_ms is not None and now_ms - grant.at_ms > int(holds_ms)


def _rules(plan: Plan, tool: str) -> Iterator[dict[str, Any]]:
    docket = docket_of(plan, tool)
    yield from (_tree(plan, ready.rule) for ready in docket.rules)
    yield from (_tree(plan, d.Rule(kind="limit", limit=ready.limit)) for ready in docket.limits)
    yield from (_tree(plan, fact.rule) for fact in docket.facts)


def _tree(plan: Plan, rule: d.Rule) -> dict[str, Any]:
    tree = rule.model_dump(mode="json", exclude_defaults=True)
    if uses_functions(rule):
        tree["fns"] = {name: fn.model_dump(mode="json") for name, fn in plan.defn.fns.items()}
    return tree


def _args(fact: Mapping[str, Json]) -> dict[str, Any]:
    args = from_journal(fact["args"])
    assert isinstance(args, dict)
    return args


def _digest(tree: Any) -> str:
    return hashlib.sha256(dumps_form(tree)).hexdigest()
