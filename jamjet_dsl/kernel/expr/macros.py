"""The macros over lists and maps, and the meter that bounds them.

A macro charges for all items of its list when it starts, so that the loop itself counts nothing. A map is
gone through by its keys, sorted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jamjet_dsl.kernel.expr.operators import no_overload
from jamjet_dsl.kernel.scalars import EvalError, map_keys

STEPS = "\0steps"
"""The entry of the evaluation's own Env that holds how many steps are left."""

LONG = 1000
"""Texts up to this many characters are free."""

_Evaluator = Callable[[dict[str, Any]], Any]


def charge(env: dict[str, Any], steps: int) -> None:
    """Takes steps from the evaluation's meter. Raises EvalError limit when they are used up."""
    left = env[STEPS] - steps
    if left < 0:
        raise EvalError("limit", "the evaluation needs more steps than the limit")
    env[STEPS] = left


def charge_text(env: dict[str, Any], text: Any) -> None:
    """Takes a step for every 64 characters of a long text. Nothing outside of macros and functions, where what is
    written once is done once."""
    if type(text) is str and len(text) > LONG and STEPS in env:
        charge(env, len(text) // 64)


def _items(found: Any, env: dict[str, Any]) -> list[Any]:
    """What a macro goes through. Empty lists cost nothing; every other one costs its length."""
    if type(found) is not list:
        if type(found) is not dict:
            raise no_overload("a macro", found)
        found = map_keys(found)
    left = env[STEPS] - len(found)
    if left < 0:
        raise EvalError("limit", "the evaluation needs more steps than the limit")
    env[STEPS] = left
    return found  # type: ignore[no-any-return]


def _quantifier(decisive: bool) -> Callable[[_Evaluator, str, _Evaluator], _Evaluator]:
    """`exists` (settled by a true) and `all` (settled by a false). An error counts only if nothing settles it."""
    other = not decisive

    def make(items_of: _Evaluator, slot: str, test: _Evaluator) -> _Evaluator:
        def evaluate(env: dict[str, Any]) -> Any:
            problem: EvalError | None = None
            for item in _items(items_of(env), env):
                env[slot] = item
                try:
                    value = test(env)
                except EvalError as error:
                    problem = problem or error
                    continue
                if value is decisive:
                    return decisive
                if value is not other:
                    problem = problem or no_overload("a condition", value)
            if problem is not None:
                raise problem
            return other

        return evaluate

    return make


def _true(value: Any) -> Any:
    if value is True or value is False:
        return value
    raise no_overload("a condition", value)


def _exists_one(items_of: _Evaluator, slot: str, test: _Evaluator) -> _Evaluator:
    def evaluate(env: dict[str, Any]) -> bool:
        count = 0
        for item in _items(items_of(env), env):
            env[slot] = item
            count += _true(test(env))
        return count == 1

    return evaluate


def _filter(items_of: _Evaluator, slot: str, test: _Evaluator) -> _Evaluator:
    def evaluate(env: dict[str, Any]) -> list[Any]:
        kept = []
        for item in _items(items_of(env), env):
            env[slot] = item
            if _true(test(env)):
                kept.append(item)
        return kept

    return evaluate


def _map(items_of: _Evaluator, slot: str, value: _Evaluator) -> _Evaluator:
    def evaluate(env: dict[str, Any]) -> list[Any]:
        made = []
        for item in _items(items_of(env), env):
            env[slot] = item
            made.append(value(env))
        return made

    return evaluate


def _map_if(items_of: _Evaluator, slot: str, test: _Evaluator, value: _Evaluator) -> _Evaluator:
    def evaluate(env: dict[str, Any]) -> list[Any]:
        made = []
        for item in _items(items_of(env), env):
            env[slot] = item
            if _true(test(env)):
                made.append(value(env))
        return made

    return evaluate


MACROS: dict[str, Callable[..., _Evaluator]] = {
    "all": _quantifier(False),
    "exists": _quantifier(True),
    "exists_one": _exists_one,
    "filter": _filter,
    "map_": _map,
    "map_if": _map_if,
}
