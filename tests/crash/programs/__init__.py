"""The programs of the crash campaign, and what people do for their runs.

`moves` says what whoever operates the run does when it waits: by the state of a question or the name of an event, the
words that follow `jam` (`RUN` stands for the run's id).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

HERE = Path(__file__).parent
LOAN = HERE.parents[2] / "examples" / "loan_underwriting"
YES = ("answer", "RUN", "yes", "--by", "ann")


@dataclass(frozen=True)
class Program:
    """`same` says what a run that was struck has in common with one that was not: every transition of every frame, the
    transitions of the root alone (others were cancelled at a moment that time decides), or the end (a repeated read
    costs, and the budget ends the loop sooner). `fresh` starts without a database, so that making one is struck too.
    With `worker` a worker does what there is to do, and is what is struck. `travel` is a command for runs that only
    it is struck at, with all that follows: a fork of the run that has ended, which then goes its way; the next version
    of the program for one that waits; the deletion of one that has ended."""

    name: str
    file: str
    input: str | None = None
    moves: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    same: Literal["all", "root", "end"] = "all"
    fresh: bool = False
    folder: Path = HERE
    agent: str | None = None
    worker: bool = False
    travel: Literal["", "fork", "migrate", "prune"] = ""


def _program(name: str, moves: Mapping[str, tuple[str, ...]] | None = None, **more: object) -> Program:
    return Program(name, f"{name}.jam", moves=moves or {}, **more)  # type: ignore[arg-type]


_SAID = ("send", "RUN", "said", '{"text": "hello"}', "--dedupe", "NUMBER")
_APPROVE = ("answer", "RUN", "approve", "--by", "olivia")
_PEOPLE = {"choose": YES, "review": _APPROVE}
_DETACHED = {"choose": (*YES, "--detach"), "review": (*_APPROVE, "--detach")}

PROGRAMS: dict[str, Program] = {
    program.name: program
    for program in (
        _program("keyed", fresh=True),
        _program("unkeyed"),
        _program("confirmed"),
        _program("retried"),
        _program("people", _PEOPLE),
        _program("timers"),
        _program("events", {"said": _SAID}),
        _program("models"),
        _program("budgets", same="end"),
        _program("cancelled", {"asking": ("cancel", "RUN", "--by", "ann")}),
        _program("redacted", {"asking": YES}, input='{"who": {"name": "Ada", "ssn": "123-45-6789"}}'),
        _program("growing", {"asking": YES}),
        _program("facts"),
        _program("emitting"),
        _program("paced"),
        Program("loan", "loan_underwriting.jam", "@application.json", {"officer_review": _APPROVE}, "all", False, LOAN),
        _program("branches", {"asking": YES}),
        _program("race", same="root"),
        _program("late", same="root"),
        _program("items"),
        _program("children", {"asking": YES}, agent="children"),
        _program("rollback"),
        _program("closing"),
        _program("nested", agent="nested"),
        _program("undone", {"asking": ("cancel", "RUN", "--by", "ann")}, agent="undone", same="root"),
        _program("reminded", {"asking": YES}),
        Program("worked", "nested.jam", agent="nested", worker=True),
        Program("workers", "people.jam", None, _DETACHED, worker=True),
        Program("forked", "people.jam", None, _PEOPLE, travel="fork"),
        Program("migrated", "people.jam", None, _PEOPLE, travel="migrate"),
        Program("pruned", "people.jam", None, _PEOPLE, travel="prune"),
    )
}
