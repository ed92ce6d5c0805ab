"""Types of calls in expressions: built-in functions and methods, macros, declared functions, special forms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from jamjet_dsl.analysis.model import Symbol, Type
from jamjet_dsl.analysis.signatures import (
    FUNCTION_NAMES,
    MACROS,
    SPECIAL_FORMS,
    call_forms,
    call_overload,
    signatures_of,
)
from jamjet_dsl.analysis.types import ANY, BOOL, ERROR, INT, list_of, plain, secret, show
from jamjet_dsl.diagnostics.model import Label
from jamjet_dsl.syntax import ast

if TYPE_CHECKING:
    from jamjet_dsl.analysis.typecheck_expr import ExprChecker

HISTORY = frozenset({"attempted", "succeeded", "failed"})
PROVENANCE = frozenset({"attested", "untrusted"})
IN_RULES = HISTORY | PROVENANCE
COUNTS = HISTORY | {"denied"}
"""Those that count calls with given arguments; the kernel counts denials for tests only."""
IN_TESTS = COUNTS | {"calls"}
"""The special forms that mean something in rules of a policy, and in tests and checks; `has` does everywhere."""

_WHERE = dict.fromkeys(IN_RULES, "in the rules of a policy") | dict.fromkeys(IN_TESTS, "in tests and checks")


def infer_call(checker: ExprChecker, node: ast.FnCall) -> Type:
    """The type of `f(args)`."""
    name = node.function.text
    if name == "has":
        return _has(checker, node)
    if name in SPECIAL_FORMS or name == "denied":
        return _special(checker, node)
    symbol = checker.names.find(name)
    if symbol is not None and symbol.kind == "fn" and isinstance(symbol.node, ast.FnDecl):
        checker.symbols[node.function] = symbol
        return _declared(checker, node, symbol.node)
    if symbol is not None and symbol.kind == "unknown":
        _all(checker, [a.value for a in node.args])
        return ERROR
    for arg in node.args:
        if arg.name is not None:
            checker.problem("JAM108", arg.name, f"`{name}` takes its arguments by position")
    if name not in FUNCTION_NAMES:
        return _unknown(checker, node, symbol)
    return _builtin(checker, node, name, [a.value for a in node.args], method=False)


def _all(checker: ExprChecker, nodes: Sequence[ast.Expr]) -> list[Type]:
    return [checker.value(n) for n in nodes]


def _unknown(checker: ExprChecker, node: ast.FnCall, symbol: Symbol | None) -> Type:
    _all(checker, [a.value for a in node.args])
    name = node.function.text
    if symbol is not None:
        help = f"call it in a state: `call {name}(…) as x`" if symbol.kind == "tool" else ""
        checker.names.missed += 1
        return checker.problem("JAM101", node.function, f"`{name}` is a {symbol.kind}, not a function", help=help)
    known = chain((n for n in FUNCTION_NAMES if "f" in call_forms(n)), checker.names.all_of("fn"))
    checker.names.unknown(node.function.span, name, "function", known, f"declare it: `fn {name}(…) -> T = …`")
    return ERROR


def infer_method(checker: ExprChecker, node: ast.MethodCall, hint: Type | None) -> Type:
    """The type of `x.f(args)`: a macro or a built-in method."""
    name = node.method.text
    if name in MACROS:
        return _macro(checker, node, hint)
    if name not in FUNCTION_NAMES:
        checker.value(node.operand)
        _all(checker, node.args)
        known = [n for n in FUNCTION_NAMES if "m" in call_forms(n)] + list(MACROS)
        checker.names.unknown(node.method.span, name, "method", known)
        return ERROR
    return _builtin(checker, node, name, [node.operand, *node.args], method=True)


def _builtin(
    checker: ExprChecker, node: ast.FnCall | ast.MethodCall, name: str, args: list[ast.Expr], method: bool
) -> Type:
    at = node.method if isinstance(node, ast.MethodCall) else node.function
    types = _all(checker, args)
    form = "m" if method else "f"
    if form not in call_forms(name):
        written = f"x.{name}(…)" if form == "f" else f"{name}(x, …)"
        return checker.problem("JAM108", at, f"`{name}` is written `{written}`")
    if any(t.kind == "error" for t in types):
        chosen = call_overload(name, tuple(types), method)
        return chosen.result if chosen is not None else ERROR
    chosen = call_overload(name, tuple(types), method)
    if chosen is None:
        return _no_overload(checker, node, name, args, types, method)
    for arg, found, param in zip(args, types, chosen.params, strict=True):
        if (found.kind == "int" and param.kind in ("decimal", "float")) or (
            found.kind == "float" and param.kind == "decimal" and isinstance(arg, ast.Lit)
        ):
            checker.widened[arg] = param
    return chosen.result


def _no_overload(
    checker: ExprChecker, node: ast.Expr, name: str, args: list[ast.Expr], types: list[Type], method: bool
) -> Type:
    """Tries a literal fraction as a decimal before it gives up: `round(x * 1, 2)` needs no conversion."""
    exact = [
        Type("decimal") if t.kind == "float" and isinstance(a, ast.Lit) else t for a, t in zip(args, types, strict=True)
    ]
    if exact != types:
        chosen = call_overload(name, tuple(exact), method)
        if chosen is not None:
            for arg, before, now in zip(args, types, exact, strict=True):
                if before != now:
                    checker.widened[arg] = now
            return chosen.result
    signatures = signatures_of(name)
    shown = "; ".join(signatures[:6])
    counts = {_arity(s) for s in signatures if "..." not in s}
    given = len(types)
    if counts and given not in counts and not any("..." in s for s in signatures):
        taken = sorted(c - method for c in counts)
        words = " or ".join(map(str, taken))
        plural = "argument" if taken == [1] else "arguments"
        return checker.problem("JAM108", node, f"`{name}` takes {words} {plural}, not {given - method}", help=shown)
    listed = ", ".join(f"`{show(t)}`" for t in types)
    return checker.problem("JAM401", node, f"`{name}` does not take {listed}", help=f"it takes: {shown}")


def _arity(signature: str) -> int:
    """How many parameters a signature as text has: `size(map<K, V>) -> int` has one."""
    depth = commas = 0
    inner = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    for char in inner:
        depth += (char == "<") - (char == ">")
        commas += char == "," and depth == 0
    return commas + 1 if inner else 0


def _declared(checker: ExprChecker, node: ast.FnCall, decl: ast.FnDecl) -> Type:
    name = decl.name.text
    result = checker.types_of(decl.result)
    for arg in node.args:
        if arg.name is not None:
            checker.problem("JAM108", arg.name, f"`{name}` takes its arguments by position")
    if len(node.args) != len(decl.params):
        many = len(decl.params)
        checker.report.add(
            "JAM108",
            node.span,
            f"`{name}` takes {many} argument{'' if many == 1 else 's'}, not {len(node.args)}",
            labels=(Label(decl.name.span, "declared here"),),
        )
        _all(checker, [a.value for a in node.args])
        return result
    told = False
    for arg, param in zip(node.args, decl.params, strict=True):
        declared = checker.types_of(param.type)
        checker.expect(arg.value, declared)
        told = told or (_is_secret(checker.types.get(arg.value)) and not _is_secret(declared))
    # What is computed from a secret is one, also where the function does not know; a truth value is not.
    return secret(result) if told and result.kind != "bool" else result


def _is_secret(type_: Type | None) -> bool:
    while type_ is not None and type_.kind == "optional":
        type_ = type_.args[0]
    return type_ is not None and type_.kind == "secret"


# ---- macros


def _macro(checker: ExprChecker, node: ast.MethodCall, hint: Type | None) -> Type:
    name = node.method.text
    whole = checker.value(node.operand, hint if name == "filter" else None)
    inner = whole.args[0] if whole.kind == "secret" else whole
    item = inner.args[0] if inner.kind in ("list", "map") else inner if inner.kind in ("any", "error") else None
    if item is None:
        checker.problem("JAM401", node.operand, f"`{name}` goes through a list or a map, and this is `{show(inner)}`")
        item = ERROR
    wanted = (2, 3) if name == "map" else (2,)
    if len(node.args) not in wanted:
        words = " or ".join(map(str, wanted))
        return checker.problem(
            "JAM108",
            node,
            f"`{name}` takes a name and {'an expression' if name == 'map' else 'a condition'}",
            help=f"`xs.{name}(x, …)`: {words} arguments",
        )
    if not isinstance(node.args[0], ast.Ident):
        return checker.problem("JAM108", node.args[0], f"the first argument of `{name}` is a name for the items")
    return _with_item(checker, node, node.args[0], item, inner)


def _with_item(checker: ExprChecker, node: ast.MethodCall, item: ast.Ident, type_: Type, whole: Type) -> Type:
    """Types what a macro evaluates for every item, with the item's name in scope."""
    outer = checker.lookup(item.name)
    if outer is not None and outer.kind != "root":
        where = getattr(outer.node, "name", outer.node)
        checker.report.add(
            "JAM104",
            item.span,
            f"`{item.name}` hides a name of the same text",
            help="choose another name for the items",
            labels=(Label(where.span, "the name that is hidden"),) if where is not None else (),
        )
    symbol = Symbol("local", item.name, item, type_)
    checker.symbols[item] = symbol
    checker.types[item] = type_
    before = checker.locals.get(item.name)
    checker.locals[item.name] = symbol
    hidden, checker.present = checker.present, frozenset(k for k in checker.present if k.split(".")[0] != item.name)
    name = node.method.text
    result: Type = BOOL
    if name == "map":
        if len(node.args) == 3:
            checker.expect(node.args[1], BOOL)
        keys = checker.narrowing.facts(node.args[1]).true if len(node.args) == 3 else frozenset()
        result = list_of(plain(checker.under(keys, lambda: checker.infer(node.args[-1]))))
    else:
        checker.expect(node.args[1], BOOL)
        if name == "filter":
            result = plain(whole) if whole.kind == "list" else list_of(type_)
    checker.present = hidden
    if before is None:
        del checker.locals[item.name]
    else:
        checker.locals[item.name] = before
    return result


# ---- special forms


def _has(checker: ExprChecker, node: ast.FnCall) -> Type:
    if len(node.args) != 1 or node.args[0].name is not None:
        return checker.problem("JAM108", node, "`has` takes one argument", help="`has(x.y)`")
    arg = node.args[0].value
    match arg:
        case ast.Select() | ast.Ident():
            checker.infer(arg)
        case ast.Index():
            checker.infer(arg)
        case _:
            checker.infer(arg)
            checker.problem("JAM401", arg, "`has` asks for a variable, a field or a key", help="`has(x)`, `has(x.y)`")
    return BOOL


def _special(checker: ExprChecker, node: ast.FnCall) -> Type:
    name = node.function.text
    if name not in checker.scope.forms:
        _quiet_args(checker, node)
        where = _WHERE[name] if name not in HISTORY else "in the rules of a policy, in tests and checks"
        checker.problem("JAM101", node.function, f"`{name}` means something only {where}")
        return SPECIAL_FORMS.get(name, INT)
    if not node.args:
        what = "a path" if name in PROVENANCE else "the name of a tool"
        checker.problem("JAM108", node, f"`{name}` takes {what}")
        return SPECIAL_FORMS.get(name, INT)
    first = node.args[0].value
    if name in PROVENANCE:
        checker.infer(first)
        if not isinstance(first, ast.Ident | ast.Select):
            checker.problem("JAM401", first, f"`{name}` asks about a variable or a field")
        return BOOL
    tool = _tool(checker, name, first)
    params = {p.name.text: p for p in tool.params} if tool is not None else {}
    for arg in node.args[1:]:
        if arg.name is None or name not in COUNTS:
            checker.infer(arg.value)
            help = f"`{name}(T, amount = x)`" if name in COUNTS else f"`{name}(T)`"
            checker.problem(
                "JAM108", arg, f"`{name}` takes a tool" + (" and named arguments" if name in COUNTS else ""), help
            )
        elif tool is not None and arg.name.text not in params:
            help = checker.report.meant(arg.name.text, params)
            checker.problem("JAM108", arg.name, f"`{tool.name.text}` has no parameter `{arg.name.text}`", help=help)
        else:
            checker.expect(arg.value, checker.types_of(params[arg.name.text].type) if tool is not None else ANY)
    return INT


def _tool(checker: ExprChecker, form: str, node: ast.Expr) -> ast.ToolDecl | None:
    if not isinstance(node, ast.Ident):
        checker.problem("JAM108", node, f"`{form}` takes the name of a tool")
        return None
    symbol = checker.names.find(node.name)
    if symbol is not None and isinstance(symbol.node, ast.ToolDecl):
        checker.symbols[node] = symbol
        return symbol.node
    checker.names.unknown(node.span, node.name, "tool", checker.names.all_of("tool"))
    return None


def _quiet_args(checker: ExprChecker, node: ast.FnCall) -> None:
    """Marks what the arguments name as used, and says nothing more about a form that is out of place."""
    for arg in node.args:
        if isinstance(arg.value, ast.Ident):
            checker.names.find(arg.value.name)
