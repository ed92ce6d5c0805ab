"""Values that are hidden in texts: none of them is left, whatever they share, and what was hidden comes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jamjet_dsl.engine.hidden import MARK, Hidden

words = st.text("ab1-", min_size=4, max_size=7)


def hidden(values: list[str]) -> Hidden:
    found = Hidden()
    for number, value in enumerate(values):
        found.keep(f"{number:064x}", value)
    return found


def test_of_values_that_overlap_nothing_is_left() -> None:
    found = hidden(["abcd1234", "1234-SECRET-TAIL", "TAIL of it"])
    text = "say abcd1234-SECRET-TAIL of it, abcd1234 and abcd1234"
    stored = found.hide(text, to_store=True)
    assert MARK.sub("*", stored) == "say ***, * and *"
    assert found.reveal(stored) == text


def test_a_value_that_overlaps_itself() -> None:
    found = hidden(["abab"])
    assert MARK.sub("*", found.hide("xababab", to_store=True)) == "x**"
    assert found.reveal(found.hide("xababab", to_store=True)) == "xababab"


@given(st.lists(words, min_size=1, max_size=4, unique=True), st.text("ab1-", max_size=40))
def test_no_character_of_a_value_is_left(values: list[str], text: str) -> None:
    found = hidden(values)
    stored = found.hide(text, to_store=True)
    covered = {
        at
        for value in values
        for at in range(len(text))
        if text.startswith(value, at)
        for at in range(at, at + len(value))
    }
    assert MARK.sub("", stored) == "".join(one for at, one in enumerate(text) if at not in covered)
    assert found.reveal(stored) == text


@given(st.lists(words, min_size=1, max_size=3, unique=True), st.text("ab1-‹›redact +/0", max_size=40))
def test_what_was_hidden_comes_back_whatever_the_text_says(values: list[str], text: str) -> None:
    found = hidden(values)
    assert found.reveal(found.hide(text, to_store=True)) == text
