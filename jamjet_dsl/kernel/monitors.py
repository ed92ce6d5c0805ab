"""History, compiled: what conditions ask about past calls is counted while it happens.

`RunState.monitors` is a flat dict, so that a decision costs a few look-ups however long the run is:

    calls KIND TOOL          how many actions called the tool (KIND attempted, succeeded, failed)
    by KIND TOOL NAMES ARGS  the same for given values of the arguments NAMES, where a rule or expression asks
    read TOOL NAMES ARGS     args and result of the last success, for `require read(...) as x`
    first TOOL               args and result of the first success, for `require any of ... as x`
    limit RULE GROUP         what a `limit` has counted: `{"count", "sum", "window": [[at_ms, amount], ...]}`;
                             of one `per turn` also `"turn"`, the turn it was counted in
    turn                     how many turns have begun, where a `limit` is `per turn`

A call counts once however many attempts it takes. A child agent has monitors of its own in its frame; what it calls
counts there and in those of every agent around it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jamjet_dsl.definition import MAX_SAFE_INT
from jamjet_dsl.kernel.budget import homes
from jamjet_dsl.kernel.draft import Draft
from jamjet_dsl.kernel.model import Json
from jamjet_dsl.kernel.values import dumps_form, dumps_journal, to_journal

if TYPE_CHECKING:
    from jamjet_dsl.definition import LimitDef
    from jamjet_dsl.kernel.program import Plan, Program

SEP = "\x1f"
"""Stands between the parts of a key; no name holds it."""
TURN = "turn"
_ZERO = Decimal(0)
_UNKNOWN = Decimal("Infinity")


def _key(*parts: str) -> str:
    return SEP.join(parts)


@lru_cache(maxsize=1024)
def _calls_key(kind: str, tool: str) -> str:
    return _key("calls", kind, tool)


def group_key(values: list[Any]) -> str:
    """Run-time values as one text; equal values give equal texts, `1.5` and `1.50` too."""
    for value in values:
        kind = type(value)
        if kind not in _PLAIN or (kind is str and len(value) > _LONG):
            return dumps_journal(_normal(values)).decode()
    return _plain_key(*values)


_LONG = 100
_PLAIN = (str, int, bool)
"""The types whose values are equal, within one type, only if they are the same."""


@lru_cache(maxsize=4096, typed=True)
def _plain_key(*values: Any) -> str:
    """The same for plain and short values: several rules and counters ask for one key."""
    return dumps_journal(list(values)).decode()


def _normal(value: Any) -> Any:
    if isinstance(value, Decimal):
        return value.normalize() if value else Decimal(0)
    if isinstance(value, (list, tuple)):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    return value


@lru_cache(maxsize=4096)
def settled(group: str) -> str:
    """What a limit counts a group under: numbers that are equal are one, `1` and `1.0`, `0.0` and `-0.0`. Journals have
    the text as it was decided, so that what was written before this held reads the same, and is counted alike."""
    if not _FRACTION.search(group):
        return group
    try:
        return dumps_form(_whole(json.loads(group))).decode()
    except ValueError:  # a text that stands for what was erased
        return group


_FRACTION = re.compile(r"[0-9][.eE]")


def _whole(tree: Any) -> Any:
    """A journal form whose floats are whole numbers where they are equal to one that every float can say."""
    if isinstance(tree, float):
        return int(tree) if tree.is_integer() and abs(tree) <= MAX_SAFE_INT else tree
    if isinstance(tree, list):
        return [_whole(item) for item in tree]
    return {name: _whole(item) for name, item in tree.items()} if isinstance(tree, dict) else tree


def resettled(monitors: Mapping[str, Json]) -> dict[str, Json]:
    """Monitors of a state in which limits counted equal numbers apart: what belongs together is added up."""
    found: dict[str, Json] = {}
    for key, entry in monitors.items():
        kind, _, rest = key.partition(SEP)
        if kind == "limit":
            rule, _, group = rest.partition(SEP)
            key = _key("limit", rule, settled(group))
            entry = _together(found[key], entry) if key in found else entry
        found[key] = entry
    return found


def _together(one: Mapping[str, Json], other: Mapping[str, Json]) -> dict[str, Json]:
    """Two entries of a limit as one. Of a limit per turn the later turn is the one that counts."""
    if one.get(TURN) != other.get(TURN):
        return dict(one if one.get(TURN, 0) > other.get(TURN, 0) else other)
    total, window = _number(one["sum"]) + _number(other["sum"]), sorted([*one["window"], *other["window"]])
    return {**one, "count": one["count"] + other["count"], "sum": str(total), "window": window}


def _values(names: tuple[str, ...], args: Mapping[str, Any]) -> str:
    return group_key([args.get(name) for name in names])


def _tracked(plan: Plan, tool: str, args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for names in plan.tracked.get(tool, ()):
        yield ",".join(names), _values(names, args)


def _around(program: Program, draft: Draft, path: str) -> Iterator[tuple[Plan, dict[str, Json]]]:
    """The agents around a frame, and what they count, ready to be changed."""
    for home in homes(draft.state, path):
        plan = program.plan(draft.state.frames[home]) if home else program.main
        yield plan, draft.monitors(home)


def count(program: Program, draft: Draft, path: str, kind: str, tool: str, args: Mapping[str, Any]) -> None:
    """One more call of the tool with these values was `attempted`, `succeeded` or `failed` in the frame at `path`."""
    key = _calls_key(kind, tool)
    if not path and tool not in program.main.tracked:
        counts = draft.own("monitors")
        counts[key] = counts.get(key, 0) + 1
        return
    for plan, counts in _around(program, draft, path):
        counts[key] = counts.get(key, 0) + 1
        for tracked in _tracked(plan, tool, args):
            by = _key("by", kind, tool, *tracked)
            counts[by] = counts.get(by, 0) + 1


def remember(program: Program, draft: Draft, path: str, tool: str, args: Mapping[str, Any], result: Json) -> None:
    """Keeps the result (journal form) of a successful call with these values for rules that bind it."""
    for plan, monitors in _around(program, draft, path):
        if tool not in plan.remembered:
            continue
        entry = {"args": to_journal(dict(args)), "result": result}
        monitors.setdefault(_key("first", tool), {**entry, "order": draft.state.seq})
        for names, values in _tracked(plan, tool, args):
            monitors[_key("read", tool, names, values)] = entry


def calls(monitors: Mapping[str, Json], tool: str, kind: str = "attempted") -> int:
    """How many calls of the tool there were in this run."""
    found: int = monitors.get(_calls_key(kind, tool), 0)
    return found


def history(monitors: Mapping[str, Json], kind: str, tool: str, args: Mapping[str, Any]) -> int:
    """How many calls of the tool with these argument values (run-time values) there were in this run."""
    names = tuple(sorted(args))
    found: int = monitors.get(f"by{SEP}{kind}{SEP}{tool}{SEP}{','.join(names)}{SEP}{_values(names, args)}", 0)
    return found


def read_key(tool: str, names: Iterable[str]) -> str:
    """What the keys begin with under which the last successes of a tool are kept by these arguments (sorted)."""
    return _key("read", tool, ",".join(names), "")


def last_read(monitors: Mapping[str, Json], key: str, values: list[Any]) -> dict[str, Json] | None:
    """Args and result of the last success with these argument values, in the order of the `read_key`'s names."""
    found: dict[str, Json] | None = monitors.get(key + group_key(values))
    return found


def first_success(monitors: Mapping[str, Json], tools: Iterable[str]) -> tuple[str, dict[str, Json]] | None:
    """The first success of any of these tools: which it was of, its args and its result."""
    found = [(tool, entry) for tool in tools if (entry := monitors.get(_key("first", tool)))]
    return min(found, key=lambda item: item[1]["order"], default=None)


def new_turn(program: Program, draft: Draft, path: str) -> None:
    """A model has answered in the frame at `path`: limits per turn count from here on."""
    if not program.turns:
        return
    for plan, monitors in _around(program, draft, path):
        if plan.turns:
            monitors[TURN] = monitors.get(TURN, 0) + 1


def limit_used(
    monitors: Mapping[str, Json], rule: int, group: str, since_ms: int | None, turn: bool = False
) -> tuple[int, Decimal]:
    """Count and sum that a limit has seen in a group, in the window that began at `since_ms` (None: ever), or in
    this turn."""
    entry = monitors.get(f"limit{SEP}{rule}{SEP}{settled(group)}")
    if entry is None or (turn and entry.get(TURN) != monitors.get(TURN, 0)):
        return 0, _ZERO
    if since_ms is None:
        return entry["count"], _number(entry["sum"])
    inside = [_number(amount) for at, amount in entry["window"] if at > since_ms]
    return len(inside), sum(inside, _ZERO)


def limit_take(draft: Draft, home: str, rule: int, limit: LimitDef, group: str, amount: str) -> None:
    """Counts a call under a limit. What has left a sliding window, or was counted in an earlier turn, is dropped, so an
    entry is as large as the calls that one window can hold."""
    monitors, at_ms = draft.monitors(home), draft.state.now_ms
    key = _key("limit", str(rule), settled(group))
    entry = monitors.get(key) or _NOTHING_COUNTED
    if limit.turn and entry.get(TURN) != monitors.get(TURN, 0):
        entry = _NOTHING_COUNTED
    window: list[Json] = []
    if limit.window_ms is not None:
        window = [item for item in entry["window"] if item[0] > at_ms - limit.window_ms]
        window.append([at_ms, amount])
    total = _number(entry["sum"]) + _number(amount)
    taken: dict[str, Json] = {"count": entry["count"] + 1, "sum": str(total), "window": window}
    monitors[key] = {**taken, TURN: monitors.get(TURN, 0)} if limit.turn else taken


def _number(text: str) -> Decimal:
    """An amount. Of one that was erased since nobody knows how much it was, so there is room for nothing more."""
    return _UNKNOWN if text.startswith("‹") else Decimal(text)


_NOTHING_COUNTED: Mapping[str, Json] = {"count": 0, "sum": "0", "window": []}
