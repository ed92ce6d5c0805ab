"""What can be changed in a module so that a test should notice: one small change at a time, over its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_MESSAGES = {"message", "reason", "why", "text", "help"}
"""Names of what only people read: its words are no behaviour."""


@dataclass(frozen=True)
class Mutant:
    """One change: `line` of the module, what was there and what is there instead; `number` among its changes."""

    line: int
    what: str
    number: int

    def applied(self, source: str) -> str:
        """The module's text with this change."""
        tree = ast.parse(source)
        _, _, change = next(item for n, item in enumerate(_changes(tree)) if n == self.number)
        change()
        return ast.unparse(ast.fix_missing_locations(tree))


def mutants(source: str) -> list[Mutant]:
    """Every change of a module, in the order of its text. Annotations, docstrings and messages are left alone."""
    return [Mutant(line, what, n) for n, (line, what, _) in enumerate(_changes(ast.parse(source)))]


Change = tuple[int, str, Callable[[], None]]


def _changes(tree: ast.Module) -> Iterator[Change]:
    for function in _functions(tree):
        for node in _inside(function):
            yield from _of(node)


def _functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node)


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """Everything that runs in a function, outermost first."""
    if isinstance(node, (ast.Raise, ast.Assert)):
        return
    yield node
    for name, field in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        for child in field if isinstance(field, list) else [field]:
            if isinstance(child, ast.AST) and not _only_words(child):
                yield from _inside(child)


def _only_words(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id in _MESSAGES
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.keyword) and node.arg in _MESSAGES)


def _of(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARE:
            yield _set(node, "ops", [_COMPARE[type(op)]()])
        case ast.BoolOp():
            yield _set(node, "op", ast.And() if isinstance(node.op, ast.Or) else ast.Or())
            if len(node.values) > 1:
                yield _set(node, "values", node.values[1:])
        case ast.UnaryOp(op=ast.Not()):
            yield _set(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            yield _set(node, "op", _ARITHMETIC[type(node.op)]())
        case ast.AugAssign() if type(node.op) in _ARITHMETIC:
            yield _set(node, "op", _ARITHMETIC[type(node.op)]())
        case ast.Constant(value=bool()):
            yield _set(node, "value", not node.value)
        case ast.Constant(value=int()):
            yield _set(node, "value", int(node.value) + 1)
        case ast.IfExp():
            yield _set(node, "test", ast.Constant(True))
            yield _set(node, "test", ast.Constant(False))
        case ast.If():
            yield _set(node, "test", ast.Constant(True))
            yield _set(node, "test", ast.Constant(False))
        case ast.Return() if node.value is not None and not isinstance(node.value, ast.Constant):
            yield _set(node, "value", ast.Constant(None))
        case ast.comprehension() if node.ifs:
            yield _set(node, "ifs", [])
        case ast.FunctionDef() | ast.For() | ast.With():
            yield from _dropped(node, node.body)


def _dropped(node: ast.AST, body: list[ast.stmt]) -> Iterator[Change]:
    """Statements that do something, left out one by one."""
    for at, statement in enumerate(body):
        acts = isinstance(statement, ast.AugAssign) or (
            isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
        )
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if acts or isinstance(target, (ast.Attribute, ast.Subscript)):
            change = _set(node, "body", [*body[:at], ast.Pass(), *body[at + 1 :]])
            yield statement.lineno, f"without `{ast.unparse(statement)}`", change[2]


def _set(node: ast.AST, field: str, value: object) -> Change:
    before = ast.unparse(node).partition("\n")[0]

    def change() -> None:
        setattr(node, field, value)

    old = getattr(node, field)
    setattr(node, field, value)
    after = ast.unparse(ast.fix_missing_locations(node)).partition("\n")[0]
    setattr(node, field, old)
    return getattr(node, "lineno", 0), f"`{before}` becomes `{after}`", change
