"""Irreversible calls that a run may make again: a retry without a key (JAM605), a call that comes again (JAM606), and
one whose key stays the same then (JAM618)."""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl.analysis.checks.callsites import CallSites, Rules, Site, ToolRules, needs_approval
from jamjet_dsl.analysis.checks.counting import at_most
from jamjet_dsl.analysis.checks.facts import number, options_of
from jamjet_dsl.analysis.checks.paths import path_between, path_to
from jamjet_dsl.analysis.checks.variables import after_success
from jamjet_dsl.analysis.flow import effect_of
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowEdge
from jamjet_dsl.analysis.types import INDEFINITE_ERRORS
from jamjet_dsl.diagnostics.model import Diagnostic, Label, PathStep
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node, children

_CALLING = ("direct", "proposed", "approved")
_MOST_PAIRS = 50
"""How many pairs of calls of one tool a path is looked for between."""
_COUNTING = frozenset({"attempted", "succeeded", "failed", "calls"})
_FIXED = frozenset({"input", "const", "member", "enum"})


def check_repeats(calls: CallSites, rules: Rules) -> Iterator[Diagnostic]:
    """JAM605, JAM606 and JAM618 of the calls of one agent."""
    tools: dict[ast.ToolDecl, list[Site]] = {}
    for site in calls.sites:
        if site.state is None or effect_of(site.tool) != "irreversible":
            continue
        if site.how in _CALLING:
            tools.setdefault(site.tool, []).append(site)
            for retry in ast.clauses(options_of(site.state.action), ast.RetryClause):
                yield from _retry(retry, site.tool)
    for tool, sites in tools.items():
        about = rules.of(tool)
        if needs_approval(tool, about):  # any other call of it is denied
            sites = [site for site in sites if site.how == "approved"]
        if sites and not _counted(about) and not at_most(calls, tool, 1):
            if ast.clause(tool.clauses, ast.KeyClause) is None:
                yield from _again(sites, about, calls)
            elif not _limited_to_one(about, calls.analysis):
                yield from _same_key(sites, calls)
    yield from _by_children(calls, rules)


def check_tool_retries(analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM605 of the retries that tools declare themselves."""
    for scope in analysis.files:
        for tool in ast.clauses(scope.program.items, ast.ToolDecl):
            if effect_of(tool) == "irreversible":
                for retry in ast.clauses(tool.clauses, ast.RetryClause):
                    yield from _retry(retry, tool)


# ---- JAM605


def _retry(retry: ast.RetryClause, tool: ast.ToolDecl) -> Iterator[Diagnostic]:
    """A retry that is never made: of an error after which the call may have happened, with nothing to tell."""
    known = (ast.KeyClause, ast.ConfirmClause)
    if any(isinstance(clause, known) for clause in tool.clauses):
        return
    named = [e for e in retry.errors if e.text in INDEFINITE_ERRORS]
    if not retry.any and not named:
        return
    name = tool.name.text
    what = "any" if retry.any else ", ".join(e.text for e in named)
    yield Diagnostic(
        "JAM605",
        f"`retry {what}` of `{name}`, which is irreversible and has no key",
        named[0].span if named else retry.span,
        labels=(Label(tool.name.span, "declared without `key`"),),
        why=(
            "after `Timeout`, `Disconnected`, `Crashed` and `InvalidOutput` the call may have happened, so without a "
            "key it is never made again"
        ),
        help=f"declare `key …` on `{name}`, or `confirm …`; or retry only errors after which nothing happened",
    )


# ---- what bounds a tool by policy


def _counted(about: ToolRules) -> bool:
    """Whether a condition of the policy asks how often the tool was called: then the author has thought of it."""
    conditions = (rule.when for rules in (about.forbids, about.allows) for rule in rules)
    return any(when is not None and _asks_history(when) for when in conditions)


def _asks_history(node: Node) -> bool:
    if isinstance(node, ast.FnCall) and node.function.text in _COUNTING:
        return True
    return any(_asks_history(child) for child in children(node))


def _limited_to_one(about: ToolRules, analysis: Analysis) -> bool:
    return any(isinstance(rule, ast.LimitCalls) and number(rule.count, analysis) in (0, 1) for rule in about.limits)


# ---- JAM606


def _again(sites: list[Site], about: ToolRules, calls: CallSites) -> Iterator[Diagnostic]:
    """A tool without a key that is called again, with nothing that asks for it each time: no approval, no limit."""
    if about.limits:
        return
    for first, second, path in _pairs(sites, [s for s in sites if s.how != "approved"], calls):
        yield _repeated(first, second, path, calls.agent.name)


def _repeated(first: Site, second: Site, path: tuple[PathStep, ...], agent: str) -> Diagnostic:
    name = second.name
    return Diagnostic(
        "JAM606",
        f"`{name}` is irreversible and can be called more than once",
        second.span,
        labels=_before(first, second),
        why="nothing tells a second call from the first one by mistake: no approval, no key, no limit",
        help=f"give `{name}` a `key` that says what may happen once, `limit {name} n calls`, or ask before each call",
        path=path,
        agent=agent,
    )


def _before(first: Site, second: Site) -> tuple[Label, ...]:
    return (Label(first.span, "called before"),) if first is not second else ()


def _pairs(
    firsts: list[Site], seconds: list[Site], calls: CallSites
) -> Iterator[tuple[Site, Site, tuple[PathStep, ...]]]:
    """Each call that can come after one that may have happened, once, with a path through both."""
    tried = 0
    for second in seconds:
        for first in firsts:
            tried += 1
            if tried > _MOST_PAIRS:
                return
            if first.state is None or second.state is None:
                continue
            leave = _after_child if first.how == "run" else _may_have_happened
            path = path_between(first.state, second.state, leave, calls.possible)
            if path is not None:
                yield first, second, path
                break


def _may_have_happened(edge: FlowEdge) -> bool:
    """Whether a call may have happened when its state is left this way."""
    return edge.origin != "exceeded" and (edge.trigger is None or _happened(edge.trigger))


def _happened(trigger: ast.Trigger) -> bool:
    return after_success(trigger) or isinstance(trigger, ast.OnInDoubt)


def _after_child(edge: FlowEdge) -> bool:
    """A child that failed may have made its calls before."""
    return edge.origin != "exceeded"


# ---- JAM606 of what child agents call


def _by_children(calls: CallSites, rules: Rules) -> Iterator[Diagnostic]:
    """Calls of an agent that is run again. Its `run.id` is another one each time, so a key of that does not help when
    an attempt is repeated that may have paid already."""
    for site in calls.sites:
        if site.how != "run" or site.state is None or effect_of(site.tool) != "irreversible":
            continue
        about = rules.of(site.tool)
        restricted = about.limits or _counted(about) or needs_approval(site.tool, about)
        if (calls.agent.policy is not None and restricted) or not _unasked(site, calls):
            continue
        key = ast.clause(site.tool.clauses, ast.KeyClause)
        assert isinstance(site.state.action, ast.RunAction)
        retry = _retry_of_child(site.state.action)
        if retry is not None and (key is None or _names(key.value, calls.analysis)[0]):
            yield _retried(site, site.state.action, retry, calls)
        elif key is None:
            for first, second, path in _pairs([site], [site], calls):
                yield _repeated(first, second, path, calls.agent.name)


def _retry_of_child(action: ast.RunAction) -> ast.RetryClause | None:
    """The retry after which a child that has begun is run again; one with the wrong inputs never begins."""
    for retry in ast.clauses(action.options, ast.RetryClause):
        if retry.any or any(e.text in ("ChildFailed", "Timeout") for e in retry.errors):
            return retry
    return None


def _unasked(site: Site, calls: CallSites) -> bool:
    """Whether the child, or one inside it, calls the tool without an approval."""
    assert site.state is not None
    child = _child_of(site.state.action, calls.analysis)
    todo, seen = [child], set[AgentInfo]()
    while todo:
        agent = todo.pop()
        if agent is None or agent in seen:
            continue
        seen.add(agent)
        inner = CallSites(agent, calls.analysis)
        for other in inner.sites:
            if other.tool is not site.tool or other.state is None:
                continue
            if other.how == "run":
                todo.append(_child_of(other.state.action, calls.analysis))
            elif other.how in ("direct", "proposed"):
                return not needs_approval(site.tool, Rules(agent, calls.analysis).of(site.tool))
    return False


def _child_of(action: ast.Action | None, analysis: Analysis) -> AgentInfo | None:
    symbol = analysis.symbols.get(action.call.tool) if isinstance(action, ast.RunAction) else None
    return next((a for a in analysis.agents if symbol is not None and a.decl is symbol.node), None)


def _retried(site: Site, action: ast.RunAction, retry: ast.RetryClause, calls: CallSites) -> Diagnostic:
    assert site.state is not None
    child = action.call.tool.text
    return Diagnostic(
        "JAM606",
        f"a retry of `{child}` can call `{site.name}` again, which is irreversible",
        retry.span,
        labels=(Label(site.tool.name.span, "declared here"),),
        why=f"each attempt runs `{child}` from its start, with a `run.id` of its own, whatever it has done before",
        help=f"give `{site.name}` a `key` of what it is called for and not of `run.id`, or do not retry `{child}`",
        path=path_to(site.state, calls.possible) or (),
        agent=calls.agent.name,
    )


# ---- JAM618


def _same_key(sites: list[Site], calls: CallSites) -> Iterator[Diagnostic]:
    """A second call whose key is that of the first one."""
    key = ast.clause(sites[0].tool.clauses, ast.KeyClause)
    assert key is not None
    _, params, changing = _names(key.value, calls.analysis)
    if changing:
        return
    stays = [site for site in sites if _given(site, params, calls.analysis) is not None]
    for first, second, path in _pairs(stays, stays, calls):
        if _given(first, params, calls.analysis) != _given(second, params, calls.analysis):
            continue
        yield Diagnostic(
            "JAM618",
            f"`{second.name}` can be called twice, with the same key both times",
            second.span,
            labels=(Label(key.span, "the key"), *_before(first, second)),
            why="one key is one call: a second one with other arguments is refused, and one with the same does nothing",
            help="let the key say what tells the calls apart, such as an argument that differs",
            path=path,
            agent=calls.agent.name,
        )


def _names(key: ast.Expr, analysis: Analysis) -> tuple[bool, frozenset[str], bool]:
    """Of a key: whether it reads `run`, the parameters that it reads, and whether it reads all of `args`."""
    of_run, changing = False, False
    params: set[str] = set()
    todo: list[Node] = [key]
    while todo:
        match todo.pop():
            case ast.Select(operand=ast.Ident(name="args"), field=field):
                params.add(field.text)
            case ast.Ident(name="run"):
                of_run = True
            case ast.Ident(name=name) as ident:
                symbol = analysis.symbols.get(ident)
                if symbol is None or symbol.kind not in ("const", "enum", "member", "fn"):
                    params.add(name)
                    changing = changing or name == "args"
            case node:
                todo.extend(children(node))
    return of_run, frozenset(params), changing


def _given(site: Site, params: frozenset[str], analysis: Analysis) -> tuple[str, ...] | None:
    """What a call gives for the parameters of its key, where that is the same whenever the call is made."""
    if not params:
        return ()
    action = site.state.action if site.state is not None else None
    if site.how == "approved" and len(site.asks) == 1:
        action = site.asks[0].action
    call = action.call if isinstance(action, ast.CallAction | ast.AskAction) else None
    if call is None:
        return None
    names = [p.name.text for p in site.tool.params]
    given = {a.name.text if a.name is not None else names[n]: a.value for n, a in enumerate(call.args[: len(names)])}
    values = [given.get(name) for name in sorted(params)]
    if any(v is None or not _fixed(v, analysis) for v in values):
        return None
    return tuple(" ".join(v.span.text.split()) for v in values if v is not None)


def _fixed(node: Node, analysis: Analysis) -> bool:
    """Whether an expression has one value in the whole run."""
    if isinstance(node, ast.Ident):
        symbol = analysis.symbols.get(node)
        return symbol is not None and symbol.kind in _FIXED
    return all(_fixed(child, analysis) for child in children(node) if not isinstance(child, ast.Name))
