"""Roles that nobody has, where the deployment says who has which (JAM614)."""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl.analysis.checks.facts import number
from jamjet_dsl.analysis.model import AgentInfo, Analysis
from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.diagnostics.suggest import did_you_mean
from jamjet_dsl.syntax import ast


def check_roles(agent: AgentInfo, analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM614 of the questions and the rules of one agent; nothing where no list of roles stands beside the program."""
    if analysis.roles is None:
        return
    for role, wanted in _roles(agent, analysis):
        name = str(role.value)
        members = analysis.roles.get(name)
        if members is not None and members >= wanted:
            continue
        if members is None:
            message, guess = f"there is no role `{name}`", did_you_mean(name, analysis.roles)
        else:
            who = {0: "nobody has", 1: "only one person has"}.get(members, f"only {members} people have")
            message, guess = f"{who} the role `{name}`" + (f", and {wanted} must approve" if wanted > 1 else ""), None
        yield Diagnostic(
            "JAM614",
            message,
            role.span,
            why="`jam.toml` beside the program says who has which role, and nobody else may answer",
            help=f"did you mean `{guess}`?" if guess else f"name them under `[roles]` of `jam.toml`: `{name} = [...]`",
        )


def _roles(agent: AgentInfo, analysis: Analysis) -> Iterator[tuple[ast.Lit, int]]:
    """The roles that an agent names, in questions and in rules, each with how many people must have it."""
    for state in agent.all_states():
        if isinstance(state.action, ast.AskAction):
            yield state.action.role, 1
    for rule in agent.policy.rules if agent.policy is not None else ():
        if isinstance(rule, ast.RequirePeopleRule):
            count = number(rule.count, analysis)
            yield rule.role, count if isinstance(count, int) else 1
