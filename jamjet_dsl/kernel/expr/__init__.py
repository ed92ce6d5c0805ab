"""Expressions: compiled once to Python closures, evaluated many times, always within bounds.

    evaluate = compile_expr(["+", ["var", "x"], ["int", 1]])
    evaluate({"x": 2})                                     # 3
    guard = compile_guard(expr, definition.fns)            # the same, and refuses a result that is no bool

An `Env` is a plain dict. It is never changed. Its entries:

    NAME            the value of a variable, input or bound name, and of the roots args, run, user, principal,
                    spent, budget, undo, result, facts; an unassigned variable has no entry
    "now"           a Timestamp
    "$calls"        (tool) -> int                         for ["calls", TOOL]
    "$history"      (kind, tool, {arg: value}) -> int     for ["history", KIND, TOOL, {ARG: E}]
    "$attested"     (path) -> bool | None                 for ["attested", E]; None is unknown, an EvalError
    "$untrusted"    (path) -> bool | None                 for ["untrusted", E]

A path is a tuple whose first item is a variable and whose others are field names or constant indices. An `E`
that is more than one path is attested if all its paths are, and untrusted if any is.

An expression that has no value raises `EvalError` (see `kernel.scalars`), reason `limit` where it would have
taken more than `MAX_STEPS` items of lists, calls of `fn` and pieces of text. `&&` and `||` follow CEL: a side
that decides wins over an error on the other side. `compile_expr` raises JamError JAMR501 for an expression of
more than `MAX_NODES` nodes or `MAX_DEPTH` levels, calls of `fn` included in the depth.

Operators beyond those listed in `definition.ExprJson`, for the dynamic mode (`jam eval`, conformance):

    ["type", NAME]                      a type as a value
    ["qualified", [A, B, ...], CONTAINER]   a dotted name: the longest prefix that the Env has, then fields
    ["present", E]                      `has` of CEL: the field is there, even if null
"""

from __future__ import annotations

from jamjet_dsl.kernel.expr.compile import (
    MAX_DEPTH,
    MAX_NODES,
    MAX_STEPS,
    Env,
    Evaluator,
    compile_expr,
    compile_guard,
)
from jamjet_dsl.kernel.expr.functions import FUNCTIONS, show
from jamjet_dsl.kernel.expr.operators import equals, type_name
from jamjet_dsl.kernel.scalars import EvalError

__all__ = [
    "FUNCTIONS",
    "MAX_DEPTH",
    "MAX_NODES",
    "MAX_STEPS",
    "Env",
    "EvalError",
    "Evaluator",
    "compile_expr",
    "compile_guard",
    "equals",
    "show",
    "type_name",
]
