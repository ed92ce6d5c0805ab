"""Scripts in place of models, schemas, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, JamError, Scripted, compile_text
from jamjet_dsl.definition import Definition, MoneyType, OptionalType, Record, RecordType, Scalar
from jamjet_dsl.models.pydantic_ai import problem
from jamjet_dsl.models.schema import schema_of
from jamjet_dsl.store.memory import MemoryStore

TWO = """
model small { via openai "tiny" }
agent writer {
  output a: string?, b: string?
  budget { steps 9  tokens 90k  exceeded -> over }
  on error any -> over
  start state one { think "One." model small max prompt 1k max tokens 99 as a: string  -> pause }
  state pause { ask role "clerk" "Go on?" options yes timeout 1h as go  on yes -> two  on timeout -> over }
  state two { think "Two." model small max prompt 1k max tokens 99 as b: string  -> done }
  final done { a = a  b = b }
  failed over { }
}
"""


async def test_a_script_goes_on_where_the_journal_of_a_resumed_run_ends() -> None:
    store, script = MemoryStore(), {"small": ["first", "second", "third"]}
    async with Engine(store, models={"*": Scripted(script)}) as jam:
        await (await jam.start(compile_text(TWO), {}, id="t")).wait()
    async with Engine(store, models={"*": Scripted(script)}) as jam:
        await jam.answer("t", "yes", by="x")
        assert (await jam.run("t").wait()).output == {"a": "first", "b": "second"}


async def test_every_run_starts_at_the_first_answer() -> None:
    async with Engine(MemoryStore(), models={"small": Scripted({"one": ["first", "second"], "*": ["rest"]})}) as jam:
        for run_id in "pq":
            await (await jam.start(compile_text(TWO), {}, id=run_id)).wait()
            await jam.answer(run_id, "yes", by="x")
            assert (await jam.run(run_id).wait()).output == {"a": "first", "b": "rest"}


async def test_a_script_may_fail_and_runs_out_into_its_last_answer(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"one": [{"error": "RateLimited", "message": "slow"}]}))
    async with Engine(MemoryStore(), models={"*": Scripted.from_file(path)}) as jam:
        run = await jam.start(compile_text(TWO), {})
        assert (await run.wait()).state == "over"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"[", "JAMR301"),
        (b"7", "JAMR301"),
        (b'{"a": 1}', "JAMR301"),
        (b"[]", "JAMR301"),
        (b"\xff", "JAMR002"),
        (None, "JAMR001"),
    ],
)
def test_a_bad_script_is_refused(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "script.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JamError) as caught:
        Scripted.from_file(path)
    assert caught.value.code == code


async def test_a_script_never_stands_in_for_a_model_that_was_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "JAM_MODEL"):
        monkeypatch.delenv(name, raising=False)
    async with Engine(MemoryStore(), models={"large": Scripted(["x"])}) as jam:
        with pytest.raises(JamError) as caught:
            await jam.start(compile_text(TWO), {})
    assert caught.value.code == "JAMR303"
    assert "OPENAI_API_KEY" in caught.value.details[0]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("gpt", "PROVIDER:NAME"),
        (":x", "PROVIDER:NAME"),
        ("openai:", "PROVIDER:NAME"),
        ("anthropic:claude", "anthropic"),
    ],
)
def test_a_model_that_cannot_be_asked_says_what_is_missing(
    source: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    assert says in (problem(source) or "")


def test_without_the_extra_the_pip_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from jamjet_dsl.models import pydantic_ai

    monkeypatch.setattr(pydantic_ai, "find_spec", lambda name: None)
    assert 'pip install "jamjet-dsl[models]"' in (problem("openai:gpt") or "")


def defined(**records: dict[str, Any]) -> Definition:
    made = {
        name: Record.model_validate({"fields": [{"name": n, **f} for n, f in fields.items()]})
        for name, fields in records.items()
    }
    return Definition(main="a", agents={}, records=made)


def test_a_schema_says_what_the_types_say() -> None:
    definition = defined(
        Inner={"n": {"type": {"kind": "int", "low": 1}}},
        Outer={
            "inner": {"type": {"kind": "record", "name": "Inner"}, "doc": "the inner one"},
            "tags": {"type": {"kind": "list", "item": {"kind": "string"}, "high": 3}},
            "by_name": {"type": {"kind": "map", "key": {"kind": "string"}, "value": {"kind": "bool"}}},
            "maybe": {"type": {"kind": "optional", "item": {"kind": "float"}}},
        },
    )
    assert schema_of(RecordType(name="Outer"), definition) == {
        "type": "object",
        "properties": {
            "inner": {
                "type": "object",
                "properties": {"n": {"type": "integer", "minimum": 1}},
                "required": ["n"],
                "additionalProperties": False,
                "description": "the inner one",
            },
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
            "by_name": {"type": "object", "additionalProperties": {"type": "boolean"}},
            "maybe": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        },
        "required": ["inner", "tags", "by_name"],
        "additionalProperties": False,
    }
    assert "EUR" in schema_of(MoneyType(currency="EUR"), definition)["description"]
    assert "from 1 to 2" in schema_of(Scalar(kind="decimal", low="1", high="2"), definition)["description"]
    assert schema_of(OptionalType(item=Scalar(kind="timestamp")), definition)["anyOf"][0]["format"] == "date-time"
