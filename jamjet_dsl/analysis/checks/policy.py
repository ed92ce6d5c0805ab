"""What a policy says of the calls that an agent makes: JAM608, 609, 610, 612, 613, and the approvals."""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl.analysis.checks.approvals import check_approvals
from jamjet_dsl.analysis.checks.atoms import Space, neg
from jamjet_dsl.analysis.checks.callsites import CallSites, Rules, Site
from jamjet_dsl.analysis.checks.cover import satisfiable
from jamjet_dsl.analysis.checks.denials import check_denials
from jamjet_dsl.analysis.checks.grants import check_grants
from jamjet_dsl.analysis.checks.joins import check_cancelled
from jamjet_dsl.analysis.checks.least import check_limits
from jamjet_dsl.analysis.checks.overlap import check_overlap
from jamjet_dsl.analysis.checks.paths import path_between, path_to, source_text
from jamjet_dsl.analysis.checks.repeats import check_repeats
from jamjet_dsl.analysis.checks.undoing import check_rollbacks
from jamjet_dsl.analysis.checks.untrusted import check_untrusted
from jamjet_dsl.analysis.model import AgentInfo, Analysis
from jamjet_dsl.diagnostics.model import Diagnostic, Label, PathStep
from jamjet_dsl.syntax import ast

_HOW = {
    "confirm": "to ask whether a call happened",
    "undo": "by `undo all`",
    "finally": "in `finally`",
    "run": "by the agent that runs here",
}
_AFTER_ALL = 50
"""How many pairs of calls a `never` rule is followed along paths for."""


def check_policy(agent: AgentInfo, analysis: Analysis) -> Iterator[Diagnostic]:
    """What is wrong between the calls of an agent and its policy."""
    calls = CallSites(agent, analysis)
    rules = Rules(agent, analysis)
    yield from _not_allowed(calls, rules)
    unapproved = list(check_approvals(calls, rules))
    yield from unapproved
    yield from check_grants(calls, {d.span for d in unapproved})
    yield from check_denials(calls, rules)
    yield from check_repeats(calls, rules)
    yield from check_cancelled(calls)
    yield from check_rollbacks(calls)
    if agent.policy is not None:
        yield from _unused_allows(agent.policy, calls, analysis)
        yield from _fixed_forbids(agent.policy, analysis)
        yield from check_untrusted(calls, rules)
        yield from check_overlap(agent.policy, analysis)
        yield from check_limits(agent.policy, calls, rules)
        yield from _never_after(agent.policy, calls, rules)


# ---- JAM608


def _not_allowed(calls: CallSites, rules: Rules) -> Iterator[Diagnostic]:
    if calls.agent.policy is None:
        yield from _no_policy(calls)
        return
    told: set[ast.ToolDecl] = set()
    for site in calls.sites:
        if site.tool in told:
            continue
        about = rules.of(site.tool)
        how = _HOW.get(site.how, "")
        if not about.allows:
            told.add(site.tool)
            yield Diagnostic(
                "JAM608",
                f"no rule allows `{site.name}`" + (f", which is called {how}" if how else ""),
                site.span,
                labels=(Label(calls.agent.policy.span, "the policy"),) if how else (),
                why="what no `allow` matches is denied",
                help=f"add `allow {site.name}` to the policy, or do not call it",
            )
        elif (never := next((r for r in about.forbids if r.when is None), None)) is not None:
            told.add(site.tool)
            yield Diagnostic(
                "JAM608",
                f"`{site.name}` is forbidden, whatever its arguments",
                site.span,
                labels=(Label(never.span, "forbidden here"),),
                why="a `forbid` without a condition denies every call",
                help=f"give the `forbid` a condition (`when …`), or do not call `{site.name}`",
            )


def _no_policy(calls: CallSites) -> Iterator[Diagnostic]:
    if not calls.sites:
        return
    names = list(dict.fromkeys(site.name for site in calls.sites))
    first = calls.sites[0]
    yield Diagnostic(
        "JAM608",
        f"`{calls.agent.name}` calls tools and has no policy that allows them",
        first.span,
        why="what no `allow` matches is denied",
        help=f"add to the agent: `policy {{ allow {', '.join(names)} }}`",
    )


# ---- JAM609, JAM610


def _unused_allows(policy: ast.Policy, calls: CallSites, analysis: Analysis) -> Iterator[Diagnostic]:
    used = {site.tool for site in calls.sites} | calls.offers.keys()
    for rule in ast.clauses(policy.rules, ast.AllowRule):
        for name in rule.tools.names:
            symbol = analysis.symbols.get(name)
            if symbol is None or not isinstance(symbol.node, ast.ToolDecl) or symbol.node in used:
                continue
            yield Diagnostic(
                "JAM609",
                f"`{name.text}` is allowed and never called",
                name.span,
                why="a policy that allows more than the agent does hides what it can do",
                help="take it out of the `allow`",
            )


def _fixed_forbids(policy: ast.Policy, analysis: Analysis) -> Iterator[Diagnostic]:
    for rule in ast.clauses(policy.rules, ast.ForbidRule):
        if rule.when is None or analysis.types.get(rule.when, None) is None:
            continue
        space = Space(analysis)
        formula = space.formula(rule.when)
        space.seal()
        if satisfiable(formula, space) is False:
            what, why = "never", "so the rule forbids nothing"
        elif satisfiable(neg(formula), space) is False:
            what, why = "always", "so every call is denied"
        else:
            continue
        yield Diagnostic(
            "JAM610",
            f"`{source_text(rule.when)}` is {what} true, {why}",
            rule.when.span,
            help="correct the condition, or remove the rule" if what == "never" else "correct the condition",
        )


# ---- JAM612


def _never_after(policy: ast.Policy, calls: CallSites, rules: Rules) -> Iterator[Diagnostic]:
    """`never B after A` against the calls that are certain where they stand. What a model may propose is left to
    the policy, which denies it when it happens; so is a rule with a condition."""
    certain: dict[ast.ToolDecl, list[Site]] = {}
    for site in calls.sites:
        if site.certain:
            certain.setdefault(site.tool, []).append(site)
    for rule in ast.clauses(policy.rules, ast.NeverRule):
        if rule.when is not None:
            continue
        firsts = [s for tool in rules.among(rule.after, certain) for s in certain[tool]]
        seconds = [s for tool in rules.among(rule.tools, certain) for s in certain[tool]]
        told: set[Site] = set()
        tried = 0
        for first in firsts:
            for second in seconds:
                tried += 1
                if second in told or tried > _AFTER_ALL:
                    continue
                path = _both_called(first, second)
                if path is not None:
                    told.add(second)
                    yield Diagnostic(
                        "JAM612",
                        f"`{second.name}` can be called after `{first.name}`",
                        second.span,
                        labels=(Label(rule.span, "never, says this rule"), Label(first.span, "called before")),
                        why="the policy denies the call on this path",
                        help=f"lead the paths from `{first.name}` elsewhere, or give the rule a condition",
                        path=path,
                        agent=calls.agent.name,
                    )


def _both_called(first: Site, second: Site) -> tuple[PathStep, ...] | None:
    """A path that makes the one call and later the other; None if there is none. `finally` comes last."""
    if first.state is None:
        return None
    if second.state is not None:
        return path_between(first.state, second.state)
    begin = path_to(first.state)
    return None if begin is None else (*begin[:-1], PathStep(first.state.path, first.state.span, "the run ends"))
