"""Operators to closures: logic, comparison, arithmetic.

The shapes that guards are made of (a field of a variable against a constant, a name bound by a macro against a
constant) become one function instead of three.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from jamjet_dsl.kernel.expr import logic, macros
from jamjet_dsl.kernel.expr.literals import LITERALS, literal
from jamjet_dsl.kernel.expr.macros import STEPS
from jamjet_dsl.kernel.expr.operators import (
    ARITHMETIC,
    ORDERS,
    arithmetic,
    contains_value,
    equals,
    equals_within,
    negated,
    no_overload,
    ordered,
)
from jamjet_dsl.kernel.scalars import INT_MAX, INT_MIN, EvalError, UInt, Value

if TYPE_CHECKING:
    from jamjet_dsl.definition import ExprJson
    from jamjet_dsl.kernel.expr.compile import Compiler, Env, Evaluator, Scope


def _not(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    operand = c.compile(expr[1], scope)

    def negation(env: Env) -> bool:
        value = operand(env)
        if value is True:
            return False
        if value is False:
            return True
        raise no_overload("`!`", value)

    return negation


def _negate(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    operand = c.compile(expr[1], scope)
    return lambda env: negated(operand(env))


def _logic(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    """`&&` and `||`; a chain of one of them is one node with many terms."""
    op, terms, todo = expr[0], [], [expr]
    while todo:
        node = todo.pop()
        if node[0] == op:
            todo += (node[2], node[1])
        else:
            terms.append(c.compile(node, scope))
    return logic.both(op == "||", terms[0], terms[1]) if len(terms) == 2 else logic.chain(op == "||", terms)


def _cond(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    test, then, other = c.all(expr[1:], scope)

    def choose(env: Env) -> Any:
        value = test(env)
        if value is True:
            return then(env)
        if value is False:
            return other(env)
        raise no_overload("`?:`", value)

    return choose


def _equality(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    wanted = expr[0] == "=="
    left, right = expr[1], expr[2]
    if left[0] in LITERALS and right[0] not in LITERALS:
        left, right = right, left
    if right[0] in ("string", "enum", "bool", "null"):
        constant = literal(right)
        if right[0] in ("bool", "null"):
            value = c.compile(left, scope)
            return (lambda env: value(env) is constant) if wanted else (lambda env: value(env) is not constant)
        if left[0] == "local":
            entry = scope[left[1]]
            return (lambda env: env[entry] == constant) if wanted else (lambda env: env[entry] != constant)
        value = c.compile(left, scope)
        return (lambda env: value(env) == constant) if wanted else (lambda env: value(env) != constant)
    a, b = c.compile(expr[1], scope), c.compile(expr[2], scope)

    def compare(env: Env) -> bool:
        x, y = a(env), b(env)
        if type(x) in (list, dict) and STEPS in env:
            same, env[STEPS] = equals_within(x, y, env[STEPS])
            return same is wanted
        return equals(x, y) is wanted

    return compare


def _order(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    op = expr[0]
    compare = ORDERS[op]
    a = c.compile(expr[1], scope)
    if expr[2][0] in ("int", "float", "money", "decimal"):
        constant = literal(expr[2])
        kind = type(constant)
        if expr[1][0] == "select" and expr[1][1][0] == "var":
            (_, (_, name), field) = expr[1]

            def field_against(env: Env) -> bool:
                try:
                    value = env[name][field]
                except (KeyError, TypeError):
                    value = a(env)  # finds out what was missing
                if type(value) is kind:
                    return compare(value, constant)
                return ordered(op, value, constant)

            return field_against

        def against(env: Env) -> bool:
            value = a(env)
            if type(value) is kind:
                return compare(value, constant)
            return ordered(op, value, constant)

        return against
    b = c.compile(expr[2], scope)
    compare = ORDERS[op]

    def between(env: Env) -> bool:
        x, y = a(env), b(env)
        return compare(x, y) if type(x) is int and type(y) is int else ordered(op, x, y)

    return between


def _in(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    item = c.compile(expr[1], scope)
    if expr[2][0] == "list" and all(e[0] in ("string", "enum") for e in expr[2][1:]):
        constants = frozenset(literal(e) for e in expr[2][1:])

        def among(env: Env) -> bool:
            value = item(env)
            return type(value) is str and value in constants

        return among
    items = c.compile(expr[2], scope)

    def contained(env: Env) -> bool:
        value, among = item(env), items(env)
        if type(among) is list and STEPS in env:
            macros.charge(env, len(among))
        return contains_value(value, among)

    return contained


def _arithmetic(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    op = expr[0]
    a, b = c.compile(expr[1], scope), c.compile(expr[2], scope)
    if op in ("+", "-", "*"):
        of_ints = {"+": operator.add, "-": operator.sub, "*": operator.mul}[op]
        table = ARITHMETIC[op]

        def calculate(env: Env) -> Any:
            x, y = a(env), b(env)
            if type(x) is int and type(y) is int:
                whole = of_ints(x, y)
                if INT_MIN <= whole <= INT_MAX:
                    return whole
                raise EvalError("overflow", "the result does not fit into 64 bits")
            operation = table.get((type(x), type(y)))
            if operation is None:
                raise no_overload(f"`{op}`", x, y)
            result: Any = operation(x, y)
            if type(result) in (str, list, bytes) and len(result) > macros.LONG and STEPS in env:
                macros.charge(env, len(result) // 64)  # or a macro could fill the memory with long texts
            return result

        return calculate
    return lambda env: arithmetic(op, a(env), b(env))


def _widen(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    value = c.compile(expr[2], scope)
    make: Callable[[Any], Value] = Decimal if expr[1] == "decimal" else float

    def widen(found: Any) -> Any:
        if type(found) is int or type(found) is UInt:
            return make(found)
        return [widen(item) for item in found] if type(found) is list else found

    return lambda env: widen(value(env))


OPERATORS: dict[str, Callable[[Compiler, Any, Scope], Evaluator]] = {
    **dict.fromkeys(("&&", "||"), _logic),
    **dict.fromkeys(("==", "!="), _equality),
    **dict.fromkeys(ORDERS, _order),
    **dict.fromkeys(ARITHMETIC, _arithmetic),
    "!": _not,
    "neg": _negate,
    "?:": _cond,
    "in": _in,
    "widen": _widen,
}
"""What compiles each operator."""
