"""The static checks: what is wrong with a program that parses, resolves and has types.

A check is a function from one agent, or from the whole analysis where it needs what all agents share, to its
findings; it reads the tables of the analysis and changes nothing.
To add one: a function here or in a module beside this, a row in the table of codes, a page with a failing
case and a near miss in `specs/diagnostics/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from jamjet_dsl.analysis.checks.assignment import check_assignment
from jamjet_dsl.analysis.checks.branches import check_branches
from jamjet_dsl.analysis.checks.budgets import check_budgets, check_retries
from jamjet_dsl.analysis.checks.expected import check_expected
from jamjet_dsl.analysis.checks.facts import intact_agents
from jamjet_dsl.analysis.checks.fitting import check_fitting
from jamjet_dsl.analysis.checks.graph import check_graph
from jamjet_dsl.analysis.checks.guards import check_guards
from jamjet_dsl.analysis.checks.handlers import check_handlers
from jamjet_dsl.analysis.checks.joins import check_joins
from jamjet_dsl.analysis.checks.liveness import check_dead_assignments
from jamjet_dsl.analysis.checks.mocks import check_mocks
from jamjet_dsl.analysis.checks.policy import check_policy
from jamjet_dsl.analysis.checks.properties import check_properties
from jamjet_dsl.analysis.checks.repeats import check_tool_retries
from jamjet_dsl.analysis.checks.roles import check_roles
from jamjet_dsl.analysis.checks.secrets import check_secrets
from jamjet_dsl.analysis.checks.undoing import check_undos
from jamjet_dsl.analysis.model import AgentInfo, Analysis
from jamjet_dsl.diagnostics.model import Diagnostic

AgentCheck: TypeAlias = Callable[[AgentInfo, Analysis], Iterable[Diagnostic]]
ProgramCheck: TypeAlias = Callable[[Analysis], Iterable[Diagnostic]]

PROGRAM_CHECKS: tuple[ProgramCheck, ...] = (
    check_retries,
    check_tool_retries,
    check_undos,
    check_dead_assignments,
    check_secrets,
    check_expected,
    check_mocks,
)

AGENT_CHECKS: tuple[AgentCheck, ...] = (
    check_graph,
    check_handlers,
    check_budgets,
    check_fitting,
    check_assignment,
    check_branches,
    check_joins,
    check_guards,
    check_policy,
    check_roles,
    check_properties,
)


def run_checks(analysis: Analysis) -> list[Diagnostic]:
    """What the checks find in a program and in what it imports, in the order of the source."""
    found: list[Diagnostic] = []
    for program_check in PROGRAM_CHECKS:
        found.extend(program_check(analysis))
    for agent in intact_agents(analysis):
        for agent_check in AGENT_CHECKS:
            found.extend(agent_check(agent, analysis))
    found.sort(key=Diagnostic.sort_key)
    return found
