"""List and map literals against the type that is expected of them: all problems at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jamjet_dsl.analysis.model import Type
from jamjet_dsl.analysis.types import ANY, STRING, base, join, list_of, show
from jamjet_dsl.diagnostics.model import Label
from jamjet_dsl.syntax import ast

if TYPE_CHECKING:
    from jamjet_dsl.analysis.typecheck_expr import ExprChecker


def infer_list(checker: ExprChecker, node: ast.ListLit, hint: Type | None) -> Type:
    """The type of `[a, b]`: the hint where it is a list, else a list of what all items fit."""
    target = base(hint) if hint is not None else ANY
    if target.kind == "list":
        for item in node.items:
            checker.expect(item, target.args[0])
        return hint if hint is not None else target
    found: Type | None = None
    for item in node.items:
        next_ = checker.infer(item, found)
        joined = next_ if found is None else join(found, next_)
        if joined is None:
            assert found is not None
            return checker.problem(
                "JAM401", item, f"`{show(next_)}` in a list of `{show(found)}`", help="all items need one type"
            )
        found = joined
    return list_of(found or ANY)


def infer_map(checker: ExprChecker, node: ast.MapLit, hint: Type | None) -> Type:
    """The type of `{ a: 1 }`: a record where the hint has fields, else a map."""
    target = base(hint) if hint is not None else ANY
    fields = checker.shapes.fields(target)
    if fields is not None:
        _record(checker, node, target, fields)
        checker.widened[node] = target
        return hint if hint is not None else target
    if target.kind == "map":
        for entry in node.entries:
            checker.expect(entry.key, target.args[0])
            checker.expect(entry.value, target.args[1])
        return hint if hint is not None else target
    keys: Type | None = None
    values: Type | None = None
    for entry in node.entries:
        key = checker.value(entry.key)
        value = checker.infer(entry.value)
        keys = key if keys is None else join(keys, key) or ANY
        values = value if values is None else join(values, value) or ANY
    return Type("map", (keys or STRING, values or ANY))


def _record(checker: ExprChecker, node: ast.MapLit, target: Type, fields: dict[str, Type]) -> None:
    """Checks every field that is given, and that all that must be given are."""
    given: dict[str, ast.MapEntry] = {}
    what = f"`{show(target)}`" if target.kind != "object" else "this"
    for entry in node.entries:
        key = entry.key
        if not isinstance(key, ast.Lit) or key.kind != "string":
            checker.infer(key)
            checker.problem("JAM401", key, f"the fields of {what} are written as names: `{{ name: … }}`")
            checker.infer(entry.value)
            continue
        checker.types[key] = STRING
        name = str(key.value)
        if name not in fields:
            checker.problem(
                "JAM402",
                entry.field or key,
                f"{what} has no field `{name}`",
                help=checker.report.meant(name, fields, f"it has {', '.join(list(fields)[:10])}" if fields else ""),
            )
            checker.infer(entry.value)
        elif name in given:
            first = given[name].key.span
            checker.report.add("JAM102", key.span, f"`{name}` is given twice", labels=(Label(first, "the first one"),))
            checker.infer(entry.value)
        else:
            given[name] = entry
            checker.expect(entry.value, fields[name])
    missing = [n for n, t in fields.items() if n not in given and t.kind not in ("optional", "error")]
    if missing:
        listed = ", ".join(f"`{m}`" for m in missing)
        plural = "fields" if len(missing) > 1 else "field"
        checker.problem("JAM401", node, f"{what} needs the {plural} {listed}", help="give a value, or declare `T?`")
