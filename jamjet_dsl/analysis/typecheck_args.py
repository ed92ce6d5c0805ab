"""Arguments of calls, and the numbers and durations of clauses."""

from __future__ import annotations

from jamjet_dsl.analysis.model import Type
from jamjet_dsl.analysis.typecheck_expr import ExprChecker
from jamjet_dsl.analysis.types import DURATION, ERROR, FLOAT, INT, STRING
from jamjet_dsl.diagnostics.model import Label
from jamjet_dsl.syntax import ast

_JITTER = ("none", "full")


def parameters(checker: ExprChecker, name: ast.Name) -> tuple[dict[str, Type], ast.Name] | None:
    """Parameter -> type of the tool, agent or message that a name means, and where it is declared; None for a
    name that was reported."""
    symbol = checker.symbols.get(name)
    match symbol.node if symbol is not None else None:
        case ast.ToolDecl(name=at, params=params) | ast.EmitsDecl(name=at, params=params):
            pass
        case ast.AgentDecl(name=at, members=members):
            params = tuple(p for m in ast.clauses(members, ast.InputDecl) for p in m.params)
        case _:
            return None
    return {p.name.text: checker.types_of(p.type) for p in params}, at


def check_arguments(checker: ExprChecker, call: ast.ToolCall, partial: bool = False) -> dict[str, ast.Expr]:
    """Checks the arguments of a call by position and by name; returns them by parameter.

    `partial` calls (`require get_order(order_id = x) before …`) need not give every argument.
    """
    found = parameters(checker, call.tool)
    if found is None:
        for arg in call.args:
            checker.infer(arg.value)
        return {}
    params, at = found
    given: dict[str, ast.Expr] = {}
    order = iter(params)
    strange = False  # an argument that is not taken is probably one of the missing ones
    for arg in call.args:
        name = arg.name.text if arg.name is not None else next(order, None)
        if name is None or name not in params:
            checker.infer(arg.value)
            strange = True
            _not_taken(checker, call, arg, params, at)
        elif name in given:
            checker.infer(arg.value)
            checker.problem("JAM108", arg, f"`{name}` is given twice")
        else:
            given[name] = arg.value
            checker.expect(arg.value, params[name])
    missing = [n for n, t in params.items() if n not in given and t.kind != "optional"]
    if missing and not partial and not strange:
        listed = ", ".join(f"`{m}`" for m in missing)
        word = "arguments" if len(missing) > 1 else "argument"
        checker.report.add(
            "JAM108",
            call.span,
            f"`{call.tool.text}` needs the {word} {listed}",
            labels=(Label(at.span, "declared here"),),
        )
    return given


def _not_taken(checker: ExprChecker, call: ast.ToolCall, arg: ast.Arg, params: dict[str, Type], at: ast.Name) -> None:
    labels = (Label(at.span, "declared here"),)
    if arg.name is not None:
        checker.report.add(
            "JAM108",
            arg.name.span,
            f"`{call.tool.text}` has no parameter `{arg.name.text}`",
            help=checker.report.meant(arg.name.text, params, f"it takes {', '.join(params) or 'none'}"),
            labels=labels,
        )
    else:
        many = len(params)
        takes = f"{many} argument{'' if many == 1 else 's'}" if many else "no arguments"
        checker.report.add("JAM108", arg.span, f"`{call.tool.text}` takes {takes}, not {len(call.args)}", labels=labels)


def whole(checker: ExprChecker, node: ast.Expr, least: int, what: str) -> None:
    """Checks a whole number of at least `least` that is known before the run."""
    known(checker, node, INT._replace(low=least, high=2**53 - 1), what)


def known(checker: ExprChecker, node: ast.Expr, expected: Type, what: str) -> None:
    """Checks a value of a clause that must be known before the run: a literal, or a const that is one."""
    checker.expect(node, expected)
    value = node
    while isinstance(value, ast.Ident):
        symbol = checker.symbols.get(value)
        if symbol is None or (symbol.kind == "const" and symbol.type == ERROR):
            return
        if not isinstance(symbol.node, ast.ConstDecl):
            break
        value = symbol.node.value
    if not isinstance(value, ast.Lit | ast.ErrorExpr):
        checker.problem(
            "JAM401",
            node,
            f"{what} is a literal, or a const that is one",
            help=f"write the value, or declare it: `const {node.name} = …`" if isinstance(node, ast.Ident) else "",
            why="it must be known before the run",
        )


def check_via(checker: ExprChecker, via: ast.Via) -> None:
    """Checks where a tool or model is found: a text, or a command as a list of texts."""
    items = via.value.items if isinstance(via.value, ast.ListLit) else (via.value,)
    for item in items:
        checker.expect(item, STRING)
        if not isinstance(item, ast.Lit | ast.ErrorExpr):
            checker.problem("JAM401", item, "`via` names its target as a text", why="it must be known before the run")


def check_retry(checker: ExprChecker, clause: ast.RetryClause) -> None:
    """Checks the numbers and durations of a `retry`."""
    known(checker, clause.times, INT, "a number of attempts")
    for duration in (clause.backoff, clause.max_delay):
        if duration is not None:
            known(checker, duration, DURATION, "a delay")
    if clause.factor is not None:
        factor = INT if checker.infer(clause.factor).kind == "int" else FLOAT
        known(checker, clause.factor, factor, "a factor")
    if clause.jitter is not None and clause.jitter.text not in _JITTER:
        help = checker.report.meant(clause.jitter.text, _JITTER, "it is none or full")
        checker.problem("JAM101", clause.jitter, f"there is no jitter `{clause.jitter.text}`", help=help)
