"""Records, functions, consts and agents that contain themselves (JAM106)."""

from __future__ import annotations

from collections.abc import Iterable

from jamjet_dsl.analysis.model import Analysis, Symbol, Type
from jamjet_dsl.analysis.report import Report
from jamjet_dsl.diagnostics.model import Label
from jamjet_dsl.source import Span
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node, walk

_Uses = dict[Symbol, list[tuple[Symbol, Span]]]

_WHY = {
    "record": "a value of it would never end; a list, a map or an optional of it may",
    "fn": "a function that calls itself could run for ever, and guards must not",
    "const": "its value would depend on itself",
    "agent": "a child that starts its own parent would never end",
}


def check_recursion(analysis: Analysis, report: Report) -> None:
    """Reports every declaration that leads back to itself, once for each way back."""
    symbols: dict[Node, Symbol] = {}
    for file in analysis.files:
        symbols.update((s.node, s) for s in file.names.values() if s.node is not None)
    uses: _Uses = {}
    for file in analysis.files:
        for symbol in file.names.values():
            if symbol.node is None or symbol in uses:
                continue
            match symbol.node:
                case ast.RecordDecl(fields=fields):
                    uses[symbol] = list(_parts(fields, analysis))
                case ast.FnDecl(body=body):
                    uses[symbol] = list(_named(body, file.names, "fn"))
                case ast.ConstDecl(value=value):
                    uses[symbol] = list(_named(value, file.names, "const"))
                case _:
                    pass
    for info in analysis.agents:
        caller = symbols.get(info.decl)
        if caller is not None:
            uses[caller] = []
            for state in info.all_states():
                if isinstance(state.action, ast.RunAction):
                    name = state.action.call.tool
                    callee = analysis.symbols.get(name)
                    if callee is not None:
                        uses[caller].append((callee, name.span))
    _cycles(uses, report)


def _parts(fields: tuple[ast.Param, ...], analysis: Analysis) -> Iterable[tuple[Symbol, Span]]:
    for field in fields:
        t: Type = analysis.types[field.type]
        while t.kind == "secret":
            t = t.args[0]
        if t.kind == "record":
            yield analysis.symbols[field.type.name], field.type.span


def _named(body: ast.Expr, names: dict[str, Symbol], kind: str) -> Iterable[tuple[Symbol, Span]]:
    for node in walk(body):
        match node:
            case ast.FnCall(function=function) if kind == "fn":
                found, span = names.get(function.text), function.span
            case ast.Ident(name=name) if kind == "const":
                found, span = names.get(name), node.span
            case _:
                continue
        if found is not None and found.kind == kind:
            yield found, span


def _cycles(uses: _Uses, report: Report) -> None:
    """Depth-first search without recursion; an edge to a symbol that is still open closes a cycle."""
    done: set[Symbol] = set()
    for root in uses:
        if root in done:
            continue
        way: list[Symbol] = [root]
        open_: set[Symbol] = {root}
        todo = [iter(uses[root])]
        while todo:
            step = next(todo[-1], None)
            if step is None:
                todo.pop()
                last = way.pop()
                open_.discard(last)
                done.add(last)
                continue
            target, span = step
            if target in open_:
                _report(way[way.index(target) :], span, report)
            elif target not in done and target in uses:
                way.append(target)
                open_.add(target)
                todo.append(iter(uses[target]))


def _report(cycle: list[Symbol], span: Span, report: Report) -> None:
    first = cycle[0]
    verb = {"record": "contains", "fn": "calls", "const": "uses", "agent": "runs"}[first.kind]
    word = {"fn": "function"}.get(first.kind, first.kind)
    way = ""
    if len(cycle) > 1:
        way = f", by way of {', '.join(f'`{s.name}`' for s in cycle[1:])}"
    at = getattr(first.node, "name", None)
    labels = (Label(at.span, f"the {word}"),) if isinstance(at, ast.Name) else ()
    report.add("JAM106", span, f"{word} `{first.name}` {verb} itself{way}", why=_WHY[first.kind], labels=labels)
