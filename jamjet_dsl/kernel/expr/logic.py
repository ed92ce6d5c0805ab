"""`&&` and `||` with CEL's rule for errors: the side that decides wins, whichever comes first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jamjet_dsl.kernel.expr.operators import no_overload
from jamjet_dsl.kernel.scalars import EvalError


def both(decisive: bool, left: Callable[[Any], Any], right: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Two terms; `decisive` is the value that settles it: True for `||`, False for `&&`."""
    other = not decisive

    def evaluate(env: Any) -> Any:
        try:
            a = left(env)
        except EvalError:
            if right(env) is decisive:
                return decisive
            raise
        if a is decisive:
            return decisive
        b = right(env)
        if b is decisive:
            return decisive
        if a is other and b is other:
            return other
        raise no_overload("`||`" if decisive else "`&&`", a, b)

    return evaluate


def chain(decisive: bool, terms: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Any number of terms, by a loop, so that a long chain is not a deep one."""
    other = not decisive

    def evaluate(env: Any) -> Any:
        problem: EvalError | None = None
        for term in terms:
            try:
                value = term(env)
            except EvalError as error:
                problem = problem or error
                continue
            if value is decisive:
                return decisive
            if value is not other:
                problem = problem or no_overload("`||`" if decisive else "`&&`", value)
        if problem is not None:
            raise problem
        return other

    return evaluate
