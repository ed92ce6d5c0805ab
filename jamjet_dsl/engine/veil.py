"""Secret and redacted values, which the journal commits to without holding them.

In everything that is stored such a text reads `‹redacted HASH›`, any other such value is `{"$redacted": HASH}`, where
HASH is SHA-256 over a random salt and the value. Salt and value lie in the erasable table, encrypted if there is a key
(`vault`): forgetting a row there forgets the value and leaves every hash of the journal valid. The kernel sees the
values themselves; they are put back before a journal is folded.

What has to be hidden is learned from the declared types and the policy (`sight`). Then it is hidden wherever it turns
up among what programs compute with (`shape`), also where a tool has put it into an error or a result (`hidden`). What
is shorter than four characters is hidden only where it stands alone; a text that is made of values is hidden as a
whole if such a one stands in it, and so is an amount that a limit adds up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from jamjet_dsl.definition import Agent
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine import shape
from jamjet_dsl.engine.hidden import ERASED, MARK, Hidden, canonical, marks
from jamjet_dsl.engine.shape import Change
from jamjet_dsl.engine.sight import DIGEST, Found, Sight, redacted_paths
from jamjet_dsl.engine.vault import Vault, keep_plain, opened
from jamjet_dsl.kernel.model import RunState
from jamjet_dsl.ports import Draft, Erasable, KeyUse

_SECRET = "secret "
"""Stands before the path of a value that is declared `secret`, and not only redacted."""
MESSAGE = "(message)"
"""Stands for the path of a message that waits in the inbox: all that it says is kept apart."""
DERIVED = "(derived)"
"""Stands for the path of a text that is made of values: what a limit counts for or adds up, the key of a call."""
_SAID = ("form", "payload", "result", "note")


class Veil:
    """The hidden values of one run."""

    def __init__(self, sight: Sight, run_id: str, known: Iterable[Erasable] = (), vault: Vault | None = None) -> None:
        self.sight = sight
        self.run_id = run_id
        self._vault = vault
        self._all = Hidden()
        self._secrets = Hidden()
        """The part of them that is declared secret: hidden in outputs and texts for people too."""
        self._paths: dict[str, str] = {}
        """By commitment, the path under which a value is kept."""
        self._storing = Change(self.stored, self._stored_whole, self._set_apart, self._stored_sentence)
        self._revealing = Change(*[self.reveal_value] * 4)
        self.unsaved: list[Erasable] = []
        """What was committed to and not stored yet."""
        self._remember(known)

    def _remember(self, known: Iterable[Erasable]) -> None:
        for row in known:
            if row.path == MESSAGE:
                continue
            value = json.loads(opened(self._vault, self.run_id, row))
            if row.path == DERIVED:
                self._all.keep_whole(row.commitment.hex(), value)
            else:
                self._keep(row.commitment.hex(), value, row.path.startswith(_SECRET))
                self._paths[row.commitment.hex()] = row.path.removeprefix(_SECRET)

    def rows(self) -> dict[str, tuple[Any, bool]]:
        """By commitment, every value that is known, and whether it is declared secret."""
        return {name: (value, name in self._secrets.values) for name, value in self._all.values.items()}

    def path(self, commitment: str) -> str:
        """The path under which a value is kept: where it was found first."""
        return self._paths.get(commitment, f"from {self.run_id}")

    def wholes(self) -> list[tuple[str, str]]:
        """The texts made of values that are hidden, with their commitments."""
        return list(self._all.wholes.items())

    def knows(self, commitment: str) -> bool:
        """Whether the value of a commitment is known."""
        return self._all.knows(commitment)

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
        for commitment, (value, secret) in other.rows().items():
            self._learn([Found(other.path(commitment), value, secret)])

    def _learn(self, found: Iterable[Found]) -> None:
        for path, value, secret in found:
            if value is None or value == "" or self._known(value, secret):
                continue
            if isinstance(value, str) and MARK.fullmatch(value):
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
        self._paths[made.hex()] = path
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
        return Draft(draft.at_ms, draft.kind, shape.event(draft.body, self._storing))

    def reveal(self, body: dict[str, Any]) -> dict[str, Any]:
        """An event's body as the kernel takes it. What was erased stays hidden."""
        return shape.event(body, self._revealing)

    def hide_state(self, tree: Any) -> Any:
        """A state (its JSON) as it is stored."""
        return shape.state(tree, self._storing)

    def reveal_state(self, tree: Any) -> Any:
        """A state as the kernel wrote it."""
        return shape.state(tree, self._revealing)

    def _stored_whole(self, text: str, sentence: bool = False) -> str:
        """A text that is made of values, as it is stored."""
        hidden: str = self.stored(text)
        return hidden if self._all.is_bare(hidden, sentence=sentence) else self._set_apart(text)

    def _stored_sentence(self, text: str) -> str:
        return self._stored_whole(text, True)

    def _set_apart(self, text: str) -> str:
        mark = MARK.fullmatch(text)
        if mark is not None and not self.knows(mark[1][:64]):
            return text  # It was erased where it came from: nothing is left to be hidden.
        commitment = self._whole_commitment(text)
        return text if commitment is None else f"‹redacted {commitment}›"

    def _whole_commitment(self, text: str) -> str | None:
        known = self._all.wholes.get(text)
        if known is None:
            row, made = self._apart(DERIVED, canonical(text).encode())
            self.unsaved.append(row)
            known = made.hex()
            self._all.keep_whole(known, text)
        return known

    def stored(self, tree: Any) -> Any:
        """A value in the journal form (or plain JSON) as it is stored, without what is secret or redacted."""
        return self._all.hide(tree, to_store=True)

    def hide_body(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body of an event for people, without what is secret or redacted."""
        return shape.event(body, Change(self.hide_value, self.hide_whole, self.hide_whole, self.hide_value))

    def hide_whole(self, text: str) -> str:
        """A text made of values for people."""
        hidden: str = self.hide_value(text)
        return hidden if self._all.is_bare(hidden) else "‹redacted›"

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
        return MARK.sub(lambda mark: mark[0] if self.knows(mark[1][:64]) else ERASED, text)

    def erased_in(self, tree: Any) -> list[str]:
        """The commitments in a tree as the kernel has it whose values were erased."""
        return sorted({mark for mark in marks(tree) if not self.knows(mark)})

    # ---- what stands beside the journal

    def key_use(self, use: KeyUse) -> KeyUse:
        """How a declared key is kept in the table of keys. It must be found again from every other run, so it is no
        salted commitment: with a key it is a keyed hash, and so is the digest of the arguments."""
        bare = self._all.hide(use.key) == use.key and self._all.is_bare(use.key)
        name = use.key if bare else self.key_names(use.key)[0]
        return KeyUse(use.tool, name, self.digests(use.args_digest)[0])

    def key_names(self, key: str) -> list[str]:
        """The names under which a declared key may be kept if a value stands in it, the one that is used now first."""
        data = key.encode("utf-8", "surrogatepass")
        keyed = [] if self._vault is None else [f"‹key {self._vault.oldest.pseudonym(data).hex()}›"]
        return [*keyed, open_name(key)]

    def digests(self, digest: bytes) -> list[bytes]:
        """How a digest of arguments may be kept, the way that is used now first."""
        return [digest] if self._vault is None else [self._vault.oldest.pseudonym(digest), digest]

    def kept_digest(self, digest: bytes) -> bytes:
        """A digest of values as it is kept where other runs have to find it again, and nothing else will do: what is
        only redacted need not have a key, and one that comes later must not change what the digest stands for."""
        return self.digests(digest)[0] if self.sight.has_secrets else digest

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


def open_name(key: str) -> str:
    """The name under which a declared key is kept that has a hidden value in it, where nothing is encrypted."""
    data = key.encode("utf-8", "surrogatepass")
    return f"‹key {hashlib.sha256(b'jam key' + data).hexdigest()}›"


def path_of(row: Erasable | str) -> str:
    """The path of a value as people name it; empty for what a message said, and for a digest of arguments."""
    path = row if isinstance(row, str) else row.path
    return "" if path in (MESSAGE, DIGEST, DERIVED) else path.removeprefix(_SECRET)


def under(path: str, stored: str) -> bool:
    """Whether what is stored under a path is, or is inside, what a person names. What messages said is inside of
    everything: a message may have brought any value, and a digest of arguments may be one of it."""
    name = path_of(stored)
    return not name or name == path or name.startswith((f"{path}.", f"{path}("))


def notes(agent: Agent, encrypted: bool) -> list[str]:
    """What a person should be told about the agent's redaction before it runs."""
    paths = ", ".join(".".join(path) for path in redacted_paths(agent))
    if not paths or encrypted:
        return []
    text = f"redact {paths}: the values are kept outside the journal, in the erasable table, and not encrypted"
    return [f"{text}; with JAM_KEY they are"]
