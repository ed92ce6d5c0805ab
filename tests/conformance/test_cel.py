"""The conformance suite as a test, and the runner itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import cel
from tests.conformance.cel_excluded import EXCLUDED


def test_all_cases_of_the_core_file_pass(capsys: pytest.CaptureFixture[str]) -> None:
    if not cel.default_file().is_file():
        pytest.skip("no conformance data: set JAM_SHARED_DATA")
    code = cel.main([])
    out = capsys.readouterr().out.splitlines()
    assert (code, out[-1]) == (0, f"{700 - len(EXCLUDED)} passed, 0 failed, {len(EXCLUDED)} excluded")
    assert len(EXCLUDED) <= 15


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], *cases: dict[str, Any]) -> tuple[int, str]:
    file = tmp_path / "cases.jsonl"
    file.write_text(
        "".join(json.dumps({"file": "f", "section": "s", **case}) + "\n" for case in cases), encoding="utf-8"
    )
    code = cel.main([str(file)])
    return code, capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    "case",
    [
        {"expr": "1", "value": {"uint64Value": "1"}},
        {"expr": "1", "value": {"doubleValue": 1}},
        {"expr": "1", "value": {"int64Value": "2"}},
        {"expr": "true", "value": {"int64Value": "1"}},
        {"expr": "[1]", "value": {"listValue": {"values": [{"doubleValue": 1}]}}},
        {
            "expr": "{1: 2}",
            "value": {"mapValue": {"entries": [{"key": {"uint64Value": "1"}, "value": {"int64Value": "2"}}]}},
        },
        {"expr": "1", "evalError": {"errors": [{"message": "x"}]}},
        {"expr": "1 / 0", "value": {"int64Value": "1"}},
        {"expr": "1", "value": {"int64Value": "1"}, "type": "uint"},
        {"expr": "1 +", "value": {"int64Value": "1"}},
        {"expr": "1", "value": {"objectValue": {"@type": "type.googleapis.com/x.Y"}}},
    ],
)
def test_a_case_that_gives_something_else_fails(
    case: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, capsys, case) == (1, "0 passed, 1 failed, 0 excluded")


def test_other_files_of_the_suite_can_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ts = "type.googleapis.com/google.protobuf."
    cases: list[dict[str, Any]] = [
        {
            "expr": "timestamp('2009-02-13T23:31:30Z') - duration('1h')",
            "value": {"objectValue": {"@type": ts + "Timestamp", "value": "2009-02-13T22:31:30Z"}},
            "type": "google.protobuf.Timestamp",
        },
        {"expr": "duration('1.5s')", "value": {"objectValue": {"@type": ts + "Duration", "value": "1.5s"}}},
        {"expr": "type(1u)", "value": {"typeValue": "uint"}, "type": "type(uint)"},
        {"expr": "list", "value": {"typeValue": "list"}, "type": "type(list(dyn))"},
        {"expr": "type(duration('1s')) == google.protobuf.Duration", "value": {"boolValue": True}},
        {
            "expr": "y",
            "container": "x",
            "bindings": {"x.y": {"value": {"boolValue": True}}, "y": {"value": {"boolValue": False}}},
            "value": {"boolValue": True},
        },
        {
            "expr": ".y",
            "container": "x",
            "bindings": {"x.y": {"value": {"boolValue": True}}, "y": {"value": {"boolValue": False}}},
            "value": {"boolValue": False},
        },
        {
            "expr": "{k: 1}",
            "bindings": {"k": {"value": {"stringValue": "a"}}},
            "value": {"mapValue": {"entries": [{"key": {"stringValue": "a"}, "value": {"int64Value": "1"}}]}},
        },
        {"expr": "[1].map(x, x)", "typedResult": {"result": {"listValue": {"values": [{"int64Value": "1"}]}}}},
        {"expr": "true"},
        {"expr": "0.0 / 0.0", "value": {"doubleValue": "NaN"}},
    ]
    assert run(tmp_path, capsys, *cases) == (0, f"{len(cases)} passed, 0 failed, 0 excluded")


def test_an_exclusion_that_passes_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXCLUDED, ("f", "s", "1"), "a reason")
    assert run(tmp_path, capsys, {"expr": "1", "value": {"int64Value": "1"}}) == (1, "0 passed, 1 failed, 0 excluded")
    assert run(tmp_path, capsys, {"expr": "1", "value": {"int64Value": "2"}}) == (0, "0 passed, 0 failed, 1 excluded")


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cel.main(["nowhere.jsonl"]) == 2
    assert "nowhere.jsonl" in capsys.readouterr().out
