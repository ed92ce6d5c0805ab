"""What in events and states is the journal's own, and what programs compute with.

Hidden values are looked for by what they are equal to. Where only the journal's own words and numbers can stand (the
index of a rule, how often a state was entered) that would hide nothing and tell a value to whoever can count. And there
are texts that are made of values, in which nobody could find them again: the group that a limit counts for, the key of
a call, an amount that is added up. Those are hidden as wholes.

A shape takes a tree and a `Change`, and gives the tree with its parts changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from jamjet_dsl.kernel.monitors import SEP


class Change(NamedTuple):
    """What becomes of the parts: of a value in the journal form, of a text that is made of values, of an amount,
    of a sentence that may quote some."""

    value: Callable[[Any], Any]
    whole: Callable[[str], str]
    amount: Callable[[str], str]
    sentence: Callable[[str], str]


Shape: TypeAlias = Callable[[Any, Change], Any]


def _own(tree: Any, change: Change) -> Any:
    return tree


def _value(tree: Any, change: Change) -> Any:
    return change.value(tree)


def _whole(tree: Any, change: Change) -> Any:
    return change.whole(tree) if isinstance(tree, str) else change.value(tree)


def _amount(tree: Any, change: Change) -> Any:
    # A limit that adds nothing up says 0, whatever the values are.
    return change.amount(tree) if isinstance(tree, str) and tree != "0" else tree


def _sentence(tree: Any, change: Change) -> Any:
    return change.sentence(tree) if isinstance(tree, str) else change.value(tree)


def _keyed(key: str, change: Change) -> str:
    """A key whose last part is made of values."""
    head, sep, group = key.rpartition(SEP)
    return f"{head}{sep}{change.whole(group)}"


def _record(own: str, default: Shape = _value, **fields: Shape) -> Shape:
    """Parts by their names; those named in `own` are the journal's."""
    known = dict.fromkeys(own.split(), _own) | fields

    def shape(tree: Any, change: Change) -> Any:
        if not isinstance(tree, dict):
            return change.value(tree)
        return {name: known.get(name, default)(item, change) for name, item in tree.items()}

    return shape


def _each(shape: Shape) -> Shape:
    """The items of a list, or of a dict whose keys are names of the program or of the journal."""

    def each(tree: Any, change: Change) -> Any:
        if isinstance(tree, dict) and not any(name.startswith("$") for name in tree):
            return {name: shape(item, change) for name, item in tree.items()}
        return [shape(item, change) for item in tree] if isinstance(tree, list | tuple) else change.value(tree)

    return each


def _row(*shapes: Shape) -> Shape:
    def row(tree: Any, change: Change) -> Any:
        if not isinstance(tree, list | tuple) or len(tree) != len(shapes):
            return change.value(tree)
        return [shape(item, change) for shape, item in zip(shapes, tree, strict=True)]

    return row


def _keys(shape: Shape) -> Shape:
    """A dict whose keys end in a text made of values."""

    def keys(tree: Any, change: Change) -> Any:
        if not isinstance(tree, dict):
            return change.value(tree)
        return {_keyed(key, change): shape(item, change) for key, item in tree.items()}

    return keys


def _outer(tree: Any, change: Change) -> Any:
    return _each(_decision)(tree, change)


_NAMED = _each(_value)
"""Values by names of the program."""
_decision = _record(
    "rules result enforced needs home",
    reason=_sentence,
    facts=_each(_record("at_ms", args=_NAMED)),
    limits=_each(_row(_own, _whole, _amount)),
    outer=_outer,
)
_CALL = _record("tool effect grants holds_ms home policy from", args=_NAMED, key=_whole, decision=_decision)
_FACTS = _keys(_record("at_ms cmd error"))
_SPAN = _each(_row(_own, _amount))
_ENTRY = _record("count turn order", args=_NAMED, sum=_amount, window=_SPAN)


def _monitors(tree: Any, change: Change) -> Any:
    if not isinstance(tree, dict):
        return change.value(tree)
    found = {}
    for key, item in tree.items():
        made_of_values = key.partition(SEP)[0] in ("by", "read", "limit")
        found[_keyed(key, change) if made_of_values else key] = _ENTRY(item, change) if isinstance(item, dict) else item
    return found


_EVENT_OWN = (
    "agent at_ms attempt bind binds bindings branches by caps checked cmd commands counted definition does drop "
    "duration_ms edge effect expires_at_ms frame from holds_ms home how id kind limits model name needs of option "
    "options origin over owner parent question region remind_ms reserve role roles rule source state state_digest "
    "status to tool usage used visit what"
)
_STATE_OWN = (
    "format run_id agent status seq now_ms started_ms provenance timers spent unresolved warned exceeded diverted "
    "counted overruns final_state policy origin"
)
_FRAME_OWN = (
    "path state visit attempt phase counters retries entered_ms idle kind agent region parent key home flags late "
    "account"
)


def _any_state(tree: Any, change: Change) -> Any:
    return state(tree, change)


_BODY = _record(
    _EVENT_OWN,
    call=_CALL,
    undo=_record("tool", args=_NAMED),
    decision=_decision,
    args=_NAMED,
    input=_NAMED,
    output=_NAMED,
    set=_NAMED,
    append=_NAMED,
    whole=_any_state,
)


def event(body: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The body of an event."""
    found: dict[str, Any] = _BODY({name: item for name, item in body.items() if name != "key"}, change)
    if "key" not in body:
        return found
    key = body["key"]
    if not isinstance(key, str) or "frame" in body:
        changed = key  # of a frame: the name of a branch, the number of an item
    else:
        changed = _keyed(key, change) if "name" in body else change.whole(key)
    return {name: changed if name == "key" else found[name] for name in body}


def _body(tree: Any, change: Change) -> Any:
    return event(tree, change) if isinstance(tree, dict) else change.value(tree)


_BODIES = _each(_body)
_FRAME = _record(
    _FRAME_OWN, call=_CALL, outcome=_body, opened=_body, ended=_BODIES, scope=_NAMED, monitors=_monitors, facts=_FACTS
)
_QUESTION = _record("id cmd frame state expires_at_ms approvals", body=_body, facts=_FACTS)
_GRANT = _record("question state bind by at_ms used_by approvers home frame seq", call=_CALL, facts=_FACTS)
state = _record(
    _STATE_OWN,
    frames=_each(_FRAME),
    intents=_each(_record("cmd at_ms reserve unsettled", body=_body)),
    questions=_each(_QUESTION),
    grants=_each(_GRANT),
    input=_NAMED,
    vars=_NAMED,
    output=_NAMED,
    queue=_BODIES,
    undo=_each(_record("cmd tool", args=_NAMED)),
    monitors=_monitors,
    facts=_FACTS,
)
"""A state, as a snapshot or a fork has it."""
