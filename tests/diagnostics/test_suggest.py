"""The suggestions in messages: near enough to help, never a wild guess."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jamjet_dsl.diagnostics.suggest import did_you_mean, edit_distance


@pytest.mark.parametrize(
    ("word", "candidates", "expected"),
    [
        ("Report", ["report", "retort"], "report"),  # case alone wins over a nearer spelling
        ("offcer_review", ["officer_review", "pay"], "officer_review"),
        ("otherwsie", ["otherwise", "on"], "otherwise"),  # neighbours swapped count one
        ("pya", ["pay", "paid"], "pay"),
        ("disburse", ["refund", "search"], None),
        ("x", ["y"], None),  # a word of one letter is near to everything
        ("", ["a"], None),
        ("pay", ["pay"], None),  # the word itself is no suggestion
        ("cat", ["bat", "car"], "bat"),  # a tie is settled by the alphabet
        ("a" * 100, ["a" * 99], None),
        ("A" * 100, ["a" * 100], "a" * 100),
    ],
)
def test_suggestion(word: str, candidates: list[str], expected: str | None) -> None:
    assert did_you_mean(word, candidates) == expected
    assert did_you_mean(word, reversed(candidates)) == expected


def test_two_edits_need_a_longer_word() -> None:
    assert did_you_mean("abcd", ["abxy"]) is None
    assert did_you_mean("abcdef", ["abcdxy"]) == "abcdxy"


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_distance_is_symmetric_and_bounded(a: str, b: str) -> None:
    exact = edit_distance(a, b, 20)
    assert exact == edit_distance(b, a, 20)
    assert (exact == 0) == (a == b)
    assert exact <= max(len(a), len(b))
    assert edit_distance(a, b, 2) == min(exact, 3)
