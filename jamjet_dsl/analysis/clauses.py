"""Which clauses may stand where, and how often: what the grammar accepts and the language does not."""

from __future__ import annotations

from jamjet_dsl.analysis.report import Report
from jamjet_dsl.diagnostics.model import Label
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

_WORDS: dict[type[Node], str] = {
    ast.Via: "via",
    ast.EffectClause: "effect",
    ast.KeyClause: "key",
    ast.ConfirmClause: "confirm",
    ast.UndoClause: "undo",
    ast.CostClause: "cost",
    ast.RateClause: "limit",
    ast.RaisesClause: "raises",
    ast.TimeoutClause: "timeout",
    ast.RetryClause: "retry",
    ast.PriceClause: "price",
    ast.WarnAt: "warn at",
    ast.ReserveClause: "reserve",
    ast.ExceededClause: "exceeded",
    ast.BindOpt: "as",
    ast.GivenOpt: "given",
    ast.ToolsOpt: "tools",
    ast.ModelOpt: "model",
    ast.TemperatureOpt: "temperature",
    ast.MaxPromptOpt: "max prompt",
    ast.MaxTokensOpt: "max tokens",
    ast.ShowOpt: "show",
    ast.OptionsOpt: "options",
    ast.AnswerOpt: "answer",
    ast.RemindOpt: "remind",
    ast.Budget: "budget",
    ast.Policy: "policy",
    ast.Finally: "finally",
    ast.YieldsClause: "yields",
    ast.Join: "join",
}
_MANY = (ast.RateClause, ast.RetryClause, ast.RaisesClause)

_CALL: tuple[type[Node], ...] = (ast.BindOpt, ast.TimeoutClause, ast.RetryClause)
_OPTIONS: dict[type[ast.Action], tuple[str, tuple[type[Node], ...]]] = {
    ast.CallAction: ("call", _CALL),
    ast.CallWithAction: ("call", _CALL),
    ast.CallProposedAction: ("call", _CALL),
    ast.CallApprovedAction: ("call", _CALL),
    ast.ThinkAction: (
        "think",
        (
            *_CALL,
            ast.GivenOpt,
            ast.ToolsOpt,
            ast.ModelOpt,
            ast.TemperatureOpt,
            ast.MaxPromptOpt,
            ast.MaxTokensOpt,
        ),
    ),
    ast.AskAction: (
        "ask",
        (ast.BindOpt, ast.TimeoutClause, ast.ShowOpt, ast.OptionsOpt, ast.AnswerOpt, ast.RemindOpt),
    ),
    ast.RunAction: ("run", (*_CALL, ast.Budget)),
    ast.EachAction: ("each", (ast.BindOpt,)),
    ast.WaitFor: ("wait", ()),
    ast.WaitUntil: ("wait", ()),
    ast.WaitEvent: ("wait for event", (ast.TimeoutClause,)),
}


def check_once(nodes: tuple[Node, ...], report: Report, where: str) -> None:
    """JAM007 for every clause of a kind that stands at most once and is given again."""
    first: dict[object, Node] = {}
    for node in nodes:
        if isinstance(node, ast.BudgetLimit):
            key: object = node.kind
            word = node.kind
        elif type(node) in _WORDS and not isinstance(node, _MANY):
            key = type(node)
            word = _WORDS[type(node)]
        else:
            continue
        if key in first:
            report.add(
                "JAM007",
                node.span,
                f"`{word}` is given twice in {where}",
                help="keep one of them",
                labels=(Label(first[key].span, "the first one"),),
            )
        else:
            first[key] = node
        if isinstance(node, ast.ReserveClause):
            check_once(node.limits, report, "`reserve`")


def check_tool(tool: ast.ToolDecl, report: Report) -> None:
    """A tool says its effect, and every clause at most once."""
    check_once(tool.clauses, report, f"tool `{tool.name.text}`")
    if ast.clause(tool.clauses, ast.EffectClause) is None:
        report.add(
            "JAM001",
            tool.name.span,
            f"tool `{tool.name.text}` does not say its effect",
            help="add `effect reads`, `effect writes` or `effect irreversible`",
            why="the effect decides what recovery may do with a call that was in flight",
        )


def check_state(nodes: tuple[Node, ...], report: Report, where: str, in_body: bool, parallel: bool = False) -> None:
    """One action, its options in their place, and edges that this action can take.

    `where` names the state; `in_body` is set inside branches and items, `parallel` for a `parallel` itself.
    """
    actions = [n for n in nodes if isinstance(n, ast.Action)]
    for extra in actions[1:]:
        report.add(
            "JAM007",
            extra.span,
            f"{where} has a second action",
            help="put it into a state of its own",
            why="one action per state makes every transition a checkpoint, and a checkpoint is what recovery goes by",
            labels=(Label(actions[0].span, "its action"),),
        )
    check_once(nodes, report, where)
    action = actions[0] if actions else None
    for each in actions:
        _check_options(each, report)
    for node in nodes:
        match node:
            case ast.YieldsClause() if not in_body:
                _no_place(report, node, "`yields` is for the items of an `each` and for branches")
            case ast.Edge():
                _check_edge(node, action, report, in_body, parallel)


def _check_options(action: ast.Action, report: Report) -> None:
    known = _OPTIONS.get(type(action))
    options: tuple[Node, ...] = getattr(action, "options", ())
    if known is None:
        return
    word, allowed = known
    check_once(options, report, f"this `{word}`")
    for option in options:
        if not isinstance(option, allowed):
            _no_place(report, option, f"`{_WORDS[type(option)]}` has no place in a `{word}`")
        elif isinstance(option, ast.Budget):
            check_once(option.items, report, "this budget")


def _check_edge(edge: ast.Edge, action: ast.Action | None, report: Report, in_body: bool, parallel: bool) -> None:
    if (edge.skip or edge.yields is not None) and not in_body:
        word = "skip" if edge.skip else "yields"
        _no_place(report, edge, f"`{word}` ends an item or a branch, and this state is in neither")
    match edge.trigger:
        case ast.OnTimeout() if not isinstance(action, ast.AskAction | ast.WaitEvent | ast.WaitUntil):
            _no_place(
                report,
                edge.trigger,
                "`on timeout` is for `ask` and `wait`",
                "an action that takes too long raises an error: write `on error Timeout`",
            )
        case ast.OnJoin() if not parallel:
            _no_place(report, edge.trigger, "`on join` is for a `parallel`")
        case ast.OnCancel():
            _no_place(report, edge.trigger, "`on cancel` stands beside the states, once for the agent")


def _no_place(report: Report, node: Node, message: str, help: str = "") -> None:
    report.add("JAM001", node.span, message, help=help)


def check_finally(node: ast.Finally, report: Report) -> None:
    """`finally` holds calls and nothing else."""
    for part in node.body:
        if isinstance(part, ast.CallAction):
            _check_options(part, report)
        else:
            _no_place(report, part, "`finally` holds only calls", "a `finally` runs at every end and leads nowhere")


def check_body(nodes: tuple[Node, ...], report: Report) -> None:
    """The body of a branch or an `each` is the clauses of one state, or states and finals."""
    states = [n for n in nodes if isinstance(n, ast.StateDecl | ast.ParallelDecl | ast.FinalDecl)]
    if states and len(states) < len(nodes):
        loose = next(n for n in nodes if not isinstance(n, ast.StateDecl | ast.ParallelDecl | ast.FinalDecl))
        _no_place(
            report,
            loose,
            "a body is either the clauses of one state or a list of states",
            "put this clause into one of the states",
        )


def check_agent(decl: ast.AgentDecl, report: Report) -> None:
    """`budget`, `policy` and `finally` stand once in an agent."""
    check_once(decl.members, report, f"agent `{decl.name.text}`")
    for member in decl.members:
        if isinstance(member, ast.Budget):
            check_once(member.items, report, "the budget")
