"""From the JSON form of an expression to closures: every node becomes a function of the Env."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.expr import access, macros
from jamjet_dsl.kernel.expr.compile_operators import OPERATORS
from jamjet_dsl.kernel.expr.functions import COSTS, FUNCTIONS, show
from jamjet_dsl.kernel.expr.literals import LITERALS, literal
from jamjet_dsl.kernel.expr.operators import ORDERS, no_overload
from jamjet_dsl.kernel.scalars import EvalError, UInt, to_key

if TYPE_CHECKING:
    from jamjet_dsl.definition import ExprJson, Fn

Env: TypeAlias = dict[str, Any]
Evaluator: TypeAlias = Callable[[Env], Any]
Scope: TypeAlias = dict[str, str]
"""Names bound by macros and parameters, and the entry of the Env that each lives in."""

MAX_NODES = 10_000
MAX_DEPTH = 200
MAX_STEPS = 1_000_000
"""Items, calls and pieces of text one evaluation may go through."""

STEPS = macros.STEPS
_NO_FNS: Mapping[str, Fn] = {}


def compile_expr(expr: ExprJson, fns: Mapping[str, Fn] = _NO_FNS) -> Evaluator:
    """The function that evaluates `expr`, whose declared functions are in `fns`.

    Raises JamError JAMR501 for an expression that is too large; ValueError for what is no expression at all.
    """
    _measure(expr, fns, {})
    compiler = Compiler(fns)
    try:
        body = compiler.compile(expr, {})
    except (TypeError, LookupError, AttributeError, EvalError, ArithmeticError) as problem:
        raise ValueError(f"not an expression: {expr!r:.80}: {problem}") from None
    except RecursionError:
        raise JamError("JAMR501", "an expression is nested too deep") from None
    if not compiler.metered:
        return body

    def evaluate(env: Env) -> Any:
        own = env.copy()  # bound names and the meter live in here, so that the caller's Env stays as it is
        own[STEPS] = MAX_STEPS
        return body(own)

    return evaluate


def compile_guard(expr: ExprJson, fns: Mapping[str, Fn] = _NO_FNS) -> Callable[[Env], bool]:
    """As `compile_expr`, for a condition: a result that is not true or false is an EvalError."""
    evaluate = compile_expr(expr, fns)
    if expr[0] in _ALWAYS_BOOL:
        return evaluate

    def guard(env: Env) -> bool:
        value = evaluate(env)
        if value is True or value is False:
            return value
        raise no_overload("a condition", value)

    return guard


def _operands(expr: ExprJson) -> Iterator[Any]:
    """The expressions directly inside one."""
    for part in expr[1:]:
        if isinstance(part, list):
            if part and isinstance(part[0], str):
                yield part
            else:
                yield from part
        elif isinstance(part, dict):
            yield from part.values()


def _measure(expr: ExprJson, fns: Mapping[str, Fn], known: dict[str, int]) -> int:
    """The depth of an expression with the functions it calls. Raises JamError JAMR501."""
    nodes = deepest = 0
    todo: list[tuple[Any, int]] = [(expr, 1)]
    while todo:
        node, depth = todo.pop()
        nodes += 1
        if not isinstance(node, list) or not node or not isinstance(node[0], str):
            raise ValueError(f"not an expression: {node!r:.80}")
        if node[0] == "fn" and node[1] in fns:
            name = node[1]
            if name not in known:
                known[name] = MAX_DEPTH  # a function that calls itself is as deep as it gets
                known[name] = _measure(fns[name].body, fns, known)
            deepest = max(deepest, depth + known[name])
        deepest = max(deepest, depth)
        if nodes > MAX_NODES or deepest > MAX_DEPTH:
            what = f"{MAX_NODES:,} parts" if nodes > MAX_NODES else f"{MAX_DEPTH} levels"
            raise JamError("JAMR501", f"an expression has more than {what}")
        if node[0] == "qualified":
            continue
        # A chain of one associative operator is evaluated by a loop, however long it is.
        flat = node[0] in ("&&", "||")
        for part in _operands(node):
            same = flat and part[0] == node[0]
            todo.append((part, depth if same else depth + 1))
    return deepest


class Compiler:
    """Compiles one expression. `metered` is set when it binds names or counts steps."""

    def __init__(self, fns: Mapping[str, Fn]) -> None:
        self.fns = fns
        self.metered = False
        self.slots = 0
        self.bodies: dict[str, tuple[tuple[str, ...], Evaluator]] = {}

    def slot(self) -> str:
        """A fresh entry of the Env, which no variable can be called."""
        self.metered = True
        self.slots += 1
        return f"\0{self.slots}"

    def compile(self, expr: ExprJson, scope: Scope) -> Evaluator:
        handler = _HANDLERS.get(expr[0])
        if handler is None:
            raise ValueError(f"unknown operator {expr[0]!r}")
        return handler(self, expr, scope)

    def all(self, exprs: list[ExprJson], scope: Scope) -> list[Evaluator]:
        made = []
        for expr in exprs:  # without a frame for `compile`, since Python's stack bounds how deep lists may nest
            made.append(_HANDLERS[expr[0]](self, expr, scope))
        return made

    def function(self, name: str) -> tuple[tuple[str, ...], Evaluator]:
        """The parameters' entries and the body of a declared function, compiled once."""
        found = self.bodies.get(name)
        if found is None:
            fn = self.fns[name]
            slots = {param.name: self.slot() for param in fn.params}
            found = self.bodies[name] = (tuple(slots.values()), self.compile(fn.body, slots))
        return found


# ---- literals


def _literal(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    value = literal(expr)
    return lambda env: value


def _list(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    items = c.all(expr[1:], scope)
    if not items:
        return lambda env: []
    return lambda env: [item(env) for item in items]


def _map(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    pairs = [(c.compile(k, scope), c.compile(v, scope)) for k, v in expr[1:]]

    def make(env: Env) -> dict[object, Any]:
        made: dict[object, Any] = {}
        for key_of, value_of in pairs:
            key = key_of(env)
            if type(key) not in (str, int, UInt, bool):
                raise no_overload("the key of a map", key)
            key = to_key(key)
            if key in made:
                raise EvalError("bad_argument", "a map is given one key twice")
            made[key] = value_of(env)
        return made

    return make


def _record(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    fields = [(name, c.compile(e, scope)) for name, e in expr[2].items()]
    return lambda env: {name: value(env) for name, value in fields}


# ---- names and fields


def _var(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    return access.var(expr[1])


def _local(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    return operator.itemgetter(scope[expr[1]])


def _qualified(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    return access.qualified(tuple(expr[1]), expr[2] if len(expr) > 2 else "")


def _select(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    fields: list[str] = []
    base = expr
    while base[0] == "select":
        fields.append(base[2])
        base = base[1]
    fields.reverse()
    entry = base[1] if base[0] == "var" else scope[base[1]] if base[0] == "local" else None
    if entry is not None:
        return access.chain(entry, tuple(fields))
    return access.select(c.compile(base, scope), tuple(fields))


def _index(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    base, at = c.compile(expr[1], scope), c.compile(expr[2], scope)
    return lambda env: access.item(base(env), at(env))


def _has(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    inner = expr[1]
    value = c.compile(inner, scope)
    if inner[0] not in ("select", "index", "var", "qualified"):
        return lambda env: value(env) is not None

    def has(env: Env) -> bool:
        try:
            return value(env) is not None
        except EvalError as problem:
            if problem.reason in access.ABSENT:
                return False
            raise

    return has


def _present(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    inner = expr[1]
    if inner[0] == "qualified":
        return access.present(access.qualified(tuple(inner[1][:-1]), inner[2] if len(inner) > 2 else ""), inner[1][-1])
    if inner[0] == "select":
        return access.present(c.compile(inner[1], scope), inner[2])
    raise ValueError("`has` takes a field")


# ---- macros, calls, history


def _macro(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    items = c.compile(expr[1], scope)
    slot = c.slot()
    inner = scope | {expr[2]: slot}
    return macros.MACROS[expr[0]](items, slot, *(c.compile(e, inner) for e in expr[3:]))


def _call(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    name = expr[1]
    args = c.all(expr[2:], scope)
    function = FUNCTIONS.get(name)
    if function is None:

        def unknown(env: Env) -> Any:
            raise EvalError("unknown_name", f"there is no function `{name}`")

        return unknown
    if name == "matches" and expr[3:] and expr[3][0] == "string":
        return _matches_constant(args[0], expr[3][1])
    cost = COSTS.get(name)
    if cost is not None:
        c.metered = True

        def metered(env: Env) -> Any:
            values = [arg(env) for arg in args]
            macros.charge(env, cost(values))
            return _apply(name, function, values)

        return metered

    def apply(env: Env) -> Any:
        values = [arg(env) for arg in args]
        if values:
            macros.charge_text(env, values[0])
        return _apply(name, function, values)

    return apply


def _apply(name: str, function: Callable[..., Any], values: Any) -> Any:
    try:
        return function(*values)
    except (TypeError, AttributeError):
        raise no_overload(f"`{name}`", *values) from None


def _matches_constant(text: Evaluator, pattern: str) -> Evaluator:
    """A pattern that is written in the program is compiled once."""
    search: list[Callable[[str], object]] = []

    def matches(env: Env) -> bool:
        value = text(env)
        if type(value) is not str:
            raise no_overload("`matches`", value)
        macros.charge_text(env, value)
        if not search:
            from jamjet_dsl.kernel.expr.functions import regex

            search.append(regex(pattern).search)
        return search[0](value) is not None

    return matches


def _fn(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    name = expr[1]
    if name not in c.fns:
        raise ValueError(f"there is no fn {name!r}")
    args = c.all(expr[2:], scope)
    slots, body = c.function(name)
    c.metered = True

    def call(env: Env) -> Any:
        macros.charge(env, 1)
        values = [arg(env) for arg in args]
        env.update(zip(slots, values, strict=True))
        return body(env)

    return call


def _hook(env: Env, name: str) -> Callable[..., Any]:
    try:
        return env[name]  # type: ignore[no-any-return]
    except KeyError:
        raise EvalError("unset", "this expression has no run to look at") from None


def _calls(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    tool = expr[1]
    return lambda env: _hook(env, "$calls")(tool)


def _history(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    kind, tool = expr[1], expr[2]
    args = [(name, c.compile(e, scope)) for name, e in expr[3].items()]
    return lambda env: _hook(env, "$history")(kind, tool, {name: value(env) for name, value in args})


def _provenance(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    op, paths = expr[0], access.paths(expr[1])
    combine = all if op == "attested" else any
    if not paths:
        return lambda env: False

    def provenance(env: Env) -> bool:
        answers = [_hook(env, f"${op}")(path) for path in paths]
        if None in answers:
            raise EvalError("unset", f"whether it is {op} is not known")
        return combine(answers)

    return provenance


def _text(c: Compiler, expr: ExprJson, scope: Scope) -> Evaluator:
    parts = [part if isinstance(part, str) else c.compile(part[1], scope) for part in expr[1:]]
    return lambda env: "".join(part if isinstance(part, str) else show(part(env)) for part in parts)


_HANDLERS: dict[str, Callable[[Compiler, Any, Scope], Evaluator]] = {
    **dict.fromkeys(LITERALS, _literal),
    **OPERATORS,
    **dict.fromkeys(macros.MACROS, _macro),
    **dict.fromkeys(("attested", "untrusted"), _provenance),
    "list": _list,
    "map": _map,
    "record": _record,
    "var": _var,
    "local": _local,
    "qualified": _qualified,
    "select": _select,
    "index": _index,
    "has": _has,
    "present": _present,
    "call": _call,
    "fn": _fn,
    "calls": _calls,
    "history": _history,
    "text": _text,
}

_ALWAYS_BOOL = frozenset(("&&", "||", "!", "==", "!=", "in", "has", "present", "all", "exists", "exists_one", *ORDERS))
"""Operators whose result is true or false whenever there is one."""
