"""`explain` knows every code, and what somebody meant who mistyped one."""

from __future__ import annotations

import pytest

from jamjet_dsl.diagnostics.codes import CODES
from jamjet_dsl.diagnostics.errors import ERRORS, JamError
from jamjet_dsl.diagnostics.explain import explain


@pytest.mark.parametrize("code", [*CODES, *ERRORS])
def test_every_code_is_explained(code: str) -> None:
    assert explain(code).startswith(f"# {code}: ")


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
