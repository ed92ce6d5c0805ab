"""A `RunState` as canonical JSON bytes and back. Equal states give equal bytes.

Variables and input are the only run-time values in a state; they are stored in journal form. All else is JSON
already.

A state is written in two places, and the rule for a form of another version is not the same for both. A *snapshot* is a
cache: `decode` refuses it, and the journal is folded instead. A `forked` event is part of a journal, which is never
rewritten and stays readable: `restore` brings its state forward, one version at a time. Whoever raises `FORMAT` adds
the step from the version before to `_UPGRADES`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.model import Account, Frame, Grant, Intent, Json, Question, Reserve, RunState, Spent
from jamjet_dsl.kernel.monitors import resettled
from jamjet_dsl.kernel.values import dumps_form, from_journal, to_journal

FORMAT = 7
"""Version of this form; it stands in every snapshot and in every `forked` event."""

_VALUES = ("input", "vars")
_BOUND = ("questions", "grants")
_PARTS: dict[str, type] = {"frames": Frame, "intents": Intent, "questions": Question, "grants": Grant}


def encode(state: RunState) -> bytes:
    """The state as canonical JSON."""
    tree: dict[str, Json] = {"format": FORMAT}
    for field in dataclasses.fields(RunState):
        tree[field.name] = _out(field.name, getattr(state, field.name))
    return dumps_form(tree)


def decode(data: bytes) -> RunState:
    """The state of a snapshot. Raises ValueError for one of another version and for what is none."""
    try:
        tree = json.loads(data)
        if tree.pop("format") != FORMAT:
            raise ValueError("the state is of another version")
        return RunState(**{name: _in(name, item) for name, item in tree.items()})
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"not a snapshot: {problem}") from None


def restore(tree: Mapping[str, Json]) -> RunState:
    """The state that a journal holds, in this form or in one of an earlier version.

    Raises JamError JAMR104 for a form of a later version, ValueError for what is no state.
    """
    return decode(dumps_form(upgraded(tree)))


def upgraded(tree: Mapping[str, Json]) -> dict[str, Json]:
    """The tree that this version would have written for the state. Raises as `restore` does."""
    found, form = dict(tree), tree.get("format")
    while form != FORMAT:
        if isinstance(form, int) and form > FORMAT:
            raise JamError("JAMR104", f"a state is written in form {form}; this version of jam knows {FORMAT}")
        if not isinstance(form, int) or form not in _UPGRADES:
            raise ValueError(f"not a state: there is no form {form!r}")
        found, form = _UPGRADES[form](found), form + 1
    return {**found, "format": FORMAT}


def _from_3(tree: dict[str, Json]) -> dict[str, Json]:
    """What keys stand for is kept by the store alone, and of a frozen call only what cannot be known otherwise."""
    frames = {}
    for path, frame in tree["frames"].items():
        call = frame["call"]
        if call is not None:
            call = {name: item for name, item in call.items() if name not in ("digest", "trace_key")}
        frames[path] = {**frame, "call": call}
    return {**{name: item for name, item in tree.items() if name != "keys"}, "frames": frames}


def _from_4(tree: dict[str, Json]) -> dict[str, Json]:
    """Every policy was enforced, and no approval was bound to facts."""
    bound = {part: {name: {**item, "facts": {}} for name, item in tree[part].items()} for part in _BOUND}
    return {**tree, **bound, "policy": "enforce"}


def _from_5(tree: dict[str, Json]) -> dict[str, Json]:
    """No limit was shared by runs."""
    return {**tree, "counted": None}


def _from_6(tree: dict[str, Json]) -> dict[str, Json]:
    """Limits counted numbers that are equal apart, if their types differed."""
    frames = {path: {**frame, "monitors": resettled(frame["monitors"])} for path, frame in tree["frames"].items()}
    return {**tree, "frames": frames, "monitors": resettled(tree["monitors"])}


_UPGRADES: dict[int, Callable[[dict[str, Json]], dict[str, Json]]] = {
    3: _from_3,
    4: _from_4,
    5: _from_5,
    6: _from_6,
}
"""From the form of a version to the next one. Forks began with form 3."""


def digest(state: RunState) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(encode(state)).hexdigest()


def _out(name: str, value: Any) -> Json:
    if name in _VALUES:
        return {key: to_journal(item) for key, item in value.items()}
    if name == "output":
        return None if value is None else {key: to_journal(item) for key, item in value.items()}
    if name == "provenance":
        return {key: sorted(flags) for key, flags in value.items()}
    if name in _PARTS:
        return {key: _part_out(item) for key, item in value.items()}
    return _fields(value) if name == "spent" else value


def _fields(value: Any) -> dict[str, Json]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _part_out(value: Any) -> dict[str, Json]:
    tree = _fields(value)
    if isinstance(value, Intent):
        tree["reserve"] = _fields(value.reserve)
    if isinstance(value, Frame):
        tree["scope"] = {key: to_journal(item) for key, item in value.scope.items()}
        tree["flags"] = {key: sorted(flags) for key, flags in value.flags.items()}
        del tree["made"]
        tree["account"] = None if value.account is None else _fields(value.account)
    return tree


def _in(name: str, tree: Json) -> Any:
    if name in _VALUES:
        return {key: from_journal(item) for key, item in tree.items()}
    if name == "output":
        return None if tree is None else {key: from_journal(item) for key, item in tree.items()}
    if name == "provenance":
        return {key: frozenset(flags) for key, flags in tree.items()}
    if name in _PARTS:
        return {key: _part_in(_PARTS[name], item) for key, item in tree.items()}
    return Spent(**tree) if name == "spent" else tree


def _part_in(kind: type, tree: dict[str, Json]) -> Any:
    if kind is Intent:
        return Intent(**{**tree, "reserve": Reserve(**tree["reserve"])})
    if kind is Frame:
        scope = {key: from_journal(item) for key, item in tree["scope"].items()}
        flags = {key: frozenset(item) for key, item in tree["flags"].items()}
        account = None if tree["account"] is None else Account(**tree["account"])
        return Frame(**{**tree, "scope": scope, "flags": flags, "account": account})
    return kind(**tree)
