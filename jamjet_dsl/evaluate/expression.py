"""`jam eval`: one expression, evaluated with the data it is given, in the dynamic mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jamjet_dsl.analysis.lower_expr import Dynamic, lower_expr
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.convert import read_any
from jamjet_dsl.kernel.expr import EvalError, compile_expr
from jamjet_dsl.kernel.scalars import Value
from jamjet_dsl.source import SourceFile


def eval_text(text: str, data: Mapping[str, Any] | None = None, dynamic: Dynamic | None = None) -> Value:
    """The value of an expression whose variables are the entries of `data`: parsed JSON, in which numbers with a
    fraction are floats, as in CEL.

    Raises JamError: JAMR301 for data that is no JSON value, JAMR004 for a text that is no expression (every problem
    is in `details`), JAMR501 for one that is too large, JAMR502 for an evaluation beyond its limits, JAMR503 where
    there is no value.
    """
    from jamjet_dsl.syntax.parser import parse_expression

    expr, found = parse_expression(SourceFile("<expression>", text))
    errors = [d for d in found if d.severity == "error"]
    if errors:
        details = tuple(f"{d.span.line}:{d.span.column}: {d.code} {d.message}" for d in errors)
        help = next((d.help for d in errors if d.help), "write an expression such as `size(xs) > 2`")
        raise JamError("JAMR004", "the text is not an expression", help, details)
    try:
        lowered = lower_expr(expr, None, dynamic)
        evaluate = compile_expr(lowered)
    except ValueError as problem:
        raise JamError("JAMR004", str(problem), "see `specs/20-expressions.md`") from None
    except RecursionError:
        raise JamError("JAMR501", "the expression is nested too deep") from None
    problems: list[str] = []
    env = {name: read_any(value, name, problems) for name, value in (data or {}).items()}
    if problems:
        raise JamError("JAMR301", "the data cannot be used", "pass JSON values", tuple(problems))
    try:
        return evaluate(env)
    except EvalError as problem:
        code = "JAMR502" if problem.reason == "limit" else "JAMR503"
        raise JamError(code, problem.message, _HELP.get(problem.reason, "")) from None


_HELP = {
    "unknown_name": "pass it as data, or look for a misspelling",
    "no_such_field": "ask `has(…)` first",
    "no_such_key": "ask `key in map` first",
    "index": "compare with `size(…)` first",
    "divide_by_zero": "compare the divisor with 0 first",
    "currency": "compute with one currency",
    "no_overload": "convert one of the values: `int(…)`, `decimal(…)`, `string(…)`",
}
