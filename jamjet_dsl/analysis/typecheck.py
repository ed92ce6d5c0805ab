"""Types of a whole program: declarations, agents, rules and tests, in an order in which nothing is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jamjet_dsl.analysis.model import Analysis, Symbol, Type
from jamjet_dsl.analysis.names import Names
from jamjet_dsl.analysis.report import Report
from jamjet_dsl.analysis.typecheck_agent import AgentChecker
from jamjet_dsl.analysis.typecheck_args import check_arguments, check_retry, check_via, known, whole
from jamjet_dsl.analysis.typecheck_expr import ExprChecker, Scope, Shapes
from jamjet_dsl.analysis.types import ANY, DURATION, ERROR, MONEY, STRING, fits, optional, show
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

Completer: TypeAlias = Callable[[Symbol], Type]

_TOOL_ROOTS = frozenset({"run"})
_PER = ("second", "minute", "hour", "day")


def typecheck(analysis: Analysis, by_file: dict[ast.Program, Names], report: Report) -> None:
    """Fills the tables of types and reports what does not fit."""
    shapes = Shapes(analysis)
    agents = [AgentChecker(info, by_file[info.file], shapes, report) for info in analysis.agents]
    consts = _Consts(by_file, shapes, report)
    for checker in agents:
        checker.exprs.complete = consts.then(checker.complete)
    for names in by_file.values():
        _declarations(names, shapes, report, consts)
    for checker in agents:
        checker.prepare()
    for checker in agents:
        checker.check()
    from jamjet_dsl.analysis.typecheck_tests import TestChecker

    for names in by_file.values():
        for test in ast.clauses(names.scope.program.items, ast.TestDecl):
            TestChecker(test, names, shapes, report, agents, consts.type_of).check()


class _Consts:
    """Types of consts, found when they are first needed, in the file that declares them."""

    def __init__(self, by_file: dict[ast.Program, Names], shapes: Shapes, report: Report) -> None:
        self._homes: dict[Node, ExprChecker] = {}
        self._open: set[Symbol] = set()
        for names in by_file.values():
            checker = ExprChecker(names, shapes, report)
            checker.scope = Scope(roots=frozenset())
            checker.complete = self.type_of
            for decl in ast.clauses(names.scope.program.items, ast.ConstDecl):
                self._homes[decl] = checker

    def type_of(self, symbol: Symbol) -> Type:
        """The type of a const; one that depends on itself was reported by resolving."""
        decl = symbol.node
        if not isinstance(decl, ast.ConstDecl) or symbol in self._open:
            return ERROR
        self._open.add(symbol)
        checker = self._homes[decl]
        if decl.type is not None:
            symbol.type = checker.expect(decl.value, checker.types_of(decl.type))
        else:
            symbol.type = checker.infer(decl.value)
        self._open.discard(symbol)
        return symbol.type

    def then(self, other: Completer) -> Completer:
        """Completes consts here and everything else with `other`."""
        return lambda symbol: self.type_of(symbol) if symbol.kind == "const" else other(symbol)


def _declarations(names: Names, shapes: Shapes, report: Report, consts: _Consts) -> None:
    checker = ExprChecker(names, shapes, report)
    checker.complete = consts.type_of
    for item in names.scope.program.items:
        match item:
            case ast.ConstDecl():
                symbol = names.scope.names.get(item.name.text)
                if symbol is not None and symbol.node is item and symbol.type is None:
                    consts.type_of(symbol)
            case ast.FnDecl():
                _function(checker, item)
            case ast.ToolDecl():
                _tool(checker, item)
            case ast.ModelDecl(clauses=clauses):
                for clause in clauses:
                    _model_clause(checker, clause)
            case _:
                pass


def _function(checker: ExprChecker, decl: ast.FnDecl) -> None:
    own = {p.name.text: Symbol("local", p.name.text, p, checker.types_of(p.type)) for p in decl.params}
    for param in decl.params:
        hidden = checker.names.scope.names.get(param.name.text)
        if hidden is not None and hidden.kind == "const":
            checker.problem("JAM104", param.name, f"`{param.name.text}` hides a const of the same name")
    checker.scope = Scope(own, roots=frozenset())
    checker.expect(decl.body, checker.types_of(decl.result))


def _model_clause(checker: ExprChecker, clause: Node) -> None:
    checker.scope = Scope(roots=frozenset())
    match clause:
        case ast.PriceClause(input=input_, output=output, per=per):
            known(checker, input_, MONEY, "a price")
            known(checker, output, MONEY, "a price")
            whole(checker, per, 1, "a number of tokens")
        case ast.Via():
            check_via(checker, clause)
        case _:
            pass


def _tool(checker: ExprChecker, tool: ast.ToolDecl) -> None:
    params = {p.name.text: Symbol("input", p.name.text, p, checker.types_of(p.type)) for p in tool.params}
    fields = tuple((name, s.type or ERROR) for name, s in params.items())
    args = Symbol("root", "args", None, Type("object", fields=fields))
    own = {"args": args} | params
    scope = Scope(own, roots=_TOOL_ROOTS)
    with_result = scope
    if tool.result is not None:
        result = Symbol("root", "result", None, checker.types_of(tool.result))
        with_result = Scope(own | {"result": result}, roots=_TOOL_ROOTS)
    for clause in tool.clauses:
        checker.scope = with_result if isinstance(clause, ast.UndoClause) else scope
        match clause:
            case ast.KeyClause(value=value):
                checker.expect(value, STRING)
            case ast.ConfirmClause(call=call):
                check_arguments(checker, call)
                _confirm(checker, tool, call)
            case ast.UndoClause(call=call):
                check_arguments(checker, call)
            case ast.CostClause(amount=amount):
                known(checker, amount, MONEY, "a cost")
            case ast.RateClause(count=count, unit=unit):
                whole(checker, count, 1, "a limit")
                if unit.text not in _PER:
                    help = checker.report.meant(unit.text, _PER, "it is second, minute, hour or day")
                    checker.problem("JAM101", unit, f"there is no unit of time `{unit.text}`", help=help)
            case ast.TimeoutClause(duration=duration):
                known(checker, duration, DURATION, "a timeout")
            case ast.RetryClause():
                check_retry(checker, clause)
            case ast.Via():
                check_via(checker, clause)
            case _:
                pass


def _confirm(checker: ExprChecker, tool: ast.ToolDecl, call: ast.ToolCall) -> None:
    """What `confirm` returns stands for the result of the call, or null for "it did not happen"."""
    symbol = checker.symbols.get(call.tool)
    if symbol is None or not isinstance(symbol.node, ast.ToolDecl):
        return
    found = checker.types_of(symbol.node.result) if symbol.node.result is not None else None
    wanted = optional(checker.types_of(tool.result)) if tool.result is not None else ANY
    if found is None or not fits(found, wanted):
        says = f"`{show(found)}`" if found is not None else "nothing"
        checker.problem(
            "JAM401",
            call.tool,
            f"`confirm` needs `{show(wanted)}`, and `{call.tool.text}` returns {says}",
            why="its result stands for that of the call, null says that the call did not happen",
        )
