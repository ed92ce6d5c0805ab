"""The fuzzers themselves: what they must notice, and the inputs that are slow or odd by kind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from jamjet_dsl.syntax.format import Formatted, format_program
from tests.fuzz import run, target
from tests.fuzz.mutate import Mutator, large, seeds
from tests.fuzz.target import KIB64, Broken, examine

LARGE = large(KIB64, random.Random(7))
SOUND = b"agent a {\n  start state s { -> t }\n  final t {}\n}\n"


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Failing inputs of tests are kept with the test."""
    monkeypatch.setattr(run, "KEPT", tmp_path / "kept")
    return tmp_path / "kept"


@pytest.mark.parametrize("kind", LARGE)
def test_64_kib_of_anything_end_with_a_diagnostic_and_no_exception(kind: str) -> None:
    assert len(LARGE[kind]) == KIB64
    seen = examine(LARGE[kind])
    harmless = "'\\n' again and again", "'// c\\n' again and again"
    assert seen.findings > 0 or not seen.read or kind in harmless


def test_a_sound_program_is_seen_as_one() -> None:
    assert examine(SOUND)[:3] == (True, True, True)
    assert examine(b"agent {")[:3] == (True, False, False)
    assert examine(b"\xff")[:3] == (False, False, False)


def test_a_formatter_that_is_not_idempotent_or_changes_the_meaning_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def longer(source: object) -> Formatted:
        return Formatted(source.text + "\n", [])  # type: ignore[attr-defined]

    monkeypatch.setattr(target, "format_program", longer)
    with pytest.raises(Broken, match="twice"):
        examine(SOUND)
    renamed = SOUND.replace(b"state s", b"state other").decode()
    monkeypatch.setattr(target, "format_program", lambda _source: Formatted(renamed, []))
    with pytest.raises(Broken, match="definition"):
        examine(SOUND)


def test_a_formatter_that_disagrees_with_the_checker_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = format_program(target.SourceFile("x", "agent {")).diagnostics
    monkeypatch.setattr(target, "format_program", lambda source: Formatted(source.text, errors))
    with pytest.raises(Broken, match="refuses"):
        examine(SOUND)


def test_a_failure_is_counted_once_a_place_and_its_input_kept(
    monkeypatch: pytest.MonkeyPatch, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(data: bytes, thorough: bool) -> None:
        raise IndexError(len(data))

    monkeypatch.setattr(run, "examine", crash)
    campaign = run.Campaign()
    campaign.check(b"one")
    campaign.check(b"two")
    assert (campaign.inputs, len(campaign.failures)) == (2, 1)
    (path,) = kept.iterdir()
    assert path.read_bytes() == b"one"
    assert "FAILURE IndexError in test_fuzz.py" in capsys.readouterr().out


def test_without_atheris_it_says_so_and_fuzzes_with_a_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "find_spec", lambda _name: None)
    monkeypatch.setattr(run, "latency", lambda _campaign, _rng: None)
    monkeypatch.setattr(run, "seeds", lambda: [SOUND.decode()])
    assert run.main(["1"]) == 0
    out = capsys.readouterr().out
    assert "atheris is not installed" in out
    count, _, rest = out.splitlines()[-1].partition(" ")
    assert rest == "inputs, 0 failures"
    assert int(count) > 1


def test_the_command_fails_if_an_input_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(_data: bytes, thorough: bool) -> None:
        raise IndexError

    monkeypatch.setattr(run, "examine", crash)
    monkeypatch.setattr(run, "latency", lambda _campaign, _rng: None)
    assert run.main(["0"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("inputs, 1 failures")


def test_the_same_numbers_make_the_same_inputs_within_the_limit() -> None:
    mutate = Mutator(seeds())
    one = [mutate(SOUND, random.Random(n), 200) for n in range(200)]
    assert one == [mutate(SOUND, random.Random(n), 200) for n in range(200)]
    assert len(set(one)) > 150
    assert all(len(data) <= 200 for data in one)
