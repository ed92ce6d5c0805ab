"""The two lexers for editors and documents know every word of the grammar and leave nothing of a program out."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygments.token import Comment, Error, Keyword, Name, Number, String, Token

from jamjet_dsl.diagnostics import tint
from jamjet_dsl.syntax.highlight import JamLexer
from jamjet_dsl.syntax.lexer import scan
from jamjet_dsl.syntax.tables import tables
from tests.generators import program

ROOT = Path(__file__).resolve().parents[2]
EDITORS = ROOT / "editors"
PROGRAMS = sorted([*ROOT.glob("examples/**/*.jam"), *ROOT.parent.glob("shared/design/examples/*.jam")])
KEYWORDS = {text for text in tables().literals.values() if text[0].isalpha()}


def test_the_words_are_those_of_the_grammar() -> None:
    assert tint.DECLARATIONS | tint.CLAUSES | tint.CONSTANTS == KEYWORDS
    assert tint.DECLARATIONS.isdisjoint(tint.CLAUSES)


# ---- Pygments


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_pygments_classifies_every_token_of_a_program(path: Path) -> None:
    check_pygments(path.read_text("utf-8"))


def test_pygments_classifies_whatever_the_grammar_derives() -> None:
    for seed in range(60):
        text = program(random.Random(seed))
        if not scan(text).bad:
            check_pygments(text)


def check_pygments(text: str) -> None:
    pieces = list(JamLexer().get_tokens_unprocessed(text))
    assert "".join(value for _, _, value in pieces) == text
    assert not [value for _, kind, value in pieces if kind is Error]
    kinds = {start: kind for start, kind, _ in pieces}
    found = scan(text)
    for token in found.tokens[:-1]:
        assert token.start in kinds, token
        if token.kind == "STRING":
            assert kinds[token.start] in String
    assert all(kinds[comment.start] in Comment or kinds[comment.start] in String.Doc for comment in found.comments)


def classes(text: str) -> list[tuple[Any, str]]:
    return [
        (kind, value) for _, kind, value in JamLexer().get_tokens_unprocessed(text) if kind is not Token.Text.Whitespace
    ]


def test_pygments_knows_keywords_names_and_what_stands_in_a_text() -> None:
    found = classes('state x { ask role "to {a.b} {{" show x.state?, steps  wait 30m } record R { text: money }')
    assert found[:2] == [(Keyword.Declaration, "state"), (Name, "x")]
    assert (String.Interpol, "{a.b}") in found
    assert (String.Escape, "{{") in found
    assert (Name.Attribute, "state") in found
    assert (Number, "30m") in found
    assert (Keyword.Type, "money") in found
    assert [kind for kind, value in classes('{ text: a, call: "b" }') if value in ("text", "call")] == [
        Name,
        Name.Attribute,
    ]
    assert [kind for kind, value in classes("backoff 1s x 2 as x  from any state a final") if value in "xa"] == [
        Keyword,
        Name,
        Keyword,
    ]
    assert [kind for kind, value in classes('r"{x}" b"\\n"') if value != ""] == [String, String]


@given(st.text(st.sampled_from("ab{}()\"'`$1.:=/\\ \n日rx"), max_size=80))
def test_pygments_never_fails_or_loses_text(text: str) -> None:
    assert "".join(value for _, _, value in JamLexer().get_tokens_unprocessed(text)) == text


def test_the_entry_point_is_declared() -> None:
    assert '[project.entry-points."pygments.lexers"]\njam = "jamjet_dsl.syntax.highlight:JamLexer"' in (
        ROOT / "pyproject.toml"
    ).read_text("utf-8")


# ---- TextMate, run by an interpreter of the few features that the grammar uses


class TextMate:
    """`match` with captures, `begin` and `end` with patterns inside, and `include`, line by line, as editors do it."""

    def __init__(self, grammar: dict[str, Any]) -> None:
        self.repository = grammar["repository"]
        self.top = grammar["patterns"]

    def rules(self, patterns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found = []
        for rule in patterns:
            if "include" in rule:
                found += self.rules(self.repository[rule["include"][1:]]["patterns"])
            else:
                found.append(rule)
        return found

    def scopes(self, text: str) -> list[str]:
        """The scope of each character; empty where there is none."""
        scopes: list[str] = []
        stack: list[dict[str, Any]] = []
        for line in text.splitlines(keepends=True):
            row = [""] * len(line)
            at = 0
            while at <= len(line.rstrip("\n")):
                inside = stack[-1] if stack else None
                rules = self.rules(inside.get("patterns", []) if inside else self.top)
                tries = [(re.compile(r.get("match") or r["begin"]).search(line.rstrip("\n"), at), r) for r in rules]
                if inside:
                    tries.insert(0, (re.compile(inside["end"]).search(line.rstrip("\n"), at), {"pop": True}))
                hits = [(m, r) for m, r in tries if m]
                if not hits:
                    self.fill(row, at, len(row), inside)
                    break
                match, rule = min(hits, key=lambda hit: hit[0].start())
                self.fill(row, at, match.start(), inside)
                if "pop" in rule:
                    self.fill(row, match.start(), match.end(), inside)
                    stack.pop()
                else:
                    self.fill(row, match.start(), match.end(), rule)
                    for group, named in rule.get("captures", {}).items():
                        self.fill(row, *match.span(int(group)), named)
                    if "begin" in rule:
                        stack.append(rule)
                if match.end() == at and "pop" not in rule:
                    break
                at = match.end()
            scopes += row
        return scopes

    @staticmethod
    def fill(row: list[str], start: int, end: int, rule: dict[str, Any] | None) -> None:
        if rule and "name" in rule:
            row[start:end] = [rule["name"]] * (end - start)


@pytest.fixture(scope="module")
def textmate() -> TextMate:
    return TextMate(json.loads((EDITORS / "jam.tmLanguage.json").read_text("utf-8")))


def expected_scope(kind: str, text: str) -> str:
    """The beginning of the scope that a token must have, by its lexical class."""
    if kind == "STRING" or kind == "BYTES":
        return "string"
    if kind in ("MONEY", "DURATION", "QUANTITY", "UINT", "FLOAT", "INT"):
        return "constant.numeric"
    return "" if text[0].isalnum() or text[0] in "_`" else "keyword.operator|punctuation"


def check_textmate(textmate: TextMate, text: str) -> None:
    scopes = textmate.scopes(text)
    found = scan(text)
    for token in found.tokens[:-1]:
        wanted = expected_scope(token.kind, token.text)
        assert scopes[token.start], f"{token.text!r} has no scope"
        assert re.match(wanted, scopes[token.start]), f"{token.text!r} is {scopes[token.start]}"
        if token.kind != "MONEY" and "\n" not in token.text and token.text[0] not in "\"'rbRB":
            assert len(set(scopes[token.start : token.end])) == 1, token
    for comment in found.comments:
        assert scopes[comment.start].startswith("comment")


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_textmate_classifies_every_token_of_a_program(textmate: TextMate, path: Path) -> None:
    check_textmate(textmate, path.read_text("utf-8"))


def test_textmate_classifies_whatever_the_grammar_derives(textmate: TextMate) -> None:
    for seed in range(25):
        text = program(random.Random(seed), depth=20).replace("\r", "")
        if not scan(text).bad:
            check_textmate(textmate, text)


@pytest.mark.parametrize("word", sorted(KEYWORDS))
def test_textmate_knows_every_keyword(textmate: TextMate, word: str) -> None:
    after = {"a": " final", "x": " 2"}.get(word, " ")
    scope = textmate.scopes(f"{word}{after}\n")[0]
    assert scope.startswith(("keyword", "constant.language")), scope
    assert not textmate.scopes(f"r.{word}\n")[2].startswith(("keyword", "constant"))
    assert not textmate.scopes(f"{{ {word}: 1 }}\n")[2].startswith(("keyword", "constant"))


def test_textmate_has_no_keyword_that_the_grammar_does_not_have(textmate: TextMate) -> None:
    for name in ("declarations", "keywords"):
        for rule in textmate.repository[name]["patterns"]:
            if rule.get("name") == "support.type.jam":
                continue
            listed = re.search(r"\(\??:?((?:[a-z_]+\|)+[a-z_]+)\)", rule["match"])
            assert listed
            assert set(listed[1].split("|")) <= KEYWORDS


def test_the_extension_points_at_the_grammar() -> None:
    package = json.loads((EDITORS / "vscode" / "package.json").read_text("utf-8"))
    grammar = EDITORS / "vscode" / package["contributes"]["grammars"][0]["path"]
    assert json.loads(grammar.read_text("utf-8"))["scopeName"] == package["contributes"]["grammars"][0]["scopeName"]
    configuration = EDITORS / "vscode" / package["contributes"]["languages"][0]["configuration"]
    assert json.loads(configuration.read_text("utf-8"))["comments"] == {"lineComment": "//"}
