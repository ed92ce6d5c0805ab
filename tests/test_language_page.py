"""docs/language.md teaches by programs: each is in order, its tests pass, and no word of the language is left out."""

from __future__ import annotations

import re
from typing import Any

import pytest

from jamjet_dsl import Engine, compiler
from jamjet_dsl.engine.clock import SimClock
from jamjet_dsl.engine.testing import run_tests
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.syntax.format import format_source
from jamjet_dsl.syntax.lexer import keywords
from tests import spec_harness as harness
from tests.examples.pages import ROOT

PAGE = ROOT / "docs" / "language.md"
CASES = harness.cases(PAGE)
HOUR = 3_600_000


def program(agent: str) -> str:
    """The program of the page that declares an agent."""
    (text,) = [case.program.text for case in CASES if f"agent {agent} " in case.program.text]
    return text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_program_is_in_order(case: harness.Case) -> None:
    assert harness.check(case.program.text) == [], harness.explained(case.program.text)
    for text in harness.files_of(case.program.text).values():
        assert format_source(format_source(text)) == format_source(text)


@pytest.mark.parametrize("case", [c for c in CASES if '\ntest "' in c.program.text], ids=lambda case: case.name)
def test_the_tests_in_the_programs_pass(case: harness.Case) -> None:
    checked = compiler.analyse_text(case.program.text, "page.jam")
    results = [
        result
        for agent in checked.analysis.main_agents()
        for result in run_tests(compiler.lower_for_drawing(checked, agent.name))
    ]
    assert len(results) == case.program.text.count('\ntest "')
    assert [(r.title, f.message) for r in results for f in r.failures] == []


def test_every_keyword_stands_in_a_program_or_is_named() -> None:
    words = set(re.findall(r"[A-Za-z_]+", PAGE.read_text(encoding="utf-8")))
    assert set(keywords()) - words == set()


async def test_the_payout_waits_for_the_parcel_the_day_and_the_officer_and_pays_once() -> None:
    clock, paid = SimClock(), []

    async def wire(to: str, amount: Any) -> str:
        paid.append((to, str(amount)))
        return "w-1"

    async with Engine(MemoryStore(), tools={"wire": wire}, clock=clock) as jam:
        run = await jam.start(
            compiler.compile_text(program("payout")), {"to": "acc-1", "amount": "20.00 USD"}, id="r", drive=True
        )
        await clock.advance(HOUR)
        assert jam.show("r").state == "parcel"
        await jam.send("r", "delivered", {"at": "2023-11-15T00:00:00Z", "parcel": "p1"})
        await clock.advance(48 * HOUR)
        assert jam.show("r").state == "review"
        assert paid == []
        await jam.answer("r", "later", by="olivia")
        await clock.advance(HOUR)
        await jam.answer("r", "approve", by="olivia", form={"note": "fine"})
        view = await run.wait()
        told = [e.body for e in jam.history("r") if e.kind == "emitted" or "progress" in str(e.body)]
    assert (view.status, view.output) == ("completed", {"id": "w-1"})
    assert paid == [("acc-1", "20.00 USD")]
    assert "delivered: p1" in str(told)
