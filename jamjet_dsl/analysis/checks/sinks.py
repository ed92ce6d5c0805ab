"""The arguments of irreversible calls that need no approval, and whose origin the policy does not ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from jamjet_dsl.analysis.checks.callsites import CallSites, Rules, Site, ToolRules, needs_approval
from jamjet_dsl.analysis.flow import effect_of
from jamjet_dsl.analysis.model import AgentInfo, FlowState
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node, children


class Sink(NamedTuple):
    """An argument of an irreversible call that needs no approval. `param` is empty where all are one value, a map
    or what a model proposes; `inside` is the agent that makes the call, if it is one that is run here."""

    site: Site
    param: str
    value: Node
    inside: str = ""


def sinks_of(calls: CallSites, rules: Rules) -> dict[FlowState | None, list[Sink]]:
    """These arguments of the calls of an agent, by the state that makes the call; None: `finally`."""
    found: dict[FlowState | None, list[Sink]] = {}
    for site in calls.sites:
        if effect_of(site.tool) != "irreversible" or site.how not in ("direct", "proposed", "finally"):
            continue
        if rules.of(site.tool).allows:
            for sink in _arguments(site, calls.agent):
                if not is_guarded(sink, rules):
                    found.setdefault(site.state, []).append(sink)
    return found


def is_guarded(sink: Sink, rules: Rules) -> bool:
    """Whether a policy wants an approval of the call, or asks where the argument comes from."""
    about = rules.of(sink.site.tool)
    if needs_approval(sink.site.tool, about):
        return True
    asked = _asked(about)
    # Where all arguments are one value, a question about any of them is taken for the right one.
    return bool(asked) if not sink.param else sink.param in asked or "" in asked


def _arguments(site: Site, agent: AgentInfo) -> Iterator[Sink]:
    """The arguments of a call; those of a `call proposed` as one."""
    action = site.state.action if site.state is not None else None
    if site.state is None and agent.finally_ is not None:
        made = ast.clauses(agent.finally_.body, ast.CallAction)
        action = next((a for a in made if a.call.span == site.span), None)
    match action:
        case ast.CallAction(call=call):
            names = [p.name.text for p in site.tool.params]
            for n, arg in enumerate(call.args[: len(names)]):
                yield Sink(site, arg.name.text if arg.name is not None else names[n], arg.value)
        case ast.CallWithAction(args=args):
            yield Sink(site, "", args)
        case ast.CallProposedAction(move=move):
            yield Sink(site, "", move)


def _asked(about: ToolRules) -> set[str]:
    """The parameters of a tool whose origin its policy asks for, in any condition; "" if it is that of something
    else, which may stand for all of them."""
    found: set[str] = set()
    todo: list[Node] = [
        rule.when
        for rules in (about.forbids, about.allows, about.requires, about.people)
        for rule in rules
        if rule.when is not None
    ]
    while todo:
        part = todo.pop()
        if isinstance(part, ast.FnCall) and part.function.text in ("attested", "untrusted"):
            for arg in part.args:
                at: Node = arg.value
                while isinstance(at, ast.Select) and isinstance(at.operand, ast.Select):
                    at = at.operand
                of_args = isinstance(at, ast.Select) and isinstance(at.operand, ast.Ident) and at.operand.name == "args"
                found.add(at.field.text if of_args and isinstance(at, ast.Select) else "")
        todo.extend(children(part))
    return found
