"""Where a run stands, for people and programs: plain data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from jamjet_dsl.engine.owner import durability_of
from jamjet_dsl.engine.veil import Veil
from jamjet_dsl.kernel.model import Mode, RunState
from jamjet_dsl.kernel.program import Program
from jamjet_dsl.kernel.values import from_journal, to_journal, to_public
from jamjet_dsl.ports import RunSummary


@dataclass(frozen=True, slots=True)
class RunView:
    """One run. Values are plain JSON (money as `"1.50 USD"`), times milliseconds since 1970 UTC.

    `waiting_for` lists questions, events, timers, or the operator (with the reason and the commands that continue).
    """

    run_id: str
    agent: str
    definition: str
    status: str
    state: str
    input: dict[str, Any]
    vars: dict[str, Any]
    output: dict[str, Any] | None
    spent: dict[str, Any]
    budget: dict[str, Any]
    waiting_for: tuple[dict[str, Any], ...]
    wake_at_ms: int | None
    created_ms: int
    updated_ms: int
    last_seq: int
    owner: str
    origin: dict[str, Any] | None = None
    """Of a fork: the `run` and `seq` that it goes on after, and whether it is `live`."""
    frames: tuple[dict[str, Any], ...] = ()
    """What is at work inside the state: branches, items, child agents, a rollback. Each with `path`, `kind`, `state`,
    `phase` and `since_ms`."""
    doubts: tuple[dict[str, Any], ...] = ()
    """The calls that may or may not have happened: what a person has to look up, and can settle. Each with `call` (its
    id), `tool`, `args`, `key` and `since_ms`, the first one first."""
    failure: dict[str, Any] | None = None
    """Of a run that failed, as `jam` shows it: what went wrong last (`error`, `message`, `state`, `call`, `seq`)."""
    policy: Mode = "enforce"
    """`shadow`: what the policy decides is journaled and not enforced."""
    durability: str | None = None
    """What a commit of the process that drives it is worth: `full`, `normal` or `none`; None while nobody does."""

    def as_json(self) -> dict[str, Any]:
        """All fields, for `--format json`."""
        return asdict(self)


def view_of(summary: RunSummary, program: Program, state: RunState, veil: Veil | None) -> RunView:
    """The view of a run from its summary and its folded state. Input and variables are shown as the journal has
    them, without what is secret or redacted; of the outputs, the run's result, only what is secret is hidden."""

    def shown(values: dict[str, Any]) -> dict[str, Any]:
        tree = {name: to_journal(value) for name, value in values.items()}
        hidden: dict[str, Any] = tree if veil is None else veil.hide_value(tree)
        return {name: _plain(item, veil) for name, item in hidden.items()}

    budget = program.agent.budget
    return RunView(
        summary.run_id,
        summary.agent,
        summary.definition,
        summary.status,
        summary.state,
        shown(state.input),
        shown(state.vars),
        None if state.output is None else _outputs(state.output, veil),
        summary.spent,
        {} if budget is None else budget.limits.model_dump(exclude_none=True),
        tuple(_plain(wait, veil) for wait in summary.waiting_for) if veil is not None else summary.waiting_for,
        summary.wake_at_ms,
        summary.created_ms,
        summary.updated_ms,
        summary.last_seq,
        summary.owner,
        state.origin,
        tuple(_inside(program, state)),
        tuple(_doubts(state, shown, veil)),
        policy=state.policy,
        durability=durability_of(summary.owner),
    )


def _inside(program: Program, state: RunState) -> Iterator[dict[str, Any]]:
    for path in sorted(state.frames, key=_place):
        frame = state.frames[path]
        if frame.parent is not None and frame.phase != "ended":
            yield {
                "path": path,
                "kind": frame.kind,
                "state": program.label(frame),
                "phase": frame.phase,
                "since_ms": frame.entered_ms,
            }


def _doubts(
    state: RunState, shown: Callable[[dict[str, Any]], dict[str, Any]], veil: Veil | None
) -> Iterator[dict[str, Any]]:
    found = (intent for intent in state.intents.values() if intent.unsettled == "doubt")
    for intent in sorted(found, key=lambda intent: (intent.at_ms, _place(intent.cmd))):
        body = intent.body
        args = from_journal(body["args"])
        assert isinstance(args, dict)
        yield {
            "call": intent.cmd,
            "tool": body["tool"],
            "args": shown(args),
            "key": body["key"] if veil is None or body["key"] is None else _plain(veil.hide_whole(body["key"]), veil),
            "since_ms": intent.at_ms,
        }


def _place(path: str) -> list[tuple[int, str]]:
    """Where a frame stands in the tree, as people count: item 2 before item 10, and a frame before those inside it.
    (What is decided follows the order of the paths as texts, and always will: journals were written in it.)"""
    parts = re.split("([0-9]+)", path.replace("/", "\0"))
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)]


def _outputs(output: dict[str, Any], veil: Veil | None) -> dict[str, Any]:
    if veil is None:
        return {name: to_public(value) for name, value in output.items()}
    return {name: _plain(veil.hide_secrets(to_journal(value)), veil) for name, value in output.items()}


def _plain(tree: Any, veil: Veil | None) -> Any:
    """Plain JSON of a value in the journal form that may hold hidden parts."""
    if isinstance(tree, dict):
        tag = next(iter(tree)) if len(tree) == 1 else ""
        if tag == "$redacted":
            return _plain(f"‹redacted {tree[tag]}›", veil)
        if not tag.startswith("$"):
            return {name: _plain(item, veil) for name, item in tree.items()}
    if isinstance(tree, list):
        return [_plain(item, veil) for item in tree]
    if isinstance(tree, str) and veil is not None:
        return veil.told(tree)
    return to_public(from_journal(tree))
