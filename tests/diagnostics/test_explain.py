"""`explain` knows every code, and what somebody meant who mistyped one."""

from __future__ import annotations

from pathlib import Path

import pytest

from jamjet_dsl.diagnostics.codes import CODES
from jamjet_dsl.diagnostics.errors import ERRORS, JamError
from jamjet_dsl.diagnostics.explain import explain, page

PAGES = Path(__file__).resolve().parents[2] / "specs" / "diagnostics"


@pytest.mark.parametrize("code", [*CODES, *ERRORS])
def test_every_code_is_explained(code: str) -> None:
    assert explain(code).startswith(f"# {code}: ")


def test_every_code_of_a_finding_has_a_page_and_every_page_a_code() -> None:
    """A page that is missing would be made up of the title alone, and nobody would notice."""
    assert {path.stem for path in PAGES.glob("*.md")} == set(CODES)
    for code, row in CODES.items():
        assert page(code).startswith(f"# {code}: {row.title}\n"), code


def test_every_error_says_what_to_do() -> None:
    for code, row in ERRORS.items():
        told = explain(code)
        assert f"What to do: {row.help}." in told, code
        assert row.slug in told, code


def test_case_and_slugs_work() -> None:
    assert explain("jam990") == explain("JAM990") == explain("suppression")
    assert explain(" jamr001 ") == explain("file-unreadable")


@pytest.mark.parametrize(
    ("typed", "meant"), [("JAM99O", "JAM990"), ("unreachabel", "unreachable"), ("JAMR9O1", "JAMR901")]
)
def test_a_near_code_is_offered(typed: str, meant: str) -> None:
    with pytest.raises(JamError) as refused:
        explain(typed)
    assert refused.value.code == "JAMR006"
    assert f"did you mean `{meant}`?" in refused.value.help


def test_nonsense_is_refused_with_what_codes_look_like() -> None:
    with pytest.raises(JamError) as refused:
        explain("x" * 10_000)
    assert len(str(refused.value)) < 400
    assert "JAM101" in refused.value.help
