"""Runs of programs written as text: short ways to begin one, and to do what people and operators do to it."""

from __future__ import annotations

from functools import cache
from typing import Any

from jamjet_dsl.compiler import compile_text
from jamjet_dsl.definition import Definition
from jamjet_dsl.kernel import inputs
from tests.kernel.driver import Driver


@cache
def compiled(text: str, agent: str = "a") -> Definition:
    return compile_text(f"language 1\n{text}", agent=agent).definition


def begun(text: str, /, **given: Any) -> Driver:
    """A run of agent `a` whose first effects are in flight: the test says what comes of each."""
    return Driver(compiled(text)).start(given).begin()


def went(text: str, script: dict[str, Any] | None = None, /, **given: Any) -> Driver:
    """A run of agent `a` that has gone as far as it goes, with tools and models that do what the script says."""
    return Driver(compiled(text), script or {}).start(given).run()


def answer(run: Driver, option: str, form: dict[str, Any] | None = None, by: str = "ann", *, state: str = "") -> Driver:
    """Somebody answers the open question, or that of a state."""
    question = next(q.id for q in run.state.questions.values() if state in ("", q.state))
    run.append(*inputs.answered(run.program, run.state, question, option, form, by, None))
    return run.begin()


def send(run: Driver, name: str, payload: dict[str, Any] | None = None, id: str = "e1") -> Driver:
    """An event arrives from outside."""
    run.append(*inputs.received(run.program, run.state, name, payload or {}, id))
    return run.begin()


def cancel(run: Driver, now: bool = False) -> Driver:
    """An operator cancels the run."""
    run.append(*inputs.cancelling(run.program, run.state, "op", "", now))
    return run.begin()


def settle(run: Driver, happened: bool, result: Any = None, cmd: str | None = None) -> Driver:
    """An operator tells what became of a call in doubt."""
    run.append(*inputs.settle(run.program, run.state, happened, result, "op", "", cmd))
    return run.begin()


def retry(run: Driver) -> Driver:
    """An operator has a parked run try again."""
    run.append(*inputs.retry(run.program, run.state, "op", ""))
    return run.begin()


def ends(run: Driver) -> dict[str, str]:
    """How each frame has ended, by its path."""
    return {body["frame"]: body["how"] for body in run.events("closed")}


def only(run: Driver, kind: str) -> dict[str, Any]:
    """The one event of a kind."""
    (body,) = run.events(kind)
    return body
