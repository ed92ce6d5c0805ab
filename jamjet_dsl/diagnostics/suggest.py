"""What a misspelt word was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 64
"""Words longer than this are compared for case only: nobody misspells such a name by a letter, and the cost of a
comparison grows with the square of the length."""


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `word` probably stands for, or None.

    A candidate that differs only in case wins. Else the nearest one by edit distance (insertions, deletions,
    substitutions and swaps of neighbours count one each) if it is no further than a third of the word's length,
    and at least one. The candidate that sorts first wins a tie, so the answer does not depend on any order.
    """
    folded = word.casefold()
    names = sorted({c for c in candidates if c != word})
    for name in names:
        if name.casefold() == folded:
            return name
    if len(word) > _LONGEST:
        return None
    best: str | None = None
    bound = max(1, len(word) // 3)
    for name in names:
        distance = edit_distance(folded, name.casefold(), bound)
        # A candidate with nothing in common with a word of one letter is no help.
        if distance <= bound and distance < max(len(word), len(name)):
            best, bound = name, distance - 1
    return best


def edit_distance(a: str, b: str, limit: int) -> int:
    """The Damerau-Levenshtein distance (optimal string alignment), or `limit + 1` where it is more than `limit`."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    before_last: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before_last[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
        before_last, last = last, row
    return min(last[-1], limit + 1)
