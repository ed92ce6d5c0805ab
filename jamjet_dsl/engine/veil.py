"""Secret and redacted values, which the journal commits to without holding them.

In everything that is stored such a text reads `‹redacted HASH›`, any other such value is `{"$redacted": HASH}`, where
HASH is SHA-256 over a random salt and the value. Salt and value lie in the erasable table, encrypted if there is a key
(`vault`): forgetting a row there forgets the value and leaves every hash of the journal valid. The kernel sees the
values themselves; they are put back before a journal is folded.

What has to be hidden is learned from the declared types and the policy (`sight`). Then it is hidden wherever it turns
up in a journaled value or text, also where a tool has put it into an error or a result: the text itself, as JSON or
Python quotes it, and the digits of a number (`‹redacted HASH/N›`). What is shorter than four characters is hidden only
where it stands alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

from jamjet_dsl.definition import Agent
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.sight import DIGEST, Found, Sight, redacted_paths
from jamjet_dsl.engine.vault import Vault, keep_plain, opened
from jamjet_dsl.kernel.model import RunState
from jamjet_dsl.ports import Draft, Erasable, KeyUse

_OWN = frozenset(
    {"agent", "at_ms", "attempt", "bind", "bindings", "branches", "by", "caps", "cmd", "definition", "does", "drop"}
    | {"duration_ms", "edge", "effect", "expires_at_ms", "frame", "from", "how", "id", "kind", "limits", "model"}
    | {"name", "of", "option", "options", "origin", "owner", "parent", "question", "region", "remind_ms", "reserve"}
    | {
        "visit",
        "role",
        "roles",
        "rule",
        "source",
        "state",
        "state_digest",
        "status",
        "to",
        "tool",
        "usage",
        "what",
        "home",
    }
)
"""The fields of events that are the journal's own. Every other one may hold what programs compute with."""
_MARK = re.compile("‹redacted ([0-9a-f]{64}(?:/[0-9])?)›")
_WRITTEN = re.compile(f"{_MARK.pattern}|‹literal ((?:literal )*redacted )")
_LOOKS_LIKE = re.compile("‹((?:literal )*redacted )")
"""What looks like a mark and is none, since somebody wrote it. Where it is stored a word stands before it: marks can be
read in histories and exports, and nobody must be given a hidden value for having written down its mark."""
ERASED = "‹erased›"
"""How a value that was erased is shown."""
_SHORT = 4
_SECRET = "secret "
"""Stands before the path of a value that is declared `secret`, and not only redacted."""
MESSAGE = "(message)"
"""Stands for the path of a message that waits in the inbox: all that it says is kept apart."""
_SAID = ("form", "payload", "result", "note")


class Hidden:
    """Values with their commitments, to be found in trees and texts and put back."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        self._others: dict[str, str] = {}
        self._inner: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def keep(self, commitment: str, value: Any) -> None:
        """From now on the value is hidden."""
        self.values[commitment] = value
        if not isinstance(value, str):
            self._others[canonical(value)] = commitment
        for number, text in enumerate(_forms(value)):
            mark = f"{commitment}/{number}" if number else commitment
            self._inner[mark] = text
            if isinstance(value, str) and not number:
                self._texts[text] = mark
            elif len(text) >= _SHORT:
                self._texts.setdefault(text, mark)
        self._pattern = None

    def commitment(self, value: Any) -> str | None:
        """The commitment of a value that is hidden already."""
        if isinstance(value, str):
            mark = self._texts.get(value)
            return mark if mark is not None and "/" not in mark else None
        return self._others.get(canonical(value))

    def hide(self, tree: Any, to_store: bool = False) -> Any:
        """A value in the journal form (or plain JSON) without what is hidden; `to_store` so that `reveal` gives just
        that value again, whatever marks somebody wrote into it."""
        if isinstance(tree, str):
            return self._hide_text(tree, to_store)
        if self._others and tree is not None and not isinstance(tree, bool):
            commitment = self._others.get(canonical(tree))
            if commitment is not None:
                return {"$redacted": commitment}
        if isinstance(tree, dict):
            return {self._hide_text(name, to_store): self.hide(item, to_store) for name, item in tree.items()}
        return [self.hide(item, to_store) for item in tree] if isinstance(tree, list | tuple) else tree

    def reveal(self, tree: Any) -> Any:
        """The value that was hidden. What was erased stays a text that says so."""
        if isinstance(tree, str):
            return _WRITTEN.sub(self._meant, tree) if "‹" in tree else tree
        if isinstance(tree, dict):
            if len(tree) == 1 and "$redacted" in tree:
                commitment = tree["$redacted"]
                # The kernel reads no other mark than a text.
                return self.values.get(commitment, f"‹redacted {commitment}›")
            return {self.reveal(name): self.reveal(item) for name, item in tree.items()}
        return [self.reveal(item) for item in tree] if isinstance(tree, list) else tree

    def _meant(self, found: re.Match[str]) -> str:
        """What stands in a stored text for a mark, or for what only looks like one."""
        return self._inner.get(found[1], found[0]) if found[2] is None else f"‹{found[2]}"

    def _hide_text(self, text: str, to_store: bool) -> str:
        if text in self._texts:
            return f"‹redacted {self._texts[text]}›"
        if self._pattern is None:
            # The longest first: one value may be a part of another.
            long = sorted((t for t in self._texts if len(t) >= _SHORT), key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, long)) if long else "(?!)")
        parts, end = list[str](), 0
        for found in self._pattern.finditer(text):
            parts += [text[end : found.start()], f"‹redacted {self._texts[found[0]]}›"]
            end = found.end()
        parts.append(text[end:])
        if to_store:
            parts[::2] = [_LOOKS_LIKE.sub("‹literal \\1", part) for part in parts[::2]]
        return "".join(parts)


class Veil:
    """The hidden values of one run."""

    def __init__(self, sight: Sight, run_id: str, known: Iterable[Erasable] = (), vault: Vault | None = None) -> None:
        self.sight = sight
        self.run_id = run_id
        self._vault = vault
        self._all = Hidden()
        self._secrets = Hidden()
        """The part of them that is declared secret: hidden in outputs and texts for people too."""
        self.unsaved: list[Erasable] = []
        """What was committed to and not stored yet."""
        self._remember(known)

    def _remember(self, known: Iterable[Erasable]) -> None:
        for row in known:
            if row.path != MESSAGE:
                value = json.loads(opened(self._vault, self.run_id, row))
                self._keep(row.commitment.hex(), value, row.path.startswith(_SECRET))

    def rows(self) -> dict[str, tuple[Any, bool]]:
        """By commitment, every value that is known, and whether it is declared secret."""
        return {name: (value, name in self._secrets.values) for name, value in self._all.values.items()}

    def knows(self, commitment: str) -> bool:
        """Whether the value of a commitment is known."""
        return commitment in self._all.values

    def take_over(self, other: Veil) -> None:
        """Hide what another veil of the same run does, from now on together with it."""
        self._all, self._secrets = other._all, other._secrets

    # ---- learning

    def learn(self, state: RunState) -> None:
        """Commit to the values to be hidden that are new in a state."""
        self._learn(self.sight.of_state(state))

    def learn_event(self, body: dict[str, Any]) -> None:
        """Commit to the values to be hidden that are new in an event."""
        self._learn(self.sight.of_event(body))

    def learn_from(self, other: Veil) -> None:
        """Commit to all that another run hides."""
        self._learn(Found(f"from {other.run_id}", value, secret) for value, secret in other.rows().values())

    def _learn(self, found: Iterable[Found]) -> None:
        for path, value, secret in found:
            if value is None or value == "" or self._known(value, secret):
                continue
            if isinstance(value, str) and _MARK.fullmatch(value):
                continue  # It was erased where it came from: nothing is left to be hidden.
            commitment = self._commitment_of(path, value, secret)
            if commitment is not None:
                self._keep(commitment, value, secret)

    def _known(self, value: Any, secret: bool) -> bool:
        return (self._secrets if secret else self._all).commitment(value) is not None

    def _commitment_of(self, path: str, value: Any, secret: bool) -> str | None:
        known = self._all.commitment(value)
        if known is not None:
            # It was only redacted so far; its row stays as it is.
            return known
        row, made = self._apart(f"{_SECRET}{path}" if secret else path, canonical(value).encode())
        self.unsaved.append(row)
        return made.hex()

    def _apart(self, path: str, data: bytes) -> tuple[Erasable, bytes]:
        """A value as it is kept, encrypted if there is a key, and its commitment."""
        return keep_plain(path, data) if self._vault is None else self._vault.seal(self.run_id, path, data)

    def _keep(self, commitment: str, value: Any, secret: bool) -> None:
        self._all.keep(commitment, value)
        if secret:
            self._secrets.keep(commitment, value)

    # ---- hiding and revealing

    def hide(self, draft: Draft) -> Draft:
        """An event as it is stored."""
        return Draft(draft.at_ms, draft.kind, _fields(draft.body, self.stored))

    def reveal(self, body: dict[str, Any]) -> dict[str, Any]:
        """An event's body as the kernel takes it. What was erased stays hidden."""
        return _fields(body, self._all.reveal)

    def stored(self, tree: Any) -> Any:
        """A value in the journal form (or plain JSON) as it is stored, without what is secret or redacted."""
        return self._all.hide(tree, to_store=True)

    def hide_value(self, tree: Any) -> Any:
        """A value in the journal form (or plain JSON) for people, without what is secret or redacted."""
        return self._all.hide(tree)

    def hide_secrets(self, tree: Any) -> Any:
        """A value without what is declared secret: what is only redacted stays."""
        return self._secrets.hide(tree)

    def reveal_value(self, tree: Any) -> Any:
        """The value that was hidden."""
        return self._all.reveal(tree)

    def told(self, text: str) -> str:
        """A text for people: what was erased is said to be."""
        return _MARK.sub(lambda mark: mark[0] if mark[1][:64] in self._all.values else ERASED, text)

    def erased_in(self, tree: Any) -> list[str]:
        """The commitments in a tree as the kernel has it whose values were erased."""
        return sorted({mark for mark in marks(tree) if mark not in self._all.values})

    # ---- what stands beside the journal

    def key_use(self, use: KeyUse) -> KeyUse:
        """How a declared key is kept in the table of keys. It must be found again from every other run, so it is no
        salted commitment: with secrets it is a keyed hash, and so is that of the arguments."""
        return KeyUse(use.tool, self.key_name(use.key), self.kept_digest(use.args_digest))

    def key_name(self, key: str) -> str:
        """The text under which a declared key is kept."""
        if self._all.hide(key) == key:
            return key
        data = key.encode("utf-8", "surrogatepass")
        return f"‹key {self._pseudonym(data).hex()}›"

    def kept_digest(self, digest: bytes) -> bytes:
        """A digest of values as it is kept where other runs have to find it again."""
        return self._pseudonym(digest) if self.sight.has_secrets and self._vault is not None else digest

    def _pseudonym(self, data: bytes) -> bytes:
        if self._vault is not None and self.sight.has_secrets:
            return self._vault.oldest.pseudonym(data)
        # What is only redacted need not have a key, and one that comes later must not change what a key stands for.
        return hashlib.sha256(b"jam key" + data).digest()

    def seal_message(self, body: dict[str, Any]) -> tuple[dict[str, Any], list[Erasable]]:
        """A message as it waits in the inbox: commitments in place of what it says, and the rows that hold that."""
        sealed, rows = dict(body), []
        for name in _SAID:
            if body.get(name):
                data = canonical(body[name]).encode()
                row, commitment = self._apart(MESSAGE, data)
                rows.append(row)
                sealed[name] = {"$redacted": commitment.hex()}
        return sealed, rows

    def open_message(self, body: dict[str, Any], rows: Iterable[Erasable]) -> dict[str, Any]:
        """The message that was sealed. Raises JamError JAMR413 for one that was erased."""
        found = {row.commitment.hex(): row for row in rows if row.path == MESSAGE}
        said = dict(body)
        for name in _SAID:
            if isinstance(body.get(name), dict) and set(body[name]) == {"$redacted"}:
                row = found.get(body[name]["$redacted"])
                if row is None:
                    raise JamError("JAMR413", f"what a message to {self.run_id} said was erased")
                said[name] = json.loads(opened(self._vault, self.run_id, row))
        return said


def _fields(body: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {name: value if name in _OWN else change(value) for name, value in body.items()}


def _forms(value: Any) -> list[str]:
    """How a value may stand in texts: itself, as JSON and Python quote it, the digits of a number."""
    if isinstance(value, dict) and len(value) == 1:
        ((tag, inner),) = value.items()
        return ["", inner] if tag.startswith("$") and isinstance(inner, str) else []
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ["", json.dumps(value)]
    if not isinstance(value, str):
        return []
    quoted = (json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1], repr(value)[1:-1])
    return list(dict.fromkeys((value, *quoted)))


def canonical(value: Any) -> str:
    """The JSON text that is committed to."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def marks(tree: Any) -> Iterator[str]:
    """The commitments that stand in a tree for what they hide."""
    if isinstance(tree, str):
        if "‹" in tree:
            yield from (mark[1][:64] for mark in _MARK.finditer(tree))
    elif isinstance(tree, dict):
        if len(tree) == 1 and isinstance(tree.get("$redacted"), str):
            yield tree["$redacted"]
        for name, item in tree.items():
            yield from marks(name)
            yield from marks(item)
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from marks(item)


def path_of(row: Erasable | str) -> str:
    """The path of a value as people name it; empty for what a message said, and for a digest of arguments."""
    path = row if isinstance(row, str) else row.path
    return "" if path in (MESSAGE, DIGEST) else path.removeprefix(_SECRET)


def under(path: str, stored: str) -> bool:
    """Whether what is stored under a path is, or is inside, what a person names. What messages said is inside of
    everything: a message may have brought any value, and a digest of arguments may be one of it."""
    name = path_of(stored)
    return not name or name == path or name.startswith((f"{path}.", f"{path}("))


def unmarked(tree: Any, kept: Container[str] | None = None) -> Any:
    """A stored tree for people, without hashes: `‹redacted›`, and `‹erased›` for what is not among those `kept`."""
    if isinstance(tree, str):
        return _MARK.sub(lambda mark: _word(mark[1][:64], kept), tree) if "‹" in tree else tree
    if isinstance(tree, dict):
        if len(tree) == 1 and isinstance(tree.get("$redacted"), str):
            return _word(tree["$redacted"], kept)
        return {unmarked(name, kept): unmarked(item, kept) for name, item in tree.items()}
    return [unmarked(item, kept) for item in tree] if isinstance(tree, list | tuple) else tree


def _word(commitment: str, kept: Container[str] | None) -> str:
    return "‹redacted›" if kept is None or commitment in kept else ERASED


def notes(agent: Agent, encrypted: bool) -> list[str]:
    """What a person should be told about the agent's redaction before it runs."""
    paths = ", ".join(".".join(path) for path in redacted_paths(agent))
    if not paths or encrypted:
        return []
    text = f"redact {paths}: the values are kept outside the journal, in the erasable table, and not encrypted"
    return [f"{text}; with JAM_KEY they are"]
