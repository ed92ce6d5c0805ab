"""What can be changed in a module so that a test should notice: one small change at a time, over its syntax tree."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

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
_NO_BEHAVIOUR = _MESSAGES | {"strict"}
"""Arguments that are left alone: `zip(strict=True)` asserts what holds by construction."""
_NO_CODE = {"annotation", "returns", "decorator_list", "type_comment", "args"}
"""Fields of a function that run before it is called, if they run at all."""
_BLOCKS = ("body", "orelse", "finalbody")

Change = tuple[ast.AST, str, Callable[[], None]]
"""A node, what becomes of it in words, and what to call for that."""


@dataclass(frozen=True)
class Mutant:
    """One change: to lines `first` to `last` of a module, in a function."""

    module: str
    path: Path
    tree: ast.Module
    first: int
    last: int
    key: str
    """Module, function and change, but no line: it outlives what changes elsewhere in the file."""
    change: Callable[[], None]

    def code(self) -> CodeType:
        """The module's code with this change. The tree stays changed: call it in a process of its own."""
        self.change()
        return compile(ast.fix_missing_locations(self.tree), str(self.path), "exec", dont_inherit=True)


def mutants(path: Path) -> list[Mutant]:
    """Every change of a module, in the order of its text. Annotations, docstrings and messages are left alone."""
    tree, seen, found = ast.parse(path.read_text("utf-8")), Counter[str](), []
    for function, name in _functions(tree, ""):
        for statement in _statements(function):
            for node in _own(statement):
                for changed, what, change in _of(node):
                    key = f"{path.stem}.{name}: {what}"
                    seen[key] += 1
                    key += f" ({seen[key]})" if seen[key] > 1 else ""
                    lines = _lines(changed if isinstance(changed, ast.stmt) else statement)
                    found.append(Mutant(f"jamjet_dsl.kernel.{path.stem}", path, tree, *lines, key, change))
    return found


def _functions(tree: ast.AST, within: str) -> Iterator[tuple[ast.FunctionDef, str]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield node, f"{within}{node.name}"
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{within}{node.name}.")


def _statements(block: ast.AST) -> Iterator[ast.stmt]:
    """A statement and all that are in it, outermost first. What a `raise` or `assert` says is for people."""
    if isinstance(block, (ast.Raise, ast.Assert)) or _only_words(block):
        return
    if isinstance(block, ast.stmt):
        yield block
    for child in ast.iter_child_nodes(block):
        if isinstance(child, (ast.stmt, ast.match_case, ast.ExceptHandler)):
            yield from _statements(child)


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """A statement's own expressions: all that runs in it, but for the statements it holds."""
    yield node
    for name, field in ast.iter_fields(node):
        if name in _NO_CODE and isinstance(node, (ast.FunctionDef, ast.AnnAssign)):
            continue
        for child in field if isinstance(field, list) else [field]:
            if isinstance(child, (ast.match_case, ast.ExceptHandler)) or (
                isinstance(child, ast.AST) and not isinstance(child, ast.stmt) and not _only_words(child)
            ):
                yield from _own(child)


def _lines(node: ast.stmt) -> tuple[int, int]:
    """A statement's lines; of one that holds others, those before them."""
    held = [child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]
    last = node.end_lineno or node.lineno
    return node.lineno, max(node.lineno, min((child.lineno - 1 for child in held), default=last))


def _only_words(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id in _MESSAGES
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.keyword) and node.arg in _NO_BEHAVIOUR)


def _looks_up(node: ast.IfExp | ast.If) -> bool:
    """Whether this only spares a look into a table, or making once more what the table has.

    `table.get(name) if name else None`, also with `name is not None`: no table has an entry without a name.
    `if known is None: known = table[key] = …`: what is made again is equal, since the kernel is pure."""
    match node:
        case ast.IfExp(
            body=ast.Call(func=ast.Attribute(attr="get"), args=[key], keywords=[]), orelse=ast.Constant(value=None)
        ):
            return ast.unparse(node.test) in (ast.unparse(key), f"{ast.unparse(key)} is not None")
        case ast.If(
            test=ast.Compare(left=ast.Name(id=known), ops=[ast.Is()], comparators=[ast.Constant(value=None)]),
            body=[*_, ast.Assign(targets=[ast.Name(id=made), ast.Subscript()])],
            orelse=[],
        ):
            return known == made
    return False


def _of(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARE:
            yield _set(node, "ops", [_COMPARE[type(op)]()])
        case ast.BoolOp():
            yield _set(node, "op", ast.And() if isinstance(node.op, ast.Or) else ast.Or())
            for at in range(len(node.values)):
                yield _set(node, "values", node.values[:at] + node.values[at + 1 :])
        case ast.UnaryOp(op=ast.Not()):
            yield _set(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
        case ast.BinOp() | ast.AugAssign() if type(node.op) in _ARITHMETIC:
            yield _set(node, "op", _ARITHMETIC[type(node.op)]())
        case ast.Constant(value=bool()):
            yield _set(node, "value", not node.value)
        case ast.Constant(value=int(number)):
            yield _set(node, "value", number + 1)
        case ast.IfExp() | ast.If():
            if not _looks_up(node):
                yield _set(node, "test", ast.Constant(True))
            yield _set(node, "test", ast.Constant(False))
        case ast.While():
            yield _set(node, "test", ast.Constant(False))
        case ast.match_case(guard=guard) if guard is not None:
            yield _set(node, "guard", None)
            yield _set(node, "guard", ast.Constant(False))
        case ast.Return() if node.value is not None and not isinstance(node.value, ast.Constant):
            yield _set(node, "value", ast.Constant(None))
        case ast.comprehension() if node.ifs:
            yield _set(node, "ifs", [])
    for block in _BLOCKS:
        if isinstance(getattr(node, block, None), list):
            yield from _dropped(node, block)


def _dropped(node: ast.AST, block: str) -> Iterator[Change]:
    """Statements that do something, left out one by one; ways out of a loop, taken for each other."""
    body: list[ast.stmt] = getattr(node, block)
    for at, statement in enumerate(body):
        acts = isinstance(statement, ast.AugAssign) or (
            isinstance(statement, ast.Expr) and isinstance(statement.value, (ast.Call, ast.YieldFrom, ast.Yield))
        )
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if acts or isinstance(target, (ast.Attribute, ast.Subscript)):
            instead: ast.stmt = ast.Pass()
            what = f"without `{ast.unparse(statement)}`"
        elif isinstance(statement, (ast.Continue, ast.Break)):
            instead = ast.Break() if isinstance(statement, ast.Continue) else ast.Continue()
            what = f"`{ast.unparse(statement)}` becomes `{ast.unparse(instead)}`"
        else:
            continue
        ast.copy_location(instead, statement)
        changed = [*body[:at], instead, *body[at + 1 :]]
        yield statement, what, lambda changed=changed: setattr(node, block, changed)  # type: ignore[misc]


def _set(node: ast.AST, field: str, value: object) -> Change:
    def first_line() -> str:
        return ast.unparse(ast.fix_missing_locations(node)).partition("\n")[0]

    old, before = getattr(node, field), first_line()
    setattr(node, field, value)
    after = first_line()
    setattr(node, field, old)
    return node, f"`{before.strip()}` becomes `{after.strip()}`", lambda: setattr(node, field, value)
