"""Names: what every name of a program stands for, and which names nothing stands for."""

from __future__ import annotations

from typing import NamedTuple

from jamjet_dsl.analysis import clauses
from jamjet_dsl.analysis.model import Analysis, FileScope, Symbol
from jamjet_dsl.analysis.names import Names
from jamjet_dsl.analysis.recursion import check_recursion
from jamjet_dsl.analysis.report import Report
from jamjet_dsl.analysis.resolve_agent import AgentResolver
from jamjet_dsl.analysis.signatures import FUNCTION_NAMES, SPECIAL_FORMS, call_forms
from jamjet_dsl.analysis.types import EFFECTS, ERROR, TYPE_NAMES
from jamjet_dsl.diagnostics.model import Label
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

RESERVED = frozenset(TYPE_NAMES) | SPECIAL_FORMS.keys() | {n for n in FUNCTION_NAMES if "f" in call_forms(n)}
"""Names of the language that no declaration may take."""

_KINDS: dict[type[Node], str] = {
    ast.RecordDecl: "record",
    ast.EnumDecl: "enum",
    ast.ConstDecl: "const",
    ast.FnDecl: "fn",
    ast.ToolDecl: "tool",
    ast.ModelDecl: "model",
    ast.AgentDecl: "agent",
}


class Unit(NamedTuple):
    """A parsed file: `partial` if it has syntax errors, `imports` the file each import means (None: not read)."""

    program: ast.Program
    partial: bool
    imports: dict[ast.Import, ast.Program | None]


def resolve(units: list[Unit], report: Report) -> tuple[Analysis, dict[ast.Program, Names]]:
    """Resolves all names of some files that import each other; the first is the one that was asked for.

    Names inside expressions are left to typing, which knows what is in scope where they stand.
    """
    analysis = Analysis(diagnostics=report.found)
    by_file: dict[ast.Program, Names] = {}
    taken: set[tuple[str, str]] = set()
    for unit in units:
        scope = FileScope(unit.program)
        analysis.files.append(scope)
        names = Names(scope, analysis, report, unit.partial)
        by_file[unit.program] = names
        _declare(names, taken)
    own = {program: dict(names.scope.names) for program, names in by_file.items()}
    for unit in units:
        _import(unit, by_file, own)
    for names in by_file.values():
        _declarations(names)
    resolvers = []
    for names in by_file.values():
        for decl in ast.clauses(names.scope.program.items, ast.AgentDecl):
            resolver = AgentResolver(decl, names)
            analysis.agents.append(resolver.info)
            resolvers.append(resolver)
    for resolver in resolvers:
        resolver.resolve()
    check_recursion(analysis, report)
    return analysis, by_file


def _declare(names: Names, taken: set[tuple[str, str]]) -> None:
    """Enters the declarations of a file. `taken` are the kinds and names of those in other files."""
    for item in names.scope.program.items:
        kind = _KINDS.get(type(item))
        if kind is None:
            continue
        name: ast.Name = item.name  # type: ignore[attr-defined]  # every kind of declaration has one
        if name.text in RESERVED:
            names.report.add(
                "JAM103",
                name.span,
                f"`{name.text}` is a {'type' if name.text in TYPE_NAMES else 'function'} of the language",
                help="choose another name",
            )
        symbol = Symbol(kind, _unique(name, kind, taken), item)
        if _enter(names, name, symbol):
            taken.add((kind, symbol.name))
            if isinstance(item, ast.RecordDecl):
                names.analysis.records[symbol.name] = item
            elif isinstance(item, ast.EnumDecl):
                names.analysis.enums[symbol.name] = item


def _unique(name: ast.Name, kind: str, taken: set[tuple[str, str]]) -> str:
    """The name of a declaration in the whole program: with its file where another file declares the same name."""
    if (kind, name.text) not in taken:
        return name.text
    file = name.span.file.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".jam")
    unique, n = f"{name.text}@{file}", 2
    while (kind, unique) in taken:
        unique, n = f"{name.text}@{file}{n}", n + 1
    return unique


def _enter(names: Names, name: ast.Name, symbol: Symbol) -> bool:
    first = names.scope.names.get(name.text)
    if first is None:
        names.scope.names[name.text] = symbol
        return True
    labels: tuple[Label, ...] = ()
    if first.node is not None:
        at = getattr(first.node, "name", first.node)
        labels = (Label(at.span, "the first one"),)
    names.report.add(
        "JAM102", name.span, f"`{name.text}` is already declared", help="give one of them another name", labels=labels
    )
    return False


def _import(unit: Unit, by_file: dict[ast.Program, Names], own: dict[ast.Program, dict[str, Symbol]]) -> None:
    """Enters what a file imports. What could not be read is known to be unknown, and nothing is said of it."""
    names = by_file[unit.program]
    for node in unit.program.imports:
        target = unit.imports.get(node)
        for name in node.names:
            symbol = own[target].get(name.text) if target is not None else None
            if symbol is None:
                if target is not None and not by_file[target].partial:
                    _not_there(names, name, node, own[target])
                names.scope.names.setdefault(name.text, Symbol("unknown", name.text, None, ERROR))
                continue
            symbol.used = True
            names.analysis.symbols[name] = symbol
            _enter(names, name, symbol)


def _not_there(names: Names, name: ast.Name, node: ast.Import, there: dict[str, Symbol]) -> None:
    names.report.add(
        "JAM105",
        name.span,
        f"{node.path.span.text} does not declare `{name.text}`",
        help=names.report.meant(name.text, there, "import a name that the file declares itself"),
    )


def _declarations(names: Names) -> None:
    """The types of what stands at top level, and the clauses of tools."""
    for item in names.scope.program.items:
        match item:
            case ast.RecordDecl(fields=fields):
                names.params(fields, "field")
            case ast.EnumDecl(members=members):
                names.distinct(members, "member")
            case ast.ConstDecl(type=type_) if type_ is not None:
                names.denote(type_)
            case ast.FnDecl(params=fn_params, result=result):
                names.params(fn_params, "parameter")
                names.denote(result)
            case ast.ToolDecl():
                _tool(names, item)
            case ast.ModelDecl(clauses=parts):
                clauses.check_once(parts, names.report, f"model `{item.name.text}`")
            case _:
                pass


def _tool(names: Names, tool: ast.ToolDecl) -> None:
    names.params(tool.params, "parameter")
    if tool.result is not None:
        names.denote(tool.result)
    clauses.check_tool(tool, names.report)
    for part in tool.clauses:
        match part:
            case ast.EffectClause(effect=effect) if effect.text not in EFFECTS:
                names.report.add(
                    "JAM101",
                    effect.span,
                    f"there is no effect `{effect.text}`",
                    help=names.report.meant(effect.text, EFFECTS, "it is reads, writes or irreversible"),
                )
            case ast.ConfirmClause(call=call):
                _reading(names, call, names.use(call.tool, "tool"))
            case ast.UndoClause(call=call):
                names.use(call.tool, "tool")
            case _:
                pass


def _reading(names: Names, call: ast.ToolCall, symbol: Symbol | None) -> None:
    """A `confirm` only looks: it is asked when nobody knows what happened."""
    if symbol is None or not isinstance(symbol.node, ast.ToolDecl):
        return
    effect = ast.clause(symbol.node.clauses, ast.EffectClause)
    if effect is not None and effect.effect.text in ("writes", "irreversible"):
        names.report.add(
            "JAM401",
            call.tool.span,
            f"`confirm` needs a tool that reads, and `{call.tool.text}` {effect.effect.text}",
            labels=(Label(effect.span, "its effect"),),
        )


def report_unused(analysis: Analysis, by_file: dict[ast.Program, Names], report: Report) -> None:
    """JAM107 and unused imports, after everything was resolved and typed.

    A file without agents is a library: what it declares is for others. Names that begin with `_` are exempt.
    """
    for names in by_file.values():
        program = names.scope.program
        if names.partial or not any(isinstance(i, ast.AgentDecl) for i in program.items):
            continue
        for node in program.imports:
            for name in node.names:
                symbol = names.scope.names.get(name.text)
                if symbol is None or symbol.kind == "unknown" or name.text in names.used:
                    continue
                if not _counts(name.text, report):
                    continue
                report.add(
                    "JAM105",
                    name.span,
                    f"`{name.text}` is imported and never used",
                    help="leave it out of the import",
                )
        for item in program.items:
            kind = _KINDS.get(type(item))
            if kind in (None, "agent"):
                continue
            symbol = names.scope.names.get(item.name.text)  # type: ignore[attr-defined]
            if symbol is not None and symbol.node is item and not symbol.used and _counts(symbol.name, report):
                _unused(report, item.name, f"{kind} `{symbol.name}` is never used")  # type: ignore[attr-defined]
    for info in analysis.agents:
        if by_file[info.file].partial:
            continue
        for symbol in (*info.vars.values(), *info.emits.values()):
            if symbol.kind in ("var", "emits") and not symbol.used and _counts(symbol.name, report):
                assert isinstance(symbol.node, ast.VarDecl | ast.EmitsDecl)
                word = "variable" if symbol.kind == "var" else "message"
                _unused(report, symbol.node.name, f"{word} `{symbol.name}` is never used")


def _counts(name: str, report: Report) -> bool:
    """Whether nobody said that a name may be unused: its author by an underscore, or a misspelt use of it."""
    return not name.startswith("_") and name not in report.guessed and name not in RESERVED


def _unused(report: Report, name: ast.Name, message: str) -> None:
    report.add("JAM107", name.span, message, help=f"remove it, or call it `_{name.text}` if it is there on purpose")
