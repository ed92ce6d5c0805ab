"""Where the analysis collects what it finds."""

from __future__ import annotations

from collections.abc import Iterable

from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.diagnostics.suggest import did_you_mean
from jamjet_dsl.source import Span

_SUGGESTIONS = 100
"""Candidates are compared with this many misspelt names at most: with more errors than that nobody reads the
hints, and comparing all names with all names would be the one quadratic thing in `jam check`."""


class Report:
    """A growing list of findings; one per analysis, shared by its phases.

    `guessed` are the names that misspelt ones were probably meant to be: they are not called unused.
    """

    __slots__ = ("_left", "found", "guessed")

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self.guessed: set[str] = set()
        self._left = _SUGGESTIONS

    def add(
        self, code: str, span: Span, message: str, help: str = "", why: str = "", labels: tuple[Label, ...] = ()
    ) -> None:
        """Adds one finding; see `Diagnostic` for what the parts mean."""
        self.found.append(Diagnostic(code, message, span, labels=labels, why=why, help=help))

    def meant(self, word: str, candidates: Iterable[str], otherwise: str = "") -> str:
        """The help for a misspelt word: what it was probably meant to be, else `otherwise`."""
        if self._left <= 0:
            return otherwise
        self._left -= 1
        guess = did_you_mean(word, candidates)
        if guess:
            self.guessed.add(guess)
        return f"did you mean `{guess}`?" if guess else otherwise
