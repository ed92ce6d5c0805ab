"""Markdown that is a test: the specification and the pages of the codes.

A fenced `jam` block is a program. Each fenced block after it, up to the next `jam` block or heading, states
something about it:

- `diagnostics`: all findings, in order, one a line: `CODE LINE:COLUMN message` (`CODE FILE:LINE:COLUMN message` in
  a file other than the first); empty if there are none;
- `definition`: JSON that the canonical definition contains; an object states only the keys it has;
- `trace`: what each `test` of the program does: its title and how the run ends, the states, the output;
- `mermaid`: the diagram;
- `formatted`: the program as `jam fmt` lays it out;
- `human`: the findings as `jam check` prints them for people.

A line `//// file: x.jam` in a `jam` block begins a file of that name; the first one is checked and may import the
others. It is not part of the file: lines count from the one after it.

A line `//// run: {"input": {…}, "after": "2h"}` says that the second file is the next version of the first: a run of
the first is driven until it rests (every tool gives some value of its type), and what stands against moving it to the
second after that time is found beside the rest, at the state it is in.

A line `//// coverage` says that what no test of the program passes is found beside the rest.

`JAM_UPDATE=1` writes what was found into the blocks instead of comparing, which is to be reviewed as any change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jamjet_dsl import Engine, compiler
from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.diagnostics.render import render
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.syntax.format import format_source

_FENCE = re.compile(r"^(`{3,})\s*(\w*)\s*$")
_RUN = re.compile(r"^////\s*run:\s*(\{.*\})\s*$", re.MULTILINE)
_COVERAGE = "//// coverage\n"
_FILE = re.compile(r"^////\s*file:\s*(\S+)\s*$")
EXPECTATIONS = ("diagnostics", "definition", "trace", "mermaid", "formatted", "human")


class Block(NamedTuple):
    """A fenced block: its language, the index of its first line and of its closing fence, its text, the heading
    (of the second level) it stands under."""

    language: str
    first: int
    end: int
    text: str
    heading: str


class Case(NamedTuple):
    """A program in a page and what is stated about it."""

    page: Path
    program: Block
    expected: tuple[Block, ...]

    @property
    def name(self) -> str:
        """The page and the line of the program."""
        return f"{self.page.name}:{self.program.first}"


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a Markdown text. Raises ValueError for a fence that is never closed."""
    found: list[Block] = []
    heading, fence, language, first = "", "", "", 0
    lines = text.split("\n")
    for i, line in enumerate(lines):
        match = _FENCE.match(line)
        if fence:
            if match and match[1] == fence and not match[2]:
                found.append(Block(language, first, i, "".join(f"{x}\n" for x in lines[first:i]), heading))
                fence = ""
        elif match:
            fence, language, first = match[1], match[2], i + 1
        elif line.startswith("## "):
            heading = line[3:].strip()
            found.append(Block("", i, i, "", heading))
    if fence:
        raise ValueError(f"the fence in line {first} is never closed")
    return found


def cases(page: Path) -> list[Case]:
    """The programs of a page with their expectations."""
    found: list[Case] = []
    program: Block | None = None
    for block in blocks(page.read_text("utf-8")):
        if block.language == "jam":
            program = block
            found.append(Case(page, block, ()))
        elif block.language in EXPECTATIONS:
            if program is None:
                raise ValueError(f"{page.name}:{block.first}: `{block.language}` without a `jam` block before it")
            found[-1] = found[-1]._replace(expected=(*found[-1].expected, block))
        elif block.language == "":
            program = None
    return found


def files_of(text: str) -> dict[str, str]:
    """The files of a program, the main one first."""
    name, files = "main.jam", {}
    rows: list[str] = []
    for line in text.splitlines(keepends=True):
        if match := _FILE.match(line):
            if rows:
                files[name] = "".join(rows)
            name, rows = match[1], []
        elif not _RUN.match(line) and line != _COVERAGE:
            rows.append(line)
    return {**files, name: "".join(rows)}


def check(text: str) -> list[Diagnostic]:
    """The findings about the program of a block."""
    files = files_of(text)
    main = next(iter(files))
    run = _RUN.search(text)
    found = compiler.check_text(files[main], main, files)
    if _COVERAGE in text:
        found += _not_covered(files)
    return found if run is None else [*found, *_moved(files, json.loads(run[1]))]


def _not_covered(files: dict[str, str]) -> list[Diagnostic]:
    """What no test of the first program passes."""
    from jamjet_dsl.engine.coverage import Coverage
    from jamjet_dsl.engine.testing import run_tests

    main = next(iter(files))
    coverage = Coverage(compiler.compile_text(files[main], main, files=files))
    for result in run_tests(coverage.compiled):
        coverage.add(result.through)
    return coverage.findings()


def _moved(files: dict[str, str], run: dict[str, Any]) -> list[Diagnostic]:
    """What stands against moving a run of the first program to the second."""
    import asyncio

    from jamjet_dsl.engine.migrate import migrate
    from jamjet_dsl.kernel.values import parse_duration
    from jamjet_dsl.source import SourceFile, Span
    from tests.engine.test_migrate import Clock

    main, other = list(files)[:2]
    old, new = (compiler.compile_text(files[name], name, files=files) for name in (main, other))
    store, clock = MemoryStore(), Clock()
    asyncio.run(_rest(store, clock, old, run.get("input", {})))
    later = clock.now + parse_duration(run.get("after", "0")).ns // 1_000_000
    verdict = migrate(store, "run", new, owner="spec", now_ms=later, dry_run=True)
    place = old.spans[f"{old.definition.main}/{verdict.state}"]
    start = sum(len(line) for line in files[main].splitlines(keepends=True)[: place.line - 1]) + place.column - 1
    span = Span(SourceFile(main, files[main]), start, start + 1)
    return [Diagnostic(reason.code, reason.message, span) for reason in verdict.reasons]


async def _rest(store: MemoryStore, clock: Any, program: Any, given: dict[str, Any]) -> None:
    some: dict[str, Any] = {"string": "x", "int": 1, "bool": True}

    def tool(kind: str) -> Callable[..., Any]:
        async def call(*args: Any, **named: Any) -> Any:
            return some[kind]

        return call

    tools = {
        name: tool(found.result.kind if found.result else "bool") for name, found in program.definition.tools.items()
    }
    async with Engine(store, tools=tools, clock=clock) as jam:
        await (await jam.start(program, given, id="run")).wait()


def found(case: Case, block: Block) -> str:
    """What a block of a case should hold."""
    return _FOUND[block.language](case.program.text, block.text)


def _diagnostics(text: str, _: str) -> str:
    main = next(iter(files_of(text)))
    rows = []
    for d in check(text):
        file = "" if d.span.file == main else f"{d.span.file}:"
        rows.append(f"{d.code} {file}{d.span.line}:{d.span.column} {d.message}\n")
    return "".join(rows)


def _compiled(text: str) -> Any:
    files = files_of(text)
    main = next(iter(files))
    return compiler.compile_text(files[main], main, files=files)


def _definition(text: str, expected: str) -> str:
    actual = json.loads(_compiled(text).definition.canonical())
    wanted = json.loads(expected) if expected.strip() else actual
    return _pretty(wanted) if contains(actual, wanted) else _pretty(project(actual, wanted))


def normal(block: Block) -> str:
    """The text of a block in the form in which `found` gives it."""
    return _pretty(json.loads(block.text)) if block.language == "definition" and block.text.strip() else block.text


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def contains(actual: Any, wanted: Any) -> bool:
    """Whether an object has at least the wanted keys with what they contain; anything else is equal."""
    match actual, wanted:
        case dict(), dict():
            return all(key in actual and contains(actual[key], value) for key, value in wanted.items())
        case list(), list():
            return len(actual) == len(wanted) and all(map(contains, actual, wanted))
    return type(actual) is type(wanted) and bool(actual == wanted)


def project(actual: Any, wanted: Any) -> Any:
    """The actual value with the keys that were asked for."""
    match actual, wanted:
        case dict(), dict():
            return {key: project(actual[key], value) for key, value in wanted.items() if key in actual}
        case list(), list() if len(actual) == len(wanted):
            return [project(a, w) for a, w in zip(actual, wanted, strict=True)]
    return actual


def _trace(text: str, _: str) -> str:
    from jamjet_dsl.engine.testing import run_tests

    rows = []
    for result in run_tests(_compiled(text)):
        rows.append(f"{result.title}: {result.status}\n  {' -> '.join(result.path)}\n")
        rows.append(f"  {json.dumps(result.output, ensure_ascii=False, sort_keys=True)}\n")
        rows += [f"  {failure.kind}: {failure.message}\n" for failure in result.failures]
    return "".join(rows)


def _mermaid(text: str, _: str) -> str:
    from jamjet_dsl.render.graph import build
    from jamjet_dsl.render.mermaid import to_mermaid

    return to_mermaid(build(_compiled(text)))


def _formatted(text: str, _: str) -> str:
    return format_source(text)


def _human(text: str, _: str) -> str:
    return explained(text).rstrip("\n") + "\n"


_FOUND: dict[str, Callable[[str, str], str]] = {
    "diagnostics": _diagnostics,
    "definition": _definition,
    "trace": _trace,
    "mermaid": _mermaid,
    "formatted": _formatted,
    "human": _human,
}


def explained(text: str) -> str:
    """The findings about a program as a person sees them, for the message of a failing test."""
    return render(check(text), "human")


def update(page: Path, changes: dict[Block, str]) -> None:
    """Writes new texts into blocks of a page."""
    lines = page.read_text("utf-8").split("\n")
    for block in sorted(changes, key=lambda b: -b.first):
        lines[block.first : block.end] = changes[block].split("\n")[:-1]
    page.write_text("\n".join(lines), "utf-8")
