"""Programs and places in them, for the tests of the renderers."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from jamjet_dsl.source import SourceFile, Span

Place = Callable[..., Span]


def find(source: SourceFile, text: str, nth: int = 0) -> Span:
    """The span of the nth occurrence (from 0) of a text."""
    starts = [m.start() for m in re.finditer(re.escape(text), source.text)]
    return Span(source, starts[nth], starts[nth] + len(text))


PROGRAM = """\
agent loan version 1 {
  policy {
    require approval review before pay
  }
  start state fetch {
    call bureau(app.ssn) as report
    when report.score > 700 -> done
    otherwise -> review
  }
}
"""


@pytest.fixture
def source() -> SourceFile:
    return SourceFile("loan.jam", PROGRAM)


@pytest.fixture
def place(source: SourceFile) -> Place:
    return lambda text, nth=0: find(source, text, nth)
