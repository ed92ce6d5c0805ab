"""Runs the `eval` blocks of `specs/20-expressions.md`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.evaluate.expression import eval_text
from jamjet_dsl.kernel.values import to_public

SPEC = Path(__file__).resolve().parents[2] / "specs" / "20-expressions.md"


def lines() -> list[tuple[str, str]]:
    found = []
    for block in re.findall(r"```eval\n(.*?)```", SPEC.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            text, _, expected = line.rpartition("=>")
            found.append((text.strip(), expected.strip()))
    return found


def test_the_chapter_has_examples() -> None:
    assert len(lines()) > 40


@pytest.mark.parametrize(("text", "expected"), lines())
def test_the_specification_says_what_the_evaluator_does(text: str, expected: str) -> None:
    if expected.startswith("error "):
        with pytest.raises(JamError) as caught:
            eval_text(text)
        assert caught.value.code == expected.removeprefix("error ")
    else:
        found = to_public(eval_text(text))
        wanted = json.loads(expected)
        assert (found, type(found)) == (wanted, type(wanted))
