"""Values with their commitments: found in trees and texts, and put back.

A text is hidden as `‹redacted HASH›`, any other value as `{"$redacted": HASH}`, a value that stands in a text in
another form (as JSON or Python quotes it, the digits of a number) as `‹redacted HASH/N›`. Where two values overlap in a
text, `+K` before the `›` says how many characters of the second one belong to the first too. What somebody else wrote
so is no mark: a word is put before it where it is stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

MARK = re.compile("‹redacted ([0-9a-f]{64}(?:/[0-9])?(?:\\+[0-9]+)?)›")
_WRITTEN = re.compile(f"{MARK.pattern}|‹literal ((?:literal )*redacted )")
_LOOKS_LIKE = re.compile("‹((?:literal )*redacted )")
"""What looks like a mark and is none, since somebody wrote it. Where it is stored a word stands before it: marks can be
read in histories and exports, and nobody must be given a hidden value for having written down its mark."""
ERASED = "‹erased›"
"""How a value that was erased is shown."""
_SHORT = 4
"""A text of fewer characters is hidden only where it stands alone, or where nothing but values can stand."""


class Hidden:
    """Values with their commitments, to be found in trees and texts and put back."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.wholes: dict[str, str] = {}
        """Texts that are made of values, with their commitments: hidden only as such, and nowhere else."""
        self._made: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._others: dict[str, str] = {}
        self._inner: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None
        self._short: tuple[re.Pattern[str], re.Pattern[str]] | None = None

    def knows(self, commitment: str) -> bool:
        """Whether it is known what a commitment stands for."""
        return commitment in self.values or commitment in self._made

    def keep_whole(self, commitment: str, text: str) -> None:
        """From now on the text is hidden wherever a text made of values stands."""
        self.wholes[text] = commitment
        self._made[commitment] = text

    def is_bare(self, text: str, *, sentence: bool = False) -> bool:
        """Whether a hidden text is without the short values too, which `hide` leaves alone inside of a text. In a
        `sentence` they count only as words of their own."""
        if self._short is None:
            short = "|".join(re.escape(form) for form in self._inner.values() if 0 < len(form) < _SHORT) or "(?!)"
            self._short = re.compile(short), re.compile(rf"(?<!\w)(?:{short})(?!\w)")
        return self._short[sentence].search(MARK.sub("", text)) is None

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
        self._pattern = self._short = None

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
        if found[2] is not None:
            return f"‹{found[2]}"
        name, _, shared = found[1].partition("+")
        value = self._inner.get(name) or self._made.get(name)
        return found[0] if value is None else value[int(shared or 0) :]

    def _hide_text(self, text: str, to_store: bool) -> str:
        if text in self._texts:
            return f"‹redacted {self._texts[text]}›"
        if self._pattern is None:
            # The longest first: one value may be a part of another.
            long = sorted((t for t in self._texts if len(t) >= _SHORT), key=len, reverse=True)
            self._pattern = re.compile(f"(?=({'|'.join(map(re.escape, long))}))" if long else "(?!)")
        parts, end = list[str](), 0
        for found in self._pattern.finditer(text):
            start, after = found.span(1)
            if after > end:
                shared = f"+{end - start}" if start < end else ""
                parts += [text[end:start], f"‹redacted {self._texts[found[1]]}{shared}›"]
                end = after
        parts.append(text[end:])
        if to_store:
            parts[::2] = [_LOOKS_LIKE.sub("‹literal \\1", part) for part in parts[::2]]
        return "".join(parts)


def _forms(value: Any) -> list[str]:
    """How a value may stand in texts: itself, as JSON and Python quote it, the digits of a number. Their places in the
    list are stored; an empty one stands for nothing."""
    if isinstance(value, dict) and len(value) == 1:
        ((tag, inner),) = value.items()
        if not tag.startswith("$") or not isinstance(inner, str):
            return []
        amount = inner.partition(" ")[0]
        return ["", inner, amount if amount != inner else "", _shortest(amount, inner)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ["", json.dumps(value)]
    if not isinstance(value, str):
        return []
    quoted = (json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1], repr(value)[1:-1])
    return list(dict.fromkeys((value, *quoted)))


def _shortest(amount: str, written: str) -> str:
    """A decimal number without zeros at its end, if that is another text."""
    try:
        text = format(Decimal(amount).normalize(), "f")
    except InvalidOperation:
        return ""
    return "" if text in (amount, written) else text


def canonical(value: Any) -> str:
    """The JSON text that is committed to."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def marks(tree: Any) -> Iterator[str]:
    """The commitments that stand in a tree for what they hide."""
    if isinstance(tree, str):
        if "‹" in tree:
            yield from (mark[1][:64] for mark in MARK.finditer(tree))
    elif isinstance(tree, dict):
        if len(tree) == 1 and isinstance(tree.get("$redacted"), str):
            yield tree["$redacted"]
        for name, item in tree.items():
            yield from marks(name)
            yield from marks(item)
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from marks(item)


def unmarked(tree: Any, kept: Container[str] | None = None) -> Any:
    """A stored tree for people, without hashes: `‹redacted›`, and `‹erased›` for what is not among those `kept`."""
    if isinstance(tree, str):
        return MARK.sub(lambda mark: _word(mark[1][:64], kept), tree) if "‹" in tree else tree
    if isinstance(tree, dict):
        if len(tree) == 1 and isinstance(tree.get("$redacted"), str):
            return _word(tree["$redacted"], kept)
        return {unmarked(name, kept): unmarked(item, kept) for name, item in tree.items()}
    return [unmarked(item, kept) for item in tree] if isinstance(tree, list | tuple) else tree


def _word(commitment: str, kept: Container[str] | None) -> str:
    return "‹redacted›" if kept is None or commitment in kept else ERASED
