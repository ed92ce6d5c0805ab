"""`redact`: values that the journal commits to without holding them.

In everything that is stored a redacted text reads `‹redacted HASH›`, any other redacted value is
`{"$redacted": HASH}`, where HASH is SHA-256 over a random salt and the value. Salt and value lie in the erasable
table: forgetting a row there forgets the value and leaves every hash of the journal valid. The kernel sees the
values themselves; they are put back before a journal is folded.

Values are found by what they are: wherever a redacted value turns up in a journaled value or text, it is
hidden. A text of fewer than four characters is hidden only where it stands alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from jamjet_dsl.definition import Agent, State, Wait
from jamjet_dsl.kernel.model import RunState
from jamjet_dsl.kernel.values import from_journal, to_journal
from jamjet_dsl.ports import Draft, Erasable

_VALUE_FIELDS = frozenset(
    {"input", "set", "args", "result", "output", "prompt", "given", "text", "show", "form", "call", "payload", "items"}
    | {"undo", "why", "message", "waiting_for", "whole"}
)
"""The fields of events that hold what programs compute with; the others are the journal's own."""
_MARK = re.compile("‹redacted ([0-9a-f]{64})›")
_SHORT = 4


def redacted_paths(agent: Agent) -> tuple[tuple[str, ...], ...]:
    """The paths that an agent's policy redacts."""
    return tuple(rule.path for rule in agent.rules or () if rule.kind == "redact" and rule.path)


def bound_by(agent: Agent) -> list[tuple[str, str]]:
    """The states whose outcome is bound to a variable, and the events (as `on NAME`) whose payload is."""
    found = []
    for state in (s for s in agent.body.states if isinstance(s, State)):
        name = getattr(state.action, "bind", None)
        if name is not None:
            found.append((state.name, name))
            if isinstance(state.action, Wait) and state.action.event is not None:
                found.append((f"on {state.action.event}", name))
        found += [(f"on {edge.event}", edge.bind) for edge in state.edges if edge.event and edge.bind]
    return found


class Veil:
    """The redacted values of one run. `binds` says which variable the outcome of a state, or the payload of an event
    (as `on NAME`), is going to be bound to: it is hidden from the moment it is journaled."""

    def __init__(
        self,
        paths: tuple[tuple[str, ...], ...],
        known: Iterable[Erasable] = (),
        binds: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._paths = paths
        self._binds = [(place, name) for place, name in binds if any(path[0] == name for path in paths)]
        self._texts: dict[str, str] = {}
        self._others: dict[str, str] = {}
        self._values: dict[str, Any] = {}
        self.unsaved: list[Erasable] = []
        """What was committed to and not stored yet."""
        for row in known:
            self._keep(row.commitment.hex(), json.loads(row.value))

    def learn(self, state: RunState) -> None:
        """Commit to the redacted values that are new in a state."""
        self._learn({**state.input, **state.vars})
        for place, name in self._binds:
            for frame in state.frames.values():
                if frame.state == place and frame.outcome is not None and "result" in frame.outcome:
                    self._learn({name: from_journal(frame.outcome["result"])})
            for event in state.queue:
                if place == f"on {event['name']}":
                    self._learn({name: from_journal(event["payload"])})

    def _learn(self, values: dict[str, Any]) -> None:
        for path in self._paths:
            for tree in _at(values, path):
                value = to_journal(tree)
                if value is None or value == "" or self._hash_of(value) is not None:
                    continue
                data, salt = _canonical(value).encode(), secrets.token_bytes(16)
                commitment = hashlib.sha256(salt + data).digest()
                self._keep(commitment.hex(), value)
                self.unsaved.append(Erasable(commitment, ".".join(path), salt, data))

    def hide(self, draft: Draft) -> Draft:
        """An event as it is stored."""
        return Draft(draft.at_ms, draft.kind, self._fields(draft.body, self._hidden))

    def reveal(self, body: dict[str, Any]) -> dict[str, Any]:
        """An event's body as the kernel takes it. What was erased stays hidden."""
        return self._fields(body, self._revealed) if self._values else body

    def hide_value(self, tree: Any) -> Any:
        """A value in the journal form (or plain JSON) without what is redacted."""
        return self._hidden(tree) if self._values else tree

    def reveal_value(self, tree: Any) -> Any:
        """The value that was hidden."""
        return self._revealed(tree) if self._values else tree

    def _fields(self, body: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
        return {name: change(value) if name in _VALUE_FIELDS else value for name, value in body.items()}

    def _keep(self, commitment: str, value: Any) -> None:
        self._values[commitment] = value
        if isinstance(value, str):
            self._texts[value] = commitment
        else:
            self._others[_canonical(value)] = commitment

    def _hash_of(self, value: Any) -> str | None:
        return self._texts.get(value) if isinstance(value, str) else self._others.get(_canonical(value))

    def _hidden(self, tree: Any) -> Any:
        if isinstance(tree, str):
            return self._hidden_text(tree)
        if self._others and not isinstance(tree, list) and tree is not None:
            commitment = self._others.get(_canonical(tree))
            if commitment is not None:
                return {"$redacted": commitment}
        if isinstance(tree, dict):
            return {name: self._hidden(item) for name, item in tree.items()}
        return [self._hidden(item) for item in tree] if isinstance(tree, list | tuple) else tree

    def _hidden_text(self, text: str) -> str:
        if text in self._texts:
            return f"‹redacted {self._texts[text]}›"
        # The longest first: one redacted value may be a part of another.
        for value in sorted(self._texts, key=len, reverse=True):
            if len(value) >= _SHORT and value in text:
                text = text.replace(value, f"‹redacted {self._texts[value]}›")
        return text

    def _revealed(self, tree: Any) -> Any:
        if isinstance(tree, str):
            return _MARK.sub(lambda mark: str(self._values.get(mark[1], mark[0])), tree) if "‹" in tree else tree
        if isinstance(tree, dict):
            if len(tree) == 1 and tree.get("$redacted") in self._values:
                return self._values[tree["$redacted"]]
            return {name: self._revealed(item) for name, item in tree.items()}
        return [self._revealed(item) for item in tree] if isinstance(tree, list) else tree


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _at(tree: Any, path: tuple[str, ...]) -> Iterable[Any]:
    """The leaves at a path; a path that ends at a record or list means all that is in it."""
    if path:
        if isinstance(tree, dict) and path[0] in tree:
            yield from _at(tree[path[0]], path[1:])
        elif isinstance(tree, list):
            for item in tree:
                yield from _at(item, path)
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from _at(item, ())
    elif isinstance(tree, list):
        for item in tree:
            yield from _at(item, ())
    elif not isinstance(tree, bool):
        # Hiding true or false wherever it stands would hide everything and nothing.
        yield tree


def notes(agent: Agent) -> list[str]:
    """What a person should be told about the agent's redaction before it runs."""
    paths = ", ".join(".".join(path) for path in redacted_paths(agent))
    if not paths:
        return []
    return [f"redact {paths}: the values are kept outside the journal, in the erasable table, and not encrypted"]
